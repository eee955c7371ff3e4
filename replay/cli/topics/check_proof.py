"""python check_proof.py PROOF.json KEY...: print what is proved (exit code 0), or why it is not (exit code 1).

Needs Python's standard library, and `cryptography` for the signature. KEY is a verifier key from a source that you trust.
"""

import base64
import json
import sys
from hashlib import sha256
from typing import Any

try:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
except ImportError:
    sys.exit("NOT PROVED: checking a signature needs cryptography, which is not installed: pip install cryptography")

COLUMNS = [
    "position",
    "stream_id",
    "version",
    "topic",
    "schema_version",
    "recorded_at_ns",
    "command_id",
    "command_index",
    "meta",
    "state",
]
NUMBERS = ["version", "schema_version", "recorded_at_ns", "command_index"]
FIELDS = {
    "exchange-kernel/inclusion/v1": ["proof", "row", "leaf_index", "path", "note"],
    "exchange-kernel/consistency/v1": ["proof", "path", "first_note", "second_note"],
}


def need(condition: object, text: str) -> None:
    if not condition:
        raise ValueError(text)


def unbase64(text: str) -> bytes:
    value = base64.b64decode(text, validate=True)
    need(base64.b64encode(value).decode() == text, "base64 is not canonical")
    return value


def unhex(text: str) -> bytes:
    value = bytes.fromhex(text)
    need(value.hex() == text, "hex is not canonical")
    return value


def node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


def middle_of(begin: int, end: int) -> int:
    """Where RFC 6962 splits a subtree: after the largest power of two of leaves that is less than their number."""
    return begin + (1 << (end - begin - 1).bit_length() - 1)


def leaf_of(row: dict[str, Any]) -> bytes:
    """The hash of a row: each column after its length in 4 bytes; numbers have 8 bytes."""
    need(list(row) == COLUMNS, "the row has other columns")
    data = b"\x00\x01"
    for name in COLUMNS[1:]:
        need(name not in NUMBERS or type(row[name]) is int, f"{name} is not a number")
        value = row[name].to_bytes(8, "big") if name in NUMBERS else row[name].encode()
        value = unhex(row[name]) if name == "command_id" else value
        data += len(value).to_bytes(4, "big") + value
    return sha256(data).digest()


def included(leaf: bytes, index: int, path: list[bytes], begin: int, end: int) -> bytes:
    """The root above a leaf."""
    if end - begin == 1:
        return leaf
    sibling, middle = path.pop(), middle_of(begin, end)
    if index < middle:
        return node(included(leaf, index, path, begin, middle), sibling)
    return node(sibling, included(leaf, index, path, middle, end))


def grown(first: int, first_root: bytes, path: list[bytes], begin: int, end: int) -> tuple[bytes, bytes]:
    """The roots of the old tree and of the new one."""
    if end == first:
        root = path.pop() if begin else first_root
        return root, root
    sibling, middle = path.pop(), middle_of(begin, end)
    if first <= middle:
        old, new = grown(first, first_root, path, begin, middle)
        return old, node(new, sibling)
    old, new = grown(first, first_root, path, middle, end)
    return node(sibling, old), node(sibling, new)


def opened(note: str, keys: list[str]) -> tuple[str, int, bytes]:
    """The log, number of events and root of a signed tree head that one of the keys signed."""
    text, _, signatures = note.rpartition("\n\n")
    signers = []
    for line in signatures.removesuffix("\n").split("\n"):
        dash, name, signature = line.split(" ")
        value = unbase64(signature)
        for key in keys:
            key_name, _, key_data = key.split("+", 2)
            public = unbase64(key_data)
            if (dash, name, value[:4]) == ("\u2014", key_name, sha256(f"{name}\n".encode() + public).digest()[:4]):
                need(len(public) == 33 and public[0] == 1, "the key is not an Ed25519 key")
                Ed25519PublicKey.from_public_bytes(public[1:]).verify(value[4:], f"{text}\n".encode())
                signers.append(name)
    need(signers, "none of these keys signed the tree head")
    origin, size, root, *_ = text.split("\n")
    return origin, int(size), unbase64(root)


def check(proof: dict[str, Any], keys: list[str]) -> str:
    """Return the proven statement; raises `ValueError` if nothing is proven."""
    need(list(proof) == FIELDS.get(proof["proof"]), "the proof is of no known kind")
    path = [unhex(item) for item in proof["path"]]
    if proof["proof"] == "exchange-kernel/inclusion/v1":
        origin, size, root = opened(proof["note"], keys)
        row, index = proof["row"], proof["leaf_index"]
        need(
            type(row["position"]) is type(index) is int and index == row["position"] - 1, "the index is another event's"
        )
        need(0 <= index < size, "the event is not below this tree head")
        need(included(leaf_of(row), index, path, 0, size) == root and not path, "the path does not lead to the root")
        return f"event {row['position']} of the {size} in {origin}:\n{json.dumps(row, indent=2)}"
    origin, size, root = opened(proof["first_note"], keys)
    later, new_size, new_root = opened(proof["second_note"], keys)
    need(origin == later and 0 < size <= new_size, "the second tree head is not a later one of the same log")
    need(grown(size, root, path, 0, new_size) == (root, new_root) and not path, "the path does not lead to the roots")
    return f"the {size} events of {origin} are the beginning of its {new_size}"


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("usage: python check_proof.py PROOF.json KEY...")
    try:
        with open(sys.argv[1], "rb") as file:
            text = file.read().decode()
        proof = json.loads(text)
        need(json.dumps(proof, ensure_ascii=False, indent=2) + "\n" == text, "the file is not in canonical form")
        print("PROVED", check(proof, " ".join(sys.argv[2:]).split()))
    except Exception as problem:
        sys.exit(f"NOT PROVED: {problem!r}")
