"""Manual resolution: an operator resolves an attempt without evidence, or closes a finding.

A resolution names the attempt and is appended under the stream version that it was decided on, so
it needs no leader. It is refused while evidence may still come. If it is wrong, an order that turns up later is
contained like any late one: live at once, reported as a finding, and canceled.
"""

from __future__ import annotations

import msgspec

from kernel import events
from kernel.errors import ConflictError, ValidationError, Violation
from kernel.lifecycle.attribution import OrderRequest, attribution, attribution_reports, order_requests
from kernel.lifecycle.decide import require_known
from kernel.lifecycle.disagreement import requested_of
from kernel.lifecycle.findings import finding_id, unknown_resolved
from kernel.lifecycle.orders.order_facts import OrderFacts
from kernel.lifecycle.orders.trades import TradeEntry
from kernel.lifecycle.record import Record
from kernel.models import Attempt, AttemptKind, AttemptOutcome, ExecType, ExternalOrder, FindingKind

RESOLVED_AS = (AttemptOutcome.DEAD, AttemptOutcome.REJECTED)
"""Outcomes that an operator may state. ACCEPTED is for the venue to show, with the order's quantities."""
NS_PER_S = 1_000_000_000


class ResolveAttempt(msgspec.Struct, frozen=True):
    """Resolve an attempt whose outcome no evidence can show."""

    intent_id: str
    outcome: AttemptOutcome
    """DEAD: it never arrived and no longer can. REJECTED: the venue rejected it; the generation has failed."""
    text: str
    """The operator's evidence."""
    now_ns: int
    attempt_position: int | None = None
    suspected_stops: tuple[str, ...] = ()
    """Client order ids of the intent's ended stops that an external order may have followed."""

    def decide(self, record: Record) -> list[events.BaseEvent]:
        """Return the verdict, and resolve the findings about unknown attempts with the last open request.

        DEAD also closes the order that the request was for, or the only one without a request, if queries miss it. Of an
        ended stop it says that no external order followed it.
        """
        require_known(record)
        require_evidence(self.text)
        if not record.unresolved and self.attempt_position is None and self.outcome is AttemptOutcome.DEAD:
            if self.suspected_stops:
                names = (finding_id(FindingKind.UNOWNED_CANDIDATE, name) for name in self.suspected_stops)
                return [events.FindingResolved(finding_id=name, text=self.text) for name in names]
            missed = [facts for facts in record.orders if facts.is_missed]
            if missed or any(facts.gone_ns is not None for facts in record.orders):
                return [closed(record, facts, self) for facts in missed]
        attempt = open_attempt(record, self.attempt_position)
        check_outcome(attempt, self.outcome)
        refuse_while_evidence_may_come(record, attempt, now_ns=self.now_ns)
        verdict = events.AttemptResolved(
            intent_id=record.intent_id, attempt_position=attempt.position, outcome=self.outcome, text=self.text
        )
        missed = [facts for facts in record.orders if facts.is_missed and attempt.kind is not AttemptKind.SUBMIT]
        others = [item for item in record.unresolved if item.client_order_id != attempt.client_order_id]
        resolved = [] if others else unknown_resolved(record, "resolved by an operator")
        return [verdict, *(closed(record, facts, self) for facts in missed), *resolved]


class AttributeOrder(msgspec.Struct, frozen=True):
    """Resolve an unknown submit by an external order: it is the submit's order, with all its trades (H20).

    Or the order that the trigger of an ended stop made (H23).
    """

    intent_id: str
    order: ExternalOrder
    trades: tuple[TradeEntry, ...]
    text: str
    """The operator's evidence."""
    now_ns: int
    attempt_position: int | None = None
    stops: tuple[OrderRequest, ...] = ()
    """The intent's ended stops that may have triggered."""

    def decide(self, record: Record) -> list[events.BaseEvent]:
        """Return the order's facts and trades as the intent's; they resolve the attempt and its findings."""
        require_known(record)
        require_evidence(self.text)
        request = self._request(record)
        check_market(self.order, request)
        text = f"attributed by an operator: {self.text}"
        return attribution(record, attribution_reports(self.order, self.trades, request, text=text), now_ns=self.now_ns)

    def _request(self, record: Record) -> OrderRequest:
        """Return the request that made the order: the unresolved one, else the newest stop that was placed before it."""
        if self.stops and self.attempt_position is None and not order_requests(record):
            seen_ns = self.order.first_trade_ns or self.order.first_seen_ns
            return max(self.stops, key=lambda stop: (stop.stamp_ns <= seen_ns, stop.stamp_ns))
        attempt = open_attempt(record, self.attempt_position)
        refuse_while_evidence_may_come(record, attempt, now_ns=self.now_ns)
        request = next(
            (item for item in order_requests(record) if item.client_order_id == attempt.client_order_id), None
        )
        if request is None:
            raise ConflictError(
                f"{attempt.kind} at {attempt.position} makes no order: no order can be attributed to it"
            )
        return request


class ResolveFinding(msgspec.Struct, frozen=True):
    """Close a finding."""

    finding_id: str
    text: str
    """The action taken."""

    def decide(self, record: Record) -> list[events.BaseEvent]:
        require_evidence(self.text)
        if self.finding_id not in record.findings:
            raise ConflictError(f"finding {self.finding_id} is not open: there is nothing to resolve")
        return [events.FindingResolved(finding_id=self.finding_id, text=self.text)]


class AcceptTerms(msgspec.Struct, frozen=True):
    """Let the terms that work count instead of the intent's, and close the finding that the venue disagrees."""

    finding_id: str
    text: str
    """The operator's reason."""

    def decide(self, record: Record) -> list[events.BaseEvent]:
        closed = ResolveFinding(self.finding_id, self.text).decide(record)
        live, intent = record.live_orders, record.intent
        if intent is None or len(live) != 1 or not live[0].rare.other_terms:
            raise ConflictError(
                f"intent {record.intent_id} has no order that works other terms: there is nothing to accept"
            )
        (working,) = live
        others = record.cum_qty - working.cum_qty
        quantity = others + working.quantity
        if quantity > intent.order.quantity:
            raise ConflictError(f"intent {record.intent_id} works more than its quantity: modify the intent instead")
        accepted = events.TermsAccepted(
            intent_id=record.intent_id,
            generation=intent.generation,
            quantity=quantity,
            price=working.price,
            asked=others + requested_of(record, working).quantity if intent.group_id is not None else None,
            text=self.text,
        )
        return [accepted, *closed]


def check_market(order: ExternalOrder, request: OrderRequest) -> None:
    """Refuse an order of another symbol or side, or with a client order id, which is not the request's."""
    pairs = (
        ("symbol", request.symbol_id, order.symbol_id),
        ("side", request.side, order.side or request.side),
        ("client order id", "none", order.client_order_id or "none"),
    )
    text = "the {field} of external order " + order.exchange_order_id + " is {value}, that of the submit {limit}"
    found = [Violation(name, "equal", str(ours), str(theirs), text) for name, ours, theirs in pairs if ours != theirs]
    if found:
        raise ValidationError(violations=found)


def closed(record: Record, facts: OrderFacts, command: ResolveAttempt) -> events.OrderStateObserved:
    """Return the event that an order is no longer at the venue, on the operator's word (H22)."""
    return events.OrderStateObserved(
        intent_id=record.intent_id,
        symbol_id=facts.order.symbol_id,
        client_order_id=facts.client_order_id,
        exchange_order_id=facts.exchange_order_id or None,
        exec_type=ExecType.ORDER_STATUS,
        gone=True,
        began_ns=command.now_ns,
        reflects_ns=command.now_ns,
        text=command.text,
    )


def check_outcome(attempt: Attempt, outcome: AttemptOutcome) -> None:
    """Allow only DEAD for a cancel: a rejected cancel proves nothing about its order."""
    allowed = RESOLVED_AS[:1] if attempt.kind is AttemptKind.CANCEL else RESOLVED_AS
    if outcome not in allowed:
        limit = (
            f"{' or '.join(allowed)} for a {attempt.kind} attempt; the venue's own report shows an order that exists"
        )
        raise ValidationError(violations=[Violation("outcome", "outcome", limit, str(outcome))])


def open_attempt(record: Record, position: int | None) -> Attempt:
    """Return the newest send of the one unresolved request; `ConflictError` if there are none or several."""
    unresolved = [item for item in record.unresolved if position in (None, item.position)]
    if not unresolved:
        raise ConflictError(f"intent {record.intent_id} has no unresolved attempt: there is nothing to resolve")
    if len({item.client_order_id for item in unresolved}) > 1:
        named = ", ".join(f"{item.kind} at {item.position}" for item in unresolved)
        raise ConflictError(
            f"intent {record.intent_id} has several unresolved attempts: {named}; name one by its position"
        )
    return unresolved[-1]


def refuse_while_evidence_may_come(record: Record, attempt: Attempt, *, now_ns: int) -> None:
    """Raise `ConflictError` while the attempt's call may report, or a later status query can resolve it."""
    sends = [item for item in record.unresolved if item.client_order_id == attempt.client_order_id]
    if sends[-1].outcome is AttemptOutcome.PENDING:  # one that was sent again has no call any more
        raise ConflictError(
            f"{attempt.kind} at {attempt.position} is PENDING: its request may still be answered, and the leader queries"
            " it otherwise; nothing was resolved"
        )
    until_ns = max((item.absent_after_ns for item in sends if item.absent_after_ns is not None), default=0)
    if now_ns < until_ns:
        left_s = (until_ns - now_ns) / NS_PER_S
        raise ConflictError(
            f"{attempt.kind} at {attempt.position} may still arrive for {left_s:.3f} s: a status query after that resolves"
            " it by evidence. Nothing was resolved; try again then if there is no leader"
        )


def require_evidence(text: str) -> None:
    """Raise `ValidationError` if an operator gives no evidence."""
    if not text.strip():
        message = "{field} is empty: write how you know the outcome"
        raise ValidationError(violations=[Violation("evidence", "text", "not empty", text, message)])
