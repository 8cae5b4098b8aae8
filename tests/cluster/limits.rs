//! Limits of the account and market hours: entries are refused with a code, exits never, and no restart lifts a limit.

use rust_decimal::{Decimal, dec};
use serde_json::{Value, json};

use crate::signals::{GOLD, GOLD_SYMBOL, SILVER, SILVER_SYMBOL, base, exit};
use crate::support::cluster::{Cluster, Options, PATIENCE};
use crate::support::wait;

async fn cluster(env: &[(&'static str, &str)]) -> Cluster {
    of_shape("live", env).await
}

async fn of_shape(shape: &'static str, env: &[(&'static str, &str)]) -> Cluster {
    let env = env.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
    let cluster = Cluster::with(Options { members: 2, env, shape, ..Options::default() }).await;
    price(&cluster, dec!(140000)).await;
    cluster
}

async fn price(cluster: &Cluster, price: Decimal) {
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", price).await;
}

async fn executed(cluster: &Cluster, body: Value) {
    let view = cluster.play(0, &body).await;
    assert_eq!(view["status"], "executed", "{view}");
}

async fn refused(cluster: &Cluster, body: Value, code: &str) {
    let view = cluster.play(1, &body).await;
    let reasons = view["reasons"].as_array().unwrap();
    let found = reasons.iter().any(|reason| reason["code"] == code);
    assert!(view["status"] == "refused" && found, "{code}: {view}");
}

async fn latched(cluster: &Cluster, code: &str) {
    wait::until(&format!("{code} is latched"), PATIENCE, async || {
        let sql = format!("SELECT count(*) FROM limit_latch WHERE code = '{code}'");
        if cluster.count(&sql).await == 1 { Ok(()) } else { Err(cluster.logs()) }
    })
    .await;
}

/// Every process ends and comes again.
async fn restart(cluster: &mut Cluster) {
    for member in &mut cluster.members {
        member.process.kill().await;
    }
    cluster.revive().await;
    cluster.all_ready().await;
    cluster.leader().await;
}

// R: B4
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_days_orders_are_limited_and_a_restart_does_not_lift_it() {
    let mut cluster = cluster(&[("BATON_TRADING__LIMITS__MAX_ORDERS_PER_DAY", "2")]).await;
    executed(&cluster, base("one", GOLD, 140_000)).await;
    executed(&cluster, base("two", "COPPER", 905)).await;
    refused(&cluster, base("three", SILVER, 155_000), "MAX_ORDERS_PER_DAY").await;
    // Exits are never limited.
    executed(&cluster, exit("out", GOLD, "ALL", 140_000)).await;
    restart(&mut cluster).await;
    refused(&cluster, base("four", GOLD, 140_000), "MAX_ORDERS_PER_DAY").await;
    executed(&cluster, exit("out-too", "COPPER", "ALL", 905)).await;
    cluster.finish().await;
}

// R: B4, LESSONS "restart dropped the day's realised loss and so bypassed the daily stop"
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_days_loss_latches_and_neither_a_recovery_nor_a_restart_lifts_it() {
    let mut cluster = cluster(&[("BATON_TRADING__LIMITS__MAX_DAILY_LOSS", "100000")]).await;
    executed(&cluster, base("held", GOLD, 140_000)).await;
    // Not at the stop: an open loss counts.
    price(&cluster, dec!(139400)).await;
    latched(&cluster, "MAX_DAILY_LOSS").await;
    wait::until("the leader counts the hit", PATIENCE, async || {
        let leader = cluster.leader().await;
        let hits = cluster.members[leader].metric("baton_limit_hits_total{code=\"MAX_DAILY_LOSS\"}").await;
        if hits == Some(1.0) { Ok(()) } else { Err(hits) }
    })
    .await;
    is_shown_anywhere(&cluster).await;
    let leader = cluster.leader().await;
    let shown = cluster.members[leader].metric("baton_limit_latched{code=\"MAX_DAILY_LOSS\"}").await;
    assert_eq!(shown, Some(1.0));
    is_told(&cluster, false).await;
    price(&cluster, dec!(140000)).await;
    refused(&cluster, base("more", SILVER, 155_000), "MAX_DAILY_LOSS").await;
    restart(&mut cluster).await;
    refused(&cluster, base("again", SILVER, 155_000), "MAX_DAILY_LOSS").await;
    is_told(&cluster, false).await;
    executed(&cluster, exit("out", GOLD, "ALL", 140_000)).await;
    // As the runbook lifts a latch that rests on a wrong price; the next leader ends what was told of it.
    cluster.sql.batch_execute("DELETE FROM limit_latch").await.unwrap();
    restart(&mut cluster).await;
    is_told(&cluster, true).await;
    let check = cluster.finish().await;
    assert_eq!(check.orders, 2);
}

/// Whoever is asked for the day has the leader's figures, and `baton status` says that entries are over.
async fn is_shown_anywhere(cluster: &Cluster) {
    for member in &cluster.members {
        wait::until(&format!("{} shows the day", member.name), PATIENCE, async || {
            let day = member.json("/api/v1/day").await.unwrap_or_default();
            let figure = |name: &str| day[name].as_str().and_then(|text| text.parse::<Decimal>().ok());
            let equity = figure("equity").zip(figure("opening_equity"));
            let adds_up = equity.is_some_and(|(now, opening)| figure("pnl") == Some(now - opening));
            let is_lost = figure("pnl") <= Some(dec!(-100000)) && figure("unrealised") <= Some(dec!(-100000));
            let is_latched =
                day["latched"][0]["code"] == "MAX_DAILY_LOSS" && day["latched"][0]["at"].is_string();
            let counts =
                day["orders"] == 1 && day["stop_outs"] == 0 && figure("realised") == Some(Decimal::ZERO);
            if adds_up && is_lost && is_latched && counts { Ok(()) } else { Err((day, cluster.logs())) }
        })
        .await;
        let (_, said) = member.cli(&["status"]);
        let said: serde_json::Value = serde_json::from_str(&said).expect("one document");
        assert_eq!(said["day"]["latched"][0]["code"], "MAX_DAILY_LOSS", "{said}");
    }
}

/// It was told once in all, and it is over or not.
async fn is_told(cluster: &Cluster, over: bool) {
    wait::until(&format!("the latch is told, and over: {over}"), PATIENCE, async || {
        let sql = "SELECT scope, resolved, notification_count FROM error_notifications_log WHERE error_type = 'LIMIT_HIT'";
        let rows = cluster.sql.query(sql, &[]).await.unwrap();
        let rows: Vec<(String, bool, i64)> = rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
        if rows == [("MAX_DAILY_LOSS".to_owned(), over, 1)] { Ok(()) } else { Err((rows, cluster.logs())) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stop_outs_in_a_row_end_the_days_entries() {
    let mut cluster = cluster(&[("BATON_TRADING__LIMITS__MAX_CONSECUTIVE_STOP_OUTS", "1")]).await;
    executed(&cluster, base("held", GOLD, 140_000)).await;
    price(&cluster, dec!(139000)).await;
    latched(&cluster, "MAX_CONSECUTIVE_STOP_OUTS").await;
    restart(&mut cluster).await;
    refused(&cluster, base("again", GOLD, 139_000), "MAX_CONSECUTIVE_STOP_OUTS").await;
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_positions_are_limited_while_they_are_open() {
    let cluster = cluster(&[("BATON_TRADING__LIMITS__MAX_OPEN_POSITIONS", "1")]).await;
    executed(&cluster, base("held", GOLD, 140_000)).await;
    refused(&cluster, base("more", SILVER, 155_000), "MAX_OPEN_POSITIONS").await;
    executed(&cluster, exit("out", GOLD, "ALL", 140_000)).await;
    executed(&cluster, base("then", SILVER, 155_000)).await;
    cluster.finish().await;
}

// R: K9
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_day_that_the_ledger_knows_is_traded_and_an_unknown_one_is_closed_for_entries_only() {
    // The paper bridge's calendar is always open, and its sandbox trades contracts past their expiry.
    let mut cluster = of_shape("analyze", &[("BATON_TRADING__ALLOW_AFTER_MARKET", "false")]).await;
    executed(&cluster, base("held", GOLD, 140_000)).await;
    wait::until("hours and contracts are kept", PATIENCE, async || {
        let days = cluster.count("SELECT count(*) FROM market_day").await;
        let silver = format!("SELECT count(*) FROM contract_day WHERE symbol = '{SILVER_SYMBOL}'");
        let contracts = cluster.count(&silver).await;
        if days > 0 && contracts > 0 { Ok(()) } else { Err((days, contracts)) }
    })
    .await;
    let dead = json!({ "kind": "broker_error", "status": 500, "message": "no data", "placed": false });
    for verb in ["market/timings", "market/holidays", "symbol"] {
        cluster.paper.fault(json!({ "fault": dead, "verb": verb })).await;
    }
    restart(&mut cluster).await;
    executed(&cluster, base("by-the-ledger", SILVER, 155_000)).await;
    cluster
        .sql
        .batch_execute("DELETE FROM market_day; DELETE FROM market_holidays; DELETE FROM contract_day")
        .await
        .unwrap();
    restart(&mut cluster).await;
    refused(&cluster, base("closed", "COPPER", 905), "MARKET_CLOSED").await;
    refused(&cluster, base("unknown", "COPPER", 905), "CONTRACT_UNKNOWN").await;
    executed(&cluster, exit("out", GOLD, "ALL", 140_000)).await;
    cluster.finish().await;
}
