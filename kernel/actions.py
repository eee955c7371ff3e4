"""The actions of a reconciler run, and what each one costs and sends: one enum, one table.

Read by `plan` (every planned action names its kind), the decision, the work queue, the rate limiter and the metrics. The
values of `ActionKind` and the labels of `Priority` are shown by the CLI and the metrics: they are stable.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum

from kernel.models import AttemptKind
from kernel.venues.base import Operation


class Priority(IntEnum):
    """The priority of a key in the work queue and of a call under the rate limits; a higher one is a longer head start."""

    RESYNC = 0
    SUBMIT = 1
    MODIFY = 2
    RESOLVE = 3
    CANCEL = 4

    @property
    def label(self) -> str:
        """The name under which metrics count it."""
        return ActionKind.RESOLVE.value if self is Priority.RESOLVE else self.name


class ActionKind(StrEnum):
    """What a reconciler run does for an intent, and so in which way intent and order differ."""

    RESOLVE = "SETTLE"
    """Find out what became of an attempt that may have happened: evidence comes before anything else."""
    ASK = "ASK"
    """Query the status of an order whose account at the venue is not known in full."""
    CANCEL = "CANCEL"
    """Cancel an order that should not work."""
    MODIFY = "MODIFY"
    """Give a working order the terms of the intent."""
    SUBMIT = "SUBMIT"
    """Place what is left of the intent."""


@dataclass(frozen=True, slots=True)
class ActionRule:
    """What an action needs."""

    priority: Priority
    attempt: AttemptKind | None = None
    """The attempt that it records; none for a status query."""
    operations: tuple[Operation, ...] = ()
    """The one venue call behind that attempt; a status query chooses its calls as answers come in."""


ACTION_RULES: Mapping[ActionKind, ActionRule] = {
    ActionKind.CANCEL: ActionRule(Priority.CANCEL, AttemptKind.CANCEL, (Operation.CANCEL,)),
    ActionKind.RESOLVE: ActionRule(Priority.RESOLVE),
    ActionKind.ASK: ActionRule(Priority.RESOLVE),
    ActionKind.MODIFY: ActionRule(Priority.MODIFY, AttemptKind.AMEND, (Operation.AMEND,)),
    ActionKind.SUBMIT: ActionRule(Priority.SUBMIT, AttemptKind.SUBMIT, (Operation.SUBMIT,)),
}
"""The one table from an action to its priority, attempt and venue call."""
