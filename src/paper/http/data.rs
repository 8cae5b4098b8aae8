//! Quotes, contracts, calendar and the bridge's own routes: the same in both shapes.

use chrono::NaiveDate;
use serde_json::{Value, json};

use super::reply::Reply;
use crate::domain::market::Candle;
use crate::paper::calendar::ist;
use crate::paper::core::Listing;
use crate::paper::faults::Fault;
use crate::paper::hub::{Hub, State, price};
use crate::paper::{BridgeMode, SymbolKey};

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

/// Minute candles of the days from `from` to `to`, by their begin in epoch seconds.
pub(super) fn history(state: &State, key: &SymbolKey, from: NaiveDate, to: NaiveDate) -> Reply {
    if listing(state, key).is_none() {
        return Reply::plain_error(400, unknown(key));
    }
    let day = |candle: &Candle| candle.opens.with_timezone(&ist()).date_naive();
    let candles = state.exchange.candles(key).filter(|candle| (from..=to).contains(&day(candle)));
    let rows = candles.map(|candle| {
        json!({
            "timestamp": candle.opens.timestamp(),
            "open": price(candle.open),
            "high": price(candle.high),
            "low": price(candle.low),
            "close": price(candle.close),
            "volume": candle.volume,
            "oi": 0,
        })
    });
    data(rows.collect())
}

pub(super) fn symbol(state: &State, key: &SymbolKey) -> Reply {
    match listing(state, key) {
        Some(listing) => data(contract(listing)),
        None => Reply::plain_error(404, unknown(key)),
    }
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

fn data(data: Value) -> Reply {
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
fn quote(listing: &Listing) -> Value {
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

fn contract(listing: &Listing) -> Value {
    let spec = &listing.spec;
    let name = spec.key.symbol.split(|letter: char| letter.is_ascii_digit()).next().unwrap_or_default();
    json!({
        "symbol": spec.key.symbol,
        "brsymbol": spec.key.symbol,
        "name": name,
        "exchange": spec.key.exchange,
        "brexchange": spec.key.exchange,
        "token": spec.key.to_string(),
        "instrumenttype": if spec.expiry.is_empty() { "EQ" } else { "FUT" },
        "expiry": spec.expiry,
        "strike": 0.0,
        "lotsize": spec.lot_size,
        "tick_size": price(spec.tick_size),
        "freeze_qty": spec.freeze_qty,
    })
}
