"""The fold of the log in memory: the implementation of `kernel.state.KernelState`.

Made by the composition root and by everything that replays a log. One reader applies batches; everybody else reads, and
every query answers at once from memory. Nothing here reads a clock: the same events give the same state and answers.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, count
from operator import attrgetter, itemgetter
from typing import Any

from msgspec.structs import replace

from kernel import events
from kernel.groups import ExitReport, Group, quantity_at_risk
from kernel.lifecycle.attribution import OrderRequest, order_requests
from kernel.lifecycle.disagreement import is_disagreement_due
from kernel.lifecycle.findings import finding_id
from kernel.lifecycle.orders.trades import TradeEntry
from kernel.lifecycle.record import Record, as_exit, is_refused, order_state
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
from kernel.order_spec import AssetMetadata, Side, StandardOrder, SymbolMetadata
from kernel.safety.heartbeat import Heartbeat
from kernel.safety.trading_halts import TradingStatus
from kernel.state import Applied, joined
from kernel.venues.base import ExecutionReport
from projections import diff
from projections.digest import FieldDifference, first_field
from projections.folds import ledger
from projections.folds.expected_balances import expected_balances, external_risks
from projections.retention.policy import RetentionPolicy
from projections.snapshot import StateSnapshot
from projections.state_data import StateData, venue_managed_quantity, with_quantity
from projections.state_fold import Fold, Observer

DERIVED_STATES_MAX = 1_000
"""Cached order states, at most: each is larger than everything else held of its intent."""


class PositionWaiters:
    """Tasks that wait until a position is applied."""

    def __init__(self) -> None:
        self.waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        """A heap of position, order of arrival, future."""
        self._serial = count()
        self._problem: BaseException | None = None

    async def wait(self, position: int) -> None:
        if self._problem is not None:
            raise self._problem
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self.waiting, (position, next(self._serial), waiter))
        await waiter

    def wake(self, position: int) -> None:
        """Wake the tasks that wait for `position` or an earlier one."""
        while self.waiting and self.waiting[0][0] <= position:
            _, _, waiter = heapq.heappop(self.waiting)
            if not waiter.done():
                waiter.set_result(None)

    def fail(self, problem: BaseException) -> None:
        """Raise `problem` in every task that waits, now or later."""
        self._problem = problem
        for _, _, waiter in self.waiting:
            if not waiter.done():
                waiter.set_exception(problem)
        self.waiting.clear()


class State:
    """Everything folded so far. `KernelState` documents the queries."""

    def __init__(self, retention: RetentionPolicy | None = None, *, observer: Observer | None = None) -> None:
        """Begin before the first event.

        Args:
            retention: How much stays in memory. Two folds are equal only if they have the same policy.
            observer: Called with each event that is folded, those of rehydrated streams included.
        """
        self._data = StateData(retention or RetentionPolicy())
        self._fold = Fold(self._data, observer)
        self._waiters = PositionWaiters()

    def apply(self, batch: Sequence[events.BaseEvent], rehydrated: Sequence[events.BaseEvent] = ()) -> Applied:
        """Fold a batch.

        Args:
            batch: Events whose first position follows `position`. A batch that crosses a position of eviction may need
                to be split first (`parts_of`).
            rehydrated: Every event up to `position` of the streams that `missing` names, in order.

        Returns:
            The intents that changed, and those whose desired and observed sides now differ.

        Raises:
            IntegrityError: The batch does not follow `position`, or continues a stream that is not in memory.
        """
        if rehydrated:
            self._data.rehydrate(folded_alone(rehydrated, observer=self._fold.observer)._data)
        return joined([self._apply_part(part) for part in self.parts_of(batch)])

    def _apply_part(self, part: Sequence[events.BaseEvent]) -> Applied:
        data = self._data
        touched = self._fold.apply(part)
        self._waiters.wake(data.position)
        changed = self._with_children(touched) if data.groups.by_id else touched
        differing = tuple([intent_id for intent_id in changed if self._update_live(intent_id)])
        if data.position % data.retention.every_positions == 0:
            data.evict()
        return Applied(tuple(touched), differing)

    def _with_children(self, touched: dict[str, None]) -> Iterator[str]:
        """Each touched intent, and the children of a parent that became live or ceased to be."""
        data = self._data
        for intent_id in [*touched]:
            was_live = intent_id in data.indexes.live
            yield intent_id
            group = data.groups.of(intent_id)
            if group is None or group.parent != intent_id or was_live == (intent_id in data.indexes.live):
                continue
            for child in group.intent_ids[1:]:
                touched[child] = None
                yield child

    def _update_live(self, intent_id: str) -> bool:
        """Update the indexes of live and terminal intents; whether the intent's two sides differ."""
        data = self._data
        record = data.records.get(intent_id) or data.record(intent_id)
        group = data.groups.of(intent_id) if data.groups.by_id else None
        unresolved = record.unresolved  # always counts, without deriving the order state
        differs = bool(unresolved) or self._differs(record, group)
        waits = group is not None and self.awaits_parent(intent_id)
        is_live = data.indexes.set_live(record, unresolved, differs=differs or waits)
        data.exposures.mark(intent_id, live=is_live)
        data.update_terminal(intent_id)
        return differs

    def _differs(self, record: Record, group: Group | None) -> bool:
        """Return whether the sides of an intent without an unresolved attempt differ, or a report about it is due."""
        plain = group is None and record.accepted is None
        if diff.differs(self, record if plain else self._grouped(record)):
            return True
        return is_disagreement_due(record) if group is None else self.is_report_due(record.intent_id)

    def parts_of(self, batch: Sequence[events.BaseEvent]) -> Iterator[Sequence[events.BaseEvent]]:
        """A batch, split at the positions where eviction happens."""
        while batch:
            count = self._data.retention.next_eviction(batch[0].position) - batch[0].position + 1
            yield batch[:count]
            batch = batch[count:]

    def missing(self, part: Sequence[events.BaseEvent]) -> frozenset[str]:
        return self._data.missing(part)

    def cache_streams(self, rehydrated: Sequence[events.BaseEvent]) -> None:
        """Answer queries about evicted intents without holding them again; `rehydrated` is as in `apply`."""
        self._data.cache_streams(folded_alone(rehydrated)._data)

    def follow(self, streams: Iterable[str]) -> None:
        """Fold these streams only from now on: those that a partial state was folded from."""
        self._fold.streams = frozenset(streams)

    async def reached(self, position: int) -> None:
        if position > self._data.position:
            await self._waiters.wait(position)

    def fail(self, problem: BaseException) -> None:
        self._waiters.fail(problem)

    @property
    def retention(self) -> RetentionPolicy:
        """How much stays in memory."""
        return self._data.retention

    def records(self) -> Mapping[str, Record]:
        """Every record in memory, in order of first sight. Do not change it."""
        return self._data.records

    def snapshot(self) -> StateSnapshot:
        """A copy of everything but the records."""
        return self._data.snapshot()

    def restore(self, snapshot: StateSnapshot, records: Iterable[Record]) -> None:
        """Become the state that `snapshot` and `records` were taken from; only a new state may."""
        self._data.restore(snapshot, records)

    def digest(self) -> str:
        """SHA-256 in hex over every folded field: equal folds have equal digests."""
        return self._data.digest()

    def first_difference(self, other: State) -> FieldDifference | None:
        """The first field in which two folds differ, or None."""
        return first_field(self._data, other._data)

    @property
    def position(self) -> int:
        return self._data.position

    @property
    def log_id(self) -> str:
        return self._data.log_id

    @property
    def exchange_id(self) -> str:
        return self._data.exchange_id

    @property
    def created_at_ns(self) -> int:
        return self._data.created_at_ns

    @property
    def epoch(self) -> int:
        return self._data.epoch

    @property
    def paused(self) -> bool:
        return self._data.trading_status.every is not None

    @property
    def paused_by(self) -> str:
        pause = self._data.trading_status.every
        return pause.by if pause is not None else ""

    @property
    def trading_status(self) -> TradingStatus:
        return self._data.trading_status

    @property
    def trades_cursor_ns(self) -> int | None:
        return self._data.trades_cursors.account_ns

    @property
    def lists_trades_by_symbol(self) -> bool:
        return bool(self._data.trades_cursors.symbols)

    def trades_cursor_of(self, symbol_id: str) -> int | None:
        return self._data.trades_cursors.of(symbol_id)

    def record(self, intent_id: str) -> Record:
        return self._data.record(intent_id)

    def is_loaded(self, intent_id: str) -> bool:
        data = self._data
        return not data.evicted.intents or intent_id in data.records or intent_id in data.cached

    @property
    def evicted_count(self) -> int:
        return self._data.evicted.intents

    def intent(self, intent_id: str) -> OrderIntent | None:
        record = self._data.known(intent_id)
        return record.intent if record is not None else None

    def effective_intent(self, intent_id: str) -> OrderIntent | None:
        return self.grouped_record(intent_id).intent

    def grouped_record(self, intent_id: str) -> Record:
        return self._grouped(self._data.record(intent_id))

    def _grouped(self, record: Record) -> Record:
        """A record with its effective intent: with the quantity that the group permits, and the accepted terms."""
        group, intent = self._data.group_of(record.intent_id), record.intent
        if group is not None and intent is not None and not group.native:
            permitted = self._data.permitted_quantity(group, intent.intent_id, intent.order.quantity)
            record = with_quantity(record, permitted)
        if record.accepted is not None:
            record = replace(record, intent=record.accepted_intent)
        if group is None or record.intent is None:
            return record
        if group.is_exit(record.intent_id):
            record = replace(record, intent=as_exit(record.intent))
        if not group.native:
            return record
        return with_quantity(record, venue_managed_quantity(record, sent=self.is_known_to_venue(group)))

    def _at_risk_record(self, intent_id: str) -> Record:
        """A record whose intent has the quantity at risk: what the group permits now, and of what the parent may still
        release as much as does not only reduce the parent's own position."""
        record, group = self.grouped_record(intent_id), self._data.group_of(intent_id)
        if group is None or not self.awaits_parent(intent_id) or record.intent is None:
            return record
        parent = self._data.record(group.intent_ids[0])
        parent_left = max(0, parent.wanted_most - parent.cum_qty)
        intents = [(name, self.intent(name)) for name in group.intent_ids]
        quantities = {name: intent.order.quantity for name, intent in intents if intent is not None}
        more = quantity_at_risk(group, intent_id, quantities, parent_left=parent_left)
        return with_quantity(record, record.intent.order.quantity + more)

    def group(self, group_id: str) -> Group | None:
        return self._data.groups.by_id.get(group_id) or self._data.cached_groups.by_id.get(group_id)

    def group_of(self, intent_id: str) -> Group | None:
        return self._data.group_of(intent_id)

    def groups(self) -> Iterable[Group]:
        return list(self._data.groups.by_id.values())

    def is_known_to_venue(self, group: Group) -> bool:
        return any(self._data.record(intent_id).orders for intent_id in group.intent_ids)

    def awaits_parent(self, intent_id: str) -> bool:
        group, record = self._data.group_of(intent_id), self._data.record(intent_id)
        if group is None or group.parent in (None, intent_id) or group.parent not in self._data.indexes.live:
            return False
        if group.native:
            return False
        intent = record.intent
        if intent is None or intent.desired is Desired.CANCELED or is_refused(replace(record, intent=as_exit(intent))):
            return False
        return self.permitted_quantity(group, intent_id, intent.order.quantity) < intent.order.quantity

    def permitted_quantity(self, group: Group, intent_id: str, intended: int) -> int:
        return self._data.permitted_quantity(group, intent_id, intended)

    def overfilled_group(self, intent_id: str) -> Group | None:
        """The intent's group if its `GROUP_OVERFILL` finding must be raised or resolved. Excess that an operator accepted
        raises no finding."""
        group = self._data.group_of(intent_id)
        if group is None:
            return None
        is_open = self._data.findings.is_open(finding_id(FindingKind.GROUP_OVERFILL, group.group_id))
        return group if is_open != (self.group_excess(group) > group.excess_accepted) else None

    def group_excess(self, group: Group) -> int:
        return self._data.group_excess(group)

    def is_exit(self, intent_id: str) -> bool:
        group = self._data.group_of(intent_id)
        return group is not None and group.is_exit(intent_id)

    def is_report_due(self, intent_id: str) -> bool:
        due = self.overfilled_group(intent_id) is not None or self.exit_report(intent_id) is not None
        return due or is_disagreement_due(self._data.record(intent_id))

    def exit_report(self, intent_id: str) -> ExitReport | None:
        group = self._data.group_of(intent_id)
        if group is None or not group.is_exit(intent_id):
            return None
        is_open = self._data.findings.is_open(finding_id(FindingKind.EXIT_MISSING, group.group_id))
        missing = group.exit_missing_ns is not None and self._data.exit_is_missing(group)
        if is_open == missing:
            return None
        guards = self._data.guards(group)
        held = group.open_qty - self._data.exit_terms(group).fees
        works = max((sum(facts.leaves_qty for facts in item.live_orders) for item in guards), default=0)
        names = tuple(item.intent_id for item in guards)
        return ExitReport(group, group.exit_missing_ns if missing else None, held, held - works, names)

    def order_state(self, intent_id: str) -> OrderState | None:
        record = self._data.known(intent_id)
        if record is None:
            return None
        derived = self._data.derived
        if intent_id not in derived:
            if len(derived) >= DERIVED_STATES_MAX:
                derived.clear()
            derived[intent_id] = order_state(self._grouped(record))
        return self._confirmed_state(record, derived[intent_id])

    def observed_order(self, intent_id: str) -> OrderState | None:
        record = self._data.known(intent_id)
        if record is None or record.has_order or not (record.current_orders or record.attempts):
            return self.order_state(intent_id)
        return order_state(self._grouped(replace(record, has_order=True)))

    def _confirmed_state(self, record: Record, state: OrderState | None) -> OrderState | None:
        """The order state; the newest complete list of open orders confirms a live order without an event."""
        began_ns, ended_ns = self._data.confirmed
        if state is None or record.recorded is not None or ended_ns // 1_000_000_000 <= state.last_sync_at:
            return state
        live = record.live_orders
        if not live or any(facts.first_seen_ns >= began_ns for facts in live):
            return state
        return replace(state, last_sync_at=ended_ns // 1_000_000_000)

    def intents(self) -> Iterable[OrderIntent]:
        return self._intents_of(self._data.records)

    def intents_of_symbol(self, symbol_id: str) -> Iterable[OrderIntent]:
        return self._intents_of(self._data.indexes.by_symbol.get(symbol_id, {}))

    def intents_of_group(self, group_id: str) -> Iterable[OrderIntent]:
        """The intents of a group, in order of creation."""
        return self._intents_of(self._data.indexes.by_group.get(group_id, {}))

    def _intents_of(self, intent_ids: Iterable[str]) -> Iterable[OrderIntent]:
        created = [(item.created_position, item.intent) for item in map(self.record, intent_ids) if item.intent]
        return [intent for _, intent in sorted(created, key=itemgetter(0))]

    def intent_symbols(self) -> list[str]:
        return sorted({*self._data.indexes.by_symbol, *self._data.trades_cursors.evicted})

    def order_states(self) -> Iterable[OrderState]:
        having = [record for record in self._data.records.values() if record.has_order]
        ordered = sorted(having, key=attrgetter("order_position"))
        return (state for record in ordered if (state := self.order_state(record.intent_id)) is not None)

    def live_intent_ids(self) -> list[str]:
        """See `KernelState`. First those that were deleted, or are not created yet."""
        return sorted(self._data.indexes.live, key=lambda intent_id: self.record(intent_id).created_position)

    def intent_id_of(self, *, client_order_id: str | None = None, exchange_order_id: str | None = None) -> str | None:
        by_venue = self.intent_ids_of_order(exchange_order_id or "")
        return by_venue[-1] if by_venue else self._data.indexes.by_client_order_id.get(client_order_id or "")

    def intent_ids_of_order(self, exchange_order_id: str) -> Sequence[str]:
        return self._data.indexes.intents_under(exchange_order_id)

    def open_orders(self, symbol_id: str) -> int:
        return self._data.indexes.open[symbol_id]

    @property
    def recorded_limits(self) -> Mapping[str, Any]:
        return self._data.recorded_limits

    @property
    def heartbeats(self) -> Mapping[str, Heartbeat]:
        return self._data.heartbeats

    def symbol_exposure(self, symbol_id: str) -> Exposure:
        """See `KernelState`. Computes only what changed since the last call."""
        position = self._data.ledger.positions.get(symbol_id)
        quantity = position.quantity if position is not None else 0
        return self._data.exposures.of_symbol(symbol_id, position=quantity, record=self._at_risk_record)

    def open_risk(self, intent_id: str, order: StandardOrder) -> OpenRisk | None:
        found = self._data.exposures.of_intent(intent_id, record=self._at_risk_record)
        return next((item for item in found if (item.symbol_id, item.side) == (order.symbol_id, order.side)), None)

    def symbol(self, symbol_id: str) -> SymbolMetadata | None:
        return self._data.reference.symbol(symbol_id)

    def symbols(self) -> Iterable[SymbolMetadata]:
        return self._data.reference.symbols()

    def asset(self, asset_id: str) -> AssetMetadata | None:
        return self._data.reference.asset(asset_id)

    def assets(self) -> Iterable[AssetMetadata]:
        return self._data.reference.assets()

    def positions(self) -> Iterable[Position]:
        held = sorted(self._data.ledger.positions.items())
        return [ledger.position_of_holding(symbol_id, item) for symbol_id, item in held]

    def account(self) -> AccountState:
        data = self._data
        if data.balances_at_ns is None:
            return AccountState(exchange_id=data.exchange_id)
        working = data.exposures.working(record=self._at_risk_record)
        risks = chain(working, external_risks(self.external_orders()))
        expected = expected_balances(data.ledger.expected_now(), risks, data.reference, data.exposures.last_prices)
        return AccountState(
            exchange_id=data.exchange_id, balances=data.ledger.observed, evidence=Evidence.QUERY,
            observed_at_ns=data.balances_at_ns, expected=expected,
        )  # fmt: skip

    def findings(self) -> Iterable[Finding]:
        return self._data.findings.all()

    def finding(self, finding_id: str) -> Finding | None:
        return self._data.findings.get(finding_id)

    def position_drift(self) -> dict[str, int]:
        return dict(self._data.ledger.position_drift)

    def external_orders(self) -> Iterable[ExternalOrder]:
        return [entry.order for entry in self._data.externals.entries.values()]

    def external_order(self, exchange_order_id: str) -> ExternalOrder | None:
        entry = self._data.externals.find(exchange_order_id)
        return entry.order if entry is not None else None

    def external_order_of(self, report: ExecutionReport) -> ExternalOrder | None:
        entry = self._data.externals.find(
            report.exchange_order_id or "", report.symbol_id, report.side, report.client_order_id
        )
        return entry.order if entry is not None else None

    def has_transfer(self, transfer_key: str) -> bool:
        return transfer_key in self._data.transfer_keys

    def external_trades(self, order: ExternalOrder) -> list[TradeEntry]:
        entry = self._data.externals.find(order.exchange_order_id, order.symbol_id, order.side, order.client_order_id)
        return entry.trade_entries() if entry is not None else []

    def external_orders_since(self, symbol_id: str, side: Side, *, position: int) -> Iterable[ExternalOrder]:
        return self._data.externals.seen_since(symbol_id, side, position=position)

    def intents_with_unresolved_orders(self, symbol_id: str, side: Side) -> list[str]:
        names = self._data.indexes.unresolved.get(symbol_id, {})
        return [name for name in names if any(item.side is side for item in order_requests(self.record(name)))]

    def dead_requests(self) -> Iterable[OrderRequest]:
        return list(self._data.dead_requests.values())

    @property
    def venue_version(self) -> int:
        return self._data.venue_version

    def balance_drift(self) -> dict[str, int]:
        return dict(self._data.ledger.drift)

    def expected_balances(self) -> dict[str, int] | None:
        """Asset to opening balance plus fills, fees and transfers; None before balances were first observed."""
        return self._data.ledger.expected()


def folded_alone(streams: Sequence[events.BaseEvent], *, position: int = 0, observer: Observer | None = None) -> State:
    """A fold of all events of a few streams, in order, by themselves. It has what these streams alone determine."""
    state = State(observer=observer)
    touched: dict[str, None] = {}
    for event in streams:
        state._fold.fold(event, event.envelope, touched)
    state._data.position = position
    return state
