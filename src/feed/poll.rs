//! The ladder's REST rung: what has no live price is asked for, every second, until it has one again.
//!
//! It runs whatever the live feed does and knows nothing of it: it looks at the age of the prices on the board. Many
//! are asked for in one call, and no more calls are made than the reads budget gives; with more listings than fit, those
//! not asked for the longest come first, so that one the bridge has no price of cannot crowd out the others. A listing
//! whose live price got old is asked for until it was live for some rounds on end: a feed that comes and goes must not
//! make the prices jump between two sources. A call that hangs is given up, not waited for: the next
//! round asks again. With nothing wanted it is quiet.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use ha::Clock;
use tokio::sync::{Notify, watch};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::{Listing, PriceBoard, PriceSource};
use crate::broker::{Broker, BrokerError};
use crate::domain::order::{UnknownName, named};
use crate::telemetry::metrics::Metrics;

/// Rounds on end that a fallen listing must be live before it is trusted to be.
const STEADY_ROUNDS: u32 = 3;
/// Symbols that one call asks for.
const SYMBOLS_A_CALL: usize = 100;

/// How often and how much is asked.
#[derive(Clone, Copy, Debug)]
pub struct PollPace {
    /// Between two rounds.
    pub every: Duration,
    /// A price that is older is asked for.
    pub live_max_age: Duration,
    /// The longest wait for an answer.
    pub patience: Duration,
    /// Calls of one round at most.
    pub calls: usize,
}

/// The poller; one per process.
pub struct Poll {
    /// What is wanted, and where the answers go.
    board: PriceBoard,
    /// Whom to ask.
    broker: Arc<dyn Broker>,
    /// Whose time the prices carry.
    clock: Arc<dyn Clock>,
    /// Counters.
    metrics: Arc<Metrics>,
    /// How often and how much.
    pace: PollPace,
    /// The round in which each wanted listing was asked for last.
    turns: HashMap<Listing, u64>,
    rounds: u64,
    /// Listings that fell from the live rung, with the rounds that they were live since.
    fallen: HashMap<Listing, u32>,
    rung: watch::Sender<Rung>,
    doubt: Option<Arc<Notify>>,
}

/// How the prices of the wanted listings were reached last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rung {
    /// All are live, or none is wanted.
    Live,
    /// Some are not live and come over REST.
    Rest,
    /// Some come from nowhere: the last known ones are used until they are dead.
    Cache,
}
named!(Rung { Live = "live", Rest = "rest", Cache = "cache" });

/// What one round came to.
#[derive(Default)]
struct Round {
    asked: usize,
    answered: usize,
    /// The first failure, for the log.
    failure: Option<String>,
    /// The bridge blamed the broker session.
    session: bool,
}

impl PollPace {
    /// A round a second, with half of the reads a second for prices.
    pub fn new(live_max_age: Duration, read_timeout: Duration, reads_per_second: u32) -> Self {
        Self {
            every: Duration::from_secs(1),
            live_max_age,
            patience: read_timeout.min(Duration::from_secs(2)),
            calls: (reads_per_second / 2).max(1) as usize,
        }
    }
}

// === impl Poll ===

impl Poll {
    /// A poller that asks `broker` for what `board` wants.
    pub fn new(
        board: PriceBoard,
        broker: Arc<dyn Broker>,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
        pace: PollPace,
    ) -> Self {
        Self {
            board,
            broker,
            clock,
            metrics,
            pace,
            turns: HashMap::new(),
            rounds: 0,
            fallen: HashMap::new(),
            rung: watch::Sender::new(Rung::Live),
            doubt: None,
        }
    }

    /// With somebody to tell when the bridge blames the broker session.
    #[must_use]
    pub fn doubting(mut self, doubt: Arc<Notify>) -> Self {
        self.doubt = Some(doubt);
        self
    }

    /// The rung that the prices stand on, and its changes.
    pub fn rung(&self) -> watch::Receiver<Rung> {
        self.rung.subscribe()
    }

    /// Polls until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        tokio::select! {
            () = self.poll() => {}
            () = stop.cancelled() => {}
        }
    }

    async fn poll(mut self) {
        let mut wanted = self.board.wanted();
        let mut ticks = tokio::time::interval(self.pace.every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                // What is newly wanted has no price yet. The sender lives as long as the board, which is held here.
                Ok(()) = wanted.changed() => ticks.reset(),
            }
            if wanted.borrow_and_update().is_empty() {
                self.publish();
                self.fallen.clear();
                self.rung.send_replace(Rung::Live);
                if wanted.changed().await.is_err() {
                    return;
                }
                wanted.mark_changed();
                continue;
            }
            let round = self.round().await;
            if let Some(doubt) = self.doubt.as_ref().filter(|_| round.session) {
                doubt.notify_one();
            }
            self.tell(&round);
            self.publish();
        }
    }

    /// Asks for what is old, once.
    async fn round(&mut self) -> Round {
        let listings = self.next_turn();
        let calls = listings.chunks(SYMBOLS_A_CALL).map(|listings| self.ask(listings));
        let mut round = Round::default();
        for part in join_all(calls).await {
            round.asked += part.asked;
            round.answered += part.answered;
            round.failure = round.failure.or(part.failure);
            round.session |= part.session;
        }
        let counted = |outcome, count: usize| {
            self.metrics.feed_rest_quotes.with_label_values(&[outcome]).inc_by(count as u64);
        };
        counted("ok", round.answered);
        counted("failed", round.asked - round.answered);
        round
    }

    /// What is old and was not asked for the longest, as much as one round may ask for.
    fn next_turn(&mut self) -> Vec<Listing> {
        self.rounds += 1;
        let mut old = self.not_live();
        let mut turns = std::mem::take(&mut self.turns);
        old.sort_by_cached_key(|listing| (turns.get(listing).copied().unwrap_or(0), listing.clone()));
        let wanted = self.board.wanted().borrow().clone();
        turns.retain(|listing, _| wanted.contains(listing));
        old.truncate(self.pace.calls * SYMBOLS_A_CALL);
        turns.extend(old.iter().map(|listing| (listing.clone(), self.rounds)));
        self.turns = turns;
        old
    }

    /// What is old, and what was until a moment ago.
    fn not_live(&mut self) -> Vec<Listing> {
        let old = self.board.older_than(self.pace.live_max_age, self.clock.now());
        let mut fallen = std::mem::take(&mut self.fallen);
        fallen.retain(|listing, steady| {
            let live = self.board.get(listing).map(|priced| priced.source) == Some(PriceSource::Live);
            *steady = if live { *steady + 1 } else { 0 };
            *steady < STEADY_ROUNDS && self.board.wanted().borrow().contains(listing)
        });
        for listing in old {
            fallen.insert(listing, 0);
        }
        let not_live = fallen.keys().cloned().collect();
        self.fallen = fallen;
        not_live
    }

    async fn ask(&self, listings: &[Listing]) -> Round {
        let mut round = Round { asked: listings.len(), ..Round::default() };
        let asked = self.clock.now();
        let patience = self.pace.patience;
        let quotes = tokio::time::timeout(patience, self.broker.quotes(listings)).await;
        let late = BrokerError::TimedOut { route: "multiquotes", within_ms: patience.as_millis() };
        let quotes = quotes.unwrap_or(Err(late));
        match quotes {
            Ok(quotes) => {
                for quoted in quotes {
                    match quoted.quote {
                        Ok(quote) if quote.ltp.0.is_sign_positive() && !quote.ltp.0.is_zero() => {
                            // As old as the question: a tick that came meanwhile is newer.
                            self.board.record(&quoted.listing, quote.ltp, PriceSource::Rest, asked);
                            self.board.tape().note(&quoted.listing, quote.ltp, quote.volume);
                            round.answered += 1;
                        }
                        Ok(quote) => {
                            let said = format!("{}: a last price of {}", quoted.listing, quote.ltp);
                            round.failure.get_or_insert(said);
                        }
                        Err(said) => {
                            round.failure.get_or_insert(format!("{}: {said}", quoted.listing));
                        }
                    }
                }
                round.answered = round.answered.min(round.asked);
                if round.answered < round.asked {
                    round.failure.get_or_insert_with(|| "some listings are not in the answer".to_owned());
                }
            }
            Err(error) => {
                round.session = matches!(error, BrokerError::SessionExpired { .. });
                round.failure = Some(error.to_string());
            }
        }
        round
    }

    /// One line for each change of rung.
    fn tell(&self, round: &Round) {
        let before = *self.rung.borrow();
        let now = match round {
            Round { asked: 0, .. } => Rung::Live,
            Round { failure: None, .. } => Rung::Rest,
            Round { failure: Some(_), .. } => Rung::Cache,
        };
        let missing = round.asked - round.answered;
        if now != before {
            self.rung.send_replace(now);
            match now {
                Rung::Live => tracing::info!("[FALLBACK] over: prices are live again"),
                Rung::Rest => tracing::warn!(
                    "[FALLBACK] no live price of {} listings: asking the bridge over REST every second",
                    round.asked
                ),
                Rung::Cache => tracing::warn!(
                    "[FALLBACK] no live price and no REST quote of {missing} listings: the last known prices are used \
                     until they are too old ({})",
                    round.failure.as_deref().unwrap_or("no reason given")
                ),
            }
        } else if now == Rung::Cache {
            tracing::debug!(missing, failure = round.failure.as_deref(), "[FALLBACK] REST quotes fail still");
        }
    }

    fn publish(&self) {
        let now = self.clock.now();
        self.board.demote(self.pace.live_max_age.max(self.pace.every * 3), now);
        let all = self.board.priced();
        let wanted = self.board.wanted().borrow().len();
        for source in PriceSource::ALL {
            let count = all.iter().filter(|priced| priced.source == *source).count();
            self.metrics.price_source.with_label_values(&[source.as_str()]).set(count as i64);
        }
        let none = wanted.saturating_sub(all.len());
        self.metrics.price_source.with_label_values(&["none"]).set(none as i64);
        let oldest = all.iter().map(|priced| now.since(priced.at)).max();
        self.metrics.feed_tick_age.set(oldest.unwrap_or_default().as_secs_f64());
    }
}

#[cfg(test)]
mod tests;
