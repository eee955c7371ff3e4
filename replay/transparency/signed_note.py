"""The text formats of signed tree heads and their keys: C2SP signed-note and tlog-checkpoint.

Other implementations, such as Go's `sumdb/note` and witnesses, read what is written here. Ed25519 comes from `cryptography`
(the extra `notes`), imported with the first signature.

    signed note     = text, an empty line, then for each signature: — NAME base64(key id, signature)
    tree head text  = origin, size, base64(root), then extension lines, here: chain base64(chain hash)
    key id          = first 4 bytes of SHA-256(NAME, 0x0A, 0x01, public key)
    verifier key    = NAME+hex(key id)+base64(0x01, public key)
    signer key      = PRIVATE+KEY+NAME+hex(key id)+base64(0x01, seed)
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

import msgspec

from kernel.errors import KernelError, ValidationError
from kernel.log.base import EventLog
from kernel.log.merkle import HASH_BYTES

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

NEEDED = "signed tree heads need cryptography, which is not installed: pip install 'exchange-kernel[notes]'"
ED25519 = b"\x01"
KEY_ID_BYTES = 4
KEY_BYTES = 32
SIGNER_PREFIX = "PRIVATE+KEY+"
DASH = "\N{EM DASH}"
SIGNATURES_MAX = 100
"""The limit of Go's `sumdb/note`."""
NOTE_BYTES_MAX = 1_000_000
CHAIN_LINE = "chain "


def encoded(value: bytes) -> str:
    return base64.b64encode(value).decode()


def decoded(text: str) -> bytes:
    """Decode canonical base64. Raises `ValueError` for any other encoding."""
    try:
        value = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as problem:
        raise ValueError("the text is not base64") from problem
    if encoded(value) != text:
        raise ValueError("the base64 is not canonical: its unused bits are not 0")
    return value


def is_name(text: str) -> bool:
    """Return whether a text is a valid key name: not empty, without spaces, control characters or `+`."""
    return bool(text) and "+" not in text and not any(item.isspace() or item < " " for item in text)


def key_id(name: str, public_key: bytes) -> bytes:
    """Return the id that identifies a key in a signature, beside its name."""
    return sha256(b"".join((name.encode(), b"\n", ED25519, public_key))).digest()[:KEY_ID_BYTES]


class VerifierKey(msgspec.Struct, frozen=True):
    """A public key, which checks signatures."""

    name: str
    public_key: bytes

    @classmethod
    def parse(cls, text: str) -> VerifierKey:
        """Parse a verifier key. Raises `ValidationError`."""
        try:
            name, given_id, rest = text.split("+", 2)
            key = cls(name, _key_bytes(rest))
            if not is_name(name) or key.id.hex() != given_id:
                raise ValueError("the id does not match the name and the key bytes")
        except ValueError as problem:
            raise ValidationError(f"{text[:80]!r} is not a verifier key NAME+ID+BASE64: {problem}") from problem
        return key

    @property
    def id(self) -> bytes:
        return key_id(self.name, self.public_key)

    def __str__(self) -> str:
        return f"{self.name}+{self.id.hex()}+{encoded(ED25519 + self.public_key)}"

    def verifies(self, text: str, signature: bytes) -> bool:
        """Return whether this key made the signature. Raises `KernelError` if `cryptography` is not installed."""
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
    """A private key. Only `secret()` reveals it."""

    name: str
    seed: bytes = field(repr=False)

    @classmethod
    def create(cls, name: str) -> SignerKey:
        """Create a key. Raises `ValidationError` for an invalid name."""
        if not is_name(name):
            raise ValidationError(f"key name {name!r} is invalid: use a name without spaces and without +")
        return cls(name, secrets.token_bytes(KEY_BYTES))

    @classmethod
    def parse(cls, text: str) -> SignerKey:
        """Parse a signer key. Raises `ValidationError`, whose text never contains the key."""
        try:
            if not text.startswith(SIGNER_PREFIX):
                raise ValueError(f"it does not start with {SIGNER_PREFIX}")
            name, given_id, rest = text.removeprefix(SIGNER_PREFIX).split("+", 2)
            key = cls(name, _key_bytes(rest))
            if not is_name(name) or key.verifier.id.hex() != given_id:
                raise ValueError("the id does not match the name and the key bytes")
        except ValueError as problem:
            raise ValidationError(f"not a signer key {SIGNER_PREFIX}NAME+ID+BASE64: {problem}") from None
        return key

    @property
    def verifier(self) -> VerifierKey:
        """The public key. Raises `KernelError` if `cryptography` is not installed."""
        return VerifierKey(self.name, self._private().public_key().public_bytes_raw())

    def secret(self) -> str:
        return f"{SIGNER_PREFIX}{self.name}+{self.verifier.id.hex()}+{encoded(ED25519 + self.seed)}"

    def sign(self, text: str) -> Signature:
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
        raise ValueError(f"it is not an Ed25519 key of {KEY_BYTES} bytes")
    return value[1:]


class Signature(msgspec.Struct, frozen=True):
    """A signature line of a signed note."""

    name: str
    key_id: bytes
    value: bytes

    def __str__(self) -> str:
        return f"{DASH} {self.name} {encoded(self.key_id + self.value)}"


SIGNATURE_LINE = re.compile(rf"{DASH} (\S+) (\S+)")


class SignedNote(msgspec.Struct, frozen=True):
    """A text with signatures. It is untrusted until `signers` has found a trusted key."""

    text: str
    """Ends with a newline."""
    signatures: tuple[Signature, ...]

    @classmethod
    def parse(cls, data: bytes) -> SignedNote:
        """Parse a stored note. Raises `ValidationError`."""
        try:
            if len(data) > NOTE_BYTES_MAX:
                raise ValueError(f"it is longer than {NOTE_BYTES_MAX:,} bytes")
            text = data.decode()
            if any(item < " " and item != "\n" for item in text):
                raise ValueError("it contains control characters")
            before, gap, after = text.rpartition("\n\n")
            if not gap or not after.endswith("\n"):
                raise ValueError("it has no empty line before the signatures, or no newline at its end")
            return cls(before + "\n", _signatures(after))
        except ValueError as problem:
            raise ValidationError(f"not a signed note: {problem}") from problem

    def __str__(self) -> str:
        return f"{self.text}\n" + "".join(f"{item}\n" for item in self.signatures)

    def signers(self, keys: Iterable[VerifierKey]) -> tuple[VerifierKey, ...]:
        """Return the keys among these that signed the note; other signatures are ignored.

        Raises `ValidationError` if a signature in the name of one of the keys is invalid, or none of them signed.
        """
        known = {(key.name, key.id): key for key in keys}
        found: dict[VerifierKey, None] = {}
        for signature in self.signatures:
            key = known.get((signature.name, signature.key_id))
            if key is None or key in found:
                continue
            if not key.verifies(self.text, signature.value):
                raise ValidationError(f"bad signature: the key {key.name}+{key.id.hex()} did not make it")
            found[key] = None
        if not found:
            names = ", ".join(f"{item.name}+{item.key_id.hex()}" for item in self.signatures)
            raise ValidationError(f"unknown key: signed by {names}, but by no trusted key")
        return tuple(found)


def _signatures(text: str) -> tuple[Signature, ...]:
    lines = text.removesuffix("\n").split("\n")
    if len(lines) > SIGNATURES_MAX:
        raise ValueError(f"it has more than {SIGNATURES_MAX} signatures")
    return tuple(map(_signature, lines))


def _signature(line: str) -> Signature:
    found = SIGNATURE_LINE.fullmatch(line)
    if found is None or not is_name(found[1]):
        raise ValueError(f"{line[:80]!r} is not a signature {DASH} NAME BASE64")
    value = decoded(found[2])
    if len(value) <= KEY_ID_BYTES:
        raise ValueError("a signature is too short")
    return Signature(found[1], value[:KEY_ID_BYTES], value[KEY_ID_BYTES:])


def sign(text: str, keys: Sequence[SignerKey]) -> SignedNote:
    assert text.endswith("\n"), "the text of a signed note ends with a newline"
    return SignedNote(text, tuple(key.sign(text) for key in keys))


class TreeHead(msgspec.Struct, frozen=True):
    """The size and hashes of a log at one time (a C2SP checkpoint)."""

    origin: str
    """Identity of the log."""
    size: int
    """Number of events, which is the position of the last one."""
    root: bytes
    """Root of the Merkle tree over the leaf hashes."""
    chain_hash: bytes
    """Chain hash of the last event."""

    @classmethod
    def parse(cls, text: str) -> TreeHead:
        """Parse the text of a signed note. Raises `ValidationError`."""
        try:
            if not text.endswith("\n"):
                raise ValueError("it does not end with a newline")
            origin, size, root, *others = text.removesuffix("\n").split("\n")
            if not origin or "" in others:
                raise ValueError("a line is empty")
            if not re.fullmatch(r"0|[1-9][0-9]{0,18}", size, re.ASCII):
                raise ValueError(f"{size[:40]!r} is not a size")
            chain = [line.removeprefix(CHAIN_LINE) for line in others if line.startswith(CHAIN_LINE)]
            if len(chain) != 1:
                raise ValueError(f"it has {len(chain)} lines `{CHAIN_LINE}HASH` instead of one")
            return cls(origin, int(size), _hash(root), _hash(chain[0]))
        except ValueError as problem:
            raise ValidationError(f"not a tree head of a log: {problem}") from problem

    def text(self) -> str:
        chain = f"{CHAIN_LINE}{encoded(self.chain_hash)}"
        return f"{self.origin}\n{self.size}\n{encoded(self.root)}\n{chain}\n"


def _hash(text: str) -> bytes:
    value = decoded(text)
    if len(value) != HASH_BYTES:
        raise ValueError(f"a hash has {HASH_BYTES} bytes, not {len(value)}")
    return value


def origin_of(log: EventLog) -> str:
    """Return the unique origin of a log in its tree heads."""
    return origin_of_log(log.exchange_id, log.log_id)


def origin_of_log(exchange_id: str, log_id: str) -> str:
    """Return the origin for a log's identity."""
    return f"{key_name(exchange_id)}/{log_id}"


def key_name(exchange_id: str) -> str:
    """Return the default name of an account's signing key."""
    return f"exchange-kernel/{exchange_id}"
