"""The picture of a story: everything in its frame, nothing over anything else, and nobody's text does anything."""

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
from kernel.events import BaseEvent, Envelope, FindingRaised, IntentCreated, OrderFilled
from kernel.log.backends.memory import MemoryRecorder
from kernel.models import AttemptKind, Evidence, ExecType, Finding, FindingKind
from kernel.order_spec import Side
from projections.folds.reference import Reference
from replay.formatting.decimals import Scales
from replay.histories.order_history import AttemptSpan, History, Part, Step, history
from replay.histories.timeline_html import BAR_W, LANE_W, ROW_H, Lane, fitting, layout, page, write
from tests.folding import an_attempt, an_intent, an_order
from tests.recorded import intents_in, log_of, simulated

CHAR_W = 7.23
"""Width of a character of a monospaced font at 12 px: 0.6 em and a little."""
HOSTILE = "</title></svg><script>alert('x')</script>\x1b[2J\u202e\" onload=\"x" + "wide 漢字 " * 20
Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""


@pytest.fixture(params=(4, 15))
def recorded(request: pytest.FixtureRequest) -> MemoryRecorder:
    """The rows of a simulated run."""
    return simulated(request.param)


def stories(recorded: MemoryRecorder) -> list[History]:
    """The story of every intent of a run."""

    async def read() -> list[History]:
        async with log_of(recorded, page_rows=100) as log:
            return [await history(log, intent_id) for intent_id in intents_in(recorded)]

    return asyncio.run(read())


def told(*events: BaseEvent, at_ns: tuple[int, ...], attempts: tuple[AttemptSpan, ...] = ()) -> History:
    """A story of these events, recorded at these instants."""
    steps, before_ns = [], None
    for position, (event, now_ns) in enumerate(zip(events, at_ns, strict=True), start=1):
        envelope = Envelope(position, "intent:i", position, now_ns, "venue:paper", Evidence.STREAM)
        since_ns = None if before_ns is None else now_ns - before_ns
        steps.append(Step(event=event.with_envelope(envelope), part=Part.INTENT, since_ns=since_ns, inferred=False))
        before_ns = now_ns
    reference = Reference()
    return History(
        intent_id="i", exchange_id="paper", log_id="0" * 16, position=len(steps), steps=tuple(steps), symbol_id="S",
        attempts=attempts, scales=Scales(reference.symbol, reference.asset),
    )  # fmt: skip


def a_finding(text: str = "something") -> FindingRaised:
    """A finding with a text of somebody's."""
    return FindingRaised(finding=Finding(finding_id="f", kind=FindingKind.OVERFILL, text=text, intent_id="i"))


def drawing(text: str) -> ElementTree.Element:
    """The picture in a page; it is well-formed."""
    found = re.search(r"<svg.*</svg>", text, re.DOTALL)
    assert found is not None
    return ElementTree.fromstring(re.sub(r' xmlns="[^"]*"', "", found[0]))


def boxes(root: ElementTree.Element, tag: str) -> Iterator[Box]:
    """The room that each element of a kind takes."""
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
    """Whether two rooms share some."""
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def check_geometry(story: History) -> None:
    """Every element is within the frame, and none of text, dots and bars lies over another."""
    root = drawing(page(story))
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
            assert not (overlap(box, other) and not doubt(box, other)), (box, other)


def doubt(one: Box, other: Box) -> bool:
    """Whether two bars of one attempt meet: the part that was known and the part that was not."""
    return one[0] == other[0] and one[2] == other[2] and one[2] - one[0] == pytest.approx(BAR_W)


def test_nothing_leaves_the_frame_or_lies_over_something_else(recorded: MemoryRecorder) -> None:
    """For every story of a run: rows, lanes, bars and words each have their own room."""
    for story in stories(recorded):
        check_geometry(story)


def test_every_event_is_drawn_in_order_with_a_title(recorded: MemoryRecorder) -> None:
    """A row for each step, further down than the one before, that says on pointing what it is."""
    for story in stories(recorded):
        rows = layout(story).rows
        assert [row.step for row in rows] == list(story.steps)
        assert all(later.y - earlier.y > ROW_H - 0.01 for earlier, later in pairwise(rows))
        root = drawing(page(story))
        titles = [item.findtext("title") or "" for item in root.iter("g")]
        assert len(titles) == len(story.steps) + len(story.attempts)
        assert all(any(f"position {step.event.position}," in title for title in titles) for step in story.steps)
        assert story.intent_id in (root.findtext("title") or "")


def test_bars_stand_beside_each_other(recorded: MemoryRecorder) -> None:
    """Two attempts at one time are in two columns; each lasts from its send to what settled it."""
    for story in stories(recorded):
        found = layout(story)
        at = {row.step.event.position: row.y for row in found.rows}
        for bar in found.bars:
            assert bar.top == at[bar.span.position]
            assert bar.bottom == (at[bar.span.resolved_position] if bar.span.resolved_position else found.height)
        for one, other in ((one, other) for one in found.bars for other in found.bars if one is not other):
            assert one.column != other.column or one.bottom < other.top or other.bottom < one.top


def test_a_longer_pause_is_a_larger_step_from_microseconds_to_days() -> None:
    """Steps grow with the pause, stay on one page, and each has its length beside it."""
    pauses_ns = (0, 2_000, 500_000, 40_000_000, 3 * NS_PER_S, 7_200 * NS_PER_S, 86_400 * 30 * NS_PER_S)
    instants = tuple(10**18 + sum(pauses_ns[: place + 1]) for place in range(len(pauses_ns)))
    story = told(*(a_finding() for _ in instants), at_ns=instants)
    check_geometry(story)

    rows = layout(story).rows
    steps = [later.y - earlier.y for earlier, later in pairwise(rows)]
    assert steps == sorted(set(steps))
    assert steps[-1] < 5 * ROW_H
    text = page(story)
    assert all(f">+{words}<" in text for words in ("2 µs", "500 µs", "40 ms", "3 s", "120m", "30d"))


def test_a_fill_is_as_large_as_its_quantity() -> None:
    """The dots of two fills differ in size as their quantities do, and the quantity stands beside them."""
    fills = [
        OrderFilled(
            intent_id="i", symbol_id="S", exec_type=ExecType.TRADE, side=Side.BUY, fill_key=f"t{lots}", last_qty=lots,
            last_px=10,
        )
        for lots in (1, 100)
    ]  # fmt: skip
    root = drawing(page(told(*fills, at_ns=(1, 2))))

    small, large = (float(item.attrib["r"]) for item in root.iter("circle") if item.attrib["class"] == "fill")
    assert small < large
    assert [item.text for item in root.iter("text") if (item.text or "").startswith("BUY 100 S at 10")]


def test_nobodys_text_does_anything() -> None:
    """Markup, control characters and quotes of a venue are shown as text, cut to their lane, whole in the title."""
    story = told(a_finding(HOSTILE), at_ns=(1,))
    text = page(story)
    check_geometry(story)

    assert "<script" not in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    (group,) = drawing(text).iter("g")
    assert "</title></svg><script>alert('x')</script>\\x1b[2J\\u202e" in (group.findtext("title") or "")


def test_the_page_asks_nobody_for_anything(recorded: MemoryRecorder) -> None:
    """No script, no address but the name of SVG's own language, and a policy that lets nothing else in."""
    text = page(stories(recorded)[0])

    assert "default-src 'none'" in text
    assert re.findall(r"(?:https?:)?//[\w.]+", text) == ["http://www.w3.org"]
    assert not re.search(r"<(script|link|img|iframe|object)|url\(|@import|\bon\w+=", text)


def test_an_attempt_that_is_open_goes_on_to_the_end() -> None:
    """What is not settled has no end in the picture, and what is unknown says so."""
    order = an_order()
    attempts = (
        AttemptSpan(position=2, number=1, kind=AttemptKind.SUBMIT, client_order_id="c1"),
        AttemptSpan(position=3, number=1, kind=AttemptKind.SUBMIT, client_order_id="c1"),
    )
    sends = [an_attempt(AttemptKind.SUBMIT, "c1", order) for _ in attempts]
    story = told(IntentCreated(intent=an_intent(order)), *sends, at_ns=(1, 2, 3), attempts=attempts)
    check_geometry(story)

    found = layout(story)
    assert [(bar.column, bar.bottom) for bar in found.bars] == [(0, found.height), (1, found.height)]
    assert found.lane_x(Lane.VENUE) - found.lane_x(Lane.KERNEL) > LANE_W + 2 * BAR_W
    assert "SUBMIT number 1 as c1, sent at 2: open" in page(story)


@pytest.mark.parametrize(
    ("words", "shown"), [("abcde", "abcde"), ("abcdef", "abcd…"), ("漢字漢", "漢字…"), ("漢字a", "漢字a"), ("", "")]
)
def test_words_are_cut_where_they_would_leave_their_lane(words: str, shown: str) -> None:
    """What fits is whole; else as much as fits with the mark that something is missing. Wide characters count twice."""
    assert fitting(words, 5 * 7.3 + 1) == shown


def test_a_page_is_written_whole(tmp_path: Path) -> None:
    """The file is the page and nothing else is left beside it; a directory that is not there, or a
    name that is no page's, is an error."""
    story = told(a_finding(), at_ns=(1,))
    write(story, str(tmp_path / "story.html"))

    assert [item.name for item in tmp_path.iterdir()] == ["story.html"]
    assert (tmp_path / "story.html").read_text(encoding="utf-8") == page(story)
    with pytest.raises(NotFoundError, match="no directory"):
        write(story, str(tmp_path / "nowhere" / "story.html"))
    with pytest.raises(ValidationError, match=r"kernel\.db`: must be a file name that ends in \.html"):
        write(story, str(tmp_path / "kernel.db"))
