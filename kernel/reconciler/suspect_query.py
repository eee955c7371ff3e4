"""Queries about suspects: external orders that may be the order of an unknown submit (H20).

Called by `StatusQuerier` after a list that did not show the submit's client order id, at a venue that hides those ids. What
else the list shows is recorded first, so that the suspects follow from the log; each suspect's status is queried once.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

from kernel import events
from kernel.clock import Clock
from kernel.errors import OutcomeUnknown, VenueError
from kernel.lifecycle import attribution, attribution_reports, order_requests
from kernel.models import Attempt, ExternalOrder, LookScope
from kernel.reconciler import attempt_resolution
from kernel.reconciler.suspects import fitting_requests, unresolved_suspects
from kernel.settings import KernelSettings
from kernel.state import KernelState
from kernel.streams.event_writer import EventWriter, ReportSource, query_source
from kernel.venues.base import ExecutionReport
from kernel.venues.guard import GuardedVenue

logger = logging.getLogger(__name__)

Ingest = Callable[[Iterable[ExecutionReport], ReportSource], Awaitable[object]]
"""Records reports, each for the intent that owns its order, or as an external order's."""


async def unrecorded(reports: Iterable[ExecutionReport], source: ReportSource) -> None:
    raise OutcomeUnknown("no session records external orders, so that nothing can be concluded from their absence")


@dataclass(eq=False)
class SuspectQuerier:
    """Finds the suspects of one intent's unknown submits, and the one that must be its order."""

    state: KernelState
    writer: EventWriter
    venue: GuardedVenue
    clock: Clock
    settings: KernelSettings
    query: Callable[[str, str], Awaitable[ExecutionReport | None]]
    """Queries the status of one order of a symbol by the venue's id."""
    ingest: Ingest = field(init=False)
    """Set by the session."""

    def __post_init__(self) -> None:
        self.ingest = unrecorded

    async def remaining(
        self, intent_id: str, others: Iterable[ExecutionReport], *, began_ns: int
    ) -> list[ExternalOrder]:
        """Record the other orders and trades of a list; return the suspects that remain after a query of each."""
        source = self._source(began_ns)
        await self.ingest(others, source)
        for order in self._suspects(intent_id):
            if not order.queried:
                await self._query(order, intent_id)
        return self._suspects(intent_id)

    def _suspects(self, intent_id: str) -> list[ExternalOrder]:
        return unresolved_suspects(self.state, self.state.record(intent_id), self.venue.capabilities)

    def _source(self, began_ns: int) -> ReportSource:
        return query_source(
            f"venue:{self.state.exchange_id}", began_ns, self.venue.capabilities, lead_ns=self.venue.lead_ns()
        )

    async def _query(self, order: ExternalOrder, intent_id: str) -> None:
        """Query a suspect: its client order id or creation may clear it, or show that it is ours."""
        began_ns = self.clock.now_ns()
        try:
            report = await self.query(order.symbol_id, order.exchange_order_id)
        except VenueError as problem:
            logger.info("the status of external order %s is not known: %s", order.exchange_order_id, problem)
            return
        if report is not None:
            await self.ingest([report], self._source(began_ns))
        taken = events.VenueSnapshotTaken(
            scopes=(LookScope.ORDER,),
            complete=True,
            began_ns=began_ns,
            ended_ns=self.clock.now_ns(),
            intent_id=intent_id,
            exchange_order_id=order.exchange_order_id,
            found=report is not None,
        )
        source = self._source(began_ns)
        await self.writer.append(
            events.VENUE_STREAM, [taken], actor=source.actor, evidence=source.evidence, is_fact=True
        )

    def attributable(self, attempt: Attempt, suspects: list[ExternalOrder], *, began_ns: int) -> ExternalOrder | None:
        """Return the suspect that must be the attempt's order, as nobody else trades on the account; None if unclear."""
        admissible = attempt_resolution.is_admissible(attempt, began_ns=began_ns)
        if not self.settings.account_exclusive or not admissible or len(suspects) != 1:
            return None
        (order,) = suspects
        fitting = [
            request
            for side in ([order.side] if order.side is not None else [])
            for request in fitting_requests(self.state, order, side, self.venue.capabilities)
        ]
        is_only = [request.client_order_id for request in fitting] == [attempt.client_order_id]
        return order if is_only else None

    def attribution(self, intent_id: str, attempt: Attempt, order: ExternalOrder) -> list[events.BaseEvent]:
        """Return the events that make an external order the order of an attempt."""
        text = "attributed: the account is exclusive, and no other external order can be the attempt's"
        trades = self.state.external_trades(order)
        record = self.state.record(intent_id)
        request = next(item for item in order_requests(record) if item.client_order_id == attempt.client_order_id)
        reports = attribution_reports(order, trades, request, text=text)
        return attribution(record, reports, now_ns=self.clock.now_ns())
