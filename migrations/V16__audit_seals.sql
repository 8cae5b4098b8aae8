-- Every change of a switch and every command about leadership is in the audit chain, by whatever door it came; the chain
-- is sealed, so that a recovery proves it from the last seal on. Everything is added: a version that knows none of it
-- writes to the chain all the same, since the database does it.

-- === seals ===

CREATE OR REPLACE FUNCTION audit_log_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % is refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'integrity_constraint_violation';
END $$;

CREATE TABLE audit_seal (
    seq       bigint      PRIMARY KEY CHECK (seq > 0),
    hash      bytea       NOT NULL,
    sealed_by text        NOT NULL,
    sealed_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE audit_seal IS
    'Up to this row the chain was walked and found whole. Its hash is logged, too: a chain that is written anew contradicts it.';
CREATE TRIGGER audit_seal_rows BEFORE UPDATE OR DELETE ON audit_seal FOR EACH ROW EXECUTE FUNCTION audit_log_guard();
CREATE TRIGGER audit_seal_truncate BEFORE TRUNCATE ON audit_seal FOR EACH STATEMENT EXECUTE FUNCTION audit_log_guard();

-- === switches ===

CREATE FUNCTION switch_audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM audit_append('switch', coalesce(nullif(translate(NEW.who, chr(31), ' '), ''), 'nobody'), json_build_object(
        'switch', NEW.switch, 'on', NEW.value, 'why', NEW.why, 'until', NEW.until)::text);
    RETURN NULL;
END $$;
CREATE TRIGGER switch_history_audit AFTER INSERT ON switch_history FOR EACH ROW EXECUTE FUNCTION switch_audit();

-- Whoever writes the column alone, with a session of their own, leaves a trace, too: looked at before the commit, so that
-- a transaction that writes its history after the column is taken at its word.
CREATE FUNCTION switch_trace() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    changed record;
BEGIN
    FOR changed IN
        SELECT c.switch, c.now_on, c.until FROM (VALUES
            ('halted', OLD.halted, NEW.halted, NEW.halted_until),
            ('halt_all', OLD.halt_all, NEW.halt_all, NEW.halt_all_until),
            ('reduce_only', OLD.reduce_only, NEW.reduce_only, NEW.reduce_only_until),
            ('paused', OLD.paused, NEW.paused, NEW.paused_until)
        ) AS c (switch, was_on, now_on, until)
        WHERE c.was_on <> c.now_on AND c.now_on IS DISTINCT FROM (
            SELECT h.value FROM switch_history h WHERE h.switch = c.switch ORDER BY h.id DESC LIMIT 1)
    LOOP
        INSERT INTO switch_history (switch, value, who, why, until) VALUES (
            changed.switch, changed.now_on, session_user,
            format('the column was written directly (session %L)', current_setting('application_name')), changed.until);
    END LOOP;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER leadership_switch_trace AFTER UPDATE ON leadership DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    EXECUTE FUNCTION switch_trace();

-- === leadership ===

CREATE FUNCTION leadership_command_audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM audit_append('leadership', coalesce(nullif(translate(NEW.who, chr(31), ' '), ''), 'nobody'), json_build_object(
        'command', NEW.id, 'verb', NEW.verb, 'member', NEW.member, 'epoch', NEW.epoch, 'why', NEW.why,
        'outcome', NEW.outcome)::text);
    RETURN NULL;
END $$;
CREATE TRIGGER leadership_command_audit AFTER INSERT OR UPDATE ON leadership_command
    FOR EACH ROW EXECUTE FUNCTION leadership_command_audit();

-- === a restored ledger ===

-- An epoch that nobody holds, above all that are known: what was committed under the others is another ledger's.
ALTER TABLE leadership_history DROP CONSTRAINT leadership_history_reason_check;
ALTER TABLE leadership_history ADD CONSTRAINT leadership_history_reason_check
    CHECK (reason IN ('first_start', 'vacant', 'crash', 'stale', 'handover', 'fenced', 'restored'));
ALTER TABLE leadership_history DROP CONSTRAINT leadership_history_holder_is_whole;
ALTER TABLE leadership_history ADD CONSTRAINT leadership_history_holder_is_whole
    CHECK ((member IS NULL) = (incarnation IS NULL) AND (member IS NULL) = (reason IN ('fenced', 'restored')));
COMMENT ON COLUMN leadership_history.member IS
    'Who led; NULL for an epoch that was minted only to end the one before (reason fenced, restored).';
