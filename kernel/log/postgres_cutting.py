"""The SQL of `cutting` on PostgreSQL: tables that say what was archived, and triggers that let go of that and nothing else.

Used by `postgres_tables`. `LAYOUT_2` is what a new log has beside the tables of layout 1, and what a migration adds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, LiteralString

from psycopg.sql import Composed

from kernel.log.recorder import NAMING_TOPICS, CutStatements

NAMED: Final[dict[str, str]] = {
    field: r"""substring(state from '"FIELD":"((?:[^"\\]|\\.)*)"')""".replace("FIELD", field) for field in NAMING_TOPICS
}
"""What an event names, as it is written: no JSON is parsed, as what somebody else wrote may be none."""
NAMING: Final[dict[str, str]] = {
    field: "topic IN (" + ", ".join(f"'{topic}'" for topic in topics) + ")" for field, topics in NAMING_TOPICS.items()
}
"""Which rows may name something; the index and the question must say so alike."""

LAYOUT_2: Final[tuple[str, ...]] = (
    *(
        f"CREATE INDEX IF NOT EXISTS log_by_{field} ON {{schema}}.log (({NAMED[field]})) WHERE {NAMING[field]}"
        for field in NAMING_TOPICS
    ),
    """CREATE TABLE IF NOT EXISTS {schema}.log_segment (
        first_position bigint PRIMARY KEY,
        last_position bigint NOT NULL,
        previous_hash bytea NOT NULL,
        last_hash bytea NOT NULL,
        uri text NOT NULL,
        file_sha256 text NOT NULL
    )""",
    """CREATE TABLE IF NOT EXISTS {schema}.log_cut_command (
        command_id bytea PRIMARY KEY,
        first_position bigint NOT NULL,
        last_position bigint NOT NULL
    )""",
    """CREATE TABLE IF NOT EXISTS {schema}.log_cut_name (
        field text COLLATE "C" NOT NULL,
        value text COLLATE "C" NOT NULL,
        position bigint NOT NULL,
        stream_id text COLLATE "C" NOT NULL,
        PRIMARY KEY (field, value, position)
    )""",
    "CREATE INDEX IF NOT EXISTS log_cut_command_by_position ON {schema}.log_cut_command (first_position)",
    "CREATE INDEX IF NOT EXISTS log_cut_name_by_position ON {schema}.log_cut_name (position)",
    """CREATE OR REPLACE TRIGGER log_append_only BEFORE UPDATE OR TRUNCATE ON {schema}.log
        FOR EACH STATEMENT EXECUTE FUNCTION {schema}.log_refuse()""",
    """CREATE OR REPLACE FUNCTION {schema}.log_refuse_delete() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF EXISTS (SELECT FROM {schema}.log_segment
                       WHERE OLD.position BETWEEN first_position AND last_position) THEN
                RETURN OLD;
            END IF;
            RAISE EXCEPTION 'the log is append-only: no delete';
        END $$""",
    """CREATE OR REPLACE TRIGGER log_no_delete BEFORE DELETE ON {schema}.log
        FOR EACH ROW EXECUTE FUNCTION {schema}.log_refuse_delete()""",
    """CREATE OR REPLACE FUNCTION {schema}.log_check_segment() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF TG_OP = 'INSERT' THEN
                IF NEW.first_position = (SELECT COALESCE(max(last_position), 0) + 1 FROM {schema}.log_segment)
                    AND NEW.last_position >= NEW.first_position
                    AND NEW.last_position < (SELECT position FROM {schema}.log_head)
                    AND NEW.last_hash = (SELECT chain_hash FROM {schema}.log WHERE position = NEW.last_position) THEN
                    RETURN NEW;
                END IF;
                RAISE EXCEPTION 'the log is append-only: no such part of it';
            END IF;
            IF OLD.last_position = (SELECT max(last_position) FROM {schema}.log_segment)
                AND (SELECT count(*) FROM {schema}.log WHERE position BETWEEN OLD.first_position AND OLD.last_position)
                = OLD.last_position - OLD.first_position + 1 THEN
                RETURN OLD;
            END IF;
            RAISE EXCEPTION 'the log is append-only: these rows are archived';
        END $$""",
    """CREATE OR REPLACE TRIGGER log_segment_check BEFORE INSERT OR DELETE ON {schema}.log_segment
        FOR EACH ROW EXECUTE FUNCTION {schema}.log_check_segment()""",
    """CREATE OR REPLACE TRIGGER log_segment_stays BEFORE UPDATE OR TRUNCATE ON {schema}.log_segment
        FOR EACH STATEMENT EXECUTE FUNCTION {schema}.log_refuse()""",
    """CREATE OR REPLACE FUNCTION {schema}.log_check_command() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF EXISTS (SELECT FROM {schema}.log WHERE command_id = OLD.command_id AND command_index = 0) THEN
                RETURN OLD;
            END IF;
            RAISE EXCEPTION 'the log is append-only: this command is archived';
        END $$""",
    """CREATE OR REPLACE TRIGGER log_cut_command_check BEFORE DELETE ON {schema}.log_cut_command
        FOR EACH ROW EXECUTE FUNCTION {schema}.log_check_command()""",
    """CREATE OR REPLACE TRIGGER log_cut_command_stays BEFORE UPDATE OR TRUNCATE ON {schema}.log_cut_command
        FOR EACH STATEMENT EXECUTE FUNCTION {schema}.log_refuse()""",
    """CREATE OR REPLACE FUNCTION {schema}.log_check_name() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF EXISTS (SELECT FROM {schema}.log WHERE position = OLD.position) THEN
                RETURN OLD;
            END IF;
            RAISE EXCEPTION 'the log is append-only: this id is archived';
        END $$""",
    """CREATE OR REPLACE TRIGGER log_cut_name_check BEFORE DELETE ON {schema}.log_cut_name
        FOR EACH ROW EXECUTE FUNCTION {schema}.log_check_name()""",
    """CREATE OR REPLACE TRIGGER log_cut_name_stays BEFORE UPDATE OR TRUNCATE ON {schema}.log_cut_name
        FOR EACH STATEMENT EXECUTE FUNCTION {schema}.log_refuse()""",
)
MIGRATED: LiteralString = "UPDATE {schema}.log_head SET layout_version = 2"
GUARD: tuple[LiteralString, ...] = (
    """CREATE OR REPLACE FUNCTION {schema}.log_check_new() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF NEW.position > (SELECT max(last_position) FROM {schema}.log_segment) AND (
                (NEW.command_index = 0
                    AND EXISTS (SELECT FROM {schema}.log_cut_command WHERE command_id = NEW.command_id))
                OR NEW.version <= (SELECT version FROM {schema}.log_stream WHERE stream_id = NEW.stream_id)) THEN
                RAISE EXCEPTION 'it is in the part of the log that is archived' USING ERRCODE = 'unique_violation';
            END IF;
            RETURN NEW;
        END $$""",
    """CREATE OR REPLACE TRIGGER log_cut_guard BEFORE INSERT ON {schema}.log
        FOR EACH ROW EXECUTE FUNCTION {schema}.log_check_new()""",
)
KNOWN_CUT: LiteralString = """
    UNION ALL SELECT command_id, first_position, last_position FROM {schema}.log_cut_command
    WHERE command_id = ANY(%b::bytea[])
"""
"""Added to the look-up of command ids."""


def cut_statements(composed: Callable[[LiteralString], Composed]) -> CutStatements:
    """The statements for a schema."""
    return CutStatements(
        migrate=tuple(map(composed, (*LAYOUT_2, MIGRATED))),
        segments=composed("SELECT * FROM {schema}.log_segment ORDER BY first_position"),
        stream_version=composed("SELECT version FROM {schema}.log_stream WHERE stream_id = %s"),
        add_command=composed("INSERT INTO {schema}.log_cut_command VALUES (%s, %s, %s) ON CONFLICT DO NOTHING"),
        add_name=composed(
            "INSERT INTO {schema}.log_cut_name SELECT %(field)s, %(value)s, %(position)s, %(stream_id)s "
            "WHERE %(stream_id)s IS DISTINCT FROM (SELECT stream_id FROM {schema}.log_cut_name "
            "WHERE field = %(field)s AND value = %(value)s ORDER BY position DESC LIMIT 1) ON CONFLICT DO NOTHING"
        ),
        named=composed(
            "SELECT stream_id FROM {schema}.log_cut_name WHERE field = %s AND value = %s AND position <= %s "
            "ORDER BY position DESC LIMIT 1"
        ),
        add_segment=composed("INSERT INTO {schema}.log_segment VALUES (%s, %s, %s, %s, %s, %s)"),
        guard=tuple(map(composed, GUARD)),
        delete_rows=composed("DELETE FROM {schema}.log WHERE position BETWEEN %s AND %s"),
        put_row=composed(
            "INSERT INTO {schema}.log VALUES (%s, %s, %s, %s, %s, %s, %s, %s, convert_from(%s, 'UTF8'), "
            "convert_from(%s, 'UTF8'), %s, %s) ON CONFLICT (position) DO NOTHING"
        ),
        repeated=composed(
            "SELECT position, first_position FROM {schema}.log JOIN {schema}.log_cut_command USING (command_id) "
            "WHERE position > %s AND position <= %s AND command_index = 0 AND first_position < position"
        ),
        commands=composed("SELECT * FROM {schema}.log_cut_command WHERE first_position > %s AND first_position <= %s"),
        names=composed(
            "SELECT position, field, value, stream_id FROM {schema}.log_cut_name WHERE position > %s AND position <= %s"
        ),
        remove_commands=composed("DELETE FROM {schema}.log_cut_command WHERE first_position BETWEEN %s AND %s"),
        remove_names=composed("DELETE FROM {schema}.log_cut_name WHERE position BETWEEN %s AND %s"),
        remove_segment=composed("DELETE FROM {schema}.log_segment WHERE first_position = %s AND last_position = %s"),
        unguard=composed("DROP TRIGGER IF EXISTS log_cut_guard ON {schema}.log"),
    )
