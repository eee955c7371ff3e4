"""The options of `orderctl what-if`, turned into changes, settings and faults. Called by the CLI."""

from __future__ import annotations

from typing import Any

import msgspec

from kernel.clock import NS_PER_S
from kernel.errors import ValidationError, Violation
from kernel.venues.paper.faults import Fault, FaultKind, FaultOperation
from kernel.venues.paper.matching.config import PaperExchangeOptions
from replay.formatting.progress_bar import Progress
from replay.log_access.log_reader import open_for_reading, point_of, recorded_at
from replay.whatif.command_replay import AddCommand, AlterTerms, CancelCommand, CommandChange, DropCommands
from replay.whatif.outcomes import WhatIf
from replay.whatif.simulation import what_if


class ScenarioOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options as typed."""

    at: str
    """The fork: a position or an instant."""
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
    run_for_s: float = 60.0


async def run_scenario(
    url: str, exchange_id: str, options: ScenarioOptions, *, progress: Progress | None = None
) -> WhatIf:
    """Simulate a scenario. Raises what `what_if` raises, and `ValidationError` for options that cannot be read."""
    async with open_for_reading(url, exchange_id) as log:
        position = await point_of(log, options.at)
        if position < 1:
            raise ValidationError(f"--at {options.at}: the log has no event then; fork at position 1 or later")
        fork_ns = await recorded_at(log, position)
        market = options.tape or options.symbol
        return await what_if(
            log,
            position=position,
            changes=changes_of(options, fork_ns),
            settings=dict(pair(text) for text in options.setting),
            venue=PaperExchangeOptions(tape=options.tape, symbol=options.symbol, seed=options.seed) if market else None,
            faults=[fault_of(kind, operation) for kind, operation in options.fault],
            seed=options.seed,
            run_for_s=options.run_for_s,
            progress=progress,
        )


def changes_of(options: ScenarioOptions, fork_ns: int) -> list[CommandChange]:
    terms: dict[str, dict[str, Any]] = {}
    for intent_id, text in options.terms:
        terms.setdefault(intent_id, {}).update([pair(text)])
    return [
        *(DropCommands(name) for name in options.drop),
        *(AlterTerms(intent_id, fields) for intent_id, fields in terms.items()),
        *(
            AddCommand(fork_ns + round(after_s * NS_PER_S), CancelCommand(intent_id))
            for intent_id, after_s in options.cancel
        ),
    ]


def pair(text: str) -> tuple[str, Any]:
    """NAME=VALUE; an object, true, false and null are read as JSON."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ValidationError(violations=[Violation("option", "form", "NAME=VALUE", text)])
    plain = not value.startswith("{") and value not in ("true", "false", "null")
    try:
        return name, value if plain else msgspec.json.decode(value)
    except msgspec.DecodeError as problem:
        raise ValidationError(violations=[Violation(name, "form", f"JSON ({problem})", value)]) from problem


def fault_of(kind: str, operation: str) -> Fault:
    choices = {"kind": (kind, [*FaultKind]), "operation": (operation, [*FaultOperation])}
    if problems := [
        Violation(f"fault {name}", "choice", f"one of {', '.join(known)}", given)
        for name, (given, known) in choices.items()
        if given not in known
    ]:
        raise ValidationError(violations=problems)
    return Fault(kind=FaultKind(kind), operation=FaultOperation(operation))
