//! Rows as CSV (RFC 4180): one heading, a field a column, quoted where that is needed.
//!
//! A spreadsheet takes a cell that begins with `=`, `+`, `-`, `@`, a tab or a line break for a formula, and some cells hold what
//! senders and the broker wrote. Such a cell gets an apostrophe before it, which spreadsheets show nothing of; a number stays one.

use rust_decimal::Decimal;
use serde_json::Value;

/// What a formula begins with.
const FORMULA: [char; 7] = ['=', '+', '-', '@', '\t', '\r', '\n'];

/// Columns of trades.
pub const TRADES: &[&str] = &[
    "closed_at",
    "opened_at",
    "instrument",
    "label",
    "strategy",
    "symbol",
    "exchange",
    "quantity",
    "lot_size",
    "point_value",
    "entry_price",
    "exit_price",
    "realised",
    "charges",
    "net",
    "exit_cause",
    "id",
];
/// Columns of orders.
pub const ORDERS: &[&str] = &[
    "journaled_at",
    "state_at",
    "instrument",
    "strategy",
    "class",
    "symbol",
    "side",
    "quantity",
    "price_type",
    "trigger_price",
    "state",
    "filled_quantity",
    "average_price",
    "reason",
    "broker_order_id",
    "position_id",
    "signal_id",
    "leg",
    "attempt",
    "epoch",
    "id",
];
/// Columns of signals.
pub const SIGNALS: &[&str] = &[
    "received_at",
    "finished_at",
    "type",
    "instrument",
    "strategy",
    "status",
    "reasons",
    "key",
    "received_by",
    "id",
];
/// Columns of the equity curve.
pub const EQUITY: &[&str] = &["at", "instrument", "strategy", "realised", "cumulative", "equity", "position"];

/// The rows' `columns` under a heading; what a row does not have is empty.
///
/// # Errors
/// None that is known: everything is written into memory.
pub fn csv(columns: &[&str], rows: &[Value]) -> std::io::Result<Vec<u8>> {
    let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    writer.write_record(columns)?;
    for row in rows {
        writer.write_record(columns.iter().map(|column| match &row[*column] {
            Value::Null => String::new(),
            Value::String(text) => cell(text),
            other => other.to_string(),
        }))?;
    }
    writer.into_inner().map_err(|error| error.into_error())
}

/// A text that no spreadsheet calculates.
fn cell(text: &str) -> String {
    let is_number = || text.starts_with('-') && text.parse::<Decimal>().is_ok();
    if text.starts_with(FORMULA) && !is_number() { format!("'{text}") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_are_quoted_as_rfc_4180_says_and_null_is_empty() {
        let rows = [json!({ "a": "x,\"y\"\n", "b": 3 }), json!({ "a": null, "b": "1.50" })];
        let text = String::from_utf8(csv(&["a", "b"], &rows).unwrap()).unwrap();
        assert_eq!(text, "a,b\r\n\"x,\"\"y\"\"\n\",3\r\n,1.50\r\n");
    }

    #[test]
    fn what_a_spreadsheet_would_calculate_is_made_text_and_a_number_stays_one() {
        for (text, cell) in [
            ("=HYPERLINK(1)", "'=HYPERLINK(1)"),
            ("+1", "'+1"),
            ("-1+cmd|' /C calc'!A0", "'-1+cmd|' /C calc'!A0"),
            ("-", "'-"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("\t=1", "'\t=1"),
            ("-1234.50000000", "-1234.50000000"),
            ("-7", "-7"),
            ("Long_1", "Long_1"),
            ("2026-08-10T09:15:00Z", "2026-08-10T09:15:00Z"),
            ("a=b", "a=b"),
        ] {
            let written = String::from_utf8(csv(&["a"], &[json!({ "a": text })]).unwrap()).unwrap();
            assert_eq!(written, format!("a\r\n{cell}\r\n"));
        }
        for (text, cell) in [("\r=1", "\"'\r=1\""), ("\n=1", "\"'\n=1\"")] {
            let written = String::from_utf8(csv(&["a"], &[json!({ "a": text })]).unwrap()).unwrap();
            assert_eq!(written, format!("a\r\n{cell}\r\n"));
        }
    }
}
