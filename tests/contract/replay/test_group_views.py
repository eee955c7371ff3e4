"""What the views show of a group while the kernel works it, on the memory log and virtual time."""

from __future__ import annotations

from decimal import Decimal

import pytest

from kernel.clock import LoopClock
from kernel.commands.limit_gate import LimitGate
from kernel.errors import NotFoundError, WaitTimeoutError
from kernel.models import AttemptKind
from kernel.order_spec import OcoMode, StandardOrderGroup
from kernel.safety.limit_settings import Limits, LimitSettings
from replay.views.conditions import CONDITIONS, now_is, wait_for
from replay.views.describe import page
from replay.views.differences import differences
from replay.views.gauges import tally_of
from replay.views.listing import listing, query_of, watch
from tests.contract.bench import LAST, Bench, a_bench, ask, bid, virtual_time
from tests.contract.kernel.test_groups import at_rest, bracket, group, traded

OCO, OUO = OcoMode.ONE_CANCELS_OTHER, OcoMode.ONE_UPDATES_OTHER
PARENT, CHILD, OTHER = "entry.1", "entry.2", "entry.3"


async def placed(bench: Bench, wanted: StandardOrderGroup, name: str = "entry") -> list[str]:
    """Place a group; returns its intent ids."""
    return await bench.kernel.place_order_group(wanted, group_id=name, owner="mm")


def holding(bench: Bench, intent_id: str) -> set[str]:
    """The conditions that hold of an intent."""
    return {name for name, holds in CONDITIONS.items() if holds(bench.kernel.state, intent_id)}


async def rows(bench: Bench, *words: str, owner: str | None = None) -> list[tuple[str, ...]]:
    """The rows of `get`."""
    found = await listing(bench.kernel, query_of(words, owner=owner))
    return [line for item in found.items for line in item.lines]


@virtual_time
async def test_what_is_held_back_is_as_it_should_be() -> None:
    """An order held by its group is no difference, synced and not ended, and the page says what it waits for."""
    async with a_bench() as bench:
        await placed(bench, bracket())
        await bench.kernel.force_reconciliation()
        tally = await tally_of(bench.kernel.state, now_ns=2**62)

        assert differences(bench.kernel).items == ()
        assert (tally.differences.total(), tally.oldest_unsynced_ns) == (0, None)
        assert holding(bench, CHILD) == {"synced"}
        assert now_is(bench.kernel, CHILD) == "held until entry.1 fills"
        text = await page(bench.kernel, (CHILD,))
        assert "Permits:   0, held until entry.1 fills" in text
        assert "Difference: none, held until entry.1 fills" in text
        assert [line[7:9] for line in await rows(bench, "intents", CHILD)] == [("-", "SYNCED")]


@virtual_time
async def test_a_child_ends_when_nothing_more_is_released() -> None:
    """A partly released child that has filled ends only once its parent has ended."""
    async with a_bench(maker_fee_bps=0) as bench:
        await placed(bench, bracket())
        await traded(bench, LAST - 1, 4)
        await at_rest(bench)
        assert "released to 0.0004 by fills of entry.1, more may follow" in await page(bench.kernel, (CHILD,))
        await traded(bench, LAST + 100_001, 4)
        await at_rest(bench)
        assert holding(bench, CHILD) == {"synced"}
        assert "reduced to 0 by fills of entry.2" in await page(bench.kernel, (OTHER,))
        with pytest.raises(WaitTimeoutError, match="is not filled after 0 s"):
            await wait_for(bench.kernel, CHILD, "filled", timeout_s=0)

        await bench.kernel.cancel_order(PARENT)
        await at_rest(bench)

        assert await wait_for(bench.kernel, CHILD, "filled", timeout_s=0) == "filled"
        assert holding(bench, OTHER) == {"canceled", "terminal", "synced"}
        assert "Difference: none, the order is FILLED, released to 0.0004 by fills of entry.1\n" in await page(
            bench.kernel, (CHILD,)
        )


@virtual_time
async def test_children_of_a_parent_that_never_filled_have_ended() -> None:
    """The children of a canceled parent are terminal."""
    async with a_bench() as bench:
        await placed(bench, bracket())
        await bench.kernel.cancel_order(PARENT)

        assert await wait_for(bench.kernel, CHILD, "terminal", timeout_s=10) == "terminal"

        assert holding(bench, CHILD) == {"canceled", "terminal", "synced"}
        assert "the order is CANCELED, not released: entry.1 did not fill" in await page(bench.kernel, (CHILD,))


@virtual_time
async def test_the_leg_that_is_to_go_is_a_difference_until_it_is_gone() -> None:
    """After the first fill the other leg is a CANCEL difference with the reason, until it is canceled."""
    async with a_bench() as bench:
        await placed(bench, group(OCO, bid(5), ask(5)), "exit")
        await bench.kernel.pause()
        await traded(bench, LAST - 100_001, 2)
        await at_rest(bench)

        (item,) = differences(bench.kernel).items
        wanted = "nothing: canceled by the first fill of exit.1"
        assert (item.name, item.data["difference"], item.data["wanted"]) == ("exit.2", "CANCEL", wanted)
        assert f"Permits:   0, {wanted.removeprefix('nothing: ')}" in await page(bench.kernel, ("exit.2",))

        await bench.kernel.resume()
        await at_rest(bench)
        assert differences(bench.kernel).items == ()
        assert holding(bench, "exit.2") == {"canceled", "terminal", "synced"}
        assert holding(bench, "exit.1") == {"working", "synced"}


@virtual_time
async def test_what_is_shrunk_is_shown_as_it_is_wanted() -> None:
    """A pending change is shown with the quantity that the group permits."""
    async with a_bench() as bench:
        await placed(bench, group(OUO, bid(10), ask(10)), "either")
        await bench.kernel.pause()
        await traded(bench, LAST - 100_001, 3)
        await at_rest(bench)

        (item,) = differences(bench.kernel).items
        assert (item.data["difference"], item.data["wanted"]) == ("MODIFY", "SELL 0.0007 BTCUSDT at 62800.00")
        text = await page(bench.kernel, ("either.2",))
        assert "Permits:   0.0007, reduced to 0.0007 by fills of either.1" in text
        assert "Sibling:   either.1, filled 0.0003 of 0.001" in text
        await bench.kernel.resume()
        await at_rest(bench)
        stream = await bench.log.read_stream("intent:either.2")
        assert [event.kind for event in stream if event.topic == "AttemptStarted"][1:] == [AttemptKind.AMEND]


@virtual_time
async def test_an_excess_is_seen_where_one_looks() -> None:
    """If both legs fill, the group's row, its page and a finding of its owner show the excess."""
    async with a_bench() as bench:
        await placed(bench, group(OCO, bid(5), ask(5)), "exit")
        (row,) = await rows(bench, "groups")
        assert row[:7] == ("exit", OCO, "BTCUSDT", "2", "0/0", "0", "0.0005")
        assert row[8:11] == ("mm", "<none>", "exit.1,exit.2")
        await bench.kernel.pause()
        await traded(bench, LAST - 100_001, 5)
        await traded(bench, LAST + 100_001, 2)
        await bench.kernel.resume()
        await at_rest(bench)

        (row,) = await rows(bench, "group/exit", owner="mm")
        assert row[4:7] == ("0.0005/0.0002", "0.0002", "0.0005")
        assert [line[1:4] for line in await rows(bench, "findings", owner="mm")] == [("GROUP_OVERFILL", "exit", "OPEN")]
        text = await page(bench.kernel, ("group", "exit"))
        assert "Excess:          0.0002 filled beyond what the group allows, at most 0.0005 possible" in text
        assert "GROUP_OVERFILL   OPEN" in text
        assert "exit.1 filled 0.0005" in text
        assert await rows(bench, "groups", owner="other") == []


@virtual_time
async def test_a_watch_of_groups_tells_each_change() -> None:
    """A watch yields the groups, then a row for each changed fill, and new groups."""
    async with a_bench() as bench:
        await placed(bench, group(OCO, bid(5), ask(5)), "exit")
        found = watch(bench.kernel, query_of(["groups"]))
        assert [item.data["first"] for item in (await anext(found)).items] == [None]
        await traded(bench, LAST - 100_001, 2)
        (changed,) = (await anext(found)).items
        assert (changed.data["first"], changed.data["orders"][0]["cum_qty"]) == ("exit.1", "0.00020000")
        await placed(bench, group(OUO, bid(5), ask(5)), "new")
        assert [item.name for item in (await anext(found)).items] == ["new"]
        await found.aclose()  # type: ignore[attr-defined]


@virtual_time
async def test_limits_are_asked_as_they_will_be_held() -> None:
    """A bracket is checked as a whole: it fits where three single orders would not."""
    async with a_bench() as bench:
        symbol = await bench.kernel.get_symbol_metadata("BTCUSDT")
        wanted = bracket()
        members = [(f"entry.{number}", order, symbol) for number, order in enumerate(wanted.orders, start=1)]

        def exceeded(position_max: str, *, whole: bool) -> list[tuple[str, str]]:
            limits = LimitSettings(default=Limits(position_max=Decimal(position_max)))
            gate = LimitGate(bench.kernel.state, clock=LoopClock(), own=limits)
            found = gate.exceeded([], [(wanted.mode, members)]) if whole else gate.exceeded(members)
            return [(intent_id, item.constraint) for intent_id, item in found]

        assert exceeded("0.0015", whole=True) == []
        assert exceeded("0.0015", whole=False) == [(OTHER, "position_max")]
        assert exceeded("0.0005", whole=True) == [(PARENT, "position_max"), (OTHER, "position_max")]


@virtual_time
async def test_a_page_of_what_is_not_there() -> None:
    """An unknown group is not found; a group named as an intent is pointed out."""
    async with a_bench() as bench:
        await placed(bench, group(OCO, bid(5), ask(5)), "exit")
        with pytest.raises(NotFoundError, match="group nowhere not found"):
            await page(bench.kernel, ("group", "nowhere"))
        with pytest.raises(NotFoundError, match="but there is a group: `orderctl describe group exit`"):
            await page(bench.kernel, ("exit",))
