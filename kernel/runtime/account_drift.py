"""What the venue says of the account, against what the log comes to: balances and positions that nothing explains.

Called by the session after each complete look at the account. Level, not edge: what is off is raised once, and resolved
when it is explained again. The sums are the state's (`projections.folds.ledger`).
"""

from __future__ import annotations

from collections.abc import Mapping

from kernel import events
from kernel.lifecycle import finding_id, raised
from kernel.models import FindingKind
from kernel.state import KernelState


def drift_events(state: KernelState, *, now_ns: int) -> list[events.BaseEvent]:
    """The findings to raise and to resolve."""
    balances = {
        asset_id: f"{asset_id}: observed is {amount:+d} off what opening balance, fills and transfers come to"
        for asset_id, amount in state.balance_drift().items()
    }
    positions = {
        symbol_id: f"{symbol_id}: the venue's position is {quantity:+d} off what fills come to"
        for symbol_id, quantity in state.position_drift().items()
    }
    return [
        *changes(state, FindingKind.BALANCE_DRIFT, balances, now_ns=now_ns),
        *changes(state, FindingKind.POSITION_DRIFT, positions, now_ns=now_ns),
    ]


def changes(state: KernelState, kind: FindingKind, held: Mapping[str, str], *, now_ns: int) -> list[events.BaseEvent]:
    """What has come to be off, and what is no longer, by the name of asset or symbol."""
    standing = {item.finding_id for item in state.findings() if item.kind is kind and item.resolved_at_ns is None}
    names = {finding_id(kind, name): name for name in held}
    made: list[events.BaseEvent] = [
        raised(full, kind, held[name], symbol_id=name if kind is FindingKind.POSITION_DRIFT else None, now_ns=now_ns)
        for full, name in names.items()
        if full not in standing
    ]
    explained = sorted(standing - names.keys())
    return [*made, *(events.FindingResolved(finding_id=full, text="explained") for full in explained)]
