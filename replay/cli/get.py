"""`get` `describe`: the most frequent commands, in a module that imports little."""

from __future__ import annotations

import click

from replay.cli.base import (
    LogTarget,
    as_of_option,
    complete,
    echo,
    echo_listing,
    echo_watch,
    option,
    output_option,
    target_options,
)
from replay.cli.client import run_with_client, run_with_source
from replay.log_access.state_source import StateSource
from replay.views import listing


@click.command()
@click.argument("words", nargs=-1, required=True, metavar="TYPE [NAME]...", shell_complete=complete("resources"))
@option("-w", "--watch", is_flag=True, help="Keep printing changes as they happen.")
@option("--owner", shell_complete=complete("owners"), help="Only of this owner.")
@option("--symbol", shell_complete=complete("symbol_ids"), help="Only in this symbol.")
@as_of_option
@output_option
@target_options
def get(
    target: LogTarget, words: tuple[str, ...], watch: bool, as_of: str | None, form: str, **filters: str | None
) -> None:
    """List intents, orders, fills, positions and other resources.

    TYPE is intents, orders, fills, positions, account, symbols, groups, findings or external (orders without an intent). It
    may be plural, singular or short (int, ord, f, pos, acc, sym, grp, find, ext), or TYPE/NAME. A fill is named by its key
    or by its intent. Prices and quantities are decimals, strings in JSON. JSON of one name is an object, else an array.

    \b
    Example:
      orderctl get orders -w
      orderctl get order/$ID -o json
      orderctl get fills --symbol BTCUSDT -o jsonl
      orderctl get positions --as-of 2026-01-31T12:00:00Z
    """
    if watch and as_of is not None:
        raise click.UsageError("what was known at a point does not change: -w and --as-of exclude each other")
    query = listing.query_of(words, owner=filters["owner"], symbol_id=filters["symbol"])

    async def listed(source: StateSource) -> None:
        echo_listing(await listing.listing(source, query), form)

    if watch:
        run_with_client(target, lambda kernel: echo_watch(listing.watch(kernel, query), form))
    else:
        run_with_source(target, as_of, listed, names=listing.streams_of(query))


@click.command()
@click.argument("words", nargs=-1, required=True, metavar="[TYPE] NAME", shell_complete=complete("subjects"))
@option("--events", "events_max", type=click.IntRange(min=0), default=10, show_default=True,
        help="How many of the last events to show.")  # fmt: skip
@as_of_option
@target_options
def describe(target: LogTarget, words: tuple[str, ...], events_max: int, as_of: str | None) -> None:
    """Show the details of an intent, a group or an external order.

    Of an intent: the desired order, the quantity that its group permits, the actual order, attempts, venue orders,
    findings, and the last events with their causes. Of a group: each order, what it may be now and why.
    An external order, one without an intent, is named external/VENUE-ID.

    \b
    Example:
      orderctl describe $ID
      orderctl describe group exit-1
      orderctl describe external/1042
      orderctl describe $ID --as-of 1200
    """
    from replay.views import describe as pages

    async def shown(source: StateSource) -> None:
        echo(await pages.page(source, words, events_max=events_max))

    run_with_source(target, as_of, shown, names=pages.streams_of(words))
