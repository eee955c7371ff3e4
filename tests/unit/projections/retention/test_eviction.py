"""Eviction of terminal intents: independent of the batches, complete when read back, and without loss."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from kernel.errors import IntegrityError
from kernel.events import BaseEvent
from kernel.lifecycle.record import Record
from kernel.log.backends.memory import MemoryLog
from kernel.log.engine.records import event_of
from kernel.streams.rehydration import apply_batch, ensure_loaded, owner
from projections import State, checkpoint
from projections.folds.indexes import client_ids, venue_ids
from projections.retention.policy import RetentionPolicy, TerminalIndex
from tests.nightly import after_the_first
from tests.recorded import log_of, simulated_whole

pytestmark = pytest.mark.xdist_group("simulated runs")  # these share costly fixtures

TIGHT = RetentionPolicy(intents_max=3, every_positions=10)
SEEDS = after_the_first(2, (3, 7_100_000, 7_100_001, 7_100_004, 7_100_007))


@pytest.fixture(scope="module", params=SEEDS)
def log(request: pytest.FixtureRequest) -> MemoryLog:
    """The log of a simulated run: groups, lost answers, busts, crashes."""
    return log_of(simulated_whole(request.param))


async def events_of(log: MemoryLog) -> list[BaseEvent]:
    """Every event."""
    return [event_of(row) async for rows in log.read() for row in rows]


async def folded(
    log: MemoryLog, events: list[BaseEvent], sizes: random.Random | None, retention: RetentionPolicy
) -> State:
    """The state after all events in batches of random sizes; without `sizes` one by one."""
    state = State(retention)
    while state.position < len(events):
        size = 1 if sizes is None else sizes.choice([1, 2, 7, 60, 500])
        await apply_batch(log, state, events[state.position : state.position + size])
    return state


async def test_eviction_does_not_depend_on_the_batches(log: MemoryLog) -> None:
    """The fold of a log holds and evicts the same, whatever the batches."""
    events = await events_of(log)
    one_by_one = await folded(log, events, None, TIGHT)
    assert one_by_one.evicted_count > 0
    for seed in range(3):
        in_batches = await folded(log, events, random.Random(seed), TIGHT)
        assert in_batches.digest() == one_by_one.digest()


async def test_eviction_loses_nothing(log: MemoryLog) -> None:
    """Intents, groups, positions, balances, findings and live intents are those of a fold that evicts nothing."""
    events = await events_of(log)
    whole, tight = await folded(log, events, None, RetentionPolicy()), await folded(log, events, None, TIGHT)
    assert tight.live_intent_ids() == whole.live_intent_ids()
    assert [*tight.positions()] == [*whole.positions()]
    assert [*tight.findings()] == [*whole.findings()]
    assert (tight.account(), tight.balance_drift()) == (whole.account(), whole.balance_drift())
    for intent_id in whole.records():
        await ensure_loaded(log, tight, intent_id)
        assert tight.record(intent_id) == whole.record(intent_id)
        assert tight.order_state(intent_id) == whole.order_state(intent_id)
        assert tight.group_of(intent_id) == whole.group_of(intent_id)
    assert len(tight.records()) < len(whole.records())
    again = await folded(log, events, None, TIGHT)
    assert tight.digest() == again.digest()  # queries change nothing


async def test_an_evicted_order_is_found_by_its_ids(log: MemoryLog) -> None:
    """The log finds the intent by each client order id and each venue order id."""
    events = await events_of(log)
    whole, tight = await folded(log, events, None, RetentionPolicy()), await folded(log, events, None, TIGHT)
    gone: list[Record] = [record for name, record in whole.records().items() if name not in tight.records()]
    assert gone
    for record in gone:
        for name in client_ids(record) if not record.intent_id.startswith("ext-") else ():  # adopted: named by others
            assert await owner(log, tight, client_order_id=name) == record.intent_id
        for name in venue_ids(record):
            assert await owner(log, tight, exchange_order_id=name) == whole.intent_id_of(exchange_order_id=name)
    assert await owner(log, tight, client_order_id="nobody's", exchange_order_id="no-such") is None


async def test_a_checkpoint_contains_the_evictions(log: MemoryLog, tmp_path: Path) -> None:
    """A state restored half-way evicts the same as one that folded everything."""
    events = await events_of(log)
    whole = await folded(log, events, None, TIGHT)
    half = await folded(log, events[: len(events) // 2], None, TIGHT)
    checkpoint.write(checkpoint.image(half, bytes(32)), tmp_path / "x")
    restored = checkpoint.read(tmp_path / "x")
    assert restored.digest() == half.digest()
    while restored.position < len(events):
        await apply_batch(log, restored, events[restored.position : restored.position + 7])
    assert restored.digest() == whole.digest()


async def test_an_evicted_stream_is_never_continued_blindly(log: MemoryLog) -> None:
    """A batch that continues an evicted stream is refused unless the stream is passed with it."""
    events = await events_of(log)
    state = State(TIGHT)
    refused = 0
    for event in events:
        if state.missing([event]):
            with pytest.raises(IntegrityError, match="was evicted"):
                state.apply([event])
            refused += 1
        await apply_batch(log, state, [event])
    assert state.position == len(events)


def test_the_oldest_intent_is_evicted_first() -> None:
    """An intent's age is that of its newest event; intents that are live again are not evicted."""
    terminal = TerminalIndex()
    for position, name in enumerate("abcde", start=1):
        terminal.add(name, position)
    terminal.add("a", 9)
    terminal.drop("b")
    assert terminal.oldest_beyond(4) is None
    found = []
    while (name := terminal.oldest_beyond(1)) is not None:
        found.append(name)
        terminal.drop(name)
    assert found == ["c", "d", "e"]
