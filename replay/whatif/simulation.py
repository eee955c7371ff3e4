"""Forks a log, simulates what follows with and without changes, and compares that with the recorded outcome.

Called by `orderctl what-if` and by library users. The rows up to the fork are copied byte for byte into a log in memory
with the same id, so client order ids are the same; the log itself is only read. The whole kernel runs on virtual time at a
paper exchange that begins as the log leaves the venue (`venue_seed`), and the commands after the fork are given again at
their instants (`command_replay`).

A log knows of the later market only our own fills, so these are its trades unless a tape is given; it knows no latencies,
so requests take no time. The run without changes shows the effect of that model, the difference between the two runs the
effect of the changes. The same log, changes and seed give the same outcome. The rows and the state are held in memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pydantic
from msgspec.structs import replace

from kernel import EventSourcedKernel, events
from kernel.clock import NS_PER_MS, NS_PER_S, LoopClock, SeededIds
from kernel.errors import KernelError, ValidationError, Violation
from kernel.log import LogSettings
from kernel.log.backends.memory import MemoryLog, MemoryRecorder
from kernel.log.base import EventLog, StoredRow
from kernel.log.engine.recorder import LAYOUT_VERSION, Identity
from kernel.log.engine.records import event_of
from kernel.models import Liquidity
from kernel.order_spec import Side
from kernel.settings import KernelSettings
from kernel.streams.rehydration import apply_batch
from kernel.values.edge import violations_of
from kernel.venues import PaperVenue
from kernel.venues.base import VenueCapabilities
from kernel.venues.paper.exchange import PaperExchange
from kernel.venues.paper.faults import Fault, FaultPlan
from kernel.venues.paper.matching.config import PaperExchangeOptions, TapeTrade
from kernel.venues.paper.matching.market import AHEAD_WINDOW_NS
from projections.state import State
from replay.decisions.recorded_leader import RecordedLeader, recorded_capabilities, recorded_settings
from replay.formatting.decimals import Scales
from replay.formatting.progress_bar import Progress
from replay.host.bootstrap import open_kernel
from replay.log_access.log_reader import checked_pages, open_for_reading, point, position_at, recorded_at
from replay.log_access.threads import Stopped, on_loop, until_stopped
from replay.whatif.command_replay import CommandChange, CommandExtractor, TimedCommand, execute, named, with_changes
from replay.whatif.outcomes import Outcome, WhatIf, outcome_of
from replay.whatif.venue_seed import config_like, orders_at
from replay.whatif.virtual_loop import run_virtually

RUN_S_MAX = 86_400 * 31
"""The longest simulated time."""
APPEND_ROWS_MAX = 1_000
"""Rows that are read to find the last event of one append."""


class MarketTrade(msgspec.Struct, frozen=True):
    """Evidence of one of our own fills about the market: a trade against our resting order, or, if we took liquidity, the
    price when our order arrived (`quantity` 0)."""

    at_ns: int
    symbol_id: str
    price: int
    quantity: int


def market_trade(fill: events.OrderFilled, *, sent_ns: int, fork_ns: int, tick_size: int) -> MarketTrade:
    """Return the evidence of a fill; `sent_ns` is when its order was sent, 0 if before the fork."""
    if fill.liquidity is Liquidity.TAKER:
        # The last trade was a tick before the price that we took.
        last_px = fill.last_px - tick_size if fill.side is Side.BUY else fill.last_px + tick_size
        return MarketTrade(max(fork_ns, sent_ns - NS_PER_MS), fill.symbol_id, max(1, last_px), 0)
    at_ns = min(max(fork_ns, fill.transact_time_ns or fill.recorded_at_ns), fill.recorded_at_ns)
    return MarketTrade(at_ns, fill.symbol_id, fill.last_px, fill.last_qty)


@dataclass
class ForkPoint:
    """The state at the fork, and what the log records after it."""

    position: int
    fork_ns: int
    end_ns: int
    identity: Identity
    rows: list[StoredRow]
    state: State
    settings: KernelSettings
    capabilities: VenueCapabilities | None = None
    prices: dict[str, int] = field(default_factory=dict)
    """Symbol to last price."""
    commands: list[TimedCommand] = field(default_factory=list)
    trades: list[MarketTrade] = field(default_factory=list)


class Scenario(msgspec.Struct, frozen=True):
    """The inputs of one run."""

    commands: Sequence[TimedCommand]
    settings: KernelSettings
    venue: PaperExchangeOptions | None
    faults: Sequence[Fault]
    seed: int


async def what_if(
    log: EventLog | str,
    *,
    position: int | None = None,
    time_ns: int | None = None,
    changes: Sequence[CommandChange] = (),
    settings: Mapping[str, Any] | None = None,
    venue: PaperExchangeOptions | None = None,
    faults: Sequence[Fault] = (),
    seed: int = 0,
    run_for_s: float = 60.0,
    exchange_id: str | None = None,
    progress: Progress | None = None,
) -> WhatIf:
    """Fork a log, simulate what follows with and without changes, and compare the outcomes.

    Args:
        log: An open log or a URL. It is not changed.
        position: The fork: the last event that is kept. Default: the head.
        time_ns: The fork as an instant in Unix nanoseconds.
        changes: Commands to drop, alter or add (`command_replay`).
        settings: Settings of the kernel that replace the recorded ones.
        venue: Tape, symbol, speed, seed or rules of the paper exchange. A tape replaces our own fills as the market.
            Symbols, assets and balances are always the log's.
        faults: Faults of the exchange's requests, each applied once.
        seed: Seed of ids, jitter and the synthetic order book.
        run_for_s: Seconds to simulate.
        exchange_id: The exchange account, needed for a URL with several logs.
        progress: Called with the milliseconds simulated and to simulate.

    Raises:
        ValidationError: The fork, a change, a setting or the time is not possible.
        NotFoundError: There is no such log.
        IntegrityError: An event cannot be folded; `position` is the first such.
        SchemaError: Likewise, because this version cannot read it.
    """
    if not 0 < run_for_s <= RUN_S_MAX:
        limit = f"above 0 and at most {RUN_S_MAX} s"
        raise ValidationError(violations=[Violation("run_for_s", "range", limit, f"{run_for_s:g}")])
    async with open_for_reading(log, exchange_id) as found:
        at = await point(found, position=position, time_ns=time_ns)
        fork = await forked(found, at, run_for_s)
        plain = Scenario(fork.commands, fork.settings, None, (), 0)
        commands = with_changes(fork.commands, changes, state=fork.state, fork_ns=fork.fork_ns)
        other = Scenario(commands, with_settings(fork.settings, settings or {}), venue, faults, seed)
        recorded = await as_recorded(found, fork)
    live = frozenset(fork.state.live_intent_ids())
    lost = sum(len(fork.state.record(intent_id).unresolved) for intent_id in live)
    report_progress = on_loop(progress)
    unchanged, changed = [
        await until_stopped(SimulationRun(fork, scenario, live, report_progress).play) for scenario in (plain, other)
    ]
    scales = Scales(fork.state.symbol, fork.state.asset)
    return WhatIf(at, fork.fork_ns, fork.end_ns, recorded, unchanged, changed, lost, scales)


def with_settings(recorded: KernelSettings, others: Mapping[str, Any]) -> KernelSettings:
    """The recorded settings with some replaced. Raises `ValidationError`."""
    try:
        return KernelSettings.model_validate({**recorded.model_dump(mode="json"), **others})
    except pydantic.ValidationError as problem:
        raise ValidationError("the settings are not valid", violations_of(problem)) from problem


async def forked(log: EventLog, position: int, run_for_s: float) -> ForkPoint:
    """The rows up to the fork, the state there, and the commands and trades after it."""
    if position < 1:
        raise ValidationError(f"position {position} has no event: fork at position 1 or later")
    await check_between_appends(log, position)
    fork_ns = await recorded_at(log, position)
    identity = Identity(log.exchange_id, log.log_id, LAYOUT_VERSION)
    end_ns = fork_ns + round(run_for_s * NS_PER_S)
    fork = ForkPoint(position, fork_ns, end_ns, identity, [], State(), KernelSettings.model_construct())
    leader = RecordedLeader()
    async for rows in checked_pages(log, upto=position):
        fork.rows += rows
        for event in map(event_of, rows):
            await apply_batch(log, fork.state, [event])
            leader.apply(event)
            if isinstance(event, events.OrderFilled):
                fork.prices[event.symbol_id] = event.last_px
    await read_on(log, fork, leader)
    if leader.settings is not None:
        fork.settings = recorded_settings(leader.settings)
    if leader.last_capabilities:
        fork.capabilities = recorded_capabilities(leader.last_capabilities)
    return fork


async def check_between_appends(log: EventLog, position: int) -> None:
    """Raise `ValidationError` for a position inside a group of events appended together: the log never ended there."""
    last = None
    async for rows in log.read(position - 1, position + APPEND_ROWS_MAX):
        for row in rows:
            if last is not None and row.command_id != last.command_id:
                break
            last = row
    if last is not None and last.position > position:
        text = "{field} {value} is inside a group of events appended together; use {limit}"
        raise ValidationError(violations=[Violation("position", "append", str(last.position), str(position), text)])


async def read_on(log: EventLog, fork: ForkPoint, leader: RecordedLeader) -> None:
    """Read the commands and trades after the fork; also the first leader, if none recorded its capabilities before."""
    extractor = CommandExtractor()
    sent_ns: dict[str, int] = {}
    end = max(fork.position, await position_at(log, fork.end_ns))
    async for rows in checked_pages(log, after=fork.position, upto=end):
        for event in map(event_of, rows):
            extractor.apply(event)
            if not leader.last_capabilities:
                leader.apply(event)
            if isinstance(event, events.AttemptStarted):
                sent_ns[event.client_order_id] = event.stamp_ns
            if isinstance(event, events.OrderFilled):
                symbol, stamp_ns = fork.state.symbol(event.symbol_id), sent_ns.get(event.client_order_id or "", 0)
                tick_size = symbol.tick_size if symbol is not None else 0
                trade = market_trade(event, sent_ns=stamp_ns, fork_ns=fork.fork_ns, tick_size=tick_size)
                fork.trades.append(trade)
                fork.prices.setdefault(event.symbol_id, event.last_px)
    fork.commands = extractor.commands
    fork.trades.sort(key=lambda trade: trade.at_ns)


async def as_recorded(log: EventLog, fork: ForkPoint) -> Outcome:
    state = State()
    await apply_batch(log, state, [event_of(row) for row in fork.rows])
    touched: set[str] = {*fork.state.live_intent_ids()}
    fills, prices = 0, {**fork.prices}
    end = max(fork.position, await position_at(log, fork.end_ns))
    async for rows in checked_pages(log, after=fork.position, upto=end):
        for event in map(event_of, rows):
            touched.update((await apply_batch(log, state, [event])).touched)
            if isinstance(event, events.OrderFilled):
                fills += 1
                prices[event.symbol_id] = event.last_px
    return outcome_of(state, touched, fills=fills, prices=prices)


class SimulationRun:
    """One run from a fork, on virtual time."""

    def __init__(self, fork: ForkPoint, scenario: Scenario, live: frozenset[str], progress: Progress) -> None:
        self._fork = fork
        self._scenario = scenario
        self._live = live
        self._progress = progress
        self._refused: list[str] = []
        self._stopped: Stopped = lambda: False

    def play(self, stopped: Stopped) -> Outcome:
        """Run the simulation; blocking. Raises `KernelError` if it is stopped."""
        self._stopped = stopped
        return run_virtually(self._play)

    async def _play(self) -> Outcome:
        fork, scenario = self._fork, self._scenario
        clock = LoopClock(origin_ns=fork.fork_ns)
        recorder = MemoryRecorder()
        recorder.restore(fork.identity, [fork.rows])
        log = MemoryLog(recorder, fork.identity, clock=clock, settings=LogSettings())
        exchange = self._exchange(clock)
        await exchange.start()
        positions = {item.symbol_id: item.quantity for item in fork.state.positions()}
        exchange.engine.book.adopt(orders_at(fork.state), positions)
        venue = PaperVenue(exchange=exchange)
        ids = SeededIds(scenario.seed)
        async with open_kernel(log, venue=venue, clock=clock, ids=ids, settings=scenario.settings) as kernel:
            tasks = [
                asyncio.create_task(self._give_commands(kernel, clock)),
                asyncio.create_task(self._trade(exchange, clock)),
            ]
            try:
                await self._pass_time(clock)
            finally:
                for task in tasks:
                    task.cancel()
                ended = await asyncio.gather(*tasks, return_exceptions=True)
            for problem in ended:
                if isinstance(problem, Exception):
                    raise problem
            return self._outcome(kernel, recorder, exchange)

    def _exchange(self, clock: LoopClock) -> PaperExchange:
        """The venue at the fork. Without a tape its market is what our own fills prove (`_trade`)."""
        fork, chosen = self._fork, self._scenario.venue
        options = chosen or PaperExchangeOptions(tape=(), speed="step", seed=self._scenario.seed)
        rules = options.config if chosen is not None and chosen.config != PaperExchangeOptions().config else None
        config = config_like(fork.state, fork.capabilities, fork.prices, rules=rules, clock=clock)
        symbol = options.symbol
        if chosen is None or chosen.tape is None:
            symbol = symbol or config.symbols[0].symbol_id
        options = replace(
            options, tape=() if options.tape is None else options.tape, symbol=symbol, config=config, journal=None
        )
        return PaperExchange(options, clock=clock, faults=FaultPlan(self._scenario.faults))

    async def _pass_time(self, clock: LoopClock) -> None:
        """Let the time pass, in steps that report progress and may stop the run."""
        fork = self._fork
        total_ms = (fork.end_ns - fork.fork_ns) // 1_000_000
        while (now_ns := clock.now_ns()) < fork.end_ns:
            if self._stopped():
                raise KernelError("the simulation was stopped before its end: nothing was written")
            self._progress((now_ns - fork.fork_ns) // 1_000_000, total_ms)
            await clock.sleep_until(min(fork.end_ns, now_ns + NS_PER_S))

    async def _give_commands(self, kernel: EventSourcedKernel, clock: LoopClock) -> None:
        """Give each command at its instant. A refusal is part of the outcome."""
        for item in self._scenario.commands:
            await clock.sleep_until(item.at_ns)
            try:
                await execute(kernel, item.command)
            except KernelError as problem:
                where = f"position {item.position}" if item.position is not None else "added"
                self._refused.append(f"{named(item.command)} ({where}): {problem}")

    async def _trade(self, exchange: PaperExchange, clock: LoopClock) -> None:
        """Trade what the log proves, unless a tape is the market."""
        venue = self._scenario.venue
        if venue is not None and venue.tape is not None:
            return
        tape_ns = self._fork.fork_ns
        for trade in self._fork.trades:
            await clock.sleep_until(trade.at_ns)
            for quantity in (trade.quantity, 0):
                # Far apart in the tape's time, so that these trades put no queue ahead of our orders.
                tape_ns += AHEAD_WINDOW_NS + 1
                trade_tick = TapeTrade(0, trade.price, quantity, tape_ns, buyer_is_maker=False)
                if trade.symbol_id in exchange.engine.book.symbols:  # else the symbol was observed only later
                    exchange.engine.tape_trade(trade.symbol_id, trade_tick)

    def _outcome(self, kernel: EventSourcedKernel, recorder: MemoryRecorder, exchange: PaperExchange) -> Outcome:
        prefix = events.INTENT_STREAM_PREFIX
        after = recorder.rows[self._fork.position :]
        touched = {row[1].removeprefix(prefix) for row in after if row[1].startswith(prefix)}
        fills = sum(row[3] == events.OrderFilled.topic for row in after)
        prices = {symbol_id: exchange.engine.last_price(symbol_id) for symbol_id in exchange.engine.book.symbols}
        return outcome_of(kernel.state, {*self._live, *touched}, fills=fills, prices=prices, refused=self._refused)
