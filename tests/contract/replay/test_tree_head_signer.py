"""Signed notes of a log, on every backend: what they say, from where they go on, and when none is signed."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernel.errors import IntegrityError, ValidationError
from kernel.log import LogSettings
from replay.transparency.signed_note import origin_of
from replay.transparency.tree_head_signer import FRONTIER, TreeHeadOptions, TreeHeadWriter
from replay.transparency.tree_head_store import tree_head_files, tree_head_name
from tests.contract.backends import Backend
from tests.notes import KEY, NEW_KEY, book, cut, forge, grow, options, rewrite, root_of, rows_of, sizes

PAGE = LogSettings(page_rows=3)
every_start = pytest.mark.parametrize("kept", [True, False], ids=["frontier kept", "from the beginning"])


def start_anew(directory: Path, *, kept: bool) -> None:
    """What the next leader finds: all, or the notes alone."""
    if not kept:
        (directory / FRONTIER).unlink()


async def test_a_note_says_what_the_log_holds(backend: Backend, tmp_path: Path) -> None:
    """Origin, size, root and chain hash are the log's at that size; without news there is no other note."""
    async with backend.open(settings=PAGE) as log:
        writer = TreeHeadWriter(log, options(tmp_path))
        for count in (1, 4, 7):
            await grow(log, count)
            assert await writer.write()
            assert not await writer.write()
        rows = await rows_of(log)
        found = book(tmp_path)
        assert found.problems == ()
        assert [note.size for note in found.notes] == [2, 6, 13]
        for note in found.notes:
            leaves = [row.leaf_hash for row in rows[: note.size]]
            assert (note.root, note.chain_hash) == (root_of(leaves), rows[note.size - 1].chain_hash)
            assert note.origin == origin_of(log)


@every_start
async def test_the_next_writer_goes_on(backend: Backend, tmp_path: Path, kept: bool) -> None:
    """Its notes are those that the first one would have written, with what was kept and without."""
    async with backend.open(settings=PAGE) as log:
        await grow(log, 3, 4, into=tmp_path)
        start_anew(tmp_path, kept=kept)
        await grow(log, 5, into=tmp_path)
        leaves = [row.leaf_hash for row in await rows_of(log)]
    assert [note.root for note in book(tmp_path).notes] == [root_of(leaves[:size]) for size in (4, 8, 13)]


async def test_only_what_came_since_is_read(backend: Backend, tmp_path: Path) -> None:
    """With the frontier kept, a row before the newest note is not looked at; without it, it is, and its change found."""
    async with backend.open() as log:
        await grow(log, 3, 4, into=tmp_path)
        backend.update(2, "meta", b"{}")
        await grow(log, 1, into=tmp_path)
        assert sizes(tmp_path) == [4, 8, 9]
        start_anew(tmp_path, kept=False)
        with pytest.raises(IntegrityError) as caught:
            await grow(log, 1, into=tmp_path)
    assert (caught.value.position, sizes(tmp_path)) == (2, [4, 8, 9])


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[" * 100_000, "[]", '{"size": 8}', '{"size": 8, "hashes": ["00"]}', '{"size": -1, "hashes": []}',
        '{"size": 8.0, "hashes": []}', '{"size": "8", "hashes": [""]}', '{"size": 8, "hashes": [8]}', None,
    ],
    ids=lambda text: str(text)[:30],
)  # fmt: skip
async def test_a_frontier_that_is_none_is_passed_over(backend: Backend, tmp_path: Path, text: str | None) -> None:
    """It is a cache: half a file, another size or another tree, and the log is read from its beginning."""
    async with backend.open() as log:
        await grow(log, 3, 4, into=tmp_path)
        kept = tmp_path / FRONTIER
        kept.write_text(kept.read_text().replace('["', '["00') if text is None else text)
        await grow(log, 1, into=tmp_path)
        leaves = [row.leaf_hash for row in await rows_of(log)]
    assert book(tmp_path).notes[-1].root == root_of(leaves)


async def test_killed_between_note_and_frontier(backend: Backend, tmp_path: Path) -> None:
    """An older frontier is further to go, and half a note is none."""
    async with backend.open() as log:
        await grow(log, 3, into=tmp_path)
        old = (tmp_path / FRONTIER).read_text()
        await grow(log, 4, into=tmp_path)
        (tmp_path / FRONTIER).write_text(old)
        (tmp_path / f".{tree_head_name(9)}.draft").write_text("exchange-ker")
        await grow(log, 1, into=tmp_path)
    assert sizes(tmp_path) == [4, 8, 9]


@every_start
async def test_a_log_that_was_cut_off_gets_no_note(backend: Backend, tmp_path: Path, kept: bool) -> None:
    """Neither while it is shorter than its newest note, nor when it has grown past it again."""
    async with backend.open() as log:
        await grow(log, 3, 4, into=tmp_path)
        await cut(backend, log, 5)
    start_anew(tmp_path, kept=kept)
    async with backend.open() as log:
        with pytest.raises(
            IntegrityError, match="had 8 events when it was read for a note, and now ends at 5"
        ) as caught:
            await TreeHeadWriter(log, options(tmp_path)).write()
        assert caught.value.position == 6
        await grow(log, 6)
        with pytest.raises(IntegrityError, match="rewritten"):
            await TreeHeadWriter(log, options(tmp_path)).write()
    assert sizes(tmp_path) == [4, 8]


@every_start
async def test_a_log_that_was_rewritten_gets_no_note(backend: Backend, tmp_path: Path, kept: bool) -> None:
    """All its hashes fit each other, and not its newest note."""
    async with backend.open() as log:
        await grow(log, 3, 4, into=tmp_path)
        await rewrite(backend, log, 3)
    start_anew(tmp_path, kept=kept)
    async with backend.open() as log:
        await grow(log, 2)
        writer = TreeHeadWriter(log, options(tmp_path))
        for _ in range(2):
            with pytest.raises(IntegrityError, match=r"position 8: .*rewritten, and gets no new note"):
                await writer.write()
    assert sizes(tmp_path) == [4, 8]


async def test_a_log_rewritten_under_its_leader_gets_no_note(backend: Backend, tmp_path: Path) -> None:
    """Who has written the last note knows its chain hash, and sees that the next event does not follow."""
    async with backend.open() as log:
        writer = TreeHeadWriter(log, options(tmp_path))
        await grow(log, 3)
        await writer.write()
        await rewrite(backend, log, 3)
    async with backend.open() as log:
        await grow(log, 1)
        writer._log = log
        with pytest.raises(IntegrityError, match="does not follow"):
            await writer.write()
    assert sizes(tmp_path) == [4]


async def test_a_log_cut_off_under_its_leader_gets_no_note(backend: Backend, tmp_path: Path) -> None:
    """Also where its notes were taken away: what was read once is known."""
    async with backend.open() as log:
        writer = TreeHeadWriter(log, options(tmp_path))
        await grow(log, 7)
        await writer.write()
        await cut(backend, log, 5)
    for note in tree_head_files(tmp_path):
        note.unlink()
    async with backend.open() as log:
        writer._log = log
        writer.forget()
        with pytest.raises(IntegrityError, match=r"had 8 events .* now ends at 5"):
            await writer.write()
    assert sizes(tmp_path) == []


async def test_a_note_is_not_written_over(backend: Backend, tmp_path: Path) -> None:
    """One of the same size that another leader wrote stays as it is."""
    async with backend.open() as log:
        late = TreeHeadWriter(log, options(tmp_path, NEW_KEY))
        await late.write()
        await grow(log, 3, into=tmp_path)
        before = (tmp_path / tree_head_name(4)).read_bytes()
        await late.write()
    assert (tmp_path / tree_head_name(4)).read_bytes() == before


async def test_a_forged_note_is_not_gone_on_from(backend: Backend, tmp_path: Path) -> None:
    """Who can write there but has no key of ours gets no signature over a history of his own."""
    async with backend.open() as log:
        await grow(log, 3, into=tmp_path)
        await grow(log, 4)
        head = await log.head()
        forge(tmp_path, origin_of(log), head.position, chain_hash=head.chain_hash, key=NEW_KEY)
        await grow(log, 1)
        with pytest.raises(IntegrityError, match=r"position 8: .* is not what"):
            await TreeHeadWriter(log, options(tmp_path)).write()
    assert [note.size for note in book(tmp_path, KEY).notes] == [4]


async def test_keys_change_and_old_notes_stay_known(backend: Backend, tmp_path: Path) -> None:
    """The old key, both, the new one: every note is known to who has both keys, those in between to each."""
    async with backend.open() as log:
        for keys in ((KEY,), (KEY, NEW_KEY), (NEW_KEY,)):
            await grow(log, 2)
            await TreeHeadWriter(log, options(tmp_path, *keys)).write()
        assert sizes(tmp_path) == [3, 5, 7]
        assert [note.size for note in book(tmp_path, KEY).notes] == [3, 5]
        assert [note.size for note in book(tmp_path, NEW_KEY).notes] == [5, 7]
        (tmp_path / FRONTIER).unlink()
        await grow(log, 1)
        await TreeHeadWriter(log, options(tmp_path, NEW_KEY)).write()
    assert sizes(tmp_path) == [3, 5, 7, 8]


async def test_the_notes_of_another_log_are_not_gone_on_from(backend: Backend, tmp_path: Path) -> None:
    """A directory belongs to one log; what is in it is told, also a file that is no note."""
    async with backend.open() as log:
        await grow(log, 3, into=tmp_path)
        note = (tmp_path / tree_head_name(4)).read_text()
        (tmp_path / tree_head_name(4)).write_text(note.replace(log.log_id, "0" * 16))
        with pytest.raises(ValidationError, match=f"another log, .*{'0' * 16}, not of .*{log.log_id}"):
            await TreeHeadWriter(log, options(tmp_path)).write()
        (tmp_path / tree_head_name(4)).write_text("half a no")
        with pytest.raises(ValidationError, match=r"0004\.note: this is no signed note"):
            await TreeHeadWriter(log, options(tmp_path)).write()
    assert [path.name for path in tree_head_files(tmp_path)] == [tree_head_name(4)]


@pytest.mark.parametrize("given", [{"keys": ()}, {"every_events": 0}, {"every_s": 0.0}])
def test_impossible_options_are_refused(tmp_path: Path, given: dict[str, object]) -> None:
    """Before anything runs: no key, no events, no time."""
    with pytest.raises(ValidationError, match=r"need a key|interval of tree heads .* must be above 0"):
        TreeHeadOptions(**{"directory": tmp_path, "keys": (KEY,), **given})  # type: ignore[arg-type]  # bad ones on purpose
