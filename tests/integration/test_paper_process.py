"""The paper exchange as a process: it survives `kill -9` with its journal, and no client can harm it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from kernel.clock import SystemClock
from kernel.errors import NotSent, OutcomeUnknown
from kernel.models import ExecType
from kernel.order_spec import OcoMode, OrderType
from kernel.values import as_json
from kernel.venues import ExecutionReport, FaultPlan, PaperConfig, PaperVenue
from kernel.venues.paper.faults import FaultSource, fault
from replay.log_access.atomic_files import write_whole
from tests.forked import Forked
from tests.paper_world import BUY, LAST, LOT, SELL, SYMBOL, cancel, group, limit, market, modify, submit

CLOCK = SystemClock()


class ExchangeProcess:
    """One run of the exchange process."""

    def __init__(self, process: Forked, address: str) -> None:
        self.process = process
        self.address = address

    @classmethod
    async def start(cls, *arguments: str) -> ExchangeProcess:
        """Start it; returns when it listens."""
        process = await asyncio.to_thread(Forked, "-m", "tests.paper_process", *arguments)
        assert process.stdout is not None
        return cls(process, (await asyncio.to_thread(process.stdout.readline)).decode().strip())

    async def kill(self, how: signal.Signals = signal.SIGKILL) -> tuple[int, str]:
        """End it with a signal; its exit code and what it said."""
        self.process.send_signal(how)
        return await self.end()

    async def end(self) -> tuple[int, str]:
        """Wait until it has ended; its exit code and what it said."""
        assert self.process.stderr is not None
        said = "" if self.process.stderr.closed else (await asyncio.to_thread(self.process.stderr.read)).decode()
        code = await asyncio.to_thread(self.process.wait)
        self.process.close()
        return code, said


@contextlib.asynccontextmanager
async def running(*arguments: str, listen: str = "127.0.0.1:0") -> AsyncIterator[ExchangeProcess]:
    """Run the process with a stepped tape."""
    run = await ExchangeProcess.start("--listen", listen, "--speed", "step", *arguments)
    try:
        yield run
    finally:
        await run.kill()


@contextlib.asynccontextmanager
async def connected(address: str, **options: Any) -> AsyncIterator[PaperVenue]:
    """Connect a venue."""
    venue = PaperVenue(address, **options)
    await venue.connect()
    try:
        yield venue
    finally:
        await venue.close()


async def a_day(venue: PaperVenue) -> None:
    """Orders of several kinds, trades on both sides, a cancel, a correction."""
    await venue.submit(submit("rests", limit(quantity=30 * LOT, price=LAST - 10), CLOCK))
    await venue.submit(submit("takes", market(quantity=50 * LOT), CLOCK))
    await venue.submit(submit("gone", limit(), CLOCK))
    await venue.cancel(cancel("gone", CLOCK))
    other = as_json(limit(SELL, quantity=10 * LOT, price=LAST - 10))
    await venue.admin("other_order", order=other)
    await venue.admin("correct", trade_id=1, price=LAST)


async def test_a_killed_exchange_restores_its_state(tmp_path: Path) -> None:
    """After `kill -9` and a restart orders, trades, balances, fills, ids and rejections are the same."""
    journal = str(tmp_path / "journal")
    async with running("--journal", journal) as run, connected(run.address) as venue:
        await a_day(venue)
        truth, before = await venue.truth(), await venue.snapshot(0, [])
        reports = venue.reports()
        await run.kill()
        assert [report.exec_type async for report in reports][-1] is ExecType.TRADE_CORRECT
        with pytest.raises(NotSent):
            await venue.submit(submit("late", limit(), CLOCK))
    async with running("--journal", journal) as run, connected(run.address) as venue:
        assert await venue.truth() == truth
        after = await venue.snapshot(0, [])
        assert (after.open_orders, after.fills, after.balances) == (before.open_orders, before.fills, before.balances)
        with pytest.raises(OutcomeUnknown) as caught:
            await venue.submit(submit("rests", limit(), CLOCK))
        assert caught.value.duplicate
        report = await venue.submit(submit("next", limit(), CLOCK))
        assert int(report.exchange_order_id or 0) > max(int(order["exchange_order_id"]) for order in truth["orders"])
        last_ns = max(fill.transact_time_ns or 0 for fill in before.fills)
        assert (report.transact_time_ns or 0) > last_ns


FULL = {
    "symbols": "full",
    "amend": "CANCEL_REPLACE",
    "amend_quantity": "REMAINING",
    "native_groups": ["ONE_CANCELS_OTHER", "ONE_TRIGGERS_OTHER"],
}


async def test_amends_stops_and_groups_are_restored(tmp_path: Path) -> None:
    """An exchange with all order types, killed between two fills, restores amends, stops and groups."""
    (tmp_path / "config.json").write_text(json.dumps(FULL))
    arguments = ("--journal", str(tmp_path / "journal"), "--config", str(tmp_path / "config.json"))
    stop = limit(SELL, quantity=60 * LOT, price=LAST + 300, order_type=OrderType.STOP_LIMIT, stop_price=LAST - 800)
    async with running(*arguments) as run, connected(run.address) as venue:
        assert venue.capabilities == PaperConfig.model_validate(FULL).capabilities()
        await venue.submit(submit("a", limit(quantity=50 * LOT), CLOCK))
        await venue.modify(modify("a", limit(quantity=40 * LOT), CLOCK, request_id="b"))
        entry, profit = limit(quantity=60 * LOT, price=LAST - 100), limit(SELL, quantity=60 * LOT, price=LAST + 500)
        await venue.submit_group(group(OcoMode.ONE_TRIGGERS_OTHER, CLOCK, entry=entry, profit=profit, loss=stop))
        await venue.admin("trade", symbol_id=SYMBOL, price=LAST - 101, quantity=20 * LOT)
        truth, before = await venue.truth(), await venue.snapshot(0, [])
        await run.kill()
    async with running(*arguments) as run, connected(run.address) as venue:
        assert await venue.truth() == truth
        assert (await venue.snapshot(0, [])).open_orders == before.open_orders
        await venue.admin("trade", symbol_id=SYMBOL, price=LAST - 101, quantity=30 * LOT)
        await venue.admin("trade", symbol_id=SYMBOL, price=LAST - 800, quantity=LOT)
        orders = {order["client_order_id"]: order for order in (await venue.truth())["orders"]}
    assert [orders[name]["quantity"] for name in ("b", "profit", "loss")] == [40 * LOT, 51 * LOT, 51 * LOT]
    assert (orders["a"]["status"], orders["loss"]["armed"]) == ("CANCELED", False)


async def test_nothing_acknowledged_is_lost_at_any_kill(tmp_path: Path) -> None:
    """After five kills under load every acknowledged order exists, once."""
    journal = str(tmp_path / "journal")
    answered: list[str] = []
    for number in range(5):
        async with running("--journal", journal) as run, connected(run.address) as venue:
            pouring = asyncio.create_task(pour(venue, f"r{number}", answered))
            while not any(name.startswith(f"r{number}-2") for name in answered):  # killed amid the requests, not before
                await asyncio.sleep(0.001)
            await run.kill()
            with pytest.raises((NotSent, OutcomeUnknown)):
                await pouring
    async with running("--journal", journal) as run, connected(run.address) as venue:
        there = [order["client_order_id"] for order in (await venue.truth())["orders"]]
    assert len(there) == len(set(there))
    assert set(answered) <= set(there)
    assert len(answered) > 10


async def pour(venue: PaperVenue, prefix: str, answered: list[str]) -> None:
    """Place and cancel orders until a call fails."""
    for number in range(1_000_000):
        name = f"{prefix}-{number}"
        await venue.submit(submit(name, limit(quantity=10 * LOT), CLOCK))
        answered.append(name)
        await venue.cancel(cancel(name, CLOCK))


async def test_it_listens_on_a_socket_file_and_ends_on_request(tmp_path: Path) -> None:
    """A path with a slash is a unix socket; SIGTERM ends the process with 0 and removes the file."""
    file = tmp_path / "exchange.sock"
    path = str(file)
    async with running(listen=path) as run:
        assert run.address == path
        async with connected(path) as venue:
            await venue.submit(submit("a", limit(), CLOCK))
            code, said = await (await ExchangeProcess.start("--listen", path)).end()
            assert (code, "another exchange" in said) == (6, True)
            assert await venue.order(SYMBOL, "a", None) is not None
        code, said = await run.kill(signal.SIGTERM)
    assert (code, said) == (0, "")
    assert not file.exists()


async def test_a_missing_exchange_is_not_sent(tmp_path: Path) -> None:
    """Connecting to a missing exchange raises `NotSent` with the address, and so does reading its capabilities."""
    venue = PaperVenue(str(tmp_path / "no.sock"))
    with pytest.raises(NotSent, match=r"no\.sock"):
        await venue.connect()
    with pytest.raises(NotSent):
        _ = venue.capabilities
    await venue.close()


async def test_a_cancelled_connect_leaves_no_connection(tmp_path: Path) -> None:
    """A `connect` that is cancelled while the exchange does not answer closes its connection."""
    asked, ended = asyncio.Event(), asyncio.Event()

    async def unresponsive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        asked.set()
        await reader.read()
        ended.set()
        writer.close()

    address = tmp_path / "silent.sock"
    async with asyncio.timeout(60), await asyncio.start_unix_server(unresponsive, address):
        connecting = asyncio.ensure_future(PaperVenue(str(address)).connect())
        await asked.wait()
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
        await ended.wait()


async def test_bad_options_are_one_line_errors(tmp_path: Path) -> None:
    """A missing tape, a bad journal and a taken address are one line each, with different exit codes."""
    write_whole(tmp_path / "journal", "nonsense\n")
    async with running() as other:
        for arguments, code, word in (
            (["--tape", str(tmp_path / "BTCUSDT-no.csv")], 5, "BTCUSDT-no.csv"),
            (["--speed", "fast"], 5, "fast"),
            (["--journal", str(tmp_path / "journal")], 1, "line 1"),
            (["--listen", other.address], 6, other.address),
            (["--listen", "nowhere"], 5, "nowhere"),
        ):
            run = await ExchangeProcess.start("--listen", "127.0.0.1:0", *arguments)
            returned, said = await run.end()
            assert (returned, word in said, said.count("\n")) == (code, True, 1)


async def test_malformed_requests_do_not_disturb_others() -> None:
    """A malformed line gets an error answer, an endless one is cut off, and other clients are served meanwhile."""
    async with running() as run, connected(run.address) as venue:
        host, port = run.address.rsplit(":", 1)
        reader, writer = await asyncio.open_connection(host, int(port))
        lines = ("nonsense", "[]", '{"id":1,"op":"submit"}', '{"id":2,"op":"dance"}', '{"id":3,"op":"order","params":[1]}',
                 '{"id":4,"op":"snapshot","since_ns":"x"}', "[" * 100_000, "\xff")  # fmt: skip
        for line in lines:
            writer.write(line.encode("latin-1") + b"\n")
            assert "error" in json.loads(await reader.readline())
        writer.write(b'{"id":9,"op":"order","symbol_id":"BTCUSDT","client_order_id":"a"}\n')
        assert json.loads(await reader.readline()) == {"id": 9, "result": None}
        writer.write(b"x" * 2 * 2**20)
        assert "longer" in json.loads(await reader.readline())["error"]["text"]
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        assert await venue.order(SYMBOL, "a", None) is None


async def test_a_script_of_faults_is_sent_on_connecting() -> None:
    """`faults=` of a client becomes the exchange's script once; another source of faults cannot be sent."""
    async with running() as run, connected(run.address, faults=FaultPlan([fault("server_error", "submit")])) as venue:
        with pytest.raises(OutcomeUnknown):
            await venue.submit(submit("a", limit(), CLOCK))
        await venue.connect()
        await venue.submit(submit("b", limit(), CLOCK))
        with pytest.raises(ValueError, match="script"):
            PaperVenue(run.address, faults=Mock(spec=FaultSource))


async def test_two_clients_share_one_account(tmp_path: Path) -> None:
    """Both get each other's reports and the tape's fills, in the same order."""
    async with running() as run, connected(run.address) as first, connected(run.address) as second:
        streams: list[AsyncIterator[ExecutionReport]] = [first.reports(), second.reports()]
        await first.submit(submit("a", limit(BUY, quantity=10 * LOT, price=LAST - 1), CLOCK))
        await second.submit(submit("b", limit(BUY, quantity=10 * LOT, price=LAST - 2), CLOCK))
        await first.admin("trade", symbol_id=SYMBOL, price=LAST - 50, quantity=15 * LOT)
        heard = [[await anext(stream) for _ in range(4)] for stream in streams]
        assert heard[0] == heard[1]
        assert [report.last_qty for report in heard[0]] == [None, None, 10 * LOT, 5 * LOT]
