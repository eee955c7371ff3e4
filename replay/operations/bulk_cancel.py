"""Cancel many orders. Called by `orderctl cancel-all` and by scripts.

The orders are selected once, so that only orders that were shown are canceled. Cancels are recorded in the log;
`conditions` waits for the venue.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import msgspec

from kernel import EventSourcedKernel
from kernel.clock import SystemClock
from kernel.commands.handler import CANCELS_MAX
from kernel.commands.validation import known_symbols
from kernel.errors import NotFoundError
from kernel.models import Desired
from replay.formatting.output import Listing
from replay.views.listing import item_of
from replay.views.resources import INTENTS, intent_subject, render_context


class CancelResult(msgspec.Struct, frozen=True):
    """The result of one cancel."""

    intent_id: str
    problem: str = ""
    """Why there was nothing to cancel; empty if the cancel is recorded."""

    @property
    def line(self) -> str:
        what = f"not canceled: {self.problem}" if self.problem else "cancel requested"
        return f"intent/{self.intent_id} {what}"


def chosen(kernel: EventSourcedKernel, *, symbol_id: str | None = None, owner: str | None = None) -> list[str]:
    """Return the live, not canceled intents of a symbol or owner (default: all), in order of creation.

    Raises `NotFoundError` for an unknown symbol, so that a typing error does not read as "nothing to cancel".
    """
    state = kernel.state
    if symbol_id is not None and state.symbol(symbol_id) is None and not any(state.intents_of_symbol(symbol_id)):
        names = known_symbols(state)
        raise NotFoundError(f"symbol {symbol_id} not found; known symbols: {names or 'none yet'}")
    return [
        intent_id
        for intent_id in state.live_intent_ids()
        if (intent := state.intent(intent_id)) is not None
        and intent.desired is Desired.WORKING
        and symbol_id in (None, intent.order.symbol_id)
        and owner in (None, intent.owner)
    ]


def preview(kernel: EventSourcedKernel, intent_ids: Sequence[str]) -> Listing:
    context = render_context(kernel.state, SystemClock().now_ns())
    found = (kernel.state.intent(intent_id) for intent_id in intent_ids)
    items = tuple(item_of(INTENTS, context, intent_subject(intent)) for intent in found if intent is not None)
    return Listing(INTENTS.kind, INTENTS.columns, INTENTS.narrow, items)


async def clear(kernel: EventSourcedKernel, intent_ids: Sequence[str]) -> AsyncIterator[CancelResult]:
    """Cancel these intents; yield each result in order once its cancel is recorded.

    An intent that has ended or was deleted meanwhile has a result with its problem. Other errors of a command are raised.
    """
    for begin in range(0, len(intent_ids), CANCELS_MAX):
        part = intent_ids[begin : begin + CANCELS_MAX]
        refused = await kernel.cancel_orders(part)
        for intent_id in part:
            problem = refused.get(intent_id)
            yield CancelResult(intent_id, "" if problem is None else getattr(problem, "text", str(problem)))
