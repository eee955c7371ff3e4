"""The drawing of a history: everything is inside the frame, nothing overlaps, and texts are escaped."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest

from kernel.clock import NS_PER_S
from kernel.errors import NotFoundError, ValidationError
from kernel.events import BaseEvent, FindingRaised, IntentCreated, OrderFilled
from kernel.log.backends.memory import MemoryRecorder
from kernel.models import AttemptKind, Evidence, ExecType, Finding, FindingKind
from kernel.order_spec import Side
from projections.folds.reference import Reference
from replay.formatting.decimals import Scales
from replay.histories.order_history import AttemptSpan, History, Part, Step
from replay.histories.order_history import history as read_history
from replay.histories.timeline_html import BAR_W, LANE_W, ROW_H, Lane, fitting, layout, page, write
from tests.envelopes import envelope_by, with_envelope
from tests.folding import an_attempt, an_intent, an_order
from tests.recorded import intents_in, log_of, simulated

CHAR_W = 7.23
"""Width of a character of a monospaced font at 12 px, rounded up."""
HOSTILE = "</title></svg><script>alert('x')</script>\x1b[2J\u202e\" onload=\"x" + "wide 漢字 " * 20
Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""


@pytest.fixture(params=(4, 15))
def recorded(request: pytest.FixtureRequest) -> MemoryRecorder:
    """The rows of a simulated run."""
    return simulated(request.param)


def histories(recorded: MemoryRecorder) -> list[History]:
    """The history of every intent of a run."""

    async def read() -> list[History]:
        async with log_of(recorded, page_rows=100) as log:
            return [await read_history(log, intent_id) for intent_id in intents_in(recorded)]

    return asyncio.run(read())


def history_of(*events: BaseEvent, at_ns: tuple[int, ...], attempts: tuple[AttemptSpan, ...] = ()) -> History:
    """A history of these events, recorded at these times."""
    steps, before_ns = [], None
    for position, (event, now_ns) in enumerate(zip(events, at_ns, strict=True), start=1):
        envelope = envelope_by(position, "intent:i", position, now_ns, "venue:paper", Evidence.STREAM)
        since_ns = None if before_ns is None else now_ns - before_ns
        steps.append(Step(event=with_envelope(event, envelope), part=Part.INTENT, since_ns=since_ns, inferred=False))
        before_ns = now_ns
    reference = Reference()
    return History(
        intent_id="i", exchange_id="paper", log_id="0" * 16, position=len(steps), steps=tuple(steps), symbol_id="S",
        attempts=attempts, scales=Scales(reference.symbol, reference.asset),
    )  # fmt: skip


def a_finding(text: str = "something") -> FindingRaised:
    """A finding with a text."""
    return FindingRaised(finding=Finding(finding_id="f", kind=FindingKind.OVERFILL, text=text, intent_id="i"))


def drawing(text: str) -> ElementTree.Element:
    """The SVG of a page, which is well-formed."""
    found = re.search(r"<svg.*</svg>", text, re.DOTALL)
    assert found is not None
    return ElementTree.fromstring(re.sub(r' xmlns="[^"]*"', "", found[0]))


def boxes(root: ElementTree.Element, tag: str) -> Iterator[Box]:
    """The bounding box of each element of a kind."""
    for item in root.iter(tag):
        if tag == "text":
            x, y, words = float(item.attrib["x"]), float(item.attrib["y"]), item.text or ""
            width = sum(2 if ord(char) > 0x2E80 else 1 for char in words) * CHAR_W
            yield (x, y - 10, x + width, y + 3)
        elif tag == "circle":
            x, y, r = (float(item.attrib[name]) for name in ("cx", "cy", "r"))
            yield (x - r, y - r, x + r, y + r)
        elif "lane" not in item.attrib["class"].split():
            x, y, width, height = (float(item.attrib[name]) for name in ("x", "y", "width", "height"))
            yield (x, y, x + width, y + height)


def overlap(one: Box, other: Box) -> bool:
    """Whether two boxes overlap."""
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def check_geometry(history: History) -> None:
    """Check that every element is inside the frame, and that no text, dot or bar covers another."""
    root = drawing(page(history))
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    words, dots, rects = (list(boxes(root, tag)) for tag in ("text", "circle", "rect"))
    for left, top, right, bottom in (*words, *dots, *rects):
        assert 0 <= left <= right <= width
        assert 0 <= top <= bottom <= height
    around = sorted((*words, *dots, *rects), key=lambda box: box[1])
    for place, box in enumerate(around):
        for other in around[place + 1 :]:
            if other[1] >= box[3]:
                break
            assert not (overlap(box, other) and not are_one_attempt(box, other)), (box, other)


def are_one_attempt(one: Box, other: Box) -> bool:
    """Whether two adjacent bars are the known and the unknown part of one attempt."""
    return one[0] == other[0] and one[2] == other[2] and one[2] - one[0] == pytest.approx(BAR_W)


def test_nothing_leaves_the_frame_or_overlaps(recorded: MemoryRecorder) -> None:
    """In every history of a run, rows, lanes, bars and texts have their own space."""
    for history in histories(recorded):
        check_geometry(history)


def test_every_event_is_drawn_in_order_with_a_title(recorded: MemoryRecorder) -> None:
    """Each step has a row below the previous one, with a title that describes it."""
    for history in histories(recorded):
        rows = layout(history).rows
        assert [row.step for row in rows] == list(history.steps)
        assert all(later.y - earlier.y > ROW_H - 0.01 for earlier, later in pairwise(rows))
        root = drawing(page(history))
        titles = [item.findtext("title") or "" for item in root.iter("g")]
        assert len(titles) == len(history.steps) + len(history.attempts)
        assert all(any(f"position {step.event.position}," in title for title in titles) for step in history.steps)
        assert history.intent_id in (root.findtext("title") or "")


def test_parallel_attempts_have_their_own_columns(recorded: MemoryRecorder) -> None:
    """Two simultaneous attempts are in two columns; each lasts from its send to its resolution."""
    for history in histories(recorded):
        found = layout(history)
        at = {row.step.event.position: row.y for row in found.rows}
        for bar in found.bars:
            assert bar.top == at[bar.span.position]
            assert bar.bottom == (at[bar.span.resolved_position] if bar.span.resolved_position else found.height)
        for one, other in ((one, other) for one in found.bars for other in found.bars if one is not other):
            assert one.column != other.column or one.bottom < other.top or other.bottom < one.top


def test_a_longer_pause_is_a_larger_step_from_microseconds_to_days() -> None:
    """Distances grow with the pause, stay on one page, and are labeled with its length."""
    pauses_ns = (0, 2_000, 500_000, 40_000_000, 3 * NS_PER_S, 7_200 * NS_PER_S, 86_400 * 30 * NS_PER_S)
    instants = tuple(10**18 + sum(pauses_ns[: place + 1]) for place in range(len(pauses_ns)))
    history = history_of(*(a_finding() for _ in instants), at_ns=instants)
    check_geometry(history)

    rows = layout(history).rows
    steps = [later.y - earlier.y for earlier, later in pairwise(rows)]
    assert steps == sorted(set(steps))
    assert steps[-1] < 5 * ROW_H
    text = page(history)
    assert all(f">+{words}<" in text for words in ("2 µs", "500 µs", "40 ms", "3 s", "120m", "30d"))


def test_a_fill_is_sized_by_its_quantity() -> None:
    """The dots of two fills differ in size as their quantities do, and the quantity is written beside them."""
    fills = [
        OrderFilled(
            intent_id="i", symbol_id="S", exec_type=ExecType.TRADE, side=Side.BUY, fill_key=f"t{lots}", last_qty=lots,
            last_px=10,
        )
        for lots in (1, 100)
    ]  # fmt: skip
    root = drawing(page(history_of(*fills, at_ns=(1, 2))))

    small, large = (float(item.attrib["r"]) for item in root.iter("circle") if item.attrib["class"] == "fill")
    assert small < large
    assert [item.text for item in root.iter("text") if (item.text or "").startswith("BUY 100 S at 10")]


def test_texts_are_escaped() -> None:
    """Markup, control characters and quotes of a venue are shown as text, truncated to the lane, complete in the title."""
    history = history_of(a_finding(HOSTILE), at_ns=(1,))
    text = page(history)
    check_geometry(history)

    assert "<script" not in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    (group,) = drawing(text).iter("g")
    assert "</title></svg><script>alert('x')</script>\\x1b[2J\\u202e" in (group.findtext("title") or "")


def test_the_page_needs_no_network(recorded: MemoryRecorder) -> None:
    """The page has no script, no address but the SVG namespace, and a policy that forbids others."""
    text = page(histories(recorded)[0])

    assert "default-src 'none'" in text
    assert re.findall(r"(?:https?:)?//[\w.]+", text) == ["http://www.w3.org"]
    assert not re.search(r"<(script|link|img|iframe|object)|url\(|@import|\bon\w+=", text)


def test_an_unresolved_attempt_extends_to_the_end() -> None:
    """An unresolved attempt has no end in the drawing, and an unknown outcome is marked."""
    order = an_order()
    attempts = (
        AttemptSpan(position=2, number=1, kind=AttemptKind.SUBMIT, client_order_id="c1"),
        AttemptSpan(position=3, number=1, kind=AttemptKind.SUBMIT, client_order_id="c1"),
    )
    sends = [an_attempt(AttemptKind.SUBMIT, "c1", order) for _ in attempts]
    history = history_of(IntentCreated(intent=an_intent(order)), *sends, at_ns=(1, 2, 3), attempts=attempts)
    check_geometry(history)

    found = layout(history)
    assert [(bar.column, bar.bottom) for bar in found.bars] == [(0, found.height), (1, found.height)]
    assert found.lane_x(Lane.VENUE) - found.lane_x(Lane.KERNEL) > LANE_W + 2 * BAR_W
    assert "SUBMIT number 1 as c1, sent at 2: open" in page(history)


@pytest.mark.parametrize(
    ("words", "shown"), [("abcde", "abcde"), ("abcdef", "abcd…"), ("漢字漢", "漢字…"), ("漢字a", "漢字a"), ("", "")]
)
def test_texts_are_truncated_to_their_lane(words: str, shown: str) -> None:
    """A text that fits is complete; otherwise it ends with an ellipsis. Wide characters count twice."""
    assert fitting(words, 5 * 7.3 + 1) == shown


def test_a_page_is_written_whole(tmp_path: Path) -> None:
    """The file is written atomically; a missing directory and a name without `.html` are errors."""
    history = history_of(a_finding(), at_ns=(1,))
    write(history, str(tmp_path / "history.html"))

    assert [item.name for item in tmp_path.iterdir()] == ["history.html"]
    assert (tmp_path / "history.html").read_text(encoding="utf-8") == page(history)
    with pytest.raises(NotFoundError, match="nowhere does not exist"):
        write(history, str(tmp_path / "nowhere" / "history.html"))
    with pytest.raises(ValidationError, match=r"kernel\.db does not end in \.html"):
        write(history, str(tmp_path / "kernel.db"))
