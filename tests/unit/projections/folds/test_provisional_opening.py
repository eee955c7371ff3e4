"""Provisional opening figures: what they include or lack shows at a later observation."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from projections.folds.provisional_opening import CHANGES_MAX, ProvisionalOpening

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
        opening.note("A", amount, venue_ns=venue_ns, opened_until_ns=None)
    late = [change for change in after if change[0] not in dict(before)]
    for venue_ns, amount in late:
        opening.note("A", amount, venue_ns=venue_ns, opened_until_ns=100)
    lacked = sum(amount for venue_ns, amount in before if venue_ns >= shown_ns)
    unexpected = sum(amount for venue_ns, amount in late if venue_ns < shown_ns)
    assert opening.lacked("A", (lacked - unexpected).__eq__) == lacked - unexpected


def test_a_proven_opening_explains_nothing() -> None:
    """Once an observation agrees, earlier changes explain no difference; other figures are not affected."""
    opening = ProvisionalOpening()
    for name in ("A", "B"):
        opening.note(name, 5, venue_ns=1, opened_until_ns=None)
    opening.prove("A")
    assert [opening.lacked(name, (5).__eq__) for name in ("A", "B", "C")] == [0, 5, 0]


def test_a_change_after_the_opening_is_certain() -> None:
    """What happened after the instants that the opening may show is never taken for a part of it."""
    opening = ProvisionalOpening()
    opening.note("A", 5, venue_ns=100, opened_until_ns=100)
    assert opening.lacked("A", (-5).__eq__) == 0


def test_the_changes_kept_are_bounded() -> None:
    """Only the newest changes are kept, before and after the opening."""
    opening = ProvisionalOpening()
    for opened_until_ns in (None, 10**9):
        for step in range(3 * CHANGES_MAX):
            opening.note("A", 1, venue_ns=step, opened_until_ns=opened_until_ns)
        assert len(opening.unproven["A"]) == CHANGES_MAX
