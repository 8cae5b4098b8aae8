-- The trading ledger: what came in, what was decided, what left, what came back, what is held.
-- Every write by a leader is fenced by the epoch in `leadership` (V1).

CREATE TABLE account_guard (
    account       text PRIMARY KEY,
    cluster       text NOT NULL,
    registered_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE account_guard IS 'One cluster per broker account: a second cluster on the same account is refused.';

-- === inbox ===

CREATE TABLE signal (
    id            uuid PRIMARY KEY,
    seq           bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    key           text NOT NULL UNIQUE,
    type          text NOT NULL CHECK (type IN ('BASE_ENTRY', 'PYRAMID', 'EXIT', 'MARKET_DATA', 'EOD_MONITOR')),
    strategy      text NOT NULL,
    instrument    text NOT NULL,
    payload       jsonb NOT NULL,
    raw_body      bytea NOT NULL,
    received_at   timestamptz NOT NULL DEFAULT now(),
    received_by   text NOT NULL,
    traceparent   text,
    status        text NOT NULL DEFAULT 'pending'
                  CHECK (status IN ('pending', 'working', 'executed', 'refused', 'rejected', 'not_sent', 'abandoned')),
    reasons       jsonb NOT NULL DEFAULT '[]',
    decision      jsonb,
    decided_epoch bigint,
    decided_at    timestamptz,
    finished_at   timestamptz,
    CHECK ((finished_at IS NULL) = (status IN ('pending', 'working')))
);
COMMENT ON TABLE signal IS 'The durable inbox: one row per distinct signal, whichever instance received it.';
CREATE INDEX signal_unfinished ON signal (seq) WHERE status IN ('pending', 'working');
CREATE INDEX signal_received ON signal (received_at);

CREATE TABLE signal_rejection (
    id          uuid PRIMARY KEY,
    received_at timestamptz NOT NULL DEFAULT now(),
    received_by text NOT NULL,
    http_status smallint NOT NULL,
    faults      jsonb NOT NULL,
    raw_body    bytea NOT NULL
);
COMMENT ON TABLE signal_rejection IS 'Bodies that could not be accepted as signals, with every fault found: nothing is lost.';

CREATE FUNCTION signal_status_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.status <> NEW.status AND NOT (
        (OLD.status = 'pending')
        OR (OLD.status = 'working' AND NEW.status <> 'pending')
        -- An abandoned order that appeared after all, or a cancel that crossed a fill.
        OR (OLD.status IN ('abandoned', 'not_sent', 'rejected') AND NEW.status IN ('working', 'executed'))
    ) THEN
        RAISE EXCEPTION 'signal %: % -> % is not a transition', OLD.id, OLD.status, NEW.status
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER signal_status BEFORE UPDATE OF status ON signal FOR EACH ROW EXECUTE FUNCTION signal_status_guard();

-- === orders ===

CREATE TABLE order_intent (
    id              uuid PRIMARY KEY,
    signal_id       uuid REFERENCES signal (id),
    leg             integer NOT NULL DEFAULT 0 CHECK (leg >= 0),
    attempt         integer NOT NULL DEFAULT 0 CHECK (attempt >= 0),
    position_id     uuid NOT NULL,
    instrument      text NOT NULL,
    epoch           bigint NOT NULL,
    incarnation     uuid NOT NULL,
    class           text NOT NULL CHECK (class IN ('entry', 'exit', 'protective', 'operator')),
    symbol          text NOT NULL,
    exchange        text NOT NULL,
    side            text NOT NULL CHECK (side IN ('BUY', 'SELL')),
    quantity        bigint NOT NULL CHECK (quantity > 0),
    price_type      text NOT NULL CHECK (price_type IN ('MARKET', 'LIMIT', 'SL', 'SL-M')),
    product         text NOT NULL CHECK (product IN ('MIS', 'NRML', 'CNC')),
    price           numeric(20, 8) NOT NULL CHECK (price >= 0),
    trigger_price   numeric(20, 8) NOT NULL CHECK (trigger_price >= 0),
    strategy_tag    text NOT NULL UNIQUE CHECK (length(strategy_tag) <= 100),
    plan            jsonb,
    unwind          boolean NOT NULL DEFAULT false,
    state           text NOT NULL DEFAULT 'journaled' CHECK (state IN (
                        'journaled', 'acknowledged', 'partially_filled', 'filled', 'cancelled',
                        'rejected', 'not_sent', 'in_doubt', 'abandoned')),
    reason          text,
    broker_order_id text,
    trading_day     date NOT NULL DEFAULT ((now() AT TIME ZONE INTERVAL '05:30')::date),
    filled_quantity bigint NOT NULL DEFAULT 0 CHECK (filled_quantity BETWEEN 0 AND quantity),
    send_window_ms  integer NOT NULL CHECK (send_window_ms > 0),
    order_watermark bigint NOT NULL,
    journaled_at    timestamptz NOT NULL DEFAULT now(),
    state_at        timestamptz NOT NULL DEFAULT now(),
    UNIQUE (signal_id, leg, attempt),
    UNIQUE (trading_day, broker_order_id),
    CHECK (class <> 'entry' OR plan IS NOT NULL),
    CHECK (state NOT IN ('acknowledged', 'partially_filled', 'filled') OR broker_order_id IS NOT NULL),
    CHECK (state <> 'filled' OR filled_quantity = quantity)
);
COMMENT ON TABLE order_intent IS 'Committed before the first byte of its order leaves; at most one broker order each, ever.';
COMMENT ON COLUMN order_intent.strategy_tag IS 'Sent as the bridge''s strategy; unique, so it is an exact key where the books return it (analyzer).';
COMMENT ON COLUMN order_intent.plan IS 'What an entry''s fill makes a position of: stop, ATR, lot size, point value, margin.';
COMMENT ON COLUMN order_intent.unwind IS 'An entry whose position was meant to be gone already: a late fill is closed at once.';
COMMENT ON COLUMN order_intent.send_window_ms IS 'How long after its journaling its bytes may still be written.';
COMMENT ON COLUMN order_intent.order_watermark IS 'broker_order_seen.seq at journaling: an older order at the broker cannot be this intent''s.';
CREATE INDEX order_intent_open ON order_intent (journaled_at)
    WHERE state IN ('journaled', 'acknowledged', 'partially_filled', 'in_doubt');
CREATE INDEX order_intent_position ON order_intent (position_id);
-- Orders whose outcome is unknown are told apart by their terms alone (live books return no id of ours),
-- so no two of them may look the same.
CREATE UNIQUE INDEX order_intent_one_unresolved_per_terms ON order_intent
    (symbol, exchange, side, product, price_type, quantity, price, trigger_price)
    WHERE state IN ('journaled', 'in_doubt');

CREATE FUNCTION order_intent_may_become(old_state text, new_state text) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE old_state
        WHEN 'journaled' THEN new_state IN
            ('acknowledged', 'partially_filled', 'filled', 'cancelled', 'rejected', 'not_sent', 'in_doubt')
        WHEN 'acknowledged' THEN new_state IN ('partially_filled', 'filled', 'cancelled', 'rejected')
        WHEN 'partially_filled' THEN new_state IN ('filled', 'cancelled', 'rejected')
        WHEN 'in_doubt' THEN new_state IN
            ('acknowledged', 'partially_filled', 'filled', 'cancelled', 'rejected', 'not_sent', 'abandoned')
        WHEN 'abandoned' THEN new_state IN ('acknowledged', 'partially_filled', 'filled')
        WHEN 'cancelled' THEN new_state = 'filled'
        WHEN 'rejected' THEN new_state = 'filled'
        ELSE false
    END
$$;
COMMENT ON FUNCTION order_intent_may_become IS 'The same table as IntentState::may_become; a test compares them.';

CREATE FUNCTION order_intent_state_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.state <> NEW.state THEN
        IF NOT order_intent_may_become(OLD.state, NEW.state) THEN
            RAISE EXCEPTION 'order intent %: % -> % is not a transition', OLD.id, OLD.state, NEW.state
                USING ERRCODE = 'check_violation';
        END IF;
        NEW.state_at := now();
    END IF;
    IF NEW.filled_quantity < OLD.filled_quantity THEN
        RAISE EXCEPTION 'order intent %: filled quantity fell from % to %', OLD.id, OLD.filled_quantity, NEW.filled_quantity
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER order_intent_state BEFORE UPDATE ON order_intent FOR EACH ROW EXECUTE FUNCTION order_intent_state_guard();

CREATE TABLE fill (
    intent_id   uuid NOT NULL REFERENCES order_intent (id),
    cumulative  bigint NOT NULL CHECK (cumulative > 0),
    quantity    bigint NOT NULL CHECK (quantity > 0 AND quantity <= cumulative),
    price       numeric(20, 8) NOT NULL CHECK (price > 0),
    recorded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (intent_id, cumulative)
);
COMMENT ON TABLE fill IS 'Executions, keyed by the order''s cumulative quantity: the same evidence read twice is one row.';

CREATE TABLE broker_order_seen (
    seq           bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    trading_day   date NOT NULL DEFAULT ((now() AT TIME ZONE INTERVAL '05:30')::date),
    order_id      text NOT NULL,
    first_seen_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (trading_day, order_id)
);
COMMENT ON TABLE broker_order_seen IS 'Orders at the broker that no intent of ours explains: reported, never touched, never adopted by a later intent.';

-- === positions and portfolio ===

CREATE TABLE position (
    id               uuid PRIMARY KEY,
    instrument       text NOT NULL,
    label            text NOT NULL CHECK (label ~ '^Long_[1-6]$'),
    strategy         text NOT NULL,
    symbol           text NOT NULL,
    exchange         text NOT NULL,
    product          text NOT NULL CHECK (product IN ('MIS', 'NRML', 'CNC')),
    status           text NOT NULL CHECK (status IN ('open', 'closing', 'closed')),
    quantity         bigint NOT NULL CHECK (quantity >= 0),
    entry_quantity   bigint NOT NULL CHECK (entry_quantity > 0),
    entry_price      numeric(20, 8) NOT NULL CHECK (entry_price > 0),
    lot_size         bigint NOT NULL CHECK (lot_size > 0),
    point_value      numeric(20, 8) NOT NULL CHECK (point_value > 0),
    margin_per_lot   numeric(20, 8) NOT NULL CHECK (margin_per_lot >= 0),
    atr              numeric(20, 8) NOT NULL CHECK (atr >= 0),
    initial_stop     numeric(20, 8) NOT NULL,
    current_stop     numeric(20, 8) NOT NULL,
    highest_close    numeric(20, 8) NOT NULL,
    realised         numeric(24, 8) NOT NULL DEFAULT 0,
    entry_signal     uuid NOT NULL REFERENCES signal (id),
    entry_signal_seq bigint NOT NULL,
    entry_bar_time   timestamptz NOT NULL,
    opened_at        timestamptz NOT NULL DEFAULT now(),
    closed_at        timestamptz,
    version          bigint NOT NULL DEFAULT 0,
    CHECK (quantity <= entry_quantity),
    CHECK ((status = 'closed') = (quantity = 0)),
    CHECK ((status = 'closed') = (closed_at IS NOT NULL))
);
COMMENT ON TABLE position IS 'What is held; moves by fills only. Long_n is a label, unique among an instrument''s open positions.';
-- Among the open ones only: a late fill that is closed at once is a fact, whatever holds its label by then.
CREATE UNIQUE INDEX position_open_label ON position (instrument, label) WHERE status = 'open';
CREATE INDEX position_closed ON position (closed_at) WHERE status = 'closed';

CREATE FUNCTION position_stop_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.current_stop < OLD.current_stop THEN
        RAISE EXCEPTION 'position %: its stop may not move down from % to %', OLD.id, OLD.current_stop, NEW.current_stop
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER position_stop BEFORE UPDATE OF current_stop ON position FOR EACH ROW EXECUTE FUNCTION position_stop_guard();

CREATE TABLE portfolio_state (
    id                smallint PRIMARY KEY DEFAULT 1 CHECK (id = 1),
    capital           numeric(24, 8) NOT NULL,
    closed_equity     numeric(24, 8) NOT NULL,
    equity_high       numeric(24, 8) NOT NULL,
    risk_amount       numeric(24, 8) NOT NULL,
    volatility_amount numeric(24, 8) NOT NULL,
    margin_used       numeric(24, 8) NOT NULL,
    version           bigint NOT NULL DEFAULT 1,
    updated_at        timestamptz NOT NULL DEFAULT now(),
    CHECK (equity_high >= closed_equity)
);
COMMENT ON TABLE portfolio_state IS 'Aggregates; must equal what the positions give, to the paisa: that is the recovery check.';

CREATE TABLE pyramiding_state (
    instrument         text PRIMARY KEY,
    base_position      uuid REFERENCES position (id),
    last_pyramid_price numeric(20, 8) NOT NULL CHECK (last_pyramid_price > 0),
    pyramid_count      integer NOT NULL CHECK (pyramid_count >= 0),
    updated_at         timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE pyramiding_state IS 'Per instrument with something held: its base, where the last layer was added, how many pyramids there are.';

-- === operational state ===

CREATE TABLE operational_state (
    incarnation uuid PRIMARY KEY,
    member      text NOT NULL,
    state       text NOT NULL CHECK (state IN ('STARTING', 'ACTIVE', 'WAITING', 'ERROR', 'SHUTDOWN')),
    code        text,
    reason      text NOT NULL,
    entered_at  timestamptz NOT NULL DEFAULT now(),
    checked_at  timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE operational_state_history (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    incarnation uuid NOT NULL,
    member      text NOT NULL,
    old_state   text,
    new_state   text NOT NULL,
    code        text,
    reason      text NOT NULL,
    at          timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE operational_state IS 'One row per process; STARTING, ACTIVE, WAITING(reason), ERROR(code), SHUTDOWN.';

CREATE FUNCTION operational_may_become(old_state text, new_state text) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE old_state
        WHEN 'STARTING' THEN new_state IN ('WAITING', 'ACTIVE', 'ERROR', 'SHUTDOWN')
        WHEN 'WAITING'  THEN new_state IN ('ACTIVE', 'ERROR', 'SHUTDOWN')
        WHEN 'ACTIVE'   THEN new_state IN ('WAITING', 'ERROR', 'SHUTDOWN')
        WHEN 'ERROR'    THEN new_state IN ('WAITING', 'SHUTDOWN')
        ELSE false
    END
$$;

CREATE FUNCTION operational_state_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.state <> 'STARTING' THEN
            RAISE EXCEPTION 'a new incarnation begins at STARTING, not %', NEW.state USING ERRCODE = 'check_violation';
        END IF;
        INSERT INTO operational_state_history (incarnation, member, new_state, code, reason)
        VALUES (NEW.incarnation, NEW.member, NEW.state, NEW.code, NEW.reason);
    ELSIF OLD.state <> NEW.state THEN
        IF NOT operational_may_become(OLD.state, NEW.state) THEN
            RAISE EXCEPTION 'operational state: % -> % is not a transition', OLD.state, NEW.state
                USING ERRCODE = 'check_violation';
        END IF;
        NEW.entered_at := now();
        INSERT INTO operational_state_history (incarnation, member, old_state, new_state, code, reason)
        VALUES (NEW.incarnation, NEW.member, OLD.state, NEW.state, NEW.code, NEW.reason);
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER operational_state_change BEFORE INSERT OR UPDATE ON operational_state
    FOR EACH ROW EXECUTE FUNCTION operational_state_guard();
