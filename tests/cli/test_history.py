"""`--as-of`, `diff --from` and `history` on the command line, on SQLite."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.cli.world import World

PLACE = ("place", "BUY", "0.001", "BTCUSDT", "--limit", "50000")


@pytest.fixture
def two_wishes(idle: World) -> World:
    """A log in which `a` was placed, then `b`, then `a` was canceled."""
    for words in ((*PLACE, "--id", "a", "--wait", "recorded"), (*PLACE, "--id", "b", "--wait", "recorded")):
        idle.ok(*words)
    idle.ok("cancel", "a", "--wait", "recorded")
    return idle


def head(world: World) -> int:
    """The last position."""
    return int(json.loads(world.ok("events", "-o", "jsonl").splitlines()[-1])["position"])


def test_every_listing_is_of_the_point_that_is_asked_for(two_wishes: World) -> None:
    """`--as-of` shows what was known at a position, says so on stderr, and leaves out later events."""
    last = head(two_wishes)
    then = two_wishes.call("get", "intents", "--as-of", str(last - 1), "-o", "json")

    assert [(item["intent_id"], item["desired"]) for item in json.loads(then.stdout)] == [
        ("a", "WORKING"), ("b", "WORKING"),
    ]  # fmt: skip
    assert then.stderr.startswith(f"as of position {last - 1}, recorded at 20")
    assert json.loads(two_wishes.ok("get", "intent", "a", "-o", "json"))["desired"] == "CANCELED"
    assert two_wishes.call("get", "intent", "b", "--as-of", str(last - 2)).exit_code == 2


@pytest.mark.parametrize(
    "kind",
    ["intents", "orders", "fills", "positions", "account", "symbols", "groups", "findings", "external"],
)
def test_each_type_can_be_asked_for_at_each_point(two_wishes: World, kind: str) -> None:
    """Every type can be listed before the first event, in the middle and at the head."""
    for position in (0, 1, head(two_wishes)):
        assert two_wishes.call("get", kind, "--as-of", str(position), "-o", "yaml").exit_code == 0


def test_ages_count_from_then(two_wishes: World) -> None:
    """Ages count from the point: an intent as of its creation is 0 s old."""
    created = json.loads(two_wishes.ok("events", "--for", "b", "-o", "jsonl"))
    line = two_wishes.ok("get", "intent", "b", "--as-of", str(created["position"])).splitlines()[1]

    assert line.split()[-1] == "0s"


def test_an_instant_is_a_point_too(two_wishes: World) -> None:
    """As of the microsecond after an event, that event is known."""
    instants = [json.loads(line)["recorded_at_ns"] for line in two_wishes.ok("events", "-o", "jsonl").splitlines()]
    second, micros = divmod(instants[-2] // 1_000 + 1, 1_000_000)
    text = datetime.fromtimestamp(second, UTC).replace(microsecond=micros).isoformat()
    told = two_wishes.call("get", "intents", "--as-of", text)
    assert told.stderr.startswith(f"as of position {len(instants) - 1}, ")


def test_a_page_is_of_a_point(two_wishes: World) -> None:
    """`describe --as-of` shows the intent as it was, and no later event."""
    text = two_wishes.ok("describe", "a", "--as-of", str(head(two_wishes) - 1))

    assert "Desired:                WORKING, generation 1" in text
    assert "IntentCancelRequested" not in text
    assert "When:     at once" in text


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("get", "orders", "--as-of", "2026-01-01T00:00:00"), 5, "zone"),
        (("get", "orders", "--as-of", "2999-01-01T00:00:00Z"), 5, "latest"),
        (("get", "orders", "--as-of", "9999"), 5, "position `9999`: must be between 0 and"),
        (("get", "orders", "--as-of", "soon"), 5, "instant `soon`: must be a date and time with its zone"),
        (("get", "orders", "-w", "--as-of", "3"), 2, "exclude each other"),
        (("describe", "nobody", "--as-of", "3"), 2, "intent nobody not found"),
        (("diff", "--from", "9999"), 2, "position `9999`: must be between 0 and"),
        (("diff", "--from", "1", "--to", "noon"), 2, "instant `noon`: must be a date and time"),
        (("diff", "--to", "3"), 2, "--to needs --from"),
        (("diff", "--from", "3", "-f", "x.yaml"), 2, "neither can be combined with -f"),
        (("history", "nobody"), 2, "intent nobody not found"),
    ],
)
def test_what_can_not_be_asked_is_told(two_wishes: World, words: tuple[str, ...], code: int, said: str) -> None:
    """A point that does not exist and options that exclude each other are errors with nothing on stdout."""
    result = two_wishes.call(*words)

    assert (result.exit_code, result.stdout) == (code, "")
    assert said in result.stderr


def test_two_points_are_compared(two_wishes: World) -> None:
    """Exit code 1 with a line per changed field if two points differ, otherwise 0 and no output."""
    last = head(two_wishes)
    differing = two_wishes.call("diff", "--from", str(last - 1))
    same = two_wishes.call("diff", "--from", str(last), "--to", str(last))

    assert differing.exit_code == 1
    assert ["intent", "a", "CHANGED", "desired", "WORKING", "CANCELED"] in [
        line.split() for line in differing.stdout.splitlines()
    ]
    assert differing.stderr == f"from position {last - 1} to {last}\n"
    assert (same.exit_code, same.stdout) == (0, "")


def test_programs_get_both_sides(two_wishes: World) -> None:
    """JSON has the fields of what changed and the whole of what was added, in decimals."""
    last = head(two_wishes)
    result = two_wishes.call("diff", "--from", str(last - 2), "-o", "jsonl")

    found = {item["name"]: item for item in map(json.loads, result.stdout.splitlines())}
    assert found["b"]["change"] == "APPEARED"
    assert found["b"]["after"]["order"]["price"] == "50000.00"
    assert {"field": "generation", "before": 1, "after": 2} in found["a"]["fields"]
    assert two_wishes.call("diff", "--from", "1", "-o", "name").stdout.splitlines()[-2:] == ["intent/a", "intent/b"]


def test_a_pause_of_the_account_names_no_symbol(two_wishes: World) -> None:
    """The history shows who paused all and why; it does not read as a pause of the order's symbol."""
    two_wishes.ok("pause", "--reason", "maintenance")
    rows = [line.split() for line in two_wishes.ok("history", "b").splitlines() if "Paused (kernel)" in line]
    two_wishes.ok("resume")

    assert [row[-2:] for row in rows] == [["-", "maintenance"]]


def test_a_story_from_the_wish_to_the_end(live: World, tmp_path: Path) -> None:
    """The history of an order has each event with its cause, as table, object and picture."""
    name = f"h-{uuid.uuid4().hex[:8]}"
    live.ok(*PLACE, "--id", name)
    live.ok("cancel", name)

    table = live.ok("history", name)
    story = json.loads(live.ok("history", f"intent/{name}", "-o", "json"))
    own = [step for step in story["steps"] if step["part"] == "INTENT"]
    assert [step["topic"] for step in own] == [
        "IntentCreated", "AttemptStarted", "OrderAccepted", "IntentCancelRequested", "AttemptStarted", "OrderCanceled",
    ]  # fmt: skip
    assert [item["kind"] for item in story["attempts"]] == ["SUBMIT", "CANCEL"]
    assert own[-1]["came_to"] == {"ord_status": "CANCELED", "cum_qty": "0.00000000", "leaves_qty": "0.00000000"}
    assert own[1]["causation_position"] == own[0]["position"]
    assert "LeaderElected (kernel)" in table
    assert "CANCELED, filled 0, open 0" in table
    assert [json.loads(line)["position"] for line in live.ok("history", name, "-o", "jsonl").splitlines()] == [
        step["position"] for step in story["steps"]
    ]

    picture = tmp_path / "story.html"
    drawn = live.call("history", name, "--picture", str(picture))
    assert (drawn.exit_code, drawn.stdout) == (0, "")
    assert f"History of intent {name}" in picture.read_text(encoding="utf-8")
