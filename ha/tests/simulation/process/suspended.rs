//! Suspended: no sends, the epoch kept, as `ha/src/agent/suspended.rs` has it.

use std::rc::Rc;
use std::time::Duration;

use ha::exile::{Exile, Turn};
use ha::tenure::Tenure;
use ha::{Backend, Database, Epoch, Instance};

use super::agent::{Heard, Next, answer, demote, hear, obey};
use super::lead::Handover;
use super::stand::{Failure, a_session, seat, take};
use super::{Membership, Outcome, Process, Sight, nanos};
use crate::postgres::{Ask, Said};
use crate::session::ClientEnd;

/// What a leader that lost its session has to prove.
pub struct Claim {
    pub me: Instance,
    pub epoch: Epoch,
    pub old: Backend,
    pub database: Database,
}

/// A leader without its pin.
pub struct Exiled {
    pub claim: Claim,
    pub wait: Exile,
    pub handover: Option<Handover>,
}

pub async fn come_back(me: &Rc<Process>, mut exile: Exiled) -> Next {
    me.set_pace(me.timing.watch);
    let mut pause = Duration::from_millis(10);
    loop {
        if me.roll.borrow().membership == Membership::Refused {
            return Next::Stop;
        }
        if let Some(why) = outbid(me, &exile.claim) {
            return give_up(me, &exile, &why);
        }
        let inside = me.roll.borrow().membership == Membership::Inside;
        match exile.wait.turn(me.now(), me.pulse(), inside, &me.timing) {
            Turn::Wait => {}
            Turn::Hung => {
                me.tell(|| "aborts: its engine hangs".to_owned());
                me.world().checker.borrow_mut().tally.aborts += 1;
                let dying = me.clone();
                me.world().after(1, move |_| dying.crash());
                std::future::pending::<()>().await;
            }
            Turn::Try => match try_to_resume(me, &exile).await {
                Ok((session, tenure)) => {
                    me.tell(|| format!("resumes epoch {}", exile.claim.epoch));
                    me.world().checker.borrow_mut().tally.resumptions += 1;
                    let mut seat = seat(me, session, exile.claim.epoch, tenure);
                    seat.handover = exile.handover;
                    return Next::Lead(Box::new(seat));
                }
                Err(Failure::Final(why)) => return give_up(me, &exile, &why),
                Err(Failure::Taken) => {
                    if exile.wait.found_taken(me.now(), &me.timing) {
                        return give_up(me, &exile, "another session has held the pin for T");
                    }
                }
                Err(Failure::Other(_)) => exile.wait.failed(),
            },
        }
        if me.now().since(exile.wait.since()) >= me.timing.ttl && exile.handover.take().is_some() {
            answer(me, Outcome::Lost);
        }
        let wake = me.world().now() + nanos(pause);
        if let Heard::Command(command) = hear(me, Some(wake), || false).await
            && obey(me, command)
        {
            return Next::Stop;
        }
        pause = (pause * 2).min(Duration::from_millis(200));
    }
}

async fn try_to_resume(me: &Rc<Process>, exile: &Exiled) -> Result<(Rc<ClientEnd>, Tenure), Failure> {
    let session = a_session(me).await.map_err(Failure::Other)?;
    let started = me.now();
    let patience = me.timing.validity();
    match me.within(patience, resume(me, &session, &exile.claim)).await {
        Some(outcome) => outcome?,
        None => return Err(Failure::Other("too slow".to_owned())),
    }
    let now = me.now();
    let deadline = Tenure::deadline_from(&me.timing, started);
    if now >= deadline {
        return Err(Failure::Other("too slow".to_owned()));
    }
    Ok((session, Tenure::new(me.timing, now, deadline, exile.wait.engine())))
}

async fn resume(me: &Process, session: &ClientEnd, claim: &Claim) -> Result<(), Failure> {
    if *session.database() != claim.database {
        return Err(Failure::Final("PostgreSQL failed over".to_owned()));
    }
    let broken = |_| Failure::Other("the session broke".to_owned());
    session.ask(Ask::EndBackend(claim.old)).await.map_err(broken)?;
    take(me, session, Duration::from_millis(100)).await?;
    let Said::Office(office) = session.ask(Ask::LockRow).await.map_err(broken)? else { unreachable!() };
    office.resumption(&claim.me, claim.epoch).map_err(|refusal| Failure::Final(format!("{refusal:?}")))?;
    session.ask(Ask::Resume).await.map_err(broken)?;
    session.ask(Ask::Commit).await.map_err(broken)?;
    Ok(())
}

fn outbid(me: &Process, claim: &Claim) -> Option<String> {
    let sight = me.sight.borrow().clone();
    let Sight::Seen(look) = sight else { return None };
    me.watcher.borrow_mut().saw(look.row.epoch);
    (look.row.epoch > claim.epoch).then(|| format!("epoch {} is in force", look.row.epoch))
}

fn give_up(me: &Process, exile: &Exiled, why: &str) -> Next {
    if exile.handover.is_some() {
        answer(me, Outcome::Lost);
    }
    demote(me, why);
    Next::Follow
}
