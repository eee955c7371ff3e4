"""The progress bar is drawn on a terminal only."""

from __future__ import annotations

from io import StringIO

import pytest

from replay.formatting.progress_bar import progress_bar


class Terminal(StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bar shows the work and its progress."""
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with progress_bar("folding", stream=stream) as progress:
        progress(3, 9)
        progress(9, 9)
    assert "folding" in stream.getvalue()
    assert "9/9" in stream.getvalue()


def test_a_file_gets_nothing() -> None:
    """Nothing is written to a stream that is no terminal."""
    stream = StringIO()
    with progress_bar("folding", stream=stream) as progress:
        progress(3, 9)
    assert stream.getvalue() == ""
