"""The hash format: fixed by vectors, and sensitive to every column."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.errors import IntegrityError
from kernel.log import hashing
from kernel.log.base import StoredRow

GOLDEN = Path(__file__).parents[3] / "golden"
CHECKER = GOLDEN / "check_log.py"
BYTES_COLUMNS = ("command_id", "leaf_hash", "chain_hash")
TEXT_COLUMNS = ("meta", "state")


def vectors() -> list[StoredRow]:
    """Return the golden rows."""
    return [_row(each) for each in json.loads((GOLDEN / "hash_vectors.json").read_text())["rows"]]


def _row(values: dict[str, Any]) -> StoredRow:
    decoded = {name: bytes.fromhex(values[name]) for name in BYTES_COLUMNS}
    return StoredRow(**{**values, **decoded, **{name: values[name].encode() for name in TEXT_COLUMNS}})


def as_json(row: StoredRow) -> str:
    """Return a row as JSON for the checker."""
    columns: dict[str, Any] = row._asdict()
    columns.update({name: columns[name].hex() for name in BYTES_COLUMNS})
    columns.update({name: columns[name].decode() for name in TEXT_COLUMNS})
    return json.dumps(columns)


def hashed(rows: list[StoredRow]) -> list[StoredRow]:
    """Return the rows with correct positions, leaves and chain hashes."""
    chain, done = hashing.GENESIS, []
    for position, row in enumerate(rows, start=1):
        leaf = hashing.leaf_hash(row)
        chain = hashing.chain_hash(chain, position, leaf)
        done.append(row._replace(position=position, leaf_hash=leaf, chain_hash=chain))
    return done


numbers = st.integers(0, 2**63 - 1)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
rows = st.builds(
    StoredRow,
    position=st.just(1),
    stream_id=texts,
    version=numbers,
    topic=texts,
    schema_version=numbers,
    recorded_at_ns=numbers,
    command_id=st.binary(min_size=16, max_size=16),
    command_index=numbers,
    meta=texts.map(str.encode),
    state=texts.map(str.encode),
    leaf_hash=st.just(b""),
    chain_hash=st.just(b""),
)


@pytest.mark.parametrize("index", [0, 1, 2])
def test_the_vectors_hold(index: int) -> None:
    """Each golden row has the leaf hash and the chain hash recorded in it."""
    row = vectors()[index]
    previous = vectors()[index - 1].chain_hash if index else hashing.GENESIS
    assert hashing.leaf_hash(row) == row.leaf_hash
    assert hashing.chain_hash(previous, row.position, row.leaf_hash) == row.chain_hash


@given(rows, rows)
def test_two_rows_that_differ_have_two_leaves(one: StoredRow, other: StoredRow) -> None:
    """Rows with different columns have different leaves, as lengths separate the columns."""
    assert (hashing.leaf_hash(one) == hashing.leaf_hash(other)) == (one == other)


@given(rows, st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=4))
def test_a_byte_moved_to_the_next_column_changes_the_leaf(row: StoredRow, moved: str) -> None:
    """A byte moved from the end of a column to the start of the next changes the leaf."""
    left = row._replace(meta=row.meta + moved.encode())
    right = row._replace(state=moved.encode() + row.state)
    assert hashing.leaf_hash(left) != hashing.leaf_hash(right)


@given(st.lists(rows, min_size=1, max_size=6), st.data())
def test_verify_names_the_first_bad_position(given_rows: list[StoredRow], data: st.DataObject) -> None:
    """If one row is changed, removed or repeated, verification fails at its position."""
    good = hashed(given_rows)
    assert hashing.verify_rows(good, after=0, chain=hashing.GENESIS) == good[-1].chain_hash
    index = data.draw(st.integers(0, len(good) - 1))
    bad = [
        [*good[:index], good[index]._replace(version=good[index].version ^ 1), *good[index + 1 :]],
        [*good[:index], good[index]._replace(chain_hash=bytes(32)), *good[index + 1 :]],
        [*good[: index + 1], good[index], *good[index + 1 :]],
    ]
    for position, rows_ in zip((index + 1, index + 1, index + 2), bad, strict=True):
        with pytest.raises(IntegrityError) as caught:
            hashing.verify_rows(rows_, after=0, chain=hashing.GENESIS)
        assert caught.value.position == position


def test_a_number_that_no_log_holds_is_a_bad_row() -> None:
    """A negative number is an integrity error at its position, not a crash."""
    row = vectors()[0]._replace(version=-1)
    with pytest.raises(IntegrityError) as caught:
        hashing.verify_rows([row], after=0, chain=hashing.GENESIS)
    assert caught.value.position == 1


# ------------------------------------------------------------------------------------------- the stand-alone checker
def check(lines: list[str]) -> subprocess.CompletedProcess[str]:
    """Run the checker on JSON lines, without this project on its path."""
    command = [sys.executable, "-I", str(CHECKER)]
    return subprocess.run(command, input="\n".join(lines), capture_output=True, text=True, check=False)


def test_the_checker_is_short_and_stands_alone() -> None:
    """The checker has at most 40 lines, and imports only the standard library."""
    source = CHECKER.read_text()
    assert len(source.splitlines()) <= 40
    imports = {
        word.split(".")[0]
        for line in source.splitlines()
        if line.startswith("import ")
        for word in line[7:].split(", ")
    }
    assert imports <= sys.stdlib_module_names


def test_the_checker_accepts_the_vectors() -> None:
    """The checker accepts a good log and prints its end."""
    done = check([as_json(row) for row in vectors()])
    assert (done.returncode, done.stdout.split()) == (0, ["3", vectors()[-1].chain_hash.hex()])


@pytest.mark.parametrize("column", StoredRow._fields)
def test_the_checker_finds_a_changed_column(column: str) -> None:
    """The checker exits with 1 at the first bad position, whichever column was changed."""
    good = vectors()
    value = getattr(good[1], column)
    changed: Any = value + 1 if isinstance(value, int) else value[:-1] + (b"0" if isinstance(value, bytes) else "0")
    done = check([as_json(row) for row in (good[0], good[1]._replace(**{column: changed}), good[2])])
    assert (done.returncode, done.stderr.strip()) == (1, "bad: position 2")


def test_the_checker_finds_a_missing_row() -> None:
    """The checker reports the position of a missing row."""
    done = check([as_json(vectors()[0]), as_json(vectors()[2])])
    assert (done.returncode, done.stderr.strip()) == (1, "bad: position 2")
