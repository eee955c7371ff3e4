"""`events` `health` `metrics` `top` `explain` `completion`: commands that only read."""

from __future__ import annotations

import asyncio
import functools
import sys

import click
from click.shell_completion import ShellComplete, get_completion_class

from kernel import EventSourcedKernel
from replay.cli.base import (
    Duration,
    LogTarget,
    complete,
    echo,
    echo_listing,
    echo_watch,
    intent_name,
    metrics_options,
    option,
    output_option,
    target_options,
)
from replay.cli.client import run_with_client
from replay.formatting.output import Format
from replay.log_access import log_reader
from replay.views import events as reading
from replay.views import explain as explaining
from replay.views import health as checks
from replay.views import metrics as exposition
from replay.views import top_screen


@click.command()
@option("--for", "intent_id", metavar="ID", callback=intent_name, shell_complete=complete("intent_ids"),
        help="Only of this intent.")  # fmt: skip
@option("--after", type=click.IntRange(min=0), default=0, show_default=True, help="Only after this position.")
@option("--type", "topics", multiple=True, metavar="TYPE", help="Only of this type; may be repeated.")
@option("-w", "--watch", is_flag=True, help="Keep printing events as they are appended.")
@output_option
@target_options
def events(
    target: LogTarget, intent_id: str | None, after: int, topics: tuple[str, ...], watch: bool, form: str
) -> None:
    """Show the events of the log as stored.

    Scaled integers, the whole envelope, hashes.

    \b
    Example:
      orderctl events --for $ID
      orderctl events --type OrderFilled --after 1200 -w -o jsonl
    """
    chosen = reading.EventFilter(intent_id, frozenset(topics), after)

    async def work() -> None:
        async with log_reader.existing_log(target.log, target.exchange) as log:
            if watch or form not in ("json", "yaml"):
                await echo_watch(reading.pages(log, chosen, follow=watch), form)
            else:
                echo_listing(await reading.read_listing(log, chosen), form)

    asyncio.run(work())


@click.command()
@output_option
@target_options
def health(target: LogTarget, form: str) -> int:
    """Check whether a kernel is acting on the log (exit code 0) or not (6).

    Seen from outside: the lease, the leader's events, the newest complete snapshot, pauses, findings, unknown attempts.

    \b
    Example:
      orderctl health -o json
    """

    async def work(kernel: EventSourcedKernel) -> int:
        found = await checks.health(kernel)
        echo(checks.health_as(found, Format(form)))
        return 0 if found["ready"] else 6

    return run_with_client(target, work)


@click.command()
@option("-o", "--output", "form", type=click.Choice(["table", "json", "prometheus"]), envvar="ORDERCTL_METRICS_OUTPUT",
        default="table", show_default=True, help="Output format; the table leaves out buckets and zeros.")  # fmt: skip
@metrics_options
@target_options
def metrics(target: LogTarget, metrics_host: str, metrics_port: int | None, form: str) -> None:
    """Show the metrics of a running kernel, or of the log.

    With --metrics-port the kernel that serves there is asked (`orderctl run --metrics-port N`), and --log is not used.
    Without it, metrics are computed from the log: intents, differences, unknown attempts, findings, conditions. Durations,
    retries and calls are counted only by a running process and are in no log.

    \b
    Example:
      orderctl metrics
      orderctl metrics --metrics-port 9464 -o prometheus
    """
    if metrics_port is None:
        text = run_with_client(target, exposition.from_log)
    else:
        text = exposition.fetched(metrics_host, metrics_port)
    echo(exposition.metrics_as(text, exposition.MetricsFormat(form)))


@click.command()
@option(
    "--metrics", "metrics_url", metavar="URL", help="Where the leader serves its metrics, for what is not in the log."
)
@option("--once", is_flag=True, help="Print one frame and exit. The default when stdout is no terminal.")
@option("--every", type=Duration(), default="1s", show_default=True, help="Time between two frames.")
@target_options
def top(target: LogTarget, metrics_url: str | None, once: bool, every: float) -> None:
    """Show a live dashboard until Ctrl-C.

    Readiness and since when, lag, the rate limit, unknown attempts, the busiest symbols, and the intents furthest from
    their desired state: how they differ, for how long, and the next action. Most of it comes from the log; the leader's own
    lag, queue and rate limit come from its metrics (`orderctl run --metrics-port N`).

    \b
    Example:
      orderctl top
      orderctl top --once --metrics http://127.0.0.1:9464/metrics
    """
    if every <= 0:
        raise click.UsageError(f"--every must be more than 0, not {every:g}s")
    address = None if metrics_url is None else top_screen.address_of(metrics_url)
    find = None if address is None else functools.partial(top_screen.served_at, address)
    run_with_client(target, lambda kernel: top_screen.show(kernel, sys.stdout, once=once, find=find, every_s=every))


@click.command()
@click.argument("path", required=False, default="", shell_complete=complete("field_paths"))
@option("--recursive", is_flag=True, help="The whole tree of fields, names and types only.")
def explain(path: str, recursive: bool) -> None:
    """Explain a field: its meaning, type and values.

    A path begins with a type (intent, order_state, standard_order, group, position, account, symbol, asset, finding, …) or
    with an event, and continues with fields. Without a path, everything that can be explained is listed.

    \b
    Example:
      orderctl explain intent.order.time_in_force
      orderctl explain order_state --recursive
      orderctl explain OrderFilled
    """
    echo(explaining.explain(path, recursive=recursive))


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@option("--program", default="orderctl", show_default=True, metavar="NAME", help="The name of the program.")
@click.pass_context
def completion(ctx: click.Context, shell: str, program: str) -> None:
    """Print a shell completion script.

    It completes commands, options, intents and symbols.

    \b
    Example:
      source <(orderctl completion bash)
      orderctl completion fish > ~/.config/fish/completions/orderctl.fish
    """
    made = get_completion_class(shell)
    assert made is not None, "click knows these shells"
    variable = f"_{program.upper().replace('-', '_')}_COMPLETE"
    # Not the subclass's own `source`: bash's starts a bash to ask for its version.
    click.echo(ShellComplete.source(made(ctx.find_root().command, {}, program, variable)))
