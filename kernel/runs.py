"""What a run of the reconciler comes to. `ReconciliationEngine.requeue` turns it into what the queue does next."""

from __future__ import annotations

from dataclasses import dataclass

from kernel.workqueue import Priority


@dataclass(frozen=True, slots=True)
class Done:
    """Nothing more until something changes."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class After:
    """Run again at an instant."""

    instant_ns: int
    reason: str = ""
    line: Priority | None = None
    """For what waits for the rate budget: with what it stands in line, and keeps its place there."""


@dataclass(frozen=True, slots=True)
class Retry:
    """It went wrong in a way that may pass: run again after a backoff."""

    error: Exception


@dataclass(frozen=True, slots=True)
class Failed:
    """The venue, or the market, refused for good; recorded. Nothing more until the intent changes."""

    reason: str


Outcome = Done | After | Retry | Failed
