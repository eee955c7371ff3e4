"""`place_order_group` at each kind of venue: what the orders of a group come to together, whatever fills first.

The whole kernel on the memory log and virtual time, with the paper exchange in this process; the kernel works the groups.
"""

from __future__ import annotations

import asyncio

import pytest
from msgspec import structs

from kernel import events
from kernel.errors import AlreadyExistsError, ExchangeError, NotFoundError, Rejected, ValidationError
from kernel.groups import MEMBERS_MAX
from kernel.log.engine.records import event_of
from kernel.models import FindingKind, ReconciliationStatus
from kernel.order_spec import OcoMode, StandardOrder, StandardOrderGroup
from kernel.safety.limit_settings import LimitSettings
from kernel.settings import KernelSettings
from kernel.venues.base import ExecutionReport, ModifyRequest
from kernel.venues.paper.faults import fault
from projections import State
from tests.contract.bench import LAST, LOT, Bench, a_bench, ask, bid, every_dialect, virtual_time

OCO, OUO, OTO = OcoMode.ONE_CANCELS_OTHER, OcoMode.ONE_UPDATES_OTHER, OcoMode.ONE_TRIGGERS_OTHER
LATENCY_NS = 50_000_000
RICH = 10**16
SLOW = {"request_latency_ns": LATENCY_NS, "answer_latency_ns": LATENCY_NS}


def group(mode: OcoMode, *orders: StandardOrder) -> StandardOrderGroup:
    """Orders that depend on each other."""
    return StandardOrderGroup(orders=orders, mode=mode)


def bracket(lots: int = 10) -> StandardOrderGroup:
    """A bid at the market, and two asks above it that share what it fills."""
    return group(OTO, bid(lots, LAST), ask(lots, LAST + 100_000), ask(lots, LAST + 200_000))


async def traded(bench: Bench, price: int, lots: int) -> None:
    """The tape trades so much at a price."""
    await bench.venue.admin("trade", symbol_id="BTCUSDT", price=price, quantity=lots * LOT)


async def at_rest(bench: Bench) -> None:
    """Until everything has been answered and made good."""
    await asyncio.sleep(10)


async def open_lots(bench: Bench) -> list[tuple[int, int]]:
    """What is left to fill of each open order, in lots, and its price, by price."""
    return sorted(((total - filled) // LOT, price) for total, filled, price in await bench.works())


async def overfill_texts(bench: Bench) -> list[str]:
    """The group overfills that stand."""
    found = bench.kernel.state.findings()
    return [item.text for item in found if item.kind is FindingKind.GROUP_OVERFILL and item.resolved_at_ns is None]


@virtual_time
@every_dialect
async def test_a_group_is_recorded_whole_and_each_order_works(dialect: str) -> None:
    """One append has the group and then its intents; the ids come back in order, and both orders work."""
    async with a_bench(dialect) as bench:
        ids = await bench.kernel.place_order_group(group(OCO, bid(5), ask(5)), group_id="exit")
        assert ids == ["exit.1", "exit.2"]
        assert await open_lots(bench) == [(5, LAST - 100_000), (5, LAST + 100_000)]
        stream = await bench.log.read_stream(events.group_stream("exit"))
        created = stream[0]
        members = [(await bench.log.read_stream(events.intent_stream(name)))[0].position for name in ids]
        assert members == [created.position + 1, created.position + 2]
        assert [item.intent_id for item in await bench.kernel.intent_store.get_intents_by_group("exit")] == ids


@virtual_time
@every_dialect
async def test_the_first_fill_cancels_the_others(dialect: str) -> None:
    """After a fill of one leg the other is gone, and the first goes on to its end."""
    async with a_bench(dialect) as bench:
        await bench.kernel.place_order_group(group(OCO, bid(5), ask(5)), group_id="exit")
        await traded(bench, LAST - 100_001, 2)
        await at_rest(bench)
        assert await open_lots(bench) == [(3, LAST - 100_000)]
        await traded(bench, LAST - 100_001, 3)
        await at_rest(bench)
        assert await open_lots(bench) == []
        assert await overfill_texts(bench) == []
        state = await bench.kernel.get_order_state("exit.2")
        assert (state.status.cum_qty, state.reconciliation_status) == (0, ReconciliationStatus.SYNCED)


@virtual_time
@every_dialect
async def test_each_fill_reduces_the_others(dialect: str) -> None:
    """Of ten to trade on either leg, two filled on one leave eight on the other; in the end it is ten."""
    async with a_bench(dialect) as bench:
        await bench.kernel.place_order_group(group(OUO, bid(10), ask(10)), group_id="either")
        await traded(bench, LAST - 100_001, 2)
        await at_rest(bench)
        assert await open_lots(bench) == [(8, LAST - 100_000), (8, LAST + 100_000)]
        state = await bench.kernel.get_order_state("either.2")
        assert state.reconciliation_status is ReconciliationStatus.SYNCED
        await traded(bench, LAST + 100_001, 8)
        await at_rest(bench)
        assert await open_lots(bench) == []
        assert await overfill_texts(bench) == []


@virtual_time
async def test_a_sibling_that_cannot_be_reduced_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the venue rejects the reduction after a fill, the order is canceled and the rest placed again."""
    async with a_bench("in place") as bench:
        await bench.kernel.place_order_group(group(OUO, bid(10), ask(10)), group_id="either")

        async def refuse(request: ModifyRequest) -> ExecutionReport:
            raise Rejected("no changes today")

        monkeypatch.setattr(bench.venue, "modify", refuse)
        await traded(bench, LAST - 100_001, 2)
        await at_rest(bench)
        assert await open_lots(bench) == [(8, LAST - 100_000), (8, LAST + 100_000)]


@virtual_time
@every_dialect
async def test_children_work_for_the_parents_fills(dialect: str) -> None:
    """Children of a bracket work only for what the parent has filled, and reduce each other."""
    async with a_bench(dialect, maker_fee_bps=0) as bench:
        ids = await bench.kernel.place_order_group(bracket(), group_id="entry")
        assert await open_lots(bench) == [(10, LAST)]
        with pytest.raises(NotFoundError):
            await bench.kernel.get_order_state(ids[1])
        for lots in (1, 4, 5):
            await traded(bench, LAST - 1, lots)
            await at_rest(bench)
        assert await open_lots(bench) == [(10, LAST + 100_000), (10, LAST + 200_000)]
        await traded(bench, LAST + 100_001, 4)
        await at_rest(bench)
        assert await open_lots(bench) == [(6, LAST + 100_000), (6, LAST + 200_000)]
        await traded(bench, LAST + 200_001, 6)
        await at_rest(bench)
        assert await open_lots(bench) == []
        (position,) = await bench.kernel.get_positions("BTCUSDT")
        assert position.quantity == -len(await overfill_texts(bench)) * 6 * LOT


@virtual_time
@every_dialect
async def test_a_canceled_parent_leaves_children_for_its_fills(dialect: str) -> None:
    """Canceled after four of ten, the parent leaves children for four; canceled before any fill, none."""
    async with a_bench(dialect, maker_fee_bps=0) as bench:
        ids = await bench.kernel.place_order_group(bracket(), group_id="entry")
        await traded(bench, LAST - 1, 4)
        await bench.kernel.cancel_order(ids[0])
        await at_rest(bench)
        assert await open_lots(bench) == [(4, LAST + 100_000), (4, LAST + 200_000)]
        other = await bench.kernel.place_order_group(bracket(), group_id="never")
        await bench.kernel.cancel_order(other[0])
        await at_rest(bench)
        assert await open_lots(bench) == [(4, LAST + 100_000), (4, LAST + 200_000)]
        assert not set(other) & set(bench.kernel.state.live_intent_ids())


@virtual_time
@every_dialect
async def test_a_child_below_the_minimum_waits(dialect: str) -> None:
    """A first fill below the symbol's minimum is no rejection: the next one places the children."""
    async with a_bench(dialect, maker_fee_bps=0) as bench:
        ids = await bench.kernel.place_order_group(bracket(), group_id="entry")
        await bench.venue.admin("trade", symbol_id="BTCUSDT", price=LAST - 1, quantity=LOT // 10)
        await at_rest(bench)
        assert await open_lots(bench) == [(9, LAST)]
        assert bench.kernel.state.record(ids[1]).attempts == ()
        await bench.venue.admin("trade", symbol_id="BTCUSDT", price=LAST - 1, quantity=2 * LOT - LOT // 10)
        await at_rest(bench)
        assert await open_lots(bench) == [(2, LAST + 100_000), (2, LAST + 200_000), (8, LAST)]


@virtual_time
@every_dialect
async def test_a_child_reduced_below_the_minimum_is_canceled(dialect: str) -> None:
    """A child reduced below the symbol's minimum is canceled, even while the parent may release more."""
    async with a_bench(dialect, maker_fee_bps=0) as bench:
        await bench.kernel.place_order_group(bracket(), group_id="entry")
        await traded(bench, LAST - 1, 5)
        await at_rest(bench)
        await bench.venue.admin("trade", symbol_id="BTCUSDT", price=LAST + 100_001, quantity=5 * LOT - LOT // 10)
        await at_rest(bench)
        assert {price for _, price in await open_lots(bench)} == {LAST, LAST + 100_000}
        await traded(bench, LAST - 1, 5)
        await at_rest(bench)
        assert {price for _, price in await open_lots(bench)} == {LAST + 100_000, LAST + 200_000}


@virtual_time
@every_dialect
async def test_an_overfill_is_a_finding_with_the_excess(dialect: str) -> None:
    """Two legs that fill before either report exceed the group by the later fill: a finding names it."""
    async with a_bench(dialect, **SLOW) as bench:
        await bench.kernel.place_order_group(group(OCO, bid(5), ask(5)), group_id="exit")
        await traded(bench, LAST - 100_001, 5)
        await traded(bench, LAST + 100_001, 3)
        await at_rest(bench)
        assert await open_lots(bench) == []
        (text,) = await overfill_texts(bench)
        assert text.startswith("the group exit filled 0.00030000 more than")


@virtual_time
async def test_a_resolved_overfill_is_raised_again_only_if_it_grows() -> None:
    """A resolved overfill stays resolved, also in a new fold, until more fills, and again once that is busted."""
    async with a_bench(**SLOW) as bench:
        await bench.kernel.place_order_group(group(OCO, bid(5), ask(5), ask(5, LAST + 200_000)), group_id="exit")
        await bench.kernel.pause()
        await traded(bench, LAST - 100_001, 5)
        await traded(bench, LAST + 100_001, 3)
        await at_rest(bench)
        (text,) = await overfill_texts(bench)
        assert text.endswith("`orderctl resolve --finding GROUP_OVERFILL:exit --evidence TEXT`")
        await bench.kernel.resolve_finding("GROUP_OVERFILL:exit", evidence="traded back")
        await bench.kernel.force_reconciliation()
        await at_rest(bench)
        assert await overfill_texts(bench) == []
        assert (await bench.log.read_stream(events.group_stream("exit")))[-1].actor == "strategy:default"
        again = State()
        async for page in bench.log.read():
            again.apply([event_of(row) for row in page])
        assert isinstance(bench.kernel.state, State)
        assert again.digest() == bench.kernel.state.digest()

        await traded(bench, LAST + 100_001, 1)
        await at_rest(bench)
        (text,) = await overfill_texts(bench)
        assert text.startswith("the group exit filled 0.00040000 more")
        newest = (await bench.venue.truth())["trades"][-1]
        await bench.venue.admin("bust", trade_id=newest["trade_id"])
        await at_rest(bench)
        assert await overfill_texts(bench) == []
        assert len(await bench.log.read_stream(events.group_stream("exit"))) < 20


@virtual_time
@every_dialect
async def test_a_bust_returns_quantity_to_the_sibling(dialect: str) -> None:
    """A busted fill of one leg no longer reduces the other."""
    async with a_bench(dialect) as bench:
        await bench.kernel.place_order_group(group(OUO, bid(10), ask(10)), group_id="either")
        await traded(bench, LAST - 100_001, 2)
        await at_rest(bench)
        (trade,) = (await bench.venue.truth())["trades"]
        await bench.venue.admin("bust", trade_id=trade["trade_id"])
        await at_rest(bench)
        assert await open_lots(bench) == [(10, LAST - 100_000), (10, LAST + 100_000)]


@virtual_time
@every_dialect
async def test_a_rejected_child_leaves_the_other(dialect: str) -> None:
    """With funds for one child only, the first works, and the other is tried again until they suffice."""
    async with a_bench(dialect, balances={"BTC": 0, "USDT": RICH}, maker_fee_bps=0) as bench:
        ids = await bench.kernel.place_order_group(bracket(), group_id="entry")
        await traded(bench, LAST - 1, 10)
        await at_rest(bench)
        assert len(await open_lots(bench)) == 1
        states = [await bench.kernel.get_order_state(name) for name in ids[1:]]
        found = {item.reconciliation_status: item.intent_id for item in states}
        assert found.keys() == {ReconciliationStatus.SYNCED, ReconciliationStatus.BACKING_OFF}
        await bench.kernel.cancel_order(found[ReconciliationStatus.SYNCED])
        await asyncio.sleep(60)
        state = await bench.kernel.get_order_state(found[ReconciliationStatus.BACKING_OFF])
        assert state.reconciliation_status is ReconciliationStatus.SYNCED


@virtual_time
@every_dialect
async def test_a_leg_with_a_lost_answer_is_resolved(dialect: str) -> None:
    """A leg whose answer was lost while its sibling fills does not stay at the venue."""
    async with a_bench(dialect) as bench:
        await bench.venue.inject(fault("answer_lost", "submit"))
        await bench.kernel.place_order_group(group(OCO, bid(5), ask(5)), group_id="exit", wait="recorded")
        await asyncio.sleep(1)
        await traded(bench, LAST + 100_001, 5)
        await at_rest(bench)
        await at_rest(bench)
        assert await open_lots(bench) == []


@virtual_time
async def test_a_member_can_be_changed_and_canceled() -> None:
    """New terms of a child hold when it is released; a canceled one is never placed."""
    async with a_bench(maker_fee_bps=0) as bench:
        ids = await bench.kernel.place_order_group(bracket(), group_id="entry")
        await bench.kernel.modify_order(ids[1], ask(10, LAST + 150_000))
        await bench.kernel.cancel_order(ids[2])
        await traded(bench, LAST - 1, 10)
        await at_rest(bench)
        assert await open_lots(bench) == [(10, LAST + 150_000)]


@virtual_time
async def test_cancel_all_includes_unreleased_children() -> None:
    """`cancel_all_orders` counts unreleased children, and a late fill releases none of them."""
    async with a_bench(**SLOW) as bench:
        await bench.kernel.place_order_group(bracket(), group_id="entry")
        assert await bench.kernel.cancel_all_orders() == 3
        await traded(bench, LAST - 1, 4)
        await at_rest(bench)
        assert await open_lots(bench) == []


@virtual_time
async def test_repeating_a_group_makes_no_event() -> None:
    """Repeating the call returns the ids; another group with the same id is an error."""
    async with a_bench() as bench:
        ids = await bench.kernel.place_order_group(bracket(), group_id="entry")
        head = await bench.log.head()
        assert await bench.kernel.place_order_group(bracket(), group_id="entry") == ids
        assert (await bench.log.head()).position == head.position
        for other in (bracket(9), group(OUO, *bracket().orders)):
            with pytest.raises(AlreadyExistsError, match="already exists with other orders"):
                await bench.kernel.place_order_group(other, group_id="entry")


@virtual_time
async def test_a_taken_intent_id_rejects_the_group() -> None:
    """A taken intent id rejects the whole group."""
    async with a_bench() as bench:
        await bench.kernel.place_order(bid(), intent_id="mine")
        with pytest.raises(AlreadyExistsError, match="mine already exists"):
            await bench.kernel.place_order_group(group(OCO, bid(), ask()), intent_ids=["yours", "mine"])
        with pytest.raises(NotFoundError):
            await bench.kernel.get_order_intent("yours")


@virtual_time
@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (group(OCO, bid()), "at least 2 for ONE_CANCELS_OTHER"),
        (group(OTO, bid()), "a parent and at least one child"),
        (
            group(OCO, bid(), structs.replace(ask(), symbol_id="ETHUSDT")),
            "ETHUSDT is not BTCUSDT, the symbol of the group",
        ),
        (group(OUO, bid(), structs.replace(bid(0 + 1, LAST), price=LAST + 1, quantity=LOT + 1)), "orders[1]"),
        (group(OUO, *[bid(1, LAST - 100_000 - step) for step in range(MEMBERS_MAX + 1)]), f"at most {MEMBERS_MAX}"),
    ],
    ids=["one leg", "no child", "two symbols", "off the lot", "too many"],
)
async def test_an_invalid_group_is_rejected_whole(wrong: StandardOrderGroup, text: str) -> None:
    """An invalid order or group is named with its place, and nothing is recorded."""
    async with a_bench() as bench:
        head = await bench.log.head()
        with pytest.raises(ValidationError) as caught:
            await bench.kernel.place_order_group(wrong, group_id="entry")
        assert text in str(caught.value)
        assert (await bench.log.head()).position == head.position


@virtual_time
async def test_a_rejected_leg_raises() -> None:
    """The rejection of one leg raises with its intent id; the other works on."""
    async with a_bench(balances={"BTC": 0, "USDT": RICH}) as bench:
        with pytest.raises(ExchangeError, match="insufficient balance") as caught:
            await bench.kernel.place_order_group(group(OCO, bid(5), ask(5)), group_id="exit")
        assert caught.value.intent_id == "exit.2"
        assert await open_lots(bench) == [(5, LAST - 100_000)]


@virtual_time
async def test_unreleased_children_count_for_the_limits() -> None:
    """Children count with their excess from the start, so no other order can use up that limit."""
    limits = LimitSettings.model_validate({"default": {"position_max": "0.0015"}})
    sold = group(OTO, ask(10, LAST + 100_000), bid(10, LAST - 100_000), bid(10, LAST - 200_000))
    async with a_bench(settings=KernelSettings(limits=limits)) as bench:
        await bench.kernel.place_order_group(sold, group_id="entry")
        await bench.kernel.place_order(bid(5))
        with pytest.raises(ValidationError, match="position_max"):
            await bench.kernel.place_order(bid(1))
