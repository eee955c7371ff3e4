"""How intents and actual orders differ: what `diff` lists without a manifest, and the words of it that others show too.

Called by the CLI, `describe` and `top`. It reads a kernel's state and changes nothing. The comparison is the reconciler's
own, `plan.difference`, on the quantity that its group permits, so what is shown is what it will act on; an intent that is
at rest (rejected for good, ended by the venue, held back by its group) is no difference, since nothing is going to be done.
"""

from __future__ import annotations

from collections.abc import Iterable

from kernel import EventSourcedKernel, plan
from kernel.actions import ACTION_RULES, ActionKind
from kernel.clock import Clock, SystemClock
from kernel.models import Desired, OrderIntent, OrderState
from kernel.reconciler.run_inputs import symbol_id_of
from kernel.state import KernelState
from replay.formatting.events import order_terms
from replay.formatting.output import Item, Listing, utc
from replay.views.groups import limited_by
from replay.views.resources import RenderContext, render_context

COLUMNS = ("INTENT", "DIFFERENCE", "WANTED", "ACTUAL", "WHY", "NEXT", "SYNC", "GENERATION")
NARROW = 6


def differences(kernel: EventSourcedKernel, *, clock: Clock | None = None) -> Listing:
    """Every intent whose wanted and actual sides differ, in order of creation, with why."""
    look = render_context(kernel.state, (clock or SystemClock()).now_ns())
    items = tuple(
        difference_item(look, intent_id, found)
        for intent_id in known_ids(kernel.state)
        if (found := plan.difference(kernel.state.effective_intent(intent_id), kernel.state.observed_order(intent_id)))
        is not None
    )
    return Listing("intent", COLUMNS, NARROW, items)


def known_ids(state: KernelState) -> Iterable[str]:
    """Every intent and every order without one."""
    wanted = (intent.intent_id for intent in state.intents())
    return dict.fromkeys((*wanted, *(order.intent_id for order in state.order_states()), *state.live_intent_ids()))


def difference_item(look: RenderContext, intent_id: str, found: plan.Difference) -> Item:
    intent, order = look.state.effective_intent(intent_id), look.state.observed_order(intent_id)
    then, why = next_try(look, intent_id, found.kind), reason_text(look, intent, order, found)
    wanted, actual = desired_text(look, intent), actual_text(look, order)
    status = order.reconciliation_status.value if order is not None else "PENDING"
    generation = "-" if intent is None else str(intent.generation)
    data = {
        "intent_id": intent_id, "difference": found.kind.value, "why": why, "wanted": wanted, "actual": actual,
        "next": then, "reconciliation_status": status, "generation": None if intent is None else intent.generation,
    }  # fmt: skip
    return Item(intent_id, data, ((intent_id, found.kind, wanted, actual, why, then, status, generation),))


def desired_text(look: RenderContext, intent: OrderIntent | None) -> str:
    """What is wanted of it now, as its group lets it be, in a few words."""
    if intent is None:
        return "nothing: deleted"
    if intent.desired is Desired.CANCELED:
        return "nothing: canceled"
    if intent.order.quantity == 0:
        return f"nothing: {limited_by(look.state, intent.intent_id)}"
    return order_terms(intent.order.model_dump(mode="json", exclude_none=True), look.scales)


def actual_text(look: RenderContext, order: OrderState | None) -> str:
    """What is there, in a few words."""
    if order is None:
        return "nothing was sent"
    symbol_id, status = order.status.order.symbol_id, order.status
    live = plan.live_orders(order)
    if not live:
        return str(status.ord_status)
    terms = order_terms(status.order.model_dump(mode="json", exclude_none=True), look.scales)
    filled = f", filled {look.scales.quantity(symbol_id, status.cum_qty)}" if status.cum_qty else ""
    count = f", {len(live)} orders" if len(live) > 1 else ""
    return f"{status.ord_status} {terms}{filled}{count}"


def reason_text(
    look: RenderContext, intent: OrderIntent | None, order: OrderState | None, found: plan.Difference
) -> str:
    """Why they differ: the comparison's own words, its quantity as a decimal."""
    if found.kind is not ActionKind.SUBMIT or intent is None or order is None:
        return found.text
    left = look.scales.quantity(intent.order.symbol_id, plan.remainder(intent, order))
    return f"{left} is wanted and does not work"


def action_text(look: RenderContext, action: plan.Action) -> str:
    """What the reconciler would do next, in a few words."""
    match action:
        case plan.Submit(order=order):
            return f"submit {order_terms(order.model_dump(mode='json', exclude_none=True), look.scales)}"
        case plan.Cancel(order=item, reason=reason):
            return f"cancel {item.exchange_order_id or item.client_order_id}: {reason}"
        case plan.Resolve(attempt=attempt):
            return f"find out what became of {attempt.kind} number {attempt.number}"
        case plan.Ask(order=item, reason=reason):
            return f"ask about {item.exchange_order_id or item.client_order_id}: {reason}"
        case plan.RejectLocally(violations=violations):
            return f"refuse it: {'; '.join(map(str, violations))}"
    return f"{action.label}: {action.reason}" if action.reason else action.label


def next_try(look: RenderContext, intent_id: str, kind: ActionKind) -> str:
    """When something is tried next, as far as the log says."""
    intent, order = look.state.intent(intent_id), look.state.observed_order(intent_id)
    if held := blocked_reason(look.state, intent_id, kind, symbol_id_of(intent, order)):
        return f"not while {held}"
    if order is None or order.not_before_ns <= look.now_ns:
        return "at once, when a kernel leads"
    return f"after {utc(order.not_before_ns)}"


def blocked_reason(state: KernelState, intent_id: str, kind: ActionKind, symbol_id: str) -> str:
    """What a pause, a halt or a storm holds back of it; empty when nothing does."""
    request = ACTION_RULES[kind].attempt
    if request is None:
        return ""
    return state.trading_status.reason(symbol_id, request, intent_paused=state.record(intent_id).paused)
