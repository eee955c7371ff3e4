"""Signed tree heads of a log on every backend: their content, the next writer, and logs that get none."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernel.errors import IntegrityError, ValidationError
from kernel.log import LogSettings
from replay.transparency.signed_note import origin_of
from replay.transparency.tree_head_signer import FRONTIER, TreeHeadOptions, TreeHeadWriter
from replay.transparency.tree_head_store import tree_head_files, tree_head_name
from tests.contract.backends import Backend
from tests.notes import KEY, NEW_KEY, cut, forge, grow, options, rewrite, root_of, rows_of, sizes, tree_heads

PAGE = LogSettings(page_rows=3)
every_start = pytest.mark.parametrize("kept", [True, False], ids=["frontier kept", "from the beginning"])


def start_anew(directory: Path, *, kept: bool) -> None:
    """Keep or remove the frontier, as the next leader may find it."""
    if not kept:
        (directory / FRONTIER).unlink()


async def test_a_tree_head_matches_the_log(backend: Backend, tmp_path: Path) -> None:
    """Origin, size, root and chain hash are the log's at that size; without new events there is no new tree head."""
    async with backend.open(settings=PAGE) as log:
        writer = TreeHeadWriter(log, options(tmp_path))
        for count in (1, 4, 7):
            await grow(log, count)
            assert await writer.write()
            assert not await writer.write()
        rows = await rows_of(log)
        found = tree_heads(tmp_path)
        assert len(tree_head_files(tmp_path)) == 3
        assert [head.size for head in found] == [2, 6, 13]
        for head in found:
            leaves = [row.leaf_hash for row in rows[: head.size]]
            assert (head.root, head.chain_hash) == (root_of(leaves), rows[head.size - 1].chain_hash)
            assert head.origin == origin_of(log)


@every_start
async def test_the_next_writer_continues(backend: Backend, tmp_path: Path, kept: bool) -> None:
    """The next writer signs what the first one would have signed, with and without the frontier."""
    async with backend.open(settings=PAGE) as log:
        await grow(log, 3, 4, into=tmp_path)
        start_anew(tmp_path, kept=kept)
        await grow(log, 5, into=tmp_path)
        leaves = [row.leaf_hash for row in await rows_of(log)]
    assert [head.root for head in tree_heads(tmp_path)] == [root_of(leaves[:size]) for size in (4, 8, 13)]


async def test_only_new_events_are_read(backend: Backend, tmp_path: Path) -> None:
    """With the frontier, rows before the newest tree head are not read; without it they are, and a change is found."""
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
async def test_a_bad_frontier_is_ignored(backend: Backend, tmp_path: Path, text: str | None) -> None:
    """With a broken frontier or one of another tree, the log is read from its beginning."""
    async with backend.open() as log:
        await grow(log, 3, 4, into=tmp_path)
        kept = tmp_path / FRONTIER
        kept.write_text(kept.read_text().replace('["', '["00') if text is None else text)
        await grow(log, 1, into=tmp_path)
        leaves = [row.leaf_hash for row in await rows_of(log)]
    assert tree_heads(tmp_path)[-1].root == root_of(leaves)


async def test_killed_between_tree_head_and_frontier(backend: Backend, tmp_path: Path) -> None:
    """An older frontier and a partial file do no harm."""
    async with backend.open() as log:
        await grow(log, 3, into=tmp_path)
        old = (tmp_path / FRONTIER).read_text()
        await grow(log, 4, into=tmp_path)
        (tmp_path / FRONTIER).write_text(old)
        (tmp_path / f".{tree_head_name(9)}.draft").write_text("exchange-ker")
        await grow(log, 1, into=tmp_path)
    assert sizes(tmp_path) == [4, 8, 9]


@every_start
async def test_a_truncated_log_gets_no_tree_head(backend: Backend, tmp_path: Path, kept: bool) -> None:
    """A truncated log gets no tree head while it is shorter than the newest one, nor after it has grown past it."""
    async with backend.open() as log:
        await grow(log, 3, 4, into=tmp_path)
        await cut(backend, log, 5)
    start_anew(tmp_path, kept=kept)
    async with backend.open() as log:
        with pytest.raises(IntegrityError, match="had 8 events and now ends at position 5") as caught:
            await TreeHeadWriter(log, options(tmp_path)).write()
        assert caught.value.position == 6
        await grow(log, 6)
        with pytest.raises(IntegrityError, match="rewritten"):
            await TreeHeadWriter(log, options(tmp_path)).write()
    assert sizes(tmp_path) == [4, 8]


@every_start
async def test_a_rewritten_log_gets_no_tree_head(backend: Backend, tmp_path: Path, kept: bool) -> None:
    """A log whose hashes match each other but not the newest tree head gets no new one."""
    async with backend.open() as log:
        await grow(log, 3, 4, into=tmp_path)
        await rewrite(backend, log, 3)
    start_anew(tmp_path, kept=kept)
    async with backend.open() as log:
        await grow(log, 2)
        writer = TreeHeadWriter(log, options(tmp_path))
        for _ in range(2):
            with pytest.raises(IntegrityError, match=r"position 8: .*rewritten and gets no new tree head"):
                await writer.write()
    assert sizes(tmp_path) == [4, 8]


async def test_a_log_rewritten_under_its_leader_gets_no_tree_head(backend: Backend, tmp_path: Path) -> None:
    """The writer of the last tree head knows its chain hash and sees that the next event does not follow."""
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


async def test_a_log_truncated_under_its_leader_gets_no_tree_head(backend: Backend, tmp_path: Path) -> None:
    """A truncation is noticed even if the tree heads were removed: the writer knows how far it has read."""
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
        with pytest.raises(IntegrityError, match=r"had 8 events .* now ends at position 5"):
            await writer.write()
    assert sizes(tmp_path) == []


async def test_a_tree_head_is_not_overwritten(backend: Backend, tmp_path: Path) -> None:
    """A tree head of the same size that another leader wrote is kept."""
    async with backend.open() as log:
        late = TreeHeadWriter(log, options(tmp_path, NEW_KEY))
        await late.write()
        await grow(log, 3, into=tmp_path)
        before = (tmp_path / tree_head_name(4)).read_bytes()
        await late.write()
    assert (tmp_path / tree_head_name(4)).read_bytes() == before


async def test_a_forged_tree_head_is_not_continued(backend: Backend, tmp_path: Path) -> None:
    """An attacker who can write the directory but has no trusted key gets no signature over an invented history."""
    async with backend.open() as log:
        await grow(log, 3, into=tmp_path)
        await grow(log, 4)
        head = await log.head()
        forge(tmp_path, origin_of(log), head.position, chain_hash=head.chain_hash, key=NEW_KEY)
        await grow(log, 1)
        with pytest.raises(IntegrityError, match=r"position 8: .* differs from the signed tree head"):
            await TreeHeadWriter(log, options(tmp_path)).write()
    assert [head.size for head in tree_heads(tmp_path, KEY)] == [4]


async def test_old_tree_heads_verify_after_a_key_rotation(backend: Backend, tmp_path: Path) -> None:
    """With the old key, both and the new one in turn, both keys together verify every tree head."""
    async with backend.open() as log:
        for keys in ((KEY,), (KEY, NEW_KEY), (NEW_KEY,)):
            await grow(log, 2)
            await TreeHeadWriter(log, options(tmp_path, *keys)).write()
        assert sizes(tmp_path) == [3, 5, 7]
        assert [head.size for head in tree_heads(tmp_path, KEY)] == [3, 5]
        assert [head.size for head in tree_heads(tmp_path, NEW_KEY)] == [5, 7]
        (tmp_path / FRONTIER).unlink()
        await grow(log, 1)
        await TreeHeadWriter(log, options(tmp_path, NEW_KEY)).write()
    assert sizes(tmp_path) == [3, 5, 7, 8]


async def test_tree_heads_of_another_log_are_not_continued(backend: Backend, tmp_path: Path) -> None:
    """A tree head of another log and a malformed file are errors: a directory belongs to one log."""
    async with backend.open() as log:
        await grow(log, 3, into=tmp_path)
        note = (tmp_path / tree_head_name(4)).read_text()
        (tmp_path / tree_head_name(4)).write_text(note.replace(log.log_id, "0" * 16))
        with pytest.raises(ValidationError, match=f"another log, .*{'0' * 16}, not of .*{log.log_id}"):
            await TreeHeadWriter(log, options(tmp_path)).write()
        (tmp_path / tree_head_name(4)).write_text("half a no")
        with pytest.raises(ValidationError, match=r"0004\.note: not a signed note"):
            await TreeHeadWriter(log, options(tmp_path)).write()
    assert [path.name for path in tree_head_files(tmp_path)] == [tree_head_name(4)]


@pytest.mark.parametrize("given", [{"keys": ()}, {"every_events": 0}, {"every_s": 0.0}])
def test_invalid_options_are_rejected(tmp_path: Path, given: dict[str, object]) -> None:
    """Options without a key, events or time are rejected before anything runs."""
    with pytest.raises(ValidationError, match=r"needs a key|must be above 0"):
        TreeHeadOptions(**{"directory": tmp_path, "keys": (KEY,), **given})  # type: ignore[arg-type]  # bad ones on purpose
