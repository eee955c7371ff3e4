"""The root of `orderctl`: commands that are loaded when they run, in sections, with errors turned into exit codes.

Used by `cli.py`. It imports click and nothing of the project, so that `orderctl --help` is fast; what a command needs is
imported at the top of the command's own module. `OrderctlGroup.main` is the one place that turns errors into exit codes.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import click
from click.shell_completion import CompletionItem

INTERRUPTED = 130


@dataclass
class Session:
    """What one call of `orderctl` shares between its parts."""

    debug: bool = False


class LazyCommand(NamedTuple):
    """A command that is imported when it is first needed."""

    name: str
    target: str
    """Where it is, as "module:attribute"."""
    help: str
    """Its short help: the first sentence of its own help, which a test compares."""


def load(target: str) -> Any:
    """The object at "module:attribute"."""
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)


class OrderctlGroup(click.Group):
    """A group of lazy commands, in sections."""

    def __init__(self, *args: Any, sections: Mapping[str, Sequence[tuple[str, str, str]]], **given: Any) -> None:
        """`sections`: their titles and commands (see `LazyCommand`), in the order of the help."""
        super().__init__(*args, **given)
        self._sections = {title: [LazyCommand(*row) for row in rows] for title, rows in sections.items()}
        self._lazy = {command.name: command for commands in self._sections.values() for command in commands}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of the sections."""
        return list(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in self._lazy:
            return None
        command: click.Command = load(self._lazy[cmd_name].target)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """One list for each section."""
        for title, commands in self._sections.items():
            with formatter.section(title):
                formatter.write_dl([(command.name, command.help) for command in commands])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Names of commands and options; no command is imported."""
        found = [command for name, command in self._lazy.items() if name.startswith(incomplete)]
        options = click.Command.shell_complete(self, ctx, incomplete)
        return [*(CompletionItem(command.name, help=command.help) for command in found), *options]

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command. A closed pipe on stdout is no error (for click it would be one)."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # What is still buffered must not fail at exit either.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(0)

    def main(self, *args: Any, **given: Any) -> Any:
        """Run a command and exit with its code. Without `standalone_mode`, as click does it."""
        if not given.get("standalone_mode", True):
            return super().main(*args, **given)
        session = Session(debug=bool(os.environ.get("ORDERCTL_DEBUG")))
        try:
            result = super().main(*args, **{"obj": session, **given, "standalone_mode": False})
        except (click.Abort, KeyboardInterrupt):
            sys.exit(INTERRUPTED)
        except Exception as problem:
            if session.debug and not isinstance(problem, click.ClickException):
                traceback.print_exc()
            sys.exit(load("replay.cli.base:report_error")(problem))
        sys.exit(result if isinstance(result, int) else 0)


class OneLine(logging.Formatter):
    """Log records as one line each, without tracebacks."""

    def format(self, record: logging.LogRecord) -> str:
        """See `replay.formatting.errors.log_line`, which is imported with the first record."""
        text: str = load("replay.formatting.errors:log_line")(record)
        return text


def configure_logging(*, debug: bool) -> None:
    """Send this process's logs to stderr: warnings in one line each, or with `debug` everything with tracebacks."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(None if debug else OneLine())
    logging.basicConfig(level=logging.DEBUG if debug else logging.WARNING, handlers=[handler])
