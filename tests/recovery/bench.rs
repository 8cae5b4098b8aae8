//! How long recovery takes, against the bare read of the same rows through the same driver. `make bench-recovery`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use baton::domain::instrument::Catalog;
use baton::domain::money::Rupees;
use baton::recovery::CrashRecoveryManager;
use baton::telemetry::metrics::Metrics;
use rust_decimal::dec;
use rustix::time::{ClockId, clock_gettime};
use tokio_postgres::{Client, Statement};

use crate::orders::reconcile;
use crate::support::cluster::{Options, PATIENCE, client, launch, write_instruments};
use crate::support::database::Database;
use crate::support::member::Member;
use crate::support::paper::Paper;
use crate::support::wait;

const RUNS: usize = 15;

/// Instruments `I1`, `I2`, …: a label is held once per instrument, so each position has its own.
fn catalog(count: usize) -> Catalog {
    let gold = Catalog::default().get("GOLD_MINI").unwrap().clone();
    Catalog::of((1..=count).map(|number| {
        let mut instrument = gold.clone();
        instrument.name = format!("I{number}");
        instrument.symbol = format!("I{number}FUT");
        instrument
    }))
}

/// `count` open positions with their signals, orders, fills, pyramids and the aggregates that they give.
pub async fn seed(sql: &Client, count: i64) {
    let statement = format!(
        "WITH s AS (
            INSERT INTO signal (id, key, type, strategy, instrument, payload, raw_body, received_by, status, finished_at)
            SELECT gen_random_uuid(), 'k' || n, 'BASE_ENTRY', 'default', 'I' || n, '{{}}', '', 'b1', 'executed', now()
            FROM generate_series(1, {count}) n RETURNING id, seq, instrument
        ), p AS (
            INSERT INTO position (id, instrument, label, strategy, symbol, exchange, product, status, quantity,
                entry_quantity, entry_price, lot_size, point_value, margin_per_lot, atr, initial_stop, current_stop,
                highest_close, entry_signal, entry_signal_seq, entry_bar_time)
            SELECT gen_random_uuid(), instrument, 'Long_1', 'default', instrument || 'FUT', 'MCX', 'NRML', 'open', 10, 10,
                1000, 10, 10, 100, 5, 990, 990, 1000, id, seq, '2026-01-05T10:00:00Z'
            FROM s RETURNING *
        ), o AS (
            INSERT INTO order_intent (id, signal_id, position_id, instrument, epoch, incarnation, class, symbol, exchange,
                side, quantity, price_type, product, price, trigger_price, strategy_tag, plan, state, broker_order_id,
                filled_quantity, send_window_ms, order_watermark)
            SELECT gen_random_uuid(), entry_signal, id, instrument, 1, gen_random_uuid(), 'entry', symbol, exchange, 'BUY',
                10, 'MARKET', 'NRML', 0, 0, id::text, jsonb_build_object('label', label, 'strategy', strategy, 'lot_size',
                lot_size, 'point_value', point_value::text, 'margin_per_lot', margin_per_lot::text, 'atr', atr::text,
                'stop', initial_stop::text, 'planned_price', '1000', 'signal_seq', entry_signal_seq, 'bar_time',
                '2026-01-05T10:00:00Z'), 'filled', id::text, 10, 5000, 0
            FROM p RETURNING id
        ), y AS (
            INSERT INTO pyramiding_state SELECT instrument, id, entry_price, 0 FROM p
        )
        SELECT count(*) FROM o"
    );
    // A position is referred to in the statement that makes it.
    sql.batch_execute("ALTER TABLE pyramiding_state DROP CONSTRAINT pyramiding_state_base_position_fkey")
        .await
        .unwrap();
    sql.batch_execute(
        "ALTER TABLE position DROP CONSTRAINT position_entry_signal_fkey;
         ALTER TABLE order_intent DROP CONSTRAINT order_intent_signal_id_fkey",
    )
    .await
    .unwrap();
    sql.batch_execute(&statement).await.unwrap();
    sql.batch_execute(
        "INSERT INTO fill SELECT id, 10, 10, 1000 FROM order_intent;
         INSERT INTO portfolio_state (capital, closed_equity, equity_high, risk_amount, volatility_amount, margin_used)
         SELECT 5000000, 5000000, 5000000, count(*) * 100, count(*) * 50, count(*) * 100 FROM position;
         ANALYZE",
    )
    .await
    .unwrap();
}

pub fn manager(database: &Database, count: i64) -> CrashRecoveryManager {
    CrashRecoveryManager::new(
        database.ledger.clone(),
        Arc::new(catalog(usize::try_from(count).unwrap())),
        Rupees(dec!(5000000)),
        1,
        Duration::from_millis(1),
        Arc::new(Metrics::new()),
    )
}

/// Starts an instance on the database; gives how long it took from the process's start until it traded, and the most
/// memory that it used, in kB. Its bridge holds none of the positions, which it only notes at a first look.
async fn started(database: &Database, count: i64) -> (Duration, u64) {
    let folder = tempfile::tempdir().unwrap();
    let names: Vec<String> = (1..=count).map(|number| format!("I{number}")).collect();
    let symbols = write_instruments(folder.path(), &names);
    let paper = Paper::start(folder.path(), "live", symbols.as_deref(), client()).await;
    let env = vec![("BATON_TRADING__CAPITAL", "5000000".to_owned())];
    let options = Options { env, ..Options::default() };
    let launch = launch("b1", &database.stores, &paper, &options, folder.path());
    let begun = Instant::now();
    let member = Member::start("b1", launch, client()).await;
    wait::until("it trades", PATIENCE, async || {
        if member.trades().await { Ok(()) } else { Err(member.process.tail()) }
    })
    .await;
    (begun.elapsed(), member.process.most_memory_kib())
}

/// What a recovery reads of the rows that make it long, its columns and no more: on two sessions, as it does, and with nothing looked
/// at.
const BARE: [[&str; 2]; 2] = [
    [
        "SELECT id, instrument, label, strategy, symbol, exchange, product, status, quantity, entry_quantity, entry_price, lot_size,
            point_value, margin_per_lot, atr, initial_stop, current_stop, take_profit, highest_close, exit_cause, realised,
            charges, entry_signal, entry_signal_seq, entry_bar_time, opened_at, version FROM position WHERE status <> 'closed'",
        "SELECT instrument, base_position, last_pyramid_price, pyramid_count FROM pyramiding_state",
    ],
    [
        "SELECT o.id, o.position_id, o.class, o.plan, f.quantity, f.price, f.charges FROM position p
            JOIN order_intent o ON o.position_id = p.id LEFT JOIN fill f ON f.intent_id = o.id WHERE p.status <> 'closed'",
        "SELECT array_agg(broker_order_id) FROM order_intent WHERE journaled_at > now() - interval '2 days'",
    ],
];

async fn prepared(sql: &Client, statements: &[&str]) -> Vec<Statement> {
    let mut prepared = Vec::new();
    for statement in statements {
        prepared.push(sql.prepare(statement).await.unwrap());
    }
    prepared
}

async fn bare(sql: &Client, statements: &[Statement]) {
    for statement in statements {
        sql.query(statement, &[]).await.unwrap();
    }
}

async fn median(mut run: impl AsyncFnMut()) -> Duration {
    let mut times = Vec::new();
    for _ in 0..RUNS {
        let begun = Instant::now();
        run().await;
        times.push(begun.elapsed());
    }
    times.sort();
    times[RUNS / 2]
}

/// Processor time used so far by this process, and by the database's sessions of its ledger.
async fn processor_time(sql: &Client) -> [Duration; 2] {
    let ours = clock_gettime(ClockId::ProcessCPUTime);
    let ours = Duration::new(u64::try_from(ours.tv_sec).unwrap(), u32::try_from(ours.tv_nsec).unwrap());
    let sessions = "SELECT pid FROM pg_stat_activity WHERE application_name = 'baton-test'";
    let of = |session: &tokio_postgres::Row| {
        let stat = std::fs::read_to_string(format!("/proc/{}/schedstat", session.get::<_, i32>(0))).unwrap();
        Duration::from_nanos(stat.split(' ').next().unwrap().parse().unwrap())
    };
    [ours, sql.query(sessions, &[]).await.unwrap().iter().map(of).sum()]
}

/// How many positions: all counts, or those that `BATON_BENCH_POSITIONS` names (`10,10000`).
fn counts() -> Vec<i64> {
    let named = std::env::var("BATON_BENCH_POSITIONS").unwrap_or_else(|_| "10,100,1000,10000".to_owned());
    named
        .split(',')
        .map(|count| count.parse().expect("BATON_BENCH_POSITIONS is counts, as 10,10000"))
        .collect()
}

// R: C9
#[ignore = "slow: up to ten thousand positions; make bench-recovery"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recovery_of_many_positions() {
    println!(
        "positions  recovery  of the processors, ours + the database's  bare read  start to active  memory at most"
    );
    for count in counts() {
        let database = Database::start().await;
        let sql = database.connect().await;
        seed(&sql, count).await;
        let manager = manager(&database, count);
        let recovered = manager.recover().await.expect("the seeded state is whole");
        assert_eq!(recovered.portfolio.positions.len(), usize::try_from(count).unwrap());
        let before = processor_time(&sql).await;
        let whole = median(async || {
            // As an instance does it.
            let manager = manager.clone();
            tokio::spawn(async move { manager.recover().await.map(drop) }).await.unwrap().unwrap();
        })
        .await;
        let after = processor_time(&sql).await;
        let [ours, databases] = [0, 1].map(|who| (after[who] - before[who]) / u32::try_from(RUNS).unwrap());
        let second = database.connect().await;
        let (one, two) = (prepared(&sql, &BARE[0]).await, prepared(&second, &BARE[1]).await);
        let bare = median(async || {
            tokio::join!(bare(&sql, &one), bare(&second, &two));
        })
        .await;
        let (active, memory) = started(&database, count).await;
        println!(
            "{count:>9}  {whole:>8.1?}  {ours:>8.1?} + {databases:>8.1?}  {bare:>9.1?}  {active:>16.1?}  {:>9.1} MB",
            memory as f64 / 1024.0
        );
        // Ten times the target, and this may be a debug build.
        assert!(whole < Duration::from_secs(3), "{whole:?}");
        database.stores.stop().await.unwrap();
    }
}

// R: C1, C9
#[ignore = "slow: a thousand open orders; make bench-recovery"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reconciling_many_open_orders() {
    for count in [10, 100, 1000] {
        reconcile(count).await;
    }
}

/// Of many rows the few that leave, are to be closed, or ended without filling are found by indexes of their own.
async fn few_are_looked_up(sql: &Client, manager: &CrashRecoveryManager) {
    let unused = "SELECT indexrelname FROM pg_stat_user_indexes WHERE idx_scan = 0
        AND indexrelname IN ('position_leaving', 'position_wished', 'order_intent_unfilled')";
    wait::until("the indexes are used", PATIENCE, async || {
        manager.recover().await.unwrap();
        let rows = sql.query(unused, &[]).await.unwrap();
        if rows.is_empty() { Ok(()) } else { Err(rows.iter().map(|row| row.get(0)).collect::<Vec<String>>()) }
    })
    .await;
}

// R: C9. The absolute figures are the benchmark's; what a busy machine cannot blur is how they grow.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_time_of_a_recovery_grows_with_the_positions_and_not_with_their_square() {
    let mut best = Vec::new();
    for count in [1000, 10_000] {
        let database = Database::start().await;
        let sql = database.connect().await;
        seed(&sql, count).await;
        let manager = manager(&database, count);
        let mut times = Vec::new();
        for _ in 0..4 {
            let begun = Instant::now();
            let recovered = manager.recover().await.expect("the seeded state is whole");
            times.push(begun.elapsed());
            assert_eq!(recovered.portfolio.positions.len(), usize::try_from(count).unwrap());
        }
        best.extend(times.into_iter().min());
        few_are_looked_up(&sql, &manager).await;
        database.stores.stop().await.unwrap();
    }
    println!("1 000 positions: {:?}, 10 000: {:?}", best[0], best[1]);
    assert!(best[1] < best[0] * 30, "ten times the positions took {best:?}");
}

/// Rows that were read by walking a table, and how often one of its indexes was used.
async fn walked(sql: &Client, table: &str) -> (i64, i64) {
    let row = sql
        .query_one("SELECT seq_tup_read, idx_scan FROM pg_stat_user_tables WHERE relname = $1", &[&table])
        .await
        .unwrap();
    (row.get(0), row.get(1))
}

// R: C9: a takeover after years of trading takes no longer than one on the first day
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recovery_finds_what_is_open_without_walking_through_what_is_over() {
    const OVER: i64 = 5000;
    let database = Database::start().await;
    let sql = database.connect().await;
    seed(&sql, OVER).await;
    sql.batch_execute(
        "UPDATE order_intent SET journaled_at = now() - interval '30 days';
         UPDATE position SET status = 'closed', quantity = 0, closed_at = now() - interval '30 days';
         UPDATE portfolio_state SET risk_amount = 0, volatility_amount = 0, margin_used = 0;
         DELETE FROM pyramiding_state;
         INSERT INTO order_intent SELECT (jsonb_populate_record(o, jsonb_build_object('id', gen_random_uuid(), 'attempt', 1,
            'strategy_tag', 'bid', 'broker_order_id', 'bid', 'state', 'cancelled', 'filled_quantity', 0, 'journaled_at', now()
         ))).* FROM order_intent o WHERE o.id = (SELECT id FROM order_intent LIMIT 1);
         ANALYZE",
    )
    .await
    .unwrap();
    let manager = manager(&database, OVER);
    // What this session read itself is counted before it looks.
    sql.batch_execute("SELECT pg_stat_force_next_flush()").await.unwrap();
    let before =
        [walked(&sql, "order_intent").await, walked(&sql, "fill").await, walked(&sql, "position").await];
    let mut recoveries = 0;
    // A session counts for others to see about once a second.
    let after = wait::until("the recoveries are counted", PATIENCE, async || {
        manager.recover().await.expect("the seeded state is whole");
        recoveries += 1;
        let after =
            [walked(&sql, "order_intent").await, walked(&sql, "fill").await, walked(&sql, "position").await];
        if after[0].1 > before[0].1 { Ok(after) } else { Err(after) }
    })
    .await;
    assert_eq!(after[0].0, before[0].0, "orders: {before:?} {after:?}");
    assert_eq!(after[1].0, before[1].0, "fills: {before:?} {after:?}");
    // What closed positions realised is added up, once a recovery.
    assert!(after[2].0 - before[2].0 <= OVER * recoveries, "positions: {before:?} {after:?} in {recoveries}");
    database.stores.stop().await.unwrap();
}
