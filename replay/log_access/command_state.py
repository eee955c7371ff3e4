"""The state that a command to one intent needs, where neither a checkpoint's records nor the whole log have to be read.

Called by `open_client`. The symbol, the limits and the intent itself are in a few streams. Only the number of open orders
depends on other intents: if even the most that it can be is below the symbol's maximum, an order may be placed.
"""

from __future__ import annotations

import msgspec

from kernel import events
from kernel.clock import SystemClock
from kernel.commands.limit_gate import LimitGate
from kernel.log import EventLog
from kernel.settings import KernelSettings
from projections.checkpoint import CheckpointFiles, checked_header
from projections.state import State
from replay.log_access.checkpoints import newest_read
from replay.log_access.stream_state import stream_state


class CommandScope(msgspec.Struct, frozen=True):
    """The one intent that a client commands and watches."""

    intent_id: str
    symbol_id: str | None = None
    """The symbol of a new order; None if none is placed."""
    is_limited: bool = True
    """False if no pre-trade limit can refuse the command."""


async def command_state(log: EventLog, files: CheckpointFiles | None, scope: CommandScope) -> State | None:
    """The state of an intent, which follows its streams only; None if other intents determine what may be done with it.

    They do where there are pre-trade limits, and where the symbol of a new order may have as many open orders as it can.
    """
    found = await stream_state(log, [scope.intent_id])
    if found is None:
        return None
    state = found.state
    if scope.is_limited and LimitGate(state, clock=SystemClock(), own=KernelSettings().limits).settings():
        return None
    symbol = state.symbol(scope.symbol_id) if scope.symbol_id is not None else None
    if symbol is None or symbol.max_open_orders is None:
        return state
    most = await most_open_orders(log, files, symbol.symbol_id, upto=state.position)
    return state if most < symbol.max_open_orders else None


async def most_open_orders(log: EventLog, files: CheckpointFiles | None, symbol_id: str, *, upto: int) -> int:
    """The most intents with an open order in a symbol: those of the newest checkpoint, and each that has events since."""
    header = await newest_read(log, files, checked_header, upto=upto)
    after, known = (header.position, header.open_orders.get(symbol_id, 0)) if header is not None else (0, 0)
    changed = {row.stream_id async for rows in log.read(after, upto) for row in rows}
    return known + sum(name.startswith(events.INTENT_STREAM_PREFIX) for name in changed)
