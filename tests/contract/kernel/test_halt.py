"""Under a halt nothing is placed or changed, cancels go out, and all that works is taken down. Of all, or of a symbol."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from kernel import EventSourcedKernel, events
from kernel.clock import LoopClock, SeededIds
from kernel.commands import handler
from kernel.errors import LogUnavailableError, NotFoundError
from kernel.log import Append, EventLog
from kernel.log.engine.records import event_of
from kernel.models import Desired, OrdStatus
from replay import open_kernel
from tests.contract.kernel.test_pause import statuses
from tests.desk import a_desk, settled
from tests.orders import buy

virtual_time = pytest.mark.looptime


async def said(log: EventLog, *topics: str) -> list[events.BaseEvent]:
    """The log's events of these topics."""
    return [event_of(row) async for page in log.read() for row in page if row.topic in topics]


@virtual_time
async def test_a_halt_cancels_all_and_places_nothing() -> None:
    """Working orders are canceled, new ones wait for the resume; both events have actor and reason."""
    async with a_desk() as desk:
        for _ in range(3):
            await desk.kernel.place_order(buy())
        assert await desk.kernel.halt(reason="fat finger", actor="operator:ann") == 3
        await desk.kernel.place_order(buy(), wait="recorded")
        await asyncio.sleep(100)
        assert statuses(desk) == [OrdStatus.CANCELED] * 3
        (condition,) = [item for item in (await desk.kernel.health_check())["conditions"] if not item["status"]]
        assert (condition["reason"], condition["message"]) == ("Halted", "operator:ann: fat finger")

        assert await desk.kernel.resume()
        await asyncio.sleep(1)
        assert statuses(desk) == [OrdStatus.CANCELED] * 3 + [OrdStatus.NEW]
        halts = await said(desk.log, "Paused", "IntentCancelRequested")
        assert [event.actor for event in halts] == ["operator:ann"] * 4


@virtual_time
async def test_a_halt_sends_paused_cancels() -> None:
    """Cancels held by a pause are sent under a halt; a pause does not end a halt."""
    async with a_desk() as desk:
        first, second = [await desk.kernel.place_order(buy()) for _ in range(2)]
        await desk.kernel.pause(second)
        await desk.kernel.pause()
        await desk.kernel.cancel_order(first, wait="recorded")
        await asyncio.sleep(100)
        assert statuses(desk) == [OrdStatus.NEW, OrdStatus.NEW]

        assert await desk.kernel.halt() == 1
        assert not await desk.kernel.pause()
        await asyncio.sleep(1)
        assert statuses(desk) == [OrdStatus.CANCELED, OrdStatus.CANCELED]


@virtual_time
async def test_a_second_halt_cancels_later_orders() -> None:
    """A second halt records no second pause, and cancels the orders placed since."""
    async with a_desk() as desk:
        await desk.kernel.halt()
        await desk.kernel.place_order(buy(), wait="recorded")
        assert await desk.kernel.halt() == 1
        assert len(await said(desk.log, "Paused")) == 1
        await desk.kernel.resume()
        await asyncio.sleep(100)
        assert statuses(desk) == []


@virtual_time
async def test_changes_wait_under_a_halt() -> None:
    """Changes wait, whether they increase or reduce."""
    async with a_desk() as desk:
        await desk.kernel.halt()
        intent_id = await desk.kernel.place_order(buy(2), wait="recorded")
        await desk.kernel.modify_order(intent_id, buy(3), wait="recorded")
        await asyncio.sleep(100)
        assert statuses(desk) == []


@virtual_time
async def test_an_order_with_a_lost_answer_is_canceled_under_a_halt() -> None:
    """Status queries go on under a halt: an order whose answer was lost is found and canceled."""
    async with a_desk() as desk:
        desk.exchange.hold("submit-answer", "reports")
        await desk.kernel.place_order(buy(), wait="recorded")
        await settled()
        await desk.kernel.halt()
        await asyncio.sleep(30)
        assert statuses(desk) == [OrdStatus.CANCELED]


@virtual_time
async def test_a_symbol_is_halted_by_itself() -> None:
    """Only the symbol's orders are canceled and held; a resume of all leaves it halted."""
    async with a_desk() as desk:
        await desk.kernel.place_order(buy())
        assert await desk.kernel.halt("S", reason="news") == 1
        later = await desk.kernel.place_order(buy(), wait="recorded")
        await desk.kernel.resume()
        await asyncio.sleep(100)
        assert statuses(desk) == [OrdStatus.CANCELED]
        assert (await desk.kernel.health_check())["ready"]

        assert await desk.kernel.resume(symbol_id="S")
        assert not await desk.kernel.resume(symbol_id="S")
        await asyncio.sleep(1)
        assert (await desk.kernel.get_order_state(later)).status.ord_status is OrdStatus.NEW


@virtual_time
async def test_an_unknown_symbol_cannot_be_halted() -> None:
    """An unknown symbol is an error, and nothing is recorded."""
    async with a_desk() as desk:
        with pytest.raises(NotFoundError, match="nowhere"):
            await desk.kernel.halt("nowhere")
        assert await said(desk.log, "Paused") == []


@virtual_time
async def test_a_halt_holds_for_the_next_leader() -> None:
    """A kernel without a venue halts the log; the present or next leader cancels the orders."""
    async with a_desk() as desk:
        await desk.kernel.place_order(buy())
        desk.exchange.script.failing["cancel"] = "down"
        async with open_kernel(desk.log, clock=LoopClock(), ids=SeededIds(9), actor="operator:bob") as other:
            assert await other.halt(reason="audit") == 1
        await asyncio.sleep(5)
        await desk.kernel.stop()
        desk.exchange.script.failing.clear()
        assert statuses(desk) == [OrdStatus.NEW]
        await desk.kernel.start()
        await asyncio.sleep(20)
        assert statuses(desk) == [OrdStatus.CANCELED]


class SlowTail:
    """A log whose tail brings nothing while `open` is not set; all else is the log's."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self.open = asyncio.Event()
        self.open.set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    async def tail(self, after: int) -> AsyncIterator[list[events.BaseEvent]]:
        async for batch in self._log.tail(after):
            await self.open.wait()
            yield batch


Act = Callable[[EventSourcedKernel], Awaitable[object]]


@virtual_time
@pytest.mark.parametrize(
    ("known", "unseen", "act", "changed"),
    [
        ("resume", "place", EventSourcedKernel.cancel_all_orders, 1),
        ("resume", "place", EventSourcedKernel.halt, 1),
        ("halt", "resume", EventSourcedKernel.halt, 0),
        ("pause", "resume", EventSourcedKernel.pause, True),
        ("resume", "pause", EventSourcedKernel.resume, True),
    ],
)
async def test_a_halt_includes_orders_just_recorded_by_another_kernel(
    known: str, unseen: str, act: Act, changed: object
) -> None:
    """A kernel that has not folded another one's newest events includes them."""
    async with a_desk() as desk:
        slow: Any = SlowTail(desk.log)
        commands: dict[str, Callable[[], Awaitable[object]]] = {
            "place": lambda: desk.kernel.place_order(buy(), wait="recorded"),
            "halt": desk.kernel.halt,
            "pause": desk.kernel.pause,
            "resume": desk.kernel.resume,
        }
        async with open_kernel(slow, clock=LoopClock(), ids=SeededIds(9)) as other:
            await commands[known]()
            await settled()
            slow.open.clear()
            await commands[unseen]()
            before = (await desk.log.head()).position
            acting = asyncio.ensure_future(act(other))
            await asyncio.sleep(1)
            slow.open.set()
            assert await acting == changed
            topics = {row.topic async for page in desk.log.read(before) for row in page}
            assert topics & {"IntentCancelRequested", "Paused", "Resumed"}


@virtual_time
async def test_a_cancel_that_cannot_be_recorded_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the log cannot be written, `cancel_all_orders` and `halt` raise after trying every order."""
    monkeypatch.setattr(handler, "CANCELS_MAX", 1)
    async with a_desk() as desk:
        for name in ("a", "b"):
            await desk.kernel.place_order(buy(), intent_id=name)
        append = desk.log.append

        async def failing(command: Append) -> object:
            if command.writes[0].stream_id == events.intent_stream("a"):
                raise LogUnavailableError("the database is away")
            return await append(command)

        monkeypatch.setattr(desk.log, "append", failing)
        with pytest.raises(LogUnavailableError, match="away"):
            await desk.kernel.cancel_all_orders()
        assert [desk.kernel.state.effective_intent(name).desired for name in ("a", "b")] == [
            Desired.WORKING,
            Desired.CANCELED,
        ]
        with pytest.raises(LogUnavailableError, match="away"):
            await desk.kernel.halt()


@virtual_time
async def test_cancels_of_many_orders_are_one_append(monkeypatch: pytest.MonkeyPatch) -> None:
    """All cancels are recorded together, and after a conflict again without the order that changed."""
    async with a_desk() as desk:
        for name in ("a", "b", "c"):
            await desk.kernel.place_order(buy(), intent_id=name)
        append, sizes = desk.log.append, list[int]()

        async def raced(command: Append) -> object:
            sizes.append(len(command.writes))
            if sizes == [3]:
                await desk.kernel.cancel_order("c", wait="recorded")
            return await append(command)

        monkeypatch.setattr(desk.log, "append", raced)
        assert await desk.kernel.cancel_all_orders() == 2
        assert sizes[0] == 3
        assert 2 in sizes
        assert len(await said(desk.log, "IntentCancelRequested")) == 3
        assert await desk.kernel.cancel_orders(["a", "c"]) == {}
        refused = await desk.kernel.cancel_orders(["a", "nobody"])
        assert {name: type(problem) for name, problem in refused.items()} == {"nobody": NotFoundError}
