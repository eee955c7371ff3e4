"""The program of `orderctl help check-proof`, as a third party runs it; in this process, because tests run it often."""

from __future__ import annotations

import io
import sys
from contextlib import suppress
from typing import Any
from unittest import mock

from replay.cli.help import topic_text

PROGRAM = topic_text("check-proof")
CODE = compile(PROGRAM, "check_proof.py", "exec")


class Checker:
    """The program, called with some keys."""

    def __init__(self, *keys: str) -> None:
        self._keys = keys

    def check(self, proof: bytes) -> str | None:
        """What it says is proved by a file; None when it says that nothing is."""
        told: list[str] = []
        names: dict[str, Any] = {
            "__name__": "__main__",
            "open": lambda path, mode: io.BytesIO(proof),
            "print": lambda *words: told.append(" ".join(words)),
        }
        with mock.patch.object(sys, "argv", ["check_proof.py", "proof.json", *self._keys]), suppress(SystemExit):
            exec(CODE, names)
        return told[0].removeprefix("PROVED ") if told else None

    def proves(self, proof: str) -> str:
        """What it says is proved."""
        told = self.check(proof.encode())
        assert told is not None
        return told
