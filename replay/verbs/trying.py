"""Verbs that try what was, or could have been, decided: `decisions` and `what-if`."""

from __future__ import annotations

import asyncio

import click

from replay.command_line import Target, output_option, say, show_listing, target_options


@click.command()
@output_option
@target_options
def decisions(target: Target, form: str) -> int:
    """Decide again what the log's kernels decided, and tell what today's code would decide otherwise.

    Every attempt is decided once more by the reconciler as it is installed, on the state, the settings and the instant that
    the log has for it; so is every verdict that something never arrived, and what was left undone while others were
    served. Nothing is written or sent. Exit code 0: all the same, 1: something differs.

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
