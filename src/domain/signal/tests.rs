use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;
use rust_decimal::dec;
use serde_json::{Value, json};

use super::*;
use crate::domain::instrument::Catalog;
use crate::domain::policy::SignalPolicy;

fn now() -> DateTime<Utc> {
    DateTime::parse_from_rfc3339("2025-11-28T10:30:05Z").unwrap().to_utc()
}

fn read(body: &[u8]) -> Result<Signal, Rejection> {
    parse(body, &Catalog::default(), &SignalPolicy::default(), now())
}

fn read_json(body: &Value) -> Result<Signal, Rejection> {
    read(body.to_string().as_bytes())
}

fn fault_fields(body: &Value) -> BTreeSet<String> {
    read_json(body).map_or_else(
        |rejection| rejection.faults.into_iter().map(|fault| fault.field).collect(),
        |signal| panic!("accepted: {signal:?}"),
    )
}

fn entry() -> Value {
    json!({
        "type": "BASE_ENTRY", "instrument": "BANK_NIFTY", "position": "Long_1", "price": 52000, "stop": 51650,
        "lots": 5, "atr": 350, "er": 0.82, "supertrend": 51650, "roc": 2.5,
        "timestamp": "2025-11-28T10:30:00Z",
    })
}

fn with(mut body: Value, field: &str, value: Value) -> Value {
    body[field] = value;
    body
}

fn without(mut body: Value, field: &str) -> Value {
    body.as_object_mut().unwrap().remove(field);
    body
}

#[test]
fn the_documented_example_is_read() {
    let signal = read_json(&entry()).unwrap();
    let Action::BaseEntry(entry) = &signal.action else { panic!("{signal:?}") };
    assert_eq!(signal.strategy, "default");
    assert_eq!((entry.price, entry.stop), (Price(dec!(52000)), Price(dec!(51650))));
    assert_eq!((entry.er, entry.suggested_lots), (Some(dec!(0.82)), Some(Lots(5))));
    assert_eq!(signal.bar_time.to_rfc3339(), "2025-11-28T10:30:00+00:00");
    let stored = serde_json::to_value(&signal).unwrap();
    assert_eq!(serde_json::from_value::<Signal>(stored).unwrap(), signal);
}

#[test]
fn every_type_is_read_in_any_case() {
    let pyramid = with(with(entry(), "type", json!("Pyramid")), "position", json!("Long_6"));
    assert_eq!(read_json(&without(pyramid, "er")).unwrap().kind(), SignalType::Pyramid);
    let exit = json!({"type": "exit", "instrument": "COPPER", "position": "ALL", "reason": "stop\u{0}\nhit",
        "timestamp": "2025-11-28T16:00:00", "stop": "n/a"});
    let Action::Exit(exit) = read_json(&exit).unwrap().action else { panic!() };
    assert_eq!((exit.target, exit.reason.as_str(), exit.price), (Target::All, "stop  hit", None));
    let market = json!({"type": "market_data", "instrument": "COPPER", "price": "801.15", "atr": 0, "supertrend": 790,
        "timestamp": "2025-11-28T10:30:00Z"});
    let Action::MarketData(market) = read_json(&market).unwrap().action else { panic!() };
    assert_eq!(market.price, Price(dec!(801.15)));
    let eod = json!({"type": "EOD_MONITOR", "instrument": "COPPER", "price": 800,
        "conditions": {"rsi_ok": true, "trend": false},
        "indicators": {"rsi": 61.2, "ema": 795, "dc_upper": 799, "adx": 30, "er": 0.9, "supertrend": 780, "atr": 8},
        "position_status": {"held": 2}, "timestamp": "2025-11-28T10:30:00Z"});
    let signal = read_json(&eod).unwrap();
    let Action::EodMonitor(monitor) = &signal.action else { panic!() };
    assert_eq!((monitor.conditions["trend"], monitor.indicators.rsi), (false, dec!(61.2)));
    let stored = serde_json::to_string(&signal).unwrap();
    assert_eq!(serde_json::from_str::<Signal>(&stored).unwrap(), signal);
    let bad = with(with(eod, "conditions", json!({"a": 1})), "indicators", json!({"rsi": "x", "atr": -1}));
    let faults = fault_fields(&bad);
    for field in
        ["conditions.a", "indicators.rsi", "indicators.atr", "indicators.ema", "indicators.supertrend"]
    {
        assert!(faults.contains(field), "{field} missing in {faults:?}");
    }
}

// Numbers keep every digit that the ledger stores; `f64` would give 9007199254.74099159.
#[test]
fn numbers_do_not_pass_through_floating_point() {
    let body = entry().to_string().replace("52000", "9007199254.74099312").replace("350,", "0.00000001,");
    let signal = read(body.as_bytes()).unwrap();
    assert_eq!(signal.entry().unwrap().price, Price(dec!(9007199254.74099312)));
    assert_eq!(signal.entry().unwrap().atr, Price(dec!(0.00000001)));
}

#[test]
fn unknown_fields_are_kept_and_the_secret_is_not() {
    let body =
        with(with(with(entry(), "note", json!("a\u{0}b")), "big", json!([1, null])), "secret", json!("s"));
    let signal = read_json(&body).unwrap();
    assert_eq!(signal.extra["big"], "[1,null]");
    assert_eq!(signal.extra["note"], "\"a\\u0000b\"");
    assert_eq!(signal.extra.len(), 2);
    assert!(!serde_json::to_string(&signal).unwrap().contains("secret"));
}

#[test]
fn bodies_that_are_no_object_have_one_fault() {
    let kind = |body: &[u8]| read(body).unwrap_err().kind;
    assert_eq!(kind(&[b' '; 10 * 1024 + 1]), RejectionKind::TooLarge);
    assert_eq!(kind(b"{\"type\":\"\xff\"}"), RejectionKind::Malformed);
    assert_eq!(kind(b"[]"), RejectionKind::Malformed);
    assert_eq!(kind(b""), RejectionKind::Malformed);
    assert_eq!(kind(br#"{"price":NaN}"#), RejectionKind::Malformed);
    let padded = format!("{}{}", entry(), " ".repeat(10 * 1024 - entry().to_string().len()));
    assert_eq!(padded.len(), 10 * 1024);
    assert!(read(padded.as_bytes()).is_ok());
}

#[test]
fn each_rule_refuses_its_field() {
    let cases = [
        ("price", json!(0), "price"),
        ("price", json!(-5), "price"),
        ("price", json!("Infinity"), "price"),
        ("price", json!(51650), "stop"),
        ("stop", json!(52000.5), "stop"),
        ("atr", json!(-0.1), "atr"),
        ("er", json!(1.01), "er"),
        ("lots", json!(1.5), "lots"),
        ("lots", json!(-1), "lots"),
        ("type", json!("BUY"), "type"),
        ("instrument", json!("NIFTY"), "instrument"),
        ("position", json!("long_1"), "position"),
        ("position", json!("Long_2"), "position"),
        ("position", json!("Long_7"), "position"),
        ("position", json!("ALL"), "position"),
        ("timestamp", json!("noon"), "timestamp"),
        ("timestamp", json!("2025-11-28T10:31:06Z"), "timestamp"),
        ("timestamp", json!("2025-11-28T16:01:06"), "timestamp"),
        ("bar_time", json!("2025-11-28T10:31:06Z"), "bar_time"),
        ("strategy", json!("a/b"), "strategy"),
        ("strategy", json!(""), "strategy"),
        ("id", json!(""), "id"),
        ("id", json!({}), "id"),
        ("id", json!("a b"), "id"),
    ];
    for (field, value, refused) in cases {
        let faults = fault_fields(&with(entry(), field, value.clone()));
        assert_eq!(faults, BTreeSet::from([refused.to_owned()]), "{field} = {value}");
    }
    for field in ["type", "instrument", "position", "price", "stop", "atr", "er", "timestamp"] {
        assert!(fault_fields(&without(entry(), field)).contains(field));
        assert!(fault_fields(&with(entry(), field, json!(null))).contains(field));
    }
    let exit = with(with(entry(), "type", json!("EXIT")), "position", json!("Long_3"));
    assert_eq!(fault_fields(&exit), BTreeSet::from(["reason".to_owned()]));
    let on_base = with(with(entry(), "type", json!("PYRAMID")), "position", json!("Long_1"));
    assert_eq!(fault_fields(&on_base), BTreeSet::from(["position".to_owned()]));
    let twice = entry().to_string().replacen('{', "{\"price\":1,", 1);
    assert_eq!(read(twice.as_bytes()).unwrap_err().faults[0].field, "price");
}

// The ledger could not keep such a position, and its fill could never be booked.
#[test]
fn a_profit_is_taken_at_a_price_that_can_be_kept() {
    let percent = |percent: Value| with(entry(), "take_profit_percent", percent);
    assert!(read_json(&percent(json!(1000))).is_ok());
    for absurd in [json!(19_300_000), json!(10_000_000_000_i64)] {
        assert_eq!(fault_fields(&percent(absurd)), BTreeSet::from(["take_profit_percent".to_owned()]));
    }
}

#[test]
fn a_minute_in_the_future_is_still_taken() {
    assert!(read_json(&with(entry(), "timestamp", json!("2025-11-28T10:31:05Z"))).is_ok());
}

// R: B2
#[test]
fn the_key_is_the_senders_id_or_what_makes_the_signal() {
    let key = |body: &Value| read_json(body).unwrap().key.0;
    assert_eq!(key(&with(entry(), "id", json!("x-1"))), "default/x-1");
    assert_eq!(key(&with(with(entry(), "id", json!(7)), "strategy", json!("trend"))), "trend/7");
    let hashed = key(&entry());
    assert!(hashed.starts_with("sha256:") && hashed.len() == 7 + 64, "{hashed}");
    let same = with(with(entry(), "price", json!(52001)), "timestamp", json!("2025-11-28T16:00:59+05:30"));
    assert_eq!(key(&same), hashed);
    let barred = with(entry(), "bar_time", json!("2025-11-28T16:00:30"));
    assert_eq!(key(&with(barred, "timestamp", json!("2025-11-28T10:31:00Z"))), hashed);
    for (field, value) in [
        ("timestamp", json!("2025-11-28T10:29:59Z")),
        ("bar_time", json!("2025-11-28T10:15:00Z")),
        ("strategy", json!("other")),
        ("instrument", json!("COPPER")),
    ] {
        assert_ne!(key(&with(entry(), field, value)), hashed, "{field}");
    }
}

const INJECTABLE: [(&str, &str); 11] = [
    ("type", "\"HOLD\""),
    ("instrument", "\"GOLD\""),
    ("position", "\"Short_1\""),
    ("price", "0"),
    ("stop", "\"\""),
    ("atr", "-1"),
    ("er", "2"),
    ("lots", "0.5"),
    ("supertrend", "true"),
    ("roc", "\"NaN\""),
    ("timestamp", "\"2099-01-01T00:00:00Z\""),
];

proptest! {
    #[test]
    fn any_bytes_are_answered(body in proptest::collection::vec(any::<u8>(), 0..400)) {
        if let Err(rejection) = read(&body) {
            prop_assert!(!rejection.faults.is_empty());
        }
    }

    #[test]
    fn any_field_values_are_answered(
        picked in proptest::collection::vec((0..INJECTABLE.len(), "\\PC{0,30}|-?[0-9]{1,40}(\\.[0-9]{0,40})?(e-?[0-9]{1,12})?"), 1..5),
        quoted in any::<bool>(),
    ) {
        let mut body = entry();
        for (field, text) in picked {
            let value = if quoted { Value::String(text.clone()) } else { serde_json::from_str(&text).unwrap_or(Value::Null) };
            body[INJECTABLE[field].0] = value;
        }
        match read_json(&body) {
            Ok(signal) => {
                let stored = serde_json::to_value(&signal).unwrap();
                prop_assert_eq!(serde_json::from_value::<Signal>(stored).unwrap(), signal);
            }
            Err(rejection) => prop_assert!(!rejection.faults.is_empty()),
        }
    }

    #[test]
    fn exactly_the_injected_faults_are_listed(picked in proptest::sample::subsequence(&INJECTABLE[..], 1..=INJECTABLE.len())) {
        let mut body = entry();
        for (field, value) in &picked {
            body[*field] = serde_json::from_str(value).unwrap();
        }
        let expected: BTreeSet<String> = picked.iter().map(|(field, _)| (*field).to_owned()).collect();
        prop_assert_eq!(fault_fields(&body), expected);
    }

    #[test]
    fn the_future_is_refused_beyond_the_limit_only(ahead_s in -100_000i64..100_000) {
        let sent = now() + TimeDelta::seconds(ahead_s);
        let result = read_json(&with(entry(), "timestamp", json!(sent.to_rfc3339())));
        prop_assert_eq!(result.is_ok(), ahead_s <= 60);
    }
}
