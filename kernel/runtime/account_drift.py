"""Compares the venue's balances and positions with what the log explains, and finds the transfers that explain them.

Called by the session at each venue snapshot. A difference raises one finding, which is raised again when the difference
changes and resolved when the log explains it. The sums are the state's (`projections.folds.ledger`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import structs

from kernel import events
from kernel.lifecycle.findings import finding_id, raised
from kernel.models import FindingKind
from kernel.order_spec import from_scaled
from kernel.state import KernelState
from kernel.venues.base import Transfer


def drift_events(state: KernelState, *, now_ns: int) -> list[events.BaseEvent]:
    """Return the findings to raise and to resolve."""
    balances = {}
    for asset_id, amount in state.balance_drift().items():
        asset = state.asset(asset_id)
        decimals = asset.decimals if asset is not None else 0
        difference = f"{from_scaled(amount, decimals=decimals):+f} off its opening balance, fills and transfers"
        balances[asset_id] = f"the {asset_id} balance is {difference} ({amount:+d} at {decimals} decimals)"
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
    unresolved = {
        item.finding_id: item.text for item in state.findings() if item.kind is kind and item.resolved_at_ns is None
    }
    symbols = {name: name if kind is FindingKind.POSITION_DRIFT else None for name in texts}
    current = [
        raised(finding_id(kind, name), kind, text, symbol_id=symbols[name], now_ns=now_ns)
        for name, text in texts.items()
    ]
    new = [item for item in current if unresolved.get(item.finding.finding_id) != item.finding.text]
    explained = sorted(unresolved.keys() - {item.finding.finding_id for item in current})
    return [*new, *(events.FindingResolved(finding_id=full, text="explained") for full in explained)]


def transfer_events(state: KernelState, transfers: Iterable[Transfer]) -> list[events.BaseEvent]:
    """Return the events of the transfers that are not recorded yet; lists overlap, and may name one twice."""
    new = {item.transfer_key: item for item in transfers if not state.has_transfer(item.transfer_key)}
    return [events.TransferObserved(**structs.asdict(item)) for item in new.values()]
