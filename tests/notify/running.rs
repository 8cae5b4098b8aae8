//! Several notifiers of one cluster in this process, on real stores, with a Bot API double.

use std::time::{Duration, Instant};

use baton::notify::{Event, Key, Kind};

use crate::double::{Script, Telegram};
use crate::instance::{Instance, PATIENCE, delivered, quiet};
use crate::support::database::{Database, connect};
use crate::support::wait;

// R: N7, N8: issue 7's "same error 100 times on three instances → 1 message, 100 occurrences", with varying text
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_error_a_hundred_times_on_three_instances_is_one_message() {
    let (database, telegram) = (Database::start().await, Telegram::start().await);
    let mut instances = Vec::new();
    for member in ["b1", "b2", "b3"] {
        instances.push(Instance::start(&database, &telegram, member, &[]).await);
    }
    for number in 0..100 {
        let text = format!("attempt {number} at 10.0.0.{number} failed");
        instances[number % 3].notifier.from("check").raise(Event::new(Kind::BrokerError, text));
    }
    wait::until("all are counted", PATIENCE, async || {
        match database.ledger.errors(true, 10).await.unwrap().first().map(|row| row.occurrence_count) {
            Some(100) => Ok(()),
            other => Err(other),
        }
    })
    .await;
    delivered(&telegram, "BROKER_ERROR", 1).await;
    // Its end, seen by all three.
    for instance in &instances {
        instance.notifier.from("check").resolve(Key::new(Kind::BrokerError, ""));
    }
    let over = delivered(&telegram, "RECOVERED", 1).await;
    assert!(over[0].contains("RECOVERED BROKER_ERROR") && over[0].contains("100 occurrences"), "{over:?}");
    quiet(&database).await;
    let all = telegram.delivered();
    assert_eq!(all.len(), 2, "{all:#?}");
    let row = &database.ledger.errors(false, 10).await.unwrap()[0];
    assert!(row.resolved && row.notification_count == 1);
    let throttled: u64 = instances.iter().map(|one| one.counted("BROKER_ERROR", "throttled")).sum();
    assert_eq!(throttled, 99);
    // A restart forgets nothing: still within the window.
    for instance in instances {
        instance.end().await;
    }
    let again = Instance::start(&database, &telegram, "b1", &[]).await;
    again.notifier.from("check").raise(Event::new(Kind::BrokerError, "again"));
    wait::until("it is counted", PATIENCE, async || {
        match database.ledger.errors(true, 10).await.unwrap().first().map(|row| row.occurrence_count) {
            Some(101) => Ok(()),
            other => Err(other),
        }
    })
    .await;
    quiet(&database).await;
    assert_eq!(telegram.delivered().len(), 2);
    again.end().await;
}

// R: N9: different errors within the window, on different instances, are one message with type and count
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn different_errors_within_the_window_are_one_message() {
    let (database, telegram) = (Database::start().await, Telegram::start().await);
    let more = [("BATON_NOTIFY__NOTIFICATION_AGGREGATION_WINDOW", "3")];
    let one = Instance::start(&database, &telegram, "b1", &more).await;
    let other = Instance::start(&database, &telegram, "b2", &more).await;
    one.notifier.raise(Event::new(Kind::BrokerError, "the bridge is away"));
    one.notifier.raise(Event::new(Kind::RedisDegraded, "Redis is away"));
    other.notifier.raise(Event::new(Kind::WebsocketError, "no ticks"));
    let texts = delivered(&telegram, "3 notices", 1).await;
    for kind in ["BROKER_ERROR", "REDIS_DEGRADED", "WEBSOCKET_ERROR", "IST"] {
        assert!(texts[0].contains(kind), "{}", texts[0]);
    }
    quiet(&database).await;
    assert_eq!(telegram.delivered().len(), 1);
    wait::until("it is counted as aggregated", PATIENCE, async || {
        let counted = one.counted("BROKER_ERROR", "aggregated") + other.counted("BROKER_ERROR", "aggregated");
        if counted == 1 { Ok(()) } else { Err(counted) }
    })
    .await;
    one.end().await;
    other.end().await;
}

// R: N7: critical events wait for nobody
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_critical_event_goes_out_at_once_and_once() {
    let (database, telegram) = (Database::start().await, Telegram::start().await);
    let more = [("BATON_NOTIFY__NOTIFICATION_AGGREGATION_WINDOW", "3600")];
    let instance = Instance::start(&database, &telegram, "b1", &more).await;
    let event = |n: usize| Event::about(Kind::OperationalError, "DATA_CORRUPT", format!("{n} rows"));
    for n in 0..5 {
        instance.notifier.raise(event(n));
    }
    delivered(&telegram, "CRITICAL OPERATIONAL_ERROR DATA_CORRUPT", 1).await;
    instance.notifier.raise(Event::about(
        Kind::OperationalError,
        "WRONG_MODE",
        "another code is another key",
    ));
    delivered(&telegram, "WRONG_MODE", 1).await;
    quiet(&database).await;
    assert_eq!(telegram.delivered().len(), 2, "{:#?}", telegram.delivered());
    instance.end().await;
}

// R: N11: fails, 429, loses an answer, refuses
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_of_telegram_ends_in_a_delivery_or_in_a_dead_letter_that_is_told() {
    let (database, telegram) = (Database::start().await, Telegram::start().await);
    let more = [("BATON_NOTIFY__NOTIFICATION_AGGREGATION_WINDOW", "0")];
    let instance = Instance::start(&database, &telegram, "b1", &more).await;

    telegram.script(&[Script::TooMany(2)]);
    let begun = Instant::now();
    instance.notifier.raise(Event::new(Kind::BrokerError, "first"));
    let texts = delivered(&telegram, "BROKER_ERROR", 1).await;
    assert!(begun.elapsed() >= Duration::from_secs(2), "retry_after is honoured");
    assert!(!texts[0].contains("possible repeat"), "a 429 was not delivered");

    telegram.script(&[Script::Fail]);
    instance.notifier.raise(Event::new(Kind::DatabaseError, "second"));
    // A front's 502 proves nothing, so the next attempt says so.
    assert!(delivered(&telegram, "DATABASE_ERROR", 1).await[0].starts_with("(possible repeat) "));

    telegram.script(&[Script::LoseAnswer]);
    instance.notifier.raise(Event::new(Kind::RedisDegraded, "third"));
    let twice = delivered(&telegram, "REDIS_DEGRADED", 2).await;
    assert!(twice[1].starts_with("(possible repeat) ") && !twice[0].contains("possible repeat"), "{twice:?}");
    let mark = |text: &str| text.lines().last().unwrap().to_owned();
    assert_eq!(mark(&twice[0]), mark(&twice[1]), "one id tells the repeat");

    telegram.script(&[Script::Kicked]);
    instance.notifier.raise(Event::new(Kind::WebsocketError, "fourth"));
    let told = delivered(&telegram, "NOTIFICATION_FAILED telegram", 1).await;
    assert!(told[0].contains("kicked") && told[0].contains("telegram_chat_id"), "{told:?}");
    quiet(&database).await;
    assert!(telegram.with("WEBSOCKET_ERROR").is_empty());
    assert_eq!(instance.counted("WEBSOCKET_ERROR", "failed"), 1);
    assert_eq!(instance.counted("BROKER_ERROR", "sent"), 1);
    instance.end().await;
}

// A channel that hangs holds up nothing: others send on, and raising costs the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_errors_costs_whoever_raises_them_next_to_nothing() {
    let (database, telegram) = (Database::start().await, Telegram::start().await);
    telegram.hang(true);
    let instance = Instance::start(&database, &telegram, "b1", &[]).await;
    let begun = Instant::now();
    let mut slowest = Duration::ZERO;
    for number in 0..100_000 {
        let one = Instant::now();
        instance.notifier.raise(Event::new(Kind::BrokerError, format!("failure {number}")));
        slowest = slowest.max(one.elapsed());
    }
    let took = begun.elapsed();
    println!("100 000 errors raised in {took:?}, the slowest in {slowest:?}");
    assert!(took < Duration::from_secs(10), "{took:?}");
    wait::until("all are counted", PATIENCE, async || {
        match database.ledger.errors(true, 10).await.unwrap().first().map(|row| row.occurrence_count) {
            Some(100_000) => Ok(()),
            other => Err(other),
        }
    })
    .await;
    telegram.hang(false);
    delivered(&telegram, "BROKER_ERROR", 1).await;
    quiet(&database).await;
    assert_eq!(telegram.delivered().len(), 1, "{:#?}", telegram.delivered());
    instance.end().await;
}

// R: N12: what a stop raises last comes while something else is being recorded, as it often does: it is told all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_raised_last_is_told_though_a_recording_is_under_way() {
    let (database, telegram) = (Database::start().await, Telegram::start().await);
    let instance = Instance::start(&database, &telegram, "b1", &[]).await;
    instance.notifier.raise(Event::new(Kind::Handover, "something"));
    wait::until("the log is written", PATIENCE, async || {
        match database.ledger.errors(false, 10).await.unwrap().len() {
            1 => Ok(()),
            rows => Err(rows),
        }
    })
    .await;
    let mut holder = connect(&database.stores.database_url()).await;
    let watcher = connect(&database.stores.database_url()).await;
    let lock = holder.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE error_notifications_log IN ACCESS EXCLUSIVE MODE").await.unwrap();
    instance.notifier.raise(Event::new(Kind::Handover, "something else"));
    wait::until("a recording waits for the log", PATIENCE, async || {
        let sql = "SELECT count(*) FROM pg_locks
            WHERE NOT granted AND relation = 'error_notifications_log'::regclass AND mode = 'RowExclusiveLock'";
        let waiting: i64 = watcher.query_one(sql, &[]).await.unwrap().get(0);
        if waiting > 0 { Ok(()) } else { Err(waiting) }
    })
    .await;
    instance.notifier.raise(Event::about(Kind::PositionsUnwatched, "b1", "still held: all of it"));
    instance.stopped.cancel();
    lock.commit().await.unwrap();
    instance.end().await;
    assert_eq!(telegram.with("still held: all of it").len(), 1, "{:#?}", telegram.delivered());
}
