"""Verbs that try what was, or could have been, decided: `decisions` and `what-if`."""

from __future__ import annotations

import asyncio
from typing import Any

import click

from replay.command_line import Duration, Target, option, output_option, say, show_listing, target_options


@click.command()
@output_option
@target_options
def decisions(target: Target, form: str) -> int:
    """Decide every recorded attempt and verdict again, and show what today's code decides otherwise.

    The installed reconciler decides each attempt again, on the state, the settings and the instant that the log has for it;
    and each verdict that a request never arrived. Nothing is written or sent. Exit code 0: all the same, 1: something
    differs.

    \b
    Example:
      orderctl decisions
      orderctl decisions --log postgresql://db/kernel --exchange binance-1 -o json
    """
    from replay import deciding
    from replay.progress import progress_bar

    with progress_bar("decisions") as progress:
        work = deciding.replay_decisions(target.log, progress=progress, exchange_id=target.exchange)
        report = asyncio.run(work)
    if not report.same or form not in ("table", "wide"):
        show_listing(deciding.listing(report), form)
    say(deciding.summary(report))
    return 0 if report.same else 1


@click.command("what-if")
@option("--at", required=True, metavar="POINT", help="Where to fork: a position, or an instant with its zone.")
@option("--drop", multiple=True, metavar="ID", help="An order, or a group, that is never placed.")
@option(
    "--set", "terms", multiple=True, nargs=2, metavar="ID FIELD=VALUE", help="An order with another price, quantity, …"
)
@option("--cancel", multiple=True, nargs=2, type=(str, Duration()), metavar="ID AFTER",
        help="An order that is canceled so long after the fork.")  # fmt: skip
@option("--setting", multiple=True, metavar="NAME=VALUE", help="Another setting of the kernel.")
@option("--fault", multiple=True, nargs=2, metavar="KIND REQUEST", help="A fault, as answer_lost submit.")
@option(
    "--tape", envvar="ORDERCTL_WHAT_IF_TAPE", metavar="FILE", help="The market. Default: our own fills after the fork."
)
@option("--symbol", help="The tape's symbol. Default: from the file's name.")
@option("--seed", default=0, show_default=True, help="Seed of ids, jitter and the order book's ladder.")
@option("--for", "run_for_s", type=Duration(), default="60s", show_default=True, help="How long to play on.")
@output_option
@target_options
def what_if(target: Target, form: str, **supposed: Any) -> None:
    """Fork the log at a point and play it on otherwise, in memory; nothing is written or sent.

    The kernel runs on virtual time at a paper exchange that begins with the orders, balances and rules which the log knows.
    The commands that followed are given again at their instants, with the changes. Three outcomes are shown: what was
    recorded, what comes of it unchanged in this model, and what with the changes.

    \b
    Example:
      orderctl what-if --at 1200 --drop btc-bid-1
      orderctl what-if --at 2026-01-31T12:00:00Z --set btc-bid-1 price=61000 --for 5m -o json
    """
    from replay import outcomes, supposing
    from replay.progress import progress_bar

    with progress_bar("what-if") as progress:
        work = supposing.suppose(target.log, target.exchange, supposing.Supposed(**supposed), progress=progress)
        found = asyncio.run(work)
    show_listing(outcomes.listing(found), form)
    say(outcomes.summary(found))
