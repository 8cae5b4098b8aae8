//! What PostgreSQL and Redis hold.

use super::{Epoch, Id, SESSIONS, SLOTS, Sid, Ticks};

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
