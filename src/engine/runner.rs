//! What runs the strategies that watch the market: beside the term, for as long as this instance leads.
//!
//! It shows them what the feed heard, asks the ledger what they hold when a bar has closed, and puts what they decide into
//! the inbox, under the epoch: from there on it is a signal as any other. Nothing here is kept over a loss of leadership.
//! Whoever leads next begins anew and reads the session's history, and since a signal's key is of its bar, what both decide
//! is one signal. A signal that the ledger does not take is offered again until it does, or until it is of no use.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use chrono::{DateTime, TimeDelta, Utc};
use ha::{Fence, Moment, Role};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::Engine;
use super::term::wall_clock;
use crate::broker::BrokerError;
use crate::domain::listing::Listing;
use crate::domain::market::{Candle, Tick};
use crate::domain::sessions::trading_day;
use crate::domain::signal::Signal;
use crate::ledger::LedgerError;
use crate::ledger::inbox::NewSignal;
use crate::strategy::{Observed, Outlook, Seen, Strategy};
use crate::telemetry::traces::Step;

/// The longest time between two looks: a bar is decided at most so much late.
const LOOK: Duration = Duration::from_millis(200);
/// Between two readings of a history, the first and the longest pause while it is of no use.
const HISTORY_AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// The longest that the history and its quote may take.
const HISTORY_TIME: Duration = Duration::from_secs(10);
/// The longest that one question to the ledger may take.
const LEDGER_TIME: Duration = Duration::from_secs(3);
/// Signals that wait for the ledger at once; the oldest entry gives way.
const WAITING: usize = 64;
/// An entry that the ledger did not take for so long would be dropped for its age.
const ENTRY_LIFE: TimeDelta = TimeDelta::seconds(60);

/// A strategy in its place.
pub struct Plugged {
    /// Its name.
    pub name: String,
    /// The instrument that it trades.
    pub instrument: String,
    /// What it watches.
    pub listing: Listing,
    /// Itself.
    pub strategy: Box<dyn Strategy>,
}

/// How the strategies see the market, on the instance that runs them; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Outlooks(Arc<ArcSwap<BTreeMap<String, Outlook>>>);

impl Outlooks {
    /// How a strategy sees the market; none where it does not run.
    pub fn of(&self, name: &str) -> Option<Outlook> {
        self.0.load().get(name).cloned()
    }
}

/// The runner; one per process.
pub struct Runner {
    /// What it works with.
    pub engine: Engine,
    /// Makes the strategies, anew for each time of leading.
    pub make: Box<dyn Fn() -> Vec<Plugged> + Send + Sync>,
    /// Where they are shown.
    pub outlooks: Outlooks,
}

impl Runner {
    /// Runs the strategies whenever this instance leads, for as long as the process lives.
    pub async fn run(self, mut role: watch::Receiver<Role>) {
        loop {
            let fence = match &*role.borrow_and_update() {
                Role::Leader(fence) => Some(fence.clone()),
                _ => None,
            };
            if let Some(fence) = fence {
                tokio::select! {
                    never = Watch::begin(&self, fence.clone()).serve() => match never {},
                    _ = fence.closed() => {}
                }
                self.outlooks.0.store(Arc::default());
            }
            if role.changed().await.is_err() {
                return;
            }
        }
    }
}

type History = Result<(Vec<Candle>, Tick), BrokerError>;

/// One strategy while this instance leads.
struct Running {
    plugged: Plugged,
    /// The reading of its history that is under way.
    reading: Option<AbortOnDropHandle<History>>,
    read_again: Moment,
    pause: Duration,
}

/// The strategies while this instance leads.
struct Watch<'a> {
    runner: &'a Runner,
    fence: Fence,
    running: Vec<Running>,
    waiting: VecDeque<Signal>,
}

impl<'a> Watch<'a> {
    fn begin(runner: &'a Runner, fence: Fence) -> Self {
        // What was heard while another led, or before, is no beginning.
        drop(runner.engine.prices.tape().take());
        let read_again = fence.now();
        let running = (runner.make)().into_iter();
        let running =
            running.map(|plugged| Running { plugged, reading: None, read_again, pause: HISTORY_AGAIN.0 });
        Self { runner, fence, running: running.collect(), waiting: VecDeque::new() }
    }

    async fn serve(mut self) -> std::convert::Infallible {
        let tape = self.runner.engine.prices.tape();
        if self.running.is_empty() {
            return std::future::pending().await;
        }
        loop {
            tokio::select! {
                () = tape.noted() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
            // The time first: whatever came before it is on the tape by then.
            let now = wall_clock();
            self.observe(tape.take(), now);
            self.read_histories().await;
            self.decide().await;
            self.store().await;
            self.show();
        }
    }

    fn observe(&mut self, ticks: Vec<(Listing, Tick)>, now: DateTime<Utc>) {
        let calendar = self.runner.engine.hours.calendar();
        for Running { plugged: Plugged { listing, strategy, .. }, .. } in &mut self.running {
            for (_, tick) in ticks.iter().filter(|(of, _)| of == listing) {
                strategy.observe(Observed::Tick(*tick), now);
            }
            let session = calendar.as_ref().and_then(|calendar| calendar.session(&listing.exchange, now));
            strategy.observe(Observed::Session(session.map(|session| (session.opens, session.closes))), now);
        }
    }

    /// Begins to read what a strategy wants, and hands over what was read.
    async fn read_histories(&mut self) {
        let now = self.fence.now();
        for Running { plugged, reading, read_again, pause } in &mut self.running {
            let Plugged { name, listing, strategy, .. } = plugged;
            if !strategy.wants_history() {
                *pause = HISTORY_AGAIN.0;
            }
            if let Some(done) = reading.take_if(|reading| reading.is_finished()) {
                match done.await {
                    Ok(Ok((candles, quote))) => {
                        strategy.observe(Observed::History(&candles, quote), wall_clock());
                        tracing::info!(
                            strategy = name,
                            candles = candles.len(),
                            "read the session's history of {listing}: {}",
                            strategy.outlook().sentence
                        );
                    }
                    Ok(Err(error)) => tracing::warn!(
                        strategy = name,
                        error = &error as &dyn std::error::Error,
                        "the session's history of {listing} cannot be read: no entries until it can"
                    ),
                    Err(panic) => std::panic::resume_unwind(panic.into_panic()),
                }
            }
            if strategy.wants_history() && reading.is_none() && now >= *read_again {
                *read_again = now.plus(*pause);
                *pause = (*pause * 2).min(HISTORY_AGAIN.1);
                let (broker, listing) = (Arc::clone(&self.runner.engine.broker), listing.clone());
                *reading = Some(AbortOnDropHandle::new(tokio::spawn(async move {
                    let read = history(&*broker, &listing);
                    let late =
                        BrokerError::TimedOut { route: "history", within_ms: HISTORY_TIME.as_millis() };
                    tokio::time::timeout(HISTORY_TIME, read).await.unwrap_or(Err(late))
                })));
            }
        }
    }

    /// Has what is due decided, over what the ledger holds. Without an answer it stays due.
    async fn decide(&mut self) {
        let engine = &self.runner.engine;
        for Running { plugged: Plugged { name, instrument, strategy, .. }, .. } in &mut self.running {
            if !strategy.is_due() {
                continue;
            }
            let exposed = match in_time(engine.ledger.exposed_since(name, instrument)).await {
                Ok(exposed) => exposed,
                Err(error) => {
                    tracing::debug!(
                        error = &error as &dyn std::error::Error,
                        "a strategy waits for the ledger"
                    );
                    continue;
                }
            };
            let may_enter = engine.strategies.load().may_enter(name) && engine.operational.is_active();
            let signals = strategy.decide(Seen { may_enter, exposed }, wall_clock());
            self.waiting.extend(signals);
        }
        let now = wall_clock();
        self.waiting.retain(|signal| !signal.kind().opens() || now - signal.sent_at < ENTRY_LIFE);
        while self.waiting.len() > WAITING {
            self.waiting.pop_front();
        }
    }

    /// Puts what was decided into the inbox. Offering it again is safe: a key is stored once.
    async fn store(&mut self) {
        let engine = &self.runner.engine;
        while let Some(signal) = self.waiting.front() {
            match in_time(self.offer(signal)).await {
                Ok(()) => {}
                // Somebody else's to decide.
                Err(LedgerError::Fenced(_)) => return self.waiting.clear(),
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        key = %signal.key,
                        "a strategy's signal is not stored yet; it is offered again"
                    );
                    return;
                }
            }
            engine.arrivals.notify_one();
            self.waiting.pop_front();
        }
    }

    async fn offer(&self, signal: &Signal) -> Result<(), LedgerError> {
        let engine = &self.runner.engine;
        let begun = std::time::SystemTime::now();
        let payload = serde_json::to_value(signal).unwrap_or_default();
        let body = payload.to_string();
        let member = self.fence.instance().member.to_string();
        let receipt = engine
            .ledger
            .accept_under(
                &self.fence,
                &NewSignal {
                    key: &signal.key,
                    kind: signal.kind().as_str(),
                    strategy: &signal.strategy,
                    instrument: &signal.instrument,
                    payload: &payload,
                    raw_body: body.as_bytes(),
                    received_by: &member,
                    traceparent: None,
                },
            )
            .await?;
        let (kind, key) = (signal.kind().as_str(), &signal.key);
        if !receipt.fresh {
            tracing::info!(signal = %receipt.id, %key, "strategy {}: this bar is decided already", signal.strategy);
            return Ok(());
        }
        engine.metrics.strategy_signals.with_label_values(&[signal.strategy.as_str(), kind]).inc();
        engine.traces.record(|| {
            let step = Step::first(receipt.id, "strategy").since(begun).with("baton.key", key.to_string());
            step.with("baton.type", kind).with("baton.instrument", signal.instrument.clone())
        });
        tracing::info!(
            signal = %receipt.id,
            %key,
            "strategy {} decided {kind} on {} by the bar of {}",
            signal.strategy,
            signal.instrument,
            signal.bar_time
        );
        Ok(())
    }

    fn show(&self) {
        let outlook = |running: &Running| (running.plugged.name.clone(), running.plugged.strategy.outlook());
        self.runner.outlooks.0.store(Arc::new(self.running.iter().map(outlook).collect()));
    }
}

/// The candles of the day, then a quote: what it has beyond them was traded after them.
async fn history(broker: &dyn crate::broker::Broker, listing: &Listing) -> History {
    let candles = broker.history(listing, trading_day(wall_clock())).await?;
    let asked = wall_clock();
    let quote = broker.quote(&listing.symbol, &listing.exchange).await?;
    let Some(volume) = quote.volume else {
        let problem = "a quote without a volume".to_owned();
        return Err(BrokerError::Malformed { route: "quotes", problem });
    };
    Ok((candles, Tick { at: asked, price: quote.ltp, volume }))
}

/// The ledger's answer, for which the ticks do not wait for ever.
async fn in_time<T>(asked: impl Future<Output = Result<T, LedgerError>>) -> Result<T, LedgerError> {
    let late = LedgerError::TimedOut { within_ms: LEDGER_TIME.as_millis() };
    tokio::time::timeout(LEDGER_TIME, asked).await.unwrap_or(Err(late))
}
