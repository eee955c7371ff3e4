"""The outcome of a run, and several side by side: orders, fills, positions, findings.

Made by `simulation` from a state, printed by `orderctl what-if`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import msgspec

from kernel.clock import NS_PER_S
from kernel.models import OrderIntent, Position
from kernel.state import KernelState
from replay.formatting.decimals import Scales
from replay.formatting.output import Item, Listing

ABSENT = "-"


class OrderOutcome(msgspec.Struct, frozen=True):
    """One order at the end of a run."""

    intent_id: str
    symbol_id: str
    side: str
    quantity: int
    price: int | None
    desired: str
    ord_status: str | None
    """None if the order was never sent."""
    reconciliation_status: str | None
    cum_qty: int
    avg_px: int | None


class PositionOutcome(msgspec.Struct, frozen=True):
    """One position at the end of a run, including the time before the fork."""

    symbol_id: str
    quantity: int
    cost: int
    realized_pnl: int
    unrealized_pnl: int | None
    """At the last price; None if that is unknown."""
    last_px: int | None
    fees: dict[str, int]


class Outcome(msgspec.Struct, frozen=True):
    """The outcome of a run."""

    position: int
    """The last event."""
    orders: dict[str, OrderOutcome]
    """By intent id: those that were live at the fork or changed since."""
    fills: int
    """Fills since the fork."""
    positions: dict[str, PositionOutcome]
    findings: dict[str, str]
    """Open findings: id to text."""
    refused: tuple[str, ...] = ()
    """Replayed commands that were refused."""


class WhatIf(msgspec.Struct, frozen=True):
    """The recorded outcome, and the simulated ones without and with the changes."""

    position: int
    """The fork: the last event that is kept."""
    fork_ns: int
    end_ns: int
    recorded: Outcome
    unchanged: Outcome
    changed: Outcome
    lost: int
    """Requests that were unanswered at the fork: they never arrive."""
    scales: Scales
    """Those of the symbols and assets known at the fork."""


def outcome_of(
    state: KernelState, intent_ids: Iterable[str], *, fills: int, prices: Mapping[str, int], refused: Sequence[str] = ()
) -> Outcome:
    """The outcome of a run, from its last state."""
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
    return PositionOutcome(
        symbol_id=position.symbol_id,
        quantity=position.quantity,
        cost=position.cost,
        realized_pnl=position.realized_pnl,
        unrealized_pnl=position.quantity * last_px - position.cost if last_px else None,
        last_px=last_px or None,
        fees=dict(position.fees),
    )


RUNS = ("recorded", "unchanged", "changed")
COLUMNS = ("KIND", "NAME", "RECORDED", "UNCHANGED", "CHANGED", "DIFFERS")
Line = tuple[str, ...]


def listing(found: WhatIf) -> Listing:
    """Three outcomes side by side: one line per thing, and whether the changes made a difference to it."""
    runs, scales = (found.recorded, found.unchanged, found.changed), found.scales

    def lines_of(kind: str, names: Iterable[Iterable[str]], text: Callable[[Outcome, str], str]) -> Iterator[Line]:
        for name in dict.fromkeys(chain.from_iterable(names)):
            recorded, unchanged, changed = (text(run, name) for run in runs)
            yield kind, name, recorded, unchanged, changed, "*" if unchanged != changed else ""

    lines = (
        *lines_of("fills", [[""]], lambda run, _: str(run.fills)),
        *lines_of("order", (run.orders for run in runs), lambda run, name: order_text(run.orders.get(name), scales)),
        *lines_of(
            "position",
            (run.positions for run in runs),
            lambda run, name: position_text(run.positions.get(name), scales),
        ),
        *lines_of(
            "finding", (run.findings for run in runs), lambda run, name: "open" if name in run.findings else ABSENT
        ),
        *lines_of("refused", (run.refused for run in runs), lambda run, text: "yes" if text in run.refused else ABSENT),
    )
    data = {name: getattr(found, name) for name in ("position", "fork_ns", "end_ns", "lost")}
    data |= {name: exact(run, scales) for name, run in zip(RUNS, runs, strict=True)}
    return Listing("what-if", COLUMNS, len(COLUMNS), (Item("what-if", data, lines),), single=True)


def summary(found: WhatIf) -> str:
    """The simulation in one line."""
    seconds = (found.end_ns - found.fork_ns) / NS_PER_S
    text = f"forked at position {found.position} and simulated {seconds:g} s, once unchanged and once changed"
    if not found.lost:
        return text
    requests = "1 unanswered request is" if found.lost == 1 else f"{found.lost} unanswered requests are"
    return f"{text}; {requests} assumed lost"


def exact(run: Outcome, scales: Scales) -> dict[str, Any]:
    """An outcome as JSON, with decimals."""
    data: dict[str, Any] = msgspec.to_builtins(run)
    for kind in ("orders", "positions"):
        data[kind] = [scales.data(item, item["symbol_id"]) for item in data[kind].values()]
    return data


def order_text(order: OrderOutcome | None, scales: Scales) -> str:
    if order is None:
        return ABSENT
    filled = f"{scales.quantity(order.symbol_id, order.cum_qty)}/{scales.quantity(order.symbol_id, order.quantity)}"
    price = "" if order.avg_px is None else f" at {scales.price(order.symbol_id, order.avg_px)}"
    return f"{order.ord_status or order.desired} {filled}{price}"


def position_text(position: PositionOutcome | None, scales: Scales) -> str:
    if position is None:
        return ABSENT
    name = position.symbol_id
    text = f"{scales.quantity(name, position.quantity)}, realized {scales.notional(name, position.realized_pnl)}"
    if position.unrealized_pnl is None:
        return text
    return f"{text}, open {scales.notional(name, position.unrealized_pnl)}"
