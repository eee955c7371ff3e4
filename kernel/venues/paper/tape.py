"""Tapes: files of a market's trades, read exactly and with bounded memory, and played in time.

`paper_exchange` plays one; others may read one. The format is that of Binance's public trade dumps: `id, price, qty,
quote_qty, time, is_buyer_maker, is_best_match`, with a header or without, time in milliseconds or microseconds by its
number of digits, plain, `.gz` or `.zip`. A row that can't be read exactly is a `ValidationError` that names the file, the
line, the column and the value; nothing is skipped or rounded.
"""

from __future__ import annotations

import asyncio
import csv
import gzip
import io
import lzma
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import IO

from kernel.clock import Clock
from kernel.errors import ValidationError, Violation
from kernel.order_spec import SymbolMetadata
from kernel.venues.paper.matching.config import Speed, TapeTrade

COLUMNS = ("id", "price", "qty", "quote_qty", "time", "is_buyer_maker")
"""The columns without which a row says too little, in the order of a file without a header."""
NS_PER_UNIT = {13: 1_000_000, 16: 1_000}
"""Nanoseconds of one unit of time, by the digits of today's instants in that unit."""
BOOLEANS = {"true": True, "false": False}
BREATH = 256
"""Trades between two chances for everybody else, when nothing waits for time."""
DIGITS_MAX = 19
"""Digits of a whole number in a row: what 64 bits hold."""
DAMAGE = (
    csv.Error,
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
    lzma.LZMAError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
"""What the readers of text, CSV, gzip and zip raise for bytes that they cannot read."""
SHIPPED_SYMBOL = "BTCUSDT"
SHIPPED_TAPE = Path(__file__).parent / "data" / f"{SHIPPED_SYMBOL}-trades-paper.csv.gz"
"""The tape that comes with the project; `paper_tape_maker` made it."""


def symbol_of(path: str | PathLike[str]) -> str:
    """The symbol that a tape's file name begins with, as in `BTCUSDT-trades-2024-08-08.csv`."""
    found = re.match(r"([A-Z0-9]{2,32})-", Path(path).name)
    if found is None:
        exists = Path(path).exists()
        text = "`{value}`: the file name shows no symbol; {limit}" if exists else "`{value}`: no such file"
        limit = "name it SYMBOL-trades-….csv or give the symbol"
        raise ValidationError(violations=[Violation("symbol", "file name", limit, str(path), text)])
    return found[1]


def read_tape(path: str | PathLike[str], symbol: SymbolMetadata) -> Iterator[TapeTrade]:
    """The trades of a file, in its order. `ValidationError` at the first row that is bad."""
    with _text(Path(path)) as text:
        rows = csv.reader(text)
        columns: dict[str, int] | None = None
        try:
            for row in rows:
                if columns is None:
                    columns, is_header = _columns(Path(path), row)
                    if is_header:
                        continue
                if row:
                    yield _trade(_Row(Path(path), rows.line_num, row, columns), symbol)
        except ValidationError:
            raise
        except DAMAGE as error:
            raise _unreadable(Path(path), rows.line_num + 1, str(error)) from error


async def play(
    trades: Iterable[TapeTrade], take: Callable[[TapeTrade], None], *, clock: Clock, speed: float | None
) -> None:
    """Hand each trade over when its time comes: the first at once, the others as much later as on the tape, divided by
    the speed; as fast as they can be read when there is no speed."""
    start_ns, first_ns, unbroken = clock.now_ns(), None, 0
    for trade in trades:
        first_ns = trade.time_ns if first_ns is None else first_ns
        due_ns = start_ns if speed is None else start_ns + round((trade.time_ns - first_ns) / speed)
        unbroken += 1
        if due_ns > clock.now_ns():
            await clock.sleep_until(due_ns)
            unbroken = 0
        elif unbroken % BREATH == 0:
            await asyncio.sleep(0)
        take(trade)


def repeated(open_tape: Callable[[], Iterable[TapeTrade]]) -> Iterator[TapeTrade]:
    """A tape without end: again from its beginning, each round later by the tape's length and one average gap."""
    shift_ns = shift_id = 0
    while True:
        first: TapeTrade | None = None
        last: TapeTrade | None = None
        count = 0
        for trade in open_tape():
            first, last, count = first or trade, trade, count + 1
            yield trade._replace(time_ns=trade.time_ns + shift_ns, trade_id=trade.trade_id + shift_id)
        if first is None or last is None:
            return
        length_ns = max(last.time_ns - first.time_ns, 1)
        shift_ns += length_ns + max(length_ns // max(count - 1, 1), 1)
        shift_id += last.trade_id - first.trade_id + 1


def pace(speed: Speed) -> float | None:
    """A speed as a factor; None for as fast as can be. `ValidationError` for what is no speed."""
    if speed == "max":
        return None
    if isinstance(speed, str) or not speed > 0:
        raise ValidationError(violations=[Violation("speed", "value", "a number above 0, max or step", str(speed))])
    return float(speed)


class _Row:
    """One row, and where it stands."""

    def __init__(self, path: Path, line: int, cells: list[str], columns: dict[str, int]) -> None:
        self._path, self._line, self._cells, self._columns = path, line, cells, columns

    def __getitem__(self, column: str) -> str:
        index = self._columns[column]
        if index >= len(self._cells):
            raise self.bad(column, "a value", "nothing")
        return self._cells[index].strip()

    def bad(self, column: str, limit: str, value: str) -> ValidationError:
        return ValidationError(f"{self._path}, line {self._line}", [Violation(column, "format", limit, value)])


def _trade(row: _Row, symbol: SymbolMetadata) -> TapeTrade:
    maker = BOOLEANS.get(row["is_buyer_maker"].lower())
    if maker is None:
        raise row.bad("is_buyer_maker", "True or False", row["is_buyer_maker"])
    return TapeTrade(
        trade_id=_integer(row, "id"),
        price=_scaled(row, "price", symbol.price_from_decimal),
        quantity=_scaled(row, "qty", symbol.quantity_from_decimal),
        time_ns=_instant_ns(row),
        buyer_is_maker=maker,
    )


def _scaled(row: _Row, column: str, convert: Callable[[str], int]) -> int:
    try:
        value = convert(row[column])
    except ValidationError as error:
        raise row.bad(column, f"of the symbol's scale ({error})", row[column]) from error
    if value <= 0:
        raise row.bad(column, "above 0", row[column])
    return value


def _integer(row: _Row, column: str) -> int:
    text = row[column]
    if not (text.isascii() and text.isdecimal() and len(text) <= DIGITS_MAX):
        raise row.bad(column, "a whole number", text)
    return int(text)


def _instant_ns(row: _Row) -> int:
    value = _integer(row, "time")
    unit_ns = NS_PER_UNIT.get(len(row["time"]))
    if unit_ns is None:
        raise row.bad("time", "13 digits (milliseconds) or 16 (microseconds)", row["time"])
    return value * unit_ns


def _columns(path: Path, row: list[str]) -> tuple[dict[str, int], bool]:
    """Where each column stands, and whether this first row is a header."""
    if not row or row[0].strip()[:1].isdecimal():
        return {name: index for index, name in enumerate(COLUMNS)}, False
    names = [cell.strip().lower().removeprefix("\ufeff") for cell in row]
    missing = [name for name in COLUMNS if name not in names and name != "quote_qty"]
    if missing:
        text = "no column {field} in the header `{value}`"
        found = [Violation(name, "presence", "a column", ",".join(row), text) for name in missing]
        raise ValidationError(f"{path}, line 1", found)
    return {name: names.index(name) for name in COLUMNS if name in names}, True


@contextmanager
def _text(path: Path) -> Iterator[IO[str]]:
    """The file's text, unpacked as it is read."""
    try:
        with _binary(path) as binary, io.TextIOWrapper(binary, encoding="utf-8-sig", newline="") as text:
            yield text
    except ValidationError:
        raise
    except DAMAGE as error:
        raise _unreadable(path, 0, str(error)) from error


@contextmanager
def _binary(path: Path) -> Iterator[IO[bytes]]:
    if path.suffix == ".gz":
        with path.open("rb") as packed, io.BufferedReader(gzip.GzipFile(fileobj=packed)) as binary:
            yield binary
    elif path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive, archive.open(_only_member(path, archive)) as binary:
            yield binary
    else:
        with path.open("rb") as binary:
            yield binary


def _only_member(path: Path, archive: zipfile.ZipFile) -> str:
    names = [name for name in archive.namelist() if name.endswith(".csv")]
    if len(names) != 1:
        raise _unreadable(path, 0, f"{len(names)} .csv files inside, expected 1")
    return names[0]


def _unreadable(path: Path, line: int, why: str) -> ValidationError:
    where = f", line {line}" if line else ""
    text = "cannot be read as {limit}: {value}"
    return ValidationError(f"{path}{where}", [Violation("tape", "format", "a CSV of trades", why, text)])
