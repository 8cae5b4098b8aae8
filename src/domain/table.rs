//! Rows as CSV (RFC 4180): one heading, a field a column, quoted where that is needed.

use serde_json::Value;

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
            Value::String(text) => text.clone(),
            other => other.to_string(),
        }))?;
    }
    writer.into_inner().map_err(|error| error.into_error())
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
}
