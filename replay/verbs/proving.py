"""`orderctl prove` and `orderctl keys`: what an auditor, or a stranger, is handed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from replay.command_line import Target, option, say, show, target_options


@click.command()
@click.argument("position", type=int, required=False)
@option("--from", "first", type=int, metavar="SIZE", help="Prove growth, from the note of this size …")
@option("--to", "second", type=int, metavar="SIZE", help="… to the note of this one.")
@option("--notes", "--note", "notes", envvar="ORDERCTL_NOTES", required=True, metavar="PATH",
        help="The directory with signed notes of the log, or one note.")  # fmt: skip
@option("--key", "keys", multiple=True, metavar="KEY",
        help="A verifier key, or a file of them: only notes that they have signed are used. May be repeated.")  # fmt: skip
@option("-o", "--output", metavar="FILE", help="Where the proof goes. Default: stdout.")
@target_options
def prove(
    target: Target, position: int | None, first: int | None, second: int | None, notes: str, keys: tuple[str, ...],
    output: str | None,
) -> None:  # fmt: skip
    """Prove to a stranger that an event is in the log, or that the log only grew.

    The proof is a JSON file that is checked with the verifier key and nothing of this project: the README has a program for
    it. It proves by the note of the shortest log that has the event. With --from and --to it proves that the log of one
    note is the beginning of that of the other.

    \b
    Example:
      orderctl prove 17 --notes notes -o event-17.json
      orderctl prove --from 1000 --to 2000 --notes notes -o growth.json
    """
    from replay import proving

    wanted = proving.wanted(position, first, second)
    text = asyncio.run(proving.proof_text(target.log, target.exchange, wanted, notes=notes, keys=keys))
    if output is None:
        show(text)
    else:
        proving.save(Path(output), text)
        say(f"{output}: {wanted}")


@click.command()
@click.argument("action", type=click.Choice(["create", "show"]))
@click.argument("file")
@option("--exchange", envvar="ORDERCTL_EXCHANGE", default="paper", show_default=True, metavar="ID",
        help="Whose notes a new key signs: its name.")  # fmt: skip
@option("--trust", metavar="LIST", help="A file of verifier keys that a new key's is added to.")
def keys(action: str, file: str, exchange: str, trust: str | None) -> None:
    """Make a key that signs notes of a log, or show what its signatures are checked with.

    Prints the verifier key, for everybody; the key itself stays in FILE, which only you can read. To change keys, make a
    new one, run with both for a while (--note-key twice), then with the new one. The list (--trust) keeps the old verifier
    key, so that old notes are known.

    \b
    Example:
      orderctl keys create note.key --trust trusted.keys
      orderctl keys show note.key
    """
    from replay import note_keys, signed_notes

    if action == "show":
        click.echo(note_keys.read_key(file).verifier)
    else:
        click.echo(note_keys.create_key(file, signed_notes.key_name(exchange), trust=trust))
