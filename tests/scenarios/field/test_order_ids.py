"""Venue order ids that are unique per symbol only, given again, or claimed by somebody else (H25)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec import structs

from kernel.errors import OutcomeUnknown
from kernel.models import AttemptOutcome, ExecType, ExternalOrderPolicy, OrdStatus, ReconciliationStatus
from kernel.order_spec import Side
from kernel.settings import KernelSettings
from kernel.venues.base import AmendDialect, CancelRequest, ExecutionReport, ModifyRequest, SubmitRequest
from projections.folds.external_orders import ENDED_MAX
from tests.scenarios.field.lab import COIN, FieldOrder, FieldVenue, Lab, field_lab, order

virtual_time = pytest.mark.looptime
RELIST_S = 65
SYNCED = ReconciliationStatus.SYNCED
SELLS, ETH = {"side": "SELL"}, {"symbol_id": "ETHUSDT", "price": 300_000}


def give_ids(venue: FieldVenue, *ids: str) -> None:
    """The venue gives its next orders these ids."""
    left = list(ids)

    def on_submit(request: SubmitRequest) -> ExecutionReport:
        return venue.report(venue.new_order(request, order_id=left.pop(0)), ExecType.NEW)

    venue.on_submit = on_submit


def fill_without_client_id(venue: FieldVenue, item: FieldOrder, quantity: int, **fields: Any) -> ExecutionReport:
    """Trade an order; the report names it by the venue's id only."""
    report = structs.replace(venue.fill(item, quantity, tell=False, **fields), client_order_id=None)
    venue.trades[-1] = report
    venue.tell(report)
    return report


def foreign(venue: FieldVenue, order_id: str, side: str = "BUY", *, client_order_id: str | None = None) -> FieldOrder:
    """Somebody else's order on the account, which replaces one of ours under its id in the venue's memory."""
    terms = order(side)
    item = FieldOrder(order_id, client_order_id, terms, terms.quantity, terms.price)
    venue.orders["BTCUSDT", order_id] = item
    return item


def resolutions(lab: Lab) -> list[str]:
    """How the findings about unexpected trades were resolved; empty for an open one."""
    return [item.resolution for item in lab.kernel.state.findings() if item.kind == "UNEXPECTED_TRADE"]


async def cum_qty(lab: Lab, intent_id: str) -> int:
    return (await lab.kernel.get_order_state(intent_id)).status.cum_qty


@virtual_time
async def test_an_id_of_another_symbol_is_another_order() -> None:
    """A trade without a client order id is booked on the order of its symbol, and both orders are left alone."""
    async with field_lab() as lab:
        give_ids(lab.venue, "77", "77")
        await lab.kernel.place_order(order(), intent_id="btc")
        await lab.kernel.place_order(order("SELL", price=300_000, symbol_id="ETHUSDT"), intent_id="eth")
        await asyncio.sleep(1)
        fill_without_client_id(lab.venue, lab.venue.orders["BTCUSDT", "77"], COIN // 4)
        await asyncio.sleep(RELIST_S)
        assert (await lab.position("BTCUSDT"), await lab.position("ETHUSDT")) == (COIN // 4, 0)
        assert (lab.venue.count("submit"), lab.venue.count("cancel")) == (2, 0)
        assert not lab.findings()


@virtual_time
async def test_an_id_on_the_other_side_is_another_order() -> None:
    """Ids that are unique per symbol and side only keep a buy and a sell apart."""
    async with field_lab() as lab:
        give_ids(lab.venue, "7", "7")
        await lab.kernel.place_order(order(), intent_id="buy")
        await asyncio.sleep(1)
        lab.venue.orders["BTCUSDT", "buy"] = lab.venue.orders["BTCUSDT", "7"]
        await lab.kernel.place_order(order("SELL", price=7_000_000), intent_id="sell")
        await asyncio.sleep(1)
        fill_without_client_id(lab.venue, lab.venue.orders["BTCUSDT", "7"], COIN // 2)
        await asyncio.sleep(RELIST_S)
        assert lab.venue.count("cancel") == 0
        assert (await cum_qty(lab, "buy"), await cum_qty(lab, "sell")) == (0, COIN // 2)
        assert await lab.position() == -COIN // 2


@virtual_time
async def test_another_client_order_id_makes_another_order() -> None:
    """A sell under somebody's client order id with the venue id of a filled buy of ours is an external order."""
    for with_client_id in (True, False):
        async with field_lab() as lab:
            await lab.kernel.place_order(order(), intent_id="a")
            await asyncio.sleep(1)
            lab.venue.fill(lab.venue.orders["BTCUSDT", "1"], COIN)
            await asyncio.sleep(RELIST_S)
            other = foreign(lab.venue, "1", "SELL", client_order_id="web-1" if with_client_id else None)
            lab.venue.fill(other, COIN // 2)
            await asyncio.sleep(RELIST_S)
            assert await lab.position() == COIN
            assert await cum_qty(lab, "a") == COIN
            text = lab.findings()["ID_REUSED"]
            assert "SELL in BTCUSDT" in text
            assert "intent a, BUY in BTCUSDT" in text
            assert "UNEXPECTED_TRADE" in lab.findings()
            assert "BALANCE_DRIFT" not in lab.findings()
            (external,) = lab.kernel.state.external_orders()
            assert (external.side, external.cum_qty) == (Side.SELL, COIN // 2)


@virtual_time
async def test_a_buy_under_another_client_order_id_is_not_ours() -> None:
    """The same symbol and side, the venue id of a working order of ours, and somebody's client order id: external."""
    async with field_lab() as lab:
        await lab.kernel.place_order(order(), intent_id="a")
        await asyncio.sleep(1)
        ours = lab.venue.orders["BTCUSDT", "1"]
        lab.venue.fill(ours, COIN // 2, client_order_id="web-1")
        ours.cum_qty, ours.status = 0, OrdStatus.NEW
        await asyncio.sleep(RELIST_S)
        assert (await cum_qty(lab, "a"), await lab.position()) == (0, 0)
        assert {"ID_REUSED", "UNEXPECTED_TRADE"} <= lab.findings().keys()
        assert lab.venue.count("cancel") == 0


@virtual_time
async def test_two_orders_of_ours_under_one_id() -> None:
    """Each of two orders of one symbol and side that have one venue id at different times gets its own fills."""
    for unique in (True, False):
        for named in (True, False):
            async with field_lab(order_ids_unique=unique) as lab:
                give_ids(lab.venue, "7", "7")
                tell = (
                    lab.venue.fill
                    if named
                    else lambda item, quantity: fill_without_client_id(lab.venue, item, quantity)
                )
                await lab.kernel.place_order(order(), intent_id="a")
                await asyncio.sleep(1)
                tell(lab.venue.orders["BTCUSDT", "7"], COIN)
                await asyncio.sleep(RELIST_S)
                await lab.kernel.place_order(order(), intent_id="b")
                await asyncio.sleep(1)
                tell(lab.venue.orders["BTCUSDT", "7"], COIN // 4)
                await asyncio.sleep(RELIST_S)
                assert (await cum_qty(lab, "a"), await cum_qty(lab, "b")) == (COIN, COIN // 4)
                assert await lab.position() == COIN + COIN // 4
                assert (lab.venue.count("submit"), lab.venue.count("cancel")) == (2, 0)
                assert lab.findings().keys() == ({"ID_REUSED"} if unique else set())


@virtual_time
async def test_trade_ids_that_begin_again() -> None:
    """After a reset that restarts order and trade ids, a fill equal to an old one but for its time is not dropped."""
    async with field_lab(order_ids_unique=False) as lab:
        give_ids(lab.venue, "7", "7")
        for intent_id in ("a", "b"):
            await lab.kernel.place_order(order(quantity=COIN), intent_id=intent_id)
            await asyncio.sleep(1)
            fill_without_client_id(lab.venue, lab.venue.orders["BTCUSDT", "7"], COIN, fill_key="BTCUSDT/7/1")
            await asyncio.sleep(RELIST_S)
        assert (await cum_qty(lab, "a"), await cum_qty(lab, "b"), await lab.position()) == (COIN, COIN, 2 * COIN)
        assert len(await lab.kernel.get_fills()) == 2
        assert not lab.findings()


@virtual_time
async def test_a_late_trade_belongs_to_the_order_of_its_time() -> None:
    """A trade that arrives when the id has another order is booked on the order that lived at its venue time."""
    async with field_lab(order_ids_unique=False) as lab:
        give_ids(lab.venue, "7", "7")
        await lab.kernel.place_order(order(), intent_id="a")
        await asyncio.sleep(10)
        first = lab.venue.orders["BTCUSDT", "7"]
        late = structs.replace(lab.venue.fill(first, COIN // 4, tell=False), client_order_id=None)
        lab.venue.trades.clear()
        lab.venue.end(first, OrdStatus.CANCELED, cum_qty=None)
        await asyncio.sleep(10)
        await lab.kernel.place_order(order(), intent_id="b")
        await asyncio.sleep(10)
        lab.venue.trades.append(late)
        lab.venue.tell(late)
        await asyncio.sleep(RELIST_S)
        assert (await cum_qty(lab, "a"), await cum_qty(lab, "b")) == (COIN // 4, 0)
        assert await lab.position() == COIN // 4


@virtual_time
async def test_an_id_given_to_a_foreign_order_later() -> None:
    """A trade after the end of our order under its id is external; our order is queried once and stays as it was."""
    async with field_lab(order_ids_unique=False) as lab:
        await lab.kernel.place_order(order(), intent_id="a")
        await asyncio.sleep(1)
        ours = lab.venue.orders["BTCUSDT", "1"]
        lab.venue.fill(ours, COIN // 4)
        lab.venue.end(ours, OrdStatus.CANCELED)
        await asyncio.sleep(RELIST_S)
        lab.venue.orders["BTCUSDT", "ours"] = ours  # a lookup by client order id still finds it
        asked = lab.venue.count("order")
        lab.venue.fill(foreign(lab.venue, "1"), COIN // 2)
        await asyncio.sleep(3 * RELIST_S)
        assert (await cum_qty(lab, "a"), await lab.position()) == (COIN // 4, COIN // 4)
        assert lab.venue.count("order") == asked + 1
        assert {"ID_REUSED", "UNEXPECTED_TRADE"} == lab.findings().keys()


@virtual_time
async def test_an_end_learned_later_moves_trades() -> None:
    """A trade booked on an order whose end was not known is no longer its own once the end is told with its time."""
    async with field_lab(order_ids_unique=False, lookup=False) as lab:
        await lab.kernel.place_order(order(), intent_id="a")
        await asyncio.sleep(1)
        ours = lab.venue.orders["BTCUSDT", "1"]
        ended = lab.venue.report(
            ours, ExecType.CANCELED, ord_status=OrdStatus.CANCELED, transact_time_ns=lab.venue.clock.now_ns()
        )
        await asyncio.sleep(10)
        fill_without_client_id(lab.venue, foreign(lab.venue, "1"), COIN // 2)
        await asyncio.sleep(1)
        assert await cum_qty(lab, "a") == COIN // 2  # over-counted until then
        lab.venue.tell(ended)
        await asyncio.sleep(3 * RELIST_S)
        assert (await cum_qty(lab, "a"), await lab.position()) == (0, 0)
        state = await lab.kernel.get_order_state("a")
        assert state.status.ord_status is OrdStatus.CANCELED
        assert {"ID_REUSED"} == lab.findings().keys()


@virtual_time
async def test_an_end_counts_for_what_is_reported_with_it() -> None:
    """A trade without client order id that arrives together with the end of our order is that of the next with its id."""
    async with field_lab(order_ids_unique=False, lookup=False) as lab:
        await lab.kernel.place_order(order(), intent_id="a")
        await asyncio.sleep(1)
        ours = lab.venue.orders["BTCUSDT", "1"]
        ended = lab.venue.report(ours, ExecType.CANCELED, ord_status=OrdStatus.CANCELED)
        await asyncio.sleep(10)
        lab.venue.tell(ended)
        fill_without_client_id(lab.venue, foreign(lab.venue, "1"), COIN // 2)
        await asyncio.sleep(1)
        assert not [event async for page in lab.log.read() for event in page if event.topic == "OrderFilled"]
        assert {"ID_REUSED", "UNEXPECTED_TRADE"} == lab.findings().keys()


@virtual_time
async def test_an_id_that_an_external_order_had_brings_none_of_its_trades() -> None:
    """Where ids are given again, what traded under an id before our order was sent is not our order's."""
    async with field_lab(order_ids_unique=False) as lab:
        other = foreign(lab.venue, "1")
        fill_without_client_id(lab.venue, other, COIN // 2)
        lab.venue.end(other, OrdStatus.CANCELED)
        await asyncio.sleep(10)
        await lab.kernel.place_order(order(), intent_id="a")
        await asyncio.sleep(RELIST_S)
        assert (await cum_qty(lab, "a"), await lab.position()) == (0, 0)


@virtual_time
async def test_nothing_is_submitted_while_a_trade_may_be_of_either() -> None:
    """A trade that may be of two orders of ours is external; both are queried, and CumQty brings the real fill."""
    async with field_lab(order_ids_unique=False) as lab:
        give_ids(lab.venue, "7", "7")
        await lab.kernel.place_order(order(), intent_id="a")
        await asyncio.sleep(1)
        first = lab.venue.orders["BTCUSDT", "7"]
        first.open, first.status = False, OrdStatus.CANCELED  # nobody is told
        lab.venue.orders["BTCUSDT", "a"] = first
        await lab.kernel.place_order(order(), intent_id="b")
        await asyncio.sleep(1)
        second = lab.venue.orders["BTCUSDT", "7"]
        fill_without_client_id(lab.venue, second, COIN // 4)
        await asyncio.sleep(5)
        assert {"ID_REUSED"} <= lab.findings().keys()
        assert (await cum_qty(lab, "a"), await cum_qty(lab, "b")) == (0, COIN // 4)
        asked = [name for call, name in lab.venue.calls if call == "order"]
        assert {first.client_order_id, second.client_order_id} <= {*asked}
        await asyncio.sleep(RELIST_S)
        assert lab.venue.count("submit") == 2
        assert (await cum_qty(lab, "b"), await lab.position()) == (COIN // 4, COIN // 4)
        assert resolutions(lab) == ["the order belongs to intent b"]


@virtual_time
@pytest.mark.parametrize("unique", [True, False])
@pytest.mark.parametrize("symbol_id", ["BTCUSDT", "ETHUSDT"])
async def test_an_unexpected_trade_of_an_order_that_is_accepted_later(unique: bool, symbol_id: str) -> None:
    """Its finding is resolved when the acceptance shows whose it is, also if another order of ours had the id before."""
    async with field_lab(order_ids_unique=unique, lookup=False, trades_carry_client_id=False) as lab:
        give_ids(lab.venue, "7")
        await lab.kernel.place_order(order(symbol_id=symbol_id), intent_id="a")
        await asyncio.sleep(1)
        lab.venue.end(lab.venue.orders[symbol_id, "7"], OrdStatus.CANCELED)
        await asyncio.sleep(10)

        def accept_unseen(request: SubmitRequest) -> ExecutionReport:
            lab.venue.new_order(request, order_id="7").open = False
            raise OutcomeUnknown("no answer")

        lab.venue.on_submit = accept_unseen
        await lab.kernel.place_order(order(), intent_id="b", wait="recorded")
        await asyncio.sleep(1)
        made = lab.venue.orders["BTCUSDT", "7"]
        fill_without_client_id(lab.venue, made, COIN // 4)
        await asyncio.sleep(1)
        is_external = not unique or symbol_id == "ETHUSDT"  # else it seems to be a's
        assert ("UNEXPECTED_TRADE" in lab.findings()) is is_external
        made.open = True
        lab.venue.tell(lab.venue.report(made, ExecType.NEW))
        await asyncio.sleep(RELIST_S)
        assert (await cum_qty(lab, "b"), await lab.position()) == (COIN // 4, COIN // 4)
        assert resolutions(lab) == ["the order belongs to intent b"] * is_external


@virtual_time
async def test_an_unexpected_trade_under_the_id_of_our_order_stays() -> None:
    """The finding of a foreign trade stays when its order is no longer kept, until an operator resolves it."""
    async with field_lab() as lab:
        await lab.kernel.place_order(order(), intent_id="a")
        await asyncio.sleep(1)
        lab.venue.fill(lab.venue.orders["BTCUSDT", "1"], COIN)
        await asyncio.sleep(RELIST_S)
        lab.venue.fill(foreign(lab.venue, "1", client_order_id="web-1"), COIN)
        for number in range(ENDED_MAX):
            lab.venue.end(foreign(lab.venue, f"x{number}", client_order_id=f"x{number}"), OrdStatus.CANCELED)
        lab.venue.trades.clear()
        await asyncio.sleep(2 * RELIST_S)
        assert lab.kernel.state.external_order("1") is None
        assert resolutions(lab) == [""]
        await lab.kernel.resolve_finding("UNEXPECTED_TRADE:BTCUSDT/BUY/1", evidence="that was me")
        assert resolutions(lab) == ["that was me"]


@virtual_time
async def test_a_cancel_names_the_client_order_id_where_ids_are_given_again() -> None:
    """A cancel of an order whose end was not seen does not hit the foreign order that has its venue id now."""
    async with field_lab(order_ids_unique=False) as lab:
        await lab.kernel.place_order(order(), intent_id="a")
        await asyncio.sleep(1)
        other = foreign(lab.venue, "1", client_order_id="web-1")
        await lab.kernel.cancel_order("a")
        await asyncio.sleep(5)
        assert other.open


@virtual_time
@pytest.mark.parametrize("told", [True, False])
async def test_an_adopted_order_shares_its_id_with_an_order_of_another_symbol(told: bool) -> None:
    """The end of an adopted order without client order id is its own, told or queried, though another has its id."""
    settings = KernelSettings(external_orders=ExternalOrderPolicy.ADOPT)
    async with field_lab(settings=settings) as lab:
        item = foreign(lab.venue, "7")
        lab.venue.tell(lab.venue.report(item, ExecType.NEW))
        await asyncio.sleep(1)
        give_ids(lab.venue, "7")
        await lab.kernel.place_order(order(symbol_id="ETHUSDT", price=300_000), intent_id="eth")

        def cancel(request: CancelRequest) -> ExecutionReport:
            answer = lab.venue.do_cancel(request)
            if told:
                lab.venue.tell(structs.replace(answer, client_order_id=request.client_order_id))
            raise OutcomeUnknown("no answer")

        lab.venue.on_cancel = cancel
        await lab.kernel.cancel_order("ext-7")
        await asyncio.sleep(RELIST_S)
        state = await lab.kernel.get_order_state("ext-7")
        assert (state.status.ord_status, state.reconciliation_status) == (OrdStatus.CANCELED, SYNCED)
        assert not lab.findings()


@virtual_time
async def test_an_adopted_order_is_replaced() -> None:
    """Its end is told under the id of the replace, as it has none of its own: one order works, with the new terms."""
    settings = KernelSettings(external_orders=ExternalOrderPolicy.ADOPT)
    async with field_lab(settings=settings, amend=AmendDialect.CANCEL_REPLACE, lookup_closed=False) as lab:
        item = foreign(lab.venue, "7")
        lab.venue.tell(lab.venue.report(item, ExecType.NEW))
        await asyncio.sleep(1)

        def replace(request: ModifyRequest) -> ExecutionReport:
            item.open, item.status = False, OrdStatus.CANCELED
            names = {"client_order_id": request.client_order_id, "orig_client_order_id": ""}
            lab.venue.tell(lab.venue.report(item, ExecType.CANCELED, **names))
            made = FieldOrder("8", request.client_order_id, request.order, request.order.quantity, request.order.price)
            lab.venue.orders[request.symbol_id, "8"] = made
            return lab.venue.report(made, ExecType.NEW)

        lab.venue.on_modify = replace
        await lab.kernel.modify_order("ext-7", structs.replace(item.order, price=5_900_000))
        await asyncio.sleep(RELIST_S)
        assert [(made.id, made.price) for made in lab.venue.open_orders()] == [("8", 5_900_000)]
        state = await lab.kernel.get_order_state("ext-7")
        assert (state.status.ord_status, state.reconciliation_status) == (OrdStatus.NEW, SYNCED)


@virtual_time
@pytest.mark.parametrize(
    ("terms", "lookup", "answered"),
    [
        (SELLS, True, True), (SELLS, True, False), (SELLS, False, True), (SELLS, False, False),
        (ETH, True, True), (ETH, False, True), (ETH, False, False),
    ],
)  # fmt: skip
async def test_another_order_under_the_client_order_id_of_an_unknown_submit(
    terms: dict[str, Any], lookup: bool, answered: bool
) -> None:
    """It is an external order with a finding at once; the submit stays unknown, and nothing is placed in its place."""
    async with field_lab(lookup=lookup) as lab:

        def on_submit(request: SubmitRequest) -> ExecutionReport:
            made = lab.venue.new_order(structs.replace(request, order=order(**terms)))
            if answered:
                return lab.venue.report(made, ExecType.NEW)
            raise OutcomeUnknown("no answer")

        lab.venue.on_submit = on_submit
        await lab.kernel.place_order(order(), intent_id="a", wait="recorded")
        await asyncio.sleep(1 if answered else 10)
        other = lab.venue.open_orders()[0].order
        text = lab.findings()["ID_REUSED"]
        assert f"shows {other.side} in {other.symbol_id}" in text
        assert "intent a sent that client order id for BUY in BTCUSDT" in text
        assert [item.symbol_id for item in lab.kernel.state.external_orders()] == [other.symbol_id]
        await asyncio.sleep(RELIST_S)
        state = await lab.kernel.get_order_state("a")
        assert state.attempts[-1].outcome == "UNKNOWN"
        assert (lab.venue.count("submit"), lab.venue.count("cancel")) == (1, 0)
        assert lab.findings().keys() == {"ID_REUSED", "UNKNOWN_TOO_LONG"}
        lab.venue.on_submit = lab.venue.accept
        await lab.kernel.resolve_attempt("a", AttemptOutcome.DEAD, evidence="the venue says so")
        await asyncio.sleep(5)
        assert lab.venue.count("submit") == 2


@virtual_time
async def test_an_adopting_kernel_leaves_an_order_under_its_own_client_order_id_alone() -> None:
    """Whatever the policy, an order of another side under the client order id of a submit of ours is only reported."""
    settings = KernelSettings(external_orders=ExternalOrderPolicy.CANCEL, external_orders_of_kernels=True)
    async with field_lab(settings=settings) as lab:

        def on_submit(request: SubmitRequest) -> ExecutionReport:
            lab.venue.tell(
                lab.venue.report(lab.venue.new_order(structs.replace(request, order=order("SELL"))), ExecType.NEW)
            )
            raise OutcomeUnknown("no answer")

        lab.venue.on_submit = on_submit
        await lab.kernel.place_order(order(), intent_id="a", wait="recorded")
        await asyncio.sleep(1)
        assert "ID_REUSED" in lab.findings()
        assert [*lab.kernel.state.live_intent_ids()] == ["a"]


@virtual_time
@pytest.mark.parametrize("lookup", [True, False])
async def test_a_replacement_takes_the_id_of_the_order_that_it_replaces(lookup: bool) -> None:
    """The client order id tells the two apart: the old one has ended, and its final quantity becomes known."""
    dialect = AmendDialect.CANCEL_REPLACE
    async with field_lab(order_ids_unique=False, lookup=lookup, amend=dialect) as lab:
        await lab.kernel.place_order(order(), intent_id="a")
        await asyncio.sleep(1)
        old = lab.venue.orders["BTCUSDT", "1"]

        def replace(request: ModifyRequest) -> ExecutionReport:
            named = {"client_order_id": request.client_order_id, "orig_client_order_id": old.client_order_id}
            lab.venue.tell(
                lab.venue.report(old, ExecType.CANCELED, ord_status=OrdStatus.CANCELED, cum_qty=None, **named)
            )
            new = FieldOrder("1", request.client_order_id, request.order, request.order.quantity, request.order.price)
            lab.venue.orders["BTCUSDT", "1"] = new
            return lab.venue.report(new, ExecType.NEW, **named)

        lab.venue.on_modify = replace
        await lab.kernel.modify_order("a", order(quantity=2 * COIN))
        await asyncio.sleep(RELIST_S)
        state = await lab.kernel.get_order_state("a")
        assert (state.status.ord_status, state.reconciliation_status) == (OrdStatus.NEW, SYNCED)
        lab.venue.fill(lab.venue.orders["BTCUSDT", "1"], 2 * COIN)
        await asyncio.sleep(RELIST_S)
        state = await lab.kernel.get_order_state("a")
        assert (state.status.ord_status, state.reconciliation_status) == (OrdStatus.FILLED, SYNCED)
        assert (state.status.cum_qty, await lab.position()) == (2 * COIN, 2 * COIN)
        assert not lab.findings()


@virtual_time
@pytest.mark.parametrize("lookup", [True, False])
async def test_a_change_in_place_that_keeps_the_client_order_id(lookup: bool) -> None:
    """The id under which the order is shown reaches it, though the change was answered under its own id."""
    async with field_lab(order_ids_unique=False, amend=AmendDialect.IN_PLACE, lookup=lookup) as lab:
        await lab.kernel.place_order(order(), intent_id="a")
        for price in (6_000_100, 6_000_200):
            await lab.kernel.modify_order("a", order(price=price), wait="recorded")
            await asyncio.sleep(15)
        (item,) = lab.venue.open_orders()
        assert item.price == 6_000_200
        await lab.kernel.cancel_order("a", wait="recorded")
        await asyncio.sleep(3)
        assert not item.open
        assert not lab.findings()
