"""Second processes for the contract tests: small programs that talk in lines on standard output."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]

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
async def running(program: str, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A Python process with its output piped; killed at the end if it still runs."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, *arguments, stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
        await process.communicate()


async def read_line(process: asyncio.subprocess.Process) -> str:
    """The next line of a process's output."""
    assert process.stdout is not None
    return (await asyncio.wait_for(process.stdout.readline(), 60)).decode().strip()
