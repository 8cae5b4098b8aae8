-- What a day began with, and the limits that were hit in it, are told to the audit chain by the database: so a row that was written
-- anew behind its back shows, whichever version opened the day. Everything is added: a version that knows none of it opens and latches as
-- before, and is told of all the same. None of it is touched by an order.
--
-- What is there to be told: a day that is opened, a limit that is latched or whose latch somebody takes away, and an opening that moves with
-- a deposit or withdrawal of the same transaction. An opening or a latch that is written anew any other way is not told, and neither is a
-- day beyond tomorrow, which would hide all that come before it.

CREATE FUNCTION account_day_append(told jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF isfinite((told ->> 'day')::date) AND (told ->> 'day')::date <= (now() AT TIME ZONE INTERVAL '05:30')::date + 1 THEN
        PERFORM audit_append('day', session_user::text,
            (told || jsonb_build_object('session', current_setting('application_name')))::text);
    END IF;
END $$;

CREATE FUNCTION trading_day_told(opened trading_day) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM account_day_append(jsonb_build_object('day', opened.day, 'opening', trim_scale(opened.opening_equity)::text,
        'at', opened.opened_at AT TIME ZONE 'UTC'));
END $$;

CREATE FUNCTION limit_latch_told(latched limit_latch) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM account_day_append(jsonb_build_object('day', latched.day, 'latch', latched.code, 'sentence', latched.sentence,
        'at', latched.at AT TIME ZONE 'UTC'));
END $$;

CREATE FUNCTION trading_day_audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' OR EXISTS (
        SELECT FROM cash_movement m WHERE m.xmin = pg_current_xact_id()::xid AND m.amount = NEW.opening_equity - OLD.opening_equity
    ) THEN
        PERFORM trading_day_told(NEW);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER trading_day_audit AFTER INSERT OR UPDATE OF opening_equity ON trading_day
    FOR EACH ROW EXECUTE FUNCTION trading_day_audit();

CREATE FUNCTION limit_latch_audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM limit_latch_told(NEW);
    ELSE
        PERFORM account_day_append(jsonb_build_object('day', OLD.day, 'lifted', OLD.code));
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER limit_latch_audit AFTER INSERT OR DELETE ON limit_latch FOR EACH ROW EXECUTE FUNCTION limit_latch_audit();

-- What is there already: the newest day is the only one that anybody goes by. The leadership row first, like whoever else writes.
DO $$
DECLARE
    newest date;
BEGIN
    PERFORM FROM leadership FOR SHARE;
    SELECT max(day) INTO newest FROM (SELECT day FROM trading_day UNION ALL SELECT day FROM limit_latch) AS days
        WHERE isfinite(day) AND day <= (now() AT TIME ZONE INTERVAL '05:30')::date + 1;
    PERFORM trading_day_told(d) FROM trading_day d WHERE d.day = newest;
    PERFORM limit_latch_told(l) FROM limit_latch l WHERE l.day = newest ORDER BY l.at, l.code;
END $$;
