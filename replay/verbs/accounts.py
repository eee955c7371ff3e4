"""`statement`: what was traded, day by day. Called by `cli`."""

from __future__ import annotations

import asyncio

import click

from replay.command_line import FORMATS, Target, complete, option, show, show_listing, target_options


@click.command("statement")
@option("--day", metavar="DAY", help="One day in UTC, as 2026-01-31. Default: every day.")
@option("--owner", shell_complete=complete("owners"), help="Only this owner's.")
@option("-o", "--output", "form", envvar="ORDERCTL_OUTPUT", type=click.Choice([*FORMATS, "csv"]), default="table",
        show_default=True, help="Format of what is printed.")  # fmt: skip
@target_options
def statement_verb(target: Target, day: str | None, owner: str | None, form: str) -> None:
    """Fills, fees and realized profit by day, owner and symbol.

    A trade is of the UTC day of its transact time, which is the venue's clock (the log's where the venue gave none); a bust
    or a correction is of its own day. Profit is before fees, in the quote asset, by the owner's position in the symbol.

    \b
    Example:
      orderctl statement --day 2026-01-31 --owner mm-1 -o csv
    """
    from replay import statements
    from replay.progress import progress_bar

    with progress_bar("statement") as progress:
        made = statements.statement(target.log, day=day, owner=owner, progress=progress, exchange_id=target.exchange)
        found = statements.listing(asyncio.run(made))
    if form == "csv":
        show(statements.csv_text(found))
        return
    show_listing(found, form)


VERBS: tuple[click.Command, ...] = (statement_verb,)
