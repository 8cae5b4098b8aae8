//! Drills about stored state that is not what it should be.

use serde_json::Value;

use super::{Pager, block, done, equipped, shown, told, typed, with_a_position};
use crate::signals::GOLD_SYMBOL;
use crate::support::cluster::{Cluster, Options, PATIENCE};
use crate::support::wait;

/// The member that leads after `old` and has found this.
async fn custodian(cluster: &Cluster, old: usize, code: &str) -> usize {
    wait::until("the next leader halts on what it reads", PATIENCE, async || {
        for (index, member) in cluster.members.iter().enumerate().filter(|(index, _)| *index != old) {
            let seen = member.json("/leader").await.unwrap_or(Value::Null);
            if seen["role"] == "leader" && seen["operational"]["code"] == code {
                return Ok(index);
            }
        }
        Err(cluster.logs())
    })
    .await
}

// R: H6, C4
#[ignore = "slow: a drill"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drill_validation_failed() {
    if !equipped() {
        return;
    }
    let mut cluster = with_a_position(Options::default()).await;
    let pager = Pager::beside(&cluster).await;
    cluster.sql.execute("UPDATE portfolio_state SET risk_amount = 999999.99", &[]).await.unwrap();
    let old = cluster.leader().await;
    cluster.members[old].process.kill().await;
    let leader = custodian(&cluster, old, "VALIDATION_FAILED").await;
    pager.hears("ValidationFailed").await;
    pager.hears("LeaderInError").await;
    let printed = done(&cluster, leader, &block("leader-in-error")).await;
    shown("leader-in-error", &printed);
    // First 60 seconds: what must go now is sold, though the leader is a custodian only.
    let close = told("validation_failed", "baton close SYMBOL --reason …");
    done(&cluster, leader, &format!("{} --yes", close.replace("SYMBOL", GOLD_SYMBOL).replace('…', "drill")))
        .await;
    wait::until("it is sold at the broker", PATIENCE, async || match cluster.paper.orders().await.len() {
        2 => Ok(()),
        orders => Err((orders, cluster.logs())),
    })
    .await;

    let printed = done(&cluster, leader, &block("validation_failed")).await;
    shown("validation_failed", &printed);
    done(&cluster, leader, told("validation_failed", "pg_dump \"$DATABASE_URL\" > before.sql")).await;
    let found = typed(&cluster, leader, told("validation_failed", "baton recover --check")).await;
    assert_eq!(found.status.code(), Some(1), "{found:?}");
    assert!(
        String::from_utf8_lossy(&found.stdout).contains("999999.99"),
        "it lists the wrong figure: {found:?}"
    );
    let look = told("validation_failed", "baton recover --repair");
    let proposed = typed(&cluster, leader, look).await;
    assert!(String::from_utf8_lossy(&proposed.stdout).contains("risk_amount"), "{proposed:?}");
    let apply = told("validation_failed", "--apply --reason TEXT --yes").replace("TEXT", "drill");
    done(&cluster, leader, &format!("{look} {apply}")).await;
    cluster.leader_within(PATIENCE, |index| index != old).await;
    pager.rests("LeaderInError").await;

    // Undo: what was there before is found, and set back; it was wrong then, so that it is mended once more.
    let undo = told("validation_failed", r"sed -n '/^COPY public.TABLE /,/^\\\.$/p' before.sql");
    let printed = done(&cluster, leader, &undo.replace("TABLE", "portfolio_state")).await;
    assert!(printed.contains("risk_amount") && printed.contains("999999.99"), "{printed}");
    let back =
        "psql \"$DATABASE_URL\" -v ON_ERROR_STOP=1 -c 'UPDATE portfolio_state SET risk_amount = 999999.99'";
    done(&cluster, leader, back).await;
    let found = typed(&cluster, leader, told("validation_failed", "baton recover --check")).await;
    assert!(String::from_utf8_lossy(&found.stdout).contains("999999.99"), "it is as it was: {found:?}");
    done(&cluster, leader, &format!("{look} {apply}")).await;
    done(&cluster, leader, told("validation_failed", "baton recover --check")).await;
    cluster.leader_within(PATIENCE, |index| index != old).await;
    cluster.members[old].restart().await;
    cluster.all_ready().await;
    let check = cluster.finish().await;
    assert_eq!((check.orders, check.open_positions), (2, 0), "{check:?}");
}

// R: H6, C4
#[ignore = "slow: a drill"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drill_data_corrupt() {
    if !equipped() {
        return;
    }
    let mut cluster = with_a_position(Options::default()).await;
    let pager = Pager::beside(&cluster).await;
    let damage =
        "ALTER TABLE position DROP CONSTRAINT position_product_check; UPDATE position SET product = 'CO'";
    cluster.sql.batch_execute(damage).await.unwrap();
    let old = cluster.leader().await;
    cluster.members[old].process.kill().await;
    let leader = custodian(&cluster, old, "DATA_CORRUPT").await;
    pager.hears("DataCorrupt").await;

    let row = cluster.sql.query_one("SELECT id FROM order_intent LIMIT 1", &[]).await.unwrap();
    let intent: uuid::Uuid = row.get(0);
    let commands = block("data_corrupt").replace("'ID'", &format!("'{intent}'"));
    let printed = done(&cluster, leader, &commands).await;
    shown("data_corrupt", &printed);
    assert!(printed.contains("| CO "), "it shows the row:\n{printed}");
    let check = typed(&cluster, leader, told("data_corrupt", "baton recover --check")).await;
    let said = String::from_utf8_lossy(&check.stdout).into_owned();
    assert_eq!(check.status.code(), Some(1), "{said}");
    assert!(said.contains("product"), "it names the cell: {said}");

    let look = told("data_corrupt", "curl -s $A/api/v1/cluster | jq .this.operational");
    let reason = done(&cluster, leader, look).await;
    assert!(reason.contains("DATA_CORRUPT"), "{reason}");
    done(&cluster, leader, told("data_corrupt", "pg_dump \"$DATABASE_URL\" > before.sql")).await;
    let proposed = typed(&cluster, leader, told("data_corrupt", "baton recover --repair")).await;
    let said = String::from_utf8_lossy(&proposed.stdout).into_owned();
    assert!(said.contains("product"), "it says what an operator can do: {said}");

    // Nobody else knows the product: two people correct it by hand.
    let mend = "psql \"$DATABASE_URL\" -v ON_ERROR_STOP=1 -c \"UPDATE position SET product = 'NRML'\"";
    done(&cluster, leader, mend).await;
    cluster.leader_within(PATIENCE, |index| index != old).await;
    done(&cluster, leader, "baton recover --check").await;
    cluster.members[old].restart().await;
    cluster.all_ready().await;
    cluster.finish().await;
}
