"""External orders under each policy: ignored, adopted, canceled; positions and balances stay correct.

The kernel runs on the memory log and virtual time. A human trades on the same account at the same exchange.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from msgspec import structs

from kernel import EventSourcedKernel, events
from kernel.clock import NS_PER_S, LoopClock, SeededIds
from kernel.lifecycle.record import client_order_id
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
from kernel.values import as_json
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
    """An account at the paper exchange and its other client."""

    exchange: PaperExchange
    human: PaperVenue
    log: EventLog
    clock: LoopClock
    kernels: int = 0

    @asynccontextmanager
    async def kernel(
        self, policy: ExternalOrderPolicy, *, clock: LoopClock | None = None, **settings: Any
    ) -> AsyncIterator[EventSourcedKernel]:
        """Yield a leading kernel with this policy."""
        self.kernels += 1
        made = KernelSettings(external_orders=policy, relist_interval_s=20, **settings)
        venue = PaperVenue(exchange=self.exchange)
        ids = SeededIds(self.kernels + 1)
        async with open_kernel(self.log, venue=venue, clock=clock or self.clock, ids=ids, settings=made) as kernel:
            await kernel.wait_ready(10)
            yield kernel

    async def place(self, name: str, order: StandardOrder = REST) -> str:
        """Place an order as the human, and return its venue id."""
        report = await self.human.submit(submit(name, order, self.clock))
        await asyncio.sleep(1)
        assert report.exchange_order_id is not None
        return report.exchange_order_id

    async def trade(self, lots: int) -> None:
        """Trade a quantity at the price of the human's order."""
        await self.human.admin("trade", symbol_id=SYMBOL, price=LAST - 100_001, quantity=lots * LOT)
        await asyncio.sleep(1)

    async def status(self, exchange_order_id: str) -> str:
        """Return an order's status at the exchange."""
        orders = (await self.human.truth())["orders"]
        return next(str(item["status"]) for item in orders if item["exchange_order_id"] == exchange_order_id)

    async def events(self, *topics: str) -> list[Any]:
        """Return the log's events of these topics."""
        return [event_of(row) async for page in self.log.read() for row in page if row.topic in topics]


@asynccontextmanager
async def an_account(**config: Any) -> AsyncIterator[Account]:
    """Yield an account without orders."""
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
    """Return the log's position in the symbol, in lots."""
    return sum(item.quantity for item in await kernel.get_positions(SYMBOL)) // LOT


# ----------------------------------------------------------------------------------------------------------------- IGNORE
@virtual_time
async def test_ignored_orders_are_recorded_and_never_touched() -> None:
    """An ignored order is recorded with its terms and end; nothing is sent for it, and repeated lists add no event."""
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
async def test_an_ignored_trade_raises_a_finding_and_explains_the_balances() -> None:
    """The finding names the trade and the remedy; the trade explains the balances and does not change the position."""
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
    """A correction and a bust of an ignored trade change the balances too."""
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
async def test_an_adopted_order_canceled_by_hand_can_be_modified() -> None:
    """An adopted order that was canceled by hand is not placed again until it is modified."""
    async with an_account() as account, account.kernel(ADOPT) as kernel:
        order_id = await account.place("web-1")
        await asyncio.sleep(1)
        await account.human.admin("cancel_order", exchange_order_id=order_id)
        await asyncio.sleep(100)
        intent_id = adopted_id(order_id)
        assert [order["status"] for order in (await account.human.truth())["orders"]] == ["CANCELED"]
        wanted = structs.replace(kernel.state.intent(intent_id).order, quantity=12 * LOT)
        await kernel.modify_order(intent_id, wanted)
        orders = (await account.human.truth())["orders"]
        assert [(order["status"], order["leaves_qty"]) for order in orders[1:]] == [("NEW", 12 * LOT)]


@virtual_time
async def test_orders_older_than_the_kernel_are_recorded() -> None:
    """The first list with an order is an event, and so is the first list without it."""
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
    """An adopted order gets one intent with its first report; nothing is sent, its fills count, and nothing drifts."""
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
    """An adopted order is modified and canceled by the venue's dialect, with attempts recorded first."""
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
    """Neither lists, nor the next leader, nor the order's end create a second intent."""
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
    """Earlier trades of an adopted order are fetched and in the position, and nothing drifts."""
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
async def test_an_ignored_trade_is_booked_once_when_its_order_is_adopted() -> None:
    """When the next leader adopts an ignored order, its trade becomes the intent's and the finding is resolved."""
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
async def test_an_ignored_trade_that_a_host_with_a_wrong_clock_recorded_is_resolved_too() -> None:
    """Its finding may seem newer than the adoption: where order ids are unique, the order with its id is the one."""
    async with an_account() as account:
        ahead = LoopClock(origin_ns=account.clock.origin_ns + 1000 * NS_PER_S)
        async with account.kernel(IGNORE, clock=ahead) as kernel:
            await account.place("web-1")
            await account.trade(4)
            assert FindingKind.UNEXPECTED_TRADE in {item.kind for item in standing(kernel)}
        async with account.kernel(ADOPT) as kernel:
            await asyncio.sleep(100)
            assert await position(kernel) == 4
            assert standing(kernel) == []


@virtual_time
@pytest.mark.parametrize("second", ["the same", "its end"])
async def test_reports_during_an_adoption_belong_to_the_intent(monkeypatch: pytest.MonkeyPatch, second: str) -> None:
    """When the stream and a list, or two kernels, report it concurrently, a trade is booked once and no end is missed."""
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
async def test_an_ended_order_is_adopted_by_its_trade() -> None:
    """An order that traded and ended without a leader is adopted: its fills count, and it has ended."""
    async with an_account() as account:
        async with account.kernel(ADOPT):
            pass
        await account.human.admin("other_order", order=as_json(limit(SELL, quantity=3 * LOT, price=LAST)))
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
    """An adopted stop order has its stop price and time in force."""
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
async def test_another_kernels_orders_are_ignored_by_default() -> None:
    """Two kernels with a log each on one account would take over each other's orders."""
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
async def test_an_external_order_is_canceled_by_an_attempt() -> None:
    """Existing and new orders are canceled with recorded attempts, and their fills count."""
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
    """A pause delays the cancel of an external order; a halt does not."""
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
    """`KernelStarted` has the policy, so that a replay needs no settings."""
    async with an_account() as account, account.kernel(CANCEL):
        (started,) = await account.events("KernelStarted")
        assert started.settings["external_orders"] == "CANCEL"


def test_ids_of_adopted_orders_are_the_venues_where_they_fit() -> None:
    """Each venue id gives one intent id, whatever its characters; different ids differ."""
    assert adopted_id("1042") == "ext-1042"
    odd = ["a/b", "a:b", "x" * 65, "x" * 66, "ü"]
    made = {adopted_id(name) for name in odd}
    assert len(made) == len(odd)
    for intent_id in made:
        assert events.intent_stream(intent_id) == f"intent:{intent_id}"
        assert len(intent_id) == len("ext-") + 26


@pytest.mark.parametrize("length", [12, 20, 26, 36])
def test_a_kernels_client_ids_are_recognized(length: int) -> None:
    """Client ids of kernels are recognized by their form at any length; other ids are not."""
    assert is_kernel_client_id(client_order_id("0" * 16, "bid", 1, max_length=length))
    assert not any(map(is_kernel_client_id, ["web-1", "", None, "x-TKT5PX2F" + "a" * 10, "0190c3a1e2b47c9a8d3e"]))


# ------------------------------------------------------------------------------------------------- reports without ids
def by_hand(desk: Desk, name: str = "") -> str:
    """Place an order at the scripted exchange by hand, and return its venue id."""
    request = SubmitRequest(client_order_id=name, order=buy(5), stamp_ns=desk.exchange.clock.now_ns())
    report = desk.exchange.do_submit(request, None)
    return str(report.exchange_order_id)


@virtual_time
@pytest.mark.parametrize("capabilities", [CAPABILITIES, structs.replace(CAPABILITIES, lookup=False)])
async def test_an_order_without_a_client_id_is_adopted_too(capabilities: VenueCapabilities) -> None:
    """An order placed on the venue's page is found by lists; it fills, and its end is recorded."""
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
        ghost = set() if capabilities.lookup else {FindingKind.GHOST}
        assert {item.kind for item in standing(desk.kernel)} == {FindingKind.STREAM_SILENT, *ghost}

        desk.exchange.flow()
        other = by_hand(desk)
        await settled()
        await desk.kernel.cancel_order(adopted_id(other))
        assert desk.exchange.order(other).status is OrdStatus.CANCELED


@virtual_time
async def test_an_order_of_an_unresolved_attempt_is_not_adopted() -> None:
    """A trade without client id that arrives before the order's answer may be the kernel's own, and counts once."""
    async with a_desk(external_orders=ADOPT) as desk:
        desk.exchange.hold("submit-answer", "reports", "order-answer")
        intent_id = await desk.kernel.place_order(buy(5), wait="recorded")
        await settled()
        desk.exchange.fill("#0", 2)
        (trade,) = [report for report in desk.exchange.reports.values() if report.exec_type is ExecType.TRADE]
        desk.exchange.flow()
        desk.exchange.publish(structs.replace(trade, client_order_id=None))
        await settled()
        assert [item.intent_id for item in desk.kernel.state.intents()] == [intent_id]
        await asyncio.sleep(130)
        assert [item.intent_id for item in desk.kernel.state.intents()] == [intent_id]
        assert (await desk.kernel.get_order_state(intent_id)).status.cum_qty == 2
        assert [item.quantity for item in await desk.kernel.get_positions()] == [2]
        assert desk.kernel.state.balance_drift() == {}
        assert standing(desk.kernel) == []


@virtual_time
async def test_a_trade_without_client_id_is_external_only_if_no_answer_came_meanwhile() -> None:
    """A list's trade that is recorded just after the stream's reports of its order counts once."""
    async with a_desk() as desk:
        desk.exchange.hold("submit-answer", "reports", "order-answer")
        await desk.kernel.place_order(buy(5), wait="recorded")
        await settled()
        desk.exchange.fill("#0", 5)
        told = [*desk.exchange.reports.values()]
        unnamed = structs.replace(told[-1], client_order_id=None)
        leader = desk.kernel._runtime.leader
        assert leader is not None
        await asyncio.gather(
            leader.session.ingest(told, ReportSource("venue:paper", Evidence.STREAM)),
            leader.session.ingest([unnamed], ReportSource("venue:paper", Evidence.QUERY)),
        )
        desk.exchange.flow()
        assert [*desk.kernel.state.external_orders()] == []
        await asyncio.sleep(130)
        assert desk.kernel.state.balance_drift() == {}
        assert standing(desk.kernel) == []


@virtual_time
async def test_an_unusable_report_breaks_nothing() -> None:
    """A trade without a key adopts nothing, and the session continues."""
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
