//! What a takeover reads back of an entry that has two orders.

use std::sync::Arc;

use baton::domain::ids::{IntentId, PositionId};
use baton::domain::order::OrderClass::Entry;
use baton::ledger::snapshot::{Depth, Meter, Snapshot};
use serde_json::json;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::rows::{journal, position, row, statement};
use crate::support::database::Database;

/// Two orders of one entry, of 10 units each: the bid was cancelled, the rest filled; with their open position.
async fn worked(client: &Client) -> (Uuid, Uuid, Uuid) {
    let statement = statement(client).await;
    let held = position(client, "Long_1", 10).await;
    let signal: Uuid = client.query_one("SELECT id FROM signal", &[]).await.unwrap().get(0);
    let mut orders = Vec::new();
    for attempt in 0..2 {
        let mut order = row(Entry, held, 10);
        (order["signal_id"], order["attempt"]) = (signal.to_string().into(), attempt.into());
        order["plan"] = json!({
            "label": "Long_1", "strategy": "test", "lot_size": 1, "point_value": "1", "margin_per_lot": "1", "atr": "1",
            "stop": "90", "planned_price": "100", "signal_seq": 1, "bar_time": "2026-01-05T10:00:00Z",
            "bidding": { "units": 10, "prices": ["100"], "step_ms": 1000, "decided_at": "2026-01-05T10:00:00Z" },
        });
        let id = journal(client, &statement, 0, vec![order]).await.unwrap()[0];
        let end = if attempt == 0 { "cancelled" } else { "filled" };
        become_(client, id, end, if attempt == 0 { 0 } else { 10 }).await;
        orders.push(id);
    }
    client.execute("UPDATE signal SET status = 'executed', finished_at = now()", &[]).await.unwrap();
    (held, orders[0], orders[1])
}

async fn become_(client: &Client, id: Uuid, state: &str, filled: i64) {
    let sql =
        "UPDATE order_intent SET state = 'acknowledged', broker_order_id = $1::uuid::text WHERE id = $1";
    client.execute(sql, &[&id]).await.unwrap();
    let sql = "UPDATE order_intent SET state = $2, filled_quantity = $3 WHERE id = $1";
    client.execute(sql, &[&id, &state, &filled]).await.unwrap();
}

async fn fill_late(client: &Client, bid: Uuid) {
    let sql = "UPDATE order_intent SET unwind = true, filled_quantity = 10 WHERE id = $1";
    client.execute(sql, &[&bid]).await.unwrap();
}

async fn snapshot(database: &Database) -> Snapshot {
    database.ledger.snapshot(Depth::Open, &Arc::new(Meter::default())).await.unwrap()
}

/// Columns of positions that are called damaged.
fn status_strayed(snapshot: &Snapshot) -> Vec<PositionId> {
    snapshot.strayed.iter().filter(|s| s.column == "status").map(|s| s.position).collect()
}

// R: S14, S16: more was bought than was decided, and no exit is journaled yet (a halt may keep it back for hours).
#[tokio::test]
async fn a_position_on_its_way_out_by_a_late_fill_of_one_of_its_orders_is_whole() {
    let database = Database::start().await;
    let client = database.connect().await;
    let (held, bid, _) = worked(&client).await;
    client.execute("UPDATE position SET status = 'closing', version = version + 1", &[]).await.unwrap();
    assert_eq!(status_strayed(&snapshot(&database).await), [PositionId(held)], "nobody asked for it");
    fill_late(&client, bid).await;
    assert_eq!(status_strayed(&snapshot(&database).await), [], "the late fill did");
}

// R: S16: a late fill of the one has to know that the other made the position.
#[tokio::test]
async fn orders_of_one_entry_are_read_back_together_for_as_long_as_one_may_fill() {
    let database = Database::start().await;
    let client = database.connect().await;
    let (held, bid, rest) = worked(&client).await;
    let over = "UPDATE position SET status = 'closed', quantity = 0, closed_at = now() WHERE id = $1";
    client.execute(over, &[&held]).await.unwrap();
    let read = async || {
        let mut read: Vec<IntentId> = snapshot(&database).await.intents.iter().map(|i| i.id).collect();
        read.sort();
        read
    };
    assert_eq!(read().await, [IntentId(bid), IntentId(rest)]);
    client.execute("UPDATE order_intent SET journaled_at = now() - interval '2 days'", &[]).await.unwrap();
    assert_eq!(read().await, [], "nor longer");
}

// R: S16: what a bid filled when its position was over already is a position under the order's own id.
#[tokio::test]
async fn an_order_that_filled_late_is_no_orphan_of_the_position_that_it_made() {
    let database = Database::start().await;
    let client = database.connect().await;
    let (held, bid, _) = worked(&client).await;
    fill_late(&client, bid).await;
    client.execute("DELETE FROM order_intent WHERE id <> $1", &[&bid]).await.unwrap();
    client
        .execute("UPDATE position SET id = $2, status = 'closing' WHERE id = $1", &[&held, &bid])
        .await
        .unwrap();
    let seen = snapshot(&database).await;
    assert_eq!((&seen.orphans[..], status_strayed(&seen)), (&[][..], vec![]));
    client.execute("DELETE FROM position", &[]).await.unwrap();
    assert_eq!(snapshot(&database).await.orphans.len(), 1, "without it, it is one");
}
