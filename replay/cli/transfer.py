"""`export` `import` `backup` `restore`: copying a log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

import click

from kernel.log.base import Head
from replay.cli.base import LogTarget, echo_err, option, target_options
from replay.formatting.progress_bar import progress_bar
from replay.log_access.log_reader import open_for_reading, point_of
from replay.transfer.backup import backup_log, restore_log
from replay.transfer.exporter import export_log
from replay.transfer.importer import import_log
from replay.transparency.import_guard import TreeHeadGuard
from replay.transparency.keys import verifier_keys

T = TypeVar("T")


def notes_options(function: Callable[..., T]) -> Callable[..., T]:
    """`--notes` and `--key` of a command that creates a log."""
    key = option("--key", "keys", multiple=True, metavar="KEY",
                 help="A verifier key, or a file of them: only tree heads they signed count. May be repeated.")  # fmt: skip
    notes = option("--notes", envvar="ORDERCTL_NOTES", metavar="PATH",
                   help="Signed tree heads: a different log is refused, missing events are reported.")  # fmt: skip
    return notes(key(function))


def tree_head_guard(notes: str | None, keys: tuple[str, ...]) -> TreeHeadGuard | None:
    """References that an imported log is compared with before it is put in place."""
    if notes is None:
        return None
    return TreeHeadGuard(notes, verifier_keys(keys))


def say_end(exchange_id: str, head: Head, held: TreeHeadGuard | None) -> None:
    """Report where an imported log ends, and what it lacks by its tree heads."""
    echo_err(f"{exchange_id} up to position {head.position}, chain hash {head.chain_hash.hex()}")
    if held is not None:
        echo_err(
            f"warning: {held.lacks}" if held.lacks is not None else "it agrees with all tree heads, up to the newest"
        )


@click.command("export")
@click.argument("file")
@option("--format", "form", type=click.Choice(["jsonl", "csv", "parquet"]), default="jsonl", show_default=True,
        help="jsonl is byte-exact and can be imported; csv and parquet are tables.")  # fmt: skip
@option("--what", type=click.Choice(["events", "orders", "fills"]), default="events", show_default=True,
        help="orders and fills are tables: csv or parquet.")  # fmt: skip
@option("--upto", metavar="POINT", help="A position, or an instant as 2026-01-31T12:00:00Z. Default: the head now.")
@target_options
def export(target: LogTarget, file: str, form: str, what: str, upto: str | None) -> None:
    """Write a log to a file, from its first event; - is stdout.

    Every row's hashes are checked, and a running kernel is not blocked. A file whose name ends in .gz is compressed. The
    file appears when it is complete and replaces an existing one, unless that is a database. Parquet needs the extra
    `parquet`.

    \b
    Example:
      orderctl export paper.jsonl.gz
      orderctl export --format csv --what fills - | head
    """

    async def work() -> None:
        async with open_for_reading(target.log, target.exchange) as found:
            end = None if upto is None else await point_of(found, upto)
            with progress_bar("export") as progress:
                done = await export_log(found, file, format=form, what=what, upto=end, progress=progress)
        echo_err(f"{done.exchange_id} up to position {done.last_position}, chain hash {done.chain_hash.hex()}")

    asyncio.run(work())


@click.command("import")
@click.argument("file")
@target_options
@notes_options
def import_(target: LogTarget, file: str, notes: str | None, keys: tuple[str, ...]) -> None:
    """Read an export (jsonl) into a new log; - is stdin.

    The bytes and the hash at every position are those of the exported log, on SQLite and PostgreSQL alike. The import is
    all or nothing: an existing log, a different exchange id, and a changed or truncated file are refused (with the line).
    The copy has the log id of the original: run a kernel on only one of them.

    \b
    Example:
      orderctl import paper.jsonl.gz --log postgresql://localhost/orders
      orderctl export - | orderctl import - --log sqlite:///copy.db
    """
    held = tree_head_guard(notes, keys)
    with progress_bar("import") as progress:
        work = import_log(file, target.log, exchange_id=target.exchange, progress=progress, notes=held)
        head = asyncio.run(work)
    say_end(target.exchange, head, held)


@click.command("backup")
@click.argument("file")
@target_options
def backup(target: LogTarget, file: str) -> None:
    """Back up a log to a file while a kernel runs.

    The backup of a SQLite log is a SQLite file, that of a PostgreSQL log an export (jsonl; .gz is compressed). The copy is
    read again and its hashes are checked before it is put in place. An existing file is never replaced.

    \b
    Example:
      orderctl backup paper-$(date +%F).db
    """
    with progress_bar("backup") as progress:
        head = asyncio.run(backup_log(target.log, file, progress=progress, exchange_id=target.exchange))
    echo_err(f"{target.exchange} up to position {head.position}, chain hash {head.chain_hash.hex()}")


@click.command("restore")
@click.argument("file")
@target_options
@notes_options
def restore(target: LogTarget, file: str, notes: str | None, keys: tuple[str, ...]) -> None:
    """Restore a log from a backup, where there is no log.

    Every hash is checked first; an existing log is never replaced. Events recorded after the backup are missing, and the
    venue still has those orders: restore only a lost log, and never run a kernel on a second copy. With --notes a log other
    than the signed one is refused, and events that the backup lacks are reported.

    \b
    Example:
      orderctl restore paper-2026-01-31.db --log sqlite:///kernel.db --notes notes --key trusted.keys
    """
    held = tree_head_guard(notes, keys)
    with progress_bar("restore") as progress:
        work = restore_log(file, target.log, exchange_id=target.exchange, progress=progress, notes=held)
        head = asyncio.run(work)
    say_end(target.exchange, head, held)
