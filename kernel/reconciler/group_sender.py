"""Sends all orders of a group in one request, for a venue that manages the group.

Called by the reconciler instead of a submit. As for a single order: every attempt is durable before the venue receives
any, all orders are sent or none, and each has an outcome of its own. A group that never arrived is sent again as a whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from kernel import events
from kernel.actions import ACTION_RULES
from kernel.errors import VenueError
from kernel.groups import Group
from kernel.lifecycle.record import Record
from kernel.log.base import Write
from kernel.models import Attempt, Evidence
from kernel.reconciler.decision import SendGroup
from kernel.reconciler.order_sender import OrderSender, submit_request, with_group
from kernel.reconciler.rate_limiter import Permit
from kernel.venues.base import ExecutionReport, Operation, SubmitGroupRequest

Send = tuple[Record, Attempt]
"""An order of a group and its attempt."""


@dataclass(eq=False)
class GroupSender:
    """Sends groups to one venue; `OrderSender` checks and records each of their orders."""

    orders: OrderSender

    async def take_over(self, group: Group) -> None:
        """Record that the kernel manages a group of which the venue has no order."""
        (write,) = with_group(group, native=False)
        await self.orders.writer.append_unless_changed(
            write.stream_id,
            write.events,
            evidence=Evidence.INFERRED,
            expected_version=group.version,
            epoch=self.orders.epoch,
        )

    async def send(self, decision: SendGroup) -> None:
        """Append all attempts, make the one call and append each answer; send nothing if another append came first.

        Raises `RateLimitExceeded` without capacity; then nothing is appended.
        """
        priority, count = ACTION_RULES[decision.kind].priority, len(decision.started)
        with self.orders.limiter.permitted(priority, Operation.SUBMIT, times=count) as permit:
            positions = await self._start(decision)
            self.orders.calls.update(positions)
            try:
                if positions:
                    await self._call(decision, positions, permit)
            finally:
                self.orders.calls.difference_update(positions)

    async def _start(self, decision: SendGroup) -> range:
        """Append the group's manager and every attempt; return the attempts' positions, none after another append."""
        (worked,) = with_group(decision.group, native=True, group_client_id=decision.group_client_id)
        members = [
            Write(events.intent_stream(started.intent_id), (started,), version)
            for started, version in zip(decision.started, decision.expected_versions, strict=True)
        ]
        appended = await self.orders.writer.append_unless_changed(
            worked.stream_id,
            worked.events,
            evidence=Evidence.COMMAND,
            expected_version=decision.group.version,
            epoch=self.orders.epoch,
            causation_position=self.orders.state.record(decision.started[0].intent_id).command_position,
            also=members,
        )
        if appended is None:
            return range(0)
        first = appended.first_position + len(worked.events)
        return range(first, first + len(members))

    async def _call(self, decision: SendGroup, positions: Sequence[int], permit: Permit) -> None:
        records = [self.orders.state.record(started.intent_id) for started in decision.started]
        sends = [
            (record, next(item for item in record.attempts if item.position == position))
            for record, position in zip(records, positions, strict=True)
        ]
        request = SubmitGroupRequest(
            group_client_id=decision.group_client_id,
            mode=decision.group.mode,
            orders=tuple(map(submit_request, decision.started)),
            stamp_ns=decision.started[0].stamp_ns,
            valid_until_ns=decision.started[0].valid_until_ns,
        )
        # Nothing is awaited from here to the write, as for a single order: all orders are sent, or none.
        objections = (self.orders.objection(record, attempt, None) for record, attempt in sends)
        if (objection := next((text for text in objections if text is not None), None)) is not None:
            await self._each(sends, lambda record, attempt: self.orders.not_sent(record, attempt, objection))
            return
        answer = await self.orders.answer_of(Operation.SUBMIT, lambda: self.orders.venue.submit_group(request), permit)
        error = answer if isinstance(answer, VenueError) else None
        reports = {} if isinstance(answer, VenueError) else by_client_id(answer, sends)
        await self._each(
            sends,
            lambda record, attempt: self.orders.record_answer(
                record, attempt, error or reports.get(attempt.client_order_id)
            ),
        )

    async def _each(self, sends: Sequence[Send], act: Callable[[Record, Attempt], Awaitable[None]]) -> None:
        """Record the outcome of each attempt of one request."""
        await asyncio.gather(*(act(record, attempt) for record, attempt in sends))
        for record, attempt in sends:
            self.orders.metrics.attempts_started.labels(attempt.kind).inc()
            self.orders.metrics.attempts.labels(
                attempt.kind, self.orders.outcome(record.intent_id, attempt.position)
            ).inc()


def by_client_id(answer: Sequence[ExecutionReport], sends: Sequence[Send]) -> dict[str, ExecutionReport]:
    """Return the reports by client order id; those of a venue that tells none are in the order of the request."""
    named = {item.client_order_id: item for item in reversed(answer) if item.client_order_id is not None}
    if named or len(answer) != len(sends):
        return named
    return {attempt.client_order_id: item for (_, attempt), item in zip(sends, answer, strict=True)}
