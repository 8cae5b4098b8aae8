//! Leading: beat while the engine does, offer leadership when asked to go, let go when anything says so.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::keeper::Keeper;
use super::{Agent, Command, Next};
use crate::config::OnHang;
use crate::exile;
use crate::fence::Fence;
use crate::handover::{Answer, Offering, choose};
use crate::ids::{Instance, Member};
use crate::observer::Sight;
use crate::pin::{self, Claim, PinError};
use crate::role::{Retirement, Role, Stop};
use crate::stats::HandoverOutcome;
use crate::tenure::{Duty, Silence, Tenure};

use super::succeed::Released;
use super::suspended::Exile;

/// What a leader has.
pub(super) struct Seat {
    pub(super) fence: Fence,
    pub(super) tenure: Tenure,
    pub(super) handover: Option<Handover>,
    pub(super) keeper: Keeper,
}

/// A handover somebody asked for.
pub(super) struct Handover {
    pub(super) to: Option<Member>,
    pub(super) asked: BTreeSet<Instance>,
    pub(super) offering: Option<Offering>,
    pub(super) reply: oneshot::Sender<HandoverOutcome>,
}

impl Agent {
    pub(super) async fn lead(&mut self, mut seat: Box<Seat>) -> Next {
        self.observer.pace(self.config.timing.renew);
        self.warm.refill();
        self.unbind();
        self.stats.send_modify(|stats| {
            stats.leading = true;
            stats.epoch = seat.fence.epoch();
            stats.waiting = Arc::from("");
        });
        self.role.send_replace(Role::Leader(seat.fence.clone()));
        loop {
            self.retired(Retirement::Leads);
            if let Some(next) = self.go_on_handing_over(&mut seat).await {
                return match next {
                    Step::Release => self.release(seat).await,
                    Step::Lost(why) => self.suspend(seat, &why),
                };
            }
            let wake = match seat.tenure.duty(self.clock.now(), self.pulse.read()) {
                Duty::Beat => match self.beat(&mut seat).await {
                    Ok(()) => continue,
                    Err(Beaten::Outbid(why)) => return self.fenced(&seat, &why),
                    Err(Beaten::Broken(why)) => return self.suspend(seat, &why),
                },
                Duty::Rest(at) | Duty::Withhold(at) => at,
                Duty::Expired => {
                    return self.suspend(seat, "no heartbeat was confirmed before the deadline");
                }
                Duty::Hung => return self.hung(&seat),
            };
            let offer_ends = seat.handover.as_ref().and_then(|h| h.offering.as_ref()).map(|o| o.until);
            let wake = offer_ends.map_or(wake, |ends| ends.min(wake));
            let pin = seat.fence.pin().clone();
            let nap = self.sleep_until(Some(wake));
            tokio::select! {
                biased;
                why = seat.fence.closed() => return self.fenced(&seat, &why),
                why = pin.ended() => return self.suspend(seat, &format!("PostgreSQL pin lost: {why}")),
                () = nap => {}
                Ok(()) = self.sight.changed() => self.look_up(&seat),
                Ok(()) = self.roll.changed() => {
                    self.refresh_stats();
                    if self.refused() {
                        seat.fence.close("another live process is this member");
                        seat.fence.pin().close();
                        return Next::Stop(self.duplicate(), None);
                    }
                }
                Some(command) = self.commands.recv() => match command {
                    Command::SetStatus(status, done) => self.set_status(status, done),
                    Command::HandOver(to, reply) => begin(&mut seat, to, reply),
                    Command::Retire(reply) => self.retire(reply),
                    Command::Leave(done) => return self.resign(&seat, done).await,
                },
            }
        }
    }

    /// One heartbeat. Whatever else the pinned session is doing comes first, so this also finds out whether
    /// the journal gets through.
    async fn beat(&mut self, seat: &mut Seat) -> Result<(), Beaten> {
        let started = self.clock.now();
        let patience = seat.tenure.deadline().until(started);
        let pin = seat.fence.pin().clone();
        let beating = pin::beat(&pin, seat.fence.epoch(), patience);
        match self.against_blockers(pin.backend.pid, beating).await {
            Ok(()) => match seat.tenure.confirmed(started, self.clock.now()) {
                Some(deadline) => {
                    seat.fence.extend(deadline);
                    Ok(())
                }
                None => Err(Beaten::Broken("a heartbeat was confirmed only after the deadline".to_owned())),
            },
            Err(error @ PinError::Outbid { highest, .. }) => {
                self.watcher.saw(highest);
                Err(Beaten::Outbid(error.to_string()))
            }
            Err(error) if error.spares_session() => {
                tracing::warn!("[HA] a heartbeat failed and is tried again: {error}");
                seat.tenure.failed(self.clock.now());
                Ok(())
            }
            Err(error) => Err(Beaten::Broken(error.to_string())),
        }
    }

    /// A higher epoch seen anywhere puts a leader out.
    fn look_up(&mut self, seat: &Seat) {
        let sight = self.sight.borrow_and_update().clone();
        if let Sight::Seen(look) = sight {
            self.watcher.saw(look.row.epoch);
            if look.row.epoch > seat.fence.epoch() {
                let why = format!("epoch {} is in force, higher than {}", look.row.epoch, seat.fence.epoch());
                seat.fence.report_fenced(&why);
            }
        }
        self.refresh_stats();
    }

    /// A fenced leader cleans up nothing but its pinned session.
    fn fenced(&mut self, seat: &Seat, why: &str) -> Next {
        seat.fence.report_fenced(why);
        seat.fence.pin().close();
        self.stats.send_modify(|stats| stats.fenced += 1);
        self.demote(why);
        Next::Follow
    }

    fn hung(&mut self, seat: &Seat) -> Next {
        let why = hang_sentence(seat.tenure.engine());
        seat.fence.close(&why);
        seat.fence.pin().close();
        self.stop_hanging(&why);
        Next::Follow
    }

    /// An engine that hangs is out: with its process, or back at the start.
    pub(super) fn stop_hanging(&mut self, why: &str) {
        if self.config.on_hang == OnHang::Abort {
            tracing::error!(
                member = %self.me.member,
                "[HA] {why}: aborts the process, so that nothing acts later"
            );
            std::process::abort();
        }
        self.demote(why);
    }

    /// Stops sending, keeps the epoch, tries to come back.
    pub(super) fn suspend(&mut self, seat: Box<Seat>, why: &str) -> Next {
        let now = self.clock.now();
        seat.fence.close(&format!("suspended: {why}"));
        seat.fence.pin().close();
        let claim = self.claim(&seat.fence);
        self.say(&format!("suspended under epoch {}: {why}", claim.epoch));
        self.stats.send_modify(|stats| {
            stats.leading = false;
            stats.suspensions += 1;
        });
        self.role.send_replace(Role::Suspended { epoch: claim.epoch, since: now, why: Arc::from(why) });
        let wait = exile::Exile::after(&seat.tenure, now, &self.config.timing);
        Next::Suspend(Box::new(Exile::new(claim, wait, seat.handover)))
    }

    /// What this leader can prove later to go on under its epoch.
    fn claim(&self, fence: &Fence) -> Claim {
        Claim {
            me: self.me.clone(),
            epoch: fence.epoch(),
            old: fence.pin().backend,
            database: fence.pin().database.clone(),
        }
    }

    /// Leaves without a successor.
    async fn resign(&mut self, seat: &Seat, done: oneshot::Sender<()>) -> Next {
        let patience = self.config.timing.lock_timeout();
        seat.fence.close("left the cluster");
        if let Err(error) = pin::vacate(seat.fence.pin(), seat.fence.epoch(), "left", patience).await {
            tracing::warn!("[HA] left without saying so: {error}");
        }
        seat.fence.pin().close();
        if let Err(error) = self.lease.give_back(&self.me).await {
            tracing::debug!("[HA] the lease was not given back, it expires: {error}");
        }
        Next::Stop(Stop::Left, Some(done))
    }

    /// Asks the next candidate, or reads the answer of the one asked.
    async fn go_on_handing_over(&mut self, seat: &mut Seat) -> Option<Step> {
        let patience = self.config.timing.lock_timeout();
        let (pin, epoch) = (seat.fence.pin().clone(), seat.fence.epoch());
        let handover = seat.handover.as_mut()?;
        if let Some(offering) = &handover.offering {
            let look = self.observer.look();
            match offering.answer(look.as_ref().map(|look| &look.row), self.clock.now()) {
                Answer::Open => return None,
                Answer::Accepted => return Some(Step::Release),
                Answer::Lapsed => {
                    handover.asked.insert(offering.to.clone());
                    handover.offering = None;
                }
            }
        }
        let peers = self.roll.borrow().peers.clone();
        match choose(&peers, &self.me, handover.to.as_ref(), &handover.asked) {
            Ok(to) => {
                let offering = Offering::new(to, self.clock.now(), &self.config.timing);
                let offered = pin::offer(&pin, epoch, offering.id, &offering.to, patience).await;
                self.observer.pace(self.config.timing.watch);
                handover.offering = Some(offering);
                match offered {
                    Ok(()) => None,
                    // Not written: the offer lapses unanswered, or the session is over anyway.
                    Err(error) if error.spares_session() => None,
                    Err(error) => Some(Step::Lost(error.to_string())),
                }
            }
            Err(why) => {
                if !handover.asked.is_empty() {
                    let withdrawing = pin::withdraw(&pin, epoch, patience);
                    match self.against_blockers(pin.backend.pid, withdrawing).await {
                        Ok(()) => {}
                        // An offer that stays could be accepted late: nobody is told that it keeps leading before it is
                        // gone, and the next turn of the loop tries again.
                        Err(error) if error.spares_session() => {
                            tracing::warn!("[HA] an unanswered offer is not withdrawn yet: {error}");
                            return None;
                        }
                        Err(error) => return Some(Step::Lost(error.to_string())),
                    }
                }
                self.observer.pace(self.config.timing.renew);
                let handover = seat.handover.take()?;
                self.say(&format!("keeps leading: {why}"));
                let _ = handover.reply.send(HandoverOutcome::NoSuccessor { why });
                None
            }
        }
    }

    /// Lets go: from here on this instance sends nothing, whatever comes of it.
    async fn release(&mut self, seat: Box<Seat>) -> Next {
        let Seat { fence, tenure, handover, keeper } = *seat;
        let Some((handover, to)) = handover.and_then(|mut handover| {
            let offering = handover.offering.take()?;
            Some((handover, offering.to))
        }) else {
            return Next::Follow;
        };
        let why = format!("hands over to {}", to.member);
        fence.close(&why);
        keeper.stop_renewing();
        let claim = self.claim(&fence);
        self.role.send_replace(Role::Suspended {
            epoch: claim.epoch,
            since: self.clock.now(),
            why: Arc::from(why),
        });
        self.stats.send_modify(|stats| stats.leading = false);
        if let Err(error) = self.lease.reserve(&self.me, &to, claim.epoch).await {
            tracing::debug!("[HA] no reservation in Redis, the leadership row names the successor: {error}");
        }
        let released = self.clock.now();
        if let Err(error) = pin::release(fence.pin(), self.config.timing.lock_timeout()).await {
            tracing::warn!("[HA] the pin is released by closing its session: {error}");
        }
        drop(keeper);
        Next::Succeed(Box::new(Released { claim, to, released, engine: tenure.engine(), handover }))
    }
}

/// What a handover calls for.
enum Step {
    Release,
    Lost(String),
}

/// Why a heartbeat ended the term.
enum Beaten {
    Outbid(String),
    Broken(String),
}

/// Says how long the engine has been silent.
pub(super) fn hang_sentence(engine: Silence) -> String {
    format!("the engine finished no iteration for {} ms", engine.lasted().as_millis())
}

fn begin(seat: &mut Seat, to: Option<Member>, reply: oneshot::Sender<HandoverOutcome>) {
    if seat.handover.is_some() {
        let why = "another handover is under way; wait for its outcome".to_owned();
        let _ = reply.send(HandoverOutcome::NoSuccessor { why });
        return;
    }
    seat.handover = Some(Handover { to, asked: BTreeSet::new(), offering: None, reply });
}
