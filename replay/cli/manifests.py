"""`apply` `diff`: commands on manifests, and on the differences between intents, orders and points of the log."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import click

from kernel import EventSourcedKernel
from replay.cli.base import (
    LogTarget,
    echo,
    echo_err,
    echo_listing,
    errors_are_two,
    option,
    output_option,
    report_error,
    target_options,
)
from replay.cli.client import run_with_client
from replay.cli.trade import report_no_answer, timeout_option
from replay.formatting import output
from replay.formatting.errors import REFUSED
from replay.formatting.progress_bar import progress_bar
from replay.histories import state_diff
from replay.manifests import apply as applying
from replay.manifests import diff as differing
from replay.manifests.schema import Manifest, read_manifests
from replay.views.differences import differences

manifest_option = option("-f", "--filename", "files", multiple=True, metavar="FILE",
                         help="A manifest, YAML or JSON; - is stdin. May be repeated.")  # fmt: skip


@click.command()
@manifest_option
@option("--dry-run", type=click.Choice(["none", "client", "server"]), default="none", show_default=True,
        help="Check only: the files alone, or against the log too.")  # fmt: skip
@option("--wait", type=click.Choice(["ack", "recorded"]), default="ack", show_default=True,
        help="Return once the venue has answered, or once the log has the changes.")  # fmt: skip
@timeout_option
@target_options
def apply(target: LogTarget, files: tuple[str, ...], dry_run: str, wait: str, timeout: float) -> int:
    """Create or update orders and groups from manifests. Applying the same files again changes nothing.

    Prints a result for each manifest: created, configured or unchanged. Intent ids are the manifests' names. Orders that
    are in no manifest are left alone. If any document is invalid, all problems are reported and nothing is applied. A group
    is created as a whole; if its orders can fill for more than the group allows, that excess is reported on stderr.

    \b
    Example:
      orderctl apply -f ladder.yaml
      orderctl apply -f ladder.yaml --dry-run=server
    """
    manifests = manifests_of(files)
    if dry_run == "client":
        return show_steps([f"{applying.title(item)} valid" for item in manifests], "client")

    async def work(kernel: EventSourcedKernel) -> int:
        await applying.load_named(kernel, manifests)
        steps = applying.steps_for(kernel, manifests)
        for line in applying.excess_lines(steps):
            echo_err(line)
        if dry_run == "server":
            applying.check(kernel, steps)
            return show_steps([step.line for step in steps], "server")
        async for step in applying.apply(kernel, steps):
            click.echo(step.line)
        return await wait_applied(kernel, steps, timeout) if wait == "ack" else 0

    return run_with_client(target, work)


def manifests_of(files: tuple[str, ...]) -> tuple[Manifest, ...]:
    if not files:
        raise click.UsageError("give -f FILE: a manifest, or - for stdin")
    return read_manifests(files)


def show_steps(lines: list[str], dry_run: str) -> int:
    for line in lines:
        click.echo(f"{line} ({dry_run} dry run)")
    return 0


async def wait_applied(kernel: EventSourcedKernel, steps: Sequence[applying.Step], timeout_s: float) -> int:
    """Wait until the venue has answered to what was applied; returns the exit code."""
    found = await applying.answers(kernel, steps, timeout_s=timeout_s)
    for intent_id in found.late:
        await report_no_answer(kernel, intent_id, timeout_s)
    for refused in found.refused:
        report_error(refused)
    return REFUSED if found.refused else 0


@click.command()
@manifest_option
@option("--from", "begin", metavar="POINT", help="Compare this position or instant of the log …")
@option("--to", "end", metavar="POINT", help="… with this one. Default: now.")
@output_option
@target_options
def diff(target: LogTarget, files: tuple[str, ...], begin: str | None, end: str | None, form: str) -> int:
    """Show differences between manifests, intents, orders or points. Exit code 0: none, 1: some, 2: an error.

    With -f: a unified diff of what apply would change. Without options: the intents that differ from their actual orders,
    with the reason. With --from: what was added, changed (field by field) and removed between two points of the log:
    intents, orders, positions, account, groups, findings. A point is a position or an instant (2026-01-31T12:00:00Z).

    \b
    Example:
      orderctl diff -f ladder.yaml
      orderctl diff --from 1200 --to 1300 -o json
    """
    if (begin is None and end is not None) or (begin is not None and files):
        raise click.UsageError("--to needs --from, and neither can be combined with -f")

    async def work(kernel: EventSourcedKernel) -> int:
        return await show_manifest_diff(kernel, manifests_of(files), form) if files else show_differences(kernel, form)

    with errors_are_two():
        return run_with_client(target, work) if begin is None else show_point_diff(target, begin, end, form)


def show_point_diff(target: LogTarget, begin: str, end: str | None, form: str) -> int:
    """Compare two points of the log; 1 if they differ."""
    with progress_bar("folding the log") as progress:
        where = {"exchange_id": target.exchange, "checkpoint_dir": target.checkpoint_dir}
        found = asyncio.run(state_diff.diff(target.log, begin, end, **where, progress=progress))
    echo_err(f"from position {found.a} to {found.b}")
    echo(output.render(state_diff.listing(found), output.Format(form)))
    return 1 if found.changes else 0


async def show_manifest_diff(kernel: EventSourcedKernel, manifests: Sequence[Manifest], form: str) -> int:
    """Compare manifests with intents; 1 if they differ. Conflicts are messages."""
    await applying.load_named(kernel, manifests)
    steps = applying.steps_for(kernel, manifests)
    found = differing.step_listing(kernel.state, steps)
    if form in ("table", "wide"):
        echo(differing.unified(kernel, steps))
    else:
        echo_listing(found, form)
    for line in applying.conflicts_of(steps):
        echo_err(f"apply would refuse {line}")
    return 1 if found.items else 0


def show_differences(kernel: EventSourcedKernel, form: str) -> int:
    """Compare intents with orders; 1 if they differ."""
    found = differences(kernel)
    echo(output.render(found, output.Format(form)))
    return 1 if found.items else 0
