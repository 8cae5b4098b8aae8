//! What happened, merged by time: every history is in it, pages lose and repeat nothing, secrets stay out.

use baton::ledger::events::{After, Event, Since};
use baton::ledger::release::Seen;
use baton::ledger::switching::{Switch, SwitchChange};
use chrono::{DateTime, TimeDelta, Utc};
use tokio_postgres::Client;

use crate::support::database::Database;

async fn all(database: &Database) -> Vec<Event> {
    database.ledger.events(&Since::Time(DateTime::UNIX_EPOCH), 1000).await.unwrap()
}

/// One event of each kind and end, a second apart, and answers to an operator that hold a code.
async fn life(client: &Client) {
    client
        .batch_execute(
            "INSERT INTO leadership_history (epoch, member, incarnation, reason, gap_ms, started_at, ended_at, end_reason)
                VALUES (7, 'b1', gen_random_uuid(), 'crash', 87, '2026-08-10 03:45:00Z', '2026-08-10 03:45:04Z', 'fenced'),
                       (8, NULL, NULL, 'fenced', NULL, '2026-08-10 03:45:04Z', NULL, NULL);
             INSERT INTO operational_state_history (incarnation, member, old_state, new_state, code, reason, at)
                VALUES (gen_random_uuid(), 'b1', NULL, 'STARTING', NULL, 'the process started', '2026-08-10 03:45:01Z'),
                       (gen_random_uuid(), 'b1', 'WAITING', 'ERROR', 'AUTH', 'the key is refused', '2026-08-10 03:45:02Z');
             INSERT INTO leadership_command (verb, member, epoch, who, why, outcome, at, finished_at)
                VALUES ('fence', 'b1', 7, 'asha', 'its disk fails', 'epoch 8 ended it', '2026-08-10 03:45:03Z', '2026-08-10 03:45:05Z'),
                       ('handover', NULL, 8, 'asha', 'new kernel', NULL, '2026-08-10 03:45:06Z', NULL);
             INSERT INTO switch_history (switch, value, who, why, until, at)
                VALUES ('halted', true, 'asha', 'news', '2026-08-10 05:00:00Z', '2026-08-10 03:45:07Z');
             INSERT INTO instrument_switch_history (instrument, switch, value, who, why, at)
                VALUES ('GOLD_MINI', 'reduce_only', true, 'asha', 'thin', '2026-08-10 03:45:07.2Z');
             INSERT INTO strategy_history (strategy, enabled, who, why, at)
                VALUES ('vwap', false, 'asha', 'odd', '2026-08-10 03:45:07.5Z');
             INSERT INTO cash_movement (id, kind, amount, who, why, at)
                VALUES (gen_random_uuid(), 'opening', 5000, 'baton', 'x', '2026-08-10 03:45:07.6Z'),
                       (gen_random_uuid(), 'withdrawal', -1250.5, 'asha', 'tax', '2026-08-10 03:45:07.7Z');
             INSERT INTO notification_outbox (id, channel, severity, types, subject, body, state, created_at, expires_at, last_error, finished_at)
                VALUES ('00000000-0000-0000-0000-000000000001', 'telegram', 'error', '{BROKER_ERROR}', '[t] ERROR BROKER_ERROR', 'x',
                        'dead', '2026-08-10 03:45:08Z', '2026-08-11Z', '403: kicked', '2026-08-10 03:45:09Z');
             INSERT INTO notification_outbox (id, channel, severity, types, subject, body, recipient, created_at, expires_at)
                VALUES (gen_random_uuid(), 'telegram', 'info', '{}', '/confirm 4711', 'confirm with 4711', '42', '2026-08-10 03:45:08Z', '2026-08-11Z');",
        )
        .await
        .unwrap();
}

#[tokio::test]
async fn every_history_is_one_line_of_time_and_no_code_is_in_it() {
    let database = Database::start().await;
    life(&database.connect().await).await;
    let events = all(&database).await;
    let told: Vec<(&str, &str)> =
        events.iter().map(|event| (event.kind.as_str(), event.sentence.as_str())).collect();
    assert_eq!(
        told,
        [
            ("leadership", "b1 leads under epoch 7: crash, 87 ms without a leader"),
            ("state", "b1 is STARTING: the process started"),
            ("state", "b1 is ERROR AUTH: the key is refused"),
            ("command", "fence of b1 was asked for by asha: its disk fails"),
            ("leadership", "epoch 7 of b1 ended: fenced"),
            ("leadership", "epoch 8 belongs to nobody: fenced"),
            ("command", "fence of b1 by asha: epoch 8 ended it"),
            ("command", "handover was asked for by asha: new kernel"),
            ("switch", "halted is on, by asha: news (until 2026-08-10T05:00:00Z)"),
            ("switch", "reduce_only of GOLD_MINI is on, by asha: thin"),
            ("strategy", "vwap is disabled, by asha: odd"),
            ("cash", "withdrawal of ₹1250.5, by asha: tax"),
            ("notification", "for telegram: [t] ERROR BROKER_ERROR"),
            ("notification", "dead by telegram: [t] ERROR BROKER_ERROR (403: kicked)"),
        ]
    );
    assert_eq!(events[0].member.as_deref(), Some("b1"));
    assert_eq!(events[0].detail["gap_ms"], 87);
    assert!(!format!("{events:?}").contains("4711"), "an answer to a command is no event");
    let newest = database.ledger.events(&Since::Latest, 3).await.unwrap();
    assert_eq!(newest, events[events.len() - 3..], "the newest, and still the oldest first");
}

// Pages of every size walk over many events of one moment, while others are added in front, without loss or repetition.
#[tokio::test]
async fn pages_lose_and_repeat_nothing_though_many_are_of_one_moment() {
    let database = Database::start().await;
    let client = database.connect().await;
    life(&client).await;
    client
        .execute(
            "INSERT INTO operational_state_history (incarnation, member, new_state, reason, at)
             SELECT gen_random_uuid(), 'b' || n, 'ACTIVE', 'at once', '2026-08-10 03:45:04Z' FROM generate_series(1, 40) n",
            &[],
        )
        .await
        .unwrap();
    let whole = all(&database).await;
    assert_eq!(whole.len(), 54);
    for limit in [1, 2, 7, 50] {
        let mut walked = Vec::new();
        let mut since = Since::Time(DateTime::UNIX_EPOCH);
        loop {
            let page = database.ledger.events(&since, limit).await.unwrap();
            let Some(last) = page.last() else { break };
            // As a client hands it back.
            let place = After::from(last).to_string();
            since = Since::Event(place.parse().unwrap());
            walked.extend(page);
        }
        assert_eq!(walked, whole, "pages of {limit}");
    }
    assert!("".parse::<After>().is_err() && "x-y".parse::<After>().is_err());
}

// A transaction that began earlier may be committed later: who reads the last seconds again finds it, by an id of its own.
#[tokio::test]
async fn a_row_that_is_committed_late_is_found_by_reading_the_last_seconds_again() {
    let database = Database::start().await;
    let mut slow = database.connect().await;
    let late = slow.transaction().await.unwrap();
    let begun = "INSERT INTO operational_state_history (incarnation, member, new_state, reason)
        VALUES (gen_random_uuid(), 'b1', 'STARTING', 'late')";
    late.execute(begun, &[]).await.unwrap();
    let (who, why) = ("asha".to_owned(), "quick".to_owned());
    let quick =
        SwitchChange { switch: Switch::Halted, on: true, who, why, until: None, seen: Seen::default() };
    database.ledger.set_switch(&quick).await.unwrap();
    let before = all(&database).await;
    assert_eq!(before.len(), 1, "{before:?}");
    late.commit().await.unwrap();

    let behind = Since::Event(After::from(&before[0]));
    assert_eq!(database.ledger.events(&behind, 10).await.unwrap(), [], "its time is that of its beginning");
    let again = Since::Time(before[0].at - TimeDelta::from_std(baton::ledger::events::SETTLED).unwrap());
    let seen = database.ledger.events(&again, 10).await.unwrap();
    assert_eq!(seen.len(), 2);
    assert!(
        seen[0].at < Utc::now() && seen[0].sentence.ends_with("late") && seen[1] == before[0],
        "{seen:?}"
    );
}
