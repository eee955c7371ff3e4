"""Taking down many orders at once: which ones, how they look, and their cancels as they are recorded.

Called by the CLI's `cancel-all`, and by scripts. It chooses once: what is wanted only afterwards is left alone, so that
nothing is canceled that nobody was shown. Waits for the log, not for the venue; `waiting` does that.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from kernel import EventSourcedKernel
from kernel.clock import Clock, SystemClock
from kernel.commands.validation import known_symbols
from kernel.errors import ExchangeError, NotFoundError
from kernel.models import Desired
from replay.formatting.output import Listing
from replay.views.listing import item_of
from replay.views.resources import INTENTS, intent_subject, render_context

AT_ONCE = 256
"""Cancels under way at the same time: enough for the log to commit them in large groups."""


@dataclass(frozen=True, slots=True)
class CancelResult:
    """What came of one cancel."""

    intent_id: str
    problem: str = ""
    """Why there was nothing to cancel any more; empty when the cancel is recorded."""

    @property
    def line(self) -> str:
        """For people."""
        what = f"not canceled: {self.problem}" if self.problem else "cancel requested"
        return f"intent/{self.intent_id} {what}"


def chosen(kernel: EventSourcedKernel, *, symbol_id: str | None = None, owner: str | None = None) -> list[str]:
    """Intents that are wanted and live (of a symbol, of an owner), in order of creation.

    Raises `NotFoundError` for a symbol that nothing is known of: a slip of the pen must not read as "nothing to cancel".
    """
    state = kernel.state
    if symbol_id is not None and state.symbol(symbol_id) is None and not any(state.intents_of_symbol(symbol_id)):
        names = known_symbols(state) or "no market is known yet"
        raise NotFoundError(f"symbol {symbol_id} not found: {names}")
    return [
        intent_id
        for intent_id in state.live_intent_ids()
        if (intent := state.intent(intent_id)) is not None
        and intent.desired is Desired.WORKING
        and symbol_id in (None, intent.order.symbol_id)
        and owner in (None, intent.owner)
    ]


def preview(kernel: EventSourcedKernel, intent_ids: Sequence[str], *, clock: Clock | None = None) -> Listing:
    """These intents as `get intents` shows them."""
    look = render_context(kernel.state, (clock or SystemClock()).now_ns())
    found = (kernel.state.intent(intent_id) for intent_id in intent_ids)
    items = tuple(item_of(INTENTS, look, intent_subject(intent)) for intent in found if intent is not None)
    return Listing(INTENTS.kind, INTENTS.columns, INTENTS.narrow, items)


async def clear(kernel: EventSourcedKernel, intent_ids: Sequence[str]) -> AsyncIterator[CancelResult]:
    """Cancel these intents and no others; each as its cancel is recorded, in the order given.

    What has ended or was deleted meanwhile is told as such. Raises what else a command raises (a log that is away).
    """
    for begin in range(0, len(intent_ids), AT_ONCE):
        for cleared in await asyncio.gather(*(clear_one(kernel, name) for name in intent_ids[begin : begin + AT_ONCE])):
            yield cleared


async def clear_one(kernel: EventSourcedKernel, intent_id: str) -> CancelResult:
    """Cancel one."""
    try:
        await kernel.cancel_order(intent_id, wait="recorded")
    except (ExchangeError, NotFoundError) as problem:
        return CancelResult(intent_id, getattr(problem, "text", str(problem)))
    return CancelResult(intent_id)
