"""Decides the commands of one transaction against the locked head, and builds their rows. Pure.

Called by the recorders inside the transaction. Positions continue from the head without gaps. A command that conflicts,
is fenced or is a duplicate is answered alone; later commands see only the accepted ones before them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from kernel.errors import ConflictError, FencedError, IntegrityError, KernelError
from kernel.events import BaseEvent, Envelope, LeaderElected, LogCreated
from kernel.events.base import enveloped
from kernel.log import hashing
from kernel.log.base import Appended, Head, StoredRow
from kernel.log.engine.records import MUST_BE_ABSENT, Command, PreparedWrite, Row, event_of

Outcome = Appended | KernelError
"""A command's positions, or the reason for its refusal."""


class Batch(msgspec.Struct):
    """The decided commands of one transaction."""

    previous: Head
    """The head that was locked."""
    head: Head
    """The head after the commit."""
    outcomes: list[Outcome] = []
    """One per command, in order."""
    rows: list[Row] = []
    """The rows to insert, by position."""
    versions: dict[str, int] = {}
    """The new versions of the streams written to."""
    sources: list[BaseEvent | None] = []
    """Each row's event, for readers in this process."""
    _decoded: list[BaseEvent] | None = None

    def events(self) -> list[BaseEvent] | None:
        """Return the rows as events with envelopes, built once for all readers; None if only their bytes are known."""
        if self._decoded is None:
            decoded = []
            for row, event in zip(self.rows, self.sources, strict=True):
                if event is None:
                    return None
                decoded.append(enveloped(event, Envelope(row[0], row[1], row[2], row[5], row[8])))
            self._decoded = decoded
        return self._decoded

    def chain_at(self, position: int) -> bytes:
        """Return the chain hash at a position of this batch or at the one before it."""
        if position == self.previous.position:
            return self.previous.chain_hash
        return self.rows[position - self.previous.position - 1][11]


def decide(
    commands: list[Command],
    *,
    head: Head,
    known: Mapping[bytes, tuple[int, int]],
    versions: Mapping[str, int],
    now_ns: int,
) -> Batch:
    """Decide the commands of a transaction in order, on the locked head.

    `known` has the first and last position of the command ids that are in the log, `versions` the version of every
    existing stream that the commands write to. The rows get the head's time if that is later than `now_ns`.
    """
    assigner = _Assigner(head, known, versions, max(head.recorded_at_ns, now_ns))
    batch = assigner.batch
    for command in commands:
        batch.outcomes.append(assigner.decide(command))
    batch.head = assigner.head()
    return batch


def restored_batches(
    pages: Iterable[Sequence[StoredRow]], *, log_id: str, exchange_id: str, head: Head
) -> Iterator[Batch]:
    """Yield a batch of unchanged rows for each page, starting from `head`, after checking their hashes.

    Raises `IntegrityError` if a row does not follow from the one before, or the log is not the one named.
    """
    for rows in filter(None, pages):
        chain = hashing.verify_rows(rows, after=head.position, chain=head.chain_hash)
        if head.position == 0:
            _check_created(rows[0], log_id, exchange_id)
        elected = [event_of(row) for row in rows if row.topic == LeaderElected.topic]
        epoch = max((event.epoch for event in elected if isinstance(event, LeaderElected)), default=head.epoch)
        batch = Batch(previous=head, head=Head(rows[-1].position, chain, epoch, rows[-1].recorded_at_ns))
        batch.rows = [*rows]
        batch.versions = {row.stream_id: row.version for row in rows}
        yield batch
        head = batch.head


def _check_created(row: StoredRow, log_id: str, exchange_id: str) -> None:
    created = event_of(row) if row.topic == LogCreated.topic else None
    if not isinstance(created, LogCreated):
        raise IntegrityError(f"a log begins with {LogCreated.topic}, not with {row.topic}", position=row.position)
    if (created.log_id, created.exchange_id) != (log_id, exchange_id):
        found = f"log {created.log_id} of {created.exchange_id}"
        raise IntegrityError(f"this is {found}, not log {log_id} of {exchange_id}", position=row.position)


class _Assigner:
    """Assigns positions, versions and hashes."""

    def __init__(
        self, head: Head, known: Mapping[bytes, tuple[int, int]], versions: Mapping[str, int], recorded_at_ns: int
    ) -> None:
        self.batch = Batch(previous=head, head=head)
        self._known = known
        self._added: dict[bytes, tuple[int, int]] = {}
        self._stored_versions = versions
        self._recorded_at_ns = recorded_at_ns
        self._end = head.position, head.chain_hash
        self._epoch = head.epoch

    def head(self) -> Head:
        if not self.batch.rows:
            return self.batch.previous
        return Head(*self._end, self._epoch, self._recorded_at_ns)

    def decide(self, command: Command) -> Outcome:
        positions = self._known.get(command.command_id) or self._added.get(command.command_id)
        if positions is not None:
            return Appended(positions[0], positions[1], duplicate=True)
        if command.epoch is not None and command.epoch != self._epoch + command.elects:
            return FencedError(epoch=command.epoch, head_epoch=self._epoch)
        bases = self._bases(command.writes)
        return bases if isinstance(bases, ConflictError) else self._record(command, bases)

    def _bases(self, writes: Sequence[PreparedWrite]) -> list[int] | ConflictError:
        """Return the version before each write, after the earlier ones; an error for the first one not expected."""
        versions, stored_versions = self.batch.versions, self._stored_versions
        ahead: dict[str, int] = {}
        bases = []
        for write in writes:
            stream_id, expected = write.stream_id, write.expected_version
            stored = ahead.get(stream_id, versions.get(stream_id, stored_versions.get(stream_id)))
            absent = MUST_BE_ABSENT if expected == MUST_BE_ABSENT else 0
            base = absent if stored is None else stored
            if expected not in (None, base):
                actual = "does not exist" if stored is None else f"is at version {stored}"
                return ConflictError(f"stream {stream_id} {actual}, not at version {expected}: read it again")
            bases.append(base)
            if write.events:
                ahead[stream_id] = base + len(write.events)
        return bases

    def _record(self, command: Command, bases: list[int]) -> Appended:
        batch, at_ns, command_id, meta = self.batch, self._recorded_at_ns, command.command_id, command.meta
        position, chain = self._end
        first = position + 1
        for write, version in zip(command.writes, bases, strict=True):
            stream_id = write.stream_id
            for each in write.events:
                version += 1
                position += 1
                placed = (position, stream_id, version, each.topic, each.schema_version, at_ns)
                columns = (*placed, command_id, position - first, meta, each.state)
                leaf = hashing.leaf_hash(columns)
                chain = hashing.chain_hash(chain, position, leaf)
                batch.rows.append((*columns, leaf, chain))
                batch.sources.append(each.event)
            if write.events:
                batch.versions[stream_id] = version
        if command.elects and command.epoch is not None:
            self._epoch = command.epoch
        self._end = position, chain
        self._added[command_id] = (first, position)
        return Appended(first, position)
