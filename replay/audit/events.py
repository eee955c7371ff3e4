"""Check the events of a log against each other and against the folded state.

Called by `verify` with pages of rows whose hashes were checked. Events of unknown topics are counted and pass. Memory is
bounded besides the state: `Book`s not used recently are evicted and rebuilt from their stream when needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from kernel import events
from kernel.errors import IntegrityError
from kernel.events import REGISTRY, BaseEvent, Envelope, Origin, canonical_json, decode
from kernel.events.base import ENVELOPE
from kernel.lifecycle import Record
from kernel.log.base import EventLog, StoredRow
from kernel.log.engine.records import checked_envelope, event_of
from kernel.models import Evidence, FindingKind
from kernel.streams.rehydration import apply_batch
from kernel.venues.base import Dedupe
from projections.state import State
from projections.state_fold import account_lag_ns
from replay.audit.accounts import Accounts
from replay.audit.intents import Book, Surroundings, applied, unreported
from replay.audit.rows import Recent
from replay.formatting.problems import ProblemKind, Problems

BOOKS_MAX = 5_000
"""Books kept in memory (at most twice as many)."""
TOPICS_MAX = 50_000
"""Topics of recent events kept in memory (at most twice as many), to check causes without a query."""
REPORTED_WITHIN_NS = 60 * 10**9
"""Time that an active leader has to raise a finding."""
UNKNOWN = "?"
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


@dataclass(frozen=True, slots=True)
class Caused:
    """An event that names a cause."""

    position: int
    topic: str
    cause: int


@dataclass(slots=True)
class PendingFinding:
    """A condition for which a leader has to raise a finding."""

    position: int
    text: str
    since_ns: int | None = None
    """Time of the leader's first complete venue snapshot after the condition arose."""
    reported: bool = False
    """True if the missing finding is already a problem."""


class EventChecks:
    """Checks the events of one log, in order."""

    def __init__(self, problems: Problems, log: EventLog, *, whole: bool) -> None:
        """Initialize the checks. `whole`: from position 1; otherwise the state is not folded."""
        self.counts = dict.fromkeys(COUNTED, 0)
        self._problems = problems
        self._log = log
        self._whole = whole
        self._around = Surroundings(log_id=log.log_id, epoch=0 if whole else None)
        self._created = False
        self._books: Recent[str, Book] = Recent(BOOKS_MAX)
        self._topics: Recent[int, str] = Recent(TOPICS_MAX)
        self._pending_findings: dict[str, dict[FindingKind, PendingFinding]] = {}
        """By intent id."""
        self._state: State | None = State() if whole else None
        self.accounts = Accounts(problems, self._state) if self._state is not None else None

    @property
    def epoch(self) -> int | None:
        """The epoch of the newest leader in the events; None if unknown."""
        return self._around.epoch

    async def page(self, rows: Sequence[StoredRow], sound: Sequence[bool]) -> None:
        """Check the events of a page of rows. The content of rows that are not sound is ignored."""
        found = [self._read(row) if is_sound else damaged(row) for row, is_sound in zip(rows, sound, strict=True)]
        late: list[Caused] = []
        for part in parts(found):
            for event in part:
                await self._check(event, late)
            await self._fold(part)
        await self._check_late(late)

    def finish(self) -> None:
        """Run the checks that need the end of the log."""
        if self._whole and not self._created:
            self._problems.add(ProblemKind.HEAD, 1, "the log has no LogCreated event, which names its owner")

    def _read(self, row: StoredRow) -> BaseEvent:
        try:
            envelope = checked_envelope(row)
            if row.topic in REGISTRY:
                return decode(row.topic, row.schema_version, row.state, envelope)
        except IntegrityError as problem:  # a SchemaError is one
            self._problems.add(ProblemKind.UNREADABLE, row.position, problem.args[0])
            return damaged(row)
        self.counts["foreign_events"] += 1
        return placed(UnknownEvent(), envelope)

    async def _book(self, intent_id: str, event: BaseEvent) -> Book:
        """Return the book of an intent, rebuilt from its stream if it was evicted."""
        book = self._books.get(intent_id)
        if book is None:
            book = Book(Record(intent_id))
            if event.version > 1:
                await self._fold_book(book, event)
        self._books.put(intent_id, book)
        return book

    async def _fold_book(self, book: Book, until: BaseEvent) -> None:
        """Fold the events of a stream before `until` without checking them again."""
        self.counts["recalled_intents"] += 1
        around = Surroundings(log_id=self._around.log_id)
        for row in await self._log.stream_rows(until.stream_id, upto_version=until.version - 1):
            if row.position >= until.position:
                continue
            try:
                known = event_of(row)
            except IntegrityError:
                known = damaged(row)
            applied(book, known, around)

    async def _check(self, event: BaseEvent, late: list[Caused]) -> None:
        topic = event.topic
        self._topics.put(event.position, topic)
        cause = event.causation_position
        if cause is not None:
            self._check_cause(Caused(event.position, topic, cause), self._topics.get(cause), late)
        if event.stream_id.startswith(events.INTENT_STREAM_PREFIX):
            intent_id = event.stream_id.removeprefix(events.INTENT_STREAM_PREFIX)
            self._check_intent(await self._book(intent_id, event), event)
        elif event.stream_id == events.CONTROL_STREAM:
            self._check_control(event)
        elif isinstance(event, events.VenueSnapshotTaken) and event.complete:
            self._leader_queried(event.recorded_at_ns)

    def _check_intent(self, book: Book, event: BaseEvent) -> None:
        book.is_damaged = book.is_damaged or isinstance(event, UnreadableEvent)
        sums, orders, intent = book.sums, book.record.orders, book.record.intent
        for kind, text in applied(book, event, self._around):
            self._problems.add(kind, event.position, f"{event.topic}: {text}")
        self.counts["fills"] += isinstance(event, events.OrderFilled)
        self.counts["sends"] += isinstance(event, events.AttemptStarted)
        if book.sums is not sums and self.accounts is not None:
            self.accounts.moved(sums, book.sums, event.position)
        reported = isinstance(event, events.FindingRaised)
        if reported or book.record.orders is not orders or book.record.intent is not intent:
            self._note_pending_finding(book, event)

    def _check_control(self, event: BaseEvent) -> None:
        around = self._around
        match event:
            case events.LogCreated():
                self._check_created(event)
            case events.LeaderElected():
                if around.epoch is not None and event.epoch != around.epoch + 1:
                    self._wrong(event, f"epoch {event.epoch} follows epoch {around.epoch}; epochs increase by 1")
                around.epoch = event.epoch
            case events.KernelStarted() | events.CapabilitiesChanged():
                dedupe = event.capabilities.get("dedupe")
                around.dedupe = Dedupe(dedupe) if dedupe in {str(item) for item in Dedupe} else None
                around.lag_ns = account_lag_ns(event.capabilities)
                around.stops_stay_listed = bool(event.capabilities.get("trigger_parent_stays_listed"))
                lags = event.capabilities.get("read_lag") or {}
                orders_lag_ns = max(lags.get("order_ns", 0), lags.get("open_orders_ns", 0))
                around.orders_lag_ns = orders_lag_ns + 2 * event.capabilities.get("clock_skew_ns", 0)
            case UnreadableEvent():
                around.epoch = None

    def _check_created(self, event: events.LogCreated) -> None:
        if self._created:
            self._wrong(event, "a second LogCreated event")
        self._created = True
        if (event.log_id, event.exchange_id) != (self._log.log_id, self._log.exchange_id):
            text = (
                f"the first event names log {event.log_id} of {event.exchange_id}, the head row names log"
                f" {self._log.log_id} of {self._log.exchange_id}"
            )
            self._problems.add(ProblemKind.HEAD, event.position, text)

    def _wrong(self, event: BaseEvent, text: str) -> None:
        self._problems.add(ProblemKind.LIFECYCLE, event.position, f"{event.topic}: {text}")

    def _check_cause(self, caused: Caused, topic: str | None, late: list[Caused]) -> None:
        """Check an event's cause, whose topic is None if it is not in memory."""
        if not 0 < caused.cause < caused.position:
            text = f"{caused.topic}: its cause, position {caused.cause}, is not an earlier position"
            self._problems.add(ProblemKind.CAUSE, caused.position, text)
        elif caused.topic in CAUSES and topic is None:
            late.append(caused)
        elif topic is not None:
            self._check_kind(caused, topic)

    def _check_kind(self, caused: Caused, topic: str) -> None:
        fitting = CAUSES.get(caused.topic)
        if fitting is not None and topic not in fitting and topic in REGISTRY:
            text = f"{caused.topic}: its cause, {topic} at position {caused.cause}, cannot cause a {caused.topic}"
            self._problems.add(ProblemKind.CAUSE, caused.position, text)

    async def _check_late(self, late: Iterable[Caused]) -> None:
        """Check causes whose topic has to be read from the log."""
        for caused in late:
            async for rows in self._log.read(caused.cause - 1, caused.cause):
                self._check_kind(caused, rows[0].topic)

    def _note_pending_finding(self, book: Book, event: BaseEvent) -> None:
        """Update the findings that an intent still needs after an event."""
        name = book.record.intent_id
        missing = {} if book.is_damaged else unreported(book)
        known = self._pending_findings.pop(name, {})
        if missing:
            self._pending_findings[name] = {
                kind: known.get(kind) or PendingFinding(event.position, text) for kind, text in missing.items()
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

    async def _fold(self, part: Sequence[BaseEvent]) -> None:
        if self._state is None or self.accounts is None:
            return
        try:
            await apply_batch(self._log, self._state, part)
        except Exception as problem:
            at = self._state.position + (1 if isinstance(problem, IntegrityError) else 0)
            if not isinstance(problem, IntegrityError):
                text = f"the log cannot be folded from here on: {type(problem).__name__}: {problem}"
                self._problems.add(ProblemKind.UNREADABLE, at, text)
            self._state = self.accounts = None
            return
        self.accounts.compare()
        if isinstance(part[-1], events.BalancesObserved):
            self.accounts.account_observed(part[-1].position)


def parts(found: Sequence[BaseEvent]) -> Iterator[Sequence[BaseEvent]]:
    """Split events after each `BalancesObserved`, where the state tells whether the balances are explained."""
    begin = 0
    for index, event in enumerate(found, start=1):
        if isinstance(event, events.BalancesObserved):
            yield found[begin:index]
            begin = index
    if begin < len(found):
        yield found[begin:]


def damaged(row: StoredRow) -> BaseEvent:
    """Return a placeholder for a row that is changed or cannot be decoded."""
    return placed(UnreadableEvent(), Envelope(row.position, row.stream_id, row.version, row.recorded_at_ns, NO_META))


def placed(event: BaseEvent, envelope: Envelope) -> BaseEvent:
    event.__dict__[ENVELOPE] = envelope
    return event
