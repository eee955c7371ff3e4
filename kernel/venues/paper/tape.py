"""Tapes: files of a market's trades, read exactly and in bounded memory, and played in time.

The format is that of Binance's public trade dumps: `id, price, qty, quote_qty, time, is_buyer_maker, is_best_match`, with
or without a header, time in milliseconds or microseconds (by its number of digits), plain, `.gz` or `.zip`. A row that
cannot be read exactly raises a `ValidationError` with file, line, column and value; nothing is skipped or rounded.
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
from kernel.errors import ValidationError
from kernel.order_spec import SymbolMetadata
from kernel.venues.paper.matching.config import Speed, TapeTrade

COLUMNS = ("id", "price", "qty", "quote_qty", "time", "is_buyer_maker")
"""The columns of a file without a header, in their order."""
NS_PER_UNIT = {13: 1_000_000, 16: 1_000}
"""Nanoseconds per unit of the time column, by its number of digits."""
BOOLEANS = {"true": True, "false": False}
TRADES_PER_YIELD = 256
"""Trades played without a pause before other tasks run."""
DIGITS_MAX = 19
"""Digits of a 64-bit integer."""
READ_ERRORS = (
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
"""Exceptions of the text, CSV, gzip and zip readers for damaged files."""
SHIPPED_SYMBOL = "BTCUSDT"
SHIPPED_TAPE = Path(__file__).parent / "data" / f"{SHIPPED_SYMBOL}-trades-paper.csv.gz"
"""A seeded random walk, not market data."""


def symbol_of(path: str | PathLike[str]) -> str:
    """Return the symbol that a tape's file name begins with, as in `BTCUSDT-trades-2024-08-08.csv`.

    Raises `ValidationError` if it does not begin with one.
    """
    found = re.match(r"([A-Z0-9]{2,32})-", Path(path).name)
    if found is None:
        if not Path(path).exists():
            raise ValidationError(f"`{path}`: no such file")
        raise ValidationError(
            f"the file name {Path(path).name} does not begin with a symbol (`BTCUSDT-trades-….csv`): give the symbol"
        )
    return found[1]


def read_tape(path: str | PathLike[str], symbol: SymbolMetadata) -> Iterator[TapeTrade]:
    """Yield a file's trades at the symbol's scales. Raises `ValidationError` if the file or a row is invalid."""
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
        except READ_ERRORS as error:
            raise _unreadable(Path(path), rows.line_num + 1, error) from error


async def play(
    trades: Iterable[TapeTrade], take: Callable[[TapeTrade], None], *, clock: Clock, speed: float | None
) -> None:
    """Pass each trade to `take` when it is due, the first at once.

    `speed` is a factor of the tape's own pace; None plays as fast as possible.
    """
    start_ns, first_ns, unbroken = clock.now_ns(), None, 0
    for trade in trades:
        first_ns = trade.time_ns if first_ns is None else first_ns
        due_ns = start_ns if speed is None else start_ns + round((trade.time_ns - first_ns) / speed)
        unbroken += 1
        if due_ns > clock.now_ns():
            await clock.sleep_until(due_ns)
            unbroken = 0
        elif unbroken % TRADES_PER_YIELD == 0:
            await asyncio.sleep(0)
        take(trade)


def repeated(open_tape: Callable[[], Iterable[TapeTrade]]) -> Iterator[TapeTrade]:
    """Repeat a tape forever; each round is shifted by the tape's length and one average gap."""
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
    """Return a speed as a factor; None for `max`."""
    if speed == "max":
        return None
    if isinstance(speed, str) or not speed > 0:
        raise ValidationError(f"speed {speed} is invalid: give a number above 0, `max` or `step`")
    return float(speed)


class _Row:
    """A row and its location."""

    def __init__(self, path: Path, line: int, cells: list[str], columns: dict[str, int]) -> None:
        self._path, self._line, self._cells, self._columns = path, line, cells, columns

    def __getitem__(self, column: str) -> str:
        index = self._columns[column]
        if index >= len(self._cells):
            raise self.invalid(column, "is missing")
        return self._cells[index].strip()

    def invalid(self, column: str, problem: str) -> ValidationError:
        return ValidationError(f"{self._path}, line {self._line}: {column} {problem}")


def _trade(row: _Row, symbol: SymbolMetadata) -> TapeTrade:
    maker = BOOLEANS.get(row["is_buyer_maker"].lower())
    if maker is None:
        raise row.invalid("is_buyer_maker", f"{row['is_buyer_maker']} is not True or False")
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
        raise row.invalid(column, f"{row[column]}: {error}") from error
    if value <= 0:
        raise row.invalid(column, f"{row[column]} is not above 0")
    return value


def _integer(row: _Row, column: str) -> int:
    text = row[column]
    if not (text.isascii() and text.isdecimal() and len(text) <= DIGITS_MAX):
        raise row.invalid(column, f"{text} is not an integer of at most {DIGITS_MAX} digits")
    return int(text)


def _instant_ns(row: _Row) -> int:
    value = _integer(row, "time")
    unit_ns = NS_PER_UNIT.get(len(row["time"]))
    if unit_ns is None:
        raise row.invalid("time", f"{row['time']} does not have 13 digits (milliseconds) or 16 (microseconds)")
    return value * unit_ns


def _columns(path: Path, row: list[str]) -> tuple[dict[str, int], bool]:
    """Return the index of each column, and whether this first row is a header."""
    if not row or row[0].strip()[:1].isdecimal():
        return {name: index for index, name in enumerate(COLUMNS)}, False
    names = [cell.strip().lower().removeprefix("\ufeff") for cell in row]
    missing = [name for name in COLUMNS if name not in names and name != "quote_qty"]
    if missing:
        raise ValidationError(f"{path}, line 1: the header {','.join(row)} lacks {', '.join(missing)}")
    return {name: names.index(name) for name in COLUMNS if name in names}, True


@contextmanager
def _text(path: Path) -> Iterator[IO[str]]:
    """Open the file as text, decompressing it on the fly."""
    try:
        with _binary(path) as binary, io.TextIOWrapper(binary, encoding="utf-8-sig", newline="") as text:
            yield text
    except ValidationError:
        raise
    except READ_ERRORS as error:
        raise _unreadable(path, 0, error) from error


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
        raise ValidationError(f"{path}: the archive has {len(names)} .csv files instead of 1")
    return names[0]


def _unreadable(path: Path, line: int, error: Exception) -> ValidationError:
    where = f"{path}, line {line}" if line else str(path)
    problem = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return ValidationError(f"{where}: cannot read the tape: {problem}")
