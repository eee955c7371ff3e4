"""A kernel on virtual time at a venue whose answers a test gives, or at the paper exchange.

`FieldVenue` behaves well until a test replaces one of its answers (`on_submit`, `on_cancel`, `on_modify`, `on_order`) or
changes its orders, trades and balances. It shares no code with the venues of the product.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from msgspec import structs

from kernel import EventSourcedKernel
from kernel.clock import NS_PER_S, Clock, LoopClock, SeededIds
from kernel.errors import OutcomeUnknown, Rejected
from kernel.log import EventLog, open_log
from kernel.models import Balance, ExecType, OrdStatus
from kernel.order_spec import (
    AssetMetadata,
    OrderType,
    Side,
    StandardOrder,
    SymbolMetadata,
    TimeInForce,
)
from kernel.settings import KernelSettings
from kernel.venues import PaperVenue
from kernel.venues.base import (
    CancelRequest,
    ExecutionReport,
    ModifyRequest,
    SubmitGroupRequest,
    SubmitRequest,
    Transfer,
    VenueCapabilities,
    VenueSnapshot,
)
from kernel.venues.paper.faults import FaultPlan
from kernel.venues.paper.matching.config import PaperConfig
from replay import open_kernel, rebuild, replay_decisions, verify

COIN = 10**8
BTCUSDT = SymbolMetadata(
    symbol_id="BTCUSDT", base_asset="BTC", quote_asset="USDT", price_decimals=2, quantity_decimals=8, tick_size=1,
    lot_size=1_000, min_quantity=1_000, max_quantity=9_000 * COIN, min_notional=5 * 10**10,
    order_types=frozenset(OrderType), times_in_force=frozenset(TimeInForce), reduce_only=True, iceberg=True,
)  # fmt: skip
ETHUSDT = structs.replace(BTCUSDT, symbol_id="ETHUSDT", base_asset="ETH")


def order(
    side: str = "BUY", quantity: int = COIN, price: int | None = 6_000_000, kind: str = "LIMIT", **terms: Any
) -> StandardOrder:
    """An order in BTCUSDT, unless `symbol_id` names another symbol."""
    price = None if kind in ("MARKET", "STOP") else price
    terms = {"symbol_id": "BTCUSDT"} | terms
    return StandardOrder(side=Side(side), order_type=OrderType(kind), quantity=quantity, price=price, **terms)


@dataclass
class FieldOrder:
    """One order at the venue."""

    id: str
    client_order_id: str | None
    order: StandardOrder
    quantity: int
    price: int | None
    cum_qty: int = 0
    open: bool = True
    status: OrdStatus = OrdStatus.NEW


@dataclass
class FieldVenue:
    """A venue in this process; not a subclass of `Venue`, so that a missing method is an error."""

    clock: Clock
    capabilities: VenueCapabilities
    all_symbols: list[SymbolMetadata] = field(default_factory=lambda: [BTCUSDT, ETHUSDT])
    orders: dict[tuple[str, str], FieldOrder] = field(default_factory=dict)
    """By symbol and venue order id."""
    trades: list[ExecutionReport] = field(default_factory=list)
    calls: list[tuple[str, Any]] = field(default_factory=list)
    """Every call: its name and what it is about."""
    transfers: list[Transfer] = field(default_factory=list)
    positions: dict[str, int] | None = None
    """Signed positions by symbol; None for a spot account."""
    recorded_reports: list[ExecutionReport] = field(default_factory=list)
    balances: dict[str, int] = field(
        default_factory=lambda: {"USDT": 10**6 * COIN, "BTC": 100 * COIN, "ETH": 100 * COIN, "BNB": 100 * COIN}
    )

    def __post_init__(self) -> None:
        self.on_submit: Callable[[SubmitRequest], ExecutionReport] = self.accept
        self.on_cancel: Callable[[CancelRequest], ExecutionReport] = self.do_cancel
        self.on_modify: Callable[[ModifyRequest], ExecutionReport] = self.do_modify
        self.on_order: Callable[[str, str | None, str | None], ExecutionReport | None] = self.find_report
        self.rate_usage = ()
        self._next_id = 1
        self._stream: asyncio.Queue[ExecutionReport | None] | None = None

    def count(self, call: str) -> int:
        """How often the kernel made a call."""
        return sum(name == call for name, _ in self.calls)

    def open_orders(self) -> list[FieldOrder]:
        return [item for item in self.orders.values() if item.open]

    # what the venue does

    def new_order(self, request: SubmitRequest, *, order_id: str | None = None) -> FieldOrder:
        terms = request.order
        made = FieldOrder(order_id or str(self._next_id), request.client_order_id, terms, terms.quantity, terms.price)
        self._next_id += 1
        self.orders[terms.symbol_id, made.id] = made
        return made

    def accept(self, request: SubmitRequest) -> ExecutionReport:
        return self.report(self.new_order(request), ExecType.NEW)

    def fill(
        self, item: FieldOrder, quantity: int, price: int | None = None, *, tell: bool = True, **fields: Any
    ) -> ExecutionReport:
        """Trade an order, move the balances, and tell it on the stream unless `tell` is false."""
        item.cum_qty += quantity
        price = price or item.price or 6_000_000
        if item.cum_qty >= item.quantity:
            item.open, item.status = False, OrdStatus.FILLED
        elif item.open:
            item.status = OrdStatus.PARTIALLY_FILLED
        sign = 1 if item.order.side is Side.BUY else -1
        self.balances[item.order.symbol_id.removesuffix("USDT")] += sign * quantity
        self.balances["USDT"] -= sign * quantity * price // 100
        for asset_id, fee in (fields.get("fees") or {fields.get("fee_asset"): fields.get("fee")}).items():
            if fee:
                self.balances[asset_id] -= fee
        key = f"{item.order.symbol_id}/{item.id}/{len(self.trades) + 1}"
        fields = {"fill_key": key, "last_qty": quantity, "last_px": price} | fields
        report = self.report(item, ExecType.TRADE, **fields)
        self.trades.append(report)
        if tell:
            self.tell(report)
        return report

    def charge(self, trade: ExecutionReport, *, tell: bool = True, **fields: Any) -> ExecutionReport:
        """Report a trade again with other fees; the balances pay the difference."""
        told = structs.replace(trade, **({"fee": None, "fee_asset": None, "fees": None} | fields))
        for sign, report in ((1, trade), (-1, told)):
            for asset_id, fee in (report.fees or {report.fee_asset: report.fee}).items():
                if fee:
                    self.balances[asset_id] += sign * fee
        self.trades[self.trades.index(trade)] = told
        if tell:
            self.tell(told)
        return told

    def transfer(self, asset_id: str, amount: int, *, listed: bool = True) -> None:
        """Move an amount without a trade: a deposit, a withdrawal or another cash flow."""
        self.balances[asset_id] = self.balances.get(asset_id, 0) + amount
        if listed:
            key = f"transfer/{len(self.transfers) + 1}"
            now_ns = self.clock.now_ns()
            self.transfers.append(Transfer(transfer_key=key, asset_id=asset_id, amount=amount, transact_time_ns=now_ns))

    def end(self, item: FieldOrder, status: OrdStatus, **fields: Any) -> None:
        """End an order and tell it."""
        item.open, item.status = False, status
        self.tell(self.report(item, ExecType(status.value), **fields))

    def tell(self, report: ExecutionReport) -> None:
        """Report something on the stream."""
        if self._stream is not None:
            self._stream.put_nowait(report)

    def report(self, item: FieldOrder, exec_type: ExecType, **fields: Any) -> ExecutionReport:
        given = {
            "exec_type": exec_type, "symbol_id": item.order.symbol_id, "side": item.order.side,
            "client_order_id": item.client_order_id, "exchange_order_id": item.id, "order_qty": item.quantity,
            "price": item.price, "cum_qty": item.cum_qty, "ord_status": item.status,
            "leaves_qty": item.quantity - item.cum_qty if item.open else 0, "transact_time_ns": self.clock.now_ns(),
        }  # fmt: skip
        return ExecutionReport(**(given | fields))

    def find_report(
        self, symbol_id: str, client_order_id: str | None, exchange_order_id: str | None
    ) -> ExecutionReport | None:
        found = [
            item
            for item in self.orders.values()
            if item.order.symbol_id == symbol_id
            and (item.client_order_id == client_order_id if client_order_id else item.id == exchange_order_id)
        ]
        return self.report(found[-1], ExecType.ORDER_STATUS) if found else None

    def target(self, request: CancelRequest) -> FieldOrder:
        for item in self.orders.values():
            by_id = item.id == request.target_exchange_order_id
            named = (
                by_id if request.target_exchange_order_id else item.client_order_id == request.target_client_order_id
            )
            if item.order.symbol_id == request.symbol_id and named and item.open:
                return item
        raise OutcomeUnknown("no such order is open")

    def do_cancel(self, request: CancelRequest) -> ExecutionReport:
        item = self.target(request)
        item.open, item.status = False, OrdStatus.CANCELED
        return self.report(item, ExecType.CANCELED)

    def do_modify(self, request: ModifyRequest) -> ExecutionReport:
        item = self.target(request)
        item.quantity, item.price = request.order.quantity, request.order.price
        return self.report(
            item, ExecType.REPLACED, client_order_id=request.client_order_id, orig_client_order_id=item.client_order_id
        )

    # the port

    async def connect(self) -> None:
        self.calls.append(("connect", None))
        self._stream = asyncio.Queue()

    async def close(self) -> None:
        if self._stream is not None:
            self._stream.put_nowait(None)

    async def reports(self) -> AsyncIterator[ExecutionReport]:
        stream = self._stream
        while stream is not None and (report := await stream.get()) is not None:
            yield report

    def recorded(self, report: ExecutionReport) -> None:
        self.recorded_reports.append(report)

    async def submit(self, request: SubmitRequest) -> ExecutionReport:
        self.calls.append(("submit", request))
        return self.on_submit(request)

    async def submit_group(self, request: SubmitGroupRequest) -> list[ExecutionReport]:
        raise Rejected("this venue manages no groups")

    async def cancel(self, request: CancelRequest) -> ExecutionReport:
        self.calls.append(("cancel", request))
        return self.on_cancel(request)

    async def modify(self, request: ModifyRequest) -> ExecutionReport:
        self.calls.append(("modify", request))
        return self.on_modify(request)

    async def order(
        self, symbol_id: str, client_order_id: str | None, exchange_order_id: str | None
    ) -> ExecutionReport | None:
        self.calls.append(("order", client_order_id))
        return self.on_order(symbol_id, client_order_id, exchange_order_id)

    async def snapshot(self, since_ns: int, symbols: Sequence[str]) -> VenueSnapshot:
        self.calls.append(("snapshot", symbols))
        now_ns = self.clock.now_ns()
        return VenueSnapshot(
            open_orders=tuple(self.report(item, ExecType.ORDER_STATUS) for item in self.open_orders()),
            fills=tuple(trade for trade in self.trades if (trade.transact_time_ns or now_ns) >= since_ns),
            balances={name: Balance(asset_id=name, total=held, free=held) for name, held in self.balances.items()},
            transfers=tuple(item for item in self.transfers if (item.transact_time_ns or now_ns) >= since_ns),
            positions=self.positions,
            complete=True,
            began_ns=now_ns,
            ended_ns=now_ns,
        )

    async def symbols(self) -> list[SymbolMetadata]:
        return self.all_symbols

    async def assets(self) -> list[AssetMetadata]:
        return [AssetMetadata(asset_id=name, decimals=8) for name in self.balances]


@dataclass(frozen=True)
class Lab:
    """A kernel that is ready, its log and its venue."""

    kernel: EventSourcedKernel
    log: EventLog
    venue: FieldVenue

    def findings(self, *, resolved: bool = False) -> dict[str, str]:
        """Kind → text of the open findings, or of all."""
        found = self.kernel.state.findings()
        return {item.kind.value: item.text for item in found if resolved or item.resolved_at_ns is None}

    async def position(self, symbol_id: str = "BTCUSDT") -> int:
        return next((item.quantity for item in await self.kernel.get_positions() if item.symbol_id == symbol_id), 0)

    async def audit(self) -> None:
        """The log verifies, a rebuild agrees, and every recorded decision is made again."""
        assert [str(problem) for problem in (await verify(self.log)).problems] == []
        assert (await rebuild(self.log, state=self.kernel.state)).ok
        assert (await replay_decisions(self.log)).same


@asynccontextmanager
async def field_lab(
    *,
    settings: KernelSettings | None = None,
    venue: FieldVenue | None = None,
    venue_type: type[FieldVenue] = FieldVenue,
    **capabilities: Any,
) -> AsyncIterator[Lab]:
    """A kernel at a `FieldVenue` with these capabilities; audited at the end."""
    clock = LoopClock()
    known = {
        "validity_window_ns": 5 * NS_PER_S, "order_types": frozenset(OrderType),
        "times_in_force": frozenset(TimeInForce),
    }  # fmt: skip
    venue = venue or venue_type(clock, VenueCapabilities(**(known | capabilities)))
    async with (
        open_log("memory://", exchange_id="field", clock=clock, ids=SeededIds(1)) as log,
        open_kernel(log, venue=venue, clock=clock, ids=SeededIds(2), settings=settings) as kernel,
    ):
        await kernel.wait_ready(30)
        lab = Lab(kernel, log, venue)
        yield lab
        await lab.audit()


@asynccontextmanager
async def paper_lab(
    *,
    settings: KernelSettings | None = None,
    faults: FaultPlan | None = None,
    clock: Clock | None = None,
    **config: Any,
) -> AsyncIterator[tuple[EventSourcedKernel, PaperVenue]]:
    """A kernel at a paper exchange without a tape."""
    base = LoopClock()
    options = PaperConfig(**({"ladder_levels": 0, "first_id": 1} | config))
    venue = PaperVenue(
        tape=(), speed="step", symbol="BTCUSDT", config=options, clock=base, faults=faults or FaultPlan()
    )
    clock = clock or base
    async with (
        open_log("memory://", exchange_id="paper", clock=clock, ids=SeededIds(1)) as log,
        open_kernel(log, venue=venue, clock=clock, ids=SeededIds(2), settings=settings) as kernel,
    ):
        await kernel.wait_ready(30)
        yield kernel, venue
