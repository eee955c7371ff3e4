"""Orders that are nobody's intent: recorded, and left alone, adopted or canceled, as the settings say.

Called by the session with reports that are about none of our orders. To adopt is to want what is there: an intent is
created together with the first sight of its order, in one append, and from then on the order is like any other. To cancel
is to adopt it as not wanted: the reconciler cancels it through the one door. An order whose client id looks like a kernel's
is another log's, and is not touched unless told: two kernels would take each other's orders over.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
import re
from collections.abc import Callable, Iterable, Sequence

from kernel import events
from kernel.clock import Clock
from kernel.commands.validation import new_intent
from kernel.errors import ConflictError, FencedError, OutcomeUnknown
from kernel.lifecycle import decide_report, evolve, finding_id, raised
from kernel.models import (
    Desired,
    ExecType,
    ExternalOrderPolicy,
    FindingKind,
    OrderIntent,
    OrdStatus,
    UnsolicitedCancelPolicy,
)
from kernel.order_spec import OrderType, StandardOrder
from kernel.settings import KernelSettings
from kernel.state import KernelState
from kernel.streams.event_writer import EventWriter, ReportSource
from kernel.venues.base import ExecutionReport, VenueSnapshot

logger = logging.getLogger(__name__)

OWNER = "adopted"
"""The owner of intents that were made for orders found at the venue."""
ORDER_EVIDENCE = frozenset(
    {
        ExecType.PENDING_NEW,
        ExecType.NEW,
        ExecType.TRIGGERED,
        ExecType.TRADE,
        ExecType.REPLACED,
        ExecType.RESTATED,
        ExecType.ORDER_STATUS,
    }
)
"""Reports by which an order can be adopted: it works, or it traded."""
OVER = frozenset({OrdStatus.CANCELED, OrdStatus.EXPIRED, OrdStatus.REJECTED, OrdStatus.FILLED})


class ExternalOrders:
    """What one leader does about orders of others."""

    def __init__(
        self,
        state: KernelState,
        writer: EventWriter,
        *,
        clock: Clock,
        settings: KernelSettings,
        on_fenced: Callable[[], None],
    ) -> None:
        self._state = state
        self._writer = writer
        self._clock = clock
        self._settings = settings
        self._on_fenced = on_fenced
        self.epoch = 0

    async def ingest(self, reports: Iterable[ExecutionReport], source: ReportSource) -> None:
        """Record what is news of others' orders, and adopt them where the policy says so."""
        by_order: dict[str, list[ExecutionReport]] = {}
        for report in reports:
            by_order.setdefault(report.exchange_order_id or report.client_order_id or "", []).append(report)
        await asyncio.gather(*(self._ingest_one(items, source) for items in by_order.values()))

    async def _ingest_one(self, reports: Sequence[ExecutionReport], source: ReportSource) -> None:
        for index, report in enumerate(reports):
            intent_id = self._adopter(report) or await self._adopt(report, source)
            if intent_id is None and self._is_news(report):
                intent_id = await self._record(report, source)
            if intent_id is not None:
                await self._report(intent_id, reports[index:], source)
                return

    async def _record(self, report: ExecutionReport, source: ReportSource) -> str | None:
        """Record news of an order that is nobody's. Where another report has had it adopted in the same moment, the news
        are its intent's, which is returned: recorded here as well, a trade would move the balances twice."""
        order_id, also = report.exchange_order_id, self._unexpected(report)
        try:
            unless = events.intent_stream(adopted_id(order_id)) if order_id else None
            await self._writer.external(report, source, also=also, unless=unless)
        except ConflictError:
            intent_id = await self._adopted_meanwhile(report)
            if intent_id is None:  # the intent is deleted: the order is nobody's again
                await self._writer.external(report, source, also=also)
            return intent_id
        return None

    async def _adopted_meanwhile(self, report: ExecutionReport) -> str | None:
        """The intent that has the order, by all that is in the log."""
        await self._writer.caught_up()
        return await self._writer.owner(exchange_order_id=report.exchange_order_id)

    async def _report(self, intent_id: str, reports: Sequence[ExecutionReport], source: ReportSource) -> None:
        try:
            await self._writer.report(intent_id, reports, source)
        except OutcomeUnknown as problem:
            logger.warning("a report could not be read: %s", problem)

    def _adopter(self, report: ExecutionReport) -> str | None:
        """The intent that has the order by now."""
        return (
            self._state.intent_id_of(exchange_order_id=report.exchange_order_id) if report.exchange_order_id else None
        )

    # ------------------------------------------------------------------------------------------------------- recording
    def _is_news(self, report: ExecutionReport) -> bool:
        """Whether a report is worth an event: a list that shows what is known is not."""
        if report.exec_type is not ExecType.ORDER_STATUS:
            return True
        known = self._state.external_order(report.exchange_order_id or "")
        if known is None or not known.live:
            return known is None
        shown = (report.order_qty, report.price, report.cum_qty)
        return shown != (known.quantity, known.price, known.cum_qty)

    def _unexpected(self, report: ExecutionReport) -> list[events.BaseEvent]:
        """A trade of nobody's order is a finding: one for each order, until it is resolved."""
        if report.exec_type is not ExecType.TRADE:
            return []
        order_id = report.exchange_order_id or report.fill_key or "?"
        name = finding_id(FindingKind.UNEXPECTED_TRADE, order_id)
        known = self._state.finding(name)
        if known is not None and known.resolved_at_ns is None:
            return []
        text = (
            f"order {order_id} (client id {report.client_order_id or 'none'}), which is no intent's, traded {report.side}"
            f" {report.last_qty} at {report.last_px}, at the symbol's scale: trade {report.fill_key}; it moves the"
            " balances, and no position here"
        )
        now_ns = self._clock.now_ns()
        return [raised(name, FindingKind.UNEXPECTED_TRADE, text, symbol_id=report.symbol_id, now_ns=now_ns)]

    async def close_missing(self, snapshot: VenueSnapshot, *, shown_before_ns: int, source: ReportSource) -> None:
        """Orders of others that are held for open, and that a complete list does not show, are gone."""
        listed = {report.exchange_order_id for report in snapshot.open_orders}
        for known in [*self._state.external_orders()]:
            if not known.live or known.exchange_order_id in listed or known.last_seen_ns >= shown_before_ns:
                continue
            gone: events.BaseEvent = events.ExternalOrderObserved(
                symbol_id=known.symbol_id,
                client_order_id=known.client_order_id,
                exchange_order_id=known.exchange_order_id,
                exec_type=ExecType.ORDER_STATUS,
                gone=True,
            )
            await self._fact([gone], source)

    async def resolve_explained(self, source: ReportSource) -> None:
        """A trade is no longer unexpected once its order is an intent's: adopted, or ours all along and told without the id
        that we gave it."""
        for finding in [*self._state.findings()]:
            if finding.kind is not FindingKind.UNEXPECTED_TRADE or finding.resolved_at_ns is not None:
                continue
            order_id = finding.finding_id.removeprefix(f"{finding.kind}:")
            intent_id = self._state.intent_id_of(exchange_order_id=order_id)
            if intent_id is None and self._state.evicted_count:
                intent_id = await self._writer.owner(exchange_order_id=order_id)
            if intent_id is not None:
                text = f"the order is intent {intent_id}'s"
                await self._fact([events.FindingResolved(finding_id=finding.finding_id, text=text)], source)

    async def _fact(self, made: Sequence[events.BaseEvent], source: ReportSource) -> None:
        await self._writer.append(events.VENUE_STREAM, made, actor=source.actor, evidence=source.evidence, is_fact=True)

    # -------------------------------------------------------------------------------------------------------- adopting
    async def _adopt(self, report: ExecutionReport, source: ReportSource) -> str | None:
        """Make an intent for the order, and return its id; None where the order is left alone."""
        if not self._is_ours_to_adopt(report):
            return None
        intent = self._intent_for(report)
        if intent is None:
            return None
        created = events.IntentCreated(intent=intent)
        before = self._state.record(intent.intent_id)
        if before.version:
            logger.warning("order %s is not adopted: intent %s exists", report.exchange_order_id, intent.intent_id)
            return None
        now_ns = self._clock.now_ns()
        try:
            seen = decide_report(evolve(before, created), report, now_ns=now_ns, began_ns=source.began_ns)
            await self._writer.append(
                events.intent_stream(intent.intent_id),
                [created, *seen],
                actor="kernel",
                evidence=source.evidence,
                expected_version=0,
                epoch=self.epoch,
            )
        except FencedError as problem:
            logger.warning("%s", problem)
            self._on_fenced()
            return None
        except ConflictError:
            return await self._adopted_meanwhile(report)
        except OutcomeUnknown as problem:
            logger.warning("a report could not be read, so nothing is adopted by it: %s", problem)
            return None
        logger.info("order %s is adopted", report.exchange_order_id, extra={"intent_id": intent.intent_id})
        return intent.intent_id

    def _is_ours_to_adopt(self, report: ExecutionReport) -> bool:
        if self._settings.external_orders is ExternalOrderPolicy.IGNORE or not report.exchange_order_id:
            return False
        if report.exec_type not in ORDER_EVIDENCE or report.side is None or report.order_qty is None:
            return False
        if not report.client_order_id and self._may_be_a_lost_one(report.symbol_id):
            return False
        if report.exec_type is not ExecType.TRADE and report.ord_status in OVER:
            return False
        return self._settings.external_orders_of_kernels or not is_kernel_client_id(report.client_order_id)

    def _may_be_a_lost_one(self, symbol_id: str) -> bool:
        """Whether an order of ours is being looked for: one that is told of without a client id may be that one."""
        live = (self._state.record(intent_id) for intent_id in self._state.live_intent_ids())
        return any(
            record.sent_order is not None and record.sent_order.symbol_id == symbol_id
            for record in live
            if record.unresolved
        )

    def _intent_for(self, report: ExecutionReport) -> OrderIntent | None:
        """What is wanted from now on: what is there. None for an order that can't be expressed."""
        policy = self._settings.external_orders
        found = {"exchange_order_id": report.exchange_order_id, "client_order_id": report.client_order_id}
        try:
            intent = new_intent(
                terms_of(report),
                intent_id=adopted_id(report.exchange_order_id or ""),
                exchange_id=self._state.exchange_id,
                owner=OWNER,
                on_unsolicited_cancel=UnsolicitedCancelPolicy.STOP,
                metadata={"adopted": found | {"policy": str(policy), "terms": "given" if report.order else "assumed"}},
                now_ns=self._clock.now_ns(),
            )
        except ValueError as problem:
            logger.warning("order %s cannot be adopted: %s", report.exchange_order_id, problem)
            return None
        if policy is ExternalOrderPolicy.CANCEL:
            return intent.model_copy(update={"desired": Desired.CANCELED})
        return intent


def adopted_id(exchange_order_id: str) -> str:
    """The id of the intent for an order found at the venue: the venue's id, or a hash of it where that does not fit."""
    plain = f"ext-{exchange_order_id}"
    if re.fullmatch(r"[A-Za-z0-9._-]{5,64}", plain):
        return plain
    digest = hashlib.sha256(exchange_order_id.encode()).digest()
    return f"ext-{base64.b32encode(digest).decode().lower()[:26]}"


def is_kernel_client_id(client_order_id: str | None) -> bool:
    """Whether a client order id has the form of those that kernels make (`lifecycle.client_order_id`), whatever its log."""
    return re.fullmatch(r"[a-z2-7]{12,26}", client_order_id or "") is not None


def terms_of(report: ExecutionReport) -> StandardOrder:
    """An order's terms as the venue gives them; where it gives price and quantity alone, those of a plain order."""
    assert report.side is not None, "checked before"
    assert report.order_qty is not None, "checked before"
    if report.order is not None:
        return report.order
    kind = OrderType.MARKET if report.price is None else OrderType.LIMIT
    return StandardOrder(
        symbol_id=report.symbol_id, side=report.side, order_type=kind, quantity=report.order_qty, price=report.price
    )
