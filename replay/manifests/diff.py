"""The changes that `apply` would make: a unified diff for people, objects for programs. Called by `diff -f`."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

from msgspec import structs

from kernel import EventSourcedKernel
from kernel.groups import Group
from kernel.models import Desired, OrderIntent
from kernel.order_spec import OcoMode, SymbolMetadata
from kernel.state import KernelState
from replay.formatting.decimals import decimal_text
from replay.formatting.output import Item, Listing, escaped, utc, yaml_text
from replay.manifests.apply import Action, GroupStep, OrderStep, Step, title, with_record_of
from replay.views.conditions import terminal_status


def unified(kernel: EventSourcedKernel, steps: Sequence[Step]) -> str:
    """Return what applying would change as a unified diff; empty if nothing."""
    found = (step_diff(kernel.state, step) for step in steps)
    return "".join(text for text in found if text)


def step_diff(state: KernelState, step: Step) -> str:
    before, after = before_after(state, step)
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
    known = step.known
    return f"{title(step.manifest)}" + (f", generation {known.generation}" if isinstance(known, OrderIntent) else "")


def before_after(state: KernelState, step: Step) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the log's side and the manifest's side of a step, both in a manifest's form."""
    if isinstance(step, OrderStep):
        return order_before_after(state, step)
    if step.known is not None and not step.own_conflict:
        found = [order_before_after(state, item) for item in step.members]
        before, after = ([pair[side] for pair in found] for side in (0, 1))
        return group_data(step.name, step.known.mode, before), group_data(step.name, step.manifest.mode, after)
    desired = [manifest_data(desired_intent(item), item.symbol) for item in step.members]
    present = {} if step.known is None else group_data(step.name, step.known.mode, known_members(state, step.known))
    return present, group_data(step.name, step.manifest.mode, desired)


def order_before_after(state: KernelState, step: OrderStep) -> tuple[dict[str, Any], dict[str, Any]]:
    after = manifest_data(desired_intent(step), step.symbol)
    before: dict[str, Any] = {} if step.known is None else manifest_data(step.known, step.symbol)
    if step.conflict and step.known is not None:  # a conflict is part of the difference
        before["state"], after["state"] = intent_status(state, step.known), "WORKING"
    return before, after


def known_members(state: KernelState, group: Group) -> list[dict[str, Any]]:
    intents = (intent for name in group.intent_ids if (intent := state.intent(name)) is not None)
    return [manifest_data(intent, state.symbol(intent.order.symbol_id)) for intent in intents]


def desired_intent(step: OrderStep) -> OrderIntent:
    known = step.known or OrderIntent(intent_id=step.name, exchange_id="any", order=step.order)
    return structs.replace(with_record_of(known, step.manifest), order=step.order)


def intent_status(state: KernelState, intent: OrderIntent) -> str:
    if intent.desired is Desired.CANCELED:
        return "CANCELED"
    return str(terminal_status(state, intent.intent_id) or "WORKING")


def step_listing(state: KernelState, steps: Sequence[Step]) -> Listing:
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
    before, after = before_after(state, step)
    return {
        "group_id" if isinstance(step, GroupStep) else "intent_id": step.name,
        "action": step.action.value, "conflict": step.conflict or None,
        "manifest": step.manifest.where, "before": before or None, "after": after,
    }  # fmt: skip


def group_data(name: str, mode: OcoMode, orders: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A group in a manifest's form; an order shows the metadata that differs from the group's."""
    shared = {key: value for key, value in orders[0]["metadata"].items() if key != "name"} if orders else {}
    return {
        "kind": "OrderGroup",
        "metadata": {"name": name, **shared},
        "spec": {"mode": mode.value, "orders": [member_data(order, shared) for order in orders]},
    }


def member_data(order: dict[str, Any], shared: dict[str, Any]) -> dict[str, Any]:
    own = {key: value for key, value in order["metadata"].items() if shared.get(key) != value}
    missing = dict.fromkeys(shared.keys() - order["metadata"].keys())
    state = {key: value for key, value in order.items() if key == "state"}
    return {**own, **missing, **order["spec"], **state}


def manifest_data(intent: OrderIntent, symbol: SymbolMetadata | None) -> dict[str, Any]:
    """An intent in a manifest's form, with decimals at the symbol's scale."""
    metadata: dict[str, Any] = {"name": intent.intent_id}
    if intent.owner:
        metadata["owner"] = intent.owner
    if labels := intent.metadata.get("labels"):
        metadata["labels"] = labels
    return {"kind": "Order", "metadata": metadata, "spec": spec_data(intent, symbol)}


def spec_data(intent: OrderIntent, symbol: SymbolMetadata | None) -> dict[str, Any]:
    order = intent.order
    spec: dict[str, Any] = {"symbol_id": order.symbol_id, "side": order.side.value}
    spec["order_type"] = order.order_type.value
    for name in ("quantity", "price", "stop_price", "display_quantity"):
        value = getattr(order, name)
        if value is not None and symbol is not None:
            to_decimal = symbol.quantity_to_decimal if "quantity" in name else symbol.price_to_decimal
            spec[name] = decimal_text(to_decimal(value))
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
