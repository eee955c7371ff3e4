"""Verify with signed notes, on every backend: what a log can't tell of itself. A log that was rewritten as a whole, or cut
off, is consistent; only what was kept elsewhere differs.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kernel.errors import NotFoundError, ValidationError
from kernel.log import StoredRow
from replay import ProblemKind, VerifyReport, verify
from replay.transparency.signed_note import SignerKey, VerifierKey, sign
from replay.transparency.tree_head_signer import TreeHeadOptions, TreeHeadWriter
from replay.transparency.tree_head_store import read_tree_head, tree_head_name
from tests.contract.backends import Backend
from tests.contract.replay.test_verify import found, put, rewritten
from tests.stories import STORY_LENGTH, Story

SIZES = (STORY_LENGTH, STORY_LENGTH + 3, STORY_LENGTH + 6)
"""Of which a note was written."""
FIRST, SECOND, THIRD = SIZES


class StillClock:
    """Every event is recorded at one instant, so that a head row that is set back shows no other."""

    def now_ns(self) -> int:
        return 1_000

    async def sleep_until(self, deadline_ns: int) -> None:
        raise AssertionError("nothing here waits")


class Notary:
    """A backend with a log in it, and notes of three of its sizes."""

    def __init__(self, backend: Backend, directory: Path) -> None:
        self.backend = backend
        self.directory = directory
        self.key = SignerKey.create("exchange-kernel/test")
        self.rows: list[StoredRow] = []

    async def record(self) -> None:
        """Tell the story, and a bit more after each note."""
        async with self.backend.open(clock=StillClock()) as log:
            writer = TreeHeadWriter(log, TreeHeadOptions(directory=self.directory, keys=(self.key,)))
            story = Story(log)
            await story.tell()
            for name in ("c", "d", None):
                await writer.write()
                if name is not None:
                    for _ in range(3):
                        await story.want(f"{name}{(await log.head()).position}")
            self.rows = [row async for page in log.read() for row in page]

    def note(self, size: int) -> Path:
        """The file of a note."""
        return self.directory / tree_head_name(size)

    async def verified(self, *, key: VerifierKey | None = None, **given: Any) -> VerifyReport:
        """What a verification says, by the notes."""
        keys = (key or self.key.verifier,)
        async with self.backend.open(check_end=False) as log:
            return await verify(log, **{"notes": self.directory, "keys": keys, **given})


@pytest.fixture
async def notary(backend: Backend, tmp_path: Path) -> Notary:
    """Each backend, with a log and notes of it."""
    made = Notary(backend, tmp_path / "notes")
    await made.record()
    return made


async def test_a_log_agrees_with_its_notes(notary: Notary) -> None:
    """Root and chain hash at the size of each note are the log's."""
    report = await notary.verified()
    assert found(report) == []
    assert (report.counts["notes"], report.counts["signed_upto"]) == (3, THIRD)


async def test_a_log_rewritten_as_a_whole_is_found(notary: Notary) -> None:
    """It is consistent in itself; the first note that differs says where to look."""
    put(
        notary.backend,
        rewritten(notary.rows, FIRST + 1, lambda row: row.state.replace(b'"quantity":100', b'"quantity":1')),
    )
    assert (await notary.verified(notes=None)).ok
    report = await notary.verified()
    assert found(report) == [(ProblemKind.NOTE, FIRST + 1)]
    assert report.problems[0].last_position == SECOND


async def test_an_end_cut_off_is_found(notary: Notary) -> None:
    """Where rows and head row were cut off together, a note of a longer log tells."""
    notary.backend.delete(above=SECOND, upto=THIRD)
    notary.backend.set_head(SECOND, notary.rows[SECOND - 1].chain_hash)
    report = await notary.verified()
    assert (ProblemKind.NOTE, SECOND + 1) in found(report)
    assert report.first_bad_position == SECOND + 1


@pytest.mark.parametrize("change", [(b"\nchain ", b"\nchain A"), (b"/", b"_")], ids=["its hash", "its origin"])
async def test_an_altered_note_is_found(notary: Notary, change: tuple[bytes, bytes]) -> None:
    """A note that says anything else is not signed any more; the others still count."""
    path = notary.note(SECOND)
    path.write_bytes(path.read_bytes().replace(*change, 1))
    report = await notary.verified()
    assert found(report) == [(ProblemKind.NOTE, SECOND)]
    assert report.counts["notes"] == 2


async def test_a_note_put_in_the_place_of_another_is_found(notary: Notary) -> None:
    """A note is of the size that its file is named by."""
    notary.note(SECOND).write_bytes(notary.note(FIRST).read_bytes())
    assert found(await notary.verified()) == [(ProblemKind.NOTE, SECOND)]


async def test_notes_by_another_key_say_nothing(notary: Notary) -> None:
    """None of them is signed by a key that is trusted: that is a problem, not a log that is good."""
    report = await notary.verified(key=SignerKey.create("exchange-kernel/test").verifier)
    assert found(report) == [*((ProblemKind.NOTE, size) for size in SIZES), (ProblemKind.NOTE, None)]


async def test_notes_of_another_log_are_told(notary: Notary, tmp_path: Path) -> None:
    """A good note of another log is none of this one."""
    from kernel.log import open_log

    async with open_log("memory://", exchange_id=notary.backend.exchange_id) as other:
        await Story(other).want("x")
        await TreeHeadWriter(other, TreeHeadOptions(directory=tmp_path / "other", keys=(notary.key,))).write()
    foreign = next((tmp_path / "other").glob("*.note"))
    (notary.directory / foreign.name).write_bytes(foreign.read_bytes())
    assert found(await notary.verified()) == [(ProblemKind.NOTE, 2)]
    with pytest.raises(ValidationError, match="it is of another log"):
        await notary.verified(start=foreign)


async def test_a_note_with_another_chain_hash_is_told(notary: Notary) -> None:
    """Both hashes that a note has are compared: the root of the tree, and the chain hash of the last event."""
    note = read_tree_head(notary.note(SECOND), None)
    said = replace(note.checkpoint, chain_hash=bytes(32))
    notary.note(SECOND).write_text(str(sign(said.text(), [notary.key])), encoding="utf-8")
    (problem,) = (await notary.verified()).problems
    assert (problem.kind, problem.position, problem.last_position) == (ProblemKind.NOTE, FIRST + 1, SECOND)
    assert problem.text.startswith("the chain hash of")


async def test_a_removed_note_leaves_the_others(notary: Notary) -> None:
    """What it covered is covered by the next one; without the newest it is told how far notes go; without any nothing is
    good."""
    notary.note(SECOND).unlink()
    put(
        notary.backend,
        rewritten(notary.rows, SECOND, lambda row: row.state.replace(b'"quantity":100', b'"quantity":1')),
    )
    report = await notary.verified()
    assert (found(report), report.problems[0].last_position) == ([(ProblemKind.NOTE, FIRST + 1)], THIRD)
    notary.note(THIRD).unlink()
    report = await notary.verified()
    assert (report.ok, report.counts["signed_upto"]) == (True, FIRST)
    notary.note(FIRST).unlink()
    assert found(await notary.verified()) == [(ProblemKind.NOTE, None)]


async def test_a_verification_begins_at_a_note(notary: Notary) -> None:
    """What is before is held against the note alone, what comes after against everything."""
    report = await notary.verified(start=notary.note(FIRST))
    assert (report.ok, report.counts["events"], report.counts["sends"]) == (True, 6, 0)
    notary.backend.update(FIRST + 2, "state", b"{}")
    notary.backend.update(5, "leaf_hash", bytes(32))
    report = await notary.verified(notes=None, start=notary.note(FIRST))
    assert found(report) == [(ProblemKind.NOTE, 1), (ProblemKind.CHANGED, FIRST + 2)]


async def test_what_follows_a_note_is_judged_by_what_was_before(notary: Notary) -> None:
    """An intent from before the note is known from its stream."""
    async with notary.backend.open() as log:
        story = Story(log)
        wrong = await story.want("a")
    report = await notary.verified(start=notary.note(FIRST))
    assert found(report) == [(ProblemKind.LIFECYCLE, wrong)]
    assert report.counts["recalled_intents"] == 1


async def test_what_can_be_no_note_to_begin_at_is_refused(notary: Notary, tmp_path: Path) -> None:
    """A file that is no note, one that is not signed, one that is not there, and notes without a key are clear errors."""
    notary.note(SECOND).write_text("no note")
    with pytest.raises(ValidationError, match="can't start"):
        await notary.verified(start=notary.note(SECOND))
    with pytest.raises(NotFoundError, match="no note"):
        await notary.verified(start=tmp_path / "elsewhere.note")
    with pytest.raises(ValidationError, match="key"):
        await notary.verified(keys=())
