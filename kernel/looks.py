"""Asking the venue: what became of an attempt, what an order came to. Step 3 of the protocol.

Called by the reconciler when an attempt is not settled or an order's own account has gaps. A look is recorded with the
facts that it brought; it settles an attempt by those facts, or, when it is admissible and shows nothing, by one verdict
under the stream version that was there before the look began. A look that fails or is incomplete is no evidence.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from kernel import events, settlement
from kernel.attempts import RECONCILER
from kernel.budget import VenueBudget
from kernel.clock import Clock
from kernel.errors import ConflictError, OutcomeUnknown, VenueError
from kernel.groups import Group
from kernel.lifecycle import Record, finding_id, raised, untold_findings
from kernel.lifecycle.facts import OrderFacts
from kernel.metrics import LookResult, Metrics, Operation
from kernel.models import (
    UNSETTLED,
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
from kernel.settings import KernelSettings, ns
from kernel.state import KernelState
from kernel.venues.base import ExecutionReport, Venue, VenueSnapshot
from kernel.workqueue import Priority
from kernel.writer import EventWriter, Source

Answer = TypeVar("Answer")
ORDER_SCOPES = (LookScope.ORDER,)
"""A look by a client order id."""
LIST_SCOPES = (LookScope.OPEN_ORDERS, LookScope.TRADES)
"""A look at the lists."""


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at the venue showed of one order."""

    scopes: tuple[LookScope, ...]
    began_ns: int
    ended_ns: int
    reports: tuple[ExecutionReport, ...]
    """Reports of the order looked for; empty when it was not there."""
    listed: bool
    """Whether it is open, as far as this look tells."""


@dataclass(frozen=True, slots=True)
class Looked:
    """What a look came to: `settled`, or when to look again (None: as backoff has it)."""

    settled: bool
    again_ns: int | None = None
    resend: bool = False
    """The same number and id may be sent again at once."""


class VenueLooker:
    """Looks for one venue, as the leader of one epoch."""

    def __init__(
        self,
        state: KernelState,
        writer: EventWriter,
        venue: Venue,
        *,
        clock: Clock,
        settings: KernelSettings,
        metrics: Metrics | None = None,
        budget: VenueBudget | None = None,
    ) -> None:
        """Looks raise `BudgetSpent` where the rate budget has no room for a question."""
        self._state = state
        self._writer = writer
        self._venue = venue
        self._clock = clock
        self._settings = settings
        self._metrics = metrics or Metrics()
        self._budget = budget or VenueBudget(venue, clock=clock, settings=settings, metrics=self._metrics)
        self._looked_ns: dict[str, dict[int, int]] = {}
        """Begin of the newest look for each unsettled attempt, by intent and position; gone after a restart, which looks
        anew."""
        self.epoch = 0

    def keep(self, intent_ids: frozenset[str]) -> None:
        """Forget the looks for all other intents."""
        for intent_id in self._looked_ns.keys() - intent_ids:
            del self._looked_ns[intent_id]

    # ------------------------------------------------------------------------------------------------------- submits
    async def settle_submit(self, order: OrderState, attempt: Attempt, *, wanted: bool) -> Looked:
        """Find out what became of a submit."""
        capabilities = self._venue.capabilities
        looked_ns = self._looked_ns.setdefault(order.intent_id, {})
        last_ns = looked_ns.get(attempt.position)
        due_ns = settlement.next_look_ns(attempt, capabilities, last_look_ns=last_ns)
        now_ns, told_ns = self._clock.now_ns(), attempt.stamp_ns + ns(self._settings.unknown_too_long_s)
        await self._raise_if_unknown_too_long(order.intent_id, order, attempt)
        if settlement.repeats_unseen(attempt, capabilities, wanted=wanted, last_look_ns=last_ns, now_ns=now_ns):
            return Looked(settled=False, resend=True)
        if due_ns is not None and now_ns < due_ns:
            return Looked(settled=False, again_ns=min(due_ns, told_ns) if now_ns < told_ns else due_ns)
        record = self._state.record(order.intent_id)
        version = record.version
        symbol_id = order.status.order.symbol_id
        # What an earlier send of the same id came to may have traded long before this one.
        stamps = (item.stamp_ns for item in record.attempts if item.client_order_id == attempt.client_order_id)
        since_ns = min(stamps, default=attempt.stamp_ns)
        look = await self._look_for(symbol_id, attempt.client_order_id, None, since_ns=since_ns)
        looked_ns[attempt.position] = look.began_ns
        if look.reports:
            await self._record_found(record, look, attempt.client_order_id)
            self._looked_ns.pop(order.intent_id, None)
            return Looked(settled=True)
        conclusion = settlement.conclude(
            attempt,
            capabilities,
            wanted=wanted,
            began_ns=look.began_ns,
            ended_ns=look.ended_ns,
            assumed_max_delay_ns=self._assumed_max_delay_ns(),
        )
        return await self._conclude(record, attempt, look, conclusion, version=version)

    async def _conclude(
        self, record: Record, attempt: Attempt, look: Look, conclusion: settlement.Conclusion, *, version: int
    ) -> Looked:
        absent = self._look_event(record.intent_id, look, client_order_id=attempt.client_order_id)
        match conclusion:
            case settlement.Resend():
                return Looked(settled=False, resend=True)
            case settlement.LookAgain(at_ns=at_ns):
                await self._unknown_from_here(record, attempt, version=version)
                return Looked(settled=False, again_ns=at_ns)
            case settlement.FirstLook(trades_from_ns=trades_from_ns):
                await self._verdict(record.intent_id, [absent], Evidence.QUERY, version=version)
                return Looked(settled=False, again_ns=trades_from_ns)
            case settlement.ClosedUnfilled(text=text):
                await self._record_closed_unfilled(record, attempt, look, text)
            case settlement.Dead(text=text, inferred=inferred):
                resolved = events.AttemptResolved(
                    intent_id=record.intent_id,
                    attempt_position=attempt.position,
                    outcome=AttemptOutcome.DEAD,
                    text=text,
                    began_ns=look.began_ns,
                )
                evidence = Evidence.INFERRED if inferred else Evidence.QUERY
                notes = self._unknown_resolved(record)
                await self._verdict(record.intent_id, [absent, resolved, *notes], evidence, version=version)
        self._looked_ns.pop(record.intent_id, None)
        return Looked(settled=True)

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

    async def _record_closed_unfilled(self, record: Record, attempt: Attempt, look: Look, text: str) -> None:
        event = events.OrderStateObserved(
            intent_id=record.intent_id,
            symbol_id=self._symbol_id(record),
            client_order_id=attempt.client_order_id,
            exec_type=ExecType.ORDER_STATUS,
            ord_status=OrdStatus.CANCELED,
            cum_qty=0,
            text=text,
            began_ns=look.began_ns,
        )
        await self._fact(record.intent_id, [event], Evidence.INFERRED)

    def _symbol_id(self, record: Record) -> str:
        order = record.sent_order or (record.intent.order if record.intent else None)
        assert order is not None, "an attempt carries an order"
        return order.symbol_id

    # ------------------------------------------------------------------------------------------------------- cancels
    async def settle_cancel(self, order: OrderState, attempt: Attempt) -> Looked:
        """Find out what became of a cancel: look at the order. It is idempotent, so an open order is canceled again."""
        record = self._state.record(order.intent_id)
        target = self._target(order, attempt)
        if target is None or not target.live:
            await self._resolve(record, attempt, AttemptOutcome.DEAD, "the order no longer works")
            return Looked(settled=True)
        still_open = await self._look_at(record, target)
        record = self._state.record(order.intent_id)
        left = next((item for item in record.attempts if item.position == attempt.position), None)
        if left is None or left.outcome not in UNSETTLED:
            return Looked(settled=True)
        if not still_open:
            return Looked(settled=False, again_ns=self._clock.now_ns() + self._lag_ns())
        await self._resolve(record, left, AttemptOutcome.DEAD, "the order is still open: it is canceled again")
        return Looked(settled=True)

    # -------------------------------------------------------------------------------------------------------- amends
    async def settle_amend(self, order: OrderState, attempt: Attempt) -> Looked:
        """Find out what became of a change in place: look at the order, under the amend's id and under its own.

        What it shows is the amend's outcome at once where it has the terms asked for, or has ended; that it shows them not
        is one only in a look begun at or after `absent_after` (H14).
        """
        record = self._state.record(order.intent_id)
        target = self._target(order, attempt)
        if target is None or not target.live:
            await self._resolve(record, attempt, AttemptOutcome.DEAD, "the order no longer works")
            return Looked(settled=True)
        looked_ns = self._looked_ns.setdefault(order.intent_id, {})
        due_ns = settlement.next_look_ns(
            attempt, self._venue.capabilities, last_look_ns=looked_ns.get(attempt.position)
        )
        if due_ns is not None and self._clock.now_ns() < due_ns:
            return Looked(settled=False, again_ns=due_ns)
        await self._raise_if_unknown_too_long(order.intent_id, order, attempt)
        began_ns = looked_ns[attempt.position] = self._clock.now_ns()
        if self._venue.capabilities.sees_closed:
            renamed = target.model_copy(update={"client_order_id": attempt.client_order_id})
            if not await self._look_at(record, renamed):
                await self._look_at(self._state.record(order.intent_id), target)
        else:
            await self._look_at(record, target)
        record = self._state.record(order.intent_id)
        left = next((item for item in record.attempts if item.position == attempt.position), None)
        if left is None or left.outcome not in UNSETTLED:
            return Looked(settled=True)
        if not settlement.is_admissible(attempt, began_ns=began_ns):
            await self._unknown_from_here(record, left, version=record.version)
            again_ns = settlement.next_look_ns(attempt, self._venue.capabilities, last_look_ns=began_ns)
            return Looked(settled=False, again_ns=again_ns)
        text = "the order has other terms, and no change can arrive any more"
        await self._resolve(record, left, AttemptOutcome.DEAD, text, began_ns=began_ns)
        return Looked(settled=True)

    async def settle_replace(self, order: OrderState, attempt: Attempt) -> Looked:
        """Find out what became of a replace: its new order is looked for like a submit's, and the old one is looked at as
        well, as its end may be why the replace came to nothing."""
        looked = await self.settle_submit(order, attempt, wanted=False)
        target = self._target(order, attempt)
        if not looked.settled or target is None or not target.live:
            return looked
        await self._look_at(self._state.record(order.intent_id), target)
        return looked

    def _target(self, order: OrderState, attempt: Attempt) -> VenueOrder | None:
        for item in order.venue_orders:
            if attempt.target_exchange_order_id and item.exchange_order_id == attempt.target_exchange_order_id:
                return item
        named = [item for item in order.venue_orders if item.client_order_id == attempt.target_client_order_id]
        return named[-1] if named else None

    async def _resolve(
        self, record: Record, attempt: Attempt, outcome: AttemptOutcome, text: str, *, began_ns: int | None = None
    ) -> None:
        event = events.AttemptResolved(
            intent_id=record.intent_id, attempt_position=attempt.position, outcome=outcome, text=text, began_ns=began_ns
        )
        await self._verdict(record.intent_id, [event], Evidence.QUERY, version=record.version)

    # --------------------------------------------------------------------------------------------------------- orders
    async def ask(self, order: OrderState, item: VenueOrder) -> Looked:
        """Ask about an order whose account has gaps: is it open, what did it come to, which trades were there."""
        record = self._state.record(order.intent_id)
        capabilities = self._venue.capabilities
        told_by_id = capabilities.sees_closed and bool(item.client_order_id) and not shadowed(order, item)
        if not item.live and item.final_cum_qty is None and not told_by_id:
            return await self._final_by_trades(record, item)
        if item.inferred_qty > 0:
            await self._look_for_trades(record, item)
        else:
            await self._look_at(record, item)
        return Looked(settled=True)

    async def _look_at(self, record: Record, item: VenueOrder) -> bool:
        """Look at one order and record what is news; whether the look shows it open."""
        symbol_id = self._symbol_id(record)
        look = await self._look_for(
            symbol_id, item.client_order_id, item.exchange_order_id or None, since_ns=traded_since(record, item)
        )
        if look.reports:
            await self._record_found(record, look, item.client_order_id)
        if look.listed or LookScope.ORDER in look.scopes:
            return look.listed
        # The list was looked at: there is no look-up, or it shows another order of the same client id.
        capabilities = self._venue.capabilities
        shown_ns = item.first_seen_ns + capabilities.read_lag.open_orders_ns + capabilities.hosts_skew_ns
        if item.live and look.began_ns >= shown_ns:
            await self._fact(record.intent_id, [self._gone(record, item, look)], Evidence.QUERY)
        return False

    def _gone(self, record: Record, item: VenueOrder, look: Look) -> events.OrderStateObserved:
        return events.OrderStateObserved(
            intent_id=record.intent_id,
            symbol_id=self._symbol_id(record),
            client_order_id=item.client_order_id,
            exchange_order_id=item.exchange_order_id or None,
            exec_type=ExecType.ORDER_STATUS,
            gone=True,
            began_ns=look.began_ns,
            text="no longer among the open orders",
        )

    async def _look_for_trades(self, record: Record, item: VenueOrder) -> None:
        """The venue counts more than the trades known: fetch the trades since the order was first seen (H16)."""
        look = await self._snapshot_look(
            item.client_order_id, item.exchange_order_id or None, traded_since(record, item)
        )
        if look.reports:
            await self._record_found(record, look, item.client_order_id)
        elif self._venue.capabilities.sees_closed:
            await self._look_at(record, item)

    async def _final_by_trades(self, record: Record, item: VenueOrder) -> Looked:
        """Closed, reason unknown, and no look-up: only a complete look begun a lag after the closing tells (H15), and after
        the newest bust, which may have opened it again."""
        capabilities = self._venue.capabilities
        voided_ns = max((facts.quantities.voided_ns for facts in record.orders if names(facts, item)), default=0)
        lag_ns = max(capabilities.read_lag.trades_ns, capabilities.read_lag.open_orders_ns)
        due_ns = max(item.closed_ns or 0, voided_ns) + lag_ns + capabilities.hosts_skew_ns
        if self._clock.now_ns() < due_ns:
            return Looked(settled=False, again_ns=due_ns)
        look = await self._snapshot_look(
            item.client_order_id, item.exchange_order_id or None, traded_since(record, item)
        )
        if look.reports:
            await self._record_found(record, look, item.client_order_id)
            record = self._state.record(record.intent_id)
        if look.listed:
            return Looked(settled=True)
        facts = next((f for f in record.orders if names(f, item) and not f.live), None)
        if facts is None or facts.final_cum_qty is not None:
            return Looked(settled=True)
        event = events.OrderStateObserved(
            intent_id=record.intent_id,
            symbol_id=self._symbol_id(record),
            client_order_id=item.client_order_id,
            exchange_order_id=item.exchange_order_id or None,
            exec_type=ExecType.ORDER_STATUS,
            ord_status=OrdStatus.CANCELED,
            cum_qty=facts.traded_qty,
            transact_time_ns=max(0, facts.quantities.voided_ns),
            began_ns=look.began_ns,
            text="closed; its trades are all known",
        )
        await self._fact(record.intent_id, [event], Evidence.INFERRED)
        return Looked(settled=True)

    # --------------------------------------------------------------------------------------------------------- the venue
    async def _look_for(
        self, symbol_id: str, client_order_id: str, exchange_order_id: str | None, *, since_ns: int
    ) -> Look:
        """One look for one order, by the best means that the venue has."""
        if not self._venue.capabilities.sees_closed or not client_order_id:
            return await self._snapshot_look(client_order_id, exchange_order_id, since_ns)
        began_ns = self._clock.now_ns()
        report = await self._ask(lambda: self._venue.order(symbol_id, client_order_id), ORDER_SCOPES)
        ended_ns = self._clock.now_ns()
        self._metrics.looked(ORDER_SCOPES, LookResult.NOT_FOUND if report is None else LookResult.FOUND)
        if report is None:
            return Look(ORDER_SCOPES, began_ns, ended_ns, (), listed=False)
        if exchange_order_id and report.exchange_order_id != exchange_order_id:
            # Another order carries the same client id: it is told of, and the list tells them apart.
            await self._report(self._state.intent_id_of(client_order_id=client_order_id), [report], began_ns)
            return await self._snapshot_look(client_order_id, exchange_order_id, since_ns)
        return Look(ORDER_SCOPES, began_ns, ended_ns, (report,), listed=is_open(report))

    async def _snapshot_look(self, client_order_id: str, exchange_order_id: str | None, since_ns: int) -> Look:
        overlap_ns = (
            ns(self._settings.trades_overlap_s)
            + self._venue.capabilities.read_lag.trades_ns
            + self._venue.capabilities.clock_skew_ns
        )
        snapshot = await self._ask(lambda: self._venue.snapshot(max(0, since_ns - overlap_ns)))
        if not (snapshot.open_orders_complete and snapshot.fills_complete):
            self._metrics.looked(LIST_SCOPES, LookResult.INCOMPLETE)
            raise OutcomeUnknown(f"the look is incomplete, so it is no evidence: {snapshot.text}")
        look = look_of(snapshot, client_order_id, exchange_order_id)
        self._metrics.looked(LIST_SCOPES, LookResult.FOUND if look.reports else LookResult.NOT_FOUND)
        return look

    async def _ask(
        self, question: Callable[[], Awaitable[Answer]], scopes: tuple[LookScope, ...] = LIST_SCOPES
    ) -> Answer:
        operation = Operation.ORDER if scopes is ORDER_SCOPES else Operation.SNAPSHOT
        try:
            with (
                self._budget.granted(Priority.SETTLE, operation) as grant,
                self._budget.calling(grant),
                self._metrics.calling(operation, self._clock),
            ):
                return await answer_within(self._settings.query_timeout_s, question())
        except VenueError:
            self._metrics.looked(scopes, LookResult.FAILED)
            raise

    # ---------------------------------------------------------------------------------------------------------- the log
    async def _record_found(self, record: Record, look: Look, client_order_id: str) -> None:
        await self._report(record.intent_id, look.reports, look.began_ns)
        found = self._look_event(
            record.intent_id, look, client_order_id=client_order_id, exchange_order_id=look.reports[0].exchange_order_id
        )
        known = self._state.record(record.intent_id)
        notes = [] if known.unsettled else self._unknown_resolved(known)
        await self._fact(record.intent_id, [found, *notes], Evidence.QUERY)

    async def _report(self, intent_id: str | None, reports: Sequence[ExecutionReport], began_ns: int) -> None:
        if intent_id is not None:
            source = Source(f"venue:{self._state.exchange_id}", Evidence.QUERY, began_ns=began_ns)
            await self._writer.report(intent_id, reports, source)

    def _look_event(
        self, intent_id: str, look: Look, *, client_order_id: str, exchange_order_id: str | None = None
    ) -> events.VenueSnapshotTaken:
        return events.VenueSnapshotTaken(
            scopes=look.scopes,
            complete=True,
            began_ns=look.began_ns,
            ended_ns=look.ended_ns,
            intent_id=intent_id,
            client_order_id=client_order_id,
            exchange_order_id=exchange_order_id,
            found=bool(look.reports),
        )

    async def _fact(self, intent_id: str, made: Sequence[events.BaseEvent], evidence: Evidence) -> None:
        actor = f"venue:{self._state.exchange_id}"
        await self._writer.append(events.intent_stream(intent_id), made, actor=actor, evidence=evidence, is_fact=True)

    async def _verdict(
        self, intent_id: str, made: Sequence[events.BaseEvent], evidence: Evidence, *, version: int
    ) -> None:
        await self._judge(events.intent_stream(intent_id), made, evidence, version=version)

    async def _judge(
        self, stream_id: str, made: Sequence[events.BaseEvent], evidence: Evidence, *, version: int
    ) -> None:
        """Under the version from before the look began, and fenced: nothing came in between, nobody took over (H18)."""
        try:
            await self._writer.append(
                stream_id,
                made,
                actor=RECONCILER,
                evidence=evidence,
                expected_version=version,
                epoch=self.epoch,
            )
        except ConflictError:
            return

    # --------------------------------------------------------------------------------------------------------- findings
    async def _raise_if_unknown_too_long(self, intent_id: str, order: OrderState, attempt: Attempt) -> None:
        now_ns = self._clock.now_ns()
        name = finding_id(FindingKind.UNKNOWN_TOO_LONG, intent_id)
        known = name in self._state.record(intent_id).findings
        if known or now_ns - attempt.stamp_ns < ns(self._settings.unknown_too_long_s):
            return
        text = f"{attempt.kind} {attempt.client_order_id} is unknown since it was sent: {attempt.text}"
        symbol_id = order.status.order.symbol_id
        finding = raised(
            name, FindingKind.UNKNOWN_TOO_LONG, text, intent_id=intent_id, symbol_id=symbol_id, now_ns=now_ns
        )
        await self._fact(intent_id, [finding], Evidence.INFERRED)

    async def tell_findings(self, intent_id: str) -> bool:
        """Raise what holds of an intent and was not told yet; whether there was something."""
        record = self._state.record(intent_id)
        untold = untold_findings(record, now_ns=self._clock.now_ns())
        if untold:
            await self._verdict(intent_id, untold, Evidence.INFERRED, version=record.version)
        return bool(untold)

    async def tell_excess(self, intent_id: str) -> bool:
        """Raise, or resolve, that more has filled in an intent's group than it allows, where that is not told as it is."""
        group = self._state.overfilled_group(intent_id)
        if group is None:
            return False
        symbol_id = self._symbol_id(self._state.record(intent_id))
        excess = self._state.group_excess(group)
        told = group_finding(group, excess, symbol_id=symbol_id, now_ns=self._clock.now_ns())
        await self._judge(events.group_stream(group.group_id), [told], Evidence.INFERRED, version=group.version)
        return True

    def _unknown_resolved(self, record: Record) -> list[events.BaseEvent]:
        name = finding_id(FindingKind.UNKNOWN_TOO_LONG, record.intent_id)
        return [events.FindingResolved(finding_id=name, text="settled")] if name in record.findings else []

    def _lag_ns(self) -> int:
        return self._venue.capabilities.read_lag.longest_ns

    def _assumed_max_delay_ns(self) -> int | None:
        seconds = self._settings.assumed_max_delay_s
        return None if seconds is None else ns(seconds)


def group_finding(group: Group, excess: int, *, symbol_id: str, now_ns: int) -> events.BaseEvent:
    """What is to be told of how much has filled in a group."""
    name = finding_id(FindingKind.GROUP_OVERFILL, group.group_id)
    if excess == 0:
        return events.FindingResolved(finding_id=name, text="no longer so")
    filled = ", ".join(f"{intent_id} {quantity}" for intent_id, quantity in group.filled.items() if quantity)
    text = (
        f"{excess} more filled in the group {group.group_id} than {group.mode} allows ({filled}): a fill was faster than"
        " the cancel"
    )
    return raised(name, FindingKind.GROUP_OVERFILL, text, symbol_id=symbol_id, now_ns=now_ns)


async def answer_within(timeout_s: float, question: Awaitable[Answer]) -> Answer:
    """The venue's answer; `OutcomeUnknown` when there is none in time."""
    try:
        async with asyncio.timeout(timeout_s):
            return await question
    except TimeoutError:
        raise OutcomeUnknown(f"the venue did not answer within {timeout_s:g} s") from None


def shadowed(order: OrderState, item: VenueOrder) -> bool:
    """Whether another order carries the same client id: a look-up by it need not show this one."""
    return any(
        other.client_order_id == item.client_order_id and other.exchange_order_id != item.exchange_order_id
        for other in order.venue_orders
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


def look_of(snapshot: VenueSnapshot, client_order_id: str, exchange_order_id: str | None) -> Look:
    """What a complete snapshot shows of one order (or of every order under one client order id)."""

    def concerns(report: ExecutionReport) -> bool:
        if exchange_order_id and report.exchange_order_id:
            return report.exchange_order_id == exchange_order_id
        return client_order_id in (report.client_order_id, report.orig_client_order_id)

    listed = tuple(report for report in snapshot.open_orders if concerns(report))
    ids = {report.exchange_order_id for report in listed if report.exchange_order_id}
    fills = tuple(report for report in snapshot.fills if concerns(report) or report.exchange_order_id in ids)
    return Look(
        LIST_SCOPES,
        snapshot.began_ns,
        snapshot.ended_ns,
        (*fills, *listed),
        listed=bool(listed),
    )
