//! What one exploration is about: how many instances, which orders, which faults, which guard is missing.

use crate::mutant::Mutant;
use crate::property::EPOCH_RISES;
use crate::state::Ticks;

/// The protocol's constants in ticks. An event at tick `t` with a limit of `n` may happen up to tick `t + n`.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// T: how long a leader's signs must stay the same before it is deposed.
    pub ttl: Ticks,
    /// T − margin: what a heartbeat buys.
    pub validity: Ticks,
    /// How long one that lost leadership lets others go first.
    pub hold_down: Ticks,
    /// How long a handover's reservation holds others off.
    pub reservation: Ticks,
    /// How long an offer waits for its answer.
    pub answer: Ticks,
    /// The life of a candidate's lease.
    pub candidate: Ticks,
    /// How long after its journaling began an order's bytes may be written.
    pub send_window: Ticks,
    /// U: how long written bytes may stay undelivered.
    pub user_timeout: Ticks,
    /// K: how long the bridge keeps an idle connection.
    pub idle_close: Ticks,
    /// D: how long a bridge may hide an order that it has accepted.
    pub hides: Ticks,
    /// B: how long an absent order is waited for.
    pub settle: Ticks,
}

impl Timing {
    /// The smallest constants in which every relation of the protocol is strict.
    pub const SMALL: Self = Self {
        ttl: 2,
        validity: 1,
        hold_down: 0,
        reservation: 1,
        answer: 1,
        candidate: 1,
        send_window: 1,
        user_timeout: 1,
        idle_close: 1,
        hides: 0,
        settle: 2,
    };

    /// From the takeover on: until when an inherited order may still appear. One more makes it "later than".
    pub fn inherited(&self) -> Ticks {
        self.absent_after(self.send_window)
    }

    /// When an absence is proven for an order that may be written for `send_by` more ticks.
    pub fn absent_after(&self, send_by: Ticks) -> Ticks {
        send_by + self.user_timeout + self.settle + 1
    }
}

/// Why an order exists.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// Opens a position.
    Entry,
    /// A signal's exit.
    Exit,
    /// A protective order that a stop level asks for.
    Protective,
    /// An operator's explicit close.
    Operator,
}

/// One place for an intent: a signal's leg and the attempt at it.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    /// Its class.
    pub class: Class,
    /// The slot of the attempt before it, which has to end first.
    pub after: Option<usize>,
}

impl Slot {
    /// A first attempt.
    pub const fn first(class: Class) -> Self {
        Self { class, after: None }
    }

    /// A further attempt.
    pub const fn again(class: Class, after: usize) -> Self {
        Self { class, after: Some(after) }
    }
}

/// Faults that are counted; each configuration allows some number of each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub enum Fault {
    /// A process dies; it may be started again.
    Crash,
    /// Somebody ends a PostgreSQL session.
    EndSession,
    /// PostgreSQL goes away and comes back.
    Outage,
    /// A standby that lacks the tail is promoted.
    Failover,
    /// SIGTERM.
    Terminate,
    /// The ledger hangs: the term ends, its statement still runs.
    HangLedger,
    /// The operator halts trading.
    Halt,
    /// The operator allows reduction only.
    ReduceOnly,
    /// The ledger's state is damaged.
    Corrupt,
    /// An instance is cut from the broker.
    CutLink,
}

/// How many kinds of counted faults there are.
pub const FAULTS: usize = 10;

/// One exploration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its name, as printed.
    pub name: &'static str,
    /// Instances.
    pub instances: usize,
    /// Their states are taken for the same when they differ only in who is who.
    pub symmetric: bool,
    /// The orders that may come to be.
    pub slots: &'static [Slot],
    /// What is held at the start, at the broker and in the ledger.
    pub held: u8,
    /// An entry's quantity.
    pub quantity: u8,
    /// Begins with instance 0 leading, or before the first election.
    pub led: bool,
    /// How often each fault may happen.
    pub budget: [u8; FAULTS],
    /// How many may happen in all.
    pub at_most: u8,
    /// There is a Redis; without one the protocol does without the lease.
    pub redis: bool,
    /// Redis may lose keys and be away at any time.
    pub redis_faults: bool,
    /// The standby may have more than the beginning when it is promoted.
    pub replicates: bool,
    /// The broker may end an order before it is filled.
    pub broker_ends: bool,
    /// An answer may be lost though its order arrived.
    pub silence: bool,
    /// More involuntary transitions than this make trading reduce-only.
    pub flap_limit: Option<u8>,
    /// The constants.
    pub timing: Timing,
    /// The guard that is missing.
    pub mutant: Option<Mutant>,
    /// Properties that are known not to hold here.
    pub excepted: &'static [&'static str],
}

impl Config {
    /// A cluster of `instances` with a leader, without orders or faults.
    pub fn new(name: &'static str, instances: usize) -> Self {
        Self {
            name,
            instances,
            symmetric: true,
            slots: &[],
            held: 0,
            quantity: 1,
            led: true,
            budget: [0; FAULTS],
            at_most: u8::MAX,
            redis: true,
            redis_faults: false,
            replicates: true,
            broker_ends: false,
            silence: false,
            flap_limit: None,
            timing: Timing::SMALL,
            mutant: None,
            excepted: &[],
        }
    }

    /// Allows a fault some times.
    #[must_use]
    pub fn with(mut self, fault: Fault, times: u8) -> Self {
        self.budget[fault as usize] = times;
        self
    }

    /// Takes one guard away.
    #[must_use]
    pub fn without(mut self, mutant: Mutant) -> Self {
        // A trace is read with instances in their places.
        self.symmetric = false;
        self.mutant = Some(mutant);
        self
    }

    /// Whether epochs are remembered beyond the row: needed only where a lost tail may take the row's away, and the
    /// question is which are given out then. Without, more is possible, not less.
    pub(crate) fn follows_epochs(&self) -> bool {
        self.budget[Fault::Failover as usize] > 0 && !self.excepted.contains(&EPOCH_RISES)
    }

    /// Whether this guard is missing.
    pub fn lacks(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }
}
