//! Everything that can differ between two moments of a cluster. Small and `Copy`: millions of them are compared.

mod process;
mod stores;
mod wire;

use crate::config::{Config, FAULTS, Fault};

pub use process::*;
pub use stores::*;
pub use wire::*;

/// An instance: a place in the cluster.
pub type Id = u8;
/// A PostgreSQL session.
pub type Sid = u8;
/// An epoch; only the order of the epochs about is kept (see `canonical`).
pub type Epoch = u8;
/// Time left, or passed, in ticks.
pub type Ticks = u8;

/// At most so many instances.
pub const INSTANCES: usize = 3;
/// At most so many sessions that matter at once; a candidate waits for one to be free.
pub const SESSIONS: usize = 4;
/// At most so many intents.
pub const SLOTS: usize = 3;

/// The whole.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct State {
    /// What PostgreSQL has committed.
    pub db: Durable,
    /// What its standby has of it; as the primary where no failover is explored.
    pub standby: Durable,
    /// The server: sessions, locks.
    pub pg: Postgres,
    /// The lock.
    pub redis: Redis,
    /// The processes.
    pub at: [Instance; INSTANCES],
    /// Each intent's way to the broker.
    pub wire: [Wire; SLOTS],
    /// The position at the broker.
    pub net: i8,
    /// Faults left, by kind and in all.
    pub left: [u8; FAULTS],
    /// All faults left.
    pub left_in_all: u8,
    /// What the properties are about and no participant knows.
    pub ghost: Ghost,
}

/// What nobody in the cluster knows.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Ghost {
    /// The highest epoch under which anybody acted.
    pub top: Epoch,
    /// Who did.
    pub office: Owner,
    /// Intents that were ever committed, a bit each.
    pub committed: u8,
    /// Properties that a step broke, a bit each.
    pub broken: u16,
    /// Somebody left as the last one and acted by the exit policy.
    pub policy: bool,
    /// Somebody in office has found the stored state damaged.
    pub damage_seen: bool,
    /// How long after a failover a lost intent's order may still appear.
    pub unsettled: Ticks,
}

impl State {
    /// The beginning.
    pub fn first(config: &Config) -> Self {
        let blank = Intent { status: Status::Absent, quantity: 0, filled: 0, settle: 0 };
        let held = i8::try_from(config.held).unwrap_or(0);
        let db = Durable {
            epoch: 0,
            holder: Owner::Nobody,
            named: None,
            offer: None,
            halted: false,
            reduce_only: false,
            timeline: 0,
            flaps: 0,
            corrupt: false,
            intents: [blank; SLOTS],
            held,
        };
        let session = Session { life: Life::Free, owner: Owner::Nobody, journal: Journal::Idle };
        let mut state = Self {
            db,
            standby: db,
            pg: Postgres { up: true, timeline: 0, pin: None, updating: None, sessions: [session; SESSIONS] },
            redis: Redis { up: config.redis, lease: None, key: 0 },
            at: [Instance::new(false); INSTANCES],
            wire: [Wire::new(); SLOTS],
            net: held,
            left: config.budget,
            left_in_all: config.at_most,
            ghost: Ghost {
                top: 0,
                office: Owner::Nobody,
                committed: 0,
                broken: 0,
                policy: false,
                damage_seen: false,
                unsettled: 0,
            },
        };
        for instance in &mut state.at[..config.instances] {
            *instance = Instance::new(true);
        }
        if config.led {
            state.pg.sessions[0].life = Life::Live;
            state.pg.sessions[0].owner = Owner::Of(0);
            state.pg.pin = Some(0);
            state.db.epoch = 1;
            state.db.holder = Owner::Of(0);
            state.db.named = Some(0);
            state.standby = state.db;
            if config.redis {
                state.redis.lease = Some(Lease { by: Owner::Of(0), epoch: 1, kind: Kind::Leader });
                state.redis.key = 1;
            }
            state.ghost.top = 1;
            state.ghost.office = Owner::Of(0);
            let leader = &mut state.at[0];
            leader.role = Role::Lead;
            leader.epoch = 1;
            leader.seen = 1;
            leader.pin = Some(0);
            leader.deadline = config.timing.validity;
            leader.term = Term::Serving;
        }
        state
    }

    /// Takes one fault from the budget.
    pub fn spend(&mut self, fault: Fault) -> Option<()> {
        let left = &mut self.left[fault as usize];
        *left = left.checked_sub(1)?;
        self.left_in_all = self.left_in_all.checked_sub(1)?;
        Some(())
    }

    /// An instance.
    pub fn of(&self, id: Id) -> &Instance {
        &self.at[usize::from(id)]
    }

    /// An instance, to be changed.
    pub fn of_mut(&mut self, id: Id) -> &mut Instance {
        &mut self.at[usize::from(id)]
    }

    /// A session.
    pub fn session(&self, sid: Sid) -> &Session {
        &self.pg.sessions[usize::from(sid)]
    }

    /// A session, to be changed.
    pub fn session_mut(&mut self, sid: Sid) -> &mut Session {
        &mut self.pg.sessions[usize::from(sid)]
    }

    /// A session that answers.
    pub fn serves(&self, sid: Option<Sid>) -> Option<Sid> {
        sid.filter(|sid| self.pg.up && matches!(self.session(*sid).life, Life::Live | Life::Dying))
    }
}
