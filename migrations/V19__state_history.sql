-- The history of operational states also has what changes within a state: another code of ERROR, another reason to wait. A
-- state is entered anew with another code. The table of transitions stays as it is. A row that is there already is not begun
-- anew: an insert that ends as "do nothing" fires this trigger, too, and left a false beginning beside each change.
CREATE OR REPLACE FUNCTION operational_state_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF EXISTS (SELECT 1 FROM operational_state WHERE incarnation = NEW.incarnation) THEN
            RETURN NEW;
        END IF;
        IF NEW.state <> 'STARTING' THEN
            RAISE EXCEPTION 'a new incarnation begins at STARTING, not %', NEW.state USING ERRCODE = 'check_violation';
        END IF;
        INSERT INTO operational_state_history (incarnation, member, new_state, code, reason)
        VALUES (NEW.incarnation, NEW.member, NEW.state, NEW.code, NEW.reason);
        RETURN NEW;
    END IF;
    IF OLD.state <> NEW.state AND NOT operational_may_become(OLD.state, NEW.state) THEN
        RAISE EXCEPTION 'operational state: % -> % is not a transition', OLD.state, NEW.state
            USING ERRCODE = 'check_violation';
    END IF;
    IF (OLD.state, OLD.code) IS DISTINCT FROM (NEW.state, NEW.code) THEN
        NEW.entered_at := now();
    END IF;
    IF (OLD.state, OLD.code, OLD.reason) IS DISTINCT FROM (NEW.state, NEW.code, NEW.reason) THEN
        INSERT INTO operational_state_history (incarnation, member, old_state, new_state, code, reason)
        VALUES (NEW.incarnation, NEW.member, OLD.state, NEW.state, NEW.code, NEW.reason);
    END IF;
    RETURN NEW;
END $$;
DELETE FROM operational_state_history h USING (
    SELECT incarnation, min(id) AS begun FROM operational_state_history GROUP BY incarnation
) first WHERE first.incarnation = h.incarnation AND h.old_state IS NULL AND h.id > first.begun;
CREATE INDEX operational_state_history_member ON operational_state_history (member, id DESC);
CREATE INDEX operational_state_history_at ON operational_state_history (at);
