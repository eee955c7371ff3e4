"""A kernel process that leads a log with a paper exchange at an address, until it is killed.

Started by the integration tests and the drill: `python -m tests.integration.kernel_process LOG_URL EXCHANGE_ID ADDRESS`.
Prints a line once it is ready; a second one on the same log stands by until then, however long that takes.
"""

from __future__ import annotations

import asyncio
import sys

from kernel.controller import EventSourcedKernel
from kernel.errors import LogUnavailableError, NotReadyError
from kernel.settings import KernelSettings
from kernel.venues import PaperVenue
from replay import open_kernel

SETTINGS = KernelSettings(
    relist_interval_s=2,
    resync_interval_s=1,
    order_age_s_max=10,
    request_timeout_s=1,
    storm_rejections=0,  # nobody is there who would resolve it
)


async def main(url: str, exchange_id: str, address: str) -> None:
    """Lead until killed."""
    venue = PaperVenue(address, timeout_s=1)
    async with open_kernel(url, exchange_id=exchange_id, venue=venue, settings=SETTINGS) as kernel:
        while not await is_ready(kernel):
            pass
        print("ready", flush=True)
        await asyncio.Event().wait()


async def is_ready(kernel: EventSourcedKernel) -> bool:
    """Return whether it leads within a minute; raises the error that ended its reader."""
    try:
        await kernel.wait_ready(60)
    except LogUnavailableError:
        raise
    except NotReadyError:
        return False
    return True


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
