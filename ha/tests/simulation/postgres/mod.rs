//! PostgreSQL in memory, as far as leadership sees it: sessions, advisory locks, the lock on the leadership row
//! (FOR UPDATE against FOR SHARE, first come first served, with a lock timeout), transactions that are lost with
//! their session, commits that take time, `pg_terminate_backend`, and a copy that is promoted without its tail.
//!
//! A statement is sent by a task and executed by the server, whether or not somebody still waits for the answer.
//! A session ends when its client's socket is closed (a crash, not a pause), when it is terminated, or with the
//! server.

mod commit;
mod execute;
mod lock;
mod outage;
mod server;

use std::collections::VecDeque;
use std::rc::{Rc, Weak};

use ha::Instance;
use ha::election::{Offer, Row};
use ha::office::Office;
use ha::roll::Occupant;
use ha::{Backend, Database, Epoch, InstanceInfo};
use uuid::Uuid;

use crate::redis::Gate;
use crate::session::ClientEnd;
use crate::world::{Slot, World};

pub use outage::{fail_over, restart};
pub use server::{arrive, finish, open, terminate};

pub type SessionId = usize;
pub type Answer = Result<Said, Fault>;

/// A statement.
#[derive(Clone, Debug)]
pub enum Ask {
    Look,
    TryPin,
    ReleasePin,
    LockRow,
    Promote { to: Box<Change>, found: Epoch },
    Resume,
    Commit,
    Beat(Epoch),
    Offer { epoch: Epoch, id: Uuid, to: Instance },
    Withdraw(Epoch),
    Vacate(Epoch),
    Evict { pin: Backend, epoch: Epoch, counter: i64 },
    EndBackend(Backend),
    Acknowledge { offer: Uuid, me: Instance },
    TryMember(usize),
    Door(usize),
    EvictMember { member: usize, occupant: Occupant },
    Live { process: usize, info: Box<InstanceInfo>, turns: bool },
    Strike { process: usize },
    Journal { epoch: Epoch, process: usize },
}

/// What an answer says.
#[derive(Debug)]
pub enum Said {
    Done,
    Yes(bool),
    Look(Box<Row>),
    Office(Box<Office>),
    Beaten(bool, Epoch),
    Occupant(Option<Occupant>),
    Peers(Vec<(InstanceInfo, i64)>),
    Rows(usize),
}

/// Why there is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The session is over.
    Broken,
    /// A row lock was waited for in vain; the session goes on.
    LockTimeout,
}

/// The row a promotion writes.
#[derive(Clone, Debug)]
pub struct Change {
    pub epoch: Epoch,
    pub holder: Instance,
    pub reason: ha::Reason,
}

#[derive(Clone, Default)]
struct Table {
    epoch: Epoch,
    holder: Option<Instance>,
    holder_session: Option<Backend>,
    system: Option<i64>,
    timeline: Option<String>,
    offer: Option<(Uuid, Instance)>,
    counter: i64,
    instances: Vec<Registered>,
}

#[derive(Clone)]
struct Registered {
    process: usize,
    info: InstanceInfo,
    liveness: i64,
    gone: bool,
    acknowledged: Option<Uuid>,
}

struct Session {
    process: usize,
    client: Weak<ClientEnd>,
    alive: bool,
    /// The client closed its socket, and the server knows.
    finished: bool,
    queue: VecDeque<(Ask, Rc<Slot<Answer>>)>,
    doing: Doing,
    /// A transaction that holds the row's lock, with what it changed.
    transaction: Option<Pending>,
    since_idle: u64,
}

enum Pending {
    Nothing,
    Promotion(Box<Change>),
    Resumption,
}

enum Doing {
    Nothing,
    /// Waits for the row.
    Waiting(Ask, Rc<Slot<Answer>>),
    /// Its commit record is being written: it will not be interrupted.
    Committing,
}

#[derive(Default)]
struct RowLock {
    exclusive: Option<SessionId>,
    shared: Vec<SessionId>,
    waiting: VecDeque<SessionId>,
}

#[derive(Default)]
pub struct Postgres {
    pub gate: Gate,
    pub commits_stall_until: u64,
    sessions: Vec<Session>,
    table: Table,
    lock: RowLock,
    pin: Option<SessionId>,
    members: Vec<(usize, SessionId)>,
    timeline: u32,
    /// What a copy has, from now on a while back.
    copies: VecDeque<(u64, Table)>,
    lock_timeout: u64,
    idle_timeout: u64,
}

fn backend(session: SessionId) -> Backend {
    Backend { pid: i32::try_from(session).unwrap() + 100, start: chrono::DateTime::UNIX_EPOCH }
}

impl Postgres {
    pub fn set_timeouts(&mut self, timing: &ha::Timing) {
        self.lock_timeout = u64::try_from(timing.lock_timeout().as_nanos()).unwrap();
        self.idle_timeout = u64::try_from(timing.idle_in_transaction().as_nanos()).unwrap();
    }

    pub fn epoch(&self) -> Epoch {
        self.table.epoch
    }

    pub fn database(&self) -> Database {
        Database { system_identifier: 1, timeline: format!("{:08}", self.timeline + 1) }
    }

    pub fn pin_session(&self) -> Option<SessionId> {
        self.pin
    }

    /// The process whose session holds the pin.
    pub fn pin_process(&self) -> Option<usize> {
        self.pin.map(|id| self.sessions[id].process)
    }

    pub fn sessions_of(&self, process: usize) -> Vec<SessionId> {
        let mine = |id: &SessionId| self.sessions[*id].alive && self.sessions[*id].process == process;
        (0..self.sessions.len()).filter(mine).collect()
    }

    fn listeners(&self) -> Vec<usize> {
        let mut heard: Vec<usize> = self.sessions.iter().filter(|s| s.alive).map(|s| s.process).collect();
        heard.sort_unstable();
        heard.dedup();
        heard
    }

    fn look(&self) -> Row {
        let t = &self.table;
        let offer = t.offer.as_ref().map(|(id, to)| Offer {
            id: *id,
            to: to.clone(),
            acknowledged: t.instances.iter().any(|r| r.info.instance == *to && r.acknowledged == Some(*id)),
        });
        Row {
            epoch: t.epoch,
            holder: t.holder.clone(),
            holder_address: None,
            counter: t.counter,
            pin: self.pin.map(backend),
            offer,
            paused: false,
            cluster: None,
        }
    }

    fn office(&self) -> Office {
        let t = &self.table;
        Office {
            epoch: t.epoch,
            cluster: None,
            paused: false,
            system_identifier: t.system,
            timeline: t.timeline.clone(),
            holder: t.holder.clone(),
        }
    }

    fn liveness_of(&self, member: usize, world: &World) -> i64 {
        let processes = world.processes.borrow();
        let of = |r: &&Registered| processes[r.process].member == member;
        self.table.instances.iter().filter(of).map(|r| r.liveness).sum()
    }
}
