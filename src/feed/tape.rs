//! The tape: every tick of the few listings that strategies watch, with the day's volume, until it is taken.
//!
//! The board keeps the latest price only, and a strategy wants to know what was traded between two prices. Live ticks and
//! quotes over REST come here alike; totals put them in order, so what is late does no harm. The tape has a bound: who does
//! not lead takes nothing, and then the oldest ticks give way.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::Utc;
use tokio::sync::Notify;

use super::Listing;
use crate::domain::market::Tick;
use crate::domain::money::{Price, Quantity};

/// Ticks that wait at most: some seconds of a busy market.
const ROOM: usize = 4096;

/// The ticks of some listings; one reader.
#[derive(Debug, Default)]
pub struct Tape {
    listings: BTreeSet<Listing>,
    ticks: Mutex<VecDeque<(Listing, Tick)>>,
    noted: Notify,
}

impl Tape {
    /// A tape of these.
    pub fn of(listings: BTreeSet<Listing>) -> Self {
        Self { listings, ..Self::default() }
    }

    /// What it is of.
    pub fn listings(&self) -> &BTreeSet<Listing> {
        &self.listings
    }

    /// Notes a price with the day's volume, as of now; nothing where it is of another listing.
    pub fn note(&self, listing: &Listing, price: Price, volume: Option<Quantity>) {
        let Some(volume) = volume.filter(|_| self.listings.contains(listing)) else { return };
        {
            let mut ticks = self.lock();
            if ticks.len() >= ROOM {
                ticks.pop_front();
            }
            ticks.push_back((listing.clone(), Tick { at: Utc::now(), price, volume }));
        }
        self.noted.notify_one();
    }

    /// Takes what came since the last time, in the order of arrival.
    pub fn take(&self) -> Vec<(Listing, Tick)> {
        self.lock().drain(..).collect()
    }

    /// Waits until something was noted since the last call that returned.
    pub async fn noted(&self) {
        self.noted.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(Listing, Tick)>> {
        // Nothing panics while holding it.
        self.ticks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use rust_decimal::dec;

    use super::*;

    #[test]
    fn it_keeps_what_is_watched_in_order_and_has_a_bound() {
        let gold = Listing::new("MCX", "GOLDM05DEC25FUT");
        let tape = Tape::of(BTreeSet::from([gold.clone()]));
        tape.note(&Listing::new("MCX", "OTHER"), Price(dec!(1)), Some(Quantity(1)));
        tape.note(&gold, Price(dec!(1)), None);
        assert!(tape.take().is_empty());
        let most = i64::try_from(ROOM).unwrap();
        for volume in 0..most + 10 {
            tape.note(&gold, Price(dec!(100)), Some(Quantity(volume)));
        }
        let ticks = tape.take();
        assert_eq!((ticks.len(), ticks[0].1.volume), (ROOM, Quantity(10)));
        assert!(ticks.is_sorted_by_key(|(_, tick)| (tick.at, tick.volume)) && tape.take().is_empty());
    }
}
