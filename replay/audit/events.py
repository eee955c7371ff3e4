"""Check the events of a log against each other and against the folded state.

Called by `verify` with pages of rows whose hashes were checked. A state is folded from them, and hands each event to the
checks with the record before and after it. Events of unknown topics are counted and pass. Of an intent, the checks keep
a `Book` as long as the state keeps its record; both are built again from the stream if an event continues it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
from msgspec.structs import replace

from kernel import events
from kernel.errors import IntegrityError
from kernel.events import REGISTRY, BaseEvent, Envelope, Origin, canonical_json, decode
from kernel.events.base import enveloped
from kernel.lifecycle.record import Record
from kernel.log.base import EventLog, StoredRow
from kernel.log.engine.records import checked_envelope
from kernel.models import Evidence, FindingKind
from kernel.streams.rehydration import load_streams
from projections.snapshot import Evicted
from projections.state import State
from replay.audit.accounts import Accounts
from replay.audit.intents import Book, Surroundings, Wrong, check_event, check_outcome, unreported
from replay.formatting.problems import ProblemKind, Problems

TOPICS_MAX = 50_000
"""Topics of the newest events that are kept in memory, to check causes without a query."""
REPORTED_WITHIN_NS = 60 * 10**9
"""Time that an active leader has to raise a finding."""
UNKNOWN = "?"
VERSION_MAX = 2**63 - 1
NO_META = canonical_json(Origin(actor="", evidence=Evidence.COMMAND))

COUNTED = ("foreign_events", "fills", "sends", "recalled_intents")

COMMANDS = frozenset({"IntentCreated", "IntentModified", "IntentCancelRequested"})
ATTEMPT = frozenset({"AttemptStarted"})
CAUSES: dict[str, frozenset[str]] = {
    "AttemptStarted": COMMANDS,
    "GroupWorked": COMMANDS,
    "AttemptFailed": ATTEMPT,
    "AttemptUnknown": ATTEMPT,
    **{topic: ATTEMPT for topic, kind in REGISTRY.items() if issubclass(kind, events.OrderReport)},
    "HeartbeatLapsed": frozenset({"HeartbeatReceived"}),
}
"""Permitted causes by topic. Any earlier event may cause an event of another topic."""


class UnknownEvent(BaseEvent):
    """A placeholder for an event of an unknown topic. Never recorded."""

    topic = UNKNOWN


class UnreadableEvent(BaseEvent):
    """A placeholder for an event whose content is damaged. Never recorded."""

    topic = UNKNOWN


class PendingFinding(msgspec.Struct):
    """A condition for which a leader has to raise a finding."""

    position: int
    text: str
    since_ns: int | None = None
    """Time of the leader's first complete venue snapshot after the condition arose."""
    reported: bool = False
    """True if the missing finding is already a problem."""


class EventChecks:
    """Checks the events of one log, in order, while a state is folded from them."""

    def __init__(self, problems: Problems, log: EventLog, *, after: int) -> None:
        """Begin after a position. Positions and balances are only compared from the first event on."""
        self.counts = dict.fromkeys(COUNTED, 0)
        self._problems = problems
        self._log = log
        self._after = after
        self._around = Surroundings(log_id=log.log_id, epoch=None if after else 0)
        self._created = False
        self._books: dict[str, Book] = {}
        """By intent id."""
        self._damaged: set[str] = set()
        """Streams with missing or changed events: later events are folded, but no longer checked against them."""
        self._not_folded: set[str] = set()
        """Streams that cannot be folded."""
        self._topics: dict[int, str] = {}
        """Those of the newest positions."""
        self._late: list[BaseEvent] = []
        """Events for whose cause the topic has to be read from the log."""
        self._pending_findings: dict[str, dict[FindingKind, PendingFinding]] = {}
        """By intent id."""
        self._position = after
        """The newest event that was checked. An earlier one is of an evicted stream that was read again."""
        self._state = State(observer=self._observe)
        self._accounts: Accounts | None = Accounts(problems, self._state)
        if after:
            self._continue_after(after)

    @property
    def epoch(self) -> int | None:
        """The epoch of the newest leader in the events; None if unknown."""
        return self._around.epoch

    async def page(self, rows: Sequence[StoredRow], sound: Sequence[bool]) -> None:
        """Check the events of a page of rows. The content of rows that are not sound is ignored."""
        found = [self._read(row) if is_sound else damaged(row) for row, is_sound in zip(rows, sound, strict=True)]
        for event in found:
            self._check_cause(event)
        while found:
            found = await self._fold(found)
        if self._accounts is not None:
            self._accounts.compare()
        await self._check_late()
        records = self._state.records()
        if len(self._books) > 2 * len(records):
            self._books = {name: book for name, book in self._books.items() if name in records}

    def finish(self) -> None:
        """Run the checks that need the end of the log."""
        if not self._after and not self._created:
            self._problems.add(ProblemKind.HEAD, 1, "the log has no LogCreated event, which names its owner")

    def _read(self, row: StoredRow, *, again: bool = False) -> BaseEvent:
        """Return a row's event, or a placeholder; a row that is read again has been counted and reported."""
        try:
            envelope = checked_envelope(row)
            if row.topic in REGISTRY:
                return decode(row.topic, row.schema_version, row.state, envelope)
        except IntegrityError as problem:  # a SchemaError is one
            if not again:
                self._problems.add(ProblemKind.UNREADABLE, row.position, problem.args[0])
            return damaged(row)
        self.counts["foreign_events"] += not again
        return enveloped(UnknownEvent(), envelope)

    async def _read_stream(self, stream_id: str) -> list[BaseEvent]:
        """Return the events of a stream, with placeholders for those that cannot be read."""
        self.counts["recalled_intents"] += stream_id.startswith(events.INTENT_STREAM_PREFIX)
        rows = await self._log.stream_rows(stream_id, upto_version=VERSION_MAX)
        return [self._read(row, again=True) for row in rows]

    async def _fold(self, found: list[BaseEvent]) -> list[BaseEvent]:
        """Fold the first events that follow each other; returns the others."""
        state, first = self._state, found[0].position
        if first <= state.position:  # a position that is there twice
            self._damaged.add(found[0].stream_id)
            return found[1:]
        if first > state.position + 1:
            state = self._continue_after(first - 1)
        if self._not_folded:
            found = [damaged(event, stream_id="") if event.stream_id in self._not_folded else event for event in found]
        count = next((at for at, event in enumerate(found) if event.position != first + at), len(found))
        part = next(iter(state.parts_of(found[:count])))
        missing = state.missing(part)
        rehydrated = await load_streams(self._read_stream, missing, upto=state.position) if missing else ()
        try:
            state.apply(part, rehydrated)
        except Exception as problem:
            if self._position > state.position:
                raise  # by a check
            self._leave_out(part, problem)
        return found[self._state.position + 1 - first :]

    def _leave_out(self, part: Sequence[BaseEvent], problem: Exception) -> None:
        """Ignore the streams that cannot be folded: those whose first events are lost, else that of the failed event."""
        if missing := self._state.missing(part):
            self._not_folded |= missing
            return
        event = part[self._state.position + 1 - part[0].position]
        text = f"the log cannot be folded from here on: {type(problem).__name__}: {problem}"
        self._problems.add(ProblemKind.UNREADABLE, event.position, text)
        self._not_folded.add(event.stream_id)
        if event.stream_id == events.CONTROL_STREAM:
            self._around.epoch = None
        self._continue_after(event.position)

    def _continue_after(self, position: int) -> State:
        """Begin a state that holds no stream: each is read again when an event continues it."""
        self._state, self._accounts = State(observer=self._observe), None
        self._state.restore(replace(self._state.snapshot(), position=position, evicted=Evicted(intents=1)), ())
        return self._state

    def _observe(self, event: BaseEvent, before: Record | None, after: Record | None) -> None:
        """Check an event that was just folded, or take it in if it was checked before."""
        envelope = event.envelope
        is_new = envelope.position > self._position
        if is_new:
            self._position = envelope.position
        if before is not None and after is not None:
            self._check_intent(event, envelope, before, after, is_new=is_new)
        elif envelope.stream_id == events.CONTROL_STREAM:
            self._check_control(event)
        elif isinstance(event, events.VenueSnapshotTaken) and event.complete:
            self._leader_queried(envelope.recorded_at_ns)
        elif isinstance(event, events.BalancesObserved) and self._accounts is not None:
            self._accounts.account_observed(envelope.position)

    def _check_intent(
        self, event: BaseEvent, envelope: Envelope, before: Record, after: Record, *, is_new: bool
    ) -> None:
        """Check an event of an intent; one that is not new was checked before its stream was evicted."""
        position, stream_id = envelope.position, envelope.stream_id
        if not before.version:
            self._books[before.intent_id] = Book(self._around)
        book = self._books[before.intent_id]
        if envelope.version != before.version + 1 or isinstance(event, UnreadableEvent):
            self._damaged.add(stream_id)
        is_checked = is_new and stream_id not in self._damaged
        if is_checked:
            self._add(event, check_event(book, event, before))
        changes = book.note(event, before, after)
        if not is_new:
            return
        if isinstance(event, events.OrderReport):
            self.counts["fills"] += isinstance(event, events.OrderFilled)
            if is_checked:
                self._add(event, check_outcome(book, event, before, after))
        elif isinstance(event, events.AttemptStarted):
            self.counts["sends"] += 1
        if changes and self._accounts is not None:
            self._accounts.moved(changes, book.excess, position)
        if after.orders is not before.orders or after.intent is not before.intent or after.findings != before.findings:
            self._note_pending_finding(after.intent_id, unreported(book, after) if is_checked else {}, position)

    def _add(self, event: BaseEvent, found: Iterable[Wrong]) -> None:
        for kind, text in found:
            self._problems.add(kind, event.position, f"{event.topic}: {text}")

    def _check_control(self, event: BaseEvent) -> None:
        around = self._around
        match event:
            case events.LogCreated():
                self._check_created(event)
            case events.LeaderElected():
                if around.epoch is not None and event.epoch != around.epoch + 1:
                    text = f"epoch {event.epoch} follows epoch {around.epoch}; epochs increase by 1"
                    self._add(event, [(ProblemKind.LIFECYCLE, text)])
                around.epoch = event.epoch
            case events.KernelStarted() | events.CapabilitiesChanged():
                around.capabilities = event.capabilities
            case UnreadableEvent():
                around.epoch = None

    def _check_created(self, event: events.LogCreated) -> None:
        if self._created:
            self._add(event, [(ProblemKind.LIFECYCLE, "a second LogCreated event")])
        self._created = True
        if (event.log_id, event.exchange_id) != (self._log.log_id, self._log.exchange_id):
            text = (
                f"the first event names log {event.log_id} of {event.exchange_id}, the head row names log"
                f" {self._log.log_id} of {self._log.exchange_id}"
            )
            self._problems.add(ProblemKind.HEAD, event.position, text)

    def _check_cause(self, event: BaseEvent) -> None:
        envelope = event.envelope
        position, cause = envelope.position, envelope.origin.causation_position
        self._topics[position] = event.topic
        self._topics.pop(position - TOPICS_MAX, None)
        if cause is None:
            return
        if not 0 < cause < position:
            text = f"{event.topic}: its cause, position {cause}, is not an earlier position"
            self._problems.add(ProblemKind.CAUSE, position, text)
        elif (topic := self._topics.get(cause)) is not None:
            self._check_kind(event, topic)
        elif event.topic in CAUSES:
            self._late.append(event)

    def _check_kind(self, event: BaseEvent, topic: str) -> None:
        fitting = CAUSES.get(event.topic)
        if fitting is not None and topic not in fitting and topic in REGISTRY:
            cause = f"{topic} at position {event.causation_position}"
            text = f"{event.topic}: its cause, {cause}, cannot cause a {event.topic}"
            self._problems.add(ProblemKind.CAUSE, event.position, text)

    async def _check_late(self) -> None:
        for event in self._late:
            cause = event.causation_position or 0
            async for rows in self._log.read(cause - 1, cause):
                self._check_kind(event, rows[0].topic)
        self._late.clear()

    def _note_pending_finding(self, intent_id: str, missing: dict[FindingKind, str], position: int) -> None:
        """Update the findings that an intent still needs after an event."""
        known = self._pending_findings.pop(intent_id, {})
        if missing:
            self._pending_findings[intent_id] = {
                kind: known.get(kind) or PendingFinding(position, text) for kind, text in missing.items()
            }

    def _leader_queried(self, now_ns: int) -> None:
        """Report findings that a leader has not raised in time, as of its complete venue snapshot."""
        for name, pending in self._pending_findings.items():
            for kind, item in pending.items():
                if item.since_ns is None:
                    item.since_ns = now_ns
                elif now_ns - item.since_ns > REPORTED_WITHIN_NS and not item.reported:
                    item.reported = True
                    text = f"no {kind} finding was raised for {name}: {item.text}"
                    self._problems.add(ProblemKind.FINDING, item.position, text)


def damaged(row: StoredRow | BaseEvent, stream_id: str | None = None) -> BaseEvent:
    """Return a placeholder for a row that is changed or cannot be decoded, or for an event that cannot be folded."""
    named = row.stream_id if stream_id is None else stream_id
    return enveloped(UnreadableEvent(), Envelope(row.position, named, row.version, row.recorded_at_ns, NO_META))
