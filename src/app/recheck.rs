//! A leader proves stored state again and again: what was tampered with during its term is found within minutes, not
//! by its successor.

use std::sync::Arc;
use std::time::Duration;

use ha::Role;
use tokio::sync::watch;

use crate::health::operational::{OperationalState, State};
use crate::ledger::snapshot::Depth;
use crate::recovery::{CrashRecoveryManager, Severity};
use crate::telemetry::metrics::Metrics;

/// Examines stored state every `every` while this instance leads and trades. What does not add up is an ERROR: entries
/// stop, exits go on, each cut to what the broker holds. It lifts when a later look finds state whole.
pub(super) async fn stay_proven(
    mut role: watch::Receiver<Role>,
    recovery: CrashRecoveryManager,
    operational: OperationalState,
    metrics: Arc<Metrics>,
    every: Duration,
) {
    let mut found = None;
    loop {
        tokio::time::sleep(every).await;
        // Another term than that of the last look, or none: what was found then is not this one's.
        if role.has_changed().unwrap_or(true) {
            found = None;
        }
        if !matches!(*role.borrow_and_update(), Role::Leader(_)) {
            continue;
        }
        let report = recovery.examine(Depth::Open).await;
        // That took its time: whoever does not lead any more, or leads anew, is told nothing by it.
        if role.has_changed().unwrap_or(true) {
            continue;
        }
        let now = operational.watch().borrow().clone();
        match report.code {
            Some(code @ ("DATA_CORRUPT" | "VALIDATION_FAILED")) if now.state == State::Active => {
                for finding in report.findings.iter().filter(|f| f.severity == Severity::Critical) {
                    tracing::error!(code, "[RECOVERY] {finding}");
                }
                tracing::error!(code, "[RECOVERY] CRITICAL: State corruption detected - HALTING");
                metrics.recovery_failures.with_label_values(&[code]).inc();
                let sentences: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
                operational.error(code, format!("{code}: {}", sentences.join("; ")));
                found = Some(code);
            }
            // Only what was set here is lifted here: a takeover's own ERROR is the takeover's.
            None if found.is_some() && now.code == found => {
                operational.mended("stored state was looked at again and is whole");
                operational.active("stored state is whole again");
                found = None;
            }
            _ if now.code != found => found = None,
            _ => {}
        }
    }
}
