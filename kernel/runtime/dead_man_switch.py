"""Dead-man switch: the leader cancels the orders of owners that miss their heartbeat. Armed by an owner's first heartbeat.

`Heartbeats` is the command side, in any process; `DeadManSwitch` is the leader's side.

A heartbeat is an event in the log, at most one per third of its `ttl`: the leader may run on another host, and the log can
show why an order was canceled. As beats in between are not recorded, an owner lapses two thirds to one `ttl` after its last
beat, plus a tenth for the leader's check. An owner that beats at least every half `ttl` never lapses.

Both sides count by the event loop's time, as a host's clock may be set. Before each check the state is brought to the log's
head. `HeartbeatLapsed` is appended with the checked version of the owner's stream and the leader's epoch: an earlier beat
wins, and a replaced leader is fenced. The cancels are ordinary commands: a next leader continues them, and cancels what the
owner places while lapsed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from kernel import events
from kernel.clock import NS_PER_S, Clock, elapsed_ns
from kernel.errors import ConflictError, ExchangeError, KernelError, NotFoundError, ValidationError
from kernel.lifecycle.decide import CancelIntent, decide
from kernel.lifecycle.orders.order_status import TERMINAL
from kernel.lifecycle.record import Record
from kernel.log.base import EventLog
from kernel.models import Desired, Evidence
from kernel.plan import difference
from kernel.safety import heartbeat
from kernel.safety.heartbeat import Heartbeat, Observation
from kernel.settings import ns
from kernel.state import KernelState
from kernel.streams.event_writer import EventWriter

logger = logging.getLogger(__name__)

TTL_S_MIN = 1.0
"""A shorter time could pass while a host is busy."""
TTL_S_MAX = 86_400.0
OWNER_LENGTH_MAX = 128
OWNER_BYTES_MAX = 240
"""The owner is part of a stream id."""
TICK_S_MIN = 0.1
TICK_S_MAX = 1.0
"""Bounds of the leader's check interval, a tenth of the shortest armed time."""
CANCEL_CONCURRENCY = 256
"""Concurrent cancels: enough for the log to commit them in large batches."""


@dataclass(eq=False)
class Heartbeats:
    """Records owners' heartbeats."""

    state: KernelState
    writer: EventWriter
    clock: Clock
    _sent_ns: dict[str, int] = field(default_factory=dict, init=False)
    """When this process recorded each owner's last beat."""

    async def record_heartbeat(self, owner: str, ttl_s: float, *, actor: str) -> bool:
        """Record that an owner is alive, and arm its switch; False within a third of `ttl_s` after the last heartbeat.

        Raises `ValidationError` if the owner or the time is out of bounds.
        """
        check_owner(owner)
        ttl_ns = checked_ttl_ns(ttl_s)
        now_ns, known = elapsed_ns(), self.state.heartbeats.get(owner)
        recorded_ns = self.clock.now_ns() - known.recorded_at_ns if known is not None else 0
        since_ns = now_ns - self._sent_ns[owner] if owner in self._sent_ns else recorded_ns
        if heartbeat.is_renewed(known, ttl_ns, since_ns=since_ns):
            return False
        await self._append(events.HeartbeatReceived(owner=owner, ttl_ns=ttl_ns), actor)
        self._sent_ns[owner] = now_ns
        return True

    async def disarm(self, owner: str, *, reason: str, actor: str) -> bool:
        """Disarm an owner's switch, and return whether it was armed. Raises `ValidationError`."""
        check_owner(owner)
        known = self.state.heartbeats.get(owner)
        if known is None or known.ttl_ns is None:
            return False
        await self._append(events.HeartbeatDisarmed(owner=owner, reason=reason), actor)
        return True

    async def _append(self, event: events.HeartbeatReceived | events.HeartbeatDisarmed, actor: str) -> None:
        # A fact, as a heartbeat refused by a full queue would make a living owner lapse.
        stream_id = events.heartbeat_stream(event.owner)
        await self.writer.append(stream_id, [event], actor=actor, evidence=Evidence.COMMAND, is_fact=True)


def check_owner(owner: str) -> None:
    if 0 < len(owner) <= OWNER_LENGTH_MAX and owner.isprintable() and len(owner.encode()) <= OWNER_BYTES_MAX:
        return
    raise ValidationError(
        f"owner {owner[:80]!r}: must be 1 to {OWNER_LENGTH_MAX} printable characters of at most {OWNER_BYTES_MAX} bytes"
    )


def checked_ttl_ns(ttl_s: float) -> int:
    if TTL_S_MIN <= ttl_s <= TTL_S_MAX:
        return ns(ttl_s)
    raise ValidationError(f"ttl_s {ttl_s:g}: must be between {TTL_S_MIN:g} and {TTL_S_MAX:g} s")


class DeadManSwitch:
    """Checks heartbeats and cancels the orders of lapsed owners, while its kernel leads."""

    def __init__(self, log: EventLog, state: KernelState, writer: EventWriter, *, clock: Clock) -> None:
        self._log = log
        self._state = state
        self._writer = writer
        self._clock = clock
        self._has_news = asyncio.Event()
        """Set while an owner is armed or an intent may have to be canceled."""
        self._observations: dict[str, Observation] = {}
        self._last_ns: int | None = None
        """When the last check began."""
        self._swept: dict[str, tuple[int, bool, int]] = {}
        """The lapse of each owner whose intents were checked."""
        self._pending: dict[str, None] = {}
        """Intents that may have to be canceled."""

    def note(self, touched: Iterable[str]) -> None:
        """Check the intents that the reader's last batch touched."""
        if not self._state.heartbeats:
            return
        for intent_id in touched:
            if self._is_revoked(self._state.record(intent_id)):
                self._pending[intent_id] = None
        if not self._has_news.is_set() and self._has_work():
            self._has_news.set()

    def _has_work(self) -> bool:
        armed = any(beat.ttl_ns is not None for beat in self._state.heartbeats.values())
        return armed or bool(self._pending) or any(True for _ in self._not_yet_revoked())

    @asynccontextmanager
    async def watching(self, epoch: int) -> AsyncIterator[None]:
        """Check heartbeats as the leader of an epoch while the block runs."""
        task = asyncio.create_task(self._run(epoch), name="kernel-silence")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self, epoch: int) -> None:
        self._observations, self._last_ns = {}, None
        if self._has_work():
            self._has_news.set()
        while True:
            await self._has_news.wait()
            try:
                await self._observe(epoch)
            except KernelError as problem:
                logger.warning("checking heartbeats failed, retrying: %s", problem)
            except Exception:
                logger.exception("checking heartbeats failed")
            if self._has_work():
                await asyncio.sleep(self._tick_s())
            else:
                self._has_news.clear()

    def _tick_s(self) -> float:
        shortest_ns = min((beat.ttl_ns for beat in self._state.heartbeats.values() if beat.ttl_ns), default=NS_PER_S)
        return min(max(shortest_ns / NS_PER_S / 10, TICK_S_MIN), TICK_S_MAX)

    async def _observe(self, epoch: int) -> None:
        """Apply the log to its head, record the owners that lapsed, and cancel their orders."""
        began_ns = elapsed_ns()
        head = await self._log.head()
        await self._state.reached(head.position)
        beats, now_ns = self._state.heartbeats, elapsed_ns()
        self._observations = heartbeat.observe(
            self._observations, beats, last_ns=self._last_ns, began_ns=began_ns, now_ns=now_ns
        )
        self._last_ns = began_ns
        for beat in heartbeat.newly_silent(self._observations, beats, now_ns=began_ns):
            await self._lapse(beat, epoch, silent_ns=began_ns - self._observations[beat.owner].since_ns)
        for beat in list(self._not_yet_revoked()):
            self._pending |= dict.fromkeys(self._revoked_intents(beat.owner))
            self._swept[beat.owner] = lapse_of(beat)
        await self._cancel_revoked(epoch)

    async def _lapse(self, beat: Heartbeat, epoch: int, *, silent_ns: int) -> None:
        """Record that an owner lapsed, unless its stream has a newer beat."""
        lapsed = events.HeartbeatLapsed(owner=beat.owner, beat_position=beat.position, silent_ns=silent_ns)
        try:
            await self._writer.append(
                events.heartbeat_stream(beat.owner),
                [lapsed],
                actor="kernel",
                evidence=Evidence.INFERRED,
                expected_version=beat.version,
                epoch=epoch,
                causation_position=beat.position,
            )
        except ConflictError:
            return
        logger.warning("owner %s missed its heartbeat: its orders are canceled", beat.owner)

    def _not_yet_revoked(self) -> Iterable[Heartbeat]:
        """Return lapsed owners whose intents this leader has not checked since."""
        beats = self._state.heartbeats.values()
        return (beat for beat in beats if beat.lapsed_position and self._swept.get(beat.owner) != lapse_of(beat))

    def _revoked_intents(self, owner: str) -> list[str]:
        """Return an owner's intents to cancel, including those not yet at the venue."""
        mine = [intent.intent_id for intent in self._state.intents() if intent.owner == owner]
        return [intent_id for intent_id in mine if self._is_revoked(self._state.record(intent_id))]

    def _is_revoked(self, record: Record) -> bool:
        """Return whether an intent is active although its owner's lapse revoked it."""
        intent = record.intent
        if intent is None or intent.desired is Desired.CANCELED or not intent.owner:
            return False
        if not heartbeat.is_revoked(self._state.heartbeats.get(intent.owner), record.command_position):
            return False
        order = self._state.observed_order(record.intent_id)
        if record.may_be_live or order is None or order.status.ord_status not in TERMINAL:
            return True
        return difference(intent, order) is not None  # the order has ended, and would be placed again

    async def _cancel_revoked(self, epoch: int) -> None:
        """Cancel the pending intents; those that conflict stay pending until the next check."""
        pending = list(self._pending)
        for begin in range(0, len(pending), CANCEL_CONCURRENCY):
            chosen = pending[begin : begin + CANCEL_CONCURRENCY]
            found = await asyncio.gather(*(self._cancel(name, epoch) for name in chosen), return_exceptions=True)
            for intent_id, problem in zip(chosen, found, strict=True):
                if problem is None:
                    self._pending.pop(intent_id, None)
                elif not isinstance(problem, ConflictError):
                    raise problem

    async def _cancel(self, intent_id: str, epoch: int) -> None:
        record = self._state.record(intent_id)
        if record.intent is None or not self._is_revoked(record):
            return
        beat = self._state.heartbeats[record.intent.owner]
        reason = f"{beat.owner} missed its heartbeat (position {beat.lapsed_position})"
        try:
            is_exit = self._state.is_exit(intent_id)
            made = decide(record, CancelIntent(intent_id, self._clock.now_ns(), reason, is_exit=is_exit))
        except (ExchangeError, NotFoundError):  # the order has ended
            return
        await self._writer.append(
            events.intent_stream(intent_id),
            made,
            actor="kernel",
            evidence=Evidence.COMMAND,
            expected_version=record.version,
            epoch=epoch,
            causation_position=beat.lapsed_position,
        )


def lapse_of(beat: Heartbeat) -> tuple[int, bool, int]:
    """Return what identifies one lapse of an owner, from its beginning to its end."""
    return beat.lapsed_position, beat.lapsed, beat.withdrawn_upto
