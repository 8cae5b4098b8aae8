//! Several notifiers of one cluster in this process, on real stores, with a Bot API double.

use std::sync::Arc;
use std::time::{Duration, Instant};

use baton::config::{self, Inputs};
use baton::ledger::Ledger;
use baton::notify::{self, Census, Channel, Event, Key, Kind, Notifier, Settings};
use baton::telemetry::metrics::Metrics;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::double::{Script, Telegram};
use crate::support::database::{Database, connect};
use crate::support::wait;
use crate::throttle::silent_for;

const PATIENCE: Duration = Duration::from_secs(40);

/// One instance's notifications.
struct Instance {
    notifier: Notifier,
    metrics: Arc<Metrics>,
    stopped: CancellationToken,
    worker: JoinHandle<()>,
}

impl Instance {
    async fn start(database: &Database, telegram: &Telegram, member: &str, more: &[(&str, &str)]) -> Self {
        // Another test of this process may have installed it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut env = telegram.env();
        env.extend([
            ("BATON_CLUSTER__MEMBER", member.to_owned()),
            ("BATON_CLUSTER__NAME", "test".to_owned()),
            ("BATON_POSTGRES__URL", database.stores.database_url()),
            ("BATON_REDIS__URL", database.stores.redis_url()),
            ("BATON_BROKER__API_KEY", "k".to_owned()),
            ("BATON_TRADING__CAPITAL", "1".to_owned()),
            ("BATON_NOTIFY__NOTIFICATION_AGGREGATION_WINDOW", "1".to_owned()),
            ("BATON_NOTIFY__NOTIFICATION_TIMEOUT", "1".to_owned()),
        ]);
        let mut inputs = Inputs::default();
        inputs.env.extend(env.into_iter().map(|(key, value)| (key.to_owned(), value)));
        inputs.env.extend(more.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        let config = config::load(&inputs).unwrap();
        let ledger = Ledger::new(&database.stores.database_url(), 3, member).unwrap();
        let (notifier, metrics) = (Notifier::new(), Arc::new(Metrics::new()));
        let stopped = CancellationToken::new();
        let channels = Channel::configured(&config.notify).unwrap();
        let running = notify::run(
            notifier.clone(),
            Settings::of(&config),
            ledger,
            channels,
            Arc::clone(&metrics),
            stopped.clone(),
        );
        let worker = tokio::spawn(running);
        Self { notifier, metrics, stopped, worker }
    }

    async fn end(self) {
        self.stopped.cancel();
        self.worker.await.unwrap();
    }

    fn counted(&self, kind: &str, result: &str) -> u64 {
        self.metrics.notifications.with_label_values(&[kind, result]).get()
    }
}

async fn delivered(telegram: &Telegram, part: &str, count: usize) -> Vec<String> {
    wait::until(&format!("{count} messages with {part:?}"), PATIENCE, async || {
        let found = telegram.with(part);
        if found.len() >= count { Ok(found) } else { Err(telegram.delivered()) }
    })
    .await
}

/// Waits until nothing is under way, so that what did not come will not come.
async fn quiet(database: &Database) {
    wait::until("the outbox is empty", PATIENCE, async || {
        match database.ledger.outbox_depth().await.unwrap() {
            0 => Ok(()),
            depth => Err(depth),
        }
    })
    .await;
}

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

// R: N7: without the database three instances tell once, by Redis; with neither each tells once; all is merged
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_database_the_operator_is_told_once_and_with_it_not_again() {
    let (database, telegram) = (Database::start().await, Telegram::start().await);
    let mut instances = Vec::new();
    for member in ["b1", "b2", "b3"] {
        instances.push(Instance::start(&database, &telegram, member, &[]).await);
    }
    database.stores.postgres().kill().await.unwrap();
    for instance in &instances {
        instance.notifier.from("postgres").raise(Event::new(Kind::DatabaseError, "PostgreSQL is away"));
    }
    delivered(&telegram, "DATABASE_ERROR", 1).await;
    database.stores.postgres().start().await.unwrap();
    wait::until("all three have merged", PATIENCE, async || {
        let rows = database.ledger.errors(true, 10).await;
        match rows
            .ok()
            .and_then(|rows| rows.first().map(|row| (row.occurrence_count, row.notification_count)))
        {
            Some((3, 1)) => Ok(()),
            other => Err(other),
        }
    })
    .await;
    for instance in &instances {
        instance.notifier.from("postgres").resolve(Key::new(Kind::DatabaseError, ""));
    }
    delivered(&telegram, "RECOVERED DATABASE_ERROR", 1).await;
    quiet(&database).await;
    assert_eq!(telegram.delivered().len(), 2, "{:#?}", telegram.delivered());

    database.stores.postgres().kill().await.unwrap();
    database.stores.redis().kill().await.unwrap();
    for instance in &instances {
        instance.notifier.from("state").raise(Event::about(Kind::OperationalError, "DB_AUTH", "refused"));
    }
    delivered(&telegram, "OPERATIONAL_ERROR DB_AUTH", 3).await;
    database.stores.redis().start().await.unwrap();
    database.stores.postgres().start().await.unwrap();
    wait::until("all three have merged", PATIENCE, async || {
        let rows = database.ledger.errors(true, 10).await;
        match rows
            .ok()
            .and_then(|rows| rows.first().map(|row| (row.occurrence_count, row.notification_count)))
        {
            Some((3, 3)) => Ok(()),
            other => Err(other),
        }
    })
    .await;
    quiet(&database).await;
    assert_eq!(telegram.with("DB_AUTH").len(), 3);
    for instance in instances {
        instance.end().await;
    }
}

/// The unresolved errors' kinds and scopes, once they are these.
async fn open(database: &Database, wanted: &[(&str, &str)]) {
    wait::until("the log is as wanted", PATIENCE, async || {
        let rows = database.ledger.errors(true, 10).await.map_err(|error| error.to_string())?;
        let mut open: Vec<_> = rows.iter().map(|row| (row.error_type.as_str(), row.scope.as_str())).collect();
        open.sort_unstable();
        if open == wanted { Ok(()) } else { Err(format!("{open:?}")) }
    })
    .await;
}

// A message is told when it is delivered, not when it was tried: what the database's return finds on its way is in the outbox
// from then on, whatever becomes of the instance that had it in hand.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_not_delivered_without_the_database_is_in_the_outbox_when_it_is_back() {
    let (database, telegram) = (Database::start().await, Telegram::start().await);
    let first = Instance::start(&database, &telegram, "b1", &[]).await;
    open(&database, &[]).await;
    telegram.hang(true);
    database.stores.postgres().kill().await.unwrap();
    first.notifier.from("state").raise(Event::about(Kind::OperationalError, "DB_AUTH", "refused"));
    wait::until("it is being tried", PATIENCE, async || {
        if telegram.tried() > 0 { Ok(()) } else { Err(telegram.tried()) }
    })
    .await;
    database.stores.postgres().start().await.unwrap();
    wait::until("the message is in the outbox", PATIENCE, async || {
        let (client, connection) =
            tokio_postgres::connect(&database.stores.database_url(), tokio_postgres::NoTls)
                .await
                .map_err(|error| error.to_string())?;
        tokio::spawn(connection);
        let sql = "SELECT uncertain FROM notification_outbox WHERE channel = 'telegram' AND state = 'queued'";
        match client.query(sql, &[]).await.map_err(|error| error.to_string())?.as_slice() {
            [row] if row.get(0) => Ok(()),
            rows => Err(format!("{} rows", rows.len())),
        }
    })
    .await;
    // The one that had it in hand is gone before it arrives.
    first.end().await;
    assert!(telegram.delivered().is_empty(), "{:#?}", telegram.delivered());
    telegram.hang(false);
    let second = Instance::start(&database, &telegram, "b2", &[]).await;
    let told = delivered(&telegram, "DB_AUTH", 1).await;
    assert!(told[0].starts_with("(possible repeat) "), "{told:?}");
    quiet(&database).await;
    let row = &database.ledger.errors(true, 10).await.unwrap()[0];
    assert_eq!((row.occurrence_count, row.notification_count), (1, 1));
    assert_eq!(telegram.with("DB_AUTH").len(), 1, "{:#?}", telegram.delivered());
    second.end().await;
}

// Another instance was first, and died before it delivered: its word lapses, and whoever waits for it tells.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_word_in_redis_of_one_that_died_lapses_and_the_next_tells() {
    let (database, telegram) = (Database::start().await, Telegram::start().await);
    let instance = Instance::start(&database, &telegram, "b1", &[]).await;
    open(&database, &[]).await;
    let redis = redis::Client::open(database.stores.redis_url()).unwrap();
    let mut redis = redis.get_multiplexed_async_connection().await.unwrap();
    let mut claim = redis::cmd("SET");
    claim.arg("baton:test:notified:OPERATIONAL_ERROR:DB_AUTH").arg("one that died").arg("PX").arg(6000);
    let _: () = claim.query_async(&mut redis).await.unwrap();
    database.stores.postgres().kill().await.unwrap();
    instance.notifier.from("state").raise(Event::about(Kind::OperationalError, "DB_AUTH", "refused"));
    delivered(&telegram, "DB_AUTH", 1).await;
    let ttl: i64 = redis::cmd("PTTL")
        .arg("baton:test:notified:OPERATIONAL_ERROR:DB_AUTH")
        .query_async(&mut redis)
        .await
        .unwrap();
    assert!(ttl > 0, "its own word, or that the operator was told");
    database.stores.postgres().start().await.unwrap();
    wait::until("it is merged", PATIENCE, async || match database.ledger.errors(true, 10).await {
        Ok(rows) if rows.first().is_some_and(|row| row.notification_count == 1) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    quiet(&database).await;
    assert_eq!(telegram.with("DB_AUTH").len(), 1, "{:#?}", telegram.delivered());
    instance.end().await;
}

// Whoever leads knows from the ledger what holds: what a leader that died left open is over, what it did not live to tell is
// told, and what was seen once is left alone. One that leads no more says nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_holds_in_the_ledger_ends_what_was_left_open_and_tells_what_was_not_told() {
    let (database, telegram) = (Database::start().await, Telegram::start().await);
    let more = [("BATON_NOTIFY__NOTIFICATION_AGGREGATION_WINDOW", "0")];
    let dead = Instance::start(&database, &telegram, "b1", &more).await;
    for scope in ["over", "holds", "unsure"] {
        dead.notifier.from("engine").raise(Event::about(Kind::OrderInDoubt, scope, "in doubt"));
    }
    let kind = "ORDER_IN_DOUBT";
    open(&database, &[(kind, "holds"), (kind, "over"), (kind, "unsure")]).await;
    dead.end().await;

    let leader = Instance::start(&database, &telegram, "b2", &more).await;
    let census = |epoch: i64| Census {
        epoch,
        holds: ["holds", "untold"].map(|scope| (scope.to_owned(), "in doubt".to_owned())).into(),
        unsure: ["unsure".to_owned()].into(),
    };
    let engine = leader.notifier.from("engine");
    let client = database.connect().await;
    let epoch: i64 = client.query_one("SELECT epoch FROM leadership", &[]).await.unwrap().get(0);
    engine.census(Kind::OrderInDoubt, census(epoch));
    open(&database, &[(kind, "holds"), (kind, "unsure"), (kind, "untold")]).await;
    delivered(&telegram, "RECOVERED ORDER_IN_DOUBT over", 1).await;
    delivered(&telegram, "ORDER_IN_DOUBT untold", 1).await;
    assert_eq!(telegram.with("ORDER_IN_DOUBT holds").len(), 1, "{:#?}", telegram.delivered());

    // A successor leads: what this one last knew counts for nothing.
    client.execute("UPDATE leadership SET epoch = epoch + 1", &[]).await.unwrap();
    engine.census(Kind::OrderInDoubt, Census { epoch, ..Census::default() });
    engine.raise(Event::about(Kind::ForeignOrder, "1", "recorded before what holds"));
    delivered(&telegram, "FOREIGN_ORDER 1", 1).await;
    open(&database, &[(kind, "holds"), (kind, "unsure"), (kind, "untold")]).await;
    engine.census(Kind::OrderInDoubt, Census { epoch: epoch + 1, ..Census::default() });
    open(&database, &[]).await;
    leader.end().await;
}

// One that was paused for so long that the others ended its reports says them again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_was_gone_and_comes_back_reports_again_what_it_has_not_taken_back() {
    let (database, telegram) = (Database::start().await, Telegram::start().await);
    let instance = Instance::start(&database, &telegram, "b1", &[]).await;
    instance.notifier.from("disk").raise(Event::about(Kind::HostError, "disk", "12 MB are free"));
    open(&database, &[("HOST_ERROR", "disk")]).await;
    silent_for(&database, "b1", 10).await;
    database.ledger.end_reports_of_the_gone(&["HOST_ERROR"], "b2").await.unwrap();
    open(&database, &[("HOST_ERROR", "disk")]).await;
    let row = &database.ledger.errors(true, 1).await.unwrap()[0];
    assert_eq!((row.occurrence_count, row.open_count), (2, 1));
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
