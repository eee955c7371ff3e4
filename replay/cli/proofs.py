"""`prove` and `keys`: proofs for third parties, and the keys that sign tree heads of a log."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import click

from kernel.errors import ValidationError
from replay.cli.base import LogTarget, echo, echo_err, option, target_options
from replay.formatting.progress_bar import progress_bar
from replay.log_access.atomic_files import write_whole
from replay.transparency import keys as note_keys
from replay.transparency import proofs, signed_note


@click.command()
@click.argument("position", type=int, required=False)
@option(
    "--from", "first", type=int, metavar="SIZE", help="Prove that the log only grew, from the tree head of this size …"
)
@option("--to", "second", type=int, metavar="SIZE", help="… to the tree head of this one.")
@option("--notes", "--note", "notes", envvar="ORDERCTL_NOTES", required=True, metavar="PATH",
        help="The directory with signed tree heads of the log, or one of them.")  # fmt: skip
@option("--key", "keys", multiple=True, metavar="KEY",
        help="A verifier key, or a file of them: only tree heads signed by them are used. May be repeated.")  # fmt: skip
@option("-o", "--output", metavar="FILE", help="Where to write the proof. Default: stdout.")
@target_options
def prove(
    target: LogTarget, position: int | None, first: int | None, second: int | None, notes: str, keys: tuple[str, ...],
    output: str | None,
) -> None:  # fmt: skip
    """Prove that an event is in the log, or that the log only grew.

    The proof is a JSON file for third parties. Checking it takes the verifier key and nothing of this project:
    `orderctl help check-proof` prints a program for it. The proof uses the smallest tree head that covers the event.
    With --from and --to it proves that the log of the first tree head is a prefix of the log of the second.

    \b
    Example:
      orderctl prove 17 --notes notes -o event-17.json
      orderctl prove --from 1000 --to 2000 --notes notes -o growth.json
    """
    trusted = note_keys.verifier_keys(keys) or None
    with progress_bar("prove") as progress:
        work = proof_of(target, position, first, second, notes=notes, keys=trusted, progress=progress)
        text = asyncio.run(work).text()
    if output is None:
        echo(text)
        return
    save(Path(output), text)
    grew = f"that the log only grew from {first} to {second} events"
    echo_err(f"{output}: proves {f'position {position}' if position is not None else grew}")


def proof_of(
    target: LogTarget, position: int | None, first: int | None, second: int | None, **given: Any
) -> Coroutine[Any, Any, proofs.Proof]:
    """The proof to make. Raises `ValidationError` unless either a position or two sizes are given."""
    match position, first, second:
        case int(), None, None:
            return proofs.prove(target.log, position, exchange_id=target.exchange, **given)
        case None, int(), int():
            return proofs.prove_consistency(target.log, first, second, exchange_id=target.exchange, **given)
    raise ValidationError("give either a POSITION, or both --from SIZE and --to SIZE")


def save(path: Path, text: str) -> None:
    """Write a proof atomically. Raises `ValidationError` if the file cannot be written."""
    try:
        write_whole(path, text)
    except OSError as problem:
        raise ValidationError(f"cannot write the proof to {path}: {problem.strerror}") from problem


@click.command()
@click.argument("action", type=click.Choice(["create", "show"]))
@click.argument("file")
@option("--exchange", envvar="ORDERCTL_EXCHANGE", default="paper", show_default=True, metavar="ID",
        help="Exchange account whose tree heads the new key signs; part of the key's name.")  # fmt: skip
@option("--trust", metavar="LIST", help="A file of verifier keys to add the new one to.")
def keys(action: str, file: str, exchange: str, trust: str | None) -> None:
    """Create a key that signs tree heads of a log, or show its verifier key.

    Prints the verifier key, which is public; the signing key stays in FILE, which only you can read. To change keys, create
    a new one, run with both for a while (--note-key twice), then with the new one. The list (--trust) keeps the old
    verifier key, so that old tree heads can still be checked.

    \b
    Example:
      orderctl keys create note.key --trust trusted.keys
      orderctl keys show note.key
    """
    if action == "show":
        click.echo(note_keys.read_key(file).verifier)
    else:
        click.echo(note_keys.create_key(file, signed_note.key_name(exchange), trust=trust))
