//! The tables of states: the code's and the database's are one.

use std::sync::Arc;
use std::time::Duration;

use baton::domain::order::IntentState;
use baton::health::operational::State;
use baton::ledger::snapshot::Depth;
use uuid::Uuid;

use crate::support::database::Database;

// R: N4; LESSONS "documented state machine not enforced"
#[tokio::test]
async fn an_order_intent_moves_only_as_the_code_says() {
    let database = Database::start().await;
    let client = database.connect().await;
    for &old in IntentState::ALL {
        for &new in IntentState::ALL {
            let pair = [old.as_str(), new.as_str()];
            let row = client.query_one("SELECT order_intent_may_become($1, $2)", &[&pair[0], &pair[1]]).await;
            let allowed: bool = row.unwrap().get(0);
            assert_eq!(allowed, old.may_become(new), "{old} -> {new}");

            // And the trigger obeys the function; staying is no transition.
            let id = Uuid::now_v7();
            client
                .execute(
                    "INSERT INTO order_intent (id, position_id, instrument, epoch, incarnation, class, symbol,
                        exchange, side, quantity, price_type, product, price, trigger_price, strategy_tag, state,
                        broker_order_id, filled_quantity, send_window_ms, order_watermark)
                     VALUES ($1, $1, 'X', 1, $1, 'exit', $1::uuid::text, 'MCX', 'SELL', 1, 'MARKET', 'NRML', 0, 0, $1::uuid::text,
                        $2, $1::uuid::text, 1, 1000, 0)",
                    &[&id, &pair[0]],
                )
                .await
                .unwrap();
            let moved =
                client.execute("UPDATE order_intent SET state = $2 WHERE id = $1", &[&id, &pair[1]]).await;
            assert_eq!(moved.is_ok(), allowed || old == new, "{old} -> {new}: {moved:?}");
        }
    }
}

#[tokio::test]
async fn an_operational_state_moves_only_as_the_code_says() {
    let database = Database::start().await;
    let client = database.connect().await;
    for &old in State::ALL {
        for &new in State::ALL {
            let row = client
                .query_one("SELECT operational_may_become($1, $2)", &[&old.as_str(), &new.as_str()])
                .await;
            let allowed: bool = row.unwrap().get(0);
            assert_eq!(allowed, old.may_become(new), "{old} -> {new}");

            let id = Uuid::now_v7();
            client
                .execute(
                    "INSERT INTO operational_state (incarnation, member, state, reason) VALUES ($1, 'b1', 'STARTING', 'x')",
                    &[&id],
                )
                .await
                .unwrap();
            let set = "UPDATE operational_state SET state = $2 WHERE incarnation = $1";
            client.execute(set, &[&id, &old.as_str()]).await.unwrap();
            let moved = client.execute(set, &[&id, &new.as_str()]).await;
            assert_eq!(moved.is_ok(), allowed || old == new, "{old} -> {new}: {moved:?}");
        }
    }
    for begin in State::ALL.iter().filter(|state| **state != State::Starting) {
        let begun = client
            .execute(
                "INSERT INTO operational_state (incarnation, member, state, reason) VALUES ($1, 'b1', $2, 'x')",
                &[&Uuid::now_v7(), &begin.as_str()],
            )
            .await;
        assert!(begun.is_err(), "a process began as {begin}");
    }
    let unknown = client.execute("UPDATE operational_state SET state = 'BANANA'", &[]).await;
    assert!(unknown.is_err());
}

// R: N4: what it was, what it became, why and when; another code or sentence of the same state, too
#[tokio::test]
async fn the_history_of_a_state_has_every_change_with_its_reason() {
    let database = Database::start().await;
    let ledger = &database.ledger;
    let instance = ha::Instance::new(ha::Member::new("b1".to_owned()).unwrap());
    for (state, code, reason) in [
        ("WAITING", None, "follower: b2 leads"),
        ("WAITING", None, "the bridge is away"),
        ("WAITING", None, "the bridge is away"),
        ("ERROR", Some("DATA_CORRUPT"), "row 7"),
        ("ERROR", Some("WRONG_MODE"), "the bridge is in the wrong mode"),
        ("WAITING", None, "mended"),
    ] {
        ledger.set_operational_state(&instance, state, code, reason).await.unwrap();
    }
    let id = instance.incarnation.as_uuid();
    let row = ledger.operational_states(&[id]).await.unwrap().remove(0);
    assert_eq!(row.state, "WAITING");
    ledger.note_check(&instance).await.unwrap();
    let looked = ledger.operational_states(&[id]).await.unwrap().remove(0);
    assert!(looked.checked_at > row.checked_at && looked.entered_at == row.entered_at);

    let newest = ledger.state_history(Some("b1"), None, 100).await.unwrap();
    let seen: Vec<_> =
        newest.iter().rev().map(|change| (change.to.as_str(), change.code.as_deref())).collect();
    let corrupt = ("ERROR", Some("DATA_CORRUPT"));
    let mode = ("ERROR", Some("WRONG_MODE"));
    let waiting = ("WAITING", None);
    assert_eq!(seen, [("STARTING", None), waiting, waiting, corrupt, mode, waiting]);
    assert!(
        newest
            .windows(2)
            .all(|pair| pair[0].at >= pair[1].at && pair[0].from.as_deref() == Some(&pair[1].to))
    );
    let older = ledger.state_history(None, Some(newest[3].id), 100).await.unwrap();
    assert_eq!(older.len(), 2);
    assert!(ledger.state_history(Some("b2"), None, 100).await.unwrap().is_empty());
}

// R: S7
#[tokio::test]
async fn s7_the_epoch_only_rises_and_its_row_stays() {
    let database = Database::start().await;
    let client = database.connect().await;
    client.execute("UPDATE leadership SET epoch = 7", &[]).await.unwrap();
    for sql in [
        "UPDATE leadership SET epoch = 6",
        "DELETE FROM leadership",
        "TRUNCATE leadership",
        "INSERT INTO leadership (id) VALUES (2)",
        "UPDATE leader_heartbeat SET counter = counter - 1",
        "DELETE FROM leader_heartbeat",
    ] {
        assert!(client.batch_execute(sql).await.is_err(), "{sql}");
    }
}

// What an operator asks of the whole history takes as long as it takes; only what a leader waits for is bounded.
#[tokio::test]
async fn walking_the_audit_chain_and_the_whole_history_outlast_the_statement_timeout() {
    let database = Database::start().await;
    let mut other = database.connect().await;
    let lock = other.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE audit_log, order_intent IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let (ledger, meter) = (&database.ledger, Arc::default());
    let mut both =
        std::pin::pin!(async { tokio::join!(ledger.verify_audit(), ledger.snapshot(Depth::Whole, &meter)) });
    // Longer than the timeout of a pooled session.
    let early = tokio::time::timeout(Duration::from_millis(10_500), &mut both).await;
    assert!(early.is_err(), "{:?}", early.map(|(audit, whole)| (audit.err(), whole.err())));
    lock.rollback().await.unwrap();
    let (audit, whole) = both.await;
    assert!(audit.unwrap().ok);
    whole.unwrap();
}
