"""The lines of a transcript: each event's topic and relevant fields, with short names for ids.

Used by the runner. Client order ids become c1, c2, … after their numbers (another intent's: `b2.c1`); instants become
seconds since the transcript began.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from kernel import events
from kernel.clock import NS_PER_S
from kernel.lifecycle.remediation import TO_DO
from kernel.log.base import StoredRow
from kernel.log.engine.records import event_of
from kernel.models import AttemptKind, LookScope
from replay.testing.scripted_exchange import terms_of

UNTOLD = (
    events.KernelStarted,
    events.SymbolObserved,
    events.AssetObserved,
    events.BalancesObserved,
    events.LogCreated,
)
"""Events of every transcript, left out."""


class Names:
    """Short names for client order ids, in order of appearance."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._positions: dict[int, str] = {}

    def __call__(self, client_order_id: str) -> str:
        """Return the short name of an id; the id itself if it has none."""
        return self._names.get(client_order_id, client_order_id)

    def introduce(self, event: events.AttemptStarted) -> None:
        """Name the id of an attempt."""
        self._positions[event.position] = event.client_order_id
        short = f"c{event.number}"
        taken = {name for known, name in self._names.items() if known != event.client_order_id}
        self._names.setdefault(event.client_order_id, f"{event.intent_id}.{short}" if short in taken else short)

    def attempt(self, position: int) -> str:
        """The name of the attempt at a position."""
        return self(self._positions.get(position, f"the attempt at {position}"))

    def in_text(self, text: str) -> str:
        """A text with every id in it by its short name."""
        return re.sub(r"\b[a-z2-7]{12,26}\b", lambda match: self(match.group()), text)


class Narrator:
    """Events as lines."""

    def __init__(self, names: Names, since_ns: Callable[[], int]) -> None:
        self.names = names
        self._since_ns = since_ns

    def seconds(self, instant_ns: int | None) -> str:
        """An instant as seconds since the beginning."""
        return "never" if instant_ns is None else f"{(instant_ns - self._since_ns()) / NS_PER_S:g}s"

    def line(self, row: StoredRow) -> str | None:
        """A row of the log as one line; None for what is not worth one."""
        event = event_of(row)
        if isinstance(event, events.AttemptStarted):
            self.names.introduce(event)
        if isinstance(event, UNTOLD):
            return None
        if row.stream_id == events.VENUE_STREAM and isinstance(event, events.FindingRaised | events.FindingResolved):
            return None
        where = row.stream_id.removeprefix(events.INTENT_STREAM_PREFIX)
        where = f"{where} " if row.stream_id.startswith(events.INTENT_STREAM_PREFIX) else ""
        return f"{where}{event.topic} {self.details(event)}".rstrip()

    def details(self, event: events.BaseEvent) -> str:
        """The telling fields of an event."""
        match event:
            case events.OrderReport():
                return self.report(event)
            case events.AttemptStarted() | events.AttemptFailed() | events.AttemptUnknown() | events.AttemptResolved():
                return self.attempt(event)
            case events.IntentCreated(intent=intent) | events.IntentModified(intent=intent):
                return f"{terms_of(intent.order)} generation {intent.generation} {intent.desired}"
            case events.IntentCancelRequested(generation=generation):
                return f"generation {generation}"
            case events.VenueSnapshotTaken():
                return self.look(event)
            case events.FindingRaised(finding=finding):
                return f"{finding.kind}: {self.names.in_text(finding.text.partition(TO_DO)[0])}"
            case events.FindingResolved(finding_id=finding_id, text=text):
                return f"{finding_id}: {text}"
            case events.LeaderElected(epoch=epoch) | events.KernelStopped(epoch=epoch):
                return f"epoch {epoch}"
            case events.ExternalOrderObserved():
                return f"{event.exchange_order_id} {event.exec_type}"
        return ""

    def report(self, event: events.OrderReport) -> str:
        """A venue's report."""
        which = event.exchange_order_id or self.names(event.client_order_id or "?")
        parts = [which]
        match event:
            case events.OrderFilled() | events.FillCorrected():
                parts.append(f"{event.fill_key} {event.last_qty} @{event.last_px}")
            case events.FillBusted():
                parts.append(f"{event.ref_fill_key}")
            case events.FillInferred():
                parts.append(f"{event.inferred_qty}")
            case events.OrderStateObserved(gone=True):
                parts.append("gone" if event.ord_status is None else f"gone, {event.ord_status} cum {event.cum_qty}")
            case events.OrderStateObserved(in_doubt=True):
                parts.append("in doubt")
            case events.OrderStateObserved() | events.OrderCanceled() | events.OrderExpired():
                parts.append(f"{event.ord_status} cum {'?' if event.cum_qty is None else event.cum_qty}")
            case events.OrderAccepted() | events.OrderRejected():
                parts.append(self.names(event.client_order_id or "?"))
        return " ".join(parts) + f" ({event.evidence})"

    def attempt(self, event: events.BaseEvent) -> str:
        """The line of an attempt event."""
        match event:
            case events.AttemptStarted(kind=AttemptKind.CANCEL):
                target = event.target_exchange_order_id or self.names(event.target_client_order_id or "?")
                return f"CANCEL {self.names(event.client_order_id)} of {target}, epoch {event.epoch}"
            case events.AttemptStarted():
                until = self.seconds(event.absent_after_ns)
                terms = f"{event.kind} {self.names(event.client_order_id)} {terms_of(event.order)}"
                return f"{terms}, epoch {event.epoch}, absent after {until}"
            case events.AttemptFailed():
                again = "for good" if event.retry_at_ns is None else f"again from {self.seconds(event.retry_at_ns)}"
                return f"{self.answered(event.attempt_position)} {event.outcome}: {event.text}; {again}"
            case events.AttemptUnknown():
                return f"{self.answered(event.attempt_position)}: {self.names.in_text(event.text)}"
            case events.AttemptResolved():
                return f"{self.answered(event.attempt_position)} {event.outcome}: {event.text} ({event.evidence})"
        raise AssertionError(event.topic)

    def answered(self, position: int) -> str:
        """The attempt that an outcome answers."""
        return self.names.attempt(position)

    def look(self, event: events.VenueSnapshotTaken) -> str:
        """The line of a status query."""
        if event.intent_id is None:
            whole = "" if event.complete else f" incomplete: {event.text}"
            cursor = f", trades known to {self.seconds(event.trades_cursor_ns)}" if event.trades_cursor_ns else ""
            return f"relist begun {self.seconds(event.began_ns)}: {event.open_orders or 0} open{cursor}{whole}"
        scope = "order" if event.scopes == (LookScope.ORDER,) else "lists"
        found = "found" if event.found else "not found"
        return f"{scope} begun {self.seconds(event.began_ns)}: {self.names(event.client_order_id or '?')} {found}"
