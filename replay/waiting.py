"""Waiting for an intent to get somewhere: the conditions that `wait` and `place --wait` know.

Called by the CLI and by strategies' scripts. Conditions are functions of what the log says of an intent, looked at again
with each event of it. A condition that can be lost again (a bust reopens a filled order) is true when it was seen true.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from kernel import EventSourcedKernel
from kernel.commands import cancel_answered, placement_answered, refusal
from kernel.errors import NotFoundError, ValidationError, Violation, WaitTimeoutError
from kernel.lifecycle import TERMINAL, Record, order_state
from kernel.models import Desired, OrdStatus, ReconciliationStatus
from kernel.plan import difference


def ended_as(record: Record) -> OrdStatus | None:
    """The status that an intent's order ended in, when as things stand nothing more will be sent for it."""
    if record.may_be_live:
        return None
    state = order_state(record)
    if state is None:
        unwanted = record.deleted or (record.intent is not None and record.intent.desired is Desired.CANCELED)
        return OrdStatus.CANCELED if unwanted else None
    at_rest = state.reconciliation_status in (ReconciliationStatus.SYNCED, ReconciliationStatus.FAILED)
    return state.status.ord_status if at_rest and state.status.ord_status in TERMINAL else None


def is_working(record: Record) -> bool:
    """Whether the venue has the order and can fill it."""
    return any(facts.accepted for facts in record.live_orders)


def is_synced(record: Record) -> bool:
    """Whether what is at the venue is what is wanted."""
    state = order_state(record)
    if state is None:
        return ended_as(record) is not None
    synced = state.reconciliation_status is ReconciliationStatus.SYNCED
    return synced and difference(record.intent, state) is None  # a status without a plan does not look at prices


def is_failed(record: Record) -> bool:
    """Whether the venue refused for good."""
    state = order_state(record)
    return state is not None and state.reconciliation_status is ReconciliationStatus.FAILED


CONDITIONS: Mapping[str, Callable[[Record], bool]] = {
    "working": is_working,
    "filled": lambda record: ended_as(record) is OrdStatus.FILLED,
    "canceled": lambda record: ended_as(record) is OrdStatus.CANCELED,
    "terminal": lambda record: ended_as(record) is not None,
    "synced": is_synced,
    "rejected": lambda record: ended_as(record) is OrdStatus.REJECTED or is_failed(record),
    "expired": lambda record: ended_as(record) is OrdStatus.EXPIRED,
    "failed": is_failed,
}
"""What can be waited for, and what can end a wait."""
UNFILLED_ENDS = ("rejected", "canceled", "expired", "failed")
"""What ends a wait for `filled` without it."""


async def wait_for(
    kernel: EventSourcedKernel, intent_id: str, condition: str, *, timeout_s: float, or_fail_on: Iterable[str] = ()
) -> str:
    """Which came true first: the condition, or one of those that end the wait without it. 0 s: look once.

    Raises `NotFoundError` for an unknown intent, `ValidationError` for an unknown condition, `WaitTimeoutError`.
    """
    names = (condition, *or_fail_on)
    if unknown := [name for name in names if name not in CONDITIONS]:
        limit = f"one of {', '.join(CONDITIONS)}"
        raise ValidationError("what to wait for", [Violation("condition", "name", limit, name) for name in unknown])
    if kernel.state.record(intent_id).version == 0:
        raise NotFoundError(f"intent {intent_id} not found")

    def came_true(record: Record) -> str | None:
        return next((name for name in names if CONDITIONS[name](record)), None)

    seen: list[str] = []

    def holds(record: Record) -> bool:
        seen[:] = [name] if (name := came_true(record)) else []
        return bool(seen)

    try:
        await kernel.wait_until(intent_id, holds, timeout_s=timeout_s)
    except WaitTimeoutError:
        raise WaitTimeoutError(
            f"intent {intent_id}: not {condition} after {timeout_s:g} s; {now_is(kernel, intent_id)}"
        ) from None
    return seen[0]


def now_is(kernel: EventSourcedKernel, intent_id: str) -> str:
    """How an intent stands, in a few words."""
    state = kernel.state.order_state(intent_id)
    if state is None:
        return "nothing was sent for it yet"
    return f"it is {state.status.ord_status}, {state.reconciliation_status}"


async def acknowledged(kernel: EventSourcedKernel, intent_id: str, *, timeout_s: float) -> bool:
    """Whether the venue answered to an order in time. Raises `ExchangeError` when the answer is a definitive no."""
    answered = await came_to(kernel, intent_id, placement_answered, timeout_s=timeout_s)
    if (refused := refusal(kernel.state.record(intent_id))) is not None:
        raise refused
    return answered


async def off_the_book(kernel: EventSourcedKernel, intent_id: str, *, timeout_s: float) -> bool:
    """Whether nothing of an intent worked at the venue any more in time."""
    return await came_to(kernel, intent_id, cancel_answered, timeout_s=timeout_s)


async def came_to(
    kernel: EventSourcedKernel, intent_id: str, holds: Callable[[Record], bool], *, timeout_s: float
) -> bool:
    """Whether something came to hold of an intent in time."""
    try:
        await kernel.wait_until(intent_id, holds, timeout_s=timeout_s)
    except WaitTimeoutError:
        return False
    return True
