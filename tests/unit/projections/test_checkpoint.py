"""Checkpoints: a state is restored exactly, folds on from there, and no damaged file is used."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kernel.events import BaseEvent
from kernel.log.engine.recorder import RowQuery
from kernel.log.engine.records import event_of
from kernel.platform.version import fold_version
from projections import State, checkpoint
from projections.checkpoint import CheckpointError, CheckpointFiles
from tests.nightly import after_the_first
from tests.recorded import simulated, simulated_whole

pytestmark = pytest.mark.xdist_group("simulated runs")  # these share costly fixtures

SEEDS = after_the_first(2, (3, 7_100_000, 7_100_001, 7_100_004))
CHAIN = bytes(range(32))


@pytest.fixture(scope="module", params=SEEDS)
def history(request: pytest.FixtureRequest) -> list[BaseEvent]:
    """The events of a simulated run: groups, lost answers, busts, crashes, external orders."""
    return [event_of(row) for row in simulated_whole(request.param).select(RowQuery())]


def folded(history: list[BaseEvent], state: State | None = None) -> State:
    """A state with these events folded, one by one."""
    state = state or State()
    for event in history:
        state.apply([event])
    return state


def shown(state: State) -> list[object]:
    """What a state answers, beside its digest."""
    ids = [intent.intent_id for intent in state.intents()]
    symbols = [symbol.symbol_id for symbol in state.symbols()]
    return [
        ids, [item.intent_id for item in state.order_states()], state.live_intent_ids(), [*state.groups()],
        [(state.effective_intent(name), state.order_state(name), state.observed_order(name), state.group_of(name))
         for name in ids],
        [(state.symbol_exposure(name), state.open_orders(name)) for name in symbols],
        [[item.intent_id for item in state.intents_of_symbol(name)] for name in symbols],
        [*state.findings()], [*state.positions()], state.account(), [*state.external_orders()], state.trading_status,
    ]  # fmt: skip


def through_a_file(state: State, path: Path) -> State:
    """The state that is read from a checkpoint of a state."""
    checkpoint.write(checkpoint.image(state, CHAIN), path)
    return checkpoint.read(path)


def test_a_state_is_restored_exactly(history: list[BaseEvent], tmp_path: Path) -> None:
    """At any point of a history the restored state equals the written one in every answer, and folds on the same."""
    whole, state = folded(history), State()
    for cut in range(1, len(history), 97):
        folded(history[state.position : cut], state)
        restored = through_a_file(state, tmp_path / "x")
        assert (restored.digest(), restored.position) == (state.digest(), cut)
        assert shown(restored) == shown(state)
        folded(history[cut:], restored)
        assert restored.digest() == whole.digest()
        assert shown(restored) == shown(whole)


def test_the_same_keys_differ_after_a_restore(history: list[BaseEvent], tmp_path: Path) -> None:
    """The change feed of a restored state is that of the original, event by event."""
    cut = len(history) // 2
    state = folded(history[:cut])
    restored = through_a_file(state, tmp_path / "x")
    for event in history[cut:]:
        assert restored.apply([event]) == state.apply([event])


def test_an_image_does_not_change(history: list[BaseEvent], tmp_path: Path) -> None:
    """Events folded while a file is written do not change it."""
    cut = len(history) // 2
    state = folded(history[:cut])
    taken, digest = checkpoint.image(state, CHAIN), state.digest()
    folded(history[cut:], state)
    checkpoint.write(taken, tmp_path / "x")
    assert checkpoint.read(tmp_path / "x").digest() == digest


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A good checkpoint of a small state."""
    recorder = simulated(3)
    state = folded([event_of(row) for row in recorder.select(RowQuery(upto=60))])
    checkpoint.write(checkpoint.image(state, CHAIN), tmp_path / "good")
    return tmp_path / "good"


def damaged() -> Iterator[tuple[str, Callable[[bytes], bytes]]]:
    """Ways to damage a file."""
    yield "empty", lambda data: b""
    yield "half", lambda data: data[: len(data) // 2]
    yield "without its last line", lambda data: data[: data[:-1].rindex(b"\n") + 1]
    yield "without the end of its last line", lambda data: data[:-1]
    yield "without a record", lambda data: b"".join(data.splitlines(keepends=True)[:2] + data.splitlines(True)[3:])
    yield "a digit changed", lambda data: data.replace(b'"position":6', b'"position":7', 1)
    yield "more behind it", lambda data: data + b"{}\n"
    yield "something else", lambda data: b"SQLite format 3\0" + os.urandom(5_000)


@pytest.mark.parametrize("how", [*damaged()], ids=lambda item: item[0])
def test_a_damaged_file_is_refused(how: tuple[str, Callable[[bytes], bytes]], path: Path) -> None:
    """An incomplete or changed file is refused."""
    good = path.read_bytes()
    assert how[1](good) != good
    path.write_bytes(how[1](good))
    with pytest.raises(CheckpointError):
        checkpoint.read(path)


def test_only_usable_checkpoints_are_found(tmp_path: Path) -> None:
    """Only checkpoints of this log and fold version, not beyond the position, are found."""
    files, state = CheckpointFiles(tmp_path, "0" * 16), State()
    path = files.write(checkpoint.image(state, CHAIN))
    assert [*files.usable(upto=0)] == []  # its log id is not the one of its name
    data = path.read_bytes()
    path.write_bytes(data.replace(b'"log_id":""', b'"log_id":"' + b"0" * 16 + b'"', 1))
    assert [found for found, _ in files.usable(upto=0)] == [path]
    assert [*files.usable(upto=-1)] == []
    path.write_bytes(path.read_bytes().replace(fold_version().encode(), b"fold-0"))
    assert [*files.usable(upto=0)] == []
    assert [*CheckpointFiles(tmp_path / "nowhere", "0" * 16).usable(upto=9)] == []


def test_the_newest_two_checkpoints_are_kept_privately(tmp_path: Path) -> None:
    """Older files are removed once a newer one is complete; only their owner can read them."""
    files = CheckpointFiles(tmp_path / "made", "0" * 16)
    history = [event_of(row) for row in simulated_whole(3).select(RowQuery(upto=30))]
    state = State()
    for event in history:
        state.apply([event])
        if state.position % 10 == 0:
            files.write(checkpoint.image(state, CHAIN))
    assert [path.name.split("-")[1] for path in files.paths()] == [f"{30:019d}.checkpoint", f"{20:019d}.checkpoint"]
    assert {path.stat().st_mode & 0o077 for path in [*files.paths(), files.directory]} == {0}
    assert len([*files.directory.iterdir()]) == 2
