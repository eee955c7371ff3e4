"""The demonstration: a strategy, a kernel and an exchange as three processes; a lost answer, a kill, recovery, proof.

Called by `orderctl demo`; the calling process is the strategy. It tells what it does, and its answer is whether everything
agreed in the end. The tape is played step by step, so the time it takes does not depend on the tape. `demo_stage` has the
processes, `demo_checks` the proof, `demo_pages` the tables.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kernel import EventSourcedKernel, events, open_log
from kernel.errors import (
    ConflictError,
    ExchangeError,
    KernelError,
    NotFoundError,
    ValidationError,
    WaitTimeoutError,
)
from kernel.lifecycle import client_order_id
from kernel.log.opening import without_password
from kernel.order_spec import OcoMode, OrderType, Side, StandardOrder, StandardOrderGroup, SymbolMetadata
from kernel.private_files import make_directory
from kernel.venues import Fault, FaultKind, Operation, PaperVenue
from kernel.venues.paper_tape import SHIPPED_SYMBOL, symbol_of
from replay.demo_checks import Check, Evidence, checks, read_verified
from replay.demo_pages import Pages
from replay.demo_stage import Stage
from replay.recovery import open_kernel
from replay.waiting import wait_for

EXCHANGE_ID = "paper"
OWNER = "demo"
DEADLINE_S = 28.0
STEP_TIMEOUT_S = 12.0
ASK_INTERVAL_S = 0.02
LATE_NS = 60 * 10**9
"""How late the answer is that the kernel's death is to come before."""
TAPE_STEPS = 100
LADDER_BPS = (3, -1, -5, -20, -100)
"""Limit prices of the ladder, in 1/10,000 off the last price; the first takes what is offered."""
TAKES_BPS = 100
"""So far above the last price a BUY meets what is offered in any market."""
CHILDREN_BPS = 200
"""How far from the last price the bracket takes its profit, and stops its loss."""
BRACKET = ("entry", "take-profit", "stop-loss")
"""Names of the bracket's orders."""
NOTIONALS = 20
"""Size of each order, in smallest notionals."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """What can be chosen."""

    tape: str | None = None
    """A file of trades; none: the tape that is included."""
    symbol: str | None = None
    """Its symbol; none: from its name."""
    keep: str | None = None
    """A directory to work in and to leave as it is; none: a temporary one."""
    log: str | None = None
    """The URL of the log, which stays; none: a file in the directory."""
    seed: int = 0


async def demo(options: DemoOptions) -> bool:
    """Play it, and tell of it on stdout; whether everything agreed.

    Raises `WaitTimeoutError` when something did not happen in time, `ConflictError` for a log that is there already.
    """
    symbol_id = options.symbol or (symbol_of(options.tape) if options.tape else SHIPPED_SYMBOL)
    with tempfile.TemporaryDirectory(prefix="orderctl-demo-") as temporary:
        stage = Stage(working_directory(options.keep or temporary), options.log)
        await refuse_a_log(stage.url)
        pages = Pages(sys.stdout)
        try:
            async with asyncio.timeout(DEADLINE_S), stage:
                return await Play(stage, pages, options, symbol_id).run()
        except WaitTimeoutError:
            raise
        except TimeoutError:
            raise WaitTimeoutError(f"the demonstration was not over after {DEADLINE_S:g} s") from None


def working_directory(path: str) -> Path:
    """The directory to work in, made if need be."""
    directory = Path(path)
    make_directory(directory)
    return directory


async def refuse_a_log(url: str) -> None:
    """`ConflictError` where a log is: the demonstration writes to none that somebody else may use."""
    if url == "memory://":
        raise ValidationError("the demonstration's processes share no memory: give a sqlite or postgresql URL")
    try:
        log = open_log(url, exchange_id=EXCHANGE_ID, create=False)
    except NotFoundError:
        return
    await log.close()
    raise ConflictError(f"there is a log at {log.url} already: choose another place")


class Play:
    """One performance."""

    def __init__(self, stage: Stage, pages: Pages, options: DemoOptions, symbol_id: str) -> None:
        self._stage = stage
        self._pages = pages
        self._options = options
        self._symbol_id = symbol_id
        self._price = 0

    async def run(self) -> bool:
        """Every act in order; whether everything agreed."""
        options, stage = self._options, self._stage
        address = await stage.start_exchange(tape=options.tape, symbol=self._symbol_id, seed=options.seed)
        self._pages.tell(f"A paper exchange listens at {address}, with the tape of {self._symbol_id}.")
        venue = PaperVenue(address)
        await venue.connect()
        try:
            async with open_kernel(stage.url, exchange_id=EXCHANGE_ID, actor=f"strategy:{OWNER}") as kernel:
                await self._begin(kernel, venue)
                await self._ladder(kernel)
                await self._bracket(kernel)
                await self._doomed(kernel)
                await self._lost_answer(kernel, venue)
                await self._kill(kernel, venue)
                await self._recovery(kernel, venue)
                return await self._proof(kernel, venue)
        finally:
            await venue.close()

    async def _begin(self, kernel: EventSourcedKernel, venue: PaperVenue) -> None:
        await self._start_kernel(kernel)
        await venue.admin("step", count=TAPE_STEPS)
        self._price = await venue.admin("last_price", symbol_id=self._symbol_id)

    async def _start_kernel(self, kernel: EventSourcedKernel) -> None:
        """Start the kernel's process, and wait until the log says that it acts."""
        after = kernel.state.position
        pid = await self._stage.start_kernel()

        def is_ready(event: events.BaseEvent) -> bool:
            return isinstance(event, events.VenueSnapshotTaken) and event.complete

        seen = await self._until(kernel, is_ready, after=after)
        self._pages.tell(f"A kernel leads, as process {pid}: epoch {kernel.state.epoch}, log position {seen.position}.")

    async def _until(
        self, kernel: EventSourcedKernel, holds: Callable[[events.BaseEvent], bool], *, after: int
    ) -> events.BaseEvent:
        """The first event after a position of which something holds, once the state has it; no longer than the kernel's
        process lives."""
        found = asyncio.create_task(first_event(kernel, holds, after=after))
        ended = asyncio.create_task(self._stage.kernel_ended())
        try:
            await asyncio.wait({found, ended}, timeout=STEP_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
            if found.done():
                return found.result()
            if ended.done():
                raise KernelError(f"the kernel's process ended: {ended.result()}")
        finally:
            for task in (found, ended):
                task.cancel()
            await asyncio.gather(found, ended, return_exceptions=True)
        raise WaitTimeoutError(f"the log stands at {kernel.state.position} after {STEP_TIMEOUT_S:g} s")

    def _order(self, kernel: EventSourcedKernel, bps: int, *, post_only: bool = False) -> StandardOrder:
        """A BUY some 1/10,000 off the last price, of a size that every market takes."""
        symbol = kernel.state.symbol(self._symbol_id)
        assert symbol is not None, "the exchange was asked for its symbols"
        price = on_grid(self._price * (10_000 + bps) // 10_000, symbol.tick_size)
        return StandardOrder(
            symbol_id=self._symbol_id,
            side=Side.BUY,
            order_type=OrderType.LIMIT,
            quantity=quantity_for(symbol, price),
            price=price,
            post_only=post_only,
        )

    async def _ladder(self, kernel: EventSourcedKernel) -> None:
        for number, bps in enumerate(LADDER_BPS, start=1):
            await kernel.place_order(self._order(kernel, bps), intent_id=f"ladder-{number}", owner=OWNER)
        self._pages.tell(
            f"The strategy wants a ladder of {len(LADDER_BPS)} orders; the first one takes what is offered."
        )

    async def _bracket(self, kernel: EventSourcedKernel) -> None:
        """An order that takes what is offered, and two that undo it: each works for what the first has filled."""
        entry = self._order(kernel, TAKES_BPS)
        profit, loss = (self._order(kernel, bps).price for bps in (CHILDREN_BPS, -CHILDREN_BPS))
        exits = {"symbol_id": self._symbol_id, "side": Side.SELL, "quantity": entry.quantity}
        children = (
            StandardOrder.model_validate({**exits, "order_type": OrderType.LIMIT, "price": profit}),
            StandardOrder.model_validate({**exits, "order_type": OrderType.STOP, "stop_price": loss}),
        )
        group = StandardOrderGroup(orders=(entry, *children), mode=OcoMode.ONE_TRIGGERS_OTHER)
        await kernel.place_order_group(group, group_id="bracket", intent_ids=BRACKET, owner=OWNER)
        for intent_id in BRACKET[1:]:
            await wait_for(kernel, intent_id, "working", timeout_s=STEP_TIMEOUT_S, or_fail_on=("terminal",))
        self._pages.tell(
            f"A bracket: once {BRACKET[0]!r} has filled, the two that end the trade work, for no more than it bought."
        )

    async def _doomed(self, kernel: EventSourcedKernel) -> None:
        order = self._order(kernel, TAKES_BPS, post_only=True)
        try:
            await kernel.place_order(order, intent_id="doomed", owner=OWNER)
        except ExchangeError as refused:
            self._pages.tell(f"A doomed order (post-only, through the market) is refused for good: {refused.text}")
            return
        raise KernelError("the doomed order was not refused")

    async def _lost_answer(self, kernel: EventSourcedKernel, venue: PaperVenue) -> None:
        await self._silence(kernel, venue, "lost-answer", FaultKind.ANSWER_LOST)
        after = kernel.state.position
        await kernel.place_order(self._order(kernel, -30), intent_id="lost-answer", owner=OWNER, wait="recorded")
        unknown = await self._until(kernel, lambda event: isinstance(event, events.AttemptUnknown), after=after)
        await self._settled(kernel, "lost-answer")
        self._pages.tell(
            "An answer gets lost. Unknown is not no: the attempt stays UNKNOWN "
            f"(position {unknown.position}), the exchange is asked, and the order is found. Nothing is sent again."
        )

    async def _silence(
        self, kernel: EventSourcedKernel, venue: PaperVenue, intent_id: str, kind: FaultKind, *, delay_ns: int = 0
    ) -> None:
        """Let nothing be heard of an intent's first send: its answer has a fault, and the stream's report is lost.

        Its client order id is known before it is sent: it follows from the log, the intent and the number.
        """
        name = client_order_id(kernel.log.log_id, intent_id, 1)
        await venue.inject(Fault(kind=kind, operation=Operation.SUBMIT, client_order_id=name, delay_ns=delay_ns))
        await venue.inject(Fault(kind=FaultKind.REPORT_LOST, operation=Operation.REPORT, client_order_id=name))

    async def _settled(self, kernel: EventSourcedKernel, intent_id: str) -> None:
        await wait_for(kernel, intent_id, "synced", timeout_s=STEP_TIMEOUT_S)

    async def _kill(self, kernel: EventSourcedKernel, venue: PaperVenue) -> None:
        await self._silence(kernel, venue, "killed", FaultKind.ANSWER_LATE, delay_ns=LATE_NS)
        after = kernel.state.position
        await kernel.place_order(self._order(kernel, -40), intent_id="killed", owner=OWNER, wait="recorded")
        attempt = await self._until(kernel, lambda event: isinstance(event, events.AttemptStarted), after=after)
        assert isinstance(attempt, events.AttemptStarted)
        await self._reached_exchange(venue, attempt.client_order_id)
        await self._stage.kill_kernel()
        head = await kernel.log.head()
        await kernel.state.reached(head.position)
        if not kernel.state.record("killed").unsettled:
            raise KernelError("the answer came before the kill")
        self._pages.tell(
            f"An order is on its way (position {attempt.position}) and its answer is not back: "
            "the kernel's process gets SIGKILL."
        )
        await kernel.place_order(self._order(kernel, -50), intent_id="meanwhile", owner=OWNER, wait="recorded")
        await kernel.cancel_order(f"ladder-{len(LADDER_BPS)}", wait="recorded")
        played = await venue.admin("step", count=TAPE_STEPS)
        self._pages.tell(
            "Nobody leads. The strategy goes on: it wants one order more and one less, "
            f"and the market makes {played} trades."
        )

    async def _reached_exchange(self, venue: PaperVenue, name: str) -> None:
        """Return once the exchange has an order: it can be asked, not awaited."""
        for _ in range(int(STEP_TIMEOUT_S / ASK_INTERVAL_S)):
            if await venue.order(self._symbol_id, name) is not None:
                return
            await asyncio.sleep(ASK_INTERVAL_S)
        raise WaitTimeoutError(f"the order {name} did not reach the exchange within {STEP_TIMEOUT_S:g} s")

    async def _recovery(self, kernel: EventSourcedKernel, venue: PaperVenue) -> None:
        await self._start_kernel(kernel)
        for intent in list(kernel.state.intents()):
            if intent.intent_id != "doomed":
                await self._settled(kernel, intent.intent_id)
        await venue.admin("step", count=TAPE_STEPS)
        self._pages.tell("It has recovered from the log alone: every intent is where it should be.")

    async def _proof(self, kernel: EventSourcedKernel, venue: PaperVenue) -> bool:
        history, found = await self._agreement(kernel, venue)
        self._pages.intents(kernel.state)
        self._pages.positions(kernel.state)
        self._pages.history(kernel.state, "killed", history)
        self._pages.checks(found)
        agreed = all(check.holds for check in found)
        is_kept = self._options.keep is not None or self._options.log is not None
        self._pages.next_steps(without_password(self._stage.url) if is_kept else None, agreed=agreed)
        return agreed

    async def _agreement(
        self, kernel: EventSourcedKernel, venue: PaperVenue
    ) -> tuple[list[events.BaseEvent], list[Check]]:
        """The checks once they hold; or as they stand when no more news comes."""
        while True:
            truth = await venue.truth()
            history, report = await read_verified(kernel.log)
            await kernel.state.reached(history[-1].position)
            found = checks(Evidence(history, report, kernel.state, truth))
            if all(check.holds for check in found):
                return history, found
            with suppress(WaitTimeoutError):
                await self._until(kernel, lambda event: True, after=history[-1].position)
                continue
            return history, found


async def first_event(
    kernel: EventSourcedKernel, holds: Callable[[events.BaseEvent], bool], *, after: int
) -> events.BaseEvent:
    """The first event after a position of which something holds, once the state has it."""
    async for event in kernel.events(after=after):
        if holds(event):
            await kernel.state.reached(event.position)
            return event
    raise KernelError("the log was closed")


def on_grid(value: int, step: int) -> int:
    """The largest multiple of a step that is not above a value."""
    return value // step * step if step else value


def quantity_for(symbol: SymbolMetadata, price: int) -> int:
    """A quantity that is worth some smallest notionals, in whole lots."""
    lot = symbol.lot_size or 1
    wanted = max(NOTIONALS * symbol.min_notional // price, symbol.min_quantity, lot)
    return on_grid(wanted + lot - 1, lot)
