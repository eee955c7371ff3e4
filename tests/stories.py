"""A story recorded in a log, event by event, as a kernel would record it: two orders, an answer that never came, a cancel.

Used by the tests of what reads history. Everything is said in full, so that a test can say one thing otherwise.
"""

from __future__ import annotations

import asyncio
from typing import Any

from eventsourcing.persistence import StoredEvent

from kernel import events
from kernel.events import BaseEvent, intent_stream
from kernel.lifecycle import client_order_id
from kernel.log import Append, EventLog, Write
from kernel.models import AttemptKind, AttemptOutcome, Evidence, ExecType, LookScope
from kernel.order_spec import Side
from tests.commands import fresh_command_id
from tests.folding import an_attempt, an_intent, an_order

ABSENT_AFTER_NS = 50
STORY_LENGTH = 18


class Story:
    """What is told to one log."""

    def __init__(self, log: EventLog) -> None:
        self.log = log
        self.epoch = 0

    async def record(
        self, stream_id: str, *told: BaseEvent, evidence: Evidence = Evidence.COMMAND, **given: Any
    ) -> int:
        """Record events as one command; the position of the first."""
        given = {"actor": "strategy:test"} | given
        append = Append(fresh_command_id(), (Write(stream_id, told),), evidence=evidence, **given)
        return (await self.log.append(append)).first_position

    async def about(self, intent_id: str, *told: BaseEvent, **given: Any) -> int:
        """Record events of an intent."""
        return await self.record(intent_stream(intent_id), *told, **given)

    async def lead(self, dedupe: str = "WHILE_OPEN") -> int:
        """A kernel is elected, and starts."""
        self.epoch += 1
        started = events.KernelStarted(
            kernel_version="1", code_hash="0", epoch=self.epoch, settings={}, capabilities={"dedupe": dedupe}
        )
        elected = events.LeaderElected(epoch=self.epoch, holder="here")
        return await self.record("control", elected, started, actor="kernel", epoch=self.epoch, elects=True)

    async def want(self, intent_id: str, quantity: int = 100) -> int:
        """An order is wanted."""
        return await self.about(intent_id, events.IntentCreated(intent=an_intent(an_order(quantity), intent_id)))

    def attempt(self, intent_id: str, number: int, kind: AttemptKind = AttemptKind.SUBMIT, **given: Any) -> BaseEvent:
        """An attempt of the leader, with the id that belongs to its number."""
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
        """The client order id of an intent's number."""
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

    async def hear(
        self,
        intent_id: str,
        kind: type[events.OrderReport],
        number: int = 1,
        *,
        evidence: Evidence = Evidence.STREAM,
        **given: Any,
    ) -> int:
        """The venue tells of the order of a number."""
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
        return await self.hear(intent_id, events.OrderFilled, **{**trade, **given})

    async def rule_out(self, intent_id: str, attempt_position: int, began_ns: int = ABSENT_AFTER_NS) -> int:
        """A look does not find an order, and the attempt is settled as dead."""
        look = events.VenueSnapshotTaken(
            scopes=(LookScope.ORDER,), complete=True, began_ns=began_ns, ended_ns=began_ns + 1,
            intent_id=intent_id, found=False,
        )  # fmt: skip
        dead = events.AttemptResolved(
            intent_id=intent_id, attempt_position=attempt_position, outcome=AttemptOutcome.DEAD, began_ns=began_ns
        )
        return await self.about(intent_id, look, dead, evidence=Evidence.QUERY, actor="reconciler")

    async def others(self) -> int:
        """Somebody writes through the event-sourcing library, counting from 0, of things that this code does not know."""
        recorder: Any = getattr(self.log, "recorder", None)
        await asyncio.to_thread(recorder.insert_events, [StoredEvent("theirs", 0, "Somebody:Theirs", b'{"x":1}')])
        return (await self.log.head()).position

    async def tell(self) -> None:
        """The whole story, `STORY_LENGTH` events with the log's first."""
        await self.lead()
        wanted = await self.want("a")
        await self.send("a", 1, cause=wanted)
        await self.hear("a", events.OrderAccepted)
        await self.fill("a", 60, "t1", fee=3, fee_asset="Y")
        wanted = await self.want("b")
        sent = await self.send("b", 1, cause=wanted)
        unknown = events.AttemptUnknown(intent_id="b", attempt_position=sent, text="no answer")
        await self.about("b", unknown, evidence=Evidence.STREAM, actor="reconciler", causation_position=sent)
        await self.rule_out("b", sent)
        await self.send("b", 1, cause=wanted)
        await self.hear("b", events.OrderAccepted)
        cancel = events.IntentCancelRequested(intent_id="a", generation=2, requested_at_ns=1)
        wanted = await self.about("a", cancel)
        target = {"target_client_order_id": self.name("a", 1), "target_exchange_order_id": "o-a"}
        await self.send("a", 2, AttemptKind.CANCEL, cause=wanted, generation=2, **target)
        await self.hear("a", events.OrderCanceled, cum_qty=60, exec_type=ExecType.CANCELED)
        assert await self.others() == STORY_LENGTH
