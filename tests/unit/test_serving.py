"""The tiny HTTP server: what is no request gets nothing of it, and no more is taken than there is room for."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel.errors import KernelError
from replay import serving
from replay.serving import Reply, Server, listening

PATIENCE_S = 60.0


async def answer(path: str) -> Reply | None:
    """One page, and one that goes wrong."""
    if path == "/wrong":
        raise RuntimeError("wrong")
    return Reply(200, "page\n") if path == "/page" else None


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """Where the page is served."""
    with listening("127.0.0.1", 0) as bound:
        assert bound is not None
        async with serving.serving(bound, answer):
            yield bound.getsockname()[1]


async def said(port: int, request: bytes) -> bytes:
    """All that comes back for some bytes."""
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
        (b"GET page HTTP/1.1", 400),
        (b"GET http://other/page HTTP/1.1", 400),
        (b"GET /page HTTP/2.0", 400),
        (b"GET /page", 400),
        (b"GET  /page HTTP/1.1", 400),
        (b"GET /p\xffge HTTP/1.1", 400),
        (b"GET /" + b"a" * 2000 + b" HTTP/1.1", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00", 400),
        (b"", 400),
    ],
)
async def test_each_request_has_its_status(port: int, request_line: bytes, expected: int) -> None:
    """The page is there by GET alone; anything else is told from it by its status, and the connection is closed."""
    reply = await said(port, request_line + b"\r\nHost: x\r\n\r\n")

    assert status(reply) == expected
    assert (b"page\n" in reply.partition(b"\r\n\r\n")[2]) == (expected == 200)
    assert b"Connection: close" in reply


async def test_a_head_has_no_body(port: int) -> None:
    """HEAD says how long the page is, and not what it says."""
    reply = await said(port, b"HEAD /page HTTP/1.1\r\n\r\n")

    assert status(reply) == 200
    assert b"Content-Length: 5" in reply
    assert reply.endswith(b"\r\n\r\n")


async def test_a_request_without_end_is_cut_off(port: int) -> None:
    """Headers beyond the limit are not read, however many come."""
    try:
        reply = await said(port, b"GET /page HTTP/1.1\r\n" + b"X: y\r\n" * 100_000)
    except ConnectionError:
        reply = b""

    assert reply == b"" or status(reply) == 431
    assert status(await said(port, b"GET /page HTTP/1.1\r\n\r\n")) == 200


async def test_who_says_nothing_is_let_go(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that is slow to ask is closed without an answer; others are answered meanwhile."""
    monkeypatch.setattr(serving, "READ_S_MAX", 0.2)
    slow = asyncio.create_task(said(port, b"GET /page HT"))

    assert status(await said(port, b"GET /page HTTP/1.1\r\n\r\n")) == 200
    assert await slow == b""


async def test_there_are_only_so_many_at_once(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    """One more than there may be is closed unheard; as soon as one is through, the next is answered."""
    monkeypatch.setattr(serving, "CONNECTIONS_MAX", 2)
    monkeypatch.setattr(serving, "READ_S_MAX", 0.3)
    slow = [asyncio.create_task(said(port, b"GET")) for _ in range(2)]
    await asyncio.sleep(0.1)
    try:
        refused = await said(port, b"GET /page HTTP/1.1\r\n\r\n")
    except ConnectionError:
        refused = b""
    await asyncio.gather(*slow)

    assert refused == b""
    assert status(await said(port, b"GET /page HTTP/1.1\r\n\r\n")) == 200


async def test_it_stops_with_requests_under_way() -> None:
    """Leaving the block ends what is half asked, at once, and nothing is served any more."""
    with listening("127.0.0.1", 0) as bound:
        assert bound is not None
        port = bound.getsockname()[1]
        async with serving.serving(bound, answer):
            slow = asyncio.create_task(said(port, b"GET"))
            await asyncio.sleep(0.1)
        async with asyncio.timeout(PATIENCE_S):
            with contextlib.suppress(ConnectionError):
                assert await slow == b""
    with pytest.raises(ConnectionError):
        await said(port, b"GET /page HTTP/1.1\r\n\r\n")


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_are_survived(head: bytes) -> None:
    """Whatever comes, the answer is a whole reply or none."""

    async def exchange() -> bytes:
        reader = asyncio.StreamReader(limit=serving.HEAD_BYTES_MAX)
        reader.feed_data(head + b"\r\n\r\n")
        reader.feed_eof()
        return await Server(answer)._reply(reader)

    assert status(asyncio.run(exchange())) in (200, 400, 404, 405, 500)


def test_an_address_in_use_is_an_error_with_code_2() -> None:
    """So is a host that is none; each says which option names another."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        for host, port in (("127.0.0.1", held.getsockname()[1]), ("no host.invalid", 1)):
            with pytest.raises(KernelError, match="--metrics-port names another") as caught, listening(host, port):
                pass
            assert caught.value.exit_code == 2


def test_without_a_port_nothing_is_bound() -> None:
    """No port, no socket."""
    with listening("127.0.0.1", None) as bound:
        assert bound is None
