"""The venue works other terms than were requested: a rounded price or quantity, a decrement, a replace with other terms."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from kernel.errors import ConflictError, ExchangeError, OutcomeUnknown, ValidationError
from kernel.events import TermsAccepted, intent_stream
from kernel.models import ExecType, OrdStatus, ReconciliationStatus, VenueTermsPolicy
from kernel.settings import KernelSettings
from kernel.venues.base import AmendDialect, ExecutionReport, ModifyRequest, SubmitRequest
from tests.scenarios.field.lab import COIN, FieldOrder, FieldVenue, Lab, field_lab, order

pytestmark = pytest.mark.looptime
ACCEPT = KernelSettings(venue_terms=VenueTermsPolicy.ACCEPT)
AMENDS = [AmendDialect.NONE, AmendDialect.IN_PLACE, AmendDialect.CANCEL_REPLACE]
AWKWARD = order("BUY", 123_456_000, 6_000_007)


def round_price(item: FieldOrder) -> None:
    if item.price is not None:
        item.price -= item.price % 5


def round_quantity(item: FieldOrder) -> None:
    item.quantity -= item.quantity % 100_000


def rounding(venue: FieldVenue, change: Callable[[FieldOrder], None]) -> None:
    """Let the venue change the terms of each order and of each replace, and report what it works."""

    def on_submit(request: SubmitRequest) -> ExecutionReport:
        made = venue.new_order(request)
        change(made)
        return venue.report(made, ExecType.NEW)

    def on_modify(request: ModifyRequest) -> ExecutionReport:
        old = venue.target(request)
        if venue.capabilities.amend is AmendDialect.CANCEL_REPLACE:
            old.open, old.status = False, OrdStatus.CANCELED
            made = FieldOrder(
                f"r{len(venue.orders)}", request.client_order_id, request.order, request.order.quantity,
                request.order.price,
            )  # fmt: skip
            venue.orders[request.symbol_id, made.id] = made
        else:
            made, made.quantity, made.price = old, request.order.quantity, request.order.price
        change(made)
        names = {"client_order_id": request.client_order_id, "orig_client_order_id": old.client_order_id}
        return venue.report(made, ExecType.REPLACED, **names)

    venue.on_submit, venue.on_modify = on_submit, on_modify


def sends(lab: Lab) -> int:
    return lab.venue.count("submit") + lab.venue.count("modify")


async def reconciliation(lab: Lab) -> ReconciliationStatus:
    return (await lab.kernel.get_order_state("a")).reconciliation_status


@pytest.mark.parametrize("amend", AMENDS)
@pytest.mark.parametrize(
    ("change", "text"),
    [
        (round_price, "requested 60000.07, the venue works 60000.05"),
        (round_quantity, "requested 1.23456, the venue works 1.234"),
        (lambda item: (round_price(item), round_quantity(item)),
         "requested 1.23456 at 60000.07, the venue works 1.234 at 60000.05"),
    ],
    ids=["price", "quantity", "both"],
)  # fmt: skip
async def test_other_terms_fail_after_a_few_tries(
    change: Callable[[FieldOrder], None], text: str, amend: AmendDialect
) -> None:
    """The same terms are requested five times with a growing delay, then the generation has failed, with a finding."""
    async with field_lab(amend=amend) as lab:
        rounding(lab.venue, change)
        await lab.kernel.place_order(AWKWARD, intent_id="a")
        assert await reconciliation(lab) is not ReconciliationStatus.SYNCED
        await asyncio.sleep(600)
        assert sends(lab) == 5
        assert text in lab.findings()["VENUE_DISAGREES"]
        assert await reconciliation(lab) is ReconciliationStatus.FAILED
        assert len(lab.venue.open_orders()) == 1  # it can fill neither more nor at a worse price
        await lab.kernel.place_order(AWKWARD, intent_id="a")  # an error here would say that nothing works


async def test_a_change_to_terms_that_the_venue_does_not_work_fails() -> None:
    """The error says what works: the order does, with other terms than requested."""
    async with field_lab(amend=AmendDialect.IN_PLACE) as lab:
        rounding(lab.venue, round_price)
        await lab.kernel.place_order(order("BUY", COIN, 6_000_005), intent_id="a")
        with pytest.raises(ExchangeError, match=r"requested 60000\.07, the venue works 60000\.05"):
            await lab.kernel.modify_order("a", order("BUY", COIN, 6_000_007), ack_timeout_s=600)
        assert len(lab.venue.open_orders()) == 1


@pytest.mark.parametrize("side", ["BUY", "SELL"])
@pytest.mark.parametrize("up", [False, True])
async def test_a_failed_order_works_on_only_within_its_limits(side: str, up: bool) -> None:
    """Once the terms have failed, an order at a better price stays, one at a worse price is canceled."""

    def change(item: FieldOrder) -> None:
        assert item.price is not None
        item.price += 3 if up else -2

    async with field_lab() as lab:
        rounding(lab.venue, change)
        await lab.kernel.place_order(order(side, COIN, 6_000_007), intent_id="a")
        await asyncio.sleep(100)
        assert len(lab.venue.open_orders()) == ((side == "BUY") is not up)
        assert await reconciliation(lab) is ReconciliationStatus.FAILED


async def test_more_than_requested_is_canceled_at_once() -> None:
    """An order that works more than was requested is canceled without delay, the next submit waits."""

    def enlarge(item: FieldOrder) -> None:
        item.quantity += 1_000_000

    async with field_lab(settings=ACCEPT) as lab:
        rounding(lab.venue, enlarge)
        await lab.kernel.place_order(AWKWARD, intent_id="a")
        await asyncio.sleep(0.5)
        assert not lab.venue.open_orders()
        await asyncio.sleep(600)
        assert (lab.venue.count("submit"), lab.venue.count("cancel")) == (5, 5)
        assert "VENUE_DISAGREES" in lab.findings()


@pytest.mark.parametrize("amend", AMENDS)
@pytest.mark.parametrize("side", ["BUY", "SELL"])
async def test_by_policy_the_terms_that_work_are_kept(side: str, amend: AmendDialect) -> None:
    """With ACCEPT the order is SYNCED with what works, nothing is sent again, and the accepted terms are shown."""
    async with field_lab(settings=ACCEPT, amend=amend) as lab:
        rounding(lab.venue, lambda item: (round_price(item), round_quantity(item)))
        await lab.kernel.place_order(order(side, 123_456_000, 6_000_007), intent_id="a")
        await asyncio.sleep(100)
        state = await lab.kernel.get_order_state("a")
        assert sends(lab) == 1
        assert state.reconciliation_status is ReconciliationStatus.SYNCED
        assert state.accepted_terms is not None
        assert (state.accepted_terms.quantity, state.accepted_terms.price) == (123_400_000, 6_000_005)
        (accepted,) = [e for e in await lab.log.read_stream(intent_stream("a")) if isinstance(e, TermsAccepted)]
        assert accepted.text.startswith("requested 1.23456 at 60000.07, the venue works 1.234 at 60000.05")
        lab.venue.fill(lab.venue.open_orders()[0], 123_400_000)
        await asyncio.sleep(100)
        state = await lab.kernel.get_order_state("a")
        assert (state.status.ord_status, state.reconciliation_status) == (OrdStatus.FILLED, ReconciliationStatus.SYNCED)
        assert sends(lab) == 1
        assert not lab.findings()


async def test_accepted_terms_end_with_their_generation() -> None:
    """A change of the order is requested as it is, whatever was accepted before."""
    async with field_lab(settings=ACCEPT, amend=AmendDialect.IN_PLACE) as lab:
        rounding(lab.venue, round_price)
        await lab.kernel.place_order(AWKWARD, intent_id="a")
        await asyncio.sleep(5)
        await lab.kernel.modify_order("a", order("BUY", 123_456_000, 6_000_010))
        await asyncio.sleep(5)
        assert [item.price for item in lab.venue.open_orders()] == [6_000_010]
        assert await reconciliation(lab) is ReconciliationStatus.SYNCED


async def test_an_operator_keeps_what_works() -> None:
    """Resolving the finding with `accept` takes the terms that work; the order is SYNCED and goes on."""
    async with field_lab(amend=AmendDialect.IN_PLACE) as lab:
        rounding(lab.venue, round_price)
        await lab.kernel.place_order(AWKWARD, intent_id="a")
        await asyncio.sleep(100)
        await lab.kernel.resolve_finding("VENUE_DISAGREES:a", evidence="its tick is 0.05", accept=True)
        await asyncio.sleep(100)
        assert await reconciliation(lab) is ReconciliationStatus.SYNCED
        assert sends(lab) == 5
        assert not lab.findings()


async def test_an_operator_allows_another_try() -> None:
    """Resolving the finding sends the terms once more at once; a venue that takes them now is SYNCED."""
    async with field_lab(amend=AmendDialect.IN_PLACE) as lab:
        rounding(lab.venue, round_price)
        await lab.kernel.place_order(AWKWARD, intent_id="a")
        await asyncio.sleep(100)
        lab.venue.on_modify = lab.venue.do_modify
        await lab.kernel.resolve_finding("VENUE_DISAGREES:a", evidence="they changed their tick")
        await asyncio.sleep(1)
        assert await reconciliation(lab) is ReconciliationStatus.SYNCED
        assert [item.price for item in lab.venue.open_orders()] == [6_000_007]
        await asyncio.sleep(300)
        assert not lab.findings()


async def test_only_a_disagreement_can_be_accepted() -> None:
    """`accept` is refused without an order that works other terms."""
    async with field_lab(amend=AmendDialect.IN_PLACE) as lab:
        rounding(lab.venue, round_price)
        await lab.kernel.place_order(AWKWARD, intent_id="a")
        await asyncio.sleep(100)
        lab.venue.end(lab.venue.open_orders()[0], OrdStatus.CANCELED)
        await asyncio.sleep(1)
        with pytest.raises(ConflictError, match="nothing to accept"):
            await lab.kernel.resolve_finding("VENUE_DISAGREES:a", evidence="e", accept=True)
        external = SubmitRequest(client_order_id="x", order=AWKWARD, stamp_ns=0, valid_until_ns=None)
        lab.venue.fill(lab.venue.new_order(external), COIN)
        await asyncio.sleep(1)
        name = next(item.finding_id for item in lab.kernel.state.findings() if item.kind == "UNEXPECTED_TRADE")
        with pytest.raises(ValidationError, match="accept is for a VENUE_DISAGREES finding"):
            await lab.kernel.resolve_finding(name, evidence="e", accept=True)


async def test_a_change_to_terms_that_the_venue_takes_ends_it() -> None:
    """A change by the strategy is sent at once; when it has stood for a while, the finding is resolved."""
    async with field_lab(amend=AmendDialect.IN_PLACE) as lab:
        rounding(lab.venue, round_price)
        await lab.kernel.place_order(AWKWARD, intent_id="a")
        await asyncio.sleep(100)
        await lab.kernel.modify_order("a", order("BUY", 123_456_000, 6_000_005))
        assert await reconciliation(lab) is ReconciliationStatus.SYNCED
        await asyncio.sleep(200)
        assert not lab.findings()


async def test_a_self_trade_decrement_is_braked() -> None:
    """Self-trade prevention reduces the order each time: the quantity is requested again ever more rarely."""
    async with field_lab(amend=AmendDialect.IN_PLACE) as lab:

        def decrement() -> None:
            for item in lab.venue.open_orders():
                if item.quantity == COIN:
                    item.quantity = COIN // 4
                    lab.venue.tell(lab.venue.report(item, ExecType.RESTATED, text="self-trade prevention"))

        await lab.kernel.place_order(order("BUY", COIN), intent_id="a")
        for _ in range(600):
            decrement()
            await asyncio.sleep(1)
        assert sends(lab) == 5
        assert "requested 1, the venue works 0.25" in lab.findings()["VENUE_DISAGREES"]


@pytest.mark.parametrize("amend", [AmendDialect.IN_PLACE, AmendDialect.CANCEL_REPLACE])
async def test_a_replace_without_effect_is_braked(amend: AmendDialect) -> None:
    """A replace that is confirmed with the old terms, and the old venue id, is repeated ever more rarely and then fails."""
    async with field_lab(amend=amend) as lab:

        def on_modify(request: ModifyRequest) -> ExecutionReport:
            item = lab.venue.target(request)
            names = {"client_order_id": request.client_order_id, "orig_client_order_id": item.client_order_id}
            return lab.venue.report(item, ExecType.REPLACED, **names)

        lab.venue.on_modify = on_modify
        await lab.kernel.place_order(order("BUY", COIN), intent_id="a")
        await lab.kernel.modify_order("a", order("BUY", COIN, 6_000_100), wait="recorded")
        await asyncio.sleep(600)
        assert lab.venue.count("modify") == 5
        assert "requested 60001, the venue works 60000" in lab.findings()["VENUE_DISAGREES"]
        assert await reconciliation(lab) is ReconciliationStatus.FAILED


async def test_a_replace_that_is_never_answered_is_braked() -> None:
    """Replaces that are neither answered nor done are repeated ever more rarely."""
    async with field_lab(amend=AmendDialect.IN_PLACE) as lab:

        def on_modify(request: ModifyRequest) -> ExecutionReport:
            raise OutcomeUnknown("502")

        lab.venue.on_modify = on_modify
        await lab.kernel.place_order(order("BUY", COIN), intent_id="a")
        await lab.kernel.modify_order("a", order("BUY", COIN, 6_000_100), wait="recorded")
        await asyncio.sleep(900)
        assert lab.venue.count("modify") == 5
        assert "requested 60001, the venue works 60000" in lab.findings()["VENUE_DISAGREES"]


async def test_the_price_of_a_market_order_is_no_term() -> None:
    """A venue that reports the average price of a market order as its price works the requested terms."""

    def priced(item: FieldOrder) -> None:
        item.price = 5_999_000

    async with field_lab() as lab:
        rounding(lab.venue, priced)
        await lab.kernel.place_order(order("BUY", COIN, kind="MARKET"), intent_id="a")
        await asyncio.sleep(30)
        assert sends(lab) == 1
        assert lab.venue.count("cancel") == 0
        assert await reconciliation(lab) is ReconciliationStatus.SYNCED


@pytest.mark.parametrize("carries", [False, True])
async def test_a_replace_of_a_partly_filled_order_works_what_was_requested(carries: bool) -> None:
    """The new order has the rest of the total, or the total with what the old one filled: neither is a disagreement."""
    async with field_lab(amend=AmendDialect.CANCEL_REPLACE, replace_keeps_cum_qty=carries) as lab:

        def on_modify(request: ModifyRequest) -> ExecutionReport:
            old = lab.venue.target(request)
            old.open, old.status = False, OrdStatus.CANCELED
            filled = old.cum_qty if carries else 0
            quantity = request.order.quantity - (0 if carries else old.cum_qty)
            made = FieldOrder("new", request.client_order_id, request.order, quantity, request.order.price, filled)
            lab.venue.orders[request.symbol_id, made.id] = made
            names = {"client_order_id": request.client_order_id, "orig_client_order_id": old.client_order_id}
            return lab.venue.report(made, ExecType.REPLACED, **names)

        lab.venue.on_modify = on_modify
        await lab.kernel.place_order(order("BUY", COIN), intent_id="a")
        lab.venue.fill(lab.venue.open_orders()[0], COIN // 4)
        await asyncio.sleep(1)
        await lab.kernel.modify_order("a", order("BUY", COIN, 6_000_100), wait="recorded")
        await asyncio.sleep(100)
        assert lab.venue.count("modify") == 1
        assert await reconciliation(lab) is ReconciliationStatus.SYNCED
        assert lab.kernel.state.record("a").failures == 0
