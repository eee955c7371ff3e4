"""The reconciler itself, made to decide over a state without acting: what it would append is caught, nothing is asked.

Used by `deciding`. It is the very code that a leader runs (stores, plan, groups, gates, attempts), over a log that takes
nothing and a venue that is never reached, at an instant that is given. What a leader has beside state, settings,
capabilities and time is left out: rate budget, queue, pacing, lease. Each run stands for itself.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from contextlib import suppress
from dataclasses import dataclass

from kernel import events
from kernel import plan as planning
from kernel.clock import Clock, IdFactory, SeededIds
from kernel.lease import Lease
from kernel.log.base import Append, Appended, EventLog, Head, StoredRow, StreamHead
from kernel.metrics import Metrics
from kernel.order_spec import AssetMetadata, SymbolMetadata
from kernel.reconciler import ReconciliationEngine
from kernel.runs import Outcome
from kernel.settings import KernelSettings
from kernel.venues.base import (
    CancelRequest,
    ExecutionReport,
    ModifyRequest,
    RateUsage,
    SubmitGroupRequest,
    SubmitRequest,
    VenueCapabilities,
    VenueSnapshot,
)
from projections.state import State
from projections.stores import EventSourcedActualStore, EventSourcedIntentStore


@dataclass(frozen=True, slots=True)
class Decision:
    """What a run would do."""

    action: planning.Action | None
    """What is planned; None for an intent that does not exist."""
    appended: tuple[events.BaseEvent, ...] = ()
    """What it would record before anything leaves."""
    why: str = ""
    """Why it does nothing, or asks."""

    def attempt(self, intent_id: str) -> events.AttemptStarted | None:
        """The attempt that it would start for an intent."""
        started = (event for event in self.appended if isinstance(event, events.AttemptStarted))
        return next((event for event in started if event.intent_id == intent_id), None)


class DryEngine:
    """Decides as a leader with these settings would at a venue with these capabilities."""

    def __init__(self, state: State, settings: KernelSettings, capabilities: VenueCapabilities) -> None:
        self.settings = settings
        self.capabilities = capabilities
        self._clock = SetClock()
        self._log = CatchingLog(state)
        # What a venue takes in a time is no function of the log: no run waits for it here.
        self._venue = UnreachedVenue(capabilities.model_copy(update={"rate_limits": ()}))
        self._ids = SeededIds(0)
        self._stores = (
            EventSourcedIntentStore(self._log, state, clock=self._clock, ids=self._ids),
            EventSourcedActualStore(self._log, state, clock=self._clock, ids=self._ids),
        )
        self._metrics = Metrics()
        self._lease = NoLease()

    async def decide(self, intent_id: str, *, now_ns: int, epoch: int, forced: bool = False) -> Decision:
        """What a run for an intent would do now; `forced`: past its backoff."""
        engine = self._engine(now_ns=now_ns, epoch=epoch)
        if forced:
            engine.force(intent_id)
        action: planning.Action | None = None
        with suppress(Exception):  # an intent that is not known any more; what goes wrong does so in the run as well
            action = await engine.reconcile_intent(intent_id)
        return await caught(action, engine.reconcile(intent_id))

    async def resend(self, intent_id: str, *, now_ns: int, epoch: int) -> Decision:
        """What a run would do now whose look did not find a submit, at a venue that never takes an id twice."""
        return await caught(None, self._engine(now_ns=now_ns, epoch=epoch).resend(intent_id))

    def _engine(self, *, now_ns: int, epoch: int) -> ReconciliationEngine:
        """A new one for each run: nothing of an earlier run (its pacing) may bear on it."""
        self._clock.instant_ns = now_ns
        engine = ReconciliationEngine(
            *self._stores,
            log=self._log,
            venue=self._venue,
            lease=self._lease,
            clock=self._clock,
            settings=self.settings,
            ids=self._ids,
            metrics=self._metrics,
        )
        engine.lead(epoch)
        return engine


async def caught(action: planning.Action | None, run: Awaitable[Outcome]) -> Decision:
    """What a run comes to, stopped where it would record or ask something."""
    try:
        outcome = await run
    except Caught as found:
        return Decision(action, found.appended)
    except Asked as question:
        return Decision(action, why=str(question))
    except Exception as problem:  # whatever it is, a leader tries again after it: it is its decision to do nothing
        return Decision(action, why=f"it goes wrong: {problem!r}")
    return Decision(action, why=getattr(outcome, "reason", "") or str(outcome))


class Caught(Exception):
    """A run came to an append."""

    def __init__(self, append: Append) -> None:
        super().__init__("it would append")
        self.appended = tuple(event for write in append.writes for event in write.events)


class Asked(Exception):
    """A run came to a question to the venue."""


class SetClock:
    """Shows the instant that it was set to."""

    instant_ns = 0

    def now_ns(self) -> int:
        """See `Clock`."""
        return self.instant_ns

    async def sleep_until(self, instant_ns: int) -> None:
        """Nothing is waited for."""
        raise AssertionError("a decision waits for nothing")


class NoLease(Lease):
    """Never asked: nothing is sent."""

    @property
    def held(self) -> bool:
        """See `Lease`."""
        return False

    async def acquire(self, wait: bool = True) -> bool:
        """See `Lease`."""
        return False

    def deadline_ns(self) -> int | None:
        """See `Lease`."""
        return None

    async def release(self) -> None:
        """See `Lease`."""


class CatchingLog(EventLog):
    """Takes nothing: who appends is stopped there."""

    url = "memory://"

    def __init__(self, state: State) -> None:
        self.exchange_id = state.exchange_id
        self.log_id = state.log_id

    async def append(self, append: Append) -> Appended:
        """Always raises `Caught`."""
        raise Caught(append)

    def tail(self, after: int) -> AsyncIterator[list[events.BaseEvent]]:
        """Nobody reads it."""
        raise AssertionError("a decision reads no log")

    def read(self, after: int = 0, upto: int | None = None) -> AsyncIterator[list[StoredRow]]:
        """Nobody reads it."""
        raise AssertionError("a decision reads no log")

    async def read_stream(self, stream_id: str, after_version: int = 0) -> list[events.BaseEvent]:
        """Nobody reads it."""
        raise AssertionError("a decision reads no log")

    async def stream_rows(self, stream_id: str, *, after_version: int = -1, upto_version: int) -> list[StoredRow]:
        """Nobody reads it."""
        raise AssertionError("a decision reads no log")

    async def stream_heads(self, after: str = "") -> list[StreamHead]:
        """Nobody reads it."""
        raise AssertionError("a decision reads no log")

    async def repeated_commands(self, after: int, upto: int) -> list[tuple[int, int]]:
        """Nobody reads it."""
        raise AssertionError("a decision reads no log")

    async def intent_id_of(
        self, *, client_order_id: str | None = None, exchange_order_id: str | None = None, upto: int
    ) -> str | None:
        """Nobody reads it."""
        raise AssertionError("a decision reads no log")

    def lease(self, *, clock: Clock, ids: IdFactory | None = None) -> Lease:
        """Nobody asks for it."""
        raise AssertionError("a decision needs no lease")

    async def lease_is_held(self) -> bool:
        """Nobody asks for it."""
        raise AssertionError("a decision needs no lease")

    async def head(self) -> Head:
        """Nobody reads it."""
        raise AssertionError("a decision reads no log")

    async def close(self) -> None:
        """Nothing to let go of."""


class UnreachedVenue:
    """Says what it can, and no more: who asks it is stopped there."""

    rate_usage: tuple[RateUsage, ...] = ()

    def __init__(self, capabilities: VenueCapabilities) -> None:
        self.capabilities = capabilities

    async def connect(self) -> None:
        """Nobody connects."""
        raise Asked("it would connect")

    async def close(self) -> None:
        """Nothing to end."""

    async def submit(self, request: SubmitRequest) -> ExecutionReport:
        """Never reached: an attempt is recorded first."""
        raise Asked("it would submit")

    async def submit_group(self, request: SubmitGroupRequest) -> list[ExecutionReport]:
        """Never reached: an attempt is recorded first."""
        raise Asked("it would submit a group")

    async def modify(self, request: ModifyRequest) -> ExecutionReport:
        """Never reached: an attempt is recorded first."""
        raise Asked("it would modify")

    async def cancel(self, request: CancelRequest) -> ExecutionReport:
        """Never reached: an attempt is recorded first."""
        raise Asked("it would cancel")

    async def order(self, symbol_id: str, client_order_id: str) -> ExecutionReport | None:
        """Stops who asks."""
        raise Asked(f"it would ask the venue about {client_order_id}")

    async def snapshot(self, since_ns: int) -> VenueSnapshot:
        """Stops who asks."""
        raise Asked("it would ask the venue for its lists")

    async def symbols(self) -> list[SymbolMetadata]:
        """Nobody asks."""
        raise Asked("it would ask for symbols")

    async def assets(self) -> list[AssetMetadata]:
        """Nobody asks."""
        raise Asked("it would ask for assets")

    def reports(self) -> AsyncIterator[ExecutionReport]:
        """Nobody listens."""
        raise Asked("it would listen")
