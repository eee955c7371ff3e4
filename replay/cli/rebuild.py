"""`rebuild` and `tables`: the state folded again and compared, and the state as SQL tables."""

from __future__ import annotations

import asyncio
import signal

import click

from replay.cli.base import LogTarget, echo_err, echo_listing, option, output_option, target_options
from replay.cli.group import INTERRUPTED
from replay.host import run as processes
from replay.readmodel import report as rebuild_listing

to_option = option("--to", "to", metavar="URL", help="Where the tables are. Default: beside the log.")


@click.command()
@option("--tables", "anew", is_flag=True, help="Build new SQL tables beside the live ones, compare, and switch.")
@option("--rollback", is_flag=True, help="Go back to the SQL tables before the last switch.")
@to_option
@output_option
@target_options
def rebuild(target: LogTarget, anew: bool, rollback: bool, to: str | None, form: str) -> int:
    """Rebuild the state from the log and compare it with the tables.

    Folds the log from its first event, checking every hash. Exit code 0: everything is equal. 1: there is a difference, and
    its first position and field are named, or the log itself is damaged. With --tables new tables are filled beside the
    live ones, which stay until the new ones replace them in one transaction, and are kept for --rollback. The new tables
    replace the old ones also if they differ: the log is the truth.

    \b
    Example:
      orderctl rebuild
      orderctl rebuild --tables
    """
    if anew and rollback:
        raise click.UsageError("--tables and --rollback exclude each other")
    if rollback:
        echo_err(asyncio.run(rebuild_listing.rolled_back(target.log, to, target.exchange)))
        return 0
    report = asyncio.run(rebuild_listing.run(target.log, to, target.exchange, anew=anew))
    echo_listing(rebuild_listing.listing(report), form)
    echo_err(rebuild_listing.summary(report))
    return 0 if report.ok else 1


@click.command()
@click.argument("action", type=click.Choice(["sync", "list"]))
@option("--follow", is_flag=True, help="With sync: keep applying new events, until interrupted.")
@to_option
@output_option
@target_options
def tables(target: LogTarget, action: str, follow: bool, to: str | None, form: str) -> int:
    """Keep SQL tables of the state current, or list their versions.

    The tables hold intents, orders, fills, positions, balances, findings and groups. sync brings them to the log's head;
    with --follow it keeps them there. They are in kernel.read.db beside kernel.db, or in the schema read_EXCHANGE on
    PostgreSQL. Prices and quantities are integers at the symbol's own scale, instants Unix nanoseconds.

    \b
    Example:
      orderctl tables sync
      sqlite3 kernel.read.db "select symbol_id, sum(quantity) from fills where counts = 1 group by 1"
    """
    if action == "list":
        echo_listing(asyncio.run(rebuild_listing.versions(target.log, to, target.exchange)), form)
        return 0
    where = target.checkpoint_dir
    work = rebuild_listing.sync(target.log, to, target.exchange, follow=follow, checkpoint_dir=where, echo=echo_err)
    return INTERRUPTED if asyncio.run(processes.until_signal(work)) is signal.SIGINT else 0
