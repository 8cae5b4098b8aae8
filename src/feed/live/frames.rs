//! The proxy's frames: JSON text in both directions.
//!
//! A tick is read in one pass that borrows from the frame: thousands come each second, and of each only the listing
//! and the last price matter. A price keeps the digits that were sent; no floating point comes near it.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::domain::listing::Listing;
use crate::domain::money::{Price, Quantity};

/// What the proxy says.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Incoming<'a> {
    /// A last price.
    Tick {
        /// Exchange code.
        exchange: Cow<'a, str>,
        /// Tradable symbol.
        symbol: Cow<'a, str>,
        /// The price.
        price: Price,
        /// The day's volume in units, where the mode of the subscription has it.
        volume: Option<Quantity>,
    },
    /// Something happened to an order of the account. Never evidence: a reason to read the books.
    Order {
        /// The broker's order id.
        order_id: Cow<'a, str>,
        /// The proxy's word for its state.
        status: Cow<'a, str>,
    },
    /// The authentication was accepted.
    Authenticated,
    /// The answer to a subscription: which listings have it, and which have not.
    Subscribed(Vec<Granted>),
    /// A refusal, of whatever was asked.
    Refused {
        /// Its code, such as `BROKER_ERROR`.
        code: Cow<'a, str>,
        /// In words.
        message: Cow<'a, str>,
    },
    /// An answer that changes nothing: a pong, say.
    Other,
}

/// One row of a subscription's answer.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Granted {
    /// Which listing.
    pub listing: Listing,
    /// Why it was not granted.
    pub refusal: Option<String>,
}

/// A frame that is no JSON object of the known form.
#[derive(Debug, thiserror::Error)]
#[error("an unreadable frame")]
pub(super) struct Unreadable(#[from] serde_json::Error);

/// A text, whatever the sender made of it: absent and `null` are empty, a number is its digits.
#[derive(Clone, Default, PartialEq, Debug)]
struct Text<'a>(Cow<'a, str>);

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(rename = "type", borrow, default)]
    kind: Text<'a>,
    #[serde(borrow, default)]
    status: Text<'a>,
    #[serde(borrow, default)]
    exchange: Text<'a>,
    #[serde(borrow, default)]
    symbol: Text<'a>,
    #[serde(borrow, default)]
    data: Option<Data<'a>>,
    #[serde(borrow, default)]
    code: Text<'a>,
    #[serde(borrow, default)]
    message: Text<'a>,
    #[serde(borrow, default)]
    orderid: Text<'a>,
    #[serde(borrow, default)]
    order_status: Text<'a>,
    #[serde(borrow, default)]
    subscriptions: Vec<Row<'a>>,
}

#[derive(Default, Deserialize)]
struct Data<'a> {
    #[serde(borrow, default)]
    ltp: Option<&'a RawValue>,
    #[serde(borrow, default)]
    volume: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Row<'a> {
    #[serde(borrow, default)]
    exchange: Text<'a>,
    #[serde(borrow, default)]
    symbol: Text<'a>,
    #[serde(borrow, default)]
    status: Text<'a>,
    #[serde(borrow, default)]
    message: Text<'a>,
}

/// Reads one frame.
pub(super) fn read(frame: &str) -> Result<Incoming<'_>, Unreadable> {
    let envelope: Envelope<'_> = serde_json::from_str(frame)?;
    Ok(match &*envelope.kind.0 {
        "market_data" => {
            let data = envelope.data.unwrap_or_default();
            match data.ltp.and_then(decimal) {
                Some(ltp) => Incoming::Tick {
                    exchange: envelope.exchange.0,
                    symbol: envelope.symbol.0,
                    price: Price(ltp),
                    volume: data.volume.and_then(decimal).and_then(|units| units.to_i64()).map(Quantity),
                },
                None => Incoming::Other,
            }
        }
        "order_update" => Incoming::Order { order_id: envelope.orderid.0, status: envelope.order_status.0 },
        "auth" if envelope.status.0 == "success" => Incoming::Authenticated,
        "subscribe" if envelope.status.0 != "error" => {
            let granted = envelope.subscriptions.into_iter().map(|row| Granted {
                listing: Listing::new(row.exchange.0, row.symbol.0),
                refusal: (row.status.0 != "success").then(|| row.message.0.into_owned()),
            });
            Incoming::Subscribed(granted.collect())
        }
        _ if envelope.status.0 == "error" => {
            Incoming::Refused { code: envelope.code.0, message: envelope.message.0 }
        }
        _ => Incoming::Other,
    })
}

fn decimal(raw: &RawValue) -> Option<Decimal> {
    let text = raw.get().trim_matches('"');
    Decimal::from_str(text).or_else(|_| Decimal::from_scientific(text)).ok()
}

/// What we say.
#[derive(Serialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub(super) enum Outgoing<'a> {
    Authenticate {
        api_key: &'a str,
    },
    SubscribeOrders {
        request_id: String,
    },
    Subscribe {
        symbols: &'a [Listing],
        mode: &'static str,
        request_id: String,
    },
    Unsubscribe {
        symbols: Vec<Unwanted<'a>>,
        request_id: String,
    },
    Ping {
        timestamp: i64,
        #[serde(rename = "_pingId")]
        id: String,
    },
}

/// One listing to unsubscribe, with the mode it was subscribed in.
#[derive(Serialize)]
pub(super) struct Unwanted<'a> {
    #[serde(flatten)]
    pub listing: &'a Listing,
    pub mode: u8,
}

impl Outgoing<'_> {
    /// As a text frame.
    pub fn text(&self) -> String {
        serde_json::to_string(self).expect("plain structs with text keys always serialise")
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, a number or nothing")
            }

            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(number.to_string())))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(number.to_string())))
            }

            fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
                Ok(Text::default())
            }
        }
        deserializer.deserialize_any(Any)
    }
}

#[cfg(test)]
mod tests {
    use rust_decimal::dec;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_tick_borrows_its_names_and_keeps_its_digits() {
        for (ltp, expected) in [("52010.05", dec!(52010.05)), ("\"0.10\"", dec!(0.10)), ("1e3", dec!(1000))] {
            let frame = format!(
                r#"{{"type":"market_data","symbol":"X","exchange":"NFO","mode":1,"broker":"b","data":{{"symbol":"X","ltp":{ltp},"ltt":1}}}}"#
            );
            match read(&frame).unwrap() {
                Incoming::Tick {
                    exchange: Cow::Borrowed("NFO"),
                    symbol: Cow::Borrowed("X"),
                    price,
                    volume: None,
                } => {
                    assert_eq!(price, Price(expected));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_tick_without_a_price_is_none() {
        for data in [json!({}), json!({"ltp": null}), json!({"ltp": "NaN"}), json!(null)] {
            let frame =
                json!({"type": "market_data", "symbol": "X", "exchange": "NFO", "data": data}).to_string();
            assert_eq!(read(&frame).unwrap(), Incoming::Other, "{frame}");
        }
    }

    #[test]
    fn a_quotes_tick_has_the_days_volume() {
        for (volume, expected) in
            [("1200", Some(1200)), ("\"1200\"", Some(1200)), ("12.0", Some(12)), ("null", None)]
        {
            let frame = format!(
                r#"{{"type":"market_data","symbol":"X","exchange":"NFO","mode":2,"data":{{"ltp":5,"volume":{volume}}}}}"#
            );
            let Incoming::Tick { volume, .. } = read(&frame).unwrap() else { panic!("no tick") };
            assert_eq!(volume, expected.map(Quantity), "{frame}");
        }
    }

    #[test]
    fn numeric_order_ids_and_nulls_are_readable() {
        let frame = json!({"type": "order_update", "orderid": 1110913228, "order_status": "complete", "message": null});
        let expected = Incoming::Order { order_id: "1110913228".into(), status: "complete".into() };
        assert_eq!(read(&frame.to_string()).unwrap(), expected);
    }

    #[test]
    fn errors_have_no_type() {
        let frame = r#"{"status":"error","code":"BROKER_ERROR","message":"Broker adapter not found"}"#;
        let expected =
            Incoming::Refused { code: "BROKER_ERROR".into(), message: "Broker adapter not found".into() };
        assert_eq!(read(frame).unwrap(), expected);
        assert!(read("{").is_err() && read("7").is_err());
    }

    #[test]
    fn a_partial_subscription_names_what_failed() {
        let frame = json!({"type": "subscribe", "status": "partial", "subscriptions": [
            {"symbol": "A", "exchange": "NFO", "status": "success", "mode": 1, "depth": 5, "broker": "b"},
            {"symbol": "B", "exchange": "NFO", "status": "error", "mode": 1, "message": "Symbol B not found"},
        ]});
        let frame = frame.to_string();
        let Incoming::Subscribed(rows) = read(&frame).unwrap() else { panic!("no subscription") };
        assert_eq!(rows[0], Granted { listing: Listing::new("NFO", "A"), refusal: None });
        assert_eq!(rows[1].refusal.as_deref(), Some("Symbol B not found"));
    }

    #[test]
    fn what_we_say_is_in_the_proxys_words() {
        let listing = Listing::new("NFO", "A");
        let said =
            |outgoing: Outgoing<'_>| -> serde_json::Value { serde_json::from_str(&outgoing.text()).unwrap() };
        assert_eq!(
            said(Outgoing::Subscribe {
                symbols: std::slice::from_ref(&listing),
                mode: "LTP",
                request_id: "g1-2".into()
            }),
            json!({"action": "subscribe", "symbols": [{"symbol": "A", "exchange": "NFO"}], "mode": "LTP", "request_id": "g1-2"})
        );
        assert_eq!(
            said(Outgoing::Unsubscribe {
                symbols: vec![Unwanted { listing: &listing, mode: 1 }],
                request_id: "g1-3".into()
            }),
            json!({"action": "unsubscribe", "symbols": [{"symbol": "A", "exchange": "NFO", "mode": 1}], "request_id": "g1-3"})
        );
        assert_eq!(
            said(Outgoing::Authenticate { api_key: "k" }),
            json!({"action": "authenticate", "api_key": "k"})
        );
        assert_eq!(
            said(Outgoing::Ping { timestamp: 5, id: "p".into() }),
            json!({"action": "ping", "timestamp": 5, "_pingId": "p"})
        );
    }
}
