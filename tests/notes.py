"""Signed tree heads for tests: keys, the root by its definition, and consistently truncated or rewritten logs."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from kernel.errors import ValidationError
from kernel.log import EventLog, StoredRow, hashing
from kernel.log.merkle import EMPTY_ROOT, Frontier, node
from replay.transparency.signed_note import SignerKey, TreeHead, sign
from replay.transparency.tree_head_signer import FRONTIER, TreeHeadOptions, TreeHeadWriter
from replay.transparency.tree_head_store import StoredTreeHead, read_tree_head, tree_head_files, tree_head_name
from tests.commands import an_append
from tests.contract.backends import Backend

KEY = SignerKey.create("exchange-kernel/test")
NEW_KEY = SignerKey.create("exchange-kernel/test")


def options(directory: Path, *keys: SignerKey) -> TreeHeadOptions:
    """Options for a directory, by default with `KEY`."""
    return TreeHeadOptions(directory=directory, keys=keys or (KEY,))


def tree_heads(directory: Path, *keys: SignerKey) -> list[StoredTreeHead]:
    """The tree heads in a directory that one of the keys (by default `KEY`) signed, by size."""
    trusted, good = [key.verifier for key in keys or (KEY,)], []
    for file in tree_head_files(directory):
        with suppress(ValidationError):
            good.append(read_tree_head(file, trusted))
    return good


def sizes(directory: Path) -> list[int]:
    """The sizes of the good tree heads in a directory."""
    return [head.size for head in tree_heads(directory, KEY, NEW_KEY)]


async def grow(log: EventLog, *counts: int, into: Path | None = None) -> None:
    """Append so many events in one append per count, and write a tree head after each."""
    writer = None if into is None else TreeHeadWriter(log, options(into))
    for count in counts:
        await log.append(an_append("a", count=count))
        if writer is not None:
            await writer.write()


def forge(directory: Path, origin: str, size: int, *, chain_hash: bytes, key: SignerKey = KEY) -> None:
    """Sign a tree head with an invented root, and write the frontier that leads to it."""
    hashes = [bytes([number]) * 32 for number in range(size.bit_count())]
    tree_head = TreeHead(origin, size, Frontier(size, hashes).root(), chain_hash)
    (directory / tree_head_name(size)).write_text(str(sign(tree_head.text(), [key])), encoding="utf-8")
    cached = {"size": size, "hashes": [item.hex() for item in hashes]}
    (directory / FRONTIER).write_text(json.dumps(cached), encoding="utf-8")


async def rows_of(log: EventLog) -> list[StoredRow]:
    """All rows."""
    return [row async for rows in log.read() for row in rows]


def root_of(leaves: list[bytes]) -> bytes:
    """The root by its definition in RFC 6962, 2.1."""
    if len(leaves) < 2:
        return leaves[0] if leaves else EMPTY_ROOT
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return node(root_of(leaves[:k]), root_of(leaves[k:]))


async def rewrite(backend: Backend, log: EventLog, position: int) -> None:
    """Change an event and recompute all hashes, which the log itself cannot reveal."""
    chain = hashing.GENESIS
    for row in await rows_of(log):
        changed = row._replace(state=row.state.replace(b"5", b"6", 1)) if row.position == position else row
        assert row.position != position or changed.state != row.state
        changed = changed._replace(leaf_hash=hashing.leaf_hash(changed))
        chain = hashing.chain_hash(chain, row.position, changed.leaf_hash)
        if row.position >= position:
            backend.update(row.position, "state", changed.state)
            backend.update(row.position, "leaf_hash", changed.leaf_hash)
            backend.update(row.position, "chain_hash", chain)
    backend.set_head((await log.head()).position, chain)


async def cut(backend: Backend, log: EventLog, position: int) -> None:
    """Remove all events after a position and set the head row to it."""
    last = (await rows_of(log))[position - 1]
    backend.delete(above=position, upto=(await log.head()).position)
    backend.set_head(position, last.chain_hash)
