"""The rows that a batch of events changes. Used by `replay.readmodel`, batch by batch as the log is folded.

It reads the state right after the batch was applied, and only what the batch names: the cost depends on the batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kernel import events
from kernel.events.codec import canonical_json
from kernel.groups import Group
from kernel.lifecycle.orders.order_facts import OrderFacts
from kernel.lifecycle.orders.trades import TradeEntry, fees_of
from kernel.lifecycle.record import Record, order_state
from kernel.lifecycle.settled_orders import recalled
from kernel.models import OrderIntent, OrderState
from kernel.order_spec import StandardOrder
from kernel.state import Applied
from projections.sql.schema import (
    BALANCES,
    FILLS,
    FINDINGS,
    GROUP_MEMBERS,
    GROUPS,
    INTENTS,
    ORDERS,
    POSITION_FEES,
    POSITIONS,
    Changes,
    Key,
    Row,
    SqlTable,
    Value,
    flag,
    text,
)
from projections.state import State

Trade = events.OrderFilled | events.FillCorrected
INSTANT_NS_MAX = 2**63 - 1


class RowMaker:
    """Makes rows of one state; remembers those of the small tables, to find the changed ones."""

    def __init__(self, state: State) -> None:
        """`state` must be at the position of the tables."""
        self._state = state
        self._small = {table.name: dict(small_rows(state, table)) for table in SMALL}

    def collect(self, batch: Sequence[events.BaseEvent], applied: Applied, changes: Changes) -> None:
        """Add the rows that a batch changed, right after the state applied it."""
        state = self._state
        named = MentionedIds(batch)
        assert named.intent_ids <= set(applied.touched), "an event of an intent did not touch it"
        groups = dict.fromkeys(named.group_ids)
        for intent_id in applied.touched:
            if (group := state.group_of(intent_id)) is not None:
                groups[group.group_id] = None
        # An order's state depends on its whole group, also if the batch did not touch the order.
        members = {name: None for group_id in groups for name in members_of(state, group_id)}
        for intent_id in {**dict.fromkeys(applied.touched), **members}:
            if state.record(intent_id).version:  # a group is recorded before its members
                self._intent(intent_id, changes)
            else:
                assert intent_id not in named.intent_ids, f"{intent_id} has changed, and is not in the state"
        for group_id in groups:
            put_group(state, group_id, changes)
        for finding_id in named.finding_ids:
            put_finding(state, finding_id, changes)
        for trade in named.trades:
            put_fill(state.record(trade.intent_id), trade, changes)
        if named.moves_money:
            self._small_tables(changes)

    def _intent(self, intent_id: str, changes: Changes) -> None:
        record = self._state.record(intent_id)
        group = self._state.group_of(intent_id)
        intent = record.intent
        order = order_state(self._state.grouped_record(intent_id)) if group else self._state.order_state(intent_id)
        put_or_delete(changes, INTENTS, (intent_id,), intent_row(record, intent) if intent is not None else None)
        put_or_delete(changes, ORDERS, (intent_id,), order_row(record, order) if order is not None else None)
        for facts in record.orders:
            if facts.rare.busts or facts.trades.corrected:
                mark_fills(record, facts, changes)

    def _small_tables(self, changes: Changes) -> None:
        for table in SMALL:
            before, after = self._small[table.name], dict(small_rows(self._state, table))
            for key in before.keys() - after.keys():
                changes.delete(table, key)
            for key, row in after.items():
                if before.get(key) != row:
                    changes.put(table, row)
            self._small[table.name] = after


class MentionedIds:
    """The ids that the events of a batch mention."""

    def __init__(self, batch: Iterable[events.BaseEvent]) -> None:
        self.intent_ids: set[str] = set()
        self.group_ids: dict[str, None] = {}
        self.finding_ids: dict[str, None] = {}
        self.trades: list[Trade] = []
        self.moves_money = False
        for event in batch:
            self._add(event)

    def _add(self, event: events.BaseEvent) -> None:
        stream_id = event.stream_id
        if stream_id.startswith(events.INTENT_STREAM_PREFIX):
            self.intent_ids.add(stream_id.removeprefix(events.INTENT_STREAM_PREFIX))
        elif stream_id.startswith(events.GROUP_STREAM_PREFIX):
            self.group_ids[stream_id.removeprefix(events.GROUP_STREAM_PREFIX)] = None
        if isinstance(event, events.OrderFilled | events.FillCorrected):
            self.trades.append(event)
        elif isinstance(event, events.FindingRaised):
            self.finding_ids[event.finding.finding_id] = None
        elif isinstance(event, events.FindingResolved):
            self.finding_ids[event.finding_id] = None
        self.moves_money = self.moves_money or isinstance(event, MONEY)


MONEY = (
    events.OrderReport,
    events.BalancesObserved,
    events.PositionObserved,
    events.TransferObserved,
    events.OrderStateRecorded,
    events.FindingResolved,
)
"""Events that may change positions or balances."""


def put_or_delete(changes: Changes, table: SqlTable, key: Key, row: Row | None) -> None:
    if row is None:
        changes.delete(table, key)
    else:
        changes.put(table, row)


def terms(order: StandardOrder) -> Row:
    return (
        order.symbol_id, order.side.value, order.order_type.value, order.quantity, order.price, order.stop_price,
        order.time_in_force.value,
    )  # fmt: skip


def intent_row(record: Record, intent: OrderIntent) -> Row:
    order = intent.order
    return (
        intent.intent_id, record.version, *terms(order), order.expire_at_ns, flag(order.post_only),
        flag(order.reduce_only), order.display_quantity, intent.group_id, text(intent.owner), intent.desired.value,
        intent.generation, intent.on_unsolicited_cancel.value, canonical_json(intent.metadata).decode(),
        intent.created_at_ns, intent.updated_at_ns,
    )  # fmt: skip


def order_row(record: Record, order: OrderState) -> Row:
    status = order.status
    return (
        order.intent_id, record.version, text(order.exchange_order_id), text(order.client_order_id),
        *terms(status.order), status.ord_status.value, status.cum_qty, status.leaves_qty, status.cum_notional,
        status.avg_px, order.reconciliation_status.value, order.observed_generation, len(record.unresolved),
        order.failures, order.failed_generation, order.not_before_ns, min(record.last_sync_ns, INSTANT_NS_MAX),
    )  # fmt: skip


def put_fill(record: Record, trade: Trade, changes: Changes) -> None:
    """Put a trade as reported, with the fee known now and whether it counts."""
    identity = (trade.fill_key, trade.last_qty, trade.last_px)
    orders = recalled(record, trade).orders
    known = next((entry for facts in orders for entry in facts.trades if entry.identity == identity), None)
    paid = known if known is not None else trade
    several = None if paid.fees is None else canonical_json(fees_of(paid)).decode()
    ref = trade.ref_fill_key if isinstance(trade, events.FillCorrected) else None
    liquidity = trade.liquidity if isinstance(trade, events.OrderFilled) else None
    counts = any(entry.identity == identity for facts in orders for entry in facts.counted_trades)
    row: Row = (
        trade.intent_id, text(trade.fill_key), trade.last_qty, trade.last_px, trade.position, trade.recorded_at_ns,
        trade.transact_time_ns, trade.symbol_id, trade.side.value, text(trade.exchange_order_id),
        text(trade.client_order_id), text(ref), liquidity.value if liquidity is not None else None, paid.fee,
        paid.fee_asset, several, flag(counts),
    )  # fmt: skip
    changes.put(FILLS, row)


def mark_fills(record: Record, facts: OrderFacts, changes: Changes) -> None:
    """Mark which trades of an order count, after a bust or a correction; earlier rows may change."""
    counted = {entry.identity for entry in facts.counted_trades}
    for entry in facts.trades:
        changes.mark(fill_key(record.intent_id, entry), counts=entry.identity in counted)


def fill_key(intent_id: str, entry: TradeEntry) -> Key:
    return (intent_id, text(entry.fill_key), entry.quantity, entry.price)


def members_of(state: State, group_id: str) -> tuple[str, ...]:
    """The intents that still belong to a group."""
    group = state.group(group_id)
    if group is None:
        return ()
    return tuple(name for name in group.intent_ids if state.group_of(name) is group)


def put_group(state: State, group_id: str, changes: Changes) -> None:
    group = state.group(group_id)
    if group is None:
        return
    changes.put(GROUPS, group_row(state, group))
    for place, intent_id in enumerate(group.intent_ids):
        changes.put(GROUP_MEMBERS, (group_id, intent_id, place, group.filled.get(intent_id, 0)))


def group_row(state: State, group: Group) -> Row:
    native = flag(group.native)
    excess = state.group_excess(group)
    return (group.group_id, group.version, group.mode.value, native, group.first, excess, group.excess_accepted)


def put_finding(state: State, finding_id: str, changes: Changes) -> None:
    finding = state.finding(finding_id)
    if finding is None:
        return
    row: Row = (
        text(finding.finding_id), finding.kind.value, text(finding.text), finding.intent_id, finding.symbol_id,
        finding.raised_at_ns, finding.resolved_at_ns, text(finding.resolution),
    )  # fmt: skip
    changes.put(FINDINGS, row)


SMALL = (POSITIONS, POSITION_FEES, BALANCES)
"""Tables with one row per symbol or asset: compared as a whole."""


def small_rows(state: State, table: SqlTable) -> list[tuple[Key, Row]]:
    """All rows of a small table, by key; none before the first event."""
    if not state.position:
        return []
    rows = {POSITIONS.name: position_rows, POSITION_FEES.name: fee_rows, BALANCES.name: balance_rows}[table.name](state)
    return [(table.key_of(row), row) for row in rows]


def position_rows(state: State) -> list[Row]:
    drift = state.position_drift()
    known = {item.symbol_id: item for item in state.positions()}
    rows: list[Row] = [
        (item.symbol_id, item.quantity, item.avg_px, item.cost, item.realized_pnl, drift.get(item.symbol_id, 0))
        for item in known.values()
    ]
    return [*rows, *((symbol_id, 0, None, 0, 0, off) for symbol_id, off in drift.items() if symbol_id not in known)]


def fee_rows(state: State) -> list[Row]:
    return [(item.symbol_id, asset_id, fee) for item in state.positions() for asset_id, fee in item.fees.items()]


def balance_rows(state: State) -> list[Row]:
    account, drift = state.account(), state.balance_drift()
    at_ns: Value = account.observed_at_ns
    rows: list[Row] = [
        (item.asset_id, item.total, item.locked, item.free, drift.get(item.asset_id, 0), at_ns)
        for item in account.balances.values()
    ]
    missing = (asset_id for asset_id in drift if asset_id not in account.balances)
    return [*rows, *((asset_id, 0, 0, 0, drift[asset_id], at_ns) for asset_id in missing)]
