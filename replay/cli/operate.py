"""`run` `paper-exchange` `pause` `resume` `halt` `resolve` `heartbeat` `demo`: commands that run and control a kernel."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from kernel import EventSourcedKernel
from kernel.models import AttemptOutcome
from kernel.venues.paper.matching.config import PaperConfig, PaperExchangeOptions
from kernel.venues.paper.server import serve_paper_exchange, speed_of
from replay.cli.base import (
    Duration,
    LogTarget,
    complete,
    echo_err,
    maybe_intent_argument,
    metrics_options,
    option,
    require_terminal,
    target_options,
)
from replay.cli.client import run_with_client, show_chosen
from replay.cli.group import INTERRUPTED, Session
from replay.demo import scenario as demonstration
from replay.formatting import output
from replay.formatting.errors import failure
from replay.host import config, serving, venue_factory
from replay.host import process_log as logs
from replay.host import run as processes
from replay.operations import emergency_cancel, heartbeat_loop
from replay.operations import halt as halting

T = TypeVar("T")


@dataclass(frozen=True)
class ProcessLog:
    """A process's logging options."""

    form: str
    level: str


def paper_options(function: Callable[..., T]) -> Callable[..., T]:
    """The options of a paper exchange, passed as `paper`."""

    @option("--tape", envvar="ORDERCTL_TAPE", metavar="FILE", help="Trades to play. Default: the included tape.")
    @option("--symbol", envvar="ORDERCTL_SYMBOL", help="The tape's symbol. Default: from the file's name.")
    @option("--speed", envvar="ORDERCTL_SPEED", default="1", show_default=True, help="1, N times faster, or max.")
    @option("--seed", envvar="ORDERCTL_SEED", default=0, show_default=True, help="Seed of the synthetic order book.")
    @option("--journal", envvar="ORDERCTL_JOURNAL", metavar="FILE", help="Where the exchange keeps its state.")
    @option("--markets", envvar="ORDERCTL_MARKETS", type=click.Choice(["spot", "full"]), default="spot",
            show_default=True, help="Limit and market orders only, or every type: stops, GTD, icebergs.")  # fmt: skip
    @functools.wraps(function)
    def with_paper(*args: Any, speed: str, markets: str, **given: Any) -> T:
        names = ("tape", "symbol", "seed", "journal")
        config = PaperConfig.model_validate({"symbols": "full"} if markets == "full" else {})
        paper = {name: given.pop(name) for name in names} | {"speed": speed_of(speed), "config": config}
        return function(*args, paper=PaperExchangeOptions(**paper), **given)

    return with_paper


def log_options(function: Callable[..., T]) -> Callable[..., T]:
    """The logging options of a process, passed as `process_log`."""

    @option("--log-format", type=click.Choice(["text", "json"]), envvar="ORDERCTL_LOG_FORMAT", default="text",
            show_default=True, help="The process's own log on stderr: text or JSON lines.")  # fmt: skip
    @option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), envvar="ORDERCTL_LOG_LEVEL",
            default="info", show_default=True, help="The log's level; info has a line for each decision.")  # fmt: skip
    @functools.wraps(function)
    def with_log(*args: Any, log_format: str, log_level: str, **given: Any) -> T:
        return function(*args, process_log=ProcessLog(log_format, log_level), **given)

    return with_log


def secret_words(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    """Accept key files; keys themselves only from the environment, since everybody can read a command line."""
    source = ctx.get_parameter_source(str(param.name))
    if any(word.startswith("PRIVATE+") for word in value) and source is not click.core.ParameterSource.ENVIRONMENT:
        raise click.UsageError("give the key's file: only the environment may hold the key itself")
    return value


def tree_head_options(function: Callable[..., T]) -> Callable[..., T]:
    """Where signed tree heads are written and which keys sign them, passed as `notes`."""

    @option("--notes", "notes_directory", envvar="ORDERCTL_NOTES", metavar="DIR",
            help="Where the leader writes signed tree heads of the log; not beside the database.")  # fmt: skip
    @option("--note-key", "note_keys", envvar="ORDERCTL_NOTE_KEY", multiple=True, callback=secret_words, metavar="FILE",
            help="The key that signs them (`orderctl keys create`); twice while keys change. "
                 "The variable may hold the key itself.")  # fmt: skip
    @option("--note-events", type=click.IntRange(1), envvar="ORDERCTL_NOTE_EVENTS", default=1_000, show_default=True,
            metavar="N", help="Write a tree head after this many events …")  # fmt: skip
    @option("--note-every", type=Duration(), envvar="ORDERCTL_NOTE_EVERY", default="10s", show_default=True,
            help="… or after this time, if there are new events.")  # fmt: skip
    @functools.wraps(function)
    def with_notes(*args: Any, **given: Any) -> T:
        names = ("notes_directory", "note_keys", "note_events", "note_every")
        return function(*args, notes={name: given.pop(name) for name in names}, **given)

    return with_notes


def config_file(ctx: click.Context, param: click.Parameter, value: str | None) -> dict[str, Any]:
    """Use a configuration file as defaults of the other options, below their environment variables."""
    if value is None:
        return {}
    found = config.read_config(value)
    names = {"log": "log_url", "notes": "notes_directory", "note_key": "note_keys"}
    # As text, each value goes through the option's own parser: a number of TOML may be `inf`, `nan` or a fraction.
    defaults: dict[str, Any] = {
        names.get(key, key): str(item) for key, item in found.items() if key not in ("kernel", "limits")
    }
    if "note_keys" in defaults:
        defaults["note_keys"] = (defaults["note_keys"],)
    ctx.default_map = defaults
    return found


def venue_config(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    """Use a configuration file of `run` for the log and the venue only."""
    config_file(ctx, param, value)
    known = {"log_url", "exchange", "venue", "address", "journal"}
    ctx.default_map = {key: item for key, item in (ctx.default_map or {}).items() if key in known}


def run_until_signal(
    process_log: ProcessLog, work: Callable[[Callable[[str], None]], Coroutine[Any, Any, None]]
) -> int:
    """Run until SIGTERM (0) or SIGINT (130); `work` gets a function that logs a line."""
    level = "debug" if click.get_current_context().ensure_object(Session).debug else process_log.level
    with logs.process_log(sys.stderr, form=logs.LogFormat(process_log.form), level=level) as echo:
        try:
            return ended_by(asyncio.run(processes.until_signal(work(echo))))
        except Exception as problem:
            if process_log.form == "text":
                raise
            code, lines = failure(problem)
            logs.RUNNING.error("; ".join(map(str.strip, lines)), extra={"exit_code": code})
            return code


def ended_by(number: int | None) -> int:
    """The exit code for a signal, or for none."""
    return INTERRUPTED if number == signal.SIGINT else 0


@click.command()
@option("--venue", envvar="ORDERCTL_VENUE", type=click.Choice(["paper"]), default="paper", show_default=True,
        help="The venue to trade at.")  # fmt: skip
@option("--address", envvar="ORDERCTL_ADDRESS", metavar="ADDR",
        help="Where a paper exchange listens. Default: one in this process, its journal beside the log.")  # fmt: skip
@option("--config", envvar="ORDERCTL_CONFIG", is_eager=True, callback=config_file, metavar="FILE.toml",
        help="Options as keys, settings of the kernel in a table [kernel], pre-trade limits in [limits].")  # fmt: skip
@option("--external-orders", envvar="ORDERCTL_EXTERNAL_ORDERS", metavar="POLICY",
        type=click.Choice(["ignore", "adopt", "cancel"], case_sensitive=False),
        help="Orders of this account without an intent: ignore (record only), adopt, or cancel.")  # fmt: skip
@paper_options
@metrics_options
@tree_head_options
@log_options
@target_options
def run(
    target: LogTarget, venue: str, address: str | None, external_orders: str | None, paper: PaperExchangeOptions,
    process_log: ProcessLog, metrics_host: str, metrics_port: int | None, notes: dict[str, Any], **given: Any,
) -> int:  # fmt: skip
    """Run the kernel until SIGTERM or SIGINT.

    It reconciles intents with the orders at the venue. Every start is a recovery: after a crash, run it again. A second
    kernel on the same log stands by and takes over when the first ends. Settings: ORDERCTL_KERNEL_… variables override
    [kernel] of --config, which overrides the defaults.

    External orders (without an intent) are never touched by default. With --external-orders adopt an intent is made for
    each, so that it can be modified and canceled and its fills count; with cancel they are canceled. Orders that look like
    another kernel's are left alone all the same (see the setting external_orders_of_kernels).

    With --metrics-port it serves /metrics (for Prometheus), /healthz (200 while its loop and its projections advance, else
    503 with the reason) and /readyz (200 while it acts, else 503 with the missing conditions).

    With --notes and --note-key the leader signs a tree head of the log every 1,000 events or 10 s. Whoever keeps a tree
    head can detect that the log was truncated or rewritten, and can prove what was in it (orderctl prove).

    \b
    Example:
      orderctl run --log sqlite:///kernel.db --log-format json
      orderctl run --metrics-port 9464
      orderctl run --notes /mnt/elsewhere/notes --note-key note.key
      orderctl run --address 127.0.0.1:7000 --log postgresql://localhost/orders
    """
    found = given["config"]
    with serving.listening(metrics_host, metrics_port) as bound:
        settings = config.settings_over(
            found.get("kernel", {}), os.environ, limits=found.get("limits"), external_orders=external_orders
        )
        work = functools.partial(
            processes.run_kernel,
            target.log,
            target.exchange,
            venue_factory.venue_of(venue, address, paper, url=target.log, exchange_id=target.exchange),
            settings=settings,
            bound=bound,
            checkpoint_dir=target.checkpoint_dir,
            notes=config.notes_of(**notes),
        )
        return run_until_signal(process_log, lambda echo: work(say=echo))


@click.command("paper-exchange")
@option("--listen", envvar="ORDERCTL_LISTEN", default="127.0.0.1:0", show_default=True, metavar="ADDR",
        help="HOST:PORT (port 0: any), or the path of a socket.")  # fmt: skip
@paper_options
@log_options
def paper_exchange(listen: str, paper: PaperExchangeOptions, process_log: ProcessLog) -> int:
    """Run a paper exchange as a separate process. Prints the address that it listens at.

    \b
    Example:
      orderctl paper-exchange --listen 127.0.0.1:7000 --journal exchange.journal
    """
    return run_until_signal(process_log, lambda echo: serve_paper_exchange(listen, options=paper, announce=click.echo))


@click.command()
@maybe_intent_argument
@option("--reason", default="", metavar="TEXT", help="The reason; it is recorded with your name.")
@target_options
def pause(target: LogTarget, intent_id: str | None, reason: str) -> None:
    """Stop sending requests, for one intent or for all.

    Cancels are not sent either: commands are recorded and carried out after resume. Orders that are open stay open, and
    their fills are recorded. A pause applies to whichever kernel leads, also after a restart.

    \b
    Example:
      orderctl pause --reason "venue maintenance"
      orderctl pause btc-bid-1
    """
    what = f"intent/{intent_id}" if intent_id else f"exchange/{target.exchange}"
    changed = run_with_client(target, lambda kernel: kernel.pause(intent_id, reason=reason))
    click.echo(f"{what} {'paused' if changed else 'was paused already'}")


@click.command()
@maybe_intent_argument
@option("--symbol", shell_complete=complete("symbol_ids"), help="A symbol that was halted by itself.")
@target_options
def resume(target: LogTarget, intent_id: str | None, symbol: str | None) -> None:
    """Resume sending after a pause or a halt, for an intent, a symbol or all.

    Intents and symbols that were paused or halted on their own stay so when all are resumed.

    \b
    Example:
      orderctl resume
      orderctl resume btc-bid-1
      orderctl resume --symbol BTCUSDT
    """
    if intent_id and symbol:
        raise click.UsageError("give an intent or a symbol, not both")
    what = f"intent/{intent_id}" if intent_id else f"symbol/{symbol}" if symbol else f"exchange/{target.exchange}"
    changed = run_with_client(target, lambda kernel: kernel.resume(intent_id, symbol_id=symbol))
    click.echo(f"{what} {'resumed' if changed else 'was neither paused nor halted'}")


@click.command()
@option("--symbol", shell_complete=complete("symbol_ids"), help="Only this symbol.")
@option("--reason", default="", metavar="TEXT", help="The reason; it is recorded with your name.")
@option("--yes", is_flag=True, help="Do not ask for confirmation.")
@option("--timeout", type=Duration(), default="5s", show_default=True, help="How long to wait until no order is open.")
@option("--break-glass", is_flag=True, help="Bypass the log and cancel at the venue itself; see the options below.")
@option("--venue", envvar="ORDERCTL_VENUE", type=click.Choice(["paper"]), default="paper", show_default=True,
        help="The venue.")  # fmt: skip
@option("--address", envvar="ORDERCTL_ADDRESS", metavar="ADDR", help="Where a paper exchange listens.")
@option("--journal", envvar="ORDERCTL_JOURNAL", metavar="FILE", help="Of a paper exchange that ran inside the kernel.")
@option("--config", envvar="ORDERCTL_CONFIG", is_eager=True, expose_value=False, callback=venue_config,
        metavar="FILE.toml", help="The configuration file of `orderctl run`.")  # fmt: skip
@target_options
def halt(target: LogTarget, symbol: str | None, yes: bool, break_glass: bool, **given: Any) -> int:
    """Cancel all orders and place none until resume.

    The halt and every cancel are recorded, with your name and the reason. The running kernel sends the cancels, even while
    paused. Until resume nothing is placed or changed; commands are recorded and carried out afterwards. External orders
    stay. Exit code 0: no order is open; 3: after --timeout some may be open, and are named; 1: you answered no.

    With --break-glass the venue is asked directly, and the log is neither read nor written: for when the log is
    unavailable. Every open order of the account (in --symbol) is canceled, external ones too. A kernel finds this at its
    next relist and records the orders as canceled by the venue, which ends the intent, except one with RECREATE: that is
    placed again. So halt the log too, once it is back, before a kernel runs. Exit code 0: the venue lists no open order; 1:
    some are left.

    \b
    Example:
      orderctl halt --reason "fat finger"
      orderctl halt --break-glass --address 127.0.0.1:7000 --yes
    """
    if not yes:
        require_terminal()
    if break_glass:
        return halt_without_log(target, symbol, yes, given)
    with halting.break_glass_offered():
        if not yes and not run_with_client(target, lambda kernel: agree_to_halt(kernel, symbol)):
            return 1
        report = run_with_client(target, lambda kernel: halting.halt(kernel, symbol, given["reason"], given["timeout"]))
    click.echo(f"{f'symbol/{symbol}' if symbol else f'exchange/{target.exchange}'} halted")
    echo_err(report.line)
    return report.exit_code


async def agree_to_halt(kernel: EventSourcedKernel, symbol: str | None) -> bool:
    """Show what would be canceled, and ask."""
    intent_ids = await show_chosen(kernel, symbol, None, err=True)
    return click.confirm(
        f"Halt {symbol or 'everything'} and cancel {output.counted(len(intent_ids), 'order')}?", err=True
    )


def halt_without_log(target: LogTarget, symbol: str | None, yes: bool, given: dict[str, Any]) -> int:
    """Cancel what the venue lists; returns the exit code."""
    what = f"every open order of {target.exchange}" + (f" in {symbol}" if symbol else "")
    if not yes and not click.confirm(f"Cancel {what} at the venue, bypassing the log?", err=True):
        return 1
    venue = venue_factory.venue_without_log(
        given["venue"], given["address"], given["journal"], target.log, target.exchange
    )
    report = emergency_cancel.EmergencyCancelReport(show=lambda line: click.echo(output.escaped(line)))
    asyncio.run(emergency_cancel.emergency_cancel(venue, report, symbol_id=symbol, timeout_s=given["timeout"]))
    echo_err(report.line)
    echo_err(emergency_cancel.NOT_LOGGED)
    return 0 if report.done else 1


@click.command()
@maybe_intent_argument
@option("--as", "outcome", type=click.Choice(["dead", "rejected"], case_sensitive=False),
        help="The attempt's outcome: it never reached the venue, or the venue rejected it.")  # fmt: skip
@option("--order", metavar="ID", help="Instead of --as: the external order that is the attempt's order.")
@option("--finding", callback=lambda ctx, param, value: value and value.removeprefix("finding/"), metavar="ID",
        shell_complete=complete("finding_ids"), help="The finding to resolve.")  # fmt: skip
@option("--accept", is_flag=True, help="Of a VENUE_DISAGREES finding: keep the terms that work.")
@option("--evidence", required=True, metavar="TEXT", help="How you know; it is recorded with your name.")
@option("--attempt", type=click.IntRange(min=1), metavar="POSITION", help="Which attempt, if several are unresolved.")
@option("--yes", is_flag=True, help="Do not ask for confirmation.")
@target_options
def resolve(
    target: LogTarget,
    intent_id: str | None,
    outcome: str | None,
    order: str | None,
    finding: str | None,
    evidence: str,
    **given: Any,
) -> int:
    """Resolve an unknown attempt or a finding by hand.

    An attempt that is UNKNOWN blocks its intent until evidence shows its outcome; some venues give none. Then you can state
    it. --as dead: the request never reached the venue and never will; if the intent is not canceled the order is sent again
    at once, so cancel the intent first if you do not want that. --as rejected: the venue rejected it; nothing more is sent
    until the intent changes. If you are wrong, two orders may be open until the kernel sees them: it raises a finding and
    cancels one, but fills of both stand. While evidence can still arrive, the command is refused (exit code 4).

    At a venue that does not show client order ids, UNOWNED_CANDIDATE names the external orders that may be the attempt's,
    or that the trigger of a stop may have made which has ended. --order ID: that one is; it becomes the intent's, with its
    trades. --as dead: none is.

    A finding is raised again if its cause persists. For a BALANCE_DRIFT the amount is booked as a transfer; after a STORM
    the symbol is traded again. After a VENUE_DISAGREES the order's terms are requested once more, even if it has failed;
    with --accept the terms that the venue works count instead until the order is changed.

    \b
    Example:
      orderctl resolve btc-bid-1 --as dead --evidence "support ticket 4711: never received"
      orderctl resolve btc-bid-1 --order 88123 --evidence "placed at 10:02:11 by our API key"
      orderctl resolve --finding STORM:BTCUSDT --evidence "deposited"
      orderctl resolve --finding VENUE_DISAGREES:btc-bid-1 --accept --evidence "its tick is 0.05"
    """
    accept = given["accept"]
    if finding is not None and intent_id is None and outcome is None and order is None:
        run_with_client(target, lambda kernel: kernel.resolve_finding(finding, evidence=evidence, accept=accept))
        click.echo(f"finding/{finding} resolved")
        return 0
    if finding is not None or accept or intent_id is None or (outcome is None) == (order is None):
        raise click.UsageError("give INTENT --as dead|rejected, INTENT --order ID, or --finding ID [--accept]")
    words = {"outcome": AttemptOutcome(outcome.upper()) if outcome else None, "order": order, "evidence": evidence}
    return resolve_attempt(target, intent_id, words, given)


def resolve_attempt(target: LogTarget, intent_id: str, words: dict[str, Any], given: dict[str, Any]) -> int:
    """Resolve an attempt by an outcome or an order, after asking; returns the exit code."""
    order, outcome = words["order"], words["outcome"]
    if not given["yes"]:
        require_terminal()
    what = f"order {order}" if order is not None else outcome.lower()
    risk = "If the venue did receive it, an order may be open until the kernel sees it."
    if order is not None:
        risk = "If it is somebody else's, its trades count for this intent for ever."
    if not given["yes"] and not click.confirm(f"{risk} Resolve the request of {intent_id} as {what}?", err=True):
        return 1
    run_with_client(
        target, lambda kernel: kernel.resolve_attempt(intent_id, attempt_position=given["attempt"], **words)
    )
    click.echo(f"intent/{intent_id} resolved as {what if order is not None else outcome}")
    return 0


@click.command()
@click.argument("owner", shell_complete=complete("owners"))
@option("--ttl", type=Duration(), default="10s", show_default=True, help="How long it may miss its heartbeat.")
@option("--every", type=Duration(), help="Send a heartbeat this often, at most half of --ttl, until SIGTERM or SIGINT.")
@option("--disarm", is_flag=True, help="Stop watching the strategy: now, or with --every when it ends in order.")
@target_options
def heartbeat(target: LogTarget, owner: str, ttl: float, every: float | None, disarm: bool) -> int:
    """Send heartbeats that keep a strategy's orders alive.

    If the strategy then misses its heartbeat for --ttl, its orders are canceled: those with this --owner, also orders
    placed in the meantime. The next heartbeat ends that. A strategy that never sent one is not watched. If this process is
    killed, the heartbeats stop; ended in order it stays armed, unless --disarm is given.

    \b
    Example:
      orderctl heartbeat mm-1 --ttl 30s
      orderctl heartbeat mm-1 --ttl 10s --every 3s --disarm
      orderctl heartbeat mm-1 --disarm
    """
    if every is None:
        click.echo(run_with_client(target, lambda kernel: heartbeat_loop.once(kernel, owner, ttl, disarm=disarm)))
        return 0
    schedule = heartbeat_loop.HeartbeatSchedule(owner, ttl_s=ttl, every_s=every, disarm=disarm)
    work = heartbeat_loop.run(target.log, target.exchange, schedule, show=click.echo, say=echo_err)
    return ended_by(asyncio.run(processes.until_signal(work)))


@click.command()
@option("--tape", envvar="ORDERCTL_TAPE", metavar="FILE", help="Trades to play. Default: the included tape.")
@option("--symbol", envvar="ORDERCTL_SYMBOL", help="The tape's symbol. Default: from the file's name.")
@option("--keep", metavar="DIR", help="Work in this directory and keep it. Default: a temporary directory.")
@option("--log", metavar="URL", help="A log to create and keep: sqlite:///FILE or postgresql://…")
@option("--seed", envvar="ORDERCTL_SEED", default=0, show_default=True, help="Seed of the synthetic order book.")
def demo(tape: str | None, symbol: str | None, keep: str | None, log: str | None, seed: int) -> int:
    """Demonstrate orders, a lost answer, a crash, recovery and proof.

    Takes half a minute. Starts a paper exchange and a kernel as processes, places orders, kills the kernel with SIGKILL
    between a request and its answer, starts it again, and compares the log with the exchange's own state. Exit code 0 only
    if everything agrees.

    \b
    Example:
      orderctl demo --keep ./demo
    """
    options = demonstration.DemoOptions(tape=tape, symbol=symbol, keep=keep, log=log, seed=seed)
    return 0 if asyncio.run(demonstration.demo(options)) else 1
