"""The process's own log: a line per record on stderr, as text or JSON. Used by commands that run for long.

Records come from the kernel's loggers; their extras (`extra={"intent_id": …}`) are shown as fields. A thread writes the
lines behind a bounded queue: lines that nobody reads are dropped and counted, and never delay the kernel.
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
"""Seconds that closing waits for the remaining lines."""
STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
"""Attributes of every record; others are its fields."""
RUNNING = logging.getLogger("orderctl.run")
"""The logger for messages about the process itself."""


class LogFormat(StrEnum):
    """Values of `--log-format`."""

    TEXT = "text"
    JSON = "json"


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in STANDARD and not name.startswith("_")}


def time_of(record: logging.LogRecord) -> str:
    """The record's time in UTC, to the millisecond."""
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def problem_of(record: logging.LogRecord) -> str | None:
    problem = record.exc_info[1] if record.exc_info else None
    return None if problem is None else f"{type(problem).__name__}: {one_line(problem)}"


class TextLine(logging.Formatter):
    """For people: `TIME LEVEL logger: message  intent_id=a position=7`."""

    def __init__(self, *, tracebacks: bool = False) -> None:
        super().__init__()
        self._tracebacks = tracebacks

    def format(self, record: logging.LogRecord) -> str:
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
    """For programs: one object, with the fields beside `time`, `level`, `logger` and `message`."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": time_of(record), "level": record.levelname, "logger": record.name, "message": record.getMessage(),
            **{name: json_safe_value(value) for name, value in fields_of(record).items()},
        }  # fmt: skip
        if record.exc_info:
            line["error"] = problem_of(record)
            line["traceback"] = self.formatException(record.exc_info)
        return json_line(line).rstrip("\n")


def json_safe_value(value: Any) -> Any:
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


class LineStream(logging.StreamHandler[TextIO]):
    """Writes lines; ignores that nobody reads them."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """There is nowhere to report a closed stream."""


class LineWriter(QueueHandler):
    """Formats records where they are made, and writes them on a thread; drops them if that is too slow."""

    def __init__(self, stream: TextIO, formatter: logging.Formatter, *, lines_max: int = LINES_MAX) -> None:
        self._lines: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
        super().__init__(self._lines)
        self.setFormatter(formatter)
        self.dropped = 0
        """Lines not written."""
        self._reported = 0
        self._lines_max = lines_max
        self._thread = QueueListener(self._lines, LineStream(stream))
        self._thread.start()

    def enqueue(self, record: logging.LogRecord) -> None:
        if self._lines.qsize() >= self._lines_max:
            self.dropped += 1
            return
        self._report_dropped()
        self._lines.put_nowait(record)

    def _report_dropped(self) -> None:
        if self.dropped == self._reported:
            return
        self._reported = self.dropped
        text = f"{self.dropped} lines of this log have been dropped so far"
        lost = logging.LogRecord(RUNNING.name, logging.WARNING, "", 0, text, None, None)
        self._lines.put_nowait(self.prepare(lost))

    def close(self) -> None:
        self._report_dropped()
        stopping = threading.Thread(target=self._thread.stop, daemon=True)
        stopping.start()
        stopping.join(CLOSE_TIMEOUT_S)
        super().close()


@contextmanager
def process_log(stream: TextIO, *, form: LogFormat, level: str) -> Iterator[Callable[[str], None]]:
    """Send all records of this process to a stream while the block runs; yields the function that logs a line."""
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
