//! Recoveries that do not get to their end: the process dies in them, the database goes away, the market moves on.

use std::sync::Arc;
use std::time::Duration;

use baton::domain::instrument::Catalog;
use baton::domain::money::Rupees;
use baton::failpoint::{PLACES, RECOVERY_PLACES};
use baton::ledger::snapshot::READS;
use baton::recovery::CrashRecoveryManager;
use baton::recovery::progress::Step;
use baton::telemetry::metrics::Metrics;
use rust_decimal::dec;
use rustix::process::Signal;
use serde_json::json;

use crate::signals::{GOLD, GOLD_SYMBOL, base, exit};
use crate::support::cluster::{Cluster, Options, PATIENCE};
use crate::support::database::Database;
use crate::support::wait;

/// Waits until a member that reached the armed place is dead.
async fn died(cluster: &mut Cluster, place: &str) {
    wait::until(&format!("a member dies at {place}"), PATIENCE, async || {
        let dead = cluster.members.iter_mut().filter_map(|member| member.process.exited()).count();
        if dead > 0 && !cluster.is_armed() { Ok(()) } else { Err(format!("{:?}", cluster.logs())) }
    })
    .await;
}

async fn counted(cluster: &Cluster, what: &str, sql: &str, wanted: i64) {
    wait::until(what, PATIENCE, async || match cluster.count(sql).await {
        found if found == wanted => Ok(()),
        found => Err((found, cluster.logs())),
    })
    .await;
}

const JOURNALED: &str = "SELECT count(*) FROM order_intent WHERE state = 'journaled'";

// R: C1, S14: whoever takes over may die at it; the next one finds the same order, and nothing is sent or booked twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_takeover_that_dies_anywhere_is_finished_by_the_next() {
    let mut cluster = Cluster::start().await;
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    let mut held = false;
    for (sent, place) in RECOVERY_PLACES.into_iter().enumerate() {
        cluster.all_ready().await;
        let leader = cluster.leader().await;
        // The order is at the broker, and its answer is not heard before the leader is dead.
        let slow =
            json!({ "fault": { "kind": "hang_after", "ms": 20_000 }, "verb": "placeorder", "count": 1 });
        cluster.paper.fault(slow).await;
        let body = if held { exit(place, GOLD, "ALL", 140_000) } else { base(place, GOLD, 140_000) };
        let signal = cluster.post(leader, &body).await;
        wait::until("the order is at the broker", PATIENCE, async || match cluster.paper.orders().await {
            orders if orders.len() > sent => Ok(()),
            orders => Err((orders, cluster.logs())),
        })
        .await;
        assert_eq!(cluster.count(JOURNALED).await, 1, "its answer is not heard");
        cluster.arm(place, "kill");
        cluster.members[leader].process.signal(Signal::KILL);
        cluster.members[leader].process.kill().await;
        wait::until(&format!("the next one dies at {place}"), PATIENCE, async || {
            let dead = cluster.members.iter_mut().filter_map(|member| member.process.exited()).count();
            if dead == 2 && !cluster.is_armed() { Ok(()) } else { Err(format!("{:?}", cluster.logs())) }
        })
        .await;
        let view = cluster.terminal(&signal.id).await;
        assert_eq!(view["status"], "executed", "{place}: {view}");
        held = !held;
        cluster.revive().await;
    }
    let check = cluster.finish().await;
    assert_eq!((check.orders, check.open_positions), (RECOVERY_PLACES.len(), 0));
}

// R: S14, C6: the same places as a takeover's test, and nobody is there to take over: the member itself starts again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lone_member_that_dies_anywhere_in_an_orders_way_starts_again_on_the_truth() {
    let instruments: Vec<String> = (1..=PLACES.len()).map(|number| format!("I{number}")).collect();
    let env = crate::support::cluster::independent();
    let options = Options { members: 1, env, instruments: instruments.clone(), ..Options::default() };
    let mut cluster = Cluster::with(options).await;
    let mut signals = Vec::new();
    // What is in doubt for a while is waited for together: each place has an instrument of its own.
    for (place, instrument) in PLACES.into_iter().zip(&instruments) {
        cluster.leader().await;
        cluster.arm(place, "kill");
        let body = base(place, instrument, 1000);
        let delivery = cluster.send(0, &body);
        died(&mut cluster, place).await;
        delivery.await.expect("the sender lives");
        cluster.revive().await;
        let signal = cluster.post(0, &body).await;
        if !["after_journal", "after_check", "after_write"].contains(&place) {
            // Its way goes on past the places that follow: none of them is armed before it is over.
            cluster.terminal(&signal.id).await;
        }
        signals.push((place, signal));
    }
    for (place, signal) in signals {
        let view = cluster.terminal(&signal.id).await;
        println!("{place}: {}", view["status"]);
        let expected: &[&str] = match place {
            // Nothing was decided yet: the signal waits in the inbox.
            "before_journal" => &["executed"],
            "after_journal" | "after_check" => &["abandoned"],
            // Bytes that are written may or may not get through.
            "after_write" => &["executed", "abandoned"],
            _ => &["executed"],
        };
        assert!(expected.iter().any(|status| view["status"] == *status), "{place}: {view}");
    }
    cluster.finish().await;
}

// R: C1, LESSONS "partial fills ignored"
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fills_in_part_while_nobody_leads_is_booked_at_the_start_and_the_rest_when_it_fills() {
    let mut cluster = Cluster::with(Options { members: 1, ..Options::default() }).await;
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    cluster.paper.post("fills", json!({ "hold": true })).await;
    let signal = cluster.post(0, &base("in", GOLD, 140_000)).await;
    let acknowledged = "SELECT count(*) FROM order_intent WHERE state = 'acknowledged'";
    counted(&cluster, "the order rests at the broker", acknowledged, 1).await;
    cluster.members[0].process.kill().await;

    let halves = json!({ "latency_ms": 0, "slices": 2, "slice_delay_ms": 6000, "spread_ticks": 0 });
    cluster.paper.post("fills", json!({ "hold": false, "model": halves })).await;
    let part = wait::until("a part is filled", PATIENCE, async || {
        let orders = cluster.paper.orders().await;
        match orders[0].filled_quantity {
            0 => Err(orders),
            part => Ok((part, orders[0].quantity)),
        }
    })
    .await;
    let (part, whole) = part;
    assert!(part < whole, "{part} of {whole}");

    cluster.members[0].restart().await;
    let held = "SELECT coalesce(sum(quantity), 0)::bigint FROM position WHERE status = 'open'";
    counted(&cluster, "the part is held", held, part).await;
    assert_eq!(cluster.count("SELECT count(*) FROM order_intent WHERE state = 'partially_filled'").await, 1);
    let view = cluster.terminal(&signal.id).await;
    assert_eq!(view["status"], "executed", "{view}");
    counted(&cluster, "all of it is held", held, whole).await;
    let check = cluster.finish().await;
    assert_eq!((check.orders, check.open_positions), (1, 1));
}

// R: S14: between an order's first fill, which is booked, and its second, which is not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_starts_between_two_fills_books_the_second_and_not_the_first_again() {
    let mut cluster = Cluster::with(Options { members: 1, ..Options::default() }).await;
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    let halves = json!({ "latency_ms": 0, "slices": 2, "slice_delay_ms": 3000, "spread_ticks": 0 });
    cluster.paper.post("fills", json!({ "model": halves })).await;
    let signal = cluster.post(0, &base("in", GOLD, 140_000)).await;
    let fills = "SELECT count(*) FROM fill";
    counted(&cluster, "the first fill is booked", fills, 1).await;
    cluster.arm("before_fill_commit", "kill");
    died(&mut cluster, "before_fill_commit").await;
    assert_eq!(cluster.count(fills).await, 1, "the second is not booked");
    cluster.revive().await;
    let view = cluster.terminal(&signal.id).await;
    assert_eq!(view["status"], "executed", "{view}");
    counted(&cluster, "both are booked, once", fills, 2).await;
    let check = cluster.finish().await;
    assert_eq!((check.orders, check.open_positions), (1, 1));
}

/// Has every reading of the fills wait for as long as this session holds a lock.
async fn hold(session: &tokio_postgres::Client) {
    session
        .batch_execute(
            "SELECT pg_advisory_lock(42); ALTER TABLE fill RENAME TO fill_rows;
             CREATE VIEW fill AS SELECT * FROM fill_rows WHERE (SELECT pg_advisory_lock_shared(42)) IS NOT NULL",
        )
        .await
        .unwrap();
}

/// The same for as long as this server runs. A lock would not do: of two sessions of a dying server its holder may go first.
async fn hold_until_restart(session: &tokio_postgres::Client) {
    let began: String =
        session.query_one("SELECT pg_postmaster_start_time()::text", &[]).await.unwrap().get(0);
    let view = format!(
        "ALTER TABLE fill RENAME TO fill_rows;
         CREATE VIEW fill AS SELECT * FROM fill_rows WHERE
            (SELECT CASE WHEN pg_postmaster_start_time() = '{began}' THEN pg_sleep(600)::text END) IS NULL"
    );
    session.batch_execute(&view).await.unwrap();
}

fn manager(database: &Database) -> CrashRecoveryManager {
    CrashRecoveryManager::new(
        database.ledger.clone(),
        Arc::new(Catalog::default()),
        Rupees(dec!(5000000)),
        8,
        Duration::from_millis(100),
        Arc::new(Metrics::new()),
    )
}

// R: C2, C5: a database that restarts under a recovery costs an attempt; what was half read is read anew. How far it has
// come is shown meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_restarts_in_the_middle_of_a_recovery_costs_an_attempt() {
    let database = Database::start().await;
    let manager = manager(&database);
    assert_eq!(manager.progress(), None);
    hold_until_restart(&database.connect().await).await;
    let running = tokio::spawn({
        let manager = manager.clone();
        async move { manager.recover().await }
    });
    let midway =
        wait::until("the recovery is in the middle of its reading", PATIENCE, async || {
            match manager.progress() {
                Some(progress) if progress.reads > 0 => Ok(progress),
                other => Err(other),
            }
        })
        .await;
    assert!(midway.step == Step::Reading && midway.reads < READS && midway.attempt == 1, "{midway:?}");

    database.stores.postgres().kill().await.unwrap();
    wait::until("it waits for the database", PATIENCE, async || match manager.progress() {
        Some(progress) if progress.step == Step::Waiting => Ok(()),
        other => Err(other),
    })
    .await;
    database.stores.postgres().start().await.unwrap();
    let recovered = running.await.unwrap().unwrap();
    assert!(recovered.first_time && recovered.warnings.is_empty());
    assert_eq!(manager.progress(), None);
}

// R: C7: what takes long is seen from outside while it does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_recovery_shows_how_far_it_has_come() {
    let mut cluster = Cluster::with(Options { members: 1, ..Options::default() }).await;
    cluster.members[0].process.kill().await;
    hold(&cluster.sql).await;
    cluster.members[0].restart().await;
    let seen = wait::until("the instance tells of its recovery", PATIENCE, async || {
        let health = cluster.members[0].json("/healthz").await.unwrap_or_default();
        if health["recovery"]["reads"].as_u64() > Some(0) {
            Ok(health["recovery"].clone())
        } else {
            Err(health)
        }
    })
    .await;
    assert!(seen["step"] == "reading" && seen["of_reads"] == READS, "{seen}");
    wait::until("`baton status` tells, too", PATIENCE, async || {
        let (code, said) = cluster.members[0].cli(&["status"]);
        let told = said.contains("recovers: reading stored state: ");
        if told && code == Some(2) { Ok(()) } else { Err(said) }
    })
    .await;
    cluster.members[0].says("[RECOVERY] still reading stored state: ").await;
    let stored = "SELECT count(*) FROM instance WHERE status = 'recovering'";
    assert_eq!(cluster.count(stored).await, 1, "the registry has it as recovering");
    let health = cluster.members[0].json("/api/v1/monitoring/health").await.unwrap();
    assert_eq!(health["checks"]["cluster"]["detail"], "recovering", "{health}");
    cluster.sql.batch_execute("SELECT pg_advisory_unlock_all()").await.unwrap();
    cluster.leader().await;
    let health = cluster.members[0].json("/healthz").await.unwrap();
    assert!(health["recovery"].is_null(), "{health}");
    cluster.finish().await;
}
