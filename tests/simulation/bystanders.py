"""Everyone but strategies in a run: halts, manual trades, heartbeats that stop, and manual resolutions.

A mixin of the player. An operator's statement is true: it is looked up at the venue, which no kernel can do.
"""

from __future__ import annotations

import contextlib

from msgspec import structs

from kernel.errors import ConflictError, KernelError, NotFoundError, ValidationError, VenueError
from kernel.lifecycle.attribution import OrderRequest
from kernel.models import Attempt, AttemptKind, AttemptOutcome, FindingKind
from kernel.order_spec import OrderType
from tests.simulation.market import order_of
from tests.simulation.world import Process, World

SETTLED_NS = 14_000_000_000
"""So long after it was written, no request is in flight: the latest fault is 6 s, a copy takes as long again."""
SOON_NS = 1_000_000_000
ADOPTED = "adopted"
CLAIMS = (FindingKind.DUPLICATE_ORDER, FindingKind.LATE_ACCEPT, FindingKind.OVERFILL, FindingKind.GROUP_OVERFILL,
          FindingKind.UNEXPECTED_TRADE)  # fmt: skip
"""Findings that an operator may close at any time."""


class Bystanders:
    """Their verbs, for the player."""

    world: World

    # ------------------------------------------------------------------------------------------------------------- halts
    async def _halt(self, process: Process, what: str) -> None:
        """Nothing more is placed, of a symbol or of all, and what works is canceled."""
        audit = self.world.audit
        since, symbol_id = audit.position, None if what == "all" else what
        await process.kernel.halt(symbol_id, reason="drawn")
        if not process.dead:
            audit.halted(symbol_id=symbol_id, since=since)

    async def _resume(self, process: Process, what: str) -> None:
        await self.resume(process, None if what == "all" else what)

    async def resume(self, process: Process, symbol_id: str | None) -> None:
        """End a halt."""
        audit = self.world.audit
        since = audit.position
        await process.kernel.resume(symbol_id=symbol_id)
        if not process.dead:
            audit.resumed(symbol_id=symbol_id, since=since)

    # ----------------------------------------------------------------------------------------------------- a foreign hand
    def _do_foreign(self, name: str, symbol_id: str, side: str, quantity: str, *more: str) -> None:
        """An order on our account that no kernel placed."""
        try:
            placed = self.world.exchange.place_by_hand(
                order_of(symbol_id, side, quantity, *more), "" if name == "-" else name
            )
        except (KernelError, VenueError) as problem:
            self.world.tell("venue", f"refuses a foreign order: {problem}")
        else:
            self.world.tell("venue", f"has foreign order {placed}")

    def _do_foreign_cancel(self, which: str) -> None:
        """Whoever placed it by hand takes it back."""
        book, foreign = self.world.exchange.engine.book, self.world.audit.foreign
        orders = sorted(order.order_id for order in book.own_open() if str(order.order_id) in foreign)
        if orders:
            self.world.exchange.engine.cancel_order(exchange_order_id=str(orders[int(which) % len(orders)]))

    async def _adopted(self, process: Process, verb: str, which: str, quantity: str) -> None:
        """A command about an order that was adopted."""
        found = [item for item in process.kernel.state.intents() if item.owner == ADOPTED]
        if not found:
            return
        intent = found[int(which) % len(found)]
        if verb == "cancel":
            await process.kernel.cancel_order(intent.intent_id)
        elif verb == "modify" and intent.order.order_type is not OrderType.MARKET:
            await process.kernel.modify_order(intent.intent_id, structs.replace(intent.order, quantity=int(quantity)))

    # -------------------------------------------------------------------------------------------------------- heartbeats
    async def _beat(self, process: Process, owner: str, ttl_s: str) -> None:
        await process.kernel.heartbeat(owner, float(ttl_s))

    async def _disarm(self, process: Process, owner: str) -> None:
        await process.kernel.disarm_heartbeat(owner)

    # ----------------------------------------------------------------------------------------------------------- a word
    async def _resolve(self, process: Process) -> None:
        """An operator resolves, truthfully, everything that no evidence can prove."""
        for intent_id in process.kernel.state.live_intent_ids():
            for attempt in self._lasting(process, intent_id):
                with contextlib.suppress(NotFoundError):  # the kernel has yet to hear of the order
                    await self._say(process, intent_id, attempt)
        for request in [*process.kernel.state.dead_requests()]:
            if request.stop_id is not None:
                await self._say_of_stop(process, request)
        for finding in [*process.kernel.state.findings()]:
            if finding.kind is FindingKind.TRADES_GAP and finding.resolved_at_ns is None:
                await process.kernel.resolve_finding(finding.finding_id, evidence="seen at the venue")

    async def _say_of_stop(self, process: Process, request: OrderRequest) -> None:
        """Say which order the trigger of a stop made that may have triggered unseen; or that none did."""
        name = f"{FindingKind.UNOWNED_CANDIDATE}:{request.client_order_id}"
        finding = process.kernel.state.finding(name)
        if finding is None or finding.resolved_at_ns is not None:
            return
        book = self.world.exchange.engine.book
        alike = [order for order in book.own_orders() if order.client_order_id == request.client_order_id]
        made = [str(order.order_id) for order in alike if order.stop_id is not None and (order.open or order.cum_qty)]
        with contextlib.suppress(NotFoundError, ConflictError, ValidationError):  # known since
            if made:
                shown = self.world.personality.shown_id(made[0])
                await process.kernel.resolve_attempt(request.intent_id, order=shown, evidence="seen at the venue")
            elif not any(order.open for order in alike):
                await process.kernel.resolve_finding(name, evidence="seen at the venue")

    def _lasting(self, process: Process, intent_id: str) -> list[Attempt]:
        """An intent's unknown requests that are long out of flight, and of which no evidence can show what became."""
        sends = process.kernel.state.record(intent_id).unresolved
        newest = {item.client_order_id: item for item in sends}
        written_ns = self.world.written_ns
        return [
            item
            for item in newest.values()
            if item.kind is not AttemptKind.CANCEL
            and item.outcome is AttemptOutcome.UNKNOWN
            and self.world.clock.now_ns() - max(item.stamp_ns, written_ns.get(item.client_order_id, 0)) > SETTLED_NS
            and (item.client_order_id not in self.world.exchange.named or self._is_hidden(process, intent_id, item))
            and not any(other.sending[item.client_order_id] for other in self.world.alive)
        ]

    def _is_hidden(self, process: Process, intent_id: str, attempt: Attempt) -> bool:
        """Whether the venue does not show whose order it made, or an external one may be it, and nothing is on its way."""
        hides = bool(self.world.personality.names & {"unnamed-trades", "unnamed-orders"})
        finding = process.kernel.state.finding(f"UNOWNED_CANDIDATE:{intent_id}")
        suspected = finding is not None and finding.resolved_at_ns is None
        return (hides or suspected) and self.world.quiet and attempt.makes_order

    async def _say(self, process: Process, intent_id: str, attempt: Attempt) -> None:
        made = [
            order
            for order in self.world.exchange.engine.book.own_orders()
            if order.client_order_id == attempt.client_order_id and (order.open or order.cum_qty)
        ]
        if made:
            await self._name(process, intent_id, attempt, str(made[0].order_id))
            return
        exchange, client_id = self.world.exchange, attempt.client_order_id
        refused = client_id in exchange.refused and client_id not in exchange.named
        outcome = AttemptOutcome.REJECTED if refused else AttemptOutcome.DEAD
        self.world.audit.word(client_order_id=attempt.client_order_id, outcome=outcome.value)
        try:
            await process.kernel.resolve_attempt(
                intent_id, outcome, evidence="seen at the venue", attempt_position=attempt.position
            )
        except ConflictError as problem:
            self.world.tell(process.label, f"resolve {intent_id}: {problem}")

    async def _name(self, process: Process, intent_id: str, attempt: Attempt, order_id: str) -> None:
        """Say which order a request has made."""
        shown = self.world.personality.shown_id(order_id)
        try:
            await process.kernel.resolve_attempt(
                intent_id, order=shown, evidence="seen at the venue", attempt_position=attempt.position
            )
        except ConflictError as problem:
            self.world.tell(process.label, f"resolve {intent_id}: {problem}")

    async def _resolve_early(self, process: Process) -> None:
        """An operator resolves a request too early, without knowledge."""
        now_ns = process.clock.now_ns()
        for intent_id in process.kernel.state.live_intent_ids():
            for attempt in process.kernel.state.record(intent_id).unresolved:
                if (attempt.absent_after_ns or 0) > now_ns + SOON_NS:
                    await process.kernel.resolve_attempt(
                        intent_id, AttemptOutcome.DEAD, evidence="a guess", attempt_position=attempt.position
                    )

    async def _resolve_finding(self, process: Process, which: str) -> None:
        """Somebody dealt with a finding."""
        standing = [
            item for item in process.kernel.state.findings() if item.kind in CLAIMS and item.resolved_at_ns is None
        ]
        if standing:
            finding_id = standing[int(which) % len(standing)].finding_id
            await process.kernel.resolve_finding(finding_id, evidence="dealt with")
