"""Signed notes of a log's tree: their text, signatures and keys, as C2SP's signed-note and tlog-checkpoint have it.

Called by what writes notes, reads them and proves by them. No files here. Promises that what it writes any reader of these
formats reads (Go's `sumdb/note`, witnesses), and that a text counts only where a key that is trusted has signed it. Ed25519
comes from `cryptography` (the extra `notes`), which is imported when the first signature is made or checked.

    a note            = text, an empty line, then for each signature: — NAME base64(key id, signature)
    a checkpoint text = origin, size, base64(root), then lines of one's own, here: chain base64(chain hash)
    key id            = first 4 bytes of SHA-256(NAME, 0x0A, 0x01, public key)
    verifier key      = NAME+hex(key id)+base64(0x01, public key)
    signer key        = PRIVATE+KEY+NAME+hex(key id)+base64(0x01, seed)
"""

from __future__ import annotations

import base64
import binascii
import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING

from kernel.errors import KernelError, ValidationError
from kernel.log.base import EventLog
from kernel.log.merkle import HASH_BYTES

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

NEEDED = "signed notes need cryptography, which is not installed: pip install 'exchange-kernel[notes]'"
ED25519 = b"\x01"
KEY_ID_BYTES = 4
KEY_BYTES = 32
SIGNER_PREFIX = "PRIVATE+KEY+"
DASH = "\N{EM DASH}"
SIGNATURES_MAX = 100
"""More signatures make a note malformed, as for Go's `sumdb/note`."""
NOTE_BYTES_MAX = 1_000_000
CHAIN_LINE = "chain "


# -------------------------------------------------------------------------------------------------------------- encoding
def encoded(value: bytes) -> str:
    """Base64, as C2SP writes it."""
    return base64.b64encode(value).decode()


def decoded(text: str) -> bytes:
    """The bytes of a base64 text. `ValueError` for any other way to write them."""
    try:
        value = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as problem:
        raise ValueError("this is not base64") from problem
    if encoded(value) != text:
        raise ValueError("this base64 has bits that belong to no byte")
    return value


def is_name(text: str) -> bool:
    """Whether a key may be called so: something without spaces and without a plus."""
    return bool(text) and "+" not in text and not any(item.isspace() or item < " " for item in text)


# ------------------------------------------------------------------------------------------------------------------ keys
def key_id(name: str, public_key: bytes) -> bytes:
    """What a signature names its key by, beside the name."""
    return sha256(b"".join((name.encode(), b"\n", ED25519, public_key))).digest()[:KEY_ID_BYTES]


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """The public half of a key: what a signature is checked with."""

    name: str
    public_key: bytes

    @classmethod
    def parse(cls, text: str) -> VerifierKey:
        """A verifier key from its text. Raises `ValidationError`."""
        try:
            name, given_id, rest = text.split("+", 2)
            key = cls(name, _key_bytes(rest))
            if not is_name(name) or key.id.hex() != given_id:
                raise ValueError("its id is not that of its name and its bytes")
        except ValueError as problem:
            raise ValidationError(f"{text[:80]!r} is no verifier key, NAME+ID+BASE64: {problem}") from problem
        return key

    @property
    def id(self) -> bytes:
        """Its id in signatures."""
        return key_id(self.name, self.public_key)

    def __str__(self) -> str:
        return f"{self.name}+{self.id.hex()}+{encoded(ED25519 + self.public_key)}"

    def verifies(self, text: str, signature: bytes) -> bool:
        """Whether this key made a signature over a text. Raises `KernelError` where `cryptography` is not installed."""
        try:
            from cryptography.exceptions import InvalidSignature
            from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        except ImportError as problem:
            raise KernelError(NEEDED) from problem
        try:
            Ed25519PublicKey.from_public_bytes(self.public_key).verify(signature, text.encode())
        except (InvalidSignature, ValueError):
            return False
        return True


@dataclass(frozen=True, slots=True)
class SignerKey:
    """The private half of a key. It is shown nowhere by accident: `secret()` is its text."""

    name: str
    seed: bytes = field(repr=False)

    @classmethod
    def create(cls, name: str) -> SignerKey:
        """A new key. Raises `ValidationError` for a name that no key can have."""
        if not is_name(name):
            raise ValidationError(f"{name!r} names no key: it needs a name without spaces and without +")
        return cls(name, secrets.token_bytes(KEY_BYTES))

    @classmethod
    def parse(cls, text: str) -> SignerKey:
        """A signer key from its text. Raises `ValidationError`, whose words never hold the key."""
        try:
            if not text.startswith(SIGNER_PREFIX):
                raise ValueError(f"it does not begin with {SIGNER_PREFIX}")
            name, given_id, rest = text.removeprefix(SIGNER_PREFIX).split("+", 2)
            key = cls(name, _key_bytes(rest))
            if not is_name(name) or key.verifier.id.hex() != given_id:
                raise ValueError("its id is not that of its name and its bytes")
        except ValueError as problem:
            form = f"{SIGNER_PREFIX}NAME+ID+BASE64"
            raise ValidationError(f"this is no signer key, {form}: {problem}") from None
        return key

    @property
    def verifier(self) -> VerifierKey:
        """Its public half. Raises `KernelError` where `cryptography` is not installed."""
        return VerifierKey(self.name, self._private().public_key().public_bytes_raw())

    def secret(self) -> str:
        """The key itself as text."""
        return f"{SIGNER_PREFIX}{self.name}+{self.verifier.id.hex()}+{encoded(ED25519 + self.seed)}"

    def sign(self, text: str) -> Signature:
        """Its signature over a text."""
        return Signature(self.name, self.verifier.id, self._private().sign(text.encode()))

    def _private(self) -> Ed25519PrivateKey:
        try:
            from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        except ImportError as problem:
            raise KernelError(NEEDED) from problem
        return Ed25519PrivateKey.from_private_bytes(self.seed)


def _key_bytes(text: str) -> bytes:
    value = decoded(text)
    if len(value) != 1 + KEY_BYTES or not value.startswith(ED25519):
        raise ValueError(f"it is no Ed25519 key of {KEY_BYTES} bytes")
    return value[1:]


# ----------------------------------------------------------------------------------------------------------------- notes
@dataclass(frozen=True, slots=True)
class Signature:
    """One line under a note."""

    name: str
    key_id: bytes
    value: bytes

    def __str__(self) -> str:
        return f"{DASH} {self.name} {encoded(self.key_id + self.value)}"


SIGNATURE_LINE = re.compile(rf"{DASH} (\S+) (\S+)")


@dataclass(frozen=True, slots=True)
class SignedNote:
    """A text and who signed it. It says nothing until `signers` has found a key that is trusted."""

    text: str
    """Ends with a line break."""
    signatures: tuple[Signature, ...]

    @classmethod
    def parse(cls, data: bytes) -> SignedNote:
        """A note as it is stored. Raises `ValidationError` for what is none."""
        try:
            if len(data) > NOTE_BYTES_MAX:
                raise ValueError(f"it is longer than {NOTE_BYTES_MAX:,} bytes")
            text = data.decode()
            if any(item < " " and item != "\n" for item in text):
                raise ValueError("it has control characters")
            before, gap, after = text.rpartition("\n\n")
            if not gap or not after.endswith("\n"):
                raise ValueError("it has no empty line with signatures below, or does not end with a line break")
            return cls(before + "\n", _signatures(after))
        except ValueError as problem:
            raise ValidationError(f"this is no signed note: {problem}") from problem

    def __str__(self) -> str:
        return f"{self.text}\n" + "".join(f"{item}\n" for item in self.signatures)

    def signers(self, keys: Iterable[VerifierKey]) -> tuple[VerifierKey, ...]:
        """Which of these keys signed it; signatures of others are passed over.

        Raises `ValidationError` where a signature in the name of one of them is not by it, or where none of them signed.
        """
        known = {(key.name, key.id): key for key in keys}
        found: dict[VerifierKey, None] = {}
        for signature in self.signatures:
            key = known.get((signature.name, signature.key_id))
            if key is None or key in found:
                continue
            if not key.verifies(self.text, signature.value):
                raise ValidationError(f"bad signature: it is not by the key {key.name}+{key.id.hex()} that it names")
            found[key] = None
        if not found:
            names = ", ".join(f"{item.name}+{item.key_id.hex()}" for item in self.signatures)
            raise ValidationError(f"unknown key: it is signed by {names}, and by none that is trusted")
        return tuple(found)


def _signatures(text: str) -> tuple[Signature, ...]:
    lines = text.removesuffix("\n").split("\n")
    if len(lines) > SIGNATURES_MAX:
        raise ValueError(f"it has more than {SIGNATURES_MAX} signatures")
    return tuple(map(_signature, lines))


def _signature(line: str) -> Signature:
    found = SIGNATURE_LINE.fullmatch(line)
    if found is None or not is_name(found[1]):
        raise ValueError(f"{line[:80]!r} is no signature, {DASH} NAME BASE64")
    value = decoded(found[2])
    if len(value) <= KEY_ID_BYTES:
        raise ValueError("a signature is too short")
    return Signature(found[1], value[:KEY_ID_BYTES], value[KEY_ID_BYTES:])


def sign(text: str, keys: Sequence[SignerKey]) -> SignedNote:
    """A text signed by each of the keys."""
    assert text.endswith("\n"), "a note's text ends with a line break"
    return SignedNote(text, tuple(key.sign(text) for key in keys))


# ----------------------------------------------------------------------------------------------------------- checkpoints
@dataclass(frozen=True, slots=True)
class TreeHead:
    """What a note says of a log: how long it was, and the hashes over all that was in it."""

    origin: str
    """Which log."""
    size: int
    """How many events it had: the position of the last one."""
    root: bytes
    """Root of the tree over their leaves."""
    chain_hash: bytes
    """Chain hash of the last one."""

    @classmethod
    def parse(cls, text: str) -> TreeHead:
        """A checkpoint from a note's text. Raises `ValidationError`."""
        try:
            if not text.endswith("\n"):
                raise ValueError("it does not end with a line break")
            origin, size, root, *others = text.removesuffix("\n").split("\n")
            if not origin or "" in others:
                raise ValueError("a line is empty")
            if not re.fullmatch(r"0|[1-9][0-9]{0,18}", size, re.ASCII):
                raise ValueError(f"{size[:40]!r} is no size")
            chain = [line.removeprefix(CHAIN_LINE) for line in others if line.startswith(CHAIN_LINE)]
            if len(chain) != 1:
                raise ValueError(f"it needs one line `{CHAIN_LINE}HASH`, and has {len(chain)}")
            return cls(origin, int(size), _hash(root), _hash(chain[0]))
        except ValueError as problem:
            raise ValidationError(f"this is no checkpoint of a log: {problem}") from problem

    def text(self) -> str:
        """The text to sign."""
        chain = f"{CHAIN_LINE}{encoded(self.chain_hash)}"
        return f"{self.origin}\n{self.size}\n{encoded(self.root)}\n{chain}\n"


def _hash(text: str) -> bytes:
    value = decoded(text)
    if len(value) != HASH_BYTES:
        raise ValueError(f"a hash has {HASH_BYTES} bytes, not {len(value)}")
    return value


def origin_of(log: EventLog) -> str:
    """What a log's notes call it: no other log has the same."""
    return origin_of_log(log.exchange_id, log.log_id)


def origin_of_log(exchange_id: str, log_id: str) -> str:
    """The same, of a log that is not there yet."""
    return f"{key_name(exchange_id)}/{log_id}"


def key_name(exchange_id: str) -> str:
    """What the key of an account's notes is called; it may be made before there is a log."""
    return f"exchange-kernel/{exchange_id}"
