"""The Merkle tree over the log's leaves (RFC 6962): roots, inclusion proofs and consistency proofs.

Called to sign tree heads, and to make and check proofs. Pure. A stored leaf hash is a leaf hash of RFC 6962; index i is
position i + 1. Leaves are added one at a time and not kept, so memory grows with the logarithm of the log.

    root of none = SHA-256 of nothing      root of one = its leaf      node(left, right) = SHA-256(0x01, left, right)
    root of n    = node(root of the first k, root of the others), k the largest power of two below n
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256

NODE_DOMAIN = b"\x01"
EMPTY_ROOT = sha256().digest()
"""The root of an empty tree."""
HASH_BYTES = 32

Span = tuple[int, int]
"""The leaves from the first index up to, not including, the second."""


def node(left: bytes, right: bytes) -> bytes:
    return sha256(b"".join((NODE_DOMAIN, left, right))).digest()


class Frontier:
    """The roots of a tree's full subtrees from left to right: all that it needs to grow."""

    __slots__ = ("_hashes", "size")

    def __init__(self, size: int = 0, hashes: Sequence[bytes] = ()) -> None:
        """Create a tree; raises `ValueError` if a tree of this size has another number of full subtrees."""
        if size < 0 or len(hashes) != size.bit_count():
            raise ValueError(f"a tree of {size} leaves does not have {len(hashes)} full subtrees")
        self.size = size
        """Number of leaves."""
        self._hashes = list(hashes)

    @property
    def hashes(self) -> tuple[bytes, ...]:
        """The roots from left to right."""
        return tuple(self._hashes)

    def add(self, leaf: bytes) -> None:
        """Add a leaf, and merge full subtrees of equal size."""
        size = self.size
        while size & 1:
            leaf = node(self._hashes.pop(), leaf)
            size >>= 1
        self._hashes.append(leaf)
        self.size += 1

    def root(self) -> bytes:
        """Return the root of all leaves so far."""
        if not self._hashes:
            return EMPTY_ROOT
        *others, root = self._hashes
        for left in reversed(others):
            root = node(left, root)
        return root

    def copy(self) -> Frontier:
        return Frontier(self.size, self._hashes)


class SpanRoots:
    """Computes the roots of spans that do not overlap, from all leaves in order."""

    def __init__(self, spans: Iterable[Span]) -> None:
        self._spans = tuple(spans)
        self._ahead = sorted(self._spans, reverse=True)
        self._index = 0
        self._open = Frontier()
        self._roots: dict[Span, bytes] = {}

    def add(self, leaf: bytes) -> None:
        index, self._index = self._index, self._index + 1
        if not self._ahead or index < self._ahead[-1][0]:
            return
        self._open.add(leaf)
        if self._index == self._ahead[-1][1]:
            self._roots[self._ahead.pop()] = self._open.root()
            self._open = Frontier()

    def roots(self) -> list[bytes]:
        """Return each span's root, in the order of the spans given; needs all their leaves."""
        return [self._roots[span] for span in self._spans]


def _middle(begin: int, end: int) -> int:
    """Return where a subtree of at least two leaves splits."""
    return begin + (1 << (end - begin - 1).bit_length() - 1)


def inclusion_spans(index: int, size: int) -> list[Span]:
    """Return the subtrees whose roots prove that a leaf is in a tree of `size` leaves, from the leaf up."""
    if not 0 <= index < size:
        raise ValueError(f"a tree of {size} leaves has no leaf {index}")
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
    """Return the subtrees whose roots prove that a tree of `second` leaves begins with one of `first` leaves."""
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
    """Return the root that a path leads to. Raises `ValueError` for a path of the wrong length."""
    root = leaf
    for (_, end), sibling in zip(inclusion_spans(index, size), path, strict=True):
        root = node(sibling, root) if end <= index else node(root, sibling)
    return root


def consistency_roots(first: int, second: int, first_root: bytes, path: Sequence[bytes]) -> tuple[bytes, bytes]:
    """Return the roots of both trees that a path leads to. Raises `ValueError` for a path of the wrong length."""
    steps = list(zip(consistency_spans(first, second), path, strict=True))
    old = new = first_root
    if steps and steps[0][0][1] == first:  # the first tree is not full: the path begins with its last subtree
        old = new = steps.pop(0)[1]
    for (begin, _), sibling in steps:
        if begin >= first:
            new = node(new, sibling)
        else:
            old, new = node(sibling, old), node(sibling, new)
    return old, new
