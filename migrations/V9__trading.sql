-- Trading safely: why a position is closed, switches that expire, cancels, the day's limits.
-- Everything is added, nothing changed: a version that knows none of it runs beside one that does.

ALTER TABLE order_intent ADD COLUMN cause text;
COMMENT ON COLUMN order_intent.cause IS 'Why it closes: signal, stop_loss, take_profit, operator, shutdown, late_fill.';

ALTER TABLE position
    ADD COLUMN take_profit numeric(20, 8) CHECK (take_profit > 0),
    ADD COLUMN exit_cause  text;
COMMENT ON COLUMN position.exit_cause IS 'Why it went closing; set by the journal statement of the exit.';

-- === switches that expire ===

-- Beside the switch and not in its history: whoever ends an expired one decides by the row that it locks.
ALTER TABLE leadership
    ADD COLUMN halted_until      timestamptz,
    ADD COLUMN reduce_only_until timestamptz,
    ADD COLUMN paused_until      timestamptz;

-- === cancels ===

CREATE TABLE order_cancel (
    id           uuid PRIMARY KEY,
    intent_id    uuid NOT NULL REFERENCES order_intent (id),
    epoch        bigint NOT NULL,
    incarnation  uuid NOT NULL,
    order_id     text NOT NULL,
    state        text NOT NULL DEFAULT 'journaled'
                 CHECK (state IN ('journaled', 'acknowledged', 'rejected', 'not_sent', 'in_doubt')),
    reason       text,
    journaled_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX order_cancel_intent ON order_cancel (intent_id);
COMMENT ON TABLE order_cancel IS
    'Committed before the first byte of a cancel leaves. What became of the order is told by the books, on order_intent.';

-- === the account's day ===

CREATE TABLE trading_day (
    day            date PRIMARY KEY,
    opening_equity numeric(24, 8) NOT NULL,
    opened_at      timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE trading_day IS 'What a day (IST) began with: the daily loss is counted from there, whoever leads.';

CREATE TABLE limit_latch (
    day      date NOT NULL,
    code     text NOT NULL,
    sentence text NOT NULL,
    at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (day, code)
);
COMMENT ON TABLE limit_latch IS 'A limit of the account that was hit: entries stay refused for the rest of the day.';
