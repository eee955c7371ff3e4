"""Groups as shown: what each order has filled, the quantity that its group permits, and why.

Called by `resources`, `describe`, `differences` and `conditions`. The rules are those of `kernel.groups`.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from kernel.groups import Group, max_excess
from kernel.lifecycle.findings import finding_id
from kernel.models import Finding, FindingKind
from kernel.order_spec import InstantNs, Int, IntentId, OcoMode, SymbolId, Uint64
from kernel.state import KernelState
from kernel.values import Constraint, Value
from replay.formatting.decimals import Scales


class GroupMember(Value):
    """One order of a group."""

    intent_id: IntentId
    """The order's intent."""
    quantity: Uint64 | None
    """Desired total quantity; none: the intent was deleted."""
    allowed_qty: Uint64 | None
    """Total quantity that the group permits now, including what has filled."""
    cum_qty: Uint64
    """Filled quantity, net of busts."""
    reason: str = ""
    """Why the permitted quantity is below the desired one; empty if it is not."""


class GroupState(Value):
    """A group of contingent orders."""

    group_id: IntentId
    """The group's name."""
    mode: OcoMode
    """How the orders depend on each other."""
    symbol_id: SymbolId | None
    """The symbol of all orders; none: there are several, or all orders were deleted."""
    orders: Annotated[tuple[GroupMember, ...], Meta(min_length=1), Constraint(min_length=1)]
    """The group's orders; in ONE_TRIGGERS_OTHER the first one is the parent."""
    first: IntentId | None = None
    """The order whose fill was recorded first."""
    excess: Int
    """Quantity filled beyond what the group allows."""
    max_excess: Int
    """The largest possible excess, if all orders fill before the first report arrives. 0 if the venue manages the
    group."""
    created_at_ns: InstantNs | None = None
    """When it was created; none: all orders were deleted."""


def group_state(state: KernelState, group: Group) -> GroupState:
    intents = [intent for name in group.intent_ids if (intent := state.intent(name)) is not None]
    symbols = {intent.order.symbol_id for intent in intents}
    quantities = [] if group.native else [intent.order.quantity for intent in intents]
    return GroupState(
        group_id=group.group_id,
        mode=group.mode,
        symbol_id=symbols.pop() if len(symbols) == 1 else None,
        orders=tuple(member_of(state, group, intent_id) for intent_id in group.intent_ids),
        first=group.first,
        excess=state.group_excess(group),
        max_excess=max_excess(group.mode, quantities) if quantities else 0,
        created_at_ns=min((intent.created_at_ns for intent in intents), default=None),
    )


def member_of(state: KernelState, group: Group, intent_id: str) -> GroupMember:
    intent = state.intent(intent_id)
    return GroupMember(
        intent_id=intent_id,
        quantity=intent.order.quantity if intent is not None else None,
        allowed_qty=state.permitted_quantity(group, intent_id, intent.order.quantity) if intent is not None else None,
        cum_qty=group.filled.get(intent_id, 0),
        reason=limited_by(state, intent_id),
    )


def limited_by(state: KernelState, intent_id: str) -> str:
    """Why the group permits an order less than its desired quantity; empty if it does not."""
    group, intent = state.group_of(intent_id), state.intent(intent_id)
    if group is None or intent is None:
        return ""
    quantity, symbol_id = intent.order.quantity, intent.order.symbol_id
    allowed = state.permitted_quantity(group, intent_id, quantity)
    if allowed == quantity:
        return ""
    if group.mode is OcoMode.ONE_CANCELS_OTHER:
        return f"canceled by the first fill of {group.first}"
    scales = Scales(state.symbol, state.asset)
    parts = [released_by(state, group, intent_id, quantity, scales, symbol_id)] if group.parent is not None else []
    if filled := [other for other, qty in group.filled.items() if qty and other not in (intent_id, group.parent)]:
        parts.append(f"reduced to {scales.quantity(symbol_id, allowed)} by fills of {', '.join(filled)}")
    return ", ".join(filter(None, parts))


def released_by(state: KernelState, group: Group, intent_id: str, quantity: int, scales: Scales, symbol_id: str) -> str:
    """How much of an order the fills of its group's parent have released; empty if all of it."""
    released, held = group.filled.get(group.intent_ids[0], 0), state.awaits_parent(intent_id)
    left = state.permitted_quantity(group, intent_id, quantity) + group.others_filled(intent_id)
    if left >= quantity:
        return ""
    if released == 0:
        return f"held until {group.parent} fills" if held else f"not released: {group.parent} did not fill"
    less = " less fees and other closes" if left < released else ""
    more = ", more may follow" if held else ""
    return f"released to {scales.quantity(symbol_id, min(left, released))} by fills of {group.parent}{less}{more}"


def group_of_finding(state: KernelState, finding: Finding) -> Group | None:
    """The group that a GROUP_OVERFILL or EXIT_MISSING is about; None for other findings."""
    if finding.kind not in (FindingKind.GROUP_OVERFILL, FindingKind.EXIT_MISSING):
        return None
    return state.group(finding.finding_id.removeprefix(finding_id(finding.kind, "")))
