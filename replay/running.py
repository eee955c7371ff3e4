"""The processes that run: a kernel that leads, and a paper exchange; each until a signal ends it in order.

Called by the CLI's `run` and `paper-exchange`. What a process has to say goes through the function given, one line each. A
second kernel on the same log stands by, and leads as soon as the first is gone. Nothing is decided here.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import tomllib
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydantic
from prometheus_client import ProcessCollector

from kernel import EventSourcedKernel
from kernel.clock import SystemClock
from kernel.errors import LogUnavailableError, NotReadyError, ValidationError, Violation
from kernel.given import violations_of
from kernel.log.opening import sqlite_path
from kernel.metrics import Metrics
from kernel.models import ExternalOrderPolicy
from kernel.readiness import LEASE_HELD
from kernel.settings import KernelSettings, LimitSettings
from kernel.venues.base import Venue
from kernel.venues.paper_config import PaperConfig, PaperExchangeOptions
from replay.health import leader_of
from replay.note_keys import signer_keys
from replay.noting import NoteOptions
from replay.recovery import open_kernel
from replay.serving import address_of, serving
from replay.vitals import Vitals

Say = Callable[[str], None]
LOOK_INTERVAL_S = 0.5
"""How often a running kernel's readiness is looked at, for what it has to say."""
SETTINGS_PREFIX = "ORDERCTL_KERNEL_"
RUN_KEYS = ("log", "exchange", "venue", "address", "external_orders", "tape", "symbol", "speed", "seed", "journal",
            "markets", "notes", "note_key", "note_events", "note_every", "log_format", "log_level", "metrics_port",
            "metrics_host")  # fmt: skip
"""What a configuration file may set beside its tables `kernel` and `limits`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperOptions:
    """Which paper exchange: one that runs elsewhere, or one of this process."""

    address: str | None = None
    """Where it listens; none: an exchange in this process, of the options below."""
    tape: str | None = None
    symbol: str | None = None
    speed: str = "1"
    seed: int = 0
    journal: str | None = None
    """The file that outlives it; none: one beside the log."""
    markets: str = "spot"
    """`spot`: limit and market orders alone; `full`: every order type."""


async def until_signal(work: Coroutine[Any, Any, None]) -> signal.Signals | None:
    """Do something until it ends, or SIGTERM or SIGINT cancels it. The signal, or None when it ended by itself."""
    loop = asyncio.get_running_loop()
    task = loop.create_task(work)
    came: list[signal.Signals] = []

    def end(number: signal.Signals) -> None:
        came.append(number)
        task.cancel()

    numbers = (signal.SIGTERM, signal.SIGINT)
    for number in numbers:
        loop.add_signal_handler(number, end, number)
    try:
        await asyncio.wait({task})
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
    with suppress(asyncio.CancelledError):
        task.result()
    return came[0] if came else None


async def run_kernel(
    url: str,
    exchange_id: str,
    venue: Venue,
    *,
    settings: KernelSettings | None = None,
    bound: socket.socket | None = None,
    checkpoint_dir: str | None = None,
    notes: NoteOptions | None = None,
    say: Say,
) -> None:
    """Lead, or stand by to lead, until cancelled. Raises what ends a kernel: an unreadable log, a lost disk.

    At a socket given, metrics and health are served, from before the log is folded until the kernel has stopped.
    """
    metrics = Metrics()
    async with (
        vitals_at(bound, metrics, exchange_id, say) as vitals,
        open_kernel(
            url,
            exchange_id=exchange_id,
            venue=venue,
            settings=settings,
            actor="kernel",
            metrics=metrics,
            checkpoint_dir=checkpoint_dir,
            notes=notes,
        ) as kernel,
    ):
        vitals.gauges.kernel = kernel
        try:
            await report_readiness(kernel, say)
        finally:
            vitals.gauges.kernel = None


@asynccontextmanager
async def vitals_at(bound: socket.socket | None, metrics: Metrics, exchange_id: str, say: Say) -> AsyncIterator[Vitals]:
    """What a process says of itself, at a socket; without one nobody hears it."""
    vitals = Vitals(metrics, exchange_id, clock=SystemClock())
    if bound is None:
        yield vitals
        return
    ProcessCollector(registry=metrics.registry)
    beating = asyncio.create_task(vitals.beat(), name="vitals-beat")
    try:
        async with serving(bound, vitals.pages()):
            say(f"metrics: http://{address_of(bound)}/metrics")
            yield vitals
    finally:
        beating.cancel()
        await asyncio.gather(beating, return_exceptions=True)
        await vitals.close()


async def report_readiness(kernel: EventSourcedKernel, say: Say) -> None:
    """Say when a kernel acts, when it does not and why, and when it stands by; for ever."""
    said = ""
    while True:
        try:
            await kernel.wait_ready(LOOK_INTERVAL_S)
        except NotReadyError as problem:
            news = await standing(kernel, problem)
        else:
            news = f"ready: leads {kernel.exchange_id}, epoch {kernel.state.epoch}"
            await asyncio.sleep(LOOK_INTERVAL_S if news == said else 0)
        if news != said:
            said = news
            say(news)


async def standing(kernel: EventSourcedKernel, problem: NotReadyError) -> str:
    """Why a kernel does not act."""
    try:
        if LEASE_HELD in problem.missing and await kernel.log.lease_is_held():
            leader = await leader_of(kernel.log)
            return f"standing by: {leader.holder or 'another kernel'} leads {kernel.exchange_id}"
    except LogUnavailableError as away:
        return f"not ready: {away}"
    missing = [item for item in (await kernel.health_check())["conditions"] if not item["status"]]
    return "not ready: " + ", ".join(f"{item['type']} ({item['reason']}) {item['message']}".strip() for item in missing)


def notes_of(
    *, notes_directory: str | None, note_keys: Sequence[str], note_events: int, note_every: float
) -> NoteOptions | None:
    """How notes are written; None without a directory. `ValidationError` for one without a key, and a key without one."""
    if notes_directory is None and not note_keys:
        return None
    if notes_directory is None:
        raise ValidationError("a key signs notes, but where do they go? --notes DIR")
    keys = signer_keys(note_keys)
    return NoteOptions(directory=Path(notes_directory), keys=keys, every_events=note_events, every_s=note_every)


def venue_of(name: str, options: PaperOptions, *, url: str, exchange_id: str) -> Venue:
    """The venue that a kernel on this log talks to. `ValidationError` for a name or options that cannot be."""
    if name != "paper":
        raise ValidationError("the venue is not known", [Violation("venue", "name", "paper", name)])
    from kernel.venues.paper import PaperVenue
    from kernel.venues.paper_server import speed_of

    if options.address is not None:
        return PaperVenue(options.address)
    return PaperVenue(
        tape=options.tape,
        symbol=options.symbol,
        seed=options.seed,
        speed=speed_of(options.speed),
        journal=options.journal or journal_beside(url, exchange_id),
        config=paper_config(options),
    )


def paper_config(options: PaperOptions) -> PaperConfig:
    """How the exchange of these options behaves."""
    return PaperConfig.model_validate({"symbols": "full"} if options.markets == "full" else {})


def venue_past_the_log(name: str, address: str | None, journal: str | None, url: str, exchange_id: str) -> Venue:
    """The venue of a log's orders, without that log. A paper exchange that ran inside `orderctl run` is opened by its
    journal; `ValidationError` where there is none, so that an empty exchange is not taken for the account."""
    path = journal or journal_beside(url, exchange_id)
    if address is None and (path is None or not Path(path).exists()):
        found = [Violation("address", "venue", "where the exchange listens, or its journal (--journal)", str(path))]
        raise ValidationError("which venue? there is no exchange's journal there", found)
    return venue_of(name, PaperOptions(address=address, journal=path, speed="step"), url=url, exchange_id=exchange_id)


def journal_beside(url: str, exchange_id: str) -> str | None:
    """Where the paper exchange of a log keeps its journal: beside a file, in the working directory for a database, and
    nowhere for a log in memory."""
    if url.startswith("sqlite:"):
        return f"{sqlite_path(url)}.paper.journal"
    return None if url.startswith("memory:") else f"{exchange_id}.paper.journal"


async def run_paper_exchange(listen: str, options: PaperOptions, *, announce: Say) -> None:
    """Serve a paper exchange until cancelled; the address that it is bound to is announced once."""
    from kernel.venues.paper_server import serve_paper_exchange, speed_of

    exchange = PaperExchangeOptions(
        tape=options.tape,
        symbol=options.symbol,
        seed=options.seed,
        speed=speed_of(options.speed),
        journal=options.journal,
        config=paper_config(options),
    )
    await serve_paper_exchange(listen, options=exchange, announce=announce)


def read_config(path: str | Path) -> dict[str, Any]:
    """A configuration file (TOML): keys as the options of `run`, a table `kernel` of its settings, one of pre-trade limits.

    `[limits]` is for every symbol, `[limits.symbols.BTCUSDT]` has what is different in one. Amounts are decimals as text,
    in the symbol's own units: symbols and their scales are not known yet, and one default is for all of them.

    Raises `ValidationError` for a file that can't be read and for keys that mean nothing.
    """
    try:
        found = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as problem:
        raise ValidationError(f"the configuration {path} can't be read: {problem}") from problem
    known = {*RUN_KEYS, "kernel", "limits"}
    wrong = [(key, known) for key in found if key not in known]
    table = found.get("kernel", {})
    if not isinstance(table, dict):
        raise ValidationError(f"{path}: [kernel] is a table of settings")
    if "limits" in table:
        raise ValidationError(f"{path}: limits are a table of their own, [limits]")
    limits_of(found.get("limits", {}), path)
    if lists := [key for key, value in found.items() if key in RUN_KEYS and not isinstance(value, str | int | float)]:
        problems = [Violation(key, "type", "a text or a number", str(path)) for key in lists]
        raise ValidationError(f"the configuration {path} is not understood", problems)
    wrong += [
        (f"kernel.{key}", set(KernelSettings.model_fields)) for key in table if key not in KernelSettings.model_fields
    ]
    if wrong:
        problems = [Violation(key, "key", f"one of {', '.join(sorted(names))}", str(path)) for key, names in wrong]
        raise ValidationError(f"the configuration {path} is not understood", problems)
    return found


def limits_of(table: Any, source: str | Path) -> LimitSettings:
    """The table `limits` of a configuration file as settings. `ValidationError` for what means nothing."""
    if not isinstance(table, dict):
        raise ValidationError(f"{source}: [limits] is a table of limits")
    default = {key: value for key, value in table.items() if key != "symbols"}
    try:
        return LimitSettings.model_validate({"default": default, "symbols": table.get("symbols", {})})
    except pydantic.ValidationError as problem:
        raise ValidationError(f"the limits of {source} are not understood", violations_of(problem)) from problem


def settings_over(
    table: Mapping[str, Any],
    environ: Mapping[str, str],
    *,
    limits: Mapping[str, Any] | None = None,
    external_orders: str | None = None,
) -> KernelSettings:
    """A kernel's settings: an option over environment variables over a file's tables over the defaults."""
    if limits is not None:
        table = {**table, "limits": limits_of(limits, "the configuration")}
    set_outside = {name.upper() for name in environ}
    given = {key: value for key, value in table.items() if SETTINGS_PREFIX + key.upper() not in set_outside}
    if external_orders is not None:
        given["external_orders"] = ExternalOrderPolicy(external_orders.upper())
    return KernelSettings(**given)
