"""All projections as one: the fold of the log, in memory. `KernelState`'s implementation.

Made by the composition root (and by whoever replays a log), fed by one reader, read by everybody else; every answer is
given at once, from memory. It is composed of what is held (`state_data`), of how events change that (`state_fold`), and of
who waits for a position. Nothing here looks at a clock: the same events give the same state and the same answers.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any

from kernel import events
from kernel.commands.place_group import venue_managed_quantity
from kernel.groups import Group, permitted_quantity, quantity_at_risk
from kernel.lifecycle import Record, finding_id, order_state
from kernel.lifecycle.immutable import replace
from kernel.limits import Exposure, OpenRisk
from kernel.models import (
    AccountState,
    Desired,
    Evidence,
    ExternalOrder,
    Finding,
    FindingKind,
    OrderIntent,
    OrderState,
    Position,
)
from kernel.order_spec import AssetMetadata, StandardOrder, SymbolMetadata
from kernel.safety.heartbeat import Heartbeat
from kernel.safety.trading_halts import TradingStatus
from kernel.state import Applied, joined
from projections import diff
from projections.digest import FieldDifference, first_field
from projections.folds import ledger
from projections.retention.policy import RetentionPolicy
from projections.retention.record_cache import Records
from projections.snapshot import StateSnapshot
from projections.state_data import StateData
from projections.state_fold import Fold

DERIVED_STATES_MAX = 1_000
"""Order states that are held once they were derived, at most: each is larger than all else that is held of an intent."""


class PositionWaiters:
    """Who waits for a position to be applied."""

    def __init__(self) -> None:
        self.waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        """A heap: position, order of arrival, and what is set once the position is applied."""
        self._serial = count()
        self._problem: BaseException | None = None
        """What ended the reader."""

    async def wait(self, position: int) -> None:
        """Return once `position` is applied. Raises what `fail` was told."""
        if self._problem is not None:
            raise self._problem
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self.waiting, (position, next(self._serial), waiter))
        await waiter

    def wake(self, position: int) -> None:
        """Everything up to `position` is applied."""
        while self.waiting and self.waiting[0][0] <= position:
            _, _, waiter = heapq.heappop(self.waiting)
            if not waiter.done():
                waiter.set_result(None)

    def fail(self, problem: BaseException) -> None:
        """No more positions will be applied: whoever waits, now or later, gets this problem."""
        self._problem = problem
        for _, _, waiter in self.waiting:
            if not waiter.done():
                waiter.set_exception(problem)
        self.waiting.clear()


class State:
    """Everything folded so far."""

    def __init__(self, retention: RetentionPolicy | None = None) -> None:
        """`keeping`: how much of what is over is held; the same for all folds that are to be alike."""
        self._data = StateData(retention or RetentionPolicy())
        self._fold = Fold(self._data)
        self._waiters = PositionWaiters()

    # ------------------------------------------------------------------------------------------------------- folding
    def apply(self, batch: Sequence[events.BaseEvent], rehydrated: Sequence[events.BaseEvent] = ()) -> Applied:
        """Fold a batch whose first position follows `position`; `IntegrityError` for any other.

        What the batch names and is not in memory (`missing`) has to be handed over: all that was recorded of it up to
        `position`, in order. A batch that goes on beyond a position where something is let go may need `parts_of`.
        """
        if rehydrated:
            self._data.take_back(folded_alone(rehydrated)._data)
        return joined([self._apply_part(part) for part in self.parts_of(batch)])

    def _apply_part(self, part: Sequence[events.BaseEvent]) -> Applied:
        data = self._data
        touched = self._fold.apply(part)
        self._waiters.wake(data.position)
        differing = tuple(intent_id for intent_id in self._with_children(touched) if self._note_live(intent_id))
        if data.position % data.keeping.every_positions == 0:
            data.let_go_of_ended()
        return Applied(tuple(touched), differing)

    def _with_children(self, touched: dict[str, None]) -> Iterator[str]:
        """Each intent that a batch touched; and of a group, those that its leader releases, where that begins or ends to
        be at work: what they wait for may come no more."""
        data = self._data
        for intent_id in [*touched]:
            was_live = intent_id in data.indexes.live
            yield intent_id
            group = data.groups.of(intent_id)
            if group is None or group.parent != intent_id or was_live == (intent_id in data.indexes.live):
                continue
            for follower in group.intent_ids[1:]:
                touched[follower] = None
                yield follower

    def _note_live(self, intent_id: str) -> bool:
        """Note whether there is something to watch about an intent; whether something is to be done for it."""
        data = self._data
        record = data.record(intent_id)
        differs = self._differs(record)
        data.indexes.set_live(record, differs=differs or self.awaits_parent(intent_id))
        data.exposures.mark(intent_id, live=intent_id in data.indexes.live)
        data.note_ended(intent_id)
        return differs

    def _differs(self, record: Record) -> bool:
        """Whether something is to be done; what is not settled always is, which spares deriving the state to compare."""
        if record.unresolved or diff.differs(self, record.intent_id):
            return True
        return self.overfilled_group(record.intent_id) is not None

    def parts_of(self, batch: Sequence[events.BaseEvent]) -> Iterator[Sequence[events.BaseEvent]]:
        """A batch, cut where something may be let go."""
        while batch:
            count = self._data.keeping.end_of_part(batch[0].position) - batch[0].position + 1
            yield batch[:count]
            batch = batch[count:]

    def missing(self, part: Sequence[events.BaseEvent]) -> frozenset[str]:
        """Streams that a part of a batch goes on with, and that are not in memory."""
        return self._data.missing(part)

    def cache_streams(self, rehydrated: Sequence[events.BaseEvent]) -> None:
        """Be able to tell of what was let go, without holding it again: for who asks now. `recalled` as in `apply`."""
        self._data.cache_streams(folded_alone(rehydrated)._data)

    async def reached(self, position: int) -> None:
        """Return once `position` has been applied. Raises what `fail` was told."""
        if position > self._data.position:
            await self._waiters.wait(position)

    def fail(self, problem: BaseException) -> None:
        """Nothing more will be applied: whoever waits, now or later, gets this problem."""
        self._waiters.fail(problem)

    # ------------------------------------------------------------------------------------------------ in and out
    @property
    def retention(self) -> RetentionPolicy:
        """How much of what is over is held."""
        return self._data.keeping

    def records(self) -> Records:
        """Every record that is held, in order of first sight; not to be changed."""
        return self._data.records

    def snapshot(self) -> StateSnapshot:
        """All that is held but the records, copied."""
        return self._data.parts()

    def restore(self, parts: StateSnapshot, records: Iterable[Record]) -> None:
        """Become what `parts` and `records` were taken from; only a new state may."""
        self._data.restore(parts, records)

    def digest(self) -> str:
        """SHA-256 over every field of what is held, in hex: equal folds have equal digests."""
        return self._data.digest()

    def first_difference(self, other: State) -> FieldDifference | None:
        """Where this fold and another part; None where they are equal."""
        return first_field(self._data, other._data)

    # ------------------------------------------------------------------------------------------------ the log
    @property
    def position(self) -> int:
        """Position of the last event applied."""
        return self._data.position

    @property
    def log_id(self) -> str:
        """The log's 64 random bits in hex; empty before the first event."""
        return self._data.log_id

    @property
    def exchange_id(self) -> str:
        """The exchange account; empty before the first event."""
        return self._data.exchange_id

    @property
    def created_at_ns(self) -> int:
        """When the log was created."""
        return self._data.created_at_ns

    @property
    def epoch(self) -> int:
        """Epoch of the newest leader."""
        return self._data.epoch

    @property
    def paused(self) -> bool:
        """Whether sending is paused for all intents."""
        return self._data.gates.every is not None

    @property
    def paused_by(self) -> str:
        """Who paused all intents, and why; empty while they are not paused."""
        return self._data.gates.every.by if self._data.gates.every is not None else ""

    @property
    def trading_status(self) -> TradingStatus:
        """All that holds requests back; the same object until that changes."""
        return self._data.gates

    @property
    def trades_cursor_ns(self) -> int | None:
        """Every trade up to this venue instant is in the log; None before the first complete trades query."""
        return self._data.trades_cursor_ns

    # ------------------------------------------------------------------------------------------------ intents
    def record(self, intent_id: str) -> Record:
        """All that is known of an intent; an empty record for one never heard of."""
        return self._data.record(intent_id)

    def is_loaded(self, intent_id: str) -> bool:
        """Whether all that was ever recorded of an intent can be told from memory. Of one that was let go, or never heard
        of, it can't."""
        return not self._data.let_go.intents or intent_id in self._data.records or intent_id in self._data.past

    @property
    def evicted_count(self) -> int:
        """How many intents that are over were let go so far; what is asked of one has to be read back from the log."""
        return self._data.let_go.intents

    def intent(self, intent_id: str) -> OrderIntent | None:
        """What is wanted."""
        record = self._data.known(intent_id)
        return record.intent if record is not None else None

    def effective_intent(self, intent_id: str) -> OrderIntent | None:
        """What is wanted of it now: the intent, as its group lets it be."""
        return self.grouped_record(intent_id).intent

    def _grouped(self, record: Record) -> Record:
        """A record whose intent wants as much as its group lets it be."""
        group, intent = self._data.group_of(record.intent_id), record.intent
        if group is None or intent is None:
            return record
        if group.native:
            quantity = venue_managed_quantity(record, sent=self.is_known_to_venue(group))
        else:
            quantity = permitted_quantity(group, intent.intent_id, intent.order.quantity)
        return with_quantity(record, quantity)

    def grouped_record(self, intent_id: str) -> Record:
        """All that is known of an intent, which wants as much as its group lets it be."""
        return self._grouped(self._data.record(intent_id))

    def _at_risk_record(self, intent_id: str) -> Record:
        """A record whose intent wants as much as is at stake: what its group lets it be, and of what is yet to be released
        as much as would not only undo what the leader does."""
        record, group = self.grouped_record(intent_id), self._data.group_of(intent_id)
        if group is None or not self.awaits_parent(intent_id) or record.intent is None:
            return record
        leader = self._data.record(group.intent_ids[0])
        left = max(0, leader.wanted_most - leader.cum_qty)
        intents = [(name, self.intent(name)) for name in group.intent_ids]
        wanted = {name: intent.order.quantity for name, intent in intents if intent is not None}
        more = quantity_at_risk(group, intent_id, wanted, parent_left=left)
        return with_quantity(record, record.intent.order.quantity + more)

    def group(self, group_id: str) -> Group | None:
        """A group; None for one that was not created by `place_order_group`."""
        return self._data.groups.by_id.get(group_id) or self._data.past_groups.by_id.get(group_id)

    def group_of(self, intent_id: str) -> Group | None:
        """The group that an intent belongs to."""
        return self._data.group_of(intent_id)

    def groups(self) -> Iterable[Group]:
        """Every group, in order of creation."""
        return list(self._data.groups.by_id.values())

    def is_known_to_venue(self, group: Group) -> bool:
        """Whether the venue ever had an order of a group."""
        return any(self._data.record(intent_id).orders for intent_id in group.intent_ids)

    def awaits_parent(self, intent_id: str) -> bool:
        """Whether its group's leader may still release more of it than it may be now."""
        group, record = self._data.group_of(intent_id), self._data.record(intent_id)
        if group is None or group.parent in (None, intent_id) or group.parent not in self._data.indexes.live:
            return False
        if group.native:
            return False
        intent = record.intent
        if intent is None or intent.desired is Desired.CANCELED or record.failed_generation == intent.generation:
            return False
        return permitted_quantity(group, intent_id, intent.order.quantity) < intent.order.quantity

    def overfilled_group(self, intent_id: str) -> Group | None:
        """The group of an intent, where whether more has filled than it allows is not told as it is. What an operator has
        dealt with is not told again."""
        group = self._data.group_of(intent_id)
        if group is None:
            return None
        stands = self._data.findings.is_open(finding_id(FindingKind.GROUP_OVERFILL, group.group_id))
        return group if stands != (self.group_excess(group) > group.excess_accepted) else None

    def group_excess(self, group: Group) -> int:
        """How much more has filled than a group allows, at the quantity scale."""
        return self._data.group_excess(group)

    def order_state(self, intent_id: str) -> OrderState | None:
        """What is there. A complete list of open orders confirms a live order, without an event of its own."""
        record = self._data.known(intent_id)
        if record is None:
            return None
        if intent_id not in self._data.shown:
            if len(self._data.shown) >= DERIVED_STATES_MAX:
                self._data.shown.clear()
            self._data.shown[intent_id] = order_state(self._grouped(record))
        return self._confirmed_state(record, self._data.shown[intent_id])

    def observed_order(self, intent_id: str) -> OrderState | None:
        """What is there, forgotten by a store or not. None when nothing was ever sent or seen."""
        record = self._data.known(intent_id)
        if record is None or record.has_order or not (record.current_orders or record.attempts):
            return self.order_state(intent_id)
        return order_state(self._grouped(replace(record, has_order=True)))

    def _confirmed_state(self, record: Record, state: OrderState | None) -> OrderState | None:
        began_ns, ended_ns = self._data.confirmed
        if state is None or record.recorded is not None or ended_ns // 1_000_000_000 <= state.last_sync_at:
            return state
        live = record.live_orders
        if not live or any(facts.first_seen_ns >= began_ns for facts in live):
            return state
        return state.model_copy(update={"last_sync_at": ended_ns // 1_000_000_000})

    def intents(self) -> Iterable[OrderIntent]:
        """Every intent, in order of creation."""
        return self._intents_of(self._data.indexes.created)

    def intents_of_symbol(self, symbol_id: str) -> Iterable[OrderIntent]:
        """Those of a symbol, in order of creation."""
        return self._intents_of(self._data.indexes.by_symbol.get(symbol_id, {}))

    def intents_of_group(self, group_id: str) -> Iterable[OrderIntent]:
        """Those of a group, in order of creation."""
        return self._intents_of(self._data.indexes.by_group.get(group_id, {}))

    def _intents_of(self, intent_ids: Iterable[str]) -> Iterable[OrderIntent]:
        ordered = sorted(intent_ids, key=self._data.indexes.created.__getitem__)
        return (intent for intent_id in ordered if (intent := self.intent(intent_id)) is not None)

    def order_states(self) -> Iterable[OrderState]:
        """Every order state, in order of creation."""
        ordered = self._data.indexes.in_order(self._data.indexes.with_order)
        return (state for intent_id in ordered if (state := self.order_state(intent_id)) is not None)

    def live_intent_ids(self) -> list[str]:
        """Intents that differ from what is there, or whose order may be live or is not settled; in order of creation."""
        return self._data.indexes.live_in_order()

    def intent_id_of(self, *, client_order_id: str | None = None, exchange_order_id: str | None = None) -> str | None:
        """The intent whose order carries one of these ids. The venue's id decides where both are known."""
        by_venue = self._data.indexes.by_exchange_order_id.get(exchange_order_id or "")
        return by_venue or self._data.indexes.by_client_order_id.get(client_order_id or "")

    def open_orders(self, symbol_id: str) -> int:
        """How many intents have, or may have, an order open at the venue in a symbol."""
        return len(self._data.indexes.open.get(symbol_id, {}))

    # ------------------------------------------------------------------------------------------------ what is at stake
    @property
    def recorded_limits(self) -> Mapping[str, Any]:
        """The pre-trade limits of the newest kernel that led, as it recorded them; the same object until another does."""
        return self._data.recorded_limits

    @property
    def heartbeats(self) -> Mapping[str, Heartbeat]:
        """Owners that have ever armed their heartbeat, by name."""
        return self._data.heartbeats

    def symbol_exposure(self, symbol_id: str) -> Exposure:
        """What works, may work or is wanted in a symbol, with its position and last price: what changed since it was last
        asked for is worked out, nothing else."""
        position = self._data.ledger.positions.get(symbol_id)
        quantity = position.quantity if position is not None else 0
        return self._data.exposures.of_symbol(symbol_id, position=quantity, record=self._at_risk_record)

    def open_risk(self, intent_id: str, order: StandardOrder) -> OpenRisk | None:
        """What an intent may still come to in an order's symbol and on its side; None when nothing."""
        found = self._data.exposures.of_intent(intent_id, record=self._at_risk_record)
        return next((item for item in found if (item.symbol_id, item.side) == (order.symbol_id, order.side)), None)

    # ------------------------------------------------------------------------------------------------ the rest
    def symbol(self, symbol_id: str) -> SymbolMetadata | None:
        """A symbol, as last observed."""
        return self._data.reference.symbol(symbol_id)

    def symbols(self) -> Iterable[SymbolMetadata]:
        """Every symbol, by id."""
        return self._data.reference.symbols()

    def asset(self, asset_id: str) -> AssetMetadata | None:
        """An asset, as last observed."""
        return self._data.reference.asset(asset_id)

    def assets(self) -> Iterable[AssetMetadata]:
        """Every asset, by id."""
        return self._data.reference.assets()

    def positions(self) -> Iterable[Position]:
        """Every position with a fill, by symbol."""
        return [
            ledger.position_of_holding(symbol_id, item)
            for symbol_id, item in sorted(self._data.ledger.positions.items())
        ]

    def account(self) -> AccountState:
        """The account as last observed."""
        known = self._data.balances_at_ns is not None
        return AccountState(
            exchange_id=self._data.exchange_id,
            balances=self._data.ledger.observed,
            evidence=Evidence.QUERY if known else None,
            observed_at_ns=self._data.balances_at_ns,
        )

    def findings(self) -> Iterable[Finding]:
        """Findings, open and resolved, in the order raised."""
        return self._data.findings.all()

    def finding(self, finding_id: str) -> Finding | None:
        """The finding of an id, open or resolved; None when it was never raised."""
        return self._data.findings.get(finding_id)

    def position_drift(self) -> dict[str, int]:
        """Symbol → observed position less what fills and others' trades come to; only what differs."""
        return dict(self._data.ledger.position_drift)

    def external_orders(self) -> Iterable[ExternalOrder]:
        """Orders at the venue that are nobody's intent, in the order in which they were last heard of."""
        return [entry.order for entry in self._data.externals.entries.values()]

    def external_order(self, exchange_order_id: str) -> ExternalOrder | None:
        """One of them."""
        entry = self._data.externals.entries.get(exchange_order_id)
        return entry.order if entry is not None else None

    def balance_drift(self) -> dict[str, int]:
        """Asset → observed total less what the opening balance, fills and transfers come to; only what differs."""
        return dict(self._data.ledger.drift)

    def expected_balances(self) -> dict[str, int] | None:
        """Asset → what the opening balance, fills and transfers come to; None before balances were first observed."""
        return self._data.ledger.expected()


def folded_alone(rehydrated: Sequence[events.BaseEvent]) -> State:
    """What a few streams come to by themselves; only what is known of their intents and groups is of use."""
    state = State()
    touched: dict[str, None] = {}
    for event in rehydrated:
        state._fold.fold(event, event.envelope, touched)
    return state


def with_quantity(record: Record, quantity: int) -> Record:
    """A record whose intent wants so much."""
    intent = record.intent
    if intent is None or quantity == intent.order.quantity:
        return record
    order = intent.order.model_copy(update={"quantity": quantity})
    return replace(record, intent=intent.model_copy(update={"order": order}))
