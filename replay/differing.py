"""What `diff` prints: manifests against intents as a unified diff, or intents against actual orders, a row for each.

Called by the CLI. Both read a kernel's state and change nothing. The comparison of intents with orders is the reconciler's
own, `plan.difference`, on what its group lets an order be, so that what is shown is what it will see to; an intent that is
at rest (refused for good, ended by the venue, held back by its group) is no difference, since nothing is going to be done.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

from kernel import EventSourcedKernel, plan
from kernel.actions import ACTION_RULES, ActionKind
from kernel.clock import Clock, SystemClock
from kernel.groups import Group
from kernel.models import Desired, OrderIntent, OrderState
from kernel.order_spec import OcoMode, SymbolMetadata
from kernel.run_inputs import symbol_id_of
from kernel.state import KernelState
from replay.applying import Action, GroupStep, OrderStep, Step, title, with_record_of
from replay.decimals import plain
from replay.event_text import order_terms
from replay.groups import limited_by
from replay.output import Item, Listing, escaped, utc, yaml_text
from replay.resources import Look, look_at
from replay.waiting import ended_as

COLUMNS = ("INTENT", "DIFFERENCE", "WANTED", "ACTUAL", "WHY", "NEXT", "SYNC", "GENERATION")
NARROW = 6


# ----------------------------------------------------------------------------------------------- manifests and intents
def unified(kernel: EventSourcedKernel, steps: Sequence[Step]) -> str:
    """What applying would change, as a unified diff; empty when it would change nothing."""
    found = (step_diff(kernel.state, step) for step in steps)
    return "".join(text for text in found if text)


def step_diff(state: KernelState, step: Step) -> str:
    """One manifest's part of it."""
    before, after = sides(state, step)
    if before == after:
        return ""
    lines = difflib.unified_diff(
        yaml_text(before).splitlines() if before else [],
        yaml_text(after).splitlines(),
        "/dev/null" if step.known is None else f"log: {known_words(step)}",
        step.manifest.where,
        lineterm="",
    )
    return "".join(f"{escaped(line)}\n" for line in lines)


def known_words(step: Step) -> str:
    """What there is of a step, in the head of a diff."""
    known = step.known
    return f"{title(step.manifest)}" + (f", generation {known.generation}" if isinstance(known, OrderIntent) else "")


def sides(state: KernelState, step: Step) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is in the log and what applying a step comes to, in a manifest's form. What there is not is empty."""
    if isinstance(step, OrderStep):
        return order_sides(state, step)
    if step.known is not None and not step.own_conflict:
        found = [order_sides(state, item) for item in step.members]
        before, after = ([pair[side] for pair in found] for side in (0, 1))
        return group_data(step.name, step.known.mode, before), group_data(step.name, step.manifest.mode, after)
    wanted = [manifest_data(wanted_intent(item), item.symbol) for item in step.members]
    there = {} if step.known is None else group_data(step.name, step.known.mode, known_members(state, step.known))
    return there, group_data(step.name, step.manifest.mode, wanted)


def order_sides(state: KernelState, step: OrderStep) -> tuple[dict[str, Any], dict[str, Any]]:
    """The same of one order."""
    after = manifest_data(wanted_intent(step), step.symbol)
    before: dict[str, Any] = {} if step.known is None else manifest_data(step.known, step.symbol)
    if step.conflict and step.known is not None:  # what can't be changed back is part of the difference
        before["state"], after["state"] = standing(state, step.known), "WORKING"
    return before, after


def known_members(state: KernelState, group: Group) -> list[dict[str, Any]]:
    """The orders of a group that is in the log."""
    intents = (intent for name in group.intent_ids if (intent := state.intent(name)) is not None)
    return [manifest_data(intent, state.symbol(intent.order.symbol_id)) for intent in intents]


def wanted_intent(step: OrderStep) -> OrderIntent:
    """The intent that applying comes to, as far as a manifest can tell."""
    known = step.known or OrderIntent(intent_id=step.name, exchange_id="any", order=step.order)
    return with_record_of(known, step.manifest).model_copy(update={"order": step.order})


def standing(state: KernelState, intent: OrderIntent) -> str:
    """How an intent stands, in a word."""
    if intent.desired is Desired.CANCELED:
        return "CANCELED"
    return str(ended_as(state, intent.intent_id) or "WORKING")


def step_listing(state: KernelState, steps: Sequence[Step]) -> Listing:
    """The same for programs: each manifest that would change something, with what applying it comes to."""
    items = tuple(
        Item(
            step.name,
            step_object(state, step),
            ((title(step.manifest), str(step.action), step.conflict or "-"),),
            kind="ordergroup" if isinstance(step, GroupStep) else "order",
        )
        for step in steps
        if step.action is not Action.UNCHANGED or step.conflict
    )
    return Listing("order", ("ORDER", "ACTION", "CONFLICT"), 3, items)


def step_object(state: KernelState, step: Step) -> dict[str, Any]:
    before, after = sides(state, step)
    return {
        "group_id" if isinstance(step, GroupStep) else "intent_id": step.name,
        "action": step.action.value, "conflict": step.conflict or None,
        "manifest": step.manifest.where, "before": before or None, "after": after,
    }  # fmt: skip


# ----------------------------------------------------------------------------------------------------- a manifest's form
def group_data(name: str, mode: OcoMode, orders: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A group in a manifest's form; what an order has of metadata stands with it where it is not that of the group."""
    shared = {key: value for key, value in orders[0]["metadata"].items() if key != "name"} if orders else {}
    return {
        "kind": "OrderGroup",
        "metadata": {"name": name, **shared},
        "spec": {"mode": mode.value, "orders": [member_data(order, shared) for order in orders]},
    }


def member_data(order: dict[str, Any], shared: dict[str, Any]) -> dict[str, Any]:
    """One of a group's orders."""
    own = {key: value for key, value in order["metadata"].items() if shared.get(key) != value}
    missing = dict.fromkeys(shared.keys() - order["metadata"].keys())
    state = {key: value for key, value in order.items() if key == "state"}
    return {**own, **missing, **order["spec"], **state}


def manifest_data(intent: OrderIntent, symbol: SymbolMetadata | None) -> dict[str, Any]:
    """An intent in a manifest's form, its decimals at the market's scale: what two sides are compared by."""
    metadata: dict[str, Any] = {"name": intent.intent_id}
    if intent.owner:
        metadata["owner"] = intent.owner
    if labels := intent.metadata.get("labels"):
        metadata["labels"] = labels
    return {"kind": "Order", "metadata": metadata, "spec": spec_data(intent, symbol)}


def spec_data(intent: OrderIntent, symbol: SymbolMetadata | None) -> dict[str, Any]:
    """The fields of a manifest's spec that are set."""
    order = intent.order
    spec: dict[str, Any] = {
        "symbol_id": order.symbol_id,
        "side": order.side.value,
        "order_type": order.order_type.value,
    }
    for name in ("quantity", "price", "stop_price", "display_quantity"):
        value = getattr(order, name)
        if value is not None and symbol is not None:
            to_decimal = symbol.quantity_to_decimal if "quantity" in name else symbol.price_to_decimal
            spec[name] = plain(to_decimal(value))
        elif value is not None:
            spec[name] = value
    spec["time_in_force"] = order.time_in_force.value
    if order.expire_at_ns is not None:
        spec["expire_at"] = instant_text(order.expire_at_ns)
    spec |= {name: True for name in ("post_only", "reduce_only") if getattr(order, name)}
    spec["on_unsolicited_cancel"] = intent.on_unsolicited_cancel.value
    return spec


def instant_text(instant_ns: int) -> str:
    """An instant as RFC 3339, to the nanosecond."""
    second, fraction = utc(instant_ns).partition(".")[0], instant_ns % 10**9
    return f"{second}.{fraction:09d}Z" if fraction else f"{second}Z"


# --------------------------------------------------------------------------------------------- intents and actual orders
def differences(kernel: EventSourcedKernel, *, clock: Clock | None = None) -> Listing:
    """Every intent whose wanted and actual sides differ, in order of creation, with why."""
    look = look_at(kernel.state, (clock or SystemClock()).now_ns())
    items = tuple(
        difference_item(look, intent_id, found)
        for intent_id in known_ids(kernel.state)
        if (found := plan.difference(kernel.state.wish(intent_id), kernel.state.exposure(intent_id))) is not None
    )
    return Listing("intent", COLUMNS, NARROW, items)


def known_ids(state: KernelState) -> Iterable[str]:
    """Every intent and every order without one."""
    wanted = (intent.intent_id for intent in state.intents())
    return dict.fromkeys((*wanted, *(order.intent_id for order in state.order_states()), *state.live_intent_ids()))


def difference_item(look: Look, intent_id: str, found: plan.Difference) -> Item:
    intent, order = look.state.wish(intent_id), look.state.exposure(intent_id)
    then, why = next_try(look, intent_id, found.kind), why_text(look, intent, order, found)
    wanted, actual = wanted_text(look, intent), actual_text(look, order)
    status = order.reconciliation_status.value if order is not None else "PENDING"
    generation = "-" if intent is None else str(intent.generation)
    data = {
        "intent_id": intent_id, "difference": found.kind.value, "why": why, "wanted": wanted, "actual": actual,
        "next": then, "reconciliation_status": status, "generation": None if intent is None else intent.generation,
    }  # fmt: skip
    return Item(intent_id, data, ((intent_id, found.kind, wanted, actual, why, then, status, generation),))


def wanted_text(look: Look, intent: OrderIntent | None) -> str:
    """What is wanted of it now, as its group lets it be, in a few words."""
    if intent is None:
        return "nothing: deleted"
    if intent.desired is Desired.CANCELED:
        return "nothing: canceled"
    if intent.order.quantity == 0:
        return f"nothing: {limited_by(look.state, intent.intent_id)}"
    return order_terms(intent.order.model_dump(mode="json", exclude_none=True), look.scales)


def actual_text(look: Look, order: OrderState | None) -> str:
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


def why_text(look: Look, intent: OrderIntent | None, order: OrderState | None, found: plan.Difference) -> str:
    """Why they differ: the comparison's own words, its quantity as a decimal."""
    if found.kind is not ActionKind.SUBMIT or intent is None or order is None:
        return found.text
    left = look.scales.quantity(intent.order.symbol_id, plan.remainder(intent, order))
    return f"{left} is wanted and does not work"


def action_text(look: Look, action: plan.Action) -> str:
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


def next_try(look: Look, intent_id: str, kind: ActionKind) -> str:
    """When something is tried next, as far as the log says."""
    intent, order = look.state.intent(intent_id), look.state.exposure(intent_id)
    if held := held_back(look.state, intent_id, kind, symbol_id_of(intent, order)):
        return f"not while {held}"
    if order is None or order.not_before_ns <= look.now_ns:
        return "at once, when a kernel leads"
    return f"after {utc(order.not_before_ns)}"


def held_back(state: KernelState, intent_id: str, kind: ActionKind, symbol_id: str) -> str:
    """What a pause, a halt or a storm holds back of it; empty when nothing does."""
    request = ACTION_RULES[kind].attempt
    if request is None:
        return ""
    return state.gates.reason(symbol_id, request, intent_paused=state.record(intent_id).paused)
