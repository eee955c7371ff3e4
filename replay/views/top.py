"""What `top` shows: how a kernel stands at one instant, as tables; kept up to date from the log, event by event.

Called by `top_screen`, which draws it. `Watched` is what is remembered between two frames: fed with the batches of the
log's tail, it works out again only the intents that those touched, so a frame costs what changed, not what is live. `frame`
is a function of its arguments.

From the log alone: who leads and whether the lease is held, the newest complete snapshot, pauses, findings, silent owners,
what differs and since when, what is unknown, what was traded. In no log, and therefore shown only with a leader's metrics:
how far its own fold is behind, its queue, its rate budget, whether it hears the venue, whether its loop is late.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from kernel import EventSourcedKernel, events, plan
from kernel.actions import ActionKind
from kernel.clock import NS_PER_S, Clock
from kernel.errors import LogUnavailableError
from kernel.lifecycle import Record
from kernel.metrics import PREFIX
from kernel.models import AttemptOutcome
from kernel.safety.readiness import NOT_PAUSED, PROJECTIONS_AT_HEAD, Condition
from kernel.state import KernelState
from kernel.subscriptions import intent_id_of, symbol_id_of
from replay.formatting.decimals import Scales
from replay.formatting.output import NONE, age
from replay.views.differences import action_text, actual_text, desired_text, next_try
from replay.views.health import (
    HealthInputs,
    LeaderStatus,
    conditions_of,
    leader_after,
    newest_complete_snapshot,
    open_findings,
)
from replay.views.resources import RenderContext

BUSY_S = 60
"""The busiest symbols are those of so many seconds."""
RECENT_EVENTS = 5_000
"""So many events before the first frame are gone through for them."""
SLICE = 100
"""Intents worked out before the event loop has its turn."""
DERIVED_STATES_MAX = 10
"""Rows of each table."""
LEADERS_OWN = (
    "projection_lag_events", "projection_lag_seconds", "pending_reconciliations", "workqueue_depth",
    "workqueue_longest_running_processor_seconds", "event_loop_lag_seconds", "relist_age_seconds",
    "venue_stream_last_report_age_seconds",
)  # fmt: skip
"""Of a leader's metrics: what no log tells."""
BUDGET = "budget"
"""In the name of every metric of the rate budget."""

Rows = tuple[tuple[str, ...], ...]
Numbers = Mapping[str, float]
"""A leader's metrics: name, with labels where it has some, and value."""


@dataclass(frozen=True, slots=True)
class Gap:
    """An intent whose wanted and actual sides differ."""

    intent_id: str
    kind: ActionKind
    since_ns: int


class ScreenTable(NamedTuple):
    """Rows under a title."""

    title: str
    columns: tuple[str, ...]
    rows: Rows
    none: str = ""
    """What is said where there are no rows; nothing: then there is no table either."""


@dataclass(frozen=True, slots=True)
class Frame:
    """All that is shown at one instant."""

    facts: Rows
    """Label and value."""
    tables: tuple[ScreenTable, ...]
    ready: bool
    notes: tuple[str, ...] = ()
    """What is not shown, and why."""


# ------------------------------------------------------------------------------------------------------------ remembered
@dataclass
class Watched:
    """What is remembered between two frames."""

    leader: LeaderStatus = field(default_factory=LeaderStatus)
    snapshot: events.VenueSnapshotTaken | None = None
    paused_since_ns: int = 0
    """When pausing or going on was last asked for, for all."""
    at_head_since_ns: int | None = None
    gaps: dict[str, Gap] = field(default_factory=dict)
    unknown: set[str] = field(default_factory=set)
    """Intents of which a request may have happened."""
    changed: dict[str, int] = field(default_factory=dict)
    """Intents to be worked out again, and when they first changed."""
    busy: deque[tuple[int, Counter[str], Counter[str]]] = field(default_factory=deque)
    """By second: events and fills of each symbol."""

    def note(self, batch: Sequence[events.BaseEvent], *, before: int = 0) -> None:
        """A batch of the log. Of what is not after `before`, only trading counts: the rest is known already."""
        for event in batch:
            self._count(event)
            if event.position <= before:
                continue
            if event.stream_id == events.CONTROL_STREAM:
                self.control(event)
            elif event.stream_id == events.VENUE_STREAM and isinstance(event, events.VenueSnapshotTaken):
                self.snapshot = event if event.complete else self.snapshot
            elif event.stream_id.startswith(events.INTENT_STREAM_PREFIX):
                intent_id = intent_id_of(event)
                assert intent_id is not None, "a stream of an intent names it"
                self.changed.setdefault(intent_id, event.recorded_at_ns)

    def control(self, event: events.BaseEvent) -> None:
        """An event of the control stream."""
        self.leader = leader_after(self.leader, event)
        if isinstance(event, events.Paused | events.Resumed) and event.intent_id is None and event.symbol_id is None:
            self.paused_since_ns = event.recorded_at_ns

    def _count(self, event: events.BaseEvent) -> None:
        symbol_id = symbol_id_of(event)
        if symbol_id is None or event.stream_id == events.REFERENCE_STREAM:
            return
        second = event.recorded_at_ns // NS_PER_S
        if not self.busy or self.busy[-1][0] != second:
            self.busy.append((second, Counter(), Counter()))
        self.busy[-1][1][symbol_id] += 1
        if isinstance(event, events.OrderFilled):
            self.busy[-1][2][symbol_id] += 1

    def forget(self, now_ns: int) -> None:
        """Let go of what was traded too long ago."""
        while self.busy and self.busy[0][0] < now_ns // NS_PER_S - BUSY_S:
            self.busy.popleft()

    def work_out(self, state: KernelState, intent_id: str, changed_ns: int) -> None:
        """How an intent stands now, and those of its group: what fills of one bears on the others."""
        group = state.group_of(intent_id)
        for name in group.intent_ids if group is not None else (intent_id,):
            self._work_out(state, name, changed_ns)

    def _work_out(self, state: KernelState, intent_id: str, changed_ns: int) -> None:
        record = state.record(intent_id)
        found = plan.difference(state.effective_intent(intent_id), state.observed_order(intent_id))
        if found is None:
            self.gaps.pop(intent_id, None)
        else:
            known = self.gaps.get(intent_id)
            self.gaps[intent_id] = Gap(intent_id, found.kind, known.since_ns if known else changed_ns)
        is_unknown = any(attempt.outcome is AttemptOutcome.UNKNOWN for attempt in record.attempts)
        (self.unknown.add if is_unknown else self.unknown.discard)(intent_id)


def began_ns(record: Record) -> int:
    """Since when an intent may differ, as far as it tells itself: its oldest open request, else its newest wish."""
    stamps = [attempt.stamp_ns for attempt in record.unresolved]
    return min(stamps, default=record.intent.updated_at_ns if record.intent is not None else record.last_report_ns)


class Top:
    """Follows one log, and makes frames of it."""

    def __init__(self, kernel: EventSourcedKernel, *, clock: Clock) -> None:
        """`kernel` folds the log; whether it leads itself makes no difference."""
        self._kernel = kernel
        self._clock = clock
        self.watched = Watched()
        self._began_at = 0

    async def begin(self) -> None:
        """Look once at all that is live; events from here on bring what changes."""
        state = self._kernel.state
        self._began_at = state.position
        for event in await self._kernel.log.read_stream(events.CONTROL_STREAM):
            if event.position <= self._began_at:
                self.watched.control(event)
        self.watched.snapshot = await newest_complete_snapshot(self._kernel.log)
        for intent_id in state.live_intent_ids():
            self.watched.changed.setdefault(intent_id, began_ns(state.record(intent_id)))

    async def follow(self, *, to_the_head: bool = False) -> None:
        """Note what is in the log and what comes; for ever, or until what was there at the beginning was noted."""
        async for batch in self._kernel.log.tail(max(0, self._began_at - RECENT_EVENTS)):
            await self._kernel.state.reached(batch[-1].position)
            self.watched.note(batch, before=self._began_at)
            if to_the_head and batch[-1].position >= self._began_at:
                return

    async def frame(self, numbers: Numbers | None = None, *, notes: Sequence[str] = ()) -> Frame:
        """How it all stands now. `numbers` are a leader's metrics, where there are some."""
        await self._work_out()
        seen, away = await self._sample()
        return frame(self.watched, self._kernel.state, seen, numbers=numbers, notes=(*away, *notes))

    async def _work_out(self) -> None:
        changed, self.watched.changed = self.watched.changed, {}
        for number, (intent_id, changed_ns) in enumerate(changed.items(), start=1):
            self.watched.work_out(self._kernel.state, intent_id, changed_ns)
            if number % SLICE == 0:
                await asyncio.sleep(0)

    async def _sample(self) -> tuple[HealthInputs, tuple[str, ...]]:
        """What has to be asked for anew: the lease, and where the log ends. A log that is away is told."""
        watched, state = self.watched, self._kernel.state
        held, head = False, state.position
        away: tuple[str, ...] = ()
        try:
            held = await self._kernel.log.lease_is_held()
            head = (await self._kernel.log.head()).position
        except LogUnavailableError as problem:
            away = (f"the log is away, this is the last that was seen: {problem}",)
        now_ns = self._clock.now_ns()
        watched.forget(now_ns)
        if state.position < head or away:
            watched.at_head_since_ns = None
        elif watched.at_head_since_ns is None:
            watched.at_head_since_ns = now_ns
        seen = HealthInputs(watched.leader, held, watched.snapshot, state.position, head, now_ns)
        return seen, away


# -------------------------------------------------------------------------------------------------------------- a frame
def frame(
    watched: Watched,
    state: KernelState,
    seen: HealthInputs,
    *,
    numbers: Numbers | None = None,
    notes: Sequence[str] = (),
) -> Frame:
    """How it all stands, from what is remembered and what was seen. Changes nothing."""
    look = RenderContext(state, Scales(state.symbol, state.asset), seen.now_ns)
    conditions = [since(watched, item, seen.now_ns) for item in conditions_of(seen, state)]
    tables = (
        conditions_table(conditions, seen.now_ns),
        budget_table(numbers or {}),
        leader_table(numbers or {}),
        gaps_table(watched, look),
        unknown_table(watched, look),
        symbols_table(watched, look),
        heartbeats_table(look),
    )
    missing = (
        ()
        if numbers is not None
        else ("the leader's own lag, queue and rate budget are in no log: give --metrics URL",)
    )
    ready = all(item.status for item in conditions)
    return Frame(facts(watched, state, seen, ready=ready), tables, ready, (*notes, *missing))


def facts(watched: Watched, state: KernelState, seen: HealthInputs, *, ready: bool) -> Rows:
    """The lines at the top."""
    leads = f"epoch {seen.leader.epoch}, {seen.leader.holder}" if seen.held else "nobody"
    lag = seen.head - seen.position
    open_orders = sum(state.open_orders(symbol.symbol_id) for symbol in state.symbols())
    return (
        ("Exchange:", state.exchange_id),
        ("Ready:", "yes" if ready else "no"),
        ("Leader:", leads),
        ("Position:", f"{seen.position}" + (f", {lag} behind the log" if lag > 0 else "")),
        ("Open orders:", str(open_orders)),
        ("Not in agreement:", str(len(watched.gaps))),
        ("Unknown:", str(len(watched.unknown))),
        ("Open findings:", str(len(open_findings(state.findings())))),
    )


def since(watched: Watched, condition: Condition, now_ns: int) -> Condition:
    """A condition with the instant that was remembered for it; 0 where the log does not tell since when it is so."""
    known_ns = 0 if condition.since_ns == now_ns else condition.since_ns
    remembered = {NOT_PAUSED: watched.paused_since_ns, PROJECTIONS_AT_HEAD: watched.at_head_since_ns or 0}
    return replace(condition, since_ns=remembered.get(condition.type, known_ns))


def conditions_table(conditions: Iterable[Condition], now_ns: int) -> ScreenTable:
    """Readiness: what holds, and since when."""
    rows = tuple(
        (item.type, "yes" if item.status else "NO", item.reason, age(item.since_ns, now_ns) if item.since_ns else "-",
         item.message)
        for item in conditions
    )  # fmt: skip
    return ScreenTable("Conditions", ("CONDITION", "HOLDS", "REASON", "SINCE", "MESSAGE"), rows)


def budget_table(numbers: Numbers) -> ScreenTable:
    """The rate budget, where the leader counts one."""
    rows = tuple((name.removeprefix(PREFIX), f"{value:.6g}") for name, value in numbers.items() if BUDGET in name)
    return ScreenTable("Rate budget", ("METRIC", "VALUE"), rows)


def leader_table(numbers: Numbers) -> ScreenTable:
    """What only the leader knows of itself."""
    bare = ((name.removeprefix(PREFIX), value) for name, value in numbers.items())
    rows = tuple((name, f"{value:.6g}") for name, value in bare if name.partition("{")[0] in LEADERS_OWN)
    return ScreenTable("Leader", ("METRIC", "VALUE"), rows)


def gaps_table(watched: Watched, look: RenderContext) -> ScreenTable:
    """The intents that have differed for longest: how, and what is tried next."""
    worst = heapq.nsmallest(DERIVED_STATES_MAX, watched.gaps.values(), key=lambda gap: (gap.since_ns, gap.intent_id))
    more = f" ({len(worst)} of {len(watched.gaps)})" if len(worst) < len(watched.gaps) else ""
    columns = ("INTENT", "DIFFERENCE", "FOR", "WANTED", "ACTUAL", "NEXT", "WHEN")
    rows = tuple(gap_row(look, gap) for gap in worst)
    return ScreenTable(f"Furthest from agreement{more}", columns, rows, none="wanted and actual agree")


def gap_row(look: RenderContext, gap: Gap) -> tuple[str, ...]:
    state = look.state
    intent, order = state.effective_intent(gap.intent_id), state.observed_order(gap.intent_id)
    market = intent.order if intent is not None else order.status.order if order is not None else None
    symbol = state.symbol(market.symbol_id) if market is not None else None
    action = plan.plan(intent, order, symbol=symbol, now_ns=look.now_ns, held=state.awaits_parent(gap.intent_id))
    then = next_try(look, gap.intent_id, gap.kind)
    shown = (desired_text(look, intent), actual_text(look, order), action_text(look, action), then)
    return (gap.intent_id, gap.kind, age(gap.since_ns, look.now_ns), *shown)


def unknown_table(watched: Watched, look: RenderContext) -> ScreenTable:
    """The requests that may have happened, oldest first."""
    found = [
        (attempt.stamp_ns, intent_id, attempt)
        for intent_id in watched.unknown
        for attempt in look.state.record(intent_id).attempts
        if attempt.outcome is AttemptOutcome.UNKNOWN
    ]
    oldest = heapq.nsmallest(DERIVED_STATES_MAX, found, key=lambda item: item[:2])
    rows = tuple(
        (intent_id, attempt.kind, str(attempt.number), age(stamp_ns, look.now_ns), attempt.client_order_id,
         attempt.text or "-")
        for stamp_ns, intent_id, attempt in oldest
    )  # fmt: skip
    return ScreenTable("Unknown attempts", ("INTENT", "KIND", "NUMBER", "AGE", "CLIENT-ID", "TEXT"), rows, none="none")


def symbols_table(watched: Watched, look: RenderContext) -> ScreenTable:
    """The symbols with most events of late."""
    total: Counter[str] = Counter()
    filled: Counter[str] = Counter()
    for _, counted, fills in watched.busy:
        total.update(counted)
        filled.update(fills)
    positions = {item.symbol_id: item.quantity for item in look.state.positions()}
    rows = tuple(
        (symbol_id, str(count), str(filled[symbol_id]), str(look.state.open_orders(symbol_id)),
         signed(look, symbol_id, positions.get(symbol_id, 0)))
        for symbol_id, count in sorted(total.items(), key=lambda item: (-item[1], item[0]))[:DERIVED_STATES_MAX]
    )  # fmt: skip
    columns = ("SYMBOL", "EVENTS", "FILLS", "OPEN", "POSITION")
    return ScreenTable(f"Busiest symbols (last {BUSY_S} s)", columns, rows, none="nothing happened")


def signed(look: RenderContext, symbol_id: str, quantity: int) -> str:
    """A position; scales know no sign."""
    text = look.scales.quantity(symbol_id, abs(quantity))
    return f"-{text}" if quantity < 0 else text


def heartbeats_table(look: RenderContext) -> ScreenTable:
    """Owners whose silence cancels their orders; there is no table where nobody is one."""
    beats = sorted(look.state.heartbeats.values(), key=lambda beat: (not beat.lapsed, beat.owner))
    rows = tuple(
        (beat.owner or NONE, f"{beat.ttl_ns / NS_PER_S:g}s", "SILENT" if beat.lapsed else "HEARD",
         age(beat.recorded_at_ns, look.now_ns))
        for beat in beats
        if beat.ttl_ns is not None
    )  # fmt: skip
    return ScreenTable("Heartbeats", ("OWNER", "TTL", "STATUS", "RECORDED"), rows[:DERIVED_STATES_MAX])
