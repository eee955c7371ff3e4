"""What is read from everything folded so far: records, states, groups, positions, what is at stake.

The half of `State` (`state`) that changes nothing; every answer is given at once, from memory. Nothing here looks at a
clock: the same events give the same answers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any

from kernel.gates import Gates
from kernel.grouping import left_to_the_venue
from kernel.groups import Group, allowance, excess, held_at_stake
from kernel.lifecycle import Record, finding_id, order_state
from kernel.lifecycle.values import replace
from kernel.limits import Claim, Exposure
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
from kernel.silence import Heartbeat
from projections import ledger
from projections.digest import canonical
from projections.ended import Ended, Keeping
from projections.exposure import Exposures
from projections.external import Externals
from projections.findings import Findings
from projections.groups import Groups
from projections.indexes import Indexes
from projections.parts import IndexParts, LetGo, Parts
from projections.records import Records
from projections.reference import Reference
from projections.storms import Storms

SHOWN_MAX = 1_000
"""Order states that are held once they were derived, at most: each is larger than all else that is held of an intent."""
UNHEARD_OF = Record("")
"""The record of an intent that nothing is known of, but for its id."""


class Folded:
    """Everything folded so far, to be read."""

    def __init__(self, keeping: Keeping | None = None) -> None:
        """`keeping`: how much of what is over is held; the same for all folds that are to be alike."""
        self.keeping = keeping or Keeping()
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
        self._records = Records(self.keeping.unpacked_max)
        self._heard: dict[str, int] = {}
        """Position of the newest event of each."""
        self._ended = Ended()
        self._let_go = LetGo()
        self._past: dict[str, Record] = {}
        """Of those let go, the ones that somebody asked for; no part of the state."""
        self._past_groups = Groups()
        self._shown: dict[str, OrderState | None] = {}
        """Order states derived since the record last changed, of those that were asked for last."""
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

    # ------------------------------------------------------------------------------------------------------- the log
    @property
    def position(self) -> int:
        """Position of the last event applied."""
        return self._position

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
        return self._known(intent_id) or replace(UNHEARD_OF, intent_id=intent_id)

    def _known(self, intent_id: str) -> Record | None:
        return self._records.get(intent_id) or self._past.get(intent_id)

    def holds(self, intent_id: str) -> bool:
        """Whether all that was ever recorded of an intent can be told from memory. Of one that was let go, or never heard
        of, it can't."""
        return not self._let_go.intents or intent_id in self._records or intent_id in self._past

    @property
    def let_go(self) -> int:
        """How many intents that are over were let go so far; what is asked of one has to be read back from the log."""
        return self._let_go.intents

    def intent(self, intent_id: str) -> OrderIntent | None:
        """What is wanted."""
        record = self._known(intent_id)
        return record.intent if record is not None else None

    def wish(self, intent_id: str) -> OrderIntent | None:
        """What is wanted of it now: the intent, as its group lets it be."""
        return self.grouped_record(intent_id).intent

    def _grouped(self, record: Record) -> Record:
        """A record whose intent wants as much as its group lets it be."""
        group, intent = self._group_of(record.intent_id), record.intent
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
        record, group = self.grouped_record(intent_id), self._group_of(intent_id)
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
        return self._groups.by_id.get(group_id) or self._past_groups.by_id.get(group_id)

    def _group_of(self, intent_id: str) -> Group | None:
        return self._groups.of(intent_id) or self._past_groups.of(intent_id)

    def group_of(self, intent_id: str) -> Group | None:
        """The group that an intent belongs to."""
        return self._group_of(intent_id)

    def groups(self) -> Iterable[Group]:
        """Every group, in order of creation."""
        return list(self._groups.by_id.values())

    def is_taken(self, group: Group) -> bool:
        """Whether the venue ever had an order of a group."""
        return any(self.record(intent_id).orders for intent_id in group.intent_ids)

    def is_held(self, intent_id: str) -> bool:
        """Whether its group's leader may still release more of it than it may be now."""
        group, record = self._group_of(intent_id), self.record(intent_id)
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
        group = self._group_of(intent_id)
        if group is None:
            return None
        stands = self._findings.stands(finding_id(FindingKind.GROUP_OVERFILL, group.group_id))
        return group if stands != (self.group_excess(group) > group.excess_accepted) else None

    def group_excess(self, group: Group) -> int:
        """How much more has filled than a group allows, at the quantity scale."""
        return excess(group, {intent_id: self.record(intent_id).wanted_most for intent_id in group.intent_ids})

    def order_state(self, intent_id: str) -> OrderState | None:
        """What is there. A complete list of open orders confirms a live order, without an event of its own."""
        record = self._known(intent_id)
        if record is None:
            return None
        if intent_id not in self._shown:
            if len(self._shown) >= SHOWN_MAX:
                self._shown.clear()
            self._shown[intent_id] = order_state(self._grouped(record))
        return self._confirmed_state(record, self._shown[intent_id])

    def exposure(self, intent_id: str) -> OrderState | None:
        """What is there, forgotten by a store or not. None when nothing was ever sent or seen."""
        record = self._known(intent_id)
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
        return self._intents_of(self._indexes.created)

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
        ordered = self._indexes.in_order(self._indexes.with_order)
        return (state for intent_id in ordered if (state := self.order_state(intent_id)) is not None)

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

    # ------------------------------------------------------------------------------------------------ in and out
    def records(self) -> Records:
        """Every record that is held, in order of first sight; not to be changed."""
        return self._records

    def parts(self) -> Parts:
        """All that is held but the records, copied."""
        indexes = self._indexes
        return Parts(
            position=self._position,
            log_id=self._log_id,
            exchange_id=self._exchange_id,
            created_at_ns=self._created_at_ns,
            epoch=self._epoch,
            gates=self._gates,
            trades_cursor_ns=self._trades_cursor_ns,
            confirmed=self._confirmed,
            balances_at_ns=self._balances_at_ns,
            recorded_limits=dict(self._recorded_limits),
            indexes=IndexParts(
                created=dict(indexes.created),
                with_order=dict(indexes.with_order),
                live=list(indexes.live),
                open_in=dict(indexes.open_in),
                by_client_order_id=dict(indexes.by_client_order_id),
                by_exchange_order_id=dict(indexes.by_exchange_order_id),
            ),
            groups=list(self._groups.by_id.values()),
            group_of=self._groups.members(),
            symbols=self._reference.symbols(),
            assets=self._reference.assets(),
            findings=self._findings.all(),
            ledger=deepcopy(self._ledger),
            last_prices=dict(self._exposures.last_prices),
            storm_rejections=self._storms.rejections,
            storm_window_ns=self._storms.window_ns,
            storms=self._storms.recent(),
            externals=list(self._externals.entries.values()),
            heartbeats=dict(self._heartbeats),
            transfer_keys=sorted(self._transfer_keys),
            keeping=self.keeping,
            heard=dict(self._heard),
            let_go=self._let_go,
        )

    def restore(self, parts: Parts, records: Iterable[Record]) -> None:
        """Become what `parts` and `records` were taken from; only a new state may."""
        assert self._position == 0, "only a new state can be restored"
        self.keeping = parts.keeping
        self._records = Records(self.keeping.unpacked_max)
        self._position = parts.position
        self._log_id = parts.log_id
        self._exchange_id = parts.exchange_id
        self._created_at_ns = parts.created_at_ns
        self._epoch = parts.epoch
        self._gates = parts.gates
        self._trades_cursor_ns = parts.trades_cursor_ns
        self._confirmed = parts.confirmed
        self._balances_at_ns = parts.balances_at_ns
        self._recorded_limits = parts.recorded_limits
        for record in records:
            self._records[record.intent_id] = record
            if record.intent is not None:  # now, while it is not packed
                self._indexes.file(record.intent_id, record.intent)
        names = {name: name for name in self._records}
        """Each intent's id as the records have it: one string for all mappings, not one for each."""
        self._restore_indexes(parts.indexes, names)
        self._groups.restore(parts.groups, parts.group_of)
        self._reference.restore(parts.symbols, parts.assets)
        self._findings.restore(parts.findings)
        self._ledger = parts.ledger
        self._exposures.last_prices.update(parts.last_prices)
        self._storms.restore(parts.storm_rejections, parts.storm_window_ns, parts.storms)
        self._externals.restore(parts.externals)
        self._heartbeats.update(parts.heartbeats)
        self._transfer_keys.update(parts.transfer_keys)
        self._heard.update((names[name], position) for name, position in parts.heard.items())
        self._let_go = parts.let_go
        for intent_id in self._indexes.live:
            self._exposures.mark(intent_id, live=True)
        for intent_id in self._records:
            self._note_ended(intent_id)

    def _restore_indexes(self, parts: IndexParts, names: Mapping[str, str]) -> None:
        indexes = self._indexes
        indexes.created.update((names[name], position) for name, position in parts.created.items())
        indexes.with_order.update((names[name], position) for name, position in parts.with_order.items())
        indexes.live.update((names[name], None) for name in parts.live)
        indexes.by_client_order_id.update((key, names[name]) for key, name in parts.by_client_order_id.items())
        indexes.by_exchange_order_id.update((key, names[name]) for key, name in parts.by_exchange_order_id.items())
        for name, symbol_id in parts.open_in.items():
            indexes.note_open(names[name], symbol_id)

    def _unit(self, intent_id: str) -> tuple[str, ...]:
        """The intents that are let go together: those of a group, else one alone."""
        group = self._groups.of(intent_id)
        if group is None:
            return (intent_id,)
        return tuple(name for name in group.intent_ids if self._groups.of(name) is group)

    def _note_ended(self, intent_id: str) -> None:
        """Note whether an intent, with those of its group, is over."""
        unit = self._unit(intent_id)
        if any(name in self._indexes.live or name not in self._records for name in unit):
            for name in unit:
                self._ended.drop(name)
            return
        position = max(self._heard[name] for name in unit)
        for name in unit:
            self._ended.note(name, position)

    def digest(self) -> str:
        """SHA-256 over every field of what is held, in hex: equal folds have equal digests."""
        digest = hashlib.sha256()
        held = (
            self._position, self._log_id, self._exchange_id, self._created_at_ns, self._epoch, self._gates,
            self._storms.held(), self._trades_cursor_ns, self._confirmed, self._balances_at_ns, self._ledger,
            self._findings.all(), self._transfer_keys, self._exposures.last_prices, self._recorded_limits,
            self._reference.symbols(), self._reference.assets(), self._groups.by_id, self._heartbeats,
            [*self._externals.entries.values()], self._let_go,
        )  # fmt: skip
        for item in held:
            digest.update(f"{canonical(item)}\n".encode())
        for intent_id in sorted(self._records):
            digest.update(f"{canonical(self._records[intent_id])}\n".encode())
        return digest.hexdigest()


def with_quantity(record: Record, quantity: int) -> Record:
    """A record whose intent wants so much."""
    intent = record.intent
    if intent is None or quantity == intent.order.quantity:
        return record
    order = intent.order.model_copy(update={"quantity": quantity})
    return replace(record, intent=intent.model_copy(update={"order": order}))
