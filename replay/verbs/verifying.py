"""`orderctl verify`: whether a log is what was written. Called by `cli`."""

from __future__ import annotations

import asyncio

import click

from replay.command_line import Target, option, show, target_options


@click.command()
@option("--notes", envvar="ORDERCTL_NOTES", metavar="PATH",
        help="A directory with signed notes of the log. Without them a log rewritten as a whole looks good.")  # fmt: skip
@option("--key", "keys", multiple=True, metavar="KEY",
        help="A verifier key, or a file of them: notes count that they have signed. May be repeated.")  # fmt: skip
@option("--from", "start", metavar="NOTE", help="Begin after what this note covers, which was verified before.")
@option("--hashes-only", is_flag=True, help="Positions and hashes alone: quicker.")
@option("-o", "--output", "form", envvar="ORDERCTL_OUTPUT", type=click.Choice(["table", "json", "jsonl"]),
        default="table", show_default=True, help="jsonl: a line for each problem, then one for the whole.")  # fmt: skip
@target_options
@click.pass_context
def verify(
    ctx: click.Context, target: Target, notes: str | None, keys: tuple[str, ...], start: str | None,
    hashes_only: bool, form: str,
) -> None:  # fmt: skip
    """Verify that a log is what was written, and that what it tells can have been so.

    No gap, every hash, every stream's versions; what was sent was logged first, what is settled has its evidence, the
    fills come to the books; and, with --notes, nothing was rewritten or cut off since they were signed. It goes on after
    a problem and tells each with its position. It only reads, beside a running kernel too. Exit code 1: something is wrong.

    \b
    Example:
      orderctl verify
      orderctl verify --notes notes --key trusted.keys -o jsonl
      orderctl verify --notes notes --key trusted.keys --from notes/00000000000000012000.note
    """
    from replay.note_keys import verifier_keys
    from replay.progress import progress_bar
    from replay.verify_text import report_text
    from replay.verifying import verify

    trusted = verifier_keys(keys)
    with progress_bar("verify") as progress:
        work = verify(target.log, notes=notes, keys=trusted, start=start, content=not hashes_only,
                      progress=progress, exchange_id=target.exchange)  # fmt: skip
        report = asyncio.run(work)
    show(report_text(report, form))
    ctx.exit(0 if report.ok else 1)
