//! The inbox: a signal is one row, however often and wherever it is delivered. And the account's one owner.

use std::collections::HashMap;

use baton::domain::ids::SignalKey;
use baton::ledger::inbox::{NewSignal, Receipt, STORE_UNDER};
use baton::ledger::{Ledger, LedgerError};
use serde_json::json;
use uuid::Uuid;

use crate::support::database::Database;

async fn deliver(ledger: &Ledger, key: &str, member: &str) -> Receipt {
    let signal = NewSignal {
        key: &SignalKey(key.to_owned()),
        kind: "BASE_ENTRY",
        strategy: "test",
        instrument: "GOLD_MINI",
        payload: &json!({ "by": member }),
        raw_body: b"{}",
        received_by: member,
        traceparent: None,
    };
    ledger.accept(&signal).await.unwrap()
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
