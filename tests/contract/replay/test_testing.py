"""`replay.testing`: its documented example runs, and virtual time detects a deadlock."""

from __future__ import annotations

import asyncio
import inspect
import textwrap

import pytest

import replay.testing
from replay.testing import VirtualClock, run_virtually


def test_the_documented_example_runs() -> None:
    """The example in the package's docstring is complete and gives its result."""
    text = inspect.getdoc(replay.testing) or ""
    example = text.partition("::\n")[2].partition("\nUse a log")[0]
    assert "assert run_virtually" in example
    exec(compile(textwrap.dedent(example), "replay.testing", "exec"), {})  # our own text


def test_an_hour_passes_at_once() -> None:
    """`advance` runs what is due, in order, without real time."""

    async def main() -> tuple[list[str], float]:
        clock, happened = VirtualClock(), list[str]()
        loop = asyncio.get_running_loop()
        loop.call_later(60, happened.append, "after a minute")
        loop.call_later(7_200, happened.append, "after two hours")
        await clock.advance(3_600)
        return happened, loop.time()

    assert run_virtually(main) == (["after a minute"], 3_600)


def test_a_deadlock_is_an_error() -> None:
    """If every task waits and no timer is set, the loop raises instead of hanging."""

    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(RuntimeError, match="deadlock"):
        run_virtually(main)
