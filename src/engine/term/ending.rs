//! A term's end: what was sent is answered, or in doubt for the next leader.

use std::sync::Arc;
use std::time::Duration;

use super::{End, Term};
use crate::domain::ids::IntentId;
use crate::engine::readings::FIRST_POLL;
use crate::engine::senders::proof;
use crate::ledger::LedgerError;

/// How long a draining term waits for answers to what it has sent.
const DRAIN: Duration = Duration::from_secs(2);

impl Term<'_> {
    /// Decides nothing new; waits until everything sent has its answer recorded, for a bounded time.
    pub(super) async fn drain(&mut self) -> End {
        let until = self.fence().now().plus(DRAIN);
        while self.in_flight > 0 {
            self.engine.pulse.beat();
            let left = until.until(self.fence().now());
            let fence = self.fence().clone();
            tokio::select! {
                why = fence.closed() => return End::Fenced(why),
                Some(event) = self.events.recv() => {
                    if let Err(error) = self.apply_all(event).await {
                        return self.failed(error);
                    }
                }
                () = tokio::time::sleep(left.min(Duration::from_millis(100))) => {
                    if left.is_zero() {
                        tracing::warn!(in_flight = self.in_flight, "[SHUTDOWN] orders unanswered: in doubt for the next leader");
                        return End::Drained;
                    }
                }
            }
        }
        End::Drained
    }

    /// Takes no more events; what those that nobody applied prove.
    pub(in crate::engine) fn last_words(&mut self) -> Vec<(IntentId, String)> {
        self.events.close();
        let mut words = Vec::new();
        while let Ok(event) = self.events.try_recv() {
            words.extend(proof(&event));
        }
        words
    }

    /// Waits for one event, a moment at most, and applies it.
    pub(in crate::engine) async fn next_event(&mut self) -> Result<(), End> {
        let fence = self.fence().clone();
        tokio::select! {
            why = fence.closed() => Err(End::Fenced(why)),
            Some(event) = self.events.recv() => match self.apply_all(event).await {
                Ok(()) => Ok(()),
                Err(error) => Err(self.failed(error)),
            },
            () = tokio::time::sleep(FIRST_POLL) => Ok(()),
        }
    }

    pub(in crate::engine) fn failed(&self, error: LedgerError) -> End {
        match error {
            LedgerError::Fenced(_) => {
                self.engine.metrics.fenced_writes.inc();
                End::Fenced(Arc::from(error.to_string()))
            }
            error => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "[HA] the ledger failed under the leader"
                );
                End::Ledger(error)
            }
        }
    }
}
