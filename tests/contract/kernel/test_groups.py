"""`place_order_group` at each kind of venue: what the orders of a group come to together, whatever fills first.

The whole kernel on the memory log and virtual time, with the paper exchange in this process; the kernel works the groups.
"""

from __future__ import annotations

import asyncio

import pytest

from kernel import events
from kernel.errors import AlreadyExistsError, ExchangeError, NotFoundError, Rejected, ValidationError
from kernel.groups import MEMBERS_MAX
from kernel.log.engine.records import event_of
from kernel.models import FindingKind, ReconciliationStatus
from kernel.order_spec import OcoMode, StandardOrder, StandardOrderGroup
from kernel.settings import KernelSettings, LimitSettings
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


async def excess_told(bench: Bench) -> list[str]:
    """The group overfills that stand."""
    found = bench.kernel.state.findings()
    return [item.text for item in found if item.kind is FindingKind.GROUP_OVERFILL and item.resolved_at_ns is None]


@virtual_time
@every_dialect
async def test_a_group_is_recorded_whole_and_each_order_works(dialect: str) -> None:
    """One append has the group and its intents, the group first; the ids come back in order, and both orders work."""
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
    """After a fill of one leg the other is gone, the first goes on to its end, and nothing more than that was traded."""
    async with a_bench(dialect) as bench:
        await bench.kernel.place_order_group(group(OCO, bid(5), ask(5)), group_id="exit")
        await traded(bench, LAST - 100_001, 2)
        await at_rest(bench)
        assert await open_lots(bench) == [(3, LAST - 100_000)]
        await traded(bench, LAST - 100_001, 3)
        await at_rest(bench)
        assert await open_lots(bench) == []
        assert await excess_told(bench) == []
        state = await bench.kernel.get_order_state("exit.2")
        assert (state.status.cum_qty, state.reconciliation_status) == (0, ReconciliationStatus.SYNCED)


@virtual_time
@every_dialect
async def test_each_fill_shrinks_the_others(dialect: str) -> None:
    """Of ten that are to be traded either way, two filled here leave eight there; in the end it is ten, no more."""
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
        assert await excess_told(bench) == []


@virtual_time
async def test_a_sibling_that_can_not_be_shrunk_is_placed_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the venue refuses the change that a fill asks for, the order is canceled, so that nothing can be had twice, and
    what is left of it is placed: nobody else would ask for it again."""
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
async def test_the_children_are_what_the_parent_filled(dialect: str) -> None:
    """Nothing of a bracket's children works before the parent has filled; then they work for what it has, no more, and
    share it between them."""
    async with a_bench(dialect) as bench:
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
        assert position.quantity == -len(await excess_told(bench)) * 6 * LOT


@virtual_time
@every_dialect
async def test_what_the_parent_fills_before_its_end_stays_covered(dialect: str) -> None:
    """Canceled after four of ten, the parent leaves children for four; canceled before any, none is ever placed."""
    async with a_bench(dialect) as bench:
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
async def test_what_is_too_small_waits_for_more(dialect: str) -> None:
    """A first fill that is too small for an order of its own is no refusal: with the next one the children are placed."""
    async with a_bench(dialect) as bench:
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
async def test_what_is_left_too_small_does_not_keep_more_at_work(dialect: str) -> None:
    """Where a sibling's fills leave a child less than the market takes, the child goes, also while the parent may release
    more; with more, it is placed again."""
    async with a_bench(dialect) as bench:
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
async def test_both_legs_filled_is_told_with_the_excess(dialect: str) -> None:
    """Two legs that fill before either report is here exceed the wish by the later one's fill: that is a finding, and
    nothing works any more."""
    async with a_bench(dialect, **SLOW) as bench:
        await bench.kernel.place_order_group(group(OCO, bid(5), ask(5)), group_id="exit")
        await traded(bench, LAST - 100_001, 5)
        await traded(bench, LAST + 100_001, 3)
        await at_rest(bench)
        assert await open_lots(bench) == []
        (text,) = await excess_told(bench)
        assert text.startswith(f"{3 * LOT} more filled in the group exit")


@virtual_time
async def test_an_excess_that_was_dealt_with_is_told_again_only_when_it_grows() -> None:
    """The finding says what to do; resolved by an operator it stays so, also in a new fold, until more than that fills."""
    async with a_bench(**SLOW) as bench:
        await bench.kernel.place_order_group(group(OCO, bid(5), ask(5), ask(5, LAST + 200_000)), group_id="exit")
        await bench.kernel.pause()
        await traded(bench, LAST - 100_001, 5)
        await traded(bench, LAST + 100_001, 3)
        await at_rest(bench)
        (text,) = await excess_told(bench)
        assert text.endswith("`orderctl resolve --finding GROUP_OVERFILL:exit --evidence TEXT`")
        await bench.kernel.resolve_finding("GROUP_OVERFILL:exit", evidence="traded back")
        await bench.kernel.force_reconciliation()
        await at_rest(bench)
        assert await excess_told(bench) == []
        assert (await bench.log.read_stream(events.group_stream("exit")))[-1].actor == "strategy:default"
        again = State()
        async for page in bench.log.read():
            again.apply([event_of(row) for row in page])
        assert isinstance(bench.kernel.state, State)
        assert again.digest() == bench.kernel.state.digest()

        await traded(bench, LAST + 100_001, 1)
        await at_rest(bench)
        (text,) = await excess_told(bench)
        assert text.startswith(f"{4 * LOT} more filled")


@virtual_time
@every_dialect
async def test_a_bust_gives_back(dialect: str) -> None:
    """A busted fill of one leg of two that shrink each other is taken out of the other's account too."""
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
async def test_a_child_that_is_refused_leaves_the_other(dialect: str) -> None:
    """Where there are funds for one child only, the other's strategy sees that it was refused, and the one works."""
    async with a_bench(dialect, balances={"BTC": 0, "USDT": RICH}, maker_fee_bps=0) as bench:
        ids = await bench.kernel.place_order_group(bracket(), group_id="entry")
        await traded(bench, LAST - 1, 10)
        await at_rest(bench)
        states = [await bench.kernel.get_order_state(name) for name in ids[1:]]
        failed = [item for item in states if item.reconciliation_status is ReconciliationStatus.FAILED]
        assert len(failed) == 1
        assert len(await open_lots(bench)) == 1


@virtual_time
@every_dialect
async def test_an_answer_lost_between_the_legs_is_found_out(dialect: str) -> None:
    """A leg whose answer was lost, and whose sibling fills meanwhile, does not stay at the venue."""
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
    """Other terms for a child hold when it is released; a canceled one is never placed."""
    async with a_bench() as bench:
        ids = await bench.kernel.place_order_group(bracket(), group_id="entry")
        await bench.kernel.modify_order(ids[1], ask(10, LAST + 150_000))
        await bench.kernel.cancel_order(ids[2])
        await traded(bench, LAST - 1, 10)
        await at_rest(bench)
        assert await open_lots(bench) == [(10, LAST + 150_000)]


@virtual_time
async def test_what_a_leader_would_release_is_canceled_with_all() -> None:
    """`cancel_all_orders` counts the children too, and a fill that was on its way releases none of them."""
    async with a_bench(**SLOW) as bench:
        await bench.kernel.place_order_group(bracket(), group_id="entry")
        assert await bench.kernel.cancel_all_orders() == 3
        await traded(bench, LAST - 1, 4)
        await at_rest(bench)
        assert await open_lots(bench) == []


@virtual_time
async def test_the_same_group_again_is_no_event() -> None:
    """A strategy's own retry returns the ids; another group under the same name is an error."""
    async with a_bench() as bench:
        ids = await bench.kernel.place_order_group(bracket(), group_id="entry")
        head = await bench.log.head()
        assert await bench.kernel.place_order_group(bracket(), group_id="entry") == ids
        assert (await bench.log.head()).position == head.position
        for other in (bracket(9), group(OUO, *bracket().orders)):
            with pytest.raises(AlreadyExistsError, match="already exists with other orders"):
                await bench.kernel.place_order_group(other, group_id="entry")


@virtual_time
async def test_an_intent_that_exists_is_not_taken_into_a_group() -> None:
    """A name that is taken refuses the whole group."""
    async with a_bench() as bench:
        await bench.kernel.place_order(bid(), intent_id="mine")
        with pytest.raises(AlreadyExistsError, match="mine already exists"):
            await bench.kernel.place_order_group(group(OCO, bid(), ask()), intent_ids=["yours", "mine"])
        with pytest.raises(NotFoundError):
            await bench.kernel.get_order_intent("yours")


@virtual_time
@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (group(OCO, bid()), "at least 2 for ONE_CANCELS_OTHER"),
        (group(OTO, bid()), "a parent and at least one child"),
        (
            group(OCO, bid(), ask().model_copy(update={"symbol_id": "ETHUSDT"})),
            "ETHUSDT is not BTCUSDT, the symbol of the group",
        ),
        (group(OUO, bid(), bid(0 + 1, LAST).model_copy(update={"price": LAST + 1, "quantity": LOT + 1})), "orders[1]"),
        (group(OUO, *[bid(1, LAST - 100_000 - step) for step in range(MEMBERS_MAX + 1)]), f"at most {MEMBERS_MAX}"),
    ],
    ids=["one leg", "no child", "two symbols", "off the lot", "too many"],
)
async def test_what_does_not_fit_is_refused_whole(wrong: StandardOrderGroup, told: str) -> None:
    """One order that does not fit, or a group that is none, is told with its place, and nothing is recorded."""
    async with a_bench() as bench:
        head = await bench.log.head()
        with pytest.raises(ValidationError) as caught:
            await bench.kernel.place_order_group(wrong, group_id="entry")
        assert told in str(caught.value)
        assert (await bench.log.head()).position == head.position


@virtual_time
async def test_a_leg_that_is_refused_is_told() -> None:
    """The venue's definitive no to one leg raises with its intent id; the other works on."""
    async with a_bench(balances={"BTC": 0, "USDT": RICH}) as bench:
        with pytest.raises(ExchangeError, match="insufficient balance") as caught:
            await bench.kernel.place_order_group(group(OCO, bid(5), ask(5)), group_id="exit")
        assert caught.value.intent_id == "exit.2"
        assert await open_lots(bench) == [(5, LAST - 100_000)]


@virtual_time
async def test_what_is_held_back_counts_for_the_limits() -> None:
    """Two followers that may both fill count for their excess from the beginning: nothing else can use it up."""
    limits = LimitSettings.model_validate({"default": {"position_max": "0.0015"}})
    sold = group(OTO, ask(10, LAST + 100_000), bid(10, LAST - 100_000), bid(10, LAST - 200_000))
    async with a_bench(settings=KernelSettings(limits=limits)) as bench:
        await bench.kernel.place_order_group(sold, group_id="entry")
        await bench.kernel.place_order(bid(5))
        with pytest.raises(ValidationError, match="position_max"):
            await bench.kernel.place_order(bid(1))
