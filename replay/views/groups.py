"""Groups as they are shown: what each has, what it lets each of its orders be now, and why.

Called by `resources` (what `get groups` lists), `describe`, `differing` and `waiting`. The rules are `kernel.groups`'; here
they become words and a record for programs, from one state. Reads only.
"""

from __future__ import annotations

from pydantic import Field

from kernel.groups import Group, max_excess, permitted_quantity
from kernel.lifecycle import finding_id
from kernel.models import Finding, FindingKind
from kernel.order_spec import InstantNs, Int, IntentId, Model, OcoMode, SymbolId, Uint64
from kernel.state import KernelState
from replay.formatting.decimals import Scales


class GroupMember(Model):
    """One order of a group."""

    intent_id: IntentId
    """Its intent."""
    quantity: Uint64 | None
    """The total that is wanted of it; none: it was deleted."""
    allowed_qty: Uint64 | None
    """The total that its group lets it be now, filled part included."""
    cum_qty: Uint64
    """What it has filled, net of busts."""
    reason: str = ""
    """Why that is less than is wanted; empty when it is not."""


class GroupState(Model):
    """Orders that depend on each other, as they stand."""

    group_id: IntentId
    """Name of the group."""
    mode: OcoMode
    """How its orders depend on each other."""
    symbol_id: SymbolId | None
    """The symbol that all of them trade; none: they trade several, or all were deleted."""
    orders: tuple[GroupMember, ...] = Field(min_length=1)
    """Its orders. Of a ONE_TRIGGERS_OTHER group the first one releases the others."""
    first: IntentId | None = None
    """The order whose fill was recorded first."""
    excess: Int
    """How much more has filled than the group allows."""
    max_excess: Int
    """The most that it can come to beyond what is wanted, in any race: its orders fill before the first report is here.
    Nothing where the venue works it."""
    created_at_ns: InstantNs | None = None
    """When it was created; none: all its orders were deleted."""


def group_state(state: KernelState, group: Group) -> GroupState:
    """A group as it stands."""
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
    """One of a group's orders as it stands."""
    intent = state.intent(intent_id)
    return GroupMember(
        intent_id=intent_id,
        quantity=intent.order.quantity if intent is not None else None,
        allowed_qty=permitted_quantity(group, intent_id, intent.order.quantity) if intent is not None else None,
        cum_qty=group.filled.get(intent_id, 0),
        reason=limited_by(state, intent_id),
    )


def limited_by(state: KernelState, intent_id: str) -> str:
    """Why its group lets an order be less than is wanted of it; empty when it does not, and for an order without one."""
    group, intent = state.group_of(intent_id), state.intent(intent_id)
    if group is None or intent is None:
        return ""
    wanted, symbol_id = intent.order.quantity, intent.order.symbol_id
    allowed = permitted_quantity(group, intent_id, wanted)
    if allowed == wanted:
        return ""
    if group.mode is OcoMode.ONE_CANCELS_OTHER:
        return f"canceled by the first fill of {group.first}"
    scales = Scales(state.symbol, state.asset)
    parts = [released_by(state, group, intent_id, wanted, scales, symbol_id)] if group.parent is not None else []
    if filled := [other for other, qty in group.filled.items() if qty and other not in (intent_id, group.parent)]:
        parts.append(f"shrunk to {scales.quantity(symbol_id, allowed)} by fills of {', '.join(filled)}")
    return ", ".join(filter(None, parts))


def released_by(state: KernelState, group: Group, intent_id: str, wanted: int, scales: Scales, symbol_id: str) -> str:
    """How much of an order its group's leader has released; empty when it is all."""
    released, held = group.filled.get(group.intent_ids[0], 0), state.awaits_parent(intent_id)
    if released >= wanted:
        return ""
    if released == 0:
        return f"held back: waits for fills of {group.parent}" if held else f"not released: no fill of {group.parent}"
    return f"released to {scales.quantity(symbol_id, released)} by fills of {group.parent}" + (
        ", waits for more" if held else ""
    )


def group_of_finding(state: KernelState, finding: Finding) -> Group | None:
    """The group that a finding is about; None for one about something else."""
    if finding.kind is not FindingKind.GROUP_OVERFILL:
        return None
    return state.group(finding.finding_id.removeprefix(finding_id(finding.kind, "")))
