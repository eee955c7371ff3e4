"""Cutting the beginning off a log that is archived, and putting it back: what both databases do alike.

Called by `replay.archiving`. A log of layout 2 has a row for each segment that was cut (`log_segment`), the command ids
that went with it (`log_cut_command`), so that a command that is repeated after years is still known, and the ids of orders
(`log_cut_name`), so that a late fill finds its own. The versions of streams stay in `log_stream`. Every step is a short
transaction that leaves a log that reads the same, so that writers go on between them, and a cut that was interrupted is
finished by doing it again: first the ids are noted, then the segment is declared, from which on its rows count as archived,
then they are deleted. The triggers let rows go that a segment covers, and no others; a segment must follow the one before,
end at the hash that its last row has, and leave an event. Putting back is the same in the other order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple

from kernel.errors import ConflictError
from kernel.log.base import StoredRow
from kernel.log.recorder import TableRecorder
from kernel.log.records import columns_of
from kernel.log.segments import Segment

ROWS_PER_STEP = 5_000
"""How many rows one transaction deletes or puts back."""


def cut(
    recorder: TableRecorder,
    segment: Segment,
    commands: Iterable[Sequence[tuple[bytes, int, int]]],
    names: Iterable[Sequence[dict[str, object]]],
) -> Iterator[int]:
    """Cut a segment's rows off, whose file is written and checked; yields how many are gone, step by step.

    `commands` are its command ids with their first and last positions, `names` the ids of orders that its events name (as
    `CutStatements.add_name` wants them). Does nothing twice.
    """
    known = recorder.segments()
    if segment not in known:
        for some in commands:
            recorder.write([(recorder.cut.add_command, list(some))])
        for named in names:
            recorder.write([(recorder.cut.add_name, list(named))])
        guard = [(statement, None) for statement in recorder.cut.guard]
        recorder.write([(recorder.cut.add_segment, [astuple(segment)]), *guard])
    yield from clear(recorder, segment)


def clear(recorder: TableRecorder, segment: Segment) -> Iterator[int]:
    """Delete what is there of a segment's rows."""
    for begin in range(segment.first_position, segment.last_position + 1, ROWS_PER_STEP):
        end = min(begin + ROWS_PER_STEP - 1, segment.last_position)
        recorder.write([(recorder.cut.delete_rows, [(begin, end)])])
        yield end - segment.first_position + 1


def put_back(recorder: TableRecorder, segment: Segment, pages: Iterable[Sequence[StoredRow]]) -> Iterator[int]:
    """Put a segment's rows back, which come checked, and forget the segment; yields how many are there, step by step."""
    known = recorder.segments()
    if not known or known[-1] != segment:
        raise ConflictError("what was cut off last is put back first")
    for rows in pages:
        recorder.write([(recorder.cut.put_row, [columns_of(row) for row in rows])])
        yield rows[-1].position - segment.first_position + 1
    last = [] if known[:-1] else [(recorder.cut.unguard, None)]
    where = (segment.first_position, segment.last_position)
    forgotten = (recorder.cut.remove_commands, recorder.cut.remove_names, recorder.cut.remove_segment)
    recorder.write([*((statement, [where]) for statement in forgotten), *last])
