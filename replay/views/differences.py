"""How intents and actual orders differ: what `diff` lists without a manifest, and the wording that other views share.

Called by the CLI, `describe` and `top`. The comparison is the reconciler's own, `plan.difference`, on the quantity that the
group permits. An intent at rest (rejected, ended, held by its group) is no difference: nothing will be done.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from kernel import plan
from kernel.actions import ACTION_RULES, ActionKind
from kernel.models import Desired, OrderIntent, OrderState
from kernel.state import KernelState, symbol_id_of
from replay.formatting.events import order_terms
from replay.formatting.output import Item, Listing, utc
from replay.views.groups import limited_by
from replay.views.resources import RenderContext, render_context

if TYPE_CHECKING:
    from kernel import EventSourcedKernel

COLUMNS = ("INTENT", "DIFFERENCE", "DESIRED", "ACTUAL", "REASON", "NEXT", "SYNC", "GENERATION")
NARROW = 6
IN_SYNC = "desired and actual order agree"


class NextTry(NamedTuple):
    """When the kernel tries next: once a block ends, after a backoff, or at once."""

    blocked_by: str = ""
    not_before_ns: int = 0
    """The end of a backoff; 0: there is none."""

    def __str__(self) -> str:
        if self.blocked_by:
            return f"not while {self.blocked_by}"
        return f"after {utc(self.not_before_ns)}" if self.not_before_ns else "at once"


def differences(kernel: EventSourcedKernel) -> Listing:
    """List the intents that differ from their actual orders, oldest first, with the reason."""
    context = render_context(kernel.state, kernel.now_ns)
    items = tuple(
        difference_item(context, intent_id, found)
        for intent_id in known_ids(kernel.state)
        if (found := plan.difference(kernel.state.effective_intent(intent_id), kernel.state.observed_order(intent_id)))
        is not None
    )
    return Listing("intent", COLUMNS, NARROW, items)


def known_ids(state: KernelState) -> Iterable[str]:
    desired = (intent.intent_id for intent in state.intents())
    return dict.fromkeys((*desired, *(order.intent_id for order in state.order_states()), *state.live_intent_ids()))


def difference_item(context: RenderContext, intent_id: str, found: plan.Difference) -> Item:
    intent, order = context.state.effective_intent(intent_id), context.state.observed_order(intent_id)
    then, reason = str(next_try(context, intent_id, found.kind)), reason_text(context, intent, order, found)
    desired, actual = desired_text(context, intent), actual_text(context, order)
    status = order.reconciliation_status.value if order is not None else "PENDING"
    generation = "-" if intent is None else str(intent.generation)
    data = {
        "intent_id": intent_id, "difference": found.kind.value, "why": reason, "wanted": desired, "actual": actual,
        "next": then, "reconciliation_status": status, "generation": None if intent is None else intent.generation,
    }  # fmt: skip
    return Item(intent_id, data, ((intent_id, found.kind, desired, actual, reason, then, status, generation),))


def desired_text(context: RenderContext, intent: OrderIntent | None) -> str:
    if intent is None:
        return "nothing: deleted"
    if intent.desired is Desired.CANCELED:
        return "nothing: canceled"
    if intent.order.quantity == 0:
        return f"nothing: {limited_by(context.state, intent.intent_id)}"
    return order_terms(msgspec.to_builtins(intent.order), context.scales)


def actual_text(context: RenderContext, order: OrderState | None) -> str:
    if order is None:
        return "nothing sent"
    symbol_id, status = order.status.order.symbol_id, order.status
    live = plan.live_orders(order)
    if not live:
        return str(status.ord_status)
    terms = order_terms(msgspec.to_builtins(status.order), context.scales)
    filled = f", filled {context.scales.quantity(symbol_id, status.cum_qty)}" if status.cum_qty else ""
    count = f", {len(live)} orders" if len(live) > 1 else ""
    return f"{status.ord_status} {terms}{filled}{count}"


def reason_text(
    context: RenderContext, intent: OrderIntent | None, order: OrderState | None, found: plan.Difference
) -> str:
    if found.kind is not ActionKind.SUBMIT or intent is None or order is None:
        return found.text
    left = context.scales.quantity(intent.order.symbol_id, plan.remainder(intent, order))
    return f"{left} of the desired quantity is not at the venue"


def action_text(context: RenderContext, action: plan.Action) -> str:
    match action:
        case plan.Submit(order=order):
            return f"submit {order_terms(msgspec.to_builtins(order), context.scales)}"
        case plan.Cancel(order=item, reason=reason):
            return f"cancel {item.exchange_order_id or item.client_order_id}: {reason}"
        case plan.Resolve(attempt=attempt):
            return f"resolve {attempt.kind} number {attempt.number}"
        case plan.Ask(order=item, reason=reason):
            return f"query {item.exchange_order_id or item.client_order_id}: {reason}"
        case plan.RejectLocally(violations=violations):
            return f"reject it locally: {'; '.join(map(str, violations))}"
    return f"{action.label}: {action.reason}" if action.reason else action.label


def next_action(context: RenderContext, intent_id: str) -> plan.Action:
    state = context.state
    intent, order = state.effective_intent(intent_id), state.observed_order(intent_id)
    symbol = state.symbol(symbol_id_of(intent, order))
    return plan.plan(intent, order, symbol=symbol, now_ns=context.now_ns)


def next_try(context: RenderContext, intent_id: str, kind: ActionKind) -> NextTry:
    """Return when the kernel tries next, as far as the log says."""
    intent, order = context.state.intent(intent_id), context.state.observed_order(intent_id)
    blocked_by = blocked_reason(context.state, intent_id, kind, symbol_id_of(intent, order))
    backs_off = order is not None and order.not_before_ns > context.now_ns
    return NextTry(blocked_by, order.not_before_ns if order is not None and backs_off else 0)


def blocked_reason(state: KernelState, intent_id: str, kind: ActionKind, symbol_id: str) -> str:
    """The pause, halt or rejection storm that blocks it; empty if none does."""
    request = ACTION_RULES[kind].attempt
    if request is None:
        return ""
    return state.trading_status.reason(symbol_id, request, intent_paused=state.record(intent_id).paused)
