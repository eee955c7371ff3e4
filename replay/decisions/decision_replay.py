"""Makes every decision that a log records again, with the installed code, and reports the differences.

Called by `orderctl decisions` and by the tests of golden histories, which hold every change of the reconciler to recorded
decisions. The reconciler's own decision function runs on the state that an attempt was decided on: it must give the same
`AttemptStarted`, field by field, and a local rejection must be one again. Verdicts of absence are concluded again from the
queries recorded with them. Rate limits, the order of the queue, query backoff, the lease, the last check before sending and
the timing of answers are not compared.

The log is read once, in pages: an attempt is read `ROWS_AHEAD` rows before the fold reaches the state it was decided on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import Any

import msgspec
import pydantic
from msgspec.structs import replace

from kernel import events
from kernel import plan as planning
from kernel.errors import ValidationError
from kernel.lifecycle.record import Record
from kernel.log.base import EventLog
from kernel.log.engine.records import event_of
from kernel.models import Attempt, AttemptKind, AttemptOutcome
from kernel.reconciler import attempt_resolution
from kernel.reconciler.decide_run import decide_resend, decide_run
from kernel.reconciler.decision import Decision, LocalRejection, attempt_of
from kernel.reconciler.run_inputs import DecisionContext, RunInputs, RunMemory, gather_inputs
from kernel.reconciler.suspects import unresolved_suspects
from kernel.settings import ns
from kernel.streams.event_writer import RECONCILER
from kernel.streams.rehydration import apply_batch
from kernel.values import as_json
from projections.state import State
from replay.decisions.recorded_leader import RecordedLeader, recorded_capabilities, recorded_settings
from replay.formatting.output import Item, Listing, counted
from replay.formatting.progress_bar import Progress
from replay.log_access.log_reader import checked_pages, open_for_reading

ROWS_AHEAD = 5_000
"""Rows read ahead of the fold: more than are ever appended between a decision and its record."""
DIFFERENCES_KEPT = 100
"""Differences that are kept in detail; all are counted."""


class DecisionDifference(msgspec.Struct, frozen=True):
    """A recorded decision that today's code does not repeat."""

    position: int
    """Position of the event that records the decision."""
    intent_id: str
    state_position: int
    """Position of the state that it was made on."""
    decided_at_ns: int
    recorded: str
    """The recorded decision."""
    today: str
    """Today's decision."""
    why: str = ""
    """The reason of today's decision."""


class DecisionReport(msgspec.Struct):
    """The result of replaying the decisions of a log."""

    position: int = 0
    """The last event that was read."""
    attempts: int = 0
    """Attempts decided again."""
    verdicts: int = 0
    """Verdicts of absence concluded again."""
    past_backoff: int = 0
    """Attempts made before their backoff ended: a forced run, which the log does not record."""
    unchecked: int = 0
    """Attempts that were recorded too late, or under settings or capabilities that this version cannot read."""
    difference_count: int = 0
    differences: list[DecisionDifference] = []
    """The first `DIFFERENCES_KEPT`, in order."""

    @property
    def same(self) -> bool:
        return self.difference_count == 0

    @property
    def first(self) -> DecisionDifference | None:
        return self.differences[0] if self.differences else None

    def add(self, found: DecisionDifference) -> None:
        self.difference_count += 1
        if len(self.differences) < DIFFERENCES_KEPT:
            self.differences.append(found)


async def replay_decisions(
    log: EventLog | str, *, progress: Progress | None = None, exchange_id: str | None = None
) -> DecisionReport:
    """Make every recorded decision of a log again.

    Args:
        log: An open log or a URL.
        progress: Called with the events read and to read.
        exchange_id: The exchange account, needed for a URL with several logs.

    Returns:
        The number of decisions, and those that differ.

    Raises:
        NotFoundError: There is no such log.
        IntegrityError: An event cannot be folded; `position` is the first such.
        SchemaError: Likewise, because this version cannot read it.
    """
    async with open_for_reading(log, exchange_id) as found:
        replayer = DecisionReplayer(found)
        async for event, decided in with_decisions(found, replayer.report, progress):
            await replayer.apply(event)
            for attempt in decided:
                replayer.check(attempt)
        return replayer.report


async def with_decisions(
    log: EventLog, report: DecisionReport, progress: Progress | None
) -> AsyncIterator[tuple[events.BaseEvent, list[events.AttemptStarted]]]:
    """Each event, with the attempts that were decided on the state after it."""
    waiting: deque[events.BaseEvent] = deque()
    decided: dict[int, list[events.AttemptStarted]] = {}
    folded = 0
    async for rows in checked_pages(log, progress=progress):
        for row in rows:
            event = event_of(row)
            waiting.append(event)
            if not isinstance(event, events.AttemptStarted):
                continue
            if event.state_position > folded:
                decided.setdefault(event.state_position, []).append(event)
            else:
                report.unchecked += 1
        while len(waiting) > ROWS_AHEAD:
            folded = waiting[0].position
            yield waiting.popleft(), decided.pop(folded, [])
    while waiting:
        yield waiting[0], decided.pop(waiting.popleft().position, [])


class DecisionReplayer:
    """The fold of a log, and today's decisions on it."""

    def __init__(self, log: EventLog) -> None:
        self.report = DecisionReport()
        self._log = log
        self._state = State()
        self._leader = RecordedLeader()
        self._context: DecisionContext | None = None
        """The newest leader's settings and capabilities; None until it recorded them, and if they are unreadable."""
        self._query: tuple[events.VenueSnapshotTaken, Record] | None = None
        """The preceding event if it is a query that did not find its order, and the record before it."""
        self._local_rejections: dict[int, str] = {}
        """Unanswered attempt to the reason for which today's code rejects it locally; empty if it sends it."""

    async def apply(self, event: events.BaseEvent) -> None:
        """Check the decisions that an event itself records, and fold it."""
        if isinstance(event, events.AttemptResolved) and event.actor == RECONCILER:
            self._check_verdict(event)
        self._query = None
        if isinstance(event, events.VenueSnapshotTaken) and event.intent_id and event.found is False:
            self._query = (event, self._state.record(event.intent_id))
        self._check_answer(event)
        await apply_batch(self._log, self._state, [event])
        self.report.position = event.position
        if self._leader.apply(event):
            self._context = self._recorded_context()

    def _recorded_context(self) -> DecisionContext | None:
        if not self._leader.capabilities or self._leader.settings is None:
            return None
        with suppress(pydantic.ValidationError, ValidationError):
            settings = recorded_settings(self._leader.settings)
            return DecisionContext(settings, recorded_capabilities(self._leader.capabilities), epoch=0, now_ns=0)
        return None

    def check(self, recorded: events.AttemptStarted) -> None:
        """Decide an attempt again, on the state that it was decided on."""
        if self._context is None:
            self.report.unchecked += 1
            return
        self.report.attempts += 1
        context = replace(self._context, epoch=recorded.epoch, now_ns=recorded.decided_at_ns)
        try:
            decision = self._decide(context, recorded)
        except Exception as problem:  # a leader retries after any error: its decision is to do nothing
            decision = planning.Nothing(f"deciding fails: {problem!r}")
        today = attempt_of(decision, recorded.intent_id)
        if today == recorded:
            self._local_rejections[recorded.position] = decision.text if isinstance(decision, LocalRejection) else ""
            return
        differs = describe_attempt(today, recorded) if today is not None else decision.label
        self._add(recorded, describe_attempt(recorded, today), differs, why=decision.reason, decided=recorded)

    def _decide(self, context: DecisionContext, recorded: events.AttemptStarted) -> Decision:
        """Today's decision: of a run, of a forced run, or after a query that did not find the order."""
        decision = decide_run(self._inputs(context, recorded.intent_id))
        if attempt_of(decision, recorded.intent_id) == recorded:
            return decision
        record = self._state.record(recorded.intent_id)
        held_until_ns = max([record.not_before_ns, *(facts.rare.cancel_not_before_ns for facts in record.orders)])
        if context.now_ns < held_until_ns:
            forced = decide_run(self._inputs(context, recorded.intent_id, forced=True))
            if attempt_of(forced, recorded.intent_id) == recorded:
                self.report.past_backoff += 1
                return forced
        if context.capabilities.accepts_id_once and record.send_count(recorded.client_order_id):
            resent = decide_resend(self._inputs(context, recorded.intent_id))
            if attempt_of(resent, recorded.intent_id) == recorded:
                return resent
        return decision

    def _inputs(self, context: DecisionContext, intent_id: str, *, forced: bool = False) -> RunInputs:
        intent, order = self._state.effective_intent(intent_id), self._state.observed_order(intent_id)
        return gather_inputs(self._state, intent_id, intent, order, context=context, memory=RunMemory(forced=forced))

    def _check_answer(self, event: events.BaseEvent) -> None:
        """Compare, by the first answer to an attempt, whether it was sent or rejected locally."""
        position = getattr(event, "attempt_position", None) or event.causation_position
        if position not in self._local_rejections or isinstance(event, events.AttemptStarted):
            return
        today = self._local_rejections.pop(position)
        if isinstance(event, events.AttemptResolved):
            return  # whether it was sent is unknown
        local = isinstance(event, events.AttemptFailed) and bool(event.locally_rejected)
        if local != bool(today):
            action = "rejected locally" if local else "sent"
            self._add(event, action, today or "sent", why="the symbol's rules", position=position)

    def _check_verdict(self, recorded: events.AttemptResolved) -> None:
        """Conclude an absence again from the recorded query, on the record before it."""
        query, record = self._query or (None, self._state.record(recorded.intent_id))
        attempt = next((item for item in record.attempts if item.position == recorded.attempt_position), None)
        if attempt is None or self._context is None or attempt.kind is AttemptKind.CANCEL:
            return  # a cancel may be repeated at any time: its verdict needs no proof
        self.report.verdicts += 1
        problem = self._objection(recorded, attempt, query, self._context)
        if problem is not None:
            verdict = f"{attempt.kind} {attempt.number} is {recorded.outcome}: {recorded.text}"
            self._add(recorded, verdict, "no verdict", why=problem)

    def _objection(
        self,
        recorded: events.AttemptResolved,
        attempt: Attempt,
        query: events.VenueSnapshotTaken | None,
        context: DecisionContext,
    ) -> str | None:
        """Why the query does not prove the verdict; None if it does."""
        if recorded.outcome is not AttemptOutcome.DEAD:
            return f"a query never proves {recorded.outcome}"
        if attempt.kind is AttemptKind.AMEND and query is None:
            return self._amend_objection(recorded, attempt)
        if query is None:
            return "no query is recorded with it"
        delay_s = context.settings.assumed_max_delay_s
        record = self._state.record(recorded.intent_id)
        suspected = bool(unresolved_suspects(self._state, record, context.capabilities))
        conclusions = [
            attempt_resolution.conclude(
                attempt,
                context.capabilities,
                may_resend=wanted,
                began_ns=query.began_ns,
                ended_ns=query.ended_ns,
                assumed_max_delay_ns=None if delay_s is None else ns(delay_s),
                suspected=suspected,
            )
            for wanted in (False, True)  # whether the order was wanted when the query began is not recorded
        ]
        if any(isinstance(item, attempt_resolution.ProvenAbsent) for item in conclusions):
            return None
        return getattr(conclusions[0], "text", "") or f"{conclusions[0]}"

    def _amend_objection(self, recorded: events.AttemptResolved, attempt: Attempt) -> str | None:
        """A modification cannot apply once its order has ended; else only an admissible query rules it out (H14)."""
        live = self._state.record(recorded.intent_id).live_orders
        targets = {attempt.target_exchange_order_id, attempt.target_client_order_id} - {None}
        is_live = any({facts.exchange_order_id, *facts.client_order_ids} & targets for facts in live)
        if not is_live or attempt_resolution.is_admissible(attempt, began_ns=recorded.began_ns or 0):
            return None
        return "the order is live, and the modification may still arrive"

    def _add(
        self,
        event: events.BaseEvent,
        recorded: str,
        today: str,
        *,
        why: str,
        position: int | None = None,
        decided: events.AttemptStarted | None = None,
    ) -> None:
        """Report a difference; `event` records the decision or answers it."""
        state_position, at_ns = (self._state.position, 0)
        if decided is not None:
            state_position, at_ns = decided.state_position, decided.decided_at_ns
        intent_id = event.stream_id.removeprefix(events.INTENT_STREAM_PREFIX)
        found = (position or event.position, intent_id, state_position, at_ns, recorded, today, why)
        self.report.add(DecisionDifference(*found))


def summary(report: DecisionReport) -> str:
    attempts, verdicts = counted(report.attempts, "attempt"), counted(report.verdicts, "verdict")
    text = f"{attempts} and {verdicts} up to position {report.position} decided again: "
    text += "none differs" if report.same else f"{report.difference_count} differ"
    if report.past_backoff:
        text += f"; {report.past_backoff} were forced during their backoff"
    return text + (f"; {report.unchecked} could not be decided again" if report.unchecked else "")


def listing(report: DecisionReport) -> Listing:
    """One line per difference; as JSON the whole report."""
    lines = tuple(
        (str(item.position), item.intent_id, item.recorded, item.today, item.why) for item in report.differences
    )
    data = {**msgspec.to_builtins(report), "same": report.same}
    columns = ("POSITION", "INTENT", "RECORDED", "TODAY", "WHY")
    return Listing("decisions", columns, len(columns), (Item("decisions", data, lines),), single=True)


def describe_attempt(attempt: events.AttemptStarted, other: events.AttemptStarted | None) -> str:
    """An attempt, and the fields in which it differs from another."""
    text = f"{attempt.kind} {attempt.number}"
    if other is None:
        return f"{text} of {attempt.order.quantity} @{attempt.order.price}"
    mine, its = as_json(attempt), as_json(other)
    fields = [f"{name} {value}" for name, value in flatten(mine) if dict(flatten(its)).get(name) != value]
    return f"{text} with {', '.join(fields)}"


def flatten(value: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """The leaves of a model's JSON with their paths."""
    found: list[tuple[str, Any]] = []
    for name, item in value.items():
        found += flatten(item, f"{prefix}{name}.") if isinstance(item, Mapping) else [(f"{prefix}{name}", item)]
    return found
