//! The looks: at a takeover, every minute while leading, at once when an exit found too little, and for whoever asks.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use ha::Role;
use serde::Serialize;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::compare::{DiffRow, compare};
use super::orders::{OrderRow, orders};
use super::standing::{Drift, Standing};
use crate::broker::{Broker, BrokerError};
use crate::domain::order::IntentState;
use crate::ledger::{Ledger, LedgerError};
use crate::telemetry::metrics::Metrics;

/// The shortest wait between two looks, however often one is asked for.
const NOT_SOONER: Duration = Duration::from_millis(100);
/// Open orders that a report compares; the oldest are left out beyond it.
const MOST_ORDERS: i64 = 1000;

/// Why the two sides could not be compared. Nothing follows from that for any position.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The position book, or the session behind it, could not be verified.
    #[error("the broker's position book could not be verified: {0}")]
    Unverified(#[source] BrokerError),
    /// The ledger could not be read.
    #[error("the ledger could not be read: {0}")]
    Ledger(#[from] LedgerError),
}

/// One verified comparison.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct PositionDiff {
    /// When it was made.
    pub at: DateTime<Utc>,
    /// How many contracts drift.
    pub drift: usize,
    /// Every contract that either side holds.
    pub rows: Vec<DiffRow>,
}

/// A look, with the orders beside the positions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// The positions.
    pub positions: PositionDiff,
    /// Every order that the ledger takes for open.
    pub orders: Vec<OrderRow>,
    /// The broker's ids of today's orders that no intent explains.
    pub foreign: Vec<String>,
}

/// Compares, remembers, tells. One per process.
pub struct Reconciler {
    ledger: Ledger,
    broker: Arc<dyn Broker>,
    metrics: Arc<Metrics>,
    settle: Duration,
    drift: watch::Sender<Arc<Drift>>,
    /// Looks follow one another: an older reading must not overwrite a newer one's finding.
    turn: tokio::sync::Mutex<()>,
    failing: Mutex<bool>,
    wanted: Notify,
}

impl Reconciler {
    /// A difference is confirmed when it lasted for `settle`.
    pub fn new(ledger: Ledger, broker: Arc<dyn Broker>, metrics: Arc<Metrics>, settle: Duration) -> Self {
        Self {
            ledger,
            broker,
            metrics,
            settle,
            drift: watch::Sender::new(Arc::default()),
            turn: tokio::sync::Mutex::new(()),
            failing: Mutex::new(false),
            wanted: Notify::new(),
        }
    }

    /// What is known now.
    pub fn drift(&self) -> Arc<Drift> {
        Arc::clone(&self.drift.borrow())
    }

    /// Asks for a look soon.
    pub fn look_soon(&self) {
        self.wanted.notify_one();
    }

    /// Compares once and remembers nothing.
    ///
    /// # Errors
    /// What could not be read or verified (R1).
    pub async fn compare(&self) -> Result<PositionDiff, ReconcileError> {
        let before = self.ledger.holdings().await?;
        let (book, funds) = tokio::join!(self.broker.positions(), self.broker.funds());
        // A bridge whose session is dead may answer empty books; funds without data give it away.
        funds.map_err(ReconcileError::Unverified)?;
        let book = book.map_err(ReconcileError::Unverified)?;
        let after = self.ledger.holdings().await?;
        let rows = compare(&before, &book, &after);
        let drift = rows.iter().filter(|row| row.verdict.is_drift()).count();
        Ok(PositionDiff { at: Utc::now(), drift, rows })
    }

    /// Compares, remembers and tells what is new.
    ///
    /// # Errors
    /// As for [`Reconciler::compare`]; what was known stays.
    pub async fn look(&self) -> Result<PositionDiff, ReconcileError> {
        let _turn = self.turn.lock().await;
        let diff = self.compare().await?;
        let before = self.drift();
        let next = before.next(&diff.rows, Instant::now(), self.settle);
        self.tell(&before, &next);
        let confirmed = i64::try_from(next.confirmed().count()).unwrap_or(i64::MAX);
        self.metrics.position_drift.set(confirmed);
        self.metrics.reconcile_last_success.set(diff.at.timestamp_millis() as f64 / 1000.0);
        self.drift.send_replace(Arc::new(next));
        Ok(diff)
    }

    /// A look, and what the order book says of the orders that are open.
    ///
    /// # Errors
    /// As for [`Reconciler::compare`].
    pub async fn report(&self) -> Result<Report, ReconcileError> {
        let positions = self.look().await?;
        let open = IntentState::ALL.iter().filter(|state| !state.is_terminal());
        let open: Vec<String> = open.map(|state| state.as_str().to_owned()).collect();
        let before = self.ledger.orders_in(&open, MOST_ORDERS).await?;
        let books = self.broker.books().await.map_err(ReconcileError::Unverified)?;
        let after = self.ledger.orders_in(&open, MOST_ORDERS).await?;
        let shown = books.orders.iter().map(|order| &order.order_id);
        let ids: Vec<String> = shown.chain(books.foreign.iter().map(|row| &row.order_id)).cloned().collect();
        let foreign = self.ledger.unexplained_orders(&ids).await?;
        Ok(Report { positions, orders: orders(&before, &books.orders, &after), foreign })
    }

    fn tell(&self, before: &Drift, next: &Drift) {
        let confirmed = |drift: &Drift, key| {
            drift.of(key).filter(|known| known.standing == Standing::Confirmed).map(|k| (k.ledger, k.broker))
        };
        for (key, known) in next.confirmed() {
            if confirmed(before, key) != Some((known.ledger, known.broker)) {
                tracing::error!(
                    code = "POSITION_DRIFT",
                    "[RECONCILE] POSITION_DRIFT {key}: the ledger holds {}, the broker's verified book {}: entries are refused, an exit sells at most what the book holds; see `baton positions diff`",
                    known.ledger,
                    known.broker
                );
            }
        }
        for (key, _) in before.confirmed() {
            if next.of(key).is_none() {
                tracing::info!("[RECONCILE] {key}: ledger and broker agree again");
            }
        }
    }

    /// Looks every `every` while `role` leads, sooner for suspects and when asked, until `drain`.
    pub async fn run(
        self: Arc<Self>,
        mut role: watch::Receiver<Role>,
        every: Duration,
        drain: CancellationToken,
    ) {
        while !drain.is_cancelled() {
            let leads = matches!(*role.borrow_and_update(), Role::Leader(_));
            if !leads {
                // The leader's look is the one that counts; an old figure of this instance would stand beside it.
                self.metrics.position_drift.set(0);
            }
            let wait = if self.drift().has_suspects() { self.settle.min(every) } else { every };
            tokio::select! {
                _ = role.changed() => continue,
                () = drain.cancelled() => return,
                () = tokio::time::sleep(wait.max(NOT_SOONER)), if leads => {}
                () = self.wanted.notified(), if leads => tokio::time::sleep(NOT_SOONER).await,
            }
            match self.look().await {
                Ok(_) => {
                    self.now_failing(false);
                }
                Err(error) if !self.now_failing(true) => {
                    tracing::warn!("[RECONCILE] {error}; nothing is known of the positions until it can be")
                }
                Err(error) => tracing::debug!("[RECONCILE] {error}"),
            }
        }
    }

    /// Says it once per outage; gives what was so before.
    fn now_failing(&self, failing: bool) -> bool {
        let mut before = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *before, failing)
    }
}
