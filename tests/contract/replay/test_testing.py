"""`replay.testing`: what its documentation shows works, and virtual time says when nothing can happen any more."""

from __future__ import annotations

import asyncio
import inspect
import textwrap

import pytest

import replay.testing
from replay.testing import VirtualClock, run_virtually


def test_the_documented_example_runs() -> None:
    """The example in the package's docstring is complete, and comes out as it says."""
    text = inspect.getdoc(replay.testing) or ""
    example = text.partition("::\n")[2].partition("\nUse a log")[0]
    assert "assert run_virtually" in example
    exec(compile(textwrap.dedent(example), "replay.testing", "exec"), {})  # our own text


def test_an_hour_passes_at_once() -> None:
    """Time is the loop's: what is due on the way happens, in its order."""

    async def main() -> tuple[list[str], float]:
        clock, happened = VirtualClock(), list[str]()
        loop = asyncio.get_running_loop()
        loop.call_later(60, happened.append, "after a minute")
        loop.call_later(7_200, happened.append, "after two hours")
        await clock.advance(3_600)
        return happened, loop.time()

    assert run_virtually(main) == (["after a minute"], 3_600)


def test_a_wait_for_nothing_is_an_error() -> None:
    """Where no timer is set and every task waits, the loop says so instead of hanging."""

    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(RuntimeError, match="deadlock"):
        run_virtually(main)
