"""The log with several processes: acknowledged appends of a killed one are durable, commits of a living one are seen."""

from __future__ import annotations

import asyncio

from kernel.log.hashing import GENESIS, verify_rows
from tests.contract.backends import PostgresBackend, SQLiteBackend
from tests.contract.processes import APPEND_FOR_EVER, APPEND_ONCE, read_line, running


async def test_a_killed_writer_loses_nothing_acknowledged(database: SQLiteBackend | PostgresBackend) -> None:
    """After SIGKILL during appends, every acknowledged position is recorded, gapless and hashed."""
    acknowledged: list[int] = []
    async with running(APPEND_FOR_EVER, database.url, database.exchange_id) as process:
        while len(acknowledged) < 100:
            acknowledged.append(int(await read_line(process)))
        process.kill()
        assert process.stdout is not None
        acknowledged += [int(line) for line in process.stdout.read().split() if line]
    async with database.open() as log:
        rows = [row async for page in log.read() for row in page]
        verify_rows(rows, after=0, chain=GENESIS)
        assert set(acknowledged) <= {row.position for row in rows}


async def test_a_tail_sees_another_processes_commits(database: SQLiteBackend | PostgresBackend) -> None:
    """Another process's commit wakes a tail in this process."""
    async with database.open() as log:
        tail = log.tail(1)
        waiting = asyncio.ensure_future(anext(aiter(tail)))
        async with running(APPEND_ONCE, database.url, database.exchange_id, "x") as process:
            assert await read_line(process) == "2"
            (event,) = await asyncio.wait_for(waiting, 60)
        assert (event.position, event.stream_id) == (2, "intent:x")
        assert event.envelope.origin.pid == process.pid


async def test_two_processes_write_one_log(database: SQLiteBackend | PostgresBackend) -> None:
    """Processes that append concurrently leave one gapless chain."""
    arguments = (database.url, database.exchange_id)
    async with running(APPEND_FOR_EVER, *arguments) as one, running(APPEND_FOR_EVER, *arguments) as two:
        for _ in range(50):
            await read_line(one)
            await read_line(two)
    async with database.open() as log:
        rows = [row async for page in log.read() for row in page]
        verify_rows(rows, after=0, chain=GENESIS)
        assert len(rows) > 100
