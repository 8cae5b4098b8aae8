//! The places of the board, one a wanted listing, found by names that are only borrowed.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::{Listing, Priced, Sighted};
use crate::domain::stops::Calm;

/// By symbol, so that it is found without a copy; several exchanges may list one symbol.
#[derive(Debug, Default)]
pub(super) struct Slots(HashMap<String, Vec<Slot>>);

/// A wanted listing's price, once there is one.
#[derive(Debug)]
pub(super) struct Slot {
    pub listing: Arc<Listing>,
    pub priced: Option<Priced>,
    /// The prices that do not wake the reader; none where each does.
    pub calm: Option<Calm>,
    /// Somebody has levels there: without any, no price is one before a jump.
    minded: bool,
    /// The last two of these that came while somebody had, the newer first.
    calms: [Option<Priced>; 2],
    /// The latest price is one of these, and has not woken the reader since either.
    slept_through: bool,
    /// The round in which it woke the reader last.
    moved_in: Option<u64>,
}

// === impl Slots ===

impl Slots {
    pub fn get(&self, exchange: &str, symbol: &str) -> Option<&Slot> {
        self.0.get(symbol)?.iter().find(|slot| slot.listing.exchange == exchange)
    }

    pub fn get_mut(&mut self, exchange: &str, symbol: &str) -> Option<&mut Slot> {
        self.0.get_mut(symbol)?.iter_mut().find(|slot| slot.listing.exchange == exchange)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Slot> {
        self.0.values().flatten()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Slot> {
        self.0.values_mut().flatten()
    }

    /// Has a slot for each of `wanted`, and for nothing else.
    pub fn keep(&mut self, wanted: &BTreeSet<Listing>) {
        for slots in self.0.values_mut() {
            slots.retain(|slot| wanted.contains(&*slot.listing));
        }
        self.0.retain(|_, slots| !slots.is_empty());
        for listing in wanted {
            if self.get(&listing.exchange, &listing.symbol).is_none() {
                let slots = self.0.entry(listing.symbol.clone()).or_default();
                slots.push(Slot::of(listing.clone()));
            }
        }
    }
}

// === impl Slot ===

impl Slot {
    fn of(listing: Listing) -> Self {
        let listing = Arc::new(listing);
        Self {
            listing,
            priced: None,
            calm: None,
            minded: false,
            calms: [None; 2],
            slept_through: false,
            moved_in: None,
        }
    }

    /// Takes the latest price; true if it wakes the reader: on `alert` each does, otherwise one that is not calm.
    pub fn take(&mut self, priced: Priced, alert: bool) -> bool {
        self.priced = Some(priced);
        let is_calm = self.calm.is_some_and(|calm| calm.holds(priced.price));
        if is_calm {
            // Once nobody has levels there, what was calm is no measure for who comes later.
            self.calms = if self.minded { [Some(priced), self.calms[0]] } else { [None; 2] };
        }
        let wakes = alert || !is_calm;
        self.slept_through = !wakes;
        wakes
    }

    /// The latest price, and the calm one before it.
    pub fn sight(&self) -> Option<Sighted> {
        let priced = self.priced?;
        let is_calm = self.calms[0] == Some(priced);
        let calm = self.calms.into_iter().flatten().find(|calm| calm.at < priced.at);
        Some(Sighted { priced, is_calm, calm })
    }

    /// Takes it that nobody has levels there.
    pub fn forget(&mut self) {
        (self.calm, self.minded) = (Some(Calm::ANY), false);
    }

    /// Takes what is calm from now on; true if the latest price is not, and the reader has slept through it: once.
    pub fn rest(&mut self, calm: Option<Calm>) -> bool {
        (self.calm, self.minded) = (calm, true);
        let matters = |priced: Priced| calm.is_some_and(|calm| !calm.holds(priced.price));
        let wakes = self.slept_through && self.priced.is_some_and(matters);
        self.slept_through &= !wakes;
        wakes
    }

    /// Notes it among what `moved`, once a `round`.
    pub fn note_moved(&mut self, round: u64, moved: &mut Vec<Arc<Listing>>) {
        if self.moved_in.replace(round) != Some(round) {
            moved.push(Arc::clone(&self.listing));
        }
    }
}
