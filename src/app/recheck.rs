//! A leader proves stored state again and again: what was tampered with during its term is found within minutes, not
//! by its successor; and within a second of a follower's report. It seals the audit chain as it goes.

use std::time::Duration;

use ha::{Fence, Role};
use tokio::sync::watch;

use crate::engine::wholeness::Wholeness;
use crate::health::operational::{OperationalState, State};
use crate::ledger::Ledger;
use crate::ledger::seals::Sealing;
use crate::ledger::snapshot::Depth;
use crate::notify::{Event, Kind, Notifier};
use crate::recovery::{CrashRecoveryManager, Report};
use crate::telemetry::metrics::Metrics;

/// How often reports of followers are looked for.
const REPORTS: Duration = Duration::from_secs(1);
/// Between two looks of a custodian: a repair by hand is seen within this time.
const MENDING: Duration = Duration::from_secs(5);

/// What a leader's look at stored state works with.
pub(super) struct Recheck {
    pub ledger: Ledger,
    pub recovery: CrashRecoveryManager,
    pub operational: OperationalState,
    pub wholeness: Wholeness,
    pub metrics: std::sync::Arc<Metrics>,
    pub notifier: Notifier,
    /// Between two looks.
    pub every: Duration,
}

impl Recheck {
    /// Examines stored state while this instance leads. What does not add up is marked on the leadership row, so that
    /// nothing but a custodian's orders is journaled from then on, and the engine goes on as custodian; it ends when a
    /// later look finds state whole.
    pub async fn run(self, role: watch::Receiver<Role>) {
        let mut reports = None;
        let mut waited = Duration::ZERO;
        loop {
            let corrupt = self.in_custody();
            let every = if corrupt { self.every.min(MENDING) } else { self.every };
            let step = REPORTS.min(every);
            tokio::time::sleep(step).await;
            waited += step;
            let Role::Leader(fence) = role.borrow().clone() else {
                (reports, waited) = (None, Duration::ZERO);
                continue;
            };
            let told = match self.ledger.damage_reports().await {
                // What was reported before this term's first look here may be later than what the term began with.
                Ok(newest) => newest > reports.replace(newest).unwrap_or(0),
                // Away, or the pool is busy: the time will come round.
                Err(_) => false,
            };
            if !told && waited < every {
                continue;
            }
            if told {
                tracing::warn!("[RECOVERY] a follower finds stored state damaged: looking again");
            }
            waited = Duration::ZERO;
            self.look(&fence).await;
        }
    }

    fn in_custody(&self) -> bool {
        let now = self.operational.watch().borrow().clone();
        now.state == State::Error && matches!(now.code, Some("DATA_CORRUPT" | "VALIDATION_FAILED"))
    }

    async fn look(&self, fence: &Fence) {
        let report = self.recovery.examine(Depth::Open).await;
        if fence.check().is_err() {
            // That took its time: whoever does not lead any more, or leads anew, is told nothing by it.
            return;
        }
        match report.code {
            None => {
                self.wholeness.found(true);
                self.keep_audit(fence, &report).await;
            }
            Some(code @ ("DATA_CORRUPT" | "VALIDATION_FAILED")) => {
                let sentences: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
                match self.ledger.take_custody(fence, code, &sentences.join("; ")).await {
                    Ok(true) => self.tell(code, &report),
                    Ok(false) => {}
                    Err(error) => tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "[RECOVERY] damaged state could not be marked; looking again"
                    ),
                }
                self.wholeness.found(false);
            }
            // Not reached: nothing is known.
            Some(_) => {}
        }
    }

    /// Seals what has been walked, so that the next recovery walks on from there; tells of what does not fit.
    async fn keep_audit(&self, fence: &Fence, report: &Report) {
        let broken: Vec<&str> = report
            .findings
            .iter()
            .filter(|finding| finding.table == "audit_log")
            .map(|finding| finding.sentence.as_str())
            .collect();
        if !broken.is_empty() {
            self.notifier.raise(Event::new(Kind::AuditBroken, broken.join("; ")));
            return;
        }
        match self.ledger.seal_audit(fence.instance().member.as_str()).await {
            Ok(Sealing::Sealed(seal)) => tracing::info!(
                row = seal.seq,
                "[RECOVERY] the audit chain is whole and sealed up to row {}, head {}",
                seal.seq,
                seal.hash
            ),
            Ok(Sealing::Unchanged) => {}
            // Further back than a recovery walks.
            Ok(Sealing::Broken(faults)) => {
                self.notifier.raise(Event::new(Kind::AuditBroken, faults.join("; ")));
            }
            Err(error) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "[RECOVERY] the audit chain was not sealed; it will be walked from the last seal on"
            ),
        }
    }

    fn tell(&self, code: &'static str, report: &Report) {
        for finding in report.findings.iter().filter(|finding| finding.is_critical()) {
            tracing::error!(code, "[RECOVERY] {finding}");
        }
        tracing::error!(code, "[RECOVERY] CRITICAL: State corruption detected - HALTING");
        self.metrics.recovery_failures.with_label_values(&[code]).inc();
    }
}
