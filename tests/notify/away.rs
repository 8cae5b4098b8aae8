//! Telling while the database is away, and what becomes of it when it is back.

use baton::notify::{Event, Key, Kind};

use crate::double::Telegram;
use crate::instance::{Instance, PATIENCE, delivered, open, quiet};
use crate::support::database::Database;
use crate::support::wait;

/// Waits until the newest error is one of so many occurrences and messages.
async fn merged(database: &Database, counts: (i64, i64)) {
    wait::until("all three have merged", PATIENCE, async || {
        let rows = database.ledger.errors(true, 10).await.map_err(|error| error.to_string())?;
        match rows.first().map(|row| (row.occurrence_count, row.notification_count)) {
            Some(found) if found == counts => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
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
    merged(&database, (3, 1)).await;
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
    merged(&database, (3, 3)).await;
    quiet(&database).await;
    assert_eq!(telegram.with("DB_AUTH").len(), 3);
    for instance in instances {
        instance.end().await;
    }
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
