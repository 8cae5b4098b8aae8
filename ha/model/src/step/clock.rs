//! Time: what counts down, what grows old, what the kernel and the servers do when it is up.

use crate::config::Config;
use crate::mutant::Mutant;
use crate::state::{Going, Journal, Kind, Role, Sender, State, Ticks, Watch};

/// One tick.
pub(super) fn tick(c: &Config, s: &mut State) -> Option<()> {
    let t = &c.timing;
    let down = |left: &mut Ticks| *left = left.saturating_sub(1);
    for instance in &mut s.at {
        down(&mut instance.deadline);
        down(&mut instance.patience);
        down(&mut instance.held_down);
        down(&mut instance.bound);
        match &mut instance.watch {
            Watch::Still(age) => *age = (*age + 1).min(t.ttl),
            Watch::Free(age) => *age = (*age + 1).min(t.reservation + 1),
            Watch::Nothing => {}
        }
        match &mut instance.role {
            Role::Suspended(Some(age)) => *age = (*age + 1).min(t.ttl),
            Role::Released(age) => *age = (*age + 1).min(t.reservation),
            _ => {}
        }
        if let Going::Offered(_, left) = &mut instance.going {
            down(left);
        }
    }
    for session in &mut s.pg.sessions {
        if let Journal::Begun(order) | Journal::Locked(order) | Journal::Ended(order, _) =
            &mut session.journal
        {
            down(&mut order.send_by);
        }
    }
    for intent in &mut s.db.intents {
        down(&mut intent.settle);
    }
    down(&mut s.ghost.unsettled);
    if let Some(lease) = &mut s.redis.lease {
        match &mut lease.kind {
            Kind::Candidate(0) | Kind::Reserved(0) => s.redis.lease = None,
            Kind::Candidate(left) | Kind::Reserved(left) => down(left),
            Kind::Leader => {}
        }
    }
    for wire in &mut s.wire {
        match &mut wire.sender {
            Sender::Ready { send_by, .. } => down(send_by),
            Sender::Checked { age, .. } => *age = (*age + 1).min(t.idle_close + 1),
            _ => {}
        }
        for bytes in &mut wire.bytes {
            *bytes = match *bytes {
                Some(age) if age < t.user_timeout => Some(age + 1),
                old if c.lacks(Mutant::UnboundedNetwork) => old,
                _ => None,
            };
        }
        down(&mut wire.hidden);
    }
    Some(())
}
