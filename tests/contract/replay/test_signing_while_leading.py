"""Notes beside a kernel: when one is due, who writes it, and that nothing that goes wrong with them reaches the kernel.

The whole kernel on the memory log and virtual time, with the paper exchange in this process.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from kernel import EventSourcedKernel
from kernel.clock import LoopClock, SeededIds
from kernel.errors import IntegrityError
from kernel.log import EventLog, open_log
from kernel.metrics import NoteResult
from kernel.venues import PaperVenue
from kernel.venues.paper.matching.config import PaperConfig
from replay import open_kernel
from replay.transparency.signed_note import origin_of
from replay.transparency.tree_head_signer import TreeHeadOptions
from tests.commands import an_append
from tests.contract.bench import bid, virtual_time
from tests.notes import KEY, book, forge, root_of, rows_of, sizes
from tests.readings import value

DUE_S = 10.0
LOOK_S = 0.1
T = TypeVar("T")


@pytest.fixture(autouse=True)
def _no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is done in a thread is done at once: virtual time would fly while a thread works."""

    async def at_once(work: Callable[..., T], *given: Any) -> T:
        return work(*given)

    monkeypatch.setattr(asyncio, "to_thread", at_once)


@asynccontextmanager
async def a_log() -> AsyncIterator[EventLog]:
    """A log on virtual time."""
    async with open_log("memory://", exchange_id="paper", clock=LoopClock(), ids=SeededIds(1)) as log:
        yield log


@asynccontextmanager
async def leading(log: EventLog, directory: Path, *, every_events: int = 1_000) -> AsyncIterator[EventSourcedKernel]:
    """A kernel that leads and has notes written."""
    clock = LoopClock()
    venue = PaperVenue(tape=(), speed="step", symbol="BTCUSDT", config=PaperConfig(ladder_levels=0), clock=clock)
    notes = TreeHeadOptions(directory=directory, keys=(KEY,), every_events=every_events, every_s=DUE_S)
    async with open_kernel(log, venue=venue, clock=clock, ids=SeededIds(2), notes=notes) as kernel:
        await kernel.wait_ready(10)
        yield kernel


async def counted(kernel: EventSourcedKernel, result: NoteResult, *, above: int = 0) -> int:
    """How many notes were written, or were not, once they are more."""
    async with asyncio.timeout(100 * DUE_S):
        while value(kernel.metrics.notes, result) <= above:
            await asyncio.sleep(LOOK_S)
    return value(kernel.metrics.notes, result)


@virtual_time
async def test_a_note_is_due_after_some_seconds(tmp_path: Path) -> None:
    """When less than enough is new, one note of all of it comes, and none while nothing is."""
    async with a_log() as log, leading(log, tmp_path) as kernel:
        began_s = asyncio.get_running_loop().time()
        assert sizes(tmp_path) == []
        assert await counted(kernel, NoteResult.WRITTEN) == 1
        assert asyncio.get_running_loop().time() - began_s < DUE_S + 2 * LOOK_S
        assert sizes(tmp_path) == [(await log.head()).position]
        assert value(kernel.metrics.note_position) == (await log.head()).position


@virtual_time
async def test_a_note_is_due_after_enough_events(tmp_path: Path) -> None:
    """It does not wait for the seconds."""
    async with a_log() as log, leading(log, tmp_path, every_events=5) as kernel:
        first = await counted(kernel, NoteResult.WRITTEN)
        began_s = asyncio.get_running_loop().time()
        await log.append(an_append("a", count=5))
        await counted(kernel, NoteResult.WRITTEN, above=first)
        assert asyncio.get_running_loop().time() - began_s < DUE_S / 2


@virtual_time
async def test_the_last_note_has_all_that_the_kernel_did(tmp_path: Path) -> None:
    """Its end included: who has the newest note of a kernel that was stopped in order knows the whole log."""
    async with a_log() as log:
        async with leading(log, tmp_path) as kernel:
            await kernel.place_order(bid(), intent_id="a")
        rows = await rows_of(log)
        assert rows[-1].topic == "KernelStopped"
        assert book(tmp_path).notes[-1].root == root_of([row.leaf_hash for row in rows])


@virtual_time
async def test_the_next_leader_goes_on(tmp_path: Path) -> None:
    """Its notes are of the same log, and agree."""
    async with a_log() as log:
        for _ in range(3):
            async with leading(log, tmp_path) as kernel:
                await counted(kernel, NoteResult.WRITTEN)
        leaves = [row.leaf_hash for row in await rows_of(log)]
    found = book(tmp_path)
    assert found.problems == ()
    assert len(found.notes) >= 3
    assert [note.root for note in found.notes] == [root_of(leaves[: note.size]) for note in found.notes]


@virtual_time
async def test_who_leads_again_looks_at_what_came_meanwhile(tmp_path: Path) -> None:
    """A note of a longer log than there is was signed under another leader: the log was cut off since."""
    async with a_log() as log, leading(log, tmp_path) as kernel:
        written = await counted(kernel, NoteResult.WRITTEN)
        assert kernel._runtime.leader is not None
        kernel._runtime.leader.leadership.lose()
        forge(tmp_path, origin_of(log), 1_000_000, chain_hash=bytes(32))
        await counted(kernel, NoteResult.FAILED)
        assert (kernel.state.epoch, value(kernel.metrics.notes, NoteResult.WRITTEN)) == (2, written)


@virtual_time
async def test_who_does_not_lead_writes_none(tmp_path: Path) -> None:
    """Neither while it looks on nor when it ends."""
    notes = TreeHeadOptions(directory=tmp_path, keys=(KEY,), every_events=1, every_s=DUE_S)
    async with a_log() as log, open_kernel(log, clock=LoopClock(), ids=SeededIds(2), notes=notes):
        await log.append(an_append("a", count=5))
        await asyncio.sleep(3 * DUE_S)
    assert sizes(tmp_path) == []


@virtual_time
async def test_a_directory_that_fails_holds_nothing_up(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The kernel trades on; what is wrong is logged once and counted each time; notes come as soon as they can."""
    directory = tmp_path / "notes"
    directory.write_text("in the way")
    caplog.set_level(logging.INFO, "replay.transparency.tree_head_signer")
    async with a_log() as log, leading(log, directory) as kernel:
        failed = await counted(kernel, NoteResult.FAILED)
        await kernel.place_order(bid(), intent_id="a")
        await counted(kernel, NoteResult.FAILED, above=failed + 2)
        assert value(kernel.metrics.notes, NoteResult.WRITTEN) == 0
        assert len([item for item in caplog.records if "no note of the log was written" in item.message]) == 1
        assert (await kernel.health_check())["ready"]
        directory.unlink()
        await counted(kernel, NoteResult.WRITTEN)
        assert len([item for item in caplog.records if "written again" in item.message]) == 1
        assert sizes(directory) == [(await log.head()).position]


@virtual_time
async def test_a_bug_in_the_notes_does_not_end_the_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged with its traceback, and tried again."""
    monkeypatch.setattr("replay.transparency.tree_head_signer.sign", lambda *given: 1 / 0)
    async with a_log() as log, leading(log, tmp_path) as kernel:
        await counted(kernel, NoteResult.FAILED, above=1)
        await kernel.place_order(bid(), intent_id="a")
        assert (await kernel.health_check())["ready"]
    assert [item.exc_info is not None for item in caplog.records if "no note" in item.message] == [True]


@virtual_time
async def test_a_kernel_that_fails_takes_its_notes_along(tmp_path: Path) -> None:
    """Once the log can't be read any more nobody waits for a note, and leaving raises nothing."""
    async with a_log() as log, leading(log, tmp_path, every_events=5) as kernel:
        await counted(kernel, NoteResult.WRITTEN)
        kernel._runtime.fail(IntegrityError("a hole", position=3))
        await asyncio.sleep(2 * DUE_S)
        assert [task.get_name() for task in asyncio.all_tasks() if task.get_name() == "note-keeper"] == []
