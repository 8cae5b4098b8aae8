//! Crash recovery: read all open state back, rebuild the portfolio, prove that it is whole.
//!
//! The same path serves a start, a takeover and a database's return. It only reads: a follower runs it to show that
//! it could lead; a leader runs it and then reconciles with the broker's books. What it cannot prove, it does not
//! trade on.

mod validate;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::domain::instrument::Catalog;
use crate::domain::money::Rupees;
use crate::domain::portfolio::Portfolio;
use crate::ledger::snapshot::Snapshot;
use crate::ledger::{Ledger, LedgerError};
use crate::telemetry::metrics::Metrics;

/// Why state could not be recovered; each has a section in the RUNBOOK.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// The database was not reached in any attempt.
    #[error("the database could not be read in {attempts} attempts")]
    DbUnavailable {
        /// How many attempts were made.
        attempts: u32,
        /// The last failure.
        #[source]
        source: LedgerError,
    },
    /// A row cannot be understood.
    #[error("stored state cannot be read")]
    DataCorrupt(#[source] LedgerError),
    /// Stored figures contradict each other.
    #[error("stored state contradicts itself: {}", .0.join("; "))]
    ValidationFailed(Vec<String>),
}

impl RecoveryError {
    /// The stable code: metric label, problem type and RUNBOOK anchor.
    pub fn code(&self) -> &'static str {
        match self {
            Self::DbUnavailable { .. } => "DB_UNAVAILABLE",
            Self::DataCorrupt(_) => "DATA_CORRUPT",
            Self::ValidationFailed(_) => "VALIDATION_FAILED",
        }
    }
}

/// Open state, proven whole.
#[derive(Debug)]
pub struct Recovered {
    /// What was read.
    pub snapshot: Snapshot,
    /// Positions, cash and high-water mark.
    pub portfolio: Portfolio,
    /// True when the ledger has no portfolio yet: the first leader writes it.
    pub first_time: bool,
}

impl Recovered {
    /// Rebuilds the portfolio from the rows and checks that they agree; the stored aggregates are only compared with
    /// it. `capital` is what an account without any history starts with.
    ///
    /// # Errors
    /// [`RecoveryError::ValidationFailed`] with every contradiction.
    pub fn prove(snapshot: Snapshot, capital: Rupees, catalog: &Catalog) -> Result<Self, RecoveryError> {
        let open_realised: Rupees = snapshot.positions.iter().map(|position| position.realised).sum();
        let stored = snapshot.portfolio;
        let cash = stored.map_or(capital, |row| row.capital);
        let portfolio = Portfolio {
            positions: snapshot.positions.clone(),
            pending: Vec::new(),
            cash,
            realised_closed: snapshot.realised - open_realised,
            equity_high: stored.map_or(cash, |row| row.equity_high),
            fixed_equity: Some(capital),
        };
        let faults = validate::faults(&snapshot, &portfolio, catalog);
        if !faults.is_empty() {
            return Err(RecoveryError::ValidationFailed(faults));
        }
        Ok(Self { first_time: stored.is_none(), snapshot, portfolio })
    }
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
        Self { ledger, catalog, capital, attempts, backoff, metrics }
    }

    /// Fetches, rebuilds and validates. Faults of the database are retried, faults of the data never.
    ///
    /// # Errors
    /// One of the three codes, logged and counted.
    pub async fn recover(&self) -> Result<Recovered, RecoveryError> {
        let begun = Instant::now();
        let result = self.attempt().await;
        self.metrics.recovery_duration.observe(begun.elapsed().as_secs_f64());
        match &result {
            Ok(recovered) => {
                let positions = recovered.portfolio.positions.len();
                self.metrics.recovery.with_label_values(&["success"]).inc();
                self.metrics.recovered_positions.set(i64::try_from(positions).unwrap_or(i64::MAX));
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

    async fn attempt(&self) -> Result<Recovered, RecoveryError> {
        let snapshot = self.fetch().await?;
        tracing::info!("[RECOVERY] Fetched {} open positions from database", snapshot.positions.len());
        Recovered::prove(snapshot, self.capital, &self.catalog)
    }

    async fn fetch(&self) -> Result<Snapshot, RecoveryError> {
        let mut wait = self.backoff;
        let mut attempt = 1;
        loop {
            match self.ledger.snapshot().await {
                Ok(snapshot) => return Ok(snapshot),
                Err(source) if !source.is_transient() => return Err(RecoveryError::DataCorrupt(source)),
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
                    tokio::time::sleep(wait).await;
                    wait *= 2;
                    attempt += 1;
                }
            }
        }
    }

    fn report(&self, error: &RecoveryError) {
        match error {
            RecoveryError::DbUnavailable { attempts, source } => tracing::error!(
                code = error.code(),
                error = source as &dyn std::error::Error,
                "[RECOVERY] Failed to fetch state data after {attempts} attempts"
            ),
            RecoveryError::DataCorrupt(source) => tracing::error!(
                code = error.code(),
                error = source as &dyn std::error::Error,
                "[RECOVERY] CRITICAL: State corruption detected - HALTING"
            ),
            RecoveryError::ValidationFailed(faults) => {
                for fault in faults {
                    tracing::error!(code = error.code(), "[RECOVERY] {fault}");
                }
                tracing::error!(
                    code = error.code(),
                    "[RECOVERY] CRITICAL: State corruption detected - HALTING"
                );
            }
        }
    }
}
