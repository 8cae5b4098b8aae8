//! Every table and column of open state, damaged one at a time, and what a check has to name.

/// What is done to the database, and what the check has to name: code, table, field.
pub struct Damage {
    pub sql: &'static str,
    pub code: &'static str,
    pub place: (&'static str, &'static str),
}

const BASE: &str = "WHERE status <> 'closed' AND label = 'Long_1'";

const fn invalid(sql: &'static str, table: &'static str, field: &'static str) -> Damage {
    Damage { sql, code: "VALIDATION_FAILED", place: (table, field) }
}

const fn corrupt(sql: &'static str, table: &'static str, field: &'static str) -> Damage {
    Damage { sql, code: "DATA_CORRUPT", place: (table, field) }
}

/// `{base}` is the open base, `{silver}` the resting order, `{bid}` makes a bid of that order, `{entries}` is what was bought, `{on}` a row of the switches' history, `{latch}` latches a limit; `DROP`
/// frees a table of its constraints first.
pub const DAMAGES: &[Damage] = &[
    // The aggregates.
    invalid("UPDATE portfolio_state SET total_risk", "portfolio_state", "risk_amount"),
    invalid("UPDATE portfolio_state SET capital = capital + 1", "portfolio_state", "capital"),
    invalid("UPDATE portfolio_state SET equity_high = equity_high + 1", "portfolio_state", "equity_high"),
    invalid(
        "UPDATE portfolio_state SET closed_equity = closed_equity - 0.02",
        "portfolio_state",
        "closed_equity",
    ),
    invalid(
        "DROP portfolio_state; UPDATE portfolio_state SET equity_high = 1",
        "portfolio_state",
        "equity_high",
    ),
    invalid("UPDATE portfolio_state SET volatility_amount = 0", "portfolio_state", "volatility_amount"),
    invalid("UPDATE portfolio_state SET margin_used = -5", "portfolio_state", "margin_used"),
    invalid("UPDATE portfolio_state SET charges = charges - 1", "portfolio_state", "charges"),
    corrupt("UPDATE portfolio_state SET charges = 'NaN'", "portfolio_state", "charges"),
    invalid("DELETE FROM portfolio_state", "portfolio_state", "row"),
    // What was paid in and out.
    invalid("DROP cash_movement; UPDATE cash_movement SET amount = amount - 1000", "cash_movement", "amount"),
    invalid(
        "INSERT INTO cash_movement (id, kind, amount, who, why)
            VALUES (gen_random_uuid(), 'deposit', 1000, 'nobody', 'nothing')",
        "cash_movement",
        "amount",
    ),
    invalid("DROP cash_movement; DELETE FROM cash_movement", "cash_movement", "row"),
    corrupt("DROP cash_movement; UPDATE cash_movement SET amount = 'NaN'", "cash_movement", "amount"),
    corrupt("UPDATE portfolio_state SET risk_amount = 'NaN'", "portfolio_state", "risk_amount"),
    corrupt("UPDATE portfolio_state SET margin_used = 'NaN'", "portfolio_state", "margin_used"),
    // Positions: rows gone and back.
    invalid("DELETE FROM position WHERE label = 'Long_2'", "position", "row"),
    invalid("DELETE FROM pyramiding_state; DELETE FROM position {base}", "position", "row"),
    invalid(
        "UPDATE position SET status = 'open', quantity = entry_quantity, closed_at = NULL WHERE status = 'closed'",
        "position",
        "quantity",
    ),
    // Positions, column by column.
    invalid("UPDATE position SET instrument = 'NO_SUCH' {base}", "position", "instrument"),
    invalid("DROP position; UPDATE position SET label = 'Long_9' {base}", "position", "label"),
    invalid("UPDATE position SET strategy = 'another' {base}", "position", "strategy"),
    invalid("UPDATE position SET symbol = 'GOLDM05JAN26FUT' {base}", "position", "symbol"),
    invalid("UPDATE position SET exchange = 'NFO' {base}", "position", "exchange"),
    invalid("UPDATE position SET product = 'MIS' {base}", "position", "product"),
    corrupt("DROP position; UPDATE position SET product = 'CO' {base}", "position", "product"),
    invalid("UPDATE position SET status = 'closing', version = version + 1 {base}", "position", "status"),
    corrupt("DROP position; UPDATE position SET status = 'BANANA' {base}", "position", "status"),
    invalid("UPDATE position SET quantity = quantity - 10 {base}", "position", "quantity"),
    invalid("DROP position; UPDATE position SET quantity = -10 {base}", "position", "quantity"),
    invalid("UPDATE position SET entry_quantity = entry_quantity + 10 {base}", "position", "entry_quantity"),
    invalid("UPDATE position SET entry_price = entry_price + 0.01 {base}", "position", "entry_price"),
    corrupt("UPDATE position SET entry_price = 'NaN' {base}", "position", "entry_price"),
    invalid("UPDATE position SET lot_size = lot_size * 2 {base}", "position", "lot_size"),
    invalid("UPDATE position SET point_value = point_value + 1 {base}", "position", "point_value"),
    invalid("UPDATE position SET margin_per_lot = margin_per_lot + 1 {base}", "position", "margin_per_lot"),
    invalid("UPDATE position SET atr = atr + 1 {base}", "position", "atr"),
    invalid("UPDATE position SET initial_stop = initial_stop - 1 {base}", "position", "initial_stop"),
    invalid("UPDATE position SET current_stop = entry_price * 2 {base}", "position", "current_stop"),
    invalid("DROP position; UPDATE position SET current_stop = 0 {base}", "position", "current_stop"),
    // Its stop is above its entry: no risk is left that would give it away.
    invalid("UPDATE position SET current_stop = current_stop + 1 {base}", "position", "current_stop"),
    invalid(
        "UPDATE position SET current_stop = current_stop + 1 WHERE label = 'Long_2'",
        "position",
        "current_stop",
    ),
    invalid("UPDATE position SET highest_close = highest_close + 1 {base}", "position", "highest_close"),
    invalid("UPDATE position SET take_profit = 1 {base}", "position", "take_profit"),
    invalid("UPDATE position SET exit_cause = 'stop_loss' {base}", "position", "exit_cause"),
    corrupt("UPDATE position SET exit_cause = 'whim' {base}", "position", "exit_cause"),
    invalid(
        "UPDATE position SET close_at = now(), close_by = 'nobody', close_why = 'nothing' {base}",
        "position",
        "close_at",
    ),
    invalid("UPDATE position SET highest_close = 1, initial_stop = 0 {base}", "position", "current_stop"),
    corrupt("UPDATE position SET highest_close = 'NaN' {base}", "position", "highest_close"),
    invalid("UPDATE position SET realised = realised + 1 {base}", "position", "realised"),
    invalid("UPDATE position SET realised = realised + 1 WHERE status = 'closed'", "position", "realised"),
    corrupt("UPDATE position SET realised = 'NaN' WHERE status = 'closed'", "position", "realised"),
    invalid("UPDATE position SET exit_cause = 'stop_loss' WHERE status = 'closed'", "position", "exit_cause"),
    invalid("UPDATE position SET exit_cause = NULL WHERE status = 'closed'", "position", "exit_cause"),
    invalid(
        "UPDATE position SET closed_at = closed_at - interval '1 day' WHERE status = 'closed'",
        "position",
        "closed_at",
    ),
    invalid("UPDATE position SET closed_at = 'infinity' WHERE status = 'closed'", "position", "closed_at"),
    invalid("UPDATE position SET charges = charges + 1 {base}", "position", "charges"),
    invalid("UPDATE position SET charges = 0 WHERE status = 'closed'", "position", "charges"),
    invalid("DROP position; UPDATE position SET charges = -1 {base}", "position", "charges"),
    corrupt("UPDATE position SET charges = 'NaN' {base}", "position", "charges"),
    corrupt("UPDATE position SET charges = 'NaN' WHERE status = 'closed'", "position", "charges"),
    invalid(
        "UPDATE position SET entry_signal = (SELECT id FROM signal WHERE instrument = 'COPPER' LIMIT 1) {base}",
        "position",
        "entry_signal",
    ),
    invalid(
        "UPDATE position SET entry_signal_seq = entry_signal_seq + 99 {base}",
        "position",
        "entry_signal_seq",
    ),
    invalid(
        "UPDATE position SET entry_bar_time = entry_bar_time + interval '1 day' {base}",
        "position",
        "entry_bar_time",
    ),
    corrupt("UPDATE position SET entry_bar_time = 'infinity' {base}", "position", "entry_bar_time"),
    corrupt("UPDATE position SET opened_at = 'infinity' {base}", "position", "opened_at"),
    corrupt(
        "INSERT INTO limit_latch (day, code, sentence, at) VALUES ('2026-01-05', 'MAX_DAILY_LOSS', 'hit', 'infinity')",
        "limit_latch",
        "at",
    ),
    invalid("UPDATE position SET version = -5 {base}", "position", "version"),
    corrupt("ALTER TABLE position ALTER COLUMN version TYPE text", "position", "version"),
    corrupt(
        "ALTER TABLE position ALTER COLUMN symbol DROP NOT NULL; UPDATE position SET symbol = NULL {base}",
        "position",
        "symbol",
    ),
    // Pyramids.
    invalid("UPDATE pyramiding_state SET base_position = NULL", "pyramiding_state", "base_position"),
    invalid("UPDATE pyramiding_state SET last_pyramid_price = 1", "pyramiding_state", "last_pyramid_price"),
    invalid("UPDATE pyramiding_state SET pyramid_count = 4", "pyramiding_state", "count"),
    corrupt(
        "DROP pyramiding_state; UPDATE pyramiding_state SET pyramid_count = -1",
        "pyramiding_state",
        "pyramid_count",
    ),
    invalid("DELETE FROM pyramiding_state", "pyramiding_state", "instrument"),
    invalid("INSERT INTO pyramiding_state VALUES ('COPPER', NULL, 1, 0)", "pyramiding_state", "instrument"),
    // The resting order.
    invalid("DROP order_intent; UPDATE order_intent SET quantity = 0 {silver}", "order_intent", "quantity"),
    invalid("UPDATE order_intent SET filled_quantity = 1 {silver}", "order_intent", "filled_quantity"),
    invalid("DROP order_intent; UPDATE order_intent SET plan = NULL {silver}", "order_intent", "plan"),
    corrupt("UPDATE order_intent SET plan = '{}' {silver}", "order_intent", "plan"),
    invalid(
        "DROP order_intent; UPDATE order_intent SET broker_order_id = NULL {silver}",
        "order_intent",
        "broker_order_id",
    ),
    corrupt("DROP order_intent; UPDATE order_intent SET class = 'BANANA' {silver}", "order_intent", "class"),
    invalid("UPDATE order_intent SET side = 'SELL' {silver}", "order_intent", "side"),
    corrupt("DROP order_intent; UPDATE order_intent SET side = 'SIDEWAYS' {silver}", "order_intent", "side"),
    corrupt(
        "DROP order_intent; UPDATE order_intent SET price_type = 'ICEBERG' {silver}",
        "order_intent",
        "price_type",
    ),
    corrupt("DROP order_intent; UPDATE order_intent SET product = 'CO' {silver}", "order_intent", "product"),
    corrupt("UPDATE order_intent SET price = 'NaN' {silver}", "order_intent", "price"),
    corrupt("UPDATE order_intent SET trigger_price = 'NaN' {silver}", "order_intent", "trigger_price"),
    corrupt("DROP order_intent; ALTER TABLE order_intent ALTER COLUMN leg TYPE text", "order_intent", "leg"),
    corrupt(
        "ALTER TABLE order_intent ALTER COLUMN order_watermark TYPE text",
        "order_intent",
        "order_watermark",
    ),
    // What its signal, its key, its day and the audit log say of it.
    invalid("UPDATE order_intent SET instrument = 'COPPER' {silver}", "order_intent", "instrument"),
    invalid("UPDATE order_intent SET strategy_tag = 'another' {silver}", "order_intent", "strategy_tag"),
    invalid("UPDATE order_intent SET trading_day = trading_day - 1 {silver}", "order_intent", "trading_day"),
    invalid(
        "UPDATE order_intent SET journaled_at = journaled_at - interval '1 day' {silver}",
        "order_intent",
        "trading_day",
    ),
    invalid("UPDATE order_intent SET signal_id = NULL {silver}", "order_intent", "signal_id"),
    invalid(
        "UPDATE order_intent SET signal_id = (SELECT id FROM signal WHERE type = 'EXIT'), attempt = 7 {silver}",
        "order_intent",
        "signal_id",
    ),
    invalid(
        "UPDATE order_intent SET plan = plan || '{\"signal_seq\": 1}' {silver}",
        "order_intent",
        "signal_id",
    ),
    invalid("UPDATE order_intent SET plan = plan || '{\"stop\": \"1\"}' {silver}", "order_intent", "plan"),
    invalid(
        "UPDATE order_intent SET plan = plan || '{\"strategy\": \"mine\"}' {silver}",
        "order_intent",
        "plan",
    ),
    invalid(
        "UPDATE order_intent SET broker_order_id = 'another' {silver}",
        "order_intent",
        "broker_order_id",
    ),
    invalid("UPDATE order_intent SET state = 'cancelled' {silver}", "order_intent", "state"),
    invalid(
        "DROP order_intent; UPDATE order_intent SET state = 'in_doubt' {silver}",
        "order_intent",
        "state",
    ),
    // Nothing that is read for trading would see it again, and it rests at the broker.
    invalid(
        "DROP order_intent; UPDATE signal SET status = 'not_sent', finished_at = now() WHERE status = 'working';
         UPDATE order_intent SET state = 'not_sent' {silver}",
        "order_intent",
        "state",
    ),
    invalid("DROP order_intent; DELETE FROM order_intent {silver}", "order_intent", "state"),
    // The same order as a bid, and what would be ordered by it.
    invalid("{bid}; UPDATE order_intent SET price = price + 1 {silver}", "order_intent", "price"),
    invalid("{bid}; UPDATE order_intent SET price_type = 'MARKET' {silver}", "order_intent", "price_type"),
    invalid(
        "{bid}; UPDATE order_intent SET plan = jsonb_set(plan, '{bidding,units}', '999999') {silver}",
        "order_intent",
        "plan",
    ),
    invalid(
        "{bid}; UPDATE order_intent SET plan = jsonb_set(plan, '{bidding,prices,-1}', '\"200000\"') {silver}",
        "order_intent",
        "plan",
    ),
    invalid(
        "{bid}; UPDATE order_intent SET plan = jsonb_set(plan, '{bidding,prices}', '[]') {silver}",
        "order_intent",
        "price",
    ),
    invalid(
        "{bid}; UPDATE order_intent SET plan = jsonb_set(plan, '{bidding,rest_at}', '\"1\"') {silver}",
        "order_intent",
        "plan",
    ),
    invalid(
        "{bid}; UPDATE order_intent SET plan = jsonb_set(plan, '{bidding,step_ms}', '0') {silver}",
        "order_intent",
        "plan",
    ),
    corrupt(
        "{bid}; UPDATE order_intent SET plan = jsonb_set(plan, '{bidding,prices,0}', '\"NaN\"') {silver}",
        "order_intent",
        "plan",
    ),
    corrupt(
        "{bid}; UPDATE order_intent SET plan = plan #- '{bidding,units}' {silver}",
        "order_intent",
        "plan",
    ),
    corrupt(
        "{bid}; UPDATE order_intent SET plan = plan #- '{bidding,decided_at}' {silver}",
        "order_intent",
        "plan",
    ),
    // The account's day, and the limits that were hit in it.
    corrupt("UPDATE trading_day SET opening_equity = 'NaN'", "trading_day", "opening_equity"),
    invalid("UPDATE trading_day SET opening_equity = opening_equity - 1000", "trading_day", "opening_equity"),
    invalid("UPDATE trading_day SET opened_at = opened_at - interval '1 hour'", "trading_day", "opened_at"),
    invalid("UPDATE trading_day SET day = day - 1", "trading_day", "row"),
    invalid("UPDATE trading_day SET day = day + 1", "trading_day", "row"),
    invalid("DELETE FROM trading_day", "trading_day", "row"),
    // It would hide all days before it.
    invalid("INSERT INTO trading_day (day, opening_equity) VALUES ('2099-01-01', 1)", "trading_day", "row"),
    invalid("{latch}; UPDATE limit_latch SET sentence = 'nothing'", "limit_latch", "sentence"),
    invalid("{latch}; UPDATE limit_latch SET at = at - interval '1 hour'", "limit_latch", "at"),
    invalid("{latch}; UPDATE limit_latch SET code = 'MAX_ORDERS_PER_DAY'", "limit_latch", "row"),
    invalid("{latch}; UPDATE limit_latch SET day = day - 1", "limit_latch", "row"),
    invalid("{latch}; TRUNCATE limit_latch", "limit_latch", "row"),
    invalid("{latch}; ALTER TABLE limit_latch DISABLE TRIGGER USER; DELETE FROM limit_latch", "limit_latch", "row"),
    invalid("ALTER TABLE limit_latch DISABLE TRIGGER USER; {latch}", "limit_latch", "row"),
    // The orders that the positions were made by.
    invalid("UPDATE order_intent SET symbol = 'GOLDM05JAN26FUT' {entries}", "position", "symbol"),
    invalid("UPDATE order_intent SET product = 'MIS' {entries}", "position", "product"),
    invalid("UPDATE order_intent SET signal_id = NULL {entries}", "position", "entry_signal"),
    invalid(
        "UPDATE order_intent SET plan = plan || '{\"label\": \"Long_3\"}' {entries}",
        "position",
        "label",
    ),
    invalid("UPDATE order_intent SET plan = plan || '{\"atr\": \"1.5\"}' {entries}", "position", "atr"),
    corrupt("UPDATE order_intent SET plan = plan - 'atr' {entries}", "order_intent", "plan"),
    corrupt("UPDATE order_intent SET plan = plan || '{\"stop\": \"NaN\"}' {entries}", "order_intent", "plan"),
    // Fills.
    invalid("DELETE FROM fill", "position", "quantity"),
    invalid("UPDATE fill SET price = price + 1", "position", "entry_price"),
    corrupt("UPDATE fill SET price = 'NaN'", "fill", "price"),
    invalid("UPDATE fill SET quantity = quantity - 1", "position", "quantity"),
    invalid("UPDATE fill SET charges = charges + 1", "position", "charges"),
    invalid("UPDATE fill SET charges = NULL", "fill", "charges"),
    corrupt("UPDATE fill SET charges = 'NaN'", "fill", "charges"),
    // Switches and foreign orders. A history that says on, and a column that is off: as after a lift with triggers off.
    invalid("{on}('halted', true, 'ops', 'a halt')", "leadership", "halted"),
    invalid("{on}('halt_all', true, 'ops', 'a halt')", "leadership", "halt_all"),
    invalid("{on}('reduce_only', true, 'ops', 'a doubt')", "leadership", "reduce_only"),
    invalid("{on}('paused', true, 'ops', 'a release')", "leadership", "paused"),
    invalid(
        "{on}('halted', true, 'ops', 'a halt'); UPDATE leadership SET halted = true, halted_until = now() + interval '1 hour'",
        "leadership",
        "halted_until",
    ),
    invalid(
        "INSERT INTO instrument_switch_history (instrument, switch, value, who, why)
            VALUES ('COPPER', 'halted', true, 'ops', 'a halt')",
        "leadership",
        "instruments.COPPER.halted",
    ),
    corrupt("DROP leadership; ALTER TABLE leadership ALTER COLUMN halted TYPE text", "leadership", "halted"),
    corrupt(
        "INSERT INTO broker_order_seen (order_id) VALUES ('1'); ALTER TABLE broker_order_seen ALTER COLUMN seq DROP IDENTITY; ALTER TABLE broker_order_seen ALTER COLUMN seq TYPE text",
        "broker_order_seen",
        "seq",
    ),
];

/// Makes the resting order one that bids: what whoever leads next would do about it stands in its plan.
pub const BID: &str = "UPDATE order_intent SET price_type = 'LIMIT', price = 150000, plan = plan || jsonb_build_object('bidding',
        jsonb_build_object('units', quantity, 'prices', '[\"150000\", \"150150\"]'::jsonb, 'step_ms', 1000,
            'rest_at', '153000', 'decided_at', '2026-01-05T10:00:00Z')) {silver}";

/// A limit that is hit today.
pub const LATCH: &str =
    "INSERT INTO limit_latch (day, code, sentence) SELECT day, 'MAX_DAILY_LOSS', 'much' FROM trading_day";

pub fn spelled(sql: &str) -> String {
    let sql = sql
        .replace("{latch}", LATCH)
        .replace("{on}", "INSERT INTO switch_history (switch, value, who, why) VALUES ")
        .replace("{bid}", BID)
        .replace("{base}", BASE)
        .replace("{silver}", "WHERE state = 'acknowledged'")
        .replace("{entries}", "WHERE state = 'filled' AND class = 'entry'")
        .replace("SET total_risk", "SET risk_amount = 999999.99");
    match sql.strip_prefix("DROP ").and_then(|rest| rest.split_once("; ")) {
        Some((table, rest)) => format!("{}; {rest}", without_constraints(table)),
        None => sql,
    }
}

/// As somebody with a superuser's session could.
fn without_constraints(table: &str) -> String {
    format!(
        "DO $$ DECLARE c text; BEGIN
            FOR c IN SELECT conname FROM pg_constraint WHERE conrelid = '{table}'::regclass AND contype = 'c' LOOP
                EXECUTE format('ALTER TABLE {table} DROP CONSTRAINT %I', c);
            END LOOP;
        END $$; ALTER TABLE {table} DISABLE TRIGGER USER"
    )
}
