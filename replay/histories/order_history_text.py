"""Format a history as a table for people or as data for programs, with decimal prices and quantities."""

from __future__ import annotations

from typing import Any

import msgspec

from kernel.clock import NS_PER_MS, NS_PER_S
from replay.formatting.events import event_sentence
from replay.formatting.output import Format, Item, Listing, human_duration, json_text, render, utc, yaml_text
from replay.histories.order_history import History, OrderSummary, Part, Step

COLUMNS = ("POSITION", "TIME", "SINCE", "TYPE", "ACTOR", "CAUSE", "EVIDENCE", "STATE", "MESSAGE",
           "VENUE-TIME", "ATTEMPT", "COMMAND", "CORRELATION")  # fmt: skip
NARROW = 9
MESSAGE = COLUMNS.index("MESSAGE")
NS_PER_US = 1_000


def text(history: History, form: Format, *, raw: bool = False) -> str:
    """Format a history; with `raw` also the venue's raw messages."""
    if form in (Format.JSON, Format.YAML):
        whole = document(history, raw=raw)
        return json_text(whole) if form is Format.JSON else yaml_text(whole)
    return render(listing(history, raw=raw), form)


def listing(history: History, *, raw: bool = False) -> Listing:
    """Return a line for each step and, with `raw`, one for the venue's raw message."""
    items = tuple(
        Item(str(step.event.position), step_data(history, step, raw=raw), tuple(lines(history, step, raw=raw)))
        for step in history.steps
    )
    return Listing("event", COLUMNS, NARROW, items)


def lines(history: History, step: Step, *, raw: bool) -> list[tuple[str, ...]]:
    event = step.event
    row_cells = (
        str(event.position),
        utc(event.recorded_at_ns),
        "-" if step.since_ns is None else "+" + length_of(step.since_ns),
        event.topic if step.part is Part.INTENT else f"{event.topic} ({step.part.lower()})",
        event.actor,
        cause_text(step),
        f"{event.evidence}, inferred" if step.inferred and event.evidence != "INFERRED" else event.evidence,
        order_summary_text(history, step.summary),
        message(history, step),
        utc(step.venue_time_ns) if step.venue_time_ns else "-",
        *("-" if value is None else str(value) for value in (step.attempt_position, step.command_position)),
        event.correlation_id or "-",
    )
    frame = getattr(event, "raw", None) if raw else None
    return [row_cells] if frame is None else [row_cells, ("",) * MESSAGE + (f"raw: {frame}",)]


def cause_text(step: Step) -> str:
    """Return the recorded cause of a step, else the attempt that it concerns in brackets."""
    if step.event.causation_position is not None:
        return str(step.event.causation_position)
    own_attempt = step.attempt_position in (None, step.event.position)
    return "-" if own_attempt else f"({step.attempt_position})"


def order_summary_text(history: History, found: OrderSummary | None) -> str:
    if found is None:
        return "-"
    filled, left = (
        history.scales.quantity(history.symbol_id or "", item) for item in (found.cum_qty, found.leaves_qty)
    )
    return f"{found.ord_status}, filled {filled}, open {left}"


def message(history: History, step: Step) -> str:
    # An event of the kernel is about the whole account unless it names a symbol itself.
    symbol_id = None if step.part is Part.KERNEL else history.symbol_id
    return event_sentence(step.event, history.scales, symbol_id=symbol_id)


def length_of(span_ns: int) -> str:
    """Format a duration with a suitable unit, from nanoseconds to years."""
    for unit_ns, unit in ((1, "ns"), (NS_PER_US, "µs"), (NS_PER_MS, "ms")):
        if span_ns < 1_000 * unit_ns:
            return f"{span_ns / unit_ns:.4g} {unit}"
    return f"{span_ns / NS_PER_S:.4g} s" if span_ns < 120 * NS_PER_S else human_duration(span_ns // NS_PER_S)


def document(history: History, *, raw: bool = False) -> dict[str, Any]:
    return {
        "intent_id": history.intent_id,
        "exchange_id": history.exchange_id,
        "log_id": history.log_id,
        "position": history.position,
        "attempts": msgspec.to_builtins(history.attempts),
        "steps": [step_data(history, step, raw=raw) for step in history.steps],
    }


def step_data(history: History, step: Step, *, raw: bool) -> dict[str, Any]:
    event = step.event
    payload = msgspec.to_builtins(event)
    if not raw:
        payload.pop("raw", None)
    return {
        "position": event.position,
        "part": step.part.value,
        "topic": event.topic,
        "recorded_at_ns": event.recorded_at_ns,
        "since_ns": step.since_ns,
        "transact_time_ns": step.venue_time_ns,
        "actor": event.actor,
        "evidence": event.evidence.value,
        "inferred": step.inferred,
        "causation_position": event.causation_position,
        "attempt_position": step.attempt_position,
        "command_position": step.command_position,
        "correlation_id": event.correlation_id,
        "came_to": history.scales.data(msgspec.to_builtins(step.summary), history.symbol_id),
        "message": message(history, step),
        "event": history.scales.data(payload, history.symbol_id),
    }
