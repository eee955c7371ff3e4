"""Errors as exit codes and lines. Called by the CLI. The exit code is on the error's class; only this module reads it."""

from __future__ import annotations

import logging

from kernel.errors import KernelError, ValidationError
from replay.formatting.output import escaped

REFUSED = ValidationError.exit_code
OTHER = KernelError.exit_code


def failure(problem: Exception) -> tuple[int, list[str]]:
    """Return an error's exit code, and its text with a line for each problem."""
    import pydantic  # a command that succeeds may do without

    from kernel.values.edge import invalid, violations_of

    match problem:
        case ValidationError():
            first, *others = [one_line(text) for text in (problem.what, *map(str, problem.violations)) if text]
            return problem.exit_code, [f"error: {first}", *(f"  {text}" for text in others)]
        case KernelError():
            notes = (f"  {one_line(note)}" for note in getattr(problem, "__notes__", ()))
            return problem.exit_code, [f"error: {one_line(problem)}", *notes]
        case pydantic.ValidationError():
            lines = (f"  {item}" for item in violations_of(problem))
            return REFUSED, [f"error: {invalid(problem.title)}", *lines]
        case OSError():
            return OTHER, [f"error: {one_line(problem)}"]
    return OTHER, [f"error: unexpected {type(problem).__name__}: {one_line(problem)} (--debug prints the traceback)"]


def one_line(problem: BaseException | str) -> str:
    return " ".join(str(problem).split()) or type(problem).__name__


def log_line(record: logging.LogRecord) -> str:
    """Format a log record as one line, without a traceback."""
    problem = record.exc_info[1] if record.exc_info else None
    text = f"{record.levelname} {record.name}: {record.getMessage()}"
    return escaped(text + (f": {one_line(problem)}" if problem is not None else ""))
