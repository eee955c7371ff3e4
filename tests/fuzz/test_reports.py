"""`decide_report` accepts any report about any intent: it returns events that can be stored and folded, or raises
`OutcomeUnknown`.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from kernel.errors import OutcomeUnknown
from kernel.events import BaseEvent, IntentCancelRequested, IntentDeleted, decode, encode
from kernel.lifecycle.record import order_state
from kernel.models import AttemptKind, ExecType, Liquidity, OrdStatus
from kernel.order_spec import UINT64_MAX, Side
from kernel.plan import difference, plan
from kernel.venues.base import ExecutionReport
from projections import State
from tests.folding import Journal, a_submitted_journal, an_attempt, an_order
from tests.fuzz.mutations import fuzzed
from tests.samples import SYMBOL

CLIENT_IDS = st.sampled_from((None, "", "c1", "c2", "c3", "foreign"))
ORDER_IDS = st.sampled_from((None, "", "o1", "o2"))
KEYS = st.sampled_from((None, "", "t1", "t2", "k1", "k2"))
QUANTITIES = st.sampled_from((None, 0, 1, 30, 70, 100, 101, 2**63, UINT64_MAX))
SIZES = st.sampled_from((None, 1, 30, 100, 101, UINT64_MAX))
"""Without 0: see `test_a_split_of_an_order_of_size_0`."""
INSTANTS = st.sampled_from((None, 0, 1, 10**9, 2 * 10**9, 2**63 - 1))
FEES = st.sampled_from((None, 0, -1, 2**70))
REPORTS = st.builds(
    ExecutionReport,
    exec_type=st.sampled_from(ExecType), symbol_id=st.sampled_from(("S", "T")), exec_id=KEYS, fill_key=KEYS,
    ref_fill_key=KEYS, side=st.sampled_from((None, *Side)), client_order_id=CLIENT_IDS, orig_client_order_id=CLIENT_IDS,
    exchange_order_id=ORDER_IDS, ord_status=st.sampled_from((None, *OrdStatus)), order_qty=SIZES, price=QUANTITIES,
    last_qty=QUANTITIES, last_px=QUANTITIES, cum_qty=QUANTITIES, leaves_qty=QUANTITIES, fee=FEES,
    fees=st.sampled_from((None, {}, {"BNB": 3, "S": -1})),
    fee_asset=st.sampled_from((None, "BNB")), liquidity=st.sampled_from((None, *Liquidity)), transact_time_ns=INSTANTS,
    corporate_action=st.booleans(), text=st.sampled_from((None, "", "no")), raw=st.none(),
)  # fmt: skip
"""Every combination, also those that no venue would send."""
SENDS: tuple[BaseEvent, ...] = (
    an_attempt(AttemptKind.CANCEL, "c2", an_order(), number=2, target_client_order_id="c1"),
    an_attempt(
        AttemptKind.AMEND, "c3", an_order(70), number=3, target_client_order_id="c1", target_exchange_order_id="o1"
    ),
    an_attempt(AttemptKind.SUBMIT, "c2", an_order(30), number=2),
    IntentCancelRequested(intent_id="i", generation=2, requested_at_ns=1),
    IntentDeleted(intent_id="i"),
)
STEPS = st.lists(REPORTS | st.sampled_from(SENDS), min_size=1, max_size=8)


def outcome_of(journal: Journal, step: ExecutionReport | BaseEvent, **fields: Any) -> list[BaseEvent]:
    """The outcome of a step."""
    if isinstance(step, BaseEvent):
        journal.append("i", step)
        return []
    try:
        return journal.hear("i", step, **fields)
    except OutcomeUnknown:
        return []


@fuzzed(200)
@given(st.booleans(), STEPS, INSTANTS, st.sampled_from((None, 1, 2, 77)))
def test_any_reports(known: bool, steps: list[Any], began_ns: int | None, position: int | None) -> None:
    """Reports in any order and with any content give events that can be stored, read and folded."""
    journal = a_submitted_journal() if known else Journal()
    for step in steps:
        for event in outcome_of(journal, step, began_ns=began_ns, position=position):
            assert decode(event.topic, event.schema_version, encode(event)) == event
        record = journal.record()
        state = order_state(record)
        difference(record.intent, state)
        plan(record.intent, state, symbol=structs.replace(SYMBOL, symbol_id="S"), now_ns=10**12)
    folded = State()
    folded.apply(journal.events)
    assert folded.record("i") == journal.record()
    assert list(folded.order_states()) == [state for state in [order_state(journal.record())] if state is not None]


@fuzzed(100)
@given(STEPS)
def test_a_repeated_report_adds_nothing(steps: list[Any]) -> None:
    """Repeating the last report adds no trade and no quantity."""
    journal = a_submitted_journal()
    for step in steps:
        outcome_of(journal, step)
    filled = sum(facts.traded_qty for facts in journal.record().orders)
    reports = [step for step in steps if isinstance(step, ExecutionReport)]
    for report in reports[-1:]:
        outcome_of(journal, report)
    assert sum(facts.traded_qty for facts in journal.record().orders) == filled


def test_a_split_of_an_order_of_size_0() -> None:
    """The fold continues."""
    journal = a_submitted_journal()
    ids: dict[str, Any] = {"client_order_id": "c1", "exchange_order_id": "o1", "symbol_id": "S"}
    outcome_of(journal, ExecutionReport(exec_type=ExecType.NEW, order_qty=0, cum_qty=0, **ids))
    split = ExecutionReport(exec_type=ExecType.RESTATED, order_qty=10, transact_time_ns=1, corporate_action=True, **ids)
    outcome_of(journal, split)
    outcome_of(journal, ExecutionReport(exec_type=ExecType.ORDER_STATUS, cum_qty=1, **ids))
