"""Signing tree heads beside a kernel: when one is due, which kernel signs, and that errors do not reach the kernel.

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
from replay.transparency.tree_head_store import tree_head_files
from tests.commands import an_append
from tests.contract.bench import bid, virtual_time
from tests.notes import KEY, forge, root_of, rows_of, sizes, tree_heads
from tests.readings import value

DUE_S = 10.0
LOOK_S = 0.1
T = TypeVar("T")


@pytest.fixture(autouse=True)
def _no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run thread work in the event loop: virtual time would advance while a thread works."""

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
    """A leading kernel that signs tree heads."""
    clock = LoopClock()
    venue = PaperVenue(tape=(), speed="step", symbol="BTCUSDT", config=PaperConfig(ladder_levels=0), clock=clock)
    notes = TreeHeadOptions(directory=directory, keys=(KEY,), every_events=every_events, every_s=DUE_S)
    async with open_kernel(log, venue=venue, clock=clock, ids=SeededIds(2), notes=notes) as kernel:
        await kernel.wait_ready(10)
        yield kernel


async def counted(kernel: EventSourcedKernel, result: NoteResult, *, above: int = 0) -> int:
    """Wait until the count of written or failed tree heads exceeds a number, and return it."""
    async with asyncio.timeout(100 * DUE_S):
        while value(kernel.metrics.notes, result) <= above:
            await asyncio.sleep(LOOK_S)
    return value(kernel.metrics.notes, result)


@virtual_time
async def test_a_tree_head_is_due_after_some_seconds(tmp_path: Path) -> None:
    """Few new events get one tree head after the interval, and no new event gets none."""
    async with a_log() as log, leading(log, tmp_path) as kernel:
        began_s = asyncio.get_running_loop().time()
        assert sizes(tmp_path) == []
        assert await counted(kernel, NoteResult.WRITTEN) == 1
        assert asyncio.get_running_loop().time() - began_s < DUE_S + 2 * LOOK_S
        assert sizes(tmp_path) == [(await log.head()).position]
        assert value(kernel.metrics.note_position) == (await log.head()).position


@virtual_time
async def test_a_tree_head_is_due_after_enough_events(tmp_path: Path) -> None:
    """After enough events a tree head does not wait for the interval."""
    async with a_log() as log, leading(log, tmp_path, every_events=5) as kernel:
        first = await counted(kernel, NoteResult.WRITTEN)
        began_s = asyncio.get_running_loop().time()
        await log.append(an_append("a", count=5))
        await counted(kernel, NoteResult.WRITTEN, above=first)
        assert asyncio.get_running_loop().time() - began_s < DUE_S / 2


@virtual_time
async def test_the_last_tree_head_covers_the_whole_log(tmp_path: Path) -> None:
    """The last tree head of a kernel that stops in order covers all its events, including KernelStopped."""
    async with a_log() as log:
        async with leading(log, tmp_path) as kernel:
            await kernel.place_order(bid(), intent_id="a")
        rows = await rows_of(log)
        assert rows[-1].topic == "KernelStopped"
        assert tree_heads(tmp_path)[-1].root == root_of([row.leaf_hash for row in rows])


@virtual_time
async def test_the_next_leader_continues(tmp_path: Path) -> None:
    """The tree heads of consecutive leaders are of the same log and agree."""
    async with a_log() as log:
        for _ in range(3):
            async with leading(log, tmp_path) as kernel:
                await counted(kernel, NoteResult.WRITTEN)
        leaves = [row.leaf_hash for row in await rows_of(log)]
    found = tree_heads(tmp_path)
    assert len(found) >= 3
    assert len(found) == len(tree_head_files(tmp_path))
    assert [head.root for head in found] == [root_of(leaves[: head.size]) for head in found]


@virtual_time
async def test_a_new_leader_compares_with_the_newest_tree_head(tmp_path: Path) -> None:
    """If another leader signed a tree head of a longer log, the log was truncated and gets no new one."""
    async with a_log() as log, leading(log, tmp_path) as kernel:
        written = await counted(kernel, NoteResult.WRITTEN)
        assert kernel._runtime.leader is not None
        kernel._runtime.leader.leadership.lose()
        forge(tmp_path, origin_of(log), 1_000_000, chain_hash=bytes(32))
        await counted(kernel, NoteResult.FAILED)
        assert (kernel.state.epoch, value(kernel.metrics.notes, NoteResult.WRITTEN)) == (2, written)


@virtual_time
async def test_only_the_leader_signs(tmp_path: Path) -> None:
    """A kernel that does not lead signs nothing, neither while it runs nor when it stops."""
    notes = TreeHeadOptions(directory=tmp_path, keys=(KEY,), every_events=1, every_s=DUE_S)
    async with a_log() as log, open_kernel(log, clock=LoopClock(), ids=SeededIds(2), notes=notes):
        await log.append(an_append("a", count=5))
        await asyncio.sleep(3 * DUE_S)
    assert sizes(tmp_path) == []


@virtual_time
async def test_a_failing_directory_does_not_stop_the_kernel(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The kernel keeps trading; the error is logged once and counted each time; signing resumes when it can."""
    directory = tmp_path / "notes"
    directory.write_text("in the way")
    caplog.set_level(logging.INFO, "replay.transparency.tree_head_signer")
    async with a_log() as log, leading(log, directory) as kernel:
        failed = await counted(kernel, NoteResult.FAILED)
        await kernel.place_order(bid(), intent_id="a")
        await counted(kernel, NoteResult.FAILED, above=failed + 2)
        assert value(kernel.metrics.notes, NoteResult.WRITTEN) == 0
        assert len([item for item in caplog.records if "cannot write a signed tree head" in item.message]) == 1
        assert (await kernel.health_check())["ready"]
        directory.unlink()
        await counted(kernel, NoteResult.WRITTEN)
        assert len([item for item in caplog.records if "works again" in item.message]) == 1
        assert sizes(directory) == [(await log.head()).position]


@virtual_time
async def test_a_bug_in_signing_does_not_end_the_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An unexpected exception is logged with its traceback, and signing is retried."""
    monkeypatch.setattr("replay.transparency.tree_head_signer.sign", lambda *given: 1 / 0)
    async with a_log() as log, leading(log, tmp_path) as kernel:
        await counted(kernel, NoteResult.FAILED, above=1)
        await kernel.place_order(bid(), intent_id="a")
        assert (await kernel.health_check())["ready"]
    assert [item.exc_info is not None for item in caplog.records if "cannot write" in item.message] == [True]


@virtual_time
async def test_signing_ends_with_a_failed_kernel(tmp_path: Path) -> None:
    """When the log cannot be read any more the signer ends, and leaving raises nothing."""
    async with a_log() as log, leading(log, tmp_path, every_events=5) as kernel:
        await counted(kernel, NoteResult.WRITTEN)
        kernel._runtime.fail(IntegrityError("a hole", position=3))
        await asyncio.sleep(2 * DUE_S)
        assert [task.get_name() for task in asyncio.all_tasks() if task.get_name() == "tree-head-signer"] == []
