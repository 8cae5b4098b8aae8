//! One representative for states that no participant and no property can tell apart.

use crate::config::{Config, Fault};
use crate::mutant::Mutant;
use crate::state::{
    Epoch, Going, INSTANCES, Id, Journal, Life, Owner, Role, SESSIONS, Sender, Session, Sid, State, Status,
    Step, Taken, Watch,
};

/// Makes a state its own representative.
pub(crate) fn canonical(c: &Config, s: &mut State) {
    forget(c, s);
    number_sessions(s);
    rank_epochs(s);
    if c.symmetric {
        let orders: &[[Id; INSTANCES]] = match c.instances {
            2 => &[[1, 0, 2]],
            3 => &[[0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]],
            _ => &[],
        };
        let first = *s;
        for places in orders {
            let mut other = rearranged(&first, places);
            number_sessions(&mut other);
            if other < *s {
                *s = other;
            }
        }
    }
}

/// The same state with instances in other places: instance `i` comes to `places[i]`.
fn rearranged(s: &State, places: &[Id; INSTANCES]) -> State {
    let mut next = *s;
    for (old, new) in places.iter().enumerate() {
        let mut instance = s.at[old];
        if let Going::Draining(asked) | Going::Offered(asked, _) = &mut instance.going {
            let bits = places.iter().enumerate().filter(|(i, _)| *asked & (1 << i) != 0);
            *asked = bits.fold(0, |all, (_, place)| all | (1 << place));
        }
        next.at[usize::from(*new)] = instance;
    }
    let of = |id: &mut Id| *id = places[usize::from(*id)];
    let owner = |owner: &mut Owner| {
        if let Owner::Of(id) = owner {
            *id = places[usize::from(*id)];
        }
    };
    for db in [&mut next.db, &mut next.standby] {
        owner(&mut db.holder);
        db.offer.iter_mut().for_each(|offer| owner(&mut offer.to));
    }
    next.redis.lease.iter_mut().for_each(|lease| owner(&mut lease.by));
    owner(&mut next.ghost.office);
    for session in &mut next.pg.sessions {
        owner(&mut session.owner);
    }
    for wire in &mut next.wire {
        match &mut wire.sender {
            Sender::Idle => {}
            Sender::Ready { by, .. }
            | Sender::Checked { by, .. }
            | Sender::Sent { by }
            | Sender::Got { by, .. } => of(by),
        }
    }
    next
}

/// What nothing will ever look at again.
fn forget(c: &Config, s: &mut State) {
    let follows = c.follows_epochs();
    for instance in &mut s.at {
        let leads = !matches!(instance.role, Role::Down | Role::Gone | Role::Follow);
        if !matches!(instance.role, Role::Lead | Role::Stand(_) | Role::Reclaiming) {
            instance.deadline = 0;
        }
        if leads {
            instance.watch = Watch::Nothing;
            instance.patience = 0;
            instance.held_down = 0;
        } else {
            instance.epoch = 0;
        }
        if let Role::Stand(ballot) = &mut instance.role {
            if !matches!(ballot.step, Step::Lease | Step::Evict) {
                ballot.evict = None;
                ballot.intact = true;
            }
            ballot.past_reservation &= ballot.step == Step::Lease && c.redis;
            ballot.named &= c.flap_limit.is_some();
            if matches!(ballot.step, Step::Commit | Step::Announce) {
                ballot.epoch = 0;
            }
        }
        if let Watch::Free(age) = &mut instance.watch
            && !c.redis
            && c.budget[Fault::Terminate as usize] == 0
            && c.budget[Fault::CutLink as usize] == 0
        {
            *age = 0;
        }
        if !follows {
            // Without a lost tail the row itself is the highest epoch about.
            instance.seen = 0;
            if c.budget[Fault::Failover as usize] > 0 {
                instance.patience = 0;
            }
        }
    }
    for sid in 0..SESSIONS {
        let awaited = s.at.iter().any(|i| i.journal.is_some_and(|known| usize::from(known) == sid));
        let journal = &mut s.pg.sessions[sid].journal;
        match journal {
            Journal::Begun(_) | Journal::Idle => {}
            Journal::Locked(order) => order.fits = true,
            Journal::Ended(..) if !awaited => *journal = Journal::Idle,
            Journal::Ended(order, taken) => {
                (order.fits, order.allowed) = (true, Taken::Yes);
                if *taken != Taken::Yes {
                    (order.quantity, order.send_by) = (0, 0);
                }
            }
        }
    }
    for intent in &mut s.db.intents {
        if !matches!(intent.status, Status::Journaled | Status::InDoubt) {
            intent.settle = 0;
        }
    }
    if !c.lacks(Mutant::EvictsOnlyTheNamed) {
        s.db.named = None;
    }
    if !follows {
        s.redis.key = 0;
        // Anybody may replace it, and whom it would put out is put out by the row.
        if s.redis.lease.is_some_and(|lease| lease.epoch < s.db.epoch) && !c.lacks(Mutant::RedisAlone) {
            s.redis.lease = None;
        }
    }
    if !follows {
        (s.ghost.top, s.ghost.office) = (0, Owner::Nobody);
    }
    if s.left[Fault::Failover as usize] == 0 {
        s.standby = s.db;
    }
}

/// Sessions that nobody knows and that hold nothing are gone; the others are numbered by who knows them.
fn number_sessions(s: &mut State) {
    let mut order = [None; SESSIONS];
    let mut count = 0;
    each_session(s, |sid| {
        if !order[..count].contains(&Some(*sid)) {
            order[count] = Some(*sid);
            count += 1;
        }
    });
    for sid in 0..SESSIONS {
        let session = s.pg.sessions[sid];
        let here = u8::try_from(sid).ok();
        if matches!(session.life, Life::Live | Life::Dying)
            && matches!(session.journal, Journal::Begun(_) | Journal::Locked(_))
            && !order[..count].contains(&here)
        {
            order[count] = here;
            count += 1;
        }
    }
    let free = Session { life: Life::Free, owner: Owner::Nobody, journal: Journal::Idle };
    let mut sessions = [free; SESSIONS];
    for (session, old) in sessions.iter_mut().zip(&order[..count]) {
        *session = old.map_or(free, |old| s.pg.sessions[usize::from(old)]);
    }
    s.pg.sessions = sessions;
    each_session(s, |sid| {
        let place = order.iter().position(|old| *old == Some(*sid));
        *sid = place.and_then(|place| u8::try_from(place).ok()).unwrap_or(*sid);
    });
}

/// Whoever knows a session, in a fixed order.
fn each_session(s: &mut State, mut with: impl FnMut(&mut Sid)) {
    for known in [&mut s.pg.pin, &mut s.pg.updating, &mut s.db.named] {
        known.iter_mut().for_each(&mut with);
    }
    for instance in &mut s.at {
        instance.pin.iter_mut().for_each(&mut with);
        instance.journal.iter_mut().for_each(&mut with);
        if let Role::Stand(ballot) = &mut instance.role {
            ballot.evict.iter_mut().for_each(&mut with);
        }
    }
}

/// Only the order of epochs matters: the lowest about becomes 1, the next 2, and so on; 0 stays.
fn rank_epochs(s: &mut State) {
    let mut known: [Epoch; 32] = [0; 32];
    let mut count = 0;
    each_epoch(s, |epoch| {
        if *epoch > 0 && !known[..count].contains(epoch) {
            known[count] = *epoch;
            count += 1;
        }
    });
    let known = &mut known[..count];
    known.sort_unstable();
    if known.iter().enumerate().all(|(rank, epoch)| usize::from(*epoch) == rank + 1) {
        return;
    }
    let known: &[Epoch] = known;
    each_epoch(s, |epoch| {
        if let Ok(rank) = known.binary_search(epoch) {
            *epoch = u8::try_from(rank + 1).unwrap_or(u8::MAX);
        }
    });
}

fn each_epoch(s: &mut State, mut with: impl FnMut(&mut Epoch)) {
    with(&mut s.db.epoch);
    with(&mut s.standby.epoch);
    with(&mut s.redis.key);
    with(&mut s.ghost.top);
    if let Some(lease) = &mut s.redis.lease {
        with(&mut lease.epoch);
    }
    for i in 0..INSTANCES {
        let instance = &mut s.at[i];
        with(&mut instance.epoch);
        with(&mut instance.seen);
        if let Role::Stand(ballot) = &mut instance.role {
            with(&mut ballot.epoch);
        }
    }
    for session in &mut s.pg.sessions {
        if let Journal::Begun(order) | Journal::Locked(order) | Journal::Ended(order, _) =
            &mut session.journal
        {
            with(&mut order.epoch);
        }
    }
}
