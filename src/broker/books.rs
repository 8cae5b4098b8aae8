//! The bridge's books and data, from JSON to typed rows.
//!
//! A row that cannot be read fails the whole book: a row dropped in silence would make an order look absent.
//! Only rows with a product or order type that this agent never sends are set aside, by name.

use chrono::{DateTime, NaiveDate};
use rust_decimal::prelude::ToPrimitive;
use serde_json::Value;

use super::json::{self, Object};
use super::types::{BrokerOrder, BrokerPosition, BrokerTrade, ForeignRow, Funds, OrderStatus, Quote, Quoted};
use crate::domain::contract::Contract;
use crate::domain::listing::Listing;
use crate::domain::market::Candle;
use crate::domain::money::{Price, Rupees};
use crate::domain::order::{PriceType, Product, Side};
use crate::domain::sessions::{Holiday, Session};

/// A row of the order book.
enum Row {
    Known(Box<BrokerOrder>),
    Foreign(ForeignRow),
}

/// Reads `data` of `/orderbook`.
pub(super) fn orders(data: &Value) -> Result<(Vec<BrokerOrder>, Vec<ForeignRow>), String> {
    let mut known = Vec::new();
    let mut foreign = Vec::new();
    let mut before = None;
    for row in rows(data.get("orders").ok_or("\"orders\" is missing")?)? {
        match order(row).map_err(|problem| format!("order row: {problem}"))? {
            Row::Known(mut order) => {
                order.may_inherit = may_inherit(&order, before);
                known.push(*order);
            }
            Row::Foreign(row) => foreign.push(row),
        }
        before = Some(row.get("order_status").and_then(Value::as_str).map(status));
    }
    Ok((known, foreign))
}

/// An order in transit is shown by some plugins with the status of the row before it (OPENALGO.md, "Hazards"). A row that
/// names its strategy is the sandbox's, and one with a reason of its own has a status of its own.
fn may_inherit(order: &BrokerOrder, before: Option<Option<OrderStatus>>) -> bool {
    let alike = before.is_some_and(|before| before.is_none_or(|status| status == order.status));
    alike && order.strategy.is_none() && order.rejection_reason.is_none()
}

fn order(row: &Object) -> Result<Row, String> {
    let order_id = json::required(row, "orderid", json::text)?;
    let symbol = json::required(row, "symbol", json::text)?;
    let words = (
        named::<Side>(row, "action")?,
        // The order status route says price_type where the book says pricetype.
        named::<PriceType>(row, if row.contains_key("pricetype") { "pricetype" } else { "price_type" })?,
        named::<Product>(row, "product")?,
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
        status: status(&json::required(row, "order_status", json::text)?),
        may_inherit: false,
        strategy: json::optional(row, "strategy", json::text)?,
        filled_quantity: json::optional(row, "filled_quantity", json::quantity)?,
        average_price: json::optional(row, "average_price", json::decimal)?.map(Price),
        rejection_reason: json::optional(row, "rejection_reason", json::text)?,
        timestamp: json::optional(row, "timestamp", json::text)?.unwrap_or_default(),
    })))
}

/// Reads `data` of `/tradebook`.
pub(super) fn trades(data: &Value) -> Result<Vec<BrokerTrade>, String> {
    rows(data)?.map(|row| trade(row).map_err(|problem| format!("trade row: {problem}"))).collect()
}

fn trade(row: &Object) -> Result<BrokerTrade, String> {
    Ok(BrokerTrade {
        order_id: json::required(row, "orderid", json::text)?,
        symbol: json::required(row, "symbol", json::text)?,
        exchange: json::required(row, "exchange", json::text)?,
        side: named::<Side>(row, "action")??,
        quantity: json::required(row, "quantity", json::quantity)?,
        average_price: json::price(row, "average_price")?,
        trade_id: json::optional(row, "tradeid", json::text)?,
        timestamp: json::optional(row, "timestamp", json::text)?.unwrap_or_default(),
    })
}

/// Reads `data` of `/positionbook`.
pub(super) fn positions(data: &Value) -> Result<Vec<BrokerPosition>, String> {
    rows(data)?.map(|row| position(row).map_err(|problem| format!("position row: {problem}"))).collect()
}

fn position(row: &Object) -> Result<BrokerPosition, String> {
    let ltp = json::optional(row, "ltp", json::decimal)?;
    let last_price = if ltp.is_some() { ltp } else { json::optional(row, "last_price", json::decimal)? };
    Ok(BrokerPosition {
        symbol: json::required(row, "symbol", json::text)?,
        exchange: json::required(row, "exchange", json::text)?,
        product: named::<Product>(row, "product")?.ok(),
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

fn status(text: &str) -> OrderStatus {
    match text.to_ascii_lowercase().as_str() {
        "open" => OrderStatus::Open,
        "trigger pending" | "trigger_pending" => OrderStatus::TriggerPending,
        "complete" => OrderStatus::Complete,
        "rejected" => OrderStatus::Rejected,
        "cancelled" => OrderStatus::Cancelled,
        _ => OrderStatus::Other(text.to_owned()),
    }
}

/// Reads one of the domain's words. The outer error is a field that is not there, the inner one a word that is
/// not ours.
fn named<T: std::str::FromStr>(row: &Object, name: &str) -> Result<Result<T, String>, String> {
    let word = json::required(row, name, json::text)?;
    Ok(word.to_ascii_uppercase().parse().map_err(|_| format!("{name} is {word:?}")))
}

fn rows(list: &Value) -> Result<impl Iterator<Item = &Object>, String> {
    let list = list.as_array().ok_or("the rows are no list")?;
    if let Some(odd) = list.iter().find(|row| !row.is_object()) {
        return Err(format!("a row is {}", json::clip(&odd.to_string())));
    }
    Ok(list.iter().filter_map(Value::as_object))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::money::Quantity;
    use serde_json::json;

    fn live_row() -> Value {
        json!({"symbol": "GOLDM05DEC25FUT", "exchange": "MCX", "action": "BUY", "quantity": "30", "price": 0.0,
            "trigger_price": 0.0, "pricetype": "MARKET", "product": "NRML", "orderid": 1110913228,
            "order_status": "trigger pending", "timestamp": "14:03:11"})
    }

    #[test]
    fn a_live_row_has_no_fill_figures() {
        let (orders, foreign) = orders(&json!({"orders": [live_row()]})).unwrap();
        assert!(foreign.is_empty());
        let order = &orders[0];
        assert_eq!((order.order_id.as_str(), order.quantity), ("1110913228", Quantity(30)));
        assert_eq!(order.status, OrderStatus::TriggerPending);
        assert_eq!((&order.strategy, order.filled_quantity, order.average_price), (&None, None, None));
    }

    #[test]
    fn an_analyze_row_has_them() {
        let mut row = live_row();
        row["strategy"] = json!("intent-1");
        row["filled_quantity"] = json!(10);
        row["average_price"] = json!("78234.50");
        let (orders, _) = orders(&json!({"orders": [row]})).unwrap();
        assert_eq!(orders[0].strategy.as_deref(), Some("intent-1"));
        assert_eq!(orders[0].filled_quantity, Some(Quantity(10)));
        assert_eq!(orders[0].average_price.unwrap().to_string(), "78234.50");
    }

    #[test]
    fn rows_of_other_products_are_set_aside_by_name() {
        let mut row = live_row();
        row["product"] = json!("MTF");
        let (orders, foreign) = orders(&json!({"orders": [row, live_row()]})).unwrap();
        assert_eq!(orders.len(), 1);
        assert_eq!(foreign[0].order_id, "1110913228");
        assert!(foreign[0].why.contains("MTF"));
    }

    #[test]
    fn a_word_that_the_row_before_says_too_may_be_that_rows() {
        let row = |status: &str, more: Value| {
            let mut row = live_row();
            row["order_status"] = json!(status);
            row.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            row
        };
        let rows = [
            row("rejected", json!({})),
            row("rejected", json!({})),
            row("open", json!({})),
            row("Rejected", json!({ "product": "MTF" })),
            row("rejected", json!({})),
            row("rejected", json!({ "rejection_reason": "RMS" })),
            row("rejected", json!({ "strategy": "sandbox" })),
        ];
        let (orders, _) = orders(&json!({ "orders": rows })).unwrap();
        let seen: Vec<bool> = orders.iter().map(|order| order.may_inherit).collect();
        assert_eq!(seen, [false, true, false, true, false, false], "rows of other products count as rows");
    }

    #[test]
    fn an_unreadable_row_fails_the_book() {
        for (field, value) in [
            ("quantity", json!(0.5)),
            ("orderid", json!(null)),
            ("price", json!("x")),
            ("product", json!("")),
        ] {
            let mut row = live_row();
            row[field] = value;
            let problem = orders(&json!({"orders": [row]})).unwrap_err();
            assert!(problem.contains(field), "{problem}");
        }
        assert!(orders(&json!({})).is_err());
        assert!(orders(&json!({"orders": ["x"]})).is_err());
    }

    #[test]
    fn a_history_is_read_whole_and_in_the_order_of_time() {
        let row = |timestamp: i64, volume: Value| json!({"timestamp": timestamp, "open": 100, "high": "102.5", "low": 99.5, "close": 101, "volume": volume, "oi": 0});
        let candles =
            candles(&json!([row(1_764_000_060, json!(5)), row(1_764_000_000, json!("30"))])).unwrap();
        assert_eq!((candles[0].opens.timestamp(), candles[0].volume), (1_764_000_000, Quantity(30)));
        assert_eq!(
            (candles[1].high.to_string(), candles[1].low.to_string()),
            ("102.5".into(), "99.5".into())
        );
        for odd in [json!([row(1, json!(null))]), json!([{"timestamp": 1}]), json!({})] {
            assert!(super::candles(&odd).is_err(), "{odd}");
        }
        // A quote without a readable volume is a quote all the same.
        for (volume, read) in [(json!(7), Some(Quantity(7))), (json!("x"), None), (json!(null), None)] {
            assert_eq!(quote(&json!({"ltp": 1, "volume": volume})).unwrap().volume, read);
        }
    }

    #[test]
    fn positions_come_as_text_or_numbers() {
        let data = json!([
            {"symbol": "A", "exchange": "NFO", "product": "MIS", "quantity": "-50", "average_price": "1399.80"},
            {"symbol": "B", "exchange": "NFO", "product": "CO", "quantity": 0, "average_price": 0.0,
             "last_price": 12.5, "pnl": "-3"},
        ]);
        let positions = positions(&data).unwrap();
        assert_eq!((positions[0].quantity, positions[0].last_price), (Quantity(-50), None));
        assert_eq!(positions[1].product, None);
        assert_eq!(positions[1].last_price.unwrap().to_string(), "12.5");
        assert!(super::positions(&json!({})).is_err());
    }

    #[test]
    fn empty_funds_are_a_dead_session() {
        assert_eq!(funds(&json!({})), Ok(None));
        let funds = funds(&json!({"availablecash": "5000000.25", "utiliseddebits": 3})).unwrap().unwrap();
        assert_eq!(funds.available_cash.to_string(), "5000000.25");
    }

    #[test]
    fn a_symbol_without_a_quote_does_not_fail_the_others() {
        let results = json!([
            {"symbol": "A", "exchange": "NFO", "data": {"ltp": "12.50", "bid": 12.45, "ask": ""}},
            {"symbol": "B", "exchange": "NFO", "error": "Symbol 'B' not found"},
            {"symbol": "C", "exchange": "NFO", "data": {"ltp": "n/a"}},
            {"symbol": "D", "exchange": "NFO"},
        ]);
        let quotes = quotes(&results).unwrap();
        assert_eq!(quotes[0].listing, Listing::new("NFO", "A"));
        assert_eq!(quotes[0].quote.as_ref().unwrap().ltp.to_string(), "12.50");
        assert_eq!(quotes[1].quote, Err("Symbol 'B' not found".to_owned()));
        assert!(quotes[2].quote.is_err() && quotes[3].quote.is_err());
        assert!(super::quotes(&json!([{"data": {"ltp": 1}}])).is_err(), "a price of nobody knows what");
    }

    #[test]
    fn half_of_a_calendar_is_none() {
        let row = json!({"exchange": "MCX", "start_time": 1786332600000_i64, "end_time": 1786386600000_i64});
        assert_eq!(sessions(&json!([row])).unwrap()[0].opens.to_rfc3339(), "2026-08-10T03:30:00+00:00");
        assert_eq!(sessions(&json!([])).unwrap(), []);
        let mut backwards = row.clone();
        backwards["end_time"] = json!(0);
        for bad in [json!([row, {"exchange": "NSE"}]), json!([backwards]), json!({})] {
            assert!(sessions(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn half_of_a_list_of_holidays_is_none() {
        let evening =
            json!({"exchange": "MCX", "start_time": 1786534200000_i64, "end_time": 1786557600000_i64});
        let row = json!({"date": "2026-08-12", "description": "Holiday", "holiday_type": "TRADING_HOLIDAY",
            "closed_exchanges": ["NSE", "NFO"], "open_exchanges": [evening]});
        let holidays = holidays(&json!([row])).unwrap();
        assert_eq!(holidays[0].day.to_string(), "2026-08-12");
        assert_eq!((holidays[0].closed.len(), holidays[0].open[0].exchange.as_str()), (2, "MCX"));
        for (field, value) in
            [("date", json!("soon")), ("closed_exchanges", json!(null)), ("open_exchanges", json!([{}]))]
        {
            let mut bad = row.clone();
            bad[field] = value;
            assert!(super::holidays(&json!([row, bad])).is_err(), "{field}");
        }
    }

    #[test]
    fn contract_data_is_checked() {
        let data = json!({"lotsize": 100, "tick_size": 1, "freeze_qty": 0, "expiry": "05-DEC-25"});
        let contract = contract(&data).unwrap();
        assert_eq!(contract.lot_size, Quantity(100));
        assert_eq!(contract.freeze_qty, None);
        assert_eq!(contract.expiry, NaiveDate::from_ymd_opt(2025, 12, 5));
        assert!(super::contract(&json!({"lotsize": 0, "tick_size": 1})).is_err());
        assert!(super::contract(&json!({"lotsize": 1, "tick_size": 1, "expiry": "soon"})).is_err());
    }
}
