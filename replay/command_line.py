"""What every verb of `orderctl` shares: the group they are in, their options, how they print, how they end.

Used by `cli` and by the verbs of `replay.verbs`. One place (`Verbs.main`) turns errors into exit codes. Importing it costs
next to nothing, so that help and completion are fast: what is heavy is imported when a verb runs.
"""

from __future__ import annotations

import asyncio
import functools
import os
import re
import sys
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from kernel import EventSourcedKernel
    from replay.output import Listing
    from replay.past import Source

    FloatType = click.ParamType[float]
else:
    FloatType = click.ParamType  # older releases of click have no generic one

T = TypeVar("T")
FORMATS = ("table", "wide", "json", "yaml", "name", "jsonl")
INTERRUPTED = 130
UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


# ------------------------------------------------------------------------------------------------------------ the group
@dataclass
class Session:
    """What one call of `orderctl` shares between its parts."""

    debug: bool = False


class Verbs(click.Group):
    """The group: verbs in sections, errors as exit codes."""

    def __init__(self, *args: Any, sections: Mapping[str, tuple[str, ...]], **given: Any) -> None:
        """`sections`: their titles and verbs, in the order of the help."""
        super().__init__(*args, **given)
        self._sections = sections

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of the sections."""
        return [name for names in self._sections.values() for name in names]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """One list for each section."""
        for title, names in self._sections.items():
            with formatter.section(title):
                formatter.write_dl([(name, self.commands[name].get_short_help_str(100)) for name in names])

    def invoke(self, ctx: click.Context) -> Any:
        """Run a verb. That nobody reads its output any more is no error (for click it would be one)."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # What is still buffered must not fail at exit either.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(0)

    def main(self, *args: Any, **given: Any) -> Any:
        """Run a verb and exit with its code. Without `standalone_mode`, as click does it."""
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
            sys.exit(complain(problem))
        sys.exit(result if isinstance(result, int) else 0)


def complain(problem: Exception) -> int:
    """Say on stderr what went wrong, a line for each problem; the exit code."""
    if isinstance(problem, click.ClickException):
        problem.show()
        return 2
    from replay.failures import failure

    code, lines = failure(problem)
    for line in lines:
        say(line)
    return code


def say(text: str) -> None:
    """Talk: one line on stderr, unsafe characters escaped."""
    from replay.output import escaped

    click.echo(escaped(text), err=True)


def show(text: str) -> None:
    """Data: on stdout, as it is."""
    click.echo(text, nl=False)


# -------------------------------------------------------------------------------------------------------- shared options
@dataclass(frozen=True)
class Target:
    """Which log."""

    log: str
    exchange: str
    checkpoint_dir: str | None = None


class Duration(FloatType):
    """A length of time: `5s`, `500ms`, `2m`, `1h30m`, or a number of seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds."""
        text = str(value).strip()
        if re.fullmatch(r"\d+(\.\d+)?", text):
            return float(text)
        if not re.fullmatch(r"(\d+(\.\d+)?(ms|s|m|h|d))+", text):
            self.fail(f"{text!r} is no duration: write 5s, 500ms, 2m or 1h30m", param, ctx)
        return sum(float(number) * UNITS_S[unit] for number, _, unit in re.findall(r"(\d+(\.\d+)?)(ms|s|m|h|d)", text))


option = functools.partial(click.option, show_envvar=True)
"""An option whose environment variable the help names: its own, or `ORDERCTL_VERB_OPTION`."""


def target_options(function: Callable[..., T]) -> Callable[..., T]:
    """`--log`, `--exchange` and `--checkpoint-dir`, handed over as one `target`."""

    @option("--log", "log_url", envvar="ORDERCTL_LOG", default="sqlite:///kernel.db", show_default=True, metavar="URL",
            help="sqlite:///FILE or postgresql://…")  # fmt: skip
    @option("--exchange", envvar="ORDERCTL_EXCHANGE", default="paper", show_default=True, metavar="ID",
            help="Exchange account; one log each.")  # fmt: skip
    @option("--checkpoint-dir", envvar="ORDERCTL_CHECKPOINT_DIR", metavar="DIR",
            help="Where a start finds what was folded before. Default: beside the log.")  # fmt: skip
    @functools.wraps(function)
    def with_target(*args: Any, log_url: str, exchange: str, checkpoint_dir: str | None, **given: Any) -> T:
        return function(*args, target=Target(log_url, exchange, checkpoint_dir), **given)

    return with_target


def output_option(function: Callable[..., T]) -> Callable[..., T]:
    """`-o`, handed over as `form`."""
    return option("-o", "--output", "form", envvar="ORDERCTL_OUTPUT", type=click.Choice(FORMATS), default="table",
                  show_default=True, help="Format of what is printed.")(function)  # fmt: skip


as_of_option = option("--as-of", metavar="POSITION|INSTANT",
                      help="As it was known then: a position of the log, or 2026-01-31T12:00:00Z.")  # fmt: skip


def intent_name(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """An intent's id, also as `intent/ID` and `order/ID`: what `get -o name` prints."""
    return None if value is None else re.sub(r"^(intents?|orders?)/", "", value)


def complete(kind: str) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    """Completion with names of a kind that the log knows: a function of `replay.completing`."""

    def names(ctx: click.Context, param: click.Parameter, begun: str) -> list[str]:
        from replay import completing

        return completing.from_log(*target_of(ctx), getattr(completing, kind), begun)

    return names


def target_of(ctx: click.Context) -> tuple[str, str]:
    """The log that a half-written line is about."""
    defaults = {"log_url": ("ORDERCTL_LOG", "sqlite:///kernel.db"), "exchange": ("ORDERCTL_EXCHANGE", "paper")}
    url, exchange = (
        ctx.params.get(name) or os.environ.get(variable) or default for name, (variable, default) in defaults.items()
    )
    return url, exchange


intent_argument = click.argument("intent_id", metavar="ID", callback=intent_name, shell_complete=complete("intent_ids"))


def with_kernel(target: Target, work: Callable[[EventSourcedKernel], Awaitable[T]]) -> T:
    """Do something with a kernel beside the one that leads."""
    from replay import attach

    async def attached() -> T:
        async with attach.attached(target.log, target.exchange, checkpoint_dir=target.checkpoint_dir) as kernel:
            return await work(kernel)

    return asyncio.run(attached())


def with_source(target: Target, as_of: str | None, work: Callable[[Source], Awaitable[T]]) -> T:
    """Do something with a kernel beside the one that leads, or with the log as it was known at a point (`--as-of`)."""
    if as_of is None:
        return with_kernel(target, work)
    from replay.folding import opened
    from replay.past import past_at
    from replay.progress import progress_bar

    async def looked_back() -> T:
        async with opened(target.log, target.exchange) as log:
            with progress_bar("folding the log") as progress:
                found = await past_at(log, as_of, checkpoint_dir=target.checkpoint_dir, progress=progress)
            say(found.title)
            return await work(found)

    return asyncio.run(looked_back())


def show_listing(listing: Listing, form: str) -> None:
    """Print what was found; that nothing was found is talk."""
    from replay import output

    show(output.render(listing, output.Format(form)))
    if not listing.items and form in ("table", "wide", "name"):
        say("No resources found")


async def show_watch(listings: AsyncIterator[Listing], form: str) -> None:
    """Print what is found, as it comes."""
    from replay import output

    printer = output.WatchPrinter(output.Format(form))
    async for listing in listings:
        show(printer.text(listing))
