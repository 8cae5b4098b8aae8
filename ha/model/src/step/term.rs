//! Trading: what is unfinished is put in doubt, orders are journaled, outcomes and the broker's books recorded.

use super::postgres::{may_share, open};
use super::tenure::fenced;
use crate::config::{Class, Config};
use crate::mutant::Mutant;
use crate::property::Broken;
use crate::state::{
    Durable, Going, Id, Intent, Journal, Order, Owner, Reading, Role, Sender, Sid, State, Status, Taken, Term,
};

/// On the pinned session, behind any journal statement that is still under way there: what has no outcome is in
/// doubt, and what is in doubt may be written for a whole send window from now.
pub(super) fn doubt(c: &Config, s: &mut State, i: Id) -> Option<()> {
    let me = *s.of(i);
    if me.role != Role::Lead || me.term != Term::Doubting || !may_share(s) {
        return None;
    }
    let sid = s.serves(me.pin)?;
    if matches!(s.session(sid).journal, Journal::Begun(_) | Journal::Locked(_))
        && !c.lacks(Mutant::DoubtsBesideThePin)
    {
        return None;
    }
    if !in_force(c, s, i) {
        return fenced(c, s, i);
    }
    if c.follows_epochs() {
        take_office(s, i);
    }
    for intent in s.db.intents.iter_mut().filter(|intent| intent.status.is_out()) {
        if intent.status == Status::Journaled {
            intent.status = Status::InDoubt;
        }
        intent.settle = if c.lacks(Mutant::InheritsNoTime) { 0 } else { c.timing.inherited() };
    }
    if let Journal::Ended(..) = s.session(sid).journal {
        s.session_mut(sid).journal = Journal::Idle;
    }
    s.ghost.damage_seen |= s.db.corrupt;
    let damaged = s.db.corrupt && !c.lacks(Mutant::TradesOnCorrupt);
    s.of_mut(i).term = if damaged { Term::Custodian } else { Term::Reconciling };
    Some(())
}

/// What a fenced statement compares.
fn in_force(c: &Config, s: &State, i: Id) -> bool {
    let holder = s.db.holder == Owner::Of(i) || c.lacks(Mutant::FencesByNumber);
    (s.db.epoch == s.of(i).epoch && holder) || c.lacks(Mutant::RedisAlone)
}

/// From here on it acts under its epoch: nobody else ever did, nor under a higher one.
fn take_office(s: &mut State, i: Id) {
    let epoch = s.of(i).epoch;
    if epoch < s.ghost.top || (epoch == s.ghost.top && s.ghost.office != Owner::Of(i)) {
        Broken::EpochFell.note(&mut s.ghost);
    }
    s.ghost.top = s.ghost.top.max(epoch);
    s.ghost.office = Owner::Of(i);
}

/// A follower, or the leader itself, finds stored state damaged, or repaired.
pub(super) fn revalidate(c: &Config, s: &mut State, i: Id) -> Option<()> {
    let me = s.of(i);
    if me.role != Role::Lead
        || !s.pg.up
        || s.db.epoch != me.epoch
        || me.journal.is_some()
        || c.lacks(Mutant::TradesOnCorrupt)
    {
        return None;
    }
    let next = match (me.term, s.db.corrupt) {
        (Term::Serving, true) => Term::Custodian,
        (Term::Custodian, false) => Term::Doubting,
        _ => return None,
    };
    s.of_mut(i).term = next;
    s.ghost.damage_seen = s.db.corrupt;
    Some(())
}

/// Units that orders other than entries may still sell.
fn out(c: &Config, db: &Durable) -> i8 {
    let of = c.slots.iter().zip(&db.intents).filter(|(slot, _)| slot.class != Class::Entry);
    of.filter(|(_, intent)| intent.status.is_out()).map(|(_, intent)| intent.quantity - intent.filled).sum()
}

/// What the engine would order for this slot now, by the state that it knows.
fn decide(c: &Config, s: &State, i: Id, slot: usize) -> Option<i8> {
    let wanted = c.slots[slot];
    let me = s.of(i);
    let trades = match me.term {
        Term::Serving => true,
        Term::Custodian => wanted.class == Class::Operator,
        _ => false,
    };
    if !trades {
        return None;
    }
    let quantity = i8::try_from(c.quantity).unwrap_or(0);
    if s.db.epoch != me.epoch {
        // Overtaken without knowing it: it may believe whatever was ever true.
        return Some(if wanted.class == Class::Entry { quantity } else { s.db.held.max(1) });
    }
    if s.db.intents[slot].status != Status::Absent {
        return None;
    }
    if let Some(before) = wanted.after
        && !matches!(s.db.intents[before].status, Status::Done | Status::NotSent | Status::Abandoned)
    {
        return None;
    }
    let mut intents = s.db.intents.iter();
    if wanted.class == Class::Entry {
        // Anything out on its instrument keeps an entry waiting.
        return intents.all(|intent| !intent.status.is_out()).then_some(quantity);
    }
    let held = if me.term == Term::Custodian { s.net } else { s.db.held };
    if c.lacks(Mutant::Oversells) {
        return (held > 0).then_some(held);
    }
    let quantity = held - out(c, &s.db);
    // One exit of a position at a time.
    let alone = c
        .slots
        .iter()
        .zip(&s.db.intents)
        .all(|(other, intent)| other.class == Class::Entry || !intent.status.is_out());
    (quantity > 0 && alone).then_some(quantity)
}

/// An order is decided, its `send_by` fixed, and its statement sent.
pub(super) fn begin(c: &Config, s: &mut State, i: Id, slot: u8) -> Option<()> {
    let me = *s.of(i);
    if me.role != Role::Lead || me.going != Going::No || me.journal.is_some() || me.reading.is_some() {
        return None;
    }
    if me.deadline == 0 && !c.lacks(Mutant::NoDeadline) {
        return None;
    }
    let mine = s.serves(me.pin)?;
    if s.wire[usize::from(slot)].sender != Sender::Idle {
        return None;
    }
    let quantity = decide(c, s, i, usize::from(slot))?;
    let sid = if c.lacks(Mutant::PoolWithoutRowLock) { open(s, i)? } else { mine };
    if matches!(s.session(sid).journal, Journal::Begun(_) | Journal::Locked(_)) {
        return None;
    }
    let entry = c.slots[usize::from(slot)].class == Class::Entry;
    let fits = entry || s.db.held >= out(c, &s.db) + quantity || c.lacks(Mutant::Oversells);
    let fits = fits || me.term == Term::Custodian;
    let send_by = c.timing.send_window.min(me.deadline);
    let order = Order { slot, quantity, epoch: me.epoch, send_by, fits, allowed: Taken::Yes };
    s.session_mut(sid).journal = Journal::Begun(order);
    s.of_mut(i).journal = Some(sid);
    if c.lacks(Mutant::SendsFirst) {
        s.wire[usize::from(slot)].quantity = quantity;
        s.wire[usize::from(slot)].sender = Sender::Ready { by: i, send_by, lone: false };
    }
    Some(())
}

fn forbidden(db: &Durable, class: Class) -> bool {
    match class {
        Class::Entry => db.halted || db.reduce_only,
        Class::Exit => db.halted,
        Class::Protective | Class::Operator => false,
    }
}

/// The statement locks the row for share and reads it.
pub(super) fn lock_journal(c: &Config, s: &mut State, sid: Sid) -> Option<()> {
    let Journal::Begun(mut order) = s.session(sid).journal else { return None };
    s.serves(Some(sid))?;
    if !may_share(s) {
        return None;
    }
    let class = c.slots[usize::from(order.slot)].class;
    order.allowed = if s.db.epoch != order.epoch && !c.lacks(Mutant::RedisAlone) {
        Taken::Fenced
    } else if forbidden(&s.db, class) {
        Taken::Switch
    } else if !order.fits {
        Taken::Ledger
    } else {
        Taken::Yes
    };
    s.session_mut(sid).journal = Journal::Locked(order);
    Some(())
}

/// The statement commits.
pub(super) fn commit_journal(c: &Config, s: &mut State, sid: Sid) -> Option<()> {
    let Journal::Locked(order) = s.session(sid).journal else { return None };
    s.serves(Some(sid))?;
    let slot = usize::from(order.slot);
    let there = s.db.intents[slot].status != Status::Absent;
    let taken = match order.allowed {
        Taken::Yes if there => Taken::Ledger,
        allowed => allowed,
    };
    if taken == Taken::Yes {
        witness(c, s, sid, &order);
        s.ghost.committed |= 1 << slot;
        let settle = c.timing.absent_after(order.send_by);
        s.db.intents[slot] =
            Intent { status: Status::Journaled, quantity: order.quantity, filled: 0, settle };
    }
    s.session_mut(sid).journal = Journal::Ended(order, taken);
    Some(())
}

/// What must not be when an intent is committed.
fn witness(c: &Config, s: &mut State, sid: Sid, order: &Order) {
    let class = c.slots[usize::from(order.slot)].class;
    if order.epoch != s.db.epoch {
        Broken::StaleIntent.note(&mut s.ghost);
    }
    let author = s.at.iter().find(|i| i.journal == Some(sid));
    let pin = author.map_or(Some(sid), |author| author.pin);
    if pin.is_none() || s.pg.pin != pin {
        Broken::JournaledWithoutPin.note(&mut s.ghost);
    }
    if forbidden(&s.db, class) {
        Broken::Switch.note(&mut s.ghost);
    }
    let flapping = c.flap_limit.is_some_and(|limit| s.db.flaps > limit);
    if flapping && class == Class::Entry {
        Broken::Flapping.note(&mut s.ghost);
    }
    if s.ghost.damage_seen && class != Class::Operator {
        Broken::Corrupt.note(&mut s.ghost);
    }
}

/// The leader learns what became of its statement.
pub(super) fn learn(c: &Config, s: &mut State, i: Id) -> Option<()> {
    let me = *s.of(i);
    let sid = me.journal.filter(|_| me.role == Role::Lead)?;
    let Journal::Ended(order, taken) = s.session(s.serves(Some(sid))?).journal else { return None };
    s.session_mut(sid).journal = Journal::Idle;
    s.of_mut(i).journal = None;
    let slot = usize::from(order.slot);
    match taken {
        Taken::Fenced => return fenced(c, s, i),
        Taken::Yes if !c.lacks(Mutant::SendsFirst) => {
            s.wire[slot].quantity = order.quantity;
            s.wire[slot].sender = Sender::Ready { by: i, send_by: order.send_by, lone: false };
        }
        // An entry under a switch is refused; an exit is tried again.
        Taken::Switch if c.slots[slot].class == Class::Entry && s.db.epoch == me.epoch => {
            s.db.intents[slot].status = Status::Refused;
        }
        _ => {}
    }
    Some(())
}

/// The broker's books as they are now.
pub(super) fn read_books(c: &Config, s: &mut State, i: Id) -> Option<()> {
    let me = *s.of(i);
    let reads = matches!(me.term, Term::Reconciling | Term::Serving | Term::Custodian);
    if me.role != Role::Lead || !reads || !me.link || me.reading.is_some() || me.journal.is_some() {
        return None;
    }
    let (mut found, mut absent) = (0, 0);
    for (slot, (intent, wire)) in s.db.intents.iter().zip(&s.wire).enumerate().take(c.slots.len()) {
        let visible = wire.orders > 0 && wire.hidden == 0;
        let bit = 1 << slot;
        match intent.status {
            Status::InDoubt | Status::Abandoned if visible => found |= bit,
            Status::Acknowledged if visible && (wire.filled > intent.filled || wire.ended) => found |= bit,
            Status::InDoubt if intent.settle == 0 || c.lacks(Mutant::ResendsAbsent) => absent |= bit,
            _ => {}
        }
    }
    if found == 0 && absent == 0 && me.term != Term::Reconciling {
        return None;
    }
    s.of_mut(i).reading = Some(Reading { found, absent });
    Some(())
}

/// What the books said is committed, under the row's share lock; a first reading begins the trading.
pub(super) fn apply_books(c: &Config, s: &mut State, i: Id) -> Option<()> {
    let me = *s.of(i);
    let reading = me.reading.filter(|_| me.role == Role::Lead)?;
    if !may_share(s) {
        return None;
    }
    if !in_force(c, s, i) {
        return fenced(c, s, i);
    }
    s.of_mut(i).reading = None;
    if me.term == Term::Reconciling {
        s.of_mut(i).term = Term::Serving;
    }
    for slot in 0..c.slots.len() {
        let bit = 1 << slot;
        if reading.found & bit != 0 {
            let wire = s.wire[slot];
            let intent = &mut s.db.intents[slot];
            let fresh = wire.filled - intent.filled;
            intent.filled = wire.filled;
            let ended = wire.ended || wire.filled == wire.quantity;
            intent.status = if ended { Status::Done } else { Status::Acknowledged };
            let entry = c.slots[slot].class == Class::Entry;
            s.db.held += if entry { fresh } else { -fresh };
        } else if reading.absent & bit != 0 && s.db.intents[slot].status == Status::InDoubt {
            if c.lacks(Mutant::ResendsAbsent) {
                let send_by = c.timing.send_window;
                s.wire[slot].sender = Sender::Ready { by: i, send_by, lone: false };
            } else {
                s.db.intents[slot].status = Status::Abandoned;
            }
        }
    }
    Some(())
}

/// An order's outcome is committed, under the row's share lock.
pub(super) fn record(c: &Config, s: &mut State, slot: u8) -> Option<()> {
    let slot = usize::from(slot);
    let Sender::Got { by, outcome } = s.wire[slot].sender else { return None };
    let me = *s.of(by);
    if me.role != Role::Lead || me.journal.is_some() || !may_share(s) {
        return None;
    }
    if !in_force(c, s, by) {
        return fenced(c, s, by);
    }
    s.wire[slot].sender = Sender::Idle;
    let intent = &mut s.db.intents[slot];
    if matches!(intent.status, Status::Journaled)
        || (intent.status == Status::InDoubt && outcome == Status::Acknowledged)
    {
        intent.status = outcome;
    }
    Some(())
}
