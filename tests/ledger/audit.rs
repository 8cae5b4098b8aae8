//! The audit chain: every door to a switch leads through it, and what is sealed is proven from the seal on.

use std::sync::Arc;

use baton::domain::instrument::Catalog;
use baton::domain::money::Rupees;
use baton::ledger::release::Seen;
use baton::ledger::seals::Sealing;
use baton::ledger::snapshot::{Depth, Meter, READS};
use baton::ledger::switching::{Switch, SwitchChange};
use baton::recovery::{Recovered, Severity};
use rust_decimal::dec;
use serde_json::{Value, json};
use tokio_postgres::Client;

use crate::support::database::Database;

/// Kind, actor and payload of every row, in order.
async fn chain(client: &Client) -> Vec<(String, String, Value)> {
    let rows =
        client.query("SELECT kind, actor, payload::jsonb FROM audit_log ORDER BY seq", &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
}

/// What a recovery says of the audit chain.
async fn found(database: &Database) -> Vec<String> {
    let meter = Arc::new(Meter::default());
    let snapshot = database.ledger.snapshot(Depth::Open, &meter).await.unwrap();
    assert_eq!(meter.reads(), READS, "every read is counted");
    let recovered = Recovered::prove(snapshot, Rupees(dec!(1)), &Catalog::default()).unwrap();
    assert!(recovered.warnings.iter().all(|finding| finding.severity == Severity::Warning));
    recovered.warnings.iter().map(ToString::to_string).collect()
}

// R: B9
#[tokio::test]
async fn every_door_to_a_switch_leads_through_the_audit_chain() {
    let database = Database::start().await;
    let client = database.connect().await;
    let change = SwitchChange {
        switch: Switch::HaltAll,
        on: true,
        who: "asha".to_owned(),
        why: "drill".to_owned(),
        until: None,
        seen: Seen::default(),
    };
    database.ledger.set_switch(&change).await.unwrap();
    let told = |rows: &[(String, String, Value)]| -> Vec<(String, String, Value, Value)> {
        let of = |(kind, actor, told): &(String, String, Value)| {
            (kind.clone(), actor.clone(), told["switch"].clone(), told["on"].clone())
        };
        rows.iter().map(of).collect()
    };
    let switch =
        |actor: &str, name: &str, on: bool| ("switch".to_owned(), actor.to_owned(), json!(name), json!(on));
    let mut expected = vec![switch("asha", "halted", true), switch("asha", "halt_all", true)];
    let mut seen = told(&chain(&client).await);
    seen.sort_by_key(|row| row.2.to_string());
    expected.sort_by_key(|row| row.2.to_string());
    assert_eq!(seen, expected, "a halt of everything is a halt, too");

    // By the column alone, in psql: the runbook's way when no instance answers.
    let me: String = client.query_one("SELECT session_user::text", &[]).await.unwrap().get(0);
    for sql in [
        "UPDATE leadership SET reduce_only = true",
        "UPDATE leadership SET reduce_only = true, halted_until = NULL",
        "UPDATE leadership SET halted = false, halt_all = false",
        "UPDATE leadership SET paused = true",
    ] {
        client.batch_execute(sql).await.unwrap();
    }
    let by_hand = chain(&client).await.split_off(2);
    assert!(by_hand[0].2["why"].as_str().unwrap().contains("written directly"), "{by_hand:?}");
    let mut by_hand = told(&by_hand);
    by_hand[1..3].sort_by_key(|row| row.2.to_string());
    let all = [("reduce_only", true), ("halt_all", false), ("halted", false), ("paused", true)];
    assert_eq!(by_hand, all.map(|(name, on)| switch(&me, name, on)));
    // A transaction that writes its history after the column is taken at its word.
    client
        .batch_execute(
            "BEGIN; UPDATE leadership SET paused = false;
             INSERT INTO switch_history (switch, value, who, why) VALUES ('paused', false, 'ravi', 'over'); COMMIT",
        )
        .await
        .unwrap();
    assert_eq!(told(&chain(&client).await).split_off(6), [switch("ravi", "paused", false)]);

    // And whoever asks for another leader.
    client
        .batch_execute(
            "INSERT INTO leadership_command (verb, member, epoch, who, why) VALUES ('handover', 'b2', 1, 'asha', 'drill');
             UPDATE leadership_command SET outcome = 'done', finished_at = now()",
        )
        .await
        .unwrap();
    let commands = chain(&client).await.split_off(7);
    let outcomes: Vec<&Value> = commands.iter().map(|row| &row.2["outcome"]).collect();
    assert_eq!(outcomes, [&Value::Null, &json!("done")]);
    assert!(
        commands.iter().all(|row| row.0 == "leadership" && row.1 == "asha" && row.2["verb"] == "handover")
    );
    assert!(database.ledger.verify_audit().await.unwrap().ok);
}

// R: C1, B9
#[tokio::test]
async fn a_recovery_proves_the_audit_chain_from_its_last_seal_on() {
    let database = Database::start().await;
    let client = database.connect().await;
    let grow = async |rows: i32| {
        let sql = "SELECT audit_append('drill', 'asha', '{}') FROM generate_series(1, $1)";
        client.query(sql, &[&rows]).await.unwrap();
    };
    assert_eq!(
        database.ledger.seal_audit("b1").await.unwrap(),
        Sealing::Unchanged,
        "nothing is there to be sealed"
    );
    grow(5).await;
    let Sealing::Sealed(seal) = database.ledger.seal_audit("b1").await.unwrap() else {
        panic!("it is whole")
    };
    let report = database.ledger.verify_audit().await.unwrap();
    // The row that tells how things stand is the one that is sealed.
    assert_eq!((seal.seq, seal.hash, report.sealed), (6, report.head, 6));
    assert_eq!(database.ledger.seal_audit("b1").await.unwrap(), Sealing::Unchanged, "nothing came since");
    grow(5).await;
    assert_eq!(found(&database).await, [""; 0]);

    // As somebody with a superuser's session could.
    let free = "ALTER TABLE audit_log DISABLE TRIGGER USER; CREATE TABLE as_it_was AS TABLE audit_log";
    client.batch_execute(free).await.unwrap();
    for (name, sql, told) in [
        (
            "changed",
            "UPDATE audit_log SET actor = 'x' WHERE seq = 8",
            "row 8 (drill by x) is not what was written",
        ),
        ("taken", "DELETE FROM audit_log WHERE seq = 9", "rows 9 to 9 are missing"),
        ("cut", "DELETE FROM audit_log WHERE seq = 11", "the chain ends at row 10, its head says 11"),
        ("sealed", "UPDATE audit_log SET hash = sha256('x') WHERE seq = 6", "row 6 is not what was sealed"),
        (
            "told",
            "UPDATE audit_log SET payload = '{}' WHERE seq = 6",
            "row 6 (held by b1) is not what was written",
        ),
        ("before", "DELETE FROM audit_log WHERE seq = 5", "row 5 is missing"),
        ("gone", "DELETE FROM audit_log WHERE seq = 6", "row 6, which was sealed, is missing"),
        ("all", "DELETE FROM audit_log", "row 6, which was sealed, is missing"),
    ] {
        client.batch_execute(sql).await.unwrap();
        let faults = found(&database).await;
        assert!(faults.iter().any(|fault| fault.contains(told)), "{name}: {faults:?}");
        // Nothing is sealed over a fault, and nothing is hidden from the whole walk.
        let sealing = database.ledger.seal_audit("b1").await.unwrap();
        assert!(matches!(&sealing, Sealing::Broken(faults) if !faults.is_empty()), "{name}: {sealing:?}");
        assert!(!database.ledger.verify_audit().await.unwrap().ok, "{name}");
        client.batch_execute("DELETE FROM audit_log; INSERT INTO audit_log TABLE as_it_was").await.unwrap();
    }
    assert_eq!(found(&database).await, [""; 0]);
    // A recovery walks no further back than ten thousand rows; whoever seals walks from the last seal on, and tells.
    client.batch_execute("UPDATE audit_log SET actor = 'x' WHERE seq = 8").await.unwrap();
    grow(10_010).await;
    assert_eq!(found(&database).await, [""; 0], "out of its sight");
    let sealing = database.ledger.seal_audit("b1").await.unwrap();
    let Sealing::Broken(faults) = sealing else { panic!("{sealing:?}") };
    assert!(
        faults.len() == 1 && faults[0].starts_with("row 8 (drill by x) is not what was written"),
        "{faults:?}"
    );
}
