"""The Merkle tree over the log's leaves (RFC 6962): its root at any size, and what proves that a leaf is in it, or that it
only grew.

Called by what signs notes of the log and by what makes and checks proofs. Pure. A leaf hash as it is stored is one of
RFC 6962 already, and the leaf of index i is that of position i + 1. Promises that memory grows with the logarithm of the
log: leaves come one at a time, and are not kept.

    root of none = SHA-256 of nothing      root of one = its leaf      node(left, right) = SHA-256(0x01, left, right)
    root of n    = node(root of the first k, root of the others), k the largest power of two below n
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256

NODE_DOMAIN = b"\x01"
EMPTY_ROOT = sha256().digest()
"""The root of a tree without leaves."""
HASH_BYTES = 32

Span = tuple[int, int]
"""Leaves begin … end - 1."""


def node(left: bytes, right: bytes) -> bytes:
    """The hash above two."""
    return sha256(b"".join((NODE_DOMAIN, left, right))).digest()


class Frontier:
    """The roots of the full subtrees that a tree consists of, from left to right: all that it needs to grow."""

    __slots__ = ("_hashes", "size")

    def __init__(self, size: int = 0, hashes: Sequence[bytes] = ()) -> None:
        """Raises `ValueError` where a tree of this size has another number of full subtrees."""
        if size < 0 or len(hashes) != size.bit_count():
            raise ValueError(f"a tree of {size} leaves does not have {len(hashes)} full subtrees")
        self.size = size
        """How many leaves it has."""
        self._hashes = list(hashes)

    @property
    def hashes(self) -> tuple[bytes, ...]:
        """The roots, from left to right."""
        return tuple(self._hashes)

    def add(self, leaf: bytes) -> None:
        """One leaf more. It joins the full subtrees of its size, then of twice its size, and so on, into one."""
        size = self.size
        while size & 1:
            leaf = node(self._hashes.pop(), leaf)
            size >>= 1
        self._hashes.append(leaf)
        self.size += 1

    def root(self) -> bytes:
        """The root of all leaves so far."""
        if not self._hashes:
            return EMPTY_ROOT
        *others, root = self._hashes
        for left in reversed(others):
            root = node(left, root)
        return root

    def copy(self) -> Frontier:
        """One that grows by itself."""
        return Frontier(self.size, self._hashes)


class SpanRoots:
    """The roots of spans that do not overlap, from all leaves in order: one of them is worked on at a time."""

    def __init__(self, spans: Iterable[Span]) -> None:
        self._spans = tuple(spans)
        self._ahead = sorted(self._spans, reverse=True)
        self._index = 0
        self._open = Frontier()
        self._roots: dict[Span, bytes] = {}

    def add(self, leaf: bytes) -> None:
        """The next leaf."""
        index, self._index = self._index, self._index + 1
        if not self._ahead or index < self._ahead[-1][0]:
            return
        self._open.add(leaf)
        if self._index == self._ahead[-1][1]:
            self._roots[self._ahead.pop()] = self._open.root()
            self._open = Frontier()

    def roots(self) -> list[bytes]:
        """Of each span, in the order in which they were given, once all its leaves have come."""
        return [self._roots[span] for span in self._spans]


def _middle(begin: int, end: int) -> int:
    """Where a subtree of at least two leaves parts."""
    return begin + (1 << (end - begin - 1).bit_length() - 1)


def inclusion_spans(index: int, size: int) -> list[Span]:
    """The subtrees whose roots prove that the leaf of an index is in a tree of `size` leaves: a path from the leaf up."""
    if not 0 <= index < size:
        raise ValueError(f"a tree of {size} leaves has none of index {index}")
    begin, end, path = 0, size, []
    while end - begin > 1:
        middle = _middle(begin, end)
        if index < middle:
            path.append((middle, end))
            end = middle
        else:
            path.append((begin, middle))
            begin = middle
    return path[::-1]


def consistency_spans(first: int, second: int) -> list[Span]:
    """The subtrees whose roots prove that a tree of `second` leaves begins with the one of `first`."""
    if not 0 < first <= second:
        raise ValueError(f"a tree of {second} leaves does not begin with one of {first}")
    begin, end, path = 0, second, []
    while end != first:
        middle = _middle(begin, end)
        if first <= middle:
            path.append((middle, end))
            end = middle
        else:
            path.append((begin, middle))
            begin = middle
    if begin:  # else it is the first tree, whose root is known
        path.append((begin, end))
    return path[::-1]


def inclusion_root(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes:
    """The root of the tree that a path leads to. Raises `ValueError` for a path of a wrong length."""
    root = leaf
    for (_, end), sibling in zip(inclusion_spans(index, size), path, strict=True):
        root = node(sibling, root) if end <= index else node(root, sibling)
    return root


def consistency_roots(first: int, second: int, first_root: bytes, path: Sequence[bytes]) -> tuple[bytes, bytes]:
    """The roots of both trees that a path leads to. Raises `ValueError` for a path of a wrong length."""
    steps = list(zip(consistency_spans(first, second), path, strict=True))
    old = new = first_root
    if steps and steps[0][0][1] == first:  # the first tree is not a full one: the path begins with its last part
        old = new = steps.pop(0)[1]
    for (begin, _), sibling in steps:
        if begin >= first:
            new = node(new, sibling)
        else:
            old, new = node(sibling, old), node(sibling, new)
    return old, new
