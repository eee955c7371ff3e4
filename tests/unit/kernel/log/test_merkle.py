"""The Merkle tree: the published vectors of RFC 6962's reference implementation, and its laws on trees of any size."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.log.merkle import (
    EMPTY_ROOT,
    Frontier,
    SpanRoots,
    consistency_roots,
    consistency_spans,
    inclusion_root,
    inclusion_spans,
    node,
)

SIZE_MAX = 70


def is_included(leaf: bytes, *, index: int, size: int, path: Sequence[bytes], root: bytes) -> bool:
    """Whether a path proves that a leaf is at an index of the tree with this size and root."""
    try:
        return inclusion_root(leaf, index, size, path) == root
    except ValueError:
        return False


def is_consistent(*, first: int, second: int, first_root: bytes, second_root: bytes, path: Sequence[bytes]) -> bool:
    """Whether a path proves that the second tree begins with the first."""
    try:
        return consistency_roots(first, second, first_root, path) == (first_root, second_root)
    except ValueError:
        return False


# ------------------------------------------------------------------------- vectors of certificate-transparency's merkletree
DATA = [bytes.fromhex(text) for text in (
    "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
)]  # fmt: skip
ROOTS = [bytes.fromhex(text) for text in (
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)]  # fmt: skip
INCLUSION = [
    (0, 1, []),
    (0, 8, [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ]),
    (5, 8, [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ]),
    (2, 3, ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"]),
    (1, 5, [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ]),
]  # fmt: skip
CONSISTENCY = [
    (1, 1, []),
    (1, 8, [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ]),
    (6, 8, [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ]),
    (2, 5, [
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ]),
]  # fmt: skip


def leaf_of(data: bytes) -> bytes:
    """RFC 6962's leaf hash."""
    return sha256(b"\x00" + data).digest()


LEAVES = [leaf_of(data) for data in DATA]
MANY = [leaf_of(bytes([number])) for number in range(SIZE_MAX)]


def grown(leaves: list[bytes]) -> Frontier:
    """A tree that has taken the leaves one at a time."""
    tree = Frontier()
    for leaf in leaves:
        tree.add(leaf)
    return tree


def span_roots(spans: list[tuple[int, int]], leaves: list[bytes]) -> list[bytes]:
    """The roots of spans, from a stream of all leaves."""
    roots = SpanRoots(spans)
    for leaf in leaves:
        roots.add(leaf)
    return roots.roots()


def root_by_definition(leaves: list[bytes]) -> bytes:
    """RFC 6962, 2.1, word for word."""
    if len(leaves) < 2:
        return leaves[0] if leaves else EMPTY_ROOT
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return node(root_by_definition(leaves[:k]), root_by_definition(leaves[k:]))


def test_published_roots() -> None:
    """At every size from none to eight leaves the root is the published one."""
    assert [grown(LEAVES[:size]).root() for size in range(9)] == ROOTS


@pytest.mark.parametrize(("index", "size", "path"), INCLUSION)
def test_published_inclusion_proofs(index: int, size: int, path: list[str]) -> None:
    """The path is the published one, and it proves the leaf."""
    found = span_roots(inclusion_spans(index, size), LEAVES)
    assert [item.hex() for item in found] == path
    assert is_included(LEAVES[index], index=index, size=size, path=found, root=ROOTS[size])


@pytest.mark.parametrize(("first", "second", "path"), CONSISTENCY)
def test_published_consistency_proofs(first: int, second: int, path: list[str]) -> None:
    """The path is the published one, and it proves that the tree only grew."""
    found = span_roots(consistency_spans(first, second), LEAVES)
    assert [item.hex() for item in found] == path
    assert is_consistent(first=first, second=second, first_root=ROOTS[first], second_root=ROOTS[second], path=found)


def test_the_root_is_that_of_the_definition_at_every_size() -> None:
    """A tree that grows has the root that RFC 6962 defines by halves, and goes on from what is kept of it."""
    for size in range(SIZE_MAX + 1):
        tree = grown(MANY[:size])
        assert tree.root() == root_by_definition(MANY[:size])
        assert len(tree.hashes) == size.bit_count()
        again = Frontier(size, tree.hashes)
        for leaf in MANY[size:]:
            again.add(leaf)
        assert again.root() == root_by_definition(MANY)


@given(st.integers(1, SIZE_MAX), st.data())
def test_every_leaf_is_proved_and_no_other(size: int, data: st.DataObject) -> None:
    """A path proves its own leaf, at its own index, in a tree of its own size, and nothing else."""
    index = data.draw(st.integers(0, size - 1))
    other = data.draw(st.integers(0, SIZE_MAX - 1).filter(lambda number: number != index))
    path = span_roots(inclusion_spans(index, size), MANY)
    root = root_by_definition(MANY[:size])
    assert is_included(MANY[index], index=index, size=size, path=path, root=root)
    assert not is_included(MANY[other], index=index, size=size, path=path, root=root)
    assert not is_included(MANY[index], index=other, size=size, path=path, root=root)
    assert not is_included(MANY[index], index=index, size=size, path=[*path, root], root=root)
    assert not is_included(MANY[index], index=index, size=size, path=path[:-1], root=root) or not path


@given(st.integers(1, SIZE_MAX), st.data())
def test_every_growth_is_proved_and_no_other(second: int, data: st.DataObject) -> None:
    """A path proves that a tree began with the first one; with one changed byte anywhere it proves nothing."""
    first = data.draw(st.integers(1, second))
    path = span_roots(consistency_spans(first, second), MANY)
    roots = {"first_root": root_by_definition(MANY[:first]), "second_root": root_by_definition(MANY[:second])}
    assert is_consistent(first=first, second=second, path=path, **roots)
    which = data.draw(st.sampled_from([*roots, *range(len(path))]))
    if isinstance(which, int):
        path[which] = flipped(path[which], data.draw(st.integers(0, 255)))
    else:
        roots[which] = flipped(roots[which], data.draw(st.integers(0, 255)))
    assert not is_consistent(first=first, second=second, path=path, **roots)


def flipped(value: bytes, bit: int) -> bytes:
    """A hash with one bit turned."""
    return (int.from_bytes(value, "big") ^ 1 << bit).to_bytes(len(value), "big")


@pytest.mark.parametrize(("index", "size"), [(-1, 3), (3, 3), (0, 0)])
def test_no_leaf_no_path(index: int, size: int) -> None:
    """A leaf that a tree does not have is in none."""
    with pytest.raises(ValueError, match=f"{size} leaves has none of index {index}"):
        inclusion_root(MANY[0], index, size, [])
    assert not is_included(MANY[0], index=index, size=size, path=[], root=MANY[0])


@pytest.mark.parametrize(("first", "second"), [(0, 3), (4, 3), (-1, 3)])
def test_a_tree_does_not_begin_with_a_larger_one(first: int, second: int) -> None:
    """There is no proof that a tree shrank, nor one from nothing."""
    with pytest.raises(ValueError, match=f"{second} leaves does not begin with one of {first}"):
        consistency_spans(first, second)
    assert not is_consistent(first=first, second=second, first_root=MANY[0], second_root=MANY[0], path=[])


def test_a_frontier_of_another_size_is_refused() -> None:
    """What is kept of a tree fits its size, or is refused."""
    with pytest.raises(ValueError, match="3 leaves does not have 1 full subtrees"):
        Frontier(3, MANY[:1])
