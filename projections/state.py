"""All projections as one: the fold of the log, in memory. `KernelState`'s implementation.

Made by the composition root (and by whoever replays a log), fed by one reader, read by everybody else. `apply` is
synchronous and never looks at a clock; the same events give the same state, today and in ten years. What a batch costs
depends on the batch, never on how much is live.
"""

from __future__ import annotations

import asyncio
import hashlib
import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any

from kernel import events, silence
from kernel.errors import IntegrityError
from kernel.groups import Group
from kernel.lifecycle import Record, evolve
from kernel.models import (
    Evidence,
    FindingKind,
    LookScope,
)
from kernel.silence import HeartbeatEvent
from kernel.state import Applied, joined
from projections import diff, ledger
from projections.digest import canonical
from projections.ended import Keeping
from projections.external import opposite
from projections.folded import Folded
from projections.parts import LetGo

PAST_MAX = 1_000
"""Intents that were let go and can be told of, at most."""


class State(Folded):
    """Everything folded so far, and how the next event changes it."""

    def __init__(self, keeping: Keeping | None = None) -> None:
        super().__init__(keeping)
        self._waiters: list[tuple[int, int, asyncio.Future[None]]] = []
        self._serial = count()
        self._problem: BaseException | None = None
        """What ended the reader."""

    # ------------------------------------------------------------------------------------------------------- folding
    def apply(self, batch: Sequence[events.BaseEvent], recalled: Sequence[events.BaseEvent] = ()) -> Applied:
        """Fold a batch whose first position follows `position`; `IntegrityError` for any other.

        What the batch names and is not in memory (`missing`) has to be handed over: all that was recorded of it up to
        `position`, in order. A batch that goes on beyond a position where something is let go may need `parts_of`.
        """
        if recalled:
            self._take_back(recalled)
        return joined([self._apply_part(part) for part in self.parts_of(batch)])

    def parts_of(self, batch: Sequence[events.BaseEvent]) -> Iterator[Sequence[events.BaseEvent]]:
        """A batch, cut where something may be let go."""
        while batch:
            count = self.keeping.end_of_part(batch[0].position) - batch[0].position + 1
            yield batch[:count]
            batch = batch[count:]

    def missing(self, part: Sequence[events.BaseEvent]) -> frozenset[str]:
        """Streams that a part of a batch goes on with, and that are not in memory."""
        if not self._let_go.intents:
            return frozenset()
        begun: set[str] = set()
        found = set()
        for event in part:
            if event.version == 1:
                begun.add(event.stream_id)
            elif event.stream_id not in begun and self._is_let_go(event.stream_id):
                found.add(event.stream_id)
        return frozenset(found)

    def _is_let_go(self, stream_id: str) -> bool:
        if stream_id.startswith(events.INTENT_STREAM_PREFIX):
            return stream_id.removeprefix(events.INTENT_STREAM_PREFIX) not in self._records
        if stream_id.startswith(events.GROUP_STREAM_PREFIX):
            return stream_id.removeprefix(events.GROUP_STREAM_PREFIX) not in self._groups.by_id
        return False

    def _apply_part(self, part: Sequence[events.BaseEvent]) -> Applied:
        if missing := self.missing(part):
            raise IntegrityError(f"{min(missing)} was let go, and is not handed over", position=part[0].position)
        touched: dict[str, None] = {}
        for event in part:
            envelope = event.envelope
            if envelope.position != self._position + 1:
                raise IntegrityError(f"an event of position {envelope.position} came", position=self._position + 1)
            self._fold(event, envelope, touched)
            self._position = envelope.position
        self._wake()
        differing = tuple(intent_id for intent_id in self._with_followers(touched) if self._note_live(intent_id))
        if self._position % self.keeping.every_positions == 0:
            self._let_go_of_ended()
        return Applied(tuple(touched), differing)

    def _fold(self, event: events.BaseEvent, envelope: events.Envelope, touched: dict[str, None]) -> None:
        stream_id = envelope.stream_id
        if stream_id.startswith(events.INTENT_STREAM_PREFIX):
            intent_id = stream_id.removeprefix(events.INTENT_STREAM_PREFIX)
            self._apply_to_intent(intent_id, event, envelope.position, touched)
        elif stream_id.startswith(events.GROUP_STREAM_PREFIX):
            self._apply_to_group(stream_id.removeprefix(events.GROUP_STREAM_PREFIX), event, touched)
        elif (fold := FOLDS.get(type(event))) is not None:
            fold(self, event)

    # ------------------------------------------------------------------------------------------- letting go, and back
    def _let_go_of_ended(self) -> None:
        """Let go of what is over, but for the newest."""
        while (oldest := self._ended.oldest_beyond(self.keeping.intents_max)) is not None:
            unit, group = self._unit(oldest), self._groups.of(oldest)
            for intent_id in unit:
                self._forget(self._records[intent_id])
            if group is not None:
                self._groups.drop(group)

    def _forget(self, record: Record) -> None:
        intent_id = record.intent_id
        digest = hashlib.sha256(f"{self._let_go.digest}\n{canonical(record)}".encode()).hexdigest()
        self._let_go = LetGo(self._let_go.intents + 1, digest)
        for held in (self._records, self._heard, self._shown):
            held.pop(intent_id, None)
        self._indexes.forget(record)
        self._exposures.forget(intent_id)
        self._ended.drop(intent_id)

    def _take_back(self, recalled: Sequence[events.BaseEvent]) -> None:
        """Hold again what was let go: exactly as it was."""
        past = folded_alone(recalled)
        for intent_id, record in past._records.items():
            self._past.pop(intent_id, None)
            self._records[intent_id] = record
            self._heard[intent_id] = past._heard[intent_id]
            self._indexes.take_over(past._indexes, record)
        self._groups.restore(past._groups.by_id.values(), past._groups.members())
        for intent_id in past._records:
            self._note_ended(intent_id)

    def remember(self, recalled: Sequence[events.BaseEvent]) -> None:
        """Be able to tell of what was let go, without holding it again: for who asks now. `recalled` as in `apply`."""
        past = folded_alone(recalled)
        fresh = {name: record for name, record in past._records.items() if name not in self._records}
        self._past = dict([*self._past.items(), *fresh.items()][-PAST_MAX:])
        for name in fresh:
            self._shown.pop(name, None)
        groups = {name: group for name, group in past._groups.by_id.items() if name not in self._groups.by_id}
        self._past_groups.restore(groups.values(), {k: v for k, v in past._groups.members().items() if v in groups})

    def _with_followers(self, touched: dict[str, None]) -> Iterator[str]:
        """Each intent that a batch touched; and of a group, those that its leader releases, where that begins or ends to
        be at work: what they wait for may come no more."""
        for intent_id in [*touched]:
            was_live = intent_id in self._indexes.live
            yield intent_id
            group = self._groups.of(intent_id)
            if group is None or group.leader != intent_id or was_live == (intent_id in self._indexes.live):
                continue
            for follower in group.intent_ids[1:]:
                touched[follower] = None
                yield follower

    def _note_live(self, intent_id: str) -> bool:
        """Note whether there is something to watch about an intent; whether something is to be done for it."""
        record = self.record(intent_id)
        differs = self._differs(record)
        self._indexes.set_live(record, differs=differs or self.is_held(intent_id))
        self._exposures.mark(intent_id, live=intent_id in self._indexes.live)
        self._note_ended(intent_id)
        return differs

    def _differs(self, record: Record) -> bool:
        """Whether something is to be done; what is not settled always is, which spares deriving the state to compare."""
        if record.unsettled or diff.differs(self, record.intent_id):
            return True
        return self.overfilled_group(record.intent_id) is not None

    def _apply_to_intent(
        self, intent_id: str, event: events.BaseEvent, position: int, touched: dict[str, None]
    ) -> None:
        before = self.record(intent_id)
        after = evolve(before, event)
        self._records[intent_id] = after
        self._heard[intent_id] = position
        self._shown.pop(intent_id, None)
        touched[intent_id] = None
        self._indexes.note(before, after, event, position)
        if (storm := self._storms.note(before, event)) is not None:
            self._gates = self._gates.stormy(*storm)
        if after.orders is not before.orders:
            if self._externals.entries:
                self._adopt(after, event)
            self._book(before, after, event)
            if self._groups.of(intent_id) is not None and after.cum_qty != before.cum_qty:
                self._touch_group(self._groups.note_fill(intent_id, after.cum_qty), touched)
        if isinstance(event, events.IntentCreated):
            self._groups.note_created(event)
        elif after.intent is not before.intent and (group := self._groups.of(intent_id)) is not None:
            self._touch_group(group, touched)
        if isinstance(event, (events.FindingRaised, events.FindingResolved)):  # a union would be made anew each time
            self._finding(event)

    def _apply_to_group(self, group_id: str, event: events.BaseEvent, touched: dict[str, None]) -> None:
        self._groups.apply(group_id, event)
        if isinstance(event, events.FindingRaised | events.FindingResolved):
            self._findings.apply(event)
        if (group := self._groups.by_id.get(group_id)) is None:
            return
        if isinstance(event, events.FindingResolved) and event.evidence is Evidence.OPERATOR:
            self._groups.accept(group, self.group_excess(group))
        self._touch_group(group, touched)

    def _touch_group(self, group: Group, touched: dict[str, None]) -> None:
        for intent_id in group.intent_ids:
            touched[intent_id] = None
            self._shown.pop(intent_id, None)

    def _book(self, before: Record, after: Record, event: events.BaseEvent) -> None:
        if isinstance(event, events.OrderFilled):
            self._exposures.last_prices[event.symbol_id] = event.last_px
        for booking in ledger.bookings(before.orders, after.orders):
            symbol = self._reference.symbol(booking.symbol_id)
            self._ledger.book(booking, symbol, self._reference.decimals, at_ns=event.recorded_at_ns)
            if not after.sends and isinstance(event, events.OrderReport):
                self._ledger.doubt_opening(event.transact_time_ns)

    def _adopt(self, after: Record, event: events.BaseEvent) -> None:
        """What an intent has is no longer external; its trades are booked as the intent's, once, when they come as such."""
        for facts in after.orders:
            entry = self._externals.drop(facts.exchange_order_id) if facts.exchange_order_id else None
            for booking in entry.trades.values() if entry is not None else ():
                self._book_foreign(opposite(booking), event)

    def _book_foreign(self, booking: ledger.Booking, event: events.BaseEvent) -> None:
        symbol = self._reference.symbol(booking.symbol_id)
        self._ledger.book_foreign(booking, symbol, self._reference.decimals, at_ns=event.recorded_at_ns)

    def _external_observed(self, event: events.ExternalOrderObserved) -> None:
        for booking in self._externals.apply(event):
            self._book_foreign(booking, event)
            self._ledger.doubt_opening(event.transact_time_ns)

    def _log_created(self, event: events.LogCreated) -> None:
        self._log_id = event.log_id
        self._exchange_id = event.exchange_id
        self._created_at_ns = event.recorded_at_ns

    def _leader_elected(self, event: events.LeaderElected) -> None:
        self._epoch = event.epoch

    def _kernel_started(self, event: events.KernelStarted) -> None:
        self._recorded_limits = event.settings.get("limits") or {}
        self._storms.start(event.settings)
        self._ledger.lag_ns = account_lag_ns(event.capabilities)

    def _capabilities_changed(self, event: events.CapabilitiesChanged) -> None:
        self._ledger.lag_ns = account_lag_ns(event.capabilities)

    def _all_paused(self, event: events.Paused) -> None:
        if event.intent_id is None:
            self._gates = self._gates.paused(event)

    def _all_resumed(self, event: events.Resumed) -> None:
        if event.intent_id is None:
            self._gates = self._gates.resumed(event)

    def _snapshot_taken(self, event: events.VenueSnapshotTaken) -> None:
        if LookScope.TRADES in event.scopes and event.trades_cursor_ns is not None:
            self._trades_cursor_ns = max(self._trades_cursor_ns or 0, event.trades_cursor_ns)
        if LookScope.OPEN_ORDERS in event.scopes and event.began_ns > self._confirmed[0]:
            self._confirmed = (event.began_ns, event.ended_ns)

    def _balances_observed(self, event: events.BalancesObserved) -> None:
        self._balances_at_ns = event.ended_ns
        self._ledger.observe(event.balances, began_ns=event.began_ns, ended_ns=event.ended_ns)

    def _position_observed(self, event: events.PositionObserved) -> None:
        self._ledger.observe_position(event.symbol_id, event.quantity, began_ns=event.observed_at_ns)

    def _transfer_observed(self, event: events.TransferObserved) -> None:
        if event.transfer_key in self._transfer_keys:
            return
        self._transfer_keys.add(event.transfer_key)
        self._ledger.transfer(event.asset_id, event.amount, self._reference.decimals, at_ns=event.recorded_at_ns)

    def _reference_observed(self, event: events.SymbolObserved | events.AssetObserved) -> None:
        self._reference.apply(event)

    def _heartbeat(self, event: HeartbeatEvent) -> None:
        self._heartbeats[event.owner] = silence.folded(self._heartbeats.get(event.owner), event)

    def _finding(self, event: events.FindingRaised | events.FindingResolved) -> None:
        self._findings.apply(event)
        kind, _, symbol_id = (
            event.finding_id.partition(":") if isinstance(event, events.FindingResolved) else ("", "", "")
        )
        if kind == FindingKind.STORM:
            self._storms.resolve(symbol_id)
            self._gates = self._gates.calm(symbol_id)
        if kind == FindingKind.POSITION_DRIFT and event.evidence is Evidence.OPERATOR:
            self._ledger.accept_position(symbol_id)

    # ------------------------------------------------------------------------------------------------------- waiting
    async def reached(self, position: int) -> None:
        """Return once `position` has been applied. Raises what `fail` was told."""
        if position <= self._position:
            return
        if self._problem is not None:
            raise self._problem
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiters, (position, next(self._serial), waiter))
        await waiter

    def fail(self, problem: BaseException) -> None:
        """Nothing more will be applied: whoever waits, now or later, gets this problem."""
        self._problem = problem
        for _, _, waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(problem)
        self._waiters.clear()

    def _wake(self) -> None:
        while self._waiters and self._waiters[0][0] <= self._position:
            _, _, waiter = heapq.heappop(self._waiters)
            if not waiter.done():
                waiter.set_result(None)


def folded_alone(recalled: Sequence[events.BaseEvent]) -> State:
    """What a few streams come to by themselves; only what is known of their intents and groups is of use."""
    state = State()
    touched: dict[str, None] = {}
    for event in recalled:
        state._fold(event, event.envelope, touched)
    return state


def account_lag_ns(capabilities: Mapping[str, Any]) -> int:
    """How long after a change a venue may still show the account as it was, the clocks' differences included."""
    lags = capabilities.get("read_lag") or {}
    return int(max(lags.values(), default=0) + 2 * capabilities.get("clock_skew_ns", 0))


FOLDS: dict[type[events.BaseEvent], Callable[..., None]] = {
    events.LogCreated: State._log_created,
    events.LeaderElected: State._leader_elected,
    events.KernelStarted: State._kernel_started,
    events.CapabilitiesChanged: State._capabilities_changed,
    events.Paused: State._all_paused,
    events.Resumed: State._all_resumed,
    events.VenueSnapshotTaken: State._snapshot_taken,
    events.BalancesObserved: State._balances_observed,
    events.PositionObserved: State._position_observed,
    events.TransferObserved: State._transfer_observed,
    events.ExternalOrderObserved: State._external_observed,
    events.SymbolObserved: State._reference_observed,
    events.AssetObserved: State._reference_observed,
    events.FindingRaised: State._finding,
    events.FindingResolved: State._finding,
    events.HeartbeatReceived: State._heartbeat,
    events.HeartbeatLapsed: State._heartbeat,
    events.HeartbeatDisarmed: State._heartbeat,
}
"""How the events of the other streams are folded; those of an intent's stream go through `evolve`."""
