"""Every row of the protocol's resolution table: the fate of a submit whose outcome is unknown.

Each row is a kind of venue (lookup, dedupe, window). It is tried with the order wanted or canceled, found or not found:
through the pure `kernel.reconciler.attempt_resolution`, and through the whole kernel against the scripted exchange.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from msgspec import structs

from kernel.clock import NS_PER_S
from kernel.models import Attempt, AttemptKind, AttemptOutcome, FindingKind, OrdStatus, ReconciliationStatus
from kernel.reconciler.attempt_resolution import (
    ClosedUnfilled,
    Conclusion,
    FirstQuery,
    MayResend,
    ProvenAbsent,
    QueryAgain,
    conclude,
    next_query_ns,
    repeats_unseen,
)
from kernel.values.edge import validated
from kernel.venues.base import Dedupe, ReadLag, VenueCapabilities
from tests.scenarios.runner import Script, World

WINDOW_NS, LAG_NS = 3 * NS_PER_S, NS_PER_S
ABSENT_NS = WINDOW_NS + LAG_NS


@dataclass(frozen=True)
class Row:
    """One row of the table."""

    lookup: bool
    dedupe: Dedupe
    window: bool
    wanted: str
    """Conclusion if not found and wanted: `resend`, `dead` (then sent again) or `unknown`."""
    canceled: str
    """Conclusion if not found and canceled: `dead` or `unknown`."""

    @property
    def name(self) -> str:
        window = "window" if self.window else "no window"
        return f"{'lookup' if self.lookup else 'no lookup'}, {self.dedupe.value.lower()}, {window}"

    @property
    def capabilities(self) -> VenueCapabilities:
        return VenueCapabilities(
            lookup=self.lookup,
            lookup_closed=self.lookup,
            dedupe=self.dedupe,
            validity_window_ns=WINDOW_NS if self.window else None,
            read_lag=ReadLag(order_ns=LAG_NS, open_orders_ns=LAG_NS, trades_ns=LAG_NS),
        )

    @property
    def words(self) -> str:
        dedupe = self.dedupe.value.lower().replace("_", "-")
        lookup, window = ("closed" if self.lookup else "no"), ("3s" if self.window else "none")
        return f"venue lookup={lookup} dedupe={dedupe} window={window} lag=1s"


TABLE = [
    row
    for lookup in (True, False)
    for row in (
        Row(lookup, Dedupe.FOR_EVER, True, wanted="resend", canceled="dead"),
        Row(lookup, Dedupe.FOR_EVER, False, wanted="resend", canceled="unknown"),
        Row(lookup, Dedupe.WHILE_OPEN, True, wanted="dead", canceled="dead"),
        Row(lookup, Dedupe.NONE, True, wanted="dead", canceled="dead"),
        Row(lookup, Dedupe.WHILE_OPEN, False, wanted="unknown", canceled="unknown"),
        Row(lookup, Dedupe.NONE, False, wanted="unknown", canceled="unknown"),
    )
]
ROWS = [pytest.param(row, id=row.name) for row in TABLE]


def an_attempt(row: Row, **changes: object) -> Attempt:
    """A submit stamped at 0 whose outcome is unknown."""
    fields: dict[str, object] = {
        "number": 1,
        "kind": AttemptKind.SUBMIT,
        "position": 1,
        "outcome": AttemptOutcome.UNKNOWN,
        "client_order_id": "c1",
        "send_by_ns": NS_PER_S,
        "valid_until_ns": WINDOW_NS if row.window else None,
        "absent_after_ns": ABSENT_NS if row.window else None,
    }
    return validated({**fields, **changes}, Attempt)


def not_found(row: Row, *, wanted: bool, began_ns: int, **changes: object) -> Conclusion:
    """The conclusion from a query that showed nothing."""
    assumed = changes.pop("assumed_max_delay_ns", None)
    assert assumed is None or isinstance(assumed, int)
    return conclude(
        an_attempt(row, **changes),
        row.capabilities,
        may_resend=wanted,
        began_ns=began_ns,
        ended_ns=began_ns,
        assumed_max_delay_ns=assumed,
    )


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("wanted", [True, False])
def test_no_look_begun_too_early_proves_absence(row: Row, wanted: bool) -> None:
    """A query begun before the last instant of acceptance, plus lag, never proves absence."""
    found = not_found(row, wanted=wanted, began_ns=ABSENT_NS - 1)
    expected = MayResend if wanted and row.wanted == "resend" else QueryAgain
    assert isinstance(found, expected)


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("wanted", [True, False])
def test_an_admissible_query_concludes_as_the_table_says(row: Row, wanted: bool) -> None:
    """From that instant on, the row decides: absent (by one query or two), sent again, or unknown for good."""
    found = not_found(row, wanted=wanted, began_ns=ABSENT_NS)
    becomes = row.wanted if wanted else row.canceled
    if becomes == "dead" and not row.lookup:
        assert found == FirstQuery(ABSENT_NS + LAG_NS)
        found = not_found(row, wanted=wanted, began_ns=ABSENT_NS + LAG_NS, list_look_ended_ns=ABSENT_NS)
    expected = {"dead": ProvenAbsent, "resend": MayResend, "unknown": QueryAgain}[becomes]
    assert isinstance(found, expected)
    assert not (isinstance(found, ProvenAbsent) and found.inferred)


@pytest.mark.parametrize("lookup", [True, False])
def test_absence_takes_as_many_looks_as_the_venue_needs(lookup: bool) -> None:
    """Where answers are known to err, each look begins a lag after the one before; without lookup the trades follow."""
    row = Row(lookup=lookup, dedupe=Dedupe.NONE, window=True, wanted="dead", canceled="dead")
    capabilities = structs.replace(row.capabilities, absence_looks=3)
    looked: dict[str, object] = {}
    for look in range(1, 5):
        began_ns = ABSENT_NS + look * LAG_NS
        found = conclude(
            an_attempt(row, **looked), capabilities, may_resend=False, began_ns=began_ns, ended_ns=began_ns
        )
        if look == 3 + (not lookup):
            assert isinstance(found, ProvenAbsent)
            return
        assert found == FirstQuery(began_ns + LAG_NS)
        looked = {"list_look_ended_ns": began_ns, "absent_looks": look}


@pytest.mark.parametrize("row", [row for row in ROWS if not row.values[0].lookup and row.values[0].window])  # type: ignore[union-attr]  # a Row
def test_the_second_query_waits_for_the_trades(row: Row) -> None:
    """Without lookup, a trades query within a lag after the list ended proves nothing (H15b)."""
    found = not_found(row, wanted=False, began_ns=ABSENT_NS + LAG_NS - 1, list_look_ended_ns=ABSENT_NS)
    assert found == QueryAgain(ABSENT_NS + LAG_NS, "the trades may not show it yet")


@pytest.mark.parametrize("row", [row for row in ROWS if row.values[0].wanted == "unknown"])  # type: ignore[union-attr]  # a Row
def test_an_assumed_delay_is_marked_as_inferred(row: Row) -> None:
    """Without a window only an operator's assumption resolves the submit, marked as inferred (H5c)."""
    early = not_found(row, wanted=True, began_ns=21 * NS_PER_S - 1, assumed_max_delay_ns=20 * NS_PER_S)
    late = not_found(row, wanted=True, began_ns=21 * NS_PER_S, assumed_max_delay_ns=20 * NS_PER_S)
    assert isinstance(early, QueryAgain)
    assert isinstance(late, ProvenAbsent)
    assert late.inferred


def test_a_duplicate_refusal_without_lookup_proves_a_closed_order() -> None:
    """Refused as a duplicate, not open, no trade, once queries must show it: closed without a fill (H6)."""
    row = TABLE[-6]
    assert not row.lookup
    assert row.dedupe is Dedupe.FOR_EVER
    early = not_found(row, wanted=True, began_ns=2 * NS_PER_S - 1, duplicate=True)
    late = not_found(row, wanted=True, began_ns=2 * NS_PER_S, duplicate=True)
    assert isinstance(early, QueryAgain)
    assert isinstance(late, ClosedUnfilled)


@pytest.mark.parametrize("row", [row for row in TABLE if row.window], ids=lambda row: row.name)
def test_early_queries_precede_the_admissible_one(row: Row) -> None:
    """Queries at once, at a quarter and at half of the time to absence, then an admissible one."""
    attempt, instants, last = an_attempt(row), [], None
    while (last := next_query_ns(attempt, row.capabilities, last_query_ns=last)) is not None:
        instants.append(last)
    assert instants == [0, ABSENT_NS // 4, ABSENT_NS // 2, ABSENT_NS]


@pytest.mark.parametrize("row", [row for row in TABLE if not row.window], ids=lambda row: row.name)
def test_queries_that_prove_nothing_become_rarer(row: Row) -> None:
    """Each query is later by half of the elapsed time; where a resend can resolve it, only the backoff spaces them."""
    attempt = an_attempt(row)

    def later(*, may_resend: bool) -> int | None:
        last_ns = attempt.stamp_ns + 8 * NS_PER_S
        return next_query_ns(attempt, row.capabilities, last_query_ns=last_ns, may_resend=may_resend)

    rarer_ns = attempt.stamp_ns + 12 * NS_PER_S
    assert later(may_resend=True) == (None if row.dedupe is Dedupe.FOR_EVER else rarer_ns)
    assert later(may_resend=False) == rarer_ns


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_a_safe_resend_needs_no_query_each_time(row: Row) -> None:
    """After a query in vain the same id is resent without another, until half of the elapsed time has passed again.

    Never before the first query, after a duplicate refusal, for an order not wanted, or at a venue that accepts ids twice.
    """
    attempt, last_ns = an_attempt(row), 20 * NS_PER_S

    def repeats(attempt: Attempt = attempt, *, after_s: float = 0, queried: bool = True, wanted: bool = True) -> bool:
        return repeats_unseen(
            attempt, row.capabilities, may_resend=wanted, last_query_ns=last_ns if queried else None,
            now_ns=last_ns + int(after_s * NS_PER_S),
        )  # fmt: skip

    assert repeats() is repeats(after_s=9.9) is (row.dedupe is Dedupe.FOR_EVER)
    duplicate = structs.replace(attempt, duplicate=True)
    assert not any([repeats(after_s=10), repeats(queried=False), repeats(wanted=False), repeats(duplicate)])


# ------------------------------------------------------------------------------------------- through the whole kernel
async def played(row: Row, *, wanted: bool, arrives: bool) -> World:
    """A submit whose answer and reports are lost, and that arrives or does not; two minutes later."""
    world = World()
    script = Script(world)
    lines = [
        row.words,
        "start K0",
        "venue: hold submit reports",
        "venue: freeze order open trades",
        "place b1 BUY 2 @100",
        *([] if wanted else ["cancel b1"]),
        "venue: fail w1 connection reset",
        "venue: deliver w1" if arrives else "venue: lose w1",
        "venue: thaw",
        "venue: flow submit",
        "time +120s",
    ]
    for line in lines:
        await script.run(line)
    return world


def known_of(world: World) -> tuple[OrdStatus, ReconciliationStatus, int]:
    """Status, reconciliation status, and how often the one id was sent."""
    state = world.running.kernel.state
    order = state.order_state("b1")
    assert order is not None
    sends = state.record("b1").sends
    assert len(sends) == 1, "a second id was used"
    return order.status.ord_status, order.reconciliation_status, sends[0][1]


@pytest.mark.looptime
@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("wanted", [True, False], ids=["wanted", "canceled"])
async def test_a_found_order_resolves_the_submit(row: Row, wanted: bool) -> None:
    """An order that arrived is found, stays open if wanted and is canceled if not; there is only one."""
    world = await played(row, wanted=wanted, arrives=True)
    try:
        status, reconciled, _ = known_of(world)
        assert [order.status for order in world.exchange.truth] == [status]
        assert status is (OrdStatus.NEW if wanted else OrdStatus.CANCELED)
        assert reconciled is ReconciliationStatus.SYNCED
        assert not world.problems
    finally:
        await world.close()


@pytest.mark.looptime
@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("wanted", [True, False], ids=["wanted", "canceled"])
async def test_not_found_ends_as_the_table_says(row: Row, wanted: bool) -> None:
    """An order that did not arrive is sent again under its id, or absent for good, or unknown with a finding."""
    world = await played(row, wanted=wanted, arrives=False)
    try:
        status, reconciled, sends = known_of(world)
        becomes = row.wanted if wanted else row.canceled
        kinds = [item.kind for item in world.running.kernel.state.findings() if item.intent_id == "b1"]
        assert not world.problems
        if becomes == "unknown":
            assert (reconciled, sends, world.exchange.truth) == (ReconciliationStatus.UNKNOWN, 1, ())
            assert kinds == [FindingKind.UNKNOWN_TOO_LONG]
        elif wanted:
            assert (status, reconciled) == (OrdStatus.NEW, ReconciliationStatus.SYNCED)
            assert sends >= 2
            assert [order.status for order in world.exchange.truth] == [OrdStatus.NEW]
        else:
            assert (status, reconciled, sends) == (OrdStatus.CANCELED, ReconciliationStatus.SYNCED, 1)
            assert world.exchange.truth == ()
    finally:
        await world.close()
