"""A log as CSV and Parquet: events, orders and fills with columns made for people, streamed."""

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
from kernel.order_spec import Side
from replay import export_log
from tests.contract.backends import Backend
from tests.traded import DAY_1, DAY_2, Book


async def a_traded_log(backend: Backend | None = None) -> EventLog:
    """Three orders: one filled and corrected, one busted, one deleted before anything came of it."""
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
    """The rows of a CSV file by column."""
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline="")))


async def csv_rows(log: EventLog, path: Path, what: str) -> list[dict[str, str]]:
    """A table as CSV, read back."""
    await export_log(log, path, format="csv", what=what)
    return csv_of(path)


async def test_fills_are_what_was_booked(backend: Backend, tmp_path: Path) -> None:
    """Each trade once, a correction as what it takes and what it puts, a bust as its opposite; exact decimals."""
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


async def test_orders_are_what_was_wanted_and_what_came_of_it(backend: Backend, tmp_path: Path) -> None:
    """One row for each intent in order of creation, a deleted one too; unknown scales leave the integers."""
    async with await a_traded_log(backend) as log:
        rows = await csv_rows(log, tmp_path / "o.csv", "orders")
    columns = ("intent_id", "owner", "desired", "quantity", "price_scaled", "ord_status", "cum_qty", "cum_notional")
    assert [tuple(row[column] for column in columns) for row in rows] == [
        ("b", "mm-1", "WORKING", "2.00000000", "10000", "PARTIALLY_FILLED", "0.50000000", "49.5000000000"),
        ("x", "", "WORKING", "184467440737.09551615", "10500", "NEW", "0.00000000", "0.0000000000"),
        ("d", "", "DELETED", "", "5", "PENDING_NEW", "", ""),
    ]


async def test_orders_up_to_a_position_are_as_they_were_then(backend: Backend, tmp_path: Path) -> None:
    """Nothing of what came later shows."""
    async with await a_traded_log(backend) as log:
        positions = {row.topic: row.position async for rows in log.read() for row in rows}
        await export_log(log, tmp_path / "o.csv", format="csv", what="orders", upto=positions["FillCorrected"] - 1)
    assert next(row["cum_qty"] for row in csv_of(tmp_path / "o.csv")) == "1.00000000"
    assert [row["desired"] for row in csv_of(tmp_path / "o.csv")] == ["WORKING"] * 3


async def test_events_have_the_stored_text(backend: Backend, tmp_path: Path) -> None:
    """A row for each event; payload and envelope are what is stored, hashes are hex."""
    async with await a_traded_log(backend) as log:
        recorder: Any = getattr(log, "recorder", None)
        theirs = StoredEvent("theirs", 0, "Somebody:Theirs", '{"x":"é\u2028"}'.encode())
        await asyncio.to_thread(recorder.insert_events, [theirs])
        stored = [row async for rows in log.read() for row in rows]
        rows = await csv_rows(log, tmp_path / "e.csv", "events")
    assert [int(row["position"]) for row in rows] == [row.position for row in stored]
    assert [row["state"].encode() for row in rows] == [row.state for row in stored]
    assert [row["meta"].encode() for row in rows] == [row.meta for row in stored]
    assert [bytes.fromhex(row["chain_hash"]) for row in rows] == [row.chain_hash for row in stored]
    assert {row["actor"] for row in rows} == {"kernel", "venue:paper", "library"}


@pytest.mark.parametrize("what", ["events", "orders", "fills"])
async def test_parquet_says_what_csv_says(what: str, tmp_path: Path) -> None:
    """The same rows, with integers as integers and decimals as exact decimals."""
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
    """A value as text; decimals without the zeros that a scale brings."""
    if value is None:
        return ""
    text = f"{value:f}" if isinstance(value, Decimal) else str(value)
    is_decimal = text.replace(".", "", 1).lstrip("-").isdecimal() and "." in text
    return text.rstrip("0").rstrip(".") if is_decimal else text


async def test_parquet_comes_in_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is held before it is written is bounded by the group, and nothing is lost between two."""
    parquet = pytest.importorskip("pyarrow.parquet", reason="the extra `parquet` is not installed")
    monkeypatch.setattr("replay.transfer.table_writers.GROUP_ROWS", 4)
    async with await a_traded_log() as log:
        await export_log(log, tmp_path / "t.parquet", format="parquet")
        head = await log.head()
    written = parquet.ParquetFile(tmp_path / "t.parquet")
    assert written.num_row_groups > 2
    assert written.read().column("position").to_pylist() == list(range(1, head.position + 1))


async def test_without_pyarrow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parquet without its library is a clear error, and leaves no file."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    async with await a_traded_log() as log:
        with pytest.raises(NotFoundError, match=r"exchange-kernel\[parquet\]"):
            await export_log(log, tmp_path / "t.parquet", format="parquet")
    assert list(tmp_path.glob("*")) == []  # noqa: ASYNC240  # a look at the end


async def test_a_table_of_an_empty_log_has_its_header(tmp_path: Path) -> None:
    """No rows are no error."""
    async with open_log("memory://", exchange_id="x") as log:
        assert await csv_rows(log, tmp_path / "f.csv", "fills") == []
        await export_log(log, tmp_path / "f.csv.gz", format="csv", what="fills")
    assert gzip.decompress((tmp_path / "f.csv.gz").read_bytes()) == (tmp_path / "f.csv").read_bytes()
    assert (tmp_path / "f.csv").read_text().startswith("position,recorded_at_ns,recorded_at,")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"format": "xml"}, "format `xml`: must be one of jsonl, csv, parquet"),
        ({"what": "trades"}, "what `trades`: must be one of events, orders, fills"),
        ({"what": "orders"}, "csv or parquet for orders"),
        ({"format": "parquet", "path": "-"}, "must be an uncompressed file for Parquet"),
        ({"format": "parquet", "path": "x.gz"}, "must be an uncompressed file for Parquet"),
    ],
)
async def test_what_can_not_be_exported_is_said(asked: dict[str, str], message: str, tmp_path: Path) -> None:
    """A wrong choice is refused with those that there are, and nothing is written."""
    given = {"path": "out", **asked}
    path = given.pop("path")
    async with open_log("memory://", exchange_id="x") as log:
        with pytest.raises(ValidationError, match=message):
            await export_log(log, path if path == "-" else tmp_path / path, **given)
    assert list(tmp_path.glob("*")) == []  # noqa: ASYNC240  # a look at the end


async def test_json_of_an_event_in_a_table_is_one_value(tmp_path: Path) -> None:
    """The payload's column parses as the JSON that is stored."""
    async with await a_traded_log() as log:
        rows = await csv_rows(log, tmp_path / "e.csv", "events")
    assert json.loads(rows[0]["state"])["exchange_id"] == "x"
