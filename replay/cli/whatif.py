"""`decisions` and `what-if`: recorded decisions replayed, and simulations of changed ones."""

from __future__ import annotations

import asyncio
from typing import Any

import click

from replay.cli.base import Duration, LogTarget, echo_err, echo_listing, option, output_option, target_options
from replay.decisions import decision_replay
from replay.formatting.progress_bar import progress_bar
from replay.whatif import outcomes, scenario_options


@click.command()
@output_option
@target_options
def decisions(target: LogTarget, form: str) -> int:
    """Replay the kernel's decisions and report differences.

    Every attempt is decided again by the installed version of the reconciler, on the state, the settings and the instant
    recorded in the log; so is every verdict that a request never arrived. Nothing is written or sent.
    Exit code 0: no difference, 1: differences.

    \b
    Example:
      orderctl decisions
      orderctl decisions --log postgresql://db/kernel --exchange binance-1 -o json
    """
    with progress_bar("decisions") as progress:
        work = decision_replay.replay_decisions(target.log, progress=progress, exchange_id=target.exchange)
        report = asyncio.run(work)
    if not report.same or form not in ("table", "wide"):
        echo_listing(decision_replay.listing(report), form)
    echo_err(decision_replay.summary(report))
    return 0 if report.same else 1


@click.command("what-if")
@option("--at", required=True, metavar="POINT", help="Where to fork: a position, or an instant with its time zone.")
@option("--drop", multiple=True, metavar="ID", help="Do not place this order or group.")
@option("--set", "terms", multiple=True, nargs=2, metavar="ID FIELD=VALUE", help="Change an order's price, quantity, …")
@option("--cancel", multiple=True, nargs=2, type=(str, Duration()), metavar="ID AFTER",
        help="Cancel an order this long after the fork.")  # fmt: skip
@option("--setting", multiple=True, metavar="NAME=VALUE", help="Change a setting of the kernel.")
@option("--fault", multiple=True, nargs=2, metavar="KIND REQUEST", help="Inject a fault, such as answer_lost submit.")
@option("--tape", envvar="ORDERCTL_WHAT_IF_TAPE", metavar="FILE", help="The market's trades. Default: our own fills.")
@option("--symbol", help="The tape's symbol. Default: from the file's name.")
@option("--seed", default=0, show_default=True, help="Seed of ids, jitter and the synthetic order book.")
@option("--for", "run_for_s", type=Duration(), default="60s", show_default=True, help="How long to simulate.")
@output_option
@target_options
def what_if(target: LogTarget, form: str, **supposed: Any) -> None:
    """Fork the log in memory and simulate a change. Nothing is written or sent.

    The kernel runs on virtual time at a paper exchange that begins with the orders, balances and rules recorded in the log.
    The commands that followed are repeated at their instants, with the changes. Three outcomes are shown: the recorded one,
    the simulated one without changes, and the simulated one with the changes.

    \b
    Example:
      orderctl what-if --at 1200 --drop btc-bid-1
      orderctl what-if --at 2026-01-31T12:00:00Z --set btc-bid-1 price=61000 --for 5m -o json
    """
    with progress_bar("what-if") as progress:
        work = scenario_options.run_scenario(
            target.log, target.exchange, scenario_options.ScenarioOptions(**supposed), progress=progress
        )
        found = asyncio.run(work)
    echo_listing(outcomes.listing(found), form)
    echo_err(outcomes.summary(found))
