"""Sends one request and records its outcome: steps 6 to 8 of the protocol.

Called by the reconciler with its decision. `AttemptStarted` is durable before the venue receives the request; nothing is
awaited between the last check (generation, send-by, lease) and the write; the answer names the attempt that it answers.
Any answer that is not definitive leaves the attempt unknown: a timeout is not a rejection.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

from msgspec import structs
from msgspec.structs import replace

from kernel import events
from kernel.actions import ACTION_RULES
from kernel.clock import Clock, IdFactory
from kernel.errors import NotSent, OutcomeUnknown, Rejected, VenueError
from kernel.groups import Group
from kernel.lease import Lease
from kernel.lifecycle.disagreement import CANCEL_DELAY_NS_MAX, delay_ns, next_failures
from kernel.lifecycle.order_identity import bound
from kernel.lifecycle.record import Record
from kernel.log.base import Write
from kernel.metrics import Metrics, observe_ns
from kernel.models import UNRESOLVED, Attempt, AttemptKind, AttemptOutcome, Evidence
from kernel.reconciler.decision import LocalRejection, SendOrder
from kernel.reconciler.rate_limiter import Permit, VenueRateLimiter
from kernel.reconciler.suspect_query import Ingest, unrecorded
from kernel.settings import KernelSettings, ns
from kernel.state import KernelState
from kernel.streams.event_writer import RECONCILER, EventWriter, stream_source
from kernel.venues.base import CancelRequest, ExecutionReport, ModifyRequest, Operation, SubmitRequest, Venue

Answer = TypeVar("Answer")
logger = logging.getLogger(__name__)


@dataclass(eq=False)
class OrderSender:
    """Sends requests for single orders to one venue, as the leader of one epoch."""

    state: KernelState
    writer: EventWriter
    venue: Venue
    lease: Lease
    clock: Clock
    ids: IdFactory
    settings: KernelSettings
    metrics: Metrics
    limiter: VenueRateLimiter
    epoch: int = 0
    calls: set[int] = field(default_factory=set)
    """Positions of the attempts whose call is running."""
    ingest: Ingest = unrecorded
    """Records an answer that is about another order; set by the session."""

    async def send(self, decision: SendOrder) -> None:
        """Append the attempt, make its call and append the answer; send nothing if another append came first.

        Raises `RateLimitExceeded` without capacity; then nothing is appended.
        """
        started, rule = decision.started, ACTION_RULES[decision.kind]
        known = self.state.record(started.intent_id).attempts
        first = all(item.generation != started.generation for item in known)
        (operation,) = rule.operations
        with self.limiter.permitted(rule.priority, operation) as permit:
            position = await self._start(decision)
            if position is None:
                return
            self.calls.add(position)
            try:
                await self._call(decision, operation, position, permit, first=first)
            finally:
                self.calls.discard(position)
        self.metrics.attempts.labels(started.kind, self.outcome(started.intent_id, position)).inc()

    async def reject_locally(self, decision: LocalRejection) -> None:
        """Append the attempt with its rejection; send nothing."""
        position = await self._start(decision)
        if position is None:
            return
        rejected = events.AttemptFailed(
            intent_id=decision.started.intent_id,
            attempt_position=position,
            outcome=AttemptOutcome.REJECTED,
            text=f"rejected locally: {decision.text}",
            failures=1,
            locally_rejected=True,
        )
        await self._verdict(rejected)
        self.metrics.attempts.labels(decision.started.kind, AttemptOutcome.REJECTED).inc()

    def outcome(self, intent_id: str, position: int) -> AttemptOutcome:
        """Return the outcome of an attempt whose call has ended; one that the record dropped was accepted."""
        attempt = self.state.record(intent_id).attempt_at(position)
        return attempt.outcome if attempt is not None else AttemptOutcome.ACCEPTED

    async def _start(self, decision: SendOrder | LocalRejection) -> int | None:
        """Append the attempt at the decided version; return its position, or None if another append came first."""
        started = decision.started
        group = decision.group if isinstance(decision, SendOrder) else None
        appended = await self.writer.append_unless_changed(
            events.intent_stream(started.intent_id),
            [started],
            evidence=Evidence.COMMAND,
            expected_version=decision.expected_version,
            epoch=self.epoch,
            causation_position=self.state.record(started.intent_id).command_position,
            also=with_group(group, native=False),
        )
        if appended is None:
            return None
        self.metrics.attempts_started.labels(started.kind).inc()
        return appended.first_position

    async def _call(
        self, decision: SendOrder, operation: Operation, position: int, permit: Permit, *, first: bool
    ) -> None:
        intent_id, kind = decision.started.intent_id, decision.started.kind
        record = self.state.record(intent_id)
        attempt = next(item for item in record.attempts if item.position == position)
        call = self._prepare(decision, attempt)
        # Nothing is awaited from here to the write: the check must hold when the request is sent (H2).
        objection = self.objection(record, attempt, decision.group)
        if objection is not None:
            await self.not_sent(record, attempt, objection)
            return
        if first and record.intent is not None:
            # Later calls of the same generation would measure the venue, not the kernel.
            age_ns = self.clock.now_ns() - record.intent.updated_at_ns
            observe_ns(self.metrics.intent_to_venue.labels(kind), age_ns)
        await self.record_answer(record, attempt, await self.answer_of(operation, call, permit))

    def _prepare(self, decision: SendOrder, attempt: Attempt) -> Callable[[], Awaitable[ExecutionReport]]:
        """Build everything that can be built before the check; return the call."""
        venue, target, order = self.venue, decision.target, decision.started.order
        if target is None:
            submit = submit_request(decision.started)
            return lambda: venue.submit(submit)
        cancel = CancelRequest(
            client_order_id=attempt.client_order_id,
            symbol_id=order.symbol_id,
            target_client_order_id=target.client_order_id,
            target_exchange_order_id=attempt.target_exchange_order_id,
            stamp_ns=attempt.stamp_ns,
            valid_until_ns=attempt.valid_until_ns,
        )
        if attempt.kind is AttemptKind.CANCEL:
            return lambda: venue.cancel(cancel)
        change = ModifyRequest(
            **structs.asdict(cancel), order=order, cum_qty=target.cum_qty + (target.carried_qty or 0)
        )
        return lambda: venue.modify(change)

    def objection(self, record: Record, attempt: Attempt, group: Group | None) -> str | None:
        """Return why the request must not be sent now; None if it may."""
        now_ns = self.clock.now_ns()
        deadline_ns = self.lease.deadline_ns()
        intent = record.intent
        generation = intent.generation if intent is not None else 0
        if attempt.outcome not in UNRESOLVED:
            return "it was resolved before it was sent"
        if attempt.kind is not AttemptKind.CANCEL and generation != attempt.generation:
            return f"the intent is now at generation {generation}"
        known = self.state.group_of(record.intent_id)
        if group is not None and (known is None or known.filled != group.filled):
            return f"the fills of group {group.group_id} changed after the decision"
        if now_ns >= attempt.send_by_ns:
            return "too late to send: the decision is older than the send budget"
        if deadline_ns is None or now_ns >= deadline_ns:
            return "the lease has expired"
        return None

    async def answer_of(
        self, operation: Operation, call: Callable[[], Awaitable[Answer]], permit: Permit
    ) -> Answer | VenueError:
        """Make one call; return its answer, or the error instead of one."""
        try:
            with self.metrics.calling(operation, self.clock), self.limiter.calling(permit):
                async with asyncio.timeout(self.settings.request_timeout_s):
                    return await call()
        except VenueError as problem:
            return problem
        except TimeoutError:
            return OutcomeUnknown(f"no answer within {self.settings.request_timeout_s:g} s")

    async def record_answer(
        self, record: Record, attempt: Attempt, answer: ExecutionReport | VenueError | None
    ) -> None:
        """Append the answer to one attempt: rejected, not sent, a report, or unknown."""
        match answer:
            case ExecutionReport():
                await self._reported(record.intent_id, attempt, answer)
            case Rejected():
                await self._rejected(record.intent_id, attempt, answer)
            case NotSent():
                await self.not_sent(record, attempt, str(answer))
            case OutcomeUnknown(text=text, code=code, duplicate=duplicate):
                await self._unknown(record.intent_id, attempt, text, code=code, duplicate=duplicate)
            case VenueError():
                await self._unknown(record.intent_id, attempt, str(answer))
            case None:
                await self._unknown(record.intent_id, attempt, "the venue's answer does not mention it")

    async def _reported(self, intent_id: str, attempt: Attempt, report: ExecutionReport) -> None:
        """Append the report as a fact; if it does not resolve the attempt, the attempt is unknown.

        An answer is about its call's client order id, also at a venue that does not tell it.
        """
        if attempt.makes_order and report.client_order_id is None:
            report = structs.replace(report, client_order_id=attempt.client_order_id)
        actor = f"venue:{self.state.exchange_id}"
        source = stream_source(actor, self.venue.capabilities, attempt_position=attempt.position)
        answer = bound(report, attempt)
        if (await self.writer.match(answer, source)).intent_id != intent_id:
            await self._unknown(intent_id, attempt, f"the venue's answer is about another order: {answer}")
            await self.ingest([answer], replace(source, attempt_position=None))
            return
        try:
            await self.writer.report(intent_id, [answer], source)
        except OutcomeUnknown as problem:
            logger.warning("an answer could not be read: %s", problem)
        await self._unknown(intent_id, attempt, "the venue's answer does not resolve it")

    async def _rejected(self, intent_id: str, attempt: Attempt, refusal: Rejected) -> None:
        failures, delay = self._failures(attempt, self.state.record(intent_id))
        retry_after_ns = 0 if refusal.retry_after_s is None else ns(refusal.retry_after_s)
        if refusal.rate_limit is not None and refusal.retry_after_s is not None:
            # The rejection is not about the order, and all calls wait for the limit: the delay does not grow.
            failures, delay = failures - 1, delay_ns(1)
        retry_at_ns: int | None = None
        if refusal.retry_after_s is not None or self._is_tried_again(intent_id, attempt):
            retry_at_ns = self.clock.now_ns() + max(retry_after_ns, delay)
        event = events.AttemptFailed(
            intent_id=intent_id,
            attempt_position=attempt.position,
            outcome=AttemptOutcome.REJECTED,
            text=refusal.text,
            code=refusal.code,
            retry_at_ns=retry_at_ns,
            failures=failures,
        )
        await self._verdict(event)

    def _is_tried_again(self, intent_id: str, attempt: Attempt) -> bool:
        """Return whether a rejection leaves the generation alive.

        A rejected cancel does: its order must still be canceled. A rejected replace that ended the old order does: the rest
        is placed anew. A rejected modify that only follows the group does: a cancel corrects it. A rejected exit of a
        bracket does: the account may not show yet what it is to sell.
        """
        if attempt.kind is AttemptKind.CANCEL or (attempt.new_order and not self.venue.capabilities.amend_atomic):
            return True
        if attempt.kind is AttemptKind.SUBMIT:
            return self.state.is_exit(intent_id)
        if self.state.group_of(intent_id) is None:
            return False
        live = self.state.record(intent_id).live_orders
        return any(facts.generation == attempt.generation for facts in live)

    def _failures(self, attempt: Attempt, record: Record) -> tuple[int, int]:
        """Return the failures in a row with that of an attempt, and the delay after them (ns)."""
        if attempt.kind is not AttemptKind.CANCEL:
            failures = next_failures(record, self.clock.now_ns())
            return failures, delay_ns(failures)
        target = attempt.target_exchange_order_id
        known = (item.rare.cancel_failures for item in record.live_orders if target in (None, item.exchange_order_id))
        failures = max(known, default=0) + 1
        return failures, delay_ns(failures, longest_ns=CANCEL_DELAY_NS_MAX)

    async def not_sent(self, record: Record, attempt: Attempt, text: str) -> None:
        failures, _ = self._failures(attempt, record)
        event = events.AttemptFailed(
            intent_id=record.intent_id,
            attempt_position=attempt.position,
            outcome=AttemptOutcome.DEAD,
            text=f"not sent: {text}",
            retry_at_ns=self.clock.now_ns() + self._backoff_ns(failures),
            failures=failures,
        )
        await self._verdict(event)

    async def _unknown(
        self, intent_id: str, attempt: Attempt, text: str, *, code: str | None = None, duplicate: bool = False
    ) -> None:
        if self.outcome(intent_id, attempt.position) is not AttemptOutcome.PENDING:
            return  # a report has resolved it
        event = events.AttemptUnknown(
            intent_id=intent_id, attempt_position=attempt.position, text=text, code=code, duplicate=duplicate
        )
        await self._verdict(event)

    async def _verdict(self, event: events.AttemptFailed | events.AttemptUnknown) -> None:
        """Append an outcome: fenced, bound to its attempt, ignored by the fold if facts came first (H18)."""
        await self.writer.append(
            events.intent_stream(event.intent_id),
            [event],
            actor=RECONCILER,
            evidence=Evidence.STREAM,
            epoch=self.epoch,
            causation_position=event.attempt_position,
        )

    def _backoff_ns(self, failures: int) -> int:
        longest = min(self.settings.backoff_s_max, self.settings.backoff_s_min * 2 ** min(failures - 1, 20))
        return ns(self.settings.backoff_s_min * 0.5 + longest * self.ids.fraction())


def submit_request(started: events.AttemptStarted) -> SubmitRequest:
    return SubmitRequest(
        client_order_id=started.client_order_id,
        order=started.order,
        stamp_ns=started.stamp_ns,
        valid_until_ns=started.valid_until_ns,
    )


def with_group(group: Group | None, *, native: bool, group_client_id: str | None = None) -> tuple[Write, ...]:
    """Return a write that checks the group's version (H19) and records a change of its manager."""
    if group is None:
        return ()
    worked = events.GroupWorked(group_id=group.group_id, native=native, group_client_id=group_client_id)
    known = group.native is native and group_client_id in (None, group.client_id)
    news = () if known else (worked,)
    return (Write(events.group_stream(group.group_id), news, group.version),)
