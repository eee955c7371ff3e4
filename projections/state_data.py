"""What a state holds: every field of it, how it is written down and read back, and how what is over is let go.

Made by `StatusRule`, which reads it; changed by `Fold`, event by event. Nothing here looks at a clock.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from typing import Any

from kernel import events
from kernel.groups import Group, excess
from kernel.lifecycle import Record
from kernel.lifecycle.immutable import replace
from kernel.models import OrderState
from kernel.safety.heartbeat import Heartbeat
from kernel.safety.trading_halts import TradingStatus
from projections.digest import canonical
from projections.folds import ledger
from projections.folds.exposure import Exposures
from projections.folds.external_orders import Externals
from projections.folds.findings import Findings
from projections.folds.groups import Groups
from projections.folds.indexes import Indexes
from projections.folds.reference import Reference
from projections.folds.rejection_storms import Storms
from projections.retention.policy import RetentionPolicy, TerminalIndex
from projections.retention.record_cache import Records
from projections.snapshot import Evicted, IndexSnapshot, StateSnapshot

PAST_MAX = 1_000
"""Intents that were let go and can be told of, at most."""
UNKNOWN_RECORD = Record("")
"""The record of an intent that nothing is known of, but for its id."""


class StateData:
    """All that is folded so far."""

    def __init__(self, retention: RetentionPolicy) -> None:
        self.keeping = retention
        """How much of what is over is held; the same for all folds that are to be alike."""
        self.position = 0
        self.log_id = ""
        self.exchange_id = ""
        self.created_at_ns = 0
        self.epoch = 0
        self.gates = TradingStatus()
        self.trades_cursor_ns: int | None = None
        self.confirmed: tuple[int, int] = (0, 0)
        """Begin and end of the newest complete list of open orders: it confirms what was live before it began."""
        self.balances_at_ns: int | None = None
        self.records = Records(self.keeping.unpacked_max)
        self.heard: dict[str, int] = {}
        """Position of the newest event of each."""
        self.ended = TerminalIndex()
        self.let_go = Evicted()
        self.past: dict[str, Record] = {}
        """Of those let go, the ones that somebody asked for; no part of the state."""
        self.past_groups = Groups()
        self.shown: dict[str, OrderState | None] = {}
        """Order states derived since the record last changed, of those that were asked for last."""
        self.indexes = Indexes()
        self.groups = Groups()
        self.reference = Reference()
        self.findings = Findings()
        self.ledger = ledger.Ledger()
        self.exposures = Exposures()
        self.storms = Storms()
        self.externals = Externals()
        self.recorded_limits: Mapping[str, Any] = {}
        self.heartbeats: dict[str, Heartbeat] = {}
        self.transfer_keys: set[str] = set()
        """Transfers booked, each once."""

    def known(self, intent_id: str) -> Record | None:
        """All that is known of an intent; None for one never heard of."""
        return self.records.get(intent_id) or self.past.get(intent_id)

    def record(self, intent_id: str) -> Record:
        """All that is known of an intent; an empty record for one never heard of."""
        return self.known(intent_id) or replace(UNKNOWN_RECORD, intent_id=intent_id)

    def group_of(self, intent_id: str) -> Group | None:
        """The group that an intent belongs to."""
        return self.groups.of(intent_id) or self.past_groups.of(intent_id)

    def group_excess(self, group: Group) -> int:
        """How much more has filled than a group allows, at the quantity scale."""
        return excess(group, {intent_id: self.record(intent_id).wanted_most for intent_id in group.intent_ids})

    def parts(self) -> StateSnapshot:
        """All that is held but the records, copied."""
        indexes = self.indexes
        return StateSnapshot(
            position=self.position,
            log_id=self.log_id,
            exchange_id=self.exchange_id,
            created_at_ns=self.created_at_ns,
            epoch=self.epoch,
            gates=self.gates,
            trades_cursor_ns=self.trades_cursor_ns,
            confirmed=self.confirmed,
            balances_at_ns=self.balances_at_ns,
            recorded_limits=dict(self.recorded_limits),
            indexes=IndexSnapshot(
                created=dict(indexes.created),
                with_order=dict(indexes.with_order),
                live=list(indexes.live),
                open_in=dict(indexes.open_in),
                by_client_order_id=dict(indexes.by_client_order_id),
                by_exchange_order_id=dict(indexes.by_exchange_order_id),
            ),
            groups=list(self.groups.by_id.values()),
            group_of=self.groups.members(),
            symbols=self.reference.symbols(),
            assets=self.reference.assets(),
            findings=self.findings.all(),
            ledger=deepcopy(self.ledger),
            last_prices=dict(self.exposures.last_prices),
            storm_rejections=self.storms.rejections,
            storm_window_ns=self.storms.window_ns,
            storms=self.storms.recent(),
            externals=list(self.externals.entries.values()),
            heartbeats=dict(self.heartbeats),
            transfer_keys=sorted(self.transfer_keys),
            keeping=self.keeping,
            heard=dict(self.heard),
            let_go=self.let_go,
        )

    def restore(self, parts: StateSnapshot, records: Iterable[Record]) -> None:
        """Become what `parts` and `records` were taken from; only a new state may."""
        assert self.position == 0, "only a new state can be restored"
        self.keeping = parts.keeping
        self.records = Records(self.keeping.unpacked_max)
        self.position = parts.position
        self.log_id = parts.log_id
        self.exchange_id = parts.exchange_id
        self.created_at_ns = parts.created_at_ns
        self.epoch = parts.epoch
        self.gates = parts.gates
        self.trades_cursor_ns = parts.trades_cursor_ns
        self.confirmed = parts.confirmed
        self.balances_at_ns = parts.balances_at_ns
        self.recorded_limits = parts.recorded_limits
        for record in records:
            self.records[record.intent_id] = record
            if record.intent is not None:  # now, while it is not packed
                self.indexes.file(record.intent_id, record.intent)
        names = {name: name for name in self.records}
        """Each intent's id as the records have it: one string for all mappings, not one for each."""
        self._restore_indexes(parts.indexes, names)
        self.groups.restore(parts.groups, parts.group_of)
        self.reference.restore(parts.symbols, parts.assets)
        self.findings.restore(parts.findings)
        self.ledger = parts.ledger
        self.exposures.last_prices.update(parts.last_prices)
        self.storms.restore(parts.storm_rejections, parts.storm_window_ns, parts.storms)
        self.externals.restore(parts.externals)
        self.heartbeats.update(parts.heartbeats)
        self.transfer_keys.update(parts.transfer_keys)
        self.heard.update((names[name], position) for name, position in parts.heard.items())
        self.let_go = parts.let_go
        for intent_id in self.indexes.live:
            self.exposures.mark(intent_id, live=True)
        for intent_id in self.records:
            self.note_ended(intent_id)

    def _restore_indexes(self, parts: IndexSnapshot, names: Mapping[str, str]) -> None:
        indexes = self.indexes
        indexes.created.update((names[name], position) for name, position in parts.created.items())
        indexes.with_order.update((names[name], position) for name, position in parts.with_order.items())
        indexes.live.update((names[name], None) for name in parts.live)
        indexes.by_client_order_id.update((key, names[name]) for key, name in parts.by_client_order_id.items())
        indexes.by_exchange_order_id.update((key, names[name]) for key, name in parts.by_exchange_order_id.items())
        for name, symbol_id in parts.open_in.items():
            indexes.note_open(names[name], symbol_id)

    def _unit(self, intent_id: str) -> tuple[str, ...]:
        """The intents that are let go together: those of a group, else one alone."""
        group = self.groups.of(intent_id)
        if group is None:
            return (intent_id,)
        return tuple(name for name in group.intent_ids if self.groups.of(name) is group)

    def note_ended(self, intent_id: str) -> None:
        """Note whether an intent, with those of its group, is over."""
        unit = self._unit(intent_id)
        if any(name in self.indexes.live or name not in self.records for name in unit):
            for name in unit:
                self.ended.drop(name)
            return
        position = max(self.heard[name] for name in unit)
        for name in unit:
            self.ended.note(name, position)

    def digest(self) -> str:
        """SHA-256 over every field of what is held, in hex: equal folds have equal digests."""
        digest = hashlib.sha256()
        held = (
            self.position, self.log_id, self.exchange_id, self.created_at_ns, self.epoch, self.gates,
            self.storms.held(), self.trades_cursor_ns, self.confirmed, self.balances_at_ns, self.ledger,
            self.findings.all(), self.transfer_keys, self.exposures.last_prices, self.recorded_limits,
            self.reference.symbols(), self.reference.assets(), self.groups.by_id, self.heartbeats,
            [*self.externals.entries.values()], self.let_go,
        )  # fmt: skip
        for item in held:
            digest.update(f"{canonical(item)}\n".encode())
        for intent_id in sorted(self.records):
            digest.update(f"{canonical(self.records[intent_id])}\n".encode())
        return digest.hexdigest()

    def missing(self, part: Sequence[events.BaseEvent]) -> frozenset[str]:
        """Streams that a part of a batch goes on with, and that are not in memory."""
        if not self.let_go.intents:
            return frozenset()
        begun: set[str] = set()
        found = set()
        for event in part:
            if event.version == 1:
                begun.add(event.stream_id)
            elif event.stream_id not in begun and self._is_evicted(event.stream_id):
                found.add(event.stream_id)
        return frozenset(found)

    def _is_evicted(self, stream_id: str) -> bool:
        if stream_id.startswith(events.INTENT_STREAM_PREFIX):
            return stream_id.removeprefix(events.INTENT_STREAM_PREFIX) not in self.records
        if stream_id.startswith(events.GROUP_STREAM_PREFIX):
            return stream_id.removeprefix(events.GROUP_STREAM_PREFIX) not in self.groups.by_id
        return False

    def let_go_of_ended(self) -> None:
        """Let go of what is over, but for the newest."""
        while (oldest := self.ended.oldest_beyond(self.keeping.intents_max)) is not None:
            unit, group = self._unit(oldest), self.groups.of(oldest)
            for intent_id in unit:
                self._forget(self.records[intent_id])
            if group is not None:
                self.groups.drop(group)

    def _forget(self, record: Record) -> None:
        intent_id = record.intent_id
        digest = hashlib.sha256(f"{self.let_go.digest}\n{canonical(record)}".encode()).hexdigest()
        self.let_go = Evicted(self.let_go.intents + 1, digest)
        for held in (self.records, self.heard, self.shown):
            held.pop(intent_id, None)
        self.indexes.forget(record)
        self.exposures.forget(intent_id)
        self.ended.drop(intent_id)

    def take_back(self, past: StateData) -> None:
        """Hold again what was let go: exactly as it was."""
        for intent_id, record in past.records.items():
            self.past.pop(intent_id, None)
            self.records[intent_id] = record
            self.heard[intent_id] = past.heard[intent_id]
            self.indexes.take_over(past.indexes, record)
        self.groups.restore(past.groups.by_id.values(), past.groups.members())
        for intent_id in past.records:
            self.note_ended(intent_id)

    def cache_streams(self, past: StateData) -> None:
        """Be able to tell of what was let go, without holding it again: for who asks now."""
        fresh = {name: record for name, record in past.records.items() if name not in self.records}
        self.past = dict([*self.past.items(), *fresh.items()][-PAST_MAX:])
        for name in fresh:
            self.shown.pop(name, None)
        groups = {name: group for name, group in past.groups.by_id.items() if name not in self.groups.by_id}
        self.past_groups.restore(groups.values(), {k: v for k, v in past.groups.members().items() if v in groups})
