"""`history`: the events of an order and their causes."""

from __future__ import annotations

import asyncio

import click

from replay.cli.base import LogTarget, echo, echo_err, intent_argument, option, output_option, target_options
from replay.formatting.output import Format
from replay.histories import order_history, order_history_text


@click.command()
@intent_argument
@option("--raw", is_flag=True, help="Include the venue's messages as received.")
@option("--picture", type=click.Path(dir_okay=False), metavar="FILE.html",
        help="Write a page with a timeline, which opens offline, and print nothing.")  # fmt: skip
@output_option
@target_options
def history(target: LogTarget, intent_id: str, raw: bool, picture: str | None, form: str) -> None:
    """Show an order's history: each event and its cause.

    Each event is marked as evidence or as a conclusion. SINCE is the time since the previous line, CAUSE the event that
    caused it (in brackets: the attempt whose client order id it carries, if no cause was recorded), STATE the order's
    status after it. Events of its group, of leaders and pauses, and causes in other streams are included and marked. -o
    wide adds the venue's clock, attempt and command.

    \b
    Example:
      orderctl history $ID
      orderctl history $ID --raw -o json
      orderctl history $ID --picture story.html
    """
    found = asyncio.run(order_history.history(target.log, intent_id, exchange_id=target.exchange))
    if picture is None:
        echo(order_history_text.text(found, Format(form), raw=raw))
        return
    from replay.histories import timeline_html

    timeline_html.write(found, picture)
    echo_err(f"{picture}: {len(found.steps)} events")
