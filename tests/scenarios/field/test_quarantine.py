"""The venue's data of one symbol stop fitting the log: that symbol alone stops, and goes on once they fit again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from msgspec import structs

from kernel.clock import LoopClock
from kernel.errors import ConflictError, LogUnavailableError, OutcomeUnknown, Rejected, ValidationError
from kernel.events import REFERENCE_STREAM, SymbolObserved, TransferObserved
from kernel.log.base import Append, Appended
from kernel.models import AttemptOutcome, ExecType, OrdStatus
from kernel.order_spec import AssetMetadata, OcoMode, Side, StandardOrderGroup, SymbolStatus
from kernel.settings import KernelSettings
from kernel.venues.base import (
    ExecutionReport,
    SubmitGroupRequest,
    SubmitRequest,
    VenueCapabilities,
    VenueSnapshot,
)
from kernel.venues.guard import GuardedVenue
from tests.scenarios.field.lab import BTCUSDT, COIN, ETHUSDT, FieldOrder, FieldVenue, Lab, field_lab, order

pytestmark = pytest.mark.looptime


async def reconnected(lab: Lab) -> None:
    """The stream ends, and the kernel connects again."""
    lab.venue.tell(None)  # type: ignore[arg-type]
    await asyncio.sleep(1)


def changed(**fields: Any) -> list[Any]:
    return [BTCUSDT, structs.replace(ETHUSDT, **fields)]


async def test_an_untraded_symbol_changes_its_scale() -> None:
    """A finer tick of a symbol in which nothing was traded stops neither orders nor cancels of another."""
    async with field_lab() as lab:
        await lab.kernel.place_order(order(), intent_id="a")
        lab.venue.all_symbols = changed(price_decimals=3)
        await reconnected(lab)
        await lab.kernel.cancel_order("a")
        await lab.kernel.place_order(order(), intent_id="b")
        assert lab.venue.count("cancel") == 1
        assert len(lab.venue.open_orders()) == 1
        assert "ETH/USDT with 3 decimals in prices and 8 in quantities" in lab.findings()["SYMBOL_QUARANTINED"]


async def test_it_is_noticed_without_a_reconnect() -> None:
    """A scale that changes while the session lasts is noticed at the next refresh of the reference data."""
    async with field_lab(settings=KernelSettings(reference_interval_s=120)) as lab:
        lab.venue.all_symbols = changed(quantity_decimals=6)
        await asyncio.sleep(121)
        assert "SYMBOL_QUARANTINED" in lab.findings()


async def test_its_end_is_noticed_without_a_reconnect() -> None:
    """While an order of it is live, a quarantined symbol is queried at each relist: nobody may have to reconnect for it."""
    async with field_lab(settings=KernelSettings(reference_interval_s=3600)) as lab:
        await lab.kernel.place_order(order(symbol_id="ETHUSDT"), intent_id="a")
        lab.venue.all_symbols = changed(price_decimals=3)
        await reconnected(lab)
        await lab.kernel.place_order(order(symbol_id="ETHUSDT"), intent_id="b", wait="recorded")
        lab.venue.all_symbols = [BTCUSDT, ETHUSDT]
        await asyncio.sleep(121)
        assert "SYMBOL_QUARANTINED" not in lab.findings()
        assert len(lab.venue.open_orders()) == 2


async def test_its_end_is_noticed_where_no_order_of_it_is_live() -> None:
    """Nor may its trades stay left out for long where all orders of it ended: an external one changed the balances."""
    async with field_lab(settings=KernelSettings(reference_interval_s=3600)) as lab:
        await lab.kernel.place_order(order(symbol_id="ETHUSDT"), intent_id="a")
        await lab.kernel.cancel_order("a")
        lab.venue.all_symbols = changed(price_decimals=3)
        await reconnected(lab)
        terms = order(symbol_id="ETHUSDT")
        lab.venue.fill(FieldOrder("x", "", terms, COIN, terms.price), COIN)
        lab.venue.all_symbols = [BTCUSDT, ETHUSDT]
        await asyncio.sleep(121)
        assert set(lab.findings()) == {"UNEXPECTED_TRADE"}


@pytest.mark.parametrize("fields", [{"price_decimals": 3}, {"quantity_decimals": 6}, {"base_asset": "BTC"}])
async def test_a_traded_symbol_stops_and_goes_on(fields: dict[str, Any]) -> None:
    """Nothing is placed or changed in it, cancels go out, its numbers are ignored, and the old data lift it."""
    async with field_lab() as lab:
        await lab.kernel.place_order(order(symbol_id="ETHUSDT"), intent_id="a")
        await lab.kernel.place_order(order(symbol_id="ETHUSDT", price=5_000_000), intent_id="b")
        [first, second] = lab.venue.open_orders()
        lab.venue.all_symbols = changed(**fields)
        await reconnected(lab)
        first.price = 60_000_000  # at the new scale
        filled = lab.venue.fill(first, COIN // 2, tell=True)
        await lab.kernel.place_order(order(symbol_id="ETHUSDT"), intent_id="c", wait="recorded")
        await lab.kernel.cancel_order("b", wait="recorded")
        await asyncio.sleep(200)
        assert (lab.venue.count("submit"), lab.venue.count("cancel")) == (2, 1)
        assert not second.open
        assert (await lab.kernel.get_order_state("a")).status.cum_qty == 0
        assert filled not in lab.venue.recorded_reports
        with pytest.raises(ConflictError, match="power of ten"):
            await lab.kernel.resolve_finding("SYMBOL_QUARANTINED:ETHUSDT", evidence="looks right")
        first.price = 6_000_000
        lab.venue.trades = [structs.replace(filled, last_px=6_000_000, price=6_000_000)]
        lab.venue.all_symbols = [BTCUSDT, ETHUSDT]
        await reconnected(lab)
        await asyncio.sleep(60)
        assert "SYMBOL_QUARANTINED" not in lab.findings()
        assert (await lab.kernel.get_order_state("a")).status.cum_qty == COIN // 2
        assert lab.venue.count("submit") == 3


async def test_a_quarantine_is_no_silence_of_the_stream() -> None:
    """The trades that it left out come by the list, though the stream brought them."""
    async with field_lab(settings=KernelSettings(reference_interval_s=30)) as lab:
        await lab.kernel.place_order(order(symbol_id="ETHUSDT"), intent_id="a")
        lab.venue.all_symbols = changed(price_decimals=3)
        await asyncio.sleep(70)
        lab.venue.fill(lab.venue.open_orders()[0], COIN // 2)
        await asyncio.sleep(70)
        lab.venue.all_symbols = [BTCUSDT, ETHUSDT]
        await asyncio.sleep(100)
        assert await lab.position("ETHUSDT") == COIN // 2
        assert lab.findings() == {}
        assert lab.venue.count("connect") == 1


async def test_the_final_quantity_of_an_order_that_filled_in_quarantine() -> None:
    """A list without the trades that a quarantine leaves out is no evidence of what an order filled (H13)."""
    async with field_lab(lookup=False) as lab:
        await lab.kernel.place_order(order(symbol_id="ETHUSDT"), intent_id="a")
        lab.venue.all_symbols = changed(price_decimals=3)
        await reconnected(lab)
        lab.venue.fill(lab.venue.open_orders()[0], COIN)
        await lab.kernel.modify_order("a", order(symbol_id="ETHUSDT", quantity=COIN // 2), wait="recorded")
        await asyncio.sleep(120)
        assert (await lab.kernel.get_order_state("a")).venue_orders[0].final_cum_qty is None
        lab.venue.all_symbols = [BTCUSDT, ETHUSDT]
        await reconnected(lab)
        await asyncio.sleep(60)
        assert lab.venue.count("submit") == 1
        assert (await lab.kernel.get_order_state("a")).status.cum_qty == COIN


async def test_a_request_whose_order_filled_in_quarantine_is_not_absent() -> None:
    """Nor does it prove that a request never arrived (H15): its order is known once the quarantine is lifted."""
    async with field_lab(lookup=False) as lab:
        sent: list[SubmitRequest] = []

        def unanswered(request: SubmitRequest) -> ExecutionReport:
            sent.append(request)
            raise OutcomeUnknown("the connection was lost")

        lab.venue.on_submit = unanswered
        await lab.kernel.place_order(order(symbol_id="ETHUSDT"), intent_id="a", wait="recorded")
        lab.venue.all_symbols = changed(price_decimals=3)
        await reconnected(lab)
        lab.venue.fill(lab.venue.new_order(sent[0]), COIN, tell=False)
        await asyncio.sleep(120)
        assert [item.outcome for item in (await lab.kernel.get_order_state("a")).attempts] == [AttemptOutcome.UNKNOWN]
        lab.venue.all_symbols = [BTCUSDT, ETHUSDT]
        await reconnected(lab)
        await asyncio.sleep(60)
        assert lab.venue.count("submit") == 1
        assert (await lab.kernel.get_order_state("a")).status.cum_qty == COIN


async def test_nothing_is_placed_before_the_left_out_trades_are_known() -> None:
    """A quarantine ends with a list that lacks nothing: what filled meanwhile decides about the other order of a group."""
    async with field_lab() as lab:

        def on_submit(request: SubmitRequest) -> ExecutionReport:
            if request.order.side is Side.SELL and lab.venue.count("submit") == 2:
                raise Rejected("not now", retry_after_s=30)
            return lab.venue.accept(request)

        async def snapshot(since_ns: int, symbols: Sequence[str]) -> VenueSnapshot:
            await asyncio.sleep(1)
            return await real(since_ns, symbols)

        real, lab.venue.on_submit = lab.venue.snapshot, on_submit
        pair = (order(symbol_id="ETHUSDT"), order("SELL", price=7_000_000, symbol_id="ETHUSDT"))
        group = StandardOrderGroup(mode=OcoMode.ONE_CANCELS_OTHER, orders=pair)
        await lab.kernel.place_order_group(group, group_id="g", intent_ids=("a", "b"), wait="recorded")
        await asyncio.sleep(1)
        lab.venue.all_symbols = changed(price_decimals=3)
        await reconnected(lab)
        lab.venue.fill(lab.venue.open_orders()[0], COIN)
        await asyncio.sleep(100)
        lab.venue.snapshot = snapshot  # type: ignore[method-assign]
        lab.venue.all_symbols = [BTCUSDT, ETHUSDT]
        await asyncio.sleep(120)
        assert "SYMBOL_QUARANTINED" not in lab.findings()
        assert (await lab.kernel.get_order_state("a")).status.cum_qty == COIN
        assert lab.venue.count("submit") == 2


async def test_a_quarantine_that_is_lifted_while_a_list_is_recorded() -> None:
    """The trades that it left out of the list are listed again: the cursor does not pass over them (H16)."""
    async with field_lab() as lab:
        await lab.kernel.place_order(order(symbol_id="ETHUSDT"), intent_id="a")
        lab.venue.all_symbols = changed(price_decimals=3)
        await reconnected(lab)
        assert lab.kernel.engine.at_venue is not None
        guard, real = lab.kernel.engine.at_venue.venue, lab.log.append

        async def append(command: Append) -> Appended:
            if any(isinstance(event, TransferObserved) for write in command.writes for event in write.events):
                lab.venue.all_symbols = [BTCUSDT, ETHUSDT]
                guard.quarantined = frozenset()
            return await real(command)

        lab.log.append = append  # type: ignore[method-assign]
        external = FieldOrder("99", None, order(symbol_id="ETHUSDT"), COIN, 6_000_000)
        lab.venue.fill(external, COIN, tell=False)
        await asyncio.sleep(30)
        lab.venue.transfer("USDT", COIN)  # recorded before the cursor
        await asyncio.sleep(200)
        assert guard.quarantined == frozenset()
        assert lab.kernel.state.external_order("99") is not None


async def test_a_list_that_left_out_trades_ends_no_quarantine() -> None:
    """A symbol whose data fit again stays quarantined until a complete list that left out none of its trades."""
    async with field_lab() as lab:
        await lab.kernel.place_order(order(symbol_id="ETHUSDT"), intent_id="a")
        lab.venue.all_symbols = changed(price_decimals=3)
        await reconnected(lab)
        leader = lab.kernel._runtime.leader
        assert leader is not None
        reference = leader.session._reference
        reference._fitting = frozenset({"ETHUSDT"})
        await reference.lift(frozenset({"ETHUSDT"}))
        assert "SYMBOL_QUARANTINED" in lab.findings()
        await reference.lift(frozenset())
        assert "SYMBOL_QUARANTINED" not in lab.findings()


async def test_a_quarantine_that_is_lifted_while_reports_are_recorded() -> None:
    """A trade that it left out is not confirmed as recorded: the adapter may bring it again (H26)."""
    async with field_lab() as lab:
        await lab.kernel.place_order(order(), intent_id="a")
        await lab.kernel.place_order(order(symbol_id="ETHUSDT"), intent_id="b")
        first, second = lab.venue.open_orders()
        assert lab.kernel.engine.at_venue is not None
        guard, real = lab.kernel.engine.at_venue.venue, lab.log.append

        async def append(command: Append) -> Appended:
            guard.quarantined = frozenset()
            return await real(command)

        guard.quarantined = frozenset({"ETHUSDT"})
        lab.log.append = append  # type: ignore[method-assign]
        told = [lab.venue.fill(item, COIN) for item in (first, second)]
        await asyncio.sleep(1)
        assert lab.venue.recorded_reports == told[:1]
        await asyncio.sleep(120)
        assert (await lab.kernel.get_order_state("b")).status.ord_status is OrdStatus.FILLED


async def test_a_group_that_was_answered_in_quarantine() -> None:
    """The answers to a group that was sent before its symbol changed its scale show no numbers."""
    async with field_lab() as lab:
        await lab.kernel.place_order(order(), intent_id="a")
        answer = lab.venue.report(lab.venue.open_orders()[0], ExecType.NEW)
        sent: SubmitRequest = next(request for call, request in lab.venue.calls if call == "submit")

        async def submit_group(request: SubmitGroupRequest) -> list[ExecutionReport]:
            return [answer]

        lab.venue.submit_group = submit_group  # type: ignore[method-assign]
        guard = GuardedVenue(lab.venue)
        guard.quarantined = frozenset({"BTCUSDT"})
        sent_group = SubmitGroupRequest(
            group_client_id="g", mode=OcoMode.ONE_CANCELS_OTHER, orders=(sent,), stamp_ns=sent.stamp_ns
        )
        (shown,) = await guard.submit_group(sent_group)
        assert answer.order_qty == COIN
        assert (shown.order_qty, shown.price, shown.ord_status) == (None, None, answer.ord_status)


async def test_an_asset_changes_its_scale() -> None:
    """Only the symbols of that asset stop; its balance keeps the value at the old scale."""
    async with field_lab() as lab:

        async def assets() -> list[AssetMetadata]:
            return [AssetMetadata(asset_id=name, decimals=6 if name == "ETH" else 8) for name in lab.venue.balances]

        lab.venue.assets = assets  # type: ignore[method-assign]
        lab.venue.balances["ETH"] //= 100
        await reconnected(lab)
        await lab.kernel.place_order(order(), intent_id="a")
        await lab.kernel.place_order(order(symbol_id="ETHUSDT"), intent_id="b", wait="recorded")
        await asyncio.sleep(100)
        assert [item.order.symbol_id for item in lab.venue.open_orders()] == ["BTCUSDT"]
        assert {*lab.findings()} == {"SYMBOL_QUARANTINED"}
        assert "the venue shows ETH with 6 decimals, the log has 8" in lab.findings()["SYMBOL_QUARANTINED"]


async def test_a_delisted_symbol_is_closed() -> None:
    """A symbol that is gone counts as closed: its orders wait, those of others do not, and it may come back."""
    async with field_lab() as lab:
        await lab.kernel.place_order(order(symbol_id="ETHUSDT"), intent_id="a")
        lab.venue.all_symbols = [BTCUSDT]
        await reconnected(lab)
        assert (await lab.kernel.get_symbol_metadata("ETHUSDT")).status is SymbolStatus.CLOSED
        assert "the venue no longer lists it" in lab.findings()["SYMBOL_QUARANTINED"]
        await lab.kernel.place_order(order(symbol_id="ETHUSDT"), intent_id="b", wait="recorded")
        await lab.kernel.place_order(order(), intent_id="c")
        await lab.kernel.cancel_order("a")
        assert (lab.venue.count("submit"), lab.venue.count("cancel")) == (2, 1)
        lab.venue.all_symbols = [BTCUSDT, ETHUSDT]
        await asyncio.sleep(61)  # a symbol that does not trade is looked at with each relist
        assert (await lab.kernel.get_order_state("b")).status.ord_status is OrdStatus.NEW
        assert not lab.findings()


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(
    "wrong",
    [{"tick_size": None}, {"lot_size": "x"}, {"quantity_decimals": 40}, {"min_quantity": 10**25}, {"status": "WEIRD"},
     {"base_asset": None}, {"order_types": None}, {"max_quantity": 1}],
    ids=str,
)  # fmt: skip
async def test_malformed_data_of_one_symbol(wrong: dict[str, Any], known: bool) -> None:
    """Data that no symbol can have, from the start or later, stop that symbol alone, and are never recorded."""
    venue = FieldVenue(LoopClock(), VenueCapabilities())
    venue.all_symbols = [BTCUSDT, ETHUSDT] if known else changed(**wrong)
    async with field_lab(venue=venue) as lab:
        venue.all_symbols = changed(**wrong)
        await reconnected(lab)
        assert "nothing is placed in ETHUSDT: its data are malformed: " in lab.findings()["SYMBOL_QUARANTINED"]
        await lab.kernel.place_order(order(), intent_id="a")
        await lab.kernel.cancel_order("a")
        if known:
            await lab.kernel.place_order(order(symbol_id="ETHUSDT"), intent_id="b", wait="recorded")
            await asyncio.sleep(5)
        assert venue.count("submit") == 1
        venue.all_symbols = [BTCUSDT, ETHUSDT]
        await reconnected(lab)
        await lab.kernel.place_order(order(symbol_id="ETHUSDT"), intent_id="c")
        assert lab.findings() == {}


async def test_contradicting_data_of_a_symbol() -> None:
    """A symbol that is listed twice with different data stops; an empty list closes nothing."""
    async with field_lab() as lab:
        lab.venue.all_symbols = [BTCUSDT, ETHUSDT, structs.replace(ETHUSDT, tick_size=10)]
        await reconnected(lab)
        assert "the venue lists it twice, with different data" in lab.findings()["SYMBOL_QUARANTINED"]
        lab.venue.all_symbols = []
        await reconnected(lab)
        await lab.kernel.place_order(order(), intent_id="a")
        assert len(lab.venue.open_orders()) == 1


async def test_only_the_symbols_that_are_used_are_recorded() -> None:
    """Of thousands of symbols the log has those that the setting names, however often they are listed and change."""
    many = [structs.replace(BTCUSDT, symbol_id=f"S{number}USDT", base_asset=f"S{number}") for number in range(3_000)]
    settings = KernelSettings(symbols=frozenset({"BTCUSDT", "S7USDT"}), reference_interval_s=60)
    venue = FieldVenue(LoopClock(), VenueCapabilities(), all_symbols=[BTCUSDT, *many])
    async with field_lab(settings=settings, venue=venue) as lab:
        venue.all_symbols = [BTCUSDT, *(structs.replace(item, tick_size=5) for item in many)]
        await asyncio.sleep(130)
        assert await lab.kernel.list_symbols() == ["BTCUSDT", "S7USDT"]
        observed = await lab.log.read_stream(REFERENCE_STREAM)
        assert sum(isinstance(event, SymbolObserved) for event in observed) == 3
        with pytest.raises(ValidationError, match="symbol `S8USDT` is not known"):
            await lab.kernel.place_order(order(symbol_id="S8USDT"))
        await lab.kernel.place_order(order(symbol_id="S7USDT"), intent_id="a")
        assert len(venue.open_orders()) == 1


async def test_a_contract_is_refused_by_name() -> None:
    """A symbol that is no spot pair takes no order, and the error says why."""
    perpetual = structs.replace(BTCUSDT, symbol_id="BTCUSDT-PERP", contract="perpetual")
    async with field_lab() as made:
        venue = FieldVenue(made.venue.clock, made.venue.capabilities, all_symbols=[BTCUSDT, perpetual])
    async with field_lab(venue=venue) as lab:
        with pytest.raises(ValidationError, match="BTCUSDT-PERP is a perpetual contract; only spot is supported"):
            await lab.kernel.place_order(order(symbol_id="BTCUSDT-PERP"))
        await lab.kernel.place_order(order())
        assert venue.count("submit") == 1


async def test_reference_data_that_cannot_be_recorded() -> None:
    """An append that fails after a reconnect is made again by the next session, and trading goes on."""
    async with field_lab() as lab:
        real, failures = lab.log.append, 0

        async def append(command: Append) -> Appended:
            nonlocal failures
            if command.writes[0].stream_id == REFERENCE_STREAM and not failures:
                failures += 1
                raise LogUnavailableError("the database is down")
            return await real(command)

        lab.log.append = append  # type: ignore[method-assign]
        lab.venue.all_symbols = changed(tick_size=10)
        await reconnected(lab)
        await asyncio.sleep(30)
        assert failures == 1
        await lab.kernel.wait_ready(1)
        await lab.kernel.place_order(order(), intent_id="a")
        assert len(lab.venue.open_orders()) == 1
        lab.log.append = real  # type: ignore[method-assign]
