//! The beginning of a term: what the former leader left is put in doubt, read back, proven, and compared with the
//! broker's books before anything is sent.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::Utc;
use ha::Fence;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::Engine;
use super::book::Book;
use super::custody::Custody;
use super::evidence::Reading;
use super::process;
use super::tell;
use super::term::{Event, Term};
use super::trace;
use crate::broker::BrokerError;
use crate::domain::ids::IntentId;
use crate::failpoint;
use crate::ledger::change::PortfolioRow;
use crate::ledger::{Change, Journal, LedgerError};
use crate::mutant::Mutant;
use crate::recovery::reconcile::ReconcileError;
use crate::recovery::salvage::Salvaged;
use crate::recovery::{Recovered, RecoveryError};

/// The code of a broker session that somebody has to renew.
pub(super) const SESSION_EXPIRED: &str = "SESSION_EXPIRED";
/// The code of a bridge in the other mode than the one that the agent is armed for.
pub(super) const WRONG_MODE: &str = "WRONG_MODE";
/// Between two attempts at a step that failed.
const RETRY: Duration = Duration::from_millis(500);

/// Between two looks at a table that the journal itself needs.
const RECHECK: Duration = Duration::from_secs(5);

/// What reading back gave.
enum State {
    /// It can be traded on.
    Whole(Recovered),
    /// It cannot; the code, and what of it can be read.
    Damaged(&'static str, Salvaged),
}

/// What holds a takeover up, and how long to wait before the next try.
enum Setback {
    /// The ledger: everything is to be read back.
    Ledger(Duration),
    /// The bridge: what was read back stays true.
    Bridge(Duration),
}

impl<'a> Term<'a> {
    /// Takes over; none when leadership ended first, or `drain` was cancelled.
    pub(super) async fn take_over(
        engine: &'a Engine,
        fence: Fence,
        drain: &CancellationToken,
    ) -> Option<Self> {
        engine.operational.waiting("reconciling: leadership was won, state is being read back");
        let ended = async {
            tokio::select! {
                _ = fence.closed() => {}
                () = drain.cancelled() => {}
            }
        };
        tokio::select! {
            () = ended => None,
            term = Self::prepare(engine, fence.clone()) => Some(term),
            never = beat(engine) => match never {},
        }
    }

    async fn prepare(engine: &'a Engine, fence: Fence) -> Self {
        let term = loop {
            match Self::attempt(engine, &fence).await {
                Ok(term) => break term,
                Err(wait) => tokio::time::sleep(wait).await,
            }
        };
        if term.custody.is_some() {
            return term;
        }
        let in_doubt = term.book.in_doubt().count();
        tracing::info!(epoch = %fence.epoch(), in_doubt, "[RECOVERY] reconciled with the broker's books");
        engine.operational.active(match in_doubt {
            0 => format!("leading under epoch {}", fence.epoch()),
            n => format!("leading under epoch {}; {n} orders in doubt", fence.epoch()),
        });
        term
    }

    /// Leads over damaged state. Nothing waits for the bridge here: each order is verified by its books anyway.
    fn custodian(engine: &'a Engine, journal: Journal, code: &'static str, salvaged: Salvaged) -> Self {
        let now = journal.fence().now();
        let Salvaged { recovered, suspects, orders_lost, positions_lost } = salvaged;
        tracing::error!(
            code,
            believed = recovered.portfolio.positions.len(),
            suspects = suspects.len(),
            orders_lost,
            positions_lost,
            "[RECOVERY] leading as custodian: operators' orders, and stops of positions that agree with the broker; nothing else"
        );
        let mut term = Self::new(engine, journal, Book::restored(recovered, now));
        term.custody = Some(Custody::new(code, suspects, orders_lost));
        term.tell_suspects();
        term
    }

    /// Reads the ledger back and compares it with the broker's books. When the ledger fails meanwhile, it is read back
    /// anew: a change whose commit was not heard of may be stored, and would be refused for as long as it is drafted
    /// over a memory that lacks it.
    async fn attempt(engine: &'a Engine, fence: &Fence) -> Result<Self, Duration> {
        engine.wholeness.reads();
        let (journal, state, doubted) = read_back(engine, fence).await?;
        let recovered = match state {
            State::Whole(recovered) => recovered,
            State::Damaged(code, salvaged) => return Ok(Self::custodian(engine, journal, code, salvaged)),
        };
        let mut term = Self::new(engine, journal, Book::restored(recovered, fence.now()));
        trace::doubted(&term.book, &doubted, &engine.traces);
        let moves = engine.ledger.moves_under_way().await;
        let moves = moves.map_err(|error| ledger_failed(engine, fence, &error))?;
        term.at_broker.inherit(moves, &term.book, fence.now());
        loop {
            match term.reconcile().await {
                Ok(()) => return Ok(term),
                Err(Setback::Bridge(wait)) => tokio::time::sleep(wait).await,
                Err(Setback::Ledger(wait)) => return Err(wait),
            }
        }
    }

    /// Takes up the signals that were begun, then reads the broker's books once and settles what they tell.
    async fn reconcile(&mut self) -> Result<(), Setback> {
        let (engine, fence) = (self.engine, self.fence().clone());
        let failed = |error: LedgerError| Setback::Ledger(ledger_failed(engine, &fence, &error));
        let unreachable = |error: &BrokerError| Setback::Bridge(unreachable(engine, error));
        self.sweep().await.map_err(failed)?;
        self.hear_senders().await.map_err(failed)?;
        match engine.broker.mode().await {
            Ok(found) if found == engine.pace.armed => {}
            Ok(found) => {
                return Err(unreachable(&BrokerError::WrongMode { expected: engine.pace.armed, found }));
            }
            Err(error) => return Err(unreachable(&error)),
        }
        let begun = self.fence().now();
        // In a task of its own: a long day's books take a while to be parsed, and the takeover has to look alive.
        let reading = {
            let engine = engine.clone();
            AbortOnDropHandle::new(tokio::spawn(async move { Reading::take(&engine, begun).await }))
        };
        let (books, positions) = tokio::join!(reading, engine.reconciler.look());
        let books = books.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        match positions {
            // What was seen once is looked at again soon; entries on it wait for that.
            Ok(diff) if diff.drift > 0 => engine.reconciler.look_soon(),
            Ok(_) => {}
            Err(ReconcileError::Unverified(error)) => return Err(unreachable(&error)),
            Err(ReconcileError::Ledger(error)) => return Err(failed(error)),
        }
        match books {
            Ok(reading) => {
                failpoint::hit("takeover_books_read");
                // Before the books are compared: what they contradict is an ERROR of its own, and stays one.
                engine.operational.mended("reconciling: stored state and bridge are usable");
                self.apply(Event::Books(Ok(reading))).await.map_err(failed)
            }
            Err(error) => Err(unreachable(&error)),
        }
    }
}

/// Reads the ledger back; gives the orders, too, that were put in doubt for it.
async fn read_back(engine: &Engine, fence: &Fence) -> Result<(Journal, State, Vec<IntentId>), Duration> {
    let failed = |error: LedgerError| ledger_failed(engine, fence, &error);
    let journal = Journal::open(fence.clone(), engine.pace.send_window).await.map_err(failed)?;
    let doubted = match Mutant::DoubtsNothing.is_on() {
        true => Vec::new(),
        false => engine.ledger.doubt_unfinished(fence).await.map_err(failed)?,
    };
    if !doubted.is_empty() {
        tracing::warn!(count = doubted.len(), "[RECOVERY] order intents of an older epoch are in doubt");
        tell::doubted(&doubted, &engine.notifier);
    }
    failpoint::hit("takeover_doubted");
    if let Some(process) = process::own() {
        let me = fence.instance().incarnation;
        engine.ledger.note_process(me, &process).await.map_err(failed)?;
    }
    engine.ledger.hold_failover(fence).await.map_err(failed)?;
    if let Some(limit) = engine.pace.flapping
        && let Some(times) = engine.ledger.guard_flapping(fence, limit).await.map_err(failed)?
    {
        tell::flapping(times, limit, &engine.notifier);
    }
    match engine.recovery.recover().await {
        Ok(recovered) => {
            if recovered.first_time {
                engine.ledger.commit(fence, &first_portfolio(&recovered)).await.map_err(failed)?;
            }
            if engine.ledger.end_custody(fence).await.map_err(failed)? {
                tracing::warn!("[RECOVERY] stored state is whole again: custody ends");
            }
            failpoint::hit("takeover_recovered");
            Ok((journal, State::Whole(recovered), doubted))
        }
        Err(error) if error.code() == "DB_UNAVAILABLE" => {
            engine.operational.waiting(format!("{}: {error}", error.code()));
            Err(RETRY)
        }
        Err(error) => Ok((journal, take_custody(engine, fence, &error).await.map_err(failed)?, doubted)),
    }
}

/// Marks state as damaged before anything is done about it, and reads what can be read of it.
async fn take_custody(engine: &Engine, fence: &Fence, error: &RecoveryError) -> Result<State, LedgerError> {
    let code = error.code();
    engine.operational.error(code, custody_sentence(code, &error.to_string()));
    engine.ledger.take_custody(fence, code, &error.to_string()).await?;
    Ok(State::Damaged(code, engine.recovery.salvage().await?))
}

/// What a custodian says of itself.
pub(crate) fn custody_sentence(code: &str, why: &str) -> String {
    format!(
        "{code}: {why}; it leads as custodian: an operator's closes and the stops of positions that agree with the broker, nothing else"
    )
}

fn first_portfolio(recovered: &Recovered) -> Change {
    let cash = recovered.portfolio.cash;
    let row =
        PortfolioRow { capital: cash, closed_equity: cash, equity_high: cash, ..PortfolioRow::default() };
    Change { portfolio: Some(row), ..Change::default() }
}

fn ledger_failed(engine: &Engine, fence: &Fence, error: &LedgerError) -> Duration {
    if engine.gives_up(fence, error) {
        return RETRY;
    }
    tracing::warn!(error = error as &dyn std::error::Error, "[RECOVERY] the ledger failed; trying again");
    if error.is_corruption() {
        // A table that the journal itself needs: not even an operator's order can be authorised.
        engine.operational.error("DATA_CORRUPT", format!("DATA_CORRUPT: {error}: nothing can be journaled"));
        return RECHECK;
    }
    engine.operational.waiting(format!("reconciling: {error}; trying again"));
    RETRY
}

fn unreachable(engine: &Engine, error: &BrokerError) -> Duration {
    engine.without_bridge(error);
    RETRY
}

impl Engine {
    /// Says that the bridge cannot be used. A dead session is somebody's to mend once the market is about to open; it ends every
    /// night, and until then it is only waited for.
    pub(super) fn without_bridge(&self, error: &BrokerError) {
        let exchanges: BTreeSet<String> =
            self.rules.catalog.iter().map(|instrument| instrument.exchange.clone()).collect();
        let rests = || self.hours.wants_broker(&exchanges, Utc::now()) == Some(false);
        match error {
            // Whatever else has stopped trading needs somebody all the same, and has its own end.
            BrokerError::WrongMode { .. } if self.operational.is_error_but(SESSION_EXPIRED) => {}
            BrokerError::WrongMode { .. } => self.operational.error(WRONG_MODE, error.to_string()),
            BrokerError::SessionExpired { .. } if !rests() => {
                self.operational.error(SESSION_EXPIRED, error.to_string());
            }
            _ => self.operational.waiting(format!("the bridge is not usable: {error}")),
        }
    }
}

/// A takeover that waits for a store or the bridge is alive; only a hung loop must cost the leadership.
async fn beat(engine: &Engine) -> std::convert::Infallible {
    loop {
        engine.pulse.beat();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
