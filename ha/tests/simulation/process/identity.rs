//! The member's place and the liveness commits, as `ha/src/identity.rs` has them.

use std::rc::Rc;
use std::time::Duration;

use ha::Moment;
use ha::roll::{Door, Entry, Peers};
use ha::tenure::turns;

use super::{Membership, Process, entry};
use crate::postgres::{Ask, Said};
use crate::session::ClientEnd;

enum End {
    Broken,
    Refused,
}

pub async fn run(me: Rc<Process>) {
    let patience = me.timing.idle_in_transaction();
    let mut pause = me.timing.watch;
    let mut previous = None;
    let (mut peers, began) = (Peers::new(&me.timing), me.now());
    loop {
        if let Ok(session) = ClientEnd::open(&me, patience).await {
            let end = serve(&me, &session, began, &mut previous, &mut peers).await;
            if me.roll.borrow().membership == Membership::Inside {
                previous = Some(session.backend());
                pause = me.timing.watch;
            }
            session.close();
            if matches!(end, End::Refused) {
                me.world().checker.borrow_mut().tally.duplicates += 1;
                me.change_roll(|roll| {
                    roll.membership = Membership::Refused;
                    roll.last_commit = None;
                    roll.status = None;
                });
                return;
            }
        }
        me.change_roll(|roll| {
            roll.membership = Membership::Outside;
            roll.last_commit = None;
        });
        me.sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(250));
    }
}

async fn serve(
    me: &Rc<Process>,
    session: &Rc<ClientEnd>,
    began: Moment,
    previous: &mut Option<ha::Backend>,
    peers: &mut Peers,
) -> End {
    let patience = me.timing.idle_in_transaction();
    match me.within(me.timing.ttl * 4, enter(me, session, previous)).await {
        Some(Ok(())) => {}
        Some(Err(end)) => return end,
        None => return End::Broken,
    }
    loop {
        let wish = me.wish.get();
        let started = me.now();
        let turns = turns(&me.timing, began, me.pulse(), started);
        let ask = Ask::Live { process: me.index, info: Box::new(entry(me)), turns };
        let Some(Ok(Said::Peers(listed))) = me.within(patience, session.ask(ask)).await else {
            return End::Broken;
        };
        let judged = peers.judge(listed, me.now());
        me.change_roll(|roll| {
            roll.membership = Membership::Inside;
            roll.status = Some(wish.status);
            roll.last_commit = Some(started);
            roll.peers = Rc::from(judged);
        });
        let until = me.world().now() + super::nanos(me.timing.renew);
        me.until_or(until, || me.wish.get() != wish || session.is_over()).await;
        if session.is_over() {
            return End::Broken;
        }
    }
}

async fn enter(
    me: &Rc<Process>,
    session: &Rc<ClientEnd>,
    previous: &mut Option<ha::Backend>,
) -> Result<(), End> {
    let mut door = Door::new(&me.timing);
    let ask = async |ask| session.ask(ask).await.map_err(|_| End::Broken);
    loop {
        if let Some(old) = previous.take() {
            ask(Ask::EndBackend(old)).await?;
        }
        if matches!(ask(Ask::TryMember(me.member)).await?, Said::Yes(true)) {
            return Ok(());
        }
        let started = me.now();
        let Said::Occupant(Some(occupant)) = ask(Ask::Door(me.member)).await? else { continue };
        match door.look(occupant, started, me.now()) {
            Entry::Wait => me.change_roll(|roll| roll.membership = Membership::Outside),
            Entry::Refused => return Err(End::Refused),
            Entry::Evict(occupant) => {
                me.world().checker.borrow_mut().tally.evicted_members += 1;
                ask(Ask::EvictMember { member: me.member, occupant }).await?;
                door = Door::new(&me.timing);
            }
        }
        me.sleep(me.timing.watch).await;
    }
}
