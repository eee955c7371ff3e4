"""`verify`: checks that a log is intact, complete and consistent."""

from __future__ import annotations

import asyncio

import click

from replay.audit import verify as verifying
from replay.audit.report import report_text
from replay.cli.base import LogTarget, echo, option, target_options
from replay.formatting.progress_bar import progress_bar
from replay.transparency.keys import verifier_keys


@click.command()
@option("--notes", envvar="ORDERCTL_NOTES", metavar="PATH",
        help="A directory with signed tree heads of the log. Without it, a log rewritten as a whole passes.")  # fmt: skip
@option("--key", "keys", multiple=True, metavar="KEY",
        help="A verifier key, or a file of them: only tree heads signed by them count. May be repeated.")  # fmt: skip
@option("--from", "start", metavar="NOTE", help="Begin after the events of this tree head, verified before.")
@option("--hashes-only", is_flag=True, help="Check only positions and hashes: faster.")
@option("-o", "--output", "form", envvar="ORDERCTL_OUTPUT", type=click.Choice(["table", "json", "jsonl"]),
        default="table", show_default=True, help="jsonl: a line for each problem, then one for the whole.")  # fmt: skip
@target_options
def verify(
    target: LogTarget, notes: str | None, keys: tuple[str, ...], start: str | None,
    hashes_only: bool, form: str,
) -> int:  # fmt: skip
    """Verify that a log is intact, complete and consistent.

    Checks that no position is missing, every hash, every stream's versions; that requests were logged before they were
    sent, resolved attempts have evidence, and fills add up to the positions; and, with --notes, that nothing was rewritten
    or truncated since they were signed. Reports every problem with its position. Only reads, also beside a running kernel.
    Exit code 1: there are problems.

    \b
    Example:
      orderctl verify
      orderctl verify --notes notes --key trusted.keys -o jsonl
      orderctl verify --notes notes --key trusted.keys --from notes/00000000000000012000.note
    """
    trusted = verifier_keys(keys)
    with progress_bar("verify") as progress:
        work = verifying.verify(target.log, notes=notes, keys=trusted, start=start, content=not hashes_only,
                                progress=progress, exchange_id=target.exchange)  # fmt: skip
        report = asyncio.run(work)
    echo(report_text(report, form))
    return 0 if report.ok else 1
