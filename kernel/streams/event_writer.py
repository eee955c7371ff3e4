"""Appends facts that the venue reported and verdicts of the leader. Called by the reconciler and the controller.

Facts are appended at any version and by anyone; a known fact makes no event, and a report that arrives twice is one
command. Attempts and verdicts carry the epoch, so a replaced leader is fenced. After an append the writer waits for the
fold.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial

import msgspec

from kernel import events
from kernel.clock import Clock, IdFactory
from kernel.errors import ConflictError, KernelError
from kernel.lifecycle.attribution import trade_reports
from kernel.lifecycle.decide_report import decide_report
from kernel.lifecycle.evolve import evolve
from kernel.lifecycle.order_identity import OrderMatch, life_margin_ns
from kernel.lifecycle.orders.order_facts import OrderFacts
from kernel.lifecycle.orders.order_status import TERMINAL
from kernel.lifecycle.orders.trigger_chain import keeps_closed
from kernel.lifecycle.record import Record
from kernel.log.base import Append, Appended, EventLog, Write
from kernel.metrics import Metrics
from kernel.models import Evidence, ExecType
from kernel.state import KernelState
from kernel.streams.rehydration import ensure_loaded
from kernel.streams.report_matching import match_report
from kernel.venues.base import ExecutionReport, VenueCapabilities

logger = logging.getLogger(__name__)

RECONCILER = "reconciler"
"""Actor of attempts and verdicts."""


class ReportSource(msgspec.Struct, frozen=True):
    """The source of reports."""

    actor: str
    evidence: Evidence
    began_ns: int | None = None
    """When the query began that returned them."""
    reflects_ns: int | None = None
    """Until when the query includes everything that was recorded."""
    confirm_all_ends: bool = False
    """The capability of the venue."""
    attempt_position: int | None = None
    """Position of the attempt that they answer."""
    reopens_until_ns: int | None = None
    """A stop that triggered later is not reopened by a query that shows it open; None if any is."""
    life_margin_ns: int | None = None
    """See `order_identity.life_margin_ns`."""


def stream_source(actor: str, capabilities: VenueCapabilities, *, attempt_position: int | None = None) -> ReportSource:
    """Return the source of the reports of the stream, or of the answer to an attempt."""
    return ReportSource(
        actor,
        Evidence.STREAM,
        attempt_position=attempt_position,
        confirm_all_ends=capabilities.confirm_all_ends,
        life_margin_ns=life_margin_ns(capabilities),
    )


def query_source(actor: str, began_ns: int, capabilities: VenueCapabilities, *, lead_ns: int) -> ReportSource:
    """Return the source of the reports of a status query that began at an instant, on a host whose clock is ahead."""
    lag_ns = capabilities.read_lag.longest_ns + capabilities.hosts_skew_ns
    return ReportSource(
        actor,
        Evidence.QUERY,
        began_ns=began_ns,
        reopens_until_ns=0 if capabilities.trigger_parent_stays_listed else began_ns - lead_ns - lag_ns,
        reflects_ns=capabilities.reflects_ns(began_ns - lead_ns),
        confirm_all_ends=capabilities.confirm_all_ends,
        life_margin_ns=life_margin_ns(capabilities),
    )


class EventWriter:
    """Appends events and waits until they are folded."""

    def __init__(self, log: EventLog, state: KernelState, *, clock: Clock, ids: IdFactory, metrics: Metrics) -> None:
        self._log = log
        self._state = state
        self._clock = clock
        self._ids = ids
        self._metrics = metrics

    async def append(
        self,
        stream_id: str,
        new_events: Sequence[events.BaseEvent],
        *,
        actor: str,
        evidence: Evidence,
        expected_version: int | None = None,
        epoch: int | None = None,
        command_id: bytes | None = None,
        causation_position: int | None = None,
        is_fact: bool = False,
        elects: bool = False,
        also: Sequence[Write] = (),
    ) -> Appended:
        """Append events to a stream and return once they are folded; `also` is appended, or must hold, with them."""
        command = Append(
            command_id=command_id or self._ids.command_id(self._clock.now_ns()),
            writes=(
                Write(stream_id, tuple(new_events), expected_version),
                *group_writes(self._state, stream_id, new_events),
                *also,
            ),
            actor=actor,
            evidence=evidence,
            correlation_id=self._correlation_id(stream_id),
            causation_position=causation_position,
            epoch=epoch,
            is_fact=is_fact,
            elects=elects,
        )
        return await append_and_fold(self._log, self._state, command, clock=self._clock, metrics=self._metrics)

    async def append_unless_changed(
        self,
        stream_id: str,
        new_events: Sequence[events.BaseEvent],
        *,
        evidence: Evidence,
        expected_version: int,
        epoch: int,
        causation_position: int | None = None,
        also: Sequence[Write] = (),
    ) -> Appended | None:
        """Append an attempt or a verdict of the leader; None if the stream changed meanwhile.

        Raises `FencedError` if a newer leader was elected.
        """
        try:
            return await self.append(
                stream_id,
                new_events,
                actor=RECONCILER,
                evidence=evidence,
                expected_version=expected_version,
                epoch=epoch,
                causation_position=causation_position,
                also=also,
            )
        except ConflictError:
            return None

    def _correlation_id(self, stream_id: str) -> str | None:
        """Return the correlation id of the command that created an intent or a group."""
        if stream_id.startswith(events.GROUP_STREAM_PREFIX):
            group = self._state.group(stream_id.removeprefix(events.GROUP_STREAM_PREFIX))
            stream_id = events.intent_stream(group.intent_ids[0]) if group is not None else stream_id
        if not stream_id.startswith(events.INTENT_STREAM_PREFIX):
            return None
        return self._state.record(stream_id.removeprefix(events.INTENT_STREAM_PREFIX)).correlation_id

    async def match(self, report: ExecutionReport, source: ReportSource) -> OrderMatch:
        """Return to which intent a report belongs."""
        return await match_report(self._log, self._state, report, margin_ns=source.life_margin_ns)

    async def orders_under(self, exchange_order_id: str) -> list[tuple[str, OrderFacts]]:
        """Return each order that an intent has under a venue order id, with the intent, evicted or not."""
        state, names = self._state, [*self._state.intent_ids_of_order(exchange_order_id)]
        if state.evicted_count:
            names += await self._log.intent_ids_of(exchange_order_id=exchange_order_id, upto=state.position)
            await ensure_loaded(self._log, state, *names)
        records = map(state.record, dict.fromkeys(names))
        return [
            (record.intent_id, facts)
            for record in records
            for facts in (*record.settled.under(exchange_order_id), *record.orders)
            if facts.exchange_order_id == exchange_order_id
        ]

    async def report(self, intent_id: str, reports: Sequence[ExecutionReport], source: ReportSource) -> None:
        """Append the new facts in reports about one intent's orders."""
        await ensure_loaded(self._log, self._state, intent_id)
        record = self._state.record(intent_id)
        appends = []
        for report in (*self._trades_known_as_external(record, reports, source.life_margin_ns), *reports):
            if is_stop_still_shown(record, report, source):
                continue
            made = decide_report(
                record,
                report,
                now_ns=self._clock.now_ns(),
                began_ns=source.began_ns,
                reflects_ns=source.reflects_ns,
                confirm_all_ends=source.confirm_all_ends,
                attempt_position=source.attempt_position,
                life_margin_ns=source.life_margin_ns,
            )
            for event in made:
                record = evolve(record, event)
            if made:
                appends.append(partial(self._fact, intent_id, made, report, source))
        await asyncio.gather(*(append() for append in appends))

    def _trades_known_as_external(
        self, record: Record, reports: Iterable[ExecutionReport], margin_ns: int | None
    ) -> Iterable[ExecutionReport]:
        """Yield the trades of orders that these reports show to be the intent's, and that were recorded as external.

        Where order ids are given again, those of before its send are another order's.
        """
        known = {facts.exchange_order_id for facts in record.orders}
        for report in reports:
            if record.settled.under(report.exchange_order_id or ""):
                continue
            order = self._state.external_order_of(report)
            if order is None or order.exchange_order_id in known or report.client_order_id is None:
                continue
            known.add(order.exchange_order_id)
            trades = self._state.external_trades(order)
            if margin_ns is not None:
                sent = [item.stamp_ns for item in record.attempts if item.client_order_id == report.client_order_id]
                trades = [entry for entry in trades if sent and entry.time_ns >= min(sent) - margin_ns]
            if (side := report.side or order.side) is not None:
                yield from trade_reports(report, trades, side)

    async def _fact(
        self, intent_id: str, made: list[events.BaseEvent], report: ExecutionReport, source: ReportSource
    ) -> Appended:
        appended = await self.append(
            events.intent_stream(intent_id),
            made,
            actor=source.actor,
            evidence=source.evidence,
            command_id=report_command_id(intent_id, report),
            causation_position=source.attempt_position,
            is_fact=True,
        )
        if not appended.duplicate:
            self._metrics.fills.inc(sum(isinstance(event, events.OrderFilled) for event in made))
        return appended

    async def external(
        self,
        report: ExecutionReport,
        source: ReportSource,
        *,
        also: Sequence[events.BaseEvent] = (),
        found: OrderMatch,
        epoch: int,
        unchanged: Sequence[Write] = (),
    ) -> None:
        """Append a report of an external order, with `also`, and mark the orders that it may be about.

        Raises `ConflictError` unless the streams have the versions in `unchanged`, and `FencedError` to a replaced leader:
        its state may lack the order that the report is about, so that it would be external for it alone.
        """
        fields = {name: getattr(report, name) for name in EXTERNAL_FIELDS}
        await self.append(
            events.VENUE_STREAM,
            [events.ExternalOrderObserved(**fields, id_reused=True if found.reused else None), *also],
            actor=source.actor,
            evidence=source.evidence,
            epoch=epoch,
            command_id=report_command_id("", report),
            is_fact=True,
            also=(*unchanged, *doubts(report, found.candidates)),
        )

    async def caught_up(self) -> None:
        """Return once the whole log is folded."""
        head = await self._log.head()
        await self._state.reached(head.position)


async def append_and_fold(
    log: EventLog, state: KernelState, append: Append, *, clock: Clock, metrics: Metrics
) -> Appended:
    """Append events, measured, and return once they are folded."""
    began_ns = clock.now_ns()
    try:
        appended = await log.append(append)
    except BaseException as problem:
        metrics.appended(clock.now_ns() - began_ns, problem)
        raise
    metrics.appended(clock.now_ns() - began_ns)
    await state.reached(appended.last_position)
    return appended


def is_stop_still_shown(record: Record, report: ExecutionReport, source: ReportSource) -> bool:
    """Return whether a query shows a stop open that has triggered: the answer may be older, or the venue lists it on."""
    if (
        source.reopens_until_ns is None
        or report.exec_type is not ExecType.ORDER_STATUS
        or report.ord_status in TERMINAL
    ):
        return False
    return keeps_closed(record.orders, report.exchange_order_id, reopens_until_ns=source.reopens_until_ns)


def doubts(report: ExecutionReport, orders: Sequence[tuple[str, OrderFacts]]) -> list[Write]:
    """Return the writes that mark orders which a report of an external order may be about."""
    marks = [
        events.OrderStateObserved(
            intent_id=intent_id,
            symbol_id=facts.order.symbol_id,
            client_order_id=facts.client_order_id or None,
            exchange_order_id=facts.exchange_order_id,
            exec_type=ExecType.ORDER_STATUS,
            in_doubt=True,
            text=f"the {report.exec_type} report of {report.fill_key or report.exec_id or 'its id'} may be about it",
        )
        for intent_id, facts in orders
    ]
    return [Write(events.intent_stream(mark.intent_id), (mark,)) for mark in marks]


def group_writes(state: KernelState, stream_id: str, new_events: Sequence[events.BaseEvent]) -> tuple[Write, ...]:
    """Return the write to a group's stream for changed fills of a member, in the same append as the fill (H19)."""
    if not stream_id.startswith(events.INTENT_STREAM_PREFIX):
        return ()
    intent_id = stream_id.removeprefix(events.INTENT_STREAM_PREFIX)
    if (group := state.group_of(intent_id)) is None:
        return ()
    before = after = state.record(intent_id)
    for event in new_events:
        after = evolve(after, event)
    if after.cum_qty == before.cum_qty:
        return ()
    updated = events.GroupUpdated(group_id=group.group_id, intent_id=intent_id, cum_qty=after.cum_qty)
    return (Write(events.group_stream(group.group_id), (updated,)),)


async def log_reports(work: Callable[[], Awaitable[object]], what: str) -> None:
    """Await an append, and only log its failure."""
    try:
        await work()
    except KernelError as problem:
        logger.warning("cannot record %s: %s", what, problem)


EXTERNAL_FIELDS = (
    "symbol_id", "client_order_id", "exchange_order_id", "exec_type", "exec_id", "side", "fill_key", "last_qty",
    "last_px", "order_qty", "price", "transact_time_ns", "raw", "ord_status", "cum_qty", "fee", "fee_asset",
    "fees", "ref_fill_key", "order_created_ns",
)  # fmt: skip


def report_command_id(intent_id: str, report: ExecutionReport) -> bytes | None:
    """Return the same command id for the same report; None if the report has no identity."""
    if report.exec_id is None and report.fill_key is None:
        return None
    parts = (
        intent_id, report.symbol_id, report.exec_type, report.fill_key or report.exec_id, report.exchange_order_id,
        report.last_qty, report.last_px, report.fee, *sorted((report.fees or {}).items()), report.side,
        report.client_order_id, report.transact_time_ns,
    )  # fmt: skip
    return hashlib.sha256("\n".join(map(str, parts)).encode()).digest()[:16]
