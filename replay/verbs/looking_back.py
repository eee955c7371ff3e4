"""Verbs about what happened: `history`."""

from __future__ import annotations

import asyncio

import click

from replay.command_line import Target, intent_argument, option, output_option, say, show, target_options


@click.command()
@intent_argument
@option("--raw", is_flag=True, help="With the venue's frames, as they came.")
@option("--picture", type=click.Path(dir_okay=False), metavar="FILE.html",
        help="Draw it as a page with a timeline, which opens offline, and print nothing.")  # fmt: skip
@output_option
@target_options
def history(target: Target, intent_id: str, raw: bool, picture: str | None, form: str) -> None:
    """Tell one intent's whole story: each event, who caused it, what was evidence and what a conclusion.

    SINCE is the time since the line before, CAUSE the event that caused it (in brackets: the attempt whose client order id
    it carries, where no cause was recorded), CAME-TO what the order had come to. Events of its group, of leaders and
    pauses, and causes elsewhere are told beside it, and marked so. -o wide adds the venue's clock, attempt and command.

    \b
    Example:
      orderctl history $ID
      orderctl history $ID --raw -o json
      orderctl history $ID --picture story.html
    """
    from replay import histories, history_text, timeline
    from replay.output import Format

    found = asyncio.run(histories.history(target.log, intent_id, exchange_id=target.exchange))
    if picture is None:
        show(history_text.text(found, Format(form), raw=raw))
        return
    timeline.write(found, picture)
    say(f"{picture}: {len(found.steps)} events")
