"""The delay of attempts that change nothing: exact bounds, for every venue (H24)."""

from __future__ import annotations

from functools import cache

from hypothesis import given
from hypothesis import strategies as st

from kernel.lifecycle.disagreement import (
    BASE_NS,
    DELAY_NS_MAX,
    NS_PER_S,
    OTHER_TERMS_MAX,
    STANDING_NS,
    delay_ns,
    disagrees,
    next_failures,
    with_failure,
)
from kernel.lifecycle.record import Record
from kernel.models import OrderIntent
from tests.orders import buy

START_NS = 1_700_000_000 * NS_PER_S


def a_record(failures: int = 0, failed_ns: int = 0) -> Record:
    return Record("i", failures=failures, failed_ns=failed_ns)


@cache
def most_sends(record: Record, now_ns: int, until_ns: int) -> int:
    """The most sends before `until_ns` that any venue can provoke, the first one now.

    A failure later than at once only delays the next send, unless it is late enough to count as the first.
    """
    if now_ns >= until_ns:
        return 0
    late_ns = max(now_ns, record.failed_ns + delay_ns(record.failures) + STANDING_NS)
    ends = (with_failure(record, at_ns) for at_ns in {now_ns, late_ns})
    return 1 + max(most_sends(ended, ended.not_before_ns, until_ns) for ended in ends)


def test_the_bound_is_exact() -> None:
    """The worst venue provokes 7 sends in 64 s and 36 in 600 s."""
    bounds = {64: 7, 600: 36}
    first = {seconds: most_sends(a_record(), START_NS, START_NS + seconds * NS_PER_S) for seconds in bounds}
    assert first == bounds


@given(st.lists(st.integers(0, 200 * NS_PER_S), min_size=1, max_size=40))
def test_no_venue_exceeds_the_bound(stands_ns: list[int]) -> None:
    """However long each order stands before it fails, at most 36 sends happen in any 600 s."""
    record, now_ns, sent = a_record(), START_NS, []
    for stand_ns in stands_ns:
        sent.append(now_ns)
        record = with_failure(record, now_ns + stand_ns)
        now_ns = record.not_before_ns
    for first in sent:
        assert sum(first <= instant < first + 600 * NS_PER_S for instant in sent) <= 36


@given(st.integers(0, 100), st.integers(0, 10**12))
def test_a_failure_delays_by_the_base_at_least(failures: int, elapsed_ns: int) -> None:
    """Each failure delays the next send by 1 to 60 s, and by twice as much as the one before."""
    after = with_failure(a_record(failures, START_NS), START_NS + elapsed_ns)
    delay = after.not_before_ns - after.failed_ns
    assert BASE_NS <= delay <= DELAY_NS_MAX
    assert after.failures in (1, failures + 1)
    assert delay == min(DELAY_NS_MAX, BASE_NS * 2 ** (after.failures - 1))


def test_the_count_begins_anew_after_a_minute_without_failure() -> None:
    """The minute begins when the delay of the newest failure ends."""
    record = a_record(3, START_NS)
    anew_ns = START_NS + delay_ns(3) + STANDING_NS
    assert [next_failures(record, anew_ns - 1), next_failures(record, anew_ns)] == [4, 1]


def test_other_terms_fail_their_generation_after_a_few() -> None:
    """Five orders with other terms fail the generation that requested them, and raise the finding."""
    record = Record("i", intent=OrderIntent(intent_id="i", exchange_id="paper", order=buy(3), generation=2))
    for number in range(OTHER_TERMS_MAX):
        assert (record.failed_generation, disagrees(record)) == (0, False)
        record = with_failure(record, START_NS + number, other_terms=True)
    assert (record.failed_generation, disagrees(record)) == (2, True)
