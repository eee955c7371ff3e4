"""`statement`: fills, fees and realized profit."""

from __future__ import annotations

import asyncio

import click

from replay.cli.base import FORMATS, LogTarget, complete, echo, echo_listing, option, target_options
from replay.formatting.progress_bar import progress_bar
from replay.histories import statement as statements


@click.command("statement")
@option("--day", metavar="DAY", help="One day in UTC, as 2026-01-31. Default: every day.")
@option("--owner", shell_complete=complete("owners"), help="Only this owner's trades.")
@option("-o", "--output", "form", envvar="ORDERCTL_OUTPUT", type=click.Choice([*FORMATS, "csv"]), default="table",
        show_default=True, help="Output format.")  # fmt: skip
@target_options
def statement(target: LogTarget, day: str | None, owner: str | None, form: str) -> None:
    """Show fills, fees and realized profit by day, owner and symbol.

    A trade counts on the UTC day of its transact time, by the venue's clock (the log's if the venue gave none); a bust or a
    correction counts on its own day. Profit is before fees, in the quote asset, by the owner's position in the symbol.

    \b
    Example:
      orderctl statement --day 2026-01-31 --owner mm-1 -o csv
    """
    with progress_bar("statement") as progress:
        made = statements.statement(target.log, day=day, owner=owner, progress=progress, exchange_id=target.exchange)
        found = statements.listing(asyncio.run(made))
    if form == "csv":
        echo(statements.csv_text(found))
        return
    echo_listing(found, form)
