"""Verify that a log is unchanged and that its events are consistent.

Called by library users, `orderctl verify` and the demo. It only reads, page by page, up to the head at its start, and can
run beside a kernel. It continues after a problem where possible. Memory is bounded except for the folded state.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from kernel.errors import IntegrityError
from kernel.log import hashing
from kernel.log.base import EventLog, Head, StoredRow, StreamHead
from replay.audit.events import EventChecks
from replay.audit.rows import RowChecks
from replay.formatting.problems import ProblemKind, Problems, VerifyReport
from replay.formatting.progress_bar import Progress
from replay.log_access.log_reader import gc_relaxed, open_for_reading
from replay.transparency.signed_note import VerifierKey, origin_of
from replay.transparency.tree_head_check import TreeHeadChecks, TreeHeadInputs, tree_head_inputs
from replay.transparency.tree_head_store import StoredTreeHead

LAST_POSITION = 2**63 - 1


async def verify(
    log: EventLog | str,
    *,
    notes: str | Path | None = None,
    keys: Iterable[VerifierKey] = (),
    start: str | Path | None = None,
    content: bool = True,
    progress: Progress | None = None,
    exchange_id: str | None = None,
) -> VerifyReport:
    """Verify a log from its first event to its current head.

    Args:
        log: An open log or its URL.
        notes: A signed tree head file or a directory of them.
        keys: Trusted verifier keys; only tree heads signed by one of them count.
        start: The file of a tree head verified before. Earlier events are checked against it only by their hashes.
        content: If False, check positions and hashes only.
        progress: Called with the position reached and the last position.
        exchange_id: Expected owner of the log.

    Returns:
        The problems found. A problem of the log raises nothing.

    Raises:
        ValidationError: Tree heads were given without a key.
        NotFoundError: The log or the tree heads do not exist.
    """
    async with open_for_reading(log, exchange_id, check_end=False) as found:
        inputs = None
        if notes is not None or start is not None:
            inputs = tree_head_inputs(origin_of(found), notes, keys, start)
        with gc_relaxed():
            return await Verification(found, inputs, content=content, progress=progress).run()


class Verification:
    """One verification of one log."""

    def __init__(
        self, log: EventLog, inputs: TreeHeadInputs | None, *, content: bool, progress: Progress | None
    ) -> None:
        self._log = log
        self._begin = begin = inputs.begin if inputs is not None else None
        self._progress = progress or (lambda done, total: None)
        self._problems = Problems()
        self._tree_heads = TreeHeadChecks(self._problems, inputs) if inputs is not None else None
        self._after = begin.size if begin is not None else 0
        chain = begin.chain_hash if begin is not None else hashing.GENESIS
        self._rows = RowChecks(self._problems, after=self._after, chain=chain, hashes_only=not content)
        self._events = EventChecks(self._problems, log, after=self._after) if content else None
        self._last: StoredRow | None = None

    async def run(self) -> VerifyReport:
        head = await self._log.head()
        try:
            await self._go_through(head)
            await self._check_beyond(head)
            if self._events is not None:
                await self._check_streams()
        except IntegrityError as problem:  # the database is damaged and cannot be read further
            position = problem.position if problem.position is not None else self._rows.position + 1
            self._problems.add(ProblemKind.DAMAGED, position, str(problem.args[0]))
        if self._events is not None:
            self._events.finish()
        if self._tree_heads is not None:
            self._tree_heads.finish(head.position)
        return self._report(head)

    async def _go_through(self, head: Head) -> None:
        if self._begin is not None:
            await self._skim(self._begin)
        async for rows in self._log.read(self._after, head.position):
            sound = self._rows.page(rows)
            if self._events is not None:
                await self._look_up(rows)
            if self._tree_heads is not None:
                self._tree_heads.leaves(rows)
            if self._events is not None:
                await self._events.page(rows, sound)
            self._last = rows[-1]
            self._progress(rows[-1].position, head.position)
        self._check_end(head)

    async def _skim(self, begin: StoredTreeHead) -> None:
        """Add the stored leaves before the starting tree head to the tree."""
        assert self._tree_heads is not None, "the starting tree head is one of the given tree heads"
        async for rows in self._log.read(0, begin.size):
            self._tree_heads.leaves(rows)
            self._last = rows[-1]
            self._progress(rows[-1].position, begin.size)

    async def _look_up(self, rows: list[StoredRow]) -> None:
        """Run the row checks that need queries."""
        for row in self._rows.unchecked:
            await self._check_before(row)
        self._rows.unchecked.clear()
        for position, first in await self._log.repeated_commands(rows[0].position - 1, rows[-1].position):
            text = f"its command id was already used at position {first}"
            self._problems.add(ProblemKind.REPEATED, position, text)

    async def _check_before(self, row: StoredRow) -> None:
        """Check that a row's stream has the previous version at an earlier position."""
        before = row.version - 1
        known = await self._log.stream_rows(row.stream_id, after_version=before - 1, upto_version=before)
        if not known or known[0].position >= row.position:
            text = f"stream {row.stream_id} has version {row.version} without version {before} before it"
            self._problems.add(ProblemKind.STREAM, row.position, text)

    def _check_end(self, head: Head) -> None:
        position = self._last.position if self._last is not None else self._after
        if position < head.position:
            text = f"the head row says {head.position}, but the last event is {position}: the log was truncated"
            self._problems.add(ProblemKind.MISSING, position + 1, text, last_position=head.position)
            return
        if self._last is None:
            return
        wrong = [name for name in ("chain_hash", "recorded_at_ns") if getattr(head, name) != getattr(self._last, name)]
        if self._events is not None and self._events.epoch not in (None, head.epoch):
            wrong.append("epoch")
        if wrong:
            text = f"the {' and '.join(wrong)} of the head row differs from the last event"
            self._problems.add(ProblemKind.HEAD, head.position, text)

    async def _check_beyond(self, head: Head) -> None:
        """Check that the head row covers events appended since."""
        async for rows in self._log.read(head.position, LAST_POSITION):
            now = await self._log.head()
            if now.position < rows[-1].position:
                text = f"the head row says {now.position}, but there are events up to {rows[-1].position}"
                self._problems.add(ProblemKind.HEAD, now.position + 1, text, last_position=rows[-1].position)
            return

    async def _check_streams(self) -> None:
        """Compare the table of streams, which writers rely on, with the events."""
        found = await self._log.stream_heads()
        while found:
            for stream in found:
                if stream.version != stream.listed_version:
                    await self._add_stream(stream)
            found = await self._log.stream_heads(found[-1].stream_id)

    async def _add_stream(self, stream: StreamHead) -> None:
        """Report a wrong entry of the table of streams, at the first event that it lacks, if any."""
        known, listed = stream.version, stream.listed_version
        position: int | None = None
        actual = "has no event"
        if known is not None:
            newest = await self._log.stream_rows(stream.stream_id, after_version=known - 1, upto_version=known)
            actual = f"is at version {known}, position {newest[0].position}"
        if known is not None and (listed is None or listed < known):
            begin = -1 if listed is None else listed
            unlisted = await self._log.stream_rows(stream.stream_id, after_version=begin, upto_version=begin + 2)
            position = (unlisted or newest)[0].position
        entry = "lacks" if listed is None else f"has version {listed} for"
        text = f"the table of streams {entry} {stream.stream_id}, which by its events {actual}"
        self._problems.add(ProblemKind.STREAM, position, text)

    def _report(self, head: Head) -> VerifyReport:
        problems, rows = self._problems, self._rows
        counts = {"events": max(0, rows.position - self._after)}
        if self._events is not None:
            counts |= {"commands": rows.commands, "streams": rows.streams} | self._events.counts
        if self._tree_heads is not None:
            counts |= {"notes": self._tree_heads.compared, "signed_upto": self._tree_heads.agreed}
        return VerifyReport(
            exchange_id=self._log.exchange_id,
            log_id=self._log.log_id,
            position=head.position,
            chain_hash=head.chain_hash.hex(),
            first_bad_position=problems.first_position,
            problems=problems.sorted(),
            problem_count=problems.total,
            counts=counts,
        )
