"""`python -m tests.soak.reference LOG_URL EXCHANGE_ID POSITION POSITION`: measure the state alone at two positions.

Started by the soak as a child process. Folds the log into a new state, derives every order state (a kernel derives them on
demand), and prints a JSON array with the objects and resident bytes at each position.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys

import psutil  # type: ignore[import-untyped]

from kernel.log import open_log
from kernel.log.engine.records import event_of
from projections import State


async def main(url: str, exchange_id: str, positions: list[int]) -> None:
    """Fold and measure."""
    log = open_log(url, exchange_id=exchange_id)
    state = State()
    found: list[dict[str, int]] = []
    try:
        async for page in log.read():
            for row in page:
                state.apply([event_of(row)])
                if row.position in positions:
                    del row
                    found.append(measured(state))
    finally:
        await log.close()
    print(json.dumps(found))


def measured(state: State) -> dict[str, int]:
    for _ in state.order_states():
        pass
    gc.collect()
    return {"objects": len(gc.get_objects()), "rss_bytes": psutil.Process().memory_info().rss}


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], [int(text) for text in sys.argv[3:]]))
