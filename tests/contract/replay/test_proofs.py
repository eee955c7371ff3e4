"""Proofs of events and of growth, checked by the program of `orderctl help check-proof` alone, on every backend."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kernel.errors import IntegrityError, NotFoundError, ValidationError
from kernel.log import EventLog, LogSettings
from replay import prove, prove_consistency
from replay.transparency.proofs import Proof
from replay.transparency.signed_note import origin_of
from replay.transparency.tree_head_store import tree_head_name
from tests.check_proof import PROGRAM, Checker
from tests.contract.backends import Backend
from tests.notes import KEY, NEW_KEY, cut, forge, grow, rewrite

PAGE = LogSettings(page_rows=3)
SIZES = (2, 5, 6, 12, 13)
TRUSTED = str(KEY.verifier)


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    """The directory of the tree heads."""
    return tmp_path / "notes"


async def grown(log: EventLog, notes: Path) -> None:
    """Grow a log and write a tree head at each of `SIZES`."""
    before = 1
    for size in SIZES:
        await grow(log, size - before, into=notes)
        before = size


async def test_every_position_is_proved_by_every_tree_head(backend: Backend, notes: Path) -> None:
    """Each tree head proves each event that it covers; the program prints the stored columns."""
    checker = Checker(TRUSTED)
    async with backend.open(settings=PAGE) as log:
        await grown(log, notes)
        rows = [row async for page in log.read() for row in page]
        for size in SIZES:
            for row in rows[:size]:
                proof = await prove(log, row.position, notes=notes / tree_head_name(size), keys=[KEY.verifier])
                printed = checker.proves(proof.text())
                assert printed.startswith(f"event {row.position} of the {size} in exchange-kernel/{log.exchange_id}/")
                columns = json.loads(printed.partition("\n")[2])
                assert (columns["state"].encode(), columns["meta"].encode()) == (row.state, row.meta)
                assert (columns["stream_id"], columns["version"]) == (row.stream_id, row.version)


async def test_consistency_is_proved_between_all_tree_heads(backend: Backend, notes: Path) -> None:
    """The log of each tree head is proved to be a prefix of each later one, and of itself."""
    checker = Checker(TRUSTED)
    async with backend.open(settings=PAGE) as log:
        await grown(log, notes)
        for first in SIZES:
            for second in (size for size in SIZES if size >= first):
                proof = await prove_consistency(log, first, second, notes=notes)
                printed = checker.proves(proof.text())
                assert printed.startswith(f"the {first} events of ")
                assert printed.endswith(f"are the beginning of its {second}")


async def test_the_smallest_tree_head_that_covers_an_event_proves_it(backend: Backend, notes: Path) -> None:
    """Of a directory the smallest tree head that covers the position is used."""
    async with backend.open(settings=PAGE) as log:
        await grown(log, notes)
        for position, size in ((1, 2), (2, 2), (3, 5), (13, 13)):
            proof = await prove(log, position, notes=notes)
            assert f"/{log.log_id}\n{size}\n" in proof.document["note"]


@pytest.fixture
async def both(tmp_path: Path) -> list[str]:
    """A proof of each kind, as text."""
    from kernel.log import open_log

    async with open_log("memory://", exchange_id="paper") as log:
        await grown(log, tmp_path)
        return [
            (await prove(log, 3, notes=tmp_path)).text(),
            (await prove_consistency(log, 5, 13, notes=tmp_path)).text(),
        ]


async def test_a_byte_changed_anywhere_proves_nothing(both: list[str]) -> None:
    """A proof with any byte changed in one or all bits, or removed, is rejected."""
    checker = Checker(TRUSTED)
    for text in both:
        data = text.encode()
        assert checker.check(data) is not None
        for index in range(len(data)):
            for changed in (bytes([data[index] ^ 1]), bytes([data[index] ^ 0x20]), bytes([data[index] ^ 0xFF]), b""):
                altered = data[:index] + changed + data[index + 1 :]
                assert checker.check(altered) is None, altered


ALTERED: dict[str, Any] = {
    "another position": {"row": {"position": 4}},
    "a position of its own and its index": {"row": {"position": 4}, "leaf_index": 3},
    "true for one": {"row": {"schema_version": True}},
    "a number as a float": {"row": {"schema_version": 1.0}},
    "a negative number": {"row": {"version": -1}},
    "a number beyond 64 bits": {"row": {"version": 2**64}},
    "a column more": {"row": {"chain_hash": "00"}},
    "a field more": {"comment": "trust me"},
    "another kind": {"proof": "exchange-kernel/consistency/v1"},
    "no path": {"path": []},
    "no note": {"note": ""},
    "a path in capitals": "path",
}


@pytest.mark.parametrize("change", ALTERED.values(), ids=ALTERED)
async def test_an_altered_proof_proves_nothing(both: list[str], change: Any) -> None:
    """A proof with a changed value is rejected although the file is canonical."""
    document = json.loads(both[0])
    if change == "path":
        change = {"path": [item.upper() for item in document["path"]]}
    for name, value in change.items():
        document[name] = document[name] | value if isinstance(value, dict) else value
    assert Checker(TRUSTED).check(Proof(document).text().encode()) is None


async def test_another_key_proves_nothing(both: list[str]) -> None:
    """A proof is rejected without a trusted key; of several keys one is enough."""
    for text in both:
        assert Checker(str(NEW_KEY.verifier)).check(text.encode()) is None
        assert Checker().check(text.encode()) is None
        assert Checker(str(NEW_KEY.verifier), TRUSTED).check(text.encode()) is not None


def test_the_program_runs_by_itself(both: list[str], tmp_path: Path) -> None:
    """The program runs as a file without this project, and exits with 0 and PROVED, or with 1 and the reason."""
    program, proof = tmp_path / "check_proof.py", tmp_path / "proof.json"
    program.write_text(PROGRAM, encoding="utf-8")
    expected = ((both[0], 0, "PROVED event 3"), (both[1], 0, "PROVED the 5"), (both[0] + " ", 1, "NOT PROVED"))
    for text, code, beginning in expected:
        proof.write_bytes(text.encode())
        done = subprocess.run(
            [sys.executable, "-I", str(program), str(proof), TRUSTED],
            cwd=tmp_path, capture_output=True, text=True, check=False, timeout=240,
        )  # fmt: skip
        assert (done.returncode, (done.stdout + done.stderr).startswith(beginning)) == (code, True), done
        assert "Traceback" not in done.stderr
    alone = subprocess.run(
        [sys.executable, "-I", str(program)], capture_output=True, text=True, check=False, timeout=240
    )
    assert (alone.returncode, alone.stderr) == (1, "usage: python check_proof.py PROOF.json KEY...\n")


async def test_no_proof_of_a_changed_log(backend: Backend, notes: Path) -> None:
    """The position of a changed row is reported; a rewritten or truncated log differs from its tree head."""
    async with backend.open(settings=PAGE) as log:
        await grown(log, notes)
        backend.update(4, "meta", b"{}")
        with pytest.raises(IntegrityError, match="position 4: a column was changed"):
            await prove(log, 6, notes=notes)
        await rewrite(backend, log, 3)
        for proving in (prove(log, 6, notes=notes), prove_consistency(log, 5, 6, notes=notes)):
            with pytest.raises(IntegrityError, match=r"position [56]: the log up to here differs from .*\.note"):
                await proving
        assert await prove(log, 2, notes=notes)
        await cut(backend, log, 7)
        with pytest.raises(IntegrityError, match=r"position 8: .*it was truncated"):
            await prove(log, 9, notes=notes)


async def test_no_consistency_proof_from_a_false_tree_head(backend: Backend, notes: Path) -> None:
    """Both tree heads must match the log, even if a trusted key signed them."""
    async with backend.open(settings=PAGE) as log:
        await grown(log, notes)
        for false, first, second in ((5, 5, 13), (6, 5, 6), (2, 2, 5)):
            good = (notes / tree_head_name(false)).read_bytes()
            forge(notes, origin_of(log), false, chain_hash=bytes(32))
            with pytest.raises(IntegrityError, match="differs from the signed tree head"):
                await prove_consistency(log, first, second, notes=notes)
            (notes / tree_head_name(false)).write_bytes(good)


async def test_uncovered_positions_and_sizes_are_errors(backend: Backend, notes: Path) -> None:
    """A position beyond the newest tree head, an impossible one, an unknown size and reversed sizes are errors."""
    async with backend.open() as log:
        await grown(log, notes)
        await grow(log, 1)
        with pytest.raises(NotFoundError, match="covers position 14: the newest one covers 13 events"):
            await prove(log, 14, notes=notes)
        with pytest.raises(ValidationError, match="position 0 is out of range"):
            await prove(log, 0, notes=notes)
        with pytest.raises(NotFoundError, match="no signed tree head covers 7 events exactly"):
            await prove_consistency(log, 5, 7, notes=notes)
        with pytest.raises(ValidationError, match=r"size 6 is out of range: .*from 1 to the second size 5"):
            await prove_consistency(log, 6, 5, notes=notes)
        with pytest.raises(ValidationError, match=r"size 0 is out of range: .*from 1 to the second size 5"):
            await prove_consistency(log, 0, 5, notes=notes)


async def test_only_trusted_keys_count(backend: Backend, notes: Path) -> None:
    """If no tree head has a trusted signature, the error says what is wrong with each."""
    async with backend.open() as log:
        await grown(log, notes)
        with pytest.raises(ValidationError, match=r"no good signed tree head: .*0002\.note: unknown key"):
            await prove(log, 1, notes=notes, keys=[NEW_KEY.verifier])
