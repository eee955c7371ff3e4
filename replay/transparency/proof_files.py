"""`orderctl prove` as functions: what is asked for, the proof as text, and the file that it goes to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from kernel.errors import ValidationError
from replay.formatting.progress_bar import progress_bar
from replay.log_access.atomic_files import write_whole
from replay.transparency.keys import verifier_keys
from replay.transparency.proofs import prove, prove_consistency


@dataclass(frozen=True, slots=True)
class ProofQuery:
    """What is to be proved: that an event is in the log, or that a log grew from one size to another."""

    position: int | None
    first: int
    second: int

    def __str__(self) -> str:
        if self.position is not None:
            return f"proves position {self.position}"
        return f"proves that the log only grew from {self.first} to {self.second} events"


def proof_query(position: int | None, first: int | None, second: int | None) -> ProofQuery:
    """One of both. Raises `ValidationError`."""
    if position is not None and first is None and second is None:
        return ProofQuery(position, 0, 0)
    if position is None and first is not None and second is not None:
        return ProofQuery(None, first, second)
    raise ValidationError("what is to be proved? a POSITION, or --from SIZE and --to SIZE")


async def proof_text(url: str, exchange_id: str, what: ProofQuery, *, notes: str, keys: Iterable[str]) -> str:
    """The proof as it is stored. Raises what `prove` and `verifier_keys` raise."""
    trusted = verifier_keys(keys) or None
    with progress_bar("prove") as progress:
        if what.position is None:
            proof = await prove_consistency(
                url, what.first, what.second, notes=notes, keys=trusted, exchange_id=exchange_id, progress=progress
            )
        else:
            proof = await prove(
                url, what.position, notes=notes, keys=trusted, exchange_id=exchange_id, progress=progress
            )
    return proof.text()


def save(path: Path, text: str) -> None:
    """Put a proof into a file, whole or not at all. Raises `ValidationError` where it can't be."""
    try:
        write_whole(path, text)
    except OSError as problem:
        raise ValidationError(f"the proof can't be written to {path}: {problem.strerror}") from problem
