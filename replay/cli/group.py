"""The root of `orderctl`: lazy commands in sections, with errors turned into exit codes. Used by `cli.py`.

Imports click and nothing of the project, so that `orderctl --help` is fast. Only `OrderctlGroup.main` turns errors into
exit codes.
"""

from __future__ import annotations

import gc
import importlib
import logging
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

INTERRUPTED = 130


class Session:
    """State of one call of `orderctl`."""

    def __init__(self, *, debug: bool = False) -> None:
        self.debug = debug


class LazyCommand(NamedTuple):
    """A command imported when it is first needed."""

    name: str
    target: str
    """Its place, as "module:attribute"."""
    help: str
    """The first sentence of its own help, which a test compares."""


def load(target: str) -> Any:
    """Import the object at "module:attribute"."""
    module, _, attribute = target.partition(":")
    gc.disable()  # what modules make stays
    try:
        return getattr(importlib.import_module(module), attribute)
    finally:
        gc.enable()


class OrderctlGroup(click.Group):
    """A group of lazy commands in sections."""

    def __init__(self, *args: Any, sections: Mapping[str, Sequence[tuple[str, str, str]]], **given: Any) -> None:
        """`sections` has the rows of `LazyCommand` by title, in the order of the help."""
        super().__init__(*args, **given)
        self._sections = {title: [LazyCommand(*row) for row in rows] for title, rows in sections.items()}
        self._lazy = {command.name: command for commands in self._sections.values() for command in commands}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._lazy:
            return None
        command: click.Command = load(self._lazy[cmd_name].target)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, commands in self._sections.items():
            with formatter.section(title):
                formatter.write_dl([(command.name, command.help) for command in commands])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete names of commands and options without importing a command."""
        from click.shell_completion import CompletionItem  # not needed by `--help`

        found = [command for name, command in self._lazy.items() if name.startswith(incomplete)]
        options = click.Command.shell_complete(self, ctx, incomplete)
        return [*(CompletionItem(command.name, help=command.help) for command in found), *options]

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; a closed pipe on stdout is no error (click treats it as one)."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # Flushing the rest at exit must not fail either.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(0)

    def main(self, *args: Any, **given: Any) -> Any:
        """Run a command and exit with its code; without `standalone_mode`, behave as click does."""
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
        text: str = load("replay.formatting.errors:log_line")(record)
        return text


def configure_logging(*, debug: bool) -> None:
    """Log to stderr: warnings in one line each, or with `debug` everything with tracebacks."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(None if debug else OneLine())
    logging.basicConfig(level=logging.DEBUG if debug else logging.WARNING, handlers=[handler])
