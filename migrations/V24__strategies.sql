-- What an operator says of a strategy: in the row that every journaling locks, beside the other switches, so that its commit
-- is a hard line too. Everything is added: a version that knows none of it runs beside one that does, and does not hold to it.

ALTER TABLE leadership ADD COLUMN strategies jsonb NOT NULL DEFAULT '{}'
    CHECK (jsonb_typeof(strategies) = 'object' AND NOT jsonb_path_exists(strategies, '$.* ? (@.type() <> "boolean")'));
COMMENT ON COLUMN leadership.strategies IS
    'By a strategy''s name: true if an operator enabled it, false if one disabled it. What is not named is as its kind is.';

CREATE TABLE strategy_history (
    id       bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    strategy text        NOT NULL,
    enabled  boolean     NOT NULL,
    who      text        NOT NULL,
    why      text        NOT NULL,
    at       timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX strategy_history_strategy ON strategy_history (strategy, id DESC);
COMMENT ON TABLE strategy_history IS 'Who enabled or disabled which strategy, and why. The value in force is in leadership.strategies.';

CREATE FUNCTION strategy_audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM audit_append('strategy', coalesce(nullif(translate(NEW.who, chr(31), ' '), ''), 'nobody'), json_build_object(
        'strategy', NEW.strategy, 'enabled', NEW.enabled, 'why', NEW.why)::text);
    RETURN NULL;
END $$;
CREATE TRIGGER strategy_history_audit AFTER INSERT ON strategy_history FOR EACH ROW EXECUTE FUNCTION strategy_audit();

-- As for the other switches: whoever writes the column alone leaves a trace.
CREATE FUNCTION strategy_trace() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO strategy_history (strategy, enabled, who, why)
    SELECT said.key, said.value::boolean, session_user,
        format('the column was written directly (session %L)', current_setting('application_name'))
    FROM jsonb_each_text(NEW.strategies) said
    WHERE (OLD.strategies -> said.key) IS DISTINCT FROM (NEW.strategies -> said.key)
      AND said.value::boolean IS DISTINCT FROM (
        SELECT h.enabled FROM strategy_history h WHERE h.strategy = said.key ORDER BY h.id DESC LIMIT 1);
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER leadership_strategy_trace AFTER UPDATE ON leadership DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (OLD.strategies IS DISTINCT FROM NEW.strategies) EXECUTE FUNCTION strategy_trace();

-- What a strategy did last, and how often today.
CREATE INDEX signal_strategy ON signal (strategy, received_at DESC);
