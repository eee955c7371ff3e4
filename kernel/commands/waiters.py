"""How the answer to a command is waited for: who waits for news of which intent, and what counts as an answer.

Used by the controller, and by `replay` for its own waits. An answer is what the venue's facts say, never what a timer says.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable

from kernel.commands.validation import symbol_named
from kernel.errors import ExchangeError, ValidationError, Violation
from kernel.lifecycle import Record, order_state
from kernel.lifecycle.record import primary_order
from kernel.models import AttemptOutcome, Desired, OrderIntent, OrderState, OrdStatus, ReconciliationStatus
from kernel.order_spec import SymbolMetadata
from kernel.plan import difference
from kernel.state import KernelState


class IntentWaiters:
    """Who waits for news of an intent."""

    def __init__(self) -> None:
        self._waiting: dict[str, dict[asyncio.Event, None]] = defaultdict(dict)
        """By intent, in the order in which they began to wait: who waits first is woken first."""
        self._all: dict[asyncio.Event, None] = {}
        self._problem: BaseException | None = None

    def notify(self, intent_ids: Iterable[str]) -> None:
        """These intents have news."""
        for intent_id in intent_ids:
            for waiter in self._waiting.get(intent_id, ()):
                waiter.set()
        for waiter in self._all:
            waiter.set()

    def fail(self, problem: BaseException) -> None:
        """There will be no more news."""
        self._problem = problem
        for waiter in (*self._all, *(item for waiting in self._waiting.values() for item in waiting)):
            waiter.set()

    async def until(self, holds: Callable[[], bool], *, intent_id: str | None, timeout_s: float) -> bool:
        """Whether a condition came to hold in time; looked at again at each news of the intent (or of anything)."""
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
    """Whether the venue has answered: an order was seen there, or refused for good, or is not wanted any more."""
    if record.unresolved:
        return False
    if any(facts.accepted or facts.closed is not None for facts in record.current_orders):
        return True
    return is_failed(order_state(record)) or record.intent is None or record.intent.desired is Desired.CANCELED


def is_failed(state: OrderState | None) -> bool:
    return state is not None and state.reconciliation_status is ReconciliationStatus.FAILED


def refusal(record: Record) -> ExchangeError | None:
    """The venue's definitive no to what is wanted now, an order or a change of one, as an error; None without one."""
    state = order_state(record)
    if state is None or not is_failed(state):
        return None
    refused = [item for item in record.attempts if item.outcome is AttemptOutcome.REJECTED and item.text]
    if refused:
        return ExchangeError(refused[-1].text, code=refused[-1].code, intent_id=record.intent_id)
    orders = [facts for facts in record.orders if facts.closed is OrdStatus.REJECTED]
    named = f" order {orders[-1].exchange_order_id or orders[-1].client_order_id}" if orders else " the order"
    return ExchangeError(f"the venue rejected{named}", intent_id=record.intent_id)


def modify_answered(record: Record, wish: OrderIntent | None) -> bool:
    """Whether the venue has answered a change: what works has the terms wanted, or it was refused, or it is over."""
    if record.unresolved or wish is None:
        return wish is None
    state = order_state(record)
    if is_failed(state) or wish.desired is Desired.CANCELED:
        return True
    return difference(wish, state) is None


def member_answered(record: Record, wish: OrderIntent | None) -> bool:
    """Whether there is nothing more to wait for of an order that its group may hold back."""
    held_back = wish is not None and wish.order.quantity <= record.cum_qty and not record.may_be_live
    waits_there = bool(record.live_orders) and not record.unresolved  # for the one that releases it, at the venue
    return held_back or waits_there or placement_answered(record)


def cancel_answered(record: Record) -> bool:
    """Whether nothing of an intent works at the venue any more, nor may."""
    return not record.may_be_live


def too_late(record: Record) -> ExchangeError | None:
    """Why a cancel came too late, when the order ended in another way; None when it did not. What ended before the wish
    that was canceled is no answer to it."""
    state, last = order_state(record), primary_order(record)
    if state is None or state.status.ord_status not in (OrdStatus.FILLED, OrdStatus.EXPIRED):
        return None
    if last is not None and record.intent is not None and 0 < last.generation < record.intent.generation - 1:
        return None
    return ExchangeError(f"too late to cancel: the order is {state.status.ord_status}", intent_id=record.intent_id)


async def awaited_symbol(
    symbol_id: str, state: KernelState, waiters: IntentWaiters, *, timeout_s: float, missing: tuple[str, ...]
) -> SymbolMetadata:
    """A market, as last observed; the first reference data is waited for.

    Raises `NotReadyError` when none came in time, `ValidationError` for a market that is not among them.
    """
    known = state.symbol(symbol_id)
    if known is not None:
        return known
    await waiters.until(lambda: any(state.symbols()), intent_id=None, timeout_s=timeout_s)
    return symbol_named(state, symbol_id, missing=missing)


def check_wait(wait: str) -> None:
    """`ValidationError` for what a command cannot wait for."""
    if wait not in ("ack", "recorded"):
        raise ValidationError(violations=[Violation("wait", "wait", "`ack` or `recorded`", wait)])
