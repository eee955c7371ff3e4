"""A kernel beside the one that leads: opened on a log that is there already, to command and to ask, never to act.

Called by the CLI for every verb that neither runs a kernel nor reads the bare log. Promises that a wrong URL makes no new,
empty log.
"""

from __future__ import annotations

import getpass
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from kernel import EventSourcedKernel, open_log
from kernel.errors import NotFoundError
from kernel.log.base import EventLog
from replay.recovery import open_kernel


def existing_log(url: str, exchange_id: str, *, check_end: bool = True) -> EventLog:
    """The log at a URL; `NotFoundError` when there is none. Raises what `open_log` raises."""
    try:
        return open_log(url, exchange_id=exchange_id, create=False, check_end=check_end)
    except NotFoundError as problem:
        raise NotFoundError(f"{problem}: `orderctl run` begins one, --log and --exchange name another") from problem


@asynccontextmanager
async def attached(url: str, exchange_id: str, *, actor: str | None = None) -> AsyncIterator[EventSourcedKernel]:
    """A kernel without a venue on a log that exists. Its commands come from `operator:USER` unless told otherwise."""
    async with existing_log(url, exchange_id) as log, open_kernel(log, actor=actor or operator()) as kernel:
        yield kernel


def operator() -> str:
    """The person at the keyboard, as an actor."""
    try:
        return f"operator:{getpass.getuser()}"
    except (KeyError, OSError):  # a user without a name, as in many containers
        return "operator"
