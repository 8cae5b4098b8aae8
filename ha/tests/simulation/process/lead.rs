//! Leading, keeping the lease, handing over: as `ha/src/agent/{lead,keeper,succeed}.rs` do.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use ha::exile::Exile;
use ha::gate::Gate;
use ha::handover::{Answer, Offering, Succession, choose, succession};
use ha::tenure::{Duty, Silence, Tenure, renews};
use ha::{Beat, Instance, Moment, Timing};

use super::agent::{Heard, Next, answer, demote, hear, obey, retire, retired, set_status, unbind};
use super::suspended::{Claim, Exiled};
use super::{Command, Membership, Outcome, Process, Retirement, Sight, engine, named, nanos, why};
use crate::mutant::Mutant;
use crate::postgres::{Ask, Fault, Said};
use crate::redis;
use crate::session::ClientEnd;
use crate::world::TaskId;

/// What a leader has.
pub struct Seat {
    pub gate: Rc<Gate>,
    pub session: Rc<ClientEnd>,
    pub tenure: Tenure,
    pub handover: Option<Handover>,
    pub keeper: Keeper,
}

/// A handover somebody asked for.
#[derive(Default)]
pub struct Handover {
    pub asked: BTreeSet<Instance>,
    pub offering: Option<Offering>,
}

/// A leadership that was let go and not yet taken.
pub struct Released {
    claim: Claim,
    to: Instance,
    released: Moment,
    engine: Silence,
    handover: Handover,
}

/// Renews while it lives. Dropping it ends the leadership.
pub struct Keeper {
    me: Rc<Process>,
    task: TaskId,
    gate: Rc<Gate>,
    session: Rc<ClientEnd>,
}

impl Keeper {
    pub fn start(me: &Rc<Process>, gate: Rc<Gate>, session: Rc<ClientEnd>) -> Self {
        let task = me.world().spawn(me, keep(me.clone(), gate.clone()));
        Self { me: me.clone(), task, gate, session }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        if self.me.alive.get() {
            self.me.world().abort(self.task);
        }
        self.gate.close("this leadership has ended");
        self.session.close();
    }
}

async fn keep(me: Rc<Process>, gate: Rc<Gate>) {
    let began = me.now();
    loop {
        let mut pause = me.timing.renew;
        if renews(&me.timing, began, me.pulse(), me.now()) && gate.check(me.now()).is_ok() {
            let epoch = gate.epoch().get();
            let hold =
                redis::Ask::Hold { me: named(&me.me), epoch, ttl: nanos(me.timing.ttl), announces: false };
            match me.redis(hold).await {
                Some(redis::Said::Outbid { highest }) if !me.world().is(Mutant::EpochFromRedis) => {
                    gate.close(&format!("Redis holds epoch {highest}"));
                    me.nudge();
                    return;
                }
                Some(redis::Said::Waiting) => pause = Duration::from_millis(50).min(pause),
                _ => {}
            }
        }
        me.sleep(pause).await;
    }
}

enum Beaten {
    Outbid(String),
    Broken(String),
}

enum Step {
    Release,
    Lost(String),
}

/// The deadline as the process keeps it; without it, in the mutant.
fn deadline_of(me: &Process, deadline: Moment) -> Moment {
    if me.world().is(Mutant::NoDeadline) { deadline.plus(Duration::from_secs(3600)) } else { deadline }
}

pub async fn lead(me: &Rc<Process>, seat: Box<Seat>) -> Next {
    me.leads.set(true);
    let next = lead_on(me, seat).await;
    me.leads.set(false);
    next
}

async fn lead_on(me: &Rc<Process>, mut seat: Box<Seat>) -> Next {
    me.set_pace(me.timing.renew);
    unbind(me);
    me.tell(|| format!("leads under epoch {}", seat.gate.epoch()));
    seat.gate.extend(deadline_of(me, seat.tenure.deadline()));
    me.world().spawn(me, engine::trade(me.clone(), seat.gate.clone(), seat.session.clone()));
    loop {
        retired(me, Retirement::Leads);
        if let Some(step) = go_on_handing_over(me, &mut seat).await {
            return match step {
                Step::Release => release(me, *seat).await,
                Step::Lost(why) => suspend(me, *seat, &why),
            };
        }
        let pulse = if me.world().is(Mutant::UngatedHeartbeat) {
            Beat { count: me.world().steps.get(), last: me.now() }
        } else {
            me.pulse()
        };
        let wake = match seat.tenure.duty(me.now(), pulse) {
            Duty::Beat => match beat(me, &mut seat).await {
                Ok(()) => continue,
                Err(Beaten::Outbid(why)) => return fenced(me, &seat, &why),
                Err(Beaten::Broken(why)) => return suspend(me, *seat, &why),
            },
            Duty::Rest(at) | Duty::Withhold(at) => at,
            Duty::Expired if me.world().is(Mutant::NoDeadline) => me.now().plus(me.timing.renew),
            Duty::Expired => return suspend(me, *seat, "no heartbeat was confirmed before the deadline"),
            Duty::Hung => {
                me.tell(|| "aborts: its engine hangs".to_owned());
                me.world().checker.borrow_mut().tally.aborts += 1;
                seat.gate.close("hung");
                seat.session.close();
                let dying = me.clone();
                me.world().after(1, move |_| dying.crash());
                std::future::pending::<()>().await;
                unreachable!("it is aborted")
            }
        };
        let offer_ends = seat.handover.as_ref().and_then(|h| h.offering.as_ref()).map(|o| o.until);
        let wake = offer_ends.map_or(wake, |ends| ends.min(wake));
        let (gate, session) = (seat.gate.clone(), seat.session.clone());
        let over = || gate.why_closed().is_some() || session.is_over();
        match hear(me, Some(me.true_moment(wake)), over).await {
            Heard::Over if seat.gate.why_closed().is_some() => {
                let why = why(&seat.gate);
                return fenced(me, &seat, &why);
            }
            Heard::Over => return suspend(me, *seat, "PostgreSQL pin lost"),
            Heard::Nap => {}
            Heard::Sight => look_up(me, &seat),
            Heard::Roll => {
                if me.roll.borrow().membership == Membership::Refused {
                    return Next::Stop;
                }
            }
            Heard::Command(Command::SetStatus(status)) => set_status(me, status),
            Heard::Command(Command::HandOver) => {
                if seat.handover.is_none() {
                    seat.handover = Some(Handover::default());
                }
            }
            Heard::Command(Command::Retire) => retire(me),
            Heard::Command(Command::Leave) => {
                seat.gate.close("left the cluster");
                let vacate = seat.session.ask(Ask::Vacate(seat.gate.epoch()));
                me.within(me.timing.lock_timeout(), vacate).await;
                seat.session.close();
                me.redis(redis::Ask::GiveBack { me: named(&me.me) }).await;
                return Next::Stop;
            }
        }
    }
}

async fn beat(me: &Process, seat: &mut Seat) -> Result<(), Beaten> {
    let started = me.now();
    let patience = deadline_of(me, seat.tenure.deadline()).until(started);
    let epoch = seat.gate.epoch();
    let answer = me.within(patience, seat.session.ask(Ask::Beat(epoch))).await;
    match answer {
        Some(Ok(Said::Beaten(true, _))) => {
            let from = if me.world().is(Mutant::DeadlineFromAnswer) { me.now() } else { started };
            match seat.tenure.confirmed(from, me.now()) {
                Some(deadline) => {
                    seat.gate.extend(deadline_of(me, deadline));
                    Ok(())
                }
                None if me.world().is(Mutant::NoDeadline) => Ok(()),
                None => Err(Beaten::Broken("a heartbeat was confirmed too late".to_owned())),
            }
        }
        Some(Ok(Said::Beaten(false, highest))) => {
            me.watcher.borrow_mut().saw(highest);
            Err(Beaten::Outbid(format!("epoch {highest} is in force")))
        }
        Some(Err(Fault::LockTimeout)) => {
            seat.tenure.failed(me.now());
            Ok(())
        }
        Some(Err(Fault::Broken)) => Err(Beaten::Broken("the pinned session broke".to_owned())),
        Some(Ok(other)) => unreachable!("{other:?} answers no heartbeat"),
        None => Err(Beaten::Broken("no heartbeat was confirmed before the deadline".to_owned())),
    }
}

fn look_up(me: &Process, seat: &Seat) {
    let sight = me.sight.borrow().clone();
    if let Sight::Seen(look) = sight {
        me.watcher.borrow_mut().saw(look.row.epoch);
        if look.row.epoch > seat.gate.epoch() {
            seat.gate.close(&format!("epoch {} is in force", look.row.epoch));
        }
    }
}

fn fenced(me: &Process, seat: &Seat, why: &str) -> Next {
    seat.gate.close(why);
    seat.session.close();
    me.world().checker.borrow_mut().tally.fenced += 1;
    if seat.handover.is_some() {
        answer(me, Outcome::Lost);
    }
    demote(me, why);
    Next::Follow
}

fn claim(me: &Process, seat: &Seat) -> Claim {
    Claim {
        me: me.me.clone(),
        epoch: seat.gate.epoch(),
        old: seat.session.backend(),
        database: seat.session.database().clone(),
    }
}

pub fn suspend(me: &Process, seat: Seat, why: &str) -> Next {
    let now = me.now();
    seat.gate.close(&format!("suspended: {why}"));
    seat.session.close();
    me.tell(|| format!("is suspended under epoch {}: {why}", seat.gate.epoch()));
    me.world().checker.borrow_mut().tally.suspensions += 1;
    let wait = Exile::after(&seat.tenure, now, &me.timing);
    Next::Suspend(Box::new(Exiled { claim: claim(me, &seat), wait, handover: seat.handover }))
}

async fn go_on_handing_over(me: &Process, seat: &mut Seat) -> Option<Step> {
    let patience = me.timing.lock_timeout();
    let epoch = seat.gate.epoch();
    let session = seat.session.clone();
    let handover = seat.handover.as_mut()?;
    if let Some(offering) = &handover.offering {
        let look = me.look();
        match offering.answer(look.as_ref().map(|look| &look.row), me.now()) {
            Answer::Open => return None,
            Answer::Accepted => return Some(Step::Release),
            Answer::Lapsed => {
                handover.asked.insert(offering.to.clone());
                handover.offering = None;
            }
        }
    }
    let peers = me.roll.borrow().peers.clone();
    match choose(&peers, &me.me, None, &handover.asked) {
        Ok(to) => {
            me.tell(|| format!("offers leadership to {}", to.member));
            let offering = Offering::new(to.clone(), me.now(), &me.timing);
            let ask = Ask::Offer { epoch, id: offering.id, to };
            let offered = me.within(patience, session.ask(ask)).await;
            me.set_pace(me.timing.watch);
            handover.offering = Some(offering);
            match offered {
                Some(Ok(Said::Rows(1)) | Err(Fault::LockTimeout)) => None,
                _ => Some(Step::Lost("the offer was not stored".to_owned())),
            }
        }
        Err(why) => {
            if !handover.asked.is_empty() {
                me.within(patience, session.ask(Ask::Withdraw(epoch))).await;
            }
            me.set_pace(me.timing.renew);
            seat.handover = None;
            me.tell(|| format!("keeps leading: {why}"));
            answer(me, Outcome::NoSuccessor);
            None
        }
    }
}

async fn release(me: &Rc<Process>, mut seat: Seat) -> Next {
    let Some((handover, to)) = seat.handover.take().and_then(|mut handover| {
        let to = handover.offering.take()?.to;
        Some((handover, to))
    }) else {
        return Next::Follow;
    };
    seat.gate.close("hands over");
    me.world().abort(seat.keeper.task);
    let claim = claim(me, &seat);
    let (from, next) = (named(&me.me), named(&to));
    let ttl = nanos(Timing::RESERVATION);
    me.redis(redis::Ask::Reserve { me: from, to: next, epoch: claim.epoch.get(), ttl }).await;
    let released = me.now();
    me.within(me.timing.lock_timeout(), seat.session.ask(Ask::ReleasePin)).await;
    let engine = seat.tenure.engine();
    drop(seat);
    Next::Succeed(Box::new(Released { claim, to, released, engine, handover }))
}

pub async fn await_successor(me: &Rc<Process>, released: Released) -> Next {
    me.set_pace(me.timing.watch);
    let Released { claim, to, released, engine, mut handover } = released;
    loop {
        let look = me.look();
        let now = me.now();
        match succession(claim.epoch, released, look.as_ref().map(|look| &look.row), now) {
            Succession::Done(epoch) => {
                me.watcher.borrow_mut().saw(epoch);
                me.tell(|| format!("handed over: epoch {epoch} is in force"));
                me.world().checker.borrow_mut().tally.handed_over += 1;
                answer(me, Outcome::HandedOver);
                me.watcher.borrow_mut().reset();
                return Next::Follow;
            }
            Succession::Lapsed => {
                me.tell(|| format!("{} did not take over", to.member));
                handover.asked.insert(to);
                let wait = Exile::after_release(engine, now);
                return Next::Suspend(Box::new(Exiled { claim, wait, handover: Some(handover) }));
            }
            Succession::Open => {}
        }
        let wake = me.true_moment(released.plus(Timing::RESERVATION));
        if let Heard::Command(command) = hear(me, Some(wake), || false).await
            && obey(me, command)
        {
            return Next::Stop;
        }
    }
}
