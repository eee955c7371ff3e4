"""The process's own log: lines for people and for programs, which never delay the process."""

from __future__ import annotations

import io
import json
import logging
import threading
from pathlib import Path

import pytest

from replay.host import process_log as logs
from replay.host.process_log import JsonLine, LineWriter, LogFormat, TextLine, process_log

HOSTILE = "a\x1b[2J\nb"


def record(
    message: str = "decided: %s", *args: object, problem: Exception | None = None, **extra: object
) -> logging.LogRecord:
    """A record as a logger makes it."""
    caught = (type(problem), problem, None) if problem is not None else None
    made = logging.LogRecord("kernel.x", logging.INFO, "x.py", 1, message, args or ("submit",), caught)
    vars(made).update({"created": 1_893_456_000.5, **extra})
    return made


def test_a_line_for_people() -> None:
    """Text lines have time, level, logger, message and fields."""
    line = TextLine().format(record(intent_id="a", position=7, code=None))

    assert line == "2030-01-01T00:00:00.500Z INFO kernel.x: decided: submit  intent_id=a position=7"


def test_a_line_for_programs() -> None:
    """JSON lines have the same as one object."""
    line = JsonLine().format(record(intent_id="a", position=7, what={1}))

    assert json.loads(line) == {
        "time": "2030-01-01T00:00:00.500Z", "level": "INFO", "logger": "kernel.x", "message": "decided: submit",
        "intent_id": "a", "position": 7, "what": "{1}",
    }  # fmt: skip


@pytest.mark.parametrize("formatter", [TextLine(), JsonLine()])
def test_hostile_text_stays_on_its_line(formatter: logging.Formatter) -> None:
    """Line breaks and escape sequences of a venue are escaped."""
    line = formatter.format(record("%s", HOSTILE, problem=ValueError(HOSTILE), intent_id=HOSTILE))

    assert "\n" not in line
    assert "\x1b" not in line


def test_an_exception_is_a_few_words_or_all_of_it() -> None:
    """Text lines have the exception's text, and its traceback if enabled; JSON lines have both."""
    try:
        raise ValueError("no\nway")
    except ValueError as problem:
        made = record(problem=problem)
        made.exc_info = (type(problem), problem, problem.__traceback__)

    assert TextLine().format(made).endswith("decided: submit: ValueError: no way")
    assert Path(__file__).name in TextLine(tracebacks=True).format(made)
    found = json.loads(JsonLine().format(made))
    assert found["error"] == "ValueError: no way"
    assert "Traceback" in found["traceback"]


class Stuck(io.StringIO):
    """A stream that blocks until it is released."""

    def __init__(self) -> None:
        super().__init__()
        self.entered, self.released = threading.Event(), threading.Event()

    def write(self, text: str) -> int:
        self.entered.set()
        self.released.wait()
        return super().write(text)


def test_a_reader_that_stands_still_holds_nobody_up() -> None:
    """Lines that cannot be written are dropped and counted, and the count is written later."""
    stream = Stuck()
    writer = LineWriter(stream, TextLine(), lines_max=3)
    writer.handle(record())
    assert stream.entered.wait(5)

    for _ in range(10):
        writer.handle(record())

    assert writer.dropped == 7
    stream.released.set()
    writer.close()
    assert stream.getvalue().count("decided") == 4
    assert "7 lines of this log have been dropped" in stream.getvalue()


def test_a_process_ends_though_nobody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing waits for a moment, not for the reader."""
    monkeypatch.setattr(logs, "CLOSE_TIMEOUT_S", 0.05)
    stream = Stuck()
    writer = LineWriter(stream, TextLine())
    writer.handle(record())
    assert stream.entered.wait(5)

    writer.close()
    assert stream.getvalue() == ""
    stream.released.set()


def test_the_process_log_is_there_for_a_block() -> None:
    """Records from the level on go to the stream; afterwards logging is configured as before."""
    before = logging.getLogger().handlers[:], logging.getLogger().level
    stream = io.StringIO()

    with process_log(stream, form=LogFormat.JSON, level="info") as tell:
        tell("ready: 100%")
        logging.getLogger("kernel.x").debug("not this")
        logging.getLogger("kernel.x").warning("this %s", "too", extra={"intent_id": "a"})

    assert [json.loads(line)["message"] for line in stream.getvalue().splitlines()] == ["ready: 100%", "this too"]
    assert (logging.getLogger().handlers, logging.getLogger().level) == before
