"""Verify on every backend: a good log is good, and whatever is done to it behind the program's back is found and placed.

What only signed notes can tell is in test_verifying_notes.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kernel.log import LogSettings, StoredRow, hashing
from kernel.log.engine.records import COLUMNS
from replay import ProblemKind, VerifyReport, verify
from tests.commands import an_append
from tests.contract.backends import Backend, MemoryBackend, PostgresBackend, SQLiteBackend
from tests.contract.log.test_tampering import CHANGES
from tests.stories import STORY_LENGTH, Story


async def told(backend: Backend) -> list[StoredRow]:
    """The rows of a log with the story in it."""
    async with backend.open() as log:
        await Story(log).tell()
        return [row async for page in log.read() for row in page]


async def verified(backend: Backend, **given: Any) -> VerifyReport:
    """What a verification says of the log as it is now, opened anew."""
    async with backend.open(check_end=False) as log:
        return await verify(log, **given)


def found(report: VerifyReport) -> list[tuple[ProblemKind, int | None]]:
    """Kinds and positions of what is wrong."""
    return [(item.kind, item.position) for item in report.problems]


async def test_what_was_recorded_is_verified(backend: Backend) -> None:
    """A log as a kernel writes it, with somebody else's events in it, has no problem; and it is told how much there is."""
    rows = await told(backend)
    report = await verified(backend)
    assert found(report) == []
    assert (report.ok, report.first_bad_position, report.position) == (True, None, STORY_LENGTH)
    assert report.chain_hash == rows[-1].chain_hash.hex()
    counts = {
        "events": 18,
        "commands": 16,
        "streams": 4,
        "foreign_events": 1,
        "fills": 1,
        "sends": 4,
        "recalled_intents": 0,
    }
    assert dict(report.counts) == counts


async def test_a_log_is_verified_by_its_url(database: SQLiteBackend | PostgresBackend) -> None:
    """A URL and the exchange id do as well, and progress is told up to the end."""
    await told(database)
    done: list[tuple[int, int]] = []
    report = await verify(
        database.url, exchange_id=database.exchange_id, progress=lambda *progress: done.append(progress)
    )
    assert (report.ok, done) == (True, [(STORY_LENGTH, STORY_LENGTH)])


@pytest.mark.parametrize("column", CHANGES)
async def test_every_changed_column_is_found(backend: Backend, column: str) -> None:
    """A changed byte in any column is found at its position, and nothing else is wrong."""
    await told(backend)
    backend.update(6, column, CHANGES[column])
    report = await verified(backend)
    assert report.first_bad_position == 6
    kind = ProblemKind.CHAIN if column == "chain_hash" else ProblemKind.CHANGED
    assert found(report) == [(kind, 6), *[(ProblemKind.STREAM, 6)] * (column in ("stream_id", "version"))]


async def test_one_change_does_not_hide_another(backend: Backend) -> None:
    """It goes on after a problem: both places are told."""
    await told(backend)
    backend.update(7, "state", CHANGES["state"])
    backend.update(14, "recorded_at_ns", 8)
    assert found(await verified(backend)) == [(ProblemKind.CHANGED, 7), (ProblemKind.CHANGED, 14)]


async def test_swapped_payloads_are_found(backend: Backend) -> None:
    """Two events whose payloads changed places are both told."""
    rows = await told(backend)
    backend.update(6, "state", rows[13].state)
    backend.update(14, "state", rows[5].state)
    assert found(await verified(backend)) == [(ProblemKind.CHANGED, 6), (ProblemKind.CHANGED, 14)]


async def test_a_removed_row_is_found(backend: Backend) -> None:
    """The position that is missing is told, and nothing that follows from that."""
    await told(backend)
    backend.delete(above=5, upto=7)
    report = await verified(backend)
    assert found(report) == [(ProblemKind.MISSING, 6)]
    assert report.problems[0].last_position == 7


async def test_a_removed_and_renumbered_row_is_found(backend: Backend) -> None:
    """Where the others were moved up to close the gap, the chain parts there."""
    rows = await told(backend)
    backend.delete(above=5, upto=STORY_LENGTH)
    for row in rows[6:]:
        backend.insert((row.position - 1, *backend.row(row)[1:]))
    backend.set_head(STORY_LENGTH - 1, rows[-1].chain_hash)
    report = await verified(backend)
    assert report.first_bad_position == 6
    first = report.problems[0]
    assert (first.kind, first.position, first.last_position) == (ProblemKind.CHAIN, 6, STORY_LENGTH - 1)


async def test_an_inserted_row_is_found(backend: Backend) -> None:
    """A row put in, the others moved down, is found where it is."""
    rows = await told(backend)
    backend.delete(above=5, upto=STORY_LENGTH)
    theirs = forged(rows[5], rows[4], stream_id="intent:z", version=1, command_id=b"z" * 16, command_index=0)
    backend.insert(backend.row(theirs))
    for row in rows[5:]:
        backend.insert((row.position + 1, *backend.row(row)[1:]))
    backend.set_head(STORY_LENGTH + 1, rows[-1].chain_hash)
    report = await verified(backend)
    assert (ProblemKind.CHAIN, 7) in found(report)
    assert (ProblemKind.STREAM, 6) in found(report), "the table of streams does not have its stream"


async def test_a_tail_cut_off_is_found(backend: Backend) -> None:
    """Rows missing at the end contradict the head row."""
    await told(backend)
    backend.delete(above=15, upto=STORY_LENGTH)
    report = await verified(backend)
    assert found(report)[0] == (ProblemKind.MISSING, 16)
    assert report.problems[0].last_position == STORY_LENGTH


async def test_a_tail_cut_off_with_the_head_row_contradicts_the_streams(backend: Backend) -> None:
    """Who adjusts the head row has not adjusted the table of streams yet, and that tells."""
    rows = await told(backend)
    backend.delete(above=16, upto=STORY_LENGTH)
    backend.set_head(16, rows[15].chain_hash)
    report = await verified(backend)
    assert not report.ok
    assert {kind for kind, _ in found(report)} <= {ProblemKind.STREAM, ProblemKind.HEAD}
    told_of = " ".join(str(item) for item in report.problems)
    assert "intent:a is at version 7, by its events it is at 6, position 16" in told_of


async def test_a_head_row_set_back_is_found(backend: Backend) -> None:
    """Events after the position that the head row has are told, and so is another hash in it."""
    rows = await told(backend)
    backend.set_head(14, rows[13].chain_hash)
    report = await verified(backend)
    assert (ProblemKind.HEAD, 15) in found(report)
    backend.set_head(STORY_LENGTH, bytes(32))
    assert found(await verified(backend)) == [(ProblemKind.HEAD, STORY_LENGTH)]


async def test_a_log_rewritten_consistently_looks_good(backend: Backend) -> None:
    """Hashes alone don't tell of a log that was rewritten from a position on: for that there are notes."""
    rows = await told(backend)
    put(backend, rewritten(rows, 7, lambda row: row.state.replace(b'"last_qty":60', b'"last_qty":61')))
    assert (await verified(backend)).ok


async def test_a_stream_that_lacks_a_version_is_found(backend: Backend) -> None:
    """Where hashes were made to fit, versions that do not follow still tell."""
    rows = await told(backend)
    put(backend, rewritten(rows, 9, lambda row: row.state, version=70))
    told_of = [(item.position, item.text) for item in (await verified(backend)).problems]
    assert (9, "stream intent:b has version 70 after 1") in told_of


async def test_a_log_that_does_not_say_whose_it_is_is_found(backend: Backend) -> None:
    """Without the event that made it, however well the hashes fit, nothing ties the head row's identity to the log."""
    rows = await told(backend)
    put(backend, rewritten(rows, 1, lambda row: row.state, topic="Somebody:Theirs"))
    assert (ProblemKind.HEAD, 1) in found(await verified(backend))


async def test_a_stream_whose_beginning_is_not_there_is_found(backend: Backend) -> None:
    """One that is met for the first time at a later version has the earlier ones in the log, or they are lacking."""
    rows = await told(backend)
    put(backend, rewritten(rows, STORY_LENGTH, lambda row: row.state, version=5))
    problems = (await verified(backend)).problems
    assert (STORY_LENGTH, "stream theirs has version 5, and no version 4 before it") in [
        (item.position, item.text) for item in problems
    ]


async def test_every_page_of_the_table_of_streams_is_looked_at(database: SQLiteBackend | PostgresBackend) -> None:
    """What it lacks is told from whichever page."""
    await told(database)
    schema = "{schema}." if isinstance(database, PostgresBackend) else ""
    database.execute(f"DELETE FROM {schema}log_stream WHERE stream_id = 'theirs'")
    async with database.open(check_end=False, settings=LogSettings(page_rows=1)) as log:
        assert found(await verify(log)) == [(ProblemKind.STREAM, STORY_LENGTH)]


async def test_another_epoch_in_the_head_row_is_found(database: SQLiteBackend | PostgresBackend) -> None:
    """The row by which writers are fenced is held to the newest election."""
    await told(database)
    schema = "{schema}." if isinstance(database, PostgresBackend) else ""
    database.execute(f"UPDATE {schema}log_head SET epoch = epoch + 1")
    (problem,) = (await verified(database)).problems
    assert (problem.kind, problem.position) == (ProblemKind.HEAD, STORY_LENGTH)
    assert "another epoch" in problem.text


@pytest.mark.parametrize("name", ["command_index", "recorded_at_ns"])
async def test_commands_and_instants_out_of_order_are_found(backend: Backend, name: str) -> None:
    """So do a command whose events are not counted from 0, and an instant before the one before."""
    rows = await told(backend)
    put(backend, rewritten(rows, 9, lambda row: row.state, **{name: 3}))
    kind = ProblemKind.COMMAND if name == "command_index" else ProblemKind.TIME
    assert found(await verified(backend)) == [(kind, 9)]


async def test_a_command_recorded_twice_is_found(exchange_id: str) -> None:
    """A command id that begins a second time is told at the second place (databases have an index against it)."""
    backend = MemoryBackend(exchange_id)
    rows = await told(backend)
    put(backend, rewritten(rows, 9, lambda row: row.state, command_id=rows[3].command_id))
    assert found(await verified(backend)) == [(ProblemKind.REPEATED, 9)]


async def test_a_position_that_is_there_twice_is_found(exchange_id: str) -> None:
    """So is a second row at a position (databases have a key against it)."""
    backend = MemoryBackend(exchange_id)
    rows = await told(backend)
    backend.insert((9, *backend.row(rows[10])[1:]))
    assert (ProblemKind.REPEATED, 9) in found(await verified(backend))


async def test_a_stale_or_missing_row_of_streams_is_found(database: SQLiteBackend | PostgresBackend) -> None:
    """Writers go by the table of streams: a stream that it lacks or has too low is told at the first event that it does not
    know of, and so is one that has no events.
    """
    await told(database)
    schema = "{schema}." if isinstance(database, PostgresBackend) else ""
    database.execute(f"UPDATE {schema}log_stream SET version = 2 WHERE stream_id = 'intent:a'")
    assert found(await verified(database)) == [(ProblemKind.STREAM, 6)]
    database.execute(f"DELETE FROM {schema}log_stream WHERE stream_id = 'intent:b'")
    assert found(await verified(database)) == [(ProblemKind.STREAM, 6), (ProblemKind.STREAM, 8)]
    database.execute(f"UPDATE {schema}log_stream SET stream_id = 'intent:c' WHERE stream_id = 'intent:a'")
    report = await verified(database)
    assert found(report) == [(ProblemKind.STREAM, 4), (ProblemKind.STREAM, 8), (ProblemKind.STREAM, None)]
    assert "intent:c" in report.problems[2].text


async def test_whose_log_it_is_must_agree(database: SQLiteBackend | PostgresBackend) -> None:
    """The head row's log id is that of the first event."""
    await told(database)
    schema = "{schema}." if isinstance(database, PostgresBackend) else ""
    database.execute(f"UPDATE {schema}log_head SET log_id = '0000000000000000'")
    assert (ProblemKind.HEAD, 1) in found(await verified(database, content=True))


async def test_the_end_that_grows_meanwhile_is_no_problem(backend: Backend) -> None:
    """What is recorded while it verifies belongs to the next verification: no false alarm about head or streams."""
    async with backend.open() as log:
        await Story(log).tell()
        read = log.read

        async def growing(after: int = 0, upto: int | None = None) -> Any:
            async for rows in read(after, upto):
                await log.append(an_append("late"))
                yield rows

        log.read = growing  # type: ignore[method-assign]
        report = await verify(log, content=False)
    assert (report.ok, report.position) == (True, STORY_LENGTH)


async def test_an_empty_page_cache_changes_nothing(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Versions and books that were let go are found again in the log: the same verdict, whatever is kept in memory."""
    rows = await told(backend)
    monkeypatch.setattr("replay.audit.rows.RECENT_MAX", 0)
    monkeypatch.setattr("replay.audit.events.BOOKS_MAX", 0)
    monkeypatch.setattr("replay.audit.events.TOPICS_MAX", 0)
    assert (await verified(backend)).ok
    put(backend, rewritten(rows, 17, lambda row: row.state, version=9))
    assert (ProblemKind.STREAM, 17) in found(await verified(backend))


def forged(row: StoredRow, before: StoredRow, **changed: Any) -> StoredRow:
    """A row with other columns and hashes that fit, to follow another."""
    columns = {name: getattr(row, name) for name in COLUMNS} | {"position": before.position + 1} | changed
    leaf = hashing.leaf_hash(StoredRow(**columns))
    chain = hashing.chain_hash(before.chain_hash, columns["position"], leaf)
    return StoredRow(**columns | {"leaf_hash": leaf, "chain_hash": chain})


def rewritten(
    rows: list[StoredRow], position: int, state: Callable[[StoredRow], bytes], **changed: Any
) -> list[StoredRow]:
    """The rows with one changed, and every hash from there on made to fit."""
    made = rows[: position - 1]
    for row in rows[position - 1 :]:
        other = {"state": state(row), **changed} if row.position == position else {}
        before = made[-1] if made else row._replace(position=0, chain_hash=hashing.GENESIS)
        made.append(forged(row, before, **other))
    return made


def put(backend: Backend, rows: list[StoredRow]) -> None:
    """Put rows into a store in the place of those that are there."""
    backend.delete(above=0, upto=len(rows))
    for row in rows:
        backend.insert(backend.row(row))
    backend.set_head(rows[-1].position, rows[-1].chain_hash)
