"""The checks of a log whose beginning is archived: what it keeps of that for its writers, against the rows in the files.

Fed by `verifying` with the rows, in order. Promises bounded memory: the versions of archived streams are in a temporary
file.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import replace

from kernel.log.base import Archived, StoredRow, StreamHead
from kernel.log.recorder import named_in
from replay.problems import ProblemKind, Problems

CREATE = "CREATE TABLE stream (stream_id TEXT PRIMARY KEY, version INTEGER NOT NULL) WITHOUT ROWID"
LEARN = "INSERT INTO stream VALUES (?, ?) ON CONFLICT DO UPDATE SET version = max(version, excluded.version)"
BETWEEN = "SELECT * FROM stream WHERE stream_id > ?1 AND (?2 IS NULL OR stream_id <= ?2) ORDER BY stream_id"


class ArchivedStreams:
    """To which version each stream goes in the archives."""

    def __init__(self) -> None:
        self.position = 0
        """Up to where rows were learned."""
        self._versions = sqlite3.connect("")  # a file of its own, which goes with the connection
        self._versions.execute(CREATE)

    def close(self) -> None:
        """Let go of the file."""
        self._versions.close()

    def learn(self, rows: Sequence[StoredRow], *, upto: int) -> None:
        """The next rows, of which those up to a position are archived."""
        if rows[0].position > upto:
            return
        archived = [(row.stream_id, row.version) for row in rows if self.position < row.position <= upto]
        self._versions.executemany(LEARN, archived)
        self.position = max(self.position, min(rows[-1].position, upto))

    def version(self, stream_id: str) -> int | None:
        """The newest archived one of a stream; None without."""
        found = self._versions.execute("SELECT version FROM stream WHERE stream_id = ?", (stream_id,)).fetchone()
        return None if found is None else int(found[0])

    def joined(self, found: Sequence[StreamHead], *, after: str) -> Iterator[StreamHead]:
        """The streams after a name up to the last of those found in the tables; after all of them where none was found."""
        in_tables = {stream.stream_id for stream in found}
        for stream in found:
            known = stream.version if stream.version is not None else self.version(stream.stream_id)
            yield replace(stream, version=known)
        for stream_id, version in self._versions.execute(BETWEEN, (after, found[-1].stream_id if found else None)):
            if stream_id not in in_tables:
                yield StreamHead(stream_id, version, None)


def check_kept(problems: Problems, rows: Sequence[StoredRow], archived: Archived) -> None:
    """Command ids and ids of orders that are kept of archived rows, against the rows."""
    here = {row.position: row for row in rows if row.position <= archived.last_position}
    begun = {position: row.command_id for position, row in here.items() if row.command_index == 0}
    for position in sorted(begun.keys() | archived.commands.keys()):
        if begun.get(position) != archived.commands.get(position):
            text = "the table of archived commands says something else of the one that begins here: writers go by it"
            problems.add(ProblemKind.COMMAND, position, text)
    for position, field, value, stream_id in archived.names:
        row = here.get(position)
        if row is None or row.stream_id != stream_id or named_in(field, row.topic, row.state) != value:
            text = f"the table of archived ids has {field} {value} for {stream_id} here, which the event does not say"
            problems.add(ProblemKind.STREAM, position, text)
