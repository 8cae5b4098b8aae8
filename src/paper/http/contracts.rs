//! What is listed: `search`, `expiry` and `instruments`, and the words in which contracts are shown. From the bridge's own
//! list: no route here asks the broker.

use std::collections::BTreeSet;

use chrono::NaiveDate;
use serde_json::{Value, json};

use super::command::ContractKind;
use super::data::data;
use super::reply::Reply;
use crate::paper::core::Listing;
use crate::paper::hub::{State, number, price};
use crate::paper::symbols::{Kind, Name};

/// A contract as `symbol`, `search` and `instruments` show it.
pub(super) fn contract(listing: &Listing) -> Value {
    let spec = &listing.spec;
    let name = Name::read(&spec.key.symbol);
    json!({
        "symbol": spec.key.symbol,
        "brsymbol": spec.key.symbol,
        "name": name.base,
        "exchange": spec.key.exchange,
        "brexchange": spec.key.exchange,
        "token": spec.key.to_string(),
        "instrumenttype": name.instrument_type(),
        "expiry": spec.expiry,
        "strike": number(name.strike().unwrap_or_default()),
        "lotsize": spec.lot_size,
        "tick_size": price(spec.tick_size),
        "freeze_qty": spec.freeze_qty,
    })
}

/// Contracts whose symbol has all words of the query in it.
pub(super) fn search(state: &State, query: &str, exchange: Option<&str>) -> Reply {
    let words: Vec<String> = query.split_whitespace().map(str::to_uppercase).collect();
    let rows: Vec<Value> = state
        .exchange
        .listings()
        .filter(|listing| exchange.is_none_or(|exchange| listing.spec.key.exchange == exchange))
        .filter(|listing| words.iter().all(|word| listing.spec.key.symbol.contains(word.as_str())))
        .map(contract)
        .collect();
    if rows.is_empty() {
        return Reply::plain_error(404, "No matching symbols found");
    }
    let message = format!("Found {} matching symbols", rows.len());
    Reply::Json(200, json!({ "data": rows, "message": message, "status": "success" }))
}

/// The days on which contracts on an underlying expire, the nearest first, each `DD-MMM-YY`.
pub(super) fn expiry(state: &State, base: &str, exchange: &str, kind: ContractKind) -> Reply {
    let days: BTreeSet<(Option<NaiveDate>, &str)> = state
        .exchange
        .listings()
        .filter(|listing| listing.spec.key.exchange == exchange && !listing.spec.expiry.is_empty())
        .filter(|listing| {
            let name = Name::read(&listing.spec.key.symbol);
            let of_kind = match kind {
                ContractKind::Futures => name.kind == Kind::Future,
                ContractKind::Options => name.strike().is_some(),
            };
            of_kind && name.base == base
        })
        .map(|listing| {
            let day = listing.spec.expiry.as_str();
            (NaiveDate::parse_from_str(day, "%d-%b-%y").ok(), day)
        })
        .collect();
    let days: Vec<&str> = days.into_iter().map(|(_, day)| day).collect();
    if days.is_empty() {
        return Reply::plain_error(404, format!("No expiry dates found for {base} in {exchange}"));
    }
    data(json!(days))
}

/// All contracts, or an exchange's, as JSON or as CSV.
pub(super) fn instruments(state: &State, exchange: Option<&str>, as_csv: bool) -> Reply {
    let rows: Vec<Value> = state
        .exchange
        .listings()
        .filter(|listing| exchange.is_none_or(|exchange| listing.spec.key.exchange == exchange))
        .map(contract)
        .collect();
    if !as_csv {
        return data(rows.into());
    }
    let columns = [
        "symbol",
        "brsymbol",
        "name",
        "exchange",
        "brexchange",
        "token",
        "expiry",
        "strike",
        "lotsize",
        "instrumenttype",
        "tick_size",
    ];
    let mut lines = vec![columns.join(",")];
    // No name of a contract has a comma or a quote in it.
    let cell = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    lines.extend(rows.iter().map(|row| columns.map(|column| cell(&row[column])).join(",")));
    Reply::Csv(lines.join("\n") + "\n")
}
