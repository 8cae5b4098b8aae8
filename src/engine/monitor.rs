//! The term's side of the stop monitor: what prices it wants, and what a hit sets off.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use ha::Moment;

use super::stops::{CONFIRM, Hit, Sight};
use super::tell;
use super::term::{Event, Term};
use crate::domain::listing::Listing;
use crate::domain::money::Price;
use crate::feed::PriceSource;

/// The longest time between two looks, whatever the feed does.
const LOOK: Duration = Duration::from_millis(250);

/// When to look at what. A price that has changed is looked at at once, with what it concerns. All that is held is looked at
/// every [`LOOK`], and sooner with the next price after anything else has happened, but then for no more than a third of the
/// loop's time: in a flood of ticks it has other things to do, too.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rhythm {
    next: Moment,
    /// The soonest that a changed price may bring the next look at everything about.
    soonest: Moment,
    /// Something else than a price has happened since the last look at everything.
    stirred: bool,
}

/// What to look at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Due {
    /// Everything.
    All,
    /// What the changed prices concern.
    Moved,
    /// Nothing yet; what has changed is not forgotten.
    Nothing,
}

impl Rhythm {
    /// The first look is due at `now`.
    pub fn from(now: Moment) -> Self {
        Self { next: now, soonest: now, stirred: true }
    }

    /// When the next look at everything is due.
    pub fn next(&self) -> Moment {
        self.next
    }

    /// Something has happened since the last look at everything: the next price is to bring one about.
    pub fn is_stirred(&self) -> bool {
        self.stirred
    }

    /// Something has happened that may have changed what is held.
    pub fn stir(&mut self) {
        self.stirred = true;
    }

    /// What to look at, at `now`, after a price has changed or because it is time.
    pub fn due(&mut self, moved: bool, now: Moment) -> Due {
        if moved && self.stirred {
            self.next = self.next.min(self.soonest);
        }
        if now >= self.next {
            Due::All
        } else if moved && !self.stirred {
            Due::Moved
        } else {
            Due::Nothing
        }
    }

    /// Notes a look at everything that began and ended then.
    pub fn looked(&mut self, began: Moment, ended: Moment) {
        self.next = began.plus(LOOK);
        self.soonest = began.plus((ended.since(began) * 3).min(LOOK));
        self.stirred = false;
    }
}

impl Term<'_> {
    /// Looks at the stops when a price has changed, and when it is time. A hit is due as an exit from then on. False where only
    /// a price was looked at, and sets nothing off.
    pub(super) fn watch_stops(&mut self, moved: bool) -> bool {
        let now = self.fence().now();
        let due = self.rhythm.due(moved, now);
        if due == Due::Nothing {
            return false;
        }
        let engine = self.engine;
        let (policy, ages) = (&engine.rules.policy.stops, engine.prices.ages());
        let sight = Sight { policy, book: &self.book, ages, now };
        let price_of = |listing: &Listing| engine.prices.sight(listing);
        let moved = engine.prices.take_moved();
        if due == Due::Moved
            && let Some(look) = self.stops.glance(&moved, sight, price_of)
        {
            let acts = !look.ask.is_empty() || !look.hits.is_empty();
            self.act(look.ask, look.hits);
            return acts;
        }
        let look = self.stops.look(sight, price_of);
        if now >= self.next_want {
            self.next_want = now.plus(LOOK);
            self.want_prices();
        }
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
        self.act(look.ask, look.hits);
        true
    }

    /// Says by which prices the loop is to be woken, as the book is when it goes to sleep: by every one where something has
    /// happened since the last look at everything.
    pub(super) fn rest_until_a_price_matters(&self) {
        let (prices, policy) = (&self.engine.prices, &self.engine.rules.policy.stops);
        if self.rhythm.is_stirred() {
            return prices.alert();
        }
        match self.stops.calm(policy, &self.book) {
            Some(calm) => prices.rest(calm),
            None => prices.alert(),
        }
    }

    fn act(&mut self, ask: Vec<Listing>, hits: Vec<Hit>) {
        for listing in ask {
            self.ask_again(listing);
        }
        for hit in hits {
            self.hit(hit);
        }
    }

    /// The second quote of a listing is here, or could not be had.
    pub(super) fn confirmed(&mut self, listing: &Listing, quote: Option<Price>, asked: Moment) {
        let now = self.fence().now();
        tracing::info!(%listing, quote = %quote.map_or("none".to_owned(), |price| price.to_string()), "[SL] second quote");
        self.stops.answered(&self.book, listing, quote, asked, now);
        self.rhythm.stir();
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

    /// The prices of what is held as of the last look, of what is about to be, and of what strategies watch.
    fn want_prices(&mut self) {
        let prices = &self.engine.prices;
        let coming = self.book.intents.values().filter(|tracked| !tracked.intent.state.is_terminal());
        let coming = coming.map(|tracked| {
            let order = &tracked.intent.order;
            Listing::new(&order.exchange, &order.symbol)
        });
        let wanted_for = Some((self.stops.layout(), coming.collect::<Vec<_>>()));
        if self.wanted_for == wanted_for {
            return;
        }
        let coming = wanted_for.iter().flat_map(|(_, coming)| coming);
        let all = self.stops.listings().chain(coming).chain(prices.tape().listings());
        prices.want_just(&all.collect::<HashSet<&Listing>>());
        self.wanted_for = wanted_for;
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
            let _ = sender.send(Event::Confirmed { listing, quote, asked }).await;
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
    fn a_changed_price_is_looked_at_at_once_and_everything_when_it_is_time() {
        let mut rhythm = Rhythm::from(at(0));
        assert_eq!(rhythm.due(false, at(0)), Due::All);
        rhythm.looked(at(0), at(100));
        assert_eq!(rhythm.due(false, at(1)), Due::Nothing, "nothing has changed");
        assert_eq!(rhythm.due(true, at(1)), Due::Moved);
        assert_eq!(rhythm.due(true, at(2)), Due::Moved, "however many come");
        assert_eq!(rhythm.next(), at(0).plus(LOOK));
        assert_eq!(rhythm.due(true, at(0).plus(LOOK)), Due::All);
        assert_eq!(rhythm.due(false, at(0).plus(LOOK)), Due::All, "without a price it is time all the same");
    }

    #[test]
    fn what_happens_beside_prices_has_everything_looked_at_for_a_third_of_the_time() {
        let mut rhythm = Rhythm::from(at(0));
        rhythm.looked(at(0), at(100));
        rhythm.stir();
        assert_eq!(rhythm.due(false, at(299)), Due::Nothing, "no price says anything");
        assert_eq!(rhythm.due(true, at(299)), Due::Nothing);
        assert_eq!(rhythm.next(), at(300), "what has changed is not forgotten");
        assert_eq!(rhythm.due(false, at(300)), Due::All);
        rhythm.looked(at(300), at(310));
        assert_eq!(rhythm.due(true, at(311)), Due::Moved);
        rhythm.looked(at(1_000), at(999_000));
        rhythm.stir();
        assert_eq!(rhythm.due(true, at(1_000).plus(LOOK)), Due::All, "however long one takes");
    }
}
