//! What Prometheus sees of a life with one failover.

use rust_decimal::dec;

use crate::signals::{GOLD, GOLD_SYMBOL, base, exit};
use crate::support::cluster::{Cluster, PATIENCE};
use crate::support::wait;

/// Waits until a series has the value (figures of the protocol are copied twice a second).
async fn shows(cluster: &Cluster, member: usize, series: &str, wanted: f64) {
    let member = &cluster.members[member];
    wait::until(&format!("{} shows {series} {wanted}", member.name), PATIENCE, async || {
        let found = member.metric(series).await;
        if found == Some(wanted) { Ok(()) } else { Err(found) }
    })
    .await;
}

// R: H4
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_tell_who_leads_and_what_was_traded() {
    let mut cluster = Cluster::start().await;
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    let leader = cluster.leader().await;
    let (follower, third) = ((leader + 1) % 3, (leader + 2) % 3);
    for (member, leads) in [(leader, 1.0), (follower, 0.0), (third, 0.0)] {
        shows(&cluster, member, "baton_leader", leads).await;
        shows(&cluster, member, "baton_leader_epoch", 1.0).await;
        shows(&cluster, member, "baton_trading_enabled", leads).await;
        shows(&cluster, member, "baton_instances{status=\"active\"}", 3.0).await;
        shows(&cluster, member, "baton_ha_degraded", 0.0).await;
        let state = if leads > 0.0 { "ACTIVE" } else { "WAITING" };
        shows(&cluster, member, &format!("baton_operational_state{{state=\"{state}\"}}"), 1.0).await;
    }
    shows(&cluster, leader, "baton_leader_transitions_total{reason=\"first_start\"}", 1.0).await;

    cluster.play(follower, &base("in", GOLD, 140_000)).await;
    cluster.post(follower, &base("in", GOLD, 140_000)).await;
    shows(&cluster, follower, "baton_signals_total{outcome=\"accepted\",type=\"BASE_ENTRY\"}", 1.0).await;
    shows(&cluster, follower, "baton_signals_total{outcome=\"repeated\",type=\"BASE_ENTRY\"}", 1.0).await;
    shows(&cluster, leader, "baton_signals_total{outcome=\"acted\",type=\"BASE_ENTRY\"}", 1.0).await;
    for state in ["journaled", "acknowledged", "filled"] {
        shows(&cluster, leader, &format!("baton_orders_total{{outcome=\"{state}\"}}"), 1.0).await;
    }
    shows(&cluster, leader, "baton_order_latency_seconds_count{stage=\"journal\"}", 1.0).await;
    shows(&cluster, leader, "baton_orders_in_doubt", 0.0).await;

    let (old, new, _) = cluster.kill_leader().await;
    assert_eq!(old, leader);
    shows(&cluster, new, "baton_leader", 1.0).await;
    shows(&cluster, new, "baton_leader_epoch", 2.0).await;
    shows(&cluster, new, "baton_leader_transitions_total{reason=\"crash\"}", 1.0).await;
    shows(&cluster, new, "baton_failover_duration_seconds_count", 1.0).await;
    shows(&cluster, new, "baton_recovered_positions", 1.0).await;
    // At its start, and at its takeover.
    shows(&cluster, new, "baton_recovery_total{outcome=\"success\"}", 2.0).await;
    shows(&cluster, new, "baton_recovery_duration_seconds_count", 2.0).await;

    cluster.members[old].restart().await;
    cluster.all_ready().await;
    cluster.play(old, &exit("out", GOLD, "ALL", 140_000)).await;
    shows(&cluster, new, "baton_signals_total{outcome=\"acted\",type=\"EXIT\"}", 1.0).await;
    shows(&cluster, old, "baton_leader", 0.0).await;
    let route = "baton_http_requests_total{code=\"202\",route=\"/webhook\"}";
    shows(&cluster, old, route, 1.0).await;
    cluster.finish().await;
}
