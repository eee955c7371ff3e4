"""Orders that follow another: stops that trigger as a new venue order (H23), and orders that replaced another.

Called by `evolve` after each report about one of several orders under one client order id. Each triggered order accounts
for one stop: the one that it names, else one that has ended, else the oldest live one. That stop is closed as succeeded,
whichever of the two is reported first, and its CumQty is evidence about the triggered order, so that nothing counts twice.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from kernel import events
from kernel.lifecycle.orders.order_facts import OrderFacts, SettledOrders, newest_void, valid_evidence, with_rare
from kernel.lifecycle.orders.order_status import TERMINAL
from kernel.lifecycle.orders.trades import Trades
from kernel.models import ExecType, OrdStatus
from kernel.order_spec import STOPPED

Orders = tuple[OrderFacts, ...]


def link_triggered(
    orders: Orders, changed: OrderFacts, *, now_ns: int, shown_ns: int | None, solicited: frozenset[str]
) -> Orders:
    """Return the orders with the stops of one client order id closed as far as triggered orders account for them.

    `changed` is the order of the newest report; `shown_ns` is when the query began that shows it open, if one does.
    Orders that the kernel canceled (`solicited`), as duplicates, are left out if others are left.
    """
    if not any(map(may_trigger, orders)):
        return orders
    places = [
        place for place, facts in enumerate(orders) if not facts.rare.retired and shares_client_id(facts, changed)
    ]
    remaining = [place for place in places if not is_canceled(orders[place], solicited)]
    places = remaining if len(remaining) > 1 else places
    chain = [orders[place] for place in places]
    if len(chain) < 2 or not any(map(may_trigger, chain)):
        return orders
    if shown_ns is not None and is_reopened(changed, chain, shown_ns=shown_ns):
        known = frozenset([facts.exchange_order_id for facts in chain]) - {changed.exchange_order_id}
        reopened = with_rare(changed, succeeded_ns=None, reopened_ids=changed.rare.reopened_ids | known)
        chain = [reopened if facts is changed else facts for facts in chain]
    successor_of = succession(chain)
    chain = [
        without_mirrored_trades(facts, chain[successor_of[number]]) if number in successor_of else facts
        for number, facts in enumerate(chain)
    ]
    stop_of = {successor: chain[stop] for stop, successor in successor_of.items()}
    linked = list(orders)
    for number, (place, facts) in enumerate(zip(places, chain, strict=True)):
        linked[place] = with_links(facts, stop_of.get(number), succeeded=number in successor_of, now_ns=now_ns)
    return tuple(linked)


def with_trigger(facts: OrderFacts, event: events.OrderReport) -> OrderFacts:
    """Note what a report tells about the trigger that made the order."""
    known = facts.rare
    parent_id, told_type = event.parent_exchange_order_id or known.parent_id, event.order_type or known.told_type
    if (parent_id, told_type) == (known.parent_id, known.told_type):
        return facts
    return with_rare(facts, parent_id=parent_id, told_type=told_type)


def shown_open_ns(event: events.OrderReport) -> int | None:
    """Return when the status query began that shows an order open; None for other reports."""
    if not isinstance(event, events.OrderStateObserved) or event.exec_type is not ExecType.ORDER_STATUS:
        return None
    return None if event.gone or event.ord_status in TERMINAL else event.began_ns


def shares_client_id(facts: OrderFacts, other: OrderFacts) -> bool:
    return not set(facts.client_order_ids).isdisjoint(other.client_order_ids)


def may_trigger(facts: OrderFacts) -> bool:
    return facts.order.order_type in STOPPED or facts.rare.triggered or bool(facts.rare.parent_id)


def is_reopened(stop: OrderFacts, chain: Sequence[OrderFacts], *, shown_ns: int) -> bool:
    """Return whether a query shows a stop open that was taken for triggered, and no order names it as its stop."""
    named = any(facts.rare.parent_id and facts.rare.parent_id == stop.exchange_order_id for facts in chain)
    return stop.rare.succeeded_ns is not None and shown_ns > stop.rare.succeeded_ns and not named


def keeps_closed(orders: Orders, exchange_order_id: str | None, *, reopens_until_ns: int) -> bool:
    """Return whether a stop is closed that a query cannot reopen, as it triggered after an instant."""
    return any(
        facts.rare.succeeded_ns is not None and facts.rare.succeeded_ns > reopens_until_ns
        for facts in orders
        if facts.exchange_order_id == exchange_order_id
    )


def succession(chain: Sequence[OrderFacts]) -> dict[int, int]:
    """Return the place of the triggered order that accounts for each stop, by the stop's place."""
    stops = untriggered(chain)
    successor_of: dict[int, int] = {}
    triggered = [place for place in range(len(chain)) if place not in stops]
    for successor in sorted(triggered, key=lambda place: not chain[place].rare.parent_id):
        parent_id = chain[successor].rare.parent_id
        left = [stop for stop in stops if stop not in successor_of]
        named = [stop for stop in left if parent_id and chain[stop].exchange_order_id == parent_id]
        others = [stop for stop in left if has_ended(chain[stop])]
        others += [stop for stop in left if chain[successor].exchange_order_id not in chain[stop].rare.reopened_ids]
        others.sort(key=lambda stop: not chain[stop].rare.triggered)
        if found := [*named, *others][:1]:
            successor_of[found[0]] = successor
    return successor_of


def untriggered(chain: Sequence[OrderFacts]) -> list[int]:
    """Return the places of the stops; where the venue does not tell, one order is the stop and the others followed it."""
    named = {facts.rare.parent_id for facts in chain if facts.rare.parent_id}
    places = range(len(chain))
    stops = [place for place in places if told_untriggered(chain[place]) or chain[place].exchange_order_id in named]
    untold = [place for place in places if place not in stops and not told_triggered(chain[place])]
    return stops or untold_stop(chain, untold)


def told_untriggered(facts: OrderFacts) -> bool:
    return not facts.rare.parent_id and facts.rare.told_type in STOPPED


def told_triggered(facts: OrderFacts) -> bool:
    return bool(facts.rare.parent_id) or (facts.rare.told_type is not None and facts.rare.told_type not in STOPPED)


def untold_stop(chain: Sequence[OrderFacts], untold: Sequence[int]) -> list[int]:
    """Return the order that is taken for the stop.

    The one that was accepted first; if that is not known the one taken so far, else one that ended without a trade, else
    the one that was reported first. An order that a query showed open afterwards was mistaken for the stop: then only one
    that has ended can be it.
    """
    known_ids = {facts.exchange_order_id for facts in chain}
    mistaken = any(not known_ids.isdisjoint(chain[place].rare.reopened_ids) for place in untold)
    eligible = [place for place in untold if is_spent(chain[place]) or not mistaken]
    if all(chain[place].rare.accepted_ns is not None for place in eligible):
        return sorted(eligible, key=lambda place: chain[place].rare.accepted_ns or 0)[:1]
    known = [place for place in eligible if chain[place].succeeded and not chain[place].trades]
    return known or sorted(eligible, key=lambda place: (not is_spent(chain[place]), bool(chain[place].trades)))[:1]


def is_canceled(facts: OrderFacts, solicited: frozenset[str]) -> bool:
    """Return whether the kernel canceled an order before it traded."""
    return facts.closed is OrdStatus.CANCELED and not facts.trades and facts.exchange_order_id in solicited


def has_ended(facts: OrderFacts) -> bool:
    """Return whether an order ended by itself, rather than by an order that followed it."""
    return facts.closed is not None or facts.gone_ns is not None


def is_spent(facts: OrderFacts) -> bool:
    """Return whether an order ended, or was told as filled, without a trade of its own."""
    return not facts.trades and (has_ended(facts) or facts.filled)


def without_mirrored_trades(stop: OrderFacts, successor: OrderFacts) -> OrderFacts:
    """Return a stop without the trades that the venue also reports of the order that followed it."""
    own = [entry for entry in stop.trades if successor.trades.same_as(entry) is None]
    return stop if len(own) == len(stop.trades) else replace(stop, trades=Trades(own))


def with_links(facts: OrderFacts, stop: OrderFacts | None, *, succeeded: bool, now_ns: int) -> OrderFacts:
    """Return an order with its place in the chain: what it takes over from its stop, and whether it is one itself."""
    succeeded_ns = facts.rare.succeeded_ns if succeeded and facts.succeeded else now_ns if succeeded else None
    mirrored_qty = mirrored_by(stop, facts) if stop is not None else 0
    generation = max(facts.generation, stop.generation) if stop is not None else facts.generation
    if (succeeded_ns, mirrored_qty, generation) == (facts.rare.succeeded_ns, facts.rare.mirrored_qty, facts.generation):
        return facts
    return with_rare(replace(facts, generation=generation), succeeded_ns=succeeded_ns, mirrored_qty=mirrored_qty)


def mirrored_by(stop: OrderFacts, successor: OrderFacts) -> int:
    """Return the CumQty that a stop shows of its successor: none that is older than a bust or correction of the latter."""
    voided_ns = newest_void(successor)
    shown = max((item.cum_qty for item in valid_evidence(stop) if item.time_ns >= voided_ns), default=0)
    return max(0, shown - stop.traded_qty)


def link_replaced(orders: Orders, settled: SettledOrders) -> Orders:
    """Return the orders, each with what the venue's totals of it include of the order that it replaced.

    A venue that carries the totals on (FIX OrderQty and CumQty) declares it; of one that does not, the totals themselves
    are evidence. Either way a fill counts once.
    """
    if not any(facts.rare.replaced for facts in orders):
        return orders
    linked = list(orders)
    for place, facts in enumerate(orders):
        filled = filled_before(facts, linked, settled)
        carried_qty = filled if carries(facts, filled) else 0
        if carried_qty != facts.rare.carried_qty:
            quantity = max(0, facts.quantity + facts.rare.carried_qty - carried_qty)
            linked[place] = with_rare(replace(facts, quantity=quantity), carried_qty=carried_qty)
    return tuple(linked)


def filled_before(facts: OrderFacts, orders: Sequence[OrderFacts], settled: SettledOrders) -> int:
    """Return what the orders filled that an order replaced, one after the other."""
    if facts.rare.replaced is None:
        return 0
    name = facts.rare.replaced.client_order_id
    named = [item for item in (*settled.under(name), *orders) if name in item.client_order_ids]
    return named[-1].cum_qty + named[-1].rare.carried_qty if named else 0


def carries(facts: OrderFacts, filled: int) -> bool:
    """Return whether an order's totals include what the replaced order filled.

    Where the venue does not declare it: its quantity is the total that was requested, and its CumQty is at least that
    filled quantity and its own trades.
    """
    if facts.rare.replaced is None or filled == 0:
        return False
    total = max((item.cum_qty for item in valid_evidence(facts)), default=0)
    is_whole = facts.quantity + facts.rare.carried_qty == facts.order.quantity
    return facts.rare.replaced.keeps_cum_qty or (is_whole and total >= filled + facts.traded_qty)
