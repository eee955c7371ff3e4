"""A kernel as a process of its own: leads on a log, with a paper exchange at an address, until it is killed.

Started by the integration tests: `python -m tests.integration.kernel_process LOG_URL EXCHANGE_ID ADDRESS`. Prints a line
each time it becomes ready.
"""

from __future__ import annotations

import asyncio
import sys

from kernel.settings import KernelSettings
from kernel.venues import PaperVenue
from replay import open_kernel

SETTINGS = KernelSettings(relist_interval_s=2, resync_interval_s=1, order_age_s_max=10, request_timeout_s=1)


async def main(url: str, exchange_id: str, address: str) -> None:
    """Lead until killed."""
    venue = PaperVenue(address, timeout_s=1)
    async with open_kernel(url, exchange_id=exchange_id, venue=venue, settings=SETTINGS) as kernel:
        await kernel.wait_ready(60)
        print("ready", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
