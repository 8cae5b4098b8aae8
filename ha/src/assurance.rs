//! What an instance that was told to stop has to see before it may leave: that somebody is in office.
//!
//! A higher epoch in the row does not show that. A candidate may commit one too late to use it, and give up again; if
//! everybody then left as a follower, nobody would act by the exit policy. So a follower leaves on a heartbeat that came
//! after it was told to stop, and after it last stood or led itself. Without one it stands, and leaves as the last leader.
//! Pure; the follower's machine feeds it.

use std::time::Duration;

use crate::clock::Moment;
use crate::election::{Look, Row};
use crate::ids::{Epoch, Instance};
use crate::session::Backend;

/// The way of one follower from the word to stop to the heartbeat that lets it go.
#[derive(Debug)]
pub(crate) struct Assurance {
    /// Looks that began before this show what was, not what is.
    from: Moment,
    first: Option<Sign>,
    given: bool,
}

/// A leader's counter as it was first seen.
#[derive(Debug)]
struct Sign {
    epoch: Epoch,
    pin: Backend,
    counter: i64,
}

// === impl Assurance ===

impl Assurance {
    /// Told to stop, or stood itself, at this moment.
    pub(crate) fn from(now: Moment) -> Self {
        Self { from: now, first: None, given: false }
    }

    /// Whether a heartbeat was seen.
    pub(crate) fn is_given(&self) -> bool {
        self.given
    }

    /// How long it has waited for one.
    pub(crate) fn waited(&self, now: Moment) -> Duration {
        now.since(self.from)
    }

    /// Takes a look in. Before the first promotion of all there is nothing to act on. A heartbeat of its own, sent before
    /// it lost leadership and arrived after, is no sign of another.
    pub(crate) fn note(&mut self, look: &Look, me: &Instance) {
        if look.started < self.from || self.given || look.row.holder.as_ref() == Some(me) {
            return;
        }
        let beaten = self.first.as_ref().is_some_and(|first| first.beats_in(&look.row));
        self.given = beaten || look.row.epoch == Epoch::ZERO;
        if !self.given {
            self.first = Sign::of(&look.row, self.first.take());
        }
    }
}

// === impl Sign ===

impl Sign {
    /// The first of this leader's signs; none if nobody holds the pin.
    fn of(row: &Row, known: Option<Self>) -> Option<Self> {
        let (pin, Row { epoch, counter, .. }) = (row.pin?, row);
        let same = known.filter(|sign| sign.is_of(row));
        Some(same.unwrap_or(Self { epoch: *epoch, pin, counter: *counter }))
    }

    fn is_of(&self, row: &Row) -> bool {
        self.epoch == row.epoch && row.pin == Some(self.pin)
    }

    /// A promotion and a resumption move the counter, too, but also the epoch or the session: they may have come too
    /// late to be used.
    fn beats_in(&self, row: &Row) -> bool {
        self.is_of(row) && row.counter > self.counter
    }
}
