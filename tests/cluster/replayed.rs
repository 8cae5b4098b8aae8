//! `baton replay`, the verb itself, against a running cluster: its report is what the ledger, the bridge and the other verbs say.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;

use baton::domain::export::timeline;
use baton::replay::Report;
use rust_decimal::Decimal;
use serde_json::Value;

use crate::replay::{frictionless, ledger, named_export, small_export, trades_of};
use crate::signals::GOLD;
use crate::support::cluster::{Cluster, Options};
use crate::support::member::TOKEN;

/// Units in a lot of gold, and what a lot earns by a point.
const LOT: i64 = 100;
const RUPEES_A_POINT: i64 = 10;

/// Plays an export by the verb; `run_as` would not wait as long as a whole one takes.
async fn replay(cluster: &Cluster, export: &Path) -> Report {
    let member = &cluster.members[0];
    let addresses: Vec<&str> = cluster.members.iter().map(|member| member.address.as_str()).collect();
    let ran = tokio::process::Command::new(env!("CARGO_BIN_EXE_baton"))
        .arg("replay")
        .arg(export)
        .args(["--instrument", GOLD, "--address", &addresses.join(","), "-o", "json"])
        .args(["--paper-control", &cluster.paper.control])
        .env_clear()
        .env("BATON_SIGNALS__TOKEN", TOKEN)
        .current_dir(&member.launch.folder)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    assert!(ran.status.success(), "{}\n{:?}", String::from_utf8_lossy(&ran.stderr), cluster.logs());
    serde_json::from_slice(&ran.stdout).unwrap()
}

/// How many rows have which value, as the ledger counts them.
async fn counts(cluster: &Cluster, column: &str, table: &str) -> BTreeMap<String, u64> {
    let sql = format!("SELECT {column}, count(*) FROM {table} GROUP BY 1");
    let rows = cluster.sql.query(&sql, &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), u64::try_from(row.get::<_, i64>(1)).unwrap())).collect()
}

// R: H7, C6
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_verb_reports_of_a_replay_is_what_the_books_have() {
    compared(&small_export()).await;
}

#[ignore = "slow: years of trades, where BATON_REPLAY_EXPORT names them"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_verb_reports_of_the_named_export_is_what_the_books_have() {
    match named_export() {
        Some(export) => compared(&export).await,
        None => eprintln!("skipped: BATON_REPLAY_EXPORT names no file"),
    }
}

async fn compared(export: &Path) {
    let trades = trades_of(export);
    let events = timeline(&trades).unwrap();
    let options = Options { members: 2, env: frictionless(), ..Options::default() };
    let cluster = Cluster::with(options).await;
    let report = replay(&cluster, export).await;
    println!("{} rows in {} ms: {:?} {:?}", report.rows, report.elapsed_ms, report.signals, report.orders);

    // Every row once, in the order of its time.
    let rows: Vec<String> = events.iter().map(|event| event.id()).collect();
    let played: Vec<&str> = report.legs.iter().map(|leg| leg.row.as_str()).collect();
    assert_eq!((report.rows, played), (rows.len(), rows.iter().map(String::as_str).collect()));
    assert_eq!(report.signals, counts(&cluster, "status", "signal").await);
    assert_eq!(report.orders, counts(&cluster, "state", "order_intent").await);

    let (statuses, legs, positions) = ledger(&cluster.sql).await;
    for leg in &report.legs {
        assert_eq!(statuses.get(&leg.row), Some(&leg.status), "{leg:?}");
        let filled: i64 = legs.get(&leg.row).into_iter().flatten().map(|(_, quantity, _)| quantity).sum();
        assert_eq!(filled, leg.quantity.0, "{leg:?}");
        // The bridge's price was the row's.
        assert!(leg.price.is_none_or(|price| price == leg.wanted), "{leg:?}");
    }
    let opened: Vec<&String> = report.positions.iter().map(|trade| &trade.row).collect();
    assert_eq!(opened.len(), positions.len(), "{opened:?}");
    let prices: BTreeMap<&str, Decimal> =
        report.legs.iter().map(|leg| (leg.row.as_str(), leg.wanted.0)).collect();
    let mut realised = Decimal::ZERO;
    for trade in &report.positions {
        let held = &positions[&trade.row];
        assert_eq!(
            (&trade.label, trade.quantity.0, trade.held.0),
            (&held.label, held.bought, held.left),
            "{trade:?}"
        );
        assert_eq!((trade.entry_price.0, trade.realised.0), (held.entry_price, held.realised), "{trade:?}");
        // By the export's own prices, whatever the ledger says.
        let lots = Decimal::from((trade.quantity.0 - trade.held.0) / LOT);
        let exit = prices.get(trade.row.replace("entry", "exit").as_str());
        let points = exit.map_or(Decimal::ZERO, |exit| exit - prices[trade.row.as_str()]);
        let expected = points * lots * Decimal::from(RUPEES_A_POINT);
        assert_eq!(trade.realised.0, expected, "{trade:?}");
        realised += expected;
    }
    assert_eq!(report.realised, realised);

    // The other verbs, and what the bridge bought and sold.
    let (code, said) = cluster.members[1].cli(&["equity", "--limit", "1"]);
    let equity: Value =
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{code:?} {error}: {said}"));
    let now = |name: &str| equity["now"][name].as_str().unwrap().parse::<Decimal>().unwrap();
    assert_eq!(now("closed") + now("held"), report.realised, "{equity}");
    assert_eq!(now("closed_equity"), now("capital") + report.realised, "{equity}");
    let orders = cluster.paper.orders().await;
    let value = |side: &str| {
        orders.iter().filter(|order| order.side == side).map(|order| order.value()).sum::<Decimal>()
    };
    let units = Decimal::from(LOT);
    let left: Decimal =
        report.positions.iter().map(|trade| trade.entry_price.0 * Decimal::from(trade.held.0)).sum();
    let by_the_bridge = (value("SELL") - value("BUY") + left) / units * Decimal::from(RUPEES_A_POINT);
    assert_eq!(by_the_bridge, report.realised);
    let check = cluster.finish().await;
    assert_eq!(check.open_positions, report.held());
    assert!(check.orders >= rows.len() / 2, "most rows trade: {check:?}");
}
