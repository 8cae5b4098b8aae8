//! Crash recovery: read all open state back, rebuild the portfolio, prove that it is whole.
//!
//! The same path serves a start, a takeover and a database's return. It only reads: a follower runs it to show that
//! it could lead; a leader runs it and then reconciles with the broker's books. What it cannot prove, it does not
//! trade on.
//!
//! [`report`] is what it says, [`progress`] how far it has come, `validate` what it checks; [`reconcile`] compares with
//! the broker's position book.

pub mod adopt;
pub mod progress;
pub mod reconcile;
pub mod repair;
pub mod report;
pub mod salvage;
mod validate;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::domain::instrument::Catalog;
use crate::domain::money::Rupees;
use crate::domain::portfolio::{Aggregates, Portfolio};
use crate::failpoint;
use crate::ledger::snapshot::{Depth, Meter, Snapshot};
use crate::ledger::{Ledger, LedgerError};
use crate::telemetry::metrics::Metrics;
pub use progress::Progress;
use progress::{Step, Tracked, Tracker};
pub use report::{Finding, RecoveryError, Report, Severity};

/// A recovery that takes longer says how far it has come, again and again.
const STILL: Duration = Duration::from_secs(2);

/// Open state, proven whole.
#[derive(Debug)]
pub struct Recovered {
    /// What was read, but for the positions, which are the portfolio's.
    pub snapshot: Snapshot,
    /// Positions, cash and high-water mark.
    pub portfolio: Portfolio,
    /// True when the ledger has no portfolio yet: the first leader writes it.
    pub first_time: bool,
    /// What is worth a look and does not stop trading.
    pub warnings: Vec<Finding>,
}

impl Recovered {
    /// The portfolio that the rows give, whose positions it takes; of the stored aggregates it takes cash and the
    /// high-water mark alone.
    fn portfolio(snapshot: &mut Snapshot, capital: Rupees) -> Portfolio {
        let positions = std::mem::take(&mut snapshot.positions);
        let open_realised: Rupees = positions.iter().map(|position| position.realised).sum();
        let open_charges: Rupees = positions.iter().map(|position| position.charges).sum();
        let cash = cash(snapshot, capital);
        Portfolio {
            positions,
            pending: Vec::new(),
            cash,
            realised_closed: snapshot.realised - open_realised,
            charges_closed: snapshot.charges - open_charges,
            equity_high: snapshot.portfolio.map_or(cash, |row| row.equity_high),
            fixed_equity: Some(capital),
        }
    }

    /// The sums that the rows give.
    fn aggregates(snapshot: &Snapshot, capital: Rupees) -> Aggregates {
        Aggregates::of(&snapshot.positions, cash(snapshot, capital) + snapshot.realised, snapshot.charges)
    }

    /// Everything that does not add up in what was read; or could not be read.
    pub fn judged(read: Result<Snapshot, LedgerError>, capital: Rupees, catalog: &Catalog) -> Vec<Finding> {
        match read.map(|snapshot| Self::prove(snapshot, capital, catalog)) {
            Ok(Ok(recovered)) => recovered.warnings,
            Ok(Err(error)) => error.findings().to_vec(),
            Err(error) => Finding::unreadable(&error),
        }
    }

    /// Rebuilds the portfolio from the rows and checks that they agree; the stored aggregates are only compared with
    /// it. `capital` is what an account without any history starts with.
    ///
    /// # Errors
    /// [`RecoveryError::ValidationFailed`] with every contradiction.
    pub fn prove(mut snapshot: Snapshot, capital: Rupees, catalog: &Catalog) -> Result<Self, RecoveryError> {
        let findings = validate::findings(&snapshot, capital, catalog);
        if findings.iter().any(|finding| finding.is_critical()) {
            return Err(RecoveryError::ValidationFailed(findings));
        }
        let portfolio = Self::portfolio(&mut snapshot, capital);
        Ok(Self { first_time: snapshot.portfolio.is_none(), snapshot, portfolio, warnings: findings })
    }
}

/// Deposits less withdrawals; of an account without any history what it starts with.
fn cash(snapshot: &Snapshot, capital: Rupees) -> Rupees {
    snapshot.portfolio.map(|row| row.capital).or(snapshot.moved).unwrap_or(capital)
}

/// Recovers the state of one account from the ledger.
#[derive(Clone)]
pub struct CrashRecoveryManager {
    ledger: Ledger,
    catalog: Arc<Catalog>,
    capital: Rupees,
    attempts: u32,
    backoff: Duration,
    metrics: Arc<Metrics>,
    tracker: Tracker,
}

impl CrashRecoveryManager {
    /// A manager that makes up to `attempts` attempts, `backoff` after the first failed one and doubled each time.
    ///
    /// `capital` is what an account without any history starts with.
    pub fn new(
        ledger: Ledger,
        catalog: Arc<Catalog>,
        capital: Rupees,
        attempts: u32,
        backoff: Duration,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { ledger, catalog, capital, attempts, backoff, metrics, tracker: Tracker::default() }
    }

    /// Fetches, rebuilds and validates. Faults of the database are retried, faults of the data never.
    ///
    /// # Errors
    /// One of the three codes, logged and counted.
    pub async fn recover(&self) -> Result<Recovered, RecoveryError> {
        let begun = Instant::now();
        let tracked = self.tracker.begin(self.attempts);
        let result = tokio::select! {
            result = self.attempt(Depth::Open, Some(&tracked)) => result,
            never = tracked.tell(STILL) => match never {},
        };
        drop(tracked);
        self.metrics.recovery_duration.observe(begun.elapsed().as_secs_f64());
        match &result {
            Ok(recovered) => {
                let positions = recovered.portfolio.positions.len();
                tracing::info!("[RECOVERY] Fetched {positions} open positions from database");
                self.metrics.recovery.with_label_values(&["success"]).inc();
                self.metrics.recovered_positions.set(i64::try_from(positions).unwrap_or(i64::MAX));
                for warning in &recovered.warnings {
                    tracing::warn!("[RECOVERY] {warning}");
                }
                tracing::info!(
                    positions,
                    open_intents = recovered.snapshot.intents.len(),
                    took_ms = begun.elapsed().as_millis(),
                    "[RECOVERY] Crash recovery completed successfully"
                );
            }
            Err(error) => {
                self.metrics.recovery.with_label_values(&["failure"]).inc();
                self.metrics.recovery_failures.with_label_values(&[error.code()]).inc();
                self.report(error);
            }
        }
        result
    }

    /// How far the recovery has come that runs now; none runs most of the time.
    pub fn progress(&self) -> Option<Progress> {
        self.tracker.now()
    }

    /// Examines stored state and tells everything that does not add up. Changes
    /// nothing, counts nothing.
    pub async fn examine(&self, depth: Depth) -> Report {
        let begun = Instant::now();
        let result = self.attempt(depth, None).await;
        let took_ms = begun.elapsed().as_millis();
        match result {
            Ok(Recovered { snapshot, portfolio, warnings, .. }) => Report {
                ok: true,
                code: None,
                error: None,
                positions: portfolio.positions.len(),
                open_intents: snapshot.intents.iter().filter(|i| !i.state.is_terminal()).count(),
                in_doubt: snapshot.intents.iter().filter(|i| i.state.is_unresolved()).count(),
                findings: report::sorted(warnings),
                took_ms,
            },
            Err(error) => Report::failed(&error, took_ms),
        }
    }

    async fn attempt(&self, depth: Depth, tracked: Option<&Tracked>) -> Result<Recovered, RecoveryError> {
        let snapshot = self.fetch(depth, tracked).await?;
        if let Some(tracked) = tracked {
            tracked.step(Step::Proving);
            failpoint::hit("recovery_read");
        }
        Recovered::prove(snapshot, self.capital, &self.catalog)
    }

    /// Faults of the database are tried again; what the database says, however often asked, is the data's fault.
    async fn fetch(&self, depth: Depth, tracked: Option<&Tracked>) -> Result<Snapshot, RecoveryError> {
        let mut wait = self.backoff;
        let mut attempt = 1;
        loop {
            let meter = Arc::new(Meter::default());
            if let Some(tracked) = tracked {
                tracked.attempt(attempt, &meter);
            }
            match self.ledger.snapshot(depth, &meter).await {
                Ok(snapshot) => return Ok(snapshot),
                Err(error) if error.is_corruption() => {
                    return Err(RecoveryError::DataCorrupt(Finding::unreadable(&error)));
                }
                Err(source) if attempt >= self.attempts => {
                    return Err(RecoveryError::DbUnavailable { attempts: attempt, source });
                }
                Err(source) => {
                    tracing::warn!(
                        attempt,
                        error = &source as &dyn std::error::Error,
                        "[RECOVERY] attempt {attempt} of {} failed; the next in {} ms",
                        self.attempts,
                        wait.as_millis()
                    );
                    if let Some(tracked) = tracked {
                        tracked.step(Step::Waiting);
                    }
                    tokio::time::sleep(wait).await;
                    wait *= 2;
                    attempt += 1;
                }
            }
        }
    }

    fn report(&self, error: &RecoveryError) {
        if let RecoveryError::DbUnavailable { attempts, source } = error {
            return tracing::error!(
                code = error.code(),
                error = source as &dyn std::error::Error,
                "[RECOVERY] Failed to fetch state data after {attempts} attempts"
            );
        }
        for finding in error.findings() {
            tracing::error!(code = error.code(), severity = %finding.severity, "[RECOVERY] {finding}");
        }
        tracing::error!(code = error.code(), "[RECOVERY] CRITICAL: State corruption detected - HALTING");
    }
}
