//! The four scenarios of a crash recovery, to be read: normal, database away, corruption, high availability.

use std::time::Duration;

use rust_decimal::dec;

use crate::seeded::{Copy, Seeded};
use crate::signals::{GOLD, GOLD_SYMBOL, base, pyramid};
use crate::support::cluster::{Cluster, Options, PATIENCE, client};
use crate::support::member::Member;
use crate::support::wait;

async fn is(member: &Member, state: &str, code: Option<&str>) {
    wait::until(&format!("{} is {state} {code:?}", member.name), PATIENCE, async || {
        let health = member.json("/healthz").await.unwrap_or_default();
        let now = &health["operational"];
        if now["state"] == state && code.is_none_or(|code| now["code"] == code) {
            Ok(())
        } else {
            Err(health)
        }
    })
    .await;
}

// R: C6
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scenario_1_kill_after_a_base_entry_then_the_pyramid_executes() {
    let mut cluster = Cluster::with(Options { members: 1, ..Options::default() }).await;
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    let entered = cluster.play(0, &base("base", GOLD, 140_000)).await;
    assert_eq!(entered["status"], "executed", "{entered}");

    cluster.members[0].process.kill().await;
    cluster.members[0].restart().await;
    cluster.leader().await;
    cluster.members[0].says("Fetched 1 open positions from database").await;
    cluster.members[0].says("Crash recovery completed successfully").await;

    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(143000)).await;
    let added = cluster.play(0, &pyramid("add", GOLD, "Long_2", 143_000)).await;
    assert_eq!(added["status"], "executed", "{added}");
    cluster.finish().await;
}

// R: C2, C5
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scenario_2_the_database_is_away_and_comes_back() {
    let mut cluster = Cluster::with(Options { members: 1, ..Options::default() }).await;
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    let entered = cluster.play(0, &base("base", GOLD, 140_000)).await;
    assert_eq!(entered["status"], "executed", "{entered}");
    cluster.members[0].process.kill().await;
    cluster.stores.postgres().stop().await.unwrap();

    cluster.members[0].restart().await;
    is(&cluster.members[0], "WAITING", None).await;
    cluster.members[0].says("DB_UNAVAILABLE").await;
    assert!(cluster.members[0].get("/livez").await.is_some_and(|(status, _)| status.is_success()));
    assert!(!cluster.members[0].is_ready().await);
    let check = cluster.baton(&["recover", "--check"]).await;
    let text = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(check.status.code() == Some(1) && text.contains("in 3 attempts"), "{text}");

    cluster.stores.postgres().start().await.unwrap();
    let cluster = cluster.reconnected().await;
    cluster.leader().await;
    cluster.members[0].says("Crash recovery completed successfully").await;
    assert_eq!(cluster.count("SELECT count(*) FROM position WHERE status = 'open'").await, 1);
}

// R: C4
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scenario_3_nobody_trades_into_corrupt_state_and_everybody_stays_up() {
    let seeded = Seeded::start().await;
    let copy: Copy = seeded.copy("corrupt").await;
    copy.damage("UPDATE portfolio_state SET risk_amount = 999999.99").await;
    let mut members = Vec::new();
    for name in ["b1", "b2"] {
        members.push(Member::start(name, copy.launch(name, &[]), client()).await);
    }
    for member in &members {
        is(member, "ERROR", Some("VALIDATION_FAILED")).await;
        member.says("Risk amount mismatch: DB=999999.99, Calculated=").await;
        member.says("CRITICAL: State corruption detected - HALTING").await;
        assert!(member.get("/livez").await.is_some_and(|(status, _)| status.is_success()));
        let failures = member.metric("baton_recovery_failures_total{code=\"VALIDATION_FAILED\"}").await;
        assert!(failures.is_some_and(|count| count >= 1.0), "{failures:?}");
    }
    // One of them leads, as custodian.
    wait::until("one of them leads as custodian", PATIENCE, async || {
        for member in &members {
            if member.log().contains("leading as custodian") {
                return Ok(());
            }
        }
        Err(members[0].log())
    })
    .await;
    let before = seeded.paper.arrivals().await.len();
    let (status, _) = members[0].deliver(&base("no", "COPPER", 1000)).await.unwrap();
    assert_eq!(status.as_u16(), 202, "a signal is durable all the same");

    // Who wants a process that ends instead, says so.
    let mut strict = Member::start("b3", copy.launch("b3", &["--exit-on-corrupt"]), client()).await;
    let status = strict.process.exit(PATIENCE).await;
    assert_eq!(status.code(), Some(1));
    assert!(strict.log().contains("error: VALIDATION_FAILED"), "{}", strict.log());
    assert!(strict.log().contains("Risk amount mismatch: DB=999999.99, Calculated="), "{}", strict.log());
    assert_eq!(seeded.paper.arrivals().await.len(), before, "nobody traded");

    // Mended, they go on by themselves.
    let repair = copy
        .baton(&["recover", "--repair", "--apply", "--reason", "drill", "--operator", "asha", "--yes"])
        .await;
    assert!(repair.status.success(), "{}", String::from_utf8_lossy(&repair.stderr));
    wait::until("one of them trades", PATIENCE, async || {
        for member in &members {
            if member.trades().await {
                return Ok(());
            }
        }
        Err(members[0].log())
    })
    .await;
}

// R: C4
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_tampered_with_under_a_leader_stops_its_entries_until_it_is_mended() {
    let env = vec![("BATON_RECOVERY__RECONCILE_MS", "300".to_owned())];
    let cluster = Cluster::with(Options { members: 1, env, ..Options::default() }).await;
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    let entered = cluster.play(0, &base("base", GOLD, 140_000)).await;
    assert_eq!(entered["status"], "executed", "{entered}");
    cluster.sql.execute("UPDATE portfolio_state SET risk_amount = risk_amount + 1", &[]).await.unwrap();
    is(&cluster.members[0], "ERROR", Some("VALIDATION_FAILED")).await;
    cluster.members[0].says("Risk amount mismatch: DB=").await;
    cluster.sql.execute("UPDATE portfolio_state SET risk_amount = risk_amount - 1", &[]).await.unwrap();
    is(&cluster.members[0], "ACTIVE", None).await;
    cluster.finish().await;
}

// R: B9
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_seals_the_audit_chain_and_tells_when_it_is_broken_while_trading_goes_on() {
    let env = vec![("BATON_RECOVERY__RECONCILE_MS", "300".to_owned())];
    let mut cluster = Cluster::with(Options { members: 1, env, ..Options::default() }).await;
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    let entered = cluster.play(0, &base("base", GOLD, 140_000)).await;
    assert_eq!(entered["status"], "executed", "{entered}");
    cluster.members[0].says("the audit chain is whole and sealed up to row").await;
    let sealed = "SELECT count(*) FROM audit_seal s JOIN audit_head h USING (seq, hash)";
    wait::until("all of it is sealed", PATIENCE, async || match cluster.count(sealed).await {
        1 => Ok(()),
        _ => Err(cluster.logs()),
    })
    .await;
    let tamper = "ALTER TABLE audit_log DISABLE TRIGGER USER;
        DELETE FROM audit_log WHERE seq = (SELECT max(seq) FROM audit_log)";
    cluster.sql.batch_execute(tamper).await.unwrap();
    let told = "SELECT count(*) FROM error_notifications_log WHERE error_type = 'AUDIT_BROKEN' AND severity = 'critical'";
    wait::until("somebody is told", PATIENCE, async || match cluster.count(told).await {
        1 => Ok(()),
        _ => Err(cluster.logs()),
    })
    .await;
    assert!(cluster.members[0].trades().await, "trading does not stop for it");
    // A start says it, too, and leads.
    cluster.members[0].process.kill().await;
    cluster.members[0].restart().await;
    cluster.leader().await;
    cluster.members[0].says("the audit chain is broken: ").await;
}

// R: C7
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scenario_4_an_instance_is_recovering_and_then_active_and_only_then_leads() {
    let mut cluster = Cluster::with(Options { members: 2, ..Options::default() }).await;
    for member in &cluster.members {
        let text = member.log();
        let recovering = text.find("Instance status set to 'recovering' in HA system").unwrap();
        let active =
            text.find("Instance status set to 'active' in HA system - ready for leader election").unwrap();
        assert!(recovering < active, "{text}");
    }
    wait::until("the registry shows both as active", PATIENCE, async || {
        let registry = cluster.members[0].json("/api/v1/cluster").await.unwrap_or_default();
        let listed = registry["instances"].as_array().into_iter().flatten();
        let active = listed.filter(|instance| instance["status"] == "active").count();
        if active == 2 { Ok(()) } else { Err(registry) }
    })
    .await;
    let (_, new, took) = cluster.kill_leader().await;
    assert!(took < Duration::from_secs(20), "{took:?}");
    cluster.members[new].says("reconciled with the broker's books").await;
    cluster.finish().await;
}
