"""What a leader left undone: an intent for which today's code would act, while it acted for others that came later.

Used by `deciding`. That nothing was recorded proves little by itself: a kernel may have been down, cut off, out of room in
the rate budget, or busy. So an intent is said to be passed over only by proof upon proof. Something was wanted of it,
and of the same kind, all the time since an event; since then, and longer than any look or pacing of its own takes, the same
leader has started an attempt for another intent for which something came to be wanted later, and which does not come
first in the queue; today's code, run at that instant, would have acted; and all that again and again, `PROOFS` times, with
as long in between. Where the venue's limits are declared, the other attempt must be of the same kind, as it spends the
same room.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from kernel import events
from kernel import plan as planning
from kernel.models import AttemptKind
from kernel.room import CALLS_MAX
from kernel.settings import KernelSettings, ns
from kernel.workqueue import HEAD_START_NS, Priority
from projections.state import State
from replay.dry_engine import DryEngine

PROOFS = 3
"""How often an intent must have been passed over: once may be the instant of a reconnect, and twice that of two."""
KINDS = {
    planning.DifferenceKind.CANCEL: AttemptKind.CANCEL,
    planning.DifferenceKind.MODIFY: AttemptKind.AMEND,
    planning.DifferenceKind.SUBMIT: AttemptKind.SUBMIT,
}
"""The differences that a leader acts on at once; a question leaves no trace where it finds nothing."""
FIRST = (AttemptKind.CANCEL, AttemptKind.AMEND, AttemptKind.SUBMIT)
"""Who comes first in the queue."""
ANEW = (
    events.KernelStarted,
    events.KernelStopped,
    events.CapabilitiesChanged,
    events.LeaderElected,
    events.Paused,
    events.Resumed,
    events.SymbolObserved,
)
"""After one of these the time begins anew for all: what held them back may only now have ended."""


@dataclass(slots=True)
class Want:
    """What is to be done for an intent, and was not yet."""

    kind: AttemptKind
    began_at: int
    """Position of the event since which it is wanted."""
    began_ns: int
    since_ns: int
    """Since when it was not proved again."""
    proofs: int = 0


class PassingOver:
    """What is wanted of each intent, and since when."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._wants: dict[str, Want] = {}
        """Those of which the time began longest ago first."""
        self._floor_ns = 0
        """Nothing counts that was before this."""
        self._served: Want | None = None
        """What was wanted of the intent of the newest attempt, when that was started."""

    def note(self, event: events.BaseEvent, touched: Iterable[str], differing: Iterable[str]) -> None:
        """An event was folded."""
        if isinstance(event, ANEW):
            self._floor_ns = event.recorded_at_ns
        if isinstance(event, events.AttemptStarted):
            self._served = self._wants.get(event.intent_id)
        differs = frozenset(differing)
        for intent_id in touched:
            if intent_id not in differs:
                self._wants.pop(intent_id, None)
            else:
                self._note_one(intent_id, event)

    def _note_one(self, intent_id: str, event: events.BaseEvent) -> None:
        found = planning.difference(self._state.wish(intent_id), self._state.exposure(intent_id))
        kind = KINDS.get(found.kind) if found is not None else None
        known = self._wants.get(intent_id)
        if known is not None and known.kind is kind:
            return
        self._wants.pop(intent_id, None)
        if kind is not None:
            now_ns = event.recorded_at_ns
            self._wants[intent_id] = Want(kind, event.position, now_ns, now_ns)

    async def proved_by(self, attempt: events.AttemptStarted, engine: DryEngine) -> list[dict[str, Any]]:
        """What this attempt proves to be passed over. To be asked once the attempt is folded."""
        now_ns = attempt.decided_at_ns
        early_ns = now_ns - patience_ns(engine.settings)
        found = []
        for intent_id, want in self._waiting(early_ns):
            if not self._comes_before(want, attempt.kind, engine):
                continue
            del self._wants[intent_id]
            decision = await engine.decide(intent_id, now_ns=now_ns, epoch=attempt.epoch)
            today = decision.attempt(intent_id)
            again = Want(want.kind, want.began_at, want.began_ns, now_ns, want.proofs + 1)
            if today is None:
                again = Want(want.kind, attempt.position, now_ns, now_ns)
            if again.proofs < PROOFS:
                self._wants[intent_id] = again
                continue
            found.append(
                {
                    "position": attempt.position,
                    "intent_id": intent_id,
                    "state_position": want.began_at,
                    "decided_at_ns": now_ns,
                    "recorded": f"nothing since {want.began_at}, while others were served that came later",
                    "today": f"{today.kind} {today.number}" if today is not None else "",
                    "why": getattr(decision.action, "reason", "") or "it is wanted, and nothing holds it back",
                }
            )
        return found

    def _waiting(self, early_ns: int) -> list[tuple[str, Want]]:
        """Those that have waited for long enough."""
        waiting = []
        for intent_id, want in self._wants.items():
            if want.since_ns > early_ns:
                break
            if max(want.since_ns, self._floor_ns) <= early_ns:
                waiting.append((intent_id, want))
        return waiting

    def _comes_before(self, want: Want, served: AttemptKind, engine: DryEngine) -> bool:
        """Whether what is wanted should have been served before what was served."""
        if self._served is None:
            return False
        if engine.capabilities.rate_limits and want.kind is not served:
            return False
        began_ns = want.began_ns
        if began_ns < self._floor_ns:
            # It was found by a resync then, behind whatever comes with a priority for as long as that is worth.
            began_ns = self._floor_ns + max(Priority) * HEAD_START_NS
        return self._served.began_ns > began_ns and FIRST.index(want.kind) <= FIRST.index(served)


def patience_ns(settings: KernelSettings) -> int:
    """How long an intent may wait for itself: for the looks of a run that had begun, for its own pacing, for a commit."""
    looks_s = CALLS_MAX * settings.query_timeout_s + settings.request_timeout_s
    return ns(looks_s + settings.backoff_s_min + settings.settle_backoff_s_max + settings.send_budget_s)
