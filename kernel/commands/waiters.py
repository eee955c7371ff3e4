"""Waits for events of an intent, and the conditions under which the venue has answered a command.

Called by the controller and `replay`. Only facts in the log count as an answer.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable

from kernel.errors import ExchangeError, ValidationError, Violation
from kernel.lifecycle.disagreement import disagreement_text
from kernel.lifecycle.record import Record, order_state, primary_order
from kernel.models import AttemptOutcome, Desired, OrderIntent, OrderState, OrdStatus, ReconciliationStatus
from kernel.plan import difference
from kernel.state import KernelState


class IntentWaiters:
    """The tasks that wait for events of an intent."""

    def __init__(self) -> None:
        self._waiting: dict[str, dict[asyncio.Event, None]] = defaultdict(dict)
        """Intent id → waiters, woken in the order in which they began to wait."""
        self._all: dict[asyncio.Event, None] = {}
        self._problem: BaseException | None = None

    def notify(self, intent_ids: Iterable[str]) -> None:
        for intent_id in intent_ids:
            for waiter in self._waiting.get(intent_id, ()):
                waiter.set()
        for waiter in self._all:
            waiter.set()

    def fail(self, problem: BaseException) -> None:
        """Wake all waiters with a problem: no more events come."""
        self._problem = problem
        for waiter in (*self._all, *(item for waiting in self._waiting.values() for item in waiting)):
            waiter.set()

    async def until(self, holds: Callable[[], bool], *, intent_id: str | None, timeout_s: float) -> bool:
        """Return whether a condition holds in time, checked after each event of the intent (None: of any)."""
        waiter = asyncio.Event()
        waiting = self._all if intent_id is None else self._waiting[intent_id]
        waiting[waiter] = None
        try:
            async with asyncio.timeout(timeout_s):
                while not holds():
                    if self._problem is not None:
                        raise self._problem
                    await waiter.wait()
                    waiter.clear()
        except TimeoutError:
            return False
        finally:
            waiting.pop(waiter, None)
            if intent_id is not None and not self._waiting[intent_id]:
                del self._waiting[intent_id]
        return True


def placement_answered(record: Record) -> bool:
    """Return whether the venue has answered a placement: accepted, ended or rejected it, or the intent was canceled."""
    if record.unresolved:
        return False
    if any(facts.accepted or facts.closed is not None for facts in record.current_orders):
        return True
    return is_failed(order_state(record)) or record.intent is None or record.intent.desired is Desired.CANCELED


def is_failed(state: OrderState | None) -> bool:
    return state is not None and state.reconciliation_status is ReconciliationStatus.FAILED


def refusal(state: KernelState, intent_id: str) -> ExchangeError | None:
    """Return the venue's definitive rejection of the current generation as an error, if there is one."""
    record = state.record(intent_id)
    if not is_failed(order_state(record)):
        return None
    if state.is_exit(intent_id) and not is_failed(state.order_state(intent_id)):
        return None  # it is placed again
    if record.intent is not None and any(facts.rare.other_terms for facts in record.live_orders):
        text = disagreement_text(record, state.symbol(record.intent.order.symbol_id))
        return ExchangeError(text, intent_id=record.intent_id)
    refused = [item for item in record.attempts if item.outcome is AttemptOutcome.REJECTED and item.text]
    if refused:
        return ExchangeError(refused[-1].text, code=refused[-1].code, intent_id=record.intent_id)
    orders = [facts for facts in record.orders if facts.closed is OrdStatus.REJECTED]
    named = f" order {orders[-1].exchange_order_id or orders[-1].client_order_id}" if orders else " the order"
    return ExchangeError(f"the venue rejected{named}", intent_id=record.intent_id)


def placement_refusal(state: KernelState, intent_id: str) -> ExchangeError | None:
    """Return the venue's definitive rejection of a placement; none while an order works with other terms.

    Who takes it for rejected could place another one. VENUE_DISAGREES reports the terms.
    """
    works = any(facts.rare.other_terms for facts in state.record(intent_id).live_orders)
    return None if works else refusal(state, intent_id)


def modify_answered(record: Record, effective: OrderIntent | None) -> bool:
    """Return whether the venue has answered a change: the order has the new terms, was rejected or has ended."""
    if record.unresolved or effective is None:
        return effective is None
    state = order_state(record)
    if is_failed(state) or effective.desired is Desired.CANCELED:
        return True
    return difference(effective, state) is None


def member_answered(record: Record, effective: OrderIntent | None) -> bool:
    """Return whether the venue has answered a member of a group, or its group holds it back."""
    held_back = effective is not None and effective.order.quantity <= record.cum_qty and not record.may_be_live
    waits_there = bool(record.live_orders) and not record.unresolved  # a child that waits at the venue
    return held_back or waits_there or placement_answered(record)


def cancel_answered(record: Record) -> bool:
    """Return whether no order of an intent works, or may work, at the venue."""
    return not record.may_be_live


def too_late(record: Record) -> ExchangeError | None:
    """Return the error of a cancel whose order was filled or expired first, unless it is of an older generation."""
    state, last = order_state(record), primary_order(record)
    if state is None or state.status.ord_status not in (OrdStatus.FILLED, OrdStatus.EXPIRED):
        return None
    if last is not None and record.intent is not None and 0 < last.generation < record.intent.generation - 1:
        return None
    return ExchangeError(f"too late to cancel: the order is {state.status.ord_status}", intent_id=record.intent_id)


def check_wait(wait: str) -> None:
    """Raise `ValidationError` for an unknown `wait`."""
    if wait not in ("ack", "recorded"):
        raise ValidationError(violations=[Violation("wait", "wait", "`ack` or `recorded`", wait)])
