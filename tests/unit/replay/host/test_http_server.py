"""The HTTP server: GET and HEAD only, bounded connections in time and number."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import AsyncIterator

import pytest

from kernel.errors import KernelError
from replay.host import http_server
from replay.host.http_server import served
from replay.host.probes import Page, Reply
from replay.host.serving import address_of, listening

PATIENCE_S = 60.0


async def page() -> Reply:
    return Reply(200, "page\n")


async def wrong() -> Reply:
    """A page that fails."""
    raise RuntimeError("wrong")


async def slow() -> Reply:
    """A page that never answers."""
    await asyncio.Event().wait()
    raise AssertionError


PAGES: dict[str, Page] = {"/page": page, "/wrong": wrong, "/slow": slow}


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """The port at which the pages are served."""
    with listening("127.0.0.1", 0) as bound:
        assert bound is not None
        async with served(bound, PAGES):
            yield bound.getsockname()[1]


async def said(port: int, request: bytes) -> bytes:
    """Everything that is returned for a request."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        async with asyncio.timeout(PATIENCE_S):
            return await reader.read()
    finally:
        writer.close()


def status(reply: bytes) -> int:
    return int(reply.split(b" ", 2)[1])


@pytest.mark.parametrize(
    ("request_line", "expected"),
    [
        (b"GET /page HTTP/1.1", 200),
        (b"GET /page?a=b&c HTTP/1.0", 200),
        (b"GET /other HTTP/1.1", 404),
        (b"GET /page/ HTTP/1.1", 404),
        (b"GET /../page HTTP/1.1", 404),
        (b"GET /wrong HTTP/1.1", 500),
        (b"POST /page HTTP/1.1", 405),
        (b"DELETE /page HTTP/1.1", 405),
        (b"GET /page", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00", 400),
    ],
)
async def test_each_request_has_its_status(port: int, request_line: bytes, expected: int) -> None:
    """GET returns the page; any other request has its status; the connection is closed."""
    reply = await said(port, request_line + b"\r\nHost: x\r\n\r\n")

    assert status(reply) == expected
    assert (b"page\n" in reply.partition(b"\r\n\r\n")[2]) == (expected == 200)
    assert b"connection: close" in reply.lower()


async def test_a_head_has_no_body(port: int) -> None:
    """HEAD returns the length without the body."""
    reply = await said(port, b"HEAD /page HTTP/1.1\r\nHost: x\r\n\r\n")

    assert status(reply) == 200
    assert b"content-length: 5" in reply.lower()
    assert reply.endswith(b"\r\n\r\n")


async def test_a_request_without_end_is_cut_off(port: int) -> None:
    """Headers beyond the limit are refused, and others are still answered."""
    try:
        reply = await said(port, b"GET /page HTTP/1.1\r\n" + b"X: y\r\n" * 100_000)
    except ConnectionError:
        reply = b""

    assert reply == b"" or status(reply) in (400, 431)
    assert status(await said(port, GOOD)) == 200


GOOD = b"GET /page HTTP/1.1\r\nHost: x\r\n\r\n"
SLOW = b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize("request_bytes", [b"", b"GET /page HT", SLOW])
async def test_a_connection_has_its_time(port: int, monkeypatch: pytest.MonkeyPatch, request_bytes: bytes) -> None:
    """A connection that is slow to send or to be answered is closed; others are answered meanwhile."""
    monkeypatch.setattr(http_server, "EXCHANGE_S_MAX", 0.3)
    waiting = asyncio.create_task(said(port, request_bytes))
    await asyncio.sleep(0.05)

    assert status(await said(port, GOOD)) == 200
    with contextlib.suppress(ConnectionError):
        assert await waiting == b""


async def test_a_silent_connection_has_less_time(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that sends no complete head is closed early; one whose answer takes longer is not."""
    monkeypatch.setattr(http_server, "READ_S_MAX", 0.2)
    answered = asyncio.create_task(said(port, SLOW))
    for silent in (b"", b"GET /page HT"):
        with contextlib.suppress(ConnectionError):
            assert await said(port, silent) == b""

    assert not answered.done()
    answered.cancel()
    await asyncio.gather(answered, return_exceptions=True)


async def test_there_are_only_so_many_at_once(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    """A connection beyond the limit is closed at once; when another ends, the next is answered."""
    monkeypatch.setattr(http_server, "CONNECTIONS_MAX", 2)
    open_ones = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
    await asyncio.sleep(0.1)
    try:
        refused = await said(port, GOOD)
    except ConnectionError:
        refused = b""
    for _, writer in open_ones:
        writer.close()
    await asyncio.sleep(0.1)

    assert refused == b""
    assert status(await said(port, GOOD)) == 200


async def test_it_stops_with_requests_under_way() -> None:
    """Stopping ends requests in progress, and nothing is served any more."""
    with listening("127.0.0.1", 0) as bound:
        assert bound is not None
        port = bound.getsockname()[1]
        async with served(bound, PAGES):
            under_way = [asyncio.create_task(said(port, request)) for request in (b"GET", SLOW)]
            await asyncio.sleep(0.2)
        await asyncio.wait(under_way, timeout=PATIENCE_S)
        assert all(task.done() for task in under_way)
        await asyncio.gather(*under_way, return_exceptions=True)
    with pytest.raises(ConnectionError):
        await said(port, GOOD)


async def test_signals_stay_those_of_the_process() -> None:
    """The server installs no signal handlers."""
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.getsignal(number) for number in numbers]
    with listening("127.0.0.1", 0) as bound:
        assert bound is not None
        async with served(bound, PAGES):
            assert status(await said(bound.getsockname()[1], GOOD)) == 200
            assert [signal.getsignal(number) for number in numbers] == before


def test_any_free_port_is_told() -> None:
    """Port 0 binds a free port, which the address shows."""
    with listening("127.0.0.1", 0) as bound:
        assert bound is not None
        assert address_of(bound) == f"127.0.0.1:{bound.getsockname()[1]}"


def test_an_address_in_use_is_an_error_with_code_2() -> None:
    """An address in use and an unknown host are errors that name the option."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        for host, port in (("127.0.0.1", held.getsockname()[1]), ("no host.invalid", 1)):
            with pytest.raises(KernelError, match="choose another --metrics-port") as caught, listening(host, port):
                pass
            assert caught.value.exit_code == 2


def test_without_a_port_nothing_is_bound() -> None:
    """Without a port there is no socket."""
    with listening("127.0.0.1", None) as bound:
        assert bound is None


def test_without_the_extra_it_is_said_which_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra nothing is bound, and the error names it."""
    monkeypatch.delitem(sys.modules, "replay.host.http_server")
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(KernelError, match=r"exchange-kernel\[server\]"), listening("127.0.0.1", 0):
        pass
