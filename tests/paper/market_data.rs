//! Depth, history, what is listed, and options by their distance from the money.

use baton::domain::money::{Price, Quantity};
use baton::paper::BridgeMode::{Analyze, Live};
use baton::paper::{Options, SymbolKey, SymbolSpec};
use rust_decimal::Decimal;
use serde_json::{Value, json};

use crate::support::*;

const NIFTY: &str = "NIFTY30DEC25";

/// An index at 26 040, and its options at 25 900 to 26 200.
async fn with_options() -> Bridge {
    let spec = |symbol: &str, exchange: &str, expiry: &str, ltp: i64| SymbolSpec {
        key: SymbolKey::new(symbol, exchange),
        lot_size: Quantity(75),
        expiry: expiry.to_owned(),
        ltp: Price(Decimal::from(ltp)),
        ..SymbolSpec::defaults().swap_remove(0)
    };
    let mut symbols = vec![
        spec("NIFTY", "NSE_INDEX", "", 26_040),
        spec(&format!("{NIFTY}FUT"), "NFO", "30-DEC-25", 26_100),
        spec("NIFTY27JAN26FUT", "NFO", "27-JAN-26", 26_200),
        spec("NIFTY06JAN2626000CE", "NFO", "06-JAN-26", 210),
    ];
    for strike in [25_900, 26_000, 26_100, 26_200] {
        symbols.push(spec(&format!("{NIFTY}{strike}CE"), "NFO", "30-DEC-25", 26_300 - strike));
        symbols.push(spec(&format!("{NIFTY}{strike}PE"), "NFO", "30-DEC-25", strike - 25_800));
    }
    Bridge::with(Options { symbols, ..options(Analyze) }).await
}

fn on_nifty(more: Value) -> Value {
    let mut body = json!({ "underlying": "NIFTY", "exchange": "NSE_INDEX", "expiry_date": "30DEC25" });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

#[tokio::test]
async fn depth_has_five_levels_a_tick_apart() {
    let bridge = Bridge::start(Live).await;
    let data = bridge.ok("depth", json!({ "symbol": GOLD, "exchange": "MCX" })).await["data"].take();
    let wanted = [
        "asks",
        "bids",
        "high",
        "low",
        "ltp",
        "ltq",
        "oi",
        "open",
        "prev_close",
        "totalbuyqty",
        "totalsellqty",
        "volume",
    ];
    assert_eq!(keys(&data), wanted);
    let prices = |side: &str| -> Vec<f64> {
        data[side].as_array().unwrap().iter().map(|level| level["price"].as_f64().unwrap()).collect()
    };
    assert_eq!(prices("bids"), [139_999.0, 139_998.0, 139_997.0, 139_996.0, 139_995.0]);
    assert_eq!(prices("asks"), [140_001.0, 140_002.0, 140_003.0, 140_004.0, 140_005.0]);
    assert_eq!(bridge.post("depth", json!({ "symbol": "NONE", "exchange": "MCX" })).await.0, 400);
}

#[tokio::test]
async fn history_is_what_was_traded_at_since_the_start_and_no_more() {
    let bridge = Bridge::start(Live).await;
    bridge.set_price(GOLD, json!(140_500)).await;
    bridge.set_price(GOLD, json!(139_500)).await;
    bridge.place(market_buy()).await;
    let today = chrono::Utc::now().with_timezone(&baton::paper::calendar::ist()).date_naive();
    let tomorrow = today.succ_opt().unwrap();
    let asked = |interval: &str, from: String, to: String| json!({ "symbol": GOLD, "exchange": "MCX", "interval": interval, "start_date": from, "end_date": to });
    // A run across midnight has two days of it.
    let body = asked("D", today.to_string(), tomorrow.to_string());
    let days = bridge.ok("history", body).await["data"].take();
    let highs = days.as_array().unwrap().iter().map(|bar| bar["high"].as_f64().unwrap());
    assert_eq!(highs.fold(0.0, f64::max), 140_500.0, "{days}");
    let last = days.as_array().unwrap().last().unwrap();
    assert_eq!(keys(last), ["close", "high", "low", "oi", "open", "timestamp", "volume"]);
    assert_eq!((&last["low"], &last["close"]), (&json!(139_500.0), &json!(139_500.0)), "{days}");
    let units: i64 = days.as_array().unwrap().iter().map(|bar| bar["volume"].as_i64().unwrap()).sum();
    assert_eq!(units, 100);
    // 18:30 UTC is midnight in India.
    assert_eq!(last["timestamp"].as_i64().unwrap() % 86_400, 18 * 3600 + 1800);

    let before = today.pred_opt().unwrap().to_string();
    let nothing = bridge.ok("history", asked("1m", "2020-01-01".to_owned(), before)).await;
    assert_eq!(nothing["data"], json!([]), "no past is made up");
    for (field, value) in [("interval", "2m"), ("start_date", "today"), ("source", "disk")] {
        let mut body = asked("1m", today.to_string(), today.to_string());
        body[field] = value.into();
        let (status, answer) = bridge.post("history", body).await;
        assert!(status == 400 && answer["message"][field].is_array(), "{answer}");
    }
    let names = bridge.ok("intervals", json!({})).await["data"].take();
    assert_eq!(names["minutes"], json!(["1m", "3m", "5m", "10m", "15m", "30m"]));
    assert_eq!(
        (&names["hours"], &names["days"], &names["seconds"]),
        (&json!(["1h"]), &json!(["D"]), &json!([]))
    );
}

#[tokio::test]
async fn contracts_are_found_by_name_and_expiry_and_come_as_a_file() {
    let bridge = with_options().await;
    let found = bridge.ok("search", json!({ "query": "nifty 26000 ce", "exchange": "NFO" })).await;
    let symbols: Vec<_> = found["data"].as_array().unwrap().iter().map(|row| row["symbol"].clone()).collect();
    assert_eq!(symbols, ["NIFTY06JAN2626000CE", "NIFTY30DEC2526000CE"]);
    let row = &found["data"][1];
    assert_eq!(
        (&row["strike"], &row["instrumenttype"], &row["name"]),
        (&json!(26_000.0), &json!("CE"), &json!("NIFTY"))
    );
    assert_eq!(bridge.post("search", json!({ "query": "nothing such" })).await.0, 404);

    let asked = |kind: &str| json!({ "symbol": "NIFTY", "exchange": "NFO", "instrumenttype": kind });
    assert_eq!(bridge.ok("expiry", asked("futures")).await["data"], json!(["30-DEC-25", "27-JAN-26"]));
    assert_eq!(bridge.ok("expiry", asked("options")).await["data"], json!(["30-DEC-25", "06-JAN-26"]));
    assert_eq!(bridge.post("expiry", asked("shares")).await.0, 400);

    let get = async |query: &str| {
        let url = format!("{}/api/v1/instruments?{query}", bridge.paper.http_url());
        let answer = bridge.client.get(url).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let (status, csv) = get(&format!("apikey={KEY}&exchange=NSE_INDEX&format=csv")).await;
    assert_eq!(status, 200);
    assert_eq!(csv.lines().count(), 2, "{csv}");
    assert!(csv.lines().nth(1).unwrap().starts_with("NIFTY,NIFTY,NIFTY,NSE_INDEX,"), "{csv}");
    let (_, all) = get(&format!("apikey={KEY}")).await;
    assert_eq!(serde_json::from_str::<Value>(&all).unwrap()["data"].as_array().unwrap().len(), 12);
    assert_eq!(get("apikey=wrong").await.0, 403);
    assert_eq!(get(&format!("apikey={KEY}&format=xml")).await.0, 400);
}

#[tokio::test]
async fn options_are_named_by_their_distance_from_the_money() {
    let bridge = with_options().await;
    for (offset, kind, expected) in [
        ("ATM", "CE", "26000CE"),
        ("OTM1", "CE", "26100CE"),
        ("OTM2", "CE", "26200CE"),
        ("ITM1", "CE", "25900CE"),
        ("ATM", "PE", "26000PE"),
        ("OTM1", "PE", "25900PE"),
        ("ITM2", "PE", "26200PE"),
    ] {
        let answer =
            bridge.ok("optionsymbol", on_nifty(json!({ "offset": offset, "option_type": kind }))).await;
        assert_eq!(answer["symbol"], format!("{NIFTY}{expected}"), "{offset} {kind}");
        assert_eq!((&answer["exchange"], &answer["lotsize"]), (&json!("NFO"), &json!(75)));
    }
    // By the future, whose name has the day: 26 100 is the nearest strike.
    let by_future = json!({ "underlying": format!("{NIFTY}FUT"), "exchange": "NFO", "offset": "ATM", "option_type": "CE" });
    assert_eq!(bridge.ok("optionsymbol", by_future).await["symbol"], format!("{NIFTY}26100CE"));
    for (more, status) in [
        (json!({ "offset": "OTM3", "option_type": "CE" }), 404),
        (json!({ "offset": "OTM51", "option_type": "CE" }), 400),
        (json!({ "offset": "ATM", "option_type": "XX" }), 400),
        (json!({ "offset": "ATM", "option_type": "CE", "expiry_date": "25DEC25" }), 404),
        (json!({ "offset": "ATM", "option_type": "CE", "expiry_date": null }), 400),
        (json!({ "offset": "ATM", "option_type": "CE", "underlying": "SENSEX" }), 404),
    ] {
        assert_eq!(bridge.post("optionsymbol", on_nifty(more.clone())).await.0, status, "{more}");
    }
}

#[tokio::test]
async fn the_chain_has_both_sides_of_each_strike() {
    let bridge = with_options().await;
    let chain = bridge.ok("optionchain", on_nifty(json!({ "strike_count": 1 }))).await;
    assert_eq!((&chain["atm_strike"], &chain["underlying_ltp"]), (&json!(26_000.0), &json!(26_040.0)));
    let rows = chain["chain"].as_array().unwrap();
    let labels: Vec<_> = rows
        .iter()
        .map(|row| (row["strike"].clone(), row["ce"]["label"].clone(), row["pe"]["label"].clone()))
        .collect();
    assert_eq!(
        labels,
        [
            (json!(25_900.0), json!("ITM1"), json!("OTM1")),
            (json!(26_000.0), json!("ATM"), json!("ATM")),
            (json!(26_100.0), json!("OTM1"), json!("ITM1")),
        ]
    );
    assert_eq!((&rows[0]["ce"]["ltp"], &rows[0]["ce"]["lotsize"]), (&json!(400.0), &json!(75)));
    assert_eq!(bridge.ok("optionchain", on_nifty(json!({}))).await["chain"].as_array().unwrap().len(), 4);
    // 26 000 + 300 − 200.
    let future = bridge.ok("syntheticfuture", on_nifty(json!({}))).await;
    assert_eq!(future["synthetic_future_price"], 26_100.0, "{future}");
}

#[tokio::test]
async fn orders_for_options_find_their_contract_and_what_is_bought_comes_first() {
    let bridge = with_options().await;
    let terms = json!({ "offset": "OTM1", "option_type": "CE", "action": "BUY", "quantity": 75, "product": "NRML",
        "strategy": "s" });
    let answer = bridge.ok("optionsorder", on_nifty(terms)).await;
    assert_eq!((&answer["symbol"], &answer["offset"]), (&json!(format!("{NIFTY}26100CE")), &json!("OTM1")));
    assert_eq!(bridge.book().await[0]["orderid"], answer["orderid"]);

    let leg = |offset: &str, action: &str| json!({ "offset": offset, "option_type": "CE", "action": action, "quantity": 75, "product": "NRML" });
    let legs = json!([leg("ATM", "SELL"), leg("OTM9", "BUY"), leg("OTM2", "BUY")]);
    let answer = bridge.ok("optionsmultiorder", on_nifty(json!({ "legs": legs, "strategy": "s" }))).await;
    let fates: Vec<_> = answer["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["leg"].clone(), row["status"].clone()))
        .collect();
    assert_eq!(
        fates,
        [(json!(2), json!("error")), (json!(3), json!("success")), (json!(1), json!("success"))]
    );
    let actions: Vec<_> = bridge.truth().await.iter().map(|order| order["side"].clone()).collect();
    assert_eq!(actions, ["BUY", "BUY", "SELL"]);
}

#[tokio::test]
async fn positions_and_trades_can_lack_what_some_plugins_lack() {
    let bridge = Bridge::start(Live).await;
    bridge.place(market_buy()).await;
    let position = async || bridge.ok("positionbook", json!({})).await["data"][0].take();
    for (kind, has, lacks) in
        [("bare_positions", "quantity", "ltp"), ("renamed_last_price", "last_price", "ltp")]
    {
        bridge.fault(json!({ "fault": { "kind": kind } })).await;
        let row = position().await;
        assert!(row.get(has).is_some() && row.get(lacks).is_none(), "{kind}: {row}");
        assert_eq!(row.get("pnl").is_none(), kind == "bare_positions");
        bridge.control("DELETE", "faults", None).await;
        assert!(position().await.get("ltp").is_some());
    }
    bridge.fault(json!({ "fault": { "kind": "zero_averages" }, "symbol": GOLD })).await;
    let trade = &bridge.trades().await[0];
    assert_eq!((&trade["average_price"], &trade["trade_value"]), (&json!(0.0), &json!(14_000_100.0)));
}
