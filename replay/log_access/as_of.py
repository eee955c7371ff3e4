"""The state at a position or an instant of a log, which answers queries like a live kernel.

Called by the CLI (`--as-of`) and by library users. Reads only. Ages count from that instant, and nothing recorded after it
is shown.
"""

from __future__ import annotations

from pathlib import Path

from kernel.clock import Clock, SystemClock
from kernel.errors import ValidationError, Violation
from kernel.log.base import EventLog
from projections.state import State
from replay.formatting.output import utc
from replay.formatting.progress_bar import Progress
from replay.log_access import log_reader
from replay.log_access.checkpoints import checkpoint_files, restored_state
from replay.log_access.state_source import HistoricState


async def as_of(
    log: EventLog | str,
    *,
    position: int | None = None,
    time_ns: int | None = None,
    exchange_id: str | None = None,
    checkpoint_dir: str | Path | None = None,
    progress: Progress | None = None,
) -> State:
    """Return the state at a position or an instant; without both, at the head.

    Args:
        log: An open log or a URL.
        position: The last event to fold.
        time_ns: An instant in Unix nanoseconds: everything recorded by then is folded.
        exchange_id: The exchange account, needed for a URL with several logs.
        checkpoint_dir: The directory of the checkpoints. Default: their usual place.
        progress: Called with the events folded and to fold.

    Raises:
        ValidationError: The position is past the head.
        NotFoundError: There is no such log.
        IntegrityError: An event cannot be folded; `position` is the first such.
        SchemaError: Likewise, because this version cannot read it.
    """
    async with log_reader.open_for_reading(log, exchange_id) as found:
        at = await log_reader.point(found, position=position, time_ns=time_ns)
        with log_reader.gc_relaxed():
            return await state_at(found, at, checkpoint_dir=checkpoint_dir, progress=progress)


async def state_at(
    log: EventLog, position: int, *, checkpoint_dir: str | Path | None = None, progress: Progress | None = None
) -> State:
    """The state at a position, folded from the newest usable checkpoint."""
    state = await restored_state(log, checkpoint_files(log, checkpoint_dir), upto=position)
    return await log_reader.fold(log, state, upto=position, progress=progress)


async def historic_state_at(
    log: EventLog,
    text: str,
    *,
    clock: Clock | None = None,
    checkpoint_dir: str | Path | None = None,
    progress: Progress | None = None,
) -> HistoricState:
    """The log at a position or an instant that a person typed.

    Raises `ValidationError` for anything else, for a position past the head and for an instant in the future.
    """
    position = await log_reader.point_of(log, text)
    recorded_at_ns = await log_reader.recorded_at(log, position) if position else 0
    at_ns = recorded_at_ns if log_reader.is_position(text) else log_reader.instant_ns(text)
    latest_ns = max(recorded_at_ns, (clock or SystemClock()).now_ns())
    if at_ns > latest_ns:
        future = "`{value}` is in the future: the latest instant is {limit}"
        raise ValidationError(violations=[Violation("instant", "latest", utc(latest_ns), text, future)])
    state = await state_at(log, position, checkpoint_dir=checkpoint_dir, progress=progress)
    return HistoricState(log, state, recorded_at_ns, at_ns)
