//! What may be put in again: a refused signal of which nothing speaks against it that it never had an order.

use baton::domain::ids::{SignalId, SignalKey};
use baton::domain::order::OrderClass;
use baton::domain::refusal::Refusal;
use baton::ledger::Ledger;
use baton::ledger::inbox::{NewSignal, Receipt};
use baton::ledger::repair::Operator;
use baton::ledger::signals::replay_key;
use serde_json::json;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::rows;
use crate::support::database::Database;

const RESTORED: &str = "INSERT INTO leadership_history (epoch, reason, ended_at, end_reason)
    VALUES (1000, 'restored', now(), 'vacant')";
const FAILED_OVER: &str = "INSERT INTO switch_history (switch, value, who, why)
    VALUES ('reduce_only', true, 'b1', 'PostgreSQL failed over (other system or timeline): it may be missing')";

async fn store(ledger: &Ledger, key: &str) -> SignalId {
    ledger.accept(SignalId::new(), &entry(&SignalKey(key.to_owned())), |_| {}).await.unwrap().id
}

fn entry(key: &SignalKey) -> NewSignal<'_> {
    static NOTHING: serde_json::Value = serde_json::Value::Null;
    NewSignal {
        key,
        kind: "BASE_ENTRY",
        strategy: "test",
        instrument: "GOLD_MINI",
        payload: &NOTHING,
        raw_body: b"{}",
        received_by: "b1",
        traceparent: None,
    }
}

/// A signal that was refused with `code`.
async fn refused(database: &Database, client: &Client, key: &str, code: &str) -> SignalId {
    let id = store(&database.ledger, key).await;
    refuse(client, id, code).await;
    id
}

async fn refuse(client: &Client, id: SignalId, code: &str) {
    let sql = "UPDATE signal SET status = 'refused', finished_at = now(), reasons = $2 WHERE id = $1";
    let reasons = json!([{ "code": "OTHER", "sentence": "" }, { "code": code, "sentence": "" }]);
    client.execute(sql, &[&id.0, &reasons]).await.unwrap();
}

async fn replay(ledger: &Ledger, id: SignalId) -> Result<Receipt, Refusal> {
    let key = replay_key(id);
    let operator = Operator { name: "asha", reason: "a mistake" };
    ledger.replay(&entry(&key), id, operator).await.unwrap()
}

/// Neither stored nor told of, and a trial says so, too.
async fn not_again(database: &Database, id: SignalId, code: &str, word: &str) {
    let refusal = replay(&database.ledger, id).await.unwrap_err();
    assert!(refusal.code == code && refusal.sentence.contains(word), "{refusal}");
    assert_eq!(database.ledger.against_replay(id).await.unwrap(), Some(refusal));
    assert_eq!(database.ledger.delivered(&replay_key(id)).await.unwrap(), None);
    let told = "SELECT count(*) FROM audit_log WHERE kind = 'replay' AND payload::jsonb ->> 'signal' = $1";
    let told = database.connect().await.query_one(told, &[&id.to_string()]).await.unwrap();
    assert_eq!(told.get::<_, i64>(0), 0);
}

async fn again(database: &Database, id: SignalId) -> Receipt {
    assert_eq!(database.ledger.against_replay(id).await.unwrap(), None);
    replay(&database.ledger, id).await.unwrap()
}

// R: B2, B9. What waited when a backup was made may have been bought since.
#[tokio::test]
async fn an_end_that_says_nothing_of_orders_is_not_put_in_again() {
    let database = Database::start().await;
    let client = database.connect().await;
    for code in ["RESTORED", "UNREADABLE"] {
        let id = refused(&database, &client, code, code).await;
        not_again(&database, id, "SIGNAL_MAY_HAVE_ACTED", code).await;
    }
    let id = refused(&database, &client, "halted", "HALTED").await;
    assert!(again(&database, id).await.fresh);
}

// R: B2, B9. The signal that it was put in again as, and what that bought, is what a restore loses.
#[tokio::test]
async fn what_came_before_a_restore_or_a_failover_is_not_put_in_again() {
    for (event, word) in [(RESTORED, "restored"), (FAILED_OVER, "failed over")] {
        let database = Database::start().await;
        let client = database.connect().await;
        let replayed = refused(&database, &client, "replayed", "HALTED").await;
        let receipt = again(&database, replayed).await;
        let before = refused(&database, &client, "before", "REDUCE_ONLY").await;
        client.batch_execute(event).await.unwrap();
        not_again(&database, before, "SIGNAL_MAY_HAVE_ACTED", word).await;
        // Whose answer was lost gets it still: nothing is stored by that.
        assert_eq!(again(&database, replayed).await, Receipt { fresh: false, ..receipt.clone() });
        refuse(&client, receipt.id, "REDUCE_ONLY").await;
        not_again(&database, receipt.id, "SIGNAL_MAY_HAVE_ACTED", word).await;
        let after = refused(&database, &client, "after", "REDUCE_ONLY").await;
        assert!(again(&database, after).await.fresh);
    }
}

// R: B2, B9. Between a failover and the promotion that writes it down.
#[tokio::test]
async fn nothing_is_put_in_again_on_a_server_that_nobody_has_led_on() {
    let database = Database::start().await;
    let client = database.connect().await;
    let id = refused(&database, &client, "lost", "REDUCE_ONLY").await;
    let office = "UPDATE leadership SET timeline = $1, system_identifier = (SELECT system_identifier FROM pg_control_system())";
    client.execute(office, &[&"000000FF"]).await.unwrap();
    not_again(&database, id, "SIGNAL_MAY_HAVE_ACTED", "failed over").await;
    let here = "SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)";
    let here: String = client.query_one(here, &[]).await.unwrap().get(0);
    client.execute(office, &[&here]).await.unwrap();
    assert!(again(&database, id).await.fresh);
}

// R: B2, B9. One that was begun, and whose row a later version cannot read, is refused with its order out.
#[tokio::test]
async fn a_refused_signal_with_an_order_is_not_put_in_again() {
    let database = Database::start().await;
    let client = database.connect().await;
    let statement = rows::statement(&client).await;
    for state in ["journaled", "in_doubt", "rejected", "not_sent"] {
        let id = store(&database.ledger, state).await;
        let mut row = rows::row(OrderClass::Entry, Uuid::now_v7(), 100);
        row["signal_id"] = json!(id);
        let committed = rows::journal(&client, &statement, 0, vec![row]).await;
        assert_eq!(committed.map(|ids| ids.len()), Some(1));
        let sql = "UPDATE order_intent SET state = $2 WHERE signal_id = $1";
        client.execute(sql, &[&id.0, &state]).await.unwrap();
        refuse(&client, id, "OTHER").await;
        if state == "not_sent" {
            assert!(again(&database, id).await.fresh);
        } else {
            not_again(&database, id, "SIGNAL_HAD_ORDER", state).await;
        }
    }
}
