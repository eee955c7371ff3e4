"""Draw an order history as one HTML page with inline SVG, without scripts or external resources.

Called by `orderctl history ID --picture FILE`. Time runs downwards on a logarithmic scale, so that microseconds and hours
fit on one page. Each event has a row in the lane of its source (strategy, kernel, venue). Attempts are bars from send to
resolution; fills are dots sized by quantity. Texts are escaped and truncated to their lane; a row's title has it in full.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterator, Sequence
from enum import StrEnum
from html import escape
from importlib.resources import files
from pathlib import Path

import msgspec

from kernel import events
from kernel.clock import NS_PER_S
from kernel.errors import NotFoundError, ValidationError
from kernel.models import AttemptKind, AttemptOutcome
from replay.formatting.events import order_terms
from replay.formatting.output import escaped, utc
from replay.histories.order_history import AttemptSpan, History, Part, Step
from replay.histories.order_history_text import length_of, message, order_summary_text
from replay.log_access.atomic_files import write_whole

STYLE = files("replay.histories") / "timeline.css"
CHAR_W = 7.3
"""Maximum width of a character."""
ROW_H = 40.0
"""Height of a row of two lines, and distance of two rows with the same timestamp."""
LINE_H = 15.0
GAP_H = 11.0
"""Growth of the distance with each power of ten of the time between two rows, from `GAP_FROM_NS` on."""
GAP_FROM_NS = 10_000
TIMED_FROM_NS = 1_000
"""Pauses of at least this length are labeled."""
BREAK_NS = 60 * NS_PER_S
"""Pauses of at least this length are drawn as a break in the axis."""
MARGIN = 20.0
TIME_W = 220.0
LANE_W = 420.0
SUMMARY_W = 240.0
BAR_W = 12.0
BAR_GAP = 6.0
DOT_R = 5.0
FILL_R = (5.0, 10.0)
"""Radius of the smallest and the largest fill."""


class Lane(StrEnum):
    """The source of an event."""

    STRATEGY = "strategy"
    KERNEL = "kernel"
    VENUE = "venue"


class Row(msgspec.Struct, frozen=True):
    """An event and its place."""

    step: Step
    lane: Lane
    y: float


class Bar(msgspec.Struct, frozen=True):
    """An attempt and its place."""

    span: AttemptSpan
    column: int
    top: float
    bottom: float
    unknown: float | None
    """Where its outcome became unknown."""


class Layout(msgspec.Struct, frozen=True):
    """The places of all rows and bars."""

    rows: tuple[Row, ...]
    bars: tuple[Bar, ...]
    columns: int
    """Number of parallel bars."""
    height: float

    @property
    def bars_x(self) -> float:
        return MARGIN + TIME_W + 2 * LANE_W

    def lane_x(self, lane: Lane) -> float:
        if lane is Lane.STRATEGY:
            return MARGIN + TIME_W
        if lane is Lane.KERNEL:
            return MARGIN + TIME_W + LANE_W
        return self.bars_x + self.columns * (BAR_W + BAR_GAP) + 2 * BAR_GAP

    @property
    def summary_x(self) -> float:
        return self.lane_x(Lane.VENUE) + LANE_W

    @property
    def width(self) -> float:
        return self.summary_x + SUMMARY_W + MARGIN


def write(history: History, path: str) -> None:
    """Write the page to a file atomically.

    Raises `NotFoundError` without its directory, and `ValidationError` if its name does not end in `.html`: a typing
    error must not overwrite a log.
    """
    target = Path(path)
    if target.suffix != ".html":
        raise ValidationError(f"picture file {path} does not end in .html: give it a name such as history.html")
    if not target.absolute().parent.is_dir():
        raise NotFoundError(f"directory {target.parent} does not exist: create it first")
    write_whole(target, page(history))


def layout(history: History) -> Layout:
    rows: list[Row] = []
    y = ROW_H / 2
    for step in history.steps:
        y += 0.0 if step.since_ns is None else ROW_H + GAP_H * math.log10(1 + step.since_ns / GAP_FROM_NS)
        rows.append(Row(step, lane_of(step.event), y))
    height = math.ceil(y + ROW_H)
    at = {row.step.event.position: row.y for row in rows}
    bars = tuple(placed(history.attempts, at, height))
    return Layout(tuple(rows), bars, max((bar.column + 1 for bar in bars), default=0), height)


def lane_of(event: events.BaseEvent) -> Lane:
    if isinstance(event, events.OrderReport | events.VenueSnapshotTaken):
        return Lane.VENUE
    return Lane.STRATEGY if event.actor.startswith(("strategy", "operator")) else Lane.KERNEL


def placed(attempts: Sequence[AttemptSpan], at: dict[int, float], height: float) -> Iterator[Bar]:
    """Place every attempt in the first free column; an unresolved one extends to the end."""
    free_from: list[float] = []
    for span in attempts:
        top, bottom = at[span.position], height if span.resolved_position is None else at[span.resolved_position]
        column = next((index for index, free in enumerate(free_from) if free < top), len(free_from))
        free_from[column : column + 1] = [bottom]
        yield Bar(span, column, top, bottom, None if span.unknown_position is None else at[span.unknown_position])


def page(history: History) -> str:
    found = layout(history)
    title = html(f"History of intent {history.intent_id}")
    about, style = html(summary(history)), STYLE.read_text(encoding="utf-8")
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<h1>{title}</h1>
<p>{about}</p>
<p class="key">Time runs downwards on a logarithmic scale. Bars are requests to the venue, from the send to the resolution
(green: accepted, red: rejected or dead); a dashed bar has an unknown outcome. Green dots are fills, sized by quantity.
Hollow marks are inferred. Squares are events of other streams.</p>
{picture(history, found)}
</body>
</html>
"""


def summary(history: History) -> str:
    own = sum(step.part is Part.INTENT for step in history.steps)
    last = next((step.summary for step in reversed(history.steps) if step.summary is not None), None)
    outcome = order_summary_text(history, last) if last is not None else "nothing sent"
    return (
        f"Events of the intent: {own}, of other streams: {len(history.steps) - own}; requests: {len(history.attempts)}; "
        f"order: {outcome}. Log {history.log_id} of {history.exchange_id}, as of position {history.position}."
    )


def picture(history: History, found: Layout) -> str:
    """Return the column heads and the SVG drawing."""
    size = f'width="{found.width:.0f}" height="{found.height:.0f}" viewBox="0 0 {found.width:.0f} {found.height:.0f}"'
    parts = (*frame(found), *gaps(found), *(bar_mark(bar, found) for bar in found.bars), *rows_text(history, found))
    return (
        f"{heads(found)}\n"
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-labelledby="title" {size}>\n'
        f'<title id="title">{html(f"Timeline of intent {history.intent_id}: {summary(history)}")}</title>\n'
        + "\n".join(parts)
        + "\n</svg>"
    )


def heads(found: Layout) -> str:
    places = [(MARGIN, "time (UTC)"), *((found.lane_x(lane), lane.value) for lane in Lane)]
    places += [(found.bars_x, "sent" if found.columns else ""), (found.summary_x, "order after it")]
    names = "".join(f'<span style="left:{x:.0f}px">{name}</span>' for x, name in places if name)
    return f'<div class="heads" style="width:{found.width:.0f}px">{names}</div>'


def frame(found: Layout) -> Iterator[str]:
    for lane in Lane:
        x = found.lane_x(lane)
        yield rect(f"lane {lane.value}", x - 8, 0, LANE_W - 8, found.height)
        yield line("axis", x + DOT_R, 0, x + DOT_R, found.height)


def gaps(found: Layout) -> Iterator[str]:
    """Label long pauses; draw a break for very long ones."""
    for before, row in zip(found.rows, found.rows[1:], strict=False):
        since_ns = row.step.since_ns or 0
        middle = (before.y + row.y) / 2
        if since_ns >= TIMED_FROM_NS:
            yield text("gap", MARGIN, middle + 4, "+" + length_of(since_ns), TIME_W)
        if since_ns >= BREAK_NS:
            yield f'<path class="break" d="{zigzag(MARGIN + TIME_W - 12, found.summary_x - 16, middle)}"/>'


def zigzag(begin: float, end: float, y: float) -> str:
    count = int((end - begin) // 8)
    points = (f"{begin + 8 * index:.1f} {y + (3 if index % 2 else -3):.1f}" for index in range(count + 1))
    return "M" + " L".join(points)


def bar_mark(bar: Bar, found: Layout) -> str:
    """Draw an attempt, with its resolution as title."""
    x = found.bars_x + bar.column * (BAR_W + BAR_GAP)
    span, outcome = bar.span, outcome_of(bar.span)
    heading = f"{span.kind} number {span.number} as {span.client_order_id}, sent at {span.position}: {outcome.lower()}"
    if span.resolved_position is not None:
        heading += f", resolved at position {span.resolved_position}"
    known_to = bar.bottom if bar.unknown is None else bar.unknown
    parts = [rect(f"bar {outcome.lower()}", x, bar.top, BAR_W, known_to - bar.top)]
    if bar.unknown is not None:
        parts.append(rect("bar unresolved", x, bar.unknown, BAR_W, bar.bottom - bar.unknown))
    return f"<g><title>{html(heading)}</title>{''.join(parts)}</g>"


def outcome_of(span: AttemptSpan) -> str:
    if span.outcome is None:
        return "RESOLVED"
    return "OPEN" if span.outcome is AttemptOutcome.PENDING else str(span.outcome)


def rows_text(history: History, found: Layout) -> Iterator[str]:
    """Draw a row for each event: time, mark, text and the order's state."""
    largest = max((row.step.event.last_qty for row in found.rows if isinstance(row.step.event, FILLS)), default=0)
    day = ""
    for row in found.rows:
        when = utc(row.step.event.recorded_at_ns)
        shown, day = when if when[:10] != day else when[11:], when[:10]
        yield row_text(history, found, row, time=shown, largest=largest)


FILLS = (events.OrderFilled, events.FillCorrected)


def row_text(history: History, found: Layout, row: Row, *, time: str, largest: int) -> str:
    step, x = row.step, found.lane_x(row.lane)
    name = step.event.topic if step.part is Part.INTENT else f"{step.event.topic} ({step.part.lower()})"
    words_x, words_w = x + 2 * DOT_R + 10, LANE_W - 2 * DOT_R - 30
    parts = [
        text("time", MARGIN, row.y + 4, time, TIME_W),
        mark(step, x + DOT_R, row.y, largest=largest),
        text(f"name {step.part.lower()}", words_x, row.y + 4, name, words_w),
        text(step.part.lower(), words_x, row.y + 4 + LINE_H, brief(history, step), words_w),
    ]
    if step.summary is not None:
        status, _, amounts = order_summary_text(history, step.summary).partition(", ")
        parts.append(text("came-to", found.summary_x, row.y + 4, status, SUMMARY_W))
        parts.append(text("came-to", found.summary_x, row.y + 4 + LINE_H, amounts, SUMMARY_W))
    return f"<g><title>{title_of(history, step, name)}</title>{''.join(parts)}</g>"


def brief(history: History, step: Step) -> str:
    event = step.event
    if not isinstance(event, events.AttemptStarted):
        return message(history, step)
    terms = order_terms(msgspec.to_builtins(event.order), history.scales)
    return f"{event.kind} number {event.number}" + (f", {terms}" if event.kind is not AttemptKind.CANCEL else "")


def title_of(history: History, step: Step, name: str) -> str:
    """Return all details of an event, for tooltips and screen readers."""
    event = step.event
    heading = [
        f"position {event.position}, {utc(event.recorded_at_ns)}",
        f"{name}: {message(history, step)}",
        f"by {event.actor}, evidence {event.evidence}" + (", inferred" if step.inferred else ""),
    ]
    if step.venue_time_ns:
        heading.append(f"venue time: {utc(step.venue_time_ns)}")
    if event.causation_position is not None:
        heading.append(f"caused by position {event.causation_position}")
    if step.summary is not None:
        heading.append(f"order after it: {order_summary_text(history, step.summary)}")
    return "\n".join(map(html, heading))


def mark(step: Step, x: float, y: float, *, largest: int) -> str:
    """Draw an event's mark: a dot, sized by quantity for a fill; hollow if inferred; a square for other streams."""
    hollow = " hollow" if step.inferred else ""
    if step.part is not Part.INTENT:
        return rect(f"beside{hollow}", x - 4, y - 4, 8, 8)
    event = step.event
    if isinstance(event, FILLS):
        radius = FILL_R[0] + (FILL_R[1] - FILL_R[0]) * math.sqrt(event.last_qty / max(1, largest))
        return f'<circle class="fill{hollow}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}"/>'
    return f'<circle class="dot{hollow}" cx="{x:.1f}" cy="{y:.1f}" r="{DOT_R:.1f}"/>'


def rect(name: str, x: float, y: float, width: float, height: float) -> str:
    return f'<rect class="{name}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"/>'


def line(name: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{name}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def text(name: str, x: float, y: float, words: str, width: float) -> str:
    """Draw a text, truncated to its column."""
    return f'<text class="{name}" x="{x:.1f}" y="{y:.1f}">{escape(fitting(words, width))}</text>'


def fitting(words: str, width: float) -> str:
    """Truncate a text with `…`. Wide characters count twice."""
    words, columns = escaped(words), int(width / CHAR_W)
    for index, char in enumerate(words):
        columns -= 2 if unicodedata.east_asian_width(char) in "WF" else 1
        if columns < (0 if index == len(words) - 1 else 1):
            return words[:index] + "…"
    return words


def html(words: str) -> str:
    return escape(escaped(words))
