//! The three codes of a recovery that failed: each is counted, logged, told, answered as a problem, and explained.

use std::time::Duration;

use rust_decimal::dec;
use serde_json::Value;

use crate::signals::{GOLD, GOLD_SYMBOL, base};
use crate::support::cluster::{Cluster, Options, PATIENCE};
use crate::support::wait;

/// A code, what brings it about and ends it again (none: the server is stopped), and the error that operators are told.
struct Case {
    code: &'static str,
    damage: Option<[&'static str; 2]>,
    told: (&'static str, &'static str),
}

const CASES: [Case; 3] = [
    Case {
        code: "VALIDATION_FAILED",
        damage: Some([
            "UPDATE portfolio_state SET risk_amount = risk_amount + 1",
            "UPDATE portfolio_state SET risk_amount = risk_amount - 1",
        ]),
        told: ("OPERATIONAL_ERROR", "VALIDATION_FAILED"),
    },
    Case {
        code: "DATA_CORRUPT",
        damage: Some([
            "ALTER TABLE pyramiding_state RENAME TO moved_away",
            "ALTER TABLE moved_away RENAME TO pyramiding_state",
        ]),
        told: ("OPERATIONAL_ERROR", "DATA_CORRUPT"),
    },
    Case { code: "DB_UNAVAILABLE", damage: None, told: ("STARTUP_ERROR", "") },
];

// R: C3
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_code_is_counted_logged_told_answered_and_explained() {
    // Who starts without a database tells of it after as many tries, a second apart.
    let env = [
        "BATON_HEALTH__CHECK_INTERVAL",
        "BATON_HEALTH__MAX_STARTUP_RETRIES",
        "BATON_HEALTH__STARTUP_RETRY_DELAY_BASE",
    ];
    let env = env.map(|key| (key, "1".to_owned())).to_vec();
    let mut cluster = Cluster::with(Options { members: 1, env, ..Options::default() }).await;
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    let entered = cluster.play(0, &base("in", GOLD, 140_000)).await;
    assert_eq!(entered["status"], "executed", "{entered}");
    for Case { code, damage, told } in CASES {
        match damage {
            Some([harm, _]) => {
                cluster.members[0].process.kill().await;
                cluster.sql.batch_execute(harm).await.unwrap();
            }
            None => cluster.stores.postgres().stop().await.unwrap(),
        }
        if damage.is_some() {
            cluster.members[0].restart().await;
        }
        answered(&cluster, code).await;
        if damage.is_none() {
            cluster.members[0].process.kill().await;
            cluster.members[0].restart().await;
        }
        cluster.members[0].says(code).await;
        counted(&cluster, code).await;
        match damage {
            Some([_, mended]) => cluster.sql.batch_execute(mended).await.unwrap(),
            None => {
                // Its checks have failed for as long as a start may take: from here on it is told.
                cluster.members[0].says("Waiting after 1 start-up retries").await;
                cluster.stores.postgres().start().await.unwrap();
                cluster = cluster.reconnected().await;
            }
        }
        stored(&cluster, told).await;
        let section = cluster.baton(&["runbook", code]).await;
        let text = String::from_utf8_lossy(&section.stdout).into_owned();
        assert!(section.status.success() && text.contains("Mitigation"), "{code}: {text}");
        cluster.leader_within(PATIENCE + Duration::from_secs(10), |_| true).await;
    }
    cluster.finish().await;
}

// R: C4. What a start itself reads and writes is state, too: a server that answers is not away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_finds_its_own_table_gone_says_that_state_is_damaged() {
    let mut cluster = Cluster::with(Options { members: 1, ..Options::default() }).await;
    cluster.leader().await;
    cluster.members[0].process.kill().await;
    cluster.sql.batch_execute("ALTER TABLE process_start RENAME TO moved_away").await.unwrap();
    cluster.members[0].restart().await;
    answered(&cluster, "DATA_CORRUPT").await;
    cluster.members[0].says("process_start").await;
    counted(&cluster, "DATA_CORRUPT").await;
    cluster.sql.batch_execute("ALTER TABLE moved_away RENAME TO process_start").await.unwrap();
    cluster.leader_within(PATIENCE + Duration::from_secs(10), |_| true).await;
    cluster.finish().await;
}

/// The probe's answer is a problem whose type is the code's section.
async fn answered(cluster: &Cluster, code: &str) {
    wait::until(&format!("/readyz is {code}"), PATIENCE, async || {
        let Some((status, text)) = cluster.members[0].get("/readyz").await else { return Err(String::new()) };
        let problem: Value = serde_json::from_str(&text).unwrap_or_default();
        let kind = format!("RUNBOOK.md#{}", code.to_lowercase());
        if status.as_u16() == 503 && problem["code"] == code && problem["type"] == kind.as_str() {
            Ok(())
        } else {
            Err(format!("{status} {text}"))
        }
    })
    .await;
}

async fn counted(cluster: &Cluster, code: &str) {
    let series = format!("baton_recovery_failures_total{{code=\"{code}\"}}");
    wait::until(&format!("{series} counts"), PATIENCE, async || {
        match cluster.members[0].metric(&series).await {
            Some(count) if count >= 1.0 => Ok(()),
            other => Err(other),
        }
    })
    .await;
}

/// The error is in the log of what operators are told.
async fn stored(cluster: &Cluster, (kind, scope): (&str, &str)) {
    let row = format!(
        "SELECT count(*) FROM error_notifications_log WHERE error_type = '{kind}' AND scope = '{scope}'"
    );
    wait::until(&format!("{kind} {scope} is told"), PATIENCE, async || match cluster.count(&row).await {
        1 => Ok(()),
        other => Err((other, cluster.logs())),
    })
    .await;
}
