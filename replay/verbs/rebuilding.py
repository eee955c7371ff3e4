"""`rebuild` and `tables`: the log folded again and compared, and the read models as SQL tables."""

from __future__ import annotations

import asyncio
import signal

import click

from replay.command_line import (
    INTERRUPTED,
    Target,
    option,
    output_option,
    say,
    show_listing,
    target_options,
)

to_option = option("--to", "to", metavar="URL", help="Where the tables are. Default: beside the log.")


@click.command()
@option("--tables", "anew", is_flag=True, help="Make the SQL tables anew beside the live ones, compare, and switch.")
@option("--rollback", is_flag=True, help="Go back to the SQL tables before the last switch.")
@to_option
@output_option
@target_options
def rebuild(target: Target, anew: bool, rollback: bool, to: str | None, form: str) -> int:
    """Fold the log again from its first event, all hashes checked, and compare with the stored tables.

    Exit code 0: all is equal. 1: it is not, and the first position and field are named, or the log itself is damaged. With
    --tables new tables are filled beside the live ones, which stay as they are until the new ones take their place in one
    transaction, and are kept for --rollback. The new ones take their place also where the old ones differ: the log is the
    truth.

    \b
    Example:
      orderctl rebuild
      orderctl rebuild --tables
    """
    from replay import rebuild_listing

    if anew and rollback:
        raise click.UsageError("--tables and --rollback are two ways: choose one")
    if rollback:
        say(asyncio.run(rebuild_listing.rolled_back(target.log, to, target.exchange)))
        return 0
    report = asyncio.run(rebuild_listing.run(target.log, to, target.exchange, anew=anew))
    show_listing(rebuild_listing.listing(report), form)
    say(rebuild_listing.summary(report))
    return 0 if report.ok else 1


@click.command()
@click.argument("action", type=click.Choice(["sync", "list"]))
@option("--follow", is_flag=True, help="With sync: go on as events come, until interrupted.")
@to_option
@output_option
@target_options
def tables(target: Target, action: str, follow: bool, to: str | None, form: str) -> int:
    """Keep SQL tables of intents, orders, fills, positions, balances, findings and groups; list their versions.

    sync brings them to the log's head, from where they are; with --follow it keeps them there. They are in kernel.read.db
    beside kernel.db, or in the schema read_EXCHANGE on PostgreSQL. Prices and quantities are integers at the symbol's own
    scale, instants Unix nanoseconds.

    \b
    Example:
      orderctl tables sync
      sqlite3 kernel.read.db "select symbol_id, sum(quantity) from fills where counts = 1 group by 1"
    """
    from replay import rebuild_listing, running

    if action == "list":
        show_listing(asyncio.run(rebuild_listing.versions(target.log, to, target.exchange)), form)
        return 0
    where = target.checkpoint_dir
    work = rebuild_listing.sync(target.log, to, target.exchange, follow=follow, checkpoint_dir=where, say=say)
    return INTERRUPTED if asyncio.run(running.until_signal(work)) is signal.SIGINT else 0
