//! An order's bytes and what the broker has of them.

use super::{Id, Status, Ticks};

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

impl Wire {
    pub(super) fn new() -> Self {
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
