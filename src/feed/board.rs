//! The price board: the latest price of each wanted listing, with its source and when it arrived.
//!
//! It holds the wanted listings and nothing else, so it has a bound, and a tick that nobody needs leaves no trace. One
//! lock is held for a look-up and a copy; [`PriceBoard::changed`] coalesces, so a flood of ticks makes no queue.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::future::Future;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ha::Moment;
use rust_decimal::Decimal;
use tokio::sync::{Notify, watch};

use super::{Listing, Tape};
use crate::domain::money::Price;
use crate::domain::order::{UnknownName, named};
use crate::domain::portfolio::Quotes;

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
#[derive(Debug, Default)]
struct Prices {
    of: HashMap<Arc<Listing>, Slot>,
    /// Those with a price since the last call of [`PriceBoard::take_moved`], each once.
    moved: Vec<Arc<Listing>>,
    /// Goes up with each of these calls.
    round: u64,
}

/// A wanted listing's price, once there is one.
#[derive(Debug)]
struct Slot {
    listing: Arc<Listing>,
    priced: Option<Priced>,
    /// The round in which it moved last.
    moved_in: Option<u64>,
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
        Self(Arc::new(Inner { ages, prices: Mutex::default(), wanted, recorded, tape }))
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
            let mut prices = self.lock();
            prices.of.retain(|listing, _| listings.contains(listing.as_ref()));
            for listing in &listings {
                if prices.of.contains_key(listing) {
                    continue;
                }
                let listing = Arc::new(listing.clone());
                let slot = Slot { listing: Arc::clone(&listing), priced: None, moved_in: None };
                prices.of.insert(listing, slot);
            }
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
    /// [`Price`] is a decimal.)
    pub fn record(&self, listing: &Listing, price: Price, source: PriceSource, at: Moment) {
        if price.0 <= Decimal::ZERO {
            return;
        }
        {
            let mut prices = self.lock();
            let Prices { of, moved, round } = &mut *prices;
            let Some(slot) = of.get_mut(listing) else { return };
            if slot.priced.is_some_and(|held| held.at > at) {
                return;
            }
            slot.priced = Some(Priced { price, source, at });
            if slot.moved_in.replace(*round) != Some(*round) {
                moved.push(Arc::clone(&slot.listing));
            }
        }
        self.0.recorded.notify_one();
    }

    /// Marks what has not been renewed within `age` as coming from the cache; its price and time stay. Says how many
    /// of the wanted listings are then only cached or have no price at all.
    pub fn demote(&self, age: Duration, now: Moment) -> usize {
        let mut without_source = 0;
        for slot in self.lock().of.values_mut() {
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
        self.lock().of.get(listing)?.priced
    }

    /// The prices of these listings that came within `age`.
    pub fn quotes(&self, listings: impl Iterator<Item = Listing>, age: Duration, now: Moment) -> Quotes {
        let mut quotes = Quotes::new();
        for listing in listings {
            if let Some(priced) = self.get(&listing).filter(|priced| now.since(priced.at) <= age) {
                quotes.set(&listing.exchange, &listing.symbol, priced.price);
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

    /// Takes the listings of which a price was recorded since the last call, each once; some of them may be wanted no more.
    pub fn take_moved(&self) -> Vec<Arc<Listing>> {
        let mut prices = self.lock();
        prices.round += 1;
        std::mem::take(&mut prices.moved)
    }

    /// Waits until a price was recorded since the last call that returned. For one reader, which it never makes miss a
    /// record, whatever it does between two calls; records in between count as one.
    pub fn changed(&self) -> impl Future<Output = ()> + Send + '_ {
        self.0.recorded.notified()
    }

    /// Every price known, by listing.
    pub fn all(&self) -> Vec<(Listing, Priced)> {
        let mut all: Vec<_> = self
            .lock()
            .of
            .values()
            .filter_map(|slot| Some(((*slot.listing).clone(), slot.priced?)))
            .collect();
        all.sort_by(|(one, _), (other, _)| one.cmp(other));
        all
    }

    /// Every price, of whatever listing.
    pub fn priced(&self) -> Vec<Priced> {
        self.lock().of.values().filter_map(|slot| slot.priced).collect()
    }

    /// The wanted listings whose price is older than `age`, or not known.
    pub fn older_than(&self, age: Duration, now: Moment) -> Vec<Listing> {
        let prices = self.lock();
        let is_old = |slot: &&Slot| slot.priced.is_none_or(|held| now.since(held.at) > age);
        prices.of.values().filter(is_old).map(|slot| (*slot.listing).clone()).collect()
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
mod tests {
    use futures_util::{FutureExt, poll};
    use rust_decimal::dec;

    use super::*;

    fn gold() -> Listing {
        Listing::new("MCX", "GOLDM05DEC25FUT")
    }

    fn at(seconds: u64) -> Moment {
        Moment::since_boot(Duration::from_secs(seconds))
    }

    fn board() -> PriceBoard {
        let board = PriceBoard::new();
        board.want(BTreeSet::from([gold()]));
        board
    }

    #[test]
    fn the_latest_arrival_wins() {
        let board = board();
        board.record(&gold(), Price(dec!(100)), PriceSource::Live, at(10));
        board.record(&gold(), Price(dec!(90)), PriceSource::Rest, at(9));
        assert_eq!(board.get(&gold()).unwrap().price, Price(dec!(100)));
        board.record(&gold(), Price(dec!(101)), PriceSource::Rest, at(10));
        let priced = board.get(&gold()).unwrap();
        assert_eq!((priced.price, priced.source), (Price(dec!(101)), PriceSource::Rest));
    }

    #[test]
    fn what_is_no_price_and_what_nobody_wants_is_not_stored() {
        let board = board();
        board.record(&gold(), Price::ZERO, PriceSource::Live, at(1));
        board.record(&gold(), Price(dec!(-1)), PriceSource::Live, at(1));
        board.record(&Listing::new("NFO", "OTHER"), Price(dec!(5)), PriceSource::Live, at(1));
        assert!(board.all().is_empty());
        assert!(board.changed().now_or_never().is_none(), "nothing was recorded");
    }

    #[test]
    fn wanting_anew_keeps_the_prices_of_what_is_still_wanted() {
        let board = board();
        let silver = Listing::new("MCX", "SILVERM27FEB26FUT");
        board.record(&gold(), Price(dec!(100)), PriceSource::Live, at(1));
        board.want(BTreeSet::from([gold(), silver.clone()]));
        assert_eq!(board.all().len(), 1);
        assert_eq!(board.older_than(Duration::from_secs(5), at(2)), std::slice::from_ref(&silver));
        board.want(BTreeSet::from([silver]));
        assert_eq!(board.get(&gold()), None);
        assert!(board.all().is_empty());
    }

    #[test]
    fn wanting_the_same_again_wakes_nobody() {
        let board = board();
        let mut wanted = board.wanted();
        wanted.mark_unchanged();
        board.want(BTreeSet::from([gold()]));
        board.want_just(&HashSet::from([&gold()]));
        assert!(!wanted.has_changed().unwrap());
        let silver = Listing::new("MCX", "SILVERM27FEB26FUT");
        board.want_just(&HashSet::from([&silver]));
        assert_eq!(**wanted.borrow_and_update(), BTreeSet::from([silver.clone()]), "as many, and others");
        board.want_just(&HashSet::from([&silver, &gold()]));
        assert_eq!(wanted.borrow_and_update().len(), 2);
        board.want(BTreeSet::new());
        assert!(wanted.has_changed().unwrap());
    }

    #[test]
    fn freshness_falls_with_age() {
        let board = board();
        assert_eq!(board.freshness(&gold(), at(1)), Freshness::Dead);
        board.record(&gold(), Price(dec!(100)), PriceSource::Live, at(10));
        for (seconds, expected) in
            [(10, Freshness::Live), (40, Freshness::Live), (41, Freshness::Stale), (311, Freshness::Dead)]
        {
            assert_eq!(board.freshness(&gold(), at(seconds)), expected, "after {seconds} s");
        }
    }

    #[test]
    fn quotes_are_of_what_came_in_time_and_a_dead_price_still_values() {
        let board = board();
        board.record(&gold(), Price(dec!(100)), PriceSource::Live, at(10));
        let within =
            |age, now| board.quotes([gold(), Listing::new("NFO", "OTHER")].into_iter(), age, at(now));
        let ages = board.ages();
        assert_eq!(within(ages.stale, 40).get("MCX", "GOLDM05DEC25FUT"), Some(Price(dec!(100))));
        assert_eq!(within(ages.stale, 41), Quotes::new());
        assert_eq!(within(ages.worth(), 910).get("MCX", "GOLDM05DEC25FUT"), Some(Price(dec!(100))));
        assert_eq!(within(ages.worth(), 911), Quotes::new());
    }

    #[test]
    fn what_is_not_renewed_comes_from_the_cache_and_keeps_its_time() {
        let board = board();
        board.record(&gold(), Price(dec!(100)), PriceSource::Live, at(10));
        assert_eq!(board.demote(Duration::from_secs(5), at(15)), 0);
        assert_eq!(board.demote(Duration::from_secs(5), at(16)), 1);
        let priced = board.get(&gold()).unwrap();
        assert_eq!((priced.price, priced.source, priced.at), (Price(dec!(100)), PriceSource::Cache, at(10)));
    }

    #[test]
    fn what_has_moved_is_told_once_and_again_when_it_moves_again() {
        let (board, silver) = (PriceBoard::new(), Listing::new("MCX", "SILVERM27FEB26FUT"));
        board.want(BTreeSet::from([gold(), silver.clone()]));
        let moved = || board.take_moved().iter().map(|of| (**of).clone()).collect::<Vec<_>>();
        let record = |listing: &Listing, seconds| {
            board.record(listing, Price(dec!(100)), PriceSource::Live, at(seconds));
        };
        assert!(moved().is_empty());
        record(&gold(), 1);
        record(&silver, 1);
        record(&gold(), 2);
        assert_eq!(moved(), [gold(), silver]);
        assert!(moved().is_empty());
        record(&gold(), 1);
        assert!(moved().is_empty(), "an older price moves nothing");
        record(&gold(), 2);
        assert_eq!(moved(), [gold()], "the same price again is a price");
        board.want(BTreeSet::new());
        record(&gold(), 3);
        assert!(moved().is_empty(), "nobody wants it");
    }

    #[tokio::test]
    async fn a_reader_misses_no_record_and_many_count_as_one() {
        let board = board();
        for seconds in 1..100 {
            board.record(&gold(), Price(dec!(100)), PriceSource::Live, at(seconds));
        }
        // Recorded before anybody waited.
        board.changed().await;
        let mut waiting = Box::pin(board.changed());
        assert!(poll!(&mut waiting).is_pending());
        board.record(&gold(), Price(dec!(100)), PriceSource::Live, at(100));
        waiting.await;
    }
}
