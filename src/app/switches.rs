//! Switches that expire: ended by whichever instance sees it first, so that a pause ends without a leader, too. What was
//! said of strategies is read along.

use std::sync::Arc;
use std::time::Duration;

use crate::ledger::Ledger;
use crate::strategy::states::StateWatch;
use crate::telemetry::metrics::Metrics;

/// How often they are looked at: a switch ends at most so much late.
const LOOK: Duration = Duration::from_secs(1);

/// Ends expired switches and shows all of them as metrics, for as long as the process lives.
pub(super) async fn watch(ledger: Ledger, strategies: StateWatch, metrics: Arc<Metrics>) {
    loop {
        match ledger.expire_switches().await {
            Ok(ended) => {
                for switch in ended {
                    tracing::warn!("[HA] the time of switch {switch} is over: it is off");
                }
            }
            // The next look tries again; readiness tells of a database that is away.
            Err(error) => {
                tracing::debug!(error = &error as &dyn std::error::Error, "expired switches stay on")
            }
        }
        if let Ok(views) = ledger.switch_views().await {
            for view in views {
                metrics.switches.with_label_values(&[view.switch.as_str()]).set(i64::from(view.on));
            }
        }
        if let Ok(said) = ledger.strategies_said().await {
            strategies.heard(said);
            let states = strategies.load();
            for name in states.names() {
                let enabled = i64::from(states.may_enter(&name));
                metrics.strategy_enabled.with_label_values(&[&name]).set(enabled);
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}
