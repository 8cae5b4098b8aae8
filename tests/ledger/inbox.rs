//! The inbox: a signal is one row, however often and wherever it is delivered. And the account's one owner.

use std::collections::HashMap;
use std::pin::pin;

use baton::domain::ids::{SignalId, SignalKey};
use baton::ledger::books::Filter;
use baton::ledger::inbox::{NewSignal, Receipt, STORE_UNDER};
use baton::ledger::repair::Operator;
use baton::ledger::signals::replay_key;
use baton::ledger::{Ledger, LedgerError};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::support::database::Database;

fn signal<'a>(key: &'a SignalKey, payload: &'a Value, member: &'a str) -> NewSignal<'a> {
    NewSignal {
        key,
        kind: "BASE_ENTRY",
        strategy: "test",
        instrument: "GOLD_MINI",
        payload,
        raw_body: b"{}",
        received_by: member,
        traceparent: None,
    }
}

async fn deliver(ledger: &Ledger, key: &str, member: &str) -> Receipt {
    let (key, payload) = (SignalKey(key.to_owned()), json!({ "by": member }));
    ledger.accept(SignalId::new(), &signal(&key, &payload, member), |_| {}).await.unwrap()
}

// R: B2
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repeats_at_once_on_three_instances_are_one_row() {
    let database = Database::start().await;
    let url = database.stores.database_url();
    let members: Vec<Ledger> =
        ["b1", "b2", "b3"].iter().map(|member| Ledger::new(&url, 8, member).unwrap()).collect();
    let deliveries: Vec<_> = (0..600)
        .map(|number| {
            let ledger = members[number % 3].clone();
            tokio::spawn(async move {
                let key = format!("test/{}", number % 20);
                (key.clone(), deliver(&ledger, &key, ["b1", "b2", "b3"][number % 3]).await)
            })
        })
        .collect();
    let mut first: HashMap<String, Receipt> = HashMap::new();
    let mut fresh = 0;
    for delivery in deliveries {
        let (key, receipt) = delivery.await.unwrap();
        fresh += usize::from(receipt.fresh);
        let known = first.entry(key).or_insert_with(|| receipt.clone());
        assert_eq!(known.id, receipt.id, "a repeat gets the first one's id");
        assert_eq!(receipt.status, "pending");
    }
    assert_eq!((first.len(), fresh), (20, 20));
    let rows = database.ledger.unfinished_signals(&[], 1000).await.unwrap();
    assert_eq!(rows.len(), 20);
    assert!(rows.windows(2).all(|pair| pair[0].seq < pair[1].seq), "the inbox has an order");
}

// R: B2, B9. Whoever asks twice, or whose answer was lost, gets the same signal; and one row of the audit log tells of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_is_put_in_again_once_however_often_that_is_asked_for() {
    let database = Database::start().await;
    let original = deliver(&database.ledger, "test/refused", "b1").await;
    let stored = database.ledger.stored_signal(original.id).await.unwrap().unwrap();
    assert_eq!((stored.status.as_str(), &stored.payload), ("pending", &json!({ "by": "b1" })));
    let askers: Vec<_> = (0..20)
        .map(|_| {
            let (ledger, stored) = (database.ledger.clone(), stored.clone());
            tokio::spawn(async move {
                let key = replay_key(original.id);
                let signal = NewSignal {
                    key: &key,
                    kind: "BASE_ENTRY",
                    strategy: "test",
                    instrument: "GOLD_MINI",
                    payload: &stored.payload,
                    raw_body: &stored.raw_body,
                    received_by: "b2",
                    traceparent: None,
                };
                let operator = Operator { name: "asha", reason: "halted by mistake" };
                ledger.replay(&signal, original.id, operator).await.unwrap().unwrap()
            })
        })
        .collect();
    let mut receipts = Vec::new();
    for asker in askers {
        receipts.push(asker.await.unwrap());
    }
    assert_eq!(receipts.iter().filter(|receipt| receipt.fresh).count(), 1);
    assert!(receipts.iter().all(|receipt| receipt.id == receipts[0].id && receipt.id != original.id));
    let client = database.connect().await;
    let told = "SELECT actor, payload FROM audit_log WHERE kind = 'replay'";
    let told = client.query(told, &[]).await.unwrap();
    let (who, payload): (String, String) = (told[0].get(0), told[0].get(1));
    assert_eq!((told.len(), who.as_str()), (1, "asha"));
    for part in [original.id.to_string(), receipts[0].id.to_string(), "halted by mistake".to_owned()] {
        assert!(payload.contains(&part), "{payload}");
    }
    let listed = database.ledger.signals(&Filter::default(), None, 1).await.unwrap();
    assert_eq!((listed.rows[0].id, listed.next.is_some()), (receipts[0].id.0, true), "the newest first");
    let none = Filter { states: Some(vec!["refused".to_owned()]), ..Filter::default() };
    assert!(database.ledger.signals(&none, None, 9).await.unwrap().rows.is_empty());
}

// R: K8, B2
#[tokio::test]
async fn a_strategys_signal_is_stored_once_and_under_the_epoch_in_force() {
    let database = Database::start().await;
    let client = database.connect().await;
    crate::rows::hold(&client).await;
    client.execute("UPDATE leadership SET epoch = 7", &[]).await.unwrap();
    let store = async |key: &str, epoch: i64, holder: Uuid| {
        let (id, payload) = (Uuid::now_v7(), json!({}));
        let none: Option<&str> = None;
        let row = client
            .query_opt(
                STORE_UNDER,
                &[
                    &id,
                    &key,
                    &"EXIT",
                    &"vwap",
                    &"GOLD_MINI",
                    &payload,
                    &b"{}".as_slice(),
                    &"b1",
                    &none,
                    &epoch,
                    &holder,
                ],
            )
            .await
            .unwrap();
        row.map(|row| (row.get::<_, Uuid>(0), row.get::<_, bool>(2)))
    };
    let (first, fresh) = store("vwap/bar", 7, Uuid::nil()).await.unwrap();
    assert!(fresh);
    assert_eq!(store("vwap/bar", 7, Uuid::nil()).await, Some((first, false)));
    // An old leader's, and another holder's under the same number: neither is stored, nor answered as stored.
    for (key, epoch, holder) in
        [("vwap/late", 6, Uuid::nil()), ("vwap/bar", 6, Uuid::nil()), ("vwap/other", 7, Uuid::now_v7())]
    {
        assert_eq!(store(key, epoch, holder).await, None, "{key}");
    }
    assert_eq!(deliver(&database.ledger, "vwap/bar", "b2").await.id.0, first, "a sender's repeat of it");
    assert_eq!(database.ledger.unfinished_signals(&[], 10).await.unwrap().len(), 1);
}

// R: B6; HA.md rule 22
#[tokio::test]
async fn an_account_belongs_to_one_cluster() {
    let database = Database::start().await;
    database.ledger.guard_account("AB1234", "blue").await.unwrap();
    database.ledger.guard_account("AB1234", "blue").await.unwrap();
    let error = database.ledger.guard_account("AB1234", "green").await.unwrap_err();
    assert!(matches!(&error, LedgerError::AccountTaken { owner, .. } if owner == "blue"), "{error}");
    assert!(error.to_string().contains("Stop that cluster"), "{error}");
    database.ledger.guard_account("CD5678", "green").await.unwrap();
}

/// What the inbox still has after a crash of the database.
async fn kept(database: &Database) -> Vec<SignalId> {
    database.stores.postgres().kill().await.unwrap();
    database.stores.postgres().start().await.unwrap();
    let reader = Ledger::new(&database.stores.database_url(), 1, "leader").unwrap();
    reader.unfinished_signals(&[], 10).await.unwrap().iter().map(|signal| signal.id).collect()
}

// R: B2. What a sender is told of is on disk, though the leader has it before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_has_a_signal_before_its_sender_and_its_sender_has_it_for_good() {
    let database = Database::start().await;
    let first = deliver(&database.ledger, "test/told", "b1").await;
    assert_eq!(kept(&database).await, [first.id]);

    let url = database.stores.database_url();
    let (ledger, leader) = (Ledger::new(&url, 1, "b1").unwrap(), Ledger::new(&url, 1, "b2").unwrap());
    let (key, payload) = (SignalKey("test/told again".to_owned()), json!({ "by": "b1" }));
    let (stored, seen) = oneshot::channel();
    let again = signal(&key, &payload, "b1");
    let mut accepted = pin!(ledger.accept(SignalId::new(), &again, |_| stored.send(()).unwrap()));
    tokio::select! {
        biased;
        accepted = &mut accepted => panic!("its sender was told first: {accepted:?}"),
        seen = seen => seen.unwrap(),
    }
    // Its sender waits, and nobody goes on with it: a repeat alone has to see to it.
    assert_eq!(leader.unfinished_signals(&[], 10).await.unwrap().len(), 2);
    let repeat = deliver(&leader, "test/told again", "b2").await;
    assert!(!repeat.fresh);
    assert_eq!(kept(&database).await, [first.id, repeat.id]);
}

// R: B2: answered is stored. A row that nobody flushed is one that a crash of PostgreSQL forgets.
#[tokio::test]
async fn a_signal_that_postgresql_has_forgotten_before_it_was_flushed_is_not_answered() {
    let database = Database::start().await;
    let forgets = "CREATE FUNCTION forgets() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN DELETE FROM signal WHERE id = NEW.id; RETURN NULL; END $$;
        CREATE TRIGGER forgets AFTER INSERT ON signal FOR EACH ROW WHEN (NEW.key = 'test/lost')
            EXECUTE FUNCTION forgets()";
    database.connect().await.batch_execute(forgets).await.unwrap();
    let payload = json!({});
    let accept = async |key: &str| {
        let key = SignalKey(key.to_owned());
        database.ledger.accept(SignalId::new(), &signal(&key, &payload, "b1"), |_| {}).await
    };
    let (kept, lost) = tokio::join!(accept("test/kept"), accept("test/lost"));
    assert!(kept.unwrap().fresh, "flushed by itself where the other one is gone");
    assert!(matches!(lost, Err(LedgerError::Conflict { .. })), "{lost:?}");
}
