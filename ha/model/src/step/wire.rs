//! An order's bytes: check, write, network, broker, answer.

use crate::config::{Class, Config};
use crate::mutant::Mutant;
use crate::property::Broken;
use crate::state::{Role, Sender, State, Status, Term};

/// The deadline, the fence and the intent's own `send_by`.
fn may_send(c: &Config, s: &State, slot: u8) -> Option<bool> {
    let Sender::Ready { by, send_by, .. } = s.wire[usize::from(slot)].sender else { return None };
    let me = s.of(by);
    let open = me.role == Role::Lead;
    Some(c.lacks(Mutant::NoDeadline) || (open && me.deadline > 0 && send_by > 0))
}

/// The sender's check passes. Whatever happens next, the process may sleep here.
pub(super) fn check(c: &Config, s: &mut State, slot: u8) -> Option<()> {
    if !may_send(c, s, slot)? {
        return None;
    }
    let wire = &mut s.wire[usize::from(slot)];
    if let Sender::Ready { by, lone, .. } = wire.sender {
        wire.sender = Sender::Checked { by, age: 0, lone };
    }
    Some(())
}

/// The check fails: proven unsent.
pub(super) fn withhold(c: &Config, s: &mut State, slot: u8) -> Option<()> {
    if may_send(c, s, slot)? {
        return None;
    }
    let wire = &mut s.wire[usize::from(slot)];
    if let Sender::Ready { by, lone, .. } = wire.sender {
        wire.sender = if lone { Sender::Idle } else { Sender::Got { by, outcome: Status::NotSent } };
    }
    Some(())
}

/// The write. On a connection that the bridge has closed meanwhile, or over a cut network, nothing ever arrives.
pub(super) fn write(c: &Config, s: &mut State, slot: u8) -> Option<()> {
    let place = usize::from(slot);
    let Sender::Checked { by, age, lone } = s.wire[place].sender else { return None };
    if s.ghost.committed & (1 << slot) == 0 {
        Broken::SentUncommitted.note(&mut s.ghost);
    }
    let link = s.of(by).link;
    let awaited = !lone && s.of(by).term != Term::None;
    let wire = &mut s.wire[place];
    if link && (age <= c.timing.idle_close || c.lacks(Mutant::NoIdleClose)) {
        let copy = wire.bytes.iter_mut().find(|bytes| bytes.is_none())?;
        *copy = Some(0);
    }
    wire.sender = if awaited { Sender::Sent { by } } else { Sender::Idle };
    Some(())
}

/// The broker accepts what arrives.
pub(super) fn deliver(c: &Config, s: &mut State, slot: u8, copy: u8) -> Option<()> {
    let wire = &mut s.wire[usize::from(slot)];
    wire.bytes[usize::from(copy)].take()?;
    wire.orders += 1;
    if wire.orders == 1 {
        wire.hidden = c.timing.hides;
    }
    Some(())
}

/// The order shows in the books.
pub(super) fn show(s: &mut State, slot: u8) -> Option<()> {
    let wire = &mut s.wire[usize::from(slot)];
    (wire.hidden > 0).then(|| wire.hidden = 0)
}

/// One unit is filled.
pub(super) fn fill(c: &Config, s: &mut State, slot: u8) -> Option<()> {
    let wire = &mut s.wire[usize::from(slot)];
    if wire.orders == 0 || wire.ended || wire.filled >= wire.quantity {
        return None;
    }
    wire.filled += 1;
    let entry = c.slots[usize::from(slot)].class == Class::Entry;
    s.net += if entry { 1 } else { -1 };
    Some(())
}

/// The order ends before it is filled.
pub(super) fn end_order(c: &Config, s: &mut State, slot: u8) -> Option<()> {
    let wire = &mut s.wire[usize::from(slot)];
    if !c.broker_ends || wire.orders == 0 || wire.ended || wire.filled >= wire.quantity {
        return None;
    }
    wire.ended = true;
    Some(())
}

/// The answer arrives.
pub(super) fn answer(s: &mut State, slot: u8) -> Option<()> {
    let wire = &mut s.wire[usize::from(slot)];
    let Sender::Sent { by } = wire.sender else { return None };
    if wire.orders == 0 || !s.at[usize::from(by)].link {
        return None;
    }
    wire.sender = Sender::Got { by, outcome: Status::Acknowledged };
    Some(())
}

/// None arrives in time.
pub(super) fn silence(c: &Config, s: &mut State, slot: u8) -> Option<()> {
    let wire = &mut s.wire[usize::from(slot)];
    let Sender::Sent { by } = wire.sender else { return None };
    let lost = wire.orders == 0 && wire.bytes == [None; 2];
    if !(c.silence || lost || !s.at[usize::from(by)].link) {
        return None;
    }
    let outcome = if c.lacks(Mutant::BelievesSilence) { Status::NotSent } else { Status::InDoubt };
    wire.sender = Sender::Got { by, outcome };
    Some(())
}
