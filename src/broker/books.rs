//! The bridge's books and data, from JSON to typed rows.
//!
//! A row that cannot be read fails the whole book: a row dropped in silence would make an order look absent.
//! Only rows with a product or order type that this agent never sends are set aside, by name.

use chrono::{DateTime, NaiveDate};
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use serde_json::Value;

use super::json::{self, Object};
use super::plugin::Plugin;
use super::types::{BrokerOrder, BrokerPosition, BrokerTrade, ForeignRow, Funds, OrderStatus, Quote, Quoted};
use crate::domain::contract::Contract;
use crate::domain::listing::Listing;
use crate::domain::market::Candle;
use crate::domain::money::{Price, Quantity, Rupees};
use crate::domain::sessions::{Holiday, Session};

/// A row of the order book.
enum Row {
    Known(Box<BrokerOrder>),
    Foreign(ForeignRow),
}

/// Reads `data` of `/orderbook`.
pub(super) fn orders(plugin: &Plugin, data: &Value) -> Result<(Vec<BrokerOrder>, Vec<ForeignRow>), String> {
    let mut known = Vec::new();
    let mut foreign = Vec::new();
    let mut before = None;
    for row in rows(data.get("orders").ok_or("\"orders\" is missing")?)? {
        match order(plugin, row).map_err(|problem| format!("order row: {problem}"))? {
            Row::Known(mut order) => {
                order.may_inherit = may_inherit(&order, before);
                known.push(*order);
            }
            Row::Foreign(row) => foreign.push(row),
        }
        before = Some(row.get("order_status").and_then(Value::as_str).map(|word| plugin.status(word)));
    }
    Ok((known, foreign))
}

/// An order in transit is shown by some plugins with the status of the row before it (OPENALGO.md, "Hazards"). A row that
/// names its strategy is the sandbox's, and one with a reason of its own has a status of its own.
fn may_inherit(order: &BrokerOrder, before: Option<Option<OrderStatus>>) -> bool {
    let alike = before.is_some_and(|before| before.is_none_or(|status| status == order.status));
    alike && order.strategy.is_none() && order.rejection_reason.is_none()
}

fn order(plugin: &Plugin, row: &Object) -> Result<Row, String> {
    let order_id = json::required(row, "orderid", json::text)?;
    let symbol = json::required(row, "symbol", json::text)?;
    let words = (
        named(row, "action", |word| plugin.side(word))?,
        // The order status route says price_type where the book says pricetype.
        named(row, if row.contains_key("pricetype") { "pricetype" } else { "price_type" }, |word| {
            plugin.price_type(word)
        })?,
        named(row, "product", |word| plugin.product(word))?,
    );
    let (side, price_type, product) = match words {
        (Ok(side), Ok(price_type), Ok(product)) => (side, price_type, product),
        (Err(why), ..) | (_, Err(why), _) | (.., Err(why)) => {
            return Ok(Row::Foreign(ForeignRow { order_id, symbol, why }));
        }
    };
    Ok(Row::Known(Box::new(BrokerOrder {
        order_id,
        symbol,
        exchange: json::required(row, "exchange", json::text)?,
        side,
        quantity: json::required(row, "quantity", json::quantity)?,
        price_type,
        product,
        price: json::price_or_zero(row, "price")?,
        trigger_price: json::price_or_zero(row, "trigger_price")?,
        status: plugin.status(&json::required(row, "order_status", json::text)?),
        may_inherit: false,
        strategy: json::optional(row, "strategy", json::text)?,
        filled_quantity: json::optional(row, "filled_quantity", json::quantity)?,
        average_price: json::optional(row, "average_price", json::decimal)?.map(Price),
        rejection_reason: json::optional(row, "rejection_reason", json::text)?,
        timestamp: json::optional(row, "timestamp", json::text)?.unwrap_or_default(),
    })))
}

/// Reads `data` of `/tradebook`.
pub(super) fn trades(plugin: &Plugin, data: &Value) -> Result<Vec<BrokerTrade>, String> {
    rows(data)?.map(|row| trade(plugin, row).map_err(|problem| format!("trade row: {problem}"))).collect()
}

fn trade(plugin: &Plugin, row: &Object) -> Result<BrokerTrade, String> {
    let quantity = json::required(row, "quantity", json::quantity)?;
    Ok(BrokerTrade {
        order_id: json::required(row, "orderid", json::text)?,
        symbol: json::required(row, "symbol", json::text)?,
        exchange: json::required(row, "exchange", json::text)?,
        side: named(row, "action", |word| plugin.side(word))??,
        quantity,
        average_price: traded_at(row, quantity)?,
        trade_id: json::optional(row, "tradeid", json::text)?,
        timestamp: json::optional(row, "timestamp", json::text)?.unwrap_or_default(),
    })
}

/// The price of a trade. Some plugins leave the average out, or show zero before they know it: then the value says it. A
/// trade without any price is not read: it would be booked as bought for nothing.
fn traded_at(row: &Object, quantity: Quantity) -> Result<Price, String> {
    let known =
        |name| Ok::<_, String>(json::optional(row, name, json::decimal)?.filter(|n| *n > Decimal::ZERO));
    if let Some(average) = known("average_price")? {
        return Ok(Price(average));
    }
    let by_value = known("trade_value")?.and_then(|value| value.checked_div(quantity.decimal()));
    let price = by_value.filter(|price| *price > Decimal::ZERO);
    price.map(|price| Price(price.normalize())).ok_or_else(|| {
        let shown = row.get("average_price").unwrap_or(&Value::Null);
        format!("\"average_price\" is {}, and no trade_value says more", json::clip(&shown.to_string()))
    })
}

/// Reads `data` of `/positionbook`.
pub(super) fn positions(plugin: &Plugin, data: &Value) -> Result<Vec<BrokerPosition>, String> {
    rows(data)?
        .map(|row| position(plugin, row).map_err(|problem| format!("position row: {problem}")))
        .collect()
}

fn position(plugin: &Plugin, row: &Object) -> Result<BrokerPosition, String> {
    let mut last_price = None;
    for name in plugin.last_price {
        last_price = last_price.or(json::optional(row, name, json::decimal)?);
    }
    Ok(BrokerPosition {
        symbol: json::required(row, "symbol", json::text)?,
        exchange: json::required(row, "exchange", json::text)?,
        product: named(row, "product", |word| plugin.product(word))?.ok(),
        quantity: json::required(row, "quantity", json::quantity)?,
        average_price: json::price_or_zero(row, "average_price")?,
        last_price: last_price.map(Price),
        pnl: json::optional(row, "pnl", json::decimal)?.map(Rupees),
    })
}

/// Reads `data` of `/market/timings`; no rows say that everything is closed.
pub(super) fn sessions(data: &Value) -> Result<Vec<Session>, String> {
    rows(data)?.map(session).collect()
}

fn session(row: &Object) -> Result<Session, String> {
    let moment = |name: &str| {
        let ms = json::required(row, name, json::decimal)?;
        let moment = ms.to_i64().and_then(DateTime::from_timestamp_millis);
        moment.ok_or_else(|| format!("timings row: {name:?} is {ms}"))
    };
    let exchange = json::required(row, "exchange", json::text)?;
    let (opens, closes) = (moment("start_time")?, moment("end_time")?);
    if closes <= opens {
        return Err(format!("timings row: {exchange} closes before it opens"));
    }
    Ok(Session { exchange, opens, closes })
}

/// Reads `data` of `/market/holidays`. Half of a list is none: a day that it lacks would pass for a usual one.
pub(super) fn holidays(data: &Value) -> Result<Vec<Holiday>, String> {
    rows(data)?.map(|row| holiday(row).map_err(|problem| format!("holiday row: {problem}"))).collect()
}

fn holiday(row: &Object) -> Result<Holiday, String> {
    let day = json::required(row, "date", json::text)?;
    let day = day.parse().map_err(|_| format!("\"date\" is {day:?}"))?;
    let closed =
        row.get("closed_exchanges").and_then(Value::as_array).ok_or("\"closed_exchanges\" is missing")?;
    let closed = closed.iter().map(|name| name.as_str().map(str::to_owned).ok_or("an exchange is no text"));
    let open = match row.get("open_exchanges") {
        None | Some(Value::Null) => Vec::new(),
        Some(open) => sessions(open)?,
    };
    Ok(Holiday { day, closed: closed.collect::<Result<_, _>>()?, open })
}

/// Reads `data` of `/quotes`.
pub(super) fn quote(data: &Value) -> Result<Quote, String> {
    let row = data.as_object().ok_or("\"data\" is no object")?;
    let ltp = json::price(row, "ltp")?;
    // Only strategies need it, and they do without: it must not cost a stop its quote.
    let volume = json::optional(row, "volume", json::quantity).unwrap_or(None);
    let (bid, ask) = (json::price_or_zero(row, "bid")?, json::price_or_zero(row, "ask")?);
    Ok(Quote { ltp, bid, ask, volume })
}

/// Reads `results` of `/multiquotes`. A row that names no listing is an error of the whole; one without a usable
/// price is that listing's own.
pub(super) fn quotes(results: &Value) -> Result<Vec<Quoted>, String> {
    rows(results)?
        .map(|row| {
            let symbol = json::required(row, "symbol", json::text)?;
            let listing = Listing { exchange: json::required(row, "exchange", json::text)?, symbol };
            let quote = match row.get("data") {
                Some(data) => quote(data),
                None => Err(json::optional(row, "error", json::text)
                    .ok()
                    .flatten()
                    .map_or_else(|| "neither data nor error".to_owned(), |said| json::clip(&said))),
            };
            Ok(Quoted { listing, quote })
        })
        .collect()
}

/// Reads `data` of `/history`, in the order of time. Half of a history is none: what it lacks would count as not traded.
pub(super) fn candles(data: &Value) -> Result<Vec<Candle>, String> {
    let candles = rows(data)?.map(|row| candle(row).map_err(|problem| format!("candle: {problem}")));
    let mut candles: Vec<Candle> = candles.collect::<Result<_, _>>()?;
    candles.sort_by_key(|candle| candle.opens);
    Ok(candles)
}

fn candle(row: &Object) -> Result<Candle, String> {
    let seconds = json::required(row, "timestamp", json::quantity)?.0;
    let opens = DateTime::from_timestamp(seconds, 0).ok_or_else(|| format!("\"timestamp\" is {seconds}"))?;
    Ok(Candle {
        opens,
        open: json::price(row, "open")?,
        high: json::price(row, "high")?,
        low: json::price(row, "low")?,
        close: json::price(row, "close")?,
        volume: json::required(row, "volume", json::quantity)?,
    })
}

/// Reads `data` of `/funds`; `None` when it is empty, which is how a dead broker session looks.
pub(super) fn funds(data: &Value) -> Result<Option<Funds>, String> {
    let row = data.as_object().ok_or("\"data\" is no object")?;
    if row.is_empty() {
        return Ok(None);
    }
    let amount = |name| json::optional(row, name, json::decimal).map(|n| Rupees(n.unwrap_or_default()));
    Ok(Some(Funds {
        available_cash: json::required(row, "availablecash", json::decimal).map(Rupees)?,
        collateral: amount("collateral")?,
        realised: amount("m2mrealized")?,
        unrealised: amount("m2munrealized")?,
        utilised: amount("utiliseddebits")?,
    }))
}

/// Reads `data` of `/symbol`.
pub(super) fn contract(data: &Value) -> Result<Contract, String> {
    let row = data.as_object().ok_or("\"data\" is no object")?;
    let lot_size = json::required(row, "lotsize", json::quantity)?;
    let tick = json::price(row, "tick_size")?;
    if lot_size.0 <= 0 || tick.0 <= Price::ZERO.0 {
        return Err(format!("lot size {lot_size} and tick {tick} must both be above zero"));
    }
    let freeze_qty = json::optional(row, "freeze_qty", json::quantity)?.filter(|quantity| quantity.0 > 0);
    let expiry = json::optional(row, "expiry", json::text)?
        .map(|day| expiry(&day).ok_or_else(|| format!("\"expiry\" is {day:?}, not DD-MMM-YY")))
        .transpose()?;
    Ok(Contract { lot_size, tick, freeze_qty, expiry })
}

fn expiry(day: &str) -> Option<NaiveDate> {
    NaiveDate::parse_from_str(day, "%d-%b-%y").or_else(|_| NaiveDate::parse_from_str(day, "%d-%b-%Y")).ok()
}

/// Reads a word that `meaning` knows. The outer error is a field that is not there, the inner one a word that is not
/// known.
fn named<T>(
    row: &Object,
    name: &str,
    meaning: impl Fn(&str) -> Option<T>,
) -> Result<Result<T, String>, String> {
    let word = json::required(row, name, json::text)?;
    Ok(meaning(&word).ok_or_else(|| format!("{name} is {word:?}")))
}

fn rows(list: &Value) -> Result<impl Iterator<Item = &Object>, String> {
    let list = list.as_array().ok_or("the rows are no list")?;
    if let Some(odd) = list.iter().find(|row| !row.is_object()) {
        return Err(format!("a row is {}", json::clip(&odd.to_string())));
    }
    Ok(list.iter().filter_map(Value::as_object))
}

#[cfg(test)]
mod tests;
