"""Waiting for an intent to get somewhere: the conditions that `wait` and `place --wait` know.

Called by the CLI and by strategies' scripts. Conditions are functions of what the log says of an intent, looked at again
with each event of it, or of its group. A condition that can be lost again (a bust reopens a filled order) is true when it
was seen true. What is wanted of an order is what its group lets it be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from kernel import EventSourcedKernel
from kernel.commands.waiters import cancel_answered, is_failed, placement_answered, refusal
from kernel.errors import NotFoundError, ValidationError, Violation, WaitTimeoutError
from kernel.lifecycle import TERMINAL, Record
from kernel.lifecycle.record import has_desired_order
from kernel.models import OrdStatus, ReconciliationStatus
from kernel.plan import difference
from kernel.state import KernelState
from kernel.streams.rehydration import ensure_loaded
from replay.views.groups import limited_by

Condition = Callable[[KernelState, str], bool]


def terminal_status(state: KernelState, intent_id: str) -> OrdStatus | None:
    """The status that an intent's order ended in, when as things stand nothing more will be sent for it: no order that
    its group may release more of has ended, and one that it lets be nothing has."""
    record, order = state.grouped_record(intent_id), state.order_state(intent_id)
    if record.may_be_live or state.awaits_parent(intent_id):
        return None
    if order is None:
        unwanted = record.deleted or (record.intent is not None and not has_desired_order(record.intent))
        return OrdStatus.CANCELED if unwanted else None
    at_rest = order.reconciliation_status in (ReconciliationStatus.SYNCED, ReconciliationStatus.FAILED)
    return order.status.ord_status if at_rest and order.status.ord_status in TERMINAL else None


def has_ended(status: OrdStatus) -> Condition:
    """That an order has ended in a status."""
    return lambda state, intent_id: terminal_status(state, intent_id) is status


def is_working(state: KernelState, intent_id: str) -> bool:
    """Whether the venue has the order and can fill it."""
    return any(facts.accepted for facts in state.record(intent_id).live_orders)


def is_synced(state: KernelState, intent_id: str) -> bool:
    """Whether what is at the venue is what is wanted."""
    order = state.order_state(intent_id)
    if order is None:
        return state.record(intent_id).version > 0 and difference(state.effective_intent(intent_id), None) is None
    synced = order.reconciliation_status is ReconciliationStatus.SYNCED
    return (
        synced and difference(state.effective_intent(intent_id), order) is None
    )  # a status without a plan looks at no prices


def has_failed(state: KernelState, intent_id: str) -> bool:
    """Whether the venue rejected the order, or its change, for good."""
    return is_failed(state.order_state(intent_id))


CONDITIONS: Mapping[str, Condition] = {
    "working": is_working,
    "filled": has_ended(OrdStatus.FILLED),
    "canceled": has_ended(OrdStatus.CANCELED),
    "terminal": lambda state, intent_id: terminal_status(state, intent_id) is not None,
    "synced": is_synced,
    "rejected": lambda state, intent_id: (
        terminal_status(state, intent_id) is OrdStatus.REJECTED or has_failed(state, intent_id)
    ),
    "expired": has_ended(OrdStatus.EXPIRED),
    "failed": has_failed,
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
        raise ValidationError(violations=[Violation("condition", "name", limit, name) for name in unknown])
    await ensure_loaded(kernel.log, kernel.state, intent_id)
    if kernel.state.record(intent_id).version == 0:
        raise NotFoundError(f"intent {intent_id} not found")

    seen: list[str] = []

    def holds(record: Record) -> bool:
        seen[:] = [name for name in names if CONDITIONS[name](kernel.state, record.intent_id)][:1]
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
        return limited_by(kernel.state, intent_id) or "nothing was sent for it yet"
    return f"it is {state.status.ord_status}, {state.reconciliation_status}"


async def acknowledged(kernel: EventSourcedKernel, intent_id: str, *, timeout_s: float) -> bool:
    """Whether the venue answered to an order in time. Raises `ExchangeError` when the answer is a definitive no."""
    answered = await holds_in_time(kernel, intent_id, is_acknowledged, timeout_s=timeout_s)
    if (refused := refusal(kernel.state.record(intent_id))) is not None:
        raise refused
    return answered


async def off_the_book(kernel: EventSourcedKernel, intent_id: str, *, timeout_s: float) -> bool:
    """Whether nothing of an intent worked at the venue any more in time."""
    return await holds_in_time(kernel, intent_id, is_off_the_book, timeout_s=timeout_s)


def is_acknowledged(state: KernelState, intent_id: str) -> bool:
    """Whether the venue has answered to an order."""
    return placement_answered(state.record(intent_id))


def is_off_the_book(state: KernelState, intent_id: str) -> bool:
    """Whether nothing of an intent works at the venue any more, nor may."""
    return cancel_answered(state.record(intent_id))


async def holds_in_time(kernel: EventSourcedKernel, intent_id: str, holds: Condition, *, timeout_s: float) -> bool:
    """Whether something came to hold of an intent in time."""
    try:
        await kernel.wait_until(intent_id, lambda _: holds(kernel.state, intent_id), timeout_s=timeout_s)
    except WaitTimeoutError:
        return False
    return True
