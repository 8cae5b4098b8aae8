//! What the protocol reports, as metrics.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ha::{Handle, Status};

use crate::telemetry::metrics::Metrics;

/// How often what has no event of its own is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// Copies the membership's figures into the metrics for as long as the process lives.
pub(super) async fn observe(handle: Arc<Handle>, metrics: Arc<Metrics>) {
    let mut stats = handle.stats();
    let mut counted = BTreeMap::new();
    let mut losses = 0;
    loop {
        let now = stats.borrow_and_update().clone();
        metrics.leader.set(i64::from(now.leading));
        metrics.leader_epoch.set(now.epoch.get());
        metrics.ha_degraded.set(i64::from(now.ha_degraded));
        metrics.lease_remaining.set(handle.lease_remaining().unwrap_or_default().as_secs_f64());
        for (reason, total) in &now.transitions {
            let before = counted.insert(*reason, *total).unwrap_or(0);
            metrics
                .leader_transitions
                .with_label_values(&[reason.name()])
                .inc_by(total.saturating_sub(before));
            if *total > before
                && let Some(gap) = now.last_failover_gap
            {
                metrics.failover_duration.observe(gap.as_secs_f64());
            }
        }
        metrics.leader_losses.inc_by(now.involuntary_losses.saturating_sub(losses));
        losses = now.involuntary_losses;
        count_instances(&handle, &metrics).await;
        tokio::select! {
            changed = stats.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

async fn count_instances(handle: &Handle, metrics: &Metrics) {
    let Ok(instances) = handle.instances().await else { return };
    for status in [Status::Recovering, Status::Active, Status::Draining] {
        let count = instances.iter().filter(|info| info.alive && info.status == status).count();
        let gauge = metrics.instances.with_label_values(&[status.name()]);
        gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}
