"""From when on trades are queried, for the account or by symbol, and what a venue's history no longer holds (H16).

Used by the session with the state's cursors. A venue that lists trades by symbol answers for the symbols that were asked
for; their cursors move then, and no other.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from kernel.clock import NS_PER_S
from kernel.state import KernelState
from kernel.venues.base import VenueSnapshot

ACCOUNT = "account"


def cursors(state: KernelState, symbols: Sequence[str]) -> dict[str, int]:
    """Return the cursor of each scope that is asked for: of the symbols where the venue answers by symbol."""
    if not state.lists_trades_by_symbol:
        cursor_ns = state.trades_cursor_ns
        return {ACCOUNT: state.created_at_ns if cursor_ns is None else cursor_ns}
    by_symbol = {symbol_id: state.trades_cursor_of(symbol_id) for symbol_id in symbols}
    return {
        symbol_id: first_intent_ns(state, symbol_id) if cursor_ns is None else cursor_ns
        for symbol_id, cursor_ns in by_symbol.items()
    }


def first_intent_ns(state: KernelState, symbol_id: str) -> int:
    """Return when the first intent of a symbol in memory was created: no trade of ours is older."""
    created = (intent.created_at_ns for intent in state.intents_of_symbol(symbol_id))
    return max(state.created_at_ns, min(created, default=state.created_at_ns))


def covered(snapshot: VenueSnapshot, symbols: Sequence[str]) -> tuple[str, ...] | None:
    """Return the symbols whose trades were asked for and answered; None for the whole account."""
    return None if snapshot.symbols is None else tuple(sorted(snapshot.symbols.intersection(symbols)))


def gap_text(scope: str, *, from_ns: int, until_ns: int) -> str:
    return (
        f"trades of {'the account' if scope == ACCOUNT else scope} from {utc(from_ns)} until {utc(until_ns)} can no longer"
        " be listed: the venue keeps no older ones"
    )


def utc(instant_ns: int) -> str:
    return datetime.fromtimestamp(instant_ns // NS_PER_S, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
