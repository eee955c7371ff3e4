"""`orderctl`: the kernel from a shell, following kubectl's conventions. Called by people and by scripts.

The root group, its sections and `main`. A command is loaded from `replay.cli` when it runs; nothing else is imported here,
so that `orderctl --help` is fast. Data goes to stdout, messages to stderr. Exit codes: 0 yes, 1 the answer is no, 2 usage,
not found or another error, 3 timeout, 4 conflict, 5 refused, 6 not ready, 130 interrupted.
"""

from __future__ import annotations

import gc
import os
import sys

import click

from replay.cli.group import OrderctlGroup, Session, configure_logging, load

SECTIONS = {
    "Trade": (
        ("place", "replay.cli.trade:place", "Place an order."),
        ("apply", "replay.cli.manifests:apply", "Create or update orders and groups from manifests."),
        ("diff", "replay.cli.manifests:diff", "Show differences between manifests, intents, orders or points."),
        ("modify", "replay.cli.trade:modify", "Change an order's quantity, limit price or stop price."),
        ("cancel", "replay.cli.trade:cancel", "Cancel an order."),
        ("cancel-all", "replay.cli.trade:cancel_all", "Cancel all live orders, or those of one symbol or owner."),
        ("wait", "replay.cli.trade:wait", "Wait for a condition on an order (exit code 0) or a timeout (3)."),
    ),
    "Look": (
        ("get", "replay.cli.get:get", "List intents, orders, fills, positions and other resources."),
        ("describe", "replay.cli.get:describe", "Show the details of an intent, a group or an external order."),
        ("events", "replay.cli.inspect:events", "Show the events of the log as stored."),
        ("health", "replay.cli.inspect:health", "Check whether a kernel is acting on the log (exit code 0) or not (6)."),
        ("metrics", "replay.cli.inspect:metrics", "Show the metrics of a running kernel, or of the log."),
        ("top", "replay.cli.inspect:top", "Show a live dashboard until Ctrl-C."),
        ("explain", "replay.cli.inspect:explain", "Explain a field: its meaning, type and values."),
        ("completion", "replay.cli.inspect:completion", "Print a shell completion script."),
    ),
    "Run": (
        ("run", "replay.cli.operate:run", "Run the kernel until SIGTERM or SIGINT."),
        ("pause", "replay.cli.operate:pause", "Stop sending requests, for one intent or for all."),
        ("resume", "replay.cli.operate:resume", "Resume sending after a pause or a halt, for an intent, a symbol or all."),
        ("halt", "replay.cli.operate:halt", "Cancel all orders and place none until resume."),
        ("resolve", "replay.cli.operate:resolve", "Resolve an unknown attempt or a finding by hand."),
        ("heartbeat", "replay.cli.operate:heartbeat", "Send heartbeats that keep a strategy's orders alive."),
        ("paper-exchange", "replay.cli.operate:paper_exchange", "Run a paper exchange as a separate process."),
        ("demo", "replay.cli.operate:demo", "Demonstrate orders, a lost answer, a crash, recovery and proof."),
    ),
    "Replay": (
        ("rebuild", "replay.cli.rebuild:rebuild", "Rebuild the state from the log and compare it with the tables."),
        ("tables", "replay.cli.rebuild:tables", "Keep SQL tables of the state current, or list their versions."),
        ("history", "replay.cli.history:history", "Show an order's history: each event and its cause."),
        ("verify", "replay.cli.verify:verify", "Verify that a log is intact, complete and consistent."),
        ("prove", "replay.cli.proofs:prove", "Prove that an event is in the log, or that the log only grew."),
        ("keys", "replay.cli.proofs:keys", "Create a key that signs tree heads of a log, or show its verifier key."),
        ("export", "replay.cli.transfer:export", "Write a log to a file, from its first event; - is stdout."),
        ("import", "replay.cli.transfer:import_", "Read an export (jsonl) into a new log; - is stdin."),
        ("statement", "replay.cli.statement:statement", "Show fills, fees and realized profit by day, owner and symbol."),
        ("backup", "replay.cli.transfer:backup", "Back up a log to a file while a kernel runs."),
        ("restore", "replay.cli.transfer:restore", "Restore a log from a backup, where there is no log."),
        ("decisions", "replay.cli.whatif:decisions", "Replay the kernel's decisions and report differences."),
        ("what-if", "replay.cli.whatif:what_if", "Fork the log in memory and simulate a change."),
    ),
    "Help": (
        ("help", "replay.cli.help:help_", "Show a help topic, or list the topics."),
    ),
}  # fmt: skip
"""Commands in the order of the help: name, where it is, short help (the first sentence of its own help)."""


def show_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    """`--version`."""
    if value and not ctx.resilient_parsing:
        click.echo(f"orderctl {load('kernel.platform.version:kernel_version')()}")
        ctx.exit()


@click.group(
    cls=OrderctlGroup,
    sections=SECTIONS,
    context_settings={"auto_envvar_prefix": "ORDERCTL", "help_option_names": ["-h", "--help"]},
)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=show_version,
              help="Print the version.")  # fmt: skip
@click.option("--debug", is_flag=True, envvar="ORDERCTL_DEBUG", show_envvar=True, help="Show tracebacks and all logs.")
@click.pass_obj
def cli(session: Session, debug: bool) -> None:
    """Manage orders as intents: declare the orders you want, and the kernel reconciles them with the exchange.

    Commands work on a log (--log), which other processes can use at the same time. Data goes to stdout, messages to stderr.

    \b
    Three shells:
      orderctl run                                        # the kernel, with a paper exchange inside
      orderctl get orders -w
      orderctl place BUY 0.001 BTCUSDT --limit 60000.00

    \b
    Exit codes: 0 yes, 1 the answer is no, 2 usage, not found or another error,
    3 timeout, 4 conflict, 5 refused, 6 not ready, 130 interrupted.
    """
    session.debug = session.debug or debug


def main() -> None:
    """The entry point of `orderctl`."""
    configure_logging(debug="--debug" in sys.argv or bool(os.environ.get("ORDERCTL_DEBUG")))
    try:
        cli(prog_name="orderctl")
    finally:
        gc.freeze()  # no search for garbage in what ends with the process


if __name__ == "__main__":
    main()
