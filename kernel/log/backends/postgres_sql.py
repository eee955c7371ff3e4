"""The tables and statements of a log on PostgreSQL.

Identifiers are composed, values are parameters. Text is collated "C": the fastest, with the same order on every machine.
"""

from __future__ import annotations

from typing import Any, Final, LiteralString

from psycopg.sql import SQL, Composed, Identifier, Literal

from kernel.log.engine.recorder import ARCHIVE_TABLE, NAMING_TOPICS
from kernel.log.engine.records import COLUMNS

CONNECTION_DEFAULTS: Final[dict[str, Any]] = {
    "application_name": "exchange-kernel",
    "connect_timeout": "10",
    "keepalives": "1",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "15000",
}
"""Time-outs that notice a dead connection, unless the URL sets others."""

SET_SESSION = """
    SET synchronous_commit = on;
    SET default_transaction_isolation = 'read committed';
    SET client_encoding = 'UTF8';
    SET lock_timeout = '30s';
    SET idle_in_transaction_session_timeout = '10s'
"""
"""Durable whatever the server's default; a writer stopped in a transaction must not lock the head for ever."""

LOCK_CREATION = "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))"
"""Held while a schema's tables are created: `IF NOT EXISTS` alone fails for concurrent callers."""
WAIT_FOR_PAGES = "SET LOCAL idle_in_transaction_session_timeout = 0"
"""For a restore: its rows may arrive slowly, and nobody waits for tables that do not exist yet."""
TABLES = "SELECT table_name::text FROM information_schema.tables WHERE table_schema = %s"

EXCHANGES = """
    SELECT substr(table_schema, 5)::text FROM information_schema.tables
    WHERE table_schema LIKE 'log\\_%' AND table_name = 'log_head' ORDER BY 1
"""

NAMED: Final[dict[str, str]] = {
    field: r"""substring(state from '"FIELD":"((?:[^"\\]|\\.)*)"')""".replace("FIELD", field) for field in NAMING_TOPICS
}
"""The value of an id as written; JSON is not parsed, as users of the library may have written other bytes."""
NAMING: Final[dict[str, str]] = {
    field: "topic IN (" + ", ".join(f"'{topic}'" for topic in topics) + ")" for field, topics in NAMING_TOPICS.items()
}
"""Rows that may contain an id. Index and query must use the same expression."""

CREATE: Final[tuple[str, ...]] = (
    "CREATE SCHEMA IF NOT EXISTS {schema}",
    """CREATE TABLE IF NOT EXISTS {schema}.log (
        position bigint PRIMARY KEY,
        stream_id text COLLATE "C" NOT NULL,
        version bigint NOT NULL,
        topic text COLLATE "C" NOT NULL,
        schema_version bigint NOT NULL,
        recorded_at_ns bigint NOT NULL,
        command_id bytea NOT NULL,
        command_index bigint NOT NULL,
        meta text COLLATE "C" NOT NULL,
        state text COLLATE "C" NOT NULL,
        leaf_hash bytea NOT NULL,
        chain_hash bytea NOT NULL
    )""",
    "CREATE UNIQUE INDEX IF NOT EXISTS log_by_stream ON {schema}.log (stream_id, version)",
    "CREATE UNIQUE INDEX IF NOT EXISTS log_by_command ON {schema}.log (command_id) WHERE command_index = 0",
    *(
        f"CREATE INDEX IF NOT EXISTS log_by_{field} ON {{schema}}.log (({NAMED[field]})) WHERE {NAMING[field]}"
        for field in NAMING_TOPICS
    ),
    """CREATE TABLE IF NOT EXISTS {schema}.log_head (
        id int PRIMARY KEY CHECK (id = 1),
        position bigint NOT NULL,
        chain_hash bytea NOT NULL,
        epoch bigint NOT NULL,
        recorded_at_ns bigint NOT NULL,
        layout_version bigint NOT NULL,
        exchange_id text NOT NULL,
        log_id text NOT NULL
    ) WITH (fillfactor = 10)""",
    """CREATE TABLE IF NOT EXISTS {schema}.log_stream (
        stream_id text COLLATE "C" PRIMARY KEY,
        version bigint NOT NULL
    ) WITH (fillfactor = 70)""",
    """CREATE OR REPLACE FUNCTION {schema}.log_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION 'the log is append-only: no %', lower(TG_OP); END $$""",
    """CREATE OR REPLACE TRIGGER log_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {schema}.log
        FOR EACH STATEMENT EXECUTE FUNCTION {schema}.log_refuse()""",
    """CREATE OR REPLACE TRIGGER log_head_stays BEFORE DELETE OR TRUNCATE ON {schema}.log_head
        FOR EACH STATEMENT EXECUTE FUNCTION {schema}.log_refuse()""",
    """CREATE OR REPLACE TRIGGER log_stream_stays BEFORE DELETE OR TRUNCATE ON {schema}.log_stream
        FOR EACH STATEMENT EXECUTE FUNCTION {schema}.log_refuse()""",
)

INSERT_HEAD = "INSERT INTO {schema}.log_head VALUES (1, %s, %s, %s, %s, %s, '', '') ON CONFLICT DO NOTHING"
HEAD = "SELECT position, chain_hash, epoch, recorded_at_ns FROM {schema}.log_head"
IDENTITY = "SELECT exchange_id, log_id, layout_version FROM {schema}.log_head"
SET_IDENTITY = "UPDATE {schema}.log_head SET exchange_id = %s, log_id = %s"
KNOWN = """
    SELECT first.command_id, first.position, COALESCE(
        (SELECT next.position - 1 FROM {schema}.log next
         WHERE next.position > first.position AND next.command_id <> first.command_id
         ORDER BY next.position LIMIT 1),
        (SELECT head.position FROM {schema}.log_head head))
    FROM {schema}.log first WHERE first.command_id = ANY(%b::bytea[]) AND first.command_index = 0
"""
"""A command's events are adjacent: its last is the one before the next command's first."""
VERSIONS = "SELECT stream_id, version FROM {schema}.log_stream WHERE stream_id = ANY(%b::text[])"
STREAM_HEADS = """
    SELECT stream_id, (SELECT max(version) FROM {schema}.log WHERE log.stream_id = names.stream_id),
        (SELECT version FROM {schema}.log_stream WHERE log_stream.stream_id = names.stream_id)
    FROM (
        (SELECT stream_id FROM {schema}.log_stream WHERE stream_id > %(after)s ORDER BY stream_id LIMIT %(limit)s)
        UNION
        (SELECT DISTINCT stream_id FROM {schema}.log WHERE stream_id > %(after)s ORDER BY stream_id LIMIT %(limit)s)
    ) names ORDER BY stream_id LIMIT %(limit)s
"""
REPEATED_COMMANDS = """
    SELECT again.position, first.position FROM {schema}.log again CROSS JOIN LATERAL (
        SELECT min(position) AS position FROM {schema}.log WHERE command_id = again.command_id AND command_index = 0
    ) first WHERE again.position > %s AND again.position <= %s AND again.command_index = 0
        AND first.position < again.position
"""
INSERT_ROWS = """
    INSERT INTO {schema}.log SELECT * FROM unnest(
        %b::bigint[], %b::text[], %b::bigint[], %b::text[], %b::bigint[], %b::bigint[],
        %b::bytea[], %b::bigint[], %b::text[], %b::text[], %b::bytea[], %b::bytea[])
"""
UPSERT_STREAMS = """
    INSERT INTO {schema}.log_stream SELECT * FROM unnest(%b::text[], %b::bigint[])
    ON CONFLICT (stream_id) DO UPDATE SET version = excluded.version
"""
UPDATE_HEAD = """
    UPDATE {schema}.log_head SET position = %b, chain_hash = %b, epoch = %b, recorded_at_ns = %b
    RETURNING pg_notify({channel}, position::text)
"""
"""The server delivers one notification per commit, after it."""

APPEND = """
    WITH moved AS (
        UPDATE {schema}.log_head SET position = %b, chain_hash = %b, epoch = %b, recorded_at_ns = %b
        WHERE position = %b AND chain_hash = %b RETURNING pg_notify({channel}, position::text)
    ), added AS (
        INSERT INTO {schema}.log SELECT new.* FROM unnest(
            %b::bigint[], %b::text[], %b::bigint[], %b::text[], %b::bigint[], %b::bigint[],
            %b::bytea[], %b::bigint[], %b::text[], %b::text[], %b::bytea[], %b::bytea[]) new
        WHERE EXISTS (SELECT FROM moved)
    ), streams AS (
        INSERT INTO {schema}.log_stream SELECT new.* FROM unnest(%b::text[], %b::bigint[]) new
        WHERE EXISTS (SELECT FROM moved)
        ON CONFLICT (stream_id) DO UPDATE SET version = excluded.version
    )
    SELECT count(*) FROM moved
"""
"""A commit in one round trip for a writer that knows the head; does nothing if the head is another."""


class Statements:
    """Every statement, composed for one schema."""

    def __init__(self, schema: str) -> None:
        def composed(text: LiteralString) -> Composed:
            return SQL(text).format(schema=Identifier(schema), channel=Literal(schema))

        self.create = tuple(map(composed, CREATE))
        self.insert_head = composed(INSERT_HEAD)
        self.head = composed(HEAD)
        self.lock_head = composed(HEAD + " FOR UPDATE")
        self.identity = composed(IDENTITY)
        self.lock_identity = composed(IDENTITY + " FOR UPDATE")
        self.set_identity = composed(SET_IDENTITY)
        self.known = composed(KNOWN)
        self.archive = composed(f"SELECT last_position, uri FROM {{schema}}.{ARCHIVE_TABLE} ORDER BY 1 DESC LIMIT 1")
        self.versions = composed(VERSIONS)
        self.stream_heads = composed(STREAM_HEADS)
        self.repeated_commands = composed(REPEATED_COMMANDS)
        self.insert_rows = composed(INSERT_ROWS)
        self.upsert_streams = composed(UPSERT_STREAMS)
        self.update_head = composed(UPDATE_HEAD)
        self.append = composed(APPEND)
        self.listen = SQL("LISTEN {}").format(Identifier(schema))
        self.rows = composed("SELECT " + ", ".join(COLUMNS) + " FROM {schema}.log")
        self.naming = {
            field: composed(
                f"SELECT stream_id FROM {{schema}}.log WHERE {NAMED[field]} = %s AND {NAMING[field]} "
                "AND position <= %s GROUP BY stream_id ORDER BY max(position) DESC"
            )
            for field in NAMING_TOPICS
        }
