"""Halting from a shell: the halt, its cancels, and whether the orders are gone.

Called by the CLI's `halt`. The halt itself is the kernel's; here it is waited for, so that whoever halts knows what may
still work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from kernel import EventSourcedKernel
from kernel.errors import LogUnavailableError, NotFoundError, WaitTimeoutError
from replay.views import conditions

NAMES_MAX = 10
"""Intents that are named; of more, only how many they are."""


@dataclass(frozen=True, slots=True)
class Halted:
    """What a halt came to."""

    canceled: int
    """Intents that it turned to CANCELED."""
    left: tuple[str, ...]
    """Intents whose order may still work."""
    led: bool
    """Whether somebody leads, who gets the cancels out."""

    @property
    def exit_code(self) -> int:
        """For a shell."""
        return WaitTimeoutError.exit_code if self.left else 0

    @property
    def line(self) -> str:
        """For people."""
        asked = f"{self.canceled} cancel{'' if self.canceled == 1 else 's'} requested"
        if not self.left:
            return f"{asked}; nothing works any more"
        names = ", ".join(self.left[:NAMES_MAX]) + (" …" if len(self.left) > NAMES_MAX else "")
        then = "the kernel goes on" if self.led else "nobody leads: start `orderctl run`, or see --break-glass"
        return f"{asked}; {len(self.left)} may still work at the venue: {names}; {then}"


async def halt(kernel: EventSourcedKernel, symbol_id: str | None, reason: str, timeout_s: float) -> Halted:
    """Halt all (or a symbol), cancel all, and wait until nothing of it may work. Raises what `kernel.halt` does."""
    canceled = await kernel.halt(symbol_id, reason=reason)
    led = await kernel.log.lease_is_held()
    concerned = [intent_id for intent_id in kernel.state.live_intent_ids() if may_work(kernel, intent_id, symbol_id)]
    wait_s = timeout_s if led else 0  # nobody is there who would cancel anything
    gone = await asyncio.gather(*(conditions.off_the_book(kernel, name, timeout_s=wait_s) for name in concerned))
    left = tuple(intent_id for intent_id, is_over in zip(concerned, gone, strict=True) if not is_over)
    return Halted(canceled, left, led)


def may_work(kernel: EventSourcedKernel, intent_id: str, symbol_id: str | None) -> bool:
    """Whether an intent may have an order (in a symbol)."""
    record = kernel.state.record(intent_id)
    symbols = {facts.order.symbol_id for facts in record.live_orders}
    symbols |= {record.sent_order.symbol_id} if record.sent_order is not None else set()
    return record.may_be_live and (symbol_id is None or symbol_id in symbols)


@contextmanager
def break_glass_offered() -> Iterator[None]:
    """Where the log is away, the error says what can still be done."""
    try:
        yield
    except (LogUnavailableError, NotFoundError) as problem:
        problem.add_note("if orders must go now: `orderctl halt --break-glass` asks the venue itself, past the log")
        raise
