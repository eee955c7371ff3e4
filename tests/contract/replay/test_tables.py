"""Tables of events, orders and fills as CSV and Parquet."""

from __future__ import annotations

import asyncio
import csv
import gzip
import io
import json
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from eventsourcing.persistence import StoredEvent

from kernel.errors import NotFoundError, ValidationError
from kernel.events import IntentDeleted, intent_stream
from kernel.log import EventLog, LogSettings, open_log
from kernel.log.backends.library import LibraryRecorder
from kernel.order_spec import Side
from replay import export_log
from tests.contract.backends import Backend
from tests.traded import DAY_1, DAY_2, Book


async def a_traded_log(backend: Backend | None = None) -> EventLog:
    """Three orders: one filled and corrected, one busted, one deleted before it was sent."""
    settings = LogSettings(page_rows=3)
    log = open_log("memory://", exchange_id="x", settings=settings) if backend is None else backend.open()
    book = Book(log)
    await book.open()
    await book.order("b", Side.BUY, 200_000_000, 100_00, owner="mm-1")
    await book.order("x", Side.SELL, 2**64 - 1, 105_00)
    await book.order("d", Side.SELL, 7, 5, symbol_id="NEW")
    await book.fill("b", "t1", 100_000_000, 100_00, fee=10_000_000)
    await book.fill("b", "t1", 100_000_000, 100_00, fee=10_000_000)  # told twice
    await book.fill("x", 't"2,\n', 2**64 - 1, 105_00, at=None)
    await book.correct("b", "t3", "t1", 50_000_000, 99_00, fee=1)
    await book.bust("x", "t4", 't"2,\n')
    await book.record(intent_stream("d"), IntentDeleted(intent_id="d"))
    return log


def csv_of(path: Path) -> list[dict[str, str]]:
    """Read a CSV file."""
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline="")))


async def csv_rows(log: EventLog, path: Path, what: str) -> list[dict[str, str]]:
    """Export a table as CSV and read it."""
    await export_log(log, path, format="csv", what=what)
    return csv_of(path)


async def test_fills_are_the_booked_entries(backend: Backend, tmp_path: Path) -> None:
    """Each trade is one row, a correction a reversal and a new trade, a bust a reversal; decimals are exact."""
    async with await a_traded_log(backend) as log:
        rows = await csv_rows(log, tmp_path / "f.csv", "fills")
    columns = ("kind", "intent_id", "owner", "side", "quantity", "quantity_scaled", "price", "fee", "fill_key")
    assert [tuple(row[column] for column in columns) for row in rows] == [
        ("FILL", "b", "mm-1", "BUY", "1.00000000", "100000000", "100.00", "0.10000000", "t1"),
        ("FILL", "x", "", "SELL", "184467440737.09551615", str(2**64 - 1), "105.00", "", 't"2,\n'),
        ("CORRECTION", "b", "mm-1", "BUY", "-1.00000000", "-100000000", "100.00", "-0.10000000", "t3"),
        ("CORRECTION", "b", "mm-1", "BUY", "0.50000000", "50000000", "99.00", "0.00000001", "t3"),
        ("BUST", "x", "", "SELL", "-184467440737.09551615", str(1 - 2**64), "105.00", "", "t4"),
    ]
    assert (rows[0]["transact_time_ns"], rows[0]["transact_time"]) == (str(DAY_1), "2026-01-31T12:00:00.000000Z")
    assert (rows[1]["transact_time_ns"], rows[1]["transact_time"]) == ("", "")
    assert rows[4]["transact_time_ns"] == str(DAY_2)


async def test_orders_have_their_terms_and_state(backend: Backend, tmp_path: Path) -> None:
    """Each intent, even a deleted one, is a row in order of creation; unknown scales leave only the integers."""
    async with await a_traded_log(backend) as log:
        rows = await csv_rows(log, tmp_path / "o.csv", "orders")
    columns = ("intent_id", "owner", "desired", "quantity", "price_scaled", "ord_status", "cum_qty", "cum_notional")
    assert [tuple(row[column] for column in columns) for row in rows] == [
        ("b", "mm-1", "WORKING", "2.00000000", "10000", "PARTIALLY_FILLED", "0.50000000", "49.5000000000"),
        ("x", "", "WORKING", "184467440737.09551615", "10500", "NEW", "0.00000000", "0.0000000000"),
        ("d", "", "DELETED", "", "5", "PENDING_NEW", "", ""),
    ]


async def test_orders_up_to_a_position_exclude_later_events(backend: Backend, tmp_path: Path) -> None:
    """Events after the position have no effect."""
    async with await a_traded_log(backend) as log:
        positions = {row.topic: row.position async for rows in log.read() for row in rows}
        await export_log(log, tmp_path / "o.csv", format="csv", what="orders", upto=positions["FillCorrected"] - 1)
    assert next(row["cum_qty"] for row in csv_of(tmp_path / "o.csv")) == "1.00000000"
    assert [row["desired"] for row in csv_of(tmp_path / "o.csv")] == ["WORKING"] * 3


async def test_events_have_the_stored_text(backend: Backend, tmp_path: Path) -> None:
    """Each event is a row with the stored payload and envelope, and hashes in hex."""
    async with await a_traded_log(backend) as log:
        recorder: Any = getattr(log, "recorder", None)
        theirs = StoredEvent("theirs", 0, "Somebody:Theirs", '{"x":"é\u2028"}'.encode())
        await asyncio.to_thread(LibraryRecorder(recorder).insert_events, [theirs])
        stored = [row async for rows in log.read() for row in rows]
        rows = await csv_rows(log, tmp_path / "e.csv", "events")
    assert [int(row["position"]) for row in rows] == [row.position for row in stored]
    assert [row["state"].encode() for row in rows] == [row.state for row in stored]
    assert [row["meta"].encode() for row in rows] == [row.meta for row in stored]
    assert [bytes.fromhex(row["chain_hash"]) for row in rows] == [row.chain_hash for row in stored]
    assert {row["actor"] for row in rows} == {"kernel", "venue:paper", "library"}


@pytest.mark.parametrize("what", ["events", "orders", "fills"])
async def test_parquet_equals_csv(what: str, tmp_path: Path) -> None:
    """Parquet has the same rows, with typed integers and exact decimals."""
    parquet = pytest.importorskip("pyarrow.parquet", reason="the extra `parquet` is not installed")
    async with await a_traded_log() as log:
        expected = await csv_rows(log, tmp_path / "t.csv", what)
        await export_log(log, tmp_path / "t.parquet", format="parquet", what=what)
    table = parquet.read_table(tmp_path / "t.parquet")
    assert [{name: cell(value) for name, value in row.items()} for row in table.to_pylist()] == [
        {name: cell(value) for name, value in row.items()} for row in expected
    ]
    kinds = {str(kind) for kind in table.schema.types}
    assert kinds <= {"int64", "uint64", "string", "decimal128(38, 18)", "decimal128(38, 0)"}


def cell(value: Any) -> str:
    """Format a value as text, decimals without trailing zeros."""
    if value is None:
        return ""
    text = f"{value:f}" if isinstance(value, Decimal) else str(value)
    is_decimal = text.replace(".", "", 1).lstrip("-").isdecimal() and "." in text
    return text.rstrip("0").rstrip(".") if is_decimal else text


async def test_parquet_comes_in_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded by a row group, and no row is lost between two."""
    parquet = pytest.importorskip("pyarrow.parquet", reason="the extra `parquet` is not installed")
    monkeypatch.setattr("replay.transfer.table_writers.GROUP_ROWS", 4)
    async with await a_traded_log() as log:
        await export_log(log, tmp_path / "t.parquet", format="parquet")
        head = await log.head()
    written = parquet.ParquetFile(tmp_path / "t.parquet")
    assert written.num_row_groups > 2
    assert written.read().column("position").to_pylist() == list(range(1, head.position + 1))


async def test_without_pyarrow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parquet without pyarrow is an error that names the extra, and leaves no file."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    async with await a_traded_log() as log:
        with pytest.raises(NotFoundError, match=r"exchange-kernel\[parquet\]"):
            await export_log(log, tmp_path / "t.parquet", format="parquet")
    assert list(tmp_path.glob("*")) == []  # noqa: ASYNC240  # a look at the end


async def test_a_table_of_an_empty_log_has_its_header(tmp_path: Path) -> None:
    """A table without rows has its header."""
    async with open_log("memory://", exchange_id="x") as log:
        assert await csv_rows(log, tmp_path / "f.csv", "fills") == []
        await export_log(log, tmp_path / "f.csv.gz", format="csv", what="fills")
    assert gzip.decompress((tmp_path / "f.csv.gz").read_bytes()) == (tmp_path / "f.csv").read_bytes()
    assert (tmp_path / "f.csv").read_text().startswith("position,recorded_at_ns,recorded_at,")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"format": "xml"}, "format 'xml' is unknown: use jsonl, csv, parquet"),
        ({"what": "trades"}, "what 'trades' is unknown: use events, orders, fills"),
        ({"what": "orders"}, "csv or parquet for orders"),
        ({"format": "parquet", "path": "-"}, "Parquet cannot be written to -"),
        ({"format": "parquet", "path": "x.gz"}, r"Parquet cannot be written to .*x\.gz"),
    ],
)
async def test_an_impossible_export_is_rejected(asked: dict[str, str], message: str, tmp_path: Path) -> None:
    """An invalid choice is an error that names the valid ones, and nothing is written."""
    given = {"path": "out", **asked}
    path = given.pop("path")
    async with open_log("memory://", exchange_id="x") as log:
        with pytest.raises(ValidationError, match=message):
            await export_log(log, path if path == "-" else tmp_path / path, **given)
    assert list(tmp_path.glob("*")) == []  # noqa: ASYNC240  # a look at the end


async def test_json_of_an_event_in_a_table_is_one_value(tmp_path: Path) -> None:
    """The payload's column is the stored JSON."""
    async with await a_traded_log() as log:
        rows = await csv_rows(log, tmp_path / "e.csv", "events")
    assert json.loads(rows[0]["state"])["exchange_id"] == "x"
