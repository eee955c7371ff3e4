"""A strategy process that places orders 1 to N and records each fill once, however often it is killed.

Started by the integration tests: `python -m tests.integration.strategy LOG_URL EXCHANGE_ID ORDERS BOOK`. It names its
orders itself, so that wanting one again is no second order; it resumes from the position that stands in its book.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TextIO

from kernel.controller import EventSourcedKernel
from kernel.events import OrderFilled
from kernel.order_spec import OrderType, Side, StandardOrder
from replay import open_kernel

TAKER = StandardOrder(symbol_id="BTCUSDT", side=Side.BUY, order_type=OrderType.LIMIT, quantity=10_000, price=9_000_000)


def main(url: str, exchange_id: str, orders: int, book: Path) -> None:
    """Read the recorded fills and continue after the last one."""
    lines = book.read_text().splitlines() if book.exists() else []
    with book.open("a") as file:
        asyncio.run(trade(url, exchange_id, orders, lines, file))


async def trade(url: str, exchange_id: str, orders: int, lines: list[str], file: TextIO) -> None:
    """Place the missing orders, and record each new fill."""
    after = int(lines[-1].split()[0]) if lines else 0
    async with open_kernel(url, exchange_id=exchange_id) as kernel:
        placing = asyncio.create_task(place_all(kernel, orders))
        left = orders - len(lines)
        async for event in kernel.events({"event_type": "OrderFilled"}, after=after):
            assert isinstance(event, OrderFilled)
            file.write(f"{event.position} {event.fill_key}\n")
            file.flush()
            left -= 1
            if left == 0:
                break
        await placing


async def place_all(kernel: EventSourcedKernel, orders: int) -> None:
    """Place every order, 16 at a time; existing ones change nothing."""
    limit = asyncio.Semaphore(16)

    async def place(number: int) -> None:
        async with limit:
            await kernel.place_order(TAKER, intent_id=f"s-{number}", owner="tester", wait="recorded")

    await asyncio.gather(*(place(number) for number in range(orders)))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]))
