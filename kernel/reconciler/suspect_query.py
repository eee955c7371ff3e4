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
from kernel.lifecycle.attribution import OrderRequest, attribution, attribution_reports
from kernel.lifecycle.orders.order_facts import OrderFacts
from kernel.models import ExternalOrder, LookScope
from kernel.reconciler import attempt_resolution
from kernel.reconciler.status_answer import StatusAnswer
from kernel.reconciler.suspects import ended_stops, fitting_requests, stop_suspects, unresolved_suspects
from kernel.settings import KernelSettings
from kernel.state import KernelState
from kernel.streams.event_writer import EventWriter, ReportSource, query_source
from kernel.venues.base import ExecutionReport
from kernel.venues.guard import GuardedVenue

logger = logging.getLogger(__name__)

Query = Callable[[str, str], Awaitable[ExecutionReport | None]]
"""Queries the status of one order of a symbol by the venue's id."""
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
    query: Query
    ingest: Ingest = field(init=False)
    """Set by the session."""

    def __post_init__(self) -> None:
        self.ingest = unrecorded

    async def remaining(
        self, intent_id: str, others: Iterable[ExecutionReport], *, began_ns: int, of_stops: bool = False
    ) -> list[ExternalOrder]:
        """Record the other orders and trades of a list; return the suspects that remain after a query of each.

        Those of the intent's ended stops, or of its unresolved submits.
        """
        source = self.source(began_ns)
        await self.ingest(others, source)
        for order in self._suspects(intent_id, of_stops=of_stops):
            if not order.queried:
                await self.query_order(order, self.query, intent_id=intent_id)
        return self._suspects(intent_id, of_stops=of_stops)

    def _suspects(self, intent_id: str, *, of_stops: bool) -> list[ExternalOrder]:
        if of_stops:
            return stop_suspects(self.state, intent_id, self.venue.capabilities)
        return unresolved_suspects(self.state, self.state.record(intent_id), self.venue.capabilities)

    def source(self, began_ns: int) -> ReportSource:
        return query_source(
            f"venue:{self.state.exchange_id}", began_ns, self.venue.capabilities, lead_ns=self.venue.lead_ns()
        )

    async def query_order(self, order: ExternalOrder, query: Query, *, intent_id: str | None = None) -> None:
        """Query an external order: its client order id or creation may clear it as a suspect, or show that it is ours."""
        began_ns = self.clock.now_ns()
        try:
            report = await query(order.symbol_id, order.exchange_order_id)
        except VenueError as problem:
            logger.info("the status of external order %s is not known: %s", order.exchange_order_id, problem)
            return
        if report is not None:
            await self.ingest([report], self.source(began_ns))
        taken = events.VenueSnapshotTaken(
            scopes=(LookScope.ORDER,),
            complete=True,
            began_ns=began_ns,
            ended_ns=self.clock.now_ns(),
            intent_id=intent_id,
            exchange_order_id=order.exchange_order_id,
            found=report is not None,
        )
        source = self.source(began_ns)
        await self.writer.append(
            events.VENUE_STREAM, [taken], actor=source.actor, evidence=source.evidence, is_fact=True
        )

    async def followed(
        self, intent_id: str, facts: OrderFacts, answer: StatusAnswer
    ) -> tuple[bool, list[events.BaseEvent]]:
        """Return whether an ended stop may have triggered as an order that is not known to be its own (H23).

        It may until a list of trades that began a lag after its end shows no suspect. The events attribute the only one.
        """
        capabilities, name = self.venue.capabilities, facts.client_order_id
        if name not in {item.client_order_id for item in ended_stops(self.state, capabilities, intent_id)}:
            return False, []
        suspects = await self.remaining(intent_id, answer.others, began_ns=answer.began_ns, of_stops=True)
        lists_ns = (facts.closed_ns or 0) + attempt_resolution.trades_lag_ns(capabilities)
        is_listed = LookScope.TRADES in answer.scopes and answer.began_ns >= lists_ns
        if not suspects:
            return capabilities.lists_trades and not is_listed, []
        return True, self.attributed(intent_id, name, suspects) if is_listed else []

    def attributed(self, intent_id: str, client_order_id: str, suspects: list[ExternalOrder]) -> list[events.BaseEvent]:
        """Return the events that make the only suspect the order of a request; none if it may be that of another one.

        Only on an account on which nobody else trades.
        """
        if not self.settings.account_exclusive or len(suspects) != 1:
            return []
        (order,) = suspects
        sides = [order.side] if order.side is not None else []
        fitting = [
            item for side in sides for item in fitting_requests(self.state, order, side, self.venue.capabilities)
        ]
        if [(item.intent_id, item.client_order_id) for item in fitting] != [(intent_id, client_order_id)]:
            return []
        return self._attribution(fitting[0], order)

    def _attribution(self, request: OrderRequest, order: ExternalOrder) -> list[events.BaseEvent]:
        text = "attributed: the account is exclusive, and no other external order can be the attempt's"
        reports = attribution_reports(order, self.state.external_trades(order), request, text=text)
        return attribution(self.state.record(request.intent_id), reports, now_ns=self.clock.now_ns())
