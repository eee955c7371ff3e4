"""The quick answer from a record agrees with the comparison of both sides."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from kernel import plan
from kernel.lifecycle.orders.order_facts import CumEvidence, OrderFacts
from kernel.lifecycle.record import Record, order_state
from kernel.log.backends.memory import MemoryRecorder
from kernel.log.engine.records import event_of
from kernel.models import Desired
from kernel.order_spec import StandardOrder, TimeInForce
from projections import diff
from projections.state import State
from tests.folding import an_intent, an_order
from tests.recorded import log_of, simulated


@pytest.fixture(params=(1, 4, 7, 11, 15, 23))
def recorded(request: pytest.FixtureRequest) -> MemoryRecorder:
    """A simulated run, played outside of the tests' event loop."""
    return simulated(request.param)


async def test_differs_agrees_with_the_comparison(recorded: MemoryRecorder) -> None:
    """After each event of a run the answer for each touched intent is the comparison's, decided quickly or not."""
    state, plain = State(), Counter[tuple[bool, bool]]()
    async for rows in log_of(recorded).read():
        for row in rows:
            for intent_id in state.apply([event_of(row)]).touched:
                record = state.grouped_record(intent_id)
                differs = (
                    plan.difference(state.effective_intent(intent_id), state.observed_order(intent_id)) is not None
                )
                assert diff.differs(state, record) == differs
                if not differs:
                    plain[bool(record.live_orders), diff.differs_in_terms(record) is False] += 1
    assert plain[True, True] > plain[True, False], "most that work are plain"
    assert plain[False, True] > plain[False, False], "most that are over are plain"


def working(asked: StandardOrder | None = None, *, desired: Desired = Desired.WORKING, **changes: Any) -> Record:
    """An intent with one order of 100 at 10 at the venue, which is what it desires unless changed."""
    order = an_order()
    given: dict[str, Any] = {"quantity": 100, "price": 10, "generation": 1, "accepted": True}
    times = {"first_seen_ns": 1, "last_seen_ns": 1}
    facts = OrderFacts(exchange_order_id="o", client_order_ids=("c",), order=order, **given | times | changes)
    intent = an_intent(asked or order, desired=desired)
    return Record("i", intent=intent, sent_order=order, has_order=True, orders=(facts,))


OVER = {"gone_ns": 5, "closed_ns": 5}
DIFFERENT = {
    "a total that no trade explains": working(evidence=(CumEvidence(3, 40),)),
    "filled, and no trade explains it": working(evidence=(CumEvidence(3, 100),)),
    "other terms that are not reported": working(an_order(tif=TimeInForce.DAY)),
    "another price": working(an_order(price=11)),
    "more": working(an_order(120)),
    "another price at the venue": working(price=9),
    "another quantity at the venue": working(quantity=90),
    "not wanted any more": working(desired=Desired.CANCELED),
    "gone, its total not known": working(**OVER),
    "gone, and still wanted": working(closed_cum=CumEvidence(3, 0), **OVER),
}


@pytest.mark.parametrize("record", DIFFERENT.values(), ids=DIFFERENT.keys())
def test_a_difference_is_never_overlooked(record: Record) -> None:
    """With one difference between order and intent the quick answer is never that they agree."""
    assert diff.differs_in_terms(working()) is False
    assert plan.difference(record.intent, order_state(record)) is not None
    assert diff.differs_in_terms(record) is not False
