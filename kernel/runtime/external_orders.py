"""External orders, which no intent owns: records, and then ignores, adopts or cancels them as the settings say.

Called by the session. To adopt an order is to append an intent with its terms together with the first report. To cancel it
is to adopt it with a canceled intent, which the reconciler executes. An order whose client id has a kernel's form is
another log's and left alone by default: two kernels would take over each other's orders.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from msgspec import structs

from kernel import events
from kernel.clock import Clock
from kernel.commands.validation import new_intent
from kernel.errors import ConflictError, FencedError, OutcomeUnknown
from kernel.lifecycle.attribution import OrderRequest
from kernel.lifecycle.decide_report import decide_report
from kernel.lifecycle.evolve import evolve
from kernel.lifecycle.findings import finding_id, raised
from kernel.lifecycle.order_identity import OrderMatch, reuse_findings, shows
from kernel.lifecycle.orders.order_status import TERMINAL
from kernel.lifecycle.settled_orders import recalled
from kernel.log.base import Write
from kernel.models import (
    Desired,
    Evidence,
    ExecType,
    ExternalOrder,
    ExternalOrderPolicy,
    Finding,
    FindingKind,
    OrderIntent,
    UnsolicitedCancelPolicy,
)
from kernel.order_spec import OrderType, Side, StandardOrder
from kernel.reconciler.suspects import suspects_of, suspects_text
from kernel.settings import KernelSettings
from kernel.state import KernelState
from kernel.streams.event_writer import EventWriter, ReportSource, doubts
from kernel.streams.report_matching import match_in_memory
from kernel.venues.base import ExecutionReport, VenueSnapshot
from kernel.venues.guard import GuardedVenue

logger = logging.getLogger(__name__)

OWNER = "adopted"
"""The owner of adopted intents."""
MATCHES_MAX = 5
"""How often a report is matched again, as intents that it may be about changed, before it is recorded as external."""
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
"""Reports by which an order can be adopted: it is working, or it traded."""


@dataclass(eq=False)
class ExternalOrders:
    """Handles external orders for one leader."""

    state: KernelState
    writer: EventWriter
    venue: GuardedVenue
    clock: Clock
    settings: KernelSettings
    on_fenced: Callable[[], None]
    epoch: int = field(default=0, init=False)

    async def ingest(self, reports: Iterable[tuple[ExecutionReport, OrderMatch]], source: ReportSource) -> None:
        """Record new reports of external orders, and adopt the orders if the policy says so."""
        by_order: dict[str, list[tuple[ExecutionReport, OrderMatch]]] = {}
        for report, found in reports:
            by_order.setdefault(report.exchange_order_id or report.client_order_id or "", []).append((report, found))
        await asyncio.gather(*(self._ingest_one(items, source) for items in by_order.values()))

    async def _ingest_one(self, reports: Sequence[tuple[ExecutionReport, OrderMatch]], source: ReportSource) -> None:
        for report, found in reports:
            with self.venue.noting_unreadable():
                intent_id = self._adopter(report, source) or await self._adopt(report, found, source)
                if intent_id is None and self._is_new(report):
                    intent_id = await self._record(report, found, source)
                if intent_id is not None:
                    await self.writer.report(intent_id, [report], source)

    def _adopter(self, report: ExecutionReport, source: ReportSource) -> str | None:
        """Return the intent that an earlier report made of the order."""
        return match_in_memory(self.state, report, margin_ns=source.life_margin_ns).intent_id

    async def _record(self, report: ExecutionReport, found: OrderMatch, source: ReportSource) -> str | None:
        """Record a report, or return the intent if the order turns out to be an intent's meanwhile: a trade recorded in
        both places would move the balances twice."""
        for _ in range(MATCHES_MAX):
            try:
                await self._append(report, found, source, unchanged=self._unchanged(report))
                return self._adopter(report, source)  # of an order that became an intent's, the fold moves the trades
            except ConflictError:
                await self.writer.caught_up()
                found = await self.writer.match(report, source)
            if found.intent_id is not None:
                return found.intent_id
        await self._append(report, found, source)  # of intents that change all the time, none has reported it
        return self._adopter(report, source)

    def _unchanged(self, report: ExecutionReport) -> list[Write]:
        """Return what must hold for a report to be external: its order was not adopted, and no answer came to a request
        that may have made it."""
        intent_ids = [self._adopted_id(report)] if report.exchange_order_id else []
        if not report.client_order_id and report.side is not None:
            intent_ids += self.state.intents_with_unresolved_orders(report.symbol_id, report.side)
        return [Write(events.intent_stream(name), (), self.state.record(name).version) for name in intent_ids]

    async def _append(
        self, report: ExecutionReport, found: OrderMatch, source: ReportSource, *, unchanged: Sequence[Write] = ()
    ) -> None:
        reused = self.reused(report, found)
        if report.client_order_id and not reused:
            found = structs.replace(found, candidates=())  # told before, and the report is surely not about them
        also = [*self._unexpected(report, found), *reused]
        await self.writer.external(report, source, also=also, found=found, epoch=self.epoch, unchanged=unchanged)

    async def report_reuse(self, report: ExecutionReport, found: OrderMatch, source: ReportSource) -> None:
        """Raise the finding that an order of ours has the id of another one; that one is queried if it is still open."""
        if reused := self.reused(report, found):
            also = doubts(report, [item for item in found.reused if item[1].live])
            await self._fact(reused, source, also=also)

    def reused(self, report: ExecutionReport, found: OrderMatch) -> list[events.FindingRaised]:
        """Return the finding to raise for an order id that stands for two orders, unless it is unresolved."""
        made = reuse_findings(report, found, now_ns=self.clock.now_ns())
        return [event for event in made if not self._is_raised(event.finding.finding_id)]

    def _is_raised(self, name: str) -> bool:
        known = self.state.finding(name)
        return known is not None and known.resolved_at_ns is None

    def _is_new(self, report: ExecutionReport) -> bool:
        """Return whether a report is worth an event: a list's unchanged order is not."""
        if report.exec_type is not ExecType.ORDER_STATUS:
            return True
        known = self.state.external_order_of(report)
        if known is None:
            return True
        if report.client_order_id and not known.client_order_id:
            return True
        if report.order_created_ns not in (None, known.created_ns):
            return True
        if not known.live:
            return False
        shown = (report.order_qty, report.price, report.cum_qty)
        return shown != (known.quantity, known.price, known.cum_qty)

    def _unexpected(self, report: ExecutionReport, found: OrderMatch) -> list[events.BaseEvent]:
        """Return the finding to raise for an external order's trade, unless it has an unresolved one."""
        if report.exec_type is not ExecType.TRADE:
            return []
        order_id = report.exchange_order_id or report.fill_key or "?"
        name = finding_id(FindingKind.UNEXPECTED_TRADE, order_id)
        known = self.state.finding(name)
        if found.reused or (known is not None and known.symbol_id != report.symbol_id):
            name = finding_id(FindingKind.UNEXPECTED_TRADE, f"{report.symbol_id}/{report.side}/{order_id}")
        if self._is_raised(name):
            return []
        text = (
            f"external order {order_id} (client id {report.client_order_id or 'none'}) traded {self._traded(report)}, trade"
            f" {report.fill_key}: it changes the balances, and no position of this kernel"
        )
        now_ns = self.clock.now_ns()
        return [raised(name, FindingKind.UNEXPECTED_TRADE, text, symbol_id=report.symbol_id, now_ns=now_ns)]

    def _traded(self, report: ExecutionReport) -> str:
        symbol, quantity, price = self.state.symbol(report.symbol_id), report.last_qty, report.last_px
        if symbol is None or quantity is None or price is None:
            return f"{report.side} {quantity} at {price} (scaled integers)"
        return f"{report.side} {symbol.quantity_to_decimal(quantity)} at {symbol.price_to_decimal(price)}"

    async def close_missing(self, snapshot: VenueSnapshot, *, shown_before_ns: int, source: ReportSource) -> None:
        """Record as gone the open external orders that a complete list lacks."""
        listed = {(report.symbol_id, report.exchange_order_id) for report in snapshot.open_orders}
        for known in [*self.state.external_orders()]:
            is_listed = (known.symbol_id, known.exchange_order_id) in listed
            if not known.live or is_listed or known.last_seen_ns >= shown_before_ns:
                continue
            gone: events.BaseEvent = events.ExternalOrderObserved(
                symbol_id=known.symbol_id,
                client_order_id=known.client_order_id,
                exchange_order_id=known.exchange_order_id,
                side=known.side,
                exec_type=ExecType.ORDER_STATUS,
                gone=True,
            )
            await self._fact([gone], source)

    async def resolve_explained(self, source: ReportSource) -> None:
        """Resolve unexpected trades that turn out to be those of an intent's order: adopted, or reported without its id."""
        for finding in [*self.state.findings()]:
            if finding.kind is not FindingKind.UNEXPECTED_TRADE or finding.resolved_at_ns is not None:
                continue
            if (intent_id := await self._trader(finding)) is not None:
                text = f"the order belongs to intent {intent_id}"
                await self._fact([events.FindingResolved(finding_id=finding.finding_id, text=text)], source)

    async def _trader(self, finding: Finding) -> str | None:
        """Return the intent whose order made the trades of a finding; None while they count for an external order.

        Where an order of an intent may have had the id already, the trades of the external order must have moved, or a
        newer order have taken its place: an ended external order is not kept for ever.
        """
        _, _, subject = finding.finding_id.partition(":")
        prefixes = {f"{finding.symbol_id}/{side}/": side for side in Side}
        prefix = next(filter(subject.startswith, prefixes), "")
        side, order_id = prefixes.get(prefix), subject.removeprefix(prefix)
        shown = [
            item
            for item in self.state.external_orders()
            if item.exchange_order_id == order_id and item.symbol_id == finding.symbol_id and side in (None, item.side)
        ]
        if any(map(self.state.external_trades, shown)):
            return None
        is_unique = not prefix and self.venue.capabilities.order_ids_unique
        moved = is_unique or any(item.cum_qty for item in shown)
        for intent_id, facts in reversed(await self.writer.orders_under(order_id)):
            fits = facts.order.symbol_id == finding.symbol_id and side in (None, facts.order.side)
            if fits and ((moved and facts.cum_qty) or facts.first_seen_ns >= finding.raised_at_ns):
                return intent_id
        return None

    async def watch_dead(self, source: ReportSource) -> None:
        """Raise, change or resolve the findings that name external orders which may be those of DEAD requests (H20).

        Nothing contains such an order: it is nobody's. A finding that an operator resolves ends the watch.
        """
        capabilities = self.venue.capabilities
        if capabilities.sees_closed:
            return
        await self._resolve_followed(source)
        for request in [*self.state.dead_requests()]:
            if request.stop_id is not None and not capabilities.hides_triggered:
                continue
            name = finding_id(FindingKind.UNOWNED_CANDIDATE, request.client_order_id)
            known = self.state.finding(name)
            is_open = known is not None and known.resolved_at_ns is None
            suspects = suspects_of(self.state, [request], capabilities)
            if is_open and not suspects:
                await self._fact([events.FindingResolved(finding_id=name, text="no such order is left")], source)
            if not suspects:
                continue
            event = self._dead_candidates(name, request, suspects)
            if known is None or not is_open or known.text != event.finding.text:
                await self._fact([event], source)

    async def _resolve_followed(self, source: ReportSource) -> None:
        """Resolve the findings about requests whose order is known since, and about stops that are open again."""
        watched = {request.client_order_id for request in self.state.dead_requests()}
        for finding in [*self.state.findings()]:
            name = finding.finding_id.removeprefix(f"{FindingKind.UNOWNED_CANDIDATE}:")
            if (
                finding.kind is not FindingKind.UNOWNED_CANDIDATE
                or finding.resolved_at_ns is not None
                or name in watched
            ):
                continue
            if any(name in facts.client_order_ids for facts in self.state.record(finding.intent_id or "").orders):
                text = "no external order may be its order any more"
                await self._fact([events.FindingResolved(finding_id=finding.finding_id, text=text)], source)

    def _dead_candidates(
        self, name: str, request: OrderRequest, suspects: Sequence[ExternalOrder]
    ) -> events.FindingRaised:
        named = suspects_text(suspects, self.state.symbol(request.symbol_id))
        if request.stop_id is not None:
            text = f"stop {request.stop_id} has ended, and the venue does not tell whether its trigger made {named}"
        else:
            text = f"the request {request.client_order_id} was resolved as DEAD, and the venue does not tell whether"
            text += f" {named} is its order"
        return raised(
            name,
            FindingKind.UNOWNED_CANDIDATE,
            text,
            intent_id=request.intent_id,
            symbol_id=request.symbol_id,
            now_ns=self.clock.now_ns(),
        )

    async def _fact(
        self, made: Sequence[events.BaseEvent], source: ReportSource, *, also: Sequence[Write] = ()
    ) -> None:
        await self.writer.append(
            events.VENUE_STREAM, made, actor=source.actor, evidence=source.evidence, is_fact=True, also=also
        )

    async def _adopt(self, report: ExecutionReport, found: OrderMatch, source: ReportSource) -> str | None:
        """Create an intent for the order, and return its id; None if the order is left alone."""
        may_be_ours = found.sender is not None or (found.reused and not report.client_order_id)
        intent = self._intent_for(report) if not may_be_ours and self._is_adoptable(report, source) else None
        if intent is None:
            return None
        created = events.IntentCreated(intent=intent)
        before = self.state.record(intent.intent_id)
        if before.version:
            logger.warning("order %s is not adopted: intent %s exists", report.exchange_order_id, intent.intent_id)
            return None
        now_ns = self.clock.now_ns()
        try:
            seen = decide_report(
                evolve(before, created), report, now_ns=now_ns, began_ns=source.began_ns, reflects_ns=source.reflects_ns
            )
            await self.writer.append(
                events.intent_stream(intent.intent_id),
                [created, *seen],
                actor="kernel",
                evidence=source.evidence,
                expected_version=0,
                epoch=self.epoch,
            )
        except FencedError as problem:
            logger.warning("%s", problem)
            self.on_fenced()
            return None
        except ConflictError:
            await self.writer.caught_up()
            return (await self.writer.match(report, source)).intent_id
        except OutcomeUnknown as problem:
            logger.warning("order %s is not adopted, its report is unusable: %s", report.exchange_order_id, problem)
            return None
        logger.info("order %s adopted", report.exchange_order_id, extra={"intent_id": intent.intent_id})
        return intent.intent_id

    def _is_adoptable(self, report: ExecutionReport, source: ReportSource) -> bool:
        if self.settings.external_orders is ExternalOrderPolicy.IGNORE or not report.exchange_order_id:
            return False
        if report.exec_type not in ORDER_EVIDENCE or report.side is None or report.order_qty is None:
            return False
        if not report.client_order_id and self._has_unresolved(report.symbol_id):
            return False
        if report.exec_type is not ExecType.TRADE and report.ord_status in TERMINAL:
            return False
        hidden = not report.client_order_id and not self._shows_client_ids(report, source)
        if self.settings.external_orders_of_kernels:
            return not (hidden and self.venue.capabilities.hides_triggered)
        return not hidden and not is_kernel_client_id(report.client_order_id)

    def _shows_client_ids(self, report: ExecutionReport, source: ReportSource) -> bool:
        """Return whether a report would carry its order's client order id: else the order may be another kernel's."""
        capabilities = self.venue.capabilities
        if source.evidence is not Evidence.QUERY:
            return capabilities.client_order_ids
        is_listed = report.exec_type is ExecType.ORDER_STATUS
        carries = capabilities.orders_carry_client_id if is_listed else capabilities.trades_carry_client_id
        return capabilities.client_order_ids and carries

    def _has_unresolved(self, symbol_id: str) -> bool:
        """Return whether an attempt in a symbol is unresolved: an order without a client id may be its order."""
        live = (self.state.record(intent_id) for intent_id in self.state.live_intent_ids())
        return any(
            record.sent_order is not None and record.sent_order.symbol_id == symbol_id
            for record in live
            if record.unresolved
        )

    def _adopted_id(self, report: ExecutionReport) -> str:
        """Return the intent id for an order: another one if an earlier order with its venue order id has the plain one."""
        plain = adopted_id(report.exchange_order_id or "")
        record = recalled(self.state.record(plain), report)
        if not record.orders or any(shows(record, facts, report) for facts in record.orders):
            return plain
        key = (report.symbol_id, report.side, report.exchange_order_id, report.client_order_id)
        return adopted_id("\n".join(map(str, key)))

    def _intent_for(self, report: ExecutionReport) -> OrderIntent | None:
        """Return an intent with the order's terms; None if an intent cannot express them."""
        policy = self.settings.external_orders
        found = {"exchange_order_id": report.exchange_order_id, "client_order_id": report.client_order_id}
        try:
            intent = new_intent(
                terms_of(report),
                intent_id=self._adopted_id(report),
                exchange_id=self.state.exchange_id,
                owner=OWNER,
                on_unsolicited_cancel=UnsolicitedCancelPolicy.STOP,
                metadata={"adopted": found | {"policy": str(policy), "terms": "given" if report.order else "assumed"}},
                now_ns=self.clock.now_ns(),
            )
        except ValueError as problem:
            logger.warning("order %s cannot be adopted: %s", report.exchange_order_id, problem)
            return None
        if policy is ExternalOrderPolicy.CANCEL:
            return structs.replace(intent, desired=Desired.CANCELED)
        return intent


def adopted_id(exchange_order_id: str) -> str:
    """Return the intent id of an adopted order: the venue's id, or a hash of it if it is not a valid intent id."""
    plain = f"ext-{exchange_order_id}"
    if re.fullmatch(r"[A-Za-z0-9._-]{5,64}", plain):
        return plain
    digest = hashlib.sha256(exchange_order_id.encode()).digest()
    return f"ext-{base64.b32encode(digest).decode().lower()[:26]}"


def is_kernel_client_id(client_order_id: str | None) -> bool:
    """Return whether a client order id has the form of `lifecycle.client_order_id`, of any log."""
    return re.fullmatch(r"[a-z2-7]{12,26}", client_order_id or "") is not None


def terms_of(report: ExecutionReport) -> StandardOrder:
    """Return an order's terms; a plain limit or market order if the venue reports only price and quantity."""
    assert report.side is not None, "checked before"
    assert report.order_qty is not None, "checked before"
    if report.order is not None:
        return report.order
    kind = OrderType.MARKET if report.price is None else OrderType.LIMIT
    return StandardOrder(
        symbol_id=report.symbol_id, side=report.side, order_type=kind, quantity=report.order_qty, price=report.price
    )
