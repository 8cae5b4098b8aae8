//! Who else knows what a cell must hold that cannot be read: the orders and fills of a position, the plan of its entry, the
//! audit log where it is whole, what was paid in and out. SQL expressions over the row `t`, and over `log`, which is what the
//! audit log says of it ([`super::told`]); their value is JSON, nothing where no witness knows it.
//!
//! A witness only says what was there. Whether that fits everything else is looked at afterwards, as for any other row.

/// What says what a cell holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Witness {
    /// The value, as an SQL expression of type `jsonb`.
    pub value: &'static str,
    /// Who says so, for people.
    pub because: &'static str,
    /// It is only to be believed while the audit chain is whole.
    pub is_audit: bool,
}

const fn says(because: &'static str, value: &'static str) -> Option<Witness> {
    Some(Witness { value, because, is_audit: false })
}

const fn audit(value: &'static str) -> Option<Witness> {
    Some(Witness { value, because: "the audit log, which is whole, has it so", is_audit: true })
}

/// A column of the order that a position's entry made.
macro_rules! entrys {
    ($column:literal) => {
        says(
            "its entry's order says so",
            concat!(
                "(SELECT to_jsonb(e.",
                $column,
                ") FROM order_intent e WHERE e.position_id = t.id AND e.class = 'entry' ORDER BY e.journaled_at, e.id LIMIT 1)"
            ),
        )
    };
}

/// A member of that order's plan.
macro_rules! planned {
    ($member:literal) => {
        says(
            "its entry's plan says so",
            concat!(
                "(SELECT coalesce(e.plan -> '",
                $member,
                "', 'null') FROM order_intent e WHERE e.position_id = t.id AND e.class = 'entry' AND e.plan ? 'label'
                  ORDER BY e.journaled_at, e.id LIMIT 1)"
            ),
        )
    };
}

/// What the fills of a position's orders give: `bought`, `cost`, `sold`, `proceeds`, `charged`, and when the first was recorded.
macro_rules! filled {
    ($because:literal, $value:literal) => {
        says(
            $because,
            concat!(
                "(SELECT to_jsonb(",
                $value,
                ") FROM (SELECT sum(f.quantity) FILTER (WHERE o.class = 'entry') AS bought,
                    sum(f.quantity * f.price) FILTER (WHERE o.class = 'entry') AS cost,
                    coalesce(sum(f.quantity) FILTER (WHERE o.class <> 'entry'), 0) AS sold,
                    coalesce(sum(f.quantity * f.price) FILTER (WHERE o.class <> 'entry'), 0) AS proceeds,
                    coalesce(sum(f.charges), 0) AS charged,
                    min(f.recorded_at) FILTER (WHERE o.class = 'entry') AS first
                 FROM order_intent o JOIN fill f ON f.intent_id = o.id WHERE o.position_id = t.id) AS fills)"
            ),
        )
    };
}

/// The newest of the log's words about a fill.
macro_rules! fill_told {
    ($member:literal) => {
        audit(concat!(
            "(SELECT x -> '",
            $member,
            "' FROM jsonb_array_elements(log) WITH ORDINALITY AS fills(x, place)
              WHERE (x ->> 'cumulative')::bigint = t.cumulative ORDER BY place DESC LIMIT 1)"
        ))
    };
}

/// A sum over the positions that are held.
macro_rules! held {
    ($sum:literal) => {
        says(
            "the positions give it",
            concat!(
                "(SELECT to_jsonb(coalesce(sum(round(",
                $sum,
                ", 8)), 0)) FROM position p WHERE p.status <> 'closed')"
            ),
        )
    };
}

/// What a position says of an order of its.
macro_rules! positions {
    ($column:literal) => {
        says(
            "its position says so",
            concat!("(SELECT to_jsonb(p.", $column, ") FROM position p WHERE p.id = t.position_id)"),
        )
    };
}

/// Who knows what this column holds, if anybody does.
pub(super) fn of(table: &str, column: &str) -> Option<Witness> {
    match table {
        "position" => position(column),
        "order_intent" => order(column),
        "portfolio_state" => portfolio(column),
        "pyramiding_state" => pyramid(column),
        "fill" => fill(column),
        "cash_movement" if column == "amount" => audit(MOVED),
        "trading_day" | "limit_latch" => day(column),
        _ => None,
    }
}

fn position(column: &str) -> Option<Witness> {
    match column {
        "instrument" => entrys!("instrument"),
        "symbol" => entrys!("symbol"),
        "exchange" => entrys!("exchange"),
        "product" => entrys!("product"),
        "entry_signal" => entrys!("signal_id"),
        "label" => planned!("label"),
        "strategy" => planned!("strategy"),
        "lot_size" => planned!("lot_size"),
        "point_value" => planned!("point_value"),
        "margin_per_lot" => planned!("margin_per_lot"),
        "atr" => planned!("atr"),
        "initial_stop" => planned!("stop"),
        "take_profit" => planned!("take_profit"),
        "entry_signal_seq" => planned!("signal_seq"),
        "entry_bar_time" => planned!("bar_time"),
        "quantity" => filled!("its orders' fills give it", "bought - sold"),
        "entry_quantity" => filled!("its orders' fills give it", "bought"),
        "entry_price" => {
            filled!("it is the average of what its entry's fills paid", "round(cost / nullif(bought, 0), 8)")
        }
        "realised" => filled!(
            "its fills' proceeds, less what they cost, give it",
            "round((proceeds - t.entry_price * sold) * t.point_value / nullif(t.lot_size, 0), 8)"
        ),
        // Of a late fill the entry's order names another position, whose charges are its own.
        "charges" => {
            filled!("its fills' charges give it", "CASE WHEN bought = t.entry_quantity THEN charged END")
        }
        "opened_at" => filled!("its first fill was recorded then", "first"),
        "current_stop" => audit("nullif(log -> 'stop', 'null')"),
        "highest_close" => audit("nullif(log -> 'high', 'null')"),
        "status" => says("what it holds, and the orders that are out, give it", STATUS),
        "exit_cause" => says("its orders say so", CAUSE),
        "version" => says("it only counts changes", "'0'::jsonb"),
        _ => None,
    }
}

fn order(column: &str) -> Option<Witness> {
    match column {
        "side" => says(
            "its class says so",
            "(CASE WHEN t.class = 'entry' THEN '\"BUY\"' WHEN t.class IN ('exit', 'protective', 'operator') THEN '\"SELL\"'
              END)::jsonb",
        ),
        "class" => says("its side, its plan and its cause say so", CLASS),
        "price_type" => says("its prices say so", PRICE_TYPE),
        "price" => says("its kind, or its first bid, says so", PRICE),
        "trigger_price" => says(
            "its kind says so: nothing triggers it",
            "CASE WHEN t.price_type IN ('MARKET', 'LIMIT') THEN '0'::jsonb END",
        ),
        "instrument" => positions!("instrument"),
        "symbol" => positions!("symbol"),
        "exchange" => positions!("exchange"),
        "product" => positions!("product"),
        // A takeover puts what is journaled in doubt, and does not tell.
        "state" => audit("nullif(log -> 'state', '\"journaled\"')"),
        "filled_quantity" => audit("log -> 'filled'"),
        "plan" => says("its position says so, where it cannot be read", PLAN),
        _ => None,
    }
}

fn portfolio(column: &str) -> Option<Witness> {
    match column {
        "capital" => says(
            "it is what was paid in and out",
            "(SELECT to_jsonb(sum(amount)) FROM cash_movement HAVING sum(amount) <> 'NaN')",
        ),
        "equity_high" => audit("log -> 'equity_high'"),
        "closed_equity" => says(
            "the capital and what was realised give it",
            "(SELECT to_jsonb(t.capital + coalesce(sum(p.realised), 0)) FROM position p)",
        ),
        "charges" => {
            says("the positions give it", "(SELECT to_jsonb(coalesce(sum(p.charges), 0)) FROM position p)")
        }
        "risk_amount" => {
            held!("greatest(p.entry_price - p.current_stop, 0) * p.quantity * p.point_value / p.lot_size")
        }
        "volatility_amount" => held!("p.atr * p.quantity * p.point_value / p.lot_size"),
        "margin_used" => held!("p.quantity * p.margin_per_lot / p.lot_size"),
        _ => None,
    }
}

fn pyramid(column: &str) -> Option<Witness> {
    let because = "the open positions give it";
    match column {
        "base_position" => says(because, "(SELECT coalesce((SELECT to_jsonb(p.id) FROM position p WHERE p.instrument = t.instrument
            AND p.status <> 'closed' AND p.label = 'Long_1' ORDER BY p.entry_bar_time DESC, p.entry_signal_seq DESC LIMIT 1),
            'null'))"),
        "last_pyramid_price" => says(because, "(SELECT to_jsonb(p.entry_price) FROM position p WHERE p.instrument = t.instrument
            AND p.status <> 'closed' ORDER BY p.label = 'Long_1', p.entry_bar_time DESC, p.entry_signal_seq DESC, p.id DESC
            LIMIT 1)"),
        "pyramid_count" => says(because, "(SELECT to_jsonb(count(*)) FROM position p WHERE p.instrument = t.instrument
            AND p.status <> 'closed' AND p.label <> 'Long_1')"),
        _ => None,
    }
}

fn fill(column: &str) -> Option<Witness> {
    match column {
        "price" => fill_told!("price"),
        "quantity" => fill_told!("quantity"),
        "charges" => fill_told!("charges"),
        _ => None,
    }
}

/// Of the newest day alone, as its row is named.
fn day(column: &str) -> Option<Witness> {
    match column {
        "opening_equity" => audit("log -> 'opening'"),
        "sentence" => audit("log -> 'sentence'"),
        "opened_at" | "at" => audit("to_jsonb((log ->> 'at') || 'Z')"),
        _ => None,
    }
}

const STATUS: &str = "to_jsonb(CASE WHEN t.quantity = 0 THEN 'closed' WHEN EXISTS (SELECT FROM order_intent o
    WHERE o.position_id = t.id AND o.class <> 'entry' AND o.price_type NOT IN ('SL', 'SL-M')
      AND o.state IN ('journaled', 'acknowledged', 'partially_filled', 'in_doubt')) THEN 'closing' ELSE 'open' END)";

/// The first that was sent gave it, and a stop that rested and sold where none was.
const CAUSE: &str = "coalesce((SELECT to_jsonb(o.cause) FROM order_intent o WHERE o.position_id = t.id AND o.cause IS NOT NULL
    AND (o.price_type NOT IN ('SL', 'SL-M') OR o.filled_quantity > 0)
    ORDER BY o.price_type IN ('SL', 'SL-M'), o.journaled_at LIMIT 1), 'null')";

/// The classes of the causes, as `ExitCause::class` has them.
const CLASS: &str = "to_jsonb(CASE WHEN t.side = 'BUY' AND t.plan IS NOT NULL THEN 'entry'
    WHEN t.side = 'SELL' AND t.plan IS NULL THEN CASE
        WHEN t.cause IN ('late_fill', 'signal') THEN 'exit'
        WHEN t.cause IN ('expiry', 'square_off', 'take_profit', 'stop_loss') THEN 'protective'
        WHEN t.cause IN ('shutdown', 'operator') THEN 'operator' END END)";

/// Only a limit has a price and no trigger, and so on.
const PRICE_TYPE: &str = "to_jsonb(CASE WHEN 'NaN' IN (t.price, t.trigger_price) THEN NULL
    WHEN t.price = 0 AND t.trigger_price = 0 THEN 'MARKET' WHEN t.trigger_price = 0 THEN 'LIMIT'
    WHEN t.price = 0 THEN 'SL-M' ELSE 'SL' END)";

const PRICE: &str = "CASE WHEN t.price_type IN ('MARKET', 'SL-M') THEN '0'::jsonb
    WHEN t.price_type = 'LIMIT' THEN nullif(t.plan #> '{bidding,prices,0}', '\"NaN\"') END";

/// What of a plan can be read stays what it is, and is held against the position like any other; an order that is over
/// needs its bids no more.
const PLAN: &str = r#"(SELECT jsonb_strip_nulls(jsonb_build_object('label', p.label, 'strategy', p.strategy, 'lot_size', p.lot_size,
        'point_value', p.point_value::text, 'margin_per_lot', p.margin_per_lot::text, 'atr', p.atr::text,
        'stop', p.initial_stop::text, 'take_profit', p.take_profit::text, 'planned_price', p.entry_price::text,
        'signal_seq', p.entry_signal_seq, 'bar_time', p.entry_bar_time)
      || coalesce((SELECT jsonb_object_agg(key, value) FROM jsonb_each(CASE WHEN jsonb_typeof(t.plan) = 'object' THEN t.plan END)
        WHERE CASE
            WHEN key IN ('point_value', 'margin_per_lot', 'atr', 'stop', 'take_profit', 'planned_price')
                THEN jsonb_typeof(value) = 'string' AND value #>> '{}' ~ '^-?[0-9]{1,20}(\.[0-9]{1,8})?$'
            WHEN key IN ('lot_size', 'signal_seq') THEN jsonb_typeof(value) = 'number' AND value #>> '{}' ~ '^[0-9]{1,18}$'
            WHEN key = 'label' THEN value #>> '{}' ~ '^Long_[1-6]$'
            WHEN key = 'strategy' THEN jsonb_typeof(value) = 'string'
            WHEN key = 'bar_time' THEN value #>> '{}' ~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+(Z|[+-][0-9]{2}:[0-9]{2})$'
        END), '{}'))
    FROM position p WHERE p.id = t.position_id AND t.class = 'entry' AND t.state IN ('filled', 'cancelled', 'rejected'))"#;

/// A movement is told with its id; the opening is what the capital leaves.
const MOVED: &str = "CASE WHEN t.kind <> 'opening' THEN log -> t.id::text
    ELSE (SELECT to_jsonb(s.capital - coalesce((SELECT sum(m.amount) FROM cash_movement m WHERE m.kind <> 'opening'), 0))
        FROM portfolio_state s WHERE s.capital <> 'NaN'
          AND NOT EXISTS (SELECT FROM cash_movement m WHERE m.kind <> 'opening' AND m.amount = 'NaN')) END";
