"""The world of one run: the exchange, one log, its lease, and the kernels as processes that can stop anywhere.

Made by the player. The kernel is the real one; its surroundings report to the auditor every recorded row, every request
and every change at the venue. A process can be stopped or killed at any turn of the loop, around each commit, and between
the lease check and the write.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

from msgspec import structs

from kernel.clock import NS_PER_S, LoopClock, SeededIds, SystemClock
from kernel.controller import EventSourcedKernel
from kernel.errors import LogUnavailableError, NotSent, Rejected
from kernel.events import BaseEvent
from kernel.lease import FAR_FUTURE_NS, Lease
from kernel.log import LogSettings
from kernel.log.backends.memory import MemoryLog, MemoryRecorder
from kernel.log.base import Append, Appended
from kernel.log.engine.batch import Batch
from kernel.log.engine.records import Writer
from kernel.log.factory import LogFactory
from kernel.models import ExecType, ExternalOrderPolicy, OrdStatus
from kernel.order_spec import StandardOrder, SymbolMetadata
from kernel.safety.limit_settings import Limits, LimitSettings
from kernel.settings import KernelSettings
from kernel.venues.base import (
    AmendDialect,
    AmendQuantity,
    CancelRequest,
    ExecutionReport,
    ModifyRequest,
    SubmitGroupRequest,
    SubmitRequest,
    VenueCapabilities,
    VenueSnapshot,
)
from kernel.venues.paper.exchange import PaperExchange
from kernel.venues.paper.faults import Fault, FaultKind, FaultOperation
from kernel.venues.paper.matching.config import PaperExchangeOptions
from kernel.venues.paper.matching.contingent import update_groups
from kernel.venues.paper.matching.engine import order_oracle_state
from kernel.venues.paper.matching.order_checks import check_entry, check_terms
from kernel.venues.paper.matching.orders import PaperOrder
from kernel.venues.paper.matching.reports import trade_oracle_state
from kernel.venues.paper.transport import ReportQueue
from kernel.venues.paper.venue import PaperVenue
from projections import State
from projections.retention.policy import RetentionPolicy
from replay.host.bootstrap import build_kernel
from tests.simulation.auditor import Auditor
from tests.simulation.loop import SteppedLoop, Steps
from tests.simulation.market import paper_config, seconds
from tests.simulation.personality import IN_USE_NS, Personality, Request
from tests.simulation.plan import SYMBOLS, Plan, drawn_fault

LEASE_S = 10
RENEWED_EVERY_S = 2


class DriftingClock(SystemClock):
    """A kernel's own clock: off by up to the skew, and running a little fast or slow."""

    def __init__(self, clock: LoopClock, *, skew_ns: int, chance: random.Random) -> None:
        self._clock = clock
        self._ahead_ns = chance.randint(-skew_ns // 2, skew_ns // 2)
        self._drift = chance.uniform(-1e-4, 1e-4) if skew_ns else 0.0

    def now_ns(self) -> int:
        true_ns = self._clock.now_ns()
        return true_ns + self._ahead_ns + round((true_ns - self._clock.origin_ns) * self._drift)

    def shift(self, offset_ns: int) -> None:
        """Set the clock forward, or back."""
        self._ahead_ns += offset_ns


class SimLease(Lease):
    """A process's lease: a lock that dies with it, or a session's, which others can get while it still trusts in it."""

    def __init__(self, process: Process) -> None:
        super().__init__(ids=SeededIds(1))
        self.holder = f"sim:{process.label}"
        self._process = process
        self._deadline_ns: int | None = None
        self._renewing: asyncio.Task[None] | None = None

    @property
    def held(self) -> bool:
        return self._deadline_ns is not None and self._process.clock.now_ns() < self._deadline_ns

    async def acquire(self, wait: bool = True) -> bool:
        world = self._process.world
        while world.lease_holder is not None and world.lease_holder is not self:
            if not wait:
                return False
            await asyncio.sleep(0.1)
        if self._process.dead:
            return False
        world.lease_holder = self
        self._renew()
        if world.plan.world["lease"] == "session":
            self._renewing = asyncio.create_task(self._check_again_and_again())
        return True

    def _renew(self) -> None:
        session = self._process.world.plan.world["lease"] == "session"
        self._deadline_ns = self._process.clock.now_ns() + LEASE_S * NS_PER_S if session else FAR_FUTURE_NS

    async def _check_again_and_again(self) -> None:
        while True:
            await asyncio.sleep(RENEWED_EVERY_S)
            if self._process.world.lease_holder is not self:
                break
            self._renew()
        self._deadline_ns = None
        self._lost()

    def deadline_ns(self) -> int | None:
        return self._deadline_ns

    async def release(self) -> None:
        self._deadline_ns = None
        if self._renewing is not None:
            self._renewing.cancel()
            self._renewing = None
        if self._process.world.lease_holder is self and not self._process.dead:
            self._process.world.lease_holder = None


class SimLog(MemoryLog):
    """One process's connection to the log: commits take time, may fail, and may succeed though they seem to fail."""

    def __init__(self, process: Process) -> None:
        recorder = process.world.recorder
        identity = recorder.identity()
        assert identity is not None, "the world's own log is opened first"
        super().__init__(recorder, identity, clock=process.world.clock, settings=LogSettings())
        self._process = process
        self._turn = asyncio.Lock()
        self.unsure = 0
        """How many of the next commits are done, and their answers lost."""

    async def append(self, append: Append) -> Appended:
        process = self._process
        async with self._turn:
            process.reached("commit")
            await process.world.commit_takes()
            self._check()
            appended = await super().append(append)
            process.reached("commit")
            if self.unsure > 0:
                self.unsure -= 1
                raise LogUnavailableError("the connection was lost, and with it the commit's answer")
        await process.world.commit_takes()
        return appended

    def _check(self) -> None:
        if self._process.dead or self._process.world.outage:
            raise LogUnavailableError("the database is away")

    async def tail(self, after: int) -> AsyncIterator[list[BaseEvent]]:
        async for batch in super().tail(after):
            await self._process.world.commit_takes()
            yield batch

    def _publish(self, batch: Batch) -> None:
        self._process.world.tell_rows()
        super()._publish(batch)


SUBMITS = (FaultOperation.SUBMIT, FaultOperation.SUBMIT_GROUP)
PLACES = (*SUBMITS, FaultOperation.MODIFY)


class SimVenue(PaperVenue):
    """One process's port to the exchange; reports each request, and can stop before the write."""

    def __init__(self, process: Process) -> None:
        super().__init__(exchange=process.world.exchange, timeout_s=30.0)
        self._process = process
        self._true = self._declared = VenueCapabilities()

    @property
    def capabilities(self) -> VenueCapabilities:
        true = super().capabilities
        if true is not self._true:
            self._true, self._declared = true, self._process.world.personality.capabilities(true)
        return self._declared

    async def connect(self) -> None:
        if self._process.dead:
            raise NotSent("the process is gone")
        self._process.world.personality.defect("connect")
        await super().connect()
        self._process.world.sessions.append(self._transport.reports)

    async def reports(self) -> AsyncIterator[ExecutionReport]:
        personality = self._process.world.personality
        async for report in super().reports():
            personality.defect("reports")
            for shown in personality.streamed(report):
                yield shown

    def recorded(self, report: ExecutionReport) -> None:
        if report.fill_key is not None and report.exec_type is not ExecType.TRADE_CANCEL:
            self._process.world.audit.recorded(report.fill_key)

    async def symbols(self) -> list[SymbolMetadata]:
        self._process.world.personality.defect("symbols")
        return self._process.world.personality.symbols(await super().symbols())

    async def submit(self, request: SubmitRequest) -> ExecutionReport:
        order = request.order
        self._leaves("submit", request, side=str(order.side), quantity=order.quantity, price=order.price)
        try:
            with self._process.at_wire(request.client_order_id):
                await self._write(request.client_order_id)
                return self._answered("submit", await super().submit(self._taken("submit", request)))
        except NotSent:
            self._process.world.audit.unsent(client_order_id=request.client_order_id, stamp_ns=request.stamp_ns)
            raise

    async def submit_group(self, request: SubmitGroupRequest) -> list[ExecutionReport]:
        for member in request.orders:
            order = member.order
            self._leaves("submit", member, side=str(order.side), quantity=order.quantity, price=order.price)
        try:
            client_order_ids = [member.client_order_id for member in request.orders]
            with self._process.at_wire(*client_order_ids):
                await self._write(*client_order_ids)
                answers = await super().submit_group(request)
                return [self._process.world.personality.shown(answer) for answer in answers]
        except NotSent:
            for member in request.orders:
                self._process.world.audit.unsent(client_order_id=member.client_order_id, stamp_ns=member.stamp_ns)
            raise

    async def cancel(self, request: CancelRequest) -> ExecutionReport:
        self._leaves(
            "cancel",
            request,
            target_client_order_id=request.target_client_order_id,
            target_exchange_order_id=request.target_exchange_order_id,
        )
        try:
            await self._write()
            return self._answered("cancel", await super().cancel(self._taken("cancel", request)))
        except NotSent:
            self._process.world.audit.unsent(client_order_id=request.client_order_id, stamp_ns=request.stamp_ns)
            raise

    async def modify(self, request: ModifyRequest) -> ExecutionReport:
        order = request.order
        self._leaves(
            "modify",
            request,
            target_client_order_id=request.target_client_order_id,
            target_exchange_order_id=request.target_exchange_order_id,
            side=str(order.side),
            quantity=order.quantity,
            price=order.price,
        )
        try:
            with self._process.at_wire(request.client_order_id):
                await self._write(request.client_order_id)
                return self._answered("modify", await super().modify(self._taken("modify", request)))
        except NotSent:
            self._process.world.audit.unsent(client_order_id=request.client_order_id, stamp_ns=request.stamp_ns)
            raise

    async def order(
        self, symbol_id: str, client_order_id: str | None, exchange_order_id: str | None
    ) -> ExecutionReport | None:
        await self._write()
        personality = self._process.world.personality
        personality.defect("order")
        exchange_order_id = personality.true_id(symbol_id, exchange_order_id)
        return personality.answered(await super().order(symbol_id, client_order_id, exchange_order_id))

    def _taken(self, call: str, request: Request) -> Request:
        """The request as the exchange gets it."""
        return self._process.world.personality.taken(call, request)

    def _answered(self, call: str, report: ExecutionReport) -> ExecutionReport:
        """The answer as the kernel gets it: a defect of the adapter comes after the venue has executed the call."""
        self._process.world.personality.defect(call)
        return self._process.world.personality.shown(report)

    async def snapshot(self, since_ns: int, symbols: Sequence[str]) -> VenueSnapshot:
        await self._write()
        personality = self._process.world.personality
        personality.defect("snapshot")
        began_ns = self._process.clock.now_ns()
        found = personality.listed(await super().snapshot(since_ns, symbols), since_ns)
        return structs.replace(found, began_ns=began_ns, ended_ns=self._process.clock.now_ns())

    def _leaves(self, op: str, request: SubmitRequest | CancelRequest, **more: Any) -> None:
        process = self._process
        now_ns = process.clock.now_ns()
        deadline_ns = process.lease.deadline_ns()
        symbol_id = request.order.symbol_id if isinstance(request, SubmitRequest) else request.symbol_id
        process.world.audit.sent(
            at_ns=now_ns,
            op=op,
            client_order_id=request.client_order_id,
            symbol_id=symbol_id,
            stamp_ns=request.stamp_ns,
            valid_until_ns=request.valid_until_ns,
            leads=deadline_ns is not None and now_ns < deadline_ns,
            **self._true_target(symbol_id, more),
        )
        process.world.tell(process.label, f"{op} {request.client_order_id}")

    def _true_target(self, symbol_id: str, given: dict[str, Any]) -> dict[str, Any]:
        row = self._process.world.personality.true_row({"symbol_id": symbol_id, **given})
        return {name: row[name] for name in given}

    async def _write(self, *client_order_ids: str) -> None:
        """Between the last check and the wire."""
        self._process.reached("wire")
        if self._process.steps.still:
            await asyncio.sleep(0)  # the process goes on from here, whenever that is
        if self._process.dead:
            raise NotSent("the process is gone")
        world = self._process.world
        world.written_ns.update(dict.fromkeys(client_order_ids, world.clock.now_ns()))


class SimExchange(PaperExchange):
    """The exchange. It belongs to no kernel's process, and reports to the auditor first."""

    def __init__(self, options: PaperExchangeOptions, world: World) -> None:
        super().__init__(options, clock=world.clock, faults=world)
        self._world = world
        self._context = contextvars.copy_context()
        self._known_trades = 0
        self.named: set[str] = set()
        """Client order ids that an order ever had here."""
        self.refused: set[str] = set()
        """Those of requests that were refused."""

    def spawn(self, work: Any) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, context=self._context.copy())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def carry_out(self, operation: FaultOperation, request: Any, *, fault: Fault | None = None) -> Any:
        try:
            return super().carry_out(operation, request, fault=fault)
        except Rejected:
            self.refused |= {
                item.client_order_id for item in getattr(request, "orders", (request,)) if operation in PLACES
            }
            raise

    def place_by_hand(self, order: StandardOrder, client_order_id: str) -> str:
        """Somebody places an order on our account, past every kernel; its venue id. Raises the venue's refusal."""
        engine = self.engine
        engine.expire_due()
        draft = engine._transaction()
        check_terms(draft, order)
        opened = draft.open(order, client_order_id=client_order_id)
        draft.enter(opened.order_id, check_entry(draft, opened))
        update_groups(draft)  # it is taken, and has its id
        self._world.audit.foreign.add(str(opened.order_id))
        engine._commit(draft)
        return str(opened.order_id)

    def _undo(self, order: PaperOrder) -> None:
        """End an order at once, if the venue undoes everything in its symbol."""
        undoes = self._world.personality.undoes.get(order.symbol_id, 0) > self._world.clock.now_ns()
        if undoes and order.open and str(order.order_id) not in self._world.audit.foreign:
            self._world.later(0.001, lambda: self.expire(order.order_id))

    def expire(self, order_id: int) -> None:
        """End an order, by the venue."""
        draft = self.engine._transaction()
        if draft.order(order_id).open:
            draft.close(order_id, OrdStatus.EXPIRED, text="EXPIRED_IN_MATCH")
            update_groups(draft)
            self.engine._commit(draft)

    def _report(self, report: ExecutionReport) -> None:
        audit, book = self._world.audit, self.engine.book
        for number, trade in enumerate(book.trades.values()):
            if number >= self._known_trades:
                audit.venue_trade(trade_oracle_state(trade, self.engine.book.current(trade.order_id)))
        self._known_trades = len(book.trades)
        order = book.order(int(report.exchange_order_id or 0))
        if order is not None and order.own:
            self._world.personality.shown_id(str(order.order_id))  # it has its id before any report of it arrives
            self.named.add(order.client_order_id)
            if "triggers" in self._world.personality.names:  # the end of a stop that triggered may not be reported
                stops = [item for item in book.own_orders() if item.client_order_id == order.client_order_id]
                for stop in sorted(stops, key=lambda item: item.open):
                    audit.venue_order(order_oracle_state(stop))
            audit.venue_order(order_oracle_state(order))
            told = f"{report.exec_type} {report.exchange_order_id} {order.status} {order.cum_qty}/{order.quantity}"
            self._world.tell("venue", f"{told} ({order.client_order_id})")
            self._undo(order)
        super()._report(report)


class Process:
    """One kernel with its port, its lease and its connection to the log."""

    def __init__(self, name: str, world: World) -> None:
        self.name = name
        self.world = world
        self.label = f"{name}{len(world.processes)}"
        chance = random.Random(f"{world.plan.seed}/{self.label}")
        self.steps = Steps()
        self.dead = False
        self.watchers = 0
        """How many subscribed here."""
        self.stops: dict[str, Callable[[], None]] = {}
        """The accident planned at each point."""
        self.sending: Counter[str] = Counter()
        """Client order ids of the requests in flight from here."""
        self.clock = DriftingClock(world.clock, skew_ns=world.skew_ns, chance=chance)
        self.lease = SimLease(self)
        self.venue = SimVenue(self)
        self.log = SimLog(self)
        self.kernel: EventSourcedKernel = build_kernel(
            self.log,
            venue=self.venue,
            lease=self.lease,
            clock=self.clock,
            ids=SeededIds(chance.getrandbits(32)),
            settings=world.settings,
            actor="strategy:sim",
            state=State(world.keeping),
        )

    @contextmanager
    def at_wire(self, *client_order_ids: str) -> Iterator[None]:
        """A request is in flight from here while the block runs."""
        self.sending.update(client_order_ids)
        try:
            yield
        finally:
            self.sending.subtract(client_order_ids)

    def reached(self, point: str) -> None:
        """The process reached a point where an accident may be planned."""
        if not self.steps.still and (act := self.stops.pop(point, None)) is not None:
            act()

    def run(self, work: Any) -> asyncio.Task[Any]:
        """Run something in this process."""
        return self.world.loop.create_task(work, context=self.steps.context())

    def kill(self) -> None:
        """It takes no further step. Its lock is free, and the exchange sees its connection end."""
        if self.dead:
            return
        self.dead = self.steps.still = self.steps.dead = True
        self.world.tell(self.label, "is killed")
        if self.world.lease_holder is self.lease:
            self.world.lease_holder = None
        self.venue._transport._drop()  # type: ignore[attr-defined]

    def pause(self, seconds: float) -> None:
        """Stop for a while."""
        if self.dead or self.steps.still:
            return
        self.steps.still = True
        self.world.tell(self.label, f"stands still for {seconds:g} s")
        self.world.later(seconds, self.go_on)

    def go_on(self) -> None:
        """It takes its steps again."""
        if not self.dead and self.steps.still:
            self.world.tell(self.label, "goes on")
            self.world.loop.go_on(self.steps)


class World:
    """Everything around the kernels of one run; also the exchange's source of faults."""

    def __init__(self, plan: Plan, loop: SteppedLoop, *, trace: bool = True) -> None:
        self.plan = plan
        self.loop = loop
        self.clock = LoopClock()
        self.began_ns = self.clock.now_ns()
        self.chance = random.Random(f"{plan.seed}/world")
        self.keeping = SHORT_MEMORY if plan.seed % 3 == 0 else RetentionPolicy()
        """The kernels' retention of finished intents: next to none in a third of the worlds."""
        self.lines: list[str] = []
        self._trace = trace
        self.quiet = False
        """Whether faults have stopped."""
        self.outage = False
        """Whether the database is away."""
        self.lease_holder: SimLease | None = None
        self.processes: list[Process] = []
        self.written_ns: dict[str, int] = {}
        """Client order id to when it was last written to the wire: long after its stamp if its process stood still."""
        self.skew_ns = seconds(plan.world["skew"])
        self._commit_s = float(plan.world["commit"])
        config = paper_config(plan)
        window_ns = config.validity_window_ns
        self.audit = Auditor(
            dedupe=config.dedupe.value,
            window_ns=window_ns,
            replaces=config.amend is AmendDialect.CANCEL_REPLACE,
            on_top=config.amend_quantity is AmendQuantity.REMAINING,
        )
        self.audit.policy = policy_of(plan).value
        self.audit.looks_up = config.lookup
        decimals = {item.asset_id: item.decimals for item in config.assets}
        self.audit.bought = {
            item.symbol_id: (item.base_asset, 10 ** (decimals[item.base_asset] - item.quantity_decimals))
            for item in config.symbols
        }
        if plan.world.get("limits") == "tight":  # several kernels may each let through what fits by itself
            sums = TIGHT if plan.world["kernels"] == "1" else {}
            self.audit.limits = {"order_quantity_max": TIGHT["order_quantity_max"], **sums}
        options = PaperExchangeOptions(tape=(), symbol=SYMBOLS[0], speed="step", seed=plan.seed, config=config)
        self.exchange = SimExchange(options, self)
        if not plan.world["rate"].endswith("/told"):
            told = structs.replace(self.exchange.capabilities, rate_limits=())
            self.exchange.capabilities = told
        names = frozenset(plan.world.get("venue", "plain").split("+"))
        self.personality = Personality(
            names, self.clock.now_ns, self._symbol_of, self._client_id_of, self._in_use_until_ns
        )
        self.audit.personality = self.personality
        self.audit.hides_ids = self.personality.capabilities(self.exchange.capabilities).hides_client_ids
        self.sessions: list[ReportQueue] = []
        """The stream of every session, ended or not."""
        self.recorder = MemoryRecorder()
        self.recorder.writer = Writer(os_user="sim", host="sim", pid=1)
        LogFactory("paper", self.clock, SeededIds(plan.seed), LogSettings(), True).memory(self.recorder)
        self._told_rows = 0
        self.settings = settings_of(plan)
        self._drawn: dict[tuple[str, str], int] = {}
        self.happened: dict[tuple[str, str, int], Fault] = {}
        """Faults that met something, in order."""

    def tell(self, who: str, text: str) -> None:
        """Add a line to the trace, and the time to the auditor's clock."""
        self.audit.now_ns = self.clock.now_ns()
        if self._trace:
            self.lines.append(f"{(self.audit.now_ns - self.began_ns) / NS_PER_S:9.3f} {who:<6} {text}")

    def tell_rows(self) -> None:
        """Hand new rows of the log to the auditor."""
        rows = self.recorder.rows
        while self._told_rows < len(rows):
            position, stream_id, version, topic, _, recorded_at_ns, _, _, meta, state, *_ = rows[self._told_rows]
            self._told_rows += 1
            self.tell("log", f"{position} {stream_id} {topic}")
            try:
                self.audit.logged(
                    position=position, stream_id=stream_id, version=version, topic=topic,
                    recorded_at_ns=recorded_at_ns, meta=meta, state=state,
                )  # fmt: skip
            except Exception as problem:  # the kernel that appends would take it for its log's
                self.audit.problem(3, f"the auditor itself fails at {position}: {problem!r}")

    def _symbol_of(self, order_id: str) -> str:
        order = self.exchange.engine.book.order(int(order_id))
        assert order is not None, f"{order_id} is an order of the exchange"
        return order.symbol_id

    def _client_id_of(self, order_id: str) -> str:
        order = self.exchange.engine.book.order(int(order_id))
        return order.client_order_id if order is not None else ""

    def _in_use_until_ns(self, order_id: str) -> float:
        order = self.exchange.engine.book.order(int(order_id))
        if order is None:
            return 0
        return math.inf if order.open else order.updated_ns + IN_USE_NS

    async def commit_takes(self) -> None:
        """The time that a commit, its answer or its news takes."""
        if self._commit_s:
            await asyncio.sleep(self.chance.random() * self._commit_s)

    def later(self, delay_s: float, act: Callable[[], None]) -> None:
        """Run something independently of its caller."""
        self.loop.call_later(delay_s, act, context=self.exchange._context.copy())

    # ---------------------------------------------------------------------------------------------------------- faults
    def draw(self, operation: FaultOperation, client_order_id: str | None) -> Fault | None:
        """The fault that the plan has for this request or report."""
        subject = self.audit.owner(client_order_id) if client_order_id is not None else ""
        number = self._drawn[operation, subject] = self._drawn.get((operation, subject), 0) + 1
        if self.quiet:
            return None
        fault = drawn_fault(self.plan, operation.value, subject, number)
        if fault is None:
            return None
        self.happened[operation.value, subject, number] = fault
        if fault.kind is FaultKind.REQUEST_DOUBLED and client_order_id is not None and operation in SUBMITS:
            self.audit.doubled |= self.audit.ids_under(client_order_id)
        if fault.kind is FaultKind.REQUEST_DOUBLED and operation is FaultOperation.MODIFY:
            self.audit.doubled_changes.add(subject)
        self.tell("fault", f"{operation} {subject} {number}: {fault.kind} {fault.delay_ns / NS_PER_S:g}")
        return fault

    # --------------------------------------------------------------------------------------------------------- kernels
    def process(self, name: str) -> Process | None:
        """The process of a name that is not dead."""
        return next((item for item in self.processes if item.name == name and not item.dead), None)

    @property
    def alive(self) -> list[Process]:
        """The processes that are not dead."""
        return [item for item in self.processes if not item.dead]

    def start(self, name: str) -> None:
        """Start a kernel, unless it runs."""
        if self.process(name) is None:
            process = Process(name, self)
            self.processes.append(process)
            self.tell(process.label, "starts")
            process.run(self._start(process))

    async def _start(self, process: Process) -> None:
        try:
            await process.kernel.start()
        except LogUnavailableError as problem:
            self.tell(process.label, f"could not start: {problem}")
            process.kill()


TIGHT = {"order_quantity_max": 9, "open_orders_max": 12, "position_max": 40}
"""Limits that random strategies often meet, as integers at the quantity scale."""


def limits_of(plan: Plan) -> LimitSettings:
    """The pre-trade limits of every kernel."""
    if plan.world.get("limits") != "tight":
        return LimitSettings()
    amounts = {name: Decimal(TIGHT[name]).scaleb(-2) for name in ("order_quantity_max", "position_max")}
    return LimitSettings(default=Limits.model_validate({"open_orders_max": TIGHT["open_orders_max"], **amounts}))


def policy_of(plan: Plan) -> ExternalOrderPolicy:
    """The kernels' policy for external orders."""
    named = plan.world.get("foreign", "no")
    return ExternalOrderPolicy.IGNORE if named == "no" else ExternalOrderPolicy(named)


def settings_of(plan: Plan) -> KernelSettings:
    """How the kernels are set: quick to ask again, so that a run is short."""
    return KernelSettings(
        storm_rejections=0,  # nobody is there who would resolve it
        workers=int(plan.world["workers"]),
        request_timeout_s=float(plan.world["timeout"]),
        query_timeout_s=3.0,
        send_budget_s=0.5,
        relist_interval_s=10.0,
        resync_interval_s=5.0,
        order_age_s_max=25.0,
        backoff_s_max=4.0,
        settle_backoff_s_max=2.0,
        reconnect_s_max=2.0,
        unknown_too_long_s=30.0,
        trades_overlap_s=1.0,
        stop_timeout_s=3.0,
        limits=limits_of(plan),
        external_orders=policy_of(plan),
        account_exclusive=plan.world.get("foreign", "no") == "no" and plan.seed % 2 == 1,
    )


SHORT_MEMORY = RetentionPolicy(intents_max=3, every_positions=10)
"""So little retention that most records are evicted and rehydrated again and again."""
