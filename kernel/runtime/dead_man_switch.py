"""Cancel-on-silence: owners say that they are alive, and the leader cancels the orders of those that stop saying so.

Used by the controller: `Heartbeats` is the command side, in any process; `DeadManSwitch` the leader's side. Opt-in: an
owner arms it with its first heartbeat.

A heartbeat reaches the leader through the log, as an event at most every third of its `ttl`: beats between are free. A
row or a file beside the log would be cheaper, but the leader may be another host, and the log could not say afterwards why
an order was canceled, nor a replay agree. At the shortest `ttl` that is three small events a second for an owner, at 30 s
one every 10 s. The price: a beat that was not recorded is not heard, so an owner is found silent between two thirds of its
`ttl` and all of it after its last beat, plus a tenth for the leader's look. Whoever beats at least every half `ttl` is
never silent.

The verdict (`HeartbeatLapsed`) is appended under the version of the owner's stream that it was judged by, and under the
leader's epoch: a beat that came first wins, whatever the fold had seen, and a replaced leader finds nobody silent. Before
each verdict the fold is brought to the log's head, so that a renewal that is late in the tail counts. The cancels follow
from the verdict, level by level, as any command does: whoever leads next goes on with them, and what is wanted while the
owner is silent is canceled too. Nothing here talks to the venue, and nothing waits for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from kernel import events
from kernel.clock import NS_PER_S, Clock
from kernel.errors import (
    ConflictError,
    ExchangeError,
    KernelError,
    NotFoundError,
    ValidationError,
    Violation,
)
from kernel.lifecycle import TERMINAL, CancelIntent, Record, decide
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
"""A shorter time could be over while a busy host does something else."""
TTL_S_MAX = 86_400.0
"""A longer silence is no sign of anything."""
OWNER_LENGTH_MAX = 128
OWNER_BYTES_MAX = 240
"""The owner is part of a stream's name."""
TICK_S_MIN = 0.1
TICK_S_MAX = 1.0
"""How often the leader looks: ten times in the shortest time armed, within these."""
CANCEL_CONCURRENCY = 256
"""Cancels under way at the same time: enough for the log to commit them in large groups."""


class Heartbeats:
    """What owners say of themselves."""

    def __init__(self, state: KernelState, writer: EventWriter, *, clock: Clock) -> None:
        self._state = state
        self._writer = writer
        self._clock = clock
        self._sent_ns: dict[str, int] = {}
        """When this process recorded each owner's newest beat, by its own clock."""

    async def record_heartbeat(self, owner: str, ttl_s: float, *, actor: str) -> bool:
        """An owner is alive; whether that was recorded (not when it was a moment ago). Raises `ValidationError`."""
        check_owner(owner)
        ttl_ns = checked_ttl_ns(ttl_s)
        now_ns = self._clock.now_ns()
        sent_ns = self._sent_ns.get(owner)
        if heartbeat.is_renewed(self._state.heartbeats.get(owner), ttl_ns, sent_ns=sent_ns, now_ns=now_ns):
            return False
        await self._append(events.HeartbeatReceived(owner=owner, ttl_ns=ttl_ns), actor)
        self._sent_ns[owner] = now_ns
        return True

    async def disarm(self, owner: str, *, reason: str, actor: str) -> bool:
        """An owner's silence means nothing from now on; whether that changed anything. Raises `ValidationError`."""
        check_owner(owner)
        known = self._state.heartbeats.get(owner)
        if known is None or known.ttl_ns is None:
            return False
        await self._append(events.HeartbeatDisarmed(owner=owner, reason=reason), actor)
        return True

    async def _append(self, event: events.HeartbeatReceived | events.HeartbeatDisarmed, actor: str) -> None:
        # A fact: what is refused when the queue is full would make somebody silent who is not.
        stream_id = events.heartbeat_stream(event.owner)
        await self._writer.append(stream_id, [event], actor=actor, evidence=Evidence.COMMAND, is_fact=True)


def check_owner(owner: str) -> None:
    if 0 < len(owner) <= OWNER_LENGTH_MAX and owner.isprintable() and len(owner.encode()) <= OWNER_BYTES_MAX:
        return
    limit = f"1 to {OWNER_LENGTH_MAX} printable characters ({OWNER_BYTES_MAX} bytes), the owner of the intents"
    raise ValidationError(violations=[Violation("owner", "name", limit, owner[:80])])


def checked_ttl_ns(ttl_s: float) -> int:
    """How long an owner may be silent. `ValidationError` for what is too short to judge, or too long to mean a thing."""
    if TTL_S_MIN <= ttl_s <= TTL_S_MAX:
        return ns(ttl_s)
    limit = f"between {TTL_S_MIN:g} and {TTL_S_MAX:g} s"
    text = "time to live {value} s: must be {limit}"
    raise ValidationError(violations=[Violation("ttl_s", "time", limit, f"{ttl_s:g}", text)])


class DeadManSwitch:
    """The leader's ear."""

    def __init__(self, log: EventLog, state: KernelState, writer: EventWriter, *, clock: Clock) -> None:
        self._log = log
        self._state = state
        self._writer = writer
        self._clock = clock
        self._news = asyncio.Event()
        """Set while there is somebody to listen to, or something to withdraw."""
        self._observations: dict[str, Observation] = {}
        self._last_ns: int | None = None
        """When the newest look began."""
        self._swept: dict[str, tuple[int, bool, int]] = {}
        """The silence of each owner whose wishes were gone through."""
        self._pending: dict[str, None] = {}
        """Intents that may have to be withdrawn."""

    def note(self, touched: Iterable[str]) -> None:
        """The reader applied a batch: somebody may have been heard, or want something while it is silent."""
        beats = self._state.heartbeats
        if not beats:
            return
        for intent_id in touched:
            if self._is_revoked(self._state.record(intent_id)):
                self._pending[intent_id] = None
        if not self._news.is_set() and self._has_work():
            self._news.set()

    def _has_work(self) -> bool:
        """Nobody who never armed it costs a look."""
        armed = any(beat.ttl_ns is not None for beat in self._state.heartbeats.values())
        return armed or bool(self._pending) or any(True for _ in self._not_yet_revoked())

    @asynccontextmanager
    async def watching(self, epoch: int) -> AsyncIterator[None]:
        """Listen as the leader of an epoch for as long as the block runs."""
        task = asyncio.create_task(self._run(epoch), name="kernel-silence")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self, epoch: int) -> None:
        """Listen anew: as the leader of this epoch it has heard nobody yet."""
        self._observations, self._last_ns = {}, None
        if self._has_work():
            self._news.set()
        while True:
            await self._news.wait()
            try:
                await self._observe(epoch)
            except KernelError as problem:
                logger.warning("heartbeats could not be looked at: %s; again in a moment", problem)
            except Exception:
                logger.exception("looking at heartbeats went wrong")
            if self._has_work():
                await self._clock.sleep_until(self._clock.now_ns() + self._tick_ns())
            else:
                self._news.clear()

    def _tick_ns(self) -> int:
        shortest_ns = min((beat.ttl_ns for beat in self._state.heartbeats.values() if beat.ttl_ns), default=NS_PER_S)
        return min(max(shortest_ns // 10, ns(TICK_S_MIN)), ns(TICK_S_MAX))

    async def _observe(self, epoch: int) -> None:
        """Fold all that is in the log, find out who is silent, and withdraw what the silent want."""
        began_ns = self._clock.now_ns()
        head = await self._log.head()
        await self._state.reached(head.position)
        beats, now_ns = self._state.heartbeats, self._clock.now_ns()
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
        """Record that an owner is silent, unless it was heard meanwhile."""
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
        logger.warning("%s is silent: what it wants is canceled", beat.owner)

    def _not_yet_revoked(self) -> Iterable[Heartbeat]:
        """Owners that were found silent, whose wishes this leader has not gone through since."""
        beats = self._state.heartbeats.values()
        return (beat for beat in beats if beat.lapsed_position and self._swept.get(beat.owner) != lapse_of(beat))

    def _revoked_intents(self, owner: str) -> list[str]:
        """What an owner may still want: also what is not at the venue yet and waits for something else."""
        mine = [intent.intent_id for intent in self._state.intents() if intent.owner == owner]
        return [intent_id for intent_id in mine if self._is_revoked(self._state.record(intent_id))]

    def _is_revoked(self, record: Record) -> bool:
        """Whether an intent is still wanted, though its owner's silence has withdrawn it."""
        intent = record.intent
        if intent is None or intent.desired is Desired.CANCELED or not intent.owner:
            return False
        if not heartbeat.is_revoked(self._state.heartbeats.get(intent.owner), record.command_position):
            return False
        order = self._state.observed_order(record.intent_id)
        if record.may_be_live or order is None or order.status.ord_status not in TERMINAL:
            return True
        return difference(intent, order) is not None  # it has ended, and is to be placed again

    async def _cancel_revoked(self, epoch: int) -> None:
        """Cancel what is pending; what somebody else wrote to in between stays so, for the next look."""
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
        reason = f"{beat.owner} fell silent (position {beat.lapsed_position})"
        try:
            made = decide(record, CancelIntent(intent_id, self._clock.now_ns(), reason))
        except (ExchangeError, NotFoundError):  # it is over
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
    """One silence of an owner, at its beginning and at its end."""
    return beat.lapsed_position, beat.lapsed, beat.withdrawn_upto
