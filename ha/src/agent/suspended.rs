//! Suspended: nothing is sent, the epoch is kept. It resumes on a new session if the row still names it, and
//! becomes a follower if the row does not, if another session keeps the pin for T, or if PostgreSQL is not the
//! one it was.

use std::sync::Arc;
use std::time::Duration;

use super::lead::{Handover, hang_sentence};
use super::{Agent, Heard, Next};
use crate::exile::{self, Turn};
use crate::identity::Membership;
use crate::observer::Sight;
use crate::pin::{self, Claim, PinError};
use crate::role::{Retirement, Stop};
use crate::session::Session;
use crate::stats::HandoverOutcome;
use crate::tenure::Tenure;

/// A leader without its pin.
pub(super) struct Exile {
    claim: Claim,
    wait: exile::Exile,
    handover: Option<Handover>,
}

impl Exile {
    pub(super) fn new(claim: Claim, wait: exile::Exile, handover: Option<Handover>) -> Self {
        Self { claim, wait, handover }
    }
}

impl Agent {
    pub(super) async fn come_back(&mut self, mut exile: Box<Exile>) -> Next {
        self.observer.pace(self.config.timing.watch);
        let mut pause = Duration::from_millis(10);
        loop {
            if self.refused() {
                return Next::Stop(self.duplicate(), None);
            }
            if let Some(why) = self.outbid(&exile.claim) {
                return self.give_up(*exile, &why);
            }
            let now = self.clock.now();
            let inside = self.roll.borrow().membership == Membership::Inside;
            let turn = exile.wait.turn(now, self.pulse.read(), inside, &self.config.timing);
            if turn == Turn::Hung {
                let why = hang_sentence(exile.wait.engine());
                answer(*exile, HandoverOutcome::Lost { why: why.clone() });
                self.stop_hanging(&why);
                return Next::Follow;
            }
            if turn == Turn::Try {
                match self.try_to_resume(&exile).await {
                    Ok((session, tenure)) => return self.resumed(*exile, session, tenure),
                    Err(
                        error @ (PinError::Outbid { .. }
                        | PinError::Overtaken(_)
                        | PinError::OtherDatabase
                        | PinError::OtherCluster { .. }),
                    ) => return self.give_up(*exile, &error.to_string()),
                    Err(PinError::Taken) => {
                        if exile.wait.found_taken(self.clock.now(), &self.config.timing) {
                            return self.give_up(*exile, "another session has held the pin for T");
                        }
                    }
                    Err(error) => {
                        exile.wait.failed();
                        tracing::debug!(member = %self.me.member, "[HA] not resumed yet: {error}");
                    }
                }
            }
            self.answer_late(&mut exile);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                Ok(()) = self.sight.changed() => self.refresh_stats(),
                Ok(()) = self.roll.changed() => self.refresh_stats(),
                Some(command) = self.commands.recv() => {
                    if let Heard::Leave(done) = self.hear(command) {
                        return Next::Stop(Stop::Left, Some(done));
                    }
                }
            }
            pause = (pause * 2).min(Duration::from_millis(200));
        }
    }

    async fn try_to_resume(&self, exile: &Exile) -> Result<(Session, Tenure), PinError> {
        let session = self.warm.session(self.connect_patience()).await?;
        let started = self.clock.now();
        let timing = self.config.timing;
        let resuming = pin::resume(&session, &exile.claim, timing.validity());
        self.against_blockers(session.backend.pid, resuming).await?;
        let now = self.clock.now();
        let deadline = Tenure::deadline_from(&timing, started);
        if now >= deadline {
            return Err(PinError::TimedOut { what: "resume in time", patience: timing.validity() });
        }
        Ok((session, Tenure::new(timing, now, deadline, exile.wait.engine())))
    }

    fn resumed(&self, exile: Exile, session: Session, tenure: Tenure) -> Next {
        let Exile { claim, wait, handover } = exile;
        let away = self.clock.now().since(wait.since());
        self.say(&format!("resumed epoch {} after {} ms", claim.epoch, away.as_millis()));
        let mut seat = self.seat(Arc::new(session), claim.epoch, tenure);
        seat.handover = handover;
        Next::Lead(Box::new(seat))
    }

    fn outbid(&mut self, claim: &Claim) -> Option<String> {
        let sight = self.sight.borrow_and_update().clone();
        let Sight::Seen(look) = sight else { return None };
        self.watcher.saw(look.row.epoch);
        (look.row.epoch > claim.epoch)
            .then(|| format!("epoch {} is in force, higher than {}", look.row.epoch, claim.epoch))
    }

    fn give_up(&mut self, exile: Exile, why: &str) -> Next {
        // A successor that came late still is one.
        let late = self.observer.look().and_then(|look| {
            let to = look.row.holder.clone()?;
            let gap = self.clock.now().since(exile.wait.since());
            let epoch = look.row.epoch;
            (epoch > exile.claim.epoch).then_some(HandoverOutcome::HandedOver { to, epoch, gap })
        });
        let outcome = late.unwrap_or_else(|| HandoverOutcome::Lost { why: why.to_owned() });
        answer(exile, outcome);
        self.demote(why);
        Next::Follow
    }

    /// Neither a handover nor a stop waits for ever for PostgreSQL.
    fn answer_late(&mut self, exile: &mut Exile) {
        let (away, ttl) = (self.clock.now().since(exile.wait.since()), self.config.timing.ttl);
        if away >= ttl * 2 {
            self.retired(Retirement::Unable { why: "leadership could not be resumed within 2 T".to_owned() });
        }
        if away < ttl {
            return;
        }
        if let Some(handover) = exile.handover.take() {
            let why = "leadership could not be resumed within T: check PostgreSQL".to_owned();
            let _ = handover.reply.send(HandoverOutcome::Lost { why });
        }
    }
}

fn answer(exile: Exile, outcome: HandoverOutcome) {
    if let Some(handover) = exile.handover {
        let _ = handover.reply.send(outcome);
    }
}
