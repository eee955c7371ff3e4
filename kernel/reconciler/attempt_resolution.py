"""The resolution of attempts whose outcome is unknown: the protocol's table, as functions of their arguments.

Called by the decision before a status query (`next_query_ns`) and by the status querier after one that did not find the
order (`conclude`). Pure: no clock, no I/O. Absence is concluded only from an admissible query: complete, and begun at or
after `absent_after_ns`, which the attempt's own event carries (H1 – H5). The table, for a submit:

    looks up closed orders  dedupe      window   not found
    yes                     for ever    any      wanted: resend the same id at once (queries come ever more rarely, the
                                                 answers tell more); else absent once the window is over
    yes                     open, none  known    absent by a query begun at or after absent_after
    yes                     open, none  unknown  never absent by itself: stays unknown
    no                      for ever    any      wanted: resend the same id (a duplicate refusal proves that it exists)
    no                      open, none  known    absent by two queries: the list, then the trades (H15)
    no                      open, none  unknown  never absent by itself
"""

from __future__ import annotations

from dataclasses import dataclass

from kernel.models import Attempt, OrderState, VenueOrder
from kernel.venues.base import Dedupe, VenueCapabilities

EARLY_QUERIES = (0, 4, 2)
"""A query at once, at a quarter and at half of the time to `absent_after_ns`: it can find the order, never rule it out."""


@dataclass(frozen=True, slots=True)
class ProvenAbsent:
    """It never arrived, and no longer can."""

    text: str
    inferred: bool = False
    """By an assumption that an operator configured, not by evidence."""


@dataclass(frozen=True, slots=True)
class ClosedUnfilled:
    """An order under the id existed (the venue refused a repeat), no longer works, and never traded."""

    text: str


@dataclass(frozen=True, slots=True)
class FirstQuery:
    """The open orders did not show it, admissibly; the trades are asked next, not before `trades_from_ns`."""

    trades_from_ns: int


@dataclass(frozen=True, slots=True)
class MayResend:
    """The same number and id may be sent again at once."""


@dataclass(frozen=True, slots=True)
class QueryAgain:
    """Nothing can be concluded yet: query again at this instant (None: after the backoff)."""

    at_ns: int | None
    text: str


Conclusion = ProvenAbsent | ClosedUnfilled | FirstQuery | MayResend | QueryAgain


HOPELESS_QUERY_NS_MAX = 30_000_000_000
"""Longest time between queries for an order that they hardly show: of which only its own appearance can ever be evidence,
or which is sent again meanwhile."""


def next_query_ns(attempt: Attempt, capabilities: VenueCapabilities, *, last_query_ns: int | None) -> int | None:
    """When to query next for an attempt, given the begin of the last query; None when only backoff spaces the queries.

    Queries are early before `absent_after_ns` (at once, at 1/4 and 1/2 of the time to it) and admissible from it on. Where
    no query ever proves absence, each is later by half of what has passed, but not by more than 30 s: many such attempts
    must not use up the venue's rate limit, and an order that turns up shows in the stream and in each relist.
    """
    if last_query_ns is None:
        return attempt.stamp_ns
    if attempt.list_look_ended_ns is not None and not capabilities.sees_closed:
        return attempt.list_look_ended_ns + trades_lag_ns(capabilities)
    absent_after_ns = attempt.absent_after_ns
    if absent_after_ns is None and capabilities.dedupe is not Dedupe.FOR_EVER:
        return spaced_ns(attempt, last_query_ns)
    if absent_after_ns is None or last_query_ns >= absent_after_ns:
        return None
    span = absent_after_ns - attempt.stamp_ns
    planned = (attempt.stamp_ns + (span // part if part else 0) for part in EARLY_QUERIES)
    return next((instant for instant in planned if instant > last_query_ns), absent_after_ns)


def spaced_ns(attempt: Attempt, last_query_ns: int) -> int:
    """When to query next for an order that a query hardly shows: later by half of what has passed each time."""
    return last_query_ns + min((last_query_ns - attempt.stamp_ns) // 2, HOPELESS_QUERY_NS_MAX)


def may_repeat(attempt: Attempt, capabilities: VenueCapabilities, *, wanted: bool) -> bool:
    """Whether the same number and id may be sent again at any time: at a venue that never takes an id twice."""
    return capabilities.dedupe is Dedupe.FOR_EVER and wanted and not attempt.duplicate


def repeats_unseen(
    attempt: Attempt, capabilities: VenueCapabilities, *, wanted: bool, last_query_ns: int | None, now_ns: int
) -> bool:
    """Whether to send again without another query first: one did not show the order, and the answer to a resend tells more.
    Where resends are rejected for the rate limit, a query before each would use it up, and no resend would ever pass.
    """
    if last_query_ns is None or not may_repeat(attempt, capabilities, wanted=wanted):
        return False
    return now_ns < spaced_ns(attempt, last_query_ns)


def conclude(
    attempt: Attempt,
    capabilities: VenueCapabilities,
    *,
    wanted: bool,
    began_ns: int,
    ended_ns: int,
    assumed_max_delay_ns: int | None = None,
) -> Conclusion:
    """What follows from a complete query that did not show an order. `wanted`: the intent still wants the order placed."""
    if may_repeat(attempt, capabilities, wanted=wanted):
        return MayResend()
    if attempt.duplicate and capabilities.dedupe is Dedupe.FOR_EVER and not capabilities.sees_closed:
        return closed_unfilled(attempt, capabilities, began_ns=began_ns)
    if attempt.absent_after_ns is None:
        return without_window(attempt, began_ns=began_ns, assumed_max_delay_ns=assumed_max_delay_ns)
    if began_ns < attempt.absent_after_ns:
        return QueryAgain(
            next_query_ns(attempt, capabilities, last_query_ns=began_ns),
            "it may still arrive: absence is not admissible yet",
        )
    if capabilities.sees_closed:
        return ProvenAbsent("not found by a look begun after the last instant at which it could be accepted")
    return absent_by_two_queries(attempt, capabilities, began_ns=began_ns, ended_ns=ended_ns)


def target_of(order: OrderState, attempt: Attempt) -> VenueOrder | None:
    """The order that a cancel or a change aims at, as far as it was seen."""
    for item in order.venue_orders:
        if attempt.target_exchange_order_id and item.exchange_order_id == attempt.target_exchange_order_id:
            return item
    named = [item for item in order.venue_orders if item.client_order_id == attempt.target_client_order_id]
    return named[-1] if named else None


def is_admissible(attempt: Attempt, *, began_ns: int) -> bool:
    """Whether a query begun then may conclude that an attempt never arrived."""
    return attempt.absent_after_ns is not None and began_ns >= attempt.absent_after_ns


def absent_by_two_queries(
    attempt: Attempt, capabilities: VenueCapabilities, *, began_ns: int, ended_ns: int
) -> Conclusion:
    """Without a look-up: first the list of open orders, then the trades begun a trade lag after it ended (H15)."""
    lag_ns = trades_lag_ns(capabilities)
    if attempt.list_look_ended_ns is None:
        return FirstQuery(ended_ns + lag_ns)
    if began_ns < attempt.list_look_ended_ns + lag_ns:
        return QueryAgain(attempt.list_look_ended_ns + lag_ns, "the trades may not show it yet")
    return ProvenAbsent("neither among the open orders nor, a trade lag later, among the trades")


def trades_lag_ns(capabilities: VenueCapabilities) -> int:
    """How long after a list the trades must be asked for: another host may have recorded when the list ended."""
    return capabilities.read_lag.trades_ns + capabilities.hosts_skew_ns


def closed_unfilled(attempt: Attempt, capabilities: VenueCapabilities, *, began_ns: int) -> Conclusion:
    """A duplicate refusal proves that an order under the id exists or existed. Once queries must show it, and neither the
    open orders nor the trades do, it was closed without a fill."""
    shown_ns = attempt.send_by_ns + capabilities.clock_skew_ns + capabilities.read_lag.longest_ns
    if began_ns < shown_ns:
        return QueryAgain(shown_ns, "an order under this id exists, queries may not show it yet")
    return ClosedUnfilled("refused as a duplicate, not among the open orders, no trade: it was closed without a fill")


def without_window(attempt: Attempt, *, began_ns: int, assumed_max_delay_ns: int | None) -> Conclusion:
    """A venue without a validity window: absence is never provable; it may be assumed, where an operator says so (H5)."""
    if assumed_max_delay_ns is None:
        return QueryAgain(None, "this venue may accept it at any time: only evidence, or an operator, settles it")
    assumed_ns = attempt.send_by_ns + assumed_max_delay_ns
    if began_ns < assumed_ns:
        return QueryAgain(assumed_ns, "the assumed longest delay is not over")
    return ProvenAbsent("not found after the assumed longest delay of a request", inferred=True)
