"""The event log's contract on every backend: each promise has a test that fails when it is broken."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec import structs
from msgspec.structs import replace

from kernel.clock import SystemClock
from kernel.errors import (
    BusyError,
    ConflictError,
    FencedError,
    IntegrityError,
    LogUnavailableError,
    ValidationError,
)
from kernel.events import (
    CONTROL_STREAM,
    BaseEvent,
    GroupCreated,
    IntentCancelRequested,
    LeaderElected,
    LogCreated,
    group_stream,
    intent_stream,
)
from kernel.log import Append, Appended, EventLog, LogSettings, StoredRow, Write
from kernel.log.hashing import GENESIS, verify_rows
from kernel.models import Evidence
from kernel.order_spec import OcoMode
from tests.commands import a_pause, an_append, an_event, collect
from tests.contract.backends import Backend, PostgresBackend, SQLiteBackend


async def rows_of(log: EventLog) -> list[StoredRow]:
    """Return every row of a log."""
    return [row async for page in log.read() for row in page]


class StoppedClock(SystemClock):
    """A clock that shows the time it is set to."""

    def __init__(self, now_ns: int) -> None:
        self.at_ns = now_ns

    def now_ns(self) -> int:
        return self.at_ns


# ------------------------------------------------------------------------------------------------- the first event
async def test_a_new_log_begins_with_its_own_creation(log: EventLog) -> None:
    """The first event names the log and its account, on the control stream."""
    (created,) = await collect(log, upto=1)
    assert isinstance(created, LogCreated)
    assert (created.exchange_id, created.log_id) == (log.exchange_id, log.log_id)
    assert (created.stream_id, created.version, created.actor) == (CONTROL_STREAM, 1, "kernel")


async def test_two_openers_make_one_first_event(backend: Backend) -> None:
    """Logs opened concurrently on an empty store have the same log id."""
    logs = await asyncio.gather(*(asyncio.to_thread(backend.open) for _ in range(4)))
    assert len({log.log_id for log in logs}) == 1
    assert (await logs[0].head()).position == 1
    for log in logs:
        await log.close()


async def test_another_accounts_log_is_refused(backend: Backend) -> None:
    """A store with one account's log cannot be opened for another account."""
    await backend.open().close()
    other = "other"
    if isinstance(backend, PostgresBackend):  # each account has its own schema: it takes a copy under another name
        backend.execute("UPDATE {schema}.log_head SET exchange_id = 'elsewhere'")
        other = backend.exchange_id
    with pytest.raises(ConflictError, match=other):
        backend.open(exchange_id=other)


async def test_a_log_can_be_awaited(backend: Backend) -> None:
    """`await open_log(…)` returns the open log."""
    log = await backend.open()
    assert (await log.head()).position == 1
    await log.close()


# --------------------------------------------------------------------------------------------------------- appends
async def test_a_read_event_equals_the_appended_one(log: EventLog) -> None:
    """Events are read back unchanged, with an envelope of position, time, cause and writer."""
    append = an_append("a", count=2, correlation_id="c0ffee", causation_position=1, evidence=Evidence.OPERATOR)
    appended = await log.append(append)
    assert appended == Appended(2, 3)
    events = await log.read_stream(intent_stream("a"))
    assert [structs.asdict(event) for event in events] == [structs.asdict(event) for event in append.writes[0].events]
    envelope, origin = events[1].envelope, events[1].envelope.origin
    assert (envelope.position, envelope.stream_id, envelope.version) == (3, "intent:a", 2)
    assert (origin.actor, origin.evidence) == ("strategy:test", Evidence.OPERATOR)
    assert (origin.correlation_id, origin.causation_position) == ("c0ffee", 1)
    assert origin.os_user
    assert origin.host
    assert origin.pid


async def test_text_is_kept_byte_for_byte(log: EventLog) -> None:
    """Any text that JSON can represent is stored and read unchanged."""
    text = 'quote " backslash \\ NUL \0 tab \t emoji \U0001f600 umlaut ä line\u2028end'
    await log.append(an_append(writes=(Write(CONTROL_STREAM, (a_pause(text),)),)))
    live = (await collect(log, upto=2))[-1]
    (stored,) = await log.read_stream(CONTROL_STREAM, 1)
    assert getattr(stored, "reason", None) == getattr(live, "reason", None) == text
    row = (await rows_of(log))[-1]
    assert row.state == f'{{"reason":{_json(text)}}}'.encode()


def _json(text: str) -> str:
    import json

    return json.dumps(text, ensure_ascii=False)


async def test_positions_have_no_gaps(log: EventLog) -> None:
    """Concurrent appends, some refused, leave positions 1 to N, and versions 1 to n in each stream."""

    async def work(worker: int) -> None:
        for index in range(10):
            await log.append(an_append(f"s{worker}", count=2))
            with pytest.raises(ConflictError):
                await log.append(an_append(f"s{worker}", expected=index))

    await asyncio.gather(*(work(worker) for worker in range(8)))
    rows = await rows_of(log)
    assert [row.position for row in rows] == list(range(1, 162))
    for worker in range(8):
        versions = [row.version for row in rows if row.stream_id == f"intent:s{worker}"]
        assert versions == list(range(1, 21))
    verify_rows(rows, after=0, chain=GENESIS)


async def test_an_acknowledged_append_is_there_after_a_reopen(backend: Backend) -> None:
    """A log object opened later reads the appended events with the same hashes."""
    async with backend.open() as log:
        await log.append(an_append("a", count=3))
        before, head = await rows_of(log), await log.head()
    async with backend.open() as log:
        assert await rows_of(log) == before
        assert await log.head() == head
        assert len(before) == 4


async def test_a_wrong_expected_version_is_refused(log: EventLog) -> None:
    """A wrong expected version writes nothing; 0 means that the stream must not exist."""
    await log.append(an_append("a", expected=0))
    await log.append(an_append("a", expected=1))
    for wrong in (0, 1, 3):
        with pytest.raises(ConflictError):
            await log.append(an_append("a", expected=wrong))
    assert (await log.head()).position == 3


async def test_one_of_many_writers_wins_a_version(log: EventLog) -> None:
    """Of concurrent commands with the same expected version exactly one is recorded."""
    results = await asyncio.gather(*(log.append(an_append("a", expected=0)) for _ in range(20)), return_exceptions=True)
    assert sum(isinstance(result, Appended) for result in results) == 1
    assert sum(isinstance(result, ConflictError) for result in results) == 19


async def test_a_conflict_refuses_that_command_alone(log: EventLog) -> None:
    """A conflict in a batch refuses one command; later commands see the accepted ones before them."""
    results = await asyncio.gather(
        log.append(an_append("a", expected=0)),
        log.append(an_append("a", expected=0)),
        log.append(an_append("a", expected=1)),
        log.append(an_append("b", expected=0)),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [Appended, ConflictError, Appended, Appended]
    assert (await log.head()).position == 4


async def test_a_command_is_recorded_whole_or_not_at_all(log: EventLog) -> None:
    """If one of a command's streams conflicts, none of its events is recorded; else they are adjacent."""
    await log.append(an_append("b"))
    writes = (Write(intent_stream("a"), (an_event("a"),), 0), Write(intent_stream("b"), (an_event("b"),), 7))
    with pytest.raises(ConflictError):
        await log.append(an_append(writes=writes))
    assert await log.read_stream(intent_stream("a")) == []
    appended = await log.append(an_append(writes=(writes[0], replace(writes[1], expected_version=1))))
    assert appended == Appended(3, 4)


async def test_a_write_without_events_is_a_condition(log: EventLog) -> None:
    """An empty write checks a stream's version and does not change it."""
    guard = Write("group:g", (), 0)
    event = Write(intent_stream("a"), (an_event(),), None)
    await log.append(an_append(writes=(guard, event)))
    await log.append(an_append(writes=(Write("group:g", (an_event("g"),), 0),)))
    with pytest.raises(ConflictError):
        await log.append(an_append(writes=(guard, event)))


async def test_a_command_id_appended_twice_is_recorded_once(log: EventLog) -> None:
    """The second append returns the first positions, whatever it expects and whatever was appended since."""
    append = an_append("a", count=3, expected=0)
    first = await log.append(append)
    await log.append(an_append("b"))
    again = await log.append(append)
    assert (again.first_position, again.last_position) == (first.first_position, first.last_position) == (2, 4)
    assert not first.duplicate
    assert again.duplicate
    assert (await log.head()).position == 5


async def test_a_command_id_twice_in_one_batch_is_recorded_once(log: EventLog) -> None:
    """Concurrent appends of one command return the same positions."""
    append = an_append("a", count=2)
    results = await asyncio.gather(*(log.append(append) for _ in range(5)))
    assert {(result.first_position, result.last_position) for result in results} == {(2, 3)}
    assert sorted(result.duplicate for result in results) == [False, True, True, True, True]


async def test_an_older_epoch_is_fenced(log: EventLog) -> None:
    """After an election only the newest epoch, and appends without an epoch, are accepted."""
    await log.append(_election(1))
    await log.append(an_append(epoch=1))
    await log.append(_election(2))
    assert (await log.head()).epoch == 2
    for stale in (_election(2), _election(4), an_append(epoch=1), an_append(epoch=3)):
        with pytest.raises(FencedError):
            await log.append(stale)
    await log.append(an_append(epoch=None))
    await log.append(an_append(epoch=2))
    assert (await log.head()).position == 6


def _election(epoch: int) -> Append:
    event = LeaderElected(epoch=epoch, holder="here")
    return an_append(writes=(Write(CONTROL_STREAM, (event,)),), epoch=epoch, elects=True)


async def test_an_election_fences_within_its_batch(log: EventLog) -> None:
    """An old leader's append in the election's batch is recorded before the election or refused."""
    await log.append(_election(1))
    results = await asyncio.gather(
        log.append(_election(2)), log.append(an_append(epoch=1)), log.append(_election(2)), return_exceptions=True
    )
    assert [type(result) for result in results] == [Appended, FencedError, FencedError]


async def test_time_never_goes_back(backend: Backend) -> None:
    """A clock set back does not set `recorded_at_ns` back, nor does another log object's clock."""
    clock = StoppedClock(2_000)
    async with backend.open(clock=clock) as log:
        await log.append(an_append())
        clock.at_ns = 1_000
        await log.append(an_append())
        clock.at_ns = 3_000
        await log.append(an_append())
    async with backend.open(clock=StoppedClock(5)) as log:
        await log.append(an_append())
        assert [row.recorded_at_ns for row in await rows_of(log)] == [2_000, 2_000, 2_000, 3_000, 3_000]
        assert (await log.head()).recorded_at_ns == 3_000


@pytest.mark.parametrize(
    "changes",
    [
        {"command_id": b"short"},
        {"writes": ()},
        {"writes": (Write("a", ()),)},
        {"writes": (Write("", (an_event(),)),)},
        {"writes": (Write("x" * 300, (an_event(),)),)},
        {"writes": (Write("a\0b", (an_event(),)),)},
        {"expected": -1},
        {"elects": True},
        {"actor": "\ud800"},
    ],
    ids=["short id", "no writes", "no events", "no stream", "long stream", "NUL", "version", "no epoch", "surrogate"],
)
async def test_an_invalid_append_is_refused(log: EventLog, changes: dict[str, Any]) -> None:
    """An append that no backend can store raises a validation error and affects no other append."""
    good, bad = await asyncio.gather(
        log.append(an_append("a")), log.append(an_append(**changes)), return_exceptions=True
    )
    assert isinstance(good, Appended)
    assert isinstance(bad, ValidationError)
    assert (await log.head()).position == 2


@pytest.mark.parametrize(
    "fields",
    [{"generation": -1}, {"generation": 1.0}, {"generation": 10**20}, {"intent_id": "a b"}, {"intent_id": None}],
)
async def test_what_could_not_be_read_is_not_recorded(log: EventLog, fields: dict[str, Any]) -> None:
    """An event that was only constructed, and would be read differently or not at all, is refused."""
    event = IntentCancelRequested(**{"intent_id": "a", "generation": 1, "requested_at_ns": 1, **fields})
    with pytest.raises(ValidationError, match="cannot be recorded"):
        await log.append(an_append(writes=(Write("a", (event,)),)))
    assert (await log.head()).position == 1


async def test_what_would_be_read_differently_is_not_recorded(log: EventLog) -> None:
    """A list where a reader gets a tuple is refused, as the recorded event would not be the one that was appended."""
    members: Any = ["a", "b"]
    event = GroupCreated(group_id="g", mode=OcoMode.ONE_CANCELS_OTHER, intent_ids=members)
    with pytest.raises(ValidationError, match="would be read as"):
        await log.append(an_append(writes=(Write(group_stream("g"), (event,)),)))
    assert (await log.head()).position == 1


async def test_an_unregistered_event_is_refused(log: EventLog) -> None:
    """Only events of the registry can be appended."""

    class Stray(BaseEvent):
        topic = "Stray"

    with pytest.raises(ValidationError, match="registered"):
        await log.append(an_append(writes=(Write("a", (Stray(),)),)))


async def test_a_canceled_append_does_not_disturb_the_others(log: EventLog) -> None:
    """A caller canceled while it waits affects neither the writer nor other callers."""
    tasks = [asyncio.create_task(log.append(an_append("a"))) for _ in range(10)]
    await asyncio.sleep(0)
    tasks[3].cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert sum(isinstance(result, Appended) for result in results) >= 9
    await log.append(an_append("a"))


async def test_a_closed_log_refuses(backend: Backend) -> None:
    """After `close`, which may be called twice, appends and reads are refused."""
    log = backend.open()
    await log.append(an_append())
    await log.close()
    await log.close()
    for attempt in (log.append(an_append()), log.head(), log.read_stream("a"), anext(aiter(log.read()))):
        with pytest.raises(LogUnavailableError, match="closed"):
            await attempt


async def test_close_writes_queued_appends(backend: Backend) -> None:
    """Appends queued when the log is closed are recorded and answered."""
    log = backend.open()
    tasks = [asyncio.create_task(log.append(an_append("a"))) for _ in range(50)]
    await asyncio.sleep(0)
    await log.close()
    assert all(isinstance(result, Appended) for result in await asyncio.gather(*tasks))
    async with backend.open() as log:
        assert (await log.head()).position == 51


async def test_a_full_queue_refuses_commands_and_takes_facts(database: SQLiteBackend | PostgresBackend) -> None:
    """A full queue refuses commands, without writing them, and accepts facts."""
    async with database.open(settings=LogSettings(queue_commands_max=5)) as log:
        commands = [log.append(an_append("c")) for _ in range(20)]
        facts = [log.append(an_append("f", is_fact=True)) for _ in range(20)]
        results = await asyncio.gather(*commands, *facts, return_exceptions=True)
        refused = [result for result in results if isinstance(result, BusyError)]
        assert all(isinstance(result, Appended | BusyError) for result in results)
        assert all(isinstance(result, Appended) for result in results[20:])
        assert refused
        assert (await log.head()).position == 41 - len(refused)


async def test_large_commands_are_split_into_commits_that_fit(backend: Backend) -> None:
    """`batch_bytes_max` splits batches, and a larger command is committed alone."""
    async with backend.open(settings=LogSettings(batch_bytes_max=1_000)) as log:
        pauses = [an_append(writes=(Write(CONTROL_STREAM, (a_pause("x" * size),)),)) for size in (10, 5_000, 300) * 4]
        results = await asyncio.gather(*map(log.append, pauses))
        assert sorted(result.first_position for result in results) == list(range(2, 14))


# -------------------------------------------------------------------------------------------------- tails and reads
async def test_a_tail_gives_recorded_and_new_events(log: EventLog) -> None:
    """Every event after the given position arrives once and in order."""
    await log.append(an_append("a", count=3))
    tail = log.tail(2)
    assert [event.position for event in await anext(aiter(tail))] == [3, 4]
    waiting = asyncio.ensure_future(anext(aiter(tail)))
    await asyncio.sleep(0)
    await log.append(an_append("b", count=2))
    assert [event.position for event in await waiting] == [5, 6]


async def test_a_live_event_equals_the_stored_one(log: EventLog) -> None:
    """An event published in process equals the one read from the database, envelope included."""
    tail = log.tail(0)
    await anext(aiter(tail))
    waiting = asyncio.ensure_future(anext(aiter(tail)))
    await asyncio.sleep(0)
    await log.append(an_append("a", count=2, correlation_id="ab", causation_position=1))
    live = await waiting
    stored = await log.read_stream(intent_stream("a"))
    assert live == stored
    assert [event.envelope for event in live] == [event.envelope for event in stored]


async def test_a_tail_misses_nothing_under_load(log: EventLog) -> None:
    """Tails that start while others append see every position once and in order."""
    total = 301

    async def write(worker: int) -> None:
        for _ in range(50):
            await log.append(an_append(f"s{worker}", count=1))

    async def follow() -> list[int]:
        return [event.position for event in await collect(log, upto=total)]

    seen = await asyncio.gather(follow(), *(write(worker) for worker in range(6)), follow(), follow())
    for positions in (seen[0], seen[-2], seen[-1]):
        assert positions == list(range(1, total + 1))


async def test_a_tail_sees_another_log_objects_commits(backend: Backend) -> None:
    """Another log object's commits arrive in order with those of this one."""
    async with backend.open() as here, backend.open() as there:
        tail = here.tail(1)
        for position, log in enumerate([there, there, here, there, here, here, there], start=2):
            waiting = asyncio.ensure_future(anext(aiter(tail)))
            await asyncio.wait([waiting], timeout=0.02)  # so that it waits, and nothing but the commit can wake it
            await log.append(an_append("a"))
            (event,) = await asyncio.wait_for(waiting, 60)
            assert event.position == position


async def test_two_log_objects_write_without_gaps(backend: Backend) -> None:
    """Concurrent writers of one store leave no gap and no fork, and every expected version holds."""

    async def work(log: EventLog, name: str) -> int:
        won = 0
        for index in range(40):
            results = await asyncio.gather(
                log.append(an_append(name)), log.append(an_append("shared", expected=index)), return_exceptions=True
            )
            won += isinstance(results[1], Appended)
        return won

    async with backend.open() as one, backend.open() as two:
        won = await asyncio.gather(work(one, "one"), work(two, "two"))
        rows = await rows_of(one)
        verify_rows(rows, after=0, chain=GENESIS)
        assert len(rows) == 81 + sum(won)
        shared = [row.version for row in rows if row.stream_id == "intent:shared"]
        assert shared == list(range(1, sum(won) + 1))
        assert await rows_of(two) == rows


async def test_what_another_log_object_wrote_is_not_presumed_absent(backend: Backend) -> None:
    """A writer that was alone notices ids, streams and versions that another one added since."""
    async with backend.open() as here, backend.open() as there:
        for expected in range(4):
            await here.append(an_append("a", expected=expected))
        foreign = an_append("a", expected=4)
        assert await there.append(foreign) == Appended(6, 6)
        assert await there.append(an_append("b", expected=0)) == Appended(7, 7)
        assert await here.append(foreign) == Appended(6, 6, duplicate=True)
        for conflict in (an_append("a", expected=4), an_append("b", expected=0)):
            with pytest.raises(ConflictError):
                await here.append(conflict)
        assert await here.append(an_append("b", expected=1)) == Appended(8, 8)
        assert await here.append(an_append("a", expected=5)) == Appended(9, 9)
        assert await there.append(an_append("a")) == Appended(10, 10)


async def test_a_wrong_presumption_is_looked_up(backend: Backend) -> None:
    """Old commands and streams that a new log object has not cached are found when they are appended again."""
    old = an_append("a", count=2)
    async with backend.open() as log:
        assert await log.append(old) == Appended(2, 3)
    async with backend.open() as log:
        for index in range(3):
            await log.append(an_append("warm", expected=index))
        results = await asyncio.gather(
            log.append(an_append("new", expected=0)),
            log.append(old),
            log.append(an_append("a", expected=0)),
            log.append(an_append("new", expected=1)),
            return_exceptions=True,
        )
        assert results[0] == Appended(7, 7)
        assert results[1] == Appended(2, 3, duplicate=True)
        assert isinstance(results[2], ConflictError)
        assert results[3] == Appended(8, 8)


@pytest.mark.parametrize("bound", [0, 2])
async def test_the_version_cache_changes_no_decision(
    backend: Backend, bound: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer with a full version cache decides as one without."""
    monkeypatch.setattr("kernel.log.engine.version_cache.STREAMS_MAX", bound)
    monkeypatch.setattr("kernel.log.engine.version_cache.COMMANDS_MAX", bound)
    appends = [an_append(f"s{index % 3}", expected=index // 3) for index in range(12)]
    async with backend.open() as log:
        first = [await log.append(append) for append in appends]
        again = [await log.append(append) for append in reversed(appends)]
        assert [replace(each, duplicate=True) for each in reversed(first)] == again
        with pytest.raises(ConflictError):
            await log.append(an_append("s1", expected=2))


async def test_a_tail_ends_with_the_log(backend: Backend) -> None:
    """A tail, also a waiting one, gets the events committed before `close`, then ends."""
    log = backend.open()
    tail, other = log.tail(0), log.tail(0)
    await anext(aiter(tail))
    await anext(aiter(other))
    waiting = asyncio.ensure_future(_all(tail))
    await asyncio.sleep(0)
    await log.append(an_append(count=2))
    await log.close()
    assert await waiting == await _all(other) == [2, 3]
    assert await _all(tail) == []


async def _all(tail: Any) -> list[int]:
    return [event.position async for batch in tail for event in batch]


async def test_a_canceled_wait_loses_nothing(log: EventLog) -> None:
    """A tail continues after a wait on it timed out."""
    tail = log.tail(1)
    for _ in range(3):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(aiter(tail)), 0.01)
    await log.append(an_append())
    assert [event.position for event in await anext(aiter(tail))] == [2]


async def test_a_slow_tail_is_bounded_and_complete(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches dropped for a slow tail are read from the store."""
    monkeypatch.setattr("kernel.log.engine.tail_feed.HELD_ROWS_MAX", 10)
    async with backend.open(settings=LogSettings(page_rows=7)) as log:
        tail = log.tail(0)
        await anext(aiter(tail))
        for _ in range(30):
            await log.append(an_append(count=3))
        seen: list[int] = []
        async for batch in tail:
            seen += [event.position for event in batch]
            if seen[-1] == 91:
                break
        assert seen == list(range(2, 92))


async def test_a_tail_beyond_the_head_is_refused(log: EventLog) -> None:
    """A tail from a position after the head fails: the log was truncated, or it is another one."""
    with pytest.raises(IntegrityError) as caught:
        await anext(aiter(log.tail(5)))
    assert caught.value.position == 2


async def test_read_comes_in_pages(backend: Backend) -> None:
    """A read returns every row once, in pages, up to the head or the given position."""
    async with backend.open(settings=LogSettings(page_rows=4)) as log:
        await asyncio.gather(*(log.append(an_append()) for _ in range(9)))
        pages = [[row.position for row in page] async for page in log.read()]
        assert pages == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10]]
        assert [[row.position for row in page] async for page in log.read(3, 6)] == [[4, 5, 6]]
        assert [page async for page in log.read(10)] == []


async def test_a_stream_is_read_across_pages(backend: Backend) -> None:
    """A stream is read completely, or from a version, across pages."""
    async with backend.open(settings=LogSettings(page_rows=3)) as log:
        for _ in range(8):
            await log.append(an_append("a"))
            await log.append(an_append("b"))
        assert [event.version for event in await log.read_stream(intent_stream("a"))] == list(range(1, 9))
        assert [event.version for event in await log.read_stream(intent_stream("b"), 6)] == [7, 8]
        assert await log.read_stream(intent_stream("none")) == []


async def test_the_newest_events_of_a_topic_in_a_stream(log: EventLog) -> None:
    """They come in order, up to a position, and none of another topic or stream."""
    for _ in range(4):
        await log.append(an_append("a"))
        await log.append(an_append("b"))
    stream_id, topic = intent_stream("a"), an_event("a").topic
    assert [event.version for event in await log.newest(stream_id, topic, upto=9, limit=2)] == [3, 4]
    assert [event.version for event in await log.newest(stream_id, topic, upto=7, limit=2)] == [2, 3]
    assert [event.version for event in await log.newest(stream_id, topic, upto=9, limit=9)] == [1, 2, 3, 4]
    assert await log.newest(stream_id, LogCreated.topic, upto=9, limit=2) == []
    assert await log.newest(intent_stream("none"), topic, upto=9, limit=2) == []
