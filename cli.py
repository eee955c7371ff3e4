"""`orderctl`: the kernel from a shell, with kubectl's habits. Called by people and by scripts.

Each verb parses, calls a function that a library user can call too (`replay.views`, `replay.waiting`, …), and prints. What
is asked for goes to stdout, talk to stderr. What the verbs share is in `replay.command_line`, those that read history are
in `replay.verbs`. Exit codes: 0 yes, 1 the answer is no, 2 usage, not found or another error, 3 timeout, 4 conflict, 5
refused, 6 not ready, 130 interrupted. Nothing heavy is imported before a verb needs it, so that help is fast. It decides
nothing about orders.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import sys
import traceback
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from replay.command_line import (
    INTERRUPTED,
    Duration,
    Session,
    Target,
    Verbs,
    as_of_option,
    complain,
    complete,
    intent_argument,
    intent_name,
    option,
    output_option,
    say,
    show,
    show_listing,
    show_watch,
    target_of,
    target_options,
    with_kernel,
    with_source,
)
from replay.verbs import VERBS

if TYPE_CHECKING:
    from kernel import EventSourcedKernel
    from replay.applying import Step
    from replay.manifests import Manifest
    from replay.past import Source

T = TypeVar("T")
SECTIONS = {
    "Trade": ("place", "apply", "diff", "modify", "cancel", "cancel-all", "wait"),
    "Look": ("get", "describe", "events", "health", "metrics", "top", "explain", "completion"),
    "Run": ("run", "pause", "resume", "halt", "resolve", "heartbeat", "paper-exchange", "demo"),
    "Replay": (
        "rebuild",
        "tables",
        "history",
        "verify",
        "prove",
        "keys",
        "export",
        "import",
        "statement",
        "backup",
        "restore",
        "decisions",
        "what-if",
    ),
}
"""Verbs in the order of the help. A verb that is in no section is a bug, and a test finds it."""
CONDITIONS = ("working", "filled", "canceled", "terminal", "synced", "rejected", "expired", "failed")


# --------------------------------------------------------------------------------------------------------------- options
@dataclass(frozen=True)
class ProcessLog:
    """How a process tells what it does."""

    form: str
    level: str


def paper_options(function: Callable[..., T]) -> Callable[..., T]:
    """What makes a paper exchange, handed over as `paper`."""

    @option(
        "--tape", envvar="ORDERCTL_TAPE", metavar="FILE", help="Trades to play. Default: the tape that is included."
    )
    @option("--symbol", envvar="ORDERCTL_SYMBOL", help="The tape's symbol. Default: from the file's name.")
    @option("--speed", envvar="ORDERCTL_SPEED", default="1", show_default=True, help="1, N times faster, or max.")
    @option("--seed", envvar="ORDERCTL_SEED", default=0, show_default=True, help="Seed of the order book's ladder.")
    @option("--journal", envvar="ORDERCTL_JOURNAL", metavar="FILE", help="What outlives the exchange's own kill.")
    @option("--markets", envvar="ORDERCTL_MARKETS", type=click.Choice(["spot", "full"]), default="spot",
            show_default=True, help="Limit and market orders alone, or every type: stops, GTD, icebergs.")  # fmt: skip
    @functools.wraps(function)
    def with_paper(*args: Any, **given: Any) -> T:
        names = ("tape", "symbol", "speed", "seed", "journal", "markets")
        return function(*args, paper={name: given.pop(name) for name in names}, **given)

    return with_paper


def log_options(function: Callable[..., T]) -> Callable[..., T]:
    """How a process that runs for long tells what it does, handed over as `told`."""

    @option("--log-format", type=click.Choice(["text", "json"]), envvar="ORDERCTL_LOG_FORMAT", default="text",
            show_default=True, help="Its own log on stderr: lines for people, or JSON lines.")  # fmt: skip
    @option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), envvar="ORDERCTL_LOG_LEVEL",
            default="info", show_default=True, help="How much of it; info has a line for each decision.")  # fmt: skip
    @functools.wraps(function)
    def with_log(*args: Any, log_format: str, log_level: str, **given: Any) -> T:
        return function(*args, told=ProcessLog(log_format, log_level), **given)

    return with_log


def metrics_options(function: Callable[..., T]) -> Callable[..., T]:
    """Where metrics are served, handed over as `metrics_host` and `metrics_port`."""
    function = option("--metrics-host", envvar="ORDERCTL_METRICS_HOST", default="127.0.0.1", show_default=True,
                      metavar="HOST", help="Where the metrics are served.")(function)  # fmt: skip
    return option("--metrics-port", envvar="ORDERCTL_METRICS_PORT", type=click.IntRange(0, 65535), metavar="N",
                  help="Port of /metrics, /healthz and /readyz; 0 is any, and told. Default: none.")(function)  # fmt: skip


def secret_words(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    """Files, or secrets themselves where they come from the environment: a command line is seen by everybody."""
    source = ctx.get_parameter_source(str(param.name))
    if any(word.startswith("PRIVATE+") for word in value) and source is not click.core.ParameterSource.ENVIRONMENT:
        raise click.UsageError("a key is given by its file; only the environment may hold the key itself")
    return value


def note_options(function: Callable[..., T]) -> Callable[..., T]:
    """Where signed notes of the log go and who signs them, handed over as `notes`."""

    @option("--notes", "notes_directory", envvar="ORDERCTL_NOTES", metavar="DIR",
            help="Where signed notes of the log are written while it leads; not beside the database.")  # fmt: skip
    @option("--note-key", "note_keys", envvar="ORDERCTL_NOTE_KEY", multiple=True, callback=secret_words, metavar="FILE",
            help="The key that signs them (`orderctl keys create`); twice while keys change. "
                 "The variable may hold the key itself.")  # fmt: skip
    @option("--note-events", type=click.IntRange(1), envvar="ORDERCTL_NOTE_EVENTS", default=1_000, show_default=True,
            metavar="N", help="A note is due after so many events …")  # fmt: skip
    @option("--note-every", type=Duration(), envvar="ORDERCTL_NOTE_EVERY", default="10s", show_default=True,
            help="… or after so long, if there is anything new.")  # fmt: skip
    @functools.wraps(function)
    def with_notes(*args: Any, **given: Any) -> T:
        names = ("notes_directory", "note_keys", "note_events", "note_every")
        return function(*args, notes={name: given.pop(name) for name in names}, **given)

    return with_notes


def complete_get(ctx: click.Context, param: click.Parameter, begun: str) -> list[str]:
    """Completion of `get`: a type, then names of it, also as TYPE/NAME."""
    from replay import completing

    words: tuple[str, ...] = ctx.params.get("words") or ()
    kind, slash, name = begun.partition("/")
    if slash:
        found = completing.from_log(*target_of(ctx), completing.names_of(kind), name)
        return [f"{kind}/{item}" for item in found]
    if not words:
        return completing.type_words(begun)
    return completing.from_log(*target_of(ctx), completing.names_of(words[0]), begun)


def complete_describe(ctx: click.Context, param: click.Parameter, begun: str) -> list[str]:
    """Completion of `describe`: an intent, TYPE/NAME, or names of a type that stands before."""
    from replay import completing

    if ctx.params.get("words") or "/" in begun:
        return complete_get(ctx, param, begun)
    return completing.from_log(*target_of(ctx), completing.intent_ids, begun)


def explain_paths(begun: str) -> list[str]:
    """Completion of `explain`."""
    from replay import completing

    return completing.paths(begun)


def run_until_signal(told: ProcessLog, work: Callable[[Callable[[str], None]], Coroutine[Any, Any, None]]) -> int:
    """Run until SIGTERM (0) or SIGINT (130). The work gets what says a line in the process's log."""
    from replay import failures, logs, running

    level = "debug" if click.get_current_context().ensure_object(Session).debug else told.level
    with logs.process_log(sys.stderr, form=logs.LogFormat(told.form), level=level) as tell:
        try:
            return ended_by(asyncio.run(running.until_signal(work(tell))))
        except Exception as problem:
            if told.form == "text":
                raise
            code, lines = failures.failure(problem)
            logs.RUNNING.error("; ".join(map(str.strip, lines)), extra={"exit_code": code})
            return code


def ended_by(number: int | None) -> int:
    """The exit code of what a signal ended, or what ended by itself."""
    import signal

    return INTERRUPTED if number == signal.SIGINT else 0


def show_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    """`--version`."""
    if value and not ctx.resilient_parsing:
        from kernel.version import kernel_version

        click.echo(f"orderctl {kernel_version()}")
        ctx.exit()


@click.group(
    cls=Verbs,
    sections=SECTIONS,
    context_settings={"auto_envvar_prefix": "ORDERCTL", "help_option_names": ["-h", "--help"]},
)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=show_version,
              help="Print the version.")  # fmt: skip
@click.option("--debug", is_flag=True, envvar="ORDERCTL_DEBUG", show_envvar=True, help="Show tracebacks and all logs.")
@click.pass_obj
def cli(session: Session, debug: bool) -> None:
    """Orders as intents: declare the orders you want, and the kernel makes the exchange agree.

    Every verb works on a log (--log), which other processes may be using at the same time. What is asked for goes to
    stdout, talk to stderr.

    \b
    Three shells:
      orderctl run                                        # the kernel, with a paper exchange inside
      orderctl get orders -w
      orderctl place BUY 0.001 BTCUSDT --limit 60000.00

    \b
    Exit codes: 0 yes, 1 the answer is no, 2 usage, not found or another error,
    3 timeout, 4 conflict, 5 refused, 6 not ready, 130 interrupted.
    """
    session.debug = session.debug or debug


# ---------------------------------------------------------------------------------------------------------------- trade
@cli.command()
@click.argument("side", type=click.Choice(["BUY", "SELL"], case_sensitive=False))
@click.argument("quantity")
@click.argument("symbol", shell_complete=complete("symbol_ids"))
@option("--limit", metavar="PRICE", help="Limit price; without it a market order.")
@option("--stop", metavar="PRICE", help="Trigger price.")
@option("--tif", type=click.Choice(["GTC", "IOC", "FOK", "DAY"], case_sensitive=False), default="GTC",
        show_default=True, help="Time in force.")  # fmt: skip
@option("--post-only", is_flag=True, help="Refuse rather than take liquidity.")
@option("--id", "intent_id", metavar="ID", help="The intent's id; again with the same order it places nothing new.")
@option("--owner", default="", help="The strategy that owns it.")
@option("--wait", type=click.Choice(["ack", "recorded", "filled"]), default="ack", show_default=True,
        help="Return once the venue answered, the log has it, or it is filled.")  # fmt: skip
@option("--timeout", type=Duration(), default="5s", show_default=True, help="How long to wait at most.")
@target_options
def place(target: Target, intent_id: str | None, owner: str, wait: str, timeout: float, **words: Any) -> int:
    """Want an order. Prints its intent id, and nothing else.

    Quantity and prices are decimals and taken exactly. The id is printed as soon as the log has the intent: then it is
    safe, whatever happens next. When the venue has not answered in time the kernel goes on trying, and the exit code is 0.
    When the venue refuses for good it is 5.

    \b
    Example:
      orderctl place BUY 0.001 BTCUSDT --limit 60000.00 --wait filled --timeout 1m
    """
    from replay import ordering

    text = ordering.OrderText(
        side=words["side"], quantity=words["quantity"], symbol_id=words["symbol"], limit=words["limit"],
        stop=words["stop"], time_in_force=words["tif"], post_only=words["post_only"],
    )  # fmt: skip

    async def work(kernel: EventSourcedKernel) -> int:
        order = ordering.order_of(kernel, text)
        placed = await kernel.place_order(order, intent_id=intent_id, owner=owner, wait="recorded")
        click.echo(placed)
        return await wait_placed(kernel, placed, wait, timeout)

    return with_kernel(target, work)


async def wait_placed(kernel: EventSourcedKernel, intent_id: str, wait: str, timeout_s: float) -> int:
    """Wait as `--wait` says; the exit code."""
    from replay import waiting

    if wait == "recorded":
        return 0
    if wait == "ack":
        if not await waiting.acknowledged(kernel, intent_id, timeout_s=timeout_s):
            say(
                f"{intent_id}: no answer after {timeout_s:g} s, {waiting.now_is(kernel, intent_id)}; the kernel goes on"
            )
        return 0
    return await wait_condition(kernel, intent_id, "filled", timeout_s, waiting.UNFILLED_ENDS)


async def wait_condition(
    kernel: EventSourcedKernel, intent_id: str, condition: str, timeout_s: float, or_fail_on: tuple[str, ...]
) -> int:
    """Wait until a condition holds (0), or one that ends the wait without it (1)."""
    from replay import waiting

    came = await waiting.wait_for(kernel, intent_id, condition, timeout_s=timeout_s, or_fail_on=or_fail_on)
    if came != condition:
        say(f"{intent_id}: {came}, not {condition}; {waiting.now_is(kernel, intent_id)}")
    return 0 if came == condition else 1


manifest_option = option("-f", "--filename", "files", multiple=True, metavar="FILE",
                         help="A manifest, YAML or JSON; - is stdin. May be repeated.")  # fmt: skip


@cli.command()
@manifest_option
@option("--dry-run", type=click.Choice(["none", "client", "server"]), default="none", show_default=True,
        help="Check only: the files alone, or against the log too.")  # fmt: skip
@option("--wait", type=click.Choice(["ack", "recorded"]), default="ack", show_default=True,
        help="Return once the venue has what is wanted, or once the log has it.")  # fmt: skip
@option("--timeout", type=Duration(), default="5s", show_default=True, help="How long to wait at most.")
@target_options
def apply(target: Target, files: tuple[str, ...], dry_run: str, wait: str, timeout: float) -> int:
    """Want the orders and groups of manifests. Again with the same files it changes nothing.

    Says of each what came of it: created, configured, unchanged. Ids are the manifests' names. What is in no manifest is
    left alone. When one document is wrong, every problem of all is told, and nothing is applied. A group is created whole;
    what its orders may come to beyond what is wanted, as they can fill at the same time, is told beforehand on stderr.

    \b
    Example:
      orderctl apply -f ladder.yaml
      orderctl apply -f ladder.yaml --dry-run=server
    """
    from replay import applying

    manifests = read_manifests(files)
    if dry_run == "client":
        return show_steps([f"{applying.title(item)} valid" for item in manifests], "client")

    async def work(kernel: EventSourcedKernel) -> int:
        await applying.recalled(kernel, manifests)
        steps = applying.steps_for(kernel, manifests)
        for line in applying.excess_lines(steps):
            say(line)
        if dry_run == "server":
            applying.check(kernel, steps)
            return show_steps([step.line for step in steps], "server")
        async for step in applying.apply(kernel, steps):
            click.echo(step.line)
        return await wait_applied(kernel, steps, timeout) if wait == "ack" else 0

    return with_kernel(target, work)


def read_manifests(files: tuple[str, ...]) -> tuple[Manifest, ...]:
    """The manifests of `-f`."""
    from replay import manifests

    if not files:
        raise click.UsageError("-f FILE is needed: a manifest, or - for stdin")
    return manifests.read_manifests(files)


def show_steps(lines: list[str], dry_run: str) -> int:
    """What would be done."""
    for line in lines:
        click.echo(f"{line} ({dry_run} dry run)")
    return 0


async def wait_applied(kernel: EventSourcedKernel, steps: Sequence[Step], timeout_s: float) -> int:
    """Wait until the venue has answered to what was applied; the exit code."""
    from replay import applying, failures, waiting

    found = await applying.answers(kernel, steps, timeout_s=timeout_s)
    for intent_id in found.late:
        say(f"{intent_id}: no answer after {timeout_s:g} s, {waiting.now_is(kernel, intent_id)}; the kernel goes on")
    for refused in found.refused:
        complain(refused)
    return failures.REFUSED if found.refused else 0


@contextmanager
def errors_are_two() -> Iterator[None]:
    """Exit code 2 for whatever goes wrong: where 1 says that there are differences, no error may have that code."""
    try:
        yield
    except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
        raise
    except Exception as problem:
        context = click.get_current_context()
        if context.ensure_object(Session).debug:
            traceback.print_exc()
        complain(problem)
        context.exit(2)


@cli.command()
@manifest_option
@option("--from", "begin", metavar="POINT", help="Compare this position or instant of the log …")
@option("--to", "end", metavar="POINT", help="… with this one. Default: now.")
@output_option
@target_options
def diff(target: Target, files: tuple[str, ...], begin: str | None, end: str | None, form: str) -> int:
    """Compare manifests with intents (-f), intents with the orders that are there, or two points of the log (--from).

    With -f a unified diff of what apply would change, without it a row for each intent that the kernel has to see to, with
    why. Of two points, what appeared, changed (field by field) and went: intents, orders, positions, account, groups,
    findings; a point is a position, or 2026-01-31T12:00:00Z. Exit code 0: no difference, 1: differences, 2: an error.

    \b
    Example:
      orderctl diff -f ladder.yaml
      orderctl diff --from 1200 --to 1300 -o json
    """
    if (begin is None and end is not None) or (begin is not None and files):
        raise click.UsageError("--to needs --from, and neither goes with -f")

    async def work(kernel: EventSourcedKernel) -> int:
        return (
            await show_manifest_diff(kernel, read_manifests(files), form) if files else show_differences(kernel, form)
        )

    with errors_are_two():
        return with_kernel(target, work) if begin is None else show_point_diff(target, begin, end, form)


def show_point_diff(target: Target, begin: str, end: str | None, form: str) -> int:
    """Two points of the log; 1 when they differ."""
    from replay import comparing, output
    from replay.progress import progress_bar

    with progress_bar("folding the log") as progress:
        where = {"exchange_id": target.exchange, "checkpoint_dir": target.checkpoint_dir}
        work = comparing.diff(target.log, begin, end, **where, progress=progress)
        found = asyncio.run(work)
    say(f"from position {found.a} to {found.b}")
    show(output.render(comparing.listing(found), output.Format(form)))
    return 1 if found.changes else 0


async def show_manifest_diff(kernel: EventSourcedKernel, manifests: Sequence[Manifest], form: str) -> int:
    """Manifests against intents; 1 when they differ. What stands in the way of applying is talk."""
    from replay import applying, differing

    await applying.recalled(kernel, manifests)
    steps = applying.steps_for(kernel, manifests)
    found = differing.step_listing(kernel.state, steps)
    if form in ("table", "wide"):
        show(differing.unified(kernel, steps))
    else:
        show_listing(found, form)
    for line in applying.conflicts_of(steps):
        say(f"apply would refuse {line}")
    return 1 if found.items else 0


def show_differences(kernel: EventSourcedKernel, form: str) -> int:
    """Intents against orders; 1 when they differ."""
    from replay import differing, output

    found = differing.differences(kernel)
    show(output.render(found, output.Format(form)))
    return 1 if found.items else 0


@cli.command()
@intent_argument
@option("--wait", type=click.Choice(["ack", "recorded"]), default="ack", show_default=True,
        help="Return once the venue has nothing of it any more, or once the log has it.")  # fmt: skip
@option("--timeout", type=Duration(), default="5s", show_default=True, help="How long to wait at most.")
@target_options
def cancel(target: Target, intent_id: str, wait: str, timeout: float) -> None:
    """Not want an order any more.

    Canceling what is canceled is no error. What is filled, expired or rejected is too late: exit code 5.

    \b
    Example:
      orderctl cancel 0190c3a1e2b47c9a8d3e5f60718293a4
      orderctl get intents --owner mm-1 -o name | xargs -n1 orderctl cancel
    """
    from replay import waiting

    async def work(kernel: EventSourcedKernel) -> None:
        await kernel.cancel_order(intent_id, wait="ack" if wait == "ack" else "recorded", ack_timeout_s=timeout)
        gone = await waiting.off_the_book(kernel, intent_id, timeout_s=0)
        click.echo(f"intent/{intent_id} {'canceled' if gone else 'cancel requested'}")
        if not gone and wait == "ack":
            say(f"{intent_id}: no answer after {timeout:g} s, {waiting.now_is(kernel, intent_id)}; the kernel goes on")

    with_kernel(target, work)


@cli.command("cancel-all")
@option("--symbol", shell_complete=complete("symbol_ids"), help="Only of this symbol.")
@option("--owner", shell_complete=complete("owners"), help="Only of this strategy.")
@option("--yes", is_flag=True, help="Do not show and ask first.")
@option("--dry-run", is_flag=True, help="Show what would be canceled, and cancel nothing.")
@target_options
def cancel_all(target: Target, symbol: str | None, owner: str | None, yes: bool, dry_run: bool) -> int:
    """Not want any live order any more, of a symbol or of a strategy.

    Shows on stderr what it would cancel, and asks. What was shown is canceled and nothing else: orders that come meanwhile
    stay. Returns once the log has every cancel; a line for each on stdout, the count on stderr. Exit code 1: you said no.

    \b
    Example:
      orderctl cancel-all --symbol BTCUSDT --dry-run
      orderctl cancel-all --owner mm-1 --yes
    """
    if not (yes or dry_run or is_asked()):
        raise click.UsageError("there is no terminal to ask on: give --yes, or --dry-run to look")
    if yes and not dry_run:
        return with_kernel(target, lambda kernel: take_down(kernel, None, symbol, owner))
    intent_ids = with_kernel(target, lambda kernel: show_chosen(kernel, symbol, owner, err=not dry_run))
    if dry_run or not intent_ids:
        return 0
    if not click.confirm(f"Cancel {counted(len(intent_ids))}?", err=True):
        say("nothing was canceled")
        return 1
    return with_kernel(target, lambda kernel: take_down(kernel, intent_ids, symbol, owner))


def is_asked() -> bool:
    """Whether there is somebody to ask."""
    return sys.stdin.isatty()


def counted(number: int, what: str = "order") -> str:
    """A number of things, in words."""
    return f"{number} {what}" + ("" if number == 1 else "s")


async def show_chosen(kernel: EventSourcedKernel, symbol: str | None, owner: str | None, *, err: bool) -> list[str]:
    """Show what would be canceled; the intents' ids."""
    from replay import clearing, output

    intent_ids = clearing.chosen(kernel, symbol_id=symbol, owner=owner)
    click.echo(output.render(clearing.preview(kernel, intent_ids), output.Format.TABLE), nl=False, err=err)
    if not intent_ids:
        say("there is nothing to cancel")
    return intent_ids


async def take_down(
    kernel: EventSourcedKernel, intent_ids: list[str] | None, symbol: str | None, owner: str | None
) -> int:
    """Cancel what was shown, or without that what is there now; the exit code."""
    from replay import clearing

    if intent_ids is None:
        intent_ids = clearing.chosen(kernel, symbol_id=symbol, owner=owner)
    requested = 0
    async for cleared in clearing.clear(kernel, intent_ids):
        if cleared.problem:
            say(cleared.line)
        else:
            click.echo(cleared.line)
            requested += 1
    say(f"{counted(requested, 'cancel')} requested" if intent_ids else "there is nothing to cancel")
    return 0


@cli.command()
@intent_argument
@option("--quantity", metavar="Q", help="The total wanted, filled part included.")
@option("--limit", metavar="P", help="The limit price.")
@option("--stop", metavar="P", help="The trigger price.")
@option("--wait", type=click.Choice(["ack", "recorded"]), default="ack", show_default=True,
        help="Return once the venue has answered, or once the log has it.")  # fmt: skip
@option("--timeout", type=Duration(), default="5s", show_default=True, help="How long to wait at most.")
@target_options
def modify(target: Target, intent_id: str, wait: str, timeout: float, **numbers: str | None) -> None:
    """Want other terms for an order: its total quantity, its limit, its stop.

    A total at or below what has filled cancels the rest. What is filled, expired or canceled is too late, and what
    the venue refuses leaves the order as it was: exit code 5.

    \b
    Example:
      orderctl modify btc-bid-1 --limit 61650
      orderctl modify btc-bid-1 --quantity 0.002 --wait recorded
    """
    from replay import ordering

    async def work(kernel: EventSourcedKernel) -> None:
        known = await kernel.get_order_intent(intent_id)
        order = ordering.modified_order(kernel, known.order, **numbers)
        await kernel.modify_order(intent_id, order, wait="ack" if wait == "ack" else "recorded", ack_timeout_s=timeout)
        state = "unchanged" if order == known.order else "modified"
        click.echo(f"intent/{intent_id} {state}")

    with_kernel(target, work)


def conditions(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    """Conditions given one by one or with commas between them."""
    choice = click.Choice(CONDITIONS, case_sensitive=False)
    return tuple(choice.convert(word, param, ctx) for words in value for word in words.split(",") if word)


@cli.command()
@intent_argument
@option("--for", "condition", required=True, type=click.Choice(CONDITIONS, case_sensitive=False),
        help="What to wait for.")  # fmt: skip
@option("--or-fail-on", multiple=True, callback=conditions, metavar="CONDITION,…",
        help="What ends the wait with exit code 1.")  # fmt: skip
@option("--timeout", type=Duration(), default="30s", show_default=True, help="How long at most; 0 looks once.")
@target_options
def wait(target: Target, intent_id: str, condition: str, or_fail_on: tuple[str, ...], timeout: float) -> int:
    """Wait until an order has got somewhere (exit code 0), or the time is over (3).

    \b
    Example:
      orderctl wait $ID --for filled --or-fail-on rejected,canceled --timeout 2m
    """

    async def work(kernel: EventSourcedKernel) -> int:
        code = await wait_condition(kernel, intent_id, condition, timeout, or_fail_on)
        if code == 0:
            click.echo(f"intent/{intent_id} condition met")
        return code

    return with_kernel(target, work)


# ----------------------------------------------------------------------------------------------------------------- look
@cli.command()
@click.argument("words", nargs=-1, required=True, metavar="TYPE [NAME]...", shell_complete=complete_get)
@option("-w", "--watch", is_flag=True, help="Then go on, with every change.")
@option("--owner", shell_complete=complete("owners"), help="Only of this strategy.")
@option("--symbol", shell_complete=complete("symbol_ids"), help="Only of this symbol.")
@as_of_option
@output_option
@target_options
def get(
    target: Target, words: tuple[str, ...], watch: bool, as_of: str | None, form: str, **filters: str | None
) -> None:
    """List intents, orders, fills, positions, account, symbols, groups, findings or external (orders that are no intent's).

    TYPE may be plural, singular or short (int, ord, f, pos, acc, sym, grp, find, ext), or TYPE/NAME. A fill is named by its
    key or by its intent. Prices and quantities are decimals, strings in JSON. JSON of one name is an object, else an array.

    \b
    Example:
      orderctl get orders -w
      orderctl get order/$ID -o json
      orderctl get fills --symbol BTCUSDT -o jsonl
      orderctl get positions --as-of 2026-01-31T12:00:00Z
    """
    from replay import views

    if watch and as_of is not None:
        raise click.UsageError("what was known at a point does not change: -w and --as-of exclude each other")
    query = views.query_of(words, owner=filters["owner"], symbol_id=filters["symbol"])

    async def listed(source: Source) -> None:
        show_listing(await views.listing(source, query), form)

    if watch:
        with_kernel(target, lambda kernel: show_watch(views.watch(kernel, query), form))
    else:
        with_source(target, as_of, listed)


@cli.command()
@click.argument("words", nargs=-1, required=True, metavar="[TYPE] NAME", shell_complete=complete_describe)
@option("--events", "events_max", type=click.IntRange(min=0), default=10, show_default=True,
        help="How many of the last events to show.")  # fmt: skip
@as_of_option
@target_options
def describe(target: Target, words: tuple[str, ...], events_max: int, as_of: str | None) -> None:
    """Show all about one intent, one group, or an order that is no intent's (external/VENUE-ID).

    Wanted, what its group lets it be, actual, attempts, venue orders, findings, and the last events with their causes. Of a
    group each order: what it may be now, and why.

    \b
    Example:
      orderctl describe $ID
      orderctl describe group exit-1
      orderctl describe external/1042
      orderctl describe $ID --as-of 1200
    """
    from replay import describe as pages

    with_source(target, as_of, lambda source: show_page(pages.page(source, words, events_max=events_max)))


async def show_page(text: Awaitable[str]) -> None:
    """Print a page."""
    show(await text)


@cli.command()
@option("--for", "intent_id", metavar="ID", callback=intent_name, shell_complete=complete("intent_ids"),
        help="Only of this intent.")  # fmt: skip
@option("--after", type=click.IntRange(min=0), default=0, show_default=True, help="Only after this position.")
@option("--type", "topics", multiple=True, metavar="TYPE", help="Only of this type; may be repeated.")
@option("-w", "--watch", is_flag=True, help="Then go on with what comes.")
@output_option
@target_options
def events(target: Target, intent_id: str | None, after: int, topics: tuple[str, ...], watch: bool, form: str) -> None:
    """Show the log's events as they are stored.

    Integers at their scales, the whole envelope, hashes.

    \b
    Example:
      orderctl events --for $ID
      orderctl events --type OrderFilled --after 1200 -w -o jsonl
    """
    from replay import folding, reading

    wanted = reading.Wanted(intent_id, frozenset(topics), after)

    async def work() -> None:
        async with folding.existing_log(target.log, target.exchange) as log:
            if watch or form not in ("json", "yaml"):
                await show_watch(reading.pages(log, wanted, follow=watch), form)
            else:
                show_listing(await reading.whole(log, wanted), form)

    asyncio.run(work())


@cli.command()
@output_option
@target_options
def health(target: Target, form: str) -> int:
    """Say whether a kernel acts on the log (exit code 0), or not (6).

    Seen from outside: the lease, the leader's events, the newest complete snapshot, pauses, findings, unknown attempts.

    \b
    Example:
      orderctl health -o json
    """
    from replay import health as checks
    from replay.output import Format

    async def work(kernel: EventSourcedKernel) -> int:
        found = await checks.health(kernel)
        show(checks.health_as(found, Format(form)))
        return 0 if found["ready"] else 6

    return with_kernel(target, work)


@cli.command()
@option("-o", "--output", "form", type=click.Choice(["table", "json", "prometheus"]), envvar="ORDERCTL_METRICS_OUTPUT",
        default="table", show_default=True, help="Format; the table leaves out buckets and zeros.")  # fmt: skip
@metrics_options
@target_options
def metrics(target: Target, metrics_host: str, metrics_port: int | None, form: str) -> None:
    """Show what a running kernel counts, or what the log tells.

    With --metrics-port it asks the kernel that serves there (`orderctl run --metrics-port N`), and --log is not looked at.
    Without, it is computed from the log: intents, differences, unknown attempts, findings, conditions. What only a running
    process can count (durations, retries, calls) is in no log.

    \b
    Example:
      orderctl metrics
      orderctl metrics --metrics-port 9464 -o prometheus
    """
    from replay import metrics as shown

    text = with_kernel(target, shown.from_log) if metrics_port is None else shown.fetched(metrics_host, metrics_port)
    show(shown.metrics_as(text, shown.MetricsFormat(form)))


@cli.command()
@option("--metrics", "metrics_url", metavar="URL", help="Where the leader serves its metrics: also what is in no log.")
@option("--once", is_flag=True, help="One frame, and end. So it is too where stdout is no terminal.")
@option("--every", type=Duration(), default="1s", show_default=True, help="How often a frame is drawn.")
@target_options
def top(target: Target, metrics_url: str | None, once: bool, every: float) -> None:
    """Show how it stands, as a screen that goes on, until Ctrl-C.

    Readiness and since when, lag, the rate budget, unknown attempts, the busiest symbols, and the intents furthest from
    agreement: how they differ, for how long, what is tried next. The log tells most of it; the leader's own lag, queue and
    rate budget are told by its metrics (`orderctl run --metrics-port N`).

    \b
    Example:
      orderctl top
      orderctl top --once --metrics http://127.0.0.1:9464/metrics
    """
    from replay import top_screen

    if every <= 0:
        raise click.UsageError(f"--every is above 0, given {every:g}s")
    address = None if metrics_url is None else top_screen.address_of(metrics_url)
    find = None if address is None else functools.partial(top_screen.served_at, address)
    with_kernel(target, lambda kernel: top_screen.show(kernel, sys.stdout, once=once, find=find, every_s=every))


@cli.command()
@click.argument("path", required=False, default="", shell_complete=lambda ctx, param, begun: explain_paths(begun))
@option("--recursive", is_flag=True, help="The whole tree of fields, names and types alone.")
def explain(path: str, recursive: bool) -> None:
    """Say what a field means, its type, and the values that it takes.

    A path begins with a type (intent, order_state, standard_order, group, position, account, symbol, asset, finding, …) or
    with an event, and goes on with fields; without one, all that can be explained is listed.

    \b
    Example:
      orderctl explain intent.order.time_in_force
      orderctl explain order_state --recursive
      orderctl explain OrderFilled
    """
    from replay import explaining

    show(explaining.explain(path, recursive=recursive))


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@option("--program", default="orderctl", show_default=True, metavar="NAME", help="The name that it is called by.")
def completion(shell: str, program: str) -> None:
    """Print a script that completes verbs, options, intents and symbols in a shell.

    \b
    Example:
      source <(orderctl completion bash)
      orderctl completion fish > ~/.config/fish/completions/orderctl.fish
    """
    from click import shell_completion

    made = shell_completion.get_completion_class(shell)
    assert made is not None, "click knows these shells"
    variable = f"_{program.upper().replace('-', '_')}_COMPLETE"
    # Not the subclass's own `source`: bash's starts a bash to ask for its version.
    click.echo(shell_completion.ShellComplete.source(made(cli, {}, program, variable)))


# ------------------------------------------------------------------------------------------------------------------ run
def config_file(ctx: click.Context, param: click.Parameter, value: str | None) -> dict[str, Any]:
    """A configuration file: defaults of the other options, below their environment variables."""
    if value is None:
        return {}
    from replay import running

    found = running.read_config(value)
    names = {"log": "log_url", "notes": "notes_directory", "note_key": "note_keys"}
    defaults = {names.get(key, key): item for key, item in found.items() if key not in ("kernel", "limits")}
    if "note_keys" in defaults:
        defaults["note_keys"] = (defaults["note_keys"],)
    ctx.default_map = defaults
    return found


@cli.command()
@option("--venue", envvar="ORDERCTL_VENUE", type=click.Choice(["paper"]), default="paper", show_default=True,
        help="What to trade at.")  # fmt: skip
@option("--address", envvar="ORDERCTL_ADDRESS", metavar="ADDR",
        help="Where a paper exchange listens. Default: one in this process, its journal beside the log.")  # fmt: skip
@option("--config", envvar="ORDERCTL_CONFIG", is_eager=True, callback=config_file, metavar="FILE.toml",
        help="Options as keys, settings of the kernel in a table [kernel], pre-trade limits in [limits].")  # fmt: skip
@option("--external-orders", envvar="ORDERCTL_EXTERNAL_ORDERS", metavar="POLICY",
        type=click.Choice(["ignore", "adopt", "cancel"], case_sensitive=False),
        help="Orders of this account that are no intent's: ignore (record only), adopt, or cancel.")  # fmt: skip
@paper_options
@metrics_options
@note_options
@log_options
@target_options
def run(
    target: Target,
    venue: str,
    address: str | None,
    external_orders: str | None,
    paper: dict[str, Any],
    config: dict[str, Any],
    told: ProcessLog,
    metrics_host: str,
    metrics_port: int | None,
    notes: dict[str, Any],
) -> int:
    """Run the kernel, until SIGTERM or SIGINT.

    It reconciles what is wanted with what is at the venue. There is one way to start, and it is to recover: after a kill
    just run it again. A second one on the same log stands by and takes over. Settings: ORDERCTL_KERNEL_… over [kernel] of
    --config over defaults.

    Orders that are no intent's are never touched, unless --external-orders says so: adopt makes an intent for each, so that
    it can be modified and canceled and its fills count; cancel takes them down. What looks like another kernel's is left
    alone all the same (the setting external_orders_of_kernels says otherwise).

    With --metrics-port it serves /metrics (for Prometheus), /healthz (200 while its loop and its projections advance, else
    503 with the reason) and /readyz (200 while it acts, else 503 with the conditions that are missing).

    With --notes and --note-key, while it leads, it writes a signed note of the log every 1,000 events or 10 s: who has one
    finds out when the log is cut off or rewritten, and can prove what was in it (orderctl prove).

    \b
    Example:
      orderctl run --log sqlite:///kernel.db --log-format json
      orderctl run --metrics-port 9464
      orderctl run --notes /mnt/elsewhere/notes --note-key note.key
      orderctl run --address 127.0.0.1:7000 --log postgresql://localhost/orders
    """
    from replay import running, serving

    with serving.listening(metrics_host, metrics_port) as bound:
        options = running.PaperOptions(address=address, **paper)
        settings = running.settings_over(
            config.get("kernel", {}), os.environ, limits=config.get("limits"), external_orders=external_orders
        )
        chosen = running.venue_of(venue, options, url=target.log, exchange_id=target.exchange)
        work = functools.partial(
            running.run_kernel,
            target.log,
            target.exchange,
            chosen,
            settings=settings,
            bound=bound,
            checkpoint_dir=target.checkpoint_dir,
            notes=running.notes_of(**notes),
        )
        return run_until_signal(told, lambda tell: work(say=tell))


maybe_intent_argument = click.argument("intent_id", metavar="[ID]", required=False, callback=intent_name,
                                       shell_complete=complete("intent_ids"))  # fmt: skip


@cli.command()
@maybe_intent_argument
@option("--reason", default="", metavar="TEXT", help="Why; it is recorded with your name.")
@target_options
def pause(target: Target, intent_id: str | None, reason: str) -> None:
    """Send nothing more, for one intent or for all, until resume.

    Not even cancels: what is wanted is recorded and carried out afterwards. Orders that work go on working and are heard
    of. It holds for whoever leads, also after a restart.

    \b
    Example:
      orderctl pause --reason "venue maintenance"
      orderctl pause btc-bid-1
    """
    what = f"intent/{intent_id}" if intent_id else f"exchange/{target.exchange}"
    changed = with_kernel(target, lambda kernel: kernel.pause(intent_id, reason=reason))
    click.echo(f"{what} {'paused' if changed else 'was paused already'}")


@cli.command()
@maybe_intent_argument
@option("--symbol", shell_complete=complete("symbol_ids"), help="A symbol that was halted by itself.")
@target_options
def resume(target: Target, intent_id: str | None, symbol: str | None) -> None:
    """Go on sending, after a pause or a halt: for one intent, for a symbol, or for all.

    What is paused or halted by itself stays so when all are resumed.

    \b
    Example:
      orderctl resume
      orderctl resume btc-bid-1
      orderctl resume --symbol BTCUSDT
    """
    if intent_id and symbol:
        raise click.UsageError("an intent or a symbol, not both")
    what = f"intent/{intent_id}" if intent_id else f"symbol/{symbol}" if symbol else f"exchange/{target.exchange}"
    changed = with_kernel(target, lambda kernel: kernel.resume(intent_id, symbol_id=symbol))
    click.echo(f"{what} {'resumed' if changed else 'was not paused'}")


def venue_config(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    """A configuration file of `run`: where its log and its venue are, and nothing else of it."""
    config_file(ctx, param, value)
    known = {"log_url", "exchange", "venue", "address", "journal"}
    ctx.default_map = {key: item for key, item in (ctx.default_map or {}).items() if key in known}


@cli.command()
@option("--symbol", shell_complete=complete("symbol_ids"), help="Only this symbol.")
@option("--reason", default="", metavar="TEXT", help="Why; it is recorded with your name.")
@option("--yes", is_flag=True, help="Do not show and ask first.")
@option("--timeout", type=Duration(), default="5s", show_default=True, help="How long to wait until all are gone.")
@option("--break-glass", is_flag=True, help="Past the log, at the venue itself; the options below say which.")
@option("--venue", envvar="ORDERCTL_VENUE", type=click.Choice(["paper"]), default="paper", show_default=True,
        help="What is traded at.")  # fmt: skip
@option("--address", envvar="ORDERCTL_ADDRESS", metavar="ADDR", help="Where a paper exchange listens.")
@option("--journal", envvar="ORDERCTL_JOURNAL", metavar="FILE", help="Of a paper exchange that ran inside the kernel.")
@option("--config", envvar="ORDERCTL_CONFIG", is_eager=True, expose_value=False, callback=venue_config,
        metavar="FILE.toml", help="The file of `orderctl run`.")  # fmt: skip
@target_options
def halt(target: Target, symbol: str | None, yes: bool, break_glass: bool, **given: Any) -> int:
    """Cancel all orders and place nothing more, until resume.

    The halt and every cancel are recorded, with who and why; the kernel that runs gets the cancels out, also past a pause.
    Nothing is placed or changed meanwhile: what is wanted is recorded, and sent on resume. Orders that are no intent's
    stay. Exit code 0: nothing works any more; 3: something still may after --timeout, and is named; 1: you said no.

    With --break-glass the venue is asked directly, and the log is neither read nor written: for when it can't be. Every
    order that the account has open (of --symbol) is canceled, whosever it is. A kernel finds that at its next relist and
    records it as canceled by the venue, which ends an intent, unless it says RECREATE: that is placed again. So halt the
    log too, once it is back, before a kernel runs. Exit code 0: the venue lists nothing more; 1: something is left.

    \b
    Example:
      orderctl halt --reason "fat finger"
      orderctl halt --break-glass --address 127.0.0.1:7000 --yes
    """
    from replay import halting

    if not (yes or is_asked()):
        raise click.UsageError("there is no terminal to ask on: give --yes")
    if break_glass:
        return halt_past_the_log(target, symbol, yes, given)
    with halting.break_glass_offered():
        if not yes and not with_kernel(target, lambda kernel: agree_to_halt(kernel, symbol)):
            return 1
        told = with_kernel(target, lambda kernel: halting.halt(kernel, symbol, given["reason"], given["timeout"]))
    click.echo(f"{f'symbol/{symbol}' if symbol else f'exchange/{target.exchange}'} halted")
    say(told.line)
    return told.exit_code


async def agree_to_halt(kernel: EventSourcedKernel, symbol: str | None) -> bool:
    """Show what would be canceled, and ask."""
    intent_ids = await show_chosen(kernel, symbol, None, err=True)
    return click.confirm(f"Halt {symbol or 'everything'} and cancel {counted(len(intent_ids))}?", err=True)


def halt_past_the_log(target: Target, symbol: str | None, yes: bool, given: dict[str, Any]) -> int:
    """Cancel what the venue lists; the exit code."""
    from replay import break_glass, output, running

    what = f"every open order of {target.exchange}" + (f" in {symbol}" if symbol else "")
    if not yes and not click.confirm(f"Cancel {what} at the venue, past the log?", err=True):
        return 1
    venue = running.venue_past_the_log(given["venue"], given["address"], given["journal"], target.log, target.exchange)
    told = break_glass.BrokenGlass(show=lambda line: click.echo(output.escaped(line)))
    asyncio.run(break_glass.take_down(venue, told, symbol_id=symbol, timeout_s=given["timeout"]))
    say(told.line)
    say(break_glass.NOT_LOGGED)
    return 0 if told.done else 1


@cli.command()
@maybe_intent_argument
@option("--as", "outcome", type=click.Choice(["dead", "rejected"], case_sensitive=False),
        help="What became of the request: it never arrived, or the venue refused it.")  # fmt: skip
@option("--finding", callback=lambda ctx, param, value: value and value.removeprefix("finding/"), metavar="ID",
        shell_complete=complete("finding_ids"), help="A finding that was dealt with.")  # fmt: skip
@option("--evidence", required=True, metavar="TEXT", help="How you know; it is recorded with your name.")
@option("--attempt", type=click.IntRange(min=1), metavar="POSITION", help="Which request, where several are open.")
@option("--yes", is_flag=True, help="Do not ask first.")
@target_options
def resolve(
    target: Target, intent_id: str | None, outcome: str | None, finding: str | None, evidence: str, **given: Any
) -> int:
    """Settle a request that nothing can prove anything about, or say that a finding was dealt with.

    A request that is UNKNOWN blocks its intent until evidence settles it; some venues give none. Then you may vouch for it.
    --as dead: it never arrived and never will; if the order is still wanted it is sent again at once, so cancel it first
    if it is not. --as rejected: the venue refused it; nothing more is sent until the intent changes. If you are wrong, an
    order may work twice until the kernel sees it: that is told as a finding, and one of them is canceled, but what both
    filled until then has happened. While evidence is still to come it is refused (exit code 4).

    A finding that still holds is raised again with its next news. Of a BALANCE_DRIFT the amount is booked as a transfer;
    after a STORM the symbol is traded again.

    \b
    Example:
      orderctl resolve btc-bid-1 --as dead --evidence "support ticket 4711: never received"
      orderctl resolve --finding STORM:BTCUSDT --evidence "deposited"
    """
    if finding is not None and intent_id is None and outcome is None:
        with_kernel(target, lambda kernel: kernel.resolve_finding(finding, evidence=evidence))
        click.echo(f"finding/{finding} resolved")
        return 0
    if finding is not None or intent_id is None or outcome is None:
        raise click.UsageError("either INTENT --as dead|rejected, or --finding ID")
    return settle_attempt(target, intent_id, outcome, evidence, given)


def settle_attempt(target: Target, intent_id: str, outcome: str, evidence: str, given: dict[str, Any]) -> int:
    """Take a request for dead or refused, once asked; the exit code."""
    from kernel.models import AttemptOutcome

    if not (given["yes"] or is_asked()):
        raise click.UsageError("there is no terminal to ask on: give --yes")
    risk = "if it did arrive, an order may work that you do not know of until the kernel sees it"
    if not given["yes"] and not click.confirm(f"Take the request of {intent_id} for {outcome}? {risk}", err=True):
        return 1
    said: dict[str, Any] = {"evidence": evidence, "attempt_position": given["attempt"]}
    with_kernel(target, lambda kernel: kernel.resolve_attempt(intent_id, AttemptOutcome(outcome.upper()), **said))
    click.echo(f"intent/{intent_id} resolved as {outcome.upper()}")
    return 0


@cli.command()
@click.argument("owner", shell_complete=complete("owners"))
@option("--ttl", type=Duration(), default="10s", show_default=True, help="How long it may be silent.")
@option("--every", type=Duration(), help="Go on so often, at most half of --ttl, until SIGTERM or SIGINT.")
@option("--disarm", is_flag=True, help="Silence means nothing any more: now, or with --every when it ends in order.")
@target_options
def heartbeat(target: Target, owner: str, ttl: float, every: float | None, disarm: bool) -> int:
    """Say that a strategy is alive; once it is silent for --ttl, all its orders are canceled.

    Nobody is watched who never said so. The orders are those with this --owner, also the ones placed while it is silent;
    the next heartbeat ends that. Killed, this process is silent too; ended in order it stays armed, unless --disarm.

    \b
    Example:
      orderctl heartbeat mm-1 --ttl 30s
      orderctl heartbeat mm-1 --ttl 10s --every 3s --disarm
      orderctl heartbeat mm-1 --disarm
    """
    from replay import beating, running

    if every is None:
        click.echo(with_kernel(target, lambda kernel: beating.once(kernel, owner, ttl, disarm=disarm)))
        return 0
    rhythm = beating.Rhythm(owner, ttl_s=ttl, every_s=every, disarm=disarm)
    work = beating.go_on(target.log, target.exchange, rhythm, show=click.echo, say=say)
    return ended_by(asyncio.run(running.until_signal(work)))


@cli.command("paper-exchange")
@option("--listen", envvar="ORDERCTL_LISTEN", default="127.0.0.1:0", show_default=True, metavar="ADDR",
        help="HOST:PORT (port 0: any), or the path of a socket.")  # fmt: skip
@paper_options
@log_options
def paper_exchange(listen: str, paper: dict[str, Any], told: ProcessLog) -> int:
    """Run a paper exchange as a process of its own. Prints the address that it listens at.

    \b
    Example:
      orderctl paper-exchange --listen 127.0.0.1:7000 --journal exchange.journal
    """
    from replay import running

    options = running.PaperOptions(**paper)
    return run_until_signal(told, lambda tell: running.run_paper_exchange(listen, options, announce=click.echo))


@cli.command()
@option("--tape", envvar="ORDERCTL_TAPE", metavar="FILE", help="Trades to play. Default: the tape that is included.")
@option("--symbol", envvar="ORDERCTL_SYMBOL", help="The tape's symbol. Default: from the file's name.")
@option("--keep", metavar="DIR", help="Work there and leave everything. Default: a temporary directory.")
@option("--log", metavar="URL", help="A log to make, and to leave: sqlite:///FILE or postgresql://…")
@option("--seed", envvar="ORDERCTL_SEED", default=0, show_default=True, help="Seed of the order book's ladder.")
def demo(tape: str | None, symbol: str | None, keep: str | None, log: str | None, seed: int) -> int:
    """Show it at work in half a minute: orders, a lost answer, a kill, recovery, and proof.

    Starts a paper exchange and a kernel as processes, places orders, kills the kernel with SIGKILL between a request and
    its answer, starts it again, and compares the log with the exchange's own truth. Exit code 0 only if everything agreed.

    \b
    Example:
      orderctl demo --keep ./demo
    """
    from replay import demo as show_case

    options = show_case.DemoOptions(tape=tape, symbol=symbol, keep=keep, log=log, seed=seed)
    return 0 if asyncio.run(show_case.demo(options)) else 1


class OneLine(logging.Formatter):
    """Log records as one line each, without tracebacks."""

    def format(self, record: logging.LogRecord) -> str:
        """See `replay.failures.log_line`, which is imported with the first record: help logs nothing."""
        from replay import failures

        return failures.log_line(record)


def configure_logging(*, debug: bool) -> None:
    """Send this process's logs to stderr: warnings in one line each, or with `debug` everything with tracebacks."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(None if debug else OneLine())
    logging.basicConfig(level=logging.DEBUG if debug else logging.WARNING, handlers=[handler])


for verb in VERBS:
    cli.add_command(verb)


def main() -> None:
    """The entry point of `orderctl`."""
    configure_logging(debug="--debug" in sys.argv or bool(os.environ.get("ORDERCTL_DEBUG")))
    cli(prog_name="orderctl")


if __name__ == "__main__":
    main()
