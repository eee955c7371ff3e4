"""Sign tree heads of a log while a kernel leads it: every so many events or seconds, into a directory outside the database.

Started by `open_kernel` beside the kernel, which knows nothing of it. It reads the log itself and hashes and writes in a
thread. An error does not end the kernel: it is logged once, counted and retried. Tree heads are written atomically and not
overwritten, and only if the log continues the newest one there: a truncated or rewritten log gets no new tree head.

The file `frontier` caches the subtrees of the newest tree head, so that the next leader reads only later events. If the
cache does not match a signed tree head, it is ignored and the log is read from its beginning.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import msgspec

from kernel.clock import Clock
from kernel.controller import EventSourcedKernel
from kernel.errors import IntegrityError, KernelError, ValidationError
from kernel.log import hashing
from kernel.log.base import EventLog, Head, StoredRow
from kernel.log.merkle import Frontier
from kernel.metrics import NoteResult
from kernel.platform.private_files import make_directory
from kernel.settings import ns
from replay.log_access.atomic_files import write_whole
from replay.transparency.signed_note import SignerKey, TreeHead, origin_of, sign
from replay.transparency.tree_head_store import (
    StoredTreeHead,
    newest_tree_head_file,
    other_log,
    read_tree_head,
    tree_head_name,
)

logger = logging.getLogger(__name__)

FRONTIER = "frontier"
LAST_TREE_HEAD_TIMEOUT_S = 5.0
"""Time for the last tree head when a kernel stops."""


class TreeHeadOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Where and how often tree heads are signed, and by which keys."""

    directory: Path
    keys: tuple[SignerKey, ...]
    """Each key signs each tree head: the old and the new one during a rotation."""
    every_events: int = 1_000
    every_s: float = 10.0

    def __post_init__(self) -> None:
        """Raise `ValidationError` for bad values, `KernelError` if `cryptography` is missing."""
        if not self.keys:
            raise ValidationError("signing tree heads needs a key: create one with `orderctl keys create`")
        if self.every_events < 1 or self.every_s <= 0:
            text = f"{self.every_events} events and {self.every_s:g} s: both must be above 0"
            raise ValidationError(f"tree heads cannot be signed every {text}")
        for key in self.keys:
            key.sign("\n")


class Read(msgspec.Struct, frozen=True):
    """The part of a log read so far."""

    tree: Frontier
    chain_hash: bytes

    def with_rows(self, rows: list[StoredRow]) -> Read:
        """Check and add the rows that follow. Raises `IntegrityError` with the first bad position."""
        chain = hashing.verify_rows(rows, after=self.tree.size, chain=self.chain_hash)
        tree = self.tree.copy()
        for row in rows:
            tree.add(row.leaf_hash)
        return Read(tree, chain)


class TreeHeadWriter:
    """Writes the signed tree heads of one log into one directory."""

    def __init__(self, log: EventLog, options: TreeHeadOptions) -> None:
        self._log = log
        self._options = options
        self._origin = origin_of(log)
        self._read = Read(Frontier(), hashing.GENESIS)
        self._is_compared = False
        """True if the log was compared with the newest tree head."""
        self._writing = threading.Lock()
        """Held by the writing thread, which may outlive a canceled call."""
        self.size = 0
        """Size of the newest known tree head."""

    def forget(self) -> None:
        """Compare the log with the newest tree head again, since another leader may have written one."""
        self._is_compared = False

    async def write(self) -> bool:
        """Write a tree head of the log's current head; False if there is nothing new since the newest one.

        Raises `IntegrityError` if the log does not continue the newest tree head, `ValidationError` if the newest file
        is not a tree head of this log, `OSError` if the directory cannot be read or written.
        """
        head = await self._log.head()
        if not self._is_compared:
            await self._compare(await asyncio.to_thread(self._newest), head)
        known = max(self.size, self._read.tree.size)
        if head.position < known:
            raise truncated(known, head)
        if head.position == self.size:
            return False
        await self._read_to(head.position)
        await asyncio.to_thread(self._store, self._read)
        self.size = head.position
        return True

    async def _compare(self, newest: StoredTreeHead | None, head: Head) -> None:
        """Read up to the newest tree head and compare the log with it."""
        if newest is not None:
            if head.position < newest.size:
                raise truncated(newest.size, head)
            cached = await asyncio.to_thread(self._cached)
            self._read = next(
                (known for known in (cached, self._read) if known is not None and known.tree.size <= newest.size),
                Read(Frontier(), hashing.GENESIS),
            )
            await self._read_to(newest.size)
            stored = [row.chain_hash async for rows in self._log.read(newest.size - 1, newest.size) for row in rows]
            if (self._read.tree.root(), stored) != (newest.root, [newest.chain_hash]):
                text = f"the log up to here differs from the signed tree head {newest.path}: it was rewritten"
                raise IntegrityError(f"{text} and gets no new tree head", position=newest.size)
        self.size = newest.size if newest is not None else 0
        self._is_compared = True

    async def _read_to(self, position: int) -> None:
        """Read on. A canceled call keeps what was read."""
        async for rows in self._log.read(self._read.tree.size, position):
            self._read = await asyncio.to_thread(self._read.with_rows, rows)
        if self._read.tree.size < position:
            raise IntegrityError(f"events up to position {position} are missing", position=self._read.tree.size + 1)

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
            raise ValidationError(f"{newest.path}: {other_log(newest, self._origin)}")
        return newest

    def _cached(self) -> Read | None:
        """Return the cached tree if it has the root of a tree head signed by one of our keys."""
        directory, keys = self._options.directory, tuple(key.verifier for key in self._options.keys)
        try:
            cached = json.loads((directory / FRONTIER).read_text(encoding="utf-8"))
            tree = Frontier(cached["size"], [bytes.fromhex(item) for item in cached["hashes"]])
            head = read_tree_head(directory / tree_head_name(tree.size), keys)
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None
        return Read(tree, head.chain_hash) if (head.origin, head.root) == (self._origin, tree.root()) else None

    def _store(self, read: Read) -> None:
        """Write the tree head before the cache, which is ignored without its tree head."""
        tree_head = TreeHead(self._origin, read.tree.size, read.tree.root(), read.chain_hash)
        path = self._options.directory / tree_head_name(read.tree.size)
        cached = {"size": read.tree.size, "hashes": [item.hex() for item in read.tree.hashes]}
        with self._writing:
            if not path.exists():
                write_whole(path, str(sign(tree_head.text(), self._options.keys)))
            write_whole(self._options.directory / FRONTIER, json.dumps(cached) + "\n")


def truncated(size: int, head: Head) -> IntegrityError:
    """Return the error for a log that is shorter than before."""
    text = f"the log had {size} events and now ends at position {head.position}: it was truncated"
    return IntegrityError(text, position=head.position + 1)


class TreeHeadSigner:
    """Writes a tree head whenever one is due while a kernel leads."""

    def __init__(self, kernel: EventSourcedKernel, options: TreeHeadOptions, *, clock: Clock) -> None:
        self._kernel = kernel
        self._options = options
        self._clock = clock
        self._writer = TreeHeadWriter(kernel.log, options)
        self._epoch = 0
        """Epoch of the last round."""
        self._last_error = ""

    async def run(self) -> None:
        """Run until canceled or until the kernel has failed."""
        waits = self._due
        while True:
            try:
                await waits()
            except Exception as problem:
                logger.debug("no more tree heads: %s", problem)  # the kernel has failed and reports it itself
                return
            waits = self._due if await self._round() else self._pause

    async def _due(self) -> None:
        """Wait for a new event, and then for enough events or until it has waited long enough."""
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
        """Write a tree head if this kernel leads; return whether it succeeded."""
        if not self._kernel.engine.running:
            return False
        if self._epoch != self._kernel.state.epoch:  # another leader may have written tree heads
            self._epoch = self._kernel.state.epoch
            self._writer.forget()
        return await self.write()

    async def write(self) -> bool:
        """Write a tree head of all events. A failure is logged and counted, and returns False."""
        metrics = self._kernel.metrics
        try:
            written = await self._writer.write()
        except Exception as problem:
            metrics.notes.labels(NoteResult.FAILED).inc()
            self._log_error(problem)
            return False
        if self._last_error:
            logger.info("signing tree heads works again, the newest covers %d events", self._writer.size)
            self._last_error = ""
        if written:
            metrics.notes.labels(NoteResult.WRITTEN).inc()
            logger.info("signed tree head written: %d events", self._writer.size, extra={"position": self._writer.size})
        metrics.note_position.set(self._writer.size)
        return True

    def _log_error(self, problem: Exception) -> None:
        """Log an error once although each round repeats it."""
        if str(problem) == self._last_error:
            return
        self._last_error = str(problem)
        expected = isinstance(problem, KernelError | OSError)
        logger.error("cannot write a signed tree head: %s", problem, exc_info=None if expected else problem)


@asynccontextmanager
async def signing_tree_heads(
    kernel: EventSourcedKernel, options: TreeHeadOptions | None, *, clock: Clock
) -> AsyncIterator[None]:
    """Sign tree heads while the block runs. Its end stops the kernel, so that the last tree head covers all its events."""
    if options is None:
        yield
        return
    signer = TreeHeadSigner(kernel, options, clock=clock)
    task = asyncio.create_task(signer.run(), name="tree-head-signer")
    try:
        yield
    finally:
        led = kernel.engine.running
        await kernel.stop()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if led:
            with suppress(TimeoutError):
                async with asyncio.timeout(LAST_TREE_HEAD_TIMEOUT_S):
                    await signer.write()
