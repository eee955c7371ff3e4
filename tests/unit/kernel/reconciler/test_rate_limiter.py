"""The rate limiter: no limit is exceeded, cancels have their reserve, priorities take turns, none starves."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel.actions import Priority
from kernel.clock import NS_PER_MS, NS_PER_S
from kernel.errors import ValidationError
from kernel.reconciler.rate_limiter import (
    RESOLUTION,
    LimitWindow,
    Permit,
    RateLimiter,
    RateLimitExceeded,
    RateLimitWait,
)
from kernel.values import as_json
from kernel.values.edge import validated
from kernel.venues.base import Operation, RateLimit, RateLimitKind, RateUsage, VenueCapabilities
from kernel.venues.paper.matching.rate_limits import PaperRates

START_NS = 1_700_000_000 * NS_PER_S
WEIGHT, ORDERS = RateLimitKind.REQUEST_WEIGHT, RateLimitKind.ORDERS
CALLS = {
    Priority.CANCEL: Operation.CANCEL,
    Priority.RESOLVE: Operation.ORDER,
    Priority.MODIFY: Operation.AMEND,
    Priority.SUBMIT: Operation.SUBMIT,
    Priority.RESYNC: Operation.SNAPSHOT,
}
"""What each priority calls the venue for."""
LIMITS = st.builds(
    lambda limit, window_ms, weights, aligned: RateLimit(
        kind=WEIGHT,
        window_ns=window_ms * NS_PER_MS,
        limit=limit + max(weights.values()),
        weights=weights,
        aligned=aligned,
    ),
    st.integers(0, 20),
    st.integers(1, 5_000),
    st.dictionaries(st.sampled_from(Operation), st.integers(1, 6), min_size=1),
    st.booleans(),
)


def a_limit(limit: int = 10, window_s: int = 10, **weights: int) -> RateLimit:
    """A limit by weight; without weights each call counts 1."""
    given = {"weights": {Operation[name]: weight for name, weight in weights.items()}} if weights else {}
    return RateLimit(kind=WEIGHT, window_ns=window_s * NS_PER_S, limit=limit, **given)


def a_budget(*limits: RateLimit, share: float = 0.2, ageing_s: int = 30) -> RateLimiter:
    """A budget that keeps to these limits."""
    budget = RateLimiter(share, ageing_s * NS_PER_S)
    budget.declare(limits)
    return budget


def spend(budget: RateLimiter, priority: Priority, now_ns: int, call: Operation | None = None) -> bool:
    """Make a call that takes no time. Whether there was room."""
    try:
        permit = budget.take(priority, call or CALLS[priority], now_ns)
    except RateLimitExceeded:
        return False
    permit.sent = True
    budget.finish(permit, now_ns)
    return True


def spent_at_once(budget: RateLimiter, priority: Priority, now_ns: int) -> int:
    """How many calls fit in one instant."""
    count = 0
    while spend(budget, priority, now_ns):
        count += 1
    return count


def waits(budget: RateLimiter, priority: Priority, now_ns: int) -> RateLimitWait:
    """It has to wait, so long."""
    wait = budget.wait(priority, (CALLS[priority],), now_ns)
    assert wait is not None
    return wait


# ---------------------------------------------------------------------------------------------------------- properties
@given(
    st.lists(LIMITS, min_size=1, max_size=3, unique_by=lambda limit: limit.window_ns),
    st.lists(
        st.tuples(st.integers(0, 900), st.sampled_from(Priority), st.integers(0, 400), st.floats(0, 1)), max_size=120
    ),
    st.integers(-200, 200),
)
def test_a_venue_that_counts_never_refuses(
    limits: list[RateLimit], calls: list[tuple[int, Priority, int, float]], ahead_ms: int
) -> None:
    """A venue that counts a call at any instant of its way, with clock skew, never has more than a limit in any window."""
    budget, venue = RateLimiter(), PaperRates(limits)
    budget.declare(limits, skew_ns=200 * NS_PER_MS)
    now_ns = START_NS
    arrivals: list[tuple[int, Operation]] = []
    under_way: list[tuple[int, Permit]] = []
    late: list[int] = []
    for pause_ms, priority, length_ms, way in calls:
        now_ns += pause_ms * NS_PER_MS
        for end_ns, permit in sorted(under_way, key=lambda item: item[0]):
            if end_ns <= now_ns:
                budget.finish(permit, end_ns)
        under_way = [item for item in under_way if item[0] > now_ns]
        try:
            permit = budget.take(priority, CALLS[priority], now_ns)
        except RateLimitExceeded as spent:
            late.append(spent.wait.until_ns - now_ns)
            continue
        permit.sent = True
        under_way.append((now_ns + length_ms * NS_PER_MS, permit))
        arrivals.append((now_ns + round(length_ms * way) * NS_PER_MS, CALLS[priority]))
    for arrived_ns, call in sorted(arrivals):
        venue.charge(call, 1, now_ns=arrived_ns + ahead_ms * NS_PER_MS)  # raises where it refuses
    assert all(wait_ns > 0 for wait_ns in late)


@given(
    st.integers(2, 60),
    st.floats(0.01, 0.9),
    st.lists(st.tuples(st.integers(0, 3_000), st.sampled_from([p for p in Priority if p is not Priority.CANCEL]))),
)
def test_cancels_can_always_spend_their_reserve(limit: int, share: float, others: list[tuple[int, Priority]]) -> None:
    """However much other priorities spend, cancels can spend the reserve at once."""
    budget, now_ns = a_budget(a_limit(limit), share=share), START_NS
    for pause_ms, priority in others:
        now_ns += pause_ms * NS_PER_MS
        spent_at_once(budget, priority, now_ns)
    reserved = max(1, int(limit * share))
    half = (min(limit - 1, reserved) + 1) // 2
    only_lower = all(priority < Priority.RESOLVE for _, priority in others)
    # Who went before them by age was served by now, and lets go of its turn.
    assert spent_at_once(budget, Priority.CANCEL, now_ns + NS_PER_S) >= (
        min(limit - 1, reserved) if only_lower else half
    )


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 12), st.integers(1, 10), st.permutations(list(Priority)))
def test_nothing_starves(limit: int, window_s: int, order: list[Priority]) -> None:
    """If every priority asks without a pause, each is served again and again."""
    budget = a_budget(a_limit(limit, window_s), ageing_s=20)
    served = dict.fromkeys(Priority, START_NS)
    longest = dict.fromkeys(Priority, 0)
    for step in range(1_500):
        now_ns = START_NS + step * 200 * NS_PER_MS
        for priority in order:
            if spend(budget, priority, now_ns):
                longest[priority] = max(longest[priority], now_ns - served[priority])
                served[priority] = now_ns
    patience_ns = (20 + 2 * len(Priority) * (window_s + 1)) * NS_PER_S
    assert max(longest.values()) <= patience_ns
    assert min(served.values()) >= START_NS + 300 * NS_PER_S - patience_ns


@given(st.lists(st.tuples(st.integers(0, NS_PER_S), st.integers(1, 9)), max_size=300), st.integers(1, 3))
def test_merged_spending_never_shortens_a_window(calls: list[tuple[int, int]], window_s: int) -> None:
    """Merged spending counts from its newest call, for at most a thousandth of a window longer; memory is bounded."""
    window = LimitWindow(window_s * NS_PER_S, 10**9)
    done: list[tuple[int, int]] = []
    now_ns = START_NS
    for pause_ns, weight in calls:
        now_ns += pause_ns
        window.spend(weight, now_ns)
        done.append((now_ns, weight))
        slack_ns = window.window_ns // RESOLUTION
        exact = sum(weight for at_ns, weight in done if at_ns > now_ns - window.window_ns)
        longer = sum(weight for at_ns, weight in done if at_ns > now_ns - window.window_ns - slack_ns)
        assert exact <= window.used(now_ns) <= longer
    assert len(window._spent) <= RESOLUTION + 1


# ---------------------------------------------------------------------------------------------------------------- turns
def test_the_higher_priority_goes_first() -> None:
    """Priorities that wait for the same capacity get it in order: cancel, query, modify, submit, resync."""
    budget = a_budget(a_limit(10), share=0.2)
    assert spent_at_once(budget, Priority.CANCEL, START_NS) == 10
    later_ns = START_NS + 10 * NS_PER_S
    for priority in sorted(Priority):
        assert waits(budget, priority, START_NS + 1).until_ns == later_ns
    served: list[Priority] = []
    for step in range(50):
        left = [priority for priority in sorted(Priority) if priority not in served]
        served += [priority for priority in left if spend(budget, priority, later_ns + step * 100 * NS_PER_MS)]
    assert served == sorted(Priority, reverse=True)


def test_an_overdue_priority_goes_first_once() -> None:
    """A submit delayed by cancels for longer than the ageing time gets the next capacity, then waits again."""
    budget = a_budget(a_limit(1, 1), ageing_s=5)
    kinds = []
    for second in range(20):
        now_ns = START_NS + second * NS_PER_S
        kinds += [p for p in (Priority.CANCEL, Priority.SUBMIT) if spend(budget, p, now_ns)]
    assert kinds.count(Priority.SUBMIT) == 3
    assert kinds[:6] == [Priority.CANCEL] * 6


def test_a_full_share_does_not_delay_cancels() -> None:
    """However long a submit waits for its share of the limit, a cancel can use the rest."""
    budget = a_budget(a_limit(10, 60), ageing_s=5)
    assert spent_at_once(budget, Priority.SUBMIT, START_NS) == 8
    waits(budget, Priority.SUBMIT, START_NS + NS_PER_S)
    now_ns = START_NS + 20 * NS_PER_S
    waits(budget, Priority.SUBMIT, now_ns)
    assert spent_at_once(budget, Priority.CANCEL, now_ns) == 2


def test_endless_queries_leave_half_of_a_limit() -> None:
    """However many attempts are unresolved, half of a limit stays free for others."""
    budget = a_budget(a_limit(20))
    assert spent_at_once(budget, Priority.RESOLVE, START_NS) == 10
    assert spent_at_once(budget, Priority.SUBMIT, START_NS) == 8
    assert spent_at_once(budget, Priority.CANCEL, START_NS) == 2


def test_a_full_limit_delays_only_its_own_calls() -> None:
    """Submits that wait for their own limit delay no query that this limit does not count."""
    orders = RateLimit(kind=ORDERS, window_ns=NS_PER_S, limit=1, weights={Operation.SUBMIT: 1})
    budget = a_budget(a_limit(10), orders)
    assert spent_at_once(budget, Priority.SUBMIT, START_NS) == 1
    assert spend(budget, Priority.RESYNC, START_NS)


# ---------------------------------------------------------------------------------------------------- what else is known
def test_a_larger_venue_counter_is_adopted() -> None:
    """Spending by another process counts for a whole window; a smaller counter changes nothing."""
    budget = a_budget(a_limit(10, 10))
    assert spend(budget, Priority.CANCEL, START_NS)
    budget.adopt_usage([RateUsage(kind=WEIGHT, window_ns=10 * NS_PER_S, used=9)], began_ns=START_NS, now_ns=START_NS)
    assert spent_at_once(budget, Priority.CANCEL, START_NS) == 1
    budget.adopt_usage([RateUsage(kind=WEIGHT, window_ns=10 * NS_PER_S, used=0)], began_ns=START_NS, now_ns=START_NS)
    assert spent_at_once(budget, Priority.CANCEL, START_NS + 9 * NS_PER_S) == 0
    assert spent_at_once(budget, Priority.CANCEL, START_NS + 11 * NS_PER_S) == 10


def test_an_aligned_window_ends_with_the_venues() -> None:
    """Spending by any client counts until the day ends; a counter of the day before does not count."""
    day_ns = 86_400 * NS_PER_S
    midnight_ns = (START_NS // day_ns + 1) * day_ns
    orders = RateLimit(kind=ORDERS, window_ns=day_ns, limit=10, weights={Operation.SUBMIT: 1}, aligned=True)
    budget = a_budget(orders)
    usage = [RateUsage(kind=ORDERS, window_ns=day_ns, used=9)]
    budget.adopt_usage(usage, began_ns=START_NS, now_ns=START_NS)
    assert spent_at_once(budget, Priority.SUBMIT, START_NS) == 1
    assert waits(budget, Priority.SUBMIT, START_NS).until_ns == midnight_ns
    assert spent_at_once(budget, Priority.SUBMIT, midnight_ns) == 10
    budget.adopt_usage(usage, began_ns=midnight_ns - 1, now_ns=midnight_ns)
    assert waits(budget, Priority.SUBMIT, midnight_ns).until_ns == midnight_ns + day_ns
    budget = a_budget(orders)
    budget.adopt_usage(usage, began_ns=midnight_ns - 1, now_ns=midnight_ns + NS_PER_S)
    assert spent_at_once(budget, Priority.SUBMIT, midnight_ns + NS_PER_S) == 10


def test_a_rate_limit_rejection_closes_its_limit() -> None:
    """Until the instant that the venue names, no call that the limit counts is made; other calls are."""
    orders = RateLimit(kind=ORDERS, window_ns=NS_PER_S, limit=9, weights={Operation.SUBMIT: 1})
    budget = a_budget(a_limit(10), orders)
    budget.close(ORDERS, START_NS + 3 * NS_PER_S)
    assert waits(budget, Priority.SUBMIT, START_NS).until_ns == START_NS + 3 * NS_PER_S
    assert spend(budget, Priority.CANCEL, START_NS)
    assert spend(budget, Priority.SUBMIT, START_NS + 3 * NS_PER_S)
    budget.close("SOMETHING", START_NS + 9 * NS_PER_S)
    assert not spend(budget, Priority.CANCEL, START_NS + 8 * NS_PER_S)


def test_an_unsent_call_frees_its_capacity() -> None:
    """A call that was not sent does not count once that is known."""
    budget = a_budget(a_limit(1))
    permit = budget.take(Priority.CANCEL, Operation.CANCEL, START_NS)
    assert not spend(budget, Priority.CANCEL, START_NS)
    budget.finish(permit, START_NS)
    assert spend(budget, Priority.CANCEL, START_NS)


def test_a_call_heavier_than_its_share_waits_for_an_empty_window() -> None:
    """A list heavier than the unreserved share can be queried when nothing else was spent."""
    budget = a_budget(a_limit(10, 10, SNAPSHOT=9, CANCEL=1), share=0.5)
    assert spend(budget, Priority.RESYNC, START_NS)
    assert waits(budget, Priority.RESYNC, START_NS).until_ns == START_NS + 10 * NS_PER_S
    assert spent_at_once(budget, Priority.CANCEL, START_NS) == 1


def test_unchanged_limits_keep_their_spending() -> None:
    """After a reconnect, unchanged limits keep counting; a new one begins empty."""
    budget = a_budget(a_limit(3))
    assert spent_at_once(budget, Priority.CANCEL, START_NS) == 3
    budget.declare([a_limit(3)])
    assert not spend(budget, Priority.CANCEL, START_NS)
    budget.declare([a_limit(4)])
    assert spend(budget, Priority.CANCEL, START_NS)


def test_a_clock_set_back_does_not_extend_a_window() -> None:
    """Spending at what is now a future instant counts as spent now."""
    budget = a_budget(a_limit(1, 10))
    assert spend(budget, Priority.CANCEL, START_NS)
    earlier_ns = START_NS - 3_600 * NS_PER_S
    assert waits(budget, Priority.CANCEL, earlier_ns).until_ns == earlier_ns + 10 * NS_PER_S
    assert spend(budget, Priority.CANCEL, earlier_ns + 11 * NS_PER_S)


def test_without_limits_there_is_always_capacity() -> None:
    """A venue without declared limits never delays a call."""
    budget = a_budget()
    assert all(spend(budget, priority, START_NS) for priority in Priority for _ in range(100))


# -------------------------------------------------------------------------------------------------------- what is declared
def test_limits_round_trip_through_json() -> None:
    """Capabilities with rate limits round-trip through JSON."""
    known = VenueCapabilities(rate_limits=(a_limit(6_000, 60, SUBMIT=1, CANCEL=1, SNAPSHOT=80), a_limit(10, 1)))
    assert validated(as_json(known), VenueCapabilities) == known


@pytest.mark.parametrize(
    ("limits", "error"),
    [
        ([{"kind": WEIGHT, "window_ns": 1, "limit": 5, "weights": {"SNAPSHOT": 6}}], "maximum"),
        ([{"kind": WEIGHT, "window_ns": 1, "limit": 5, "weights": {}}], "too_short"),
        ([{"kind": WEIGHT, "window_ns": 0, "limit": 5}], "greater_than"),
        ([{"kind": WEIGHT, "window_ns": 1, "limit": 5}, {"kind": WEIGHT, "window_ns": 1, "limit": 6}], "unique"),
    ],
)
def test_impossible_limits_are_refused(limits: list[dict[str, object]], error: str) -> None:
    """A call that never fits, a limit that counts nothing, no window, or two counters with one name is refused."""
    with pytest.raises(ValidationError) as refused:
        validated({"rate_limits": limits}, VenueCapabilities)
    assert [item.constraint for item in refused.value.violations] == [error]
