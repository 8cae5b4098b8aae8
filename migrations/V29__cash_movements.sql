-- Deposits and withdrawals: the capital is what they add up to, from the opening on. Everything is added: a version that knows
-- none of it runs beside one that does, and goes on from the capital that it reads.

CREATE TABLE cash_movement (
    id     uuid           PRIMARY KEY,
    kind   text           NOT NULL CHECK (kind IN ('opening', 'deposit', 'withdrawal')),
    amount numeric(24, 8) NOT NULL,
    epoch  bigint,
    who    text           NOT NULL CHECK (who <> ''),
    why    text           NOT NULL,
    at     timestamptz    NOT NULL DEFAULT now(),
    CHECK (kind <> 'deposit' OR amount > 0),
    CHECK (kind <> 'withdrawal' OR amount < 0)
);
CREATE UNIQUE INDEX cash_movement_opening ON cash_movement (kind) WHERE kind = 'opening';
CREATE INDEX cash_movement_at ON cash_movement (at);
COMMENT ON TABLE cash_movement IS 'Append-only: what the account was opened with, and what was paid in and out since. The sum is portfolio_state.capital.';
COMMENT ON COLUMN cash_movement.id IS 'Given by whoever asks, so that asking again moves nothing twice.';
COMMENT ON COLUMN cash_movement.amount IS 'Rupees; below zero for a withdrawal.';
COMMENT ON COLUMN cash_movement.epoch IS 'Under which it was booked; none for the opening.';

CREATE FUNCTION cash_movement_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'cash_movement is append-only: % is refused', TG_OP USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER cash_movement_rows BEFORE UPDATE OR DELETE ON cash_movement FOR EACH ROW EXECUTE FUNCTION cash_movement_guard();
CREATE TRIGGER cash_movement_truncate BEFORE TRUNCATE ON cash_movement
    FOR EACH STATEMENT EXECUTE FUNCTION cash_movement_guard();

-- The first portfolio is the opening, whichever version writes it.
CREATE FUNCTION cash_opening() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO cash_movement (id, kind, amount, who, why)
    SELECT gen_random_uuid(), 'opening', NEW.capital, 'baton', 'what the account was opened with'
    WHERE NOT EXISTS (SELECT FROM cash_movement);
    RETURN NULL;
END $$;
CREATE TRIGGER portfolio_state_opening AFTER INSERT ON portfolio_state FOR EACH ROW EXECUTE FUNCTION cash_opening();
INSERT INTO cash_movement (id, kind, amount, who, why)
SELECT gen_random_uuid(), 'opening', capital, 'baton', 'what the account had when movements began to be kept' FROM portfolio_state;
