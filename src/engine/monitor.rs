//! The term's side of the stop monitor: what prices it wants, and what a hit sets off.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ha::Moment;

use super::stops::{CONFIRM, Hit};
use super::tell;
use super::term::{Event, Term};
use crate::domain::listing::Listing;
use crate::domain::money::Price;
use crate::feed::PriceSource;

/// The longest time between two looks, whatever the feed does.
const LOOK: Duration = Duration::from_millis(250);

/// When to look: as soon as a price has changed, and at least every [`LOOK`], but for no more than a third of the loop's time: in
/// a flood of ticks it has other things to do, too. A look at a few positions takes microseconds, so a decision follows its
/// tick at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rhythm {
    next: Moment,
    /// The soonest that a changed price may bring the next one about.
    soonest: Moment,
}

impl Rhythm {
    /// The first look is due at `now`.
    pub fn from(now: Moment) -> Self {
        Self { next: now, soonest: now }
    }

    /// When the next look is due.
    pub fn next(&self) -> Moment {
        self.next
    }

    /// Whether one is due at `now`, after a price has changed or because it is time.
    pub fn is_due(&mut self, moved: bool, now: Moment) -> bool {
        if moved {
            self.next = self.next.min(self.soonest);
        }
        now >= self.next
    }

    /// Notes a look that began and ended then.
    pub fn looked(&mut self, began: Moment, ended: Moment) {
        self.next = began.plus(LOOK);
        self.soonest = began.plus((ended.since(began) * 3).min(LOOK));
    }
}

impl Term<'_> {
    /// Looks at the stops when a price has changed, and when it is time. A hit is due as an exit from then on.
    pub(super) fn watch_stops(&mut self, moved: bool) {
        let now = self.fence().now();
        if !self.rhythm.is_due(moved, now) {
            return;
        }
        if now >= self.next_want {
            self.next_want = now.plus(LOOK);
            self.want_prices();
        }
        let engine = self.engine;
        let policy = &engine.rules.policy.stops;
        let look = self.stops.look(policy, &self.book, |of| engine.prices.get(of), engine.prices.ages(), now);
        let ended = self.fence().now();
        self.rhythm.looked(now, ended);
        let unarmed = look.unarmed + self.unwatched();
        engine.metrics.stops_unarmed.set(i64::try_from(unarmed).unwrap_or(i64::MAX));
        for (id, why) in look.told {
            if let Some(position) = self.book.position(id) {
                tell::unarmed(position, why);
            }
        }
        for position in look.armed.into_iter().filter_map(|id| self.book.position(id)) {
            tell::armed(position);
        }
        for listing in look.ask {
            self.ask_again(listing);
        }
        for hit in look.hits {
            self.hit(hit);
        }
    }

    /// The second quote of a listing is here, or could not be had.
    pub(super) fn confirmed(&mut self, listing: &Listing, quote: Option<Price>) {
        let now = self.fence().now();
        tracing::info!(%listing, quote = %quote.map_or("none".to_owned(), |price| price.to_string()), "[SL] second quote");
        self.stops.answered(&self.book, listing, quote, now);
        self.watch_stops(true);
    }

    fn hit(&mut self, hit: Hit) {
        let now = self.fence().now();
        let why = format!("{} ({})", hit.trigger.sentence(hit.price), hit.source);
        if self.book.close_by(hit.position, hit.trigger.cause(), why, now)
            && let Some(position) = self.book.position(hit.position)
        {
            tell::hit(position, &hit, self.last_hits.insert(hit.position), &self.engine.metrics);
        }
    }

    /// The prices of what is held, of what is about to be, and of what strategies watch.
    fn want_prices(&self) {
        let held = self.book.portfolio.held().map(|position| position.listing());
        let coming = self.book.intents.values().filter(|tracked| !tracked.intent.state.is_terminal());
        let coming = coming.map(|tracked| {
            let order = &tracked.intent.order;
            Listing::new(&order.exchange, &order.symbol)
        });
        let watched = self.engine.prices.tape().listings().iter().cloned();
        self.engine.prices.want(held.chain(coming).chain(watched).collect::<BTreeSet<Listing>>());
    }

    fn ask_again(&self, listing: Listing) {
        tracing::warn!(%listing, "[SL] a price a jump away from the last one is at a stop: asking for a second quote");
        let engine = self.engine;
        let (broker, prices, clock) =
            (Arc::clone(&engine.broker), engine.prices.clone(), self.fence().clone());
        let sender = self.sender.clone();
        tokio::spawn(async move {
            let asked = clock.now();
            let answer =
                tokio::time::timeout(CONFIRM, broker.quote(&listing.symbol, &listing.exchange)).await;
            let quote = answer.ok().and_then(Result::ok).map(|quote| quote.ltp);
            let quote = quote.filter(|price| *price > Price::ZERO);
            if let Some(price) = quote {
                prices.record(&listing, price, PriceSource::Rest, asked);
            }
            // Gone with the term.
            let _ = sender.send(Event::Confirmed { listing, quote }).await;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(us: u64) -> Moment {
        Moment::since_boot(Duration::from_micros(us))
    }

    #[test]
    fn a_changed_price_is_looked_at_at_once_and_a_flood_takes_a_third_of_the_time() {
        let mut rhythm = Rhythm::from(at(0));
        assert!(rhythm.is_due(false, at(0)));
        rhythm.looked(at(0), at(100));
        assert!(!rhythm.is_due(false, at(300)), "nothing has changed");
        assert!(!rhythm.is_due(true, at(299)));
        assert_eq!(rhythm.next(), at(300), "what has changed is not forgotten");
        assert!(rhythm.is_due(false, at(300)));
        rhythm.looked(at(300), at(310));
        assert_eq!(rhythm.next(), at(300).plus(LOOK), "without a price it is time all the same");
        rhythm.looked(at(1_000), at(999_000));
        assert!(rhythm.is_due(true, at(1_000).plus(LOOK)), "however long one takes");
    }
}
