"""Provisional opening figures: what they include or lack shows at a later observation."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kernel.models import Balance
from projections.folds.ledger import Ledger
from projections.folds.provisional_opening import ANSWER_AGE_MAX_NS, CHANGES_MAX, ProvisionalOpening

CHANGES = st.lists(
    st.tuples(st.integers(0, 99), st.integers(-9, 9).filter(bool)), max_size=8, unique_by=lambda one: one[0]
)


@given(before=CHANGES, after=CHANGES, shown_ns=st.integers(0, 100))
def test_an_opening_of_any_age_is_corrected(
    before: list[tuple[int, int]], after: list[tuple[int, int]], shown_ns: int
) -> None:
    """Whatever was known at the opening and reported later, the figure of any earlier instant is corrected exactly."""
    opening = ProvisionalOpening()
    for venue_ns, amount in before:
        opening.note("A", amount, venue_ns, included=True)
    late = [change for change in after if change[0] not in dict(before)]
    for venue_ns, amount in late:
        opening.note("A", amount, venue_ns, included=False)
    lacked = sum(amount for venue_ns, amount in before if venue_ns >= shown_ns)
    unexpected = sum(amount for venue_ns, amount in late if venue_ns < shown_ns)
    assert opening.correct("A", (lacked - unexpected).__eq__) == lacked - unexpected


def test_a_proven_opening_explains_nothing() -> None:
    """Once a newer observation agrees, earlier changes explain no difference; other figures are not affected."""
    opening = ProvisionalOpening()
    for name in ("A", "B"):
        opening.note(name, 5, 1, included=True)
    opening.prove("A", began_ns=ANSWER_AGE_MAX_NS + 1, opened_until_ns=1)
    assert [opening.correct(name, (5).__eq__) for name in ("A", "B", "C")] == [0, 5, 0]


def test_an_observation_that_may_be_old_proves_nothing() -> None:
    """An observation that agrees, and may be as old as the opening, leaves every change open to a newer one."""
    opening = ProvisionalOpening()
    opening.note("A", 5, 1, included=True)
    opening.prove("A", began_ns=ANSWER_AGE_MAX_NS, opened_until_ns=1)
    assert opening.correct("A", (5).__eq__) == 5


@given(
    changes=CHANGES,
    reported=st.lists(st.integers(0, 100), min_size=8, max_size=8),
    opened=st.tuples(st.integers(10, 90), st.integers(0, 99)),
    answers=st.lists(st.tuples(st.integers(101, 150), st.integers(0, 99)), max_size=5),
    lost=st.integers(0, 3),
)
def test_stale_answers_leave_no_drift(
    changes: list[tuple[int, int]],
    reported: list[int],
    opened: tuple[int, int],
    answers: list[tuple[int, int]],
    lost: int,
) -> None:
    """However old the opening and the answers after it are, two newer ones agree; what nothing explains is reported."""
    ledger = Ledger(lag_ns=100)

    def shown(as_of: int) -> int:
        return 1_000 + sum(amount for venue_ns, amount in changes if venue_ns < as_of)

    def observe(total: int, began: int) -> dict[str, int]:
        ledger.booked_at_ns = 0
        ledger.observe({"A": Balance(asset_id="A", total=total, free=total)}, began_ns=began, ended_ns=began)
        return ledger.drift

    at, as_of = opened
    due = sorted((change[0] + lag, change) for change, lag in zip(changes, reported, strict=False))
    for when, (venue_ns, amount) in due:
        if when >= at and ledger.opening is None:
            observe(shown(min(at, as_of)), at)
        ledger.transfer("A", amount, {"A": 0}, at_ns=venue_ns)
    if ledger.opening is None:
        observe(shown(min(at, as_of)), at)
    for began, old in sorted(answers):
        observe(shown(old), began + 100)
    proof = ledger.opened_until_ns + ANSWER_AGE_MAX_NS
    for again in range(3):
        observe(shown(10_000), 1_000 + again * proof)
    assert observe(shown(10_000) - lost, 4 * proof) == ({"A": -lost} if lost else {})


def test_a_change_after_the_opening_is_certain() -> None:
    """What happened after the instants that the opening may show is never taken for a part of it."""
    ledger = Ledger()
    ledger.observe({}, began_ns=100, ended_ns=100)
    ledger.transfer("A", 5, {"A": 0}, at_ns=100)
    assert ledger.provisional.correct("A", (-5).__eq__) == 0


def test_the_changes_kept_are_bounded() -> None:
    """Only the newest changes are kept, before and after the opening."""
    opening = ProvisionalOpening()
    for included in (True, False):
        for step in range(3 * CHANGES_MAX):
            opening.note("A", 1, step, included=included)
        assert len(opening.unproven["A"]) == CHANGES_MAX
