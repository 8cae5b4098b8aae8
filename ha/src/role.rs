//! What an instance is at this moment, as a watched value.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::clock::Moment;
use crate::fence::Fence;
use crate::ids::{Epoch, Instance};

/// An instance's role.
///
/// ```text
/// Follower ⇄ Candidate ─▶ Leader(Fence) ⇄ Suspended
///     ▲                      │               │
///     └──────────────────────┴───────────────┘
/// any ─▶ Stopped
/// ```
#[derive(Clone, Debug)]
pub enum Role {
    /// Waits, warm. Also the role of an instance that does not reach its stores. An instance that led and lost
    /// leadership against its will comes back here with the status recovering, and stands for no election
    /// until it was set active again.
    Follower {
        /// Who leads, as far as this instance sees.
        leader: Option<Leader>,
    },
    /// Stands for election; lasts milliseconds.
    Candidate,
    /// Leads. What only a leader may use is reached through the fence.
    Leader(Fence),
    /// Led, lost its PostgreSQL session or its deadline, and tries to resume under the same epoch. Nothing may
    /// be sent; the fence it had is closed for good.
    Suspended {
        /// The epoch it led under.
        epoch: Epoch,
        /// Since when.
        since: Moment,
        /// What happened.
        why: Arc<str>,
    },
    /// Takes no further part.
    Stopped {
        /// Why.
        why: Stop,
    },
}

/// Who leads.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Leader {
    /// The instance.
    pub instance: Instance,
    /// Its epoch.
    pub epoch: Epoch,
    /// The base URL it can be reached under, if it is known.
    pub address: Option<String>,
}

/// Why an instance takes no further part.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Stop {
    /// It was asked to.
    #[error("left the cluster")]
    Left,
    /// A live process fills its member already.
    #[error("another live process is member {member}: stop it, or give this one a member name of its own")]
    Duplicate {
        /// The member's name.
        member: String,
    },
}

/// What an instance that was told to stop has come to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Retirement {
    /// It leads: the caller hands over, or does what the last one of all has to do.
    Leads,
    /// It follows, and has seen another instance in office since: it may leave.
    MayLeave,
    /// It saw nobody in office and cannot lead either: whoever is left has to see to it.
    Unable {
        /// Why it cannot.
        why: String,
    },
    /// It takes no further part already.
    Stopped,
}

/// How far an instance is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Reads its state back; never leads.
    Recovering,
    /// Ready to lead, or leading.
    Active,
    /// On its way out: finishes what it has, accepts no leadership.
    Draining,
}

// === impl Role ===

impl Role {
    /// The role's name: `follower`, `candidate`, `leader`, `suspended` or `stopped`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Follower { .. } => "follower",
            Self::Candidate => "candidate",
            Self::Leader(_) => "leader",
            Self::Suspended { .. } => "suspended",
            Self::Stopped { .. } => "stopped",
        }
    }

    /// The fence, for a leader.
    pub fn fence(&self) -> Option<&Fence> {
        match self {
            Self::Leader(fence) => Some(fence),
            _ => None,
        }
    }
}

// === impl Status ===

impl Status {
    /// The name in Redis, PostgreSQL and the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Recovering => "recovering",
            Self::Active => "active",
            Self::Draining => "draining",
        }
    }

    /// The status of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Recovering, Self::Active, Self::Draining].into_iter().find(|status| status.name() == name)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_names_round_trip() {
        for status in [Status::Recovering, Status::Active, Status::Draining] {
            assert_eq!(Status::from_name(status.name()), Some(status));
        }
        assert_eq!(Status::from_name("gone"), None);
    }
}
