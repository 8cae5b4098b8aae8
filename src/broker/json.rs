//! Reading the bridge's JSON: the same field is a number with one broker and text with the next.
//!
//! A decimal is read from the number's shortest round-trip text, so `1399.8` stays `1399.8`; no arithmetic is
//! done in floating point.

use std::str::FromStr;

use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use serde_json::{Map, Value};

use crate::domain::money::{Price, Quantity};

/// A JSON object.
pub(super) type Object = Map<String, Value>;

/// Reads a decimal from a number or a numeric text (thousands separators as brokers write them are dropped).
pub(super) fn decimal(value: &Value) -> Option<Decimal> {
    let text = match value {
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.trim().replace(',', ""),
        _ => return None,
    };
    Decimal::from_str(&text).or_else(|_| Decimal::from_scientific(&text)).ok()
}

/// Reads a whole number of units from `50`, `50.0` or `"50"`.
pub(super) fn quantity(value: &Value) -> Option<Quantity> {
    let number = decimal(value)?;
    number.is_integer().then(|| number.to_i64()).flatten().map(Quantity)
}

/// Reads a non-empty text; a number is taken as its digits.
pub(super) fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.trim().is_empty() => Some(text.trim().to_owned()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Absent, `null` and `""` are all the bridge's ways to say that there is nothing.
pub(super) fn is_blank(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.trim().is_empty(),
        _ => false,
    }
}

/// A required field, read by `read`; the error names it.
pub(super) fn required<T>(row: &Object, name: &str, read: impl Fn(&Value) -> Option<T>) -> Result<T, String> {
    let value = row.get(name).ok_or_else(|| format!("{name:?} is missing"))?;
    read(value).ok_or_else(|| format!("{name:?} is {}", clip(&value.to_string())))
}

/// An optional field: blank is `None`, but a value that cannot be read is an error.
pub(super) fn optional<T>(
    row: &Object,
    name: &str,
    read: impl Fn(&Value) -> Option<T>,
) -> Result<Option<T>, String> {
    match row.get(name) {
        Some(value) if !is_blank(value) => required(row, name, read).map(Some),
        _ => Ok(None),
    }
}

/// A required price.
pub(super) fn price(row: &Object, name: &str) -> Result<Price, String> {
    required(row, name, decimal).map(Price)
}

/// A price that may be left out, which means zero.
pub(super) fn price_or_zero(row: &Object, name: &str) -> Result<Price, String> {
    Ok(Price(optional(row, name, decimal)?.unwrap_or_default()))
}

/// The `message` of an answer as one line; the bridge sends text or an object.
pub(super) fn message(answer: &Object) -> String {
    match answer.get("message") {
        Some(Value::String(text)) => clip(text),
        Some(Value::Null) | None => "no message".to_owned(),
        Some(other) => clip(&other.to_string()),
    }
}

/// Bounds a text from outside before it goes into a reason, an error or the log.
pub(super) fn clip(text: &str) -> String {
    const LIMIT: usize = 300;
    match text.char_indices().nth(LIMIT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn decimals_keep_the_digits_that_were_sent() {
        let read = |text: &str| decimal(&serde_json::from_str(text).unwrap()).unwrap().to_string();
        assert_eq!(read("1399.8"), "1399.8");
        assert_eq!(read("\"1399.80\""), "1399.80");
        assert_eq!(read("0.1"), "0.1");
        assert_eq!(read("78234.55"), "78234.55");
        assert_eq!(read("\"1,02,345.5\""), "102345.5");
        assert_eq!(read("1e-7"), "0.0000001");
        assert_eq!(decimal(&json!("abc")), None);
        assert_eq!(decimal(&json!(null)), None);
    }

    #[test]
    fn quantities_are_whole() {
        assert_eq!(quantity(&json!("50")), Some(Quantity(50)));
        assert_eq!(quantity(&json!(50.0)), Some(Quantity(50)));
        assert_eq!(quantity(&json!(-3)), Some(Quantity(-3)));
        assert_eq!(quantity(&json!(0.5)), None);
    }

    #[test]
    fn an_unreadable_optional_field_is_an_error_not_nothing() {
        let row = json!({"a": "", "b": null, "c": "x", "d": "1.5"});
        let row = row.as_object().unwrap();
        assert_eq!(optional(row, "a", decimal), Ok(None));
        assert_eq!(optional(row, "b", decimal), Ok(None));
        assert_eq!(optional(row, "z", decimal), Ok(None));
        assert!(optional(row, "c", decimal).is_err());
        assert_eq!(price(row, "d").unwrap().to_string(), "1.5");
    }
}
