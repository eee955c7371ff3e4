"""Venues whose lists or trades lack client order ids: an order that may be ours is never taken for absent (H20)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest
from msgspec import structs

from kernel.clock import NS_PER_S, LoopClock
from kernel.errors import ConflictError, NotFoundError, OutcomeUnknown, ValidationError
from kernel.events import OrderFilled, intent_stream
from kernel.models import (
    AttemptOutcome,
    ExecType,
    FindingKind,
    OrdStatus,
    ReconciliationStatus,
    UnsolicitedCancelPolicy,
)  # fmt: skip
from kernel.settings import KernelSettings
from kernel.venues.base import CancelRequest, Dedupe, ExecutionReport, SubmitRequest, VenueCapabilities, VenueSnapshot
from replay import open_kernel
from tests.scenarios.field.lab import COIN, FieldOrder, FieldVenue, Lab, field_lab, order

pytestmark = pytest.mark.looptime

EXCLUSIVE = KernelSettings(account_exclusive=True)
EVIDENCE = "the venue's support confirmed it"
AMBIGUOUS = {"orders_carry_client_id": False, "trades_carry_client_id": False}
VARIANTS = [
    {"lookup": False, "trades_carry_client_id": False},
    {"lookup": False, "orders_carry_client_id": False, "trades_carry_client_id": False},
    {"client_order_ids": False},
    {"lookup": False, "trades_carry_client_id": False, "dedupe": Dedupe.NONE},
]


@dataclass
class HidingVenue(FieldVenue):
    """A venue that tells client order ids only where its capabilities say so."""

    created: dict[str, int] = field(default_factory=dict)
    """Venue order id to the creation that it tells."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.lost = False
        """The answers of submits are lost."""
        self.drops = False
        """Submits do not arrive."""
        self.fills = 0
        """How often an order fills by half, at once and without a report."""
        self.on_submit = self.accept_or_lose

    def accept_or_lose(self, request: SubmitRequest) -> ExecutionReport:
        if self.drops:
            raise OutcomeUnknown("connection reset")
        made = self.new_order(request)
        for _ in range(self.fills):
            self.fill(made, COIN // 2, tell=False)
        if self.lost:
            raise OutcomeUnknown("connection reset")
        return self.without_ids(self.report(made, ExecType.NEW), carries=self.capabilities.client_order_ids)

    def without_ids(self, report: ExecutionReport, *, carries: bool) -> ExecutionReport:
        created = {"order_created_ns": self.created.get(report.exchange_order_id or "")}
        return structs.replace(report, **(created if carries else {"client_order_id": None} | created))

    def tell(self, report: ExecutionReport) -> None:
        super().tell(self.without_ids(report, carries=self.capabilities.client_order_ids))

    async def order(
        self, symbol_id: str, client_order_id: str | None, exchange_order_id: str | None
    ) -> ExecutionReport | None:
        assert client_order_id is None or self.capabilities.lookup
        found = await super().order(symbol_id, client_order_id, exchange_order_id)
        return found and self.without_ids(found, carries=False)

    async def snapshot(self, since_ns: int, symbols: Any) -> VenueSnapshot:
        taken = await super().snapshot(since_ns, symbols)
        known = self.capabilities
        listed = known.client_order_ids and known.orders_carry_client_id
        traded = known.client_order_ids and known.trades_carry_client_id
        return structs.replace(
            taken,
            open_orders=tuple(self.without_ids(item, carries=listed) for item in taken.open_orders),
            fills=tuple(self.without_ids(item, carries=traded) for item in taken.fills),
        )

    def foreign(self, side: str = "BUY", quantity: int = COIN, **terms: Any) -> FieldOrder:
        """An order that somebody else places without a client order id."""
        terms = order(side, quantity, **terms)
        made = FieldOrder(f"f{self._next_id}", None, terms, terms.quantity, terms.price)
        self._next_id += 1
        self.orders[terms.symbol_id, made.id] = made
        return made


def hiding(**capabilities: Any) -> HidingVenue:
    known = {"validity_window_ns": 5 * NS_PER_S} | capabilities
    return HidingVenue(LoopClock(), VenueCapabilities(**known))


async def place(lab: Lab, name: str = "b", *, recreate: bool = False, **terms: Any) -> None:
    policy = UnsolicitedCancelPolicy.RECREATE if recreate else UnsolicitedCancelPolicy.STOP
    await lab.kernel.place_order(order(**terms), intent_id=name, wait="recorded", on_unsolicited_cancel=policy)


def status(lab: Lab, name: str = "b") -> ReconciliationStatus:
    found = lab.kernel.state.order_state(name)
    assert found is not None
    return found.reconciliation_status


@pytest.mark.parametrize("capabilities", VARIANTS)
@pytest.mark.parametrize("filled", [True, False])
async def test_a_lost_answer_never_makes_a_second_order(capabilities: dict[str, Any], filled: bool) -> None:
    """A submit whose order may be among others' stays UNKNOWN and names them; an operator attributes it, once."""
    venue = hiding(**capabilities)
    async with field_lab(venue=venue) as lab:
        venue.lost, venue.fills = True, 2 if filled else 0
        await place(lab)
        await asyncio.sleep(1)
        (made,) = venue.orders.values()
        venue.lost = False
        await asyncio.sleep(200)
        if not filled and lab.kernel.state.order_state("b").reconciliation_status is ReconciliationStatus.SYNCED:
            assert venue.count("submit") == 1
            return  # the list showed its client id
        assert venue.count("submit") == 1
        assert status(lab) is ReconciliationStatus.UNKNOWN
        assert f"{made.id} (BUY" in lab.findings()["UNOWNED_CANDIDATE"]
        assert lab.kernel.state.symbol_exposure("BTCUSDT").buys == COIN
        await lab.kernel.resolve_attempt("b", order=made.id, evidence=EVIDENCE)
        await asyncio.sleep(200)
        assert venue.count("submit") == 1
        assert await lab.position() == (COIN if filled else 0)
        assert status(lab) is ReconciliationStatus.SYNCED
        assert lab.findings() == {}
        if not filled:
            venue.fill(made, COIN)
            await asyncio.sleep(100)
            assert await lab.position() == COIN


@pytest.mark.parametrize("capabilities", VARIANTS)
async def test_an_exclusive_account_needs_no_operator(capabilities: dict[str, Any]) -> None:
    """On an account that only the kernel uses, the only suspect is attributed once absence could be proven."""
    venue = hiding(**capabilities)
    async with field_lab(venue=venue, settings=EXCLUSIVE) as lab:
        venue.lost, venue.fills = True, 2
        await place(lab)
        await asyncio.sleep(1)
        venue.lost = False
        await asyncio.sleep(4)
        assert status(lab) is ReconciliationStatus.UNKNOWN
        await asyncio.sleep(100)
        assert venue.count("submit") == 1
        assert await lab.position() == COIN
        assert status(lab) is ReconciliationStatus.SYNCED
        assert lab.findings() == {}


@pytest.mark.parametrize("capabilities", VARIANTS)
async def test_what_never_arrived_is_sent_again(capabilities: dict[str, Any]) -> None:
    """Without a suspect two queries prove absence: others' older orders, other sides and larger ones are none."""
    venue = hiding(**capabilities)
    async with field_lab(venue=venue) as lab:
        older, bigger = venue.foreign(), venue.foreign(quantity=3 * COIN)
        await asyncio.sleep(70)
        venue.drops = True
        await place(lab)
        await asyncio.sleep(1)
        venue.foreign("SELL", price=7_000_000)
        venue.foreign(symbol_id="ETHUSDT")
        venue.foreign(quantity=2 * COIN)
        late = venue.foreign()
        venue.created[late.id] = venue.clock.now_ns() - 60 * NS_PER_S
        venue.drops = False
        venue.fill(older, COIN, tell=False)
        venue.fill(bigger, COIN, tell=False)
        await asyncio.sleep(60)
        assert venue.count("submit") == 2
        assert status(lab) is ReconciliationStatus.SYNCED
        assert "UNOWNED_CANDIDATE" not in lab.findings(resolved=True)


async def test_price_and_exact_quantity_clear_nobody() -> None:
    """A venue that rounds price and quantity hides an order from nobody who compares them: it stays a suspect."""
    venue = hiding(lookup=False, **AMBIGUOUS)
    async with field_lab(venue=venue) as lab:
        venue.lost = True
        await place(lab)
        await asyncio.sleep(1)
        (made,) = venue.orders.values()
        made.price, made.quantity = 5_999_900, COIN + 1_000
        venue.lost = False
        await asyncio.sleep(120)
        assert venue.count("submit") == 1
        assert "UNOWNED_CANDIDATE" in lab.findings()


async def test_a_foreign_order_in_the_window_is_never_taken() -> None:
    """A foreign order that fits is a suspect too: even an exclusive account has then two, and an operator decides."""
    venue = hiding(lookup=False, **AMBIGUOUS)
    async with field_lab(venue=venue, settings=EXCLUSIVE) as lab:
        venue.lost = True
        await place(lab)
        await asyncio.sleep(1)
        (ours,) = venue.orders.values()
        foreign = venue.foreign()
        venue.fill(foreign, COIN)
        venue.lost = False
        await asyncio.sleep(120)
        assert await lab.position() == 0
        text = lab.findings()["UNOWNED_CANDIDATE"]
        assert ours.id in text
        assert foreign.id in text
        await lab.kernel.resolve_attempt("b", order=ours.id, evidence=EVIDENCE)
        await asyncio.sleep(100)
        assert venue.count("submit") == 1
        assert await lab.position() == 0
        assert set(lab.findings()) == {"UNEXPECTED_TRADE"}


async def test_the_status_by_venue_id_clears_a_suspect() -> None:
    """Each suspect's status is queried once by the venue's id; a client id or a creation outside the window clears it."""
    venue = hiding(lookup=False, **AMBIGUOUS)
    async with field_lab(venue=venue) as lab:
        venue.drops = True
        await place(lab)
        await asyncio.sleep(1)
        named, old = venue.foreign(), venue.foreign()
        shown = venue.find_report

        def told(symbol_id: str, client_order_id: str | None, order_id: str | None) -> ExecutionReport | None:
            found = shown(symbol_id, client_order_id, order_id)
            assert found is not None
            times = {"order_created_ns": venue.clock.now_ns() - 3_600 * NS_PER_S}
            return structs.replace(found, **({"client_order_id": "theirs"} if order_id == named.id else times))

        venue.order = told_by(venue, told)  # type: ignore[method-assign]
        venue.drops = False
        await asyncio.sleep(60)
        asked = [name for call, name in venue.calls if call == "status"]
        assert sorted(asked) == sorted([named.id, old.id])
        assert venue.count("submit") == 2
        assert status(lab) is ReconciliationStatus.SYNCED


def told_by(venue: HidingVenue, answer: Any) -> Any:
    async def queried(symbol_id: str, client_order_id: str | None, order_id: str | None) -> ExecutionReport | None:
        venue.calls.append(("status", order_id))
        return answer(symbol_id, client_order_id, order_id)

    return queried


async def test_two_alike_are_told_apart_by_an_operator_only() -> None:
    """Two submits alike, both lost: no order is attributed by itself, not even on an exclusive account."""
    venue = hiding(lookup=False, **AMBIGUOUS)
    async with field_lab(venue=venue, settings=EXCLUSIVE) as lab:
        venue.lost = True
        await asyncio.gather(place(lab, "a"), place(lab, "b"))
        await asyncio.sleep(1)
        first, _ = venue.orders.values()
        venue.fill(first, COIN, tell=False)
        venue.lost = False
        await asyncio.sleep(120)
        assert venue.count("submit") == 2
        assert {status(lab, "a"), status(lab, "b")} == {ReconciliationStatus.UNKNOWN}
        await lab.kernel.resolve_attempt("a", order=first.id, evidence=EVIDENCE)
        await asyncio.sleep(120)
        assert status(lab, "b") is ReconciliationStatus.SYNCED  # the only suspect of the only one left
        assert venue.count("submit") == 2
        assert await lab.position() == COIN
        with pytest.raises((ConflictError, NotFoundError)):
            await lab.kernel.resolve_attempt("b", order=first.id, evidence=EVIDENCE)


async def test_other_submits_of_the_side_wait_for_an_unknown_one() -> None:
    """While a submit is unknown, another of its symbol and side waits; the other side and symbol do not."""
    venue = hiding(lookup=False, **AMBIGUOUS)
    async with field_lab(venue=venue) as lab:
        venue.lost = True
        await place(lab, "a")
        await asyncio.sleep(1)
        venue.lost = False
        await place(lab, "b")
        await place(lab, "sell", side="SELL", price=7_000_000)
        await place(lab, "eth", symbol_id="ETHUSDT")
        await asyncio.sleep(60)
        assert venue.count("submit") == 3
        (made,) = [
            item for item in venue.orders.values() if item.order.side == "BUY" and item.order.symbol_id == "BTCUSDT"
        ]
        await lab.kernel.resolve_attempt("a", order=made.id, evidence=EVIDENCE)
        await asyncio.sleep(60)
        assert venue.count("submit") == 4
        assert status(lab, "b") is ReconciliationStatus.SYNCED


async def test_an_operator_is_refused_while_it_may_arrive() -> None:
    """DEAD and an order are refused before the request can no longer arrive, and for an order that cannot be it."""
    venue = hiding(lookup=False, **AMBIGUOUS)
    async with field_lab(venue=venue) as lab:
        venue.drops = True
        await place(lab)
        await asyncio.sleep(1)
        early = venue.foreign()
        selling = venue.foreign("SELL", price=7_000_000)
        await asyncio.sleep(2)
        with pytest.raises(ConflictError, match="may still arrive"):
            await lab.kernel.resolve_attempt("b", AttemptOutcome.DEAD, evidence=EVIDENCE)
        with pytest.raises(ConflictError, match="may still arrive"):
            await lab.kernel.resolve_attempt("b", order=early.id, evidence=EVIDENCE)
        await asyncio.sleep(70)
        with pytest.raises(ValidationError, match="side"):
            await lab.kernel.resolve_attempt("b", order=selling.id, evidence=EVIDENCE)
        with pytest.raises(NotFoundError):
            await lab.kernel.resolve_attempt("b", order="nobody's", evidence=EVIDENCE)
        venue.drops = False
        await lab.kernel.resolve_attempt("b", AttemptOutcome.DEAD, evidence=EVIDENCE)
        await asyncio.sleep(60)
        assert venue.count("submit") == 2
        assert status(lab) is ReconciliationStatus.SYNCED


async def test_a_suspect_of_a_dead_submit_is_a_finding() -> None:
    """An order that appears after its submit was resolved as DEAD is nobody's: a finding names it."""
    venue = hiding(lookup=False, **AMBIGUOUS)
    async with field_lab(venue=venue) as lab:
        venue.drops = True
        await place(lab)
        await asyncio.sleep(1)
        await lab.kernel.cancel_order("b", wait="recorded")
        await asyncio.sleep(30)
        assert lab.kernel.state.observed_order("b").attempts[-1].outcome is AttemptOutcome.DEAD
        late = venue.foreign()
        await asyncio.sleep(120)
        assert late.id in lab.findings()["UNOWNED_CANDIDATE"]
        (name,) = [item.finding_id for item in lab.kernel.state.findings() if item.resolved_at_ns is None]
        await lab.kernel.resolve_finding(name, evidence=EVIDENCE)
        await asyncio.sleep(120)
        assert lab.findings() == {}


async def test_without_client_ids_the_answer_binds_the_order() -> None:
    """Where reports never carry our id, the answer of the submit binds the venue's; a trade told before it counts once."""
    venue = hiding(client_order_ids=False)
    async with field_lab(venue=venue) as lab:

        def traded_first(request: SubmitRequest) -> ExecutionReport:
            made = venue.new_order(request)
            venue.fill(made, COIN // 2)
            answer = venue.report(made, ExecType.NEW, cum_qty=0)
            return structs.replace(answer, client_order_id=None)

        venue.on_submit = traded_first
        await place(lab)
        await asyncio.sleep(1)
        assert status(lab) is ReconciliationStatus.SYNCED
        (made,) = venue.orders.values()
        venue.fill(made, COIN // 4)
        await asyncio.sleep(1)
        assert await lab.position() == 3 * COIN // 4
        await lab.kernel.cancel_order("b")
        await asyncio.sleep(100)
        assert venue.open_orders() == []
        assert venue.count("submit") == 1
        assert lab.findings() == {}


async def test_venues_that_carry_ids_change_nothing() -> None:
    """Where lists and trades carry client ids, a foreign order with its own in the window delays nothing."""
    venue = hiding(lookup=False)
    async with field_lab(venue=venue) as lab:
        venue.drops = True
        await place(lab)
        await asyncio.sleep(1)
        venue.foreign().client_order_id = "theirs"
        venue.drops = False
        await asyncio.sleep(30)
        assert venue.count("submit") == 2
        assert "UNOWNED_CANDIDATE" not in lab.findings(resolved=True)


async def test_suspects_survive_a_restart() -> None:
    """A kernel that was killed with its submit pending knows the suspects from the log, and finds those since."""
    venue = hiding(lookup=False, **AMBIGUOUS)
    async with field_lab(venue=venue) as lab:
        venue.lost = True
        await place(lab)
        await asyncio.sleep(1)
        (ours,) = venue.orders.values()
        await lab.kernel.stop()
        foreign = venue.foreign()
        venue.fill(ours, COIN, tell=False)
        venue.lost = False
        await asyncio.sleep(60)
        async with open_kernel(lab.log, venue=venue, clock=venue.clock) as second:
            await asyncio.sleep(100)
            assert venue.count("submit") == 1
            (found,) = [item for item in second.state.findings() if item.kind is FindingKind.UNOWNED_CANDIDATE]
            assert ours.id in found.text
            assert foreign.id in found.text
            await second.resolve_attempt("b", order=ours.id, evidence=EVIDENCE)
            await asyncio.sleep(60)
            (held,) = [item for item in await second.get_positions() if item.quantity]
            assert held.quantity == COIN
            assert not any(item.resolved_at_ns is None for item in second.state.findings())
        await lab.kernel.start()


async def test_each_attributed_trade_is_recorded_once() -> None:
    """The trades of an attributed order are one event each in the intent's stream, however often lists repeat them."""
    venue = hiding(lookup=False, **AMBIGUOUS)
    async with field_lab(venue=venue, settings=EXCLUSIVE) as lab:
        venue.lost, venue.fills = True, 2
        await place(lab)
        await asyncio.sleep(200)
        fills = [event for event in await lab.log.read_stream(intent_stream("b")) if isinstance(event, OrderFilled)]
        assert sorted(event.fill_key for event in fills) == sorted(str(trade.fill_key) for trade in venue.trades)
        assert lab.kernel.state.expected_balances() == venue.balances


async def test_a_correction_of_an_attributed_trade_stays_one() -> None:
    """An attributed order's correction replaces the trade that it corrects, even if that is reported later."""
    venue = hiding(lookup=False, **AMBIGUOUS)
    async with field_lab(venue=venue) as lab:
        venue.lost, venue.fills = True, 1
        await place(lab)
        await asyncio.sleep(1)
        (made,), (trade,) = venue.orders.values(), venue.trades
        changed = {"exec_type": ExecType.TRADE_CORRECT, "fill_key": "t2", "ref_fill_key": trade.fill_key}
        price = {"last_px": (trade.last_px or 0) - 100, "transact_time_ns": venue.clock.now_ns()}
        venue.trades[0] = structs.replace(trade, **(changed | price))
        await asyncio.sleep(200)
        await lab.kernel.resolve_attempt("b", order=made.id, evidence=EVIDENCE)
        venue.tell(trade)
        await asyncio.sleep(1)
        assert await lab.position() == (trade.last_qty or 0)
        assert lab.kernel.state.observed_order("b").status.cum_qty == trade.last_qty


@pytest.mark.parametrize("filled", [True, False])
async def test_a_claim_that_client_ids_are_shown_proves_nothing(filled: bool) -> None:
    """Where only lists show whether an order arrived, one without client order id may be it, whatever the venue claims."""
    venue = hiding(lookup=False)
    venue.without_ids = lambda report, *, carries: structs.replace(report, client_order_id=None)  # type: ignore[method-assign]
    async with field_lab(venue=venue) as lab:
        venue.lost, venue.fills = True, 2 if filled else 0
        await place(lab)
        await asyncio.sleep(1)
        venue.lost = False
        await asyncio.sleep(600)
        (made,) = venue.orders.values()
        assert venue.count("submit") == 1
        assert status(lab) is ReconciliationStatus.UNKNOWN
        assert f"{made.id} (BUY" in lab.findings()["UNOWNED_CANDIDATE"]
        await lab.kernel.resolve_attempt("b", order=made.id, evidence=EVIDENCE)
        await asyncio.sleep(200)
        assert await lab.position() == (COIN if filled else 0)
        assert lab.findings() == {}


async def test_a_list_item_that_may_be_of_two_orders_is_no_miss_of_either() -> None:
    """The venue forgot an order and gave its id to the next one: neither is closed as a ghost while that one works."""
    hidden = {"lookup": False, "orders_carry_client_id": False, "order_ids_unique": False}
    async with field_lab(venue=hiding(**hidden)) as lab:
        await lab.kernel.place_order(order(), intent_id="a")
        del lab.venue.orders["BTCUSDT", "1"]
        lab.venue.on_submit = lambda request: lab.venue.report(lab.venue.new_order(request, order_id="1"), ExecType.NEW)
        await lab.kernel.place_order(order(), intent_id="b")

        def on_cancel(request: CancelRequest) -> ExecutionReport:
            raise OutcomeUnknown("connection reset")

        lab.venue.on_cancel = on_cancel
        await lab.kernel.cancel_order("b", wait="recorded")
        await asyncio.sleep(600)
        assert (await lab.kernel.get_order_state("b")).status.ord_status is OrdStatus.NEW
        assert "GHOST" not in lab.findings()


@pytest.mark.parametrize("is_dated", [True, False])
async def test_a_list_item_under_an_id_that_two_orders_had_confirms_no_false_end(is_dated: bool) -> None:
    """It reopens the order if it is older than the end; without its time nothing is concluded, and nothing placed again."""
    venue = hiding(lookup=False, orders_carry_client_id=False, order_ids_unique=False)
    async with field_lab(venue=venue) as lab:
        await place(lab, "a")
        await asyncio.sleep(1)
        await lab.kernel.cancel_order("a")
        await asyncio.sleep(60)
        accepted_ns = venue.clock.now_ns()
        told = {"transact_time_ns": accepted_ns if is_dated else None}
        hidden = {"client_order_id": None} | told
        venue.without_ids = lambda report, *, carries: report if carries else structs.replace(report, **hidden)  # type: ignore[method-assign]
        venue.on_submit = lambda request: venue.report(venue.new_order(request, order_id="1"), ExecType.NEW)
        await place(lab, "b", recreate=True)
        await asyncio.sleep(10)
        item = venue.orders["BTCUSDT", "1"]
        venue.tell(venue.report(item, ExecType.EXPIRED, ord_status=OrdStatus.EXPIRED, leaves_qty=0))
        await asyncio.sleep(600)
        assert venue.count("submit") == 2
        assert (status(lab) is ReconciliationStatus.SYNCED) is is_dated
        assert ("FALSE_END" in lab.findings()) is is_dated


@pytest.mark.parametrize("lookup_closed", [True, False])
async def test_a_copy_that_lists_show_without_its_client_id(lookup_closed: bool) -> None:
    """An open order without client order id is queried once by the venue's id: it is a copy of ours, and is canceled."""
    venue = hiding(orders_carry_client_id=False, lookup_closed=lookup_closed)
    venue.order = told_by(venue, venue.find_report)  # type: ignore[method-assign]
    async with field_lab(venue=venue) as lab:
        await place(lab)
        await asyncio.sleep(1)
        (sent,) = [request for name, request in venue.calls if name == "submit"]
        copy, foreign = venue.new_order(sent), venue.foreign()
        await asyncio.sleep(300)
        assert not copy.open
        assert "DUPLICATE_ORDER" in lab.findings(resolved=True)
        assert status(lab) is ReconciliationStatus.SYNCED
        assert [name for call, name in venue.calls if call == "status"].count(foreign.id) == 1
