-- What was decided and by whom, chained: each row's hash covers the row before it, so that a change of any of them, or
-- a row taken out, shows. Written in the transaction of what it tells of, under the leadership row's lock.

CREATE TABLE audit_log (
    seq     bigint PRIMARY KEY CHECK (seq > 0),
    at_us   bigint NOT NULL,
    kind    text   NOT NULL CHECK (kind <> '' AND position(chr(31) IN kind) = 0),
    actor   text   NOT NULL CHECK (actor <> '' AND position(chr(31) IN actor) = 0),
    payload text   NOT NULL,
    hash    bytea  NOT NULL
);
COMMENT ON TABLE audit_log IS 'Append-only, hash-chained: order outcomes, signals'' ends, repairs, operators'' words. `baton audit verify` walks it.';
COMMENT ON COLUMN audit_log.at_us IS 'Microseconds since 1970, UTC: a number has one spelling.';
COMMENT ON COLUMN audit_log.payload IS 'JSON, kept as the text that was hashed.';

CREATE TABLE audit_head (
    id   smallint PRIMARY KEY DEFAULT 1 CHECK (id = 1),
    seq  bigint NOT NULL,
    hash bytea  NOT NULL
) WITH (fillfactor = 10);
COMMENT ON TABLE audit_head IS 'The newest row''s number and hash: a tail that was cut off shows.';
INSERT INTO audit_head (seq, hash) VALUES (0, sha256('baton'));

CREATE FUNCTION audit_append(kind text, actor text, payload text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    head audit_head%ROWTYPE;
    at_us bigint := (extract(epoch FROM clock_timestamp()) * 1000000)::bigint;
    next_seq bigint;
    next_hash bytea;
BEGIN
    SELECT * INTO STRICT head FROM audit_head FOR UPDATE;
    next_seq := head.seq + 1;
    next_hash := sha256(head.hash || convert_to(concat_ws(chr(31), next_seq, at_us, kind, actor, payload), 'UTF8'));
    INSERT INTO audit_log VALUES (next_seq, at_us, kind, actor, payload, next_hash);
    UPDATE audit_head SET seq = next_seq, hash = next_hash;
    RETURN next_seq;
END $$;

CREATE FUNCTION audit_log_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'audit_log is append-only: % is refused', TG_OP USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER audit_log_rows BEFORE UPDATE OR DELETE ON audit_log FOR EACH ROW EXECUTE FUNCTION audit_log_guard();
CREATE TRIGGER audit_log_truncate BEFORE TRUNCATE ON audit_log FOR EACH STATEMENT EXECUTE FUNCTION audit_log_guard();
