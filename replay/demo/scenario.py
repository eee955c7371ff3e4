"""The steps of the demo. Called by `orderctl demo`; the calling process is the strategy.

Prints each step and returns whether all checks passed. The tape is played step by step, so its length does not affect the
duration.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
import msgspec
from msgspec import structs

from kernel import EventSourcedKernel, events, open_log
from kernel.errors import ConflictError, ExchangeError, KernelError, NotFoundError, ValidationError, WaitTimeoutError
from kernel.lifecycle.record import client_order_id
from kernel.log.factory import without_password
from kernel.order_spec import OcoMode, OrderType, Side, StandardOrder, StandardOrderGroup
from kernel.streams.fills import recorded_fills
from kernel.venues import Fault, FaultKind, FaultOperation, PaperVenue
from kernel.venues.paper.tape import SHIPPED_SYMBOL, symbol_of
from replay.audit.verify import verify
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
"""Delay of the answer that arrives after the kernel was killed."""
TAPE_STEPS = 100
LADDER_BPS = (3, -1, -5, -20, -100)
"""Limit prices of the ladder, in basis points from the last price; the first order fills at once."""
THROUGH_BPS = 100
"""A BUY this far above the last price fills at once in any market."""
EXITS_BPS = (200, -200)
"""Distance of take-profit and stop-loss from the last price."""
BRACKET = ("entry", "take-profit", "stop-loss")
NOTIONALS = 20
"""Size of each order, in multiples of the minimum notional."""


class DemoOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Options of the demo."""

    tape: str | None = None
    """A file of trades; default: the included tape."""
    symbol: str | None = None
    """The tape's symbol; default: from its file name."""
    keep: str | None = None
    """A directory to work in and keep; default: a temporary one."""
    log: str | None = None
    """The URL of a log to create and keep; default: a file in the directory."""
    seed: int = 0


async def demo(options: DemoOptions) -> bool:
    """Run the demo and print its steps on stdout; return whether all checks passed.

    Raises `WaitTimeoutError` if a step takes too long, `ConflictError` if the log already exists.
    """
    symbol_id = options.symbol or (symbol_of(options.tape) if options.tape else SHIPPED_SYMBOL)
    with tempfile.TemporaryDirectory(prefix="orderctl-demo-") as temporary:
        stage = DemoProcesses(Path(options.keep or temporary), options.log)
        await check_no_log(stage.url)
        try:
            async with asyncio.timeout(DEADLINE_S), stage:
                agreed = await play(stage, options, symbol_id)
        except TimeoutError as problem:
            if isinstance(problem, WaitTimeoutError):
                raise
            raise WaitTimeoutError(f"the demo did not finish within {DEADLINE_S:g} s") from None
    echo("", "Everything agreed." if agreed else "NOT everything agreed.")
    if options.keep is None and options.log is None:
        echo("Try it: start `orderctl run` in one shell, `orderctl get orders -w` in a second, and in a third enter")
        echo("  orderctl place BUY 0.001 BTCUSDT --limit 60000")
    else:
        url = without_password(stage.url)
        echo(*(f"  orderctl {words} --log {url}" for words in ("events", "describe killed", "verify")))
    return agreed


async def check_no_log(url: str) -> None:
    """Raise `ConflictError` if a log exists at the URL: the demo must not write to a log in use."""
    if url == "memory://":
        raise ValidationError("log memory:// cannot be shared by the demo's processes: use a sqlite or postgresql URL")
    try:
        log = open_log(url, exchange_id=EXCHANGE_ID, create=False)
    except NotFoundError:
        return
    await log.close()
    raise ConflictError(f"a log already exists at {log.url}: use another URL")


def echo(*lines: str) -> None:
    for line in lines:
        click.echo(escaped(line))


async def play(stage: DemoProcesses, options: DemoOptions, symbol_id: str) -> bool:
    address = await stage.start_exchange(tape=options.tape, symbol=symbol_id, seed=options.seed)
    echo(f" 1. A paper exchange with the tape of {symbol_id} listens at {address}.")
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
    """The steps and their shared state."""

    def __init__(self, stage: DemoProcesses, kernel: EventSourcedKernel, venue: PaperVenue, symbol_id: str) -> None:
        self._stage = stage
        self._kernel = kernel
        self._venue = venue
        self._symbol_id = symbol_id
        self._price = 0

    async def begin(self) -> None:
        echo(f" 2. {await self._start_kernel()}")
        await self._venue.admin("step", count=TAPE_STEPS)
        self._price = await self._venue.admin("last_price", symbol_id=self._symbol_id)

    async def _start_kernel(self) -> str:
        """Start a kernel process, wait until the log shows its first complete venue snapshot, and describe it."""
        after = self._kernel.state.position
        pid = await self._stage.start_kernel()
        seen = await self._until(lambda event: isinstance(event, events.VenueSnapshotTaken) and event.complete, after)
        return f"A kernel leads as process {pid}: epoch {self._kernel.state.epoch}, log position {seen.position}."

    async def _until(self, holds: Callable[[events.BaseEvent], bool], after: int) -> events.BaseEvent:
        """Return the first event after a position that satisfies a condition, once it is in the state."""
        try:
            async with asyncio.timeout(STEP_TIMEOUT_S):
                async for event in self._kernel.events(after=after):
                    if holds(event):
                        await self._kernel.state.reached(event.position)
                        return event
        except TimeoutError:
            words = self._stage.last_words("run")
            raise WaitTimeoutError(f"no expected event within {STEP_TIMEOUT_S:g} s; kernel stderr: {words}") from None
        raise KernelError("the log was closed")

    def _order(self, bps: int, *, post_only: bool = False) -> StandardOrder:
        """Return a BUY some basis points from the last price, of a size that every market accepts."""
        symbol = self._kernel.state.symbol(self._symbol_id)
        assert symbol is not None, "the kernel has recorded the exchange's symbols"
        lot = symbol.lot_size or 1
        price = on_grid(self._price * (10_000 + bps) // 10_000, symbol.tick_size)
        quantity = on_grid(max(NOTIONALS * symbol.min_notional // price, symbol.min_quantity, lot) + lot - 1, lot)
        return StandardOrder(
            symbol_id=self._symbol_id, side=Side.BUY, order_type=OrderType.LIMIT, quantity=quantity, price=price,
            post_only=post_only,
        )  # fmt: skip

    async def ladder(self) -> None:
        for number, bps in enumerate(LADDER_BPS, start=1):
            await self._kernel.place_order(self._order(bps), intent_id=f"ladder-{number}", owner=OWNER)
        echo(f" 3. The strategy places a ladder of {len(LADDER_BPS)} orders; the first fills at once.")

    async def bracket(self) -> None:
        """Place an order that fills at once and two orders that close the position."""
        entry = self._order(THROUGH_BPS)
        profit, loss = (self._order(bps).price for bps in EXITS_BPS)
        take_profit = structs.replace(entry, side=Side.SELL, price=profit)
        stop_loss = StandardOrder(
            symbol_id=self._symbol_id, side=Side.SELL, order_type=OrderType.STOP, quantity=entry.quantity,
            stop_price=loss,
        )  # fmt: skip
        group = StandardOrderGroup(orders=(entry, take_profit, stop_loss), mode=OcoMode.ONE_TRIGGERS_OTHER)
        await self._kernel.place_order_group(group, group_id="bracket", intent_ids=BRACKET, owner=OWNER)
        for intent_id in BRACKET[1:]:
            await wait_for(self._kernel, intent_id, "working", timeout_s=STEP_TIMEOUT_S, or_fail_on=("terminal",))
        echo(f" 4. A bracket: once {BRACKET[0]!r} fills, {BRACKET[1]!r} and {BRACKET[2]!r} are placed to close it.")

    async def doomed(self) -> None:
        try:
            await self._kernel.place_order(self._order(THROUGH_BPS, post_only=True), intent_id="doomed", owner=OWNER)
        except ExchangeError as refused:
            echo(f" 5. The exchange rejects an order (post-only, but marketable): {refused.text}")
            return
        raise KernelError("the doomed order was not rejected")

    async def lost_answer(self) -> None:
        """Place an order whose answer and report get lost."""
        after = await self._place_unanswered("lost-answer", -30, FaultKind.ANSWER_LOST)
        unknown = await self._until(lambda event: isinstance(event, events.AttemptUnknown), after)
        await wait_for(self._kernel, "lost-answer", "synced", timeout_s=STEP_TIMEOUT_S)
        echo(f" 6. An answer is lost: the attempt's outcome is UNKNOWN (position {unknown.position}), not rejected.")
        echo("    A status query at the exchange finds the order. Nothing is sent again.")

    async def _place_unanswered(self, intent_id: str, bps: int, kind: FaultKind, *, delay_ns: int = 0) -> int:
        """Place an order whose first request gets a faulty answer and no report; return the log's position before."""
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
        """Kill the kernel between a request and its answer."""
        after = await self._place_unanswered("killed", -40, FaultKind.ANSWER_LATE, delay_ns=LATE_NS)
        attempt = await self._until(lambda event: isinstance(event, events.AttemptStarted), after)
        async with asyncio.timeout(STEP_TIMEOUT_S):
            while (
                await self._venue.order(self._symbol_id, client_order_id(self._kernel.log.log_id, "killed", 1), None)
                is None
            ):
                await asyncio.sleep(0)
        await self._stage.kill_kernel()
        await self._kernel.state.reached((await self._kernel.log.head()).position)
        if not self._kernel.state.record("killed").unresolved:
            raise KernelError("the answer arrived before the kill")
        echo(f" 7. SIGKILL to the kernel after a request (position {attempt.position}), before its answer.")
        await self._kernel.place_order(self._order(-50), intent_id="meanwhile", owner=OWNER, wait="recorded")
        await self._kernel.cancel_order(f"ladder-{len(LADDER_BPS)}", wait="recorded")
        played = await self._venue.admin("step", count=TAPE_STEPS)
        echo(
            f" 8. No kernel leads. The strategy places an order and cancels another; the market trades {played} times."
        )

    async def recovery(self) -> None:
        """Start a new kernel, which recovers from the log and reconciles every intent."""
        started = await self._start_kernel()
        for intent in [item for item in self._kernel.state.intents() if item.intent_id != "doomed"]:
            await wait_for(self._kernel, intent.intent_id, "synced", timeout_s=STEP_TIMEOUT_S)
        await self._venue.admin("step", count=TAPE_STEPS)
        echo(f" 9. {started}", "    It has recovered from the log alone: every intent is reconciled.")

    async def proof(self) -> bool:
        """Print the final state and the checks; return whether all passed."""
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
        """Return the checks once all pass, or when no more events arrive."""
        while True:
            after = (await self._kernel.log.head()).position
            found = await checks(self._kernel, await self._venue.truth())
            if all(check.passed for check in found):
                return found
            try:
                await self._until(lambda event: True, after)
            except WaitTimeoutError:
                return found


class Check(msgspec.Struct, frozen=True):
    """A claim and its result."""

    statement: str
    passed: bool
    detail: str


async def checks(kernel: EventSourcedKernel, truth: Mapping[str, Any]) -> list[Check]:
    """Check every claim on the log and its state against the exchange's own state."""
    report = await verify(kernel.log)
    await kernel.state.reached(report.position)
    fills = [fill async for fill in recorded_fills(kernel.log, None, None)]  # including repeated reports
    logged = Counter((fill.fill_key, fill.last_qty, fill.last_px) for fill in fills)
    traded = Counter((trade["fill_key"], trade["last_qty"], trade["last_px"]) for trade in truth["trades"])
    sent = Counter(order["client_order_id"] for order in truth["orders"])
    known = {
        order.exchange_order_id: (str(order.ord_status), order.cum_qty)
        for state in kernel.state.order_states()
        for order in state.venue_orders
    }
    true = {order["exchange_order_id"]: (order["status"], order["cum_qty"]) for order in truth["orders"]}
    missing, surplus = (traded - logged).total(), (logged - traded).total()
    return [
        Check("the log verifies", report.ok, f"{report.position} events, {len(report.problems)} problems"),
        Check("no order was sent twice", max(sent.values()) == 1, f"{len(sent)} client order ids at the exchange"),
        Check("status and filled quantity of each order agree", known == true, f"{len(true)} orders"),
        Check(
            "the log has each fill once",
            logged == traded,
            f"{missing} missing, {surplus} extra, {traded.total()} fills",
        ),
    ]


def on_grid(value: int, step: int) -> int:
    """Round down to a multiple of a step."""
    return value // step * step if step else value
