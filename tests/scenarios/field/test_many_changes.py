"""An intent that is changed again and again: a change costs what the first did, and what ended long ago still counts."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec
import pytest

from kernel.lifecycle import settled_orders
from kernel.models import ExecType, OrdStatus
from kernel.venues.base import AmendDialect, ExecutionReport, ModifyRequest
from projections.sql.schema import FILLS
from replay.readmodel.sync import open_tables, sync_tables
from replay.views.describe import page
from tests.scenarios.field.lab import COIN, FieldOrder, Lab, field_lab, order

pytestmark = pytest.mark.looptime
LOT = COIN // 100
CHANGES = 80


def amended(lab: Lab, request: ModifyRequest, dialect: AmendDialect, *, keeps: bool) -> ExecutionReport:
    """The venue changes the order in place under the request's id, or replaces it, with its fills in the totals or not."""
    old = lab.venue.target(request)
    name, terms = old.client_order_id, request.order
    if dialect is AmendDialect.IN_PLACE:
        old.client_order_id, old.quantity, old.price = request.client_order_id, terms.quantity, terms.price
        return lab.venue.report(old, ExecType.REPLACED, orig_client_order_id=name)
    lab.venue.end(old, OrdStatus.CANCELED)
    quantity = terms.quantity if keeps else terms.quantity - old.cum_qty
    cum_qty = old.cum_qty if keeps else 0
    made = FieldOrder(f"r{request.client_order_id}", request.client_order_id, terms, quantity, terms.price, cum_qty)
    lab.venue.orders["BTCUSDT", made.id] = made
    return lab.venue.report(made, ExecType.REPLACED, orig_client_order_id=name)


async def changed(lab: Lab, times: range, *, fills: bool = False) -> None:
    """Change the order's price so often; each order trades a little."""
    for n in times:
        await lab.kernel.modify_order("o", order(price=6_000_000 + n % 50))
        await asyncio.sleep(1)
        if fills and n % 3 == 0:
            lab.venue.fill(lab.venue.open_orders()[-1], LOT // 100)
            await asyncio.sleep(1)
        for item in [item for item in lab.venue.orders.values() if not item.open][:-3]:  # the venue forgets them
            del lab.venue.orders[item.order.symbol_id, item.id]


@contextmanager
def counted_calls() -> Iterator[list[int]]:
    """Count the calls of the kernel's functions."""
    calls = [0]

    def count(frame: FrameType, event: str, _: Any) -> None:
        name = frame.f_code.co_filename
        calls[0] += event == "call" and ("/kernel/" in name or "/projections/" in name)

    known = sys.getprofile()
    sys.setprofile(count)
    try:
        yield calls
    finally:
        sys.setprofile(known)


@pytest.mark.parametrize(
    ("dialect", "keeps"),
    [
        (AmendDialect.NONE, False),
        (AmendDialect.IN_PLACE, False),
        *((AmendDialect.CANCEL_REPLACE, item) for item in (True, False)),
    ],
)
async def test_a_change_costs_what_the_first_did(dialect: AmendDialect, keeps: bool) -> None:
    """At every dialect, with fills in between; the order state and its size stay as small."""
    async with field_lab(amend=dialect, replace_keeps_cum_qty=keeps) as lab:
        lab.venue.on_modify = lambda request: amended(lab, request, dialect, keeps=keeps)
        await lab.kernel.place_order(order(), intent_id="o")
        await changed(lab, range(1, 12), fills=True)
        with counted_calls() as first:
            await changed(lab, range(12, 18), fills=True)
        size = len(msgspec.json.encode(await lab.kernel.get_order_state("o")))
        await changed(lab, range(18, CHANGES), fills=True)
        with counted_calls() as last:
            await changed(lab, range(CHANGES, CHANGES + 6), fills=True)
        state = await lab.kernel.get_order_state("o")
        assert last[0] < 1.1 * first[0]
        assert len(msgspec.json.encode(state)) < 1.1 * size
        assert (state.earlier_orders is None) == (dialect is AmendDialect.IN_PLACE)
        filled = ((CHANGES + 5) // 3) * (LOT // 100)
        assert (state.status.cum_qty, state.status.order.quantity, await lab.position()) == (filled, COIN, filled)
        assert lab.findings() == {}


@pytest.fixture(params=["settled", "kept"])
def kept(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Orders that ended long ago are settled, or all are kept: what follows is the same."""
    if request.param == "kept":
        monkeypatch.setattr(settled_orders, "KEPT", 10**6)


async def an_old_order(lab: Lab) -> FieldOrder:
    """An order that ended twenty changes ago."""
    await lab.kernel.place_order(order(), intent_id="o")
    await changed(lab, range(1, 4))
    (old,) = lab.venue.open_orders()
    await changed(lab, range(4, 24))
    lab.venue.orders["BTCUSDT", old.id] = old
    return old


@pytest.mark.usefixtures("kept")
async def test_a_fill_and_its_bust_long_after_the_end(tmp_path: Path) -> None:
    """It counts like any other, and less of the order works; so does its bust."""
    async with field_lab() as lab:
        old = await an_old_order(lab)
        trade = lab.venue.fill(old, LOT)
        await asyncio.sleep(60)
        state = await lab.kernel.get_order_state("o")
        assert (state.status.cum_qty, await lab.position()) == (LOT, LOT)
        assert [item.quantity for item in lab.venue.open_orders()] == [COIN - LOT]
        assert await fills_in_tables(lab, tmp_path) == [(LOT, 1)]
        lab.venue.trades.remove(trade)
        old.cum_qty = 0
        lab.venue.balances |= {"BTC": 100 * COIN, "USDT": 10**6 * COIN}
        lab.venue.tell(lab.venue.report(old, ExecType.TRADE_CANCEL, fill_key="bust", ref_fill_key=trade.fill_key))
        await asyncio.sleep(60)
        state = await lab.kernel.get_order_state("o")
        assert (state.status.cum_qty, await lab.position()) == (0, 0)
        assert [item.quantity for item in lab.venue.open_orders()] == [COIN]
        assert await fills_in_tables(lab, tmp_path) == [(LOT, 0)]


async def fills_in_tables(lab: Lab, directory: Path) -> list[tuple[int, int]]:
    """The quantity of each trade in the SQL tables, and whether it counts."""
    target = f"sqlite:///{directory}/tables.db"
    await sync_tables(lab.log, target)
    async with open_tables(lab.log, target, create=False) as store:
        active = store.active()
        assert active is not None
        places = FILLS.names.index("quantity"), FILLS.names.index("counts")
        return [(row[places[0]], row[places[1]]) for row in store.rows(FILLS, active.number)]


@pytest.mark.usefixtures("kept")
async def test_it_is_open_again() -> None:
    """An order that the venue shows open long after its end is canceled again (H21)."""
    async with field_lab() as lab:
        old = await an_old_order(lab)
        old.open, old.status = True, OrdStatus.NEW
        lab.venue.tell(lab.venue.report(old, ExecType.ORDER_STATUS))
        await asyncio.sleep(60)
        assert not old.open
        assert len(lab.venue.open_orders()) == 1


@pytest.mark.usefixtures("kept")
async def test_its_id_stands_for_another_order() -> None:
    """The venue gives its order id to an order of somebody else: that is found, and nothing counts for the intent (H25)."""
    async with field_lab() as lab:
        old = await an_old_order(lab)
        other = FieldOrder(old.id, "theirs", order(), COIN, 6_000_000)
        lab.venue.orders["BTCUSDT", old.id] = other
        lab.venue.tell(lab.venue.report(other, ExecType.NEW))
        await asyncio.sleep(5)
        lab.venue.fill(other, LOT)
        await asyncio.sleep(60)
        assert (await lab.kernel.get_order_state("o")).status.cum_qty == 0
        assert "ID_REUSED" in lab.findings()


@pytest.mark.usefixtures("kept")
async def test_a_fill_before_many_replaces() -> None:
    """A fill that is told twenty replaces later is in the totals of each of the orders since: it counts once."""
    async with field_lab(amend=AmendDialect.CANCEL_REPLACE, replace_keeps_cum_qty=True) as lab:
        lab.venue.on_modify = lambda request: amended(lab, request, AmendDialect.CANCEL_REPLACE, keeps=True)
        await lab.kernel.place_order(order(), intent_id="o")
        await changed(lab, range(1, 4))
        (old,) = lab.venue.open_orders()
        trade = lab.venue.fill(old, LOT, tell=False)
        await changed(lab, range(4, 24))
        lab.venue.tell(trade)
        await asyncio.sleep(60)
        state = await lab.kernel.get_order_state("o")
        assert (state.status.cum_qty, await lab.position()) == (LOT, LOT)
        assert state.status.leaves_qty == COIN - LOT


async def test_a_store_writes_what_it_read() -> None:
    """The sum of earlier orders counts as the orders did; a lookup by the id of one of them finds the state."""
    async with field_lab() as lab:
        await lab.kernel.place_order(order(), intent_id="o")
        await asyncio.sleep(1)
        (old,) = lab.venue.open_orders()
        lab.venue.fill(old, LOT)
        await changed(lab, range(1, 24))
        store = lab.kernel.actual_store
        state = await store.get_order_state_by_exchange_id(old.id)
        assert state.earlier_orders is not None
        text = await page(lab.kernel, ("o",))
        assert f"{state.earlier_orders.count} earlier" in text
        await store.update_order_state(state)
        await asyncio.sleep(1)
        await changed(lab, range(24, 26))
        after = await lab.kernel.get_order_state("o")
        assert (after.status.cum_qty, after.status.order.quantity) == (LOT, COIN)
        assert [item.quantity for item in lab.venue.open_orders()] == [COIN - LOT]
