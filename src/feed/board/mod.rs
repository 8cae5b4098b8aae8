//! The price board: the latest price of each wanted listing, with its source and when it arrived.
//!
//! It holds the wanted listings and nothing else, so it has a bound, and a tick that nobody needs leaves no trace. One
//! lock is held for a look-up and a copy; [`PriceBoard::changed`] coalesces, so a flood of ticks makes no queue.
//!
//! Ticks come by the thousand a second, and next to none of them sets anything off. So its reader says between which levels
//! prices are calm ([`PriceBoard::rest`]) and sleeps on until one is not, or, whenever it does not know, has every price wake it
//! ([`PriceBoard::alert`]).

mod slots;

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::future::Future;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ha::Moment;
use rust_decimal::Decimal;
use tokio::sync::{Notify, watch};

use self::slots::{Slot, Slots};
use super::{Listing, Tape};
use crate::domain::money::Price;
use crate::domain::order::{UnknownName, named};
use crate::domain::portfolio::Quotes;
use crate::domain::stops::Calm;

/// Where a price came from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PriceSource {
    /// A tick of the live feed.
    Live,
    /// A quote that was asked for.
    Rest,
    /// The last one known: no source gives a newer one.
    Cache,
}
named!(PriceSource { Live = "live", Rest = "rest", Cache = "cache" });

/// A price with what must be known to use it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Priced {
    /// The price.
    pub price: Price,
    /// Where it came from.
    pub source: PriceSource,
    /// When it arrived, on the boot-time clock.
    pub at: Moment,
}

/// A price as one needs it who tells a move from a jump.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sighted {
    /// The latest one.
    pub priced: Priced,
    /// That one was calm when it came, and the reader had levels there: it may have slept through it.
    pub is_calm: bool,
    /// The latest one before it that was.
    pub calm: Option<Priced>,
}

/// What a price is good for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Freshness {
    /// Decisions may rest on it.
    Live,
    /// Old: exits may use it, entries should not.
    Stale,
    /// Unknown, or so old that it says nothing: entries are frozen.
    Dead,
}
named!(Freshness { Live = "live", Stale = "stale", Dead = "dead" });

/// From what age on a price is worth less.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ages {
    /// An older one is stale.
    pub stale: Duration,
    /// An older one is dead.
    pub dead: Duration,
}

/// Live prices by listing; cheap to clone, shared by the feed, which writes, and the engine and the API, which read.
#[derive(Clone, Debug)]
pub struct PriceBoard(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    ages: Ages,
    prices: Mutex<Prices>,
    wanted: watch::Sender<Arc<BTreeSet<Listing>>>,
    recorded: Notify,
    /// Each tick of what strategies watch.
    tape: Tape,
}

/// Every wanted listing.
#[derive(Debug)]
struct Prices {
    slots: Slots,
    /// Those with a price since the last call of [`PriceBoard::take_moved`] that woke the reader, each once.
    moved: Vec<Arc<Listing>>,
    /// Goes up with each of these calls.
    round: u64,
    /// Every price wakes the reader.
    alert: bool,
    /// A price came since the last call of [`PriceBoard::take_moved`] that did not.
    slept: bool,
}

impl Default for Ages {
    fn default() -> Self {
        Self { stale: Duration::from_secs(30), dead: Duration::from_secs(300) }
    }
}

// === impl PriceBoard ===

impl PriceBoard {
    /// An empty board with the default ages: stale after 30 s, dead after 300 s.
    pub fn new() -> Self {
        Self::with_ages(Ages::default())
    }

    /// An empty board.
    pub fn with_ages(ages: Ages) -> Self {
        Self::taping(ages, BTreeSet::new())
    }

    /// An empty board that keeps each tick of `listings`, with the day's volume, for one who takes it.
    pub fn taping(ages: Ages, listings: BTreeSet<Listing>) -> Self {
        let wanted = watch::Sender::new(Arc::new(BTreeSet::new()));
        let (recorded, tape) = (Notify::new(), Tape::of(listings));
        let prices =
            Prices { slots: Slots::default(), moved: Vec::new(), round: 0, alert: true, slept: false };
        Self(Arc::new(Inner { ages, prices: Mutex::new(prices), wanted, recorded, tape }))
    }

    /// The ticks of what strategies watch.
    pub fn tape(&self) -> &Tape {
        &self.0.tape
    }

    /// Says of which listings prices are needed: those held and those about to be entered. Replaces what was wanted
    /// before; the prices of listings that are wanted no more are forgotten.
    pub fn want(&self, listings: BTreeSet<Listing>) {
        self.0.wanted.send_if_modified(|wanted| {
            if **wanted == listings {
                return false;
            }
            self.lock().slots.keep(&listings);
            *wanted = Arc::new(listings);
            true
        });
    }

    /// The same, for one who says so again and again: names are copied only where they are not those wanted before.
    pub fn want_just(&self, listings: &HashSet<&Listing>) {
        let as_before = {
            let wanted = self.0.wanted.borrow();
            wanted.len() == listings.len() && wanted.iter().all(|listing| listings.contains(listing))
        };
        if !as_before {
            self.want(listings.iter().map(|listing| (*listing).clone()).collect());
        }
    }

    /// What is wanted now, and its changes.
    pub fn wanted(&self) -> watch::Receiver<Arc<BTreeSet<Listing>>> {
        self.0.wanted.subscribe()
    }

    /// Notes a price that arrived at `at`. The latest arrival wins: one that is older than what is held is dropped, and
    /// so are a price of zero or less and one of a listing that nobody wants. (Not-a-numbers cannot come here: a
    /// [`Price`] is a decimal.) True if it wakes the reader.
    pub fn record(&self, listing: &Listing, price: Price, source: PriceSource, at: Moment) -> bool {
        if price.0 <= Decimal::ZERO {
            return false;
        }
        let wakes = {
            let mut prices = self.lock();
            let Prices { slots, moved, round, alert, slept } = &mut *prices;
            let Some(slot) = slots.get_mut(&listing.exchange, &listing.symbol) else { return false };
            if slot.priced.is_some_and(|held| held.at > at) {
                return false;
            }
            let wakes = slot.take(Priced { price, source, at }, *alert);
            if wakes {
                slot.note_moved(*round, moved);
            }
            *slept |= !wakes;
            wakes
        };
        if wakes {
            self.0.recorded.notify_one();
        }
        wakes
    }

    /// Has every price wake the reader from now on, and at once if it has slept through one since it took what moved.
    pub fn alert(&self) {
        let slept = {
            let mut prices = self.lock();
            prices.alert = true;
            prices.slept
        };
        if slept {
            self.0.recorded.notify_one();
        }
    }

    /// Has prices wake the reader from now on that are not calm: of a listing in `calm` those beyond its levels, or every one
    /// where it has none; of all others no price does. One that it has slept through and that is not calm by what is said now wakes
    /// it at once.
    pub fn rest<'a>(&self, calm: impl IntoIterator<Item = (&'a Listing, Option<Calm>)>) {
        let mut wakes = false;
        {
            let mut prices = self.lock();
            let Prices { slots, moved, round, alert, .. } = &mut *prices;
            *alert = false;
            slots.iter_mut().for_each(Slot::forget);
            for (listing, calm) in calm {
                let Some(slot) = slots.get_mut(&listing.exchange, &listing.symbol) else { continue };
                if slot.rest(calm) {
                    slot.note_moved(*round, moved);
                    wakes = true;
                }
            }
        }
        if wakes {
            self.0.recorded.notify_one();
        }
    }

    /// Marks what has not been renewed within `age` as coming from the cache; its price and time stay. Says how many
    /// of the wanted listings are then only cached or have no price at all.
    pub fn demote(&self, age: Duration, now: Moment) -> usize {
        let mut without_source = 0;
        for slot in self.lock().slots.iter_mut() {
            match &mut slot.priced {
                Some(held) if now.since(held.at) <= age => {}
                Some(held) => {
                    held.source = PriceSource::Cache;
                    without_source += 1;
                }
                None => without_source += 1,
            }
        }
        without_source
    }

    /// The latest price of a wanted listing.
    pub fn get(&self, listing: &Listing) -> Option<Priced> {
        self.priced_of(&listing.exchange, &listing.symbol)
    }

    fn priced_of(&self, exchange: &str, symbol: &str) -> Option<Priced> {
        self.lock().slots.get(exchange, symbol)?.priced
    }

    /// The latest price of a wanted listing, and the calm one before it.
    pub fn sight(&self, listing: &Listing) -> Option<Sighted> {
        let prices = self.lock();
        let slot = prices.slots.get(&listing.exchange, &listing.symbol)?;
        slot.sight()
    }

    /// The price of `symbol` on `exchange`, if it came within `age`.
    pub fn price_within(&self, exchange: &str, symbol: &str, age: Duration, now: Moment) -> Option<Price> {
        let priced = self.priced_of(exchange, symbol)?;
        (now.since(priced.at) <= age).then_some(priced.price)
    }

    /// The prices of these listings that came within `age`.
    pub fn quotes(&self, listings: impl Iterator<Item = Listing>, age: Duration, now: Moment) -> Quotes {
        let mut quotes = Quotes::new();
        for listing in listings {
            if let Some(price) = self.price_within(&listing.exchange, &listing.symbol, age, now) {
                quotes.set(&listing.exchange, &listing.symbol, price);
            }
        }
        quotes
    }

    /// Says what the price of a listing is good for at `now`; [`Freshness::Dead`] where none is known.
    pub fn freshness(&self, listing: &Listing, now: Moment) -> Freshness {
        self.get(listing).map_or(Freshness::Dead, |priced| self.0.ages.judge(now.since(priced.at)))
    }

    /// From what age on a price is stale and dead here.
    pub fn ages(&self) -> Ages {
        self.0.ages
    }

    /// Takes the listings of which a price woke the reader since the last call, each once; some of them may be wanted no more.
    pub fn take_moved(&self) -> Vec<Arc<Listing>> {
        let mut prices = self.lock();
        prices.round += 1;
        prices.slept = false;
        std::mem::take(&mut prices.moved)
    }

    /// Waits until a price was recorded that wakes the reader, since the last call that returned. For one reader, which it never
    /// makes miss one, whatever it does between two calls; those in between count as one.
    pub fn changed(&self) -> impl Future<Output = ()> + Send + '_ {
        self.0.recorded.notified()
    }

    /// Every price known, by listing.
    pub fn all(&self) -> Vec<(Listing, Priced)> {
        let mut all: Vec<_> = self
            .lock()
            .slots
            .iter()
            .filter_map(|slot| Some(((*slot.listing).clone(), slot.priced?)))
            .collect();
        all.sort_by(|(one, _), (other, _)| one.cmp(other));
        all
    }

    /// Every price, of whatever listing.
    pub fn priced(&self) -> Vec<Priced> {
        self.lock().slots.iter().filter_map(|slot| slot.priced).collect()
    }

    /// The wanted listings whose price is older than `age`, or not known.
    pub fn older_than(&self, age: Duration, now: Moment) -> Vec<Listing> {
        let prices = self.lock();
        let is_old = |slot: &&Slot| slot.priced.is_none_or(|held| now.since(held.at) > age);
        prices.slots.iter().filter(is_old).map(|slot| (*slot.listing).clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Prices> {
        // Nothing panics while holding it; a price is one copy, so it is whole in any case.
        self.0.prices.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for PriceBoard {
    fn default() -> Self {
        Self::new()
    }
}

// === impl Ages ===

impl Ages {
    /// Up to what age a price says what a holding is worth: three times the age at which it is dead. It decides no order then,
    /// but a limit of the account has to be judged by something.
    pub fn worth(self) -> Duration {
        self.dead * 3
    }

    /// What a price of this age is good for.
    pub fn judge(self, age: Duration) -> Freshness {
        match age {
            age if age > self.dead => Freshness::Dead,
            age if age > self.stale => Freshness::Stale,
            _ => Freshness::Live,
        }
    }
}

#[cfg(test)]
mod tests;
