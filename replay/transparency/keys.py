"""Key files: signer keys in private files, verifier keys in lists.

Called by the CLI's `keys`, `run` and `prove`. A signer key is written with mode 0600, never overwrites a file, and is
rejected from a file that other users can read.

To rotate a key, create a new one and run with both for a while, so that each tree head has both signatures; then run with
the new one. Keep the old verifier key in the list, so that old tree heads still verify.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import IO

from kernel.errors import AlreadyExistsError, NotFoundError, ValidationError
from kernel.platform.private_files import FILE_MODE, OTHERS
from replay.transparency.signed_note import SIGNER_PREFIX, SignerKey, VerifierKey

KEY_FILE_BYTES_MAX = 100_000
LIST_MODE = 0o644
"""Mode of a new list, whatever the umask: anybody may read it, and whoever writes it decides whom a verification trusts."""


def create_key(path: str | Path, name: str, *, trust: str | Path | None = None) -> VerifierKey:
    """Create a signer key in a new file, appending its verifier key to the list `trust`; return the verifier key.

    Raises `AlreadyExistsError` if the file exists, and `ValidationError` for a name with spaces or `+` or if a file
    cannot be written; then no key is created.
    """
    key = SignerKey.create(name)
    line = f"{key.verifier}\n"
    with nullcontext() if trust is None else _list_to_add_to(Path(trust)) as known:
        _write_new(path, f"{key.secret()}\n")
        if known is not None:
            known.write(line)
    return key.verifier


def _list_to_add_to(path: Path) -> IO[str]:
    """Open a list of verifier keys for appending. Raises `ValidationError` if it is not such a list or not writable."""
    try:
        with suppress(NotFoundError):
            _listed(str(path))
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, LIST_MODE)
    except OSError as problem:
        raise ValidationError(f"cannot write the key list {path}: {problem.strerror}") from problem
    stream = os.fdopen(file, "a+", encoding="utf-8")
    stream.seek(0)
    written = stream.read()
    if written and not written.endswith("\n"):
        stream.write("\n")
    return stream


def _write_new(path: str | Path, text: str) -> None:
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
    except FileExistsError as problem:
        raise AlreadyExistsError(f"{path} already exists: a key is never overwritten, choose another file") from problem
    except OSError as problem:
        raise ValidationError(f"cannot write the key to {path}: {problem.strerror}") from problem
    with os.fdopen(file, "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())


def read_key(path: str | Path) -> SignerKey:
    """Read a signer key from a file.

    Raises `NotFoundError` without the file, `ValidationError` if other users own or can read it or it has no signer
    key.
    """
    try:
        with Path(path).open("rb") as stream:
            status = os.fstat(stream.fileno())
            data = stream.read(KEY_FILE_BYTES_MAX)
    except FileNotFoundError as problem:
        raise NotFoundError(f"key file {path} does not exist: create one with `orderctl keys create`") from problem
    except OSError as problem:
        raise ValidationError(f"cannot read the key {path}: {problem.strerror}") from problem
    if status.st_uid not in (0, os.geteuid()):
        remedy = "create your own with `orderctl keys create`"
        raise ValidationError(f"the key {path} belongs to user {status.st_uid}, who may have copied it: {remedy}")
    if status.st_mode & OTHERS:
        mode = f"{stat.S_IMODE(status.st_mode):o}"
        remedy = f"replace the key if they may have, or run `chmod {FILE_MODE:o} {path}`"
        raise ValidationError(f"other users can read the key {path}, whose mode is {mode}: {remedy}")
    try:
        return SignerKey.parse(data.decode(errors="replace").strip())
    except ValidationError as problem:
        raise ValidationError(f"{path}: {problem}") from None


def signer_keys(words: Iterable[str]) -> tuple[SignerKey, ...]:
    """Return signer keys, each given by its file or, from the environment, as its text."""
    return tuple(SignerKey.parse(word) if word.startswith(SIGNER_PREFIX) else read_key(word) for word in words)


def verifier_keys(words: Iterable[str]) -> tuple[VerifierKey, ...]:
    """Return the verifier keys that are given as such or in files with one per line, without duplicates.

    Empty lines and lines with `#` are skipped. Raises `NotFoundError` for a word that is neither a key nor a file, and
    `ValidationError` for a malformed key.
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
        raise ValidationError(f"cannot read verifier keys from {path}: {problem}") from problem
    lines = [line.strip() for line in text.splitlines()]
    return [VerifierKey.parse(line) for line in lines if line and not line.startswith("#")]
