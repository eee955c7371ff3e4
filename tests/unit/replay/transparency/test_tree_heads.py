"""Notes and keys in files: what is found in a directory, what is wrong with each, and which keys are taken."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernel.errors import AlreadyExistsError, NotFoundError, ValidationError
from replay.transparency.keys import create_key, read_key, signer_keys, verifier_keys
from replay.transparency.signed_note import SignerKey, TreeHead, sign
from replay.transparency.tree_head_store import TreeHeadStore, covering_tree_head, tree_head_name, tree_head_of

KEY = SignerKey.create("exchange-kernel/paper")
OTHER = SignerKey.create("exchange-kernel/paper")
ORIGIN = "exchange-kernel/paper/0123"


def put(
    directory: Path, size: int, *, key: SignerKey = KEY, root: int = 0, origin: str = ORIGIN, name: str = ""
) -> Path:
    """A note of a size in a directory."""
    text = TreeHead(origin, size, bytes([root]) * 32, bytes([size % 256]) * 32).text()
    path = directory / (name or tree_head_name(size))
    path.write_text(str(sign(text, [key])), encoding="utf-8")
    return path


def read(path: Path, *keys: SignerKey, origin: str | None = None) -> TreeHeadStore:
    """What is found with these keys trusted."""
    return TreeHeadStore.read(path, [key.verifier for key in keys or (KEY,)], origin=origin)


def test_good_notes_are_read_in_order(tmp_path: Path) -> None:
    """By size, with what they say and where they are; other files are passed over."""
    paths = [put(tmp_path, size, root=root) for size, root in ((1000, 1), (9, 2), (20, 3))]
    (tmp_path / "frontier").write_text("{}")
    (tmp_path / ".draft").write_text("half a note")
    book = read(tmp_path)
    assert [(note.size, note.root, note.chain_hash, note.path) for note in book.notes] == [
        (9, b"\2" * 32, b"\x09" * 32, paths[1]),
        (20, b"\3" * 32, b"\x14" * 32, paths[2]),
        (1000, b"\1" * 32, b"\xe8" * 32, paths[0]),
    ]
    assert book.problems == ()


def test_one_note_is_a_book(tmp_path: Path) -> None:
    """The path may be that of a note, whatever its name."""
    book = read(put(tmp_path, 7, name="from-a-friend.txt"))
    assert [note.size for note in book.notes] == [7]


def test_each_bad_note_is_told_and_the_good_ones_are_kept(tmp_path: Path) -> None:
    """An unknown key, a changed text, half a file, another log, a note under another's name: each with its path."""
    good = put(tmp_path, 1)
    bad = {
        put(tmp_path, 2, key=OTHER): "unknown key",
        put(tmp_path, 3): "bad signature",
        put(tmp_path, 4): "no signed note",
        put(tmp_path, 5, origin="exchange-kernel/paper/9999"): "another log",
        put(tmp_path, 6, name=tree_head_name(7)): "it is of 6 events",
        put(tmp_path, 8): "no checkpoint",
        tmp_path / tree_head_name(9): "can't be read",
    }
    _, changed, half, *_, odd, directory = bad
    changed.write_text(changed.read_text().replace("\n3\n", "\n30\n"))
    half.write_bytes(half.read_bytes()[:40])
    odd.write_text(str(sign("origin\n8\n", [KEY])))
    directory.mkdir()
    book = read(tmp_path)
    assert [note.path for note in book.notes] == [good]
    told = {problem.path: problem.text for problem in book.problems}
    assert told.keys() == bad.keys()
    assert [path for path, text in bad.items() if text not in told[path]] == []


def test_two_notes_of_one_size_must_agree(tmp_path: Path) -> None:
    """Both are signed, so one of them is a lie: it is told."""
    put(tmp_path, 5, root=1)
    liar = put(tmp_path, 5, root=2, name="b.note")
    twin = put(tmp_path, 5, root=1, key=OTHER, name="c.note")
    book = read(tmp_path, KEY, OTHER)
    assert [problem.path for problem in book.problems] == [liar]
    assert "says another thing of the first 5 events" in book.problems[0].text
    assert twin in [note.path for note in book.notes]


def test_notes_are_of_the_log_that_is_asked_for(tmp_path: Path) -> None:
    """With an origin given all others are foreign; without, those that are not of the shortest's log."""
    put(tmp_path, 1)
    put(tmp_path, 2, origin="exchange-kernel/other/1")
    assert [note.size for note in read(tmp_path).notes] == [1]
    assert [note.size for note in read(tmp_path, origin="exchange-kernel/other/1").notes] == [2]


def test_the_shortest_log_that_covers_a_position(tmp_path: Path) -> None:
    """The first note at or after it; where there is none, how far they go is said."""
    for size in (10, 20):
        put(tmp_path, size)
    trusted = {"keys": (KEY.verifier,), "origin": ORIGIN}
    sizes = [covering_tree_head(tmp_path, position, **trusted).size for position in (1, 10, 11, 20)]
    assert sizes == [10, 10, 20, 20]
    with pytest.raises(NotFoundError, match="position 21: the newest one is of 20 events"):
        covering_tree_head(tmp_path, 21, **trusted)
    assert tree_head_of(tmp_path, 20, **trusted).size == 20
    with pytest.raises(NotFoundError, match="no note of 15 events: the nearest are of 10, 20"):
        tree_head_of(tmp_path, 15, **trusted)


def test_a_bad_note_covers_nothing(tmp_path: Path) -> None:
    """The next good one is taken; where there is none, what is wrong is said."""
    put(tmp_path, 10, key=OTHER)
    put(tmp_path, 15, origin="exchange-kernel/other/1")
    trusted = {"keys": (KEY.verifier,), "origin": ORIGIN}
    with pytest.raises(ValidationError, match=r"no note is good: .*unknown key.*another log"):
        covering_tree_head(tmp_path, 1, **trusted)
    good = put(tmp_path, 20)
    assert covering_tree_head(tmp_path, 1, **trusted).path == good
    with pytest.raises(ValidationError, match=r"no note is good: .*unknown key"):
        tree_head_of(tmp_path, 10, **trusted)


def test_no_notes_are_not_found(tmp_path: Path) -> None:
    """A path where nothing is is said to be that."""
    with pytest.raises(NotFoundError, match="no notes at"):
        read(tmp_path / "nowhere")
    assert read(tmp_path).notes == ()


# ------------------------------------------------------------------------------------------------------------------ keys
def test_a_key_is_for_its_owner_alone(tmp_path: Path) -> None:
    """The file has mode 600, is never overwritten, and is refused once others can read it."""
    path = tmp_path / "note.key"
    made = create_key(path, "exchange-kernel/paper")
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_key(path).verifier == made
    with pytest.raises(AlreadyExistsError, match="never overwritten"):
        create_key(path, "exchange-kernel/paper")
    for mode in (0o640, 0o604, 0o620):
        path.chmod(mode)
        with pytest.raises(ValidationError, match=f"others can read .*mode {mode:o}, not 600"):
            read_key(path)


def test_a_key_comes_from_a_file_or_as_its_text(tmp_path: Path) -> None:
    """Both are taken, in order; what is neither is told without being shown."""
    path = tmp_path / "note.key"
    create_key(path, "x")
    assert [key.name for key in signer_keys([KEY.secret(), str(path)])] == [KEY.name, "x"]
    with pytest.raises(NotFoundError, match=r"no key .*orderctl keys create"):
        signer_keys([str(tmp_path / "nowhere")])
    path.write_text("not a key\n")
    with pytest.raises(ValidationError, match="no signer key"):
        signer_keys([str(path)])


def test_the_list_of_verifier_keys_keeps_the_old_ones(tmp_path: Path) -> None:
    """Each new key is added, also behind a line that did not end; comments and empty lines mean nothing."""
    known = tmp_path / "trusted.keys"
    known.write_text(f"# since spring\n\n{KEY.verifier}")
    new = create_key(tmp_path / "new.key", "x", trust=known)
    newest = create_key(tmp_path / "newest.key", "x", trust=known)
    assert verifier_keys([str(known), str(new)]) == (KEY.verifier, new, newest)


def test_no_key_is_made_where_the_list_is_none(tmp_path: Path) -> None:
    """A list that holds something else, or that can't be written, is told before a key is there."""
    known = tmp_path / "shopping.list"
    known.write_text("milk\n")
    for trust in (known, tmp_path / "nowhere" / "trusted.keys"):
        with pytest.raises(ValidationError, match=r"milk|can't be written"):
            create_key(tmp_path / "note.key", "x", trust=trust)
    assert not (tmp_path / "note.key").exists()
    assert known.read_text() == "milk\n"


def test_a_verifier_key_that_is_none_is_told(tmp_path: Path) -> None:
    """Neither a text that is no key nor a file that is not there."""
    with pytest.raises(NotFoundError, match="neither a verifier key nor a file"):
        verifier_keys([str(tmp_path / "nowhere")])
    with pytest.raises(ValidationError, match="no verifier key"):
        verifier_keys(["a+b+c"])
