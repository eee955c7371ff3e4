"""Suspects: external orders that may be the order of an unresolved submit, where no query by its id finds them all (H20).

Or the order that the trigger of a stop made which has ended, where such an order is a new one of the venue (H23).

Used by the decision of a run, by the status querier before it concludes absence, by the session, which goes on watching
submits that were resolved as DEAD, and by `orderctl decisions`. Pure. Price and exact quantity clear nobody: venues round.
Nor does the claim that lists show client order ids clear a report that has none, if it has the quantity requested.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from kernel.lifecycle.attribution import OrderRequest, order_requests
from kernel.lifecycle.record import Record
from kernel.models import AttemptOutcome, ExternalOrder
from kernel.order_spec import Side, SymbolMetadata
from kernel.state import KernelState
from kernel.venues.base import VenueCapabilities

NAMED_MAX = 5
"""Suspects that a finding names, at most."""


def is_suspect(
    order: ExternalOrder, request: OrderRequest, *, capabilities: VenueCapabilities, symbol: SymbolMetadata | None
) -> bool:
    """Return whether an external order of the request's symbol and side may be the order that it made."""
    if order.first_position < request.position or order.client_order_id:
        return False
    skew_ns, created_ns, traded_ns = capabilities.clock_skew_ns, order.created_ns, order.first_trade_ns
    earliest_ns = request.stamp_ns - skew_ns
    if created_ns is not None and created_ns < earliest_ns:
        return False
    if created_ns is not None and request.valid_until_ns is not None and created_ns > request.valid_until_ns + skew_ns:
        return False
    if traded_ns is not None and traded_ns < earliest_ns:
        return False
    if request.stop_id is not None and order.first_seen_ns < request.stamp_ns - capabilities.hosts_skew_ns:
        return False
    if request.is_final and (traded_ns is None or traded_ns > (request.valid_until_ns or traded_ns) + skew_ns):
        return False  # the lists that showed the stop's end lacked it
    more = max(order.quantity or 0, order.cum_qty) - request.quantity
    lot = symbol.lot_size if symbol is not None else 0
    return (symbol is None or more <= lot) and (capabilities.hides_client_ids or more >= -lot)


def suspects_of(
    state: KernelState, requests: Iterable[OrderRequest], capabilities: VenueCapabilities
) -> list[ExternalOrder]:
    """Return the suspects of some requests, oldest first."""
    found: dict[int, ExternalOrder] = {}
    for request in requests:
        symbol = state.symbol(request.symbol_id)
        for order in state.external_orders_since(request.symbol_id, request.side, position=request.position):
            if is_suspect(order, request, capabilities=capabilities, symbol=symbol):
                found[order.first_position] = order
    return [order for _, order in sorted(found.items())]


def unresolved_suspects(state: KernelState, record: Record, capabilities: VenueCapabilities) -> list[ExternalOrder]:
    """Return the suspects of an intent's unresolved submits and replaces; none where a query by id finds every order."""
    if capabilities.sees_closed:
        return []
    return suspects_of(state, order_requests(record), capabilities)


def ended_stops(
    state: KernelState, capabilities: VenueCapabilities, intent_id: str | None = None
) -> list[OrderRequest]:
    """Return the stops that may have triggered unseen, of one intent or of all; none where a trigger makes no new order."""
    if not capabilities.hides_triggered:
        return []
    return [item for item in state.dead_requests() if item.stop_id is not None and intent_id in (None, item.intent_id)]


def stop_suspects(state: KernelState, intent_id: str, capabilities: VenueCapabilities) -> list[ExternalOrder]:
    """Return the suspects of an intent's ended stops: nothing is placed for it while one may be their order."""
    return suspects_of(state, ended_stops(state, capabilities, intent_id), capabilities)


def fitting_requests(
    state: KernelState, order: ExternalOrder, side: Side, capabilities: VenueCapabilities
) -> list[OrderRequest]:
    """Return the unresolved requests and ended stops of all intents that an external order may be the order of."""
    symbol = state.symbol(order.symbol_id)
    unresolved = [
        request
        for intent_id in state.intents_with_unresolved_orders(order.symbol_id, side)
        for request in order_requests(state.record(intent_id))
    ]
    return [
        request
        for request in (*unresolved, *ended_stops(state, capabilities))
        if (request.symbol_id, request.side) == (order.symbol_id, side)
        and is_suspect(order, request, capabilities=capabilities, symbol=symbol)
    ]


def unknown_elsewhere(
    state: KernelState, intent_id: str, capabilities: VenueCapabilities, *, epoch: int
) -> frozenset[tuple[str, Side]]:
    """Return in which symbols and sides of an intent and its group another intent has an unknown submit.

    A submit there would make a second order that cannot be told from the first.
    """
    if not capabilities.hides_client_ids:
        return frozenset()
    group = state.group_of(intent_id)
    members = group.intent_ids if group is not None else (intent_id,)
    intents = [intent for name in members if (intent := state.intent(name)) is not None]
    return frozenset(
        (symbol_id, side)
        for symbol_id, side in {(intent.order.symbol_id, intent.order.side) for intent in intents}
        for other in state.intents_with_unresolved_orders(symbol_id, side)
        if other != intent_id and has_unknown_request(state.record(other), epoch=epoch)
    )


def has_unknown_request(record: Record, *, epoch: int) -> bool:
    """Return whether a submit or replace is unknown, or was left pending by an earlier leader."""
    return any(
        item.makes_order and (item.outcome is AttemptOutcome.UNKNOWN or item.epoch < epoch)
        for item in record.unresolved
    )


def suspects_text(suspects: Sequence[ExternalOrder], symbol: SymbolMetadata | None) -> str:
    """Return the suspects with their terms, for a finding."""
    more = f" and {len(suspects) - NAMED_MAX} more" if len(suspects) > NAMED_MAX else ""
    return ", ".join(described(suspects[:NAMED_MAX], symbol)) + more


def described(suspects: Iterable[ExternalOrder], symbol: SymbolMetadata | None) -> Iterator[str]:
    for order in suspects:
        terms = [order.side or "of unknown side"]
        if order.quantity is not None:
            terms.append(str(symbol.quantity_to_decimal(order.quantity) if symbol else order.quantity))
        if order.price is not None:
            terms.append(f"at {symbol.price_to_decimal(order.price) if symbol else order.price}")
        yield f"{order.exchange_order_id} ({' '.join(terms)})"
