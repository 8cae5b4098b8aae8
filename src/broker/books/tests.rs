use super::*;
use serde_json::json;

use crate::broker::plugin::PLUGINS;
use crate::domain::order::{PriceType, Product, Side};

fn live_row() -> Value {
    json!({"symbol": "GOLDM05DEC25FUT", "exchange": "MCX", "action": "BUY", "quantity": "30", "price": 0.0,
        "trigger_price": 0.0, "pricetype": "MARKET", "product": "NRML", "orderid": 1110913228,
        "order_status": "trigger pending", "timestamp": "14:03:11"})
}

#[test]
fn a_live_row_has_no_fill_figures() {
    let (orders, foreign) = orders(&Plugin::ANY, &json!({"orders": [live_row()]})).unwrap();
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
    let (orders, _) = orders(&Plugin::ANY, &json!({"orders": [row]})).unwrap();
    assert_eq!(orders[0].strategy.as_deref(), Some("intent-1"));
    assert_eq!(orders[0].filled_quantity, Some(Quantity(10)));
    assert_eq!(orders[0].average_price.unwrap().to_string(), "78234.50");
}

#[test]
fn rows_of_other_products_are_set_aside_by_name() {
    let mut row = live_row();
    row["product"] = json!("MTF");
    let (orders, foreign) = orders(&Plugin::ANY, &json!({"orders": [row, live_row()]})).unwrap();
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
    let (orders, _) = orders(&Plugin::ANY, &json!({ "orders": rows })).unwrap();
    let seen: Vec<bool> = orders.iter().map(|order| order.may_inherit).collect();
    assert_eq!(seen, [false, true, false, true, false, false], "rows of other products count as rows");
}

#[test]
fn an_unreadable_row_fails_the_book() {
    for (field, value) in
        [("quantity", json!(0.5)), ("orderid", json!(null)), ("price", json!("x")), ("product", json!(""))]
    {
        let mut row = live_row();
        row[field] = value;
        let problem = orders(&Plugin::ANY, &json!({"orders": [row]})).unwrap_err();
        assert!(problem.contains(field), "{problem}");
    }
    assert!(orders(&Plugin::ANY, &json!({})).is_err());
    assert!(orders(&Plugin::ANY, &json!({"orders": ["x"]})).is_err());
}

#[test]
fn positions_come_as_text_or_numbers() {
    let data = json!([
        {"symbol": "A", "exchange": "NFO", "product": "MIS", "quantity": "-50", "average_price": "1399.80"},
        {"symbol": "B", "exchange": "NFO", "product": "CO", "quantity": 0, "average_price": 0.0,
         "last_price": 12.5, "pnl": "-3"},
    ]);
    let positions = positions(&Plugin::ANY, &data).unwrap();
    assert_eq!((positions[0].quantity, positions[0].last_price), (Quantity(-50), None));
    assert_eq!(positions[1].product, None);
    assert_eq!(positions[1].last_price.unwrap().to_string(), "12.5");
    assert!(super::positions(&Plugin::ANY, &json!({})).is_err());
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
    let evening = json!({"exchange": "MCX", "start_time": 1786534200000_i64, "end_time": 1786557600000_i64});
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

#[test]
fn a_trade_without_an_average_has_the_price_of_its_value_and_one_without_either_is_not_read() {
    let row = json!({"symbol": "A", "exchange": "NFO", "action": "B", "quantity": "50", "orderid": 7});
    let read = |more: Value| {
        let mut row = row.clone();
        row.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        trades(&Plugin::ANY, &json!([row])).map(|trades| trades[0].average_price.to_string())
    };
    assert_eq!(read(json!({"average_price": "1399.80", "trade_value": 1})).unwrap(), "1399.80");
    for nothing in [
        json!({}),
        json!({"average_price": 0}),
        json!({"average_price": "0.00"}),
        json!({"average_price": ""}),
    ] {
        let mut row = nothing.clone();
        row["trade_value"] = json!(70_000.0);
        assert_eq!(read(row).unwrap(), "1400", "{nothing}");
        assert!(read(nothing.clone()).unwrap_err().contains("average_price"), "{nothing}");
    }
    assert!(read(json!({"average_price": "x", "trade_value": 70_000})).is_err());
    assert!(read(json!({"quantity": 0, "trade_value": 70_000})).is_err());
}

#[test]
fn the_last_price_of_a_position_has_the_plugins_name_or_is_none() {
    let row = |more: Value| {
        let mut row = json!({"symbol": "A", "exchange": "NFO", "product": "MIS", "quantity": 50, "average_price": "1.5"});
        row.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!([row])
    };
    let plugin = |name: &str| PLUGINS.iter().find(|plugin| plugin.name == name).unwrap();
    for (name, fields, expected) in [
        ("any", json!({"ltp": 12.5}), Some("12.5")),
        ("any", json!({"last_price": "12.5"}), Some("12.5")),
        ("any", json!({"ltp": null, "last_price": "12.5"}), Some("12.5")),
        ("any", json!({}), None),
        ("groww", json!({"last_price": 12.5, "ltp": 0}), Some("12.5")),
        ("firstock", json!({"last_price": 12.5}), Some("12.5")),
        ("zerodha", json!({"last_price": 12.5}), None),
    ] {
        let positions = positions(plugin(name), &row(fields.clone())).unwrap();
        let found = positions[0].last_price.map(|price| price.to_string());
        assert_eq!(found.as_deref(), expected, "{name}: {fields}");
    }
}

#[test]
fn a_row_in_the_brokers_words_is_ours_where_the_plugin_knows_them() {
    let row = json!({"symbol": "A", "exchange": "NFO", "action": "S", "quantity": "50", "price": "0", "trigger_price": "0",
        "pricetype": "SL-MKT", "product": "M", "orderid": "7", "order_status": "TRIGGER_PENDING"});
    let book = json!({ "orders": [row] });
    let shoonya = PLUGINS.iter().find(|plugin| plugin.name == "shoonya").unwrap();
    let (known, foreign) = orders(shoonya, &book).unwrap();
    assert!(foreign.is_empty(), "{foreign:?}");
    let order = &known[0];
    assert_eq!(
        (order.side, order.price_type, order.product),
        (Side::Sell, PriceType::StopMarket, Product::Nrml)
    );
    assert_eq!(order.status, OrderStatus::TriggerPending);
    let (known, foreign) = orders(&Plugin::ANY, &book).unwrap();
    assert!(known.is_empty() && foreign[0].why.contains("product is \"M\""), "{foreign:?}");
}

#[test]
fn a_history_is_read_whole_and_in_the_order_of_time() {
    let row = |timestamp: i64, volume: Value| json!({"timestamp": timestamp, "open": 100, "high": "102.5", "low": 99.5, "close": 101, "volume": volume, "oi": 0});
    let candles = candles(&json!([row(1_764_000_060, json!(5)), row(1_764_000_000, json!("30"))])).unwrap();
    assert_eq!((candles[0].opens.timestamp(), candles[0].volume), (1_764_000_000, Quantity(30)));
    assert_eq!((candles[1].high.to_string(), candles[1].low.to_string()), ("102.5".into(), "99.5".into()));
    for odd in [json!([row(1, json!(null))]), json!([{"timestamp": 1}]), json!({})] {
        assert!(super::candles(&odd).is_err(), "{odd}");
    }
    // A quote without a readable volume is a quote all the same.
    for (volume, read) in [(json!(7), Some(Quantity(7))), (json!("x"), None), (json!(null), None)] {
        assert_eq!(quote(&json!({"ltp": 1, "volume": volume})).unwrap().volume, read);
    }
}
