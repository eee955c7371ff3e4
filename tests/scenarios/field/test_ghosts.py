"""The venue no longer knows an order and never reported its end (H22): closed after two misses, with a finding."""

from __future__ import annotations

import asyncio

import pytest
from msgspec import structs

from kernel.errors import ConflictError, OutcomeUnknown
from kernel.models import AttemptOutcome, OrdStatus, ReconciliationStatus, UnsolicitedCancelPolicy
from kernel.order_spec import OrderType, StandardOrder
from kernel.venues.base import ReadLag, VenueSnapshot
from replay.testing import run_virtually
from tests.scenarios.field.lab import COIN, FieldVenue, Lab, field_lab, order

LOOKUPS = pytest.mark.parametrize("lookup", [True, False])


async def placed(lab: Lab, terms: StandardOrder | None = None, **policy: UnsolicitedCancelPolicy) -> None:
    await lab.kernel.place_order(terms or order(), intent_id="a", **policy)
    await asyncio.sleep(100)


def queries(lab: Lab) -> int:
    return lab.venue.count("order") + lab.venue.count("snapshot")


async def check_closed(lab: Lab, *, filled: int = 0) -> None:
    state = await lab.kernel.get_order_state("a")
    assert (state.status.ord_status, state.status.cum_qty) == (OrdStatus.CANCELED, filled)
    assert state.reconciliation_status is ReconciliationStatus.SYNCED
    assert not lab.kernel.state.live_intent_ids()


@LOOKUPS
@pytest.mark.parametrize("lag_s", [0, 5])
def test_a_purged_order_is_closed(lookup: bool, lag_s: int) -> None:
    """Neither listed nor found: canceled with what is known to be filled, and a finding; then nothing is asked."""

    async def main() -> None:
        lag = ReadLag(order_ns=lag_s * 10**9, open_orders_ns=lag_s * 10**9, trades_ns=lag_s * 10**9)
        async with field_lab(lookup=lookup, read_lag=lag) as lab:
            await placed(lab)
            lab.venue.orders.clear()
            await asyncio.sleep(300)
            await check_closed(lab)
            assert list(lab.findings()) == ["GHOST"]
            asked = lab.venue.count("order")
            await asyncio.sleep(3_600)
            assert lab.venue.count("order") == asked
            assert lab.venue.count("submit") == 1

    run_virtually(main)


@LOOKUPS
def test_a_partly_filled_ghost_keeps_its_fills(lookup: bool) -> None:
    """The trades decide the final quantity, also one that nobody reported, and RECREATE places the rest."""

    async def main() -> None:
        async with field_lab(lookup=lookup) as lab:
            await placed(lab, on_unsolicited_cancel=UnsolicitedCancelPolicy.RECREATE)
            item = lab.venue.orders["BTCUSDT", "1"]
            lab.venue.fill(item, COIN // 4)
            await asyncio.sleep(10)
            lab.venue.fill(item, COIN // 4, tell=False)
            lab.venue.orders.clear()
            await asyncio.sleep(300)
            assert "GHOST" in lab.findings()
            assert [left.quantity for left in lab.venue.open_orders()] == [COIN // 2]
            assert (lab.venue.count("submit"), await lab.position()) == (2, COIN // 2)

    run_virtually(main)


@LOOKUPS
def test_a_cancel_of_a_ghost_is_settled(lookup: bool) -> None:
    """The cancel finds nothing; the misses close the order and settle the cancel, with few questions."""

    async def main() -> None:
        async with field_lab(lookup=lookup) as lab:
            await placed(lab)
            lab.venue.orders.clear()
            asked = queries(lab)
            await lab.kernel.cancel_order("a")
            await asyncio.sleep(300)
            await check_closed(lab)
            assert queries(lab) - asked < 15
            assert lab.venue.count("cancel") == 1

    run_virtually(main)


@LOOKUPS
def test_one_wrong_list_closes_nothing(lookup: bool) -> None:
    """One list lacks the order, the next shows it: no second order, no end, no finding (H15c's hole)."""

    async def main() -> None:
        async with field_lab(lookup=lookup) as lab:
            await placed(lab, on_unsolicited_cancel=UnsolicitedCancelPolicy.RECREATE)
            whole = lab.venue.snapshot

            async def wrong(since_ns: int, symbols: object) -> VenueSnapshot:
                lab.venue.snapshot = whole  # type: ignore[method-assign]
                answer = await whole(since_ns, ())
                return structs.replace(answer, open_orders=())

            for _ in range(5):
                lab.venue.snapshot = wrong  # type: ignore[assignment,method-assign]
                await asyncio.sleep(120)
            assert (lab.venue.count("submit"), lab.findings(resolved=True)) == (1, {})
            state = await lab.kernel.get_order_state("a")
            assert (state.status.ord_status, state.reconciliation_status) == (
                OrdStatus.NEW, ReconciliationStatus.SYNCED,
            )  # fmt: skip

    run_virtually(main)


@LOOKUPS
def test_a_ghost_that_comes_back_is_live(lookup: bool) -> None:
    """Shown again by a later list: open, GHOST ends, FALSE_END is raised; STOP was told, so that it is canceled."""

    async def main() -> None:
        async with field_lab(lookup=lookup) as lab:
            await placed(lab)
            hidden = dict(lab.venue.orders)
            lab.venue.orders.clear()
            await asyncio.sleep(300)
            lab.venue.orders.update(hidden)
            await asyncio.sleep(200)
            assert not lab.venue.open_orders()
            assert {"GHOST", "FALSE_END"} <= lab.findings(resolved=True).keys()
            assert not lab.findings()

    run_virtually(main)


def test_a_list_without_stops_misses_no_stop() -> None:
    """A list that covers other kinds of orders says nothing about a stop."""

    class Apart(FieldVenue):
        async def snapshot(self, since_ns: int, symbols: object) -> VenueSnapshot:
            answer = await super().snapshot(since_ns, ())
            kinds = frozenset({OrderType.LIMIT, OrderType.MARKET})
            listed = tuple(item for item in answer.open_orders if item.price is not None)
            return structs.replace(answer, order_types=kinds, open_orders=listed)

    async def main() -> None:
        async with field_lab(venue_type=Apart) as lab:
            await placed(lab, order("SELL", kind="STOP", stop_price=5_000_000))
            await asyncio.sleep(600)
            state = await lab.kernel.get_order_state("a")
            assert (state.status.ord_status, lab.findings()) == (OrdStatus.NEW, {})
            assert lab.venue.count("submit") == 1

    run_virtually(main)


def test_the_operators_word_is_taken() -> None:
    """Where no list can be had, a cancel of a ghost stays UNKNOWN, with a finding and few questions, until an operator
    says that the order is gone."""

    async def main() -> None:
        async with field_lab() as lab:
            await placed(lab)
            lab.venue.orders.clear()
            whole = lab.venue.snapshot

            async def partial(since_ns: int, symbols: object) -> VenueSnapshot:
                answer = await whole(since_ns, ())
                return structs.replace(answer, complete=False, open_orders_complete=False, text="page 2")

            lab.venue.snapshot = partial  # type: ignore[assignment,method-assign]
            asked = lab.venue.count("order")
            await lab.kernel.cancel_order("a")
            await asyncio.sleep(600)
            assert "UNKNOWN_TOO_LONG" in lab.findings()
            assert lab.venue.count("order") - asked < 40
            await lab.kernel.resolve_attempt("a", AttemptOutcome.DEAD, evidence="it is not at the exchange")
            lab.venue.snapshot = whole  # type: ignore[method-assign]
            await asyncio.sleep(120)
            await check_closed(lab)
            assert "UNKNOWN_TOO_LONG" not in lab.findings()

    run_virtually(main)


def test_an_operator_may_repeat_what_the_kernel_found() -> None:
    """DEAD for an order that is closed already changes nothing; for one that works it is refused."""

    async def main() -> None:
        async with field_lab() as lab:
            await placed(lab)
            with pytest.raises(ConflictError, match="nothing to resolve"):
                await lab.kernel.resolve_attempt("a", AttemptOutcome.DEAD, evidence="a guess")
            lab.venue.orders.clear()
            await asyncio.sleep(300)
            await lab.kernel.cancel_order("a")
            await lab.kernel.resolve_attempt("a", AttemptOutcome.DEAD, evidence="it is not at the exchange")
            await asyncio.sleep(120)
            await check_closed(lab)

    run_virtually(main)


@pytest.mark.parametrize("looks", [2, 3])
def test_a_submit_is_absent_after_as_many_looks(looks: int) -> None:
    """Where lists err, a lost submit is dead only after `absence_looks` of them."""

    async def main() -> None:
        async with field_lab(lookup=False, absence_looks=looks) as lab:
            hidden = 0

            def lose(request: object) -> object:
                nonlocal hidden
                item = lab.venue.new_order(request)  # type: ignore[arg-type]
                item.open, hidden = False, looks - 1
                raise OutcomeUnknown("timeout")

            lab.venue.on_submit = lose  # type: ignore[assignment]
            whole = lab.venue.snapshot

            async def hiding(since_ns: int, symbols: object) -> VenueSnapshot:
                nonlocal hidden
                late = lab.kernel.state.record("a").unresolved
                if late and lab.venue.clock.now_ns() >= (late[0].absent_after_ns or 0):
                    if hidden == 0:
                        lab.venue.orders["BTCUSDT", "1"].open = True
                    hidden -= 1
                return await whole(since_ns, ())

            lab.venue.snapshot = hiding  # type: ignore[assignment,method-assign]
            await lab.kernel.place_order(order(), intent_id="a")
            lab.venue.on_submit = lab.venue.accept
            await asyncio.sleep(300)
            assert lab.venue.count("submit") == 1
            assert len(lab.venue.open_orders()) == 1

    run_virtually(main)
