"""The result of a reconciler run, which `VenueReconciler.requeue` turns into the next step of the work queue."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from kernel.actions import Priority
from kernel.metrics import RunResult


class Done(msgspec.Struct, frozen=True):
    """Run again when the intent or the order changes."""

    metric: ClassVar[RunResult] = RunResult.DONE
    reason: str = ""


class RequeueAfter(msgspec.Struct, frozen=True):
    """Run again at an instant."""

    metric: ClassVar[RunResult] = RunResult.AFTER
    instant_ns: int
    reason: str = ""
    lane: Priority | None = None
    """The queue's priority lane in which the key keeps its place while it waits for the rate limit."""


class RequeueWithBackoff(msgspec.Struct, frozen=True):
    """Run again after a backoff: the error may be transient."""

    metric: ClassVar[RunResult] = RunResult.ERROR
    error: Exception


class Terminal(msgspec.Struct, frozen=True):
    """The order was rejected for good and that is recorded: run again when the intent changes."""

    metric: ClassVar[RunResult] = RunResult.FAILED
    reason: str


ReconcileResult = Done | RequeueAfter | RequeueWithBackoff | Terminal
