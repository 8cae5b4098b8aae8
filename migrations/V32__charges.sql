-- What trading costs, with each fill, and summed up with its position and with the portfolio. A version that knows none of it writes
-- fills without, and leaves the sums as they are: they stay right, whoever leads.

-- NOT VALID: nothing is there yet that could be below zero, and looking takes the longer the more fills there are.
ALTER TABLE fill ADD COLUMN charges numeric(24, 8), ADD CONSTRAINT fill_charges_check CHECK (charges >= 0) NOT VALID;
COMMENT ON COLUMN fill.charges IS
    'Rupees that its order is charged with it, less what the order''s earlier fills were; none where that is not known.';

ALTER TABLE position ADD COLUMN charges numeric(24, 8) NOT NULL DEFAULT 0,
    ADD CONSTRAINT position_charges_check CHECK (charges >= 0) NOT VALID;
COMMENT ON COLUMN position.charges IS 'Rupees: what the fills that were booked on it were charged. realised is before them.';

ALTER TABLE portfolio_state ADD COLUMN charges numeric(24, 8) NOT NULL DEFAULT 0;
COMMENT ON COLUMN portfolio_state.charges IS 'Rupees: what all positions ever were charged. closed_equity and equity_high are before them.';
