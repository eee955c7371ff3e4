"""The proof that status queries give about an attempt whose outcome is unknown: pure functions.

Called by the decision before a query (`next_query_ns`) and by the querier after one that did not show the order
(`conclude`). Absence is concluded only from an admissible query: complete, and begun at or after `absent_after_ns`, which
the attempt's event carries (H1 – H5), by the venue's time. For a submit:

    shows closed orders  dedupe      window   not found
    yes                  for ever    any      order wanted: resend the same id at once, with ever rarer queries;
                                              else absent once the window is over
    yes                  open, none  known    absent by a query begun at or after absent_after
    yes                  open, none  unknown  absence is never proven: the attempt stays unknown
    no                   for ever    any      order wanted: resend the same id (a duplicate refusal proves that it exists)
    no                   open, none  known    absent by two queries: the list, then the trades (H15)
    no                   open, none  unknown  absence is never proven

Where the venue hides client order ids, an order that is shown without one may be the request's own: while there is such a
suspect, nothing is absent (H20). A venue without lookup and without both lists never proves absence.
"""

from __future__ import annotations

import msgspec

from kernel.lifecycle.record import Record
from kernel.models import Attempt, AttemptKind, OrderState, VenueOrder
from kernel.reconciler.status_answer import facts_of
from kernel.venues.base import VenueCapabilities


class ProvenAbsent(msgspec.Struct, frozen=True):
    """The request never arrived and no longer can."""

    text: str
    inferred: bool = False
    """By the operator's `assumed_max_delay_s`, not by evidence."""


class ClosedUnfilled(msgspec.Struct, frozen=True):
    """The venue refused a resend as a duplicate; the order is closed and never traded."""

    text: str


class FirstQuery(msgspec.Struct, frozen=True):
    """The first of two queries: not among the open orders; query the trades from `trades_from_ns` on."""

    trades_from_ns: int


class MayResend(msgspec.Struct, frozen=True):
    """The same attempt number and id may be sent again at once."""


class QueryAgain(msgspec.Struct, frozen=True):
    """Nothing can be concluded yet: query again at this instant (None: after the backoff)."""

    at_ns: int | None
    text: str


class Suspected(msgspec.Struct, frozen=True):
    """It would be absent, but what was not ruled out may be its order (H20): query again at this instant."""

    at_ns: int


Conclusion = ProvenAbsent | ClosedUnfilled | FirstQuery | MayResend | QueryAgain | Suspected


HOPELESS_QUERY_NS_MAX = 30_000_000_000
"""Longest time between queries that can find the order but never prove its absence."""


def next_query_ns(
    attempt: Attempt, capabilities: VenueCapabilities, *, last_query_ns: int | None, may_resend: bool = False
) -> int | None:
    """Return when to query next for an unresolved attempt; None if only the backoff spaces the queries.

    At 0, 1/4 and 1/2 of the time to `absent_after_ns` a query can find the order but not rule it out; from then on it
    can. If neither a query nor a resend can prove absence, each is later by half of the elapsed time, at most 30 s: many
    must not use up the rate limit, and the stream and each snapshot report an order that appears.
    """
    if last_query_ns is None:
        return attempt.stamp_ns
    if attempt.kind is AttemptKind.CANCEL or not capabilities.proves_absence:
        return spaced_ns(attempt, last_query_ns)
    if attempt.list_look_ended_ns is not None:
        trades_ns = attempt.list_look_ended_ns + trades_lag_ns(capabilities)
        return trades_ns if last_query_ns < trades_ns else spaced_ns(attempt, last_query_ns)
    absent_after_ns = attempt.absent_after_ns
    if absent_after_ns is None and not may_repeat(attempt, capabilities, may_resend=may_resend):
        return spaced_ns(attempt, last_query_ns)
    if absent_after_ns is None or last_query_ns >= absent_after_ns:
        return None
    span_ns = absent_after_ns - attempt.stamp_ns
    early = (attempt.stamp_ns, attempt.stamp_ns + span_ns // 4, attempt.stamp_ns + span_ns // 2)
    return next((instant for instant in early if instant > last_query_ns), absent_after_ns)


def spaced_ns(attempt: Attempt, last_query_ns: int) -> int:
    """Return when to query next, later by half of the elapsed time."""
    return last_query_ns + min((last_query_ns - attempt.stamp_ns) // 2, HOPELESS_QUERY_NS_MAX)


def may_repeat(attempt: Attempt, capabilities: VenueCapabilities, *, may_resend: bool) -> bool:
    """Return whether a resend is safe at any time: the venue accepts a client order id only once."""
    return capabilities.accepts_id_once and may_resend and not attempt.duplicate


def repeats_unseen(
    attempt: Attempt, capabilities: VenueCapabilities, *, may_resend: bool, last_query_ns: int | None, now_ns: int
) -> bool:
    """Return whether to resend without another query first, after one that did not show the order.

    The answer to a resend proves more. Where the rate limit rejects resends, a query before each would use it up.
    """
    if last_query_ns is None or not may_repeat(attempt, capabilities, may_resend=may_resend):
        return False
    return now_ns < spaced_ns(attempt, last_query_ns)


def conclude(
    attempt: Attempt,
    capabilities: VenueCapabilities,
    *,
    may_resend: bool,
    began_ns: int,
    ended_ns: int,
    assumed_max_delay_ns: int | None = None,
    suspected: bool = False,
) -> Conclusion:
    """Return what follows from a complete query that did not show the order of an unresolved attempt.

    `may_resend`: a resend would be placed, as the intent still needs the order. `assumed_max_delay_ns` is the
    operator's bound on the delay of a request. `suspected`: an external order, or a left out trade, may be its.
    """
    conclusion = without_suspects(
        attempt, capabilities, may_resend=may_resend, began_ns=began_ns, ended_ns=ended_ns,
        assumed_max_delay_ns=assumed_max_delay_ns,
    )  # fmt: skip
    if suspected and isinstance(conclusion, ProvenAbsent | ClosedUnfilled):
        return Suspected(spaced_ns(attempt, began_ns))
    return conclusion


def without_suspects(
    attempt: Attempt,
    capabilities: VenueCapabilities,
    *,
    may_resend: bool,
    began_ns: int,
    ended_ns: int,
    assumed_max_delay_ns: int | None,
) -> Conclusion:
    if may_repeat(attempt, capabilities, may_resend=may_resend):
        return MayResend()
    if not capabilities.proves_absence:
        return QueryAgain(spaced_ns(attempt, began_ns), "the venue has no query that shows absence")
    if attempt.duplicate and capabilities.accepts_id_once and not capabilities.sees_closed:
        return closed_unfilled(attempt, capabilities, began_ns=began_ns)
    if attempt.absent_after_ns is None:
        return without_window(attempt, began_ns=began_ns, assumed_max_delay_ns=assumed_max_delay_ns)
    if began_ns < attempt.absent_after_ns:
        return QueryAgain(
            next_query_ns(attempt, capabilities, last_query_ns=began_ns),
            "it may still arrive: absence cannot be proven yet",
        )
    if capabilities.sees_closed and capabilities.absence_looks <= 1 + (attempt.absent_looks or 0):
        return ProvenAbsent("not found by a query begun after the last instant at which it could be accepted")
    return absent_by_two_queries(attempt, capabilities, began_ns=began_ns, ended_ns=ended_ns)


def target_of(order: OrderState, attempt: Attempt, record: Record) -> VenueOrder | None:
    """Return the target of a cancel or modify, if the venue has reported it; it may have another client order id since.

    Of several the open one: the venue's id may be given again (H25), and a change may reach what a stop's trigger made
    under the same client order id (H23).
    """
    order_id, name = attempt.target_exchange_order_id, attempt.target_client_order_id
    found = [item for item in order.venue_orders if order_id and item.exchange_order_id == order_id]
    if not found or (attempt.kind is AttemptKind.AMEND and not any(item.live for item in found)):
        found += [item for item in order.venue_orders if item.client_order_id == name] or [
            item
            for item in order.venue_orders
            if (facts := facts_of(record, item)) is not None and name in facts.client_order_ids
        ]
    return next(reversed([item for item in found if item.live] or found), None)


def is_admissible(attempt: Attempt, *, began_ns: int) -> bool:
    """Return whether a query begun then can prove absence."""
    return attempt.absent_after_ns is not None and began_ns >= attempt.absent_after_ns


def absent_by_two_queries(
    attempt: Attempt, capabilities: VenueCapabilities, *, began_ns: int, ended_ns: int
) -> Conclusion:
    """Without lookup: query the open orders, then the trades a trade lag after that query ended (H15).

    A venue whose answers are known to err takes several queries of the open orders, or of the order, each a lag later.
    """
    lag_ns = trades_lag_ns(capabilities)
    if attempt.list_look_ended_ns is None:
        return FirstQuery(ended_ns + lag_ns)
    if began_ns < attempt.list_look_ended_ns + lag_ns:
        return QueryAgain(attempt.list_look_ended_ns + lag_ns, "the trades may not show it yet")
    if (attempt.absent_looks or 1) < capabilities.absence_looks:
        return FirstQuery(ended_ns + lag_ns)
    return ProvenAbsent("neither among the open orders nor, a trade lag later, among the trades")


def trades_lag_ns(capabilities: VenueCapabilities) -> int:
    """Return how long after a list the trades are queried; another host may have recorded the list's end."""
    return capabilities.read_lag.trades_ns + capabilities.hosts_skew_ns


def closed_unfilled(attempt: Attempt, capabilities: VenueCapabilities, *, began_ns: int) -> Conclusion:
    """A duplicate refusal proves that the order exists or existed; once shown nowhere, it closed without a fill."""
    shown_ns = attempt.send_by_ns + capabilities.clock_skew_ns + capabilities.read_lag.longest_ns
    if began_ns < shown_ns:
        return QueryAgain(shown_ns, "an order under this id exists, but queries may not show it yet")
    return ClosedUnfilled("refused as a duplicate, not among the open orders, no trade: it was closed without a fill")


def without_window(attempt: Attempt, *, began_ns: int, assumed_max_delay_ns: int | None) -> Conclusion:
    """Without a validity window absence is never proven; an operator's bound may assume it (H5)."""
    if assumed_max_delay_ns is None:
        return QueryAgain(None, "the venue may accept it at any time: only evidence or an operator can resolve it")
    assumed_ns = attempt.send_by_ns + assumed_max_delay_ns
    if began_ns < assumed_ns:
        return QueryAgain(assumed_ns, "the assumed maximum delay has not passed")
    return ProvenAbsent("not found after the assumed maximum delay of a request", inferred=True)
