"""`python -m tests.benchmarks.leader URL EXCHANGE`: a kernel that leads, at a venue that accepts everything.

Started by the row about commands from a process beside the leader. Prints a line once it is ready; ends when stdin does.
"""

from __future__ import annotations

import asyncio
import sys

from replay import open_kernel
from tests.benchmarks.rows import ListeningVenue


async def lead(url: str, exchange_id: str) -> None:
    """Lead until stdin ends."""
    async with open_kernel(url, exchange_id=exchange_id, venue=ListeningVenue()) as kernel:
        await kernel.wait_ready()
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(lead(*sys.argv[1:]))
