//! The term's side of the stop monitor: what prices it wants, and what a hit sets off.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::stops::{CONFIRM, Hit};
use super::tell;
use super::term::{Event, Term};
use crate::domain::listing::Listing;
use crate::domain::money::Price;
use crate::feed::PriceSource;

/// The longest time between two looks, whatever the feed does.
const LOOK: Duration = Duration::from_millis(250);

/// The shortest time from one look to the next, by what the last one took: in a flood of ticks the loop has other things to
/// do, too, and they have two thirds of its time. A look at a few positions takes microseconds, so a decision follows its
/// tick at once.
pub(super) fn pace_after(took: Duration) -> Duration {
    (took * 2).min(LOOK)
}

impl Term<'_> {
    /// Looks at the stops when a price has changed, and when it is time. A hit is due as an exit from then on.
    pub(super) fn watch_stops(&mut self, moved: bool) {
        let now = self.fence().now();
        if now < self.next_look {
            if moved {
                self.next_look = self.next_look.min(self.last_look.plus(self.look_pace));
            }
            if now < self.next_look {
                return;
            }
        }
        self.last_look = now;
        self.next_look = now.plus(LOOK);
        if now >= self.next_want {
            self.next_want = now.plus(LOOK);
            self.want_prices();
        }
        let engine = self.engine;
        let policy = &engine.rules.policy.stops;
        let look = self.stops.look(policy, &self.book, |of| engine.prices.get(of), engine.prices.ages(), now);
        self.look_pace = pace_after(self.fence().now().since(now));
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
