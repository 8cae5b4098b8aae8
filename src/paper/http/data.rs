//! Quotes, contracts, calendar and the bridge's own routes: the same in both shapes.

use chrono::{DateTime, NaiveDate};
use rust_decimal::Decimal;
use serde_json::{Value, json};

use super::command::INTERVALS;
use super::contracts::contract;
use super::reply::Reply;
use crate::domain::money::Price;
use crate::paper::calendar::ist;
use crate::paper::core::Listing;
use crate::paper::faults::Fault;
use crate::paper::hub::{Hub, State, price};
use crate::paper::{BridgeMode, SymbolKey};

/// Levels of bids and of asks that are shown.
const DEPTH_LEVELS: i64 = 5;

/// The contract, unless the bridge's list of them is being refilled, as after each login.
fn listing<'a>(state: &'a State, key: &SymbolKey) -> Option<&'a Listing> {
    let gone = state.faults.holds(&Fault::ContractsGone, Some(&key.symbol));
    state.exchange.listing(key).filter(|_| !gone)
}

pub(super) fn quotes(state: &State, key: &SymbolKey) -> Reply {
    match listing(state, key) {
        Some(listing) => data(quote(listing)),
        None => Reply::plain_error(400, unknown(key)),
    }
}

/// 200 even if some symbols have an error.
pub(super) fn multi_quotes(state: &State, keys: &[SymbolKey]) -> Reply {
    let results: Vec<Value> = keys.iter().map(|key| one_of_many(state, key)).collect();
    Reply::Json(200, json!({ "results": results, "status": "success" }))
}

pub(super) fn symbol(state: &State, key: &SymbolKey) -> Reply {
    match listing(state, key) {
        Some(listing) => data(contract(listing)),
        None => Reply::plain_error(404, unknown(key)),
    }
}

/// Five levels on either side, a tick apart.
pub(super) fn depth(state: &State, key: &SymbolKey) -> Reply {
    let Some(listing) = listing(state, key) else { return Reply::plain_error(400, unknown(key)) };
    let best = listing.quote();
    let lot = listing.spec.lot_size.0;
    let levels = |best: Price, sign: i64| -> Vec<Value> {
        let step = listing.spec.tick_size.0 * Decimal::from(sign);
        let at = |level: i64| price(Price(best.0 + step * Decimal::from(level)));
        (0..DEPTH_LEVELS).map(|level| json!({ "price": at(level), "quantity": lot * (level + 1) })).collect()
    };
    let all = (1..=DEPTH_LEVELS).sum::<i64>() * lot;
    let mut answer = quote(listing);
    for (name, value) in [
        ("bids", json!(levels(best.bid, -1))),
        ("asks", json!(levels(best.ask, 1))),
        ("ltq", json!(lot)),
        ("totalbuyqty", json!(all)),
        ("totalsellqty", json!(all)),
    ] {
        answer[name] = value;
    }
    for best in ["ask", "bid"] {
        answer.as_object_mut().and_then(|fields| fields.remove(best));
    }
    data(answer)
}

/// Bars of what was traded at since the start, of the days asked for; times in seconds.
pub(super) fn history(
    state: &State,
    key: &SymbolKey,
    interval_minutes: i64,
    from: NaiveDate,
    to: NaiveDate,
) -> Reply {
    if listing(state, key).is_none() {
        return Reply::plain_error(400, unknown(key));
    }
    let day = |minute: i64| {
        DateTime::from_timestamp(minute * 60, 0).map(|at| at.with_timezone(&ist()).date_naive())
    };
    let rows: Vec<Value> = state
        .exchange
        .bars(key, interval_minutes)
        .into_iter()
        .filter(|bar| day(bar.minute).is_some_and(|day| (from..=to).contains(&day)))
        .map(|bar| {
            json!({
                "timestamp": bar.minute * 60, "open": price(bar.open), "high": price(bar.high),
                "low": price(bar.low), "close": price(bar.close), "volume": bar.volume, "oi": 0,
            })
        })
        .collect();
    data(rows.into())
}

pub(super) fn intervals() -> Reply {
    let of = |unit: char| -> Vec<&str> {
        INTERVALS.iter().map(|(name, _)| *name).filter(|name| name.ends_with(unit)).collect()
    };
    data(json!({
        "seconds": of('s'), "minutes": of('m'), "hours": of('h'), "days": of('D'), "weeks": of('W'), "months": of('M'),
    }))
}

/// Never touches the broker, so it answers with a dead session too.
pub(super) fn ping(hub: &Hub) -> Reply {
    data(json!({ "broker": hub.options.broker, "message": "pong" }))
}

pub(super) fn analyzer(state: &State) -> Reply {
    data(mode(state))
}

/// Any holder of the API key can flip the mode, as on the real bridge. The account stays the same here.
pub(super) fn toggle(state: &mut State, analyze: bool) -> Reply {
    state.mode = if analyze { BridgeMode::Analyze } else { BridgeMode::Live };
    let mut answer = mode(state);
    answer["message"] = format!("Analyzer mode switched to {}", state.mode).into();
    data(answer)
}

pub(super) fn holidays(state: &State, year: i32) -> Reply {
    let rows = state.calendar.holidays(year);
    Reply::Json(200, json!({ "data": rows, "year": year, "status": "success" }))
}

pub(super) fn timings(state: &State, date: NaiveDate) -> Reply {
    data(Value::from(state.calendar.timings(date)))
}

/// Success with data, the same in both shapes.
pub(super) fn data(data: Value) -> Reply {
    Reply::Json(200, json!({ "data": data, "status": "success" }))
}

fn unknown(key: &SymbolKey) -> String {
    format!("Symbol '{}' not found for exchange '{}'", key.symbol, key.exchange)
}

fn mode(state: &State) -> Value {
    json!({
        "mode": state.mode,
        "analyze_mode": state.mode == BridgeMode::Analyze,
        "total_logs": state.exchange.orders().len(),
    })
}

/// Without a timestamp: how old it is cannot be seen.
pub(super) fn quote(listing: &Listing) -> Value {
    let quote = listing.quote();
    json!({
        "ask": price(quote.ask),
        "bid": price(quote.bid),
        "high": price(listing.high),
        "low": price(listing.low),
        "ltp": price(quote.ltp),
        "oi": 0,
        "open": price(listing.open),
        "prev_close": price(listing.prev_close),
        "volume": listing.volume,
    })
}

fn one_of_many(state: &State, key: &SymbolKey) -> Value {
    match listing(state, key) {
        Some(listing) => json!({ "symbol": key.symbol, "exchange": key.exchange, "data": quote(listing) }),
        None => json!({ "symbol": key.symbol, "exchange": key.exchange, "error": unknown(key) }),
    }
}
