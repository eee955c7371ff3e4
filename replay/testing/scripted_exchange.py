"""An exchange that does what a script says, step by step: for tests of a strategy, of an adapter, and of the whole kernel.

`ScriptedExchange` is the exchange with its own truth; `ScriptedVenue` is one kernel's port to it. Each
request has two legs, out and back, and each can be held, delivered, lost or doubled; so can each report of the stream.
Queries can answer as of an earlier instant. Everything else goes through at once. It promises that nothing happens here
that the test did not ask for; it has no matching rules, no prices and no randomness.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from kernel.clock import NS_PER_S, Clock
from kernel.errors import OutcomeUnknown, Rejected, VenueError
from kernel.models import Balance, ExecType, Liquidity, OrdStatus
from kernel.order_spec import Side, StandardOrder, SymbolMetadata, SymbolStatus, TimeInForce
from kernel.venues.base import CancelRequest, Dedupe, ExecutionReport, SubmitRequest, VenueCapabilities

SYMBOL = SymbolMetadata(
    symbol_id="S",
    base_asset="X",
    quote_asset="Y",
    price_decimals=0,
    quantity_decimals=0,
    max_quantity=1_000_000,
    times_in_force=frozenset({TimeInForce.GTC, TimeInForce.IOC, TimeInForce.FOK}),
)
OPENING = {"X": 1_000_000, "Y": 1_000_000_000}
"""Balances before the first trade."""
QUERIES = ("order", "snapshot")
"""Operations that change nothing: told once, with their answer."""
OPEN = (OrdStatus.NEW, OrdStatus.PARTIALLY_FILLED)


@dataclass(frozen=True)
class Trade:
    """One trade of an order."""

    key: str
    quantity: int
    time_ns: int


@dataclass(frozen=True)
class TrueOrder:
    """An order as the exchange has it."""

    number: int
    client_order_id: str
    order: StandardOrder
    status: OrdStatus
    trades: tuple[Trade, ...] = ()
    busts: tuple[tuple[str, int], ...] = ()
    """Trades that are void, and since when."""
    changed_ns: int = 0

    @property
    def id(self) -> str:
        """The exchange's id of it."""
        return f"#{self.number}"

    @property
    def busted(self) -> frozenset[str]:
        """Keys of the trades that are void."""
        return frozenset(key for key, _ in self.busts)

    @property
    def cum_qty(self) -> int:
        return sum(trade.quantity for trade in self.trades if trade.key not in self.busted)

    @property
    def open(self) -> bool:
        return self.status in OPEN


Truth = tuple[TrueOrder, ...]
Answer = Any
"""What an operation comes to: a report, None, or the parts of a snapshot; a `VenueError` is raised at the port."""


class Port(Protocol):
    """What the exchange knows of a kernel's port to it."""

    label: str

    def hear(self, report: ExecutionReport | None) -> None:
        """A report comes in; None: the stream is lost."""


@dataclass
class Message:
    """One request on its way, or its answer on its way back."""

    venue: Port
    operation: str
    subject: str
    """What it is about, for people."""
    execute: Callable[[int | None], Answer]
    """What the exchange does when it arrives, given the instant after which it refuses it."""
    valid_until_ns: int | None
    future: asyncio.Future[Answer]
    answer: Answer = None
    arrived: bool = False


@dataclass
class Scripted:
    """What the script has set."""

    held: set[str] = field(default_factory=set)
    """Legs that are held: `submit`, `submit-answer`, `order-answer`, `reports`, …"""
    stale: dict[str, Truth] = field(default_factory=dict)
    """Query (`order`, `open`, `trades`) → the truth that it answers from."""
    refusal: Rejected | None = None
    """What submits are refused with."""
    failing: dict[str, str] = field(default_factory=dict)
    """Operation → text: it fails at once, nothing known."""
    unsendable: bool = False
    """Requests do not leave at all."""
    partial: bool = False
    """Snapshots are incomplete."""


class ScriptedExchange:
    """The exchange: its truth, and what is on the wire."""

    def __init__(self, clock: Clock, capabilities: VenueCapabilities | None = None) -> None:
        self.clock = clock
        self.capabilities = capabilities or VenueCapabilities()
        self.orders: dict[int, TrueOrder] = {}
        self.symbol = SYMBOL
        self.script = Scripted()
        self.wire: dict[str, Message] = {}
        self.reports: dict[str, ExecutionReport] = {}
        self.venues: list[Port] = []
        self.trace: Callable[[str, str], None] = lambda channel, text: None
        self.name: Callable[[str], str] = lambda client_order_id: client_order_id
        self._messages = itertools.count(1)
        self._reports = itertools.count(1)
        self._trades = itertools.count()
        self._execs = itertools.count()
        self._last_ns = 0

    # ------------------------------------------------------------------------------------------------------ the truth
    def _now_ns(self) -> int:
        """The exchange's time: no two changes at one instant."""
        self._last_ns = max(self._last_ns + 1, self.clock.now_ns())
        return self._last_ns

    @property
    def truth(self) -> Truth:
        return tuple(self.orders.values())

    def order(self, name: str) -> TrueOrder:
        """The order of a venue id like `#0`."""
        return self.orders[int(name.removeprefix("#"))]

    def live(self, client_order_ids: set[str]) -> list[TrueOrder]:
        """Open orders under any of these ids."""
        return [order for order in self.truth if order.open and order.client_order_id in client_order_ids]

    def _change(self, order: TrueOrder, **fields: Any) -> TrueOrder:
        changed = replace(order, changed_ns=self._now_ns(), **fields)
        self.orders[order.number] = changed
        return changed

    def fill(self, name: str, quantity: int) -> None:
        """Trade some of an order."""
        order = self.order(name)
        trade = Trade(f"t{next(self._trades)}", quantity, self._now_ns())
        full = order.cum_qty + quantity >= order.order.quantity
        status = OrdStatus.FILLED if full else OrdStatus.PARTIALLY_FILLED
        order = self._change(order, trades=(*order.trades, trade), status=status if order.open else order.status)
        self.trace("venue", f"{order.id} trades {quantity} ({trade.key}): {told(order)}")
        self.publish(self.trade_report(order, trade))

    def cancel(self, name: str) -> None:
        """Cancel an order that nobody asked to cancel."""
        self._end(self.order(name), OrdStatus.CANCELED)

    def expire(self, name: str) -> None:
        """End an order by its own terms."""
        self._end(self.order(name), OrdStatus.EXPIRED)

    def _end(self, order: TrueOrder, status: OrdStatus) -> ExecutionReport:
        order = self._change(order, status=status)
        self.trace("venue", f"{order.id} ends: {told(order)}")
        exec_type = ExecType.CANCELED if status is OrdStatus.CANCELED else ExecType.EXPIRED
        report = self.report_of(order, exec_type)
        if exec_type is ExecType.CANCELED and not self.capabilities.cancel_reports_cum_qty:
            report = report.model_copy(update={"cum_qty": None, "leaves_qty": None})
        self.publish(report)
        return report

    def bust(self, name: str, key: str) -> None:
        """Make a trade void; a filled order works again."""
        order = self.order(name)
        status = OrdStatus.PARTIALLY_FILLED if order.status is OrdStatus.FILLED else order.status
        order = self._change(order, busts=(*order.busts, (key, self._now_ns())), status=status)
        if order.open and order.cum_qty == 0:
            order = self._change(order, status=OrdStatus.NEW)
        self.trace("venue", f"{key} of {order.id} is void: {told(order)}")
        self.publish(self.bust_report(order, key))

    # ------------------------------------------------------------------------------------------------------ reports
    def report_of(self, order: TrueOrder, exec_type: ExecType) -> ExecutionReport:
        """A report about an order as it is."""
        return ExecutionReport(
            exec_type=exec_type,
            symbol_id=order.order.symbol_id,
            exec_id=None if exec_type is ExecType.ORDER_STATUS else f"e{next(self._execs)}",
            side=order.order.side,
            client_order_id=order.client_order_id,
            exchange_order_id=order.id,
            ord_status=order.status,
            order_qty=order.order.quantity,
            price=order.order.price,
            cum_qty=order.cum_qty,
            leaves_qty=order.order.quantity - order.cum_qty if order.open else 0,
            transact_time_ns=order.changed_ns,
        )

    def trade_report(self, order: TrueOrder, trade: Trade) -> ExecutionReport:
        """The report of one trade, as it was then."""
        before = tuple(item for item in order.trades if item.time_ns <= trade.time_ns)
        then = replace(order, trades=before, changed_ns=trade.time_ns)
        full = then.cum_qty >= order.order.quantity
        status = OrdStatus.FILLED if full else OrdStatus.PARTIALLY_FILLED
        report = self.report_of(replace(then, status=status), ExecType.TRADE)
        return report.model_copy(
            update={
                "exec_id": trade.key,
                "fill_key": trade.key,
                "last_qty": trade.quantity,
                "last_px": order.order.price,
                "liquidity": Liquidity.MAKER,
            }
        )

    def bust_report(self, order: TrueOrder, key: str) -> ExecutionReport:
        """The report that a trade is void."""
        time_ns = dict(order.busts)[key]
        names = {"exec_id": f"bust-{key}", "fill_key": f"bust-{key}", "ref_fill_key": key, "transact_time_ns": time_ns}
        totals = dict.fromkeys(("cum_qty", "leaves_qty", "ord_status"))
        return self.report_of(order, ExecType.TRADE_CANCEL).model_copy(update={**names, **totals})

    def publish(self, report: ExecutionReport) -> None:
        """Send a report to every stream, unless reports are held."""
        if "reports" not in self.script.held:
            self._tell(report)
            return
        name = f"r{next(self._reports)}"
        self.reports[name] = report
        self.trace("venue", f"report {report.exec_type} {report.exchange_order_id} is held as {name}")

    def _tell(self, report: ExecutionReport) -> None:
        for venue in self.venues:
            venue.hear(report)

    # ------------------------------------------------------------------------------------------------------ the wire
    def hold(self, *legs: str) -> None:
        """Hold these legs from now on."""
        self.script.held |= set(legs)

    def flow(self, *legs: str) -> None:
        """Hold these legs (all, when none is named) no more; what is held already stays on the wire."""
        self.script.held -= set(legs) or set(self.script.held)

    def freeze(self, *queries: str) -> None:
        """Have these queries answer from now on what is true now."""
        self.script.stale |= dict.fromkeys(queries, self.truth)

    def thaw(self, *queries: str) -> None:
        """Have these queries (all, when none is named) answer the truth again."""
        for query in queries or tuple(self.script.stale):
            self.script.stale.pop(query, None)

    def send(self, message: Message) -> None:
        """A request leaves a port."""
        text = f"{message.venue.label} {message.operation} {message.subject}".rstrip()
        if message.operation in self.script.held:
            self.trace("sent", f"{text} (held as {self._keep(message)})")
            return
        if message.operation not in QUERIES:
            self.trace("sent", text)
        self._arrive(message)

    def _keep(self, message: Message) -> str:
        name = f"w{next(self._messages)}"
        self.wire[name] = message
        return name

    def _arrive(self, message: Message) -> None:
        message.arrived = True
        try:
            message.answer = message.execute(message.valid_until_ns)
        except VenueError as problem:
            message.answer = problem
        if f"{message.operation}-answer" in self.script.held:
            self.trace("venue", f"answer to {message.operation} {message.subject} is held as {self._keep(message)}")
            return
        self._answer(message)

    def _answer(self, message: Message) -> None:
        if not message.future.done():
            message.future.set_result(message.answer)

    def deliver(self, name: str) -> None:
        """Let a held request arrive, a held answer go back, a held report be heard."""
        if name in self.reports:
            self._tell(self.reports.pop(name))
            return
        message = self.wire.pop(name)
        if message.arrived:
            self._answer(message)
        else:
            self._arrive(message)

    def double(self, name: str) -> None:
        """Deliver it, and keep a copy held under the same name."""
        if name in self.reports:
            self._tell(self.reports[name])
            return
        copied = replace(self.wire[name])
        self._arrive(copied)

    def force(self, name: str) -> None:
        """Let a held request arrive, and take it however old it is: the bound that the venue promised does not hold."""
        self.wire[name].valid_until_ns = None
        self.deliver(name)

    def lose(self, name: str) -> None:
        """Drop a held request, answer or report."""
        if self.reports.pop(name, None) is None:
            del self.wire[name]

    def fail(self, name: str, text: str) -> None:
        """Answer a held request or answer with "nobody knows" (a 5xx, a reset); a request stays on the wire."""
        message = self.wire[name]
        if message.arrived:
            del self.wire[name]
        if not message.future.done():
            message.future.set_result(OutcomeUnknown(text))

    def disconnect(self) -> None:
        """End every stream."""
        self.trace("venue", "the streams end")
        for venue in self.venues:
            venue.hear(None)

    # ------------------------------------------------------------------------------------------------------ operations
    def do_submit(self, request: SubmitRequest, valid_until_ns: int | None) -> Answer:
        self._check(request.client_order_id, valid_until_ns)
        if self._is_taken(request.client_order_id):
            self.trace("venue", f"refuses {self.name(request.client_order_id)}: duplicate id")
            raise OutcomeUnknown("duplicate client order id", code="DUPLICATE", duplicate=True)
        if self.script.refusal is not None:
            self.trace("venue", f"refuses {self.name(request.client_order_id)}: {self.script.refusal.text}")
            raise self.script.refusal
        number = len(self.orders)
        order = TrueOrder(number, request.client_order_id, request.order, OrdStatus.NEW, changed_ns=self._now_ns())
        self.orders[number] = order
        self.trace("venue", f"accepts {self.name(order.client_order_id)} as {order.id}")
        report = self.report_of(order, ExecType.NEW)
        self.publish(report)
        return report

    def _check(self, client_order_id: str, valid_until_ns: int | None) -> None:
        if valid_until_ns is not None and self.clock.now_ns() > valid_until_ns:
            self.trace("venue", f"refuses {self.name(client_order_id)}: too old")
            raise Rejected("the request is too old", code="TOO_OLD", retry_after_s=0.1)

    def _is_taken(self, client_order_id: str) -> bool:
        known = [order for order in self.truth if order.client_order_id == client_order_id]
        match self.capabilities.dedupe:
            case Dedupe.NONE:
                return False
            case Dedupe.WHILE_OPEN:
                return any(order.open for order in known)
            case Dedupe.FOR_EVER:
                return bool(known)

    def do_cancel(self, request: CancelRequest, valid_until_ns: int | None) -> Answer:
        self._check(request.client_order_id, valid_until_ns)
        aimed = [
            order
            for order in self.truth
            if order.open
            and (request.target_exchange_order_id or order.id) == order.id
            and (request.target_exchange_order_id or order.client_order_id == request.target_client_order_id)
        ]
        if not aimed:
            self.trace("venue", f"refuses to cancel {self.name(request.target_client_order_id)}: unknown order")
            raise OutcomeUnknown("unknown order", code="UNKNOWN_ORDER")
        return self._end(aimed[-1], OrdStatus.CANCELED)

    def view(self, query: str) -> Truth:
        """What a query is answered from."""
        return self.script.stale.get(query, self.truth)

    def do_order(self, client_order_id: str, asker: str) -> Answer:
        known = [order for order in self.view("order") if order.client_order_id == client_order_id]
        shown = [order for order in known if order.open or self.capabilities.lookup_closed]
        answer = self.report_of(shown[-1], ExecType.ORDER_STATUS) if shown else None
        self.trace("venue", f"shows {asker} {self.name(client_order_id)}: {told(shown[-1]) if shown else 'nothing'}")
        return answer

    def do_snapshot(self, since_ns: int, asker: str) -> Answer:
        open_orders = tuple(self.report_of(order, ExecType.ORDER_STATUS) for order in self.view("open") if order.open)
        orders = self.view("trades")
        told_fills = [(trade.time_ns, self.trade_report(order, trade)) for order in orders for trade in order.trades]
        told_fills += [(time_ns, self.bust_report(order, key)) for order in orders for key, time_ns in order.busts]
        fills = tuple(report for time_ns, report in sorted(told_fills, key=lambda item: item[0]) if time_ns >= since_ns)
        shown = ", ".join(str(report.exchange_order_id) for report in open_orders) or "nothing"
        keys = ", ".join(str(report.fill_key) for report in fills)
        self.trace("venue", f"lists {asker} {shown} open" + (f", trades {keys}" if keys else ""))
        return open_orders, fills, balances_of(orders)

    def halt(self) -> None:
        """Halt the symbol: submits are refused for now, and the reference data say so."""
        self.symbol = self.symbol.model_copy(update={"status": SymbolStatus.HALTED})
        self.script.refusal = Rejected("the market is halted", code="HALTED", retry_after_s=1)

    def unhalt(self) -> None:
        """Trade again."""
        self.symbol = self.symbol.model_copy(update={"status": SymbolStatus.TRADING})
        self.script.refusal = None


def told(order: TrueOrder) -> str:
    """An order for people."""
    return f"{order.id} {order.status} {order.cum_qty}/{order.order.quantity}"


def balances_of(orders: Truth) -> dict[str, Balance]:
    """What the account has after these orders' trades."""
    totals = dict(OPENING)
    for order in orders:
        sign = 1 if order.order.side is Side.BUY else -1
        totals["X"] += sign * order.cum_qty
        totals["Y"] -= sign * order.cum_qty * (order.order.price or 0)
    return {asset: Balance(asset_id=asset, total=total, free=total, locked=0) for asset, total in totals.items()}


def terms_of(order: StandardOrder) -> str:
    """An order's terms in few words."""
    price = f" @{order.price}" if order.price is not None else ""
    tif = "" if order.time_in_force is TimeInForce.GTC else f" {order.time_in_force}"
    return f"{order.side} {order.quantity}{price}{tif}"


def seconds(text: str) -> int:
    """`2s` or `2` as nanoseconds."""
    return round(float(text.removesuffix("s")) * NS_PER_S)
