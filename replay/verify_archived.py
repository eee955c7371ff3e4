"""The checks of a log whose beginning is archived: what it keeps of that for its writers, against the rows in the files.

Fed by `verifying` with the rows, in order. Writers go by what is kept: by a command's id they know that it was recorded
before, by an order's id whose a late fill is. So a row of it that was taken away is as bad as one that was put in. Promises
bounded memory: versions of archived streams, and whose the ids of orders are, are in a temporary file.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from kernel.log.base import Archived, StoredRow, StreamHead
from kernel.log.recorder import NAMING_TOPICS, named_in
from replay.problems import ProblemKind, Problems

CREATE = (
    "CREATE TABLE stream (stream_id TEXT PRIMARY KEY, version INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE name (field TEXT, value TEXT, stream_id TEXT NOT NULL, PRIMARY KEY (field, value)) WITHOUT ROWID",
)
LEARN = "INSERT INTO stream VALUES (?, ?) ON CONFLICT DO UPDATE SET version = max(version, excluded.version)"
LEARN_NAME = "INSERT INTO name VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET stream_id = excluded.stream_id"
NAMED = "SELECT stream_id FROM name WHERE field = ? AND value = ?"
BETWEEN = "SELECT * FROM stream WHERE stream_id > ?1 AND (?2 IS NULL OR stream_id <= ?2) ORDER BY stream_id"

Name = tuple[str, str]
"""A field that an id of an order stands in, and the id."""


class ArchivedRows:
    """What the rows in the archives say, as far as they were gone through."""

    def __init__(self, problems: Problems) -> None:
        self.position = 0
        """Up to where rows were gone through as archived ones."""
        self._problems = problems
        self._known = sqlite3.connect("")  # a file of its own, which goes with the connection
        for statement in CREATE:
            self._known.execute(statement)

    def close(self) -> None:
        """Let go of the file."""
        self._known.close()

    def page(self, rows: Sequence[StoredRow], archived: Archived) -> None:
        """The next rows, of which those up to a position are archived, and what is kept of them."""
        upto = archived.last_position
        self._check_commands(rows, archived)
        self._check_names(rows, archived)
        there = [(row.stream_id, row.version) for row in rows if self.position < row.position <= upto]
        self._known.executemany(LEARN, there)
        self.position = max(self.position, min(rows[-1].position, upto))

    def version(self, stream_id: str) -> int | None:
        """The newest archived one of a stream; None without."""
        found = self._known.execute("SELECT version FROM stream WHERE stream_id = ?", (stream_id,)).fetchone()
        return None if found is None else int(found[0])

    def joined(self, found: Sequence[StreamHead], *, after: str) -> Iterator[StreamHead]:
        """The streams after a name up to the last of those found in the tables; after all of them where none was found."""
        in_tables = {stream.stream_id for stream in found}
        for stream in found:
            known = stream.version if stream.version is not None else self.version(stream.stream_id)
            yield replace(stream, version=known)
        for stream_id, version in self._known.execute(BETWEEN, (after, found[-1].stream_id if found else None)):
            if stream_id not in in_tables:
                yield StreamHead(stream_id, version, None)

    def nowhere(self, archived: Archived) -> None:
        """What is kept of positions that the log does not have: nobody put it there but to mislead a writer."""
        text = "the tables of what is archived have {} at position {}, where the log has nothing"
        for position, command_id in archived.commands:
            self._problems.add(ProblemKind.COMMAND, None, text.format(f"the command {command_id.hex()}", position))
        for position, field, value, stream_id in archived.names:
            what = text.format(f"{field} {value} for {stream_id}", position)
            self._problems.add(ProblemKind.STREAM, None, what)

    def _check_commands(self, rows: Sequence[StoredRow], archived: Archived) -> None:
        """What is kept is of a row, archived or about to be, and nothing is lacking of those that are."""
        begun = {(row.position, row.command_id): row for row in rows if row.command_index == 0}
        needed = {key for key, row in begun.items() if row.position <= archived.last_position}
        kept = set(archived.commands)
        for position in sorted({position for position, _ in (kept - begun.keys()) | (needed - kept)}):
            text = "the table of archived commands says something else of the one that begins here: writers go by it"
            self._problems.add(ProblemKind.COMMAND, position, text)

    def _check_names(self, rows: Sequence[StoredRow], archived: Archived) -> None:
        """Whose an id was at each row is what the newest kept name up to there says: that of the row, if it has the id."""
        kept: dict[int, list[tuple[str, str, str]]] = {}
        for position, *name in archived.names:
            kept.setdefault(position, []).append((name[0], name[1], name[2]))
        found: dict[Name, str | None] = {}
        for row in rows:
            told = [*names_of(row)] if row.position <= archived.last_position or row.position in kept else []
            for field, value, stream_id in kept.pop(row.position, ()):
                if stream_id == row.stream_id and (field, value) in told:
                    found[field, value] = stream_id
                else:
                    self._misnamed(row.position, field, value, stream_id)
            if row.position > archived.last_position:
                continue
            for field, value in told:
                if self._owner(found, (field, value)) != row.stream_id:
                    text = f"the table of archived ids lacks {field} {value} of {row.stream_id}: a late fill goes by it"
                    self._problems.add(ProblemKind.STREAM, row.position, text)
                    found[field, value] = row.stream_id  # it is told once
        for position, names in kept.items():
            for field, value, stream_id in names:
                self._misnamed(position, field, value, stream_id)
        self._known.executemany(LEARN_NAME, [(*name, owner) for name, owner in found.items() if owner is not None])

    def _owner(self, found: dict[Name, str | None], name: Name) -> str | None:
        """Whose an id is by the names kept so far."""
        if name not in found:
            known = self._known.execute(NAMED, name).fetchone()
            found[name] = None if known is None else str(known[0])
        return found[name]

    def _misnamed(self, position: int, field: str, value: str, stream_id: str) -> None:
        text = f"the table of archived ids has {field} {value} for {stream_id} here, which the event does not say"
        self._problems.add(ProblemKind.STREAM, position, text)


def names_of(row: StoredRow) -> Iterable[Name]:
    """The ids of orders that an event names."""
    for field in NAMING_TOPICS:
        if (value := named_in(field, row.topic, row.state)) is not None:
            yield field, value
