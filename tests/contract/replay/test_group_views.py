"""What is shown of a group, and waited for, while the kernel works it: each order as its group lets it be, and why.

The whole kernel on the memory log and virtual time, with the paper exchange in this process.
"""

from __future__ import annotations

from decimal import Decimal

import pytest

from kernel.clock import LoopClock
from kernel.commands.limit_gate import LimitGate
from kernel.errors import NotFoundError, WaitTimeoutError
from kernel.models import AttemptKind
from kernel.order_spec import OcoMode, StandardOrderGroup
from kernel.settings import Limits, LimitSettings
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
    """The ids of a group that the kernel works."""
    return await bench.kernel.place_order_group(wanted, group_id=name, owner="mm")


def holding(bench: Bench, intent_id: str) -> set[str]:
    """What can be waited for, and holds of an intent now."""
    return {name for name, holds in CONDITIONS.items() if holds(bench.kernel.state, intent_id)}


async def rows(bench: Bench, *words: str, owner: str | None = None) -> list[tuple[str, ...]]:
    """The lines of `get`."""
    found = await listing(bench.kernel, query_of(words, owner=owner))
    return [line for item in found.items for line in item.lines]


@virtual_time
async def test_what_is_held_back_is_as_it_should_be() -> None:
    """No difference, no metric of one, synced and yet not ended; the page says what it waits for."""
    async with a_bench() as bench:
        await placed(bench, bracket())
        await bench.kernel.force_reconciliation()
        tally = await tally_of(bench.kernel.state, now_ns=2**62)

        assert differences(bench.kernel).items == ()
        assert (tally.differences.total(), tally.oldest_unsynced_ns) == (0, None)
        assert holding(bench, CHILD) == {"synced"}
        assert now_is(bench.kernel, CHILD) == "held back: waits for fills of entry.1"
        text = await page(bench.kernel, (CHILD,))
        assert "Lets it be:   0, held back: waits for fills of entry.1" in text
        assert "Difference: none, held back: waits for fills of entry.1" in text
        assert [line[7:9] for line in await rows(bench, "intents", CHILD)] == [("-", "SYNCED")]


@virtual_time
async def test_a_child_ends_when_nothing_more_is_released() -> None:
    """What is released in part and filled is not filled yet: more may come. With the parent's end it is."""
    async with a_bench() as bench:
        await placed(bench, bracket())
        await traded(bench, LAST - 1, 4)
        await at_rest(bench)
        assert "released to 0.0004 by fills of entry.1, waits for more" in await page(bench.kernel, (CHILD,))
        await traded(bench, LAST + 100_001, 4)
        await at_rest(bench)
        assert holding(bench, CHILD) == {"synced"}
        assert "shrunk to 0 by fills of entry.2" in await page(bench.kernel, (OTHER,))
        with pytest.raises(WaitTimeoutError, match="not filled after 0 s"):
            await wait_for(bench.kernel, CHILD, "filled", timeout_s=0)

        await bench.kernel.cancel_order(PARENT)
        await at_rest(bench)

        assert await wait_for(bench.kernel, CHILD, "filled", timeout_s=0) == "filled"
        assert holding(bench, OTHER) == {"canceled", "terminal", "synced"}
        assert "Difference: none, it has ended, FILLED: released to 0.0004 by fills of entry.1\n" in await page(
            bench.kernel, (CHILD,)
        )


@virtual_time
async def test_children_of_a_parent_that_never_filled_have_ended() -> None:
    """Whoever waits for the end of a child does not wait for ever."""
    async with a_bench() as bench:
        await placed(bench, bracket())
        await bench.kernel.cancel_order(PARENT)

        assert await wait_for(bench.kernel, CHILD, "terminal", timeout_s=10) == "terminal"

        assert holding(bench, CHILD) == {"canceled", "terminal", "synced"}
        assert "it has ended, CANCELED: not released: no fill of entry.1" in await page(bench.kernel, (CHILD,))


@virtual_time
async def test_the_leg_that_is_to_go_is_a_difference_until_it_is_gone() -> None:
    """After the first fill the other leg's wish is nothing, with the reason; once canceled it has ended, and all agrees."""
    async with a_bench() as bench:
        await placed(bench, group(OCO, bid(5), ask(5)), "exit")
        await bench.kernel.pause()
        await traded(bench, LAST - 100_001, 2)
        await at_rest(bench)

        (item,) = differences(bench.kernel).items
        wanted = "nothing: canceled by the first fill of exit.1"
        assert (item.name, item.data["difference"], item.data["wanted"]) == ("exit.2", "CANCEL", wanted)
        assert f"Lets it be:   0, {wanted.removeprefix('nothing: ')}" in await page(bench.kernel, ("exit.2",))

        await bench.kernel.resume()
        await at_rest(bench)
        assert differences(bench.kernel).items == ()
        assert holding(bench, "exit.2") == {"canceled", "terminal", "synced"}
        assert holding(bench, "exit.1") == {"working", "synced"}


@virtual_time
async def test_what_is_shrunk_is_shown_as_it_is_wanted() -> None:
    """A change that is yet to be made is shown with the quantity that the group lets be, not the one that was asked for."""
    async with a_bench() as bench:
        await placed(bench, group(OUO, bid(10), ask(10)), "either")
        await bench.kernel.pause()
        await traded(bench, LAST - 100_001, 3)
        await at_rest(bench)

        (item,) = differences(bench.kernel).items
        assert (item.data["difference"], item.data["wanted"]) == ("MODIFY", "SELL 0.0007 BTCUSDT at 62800.00")
        text = await page(bench.kernel, ("either.2",))
        assert "Lets it be:   0.0007, shrunk to 0.0007 by fills of either.1" in text
        assert "Sibling:      either.1, filled 0.0003 of 0.001" in text
        await bench.kernel.resume()
        await at_rest(bench)
        stream = await bench.log.read_stream("intent:either.2")
        assert [event.kind for event in stream if event.topic == "AttemptStarted"][1:] == [AttemptKind.AMEND]


@virtual_time
async def test_an_excess_is_seen_where_one_looks() -> None:
    """Both legs filled: the group's row and page have the excess; the finding is the group's, and its owner's."""
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
        assert "Excess:          0.0002 filled more than it allows, 0.0005 at most" in text
        assert "GROUP_OVERFILL   OPEN" in text
        assert "exit.1 has filled 0.0005" in text
        assert await rows(bench, "groups", owner="other") == []


@virtual_time
async def test_a_watch_of_groups_tells_each_change() -> None:
    """First what there is, then a group's row for each change of what has filled, and a group that is new."""
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
    """A bracket's exits undo what its entry did: asked for beforehand it fits where three single orders would not."""
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
    """An unknown group is not found; a group asked for as an intent is pointed to."""
    async with a_bench() as bench:
        await placed(bench, group(OCO, bid(5), ask(5)), "exit")
        with pytest.raises(NotFoundError, match="group nowhere not found"):
            await page(bench.kernel, ("group", "nowhere"))
        with pytest.raises(NotFoundError, match="but a group: `orderctl describe group exit`"):
            await page(bench.kernel, ("exit",))
