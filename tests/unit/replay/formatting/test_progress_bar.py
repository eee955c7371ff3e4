"""How far long work is: drawn for people, and for nobody else."""

from __future__ import annotations

from io import StringIO

import pytest

from replay.formatting.progress_bar import progress_bar


class Terminal(StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """It names the work and how much of it is done."""
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with progress_bar("folding", stream=stream) as progress:
        progress(3, 9)
        progress(9, 9)
    assert "folding" in stream.getvalue()
    assert "9/9" in stream.getvalue()


def test_a_file_gets_nothing() -> None:
    """What is no terminal stays as it is."""
    stream = StringIO()
    with progress_bar("folding", stream=stream) as progress:
        progress(3, 9)
    assert stream.getvalue() == ""
