//! Recording and deciding in the ledger: whoever is first tells, once a window.

use std::time::Duration;

use baton::ledger::Ledger;
use baton::ledger::errors::{Episode, Occurrences, Withdrawal, WordError};
use baton::ledger::repair::Operator;
use tokio::task::JoinSet;

use crate::support::database::Database;
use crate::support::wait;

/// Whose word it is.
pub const ASHA: Operator<'static> = Operator { name: "asha", reason: "the line is being mended" };

/// One occurrence of `kind`, as `member` sees it.
pub fn occurrence(kind: &str, member: &str, text: &str) -> Occurrences {
    Occurrences {
        error_type: kind.to_owned(),
        scope: String::new(),
        severity: "error".to_owned(),
        message: text.to_owned(),
        count: 1,
        first_age_s: 0.0,
        last_age_s: 0.0,
        window_s: 3600.0,
        gather_s: 0.0,
        lasting: true,
        reporters: vec![format!("{member}/check")],
        told_age_s: None,
        told_here: false,
    }
}

/// The newest error, as long as it lasts now.
pub async fn newest(ledger: &Ledger) -> Episode {
    let row = &ledger.errors(false, 1).await.unwrap()[0];
    Episode { id: row.id, open_since: row.open_since }
}

fn withdrawal(kind: &str, member: &str) -> Withdrawal {
    Withdrawal {
        error_type: kind.to_owned(),
        scope: String::new(),
        reporters: Some(vec![format!("{member}/check")]),
    }
}

async fn items(ledger: &Ledger) -> Vec<(String, bool)> {
    let mut all = Vec::new();
    loop {
        let composed = ledger
            .compose_due(&[], 60.0, |items, _| {
                baton::notify::compose::compose("test", items, chrono::Utc::now())
            })
            .await
            .unwrap();
        if composed.is_empty() {
            return all;
        }
        all.extend(composed.into_iter().map(|item| (item.error_type, item.recovered)));
    }
}

// R: N7, N8: the same error a hundred times on three instances, its text never twice the same
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_occurrences_on_three_instances_make_one_notification() {
    let database = Database::start().await;
    let mut tasks = JoinSet::new();
    for member in ["b1", "b2", "b3"] {
        for number in 0..34 {
            let ledger = database.ledger.clone();
            tasks.spawn(async move {
                let one = occurrence("BROKER_ERROR", member, &format!("attempt {number} of {member} failed"));
                ledger.record_occurrences(&[one]).await.unwrap()[0].decided
            });
        }
    }
    let decided = tasks.join_all().await.into_iter().filter(|decided| *decided).count();
    assert_eq!(decided, 1);
    let row = &database.ledger.errors(true, 10).await.unwrap()[0];
    assert_eq!((row.occurrence_count, row.notification_count, row.throttled_count), (102, 1, 101));
    assert_eq!(row.reported_by, ["b1/check", "b2/check", "b3/check"]);
    assert!(row.first_occurrence <= row.last_occurrence && !row.resolved);
    assert_eq!(items(&database.ledger).await, [("BROKER_ERROR".to_owned(), false)]);
}

/// This member was last there so many minutes ago.
pub async fn silent_for(database: &Database, member: &str, minutes: i64) {
    database.ledger.mark_reporter(member).await.unwrap();
    let sql = format!(
        "UPDATE error_reporter SET seen_at = now() - interval '{minutes} min' WHERE member = '{member}'"
    );
    database.connect().await.execute(&sql, &[]).await.unwrap();
}

/// This member has been there for so many minutes without a break.
pub async fn there_for(database: &Database, member: &str, minutes: i64) {
    database.ledger.mark_reporter(member).await.unwrap();
    let sql = format!(
        "UPDATE error_reporter SET present_since = now() - interval '{minutes} min' WHERE member = '{member}'"
    );
    database.connect().await.execute(&sql, &[]).await.unwrap();
}

// R: N10: over when the last one that is there takes it back, and told once
#[tokio::test]
async fn trouble_is_over_when_nobody_who_is_there_reports_it_and_that_is_told_once() {
    let database = Database::start().await;
    let ledger = &database.ledger;
    for member in ["b1", "b2", "b3"] {
        ledger.record_occurrences(&[occurrence("DATABASE_ERROR", member, "away")]).await.unwrap();
        ledger.mark_reporter(member).await.unwrap();
    }
    assert_eq!(items(ledger).await.len(), 1);
    let withdraw = async |member: &str| {
        ledger.withdraw(&[withdrawal("DATABASE_ERROR", member)], member, 0.0).await.unwrap()
    };
    assert_eq!(withdraw("b1").await, 0, "b2 and b3 still say so");
    // b3 is dead and cannot take it back.
    silent_for(&database, "b3", 10).await;
    there_for(&database, "b2", 10).await;
    assert_eq!(withdraw("b2").await, 1);
    assert_eq!(withdraw("b2").await, 0);
    assert_eq!(items(ledger).await, [("DATABASE_ERROR".to_owned(), true)]);
    let row = &ledger.errors(false, 10).await.unwrap()[0];
    assert!(row.resolved && row.resolved_at.is_some() && row.reported_by.is_empty());
    assert!(ledger.errors(true, 10).await.unwrap().is_empty());
}

// An instance that died takes nothing back: what only it reported does not stay open for ever, nor is it called mended.
#[tokio::test]
async fn what_only_the_gone_reported_is_over_and_says_so() {
    let database = Database::start().await;
    let ledger = &database.ledger;
    for (kind, member) in [
        ("WEBSOCKET_ERROR", "b1"),
        ("HOST_ERROR", "b1"),
        ("HOST_ERROR", "b2"),
        ("BROKER_ERROR", "old"),
        ("ORDER_IN_DOUBT", "b1"),
    ] {
        ledger.record_occurrences(&[occurrence(kind, member, "so it is")]).await.unwrap();
    }
    items(ledger).await;
    let lasting = ["WEBSOCKET_ERROR", "HOST_ERROR", "BROKER_ERROR"];
    let end = async || ledger.end_reports_of_the_gone(&lasting, "b2").await.unwrap();
    // Nobody is known to be gone: the instances of an older version say nothing of being there.
    assert_eq!(end().await, 0);
    there_for(&database, "b2", 10).await;
    silent_for(&database, "b1", 1).await;
    assert_eq!(end().await, 0, "it may be on its way back");
    // After an outage of the database all were silent.
    silent_for(&database, "b1", 10).await;
    silent_for(&database, "b2", 10).await;
    ledger.mark_reporter("b2").await.unwrap();
    assert_eq!(end().await, 0, "they have time to come back");
    there_for(&database, "b2", 10).await;
    assert_eq!((end().await, end().await), (1, 0));
    let mut told = Vec::new();
    let noted = ledger.compose_due(&["log"], 60.0, |items, now| {
        told.extend(items.iter().map(|item| (item.error_type.clone(), item.recovered, item.message.clone())));
        baton::notify::compose::compose("test", items, now)
    });
    noted.await.unwrap();
    let [(kind, true, message)] = &told[..] else { panic!("{told:?}") };
    assert!(kind == "WEBSOCKET_ERROR" && message.contains("no instance that reported it runs"), "{message}");
    let open: Vec<_> = ledger.errors(true, 10).await.unwrap().into_iter().map(|row| row.error_type).collect();
    assert!(
        open.len() == 3
            && ["HOST_ERROR", "BROKER_ERROR", "ORDER_IN_DOUBT"]
                .iter()
                .all(|k| open.contains(&(*k).to_owned())),
        "{open:?}"
    );
    let silent = ledger.mark_reporter("b1").await.unwrap();
    assert!(silent.is_some_and(|seconds| seconds >= 590.0), "{silent:?}");
}

// What comes back within its window after its end was told is not told again, and not forgotten either.
#[tokio::test]
async fn what_comes_back_within_its_window_is_told_when_the_window_ends() {
    let database = Database::start().await;
    let ledger = &database.ledger;
    let one = || Occurrences { window_s: 1.5, ..occurrence("BROKER_ERROR", "b1", "away") };
    assert!(ledger.record_occurrences(&[one()]).await.unwrap()[0].decided);
    ledger.withdraw(&[withdrawal("BROKER_ERROR", "b1")], "b1", 0.0).await.unwrap();
    assert!(!ledger.record_occurrences(&[one()]).await.unwrap()[0].decided);
    assert_eq!(items(ledger).await, [("BROKER_ERROR".to_owned(), false), ("BROKER_ERROR".to_owned(), true)]);
    let told = wait::until("the window ends", Duration::from_secs(20), async || {
        match ledger.tell_owed().await.unwrap() {
            0 => Err(()),
            told => Ok(told),
        }
    });
    assert_eq!(told.await, 1);
    assert_eq!(ledger.tell_owed().await.unwrap(), 0);
    assert_eq!(items(ledger).await, [("BROKER_ERROR".to_owned(), false)]);
    let row = &ledger.errors(true, 10).await.unwrap()[0];
    assert_eq!((row.occurrence_count, row.notification_count, row.open_count), (2, 2, 1));
}

// R: N7: what was told while the database was away is merged, and tells nobody twice
#[tokio::test]
async fn what_was_told_without_the_database_is_merged_and_not_told_again() {
    let database = Database::start().await;
    let ledger = &database.ledger;
    let told = |member, here| Occurrences {
        told_age_s: Some(5.0),
        told_here: here,
        first_age_s: 20.0,
        last_age_s: 1.0,
        count: 7,
        ..occurrence("DATABASE_ERROR", member, "away")
    };
    assert!(!ledger.record_occurrences(&[told("b2", false)]).await.unwrap()[0].decided);
    let merged = ledger.record_occurrences(&[told("b1", true)]).await.unwrap();
    assert!(!merged[0].decided && merged[0].told_age_s.unwrap() >= 4.9);
    // The first to see the end ends it; who merges later what was before adds to the count only.
    ledger.withdraw(&[withdrawal("DATABASE_ERROR", "b1")], "b1", 0.0).await.unwrap();
    ledger.withdraw(&[withdrawal("DATABASE_ERROR", "b2")], "b2", 0.0).await.unwrap();
    assert!(!ledger.record_occurrences(&[told("b3", false)]).await.unwrap()[0].decided);
    ledger.withdraw(&[withdrawal("DATABASE_ERROR", "b3")], "b3", 0.0).await.unwrap();
    assert_eq!(items(ledger).await, [("DATABASE_ERROR".to_owned(), true)], "its end, once");
    let row = &ledger.errors(false, 1).await.unwrap()[0];
    assert_eq!((row.occurrence_count, row.notification_count), (21, 1));
}

// R: N10
#[tokio::test]
async fn an_acknowledged_error_is_counted_and_not_told_until_it_has_ended_and_comes_back() {
    let database = Database::start().await;
    let ledger = &database.ledger;
    let one = || Occurrences { window_s: 0.0, ..occurrence("BROKER_ERROR", "b1", "away") };
    ledger.record_occurrences(&[one()]).await.unwrap();
    let known = newest(ledger).await;
    let row = ledger.acknowledge_error(known, ASHA).await.unwrap();
    assert_eq!(row.acknowledged_by.as_deref(), Some("asha"));
    assert!(!ledger.record_occurrences(&[one()]).await.unwrap()[0].decided);
    let row = ledger.resolve_error(known, ASHA).await.unwrap();
    assert!(row.resolved);
    let over = ledger.resolve_error(known, ASHA).await;
    assert!(matches!(over, Err(WordError::NotOpen(_))), "it is over already: {over:?}");
    let unknown = ledger.acknowledge_error(Episode { id: known.id + 1, ..known }, ASHA).await;
    assert!(matches!(unknown, Err(WordError::NotOpen(_))), "{unknown:?}");
    assert!(ledger.record_occurrences(&[one()]).await.unwrap()[0].decided);
    let summary = &ledger.error_summary().await.unwrap()[0];
    assert_eq!((summary.unresolved, summary.occurrences, summary.notified, summary.throttled), (1, 3, 2, 1));
}

// A moment is over as soon as it is recorded: nothing of it stays unresolved.
#[tokio::test]
async fn a_moment_is_never_an_unresolved_error() {
    let database = Database::start().await;
    let ledger = &database.ledger;
    let one = || Occurrences { lasting: false, ..occurrence("FAILOVER", "b1", "b1 took over") };
    assert!(ledger.record_occurrences(&[one()]).await.unwrap()[0].decided);
    assert!(!ledger.record_occurrences(&[one()]).await.unwrap()[0].decided);
    assert!(ledger.errors(true, 10).await.unwrap().is_empty());
    assert_eq!(ledger.tell_owed().await.unwrap(), 0);
    assert_eq!(ledger.errors(false, 10).await.unwrap()[0].occurrence_count, 2);
}
