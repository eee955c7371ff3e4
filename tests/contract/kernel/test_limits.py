"""Pre-trade limits on the whole kernel: at each limit an order passes, one above it is refused, and nothing is recorded.

The kernel on the memory log and virtual time, with the scripted exchange; the paper exchange where orders are changed.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kernel.clock import LoopClock, SeededIds
from kernel.commands.limit_gate import LimitGate
from kernel.errors import BusyError, ValidationError
from kernel.lifecycle.decide import PlaceOrder
from kernel.lifecycle.record import Record
from kernel.log import open_log
from kernel.models import OrderIntent
from kernel.order_spec import OrderType, Side
from kernel.safety.limit_settings import Limits, LimitSettings
from kernel.settings import KernelSettings
from kernel.venues import PaperVenue
from kernel.venues.paper.matching.config import PaperConfig
from replay import open_kernel
from replay.testing.scripted_exchange import SYMBOL
from tests.desk import Desk, a_desk, settled
from tests.orders import buy

virtual_time = pytest.mark.looptime


def limited(**limits: Any) -> LimitSettings:
    """The same for every symbol."""
    return LimitSettings(default=Limits(**limits))


async def refused(desk: Desk, order: Any, constraint: str, **given: Any) -> None:
    """An order is refused by one limit; the log and the exchange have nothing of it."""
    await settled()
    position, sent = desk.kernel.state.position, len(desk.exchange.truth)
    with pytest.raises(ValidationError, match="beyond the limits of S") as caught:
        await desk.kernel.place_order(order, **given)
    assert [item.constraint for item in caught.value.violations] == [constraint]
    await settled()
    assert (desk.kernel.state.position, len(desk.exchange.truth)) == (position, sent)


@virtual_time
@pytest.mark.parametrize(
    ("limits", "fits", "exceeds"),
    [
        ({"order_quantity_max": 5}, buy(5), buy(6)),
        ({"order_notional_max": 500}, buy(5, 100), buy(5, 101)),
        ({"open_orders_max": 1}, buy(1), buy(1)),
        ({"open_notional_max": 500}, buy(4, 100), buy(1, 101)),
        ({"position_max": 5}, buy(5), buy(1)),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
async def test_at_the_limit_and_one_above(limits: dict[str, Any], fits: Any, exceeds: Any) -> None:
    """An order at a limit passes; one above is rejected with that limit, and nothing is appended or sent."""
    async with a_desk(limits=limited(**limits)) as desk:
        await desk.kernel.place_order(fits)
        await refused(desk, exceeds, next(iter(limits)))


@virtual_time
async def test_every_exceeded_limit_is_listed() -> None:
    """The error lists each limit with its value, the given value and the remedy."""
    async with a_desk(limits=limited(order_quantity_max=5, position_max=4)) as desk:
        with pytest.raises(ValidationError) as caught:
            await desk.kernel.place_order(buy(6))
        assert "quantity 6 is above order_quantity_max 5" in str(caught.value)
        assert "position of 6 long if every BUY is filled is above position_max 4" in str(caught.value)
        assert "lower the quantity" in str(caught.value)


@virtual_time
async def test_the_worst_case_counts_each_direction_by_itself() -> None:
    """A position of two and a bid for three reach a limit of five; seven may be sold, as no bid need fill."""
    async with a_desk(limits=limited(position_max=5)) as desk:
        await desk.kernel.place_order(buy(2))
        desk.exchange.fill("#0", 2)
        await settled()
        await desk.kernel.place_order(buy(3))
        await refused(desk, buy(1), "position_max")
        await refused(desk, buy(8, 200, side=Side.SELL), "position_max")
        await desk.kernel.place_order(buy(7, 200, side=Side.SELL))


@virtual_time
async def test_an_unknown_attempt_counts() -> None:
    """A submit that may have arrived counts until it is resolved, though its intent is canceled."""
    async with a_desk(limits=limited(position_max=5)) as desk:
        desk.exchange.hold("submit-answer")
        first = await desk.kernel.place_order(buy(5), wait="recorded")
        await settled()
        await desk.kernel.cancel_order(first, wait="recorded")
        await refused(desk, buy(1), "position_max", wait="recorded")


@virtual_time
async def test_the_collar_is_around_the_newest_fill() -> None:
    """Before the first fill any price passes, then those within the percentage."""
    async with a_desk(limits=limited(price_collar_percent=10)) as desk:
        await desk.kernel.place_order(buy(1, 100))
        desk.exchange.fill("#0", 1)
        await settled()
        await desk.kernel.place_order(buy(1, 90))
        await desk.kernel.place_order(buy(1, 110))
        await refused(desk, buy(1, 111), "price_collar_percent")
        await refused(desk, buy(1, 89), "price_collar_percent")


@virtual_time
async def test_commands_are_counted_by_the_second() -> None:
    """Two commands pass, the third is rejected, cancels always pass, and a second later the next one passes."""
    async with a_desk(limits=limited(commands_per_s_max=2)) as desk:
        ids = [await desk.kernel.place_order(buy(1), wait="recorded") for _ in range(2)]
        await refused(desk, buy(1), "commands_per_s_max", wait="recorded")
        for intent_id in ids:
            await desk.kernel.cancel_order(intent_id)
        await asyncio.sleep(1)
        await desk.kernel.place_order(buy(1))


@virtual_time
async def test_concurrent_orders_do_not_exceed_a_limit() -> None:
    """Of twenty concurrent orders as many pass as fit, and the rejected ones leave no reservation."""
    async with a_desk(limits=limited(position_max=6)) as desk:
        came = await asyncio.gather(*(desk.kernel.place_order(buy(2)) for _ in range(20)), return_exceptions=True)
        assert sum(isinstance(item, str) for item in came) == 3
        assert len(desk.exchange.truth) == 3
        assert len(list(desk.kernel.state.intents())) == 3


@virtual_time
async def test_a_repeated_order_is_not_counted_twice() -> None:
    """Repeating an order is neither counted twice nor rejected at the limit."""
    async with a_desk(limits=limited(position_max=2, open_orders_max=1, commands_per_s_max=1)) as desk:
        assert await desk.kernel.place_order(buy(2), intent_id="mine") == "mine"
        assert await desk.kernel.place_order(buy(2), intent_id="mine") == "mine"


@virtual_time
async def test_a_kernel_without_a_venue_enforces_the_leaders_limits() -> None:
    """Every kernel on the log enforces the limits that the leader recorded."""
    async with (
        a_desk(limits=limited(position_max=5)) as desk,
        open_kernel(desk.log, clock=LoopClock(), ids=SeededIds(9), actor="operator") as other,
    ):
        await other.place_order(buy(3), wait="recorded")
        with pytest.raises(ValidationError, match=r"position of 6 long .* is above position_max 5"):
            await other.place_order(buy(3), wait="recorded")


@virtual_time
async def test_a_kernels_own_limits_hold_besides_the_leaders() -> None:
    """A kernel that only takes commands may have tighter limits."""
    settings = KernelSettings(limits=LimitSettings(symbols={"S": Limits(order_quantity_max=2)}))
    async with (
        a_desk(limits=limited(position_max=5)) as desk,
        open_kernel(desk.log, clock=LoopClock(), ids=SeededIds(9), settings=settings, actor="operator") as other,
    ):
        with pytest.raises(ValidationError, match=r"above order_quantity_max 2.*above position_max 5"):
            await other.place_order(buy(6), wait="recorded")
        await desk.kernel.place_order(buy(3))


@virtual_time
async def test_an_append_without_an_answer_counts() -> None:
    """An append without an answer counts for some seconds; one that wrote nothing does not."""
    clock = LoopClock()
    async with a_desk(clock=clock) as desk:
        gate = LimitGate(desk.kernel.state, clock=clock, own=limited(position_max=5))

        def passes(intent_id: str, problem: BaseException | None) -> None:
            intent = OrderIntent(intent_id=intent_id, exchange_id="paper", order=buy(5))
            with gate.admitted(Record(intent_id), PlaceOrder(intent, SYMBOL)):
                if problem is not None:
                    raise problem

        with pytest.raises(BusyError):
            passes("a", BusyError("full"))
        with pytest.raises(asyncio.CancelledError):
            passes("b", asyncio.CancelledError())
        with pytest.raises(ValidationError, match="position_max"):
            passes("c", None)
        await asyncio.sleep(6)
        passes("c", None)


@virtual_time
async def test_an_ended_order_does_not_count() -> None:
    """A rejected, ended or canceled order frees its part of the limit."""
    async with a_desk(limits=limited(position_max=2)) as desk:
        first = await desk.kernel.place_order(buy(2))
        await refused(desk, buy(2), "position_max")
        await desk.kernel.cancel_order(first)
        await desk.kernel.place_order(buy(2))


@virtual_time
async def test_a_change_counts_with_its_increase() -> None:
    """A change passes up to the limit and is rejected above; a reduction always passes."""
    clock = LoopClock()
    venue = PaperVenue(
        tape=(), speed="step", symbol="BTCUSDT", config=PaperConfig(ladder_levels=0, first_id=1), clock=clock
    )
    settings = KernelSettings(limits=limited(position_max="0.005", open_notional_max=300, order_quantity_max="0.004"))

    def bid(milli: int, price: int = 6_000_000) -> Any:
        return buy(milli * 100_000, price, symbol_id="BTCUSDT", order_type=OrderType.LIMIT)

    async with (
        open_log("memory://", exchange_id="paper", clock=clock, ids=SeededIds(1)) as log,
        open_kernel(log, venue=venue, clock=clock, ids=SeededIds(2), settings=settings) as kernel,
    ):
        await kernel.wait_ready(10)
        await kernel.place_order(bid(2), intent_id="a")
        await kernel.place_order(bid(2), intent_id="b")
        await kernel.modify_order("a", bid(3))
        for order, constraint in ((bid(4), "position_max"), (bid(3, 6_000_001), "open_notional_max")):
            with pytest.raises(ValidationError, match=constraint):
                await kernel.modify_order("a", order)
        assert (await kernel.get_order_intent("a")).order == bid(3)
        await kernel.modify_order("a", bid(1))
        await kernel.modify_order("a", bid(2, 6_100_000))
        await kernel.cancel_order("a")
        with pytest.raises(ValidationError, match=r"quantity 0\.005 is above order_quantity_max 0\.004"):
            await kernel.place_order(bid(5))
