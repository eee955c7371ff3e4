"""The SQL of `cutting` on SQLite: tables that say what was archived, and triggers that let go of that and of nothing else.

Used by `sqlite` alone. `LAYOUT_2` is what a new log has beside the tables of layout 1, and what a migration adds.
"""

from __future__ import annotations

from kernel.log.recorder import LAYOUT_VERSION, NAMING_TOPICS, CutStatements
from kernel.log.records import COLUMNS

NAMED = {
    field: "topic IN (" + ", ".join(f"'{topic}'" for topic in topics) + ") AND json_valid(state)"
    for field, topics in NAMING_TOPICS.items()
}
"""Which rows may name an id; the index and the question must say so alike."""
LAYOUT_2 = (
    *(
        f"CREATE INDEX IF NOT EXISTS log_by_{field} ON log (json_extract(state, '$.{field}')) WHERE {NAMED[field]}"
        for field in NAMING_TOPICS
    ),
    """CREATE TABLE IF NOT EXISTS log_segment (
        first_position INTEGER PRIMARY KEY,
        last_position INTEGER NOT NULL,
        previous_hash BLOB NOT NULL,
        last_hash BLOB NOT NULL,
        uri TEXT NOT NULL,
        file_sha256 TEXT NOT NULL
    ) STRICT""",
    """CREATE TABLE IF NOT EXISTS log_cut_command (
        command_id BLOB PRIMARY KEY,
        first_position INTEGER NOT NULL,
        last_position INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS log_cut_name (
        field TEXT NOT NULL,
        value TEXT NOT NULL,
        position INTEGER NOT NULL,
        stream_id TEXT NOT NULL,
        PRIMARY KEY (field, value, position)
    ) STRICT, WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS log_cut_command_by_position ON log_cut_command (first_position)",
    "CREATE INDEX IF NOT EXISTS log_cut_name_by_position ON log_cut_name (position)",
    "DROP TRIGGER IF EXISTS log_no_delete",
    """CREATE TRIGGER log_no_delete BEFORE DELETE ON log
        WHEN NOT EXISTS (SELECT 1 FROM log_segment WHERE OLD.position BETWEEN first_position AND last_position)
        BEGIN SELECT RAISE(ABORT, 'the log is append-only: no delete'); END""",
    """CREATE TRIGGER IF NOT EXISTS log_segment_follows BEFORE INSERT ON log_segment
        WHEN NEW.first_position <> (SELECT COALESCE(max(last_position), 0) + 1 FROM log_segment)
            OR NEW.last_position < NEW.first_position
            OR NEW.last_position >= (SELECT position FROM log_head)
            OR NEW.last_hash IS NOT (SELECT chain_hash FROM log WHERE position = NEW.last_position)
        BEGIN SELECT RAISE(ABORT, 'the log is append-only: no such part of it'); END""",
    """CREATE TRIGGER IF NOT EXISTS log_segment_no_update BEFORE UPDATE ON log_segment
        BEGIN SELECT RAISE(ABORT, 'the log is append-only: no update'); END""",
    """CREATE TRIGGER IF NOT EXISTS log_segment_no_delete BEFORE DELETE ON log_segment
        WHEN OLD.last_position < (SELECT max(last_position) FROM log_segment)
            OR (SELECT count(*) FROM log WHERE position BETWEEN OLD.first_position AND OLD.last_position)
            <> OLD.last_position - OLD.first_position + 1
        BEGIN SELECT RAISE(ABORT, 'the log is append-only: these rows are archived'); END""",
    """CREATE TRIGGER IF NOT EXISTS log_cut_command_no_update BEFORE UPDATE ON log_cut_command
        BEGIN SELECT RAISE(ABORT, 'the log is append-only: no update'); END""",
    """CREATE TRIGGER IF NOT EXISTS log_cut_command_no_delete BEFORE DELETE ON log_cut_command
        WHEN NOT EXISTS (SELECT 1 FROM log WHERE command_id = OLD.command_id AND command_index = 0)
        BEGIN SELECT RAISE(ABORT, 'the log is append-only: this command is archived'); END""",
    """CREATE TRIGGER IF NOT EXISTS log_cut_name_no_update BEFORE UPDATE ON log_cut_name
        BEGIN SELECT RAISE(ABORT, 'the log is append-only: no update'); END""",
    """CREATE TRIGGER IF NOT EXISTS log_cut_name_no_delete BEFORE DELETE ON log_cut_name
        WHEN NOT EXISTS (SELECT 1 FROM log WHERE position = OLD.position)
        BEGIN SELECT RAISE(ABORT, 'the log is append-only: this id is archived'); END""",
)
GUARD = """CREATE TRIGGER IF NOT EXISTS log_cut_guard BEFORE INSERT ON log
    WHEN NEW.position > (SELECT max(last_position) FROM log_segment) AND (
        (NEW.command_index = 0 AND EXISTS (SELECT 1 FROM log_cut_command WHERE command_id = NEW.command_id))
        OR NEW.version <= (SELECT version FROM log_stream WHERE stream_id = NEW.stream_id))
    BEGIN SELECT RAISE(ABORT, 'it is in the part of the log that is archived'); END"""

SELECT_CUT_COMMAND = "SELECT first_position, last_position FROM log_cut_command WHERE command_id = ?"
PLACES = ", ".join(f"CAST(?{at} AS TEXT)" if c in ("meta", "state") else f"?{at}" for at, c in enumerate(COLUMNS, 1))
CUT = CutStatements(
    migrate=(*LAYOUT_2, f"UPDATE log_head SET layout_version = {LAYOUT_VERSION}"),
    segments="SELECT * FROM log_segment ORDER BY first_position",
    stream_version="SELECT version FROM log_stream WHERE stream_id = ?",
    add_command="INSERT INTO log_cut_command VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
    add_name="INSERT INTO log_cut_name SELECT :field, :value, :position, :stream_id WHERE :stream_id IS NOT ("
    "SELECT stream_id FROM log_cut_name WHERE field = :field AND value = :value ORDER BY position DESC LIMIT 1) "
    "ON CONFLICT DO NOTHING",
    named="SELECT stream_id FROM log_cut_name WHERE field = ? AND value = ? AND position <= ? "
    "ORDER BY position DESC LIMIT 1",
    add_segment="INSERT INTO log_segment VALUES (?, ?, ?, ?, ?, ?)",
    guard=(GUARD,),
    delete_rows="DELETE FROM log WHERE position BETWEEN ? AND ?",
    put_row=f"INSERT INTO log VALUES ({PLACES}) ON CONFLICT (position) DO NOTHING",
    repeated="SELECT position, first_position FROM log JOIN log_cut_command USING (command_id) "
    "WHERE position > ? AND position <= ? AND command_index = 0 AND first_position < position",
    commands="SELECT * FROM log_cut_command WHERE first_position > ? AND first_position <= ?",
    names="SELECT position, field, value, stream_id FROM log_cut_name WHERE position > ? AND position <= ?",
    remove_commands="DELETE FROM log_cut_command WHERE first_position BETWEEN ? AND ?",
    remove_names="DELETE FROM log_cut_name WHERE position BETWEEN ? AND ?",
    remove_segment="DELETE FROM log_segment WHERE first_position = ? AND last_position = ?",
    unguard="DROP TRIGGER IF EXISTS log_cut_guard",
)
