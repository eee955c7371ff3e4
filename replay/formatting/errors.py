"""How failures are told to people: exit codes and lines, never a traceback unless it is asked for.

Called by the CLI. The exit code is on the error's class; this is the one place that reads it.
"""

from __future__ import annotations

import logging

import pydantic

from kernel.commands.validation import violations_of
from kernel.errors import KernelError, ValidationError
from replay.formatting.output import escaped

REFUSED = ValidationError.exit_code
OTHER = KernelError.exit_code


def failure(problem: Exception) -> tuple[int, list[str]]:
    """The exit code of a failure, and what to say of it, one line for each problem."""
    match problem:
        case ValidationError():
            first, *others = [one_line(text) for text in (problem.what, *map(str, problem.violations)) if text]
            return problem.exit_code, [f"error: {first}", *(f"  {text}" for text in others)]
        case KernelError():
            notes = (f"  {one_line(note)}" for note in getattr(problem, "__notes__", ()))
            return problem.exit_code, [f"error: {one_line(problem)}", *notes]
        case pydantic.ValidationError():
            return REFUSED, [
                f"error: the {problem.title} is not valid",
                *(f"  {item}" for item in violations_of(problem)),
            ]
        case OSError():
            return OTHER, [f"error: {one_line(problem)}"]
    return OTHER, [f"error: unexpected {type(problem).__name__}: {one_line(problem)} (--debug shows where)"]


def one_line(problem: BaseException | str) -> str:
    """An error's text without line breaks."""
    return " ".join(str(problem).split()) or type(problem).__name__


def log_line(record: logging.LogRecord) -> str:
    """A log record as one line, its exception as a few words."""
    problem = record.exc_info[1] if record.exc_info else None
    text = f"{record.levelname} {record.name}: {record.getMessage()}"
    return escaped(text + (f": {one_line(problem)}" if problem is not None else ""))
