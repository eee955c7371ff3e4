"""`verify` on every backend: an unchanged log has no problem, and each tampering is found at its position.

Tampering that only signed tree heads reveal is in test_verify_tree_heads.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kernel.log import LogSettings, StoredRow, hashing
from kernel.log.engine.records import COLUMNS
from projections.retention.policy import RetentionPolicy
from replay import ProblemKind, VerifyReport, verify
from tests.commands import an_append
from tests.contract.backends import Backend, MemoryBackend, PostgresBackend, SQLiteBackend
from tests.contract.log.test_tampering import CHANGES
from tests.stories import STORY_LENGTH, Story


async def recorded_rows(backend: Backend) -> list[StoredRow]:
    """Record the story and return its rows."""
    async with backend.open() as log:
        await Story(log).record_all()
        return [row async for page in log.read() for row in page]


async def verified(backend: Backend, **given: Any) -> VerifyReport:
    """Verify the log as stored now, opened again."""
    async with backend.open(check_end=False) as log:
        return await verify(log, **given)


def found(report: VerifyReport) -> list[tuple[ProblemKind, int | None]]:
    """The kinds and positions of the problems."""
    return [(item.kind, item.position) for item in report.problems]


async def test_an_unchanged_log_verifies(backend: Backend) -> None:
    """A log written by a kernel, with events of other programs in it, has no problem, and its counts are reported."""
    rows = await recorded_rows(backend)
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
    """A URL with the exchange id is accepted, and progress is reported up to the end."""
    await recorded_rows(database)
    done: list[tuple[int, int]] = []
    report = await verify(
        database.url, exchange_id=database.exchange_id, progress=lambda *progress: done.append(progress)
    )
    assert (report.ok, done) == (True, [(STORY_LENGTH, STORY_LENGTH)])


@pytest.mark.parametrize("column", CHANGES)
async def test_every_changed_column_is_found(backend: Backend, column: str) -> None:
    """A changed byte in any column is found at its position, without other problems."""
    await recorded_rows(backend)
    backend.update(6, column, CHANGES[column])
    report = await verified(backend)
    assert report.first_bad_position == 6
    kind = ProblemKind.CHAIN if column == "chain_hash" else ProblemKind.CHANGED
    assert found(report) == [(kind, 6), *[(ProblemKind.STREAM, 6)] * (column in ("stream_id", "version"))]


async def test_one_change_does_not_hide_another(backend: Backend) -> None:
    """Verification continues after a problem: both positions are reported."""
    await recorded_rows(backend)
    backend.update(7, "state", CHANGES["state"])
    backend.update(14, "recorded_at_ns", 8)
    assert found(await verified(backend)) == [(ProblemKind.CHANGED, 7), (ProblemKind.CHANGED, 14)]


async def test_swapped_payloads_are_found(backend: Backend) -> None:
    """Two events with swapped payloads are both reported."""
    rows = await recorded_rows(backend)
    backend.update(6, "state", rows[13].state)
    backend.update(14, "state", rows[5].state)
    assert found(await verified(backend)) == [(ProblemKind.CHANGED, 6), (ProblemKind.CHANGED, 14)]


async def test_a_removed_row_is_found(backend: Backend) -> None:
    """Missing positions are reported once, without consequential problems."""
    await recorded_rows(backend)
    backend.delete(above=5, upto=7)
    report = await verified(backend)
    assert found(report) == [(ProblemKind.MISSING, 6)]
    assert report.problems[0].last_position == 7


async def test_a_removed_and_renumbered_row_is_found(backend: Backend) -> None:
    """If later events were moved up to close a gap, the chain breaks there."""
    rows = await recorded_rows(backend)
    backend.delete(above=5, upto=STORY_LENGTH)
    for row in rows[6:]:
        backend.insert((row.position - 1, *backend.row(row)[1:]))
    backend.set_head(STORY_LENGTH - 1, rows[-1].chain_hash)
    report = await verified(backend)
    assert report.first_bad_position == 6
    first = report.problems[0]
    assert (first.kind, first.position, first.last_position) == (ProblemKind.CHAIN, 6, STORY_LENGTH - 1)


async def test_an_inserted_row_is_found(backend: Backend) -> None:
    """An inserted row, with the later ones moved down, is found at its position."""
    rows = await recorded_rows(backend)
    backend.delete(above=5, upto=STORY_LENGTH)
    theirs = forged(rows[5], rows[4], stream_id="intent:z", version=1, command_id=b"z" * 16, command_index=0)
    backend.insert(backend.row(theirs))
    for row in rows[5:]:
        backend.insert((row.position + 1, *backend.row(row)[1:]))
    backend.set_head(STORY_LENGTH + 1, rows[-1].chain_hash)
    report = await verified(backend)
    assert (ProblemKind.CHAIN, 7) in found(report)
    assert (ProblemKind.STREAM, 6) in found(report), "the table of streams does not have its stream"


async def test_a_truncated_tail_is_found(backend: Backend) -> None:
    """Rows missing at the end contradict the head row."""
    await recorded_rows(backend)
    backend.delete(above=15, upto=STORY_LENGTH)
    report = await verified(backend)
    assert found(report)[0] == (ProblemKind.MISSING, 16)
    assert report.problems[0].last_position == STORY_LENGTH


async def test_a_truncated_tail_with_the_head_row_contradicts_the_streams(backend: Backend) -> None:
    """If the head row is adjusted after a truncation, the table of streams still shows it."""
    rows = await recorded_rows(backend)
    backend.delete(above=16, upto=STORY_LENGTH)
    backend.set_head(16, rows[15].chain_hash)
    report = await verified(backend)
    assert not report.ok
    assert {kind for kind, _ in found(report)} <= {ProblemKind.STREAM, ProblemKind.HEAD}
    texts = " ".join(str(item) for item in report.problems)
    assert "the table of streams has version 7 for intent:a, which by its events is at version 6, position 16" in texts


async def test_a_head_row_set_back_is_found(backend: Backend) -> None:
    """Events after the head row's position are reported, and so is a wrong hash in the head row."""
    rows = await recorded_rows(backend)
    backend.set_head(14, rows[13].chain_hash)
    report = await verified(backend)
    assert (ProblemKind.HEAD, 15) in found(report)
    backend.set_head(STORY_LENGTH, bytes(32))
    assert found(await verified(backend)) == [(ProblemKind.HEAD, STORY_LENGTH)]


async def test_a_log_rewritten_consistently_looks_good(backend: Backend) -> None:
    """Hashes alone do not show that a log was rewritten from some position on; signed tree heads do."""
    rows = await recorded_rows(backend)
    put(backend, rewritten(rows, 7, lambda row: row.state.replace(b'"last_qty":60', b'"last_qty":61')))
    assert (await verified(backend)).ok


async def test_a_stream_that_lacks_a_version_is_found(backend: Backend) -> None:
    """If all hashes were recomputed, wrong stream versions are still found."""
    rows = await recorded_rows(backend)
    put(backend, rewritten(rows, 9, lambda row: row.state, version=70))
    found_texts = [(item.position, item.text) for item in (await verified(backend)).problems]
    assert (9, "stream intent:b has version 70 after 1") in found_texts


async def test_a_log_without_log_created_is_found(backend: Backend) -> None:
    """Without its LogCreated event the log is not tied to the identity in the head row."""
    rows = await recorded_rows(backend)
    put(backend, rewritten(rows, 1, lambda row: row.state, topic="Somebody:Theirs"))
    assert (ProblemKind.HEAD, 1) in found(await verified(backend))


async def test_a_stream_without_its_first_versions_is_found(backend: Backend) -> None:
    """A stream first seen at a later version must have the earlier versions in the log."""
    rows = await recorded_rows(backend)
    put(backend, rewritten(rows, STORY_LENGTH, lambda row: row.state, version=5))
    problems = (await verified(backend)).problems
    assert (STORY_LENGTH, "stream theirs has version 5 without version 4 before it") in [
        (item.position, item.text) for item in problems
    ]


async def test_every_page_of_the_table_of_streams_is_checked(database: SQLiteBackend | PostgresBackend) -> None:
    """Entries missing in the table of streams are found on every page."""
    await recorded_rows(database)
    schema = "{schema}." if isinstance(database, PostgresBackend) else ""
    database.execute(f"DELETE FROM {schema}log_stream WHERE stream_id = 'theirs'")
    async with database.open(check_end=False, settings=LogSettings(page_rows=1)) as log:
        assert found(await verify(log)) == [(ProblemKind.STREAM, STORY_LENGTH)]


async def test_another_epoch_in_the_head_row_is_found(database: SQLiteBackend | PostgresBackend) -> None:
    """The head row's epoch, which fences writers, must be that of the newest election."""
    await recorded_rows(database)
    schema = "{schema}." if isinstance(database, PostgresBackend) else ""
    database.execute(f"UPDATE {schema}log_head SET epoch = epoch + 1")
    (problem,) = (await verified(database)).problems
    assert (problem.kind, problem.position) == (ProblemKind.HEAD, STORY_LENGTH)
    assert "the epoch of the head row differs" in problem.text


@pytest.mark.parametrize("name", ["command_index", "recorded_at_ns"])
async def test_commands_and_timestamps_out_of_order_are_found(backend: Backend, name: str) -> None:
    """A wrong command index and a timestamp before the previous one are found."""
    rows = await recorded_rows(backend)
    put(backend, rewritten(rows, 9, lambda row: row.state, **{name: 3}))
    kind = ProblemKind.COMMAND if name == "command_index" else ProblemKind.TIME
    assert found(await verified(backend)) == [(kind, 9)]


async def test_a_command_recorded_twice_is_found(exchange_id: str) -> None:
    """A repeated command id is reported at the second position (databases have a unique index against it)."""
    backend = MemoryBackend(exchange_id)
    rows = await recorded_rows(backend)
    put(backend, rewritten(rows, 9, lambda row: row.state, command_id=rows[3].command_id))
    assert found(await verified(backend)) == [(ProblemKind.REPEATED, 9)]


async def test_a_repeated_position_is_found(exchange_id: str) -> None:
    """A second row at a position is reported (databases have a key against it)."""
    backend = MemoryBackend(exchange_id)
    rows = await recorded_rows(backend)
    backend.insert((9, *backend.row(rows[10])[1:]))
    assert (ProblemKind.REPEATED, 9) in found(await verified(backend))


async def test_a_stale_or_missing_stream_entry_is_found(database: SQLiteBackend | PostgresBackend) -> None:
    """The table of streams, which writers rely on, is checked: a missing or low entry is reported at the first event that
    it lacks, and so is an entry without events.
    """
    await recorded_rows(database)
    schema = "{schema}." if isinstance(database, PostgresBackend) else ""
    database.execute(f"UPDATE {schema}log_stream SET version = 2 WHERE stream_id = 'intent:a'")
    assert found(await verified(database)) == [(ProblemKind.STREAM, 6)]
    database.execute(f"DELETE FROM {schema}log_stream WHERE stream_id = 'intent:b'")
    assert found(await verified(database)) == [(ProblemKind.STREAM, 6), (ProblemKind.STREAM, 8)]
    database.execute(f"UPDATE {schema}log_stream SET stream_id = 'intent:c' WHERE stream_id = 'intent:a'")
    report = await verified(database)
    assert found(report) == [(ProblemKind.STREAM, 4), (ProblemKind.STREAM, 8), (ProblemKind.STREAM, None)]
    assert "intent:c" in report.problems[2].text


async def test_the_log_id_must_agree(database: SQLiteBackend | PostgresBackend) -> None:
    """The head row's log id must be that of the first event."""
    await recorded_rows(database)
    schema = "{schema}." if isinstance(database, PostgresBackend) else ""
    database.execute(f"UPDATE {schema}log_head SET log_id = '0000000000000000'")
    assert (ProblemKind.HEAD, 1) in found(await verified(database, content=True))


async def test_events_appended_meanwhile_are_no_problem(backend: Backend) -> None:
    """Events appended during a verification cause no false problem."""
    async with backend.open() as log:
        await Story(log).record_all()
        read = log.read

        async def growing(after: int = 0, upto: int | None = None) -> Any:
            async for rows in read(after, upto):
                await log.append(an_append("late"))
                yield rows

        log.read = growing  # type: ignore[method-assign]
        report = await verify(log, content=False)
    assert (report.ok, report.position) == (True, STORY_LENGTH)


async def test_small_caches_change_nothing(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Evicted versions and books are read again: the result does not depend on the cache sizes."""
    rows = await recorded_rows(backend)
    monkeypatch.setattr("replay.audit.rows.RECENT_MAX", 0)
    monkeypatch.setattr("projections.state.RetentionPolicy", lambda: RetentionPolicy(intents_max=0, every_positions=1))
    monkeypatch.setattr("replay.audit.events.TOPICS_MAX", 0)
    assert (await verified(backend)).ok
    put(backend, rewritten(rows, 17, lambda row: row.state, version=9))
    assert (ProblemKind.STREAM, 17) in found(await verified(backend))


def forged(row: StoredRow, before: StoredRow, **changed: Any) -> StoredRow:
    """A row with changed columns and matching hashes, to follow another."""
    columns = {name: getattr(row, name) for name in COLUMNS} | {"position": before.position + 1} | changed
    leaf = hashing.leaf_hash(StoredRow(**columns))
    chain = hashing.chain_hash(before.chain_hash, columns["position"], leaf)
    return StoredRow(**columns | {"leaf_hash": leaf, "chain_hash": chain})


def rewritten(
    rows: list[StoredRow], position: int, state: Callable[[StoredRow], bytes], **changed: Any
) -> list[StoredRow]:
    """The rows with one changed and all later hashes recomputed."""
    made = rows[: position - 1]
    for row in rows[position - 1 :]:
        other = {"state": state(row), **changed} if row.position == position else {}
        before = made[-1] if made else row._replace(position=0, chain_hash=hashing.GENESIS)
        made.append(forged(row, before, **other))
    return made


def put(backend: Backend, rows: list[StoredRow]) -> None:
    """Replace the rows of a store."""
    backend.delete(above=0, upto=len(rows))
    for row in rows:
        backend.insert(backend.row(row))
    backend.set_head(rows[-1].position, rows[-1].chain_hash)
