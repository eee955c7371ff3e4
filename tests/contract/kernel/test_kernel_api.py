"""`EventSourcedKernel`'s commands and queries against the seed's contract: every method, every error.

The whole kernel on the memory log and virtual time, with the scripted exchange.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kernel import events
from kernel.errors import (
    AlreadyExistsError,
    ExchangeError,
    NotFoundError,
    Rejected,
    ValidationError,
)
from kernel.models import Desired, OrdStatus, ReconciliationStatus, UnsolicitedCancelPolicy
from kernel.order_spec import StandardOrderGroup
from tests.desk import a_desk, settled
from tests.orders import buy

virtual_time = pytest.mark.looptime


# ------------------------------------------------------------------------------------------------------- place_order
@virtual_time
async def test_place_order_returns_once_the_venue_answered() -> None:
    """The id names an intent that is durable, and an order that works."""
    async with a_desk() as desk:
        intent_id = await desk.kernel.place_order(buy(2), {"why": "test"})
        intent = await desk.kernel.get_order_intent(intent_id)
        state = await desk.kernel.get_order_state(intent_id)
        assert (intent.order, intent.metadata, intent.generation) == (buy(2), {"why": "test"}, 1)
        assert (state.status.ord_status, state.exchange_order_id) == (OrdStatus.NEW, "#0")
        assert state.reconciliation_status is ReconciliationStatus.SYNCED


@virtual_time
async def test_place_order_recorded_returns_on_the_commit() -> None:
    """`wait="recorded"` does not wait for the venue."""
    async with a_desk() as desk:
        desk.exchange.hold("submit")
        intent_id = await desk.kernel.place_order(buy(), wait="recorded")
        assert desk.exchange.truth == ()
        assert "IntentCreated" in await desk.topics(intent_id)


@virtual_time
async def test_place_order_again_with_its_id_is_one_order() -> None:
    """A strategy's own retry returns the id and its outcome, and makes no event."""
    async with a_desk() as desk:
        assert await desk.kernel.place_order(buy(), intent_id="mine") == "mine"
        before = await desk.topics("mine")
        assert await desk.kernel.place_order(buy(), intent_id="mine") == "mine"
        assert await desk.topics("mine") == before
        assert len(desk.exchange.truth) == 1


@virtual_time
async def test_concurrent_calls_with_one_id_place_one_order() -> None:
    """Both callers get the id; the venue gets one order."""
    async with a_desk() as desk:
        both = await asyncio.gather(*(desk.kernel.place_order(buy(), intent_id="mine") for _ in range(2)))
        assert both == ["mine", "mine"]
        assert len(desk.exchange.truth) == 1


@virtual_time
async def test_place_order_with_a_taken_id_is_refused() -> None:
    """Another order under a known id is an `AlreadyExistsError`."""
    async with a_desk() as desk:
        await desk.kernel.place_order(buy(2), intent_id="mine")
        with pytest.raises(AlreadyExistsError, match="mine"):
            await desk.kernel.place_order(buy(3), intent_id="mine")


@virtual_time
async def test_a_refused_order_is_an_exchange_error_with_its_id() -> None:
    """A definitive rejection raises with the venue's code and the intent id, and the outcome stays readable."""
    async with a_desk() as desk:
        desk.exchange.script.refusal = Rejected("no funds", code="E1")
        with pytest.raises(ExchangeError, match="no funds") as caught:
            await desk.kernel.place_order(buy(), intent_id="mine")
        assert (caught.value.intent_id, caught.value.code) == ("mine", "E1")
        state = await desk.kernel.get_order_state("mine")
        assert state.status.ord_status is OrdStatus.REJECTED
        assert state.reconciliation_status is ReconciliationStatus.FAILED
        with pytest.raises(ExchangeError, match="no funds"):
            await desk.kernel.place_order(buy(), intent_id="mine")
        assert (await desk.topics("mine")).count("AttemptStarted") == 1


@virtual_time
async def test_a_temporary_rejection_raises_nothing() -> None:
    """After the ack timeout the id is returned, and the reconciler goes on until the venue accepts the order."""
    async with a_desk() as desk:
        desk.exchange.script.refusal = Rejected("busy", retry_after_s=1)
        loop = asyncio.get_running_loop()
        began = loop.time()
        intent_id = await desk.kernel.place_order(buy())
        assert loop.time() - began == pytest.approx(5, abs=0.1)
        desk.exchange.script.refusal = None
        await asyncio.sleep(10)
        assert [order.status for order in desk.exchange.truth] == [OrdStatus.NEW]
        assert (await desk.kernel.get_order_state(intent_id)).status.ord_status is OrdStatus.NEW


@virtual_time
async def test_the_ack_timeout_can_be_given() -> None:
    """`ack_timeout_s` bounds this one wait."""
    async with a_desk() as desk:
        desk.exchange.hold("submit")
        loop = asyncio.get_running_loop()
        began = loop.time()
        await desk.kernel.place_order(buy(), ack_timeout_s=0.5)
        assert loop.time() - began == pytest.approx(0.5, abs=0.05)


@virtual_time
async def test_every_violation_is_listed_and_nothing_recorded() -> None:
    """A `ValidationError` lists every violated constraint of the symbol."""
    async with a_desk() as desk:
        head = await desk.log.head()
        order = buy(2_000_000, display_quantity=1, reduce_only=True)
        with pytest.raises(ValidationError) as caught:
            await desk.kernel.place_order(order)
        assert {item.constraint for item in caught.value.violations} == {"quantity range", "iceberg", "reduce_only"}
        assert await desk.log.head() == head


@virtual_time
@pytest.mark.parametrize(
    "given",
    [
        pytest.param({"intent_id": "no spaces"}, id="intent id with a space"),
        pytest.param({"intent_id": "x" * 65}, id="intent id too long"),
        pytest.param({"owner": "x" * 200}, id="owner too long"),
        pytest.param({"metadata": {"x": float("nan")}}, id="metadata with NaN"),
        pytest.param({"metadata": {"x": object()}}, id="metadata with an object"),
        pytest.param({"wait": "filled"}, id="unknown wait"),
    ],
)
async def test_invalid_arguments_are_rejected(given: dict[str, Any]) -> None:
    """A bad id, owner, metadata or wait is a `ValidationError`, and nothing is recorded."""
    async with a_desk() as desk:
        head = await desk.log.head()
        with pytest.raises(ValidationError):
            await desk.kernel.place_order(buy(), **given)
        assert await desk.log.head() == head


@virtual_time
@pytest.mark.parametrize(
    "terms",
    [{"quantity": -1}, {"quantity": 2.0}, {"price": None}, {"side": "HOLD"}, {"symbol_id": []}, {"quantity": 2**64}],
)
async def test_a_constructed_order_is_checked_by_every_command(terms: dict[str, Any]) -> None:
    """The constructor checks nothing, so each command refuses an invalid order, and nothing is recorded."""
    order: Any = buy(**{"quantity": 2, "price": 100, **terms})
    async with a_desk() as desk:
        await desk.kernel.place_order(buy(), intent_id="a")
        head = await desk.log.head()
        with pytest.raises(ValidationError):
            await desk.kernel.place_order(order)
        with pytest.raises(ValidationError):
            await desk.kernel.place_order_group(StandardOrderGroup(orders=(buy(), order)))
        with pytest.raises(ValidationError):
            await desk.kernel.modify_order("a", order)
        assert await desk.log.head() == head


@virtual_time
async def test_an_unknown_symbol_is_rejected_with_the_known_ones() -> None:
    """The error names the known symbols."""
    async with a_desk() as desk:
        with pytest.raises(ValidationError, match="symbol `T` is not known; known symbols: S"):
            await desk.kernel.place_order(buy(symbol_id="T"))


@virtual_time
async def test_commands_carry_their_actor() -> None:
    """The owner of a command is its actor; without one, the kernel's."""
    async with a_desk() as desk:
        await desk.kernel.place_order(buy(), intent_id="a", owner="mm-1")
        await desk.kernel.place_order(buy(), intent_id="b")
        actors = [(await desk.log.read_stream(events.intent_stream(name)))[0].actor for name in "ab"]
        assert actors == ["strategy:mm-1", "strategy:test"]


@virtual_time
async def test_recreate_replaces_an_order_that_the_venue_canceled() -> None:
    """`on_unsolicited_cancel` is part of the intent."""
    async with a_desk() as desk:
        await desk.kernel.place_order(buy(), on_unsolicited_cancel=UnsolicitedCancelPolicy.RECREATE)
        desk.exchange.cancel("#0")
        await asyncio.sleep(1)
        await settled()
        assert [order.status for order in desk.exchange.truth] == [OrdStatus.CANCELED, OrdStatus.NEW]


# ------------------------------------------------------------------------------------------------------- cancel_order
@virtual_time
async def test_cancel_order_returns_once_it_is_canceled() -> None:
    """The order is canceled at the venue when the call returns; repeating it makes no event."""
    async with a_desk() as desk:
        intent_id = await desk.kernel.place_order(buy())
        await desk.kernel.cancel_order(intent_id)
        assert [order.status for order in desk.exchange.truth] == [OrdStatus.CANCELED]
        assert (await desk.kernel.get_order_intent(intent_id)).desired is Desired.CANCELED
        before = await desk.topics(intent_id)
        await desk.kernel.cancel_order(intent_id)
        assert await desk.topics(intent_id) == before


@virtual_time
async def test_cancel_order_of_an_unknown_intent() -> None:
    """`NotFoundError`, which is a `KeyError` too."""
    async with a_desk() as desk:
        with pytest.raises(NotFoundError):
            await desk.kernel.cancel_order("nobody")
        with pytest.raises(KeyError):
            await desk.kernel.cancel_order("nobody")


@virtual_time
@pytest.mark.parametrize("end", ["filled", "expired", "rejected"])
async def test_canceling_an_ended_order_is_too_late(end: str) -> None:
    """FILLED, EXPIRED and REJECTED raise an `ExchangeError` with the id, without an event or a request."""
    async with a_desk() as desk:
        if end == "rejected":
            desk.exchange.script.refusal = Rejected("no")
            with pytest.raises(ExchangeError):
                await desk.kernel.place_order(buy(2), intent_id="mine")
        else:
            await desk.kernel.place_order(buy(2), intent_id="mine")
            desk.exchange.fill("#0", 2) if end == "filled" else desk.exchange.expire("#0")
        await settled()
        before = await desk.topics("mine")
        with pytest.raises(ExchangeError, match="too late") as caught:
            await desk.kernel.cancel_order("mine")
        assert caught.value.intent_id == "mine"
        assert await desk.topics("mine") == before


@virtual_time
async def test_a_cancel_overtaken_by_a_fill_raises() -> None:
    """An order filled while the cancel was on its way raises an `ExchangeError`, and the fill counts."""
    async with a_desk() as desk:
        intent_id = await desk.kernel.place_order(buy(2))
        desk.exchange.hold("cancel")
        canceling = asyncio.create_task(desk.kernel.cancel_order(intent_id))
        await settled()
        desk.exchange.fill("#0", 2)
        desk.exchange.deliver("w1")
        with pytest.raises(ExchangeError, match="too late"):
            await canceling
        assert (await desk.kernel.get_order_state(intent_id)).status.cum_qty == 2


@virtual_time
async def test_cancel_order_recorded_returns_on_the_commit() -> None:
    """`wait="recorded"` does not wait for the venue."""
    async with a_desk() as desk:
        intent_id = await desk.kernel.place_order(buy())
        desk.exchange.hold("cancel")
        await desk.kernel.cancel_order(intent_id, wait="recorded")
        assert desk.exchange.order("#0").open


@virtual_time
async def test_cancel_all_orders_counts_what_it_changed() -> None:
    """Only live intents count, those of a symbol when one is given, and each once."""
    async with a_desk() as desk:
        for name in ("a", "b", "c"):
            await desk.kernel.place_order(buy(2), intent_id=name)
        desk.exchange.fill("#0", 2)
        await settled()
        assert await desk.kernel.cancel_all_orders("T") == 0
        assert await desk.kernel.cancel_all_orders("S") == 2
        assert await desk.kernel.cancel_all_orders() == 0
        await settled()
        statuses = [order.status for order in desk.exchange.truth]
        assert statuses == [OrdStatus.FILLED, OrdStatus.CANCELED, OrdStatus.CANCELED]


# ------------------------------------------------------------------------------------------------------- queries
@virtual_time
async def test_queries_answer_from_the_log() -> None:
    """Intents, orders, positions, account and fills in order of creation, all or of a symbol."""
    async with a_desk() as desk:
        kernel = desk.kernel
        for name in ("a", "b"):
            await kernel.place_order(buy(3), intent_id=name)
        desk.exchange.fill("#1", 2)
        await settled()
        assert [item.intent_id for item in await kernel.get_all_intents()] == ["a", "b"]
        assert [item.intent_id for item in await kernel.get_all_orders("S")] == ["a", "b"]
        assert await kernel.get_all_intents("T") == []
        assert await kernel.get_all_orders("T") == []
        (position,) = await kernel.get_positions()
        assert (position.symbol_id, position.quantity, position.cost) == ("S", 2, 200)
        assert await kernel.get_positions("T") == []
        assert set((await kernel.get_account_state()).balances) == {"X", "Y"}
        (fill,) = await kernel.get_fills("b")
        assert (fill.fill_key, fill.last_qty, fill.last_px) == ("t0", 2, 100)
        assert await kernel.get_fills("a") == await kernel.get_fills(after=fill.position) == []
        assert await kernel.get_fills(symbol_id="S") == [fill]
        assert await kernel.list_symbols() == ["S"]
        assert (await kernel.get_symbol_metadata("S")).base_asset == "X"
        assert (await kernel.get_asset_metadata("X")).decimals == 0


@virtual_time
async def test_queries_of_unknown_ids_raise() -> None:
    """Each error names what it did not find."""
    async with a_desk() as desk:
        kernel = desk.kernel
        for query in (
            kernel.get_order_intent,
            kernel.get_order_state,
            kernel.get_symbol_metadata,
            kernel.get_asset_metadata,
            kernel.get_fills,
            kernel.force_reconciliation,
        ):
            with pytest.raises(NotFoundError, match="nobody"):
                await query("nobody")


@virtual_time
async def test_there_is_no_order_state_before_anything_was_sent() -> None:
    """An intent that could not be sent yet has no order state."""
    async with a_desk() as desk:
        desk.exchange.halt()
        desk.exchange.disconnect()
        await settled()
        intent_id = await desk.kernel.place_order(buy(), wait="recorded")
        with pytest.raises(NotFoundError):
            await desk.kernel.get_order_state(intent_id)
