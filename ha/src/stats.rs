//! What metrics, the console and the operator read: states with a sentence each.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::clock::Moment;
use crate::ids::{Epoch, Instance, Member};
use crate::role::Status;

/// A snapshot of one instance's view.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Stats {
    /// The highest epoch seen anywhere.
    pub epoch: Epoch,
    /// Whether this instance leads.
    pub leading: bool,
    /// This instance's status as it was last stored.
    pub status: Option<Status>,
    /// PostgreSQL, as this instance's sessions see it.
    pub postgres: StoreState,
    /// Redis, as this instance sees it.
    pub redis: StoreState,
    /// Redis is away: leadership goes on without the lease.
    pub ha_degraded: bool,
    /// Promotions of this instance, by reason.
    pub transitions: BTreeMap<Reason, u64>,
    /// How often this instance lost leadership against its will.
    pub involuntary_losses: u64,
    /// How often this instance was suspended.
    pub suspensions: u64,
    /// How often a higher epoch put this instance out.
    pub fenced: u64,
    /// How long nobody led before this instance's last promotion, on its own clock.
    pub last_failover_gap: Option<Duration>,
    /// When a follower last saw the leader's heartbeat change.
    pub leader_seen: Option<Moment>,
    /// The operator's pause: no automatic failover.
    pub paused: bool,
    /// Why a follower is not standing for election, in words.
    pub waiting: Arc<str>,
    /// The last change, in one sentence.
    pub last_change: Arc<str>,
}

/// Whether a store answers.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum StoreState {
    /// Nothing was tried yet.
    #[default]
    Unknown,
    /// The last request was answered.
    Up,
    /// The last request failed.
    Down {
        /// Since when.
        since: Moment,
        /// What failed and what to do about it.
        why: Arc<str>,
    },
}

/// Why an instance became leader.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Nobody had led before.
    FirstStart,
    /// The last leader had left without a successor.
    Vacant,
    /// The last leader's pin was free: its process or its PostgreSQL session had ended.
    Crash,
    /// The last leader's heartbeat had stopped for T while it still held the pin.
    Stale,
    /// The last leader handed over.
    Handover,
}

/// One instance, as the registry shows it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct InstanceInfo {
    /// Who.
    pub instance: Instance,
    /// Version, for people.
    pub version: String,
    /// Build number; higher is newer.
    pub build: i64,
    /// Base URL.
    pub address: String,
    /// Lower stands sooner; 0 never leads.
    pub priority: u8,
    /// How far it is.
    pub status: Status,
    /// Whether its sign of life moved within T, on this instance's clock.
    pub alive: bool,
    /// Whether it lost leadership against its will a moment ago and lets others go first.
    pub held_down: bool,
    /// Whether an operator keeps its member from leading.
    pub fenced: bool,
    /// Whether it reaches what a leader works with beside the stores, as it says itself; none = it does not know.
    pub reach: Option<bool>,
    /// Whether it reached Redis within T, as it says itself; none = not tried yet.
    pub redis: Option<bool>,
}

/// How a handover ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HandoverOutcome {
    /// Another instance leads.
    HandedOver {
        /// Who.
        to: Instance,
        /// Its epoch.
        epoch: Epoch,
        /// From the release of the pin until the higher epoch was seen.
        gap: Duration,
    },
    /// Nobody took it; this instance still leads, under a new fence if the pin had been released.
    NoSuccessor {
        /// Who was asked, and why it came to nothing.
        why: String,
    },
    /// This instance was not leading.
    NotLeader,
    /// Leadership was lost on the way, or cannot be resumed while PostgreSQL is away.
    Lost {
        /// What happened.
        why: String,
    },
}

/// Why the list of instances could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("neither store could list the instances: PostgreSQL: {postgres}; Redis: {redis}")]
pub struct ListError {
    /// What PostgreSQL said.
    pub postgres: String,
    /// What Redis said.
    pub redis: String,
}

/// Names a successor for messages.
pub(crate) fn naming(to: Option<&Member>) -> String {
    to.map_or_else(|| "any ready instance".to_owned(), |member| format!("member {member}"))
}

// === impl HandoverOutcome ===

impl fmt::Display for HandoverOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HandedOver { to, epoch, gap } => {
                write!(f, "handed over to {}, epoch {epoch}, in {} ms", to.member, gap.as_millis())
            }
            Self::NoSuccessor { why } => write!(f, "keeps leading: {why}"),
            Self::NotLeader => f.write_str("it did not lead"),
            Self::Lost { why } => write!(f, "leadership was lost on the way: {why}"),
        }
    }
}

// === impl StoreState ===

impl StoreState {
    /// Whether the last request was answered.
    pub fn is_up(&self) -> bool {
        matches!(self, Self::Up)
    }

    /// Notes a failure; the moment of the first one is kept.
    pub(crate) fn fail(&mut self, now: Moment, why: &str) {
        let since = if let Self::Down { since, .. } = self { *since } else { now };
        *self = Self::Down { since, why: Arc::from(why) };
    }
}

// === impl Reason ===

impl Reason {
    /// The name in PostgreSQL, metrics and the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::FirstStart => "first_start",
            Self::Vacant => "vacant",
            Self::Crash => "crash",
            Self::Stale => "stale",
            Self::Handover => "handover",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
