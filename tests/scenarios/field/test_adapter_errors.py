"""An adapter that raises what no adapter may raise, or answers with the wrong type, stops nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from msgspec import structs

from kernel.models import Balance, ExecType, OrdStatus
from kernel.venues.base import ExecutionReport, VenueSnapshot
from kernel.venues.guard import GuardedVenue, report_of
from tests.scenarios.field.lab import COIN, FieldVenue, Lab, field_lab, order

pytestmark = pytest.mark.looptime


async def status(lab: Lab, intent_id: str) -> OrdStatus:
    return (await lab.kernel.get_order_state(intent_id)).status.ord_status


async def conditions(lab: Lab) -> dict[str, str]:
    """The conditions that do not hold, each with its reason."""
    return {
        item["type"]: item["reason"] for item in (await lab.kernel.health_check())["conditions"] if not item["status"]
    }


def failing_once(venue: FieldVenue, call: str, problem: BaseException) -> None:
    """The next call of one method of the port raises."""
    real = getattr(venue, call)

    async def failing(*arguments: Any) -> Any:
        setattr(venue, call, real)
        raise problem

    setattr(venue, call, failing)


async def test_an_exception_out_of_the_stream_restarts_it() -> None:
    """A KeyError out of `reports()` ends the session; the next one brings the fills, and the finding has the line."""
    async with field_lab() as lab:
        venue, real = lab.venue, lab.venue.reports

        async def failing() -> AsyncIterator[ExecutionReport]:
            venue.reports = real  # type: ignore[method-assign]
            async for report in real():
                yield {}["price"] if report.last_qty else report

        venue.reports = failing  # type: ignore[method-assign]
        venue.tell(None)  # type: ignore[arg-type]  # the stream that works ends
        await asyncio.sleep(1)
        await lab.kernel.place_order(order(), intent_id="a")
        venue.fill(venue.open_orders()[0], COIN)
        await asyncio.sleep(0)
        await asyncio.sleep(0.01)
        ended = dict.fromkeys(("VENUE_CONNECTED", "VENUE_SNAPSHOT_COMPLETE"), "AdapterError")
        assert await conditions(lab) == ended | {"VENUE_STREAM": "StreamSilent"}
        assert "reports of the venue adapter raised KeyError" in lab.findings()["STREAM_SILENT"]
        await asyncio.sleep(2)
        assert await status(lab, "a") is OrdStatus.FILLED
        assert (
            "reports of the venue adapter raised KeyError at test_adapter_errors.py:" in lab.findings()["ADAPTER_ERROR"]
        )
        await lab.kernel.place_order(order(), intent_id="b")
        venue.fill(venue.open_orders()[0], COIN)
        await asyncio.sleep(1)
        assert not await conditions(lab)


@pytest.mark.parametrize("good", [0, 1])
async def test_a_stream_that_fails_at_each_connect(good: int) -> None:
    """One message that the adapter cannot read, given again at each connect, stops nothing: the account is queried."""
    async with field_lab() as lab:
        venue = lab.venue
        await lab.kernel.place_order(order(), intent_id="a")
        known = venue.report(venue.open_orders()[0], ExecType.NEW)

        async def poisoned() -> AsyncIterator[ExecutionReport]:
            for _ in range(good):
                yield known
            raise KeyError("price")

        venue.reports = poisoned  # type: ignore[method-assign]
        venue.tell(None)  # type: ignore[arg-type]
        await asyncio.sleep(5)
        await lab.kernel.place_order(order(price=5_000_000), intent_id="b")
        venue.fill(venue.open_orders()[0], COIN, tell=False)
        await asyncio.sleep(20)
        assert await status(lab, "a") is OrdStatus.FILLED
        assert await conditions(lab) == {"VENUE_STREAM": "StreamSilent"}
        await lab.kernel.cancel_order("b")
        await asyncio.sleep(300)
        assert 5 <= venue.count("connect") <= 9


@pytest.mark.parametrize(
    "problem", [TypeError("no session"), asyncio.CancelledError(), asyncio.InvalidStateError("gone")]
)
async def test_an_exception_out_of_connect_is_tried_again(problem: BaseException) -> None:
    """Whatever leaves `connect()` is an adapter error, and the kernel connects again."""
    async with field_lab() as lab:
        failing_once(lab.venue, "connect", problem)
        lab.venue.tell(None)  # type: ignore[arg-type]
        await asyncio.sleep(5)
        assert f"connect of the venue adapter raised {type(problem).__name__}" in lab.findings()["ADAPTER_ERROR"]
        await lab.kernel.place_order(order(), intent_id="a")
        assert await status(lab, "a") is OrdStatus.NEW


@pytest.mark.parametrize("arrives", [True, False])
async def test_an_exception_out_of_submit_leaves_it_unknown(arrives: bool) -> None:
    """A ValueError out of `submit()` is no refusal: the order is looked for, and placed again only if it is absent."""
    async with field_lab() as lab:
        venue = lab.venue
        accept = venue.on_submit

        def failing(request: Any) -> ExecutionReport:
            venue.on_submit = accept
            if arrives:
                accept(request)
            raise ValueError("not a decimal")

        venue.on_submit = failing
        await lab.kernel.place_order(order(), intent_id="a")
        await asyncio.sleep(60)
        assert await status(lab, "a") is OrdStatus.NEW
        assert len(venue.open_orders()) == 1
        assert venue.count("submit") == (1 if arrives else 2)
        assert "submit of the venue adapter raised ValueError" in lab.findings()["ADAPTER_ERROR"]


@pytest.mark.parametrize("answer", [None, {"status": "NEW"}, "ok"])
async def test_an_answer_of_the_wrong_type_is_no_answer(answer: Any) -> None:
    """A submit that is answered with something else than a report is unknown, and resolved by a query."""
    async with field_lab() as lab:
        venue = lab.venue
        accept = venue.on_submit

        def odd(request: Any) -> ExecutionReport:
            venue.on_submit = accept
            accept(request)
            return answer  # type: ignore[no-any-return]

        venue.on_submit = odd
        await lab.kernel.place_order(order(), intent_id="a")
        await asyncio.sleep(60)
        assert await status(lab, "a") is OrdStatus.NEW
        assert "the answer has the wrong type" in lab.findings()["ADAPTER_ERROR"]


async def test_an_answer_with_an_invalid_field_is_no_answer() -> None:
    """A submit that is answered with a report that violates its constraints is unknown; the finding lists them all."""
    async with field_lab() as lab:
        venue = lab.venue
        accept = venue.on_submit

        def odd(request: Any) -> ExecutionReport:
            venue.on_submit = accept
            return structs.replace(accept(request), cum_qty=-1, price="1.5")

        venue.on_submit = odd
        await lab.kernel.place_order(order(), intent_id="a")
        await asyncio.sleep(60)
        assert await status(lab, "a") is OrdStatus.NEW
        assert all(field in lab.findings()["ADAPTER_ERROR"] for field in ("cum_qty `-1`", "price `1.5`"))


async def test_a_text_is_taken_for_the_member_of_its_enum() -> None:
    """A report with a text for an enum is passed on with the member; one that has it already is passed on itself."""
    async with field_lab() as lab:
        await lab.kernel.place_order(order(), intent_id="a")
        (item,) = lab.venue.open_orders()
        lab.venue.fill(item, COIN)
        real = lab.venue.snapshot

        async def snapshot(since_ns: int, symbols: Sequence[str]) -> VenueSnapshot:
            found = await real(since_ns, symbols)
            fills: Any = tuple(structs.replace(fill, exec_type=str(fill.exec_type)) for fill in found.fills)
            return structs.replace(found, fills=fills)

        lab.venue.snapshot = snapshot  # type: ignore[method-assign]
        guard = GuardedVenue(lab.venue)
        listed = await guard.snapshot(0, ["BTCUSDT"])
        assert [type(fill.exec_type) for fill in listed.fills] == [ExecType]
        assert report_of(listed.fills[0]) is listed.fills[0]


@pytest.mark.parametrize("call", ["snapshot", "order", "cancel", "assets", "symbols"])
async def test_every_other_call_may_fail_once(call: str) -> None:
    """A stray exception out of any call has no effect but a finding and a repetition."""
    async with field_lab() as lab:
        await lab.kernel.place_order(order(), intent_id="a")
        failing_once(lab.venue, call, LookupError("no such page"))
        lab.venue.tell(None)  # type: ignore[arg-type]
        await asyncio.sleep(70)
        await lab.kernel.cancel_order("a")
        await asyncio.sleep(70)
        assert await status(lab, "a") is OrdStatus.CANCELED
        raised = lab.findings().get("ADAPTER_ERROR", "")
        assert f"{call} of the venue adapter raised LookupError" in raised or call == "order"


async def test_a_property_that_fails_stops_nothing_for_good() -> None:
    """`rate_usage` and `capabilities` may raise; a venue without `recorded` takes no note of what is recorded."""

    class Odd(FieldVenue):
        recorded = None  # type: ignore[assignment]

    async with field_lab() as made:
        odd = Odd(made.venue.clock, made.venue.capabilities)
    del odd.rate_usage
    async with field_lab(venue=odd) as lab:
        await lab.kernel.place_order(order(), intent_id="a")
        odd.fill(odd.open_orders()[0], COIN)
        await asyncio.sleep(1)
        assert await status(lab, "a") is OrdStatus.FILLED
        assert "rate_usage of the venue adapter raised AttributeError" in lab.findings()["ADAPTER_ERROR"]


async def test_a_list_of_the_wrong_type_is_no_evidence() -> None:
    """A snapshot that is no snapshot closes nothing."""
    async with field_lab() as lab:
        await lab.kernel.place_order(order(), intent_id="a")
        real = lab.venue.snapshot

        async def nothing(*arguments: Any) -> VenueSnapshot:
            return []  # type: ignore[return-value]

        lab.venue.snapshot = nothing  # type: ignore[method-assign]
        await asyncio.sleep(300)
        assert await status(lab, "a") is OrdStatus.NEW
        lab.venue.snapshot = real  # type: ignore[method-assign]
        await asyncio.sleep(60)
        assert await status(lab, "a") is OrdStatus.NEW


async def test_each_report_is_confirmed_once() -> None:
    """`recorded` is called once for each report of the stream: new, known or external."""
    async with field_lab() as lab:
        await lab.kernel.place_order(order(), intent_id="a")
        mine = lab.venue.open_orders()[0]
        first = lab.venue.fill(mine, COIN // 2)
        lab.venue.tell(first)
        foreign = lab.venue.report(
            mine, first.exec_type, client_order_id="theirs", exchange_order_id="77", fill_key="f"
        )
        lab.venue.tell(foreign)
        await asyncio.sleep(1)
        assert lab.venue.recorded_reports == [first, first, foreign]


@pytest.mark.parametrize("is_ours", [True, False])
async def test_a_report_with_a_field_of_a_wrong_type(is_ours: bool) -> None:
    """What cannot be processed of a report is a defect of the adapter; the session and every other order go on."""
    async with field_lab() as lab:
        await lab.kernel.place_order(order(), intent_id="a")
        (item,) = lab.venue.open_orders()
        other = {} if is_ours else {"symbol_id": "ETHUSDT", "exchange_order_id": "x", "client_order_id": None}
        trade = lab.venue.report(item, ExecType.TRADE, fill_key="k", last_qty=COIN)
        lab.venue.tell(structs.replace(trade, last_px="1.5", **other))
        await asyncio.sleep(5)
        assert lab.findings().keys() == {"ADAPTER_ERROR"}
        lab.venue.fill(item, COIN)
        await asyncio.sleep(1)
        assert (await lab.kernel.get_order_state("a")).status.ord_status is OrdStatus.FILLED


@pytest.mark.parametrize(
    "wrong",
    [{"balances": {"BTC": None}}, {"balances": {"BTC": Balance(asset_id="BTC", total="x")}},
     {"open_orders": (5,)}, {"fills": None}, {"transfers": ("x",)}, {"positions": {"BTCUSDT": "1"}}, {"began_ns": "x"}],
    ids=str,
)  # fmt: skip
async def test_a_snapshot_with_a_field_of_a_wrong_type(wrong: dict[str, Any]) -> None:
    """It is no evidence, and ends nothing: the next one counts."""
    async with field_lab() as lab:
        await lab.kernel.place_order(order(), intent_id="a")
        (item,) = lab.venue.open_orders()
        real = lab.venue.snapshot

        async def snapshot(since_ns: int, symbols: Sequence[str]) -> VenueSnapshot:
            return structs.replace(await real(since_ns, symbols), **wrong)

        lab.venue.snapshot = snapshot  # type: ignore[method-assign]
        await asyncio.sleep(70)
        assert "the answer is malformed: " in lab.findings()["ADAPTER_ERROR"]
        lab.venue.fill(item, COIN)
        lab.venue.snapshot = real  # type: ignore[method-assign]
        await asyncio.sleep(70)
        assert (await lab.kernel.get_order_state("a")).status.ord_status is OrdStatus.FILLED
        assert (await lab.kernel.health_check())["ready"]


@pytest.mark.parametrize("wrong", [{"price": -1}, {"exec_type": "FOO"}, {"exchange_order_id": 7}], ids=str)
async def test_an_answer_with_a_field_of_a_wrong_type(wrong: dict[str, Any]) -> None:
    """The request's outcome is unknown, and found by a query: the order is neither lost nor placed twice."""
    async with field_lab() as lab:
        lab.venue.on_submit = lambda request: structs.replace(lab.venue.accept(request), **wrong)
        await lab.kernel.place_order(order(), intent_id="a", wait="recorded")
        await asyncio.sleep(30)
        assert lab.venue.count("submit") == 1
        assert (await lab.kernel.get_order_state("a")).status.ord_status is OrdStatus.NEW
        assert "submit of the venue adapter raised ValueError" in lab.findings()["ADAPTER_ERROR"]


MALFORMED: list[dict[str, Any]] = [{"last_px": None}, {"fill_key": None}, {"last_qty": "1"}]


@pytest.mark.parametrize("wrong", MALFORMED, ids=str)
@pytest.mark.parametrize("told", [True, False], ids=["stream", "list"])
async def test_a_malformed_trade_keeps_out_no_other(told: bool, wrong: dict[str, Any]) -> None:
    """The other trades of its order count, whether the stream or a list brings them, and a finding names it."""
    async with field_lab() as lab:
        await lab.kernel.place_order(order(), intent_id="a")
        (item,) = lab.venue.open_orders()
        trades = [lab.venue.fill(item, COIN // 8, tell=False) for _ in range(3)]
        lab.venue.trades[1] = structs.replace(trades[1], **wrong)
        for trade in lab.venue.trades if told else ():
            lab.venue.tell(trade)
        await asyncio.sleep(1 if told else 70)
        assert await lab.position() == COIN // 4
        assert "reports of the venue adapter raised" in lab.findings()["ADAPTER_ERROR"]
        lab.venue.trades[1] = trades[1]
        await asyncio.sleep(130)
        assert await lab.position() == 3 * COIN // 8


async def test_a_trade_without_a_side() -> None:
    """It is its order's: what a venue does not tell of a trade is known from the order."""
    async with field_lab(trades_carry_client_id=False) as lab:
        await lab.kernel.place_order(order("SELL"), intent_id="a")
        (item,) = lab.venue.open_orders()
        lab.venue.fill(item, COIN // 4, side=None, client_order_id=None)
        await asyncio.sleep(1)
        assert await lab.position() == -COIN // 4
        assert lab.findings() == {}


async def test_a_session_whose_close_hangs() -> None:
    """It counts as closed after a while: the kernel connects again, and stops when it is told to."""
    async with field_lab() as lab:

        async def close() -> None:
            await asyncio.Event().wait()

        lab.venue.close = close  # type: ignore[method-assign]
        lab.venue.tell(None)  # type: ignore[arg-type]
        await asyncio.sleep(30)
        assert lab.venue.count("connect") == 2
        await lab.kernel.place_order(order(), intent_id="a")
        assert (await lab.kernel.get_order_state("a")).status.ord_status is OrdStatus.NEW
