"""Operator commands: pause, halt, resume, and resolve an attempt or a finding. Called by the controller.

They are events, so they hold for every leader. A pause stops all requests, cancels included; a halt of all or of a symbol
lets cancels out, even of paused intents. Status queries go on. A request that passed the reconciler's check before a pause
of all is still sent. Each command first catches up with the log, so that it sees what other kernels have recorded.
"""

from __future__ import annotations

from kernel import events
from kernel.commands.handler import CommandHandler
from kernel.errors import ConflictError, NotFoundError, ValidationError, Violation
from kernel.lifecycle.attribution import OrderRequest, order_requests
from kernel.lifecycle.decide import IntentCommand, PauseIntent, ResumeIntent
from kernel.lifecycle.decide_resolution import (
    AcceptTerms,
    AttributeOrder,
    ResolveAttempt,
    ResolveFinding,
    require_evidence,
)
from kernel.lifecycle.findings import finding_id
from kernel.models import AttemptOutcome, Evidence, Finding, FindingKind
from kernel.state import KernelState
from kernel.streams.event_writer import EventWriter


async def pause_one(commands: CommandHandler, intent_id: str, *, paused: bool, reason: str, actor: str) -> bool:
    """Pause or resume one intent; return whether that changed anything."""
    command = PauseIntent(intent_id, reason) if paused else ResumeIntent(intent_id)
    return await commands.handle(intent_id, command, actor=actor)


async def pause_all(writer: EventWriter, state: KernelState, *, reason: str, actor: str) -> bool:
    """Pause all intents; return whether that changed anything. A halt stays a halt."""
    await writer.caught_up()
    if state.paused:
        return False
    await _control(writer, events.Paused(reason=reason), actor=actor)
    return True


async def halt(writer: EventWriter, state: KernelState, *, symbol_id: str | None, reason: str, actor: str) -> bool:
    """Halt all intents or a symbol; return whether that changed anything."""
    await writer.caught_up()
    held = state.trading_status.every if symbol_id is None else state.trading_status.symbols.get(symbol_id)
    if held is not None and held.cancels:
        return False
    await _control(writer, events.Paused(reason=reason, symbol_id=symbol_id, cancels=True), actor=actor)
    return True


async def resume_all(writer: EventWriter, state: KernelState, *, symbol_id: str | None, actor: str) -> bool:
    """End a pause or halt of all, or of a symbol; return whether that changed anything. Paused intents stay paused."""
    await writer.caught_up()
    held = state.trading_status.every if symbol_id is None else state.trading_status.symbols.get(symbol_id)
    if held is None:
        return False
    await _control(writer, events.Resumed(symbol_id=symbol_id), actor=actor)
    return True


async def _control(writer: EventWriter, event: events.BaseEvent, *, actor: str) -> None:
    await writer.append(events.CONTROL_STREAM, [event], actor=actor, evidence=Evidence.COMMAND)


async def resolution(
    writer: EventWriter,
    state: KernelState,
    intent_id: str,
    outcome: AttemptOutcome | None,
    order_id: str | None,
    *,
    text: str,
    now_ns: int,
    position: int | None,
) -> IntentCommand:
    """Return the command that resolves an attempt by an outcome, or by an external order."""
    stops = tuple(item for item in state.dead_requests() if item.stop_id is not None and item.intent_id == intent_id)
    if order_id is None:
        if outcome is None:
            raise ValidationError("give the attempt's outcome or the venue's id of its order")
        suspected = tuple(item.client_order_id for item in stops if is_suspected(state, item))
        return ResolveAttempt(intent_id, outcome, text, now_ns, position, suspected)
    if outcome not in (None, AttemptOutcome.ACCEPTED):
        raise ValidationError(f"an attempt with an order is ACCEPTED, not {outcome}: give one of them")
    await writer.caught_up()
    requests = (*order_requests(state.record(intent_id)), *stops)
    markets = {(request.symbol_id, request.side) for request in requests}
    named = [order for order in state.external_orders() if order.exchange_order_id == order_id]
    if not named:
        raise NotFoundError(f"external order {order_id} not found: `orderctl get external` lists them")
    order = max(named, key=lambda item: ((item.symbol_id, item.side) in markets, item.first_position))
    return AttributeOrder(intent_id, order, tuple(state.external_trades(order)), text, now_ns, position, stops)


def is_suspected(state: KernelState, request: OrderRequest) -> bool:
    """Return whether an open finding names external orders that may be a request's."""
    found = state.finding(finding_id(FindingKind.UNOWNED_CANDIDATE, request.client_order_id))
    return found is not None and found.resolved_at_ns is None


async def resolve_finding(
    commands: CommandHandler,
    writer: EventWriter,
    state: KernelState,
    finding_id: str,
    *,
    text: str,
    actor: str,
    accept: bool = False,
) -> None:
    """Resolve a finding.

    Raises `NotFoundError` if it was never raised, `ConflictError` if it is resolved, or resolves itself only.
    """
    require_evidence(text)
    finding = state.finding(finding_id)
    if finding is None:
        raise NotFoundError(f"finding {finding_id} not found: `orderctl get findings` lists them")
    if finding.resolved_at_ns is not None:
        raise ConflictError(f"finding {finding_id} is resolved already: {finding.resolution}")
    if finding.kind is FindingKind.SYMBOL_QUARANTINED:
        raise ConflictError(
            f"finding {finding_id} cannot be resolved by hand: it ends when the venue shows the recorded data of"
            f" {finding.symbol_id} again, as orders by other data would be off by a power of ten; trade it on a new log"
        )
    if accept and finding.kind is not FindingKind.VENUE_DISAGREES:
        limit, what = FindingKind.VENUE_DISAGREES, "accept is for a {limit} finding, not {value}"
        raise ValidationError(violations=[Violation("accept", "kind", limit, finding.kind, what)])
    intent_id = finding.intent_id
    if intent_id is not None and finding_id in state.record(intent_id).findings:
        command = AcceptTerms(finding_id, text) if accept else ResolveFinding(finding_id, text)
        await commands.handle(intent_id, command, actor=actor, evidence=Evidence.OPERATOR)
        return
    resolved = events.FindingResolved(finding_id=finding_id, text=text)
    made = [*explanations(finding, state), resolved]
    await writer.append(stream_of(finding), made, actor=actor, evidence=Evidence.OPERATOR)


def stream_of(finding: Finding) -> str:
    """Return the stream in which a finding about no intent is resolved."""
    match finding.kind:
        case FindingKind.BALANCE_DRIFT:
            return events.VENUE_STREAM
        case FindingKind.GROUP_OVERFILL | FindingKind.EXIT_MISSING:
            return events.group_stream(finding.finding_id.removeprefix(f"{finding.kind}:"))
    return events.CONTROL_STREAM


def explanations(finding: Finding, state: KernelState) -> list[events.BaseEvent]:
    """Return the transfer that explains a balance drift: without it, the next snapshot would raise the finding again."""
    if finding.kind is not FindingKind.BALANCE_DRIFT:
        return []
    asset_id = finding.finding_id.removeprefix(f"{finding.kind}:")
    amount = state.balance_drift().get(asset_id)
    if not amount:
        return []
    key = f"{finding.finding_id}:{state.position}"
    return [events.TransferObserved(transfer_key=key, asset_id=asset_id, amount=amount)]
