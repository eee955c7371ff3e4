"""Everything that the decision of a reconciler run reads, as one frozen value.

Gathered from the state without suspending: by the reconciler before each run, and by `orderctl decisions` from a state
folded up to the position of a recorded decision.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec import structs

from kernel.groups import ExitReport, Group
from kernel.lifecycle.findings import finding_id
from kernel.lifecycle.record import Record, venue_orders_of
from kernel.models import Desired, ExternalOrder, Finding, FindingKind, OrderIntent, OrderState
from kernel.order_spec import Side, SymbolMetadata
from kernel.plan import difference, is_venue_managed
from kernel.reconciler.suspects import stop_suspects, unknown_elsewhere, unresolved_suspects
from kernel.safety.trading_halts import TradingStatus
from kernel.settings import KernelSettings
from kernel.state import KernelState, symbol_id_of
from kernel.venues.base import VenueCapabilities

STOP_FAILURES_MAX = 5
"""How often a stop may be refused before the other exits of its bracket stop waiting for it."""


class DecisionContext(msgspec.Struct, frozen=True):
    """Inputs that are the same for every intent: leader, settings, venue and instant."""

    settings: KernelSettings
    capabilities: VenueCapabilities
    epoch: int
    now_ns: int
    unmet: tuple[str, ...] = ()


class RunMemory(msgspec.Struct, frozen=True):
    """A reconciler's memory of an intent outside the log; empty after a restart."""

    forced: bool = False
    """This run ignores the recorded backoff."""
    running_calls: frozenset[int] = frozenset()
    """Positions of the attempts whose call is running in this process."""
    last_queries: Mapping[int, int] = {}
    """Begin of the newest status query by the position of the unresolved attempt."""


class MemberInputs(msgspec.Struct, frozen=True):
    """One order of a group, before the limits by its siblings' fills."""

    intent: OrderIntent | None
    order: OrderState | None
    record: Record
    symbol: SymbolMetadata | None


class GroupInputs(msgspec.Struct, frozen=True):
    """The group of an intent."""

    group: Group
    is_sent: bool
    """True if the venue ever reported an order of it."""
    members: tuple[MemberInputs, ...]
    """All its orders if the venue manages the group or may; else empty."""


class BracketInputs(msgspec.Struct, frozen=True):
    """Inputs of an exit besides the quantity that its bracket permits."""

    report: ExitReport | None
    """The change of the bracket's `EXIT_MISSING` finding, if one is due or will be."""
    guards: tuple[MemberInputs, ...]
    """The exits that this finding is about."""
    stop_first: str
    """The stop that is placed before this exit; empty if there is none."""


class RunInputs(msgspec.Struct, frozen=True):
    """One intent, its order, and everything that a decision about it depends on."""

    intent_id: str
    intent: OrderIntent | None
    """The effective intent: as limited by its group."""
    order: OrderState | None
    record: Record
    symbol: SymbolMetadata | None
    group: GroupInputs | None
    bracket: BracketInputs | None
    """The bracket that it is an exit of."""
    overfilled: Group | None
    """The group, if its overfill or the end of it is not yet recorded."""
    excess: int
    """The overfilled quantity, at the quantity scale."""
    trading_status: TradingStatus
    log_id: str
    state_position: int
    context: DecisionContext
    memory: RunMemory
    suspects: tuple[ExternalOrder, ...] = ()
    """External orders that may be the order of its unresolved submit (H20)."""
    stop_suspects: tuple[ExternalOrder, ...] = ()
    """External orders that the trigger of one of its ended stops may have made (H23)."""
    unknown_elsewhere: frozenset[tuple[str, Side]] = frozenset()
    """Symbols and sides in which another intent's submit is unknown and its order could not be told from this one's."""
    suspects_finding: Finding | None = None
    """The open finding that names its suspects."""

    @property
    def now_ns(self) -> int:
        return self.context.now_ns

    @property
    def capabilities(self) -> VenueCapabilities:
        return self.context.capabilities


def gather_inputs(
    state: KernelState,
    intent_id: str,
    intent: OrderIntent | None,
    order: OrderState | None,
    *,
    context: DecisionContext,
    memory: RunMemory,
) -> RunInputs:
    """Return the inputs of a decision about an intent; later changes of the state do not affect them.

    `intent` is the effective intent, from the intent store, and `order` the observed order.
    """
    overfilled, group = state.overfilled_group(intent_id), state.group_of(intent_id)
    record, capabilities = state.record(intent_id), context.capabilities
    order = explained(order, capabilities)
    finding = state.finding(finding_id(FindingKind.UNOWNED_CANDIDATE, intent_id))
    return RunInputs(
        intent_id=intent_id,
        intent=intent,
        order=order,
        record=record,
        symbol=state.symbol(symbol_id_of(intent, order)),
        group=group_inputs(state, group, capabilities),
        bracket=bracket_inputs(state, intent_id, capabilities) if state.is_exit(intent_id) else None,
        overfilled=overfilled,
        excess=state.group_excess(overfilled) if overfilled is not None else 0,
        suspects=tuple(unresolved_suspects(state, record, capabilities)),
        stop_suspects=tuple(stop_suspects(state, intent_id, capabilities)),
        unknown_elsewhere=unknown_elsewhere(state, intent_id, capabilities, epoch=context.epoch),
        suspects_finding=finding if finding is not None and finding.resolved_at_ns is None else None,
        trading_status=state.trading_status,
        log_id=state.log_id,
        state_position=state.position,
        context=context,
        memory=memory,
    )


def group_inputs(state: KernelState, group: Group | None, capabilities: VenueCapabilities) -> GroupInputs | None:
    """Return a group, with its members if a decision depends on them."""
    if group is None:
        return None
    needed = group.native or (group.native is None and is_venue_managed(capabilities, group.mode))
    members = tuple(group_member(state, name, capabilities) for name in group.intent_ids) if needed else ()
    return GroupInputs(group, any(member.record.orders for member in members), members)


def group_member(state: KernelState, intent_id: str, capabilities: VenueCapabilities) -> MemberInputs:
    intent = state.intent(intent_id)
    symbol = state.symbol(intent.order.symbol_id) if intent is not None else None
    order = explained(state.observed_order(intent_id), capabilities)
    return MemberInputs(intent, order, state.record(intent_id), symbol)


def explained(order: OrderState | None, capabilities: VenueCapabilities) -> OrderState | None:
    """Return an order without inferred quantities where the venue lists no trades: nothing there can explain them."""
    if order is None or capabilities.lists_trades:
        return order
    items = tuple(structs.replace(item, inferred_qty=0) for item in venue_orders_of(order))
    return structs.replace(order, venue_orders=items)


def bracket_inputs(state: KernelState, intent_id: str, capabilities: VenueCapabilities) -> BracketInputs:
    report = state.exit_report(intent_id)
    guards = tuple(group_member(state, name, capabilities) for name in report.guards) if report is not None else ()
    return BracketInputs(report, guards, stop_first(state, intent_id, capabilities))


def stop_first(state: KernelState, intent_id: str, capabilities: VenueCapabilities) -> str:
    """Return the stop of a bracket that another exit waits for, else an empty string.

    A venue may lock the same funds for each exit: the stop comes first. Not for ever: once the missing exit is reported, or
    the stop was refused too often, any exit is better than none.
    """
    group, intent = state.group_of(intent_id), state.intent(intent_id)
    if group is None or intent is None or intent.order.stop_price is not None:
        return ""
    known = state.finding(finding_id(FindingKind.EXIT_MISSING, group.group_id))
    if known is not None and known.resolved_at_ns is None:
        return ""
    return next((name for name in group.intent_ids[1:] if is_awaited_stop(state, name, capabilities)), "")


def is_awaited_stop(state: KernelState, intent_id: str, capabilities: VenueCapabilities) -> bool:
    intent = state.effective_intent(intent_id)
    if intent is None or intent.order.stop_price is None or state.record(intent_id).failures > STOP_FAILURES_MAX:
        return False
    order = explained(state.observed_order(intent_id), capabilities)
    return intent.desired is Desired.WORKING and difference(intent, order) is not None
