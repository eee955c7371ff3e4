"""The resource types of `get`: the records of each, and the row that shows one.

Called by `listing` and `describe`. Only the rows are made here: JSON comes from the models themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import msgspec

from kernel import events
from kernel.groups import Group
from kernel.lifecycle.orders.trades import fees_of
from kernel.lifecycle.record import reconciliation_status
from kernel.models import (
    AccountState,
    Balance,
    ExternalOrder,
    Finding,
    OrderIntent,
    OrderState,
    Position,
    ReconciliationStatus,
)
from kernel.order_spec import StandardOrder, SymbolMetadata
from kernel.state import KernelState
from replay.formatting.decimals import Scales, decimal_text
from replay.formatting.output import NONE, age, utc
from replay.views.groups import GroupState, group_of_finding, group_state


class Subject(NamedTuple):
    """One record and the keys that select it."""

    name: str
    record: Any
    symbol_id: str | None = None
    intent_id: str | None = None


class RenderContext(NamedTuple):
    """A state, its scales, and the instant that ages count from."""

    state: KernelState
    scales: Scales
    now_ns: int


Lines = list[tuple[str, ...]]


class Resource(msgspec.Struct, frozen=True):
    """A type that `get` lists."""

    kind: str
    aliases: frozenset[str]
    columns: tuple[str, ...]
    narrow: int
    subjects: Callable[[KernelState], Iterable[Subject]]
    lines: Callable[[RenderContext, Any], Lines]
    filters: frozenset[str]
    """Of `owner` and `symbol`, those that apply."""


def render_context(state: KernelState, now_ns: int) -> RenderContext:
    return RenderContext(state, Scales(state.symbol, state.asset), now_ns)


def intent_subject(intent: Any) -> Subject:
    return Subject(intent.intent_id, intent, intent.order.symbol_id, intent.intent_id)


def order_subject(order: Any) -> Subject:
    return Subject(order.intent_id, order, order.status.order.symbol_id, order.intent_id)


def fill_subject(fill: events.OrderFilled) -> Subject:
    return Subject(fill.fill_key, fill, fill.symbol_id, fill.intent_id)


def finding_subject(state: KernelState, finding: Finding) -> Subject:
    group = group_of_finding(state, finding)
    intent_id = finding.intent_id if group is None else group.intent_ids[0]
    return Subject(finding.finding_id, finding, finding.symbol_id, intent_id)


def group_subject(state: KernelState, group: Group) -> Subject:
    """A group is selected by its first order that exists."""
    found = group_state(state, group)
    known = (item.intent_id for item in found.orders if item.quantity is not None)
    return Subject(group.group_id, found, found.symbol_id, next(known, None))


def terms(context: RenderContext, order: StandardOrder) -> tuple[str, ...]:
    """SYMBOL SIDE TYPE QUANTITY PRICE."""
    price = order.price if order.price is not None else order.stop_price
    quantity = context.scales.quantity(order.symbol_id, order.quantity)
    return (order.symbol_id, order.side, order.order_type, quantity, context.scales.price(order.symbol_id, price))


def intent_lines(context: RenderContext, intent: OrderIntent) -> Lines:
    state = context.state.order_state(intent.intent_id)
    status = (state.status.ord_status, state.reconciliation_status) if state else ("-", unsent_status(context, intent))
    cells = (intent.intent_id, *terms(context, intent.order), intent.desired, *status)
    wide = (intent.owner or NONE, str(intent.generation), intent.order.time_in_force, utc(intent.created_at_ns))
    return [(*cells, age(intent.created_at_ns, context.now_ns), *wide)]


def unsent_status(context: RenderContext, intent: OrderIntent) -> ReconciliationStatus:
    """The reconciliation status of an order before its first request; one held by its group is SYNCED."""
    return reconciliation_status(context.state.grouped_record(intent.intent_id))


def order_lines(context: RenderContext, order: OrderState) -> Lines:
    symbol_id, status = order.status.order.symbol_id, order.status
    filled = context.scales.quantity(symbol_id, status.cum_qty)
    average = context.scales.price(symbol_id, status.avg_px)
    cells = (order.intent_id, *terms(context, status.order), filled, average, status.ord_status)
    began_ns = order_began_ns(context.state, order)
    wide = (
        order.exchange_order_id or NONE,
        order.client_order_id or NONE,
        context.scales.quantity(symbol_id, status.leaves_qty),
        str(order.failures),
        utc(int(order.last_sync_at * 10**9)),
    )
    return [(*cells, order.reconciliation_status, age(began_ns, context.now_ns), *wide)]


def order_began_ns(state: KernelState, order: OrderState) -> int | None:
    """The creation of the order's intent, else its first sight at the venue."""
    intent = state.intent(order.intent_id)
    if intent is not None:
        return intent.created_at_ns
    return order.venue_orders[0].first_seen_ns if order.venue_orders else None


def fill_lines(context: RenderContext, fill: events.OrderFilled) -> Lines:
    quantity = context.scales.quantity(fill.symbol_id, fill.last_qty)
    price = context.scales.price(fill.symbol_id, fill.last_px)
    fees = ", ".join(
        f"{context.scales.amount(asset_id, fee)} {asset_id}" for asset_id, fee in (fees_of(fill) or {}).items() if fee
    )
    cells = (str(fill.position), fill.intent_id, fill.symbol_id, fill.side, quantity, price, fees or "-")
    wide = (fill.fill_key, fill.exchange_order_id or NONE, utc(fill.transact_time_ns))
    return [(*cells, fill.liquidity or "-", age(fill.recorded_at_ns, context.now_ns), *wide)]


def position_lines(context: RenderContext, position: Position) -> Lines:
    symbol_id = position.symbol_id
    fees = ", ".join(f"{context.scales.amount(asset_id, fee)} {asset_id}" for asset_id, fee in position.fees.items())
    quantity = context.scales.quantity(symbol_id, position.quantity)
    average = context.scales.price(symbol_id, position.avg_px)
    realized = context.scales.notional(symbol_id, position.realized_pnl)
    return [(symbol_id, quantity, average, realized, fees or "-", context.scales.notional(symbol_id, position.cost))]


def account_lines(context: RenderContext, account: AccountState) -> Lines:
    observed, since = (
        (account.evidence or NONE, utc(account.observed_at_ns)),
        age(account.observed_at_ns, context.now_ns),
    )
    expected = account.expected or {}
    return [
        (
            asset_id,
            *amounts(context, account.balances.get(asset_id)),
            *amounts(context, expected.get(asset_id)),
            since,
            *observed,
        )
        for asset_id in {**account.balances, **expected}
    ]


def amounts(context: RenderContext, balance: Balance | None) -> tuple[str, str, str]:
    if balance is None:
        return NONE, NONE, NONE
    total, locked, free = (
        context.scales.amount(balance.asset_id, value) for value in (balance.total, balance.locked, balance.free)
    )
    return total, locked, free


def symbol_lines(context: RenderContext, symbol: SymbolMetadata) -> Lines:
    cells = (
        symbol.symbol_id,
        symbol.base_asset,
        symbol.quote_asset,
        decimal_text(symbol.price_to_decimal(symbol.tick_size)),
        context.scales.quantity(symbol.symbol_id, symbol.lot_size),
        context.scales.notional(symbol.symbol_id, symbol.min_notional),
        symbol.status,
    )
    decimals = f"{symbol.price_decimals}/{symbol.quantity_decimals}"
    return [(*cells, decimals, ",".join(sorted(symbol.order_types)), ",".join(sorted(symbol.times_in_force)))]


def external_lines(context: RenderContext, order: ExternalOrder) -> Lines:
    symbol_id = order.symbol_id
    cells = (
        order.exchange_order_id,
        symbol_id,
        order.side or NONE,
        context.scales.quantity(symbol_id, order.quantity),
        context.scales.price(symbol_id, order.price),
        context.scales.quantity(symbol_id, order.cum_qty),
        order.ord_status or NONE,
        "yes" if order.live else "no",
        order.client_order_id or NONE,
    )
    return [(*cells, age(order.first_seen_ns, context.now_ns), utc(order.last_seen_ns))]


def finding_lines(context: RenderContext, finding: Finding) -> Lines:
    status = "OPEN" if finding.resolved_at_ns is None else "RESOLVED"
    since, group = age(finding.raised_at_ns, context.now_ns), group_of_finding(context.state, finding)
    about = group.group_id if group is not None else finding.intent_id or finding.symbol_id or NONE
    return [(finding.finding_id, finding.kind, about, status, since, finding.text, finding.resolution or NONE)]


def group_lines(context: RenderContext, group: GroupState) -> Lines:
    symbol_id = group.symbol_id or ""
    filled = "/".join(context.scales.quantity(symbol_id, item.cum_qty) for item in group.orders)
    excess, at_most = (context.scales.quantity(symbol_id, value) for value in (group.excess, group.max_excess))
    cells = (group.group_id, group.mode, group.symbol_id or NONE, str(len(group.orders)), filled, excess, at_most)
    owners = {intent.owner for item in group.orders if (intent := context.state.intent(item.intent_id)) is not None}
    wide = (",".join(sorted(filter(None, owners))) or NONE, group.first or NONE)
    names = ",".join(item.intent_id for item in group.orders)
    return [(*cells, age(group.created_at_ns, context.now_ns), *wide, names, utc(group.created_at_ns))]


TERMS = ("SYMBOL", "SIDE", "TYPE", "QUANTITY", "PRICE")
BOTH = frozenset({"owner", "symbol"})
INTENTS = Resource(
    "intent", frozenset({"intents", "intent", "int", "i"}),
    ("INTENT", *TERMS, "DESIRED", "STATUS", "SYNC", "AGE", "OWNER", "GENERATION", "TIF", "CREATED"), 10,
    lambda state: map(intent_subject, state.intents()), intent_lines, BOTH,
)  # fmt: skip
ORDERS = Resource(
    "order", frozenset({"orders", "order", "ord", "o"}),
    ("INTENT", *TERMS, "FILLED", "AVG", "STATUS", "SYNC", "AGE",
     "VENUE-ID", "CLIENT-ID", "LEAVES", "FAILURES", "SYNCED-AT"), 11,
    lambda state: map(order_subject, state.order_states()), order_lines, BOTH,
)  # fmt: skip
FILLS = Resource(
    "fill", frozenset({"fills", "fill", "f"}),
    ("POSITION", "INTENT", "SYMBOL", "SIDE", "QUANTITY", "PRICE", "FEE", "LIQUIDITY", "AGE",
     "FILL-KEY", "VENUE-ID", "TIME"), 9,
    lambda state: (), fill_lines, BOTH,
)  # fmt: skip
POSITIONS = Resource(
    "position", frozenset({"positions", "position", "pos", "p"}),
    ("SYMBOL", "QUANTITY", "AVG", "REALIZED", "FEES", "COST"), 5,
    lambda state: (Subject(item.symbol_id, item, item.symbol_id) for item in state.positions()), position_lines,
    frozenset({"symbol"}),
)  # fmt: skip
ACCOUNT = Resource(
    "account", frozenset({"account", "accounts", "acc"}),
    ("ASSET", "TOTAL", "LOCKED", "FREE", "EXPECTED", "EXP-LOCKED", "EXP-FREE", "AGE", "EVIDENCE", "OBSERVED"), 8,
    lambda state: (Subject(name, state.account()) for name in (state.exchange_id,) if name), account_lines, frozenset(),
)  # fmt: skip
SYMBOLS = Resource(
    "symbol", frozenset({"symbols", "symbol", "sym", "s"}),
    ("SYMBOL", "BASE", "QUOTE", "TICK", "LOT", "MIN-NOTIONAL", "STATUS", "DECIMALS", "TYPES", "TIFS"), 7,
    lambda state: (Subject(item.symbol_id, item, item.symbol_id) for item in state.symbols()), symbol_lines,
    frozenset({"symbol"}),
)  # fmt: skip
FINDINGS = Resource(
    "finding", frozenset({"findings", "finding", "find"}),
    ("FINDING", "KIND", "ABOUT", "STATUS", "AGE", "TEXT", "RESOLUTION"), 6,
    lambda state: (finding_subject(state, item) for item in state.findings()), finding_lines, BOTH,
)  # fmt: skip
GROUPS = Resource(
    "group", frozenset({"groups", "group", "grp", "g", "ordergroups", "ordergroup"}),
    ("GROUP", "MODE", "SYMBOL", "MEMBERS", "FILLED", "EXCESS", "MAX-EXCESS", "AGE",
     "OWNER", "FIRST-FILL", "ORDERS", "CREATED"), 8,
    lambda state: (group_subject(state, item) for item in state.groups()), group_lines, BOTH,
)  # fmt: skip
EXTERNAL = Resource(
    "external", frozenset({"external", "externals", "ext"}),
    ("VENUE-ID", "SYMBOL", "SIDE", "QUANTITY", "PRICE", "FILLED", "STATUS", "OPEN", "CLIENT-ID", "AGE", "LAST-SEEN"), 10,
    lambda state: (Subject(item.exchange_order_id, item, item.symbol_id) for item in state.external_orders()),
    external_lines, frozenset({"symbol"}),
)  # fmt: skip
RESOURCES = {
    "intents": INTENTS, "orders": ORDERS, "fills": FILLS, "positions": POSITIONS, "account": ACCOUNT,
    "symbols": SYMBOLS, "groups": GROUPS, "findings": FINDINGS, "external": EXTERNAL,
}  # fmt: skip
"""Each type by its plural."""
