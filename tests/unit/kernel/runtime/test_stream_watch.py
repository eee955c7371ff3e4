"""When a stream counts as silent, and when the account is queried."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kernel.runtime.stream_watch import StreamStep, StreamWatch

ECHO, PROBE_MAX, QUIET, RECONNECT = 5, 15, 25, 60


def a_watch(heartbeat: int | None = None) -> StreamWatch:
    watch = StreamWatch(ECHO, PROBE_MAX, QUIET, RECONNECT)
    watch.connected(0, heartbeat_ns=heartbeat)
    return watch


def steps(watch: StreamWatch, until: int, *, has_orders: bool = True) -> list[tuple[int, StreamStep]]:
    """Return what is done at each instant, instant by instant."""
    found = [(now, watch.step(now, has_orders=has_orders)) for now in range(until)]
    return [item for item in found if item[1] is not StreamStep.NOTHING]


def test_an_answer_without_an_echo() -> None:
    """The account is queried soon, then at growing intervals, up to the longest."""
    watch = a_watch()
    watch.answered(0)
    assert [now for now, _ in steps(watch, 60)] == [5, 15, 30, 45]


def test_a_quiet_stream_with_live_orders() -> None:
    """Nothing else shows a stream that has become silent: the account is queried whenever it was quiet for too long."""
    watch = a_watch()
    watch.heard(3)
    assert [now for now, _ in steps(watch, 60)] == [28, 53]
    watch.listed(60)
    assert watch.due_ns() == 60 + QUIET
    watch.heard(70)
    assert watch.due_ns() == 70 + QUIET


def test_without_orders_nothing_is_queried() -> None:
    """The queries end with the last live order."""
    watch = a_watch()
    watch.answered(0)
    assert steps(watch, 60, has_orders=False) == []
    assert watch.due_ns() is None
    watch.answered(70)
    assert watch.due_ns() == 70 + ECHO


def test_an_echo_just_before_the_answer_counts() -> None:
    """A report may overtake the answer."""
    watch = a_watch()
    watch.heard(10)
    watch.answered(11)
    assert watch.due_ns() == 10 + QUIET


def test_news_that_the_stream_brought_just_before() -> None:
    """A report may be read before the query and recorded after it."""
    watch = a_watch()
    watch.heard(10)
    watch.found(10)
    assert watch.due_ns() == 10 + QUIET


def test_news_that_the_stream_lacks() -> None:
    """It is silent a while after a query showed news, unless it brings something; it is renewed once a minute at most."""
    watch = a_watch()
    watch.found(2)
    assert (watch.step(6, has_orders=True), watch.step(7, has_orders=True)) == (StreamStep.NOTHING, StreamStep.SILENT)
    watch.connected(8, heartbeat_ns=None)
    watch.found(9)
    silent = [now for now, step in steps(watch, 200) if step is StreamStep.SILENT]
    assert silent[0] == 67
    watch.heard(210)
    assert not watch.silent
    assert watch.due_ns() == 210 + QUIET


@given(st.lists(st.tuples(st.sampled_from(["heard", "answered", "found"]), st.integers(1, 9)), max_size=30))
def test_a_stream_that_always_follows_is_never_silent(happened: list[tuple[str, int]]) -> None:
    """If each answer and each piece of news is followed by a report within the echo's time, it never counts as silent."""
    watch, now = a_watch(), 0
    for what, later in happened:
        now += later
        getattr(watch, what)(now)
        assert watch.step(now, has_orders=True) is not StreamStep.SILENT
        watch.heard(now + ECHO - 1)
        now += ECHO
    assert not watch.silent


@given(st.integers(1, 50), st.lists(st.integers(1, 20), max_size=20))
def test_a_heartbeat_in_time_keeps_the_stream(heartbeat: int, gaps: list[int]) -> None:
    """It is silent exactly if nothing comes for two heartbeats."""
    watch, now, silent = a_watch(heartbeat), 0, False
    for gap in gaps:
        now += gap
        silent = silent or gap >= 2 * heartbeat
        assert (watch.step(now, has_orders=True) is StreamStep.SILENT) == (gap >= 2 * heartbeat)
        if silent:
            return
        watch.heard(now)
