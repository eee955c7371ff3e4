"""An exchange that a test controls step by step, for tests of strategies, adapters and the kernel.

`ScriptedExchange` holds the orders; `ScriptedVenue` is one kernel's connection to it. Each request has two legs, the
request and its answer; each leg, and each report of the stream, can be held, delivered, lost or doubled. Queries can
answer with stale data. Everything that is not held passes at once. There are no matching rules, prices or random effects:
nothing happens that the test did not ask for.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec
from msgspec import structs
from msgspec.structs import replace

from kernel.clock import Clock
from kernel.errors import OutcomeUnknown, Rejected, VenueError
from kernel.models import Balance, ExecType, Liquidity, OrdStatus
from kernel.order_spec import OrderType, Side, StandardOrder, SymbolMetadata, SymbolStatus, TimeInForce
from kernel.venues.base import CancelRequest, Dedupe, ExecutionReport, SubmitRequest, VenueCapabilities

SYMBOL = SymbolMetadata(
    symbol_id="S",
    base_asset="X",
    quote_asset="Y",
    price_decimals=0,
    quantity_decimals=0,
    max_quantity=1_000_000,
    order_types=frozenset({OrderType.LIMIT, OrderType.MARKET, OrderType.STOP_LIMIT}),
    times_in_force=frozenset({TimeInForce.GTC, TimeInForce.IOC, TimeInForce.FOK}),
)
OPENING_BALANCES = {"X": 1_000_000, "Y": 1_000_000_000}
"""Balances before the first trade, in units."""
QUERIES = ("order", "snapshot")
"""Operations that change nothing; traced once, with their answer."""
OPEN = (OrdStatus.NEW, OrdStatus.PARTIALLY_FILLED)


class ScriptedTrade(msgspec.Struct, frozen=True):
    """A trade of an order."""

    key: str
    quantity: int
    time_ns: int


class ScriptedOrder(msgspec.Struct, frozen=True):
    """An order as the exchange has it."""

    number: int
    id: str
    """The exchange's order id, such as `#0` (FIX 37)."""
    client_order_id: str
    order: StandardOrder
    status: OrdStatus
    trades: tuple[ScriptedTrade, ...] = ()
    busts: tuple[tuple[str, int], ...] = ()
    """(fill key, instant) of each busted trade."""
    changed_ns: int = 0

    @property
    def busted(self) -> frozenset[str]:
        """Fill keys of the busted trades."""
        return frozenset(key for key, _ in self.busts)

    @property
    def cum_qty(self) -> int:
        """Filled quantity (FIX 14)."""
        return sum(trade.quantity for trade in self.trades if trade.key not in self.busted)

    @property
    def open(self) -> bool:
        """It can still trade."""
        return self.status in OPEN


ScriptedOrders = tuple[ScriptedOrder, ...]
Answer = Any
"""The result of an operation: a report, None, the parts of a snapshot, or a `VenueError` that the port raises."""


class Port(Protocol):
    """The exchange's view of a kernel's connection."""

    label: str

    def receive(self, report: ExecutionReport | None) -> None:
        """Accept a report; None means that the stream is lost."""


class Message(msgspec.Struct):
    """A request on its way, or its answer on its way back."""

    venue: Port
    operation: str
    subject: str
    """Its subject, for the trace."""
    execute: Callable[[int | None], Answer]
    """Executes the request on arrival; the argument is the instant after which it is refused."""
    valid_until_ns: int | None
    future: asyncio.Future[Answer]
    answer: Answer = None
    arrived: bool = False


@dataclass
class ExchangeScript:
    """The effects that the test has set."""

    held: set[str] = field(default_factory=set)
    """Held legs: `submit`, `submit-answer`, `order-answer`, `reports`, …"""
    stale: dict[str, ScriptedOrders] = field(default_factory=dict)
    """Query (`order`, `open`, `trades`) → the orders from which it answers."""
    refusal: Rejected | None = None
    """The refusal of every submit."""
    failing: dict[str, str] = field(default_factory=dict)
    """Operation → text: it fails at once with `OutcomeUnknown`; `connect` with `NotSent`."""
    unsendable: bool = False
    """Every request fails with `NotSent`."""
    partial: bool = False
    """Snapshots are incomplete."""


class ScriptedExchange:
    """An exchange with one symbol, `S`, quoted in `Y`, with prices and quantities in whole units."""

    def __init__(self, clock: Clock, capabilities: VenueCapabilities | None = None) -> None:
        self.clock = clock
        self.capabilities = capabilities or VenueCapabilities()
        self.orders: dict[int, ScriptedOrder] = {}
        """Every order by its number; its exchange order id is `#` and the number."""
        self.symbol = SYMBOL
        self.script = ExchangeScript()
        self.wire: dict[str, Message] = {}
        """Held requests and answers by name (`w1`, `w2`, …)."""
        self.reports: dict[str, ExecutionReport] = {}
        """Held reports by name (`r1`, `r2`, …)."""
        self.venues: list[Port] = []
        """The connected ports."""
        self.trace: Callable[[str, str], None] = lambda channel, text: None
        """Called with a channel (`sent`, `venue`) and a line for each thing that happens."""
        self.name: Callable[[str], str] = lambda client_order_id: client_order_id
        """Names a client order id in the trace."""
        self._messages = itertools.count(1)
        self._reports = itertools.count(1)
        self._trades = itertools.count()
        self._execs = itertools.count()
        self._last_ns = 0

    def _now_ns(self) -> int:
        """Return the exchange's time; no two changes have the same instant."""
        self._last_ns = max(self._last_ns + 1, self.clock.now_ns())
        return self._last_ns

    @property
    def truth(self) -> ScriptedOrders:
        """Every order, oldest first."""
        return tuple(self.orders.values())

    def order(self, name: str) -> ScriptedOrder:
        """Return an order by its number, such as `#0`."""
        return self.orders[int(name.removeprefix("#"))]

    def _add(self, client_order_id: str, terms: StandardOrder) -> ScriptedOrder:
        """Return a new order under the next id."""
        number = len(self.orders)
        order = ScriptedOrder(number, f"#{number}", client_order_id, terms, OrdStatus.NEW, changed_ns=self._now_ns())
        self.orders[number] = order
        return order

    def _change(self, order: ScriptedOrder, **fields: Any) -> ScriptedOrder:
        changed = replace(order, changed_ns=self._now_ns(), **fields)
        self.orders[order.number] = changed
        return changed

    def fill(self, name: str, quantity: int) -> None:
        """Trade part of an order (`#0`) at its limit price and report it; from the order's total on, it is FILLED."""
        order = self.order(name)
        trade = ScriptedTrade(f"t{next(self._trades)}", quantity, self._now_ns())
        full = order.cum_qty + quantity >= order.order.quantity
        status = OrdStatus.FILLED if full else OrdStatus.PARTIALLY_FILLED
        order = self._change(order, trades=(*order.trades, trade), status=status if order.open else order.status)
        self.trace("venue", f"{order.id} trades {quantity} ({trade.key}): {describe_order(order)}")
        self.publish(self.trade_report(order, trade))

    def foreign(self, side: str, quantity: int, price: int) -> None:
        """Accept an order that somebody else places without a client order id; reports it to nobody."""
        terms = StandardOrder(
            symbol_id=self.symbol.symbol_id, side=Side(side), order_type=OrderType.LIMIT, quantity=quantity, price=price
        )
        order = self._add("", terms)
        self.trace("venue", f"accepts a foreign {terms_of(terms)} as {order.id}")

    def cancel(self, name: str) -> None:
        """Cancel an order on the exchange's own initiative and report it."""
        self._end(self.order(name), OrdStatus.CANCELED)

    def expire(self, name: str) -> None:
        """Expire an order and report it."""
        self._end(self.order(name), OrdStatus.EXPIRED)

    def _end(self, order: ScriptedOrder, status: OrdStatus) -> ExecutionReport:
        order = self._change(order, status=status)
        self.trace("venue", f"{order.id} ends: {describe_order(order)}")
        exec_type = ExecType.CANCELED if status is OrdStatus.CANCELED else ExecType.EXPIRED
        report = self.report_of(order, exec_type)
        if exec_type is ExecType.CANCELED and not self.capabilities.cancel_reports_cum_qty:
            report = structs.replace(report, cum_qty=None, leaves_qty=None)
        self.publish(report)
        return report

    def bust(self, name: str, key: str) -> None:
        """Void a trade and report it (FIX 150=H); a FILLED order works again. The exchange's first trade is `t0`."""
        order = self.order(name)
        status = OrdStatus.PARTIALLY_FILLED if order.status is OrdStatus.FILLED else order.status
        order = self._change(order, busts=(*order.busts, (key, self._now_ns())), status=status)
        if order.open and order.cum_qty == 0:
            order = self._change(order, status=OrdStatus.NEW)
        self.trace("venue", f"{key} of {order.id} is void: {describe_order(order)}")
        self.publish(self.bust_report(order, key))

    def report_of(self, order: ScriptedOrder, exec_type: ExecType) -> ExecutionReport:
        """Return a report of an order's current state."""
        return ExecutionReport(
            exec_type=exec_type,
            symbol_id=order.order.symbol_id,
            exec_id=None if exec_type is ExecType.ORDER_STATUS else f"e{next(self._execs)}",
            side=order.order.side,
            client_order_id=(order.client_order_id or None) if self.capabilities.client_order_ids else None,
            exchange_order_id=order.id,
            ord_status=order.status,
            order_qty=order.order.quantity,
            price=order.order.price,
            cum_qty=order.cum_qty,
            leaves_qty=order.order.quantity - order.cum_qty if order.open else 0,
            transact_time_ns=order.changed_ns,
        )

    def trade_report(self, order: ScriptedOrder, trade: ScriptedTrade) -> ExecutionReport:
        """Return the report of a trade, with the order's state at that time."""
        before = tuple(item for item in order.trades if item.time_ns <= trade.time_ns)
        then = replace(order, trades=before, changed_ns=trade.time_ns)
        full = then.cum_qty >= order.order.quantity
        status = OrdStatus.FILLED if full else OrdStatus.PARTIALLY_FILLED
        report = self.report_of(replace(then, status=status), ExecType.TRADE)
        return structs.replace(
            report,
            exec_id=trade.key,
            fill_key=trade.key,
            last_qty=trade.quantity,
            last_px=order.order.price,
            liquidity=Liquidity.MAKER,
        )

    def bust_report(self, order: ScriptedOrder, key: str) -> ExecutionReport:
        time_ns = dict(order.busts)[key]
        names = {"exec_id": f"bust-{key}", "fill_key": f"bust-{key}", "ref_fill_key": key, "transact_time_ns": time_ns}
        totals = dict.fromkeys(("cum_qty", "leaves_qty", "ord_status"))
        return structs.replace(self.report_of(order, ExecType.TRADE_CANCEL), **names, **totals)

    def publish(self, report: ExecutionReport) -> None:
        """Send a report to every stream, or hold it."""
        if "reports" not in self.script.held:
            self._deliver_report(report)
            return
        name = f"r{next(self._reports)}"
        self.reports[name] = report
        self.trace("venue", f"report {report.exec_type} {report.exchange_order_id} is held as {name}")

    def _deliver_report(self, report: ExecutionReport) -> None:
        for venue in self.venues:
            venue.receive(report)

    def hold(self, *legs: str) -> None:
        """Hold these legs from now on.

        Args:
            legs: An operation (`submit`, `cancel`, `order`, `snapshot`) for its requests, the same with `-answer` for
                its answers, or `reports`. Held messages appear by name in `wire`, held reports in `reports`.
        """
        self.script.held |= set(legs)

    def flow(self, *legs: str) -> None:
        """Stop holding legs, by default all. Messages held before stay held: `deliver` or `lose` them."""
        self.script.held -= set(legs) or set(self.script.held)

    def freeze(self, *queries: str) -> None:
        """Answer queries with the present state from now on.

        Args:
            queries: `order` (one order), `open` (the open orders of snapshots), `trades` (their trades and balances).
        """
        self.script.stale |= dict.fromkeys(queries, self.truth)

    def thaw(self, *queries: str) -> None:
        """Answer these queries, by default all, with the current state again."""
        for query in queries or tuple(self.script.stale):
            self.script.stale.pop(query, None)

    def send(self, message: Message) -> None:
        """Accept a request from a port."""
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
        """Deliver a held request, answer or report by its name, such as `w1` or `r1`."""
        if name in self.reports:
            self._deliver_report(self.reports.pop(name))
            return
        message = self.wire.pop(name)
        if message.arrived:
            self._answer(message)
        else:
            self._arrive(message)

    def double(self, name: str) -> None:
        """Deliver a copy of a held request or report and keep the original held."""
        if name in self.reports:
            self._deliver_report(self.reports[name])
            return
        self._arrive(replace(self.wire[name]))

    def force(self, name: str) -> None:
        """Deliver a held request and execute it although its validity has expired."""
        self.wire[name].valid_until_ns = None
        self.deliver(name)

    def lose(self, name: str) -> None:
        """Drop a held request, answer or report."""
        if self.reports.pop(name, None) is None:
            del self.wire[name]

    def fail(self, name: str, text: str) -> None:
        """Answer a held request or answer with `OutcomeUnknown`; a held request stays held and may still arrive."""
        message = self.wire[name]
        if message.arrived:
            del self.wire[name]
        if not message.future.done():
            message.future.set_result(OutcomeUnknown(text))

    def disconnect(self) -> None:
        """End every stream of reports."""
        self.trace("venue", "the streams end")
        for venue in self.venues:
            venue.receive(None)

    def do_submit(self, request: SubmitRequest, valid_until_ns: int | None) -> Answer:
        self._check(request.client_order_id, valid_until_ns)
        if self._is_taken(request.client_order_id):
            self.trace("venue", f"refuses {self.name(request.client_order_id)}: duplicate id")
            raise OutcomeUnknown("duplicate client order id", code="DUPLICATE", duplicate=True)
        if self.script.refusal is not None:
            self.trace("venue", f"refuses {self.name(request.client_order_id)}: {self.script.refusal.text}")
            raise self.script.refusal
        order = self._add(request.client_order_id, request.order)
        self.trace("venue", f"accepts {self.name(order.client_order_id)} as {order.id}")
        report = self.report_of(order, ExecType.NEW)
        self.publish(report)
        return report

    def _check(self, client_order_id: str, valid_until_ns: int | None) -> None:
        if valid_until_ns is not None and self.clock.now_ns() > valid_until_ns:
            self.trace("venue", f"refuses {self.name(client_order_id)}: too old")
            raise Rejected("the request is too old", code="TOO_OLD", retry_after_s=0.1)

    def _is_taken(self, client_order_id: str) -> bool:
        dedupe = self.capabilities.dedupe
        known = [order for order in self.truth if order.client_order_id == client_order_id]
        return dedupe is not Dedupe.NONE and any(order.open or dedupe is Dedupe.FOR_EVER for order in known)

    def do_cancel(self, request: CancelRequest, valid_until_ns: int | None) -> Answer:
        self._check(request.client_order_id, valid_until_ns)
        targets = [
            order
            for order in self.truth
            if order.open
            and (request.target_exchange_order_id or order.id) == order.id
            and (request.target_exchange_order_id or order.client_order_id == request.target_client_order_id)
        ]
        if not targets:
            self.trace("venue", f"refuses to cancel {self.name(request.target_client_order_id)}: unknown order")
            raise OutcomeUnknown("unknown order", code="UNKNOWN_ORDER")
        return self._end(targets[-1], OrdStatus.CANCELED)

    def _seen_by(self, query: str) -> ScriptedOrders:
        """Return the orders from which a query answers."""
        return self.script.stale.get(query, self.truth)

    def do_order(self, client_order_id: str | None, exchange_order_id: str | None, label: str) -> Answer:
        """Execute an order query."""
        orders = [
            order
            for order in self._seen_by("order")
            if (order.client_order_id == client_order_id if client_order_id else order.id == exchange_order_id)
        ]
        shown = [order for order in orders if order.open or self.capabilities.lookup_closed]
        described = describe_order(shown[-1]) if shown else "nothing"
        asked = self.name(client_order_id) if client_order_id else exchange_order_id
        self.trace("venue", f"shows {label} {asked}: {described}")
        reports = tuple(self.report_of(order, ExecType.ORDER_STATUS) for order in shown[-1:])
        return next(iter(shown_with(reports, client_ids=self.capabilities.orders_carry_client_id)), None)

    def do_snapshot(self, since_ns: int, label: str) -> Answer:
        """Execute a snapshot query."""
        open_orders = tuple(
            self.report_of(order, ExecType.ORDER_STATUS) for order in self._seen_by("open") if order.open
        )
        orders = self._seen_by("trades")
        dated_fills = [(trade.time_ns, self.trade_report(order, trade)) for order in orders for trade in order.trades]
        dated_fills += [(time_ns, self.bust_report(order, key)) for order in orders for key, time_ns in order.busts]
        fills = tuple(
            report for time_ns, report in sorted(dated_fills, key=lambda item: item[0]) if time_ns >= since_ns
        )
        shown = ", ".join(str(report.exchange_order_id) for report in open_orders) or "nothing"
        open_orders = shown_with(open_orders, client_ids=self.capabilities.orders_carry_client_id)
        fills = shown_with(fills, client_ids=self.capabilities.trades_carry_client_id)
        keys = ", ".join(str(report.fill_key) for report in fills)
        self.trace("venue", f"lists {label} {shown} open" + (f", trades {keys}" if keys else ""))
        return open_orders, fills, balances_of(orders)

    def halt(self) -> None:
        """Halt the symbol: refuse submits with a retry delay of 1 s and change the reference data."""
        self.symbol = structs.replace(self.symbol, status=SymbolStatus.HALTED)
        self.script.refusal = Rejected("the market is halted", code="HALTED", retry_after_s=1)


def shown_with(reports: tuple[ExecutionReport, ...], *, client_ids: bool) -> tuple[ExecutionReport, ...]:
    """Return the reports of a list, without client order ids if it does not carry them."""
    return reports if client_ids else tuple(structs.replace(item, client_order_id=None) for item in reports)


def describe_order(order: ScriptedOrder) -> str:
    return f"{order.id} {order.status} {order.cum_qty}/{order.order.quantity}"


def balances_of(orders: ScriptedOrders) -> dict[str, Balance]:
    """Return the account's balances after these orders' trades."""
    totals = dict(OPENING_BALANCES)
    for order in orders:
        sign = 1 if order.order.side is Side.BUY else -1
        totals["X"] += sign * order.cum_qty
        totals["Y"] -= sign * order.cum_qty * (order.order.price or 0)
    return {asset: Balance(asset_id=asset, total=total, free=total, locked=0) for asset, total in totals.items()}


def terms_of(order: StandardOrder) -> str:
    """Return an order's terms in one line for people."""
    price = f" @{order.price}" if order.price is not None else ""
    price += f" stop @{order.stop_price}" if order.stop_price is not None else ""
    tif = "" if order.time_in_force is TimeInForce.GTC else f" {order.time_in_force}"
    return f"{order.side} {order.quantity}{price}{tif}"
