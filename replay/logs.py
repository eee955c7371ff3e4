"""A process's own log: one line a record on stderr, for a terminal or as JSON, that never holds the process up.

Used by the CLI for the verbs that run for long. Records come from the kernel's ordinary loggers; what a record carries
beside its message (`extra={"intent_id": …, "position": …}`) is shown as fields. Lines are written by a thread of their own
behind a bounded queue: when nobody reads them they are dropped and counted, and the kernel goes on. Text of venues is
escaped. It is not the event log: nothing depends on it.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, TextIO

from replay.failures import one_line
from replay.output import escaped, json_line

LINES_MAX = 10_000
"""Lines that may wait to be written."""
CLOSE_TIMEOUT_S = 1.0
"""How long the end of a process waits for what is left to be written."""
STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
"""What every record has; the rest are its own fields."""
RUNNING = logging.getLogger("orderctl.run")
"""What a running process says of itself."""


class LogFormat(StrEnum):
    """What `--log-format` takes."""

    TEXT = "text"
    JSON = "json"


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """What a record carries beside its message."""
    return {name: value for name, value in vars(record).items() if name not in STANDARD and not name.startswith("_")}


def time_of(record: logging.LogRecord) -> str:
    """When it was made, in UTC, to the millisecond."""
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def problem_of(record: logging.LogRecord) -> str | None:
    """Its exception in one line; None without one."""
    problem = record.exc_info[1] if record.exc_info else None
    return None if problem is None else f"{type(problem).__name__}: {one_line(problem)}"


class TextLine(logging.Formatter):
    """For people: `TIME LEVEL logger: message  intent_id=a position=7`."""

    def __init__(self, *, tracebacks: bool = False) -> None:
        super().__init__()
        self._tracebacks = tracebacks

    def format(self, record: logging.LogRecord) -> str:
        """One line, and with `tracebacks` more."""
        lines = [self._line(record)]
        if self._tracebacks and record.exc_info:
            lines += map(escaped, self.formatException(record.exc_info).splitlines())
        return "\n".join(lines)

    def _line(self, record: logging.LogRecord) -> str:
        problem = problem_of(record)
        said = record.getMessage() + (f": {problem}" if problem else "")
        fields = "".join(f" {name}={value}" for name, value in fields_of(record).items() if value is not None)
        return escaped(f"{time_of(record)} {record.levelname} {record.name}: {said}{' ' if fields else ''}{fields}")


class JsonLine(logging.Formatter):
    """For programs: one object, its fields beside `time`, `level`, `logger` and `message`."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        made = {
            "time": time_of(record), "level": record.levelname, "logger": record.name, "message": record.getMessage(),
            **{name: plain(value) for name, value in fields_of(record).items()},
        }  # fmt: skip
        if record.exc_info:
            made["error"] = problem_of(record)
            made["traceback"] = self.formatException(record.exc_info)
        return json_line(made).rstrip("\n")


def plain(value: Any) -> Any:
    """A value as JSON can have it."""
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


class LineWriter(logging.Handler):
    """Writes records to a stream from a thread of its own, and drops them when it cannot keep up."""

    def __init__(self, stream: TextIO, formatter: logging.Formatter, *, lines_max: int = LINES_MAX) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self.dropped = 0
        """Lines that were not written."""
        self._stream = stream
        self._lines: queue.Queue[str | None] = queue.Queue(lines_max)
        self._thread = threading.Thread(target=self._write, name="process-log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record; it is not waited for."""
        try:
            line = self.format(record)
        except Exception:
            self.handleError(record)
            return
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self.dropped += 1

    def _write(self) -> None:
        told = 0
        while (line := self._lines.get()) is not None:
            with suppress(OSError, ValueError):  # nobody reads any more, or the stream was closed
                self._stream.write(line + "\n")
                if self.dropped > told:
                    told = self.dropped
                    self._stream.write(f"{told} lines of this log were dropped so far\n")
                self._stream.flush()

    def close(self) -> None:
        """Write what is left, for a moment at most."""
        with suppress(queue.Full):
            self._lines.put(None, timeout=CLOSE_TIMEOUT_S)
        self._thread.join(CLOSE_TIMEOUT_S)
        super().close()


@contextmanager
def process_log(stream: TextIO, *, form: LogFormat, level: str) -> Iterator[Callable[[str], None]]:
    """Send all records of this process to a stream for as long as the block runs. Yields what says a line of its own."""
    text = TextLine(tracebacks=level == "debug")
    writer = LineWriter(stream, JsonLine() if form is LogFormat.JSON else text)
    root = logging.getLogger()
    before = root.level, root.handlers[:]
    root.setLevel(level.upper())
    root.handlers[:] = [writer]
    try:
        yield RUNNING.info
    finally:
        root.setLevel(before[0])
        root.handlers[:] = before[1]
        writer.close()
