"""A strategy as a process of its own: wants orders 1 … N, and writes down each fill once, however often it is killed.

Started by the integration tests: `python -m tests.integration.strategy LOG_URL EXCHANGE_ID ORDERS BOOK`. It names its orders
itself, so that wanting one again is no second order; it resumes from the position that stands in its book.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from kernel.order_spec import OrderType, Side, StandardOrder
from replay import open_kernel

TAKER = StandardOrder(symbol_id="BTCUSDT", side=Side.BUY, order_type=OrderType.LIMIT, quantity=10_000, price=9_000_000)


async def main(url: str, exchange_id: str, orders: str, book_path: str) -> None:
    """Place what is not placed yet, and follow the fills from where the book ends."""
    book = Path(book_path)
    lines = book.read_text().splitlines() if book.exists() else []
    after = int(lines[-1].split()[0]) if lines else 0
    async with open_kernel(url, exchange_id=exchange_id) as kernel:
        placing = asyncio.create_task(place_all(kernel, int(orders)))
        with book.open("a") as file:
            seen = len(lines)
            async for event in kernel.events({"event_type": "OrderFilled"}, after=after):
                file.write(f"{event.position} {event.fill_key}\n")  # type: ignore[attr-defined]  # it is an OrderFilled
                file.flush()
                seen += 1
                if seen == int(orders):
                    break
        await placing


async def place_all(kernel: object, orders: int) -> None:
    """Want every order, 16 at a time; those that are wanted already come to nothing."""
    limit = asyncio.Semaphore(16)

    async def place(number: int) -> None:
        async with limit:
            await kernel.place_order(TAKER, intent_id=f"s-{number}", owner="tester", wait="recorded")  # type: ignore[attr-defined]

    await asyncio.gather(*(place(number) for number in range(orders)))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
