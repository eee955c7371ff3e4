"""The paper exchange as its clients see it: the engine in time, with sessions, latency, faults and a tape.

Used in process (`transport`) and over a socket (`server`). An exchange has one client account, shared by any number of
sessions; each session receives every report. A request that never gets an answer ends as `NoAnswer`, which the client's
timeout turns into `OutcomeUnknown`. All waiting is on the injected clock.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine, Iterable, Iterator
from os import PathLike
from typing import Any

from kernel.clock import NS_PER_MS, Clock
from kernel.errors import NotFoundError, NotSent, OutcomeUnknown, ValidationError, VenueError, Violation
from kernel.order_spec import AssetMetadata, SymbolMetadata
from kernel.venues import base
from kernel.venues.base import (
    CancelRequest,
    ExecutionReport,
    ModifyRequest,
    RateUsage,
    SubmitGroupRequest,
    SubmitRequest,
    VenueCapabilities,
    VenueSnapshot,
)
from kernel.venues.paper.faults import Fault, FaultKind, FaultOperation, FaultPlan, FaultSource
from kernel.venues.paper.matching.config import PaperConfig, PaperExchangeOptions, TapeTrade
from kernel.venues.paper.matching.engine import PaperEngine
from kernel.venues.paper.matching.journal import Journal
from kernel.venues.paper.tape import SHIPPED_SYMBOL, SHIPPED_TAPE, pace, play, read_tape, repeated, symbol_of

logger = logging.getLogger(__name__)

REORDER_WAIT_NS = 50 * NS_PER_MS
"""How long a reordered report waits for a later one if its fault has no delay."""

Request = SubmitRequest | SubmitGroupRequest | CancelRequest | ModifyRequest | tuple[str, str | None, str | None] | int
"""An operation's argument: (symbol, client order id) for `order`, the first instant for `snapshot`."""
Answer = ExecutionReport | tuple[ExecutionReport, ...] | VenueSnapshot | None

RATE_LIMIT_OPERATIONS = {
    FaultOperation.SUBMIT: base.Operation.SUBMIT,
    FaultOperation.SUBMIT_GROUP: base.Operation.SUBMIT,
    FaultOperation.MODIFY: base.Operation.AMEND,
    FaultOperation.CANCEL: base.Operation.CANCEL,
    FaultOperation.ORDER: base.Operation.ORDER,
    FaultOperation.SNAPSHOT: base.Operation.SNAPSHOT,
}
"""The operation under which the rate limits count a request; a group counts once per order."""


class NoAnswer(Exception):
    """The request or its answer is lost."""


class ClientSession:
    """One client's session."""

    def __init__(self, deliver: Callable[[ExecutionReport], None], lost: Callable[[], None]) -> None:
        self.alive = True
        self.deliver = deliver
        self._lost = lost

    def drop(self) -> None:
        """End the session. Idempotent."""
        if self.alive:
            self.alive = False
            self._lost()


class PaperExchange:
    """One exchange: engine, tape, faults and sessions."""

    def __init__(self, options: PaperExchangeOptions, *, clock: Clock, faults: FaultSource | None = None) -> None:
        """Create a stopped exchange; by default without faults, in an empty `FaultPlan`.

        Raises `ValidationError` if the tape, its symbol or its speed is invalid.
        """
        self.options = options
        self.clock = clock
        self.faults: FaultSource = FaultPlan() if faults is None else faults
        self.capabilities: VenueCapabilities = self.options.config.capabilities()
        self.tape_symbol = self._find_symbol()
        self.tape_ended = asyncio.Event()
        """Set when the tape has ended or cannot be read any further."""
        self._speed = None if self.options.speed == "step" else pace(self.options.speed)
        self._steps = self._trades()
        self._first = next(self._steps, None)
        self._tape_ns = 0
        self._engine: PaperEngine | None = None
        self._journal: Journal | None = None
        self._sessions: list[ClientSession] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._held: list[ExecutionReport] = []
        self._random = random.Random(self.options.seed)
        self.running = False
        self._expiry_timer_ns: int | None = None
        """When the pending expiry timer fires; None without a timer."""

    @property
    def engine(self) -> PaperEngine:
        """The engine; raises `NotSent` before the first start."""
        if self._engine is None:
            raise NotSent("the exchange is not running")
        return self._engine

    async def start(self) -> None:
        """Recover from the journal and play the tape, from where `stop` stopped. Idempotent.

        Raises `IntegrityError` for a damaged journal and `LogUnavailableError` if another process has it open.
        """
        if self.running:
            return
        if self._engine is None or self.options.journal is not None:
            self._journal = Journal(self.options.journal) if self.options.journal is not None else None
            try:
                self._engine = PaperEngine(
                    self._config(),
                    clock=self.clock,
                    seed=self.options.seed,
                    journal=self._journal,
                    on_report=self._report,
                )
            except BaseException:
                self._close_journal()
                raise
        self.running = True
        self._expiry_timer_ns = None
        self._arm_expiry_timer()
        if self.options.speed != "step":
            self.spawn(self._play())

    def _config(self) -> PaperConfig:
        """Return the configuration, with a supplied tape's first price as the last price before it."""
        config = self.options.config
        if self.options.tape is None or self._first is None:
            return config
        last_prices = {**config.last_prices, self.tape_symbol: self._first.price}
        return config.model_copy(update={"last_prices": last_prices})

    async def stop(self) -> None:
        """End every session, stop the tape and close the journal. Cancels no orders; idempotent."""
        self.running = False
        self.disconnect()
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._close_journal()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a task that outlives its caller and ends with the exchange."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def attach(self, session: ClientSession) -> None:
        """Deliver every report to a session from now on. Idempotent."""
        if session not in self._sessions:
            self._sessions.append(session)

    def end(self, session: ClientSession) -> None:
        """End a session and stop delivering reports to it. Idempotent."""
        if session in self._sessions:
            self._sessions.remove(session)
        session.drop()

    def disconnect(self) -> None:
        sessions, self._sessions = self._sessions, []
        for session in sessions:
            session.drop()

    def _close_journal(self) -> None:
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    def draw(self, operation: FaultOperation, request: Request) -> Fault | None:
        """Return the fault for this request, if any. Call it once per request."""
        return self.faults.draw(operation, _client_order_id_of(request))

    @property
    def immediate(self) -> bool:
        """Requests without a fault are answered without waiting."""
        return not (self.options.config.request_latency_ns or self.options.config.answer_latency_ns)

    def carry_out(self, operation: FaultOperation, request: Request, *, fault: Fault | None = None) -> Answer:
        """Execute a request now; returns the engine's answer."""
        try:
            return self._carry_out(operation, request, fault)
        finally:
            self._arm_expiry_timer()

    def _carry_out(self, operation: FaultOperation, request: Request, fault: Fault | None) -> Answer:
        times = len(request.orders) if isinstance(request, SubmitGroupRequest) else 1
        self.engine.charge(RATE_LIMIT_OPERATIONS[operation], times=times)
        kind = fault.kind if fault is not None else None
        match operation, request:
            case FaultOperation.SUBMIT, SubmitRequest():
                return self.engine.submit(request)
            case FaultOperation.SUBMIT_GROUP, SubmitGroupRequest():
                return self.engine.submit_group(request)
            case FaultOperation.MODIFY, ModifyRequest():
                return self.engine.modify(request)
            case FaultOperation.CANCEL, CancelRequest():
                return self.engine.cancel(request, bare=kind is FaultKind.BARE_CANCEL)
            case FaultOperation.ORDER, (str(symbol_id), client_order_id, exchange_order_id):
                return self.engine.order(symbol_id, client_order_id, exchange_order_id)
            case FaultOperation.SNAPSHOT, int(since_ns):
                stale_ns = fault.delay_ns if fault is not None and kind is FaultKind.SNAPSHOT_STALE else 0
                return self._snapshot(since_ns, stale_ns=stale_ns, partial=kind is FaultKind.SNAPSHOT_PARTIAL)
        raise OutcomeUnknown(f"the {operation} request has the wrong parameters", code="-1102")

    @property
    def rate_usage(self) -> tuple[RateUsage, ...]:
        return self.engine.rates.usage(self.clock.now_ns())

    async def call(
        self, session: ClientSession, operation: FaultOperation, request: Request, fault: Fault | None
    ) -> Answer:
        """Execute a request with latency and its fault; raises `NoAnswer` if request or answer is lost.

        Run it as a task of its own: a request that was sent continues after its sender's timeout.
        """
        if fault is not None:
            await self._apply_request_fault(session, operation, request, fault)
        await self._arrive(request)
        answer: Answer = None
        refusal: VenueError | None = None
        try:
            answer = self.carry_out(operation, request, fault=fault)
        except VenueError as error:
            refusal = error
        if fault is not None:
            await self._apply_answer_fault(session, operation, request, fault, refused=refusal is not None)
        await self._pause(self.options.config.answer_latency_ns)
        if refusal is not None:
            raise refusal
        return answer

    async def _apply_request_fault(
        self, session: ClientSession, operation: FaultOperation, request: Request, fault: Fault
    ) -> None:
        """Apply a fault that affects the request on its way."""
        match fault.kind:
            case FaultKind.NOT_SENT:
                raise NotSent("the request was not sent")
            case FaultKind.REQUEST_LOST:
                raise NoAnswer
            case FaultKind.REQUEST_LATE:
                self._later(fault.delay_ns, lambda: self.carry_out(operation, request))
                raise NoAnswer
            case FaultKind.DISCONNECT:
                self.end(session)
                raise NoAnswer
            case FaultKind.SNAPSHOT_FAILED:
                raise OutcomeUnknown("Internal error; unable to process your request. Please try again.", code="503")

    async def _apply_answer_fault(
        self, session: ClientSession, operation: FaultOperation, request: Request, fault: Fault, *, refused: bool
    ) -> None:
        match fault.kind:
            case FaultKind.ANSWER_LOST:
                raise NoAnswer
            case FaultKind.ANSWER_LATE:
                await self._pause(fault.delay_ns)
            case FaultKind.REQUEST_DOUBLED:
                self._later(fault.delay_ns, lambda: self.carry_out(operation, request))
            case FaultKind.SERVER_ERROR:
                raise OutcomeUnknown("Unknown error, please check your request or try again later.", code="503")
            case FaultKind.DISCONNECT_AFTER:
                self.end(session)
                raise NoAnswer
            case FaultKind.DUPLICATE_REFUSAL if not refused:  # there is an order to be a duplicate of
                raise OutcomeUnknown("Duplicate order sent.", code="-2010", duplicate=True)
            case FaultKind.UNSOLICITED_CANCEL if isinstance(request, SubmitRequest):
                self._later(fault.delay_ns, lambda: self.engine.cancel_order(client_order_id=request.client_order_id))

    async def _arrive(self, request: Request) -> None:
        """Wait for the latency of a request; its window is checked before and, by the engine, after."""
        latency_ns = self.options.config.request_latency_ns
        if latency_ns and isinstance(request, SubmitRequest | SubmitGroupRequest | CancelRequest):
            self.engine.check_window(request)
        await self._pause(latency_ns)

    def _later(self, delay_ns: int, work: Callable[[], object]) -> None:
        """Do something after a delay; its result or refusal is dropped."""

        async def wait() -> None:
            await self._pause(delay_ns)
            try:
                work()
            except (NotFoundError, VenueError) as error:
                logger.debug("delayed work was refused: %s", error)

        self.spawn(wait())

    def _arm_expiry_timer(self) -> None:
        """Start a timer for the next order that expires."""
        next_ns = self.engine.book.next_expiry_ns()
        if next_ns is not None and self.running and (self._expiry_timer_ns is None or next_ns < self._expiry_timer_ns):
            self._expiry_timer_ns = next_ns
            self.spawn(self._expire_at(next_ns))

    async def _expire_at(self, instant_ns: int) -> None:
        await self.clock.sleep_until(instant_ns)
        if self._expiry_timer_ns != instant_ns:
            return  # a timer that fires earlier has replaced this one
        self._expiry_timer_ns = None
        try:
            self.engine.expire_due()
        except OutcomeUnknown as error:
            logger.error("cannot expire orders: %s", error)  # the next request tries again
            return
        self._arm_expiry_timer()

    async def _pause(self, delay_ns: int) -> None:
        if delay_ns:
            await self.clock.sleep_until(self.clock.now_ns() + delay_ns)

    def symbols(self) -> list[SymbolMetadata]:
        self.engine.charge(base.Operation.SYMBOLS)
        return list(self.engine.book.symbols.values())

    def assets(self) -> list[AssetMetadata]:
        self.engine.charge(base.Operation.ASSETS)
        return list(self.options.config.assets)

    def _snapshot(self, since_ns: int, *, stale_ns: int, partial: bool) -> VenueSnapshot:
        engine, lag = self.engine, self.options.config.read_lag
        open_orders = engine.open_orders(stale_ns=stale_ns)
        fills_whole = stale_ns <= lag.trades_ns
        open_whole = stale_ns <= lag.open_orders_ns and not partial
        if partial:
            kept = self._random.sample(range(len(open_orders)), len(open_orders) // 2)
            open_orders = tuple(open_orders[index] for index in sorted(kept))
        complete = open_whole and fills_whole
        now_ns = self.clock.now_ns()
        return VenueSnapshot(
            open_orders=open_orders,
            fills=engine.fills_since(since_ns, stale_ns=stale_ns),
            balances=engine.balances(stale_ns=stale_ns),
            complete=complete,
            open_orders_complete=open_whole,
            fills_complete=fills_whole,
            began_ns=now_ns,
            ended_ns=now_ns,
            text="" if complete else "open orders are missing" if partial else "the data are stale",
        )

    def _report(self, report: ExecutionReport) -> None:
        """Send a report to every session, subject to its fault."""
        client_order_id = report.orig_client_order_id or report.client_order_id
        fault = self.faults.draw(FaultOperation.REPORT, client_order_id)
        kind = fault.kind if fault is not None else None
        if fault is None or kind is FaultKind.REPORT_DOUBLED:
            self._deliver(report)
            self._release()
            if fault is not None:
                self._deliver(report)
        elif kind is FaultKind.REPORT_REORDERED:
            self._held.append(report)
            self._later(fault.delay_ns or REORDER_WAIT_NS, lambda: self._release_if_held(report))
        elif kind is FaultKind.REPORT_LATE:
            self._later(fault.delay_ns, lambda: self._deliver(report))

    def _deliver(self, report: ExecutionReport) -> None:
        for session in [*self._sessions]:
            if session.alive:
                session.deliver(report)

    def _release(self) -> None:
        """Send the reports that waited for a later one."""
        held, self._held = self._held, []
        for report in held:
            self._deliver(report)

    def _release_if_held(self, report: ExecutionReport) -> None:
        if any(held is report for held in self._held):
            self._release()

    def step(self, count: int = 1) -> int:
        """Play the next trades of the tape now; returns their number."""
        done = 0
        for trade in self._tape(count):
            self._take(trade)
            done += 1
        return done

    def trade(self, symbol_id: str, *, price: int, quantity: int) -> None:
        """Simulate one trade of the market; raises `NotFoundError` or `ValidationError` for impossible values."""
        if symbol_id not in self.engine.book.symbols:
            raise NotFoundError(f"symbol {symbol_id} does not exist")
        if price <= 0 or quantity <= 0:
            raise ValidationError(f"a trade of {quantity} at {price} is invalid: both must be above 0")
        now_ns = self._tape_ns or (self._first.time_ns if self._first is not None else self.clock.now_ns())
        self.engine.tape_trade(symbol_id, TapeTrade(0, price, quantity, now_ns, buyer_is_maker=False))

    def _tape(self, count: int | None = None) -> Iterator[TapeTrade]:
        """Yield the trades not played yet, at most `count`."""
        while count is None or count > 0:
            trade = self._first if self._first is not None else next(self._steps, None)
            self._first = None
            if trade is None:
                return
            yield trade
            count = None if count is None else count - 1

    def _take(self, trade: TapeTrade) -> None:
        self._tape_ns = trade.time_ns
        try:
            self.engine.tape_trade(self.tape_symbol, trade)
        except OutcomeUnknown as error:
            logger.error("skipped a trade of the tape: %s", error)  # the journal is full; nothing changed

    async def _play(self) -> None:
        try:
            await play(self._tape(), self._take, clock=self.clock, speed=self._speed)
        except ValidationError as error:
            logger.error("stopped playing the tape: %s", error)
        self.tape_ended.set()

    def _find_symbol(self) -> str:
        symbol = self.options.symbol
        if symbol is None:
            source = self.options.tape
            symbol = symbol_of(source) if isinstance(source, str | PathLike) else SHIPPED_SYMBOL
        known = [metadata.symbol_id for metadata in self.options.config.symbols]
        if symbol not in known:
            raise ValidationError(
                f"the tape's symbol {symbol} does not exist; the exchange has {', '.join(known)}",
                [Violation("symbol", "choice", "one of " + ", ".join(known), symbol)],
            )
        return symbol

    def _trades(self) -> Iterator[TapeTrade]:
        source = self.options.tape
        metadata = next(symbol for symbol in self.options.config.symbols if symbol.symbol_id == self.tape_symbol)

        def open_tape() -> Iterable[TapeTrade]:
            if source is None:
                return read_tape(SHIPPED_TAPE, metadata)
            return read_tape(source, metadata) if isinstance(source, str | PathLike) else source

        return repeated(open_tape) if source is None and self.options.speed != "max" else iter(open_tape())


def _client_order_id_of(request: Request) -> str | None:
    """Return the client order id of the order or group that a request concerns."""
    match request:
        case CancelRequest():
            return request.target_client_order_id
        case SubmitRequest():
            return request.client_order_id
        case SubmitGroupRequest():
            return request.group_client_id
        case (str(), str(client_order_id), _):
            return client_order_id
        case _:
            return None
