//! What one socket has subscribed to and hears, and whether it has gone mute. Pure: the time is passed in.
//!
//! A feed dies in silence: its upstream token expires, the socket stays open, pings are answered, a new subscription is
//! granted, and no tick comes. Only the ticks' own age tells. One listing alone may simply not trade, so it counts as
//! mute when every listing is silent, or when a quote asked for meanwhile shows that the price has moved.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use ha::Moment;

use super::frames::Granted;
use crate::domain::listing::Listing;
use crate::domain::money::Price;

/// How long an answer to a subscription may take, with the proxy heard all the while, before it is asked for again.
const ANSWER: Duration = Duration::from_secs(20);
/// How long a refused listing rests before it is asked for again: contract lists are refilled at each login.
const REST: Duration = Duration::from_secs(15);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Standing {
    /// Not asked for yet.
    Due,
    /// Asked for at this moment.
    Asked(Moment),
    /// Granted, or heard.
    Held,
    /// Refused at this moment.
    Refused(Moment),
}

/// One wanted listing on this socket.
#[derive(Debug)]
struct Line {
    listing: Listing,
    standing: Standing,
    /// Since when it has been silent: its last tick, or when it was asked for.
    quiet_since: Moment,
    last_price: Option<Price>,
}

/// The lines of one socket.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    /// By symbol, so that a tick finds its line without a copy; several exchanges may list one symbol.
    lines: HashMap<String, Vec<Line>>,
    count: usize,
}

/// What became of the wanted listings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Hearing {
    /// Ticks come, or nothing is to be heard.
    Well,
    /// So many of so many listings are silent though they should not be.
    Mute { silent: usize, of: usize },
}

impl Subscriptions {
    /// Takes over what is wanted; returns what is wanted no more, to be unsubscribed.
    pub fn want(&mut self, wanted: &BTreeSet<Listing>, now: Moment) -> Vec<Listing> {
        let mut gone = Vec::new();
        for lines in self.lines.values_mut() {
            lines.retain(|line| {
                let keep = wanted.contains(&line.listing);
                if !keep && line.standing != Standing::Due {
                    gone.push(line.listing.clone());
                }
                keep
            });
        }
        self.lines.retain(|_, lines| !lines.is_empty());
        for listing in wanted {
            let lines = self.lines.entry(listing.symbol.clone()).or_default();
            if lines.iter().all(|line| line.listing != *listing) {
                let (standing, listing) = (Standing::Due, listing.clone());
                lines.push(Line { listing, standing, quiet_since: now, last_price: None });
            }
        }
        self.count = wanted.len();
        gone.sort();
        gone
    }

    /// What to ask for now: new ones, unanswered ones and those that were refused a while ago. `awake` is since when the
    /// proxy is heard without a gap, none while it is not: one that hangs has the question before it, and would be asked
    /// twice.
    pub fn due(&mut self, now: Moment, awake: Option<Moment>) -> Vec<Listing> {
        let mut due = Vec::new();
        for line in self.lines.values_mut().flatten() {
            let is_due = match line.standing {
                Standing::Due => true,
                Standing::Asked(at) => awake.is_some_and(|awake| now.since(at.max(awake)) >= ANSWER),
                Standing::Refused(at) => now.since(at) >= REST,
                Standing::Held => false,
            };
            if is_due {
                line.standing = Standing::Asked(now);
                due.push(line.listing.clone());
            }
        }
        due.sort();
        due
    }

    /// Notes an answer; returns the reason of a refusal that is news.
    pub fn answered(&mut self, granted: &Granted, now: Moment) -> Option<String> {
        let line = self.line(&granted.listing.exchange, &granted.listing.symbol)?;
        let (standing, news) = match &granted.refusal {
            None => (Standing::Held, None),
            Some(why) => (Standing::Refused(now), Some(why.clone())),
        };
        line.standing = standing;
        news
    }

    /// Notes a tick; returns its listing if it is wanted.
    pub fn heard(&mut self, exchange: &str, symbol: &str, price: Price, now: Moment) -> Option<&Listing> {
        let line = self.line(exchange, symbol)?;
        line.standing = Standing::Held;
        line.quiet_since = now;
        line.last_price = Some(price);
        Some(&line.listing)
    }

    /// The market rests: its silence is nobody's, and counts from the opening on.
    pub fn rest(&mut self, now: Moment) {
        for line in self.lines.values_mut().flatten() {
            line.quiet_since = line.quiet_since.max(now);
        }
    }

    /// Listings that the socket is to hear.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Says whether the socket has gone mute: nothing for `patience`. `elsewhere` is the price that another source
    /// gives now.
    pub fn hearing(
        &self,
        patience: Duration,
        now: Moment,
        elsewhere: impl Fn(&Listing) -> Option<Price>,
    ) -> Hearing {
        let lines = || self.lines.values().flatten();
        let silent = lines().filter(|line| now.since(line.quiet_since) > patience);
        let mut moved = false;
        let mut count = 0;
        for line in silent {
            count += 1;
            moved |= match (line.last_price, elsewhere(&line.listing)) {
                (Some(heard), Some(other)) => heard != other,
                _ => false,
            };
        }
        let all = count > 0 && count == self.count;
        if all || moved { Hearing::Mute { silent: count, of: self.count } } else { Hearing::Well }
    }

    fn line(&mut self, exchange: &str, symbol: &str) -> Option<&mut Line> {
        self.lines.get_mut(symbol)?.iter_mut().find(|line| line.listing.exchange == exchange)
    }
}

#[cfg(test)]
mod tests {
    use rust_decimal::dec;

    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::since_boot(Duration::from_secs(seconds))
    }

    fn set(symbols: &[&str]) -> BTreeSet<Listing> {
        symbols.iter().map(|symbol| Listing::new("NFO", *symbol)).collect()
    }

    fn names(listings: &[Listing]) -> Vec<&str> {
        listings.iter().map(|listing| listing.symbol.as_str()).collect()
    }

    const PATIENCE: Duration = Duration::from_secs(30);

    #[test]
    fn only_the_difference_is_asked_for() {
        let mut subscriptions = Subscriptions::default();
        assert!(subscriptions.want(&set(&["A", "B"]), at(0)).is_empty());
        assert_eq!(names(&subscriptions.due(at(0), Some(at(0)))), ["A", "B"]);
        assert!(subscriptions.due(at(1), Some(at(0))).is_empty(), "asked already");
        let gone = subscriptions.want(&set(&["B", "C"]), at(1));
        assert_eq!(names(&gone), ["A"]);
        assert_eq!(names(&subscriptions.due(at(1), Some(at(0)))), ["C"]);
        assert_eq!(subscriptions.len(), 2);
    }

    #[test]
    fn what_is_unanswered_or_refused_is_asked_for_again_and_what_ticks_is_not() {
        let mut subscriptions = Subscriptions::default();
        subscriptions.want(&set(&["A", "B", "C"]), at(0));
        subscriptions.due(at(0), Some(at(0)));
        let refused = Granted { listing: Listing::new("NFO", "B"), refusal: Some("not found".to_owned()) };
        assert_eq!(subscriptions.answered(&refused, at(1)).as_deref(), Some("not found"));
        assert!(subscriptions.heard("NFO", "C", Price(dec!(1)), at(2)).is_some());
        assert!(subscriptions.heard("MCX", "C", Price(dec!(1)), at(2)).is_none(), "another exchange's");
        assert_eq!(names(&subscriptions.due(at(16), Some(at(0)))), ["B"]);
        assert!(
            subscriptions.due(at(20), None).is_empty() && subscriptions.due(at(29), Some(at(10))).is_empty()
        );
        assert_eq!(names(&subscriptions.due(at(20), Some(at(0)))), ["A"]);
        assert_eq!(subscriptions.answered(&Granted { refusal: None, ..refused }, at(17)), None);
        assert_eq!(names(&subscriptions.due(at(60), Some(at(0)))), ["A"]);
    }

    #[test]
    fn silence_of_all_is_mute() {
        let mut subscriptions = Subscriptions::default();
        subscriptions.want(&set(&["A", "B"]), at(0));
        subscriptions.heard("NFO", "A", Price(dec!(1)), at(10));
        let hearing = |subscriptions: &Subscriptions, now| subscriptions.hearing(PATIENCE, now, |_| None);
        assert_eq!(hearing(&subscriptions, at(35)), Hearing::Well, "A ticked 25 s ago");
        assert_eq!(hearing(&subscriptions, at(41)), Hearing::Mute { silent: 2, of: 2 });
        assert_eq!(hearing(&Subscriptions::default(), at(100)), Hearing::Well, "nothing to be heard");
    }

    #[test]
    fn the_night_before_an_opening_is_no_silence() {
        let mut subscriptions = Subscriptions::default();
        subscriptions.want(&set(&["A", "B"]), at(0));
        subscriptions.heard("NFO", "A", Price(dec!(100)), at(1));
        let elsewhere = |_: &Listing| Some(Price(dec!(105)));
        assert_eq!(subscriptions.hearing(PATIENCE, at(1000), elsewhere), Hearing::Mute { silent: 2, of: 2 });
        subscriptions.rest(at(1000));
        assert_eq!(subscriptions.hearing(PATIENCE, at(1030), elsewhere), Hearing::Well, "it opened above");
        assert_eq!(subscriptions.hearing(PATIENCE, at(1031), elsewhere), Hearing::Mute { silent: 2, of: 2 });
    }

    #[test]
    fn one_quiet_listing_is_mute_only_when_its_price_moves_elsewhere() {
        let mut subscriptions = Subscriptions::default();
        subscriptions.want(&set(&["A", "B"]), at(0));
        subscriptions.heard("NFO", "B", Price(dec!(100)), at(1));
        subscriptions.heard("NFO", "A", Price(dec!(1)), at(60));
        let hearing = |price| subscriptions.hearing(PATIENCE, at(60), |_| Some(Price(price)));
        assert_eq!(hearing(dec!(100)), Hearing::Well);
        assert_eq!(hearing(dec!(99)), Hearing::Mute { silent: 1, of: 2 });
    }
}
