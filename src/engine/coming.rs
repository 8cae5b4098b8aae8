//! Signals on their way into the inbox, and what their decisions will need: read while they are still being stored.
//!
//! An entry is decided by live quotes, an exit is verified by the broker's position book. Where the leader takes the delivery
//! itself it asks for them at once, beside the insert of the signal's row; of another member's it hears as soon as the row can
//! be seen, and asks beside its reading. Nothing follows from that alone: a signal that finds nothing, too little or something
//! too old has it read when its turn comes. A sender who repeats a delivery has nothing read again while what was read is
//! still young.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use ha::Moment;
use tokio::sync::Notify;

use super::decide::contracts_needed;
use super::handed::Handed;
use super::lanes::QUOTE_LIFE;
use super::term::{Event, Term};
use crate::broker::Broker;
use crate::domain::ids::SignalId;
use crate::domain::portfolio::Quotes;
use crate::domain::signal::SignalType;
use crate::ledger::listen::Stored;

/// What is said of signals that are about to be stored; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Coming {
    announced: Arc<Announced>,
    /// The way of those that were stored here to this member's own term.
    pub handed: Handed,
}

/// The newest of each instrument that is to be bought, and that is to be sold: bounded by the configured instruments, also where
/// nobody leads who takes them out.
#[derive(Debug, Default)]
struct Announced {
    named: Mutex<BTreeMap<(String, bool), SignalId>>,
    news: Notify,
}

/// Quotes that were asked for ahead of a signal, by instrument, each for that signal alone: another one's, though a moment old,
/// are of a moment before it.
#[derive(Debug, Default)]
pub(super) struct Ahead(HashMap<String, (SignalId, Early)>);

/// How far they are.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Early {
    /// They were asked for at this moment.
    Asked(Moment),
    /// They came at this moment.
    Came(Quotes, Moment),
}

// === impl Coming ===

impl Coming {
    /// A valid signal was delivered here and is about to be stored, or another member has just stored it.
    pub fn announce(&self, id: SignalId, kind: SignalType, instrument: &str) {
        if kind.opens() || kind == SignalType::Exit {
            self.lock().insert((instrument.to_owned(), kind.opens()), id);
            self.announced.news.notify_one();
        }
    }

    /// Returns once something was announced.
    pub(super) async fn news(&self) {
        self.announced.news.notified().await;
    }

    /// What was announced since this was asked last.
    pub(super) fn take(&self) -> BTreeMap<(String, bool), SignalId> {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<(String, bool), SignalId>> {
        // A map is changed or taken; nothing panics in between.
        self.announced.named.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Ahead ===

impl Ahead {
    /// Notes that quotes are asked for; false where some of the instrument were a moment ago, whoever for.
    pub fn ask(&mut self, instrument: &str, id: SignalId, now: Moment) -> bool {
        self.0.retain(|_, (_, early)| now.since(early.since()) <= QUOTE_LIFE);
        match self.0.contains_key(instrument) {
            true => false,
            false => self.0.insert(instrument.to_owned(), (id, Early::Asked(now))).is_none(),
        }
    }

    /// They came, or not all of them: then the signal asks itself.
    pub fn came(&mut self, instrument: &str, quotes: Option<Quotes>, at: Moment) {
        match (self.0.get_mut(instrument), quotes) {
            (Some((_, early)), Some(quotes)) => *early = Early::Came(quotes, at),
            _ => drop(self.0.remove(instrument)),
        }
    }

    /// What there is for a signal whose turn it is. Quotes are given once.
    pub fn serve(&mut self, instrument: &str, id: SignalId, now: Moment) -> Option<Early> {
        let young = |(of, early): &&(SignalId, Early)| *of == id && now.since(early.since()) <= QUOTE_LIFE;
        match self.0.get(instrument).filter(young)? {
            (_, Early::Asked(at)) => Some(Early::Asked(*at)),
            (_, Early::Came(..)) => self.0.remove(instrument).map(|(_, early)| early),
        }
    }
}

impl Early {
    fn since(&self) -> Moment {
        match self {
            Self::Asked(at) | Self::Came(_, at) => *at,
        }
    }
}

impl Term<'_> {
    /// What is done when PostgreSQL tells of a signal. Of what this member stores it was told when it was.
    pub(super) fn heard(&self) -> impl Fn(Option<Stored<'_>>) + Send + use<> {
        let own = self.fence().instance().member.to_string();
        let (arrivals, coming) = (Arc::clone(&self.engine.arrivals), self.engine.coming.clone());
        move |stored: Option<Stored<'_>>| match stored {
            Some(stored) if stored.received_by == own => {}
            stored => {
                stored.iter().for_each(|stored| coming.announce(stored.id, stored.kind, stored.instrument));
                arrivals.notify_one();
            }
        }
    }

    /// Asks for what was announced will need.
    pub(super) fn read_ahead(&mut self) {
        for ((instrument, opens), id) in self.engine.coming.take() {
            if !opens {
                self.read_positions_ahead(&instrument);
                continue;
            }
            let now = self.fence().now();
            if !self.entries_wait_for().is_empty() || !self.ahead.ask(&instrument, id, now) {
                continue;
            }
            let needed = contracts_needed(&self.engine.rules, &self.book, &instrument);
            let (broker, sender) = (Arc::clone(&self.engine.broker), self.sender.clone());
            let fence = self.fence().clone();
            tokio::spawn(async move {
                let (quotes, failures) = quotes_of(&*broker, needed).await;
                let quotes = failures.is_empty().then_some(quotes);
                // Gone with the term.
                let _ = sender.send(Event::Ahead { instrument, quotes, at: fence.now() }).await;
            });
        }
    }
}

/// Live prices of contracts by exchange and symbol, one after the other; and the symbols that gave none, with the reason.
pub(super) async fn quotes_of(broker: &dyn Broker, needed: Vec<(String, String)>) -> (Quotes, Vec<String>) {
    let (mut quotes, mut failures) = (Quotes::default(), Vec::new());
    for (exchange, symbol) in needed {
        match broker.quote(&symbol, &exchange).await {
            Ok(quote) => quotes.set(&exchange, &symbol, quote.ltp),
            Err(error) => failures.push(format!("{symbol}: {error}")),
        }
    }
    (quotes, failures)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rust_decimal::dec;

    use super::*;
    use crate::domain::money::Price;

    fn at(ms: u64) -> Moment {
        Moment::since_boot(Duration::from_millis(ms))
    }

    fn quotes() -> Quotes {
        let mut quotes = Quotes::default();
        quotes.set("MCX", "GOLDM", Price(dec!(1000)));
        quotes
    }

    #[test]
    fn quotes_are_asked_for_once_and_serve_their_signal_once() {
        let (mut ahead, [first, next]) = (Ahead::default(), [SignalId::new(), SignalId::new()]);
        assert_eq!(ahead.serve("GOLD_MINI", first, at(0)), None);
        assert!(ahead.ask("GOLD_MINI", first, at(0)));
        assert!(!ahead.ask("GOLD_MINI", first, at(1)), "they are on their way");
        assert_eq!(ahead.serve("GOLD_MINI", first, at(1)), Some(Early::Asked(at(0))));
        assert_eq!(ahead.serve("GOLD_MINI", next, at(1)), None, "it asks itself");
        ahead.came("GOLD_MINI", Some(quotes()), at(2));
        assert!(!ahead.ask("GOLD_MINI", next, at(3)), "a repeat has nothing read again");
        assert_eq!(ahead.serve("SILVER_MINI", first, at(3)), None);
        assert_eq!(ahead.serve("GOLD_MINI", next, at(3)), None, "they are of before it");
        assert_eq!(ahead.serve("GOLD_MINI", first, at(3)), Some(Early::Came(quotes(), at(2))));
        assert_eq!(ahead.serve("GOLD_MINI", first, at(3)), None);
    }

    #[test]
    fn what_failed_or_is_too_old_is_read_anew() {
        let late = u64::try_from(QUOTE_LIFE.as_millis()).unwrap() + 1;
        let (mut ahead, id) = (Ahead::default(), SignalId::new());
        assert!(ahead.ask("GOLD_MINI", id, at(0)));
        ahead.came("GOLD_MINI", None, at(1));
        assert_eq!(ahead.serve("GOLD_MINI", id, at(1)), None);
        assert!(ahead.ask("GOLD_MINI", id, at(2)));
        let waited = ahead.serve("GOLD_MINI", id, at(2 + late));
        assert_eq!(waited, None, "nobody waits for an answer that does not come");
        assert!(ahead.ask("GOLD_MINI", id, at(2 + late)));
        ahead.came("GOLD_MINI", Some(quotes()), at(3 + late));
        assert_eq!(ahead.serve("GOLD_MINI", id, at(3 + 2 * late)), None);
    }
}
