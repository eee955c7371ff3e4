"""Runs one case and keeps its row of the matrix. Used by the plugin; the cases are marked by `case`.

A case observes an ability and returns whether it is there, or checks a behavior and returns nothing.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from datetime import date
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import asdict, replace

from replay.testing.conformance.abilities import ABILITIES
from replay.testing.conformance.bench import Bench, NotObservable
from replay.testing.conformance.target import Target

ROW = "conformance"
"""Name of the property of a test report that holds the case's row."""
Body = Callable[[Bench], Awaitable[bool | None]]


class CaseRow(msgspec.Struct, frozen=True):
    """One row of the matrix."""

    case: str
    level: int
    """1: the port. 2: orders. 3: a kernel at the venue."""
    what: str
    ability: str
    """The ability that is observed; empty for a behavior."""
    claim: str
    """`yes`, `no`, or empty for a behavior."""
    observed: str
    """`yes`, `no`, `not observable`, or what went wrong."""
    result: str
    """`ok`, `lacks`, `failed`, `waived` or `skipped`."""


class Kit(msgspec.Struct, frozen=True):
    """The adapter under test, for one case."""

    target: Target
    scratch: Path
    today: date
    properties: list[tuple[str, object]]

    def run(self, case_id: str, level: int, what: str, ability: str | None, body: Body) -> None:
        """Run a case; fails, skips or expects the failure as pytest does."""
        bench = Bench(self.target, self.scratch)

        def row(observed: str, result: str) -> CaseRow:
            claimed = ability is not None and ABILITIES[ability].claimed(bench.capabilities)
            claim = "" if ability is None else "yes" if claimed else "no"
            return CaseRow(case_id, level, what, ability or "", claim, observed, result)

        try:
            found = asyncio.run(_run(bench, body))
        except NotObservable as reason:
            self._note(row("not observable", "skipped"))
            pytest.skip(str(reason))
        except Exception as problem:
            self._fail(row(str(problem) or type(problem).__name__, "failed"), problem)
        if ability is None:
            self._note(row("yes", "ok"))
            return
        seen = row("yes" if found else "no", "ok" if found else "lacks")
        if seen.observed == seen.claim:
            self._note(seen)
            return
        claims = f"claims {ability}" if seen.claim == "yes" else f"does not claim {ability}"
        wrong = AssertionError(f"the adapter {claims}; observed: {seen.observed}")
        self._fail(replace(seen, result="failed"), wrong)

    def _note(self, row: CaseRow) -> None:
        self.properties.append((ROW, asdict(row)))

    def _fail(self, row: CaseRow, problem: Exception) -> None:
        waiver = next((item for item in self.target.config.waivers if item.case == row.case), None)
        if waiver is not None and self.today <= waiver.expires:
            self._note(replace(row, result="waived"))
            pytest.xfail(f"{waiver.reason} (until {waiver.expires})")
        self._note(row)
        if waiver is not None:
            raise AssertionError(f"the waiver expired on {waiver.expires}: {waiver.reason}") from problem
        raise problem


async def _run(bench: Bench, body: Body) -> bool | None:
    async with bench:
        return await body(bench)


def case(case_id: str, *, level: int, ability: str | None = None) -> Callable[[Body], Callable[[Kit], None]]:
    """Make a case of a coroutine function: a test that gets the fixture `conformance_kit`.

    The result of a case with an `ability` must be what the adapter claims.
    """

    def decorated(body: Body) -> Callable[[Kit], None]:
        what = (body.__doc__ or "").partition("\n")[0].rstrip(".")

        # No `functools.wraps`: pytest must see the fixture of the test, not the parameter of the case.
        def test(conformance_kit: Kit) -> None:
            conformance_kit.run(case_id, level, what, ability, body)

        functools.update_wrapper(test, body, assigned=("__module__", "__name__", "__qualname__", "__doc__"), updated=())
        del test.__wrapped__  # type: ignore[attr-defined]
        return test

    return decorated
