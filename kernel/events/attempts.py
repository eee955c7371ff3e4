"""Events about sends to the venue: written by the leader alone, fenced by its epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from kernel.events.base import BaseEvent, Upcaster
from kernel.models import AttemptKind, AttemptOutcome
from kernel.order_spec import Counter, InstantNs, IntentId, StandardOrder


class AttemptStarted(BaseEvent):
    """One send is about to happen. Durable before the venue hears of it."""

    topic = "AttemptStarted"
    intent_id: IntentId
    """The intent it serves."""
    number: Counter
    """The intent's counter; a resend of what is not settled repeats it."""
    kind: AttemptKind
    """SUBMIT, CANCEL or AMEND."""
    client_order_id: str
    """The id that the request carries."""
    target_client_order_id: str | None = None
    """For CANCEL and AMEND: the client order id of the order aimed at."""
    target_exchange_order_id: str | None = None
    """For CANCEL and AMEND: the venue's id of the order aimed at."""
    order: StandardOrder
    """What is sent (for CANCEL: the order aimed at, as the log knows it; for AMEND: the terms wanted, with the total)."""
    new_order: bool | None = None
    """For AMEND: true where it makes a new venue order, under this request's id, in the place of the one aimed at."""
    generation: Counter
    """The intent's generation that it serves."""
    epoch: Counter
    """The leader's epoch."""
    stamp_ns: InstantNs
    """The instant signed into the request."""
    send_by_ns: InstantNs
    """It is not written to the wire after this."""
    valid_until_ns: InstantNs | None = None
    """The venue refuses the request after this; none when it has no such window."""
    absent_after_ns: InstantNs | None = None
    """valid_until + clock skew + read lag: a look begun at or after this may conclude absence; none when nothing may."""
    state_position: Counter
    """Log position of the state that the decision was made on."""
    decided_at_ns: InstantNs
    """When the decision was made."""


LOCAL_REJECTION_V1 = "it does not fit the market: "
"""How the text of a local rejection began in version 1, which had no field for it."""


def with_local_rejection(payload: dict[str, Any]) -> dict[str, Any]:
    """Version 1 to 2: a rejection by the kernel itself is a field, no longer only a text."""
    local = payload.get("outcome") == AttemptOutcome.REJECTED and payload.get("text", "").startswith(LOCAL_REJECTION_V1)
    return {**payload, "locally_rejected": True} if local else payload


class AttemptFailed(BaseEvent):
    """A definitive no from the venue, a local rejection, or it was not sent."""

    topic = "AttemptFailed"
    schema_version = 2
    upcasters: ClassVar[Mapping[int, Upcaster]] = {1: with_local_rejection}
    intent_id: IntentId
    """The intent."""
    attempt_position: Counter
    """Position of the `AttemptStarted` that this answers."""
    outcome: AttemptOutcome
    """REJECTED (the venue said no) or DEAD (it was not sent)."""
    text: str = ""
    """What the venue or the kernel said."""
    code: str | None = None
    """The venue's code."""
    retry_at_ns: InstantNs | None = None
    """When it may be tried again; none when this generation is over."""
    failures: Counter = 0
    """Failures in a row, this one included."""
    locally_rejected: bool | None = None
    """True where the kernel rejected it, by the symbol's constraints: nothing was sent."""


class AttemptUnknown(BaseEvent):
    """The call ended without an answer that settles it."""

    topic = "AttemptUnknown"
    intent_id: IntentId
    """The intent."""
    attempt_position: Counter
    """Position of the `AttemptStarted` that this answers."""
    text: str = ""
    """What happened instead of an answer."""
    code: str | None = None
    """The venue's code where there was one (duplicate id, unknown order)."""
    duplicate: bool = False
    """The venue refused it because its client order id was used before: an order under that id exists or existed."""


class AttemptResolved(BaseEvent):
    """What was unknown is settled by evidence, or by an operator who vouches for it."""

    topic = "AttemptResolved"
    intent_id: IntentId
    """The intent."""
    attempt_position: Counter
    """Position of the `AttemptStarted` that this settles (with every earlier send of the same client order id)."""
    outcome: AttemptOutcome
    """ACCEPTED, REJECTED or DEAD."""
    text: str = ""
    """Which evidence settled it."""
    began_ns: InstantNs | None = None
    """When the look that settled it began."""
