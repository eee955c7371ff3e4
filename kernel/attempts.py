"""One send: recorded, checked, written once, answered. Steps 6 to 8 of the protocol.

Called by the reconciler, from one place for each kind of attempt. `AttemptStarted` is durable before the venue hears of it;
between the last check (generation, send-by, lease) and the write there is no await; the answer is appended as an answer to
that very attempt. Whatever is not a definitive answer leaves the attempt unknown: a timeout is not a "no".
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from kernel import events
from kernel.budget import Grant, VenueBudget
from kernel.clock import Clock, IdFactory
from kernel.errors import ConflictError, NotSent, OutcomeUnknown, Rejected, VenueError
from kernel.groups import Group
from kernel.lease import Lease
from kernel.lifecycle import Record, client_order_id
from kernel.log.base import Write
from kernel.metrics import Metrics
from kernel.models import (
    UNSETTLED,
    Attempt,
    AttemptKind,
    AttemptOutcome,
    Evidence,
    OrderIntent,
    VenueOrder,
)
from kernel.order_spec import OcoMode, StandardOrder
from kernel.settings import KernelSettings, ns
from kernel.state import KernelState
from kernel.venues.base import (
    AmendDialect,
    CancelRequest,
    ExecutionReport,
    ModifyRequest,
    Operation,
    SubmitRequest,
    Venue,
)
from kernel.workqueue import Priority
from kernel.writer import EventWriter, Source

RECONCILER = "reconciler"
"""The actor of attempts and verdicts."""

UNFIT = "it does not fit the market"
"""How the text of a refusal begins that was made here: nothing was sent."""

PRIORITIES = {
    AttemptKind.SUBMIT: Priority.SUBMIT,
    AttemptKind.AMEND: Priority.MODIFY,
    AttemptKind.CANCEL: Priority.CANCEL,
}
"""With what priority an attempt spends of the rate budget."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Target:
    """What an attempt is about."""

    kind: AttemptKind
    order: StandardOrder
    number: int
    client_order_id: str
    venue_order: VenueOrder | None = None
    """For a cancel or an amend: the order aimed at."""
    group: Group | None = None
    """For what adds to a member of a group: the group as it was decided on. What fills in it meanwhile stops it (H19)."""


class AttemptSender:
    """Sends attempts for one venue, as the leader of one epoch."""

    def __init__(
        self,
        state: KernelState,
        writer: EventWriter,
        venue: Venue,
        *,
        lease: Lease,
        clock: Clock,
        ids: IdFactory,
        settings: KernelSettings,
        metrics: Metrics | None = None,
        budget: VenueBudget | None = None,
    ) -> None:
        self._state = state
        self._writer = writer
        self._venue = venue
        self._lease = lease
        self._clock = clock
        self._ids = ids
        self._settings = settings
        self._metrics = metrics or Metrics()
        self._budget = budget or VenueBudget(venue, clock=clock, settings=settings, metrics=self._metrics)
        self.epoch = 0
        self.calls: set[int] = set()
        """Positions of the attempts whose call is running in this process."""

    async def submit(self, intent: OrderIntent, order: StandardOrder, *, version: int) -> bool:
        """Place an order. False when somebody wrote in between and nothing was sent."""
        record = self._state.record(intent.intent_id)
        number = next_submit_number(record)
        name = self._client_order_id(intent.intent_id, number)
        target = Target(AttemptKind.SUBMIT, order, number, name, group=self._group_of(intent.intent_id))
        return await self._attempt(intent.intent_id, intent.generation, target, version=version)

    def _group_of(self, intent_id: str) -> Group | None:
        """The group whose fills bear on what is sent for an intent."""
        group = self._state.group_of(intent_id)
        return None if group is None or group.mode is OcoMode.NONE or group.native else group

    async def cancel(
        self, intent_id: str, generation: int, order: StandardOrder, venue_order: VenueOrder, *, version: int
    ) -> bool:
        """Cancel an order. False when somebody wrote in between and nothing was sent."""
        number = self._state.record(intent_id).number + 1
        target = Target(AttemptKind.CANCEL, order, number, self._client_order_id(intent_id, number), venue_order)
        return await self._attempt(intent_id, generation, target, version=version)

    async def amend(self, intent: OrderIntent, terms: StandardOrder, venue_order: VenueOrder, *, version: int) -> bool:
        """Give an order new terms. False when somebody wrote in between and nothing was sent."""
        target = self._amend_target(intent.intent_id, terms, venue_order)
        return await self._attempt(intent.intent_id, intent.generation, target, version=version)

    def _amend_target(self, intent_id: str, terms: StandardOrder, venue_order: VenueOrder) -> Target:
        number = self._state.record(intent_id).number + 1
        group = self._group_of(intent_id) if terms.quantity > venue_order.quantity else None
        return Target(AttemptKind.AMEND, terms, number, self._client_order_id(intent_id, number), venue_order, group)

    async def refuse(
        self, intent: OrderIntent, order: StandardOrder, text: str, *, working: VenueOrder | None, version: int
    ) -> None:
        """What is wanted can't be placed in this market: recorded as an attempt that was refused here, never sent."""
        if working is None:
            number = next_submit_number(self._state.record(intent.intent_id))
            target = Target(AttemptKind.SUBMIT, order, number, self._client_order_id(intent.intent_id, number))
        else:
            target = self._amend_target(intent.intent_id, order, working)
        started = await self._start(intent.intent_id, intent.generation, target, version=version)
        if started is not None:
            await self._verdict(
                intent.intent_id, failed(intent.intent_id, started, AttemptOutcome.REJECTED, text, failures=1)
            )
            self._metrics.attempts.add(target.kind, AttemptOutcome.REJECTED)

    def _client_order_id(self, intent_id: str, number: int) -> str:
        longest = self._venue.capabilities.client_order_id_max_length
        return client_order_id(self._state.log_id, intent_id, number, max_length=longest)

    async def _attempt(self, intent_id: str, generation: int, target: Target, *, version: int) -> bool:
        """Raises `BudgetSpent` where the rate budget has no room: then nothing is recorded."""
        first = all(item.generation != generation for item in self._state.record(intent_id).attempts)
        with self._budget.granted(PRIORITIES[target.kind], Operation(target.kind)) as grant:
            started = await self._start(intent_id, generation, target, version=version)
            if started is None:
                return False
            self.calls.add(started)
            try:
                await self._send(intent_id, target, started, grant, first=first)
            finally:
                self.calls.discard(started)
        self._metrics.attempts.add(target.kind, self._outcome(intent_id, started))
        return True

    def _outcome(self, intent_id: str, started: int) -> AttemptOutcome:
        """What is known of an attempt whose call has ended; one that the record keeps no longer has happened."""
        known = self._state.record(intent_id).attempts
        return next((item.outcome for item in known if item.position == started), AttemptOutcome.ACCEPTED)

    async def _start(self, intent_id: str, generation: int, target: Target, *, version: int) -> int | None:
        """Record the attempt, under the version that the plan was made on; its position, or None on a conflict."""
        event = self._started_event(intent_id, generation, target)
        try:
            appended = await self._writer.append(
                events.intent_stream(intent_id),
                [event],
                actor=RECONCILER,
                evidence=Evidence.COMMAND,
                expected_version=version,
                epoch=self.epoch,
                causation_position=self._state.record(intent_id).command_position,
                also=with_group(target.group, native=False),
            )
        except ConflictError:
            return None
        self._metrics.attempts_started.add(target.kind)
        return appended.first_position

    def _started_event(self, intent_id: str, generation: int, target: Target) -> events.AttemptStarted:
        capabilities = self._venue.capabilities
        now_ns = self._clock.now_ns()
        send_by_ns = now_ns + ns(self._settings.send_budget_s)
        window_ns = capabilities.validity_window_ns
        # A driver that stamps as it writes may stamp as late as send_by: the window then begins there (H2).
        stamped_ns = now_ns if capabilities.stamp_is_ours else send_by_ns
        valid_until_ns = None if window_ns is None else stamped_ns + window_ns
        absent_after_ns: int | None = None
        if valid_until_ns is not None:
            # One nanosecond more: a request may still be accepted in the very instant that its window ends.
            absent_after_ns = valid_until_ns + 1 + capabilities.clock_skew_ns + capabilities.read_lag.longest_ns
        aimed = target.venue_order
        replaces = target.kind is AttemptKind.AMEND and capabilities.amend is AmendDialect.CANCEL_REPLACE
        return events.AttemptStarted(
            intent_id=intent_id,
            number=target.number,
            kind=target.kind,
            client_order_id=target.client_order_id,
            target_client_order_id=aimed.client_order_id if aimed else None,
            target_exchange_order_id=(aimed.exchange_order_id or None) if aimed else None,
            order=target.order,
            new_order=replaces or None,
            generation=generation,
            epoch=self.epoch,
            stamp_ns=now_ns,
            send_by_ns=send_by_ns,
            valid_until_ns=valid_until_ns,
            absent_after_ns=absent_after_ns,
            state_position=self._state.position,
            decided_at_ns=now_ns,
        )

    async def _send(self, intent_id: str, target: Target, started: int, grant: Grant, *, first: bool) -> None:
        record = self._state.record(intent_id)
        attempt = next(item for item in record.attempts if item.position == started)
        call = self._prepare(target, attempt)
        # From here to the write nothing is awaited: what the check saw is what holds when the request leaves (H2).
        objection = self._objection(record, attempt, target.group)
        if objection is not None:
            await self._not_sent(record, attempt, objection)
            return
        if first and record.intent is not None:
            # Later calls for the same wish tell of the venue, not of us.
            self._metrics.intent_to_venue.observe_ns(self._clock.now_ns() - record.intent.updated_at_ns, target.kind)
        reports: list[ExecutionReport] = []

        async def called() -> None:
            reports.append(await call())

        problem = await self._called(target.kind, called, grant)
        await self._outcome_of(record, attempt, reports[0] if reports else None, problem)

    async def _called(self, kind: AttemptKind, call: Callable[[], Awaitable[None]], grant: Grant) -> VenueError | None:
        """Make one call; what came instead of an answer."""
        try:
            with self._metrics.calling(kind, self._clock), self._budget.calling(grant):
                async with asyncio.timeout(self._settings.request_timeout_s):
                    await call()
        except VenueError as problem:
            return problem
        except TimeoutError:
            return OutcomeUnknown(f"no answer within {self._settings.request_timeout_s:g} s")
        return None

    async def _outcome_of(
        self, record: Record, attempt: Attempt, report: ExecutionReport | None, problem: VenueError | None
    ) -> None:
        """Record the answer to one attempt: a definitive no, that it never left, a report, or that nothing is known."""
        match problem:
            case Rejected():
                await self._rejected(record.intent_id, attempt, problem)
            case NotSent():
                await self._not_sent(record, attempt, str(problem))
            case OutcomeUnknown():
                text, code, duplicate = problem.text, problem.code, problem.duplicate
                await self._unknown(record.intent_id, attempt, text, code=code, duplicate=duplicate)
            case VenueError():
                await self._unknown(record.intent_id, attempt, str(problem))
            case None if report is not None:
                await self._answered(record.intent_id, attempt, report)
            case None:
                await self._unknown(record.intent_id, attempt, "the venue's answer does not tell of it")

    def _prepare(self, target: Target, attempt: Attempt) -> Callable[[], Awaitable[ExecutionReport]]:
        """The call to make, with everything built that can be built before the check."""
        venue = self._venue
        if target.venue_order is None:
            submit = submit_request(target, attempt)
            return lambda: venue.submit(submit)
        cancel = CancelRequest(
            client_order_id=attempt.client_order_id,
            symbol_id=target.order.symbol_id,
            target_client_order_id=target.venue_order.client_order_id,
            target_exchange_order_id=target.venue_order.exchange_order_id or None,
            stamp_ns=attempt.stamp_ns,
            valid_until_ns=attempt.valid_until_ns,
        )
        if target.kind is AttemptKind.CANCEL:
            return lambda: venue.cancel(cancel)
        modify = ModifyRequest(**vars(cancel), order=target.order, cum_qty=target.venue_order.cum_qty)
        return lambda: venue.modify(modify)

    def _objection(self, record: Record, attempt: Attempt, group: Group | None) -> str | None:
        """Why the request must not leave now; None when it may."""
        now_ns = self._clock.now_ns()
        deadline_ns = self._lease.deadline_ns()
        intent = record.intent
        generation = intent.generation if intent is not None else 0
        if attempt.outcome not in UNSETTLED:
            return "it was settled before it was sent"
        if attempt.kind is not AttemptKind.CANCEL and generation != attempt.generation:
            return f"the intent went on to generation {generation}"
        known = self._state.group_of(record.intent_id)
        if group is not None and (known is None or known.filled != group.filled):
            return f"what filled in the group {group.group_id} may change it"
        if now_ns >= attempt.send_by_ns:
            return "too late to send: the decision is older than the send budget"
        if deadline_ns is None or now_ns >= deadline_ns:
            return "the lease is over"
        return None

    async def _answered(self, intent_id: str, attempt: Attempt, report: ExecutionReport) -> None:
        """The venue's report is a fact; if it does not settle the attempt, the attempt is unknown."""
        source = Source(f"venue:{self._state.exchange_id}", Evidence.STREAM, attempt_position=attempt.position)
        try:
            await self._writer.report(intent_id, [report], source)
        except OutcomeUnknown as problem:
            logger.warning("an answer could not be read: %s", problem)
        await self._unknown(intent_id, attempt, "the venue's answer does not settle it")

    async def _rejected(self, intent_id: str, attempt: Attempt, refusal: Rejected) -> None:
        known = self._state.record(intent_id).failures
        failures = known + 1
        retry_at_ns: int | None = None
        if refusal.rate_limit is not None and refusal.retry_after_s is not None:
            # It says nothing of the order, and the whole budget waits: no backoff on top, and none that grows.
            failures = known
            retry_at_ns = self._clock.now_ns() + ns(refusal.retry_after_s)
        elif refusal.retry_after_s is not None:
            retry_at_ns = self._clock.now_ns() + max(ns(refusal.retry_after_s), self._backoff_ns(failures))
        elif self._is_tried_again(intent_id, attempt):
            retry_at_ns = self._clock.now_ns() + self._backoff_ns(failures)
        event = events.AttemptFailed(
            intent_id=intent_id,
            attempt_position=attempt.position,
            outcome=AttemptOutcome.REJECTED,
            text=refusal.text,
            code=refusal.code,
            retry_at_ns=retry_at_ns,
            failures=failures,
        )
        await self._verdict(intent_id, event)

    def _is_tried_again(self, intent_id: str, attempt: Attempt) -> bool:
        """Whether a refusal does not end the wish. Whatever a refused cancel means, what nobody wants must still go; where
        a refused replace has ended the old order, what is left is placed anew; a change that only follows the group is
        made good by a cancel."""
        if attempt.kind is AttemptKind.CANCEL or (attempt.new_order and not self._venue.capabilities.amend_atomic):
            return True
        if attempt.kind is not AttemptKind.AMEND or self._state.group_of(intent_id) is None:
            return False
        live = self._state.record(intent_id).live_orders
        return any(facts.generation == attempt.generation for facts in live)

    async def _not_sent(self, record: Record, attempt: Attempt, text: str) -> None:
        failures = record.failures + 1
        event = events.AttemptFailed(
            intent_id=record.intent_id,
            attempt_position=attempt.position,
            outcome=AttemptOutcome.DEAD,
            text=f"not sent: {text}",
            retry_at_ns=self._clock.now_ns() + self._backoff_ns(failures),
            failures=failures,
        )
        await self._verdict(record.intent_id, event)

    async def _unknown(
        self, intent_id: str, attempt: Attempt, text: str, *, code: str | None = None, duplicate: bool = False
    ) -> None:
        if not self._is_pending(intent_id, attempt):
            return  # facts came first: nothing is unknown
        event = events.AttemptUnknown(
            intent_id=intent_id, attempt_position=attempt.position, text=text, code=code, duplicate=duplicate
        )
        await self._verdict(intent_id, event)

    def _is_pending(self, intent_id: str, attempt: Attempt) -> bool:
        known = self._state.record(intent_id).attempts
        return any(item.position == attempt.position and item.outcome is AttemptOutcome.PENDING for item in known)

    async def _verdict(self, intent_id: str, event: events.AttemptFailed | events.AttemptUnknown) -> None:
        """An outcome of one attempt: fenced, bound to its position, ignored by the fold if facts came first (H18)."""
        await self._writer.append(
            events.intent_stream(intent_id),
            [event],
            actor=RECONCILER,
            evidence=Evidence.STREAM,
            epoch=self.epoch,
            causation_position=event.attempt_position,
        )

    def _backoff_ns(self, failures: int) -> int:
        """Full jitter, drawn once; the caller records what comes of it."""
        longest = min(self._settings.backoff_s_max, self._settings.backoff_s_min * 2 ** min(failures - 1, 20))
        return ns(self._settings.backoff_s_min * 0.5 + longest * self._ids.fraction())


def submit_request(target: Target, attempt: Attempt) -> SubmitRequest:
    return SubmitRequest(
        client_order_id=attempt.client_order_id,
        order=target.order,
        stamp_ns=attempt.stamp_ns,
        valid_until_ns=attempt.valid_until_ns,
    )


def failed(
    intent_id: str, attempt_position: int, outcome: AttemptOutcome, text: str, *, failures: int
) -> events.AttemptFailed:
    return events.AttemptFailed(
        intent_id=intent_id, attempt_position=attempt_position, outcome=outcome, text=text, failures=failures
    )


def with_group(group: Group | None, *, native: bool, group_client_id: str | None = None) -> tuple[Write, ...]:
    """The version that a group's stream must still have when something is sent that adds to it (H19); and, where that is
    news, who works it, and under which id."""
    if group is None:
        return ()
    worked = events.GroupWorked(group_id=group.group_id, native=native, group_client_id=group_client_id)
    known = group.native is native and group_client_id in (None, group.client_id)
    told = () if known else (worked,)
    return (Write(events.group_stream(group.group_id), told, group.version),)


def next_submit_number(record: Record) -> int:
    """The number of the next submit: the last one while its id is neither seen nor refused, else one more (H5b).

    A refusal answers one send: while an earlier send of the id may still arrive, the id is not spent (H7).
    """
    last = record.submit
    if last is None:
        return record.number + 1
    if any(item.kind is AttemptKind.SUBMIT and item.number == last.number for item in record.unsettled):
        return last.number
    seen = any(last.client_order_id in facts.client_order_ids for facts in record.orders)
    if last.outcome is AttemptOutcome.DEAD and not seen:
        return last.number
    return record.number + 1
