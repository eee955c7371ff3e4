"""The functions of `orderctl prove`: its arguments, the proof as text, and the file for it."""

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
    """The statement to prove: an event is in the log, or the log of one size is a prefix of that of another."""

    position: int | None
    first: int
    second: int

    def __str__(self) -> str:
        if self.position is not None:
            return f"proves position {self.position}"
        return f"proves that the log only grew from {self.first} to {self.second} events"


def proof_query(position: int | None, first: int | None, second: int | None) -> ProofQuery:
    """Return the query for a position or for two sizes. Raises `ValidationError` for any other combination."""
    if position is not None and first is None and second is None:
        return ProofQuery(position, 0, 0)
    if position is None and first is not None and second is not None:
        return ProofQuery(None, first, second)
    raise ValidationError("give either a POSITION, or both --from SIZE and --to SIZE")


async def proof_text(url: str, exchange_id: str, what: ProofQuery, *, notes: str, keys: Iterable[str]) -> str:
    """Return the text of the proof. Raises what `prove` and `verifier_keys` raise."""
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
    """Write a proof atomically. Raises `ValidationError` if the file cannot be written."""
    try:
        write_whole(path, text)
    except OSError as problem:
        raise ValidationError(f"cannot write the proof to {path}: {problem.strerror}") from problem
