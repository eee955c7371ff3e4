"""The paper exchange as a log leaves a venue: symbols, rules, orders and balances. Used by `simulation`.

The exchange has what the log knows to be at the venue, and nothing else. An order keeps its ids, terms and fills, and is
first in its queue; its earlier trades are in the balances and are not reported again. An unanswered request never arrived.
External orders are left out.
"""

from __future__ import annotations

from collections.abc import Iterator

from kernel.clock import NS_PER_MS, Clock
from kernel.errors import ValidationError, Violation
from kernel.lifecycle.orders.order_facts import OrderFacts
from kernel.lifecycle.record import Record
from kernel.models import OrdStatus
from kernel.order_spec import STOPPED, OcoMode, OrderType, SymbolMetadata
from kernel.venues.base import VenueCapabilities
from kernel.venues.paper.matching.changes import OWN
from kernel.venues.paper.matching.config import PaperConfig
from kernel.venues.paper.matching.orders import PaperOrder, terms_of
from projections.state import State

SHARED = (
    "amend", "amend_quantity", "amend_atomic", "native_groups", "lookup", "lookup_closed", "dedupe", "dedupe_for_ns",
    "validity_window_ns", "clock_skew_ns", "read_lag", "cancel_reports_cum_qty", "rate_limits",
)  # fmt: skip
"""Capabilities that the paper exchange takes over from the recorded venue."""


def config_like(
    state: State,
    capabilities: VenueCapabilities | None,
    prices: dict[str, int],
    *,
    rules: PaperConfig | None,
    clock: Clock,
) -> PaperConfig:
    """Configure a paper exchange with the log's symbols, balances and last `prices`, and the rules of its venue or `rules`.

    Raises `ValidationError` if the log has no symbol.
    """
    symbols = tradable(state)
    if not symbols:
        raise ValidationError(
            "no symbol is known at the fork: fork later, after the venue's symbols were first observed"
        )
    chosen = rules or PaperConfig()
    if rules is None and capabilities is not None:
        chosen = chosen.model_copy(update={name: getattr(capabilities, name) for name in SHARED})
    balances = state.expected_balances()
    return chosen.model_copy(
        update={
            "symbols": symbols,
            "assets": tuple(state.assets()),
            "balances": chosen.balances if balances is None else balances,
            "last_prices": {symbol.symbol_id: prices.get(symbol.symbol_id, 0) for symbol in symbols},
            "first_id": max(clock.now_ns() // NS_PER_MS, 1 + max(known_ids(state), default=0)),
        }
    )


def tradable(state: State) -> tuple[SymbolMetadata, ...]:
    """The symbols whose assets are known too."""
    assets = {asset.asset_id for asset in state.assets()}
    return tuple(symbol for symbol in state.symbols() if {symbol.base_asset, symbol.quote_asset} <= assets)


def known_ids(state: State) -> Iterator[int]:
    """The numeric order and fill ids of the venue."""
    for intent_id in [intent.intent_id for intent in state.intents()]:
        for facts in state.record(intent_id).orders:
            texts = (facts.exchange_order_id, *(trade.fill_key.rpartition("/")[2] for trade in facts.trades))
            yield from (int(text) for text in texts if text.isdecimal() and text.isascii() and len(text) < 19)


def orders_at(state: State) -> list[PaperOrder]:
    """The venue orders of live intents, ended ones included: they may be queried.

    Raises `ValidationError` for an order id that the paper exchange cannot have.
    """
    found = []
    for intent_id in state.live_intent_ids():
        record = state.record(intent_id)
        found += [paper_order(state, record, facts) for facts in record.orders if facts.exchange_order_id]
    return sorted(found, key=lambda order: (order.created_ns, order.order_id))


def paper_order(state: State, record: Record, facts: OrderFacts) -> PaperOrder:
    """One venue order, in the exchange's type."""
    if not (facts.exchange_order_id.isdecimal() and facts.exchange_order_id.isascii()):
        limit = "a whole number, as the paper exchange gives; orders of other venues cannot be simulated"
        found = Violation("exchange_order_id", "form", limit, facts.exchange_order_id)
        raise ValidationError(f"order of {record.intent_id}", [found])
    order = facts.order
    group = state.group_of(record.intent_id)
    native = group is not None and bool(group.native)
    return PaperOrder(
        order_id=int(facts.exchange_order_id),
        account=OWN,
        client_order_id=facts.client_order_id,
        **terms_of(order)
        | {
            "quantity": facts.quantity,
            "price": None if order.order_type in (OrderType.MARKET, OrderType.STOP) else facts.price,
        },
        created_ns=facts.first_seen_ns,
        updated_ns=max(facts.first_seen_ns, facts.last_seen_ns),
        rank=int(facts.exchange_order_id),
        asked=max(facts.quantity, order.quantity) if native else facts.quantity,
        status=status_of(facts),
        cum_qty=min(facts.cum_qty, facts.quantity),
        cum_notional=facts.quantities.cum_notional,
        armed=order.order_type in STOPPED and not facts.rare.triggered,
        expires_ns=order.expire_at_ns,
        shown=min(order.display_quantity or 0, max(0, facts.quantity - facts.cum_qty)),
        group_id=first_of(state, group.intent_ids) if group is not None and native else None,
        group_mode=group.mode if group is not None and native else OcoMode.NONE,
    )


def first_of(state: State, intent_ids: tuple[str, ...]) -> int | None:
    """The exchange's number of a group: the id of its first order."""
    ids = (facts.exchange_order_id for name in intent_ids for facts in state.record(name).orders)
    return next((int(name) for name in ids if name.isdecimal()), None)


def status_of(facts: OrderFacts) -> OrdStatus:
    if facts.live:
        return OrdStatus.PARTIALLY_FILLED if facts.cum_qty else OrdStatus.NEW
    if facts.closed is not None:
        return facts.closed
    return OrdStatus.FILLED if facts.filled else OrdStatus.CANCELED
