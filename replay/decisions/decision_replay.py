"""`replay_decisions`: whether today's code decides every recorded attempt and verdict as the kernel did that wrote the
log.

Called by `orderctl decisions` and by the tests of golden histories: so every change of the reconciler is tested against
recorded history. The reconciler's own function (`kernel.reconciler.decision`) runs again on the state that an attempt
was decided on: the same `AttemptStarted` must come out, field by field, and a local rejection must be one again.
Verdicts of absence are concluded again from the queries recorded with them. Everything else that a leader depends on is
no difference: rate limits, the order of the queue, backoff between queries, the lease, the last check before the wire,
and when answers came.

The log is read once, in pages, and nothing is kept of it: an attempt is known some rows before the fold comes to the
state that it was decided on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import pydantic

from kernel import events
from kernel import plan as planning
from kernel.lifecycle import Record
from kernel.log.base import EventLog
from kernel.log.engine.records import event_of
from kernel.models import Attempt, AttemptKind, AttemptOutcome
from kernel.reconciler import attempt_resolution
from kernel.reconciler.decide_run import decide_resend, decide_run
from kernel.reconciler.decision import Decision, LocalRejection, attempt_of
from kernel.reconciler.run_inputs import DecisionContext, RunInputs, RunMemory, gather_inputs
from kernel.settings import KernelSettings, ns
from kernel.streams.event_writer import RECONCILER
from kernel.streams.rehydration import apply_batch
from kernel.venues.base import Dedupe, VenueCapabilities
from projections.state import State
from replay.formatting.output import Item, Listing
from replay.formatting.progress_bar import Progress
from replay.log_access.log_reader import checked_pages, open_for_reading

ROWS_AHEAD = 5_000
"""So many rows before the fold an attempt is known: more than are ever appended between a decision and its record."""
DIFFERENCES_KEPT = 100
"""Of so many differences the report has the details; it counts all."""


@dataclass(frozen=True, slots=True)
class DecisionDifference:
    """One decision that today's code would not make, or would make otherwise."""

    position: int
    """Of the event that records the decision."""
    intent_id: str
    state_position: int
    """Position of the state that it was made on."""
    decided_at_ns: int
    recorded: str
    """What was done."""
    today: str
    """What today's code would do."""
    why: str = ""
    """Why, as far as the plan tells."""


@dataclass
class DecisionReport:
    """What came of deciding everything again."""

    position: int = 0
    """Up to where the log was read."""
    attempts: int = 0
    """Attempts decided again."""
    verdicts: int = 0
    """Verdicts of absence concluded again."""
    past_backoff: int = 0
    """Of the attempts, those made before their backoff was over: somebody forced them, which the log does not tell."""
    unchecked: int = 0
    """Attempts whose state had passed before they were known, or whose settings or capabilities can't be read."""
    difference_count: int = 0
    differences: list[DecisionDifference] = field(default_factory=list)
    """The first of them, in order."""

    @property
    def same(self) -> bool:
        """Whether today's code decides everything alike."""
        return self.difference_count == 0

    @property
    def first(self) -> DecisionDifference | None:
        """The first decision that differs."""
        return self.differences[0] if self.differences else None

    def add(self, found: DecisionDifference) -> None:
        """One more difference."""
        self.difference_count += 1
        if len(self.differences) < DIFFERENCES_KEPT:
            self.differences.append(found)


async def replay_decisions(
    log: EventLog | str, *, progress: Progress | None = None, exchange_id: str | None = None
) -> DecisionReport:
    """Decide again what a log's kernels decided, from its first event to its head.

    Raises `IntegrityError` and `SchemaError` with the first position that can't be folded.
    """
    async with open_for_reading(log, exchange_id) as found:
        trial = DecisionReplayer(found)
        async for event, decided in with_decisions(found, trial.report, progress):
            await trial.apply(event)
            for attempt in decided:
                trial.check(attempt)
        return trial.report


async def with_decisions(
    log: EventLog, report: DecisionReport, progress: Progress | None
) -> AsyncIterator[tuple[events.BaseEvent, list[events.AttemptStarted]]]:
    """Each event, with the attempts that were decided on the state after it."""
    waiting: deque[events.BaseEvent] = deque()
    decided: dict[int, list[events.AttemptStarted]] = {}
    passed = 0
    async for rows in checked_pages(log, progress=progress):
        for row in rows:
            event = event_of(row)
            waiting.append(event)
            if not isinstance(event, events.AttemptStarted):
                continue
            if event.state_position > passed:
                decided.setdefault(event.state_position, []).append(event)
            else:
                report.unchecked += 1
        while len(waiting) > ROWS_AHEAD:
            passed = waiting[0].position
            yield waiting.popleft(), decided.pop(passed, [])
    while waiting:
        yield waiting[0], decided.pop(waiting.popleft().position, [])


class DecisionReplayer:
    """The fold of a log, and today's decisions on it."""

    def __init__(self, log: EventLog) -> None:
        self.report = DecisionReport()
        self._log = log
        self._state = State()
        self._settings: KernelSettings | None = None
        self._context: DecisionContext | None = None
        """The newest leader's settings and capabilities; None while it had yet to ask the venue for them (nothing was
        decided either), and where this code cannot read them: then nothing can be decided again."""
        self._query: tuple[events.VenueSnapshotTaken, Record] | None = None
        """The newest query that did not find its order, and the record before it."""
        self._rejected: dict[int, str] = {}
        """Attempts without an answer yet, and why today's code rejects them locally; empty: it sends them."""

    async def apply(self, event: events.BaseEvent) -> None:
        """Fold one event, and judge what is decided in it alone."""
        if isinstance(event, events.AttemptResolved) and event.actor == RECONCILER:
            self._check_verdict(event)
        self._query = None
        if isinstance(event, events.VenueSnapshotTaken) and event.intent_id and event.found is False:
            self._query = (event, self._state.record(event.intent_id))
        self._check_answer(event)
        await apply_batch(self._log, self._state, [event])
        self.report.position = event.position
        self._note_kernel(event)

    def _note_kernel(self, event: events.BaseEvent) -> None:
        """Note the settings and capabilities that the leader decides by from here on."""
        capabilities: Mapping[str, Any] = {}
        match event:
            case events.KernelStarted(settings=settings, capabilities=capabilities):
                self._settings = None
                with suppress(pydantic.ValidationError):
                    self._settings = recorded_settings(settings)
            case events.CapabilitiesChanged(capabilities=capabilities):
                pass
            case _:
                return
        self._context = None
        with suppress(pydantic.ValidationError):
            if capabilities and self._settings is not None:
                self._context = DecisionContext(self._settings, recorded_capabilities(capabilities), epoch=0, now_ns=0)

    # ------------------------------------------------------------------------------------------------------- attempts
    def check(self, recorded: events.AttemptStarted) -> None:
        """Decide an attempt again, on the state that it was decided on."""
        if self._context is None:
            self.report.unchecked += 1
            return
        self.report.attempts += 1
        context = replace(self._context, epoch=recorded.epoch, now_ns=recorded.decided_at_ns)
        try:
            decision = self._decide(context, recorded)
        except Exception as problem:  # a leader tries again after any error: its decision is to do nothing
            decision = planning.Nothing(f"it goes wrong: {problem!r}")
        today = attempt_of(decision, recorded.intent_id)
        if today == recorded:
            self._rejected[recorded.position] = decision.text if isinstance(decision, LocalRejection) else ""
            return
        differs = describe_attempt(today, recorded) if today is not None else decision.label
        self._add(recorded, describe_attempt(recorded, today), differs, why=decision.reason, decided=recorded)

    def _decide(self, context: DecisionContext, recorded: events.AttemptStarted) -> Decision:
        """What today's code does there: in a run, in one that was forced, or after a query that found nothing."""
        decision = decide_run(self._inputs(context, recorded.intent_id))
        if attempt_of(decision, recorded.intent_id) == recorded:
            return decision
        record = self._state.record(recorded.intent_id)
        if context.now_ns < record.not_before_ns:
            forced = decide_run(self._inputs(context, recorded.intent_id, forced=True))
            if attempt_of(forced, recorded.intent_id) == recorded:
                self.report.past_backoff += 1
                return forced
        if context.capabilities.dedupe is Dedupe.FOR_EVER and record.send_count(recorded.client_order_id):
            resent = decide_resend(self._inputs(context, recorded.intent_id))
            if attempt_of(resent, recorded.intent_id) == recorded:
                return resent
        return decision

    def _inputs(self, context: DecisionContext, intent_id: str, *, forced: bool = False) -> RunInputs:
        intent, order = self._state.effective_intent(intent_id), self._state.observed_order(intent_id)
        return gather_inputs(self._state, intent_id, intent, order, context=context, memory=RunMemory(forced=forced))

    def _check_answer(self, event: events.BaseEvent) -> None:
        """Check by the first answer to an attempt whether it was sent or rejected locally."""
        position = getattr(event, "attempt_position", None) or event.causation_position
        if position not in self._rejected or isinstance(event, events.AttemptStarted):
            return
        today = self._rejected.pop(position)
        if isinstance(event, events.AttemptResolved):
            return  # nobody knows any more whether it was sent
        local = isinstance(event, events.AttemptFailed) and bool(event.locally_rejected)
        if local != bool(today):
            did = "refused here, never sent" if local else "sent"
            self._add(event, did, today or "sent", why="what the market takes", position=position)

    # ------------------------------------------------------------------------------------------------------- verdicts
    def _check_verdict(self, recorded: events.AttemptResolved) -> None:
        """Conclude an absence again: from the query that is recorded with it, on the record before that query."""
        query, record = self._query or (None, self._state.record(recorded.intent_id))
        attempt = next((item for item in record.attempts if item.position == recorded.attempt_position), None)
        if attempt is None or self._context is None or attempt.kind is AttemptKind.CANCEL:
            return  # of a cancel nothing has to be proved: it can be sent again at any time
        self.report.verdicts += 1
        problem = self._objection(recorded, attempt, query, self._context)
        if problem is not None:
            did = f"{attempt.kind} {attempt.number} is {recorded.outcome}: {recorded.text}"
            self._add(recorded, did, "no verdict", why=problem)

    def _objection(
        self,
        recorded: events.AttemptResolved,
        attempt: Attempt,
        query: events.VenueSnapshotTaken | None,
        context: DecisionContext,
    ) -> str | None:
        """Why the query does not prove the verdict; None where it does."""
        if recorded.outcome is not AttemptOutcome.DEAD:
            return f"a look never proves {recorded.outcome}"
        if attempt.kind is AttemptKind.AMEND and query is None:
            return self._amend_objection(recorded, attempt)
        if query is None:
            return "no look is recorded with it"
        delay_s = context.settings.assumed_max_delay_s
        conclusions = [
            attempt_resolution.conclude(
                attempt,
                context.capabilities,
                may_resend=wanted,
                began_ns=query.began_ns,
                ended_ns=query.ended_ns,
                assumed_max_delay_ns=None if delay_s is None else ns(delay_s),
            )
            for wanted in (False, True)  # whether the intent wanted it when the query began is not recorded
        ]
        if any(isinstance(item, attempt_resolution.ProvenAbsent) for item in conclusions):
            return None
        return getattr(conclusions[0], "text", "") or f"{conclusions[0]}"

    def _amend_objection(self, recorded: events.AttemptResolved, attempt: Attempt) -> str | None:
        """A change is moot once its order has ended; else only an admissible query rules it out (H14)."""
        live = self._state.record(recorded.intent_id).live_orders
        aimed = {attempt.target_exchange_order_id, attempt.target_client_order_id} - {None}
        works = any({facts.exchange_order_id, *facts.client_order_ids} & aimed for facts in live)
        if not works or attempt_resolution.is_admissible(attempt, began_ns=recorded.began_ns or 0):
            return None
        return "the order works, and the change may still arrive"

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
        """Report a decision that differs, of the event that records it or answers it."""
        state_position, at_ns = (self._state.position, 0)
        if decided is not None:
            state_position, at_ns = decided.state_position, decided.decided_at_ns
        intent_id = event.stream_id.removeprefix(events.INTENT_STREAM_PREFIX)
        found = (position or event.position, intent_id, state_position, at_ns, recorded, today, why)
        self.report.add(DecisionDifference(*found))


def summary(report: DecisionReport) -> str:
    """The report in one line."""
    text = f"{report.attempts} attempts and {report.verdicts} verdicts up to position {report.position} decided again: "
    text += "none differs" if report.same else f"{report.difference_count} differ"
    if report.past_backoff:
        text += f"; {report.past_backoff} were made past their backoff, by force"
    return text + (f"; {report.unchecked} could not be decided again" if report.unchecked else "")


def listing(report: DecisionReport) -> Listing:
    """The report for the printer: a line for each difference, or all of it for programs."""
    lines = tuple(
        (str(item.position), item.intent_id, item.recorded, item.today, item.why) for item in report.differences
    )
    data = {**asdict(report), "same": report.same}
    columns = ("POSITION", "INTENT", "RECORDED", "TODAY", "WHY")
    return Listing("decisions", columns, len(columns), (Item("decisions", data, lines),), single=True)


def recorded_settings(recorded: Mapping[str, Any]) -> KernelSettings:
    """The settings that a kernel recorded; what they did not have yet is as by default, whatever this process's
    environment says, and what there is no more is left out."""
    defaults = KernelSettings.model_construct().model_dump(mode="json")
    known = {name: value for name, value in recorded.items() if name in defaults}
    return KernelSettings.model_validate({**defaults, **known})


def recorded_capabilities(recorded: Mapping[str, Any]) -> VenueCapabilities:
    """A venue's capabilities as they were recorded; what there is no more is left out."""
    known = {name: value for name, value in recorded.items() if name in VenueCapabilities.model_fields}
    return VenueCapabilities.model_validate_json(events.canonical_json(known))


def describe_attempt(attempt: events.AttemptStarted, other: events.AttemptStarted | None) -> str:
    """An attempt in words: what it is, and in what it differs from another."""
    text = f"{attempt.kind} {attempt.number}"
    if other is None:
        return f"{text} of {attempt.order.quantity} @{attempt.order.price}"
    mine, its = attempt.model_dump(mode="json"), other.model_dump(mode="json")
    fields = [f"{name} {value}" for name, value in flatten(mine) if dict(flatten(its)).get(name) != value]
    return f"{text} with {', '.join(fields)}"


def flatten(value: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """The leaves of a model's JSON, by their paths."""
    found: list[tuple[str, Any]] = []
    for name, item in value.items():
        found += flatten(item, f"{prefix}{name}.") if isinstance(item, Mapping) else [(f"{prefix}{name}", item)]
    return found
