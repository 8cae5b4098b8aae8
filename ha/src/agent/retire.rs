//! Told to stop: a follower leaves once it has seen somebody in office, and else stands and leaves as the last leader.

use tokio::sync::oneshot;

use super::Agent;
use crate::clock::Moment;
use crate::observer::Sight;
use crate::role::{Retirement, Status};

/// Why a follower that sees nobody in office leaves all the same.
const BLIND: &str = "PostgreSQL has been away for T, so nobody can act for the cluster";

impl Agent {
    /// Answered by the state that finds out what this instance has come to.
    pub(super) fn retire(&mut self, reply: oneshot::Sender<Retirement>) {
        if self.watcher.retire(self.clock.now()) {
            self.say("was told to stop");
        }
        self.retiring = Some(reply);
    }

    /// Answers the one who asked to stop.
    pub(super) fn retired(&mut self, retirement: Retirement) {
        if let Some(reply) = self.retiring.take() {
            let _ = reply.send(retirement);
        }
    }

    /// For a follower: refuses offers from here on, and says whether it may leave. What binds it comes first.
    pub(super) fn retire_if_possible(&mut self) {
        if self.retiring.is_none() || self.bound.is_some() {
            return;
        }
        self.identity.wish(|wish| wish.status = Status::Draining);
        if self.watcher.may_leave() {
            self.retired(Retirement::MayLeave);
        } else if let Some(why) = self.cannot_lead() {
            self.retired(Retirement::Unable { why });
        }
    }

    /// When a follower that waits for a sign of a leader stops waiting for PostgreSQL.
    pub(super) fn waits_until(&self) -> Option<Moment> {
        match &*self.sight.borrow() {
            Sight::Blind { since, .. } if self.retiring.is_some() => Some(since.plus(self.config.timing.ttl)),
            _ => None,
        }
    }

    /// What keeps this instance from being the last leader, now that it sees no other one.
    fn cannot_lead(&self) -> Option<String> {
        if self.waits_until().is_some_and(|until| self.clock.now() >= until) {
            return Some(BLIND.to_owned());
        }
        let Sight::Seen(look) = &*self.sight.borrow() else { return None };
        if !self.watcher.waits_in_vain(self.clock.now()) {
            return None;
        }
        let standing = self.standing(look.row.holder.as_ref());
        let why = match (self.config.priority, standing.fenced, look.row.paused) {
            (0, ..) => "priority 0 never leads",
            (_, true, _) => "an operator fenced this member",
            (.., true) => "automatic failover is paused",
            _ => return None,
        };
        Some(why.to_owned())
    }
}
