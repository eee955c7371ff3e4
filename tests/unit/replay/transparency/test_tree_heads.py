"""Signed tree heads and keys in files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kernel.errors import AlreadyExistsError, NotFoundError, ValidationError
from replay.transparency.keys import create_key, read_key, signer_keys, verifier_keys
from replay.transparency.signed_note import SignerKey, TreeHead, sign
from replay.transparency.tree_head_store import (
    covering_tree_head,
    read_tree_head,
    tree_head_files,
    tree_head_name,
    tree_head_of,
)

KEY = SignerKey.create("exchange-kernel/paper")
OTHER = SignerKey.create("exchange-kernel/paper")
ORIGIN = "exchange-kernel/paper/0123"
TRUSTED = (KEY.verifier,)


def put(
    directory: Path, size: int, *, key: SignerKey = KEY, root: int = 0, origin: str = ORIGIN, name: str = ""
) -> Path:
    """Write a signed tree head into a directory."""
    text = TreeHead(origin, size, bytes([root]) * 32, bytes([size % 256]) * 32).text()
    path = directory / (name or tree_head_name(size))
    path.write_text(str(sign(text, [key])), encoding="utf-8")
    return path


def test_tree_heads_are_read_in_order(tmp_path: Path) -> None:
    """Tree heads are listed by size, with their content; other files are ignored."""
    paths = [put(tmp_path, size, root=root) for size, root in ((1000, 1), (9, 2), (20, 3))]
    (tmp_path / "frontier").write_text("{}")
    (tmp_path / ".draft").write_text("partial")
    heads = [read_tree_head(file, TRUSTED) for file in tree_head_files(tmp_path)]
    assert [(head.size, head.root, head.chain_hash, head.path) for head in heads] == [
        (9, b"\2" * 32, b"\x09" * 32, paths[1]),
        (20, b"\3" * 32, b"\x14" * 32, paths[2]),
        (1000, b"\1" * 32, b"\xe8" * 32, paths[0]),
    ]


def test_the_path_may_be_one_file(tmp_path: Path) -> None:
    """The path may be a tree head with any name."""
    path = put(tmp_path, 7, name="from-a-friend.txt")
    assert tree_head_files(path) == [path]
    assert read_tree_head(path, TRUSTED).size == 7


def test_bad_tree_heads_are_rejected(tmp_path: Path) -> None:
    """An unknown key, a changed text, a partial file, a wrong name, a text of another kind and a directory are errors."""
    bad = {
        put(tmp_path, 2, key=OTHER): "unknown key",
        put(tmp_path, 3): "bad signature",
        put(tmp_path, 4): "not a signed note",
        put(tmp_path, 6, name=tree_head_name(7)): "covers 6 events",
        put(tmp_path, 8): "not a tree head",
        tmp_path / tree_head_name(9): "cannot be read",
    }
    _, changed, half, *_, odd, directory = bad
    changed.write_text(changed.read_text().replace("\n3\n", "\n30\n"))
    half.write_bytes(half.read_bytes()[:40])
    odd.write_text(str(sign("origin\n8\n", [KEY])))
    directory.mkdir()
    assert tree_head_files(tmp_path) == list(bad)
    for path, text in bad.items():
        with pytest.raises(ValidationError, match=text):
            read_tree_head(path, TRUSTED)


def test_the_smallest_tree_head_covers_a_position(tmp_path: Path) -> None:
    """The first tree head at or after a position covers it; without one the error names the newest."""
    for size in (10, 20):
        put(tmp_path, size)
    trusted = {"keys": (KEY.verifier,), "origin": ORIGIN}
    sizes = [covering_tree_head(tmp_path, position, **trusted).size for position in (1, 10, 11, 20)]
    assert sizes == [10, 10, 20, 20]
    with pytest.raises(NotFoundError, match="position 21: the newest one covers 20 events"):
        covering_tree_head(tmp_path, 21, **trusted)
    assert tree_head_of(tmp_path, 20, **trusted).size == 20
    with pytest.raises(NotFoundError, match="covers 15 events exactly: the nearest sizes are 10, 20"):
        tree_head_of(tmp_path, 15, **trusted)


def test_a_bad_tree_head_covers_nothing(tmp_path: Path) -> None:
    """The next good tree head is used; without one the error says what is wrong with each."""
    put(tmp_path, 10, key=OTHER)
    put(tmp_path, 15, origin="exchange-kernel/other/1")
    trusted = {"keys": (KEY.verifier,), "origin": ORIGIN}
    with pytest.raises(ValidationError, match=r"no good signed tree head: .*unknown key.*another log"):
        covering_tree_head(tmp_path, 1, **trusted)
    good = put(tmp_path, 20)
    assert covering_tree_head(tmp_path, 1, **trusted).path == good
    with pytest.raises(ValidationError, match=r"no good signed tree head: .*unknown key"):
        tree_head_of(tmp_path, 10, **trusted)


def test_a_missing_path_is_an_error(tmp_path: Path) -> None:
    """A path that does not exist is an error; an empty directory has no tree heads."""
    with pytest.raises(NotFoundError, match="no signed tree heads at"):
        tree_head_files(tmp_path / "nowhere")
    assert tree_head_files(tmp_path) == []


# ------------------------------------------------------------------------------------------------------------------ keys
def test_a_key_file_is_private(tmp_path: Path) -> None:
    """The file has mode 600, is never overwritten, and is rejected if other users can read it."""
    path = tmp_path / "note.key"
    made = create_key(path, "exchange-kernel/paper")
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_key(path).verifier == made
    with pytest.raises(AlreadyExistsError, match="never overwritten"):
        create_key(path, "exchange-kernel/paper")
    for mode in (0o640, 0o604, 0o620):
        path.chmod(mode)
        with pytest.raises(ValidationError, match=f"other users can read .*mode is {mode:o}.*chmod 600"):
            read_key(path)


def test_a_key_is_given_by_file_or_text(tmp_path: Path) -> None:
    """Keys are read from files and texts in order; an error does not show the text."""
    path = tmp_path / "note.key"
    create_key(path, "x")
    assert [key.name for key in signer_keys([KEY.secret(), str(path)])] == [KEY.name, "x"]
    with pytest.raises(NotFoundError, match=r"does not exist: .*orderctl keys create"):
        signer_keys([str(tmp_path / "nowhere")])
    path.write_text("not a key\n")
    with pytest.raises(ValidationError, match="not a signer key"):
        signer_keys([str(path)])


def test_the_list_of_verifier_keys_keeps_the_old_ones(tmp_path: Path) -> None:
    """New keys are appended, also after a last line without newline; comments and empty lines are skipped."""
    known = tmp_path / "trusted.keys"
    known.write_text(f"# since spring\n\n{KEY.verifier}")
    new = create_key(tmp_path / "new.key", "x", trust=known)
    newest = create_key(tmp_path / "newest.key", "x", trust=known)
    assert verifier_keys([str(known), str(new)]) == (KEY.verifier, new, newest)


def test_nobody_else_can_write_a_new_list_of_verifier_keys(tmp_path: Path) -> None:
    """With umask 000 a new list has mode 644: another user must not decide whom a verification trusts."""
    before = os.umask(0)
    try:
        create_key(tmp_path / "new.key", "x", trust=tmp_path / "trusted.keys")
    finally:
        os.umask(before)
    assert (tmp_path / "trusted.keys").stat().st_mode & 0o777 == 0o644


def test_no_key_is_created_if_the_list_is_bad(tmp_path: Path) -> None:
    """A list that has other content, or cannot be written, is an error before the key is created."""
    known = tmp_path / "shopping.list"
    known.write_text("milk\n")
    for trust in (known, tmp_path / "nowhere" / "trusted.keys"):
        with pytest.raises(ValidationError, match=r"milk|cannot write the key list"):
            create_key(tmp_path / "note.key", "x", trust=trust)
    assert not (tmp_path / "note.key").exists()
    assert known.read_text() == "milk\n"


def test_a_bad_verifier_key_is_an_error(tmp_path: Path) -> None:
    """A malformed key and a missing file are errors."""
    with pytest.raises(NotFoundError, match="neither a verifier key nor a file"):
        verifier_keys([str(tmp_path / "nowhere")])
    with pytest.raises(ValidationError, match="not a verifier key"):
        verifier_keys(["a+b+c"])
