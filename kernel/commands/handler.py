"""Turns commands into events. Called by the controller, and by the event-sourced stores for their writes.

A command is decided on the folded state, appended at the version that it was decided on, and decided again after a
conflict.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from kernel import events
from kernel.clock import Clock, IdFactory
from kernel.commands.limit_gate import LimitGate
from kernel.commands.place_group import PlaceGroup, decide_group
from kernel.errors import ConflictError, ExchangeError, KernelError, NotFoundError
from kernel.lifecycle.decide import CancelIntent, IntentCommand, PlaceOrder, decide
from kernel.lifecycle.record import Record
from kernel.log.base import Append, EventLog, Write
from kernel.metrics import Metrics
from kernel.models import Evidence
from kernel.safety.limit_settings import LimitSettings
from kernel.state import KernelState
from kernel.streams.event_writer import append_and_fold, group_writes
from kernel.streams.rehydration import ensure_loaded

TRIES_MAX = 100
"""Most decisions of one command, each after a conflict."""
CANCELS_MAX = 1_000
"""Most cancels in one append."""


@dataclass(frozen=True, slots=True)
class Cancels:
    """Outcomes of the cancels of many intents."""

    recorded: list[str] = field(default_factory=list)
    refused: dict[str, ExchangeError | NotFoundError] = field(default_factory=dict)
    """Why others need none; those already canceled are in neither."""


@dataclass(eq=False)
class CommandHandler:
    """Decides and records commands about intents."""

    log: EventLog
    state: KernelState
    clock: Clock
    ids: IdFactory
    metrics: Metrics
    limits: LimitSettings | None = None

    def __post_init__(self) -> None:
        self.gate = LimitGate(self.state, clock=self.clock, own=self.limits)

    async def handle(
        self, intent_id: str, command: IntentCommand, *, actor: str, evidence: Evidence = Evidence.COMMAND
    ) -> bool:
        """Decide and record a command; return whether it made events.

        Raises what `decide`, the pre-trade limits and `log.append` raise.
        """
        command_id = self.ids.command_id(self.clock.now_ns())
        if not isinstance(command, PlaceOrder):  # a new id has no stream; if it has one, the append conflicts
            await ensure_loaded(self.log, self.state, intent_id)
        for _ in range(TRIES_MAX):
            record = self.state.record(intent_id)
            made = decide(record, command)
            if not made:
                return False
            try:
                with self.gate.admitted(record, command):
                    await self._append(self._writes(record, made), command_id, actor=actor, evidence=evidence)
            except ConflictError:
                await self._catch_up([intent_id])
                continue
            return True
        raise ConflictError(f"intent {intent_id} changed {TRIES_MAX} times while a command was decided: try again")

    async def cancel_all(self, intent_ids: Sequence[str], *, actor: str) -> Cancels:
        """Cancel many intents, with few appends: after a conflict fewer at a time, later more again.

        Raises the first `KernelError` of an append, after every other intent was tried.
        """
        cancels, problems = Cancels(), list[KernelError]()
        begin, size, conflicts = 0, CANCELS_MAX, 0
        while part := intent_ids[begin : begin + size]:
            try:
                await self._append_cancels(part, cancels, actor=actor)
            except KernelError as problem:
                conflicts += 1
                if isinstance(problem, ConflictError) and conflicts < TRIES_MAX:
                    await self._catch_up(part)
                    size = max(1, size // 2)
                    continue
                problems.append(problem)
            begin, size, conflicts = begin + len(part), min(2 * size, CANCELS_MAX), 0
        if problems:
            raise problems[0]
        return cancels

    async def _append_cancels(self, intent_ids: Sequence[str], cancels: Cancels, *, actor: str) -> None:
        await ensure_loaded(self.log, self.state, *intent_ids)
        now_ns = self.clock.now_ns()
        writes: dict[str, tuple[Write, ...]] = {}
        for intent_id in intent_ids:
            record = self.state.record(intent_id)
            try:
                made = decide(record, CancelIntent(intent_id, now_ns, is_exit=self.state.is_exit(intent_id)))
            except (ExchangeError, NotFoundError) as problem:
                cancels.refused[intent_id] = problem
                continue
            if made:
                writes[intent_id] = self._writes(record, made)
        if writes:
            command_id = self.ids.command_id(now_ns)
            together = tuple(write for each in writes.values() for write in each)
            await self._append(together, command_id, actor=actor, evidence=Evidence.COMMAND)
            cancels.recorded.extend(writes)

    async def _catch_up(self, intent_ids: Iterable[str]) -> None:
        """Wait until the state has all that is in the log, evicted streams included."""
        head = await self.log.head()
        await self.state.reached(head.position)
        await ensure_loaded(self.log, self.state, *intent_ids, anew=True)

    def _writes(self, record: Record, made: list[events.BaseEvent]) -> tuple[Write, ...]:
        stream_id = events.intent_stream(record.intent_id)
        return (Write(stream_id, tuple(made), record.version), *group_writes(self.state, stream_id, made))

    async def place_group(self, command: PlaceGroup, *, actor: str) -> None:
        """Decide a group and record it whole, or nothing.

        Raises what `decide_group`, the pre-trade limits and `log.append` raise.
        """
        command_id = self.ids.command_id(self.clock.now_ns())
        for _ in range(TRIES_MAX):
            records = {intent.intent_id: self.state.record(intent.intent_id) for intent in command.intents}
            writes = decide_group(self.state.group(command.group_id), records, command)
            if not writes:
                return
            try:
                with self.gate.admitted_group(command):
                    await self._append(writes, command_id, actor=actor, evidence=Evidence.COMMAND)
            except ConflictError:
                await self._catch_up(records)
                continue
            return
        raise ConflictError(f"group {command.group_id} changed {TRIES_MAX} times while it was decided: try again")

    async def _append(self, writes: tuple[Write, ...], command_id: bytes, *, actor: str, evidence: Evidence) -> None:
        command = Append(
            command_id=command_id, writes=writes, actor=actor, evidence=evidence, correlation_id=command_id.hex()
        )
        await append_and_fold(self.log, self.state, command, clock=self.clock, metrics=self.metrics)
