//! What Prometheus sees of a life with one failover.

use std::collections::BTreeMap;

use rust_decimal::dec;

use crate::catalogue::{CATALOGUE, Event, Family, Kind, Moved, families, is_catalogued};
use crate::signals::{GOLD, GOLD_SYMBOL, base, exit};
use crate::support::cluster::{Cluster, Options, PATIENCE};
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

/// What each running member exports.
async fn scraped(cluster: &mut Cluster) -> Vec<BTreeMap<String, Family>> {
    let mut found = Vec::new();
    for member in cluster.members.iter_mut().filter_map(|m| m.process.exited().is_none().then_some(m)) {
        let (_, text) = member.get("/metrics").await.expect("a member that runs answers");
        found.push(families(&text));
    }
    found
}

/// How much all members have counted of a series, or how far their gauges are from 0.
fn total(scrapes: &[BTreeMap<String, Family>], name: &str) -> f64 {
    scrapes.iter().map(|scrape| scrape[name].total()).sum()
}

/// Waits until every series that `event` moves has moved.
async fn moves(cluster: &mut Cluster, event: Event, before: &[BTreeMap<String, Family>]) {
    let mut left: Vec<_> = CATALOGUE.iter().filter(|row| row.moved == Moved::Life(event)).collect();
    wait::until(&format!("{event:?} moves its series"), PATIENCE, async || {
        let scrapes = scraped(cluster).await;
        scrapes.iter().for_each(is_catalogued);
        left.retain(|row| {
            let (now, then) = (total(&scrapes, row.name), total(before, row.name));
            if row.kind == Kind::Gauge { now == 0.0 } else { now <= then }
        });
        if left.is_empty() { Ok(()) } else { Err(left.iter().map(|row| row.name).collect::<Vec<_>>()) }
    })
    .await;
}

// R: H4
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_tell_who_leads_and_what_was_traded() {
    // Figures are counted here, not times: what leadership does on a starved machine is none of it. A killed leader's
    // session ends at once, whatever its lease.
    let env = vec![("BATON_TIMING__LEASE_TTL_MS", "3000".to_owned())];
    let mut cluster = Cluster::with(Options { env, ..Options::default() }).await;
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

    moves(&mut cluster, Event::Start, &[]).await;
    let fresh = scraped(&mut cluster).await;
    for row in
        CATALOGUE.iter().filter(|row| row.kind != Kind::Gauge && row.moved != Moved::Life(Event::Start))
    {
        // The feed is live before anybody trades.
        if !row.name.starts_with("baton_feed_") && row.name != "baton_notifications_total" {
            assert_eq!(total(&fresh, row.name), 0.0, "{} is counted though nothing happened", row.name);
        }
    }

    cluster.play(follower, &base("in", GOLD, 140_000)).await;
    cluster.post(follower, &base("in", GOLD, 140_000)).await;
    shows(&cluster, follower, "baton_signals_total{outcome=\"accepted\",type=\"BASE_ENTRY\"}", 1.0).await;
    shows(&cluster, follower, "baton_signals_total{outcome=\"repeated\",type=\"BASE_ENTRY\"}", 1.0).await;
    shows(&cluster, leader, "baton_signals_total{outcome=\"acted\",type=\"BASE_ENTRY\"}", 1.0).await;
    for state in ["journaled", "acknowledged", "filled"] {
        shows(&cluster, leader, &format!("baton_orders_total{{outcome=\"{state}\"}}"), 1.0).await;
    }
    for stage in ["decide", "journal", "send", "fill", "total"] {
        shows(&cluster, leader, &format!("baton_order_latency_seconds_count{{stage=\"{stage}\"}}"), 1.0)
            .await;
    }
    moves(&mut cluster, Event::Entry, &fresh).await;
    shows(&cluster, leader, "baton_orders_in_doubt", 0.0).await;

    let recoveries = ["baton_recovery_total{outcome=\"success\"}", "baton_recovery_duration_seconds_count"];
    let mut before = Vec::new();
    for member in &cluster.members {
        let mut own = Vec::new();
        for series in recoveries {
            own.push(member.metric(series).await.expect("the series is there from the start"));
        }
        before.push(own);
    }
    let (old, new, _) = cluster.kill_leader().await;
    assert_eq!(old, leader);
    shows(&cluster, new, "baton_leader", 1.0).await;
    shows(&cluster, new, "baton_leader_epoch", 2.0).await;
    shows(&cluster, new, "baton_leader_transitions_total{reason=\"crash\"}", 1.0).await;
    shows(&cluster, new, "baton_failover_duration_seconds_count", 1.0).await;
    shows(&cluster, new, "baton_recovered_positions", 1.0).await;
    // The takeover read its state back once.
    for (series, before) in recoveries.iter().zip(&before[new]) {
        shows(&cluster, new, series, before + 1.0).await;
    }

    moves(&mut cluster, Event::Failover, &fresh).await;

    cluster.members[old].restart().await;
    cluster.all_ready().await;
    cluster.play(old, &exit("out", GOLD, "ALL", 140_000)).await;
    shows(&cluster, new, "baton_signals_total{outcome=\"acted\",type=\"EXIT\"}", 1.0).await;
    shows(&cluster, old, "baton_leader", 0.0).await;
    let route = "baton_http_requests_total{code=\"202\",route=\"/webhook\"}";
    shows(&cluster, old, route, 1.0).await;
    cluster.finish().await;
}
