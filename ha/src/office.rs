//! What the locked leadership row allows: whether a candidate may take the office and under which epoch, and
//! whether a leader that lost its session may go on. Pure; the pin's session carries it out in the transaction
//! that holds the row's lock.

use crate::election::Ballot;
use crate::ids::{Epoch, Instance};
use crate::session::Database;
use crate::stats::Reason;

/// The leadership row, read under its lock.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Office {
    /// The epoch in force.
    pub epoch: Epoch,
    /// The cluster that owns the database; none before the first promotion.
    pub cluster: Option<String>,
    /// The operator's pause.
    pub paused: bool,
    /// The system the last epoch was minted on.
    pub system_identifier: Option<i64>,
    /// The timeline the last epoch was minted on.
    pub timeline: Option<String>,
    /// Who holds it.
    pub holder: Option<Instance>,
}

/// What a promotion gives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Promotion {
    /// The new epoch.
    pub epoch: Epoch,
    /// The database is another system or timeline than the last epoch's: `reduce_only` is set with it.
    pub failed_over: bool,
}

/// Why the row says no.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// It is not as it was when the evidence was seen.
    Overtaken(String),
    /// It belongs to another cluster, which this is.
    OtherCluster(String),
    /// Another epoch is in force.
    Outbid(Epoch),
    /// There is no next epoch.
    Exhausted(Epoch),
}

// === impl Office ===

impl Office {
    /// Whether the ballot's candidate takes the office, and under which epoch: one above everything seen in
    /// PostgreSQL, in Redis or anywhere else (`floor`).
    pub fn promotion(
        &self,
        ballot: &Ballot,
        floor: Epoch,
        cluster: &str,
        here: &Database,
    ) -> Result<Promotion, Refusal> {
        if self.epoch != ballot.epoch {
            let why = format!("epoch {} is in force, not {}", self.epoch, ballot.epoch);
            return Err(Refusal::Overtaken(why));
        }
        if let Some(theirs) = self.cluster.as_ref().filter(|theirs| *theirs != cluster) {
            return Err(Refusal::OtherCluster(theirs.clone()));
        }
        if self.paused && ballot.reason != Reason::Handover {
            return Err(Refusal::Overtaken("automatic failover was paused".to_owned()));
        }
        let base = self.epoch.max(floor);
        let epoch = base.next().ok_or(Refusal::Exhausted(base))?;
        let failed_over = self.system_identifier.is_some_and(|system| system != here.system_identifier)
            || self.timeline.as_ref().is_some_and(|timeline| *timeline != here.timeline);
        Ok(Promotion { epoch, failed_over })
    }

    /// Whether `me` goes on under `epoch`.
    pub fn resumption(&self, me: &Instance, epoch: Epoch) -> Result<(), Refusal> {
        if self.epoch != epoch {
            return Err(Refusal::Outbid(self.epoch));
        }
        if self.holder.as_ref() != Some(me) {
            return Err(Refusal::Overtaken("the row names another holder".to_owned()));
        }
        Ok(())
    }
}
