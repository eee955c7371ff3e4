"""The paper exchange's journal: one JSON line per request that changed something, on disk before its answer is sent.

Used by `paper_engine`. A line that a kill tore off at the end never happened, and is cut away; any other line that can't
be read is an `IntegrityError` with its number, and nothing is repaired. Each line ends with a checksum over it and all
lines before it, so that nothing goes unnoticed but the loss of whole last lines. One process at a time has a journal open.
"""

from __future__ import annotations

import fcntl
import os
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pydantic

from kernel.errors import IntegrityError, LogUnavailableError
from kernel.platform.private_files import open_private
from kernel.venues.paper.matching.changes import CHANGES, JournalEntries, JournalHead

LINE_BYTES_MAX = 16 * 2**20
CHECKSUM_BYTES = len(" 0123abcd\n")
"""What follows a line's JSON."""


class Journal:
    """An append-only file of changes. Blocking, because its caller may not answer before it is durable."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open or create the file and take its lock.

        Raises `LogUnavailableError` when another process has it, `UnsafeFileError` when another user could have written it.
        """
        self.path = Path(path)
        try:
            self._file = os.fdopen(open_private(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND), "a+b", buffering=0)
        except OSError as error:
            raise LogUnavailableError(f"cannot open the journal {self.path}: {error}") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            raise LogUnavailableError(f"another process has the journal {self.path} open") from error
        self._size = 0
        self._checksum = 0
        """Over all lines so far."""
        self._broken = False

    def recover(self, head: JournalHead) -> tuple[JournalHead, Iterator[JournalEntries]]:
        """The head it was begun with (`head`, if it is new), and its changes, oldest first; read them to the end before
        the first append."""
        self._drop_torn_line()
        if self._size == 0:
            self._write(head.model_dump_json().encode(), durable=True)
            return head, iter(())
        lines = self._lines()
        number, first = next(lines)
        try:
            found = JournalHead.model_validate_json(self._checked(first))
        except ValueError as error:
            raise self._bad(number, error) from error
        return found, self._read(lines)

    def append(self, changes: JournalEntries, *, durable: bool = True) -> None:
        """Add one line. When it returns the line is on disk (`durable`), or on its way there with the next that is.

        An `OSError` leaves the file as it was; if even that fails, every later append fails too.
        """
        self._write(CHANGES.dump_json(changes, exclude_none=True), durable=durable)

    def close(self) -> None:
        """Give the file back."""
        self._file.close()

    def _write(self, text: bytes, *, durable: bool) -> None:
        if self._broken:
            raise OSError(f"the journal {self.path} failed earlier and takes nothing more")
        checksum = zlib.crc32(text, self._checksum)
        line = with_checksum(text, checksum)
        try:
            rest = line
            while rest:
                rest = rest[self._file.write(rest) :]
            if durable:
                os.fsync(self._file.fileno())
        except OSError:
            self._broken = True  # until the half-written line is gone
            with suppress(OSError):
                self._file.truncate(self._size)
                self._broken = False
            raise
        self._size += len(line)
        self._checksum = checksum

    def _drop_torn_line(self) -> None:
        """Cut what stands behind the last line end: its writer died before it could answer."""
        size = self._file.seek(0, os.SEEK_END)
        end = size
        while end > 0:
            begin = max(end - 65_536, 0)
            self._file.seek(begin)
            newline = self._file.read(end - begin).rfind(b"\n")
            if newline >= 0:
                end = begin + newline + 1
                break
            end = begin
        if end != size:
            self._file.truncate(end)
        self._size = end

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        with self.path.open("rb") as reader:
            yield from enumerate(iter(lambda: reader.readline(LINE_BYTES_MAX), b""), start=1)

    def _read(self, lines: Iterator[tuple[int, bytes]]) -> Iterator[JournalEntries]:
        for number, line in lines:
            try:
                yield CHANGES.validate_json(self._checked(line))
            except ValueError as error:
                raise self._bad(number, error) from error

    def _checked(self, line: bytes) -> bytes:
        """The JSON of the next line; `ValueError` when the checksum is not that of what was read so far."""
        text = line[:-CHECKSUM_BYTES]
        checksum = zlib.crc32(text, self._checksum)
        if line != with_checksum(text, checksum):
            raise ValueError("its checksum differs: it, or a line before it, is not what was written")
        self._checksum = checksum
        return text

    def _bad(self, number: int, error: ValueError) -> IntegrityError:
        problem = error.errors(include_url=False)[0]["msg"] if isinstance(error, pydantic.ValidationError) else error
        return IntegrityError(f"line {number} of the journal {self.path} cannot be read: {problem}", position=number)


def with_checksum(text: bytes, checksum: int) -> bytes:
    """A line as it stands in the file."""
    return b"%b %08x\n" % (text, checksum)
