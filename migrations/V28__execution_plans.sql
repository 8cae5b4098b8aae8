-- Entries that are worked: a bid that is raised has no trigger.
-- A version that knows none of it writes moves of stops as before, and runs beside one that does.

ALTER TABLE order_modify
    DROP CONSTRAINT order_modify_trigger_price_check,
    ADD CONSTRAINT order_modify_trigger_price_check CHECK (trigger_price >= 0);
COMMENT ON TABLE order_modify IS
    'Committed before the first byte of a modify leaves: a stop, or an entry''s bid, that is raised. Its quantity never changes.';
COMMENT ON COLUMN order_modify.trigger_price IS 'Of a stop; zero of a bid, which has none.';
