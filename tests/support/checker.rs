//! The checker: the ledger against the paper bridge's own books and log (HA.md S1, S2, S14, S15, S16).
//!
//! The bridge writes down every request before it looks at it, and every request carries the intent's own tag, so
//! "which intent sent this" is read, not guessed: also where the bridge's answers (live shape) hide it from the agent.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use chrono::{DateTime, Utc};
use rust_decimal::{Decimal, dec};
use tokio_postgres::Client;
use uuid::Uuid;

use super::paper::{Arrival, Paper, PaperOrder};
use super::wait;

/// How long in-doubt orders and exits that are sent again may take to come to rest.
pub const SETTLE: Duration = Duration::from_secs(60);
/// Stored prices are rounded to eight digits, so sums over many units may differ by so much.
const TOLERANCE: Decimal = dec!(0.01);

/// What was compared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Check {
    pub signals: usize,
    pub intents: usize,
    pub orders: usize,
    pub arrivals: usize,
    pub epochs: usize,
    pub open_positions: usize,
    /// Intents by state.
    pub states: BTreeMap<String, usize>,
}

struct Intent {
    id: Uuid,
    signal: Option<Uuid>,
    leg: i32,
    attempt: i32,
    position: Uuid,
    epoch: i64,
    incarnation: Uuid,
    class: String,
    cause: Option<String>,
    symbol: String,
    side: String,
    quantity: i64,
    tag: String,
    state: String,
    order: Option<String>,
    filled: i64,
    journaled_at: DateTime<Utc>,
    value: Decimal,
    filled_rows: i64,
}

/// Waits until no signal and no intent is under way and no position is on its way out.
pub async fn settled(sql: &Client) {
    settled_within(sql, SETTLE).await;
}

/// The same, for what takes longer than usual.
pub async fn settled_within(sql: &Client, patience: Duration) {
    wait::until("nothing is under way any more", patience, async || {
        let row = sql
            .query_one(
                "SELECT (SELECT count(*) FROM signal WHERE status IN ('pending', 'working')),
                    (SELECT count(*) FROM order_intent
                     WHERE state IN ('journaled', 'acknowledged', 'partially_filled', 'in_doubt')
                       AND NOT (state = 'acknowledged' AND price_type = 'SL')),
                    (SELECT count(*) FROM position WHERE status = 'closing')",
                &[],
            )
            .await
            .unwrap();
        let open: [i64; 3] = [row.get(0), row.get(1), row.get(2)];
        if open == [0, 0, 0] {
            return Ok(());
        }
        let orders = sql
            .query(
                "SELECT class || ' ' || price_type || ' ' || state || ' ' || coalesce(reason, '') FROM order_intent
                 WHERE state IN ('journaled', 'acknowledged', 'partially_filled', 'in_doubt') ORDER BY journaled_at LIMIT 20",
                &[],
            )
            .await
            .unwrap();
        let orders: Vec<String> = orders.iter().map(|row| row.get(0)).collect();
        Err(format!("signals, intents, closing: {open:?}; {orders:#?}"))
    })
    .await;
}

/// Compares; panics with everything that does not hold.
pub async fn check(sql: &Client, paper: &Paper) -> Check {
    let (orders, arrivals) = (paper.orders().await, paper.arrivals().await);
    let intents = intents(sql).await;
    let mut faults = Vec::new();
    let by_tag: HashMap<&str, &Intent> = intents.iter().map(|intent| (intent.tag.as_str(), intent)).collect();

    // S1, S2: at most one request and one order per intent, and no request without a committed intent.
    let mut placed: HashSet<&str> = HashSet::new();
    for arrival in arrivals.iter().filter(|arrival| arrival.verb == "placeorder") {
        let tag = arrival.body["strategy"].as_str().unwrap_or_default();
        match by_tag.get(tag) {
            None => faults.push(format!("S2: request {} ({tag}) has no intent", arrival.arrival)),
            Some(intent) => {
                if !placed.insert(&intent.tag) {
                    faults.push(format!(
                        "S1: intent {} was sent twice (request {})",
                        intent.id, arrival.arrival
                    ));
                }
            }
        }
    }
    let mut of_intent: HashMap<Uuid, &PaperOrder> = HashMap::new();
    for order in &orders {
        match by_tag.get(order.strategy.as_str()) {
            None => faults.push(format!("S1: order {} has no intent", order.orderid)),
            Some(intent) => {
                if let Some(other) = of_intent.insert(intent.id, order) {
                    let ids = (&other.orderid, &order.orderid);
                    faults.push(format!("S1: intent {} has two orders {ids:?}", intent.id));
                }
            }
        }
    }
    let mut legs = HashSet::new();
    for intent in &intents {
        if let Some(signal) = intent.signal
            && !legs.insert((signal, intent.leg, intent.attempt))
        {
            faults.push(format!("S1: signal {signal} has two intents for a leg"));
        }
        faults.extend(explain(intent, of_intent.get(&intent.id).copied()));
    }
    faults.extend(intents.iter().filter_map(classed));
    faults.extend(requests(sql, &arrivals).await);
    faults.extend(positions(sql, &intents, &orders).await);
    faults.extend(never_short(&orders));
    let epochs = epochs(sql, &intents, &mut faults).await;
    faults.extend(aggregates(sql).await);
    faults.extend(signals(sql).await);
    faults.extend(beyond(sql).await);
    assert!(faults.is_empty(), "the ledger and the bridge disagree:\n{}", faults.join("\n"));

    let mut states = BTreeMap::new();
    for intent in &intents {
        *states.entry(intent.state.clone()).or_default() += 1;
    }
    let count = async |what: &str| -> usize {
        let row = sql.query_one(&format!("SELECT count(*) FROM {what}"), &[]).await.unwrap();
        usize::try_from(row.get::<_, i64>(0)).unwrap()
    };
    Check {
        signals: count("signal").await,
        intents: intents.len(),
        orders: orders.len(),
        arrivals: arrivals.len(),
        epochs,
        open_positions: count("position WHERE status <> 'closed'").await,
        states,
    }
}

async fn intents(sql: &Client) -> Vec<Intent> {
    let rows = sql
        .query(
            "SELECT o.id, o.signal_id, o.leg, o.attempt, o.position_id, o.epoch, o.incarnation, o.class, o.symbol,
                o.side, o.quantity, o.strategy_tag, o.state, o.broker_order_id, o.filled_quantity, o.journaled_at,
                coalesce(sum(f.price * f.quantity), 0), coalesce(sum(f.quantity), 0)::bigint, o.cause
             FROM order_intent o LEFT JOIN fill f ON f.intent_id = o.id GROUP BY o.id ORDER BY o.journaled_at, o.id",
            &[],
        )
        .await
        .unwrap();
    rows.iter()
        .map(|row| Intent {
            id: row.get(0),
            signal: row.get(1),
            leg: row.get(2),
            attempt: row.get(3),
            position: row.get(4),
            epoch: row.get(5),
            incarnation: row.get(6),
            class: row.get(7),
            symbol: row.get(8),
            side: row.get(9),
            quantity: row.get(10),
            tag: row.get(11),
            state: row.get(12),
            order: row.get(13),
            filled: row.get(14),
            journaled_at: row.get(15),
            value: row.get(16),
            filled_rows: row.get(17),
            cause: row.get(18),
        })
        .collect()
}

/// Entries buy; everything else sells, and says why by the class that its cause has.
fn classed(intent: &Intent) -> Option<String> {
    let wanted = match intent.cause.as_deref() {
        None => "entry",
        Some("signal" | "late_fill") => "exit",
        Some("expiry" | "square_off" | "stop_loss" | "take_profit") => "protective",
        Some("operator" | "shutdown") => "operator",
        Some(_) => "unknown",
    };
    let side = if intent.class == "entry" { "BUY" } else { "SELL" };
    let fits = intent.class == wanted && intent.side == side;
    let (id, class, side, cause) = (intent.id, &intent.class, &intent.side, &intent.cause);
    (!fits).then(|| format!("S15: intent {id} is a {side} of class {class} for {cause:?}"))
}

/// S2: every cancel and modify that reached the bridge was recorded first, and was sent once; nothing else changes an
/// order.
async fn requests(sql: &Client, arrivals: &[Arrival]) -> Vec<String> {
    let recorded = "SELECT 'cancel:' || id, order_id FROM order_cancel
        UNION ALL SELECT 'modify:' || id, order_id FROM order_modify";
    let rows = sql.query(recorded, &[]).await.unwrap();
    let mut recorded: HashMap<String, String> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let mut faults = Vec::new();
    for arrival in arrivals.iter().filter(|arrival| arrival.verb != "placeorder") {
        let tag = arrival.body["strategy"].as_str().unwrap_or_default();
        let verb = match arrival.verb.as_str() {
            "cancelorder" => "cancel:",
            "modifyorder" => "modify:",
            _ => "none",
        };
        let order = recorded.remove(tag).filter(|_| tag.starts_with(verb));
        if order.as_deref() != arrival.body["orderid"].as_str() || order.is_none() {
            faults.push(format!(
                "S2: request {} ({} {tag}) was not recorded, or was sent twice",
                arrival.arrival, arrival.verb
            ));
        }
    }
    faults
}

/// What the ledger says of an intent is what the bridge did with it.
fn explain(intent: &Intent, order: Option<&PaperOrder>) -> Vec<String> {
    let mut faults = Vec::new();
    let mut fault = |text: String| faults.push(format!("intent {} ({}): {text}", intent.id, intent.state));
    if intent.filled_rows != intent.filled {
        fault(format!("its row says {} filled, its fills {}", intent.filled, intent.filled_rows));
    }
    let Some(order) = order else {
        if !matches!(intent.state.as_str(), "not_sent" | "abandoned" | "rejected") {
            fault("the bridge never had it".to_owned());
        }
        return faults;
    };
    if matches!(intent.state.as_str(), "not_sent" | "abandoned") {
        fault(format!("S16: but the bridge has it as order {}", order.orderid));
    }
    if intent.order.as_ref().is_some_and(|id| *id != order.orderid) {
        fault(format!("it claims order {:?}, but its own is {}", intent.order, order.orderid));
    }
    let terms = (intent.symbol.as_str(), intent.side.as_str(), intent.quantity);
    if terms != (order.symbol.as_str(), order.side.as_str(), order.quantity) {
        fault(format!("its terms {terms:?} are not those of order {}", order.orderid));
    }
    let fits = match order.order_status.as_str() {
        "complete" => intent.state == "filled",
        "rejected" => intent.state == "rejected",
        "cancelled" => intent.state == "cancelled",
        "trigger pending" => intent.state == "acknowledged",
        _ => false,
    };
    if !fits {
        fault(format!("order {} is {}", order.orderid, order.order_status));
    }
    if intent.filled != order.filled_quantity || (intent.value - order.value()).abs() > TOLERANCE {
        fault(format!(
            "filled {} for {}, at the bridge {} for {}",
            intent.filled,
            intent.value,
            order.filled_quantity,
            order.value()
        ));
    }
    faults
}

/// S14: what is held by the ledger is what the bridge's fills add up to; profit and loss too.
async fn positions(sql: &Client, intents: &[Intent], orders: &[PaperOrder]) -> Vec<String> {
    let mut faults = Vec::new();
    let mut held: BTreeMap<String, i64> = BTreeMap::new();
    for order in orders {
        let sign = if order.side == "BUY" { 1 } else { -1 };
        *held.entry(order.symbol.clone()).or_default() += sign * order.filled_quantity;
    }
    let rows = sql
        .query(
            "SELECT id, symbol, quantity, entry_quantity, realised, point_value, lot_size, entry_price, entry_signal, charges,
                coalesce((SELECT sum(f.charges) FROM order_intent o JOIN fill f ON f.intent_id = o.id WHERE o.position_id = p.id), 0)
             FROM position p",
            &[],
        )
        .await
        .unwrap();
    for row in &rows {
        let (id, symbol, quantity, bought): (Uuid, String, i64, i64) =
            (row.get(0), row.get(1), row.get(2), row.get(3));
        let (realised, point_value, lot): (Decimal, Decimal, i64) = (row.get(4), row.get(5), row.get(6));
        *held.entry(symbol).or_default() -= quantity;
        let sum = |entry: bool| {
            let own =
                intents.iter().filter(|intent| intent.position == id && (intent.class == "entry") == entry);
            own.fold((0, Decimal::ZERO), |(units, value), intent| {
                (units + intent.filled, value + intent.value)
            })
        };
        let ((mut in_units, mut in_value), (out_units, out_value)) = (sum(true), sum(false));
        // What an entry filled when its position was over already is another position: together they are what it bought.
        let (entry_price, signal): (Decimal, Uuid) = (row.get(7), row.get(8));
        let siblings: Vec<_> = rows.iter().filter(|other| other.get::<_, Uuid>(8) == signal).collect();
        let (charges, charged): (Decimal, Decimal) = (row.get(9), row.get(10));
        if in_units == bought && charges != charged {
            faults.push(format!("S14: position {id} was charged {charges}, its fills {charged}"));
        }
        if in_units != bought && siblings.len() > 1 {
            let apart: i64 = siblings.iter().map(|position| position.get::<_, i64>(3)).sum();
            let of_signal = |intent: &&Intent| intent.signal == Some(signal) && intent.class == "entry";
            let together: i64 = intents.iter().filter(of_signal).map(|intent| intent.filled).sum();
            if apart != together {
                faults.push(format!("S14: signal {signal} bought {together} units, its positions {apart}"));
            }
            (in_units, in_value) = (bought, entry_price * Decimal::from(bought));
        }
        if in_units != bought || in_units - out_units != quantity {
            faults.push(format!(
                "S14: position {id} holds {quantity} of {bought}, its fills say {in_units} in, {out_units} out"
            ));
        }
        if in_units > 0 {
            let paid = in_value / Decimal::from(in_units) * Decimal::from(out_units);
            let expected = (out_value - paid) * point_value / Decimal::from(lot);
            if (expected - realised).abs() > TOLERANCE {
                faults.push(format!("S14: position {id} realised {realised}, its fills give {expected}"));
            }
        }
    }
    let apart = held.into_iter().filter(|(_, units)| *units != 0);
    faults.extend(
        apart.map(|(symbol, units)| format!("S14: {symbol}: the bridge holds {units} more than the ledger")),
    );
    faults
}

/// S15: no fill ever took an account below nothing, and what still rests to be sold is held.
fn never_short(orders: &[PaperOrder]) -> Vec<String> {
    let mut faults = Vec::new();
    let mut fills: Vec<(DateTime<Utc>, &str, i64)> = Vec::new();
    let mut working: BTreeMap<&str, i64> = BTreeMap::new();
    for order in orders {
        let sign = if order.side == "BUY" { 1 } else { -1 };
        fills.extend(order.fills.iter().map(|fill| (fill.at, order.symbol.as_str(), sign * fill.quantity)));
        if order.side == "SELL" && matches!(order.order_status.as_str(), "open" | "trigger pending") {
            *working.entry(&order.symbol).or_default() += order.quantity - order.filled_quantity;
        }
    }
    fills.sort_by_key(|(at, ..)| *at);
    let mut held: BTreeMap<&str, i64> = BTreeMap::new();
    for (at, symbol, units) in fills {
        let now = held.entry(symbol).or_default();
        *now += units;
        if *now < 0 {
            faults.push(format!("S15: {symbol} was {now} at {at}"));
        }
    }
    for (symbol, units) in working {
        let held = held.get(symbol).copied().unwrap_or(0);
        if units > held {
            faults.push(format!("S15: {units} units of {symbol} work to be sold, {held} are held"));
        }
    }
    faults
}

/// Every intent was journaled by the instance that held its epoch, after it had got it; epochs have no gaps upwards.
async fn epochs(sql: &Client, intents: &[Intent], faults: &mut Vec<String>) -> usize {
    let rows = sql
        .query(
            // An epoch that nobody held authorised nothing. One statement sees both tables at one moment: leadership may move.
            "SELECT h.epoch, coalesce(h.incarnation, '00000000-0000-0000-0000-000000000000'), h.started_at, l.epoch
             FROM leadership l LEFT JOIN leadership_history h ON true",
            &[],
        )
        .await
        .unwrap();
    let terms = rows.iter().filter_map(|row| Some((row.get::<_, Option<i64>>(0)?, (row.get(1), row.get(2)))));
    let history: HashMap<i64, (Uuid, DateTime<Utc>)> = terms.collect();
    for intent in intents {
        match history.get(&intent.epoch) {
            None => {
                faults.push(format!("intent {}: epoch {} is not in the history", intent.id, intent.epoch))
            }
            Some((incarnation, started_at)) => {
                if *incarnation != intent.incarnation || intent.journaled_at < *started_at {
                    faults.push(format!("intent {}: not by the holder of epoch {}", intent.id, intent.epoch));
                }
            }
        }
    }
    let epoch: i64 = rows[0].get(3);
    if history.keys().max() != Some(&epoch) {
        faults.push(format!("S7: epoch {epoch} is in force, the history ends at {:?}", history.keys().max()));
    }
    history.len()
}

/// The stored aggregates are what the positions give.
async fn aggregates(sql: &Client) -> Vec<String> {
    let row = sql
        .query_one(
            "SELECT s.closed_equity, s.capital + p.realised, s.risk_amount, p.risk, s.margin_used, p.margin,
                s.volatility_amount, p.volatility, s.charges, p.charges
             FROM portfolio_state s, (
                SELECT coalesce(sum(realised), 0) AS realised, coalesce(sum(charges), 0) AS charges,
                    coalesce(sum(greatest(entry_price - current_stop, 0) * quantity * point_value / lot_size), 0) AS risk,
                    coalesce(sum(quantity * margin_per_lot / lot_size), 0) AS margin,
                    coalesce(sum(atr * quantity * point_value / lot_size), 0) AS volatility
                FROM position) p",
            &[],
        )
        .await
        .unwrap();
    let figures = ["closed equity", "risk", "margin", "volatility", "charges"];
    let pairs = figures.iter().enumerate().map(|(place, figure)| {
        let stored: Decimal = row.get(place * 2);
        let given: Decimal = row.get(place * 2 + 1);
        (figure, stored, given.round_dp(8))
    });
    pairs
        .filter(|(_, stored, given)| (stored - given).abs() > TOLERANCE)
        .map(|(figure, stored, given)| {
            format!("aggregates: {figure} is {stored}, the positions give {given}")
        })
        .collect()
}

/// S1: the orders of an entry that is worked bought no more together than was decided.
async fn beyond(sql: &Client) -> Vec<String> {
    let rows = sql
        .query(
            "SELECT signal_id, sum(filled_quantity)::bigint, max((plan #>> '{bidding,units}')::bigint)
             FROM order_intent WHERE class = 'entry' AND signal_id IS NOT NULL GROUP BY signal_id
             HAVING sum(filled_quantity) > max((plan #>> '{bidding,units}')::bigint)",
            &[],
        )
        .await
        .unwrap();
    let fault = |row: &tokio_postgres::Row| {
        let (signal, bought, wanted): (Uuid, i64, i64) = (row.get(0), row.get(1), row.get(2));
        format!("S1: signal {signal} bought {bought} of {wanted} units")
    };
    rows.iter().map(fault).collect()
}

/// A signal's end fits its orders.
async fn signals(sql: &Client) -> Vec<String> {
    let rows = sql
        .query(
            "SELECT s.id, s.status, s.type, count(o.id), coalesce(sum(o.filled_quantity), 0)::bigint,
                coalesce(s.reasons -> 0 ->> 'code', ''), count(o.id) FILTER (WHERE o.state <> 'not_sent')
             FROM signal s LEFT JOIN order_intent o ON o.signal_id = s.id GROUP BY s.id",
            &[],
        )
        .await
        .unwrap();
    let mut faults = Vec::new();
    for row in &rows {
        let (id, status, kind): (Uuid, String, String) = (row.get(0), row.get(1), row.get(2));
        let (orders, filled): (i64, i64) = (row.get(3), row.get(4));
        // An EXIT that came while its entry was in doubt: what that fills is closed by an order of no signal.
        let unwinds = row.get::<_, String>(5) == "CLOSED_IF_FILLED" && orders == 0;
        let trades = matches!(kind.as_str(), "BASE_ENTRY" | "PYRAMID" | "EXIT");
        let fits = match status.as_str() {
            "executed" => !trades || filled > 0 || unwinds,
            // What was withheld is decided anew, and may be refused then.
            "refused" => row.get::<_, i64>(6) == 0,
            _ => orders > 0 && filled == 0,
        };
        if !fits {
            faults.push(format!("signal {id} is {status} with {orders} orders that filled {filled}"));
        }
    }
    faults
}
