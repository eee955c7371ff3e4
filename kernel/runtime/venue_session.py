"""The leader's session with the venue: connects, records reports, relists periodically, and reconnects.

Run by `Leader`. Reports are recorded as facts as they arrive. A relist queries open orders, trades and balances, and its
reports are recorded the same way. The trades cursor moves only with complete trades queries, which overlap (H16). An order
missing from a list is queried, or closed by the rules of H15.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import compress
from typing import Any

import msgspec

from kernel import events
from kernel.actions import Priority
from kernel.clock import NS_PER_MS, Clock, IdFactory, wait_for
from kernel.errors import Rejected, VenueError
from kernel.lifecycle.order_identity import OrderMatch, shows
from kernel.lifecycle.orders.order_facts import OrderFacts
from kernel.lifecycle.record import Record
from kernel.metrics import Metrics, Operation, RelistResult, value_of
from kernel.models import Evidence, FindingKind, LookScope
from kernel.order_spec import STOPPED
from kernel.reconciler.status_answer import LIST_SCOPES, StatusAnswer, missed_events
from kernel.reconciler.status_query import Answer, answer_within, status_id
from kernel.reconciler.venue_reconciler import VenueReconciler
from kernel.runtime import trades_scope
from kernel.runtime.account_drift import drift_events, transfer_events
from kernel.runtime.external_orders import ExternalOrders
from kernel.runtime.finding_writer import FindingWriter
from kernel.runtime.reference_data import Listing, ReferenceData
from kernel.runtime.stream_watch import StreamStep, StreamWatch
from kernel.runtime.venue_clock import VenueClock
from kernel.safety.readiness import VENUE_CLOCK, VENUE_CONNECTED, VENUE_SNAPSHOT_COMPLETE, Readiness
from kernel.settings import KernelSettings, ns
from kernel.state import KernelState
from kernel.streams.event_writer import EventWriter, ReportSource, query_source, stream_source
from kernel.streams.report_matching import parts_of
from kernel.values import as_json
from kernel.venues.base import ExecutionReport, VenueSnapshot, all_complete
from kernel.venues.guard import AdapterDefect, AdapterError

logger = logging.getLogger(__name__)

REPORTS_MAX = 10_000
"""Reports that may wait to be recorded; reading of the stream pauses at this number."""

INTENTS_AT_ONCE = 256
"""Intents whose reports are recorded concurrently: enough for large commits, few enough to bound memory."""


UNNAMED_MAX = 20
"""External orders that are queried by themselves after one list, at most."""

RESTARTED_AFTER = frozenset({"submit", "submit_group", "modify", "cancel"})
"""Calls whose defect may have damaged the adapter's session. A defect in `reports` ends the stream by itself."""


class SessionEnd(msgspec.Struct, frozen=True):
    """Why a session ended, as the condition shows it."""

    reason: str
    message: str = ""


STREAM_SILENT = SessionEnd("StreamSilent", "the stream of reports is connected, and does not bring what it should")
STREAM_ENDED = SessionEnd("StreamEnded", "the stream of reports ended")


@dataclass(eq=False)
class VenueSession:
    """One leader's connection to one venue, without the orders' requests."""

    state: KernelState
    writer: EventWriter
    findings: FindingWriter
    reconciler: VenueReconciler
    readiness: Readiness
    clock: Clock
    ids: IdFactory
    settings: KernelSettings
    metrics: Metrics
    latency_ms: int | None = field(default=None, init=False)
    error_count: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.venue = self.reconciler.venue
        self.venue.on_defect = self._note_defect
        self._limiter = self.reconciler.limiter
        self._external = ExternalOrders(
            self.state,
            self.writer,
            self.venue,
            clock=self.clock,
            settings=self.settings,
            on_fenced=self.reconciler.on_fenced,
        )
        self._reference_known = asyncio.Event()
        """Set once symbols are known and were compared with the log, in each session."""
        self._reference = ReferenceData(
            self.state, self.writer, self.venue, self.findings, self._list_reference, self.settings.symbols
        )
        self._watch = StreamWatch(
            ns(self.settings.stream_echo_s),
            ns(self.settings.relist_interval_s / 4),
            ns(self.settings.stream_quiet_s),
            ns(self.settings.relist_interval_s),
        )
        self._watch_changed = asyncio.Event()
        self._silence = STREAM_SILENT
        """Why the stream is silent, if it is."""
        self.venue.on_answer = self._note_answer
        ask_time = partial(self._query, Operation.CONNECT)
        self.venue_clock = VenueClock(self.venue, self.findings, self.readiness, self.clock, ask_time)
        self.reconciler.record_with(self.ingest)
        self._relist_requested = asyncio.Event()
        self._ended: asyncio.Future[SessionEnd] | None = None
        """Why the running session must end; None without one."""
        self._listed: frozenset[str | None] = frozenset()
        """Venue order ids in the newest list of open orders since the connect."""
        self._vanished: set[tuple[str, str]] = set()
        """Intents and venue order ids that the newest lists lacked, without a word of the stream since."""
        self._recorded_capabilities: dict[str, Any] = {}
        """The venue's capabilities as last recorded by this leader."""

    def known_capabilities(self) -> dict[str, Any]:
        """Return the venue's capabilities as JSON; empty for a venue that knows them only once connected."""
        try:
            self._recorded_capabilities = as_json(self.venue.capabilities)
        except VenueError:
            self._recorded_capabilities = {}
        return self._recorded_capabilities

    async def run(self, epoch: int) -> None:
        """Keep a session with the venue as the leader of an epoch, until canceled."""
        self._external.epoch = epoch
        failures = 0
        self.metrics.relisted_ns = self.clock.now_ns()
        try:
            while True:
                began_ns, refusal = self.clock.now_ns(), None
                try:
                    end = await self._one_session(epoch)
                except VenueError as problem:
                    refusal = problem
                    self.error_count += 1
                    reason = "AdapterError" if isinstance(problem, AdapterError) else "ConnectFailed"
                    end = SessionEnd(reason, str(problem))
                lasted = self.clock.now_ns() - began_ns > ns(self.settings.reconnect_s_max)
                failures = 0 if end == STREAM_ENDED or lasted else failures + 1
                self._lost(end)
                await self._pause(failures, refusal)
        finally:
            self.metrics.relisted_ns = None
            self._lost(SessionEnd("NotLeading"))
            await self.venue.close()

    def _lost(self, end: SessionEnd) -> None:
        waiting = "waiting for a complete snapshot after connecting"
        self.readiness.set(VENUE_CONNECTED, False, end.reason, end.message)
        self.readiness.set(VENUE_SNAPSHOT_COMPLETE, False, end.reason, waiting)
        self.readiness.set(VENUE_CLOCK, True, "NotCompared")

    async def _pause(self, failures: int, problem: VenueError | None = None) -> None:
        """Wait before the next try, ever longer, and as long as the venue says."""
        longest = min(self.settings.reconnect_s_max, self.settings.reconnect_s_min * 2 ** min(failures, 20))
        delay_s = longest * (0.5 + 0.5 * self.ids.fraction())
        if isinstance(problem, Rejected):
            delay_s = max(delay_s, problem.retry_after_s or 0)
        await self.clock.sleep_until(self.clock.now_ns() + ns(delay_s))

    def _note_defect(self, defect: AdapterDefect) -> None:
        """Raise a finding for a defect of the adapter. A new one restarts the session: its state may be damaged too."""
        self.error_count += 1
        is_new = self.findings.raise_finding(FindingKind.ADAPTER_ERROR, defect.name, str(defect))
        if is_new and defect.call in RESTARTED_AFTER:
            self._end(SessionEnd("AdapterError", str(defect)))

    def _end(self, end: SessionEnd) -> None:
        """End the running session, so that the next one begins."""
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(end)

    async def _one_session(self, epoch: int) -> SessionEnd:
        """Run one session until it ends; return why. The stream is read before the first query is sent."""
        await self._query(Operation.CONNECT, self.venue.connect)
        if value_of(self.metrics.connects):
            self.metrics.reconnects.inc()
        self.metrics.connects.inc()
        self._limiter.declare()
        await self._record_capabilities(epoch)
        self.readiness.set(VENUE_CONNECTED, True, "Connected")
        self._ended = asyncio.get_running_loop().create_future()
        self._silence = STREAM_SILENT
        self._watch.connected(self.clock.now_ns(), heartbeat_ns=self.venue.capabilities.heartbeat_ns)
        self._reference_known.clear()
        self._listed = frozenset()
        self._vanished.clear()
        queue: asyncio.Queue[ExecutionReport | None] = asyncio.Queue(REPORTS_MAX)
        listening = asyncio.create_task(self._listen(queue), name="venue-stream")
        recording = asyncio.create_task(self._record_reports(queue), name="venue-reports")
        relisting = asyncio.create_task(self._relist_forever(), name="venue-relist")
        refreshing = asyncio.create_task(self._refresh_forever(), name="venue-reference")
        comparing = asyncio.create_task(self.venue_clock.run(), name="venue-clock")
        watching = asyncio.create_task(self._watch_stream(), name="venue-watch")
        tasks = [listening, recording, relisting, refreshing, comparing, watching]
        try:
            ends: list[asyncio.Future[Any]] = [self._ended, recording, relisting, refreshing]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for task in (recording, relisting, refreshing):
                if task.done():
                    task.result()
            if not recording.done() and self._reference_known.is_set():
                listening.cancel()  # but an append that is under way is awaited, so that no report is recorded twice (H26)
                await queue.put(None)
                await recording
            return self._ended.result() if self._ended.done() else STREAM_ENDED
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._ended = None
            await self.venue.close()

    async def _query(self, operation: Operation, query: Callable[[], Awaitable[Answer]], *, symbols: int = 0) -> Answer:
        """Send a query when the rate limit permits, at the lowest priority."""
        await self._limiter.wait_for_capacity(Priority.RESYNC, operation, symbols=symbols)
        with (
            self._limiter.permitted(Priority.RESYNC, operation, symbols=symbols) as permit,
            self._limiter.calling(permit),
            self.metrics.calling(operation, self.clock),
        ):
            return await answer_within(self.settings.query_timeout_s, query())

    async def _record_capabilities(self, epoch: int) -> None:
        """Record new capabilities before any decision uses them, so that a replay needs no settings."""
        recorded = self._recorded_capabilities
        known = self.known_capabilities()
        if known != recorded:
            await self.writer.append(
                events.CONTROL_STREAM,
                [events.CapabilitiesChanged(capabilities=known)],
                actor="kernel",
                evidence=Evidence.QUERY,
                epoch=epoch,
            )

    async def _listen(self, queue: asyncio.Queue[ExecutionReport | None]) -> None:
        """Read the stream to its end. A failed stream ends the session once its reports are recorded."""
        try:
            async for report in self.venue.reports():
                self._limiter.note_polled()
                self._note_heard(is_report=report is not None)
                if report is not None:
                    await queue.put(report)
        except AdapterError as problem:
            self._silence = SessionEnd("AdapterError", str(problem))
            self._report_silence()
            self._watch.failed(self.clock.now_ns())
            self._watch_changed.set()
            return  # the session goes on without its stream, if it was reconnected for this just before
        except VenueError as problem:
            logger.warning("the report stream failed: %s", problem)
        if not self._reference_known.is_set():
            self._end(STREAM_ENDED)  # nothing is recorded yet, and over a lost connection nothing may ever be known
        await queue.put(None)

    def _note_heard(self, *, is_report: bool) -> None:
        self._watch.heard(self.clock.now_ns(), is_report=is_report)
        if is_report:
            self._vanished.clear()
        if not self._watch.silent:
            self.findings.resolve(
                FindingKind.STREAM_SILENT, self.state.exchange_id, "the stream brought what it should"
            )

    def _report_silence(self) -> None:
        self.findings.raise_finding(FindingKind.STREAM_SILENT, self.state.exchange_id, self._silence.message)

    def _note_answer(self) -> None:
        self._watch.answered(self.clock.now_ns())
        self._watch_changed.set()

    async def _watch_stream(self) -> None:
        """Query the account while the stream lacks what it should bring; reconnect if the query shows that it does."""
        while True:
            now_ns, due_ns = self.clock.now_ns(), self._watch.due_ns()
            if due_ns is not None and now_ns >= due_ns:  # the live intents are many: not after each answer
                match self._watch.step(now_ns, has_orders=bool(self.state.live_intent_ids())):
                    case StreamStep.PROBE:
                        self.relist_now()
                    case StreamStep.SILENT:
                        self._report_silence()
                        self._end(self._silence)
            self._watch_changed.clear()
            await wait_for(self.clock, event=self._watch_changed, due_ns=self._watch.due_ns())

    async def _record_reports(self, queue: asyncio.Queue[ExecutionReport | None]) -> None:
        """Record reports in batches of those waiting, until the stream ends.

        The adapter is informed of each report once: it is durable, was known, or makes no event (H26). After a failed
        append it is not, and a new leader folds the log to its head before it reads the stream again.
        """
        source = stream_source(f"venue:{self.state.exchange_id}", self.venue.capabilities)
        await self._reference_known.wait()
        while True:
            batch = [await queue.get()]
            while not queue.empty():
                batch.append(queue.get_nowait())
            reports = [report for report in batch if report is not None]
            if reports:
                self.metrics.reports.inc(len(reports))
                self.metrics.heard_ns = self.clock.now_ns()
            # A quarantine may be lifted meanwhile: what it left out is not recorded.
            fitting = [(report, shown) for report in reports if (shown := self.venue.fitting(report)) is not None]
            await self.ingest([shown for _, shown in fitting], source)
            for report, _ in fitting:
                self.venue.recorded(report)
            if batch[-1] is None:
                return

    async def ingest(self, reports: Iterable[ExecutionReport], source: ReportSource) -> bool:
        """Record new reports in their intents' streams, or as external orders; return whether an order of ours changed."""
        changed = False
        for part in parts_of(reports, margin_ns=source.life_margin_ns):
            changed |= await self._ingest_part(part, source)
        return changed

    async def _ingest_part(self, reports: Sequence[ExecutionReport], source: ReportSource) -> bool:
        ours: dict[str, list[ExecutionReport]] = defaultdict(list)
        external: list[tuple[ExecutionReport, OrderMatch]] = []
        for report in reports:
            found = await self.writer.match(report, source)
            if found.intent_id is None:
                external.append((report, found))
                continue
            ours[found.intent_id].append(report)
            await self._external.report_reuse(report, found, source)
        before = {intent_id: progress(self.state.record(intent_id)) for intent_id in ours}
        work = [partial(self._ingest_one, intent_id, items, source) for intent_id, items in ours.items()]
        if external:
            work.append(partial(self._external.ingest, external, source))
        for begin in range(0, len(work), INTENTS_AT_ONCE):
            await asyncio.gather(*(ingest() for ingest in work[begin : begin + INTENTS_AT_ONCE]))
        return any(progress(self.state.record(intent_id)) != known for intent_id, known in before.items())

    async def _ingest_one(self, intent_id: str, reports: Sequence[ExecutionReport], source: ReportSource) -> None:
        with self.venue.noting_unreadable() as noted:
            await self.writer.report(intent_id, reports, source)
        if noted and len(reports) > 1:  # the others count all the same
            for report in reports:
                await self._ingest_one(intent_id, [report], source)

    def relist_now(self) -> None:
        """Relist without waiting for the next interval."""
        self._relist_requested.set()

    async def _relist_forever(self) -> None:
        await self._reference_known.wait()
        failures = 0
        while True:
            self._relist_requested.clear()  # one that comes meanwhile may be for what this list lacks
            refusal = None
            try:
                complete = await self.relist()
                self.metrics.relists.labels(RelistResult.COMPLETE if complete else RelistResult.INCOMPLETE).inc()
            except VenueError as problem:
                complete, refusal = False, problem
                self.metrics.relists.labels(RelistResult.FAILED).inc()
                self.error_count += 1
                logger.warning("relisting failed, retrying: %s", problem)
                if not self.readiness[VENUE_SNAPSHOT_COMPLETE].status:
                    self.readiness.set(VENUE_SNAPSHOT_COMPLETE, False, "QueryFailed", str(problem))
            failures = 0 if complete else failures + 1
            if not complete:
                await self._pause(failures, refusal)
                continue
            due_ns = self.clock.now_ns() + ns(self.settings.relist_interval_s)
            await wait_for(self.clock, event=self._relist_requested, due_ns=due_ns)

    async def _refresh_forever(self) -> None:
        """Query the reference data at once, then slowly; a failure delays only what is new in them."""
        failures = 0
        while True:
            refusal = None
            try:
                changed = await self._reference.sync()
                failures = 0
            except VenueError as problem:
                changed, refusal = False, problem
                failures += 1
                self.error_count += 1
                logger.warning("querying symbols and assets failed, retrying: %s", problem)
            if any(self.state.symbols()):
                self._reference_known.set()
            if changed:
                self.reconciler.resync()
                self.relist_now()  # it brings the trades that a quarantine left out
            if failures:
                await self._pause(failures, refusal)
                continue
            due_ns = self.clock.now_ns() + ns(self.settings.reference_interval_s)
            while (now_ns := self.clock.now_ns()) < due_ns:
                await self.clock.sleep_until(min(due_ns, now_ns + ns(self.settings.relist_interval_s)))
                if self._reference.is_urgent:
                    break

    async def _list_reference(self) -> Listing:
        assets = await self._query(Operation.ASSETS, self.venue.assets)
        return assets, await self._query(Operation.SYMBOLS, self.venue.symbols)

    async def relist(self) -> bool:
        """Query open orders, trades and balances, record what is new, and return whether the answer was complete."""
        symbols = self.state.intent_symbols()
        since_ns = self._trades_since_ns(symbols)
        lead_ns = self.venue_clock.lead_ns()
        snapshot = await self._snapshot(since_ns, symbols)
        self._watch.listed(self.clock.now_ns())
        lead_ns = max(lead_ns, self.venue_clock.lead_ns())
        # Trades are listed by the venue's time: a cursor ahead of it would pass over trades, as over what is left out.
        left_out = self.venue.quarantined  # it may be lifted meanwhile
        cursor_ns = None if left_out else snapshot.began_ns - lead_ns
        capabilities = self.venue.capabilities
        self.latency_ms = (snapshot.ended_ns - snapshot.began_ns) // NS_PER_MS
        source = query_source(f"venue:{self.state.exchange_id}", snapshot.began_ns, capabilities, lead_ns=lead_ns)
        await self._ingest_found((*snapshot.fills, *snapshot.open_orders), source)
        if moved := transfer_events(self.state, snapshot.transfers):
            await self._fact(events.VENUE_STREAM, moved)
        if not capabilities.lists_open_orders:
            await self._query_live_orders()
        elif snapshot.open_orders_complete:
            await self._close_missing(snapshot, source)
        await self._query_unnamed()
        await self._external.resolve_explained(source)
        await self._external.watch_dead(source)
        await self._record_snapshot(snapshot, since_ns, cursor_ns, symbols)
        complete = all_complete(snapshot, capabilities)
        if complete:
            await self._reference.lift(left_out)
            if found := drift_events(self.state, now_ns=self.clock.now_ns()):
                await self._fact(events.VENUE_STREAM, found)
            self.metrics.relisted_ns = self.clock.now_ns()
            self.readiness.set(VENUE_SNAPSHOT_COMPLETE, True, "SnapshotTaken")
        return complete

    async def _ingest_found(self, reports: Iterable[ExecutionReport], source: ReportSource) -> None:
        """Record what a query shows; the stream should have brought it, if it happened since the connect."""
        # The first snapshot shows what changed before, that after a quarantine what the stream's reports lacked.
        is_news = await self.ingest(reports, source) and not self._reference.is_lifting
        if is_news and self.readiness[VENUE_SNAPSHOT_COMPLETE].status:
            self._note_found()

    def _note_found(self) -> None:
        self._watch.found(self.clock.now_ns())
        self._watch_changed.set()

    async def _snapshot(self, since_ns: int, symbols: Sequence[str]) -> VenueSnapshot:
        """Query what the venue lists; nothing, where it lists nothing."""
        if self.venue.capabilities.lists_anything:
            query = partial(self.venue.snapshot, since_ns, symbols)
            return await self._query(Operation.SNAPSHOT, query, symbols=len(symbols))
        now_ns = self.clock.now_ns()
        return VenueSnapshot(complete=True, began_ns=now_ns, ended_ns=now_ns)

    async def _query_live_orders(self) -> None:
        """Query each live order by itself, where the venue does not list them."""
        for intent_id in self.state.live_intent_ids():
            for facts in self.state.record(intent_id).live_orders:
                await self._query_live_order(facts)

    async def _query_live_order(self, facts: OrderFacts) -> None:
        named = status_id(self.venue.capabilities, facts.client_order_id, facts.exchange_order_id)
        if named is None and not facts.exchange_order_id:
            return
        lead_ns = self.venue_clock.lead_ns()
        source = query_source(
            f"venue:{self.state.exchange_id}", self.clock.now_ns(), self.venue.capabilities, lead_ns=lead_ns
        )
        query = partial(self.venue.order, facts.order.symbol_id, named, facts.exchange_order_id or None)
        try:
            report = await self._query(Operation.ORDER, query)
        except VenueError as problem:
            if named is not None:
                raise
            # A venue that declares no query by client order id may have none by its own id either.
            logger.info("the status of order %s is not known: %s", facts.exchange_order_id, problem)
            return
        if report is not None:
            await self._ingest_found([report], source)

    async def _query_unnamed(self) -> None:
        """Query by the venue's id, once each, the newest orders that lists show as external without client order id.

        They may be ours: made by a copy of a request, or by the trigger of a stop, that the stream did not tell.
        """
        capabilities = self.venue.capabilities
        if capabilities.lists_client_ids:
            return
        unnamed = [
            order
            for order in self.state.external_orders()
            if not (order.client_order_id or order.queried) and (order.live or capabilities.lookup_closed)
        ]
        for order in unnamed[-UNNAMED_MAX:]:
            await self.reconciler.suspects.query_order(order, self._query_by_id)

    async def _query_by_id(self, symbol_id: str, exchange_order_id: str) -> ExecutionReport | None:
        return await self._query(Operation.ORDER, partial(self.venue.order, symbol_id, None, exchange_order_id))

    def _trades_since_ns(self, symbols: Sequence[str]) -> int:
        """Return the oldest cursor of what is asked for, minus the overlap, the query's lag and the clocks' skew.

        Raises a finding for each cursor that is older than what the venue still lists.
        """
        capabilities = self.venue.capabilities
        overlap_ns = ns(self.settings.trades_overlap_s) + capabilities.read_lag.trades_ns + capabilities.clock_skew_ns
        cursors = trades_scope.cursors(self.state, symbols)
        if capabilities.lists_trades:
            kept_ns = capabilities.trades_from_ns(self.clock.now_ns())
            for scope, from_ns in cursors.items():
                if from_ns < kept_ns:
                    name = f"{scope}:{trades_scope.utc(from_ns)}"
                    text = trades_scope.gap_text(scope, from_ns=from_ns, until_ns=kept_ns)
                    self.findings.raise_finding(FindingKind.TRADES_GAP, name, text)
        return max(0, min(cursors.values(), default=self.clock.now_ns()) - overlap_ns)

    async def _close_missing(self, snapshot: VenueSnapshot, source: ReportSource) -> None:
        """Record for each order that a complete list lacks that it was missed, or that its end is confirmed (H21, H22)."""
        capabilities = self.venue.capabilities
        lag_ns = capabilities.read_lag.open_orders_ns + capabilities.hosts_skew_ns + self.venue_clock.lead_ns()
        shown_before_ns = snapshot.began_ns - lag_ns
        await self._external.close_missing(snapshot, shown_before_ns=shown_before_ns, source=source)
        listed: dict[str | None, list[ExecutionReport]] = defaultdict(list)
        for report in snapshot.open_orders:
            listed[report.exchange_order_id].append(report)
        answer = StatusAnswer(
            (LookScope.OPEN_ORDERS,), snapshot.began_ns, snapshot.ended_ns, (), False, source.reflects_ns
        )
        work = []
        shown_before, self._listed = self._listed, frozenset(listed)
        self._note_ends_found()
        for intent_id in self.state.live_intent_ids():
            record = self.state.record(intent_id)
            for facts in record.orders:
                # The end of a stop that may have triggered needs the trades too: it is queried.
                triggers = capabilities.hides_triggered and facts.order.order_type in STOPPED
                asked = facts.live or (facts.unconfirmed_ns is not None and not triggers)
                is_listed = any(shows(record, facts, report) for report in listed.get(facts.exchange_order_id, ()))
                if not asked or is_listed or not snapshot.covers(facts.order):
                    continue
                if facts.live and facts.exchange_order_id in shown_before and not record.unresolved:
                    self._vanished.add((intent_id, facts.exchange_order_id))
                if made := missed_events(record, facts, answer, capabilities):
                    work.append(partial(self._record_missed, intent_id, made))
        for begin in range(0, len(work), INTENTS_AT_ONCE):
            await asyncio.gather(*(record_missed() for record_missed in work[begin : begin + INTENTS_AT_ONCE]))

    def _note_ends_found(self) -> None:
        """Note that the stream lacked the end of an order that vanished from the lists; of a ghost, no one knows an end."""
        for intent_id, order_id in [*self._vanished]:
            facts = next(
                (item for item in self.state.record(intent_id).orders if item.exchange_order_id == order_id), None
            )
            if facts is not None and facts.ended and facts.gone_ns is None:
                self._note_found()
            if facts is None or facts.ended or order_id in self._listed:
                self._vanished.discard((intent_id, order_id))

    async def _record_missed(self, intent_id: str, made: Sequence[events.BaseEvent]) -> None:
        await self._fact(events.intent_stream(intent_id), made)
        self.reconciler.query_soon(intent_id)

    async def _record_snapshot(
        self, snapshot: VenueSnapshot, since_ns: int, cursor_ns: int | None, symbols: Sequence[str]
    ) -> None:
        capabilities = self.venue.capabilities
        listed = snapshot.open_orders_complete and capabilities.lists_open_orders
        traded = snapshot.fills_complete and capabilities.lists_trades
        complete = (listed, traded, snapshot.balances is not None)
        taken = events.VenueSnapshotTaken(
            scopes=tuple(compress((*LIST_SCOPES, LookScope.BALANCES), complete)),
            complete=all_complete(snapshot, capabilities),
            began_ns=snapshot.began_ns,
            ended_ns=snapshot.ended_ns,
            trades_since_ns=since_ns,
            trades_cursor_ns=cursor_ns if traded else None,
            trades_symbols=trades_scope.covered(snapshot, symbols),
            open_orders=len(snapshot.open_orders) if listed else None,
            text=snapshot.text,
        )
        made: list[events.BaseEvent] = [taken]
        if snapshot.balances is not None:
            known = self.state.account().balances
            kept = {name: known[name] for name in self._reference.rescaled_assets & known.keys()}
            observed = events.BalancesObserved(
                balances=snapshot.balances | kept, began_ns=snapshot.began_ns, ended_ns=snapshot.ended_ns
            )
            made = [observed, *self._positions_observed(snapshot), taken]
        await self._fact(events.VENUE_STREAM, made)

    def _positions_observed(self, snapshot: VenueSnapshot) -> list[events.BaseEvent]:
        """Return the positions at a venue that has them; one that it does not list is flat."""
        if snapshot.positions is None:
            return []
        known = (item.symbol_id for item in self.state.positions())
        symbols = sorted({*snapshot.positions, *known, *self.state.position_drift()})
        return [
            events.PositionObserved(
                symbol_id=symbol_id, quantity=snapshot.positions.get(symbol_id, 0), observed_at_ns=snapshot.began_ns
            )
            for symbol_id in symbols
        ]

    async def _fact(self, stream_id: str, made: Sequence[events.BaseEvent]) -> None:
        actor = f"venue:{self.state.exchange_id}"
        await self.writer.append(stream_id, made, actor=actor, evidence=Evidence.QUERY, is_fact=True)


def progress(record: Record) -> tuple[int, frozenset[str]]:
    """Return the filled quantity and the open orders of an intent: what a stream of reports must bring."""
    return record.cum_qty, frozenset(facts.exchange_order_id for facts in record.live_orders)
