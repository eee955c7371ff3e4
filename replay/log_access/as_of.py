"""What was known at a point of the log: the state as of a position or an instant, to be asked like a live kernel.

Called by the CLI (`get` and `describe` with `--as-of`) and by whoever asks in Python. Reads only. What is shown as of a
point counts ages from that instant, and knows nothing of what was recorded after it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from kernel.clock import Clock, SystemClock
from kernel.errors import ValidationError, Violation
from kernel.log.base import EventLog
from kernel.state import KernelState
from projections.state import State
from replay.formatting.output import utc
from replay.formatting.progress_bar import Progress
from replay.log_access.checkpoints import checkpoint_files, restored_state
from replay.log_access.log_reader import (
    fold,
    gc_relaxed,
    instant_ns,
    is_position,
    open_for_reading,
    point,
    point_of,
    recorded_at,
)


class StateSource(Protocol):
    """What is asked: a kernel, which answers for now, or a `HistoricState`."""

    @property
    def state(self) -> KernelState:
        """Everything folded so far."""

    @property
    def log(self) -> EventLog:
        """The log that it was folded from; what was recorded after the state's position is not to be shown."""

    @property
    def now_ns(self) -> int:
        """The instant that ages count from."""


@dataclass(frozen=True, slots=True)
class HistoricState:
    """A log as it was known at a point."""

    log: EventLog
    state: State
    recorded_at_ns: int
    """When the last event that was known then had been recorded; 0 before the first."""
    now_ns: int
    """The instant that was asked for; of a position, when its event was recorded."""

    @property
    def title(self) -> str:
        """Which point it is, in words."""
        recorded = f"recorded at {utc(self.recorded_at_ns)}" if self.state.position else "before the first event"
        return f"as of position {self.state.position}, {recorded}"


async def as_of(
    log: EventLog | str,
    *,
    position: int | None = None,
    time_ns: int | None = None,
    exchange_id: str | None = None,
    checkpoint_dir: str | Path | None = None,
    progress: Progress | None = None,
) -> State:
    """The state as of a position, or as of an instant (Unix nanoseconds: all that was recorded by then); without both, now.

    `log` is an open log or a URL, which needs `exchange_id` where it has several logs. `checkpoint_dir`: where checkpoints
    are, if not at their usual place. Raises `ValidationError` for a position past the head, `NotFoundError` where there is
    no log, and what `fold` raises.
    """
    async with open_for_reading(log, exchange_id) as found:
        at = await point(found, position=position, time_ns=time_ns)
        with gc_relaxed():
            return await state_at(found, at, checkpoint_dir=checkpoint_dir, progress=progress)


async def state_at(
    log: EventLog, position: int, *, checkpoint_dir: str | Path | None = None, progress: Progress | None = None
) -> State:
    """The state at a position: the one place where a fold to somewhere in a log begins, with a checkpoint where one is."""
    state = await restored_state(log, checkpoint_files(log, checkpoint_dir), upto=position)
    return await fold(log, state, upto=position, progress=progress)


async def historic_state_at(
    log: EventLog,
    text: str,
    *,
    clock: Clock | None = None,
    checkpoint_dir: str | Path | None = None,
    progress: Progress | None = None,
) -> HistoricState:
    """A log as it was at a position or an instant, as a person writes it.

    Raises `ValidationError` for what is neither, for a position past the head, and for an instant that is yet to come.
    """
    position = await point_of(log, text)
    recorded_at_ns = await recorded_at(log, position) if position else 0
    asked_ns = recorded_at_ns if is_position(text) else instant_ns(text)
    latest_ns = max(recorded_at_ns, (clock or SystemClock()).now_ns())
    if asked_ns > latest_ns:
        future = "`{value}` is in the future: the latest instant is {limit}"
        raise ValidationError(violations=[Violation("instant", "latest", utc(latest_ns), text, future)])
    state = await state_at(log, position, checkpoint_dir=checkpoint_dir, progress=progress)
    return HistoricState(log, state, recorded_at_ns, asked_ns)
