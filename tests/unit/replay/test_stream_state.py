"""The state of single intents from their streams shows what the state of the whole log shows."""

from __future__ import annotations

import asyncio
from pathlib import Path
from unittest import mock

import pytest

from kernel.errors import NotFoundError
from kernel.log.backends.memory import MemoryLog, MemoryRecorder
from projections import State
from replay.formatting.output import Format, render
from replay.log_access.log_reader import fold
from replay.log_access.state_source import StateSource
from replay.log_access.stream_state import StreamState, stream_state
from replay.views import describe, listing
from tests.golden.test_histories import named, restored
from tests.recorded import intents_in, log_of, simulated

LATER_NS = 4_000_000_000_000_000_000


async def shown(source: StateSource, name: str) -> list[str]:
    """What `get` and `describe` print about an intent, and about a group of the same name."""
    pages = []
    for kind in ("intent", "order", "fill", "group"):
        try:
            found = await listing.listing(source, listing.query_of([kind, name]))
            pages += [render(found, Format.WIDE), render(found, Format.JSON)]
        except NotFoundError as problem:
            pages.append(str(problem))
        if kind != "fill":
            try:
                pages.append(await describe.page(source, [kind, name], events_max=1_000))
            except NotFoundError as problem:
                pages.append(str(problem))
    return pages


async def compared(recorder: MemoryRecorder) -> int:
    """Compare both states of every intent and group of a log; returns how many have a state of their own."""
    log = log_of(recorder)
    whole = StreamState(log, await fold(log, State()), LATER_NS)
    groups = [group.group_id for group in whole.state.groups()]
    own = 0
    for name in (*intents_in(recorder), *groups, "unknown"):
        with mock.patch.object(MemoryLog, "read", side_effect=AssertionError("the whole log is read")):
            found = await stream_state(log, [name])
        if found is None:
            continue
        own += 1
        assert await shown(StreamState(log, found.state, LATER_NS), name) == await shown(whole, name), name
    return own


@pytest.mark.parametrize("seed", range(4))
def test_it_shows_what_the_whole_log_shows(seed: int) -> None:
    """Of every intent and group of a simulated run, or it is not used."""
    recorder = simulated(seed)
    assert asyncio.run(compared(recorder)) > 0


@pytest.mark.parametrize("path", named(".jsonl"), ids=lambda path: path.stem)
def test_it_shows_what_a_golden_history_shows(path: Path) -> None:
    """Likewise of every golden history."""
    assert asyncio.run(compared(restored(path))) > 0
