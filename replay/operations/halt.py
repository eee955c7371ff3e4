"""Halt trading and wait until the orders are gone. Called by `orderctl halt`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from kernel import EventSourcedKernel
from kernel.errors import LogUnavailableError, NotFoundError, WaitTimeoutError
from replay.formatting.output import counted
from replay.views import conditions

NAMES_MAX = 10
"""Number of intents that the output names."""


class Halted(msgspec.Struct, frozen=True):
    """The result of a halt."""

    canceled: int
    """Number of intents that the halt canceled."""
    left: tuple[str, ...]
    """Intents whose order may still be open."""
    led: bool
    """True if a leader is there to send the cancels."""

    @property
    def exit_code(self) -> int:
        return WaitTimeoutError.exit_code if self.left else 0

    @property
    def line(self) -> str:
        requested = f"{counted(self.canceled, 'cancel')} requested"
        if not self.left:
            return f"{requested}; no order is open any more"
        names = ", ".join(self.left[:NAMES_MAX]) + (" …" if len(self.left) > NAMES_MAX else "")
        hint = "the kernel continues" if self.led else "no kernel leads: start `orderctl run`, or use --break-glass"
        return f"{requested}; {len(self.left)} may still be open at the venue: {names}; {hint}"


async def halt(kernel: EventSourcedKernel, symbol_id: str | None, reason: str, timeout_s: float) -> Halted:
    """Halt everything or a symbol, and wait until no order of it may be open. Raises what `kernel.halt` raises."""
    canceled = await kernel.halt(symbol_id, reason=reason)
    led = await kernel.log.lease_is_held()
    concerned = [intent_id for intent_id in kernel.state.live_intent_ids() if may_work(kernel, intent_id, symbol_id)]
    wait_s = timeout_s if led else 0  # without a leader nothing is canceled
    gone = await asyncio.gather(*(conditions.off_the_book(kernel, name, timeout_s=wait_s) for name in concerned))
    left = tuple(intent_id for intent_id, is_over in zip(concerned, gone, strict=True) if not is_over)
    return Halted(canceled, left, led)


def may_work(kernel: EventSourcedKernel, intent_id: str, symbol_id: str | None) -> bool:
    """Return whether an intent may have an open order (in a symbol)."""
    record = kernel.state.record(intent_id)
    symbols = {facts.order.symbol_id for facts in record.live_orders}
    symbols |= {record.sent_order.symbol_id} if record.sent_order is not None else set()
    return record.may_be_live and (symbol_id is None or symbol_id in symbols)


@contextmanager
def break_glass_offered() -> Iterator[None]:
    """Add the emergency option to an error about an unavailable log."""
    try:
        yield
    except (LogUnavailableError, NotFoundError) as problem:
        problem.add_note(
            "in an emergency, `orderctl halt --break-glass` cancels the orders at the venue without the log"
        )
        raise
