//! Claims, repeats, pauses and budgets of the outbox, in the ledger.

use std::time::Duration;

use baton::ledger::Ledger;
use baton::ledger::errors::Occurrences;
use baton::ledger::outbox::Attempt;

use crate::support::database::Database;
use crate::support::wait;
use crate::throttle::occurrence;

const PATIENCE: Duration = Duration::from_secs(20);

async fn compose(ledger: &Ledger) -> usize {
    let composing = ledger
        .compose_due(&["telegram"], 3600.0, |items, now| baton::notify::compose::compose("test", items, now));
    composing.await.unwrap().len()
}

async fn queued(ledger: &Ledger, kinds: &[&str]) {
    ledger.open_channels(&["telegram"]).await.unwrap();
    for kind in kinds {
        ledger.record_occurrences(&[occurrence(kind, "b1", "away")]).await.unwrap();
        assert_eq!(compose(ledger).await, 1);
    }
}

// R: N9: different errors within the window become one message; a lone one goes by the timer
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_decided_within_the_window_becomes_one_message_of_all() {
    let database = Database::start().await;
    let ledger = &database.ledger;
    ledger.open_channels(&["telegram"]).await.unwrap();
    let gathering = |kind, gather_s| Occurrences { gather_s, ..occurrence(kind, "b1", "away") };
    ledger.record_occurrences(&[gathering("BROKER_ERROR", 1.0)]).await.unwrap();
    ledger.record_occurrences(&[gathering("REDIS_DEGRADED", 3600.0)]).await.unwrap();
    assert_eq!(compose(ledger).await, 0);
    let took = wait::until("the first of them is due", PATIENCE, async || match compose(ledger).await {
        0 => Err(()),
        items => Ok(items),
    });
    assert_eq!(took.await, 2);
    let claimed = ledger.claim("telegram", "b1", 60.0, 20).await.unwrap().unwrap();
    assert_eq!(claimed.types, ["BROKER_ERROR", "REDIS_DEGRADED"]);
    assert!(ledger.claim("telegram", "b2", 60.0, 20).await.unwrap().is_none());
}

// R: N11: one claimer at a time; what a dead one had is claimed again, as a possible repeat
#[tokio::test]
async fn a_message_has_one_claimer_and_outlives_it() {
    let database = Database::start().await;
    let ledger = &database.ledger;
    queued(ledger, &["BROKER_ERROR"]).await;
    let first = ledger.claim("telegram", "b1", 0.5, 20).await.unwrap().unwrap();
    assert!(!first.uncertain && first.attempts == 1);
    let again = wait::until("the claim lapses", PATIENCE, async || {
        ledger.claim("telegram", "b2", 60.0, 20).await.unwrap().ok_or(())
    })
    .await;
    assert_eq!((again.id, again.uncertain, again.attempts), (first.id, true, 2));
    assert!(!ledger.attempted(first.id, "b1", &Attempt::Sent).await.unwrap(), "b1's claim has lapsed");
    assert!(ledger.attempted(first.id, "b2", &Attempt::Sent).await.unwrap());
    assert_eq!(ledger.outbox_depth().await.unwrap(), 0);
}

#[tokio::test]
async fn a_lost_answer_marks_the_next_attempt_and_a_refusal_does_not() {
    let database = Database::start().await;
    let ledger = &database.ledger;
    queued(ledger, &["BROKER_ERROR"]).await;
    for (uncertain, seen) in [(false, false), (true, false), (false, true)] {
        let claimed = ledger.claim("telegram", "b1", 60.0, 20).await.unwrap().unwrap();
        assert_eq!(claimed.uncertain, seen);
        let why = "no answer".to_owned();
        let again = Attempt::Again { after_s: 0.0, uncertain, whole_channel: false, why };
        assert!(ledger.attempted(claimed.id, "b1", &again).await.unwrap());
    }
}

// R: N11: retry_after holds for the whole channel and every instance
#[tokio::test]
async fn the_other_sides_pause_holds_for_every_message_of_the_channel() {
    let database = Database::start().await;
    let ledger = &database.ledger;
    queued(ledger, &["BROKER_ERROR", "DATABASE_ERROR"]).await;
    let claimed = ledger.claim("telegram", "b1", 60.0, 20).await.unwrap().unwrap();
    let why = "429".to_owned();
    let again = Attempt::Again { after_s: 1.0, uncertain: false, whole_channel: true, why };
    let begun = std::time::Instant::now();
    ledger.attempted(claimed.id, "b1", &again).await.unwrap();
    wait::until("the pause ends", PATIENCE, async || {
        ledger.claim("telegram", "b2", 60.0, 20).await.unwrap().ok_or(())
    })
    .await;
    assert!(begun.elapsed() >= Duration::from_millis(990), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn the_flood_budget_counts_the_whole_cluster() {
    let database = Database::start().await;
    let ledger = &database.ledger;
    let kinds = ["BROKER_ERROR", "DATABASE_ERROR", "REDIS_DEGRADED"];
    queued(ledger, &kinds).await;
    for member in ["b1", "b2"] {
        let claimed = ledger.claim("telegram", member, 60.0, 2).await.unwrap().unwrap();
        ledger.attempted(claimed.id, member, &Attempt::Sent).await.unwrap();
    }
    assert!(ledger.claim("telegram", "b3", 60.0, 2).await.unwrap().is_none());
    assert_eq!(ledger.outbox_depth().await.unwrap(), 1);
}

#[tokio::test]
async fn what_is_refused_is_dead_and_what_is_late_expires() {
    let database = Database::start().await;
    let ledger = &database.ledger;
    queued(ledger, &["BROKER_ERROR"]).await;
    let claimed = ledger.claim("telegram", "b1", 60.0, 20).await.unwrap().unwrap();
    let why = "403: the bot was kicked".to_owned();
    ledger.attempted(claimed.id, "b1", &Attempt::Dead { why }).await.unwrap();
    assert!(ledger.claim("telegram", "b1", 60.0, 20).await.unwrap().is_none());

    queued(ledger, &["DATABASE_ERROR"]).await;
    let client = database.connect().await;
    client
        .execute("UPDATE notification_outbox SET expires_at = now() WHERE state = 'queued'", &[])
        .await
        .unwrap();
    let expired = ledger.expire_notifications().await.unwrap();
    assert_eq!(expired, [("telegram".to_owned(), vec!["DATABASE_ERROR".to_owned()])]);
    let states = "SELECT array_agg(state ORDER BY created_at) FROM notification_outbox";
    let states: Vec<String> = client.query_one(states, &[]).await.unwrap().get(0);
    assert_eq!(states, ["dead", "expired"]);
}
