"""Events about sends to the venue: written by the leader alone, fenced by its epoch."""

from __future__ import annotations

from kernel.events.base import BaseEvent
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


class AttemptFailed(BaseEvent):
    """A definitive no from the venue, or it was not sent."""

    topic = "AttemptFailed"
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
