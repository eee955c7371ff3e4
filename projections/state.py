"""All projections as one: the fold of the log, in memory. `KernelState`'s implementation.

Made by the composition root (and by whoever replays a log), fed by one reader, read by everybody else. `apply` is
synchronous and never looks at a clock; the same events give the same state, today and in ten years. What a batch costs
depends on the batch, never on how much is live.
"""

from __future__ import annotations

import asyncio
import hashlib
import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any

from kernel import events, silence
from kernel.errors import IntegrityError
from kernel.gates import Gates
from kernel.grouping import left_to_the_venue
from kernel.groups import Group, allowance, excess, held_at_stake
from kernel.lifecycle import Record, evolve, finding_id, order_state
from kernel.lifecycle.values import replace
from kernel.limits import Claim, Exposure
from kernel.models import (
    AccountState,
    Desired,
    Evidence,
    ExternalOrder,
    Finding,
    FindingKind,
    LookScope,
    OrderIntent,
    OrderState,
    Position,
)
from kernel.order_spec import AssetMetadata, StandardOrder, SymbolMetadata
from kernel.silence import Heartbeat, HeartbeatEvent
from kernel.state import Applied
from projections import diff, ledger
from projections.digest import canonical
from projections.exposure import Exposures
from projections.external import Externals, opposite
from projections.findings import Findings
from projections.groups import Groups
from projections.indexes import Indexes
from projections.reference import Reference
from projections.storms import Storms

UNHEARD_OF = Record("")
"""The record of an intent that nothing is known of, but for its id."""


class State:
    """Everything folded so far."""

    def __init__(self) -> None:
        self._position = 0
        self._log_id = ""
        self._exchange_id = ""
        self._created_at_ns = 0
        self._epoch = 0
        self._gates = Gates()
        self._trades_cursor_ns: int | None = None
        self._confirmed: tuple[int, int] = (0, 0)
        """Begin and end of the newest complete list of open orders: it confirms what was live before it began."""
        self._balances_at_ns: int | None = None
        self._records: dict[str, Record] = {}
        """In order of first sight."""
        self._shown: dict[str, OrderState | None] = {}
        """Order states derived since the record last changed."""
        self._indexes = Indexes()
        self._groups = Groups()
        self._reference = Reference()
        self._findings = Findings()
        self._ledger = ledger.Ledger()
        self._exposures = Exposures()
        self._storms = Storms()
        self._externals = Externals()
        self._recorded_limits: Mapping[str, Any] = {}
        self._heartbeats: dict[str, Heartbeat] = {}
        self._transfer_keys: set[str] = set()
        """Transfers booked, each once."""
        self._waiters: list[tuple[int, int, asyncio.Future[None]]] = []
        self._serial = count()
        self._problem: BaseException | None = None
        """What ended the reader."""

    # ------------------------------------------------------------------------------------------------------- folding
    @property
    def position(self) -> int:
        """Position of the last event applied."""
        return self._position

    def apply(self, batch: Sequence[events.BaseEvent]) -> Applied:
        """Fold a batch whose first position follows `position`; `IntegrityError` for any other."""
        touched: dict[str, None] = {}
        for event in batch:
            envelope = event.envelope
            if envelope.position != self._position + 1:
                raise IntegrityError(f"an event of position {envelope.position} came", position=self._position + 1)
            self._position = envelope.position
            stream_id = envelope.stream_id
            if stream_id.startswith(events.INTENT_STREAM_PREFIX):
                self._apply_to_intent(stream_id.removeprefix(events.INTENT_STREAM_PREFIX), event, touched)
            elif stream_id.startswith(events.GROUP_STREAM_PREFIX):
                self._apply_to_group(stream_id.removeprefix(events.GROUP_STREAM_PREFIX), event, touched)
            elif (fold := FOLDS.get(type(event))) is not None:
                fold(self, event)
        self._wake()
        differing = tuple(intent_id for intent_id in self._with_followers(touched) if self._note_live(intent_id))
        return Applied(tuple(touched), differing)

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
        differs = self._differs(intent_id)
        self._indexes.set_live(record, differs=differs or self.is_held(intent_id))
        self._exposures.mark(intent_id, live=intent_id in self._indexes.live)
        return differs

    def _differs(self, intent_id: str) -> bool:
        """Whether something is to be done; what is not settled always is, which spares deriving the state to compare."""
        if self.record(intent_id).unsettled or diff.differs(self, intent_id):
            return True
        return self.overfilled_group(intent_id) is not None

    def _apply_to_intent(self, intent_id: str, event: events.BaseEvent, touched: dict[str, None]) -> None:
        before = self.record(intent_id)
        after = evolve(before, event)
        self._records[intent_id] = after
        self._shown.pop(intent_id, None)
        touched[intent_id] = None
        self._indexes.note(before, after, event)
        if (storm := self._storms.note(before, event)) is not None:
            self._gates = self._gates.stormy(*storm)
        if after.orders is not before.orders:
            if self._externals.entries:
                self._adopt(after, event)
            self._book(before, after, event)
            if after.cum_qty != before.cum_qty and (group := self._groups.note_fill(intent_id, after.cum_qty)):
                self._touch_group(group, touched)
        if isinstance(event, events.IntentCreated):
            self._groups.note_created(event)
        elif after.intent is not before.intent and (group := self._groups.of(intent_id)) is not None:
            self._touch_group(group, touched)
        if isinstance(event, events.FindingRaised | events.FindingResolved):
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
        # Of an order that was not placed by us there may be trades from before the books of balances were opened.
        opened_with = not after.sends and is_trade_before(event, self._ledger.opened_ns)
        for booking in ledger.bookings(before.orders, after.orders):
            symbol = self._reference.symbol(booking.symbol_id)
            self._ledger.book(
                booking, symbol, self._reference.decimals, at_ns=event.recorded_at_ns, in_balances=not opened_with
            )

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

    def _log_created(self, event: events.LogCreated) -> None:
        self._log_id = event.log_id
        self._exchange_id = event.exchange_id
        self._created_at_ns = event.recorded_at_ns

    def _leader_elected(self, event: events.LeaderElected) -> None:
        self._epoch = event.epoch

    def _kernel_started(self, event: events.KernelStarted) -> None:
        self._recorded_limits = event.settings.get("limits") or {}
        self._storms.start(event.settings)

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
        self._ledger.observe(event.balances, began_ns=event.began_ns)

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

    # ------------------------------------------------------------------------------------------------------- the log
    @property
    def log_id(self) -> str:
        """The log's 64 random bits in hex; empty before the first event."""
        return self._log_id

    @property
    def exchange_id(self) -> str:
        """The exchange account; empty before the first event."""
        return self._exchange_id

    @property
    def created_at_ns(self) -> int:
        """When the log was created."""
        return self._created_at_ns

    @property
    def epoch(self) -> int:
        """Epoch of the newest leader."""
        return self._epoch

    @property
    def paused(self) -> bool:
        """Whether sending is paused for all intents."""
        return self._gates.every is not None

    @property
    def paused_by(self) -> str:
        """Who paused all intents, and why; empty while they are not paused."""
        return self._gates.every.by if self._gates.every is not None else ""

    @property
    def gates(self) -> Gates:
        """All that holds requests back; the same object until that changes."""
        return self._gates

    @property
    def trades_cursor_ns(self) -> int | None:
        """Every trade up to this venue instant is in the log; None before the first complete trades query."""
        return self._trades_cursor_ns

    # ------------------------------------------------------------------------------------------------------- intents
    def record(self, intent_id: str) -> Record:
        """All that is known of an intent; an empty record for one never heard of."""
        return self._records.get(intent_id) or replace(UNHEARD_OF, intent_id=intent_id)

    def intent(self, intent_id: str) -> OrderIntent | None:
        """What is wanted."""
        record = self._records.get(intent_id)
        return record.intent if record is not None else None

    def wish(self, intent_id: str) -> OrderIntent | None:
        """What is wanted of it now: the intent, as its group lets it be."""
        return self.grouped_record(intent_id).intent

    def _grouped(self, record: Record) -> Record:
        """A record whose intent wants as much as its group lets it be."""
        group, intent = self._groups.of(record.intent_id), record.intent
        if group is None or intent is None:
            return record
        if group.native:
            quantity = left_to_the_venue(record, sent=self.is_taken(group))
        else:
            quantity = allowance(group, intent.intent_id, intent.order.quantity)
        return with_quantity(record, quantity)

    def grouped_record(self, intent_id: str) -> Record:
        """All that is known of an intent, which wants as much as its group lets it be."""
        return self._grouped(self.record(intent_id))

    def _staked_record(self, intent_id: str) -> Record:
        """A record whose intent wants as much as is at stake: what its group lets it be, and of what is yet to be released
        as much as would not only undo what the leader does."""
        record, group = self.grouped_record(intent_id), self._groups.of(intent_id)
        if group is None or not self.is_held(intent_id) or record.intent is None:
            return record
        leader = self.record(group.intent_ids[0])
        left = max(0, leader.wanted_most - leader.cum_qty)
        intents = [(name, self.intent(name)) for name in group.intent_ids]
        wanted = {name: intent.order.quantity for name, intent in intents if intent is not None}
        more = held_at_stake(group, intent_id, wanted, leader_left=left)
        return with_quantity(record, record.intent.order.quantity + more)

    def group(self, group_id: str) -> Group | None:
        """A group; None for one that was not created by `place_order_group`."""
        return self._groups.by_id.get(group_id)

    def group_of(self, intent_id: str) -> Group | None:
        """The group that an intent belongs to."""
        return self._groups.of(intent_id)

    def groups(self) -> Iterable[Group]:
        """Every group, in order of creation."""
        return list(self._groups.by_id.values())

    def is_taken(self, group: Group) -> bool:
        """Whether the venue ever had an order of a group."""
        return any(self.record(intent_id).orders for intent_id in group.intent_ids)

    def is_held(self, intent_id: str) -> bool:
        """Whether its group's leader may still release more of it than it may be now."""
        group, record = self._groups.of(intent_id), self.record(intent_id)
        if group is None or group.leader in (None, intent_id) or group.leader not in self._indexes.live:
            return False
        if group.native:
            return False
        intent = record.intent
        if intent is None or intent.desired is Desired.CANCELED or record.failed_generation == intent.generation:
            return False
        return allowance(group, intent_id, intent.order.quantity) < intent.order.quantity

    def overfilled_group(self, intent_id: str) -> Group | None:
        """The group of an intent, where whether more has filled than it allows is not told as it is. What an operator has
        dealt with is not told again."""
        group = self._groups.of(intent_id)
        if group is None:
            return None
        stands = self._findings.stands(finding_id(FindingKind.GROUP_OVERFILL, group.group_id))
        return group if stands != (self.group_excess(group) > group.excess_accepted) else None

    def group_excess(self, group: Group) -> int:
        """How much more has filled than a group allows, at the quantity scale."""
        return excess(group, {intent_id: self.record(intent_id).wanted_most for intent_id in group.intent_ids})

    def order_state(self, intent_id: str) -> OrderState | None:
        """What is there. A complete list of open orders confirms a live order, without an event of its own."""
        record = self._records.get(intent_id)
        if record is None:
            return None
        if intent_id not in self._shown:
            self._shown[intent_id] = order_state(self._grouped(record))
        return self._confirmed_state(record, self._shown[intent_id])

    def exposure(self, intent_id: str) -> OrderState | None:
        """What is there, forgotten by a store or not. None when nothing was ever sent or seen."""
        record = self._records.get(intent_id)
        if record is None or record.has_order or not (record.current_orders or record.attempts):
            return self.order_state(intent_id)
        return order_state(self._grouped(replace(record, has_order=True)))

    def _confirmed_state(self, record: Record, state: OrderState | None) -> OrderState | None:
        began_ns, ended_ns = self._confirmed
        if state is None or record.recorded is not None or ended_ns // 1_000_000_000 <= state.last_sync_at:
            return state
        live = record.live_orders
        if not live or any(facts.first_seen_ns >= began_ns for facts in live):
            return state
        return state.model_copy(update={"last_sync_at": ended_ns // 1_000_000_000})

    def intents(self) -> Iterable[OrderIntent]:
        """Every intent, in order of creation."""
        return (intent for intent_id in self._indexes.created if (intent := self.intent(intent_id)) is not None)

    def intents_of_symbol(self, symbol_id: str) -> Iterable[OrderIntent]:
        """Those of a symbol, in order of creation."""
        return self._intents_of(self._indexes.by_symbol.get(symbol_id, {}))

    def intents_of_group(self, group_id: str) -> Iterable[OrderIntent]:
        """Those of a group, in order of creation."""
        return self._intents_of(self._indexes.by_group.get(group_id, {}))

    def _intents_of(self, intent_ids: Iterable[str]) -> Iterable[OrderIntent]:
        ordered = sorted(intent_ids, key=self._indexes.created.__getitem__)
        return (intent for intent_id in ordered if (intent := self.intent(intent_id)) is not None)

    def order_states(self) -> Iterable[OrderState]:
        """Every order state, in order of creation."""
        return (state for intent_id in self._indexes.with_order if (state := self.order_state(intent_id)) is not None)

    def live_intent_ids(self) -> list[str]:
        """Intents that differ from what is there, or whose order may be live or is not settled; in order of creation."""
        return self._indexes.live_in_order()

    def intent_id_of(self, *, client_order_id: str | None = None, exchange_order_id: str | None = None) -> str | None:
        """The intent whose order carries one of these ids. The venue's id decides where both are known."""
        by_venue = self._indexes.by_exchange_order_id.get(exchange_order_id or "")
        return by_venue or self._indexes.by_client_order_id.get(client_order_id or "")

    def open_orders(self, symbol_id: str) -> int:
        """How many intents have, or may have, an order open at the venue in a symbol."""
        return len(self._indexes.open.get(symbol_id, {}))

    # ------------------------------------------------------------------------------------------------ what is at stake
    @property
    def recorded_limits(self) -> Mapping[str, Any]:
        """The pre-trade limits of the newest kernel that led, as it recorded them; the same object until another does."""
        return self._recorded_limits

    @property
    def heartbeats(self) -> Mapping[str, Heartbeat]:
        """Owners that have ever armed their heartbeat, by name."""
        return self._heartbeats

    def symbol_exposure(self, symbol_id: str) -> Exposure:
        """What works, may work or is wanted in a symbol, with its position and last price: what changed since it was last
        asked for is worked out, nothing else."""
        position = self._ledger.positions.get(symbol_id)
        quantity = position.quantity if position is not None else 0
        return self._exposures.of_symbol(symbol_id, position=quantity, record=self._staked_record)

    def claim(self, intent_id: str, order: StandardOrder) -> Claim | None:
        """What an intent may still come to in an order's symbol and on its side; None when nothing."""
        found = self._exposures.of_intent(intent_id, record=self._staked_record)
        return next((item for item in found if (item.symbol_id, item.side) == (order.symbol_id, order.side)), None)

    # ------------------------------------------------------------------------------------------------------- the rest
    def symbol(self, symbol_id: str) -> SymbolMetadata | None:
        """A symbol, as last observed."""
        return self._reference.symbol(symbol_id)

    def symbols(self) -> Iterable[SymbolMetadata]:
        """Every symbol, by id."""
        return self._reference.symbols()

    def asset(self, asset_id: str) -> AssetMetadata | None:
        """An asset, as last observed."""
        return self._reference.asset(asset_id)

    def assets(self) -> Iterable[AssetMetadata]:
        """Every asset, by id."""
        return self._reference.assets()

    def positions(self) -> Iterable[Position]:
        """Every position with a fill, by symbol."""
        return [ledger.shown(symbol_id, item) for symbol_id, item in sorted(self._ledger.positions.items())]

    def account(self) -> AccountState:
        """The account as last observed."""
        known = self._balances_at_ns is not None
        return AccountState(
            exchange_id=self._exchange_id,
            balances=self._ledger.observed,
            evidence=Evidence.QUERY if known else None,
            observed_at_ns=self._balances_at_ns,
        )

    def findings(self) -> Iterable[Finding]:
        """Findings, open and resolved, in the order raised."""
        return self._findings.all()

    def finding(self, finding_id: str) -> Finding | None:
        """The finding of an id, open or resolved; None when it was never raised."""
        return self._findings.get(finding_id)

    def position_drift(self) -> dict[str, int]:
        """Symbol → observed position less what fills and others' trades come to; only what differs."""
        return dict(self._ledger.position_drift)

    def external_orders(self) -> Iterable[ExternalOrder]:
        """Orders at the venue that are nobody's intent, in the order in which they were last heard of."""
        return [entry.order for entry in self._externals.entries.values()]

    def external_order(self, exchange_order_id: str) -> ExternalOrder | None:
        """One of them."""
        entry = self._externals.entries.get(exchange_order_id)
        return entry.order if entry is not None else None

    def balance_drift(self) -> dict[str, int]:
        """Asset → observed total less what the opening balance, fills and transfers come to; only what differs."""
        return dict(self._ledger.drift)

    def expected_balances(self) -> dict[str, int] | None:
        """Asset → what the opening balance, fills and transfers come to; None before balances were first observed."""
        return self._ledger.expected()

    def digest(self) -> str:
        """SHA-256 over every field of what is held, in hex: equal folds have equal digests."""
        digest = hashlib.sha256()
        held = (
            self._position, self._log_id, self._exchange_id, self._created_at_ns, self._epoch, self._gates,
            self._storms.held(), self._trades_cursor_ns, self._confirmed, self._balances_at_ns, self._ledger,
            self._findings.all(), self._transfer_keys, self._exposures.last_prices, self._recorded_limits,
            self._reference.symbols(), self._reference.assets(), self._groups.by_id, self._heartbeats,
            [*self._externals.entries.values()],
        )  # fmt: skip
        for item in held:
            digest.update(f"{canonical(item)}\n".encode())
        for intent_id in sorted(self._records):
            digest.update(f"{canonical(self._records[intent_id])}\n".encode())
        return digest.hexdigest()


def is_trade_before(event: events.BaseEvent, instant_ns: int) -> bool:
    """Whether an event tells of a trade that was made before an instant."""
    return isinstance(event, events.OrderFilled) and (event.transact_time_ns or instant_ns) < instant_ns


def with_quantity(record: Record, quantity: int) -> Record:
    """A record whose intent wants so much."""
    intent = record.intent
    if intent is None or quantity == intent.order.quantity:
        return record
    order = intent.order.model_copy(update={"quantity": quantity})
    return replace(record, intent=intent.model_copy(update={"order": order}))


FOLDS: dict[type[events.BaseEvent], Callable[..., None]] = {
    events.LogCreated: State._log_created,
    events.LeaderElected: State._leader_elected,
    events.KernelStarted: State._kernel_started,
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
