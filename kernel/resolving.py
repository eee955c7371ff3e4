"""An operator's word, recorded: what became of an attempt, and that a finding was dealt with.

Used by the controller. What is said of an attempt goes through `lifecycle.decide`; a finding about a group is resolved in
the group's stream, one that is about neither in the control stream; a balance that nothing explained is explained by a
transfer that the operator vouches for.
"""

from __future__ import annotations

from kernel import events
from kernel.commands import CommandHandler
from kernel.errors import ConflictError, NotFoundError
from kernel.lifecycle import ResolveFinding, check_said
from kernel.models import Evidence, Finding, FindingKind
from kernel.state import KernelState
from kernel.writer import EventWriter


async def resolve_finding(
    commands: CommandHandler, writer: EventWriter, state: KernelState, finding_id: str, *, text: str, actor: str
) -> None:
    """Resolve a finding. `NotFoundError` for one never raised, `ConflictError` for one that does not stand."""
    check_said(text)
    finding = state.finding(finding_id)
    if finding is None:
        raise NotFoundError(f"finding {finding_id} not found: `orderctl get findings` lists them")
    if finding.resolved_at_ns is not None:
        raise ConflictError(f"finding {finding_id} is resolved already: {finding.resolution}")
    intent_id = finding.intent_id
    if intent_id is not None and finding_id in state.record(intent_id).findings:
        command = ResolveFinding(finding_id, text)
        await commands.handle(intent_id, command, actor=actor, evidence=Evidence.OPERATOR)
        return
    resolved = events.FindingResolved(finding_id=finding_id, text=text)
    made = [*explanations(finding, state), resolved]
    await writer.append(stream_of(finding), made, actor=actor, evidence=Evidence.OPERATOR)


def stream_of(finding: Finding) -> str:
    """Where it is recorded that a finding about no intent was dealt with."""
    match finding.kind:
        case FindingKind.BALANCE_DRIFT:
            return events.VENUE_STREAM
        case FindingKind.GROUP_OVERFILL:
            return events.group_stream(finding.finding_id.removeprefix(f"{finding.kind}:"))
    return events.CONTROL_STREAM


def explanations(finding: Finding, state: KernelState) -> list[events.BaseEvent]:
    """What makes a balance come out right again: without it, the next look would raise the finding anew."""
    if finding.kind is not FindingKind.BALANCE_DRIFT:
        return []
    asset_id = finding.finding_id.removeprefix(f"{finding.kind}:")
    amount = state.balance_drift().get(asset_id)
    if not amount:
        return []
    key = f"{finding.finding_id}:{state.position}"
    return [events.TransferObserved(transfer_key=key, asset_id=asset_id, amount=amount)]
