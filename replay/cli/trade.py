"""`place` `modify` `cancel` `cancel-all` `wait`: commands that change orders, or wait for them."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import click

from kernel import EventSourcedKernel
from kernel.clock import SeededIds, SystemClock
from kernel.errors import LogUnavailableError
from replay.cli.base import (
    Duration,
    LogTarget,
    complete,
    echo_err,
    intent_argument,
    option,
    require_terminal,
    target_options,
)
from replay.cli.client import run_with_client, show_chosen
from replay.formatting import order_input, output
from replay.log_access.command_state import CommandScope
from replay.operations import bulk_cancel
from replay.views import conditions as waiting

condition_choice = click.Choice(list(waiting.CONDITIONS), case_sensitive=False)
timeout_option = option("--timeout", type=Duration(), default="5s", show_default=True, help="How long to wait at most.")


@click.command()
@click.argument("side", type=click.Choice(["BUY", "SELL"], case_sensitive=False))
@click.argument("quantity")
@click.argument("symbol", shell_complete=complete("symbol_ids"))
@option("--limit", metavar="PRICE", help="Limit price. Default: a market order.")
@option("--stop", metavar="PRICE", help="Stop price, which triggers the order.")
@option("--tif", type=click.Choice(["GTC", "IOC", "FOK", "DAY"], case_sensitive=False), default="GTC",
        show_default=True, help="Time in force.")  # fmt: skip
@option("--post-only", is_flag=True, help="Reject the order if it would take liquidity.")
@option("--id", "intent_id", metavar="ID", help="The intent id. Repeating it with the same order places nothing new.")
@option("--owner", default="", help="The strategy that owns the order.")
@option("--wait", type=click.Choice(["ack", "recorded", "filled"]), default="ack", show_default=True,
        help="Return once the venue has answered, the log has the intent, or the order is filled.")  # fmt: skip
@timeout_option
@target_options
def place(target: LogTarget, intent_id: str | None, owner: str, wait: str, timeout: float, **words: Any) -> int:
    """Place an order. Prints the intent id and nothing else.

    Quantity and prices are decimals and taken exactly. The intent id is printed once the intent is durable in the log. If
    the venue has not answered within --timeout, the kernel keeps trying and the exit code is 0; stderr says so, or that no
    kernel leads. If the venue rejects the order, the exit code is 5.

    \b
    Example:
      orderctl place BUY 0.001 BTCUSDT --wait filled --timeout 1m
    """
    text = order_input.OrderInput(
        side=words["side"], quantity=words["quantity"], symbol_id=words["symbol"], limit=words["limit"],
        stop=words["stop"], time_in_force=words["tif"], post_only=words["post_only"],
    )  # fmt: skip

    name = SeededIds().intent_id(SystemClock().now_ns()) if intent_id is None else intent_id

    async def work(kernel: EventSourcedKernel) -> int:
        order = order_input.order_of(kernel, text)
        click.echo(await kernel.place_order(order, intent_id=name, owner=owner, wait="recorded"))
        return await wait_placed(kernel, name, wait, timeout)

    return run_with_client(target, work, scope=CommandScope(name, words["symbol"]))


async def wait_placed(kernel: EventSourcedKernel, intent_id: str, wait: str, timeout_s: float) -> int:
    """Wait as `--wait` says; returns the exit code."""
    if wait == "filled":
        return await wait_condition(kernel, intent_id, "filled", timeout_s, waiting.UNFILLED_ENDS)
    if wait == "ack" and not await waiting.acknowledged(kernel, intent_id, timeout_s=timeout_s):
        await report_no_answer(kernel, intent_id, timeout_s)
    return 0


async def report_no_answer(kernel: EventSourcedKernel, intent_id: str, timeout_s: float) -> None:
    """Report a timeout, and whether a kernel is there that keeps trying."""
    led = True
    with suppress(LogUnavailableError):  # the command itself is durable
        led = await kernel.log.lease_is_held()
    hint = "the kernel keeps trying" if led else "no kernel leads: start `orderctl run`"
    echo_err(f"{intent_id}: no answer after {timeout_s:g} s, {waiting.now_is(kernel, intent_id)}; {hint}")


async def wait_condition(
    kernel: EventSourcedKernel, intent_id: str, condition: str, timeout_s: float, or_fail_on: tuple[str, ...]
) -> int:
    """Wait for a condition (0), or for one that ends the wait early (1)."""
    met = await waiting.wait_for(kernel, intent_id, condition, timeout_s=timeout_s, or_fail_on=or_fail_on)
    if met != condition:
        echo_err(f"{intent_id}: {met}, not {condition}; {waiting.now_is(kernel, intent_id)}")
    return 0 if met == condition else 1


@click.command()
@intent_argument
@option("--wait", type=click.Choice(["ack", "recorded"]), default="ack", show_default=True,
        help="Return once the venue has no open order, or once the log has the request.")  # fmt: skip
@timeout_option
@target_options
def cancel(target: LogTarget, intent_id: str, wait: str, timeout: float) -> None:
    """Cancel an order.

    Canceling a canceled order is no error. A filled, expired or rejected order cannot be canceled: exit code 5.

    \b
    Example:
      orderctl cancel 0190c3a1e2b47c9a8d3e5f60718293a4
      orderctl get intents --owner mm-1 -o name | xargs -n1 orderctl cancel
    """

    async def work(kernel: EventSourcedKernel) -> None:
        await kernel.cancel_order(intent_id, wait="ack" if wait == "ack" else "recorded", ack_timeout_s=timeout)
        gone = await waiting.off_the_book(kernel, intent_id, timeout_s=0)
        click.echo(f"intent/{intent_id} {'canceled' if gone else 'cancel requested'}")
        if not gone and wait == "ack":
            await report_no_answer(kernel, intent_id, timeout)

    run_with_client(target, work, scope=CommandScope(intent_id, is_limited=False))


@click.command("cancel-all")
@option("--symbol", shell_complete=complete("symbol_ids"), help="Only orders in this symbol.")
@option("--owner", shell_complete=complete("owners"), help="Only orders of this owner.")
@option("--yes", is_flag=True, help="Do not ask for confirmation.")
@option("--dry-run", is_flag=True, help="Show what would be canceled, and cancel nothing.")
@target_options
def cancel_all(target: LogTarget, symbol: str | None, owner: str | None, yes: bool, dry_run: bool) -> int:
    """Cancel all live orders, or those of one symbol or owner.

    Shows the orders on stderr and asks for confirmation. Only the orders shown are canceled: orders that arrive meanwhile
    stay. Returns once the log has every cancel; prints a line for each on stdout, the count on stderr. Exit code 1: you
    answered no.

    \b
    Example:
      orderctl cancel-all --symbol BTCUSDT --dry-run
      orderctl cancel-all --owner mm-1 --yes
    """
    if not (yes or dry_run):
        require_terminal("give --yes, or --dry-run to look")
    if yes and not dry_run:
        return run_with_client(target, lambda kernel: cancel_orders(kernel, None, symbol, owner))
    intent_ids = run_with_client(target, lambda kernel: show_chosen(kernel, symbol, owner, err=not dry_run))
    if dry_run or not intent_ids:
        return 0
    if not click.confirm(f"Cancel {output.counted(len(intent_ids), 'order')}?", err=True):
        echo_err("nothing was canceled")
        return 1
    return run_with_client(target, lambda kernel: cancel_orders(kernel, intent_ids, symbol, owner))


async def cancel_orders(
    kernel: EventSourcedKernel, intent_ids: list[str] | None, symbol: str | None, owner: str | None
) -> int:
    """Cancel the intents given, or all live ones; returns the exit code."""
    if intent_ids is None:
        intent_ids = bulk_cancel.chosen(kernel, symbol_id=symbol, owner=owner)
    requested = 0
    async for cleared in bulk_cancel.clear(kernel, intent_ids):
        if cleared.problem:
            echo_err(cleared.line)
        else:
            click.echo(cleared.line)
            requested += 1
    echo_err(f"{output.counted(requested, 'cancel')} requested" if intent_ids else "there is nothing to cancel")
    return 0


@click.command()
@intent_argument
@option("--quantity", metavar="Q", help="The total quantity, including what has filled.")
@option("--limit", metavar="P", help="The limit price.")
@option("--stop", metavar="P", help="The stop price.")
@option("--wait", type=click.Choice(["ack", "recorded"]), default="ack", show_default=True,
        help="Return once the venue has answered, or once the log has the change.")  # fmt: skip
@timeout_option
@target_options
def modify(target: LogTarget, intent_id: str, wait: str, timeout: float, **numbers: str | None) -> None:
    """Change an order's quantity, limit price or stop price.

    A total quantity at or below what has filled cancels the rest. A filled, expired or canceled order cannot be changed,
    and a change that the venue rejects leaves the order as it was: exit code 5.

    \b
    Example:
      orderctl modify btc-bid-1 --limit 61650
      orderctl modify btc-bid-1 --quantity 0.002 --wait recorded
    """

    async def work(kernel: EventSourcedKernel) -> None:
        known = await kernel.get_order_intent(intent_id)
        order = order_input.modified_order(kernel, known.order, **numbers)
        await kernel.modify_order(intent_id, order, wait="ack" if wait == "ack" else "recorded", ack_timeout_s=timeout)
        state = "unchanged" if order == known.order else "modified"
        click.echo(f"intent/{intent_id} {state}")
        if wait == "ack" and not waiting.change_acknowledged(kernel, intent_id):
            await report_no_answer(kernel, intent_id, timeout)

    run_with_client(target, work, scope=CommandScope(intent_id))


def conditions(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    """Parse conditions, repeated or separated by commas."""
    return tuple(condition_choice.convert(word, param, ctx) for words in value for word in words.split(",") if word)


@click.command()
@intent_argument
@option("--for", "condition", required=True, type=condition_choice,
        help="The condition.")  # fmt: skip
@option("--or-fail-on", multiple=True, callback=conditions, metavar="CONDITION,…",
        help="Conditions that end the wait with exit code 1.")  # fmt: skip
@option("--timeout", type=Duration(), default="30s", show_default=True, help="How long at most; 0 checks once.")
@target_options
def wait(target: LogTarget, intent_id: str, condition: str, or_fail_on: tuple[str, ...], timeout: float) -> int:
    """Wait for a condition on an order (exit code 0) or a timeout (3).

    \b
    Example:
      orderctl wait $ID --for filled --or-fail-on rejected,canceled --timeout 2m
    """

    async def work(kernel: EventSourcedKernel) -> int:
        code = await wait_condition(kernel, intent_id, condition, timeout, or_fail_on)
        if code == 0:
            click.echo(f"intent/{intent_id} condition met")
        return code

    return run_with_client(target, work, scope=CommandScope(intent_id, is_limited=False))
