"""The paper exchange as its clients meet it: the engine in time, with sessions, latency, faults and a playing tape.

Both forms stand on it: `PaperVenue` in the same process, and `paper_server` for clients over a socket. One exchange has
one client account, which any number of sessions share; every report goes to each of them. A request whose answer will
never come ends as `NoAnswer`, and the client's own time limit makes of it what a lost packet is. Everything waits on the
injected clock alone.
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
"""How long a reordered report waits for another to come before it, when its fault names no delay."""

Request = SubmitRequest | SubmitGroupRequest | CancelRequest | ModifyRequest | tuple[str, str] | int
"""What an operation is asked with: (symbol, client order id) for `order`, the instant since when for `snapshot`."""
Answer = ExecutionReport | tuple[ExecutionReport, ...] | VenueSnapshot | None

COUNTED_AS = {
    FaultOperation.SUBMIT: base.Operation.SUBMIT,
    FaultOperation.SUBMIT_GROUP: base.Operation.SUBMIT,
    FaultOperation.MODIFY: base.Operation.AMEND,
    FaultOperation.CANCEL: base.Operation.CANCEL,
    FaultOperation.ORDER: base.Operation.ORDER,
    FaultOperation.SNAPSHOT: base.Operation.SNAPSHOT,
}
"""As what the rate limits count a request; a group as the orders that it has."""


class NoAnswer(Exception):
    """No answer will come: the request or its answer is lost."""


class ClientSession:
    """One client's connection, as the exchange sees it."""

    def __init__(self, deliver: Callable[[ExecutionReport], None], lost: Callable[[], None]) -> None:
        self.alive = True
        self.deliver = deliver
        self._lost = lost

    def drop(self) -> None:
        """Break it: the client hears nothing more. Idempotent."""
        if self.alive:
            self.alive = False
            self._lost()


class PaperExchange:
    """One exchange: engine, tape, faults and sessions."""

    def __init__(
        self,
        options: PaperExchangeOptions,
        *,
        clock: Clock,
        faults: FaultSource | None = None,
    ) -> None:
        """Check the options. `ValidationError` for a tape that cannot be read, a symbol or a speed that is not there."""
        self.options = options
        self.clock = clock
        self.faults: FaultSource = FaultPlan() if faults is None else faults
        self.capabilities: VenueCapabilities = self.options.config.capabilities()
        self.tape_symbol = self._find_symbol()
        """The symbol that the tape is of."""
        self.tape_ended = asyncio.Event()
        """Set when the tape was played to its end, or could not be read any further."""
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
        """Whether it was started and not stopped."""
        self._watched_ns: int | None = None
        """The instant that somebody waits for to end orders by."""

    # ---------------------------------------------------------------------------------------------------------- life
    @property
    def engine(self) -> PaperEngine:
        """The engine, once started."""
        if self._engine is None:
            raise NotSent("the exchange is not running")
        return self._engine

    async def start(self) -> None:
        """Recover from the journal and let the tape run; goes on where `stop` stopped. Idempotent.

        `IntegrityError` for a journal that cannot be read, `LogUnavailableError` for one that another process has open.
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
        self._watched_ns = None
        self._watch_expiry()
        if self.options.speed != "step":
            self.spawn(self._play())

    def _config(self) -> PaperConfig:
        """The configuration; where a tape is given, its first price is the last price before it."""
        config = self.options.config
        if self.options.tape is None or self._first is None:
            return config
        last_prices = {**config.last_prices, self.tape_symbol: self._first.price}
        return config.model_copy(update={"last_prices": last_prices})

    async def stop(self) -> None:
        """Break every session, stop the tape, close the journal. Cancels no order. Idempotent."""
        self.running = False
        self.disconnect()
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._close_journal()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something that outlives its caller and ends with the exchange."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def attach(self, session: ClientSession) -> None:
        """Let a session have every report from now on."""
        self._sessions.append(session)

    def detach(self, session: ClientSession) -> None:
        """Forget a session. Idempotent."""
        if session in self._sessions:
            self._sessions.remove(session)

    def disconnect(self) -> None:
        """Break every session."""
        sessions, self._sessions = self._sessions, []
        for session in sessions:
            session.drop()

    def _close_journal(self) -> None:
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    # ------------------------------------------------------------------------------------------------------- requests
    def draw(self, operation: FaultOperation, request: Request) -> Fault | None:
        """The fault that hits this request; None for none. To be asked once for each request."""
        return self.faults.draw(operation, _concerns(request))

    @property
    def immediate(self) -> bool:
        """Whether requests that no fault hits are answered without waiting."""
        return not (self.options.config.request_latency_ns or self.options.config.answer_latency_ns)

    def carry_out(self, operation: FaultOperation, request: Request, *, fault: Fault | None = None) -> Answer:
        """Do what is asked, now; what the engine answers."""
        try:
            return self._carry_out(operation, request, fault)
        finally:
            self._watch_expiry()

    def _carry_out(self, operation: FaultOperation, request: Request, fault: Fault | None) -> Answer:
        self._charge(operation, request)
        stale_ns = fault.delay_ns if fault is not None and fault.kind is FaultKind.SNAPSHOT_STALE else 0
        match operation, request:
            case FaultOperation.SUBMIT, SubmitRequest():
                return self.engine.submit(request)
            case FaultOperation.SUBMIT_GROUP, SubmitGroupRequest():
                return self.engine.submit_group(request)
            case FaultOperation.MODIFY, ModifyRequest():
                return self.engine.modify(request)
            case FaultOperation.CANCEL, CancelRequest():
                return self.engine.cancel(request, bare=fault is not None and fault.kind is FaultKind.BARE_CANCEL)
            case FaultOperation.ORDER, (str(symbol_id), str(client_order_id)):
                return self.engine.order(symbol_id, client_order_id)
            case FaultOperation.SNAPSHOT, int(since_ns):
                return self._snapshot(since_ns, stale_ns=stale_ns, partial=_is(fault, FaultKind.SNAPSHOT_PARTIAL))
        raise OutcomeUnknown(f"the exchange cannot read this {operation} request", code="-1102")

    def _charge(self, operation: FaultOperation, request: Request) -> None:
        times = len(request.orders) if isinstance(request, SubmitGroupRequest) else 1
        self.engine.charge(COUNTED_AS[operation], times=times)

    @property
    def rate_usage(self) -> tuple[RateUsage, ...]:
        """The counters of the rate limits."""
        return self.engine.rates.usage(self.clock.now_ns())

    async def call(
        self, session: ClientSession, operation: FaultOperation, request: Request, fault: Fault | None
    ) -> Answer:
        """Carry a request there and its answer back, through latency and the fault that was drawn for it.

        Raises what the engine raises, and `NoAnswer`. Run it so that a client's time limit does not cancel it: what was
        sent is under way whatever its sender does.
        """
        if fault is not None:
            await self._before(session, operation, request, fault)
        await self._arrive(request)
        answer: Answer = None
        refusal: VenueError | None = None
        try:
            answer = self.carry_out(operation, request, fault=fault)
        except VenueError as error:
            refusal = error
        if fault is not None:
            await self._after(session, operation, request, fault, refused=refusal is not None)
        await self._pause(self.options.config.answer_latency_ns)
        if refusal is not None:
            raise refusal
        return answer

    async def _before(self, session: ClientSession, operation: FaultOperation, request: Request, fault: Fault) -> None:
        """What a fault does to a request on its way there."""
        match fault.kind:
            case FaultKind.NOT_SENT:
                raise NotSent("the request did not leave")
            case FaultKind.REQUEST_LOST:
                raise NoAnswer
            case FaultKind.REQUEST_LATE:
                self.spawn(self._again(operation, request, fault.delay_ns))
                raise NoAnswer
            case FaultKind.DISCONNECT:
                self._break(session)
                raise NoAnswer
            case FaultKind.SNAPSHOT_FAILED:
                raise OutcomeUnknown("Internal error; unable to process your request. Please try again.", code="503")

    async def _after(
        self, session: ClientSession, operation: FaultOperation, request: Request, fault: Fault, *, refused: bool
    ) -> None:
        """What a fault does once the request was carried out, or refused."""
        match fault.kind:
            case FaultKind.ANSWER_LOST:
                raise NoAnswer
            case FaultKind.ANSWER_LATE:
                await self._pause(fault.delay_ns)
            case FaultKind.REQUEST_DOUBLED:
                self.spawn(self._again(operation, request, fault.delay_ns))
            case FaultKind.SERVER_ERROR:
                raise OutcomeUnknown("Unknown error, please check your request or try again later.", code="503")
            case FaultKind.DISCONNECT_AFTER:
                self._break(session)
                raise NoAnswer
            case FaultKind.DUPLICATE_REFUSAL if not refused:  # without an order it would be a lie
                raise OutcomeUnknown("Duplicate order sent.", code="-2010", duplicate=True)
            case FaultKind.UNSOLICITED_CANCEL if isinstance(request, SubmitRequest):
                self.spawn(self._cancel_later(request.client_order_id, fault.delay_ns))

    async def _arrive(self, request: Request) -> None:
        """Travel to the engine. The window is checked at the door, and by the engine again before it matches."""
        latency_ns = self.options.config.request_latency_ns
        if latency_ns and isinstance(request, SubmitRequest | SubmitGroupRequest | CancelRequest):
            self.engine.check_window(request)
        await self._pause(latency_ns)

    async def _again(self, operation: FaultOperation, request: Request, delay_ns: int) -> None:
        """A copy of a request arrives late, and nobody hears its answer."""
        await self._pause(delay_ns)
        try:
            self.carry_out(operation, request)
        except VenueError as error:
            logger.debug("late %s refused: %s", operation, error)

    async def _cancel_later(self, client_order_id: str, delay_ns: int) -> None:
        await self._pause(delay_ns)
        try:
            self.engine.cancel_order(client_order_id=client_order_id)
        except (NotFoundError, VenueError) as error:
            logger.debug("nothing to cancel: %s", error)

    def _watch_expiry(self) -> None:
        """See that orders end when their time comes, and not when somebody next asks."""
        next_ns = self.engine.book.next_expiry_ns()
        if next_ns is not None and self.running and (self._watched_ns is None or next_ns < self._watched_ns):
            self._watched_ns = next_ns
            self.spawn(self._expire_at(next_ns))

    async def _expire_at(self, instant_ns: int) -> None:
        await self.clock.sleep_until(instant_ns)
        if self._watched_ns != instant_ns:
            return  # an earlier one came in between, and watches what is next
        self._watched_ns = None
        try:
            self.engine.expire_due()
        except OutcomeUnknown as error:
            logger.error("orders did not end in time: %s", error)  # whoever comes next tries again
            return
        self._watch_expiry()

    async def _pause(self, delay_ns: int) -> None:
        if delay_ns:
            await self.clock.sleep_until(self.clock.now_ns() + delay_ns)

    def _break(self, session: ClientSession) -> None:
        self.detach(session)
        session.drop()

    # -------------------------------------------------------------------------------------------------------- queries
    def symbols(self) -> list[SymbolMetadata]:
        """The symbols that can be traded."""
        self.engine.charge(base.Operation.SYMBOLS)
        return list(self.engine.book.symbols.values())

    def assets(self) -> list[AssetMetadata]:
        """The assets that the account can hold."""
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
            text=""
            if complete
            else "the exchange answered in part"
            if partial
            else "the exchange answered with old data",
        )

    # -------------------------------------------------------------------------------------------------------- reports
    def _report(self, report: ExecutionReport) -> None:
        """One report of the engine on its way to every session."""
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
            self.spawn(self._release_later(report, fault.delay_ns or REORDER_WAIT_NS))
        elif kind is FaultKind.REPORT_LATE:
            self.spawn(self._deliver_later(report, fault.delay_ns))

    def _deliver(self, report: ExecutionReport) -> None:
        for session in [*self._sessions]:
            if session.alive:
                session.deliver(report)

    def _release(self) -> None:
        """Send what was held back until another report came."""
        held, self._held = self._held, []
        for report in held:
            self._deliver(report)

    async def _release_later(self, report: ExecutionReport, delay_ns: int) -> None:
        await self._pause(delay_ns)
        if any(held is report for held in self._held):
            self._release()

    async def _deliver_later(self, report: ExecutionReport, delay_ns: int) -> None:
        await self._pause(delay_ns)
        self._deliver(report)

    # ----------------------------------------------------------------------------------------------------------- tape
    def step(self, count: int = 1) -> int:
        """Play the next trades of the tape now; how many there were."""
        done = 0
        for trade in self._tape(count):
            self._take(trade)
            done += 1
        return done

    def trade(self, symbol_id: str, *, price: int, quantity: int) -> None:
        """One trade of the market, as if the tape had it now. `NotFoundError` for an unknown symbol."""
        if symbol_id not in self.engine.book.symbols:
            raise NotFoundError(f"no symbol {symbol_id}")
        if price <= 0 or quantity <= 0:
            text = "trade of {value}: price and quantity must be {limit}"
            raise ValidationError(violations=[Violation("trade", "range", "above 0", f"{quantity} at {price}", text)])
        now_ns = self._tape_ns or (self._first.time_ns if self._first is not None else self.clock.now_ns())
        self.engine.tape_trade(symbol_id, TapeTrade(0, price, quantity, now_ns, buyer_is_maker=False))

    def _tape(self, count: int | None = None) -> Iterator[TapeTrade]:
        """The trades not played yet, as many as asked for."""
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
            logger.error("a trade of the tape was not taken: %s", error)  # the journal is full: nothing was changed

    async def _play(self) -> None:
        try:
            await play(self._tape(), self._take, clock=self.clock, speed=self._speed)
        except ValidationError as error:
            logger.error("the tape ends here: %s", error)
        self.tape_ended.set()

    def _find_symbol(self) -> str:
        symbol = self.options.symbol
        if symbol is None:
            source = self.options.tape
            symbol = symbol_of(source) if isinstance(source, str | PathLike) else SHIPPED_SYMBOL
        known = [metadata.symbol_id for metadata in self.options.config.symbols]
        if symbol not in known:
            text = "the exchange has no symbol `{value}`, as the tape; its symbols: {limit}"
            raise ValidationError(violations=[Violation("symbol", "choice", ", ".join(known), symbol, text)])
        return symbol

    def _trades(self) -> Iterator[TapeTrade]:
        source = self.options.tape
        metadata = next(symbol for symbol in self.options.config.symbols if symbol.symbol_id == self.tape_symbol)

        def open_tape() -> Iterable[TapeTrade]:
            if source is None:
                return read_tape(SHIPPED_TAPE, metadata)
            return read_tape(source, metadata) if isinstance(source, str | PathLike) else source

        loop = self.options.loop if self.options.loop is not None else source is None
        return repeated(open_tape) if loop and self.options.speed != "max" else iter(open_tape())


def _concerns(request: Request) -> str | None:
    """The client order id of the order that a request is about."""
    match request:
        case CancelRequest():
            return request.target_client_order_id
        case SubmitRequest():
            return request.client_order_id
        case SubmitGroupRequest():
            return request.group_client_id
        case (str(), str(client_order_id)):
            return client_order_id
        case _:
            return None


def _is(fault: Fault | None, kind: FaultKind) -> bool:
    return fault is not None and fault.kind is kind
