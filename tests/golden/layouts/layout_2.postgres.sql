CREATE SCHEMA "log_LAYOUT_2";
CREATE FUNCTION "log_LAYOUT_2".log_check_command() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
        BEGIN
            IF EXISTS (SELECT FROM "log_LAYOUT_2".log WHERE command_id = OLD.command_id AND command_index = 0) THEN
                RETURN OLD;
            END IF;
            RAISE EXCEPTION 'the log is append-only: this command is archived';
        END $$;
CREATE FUNCTION "log_LAYOUT_2".log_check_name() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
        BEGIN
            IF EXISTS (SELECT FROM "log_LAYOUT_2".log WHERE position = OLD.position) THEN
                RETURN OLD;
            END IF;
            RAISE EXCEPTION 'the log is append-only: this id is archived';
        END $$;
CREATE FUNCTION "log_LAYOUT_2".log_check_segment() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
        BEGIN
            IF TG_OP = 'INSERT' THEN
                IF NEW.first_position = (SELECT COALESCE(max(last_position), 0) + 1 FROM "log_LAYOUT_2".log_segment)
                    AND NEW.last_position >= NEW.first_position
                    AND NEW.last_position < (SELECT position FROM "log_LAYOUT_2".log_head)
                    AND NEW.last_hash = (SELECT chain_hash FROM "log_LAYOUT_2".log WHERE position = NEW.last_position) THEN
                    RETURN NEW;
                END IF;
                RAISE EXCEPTION 'the log is append-only: no such part of it';
            END IF;
            IF OLD.last_position = (SELECT max(last_position) FROM "log_LAYOUT_2".log_segment)
                AND (SELECT count(*) FROM "log_LAYOUT_2".log WHERE position BETWEEN OLD.first_position AND OLD.last_position)
                = OLD.last_position - OLD.first_position + 1 THEN
                RETURN OLD;
            END IF;
            RAISE EXCEPTION 'the log is append-only: these rows are archived';
        END $$;
CREATE FUNCTION "log_LAYOUT_2".log_refuse() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
        BEGIN RAISE EXCEPTION 'the log is append-only: no %', lower(TG_OP); END $$;
CREATE FUNCTION "log_LAYOUT_2".log_refuse_delete() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
        BEGIN
            IF EXISTS (SELECT FROM "log_LAYOUT_2".log_segment
                       WHERE OLD.position BETWEEN first_position AND last_position) THEN
                RETURN OLD;
            END IF;
            RAISE EXCEPTION 'the log is append-only: no delete';
        END $$;
CREATE TABLE "log_LAYOUT_2".log (
    "position" bigint NOT NULL,
    stream_id text NOT NULL COLLATE pg_catalog."C",
    version bigint NOT NULL,
    topic text NOT NULL COLLATE pg_catalog."C",
    schema_version bigint NOT NULL,
    recorded_at_ns bigint NOT NULL,
    command_id bytea NOT NULL,
    command_index bigint NOT NULL,
    meta text NOT NULL COLLATE pg_catalog."C",
    state text NOT NULL COLLATE pg_catalog."C",
    leaf_hash bytea NOT NULL,
    chain_hash bytea NOT NULL
);
CREATE TABLE "log_LAYOUT_2".log_cut_command (
    command_id bytea NOT NULL,
    first_position bigint NOT NULL,
    last_position bigint NOT NULL
);
CREATE TABLE "log_LAYOUT_2".log_cut_name (
    field text NOT NULL COLLATE pg_catalog."C",
    value text NOT NULL COLLATE pg_catalog."C",
    "position" bigint NOT NULL,
    stream_id text NOT NULL COLLATE pg_catalog."C"
);
CREATE TABLE "log_LAYOUT_2".log_head (
    id integer NOT NULL,
    "position" bigint NOT NULL,
    chain_hash bytea NOT NULL,
    epoch bigint NOT NULL,
    recorded_at_ns bigint NOT NULL,
    layout_version bigint NOT NULL,
    exchange_id text NOT NULL,
    log_id text NOT NULL,
    CONSTRAINT log_head_id_check CHECK ((id = 1))
)
WITH (fillfactor='10');
CREATE TABLE "log_LAYOUT_2".log_segment (
    first_position bigint NOT NULL,
    last_position bigint NOT NULL,
    previous_hash bytea NOT NULL,
    last_hash bytea NOT NULL,
    uri text NOT NULL,
    file_sha256 text NOT NULL
);
CREATE TABLE "log_LAYOUT_2".log_stream (
    stream_id text NOT NULL COLLATE pg_catalog."C",
    version bigint NOT NULL
)
WITH (fillfactor='70');
ALTER TABLE ONLY "log_LAYOUT_2".log_cut_command
    ADD CONSTRAINT log_cut_command_pkey PRIMARY KEY (command_id);
ALTER TABLE ONLY "log_LAYOUT_2".log_cut_name
    ADD CONSTRAINT log_cut_name_pkey PRIMARY KEY (field, value, "position");
ALTER TABLE ONLY "log_LAYOUT_2".log_head
    ADD CONSTRAINT log_head_pkey PRIMARY KEY (id);
ALTER TABLE ONLY "log_LAYOUT_2".log
    ADD CONSTRAINT log_pkey PRIMARY KEY ("position");
ALTER TABLE ONLY "log_LAYOUT_2".log_segment
    ADD CONSTRAINT log_segment_pkey PRIMARY KEY (first_position);
ALTER TABLE ONLY "log_LAYOUT_2".log_stream
    ADD CONSTRAINT log_stream_pkey PRIMARY KEY (stream_id);
CREATE INDEX log_by_client_order_id ON "log_LAYOUT_2".log USING btree ("substring"(state, '"client_order_id":"((?:[^"\\]|\\.)*)"'::text)) WHERE (topic = 'AttemptStarted'::text);
CREATE UNIQUE INDEX log_by_command ON "log_LAYOUT_2".log USING btree (command_id) WHERE (command_index = 0);
CREATE INDEX log_by_exchange_order_id ON "log_LAYOUT_2".log USING btree ("substring"(state, '"exchange_order_id":"((?:[^"\\]|\\.)*)"'::text)) WHERE (topic = ANY (ARRAY['OrderAccepted'::text, 'OrderCanceled'::text, 'OrderExpired'::text, 'OrderFilled'::text, 'OrderModified'::text, 'OrderRejected'::text, 'OrderStateObserved'::text, 'OrderTriggered'::text]));
CREATE UNIQUE INDEX log_by_stream ON "log_LAYOUT_2".log USING btree (stream_id, version);
CREATE INDEX log_cut_command_by_position ON "log_LAYOUT_2".log_cut_command USING btree (first_position);
CREATE INDEX log_cut_name_by_position ON "log_LAYOUT_2".log_cut_name USING btree ("position");
CREATE TRIGGER log_append_only BEFORE UPDATE OR TRUNCATE ON "log_LAYOUT_2".log FOR EACH STATEMENT EXECUTE FUNCTION "log_LAYOUT_2".log_refuse();
CREATE TRIGGER log_cut_command_check BEFORE DELETE ON "log_LAYOUT_2".log_cut_command FOR EACH ROW EXECUTE FUNCTION "log_LAYOUT_2".log_check_command();
CREATE TRIGGER log_cut_command_stays BEFORE UPDATE OR TRUNCATE ON "log_LAYOUT_2".log_cut_command FOR EACH STATEMENT EXECUTE FUNCTION "log_LAYOUT_2".log_refuse();
CREATE TRIGGER log_cut_name_check BEFORE DELETE ON "log_LAYOUT_2".log_cut_name FOR EACH ROW EXECUTE FUNCTION "log_LAYOUT_2".log_check_name();
CREATE TRIGGER log_cut_name_stays BEFORE UPDATE OR TRUNCATE ON "log_LAYOUT_2".log_cut_name FOR EACH STATEMENT EXECUTE FUNCTION "log_LAYOUT_2".log_refuse();
CREATE TRIGGER log_head_stays BEFORE DELETE OR TRUNCATE ON "log_LAYOUT_2".log_head FOR EACH STATEMENT EXECUTE FUNCTION "log_LAYOUT_2".log_refuse();
CREATE TRIGGER log_no_delete BEFORE DELETE ON "log_LAYOUT_2".log FOR EACH ROW EXECUTE FUNCTION "log_LAYOUT_2".log_refuse_delete();
CREATE TRIGGER log_segment_check BEFORE INSERT OR DELETE ON "log_LAYOUT_2".log_segment FOR EACH ROW EXECUTE FUNCTION "log_LAYOUT_2".log_check_segment();
CREATE TRIGGER log_segment_stays BEFORE UPDATE OR TRUNCATE ON "log_LAYOUT_2".log_segment FOR EACH STATEMENT EXECUTE FUNCTION "log_LAYOUT_2".log_refuse();
CREATE TRIGGER log_stream_stays BEFORE DELETE OR TRUNCATE ON "log_LAYOUT_2".log_stream FOR EACH STATEMENT EXECUTE FUNCTION "log_LAYOUT_2".log_refuse();
INSERT INTO "log_LAYOUT_2".log_head VALUES (1, 0, decode(repeat('00', 32), 'hex'), 0, 0, 2, '', '');
