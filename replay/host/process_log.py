"""A process's own log: one line a record on stderr, for a terminal or as JSON, that never holds the process up.

Used by the CLI for the verbs that run for long. Records come from the kernel's ordinary loggers; what a record carries
beside its message (`extra={"intent_id": …, "position": …}`) is shown as fields. A `QueueListener`'s thread writes the lines
behind a bounded queue: when nobody reads them they are dropped and counted, and the kernel goes on. Text of venues is
escaped. It is not the event log: nothing depends on it.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from logging.handlers import QueueHandler, QueueListener
from typing import Any, TextIO

from replay.formatting.errors import one_line
from replay.formatting.output import escaped, json_line

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
        message = record.getMessage() + (f": {problem}" if problem else "")
        fields = "".join(f" {name}={value}" for name, value in fields_of(record).items() if value is not None)
        return escaped(f"{time_of(record)} {record.levelname} {record.name}: {message}{' ' if fields else ''}{fields}")


class JsonLine(logging.Formatter):
    """For programs: one object, its fields beside `time`, `level`, `logger` and `message`."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        made = {
            "time": time_of(record), "level": record.levelname, "logger": record.name, "message": record.getMessage(),
            **{name: json_safe_value(value) for name, value in fields_of(record).items()},
        }  # fmt: skip
        if record.exc_info:
            made["error"] = problem_of(record)
            made["traceback"] = self.formatException(record.exc_info)
        return json_line(made).rstrip("\n")


def json_safe_value(value: Any) -> Any:
    """A value as JSON can have it."""
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


class LineStream(logging.StreamHandler[TextIO]):
    """Writes lines for as long as somebody reads them."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Nobody reads any more, or the stream was closed: there is nowhere to say so."""


class LineWriter(QueueHandler):
    """Formats records where they are made and has a thread write them; drops them when it cannot keep up."""

    def __init__(self, stream: TextIO, formatter: logging.Formatter, *, lines_max: int = LINES_MAX) -> None:
        self._lines: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
        super().__init__(self._lines)
        self.setFormatter(formatter)
        self.dropped = 0
        """Lines that were not written."""
        self._told = 0
        self._lines_max = lines_max
        self._thread = QueueListener(self._lines, LineStream(stream))
        self._thread.start()

    def enqueue(self, record: logging.LogRecord) -> None:
        """Hand a record over; it is not waited for."""
        if self._lines.qsize() >= self._lines_max:
            self.dropped += 1
            return
        self._tell_dropped()
        self._lines.put_nowait(record)

    def _tell_dropped(self) -> None:
        if self.dropped == self._told:
            return
        self._told = self.dropped
        text = f"{self.dropped} lines of this log were dropped so far"
        lost = logging.LogRecord(RUNNING.name, logging.WARNING, "", 0, text, None, None)
        self._lines.put_nowait(self.prepare(lost))

    def close(self) -> None:
        """Write what is left, for a moment at most."""
        self._tell_dropped()
        stopping = threading.Thread(target=self._thread.stop, daemon=True)
        stopping.start()
        stopping.join(CLOSE_TIMEOUT_S)
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
