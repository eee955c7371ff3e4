"""`orderctl what-if` in words: what a person supposes made into changes, settings and faults, and played.

Called by the CLI; `forking.what_if` is what a library user calls.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson

from kernel.clock import NS_PER_S
from kernel.errors import ValidationError, Violation
from kernel.venues.paper_config import PaperExchangeOptions
from kernel.venues.paper_faults import Fault, FaultKind, Operation
from replay.folding import opened, point_of, recorded_at
from replay.forking import what_if
from replay.outcomes import WhatIf
from replay.progress import Progress
from replay.retelling import Add, Alter, Cancel, Change, Drop


@dataclass(frozen=True, slots=True, kw_only=True)
class Supposed:
    """What a person supposes, as it was typed."""

    at: str
    """The fork: a position, or an instant."""
    drop: tuple[str, ...] = ()
    terms: tuple[tuple[str, str], ...] = ()
    """(order, FIELD=VALUE)."""
    cancel: tuple[tuple[str, float], ...] = ()
    """(order, seconds after the fork)."""
    setting: tuple[str, ...] = ()
    """NAME=VALUE."""
    fault: tuple[tuple[str, str], ...] = ()
    """(kind, operation)."""
    tape: str | None = None
    symbol: str | None = None
    seed: int = 0
    run_for_s: float = field(default=60.0)


async def suppose(url: str, exchange_id: str, supposed: Supposed, *, progress: Progress | None = None) -> WhatIf:
    """Play what is supposed. Raises what `what_if` raises, and `ValidationError` for words that mean nothing."""
    async with opened(url, exchange_id) as log:
        position = await point_of(log, supposed.at)
        if position < 1:
            raise ValidationError(f"nothing is in the log at {supposed.at}: fork at position 1 or later")
        fork_ns = await recorded_at(log, position)
        market = supposed.tape or supposed.symbol
        return await what_if(
            log,
            position=position,
            changes=changes_of(supposed, fork_ns),
            settings=dict(pair(text) for text in supposed.setting),
            venue=PaperExchangeOptions(tape=supposed.tape, symbol=supposed.symbol, seed=supposed.seed)
            if market
            else None,
            faults=[fault_of(kind, operation) for kind, operation in supposed.fault],
            seed=supposed.seed,
            run_for_s=supposed.run_for_s,
            progress=progress,
        )


def changes_of(supposed: Supposed, fork_ns: int) -> list[Change]:
    """The changes, in the order of the options."""
    terms: dict[str, dict[str, Any]] = {}
    for intent_id, text in supposed.terms:
        terms.setdefault(intent_id, {}).update([pair(text)])
    return [
        *(Drop(name) for name in supposed.drop),
        *(Alter(intent_id, fields) for intent_id, fields in terms.items()),
        *(Add(fork_ns + round(after_s * NS_PER_S), Cancel(intent_id)) for intent_id, after_s in supposed.cancel),
    ]


def pair(text: str) -> tuple[str, Any]:
    """NAME=VALUE; a value that is a JSON object, true, false or null is one."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ValidationError("what is to be otherwise", [Violation("option", "form", "NAME=VALUE", text)])
    plain = not value.startswith("{") and value not in ("true", "false", "null")
    try:
        return name, value if plain else orjson.loads(value)
    except orjson.JSONDecodeError as problem:
        raise ValidationError(name, [Violation(name, "form", f"JSON ({problem})", value)]) from problem


def fault_of(kind: str, operation: str) -> Fault:
    """A fault in two words."""
    kinds, operations = ({str(item.value): item for item in choices} for choices in (FaultKind, Operation))
    wrong: Iterable[Violation] = [
        Violation(name, "choice", ", ".join(choices), given)
        for name, given, choices in (("kind", kind, kinds), ("operation", operation, operations))
        if given not in choices
    ]
    if problems := [*wrong]:
        raise ValidationError("no such fault", problems)
    return Fault(kind=FaultKind(kind), operation=Operation(operation))
