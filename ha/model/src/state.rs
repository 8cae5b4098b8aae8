//! Everything that can differ between two moments of a cluster. Small and `Copy`: millions of them are compared.

use crate::config::{Config, FAULTS, Fault};

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

/// Rows.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Durable {
    /// `leadership.epoch`.
    pub epoch: Epoch,
    /// `leadership.holder`: the incarnation that leads.
    pub holder: Owner,
    /// The session the row names, if that session is still about.
    pub named: Option<Sid>,
    /// `leadership.offer`.
    pub offer: Option<Offer>,
    /// Switch: no entries, no exits.
    pub halted: bool,
    /// Switch: no entries.
    pub reduce_only: bool,
    /// The timeline the epoch was minted on.
    pub timeline: u8,
    /// Involuntary transitions, as far as they are counted.
    pub flaps: u8,
    /// The stored state does not add up.
    pub corrupt: bool,
    /// Intents.
    pub intents: [Intent; SLOTS],
    /// The position.
    pub held: i8,
}

/// A process that is named somewhere.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Owner {
    /// None.
    Nobody,
    /// An incarnation that has ended.
    Ended,
    /// The present incarnation of an instance.
    Of(Id),
}

/// A handover's offer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Offer {
    /// To whom.
    pub to: Owner,
    /// Whether it was acknowledged.
    pub acknowledged: bool,
}

/// An intent's state in the ledger.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Status {
    /// No row.
    Absent,
    /// Its signal was refused by a switch.
    Refused,
    /// Committed, outcome unknown so far.
    Journaled,
    /// At the broker.
    Acknowledged,
    /// Ended with this fill.
    Done,
    /// Proven unsent.
    NotSent,
    /// Only the books can tell.
    InDoubt,
    /// Proven absent.
    Abandoned,
}

impl Status {
    /// It may still be filled.
    pub fn is_out(self) -> bool {
        matches!(self, Self::Journaled | Self::Acknowledged | Self::InDoubt)
    }
}

/// A row of `order_intent`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Intent {
    /// Its state.
    pub status: Status,
    /// Units ordered.
    pub quantity: i8,
    /// Units filled as far as booked.
    pub filled: i8,
    /// How long its absence proves nothing yet, as its leader reckons.
    pub settle: Ticks,
}

/// The database server.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Postgres {
    /// Accepts connections.
    pub up: bool,
    /// Which of its histories.
    pub timeline: u8,
    /// The session that holds the pin.
    pub pin: Option<Sid>,
    /// The session that has locked the leadership row for update.
    pub updating: Option<Sid>,
    /// Sessions.
    pub sessions: [Session; SESSIONS],
}

/// A session, as the server sees it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Session {
    /// Where it is in its life; an ended one is forgotten at once by all that knew it.
    pub life: Life,
    /// The process it was opened by, while that lives.
    pub owner: Owner,
    /// The journal statement on it.
    pub journal: Journal,
}

/// A session's life.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Life {
    /// There is none under this number.
    Free,
    /// Serves.
    Live,
    /// Was told to end, has not yet.
    Dying,
}

/// A journal statement: the points at which others can come between.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Journal {
    /// None.
    Idle,
    /// Sent; what it reads without a lock was read at this moment.
    Begun(Order),
    /// It has the row's share lock (unless that guard is missing) and has read the row.
    Locked(Order),
    /// Ended; its client may learn how.
    Ended(Order, Taken),
}

/// What a journal statement is to insert.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Order {
    /// Which intent.
    pub slot: u8,
    /// Units.
    pub quantity: i8,
    /// Under which epoch.
    pub epoch: Epoch,
    /// How long its bytes may still be written.
    pub send_by: Ticks,
    /// What is held suffices, as read without a lock.
    pub fits: bool,
    /// Epoch and switches allow it, as read under the lock.
    pub allowed: Taken,
}

/// What became of a journal statement.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Taken {
    /// Committed.
    Yes,
    /// A switch forbids its class.
    Switch,
    /// More than is held, or there is one already.
    Ledger,
    /// Another epoch.
    Fenced,
}

/// The lock's server.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Redis {
    /// Answers.
    pub up: bool,
    /// The lease.
    pub lease: Option<Lease>,
    /// The key that remembers the highest epoch.
    pub key: Epoch,
}

/// The lease.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Lease {
    /// Whose.
    pub by: Owner,
    /// Under which epoch it was written.
    pub epoch: Epoch,
    /// What its owner is; a leader's may be replaced at any time, so its expiry is not counted.
    pub kind: Kind,
}

/// What a lease's owner is, and how long the lease lasts.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// Leads.
    Leader,
    /// Stands for election.
    Candidate(Ticks),
    /// Was named by a handover.
    Reserved(Ticks),
}

/// A process.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Instance {
    /// What it does.
    pub role: Role,
    /// The epoch it leads, or led, under.
    pub epoch: Epoch,
    /// The highest epoch it has seen.
    pub seen: Epoch,
    /// The pinned session; none once that has ended, whether it knows or not.
    pub pin: Option<Sid>,
    /// The timeline that session is on.
    pub timeline: u8,
    /// Until when a leader may send.
    pub deadline: Ticks,
    /// What a follower has been watching, and for how long.
    pub watch: Watch,
    /// A follower whose session broke lets the incumbent come back first.
    pub patience: Ticks,
    /// It lost leadership against its will a moment ago.
    pub held_down: Ticks,
    /// How far it is with trading.
    pub term: Term,
    /// The session whose journal statement it waits for.
    pub journal: Option<Sid>,
    /// What it read of the broker's books and has not applied.
    pub reading: Option<Reading>,
    /// How far it is with handing over.
    pub going: Going,
    /// Was told to end.
    pub leaving: bool,
    /// An acknowledgement binds it for so long.
    pub bound: Ticks,
    /// It reaches the broker.
    pub link: bool,
    /// It was told to end and has seen a leader's heartbeat since.
    pub assured: bool,
}

/// What a process does.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Role {
    /// There is no process.
    Down,
    /// The process ended by plan.
    Gone,
    /// Follows.
    Follow,
    /// Stands for election.
    Stand(Ballot),
    /// Leads, as far as it knows.
    Lead,
    /// Keeps its epoch and sends nothing. Since when another session holds the pin.
    Suspended(Option<Ticks>),
    /// Suspended, has the pin again.
    Repinned,
    /// Suspended, has the pin again and the row locked.
    Reclaiming,
    /// Has let go and waits for a higher epoch. For how long.
    Released(Ticks),
}

/// A candidacy.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Ballot {
    /// The next step.
    pub step: Step,
    /// The epoch to end.
    pub epoch: Epoch,
    /// The session to end.
    pub evict: Option<Sid>,
    /// Nothing of what was observed has changed.
    pub intact: bool,
    /// A handover names it.
    pub named: bool,
    /// A reservation of somebody else has lapsed on its clock.
    pub past_reservation: bool,
    /// It has the lease.
    pub leased: bool,
}

/// The steps of a candidacy, each a yield point.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Step {
    /// Win the lease.
    Lease,
    /// End the stale leader's session.
    Evict,
    /// Take the pin.
    Pin,
    /// Lock the row.
    Lock,
    /// Commit the new epoch.
    Commit,
    /// Raise the epoch in Redis.
    Announce,
}

/// A follower's running observation of the pin.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Watch {
    /// None.
    Nothing,
    /// Held by the same session, counter and epoch unmoved, for so long.
    Still(Ticks),
    /// Free for so long.
    Free(Ticks),
}

/// How far a leader is with trading.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Term {
    /// Not at all.
    None,
    /// To put unfinished intents in doubt and read the state back.
    Doubting,
    /// To read the broker's books.
    Reconciling,
    /// Trades.
    Serving,
    /// Leads over damaged state: operator's orders only.
    Custodian,
}

/// How far a leader is with handing over.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Going {
    /// Stays.
    No,
    /// Journals nothing more; waits for what is in flight. The instances that were asked, a bit each.
    Draining(u8),
    /// Has offered leadership; for how long the offer waits.
    Offered(u8, Ticks),
}

/// One reading of the books: a bit a slot.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Reading {
    /// Its order is there.
    pub found: u8,
    /// It is not, and was looked for late enough.
    pub absent: u8,
}

/// An intent's way to the broker and its order there.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Wire {
    /// The task that sends it.
    pub sender: Sender,
    /// Written and not delivered: for how long. A second place for what is sent twice.
    pub bytes: [Option<Ticks>; 2],
    /// Orders the broker has accepted for it.
    pub orders: u8,
    /// For how long the broker may still hide the order.
    pub hidden: Ticks,
    /// Units ordered.
    pub quantity: i8,
    /// Units filled at the broker.
    pub filled: i8,
    /// The broker has ended it.
    pub ended: bool,
}

/// The task that sends one order.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Sender {
    /// None.
    Idle,
    /// Before its check. `lone`: the term that waits for it has ended.
    Ready {
        /// Whose.
        by: Id,
        /// How long it may still write.
        send_by: Ticks,
        /// Nobody waits for its outcome.
        lone: bool,
    },
    /// Between its check and its write.
    Checked {
        /// Whose.
        by: Id,
        /// How long ago the check was: the connection has been idle for at least that.
        age: Ticks,
        /// Nobody waits for its outcome.
        lone: bool,
    },
    /// Waits for the answer.
    Sent {
        /// Whose.
        by: Id,
    },
    /// Has an outcome to report.
    Got {
        /// Whose.
        by: Id,
        /// Which.
        outcome: Status,
    },
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

impl Instance {
    /// A process that has just joined, or the place of one.
    pub fn new(up: bool) -> Self {
        Self {
            role: if up { Role::Follow } else { Role::Down },
            epoch: 0,
            seen: 0,
            pin: None,
            timeline: 0,
            deadline: 0,
            watch: Watch::Nothing,
            patience: 0,
            held_down: 0,
            term: Term::None,
            journal: None,
            reading: None,
            going: Going::No,
            leaving: false,
            bound: 0,
            link: true,
            assured: false,
        }
    }

    /// There is a process.
    pub fn is_up(&self) -> bool {
        !matches!(self.role, Role::Down | Role::Gone)
    }
}

impl Wire {
    fn new() -> Self {
        Self {
            sender: Sender::Idle,
            bytes: [None; 2],
            orders: 0,
            hidden: 0,
            quantity: 0,
            filled: 0,
            ended: false,
        }
    }
}
