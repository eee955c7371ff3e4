"""Every transcript plays as it is written: what was recorded, what was sent, how it ended.

`KERNEL_REWRITE_TRANSCRIPTS=1 pytest tests/scenarios/test_transcripts.py` rewrites them, to be read as a diff.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.scenarios.runner import play

TRANSCRIPTS = sorted((Path(__file__).parent / "transcripts").glob("*.txt"))
REWRITE = os.environ.get("KERNEL_REWRITE_TRANSCRIPTS") == "1"
ALLOWED = "# allowed: "
"""A comment that names the broken rule that the transcript is about and that no kernel can prevent."""


@pytest.mark.looptime
@pytest.mark.parametrize("path", [pytest.param(path, id=path.stem) for path in TRANSCRIPTS])
async def test_it_comes_out_as_written(path: Path) -> None:
    """The kernel does what the transcript says, and breaks no rule that the transcript does not allow."""
    await check(path, path.read_text())  # noqa: ASYNC240  # nothing else runs on the loop yet


async def check(path: Path, written: str) -> None:
    played, world = await play(written)
    if REWRITE:
        path.write_text(played)  # noqa: ASYNC240  # nothing else runs on the loop any more
    allowed = {line.removeprefix(ALLOWED) for line in written.splitlines() if line.startswith(ALLOWED)}
    differing = {line.strip() for line in played.splitlines() if line.strip().startswith("differ: ")}
    assert {*world.problems, *differing} == allowed
    assert played == (played if REWRITE else written)
