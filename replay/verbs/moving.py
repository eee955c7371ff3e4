"""`export`, `import`, `backup`, `restore`: a log from one place to another. Called by `cli`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import click

from replay.command_line import Target, option, say, target_options

if TYPE_CHECKING:
    from kernel.log.base import Head
    from replay.holding import HeldAgainst

T = TypeVar("T")


def notes_options(function: Callable[..., T]) -> Callable[..., T]:
    """`--notes` and `--key`, for a log that is put somewhere."""
    key = option("--key", "keys", multiple=True, metavar="KEY",
                 help="A verifier key, or a file of them: notes count that they have signed. May be repeated.")  # fmt: skip
    notes = option("--notes", envvar="ORDERCTL_NOTES", metavar="PATH",
                   help="Signed notes of the log: another log is refused, and what it lacks is said.")  # fmt: skip
    return notes(key(function))


def held_against(notes: str | None, keys: tuple[str, ...]) -> HeldAgainst | None:
    """What a log is held against before it is put somewhere, if anything."""
    if notes is None:
        return None
    from replay.holding import HeldAgainst
    from replay.note_keys import verifier_keys

    return HeldAgainst(notes, verifier_keys(keys))


def say_end(exchange_id: str, head: Head, held: HeldAgainst | None) -> None:
    """Where a log that was put somewhere ends, and what it lacks by its notes."""
    say(f"{exchange_id} up to position {head.position}, chain hash {head.chain_hash.hex()}")
    if held is not None:
        say(f"warning: {held.lacks}" if held.lacks is not None else "it agrees with all notes, to the newest")


@click.command("export")
@click.argument("file")
@option("--format", "form", type=click.Choice(["jsonl", "csv", "parquet"]), default="jsonl", show_default=True,
        help="jsonl is byte-exact and can be imported; the others are tables.")  # fmt: skip
@option("--what", type=click.Choice(["events", "orders", "fills"]), default="events", show_default=True,
        help="orders and fills are tables: csv or parquet.")  # fmt: skip
@option("--upto", metavar="POINT", help="A position, or an instant as 2026-01-31T12:00:00Z. Default: the head now.")
@target_options
def export_verb(target: Target, file: str, form: str, what: str, upto: str | None) -> None:
    """Write a log to a file, from its first event on; - is the standard output.

    Every row's hashes are checked on the way, and a kernel that runs is not held back. A name that ends in .gz is
    compressed. The file appears when it is whole; one that is there is replaced, unless it is a database. Parquet needs
    the extra of that name.

    \b
    Example:
      orderctl export paper.jsonl.gz
      orderctl export --format csv --what fills - | head
    """
    from replay.exporting import export_log
    from replay.folding import opened, point_of
    from replay.progress import progress_bar

    async def work() -> None:
        async with opened(target.log, target.exchange) as log:
            end = None if upto is None else await point_of(log, upto)
            with progress_bar("export") as progress:
                done = await export_log(log, file, format=form, what=what, upto=end, progress=progress)
        say(f"{done.exchange_id} up to position {done.last_position}, chain hash {done.chain_hash.hex()}")

    asyncio.run(work())


@click.command("import")
@click.argument("file")
@target_options
@notes_options
def import_verb(target: Target, file: str, notes: str | None, keys: tuple[str, ...]) -> None:
    """Read an export (jsonl) into an empty place; - is the standard input.

    The bytes and the hash at every position are those of the log that was exported, on SQLite and PostgreSQL alike. All
    of it arrives or nothing: a log that is there, another exchange id, a file that was changed or cut off are refused
    (with the line). The copy has the log id of the original: lead only one of them.

    \b
    Example:
      orderctl import paper.jsonl.gz --log postgresql://localhost/orders
      orderctl export - | orderctl import - --log sqlite:///copy.db
    """
    from replay.importing import import_log
    from replay.progress import progress_bar

    held = held_against(notes, keys)
    with progress_bar("import") as progress:
        work = import_log(file, target.log, exchange_id=target.exchange, progress=progress, notes=held)
        head = asyncio.run(work)
    say_end(target.exchange, head, held)


@click.command("backup")
@click.argument("file")
@target_options
def backup_verb(target: Target, file: str) -> None:
    """Copy a log to a file to fall back on, while a kernel may be writing.

    Of a SQLite log it is a SQLite file, of a PostgreSQL log an export (jsonl; .gz is compressed). The copy is read again
    and its hashes are checked before it is put in its place. A file that is there is never replaced.

    \b
    Example:
      orderctl backup paper-$(date +%F).db
    """
    from replay.backups import backup_log
    from replay.progress import progress_bar

    with progress_bar("backup") as progress:
        head = asyncio.run(backup_log(target.log, file, progress=progress, exchange_id=target.exchange))
    say(f"{target.exchange} up to position {head.position}, chain hash {head.chain_hash.hex()}")


@click.command("restore")
@click.argument("file")
@target_options
@notes_options
def restore_verb(target: Target, file: str, notes: str | None, keys: tuple[str, ...]) -> None:
    """Put a log back from a backup, to a place where there is none.

    Every hash is checked first; a log that is there is never replaced. What was recorded after the backup is not in it,
    and the venue still has those orders: restore only what is lost, and lead no second copy of it. With --notes
    another log than was signed is refused, and it is said what the backup lacks.

    \b
    Example:
      orderctl restore paper-2026-01-31.db --log sqlite:///kernel.db --notes notes --key trusted.keys
    """
    from replay.backups import restore_log
    from replay.progress import progress_bar

    held = held_against(notes, keys)
    with progress_bar("restore") as progress:
        work = restore_log(file, target.log, exchange_id=target.exchange, progress=progress, notes=held)
        head = asyncio.run(work)
    say_end(target.exchange, head, held)


VERBS: tuple[click.Command, ...] = (export_verb, import_verb, backup_verb, restore_verb)
