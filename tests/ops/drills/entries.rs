//! Drills about entries that the market's own data refuses.

use chrono::Timelike;
use rustix::process::Signal;
use serde_json::json;

use super::{done, equipped, prints, told, with_a_position};
use crate::signals::{GOLD, GOLD_SYMBOL, base};
use crate::support::cluster::{Cluster, Options, PATIENCE};
use crate::support::{paper, wait};

/// An instrument whose contract has years to go.
const FRESH: &str = "FRESH";

async fn is_refused(cluster: &Cluster, id: &str, instrument: &str, price: i64, code: &str) {
    let view = cluster.play(0, &base(id, instrument, price)).await;
    assert!(view["status"] == "refused" && view["reasons"].to_string().contains(code), "{code}: {view}");
}

/// Restarts the one member cleanly.
async fn restart(cluster: &mut Cluster) {
    cluster.members[0].process.signal(Signal::TERM);
    cluster.members[0].process.exit(PATIENCE).await;
    cluster.members[0].restart().await;
    cluster.leader().await;
}

// R: H6, K9
#[ignore = "slow: a drill"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drill_refused_entries() {
    if !equipped() {
        return;
    }
    let lot = "BATON_INSTRUMENTS__FRESH__LOT_SIZE";
    let env = vec![("BATON_TRADING__ALLOW_AFTER_MARKET", "false".to_owned()), (lot, "20".to_owned())];
    let options = Options { members: 1, env, instruments: vec![FRESH.to_owned()], ..Options::default() };
    let mut cluster = Cluster::with(options).await;

    // contract-data: a lot that is not the exchange's.
    is_refused(&cluster, "changed", FRESH, 1000, "CONTRACT_CHANGED").await;
    let ask = told(
        "contract-data",
        "curl -s $BRIDGE/api/v1/symbol -H 'content-type: application/json' -d \
         '{\"apikey\":\"…\",\"symbol\":\"…\",\"exchange\":\"…\"}'",
    );
    let filled =
        [paper::KEY, "FRESHFUT", "MCX"].iter().fold(ask.to_owned(), |text, word| text.replacen('…', word, 1));
    let printed = done(&cluster, 0, &filled).await;
    assert!(printed.contains("FRESHFUT") && printed.contains("10"), "{printed}");
    let kept = told("contract-data", "SELECT * FROM contract_day ORDER BY day DESC");
    let printed = done(&cluster, 0, &format!("psql \"$DATABASE_URL\" -c \"{kept}\"")).await;
    assert!(printed.contains("FRESHFUT"), "{printed}");
    cluster.members[0].launch.env.remove(lot);

    // market-closed: by a calendar that is wrong.
    let (opens, closes) = match wait::time_in_india().await.hour() {
        0..12 => ("13:00:00", "14:00:00"),
        _ => ("01:00:00", "02:00:00"),
    };
    cluster.paper.post("calendar", json!({ "hours": { "opens": opens, "closes": closes } })).await;
    restart(&mut cluster).await;
    is_refused(&cluster, "closed", FRESH, 1000, "MARKET_CLOSED").await;
    let ask = told(
        "market-closed",
        "curl -s $BRIDGE/api/v1/market/timings -H 'content-type: application/json' -d \
         '{\"apikey\":\"…\",\"date\":\"YYYY-MM-DD\"}'",
    );
    let today = baton::domain::sessions::trading_day(chrono::Utc::now()).to_string();
    let printed = done(&cluster, 0, &ask.replace('…', paper::KEY).replace("YYYY-MM-DD", &today)).await;
    assert!(printed.contains("MCX"), "{printed}");

    // Mitigation of both: the calendar and the lot are right, and a leader that begins reads them.
    cluster.paper.post("calendar", json!("always_open")).await;
    restart(&mut cluster).await;
    let view = cluster.play(0, &base("taken", FRESH, 1000)).await;
    assert_eq!(view["status"], "executed", "{view}");
    let check = cluster.finish().await;
    assert_eq!((check.orders, check.open_positions), (1, 1), "{check:?}");
}

// R: H6, K9
#[ignore = "slow: a drill"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drill_contract_expiring() {
    if !equipped() {
        return;
    }
    // Held of a contract of last year; from its restart on the market's contracts count.
    let env = vec![("BATON_SHUTDOWN__EXIT_POLICY", "hold".to_owned())];
    let mut cluster = with_a_position(Options { members: 1, env, ..Options::default() }).await;
    cluster.members[0].launch.env.insert("BATON_TRADING__ALLOW_AFTER_MARKET".to_owned(), "false".to_owned());
    restart(&mut cluster).await;
    let gauge = told("contract_expiring", "curl -s $A/metrics | grep baton_positions_expiring");
    prints(&cluster, 0, gauge, "baton_positions_expiring 1").await;
    let look = told(
        "contract_expiring",
        "psql \"$DATABASE_URL\" -c \"SELECT day, symbol, expiry FROM contract_day ORDER BY day DESC, symbol LIMIT 10\"",
    );
    prints(&cluster, 0, look, GOLD_SYMBOL).await;
    cluster.members[0].says("the contract ended on").await;
    is_refused(&cluster, "expired", GOLD, 140_000, "CONTRACT_EXPIRED").await;

    // Mitigation: out of it.
    told("contract_expiring", "baton close SYMBOL");
    done(&cluster, 0, &format!("baton close {GOLD_SYMBOL} --reason drill --yes")).await;
    prints(&cluster, 0, gauge, "baton_positions_expiring 0").await;
    let check = cluster.finish().await;
    assert_eq!((check.orders, check.open_positions), (2, 0), "{check:?}");
}
