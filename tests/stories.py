"""Events recorded in a log one by one, as a kernel records them: two orders, a lost answer, a cancel.

Used by the tests of readers. All fields are explicit, so that a test can change one of them.
"""

from __future__ import annotations

import asyncio
from typing import Any

from eventsourcing.persistence import StoredEvent

from kernel import events
from kernel.events import BaseEvent, intent_stream
from kernel.lifecycle.record import client_order_id
from kernel.log import Append, EventLog, Write
from kernel.log.backends.library import LibraryRecorder
from kernel.models import AttemptKind, AttemptOutcome, Evidence, ExecType, LookScope
from kernel.order_spec import Side
from tests.commands import fresh_command_id
from tests.folding import an_attempt, an_intent, an_order

ABSENT_AFTER_NS = 50
STORY_LENGTH = 18


class Story:
    """Records events in one log."""

    def __init__(self, log: EventLog) -> None:
        self.log = log
        self.epoch = 0

    async def record(
        self, stream_id: str, *recorded: BaseEvent, evidence: Evidence = Evidence.COMMAND, **given: Any
    ) -> int:
        """Record events as one command; return the first position."""
        given = {"actor": "strategy:test"} | given
        append = Append(fresh_command_id(), (Write(stream_id, recorded),), evidence=evidence, **given)
        return (await self.log.append(append)).first_position

    async def about(self, intent_id: str, *recorded: BaseEvent, **given: Any) -> int:
        """Record events of an intent."""
        return await self.record(intent_stream(intent_id), *recorded, **given)

    async def lead(self, dedupe: str = "WHILE_OPEN") -> int:
        """A kernel is elected and starts."""
        self.epoch += 1
        started = events.KernelStarted(
            kernel_version="1", code_hash="0", epoch=self.epoch, settings={}, capabilities={"dedupe": dedupe}
        )
        elected = events.LeaderElected(epoch=self.epoch, holder="here")
        return await self.record("control", elected, started, actor="kernel", epoch=self.epoch, elects=True)

    async def place(self, intent_id: str, quantity: int = 100) -> int:
        """An intent is created."""
        return await self.about(intent_id, events.IntentCreated(intent=an_intent(an_order(quantity), intent_id)))

    def attempt(self, intent_id: str, number: int, kind: AttemptKind = AttemptKind.SUBMIT, **given: Any) -> BaseEvent:
        """An attempt of the leader, with the client order id of its number."""
        fields: dict[str, Any] = {
            "intent_id": intent_id,
            "number": number,
            "epoch": self.epoch,
            "valid_until_ns": ABSENT_AFTER_NS - 1,
            "absent_after_ns": ABSENT_AFTER_NS,
        }
        order = given.pop("order", an_order())
        return an_attempt(kind, self.name(intent_id, number), order, **{**fields, **given})

    def name(self, intent_id: str, number: int) -> str:
        """The client order id of an intent's attempt number."""
        return client_order_id(self.log.log_id, intent_id, number)

    async def send(
        self,
        intent_id: str,
        number: int,
        kind: AttemptKind = AttemptKind.SUBMIT,
        *,
        cause: int | None = None,
        **given: Any,
    ) -> int:
        """An attempt is recorded."""
        attempt = self.attempt(intent_id, number, kind, **given)
        return await self.about(intent_id, attempt, actor="reconciler", causation_position=cause)

    async def report(
        self,
        intent_id: str,
        kind: type[events.OrderReport],
        number: int = 1,
        *,
        evidence: Evidence = Evidence.STREAM,
        **given: Any,
    ) -> int:
        """The venue reports on the order of an attempt number."""
        fields: dict[str, Any] = {
            "intent_id": intent_id,
            "symbol_id": "S",
            "client_order_id": self.name(intent_id, number),
            "exchange_order_id": f"o-{intent_id}",
            "exec_type": ExecType.NEW,
        }
        return await self.about(intent_id, kind(**{**fields, **given}), evidence=evidence, actor="venue:paper")

    async def fill(self, intent_id: str, quantity: int, key: str, **given: Any) -> int:
        """A trade."""
        trade = {"side": Side.BUY, "fill_key": key, "last_qty": quantity, "last_px": 10, "exec_type": ExecType.TRADE}
        return await self.report(intent_id, events.OrderFilled, **{**trade, **given})

    async def resolve_as_dead(self, intent_id: str, attempt_position: int, began_ns: int = ABSENT_AFTER_NS) -> int:
        """A status query does not find an order, and the attempt is resolved as dead."""
        query = events.VenueSnapshotTaken(
            scopes=(LookScope.ORDER,), complete=True, began_ns=began_ns, ended_ns=began_ns + 1,
            intent_id=intent_id, found=False,
        )  # fmt: skip
        dead = events.AttemptResolved(
            intent_id=intent_id, attempt_position=attempt_position, outcome=AttemptOutcome.DEAD, began_ns=began_ns
        )
        return await self.about(intent_id, query, dead, evidence=Evidence.QUERY, actor="reconciler")

    async def record_foreign(self) -> int:
        """Another program writes an unknown event through the event-sourcing library, with versions from 0."""
        recorder: Any = getattr(self.log, "recorder", None)
        await asyncio.to_thread(
            LibraryRecorder(recorder).insert_events, [StoredEvent("theirs", 0, "Somebody:Theirs", b'{"x":1}')]
        )
        return (await self.log.head()).position

    async def record_all(self) -> None:
        """Record everything: `STORY_LENGTH` events, including the log's first."""
        await self.lead()
        command = await self.place("a")
        await self.send("a", 1, cause=command)
        await self.report("a", events.OrderAccepted)
        await self.fill("a", 60, "t1", fee=3, fee_asset="Y")
        command = await self.place("b")
        sent = await self.send("b", 1, cause=command)
        unknown = events.AttemptUnknown(intent_id="b", attempt_position=sent, text="no answer")
        await self.about("b", unknown, evidence=Evidence.STREAM, actor="reconciler", causation_position=sent)
        await self.resolve_as_dead("b", sent)
        await self.send("b", 1, cause=command)
        await self.report("b", events.OrderAccepted)
        cancel = events.IntentCancelRequested(intent_id="a", generation=2, requested_at_ns=1)
        command = await self.about("a", cancel)
        target = {"target_client_order_id": self.name("a", 1), "target_exchange_order_id": "o-a"}
        await self.send("a", 2, AttemptKind.CANCEL, cause=command, generation=2, **target)
        await self.report("a", events.OrderCanceled, cum_qty=60, exec_type=ExecType.CANCELED)
        assert await self.record_foreign() == STORY_LENGTH
