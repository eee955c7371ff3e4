"""Orders that ended long ago: they count by their sums alone, so that an event costs the same however many there were.

`with_settled` moves them out of a record's orders; the state does so after each event. `recalled` brings back those that
an event or a report may be about, before it is applied, so that late evidence counts as ever. Either way a record
stands for the same facts. Which orders are settled follows from the record alone: every fold settles alike.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from msgspec.structs import replace

from kernel import events
from kernel.lifecycle.disagreement import finding_name
from kernel.lifecycle.findings import is_notable
from kernel.lifecycle.order_identity import Report, has_id, is_named_otherwise, replacement
from kernel.lifecycle.orders.order_facts import NONE_SETTLED, OrderFacts, newest_filled
from kernel.lifecycle.orders.order_status import ord_status
from kernel.lifecycle.orders.trigger_chain import link_replaced
from kernel.lifecycle.record import Record, as_exit, is_solicited, stops, targets_of, venue_order
from kernel.models import OrdStatus

KEPT = 4
"""The newest orders of an intent, which are never settled: reports about them are still to be expected."""
CLIENT_ID_FIELDS = ("client_order_id", "orig_client_order_id")
ID_FIELDS = (
    *CLIENT_ID_FIELDS, "exchange_order_id", "parent_exchange_order_id", "target_client_order_id",
    "target_exchange_order_id",
)  # fmt: skip
CONCERN_ALL = (events.IntentCreated, events.IntentDeleted, events.OrderStateRecorded, events.TermsAccepted)
"""Events that may change every order."""


def with_settled(record: Record) -> Record:
    """Return a record with all but the newest orders settled, as far as nothing more is expected of them."""
    if len(record.orders) <= KEPT and record.settled is NONE_SETTLED:
        return record
    record = with_last_filled(record)
    if len(record.orders) <= KEPT:
        return record
    last_filled, names = newest_filled(record.orders), names_in_use(record)
    found = [
        facts
        for facts in record.orders[:-KEPT]
        if facts.place != last_filled
        and is_settled(facts, record)
        and names.isdisjoint((facts.exchange_order_id, *facts.client_order_ids))
    ]
    if not found or (record.amends and link_replaced(record.orders, record.settled) != record.orders):
        return record
    settled = record.settled
    for facts in found:
        settled = settled.plus(facts)
    left = {facts.place for facts in found}
    return replace(record, orders=tuple([facts for facts in record.orders if facts.place not in left]), settled=settled)


def with_last_filled(record: Record) -> Record:
    """Return a record with the newest filled order among its orders: it may be the one that represents the intent."""
    last_filled = record.settled.last_filled
    if last_filled < 0 or last_filled < newest_filled(record.orders):
        return record
    return with_back(record, [facts for facts in record.settled if facts.place == last_filled])


def names_in_use(record: Record) -> set[str | None]:
    """Return the client order ids that several orders have, and the targets of unresolved requests."""
    times = Counter(name for facts in record.orders for name in facts.client_order_ids)
    shared = {name for name, count in times.items() if count > 1}
    aimed = {item.target_client_order_id for item in record.unresolved}
    return shared | aimed | {item.target_exchange_order_id for item in record.unresolved}


def is_settled(facts: OrderFacts, record: Record) -> bool:
    """Return whether an order has ended with a known quantity, and nothing depends on it any more but its sums."""
    if facts.live or facts.final_cum_qty is None or facts.unconfirmed_ns is not None or facts.inferred_qty:
        return False
    rare = facts.rare
    if rare.recorded or facts.succeeded or rare.end_acted or rare.id_reused or rare.busts or facts.trades.corrected:
        return False
    return bool(facts.all_ids) and not is_notable(facts, record) and (rare.retired or is_past(facts, record))


def is_past(facts: OrderFacts, record: Record) -> bool:
    """Return whether the end of an order says nothing about the intent's present generation."""
    intent = record.intent
    if intent is None:
        return False
    if 0 < facts.generation < intent.generation:
        return True
    status = ord_status(facts)
    if status is OrdStatus.FILLED:
        return not stops(venue_order(facts, record), as_exit(intent))
    return status is OrdStatus.CANCELED and is_solicited(facts, record)


def recalled(record: Record, about: events.BaseEvent | Report) -> Record:
    """Return a record with the settled orders that an event or a report may be about among its orders again."""
    if record.settled is NONE_SETTLED or not record.settled:
        return record
    found = [*record.settled] if concerns_all(record, about) else named_orders(record, about)
    return with_back(record, found) if found else record


def with_back(record: Record, found: Collection[OrderFacts]) -> Record:
    """Return a record with some of its settled orders among its orders again."""
    orders = sorted((*record.orders, *found), key=lambda facts: facts.place)
    return replace(record, orders=tuple(orders), settled=record.settled.without(found))


def concerns_all(record: Record, about: events.BaseEvent | Report) -> bool:
    """Return whether an event may change every order."""
    if isinstance(about, events.FindingResolved):
        return about.finding_id == finding_name(record)
    return isinstance(about, CONCERN_ALL)


def named_orders(record: Record, about: events.BaseEvent | Report) -> Collection[OrderFacts]:
    """Return the settled orders with an id that an event or a report names, and those that replaced one that it names.

    What an order filled may be in the totals of the one that replaced it, and so on.
    """
    settled, found, seen = record.settled, dict[int, OrderFacts](), set[int]()
    pending = [name for field in ID_FIELDS if (name := getattr(about, field, None))]
    pending += aimed_at(record, about)
    held = record.orders if record.amends else ()
    while pending:
        name = pending.pop()
        known = {facts.place: facts for facts in (*settled.under(name), *settled.replacing(name))}
        more = [*known.values(), *(facts for facts in held if is_about(facts, name))]
        pending += [item for facts in more if facts.place not in seen for item in facts.client_order_ids]
        seen.update(facts.place for facts in more)
        found |= known
    return found.values()


def is_about(facts: OrderFacts, name: str) -> bool:
    """Return whether an id is an order's, or that of the order that it replaced."""
    replaced = facts.rare.replaced is not None and facts.rare.replaced.client_order_id == name
    return replaced or facts.exchange_order_id == name or facts.answers_to(name)


def aimed_at(record: Record, about: Any) -> Iterator[str]:
    """Yield the targets of the requests that a report names, as far as no order of the record is the one it is about."""
    if not hasattr(about, "exec_type"):
        return
    names = [name for field in CLIENT_ID_FIELDS if (name := getattr(about, field, None))]
    sent = replacement(record, about)
    if sent is None and any(has_id(facts, about) and is_named(facts, names) for facts in record.orders):
        return
    replaced = record.target(sent.client_order_id) if sent is not None else None
    for client_id in (*names, *([replaced] if replaced else [])):
        for name in targets_of(record, client_id):
            yield name
            if any(
                facts.answers_to(name) and (sent is not None or not is_named_otherwise(facts, about))
                for facts in record.orders
            ):
                break


def is_named(facts: OrderFacts, names: Iterable[str]) -> bool:
    """Return whether an order has one of the client order ids that a report names, if it names any."""
    return not names or any(facts.answers_to(name) for name in names)
