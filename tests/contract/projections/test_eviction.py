"""Evicted intents: found by their ids on every backend, and handled like those in memory."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec import structs

from kernel import events
from kernel.clock import NS_PER_S
from kernel.errors import AlreadyExistsError, ConflictError, ExchangeError, NotFoundError
from kernel.events import VENUE_STREAM, OrderAccepted, OrderFilled, intent_stream
from kernel.lifecycle.findings import finding_id, raised
from kernel.log import EventLog
from kernel.log.base import Append, Write
from kernel.models import AttemptKind, Evidence, ExecType, FindingKind, OrdStatus
from kernel.order_spec import OcoMode, Side, StandardOrderGroup
from kernel.streams.event_writer import ReportSource
from kernel.streams.rehydration import load_streams
from kernel.streams.report_matching import match_report
from kernel.venues.base import ExecutionReport
from kernel.venues.paper.faults import fault
from projections import State
from projections.retention.policy import RetentionPolicy
from replay import diff
from replay.histories import state_diff
from replay.histories.state_diff import ChangeKind
from replay.log_access.log_reader import fold
from replay.log_access.state_source import HistoricState
from replay.views import conditions, describe, listing
from tests.commands import fresh_command_id
from tests.contract.bench import LAST, LOT, Bench, a_bench, ask, bid, virtual_time
from tests.folding import an_attempt, an_intent, an_order
from tests.recorded import log_of, simulated

SHORT = RetentionPolicy(intents_max=3, every_positions=10)
ODD = 'a"b\\c{%s}\u2028é'


async def record(log: EventLog, intent_id: str, *facts: events.BaseEvent) -> int:
    """Record facts about an intent; returns the last position."""
    write = Write(intent_stream(intent_id), facts)
    return (await log.append(Append(fresh_command_id(), (write,), "venue:x", Evidence.STREAM))).last_position


def accepted(client_id: str, order_id: str) -> OrderAccepted:
    """The venue accepted an order."""
    return OrderAccepted(
        intent_id="i", symbol_id="S", client_order_id=client_id, exchange_order_id=order_id, exec_type=ExecType.NEW
    )


async def test_the_log_finds_the_intent_of_an_id(log: EventLog) -> None:
    """The log finds an intent by client order id and venue order id, as of a position."""
    first = await record(log, "one", an_attempt(AttemptKind.SUBMIT, "c1", an_order()), accepted("c1", "7"))
    last = await record(log, "two", an_attempt(AttemptKind.CANCEL, ODD, an_order()), accepted(ODD, f"8{ODD}"))
    find = log.intent_ids_of
    assert await find(client_order_id="c1", upto=last) == ["one"]
    assert await find(client_order_id=ODD, upto=last) == ["two"]
    assert await find(exchange_order_id="7", upto=last) == ["one"]
    assert await find(exchange_order_id=f"8{ODD}", upto=last) == ["two"]
    assert await find(client_order_id="c1", exchange_order_id=f"8{ODD}", upto=last) == ["two", "one"]
    assert await find(client_order_id=ODD, upto=first) == []
    assert await find(client_order_id="c", exchange_order_id="9", upto=last) == []


async def grown(bench: Bench, *, orders: int = 20) -> None:
    """Place and cancel orders one after the other; the first one, `old`, is evicted by the end."""
    for number in range(orders):
        name = "old" if number == 0 else f"n{number}"
        await bench.kernel.place_order(bid(), intent_id=name)
        await bench.kernel.cancel_order(name)
    assert "old" not in {intent.intent_id for intent in await bench.kernel.get_all_intents()}


def report_of(bench: Bench, **given: Any) -> ExecutionReport:
    """A report about an order."""
    return ExecutionReport(symbol_id="BTCUSDT", **given)


@virtual_time
async def test_an_evicted_order_can_be_queried() -> None:
    """An evicted order is found by its id and by the venue order id; an unknown one is not."""
    async with a_bench(keeping=SHORT) as bench:
        await grown(bench)
        state = await bench.kernel.get_order_state("old")
        assert state.status.ord_status is OrdStatus.CANCELED
        assert (await bench.kernel.get_order_intent("old")).generation == 2
        assert state.exchange_order_id is not None
        assert await bench.kernel.actual_store.get_order_state_by_exchange_id(state.exchange_order_id) == state
        with pytest.raises(NotFoundError):
            await bench.kernel.get_order_state("never")


@virtual_time
async def test_trades_of_an_evicted_order_are_its_own() -> None:
    """An unexpected-trade finding is resolved by the next query, which shows that the order is an evicted intent's."""
    async with a_bench(keeping=SHORT) as bench:
        await grown(bench)
        order_id = (await bench.kernel.get_order_state("old")).exchange_order_id
        name = finding_id(FindingKind.UNEXPECTED_TRADE, str(order_id))
        unexpected = raised(name, FindingKind.UNEXPECTED_TRADE, "traded", symbol_id="BTCUSDT", now_ns=1)
        write = Write(VENUE_STREAM, (unexpected,))
        await bench.log.append(Append(fresh_command_id(), (write,), "venue:x", Evidence.STREAM))
        await asyncio.sleep(100)
        (finding,) = bench.kernel.state.findings()
        assert finding.resolution == "the order belongs to intent old"


@virtual_time
async def test_commands_about_an_evicted_order_are_answered() -> None:
    """The same order again is no event, another one and a modification are refused, another cancel succeeds."""
    async with a_bench(keeping=SHORT) as bench:
        await grown(bench)
        head = await bench.log.head()
        await bench.kernel.cancel_order("old")
        assert await bench.kernel.place_order(bid(), intent_id="old") == "old"
        with pytest.raises(AlreadyExistsError):
            await bench.kernel.place_order(bid(3), intent_id="old")
        with pytest.raises(ExchangeError, match="too late"):
            await bench.kernel.modify_order("old", bid(3))
        assert (await bench.log.head()).position == head.position
        with pytest.raises(NotFoundError):
            await bench.kernel.cancel_order("never")


@virtual_time
async def test_a_store_can_write_an_evicted_intent() -> None:
    """A store continues from the evicted generation; an older generation is a conflict."""
    async with a_bench(keeping=SHORT) as bench:
        await grown(bench)
        store = bench.kernel.intent_store
        intent = await store.get_intent("old")
        with pytest.raises(ConflictError):
            await store.update_intent(structs.replace(intent, generation=1))
        await store.delete_intent("old")
        with pytest.raises(NotFoundError):
            await store.get_intent("old")


@virtual_time
@pytest.mark.parametrize("by", ["client id", "venue id"])
async def test_a_late_fill_belongs_to_the_evicted_order(by: str) -> None:
    """A late trade is recorded in the order's stream and counted once in the position; it is not external."""
    async with a_bench(keeping=SHORT) as bench:
        await grown(bench)
        state = await bench.kernel.get_order_state("old")
        named = (
            {"client_order_id": state.client_order_id}
            if by == "client id"
            else {"exchange_order_id": state.exchange_order_id}
        )
        trade = report_of(
            bench, exec_type=ExecType.TRADE, side=Side.BUY, fill_key="late", last_qty=LOT, last_px=LAST, **named
        )
        leader = bench.kernel._runtime.leader
        assert leader is not None
        for _ in range(2):
            await leader.session.ingest([trade], ReportSource("venue:paper", Evidence.STREAM))
        fills = [event for event in await bench.log.read_stream(intent_stream("old")) if isinstance(event, OrderFilled)]
        assert [event.fill_key for event in fills] == ["late"]
        assert [item.quantity for item in await bench.kernel.get_positions()] == [LOT]
        assert [*bench.kernel.state.external_orders()] == []


@virtual_time
async def test_a_client_order_id_of_an_evicted_order_is_not_a_nameless_orders() -> None:
    """Where ids are given again, a trade under an evicted order's client order id is not that of an adopted order."""
    async with a_bench(keeping=SHORT) as bench:
        await grown(bench)
        old = await bench.kernel.get_order_state("old")
        order = bid()
        adopted = structs.replace(accepted("", str(old.exchange_order_id)), symbol_id=order.symbol_id)
        await record(bench.log, "ext", events.IntentCreated(intent=an_intent(order, "ext")), adopted)
        await bench.kernel.state.reached((await bench.log.head()).position)
        named = {"client_order_id": old.client_order_id, "exchange_order_id": old.exchange_order_id}
        trade = report_of(
            bench, exec_type=ExecType.TRADE, side=Side.BUY, fill_key="late", last_qty=LOT, last_px=LAST, **named
        )
        for margin_ns in (None, 1):
            found = await match_report(bench.log, bench.kernel.state, trade, margin_ns=margin_ns)
            assert found.intent_id == "old"


@virtual_time
async def test_a_trade_of_an_evicted_order_is_not_an_external_orders_with_its_id() -> None:
    """Where ids are given again, a trade without client order id is that of the order of its time, evicted or not."""
    async with a_bench(keeping=SHORT) as bench:
        await bench.kernel.place_order(bid(), intent_id="old")
        (old,) = (await bench.kernel.get_order_state("old")).venue_orders
        await bench.kernel.cancel_order("old")
        await asyncio.sleep(60)
        for number in range(20):
            await bench.kernel.place_order(bid(), intent_id=f"n{number}")
            await bench.kernel.cancel_order(f"n{number}")
        other = events.ExternalOrderObserved(
            symbol_id="BTCUSDT", exchange_order_id=old.exchange_order_id, exec_type=ExecType.NEW, side=Side.BUY
        )
        write = Write(VENUE_STREAM, (other,))
        await bench.log.append(Append(fresh_command_id(), (write,), "venue:x", Evidence.STREAM))
        await bench.kernel.state.reached((await bench.log.head()).position)
        trade = report_of(
            bench, exec_type=ExecType.TRADE, side=Side.BUY, fill_key="late", last_qty=LOT, last_px=LAST,
            exchange_order_id=old.exchange_order_id, transact_time_ns=old.first_seen_ns,
        )  # fmt: skip
        assert "old" not in {intent.intent_id for intent in await bench.kernel.get_all_intents()}
        found = await match_report(bench.log, bench.kernel.state, trade, margin_ns=NS_PER_S)
        assert found.intent_id == "old"


@virtual_time
async def test_an_evicted_group_is_rehydrated_whole() -> None:
    """Each order of an evicted group can be queried; the same group again is no event, another one is refused."""
    async with a_bench(keeping=SHORT) as bench:
        pair = StandardOrderGroup(orders=(bid(5), ask(5)), mode=OcoMode.ONE_CANCELS_OTHER)
        ids = await bench.kernel.place_order_group(pair, group_id="exit")
        await bench.venue.admin("trade", symbol_id="BTCUSDT", price=LAST - 100_001, quantity=5 * LOT)
        await asyncio.sleep(10)
        await grown(bench)
        assert bench.kernel.state.group("exit") is None
        states = [await bench.kernel.get_order_state(name) for name in ids]
        assert [item.status.ord_status for item in states] == [OrdStatus.FILLED, OrdStatus.CANCELED]
        head = await bench.log.head()
        assert await bench.kernel.place_order_group(pair, group_id="exit") == ids
        other = StandardOrderGroup(orders=(bid(6), ask(6)), mode=OcoMode.ONE_CANCELS_OTHER)
        with pytest.raises(AlreadyExistsError):
            await bench.kernel.place_order_group(other, group_id="exit")
        assert (await bench.log.head()).position == head.position


@virtual_time
async def test_a_sell_that_is_rehydrated_with_a_bracket_closes_nothing_of_it() -> None:
    """A sell of what was bought before closed nothing of a bracket, though these two alone look like it."""
    async with a_bench(keeping=SHORT) as bench:

        async def trade(price: int) -> None:
            await bench.venue.admin("trade", symbol_id="BTCUSDT", price=price, quantity=500 * LOT)
            await asyncio.sleep(10)

        await bench.kernel.place_order(bid(10), intent_id="bought")
        await trade(LAST - 100_001)
        bracket = StandardOrderGroup(orders=(bid(20), ask(20)), mode=OcoMode.ONE_TRIGGERS_OTHER)
        ids = await bench.kernel.place_order_group(bracket, group_id="b", wait="recorded")
        await asyncio.sleep(1)
        await trade(LAST - 100_001)
        await bench.kernel.place_order(ask(10, LAST + 50_000), intent_id="sold")
        await trade(LAST + 50_001)
        await trade(LAST + 100_001)
        await grown(bench)
        state = bench.kernel.state
        assert state.group("b") is None
        streams = [intent_stream(name) for name in (*ids, "sold")]
        state.cache_streams(await load_streams(bench.log.read_stream, streams, upto=state.position))
        group = state.group("b")
        assert group is not None
        assert group.others_filled("") > 0
        assert group.closed_qty == 0


@virtual_time
async def test_an_unresolved_order_is_never_evicted() -> None:
    """An order whose answer was lost stays in memory, whatever follows."""
    async with a_bench(keeping=SHORT, validity_window_ns=None) as bench:
        await bench.venue.inject(fault("request_lost", "submit"))
        await bench.kernel.place_order(bid(7), intent_id="unknown", wait="recorded")
        await grown(bench, orders=20)
        assert bench.kernel.state.record("unknown").unresolved
        assert "unknown" in {intent.intent_id for intent in await bench.kernel.get_all_intents()}


@virtual_time
async def test_an_evicted_order_is_shown_by_name() -> None:
    """`get NAME`, `describe NAME` and `wait` find an evicted order; a list has only those in memory."""
    async with a_bench(keeping=SHORT) as bench:
        await grown(bench)
        (item,) = (await listing.listing(bench.kernel, listing.query_of(["orders", "old"]))).items
        assert item.name == "old"
        names = [item.name for item in (await listing.listing(bench.kernel, listing.query_of(["orders"]))).items]
        assert "old" not in names
        assert "Status: CANCELED" in " ".join((await describe.page(bench.kernel, ["old"])).split()).replace(" :", ":")
        assert await conditions.wait_for(bench.kernel, "old", "canceled", timeout_s=0) == "canceled"


async def twenty_filled(log: EventLog) -> None:
    """Intents of two owners in turn, each filled at once: most are evicted by the end."""
    for number in range(20):
        name, owner = f"n{number}", "mm-1" if number % 2 else "mm-2"
        await record(
            log,
            name,
            events.IntentCreated(intent=structs.replace(an_intent(an_order(), name), owner=owner)),
            an_attempt(AttemptKind.SUBMIT, f"c{number}", an_order(), intent_id=name),
            a_fill(number, f"t{number}"),
        )


def a_fill(number: int, fill_key: str) -> OrderFilled:
    """A trade of the whole order of one intent."""
    trade: dict[str, Any] = {"side": Side.BUY, "last_qty": 100, "last_px": 10, "exec_type": ExecType.TRADE}
    ids = {"client_order_id": f"c{number}", "exchange_order_id": f"o{number}"}
    return OrderFilled(intent_id=f"n{number}", symbol_id="S", fill_key=fill_key, **trade, **ids)


async def test_the_fills_of_an_owner_are_complete(log: EventLog) -> None:
    """Fills of evicted and deleted intents are included, each once; those of other owners are not."""
    await twenty_filled(log)
    await record(log, "n5", events.IntentDeleted(intent_id="n5"))
    state = await fold(log, State(SHORT))
    assert state.evicted_count
    assert state.intent("n1") is None
    past = HistoricState(log, state, 0, 0)
    found = await listing.listing(past, listing.query_of(["fills"], owner="mm-1"))
    assert [item.name for item in found.items] == [f"t{number}" for number in range(1, 20, 2)]


@pytest.mark.parametrize("keeping", [RetentionPolicy(), SHORT], ids=["held", "let go"])
async def test_diff_knows_intents_evicted_before_both_points(
    log: EventLog, keeping: RetentionPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Changes of an evicted intent between two points are changes, not a new intent: a late fill, its eviction."""

    async def state_at(log: EventLog, position: int, **given: Any) -> State:
        return await fold(log, State(keeping), upto=position)

    monkeypatch.setattr(state_diff, "state_at", state_at)
    await twenty_filled(log)
    before = (await log.head()).position
    await record(log, "n1", a_fill(1, "late"))
    await record(log, "n2", events.IntentDeleted(intent_id="n2"))
    found = (await diff(log, before)).changes
    report_of = {(item.kind, item.name): item.change for item in found if item.kind in ("intent", "order")}
    assert report_of == {("order", "n1"): ChangeKind.CHANGED, ("intent", "n2"): ChangeKind.WENT}


@pytest.mark.parametrize("seed", [3, 7_100_001])
def test_diff_takes_no_evicted_intent_for_gone(seed: int) -> None:
    """`diff` reports evicted intents like a fold that evicts nothing does, whenever they were evicted."""
    recorded = simulated(seed)

    async def report_of(keeping: RetentionPolicy, a: int, b: int) -> dict[tuple[str, str], ChangeKind]:
        async def state_at(log: EventLog, position: int, **given: Any) -> State:
            return await fold(log, State(keeping), upto=position)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(state_diff, "state_at", state_at)
            found = await diff(log_of(recorded), a, b)
        return {(item.kind, item.name): item.change for item in found.changes if item.name in recalled}

    head = len(recorded.rows)
    recalled = {name.partition(":")[2] for name in {row[1] for row in recorded.rows}}
    for a, b in [(head // 3, 2 * head // 3), (0, head), (head, head // 2)]:
        touched = {row[1].partition(":")[2] for row in recorded.rows[min(a, b) : max(a, b)]}
        whole = asyncio.run(report_of(RetentionPolicy(), a, b))
        tight = asyncio.run(report_of(SHORT, a, b))
        assert {key: tight.get(key) for key in whole if key[1] in touched} == {
            key: change for key, change in whole.items() if key[1] in touched
        }
