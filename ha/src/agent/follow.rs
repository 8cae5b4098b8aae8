//! Following: watch, stay warm, answer offers, stand when there is evidence.

use std::sync::Arc;

use uuid::Uuid;

use super::{Agent, Heard, Next, earliest};
use crate::clock::Moment;
use crate::election::{Decision, Row};
use crate::handover::binding;
use crate::observer::Sight;
use crate::role::{Leader, Role, Stop};

impl Agent {
    pub(super) async fn follow(&mut self) -> Next {
        self.observer.pace(self.config.timing.watch);
        self.warm.refill();
        self.show_leader(None);
        let mut look_at: Option<Moment> = None;
        loop {
            if self.refused() {
                return Next::Stop(self.duplicate(), None);
            }
            self.retire_if_possible();
            let wake = earliest(earliest(look_at, self.bound), self.waits_until());
            let nap = self.sleep_until(wake);
            tokio::select! {
                Ok(()) = self.sight.changed() => match self.see().await {
                    Some(Decision::Stand(ballot)) => return Next::Stand(ballot),
                    Some(Decision::Wait { look_at: at, .. }) => look_at = at,
                    Some(Decision::Acknowledge(_)) | None => look_at = None,
                },
                () = nap => {
                    let now = self.clock.now();
                    if self.bound.is_some_and(|until| now >= until) {
                        self.unbind();
                    }
                    if look_at.is_some_and(|at| now >= at) {
                        look_at = None;
                        self.observer.poke();
                    }
                },
                Ok(()) = self.roll.changed() => self.refresh_stats(),
                Some(command) = self.commands.recv() => {
                    if let Heard::Leave(done) = self.hear(command) {
                        return Next::Stop(Stop::Left, Some(done));
                    }
                }
            }
        }
    }

    /// Takes in what the observer sees now.
    async fn see(&mut self) -> Option<Decision> {
        let sight = self.sight.borrow_and_update().clone();
        let decision = match sight {
            Sight::Seen(look) => {
                let standing = self.standing(look.row.holder.as_ref());
                let decision = self.watcher.observe(&look, &standing);
                self.show_leader(Some(&look.row));
                let held_down = self.watcher.held_down(look.finished);
                self.identity.wish(|wish| wish.held_down = held_down);
                match &decision {
                    Decision::Wait { why, .. } => self.show_waiting(why),
                    Decision::Acknowledge(offer) => self.acknowledge(*offer).await,
                    Decision::Stand(_) => {}
                }
                Some(decision)
            }
            Sight::Blind { .. } => {
                self.show_leader(None);
                self.show_waiting("PostgreSQL is away");
                None
            }
            Sight::Dark => None,
        };
        self.refresh_stats();
        decision
    }

    /// Accepts an offer. From before the answer is stored it binds: this instance does not start to drain until
    /// it was promoted or the reservation must have lapsed.
    async fn acknowledge(&mut self, offer: Uuid) {
        let patience = self.config.timing.lock_timeout();
        let until = self.clock.now().plus(binding(&self.config.timing));
        match self.observer.acknowledge(offer, self.me.incarnation, patience).await {
            Ok(true) => {
                self.bound = Some(until);
                self.show_waiting("accepted a handover");
            }
            Ok(false) => tracing::debug!("[HA] an offer came before this instance was stored as active"),
            Err(error) => {
                // The answer may have been stored all the same.
                self.bound = Some(until);
                tracing::warn!("[HA] could not answer the leader's offer: {error}");
            }
        }
    }

    fn show_leader(&self, row: Option<&Row>) {
        let leader = row.filter(|row| row.pin.is_some()).and_then(|row| {
            let instance = row.holder.clone()?;
            Some(Leader { instance, epoch: row.epoch, address: row.holder_address.clone() })
        });
        self.role.send_if_modified(|role| match role {
            Role::Follower { leader: known } if *known == leader => false,
            _ => {
                *role = Role::Follower { leader };
                true
            }
        });
    }

    fn show_waiting(&self, why: &str) {
        self.stats.send_if_modified(|stats| {
            let changed = *stats.waiting != *why;
            if changed {
                stats.waiting = Arc::from(why);
            }
            changed
        });
    }
}
