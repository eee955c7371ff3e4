"""The paper exchange's journal: one JSON line per request that changed something, durable before its answer is sent.

An incomplete last line is removed on opening: its writer died before it answered. Any other unreadable line is an
`IntegrityError`; nothing is repaired. Each line ends with a checksum over all lines so far, so that all damage is
detected except the loss of whole lines at the end. One process at a time has a journal open.
"""

from __future__ import annotations

import fcntl
import os
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from kernel.errors import IntegrityError, LogUnavailableError
from kernel.platform.private_files import open_private
from kernel.venues.paper.matching.changes import JournalEntries, JournalHead, decode_changes, decode_head

LINE_BYTES_MAX = 16 * 2**20
CHECKSUM_BYTES = len(" 0123abcd\n")
"""Bytes after a line's JSON."""


class Journal:
    """An append-only file of changes. Blocking: its caller may not answer before a change is durable."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open or create the file and lock it.

        Raises `LogUnavailableError` if it cannot be opened or another process has it open, `UnsafeFileError` if another
        user could have written it.
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
            raise LogUnavailableError(f"the journal {self.path} is in use by another process") from error
        self._size = 0
        self._checksum = 0
        """Over all lines so far."""
        self._broken = False

    def recover(self, head: JournalHead) -> tuple[JournalHead, Iterator[JournalEntries]]:
        """Return the journal's head (`head` if it is new) and its changes, oldest first.

        Exhaust the iterator before the first `append`. Raises `IntegrityError` if a line is damaged.
        """
        self._drop_torn_line()
        if self._size == 0:
            self._write(msgspec.json.encode(head), durable=True)
            return head, iter(())
        lines = self._lines()
        number, first = next(lines)
        try:
            found = decode_head(self._checked(first))
        except ValueError as error:
            raise self._bad(number, error) from error
        return found, self._read(lines)

    def append(self, changes: JournalEntries, *, durable: bool = True) -> None:
        """Append one line; `durable` waits until it is on disk, otherwise the next durable line flushes it.

        An `OSError` leaves the file unchanged. If restoring it fails, every later append fails too.
        """
        self._write(msgspec.json.encode(changes), durable=durable)

    def close(self) -> None:
        self._file.close()

    def _write(self, text: bytes, *, durable: bool) -> None:
        if self._broken:
            raise OSError(f"the journal {self.path} refuses writes after an earlier failure")
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
        """Remove an incomplete last line."""
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
                yield decode_changes(self._checked(line))
            except ValueError as error:
                raise self._bad(number, error) from error

    def _checked(self, line: bytes) -> bytes:
        """Return the next line's JSON; raises `ValueError` if the checksum does not match."""
        text = line[:-CHECKSUM_BYTES]
        checksum = zlib.crc32(text, self._checksum)
        if line != with_checksum(text, checksum):
            raise ValueError("the checksum does not match: this line or an earlier one was changed")
        self._checksum = checksum
        return text

    def _bad(self, number: int, error: ValueError) -> IntegrityError:
        return IntegrityError(f"cannot read line {number} of the journal {self.path}: {error}", position=number)


def with_checksum(text: bytes, checksum: int) -> bytes:
    """Return a line as it is stored."""
    return b"%b %08x\n" % (text, checksum)
