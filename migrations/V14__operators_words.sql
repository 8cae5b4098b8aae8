-- What operators want is kept as they said it. Everything is added: a version that knows none of it runs beside one that does.

-- === what is wanted closed ===

-- An exit may have to wait for the broker's position book; whoever leads when that can be read must know of it.
ALTER TABLE position
    ADD COLUMN close_by  text,
    ADD COLUMN close_why text,
    ADD COLUMN close_at  timestamptz,
    ADD CONSTRAINT position_close_wish CHECK ((close_at IS NULL) = (close_by IS NULL) AND (close_at IS NULL) = (close_why IS NULL));
COMMENT ON COLUMN position.close_at IS
    'When an operator wanted it closed; the leader answers after this is stored. It stays: the position is sold until it is flat.';

-- === a halt of everything ends by itself ===

-- The halt of protective stops has an end of its own: it must not end a halt that has none, nor outlive its time under one.
ALTER TABLE leadership ADD COLUMN halt_all_until timestamptz;
UPDATE leadership SET halt_all_until = halted_until WHERE halt_all;
COMMENT ON COLUMN leadership.halt_all_until IS 'Never after halted_until: a halt of everything is a halt, too.';

-- === sales by hand that a repair has booked ===

ALTER TABLE broker_order_seen ADD COLUMN booked_at timestamptz;
COMMENT ON COLUMN broker_order_seen.booked_at IS
    'When a repair booked what it filled: it is explained from then on, and no intent of ours takes it for its order.';
