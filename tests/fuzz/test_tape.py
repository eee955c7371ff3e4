"""The tape reader accepts any file: it yields trades, or raises a `ValidationError` that names the file."""

from __future__ import annotations

import gzip
import io
import tempfile
import zipfile
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st

from kernel.errors import ValidationError
from kernel.venues.paper.matching.config import TapeTrade, built_in_symbols
from kernel.venues.paper.tape import read_tape
from tests.fuzz.mutations import ODD_TEXTS, damaged, fuzzed

BTC = built_in_symbols()[0]
HEADER = "id,price,qty,quote_qty,time,is_buyer_maker,is_best_match"
ROWS = [f"{3735683259 + n},61837.6{n % 10},0.02,1236.7526,{1723161255342 + n},True,True" for n in range(30)]
PLAIN = "\n".join([HEADER, *ROWS, ""]).encode()
PACKED = gzip.compress(PLAIN, mtime=0)
CELLS = st.sampled_from((
    *ODD_TEXTS, "61837.63", "1723161255342", "True", "false", "1e999999999", "1e-999999999", "0x10", "1_000", "١٢٣", "sNaN",
    "9" * 25, "9" * 5_000, "0." + "0" * 5_000 + "1", "9" * 200_000, '"', '"a', "a,b", "-0", "+1",
)).map(lambda text: text.encode(errors="replace").decode())  # fmt: skip


def zipped(method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """The tape in a zip archive."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as archive:
        archive.writestr(zipfile.ZipInfo("BTCUSDT-trades.csv"), PLAIN, method)
    return packed.getvalue()


ZIPS = (zipped(), zipped(zipfile.ZIP_STORED), zipped(zipfile.ZIP_LZMA), zipped(zipfile.ZIP_BZIP2))


def read(content: bytes, suffix: str) -> list[TapeTrade]:
    """The valid trades before the end or the first invalid row."""
    found: list[TapeTrade] = []
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / f"BTCUSDT-trades{suffix}"
        path.write_bytes(content)
        try:
            for trade in read_tape(path, BTC):
                found.append(trade)  # noqa: PERF402 what came before an error counts
        except ValidationError as error:
            assert path.name in str(error)  # noqa: PT017 both ends are fine
    for trade in found:
        assert 0 < trade.price < 2**64
        assert 0 < trade.quantity < 2**64
        assert trade.time_ns > 0
    return found


@fuzzed(75)
@given(st.binary(max_size=300), st.sampled_from((".csv", ".csv.gz", ".zip", "")))
@example(b"1,2,3\x00", ".csv")
@example(b'"' + b"x" * 200_000, ".csv")
def test_any_bytes(content: bytes, suffix: str) -> None:
    """Any file."""
    read(content, suffix)


@fuzzed(75)
@given(damaged(PLAIN))
def test_damaged_text(content: bytes) -> None:
    """A tape with damaged bytes."""
    read(content, ".csv")


@fuzzed(125)
@given(damaged(PACKED))
def test_damaged_gzip(content: bytes) -> None:
    """A damaged .gz never yields a trade that the tape does not have at that position, as far as its checks reach."""
    read(content, ".csv.gz")


@fuzzed(200)
@given(st.data(), st.sampled_from(ZIPS))
def test_damaged_zip(data: st.DataObject, archive: bytes) -> None:
    """A damaged .zip of each compression that Python supports."""
    read(data.draw(damaged(archive)), ".zip")


@fuzzed(125)
@given(st.lists(st.tuples(st.integers(0, 8), CELLS), min_size=1, max_size=3), st.integers(0, 4), st.booleans())
@example([(0, "9" * 5_000)], 1, True)
def test_changed_cells(changes: list[tuple[int, str]], line: int, with_header: bool) -> None:
    """Rows and headers with replaced or additional cells."""
    lines = [HEADER, *ROWS] if with_header else list(ROWS)
    cells = lines[line].split(",")
    for column, text in changes:
        cells[column : column + 1] = [text]
    lines[line] = ",".join(cells)
    found = read("\n".join(lines).encode(), ".csv")
    assert len(found) <= len(lines)
