"""The decision of a reconciler run as a value, with the exact `AttemptStarted` that the run appends.

Returned by `decide_run`, performed by the reconciler, compared with recorded attempts by `orderctl decisions`. Of the
planned actions, `Nothing`, `WaitUntil` and `Ask` are decisions themselves.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import ClassVar

import msgspec

from kernel import events
from kernel import plan as planning
from kernel.actions import ActionKind
from kernel.errors import Violation
from kernel.groups import Group
from kernel.models import Attempt, OrderState, VenueOrder


class BackOff(msgspec.Struct, frozen=True):
    """Run again after the backoff of this kind of action."""

    label: ClassVar[str] = planning.WaitUntil.label
    kind: ActionKind
    reason: str


class ReportFindings(msgspec.Struct, frozen=True):
    """Append findings, then run again at once."""

    stream_id: str
    events: tuple[events.BaseEvent, ...]
    expected_version: int
    reason: str

    @property
    def label(self) -> str:
        return "first " + ", ".join(event.topic for event in self.events)


class TakeOverGroup(msgspec.Struct, frozen=True):
    """Manage a group in the kernel, order by order: the venue was to manage it and has none of its orders."""

    label: ClassVar[str] = f"first {events.GroupWorked.topic}"
    group: Group
    reason: str


class ResolutionMethod(Enum):
    """How to resolve an attempt."""

    MOOT = auto()
    """Without a query: its target is no longer open."""
    FIND_ORDER = auto()
    """A submit: query its client order id."""
    CHECK_CANCEL = auto()
    """A cancel: query its target; one that is still open is canceled again."""
    CHECK_TERMS = auto()
    """A modify in place: query its target and compare the terms."""
    FIND_REPLACEMENT = auto()
    """A cancel/replace: query the new order, then the old one."""


class AttemptResolution(msgspec.Struct, frozen=True):
    kind: ClassVar[ActionKind] = ActionKind.RESOLVE
    label: ClassVar[str] = planning.Resolve.label
    reason: ClassVar[str] = ""
    how: ResolutionMethod
    attempt: Attempt
    order: OrderState
    target: VenueOrder | None = None
    may_resend: bool = False
    """True if the same id may be sent again, where ids are accepted once."""


class SendOrder(msgspec.Struct, frozen=True):
    """Append an attempt, then make its one venue call."""

    kind: ActionKind
    started: events.AttemptStarted
    expected_version: int
    """Version of the intent's stream that the decision was made on."""
    target: VenueOrder | None = None
    group: Group | None = None
    """The group of an order that grows, as decided on: a fill in the group stops the send (H19)."""
    resend: bool = False
    reason: str = ""

    @property
    def label(self) -> str:
        return self.started.kind.lower()


class SendGroup(msgspec.Struct, frozen=True):
    """Append the attempts of all orders of a group, then place them in one venue call."""

    kind: ClassVar[ActionKind] = ActionKind.SUBMIT
    label: ClassVar[str] = planning.Submit.label
    reason: ClassVar[str] = ""
    group: Group
    group_client_id: str
    started: tuple[events.AttemptStarted, ...]
    expected_versions: tuple[int, ...]


class LocalRejection(msgspec.Struct, frozen=True):
    """Append an attempt and its rejection by the symbol's constraints; nothing is sent."""

    label: ClassVar[str] = planning.RejectLocally.label
    reason: ClassVar[str] = ""
    kind: ActionKind
    started: events.AttemptStarted
    expected_version: int
    violations: tuple[Violation, ...]

    @property
    def text(self) -> str:
        return "; ".join(map(str, self.violations))


VenueStep = AttemptResolution | planning.Ask | SendOrder | SendGroup | LocalRejection
"""Decisions that wait for backoff and rate limits before they are performed."""
Decision = planning.Nothing | planning.WaitUntil | BackOff | ReportFindings | TakeOverGroup | VenueStep


def attempt_of(decision: Decision, intent_id: str) -> events.AttemptStarted | None:
    match decision:
        case SendOrder(started=started) | LocalRejection(started=started):
            return started
        case SendGroup(started=members):
            return next((started for started in members if started.intent_id == intent_id), None)
    return None
