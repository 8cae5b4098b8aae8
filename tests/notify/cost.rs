//! What telling costs: commits per error, the price of a state query, and an order's time beside a storm of errors.
//!
//! The benches are `make bench-state`; they assert ten times their target, and print what they measure.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use chrono::{SecondsFormat, Utc};
use serde_json::json;

use crate::double::Telegram;
use crate::support::cluster::{Cluster, Options, PATIENCE, independent};
use crate::support::database::Database;
use crate::support::wait;
use crate::throttle::occurrence;

/// Transactions that have written so far; reading counts nothing.
async fn written(sql: &tokio_postgres::Client) -> i64 {
    let next = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint";
    sql.query_one(next, &[]).await.unwrap().get(0)
}

// R: issue 7, measured: an error is recorded, and decided on, in one commit
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_costs_at_most_one_commit() {
    const ERRORS: i64 = 300;
    let database = Database::start().await;
    let sql = database.connect().await;
    // Autovacuum writes, too.
    sql.batch_execute("ALTER SYSTEM SET autovacuum = off").await.unwrap();
    sql.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    wait::until("autovacuum is off and its last run over", PATIENCE, async || {
        let busy = "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'autovacuum%'";
        match sql.query_one(busy, &[]).await.unwrap().get::<_, i64>(0) {
            0 => Ok(()),
            other => Err(other),
        }
    })
    .await;
    let before = written(&sql).await;
    for number in 0..ERRORS {
        let kind = ["BROKER_ERROR", "DATABASE_ERROR", "REDIS_DEGRADED"][number as usize % 3];
        database
            .ledger
            .record_occurrences(&[occurrence(kind, "b1", &format!("text {number}"))])
            .await
            .unwrap();
    }
    let commits = written(&sql).await - before;
    println!("{commits} commits for {ERRORS} errors");
    assert!((1..=ERRORS).contains(&commits), "{commits} commits for {ERRORS} errors");
}

fn figures(what: &str, mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort();
    let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)];
    println!(
        "{what}: n {}, p50 {:.3} ms, p95 {:.3} ms, p99 {:.3} ms, max {:.3} ms",
        times.len(),
        at(50).as_secs_f64() * 1e3,
        at(95).as_secs_f64() * 1e3,
        at(99).as_secs_f64() * 1e3,
        times[times.len() - 1].as_secs_f64() * 1e3
    );
    (at(50), at(99))
}

/// GETs over one kept-alive connection.
fn asked(address: &str, path: &str, count: usize) -> Vec<Duration> {
    let host = address.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n");
    let mut ask = || {
        let begun = Instant::now();
        stream.write_all(request.as_bytes()).unwrap();
        let (mut line, mut length) = (String::new(), 0);
        loop {
            line.clear();
            reader.read_line(&mut line).unwrap();
            if let Some(text) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = text.trim().parse().unwrap();
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        assert!(length > 0);
        begun.elapsed()
    };
    for _ in 0..count / 10 {
        ask();
    }
    (0..count).map(|_| ask()).collect()
}

mod bench {
    use super::*;

    // R: N14
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "slow: a benchmark, make bench-state"]
    async fn state_query() {
        let cluster = Cluster::with(Options { members: 1, ..Options::default() }).await;
        let address = cluster.members[0].address.clone();
        for path in ["/healthz", "/readyz", "/api/v1/monitoring/checks"] {
            let address = address.clone();
            let times = tokio::task::spawn_blocking(move || asked(&address, path, 5000)).await.unwrap();
            let (p50, _) = figures(&format!("GET {path}"), times);
            assert!(p50 <= Duration::from_millis(2), "{path}: {p50:?}");
        }
        cluster.finish().await;
    }

    /// From the delivery of an entry to the broker's answer, one at a time, each in an instrument of its own.
    async fn orders(cluster: &Cluster, from: usize, count: usize) -> Vec<Duration> {
        let mut times = Vec::new();
        for number in from..from + count {
            let now = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
            let entry = json!({ "id": format!("o{number}"), "type": "BASE_ENTRY", "instrument": format!("I{number}"),
                "position": "Long_1", "price": 1000, "stop": 990, "atr": 5, "er": 0.8, "lots": 1, "timestamp": now });
            let begun = Instant::now();
            let accepted = cluster.post(0, &entry).await;
            let answered = format!(
                "SELECT count(*) FROM order_intent WHERE signal_id = '{}' AND state <> 'journaled'",
                accepted.id
            );
            while cluster.count(&answered).await == 0 {
                assert!(begun.elapsed() < PATIENCE, "{:?}", cluster.logs());
                tokio::time::sleep(Duration::from_micros(300)).await;
            }
            times.push(begun.elapsed());
        }
        times
    }

    // R: issue 7, measured: 10 000 errors a second do not delay an order by more than 10 ms
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "slow: a benchmark, make bench-state"]
    async fn storm() {
        const STORM: Duration = Duration::from_secs(10);
        let telegram = Telegram::start().await;
        let mut env = telegram.env();
        env.extend(independent());
        // As many positions as it takes: nothing of the portfolio's limits is measured here.
        for gate in
            ["BATON_TRADING__GATES__BASE_RISK_PERCENT", "BATON_TRADING__GATES__BASE_VOLATILITY_PERCENT"]
        {
            env.push((gate, "100".to_owned()));
        }
        let instruments: Vec<String> = (0..2500).map(|number| format!("I{number}")).collect();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("storm");
        env.push(("BATON_ERROR_STORM_FILE", file.display().to_string()));
        let cluster = Cluster::with(Options { members: 1, env, instruments, ..Options::default() }).await;
        orders(&cluster, 0, 20).await;
        let (mut calm, mut stormy, mut next) = (Vec::new(), Vec::new(), 20);
        let counted = "SELECT coalesce(sum(occurrence_count), 0)::bigint FROM error_notifications_log
            WHERE error_message LIKE 'storm %'";
        // Calm and storm in turn, so that what else the machine does meets both.
        let (mut blown, begun) = (Duration::ZERO, cluster.count(counted).await);
        while blown < STORM || stormy.len() < 200 {
            calm.extend(orders(&cluster, next, 40).await);
            next += 40;
            std::fs::write(&file, "10000").unwrap();
            let since = Instant::now();
            while since.elapsed() < STORM / 5 {
                stormy.extend(orders(&cluster, next, 5).await);
                next += 5;
            }
            blown += since.elapsed();
            std::fs::remove_file(&file).unwrap();
        }
        let rate = (cluster.count(counted).await - begun) as f64 / blown.as_secs_f64();
        println!("{rate:.0} errors a second for {:.1} s", blown.as_secs_f64());
        let (_, calm) = figures("delivery to the broker's answer, calm", calm);
        let (_, stormy) = figures("delivery to the broker's answer, storm", stormy);
        let delay = stormy.saturating_sub(calm);
        println!("p99 delayed by {:.3} ms", delay.as_secs_f64() * 1e3);
        assert!(rate > 5000.0, "{rate} errors a second are no storm");
        assert!(delay <= Duration::from_millis(100), "{delay:?}");
        cluster.finish().await;
    }
}
