//! Ends sessions that keep the leadership row locked.
//!
//! Whoever sits on that row stops the journal, the heartbeat and every candidate. While a statement of the
//! pinned session is pending, its blockers are named again and again; those named for the whole lock timeout,
//! or last before the statement ran into it, are ended.

use std::time::Duration;

use super::Agent;
use crate::pin::PinError;
use crate::session::Backend;

/// A statement that answers within this time is not looked into.
const UNSUSPICIOUS: Duration = Duration::from_millis(60);

impl Agent {
    /// Runs a statement of the session with this server process.
    pub(super) async fn against_blockers<T>(
        &self,
        pid: i32,
        work: impl Future<Output = Result<T, PinError>>,
    ) -> Result<T, PinError> {
        let patience = self.config.timing.lock_timeout();
        let mut named: Vec<(Backend, crate::clock::Moment)> = Vec::new();
        let mut work = std::pin::pin!(work);
        let outcome = loop {
            tokio::select! {
                biased;
                outcome = &mut work => break outcome,
                () = tokio::time::sleep(UNSUSPICIOUS) => {}
            }
            let sample = tokio::select! {
                biased;
                outcome = &mut work => break outcome,
                sample = self.observer.blockers(pid, patience) => sample,
            };
            let now = self.clock.now();
            let Ok(sample) = sample else { continue };
            named.retain(|(backend, _)| sample.contains(backend));
            for backend in sample {
                if !named.iter().any(|(known, _)| *known == backend) {
                    named.push((backend, now));
                }
            }
            let long: Vec<Backend> = named
                .iter()
                .filter(|(_, since)| now.since(*since) + UNSUSPICIOUS * 2 >= patience)
                .map(|(backend, _)| *backend)
                .collect();
            self.end_all(&long).await;
        };
        if outcome.as_ref().is_err_and(PinError::is_lock_timeout) {
            let all: Vec<Backend> = named.into_iter().map(|(backend, _)| backend).collect();
            self.end_all(&all).await;
        }
        outcome
    }

    async fn end_all(&self, blockers: &[Backend]) {
        for blocker in blockers {
            match self.observer.end(*blocker, self.config.timing.lock_timeout()).await {
                Ok(true) => tracing::warn!(
                    pid = blocker.pid,
                    "[HA] ended a session that kept the leadership row locked"
                ),
                Ok(false) => {}
                Err(error) => tracing::warn!("[HA] could not end a blocking session: {error}"),
            }
        }
    }
}
