"""Everything that a state holds: its fields, its snapshot, its digest, and eviction.

Made by `State`, which reads it; changed by `Fold`, event by event. Nothing here reads a clock.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from typing import Any

from msgspec.structs import replace

from kernel import events
from kernel.groups import ExitTerms, Group, excess, fees_in_base, permitted_quantity
from kernel.lifecycle.attribution import OrderRequest
from kernel.lifecycle.record import Record, as_exit, is_over
from kernel.models import Desired, OrderState
from kernel.plan import rest_of
from kernel.safety.heartbeat import Heartbeat
from kernel.safety.trading_halts import TradingStatus
from projections.digest import encoded
from projections.folds import ledger
from projections.folds.exposure import Exposures
from projections.folds.external_orders import Externals
from projections.folds.findings import Findings
from projections.folds.groups import Groups
from projections.folds.indexes import Indexes
from projections.folds.reference import Reference
from projections.folds.rejection_storms import Storms
from projections.folds.trades_cursors import TradesCursors
from projections.retention.policy import RetentionPolicy, TerminalIndex
from projections.snapshot import Evicted, StateSnapshot

CACHED_MAX = 1_000
"""Evicted intents that are cached for queries, at most."""
DEAD_MAX = 256
"""Requests resolved as DEAD that are kept, at most."""
UNKNOWN_RECORD = Record("")
COPIED = (
    "position", "log_id", "exchange_id", "created_at_ns", "epoch", "confirmed", "balances_at_ns", "venue_version",
    "trading_status", "trades_cursors", "recorded_limits", "ledger", "dead_requests", "heartbeats", "transfer_keys",
    "storms", "retention", "evicted",
)  # fmt: skip
"""Fields that a snapshot copies under the same name."""


class StateData:
    """Everything folded so far."""

    def __init__(self, retention: RetentionPolicy) -> None:
        self.retention = retention
        self.position = 0
        self.log_id = ""
        self.exchange_id = ""
        self.created_at_ns = 0
        self.epoch = 0
        self.trading_status = TradingStatus()
        self.trades_cursors = TradesCursors()
        self.confirmed: tuple[int, int] = (0, 0)
        """Begin and end (ns) of the newest complete list of open orders: it confirms orders that were live before it."""
        self.balances_at_ns: int | None = None
        self.records: dict[str, Record] = {}
        self.terminal = TerminalIndex()
        self.evicted = Evicted()
        self.cached: dict[str, Record] = {}
        """Evicted records that a query asked for; not part of the state."""
        self.cached_groups = Groups()
        self.derived: dict[str, OrderState | None] = {}
        """Cached order states, dropped when the record changes."""
        self.indexes = Indexes()
        self.groups = Groups()
        self.reference = Reference()
        self.findings = Findings()
        self.ledger = ledger.Ledger()
        self.exposures = Exposures()
        self.storms = Storms()
        self.externals = Externals()
        self.venue_version = 0
        """Version of the venue's stream."""
        self.dead_requests: dict[str, OrderRequest] = {}
        """The newest requests for orders that were resolved as DEAD, by client order id: their order may still appear."""
        self.recorded_limits: Mapping[str, Any] = {}
        self.heartbeats: dict[str, Heartbeat] = {}
        self.transfer_keys: set[str] = set()
        """Transfers booked: each is booked once."""

    def known(self, intent_id: str) -> Record | None:
        return self.records.get(intent_id) or self.cached.get(intent_id)

    def record(self, intent_id: str) -> Record:
        return self.known(intent_id) or replace(UNKNOWN_RECORD, intent_id=intent_id)

    def group_of(self, intent_id: str) -> Group | None:
        return self.groups.of(intent_id) or self.cached_groups.of(intent_id)

    def exit_terms(self, group: Group) -> ExitTerms:
        """Return the limits of a bracket's exits besides fills: fees in the base asset, and the lot."""
        symbol, parent = self.reference.symbol(group.symbol_id), self.record(group.intent_ids[0])
        order = parent.intent.order if parent.intent is not None else parent.sent_order
        if symbol is None or order is None:
            return ExitTerms()
        fees = fees_in_base(group, order.side, symbol, self.reference.decimals)
        return ExitTerms(fees=fees, lot=max(1, symbol.lot_size))

    def permitted_quantity(self, group: Group, intent_id: str, intended: int) -> int:
        """The total that a group permits a member whose intent has the total `intended`."""
        if not group.is_exit(intent_id):
            return permitted_quantity(group, intent_id, intended)
        return permitted_quantity(group, intent_id, intended, **self.exit_terms(group)._asdict())

    def guards(self, group: Group) -> list[Record]:
        """The exits that protect what a bracket holds: those with a stop price if there are any, canceled ones excepted."""
        exits = [self.record(name) for name in group.intent_ids[1:]]
        wanted = [item for item in exits if item.intent is not None and item.intent.desired is Desired.WORKING]
        stops = [item for item in wanted if item.intent is not None and item.intent.order.stop_price is not None]
        return stops or wanted

    def exit_is_missing(self, group: Group) -> bool:
        """Return whether a bracket holds something that could be sold, and no guard works, or none for all of it.

        What is less than a lot counts until something was closed: it is the whole position.
        """
        guards = self.guards(group)
        if group.parent is None or group.open_qty <= 0:
            return False
        if working := [item for item in guards if item.live_orders]:
            return all(self.is_kept_small(group, item) for item in working)
        if group.open_qty == group.filled[group.parent] and guards:
            return group.open_qty > self.exit_terms(group).fees
        return any(
            self.permitted_quantity(group, item.intent_id, item.intent.order.quantity)
            > group.filled.get(item.intent_id, 0)
            for item in guards
            if item.intent is not None
        )

    def is_kept_small(self, group: Group, exit_: Record) -> bool:
        """Return whether a working exit is smaller than its bracket permits, as the venue or its symbol forbids more."""
        if exit_.intent is None:
            return False
        permitted = self.permitted_quantity(group, exit_.intent_id, exit_.intent.order.quantity)
        intent = with_quantity(exit_, permitted).accepted_intent
        assert intent is not None, "it has one"
        left = intent.order.quantity - exit_.cum_qty
        if left <= sum(facts.leaves_qty + facts.rare.reduced_qty for facts in exit_.live_orders):
            return False
        symbol = self.reference.symbol(group.symbol_id)
        return exit_.failures > 0 or (symbol is not None and bool(symbol.violations(rest_of(intent.order, left))))

    def is_closable(self, group: Group) -> bool:
        """Return whether an exit of a bracket works, may work or will be placed."""
        for record in (self.record(name) for name in group.intent_ids[1:]):
            if (intent := record.intent) is not None:
                limited = self.permitted_quantity(group, record.intent_id, intent.order.quantity)
                if not is_over(with_quantity(replace(record, intent=as_exit(intent)), limited)):
                    return True
        return False

    def refreshed(self, group: Group, *, at_ns: int) -> Group:
        """A group; of a bracket with what its orders show: whether it can be closed, and since when its exit is missing."""
        if group.parent is None:
            return group
        missing_ns = group.exit_missing_ns if group.exit_missing_ns is not None else at_ns
        return replace(
            group,
            is_closable=group.closed_qty > 0 or self.is_closable(group),
            exit_missing_ns=missing_ns if self.exit_is_missing(group) else None,
        )

    def rehydrated(self, group: Group) -> Group:
        """A group from a fold of evicted streams: what other streams seem to close there is not what closed it in the log.

        Nothing had closed it, as a bracket that something closed is not evicted.
        """
        return self.refreshed(replace(group, closed_qty=0), at_ns=0)

    def group_excess(self, group: Group) -> int:
        if not any(group.filled.values()):
            return 0
        return excess(group, {intent_id: self.record(intent_id).wanted_most for intent_id in group.intent_ids})

    def snapshot(self) -> StateSnapshot:
        """A copy of everything but the records."""
        indexes = self.indexes
        return StateSnapshot(
            **{name: deepcopy(getattr(self, name)) for name in COPIED},
            live=dict(indexes.live),
            by_client_order_id=dict(indexes.by_client_order_id),
            by_exchange_order_id=dict(indexes.by_exchange_order_id),
            groups=list(self.groups.by_id.values()),
            outside=deepcopy(self.groups.outside),
            group_of=self.groups.members(),
            symbols=self.reference.symbols(),
            assets=self.reference.assets(),
            findings=self.findings.all(),
            last_prices=dict(self.exposures.last_prices),
            externals=list(self.externals.entries.values()),
        )

    def restore(self, snapshot: StateSnapshot, records: Iterable[Record]) -> None:
        """Become the state that `snapshot` and `records` were taken from; only a new state may."""
        assert self.position == 0, "only a new state can be restored"
        for name in COPIED:
            setattr(self, name, getattr(snapshot, name))
        for record in records:
            self.records[record.intent_id] = record
            if record.intent is not None:
                self.indexes.file(record.intent_id, record.intent)
            self.indexes.file_unresolved(record, record.unresolved)
        ids = {name: name for name in self.records}  # one string for all mappings, not one each
        self._restore_indexes(snapshot, ids)
        self.groups.restore(snapshot.groups, snapshot.group_of)
        self.groups.outside.update(snapshot.outside)
        self.reference.restore(snapshot.symbols, snapshot.assets)
        self.findings.restore(snapshot.findings)
        self.exposures.last_prices.update(snapshot.last_prices)
        self.externals.restore(snapshot.externals)
        for intent_id in self.indexes.live:
            self.exposures.mark(intent_id, live=True)
        for intent_id in self.records:
            self.update_terminal(intent_id)

    def _restore_indexes(self, stored: StateSnapshot, ids: Mapping[str, str]) -> None:
        indexes = self.indexes
        for name, symbol_id in stored.live.items():
            indexes.put_live(ids[name], symbol_id)
        indexes.by_client_order_id.update((key, ids[name]) for key, name in stored.by_client_order_id.items())
        indexes.by_exchange_order_id.update(
            (key, ids[names] if isinstance(names, str) else tuple(ids[name] for name in names))
            for key, names in stored.by_exchange_order_id.items()
        )

    def _unit(self, intent_id: str) -> tuple[str, ...]:
        """The intents that are evicted together: those of a group, else one alone."""
        group = self.groups.of(intent_id)
        if group is None:
            return (intent_id,)
        return tuple(name for name in group.intent_ids if self.groups.of(name) is group)

    def update_terminal(self, intent_id: str) -> None:
        """File an intent, with those of its group, as terminal or not."""
        group = self.groups.of(intent_id) if self.groups.by_id else None
        if group is None and (record := self.records.get(intent_id)) is not None:
            if intent_id in self.indexes.live:
                self.terminal.drop(intent_id)
            else:
                self.terminal.add(intent_id, record.last_position)
            return
        unit = self._unit(intent_id)
        # What was closed outside a group is not in its streams, from which it would be rehydrated.
        kept = group is not None and group.closed_qty > 0
        if kept or any(name in self.indexes.live or name not in self.records for name in unit):
            for name in unit:
                self.terminal.drop(name)
            return
        position = max(self.records[name].last_position for name in unit)
        for name in unit:
            self.terminal.add(name, position)

    def digest(self) -> str:
        """SHA-256 in hex over every folded field. The order is part of the golden digests."""
        digest = hashlib.sha256()
        held = (
            self.position, self.log_id, self.exchange_id, self.created_at_ns, self.epoch, self.trading_status,
            self.storms, self.trades_cursors, self.confirmed, self.balances_at_ns, self.ledger,
            self.findings.all(), self.transfer_keys, self.exposures.last_prices, self.recorded_limits,
            self.reference.symbols(), self.reference.assets(), self.groups.by_id, self.groups.outside,
            self.heartbeats, [*self.externals.entries.values()], self.dead_requests, self.evicted,
        )  # fmt: skip
        for item in held:
            digest.update(encoded(item) + b"\n")
        for intent_id in sorted(self.records):
            digest.update(encoded(self.records[intent_id]) + b"\n")
        return digest.hexdigest()

    def missing(self, part: Sequence[events.BaseEvent]) -> frozenset[str]:
        """The evicted streams that a part of a batch continues."""
        if not self.evicted.intents:
            return frozenset()
        first: dict[str, int] = {}
        for event in part:
            envelope = event.envelope
            first.setdefault(envelope.stream_id, envelope.version)
        return frozenset(name for name, version in first.items() if version != 1 and self._is_evicted(name))

    def _is_evicted(self, stream_id: str) -> bool:
        if stream_id.startswith(events.INTENT_STREAM_PREFIX):
            return stream_id.removeprefix(events.INTENT_STREAM_PREFIX) not in self.records
        if stream_id.startswith(events.GROUP_STREAM_PREFIX):
            return stream_id.removeprefix(events.GROUP_STREAM_PREFIX) not in self.groups.by_id
        return False

    def evict(self) -> None:
        """Evict the oldest terminal intents beyond the policy's maximum."""
        while (oldest := self.terminal.oldest_beyond(self.retention.intents_max)) is not None:
            unit, group = self._unit(oldest), self.groups.of(oldest)
            for intent_id in unit:
                self._evict_record(self.records[intent_id])
            if group is not None:
                self.groups.drop(group)

    def _evict_record(self, record: Record) -> None:
        intent_id = record.intent_id
        digest = hashlib.sha256(self.evicted.digest.encode() + encoded(record)).hexdigest()
        self.evicted = Evicted(self.evicted.intents + 1, digest)
        del self.records[intent_id]
        self.derived.pop(intent_id, None)
        self.indexes.evict(record)
        if record.intent is not None and record.intent.order.symbol_id not in self.indexes.by_symbol:
            self.trades_cursors.evicted[record.intent.order.symbol_id] = None
        self.exposures.evict(intent_id)
        self.terminal.drop(intent_id)

    def rehydrate(self, other: StateData) -> None:
        """Hold the intents and groups of `other`, a fold of their streams, again."""
        for intent_id, record in other.records.items():
            self.cached.pop(intent_id, None)
            self.records[intent_id] = record
            self.indexes.rehydrate(record)
        self.groups.restore(other.groups.by_id.values(), other.groups.members())
        for group in other.groups.by_id.values():
            self.groups.put(self.rehydrated(group))
        for intent_id in other.records:
            self.update_terminal(intent_id)

    def cache_streams(self, other: StateData) -> None:
        """Cache the intents and groups of `other`, a fold of their streams, for queries."""
        fresh = {name: record for name, record in other.records.items() if name not in self.records}
        self.cached = dict([*self.cached.items(), *fresh.items()][-CACHED_MAX:])
        for name in fresh:
            self.derived.pop(name, None)
        groups = {name: group for name, group in other.groups.by_id.items() if name not in self.groups.by_id}
        members = {name: group_id for name, group_id in other.groups.members().items() if group_id in groups}
        self.cached_groups.restore(map(self.rehydrated, groups.values()), members)


def with_quantity(record: Record, quantity: int) -> Record:
    """A record whose intent has another quantity."""
    intent = record.intent
    if intent is None or quantity == intent.order.quantity:
        return record
    order = replace(intent.order, quantity=quantity)
    return replace(record, intent=replace(intent, order=order))


def venue_managed_quantity(record: Record, *, sent: bool) -> int:
    """Return the effective total of a member whose group the venue manages.

    Before the group is sent, it is the intent's; then what the venue permits, unless the intent changed since. An ended
    order is not placed again.
    """
    intent = record.intent
    assert intent is not None, "a group's member has an intent"
    if not sent:
        return intent.order.quantity
    if not record.live_orders:
        return record.cum_qty
    working = record.live_orders[-1]
    if working.generation and working.generation < intent.generation:
        return intent.order.quantity
    return working.quantity + record.cum_qty - working.cum_qty
