"""Orders that are nobody's intent, by each policy: left alone, adopted, canceled; positions and balances come out right.

The whole kernel on the memory log and virtual time. Somebody else trades on the same account, through a client of its own
at the same exchange.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from kernel import EventSourcedKernel, events
from kernel.clock import LoopClock, SeededIds
from kernel.lifecycle import client_order_id
from kernel.log import EventLog, open_log
from kernel.log.engine.records import event_of
from kernel.models import (
    AttemptKind,
    Desired,
    Evidence,
    ExecType,
    ExternalOrderPolicy,
    Finding,
    FindingKind,
    OrdStatus,
    ReconciliationStatus,
)
from kernel.order_spec import OrderType, StandardOrder, TimeInForce
from kernel.runtime.external_orders import adopted_id, is_kernel_client_id
from kernel.settings import KernelSettings
from kernel.streams.event_writer import ReportSource
from kernel.venues import PaperVenue
from kernel.venues.base import AmendDialect, ExecutionReport, SubmitRequest, VenueCapabilities
from kernel.venues.paper.exchange import PaperExchange
from kernel.venues.paper.matching.config import PaperConfig, PaperExchangeOptions, full_symbols
from replay import open_kernel
from tests.desk import CAPABILITIES, Desk, a_desk, settled
from tests.orders import buy
from tests.paper_world import LAST, LOT, SELL, SYMBOL, limit, market, submit

virtual_time = pytest.mark.looptime
IGNORE, ADOPT, CANCEL = ExternalOrderPolicy
OPEN = ("NEW", "PARTIALLY_FILLED")
REST = limit(quantity=10 * LOT)
"""A buy order behind the market."""


@dataclass
class Account:
    """An account at the paper exchange, and who else trades on it."""

    exchange: PaperExchange
    human: PaperVenue
    log: EventLog
    clock: LoopClock
    kernels: int = 0

    @asynccontextmanager
    async def kernel(self, policy: ExternalOrderPolicy, **settings: Any) -> AsyncIterator[EventSourcedKernel]:
        """A kernel that leads, with this policy."""
        self.kernels += 1
        made = KernelSettings(external_orders=policy, relist_interval_s=20, **settings)
        venue = PaperVenue(exchange=self.exchange)
        ids = SeededIds(self.kernels + 1)
        async with open_kernel(self.log, venue=venue, clock=self.clock, ids=ids, settings=made) as kernel:
            await kernel.wait_ready(10)
            yield kernel

    async def place(self, name: str, order: StandardOrder = REST) -> str:
        """The human places an order; the exchange's id of it."""
        report = await self.human.submit(submit(name, order, self.clock))
        await asyncio.sleep(1)
        assert report.exchange_order_id is not None
        return report.exchange_order_id

    async def trade(self, lots: int) -> None:
        """The market trades so much through the human's order's price."""
        await self.human.admin("trade", symbol_id=SYMBOL, price=LAST - 100_001, quantity=lots * LOT)
        await asyncio.sleep(1)

    async def status(self, exchange_order_id: str) -> str:
        """What the exchange says of an order."""
        orders = (await self.human.truth())["orders"]
        return next(str(item["status"]) for item in orders if item["exchange_order_id"] == exchange_order_id)

    async def events(self, *topics: str) -> list[Any]:
        """The log's events of these topics."""
        return [event_of(row) async for page in self.log.read() for row in page if row.topic in topics]


@asynccontextmanager
async def an_account(**config: Any) -> AsyncIterator[Account]:
    """An account, nobody on it yet."""
    clock = LoopClock()
    made = PaperConfig(**({"ladder_levels": 0, "first_id": 1} | config))
    exchange = PaperExchange(PaperExchangeOptions(tape=(), speed="step", symbol=SYMBOL, config=made), clock=clock)
    await exchange.start()
    human = PaperVenue(exchange=exchange)
    await human.connect()
    async with open_log("memory://", exchange_id="paper", clock=clock, ids=SeededIds(1)) as log:
        yield Account(exchange, human, log, clock)
    await human.close()
    await exchange.stop()


def standing(kernel: EventSourcedKernel) -> list[Finding]:
    return [item for item in kernel.state.findings() if item.resolved_at_ns is None]


async def position(kernel: EventSourcedKernel) -> int:
    """What the log's position in the symbol is, in lots."""
    return sum(item.quantity for item in await kernel.get_positions(SYMBOL)) // LOT


# ----------------------------------------------------------------------------------------------------------------- IGNORE
@virtual_time
async def test_ignored_orders_are_recorded_and_never_touched() -> None:
    """It is known, with its terms and its end; nothing is ever sent for it, and a list that repeats it is no event."""
    async with an_account() as account, account.kernel(IGNORE) as kernel:
        order_id = await account.place("web-1")
        (known,) = kernel.state.external_orders()
        assert (known.exchange_order_id, known.client_order_id, known.live) == (order_id, "web-1", True)
        assert (known.side, known.quantity, known.price) == (REST.side, REST.quantity, REST.price)
        await asyncio.sleep(200)
        assert len(await account.events("ExternalOrderObserved")) == 1
        await account.human.admin("cancel_order", exchange_order_id=order_id)
        await asyncio.sleep(1)
        assert [item.live for item in kernel.state.external_orders()] == [False]
        assert await account.events("AttemptStarted", "IntentCreated") == []
        assert standing(kernel) == []


@virtual_time
async def test_an_ignored_trade_is_told_and_explains_the_balances() -> None:
    """The finding names the trade and what to do; balances are explained by it, and the position is ours alone."""
    async with an_account() as account, account.kernel(IGNORE) as kernel:
        order_id = await account.place("web-1")
        await account.trade(4)
        await asyncio.sleep(100)
        (finding,) = standing(kernel)
        (trade,) = (await account.human.truth())["trades"]
        assert finding.kind is FindingKind.UNEXPECTED_TRADE
        assert all(text in finding.text for text in (trade["fill_key"], order_id, "web-1", "--external-orders"))
        assert await position(kernel) == 0
        assert kernel.state.balance_drift() == {}

        await account.trade(1)
        assert len(standing(kernel)) == 1
        await kernel.resolve_finding(finding.finding_id, evidence="that was me")
        assert standing(kernel) == []
        await account.trade(1)
        assert [item.kind for item in standing(kernel)] == [FindingKind.UNEXPECTED_TRADE]
        await asyncio.sleep(100)
        assert kernel.state.balance_drift() == {}


@virtual_time
async def test_an_ignored_trade_that_is_corrected_still_explains_the_balances() -> None:
    """A correction and a bust of it move the balances too."""
    async with an_account() as account, account.kernel(IGNORE) as kernel:
        await account.place("web-1")
        await account.trade(4)
        (trade,) = (await account.human.truth())["trades"]
        await account.human.admin("correct", trade_id=trade["trade_id"], quantity=3 * LOT)
        await asyncio.sleep(100)
        assert kernel.state.balance_drift() == {}
        await account.human.admin("bust", trade_id=trade["trade_id"])
        await asyncio.sleep(100)
        assert kernel.state.balance_drift() == {}


@virtual_time
async def test_what_its_owner_ended_can_be_wanted_anew() -> None:
    """An adopted order that somebody canceled by hand is no more placed by itself; changed, it is wanted again."""
    async with an_account() as account, account.kernel(ADOPT) as kernel:
        order_id = await account.place("web-1")
        await asyncio.sleep(1)
        await account.human.admin("cancel_order", exchange_order_id=order_id)
        await asyncio.sleep(100)
        intent_id = adopted_id(order_id)
        assert [order["status"] for order in (await account.human.truth())["orders"]] == ["CANCELED"]
        wanted = kernel.state.intent(intent_id).order.model_copy(update={"quantity": 12 * LOT})
        await kernel.modify_order(intent_id, wanted)
        orders = (await account.human.truth())["orders"]
        assert [(order["status"], order["leaves_qty"]) for order in orders[1:]] == [("NEW", 12 * LOT)]


@virtual_time
async def test_what_was_there_before_the_kernel_is_recorded_too() -> None:
    """A list's first sight of an order is an event, and so is that a list no longer shows it."""
    async with an_account() as account:
        order_id = await account.place("web-1")
        async with account.kernel(IGNORE) as kernel:
            assert [item.live for item in kernel.state.external_orders()] == [True]
        await account.human.admin("cancel_order", exchange_order_id=order_id)
        async with account.kernel(IGNORE) as kernel:
            await asyncio.sleep(50)
            assert [item.live for item in kernel.state.external_orders()] == [False]
            assert len(await account.events("ExternalOrderObserved")) == 2


# ------------------------------------------------------------------------------------------------------------------ ADOPT
@virtual_time
async def test_an_adopted_order_is_like_any_other() -> None:
    """One intent, made with the first sight of its order; nothing is sent for it; its fills count, and nothing drifts."""
    async with an_account() as account, account.kernel(ADOPT) as kernel:
        order_id = await account.place("web-1")
        intent = await kernel.get_order_intent(f"ext-{order_id}")
        assert (intent.order, intent.owner, intent.desired) == (REST, "adopted", Desired.WORKING)
        assert intent.metadata["adopted"]["client_order_id"] == "web-1"
        await account.trade(4)
        await asyncio.sleep(100)
        state = await kernel.get_order_state(intent.intent_id)
        assert (state.exchange_order_id, state.client_order_id) == (order_id, "web-1")
        assert (state.status.ord_status, state.status.cum_qty) == (OrdStatus.PARTIALLY_FILLED, 4 * LOT)
        assert state.reconciliation_status is ReconciliationStatus.SYNCED
        assert len(await kernel.get_fills(intent.intent_id)) == 1
        assert await position(kernel) == 4
        assert kernel.state.balance_drift() == {}
        assert standing(kernel) == []
        assert len(await account.events("IntentCreated")) == 1
        assert await account.events("AttemptStarted", "ExternalOrderObserved") == []


@virtual_time
@pytest.mark.parametrize("dialect", [AmendDialect.NONE, AmendDialect.IN_PLACE, AmendDialect.CANCEL_REPLACE])
async def test_an_adopted_order_can_be_changed_and_canceled(dialect: AmendDialect) -> None:
    """By the venue's own way, durable before the wire; then it has the new terms, and is gone when nobody wants it."""
    async with an_account(amend=dialect) as account, account.kernel(ADOPT) as kernel:
        order_id = await account.place("web-1")
        await account.trade(4)
        other = limit(quantity=20 * LOT, price=LAST - 90_000)
        await kernel.modify_order(f"ext-{order_id}", other)
        open_orders = [item for item in (await account.human.truth())["orders"] if item["status"] in OPEN]
        ((price, leaves),) = [(item["price"], item["leaves_qty"]) for item in open_orders]
        assert (price, leaves) == (LAST - 90_000, 16 * LOT)
        await kernel.cancel_order(f"ext-{order_id}")
        assert not [item for item in (await account.human.truth())["orders"] if item["status"] in OPEN]
        await asyncio.sleep(100)
        assert await position(kernel) == 4
        assert standing(kernel) == []


@virtual_time
async def test_a_second_sight_makes_no_second_intent() -> None:
    """Not by lists, nor by the next leader, nor after its end."""
    async with an_account() as account:
        order_id = await account.place("web-1")
        async with account.kernel(ADOPT) as kernel:
            await asyncio.sleep(100)
            assert [item.intent_id for item in kernel.state.intents()] == [f"ext-{order_id}"]
        async with account.kernel(ADOPT) as kernel:
            await asyncio.sleep(100)
            await account.human.admin("cancel_order", exchange_order_id=order_id)
            await asyncio.sleep(100)
            (order,) = await kernel.get_all_orders()
            assert order.status.ord_status is OrdStatus.CANCELED
            assert len(await account.events("IntentCreated")) == 1
            assert await account.events("AttemptStarted") == []


@virtual_time
async def test_what_traded_before_the_log_began_is_in_no_balance() -> None:
    """A part-filled order from before the kernel: its trades are fetched, the position has them, and nothing drifts."""
    async with an_account() as account:
        order_id = await account.place("web-1")
        await account.trade(4)
        await asyncio.sleep(60)
        async with account.kernel(ADOPT) as kernel:
            await asyncio.sleep(100)
            state = await kernel.get_order_state(f"ext-{order_id}")
            assert (state.status.cum_qty, state.venue_orders[0].inferred_qty) == (4 * LOT, 0)
            assert await position(kernel) == 4
            await account.trade(2)
            await asyncio.sleep(100)
            assert await position(kernel) == 6
            assert kernel.state.balance_drift() == {}
            assert standing(kernel) == []


@virtual_time
async def test_a_trade_known_as_a_strangers_is_booked_once_when_it_is_adopted() -> None:
    """Ignored first, adopted by the next leader: the trade becomes the intent's, and the finding about it is over."""
    async with an_account() as account:
        async with account.kernel(IGNORE) as kernel:
            order_id = await account.place("web-1")
            await account.trade(4)
            assert [item.kind for item in standing(kernel)] == [FindingKind.UNEXPECTED_TRADE]
            await asyncio.sleep(60)
        async with account.kernel(ADOPT) as kernel:
            await asyncio.sleep(100)
            assert await position(kernel) == 4
            assert kernel.state.balance_drift() == {}
            assert standing(kernel) == []
            assert [*kernel.state.external_orders()] == []
            assert (await kernel.get_order_state(f"ext-{order_id}")).status.cum_qty == 4 * LOT


@virtual_time
@pytest.mark.parametrize("second", ["the same", "its end"])
async def test_what_is_told_while_an_order_is_adopted_is_the_intents(
    monkeypatch: pytest.MonkeyPatch, second: str
) -> None:
    """The stream and a list, or two kernels, tell of it at once: a trade is booked once, an end is not missed."""
    async with an_account() as account, account.kernel(ADOPT) as kernel:
        reports: list[ExecutionReport] = []
        monkeypatch.setattr(account.exchange, "_deliver", reports.append)
        order_id = await account.place("web-1")
        await account.trade(4)
        await account.human.admin("cancel_order", exchange_order_id=order_id)
        trade, end = reports[-2:]
        leader = kernel._runtime.leader
        assert leader is not None
        await asyncio.gather(
            leader.session.ingest([trade], ReportSource("venue:paper", Evidence.STREAM)),
            leader.session.ingest(
                [trade if second == "the same" else end], ReportSource("venue:paper", Evidence.QUERY)
            ),
        )
        assert await account.events("ExternalOrderObserved") == []
        status = (await kernel.get_order_state(f"ext-{order_id}")).status
        assert (status.cum_qty, status.ord_status is OrdStatus.CANCELED) == (4 * LOT, second == "its end")
        await asyncio.sleep(100)
        assert kernel.state.balance_drift() == {}


@virtual_time
async def test_what_came_and_went_unseen_is_adopted_by_its_trade() -> None:
    """An order that traded and ended while nobody led: its fills count, and it has ended."""
    async with an_account() as account:
        async with account.kernel(ADOPT):
            pass
        await account.human.admin(
            "other_order", order=limit(SELL, quantity=3 * LOT, price=LAST).model_dump(mode="json")
        )
        order_id = await account.place("web-1", market(quantity=3 * LOT))
        await asyncio.sleep(30)
        async with account.kernel(ADOPT) as kernel:
            await asyncio.sleep(100)
            state = await kernel.get_order_state(f"ext-{order_id}")
            assert (state.status.ord_status, state.status.cum_qty) == (OrdStatus.FILLED, 3 * LOT)
            assert await position(kernel) == 3
            assert kernel.state.balance_drift() == {}


@virtual_time
async def test_all_terms_are_adopted() -> None:
    """A stop that has not triggered is no limit order: what it triggers at, and how long it works, is the intent's too."""
    order = limit(
        order_type=OrderType.STOP_LIMIT,
        quantity=10 * LOT,
        price=LAST + 200_000,
        stop_price=LAST + 100_000,
        time_in_force=TimeInForce.DAY,
    )
    async with an_account(symbols=full_symbols()) as account, account.kernel(ADOPT) as kernel:
        order_id = await account.place("web-1", order)
        assert (await kernel.get_order_intent(f"ext-{order_id}")).order == order
        await asyncio.sleep(50)
        assert await account.events("AttemptStarted") == []


@virtual_time
async def test_another_kernels_orders_are_left_alone_unless_told() -> None:
    """Two kernels with a log each on one account would take each other's orders over, and undo each other's work."""
    theirs = client_order_id("0" * 16, "bid", 1)
    async with an_account() as account:
        order_id = await account.place(theirs)
        for policy in (ADOPT, CANCEL):
            async with account.kernel(policy) as kernel:
                await asyncio.sleep(100)
                assert [item.exchange_order_id for item in kernel.state.external_orders()] == [order_id]
                assert await account.status(order_id) == "NEW"
        async with account.kernel(CANCEL, external_orders_of_kernels=True):
            await asyncio.sleep(100)
            assert await account.status(order_id) == "CANCELED"


# ----------------------------------------------------------------------------------------------------------------- CANCEL
@virtual_time
async def test_a_strangers_order_is_canceled_through_the_one_door() -> None:
    """Those that are there and those that come: the attempt is in the log first, and what had filled counts."""
    async with an_account() as account:
        before = await account.place("web-1")
        await account.trade(4)
        async with account.kernel(CANCEL) as kernel:
            after = await account.place("web-2")
            await asyncio.sleep(100)
            assert [await account.status(name) for name in (before, after)] == ["CANCELED", "CANCELED"]
            started = await account.events("AttemptStarted")
            assert {item.target_exchange_order_id for item in started} == {before, after}
            assert {item.kind for item in started} == {AttemptKind.CANCEL}
            states = await kernel.get_all_orders()
            assert {item.status.ord_status for item in states} == {OrdStatus.CANCELED}
            assert await position(kernel) == 4
            assert kernel.state.balance_drift() == {}
            assert standing(kernel) == []


@virtual_time
async def test_a_pause_holds_such_a_cancel_back_and_a_halt_does_not() -> None:
    """It is a request like every other."""
    async with an_account() as account, account.kernel(CANCEL) as kernel:
        await kernel.pause()
        order_id = await account.place("web-1")
        await asyncio.sleep(100)
        assert await account.status(order_id) == "NEW"
        await kernel.halt()
        await asyncio.sleep(10)
        assert await account.status(order_id) == "CANCELED"


# -------------------------------------------------------------------------------------------------------------- the rules
@virtual_time
async def test_the_policy_is_recorded() -> None:
    """A replay needs no settings."""
    async with an_account() as account, account.kernel(CANCEL):
        (started,) = await account.events("KernelStarted")
        assert started.settings["external_orders"] == "CANCEL"


def test_ids_of_adopted_orders_are_the_venues_where_they_fit() -> None:
    """One venue id, one intent id, whatever characters the venue uses; different ones differ."""
    assert adopted_id("1042") == "ext-1042"
    odd = ["a/b", "a:b", "x" * 65, "x" * 66, "ü"]
    made = {adopted_id(name) for name in odd}
    assert len(made) == len(odd)
    for intent_id in made:
        assert events.intent_stream(intent_id) == f"intent:{intent_id}"
        assert len(intent_id) == len("ext-") + 26


@pytest.mark.parametrize("length", [12, 20, 26, 36])
def test_a_kernels_ids_are_told_from_others(length: int) -> None:
    """By their form, at any length that a venue allows; a person's and other software's are not of it."""
    assert is_kernel_client_id(client_order_id("0" * 16, "bid", 1, max_length=length))
    assert not any(map(is_kernel_client_id, ["web-1", "", None, "x-TKT5PX2F" + "a" * 10, "0190c3a1e2b47c9a8d3e"]))


# ------------------------------------------------------------------------------------------------- what is told without ids
def by_hand(desk: Desk, name: str = "") -> str:
    """Somebody's order at the scripted exchange; its id there."""
    request = SubmitRequest(client_order_id=name, order=buy(5), stamp_ns=desk.exchange.clock.now_ns())
    report = desk.exchange.do_submit(request, None)
    return str(report.exchange_order_id)


@virtual_time
@pytest.mark.parametrize("capabilities", [CAPABILITIES, CAPABILITIES.model_copy(update={"lookup": False})])
async def test_an_order_without_a_client_id_is_adopted_too(capabilities: VenueCapabilities) -> None:
    """Placed on the venue's own page: it is found by the lists alone; it fills, and its end is known."""
    async with a_desk(external_orders=ADOPT, capabilities=capabilities) as desk:
        order_id = by_hand(desk)
        desk.exchange.fill(order_id, 2)
        await settled()
        intent_id = adopted_id(order_id)
        assert (await desk.kernel.get_order_state(intent_id)).status.cum_qty == 2
        desk.exchange.hold("reports")
        desk.exchange.fill(order_id, 1)
        desk.exchange.cancel(order_id)
        await asyncio.sleep(400)
        state = await desk.kernel.get_order_state(intent_id)
        assert (state.status.ord_status, state.status.cum_qty) == (OrdStatus.CANCELED, 3)
        assert standing(desk.kernel) == []

        desk.exchange.flow()
        other = by_hand(desk)
        await settled()
        await desk.kernel.cancel_order(adopted_id(other))
        assert desk.exchange.order(other).status is OrdStatus.CANCELED


@virtual_time
async def test_an_order_of_ours_that_is_being_looked_for_is_not_adopted() -> None:
    """Its trade is told without our id before its answer came: it may be ours, and is; it counts once."""
    async with a_desk(external_orders=ADOPT) as desk:
        desk.exchange.hold("submit-answer", "reports", "order-answer")
        intent_id = await desk.kernel.place_order(buy(5), wait="recorded")
        await settled()
        desk.exchange.fill("#0", 2)
        (trade,) = [report for report in desk.exchange.reports.values() if report.exec_type is ExecType.TRADE]
        desk.exchange.flow()
        desk.exchange.publish(trade.model_copy(update={"client_order_id": None}))
        await settled()
        assert [item.intent_id for item in desk.kernel.state.intents()] == [intent_id]
        await asyncio.sleep(130)
        assert [item.intent_id for item in desk.kernel.state.intents()] == [intent_id]
        assert (await desk.kernel.get_order_state(intent_id)).status.cum_qty == 2
        assert [item.quantity for item in await desk.kernel.get_positions()] == [2]
        assert desk.kernel.state.balance_drift() == {}
        assert standing(desk.kernel) == []


@virtual_time
async def test_a_report_that_cannot_be_read_is_recorded_and_breaks_nothing() -> None:
    """A trade without a key adopts nothing; the session goes on."""
    async with a_desk(external_orders=ADOPT) as desk:
        report = ExecutionReport(
            exec_type=ExecType.TRADE, symbol_id="S", side=buy().side, exchange_order_id="#9", client_order_id="web-1",
            order_qty=5, price=100, last_qty=1, last_px=100,
        )  # fmt: skip
        desk.exchange.publish(report)
        await settled()
        assert [item.exchange_order_id for item in desk.kernel.state.external_orders()] == ["#9"]
        assert [*desk.kernel.state.intents()] == []
        assert (await desk.kernel.health_check())["ready"]
