"""`verify` with signed tree heads on every backend: they reveal that a whole log was rewritten or truncated, which is
consistent in itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

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
"""Sizes with a tree head."""
FIRST, SECOND, THIRD = SIZES


class StillClock:
    """A clock that stands still, so that a head row that is set back has the right timestamp."""

    def now_ns(self) -> int:
        return 1_000

    async def sleep_until(self, deadline_ns: int) -> None:
        raise AssertionError("nothing here waits")


class Notary:
    """A backend with a log, and tree heads of three of its sizes."""

    def __init__(self, backend: Backend, directory: Path) -> None:
        self.backend = backend
        self.directory = directory
        self.key = SignerKey.create("exchange-kernel/test")
        self.rows: list[StoredRow] = []

    async def record(self) -> None:
        """Record the story, and some more events after each tree head."""
        async with self.backend.open(clock=StillClock()) as log:
            writer = TreeHeadWriter(log, TreeHeadOptions(directory=self.directory, keys=(self.key,)))
            story = Story(log)
            await story.record_all()
            for name in ("c", "d", None):
                await writer.write()
                if name is not None:
                    for _ in range(3):
                        await story.place(f"{name}{(await log.head()).position}")
            self.rows = [row async for page in log.read() for row in page]

    def note(self, size: int) -> Path:
        """The file of a tree head."""
        return self.directory / tree_head_name(size)

    async def verified(self, *, key: VerifierKey | None = None, **given: Any) -> VerifyReport:
        """Verify the log with the tree heads."""
        keys = (key or self.key.verifier,)
        async with self.backend.open(check_end=False) as log:
            return await verify(log, **{"notes": self.directory, "keys": keys, **given})


@pytest.fixture
async def notary(backend: Backend, tmp_path: Path) -> Notary:
    """Each backend, with a log and its tree heads."""
    made = Notary(backend, tmp_path / "notes")
    await made.record()
    return made


async def test_a_log_matches_its_tree_heads(notary: Notary) -> None:
    """An unchanged log matches root and chain hash of each tree head."""
    report = await notary.verified()
    assert found(report) == []
    assert (report.counts["notes"], report.counts["signed_upto"]) == (3, THIRD)


async def test_a_log_rewritten_as_a_whole_is_found(notary: Notary) -> None:
    """A wholly rewritten log is consistent; the first tree head that differs bounds the change."""
    put(
        notary.backend,
        rewritten(notary.rows, FIRST + 1, lambda row: row.state.replace(b'"quantity":100', b'"quantity":1')),
    )
    assert (await notary.verified(notes=None)).ok
    report = await notary.verified()
    assert found(report) == [(ProblemKind.NOTE, FIRST + 1)]
    assert report.problems[0].last_position == SECOND


async def test_a_truncation_is_found(notary: Notary) -> None:
    """If rows and head row were truncated together, a tree head of a longer log reveals it."""
    notary.backend.delete(above=SECOND, upto=THIRD)
    notary.backend.set_head(SECOND, notary.rows[SECOND - 1].chain_hash)
    report = await notary.verified()
    assert (ProblemKind.NOTE, SECOND + 1) in found(report)
    assert report.first_bad_position == SECOND + 1


@pytest.mark.parametrize("change", [(b"\nchain ", b"\nchain A"), (b"/", b"_")], ids=["its hash", "its origin"])
async def test_an_altered_tree_head_is_found(notary: Notary, change: tuple[bytes, bytes]) -> None:
    """The signature of an altered tree head is bad; the others still count."""
    path = notary.note(SECOND)
    path.write_bytes(path.read_bytes().replace(*change, 1))
    report = await notary.verified()
    assert found(report) == [(ProblemKind.NOTE, SECOND)]
    assert report.counts["notes"] == 2


async def test_a_replaced_tree_head_is_found(notary: Notary) -> None:
    """A tree head must have the size in its file name."""
    notary.note(SECOND).write_bytes(notary.note(FIRST).read_bytes())
    assert found(await notary.verified()) == [(ProblemKind.NOTE, SECOND)]


async def test_tree_heads_by_an_untrusted_key_are_problems(notary: Notary) -> None:
    """Tree heads without a trusted signature are problems, and so is having no good one at all."""
    report = await notary.verified(key=SignerKey.create("exchange-kernel/test").verifier)
    assert found(report) == [*((ProblemKind.NOTE, size) for size in SIZES), (ProblemKind.NOTE, None)]


async def test_tree_heads_of_another_log_are_problems(notary: Notary, tmp_path: Path) -> None:
    """A good tree head of another log is a problem."""
    from kernel.log import open_log

    async with open_log("memory://", exchange_id=notary.backend.exchange_id) as other:
        await Story(other).place("x")
        await TreeHeadWriter(other, TreeHeadOptions(directory=tmp_path / "other", keys=(notary.key,))).write()
    foreign = next((tmp_path / "other").glob("*.note"))
    (notary.directory / foreign.name).write_bytes(foreign.read_bytes())
    assert found(await notary.verified()) == [(ProblemKind.NOTE, 2)]
    with pytest.raises(ValidationError, match="it is of another log"):
        await notary.verified(start=foreign)


async def test_a_tree_head_with_another_chain_hash_is_found(notary: Notary) -> None:
    """Both hashes are compared: the root of the tree and the chain hash of the last event."""
    altered = replace(read_tree_head(notary.note(SECOND), None), chain_hash=bytes(32))
    notary.note(SECOND).write_text(str(sign(altered.text(), [notary.key])), encoding="utf-8")
    (problem,) = (await notary.verified()).problems
    assert (problem.kind, problem.position, problem.last_position) == (ProblemKind.NOTE, FIRST + 1, SECOND)
    assert problem.text.startswith("the chain hash of")


async def test_contradicting_tree_heads_are_found(notary: Notary) -> None:
    """Of two signed tree heads of one size with different roots, one is a problem."""
    altered = replace(read_tree_head(notary.note(SECOND), None), root=bytes(32))
    (notary.directory / "other.note").write_text(str(sign(altered.text(), [notary.key])), encoding="utf-8")
    (problem,) = (await notary.verified()).problems
    assert (problem.kind, problem.last_position) == (ProblemKind.NOTE, SECOND)
    assert "other.note" in problem.text


async def test_a_removed_tree_head_leaves_the_others(notary: Notary) -> None:
    """The next tree head covers the events of a removed one; the report says how far they reach; none is a problem."""
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


async def test_a_verification_starts_at_a_tree_head(notary: Notary) -> None:
    """Earlier events are checked against the tree head only, later ones by every check."""
    report = await notary.verified(start=notary.note(FIRST))
    assert (report.ok, report.counts["events"], report.counts["sends"]) == (True, 6, 0)
    notary.backend.update(FIRST + 2, "state", b"{}")
    notary.backend.update(5, "leaf_hash", bytes(32))
    report = await notary.verified(notes=None, start=notary.note(FIRST))
    assert found(report) == [(ProblemKind.NOTE, 1), (ProblemKind.CHANGED, FIRST + 2)]


async def test_events_after_the_start_are_checked_against_earlier_ones(notary: Notary) -> None:
    """The history of an intent from before the starting tree head is read from its stream."""
    async with notary.backend.open() as log:
        story = Story(log)
        wrong = await story.place("a")
    report = await notary.verified(start=notary.note(FIRST))
    assert found(report) == [(ProblemKind.LIFECYCLE, wrong)]
    assert report.counts["recalled_intents"] == 1


async def test_a_bad_starting_tree_head_is_rejected(notary: Notary, tmp_path: Path) -> None:
    """A malformed or missing starting tree head, and tree heads without a key, are errors."""
    notary.note(SECOND).write_text("no note")
    with pytest.raises(ValidationError, match="cannot start"):
        await notary.verified(start=notary.note(SECOND))
    with pytest.raises(NotFoundError, match="does not exist"):
        await notary.verified(start=tmp_path / "elsewhere.note")
    with pytest.raises(ValidationError, match="key"):
        await notary.verified(keys=())
