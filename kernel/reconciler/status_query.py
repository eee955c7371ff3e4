"""Order status queries: what became of an attempt, what an order came to. Step 3 of the protocol.

Called by the reconciler with what it decided to resolve or to ask. A query is recorded with the facts that it brought; it
resolves an attempt by those facts, or, when it is admissible and shows nothing, by one verdict under the stream version
from before the query began. A query that fails or is incomplete is no evidence.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from kernel import events
from kernel.actions import Priority
from kernel.clock import Clock
from kernel.errors import OutcomeUnknown, VenueError
from kernel.lifecycle import Record, finding_id
from kernel.lifecycle.order_facts import OrderFacts
from kernel.metrics import LookResult, Metrics, Operation
from kernel.models import (
    UNRESOLVED,
    Attempt,
    AttemptOutcome,
    Evidence,
    ExecType,
    FindingKind,
    LookScope,
    OrderState,
    OrdStatus,
    VenueOrder,
)
from kernel.reconciler import attempt_resolution
from kernel.reconciler.decision import AttemptResolution, ResolutionMethod
from kernel.reconciler.rate_limiter import VenueRateLimiter
from kernel.settings import KernelSettings, ns
from kernel.state import KernelState
from kernel.streams.event_writer import EventWriter, ReportSource
from kernel.venues.base import ExecutionReport, Venue, VenueSnapshot

Answer = TypeVar("Answer")
ORDER_SCOPES = (LookScope.ORDER,)
"""A query by a client order id."""
LIST_SCOPES = (LookScope.OPEN_ORDERS, LookScope.TRADES)
"""A query of the lists."""


@dataclass(frozen=True, slots=True)
class StatusAnswer:
    """The answer of the venue to one status query, as far as it concerns one order."""

    scopes: tuple[LookScope, ...]
    began_ns: int
    ended_ns: int
    reports: tuple[ExecutionReport, ...]
    """Reports of the order; empty when the venue did not show it."""
    listed: bool
    """Whether the order is open, as far as this answer shows."""


@dataclass(frozen=True, slots=True)
class QueryOutcome:
    """What a query came to: `resolved`, or when to query again (None: after a backoff)."""

    resolved: bool
    again_ns: int | None = None
    resend: bool = False
    """The same number and id may be sent again at once."""


class StatusQuerier:
    """Queries one venue, as the leader of one epoch. Raises `RateLimitExceeded` where the rate limit allows no query."""

    def __init__(
        self,
        state: KernelState,
        writer: EventWriter,
        venue: Venue,
        *,
        clock: Clock,
        settings: KernelSettings,
        metrics: Metrics,
        limiter: VenueRateLimiter,
    ) -> None:
        self._state = state
        self._writer = writer
        self._venue = venue
        self._clock = clock
        self._settings = settings
        self._metrics = metrics
        self._limiter = limiter
        self._last_queries: dict[str, dict[int, int]] = {}
        """Begin of the newest query for each unresolved attempt, by intent and position; gone after a restart, which
        queries anew."""
        self.epoch = 0

    def last_queries(self, intent_id: str) -> Mapping[int, int]:
        """Begin of the newest query for each unresolved attempt of an intent, by position."""
        return dict(self._last_queries.get(intent_id, {}))

    def retain_only(self, intent_ids: frozenset[str]) -> None:
        """Forget the queries for all other intents."""
        for intent_id in self._last_queries.keys() - intent_ids:
            del self._last_queries[intent_id]

    async def resolve(self, step: AttemptResolution) -> QueryOutcome:
        """Find out what became of an attempt."""
        match step:
            case AttemptResolution(how=ResolutionMethod.FIND_ORDER):
                return await self.find_order(step.order, step.attempt, may_resend=step.may_resend)
            case AttemptResolution(how=ResolutionMethod.FIND_REPLACEMENT):
                return await self.find_replacement(step.order, step.attempt, step.target)
            case AttemptResolution(how=ResolutionMethod.CHECK_CANCEL, target=VenueOrder() as target):
                return await self.check_cancel(step.attempt, target, intent_id=step.order.intent_id)
            case AttemptResolution(how=ResolutionMethod.CHECK_TERMS, target=VenueOrder() as target):
                return await self.check_terms(step.attempt, target, intent_id=step.order.intent_id)
        record = self._state.record(step.order.intent_id)
        await self._resolve(record, step.attempt, "the order no longer works")
        return QueryOutcome(resolved=True)

    # ------------------------------------------------------------------------------------------------------- submits
    async def find_order(self, order: OrderState, attempt: Attempt, *, may_resend: bool) -> QueryOutcome:
        """Look for the order of a submit under its client order id."""
        record = self._state.record(order.intent_id)
        version = record.version
        # What an earlier send of the same id came to may have traded long before this one.
        stamps = (item.stamp_ns for item in record.attempts if item.client_order_id == attempt.client_order_id)
        since_ns = min(stamps, default=attempt.stamp_ns)
        symbol_id = order.status.order.symbol_id
        answer = await self._query_order(symbol_id, attempt.client_order_id, None, since_ns=since_ns)
        self._last_queries.setdefault(order.intent_id, {})[attempt.position] = answer.began_ns
        if answer.reports:
            await self._record_found(record, answer, attempt.client_order_id)
            self._last_queries.pop(order.intent_id, None)
            return QueryOutcome(resolved=True)
        conclusion = attempt_resolution.conclude(
            attempt,
            self._venue.capabilities,
            wanted=may_resend,
            began_ns=answer.began_ns,
            ended_ns=answer.ended_ns,
            assumed_max_delay_ns=self._assumed_max_delay_ns(),
        )
        return await self._conclude(record, attempt, answer, conclusion, version=version)

    async def _conclude(
        self,
        record: Record,
        attempt: Attempt,
        answer: StatusAnswer,
        conclusion: attempt_resolution.Conclusion,
        *,
        version: int,
    ) -> QueryOutcome:
        absent = self._query_event(record.intent_id, answer, client_order_id=attempt.client_order_id)
        match conclusion:
            case attempt_resolution.MayResend():
                return QueryOutcome(resolved=False, resend=True)
            case attempt_resolution.QueryAgain(at_ns=at_ns):
                await self._unknown_from_here(record, attempt, version=version)
                return QueryOutcome(resolved=False, again_ns=at_ns)
            case attempt_resolution.FirstQuery(trades_from_ns=trades_from_ns):
                await self._verdict(record.intent_id, [absent], Evidence.QUERY, version=version)
                return QueryOutcome(resolved=False, again_ns=trades_from_ns)
            case attempt_resolution.ClosedUnfilled(text=text):
                await self._record_closed_unfilled(record, attempt, answer, text)
            case attempt_resolution.ProvenAbsent(text=text, inferred=inferred):
                resolved = events.AttemptResolved(
                    intent_id=record.intent_id,
                    attempt_position=attempt.position,
                    outcome=AttemptOutcome.DEAD,
                    text=text,
                    began_ns=answer.began_ns,
                )
                evidence = Evidence.INFERRED if inferred else Evidence.QUERY
                notes = self._unknown_resolved(record)
                await self._verdict(record.intent_id, [absent, resolved, *notes], evidence, version=version)
        self._last_queries.pop(record.intent_id, None)
        return QueryOutcome(resolved=True)

    async def _unknown_from_here(self, record: Record, attempt: Attempt, *, version: int) -> None:
        """What an older incarnation left pending will get no answer any more: the log says so once."""
        if attempt.outcome is not AttemptOutcome.PENDING:
            return
        unknown = events.AttemptUnknown(
            intent_id=record.intent_id,
            attempt_position=attempt.position,
            text=f"its answer can no longer come: it was sent in epoch {attempt.epoch}",
        )
        await self._verdict(record.intent_id, [unknown], Evidence.INFERRED, version=version)

    async def _record_closed_unfilled(self, record: Record, attempt: Attempt, answer: StatusAnswer, text: str) -> None:
        event = observed(record, attempt.client_order_id, answer, ord_status=OrdStatus.CANCELED, cum_qty=0, text=text)
        await self._fact(record.intent_id, [event], Evidence.INFERRED)

    # ----------------------------------------------------------------------------------------------- cancels and changes
    async def check_cancel(self, attempt: Attempt, target: VenueOrder, *, intent_id: str) -> QueryOutcome:
        """Query the order that a cancel aims at. A cancel is idempotent, so an open order is canceled again."""
        still_open = await self._query_known(self._state.record(intent_id), target)
        record = self._state.record(intent_id)
        left = unresolved(record, attempt)
        if left is None:
            return QueryOutcome(resolved=True)
        if not still_open:
            return QueryOutcome(resolved=False, again_ns=self._clock.now_ns() + self._lag_ns())
        await self._resolve(record, left, "the order is still open: it is canceled again")
        return QueryOutcome(resolved=True)

    async def check_terms(self, attempt: Attempt, target: VenueOrder, *, intent_id: str) -> QueryOutcome:
        """Query the order that a change in place aims at, under the id of the change and under its own.

        An order that shows the terms asked for, or has ended, is the outcome at once; one that shows other terms is one
        only in a query begun at or after `absent_after` (H14).
        """
        record = self._state.record(intent_id)
        began_ns = self._last_queries.setdefault(intent_id, {})[attempt.position] = self._clock.now_ns()
        if self._venue.capabilities.sees_closed:
            renamed = target.model_copy(update={"client_order_id": attempt.client_order_id})
            if not await self._query_known(record, renamed):
                await self._query_known(self._state.record(intent_id), target)
        else:
            await self._query_known(record, target)
        record = self._state.record(intent_id)
        left = unresolved(record, attempt)
        if left is None:
            return QueryOutcome(resolved=True)
        if not attempt_resolution.is_admissible(attempt, began_ns=began_ns):
            await self._unknown_from_here(record, left, version=record.version)
            again_ns = attempt_resolution.next_query_ns(attempt, self._venue.capabilities, last_query_ns=began_ns)
            return QueryOutcome(resolved=False, again_ns=again_ns)
        text = "the order has other terms, and no change can arrive any more"
        await self._resolve(record, left, text, began_ns=began_ns)
        return QueryOutcome(resolved=True)

    async def find_replacement(self, order: OrderState, attempt: Attempt, target: VenueOrder | None) -> QueryOutcome:
        """Look for the new order of a replace like for a submit's, and query the old one as well: its end may be why the
        replace came to nothing."""
        outcome = await self.find_order(order, attempt, may_resend=False)
        if outcome.resolved and target is not None and target.live:
            await self._query_known(self._state.record(order.intent_id), target)
        return outcome

    async def _resolve(self, record: Record, attempt: Attempt, text: str, *, began_ns: int | None = None) -> None:
        event = events.AttemptResolved(
            intent_id=record.intent_id,
            attempt_position=attempt.position,
            outcome=AttemptOutcome.DEAD,
            text=text,
            began_ns=began_ns,
        )
        await self._verdict(record.intent_id, [event], Evidence.QUERY, version=record.version)

    # --------------------------------------------------------------------------------------------------------- orders
    async def ask(self, intent_id: str, item: VenueOrder) -> QueryOutcome:
        """Query an order whose account has gaps: is it open, what is its final quantity, which trades did it have."""
        record = self._state.record(intent_id)
        by_id = self._venue.capabilities.sees_closed and bool(item.client_order_id)
        told_by_id = by_id and not shadowed(self._state.observed_order(intent_id), item)
        if not item.live and item.final_cum_qty is None and not told_by_id:
            return await self._final_by_trades(record, item)
        if item.inferred_qty > 0:
            await self._query_trades(record, item)
        else:
            await self._query_known(record, item)
        return QueryOutcome(resolved=True)

    async def _query_known(self, record: Record, item: VenueOrder) -> bool:
        """Query one known order and record what is news; returns whether the answer shows it open."""
        symbol_id = symbol_id_of_record(record)
        answer = await self._query_order(
            symbol_id, item.client_order_id, item.exchange_order_id or None, since_ns=traded_since(record, item)
        )
        if answer.reports:
            await self._record_found(record, answer, item.client_order_id)
        if answer.listed or LookScope.ORDER in answer.scopes:
            return answer.listed
        # The answer is a list: there is no look-up, or it shows another order of the same client id.
        capabilities = self._venue.capabilities
        shown_ns = item.first_seen_ns + capabilities.read_lag.open_orders_ns + capabilities.hosts_skew_ns
        if item.live and answer.began_ns >= shown_ns:
            text = "no longer among the open orders"
            event = observed(record, item.client_order_id, answer, item.exchange_order_id, gone=True, text=text)
            await self._fact(record.intent_id, [event], Evidence.QUERY)
        return False

    async def _query_trades(self, record: Record, item: VenueOrder) -> None:
        """The venue counts more than the trades known: fetch the trades since the order was first seen (H16)."""
        answer = await self._query_lists(
            item.client_order_id, item.exchange_order_id or None, traded_since(record, item)
        )
        if answer.reports:
            await self._record_found(record, answer, item.client_order_id)
        elif self._venue.capabilities.sees_closed:
            await self._query_known(record, item)

    async def _final_by_trades(self, record: Record, item: VenueOrder) -> QueryOutcome:
        """Closed, reason unknown, and no look-up: only a complete query begun a lag after the closing tells (H15), and
        after the newest bust, which may have opened it again."""
        capabilities = self._venue.capabilities
        voided_ns = max((facts.quantities.voided_ns for facts in record.orders if names(facts, item)), default=0)
        lag_ns = max(capabilities.read_lag.trades_ns, capabilities.read_lag.open_orders_ns)
        due_ns = max(item.closed_ns or 0, voided_ns) + lag_ns + capabilities.hosts_skew_ns
        if self._clock.now_ns() < due_ns:
            return QueryOutcome(resolved=False, again_ns=due_ns)
        answer = await self._query_lists(
            item.client_order_id, item.exchange_order_id or None, traded_since(record, item)
        )
        if answer.reports:
            await self._record_found(record, answer, item.client_order_id)
            record = self._state.record(record.intent_id)
        if answer.listed:
            return QueryOutcome(resolved=True)
        facts = next((f for f in record.orders if names(f, item) and not f.live), None)
        if facts is None or facts.final_cum_qty is not None:
            return QueryOutcome(resolved=True)
        event = observed(
            record,
            item.client_order_id,
            answer,
            item.exchange_order_id,
            ord_status=OrdStatus.CANCELED,
            cum_qty=facts.traded_qty,
            transact_time_ns=max(0, facts.quantities.voided_ns),
            text="closed; its trades are all known",
        )
        await self._fact(record.intent_id, [event], Evidence.INFERRED)
        return QueryOutcome(resolved=True)

    # --------------------------------------------------------------------------------------------------------- the venue
    async def _query_order(
        self, symbol_id: str, client_order_id: str, exchange_order_id: str | None, *, since_ns: int
    ) -> StatusAnswer:
        """One query for one order, by the best means that the venue has."""
        if not self._venue.capabilities.sees_closed or not client_order_id:
            return await self._query_lists(client_order_id, exchange_order_id, since_ns)
        began_ns = self._clock.now_ns()
        report = await self._ask(lambda: self._venue.order(symbol_id, client_order_id), ORDER_SCOPES)
        ended_ns = self._clock.now_ns()
        self._metrics.looked(ORDER_SCOPES, LookResult.NOT_FOUND if report is None else LookResult.FOUND)
        if report is None:
            return StatusAnswer(ORDER_SCOPES, began_ns, ended_ns, (), listed=False)
        if exchange_order_id and report.exchange_order_id != exchange_order_id:
            # Another order carries the same client id: it is recorded, and the list tells the two apart.
            await self._report(self._state.intent_id_of(client_order_id=client_order_id), [report], began_ns)
            return await self._query_lists(client_order_id, exchange_order_id, since_ns)
        return StatusAnswer(ORDER_SCOPES, began_ns, ended_ns, (report,), listed=is_open(report))

    async def _query_lists(self, client_order_id: str, exchange_order_id: str | None, since_ns: int) -> StatusAnswer:
        overlap_ns = (
            ns(self._settings.trades_overlap_s)
            + self._venue.capabilities.read_lag.trades_ns
            + self._venue.capabilities.clock_skew_ns
        )
        snapshot = await self._ask(lambda: self._venue.snapshot(max(0, since_ns - overlap_ns)))
        if not (snapshot.open_orders_complete and snapshot.fills_complete):
            self._metrics.looked(LIST_SCOPES, LookResult.INCOMPLETE)
            raise OutcomeUnknown(f"the answer is incomplete, so it is no evidence: {snapshot.text}")
        answer = answer_of(snapshot, client_order_id, exchange_order_id)
        self._metrics.looked(LIST_SCOPES, LookResult.FOUND if answer.reports else LookResult.NOT_FOUND)
        return answer

    async def _ask(
        self, question: Callable[[], Awaitable[Answer]], scopes: tuple[LookScope, ...] = LIST_SCOPES
    ) -> Answer:
        operation = Operation.ORDER if scopes is ORDER_SCOPES else Operation.SNAPSHOT
        try:
            with (
                self._limiter.permitted(Priority.RESOLVE, operation) as permit,
                self._limiter.calling(permit),
                self._metrics.calling(operation, self._clock),
            ):
                return await answer_within(self._settings.query_timeout_s, question())
        except VenueError:
            self._metrics.looked(scopes, LookResult.FAILED)
            raise

    # ---------------------------------------------------------------------------------------------------------- the log
    async def _record_found(self, record: Record, answer: StatusAnswer, client_order_id: str) -> None:
        await self._report(record.intent_id, answer.reports, answer.began_ns)
        found = self._query_event(
            record.intent_id,
            answer,
            client_order_id=client_order_id,
            exchange_order_id=answer.reports[0].exchange_order_id,
        )
        known = self._state.record(record.intent_id)
        notes = [] if known.unresolved else self._unknown_resolved(known)
        await self._fact(record.intent_id, [found, *notes], Evidence.QUERY)

    async def _report(self, intent_id: str | None, reports: Sequence[ExecutionReport], began_ns: int) -> None:
        if intent_id is not None:
            source = ReportSource(f"venue:{self._state.exchange_id}", Evidence.QUERY, began_ns=began_ns)
            await self._writer.report(intent_id, reports, source)

    def _query_event(
        self, intent_id: str, answer: StatusAnswer, *, client_order_id: str, exchange_order_id: str | None = None
    ) -> events.VenueSnapshotTaken:
        return events.VenueSnapshotTaken(
            scopes=answer.scopes,
            complete=True,
            began_ns=answer.began_ns,
            ended_ns=answer.ended_ns,
            intent_id=intent_id,
            client_order_id=client_order_id,
            exchange_order_id=exchange_order_id,
            found=bool(answer.reports),
        )

    async def _fact(self, intent_id: str, made: Sequence[events.BaseEvent], evidence: Evidence) -> None:
        actor = f"venue:{self._state.exchange_id}"
        await self._writer.append(events.intent_stream(intent_id), made, actor=actor, evidence=evidence, is_fact=True)

    async def _verdict(
        self, intent_id: str, made: Sequence[events.BaseEvent], evidence: Evidence, *, version: int
    ) -> None:
        """Under the version from before the query began, and fenced: no append in between, no new leader (H18)."""
        await self._writer.append_unless_changed(
            events.intent_stream(intent_id), made, evidence=evidence, expected_version=version, epoch=self.epoch
        )

    def _unknown_resolved(self, record: Record) -> list[events.BaseEvent]:
        name = finding_id(FindingKind.UNKNOWN_TOO_LONG, record.intent_id)
        return [events.FindingResolved(finding_id=name, text="settled")] if name in record.findings else []

    def _lag_ns(self) -> int:
        return self._venue.capabilities.read_lag.longest_ns

    def _assumed_max_delay_ns(self) -> int | None:
        seconds = self._settings.assumed_max_delay_s
        return None if seconds is None else ns(seconds)


def unresolved(record: Record, attempt: Attempt) -> Attempt | None:
    """The attempt as the record has it by now, if it is still unresolved."""
    known = (item for item in record.attempts if item.position == attempt.position)
    return next((item for item in known if item.outcome in UNRESOLVED), None)


def observed(
    record: Record, client_order_id: str, answer: StatusAnswer, exchange_order_id: str = "", **shown: Any
) -> events.OrderStateObserved:
    """What an answer shows of an order that it does not list."""
    return events.OrderStateObserved(
        intent_id=record.intent_id,
        symbol_id=symbol_id_of_record(record),
        client_order_id=client_order_id,
        exchange_order_id=exchange_order_id or None,
        exec_type=ExecType.ORDER_STATUS,
        began_ns=answer.began_ns,
        **shown,
    )


def symbol_id_of_record(record: Record) -> str:
    """The symbol of what was sent, else of the intent."""
    order = record.sent_order or (record.intent.order if record.intent else None)
    return order.symbol_id if order is not None else ""


async def answer_within(timeout_s: float, question: Awaitable[Answer]) -> Answer:
    """The venue's answer; `OutcomeUnknown` when there is none in time."""
    try:
        async with asyncio.timeout(timeout_s):
            return await question
    except TimeoutError:
        raise OutcomeUnknown(f"the venue did not answer within {timeout_s:g} s") from None


def shadowed(order: OrderState | None, item: VenueOrder) -> bool:
    """Whether another order carries the same client id: a look-up by it need not show this one."""
    return any(
        other.client_order_id == item.client_order_id and other.exchange_order_id != item.exchange_order_id
        for other in (order.venue_orders if order is not None else ())
    )


def traded_since(record: Record, item: VenueOrder) -> int:
    """From when on an order may have traded: since it was sent, however late its first report was recorded. Nobody here
    knows, where it was not placed by us."""
    if not record.sends:
        return 0
    sent_ns = next((facts.sent_ns for facts in record.orders if names(facts, item)), None)
    return item.first_seen_ns if sent_ns is None else min(item.first_seen_ns, sent_ns)


def names(facts: OrderFacts, item: VenueOrder) -> bool:
    """Whether facts and an item are of one order."""
    same_id = not item.exchange_order_id or facts.exchange_order_id == item.exchange_order_id
    return same_id and facts.client_order_id == item.client_order_id


def is_open(report: ExecutionReport) -> bool:
    """Whether a report about an order's state shows it open."""
    return report.ord_status not in (OrdStatus.FILLED, OrdStatus.CANCELED, OrdStatus.EXPIRED, OrdStatus.REJECTED)


def answer_of(snapshot: VenueSnapshot, client_order_id: str, exchange_order_id: str | None) -> StatusAnswer:
    """What a complete snapshot shows of one order (or of every order under one client order id)."""

    def concerns(report: ExecutionReport) -> bool:
        if exchange_order_id and report.exchange_order_id:
            return report.exchange_order_id == exchange_order_id
        return client_order_id in (report.client_order_id, report.orig_client_order_id)

    listed = tuple(report for report in snapshot.open_orders if concerns(report))
    ids = {report.exchange_order_id for report in listed if report.exchange_order_id}
    fills = tuple(report for report in snapshot.fills if concerns(report) or report.exchange_order_id in ids)
    return StatusAnswer(
        LIST_SCOPES,
        snapshot.began_ns,
        snapshot.ended_ns,
        (*fills, *listed),
        listed=bool(listed),
    )
