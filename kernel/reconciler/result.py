"""The result of a reconciler run, which `VenueReconciler.requeue` turns into the next step of the work queue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from kernel.actions import Priority
from kernel.metrics import RunResult


@dataclass(frozen=True, slots=True)
class Done:
    """Run again when the intent or the order changes."""

    metric: ClassVar[RunResult] = RunResult.DONE
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RequeueAfter:
    """Run again at an instant."""

    metric: ClassVar[RunResult] = RunResult.AFTER
    instant_ns: int
    reason: str = ""
    lane: Priority | None = None
    """The queue's priority lane in which the key keeps its place while it waits for the rate limit."""


@dataclass(frozen=True, slots=True)
class RequeueWithBackoff:
    """Run again after a backoff: the error may be transient."""

    metric: ClassVar[RunResult] = RunResult.ERROR
    error: Exception


@dataclass(frozen=True, slots=True)
class Terminal:
    """The order was rejected for good and that is recorded: run again when the intent changes."""

    metric: ClassVar[RunResult] = RunResult.FAILED
    reason: str


ReconcileResult = Done | RequeueAfter | RequeueWithBackoff | Terminal
