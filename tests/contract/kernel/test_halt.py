"""Under a halt nothing is placed or changed, cancels go out, and all that works is taken down. Of all, or of a symbol."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from kernel import EventSourcedKernel, events
from kernel.clock import LoopClock, SeededIds
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
async def test_a_halt_takes_down_all_and_places_nothing() -> None:
    """What works is canceled, what is wanted afterwards waits for the resume; both say who, and why."""
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
async def test_a_halt_lets_out_what_a_pause_held_back() -> None:
    """Cancels that a pause of all, or of the one intent, had held back go out; a pause does not end a halt."""
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
async def test_again_it_takes_down_what_came_since() -> None:
    """A second halt records no second pause, and cancels what is wanted by then."""
    async with a_desk() as desk:
        await desk.kernel.halt()
        await desk.kernel.place_order(buy(), wait="recorded")
        assert await desk.kernel.halt() == 1
        assert len(await said(desk.log, "Paused")) == 1
        await desk.kernel.resume()
        await asyncio.sleep(100)
        assert statuses(desk) == []


@virtual_time
async def test_a_change_does_not_go_out() -> None:
    """Other terms for what is wanted wait too, whether they ask for more or for less."""
    async with a_desk() as desk:
        await desk.kernel.halt()
        intent_id = await desk.kernel.place_order(buy(2), wait="recorded")
        await desk.kernel.modify_order(intent_id, buy(3), wait="recorded")
        await asyncio.sleep(100)
        assert statuses(desk) == []


@virtual_time
async def test_an_unanswered_order_is_found_and_taken_down() -> None:
    """The venue is asked under a halt as ever: an order whose answer was lost is found, and canceled."""
    async with a_desk() as desk:
        desk.exchange.hold("submit-answer", "reports")
        await desk.kernel.place_order(buy(), wait="recorded")
        await settled()
        await desk.kernel.halt()
        await asyncio.sleep(30)
        assert statuses(desk) == [OrdStatus.CANCELED]


@virtual_time
async def test_a_symbol_is_halted_by_itself() -> None:
    """Only its orders are taken down and held back; a resume of all leaves it halted, one of the symbol ends it."""
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
async def test_a_symbol_that_is_not_known_cannot_be_halted() -> None:
    """A slip of the pen is told, and nothing is recorded."""
    async with a_desk() as desk:
        with pytest.raises(NotFoundError, match="nowhere"):
            await desk.kernel.halt("nowhere")
        assert await said(desk.log, "Paused") == []


@virtual_time
async def test_whoever_leads_next_goes_on_with_it() -> None:
    """A kernel without a venue halts the log; the one that leads, or is started later, takes down what works."""
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
async def test_what_another_kernel_has_just_recorded_is_meant_too(
    known: str, unseen: str, act: Act, changed: object
) -> None:
    """A kernel that has not yet folded what another was told goes by it all the same: it cancels what was just placed, and
    takes nothing for held that was resumed, nor the other way round."""
    async with a_desk() as desk:
        slow: Any = SlowTail(desk.log)
        told: dict[str, Callable[[], Awaitable[object]]] = {
            "place": lambda: desk.kernel.place_order(buy(), wait="recorded"),
            "halt": desk.kernel.halt,
            "pause": desk.kernel.pause,
            "resume": desk.kernel.resume,
        }
        async with open_kernel(slow, clock=LoopClock(), ids=SeededIds(9)) as other:
            await told[known]()
            await settled()
            slow.open.clear()
            await told[unseen]()
            before = (await desk.log.head()).position
            acting = asyncio.ensure_future(act(other))
            await asyncio.sleep(1)
            slow.open.set()
            assert await acting == changed
            topics = {row.topic async for page in desk.log.read(before) for row in page}
            assert topics & {"IntentCancelRequested", "Paused", "Resumed"}


@virtual_time
async def test_a_cancel_that_could_not_be_recorded_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the log can't be written, `cancel_all_orders` and `halt` raise: nobody takes for canceled what is not. What
    can be canceled is, whatever became of another."""
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
