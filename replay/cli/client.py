"""Runs commands on a kernel beside the leader, on the state as of a point of the log, or on that of single intents.

All open an existing log. The kernel is imported when one is needed: `get intent ID` is fast without.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

import click

from replay.cli.base import LogTarget, echo_err
from replay.formatting import output
from replay.formatting.progress_bar import progress_bar
from replay.log_access.log_reader import existing_log, open_for_reading
from replay.log_access.state_source import StateSource
from replay.log_access.stream_state import stream_state

if TYPE_CHECKING:
    from kernel import EventSourcedKernel
    from replay.log_access.command_state import CommandScope

T = TypeVar("T")


def run_with_client(
    target: LogTarget, work: Callable[[EventSourcedKernel], Awaitable[T]], *, scope: CommandScope | None = None
) -> T:
    """Run a coroutine on a kernel beside the leader; `scope` is as in `open_client`."""
    from replay.host.bootstrap import open_client

    async def connected() -> T:
        where = {"checkpoint_dir": target.checkpoint_dir}
        async with open_client(target.log, target.exchange, scope=scope, **where) as kernel:
            return await work(kernel)

    return asyncio.run(connected())


def run_with_source(
    target: LogTarget, as_of: str | None, work: Callable[[StateSource], Awaitable[T]], *, names: Sequence[str] = ()
) -> T:
    """Run a coroutine on a kernel beside the leader, or on the state as of a point (`--as-of`).

    If it needs only the intents and groups of these names, it gets their state alone where that suffices.
    """
    if as_of is None:
        return run_with_streams(target, names, work) if names else run_with_client(target, work)

    async def looked_back() -> T:
        from replay.log_access.as_of import historic_state_at

        async with open_for_reading(target.log, target.exchange) as log:
            with progress_bar("folding the log") as progress:
                found = await historic_state_at(log, as_of, checkpoint_dir=target.checkpoint_dir, progress=progress)
            echo_err(found.title)
            return await work(found)

    return asyncio.run(looked_back())


def run_with_streams(target: LogTarget, names: Sequence[str], work: Callable[[StateSource], Awaitable[T]]) -> T:
    """Run a coroutine on the state of intents and groups, or on a kernel if that does not suffice."""

    async def read() -> list[T]:
        async with existing_log(target.log, target.exchange) as log:
            found = await stream_state(log, names)
            return [] if found is None else [await work(found)]

    done = asyncio.run(read())
    return done[0] if done else run_with_client(target, work)


async def show_chosen(kernel: EventSourcedKernel, symbol: str | None, owner: str | None, *, err: bool) -> list[str]:
    """Print what would be canceled; returns the intent ids."""
    from replay.operations import bulk_cancel

    intent_ids = bulk_cancel.chosen(kernel, symbol_id=symbol, owner=owner)
    click.echo(output.render(bulk_cancel.preview(kernel, intent_ids), output.Format.TABLE), nl=False, err=err)
    if not intent_ids:
        echo_err("there is nothing to cancel")
    return intent_ids
