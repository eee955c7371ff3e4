"""Closing a SQLite log while it is read."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

from kernel.errors import LogUnavailableError
from kernel.log import EventLog, open_log
from tests.commands import an_append


async def test_closing_waits_for_reads_under_way(tmp_path: Path) -> None:
    """A log that is closed while statements run on it ends in order: closing a connection under one crashes Python."""
    url = f"sqlite:///{tmp_path / 'kernel.db'}"
    async with open_log(url, exchange_id="paper") as log:
        await log.append(an_append(count=500))

    for round_trips in range(30):
        log = open_log(url, exchange_id="paper")
        reads = [asyncio.create_task(read_all(log)) for _ in range(3)]
        for _ in range(round_trips % 5):
            await asyncio.sleep(0)
        await log.close()
        await asyncio.gather(*reads)


async def read_all(log: EventLog) -> None:
    """Read again and again until the log is closed."""
    with suppress(LogUnavailableError):
        while True:
            async for rows in log.read():
                assert rows
