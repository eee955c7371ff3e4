"""Shell completion: names that the log knows, types, and paths to explain.

Called by options and arguments (`base.complete`). It is quick and silent: a log that is long, unavailable or unreadable
offers nothing, and no error reaches the prompt.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from enum import Enum

import click

from kernel.state import KernelState
from replay.host.bootstrap import open_client
from replay.log_access import log_reader
from replay.views import explain, listing
from replay.views.resources import RESOURCES

Names = Callable[[KernelState], Iterable[str]]
Completer = Callable[[click.Context, click.Parameter, str], list[str]]

POSITIONS_MAX = 20_000
"""A longer log is not folded for completion."""
TIMEOUT_S = 2.0
NAMES_MAX = 500


def in_log(names: Names) -> Completer:
    """Completion with names from the log of the line."""

    def completed(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
        return from_log(*target_of(ctx), names, incomplete)

    return completed


def target_of(ctx: click.Context) -> tuple[str, str]:
    """The log of the line."""
    defaults = {"log_url": ("ORDERCTL_LOG", "sqlite:///kernel.db"), "exchange": ("ORDERCTL_EXCHANGE", "paper")}
    url, exchange = (
        ctx.params.get(name) or os.environ.get(variable) or default for name, (variable, default) in defaults.items()
    )
    return url, exchange


intent_ids = in_log(lambda state: reversed([intent.intent_id for intent in state.intents()]))
"""Intents, newest first."""
symbol_ids = in_log(lambda state: (symbol.symbol_id for symbol in state.symbols()))
finding_ids = in_log(
    lambda state: reversed([finding.finding_id for finding in state.findings() if finding.resolved_at_ns is None])
)
"""Open findings, newest first."""
owners = in_log(lambda state: dict.fromkeys(intent.owner for intent in state.intents() if intent.owner))


def resources(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """For `get`: a type, then names of that type, also as TYPE/NAME."""
    words: tuple[str, ...] = ctx.params.get("words") or ()
    kind, slash, name = incomplete.partition("/")
    if slash:
        return [f"{kind}/{item}" for item in from_log(*target_of(ctx), names_of(kind), name)]
    if not words:
        return [name for name in RESOURCES if name.startswith(incomplete)]
    return from_log(*target_of(ctx), names_of(words[0]), incomplete)


def subjects(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """For `describe`: an intent, TYPE/NAME, or names of the preceding type."""
    if ctx.params.get("words") or "/" in incomplete:
        return resources(ctx, param, incomplete)
    return intent_ids(ctx, param, incomplete)


def field_paths(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    return paths(incomplete)


def from_log(url: str, exchange_id: str, names: Names, begun: str) -> list[str]:
    """Names with this prefix from a log's state; none if that takes too long."""
    logging.disable(logging.CRITICAL)  # a warning would appear in the line being typed
    found: list[str] = []

    def read() -> None:
        with suppress(Exception):
            found.extend(asyncio.run(_from_log(url, exchange_id, names, begun)))

    # A daemon thread: it is abandoned if a database does not answer.
    thread = threading.Thread(target=read, name="completion", daemon=True)
    thread.start()
    thread.join(TIMEOUT_S)
    if thread.is_alive():
        return []
    logging.disable(logging.NOTSET)
    return found


async def _from_log(url: str, exchange_id: str, names: Names, begun: str) -> list[str]:
    async with log_reader.existing_log(url, exchange_id) as log:
        if (await log.head()).position > POSITIONS_MAX:
            return []
    async with open_client(url, exchange_id) as kernel:
        return [name for name in names(kernel.state) if name.startswith(begun)][:NAMES_MAX]


def names_of(word: str) -> Names:
    """The names of a type's records; none for an unknown type."""

    def names(state: KernelState) -> Iterable[str]:
        return (subject.name for subject in listing.resource_named(word).subjects(state))

    return names


def paths(begun: str) -> list[str]:
    """Continuations of a path of `explain`."""
    above, _, word = begun.rpartition(".")
    try:
        words = list(dict(explain.roots())) if not above else words_below(above)
    except Exception:
        return []
    prefix = f"{above}." if above else ""
    return [prefix + name for name in words if name.startswith(word)]


def words_below(path: str) -> list[str]:
    """The fields or values below a path."""
    place = explain.place_of(path)
    if place is None:
        return []
    return [str(item.value) for item in place] if issubclass(place, Enum) else list(explain.fields_of(place))
