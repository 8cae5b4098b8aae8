//! A strategy's export, replayed through a cluster whose leader is killed twenty times: it ends as the replay without.
//!
//! `BATON_REPLAY_EXPORT` names another export than the small one beside these tests. Trades are independent of each
//! other (equity is fixed), each signal is played to its end, and the bridge's price is the row's, without a spread:
//! so both runs must give the same positions, fills and profit to the paisa. The one difference allowed is an entry
//! that a kill caught between its journaling and its first byte: the ledger says ABANDONED, the bridge never saw it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use baton::domain::export::{ExportTrade, ReplayDefaults, read, timeline};
use chrono::Utc;
use rust_decimal::Decimal;
use rustix::process::{Pid, Signal, kill_process};
use tokio_postgres::Client;

use crate::doubt::hit;
use crate::signals::{GOLD, GOLD_SYMBOL};
use crate::support::checker::Check;
use crate::support::cluster::{Cluster, Options, independent};
use crate::support::seed::Seed;

/// Places in an order's way at which the leader dies, each twice.
const PLACES: [&str; 5] =
    ["before_journal", "after_journal", "after_write", "after_reply", "before_ack_commit"];
/// Kills at random moments.
const RANDOM_KILLS: usize = 10;
/// A random kill comes within this time after its signal was sent: an order's way takes about as long.
const ORDER_TIME: Duration = Duration::from_millis(60);

/// The export that `BATON_REPLAY_EXPORT` names.
pub fn named_export() -> Option<PathBuf> {
    std::env::var_os("BATON_REPLAY_EXPORT").map(PathBuf::from)
}

/// The one beside these tests.
pub fn small_export() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/small_export.csv")
}

pub fn trades_of(export: &Path) -> Vec<ExportTrade> {
    println!("replaying {}", export.display());
    read(std::fs::File::open(export).unwrap()).unwrap()
}

/// Configuration under which each trade of an export is one that counts, and nothing but the export ends it.
pub fn frictionless() -> Vec<(&'static str, String)> {
    // Small enough for every order to stay below the exchange's freeze quantity at the lowest prices of the export.
    let capital = ("BATON_TRADING__CAPITAL", "10000000".to_owned());
    // The export has its own exits: a stop that fires before them would be another strategy.
    let stops = ("BATON_TRADING__STOPS__WATCH", "false".to_owned());
    independent().into_iter().chain([capital, stops]).collect()
}

/// What happens while a signal is played.
#[derive(Clone, Copy, Debug)]
enum Kill {
    At(&'static str),
    After(Duration),
}

/// A trade as the ledger has it at the end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Held {
    pub label: String,
    pub bought: i64,
    pub left: i64,
    pub entry_price: Decimal,
    pub realised: Decimal,
}

/// One filled order of a signal.
pub type Leg = (String, i64, Decimal);

/// The end of a replay, by the senders' ids (`tv-7-entry`).
struct End {
    statuses: BTreeMap<String, String>,
    legs: BTreeMap<String, Vec<Leg>>,
    positions: BTreeMap<String, Held>,
    realised: Decimal,
    check: Check,
    kills: usize,
    took: Duration,
}

/// Spreads the kills over the signals: at most one a signal.
fn plan(seed: &mut Seed, signals: usize) -> BTreeMap<usize, Kill> {
    let mut kills: Vec<Kill> = PLACES.iter().chain(&PLACES).map(|place| Kill::At(place)).collect();
    kills.extend((0..RANDOM_KILLS).map(|_| Kill::After(seed.duration(ORDER_TIME))));
    assert!(signals >= 2 * kills.len(), "{signals} signals are too few for {} kills", kills.len());
    let mut moments: Vec<usize> = (0..signals - 3).collect();
    seed.shuffle(&mut moments);
    moments.into_iter().zip(kills).collect()
}

async fn replay(trades: &[ExportTrade], kills: &BTreeMap<usize, Kill>, members: usize) -> End {
    let mut cluster = Cluster::with(Options { members, env: frictionless(), ..Options::default() }).await;
    let defaults = ReplayDefaults::default();
    let events = timeline(trades).unwrap();
    let begun = Instant::now();
    let mut killed = 0;
    let mut due = VecDeque::new();
    for (number, event) in events.iter().enumerate() {
        cluster.paper.set_price(GOLD_SYMBOL, "MCX", event.leg.price.0).await;
        let body = event.payload(GOLD, &defaults, Utc::now());
        let member = number % cluster.members.len();
        due.extend(kills.get(&number));
        // A signal that orders nothing does not reach its fail point: a later one does, and the next kill waits.
        let kill = if cluster.is_armed() { None } else { due.pop_front() };
        let mut dying = cluster.is_armed();
        if let Some(Kill::At(place)) = kill {
            cluster.arm(place, "kill");
            dying = true;
        }
        if let Some(Kill::After(moment)) = kill {
            let leader = cluster.leader().await;
            let pid = Pid::from_raw(cluster.members[leader].process.id().cast_signed()).unwrap();
            let killing = async {
                tokio::time::sleep(moment).await;
                // Not reaped before `hit` below, so the pid is nobody else's.
                let _ = kill_process(pid, Signal::KILL);
            };
            tokio::join!(killing, cluster.play(member, &body));
            dying = true;
        } else {
            cluster.play(member, &body).await;
        }
        if dying && !cluster.is_armed() {
            hit(&mut cluster, "its kill").await;
            killed += cluster.revive().await;
        }
    }
    assert!(due.is_empty() && !cluster.is_armed(), "the last kills found no signal: {due:?}");
    let took = begun.elapsed();
    let (statuses, legs, positions) = ledger(&cluster.sql).await;
    let realised = positions.values().map(|held| held.realised).sum();
    let check = cluster.finish().await;
    End { statuses, legs, positions, realised, check, kills: killed, took }
}

/// Signals' statuses, filled orders and positions, by the senders' ids.
pub type Ledger = (BTreeMap<String, String>, BTreeMap<String, Vec<Leg>>, BTreeMap<String, Held>);

pub async fn ledger(sql: &Client) -> Ledger {
    let id = |key: String| key.trim_start_matches("default/").to_owned();
    let rows = sql.query("SELECT key, status FROM signal", &[]).await.unwrap();
    let statuses = rows.iter().map(|row| (id(row.get(0)), row.get(1))).collect();
    let rows = sql
        .query(
            "SELECT s.key, o.side, o.filled_quantity, sum(f.price * f.quantity) / sum(f.quantity)
             FROM order_intent o JOIN signal s ON s.id = o.signal_id JOIN fill f ON f.intent_id = o.id
             GROUP BY o.id, s.key ORDER BY s.key, o.leg, o.attempt",
            &[],
        )
        .await
        .unwrap();
    let mut legs: BTreeMap<String, Vec<Leg>> = BTreeMap::new();
    for row in &rows {
        let price: Decimal = row.get(3);
        legs.entry(id(row.get(0))).or_default().push((row.get(1), row.get(2), price.normalize()));
    }
    let rows = sql
        .query(
            "SELECT s.key, p.label, p.entry_quantity, p.quantity, p.entry_price, p.realised
             FROM position p JOIN signal s ON s.id = p.entry_signal",
            &[],
        )
        .await
        .unwrap();
    let positions = rows
        .iter()
        .map(|row| {
            let held = Held {
                label: row.get(1),
                bought: row.get(2),
                left: row.get(3),
                entry_price: row.get(4),
                realised: row.get(5),
            };
            (id(row.get(0)), held)
        })
        .collect();
    (statuses, legs, positions)
}

/// The trades that an abandoned entry touches: itself, and those that were open at the same time (pyramids on it).
fn touched(trades: &[ExportTrade], end: &End) -> BTreeSet<u64> {
    let lost: Vec<&ExportTrade> = trades
        .iter()
        .filter(|trade| {
            end.statuses.get(&format!("tv-{}-entry", trade.number)).is_some_and(|s| s == "abandoned")
        })
        .collect();
    let ends =
        |trade: &ExportTrade| trade.exit.as_ref().map_or(chrono::DateTime::<Utc>::MAX_UTC, |exit| exit.time);
    let overlap = |a: &ExportTrade, b: &ExportTrade| a.entry.time <= ends(b) && b.entry.time <= ends(a);
    trades
        .iter()
        .filter(|trade| lost.iter().any(|lost| overlap(lost, trade)))
        .map(|trade| trade.number)
        .collect()
}

// R: C6, S1, S14
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s1_replay_with_twenty_kills_equals_the_replay_without() {
    let trades = trades_of(&named_export().unwrap_or_else(small_export));
    let signals = timeline(&trades).unwrap().len();
    let mut seed = Seed::drawn("replay");
    let kills = plan(&mut seed, signals);

    let without = BTreeMap::new();
    // What one instance makes of it is what three must, whichever of them dies.
    let (calm, rough) = tokio::join!(replay(&trades, &without, 1), replay(&trades, &kills, 3));
    println!("{signals} signals without kills in {:?}: {:?}", calm.took, calm.check);
    assert_eq!(calm.kills, 0);
    assert!(calm.check.orders >= signals / 2, "most signals trade: {:?}", calm.check);
    println!("{signals} signals with {} kills in {:?}: {:?}", rough.kills, rough.took, rough.check);
    assert_eq!(rough.kills, kills.len());

    // What was abandoned never reached the bridge: the checker of the run has proven it.
    let touched = touched(&trades, &rough);
    println!("trades touched by an abandoned entry: {touched:?}");
    let lost = rough.statuses.values().filter(|status| *status == "abandoned").count();
    assert!(lost <= 2 + RANDOM_KILLS, "only a kill between journal and write loses an entry: {lost}");
    let mut given_up = Decimal::ZERO;
    for trade in &trades {
        let [entry, exit] = ["entry", "exit"].map(|side| format!("tv-{}-{side}", trade.number));
        if touched.contains(&trade.number) {
            let realised = |end: &End| end.positions.get(&entry).map_or(Decimal::ZERO, |held| held.realised);
            given_up += realised(&calm) - realised(&rough);
            continue;
        }
        assert_eq!(rough.positions.get(&entry), calm.positions.get(&entry), "{entry}");
        for id in [&entry, &exit] {
            assert_eq!(rough.statuses.get(id), calm.statuses.get(id), "{id}");
            assert_eq!(rough.legs.get(id), calm.legs.get(id), "{id}");
        }
    }
    assert_eq!(rough.realised + given_up, calm.realised);
    println!(
        "realised {} with kills, {} without; {given_up} by abandoned entries",
        rough.realised, calm.realised
    );
    let refused = |end: &End| end.check.states.get("rejected").copied().unwrap_or(0);
    let filled = |end: &End| end.legs.values().map(Vec::len).sum::<usize>() + refused(end);
    assert_eq!((filled(&rough), filled(&calm)), (rough.check.orders, calm.check.orders));
}
