"""Compares the venue's balances and positions with what the log explains.

Called by the session after each complete venue snapshot. A difference raises one finding, which is resolved when the log
explains it again. The sums are the state's (`projections.folds.ledger`).
"""

from __future__ import annotations

from collections.abc import Mapping

from kernel import events
from kernel.lifecycle import finding_id, raised
from kernel.models import FindingKind
from kernel.order_spec import from_scaled
from kernel.state import KernelState


def drift_events(state: KernelState, *, now_ns: int) -> list[events.BaseEvent]:
    """Return the findings to raise and to resolve."""
    balances = {}
    for asset_id, amount in state.balance_drift().items():
        asset = state.asset(asset_id)
        shown = from_scaled(amount, decimals=asset.decimals if asset is not None else 0)
        balances[asset_id] = f"the {asset_id} balance is {shown:+f} off its opening balance, fills and transfers"
    positions = {}
    for symbol_id, quantity in state.position_drift().items():
        symbol = state.symbol(symbol_id)
        shown = from_scaled(quantity, decimals=symbol.quantity_decimals if symbol is not None else 0)
        positions[symbol_id] = f"the venue's {symbol_id} position is {shown:+f} off the fills in the log"
    return [
        *_changes(state, FindingKind.BALANCE_DRIFT, balances, now_ns=now_ns),
        *_changes(state, FindingKind.POSITION_DRIFT, positions, now_ns=now_ns),
    ]


def _changes(state: KernelState, kind: FindingKind, texts: Mapping[str, str], *, now_ns: int) -> list[events.BaseEvent]:
    """Return the changes of a kind's findings; `texts` has the current differences by asset or symbol."""
    unresolved = {item.finding_id for item in state.findings() if item.kind is kind and item.resolved_at_ns is None}
    names = {finding_id(kind, name): name for name in texts}
    new: list[events.BaseEvent] = [
        raised(full, kind, texts[name], symbol_id=name if kind is FindingKind.POSITION_DRIFT else None, now_ns=now_ns)
        for full, name in names.items()
        if full not in unresolved
    ]
    explained = sorted(unresolved - names.keys())
    return [*new, *(events.FindingResolved(finding_id=full, text="explained") for full in explained)]
