//! STARTING, ACTIVE, WAITING, ERROR, SHUTDOWN: one transition table, in code and in the database.
//!
//! ```text
//! STARTING ─▶ WAITING(reason) ⇄ ACTIVE
//!     └──────────┴──▶ ERROR(code) ─▶ WAITING
//! any ─▶ SHUTDOWN
//! ```
//!
//! ERROR is left by [`OperationalState::mended`] and [`OperationalState::over`] alone: whoever calls them has looked at the cause and found it gone. A
//! store or a bridge that comes and goes proves nothing about a ledger that did not add up.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use ha::Instance;
use serde::Serialize;
use tokio::sync::{mpsc, watch};

use super::rounds::Report;
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
    /// Since when it is this state, and this code.
    pub entered_at: DateTime<Utc>,
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
        let starting = Operational {
            state: State::Starting,
            code: None,
            reason: "the process started".to_owned(),
            entered_at: Utc::now(),
        };
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

    /// True until an ERROR of another code than this is mended.
    pub fn is_error_but(&self, code: &str) -> bool {
        let current = self.sender.borrow();
        current.state == State::Error && current.code != Some(code)
    }

    /// Waits, for a reason that passes; an ERROR stays.
    pub fn waiting(&self, reason: impl Into<String>) {
        self.set(State::Waiting, None, reason.into(), |before| before.state != State::Error);
    }

    /// Ends an ERROR: what caused it was looked at again and is gone.
    pub fn mended(&self, reason: impl Into<String>) {
        self.set(State::Waiting, None, reason.into(), |before| before.state == State::Error);
    }

    /// Ends an ERROR of this code; another one stays.
    pub fn over(&self, code: &'static str, reason: impl Into<String>) {
        let caused = |before: &Operational| before.state == State::Error && before.code == Some(code);
        self.set(State::Waiting, None, reason.into(), caused);
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

    fn set(
        &self,
        state: State,
        code: Option<&'static str>,
        reason: String,
        from: impl FnOnce(&Operational) -> bool,
    ) {
        self.sender.send_if_modified(|current| {
            let allowed = from(current) && (current.state == state || current.state.may_become(state));
            let stays = current.state == state && current.code == code;
            if !allowed || (stays && current.reason == reason) {
                if current.state != state {
                    // An ERROR waits for its proof; a process on its way out stays there.
                    tracing::debug!(from = %current.state, to = %state, "[STATE] transition refused");
                }
                return false;
            }
            let entered_at = if stays { current.entered_at } else { Utc::now() };
            let next = Operational { state, code, reason, entered_at };
            tracing::info!(
                from = %current.state, to = %state, code = next.code,
                "[STATE] {} -> {}: {}", current.state, state, next.reason
            );
            if current.state != state {
                self.metrics.operational_transitions.with_label_values(&[state.as_str()]).inc();
            }
            self.metrics.set_operational_state(state.as_str());
            self.metrics.trading_enabled.set(i64::from(state == State::Active));
            if self.changes.try_send(next.clone()).is_err() {
                tracing::warn!(
                    "[STATE] this change will be missing in the history: the database is away for long"
                );
            }
            *current = next;
            true
        });
    }
}

/// Stores every change of the state, in order, and each look at what it depends on; retries while the database is away.
/// Ends with the last handle.
pub async fn store_changes(
    ledger: Ledger,
    instance: Instance,
    mut changes: Changes,
    mut looks: watch::Receiver<Option<Report>>,
) {
    loop {
        let change = tokio::select! {
            biased;
            change = changes.0.recv() => change,
            Ok(()) = looks.changed() => {
                // The next look is as good.
                if let Err(error) = ledger.note_check(&instance).await {
                    tracing::debug!(error = &error as &dyn std::error::Error, "[STATE] a look was not noted");
                }
                continue;
            }
        };
        let Some(change) = change else { return };
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

    // R: N4: since when it is what it is; another sentence about the same is no other state, and each change is counted
    #[test]
    fn a_state_knows_since_when_it_is_and_changes_are_counted() {
        let metrics = Arc::new(Metrics::new());
        let (state, mut changes) = OperationalState::new(Arc::clone(&metrics));
        let shown = state.watch();
        let entered = || shown.borrow().entered_at;
        let began = entered();
        state.waiting("the bridge is away");
        let waits = entered();
        state.waiting("the bridge is still away");
        state.waiting("the bridge is still away");
        assert!(began <= waits && entered() == waits);
        state.error("DATA_CORRUPT", "row 7");
        let error = entered();
        state.error("WRONG_MODE", "the bridge is in the wrong mode");
        assert!(error > waits && entered() > error, "another code is another state");
        let counted = |state: State| {
            let counter = metrics.operational_transitions.with_label_values(&[state.as_str()]);
            counter.get()
        };
        assert_eq!((counted(State::Waiting), counted(State::Error), counted(State::Active)), (1, 1, 0));
        let mut stored = 0;
        while changes.0.try_recv().is_ok() {
            stored += 1;
        }
        assert_eq!(stored, 4, "each sentence is stored");
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
