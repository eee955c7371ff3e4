"""The demonstration: a strategy, a kernel and an exchange as three processes; a lost answer, a crash, recovery, proof.

Called by `orderctl demo`; the calling process is the strategy. It prints each step, and returns whether everything agreed
in the end. The tape is played step by step, so the duration does not depend on the tape. `demo_stage` has the processes,
`demo_checks` the proof; the tables are those of `orderctl get` and `orderctl history`.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click

from kernel import EventSourcedKernel, events, open_log
from kernel.errors import ConflictError, ExchangeError, KernelError, NotFoundError, ValidationError, WaitTimeoutError
from kernel.lifecycle import client_order_id
from kernel.log.factory import without_password
from kernel.order_spec import OcoMode, OrderType, Side, StandardOrder, StandardOrderGroup
from kernel.venues import Fault, FaultKind, FaultOperation, PaperVenue
from kernel.venues.paper.tape import SHIPPED_SYMBOL, symbol_of
from replay.demo.checks import Check, checks
from replay.demo.processes import DemoProcesses
from replay.formatting.output import Format, Item, Listing, escaped, render
from replay.histories import order_history, order_history_text
from replay.host.bootstrap import open_kernel
from replay.views import listing as views
from replay.views.conditions import wait_for

EXCHANGE_ID = "paper"
OWNER = "demo"
DEADLINE_S = 28.0
STEP_TIMEOUT_S = 12.0
LATE_NS = 60 * 10**9
"""The delay of the answer that the kernel's death precedes."""
TAPE_STEPS = 100
LADDER_BPS = (3, -1, -5, -20, -100)
"""Limit prices of the ladder, in 1/10,000 off the last price; the first order is filled at once."""
THROUGH_BPS = 100
"""So far above the last price a BUY is filled at once in any market."""
EXITS_BPS = (200, -200)
"""How far from the last price the bracket takes its profit, and stops its loss."""
BRACKET = ("entry", "take-profit", "stop-loss")
NOTIONALS = 20
"""Size of each order, in smallest notionals."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """What can be chosen."""

    tape: str | None = None
    """A file of trades; none: the included tape."""
    symbol: str | None = None
    """Its symbol; none: from its name."""
    keep: str | None = None
    """A directory to work in and to keep; none: a temporary one."""
    log: str | None = None
    """The URL of the log, which is kept; none: a file in the directory."""
    seed: int = 0


async def demo(options: DemoOptions) -> bool:
    """Play it, and print its steps on stdout; whether everything agreed.

    Raises `WaitTimeoutError` when something did not happen in time, `ConflictError` if the log exists already.
    """
    symbol_id = options.symbol or (symbol_of(options.tape) if options.tape else SHIPPED_SYMBOL)
    with tempfile.TemporaryDirectory(prefix="orderctl-demo-") as temporary:
        stage = DemoProcesses(Path(options.keep or temporary), options.log)
        await refuse_a_log(stage.url)
        try:
            async with asyncio.timeout(DEADLINE_S), stage:
                agreed = await play(stage, options, symbol_id)
        except TimeoutError as problem:
            if isinstance(problem, WaitTimeoutError):
                raise
            raise WaitTimeoutError(f"the demonstration was not over after {DEADLINE_S:g} s") from None
    tell("", "Everything agreed." if agreed else "NOT everything agreed.")
    if options.keep is None and options.log is None:
        tell("Now on your own: `orderctl run` in one shell, `orderctl get orders -w` in another, and in a third")
        tell("  orderctl place BUY 0.001 BTCUSDT --limit 60000")
    else:
        url = without_password(stage.url)
        tell(*(f"  orderctl {words} --log {url}" for words in ("events", "describe killed", "verify")))
    return agreed


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


def tell(*lines: str) -> None:
    """Print lines."""
    for line in lines:
        click.echo(escaped(line))


async def play(stage: DemoProcesses, options: DemoOptions, symbol_id: str) -> bool:
    """Every step in order; whether everything agreed."""
    address = await stage.start_exchange(tape=options.tape, symbol=symbol_id, seed=options.seed)
    tell(f" 1. A paper exchange listens at {address}, with the tape of {symbol_id}.")
    venue = PaperVenue(address)
    await venue.connect()
    try:
        async with open_kernel(stage.url, exchange_id=EXCHANGE_ID, actor=f"strategy:{OWNER}") as kernel:
            demonstration = Demonstration(stage, kernel, venue, symbol_id)
            await demonstration.begin()
            await demonstration.ladder()
            await demonstration.bracket()
            await demonstration.doomed()
            await demonstration.lost_answer()
            await demonstration.kill()
            await demonstration.recovery()
            return await demonstration.proof()
    finally:
        await venue.close()


class Demonstration:
    """The steps, and what they share."""

    def __init__(self, stage: DemoProcesses, kernel: EventSourcedKernel, venue: PaperVenue, symbol_id: str) -> None:
        self._stage = stage
        self._kernel = kernel
        self._venue = venue
        self._symbol_id = symbol_id
        self._price = 0

    async def begin(self) -> None:
        """A kernel leads, and the market has traded."""
        tell(f" 2. {await self._start_kernel()}")
        await self._venue.admin("step", count=TAPE_STEPS)
        self._price = await self._venue.admin("last_price", symbol_id=self._symbol_id)

    async def _start_kernel(self) -> str:
        """Start the kernel's process and wait until the log shows that it acts; a sentence about it."""
        after = self._kernel.state.position
        pid = await self._stage.start_kernel()
        seen = await self._until(lambda event: isinstance(event, events.VenueSnapshotTaken) and event.complete, after)
        return f"A kernel leads, as process {pid}: epoch {self._kernel.state.epoch}, log position {seen.position}."

    async def _until(self, holds: Callable[[events.BaseEvent], bool], after: int) -> events.BaseEvent:
        """The first event after a position for which a condition holds, once the state has it."""
        try:
            async with asyncio.timeout(STEP_TIMEOUT_S):
                async for event in self._kernel.events(after=after):
                    if holds(event):
                        await self._kernel.state.reached(event.position)
                        return event
        except TimeoutError:
            words = self._stage.last_words("run")
            raise WaitTimeoutError(f"nothing more in the log after {STEP_TIMEOUT_S:g} s; the kernel: {words}") from None
        raise KernelError("the log was closed")

    def _order(self, bps: int, *, post_only: bool = False) -> StandardOrder:
        """A BUY some 1/10,000 off the last price, of a size that every market takes."""
        symbol = self._kernel.state.symbol(self._symbol_id)
        assert symbol is not None, "the exchange was asked for its symbols"
        lot = symbol.lot_size or 1
        price = on_grid(self._price * (10_000 + bps) // 10_000, symbol.tick_size)
        quantity = on_grid(max(NOTIONALS * symbol.min_notional // price, symbol.min_quantity, lot) + lot - 1, lot)
        given = {"symbol_id": self._symbol_id, "side": Side.BUY, "order_type": OrderType.LIMIT}
        return StandardOrder.model_validate({**given, "quantity": quantity, "price": price, "post_only": post_only})

    async def ladder(self) -> None:
        """Five orders at five prices."""
        for number, bps in enumerate(LADDER_BPS, start=1):
            await self._kernel.place_order(self._order(bps), intent_id=f"ladder-{number}", owner=OWNER)
        tell(f" 3. The strategy places a ladder of {len(LADDER_BPS)} orders; the first is filled at once.")

    async def bracket(self) -> None:
        """An order that is filled at once, and two that close the position."""
        entry = self._order(THROUGH_BPS)
        profit, loss = (self._order(bps).price for bps in EXITS_BPS)
        exits = {"symbol_id": self._symbol_id, "side": Side.SELL, "quantity": entry.quantity}
        children = (
            StandardOrder.model_validate({**exits, "order_type": OrderType.LIMIT, "price": profit}),
            StandardOrder.model_validate({**exits, "order_type": OrderType.STOP, "stop_price": loss}),
        )
        group = StandardOrderGroup(orders=(entry, *children), mode=OcoMode.ONE_TRIGGERS_OTHER)
        await self._kernel.place_order_group(group, group_id="bracket", intent_ids=BRACKET, owner=OWNER)
        for intent_id in BRACKET[1:]:
            await wait_for(self._kernel, intent_id, "working", timeout_s=STEP_TIMEOUT_S, or_fail_on=("terminal",))
        tell(
            f" 4. A bracket: once {BRACKET[0]!r} is filled, {BRACKET[1]!r} and {BRACKET[2]!r} work for what it bought."
        )

    async def doomed(self) -> None:
        """An order that the exchange rejects."""
        try:
            await self._kernel.place_order(self._order(THROUGH_BPS, post_only=True), intent_id="doomed", owner=OWNER)
        except ExchangeError as refused:
            tell(f" 5. A doomed order (post-only, through the market) is rejected for good: {refused.text}")
            return
        raise KernelError("the doomed order was not rejected")

    async def lost_answer(self) -> None:
        """An order whose answer and report get lost."""
        after = await self._place_unheard("lost-answer", -30, FaultKind.ANSWER_LOST)
        unknown = await self._until(lambda event: isinstance(event, events.AttemptUnknown), after)
        await wait_for(self._kernel, "lost-answer", "synced", timeout_s=STEP_TIMEOUT_S)
        tell(f" 6. An answer is lost. Unknown is not no: the attempt stays UNKNOWN (position {unknown.position}),")
        tell("    the exchange is queried, and the order is found. Nothing is sent again.")

    async def _place_unheard(self, intent_id: str, bps: int, kind: FaultKind, *, delay_ns: int = 0) -> int:
        """Place an order whose first request gets a faulty answer and no report; the log's position before.

        Its client order id is known beforehand: it follows from the log, the intent and the number.
        """
        name = client_order_id(self._kernel.log.log_id, intent_id, 1)
        fault = Fault(kind=kind, operation=FaultOperation.SUBMIT, client_order_id=name, delay_ns=delay_ns)
        await self._venue.inject(fault)
        await self._venue.inject(
            Fault(kind=FaultKind.REPORT_LOST, operation=FaultOperation.REPORT, client_order_id=name)
        )
        after = self._kernel.state.position
        await self._kernel.place_order(self._order(bps), intent_id=intent_id, owner=OWNER, wait="recorded")
        return after

    async def kill(self) -> None:
        """The kernel is killed between a request and its answer."""
        after = await self._place_unheard("killed", -40, FaultKind.ANSWER_LATE, delay_ns=LATE_NS)
        attempt = await self._until(lambda event: isinstance(event, events.AttemptStarted), after)
        async with asyncio.timeout(STEP_TIMEOUT_S):
            while (
                await self._venue.order(self._symbol_id, client_order_id(self._kernel.log.log_id, "killed", 1)) is None
            ):
                await asyncio.sleep(0)
        await self._stage.kill_kernel()
        await self._kernel.state.reached((await self._kernel.log.head()).position)
        if not self._kernel.state.record("killed").unresolved:
            raise KernelError("the answer came before the kill")
        tell(
            f" 7. A request is on its way (position {attempt.position}), its answer is not back: SIGKILL to the kernel."
        )
        await self._kernel.place_order(self._order(-50), intent_id="meanwhile", owner=OWNER, wait="recorded")
        await self._kernel.cancel_order(f"ladder-{len(LADDER_BPS)}", wait="recorded")
        played = await self._venue.admin("step", count=TAPE_STEPS)
        tell(f" 8. No kernel leads. The strategy places an order and cancels one; the market makes {played} trades.")

    async def recovery(self) -> None:
        """A new process recovers from the log, and every intent is reconciled."""
        told = await self._start_kernel()
        for intent in [item for item in self._kernel.state.intents() if item.intent_id != "doomed"]:
            await wait_for(self._kernel, intent.intent_id, "synced", timeout_s=STEP_TIMEOUT_S)
        await self._venue.admin("step", count=TAPE_STEPS)
        tell(f" 9. {told}", "    It has recovered from the log alone: every intent is reconciled.")

    async def proof(self) -> bool:
        """What came of it all, and the checks."""
        found = await self._agreement()
        for kind in ("intents", "orders", "positions"):
            listing = await views.listing(self._kernel, views.query_of([kind], owner=None, symbol_id=None))
            click.echo(f"\n{kind.capitalize()}:\n{render(listing, Format.TABLE)}", nl=False)
        history = await order_history.history(self._kernel.log, "killed")
        click.echo(
            f"\nHistory of the order 'killed':\n{order_history_text.text(history, Format.TABLE, raw=False)}", nl=False
        )
        lines = [
            Item(item.statement, {}, (("yes" if item.passed else "NO", item.statement, item.detail),)) for item in found
        ]
        table = Listing("check", ("AGREES", "CLAIM", "COMPARED"), 3, tuple(lines))
        click.echo(f"\nThe log against the exchange's own state:\n{render(table, Format.TABLE)}", nl=False)
        return all(check.passed for check in found)

    async def _agreement(self) -> list[Check]:
        """The checks once they hold, or as they are when no more events come."""
        while True:
            after = (await self._kernel.log.head()).position
            found = await checks(self._kernel, await self._venue.truth())
            if all(check.passed for check in found):
                return found
            try:
                await self._until(lambda event: True, after)
            except WaitTimeoutError:
                return found


def on_grid(value: int, step: int) -> int:
    """The largest multiple of a step that is not above a value."""
    return value // step * step if step else value
