"""The exchange of transcripts and a process's connection to it: more faults, and processes that stand still."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable

from msgspec import structs
from msgspec.structs import replace

from kernel.clock import Clock
from kernel.errors import VenueError
from kernel.models import ExecType, OrdStatus
from kernel.order_spec import StandardOrder, SymbolStatus
from kernel.venues.base import CancelRequest, ExecutionReport, SubmitRequest
from replay.testing import ScriptedVenue
from replay.testing.scripted_exchange import (
    Answer,
    Message,
    ScriptedExchange,
    ScriptedOrder,
    ScriptedOrders,
    ScriptedTrade,
)


class TranscriptExchange(ScriptedExchange):
    """A scripted exchange that also hides, forgets, renames and misreports orders, triggers stops and numbers reports."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.hidden: set[str] = set()
        """Ids of the orders that no query shows."""
        self.nameless = False
        """Trades are reported without client order ids, on the stream too."""
        self.next_id = ""
        """The id that the next order is given; empty for one of its own."""
        self.numbered: list[ExecutionReport] | None = None
        """Every report since `number_reports`; None before. The adapter gets those beyond its cursor at each connect."""
        self.cursor = 0
        """How many of the numbered reports are recorded without a gap: kept by the adapter through a crash."""
        self._recorded: set[int] = set()

    def reuse(self, name: str) -> None:
        """Give the next order the id of an earlier one."""
        self.next_id = name

    def _add(self, client_order_id: str, terms: StandardOrder) -> ScriptedOrder:
        order = super()._add(client_order_id, terms)
        if self.next_id:
            order = self.orders[order.number] = replace(order, id=self.next_id)
            self.next_id = ""
        return order

    def hide_names(self) -> None:
        """Report trades without client order ids from now on."""
        self.nameless = True

    def trade_report(self, order: ScriptedOrder, trade: ScriptedTrade) -> ExecutionReport:
        report = super().trade_report(order, trade)
        return structs.replace(report, client_order_id=None) if self.nameless else report

    def restart(self) -> None:
        """Number trades from 0 again."""
        self._trades = itertools.count()

    def misreport(self, name: str, status: str) -> None:
        """Report the end of an order that stays open, as `canceled` or `expired`."""
        ended = replace(self.order(name), status=OrdStatus(status.upper()), changed_ns=self._now_ns())
        self.trace("venue", f"{name} is reported as {ended.status}, and stays open")
        self.publish(self.report_of(ended, ExecType(status.upper())))

    def hide(self, name: str) -> None:
        """Show an order in no query."""
        self.hidden.add(name)

    def unhide(self, name: str) -> None:
        """Show an order again."""
        self.hidden.discard(name)

    def _seen_by(self, query: str) -> ScriptedOrders:
        return tuple(order for order in super()._seen_by(query) if query == "trades" or order.id not in self.hidden)

    def forget(self, name: str) -> None:
        """End an order without a report; no query shows it any more."""
        self._change(self.order(name), status=OrdStatus.CANCELED)
        self.hide(name)
        self.trace("venue", f"{name} is forgotten")

    def trigger(self, name: str, *reports: str) -> None:
        """Trigger a stop: a new order under the same client order id takes its place.

        Args:
            name: The exchange order id of the stop.
            reports: The reports, in this order: `triggered`, `expired` and `canceled` are about the stop, `new` and
                `replaced` about the new order.
        """
        ended = OrdStatus.CANCELED if "canceled" in reports else OrdStatus.EXPIRED
        stop = self._change(self.order(name), status=ended)
        number = len(self.orders)
        made = self.orders[number] = replace(stop, number=number, id=f"#{number}", status=OrdStatus.NEW)
        self.trace("venue", f"{stop.id} triggers as {made.id}")
        for kind in reports:
            about = made if kind in ("new", "replaced") else stop
            self.publish(self.report_of(about, ExecType(kind.upper())))

    def mirror(self, name: str, other: str) -> None:
        """Report a triggered stop as FILLED with the filled quantity of the order that took its place."""
        report = self.report_of(self.order(name), ExecType.ORDER_STATUS)
        total = {"ord_status": OrdStatus.FILLED, "cum_qty": self.order(other).cum_qty, "exec_id": f"mirror-{name}"}
        self.publish(structs.replace(report, **total))

    def unhalt(self) -> None:
        """Resume trading in the symbol."""
        self.symbol = structs.replace(self.symbol, status=SymbolStatus.TRADING)
        self.script.refusal = None

    def number_reports(self) -> None:
        """Number the reports from now on, and repeat at each connect those that the kernel has not recorded."""
        self.numbered = []

    def publish(self, report: ExecutionReport) -> None:
        if self.numbered is not None:
            self.numbered.append(report)
        super().publish(report)

    def unrecorded(self) -> list[ExecutionReport]:
        """The numbered reports beyond the adapter's cursor."""
        return (self.numbered or [])[self.cursor :]

    def note_recorded(self, report: ExecutionReport) -> None:
        """Move the adapter's cursor over the unbroken prefix of recorded reports."""
        before = self.cursor
        self._recorded |= {number for number, known in enumerate(self.numbered or ()) if known is report}
        while self.cursor in self._recorded:
            self.cursor += 1
        if self.cursor > before:
            self.trace("venue", f"the adapter's cursor is at report {self.cursor}")


class TranscriptVenue(ScriptedVenue):
    """The connection of a process that a script stops, continues and kills."""

    def __init__(self, exchange: TranscriptExchange, label: str) -> None:
        super().__init__(exchange, label)
        self.numbering = exchange
        self.before_write: Callable[[str], None] = lambda operation: None
        """Called with the operation when a request is about to leave, after the kernel's last check."""
        self.may_run = asyncio.Event()
        """Cleared while the kernel's process is paused."""
        self.audit: Callable[[str], None] = lambda client_order_id: None
        """Called with the client order id of each submit and cancel request."""
        self._late_writes: set[asyncio.Task[None]] = set()

    async def connect(self) -> None:
        await super().connect()
        for report in self.numbering.unrecorded():
            self.receive(report)

    def kill(self) -> None:
        self.may_run.set()
        super().kill()

    async def reports(self) -> AsyncIterator[ExecutionReport]:
        async for report in super().reports():
            await self.may_run.wait()
            yield report
        await self.may_run.wait()

    def recorded(self, report: ExecutionReport) -> None:
        if not self.dead:
            self.numbering.note_recorded(report)

    async def _call(
        self,
        operation: str,
        subject: str,
        execute: Callable[[int | None], Answer],
        *,
        valid_until_ns: int | None = None,
    ) -> Answer:
        self.before_write(operation)
        try:
            answer = await super()._call(operation, subject, execute, valid_until_ns=valid_until_ns)
        except VenueError:
            await self.may_run.wait()
            raise
        await self.may_run.wait()
        return answer

    def _write(self, message: Message) -> None:
        """Write now, or when the paused process resumes, before its timers fire: it was paused after its last check."""
        if self.may_run.is_set():
            super()._write(message)
            return

        async def write() -> None:
            await self.may_run.wait()
            if not self.dead:
                super(TranscriptVenue, self)._write(message)

        task = asyncio.get_running_loop().create_task(write())
        self._late_writes.add(task)
        task.add_done_callback(self._late_writes.discard)

    async def submit(self, request: SubmitRequest) -> ExecutionReport:
        self.audit(request.client_order_id)
        return await super().submit(request)

    async def cancel(self, request: CancelRequest) -> ExecutionReport:
        self.audit(request.client_order_id)
        return await super().cancel(request)
