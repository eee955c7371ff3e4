"""What the demonstration shows: what it tells, and its tables.

Called by `demo`. Prints with rich to the stream given, in colour where that is a terminal; all text is escaped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from kernel import events
from kernel.clock import NS_PER_MS
from kernel.state import KernelState
from kernel.subscriptions import intent_id_of
from replay.decimals import Scales
from replay.demo_checks import Check
from replay.event_text import event_sentence
from replay.output import escaped

WIDTH = 130
"""Columns where the stream is no terminal, so that what is kept in a file is whole."""


class Pages:
    """The story on a stream."""

    def __init__(self, stream: TextIO) -> None:
        self._console = Console(file=stream, width=None if stream.isatty() else WIDTH, highlight=False)
        self._acts = 0

    def tell(self, text: str) -> None:
        """The next act."""
        self._acts += 1
        self._console.print(Text(f"{self._acts:2d}. {escaped(text)}"))

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table with a title."""
        table = Table(*columns, title=escaped(title), title_justify="left", title_style="bold")
        for row in rows:
            table.add_row(*(Text(escaped(cell)) for cell in row))
        self._console.print()
        self._console.print(table)

    def intents(self, state: KernelState) -> None:
        """What is wanted beside what is there."""
        scales = Scales(state.symbol, state.asset)
        rows = []
        for intent in state.intents():
            order, found = intent.order, state.order_state(intent.intent_id)
            filled = scales.quantity(order.symbol_id, found.status.cum_qty) if found else "-"
            wanted = (
                intent.intent_id,
                f"{order.side} {scales.quantity(order.symbol_id, order.quantity)} {order.symbol_id}",
                scales.price(order.symbol_id, order.price if order.price is not None else order.stop_price),
                intent.desired,
            )
            there = (found.status.ord_status, filled, found.exchange_order_id or "-") if found else ("-", "-", "-")
            rows.append((*wanted, *there, found.reconciliation_status if found else "-"))
        columns = ("intent", "wanted", "price", "desired", "order is", "filled", "venue id", "reconciled")
        self.table("Intents against orders", columns, rows)

    def positions(self, state: KernelState) -> None:
        """What the fills come to."""
        scales = Scales(state.symbol, state.asset)
        rows = [
            (
                item.symbol_id,
                str(item.quantity) if item.quantity < 0 else scales.quantity(item.symbol_id, item.quantity),
                scales.price(item.symbol_id, item.avg_px),
                ", ".join(f"{scales.amount(asset, fee)} {asset}" for asset, fee in item.fees.items()) or "-",
            )
            for item in state.positions()
        ]
        self.table("Positions, folded from the log", ("symbol", "quantity", "average price", "fees"), rows)

    def history(self, state: KernelState, intent_id: str, history: Sequence[events.BaseEvent]) -> None:
        """All that happened to one order, and to the kernel meanwhile, with causes."""
        scales = Scales(state.symbol, state.asset)
        own = [event for event in history if intent_id_of(event) == intent_id]
        leaders = [event for event in history if isinstance(event, events.LeaderElected)]
        shown = sorted(
            {event.position: event for event in (*own, *leaders[1:])}.values(), key=lambda item: item.position
        )
        began_ns = shown[0].recorded_at_ns
        rows = [
            (
                str(event.position),
                f"+{(event.recorded_at_ns - began_ns) // NS_PER_MS} ms",
                event.topic,
                event.actor,
                event.evidence,
                "-" if event.causation_position is None else str(event.causation_position),
                event_sentence(event, scales),
            )
            for event in shown
        ]
        columns = ("position", "time", "event", "actor", "evidence", "cause", "what")
        title = f"History of the order {intent_id!r}: the kernel was killed before the second leader was elected"
        self.table(title, columns, rows)

    def checks(self, found: Sequence[Check]) -> None:
        """The proof."""
        rows = [("yes" if check.holds else "NO", check.claim, check.detail) for check in found]
        self.table("The log against the exchange's own truth", ("agrees", "claim", "compared"), rows)

    def next_steps(self, url: str | None, *, agreed: bool) -> None:
        """What to do now."""
        lines = ["", "Everything agreed." if agreed else "NOT everything agreed."]
        if url is None:
            lines += ["Now on your own:", "  orderctl run                                     (in one shell)"]
            lines += ["  orderctl get orders -w                           (in another)"]
            lines += ["  orderctl place BUY 0.001 BTCUSDT --limit 60000   (in a third)"]
        else:
            lines += [f"The log is kept: orderctl events --log {url}", f"  orderctl describe killed --log {url}"]
            lines += [f"  orderctl verify --log {url}"]
        self._console.print(Text("\n".join(lines)), soft_wrap=True)
