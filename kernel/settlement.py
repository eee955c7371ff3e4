"""How what is unknown gets settled: the protocol's table, as functions of their arguments.

Called by the reconciler for an attempt that may have happened, before a look (`next_look`) and after one that did not find
the order (`conclude`). Pure: no clock, no I/O. Absence is concluded only from an admissible look: complete, and begun at or
after `absent_after_ns`, which the attempt's own event carries (H1 – H5). The table, for a submit:

    looks up closed orders  dedupe      window   not found
    yes                     for ever    any      wanted: resend the same id at once (looks come ever more rarely, the
                                                 answers tell more); else absent once the window is over
    yes                     open, none  known    absent by a look begun at or after absent_after
    yes                     open, none  unknown  never absent by itself: stays unknown
    no                      for ever    any      wanted: resend the same id (a duplicate refusal proves that it exists)
    no                      open, none  known    absent by two looks: the list, then the trades (H15)
    no                      open, none  unknown  never absent by itself
"""

from __future__ import annotations

from dataclasses import dataclass

from kernel.models import Attempt
from kernel.venues.base import Dedupe, VenueCapabilities

CHEAP_LOOKS = (0, 4, 2)
"""A look at once, at a quarter and at half of the time to `absent_after_ns`: they can find the order, never rule it out."""


@dataclass(frozen=True, slots=True)
class Dead:
    """It never arrived, and no longer can."""

    text: str
    inferred: bool = False
    """By an assumption that an operator configured, not by evidence."""


@dataclass(frozen=True, slots=True)
class ClosedUnfilled:
    """An order under the id existed (the venue refused a repeat), no longer works, and never traded."""

    text: str


@dataclass(frozen=True, slots=True)
class FirstLook:
    """The open orders did not show it, admissibly; the trades are asked next, not before `trades_from_ns`."""

    trades_from_ns: int


@dataclass(frozen=True, slots=True)
class Resend:
    """The same number and id may be sent again at once."""


@dataclass(frozen=True, slots=True)
class LookAgain:
    """Nothing can be concluded yet; look again at this instant (None: as backoff has it)."""

    at_ns: int | None
    text: str


Conclusion = Dead | ClosedUnfilled | FirstLook | Resend | LookAgain


HOPELESS_LOOK_NS_MAX = 30_000_000_000
"""Longest time between looks for an order that is not likely to be seen: of which only its own appearance can ever be
evidence, or which is sent again meanwhile."""


def next_look_ns(attempt: Attempt, capabilities: VenueCapabilities, *, last_look_ns: int | None) -> int | None:
    """When to look next for a submit, given when the last look began; None when only backoff spaces the looks.

    Looks are cheap before `absent_after_ns` (at once, at 1/4 and 1/2 of the time to it) and admissible from it on. Where no
    look ever proves absence, each is later by half of what has passed, but not by more than 30 s: many such attempts must
    not use up the venue's rate limit, and what turns up is seen in the stream and by each relist.
    """
    if last_look_ns is None:
        return attempt.stamp_ns
    if attempt.list_look_ended_ns is not None and not capabilities.sees_closed:
        return attempt.list_look_ended_ns + trades_lag_ns(capabilities)
    absent_after_ns = attempt.absent_after_ns
    if absent_after_ns is None and capabilities.dedupe is not Dedupe.FOR_EVER:
        return spaced_ns(attempt, last_look_ns)
    if absent_after_ns is None or last_look_ns >= absent_after_ns:
        return None
    span = absent_after_ns - attempt.stamp_ns
    planned = (attempt.stamp_ns + (span // part if part else 0) for part in CHEAP_LOOKS)
    return next((instant for instant in planned if instant > last_look_ns), absent_after_ns)


def spaced_ns(attempt: Attempt, last_look_ns: int) -> int:
    """When to look next for an order that a look is not likely to show: later by half of what has passed each time."""
    return last_look_ns + min((last_look_ns - attempt.stamp_ns) // 2, HOPELESS_LOOK_NS_MAX)


def may_repeat(attempt: Attempt, capabilities: VenueCapabilities, *, wanted: bool) -> bool:
    """Whether the same number and id may be sent again at any time: at a venue that never takes an id twice."""
    return capabilities.dedupe is Dedupe.FOR_EVER and wanted and not attempt.duplicate


def repeats_unseen(
    attempt: Attempt, capabilities: VenueCapabilities, *, wanted: bool, last_look_ns: int | None, now_ns: int
) -> bool:
    """Whether to send again without another look first: one did not show it, and the answer to a resend tells more than a
    look does. Where resends are refused for the rate limit, looks before each would use it up, and none would ever pass.
    """
    if last_look_ns is None or not may_repeat(attempt, capabilities, wanted=wanted):
        return False
    return now_ns < spaced_ns(attempt, last_look_ns)


def conclude(
    attempt: Attempt,
    capabilities: VenueCapabilities,
    *,
    wanted: bool,
    began_ns: int,
    ended_ns: int,
    assumed_max_delay_ns: int | None = None,
) -> Conclusion:
    """What a complete look that did not show a submit's order comes to. `wanted`: the intent still wants it placed."""
    if may_repeat(attempt, capabilities, wanted=wanted):
        return Resend()
    if attempt.duplicate and capabilities.dedupe is Dedupe.FOR_EVER and not capabilities.sees_closed:
        return closed_unfilled(attempt, capabilities, began_ns=began_ns)
    if attempt.absent_after_ns is None:
        return without_window(attempt, began_ns=began_ns, assumed_max_delay_ns=assumed_max_delay_ns)
    if began_ns < attempt.absent_after_ns:
        return LookAgain(
            next_look_ns(attempt, capabilities, last_look_ns=began_ns),
            "it may still arrive: absence is not admissible yet",
        )
    if capabilities.sees_closed:
        return Dead("not found by a look begun after the last instant at which it could be accepted")
    return by_two_looks(attempt, capabilities, began_ns=began_ns, ended_ns=ended_ns)


def is_admissible(attempt: Attempt, *, began_ns: int) -> bool:
    """Whether a look begun then may conclude that an attempt never arrived."""
    return attempt.absent_after_ns is not None and began_ns >= attempt.absent_after_ns


def by_two_looks(attempt: Attempt, capabilities: VenueCapabilities, *, began_ns: int, ended_ns: int) -> Conclusion:
    """Without a look-up: first the list of open orders, then the trades begun a trade lag after it ended (H15)."""
    lag_ns = trades_lag_ns(capabilities)
    if attempt.list_look_ended_ns is None:
        return FirstLook(ended_ns + lag_ns)
    if began_ns < attempt.list_look_ended_ns + lag_ns:
        return LookAgain(attempt.list_look_ended_ns + lag_ns, "the trades may not show it yet")
    return Dead("neither among the open orders nor, a trade lag later, among the trades")


def trades_lag_ns(capabilities: VenueCapabilities) -> int:
    """How long after a list the trades must be asked for: another host may have recorded when the list ended."""
    return capabilities.read_lag.trades_ns + capabilities.hosts_skew_ns


def closed_unfilled(attempt: Attempt, capabilities: VenueCapabilities, *, began_ns: int) -> Conclusion:
    """A duplicate refusal proves that an order under the id exists or existed. Once queries must show it, and neither the
    open orders nor the trades do, it was closed without a fill."""
    shown_ns = attempt.send_by_ns + capabilities.clock_skew_ns + capabilities.read_lag.longest_ns
    if began_ns < shown_ns:
        return LookAgain(shown_ns, "an order under this id exists, queries may not show it yet")
    return ClosedUnfilled("refused as a duplicate, not among the open orders, no trade: it was closed without a fill")


def without_window(attempt: Attempt, *, began_ns: int, assumed_max_delay_ns: int | None) -> Conclusion:
    """A venue without a validity window: absence is never provable; it may be assumed, where an operator says so (H5)."""
    if assumed_max_delay_ns is None:
        return LookAgain(None, "this venue may accept it at any time: only evidence, or an operator, settles it")
    assumed_ns = attempt.send_by_ns + assumed_max_delay_ns
    if began_ns < assumed_ns:
        return LookAgain(assumed_ns, "the assumed longest delay is not over")
    return Dead("not found after the assumed longest delay of a request", inferred=True)
