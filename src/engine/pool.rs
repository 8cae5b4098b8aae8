//! The pool gives no connection: a state of its own, not the end of the term.
//!
//! While the leader waits for a connection nothing was asked of the database, so its memory is not behind the truth, and
//! orders in flight keep their answers in the loop's queue. Ending the term would throw those away and put the orders in
//! doubt, to have the next term wait for the same pool. The heartbeat does not need the pool: if PostgreSQL itself is
//! away, the fence closes by its deadline, and that ends the term.

use std::time::Duration;

use super::term::Term;
use crate::health::operational::State;
use crate::ledger::LedgerError;

/// Between two tries.
const RETRY: Duration = Duration::from_millis(100);
/// The longest that a term waits for a connection; then the next one, which needs the pool first of all, says so.
const PATIENCE: Duration = Duration::from_secs(30);

impl Term<'_> {
    /// Asks the ledger by a pooled connection, again for as long as there is none.
    pub(super) async fn through_pool<T, A>(&self, mut ask: impl FnMut() -> A) -> Result<T, LedgerError>
    where
        A: Future<Output = Result<T, LedgerError>>,
    {
        let until = self.fence().now().plus(PATIENCE);
        let mut before: Option<String> = None;
        loop {
            let error = match self.patiently(ask()).await {
                Err(error @ LedgerError::Connect(_)) if self.fence().now() < until => error,
                answer => {
                    if let Some(reason) = before {
                        tracing::info!("[STATE] the ledger's pool has connections again");
                        self.engine.operational.active(reason);
                    }
                    return answer;
                }
            };
            if let Some(reason) = self.trading_as() {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "[STATE] no connection from the ledger's pool: waiting, the term goes on"
                );
                self.engine.operational.waiting(format!("DB_POOL: {error}; orders are kept, trying again"));
                before = Some(reason);
            }
            tokio::select! {
                _ = self.fence().closed() => return Err(error),
                () = tokio::time::sleep(RETRY) => self.engine.pulse.beat(),
            }
        }
    }

    /// What is said of trading while it goes on.
    fn trading_as(&self) -> Option<String> {
        let watched = self.engine.operational.watch();
        let now = watched.borrow();
        (now.state == State::Active).then(|| now.reason.clone())
    }
}
