"""What a shell's completion offers: names that the log knows, and paths to explain.

Called by the CLI while somebody types. Promises to be quick and silent: a log that is long, away or unreadable offers
nothing, and no error ever reaches the prompt.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from enum import Enum

from kernel.state import KernelState
from replay import attach, explaining, folding, views
from replay.resources import RESOURCES

POSITIONS_MAX = 20_000
"""A longer log is not folded just to offer names."""
TIMEOUT_S = 2.0
NAMES_MAX = 500


def intent_ids(state: KernelState) -> Iterable[str]:
    """Intents, the newest first."""
    return reversed([intent.intent_id for intent in state.intents()])


def symbol_ids(state: KernelState) -> Iterable[str]:
    """Symbols."""
    return (symbol.symbol_id for symbol in state.symbols())


def finding_ids(state: KernelState) -> Iterable[str]:
    """Findings that stand, the newest first."""
    return reversed([finding.finding_id for finding in state.findings() if finding.resolved_at_ns is None])


def owners(state: KernelState) -> Iterable[str]:
    """Strategies that own an intent."""
    return dict.fromkeys(intent.owner for intent in state.intents() if intent.owner)


def from_log(url: str, exchange_id: str, names: Callable[[KernelState], Iterable[str]], begun: str) -> list[str]:
    """Names that begin so, from a log's state; none when that can't be had quickly."""
    logging.disable(logging.CRITICAL)  # a warning would be printed into the line that is being typed
    found: list[str] = []

    def look() -> None:
        with suppress(Exception):
            found.extend(asyncio.run(_from_log(url, exchange_id, names, begun)))

    thread = threading.Thread(
        target=look, name="completion", daemon=True
    )  # left behind when a database does not answer
    thread.start()
    thread.join(TIMEOUT_S)
    if thread.is_alive():
        return []
    logging.disable(logging.NOTSET)
    return found


async def _from_log(url: str, exchange_id: str, names: Callable[[KernelState], Iterable[str]], begun: str) -> list[str]:
    async with folding.existing_log(url, exchange_id) as log:
        if (await log.head()).position > POSITIONS_MAX:
            return []
    async with attach.attached(url, exchange_id) as kernel:
        return [name for name in names(kernel.state) if name.startswith(begun)][:NAMES_MAX]


def type_words(begun: str) -> list[str]:
    """Types that `get` knows."""
    return [name for name in RESOURCES if name.startswith(begun)]


def names_of(word: str) -> Callable[[KernelState], Iterable[str]]:
    """The names of a type's things; none for what is no type."""

    def names(state: KernelState) -> Iterable[str]:
        return (subject.name for subject in views.resource_named(word).subjects(state))

    return names


def paths(begun: str) -> list[str]:
    """What `explain` could go on with."""
    above, _, word = begun.rpartition(".")
    try:
        words = list(dict(explaining.roots())) if not above else words_below(above)
    except Exception:
        return []
    prefix = f"{above}." if above else ""
    return [prefix + name for name in words if name.startswith(word)]


def words_below(path: str) -> list[str]:
    """The fields, or the values, that a path leads to."""
    place = explaining.place_of(path)
    if place is None:
        return []
    return [str(item.value) for item in place] if issubclass(place, Enum) else list(place.model_fields)
