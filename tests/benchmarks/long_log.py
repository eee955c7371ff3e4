"""`python -m tests.benchmarks --history N`: each operation on a log of N events, on SQLite and on PostgreSQL.

Each is a process of its own (`operations`), one after the other, beside its floor: the least work for the same rows. Rates
and ratios are in CPU seconds of that process, and in wall-clock time for imports and starts, which wait for disks and
databases. Memory is the process's peak; "over" is the part beyond a process with everything imported and, for folds,
beyond the folded state.

The budget's two rows about starting and memory are measured here as well, on a shorter log.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.benchmarks.measure import Figure
from tests.benchmarks.operations import Place
from tests.benchmarks.rows import backend_of, fresh_url, new_exchange_id

ROOT = Path(__file__).resolve().parents[2]
BEHIND = 5_000
"""Events between the newest checkpoint and the head: half of the interval of a leader."""
START_ROUNDS = 3
MB = 1e6


@dataclass(frozen=True, slots=True)
class Row:
    """One operation on one log."""

    operation: str
    backend: str
    events: int
    """How many it went through."""
    seconds: float
    cpu_s: float
    events_per_s: float
    peak_mb: float
    over_mb: float
    floor: str = ""
    """What it is compared with."""
    of_floor: float | None = None
    """Its rate, as a part of the floor's."""

    @property
    def line(self) -> str:
        """A row, for people."""
        rate = f"{self.events_per_s:>9,.0f}/s" if self.events > 1 else " " * 11
        of_floor = f"{self.of_floor:5.2f} of {self.floor}" if self.of_floor is not None else ""
        took = f"{self.seconds:9.2f} s {self.cpu_s:9.2f} cpu s"
        memory = f"{self.peak_mb:6.0f} MB, over {self.over_mb:5.0f} MB"
        return f"{self.backend:10}  {self.operation:38} {took} {rate}   {memory}   {of_floor}"


@dataclass
class LongLog:
    """A log of a number of events, and its measurements."""

    url: str
    other_url: str
    directory: Path
    events: int
    live: int
    exchange_id: str = field(default_factory=new_exchange_id)

    @property
    def place(self) -> Place:
        """The log's place."""
        return Place(self.url, self.exchange_id, str(self.directory / f"{self.exchange_id}.checkpoints"))

    @property
    def behind(self) -> int:
        """Events between the newest usable checkpoint and a position."""
        return min(BEHIND, self.events // 8)

    def run(self, operation: str, /, **given: Any) -> dict[str, Any]:
        """Run one operation in a process of its own."""
        words = [sys.executable, "-m", "tests.benchmarks.operations", operation]
        output = subprocess.run(
            [*words, json.dumps({"place": asdict(self.place), **given})],
            cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True,
        ).stdout  # fmt: skip
        found: dict[str, Any] = json.loads(output)
        return found

    def row(
        self,
        operation: str,
        taken: dict[str, Any],
        *,
        events: int | None = None,
        over: int | None = None,
        floor: tuple[str, float] | None = None,
        by_clock: bool = False,
    ) -> Row:
        """A measurement as a row. `over`: memory that is there anyway. `floor`: its name and its seconds."""
        count = self.events if events is None else events
        seconds = taken["seconds"] if by_clock else taken["cpu_s"]
        return Row(
            operation,
            backend_of(self.url),
            count,
            taken["seconds"],
            taken["cpu_s"],
            count / seconds,
            taken["peak_bytes"] / MB,
            (taken["peak_bytes"] - (taken["begin_bytes"] if over is None else over)) / MB,
            floor[0] if floor else "",
            floor[1] * count / self.events / seconds if floor else None,
        )


def rows_of(log: LongLog) -> Iterator[Row]:
    """Every operation, each as soon as it is measured."""
    yield log.row("make the log", log.run("make", events=log.events, live=log.live))
    yield from copied(log)
    decode = log.run("decode")
    yield log.row("floor: rows fetched and decoded", decode)
    decoding = ("decoding", decode["cpu_s"])
    points = {"the middle": log.events // 2, "the end": log.events}
    without = {
        name: log.run("look_back", position=at - log.behind, with_checkpoint=False) for name, at in points.items()
    }
    for name, at in points.items():
        held = without[name]["held_bytes"]
        yield log.row(f"as of {name}", without[name], events=at - log.behind, over=held, floor=decoding)
        taken = log.run("look_back", position=at, with_checkpoint=True)
        yield log.row(f"as of {name}, from a checkpoint", taken, events=1, over=held)
    taken = log.run("look_back", position=log.behind, with_checkpoint=True)
    yield log.row("as of the beginning", taken, events=log.behind, over=taken["held_bytes"], floor=decoding)
    yield from started(log, held)
    yield log.row("rebuild", log.run("refold"), over=held, floor=decoding)
    yield log.row("verify", log.run("check", content=True), over=held, floor=decoding)


def copied(log: LongLog) -> Iterator[Row]:
    """The operations that copy rows."""
    hashed = log.run("hash_all")
    yield log.row("floor: leaf and chain of raw rows", hashed)
    floor = ("hashing raw rows", hashed["cpu_s"])
    yield log.row("verify, hashes alone", log.run("check", content=False), floor=floor)
    path = str(log.directory / f"{log.exchange_id}.jsonl")
    raw = log.run("copy_out", path=f"{path}.raw")
    yield log.row("floor: raw rows to a file", raw)
    Path(f"{path}.raw").unlink()
    exported = log.run("export", path=path)
    yield log.row("export, JSONL", exported, floor=("raw rows to a file", raw["cpu_s"]))
    raw = log.run("copy_in", url=log.other_url, directory=str(log.directory))
    yield log.row(f"floor: raw rows into {backend_of(log.other_url)}", raw)
    imported = log.run("take_in", path=path, url=fresh_url(log.other_url, log.directory))
    assert imported["chain_hash"] == exported["chain_hash"] == log.run("nothing")["chain_hash"]
    floor = ("raw rows copied", raw["seconds"])
    yield log.row(f"import into {backend_of(log.other_url)}", imported, floor=floor, by_clock=True)
    Path(path).unlink()


def started(log: LongLog, held: int) -> Iterator[Row]:
    """The operations at the end of a log, independent of its length."""
    shown, taken, once = starts(log)
    for name, what in ((shown["newest"], "the newest"), ("o0000001", "the first")):
        yield log.row(f"orderctl get intent, {what}", log.run("get", name=name), events=1, over=held)
    decoding = {**taken, "seconds": taken["floor_s"], "cpu_s": 0.0, "peak_bytes": 0, "begin_bytes": 0}
    yield log.row("floor: the checkpoint file decoded", decoding, events=1, by_clock=True)
    floor = ("decoding the checkpoint", taken["floor_s"] * log.events)
    yield log.row(
        "start to READY", {**once, "seconds": taken["ours_s"]}, events=1, over=held, floor=floor, by_clock=True
    )


def starts(log: LongLog) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Open orders; some starts, in turns with their floor; and one start alone, for its memory."""
    path = str(log.directory / f"{log.exchange_id}.open.json")
    shown = log.run("show_open", path=path)
    return shown, log.run("start", path=path, rounds=START_ROUNDS), log.run("start", path=path, rounds=1)


def budget_rows(url: str, directory: Path, *, events: int, live: int) -> list[Figure]:
    """The budget's rows about starting and memory."""
    log = LongLog(fresh_url(url, directory), url, directory, events, live)
    log.run("make", events=events, live=live)
    held_mb = log.run("look_back", position=events - log.behind, with_checkpoint=False)["held_bytes"] / MB
    peak_mb = log.run("refold")["peak_bytes"] / MB
    shown, began, _ = starts(log)
    backend = backend_of(url)
    detail = {"events": events, "open_orders": shown["open_orders"]}
    times = {
        "ready_s": round(began["ours_s"], 2), "decode_s": round(began["floor_s"], 2), "folded_events": began["folded"],
        "checkpoint_mb": round(began["checkpoint_mb"], 1),
    }  # fmt: skip
    memory = {"peak_mb": round(peak_mb), "with_state_mb": round(held_mb)}
    return [
        Figure(
            f"start to READY against decoding, {backend}", began["ours_s"] / began["floor_s"], 5, 2, False,
            {**detail, **times},
        ),
        Figure(
            f"replay memory over the state itself, MB, {backend}", peak_mb - held_mb, 64, 32, False,
            {**detail, **memory},
        ),
    ]  # fmt: skip
