//! How often a recovery tries, and how long it waits in between.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use baton::domain::instrument::Catalog;
use baton::domain::money::Rupees;
use baton::ledger::Ledger;
use baton::recovery::{CrashRecoveryManager, RecoveryError};
use baton::telemetry::metrics::Metrics;
use rust_decimal::dec;
use tokio::net::TcpListener;

use crate::support::cluster::{Cluster, Options, PATIENCE};
use crate::support::database::Database;
use crate::support::proxy::{Link, Proxy, Way};
use crate::support::wait;

fn manager(ledger: Ledger, attempts: u32, backoff: Duration) -> CrashRecoveryManager {
    let (catalog, capital) = (Arc::new(Catalog::default()), Rupees(dec!(5000000)));
    CrashRecoveryManager::new(ledger, catalog, capital, attempts, backoff, Arc::new(Metrics::new()))
}

// R: C2: as 1, 2, 4 s, and shorter
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_away_is_tried_again_after_waits_that_double() {
    const BACKOFF: Duration = Duration::from_millis(60);
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("postgres://baton@{}/baton", server.local_addr().unwrap());
    let tried: Arc<Mutex<Vec<Instant>>> = Arc::default();
    let seen = Arc::clone(&tried);
    tokio::spawn(async move {
        while let Ok((connection, _)) = server.accept().await {
            seen.lock().unwrap().push(Instant::now());
            drop(connection);
        }
    });
    let ledger = Ledger::new(&url, 2, "baton-test").unwrap();
    let error = manager(ledger, 4, BACKOFF).recover().await.unwrap_err();
    assert!(matches!(error, RecoveryError::DbUnavailable { attempts: 4, .. }), "{error}");
    let tried = tried.lock().unwrap().clone();
    assert_eq!(tried.len(), 4, "{tried:?}");
    let waits: Vec<Duration> = tried.windows(2).map(|pair| pair[1] - pair[0]).collect();
    println!("{waits:?}");
    assert!(waits[0] >= BACKOFF && waits[1] >= BACKOFF * 2 && waits[2] >= BACKOFF * 4, "{waits:?}");
}

// R: C2: what the database says, however often asked, is not asked again: this would wait for an hour.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_of_the_data_is_never_tried_again() {
    const HOUR: Duration = Duration::from_secs(3600);
    let database = Database::start().await;
    let sql = database.connect().await;
    crate::bench::seed(&sql, 1).await;
    for (damage, code) in [
        ("UPDATE portfolio_state SET risk_amount = risk_amount + 1", "VALIDATION_FAILED"),
        ("UPDATE portfolio_state SET risk_amount = 'NaN'", "DATA_CORRUPT"),
        ("ALTER TABLE pyramiding_state RENAME TO moved_away", "DATA_CORRUPT"),
    ] {
        sql.batch_execute(damage).await.unwrap();
        // On a busy machine a session may come too late, which is no fault of the data, and waits.
        let told = wait::until("it waits for nothing", PATIENCE, async || {
            let manager = manager(database.ledger.clone(), 5, HOUR);
            tokio::time::timeout(PATIENCE / 4, manager.recover()).await
        })
        .await;
        assert_eq!(told.unwrap_err().code(), code, "{damage}");
    }
    database.stores.stop().await.unwrap();
}

// R: C2, C5: a server that takes what is asked and never answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_swallows_what_it_is_asked_is_away_after_a_while() {
    let database = Database::start().await;
    let direct = reqwest::Url::parse(&database.stores.database_url()).unwrap();
    let server = format!("127.0.0.1:{}", direct.port().unwrap());
    let proxy = Proxy::start(server.parse().unwrap()).await;
    let url = database.stores.database_url().replace(&server, &proxy.address.to_string());
    let ledger = Ledger::new(&url, 2, "baton-test").unwrap();
    // Connected already: what is new is refused or waited for by the pool.
    ledger.clock().await.unwrap();
    proxy.set(Link::Discard(Way::ToClient));
    let recovery = tokio::spawn(async move { manager(ledger, 1, Duration::from_millis(1)).recover().await });
    let told = tokio::time::timeout(PATIENCE, recovery).await.expect("it ends by itself").unwrap();
    let error = told.unwrap_err();
    assert_eq!(error.code(), "DB_UNAVAILABLE", "{error}");
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(source, "PostgreSQL did not answer within 15000 ms");
    database.stores.stop().await.unwrap();
}

/// Reading the fills ends the session that reads them, as a server does that is told to stop.
const CUT: &str = "ALTER TABLE fill RENAME TO fill_rows;
    CREATE VIEW fill AS SELECT * FROM fill_rows WHERE (SELECT pg_terminate_backend(pg_backend_pid()))";
const MENDED: &str = "DROP VIEW fill; ALTER TABLE fill_rows RENAME TO fill";

// R: C2: what an operator reads of it, and that it ends by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_attempts_are_told_one_by_one_and_then_that_it_waits_for_the_database() {
    let mut cluster = Cluster::with(Options { members: 1, ..Options::default() }).await;
    cluster.members[0].process.kill().await;
    cluster.sql.batch_execute(CUT).await.unwrap();
    cluster.members[0].restart().await;
    let member = &cluster.members[0];
    for words in [
        "[RECOVERY] attempt 1 of 3 failed; the next in 50 ms",
        "[RECOVERY] attempt 2 of 3 failed; the next in 100 ms",
        "[RECOVERY] Failed to fetch state data after 3 attempts",
    ] {
        member.says(words).await;
    }
    assert!(!member.log().contains("attempt 3 of 3 failed"), "the third is the last");
    wait::until("it says what it waits for and what to do", PATIENCE, async || {
        let health = member.json("/healthz").await.unwrap_or_default();
        let operational = &health["operational"];
        let reason = operational["reason"].as_str().unwrap_or_default();
        let words = ["DB_UNAVAILABLE", "in 3 attempts", "check that PostgreSQL runs", "postgres.url"];
        let waits = operational["state"] == "WAITING" && words.iter().all(|word| reason.contains(word));
        if waits { Ok(()) } else { Err((health, member.process.tail())) }
    })
    .await;
    cluster.sql.batch_execute(MENDED).await.unwrap();
    cluster.leader().await;
    cluster.finish().await;
}

// R: C2, C5, K1: a start whose database is away makes its attempts, waits with a warning, looks on, and goes on by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_without_its_database_makes_its_attempts_then_waits_and_goes_on_when_it_comes() {
    let mut cluster = Cluster::with(Options { members: 1, ..Options::default() }).await;
    cluster.members[0].process.kill().await;
    cluster.stores.postgres().stop().await.unwrap();
    cluster.members[0].restart().await;
    let member = &cluster.members[0];
    for words in [
        "[RECOVERY] attempt 1 of 3 to reach the database failed; the next in 50 ms",
        "[RECOVERY] attempt 2 of 3 to reach the database failed; the next in 100 ms",
        "[RECOVERY] Failed to reach the database in 3 attempts",
    ] {
        member.says(words).await;
    }
    let reason = async || {
        let health = member.json("/healthz").await.unwrap_or_default();
        (health["operational"]["state"].clone(), health["operational"]["reason"].to_string())
    };
    wait::until("it says what it waits for, what to do, and that it looks on", PATIENCE, async || {
        let (state, reason) = reason().await;
        let words =
            ["DB_UNAVAILABLE", "in 3 attempts", "check that PostgreSQL runs", "looking again every 200 ms"];
        if state == "WAITING" && words.iter().all(|word| reason.contains(word)) {
            Ok(())
        } else {
            Err((state, reason, member.process.tail()))
        }
    })
    .await;
    let log = member.log();
    assert!(!log.contains("attempt 3 of 3 to reach"), "the third is the last: {log}");
    assert_eq!(log.matches("Failed to reach the database").count(), 1, "it is told once: {log}");
    let failures = "baton_recovery_failures_total{code=\"DB_UNAVAILABLE\"}";
    wait::until("it has looked again", PATIENCE, async || match member.metric(failures).await {
        Some(count) if count >= 3.0 => Ok(()),
        other => Err(other),
    })
    .await;

    cluster.stores.postgres().start().await.unwrap();
    let cluster = cluster.reconnected().await;
    cluster.leader().await;
    cluster.finish().await;
}
