//! The database server: sessions, the row's locks, what an end of a session frees.

use crate::config::Config;
use crate::mutant::Mutant;
use crate::state::{Id, Journal, Life, Owner, Role, Sid, State, Watch};

/// Counter, epoch or pin moved: whoever watches sees it, whatever was observed before is void.
pub(super) fn moved(s: &mut State) {
    for instance in &mut s.at {
        instance.watch = Watch::Nothing;
        if let Role::Stand(ballot) = &mut instance.role {
            ballot.intact &= ballot.evict.is_none();
        }
    }
}

/// A new session, if there is room for one.
pub(super) fn open(s: &mut State, by: Id) -> Option<Sid> {
    let place = s.pg.sessions.iter().position(|session| session.life == Life::Free)?;
    let session = &mut s.pg.sessions[place];
    session.life = Life::Live;
    session.owner = Owner::Of(by);
    session.journal = Journal::Idle;
    Sid::try_from(place).ok()
}

/// The server ends a session: its statement is undone, its locks are free.
pub(super) fn end(s: &mut State, sid: Sid) {
    if s.pg.pin == Some(sid) {
        s.pg.pin = None;
        moved(s);
    }
    let session = s.session_mut(sid);
    session.life = Life::Free;
    session.journal = Journal::Idle;
    let forget = |known: &mut Option<Sid>| *known = known.filter(|known| *known != sid);
    for instance in &mut s.at {
        forget(&mut instance.pin);
        forget(&mut instance.journal);
        if let Role::Stand(ballot) = &mut instance.role {
            forget(&mut ballot.evict);
        }
    }
    if s.pg.updating == Some(sid) {
        s.pg.updating = None;
    }
    if s.db.named == Some(sid) {
        s.db.named = None;
    }
}

/// A session ends that was told to, or whose client has gone. Until then the server goes on with what it was sent.
pub(super) fn session_ends(s: &mut State, sid: Sid) -> Option<()> {
    let holds = |role| matches!(role, Role::Stand(_) | Role::Lead | Role::Repinned | Role::Reclaiming);
    let used = s.at.iter().any(|i| (i.pin == Some(sid) && holds(i.role)) || i.journal == Some(sid));
    match s.session(sid).life {
        Life::Dying => {}
        Life::Live if !used => {}
        _ => return None,
    }
    end(s, sid);
    Some(())
}

/// Somebody holds the row's share lock.
fn is_shared(c: &Config, s: &State) -> bool {
    !(c.lacks(Mutant::NoRowLock) || c.lacks(Mutant::PoolWithoutRowLock) || c.lacks(Mutant::RedisAlone))
        && s.pg.sessions.iter().any(|session| matches!(session.journal, Journal::Locked(_)))
}

/// The leadership row can be locked for update.
pub(super) fn may_update(c: &Config, s: &State) -> bool {
    s.pg.up && s.pg.updating.is_none() && !is_shared(c, s)
}

/// It can be locked for share.
pub(super) fn may_share(s: &State) -> bool {
    s.pg.up && s.pg.updating.is_none()
}
