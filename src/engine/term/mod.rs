//! One term of leadership: select an event, apply it to the book, perform what follows.

mod ending;
mod event;
mod listening;

use std::collections::HashSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use ha::{Fence, Moment};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::error::Elapsed;
use tokio_util::sync::CancellationToken;

use super::Engine;
use super::apply::show_in_doubt;
use super::bids::Bids;
use super::book::Book;
use super::coming::Ahead;
use super::command::Command;
use super::custody::Custody;
use super::day::Worth;
use super::evidence::Suspects;
use super::expiry::Expiry;
use super::failover::Proof;
use super::holdings::Holdings;
use super::lanes::Lanes;
use super::lost_exits::LostExits;
use super::monitor::Rhythm;
use super::not_flat::NotFlat;
use super::overdue::Overdue;
use super::readings::FIRST_POLL;
use super::resting::AtBroker;
use super::square_off::SquareOff;
use super::stops::StopMonitor;
use super::stopwatch::Stopwatch;
use super::tell;
use crate::domain::ids::PositionId;
use crate::domain::listing::Listing;
use crate::domain::policy::RestingStops;
use crate::ledger::listen::Listener;
use crate::ledger::{Journal, LedgerError};
use crate::notify::Kind;
pub use event::{End, Event};

/// How often the inbox is swept, whatever notifications were lost.
const SWEEP: Duration = Duration::from_millis(250);
/// How often it is said what is in doubt and what drifts, whatever was told of it.
const CENSUS: Duration = Duration::from_secs(60);
/// How long one answer of the ledger may take.
const LEDGER_PATIENCE: Duration = Duration::from_secs(3);
/// How often the engine beats meanwhile.
const LEDGER_BEAT: Duration = Duration::from_millis(100);
/// Outcomes that may wait for the loop at once.
const EVENTS: usize = 1024;
/// Orders of which one change tells at most: it is one statement after another under the leadership row's lock.
pub(super) const TOGETHER: usize = 32;
/// Signals in the lanes at once; the rest stays in the inbox.
pub(super) const LANE_LIMIT: usize = 2048;

/// A leader at work.
pub struct Term<'a> {
    pub(super) engine: &'a Engine,
    pub(super) journal: Journal,
    pub(super) book: Book,
    pub(super) lanes: Lanes,
    pub(super) ahead: Ahead,
    pub(super) suspects: Suspects,
    pub(super) holdings: Holdings,
    pub(super) clocks: Stopwatch,
    pub(super) sender: mpsc::Sender<Event>,
    events: mpsc::Receiver<Event>,
    listener: Option<Listener>,
    /// The next listener on its way.
    listening: Option<JoinHandle<Result<Result<Listener, LedgerError>, Elapsed>>>,
    next_listen: Moment,
    pub(super) in_flight: usize,
    pub(super) reading: Option<JoinHandle<()>>,
    pub(super) next_reading: Moment,
    pub(super) last_reading: Moment,
    /// The shortest time between two.
    pub(super) reading_pace: Duration,
    /// The order stream said something that no reading has begun after.
    pub(super) news: bool,
    pub(super) poll: Duration,
    next_sweep: Moment,
    pub(super) bridge_failures: u32,
    /// The books came from a bridge in the other mode, and no order of ours did.
    pub(super) mode_is_other: bool,
    pub(super) stops: StopMonitor,
    pub(super) at_broker: AtBroker,
    pub(super) overdue: Overdue,
    pub(super) bids: Bids,
    /// Positions of which a hit was told in this term.
    pub(super) last_hits: HashSet<PositionId>,
    pub(super) rhythm: Rhythm,
    pub(super) next_want: Moment,
    /// What prices were wanted for last: the layout of what is held, and what is on its way.
    pub(super) wanted_for: Option<(u64, Vec<Listing>)>,
    pub(super) next_day_look: Moment,
    pub(super) not_flat: NotFlat,
    pub(super) worth: Worth,
    pub(super) square_off: SquareOff,
    pub(super) expiry: Expiry,
    next_census: Moment,
    pub(super) proof: Proof,
    pub(super) lost_exits: LostExits,
    /// Stored state is damaged; none for a leader that trades.
    pub(super) custody: Option<Custody>,
    /// The journal said otherwise.
    pub(super) reread: bool,
}

impl<'a> Term<'a> {
    pub(super) fn new(engine: &'a Engine, journal: Journal, book: Book) -> Self {
        show_in_doubt(&engine.metrics, &book);
        let (sender, events) = mpsc::channel(EVENTS);
        let now = journal.fence().now();
        Self {
            engine,
            journal,
            book,
            lanes: Lanes::default(),
            ahead: Ahead::default(),
            suspects: Suspects::default(),
            holdings: Holdings::default(),
            clocks: Stopwatch::default(),
            sender,
            events,
            listener: None,
            listening: None,
            next_listen: now,
            in_flight: 0,
            reading: None,
            next_reading: now,
            last_reading: now,
            reading_pace: Duration::ZERO,
            news: false,
            poll: FIRST_POLL,
            next_sweep: now,
            bridge_failures: 0,
            mode_is_other: false,
            stops: StopMonitor::default(),
            at_broker: AtBroker::default(),
            overdue: Overdue::default(),
            bids: Bids::default(),
            last_hits: HashSet::new(),
            rhythm: Rhythm::from(now),
            next_want: now,
            wanted_for: None,
            next_day_look: now,
            not_flat: NotFlat::default(),
            worth: Worth::new(now),
            square_off: SquareOff::default(),
            expiry: Expiry::default(),
            next_census: now,
            proof: Proof::new(now),
            lost_exits: LostExits::default(),
            custody: None,
            reread: false,
        }
    }

    /// Waits for the ledger without looking dead, but not for ever: a database that hangs ends the term, and the
    /// next one reads what was done.
    pub(super) async fn patiently<T>(
        &self,
        asked: impl Future<Output = Result<T, LedgerError>>,
    ) -> Result<T, LedgerError> {
        let mut asked = std::pin::pin!(asked);
        let until = self.fence().now().plus(LEDGER_PATIENCE);
        loop {
            tokio::select! {
                answer = &mut asked => {
                    self.engine.pulse.beat();
                    return answer;
                }
                () = tokio::time::sleep(LEDGER_BEAT) => {
                    if self.fence().now() >= until {
                        return Err(LedgerError::TimedOut { within_ms: LEDGER_PATIENCE.as_millis() });
                    }
                    self.engine.pulse.beat();
                }
            }
        }
    }

    pub(super) fn fence(&self) -> &Fence {
        self.journal.fence()
    }

    /// Trades until the fence closes, the ledger fails, or `drain` is cancelled.
    pub async fn serve(&mut self, drain: &CancellationToken) -> End {
        // One term at a time serves, so this waits for nobody.
        let commands = Arc::clone(&self.engine.commands);
        let mut commands = commands.lock().await;
        // What was announced while another led is stored by now.
        self.engine.coming.take();
        self.engine.coming.handed.open();
        loop {
            self.engine.pulse.beat();
            if drain.is_cancelled() {
                return self.drain().await;
            }
            let woken = match self.select(drain, &mut commands).await {
                Selected::Event(event) => match self.apply_all(event).await {
                    Ok(()) => Woken::Time,
                    Err(error) => return self.failed(error),
                },
                Selected::Handed => Woken::Handed,
                Selected::Arrival => Woken::Arrival,
                Selected::News => {
                    self.news = true;
                    self.read_books_for_news();
                    Woken::Time
                }
                Selected::Coming => {
                    self.read_ahead();
                    continue;
                }
                Selected::Prices => Woken::Prices,
                Selected::Command(Command::Close(close)) => match self.close_for_operator(close).await {
                    Ok(()) => Woken::Time,
                    Err(error) => return self.failed(error),
                },
                Selected::Command(Command::Cash(wish)) => match self.move_cash(wish).await {
                    Ok(()) => Woken::Time,
                    Err(error) => return self.failed(error),
                },
                Selected::Command(Command::Drop(wish)) => match self.drop_signal(wish).await {
                    Ok(()) => Woken::Time,
                    Err(error) => return self.failed(error),
                },
                Selected::Command(Command::Rehearse(asked)) => {
                    self.rehearse(asked);
                    Woken::Time
                }
                Selected::Time => Woken::Time,
                Selected::Fenced(why) => return End::Fenced(why),
            };
            if let Err(error) = self.work(woken).await {
                return self.failed(error);
            }
            if self.reread || self.engine.wholeness.is_other(self.custody.is_some()) {
                return match self.drain().await {
                    End::Drained => End::Reread,
                    end => end,
                };
            }
        }
    }

    /// Waits for the next thing to do; changes nothing.
    async fn select(
        &mut self,
        drain: &CancellationToken,
        commands: &mut mpsc::Receiver<Command>,
    ) -> Selected {
        let fence = self.journal.fence().clone();
        let wait = self.next_wake().until(fence.now());
        tokio::select! {
            biased;
            why = fence.closed() => Selected::Fenced(why),
            Some(event) = self.events.recv() => Selected::Event(event),
            Some(command) = commands.recv() => Selected::Command(command),
            () = self.engine.coming.news() => Selected::Coming,
            () = self.engine.coming.handed.news() => Selected::Handed,
            () = self.engine.arrivals.notified() => Selected::Arrival,
            () = self.engine.news.arrived() => Selected::News,
            () = drain.cancelled() => Selected::Time,
            () = self.engine.prices.changed() => Selected::Prices,
            () = self.engine.wholeness.other(self.custody.is_some()) => Selected::Time,
            () = tokio::time::sleep(wait) => Selected::Time,
        }
    }

    /// Applies an event and those that wait behind it, outcomes that follow one another together.
    async fn apply_all(&mut self, first: Event) -> Result<(), LedgerError> {
        let mut next = Some(first);
        while let Some(event) = next {
            self.engine.pulse.beat();
            let Event::Outcome(outcome) = event else {
                self.apply(event).await?;
                next = self.events.try_recv().ok();
                continue;
            };
            let mut outcomes = vec![outcome];
            next = loop {
                match self.events.try_recv() {
                    Ok(Event::Outcome(outcome)) if outcomes.len() < TOGETHER => outcomes.push(outcome),
                    other => break other.ok(),
                }
            };
            self.outcomes(outcomes).await?;
        }
        Ok(())
    }

    async fn work(&mut self, woken: Woken) -> Result<(), LedgerError> {
        let now = self.fence().now();
        if woken != Woken::Prices {
            self.rhythm.stir();
        }
        let acts = self.watch_stops(woken == Woken::Prices);
        if woken == Woken::Prices && !acts && now < self.next_wake() {
            // Most prices are like that: what they set off nothing of has nothing to wait for either.
            return Ok(());
        }
        self.work_on(woken, now).await?;
        self.rest_until_a_price_matters();
        Ok(())
    }

    /// All but the stops, each in its time.
    async fn work_on(&mut self, woken: Woken, now: Moment) -> Result<(), LedgerError> {
        self.watch_exits();
        if self.custody.is_some() {
            let swept = matches!(woken, Woken::Arrival | Woken::Handed) || now >= self.next_sweep;
            if swept {
                self.next_sweep = now.plus(SWEEP);
            }
            return self.keep_custody(swept).await;
        }
        self.keep_day().await?;
        if woken == Woken::Handed {
            self.take_handed().await?;
        }
        if woken == Woken::Arrival || now >= self.next_sweep {
            self.next_sweep = now.plus(SWEEP);
            self.listen().await;
            // First: what it gives back to its lane the sweep finds, before anything else of the lane is decided.
            self.hear_senders().await?;
            self.sweep().await?;
        }
        self.refuse_drifting().await?;
        self.keep_stops_resting().await?;
        self.cancel_overdue().await?;
        self.keep_bids().await?;
        self.resume_entries().await?;
        if now >= self.next_census {
            self.next_census = now.plus(CENSUS);
            let rest = self.engine.rules.policy.stops.resting == RestingStops::On;
            let epoch = self.fence().epoch().get();
            tell::census(epoch, &self.book, rest, &self.square_off.late, &self.engine.notifier);
            self.engine.notifier.census(Kind::ExitNotFlat, self.not_flat.census(epoch, &self.book));
        }
        self.decide_heads().await?;
        let waiting = self.lanes.exit_waiting_since().map(|since| self.fence().now().since(since));
        tell::exit_waiting(waiting, &self.engine.metrics);
        self.read_books_if_due();
        Ok(())
    }

    /// Has the loop come round without waiting.
    pub(super) fn sweep_now(&mut self) {
        self.next_sweep = self.fence().now();
    }

    fn next_wake(&self) -> Moment {
        let mut wake = self.next_sweep.min(self.rhythm.next());
        if self.reading.as_ref().is_none_or(JoinHandle::is_finished) {
            wake = wake.min(self.reading_due());
        }
        wake
    }
}

enum Selected {
    Event(Event),
    Command(Command),
    Coming,
    Handed,
    Arrival,
    News,
    Prices,
    Time,
    Fenced(Arc<str>),
}

/// What the loop came round for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Woken {
    Handed,
    Arrival,
    Prices,
    Time,
}

/// The wall clock, for ages of signals and times that people read; it decides nothing else.
pub(super) fn wall_clock() -> DateTime<Utc> {
    Utc::now()
}
