"""The paper exchange's server receives anything over a real socket: each line has an answer, and others are
served.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st

from kernel.clock import NS_PER_S
from kernel.order_spec import OcoMode
from kernel.values import as_json
from kernel.venues import AmendDialect
from kernel.venues.paper.exchange import PaperExchange
from kernel.venues.paper.faults import Fault, FaultKind, FaultOperation
from kernel.venues.paper.matching.config import PaperConfig, PaperExchangeOptions, TapeTrade, full_symbols
from kernel.venues.paper.server import PaperServer
from tests.fuzz.mutations import changed, damaged, deep, fuzzed, json_values, text_of
from tests.paper_world import COIN, LAST, LOT, SELL, SYMBOL, HandClock, cancel, group, limit, submit

TAPE = tuple(TapeTrade(number, LAST, LOT, 10**18 + number, buyer_is_maker=False) for number in range(1, 4))
CLOCK = HandClock()
ORDER = as_json(limit())
CANCEL = msgspec.to_builtins(cancel("mine", CLOCK))
STOP = limit(SELL, price=LAST - 200, order_type="STOP_LIMIT", stop_price=LAST - 100, display_quantity=COIN // 2)
BY_DATE = limit(time_in_force="GTD", expire_at_ns=CLOCK.now_ns() + NS_PER_S)
CONFIG: dict[str, Any] = {"symbols": full_symbols(), "native_groups": frozenset(OcoMode)}
REQUESTS: tuple[dict[str, Any], ...] = (
    {"id": 1, "op": "submit", "params": msgspec.to_builtins(submit("new", limit(), CLOCK))},
    {"id": 2, "op": "cancel", "params": CANCEL},
    {"id": 3, "op": "modify", "params": {**CANCEL, "order": ORDER}},
    {"id": 20, "op": "submit", "params": msgspec.to_builtins(submit("stop", STOP, CLOCK))},
    {"id": 21, "op": "submit", "params": msgspec.to_builtins(submit("ends", BY_DATE, CLOCK))},
    *({"id": 22, "op": "submit_group", "params": msgspec.to_builtins(
        group(mode, CLOCK, buy=limit(price=LAST), sell=STOP))} for mode in OcoMode),
    {"id": 4, "op": "order", "params": {"symbol_id": SYMBOL, "client_order_id": "mine"}},
    {"id": 5, "op": "snapshot", "since_ns": 0},
    {"id": 6, "op": "hello"},
    {"id": 7, "op": "subscribe", "params": {}},
    {"id": 8, "op": "symbols"},
    {"id": 9, "op": "truth"},
    {"id": 10, "op": "other_order", "params": {"order": ORDER, "account": "other"}},
    {"id": 11, "op": "cancel_order", "params": {"client_order_id": "mine", "text": "why"}},
    {"id": 12, "op": "bust", "params": {"trade_id": 1}},
    {"id": 13, "op": "correct", "params": {"trade_id": 1, "price": LAST, "quantity": LOT}},
    {"id": 14, "op": "halt", "params": {"symbol_id": SYMBOL}},
    {"id": 15, "op": "step", "params": {"count": 1}},
    {"id": 16, "op": "trade", "params": {"symbol_id": SYMBOL, "price": LAST, "quantity": LOT}},
    {"id": 17, "op": "last_price", "params": {"symbol_id": SYMBOL}},
    {"id": 18, "op": "fault", "params": {"fault": as_json(Fault(
        kind=FaultKind.ANSWER_LATE, operation=FaultOperation.ORDER, delay_ns=1))}},
    {"id": 19, "op": "disconnect"},
)  # fmt: skip
PROBE = b'{"id":"probe","op":"symbols"}\n'


def answers_to(lines: list[bytes]) -> list[Any]:
    """The server's answers to lines, up to the answer to a final valid one (or until it closes the connection)."""
    return asyncio.run(_heard(lines))


async def _heard(lines: list[bytes]) -> list[Any]:
    problems: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
    with tempfile.TemporaryDirectory() as directory:
        config = PaperConfig(**CONFIG, amend=list(AmendDialect)[sum(map(len, lines)) % len(AmendDialect)])
        journal = Path(directory) / "journal"
        options = PaperExchangeOptions(tape=TAPE, symbol=SYMBOL, speed="step", journal=journal, config=config)
        exchange = PaperExchange(options, clock=HandClock())
        server = PaperServer(exchange)
        address = await server.start(str(Path(directory) / "socket"))
        exchange.engine.submit(submit("mine", limit(), CLOCK))
        answers = await _answers(address, b"".join(line + b"\n" for line in lines))
        assert await _answers(address, b"") == [{"id": "probe", "result": answers_of_symbols(exchange)}]
        truth = exchange.engine.truth()
        await server.stop()
        await exchange.start()  # what it journaled is what it holds
        assert exchange.engine.truth() == truth
        await exchange.stop()
    assert problems == []
    return answers


def answers_of_symbols(exchange: PaperExchange) -> Any:
    """The expected answer to the final request."""
    return [as_json(symbol) for symbol in exchange.symbols()]


async def _answers(address: str, data: bytes) -> list[Any]:
    """The lines that one connection receives."""
    reader, writer = await asyncio.open_unix_connection(address, limit=2**26)
    answers: list[Any] = []
    writer.write(data + PROBE)
    async with asyncio.timeout(240):
        while line := await reader.readline():
            answers.append(json.loads(line))
            if answers[-1].get("id") == "probe":
                break
    writer.close()
    return answers


@fuzzed(50)
@given(st.lists(st.binary(max_size=80) | json_values.map(text_of).map(str.encode), max_size=3))
@example([deep(100_000).encode()])
@example([b'{"id":' + deep(900).encode() + b',"op":"hello"}'])
@example([b'{"id":"\\ud800","op":"hello"}', b'{"id":1,"op":"\\ud800"}', b'{"id":NaN,"op":"hello"}'])
@example([b'{"id":1,"op":"last_price","symbol_id":"none"}', b'{"id":2,"op":"halt","symbol_id":"none"}'])
@example([b'{"id":1,"op":"bust","trade_id":' + b"9" * 5_000 + b"}"])
def test_any_lines(lines: list[bytes]) -> None:
    """Whatever lines arrive, the final valid one is answered, here and on another connection."""
    answers = answers_to(lines)
    assert answers[-1]["id"] == "probe"


@fuzzed(125)
@given(st.data(), st.lists(st.sampled_from(REQUESTS), min_size=1, max_size=2))
def test_changed_requests(data: st.DataObject, requests: list[dict[str, Any]]) -> None:
    """Requests with fields dropped, renamed, swapped or of other types; the journal holds their effects."""
    answers_to([text_of(data.draw(changed(request))).encode() for request in requests])


@fuzzed(50)
@given(st.data(), st.sampled_from(REQUESTS))
def test_damaged_requests(data: st.DataObject, request: dict[str, Any]) -> None:
    """A request with damaged bytes."""
    answers_to([data.draw(damaged(text_of(request).encode()))])
