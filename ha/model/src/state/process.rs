//! What a process knows and does.

use super::{Epoch, Sid, Ticks};

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
    /// It was told to end and has seen a leader's heartbeat since it last stood or led.
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
