"""Order status queries: what became of an attempt, and the final quantity of an order (step 3 of the protocol).

Called by the reconciler with its decision. A query is recorded with the facts it brought; those facts resolve the attempt,
or, if an admissible query shows nothing, one verdict does, under the stream version from before the query. A failed or
incomplete query is no evidence.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from kernel import events
from kernel.actions import Priority
from kernel.clock import Clock
from kernel.errors import OutcomeUnknown, VenueError
from kernel.lifecycle.evolve import evolve
from kernel.lifecycle.findings import finding_events, unknown_resolved
from kernel.lifecycle.order_identity import client_ids_of, life_margin_ns, shows
from kernel.lifecycle.orders.order_facts import OrderFacts
from kernel.lifecycle.record import Record
from kernel.log.base import Write
from kernel.metrics import LookResult, Metrics, Operation
from kernel.models import (
    UNRESOLVED,
    Attempt,
    AttemptOutcome,
    Evidence,
    ExecType,
    ExternalOrder,
    FindingKind,
    LookScope,
    OrderState,
    OrdStatus,
    VenueOrder,
)
from kernel.plan import open_question
from kernel.reconciler import attempt_resolution
from kernel.reconciler.decision import AttemptResolution, ResolutionMethod
from kernel.reconciler.rate_limiter import VenueRateLimiter
from kernel.reconciler.status_answer import (
    LIST_SCOPES,
    ORDER_SCOPES,
    StatusAnswer,
    answer_of,
    facts_of,
    is_open,
    may_concern,
    missed_events,
    names,
    observed,
    order_of_record,
    others_under_id,
    query_event,
    symbol_id_of_record,
)
from kernel.reconciler.suspect_query import SuspectQuerier
from kernel.settings import KernelSettings, ns
from kernel.state import KernelState
from kernel.streams.event_writer import EventWriter
from kernel.venues.base import ExecutionReport, VenueCapabilities, lists_complete
from kernel.venues.guard import GuardedVenue

Answer = TypeVar("Answer")


class QueryOutcome(msgspec.Struct, frozen=True):
    """The outcome of a query: `resolved`, or when to query again (None: after a backoff)."""

    resolved: bool
    again_ns: int | None = None
    resend: bool = False
    """The same attempt number and id may be sent again at once."""


@dataclass(eq=False)
class StatusQuerier:
    """Queries one venue, as the leader of one epoch; raises `RateLimitExceeded` without capacity."""

    state: KernelState
    writer: EventWriter
    venue: GuardedVenue
    clock: Clock
    settings: KernelSettings
    metrics: Metrics
    limiter: VenueRateLimiter
    epoch: int = 0
    _last_queries: dict[str, dict[int, int]] = field(default_factory=dict, init=False)
    """Begin of the newest query by intent and position of the unresolved attempt; empty after a restart."""

    def __post_init__(self) -> None:
        self.suspects = SuspectQuerier(
            self.state,
            self.writer,
            self.venue,
            self.clock,
            self.settings,
            query=lambda symbol_id, order_id: self._ask(
                lambda: self.venue.order(symbol_id, None, order_id), ORDER_SCOPES
            ),
        )

    def last_queries(self, intent_id: str) -> Mapping[int, int]:
        """Return the begin of the newest query by the position of each unresolved attempt of an intent.

        None is later than now, though the clock may have been set back.
        """
        now_ns = self.clock.now_ns()
        return {position: min(began_ns, now_ns) for position, began_ns in self._last_queries.get(intent_id, {}).items()}

    def retain_only(self, intent_ids: frozenset[str]) -> None:
        for intent_id in self._last_queries.keys() - intent_ids:
            del self._last_queries[intent_id]

    async def resolve(self, step: AttemptResolution) -> QueryOutcome:
        match step:
            case AttemptResolution(how=ResolutionMethod.FIND_ORDER):
                outcome = await self.find_order(step.order, step.attempt, may_resend=step.may_resend)
                await self._settle_earlier(step, outcome)
                return outcome
            case AttemptResolution(how=ResolutionMethod.FIND_REPLACEMENT):
                return await self.find_replacement(step.order, step.attempt, step.target)
            case AttemptResolution(how=ResolutionMethod.CHECK_CANCEL, target=VenueOrder() as target):
                return await self.check_cancel(step.attempt, target, intent_id=step.order.intent_id)
            case AttemptResolution(how=ResolutionMethod.CHECK_TERMS, target=VenueOrder() as target):
                return await self.check_terms(step.attempt, target, intent_id=step.order.intent_id)
        record = self.state.record(step.order.intent_id)
        await self._resolve(record, step.attempt, "its target is no longer open")
        return QueryOutcome(resolved=True)

    async def _settle_earlier(self, step: AttemptResolution, outcome: QueryOutcome) -> None:
        """Query an earlier order whose end, final quantity or fills are not known: a resend waits for it."""
        order = self.state.order_state(step.order.intent_id)
        question = open_question(order) if order is not None else None
        if question is None or outcome.resolved or outcome.resend:
            return
        if attempt_resolution.may_repeat(step.attempt, self.venue.capabilities, may_resend=True):
            await self.ask(step.order.intent_id, question)

    async def find_order(self, order: OrderState, attempt: Attempt, *, may_resend: bool) -> QueryOutcome:
        """Query the client order id of a submit."""
        record = self.state.record(order.intent_id)
        version = record.version
        # An earlier send of the same id may have traded long before this one.
        stamps = (item.stamp_ns for item in record.attempts if item.client_order_id == attempt.client_order_id)
        since_ns = min(stamps, default=attempt.stamp_ns)
        answer = await self._query_order(record, attempt.client_order_id, None, since_ns=since_ns)
        assumed_s = self.settings.assumed_max_delay_s
        self._last_queries.setdefault(order.intent_id, {})[attempt.position] = answer.began_ns
        if answer.reports:
            await self._record_found(record, answer, attempt.client_order_id)
            if unresolved(self.state.record(order.intent_id), attempt) is not None:
                return QueryOutcome(resolved=False)  # the answer is about another order
            self._last_queries.pop(order.intent_id, None)
            return QueryOutcome(resolved=True)
        if named := [report for report in answer.others if attempt.client_order_id in client_ids_of(report)]:
            await self.suspects.ingest(named, self.suspects.source(answer.began_ns))
        if any(other.client_order_id == attempt.client_order_id for other in self.state.external_orders()):
            raise OutcomeUnknown(f"another order has the client order id {attempt.client_order_id}")
        suspects: list[ExternalOrder] = []
        if not self.venue.capabilities.sees_closed:
            # The intent's own are news each time: a verdict, which expects the version of before the query, would fail.
            others = [item for item in answer.others if await self._owner(item, answer.began_ns) != order.intent_id]
            suspects = await self.suspects.remaining(order.intent_id, others, began_ns=answer.began_ns)
            record = self.state.record(order.intent_id)
            if unresolved(record, attempt) is None:  # a suspect's status showed that it is ours
                return QueryOutcome(resolved=True)
        # Until when a request may arrive is told by the venue's clock: one that is ahead seems to query after it.
        answer = replace(answer, began_ns=answer.began_ns - answer.lead_ns, ended_ns=answer.ended_ns - answer.lead_ns)
        trades_known = self.venue.capabilities.sees_closed or LookScope.TRADES in answer.scopes
        conclusion = attempt_resolution.conclude(
            attempt,
            self.venue.capabilities,
            suspected=bool(suspects) or not trades_known,
            may_resend=may_resend,
            began_ns=answer.began_ns,
            ended_ns=answer.ended_ns,
            assumed_max_delay_ns=None if assumed_s is None else ns(assumed_s),
        )
        if isinstance(conclusion, attempt_resolution.Suspected):
            return await self._suspected(record, attempt, suspects, conclusion, began_ns=answer.began_ns)
        return await self._conclude(record, attempt, answer, conclusion, version=version)

    async def _suspected(
        self,
        record: Record,
        attempt: Attempt,
        suspects: list[ExternalOrder],
        conclusion: attempt_resolution.Suspected,
        *,
        began_ns: int,
    ) -> QueryOutcome:
        """Attribute the only suspect on an exclusive account; else the attempt stays unknown (H20)."""
        made: list[events.BaseEvent] = []
        if attempt_resolution.is_admissible(attempt, began_ns=began_ns):
            made = self.suspects.attributed(record.intent_id, attempt.client_order_id, suspects)
        if not made:
            await self._unknown_from_here(record, attempt, version=record.version)
            return QueryOutcome(resolved=False, again_ns=conclusion.at_ns)
        done = await self._verdict(
            record.intent_id, made, Evidence.INFERRED, version=record.version, also=self._no_new_external_order()
        )
        return QueryOutcome(resolved=done)

    async def _conclude(
        self,
        record: Record,
        attempt: Attempt,
        answer: StatusAnswer,
        conclusion: attempt_resolution.Conclusion,
        *,
        version: int,
    ) -> QueryOutcome:
        absent = query_event(
            record.intent_id, answer, client_order_id=attempt.client_order_id, exchange_order_id=None, found=False
        )
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
                closed = observed(
                    record, attempt.client_order_id, answer, ord_status=OrdStatus.CANCELED, cum_qty=0, text=text
                )
                await self._fact(record.intent_id, [closed], Evidence.INFERRED)
            case attempt_resolution.ProvenAbsent(text=text, inferred=inferred):
                resolved = dead(record, attempt, text, began_ns=answer.began_ns)
                evidence = Evidence.INFERRED if inferred else Evidence.QUERY
                made = [absent, resolved, *unknown_resolved(record, "resolved")]
                also = self._no_new_external_order()
                if not await self._verdict(record.intent_id, made, evidence, version=version, also=also):
                    return QueryOutcome(resolved=False)
        self._last_queries.pop(record.intent_id, None)
        return QueryOutcome(resolved=True)

    async def _unknown_from_here(self, record: Record, attempt: Attempt, *, version: int) -> None:
        """Record once that an attempt left pending by an older incarnation gets no answer any more."""
        if attempt.outcome is not AttemptOutcome.PENDING:
            return
        unknown = events.AttemptUnknown(
            intent_id=record.intent_id,
            attempt_position=attempt.position,
            text=f"no answer can arrive any more: it was sent in epoch {attempt.epoch}",
        )
        await self._verdict(record.intent_id, [unknown], Evidence.INFERRED, version=version)

    async def check_cancel(self, attempt: Attempt, target: VenueOrder, *, intent_id: str) -> QueryOutcome:
        """Query the target of a cancel. A cancel is idempotent, so an open target is canceled again."""
        self._last_queries.setdefault(intent_id, {})[attempt.position] = self.clock.now_ns()
        try:
            still_open = (await self._query_known(self.state.record(intent_id), target)).listed
        except VenueError:
            if self.venue.capabilities.proves_absence:
                raise
            still_open = True  # the venue may have no query that shows it; another cancel does no harm
        record = self.state.record(intent_id)
        current = unresolved(record, attempt)
        if current is None:
            return QueryOutcome(resolved=True)
        if not still_open:
            return QueryOutcome(resolved=False)
        await self._resolve(record, current, "the order is still open: it is canceled again")
        return QueryOutcome(resolved=True)

    async def check_terms(self, attempt: Attempt, target: VenueOrder, *, intent_id: str) -> QueryOutcome:
        """Query the target of a modify in place, under the id of the modify and under its own.

        An order that shows the requested terms, or has ended, resolves the modify at once; other terms resolve it only in a
        query begun at or after `absent_after` (H14).
        """
        record = self.state.record(intent_id)
        self._last_queries.setdefault(intent_id, {})[attempt.position] = self.clock.now_ns()
        began_ns = self.clock.now_ns() - self.venue.lead_ns()  # in the venue's time, as in `find_order`
        if self.venue.capabilities.sees_closed:
            renamed = replace(target, client_order_id=attempt.client_order_id)
            if not (await self._query_known(record, renamed)).listed:
                await self._query_known(self.state.record(intent_id), target)
        else:
            await self._query_known(record, target)
        record = self.state.record(intent_id)
        current = unresolved(record, attempt)
        if current is None:
            return QueryOutcome(resolved=True)
        if not attempt_resolution.is_admissible(attempt, began_ns=began_ns):
            await self._unknown_from_here(record, current, version=record.version)
            again_ns = attempt_resolution.next_query_ns(attempt, self.venue.capabilities, last_query_ns=began_ns)
            return QueryOutcome(resolved=False, again_ns=again_ns)
        text = "the order has other terms, and the modify can no longer arrive"
        await self._resolve(record, current, text, began_ns=began_ns)
        return QueryOutcome(resolved=True)

    async def find_replacement(self, order: OrderState, attempt: Attempt, target: VenueOrder | None) -> QueryOutcome:
        """Query the new order of a replace, then the old one: its end may be why the replace failed."""
        outcome = await self.find_order(order, attempt, may_resend=False)
        if outcome.resolved and target is not None and target.live:
            await self._query_known(self.state.record(order.intent_id), target)
        return outcome

    async def _resolve(self, record: Record, attempt: Attempt, text: str, *, began_ns: int | None = None) -> None:
        event = dead(record, attempt, text, began_ns=began_ns)
        others = any(item.client_order_id != attempt.client_order_id for item in record.unresolved)
        made = [event] if others else [event, *unknown_resolved(record, "resolved")]
        await self._verdict(record.intent_id, made, Evidence.QUERY, version=record.version)

    async def ask(self, intent_id: str, item: VenueOrder) -> QueryOutcome:
        """Query an order that is missed, or whose end, final quantity or trades are not known."""
        record = self.state.record(intent_id)
        facts = facts_of(record, item)
        capabilities = self.venue.capabilities
        by_id = is_queried_alone(capabilities, item.client_order_id, item.exchange_order_id or None)
        shown_by_id = by_id and not (
            shadowed(self.state.observed_order(intent_id), item) or may_show_another(capabilities, item)
        )
        needs_total = facts is not None and not (facts.live or facts.has_total) and facts.final_cum_qty is None
        by_trades = capabilities.lists_trades or not by_id
        if facts is not None and needs_total and by_trades and (facts.gone_ns is not None or not shown_by_id):
            return await self._final_by_trades(record, item)
        if item.inferred_qty > 0 and capabilities.lists_trades and (facts is None or facts.unconfirmed_ns is None):
            await self._query_trades(record, item)
            return QueryOutcome(resolved=True)
        answer = await self._query_known(record, item)
        if needs_total and not answer.reports:  # the venue ended it and no longer has it
            return await self._final_by_trades(self.state.record(intent_id), item)
        missed = facts_of(self.state.record(intent_id), item)
        if answer.listed or missed is None or not missed.live or not missed.rare.misses:
            return QueryOutcome(resolved=True)
        return QueryOutcome(resolved=False, again_ns=missed.next_proof_ns + capabilities.orders_lag_ns)

    async def _query_known(self, record: Record, item: VenueOrder) -> StatusAnswer:
        """Query one known order, and record the news of it, or that it was missed."""
        since_ns, order_id = traded_since(record, item), item.exchange_order_id or None
        answer = await self._query_order(record, item.client_order_id, order_id, since_ns=since_ns)
        found_by_id = LookScope.ORDER in answer.scopes and bool(answer.reports)
        facts = facts_of(record, item)
        unlisted = facts is not None and facts.live and not facts.rare.misses
        if unlisted and answer.scopes == ORDER_SCOPES and not found_by_id:  # only a list can be the first miss
            await self._record_missed(record, item, answer)
            answer = await self._query_list(record, item.client_order_id, order_id, since_ns=since_ns)
        if answer.listed or found_by_id:
            await self._record_found(record, answer, item.client_order_id, order_id)
            return answer
        await self._report(record.intent_id, answer.reports, answer)
        await self._record_missed(self.state.record(record.intent_id), item, answer)
        known = facts_of(self.state.record(record.intent_id), item)
        if known is not None and known.rare.in_doubt_ns is not None:
            asked = query_event(
                record.intent_id, answer, client_order_id=item.client_order_id, exchange_order_id=order_id, found=False
            )
            await self._fact(record.intent_id, [asked], Evidence.QUERY)
        return answer

    async def _record_missed(self, record: Record, item: VenueOrder, answer: StatusAnswer) -> None:
        facts = facts_of(record, item)
        listed = [report for report in answer.others if report.exec_type is ExecType.ORDER_STATUS]
        doubtful = facts is not None and (facts.live or facts.unconfirmed_ns is not None)
        if facts is None or (doubtful and any(shows(record, facts, report) for report in listed)):
            return  # a list item without client order id may be of several orders: none of them was missed
        if not facts.live and await self._may_be_followed(record.intent_id, facts, answer):
            return
        record = self.state.record(record.intent_id)
        made = missed_events(record, facts, answer, self.venue.capabilities)
        if made:
            await self._fact(record.intent_id, made, Evidence.QUERY)

    async def _may_be_followed(self, intent_id: str, facts: OrderFacts, answer: StatusAnswer) -> bool:
        """Return whether an ended stop may have triggered as an order that is not known to be its own (H23)."""
        followed, made = await self.suspects.followed(intent_id, facts, answer)
        if made:
            version, also = self.state.record(intent_id).version, self._no_new_external_order()
            await self._verdict(intent_id, made, Evidence.INFERRED, version=version, also=also)
        return followed

    async def _query_trades(self, record: Record, item: VenueOrder) -> None:
        """Query the trades since the order was first seen: the venue counts more than is known (H16)."""
        answer = await self._list_trades(record, item)
        if not answer.reports and self.venue.capabilities.sees_closed:
            await self._query_known(record, item)

    async def _list_trades(self, record: Record, item: VenueOrder) -> StatusAnswer:
        exchange_order_id = item.exchange_order_id or None
        since_ns = traded_since(record, item)
        answer = await self._query_lists(record, item.client_order_id, exchange_order_id, since_ns=since_ns)
        if answer.reports:
            await self._record_found(record, answer, item.client_order_id, exchange_order_id)
        return answer

    async def _final_by_trades(self, record: Record, item: VenueOrder) -> QueryOutcome:
        """Find the final quantity of an order closed for an unknown reason, or that cannot be looked up (H15).

        Only a complete query counts, begun a lag after the end and after the newest bust, which may have reopened it.
        """
        capabilities = self.venue.capabilities
        voided_ns = max((facts.quantities.voided_ns for facts in record.orders if names(facts, item)), default=0)
        lag_ns = max(capabilities.read_lag.trades_ns, capabilities.read_lag.open_orders_ns)
        due_ns = max(item.closed_ns or 0, voided_ns) + lag_ns + capabilities.hosts_skew_ns
        if self.clock.now_ns() < due_ns:
            return QueryOutcome(resolved=False, again_ns=due_ns)
        answer = await self._list_trades(record, item)
        record = self.state.record(record.intent_id)
        facts = facts_of(record, item)
        if answer.listed or facts is None or facts.live or facts.final_cum_qty is not None:
            return QueryOutcome(resolved=True)
        left_out = capabilities.lists_trades and LookScope.TRADES not in answer.scopes
        if left_out or await self._may_be_followed(record.intent_id, facts, answer):
            return QueryOutcome(resolved=False)
        record = self.state.record(record.intent_id)
        event = observed(
            record,
            item.client_order_id,
            answer,
            item.exchange_order_id,
            gone=facts.gone_ns is not None and facts.rare.misses > 0,
            ord_status=OrdStatus.CANCELED,
            cum_qty=facts.traded_qty,
            transact_time_ns=max(0, facts.quantities.voided_ns),
            text="closed; its trades are all known",
        )
        confirmed = missed_events(record, facts, answer, capabilities)
        found = finding_events(record, evolve(record, event), now_ns=self.clock.now_ns())
        await self._fact(record.intent_id, [*confirmed, event, *found], Evidence.INFERRED)
        return QueryOutcome(resolved=True)

    async def _query_order(
        self, record: Record, client_order_id: str, exchange_order_id: str | None, *, since_ns: int
    ) -> StatusAnswer:
        """Query one order by the best means of the venue."""
        capabilities, symbol_id = self.venue.capabilities, symbol_id_of_record(record)
        by_client_id = status_id(capabilities, client_order_id, exchange_order_id)
        if not is_queried_alone(capabilities, client_order_id, exchange_order_id):
            return await self._query_list(record, client_order_id, exchange_order_id, since_ns=since_ns)
        began_ns, lead_ns = self.clock.now_ns(), self.venue.lead_ns()
        report = await self._ask(lambda: self.venue.order(symbol_id, by_client_id, exchange_order_id), ORDER_SCOPES)
        if report is None and by_client_id and exchange_order_id and is_renamed(record, exchange_order_id):
            report = await self._ask(lambda: self.venue.order(symbol_id, None, exchange_order_id), ORDER_SCOPES)
        self.metrics.looked(ORDER_SCOPES, LookResult.NOT_FOUND if report is None else LookResult.FOUND)
        # Where the venue lists no orders, the query of one stands in for the list.
        scopes = ORDER_SCOPES if capabilities.lists_open_orders else (LookScope.ORDER, LookScope.OPEN_ORDERS)
        reflects_ns = capabilities.reflects_ns(began_ns - lead_ns)
        answer = StatusAnswer(scopes, began_ns, self.clock.now_ns(), (), False, reflects_ns, lead_ns=lead_ns)
        if report is None:
            return answer
        report = await self._answer_about(report, by_client_id, record.intent_id, began_ns=began_ns)
        if exchange_order_id and report.exchange_order_id != exchange_order_id:
            # Another order has the same client id: record it, and tell the two apart by the list.
            await self._report(record.intent_id, [report], answer)
            return await self._query_list(record, client_order_id, exchange_order_id, since_ns=since_ns)
        return replace(answer, reports=(report,), listed=is_open(report))

    async def _query_list(
        self, record: Record, client_order_id: str, exchange_order_id: str | None, *, since_ns: int
    ) -> StatusAnswer:
        """Query the lists for an order that may be open; an answer that could not show it open is no evidence."""
        answer = await self._query_lists(record, client_order_id, exchange_order_id, since_ns=since_ns)
        proves = self.venue.capabilities.proves_absence
        if proves and not answer.reports and LookScope.OPEN_ORDERS not in answer.scopes:
            raise OutcomeUnknown("the list does not cover such orders, so it is no evidence")
        return answer

    async def _answer_about(
        self, report: ExecutionReport, client_order_id: str | None, intent_id: str, *, began_ns: int
    ) -> ExecutionReport:
        """Return the answer to a lookup, which may lack the id that it was asked by.

        Another order's is recorded for that order, and is no evidence.
        """
        if client_order_id and not client_ids_of(report):
            report = replace(report, client_order_id=client_order_id)
        if await self._owner(report, began_ns) != intent_id:
            await self.suspects.ingest([report], self.suspects.source(began_ns))
            raise OutcomeUnknown(f"asked for an order of intent {intent_id}, the venue showed another one: {report}")
        return report

    async def _owner(self, report: ExecutionReport, began_ns: int) -> str | None:
        return (await self.writer.match(report, self.suspects.source(began_ns))).intent_id

    @property
    def _margin_ns(self) -> int | None:
        return life_margin_ns(self.venue.capabilities)

    async def _query_lists(
        self, record: Record, client_order_id: str, exchange_order_id: str | None, *, since_ns: int
    ) -> StatusAnswer:
        capabilities = self.venue.capabilities
        if not (capabilities.lists_open_orders or capabilities.lists_trades):
            now_ns = self.clock.now_ns()
            return StatusAnswer((), now_ns, now_ns, (), listed=False)
        overlap_ns = ns(self.settings.trades_overlap_s) + capabilities.read_lag.trades_ns + capabilities.clock_skew_ns
        order = order_of_record(record)
        symbols = [order.symbol_id] if order is not None else []
        lead_ns = self.venue.lead_ns()
        snapshot = await self._ask(lambda: self.venue.snapshot(max(0, since_ns - overlap_ns), symbols))
        lead_ns = max(lead_ns, self.venue.lead_ns())
        traded = self.venue.quarantined.isdisjoint(symbols)  # else its trades are left out
        traded = traded and reaches(self.state, symbols, since_ns, capabilities.trades_from_ns(snapshot.began_ns))
        if not lists_complete(snapshot, capabilities):
            self.metrics.looked(LIST_SCOPES, LookResult.INCOMPLETE)
            raise OutcomeUnknown(f"the answer is incomplete, so it is no evidence: {snapshot.text}")
        shown = [*snapshot.fills, *snapshot.open_orders]
        asked = [item for item in shown if may_concern(item, client_order_id, exchange_order_id)]
        answer = answer_of(
            snapshot,
            client_order_id,
            exchange_order_id,
            owners={id(item): await self._owner(item, snapshot.began_ns) for item in asked},
            record=record,
            sent_ns=0 if self._margin_ns is None else since_ns - self._margin_ns,
        )
        if others := others_under_id(snapshot, client_order_id, exchange_order_id):
            await self._report(record.intent_id, others, answer)
        covered = capabilities.lists_open_orders and (order is None or snapshot.covers(order))
        scopes = tuple(compress(LIST_SCOPES, (covered, traded)))
        reflects_ns = capabilities.reflects_ns(snapshot.began_ns - lead_ns)
        answer = replace(answer, scopes=scopes, reflects_ns=reflects_ns, lead_ns=lead_ns)
        self.metrics.looked(LIST_SCOPES, LookResult.FOUND if answer.reports else LookResult.NOT_FOUND)
        return answer

    async def _ask(
        self, question: Callable[[], Awaitable[Answer]], scopes: tuple[LookScope, ...] = LIST_SCOPES
    ) -> Answer:
        operation = Operation.ORDER if scopes is ORDER_SCOPES else Operation.SNAPSHOT
        try:
            with (
                self.limiter.permitted(Priority.RESOLVE, operation) as permit,
                self.limiter.calling(permit),
                self.metrics.calling(operation, self.clock),
            ):
                return await answer_within(self.settings.query_timeout_s, question())
        except VenueError:
            self.metrics.looked(scopes, LookResult.FAILED)
            raise

    async def _record_found(
        self, record: Record, answer: StatusAnswer, client_order_id: str, exchange_order_id: str | None = None
    ) -> None:
        await self._report(record.intent_id, answer.reports, answer)
        order_id = exchange_order_id or answer.reports[0].exchange_order_id
        found = query_event(
            record.intent_id, answer, client_order_id=client_order_id, exchange_order_id=order_id, found=True
        )
        known = self.state.record(record.intent_id)
        resolved = [] if known.unresolved else unknown_resolved(known, "resolved")
        await self._fact(record.intent_id, [found, *resolved], Evidence.QUERY)

    async def _report(self, intent_id: str, reports: Sequence[ExecutionReport], answer: StatusAnswer) -> None:
        await self.writer.report(intent_id, reports, self.suspects.source(answer.began_ns))

    async def _fact(self, intent_id: str, made: Sequence[events.BaseEvent], evidence: Evidence) -> None:
        actor = f"venue:{self.state.exchange_id}"
        await self.writer.append(events.intent_stream(intent_id), made, actor=actor, evidence=evidence, is_fact=True)

    def _no_new_external_order(self) -> tuple[Write, ...]:
        """Return the check that no external order was recorded since the suspects were read (H20)."""
        if self.venue.capabilities.sees_closed:
            return ()
        return (Write(events.VENUE_STREAM, (), self.state.venue_version),)

    async def _verdict(
        self,
        intent_id: str,
        made: Sequence[events.BaseEvent],
        evidence: Evidence,
        *,
        version: int,
        also: Sequence[Write] = (),
    ) -> bool:
        """Append fenced, at the version from before the query: no append in between, no new leader (H18).

        Returns whether it was appended.
        """
        appended = await self.writer.append_unless_changed(
            events.intent_stream(intent_id),
            made,
            evidence=evidence,
            expected_version=version,
            epoch=self.epoch,
            also=also,
        )
        return appended is not None


def unresolved(record: Record, attempt: Attempt) -> Attempt | None:
    known = record.attempt_at(attempt.position)
    return known if known is not None and known.outcome in UNRESOLVED else None


def dead(record: Record, attempt: Attempt, text: str, *, began_ns: int | None) -> events.AttemptResolved:
    return events.AttemptResolved(
        intent_id=record.intent_id,
        attempt_position=attempt.position,
        outcome=AttemptOutcome.DEAD,
        text=text,
        began_ns=began_ns,
    )


async def answer_within(timeout_s: float, question: Awaitable[Answer]) -> Answer:
    """Return the venue's answer; `OutcomeUnknown` after the timeout."""
    try:
        async with asyncio.timeout(timeout_s):
            return await question
    except TimeoutError:
        raise OutcomeUnknown(f"the venue did not answer within {timeout_s:g} s") from None


def shadowed(order: OrderState | None, item: VenueOrder) -> bool:
    """Return whether another order has the same client id: a lookup by it may show that one."""
    return any(
        other.client_order_id == item.client_order_id and other.exchange_order_id != item.exchange_order_id
        for other in (order.venue_orders if order is not None else ())
    )


def may_show_another(capabilities: VenueCapabilities, item: VenueOrder) -> bool:
    """Return whether a lookup, for lack of a client order id, may show a newer order with the same venue order id."""
    by_order_id = status_id(capabilities, item.client_order_id, item.exchange_order_id or None) is None
    return by_order_id and not capabilities.order_ids_unique and capabilities.lists_trades


def traded_since(record: Record, item: VenueOrder) -> int:
    """Return from when an order may have traded: its first send, or 0 if the kernel did not send it."""
    if not record.sends:
        return 0
    sent_ns = next((facts.sent_ns for facts in record.orders if names(facts, item)), None)
    return item.first_seen_ns if sent_ns is None else min(item.first_seen_ns, sent_ns)


def reaches(state: KernelState, symbols: Sequence[str], since_ns: int, kept_ns: int) -> bool:
    """Return whether the log and a list that begins at `kept_ns` together have every trade since an instant.

    Not so if the venue dropped trades before they were listed, until an operator has dealt with the finding about it.
    """
    if since_ns >= kept_ns:
        return True
    if any(
        item.kind is FindingKind.TRADES_GAP and item.resolved_at_ns is None and item.raised_at_ns > since_ns
        for item in state.findings()
    ):
        return False
    cursor = state.trades_cursor_of if state.lists_trades_by_symbol else lambda _: state.trades_cursor_ns
    return all((cursor(symbol_id) or 0) >= kept_ns for symbol_id in symbols)


def is_queried_alone(capabilities: VenueCapabilities, client_order_id: str, exchange_order_id: str | None) -> bool:
    """Return whether an order's status is queried instead of the lists."""
    if capabilities.proves_absence and not capabilities.sees_closed:
        return False
    by_client_id = status_id(capabilities, client_order_id, exchange_order_id) is not None
    return by_client_id or (bool(exchange_order_id) and capabilities.queries_single_orders)


def is_renamed(record: Record, exchange_order_id: str) -> bool:
    """Return whether an order was changed under another client order id: the venue may know it by the first one only."""
    named = (facts for facts in record.orders if facts.exchange_order_id == exchange_order_id)
    return any(len(facts.client_order_ids) > 1 for facts in named)


def status_id(capabilities: VenueCapabilities, client_order_id: str, exchange_order_id: str | None) -> str | None:
    """Return the client order id to query by; None where the venue's id is better or the only one."""
    able = capabilities.client_order_ids and capabilities.lookup and bool(client_order_id)
    return client_order_id if able and (capabilities.lookup_closed or not exchange_order_id) else None
