//! After the release: the old leader is done when it reads a higher epoch, not before.

use super::lead::Handover;
use super::suspended::Exile;
use super::{Agent, Heard, Next};
use crate::clock::Moment;
use crate::config::Timing;
use crate::exile;
use crate::handover::{Succession, succession};
use crate::ids::Instance;
use crate::observer::Sight;
use crate::pin::Claim;
use crate::role::Stop;
use crate::stats::HandoverOutcome;
use crate::tenure::Silence;

/// A leadership that was let go and not yet taken.
pub(super) struct Released {
    pub(super) claim: Claim,
    pub(super) to: Instance,
    pub(super) released: Moment,
    pub(super) engine: Silence,
    pub(super) handover: Handover,
}

impl Agent {
    pub(super) async fn await_successor(&mut self, released: Box<Released>) -> Next {
        self.observer.pace(self.config.timing.watch);
        let Released { claim, to, released, engine, mut handover } = *released;
        loop {
            let look = match &*self.sight.borrow_and_update() {
                Sight::Seen(look) => Some(look.clone()),
                Sight::Dark | Sight::Blind { .. } => None,
            };
            let now = self.clock.now();
            match succession(claim.epoch, released, look.as_ref().map(|look| &look.row), now) {
                Succession::Done(epoch) => {
                    self.watcher.saw(epoch);
                    let gap = now.since(released);
                    let to = look.and_then(|look| look.row.holder.clone()).unwrap_or(to);
                    self.say(&format!("handed over to {to}, epoch {epoch}, in {} ms", gap.as_millis()));
                    let _ = handover.reply.send(HandoverOutcome::HandedOver { to, epoch, gap });
                    self.watcher.reset();
                    return Next::Follow;
                }
                Succession::Lapsed => {
                    handover.asked.insert(to);
                    let wait = exile::Exile::after_release(engine, now);
                    return Next::Suspend(Box::new(Exile::new(claim, wait, Some(handover))));
                }
                Succession::Open => {}
            }
            let nap = self.sleep_until(Some(released.plus(Timing::RESERVATION)));
            tokio::select! {
                Ok(()) = self.sight.changed() => {}
                () = nap => {}
                Some(command) = self.commands.recv() => {
                    if let Heard::Leave(done) = self.hear(command) {
                        return Next::Stop(Stop::Left, Some(done));
                    }
                }
            }
        }
    }
}
