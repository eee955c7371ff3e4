"""Tapes: every form of the files is read exactly, every bad row is named, and time is kept when they play."""

from __future__ import annotations

import asyncio
import gzip
import os
import tracemalloc
import zipfile
from itertools import islice, pairwise
from pathlib import Path

import pytest

from kernel.clock import NS_PER_S, LoopClock
from kernel.errors import ValidationError
from kernel.venues.paper.matching.config import TapeTrade, built_in_symbols
from kernel.venues.paper.tape import SHIPPED_TAPE, pace, play, read_tape, repeated, symbol_of
from kernel.venues.paper.tape_generator import TRADES, lines, write

BTC = built_in_symbols()[0]
HEADER = "id,price,qty,quote_qty,time,is_buyer_maker,is_best_match"
ROW = "3735683259,61837.63,0.02,1236.7526,1723161255342,True,True"
TRADE = TapeTrade(3735683259, 6_183_763, 2_000_000, 1_723_161_255_342_000_000, buyer_is_maker=True)


def tape(folder: Path, *rows: str, name: str = "BTCUSDT-trades-2024-08-08.csv") -> Path:
    """A file with these lines."""
    path = folder / name
    path.write_text("\n".join(rows) + "\n")
    return path


@pytest.mark.parametrize(
    "rows",
    [(HEADER, ROW), (ROW,), (ROW, ""), (HEADER.upper(), ROW), (ROW.rpartition(",")[0],),
     ("time,id,is_buyer_maker,qty,price", "1723161255342,3735683259,true,0.02000000,61837.63000000"),
     (ROW.replace("1723161255342", "1723161255342000"),)],
    ids=["header", "bare", "empty line", "upper case", "no best match", "other order", "microseconds"],
)  # fmt: skip
def test_rows_are_read_in_every_form(tmp_path: Path, rows: tuple[str, ...]) -> None:
    """Header or not, milliseconds or microseconds, trailing zeros or none: the same trade."""
    assert list(read_tape(tape(tmp_path, *rows), BTC)) == [TRADE]


def test_packed_files_are_read(tmp_path: Path) -> None:
    """.gz and .zip are read like the plain file."""
    plain = tape(tmp_path, HEADER, ROW)
    packed = tmp_path / "BTCUSDT-trades.csv.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    zipped = tmp_path / "BTCUSDT-trades.zip"
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.write(plain, plain.name)
    assert list(read_tape(packed, BTC)) == list(read_tape(zipped, BTC)) == [TRADE]


@pytest.mark.parametrize(
    ("row", "column", "value"),
    [
        (ROW.replace("61837.63", "61837.631"), "price", "61837.631"),
        (ROW.replace("61837.63", "abc"), "price", "abc"),
        (ROW.replace("61837.63", "-1"), "price", "-1"),
        (ROW.replace("61837.63", "0"), "price", "0"),
        (ROW.replace("61837.63", "nan"), "price", "nan"),
        (ROW.replace("0.02", "0.020000001"), "qty", "0.020000001"),
        (ROW.replace("0.02", "99999999999999999"), "qty", "99999999999999999"),
        (ROW.replace("1723161255342", "1723161255"), "time", "1723161255"),
        (ROW.replace("1723161255342", "yesterday"), "time", "yesterday"),
        (ROW.replace("3735683259", "1.5"), "id", "1.5"),
        (ROW.replace("True,True", "1,True"), "is_buyer_maker", "1"),
        ("3735683260,61837.63", "is_buyer_maker", "nothing"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, row: str, column: str, value: str) -> None:
    """The error has the file, the line, the column and the value; the rows before it are read."""
    path = tape(tmp_path, HEADER, ROW, row)
    trades = read_tape(path, BTC)
    assert next(trades) == TRADE
    with pytest.raises(ValidationError) as caught:
        next(trades)
    for part in (str(path), "line 3", column, value):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("BTCUSDT-a.csv", None),
        ("BTCUSDT-a.csv", b"id,price\n1,2\n"),
        ("BTCUSDT-a.csv", b"\xff\xfe\x00\n"),
        ("BTCUSDT-a.csv.gz", b"no gzip"),
        ("BTCUSDT-a.zip", b"no zip"),
        ("BTCUSDT-a.csv.gz", gzip.compress(ROW.encode() * 100)[:60]),
    ],
    ids=["missing", "header without columns", "no text", "no gzip", "no zip", "torn gzip"],
)
def test_a_file_that_is_no_tape_is_named(tmp_path: Path, name: str, content: bytes | None) -> None:
    """Whatever is wrong with a file is a `ValidationError` with its path."""
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValidationError, match=name):
        list(read_tape(path, BTC))


def test_the_symbol_is_in_the_file_name(tmp_path: Path) -> None:
    """Binance's names begin with it; the error for another name says what is missing."""
    assert symbol_of("/data/ETHUSDT-trades-2024-08-08.zip") == "ETHUSDT"
    with pytest.raises(ValidationError, match="`nope\\.csv`: no such file"):
        symbol_of("nope.csv")
    with pytest.raises(ValidationError, match="give the symbol"):
        symbol_of(tmp_path)


def test_reading_needs_no_memory_for_the_file(tmp_path: Path) -> None:
    """A tape of 5 MB is read within 1 MB."""
    path = tape(tmp_path, *[ROW] * 80_000)
    tracemalloc.start()
    try:
        assert sum(1 for _ in islice(read_tape(path, BTC), 20_000)) == 20_000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**20


def test_the_shipped_tape_is_what_its_maker_makes(tmp_path: Path) -> None:
    """The file in the package is the maker's, line for line, and is read whole."""
    assert gzip.decompress(SHIPPED_TAPE.read_bytes()).decode().splitlines() == list(lines())
    trades = list(read_tape(SHIPPED_TAPE, BTC))
    assert len(trades) == TRADES
    assert 55 * NS_PER_S < trades[-1].time_ns - trades[0].time_ns < 65 * NS_PER_S
    write(tmp_path / "again.gz")
    assert gzip.decompress((tmp_path / "again.gz").read_bytes()) == gzip.decompress(SHIPPED_TAPE.read_bytes())


@pytest.mark.skipif("KERNEL_TAPE" not in os.environ, reason="KERNEL_TAPE names no tape")
def test_a_real_tape_is_read_whole() -> None:
    """Every row of the tape that is given is read, in order of time."""
    path = os.environ["KERNEL_TAPE"]
    trades = list(read_tape(path, BTC))
    assert trades
    assert all(earlier.time_ns <= later.time_ns for earlier, later in pairwise(trades))


def some(*times_s: float) -> list[TapeTrade]:
    """Trades at these instants."""
    return [
        TapeTrade(number, 100, 1, round(time_s * NS_PER_S), buyer_is_maker=True)
        for number, time_s in enumerate(times_s)
    ]


def test_a_repeated_tape_never_goes_back_in_time() -> None:
    """Each round comes later by the tape's length and one average gap, under new trade ids."""
    rounds = list(islice(repeated(lambda: some(10, 11, 14)), 7))
    assert [trade.time_ns / NS_PER_S for trade in rounds] == [10, 11, 14, 16, 17, 20, 22]
    assert [trade.trade_id for trade in rounds] == list(range(7))


def test_an_empty_tape_repeated_ends() -> None:
    """Nothing, again and again, is nothing."""
    assert list(repeated(list)) == []


@pytest.mark.looptime
@pytest.mark.parametrize(("speed", "length_s"), [(1, 4.0), (4, 1.0), (None, 0.0)])
async def test_a_tape_plays_at_its_pace(speed: float | None, length_s: float) -> None:
    """At N times the speed the gaps are an Nth; without a speed there are none."""
    clock = LoopClock()
    start_ns = clock.now_ns()
    played: list[float] = []
    await play(some(10, 11, 14), lambda _: played.append(clock.now_ns() - start_ns), clock=clock, speed=speed)
    assert [round(at / NS_PER_S, 3) for at in played] == [0, length_s / 4, length_s]


async def test_a_tape_at_full_speed_lets_others_run() -> None:
    """A long tape without pauses does not hold the loop."""
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.get_running_loop().create_task(others())
    await play((trade for trade in some(*range(5_000))), lambda _: None, clock=LoopClock(), speed=None)
    task.cancel()
    assert turns > 10


def test_speeds() -> None:
    """A speed is a number above 0 or `max`."""
    assert pace(2) == 2.0
    assert pace("max") is None
    for bad in (0, -1, "fast", float("nan")):
        with pytest.raises(ValidationError):
            pace(bad)  # type: ignore[arg-type]  # what the type forbids is what is tested
