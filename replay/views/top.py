"""The frames of `top`: a kernel's status at an instant, as tables, kept current from the log event by event.

Called by `top_screen`, which draws them. `Watched` recomputes only the intents that new events touched, so a frame costs
what changed, not what is live. The leader's own lag, queue, rate limit and event loop are not in the log and need its
metrics; everything else comes from the log.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from kernel import EventSourcedKernel, events, plan
from kernel.actions import ActionKind
from kernel.clock import NS_PER_S, Clock
from kernel.errors import LogUnavailableError
from kernel.lifecycle.record import Record
from kernel.metrics import PREFIX
from kernel.models import AttemptOutcome
from kernel.safety.readiness import PROJECTIONS_AT_HEAD, Condition, all_hold
from kernel.safety.trading_halts import NOT_PAUSED
from kernel.state import KernelState
from kernel.subscriptions import symbol_id_of
from replay.formatting.output import NONE, age
from replay.views.differences import IN_SYNC, action_text, actual_text, desired_text, next_action, next_try
from replay.views.health import (
    HealthInputs,
    LeaderStatus,
    conditions_of,
    leader_after,
    newest_complete_snapshot,
    open_findings,
)
from replay.views.resources import RenderContext, render_context

BUSY_S = 60
"""Window of the busiest symbols, in seconds."""
RECENT_EVENTS = 5_000
"""Events before the first frame that are read to fill that window."""
SLICE = 100
"""Intents recomputed between two yields to the event loop."""
ROWS_MAX = 10
"""Rows of each table."""
LEADERS_OWN = (
    "projection_lag_events", "projection_lag_seconds", "pending_reconciliations", "workqueue_depth",
    "workqueue_longest_running_processor_seconds", "event_loop_lag_seconds", "relist_age_seconds",
    "venue_stream_last_report_age_seconds",
)  # fmt: skip
"""The leader's metrics that are not in the log."""
BUDGET = "budget"
"""Part of the name of every rate-limit metric."""

Rows = tuple[tuple[str, ...], ...]
Numbers = Mapping[str, float]
"""A leader's metrics: name with labels, and value."""


class Gap(msgspec.Struct, frozen=True):
    """An intent that differs from its actual order."""

    intent_id: str
    kind: ActionKind
    since_ns: int


class ScreenTable(NamedTuple):
    title: str
    columns: tuple[str, ...]
    rows: Rows
    none: str = ""
    """Shown instead of rows; empty: a table without rows is left out."""


class Frame(msgspec.Struct, frozen=True):
    """Everything shown at one instant."""

    facts: Rows
    """Label and value."""
    tables: tuple[ScreenTable, ...]
    ready: bool
    notes: tuple[str, ...] = ()
    """The missing conditions, each with its reason."""


@dataclass
class Watched:
    """Values kept between two frames."""

    leader: LeaderStatus = field(default_factory=LeaderStatus)
    snapshot: events.VenueSnapshotTaken | None = None
    paused_since_ns: int = 0
    """When the newest pause or resume of everything was recorded."""
    at_head_since_ns: int | None = None
    gaps: dict[str, Gap] = field(default_factory=dict)
    unknown: set[str] = field(default_factory=set)
    """Intents with an unknown attempt."""
    changed: dict[str, int] = field(default_factory=dict)
    """Intents to recompute, and when they first changed."""
    busy: deque[tuple[int, Counter[str], Counter[str]]] = field(default_factory=deque)
    """Events and fills of each symbol, by second."""

    def note(self, batch: Sequence[events.BaseEvent], *, before: int = 0) -> None:
        """Process a batch of the log; events up to `before` are known already, except for trading."""
        for event in batch:
            self._count(event)
            if event.position <= before:
                continue
            if event.stream_id == events.CONTROL_STREAM:
                self.control(event)
            elif event.stream_id == events.VENUE_STREAM and isinstance(event, events.VenueSnapshotTaken):
                self.snapshot = event if event.complete else self.snapshot
            elif event.stream_id.startswith(events.INTENT_STREAM_PREFIX):
                intent_id = event.stream_id.removeprefix(events.INTENT_STREAM_PREFIX)
                self.changed.setdefault(intent_id, event.recorded_at_ns)

    def control(self, event: events.BaseEvent) -> None:
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

    def drop_old(self, now_ns: int) -> None:
        while self.busy and self.busy[0][0] < now_ns // NS_PER_S - BUSY_S:
            self.busy.popleft()

    def recompute(self, state: KernelState, intent_id: str, changed_ns: int) -> None:
        """Recompute an intent, and the intents of its group: fills of one affect the others."""
        group = state.group_of(intent_id)
        for name in group.intent_ids if group is not None else (intent_id,):
            self._recompute(state, name, changed_ns)

    def _recompute(self, state: KernelState, intent_id: str, changed_ns: int) -> None:
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
    """When an intent's difference may have begun: its oldest unresolved attempt, else its last update."""
    stamps = [attempt.stamp_ns for attempt in record.unresolved]
    return min(stamps, default=record.intent.updated_at_ns if record.intent is not None else record.last_report_ns)


class Top:
    """Follows one log and makes frames of it; whether its kernel leads makes no difference."""

    def __init__(self, kernel: EventSourcedKernel, *, clock: Clock) -> None:
        self._kernel = kernel
        self._clock = clock
        self.watched = Watched()
        self._began_at = 0

    async def begin(self) -> None:
        """Compute everything that is live, once."""
        state = self._kernel.state
        self._began_at = state.position
        for event in await self._kernel.log.read_stream(events.CONTROL_STREAM):
            if event.position <= self._began_at:
                self.watched.control(event)
        self.watched.snapshot = await newest_complete_snapshot(self._kernel.log)
        for intent_id in state.live_intent_ids():
            self.watched.changed.setdefault(intent_id, began_ns(state.record(intent_id)))

    async def follow(self, *, to_the_head: bool = False) -> None:
        """Process the log's events: without end, or until the events present at the beginning are processed."""
        async for batch in self._kernel.log.tail(max(0, self._began_at - RECENT_EVENTS)):
            await self._kernel.state.reached(batch[-1].position)
            self.watched.note(batch, before=self._began_at)
            if to_the_head and batch[-1].position >= self._began_at:
                return

    async def frame(self, numbers: Numbers | None = None, *, notes: Sequence[str] = ()) -> Frame:
        """Return the current frame; `numbers` are a leader's metrics, if available."""
        await self._recompute()
        seen, unavailable = await self._sample()
        return frame(self.watched, self._kernel.state, seen, numbers=numbers, notes=(*unavailable, *notes))

    async def _recompute(self) -> None:
        changed, self.watched.changed = self.watched.changed, {}
        for number, (intent_id, changed_ns) in enumerate(changed.items(), start=1):
            self.watched.recompute(self._kernel.state, intent_id, changed_ns)
            if number % SLICE == 0:
                await asyncio.sleep(0)

    async def _sample(self) -> tuple[HealthInputs, tuple[str, ...]]:
        """Read the lease and the log's head; an unreachable log becomes a note."""
        watched, state = self.watched, self._kernel.state
        held, head = False, state.position
        notes: tuple[str, ...] = ()
        try:
            held = await self._kernel.log.lease_is_held()
            head = (await self._kernel.log.head()).position
        except LogUnavailableError as problem:
            notes = (f"the log is unavailable, showing the last known state: {problem}",)
        now_ns = self._clock.now_ns()
        watched.drop_old(now_ns)
        if state.position < head or notes:
            watched.at_head_since_ns = None
        elif watched.at_head_since_ns is None:
            watched.at_head_since_ns = now_ns
        seen = HealthInputs(watched.leader, held, watched.snapshot, state.position, head, now_ns)
        return seen, notes


def frame(
    watched: Watched,
    state: KernelState,
    seen: HealthInputs,
    *,
    numbers: Numbers | None = None,
    notes: Sequence[str] = (),
) -> Frame:
    context = render_context(state, seen.now_ns)
    conditions = [since(watched, item, seen.now_ns) for item in conditions_of(seen, state)]
    tables = (
        conditions_table(conditions, seen.now_ns),
        budget_table(numbers or {}),
        leader_table(numbers or {}),
        gaps_table(watched, context),
        unknown_table(watched, context),
        symbols_table(watched, context),
        heartbeats_table(context),
    )
    missing = (
        ()
        if numbers is not None
        else ("the leader's own lag, queue and rate limit are not in the log: give --metrics URL",)
    )
    ready = all_hold(conditions)
    return Frame(facts(watched, state, seen, ready=ready), tables, ready, (*notes, *missing))


def facts(watched: Watched, state: KernelState, seen: HealthInputs, *, ready: bool) -> Rows:
    leads = f"epoch {seen.leader.epoch}, {seen.leader.holder}" if seen.held else "none"
    lag = seen.head - seen.position
    open_orders = sum(state.open_orders(symbol.symbol_id) for symbol in state.symbols())
    return (
        ("Exchange:", state.exchange_id),
        ("Ready:", "yes" if ready else "no"),
        ("Leader:", leads),
        ("Position:", f"{seen.position}" + (f", {lag} behind the log" if lag > 0 else "")),
        ("Open orders:", str(open_orders)),
        ("Out of sync:", str(len(watched.gaps))),
        ("Unknown attempts:", str(len(watched.unknown))),
        ("Open findings:", str(len(open_findings(state.findings())))),
    )


def since(watched: Watched, condition: Condition, now_ns: int) -> Condition:
    """Set the instant since which a condition has its status; 0 if the log does not show it."""
    known_ns = 0 if condition.since_ns == now_ns else condition.since_ns
    remembered = {NOT_PAUSED: watched.paused_since_ns, PROJECTIONS_AT_HEAD: watched.at_head_since_ns or 0}
    return replace(condition, since_ns=remembered.get(condition.type, known_ns))


def conditions_table(conditions: Iterable[Condition], now_ns: int) -> ScreenTable:
    rows = tuple(
        (item.type, "yes" if item.status else "NO", item.reason, age(item.since_ns, now_ns) if item.since_ns else "-",
         item.message)
        for item in conditions
    )  # fmt: skip
    return ScreenTable("Conditions", ("CONDITION", "HOLDS", "REASON", "SINCE", "MESSAGE"), rows)


def budget_table(numbers: Numbers) -> ScreenTable:
    used = ((name.removeprefix(PREFIX), value) for name, value in numbers.items() if BUDGET in name and value)
    rows = tuple((name, f"{value:.6g}") for name, value in used)
    return ScreenTable("Rate limit", ("METRIC", "VALUE"), rows)


def leader_table(numbers: Numbers) -> ScreenTable:
    """The metrics that only the leader knows."""
    bare = ((name.removeprefix(PREFIX), value) for name, value in numbers.items())
    rows = tuple((name, f"{value:.6g}") for name, value in bare if name.partition("{")[0] in LEADERS_OWN)
    return ScreenTable("Leader", ("METRIC", "VALUE"), rows)


def gaps_table(watched: Watched, context: RenderContext) -> ScreenTable:
    """The intents that have differed for longest, and the next action for each."""
    worst = heapq.nsmallest(ROWS_MAX, watched.gaps.values(), key=lambda gap: (gap.since_ns, gap.intent_id))
    more = f" ({len(worst)} of {len(watched.gaps)})" if len(worst) < len(watched.gaps) else ""
    columns = ("INTENT", "DIFFERENCE", "FOR", "DESIRED", "ACTUAL", "NEXT", "WHEN")
    rows = tuple(gap_row(context, gap) for gap in worst)
    return ScreenTable(f"Longest out of sync{more}", columns, rows, none=IN_SYNC)


def gap_row(context: RenderContext, gap: Gap) -> tuple[str, ...]:
    intent = context.state.effective_intent(gap.intent_id)
    order = context.state.observed_order(gap.intent_id)
    return (
        gap.intent_id,
        gap.kind,
        age(gap.since_ns, context.now_ns),
        desired_text(context, intent),
        actual_text(context, order),
        action_text(context, next_action(context, gap.intent_id)),
        str(next_try(context, gap.intent_id, gap.kind)),
    )


def unknown_table(watched: Watched, context: RenderContext) -> ScreenTable:
    """Unknown attempts, oldest first."""
    found = [
        (attempt.stamp_ns, intent_id, attempt)
        for intent_id in watched.unknown
        for attempt in context.state.record(intent_id).attempts
        if attempt.outcome is AttemptOutcome.UNKNOWN
    ]
    oldest = heapq.nsmallest(ROWS_MAX, found, key=lambda item: item[:2])
    rows = tuple(
        (intent_id, attempt.kind, str(attempt.number), age(stamp_ns, context.now_ns), attempt.client_order_id,
         attempt.text or "-")
        for stamp_ns, intent_id, attempt in oldest
    )  # fmt: skip
    return ScreenTable("Unknown attempts", ("INTENT", "KIND", "NUMBER", "AGE", "CLIENT-ID", "TEXT"), rows, none="none")


def symbols_table(watched: Watched, context: RenderContext) -> ScreenTable:
    total: Counter[str] = Counter()
    filled: Counter[str] = Counter()
    for _, counted, fills in watched.busy:
        total.update(counted)
        filled.update(fills)
    positions = {item.symbol_id: item.quantity for item in context.state.positions()}
    rows = tuple(
        (symbol_id, str(count), str(filled[symbol_id]), str(context.state.open_orders(symbol_id)),
         context.scales.quantity(symbol_id, positions.get(symbol_id, 0)))
        for symbol_id, count in sorted(total.items(), key=lambda item: (-item[1], item[0]))[:ROWS_MAX]
    )  # fmt: skip
    columns = ("SYMBOL", "EVENTS", "FILLS", "OPEN", "POSITION")
    return ScreenTable(f"Busiest symbols (last {BUSY_S} s)", columns, rows, none="no events")


def heartbeats_table(context: RenderContext) -> ScreenTable:
    """Owners with a heartbeat, lapsed ones first."""
    beats = sorted(context.state.heartbeats.values(), key=lambda beat: (not beat.lapsed, beat.owner))
    rows = tuple(
        (beat.owner or NONE, f"{beat.ttl_ns / NS_PER_S:g}s", "LAPSED" if beat.lapsed else "ALIVE",
         age(beat.recorded_at_ns, context.now_ns))
        for beat in beats
        if beat.ttl_ns is not None
    )  # fmt: skip
    return ScreenTable("Heartbeats", ("OWNER", "TTL", "STATUS", "RECORDED"), rows[:ROWS_MAX])
