"""Second processes for contract tests: small programs that print lines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.forked import Forked

APPEND_FOR_EVER = """
import asyncio, sys
from kernel.log import open_log
from tests.commands import an_append

async def main(url, exchange_id):
    async with open_log(url, exchange_id=exchange_id) as log:
        async def work(name):
            while True:
                appended = await log.append(an_append(name))
                print(appended.first_position, flush=True)
        await asyncio.gather(*(work(f"w{n}") for n in range(4)))

asyncio.run(main(*sys.argv[1:]))
"""
"""Appends from four tasks until it is killed, and prints each position once it is acknowledged."""

HOLD_LEASE = """
import asyncio, sys
from kernel.clock import SystemClock
from kernel.log import open_log

async def main(url, exchange_id):
    async with open_log(url, exchange_id=exchange_id) as log:
        lease = log.lease(clock=SystemClock())
        await lease.acquire()
        print(lease.holder, flush=True)
        await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""
"""Takes the lease, prints who it is, and keeps it until it is killed."""

APPEND_ONCE = """
import asyncio, sys
from kernel.log import open_log
from tests.commands import an_append

async def main(url, exchange_id, name):
    async with open_log(url, exchange_id=exchange_id) as log:
        print((await log.append(an_append(name))).first_position, flush=True)

asyncio.run(main(*sys.argv[1:]))
"""
"""Appends one event and prints its position."""


@asynccontextmanager
async def running(program: str, *arguments: str) -> AsyncIterator[Forked]:
    """Run a Python process with piped output; it is killed at the end."""
    process = await asyncio.to_thread(Forked, "-c", program, *arguments)
    try:
        yield process
    finally:
        await asyncio.to_thread(process.close)


async def read_line(process: Forked) -> str:
    """Return the next line of a process's output."""
    assert process.stdout is not None
    return (await asyncio.wait_for(asyncio.to_thread(process.stdout.readline), 60)).decode().strip()
