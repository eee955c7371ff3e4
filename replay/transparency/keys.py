"""The keys of signed notes, where they are kept: signer keys in files that nobody else can read, verifier keys in lists.

Called by the CLI's `keys`, `run` and `prove`. Promises that a signer key is never written where it could be read by others,
never overwrites anything, and is refused from a file that others can read.

Rotation: make a new key and run with both for a while, so that each note is signed by both; then with the new one alone.
The list of verifier keys keeps the old one, so that old notes are still known.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import IO

from kernel.errors import AlreadyExistsError, NotFoundError, ValidationError, Violation
from kernel.platform.private_files import FILE_MODE, OTHERS
from replay.transparency.signed_note import SIGNER_PREFIX, SignerKey, VerifierKey

KEY_FILE_BYTES_MAX = 100_000


def create_key(path: str | Path, name: str, *, trust: str | Path | None = None) -> VerifierKey:
    """A new signer key in a new file; its verifier key, which is added to the list `trust` where one is given.

    Raises `AlreadyExistsError` where something is there, `ValidationError` for a name that no key can have and for a list
    that can't be added to: then no key is made.
    """
    key = SignerKey.create(name)
    line = f"{key.verifier}\n"
    with nullcontext() if trust is None else _list_to_add_to(Path(trust)) as known:
        _write_new(path, f"{key.secret()}\n")
        if known is not None:
            known.write(line)
    return key.verifier


def _list_to_add_to(path: Path) -> IO[str]:
    """A list of verifier keys, opened for one more. Raises `ValidationError` where it can't be, or holds something else."""
    try:
        with suppress(NotFoundError):
            _listed(str(path))
        stream = path.open("a+", encoding="utf-8")
    except OSError as problem:
        raise ValidationError(f"the list {path} can't be written: {problem.strerror}") from problem
    stream.seek(0)
    written = stream.read()
    if written and not written.endswith("\n"):
        stream.write("\n")
    return stream


def _write_new(path: str | Path, text: str) -> None:
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
    except FileExistsError as problem:
        raise AlreadyExistsError(f"{path} is there already: a key is never overwritten") from problem
    except OSError as problem:
        raise ValidationError(f"the key can't be written to {path}: {problem.strerror}") from problem
    with os.fdopen(file, "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())


def read_key(path: str | Path) -> SignerKey:
    """The signer key in a file.

    Raises `NotFoundError`, and `ValidationError` for a file that others can read or that has no key in it.
    """
    try:
        with Path(path).open("rb") as stream:
            status = os.fstat(stream.fileno())
            data = stream.read(KEY_FILE_BYTES_MAX)
    except FileNotFoundError as problem:
        raise NotFoundError(f"there is no key {path}: `orderctl keys create` makes one") from problem
    except OSError as problem:
        raise ValidationError(f"the key {path} can't be read: {problem.strerror}") from problem
    if status.st_uid not in (0, os.geteuid()):
        remedy = "`orderctl keys create` makes one of your own"
        raise ValidationError(f"the key {path} belongs to user {status.st_uid}, who knows it: {remedy}")
    if status.st_mode & OTHERS:
        violation = Violation(
            "key", "mode", f"{FILE_MODE:o}", f"{stat.S_IMODE(status.st_mode):o}", "mode {value}, not {limit}"
        )
        raise ValidationError(f"others can read the key {path}: chmod {FILE_MODE:o} it, if nobody has", [violation])
    try:
        return SignerKey.parse(data.decode(errors="replace").strip())
    except ValidationError as problem:
        raise ValidationError(f"{path}: {problem}") from None


def signer_keys(words: Iterable[str]) -> tuple[SignerKey, ...]:
    """Signer keys, each given by its file or, from an environment that nobody else can see, as its text."""
    return tuple(SignerKey.parse(word) if word.startswith(SIGNER_PREFIX) else read_key(word) for word in words)


def verifier_keys(words: Iterable[str]) -> tuple[VerifierKey, ...]:
    """Verifier keys, each given as its text, or as a file with one a line (empty lines and those with # are passed over).

    Raises `NotFoundError` and `ValidationError`; each key is there once.
    """
    found: dict[VerifierKey, None] = {}
    for word in words:
        found |= dict.fromkeys(_listed(word) if "+" not in word or Path(word).exists() else [VerifierKey.parse(word)])
    return tuple(found)


def _listed(path: str) -> list[VerifierKey]:
    try:
        with Path(path).open("rb") as stream:
            text = stream.read(KEY_FILE_BYTES_MAX).decode()
    except FileNotFoundError as problem:
        raise NotFoundError(f"{path} is neither a verifier key nor a file of them") from problem
    except (OSError, ValueError) as problem:
        raise ValidationError(f"the verifier keys in {path} can't be read: {problem}") from problem
    lines = [line.strip() for line in text.splitlines()]
    return [VerifierKey.parse(line) for line in lines if line and not line.startswith("#")]
