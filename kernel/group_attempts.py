"""One send for a whole group: the orders that the venue is to work together, in one request.

Called by the reconciler, in the place of a submit. The rules are those of `attempts`, for all of the orders at once: every
attempt is durable before the venue hears of any, all of them leave or none does, and each has its answer of its own. From
then on each is settled like any other attempt; what turns out never to have arrived is sent again whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from kernel import events
from kernel.attempts import RECONCILER, AttemptSender, Target, next_submit_number, submit_request, with_group
from kernel.budget import Grant
from kernel.errors import ConflictError, VenueError
from kernel.groups import Group
from kernel.lifecycle import Record, client_order_id
from kernel.log.base import Write
from kernel.models import Attempt, AttemptKind, Evidence, OrderIntent
from kernel.venues.base import ExecutionReport, Operation, SubmitGroupRequest
from kernel.workqueue import Priority

Send = tuple[OrderIntent, Target]
"""One order of a group, and the attempt at it."""


class GroupAttemptSender(AttemptSender):
    """Sends groups as well as single orders, as the leader of one epoch."""

    async def take_over(self, group: Group) -> None:
        """Work a group that was to be the venue's, and of which nothing came to be there, order by order."""
        (write,) = with_group(group, native=False)
        try:
            await self._writer.append(
                write.stream_id,
                write.events,
                actor=RECONCILER,
                evidence=Evidence.INFERRED,
                expected_version=write.expected_version,
                epoch=self.epoch,
            )
        except ConflictError:
            return

    async def submit_group(self, group: Group, intents: Sequence[OrderIntent]) -> bool:
        """Place orders that the venue works as a group, in one request. False when somebody wrote in between and nothing
        was sent."""
        sends = [self._group_send(intent) for intent in intents]
        with self._budget.granted(Priority.SUBMIT, Operation.SUBMIT, times=len(sends)) as grant:
            name = self._group_client_id(group, sends[0][1].number)
            positions = await self._start_group(group, name, sends)
            if positions is None:
                return False
            self.calls.update(positions)
            try:
                await self._send_group(group, name, sends, positions, grant)
            finally:
                self.calls.difference_update(positions)
        return True

    def _group_client_id(self, group: Group, number: int) -> str:
        """Of the group as a whole: no intent's id has a slash, so none is ever like it."""
        longest = self._venue.capabilities.client_order_id_max_length
        return client_order_id(self._state.log_id, f"group/{group.group_id}", number, max_length=longest)

    async def _start_group(self, group: Group, name: str, sends: Sequence[Send]) -> range | None:
        """Record who works the group, and every attempt; the attempts' positions, or None on a conflict."""
        members = [
            Write(
                events.intent_stream(intent.intent_id),
                (self._started_event(intent.intent_id, intent.generation, target),),
                self._state.record(intent.intent_id).version,
            )
            for intent, target in sends
        ]
        (worked,) = with_group(group, native=True, group_client_id=name)
        try:
            appended = await self._writer.append(
                worked.stream_id,
                worked.events,
                actor=RECONCILER,
                evidence=Evidence.COMMAND,
                expected_version=worked.expected_version,
                epoch=self.epoch,
                causation_position=self._state.record(sends[0][0].intent_id).command_position,
                also=members,
            )
        except ConflictError:
            return None
        first = appended.first_position + len(worked.events)
        return range(first, first + len(sends))

    def _group_send(self, intent: OrderIntent) -> Send:
        number = next_submit_number(self._state.record(intent.intent_id))
        name = self._client_order_id(intent.intent_id, number)
        return intent, Target(AttemptKind.SUBMIT, intent.order, number, name)

    async def _send_group(
        self, group: Group, name: str, sends: Sequence[Send], positions: Sequence[int], grant: Grant
    ) -> None:
        records = [self._state.record(intent.intent_id) for intent, _ in sends]
        attempts = [
            next(item for item in record.attempts if item.position == position)
            for record, position in zip(records, positions, strict=True)
        ]
        requests = [submit_request(target, attempt) for (_, target), attempt in zip(sends, attempts, strict=True)]
        request = SubmitGroupRequest(
            group_client_id=name,
            mode=group.mode,
            orders=tuple(requests),
            stamp_ns=attempts[0].stamp_ns,
            valid_until_ns=attempts[0].valid_until_ns,
        )
        # From here to the write nothing is awaited, as for a single order: all of them leave, or none does.
        objections = (self._objection(record, item, None) for record, item in zip(records, attempts, strict=True))
        if (objection := next((text for text in objections if text is not None), None)) is not None:
            await self._each(attempts, records, lambda record, item: self._not_sent(record, item, objection))
            return
        reports: list[ExecutionReport] = []

        async def call() -> None:
            reports.extend(await self._venue.submit_group(request))

        async def told(record: Record, attempt: Attempt, problem: VenueError | None) -> None:
            own = [item for item in reports if item.client_order_id == attempt.client_order_id]
            await self._outcome_of(record, attempt, own[0] if own else None, problem)

        problem = await self._called(AttemptKind.SUBMIT, call, grant)
        await self._each(attempts, records, lambda record, item: told(record, item, problem))

    async def _each(
        self,
        attempts: Sequence[Attempt],
        records: Sequence[Record],
        act: Callable[[Record, Attempt], Awaitable[None]],
    ) -> None:
        """The same outcome for each attempt of one request."""
        await asyncio.gather(*(act(record, item) for record, item in zip(records, attempts, strict=True)))
        for record, item in zip(records, attempts, strict=True):
            self._metrics.attempts_started.add(item.kind)
            self._metrics.attempts.add(item.kind, self._outcome(record.intent_id, item.position))
