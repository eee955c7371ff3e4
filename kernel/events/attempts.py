"""Events about requests to the venue. Only the leader appends them, fenced by its epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from kernel.events.base import BaseEvent, Upcaster
from kernel.models import AttemptKind, AttemptOutcome
from kernel.order_spec import Counter, InstantNs, IntentId, StandardOrder


class AttemptStarted(BaseEvent):
    """One request is about to be sent. Durable before the venue receives it."""

    intent_id: IntentId
    """The intent that the request is for."""
    number: Counter
    """Attempt number within the intent; a resend of an unresolved submit repeats it."""
    kind: AttemptKind
    """SUBMIT, CANCEL or AMEND."""
    client_order_id: str
    """Client order id of the request (FIX ClOrdID, 11)."""
    target_client_order_id: str | None = None
    """CANCEL and AMEND: client order id of the target order (FIX OrigClOrdID, 41)."""
    target_exchange_order_id: str | None = None
    """CANCEL and AMEND: venue order id of the target order (FIX OrderID, 37)."""
    order: StandardOrder
    """SUBMIT: the order. CANCEL: the target order as the log has it. AMEND: the new terms, with the total quantity."""
    new_order: bool | None = None
    """AMEND: true if the request replaces the target by a new venue order under this client order id."""
    keeps_cum_qty: bool | None = None
    """AMEND with `new_order`: true if the new order's quantity and CumQty include what the target filled."""
    generation: Counter
    """Generation of the intent that the request is for."""
    epoch: Counter
    """Epoch of the leader."""
    stamp_ns: InstantNs
    """Timestamp in the request."""
    send_by_ns: InstantNs
    """The request is not written to the connection after this instant."""
    valid_until_ns: InstantNs | None = None
    """The venue refuses the request after this instant; absent if the venue has no validity window."""
    absent_after_ns: InstantNs | None = None
    """valid_until + clock skew + read lag: a status query begun from then on can prove absence; absent if none can."""
    state_position: Counter
    """Log position of the state that the decision was made on."""
    decided_at_ns: InstantNs
    """When the decision was made."""


LOCAL_REJECTION_V1 = "it does not fit the market: "
"""Prefix of the text of a local rejection in schema version 1, which had no field for it."""


def with_local_rejection(payload: dict[str, Any]) -> dict[str, Any]:
    """Upcast version 1 to 2: mark a rejection by the kernel itself in a field."""
    local = payload.get("outcome") == AttemptOutcome.REJECTED and payload.get("text", "").startswith(LOCAL_REJECTION_V1)
    return {**payload, "locally_rejected": True} if local else payload


class AttemptFailed(BaseEvent):
    """The venue rejected the request, the kernel rejected it locally, or it was not sent."""

    schema_version = 2
    upcasters: ClassVar[Mapping[int, Upcaster]] = {1: with_local_rejection}
    intent_id: IntentId
    """The intent."""
    attempt_position: Counter
    """Log position of the `AttemptStarted` that this answers."""
    outcome: AttemptOutcome
    """REJECTED (the venue or the kernel rejected it) or DEAD (it was not sent)."""
    text: str = ""
    """Message of the venue or of the kernel."""
    code: str | None = None
    """Error code of the venue."""
    retry_at_ns: InstantNs | None = None
    """When to try again; absent if the intent's generation has failed."""
    failures: Counter = 0
    """Failures in a row, including this one."""
    locally_rejected: bool | None = None
    """True if the kernel rejected the order by the symbol's constraints: nothing was sent."""


class AttemptUnknown(BaseEvent):
    """The call ended without an answer that resolves the attempt."""

    intent_id: IntentId
    """The intent."""
    attempt_position: Counter
    """Log position of the `AttemptStarted` that this answers."""
    text: str = ""
    """Description of the failure that took the place of an answer."""
    code: str | None = None
    """Error code of the venue, if it gave one (duplicate id, unknown order)."""
    duplicate: bool = False
    """The venue refused the client order id as a duplicate: an order under that id exists or existed."""


class AttemptResolved(BaseEvent):
    """The outcome of an unknown attempt, proven by evidence or stated by an operator."""

    intent_id: IntentId
    """The intent."""
    attempt_position: Counter
    """Log position of the `AttemptStarted`; resolves every earlier send of the same client order id too."""
    outcome: AttemptOutcome
    """ACCEPTED, REJECTED or DEAD."""
    text: str = ""
    """The evidence."""
    began_ns: InstantNs | None = None
    """When the status query that resolved it began; by the venue's time, if the host's clock was known to be ahead."""
