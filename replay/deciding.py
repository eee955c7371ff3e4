"""`replay_decisions`: whether today's code, at every point that a log proves, decides as the kernel did that wrote it.

Called by `orderctl decisions` and by the tests of golden histories: so every change of the reconciler is tested against
recorded history. What is a function of state, settings, capabilities and the instant is run again by the very code
(`dry_engine`), on the state that an attempt was decided on: the same `AttemptStarted` must come out, field by field, and
what was refused here must be refused again. Verdicts of absence are concluded again from the looks recorded with them.
What the recorded kernel left undone is found by `passing_over`. What else a leader goes by is no difference: the rate
budget, the queue's order, pacing, the lease, the last check before the wire, and which answer came when.

The log is read once, in pages, and nothing is kept of it: an attempt is known some rows before the fold comes to the state
that it was decided on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

import pydantic

from kernel import events, settlement
from kernel import plan as planning
from kernel.attempts import RECONCILER, UNFIT
from kernel.lifecycle import Record
from kernel.log.base import EventLog
from kernel.log.records import event_of
from kernel.models import Attempt, AttemptKind, AttemptOutcome
from kernel.recalling import fold_on
from kernel.settings import KernelSettings, ns
from kernel.venues.base import Dedupe, VenueCapabilities
from projections.state import State
from replay.dry_engine import Decision, DryEngine
from replay.folding import checked_pages, opened
from replay.output import Item, Listing
from replay.passing_over import PassingOver
from replay.progress import Progress

ROWS_AHEAD = 5_000
"""So many rows before the fold an attempt is known: more than are ever appended between a decision and its record."""
DIFFERENCES_KEPT = 100
"""Of so many differences the report has the details; it counts all."""


@dataclass(frozen=True, slots=True)
class DecisionDifference:
    """One decision that today's code would not make, or would make otherwise."""

    position: int
    """Of the event that records the decision; of what was left undone, of the event that proves it."""
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
    async with opened(log, exchange_id) as found:
        trial = Trial(found)
        async for event, decided in with_decisions(found, trial.report, progress):
            await trial.apply(event)
            for attempt in decided:
                await trial.check(attempt)
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


class Trial:
    """The fold of a log, and today's decisions on it."""

    def __init__(self, log: EventLog) -> None:
        self.report = DecisionReport()
        self._log = log
        self._state = State()
        self._settings: KernelSettings | None = None
        self._engine: DryEngine | None = None
        self._passing = PassingOver(self._state)
        self._look: tuple[events.VenueSnapshotTaken, Record] | None = None
        """The newest look that did not find what it was for, and what was known before it."""
        self._refused: dict[int, str] = {}
        """Attempts without an answer yet, and why today's code would have refused to send them; empty: it would not."""

    async def apply(self, event: events.BaseEvent) -> None:
        """Fold one event, and judge what is decided in it alone."""
        if isinstance(event, events.AttemptResolved) and event.actor == RECONCILER:
            self._check_verdict(event)
        self._look = None
        if isinstance(event, events.VenueSnapshotTaken) and event.intent_id and event.found is False:
            self._look = (event, self._state.record(event.intent_id))
        self._check_answer(event)
        applied = await fold_on(self._log, self._state, [event])
        self.report.position = event.position
        self._note_kernel(event)
        self._passing.note(event, applied.touched, applied.differing)
        if isinstance(event, events.AttemptStarted) and self._engine is not None:
            for found in await self._passing.proved_by(event, self._engine):
                self.report.add(DecisionDifference(**found))

    def _note_kernel(self, event: events.BaseEvent) -> None:
        """By what the leader goes from here on."""
        match event:
            case events.KernelStarted(settings=settings, capabilities=capabilities):
                self._settings = None
                with suppress(pydantic.ValidationError):
                    self._settings = recorded_settings(settings)
                self._set_engine(capabilities)
            case events.CapabilitiesChanged(capabilities=capabilities):
                self._set_engine(capabilities)

    def _set_engine(self, capabilities: Mapping[str, Any]) -> None:
        """None while the venue had yet to be asked for its capabilities (then nothing was decided either), and where what
        was recorded means nothing to this code: then nothing can be decided again."""
        self._engine = None
        with suppress(pydantic.ValidationError):
            if not capabilities or self._settings is None:
                return
            self._engine = DryEngine(self._state, self._settings, recorded_capabilities(capabilities))

    # ------------------------------------------------------------------------------------------------------- attempts
    async def check(self, recorded: events.AttemptStarted) -> None:
        """Decide an attempt again, on the state that it was decided on."""
        if self._engine is None:
            self.report.unchecked += 1
            return
        self.report.attempts += 1
        decision = await self._decide(self._engine, recorded)
        today = decision.attempt(recorded.intent_id)
        if today == recorded:
            refused = decision.action if isinstance(decision.action, planning.Refuse) else None
            self._refused[recorded.position] = "; ".join(map(str, refused.violations)) if refused else ""
            return
        self._add(
            recorded.position,
            recorded.intent_id,
            told(recorded, today),
            told(today, recorded) if today is not None else idle(decision),
            why=reason(decision),
            decided=recorded,
        )

    async def _decide(self, engine: DryEngine, recorded: events.AttemptStarted) -> Decision:
        """What today's code does there: in a run, in one that was forced, or after a look that found nothing."""
        intent_id, now_ns, epoch = recorded.intent_id, recorded.decided_at_ns, recorded.epoch
        decision = await engine.decide(intent_id, now_ns=now_ns, epoch=epoch)
        if decision.attempt(intent_id) == recorded:
            return decision
        record = self._state.record(intent_id)
        if now_ns < record.not_before_ns:
            forced = await engine.decide(intent_id, now_ns=now_ns, epoch=epoch, forced=True)
            if forced.attempt(intent_id) == recorded:
                self.report.past_backoff += 1
                return forced
        if engine.capabilities.dedupe is Dedupe.FOR_EVER and record.send_count(recorded.client_order_id):
            resent = await engine.resend(intent_id, now_ns=now_ns, epoch=epoch)
            if resent.attempt(intent_id) == recorded:
                return resent
        return decision

    def _check_answer(self, event: events.BaseEvent) -> None:
        """Whether an attempt was sent: the first answer to it tells, be it the kernel's own refusal."""
        position = getattr(event, "attempt_position", None) or event.causation_position
        if position not in self._refused or isinstance(event, events.AttemptStarted):
            return
        refused = self._refused.pop(position)
        if isinstance(event, events.AttemptResolved):
            return  # nobody knows any more whether it was sent
        unfit = isinstance(event, events.AttemptFailed) and event.text.startswith(UNFIT)
        if unfit == bool(refused):
            return
        what = "refused here, never sent" if unfit else "sent"
        intent_id = event.stream_id.removeprefix(events.INTENT_STREAM_PREFIX)
        self._add(position, intent_id, what, refused or "sent", why="what the market takes")

    # ------------------------------------------------------------------------------------------------------- verdicts
    def _check_verdict(self, recorded: events.AttemptResolved) -> None:
        """Conclude an absence again: from the look that is recorded with it, under what was known before that look."""
        look, record = self._look if self._look is not None else (None, self._state.record(recorded.intent_id))
        found = (item for item in record.attempts if item.position == recorded.attempt_position)
        attempt = next(found, None)
        if attempt is None or self._engine is None or attempt.kind is AttemptKind.CANCEL:
            return  # of a cancel nothing has to be proved: it can be sent again at any time
        self.report.verdicts += 1
        problem = self._objection(recorded, attempt, look, self._engine)
        if problem is not None:
            did = f"{attempt.kind} {attempt.number} is {recorded.outcome}: {recorded.text}"
            self._add(recorded.position, recorded.intent_id, did, "no verdict", why=problem)

    def _objection(
        self,
        recorded: events.AttemptResolved,
        attempt: Attempt,
        look: events.VenueSnapshotTaken | None,
        engine: DryEngine,
    ) -> str | None:
        """Why the look does not prove it; None where it does."""
        if recorded.outcome is not AttemptOutcome.DEAD:
            return f"a look never proves {recorded.outcome}"
        if attempt.kind is AttemptKind.AMEND and look is None:
            return self._amend_objection(recorded, attempt)
        if look is None:
            return "no look is recorded with it"
        delay_s = engine.settings.assumed_max_delay_s
        conclusions = [
            settlement.conclude(
                attempt,
                engine.capabilities,
                wanted=wanted,
                began_ns=look.began_ns,
                ended_ns=look.ended_ns,
                assumed_max_delay_ns=None if delay_s is None else ns(delay_s),
            )
            for wanted in (False, True)  # what was wanted when the look began is not recorded
        ]
        if any(isinstance(item, settlement.Dead) for item in conclusions):
            return None
        return getattr(conclusions[0], "text", "") or f"{conclusions[0]}"

    def _amend_objection(self, recorded: events.AttemptResolved, attempt: Attempt) -> str | None:
        """An amend is moot once its order has ended; else only an admissible look rules it out (H14)."""
        live = self._state.record(recorded.intent_id).live_orders
        aimed = {attempt.target_exchange_order_id, attempt.target_client_order_id} - {None}
        works = any({facts.exchange_order_id, *facts.client_order_ids} & aimed for facts in live)
        if not works or settlement.is_admissible(attempt, began_ns=recorded.began_ns or 0):
            return None
        return "the order works, and the change may still arrive"

    def _add(
        self,
        position: int,
        intent_id: str,
        recorded: str,
        today: str,
        *,
        why: str,
        decided: events.AttemptStarted | None = None,
    ) -> None:
        self.report.add(
            DecisionDifference(
                position=position,
                intent_id=intent_id,
                state_position=decided.state_position if decided else self._state.position,
                decided_at_ns=decided.decided_at_ns if decided else 0,
                recorded=recorded,
                today=today,
                why=why,
            )
        )


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


def told(attempt: events.AttemptStarted, other: events.AttemptStarted | None) -> str:
    """An attempt in words: what it is, and in what it differs from another."""
    text = f"{attempt.kind} {attempt.number}"
    if other is None:
        return f"{text} of {attempt.order.quantity} @{attempt.order.price}"
    mine, its = attempt.model_dump(mode="json"), other.model_dump(mode="json")
    fields = [f"{name} {value}" for name, value in flat(mine) if dict(flat(its)).get(name) != value]
    return f"{text} with {', '.join(fields)}"


def flat(value: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """The leaves of a model's JSON, by their paths."""
    found: list[tuple[str, Any]] = []
    for name, item in value.items():
        found += flat(item, f"{prefix}{name}.") if isinstance(item, Mapping) else [(f"{prefix}{name}", item)]
    return found


def idle(decision: Decision) -> str:
    """What a run does that starts no attempt for the intent."""
    if decision.appended:
        return "first " + ", ".join(event.topic for event in decision.appended)
    return type(decision.action).__name__.lower() if decision.action is not None else "nothing"


def reason(decision: Decision) -> str:
    """Why it does what it does, as far as the plan tells."""
    return getattr(decision.action, "reason", "") or decision.why
