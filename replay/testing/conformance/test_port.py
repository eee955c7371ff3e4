"""Level 1: sessions, capabilities, reference data and lists, without an order."""

from __future__ import annotations

from kernel.errors import OutcomeUnknown, Rejected
from kernel.models import ExecType
from kernel.order_spec import OrderType
from kernel.values import as_json
from kernel.values.edge import validated
from kernel.venues.base import ExecutionReport, VenueCapabilities
from replay.testing.conformance.bench import CLOCK, TIMES, Bench
from replay.testing.conformance.kit import case

CLOCK_OFF_NS_MAX = 60_000_000_000


@case("P-01", level=1)
async def test_sessions(bench: Bench) -> None:
    """A session can be closed and opened again, and closing twice is no error."""
    for _ in range(TIMES):
        await bench.close()
        await bench.close()
        await bench.connect()
    assert (await bench.snapshot()).complete


@case("P-02", level=1)
async def test_capabilities(bench: Bench) -> None:
    """The capabilities survive a reconnect and the log."""
    before = bench.capabilities
    await bench.close()
    await bench.connect()
    assert bench.capabilities == before
    assert validated(as_json(before), VenueCapabilities) == before


@case("P-03", level=1)
async def test_symbols(bench: Bench) -> None:
    """Symbols and assets are the same each time, and each symbol's assets are known."""
    first = await bench.venue.symbols()
    assert len({item.symbol_id for item in first}) == len(first)
    for _ in range(TIMES):
        again = {item.symbol_id: item for item in await bench.venue.symbols()}
        for symbol in first:
            known = again[symbol.symbol_id]
            assert (known.price_decimals, known.quantity_decimals) == (symbol.price_decimals, symbol.quantity_decimals)
        assets = {item.asset_id for item in await bench.venue.assets()}
        assert {bench.symbol.base_asset, bench.symbol.quote_asset} <= assets


@case("P-04", level=1)
async def test_order_types(bench: Bench) -> None:
    """No symbol takes an order type or time in force that the capabilities lack."""
    for symbol in await bench.venue.symbols():
        assert symbol.order_types <= bench.capabilities.order_types
        assert symbol.times_in_force <= bench.capabilities.times_in_force
    assert OrderType.LIMIT in bench.symbol.order_types


@case("P-05", level=1)
async def test_snapshots(bench: Bench) -> None:
    """A snapshot begins before it ends and lists only open orders of the account."""
    for _ in range(TIMES):
        found = await bench.snapshot()
        assert found.complete
        assert found.began_ns <= found.ended_ns
        assert all(item.exec_type is ExecType.ORDER_STATUS for item in found.open_orders)
        assert all(item.fill_key for item in found.fills)


@case("P-06", level=1, ability="lists_balances")
async def test_balances(bench: Bench) -> bool:
    """Balances are listed, the quote asset's among them."""
    balances = (await bench.snapshot()).balances
    return balances is not None and bench.symbol.quote_asset in balances


@case("P-07", level=1, ability="tells_time")
async def test_time(bench: Bench) -> bool:
    """The venue tells its time."""
    try:
        told_ns = [await bench.venue.time_ns() for _ in range(TIMES)]
    except (OutcomeUnknown, Rejected):
        return False
    return told_ns == sorted(told_ns) and abs(told_ns[-1] - CLOCK.now_ns()) < CLOCK_OFF_NS_MAX


@case("P-08", level=1)
async def test_recorded(bench: Bench) -> None:
    """Any report can be recorded, one that the stream did not bring included."""
    for exec_type in (ExecType.NEW, ExecType.CANCELED) * TIMES:
        bench.venue.recorded(
            ExecutionReport(exec_type=exec_type, symbol_id=bench.symbol.symbol_id, client_order_id="x")
        )


@case("P-09", level=1)
async def test_an_unknown_order(bench: Bench) -> None:
    """A query of an order that never existed shows none, or says that it cannot be asked; it is no rejection."""
    for _ in range(TIMES):
        try:
            found = await bench.venue.order(bench.symbol.symbol_id, bench.new_id(), None)
        except OutcomeUnknown:
            assert not bench.capabilities.lookup
        else:
            assert found is None
