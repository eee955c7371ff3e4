"""The checks of a log's events: each is read, held against the events before it, and against the state that is folded.

Fed by `verifying` with pages of rows whose hashes were checked. Events that the code does not know (written by others, or
through the event-sourcing library) pass, and are counted. Promises bounded memory besides the state: books of intents that
were not met for long are let go, and are folded again from their stream when they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from kernel import events
from kernel.errors import IntegrityError
from kernel.events import REGISTRY, BaseEvent, Envelope
from kernel.events.base import ENVELOPE
from kernel.lifecycle import Record
from kernel.log.base import EventLog, StoredRow
from kernel.log.engine.records import envelope_of, event_of
from kernel.models import Evidence, FindingKind
from kernel.streams.rehydration import apply_batch
from kernel.venues.base import Dedupe
from projections.state import State
from replay.audit.accounts import Accounts
from replay.audit.intents import Book, Surroundings, applied, unreported
from replay.audit.rows import Recent
from replay.formatting.problems import ProblemKind, Problems

BOOKS_MAX = 5_000
"""How many intents' books are kept at least; twice as many at most."""
TOPICS_MAX = 50_000
"""Of how many of the newest events the topics are remembered at least, to know a cause without asking the database."""
REPORTED_WITHIN_NS = 60 * 10**9
"""How long a leader may act on without telling what it should: it does when it next comes to the intent."""
UNKNOWN = "?"
"""Instead of the topic of an event whose content is unknown."""

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
"""What may be the cause of which event. Of those that are not here anything earlier may be."""


class UnknownEvent(BaseEvent):
    """Stands for an event that this code does not know. It is never recorded, and changes nothing."""

    topic = UNKNOWN


class UnreadableEvent(BaseEvent):
    """Stands for an event whose content can't be relied on. It is never recorded, and changes nothing."""

    topic = UNKNOWN


@dataclass(frozen=True, slots=True)
class Caused:
    """An event that names a cause."""

    position: int
    topic: str
    cause: int


@dataclass(slots=True)
class PendingFinding:
    """Something that should be told by a leader."""

    position: int
    """Where it came to be."""
    text: str
    since_ns: int | None = None
    """The first look of a leader at its account after that."""
    reported: bool = False
    """Whether that it was not told is a problem already."""


class EventChecks:
    """Goes through the events of one log, in order."""

    def __init__(self, problems: Problems, log: EventLog, *, whole: bool) -> None:
        """`whole`: from the first event on; otherwise what was before is not known, and nothing is folded as a whole."""
        self.counts = dict.fromkeys(COUNTED, 0)
        self._problems = problems
        self._log = log
        self._whole = whole
        self._around = Surroundings(log_id=log.log_id, epoch=0 if whole else None)
        self._created = False
        self._books: Recent[str, Book] = Recent(BOOKS_MAX)
        self._topics: Recent[int, str] = Recent(TOPICS_MAX)
        self._pending_findings: dict[str, dict[FindingKind, PendingFinding]] = {}
        """By intent: what was not told yet."""
        self._state: State | None = State() if whole else None
        self.accounts = Accounts(problems, self._state) if self._state is not None else None

    @property
    def epoch(self) -> int | None:
        """The newest leader's, by the events; None where it is not known."""
        return self._around.epoch

    async def page(self, rows: Sequence[StoredRow], sound: Sequence[bool]) -> None:
        """Check the events of rows; of those that are not sound the content is passed over."""
        found = [self._read(row) if is_sound else damaged(row) for row, is_sound in zip(rows, sound, strict=True)]
        late: list[Caused] = []
        for part in parts(found):
            for event in part:
                await self._check(event, late)
            await self._fold(part)
        await self._check_late(late)

    def finish(self) -> None:
        """There are no more events."""
        if self._whole and not self._created:
            self._problems.add(ProblemKind.HEAD, 1, "no event says whose log it is: there is no LogCreated")

    # ------------------------------------------------------------------------------------------------------------- reading
    def _read(self, row: StoredRow) -> BaseEvent:
        try:
            if row.topic in REGISTRY:
                return event_of(row)
            envelope = envelope_of(row)
        except IntegrityError as problem:  # a SchemaError is one
            self._problems.add(ProblemKind.UNREADABLE, row.position, problem.args[0])
            return damaged(row)
        self.counts["foreign_events"] += 1
        return placed(UnknownEvent(), envelope)

    async def _book(self, intent_id: str, event: BaseEvent) -> Book:
        """The book of an intent that an event is about; one that was let go is made again from the stream."""
        book = self._books.get(intent_id)
        if book is None:
            book = Book(Record(intent_id))
            if event.version > 1:
                await self._fold_book(book, event)
        self._books.put(intent_id, book)
        return book

    async def _fold_book(self, book: Book, until: BaseEvent) -> None:
        """Fold what a stream had before an event, without judging it again."""
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

    # ------------------------------------------------------------------------------------------------------------ judging
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
                    self._wrong(event, f"epoch {event.epoch} is elected after {around.epoch}")
                around.epoch = event.epoch
            case events.KernelStarted() | events.CapabilitiesChanged():
                dedupe = event.capabilities.get("dedupe")
                around.dedupe = Dedupe(dedupe) if dedupe in {str(item) for item in Dedupe} else None
            case UnreadableEvent():
                around.epoch = None

    def _check_created(self, event: events.LogCreated) -> None:
        if self._created:
            self._wrong(event, "the log is created again")
        self._created = True
        if (event.log_id, event.exchange_id) != (self._log.log_id, self._log.exchange_id):
            text = (
                f"by its first event this is log {event.log_id} of {event.exchange_id}, by its head row"
                f" {self._log.log_id} of {self._log.exchange_id}"
            )
            self._problems.add(ProblemKind.HEAD, event.position, text)

    def _wrong(self, event: BaseEvent, text: str) -> None:
        self._problems.add(ProblemKind.LIFECYCLE, event.position, f"{event.topic}: {text}")

    # -------------------------------------------------------------------------------------------------------------- causes
    def _check_cause(self, caused: Caused, topic: str | None, late: list[Caused]) -> None:
        """Whether a cause is one that was there before; `topic`: its own, where it is known."""
        if not 0 < caused.cause < caused.position:
            text = f"{caused.topic}: its cause is position {caused.cause}, which does not come before it"
            self._problems.add(ProblemKind.CAUSE, caused.position, text)
        elif caused.topic in CAUSES and topic is None:
            late.append(caused)
        elif topic is not None:
            self._check_kind(caused, topic)

    def _check_kind(self, caused: Caused, topic: str) -> None:
        fitting = CAUSES.get(caused.topic)
        if fitting is not None and topic not in fitting and topic in REGISTRY:
            text = f"{caused.topic}: its cause at {caused.cause} is {topic}, which causes nothing of the kind"
            self._problems.add(ProblemKind.CAUSE, caused.position, text)

    async def _check_late(self, late: Iterable[Caused]) -> None:
        """Causes so long ago that the log itself has to be asked."""
        for caused in late:
            async for rows in self._log.read(caused.cause - 1, caused.cause):
                self._check_kind(caused, rows[0].topic)

    # ------------------------------------------------------------------------------------------------------------ findings
    def _note_pending_finding(self, book: Book, event: BaseEvent) -> None:
        """What is to be told of an intent, after an event."""
        name = book.record.intent_id
        missing = {} if book.is_damaged else unreported(book)
        known = self._pending_findings.pop(name, {})
        if missing:
            self._pending_findings[name] = {
                kind: known.get(kind) or PendingFinding(event.position, text) for kind, text in missing.items()
            }

    def _leader_queried(self, now_ns: int) -> None:
        """A leader acts; what it has not told for long, while it did, it does not tell."""
        for name, owed in [*self._pending_findings.items()]:
            for kind, item in [*owed.items()]:
                if item.since_ns is None:
                    item.since_ns = now_ns
                elif now_ns - item.since_ns > REPORTED_WITHIN_NS and not item.reported:
                    item.reported = True
                    text = f"{kind} of {name} was never told: {item.text}"
                    self._problems.add(ProblemKind.FINDING, item.position, text)

    # ------------------------------------------------------------------------------------------------------------- folding
    async def _fold(self, part: Sequence[BaseEvent]) -> None:
        """Fold what was checked, and compare the books."""
        if self._state is None or self.accounts is None:
            return
        try:
            await apply_batch(self._log, self._state, part)
        except Exception as problem:
            at = self._state.position + (1 if isinstance(problem, IntegrityError) else 0)
            if not isinstance(problem, IntegrityError):
                text = f"the log can't be folded from here on: {type(problem).__name__}: {problem}"
                self._problems.add(ProblemKind.UNREADABLE, at, text)
            self._state = self.accounts = None
            return
        self.accounts.compare()
        if isinstance(part[-1], events.BalancesObserved):
            self.accounts.account_observed(part[-1].position)


def parts(found: Sequence[BaseEvent]) -> Iterator[Sequence[BaseEvent]]:
    """Events in parts, each up to a look at the account: right after it the state says whether that is explained."""
    begin = 0
    for index, event in enumerate(found, start=1):
        if isinstance(event, events.BalancesObserved):
            yield found[begin:index]
            begin = index
    if begin < len(found):
        yield found[begin:]


def damaged(row: StoredRow) -> BaseEvent:
    """What stands for a row whose columns are not what was recorded, or that can't be read."""
    return placed(
        UnreadableEvent(), Envelope(row.position, row.stream_id, row.version, row.recorded_at_ns, "", Evidence.COMMAND)
    )


def placed(event: BaseEvent, envelope: Envelope) -> BaseEvent:
    """An event at its place in the log."""
    event.__dict__[ENVELOPE] = envelope
    return event
