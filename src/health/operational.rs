//! STARTING, ACTIVE, WAITING, ERROR, SHUTDOWN: one transition table, in code and in the database.
//!
//! ```text
//! STARTING ─▶ WAITING(reason) ⇄ ACTIVE
//!     └──────────┴──▶ ERROR(code) ─▶ WAITING
//! any ─▶ SHUTDOWN
//! ```
//!
//! ERROR is left by [`OperationalState::mended`] alone: whoever calls it has looked at the cause and found it gone. A
//! store or a bridge that comes and goes proves nothing about a ledger that did not add up.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use ha::Instance;
use serde::Serialize;
use tokio::sync::{mpsc, watch};

use crate::domain::order::{UnknownName, named};
use crate::ledger::Ledger;
use crate::telemetry::metrics::Metrics;

/// How long to wait before storing a state again when the database was away.
const STORE_RETRY: Duration = Duration::from_millis(500);

/// Changes that may wait for the database at once; one beyond is shown and logged, but not stored.
const STORE_QUEUE: usize = 256;

/// The kind of operational state.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum State {
    /// The process has begun and knows nothing yet.
    Starting,
    /// It leads, is recovered and trades.
    Active,
    /// It does not trade, for a reason that passes: it follows, reconciles, or a store is away.
    Waiting,
    /// It does not trade until somebody acts.
    Error,
    /// It is on its way out.
    Shutdown,
}
named!(State {
    Starting = "STARTING",
    Active = "ACTIVE",
    Waiting = "WAITING",
    Error = "ERROR",
    Shutdown = "SHUTDOWN",
});

impl State {
    /// Says whether the state may change to `next`. The database holds the same table.
    pub fn may_become(self, next: Self) -> bool {
        use State::*;
        matches!(
            (self, next),
            (Starting, Waiting | Active | Error | Shutdown)
                | (Waiting, Active | Error | Shutdown)
                | (Active, Waiting | Error | Shutdown)
                | (Error, Waiting | Shutdown)
        )
    }
}

/// The state with its reason, as shown everywhere.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Operational {
    /// The kind.
    pub state: State,
    /// For ERROR, the code that the RUNBOOK explains.
    pub code: Option<&'static str>,
    /// A sentence.
    pub reason: String,
}

/// Sets and publishes the operational state; cheap to clone.
#[derive(Clone)]
pub struct OperationalState {
    sender: Arc<watch::Sender<Operational>>,
    changes: mpsc::Sender<Operational>,
    metrics: Arc<Metrics>,
}

/// Every change of the state, in order, on its way to the ledger.
pub struct Changes(mpsc::Receiver<Operational>);

impl OperationalState {
    /// Begins at STARTING; the changes are for [`store_changes`].
    pub fn new(metrics: Arc<Metrics>) -> (Self, Changes) {
        let starting =
            Operational { state: State::Starting, code: None, reason: "the process started".to_owned() };
        metrics.set_operational_state(starting.state.as_str());
        let (changes, queue) = mpsc::channel(STORE_QUEUE);
        (Self { sender: Arc::new(watch::Sender::new(starting)), changes, metrics }, Changes(queue))
    }

    /// The state now, and its changes.
    pub fn watch(&self) -> watch::Receiver<Operational> {
        self.sender.subscribe()
    }

    /// True while it trades.
    pub fn is_active(&self) -> bool {
        self.sender.borrow().state == State::Active
    }

    /// True until an ERROR is mended.
    pub fn is_error(&self) -> bool {
        self.sender.borrow().state == State::Error
    }

    /// Waits, for a reason that passes; an ERROR stays.
    pub fn waiting(&self, reason: impl Into<String>) {
        self.set(State::Waiting, None, reason.into(), |before| before != State::Error);
    }

    /// Ends an ERROR: what caused it was looked at again and is gone.
    pub fn mended(&self, reason: impl Into<String>) {
        self.set(State::Waiting, None, reason.into(), |before| before == State::Error);
    }

    /// Trades; an ERROR stays.
    pub fn active(&self, reason: impl Into<String>) {
        self.set(State::Active, None, reason.into(), |_| true);
    }

    /// Stops trading until somebody acts on `code`.
    pub fn error(&self, code: &'static str, reason: impl Into<String>) {
        self.set(State::Error, Some(code), reason.into(), |_| true);
    }

    /// On the way out.
    pub fn shutdown(&self, reason: impl Into<String>) {
        self.set(State::Shutdown, None, reason.into(), |_| true);
    }

    fn set(&self, state: State, code: Option<&'static str>, reason: String, from: fn(State) -> bool) {
        let next = Operational { state, code, reason };
        self.sender.send_if_modified(|current| {
            let allowed = from(current.state) && (current.state == state || current.state.may_become(state));
            if *current == next || !allowed {
                if current.state != state {
                    // An ERROR waits for its proof; a process on its way out stays there.
                    tracing::debug!(from = %current.state, to = %state, "[STATE] transition refused");
                }
                return false;
            }
            tracing::info!(
                from = %current.state, to = %state, code = next.code,
                "[STATE] {} -> {}: {}", current.state, state, next.reason
            );
            self.metrics.set_operational_state(state.as_str());
            self.metrics.trading_enabled.set(i64::from(state == State::Active));
            if self.changes.try_send(next.clone()).is_err() {
                tracing::warn!(
                    "[STATE] this change will be missing in the history: the database is away for long"
                );
            }
            *current = next.clone();
            true
        });
    }
}

/// Stores every change of the state, in order; retries while the database is away. Ends with the last handle.
pub async fn store_changes(ledger: Ledger, instance: Instance, mut changes: Changes) {
    while let Some(change) = changes.0.recv().await {
        let store =
            || ledger.set_operational_state(&instance, change.state.as_str(), change.code, &change.reason);
        while let Err(error) = store().await {
            if !error.is_transient() {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "[STATE] {} was not stored",
                    change.state
                );
                break;
            }
            tokio::time::sleep(STORE_RETRY).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_error() -> (OperationalState, Changes) {
        let (state, changes) = OperationalState::new(Arc::new(Metrics::new()));
        state.waiting("reconciling");
        state.active("leading under epoch 1");
        state.error("VALIDATION_FAILED", "it does not add up");
        (state, changes)
    }

    // R: N4, C4: entries would trade into what does not add up.
    #[test]
    fn nothing_but_its_proof_lifts_an_error() {
        let (state, _changes) = in_error();
        state.waiting("the bridge is not usable");
        state.active("the bridge answers again");
        state.waiting("no longer leading");
        state.active("leading under epoch 2");
        assert_eq!(state.watch().borrow().code, Some("VALIDATION_FAILED"));
        assert!(state.is_error() && !state.is_active());
        state.error("WRONG_MODE", "another one");
        assert_eq!(state.watch().borrow().code, Some("WRONG_MODE"));
        state.mended("looked at again and whole");
        assert_eq!(state.watch().borrow().state, State::Waiting);
        state.active("leading under epoch 2");
        assert!(state.is_active());
    }

    #[test]
    fn a_proof_moves_nothing_that_is_not_in_error_and_an_end_is_an_end() {
        let (state, _changes) = OperationalState::new(Arc::new(Metrics::new()));
        state.active("leading under epoch 1");
        state.mended("stored state was read back and is whole");
        assert!(state.is_active());
        let (state, _changes) = in_error();
        state.shutdown("SIGTERM");
        state.mended("stored state was read back and is whole");
        assert_eq!(state.watch().borrow().state, State::Shutdown);
    }
}
