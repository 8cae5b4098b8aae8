//! Rows to journal and positions to sell from, with the least that the schema wants.

use baton::domain::order::OrderClass;
use baton::ledger::journal::JOURNAL;
use serde_json::{Value, json};
use tokio_postgres::{Client, Statement};
use uuid::Uuid;

/// One row for the journal statement; the symbol is its own, so no two unresolved orders look alike.
pub fn row(class: OrderClass, position: Uuid, quantity: i64) -> Value {
    let id = Uuid::now_v7();
    let side = if class == OrderClass::Entry { "BUY" } else { "SELL" };
    let plan = (class == OrderClass::Entry).then(|| json!({}));
    json!({
        "id": id, "signal_id": null, "leg": 0, "attempt": 0, "position_id": position, "instrument": "GOLD_MINI",
        "class": class.as_str(), "symbol": format!("S{id}"), "exchange": "MCX", "side": side, "quantity": quantity,
        "price_type": "MARKET", "product": "NRML", "price": "0", "trigger_price": "0",
        "strategy_tag": format!("test:{id}"), "plan": plan, "send_window_ms": 1000, "order_watermark": 0,
    })
}

/// The ids that were committed; none when the epoch was another.
pub type Committed = Option<Vec<Uuid>>;

/// Has the incarnation that [`journal`] writes for hold leadership.
pub async fn hold(client: &Client) {
    let sql = "UPDATE leadership SET holder_member = 'b1', holder_incarnation = $1";
    client.execute(sql, &[&Uuid::nil()]).await.unwrap();
}

/// Runs a journal statement as the leader does.
pub async fn journal(client: &Client, statement: &Statement, epoch: i64, rows: Vec<Value>) -> Committed {
    let answer = client
        .query_opt(statement, &[&epoch, &Value::Array(rows), &Uuid::nil(), &json!({})])
        .await
        .unwrap()?;
    Some(answer.get::<_, Option<Vec<Uuid>>>(3).unwrap_or_default())
}

/// Prepares the product's statement for the holder of leadership.
pub async fn statement(client: &Client) -> Statement {
    hold(client).await;
    client.prepare(JOURNAL).await.unwrap()
}

/// An open position of `quantity` units, with the signal it needs; gives its id.
pub async fn position(client: &Client, label: &str, quantity: i64) -> Uuid {
    let (signal, position) = (Uuid::now_v7(), Uuid::now_v7());
    client
        .execute(
            "INSERT INTO signal (id, key, type, strategy, instrument, payload, raw_body, received_by)
             VALUES ($1, $1::uuid::text, 'BASE_ENTRY', 'test', 'GOLD_MINI', '{}', '', 'b1')",
            &[&signal],
        )
        .await
        .unwrap();
    client
        .execute(
            "INSERT INTO position (id, instrument, label, strategy, symbol, exchange, product, status, quantity,
                entry_quantity, entry_price, lot_size, point_value, margin_per_lot, atr, initial_stop, current_stop,
                highest_close, entry_signal, entry_signal_seq, entry_bar_time)
             VALUES ($1, 'GOLD_MINI', $2, 'test', 'GOLDM', 'MCX', 'NRML', 'open', $3, $3, 100, 1, 1, 1, 1, 90, 90,
                100, $4, 1, now())",
            &[&position, &label, &quantity, &signal],
        )
        .await
        .unwrap();
    position
}
