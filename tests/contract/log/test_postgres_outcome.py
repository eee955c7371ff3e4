"""PostgreSQL goes away at the worst moments: every append is in the log once or not at all, and the caller knows which."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from kernel.errors import LogUnavailableError
from kernel.events import intent_stream
from kernel.log import Appended, EventLog, LogSettings, open_log
from kernel.log.backends.postgres import PostgresRecorder
from kernel.log.hashing import GENESIS, verify_rows
from tests.commands import an_append, collect
from tests.contract.proxy import Proxy


@pytest.fixture
def proxy(postgres_url: str) -> Iterator[Proxy]:
    """A proxy in front of the server, on a path short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="pg-") as directory:
        proxy = Proxy(Path(directory), postgres_url)
        yield proxy
        proxy.close()


async def check(log: EventLog, *, rows: int) -> None:
    """The log has so many rows, gapless and hashed."""
    stored = [row async for page in log.read() for row in page]
    verify_rows(stored, after=0, chain=GENESIS)
    assert len(stored) == rows


async def test_an_answer_lost_after_the_commit(proxy: Proxy, exchange_id: str) -> None:
    """The commit happened, the answer did not come: the append succeeds with the positions of that commit, once."""
    async with open_log(proxy.url, exchange_id=exchange_id) as log:
        for cut in range(1, 4):
            proxy.cut_after_commit = 1
            appended = await log.append(an_append("a", count=2, expected=cut * 2 - 2))
            assert appended == Appended(cut * 2, cut * 2 + 1)
            assert proxy.cuts == cut
        await check(log, rows=7)


async def test_a_whole_batch_whose_answer_is_lost(proxy: Proxy, exchange_id: str) -> None:
    """Every command is answered as if nothing had happened, the refused one too; a tail sees each event once."""
    async with open_log(proxy.url, exchange_id=exchange_id) as log:
        following = asyncio.create_task(collect(log, upto=31))
        await log.append(an_append("a", expected=0))
        proxy.cut_after_commit = 2
        appends = [log.append(an_append(f"i{n}", expected=0)) for n in range(29)]
        results = await asyncio.gather(*appends, log.append(an_append("a", expected=0)), return_exceptions=True)
        assert [isinstance(result, Appended) for result in results] == [True] * 29 + [False]
        assert not any(result.duplicate for result in results if isinstance(result, Appended))
        await check(log, rows=31)
        events = await asyncio.wait_for(following, 60)
        assert [event.position for event in events] == list(range(1, 32))
        assert proxy.cuts >= 1


async def test_a_connection_killed_before_the_commit(postgres_url: str, exchange_id: str) -> None:
    """The server ends the session between the rows and the commit: the append is made again, once."""
    async with open_log(postgres_url, exchange_id=exchange_id) as log:
        _kill_before_commit(log, postgres_url)
        assert await log.append(an_append("a", expected=0)) == Appended(2, 2)
        assert len(await log.read_stream(intent_stream("a"))) == 1
        await check(log, rows=2)


def _kill_before_commit(log: EventLog, postgres_url: str) -> None:
    """Have the server end the writer's session in its next transaction, after the rows."""
    recorder = getattr(log, "recorder", None)
    assert isinstance(recorder, PostgresRecorder)

    def kill() -> None:
        recorder.before_commit = lambda: None  # type: ignore[method-assign]  # only once
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            connection.execute("SELECT pg_terminate_backend(%s, 10000)", (recorder.backend_pid,))

    recorder.before_commit = kill  # type: ignore[method-assign]  # the place made for tests


async def test_a_server_that_stays_away(proxy: Proxy, exchange_id: str) -> None:
    """After the time set everything that waits is refused; the log is of use again when the server is back."""
    settings = LogSettings(reconnect_timeout_s=0.1)
    async with open_log(proxy.url, exchange_id=exchange_id, settings=settings) as log:
        await log.append(an_append("a"))
        proxy.refuse()
        results = await asyncio.gather(*(log.append(an_append("b")) for _ in range(5)), return_exceptions=True)
        assert all(isinstance(result, LogUnavailableError) for result in results)
        with pytest.raises(LogUnavailableError):
            await log.head()
        proxy.refusing = False
        assert await log.append(an_append("c")) == Appended(3, 3)
        await check(log, rows=3)


async def test_a_short_outage_is_waited_for(proxy: Proxy, exchange_id: str) -> None:
    """What is appended while the server is away for a moment is recorded when it is back; tails go on."""
    async with open_log(proxy.url, exchange_id=exchange_id) as log:
        following = asyncio.create_task(collect(log, upto=12))
        await log.append(an_append("a"))
        proxy.refuse()
        appends = [asyncio.create_task(log.append(an_append("b"))) for _ in range(10)]
        await asyncio.wait(appends, timeout=0.1)
        proxy.refusing = False
        results = await asyncio.gather(*appends)
        assert sorted(result.first_position for result in results) == list(range(3, 13))
        assert len(await asyncio.wait_for(following, 60)) == 12


async def test_a_log_is_closed_while_the_server_is_away(proxy: Proxy, exchange_id: str) -> None:
    """Closing does not wait for a server that is not there; what waits is refused."""
    log = open_log(proxy.url, exchange_id=exchange_id)
    proxy.refuse()
    waiting = asyncio.create_task(log.append(an_append()))
    await asyncio.wait([waiting], timeout=0.05)
    async with asyncio.timeout(60):
        await log.close()
    with pytest.raises(LogUnavailableError):
        await waiting


async def test_an_unreachable_server_is_refused_at_once(tmp_path: Path, exchange_id: str) -> None:
    """Opening a log on a server that is not there raises instead of waiting."""
    with pytest.raises(LogUnavailableError):
        open_log(f"postgresql://postgres@/postgres?host={tmp_path}", exchange_id=exchange_id)
