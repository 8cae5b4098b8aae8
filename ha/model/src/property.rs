//! What must hold. Most is said over what the broker sees; the rest over what a commit finds in the rows.

use stateright::Property;

use crate::config::{Config, Fault};
use crate::explore::Cluster;
use crate::state::{Ghost, Role, Sender, State, Status, Term};

/// Properties that a single step breaks; the step notes it, and the state keeps it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub enum Broken {
    /// S2: bytes left before their intent was committed.
    SentUncommitted = 1,
    /// S3: an intent was committed under another epoch than the row's.
    StaleIntent = 2,
    /// S7: an epoch was given out twice, or fell.
    EpochFell = 4,
    /// S8: a leader within its deadline was deposed.
    DeposedAlive = 8,
    /// S9: an intent was committed though its leader's pin was gone.
    JournaledWithoutPin = 16,
    /// S13: an intent was committed that a switch forbids.
    Switch = 32,
    /// Rule 14: an order that is not the operator's was journaled over state known to be damaged.
    Corrupt = 64,
    /// Rule 21: an entry was journaled by a cluster that flaps.
    Flapping = 128,
    /// Rule 19: one that handed over left before a higher epoch was in force.
    LeftUnsucceeded = 256,
}

impl Broken {
    /// Notes it.
    pub(crate) fn note(self, ghost: &mut Ghost) {
        ghost.broken |= self as u16;
    }

    fn absent(self, state: &State) -> bool {
        state.ghost.broken & self as u16 == 0
    }
}

/// S1, as the broker sees it.
pub const ONE_ORDER: &str = "S1 at most one order per leg";
/// S2.
pub const COMMITTED_FIRST: &str = "S2 committed before the first byte";
/// S3.
pub const NO_STALE_INTENT: &str = "S3 no old-epoch intent after a takeover";
/// S6.
pub const NO_FALSE_END: &str = "S6 an order at the broker is never taken for unsent";
/// S7.
pub const EPOCH_RISES: &str = "S7 the epoch only rises";
/// S8 and L3.
pub const NO_LIVE_LEADER_DEPOSED: &str = "S8 no leader within its deadline is deposed";
/// S9.
pub const PIN_OR_NOTHING: &str = "S9 nothing is journaled after the pin is lost";
/// S13.
pub const SWITCHES_HOLD: &str = "S13 switches hold in the journal itself";
/// S14.
pub const NOBODY_FORGETS: &str = "S14 no unfinished intent is forgotten";
/// S15.
pub const NEVER_FLIPS: &str = "S15 the position never flips";
/// S16.
pub const ABANDONED_IS_ABSENT: &str = "S16 abandoned means never at the broker";
/// Rule 14.
pub const DAMAGE_STOPS_TRADING: &str = "R14 damaged state is not traded into";
/// Rule 19.
pub const SUCCEEDED_BEFORE_GONE: &str = "R19 who hands over leaves after a higher epoch is in force";
/// Rule 20.
pub const SOMEBODY_ACTS: &str = "R20 the last one out acts by the exit policy";
/// Rule 21.
pub const FLAPPING_REDUCES: &str = "R21 a flapping cluster opens nothing";

/// All of them, and two examples that show that an exploration gets anywhere at all.
pub(crate) fn all() -> Vec<Property<Cluster>> {
    vec![
        Property::always(ONE_ORDER, |_, s: &State| s.wire.iter().all(|wire| wire.orders <= 1)),
        Property::always(COMMITTED_FIRST, |_, s| Broken::SentUncommitted.absent(s)),
        Property::always(NO_STALE_INTENT, |_, s| Broken::StaleIntent.absent(s)),
        Property::always(NO_FALSE_END, |_, s| {
            let taken_for_unsent = |status| matches!(status, Status::NotSent | Status::Refused);
            !pairs(s).any(|(status, orders)| taken_for_unsent(status) && orders > 0)
        }),
        Property::always(EPOCH_RISES, |_, s| Broken::EpochFell.absent(s)),
        Property::always(NO_LIVE_LEADER_DEPOSED, |_, s| Broken::DeposedAlive.absent(s)),
        Property::always(PIN_OR_NOTHING, |_, s| Broken::JournaledWithoutPin.absent(s)),
        Property::always(SWITCHES_HOLD, |_, s| Broken::Switch.absent(s)),
        Property::always(NOBODY_FORGETS, |_, s| !forgotten(s)),
        Property::always(NEVER_FLIPS, |_, s: &State| s.net >= 0),
        Property::always(ABANDONED_IS_ABSENT, |_, s| {
            !pairs(s).any(|(status, orders)| status == Status::Abandoned && orders > 0)
        }),
        Property::always(DAMAGE_STOPS_TRADING, |_, s| Broken::Corrupt.absent(s)),
        Property::always(SUCCEEDED_BEFORE_GONE, |_, s| Broken::LeftUnsucceeded.absent(s)),
        Property::always(SOMEBODY_ACTS, |cluster: &Cluster, s: &State| {
            let crash = Fault::Crash as usize;
            let undisturbed = s.left[crash] == cluster.config.budget[crash];
            let left = s.at[..cluster.config.instances].iter().all(|i| i.role == Role::Gone);
            s.ghost.policy || !left || !undisturbed
        }),
        Property::always(FLAPPING_REDUCES, |_, s| Broken::Flapping.absent(s)),
    ]
}

fn pairs(s: &State) -> impl Iterator<Item = (Status, u8)> {
    s.db.intents.iter().zip(&s.wire).map(|(intent, wire)| (intent.status, wire.orders))
}

/// A leader in force trades while an intent without an outcome has neither a sender nor a statement on its way.
fn forgotten(s: &State) -> bool {
    let trades = s.at.iter().any(|i| {
        i.role == Role::Lead
            && i.epoch == s.db.epoch
            && (i.pin.is_some() && i.pin == s.pg.pin)
            && i.term == Term::Serving
            && i.journal.is_none()
    });
    trades
        && s.db
            .intents
            .iter()
            .zip(&s.wire)
            .any(|(intent, wire)| intent.status == Status::Journaled && wire.sender == Sender::Idle)
}

/// Every order has its end, in the ledger and on the way to the broker.
pub(crate) fn is_finished(c: &Config, s: &State) -> bool {
    s.db.intents.iter().zip(&s.wire).take(c.slots.len()).all(|(intent, wire)| {
        !intent.status.is_out()
            && intent.status != Status::Absent
            && wire.sender == Sender::Idle
            && wire.bytes == [None; 2]
    })
}

/// Somebody leads in fact: in force, within its deadline, trading, and reaching the broker.
pub(crate) fn is_led(s: &State) -> bool {
    s.at.iter().any(|i| {
        i.role == Role::Lead
            && i.epoch == s.db.epoch
            && i.deadline > 0
            && i.pin == s.pg.pin
            && i.pin.is_some()
            && matches!(i.term, Term::Serving | Term::Custodian)
            && i.link
    })
}
