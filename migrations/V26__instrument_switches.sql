-- An operator's switches for one instrument: in the row that every journaling locks, beside the cluster's, so that their commit
-- is a hard line too. Everything is added: a version that knows none of it runs beside one that does, and does not hold to it.

ALTER TABLE leadership ADD COLUMN instruments jsonb NOT NULL DEFAULT '{}'
    CHECK (jsonb_typeof(instruments) = 'object'
        AND NOT jsonb_path_exists(instruments, '$.* ? (@.type() <> "object")')
        AND NOT jsonb_path_exists(instruments, '$.* ? (@.type() == "object").keyvalue()
            ? (@.key != "halted" && @.key != "reduce_only" || @.value.type() != "string"
                || !(@.value like_regex "^(infinity|[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]+)?Z)$"))'));
COMMENT ON COLUMN leadership.instruments IS
    'By an instrument''s name its switches that are on (halted, reduce_only), each with its end (ISO 8601, UTC); "infinity" is when somebody ends it.';

CREATE TABLE instrument_switch_history (
    id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    instrument text        NOT NULL,
    switch     text        NOT NULL CHECK (switch IN ('halted', 'reduce_only')),
    value      boolean     NOT NULL,
    who        text        NOT NULL,
    why        text        NOT NULL,
    until      timestamptz,
    at         timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX instrument_switch_history_of ON instrument_switch_history (instrument, switch, id DESC);
COMMENT ON TABLE instrument_switch_history IS
    'Who set which switch of which instrument, and why. The values in force are in leadership.instruments.';

CREATE FUNCTION instrument_switch_audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM audit_append('switch', coalesce(nullif(translate(NEW.who, chr(31), ' '), ''), 'nobody'), json_build_object(
        'instrument', NEW.instrument, 'switch', NEW.switch, 'on', NEW.value, 'why', NEW.why, 'until', NEW.until)::text);
    RETURN NULL;
END $$;
CREATE TRIGGER instrument_switch_history_audit AFTER INSERT ON instrument_switch_history
    FOR EACH ROW EXECUTE FUNCTION instrument_switch_audit();

-- As for the other switches: whoever writes the column alone leaves a trace.
CREATE FUNCTION instrument_switch_trace() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO instrument_switch_history (instrument, switch, value, who, why)
    SELECT owner, name, now_on.ends IS NOT NULL, session_user,
        format('the column was written directly (session %L)', current_setting('application_name'))
    FROM (SELECT i.key AS owner, s.key AS name, s.value AS ends
          FROM jsonb_each(NEW.instruments) i, jsonb_each_text(i.value) s) now_on
    FULL JOIN (SELECT i.key AS owner, s.key AS name, s.value AS ends
          FROM jsonb_each(OLD.instruments) i, jsonb_each_text(i.value) s) was_on USING (owner, name)
    WHERE (now_on.ends IS NULL) <> (was_on.ends IS NULL)
      AND (now_on.ends IS NOT NULL) IS DISTINCT FROM (
        SELECT h.value FROM instrument_switch_history h
        WHERE (h.instrument, h.switch) = (owner, name) ORDER BY h.id DESC LIMIT 1);
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER leadership_instrument_switch_trace AFTER UPDATE ON leadership DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (OLD.instruments IS DISTINCT FROM NEW.instruments) EXECUTE FUNCTION instrument_switch_trace();
