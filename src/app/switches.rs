//! Switches that expire: ended by whichever instance sees it first, so that a pause ends without a leader, too. What was
//! said of strategies is read along.

use std::sync::Arc;
use std::time::Duration;

use crate::ledger::Ledger;
use crate::ledger::instrument_switches::OF_INSTRUMENTS;
use crate::ledger::switching::SwitchView;
use crate::strategy::states::StateWatch;
use crate::telemetry::metrics::Metrics;

/// How often they are looked at: a switch ends at most so much late.
const LOOK: Duration = Duration::from_secs(1);

/// Ends expired switches and shows all of them as metrics, for as long as the process lives.
pub(super) async fn watch(
    ledger: Ledger,
    strategies: StateWatch,
    instruments: Vec<String>,
    metrics: Arc<Metrics>,
) {
    let mut shown = Vec::new();
    loop {
        // The next look tries again; readiness tells of a database that is away.
        if let Ok(views) = ledger.switch_views().await {
            if shown != views {
                show(&views, &instruments, &metrics);
            }
            // Nearly always there is none.
            let ends = |of_instrument: bool| {
                views.iter().any(|view| view.until.is_some() && view.instrument.is_some() == of_instrument)
            };
            if ends(false) {
                end_those_of_the_cluster(&ledger).await;
            }
            if ends(true) {
                end_those_of_instruments(&ledger).await;
            }
            shown = views;
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

async fn end_those_of_the_cluster(ledger: &Ledger) {
    match ledger.expire_switches().await {
        Ok(ended) => {
            for switch in ended {
                tracing::warn!("[HA] the time of switch {switch} is over: it is off");
            }
        }
        Err(error) => {
            tracing::debug!(error = &error as &dyn std::error::Error, "expired switches stay on")
        }
    }
}

async fn end_those_of_instruments(ledger: &Ledger) {
    match ledger.expire_instrument_switches().await {
        Ok(ended) => {
            for (instrument, switch) in ended {
                tracing::warn!("[HA] the time of switch {switch} of {instrument} is over: it is off");
            }
        }
        Err(error) => {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "expired switches of instruments stay on"
            )
        }
    }
}

/// Every switch of the cluster, and those of the configured instruments.
fn show(views: &[SwitchView], instruments: &[String], metrics: &Metrics) {
    for view in views.iter().filter(|view| view.instrument.is_none()) {
        metrics.switches.with_label_values(&[view.switch.as_str()]).set(i64::from(view.on));
    }
    for instrument in instruments {
        for switch in OF_INSTRUMENTS {
            let of =
                |view: &&SwitchView| view.instrument.as_ref() == Some(instrument) && view.switch == switch;
            let on = views.iter().find(of).is_some_and(|view| view.on);
            let labels = [instrument.as_str(), switch.as_str()];
            metrics.instrument_switches.with_label_values(&labels).set(i64::from(on));
        }
    }
}
