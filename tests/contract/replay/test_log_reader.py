"""Reading a log on every backend: opened by URL, checked page by page, positions and instants found."""

from __future__ import annotations

import asyncio
import gc
from contextlib import ExitStack
from pathlib import Path

import pytest

from kernel.clock import NS_PER_S
from kernel.errors import IntegrityError, LogUnavailableError, NotFoundError, ValidationError
from kernel.log import LogSettings, open_log
from projections import State
from replay.log_access.log_reader import (
    checked_pages,
    fold,
    gc_relaxed,
    instant_ns,
    open_for_reading,
    point,
    point_of,
    position_at,
)
from tests.commands import an_append
from tests.contract.backends import Backend

PAGE = LogSettings(page_rows=2)


class Ticking:
    """A clock that is a second later each time it is asked."""

    def __init__(self) -> None:
        self.now_s = 0

    def now_ns(self) -> int:
        self.now_s += 1
        return self.now_s * NS_PER_S

    async def sleep_until(self, deadline_ns: int) -> None:
        raise AssertionError("nothing here waits")


async def test_pages_are_checked_and_progress_is_reported(backend: Backend) -> None:
    """Every row comes once and in order, and each page is reported."""
    told: list[tuple[int, int]] = []
    async with backend.open(settings=PAGE) as log:
        for _ in range(4):
            await log.append(an_append("a"))
        pages = [
            [row.position for row in rows]
            async for rows in checked_pages(log, after=1, upto=4, progress=lambda *done: told.append(done))
        ]
    assert (pages, told) == ([[2, 3], [4]], [(2, 3), (3, 3)])


async def test_a_changed_row_is_found_wherever_the_reading_begins(backend: Backend) -> None:
    """The page with a changed column raises with its position; pages before it come."""
    async with backend.open(settings=PAGE) as log:
        for _ in range(5):
            await log.append(an_append("a"))
        backend.update(4, "meta", b"{}")
        seen: list[int] = []

        async def walk() -> None:
            async for rows in checked_pages(log, after=1):
                seen.extend(row.position for row in rows)

        with pytest.raises(IntegrityError) as caught:
            await walk()
    assert (seen, caught.value.position) == ([2, 3], 4)


async def test_a_log_that_ends_too_early_is_an_error(backend: Backend) -> None:
    """Reading past the end names the first missing position."""
    async with backend.open() as log:
        await log.append(an_append("a"))
        with pytest.raises(IntegrityError) as caught:
            await fold(log, State(), upto=9)
    assert caught.value.position == 3


async def test_two_folds_in_a_row_equal_one(backend: Backend) -> None:
    """Two folds in a row give the state of one."""
    async with backend.open() as log:
        for _ in range(4):
            await log.append(an_append("a"))
        by_halves = await fold(log, await fold(log, State(), upto=2))
        assert by_halves.digest() == (await fold(log, State())).digest()
        assert by_halves.position == 5


async def test_an_instant_is_the_last_event_recorded_by_then(backend: Backend) -> None:
    """The search finds what a scan finds, for every instant."""
    async with backend.open(clock=Ticking()) as log:
        for _ in range(6):
            await log.append(an_append("a"))
        stamps = [row.recorded_at_ns async for rows in log.read() for row in rows]
        for time_ns in range(0, max(stamps) + 2 * NS_PER_S, NS_PER_S // 2):
            assert await position_at(log, time_ns) == sum(stamp <= time_ns for stamp in stamps)


async def test_a_point_is_a_position_or_an_instant_and_not_past_the_head(backend: Backend) -> None:
    """A position past the head, and both at once, are refused with limit and value."""
    async with backend.open() as log:
        await log.append(an_append("a"))
        assert (await point(log), await point(log, position=1), await point_of(log, "2")) == (2, 1, 2)
        assert await point_of(log, "1970-01-01T00:00:00Z") == 0
        with pytest.raises(ValidationError, match="position `3`: must be between 0 and 2, the head"):
            await point_of(log, "3")
        with pytest.raises(ValidationError, match="not both"):
            await point(log, position=1, time_ns=1)


@pytest.mark.parametrize("text", ["2026-01-31T12:00:00", "yesterday", "-1", "", "2026-01-31"])
def test_an_instant_needs_a_time_zone(text: str) -> None:
    """A text that is no instant with a time zone is refused with an example."""
    with pytest.raises(ValidationError, match="2026-01-31T12:00:00Z"):
        instant_ns(text)


def test_instants_are_exact_to_the_microsecond() -> None:
    """The time zone is applied, and nothing is rounded."""
    assert instant_ns("1970-01-01T01:00:01.000001+01:00") == 1_000_001_000
    assert instant_ns("2026-01-31T12:00:00.123456Z") == 1_769_860_800_123_456_000


async def test_a_url_with_one_log_needs_no_exchange_id(tmp_path: Path) -> None:
    """The log in a file is found without its exchange id, and not changed."""
    url = f"sqlite:///{tmp_path}/x.db"
    async with open_log(url, exchange_id="mine") as log:
        await log.append(an_append("a"))
    async with open_for_reading(url) as found:
        assert (found.exchange_id, (await found.head()).position) == ("mine", 2)


async def test_several_logs_of_a_server_need_an_exchange_id(postgres_url: str) -> None:
    """The error names each log of a server; with the exchange id the right one is opened."""
    for exchange_id in ("kernel-a", "kernel-b"):
        await open_log(postgres_url, exchange_id=exchange_id).close()
    with pytest.raises(ValidationError, match=r"kernel-a, .*kernel-b.*: give the exchange id"):
        async with open_for_reading(postgres_url):
            pass
    async with open_for_reading(postgres_url, "kernel-b") as found:
        assert found.exchange_id == "kernel-b"


@pytest.mark.parametrize("url", ["sqlite:///nowhere/x.db", "sqlite:///absent.db", "memory://"])
def test_reading_never_creates_a_log(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading a missing log is an error and creates no file."""
    monkeypatch.chdir(tmp_path)

    async def read() -> None:
        async with open_for_reading(url):
            raise AssertionError("there is none")

    with pytest.raises((NotFoundError, LogUnavailableError), match=r"no log|no directory|does not exist|no stored log"):
        asyncio.run(read())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("first_out", [0, 1])
def test_garbage_collection_is_restored_after_all_folds(first_out: int) -> None:
    """Two overlapping folds restore the thresholds, whichever ends first."""
    before = gc.get_threshold()
    blocks = [ExitStack(), ExitStack()]
    for block in blocks:
        block.enter_context(gc_relaxed())
        assert gc.get_threshold() > before
    blocks[first_out].close()
    blocks[1 - first_out].close()
    assert gc.get_threshold() == before
