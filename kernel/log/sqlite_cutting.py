"""The SQL of `cutting` on SQLite: tables that say what was archived, and triggers that let go of that and of nothing else.

Used by `sqlite` alone. `LAYOUT_2` is what a new log has beside the tables of layout 1, and what a migration adds.
"""

from __future__ import annotations

from kernel.log.recorder import LAYOUT_VERSION, CutStatements
from kernel.log.records import COLUMNS

LAYOUT_2 = (
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
    add_segment="INSERT INTO log_segment VALUES (?, ?, ?, ?, ?, ?)",
    guard=(GUARD,),
    delete_rows="DELETE FROM log WHERE position BETWEEN ? AND ?",
    put_row=f"INSERT INTO log VALUES ({PLACES}) ON CONFLICT (position) DO NOTHING",
    remove_commands="DELETE FROM log_cut_command WHERE first_position BETWEEN ? AND ?",
    remove_segment="DELETE FROM log_segment WHERE first_position = ? AND last_position = ?",
    unguard="DROP TRIGGER IF EXISTS log_cut_guard",
)
