//! Webhook bodies.
#![allow(dead_code, reason = "each test binary uses its own part")]

use chrono::{SecondsFormat, TimeDelta, Utc};
use serde_json::{Value, json};

/// The instrument that most tests trade, and its contract.
pub const GOLD: &str = "GOLD_MINI";
pub const GOLD_SYMBOL: &str = "GOLDM05DEC25FUT";

/// Another one, and its contract.
pub const SILVER: &str = "SILVER_MINI";
pub const SILVER_SYMBOL: &str = "SILVERM27FEB26FUT";

fn now() -> String {
    Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// A base entry with the stop 1 % below.
pub fn base(id: &str, instrument: &str, price: i64) -> Value {
    entry(id, instrument, "Long_1", price)
}

/// A pyramid with the stop 1 % below.
pub fn pyramid(id: &str, instrument: &str, label: &str, price: i64) -> Value {
    entry(id, instrument, label, price)
}

fn entry(id: &str, instrument: &str, label: &str, price: i64) -> Value {
    json!({
        "id": id, "type": if label == "Long_1" { "BASE_ENTRY" } else { "PYRAMID" }, "instrument": instrument,
        "position": label, "price": price, "stop": price - price / 100, "atr": price / 200, "er": 0.8, "lots": 1,
        "timestamp": now(),
    })
}

/// An exit of a label, or `ALL`. Its bar closes a minute later, so that it is after its entry's.
pub fn exit(id: &str, instrument: &str, label: &str, price: i64) -> Value {
    let bar = (Utc::now() + TimeDelta::seconds(30)).to_rfc3339_opts(SecondsFormat::Millis, true);
    json!({
        "id": id, "type": "EXIT", "instrument": instrument, "position": label, "price": price, "reason": "TEST",
        "bar_time": bar, "timestamp": now(),
    })
}

/// A bar that closes at `price`; stops trail by multiples of `atr` below it.
pub fn bar(id: &str, instrument: &str, price: i64, atr: i64) -> Value {
    json!({
        "id": id, "type": "MARKET_DATA", "instrument": instrument, "price": price, "atr": atr,
        "supertrend": price - price / 100, "timestamp": now(),
    })
}
