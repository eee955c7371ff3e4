"""What an operator settles: an attempt that nothing can prove, and a finding that was dealt with.

Called by `decide`. An operator's verdict is a command: it names the attempt, is recorded under the version that it was
decided on, and so needs no lead. It is refused where evidence is still to come: before that a guess could be wrong for no
gain. A wrong one is contained like every other (an order that turns up late is live at once, told and canceled).
"""

from __future__ import annotations

from dataclasses import dataclass

from kernel import events
from kernel.errors import ConflictError, NotFoundError, ValidationError, Violation
from kernel.lifecycle.findings import finding_id
from kernel.lifecycle.record import Record
from kernel.models import Attempt, AttemptKind, AttemptOutcome, FindingKind

RESOLVED_AS = (AttemptOutcome.DEAD, AttemptOutcome.REJECTED)
"""What an operator may say. That something exists is for the venue to show: a look finds it, with its quantities."""
NS_PER_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class ResolveAttempt:
    """Settle an attempt of which nobody knows what became."""

    intent_id: str
    outcome: AttemptOutcome
    """DEAD: it never arrived, and no longer will. REJECTED: the venue refused it, and its generation is over."""
    text: str
    """How the operator knows."""
    now_ns: int
    attempt_position: int | None = None
    """Which attempt, where several are open."""


@dataclass(frozen=True, slots=True)
class ResolveFinding:
    """Say that a finding was dealt with."""

    finding_id: str
    text: str
    """How."""


def resolve_attempt(record: Record, command: ResolveAttempt) -> list[events.BaseEvent]:
    """The verdict; with it goes the finding that the attempt is unknown for too long."""
    if record.version == 0:
        raise NotFoundError(f"intent {record.intent_id} not found")
    require_evidence(command.text)
    attempt = open_attempt(record, command.attempt_position)
    check_outcome(attempt, command.outcome)
    refuse_while_evidence_may_come(record, attempt, now_ns=command.now_ns)
    verdict = events.AttemptResolved(
        intent_id=record.intent_id,
        attempt_position=attempt.position,
        outcome=command.outcome,
        text=command.text,
    )
    unknown = finding_id(FindingKind.UNKNOWN_TOO_LONG, record.intent_id)
    others = [item for item in record.unresolved if item.client_order_id != attempt.client_order_id]
    if unknown not in record.findings or others:
        return [verdict]
    return [verdict, events.FindingResolved(finding_id=unknown, text="settled by an operator")]


def check_outcome(attempt: Attempt, outcome: AttemptOutcome) -> None:
    """A refused cancel says nothing of its order: of a cancel it can only be said that it came to nothing."""
    allowed = RESOLVED_AS[:1] if attempt.kind is AttemptKind.CANCEL else RESOLVED_AS
    if outcome not in allowed:
        limit = (
            f"{' or '.join(allowed)} for a {attempt.kind} attempt; the venue's own report shows an order that exists"
        )
        raise ValidationError(violations=[Violation("outcome", "outcome", limit, str(outcome))])


def open_attempt(record: Record, position: int | None) -> Attempt:
    """The attempt meant: the newest send of the one request that is open. `ConflictError` for none, or several."""
    unresolved = [item for item in record.unresolved if position in (None, item.position)]
    if not unresolved:
        raise ConflictError(f"nothing about intent {record.intent_id} is unknown: there is nothing to resolve")
    if len({item.client_order_id for item in unresolved}) > 1:
        named = ", ".join(f"{item.kind} at {item.position}" for item in unresolved)
        raise ConflictError(f"several requests about intent {record.intent_id} are open: {named}; say which")
    return unresolved[-1]


def refuse_while_evidence_may_come(record: Record, attempt: Attempt, *, now_ns: int) -> None:
    """`ConflictError` while the attempt's own call may report, or a look that is still to begin will settle it."""
    sends = [item for item in record.unresolved if item.client_order_id == attempt.client_order_id]
    if any(item.outcome is AttemptOutcome.PENDING for item in sends):
        raise ConflictError(
            f"{attempt.kind} at {attempt.position} is PENDING: its call has not ended, or the kernel that made it has;"
            " the one that leads finds out first. Nothing was resolved"
        )
    until_ns = max((item.absent_after_ns for item in sends if item.absent_after_ns is not None), default=0)
    if now_ns < until_ns:
        left_s = (until_ns - now_ns) / NS_PER_S
        raise ConflictError(
            f"{attempt.kind} at {attempt.position} may still arrive for {left_s:.3f} s: a look after that settles it by"
            " evidence. Nothing was resolved; try again then if nobody leads"
        )


def resolve_finding(record: Record, command: ResolveFinding) -> list[events.BaseEvent]:
    """The finding of an intent is resolved in the intent's own stream."""
    require_evidence(command.text)
    if command.finding_id not in record.findings:
        raise ConflictError(f"finding {command.finding_id} does not stand: there is nothing to resolve")
    return [events.FindingResolved(finding_id=command.finding_id, text=command.text)]


def require_evidence(text: str) -> None:
    """What an operator vouches for has a reason, for whoever reads the log."""
    if not text.strip():
        message = "{field} is empty: write how you know the outcome"
        raise ValidationError(violations=[Violation("evidence", "text", "not empty", text, message)])
