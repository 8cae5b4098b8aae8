//! For any sequence of events on any number of instances: at most one decision per key and window, and no event lost.
//!
//! The clock of the windows is the database's; time passes by moving what it has stored into the past.

use std::time::Instant;

use baton::ledger::errors::{Episode, ErrorRow, Occurrences, Withdrawal};
use baton::notify::{Kind, Severity};
use tokio_postgres::Client;

use crate::support::database::Database;
use crate::support::seed::Seed;
use crate::throttle::{ASHA, occurrence, silent_for, there_for};

const WINDOW_S: i64 = 600;

/// What the test itself knows of a key.
#[derive(Default, Clone)]
struct Told {
    /// When, on the test's clock, and really.
    decisions: Vec<(i64, Instant)>,
    occurrences: i64,
    /// An operator knows of the present episode.
    acknowledged: bool,
}

impl Told {
    /// Whether the window has ended for certain.
    fn is_over(&self, now: i64) -> bool {
        self.decisions.last().is_none_or(|(last, _)| now - last >= WINDOW_S)
    }

    /// Whether it may have, with the time that the test itself has taken.
    fn may_be_over(&self, now: i64) -> bool {
        let took = |at: &Instant| at.elapsed().as_secs() as i64 + 1;
        self.decisions.last().is_none_or(|(last, at)| now - last + took(at) >= WINDOW_S)
    }
}

async fn pass(client: &Client, seconds: i64) {
    let sql = format!(
        "UPDATE error_notifications_log SET first_occurrence = first_occurrence - interval '{seconds} s',
            last_occurrence = last_occurrence - interval '{seconds} s',
            last_notification_sent = last_notification_sent - interval '{seconds} s',
            resolved_at = resolved_at - interval '{seconds} s', open_since = open_since - interval '{seconds} s'"
    );
    client.execute(&sql, &[]).await.unwrap();
}

// R: N7, N8; issue 7's property
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn decisions_per_key_and_window_are_at_most_one_and_nothing_is_lost() {
    let database = Database::start().await;
    let client = database.connect().await;
    let mut random = Seed::drawn("decisions");
    let kinds = [Kind::OperationalError, Kind::BrokerError, Kind::Failover, Kind::OrderAbandoned];
    let mut keys = vec![Told::default(); kinds.len() * 2];
    let mut now = 0;
    for _ in 0..1500 {
        let index = random.below(keys.len());
        let kind = kinds[index / 2];
        let member = ["b1", "b2", "b3"][random.below(3)];
        match random.below(12) {
            0..6 => {
                let count = 1 + random.below(5) as i64;
                let one = Occurrences {
                    scope: (index % 2).to_string(),
                    severity: kind.severity().as_str().to_owned(),
                    lasting: kind.life() != baton::notify::Life::Moment,
                    window_s: WINDOW_S as f64,
                    count,
                    ..occurrence(kind.as_str(), member, &format!("text {}", random.below(1_000_000)))
                };
                let decided = database.ledger.record_occurrences(&[one]).await.unwrap()[0].decided;
                let told = &mut keys[index];
                told.occurrences += count;
                if decided {
                    assert!(told.may_be_over(now), "{kind} decided at {now} after {:?}", told.decisions);
                }
                // A critical event is told, or was within its window, or an operator knows of it already.
                let critical = kind.severity() == Severity::Critical;
                let lost = critical && !decided && !told.acknowledged && told.is_over(now);
                assert!(!(decided && told.acknowledged), "{kind} was acknowledged");
                assert!(!lost, "{kind} at {now} was lost");
                if decided {
                    told.decisions.push((now, Instant::now()));
                }
            }
            6..8 => {
                let over = Withdrawal {
                    error_type: kind.as_str().to_owned(),
                    scope: (index % 2).to_string(),
                    reporters: (random.below(2) == 0).then(|| vec![format!("{member}/check")]),
                };
                if database.ledger.withdraw(&[over], member, 0.0).await.unwrap() > 0 {
                    keys[index].acknowledged = false;
                }
            }
            8 => {
                let before = notified(&client).await;
                database.ledger.tell_owed().await.unwrap();
                let after = notified(&client).await;
                for (index, told) in keys.iter_mut().enumerate() {
                    let name = (kinds[index / 2].as_str().to_owned(), (index % 2).to_string());
                    if after.get(&name) > before.get(&name) {
                        assert!(told.may_be_over(now), "{name:?} owed at {now}");
                        told.decisions.push((now, Instant::now()));
                    }
                }
            }
            9 => {
                let open = database.ledger.errors(true, 100).await.unwrap();
                let this =
                    |row: &&ErrorRow| row.error_type == kind.as_str() && row.scope == (index % 2).to_string();
                if let Some(row) = open.iter().find(this) {
                    let of = Episode { id: row.id, open_since: row.open_since };
                    database.ledger.acknowledge_error(of, ASHA).await.unwrap();
                    keys[index].acknowledged = true;
                }
            }
            10 => {
                // One of them is gone, or comes back.
                silent_for(&database, member, if random.below(2) == 0 { 10 } else { 0 }).await;
                there_for(&database, "b4", 10).await;
                let lasting = [Kind::OperationalError, Kind::BrokerError].map(Kind::as_str);
                database.ledger.end_reports_of_the_gone(&lasting, member).await.unwrap();
                let open = database.ledger.errors(true, 100).await.unwrap();
                for (index, told) in keys.iter_mut().enumerate() {
                    let name = (kinds[index / 2].as_str(), (index % 2).to_string());
                    told.acknowledged &=
                        open.iter().any(|row| (row.error_type.as_str(), row.scope.clone()) == name);
                }
            }
            _ => {
                let seconds = 1 + random.below(300) as i64;
                pass(&client, seconds).await;
                now += seconds;
            }
        }
    }
    for row in database.ledger.errors(false, 100).await.unwrap() {
        let index = kinds.iter().position(|kind| kind.as_str() == row.error_type).unwrap() * 2
            + row.scope.parse::<usize>().unwrap();
        let told = &keys[index];
        assert_eq!(row.occurrence_count, told.occurrences, "{} {}", row.error_type, row.scope);
        assert_eq!(row.notification_count, told.decisions.len() as i64);
    }
    let queued: i64 = client
        .query_one("SELECT count(*) FROM notification_item WHERE NOT recovered", &[])
        .await
        .unwrap()
        .get(0);
    let decisions: usize = keys.iter().map(|told| told.decisions.len()).sum();
    assert_eq!(queued, decisions as i64, "each decision queued one notification");
    assert!(decisions > 20, "the test saw {decisions} decisions");
}

async fn notified(client: &Client) -> std::collections::BTreeMap<(String, String), i64> {
    let sql = "SELECT error_type, scope, notification_count FROM error_notifications_log";
    let rows = client.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| ((row.get(0), row.get(1)), row.get(2))).collect()
}
