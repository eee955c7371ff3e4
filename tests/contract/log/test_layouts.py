"""Table layouts: a new log has layout 1, and logs of version 0.1.0 can be opened.

`tests/golden/layouts` has dumps of layout 2 as 0.1.0 created it, on SQLite and PostgreSQL. A log whose first events are
archived is refused: it must never be read as if it began later.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any, LiteralString, cast

import psycopg
import pytest
from eventsourcing.persistence import InfrastructureFactory
from eventsourcing.utils import Environment
from psycopg.conninfo import conninfo_to_dict

from kernel.errors import ConflictError, SchemaError
from kernel.events import OrderAccepted
from kernel.log import open_log
from kernel.log.factory import exchange_at
from projections import State
from replay import backup_log, export_log, rebuild, restore_log, verify
from replay.log_access.log_reader import fold
from tests.commands import an_append, collect
from tests.contract.backends import PostgresBackend, SQLiteBackend
from tests.stories import STORY_LENGTH, Story

Database = SQLiteBackend | PostgresBackend
LAYOUTS = Path(__file__).parents[2] / "golden" / "layouts"
TABLES = {"log", "log_head", "log_stream"}
ARCHIVED = 5
"""Positions that `archive` moves."""


def ask(database: Database, statement: LiteralString) -> list[tuple[Any, ...]]:
    """Return a statement's rows; `{schema}.` qualifies each table."""
    if isinstance(database, SQLiteBackend):
        with closing(sqlite3.connect(database.path)) as connection:
            return connection.execute(statement.replace("{schema}.", "")).fetchall()
    with psycopg.connect(database.url) as connection:
        placed = statement.replace("{schema}", f'"{database.schema}"')
        return connection.execute(cast(LiteralString, placed)).fetchall()


def run(database: Database, statement: str) -> None:
    """Run a statement with the log's triggers; `{schema}.` qualifies each table."""
    placed = statement.replace("{schema}.", "") if isinstance(database, SQLiteBackend) else statement
    database.execute(placed, guarded=True)


@pytest.fixture
def older(database: Database) -> Database:
    """Empty tables of layout 2."""
    if isinstance(database, SQLiteBackend):
        with closing(sqlite3.connect(database.path)) as connection:
            connection.executescript((LAYOUTS / "layout_2.sqlite.sql").read_text())
    else:
        script = (LAYOUTS / "layout_2.postgres.sql").read_text().replace("log_LAYOUT_2", database.schema)
        with psycopg.connect(database.url, autocommit=True) as connection:
            connection.execute(cast(LiteralString, script))
    return database


async def archive(database: Database) -> list[tuple[Any, ...]]:
    """Archive the first positions as version 0.1.0 did, and return the remaining rows."""
    async with database.open() as log:
        await Story(log).record_all()
    zeros = "zeroblob(32)" if isinstance(database, SQLiteBackend) else "decode(repeat('00', 32), 'hex')"
    run(
        database,
        f"INSERT INTO {{schema}}.log_segment SELECT 1, position, {zeros}, chain_hash, '/archives/1.gz', 'ab' "
        f"FROM {{schema}}.log WHERE position = {ARCHIVED}",
    )
    run(database, f"DELETE FROM {{schema}}.log WHERE position <= {ARCHIVED}")
    rows = ask(database, "SELECT * FROM {schema}.log ORDER BY position")
    assert len(rows) == STORY_LENGTH - ARCHIVED
    return rows


async def test_a_new_log_has_no_tables_for_archives(database: Database) -> None:
    """A new log has layout 1, which version 0.1.0 can open."""
    await database.open().close()
    assert ask(database, "SELECT layout_version FROM {schema}.log_head") == [(1,)]
    if isinstance(database, SQLiteBackend):
        found = ask(database, "SELECT name FROM sqlite_master WHERE type = 'table'")
    else:
        with psycopg.connect(database.url) as connection:
            query = "SELECT tablename FROM pg_tables WHERE schemaname = %s"
            found = connection.execute(query, (database.schema,)).fetchall()
    assert {name for (name,) in found} == TABLES


async def test_a_log_of_layout_2_goes_on(older: Database, tmp_path: Path) -> None:
    """A log of layout 2 is written, read, verified, rebuilt and exported like a new one, and keeps its layout."""
    async with older.open() as log:
        story = Story(log)
        await story.lead()
        await story.send("a", 1, cause=await story.place("a"))
        await story.report("a", OrderAccepted)
        filled_at = await story.fill("a", 60, "t1", fee=3, fee_asset="Y")
    async with older.open() as log:
        assert (await verify(log)).ok
        assert await log.intent_ids_of(exchange_order_id="o-a", upto=filled_at) == ["a"]
        first = an_append("x", count=3)
        assert (await log.append(first)).first_position == filled_at + 1
    async with older.open() as log:
        assert (await log.append(first)).duplicate
        with pytest.raises(ConflictError):
            await log.append(an_append("x", expected=1))
        assert (await log.append(an_append("x", expected=3))).first_position == filled_at + 4
        assert [event.position for event in await collect(log, upto=filled_at + 4)] == [*range(1, filled_at + 5)]
        assert (await rebuild(log)).digest == (await fold(log, State())).digest()
        assert (await export_log(log, tmp_path / "log.jsonl")).last_position == filled_at + 4
    assert ask(older, "SELECT layout_version FROM {schema}.log_head") == [(2,)]
    with pytest.raises(Exception, match="append-only"):
        run(older, "DELETE FROM {schema}.log WHERE position = 1")


@pytest.mark.parametrize(
    "use",
    [
        lambda url, name, _: open_log(url, exchange_id=name),
        lambda url, name, _: open_log(url, exchange_id=name, check_end=False),
        lambda url, name, _: verify(url, exchange_id=name),
        lambda url, name, _: rebuild(url, exchange_id=name),
        lambda url, name, path: backup_log(url, path / "copy", exchange_id=name),
        lambda url, name, path: export_log(url, path / "copy", exchange_id=name),
    ],
)
async def test_an_archived_log_is_refused(
    older: Database, tmp_path: Path, use: Callable[[str, str, Path], Awaitable[object]]
) -> None:
    """Opening an archived log fails with the archive's file and the remedy; nothing is written or copied."""
    rows = await archive(older)
    remedy = rf"positions 1 to {ARCHIVED} .*version 0\.1\.0.*orderctl archive --restore /archives/1\.gz"
    with pytest.raises(SchemaError, match=remedy):
        await use(older.url, older.exchange_id, tmp_path)
    assert ask(older, "SELECT * FROM {schema}.log ORDER BY position") == rows
    assert not (tmp_path / "copy").exists()


async def test_an_archived_log_is_refused_to_the_library(older: Database) -> None:
    """The library gets no recorder on an archived log, which it would read as if it were complete."""
    await archive(older)
    if isinstance(older, SQLiteBackend):
        environment = {
            "PERSISTENCE_MODULE": "kernel.log.backends.library:SQLiteRecorderFactory",
            "SQLITE_DBNAME": str(older.path),
        }
    else:
        server = conninfo_to_dict(older.url)
        keys = {"DBNAME": "dbname", "HOST": "host", "PORT": "port", "USER": "user", "PASSWORD": "password"}
        environment = {f"POSTGRES_{name}": str(server.get(key) or "") for name, key in keys.items()}
        environment |= {
            "PERSISTENCE_MODULE": "kernel.log.backends.postgres_library:PostgresRecorderFactory",
            "POSTGRES_SCHEMA": older.schema,
        }
    factory: InfrastructureFactory[Any] = InfrastructureFactory.construct(Environment("x", environment))
    try:
        with pytest.raises(SchemaError, match="archive --restore"):
            factory.application_recorder()
    finally:
        factory.close()


async def test_a_backup_of_an_archived_log_is_not_restored(tmp_path: Path) -> None:
    """A copy of an archived file is refused before it is moved into place."""
    database = SQLiteBackend("x", tmp_path / "log.db")
    with closing(sqlite3.connect(database.path)) as connection:
        connection.executescript((LAYOUTS / "layout_2.sqlite.sql").read_text())
    await archive(database)
    with pytest.raises(SchemaError, match="archive --restore"):
        exchange_at(database.url)
    with pytest.raises(SchemaError, match="archive --restore"):
        await restore_log(database.path, f"sqlite:///{tmp_path}/back.db", exchange_id="x")
    assert not (tmp_path / "back.db").exists()
