//! The proof that nothing was lost when PostgreSQL failed over.
//!
//! The tail of the old server's commits may be gone: intents whose orders exist. A leader that finds reduce-only set by
//! a failover reads the broker's books until they prove the opposite: no order of the day is without an intent, nothing
//! is in doubt, and the reading began so late that whatever the old leader may still have written must show. Then the
//! switch is lifted. An order that no intent explains is reported and keeps it on, until an operator says otherwise.

use std::time::Duration;

use ha::Moment;

use super::Pace;
use super::evidence::Findings;
use super::term::Term;
use crate::ledger::LedgerError;

/// What a term knows of a failover.
#[derive(Clone, Copy, Debug)]
pub(super) struct Proof {
    /// When the term began.
    began: Moment,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Not looked yet.
    Unknown,
    /// Reduce-only because of a failover.
    Wanted,
    /// Nothing to prove, or no more.
    Over,
}

impl Proof {
    pub(super) fn new(began: Moment) -> Self {
        Self { began, state: State::Unknown }
    }

    /// True while the books have something to prove.
    pub(super) fn is_wanted(&self) -> bool {
        self.state == State::Wanted
    }
}

impl Pace {
    /// How long after a takeover an order of the former leader may still become visible: its bytes may be written until
    /// its send window ends, they die on the way after U, and the broker shows it within B.
    fn afterglow(&self) -> Duration {
        self.send_window + self.absence.user_timeout + self.absence.settle
    }
}

impl Term<'_> {
    /// Looks at a reading of the books for what it proves.
    pub(super) async fn prove_failover(
        &mut self,
        begun: Moment,
        findings: &Findings,
    ) -> Result<(), LedgerError> {
        if self.proof.state == State::Unknown {
            let since = self.ask_pool(|| self.engine.ledger.failover_unproven()).await?;
            self.proof.state = if since.is_some() { State::Wanted } else { State::Over };
            if since.is_some() {
                tracing::warn!(
                    "[RECOVERY] PostgreSQL failed over: no entries until every order of the day matches an intent"
                );
            }
        }
        if self.proof.state != State::Wanted {
            return Ok(());
        }
        if !findings.foreign.is_empty() {
            tracing::error!(
                orders = ?findings.foreign,
                "[RECOVERY] orders that no intent explains, after PostgreSQL failed over: their intents may be lost. \
                 Trading stays reduce-only until an operator has looked at them"
            );
        }
        if !findings.explain_every_order() || begun < self.proof.began.plus(self.engine.pace.afterglow()) {
            return Ok(());
        }
        // Whichever way it ends, this term is done with it: an operator's word is not waited for here.
        self.proof.state = State::Over;
        if self.ask_pool(|| self.engine.ledger.lift_failover(self.fence())).await? {
            tracing::warn!("[RECOVERY] every order of the day matches an intent: reduce-only is lifted");
        } else {
            tracing::warn!("[RECOVERY] reduce-only stays: an operator set it, or an order is unexplained");
        }
        Ok(())
    }
}
