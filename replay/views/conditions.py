"""Conditions on an order, and waiting for them: `wait` and `place --wait`.

Called by the CLI and by scripts. A condition is a function of the state, checked again after each event of the intent or of
its group. One that can be undone (a bust reopens a filled order) is met once it was seen to hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from kernel.commands.waiters import cancel_answered, is_failed, modify_answered, placement_answered, refusal
from kernel.errors import NotFoundError, ValidationError, Violation, WaitTimeoutError
from kernel.lifecycle.orders.order_status import TERMINAL
from kernel.lifecycle.record import Record, has_desired_order
from kernel.models import OrdStatus, ReconciliationStatus
from kernel.plan import difference
from kernel.state import KernelState
from kernel.streams.rehydration import ensure_loaded
from replay.views.groups import limited_by

if TYPE_CHECKING:
    from kernel import EventSourcedKernel

Condition = Callable[[KernelState, str], bool]


def terminal_status(state: KernelState, intent_id: str) -> OrdStatus | None:
    """Return the status in which an order ended; None while anything may still be sent for it, its group's later
    releases included."""
    record, order = state.grouped_record(intent_id), state.order_state(intent_id)
    if record.may_be_live or state.awaits_parent(intent_id):
        return None
    if order is None:
        unwanted = record.deleted or (record.intent is not None and not has_desired_order(record.intent))
        return OrdStatus.CANCELED if unwanted else None
    at_rest = order.reconciliation_status in (ReconciliationStatus.SYNCED, ReconciliationStatus.FAILED)
    return order.status.ord_status if at_rest and order.status.ord_status in TERMINAL else None


def has_ended(status: OrdStatus) -> Condition:
    return lambda state, intent_id: terminal_status(state, intent_id) is status


def is_working(state: KernelState, intent_id: str) -> bool:
    """Return whether the venue has accepted an order that can fill."""
    return any(facts.accepted for facts in state.record(intent_id).live_orders)


def is_synced(state: KernelState, intent_id: str) -> bool:
    """Return whether the actual order matches the effective intent."""
    order = state.order_state(intent_id)
    if order is None:
        return state.record(intent_id).version > 0 and difference(state.effective_intent(intent_id), None) is None
    synced = order.reconciliation_status is ReconciliationStatus.SYNCED
    # The status alone does not compare prices.
    return synced and difference(state.effective_intent(intent_id), order) is None


def has_failed(state: KernelState, intent_id: str) -> bool:
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
"""Conditions to wait for, or that end a wait."""
UNFILLED_ENDS = ("rejected", "canceled", "expired", "failed")
"""Statuses that end a wait for `filled` without a fill."""


async def wait_for(
    kernel: EventSourcedKernel, intent_id: str, condition: str, *, timeout_s: float, or_fail_on: Iterable[str] = ()
) -> str:
    """Wait until a condition holds; return the one that held first: `condition`, or one of `or_fail_on`.

    Conditions are keys of `CONDITIONS`; a timeout of 0 checks once. The kernel need not lead. Raises `NotFoundError` for an
    unknown intent, `ValidationError` for an unknown condition, `WaitTimeoutError` if none held in time.
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
            f"intent {intent_id} is not {condition} after {timeout_s:g} s: {now_is(kernel, intent_id)}"
        ) from None
    return seen[0]


def now_is(kernel: EventSourcedKernel, intent_id: str) -> str:
    state = kernel.state.order_state(intent_id)
    if state is None:
        return limited_by(kernel.state, intent_id) or "nothing sent yet"
    return f"order {state.status.ord_status}, {state.reconciliation_status}"


def change_acknowledged(kernel: EventSourcedKernel, intent_id: str) -> bool:
    """Return whether the venue has answered the newest change of an order."""
    return modify_answered(kernel.state.record(intent_id), kernel.state.effective_intent(intent_id))


async def acknowledged(kernel: EventSourcedKernel, intent_id: str, *, timeout_s: float) -> bool:
    """Wait for the venue's answer to an order; False if there is none in time. Raises `ExchangeError` if it was
    rejected."""
    answered = await holds_in_time(
        kernel, intent_id, lambda state, name: placement_answered(state.record(name)), timeout_s=timeout_s
    )
    if (refused := refusal(kernel.state, intent_id)) is not None:
        raise refused
    return answered


async def off_the_book(kernel: EventSourcedKernel, intent_id: str, *, timeout_s: float) -> bool:
    """Wait until no order of an intent can be open at the venue; False if that takes too long."""
    return await holds_in_time(
        kernel, intent_id, lambda state, name: cancel_answered(state.record(name)), timeout_s=timeout_s
    )


async def holds_in_time(kernel: EventSourcedKernel, intent_id: str, holds: Condition, *, timeout_s: float) -> bool:
    """Wait until a condition holds of an intent; False if it does not in time."""
    try:
        await kernel.wait_until(intent_id, lambda _: holds(kernel.state, intent_id), timeout_s=timeout_s)
    except WaitTimeoutError:
        return False
    return True
