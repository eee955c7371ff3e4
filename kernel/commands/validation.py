"""Builds the intents of commands, and finds their symbols. Symbol constraints are checked elsewhere."""

from __future__ import annotations

from typing import Any

from kernel.errors import NotReadyError, ValidationError, Violation
from kernel.models import OrderIntent
from kernel.order_spec import StandardOrder, SymbolMetadata
from kernel.state import KernelState
from kernel.values.edge import validated

SYMBOLS_SHOWN_MAX = 10


def new_intent(order: StandardOrder, *, now_ns: int, **fields: Any) -> OrderIntent:
    """Return the intent of a command, with the other `fields` of the model; `ValidationError` lists what is invalid."""
    stamps = {"created_at_ns": now_ns, "updated_at_ns": now_ns}
    return validated({"order": order, **stamps, **fields}, OrderIntent, what="the intent is not valid")


def symbol_named(state: KernelState, symbol_id: str, *, missing: tuple[str, ...] = ()) -> SymbolMetadata:
    """Return a symbol; `ValidationError` if only others are known, `NotReadyError` (naming `missing`) if none is."""
    if (found := state.symbol(symbol_id)) is not None:
        return found
    if not (names := known_symbols(state)):
        raise NotReadyError("no symbol is known yet: start `orderctl run` on this log first", missing=missing)
    text = "symbol `{value}` is not known; known symbols: {limit}"
    raise ValidationError(violations=[Violation("order.symbol_id", "symbol", names, symbol_id, text)])


def known_symbols(state: KernelState) -> str:
    """Return the first ids of the known symbols as text; empty if none is known."""
    names = sorted(symbol.symbol_id for symbol in state.symbols())
    return ", ".join(names[:SYMBOLS_SHOWN_MAX]) + (" …" if len(names) > SYMBOLS_SHOWN_MAX else "")
