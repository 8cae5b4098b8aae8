//! Whoever reports trouble says again and again that it is there. What only those report who have been silent for long is
//! over: an instance that died, or that nobody starts any more, takes nothing back itself.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::Notifier;
use super::event::{Kind, Life};
use crate::ledger::errors::GONE_AFTER;
use crate::ledger::{Ledger, LedgerError};

/// Between two words.
const MARK: Duration = Duration::from_secs(5);

pub(super) struct Presence {
    pub notifier: Notifier,
    pub ledger: Ledger,
    pub member: String,
    pub decided: Arc<Notify>,
}

impl Presence {
    /// Marks this member, and ends what nobody who is there reports, until `stopped`.
    pub async fn run(self, stopped: CancellationToken) {
        loop {
            match stopped.run_until_cancelled(self.look()).await {
                None => return,
                Some(Ok(())) => {}
                Some(Err(error)) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::debug!(error, "[NOTIFICATION] this instance could not say that it is there");
                }
            }
            if stopped.run_until_cancelled(tokio::time::sleep(MARK)).await.is_none() {
                return;
            }
        }
    }

    async fn look(&self) -> Result<(), LedgerError> {
        let silent_s = self.ledger.mark_reporter(&self.member).await?;
        if silent_s.is_some_and(|silent_s| silent_s >= GONE_AFTER.as_secs_f64()) {
            // Paused, or cut off: what it reported may have been ended meanwhile.
            self.notifier.say_again();
        }
        let lasting = Kind::ALL.iter().filter(|kind| kind.life() == Life::PerInstance);
        let lasting: Vec<&str> = lasting.map(|kind| kind.as_str()).collect();
        let over = self.ledger.end_reports_of_the_gone(&lasting, &self.member).await?;
        if over > 0 {
            tracing::info!(
                over,
                "[NOTIFICATION] errors are over: nobody who reported them is there any more"
            );
            self.decided.notify_one();
        }
        Ok(())
    }
}
