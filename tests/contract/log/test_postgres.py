"""A log in PostgreSQL: durability settings, schemas, notifications, and reading it with psql."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import psycopg
import pytest

from kernel.errors import KernelError, NotFoundError, SchemaError
from kernel.log import EventLog, LogSettings, open_log
from kernel.log.backends.postgres import PostgresRecorder
from kernel.log.factory import without_password
from tests.commands import an_append
from tests.contract.backends import PostgresBackend


@pytest.fixture
def schema(exchange_id: str, postgres_url: str) -> PostgresBackend:
    """A store without a log."""
    return PostgresBackend(exchange_id, postgres_url)


def recorder_of(log: EventLog) -> PostgresRecorder:
    """Return a log's recorder."""
    recorder = getattr(log, "recorder", None)
    assert isinstance(recorder, PostgresRecorder)
    return recorder


async def test_commits_are_synced(schema: PostgresBackend) -> None:
    """The writer's session has `synchronous_commit=on`, whatever the URL or the server sets."""
    url = schema.url + ("&" if "?" in schema.url else "?") + "options=-c%20synchronous_commit%3Doff"
    async with open_log(url, exchange_id=schema.exchange_id) as log:
        connection = recorder_of(log)._writer_connection()
        assert connection.execute("SHOW synchronous_commit").fetchone() == ("on",)
        assert connection.execute("SHOW default_transaction_isolation").fetchone() == ("read committed",)


async def test_the_session_user_is_recorded(schema: PostgresBackend) -> None:
    """Each event has the database user that wrote it."""
    async with schema.open() as log:
        await log.append(an_append("a"))
        (event,) = await log.read_stream("intent:a")
        with psycopg.connect(schema.url) as connection:
            assert connection.execute("SELECT session_user::text").fetchone() == (event.envelope.origin.session_user,)


async def test_accounts_share_a_server_and_nothing_else(schema: PostgresBackend) -> None:
    """Logs of two accounts count from 1 each; no tail sees the other log's events."""
    other = PostgresBackend(schema.exchange_id + "_2", schema.url)
    async with schema.open() as one, other.open() as two:
        assert one.log_id != two.log_id
        await one.append(an_append("x", count=3))
        await two.append(an_append("y"))
        assert [(await log.head()).position for log in (one, two)] == [4, 2]
        streams = [event.stream_id for event in await anext(aiter(two.tail(1)))]
        assert streams == ["intent:y"]


async def test_without_create_a_missing_log_is_not_found(schema: PostgresBackend) -> None:
    """Without `create` a missing log is not found, and no schema is created."""
    with pytest.raises(NotFoundError):
        open_log(schema.url, exchange_id=schema.exchange_id, create=False)
    with psycopg.connect(schema.url) as connection:
        found = connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (schema.schema,)).fetchone()
    assert found is None
    await schema.open().close()
    await open_log(schema.url, exchange_id=schema.exchange_id, create=False).close()


async def test_a_schema_that_holds_something_else(schema: PostgresBackend) -> None:
    """A schema with the log's name and other tables is refused and not changed."""
    schema.execute("CREATE SCHEMA {schema}")
    schema.execute("CREATE TABLE {schema}.other (x int)")
    with pytest.raises(KernelError, match="is not a log of this software"):
        schema.open()


async def test_newer_tables_are_refused(schema: PostgresBackend) -> None:
    """A newer table layout is a schema error."""
    await schema.open().close()
    schema.execute("UPDATE {schema}.log_head SET layout_version = 99")
    with pytest.raises(SchemaError, match="99"):
        schema.open()


async def test_the_log_is_readable_by_hand(schema: PostgresBackend) -> None:
    """`psql` shows meta and state as JSON text and can query them."""
    async with schema.open() as log:
        await log.append(an_append("a"))
    with psycopg.connect(schema.url) as connection:
        query = f"SELECT meta::json->>'actor', state FROM \"{schema.schema}\".log WHERE position = 2"
        row: Any = connection.execute(query.encode()).fetchone()
    assert row[0] == "strategy:test"
    assert json.loads(row[1]) == {"generation": 2, "intent_id": "a", "requested_at_ns": 5}


async def test_a_lost_listener_is_replaced(schema: PostgresBackend) -> None:
    """When the server ends the listening session, a tail still sees other processes' commits."""
    async with schema.open(settings=LogSettings(listen_fallback_s=0.1)) as log, schema.open() as other:
        tail = log.tail(1)
        for position in (2, 3, 4):
            waiting = asyncio.ensure_future(anext(aiter(tail)))
            await asyncio.wait([waiting], timeout=0.02)
            _end_listeners(schema)
            await other.append(an_append("a"))
            (event,) = await asyncio.wait_for(waiting, 60)
            assert event.position == position


def _end_listeners(schema: PostgresBackend) -> None:
    with psycopg.connect(schema.url, autocommit=True) as connection:
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'")


async def test_a_lost_notification_costs_a_moment(schema: PostgresBackend) -> None:
    """A commit without a notification is found after the fallback interval."""
    async with schema.open(settings=LogSettings(listen_fallback_s=0.05)) as log, schema.open() as other:
        listener: Any = getattr(log, "_listener", None)
        listener._foreign = lambda connection: bool(connection.pgconn.consume_input())
        tail = log.tail(1)
        waiting = asyncio.ensure_future(anext(aiter(tail)))
        await asyncio.wait([waiting], timeout=0.02)
        await other.append(an_append("a"))
        (event,) = await asyncio.wait_for(waiting, 60)
        assert event.position == 2


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:secret@host/db", "postgresql://me@host/db"),
        ("postgresql://me@host/db?password=secret&port=1", "postgresql://me@host/db?password=…&port=1"),
        ("postgresql:///db?host=/tmp/x", "postgresql:///db?host=/tmp/x"),
        ("host=/tmp/x user=me password='secret & more'", "host=/tmp/x user=me password=…"),
    ],
)
def test_no_password_is_shown(url: str, shown: str) -> None:
    """A log's URL can be printed without its password."""
    assert without_password(url) == shown
