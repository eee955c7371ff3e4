"""What came of a run, and several of them side by side: orders, fills, positions with their profit, findings.

Made by `forking` of a state; printed by `orderctl what-if`. It reads, and decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from kernel.clock import NS_PER_S
from kernel.models import OrderIntent, Position
from kernel.state import KernelState
from replay.formatting.decimals import Scales
from replay.formatting.output import Item, Listing

ABSENT = "-"


@dataclass(frozen=True, slots=True)
class OrderOutcome:
    """One order in the end."""

    intent_id: str
    symbol_id: str
    side: str
    quantity: int
    price: int | None
    desired: str
    ord_status: str | None
    """None where nothing was ever sent."""
    reconciliation_status: str | None
    cum_qty: int
    avg_px: int | None


@dataclass(frozen=True, slots=True)
class PositionOutcome:
    """One position in the end, with what came before the fork."""

    symbol_id: str
    quantity: int
    cost: int
    realized_pnl: int
    unrealized_pnl: int | None
    """What it would bring at the last price; None where none is known."""
    last_px: int | None
    fees: dict[str, int]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a run."""

    position: int
    """Of the last event."""
    orders: dict[str, OrderOutcome]
    """Those that were live at the fork, or heard of since; by intent id."""
    fills: int
    """Since the fork."""
    positions: dict[str, PositionOutcome]
    findings: dict[str, str]
    """Those that stand, by id."""
    refused: tuple[str, ...] = ()
    """Commands that were refused when they were given again."""


@dataclass(frozen=True, slots=True)
class WhatIf:
    """What happened, what would have come of it unchanged in the model, and what with the changes."""

    position: int
    """The fork: the last event that is kept."""
    fork_ns: int
    end_ns: int
    recorded: Outcome
    unchanged: Outcome
    changed: Outcome
    lost: int
    """Requests on their way at the fork, taken for lost."""
    scales: Scales
    """Of the markets and assets known at the fork."""


def outcome_of(
    state: KernelState, intent_ids: Iterable[str], *, fills: int, prices: Mapping[str, int], refused: Sequence[str] = ()
) -> Outcome:
    """What came of a run, as its state says in the end."""
    known = {intent_id: intent for intent_id in sorted(intent_ids) if (intent := state.intent(intent_id)) is not None}
    return Outcome(
        position=state.position,
        orders={intent_id: order_outcome(state, intent) for intent_id, intent in known.items()},
        fills=fills,
        positions={item.symbol_id: position_outcome(item, prices.get(item.symbol_id)) for item in state.positions()},
        findings={item.finding_id: item.text for item in state.findings() if item.resolved_at_ns is None},
        refused=tuple(refused),
    )


def order_outcome(state: KernelState, intent: OrderIntent) -> OrderOutcome:
    """One order in the end."""
    order, found = intent.order, state.order_state(intent.intent_id)
    return OrderOutcome(
        intent_id=intent.intent_id,
        symbol_id=order.symbol_id,
        side=str(order.side),
        quantity=order.quantity,
        price=order.price,
        desired=str(intent.desired),
        ord_status=str(found.status.ord_status) if found is not None else None,
        reconciliation_status=str(found.reconciliation_status) if found is not None else None,
        cum_qty=found.status.cum_qty if found is not None else 0,
        avg_px=found.status.avg_px if found is not None else None,
    )


def position_outcome(position: Position, last_px: int | None) -> PositionOutcome:
    """One position in the end."""
    return PositionOutcome(
        symbol_id=position.symbol_id,
        quantity=position.quantity,
        cost=position.cost,
        realized_pnl=position.realized_pnl,
        unrealized_pnl=position.quantity * last_px - position.cost if last_px else None,
        last_px=last_px or None,
        fees=dict(position.fees),
    )


# ------------------------------------------------------------------------------------------------------------ side by side
RUNS = ("recorded", "unchanged", "changed")


def listing(found: WhatIf) -> Listing:
    """Three outcomes side by side: a line for each thing, and whether the changes made a difference to it."""
    runs, scales = (found.recorded, found.unchanged, found.changed), found.scales
    lines = [("fills", "", *(str(run.fills) for run in runs))]
    lines += [
        ("order", name, *(order_text(run.orders.get(name), scales) for run in runs))
        for name in union(run.orders for run in runs)
    ]
    lines += [
        ("position", name, *(position_text(run.positions.get(name), scales) for run in runs))
        for name in union(run.positions for run in runs)
    ]
    lines += [
        ("finding", name, *("stands" if name in run.findings else ABSENT for run in runs))
        for name in union(run.findings for run in runs)
    ]
    lines += [
        ("refused", text, *("yes" if text in run.refused else ABSENT for run in runs))
        for text in union(run.refused for run in runs)
    ]
    marked = tuple((*line, "*" if line[3] != line[4] else "") for line in lines)
    about = {name: getattr(found, name) for name in ("position", "fork_ns", "end_ns", "lost")}
    data = {**about, **{name: exact(run, scales) for name, run in zip(RUNS, runs, strict=True)}}
    columns = ("KIND", "NAME", "RECORDED", "UNCHANGED", "CHANGED", "DIFFERS")
    return Listing("what-if", columns, len(columns), (Item("what-if", data, marked),), single=True)


def summary(found: WhatIf) -> str:
    """What was played, in one line."""
    seconds = (found.end_ns - found.fork_ns) / NS_PER_S
    text = f"forked at position {found.position} and played on for {seconds:g} s, once unchanged and once changed"
    return f"{text}; {found.lost} requests were on their way, and are taken for lost" if found.lost else text


def union(items: Iterable[Iterable[str]]) -> list[str]:
    """Every name, in order of first sight."""
    return [*dict.fromkeys(name for names in items for name in names)]


def exact(run: Outcome, scales: Scales) -> dict[str, Any]:
    """An outcome as JSON, its numbers as decimals."""
    data = asdict(run)
    for kind in ("orders", "positions"):
        data[kind] = [scales.data(item, item["symbol_id"]) for item in data[kind].values()]
    return data


def order_text(order: OrderOutcome | None, scales: Scales) -> str:
    """One order in a few words."""
    if order is None:
        return ABSENT
    filled = f"{scales.quantity(order.symbol_id, order.cum_qty)}/{scales.quantity(order.symbol_id, order.quantity)}"
    price = "" if order.avg_px is None else f" at {scales.price(order.symbol_id, order.avg_px)}"
    return f"{order.ord_status or order.desired} {filled}{price}"


def position_text(position: PositionOutcome | None, scales: Scales) -> str:
    """One position in a few words."""
    if position is None:
        return ABSENT
    name = position.symbol_id
    text = f"{scales.quantity(name, position.quantity)}, realized {scales.notional(name, position.realized_pnl)}"
    if position.unrealized_pnl is None:
        return text
    return f"{text}, open {scales.notional(name, position.unrealized_pnl)}"
