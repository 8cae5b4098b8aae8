-- Cancels and modifies of orders at the broker, with one table of states for both, the same as the code's.
-- Nothing is taken away: a version that knows none of it writes cancels as before, and runs beside one that does.

CREATE FUNCTION order_request_may_become(old_state text, new_state text) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE old_state
        WHEN 'journaled' THEN new_state IN ('acknowledged', 'rejected', 'not_sent', 'in_doubt', 'applied', 'void')
        WHEN 'acknowledged' THEN new_state IN ('applied', 'void')
        WHEN 'in_doubt' THEN new_state IN ('applied', 'void')
        ELSE false
    END
$$;
COMMENT ON FUNCTION order_request_may_become IS 'The same table as RequestState::may_become; a test compares them.';

CREATE FUNCTION order_request_state_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.state <> NEW.state THEN
        IF NOT order_request_may_become(OLD.state, NEW.state) THEN
            RAISE EXCEPTION '% %: % -> % is not a transition', TG_TABLE_NAME, OLD.id, OLD.state, NEW.state
                USING ERRCODE = 'check_violation';
        END IF;
        NEW.state_at := now();
    END IF;
    RETURN NEW;
END $$;

-- === cancels ===

ALTER TABLE order_cancel
    ADD COLUMN class    text NOT NULL DEFAULT 'operator' CHECK (class IN ('entry', 'exit', 'protective', 'operator')),
    ADD COLUMN state_at timestamptz NOT NULL DEFAULT now(),
    DROP CONSTRAINT order_cancel_state_check,
    ADD CONSTRAINT order_cancel_state_check CHECK (state IN
        ('journaled', 'acknowledged', 'rejected', 'not_sent', 'in_doubt', 'applied', 'void'));
COMMENT ON COLUMN order_cancel.class IS 'Of the order that it makes room for; switches that forbid that forbid the cancel.';
CREATE TRIGGER order_cancel_state BEFORE UPDATE OF state ON order_cancel
    FOR EACH ROW EXECUTE FUNCTION order_request_state_guard();

-- === modifies ===

CREATE TABLE order_modify (
    id             uuid PRIMARY KEY,
    intent_id      uuid NOT NULL REFERENCES order_intent (id),
    epoch          bigint NOT NULL,
    incarnation    uuid NOT NULL,
    order_id       text NOT NULL,
    price          numeric(20, 8) NOT NULL CHECK (price >= 0),
    trigger_price  numeric(20, 8) NOT NULL CHECK (trigger_price > 0),
    state          text NOT NULL DEFAULT 'journaled' CHECK (state IN
                   ('journaled', 'acknowledged', 'rejected', 'not_sent', 'in_doubt', 'applied', 'void')),
    reason         text,
    journaled_at   timestamptz NOT NULL DEFAULT now(),
    state_at       timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE order_modify IS
    'Committed before the first byte of a modify leaves: a stop at the broker that is raised. Its quantity never changes.';
CREATE INDEX order_modify_intent ON order_modify (intent_id);
-- A second one that overtook the first would be undone by it: a stop would move down.
CREATE UNIQUE INDEX order_modify_one_unresolved ON order_modify (intent_id) WHERE state IN ('journaled', 'in_doubt');
CREATE TRIGGER order_modify_state BEFORE UPDATE OF state ON order_modify
    FOR EACH ROW EXECUTE FUNCTION order_request_state_guard();

-- === what the end of an order says of its requests ===

CREATE FUNCTION order_intent_settles_requests() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE order_cancel SET state = CASE NEW.state WHEN 'cancelled' THEN 'applied' ELSE 'void' END
        WHERE intent_id = NEW.id AND state IN ('journaled', 'acknowledged', 'in_doubt');
    UPDATE order_modify SET state = 'void' WHERE intent_id = NEW.id AND state IN ('journaled', 'in_doubt');
    RETURN NULL;
END $$;
CREATE TRIGGER order_intent_ended AFTER UPDATE OF state ON order_intent FOR EACH ROW
    WHEN (OLD.state <> NEW.state AND NEW.state IN ('filled', 'cancelled', 'rejected', 'not_sent', 'abandoned'))
    EXECUTE FUNCTION order_intent_settles_requests();
