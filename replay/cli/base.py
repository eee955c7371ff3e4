"""The parts that the commands share: options, printing, error reports. Data goes to stdout, messages to stderr."""

from __future__ import annotations

import functools
import re
import sys
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import click
import msgspec

from replay.cli.group import Session, load
from replay.formatting.errors import failure
from replay.formatting.output import Format, Listing, WatchPrinter, escaped, render

T = TypeVar("T")
FORMATS = ("table", "wide", "json", "yaml", "name", "jsonl")
UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def echo(text: str) -> None:
    """Print data to stdout."""
    click.echo(text, nl=False)


def echo_err(text: str) -> None:
    """Print a message to stderr: one line, unsafe characters escaped."""
    click.echo(escaped(text), err=True)


def echo_listing(listing: Listing, form: str) -> None:
    """Print a listing; that it is empty is a message."""
    echo(render(listing, Format(form)))
    if not listing.items and form in ("table", "wide", "name"):
        echo_err("No resources found")


async def echo_watch(listings: AsyncIterator[Listing], form: str) -> None:
    printer = WatchPrinter(Format(form))
    async for listing in listings:
        echo(printer.text(listing))


def report_error(problem: Exception) -> int:
    """Report an error on stderr, a line for each problem; returns the exit code."""
    if isinstance(problem, click.ClickException):
        problem.show()
        return 2
    code, lines = failure(problem)
    for line in lines:
        echo_err(line)
    return code


@contextmanager
def errors_are_two() -> Iterator[None]:
    """Exit with code 2 on every error: for commands whose code 1 means differences."""
    try:
        yield
    except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
        raise
    except Exception as problem:
        context = click.get_current_context()
        if context.ensure_object(Session).debug:
            traceback.print_exc()
        report_error(problem)
        context.exit(2)


def is_asked() -> bool:
    return sys.stdin.isatty()


def require_terminal(remedy: str = "give --yes") -> None:
    """Raise a usage error if there is no terminal to ask on."""
    if not is_asked():
        raise click.UsageError(f"there is no terminal to ask on: {remedy}")


class LogTarget(msgspec.Struct, frozen=True):
    """The log of a command."""

    log: str
    exchange: str
    checkpoint_dir: str | None = None


class Duration(click.types.FloatParamType):
    """A duration: `5s`, `500ms`, `2m`, `1h30m`, or a number of seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        text = str(value).strip()
        if re.fullmatch(r"\d+(\.\d+)?", text):
            return float(text)
        if not re.fullmatch(r"(\d+(\.\d+)?(ms|s|m|h|d))+", text):
            self.fail(f"{text!r} is not a duration: write 5s, 500ms, 2m or 1h30m", param, ctx)
        return sum(float(number) * UNITS_S[unit] for number, _, unit in re.findall(r"(\d+(\.\d+)?)(ms|s|m|h|d)", text))


option = functools.partial(click.option, show_envvar=True)
"""An option whose environment variable the help names: its own, or `ORDERCTL_COMMAND_OPTION`."""


def target_options(function: Callable[..., T]) -> Callable[..., T]:
    """`--log`, `--exchange` and `--checkpoint-dir`, passed as one `target`."""

    @option("--log", "log_url", envvar="ORDERCTL_LOG", default="sqlite:///kernel.db", show_default=True, metavar="URL",
            help="sqlite:///FILE or postgresql://…")  # fmt: skip
    @option("--exchange", envvar="ORDERCTL_EXCHANGE", default="paper", show_default=True, metavar="ID",
            help="Exchange account; one log each.")  # fmt: skip
    @option("--checkpoint-dir", envvar="ORDERCTL_CHECKPOINT_DIR", metavar="DIR",
            help="Where checkpoints of the state are kept. Default: beside the log.")  # fmt: skip
    @functools.wraps(function)
    def with_target(*args: Any, log_url: str, exchange: str, checkpoint_dir: str | None, **given: Any) -> T:
        return function(*args, target=LogTarget(log_url, exchange, checkpoint_dir), **given)

    return with_target


def output_option(function: Callable[..., T]) -> Callable[..., T]:
    """`-o`, passed as `form`."""
    return option("-o", "--output", "form", envvar="ORDERCTL_OUTPUT", type=click.Choice(FORMATS), default="table",
                  show_default=True, help="Output format.")(function)  # fmt: skip


as_of_option = option("--as-of", metavar="POSITION|INSTANT",
                      help="As it was known at a position of the log, or at 2026-01-31T12:00:00Z.")  # fmt: skip


def intent_name(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Accept an intent's id also as `intent/ID` and `order/ID`, which `get -o name` prints."""
    return None if value is None else re.sub(r"^(intents?|orders?)/", "", value)


def complete(kind: str) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    """Completion by a function of `replay.cli.completion`, imported only when a shell asks."""

    def completed(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
        found: list[str] = load(f"replay.cli.completion:{kind}")(ctx, param, incomplete)
        return found

    return completed


intent_argument = click.argument("intent_id", metavar="ID", callback=intent_name, shell_complete=complete("intent_ids"))
maybe_intent_argument = click.argument("intent_id", metavar="[ID]", required=False, callback=intent_name,
                                       shell_complete=complete("intent_ids"))  # fmt: skip


def metrics_options(function: Callable[..., T]) -> Callable[..., T]:
    """Where metrics are served, passed as `metrics_host` and `metrics_port`."""
    function = option("--metrics-host", envvar="ORDERCTL_METRICS_HOST", default="127.0.0.1", show_default=True,
                      metavar="HOST", help="Where the metrics are served.")(function)  # fmt: skip
    return option("--metrics-port", envvar="ORDERCTL_METRICS_PORT", type=click.IntRange(0, 65535), metavar="N",
                  help="Port of /metrics, /healthz and /readyz; 0: any, and printed. Default: none.")(function)  # fmt: skip
