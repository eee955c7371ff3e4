"""Runs commands on a kernel beside the leader, or on the state as of a point of the log. Both open an existing log."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import click

from kernel import EventSourcedKernel
from replay.cli.base import LogTarget, echo_err
from replay.formatting import output
from replay.formatting.progress_bar import progress_bar
from replay.host.bootstrap import open_client
from replay.log_access.as_of import StateSource, historic_state_at
from replay.log_access.log_reader import open_for_reading
from replay.operations import bulk_cancel

T = TypeVar("T")


def run_with_client(target: LogTarget, work: Callable[[EventSourcedKernel], Awaitable[T]]) -> T:
    """Run a coroutine on a kernel beside the leader."""

    async def connected() -> T:
        async with open_client(target.log, target.exchange, checkpoint_dir=target.checkpoint_dir) as kernel:
            return await work(kernel)

    return asyncio.run(connected())


def run_with_source(target: LogTarget, as_of: str | None, work: Callable[[StateSource], Awaitable[T]]) -> T:
    """Run a coroutine on a kernel beside the leader, or on the state as of a point (`--as-of`)."""
    if as_of is None:
        return run_with_client(target, work)

    async def looked_back() -> T:
        async with open_for_reading(target.log, target.exchange) as log:
            with progress_bar("folding the log") as progress:
                found = await historic_state_at(log, as_of, checkpoint_dir=target.checkpoint_dir, progress=progress)
            echo_err(found.title)
            return await work(found)

    return asyncio.run(looked_back())


async def show_chosen(kernel: EventSourcedKernel, symbol: str | None, owner: str | None, *, err: bool) -> list[str]:
    """Print what would be canceled; returns the intent ids."""
    intent_ids = bulk_cancel.chosen(kernel, symbol_id=symbol, owner=owner)
    click.echo(output.render(bulk_cancel.preview(kernel, intent_ids), output.Format.TABLE), nl=False, err=err)
    if not intent_ids:
        echo_err("there is nothing to cancel")
    return intent_ids
