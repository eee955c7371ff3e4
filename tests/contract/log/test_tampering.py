"""Tampering on every backend, bypassing triggers, is detected with its position."""

from __future__ import annotations

import asyncio
import sqlite3
from typing import Any

import psycopg
import pytest
from eventsourcing.persistence import StoredEvent

from kernel.errors import IntegrityError, SchemaError
from kernel.events import intent_stream
from kernel.log import EventLog, LogSettings, StoredRow
from kernel.log.backends.library import LibraryRecorder
from tests.commands import an_append, an_event
from tests.contract.backends import Backend, MemoryBackend, PostgresBackend, SQLiteBackend


async def rows_of(log: EventLog) -> list[StoredRow]:
    """Return every row of a log."""
    return [row async for page in log.read() for row in page]


async def _all(tail: Any) -> list[int]:
    async with asyncio.timeout(60):  # a tail that finds nothing wrong would wait for more
        return [event.position async for batch in tail for event in batch]


CHANGES: dict[str, Any] = {
    "stream_id": "intent:z",
    "version": 77,
    "topic": "IntentDeleted",
    "schema_version": 2,
    "recorded_at_ns": 7,
    "command_id": bytes(16),
    "command_index": 9,
    "meta": b'{"actor":"somebody","evidence":"COMMAND"}',
    "state": b'{"generation":9,"intent_id":"a","requested_at_ns":5}',
    "leaf_hash": bytes(32),
    "chain_hash": bytes(32),
}


async def _tail_error(backend: Backend) -> IntegrityError:
    async with backend.open() as log:
        with pytest.raises(IntegrityError) as caught:
            await _all(log.tail(0))
        return caught.value


async def _filled(backend: Backend) -> list[StoredRow]:
    async with backend.open() as log:
        for _ in range(5):
            await log.append(an_append("a"))
        return await rows_of(log)


@pytest.mark.parametrize("column", CHANGES)
async def test_every_changed_column_is_found(backend: Backend, column: str) -> None:
    """A tail stops at the first row with a changed column, and names its position."""
    await _filled(backend)
    backend.update(4, column, CHANGES[column])
    assert (await _tail_error(backend)).position == 4


async def test_a_renumbered_row_is_found(backend: Backend) -> None:
    """A changed position is detected."""
    await _filled(backend)
    backend.delete(above=3, upto=4)
    backend.update(5, "position", 4)
    assert (await _tail_error(backend)).position == 4


async def test_a_deleted_row_is_found(backend: Backend) -> None:
    """A tail stops at the missing position."""
    await _filled(backend)
    backend.delete(above=2, upto=4)
    error = await _tail_error(backend)
    assert error.position == 3
    assert "missing" in str(error)


async def test_swapped_rows_are_found(backend: Backend) -> None:
    """Swapped rows are detected at the first of them."""
    rows = await _filled(backend)
    backend.delete(above=2, upto=4)
    backend.insert((3, *backend.row(rows[3])[1:]))
    backend.insert((4, *backend.row(rows[2])[1:]))
    assert (await _tail_error(backend)).position == 3


async def test_a_truncated_log_is_not_opened(backend: Backend) -> None:
    """Rows missing at the end do not match the head row."""
    await _filled(backend)
    backend.delete(above=4, upto=6)
    with pytest.raises(IntegrityError) as caught:
        backend.open()
    assert caught.value.position == 5


async def test_a_head_set_back_is_not_opened(backend: Backend) -> None:
    """A head row before the last event, or with another hash, is refused."""
    rows = await _filled(backend)
    backend.set_head(4, rows[3].chain_hash)
    with pytest.raises(IntegrityError, match="head"):
        backend.open()
    backend.set_head(6, bytes(32))
    with pytest.raises(IntegrityError, match="head"):
        backend.open()


async def test_a_tail_after_a_later_position_finds_a_truncation(backend: Backend) -> None:
    """A log truncated consistently to position 4 is refused by live and new tails that saw position 6."""
    rows = await _filled(backend)
    async with backend.open(settings=LogSettings(listen_fallback_s=0.02)) as log:
        live = log.tail(6)
        waiting = asyncio.ensure_future(anext(aiter(live)))
        await asyncio.sleep(0)
        if isinstance(backend, MemoryBackend):
            waiting.cancel()
        backend.delete(above=4, upto=6)
        backend.set_head(4, rows[3].chain_hash)
        if not isinstance(backend, MemoryBackend):
            with pytest.raises(IntegrityError) as caught:
                await asyncio.wait_for(waiting, 60)
            assert caught.value.position == 5
    async with backend.open() as log:
        with pytest.raises(IntegrityError) as caught:
            await anext(aiter(log.tail(6)))
        assert caught.value.position == 5


async def test_a_writer_finds_a_truncation(database: SQLiteBackend | PostgresBackend) -> None:
    """A log object that committed position 6 does not continue from a head at 4, nor on another chain."""
    async with database.open() as log:
        for _ in range(5):
            await log.append(an_append("a"))
        rows = await rows_of(log)
        database.delete(above=4, upto=6)
        database.set_head(4, rows[3].chain_hash)
        with pytest.raises(IntegrityError):
            await log.append(an_append("b"))


async def test_a_stream_read_checks_its_rows(backend: Backend) -> None:
    """Reading a stream detects a changed row and a missing version."""
    await _filled(backend)
    backend.update(4, "state", CHANGES["state"])
    async with backend.open() as log:
        with pytest.raises(IntegrityError) as caught:
            await log.read_stream(intent_stream("a"))
        assert caught.value.position == 4
        with pytest.raises(IntegrityError):
            await log.newest(intent_stream("a"), an_event("a").topic, upto=9, limit=9)
    backend.delete(above=3, upto=4)
    async with backend.open() as log:
        with pytest.raises(IntegrityError, match="version 3 of stream intent:a is missing"):
            await log.read_stream(intent_stream("a"))


async def test_an_event_of_newer_code_stops_a_tail(backend: Backend) -> None:
    """An event that this code cannot read is a schema error at its position, not skipped."""
    async with backend.open() as log:
        recorder: Any = getattr(log, "recorder", None)
        await asyncio.to_thread(LibraryRecorder(recorder).insert_events, [StoredEvent("x", 1, "FromTheFuture", b"{}")])
        with pytest.raises(SchemaError) as caught:
            await _all(log.tail(0))
        assert caught.value.position == 2


async def test_the_database_refuses_changes(database: SQLiteBackend | PostgresBackend) -> None:
    """Triggers refuse update, delete and truncate on the log, and deleting the head or a stream."""
    await _filled(database)
    schema = "{schema}." if isinstance(database, PostgresBackend) else ""
    statements = [f"UPDATE {schema}log SET topic = 'x' WHERE position = 2", f"DELETE FROM {schema}log"]
    statements += [f"DELETE FROM {schema}log_head", f"DELETE FROM {schema}log_stream"]
    if isinstance(database, PostgresBackend):
        statements += [f"TRUNCATE {schema}{table}" for table in ("log", "log_head", "log_stream")]
    for statement in statements:
        with pytest.raises((sqlite3.DatabaseError, psycopg.DatabaseError), match=r"append-only|stay"):
            database.execute(statement, guarded=True)
    async with database.open() as log:
        assert (await log.head()).position == 6
