//! Standing for election: lease, pin, epoch, in this order, as `ha/src/agent/stand.rs` does.

use std::rc::Rc;
use std::time::Duration;

use ha::election::Ballot;
use ha::gate::Gate;
use ha::tenure::{Silence, Tenure};
use ha::{Epoch, Timing};

use super::agent::Next;
use super::lead::{Keeper, Seat};
use super::{Process, named, nanos};
use crate::mutant::Mutant;
use crate::postgres::{Ask, Change, Said};
use crate::redis::{self, Said as RedisSaid};
use crate::session::ClientEnd;

/// Keeps a session open ahead of time.
pub async fn keep_one_open(me: Rc<Process>) {
    loop {
        let stored = me.warm.borrow().as_ref().is_some_and(|session| !session.is_over());
        if !stored && let Ok(session) = ClientEnd::open(&me, me.timing.idle_in_transaction()).await {
            *me.warm.borrow_mut() = Some(session);
        }
        me.sleep(me.timing.renew).await;
    }
}

/// The warm session, or a new one.
pub async fn a_session(me: &Rc<Process>) -> Result<Rc<ClientEnd>, String> {
    let warm = me.warm.borrow_mut().take().filter(|session| !session.is_over());
    match warm {
        Some(session) => Ok(session),
        None => ClientEnd::open(me, me.timing.idle_in_transaction())
            .await
            .map_err(|_| "cannot connect to PostgreSQL".to_owned()),
    }
}

/// Takes the pin within `patience`. An attempt without an answer closes the session.
pub async fn take(me: &Process, session: &ClientEnd, patience: Duration) -> Result<(), Failure> {
    let until = me.world().now() + nanos(patience);
    loop {
        match me.within(patience, session.ask(Ask::TryPin)).await {
            Some(Ok(Said::Yes(true))) => return Ok(()),
            Some(Ok(_)) if me.world().now() < until => me.sleep(Duration::from_millis(5)).await,
            Some(Ok(_)) => return Err(Failure::Taken),
            Some(Err(_)) | None => {
                session.close();
                return Err(Failure::Other("PostgreSQL did not take the pin".to_owned()));
            }
        }
    }
}

/// Why a candidacy or a resumption came to nothing.
pub enum Failure {
    Taken,
    /// For good: another epoch is in force, or the database is another.
    Final(String),
    Other(String),
}

pub async fn stand(me: &Rc<Process>, ballot: Ballot) -> Next {
    me.tell(|| format!("stands to end epoch {} ({})", ballot.epoch, ballot.reason));
    match candidacy(me, &ballot).await {
        Ok(seat) => Next::Lead(Box::new(seat)),
        Err(why) => {
            me.tell(|| format!("is not elected: {why}"));
            let now = me.now();
            me.watcher.borrow_mut().defeated(now);
            Next::Follow
        }
    }
}

async fn candidacy(me: &Rc<Process>, ballot: &Ballot) -> Result<Seat, String> {
    let win = redis::Ask::Win {
        me: named(&me.me),
        row: ballot.epoch.get(),
        patience: ballot.patience,
        ttl: nanos(Timing::CANDIDATE_TTL),
    };
    let (leased, in_redis) = match me.redis(win).await {
        Some(RedisSaid::Won { highest }) => {
            me.watcher.borrow_mut().saw(Epoch::new(highest));
            (true, highest)
        }
        Some(_) => return Err("the lease belongs to another".to_owned()),
        None if !ballot.may_do_without_lease(me.now()) => return Err("too early without Redis".to_owned()),
        None => (false, 0),
    };
    let elected = take_office(me, ballot, leased, in_redis).await;
    if leased && elected.is_err() {
        me.redis(redis::Ask::GiveBack { me: named(&me.me) }).await;
    }
    elected
}

async fn take_office(me: &Rc<Process>, ballot: &Ballot, leased: bool, in_redis: i64) -> Result<Seat, String> {
    let timing = me.timing;
    if let Some(pin) = ballot.evict {
        let observer = me.observer.borrow().clone().ok_or("the observer has no session")?;
        let ask = Ask::Evict { pin, epoch: ballot.epoch, counter: ballot.counter };
        match me.within(timing.lock_timeout(), observer.ask(ask)).await {
            Some(Ok(Said::Yes(true))) => {}
            _ => return Err("the stale leader lives, or nobody knows".to_owned()),
        }
    }
    let session = a_session(me).await?;
    match take(me, &session, Timing::PIN_PATIENCE).await {
        Ok(()) => {}
        Err(Failure::Taken) => return Err("another session holds the pin".to_owned()),
        Err(Failure::Final(why) | Failure::Other(why)) => return Err(why),
    }
    let started = me.now();
    let floor = me.watcher.borrow().highest();
    let promoting = promote(me, &session, ballot, floor, in_redis);
    let epoch = match me.within(timing.validity(), promoting).await {
        Some(outcome) => outcome?,
        None => return Err("the promotion took too long".to_owned()),
    };
    me.watcher.borrow_mut().saw(epoch);
    if leased {
        let (epoch, ttl) = (epoch.get(), nanos(timing.ttl));
        let hold = redis::Ask::Hold { me: named(&me.me), epoch, ttl, announces: true };
        if let Some(RedisSaid::Outbid { highest }) = me.redis(hold).await
            && !me.world().is(Mutant::EpochFromRedis)
        {
            me.watcher.borrow_mut().saw(Epoch::new(highest));
            return Err(format!("Redis holds epoch {highest}"));
        }
    }
    let now = me.now();
    let deadline = Tenure::deadline_from(&timing, started);
    if now >= deadline {
        return Err("the promotion's deadline has passed".to_owned());
    }
    let tenure = Tenure::new(timing, now, deadline, Silence::new(now, me.pulse()));
    Ok(seat(me, session, epoch, tenure))
}

async fn promote(
    me: &Rc<Process>,
    session: &ClientEnd,
    ballot: &Ballot,
    floor: Epoch,
    in_redis: i64,
) -> Result<Epoch, String> {
    let broken = |_| "the session broke, or the row was locked for too long".to_owned();
    let Said::Office(office) = session.ask(Ask::LockRow).await.map_err(broken)? else { unreachable!() };
    let promotion = office
        .promotion(ballot, floor, "test", session.database())
        .map_err(|refusal| format!("{refusal:?}"))?;
    let epoch =
        if me.world().is(Mutant::EpochFromRedis) { Epoch::new(in_redis + 1) } else { promotion.epoch };
    let change = Change { epoch, holder: me.me.clone(), reason: ballot.reason };
    let ask = Ask::Promote { to: Box::new(change), found: office.epoch };
    session.ask(ask).await.map_err(broken)?;
    session.ask(Ask::Commit).await.map_err(broken)?;
    Ok(epoch)
}

/// Makes the fence and starts keeping the lease.
pub fn seat(me: &Rc<Process>, session: Rc<ClientEnd>, epoch: Epoch, tenure: Tenure) -> Seat {
    let gate = Rc::new(Gate::new(epoch, tenure.deadline()));
    let keeper = Keeper::start(me, gate.clone(), session.clone());
    Seat { gate, session, tenure, handover: None, keeper }
}
