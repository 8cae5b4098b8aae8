-- What the bridge says of a day's market and of its contracts, kept so that a day is known while the bridge cannot be asked.
-- Everything is added, nothing changed: a version that knows none of it runs beside one that does.

CREATE TABLE market_day (
    day     date PRIMARY KEY,
    read_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE market_day IS 'A day (IST) of which the bridge told the sessions; without rows in market_session all is closed.';

CREATE TABLE market_session (
    day      date NOT NULL REFERENCES market_day (day) ON DELETE CASCADE,
    exchange text NOT NULL,
    opens    timestamptz NOT NULL,
    closes   timestamptz NOT NULL,
    CHECK (opens < closes),
    PRIMARY KEY (day, exchange, opens)
);

CREATE TABLE market_holidays (
    year     integer PRIMARY KEY,
    holidays jsonb NOT NULL,
    read_at  timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE market_holidays IS 'A year''s days that are not as usual: [{day, closed, open}].';

CREATE TABLE contract_day (
    day             date NOT NULL,
    exchange        text NOT NULL,
    symbol          text NOT NULL,
    lot_size        bigint NOT NULL CHECK (lot_size > 0),
    tick            numeric(20, 8) NOT NULL CHECK (tick > 0),
    freeze_quantity bigint CHECK (freeze_quantity > 0),
    expiry          date,
    read_at         timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (day, exchange, symbol)
);
COMMENT ON TABLE contract_day IS 'A contract as the bridge told it on a day (IST); units a lot, price step, most units in one order.';
