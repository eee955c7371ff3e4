"""What signs notes of a log while a kernel leads it: every so many events or seconds, to a directory outside the database.

Composed by `recovery.open_kernel` beside the kernel, which knows nothing of it. It reads the log for itself, in pages, and
hashes and writes in a thread, so that it holds the kernel up nowhere; nothing that goes wrong here ends the kernel: it is
logged once, counted, and tried again. Promises that a note is whole or not there, that none is ever overwritten, and that
nothing is signed which does not go on from the newest note there: a log that was cut off or rewritten gets no new one.

Beside the notes a file `frontier` keeps the full subtrees of the newest, so that the next leader needs to read only what
came since. It is a cache: what does not lead to the root of a note is passed over, and the log read from its beginning.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from kernel.clock import Clock
from kernel.controller import EventSourcedKernel
from kernel.errors import IntegrityError, KernelError, ValidationError, Violation
from kernel.log import hashing
from kernel.log.base import EventLog, Head, StoredRow
from kernel.log.merkle import Frontier
from kernel.metrics import NoteResult
from kernel.platform.private_files import make_directory
from kernel.settings import ns
from replay.log_access.atomic_files import write_whole
from replay.transparency.signed_note import SignerKey, TreeHead, origin_of, sign
from replay.transparency.tree_head_store import StoredTreeHead, newest_tree_head_file, read_tree_head, tree_head_name

logger = logging.getLogger(__name__)

FRONTIER = "frontier"
LAST_NOTE_TIMEOUT_S = 5.0
"""How long the end of a kernel may take for the note of all that it did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeHeadOptions:
    """Where notes are written, how often, and who signs them."""

    directory: Path
    keys: tuple[SignerKey, ...]
    """Each of them signs: the old one and the new one while keys change."""
    every_events: int = 1_000
    every_s: float = 10.0

    def __post_init__(self) -> None:
        """Raises `ValidationError`, and `KernelError` where what signs is not installed: before anything runs."""
        if not self.keys:
            raise ValidationError("notes need a key to sign them: `orderctl keys create` makes one")
        if self.every_events < 1 or self.every_s <= 0:
            value = f"{self.every_events} events, {self.every_s:g} s"
            raise ValidationError(violations=[Violation("interval of tree heads", "range", "above 0", value)])
        for key in self.keys:
            key.sign("\n")


@dataclass(frozen=True, slots=True)
class Read:
    """A log as far as it was read for notes."""

    tree: Frontier
    chain_hash: bytes

    def with_rows(self, rows: list[StoredRow]) -> Read:
        """With the rows that follow, after checking them. Raises `IntegrityError` with the first bad position."""
        chain = hashing.verify_rows(rows, after=self.tree.size, chain=self.chain_hash)
        tree = self.tree.copy()
        for row in rows:
            tree.add(row.leaf_hash)
        return Read(tree, chain)


class TreeHeadWriter:
    """Writes the notes of one log into one directory."""

    def __init__(self, log: EventLog, options: TreeHeadOptions) -> None:
        self._log = log
        self._options = options
        self._origin = origin_of(log)
        self._read = Read(Frontier(), hashing.GENESIS)
        self._met = False
        """Whether the log has been held against the newest note there."""
        self._writing = threading.Lock()
        """Held by the thread that writes: one that was given up may not be through yet."""
        self.size = 0
        """Size of the newest note, as far as is known here."""

    def forget(self) -> None:
        """Somebody else may have written notes: hold the log against the newest again."""
        self._met = False

    async def write(self) -> bool:
        """Write a note of the log as it is now; False where nothing has come since the newest.

        Raises `IntegrityError` where the log is not what the newest note says, `ValidationError` where what is there is no
        note of it, `OSError` where the directory can't be read or written, and what reading the log raises.
        """
        head = await self._log.head()
        if not self._met:
            await self._meet(await asyncio.to_thread(self._newest), head)
        known = max(self.size, self._read.tree.size)
        if head.position < known:
            raise cut_off(known, head)
        if head.position == self.size:
            return False
        await self._read_to(head.position)
        await asyncio.to_thread(self._store, self._read)
        self.size = head.position
        return True

    async def _meet(self, newest: StoredTreeHead | None, head: Head) -> None:
        """Read as far as the newest note, and see that it says what the log holds."""
        if newest is not None:
            if head.position < newest.size:
                raise cut_off(newest.size, head)
            kept = await asyncio.to_thread(self._kept)
            self._read = next(
                (known for known in (kept, self._read) if known is not None and known.tree.size <= newest.size),
                Read(Frontier(), hashing.GENESIS),
            )
            await self._read_to(newest.size)
            stored = [row.chain_hash async for rows in self._log.read(newest.size - 1, newest.size) for row in rows]
            if (self._read.tree.root(), stored) != (newest.root, [newest.chain_hash]):
                text = f"the log up to here is not what {newest.path} says: it was rewritten, and gets no new note"
                raise IntegrityError(text, position=newest.size)
        self.size = newest.size if newest is not None else 0
        self._met = True

    async def _read_to(self, position: int) -> None:
        """Read on. What was read stays so when this is given up."""
        async for rows in self._log.read(self._read.tree.size, position):
            self._read = await asyncio.to_thread(self._read.with_rows, rows)
        if self._read.tree.size < position:
            raise IntegrityError(f"the log should go on to {position}", position=self._read.tree.size + 1)

    def _newest(self) -> StoredTreeHead | None:
        make_directory(self._options.directory)
        file = newest_tree_head_file(self._options.directory)
        if file is None:
            return None
        try:
            newest = read_tree_head(file, None)
        except ValidationError as problem:
            raise ValidationError(f"{file}: {problem}") from problem
        if newest.origin != self._origin:
            raise ValidationError(f"{newest.path} is of another log, {newest.origin}, not of {self._origin}")
        return newest

    def _kept(self) -> Read | None:
        """What is kept of the tree, where a note that one of our keys signed has the root that it leads to."""
        directory, keys = self._options.directory, tuple(key.verifier for key in self._options.keys)
        try:
            kept = json.loads((directory / FRONTIER).read_text(encoding="utf-8"))
            tree = Frontier(kept["size"], [bytes.fromhex(item) for item in kept["hashes"]])
            note = read_tree_head(directory / tree_head_name(tree.size), keys)
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None
        return Read(tree, note.chain_hash) if (note.origin, note.root) == (self._origin, tree.root()) else None

    def _store(self, read: Read) -> None:
        """The note first: a frontier without its note is none, and an old one is only further to go."""
        checkpoint = TreeHead(self._origin, read.tree.size, read.tree.root(), read.chain_hash)
        path = self._options.directory / tree_head_name(read.tree.size)
        kept = {"size": read.tree.size, "hashes": [item.hex() for item in read.tree.hashes]}
        with self._writing:
            if not path.exists():
                write_whole(path, str(sign(checkpoint.text(), self._options.keys)))
            write_whole(self._options.directory / FRONTIER, json.dumps(kept) + "\n")


def cut_off(size: int, head: Head) -> IntegrityError:
    """A log that is shorter than it was."""
    text = f"the log had {size} events when it was read for a note, and now ends at {head.position}: it was cut off"
    return IntegrityError(text, position=head.position + 1)


class TreeHeadSigner:
    """Has a note written whenever one is due, as long as a kernel leads."""

    def __init__(self, kernel: EventSourcedKernel, options: TreeHeadOptions, *, clock: Clock) -> None:
        self._kernel = kernel
        self._options = options
        self._clock = clock
        self._writer = TreeHeadWriter(kernel.log, options)
        self._epoch = 0
        """Under which it wrote last."""
        self._last_report = ""

    async def run(self) -> None:
        """Until it is cancelled, or the kernel no longer reads its log."""
        waits = self._due
        while True:
            try:
                await waits()
            except Exception as problem:
                logger.debug("no more notes: %s", problem)  # the kernel has failed, and says so itself
                return
            waits = self._due if await self._round() else self._pause

    async def _due(self) -> None:
        """Wait until there is something new, and then until it is enough of it or has waited long enough."""
        await self._kernel.state.reached(self._writer.size + 1)
        enough = asyncio.ensure_future(self._kernel.state.reached(self._writer.size + self._options.every_events))
        paused = asyncio.ensure_future(self._pause())
        try:
            done, _ = await asyncio.wait({enough, paused}, return_when=asyncio.FIRST_COMPLETED)
            if enough in done:
                enough.result()
        finally:
            enough.cancel()
            paused.cancel()
            await asyncio.gather(enough, paused, return_exceptions=True)

    async def _pause(self) -> None:
        await self._clock.sleep_until(self._clock.now_ns() + ns(self._options.every_s))

    async def _round(self) -> bool:
        """A note, if this kernel leads; False when there was none."""
        if not self._kernel.engine.running:
            return False
        if self._epoch != self._kernel.state.epoch:  # somebody else may have led, and written notes
            self._epoch = self._kernel.state.epoch
            self._writer.forget()
        return await self.write()

    async def write(self) -> bool:
        """A note of all that there is; False when it failed, which is told and counted."""
        metrics = self._kernel.metrics
        try:
            written = await self._writer.write()
        except Exception as problem:
            metrics.notes.labels(NoteResult.FAILED).inc()
            self._report_progress(problem)
            return False
        if self._last_report:
            logger.info("notes of the log are written again, the newest of %d events", self._writer.size)
            self._last_report = ""
        if written:
            metrics.notes.labels(NoteResult.WRITTEN).inc()
            logger.info("note written: of %d events", self._writer.size, extra={"position": self._writer.size})
        metrics.note_position.set(self._writer.size)
        return True

    def _report_progress(self, problem: Exception) -> None:
        """Once for each problem: it is tried again, and again."""
        if str(problem) == self._last_report:
            return
        self._last_report = str(problem)
        expected = isinstance(problem, KernelError | OSError)
        logger.error("no note of the log was written: %s", problem, exc_info=None if expected else problem)


@asynccontextmanager
async def signing_tree_heads(
    kernel: EventSourcedKernel, options: TreeHeadOptions | None, *, clock: Clock
) -> AsyncIterator[None]:
    """Notes of what a kernel leads, while the block lasts. Its end stops the kernel: the last note has all that it did."""
    if options is None:
        yield
        return
    keeper = TreeHeadSigner(kernel, options, clock=clock)
    retention = asyncio.create_task(keeper.run(), name="note-keeper")
    try:
        yield
    finally:
        led = kernel.engine.running
        await kernel.stop()
        retention.cancel()
        await asyncio.gather(retention, return_exceptions=True)
        if led:
            with suppress(TimeoutError):
                async with asyncio.timeout(LAST_NOTE_TIMEOUT_S):
                    await keeper.write()
