CREATE TABLE log (
        position INTEGER PRIMARY KEY,
        stream_id TEXT NOT NULL,
        version INTEGER NOT NULL,
        topic TEXT NOT NULL,
        schema_version INTEGER NOT NULL,
        recorded_at_ns INTEGER NOT NULL,
        command_id BLOB NOT NULL,
        command_index INTEGER NOT NULL,
        meta TEXT NOT NULL,
        state TEXT NOT NULL,
        leaf_hash BLOB NOT NULL,
        chain_hash BLOB NOT NULL
    ) STRICT;
CREATE UNIQUE INDEX log_by_stream ON log (stream_id, version);
CREATE UNIQUE INDEX log_by_command ON log (command_id) WHERE command_index = 0;
CREATE TABLE log_head (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        position INTEGER NOT NULL,
        chain_hash BLOB NOT NULL,
        epoch INTEGER NOT NULL,
        recorded_at_ns INTEGER NOT NULL,
        layout_version INTEGER NOT NULL,
        exchange_id TEXT NOT NULL,
        log_id TEXT NOT NULL
    ) STRICT;
CREATE TABLE log_stream (stream_id TEXT PRIMARY KEY, version INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TRIGGER log_no_update BEFORE UPDATE ON log
        BEGIN SELECT RAISE(ABORT, 'the log is append-only: no update'); END;
CREATE TRIGGER log_head_no_delete BEFORE DELETE ON log_head
        BEGIN SELECT RAISE(ABORT, 'the head of the log stays'); END;
CREATE TRIGGER log_stream_no_delete BEFORE DELETE ON log_stream
        BEGIN SELECT RAISE(ABORT, 'the streams of the log stay'); END;
CREATE INDEX log_by_client_order_id ON log (json_extract(state, '$.client_order_id')) WHERE topic IN ('AttemptStarted') AND json_valid(state);
CREATE INDEX log_by_exchange_order_id ON log (json_extract(state, '$.exchange_order_id')) WHERE topic IN ('OrderAccepted', 'OrderCanceled', 'OrderExpired', 'OrderFilled', 'OrderModified', 'OrderRejected', 'OrderStateObserved', 'OrderTriggered') AND json_valid(state);
CREATE TABLE log_segment (
        first_position INTEGER PRIMARY KEY,
        last_position INTEGER NOT NULL,
        previous_hash BLOB NOT NULL,
        last_hash BLOB NOT NULL,
        uri TEXT NOT NULL,
        file_sha256 TEXT NOT NULL
    ) STRICT;
CREATE TABLE log_cut_command (
        command_id BLOB PRIMARY KEY,
        first_position INTEGER NOT NULL,
        last_position INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
CREATE TABLE log_cut_name (
        field TEXT NOT NULL,
        value TEXT NOT NULL,
        position INTEGER NOT NULL,
        stream_id TEXT NOT NULL,
        PRIMARY KEY (field, value, position)
    ) STRICT, WITHOUT ROWID;
CREATE INDEX log_cut_command_by_position ON log_cut_command (first_position);
CREATE INDEX log_cut_name_by_position ON log_cut_name (position);
CREATE TRIGGER log_no_delete BEFORE DELETE ON log
        WHEN NOT EXISTS (SELECT 1 FROM log_segment WHERE OLD.position BETWEEN first_position AND last_position)
        BEGIN SELECT RAISE(ABORT, 'the log is append-only: no delete'); END;
CREATE TRIGGER log_segment_follows BEFORE INSERT ON log_segment
        WHEN NEW.first_position <> (SELECT COALESCE(max(last_position), 0) + 1 FROM log_segment)
            OR NEW.last_position < NEW.first_position
            OR NEW.last_position >= (SELECT position FROM log_head)
            OR NEW.last_hash IS NOT (SELECT chain_hash FROM log WHERE position = NEW.last_position)
        BEGIN SELECT RAISE(ABORT, 'the log is append-only: no such part of it'); END;
CREATE TRIGGER log_segment_no_update BEFORE UPDATE ON log_segment
        BEGIN SELECT RAISE(ABORT, 'the log is append-only: no update'); END;
CREATE TRIGGER log_segment_no_delete BEFORE DELETE ON log_segment
        WHEN OLD.last_position < (SELECT max(last_position) FROM log_segment)
            OR (SELECT count(*) FROM log WHERE position BETWEEN OLD.first_position AND OLD.last_position)
            <> OLD.last_position - OLD.first_position + 1
        BEGIN SELECT RAISE(ABORT, 'the log is append-only: these rows are archived'); END;
CREATE TRIGGER log_cut_command_no_update BEFORE UPDATE ON log_cut_command
        BEGIN SELECT RAISE(ABORT, 'the log is append-only: no update'); END;
CREATE TRIGGER log_cut_command_no_delete BEFORE DELETE ON log_cut_command
        WHEN NOT EXISTS (SELECT 1 FROM log WHERE command_id = OLD.command_id AND command_index = 0)
        BEGIN SELECT RAISE(ABORT, 'the log is append-only: this command is archived'); END;
CREATE TRIGGER log_cut_name_no_update BEFORE UPDATE ON log_cut_name
        BEGIN SELECT RAISE(ABORT, 'the log is append-only: no update'); END;
CREATE TRIGGER log_cut_name_no_delete BEFORE DELETE ON log_cut_name
        WHEN NOT EXISTS (SELECT 1 FROM log WHERE position = OLD.position)
        BEGIN SELECT RAISE(ABORT, 'the log is append-only: this id is archived'); END;
INSERT INTO log_head VALUES (1, 0, zeroblob(32), 0, 0, 2, '', '');
