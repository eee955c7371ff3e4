"""The paper exchange's client receives anything over a real socket: an answer or a `VenueError`, never a wrong
order.
"""

from __future__ import annotations

import asyncio
import gc
import json
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kernel.errors import OutcomeUnknown, Rejected, VenueError
from kernel.events import AttemptFailed, AttemptUnknown, canonical_json, encode
from kernel.models import AttemptOutcome
from kernel.order_spec import OcoMode
from kernel.settings import ns
from kernel.values import as_json
from kernel.venues import ExecutionReport, PaperVenue
from kernel.venues.paper.matching.config import PaperConfig
from kernel.venues.paper.protocol import hello
from tests.fuzz.mutations import changed, damaged, deep, fuzzed, json_values, text_of
from tests.paper_world import SYMBOL, HandClock, cancel, group, limit, modify, submit

CLOCK = HandClock()
REQUEST_ID = 3
"""Of the first question after `hello` and `subscribe`."""
REPORT = {
    "exec_type": "NEW", "symbol_id": SYMBOL, "exec_id": "7", "side": "BUY", "client_order_id": "a",
    "exchange_order_id": "1", "ord_status": "NEW", "order_qty": 100, "price": 5, "cum_qty": 0,
    "leaves_qty": 100, "transact_time_ns": 1,
}  # fmt: skip
FILL = {**REPORT, "exec_type": "TRADE", "fill_key": "k", "last_qty": 1, "last_px": 5, "fee": 1, "fee_asset": "BTC"}
BALANCE = {"asset_id": "BTC", "total": 1, "locked": 0, "free": 1}
SNAPSHOT = {
    "open_orders": [REPORT], "fills": [FILL], "balances": {"BTC": BALANCE}, "complete": True, "began_ns": 1, "ended_ns": 1,
}  # fmt: skip
USAGE = [{"kind": "REQUEST_WEIGHT", "window_ns": 60_000_000_000, "used": 4}]
ANSWERS: dict[str, Any] = {
    "submit": {"id": REQUEST_ID, "result": REPORT, "usage": USAGE},
    "cancel": {"id": REQUEST_ID, "result": {**REPORT, "exec_type": "CANCELED", "orig_client_order_id": "b"}},
    "modify": {"id": REQUEST_ID, "result": {**REPORT, "exec_type": "REPLACED", "orig_client_order_id": "b"}},
    "submit_group": {
        "id": REQUEST_ID,
        "result": [REPORT, {**REPORT, "client_order_id": "b", "exchange_order_id": "2"}],
    },
    "order": {"id": REQUEST_ID, "result": {**REPORT, "exec_type": "ORDER_STATUS"}, "usage": USAGE},
    "snapshot": {"id": REQUEST_ID, "result": SNAPSHOT},
    "symbols": {"id": REQUEST_ID, "result": [as_json(PaperConfig().symbols[0])]},
    "assets": {"id": REQUEST_ID, "result": [as_json(PaperConfig().assets[0])]},
}
ERRORS: tuple[dict[str, Any], ...] = (
    {"type": "Rejected", "text": "no", "code": "-1013", "retry_after_s": 1.5},
    {"type": "Rejected", "text": "too many", "code": "-1003", "retry_after_s": 2, "rate_limit": "REQUEST_WEIGHT"},
    {"type": "NotSent", "text": "not sent"},
    {"type": "OutcomeUnknown", "text": "?", "code": "503", "duplicate": True},
    {"type": "ValidationError", "text": "bad"},
)
OPERATIONS: dict[str, Callable[[PaperVenue], Coroutine[Any, Any, Any]]] = {
    "submit": lambda venue: venue.submit(submit("a", limit(), CLOCK)),
    "cancel": lambda venue: venue.cancel(cancel("b", CLOCK, request_id="a")),
    "modify": lambda venue: venue.modify(modify("b", limit(), CLOCK, request_id="a")),
    "submit_group": lambda venue: venue.submit_group(group(OcoMode.ONE_CANCELS_OTHER, CLOCK, a=limit(), b=limit())),
    "order": lambda venue: venue.order(SYMBOL, "a", None),
    "snapshot": lambda venue: venue.snapshot(0, []),
    "symbols": lambda venue: venue.symbols(),
    "assets": lambda venue: venue.assets(),
}


def outcome_of(operation: str, line: bytes) -> Any:
    """The outcome of a query when the exchange answers with a line and closes; the error, if any."""
    return asyncio.run(_heard(operation, line))


async def _heard(operation: str, line: bytes) -> Any:
    problems: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
    with tempfile.TemporaryDirectory() as directory:
        address = str(Path(directory) / "socket")
        server = await asyncio.start_unix_server(lambda r, w: _exchange(r, w, line), address)
        venue = PaperVenue(address, timeout_s=60)
        await venue.connect()
        try:
            answer = await OPERATIONS[operation](venue)
        except VenueError as error:
            answer = error
        for report in [report async for report in venue.reports()]:
            assert isinstance(report, ExecutionReport)
            assert canonical_json(report)
        await venue.close()
        server.close()
    del venue
    gc.collect(0)
    assert problems == []
    return answer


async def _exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, line: bytes) -> None:
    """A server that says hello and sends one line."""
    for result in (hello(PaperConfig().capabilities()), True):
        message = json.loads(await reader.readline())
        writer.write(json.dumps({"id": message["id"], "result": result}).encode() + b"\n")
    await reader.readline()
    writer.write(line + b"\n")
    writer.close()


def check(operation: str, line: bytes) -> None:
    """The outcome is a `VenueError` that can be recorded, or an answer about the requested order."""
    answer = outcome_of(operation, line)
    if isinstance(answer, VenueError):
        record(answer)
    elif operation in ("submit", "cancel", "modify"):
        assert (answer.symbol_id, answer.client_order_id) == (SYMBOL, "a")
    elif operation == "submit_group":
        assert [(each.symbol_id, each.client_order_id) for each in answer] == [(SYMBOL, "a"), (SYMBOL, "b")]
    elif operation == "order" and answer is not None:
        assert answer.symbol_id == SYMBOL
        assert "a" in (answer.client_order_id, answer.orig_client_order_id)


def record(error: VenueError) -> None:
    """The event of an error can be stored, its retry delay included."""
    fields: dict[str, Any] = {"intent_id": "i", "attempt_position": 1, "code": error.code}
    if not isinstance(error, Rejected):
        encode(AttemptUnknown(text=str(error), **fields))
        return
    retry_at_ns = None if error.retry_after_s is None else CLOCK.now_ns() + ns(error.retry_after_s)
    encode(AttemptFailed(text=error.text, outcome=AttemptOutcome.REJECTED, retry_at_ns=retry_at_ns, **fields))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_valid_answer_is_accepted(operation: str) -> None:
    """The input that the other tests damage is valid."""
    assert not isinstance(outcome_of(operation, text_of(ANSWERS[operation]).encode()), Exception)


@fuzzed(62)
@given(st.sampled_from(sorted(OPERATIONS)), st.binary(max_size=80) | json_values.map(text_of).map(str.encode))
@example("submit", b"[]")
@example("submit", b"1")
@example("submit", deep(100_000).encode())
@example("submit", b'{"id":[3],"result":null}')
@example("submit", b'{"id":3,"result":null}')
@example("submit", b'{"id":3}')
@example("submit", b'{"id":3,"result":' + b"9" * 5_000 + b"}")
@example("submit", b'{"report":null}')
@example("submit_group", b'{"id":3,"result":null}')
@example("submit_group", b'{"id":3,"result":[]}')
@example("submit_group", b'{"id":3,"result":[null,null]}')
@example("submit_group", b'{"id":3,"result":{}}')
@example("modify", b'{"id":3,"result":null}')
@example("snapshot", b'{"id":3,"result":null}')
def test_any_line(operation: str, line: bytes) -> None:
    """Whatever line arrives, no call hangs and no task fails unobserved."""
    check(operation, line)


@fuzzed(150)
@given(st.data(), st.sampled_from(sorted(OPERATIONS)))
def test_changed_answers(data: st.DataObject, operation: str) -> None:
    """An answer with fields dropped, renamed, swapped or of other types."""
    check(operation, text_of(data.draw(changed(ANSWERS[operation]))).encode())


@fuzzed(50)
@given(st.data(), st.sampled_from(sorted(OPERATIONS)))
def test_damaged_answers(data: st.DataObject, operation: str) -> None:
    """An answer with damaged bytes."""
    check(operation, data.draw(damaged(text_of(ANSWERS[operation]).encode())))


@fuzzed(100)
@given(st.data(), st.sampled_from(ERRORS), st.sampled_from(("submit", "order")))
def test_changed_errors(data: st.DataObject, error: dict[str, Any], operation: str) -> None:
    """An error with fields of other types can still be recorded."""
    check(operation, text_of({"id": REQUEST_ID, "error": data.draw(changed(error))}).encode())


@fuzzed(62)
@given(st.data())
def test_changed_reports(data: st.DataObject) -> None:
    """An unreadable report ends the session, so that everything is queried again; a readable one is a report."""
    check("submit", text_of({"report": data.draw(changed(FILL))}).encode())


@pytest.mark.parametrize(
    "changes",
    [
        {"symbol_id": "ETHUSDT"}, {"client_order_id": "b"}, {"client_order_id": None}, {"exec_type": None},
        {"order_qty": -1}, {"order_qty": 1.5}, {"order_qty": "100"}, {"price": 2**64}, {"unheard_of": 1},
    ],
)  # fmt: skip
def test_an_invalid_answer_is_unknown(changes: dict[str, Any]) -> None:
    """An answer about another order or with an impossible value is `OutcomeUnknown`."""
    line = text_of({"id": REQUEST_ID, "result": {**REPORT, **changes}}).encode()
    assert type(outcome_of("submit", line)) is OutcomeUnknown


@pytest.mark.parametrize("retry_after_s", ["1", True, -1, float("nan"), float("inf"), 1e300, [1], {}])
def test_a_refusal_with_an_impossible_wait_is_unknown(retry_after_s: Any) -> None:
    """A refusal with an invalid retry delay is not definitive."""
    error = {**ERRORS[0], "retry_after_s": retry_after_s}
    assert type(outcome_of("submit", text_of({"id": REQUEST_ID, "error": error}).encode())) is OutcomeUnknown
