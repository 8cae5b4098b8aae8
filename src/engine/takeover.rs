//! The beginning of a term: what the former leader left is put in doubt, read back, proven, and compared with the
//! broker's books before anything is sent.

use std::time::Duration;

use ha::Fence;
use tokio_util::sync::CancellationToken;

use super::Engine;
use super::book::Book;
use super::custody::Custody;
use super::evidence::Reading;
use super::tell;
use super::term::{Event, Term};
use crate::broker::BrokerError;
use crate::ledger::change::PortfolioRow;
use crate::ledger::{Change, Journal, LedgerError};
use crate::mutant::Mutant;
use crate::recovery::reconcile::ReconcileError;
use crate::recovery::salvage::Salvaged;
use crate::recovery::{Recovered, RecoveryError};

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
        let (journal, state) = loop {
            engine.wholeness.reads();
            match read_back(engine, &fence).await {
                Ok(read) => break read,
                Err(wait) => tokio::time::sleep(wait).await,
            }
        };
        let recovered = match state {
            State::Whole(recovered) => recovered,
            State::Damaged(code, salvaged) => return Self::custodian(engine, journal, code, salvaged),
        };
        let mut term = Self::new(engine, journal, Book::restored(recovered, fence.now()));
        loop {
            match term.reconcile().await {
                Ok(()) => break,
                Err(wait) => tokio::time::sleep(wait).await,
            }
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

    /// Takes up the signals that were begun, then reads the broker's books once and settles what they tell.
    async fn reconcile(&mut self) -> Result<(), Duration> {
        let engine = self.engine;
        self.sweep().await.map_err(|error| ledger_failed(engine, &error))?;
        match engine.broker.mode().await {
            Ok(found) if found == engine.pace.armed => {}
            Ok(found) => {
                return Err(unreachable(
                    engine,
                    &BrokerError::WrongMode { expected: engine.pace.armed, found },
                ));
            }
            Err(error) => return Err(unreachable(engine, &error)),
        }
        let begun = self.fence().now();
        let (books, positions) = tokio::join!(engine.broker.books(), engine.reconciler.look());
        match positions {
            // What was seen once is looked at again soon; entries on it wait for that.
            Ok(diff) if diff.drift > 0 => engine.reconciler.look_soon(),
            Ok(_) => {}
            Err(ReconcileError::Unverified(error)) => return Err(unreachable(engine, &error)),
            Err(ReconcileError::Ledger(error)) => return Err(ledger_failed(engine, &error)),
        }
        match books {
            Ok(books) => {
                // Before the books are compared: what they contradict is an ERROR of its own, and stays one.
                engine.operational.mended("reconciling: stored state and bridge are usable");
                let reading = Event::Books(Ok(Reading { books, begun }));
                self.apply(reading).await.map_err(|error| ledger_failed(engine, &error))
            }
            Err(error) => Err(unreachable(engine, &error)),
        }
    }
}

async fn read_back(engine: &Engine, fence: &Fence) -> Result<(Journal, State), Duration> {
    let failed = |error: LedgerError| ledger_failed(engine, &error);
    let journal = Journal::open(fence.clone(), engine.pace.send_window).await.map_err(failed)?;
    let doubted = match Mutant::DoubtsNothing.is_on() {
        true => Vec::new(),
        false => engine.ledger.doubt_unfinished(fence).await.map_err(failed)?,
    };
    if !doubted.is_empty() {
        tracing::warn!(count = doubted.len(), "[RECOVERY] order intents of an older epoch are in doubt");
        tell::doubted(&doubted, &engine.notifier);
    }
    engine.ledger.hold_failover(fence).await.map_err(failed)?;
    if let Some(limit) = engine.pace.flapping
        && let Some(times) = engine.ledger.guard_flapping(fence, limit).await.map_err(failed)?
    {
        tracing::error!(
            times,
            "[HA] leadership was lost against its holder's will {times} times within {} s: reduce-only is set until an \
             operator has looked",
            limit.within.as_secs()
        );
    }
    match engine.recovery.recover().await {
        Ok(recovered) => {
            if recovered.first_time {
                engine.ledger.commit(fence, &first_portfolio(&recovered)).await.map_err(failed)?;
            }
            if engine.ledger.end_custody(fence).await.map_err(failed)? {
                tracing::warn!("[RECOVERY] stored state is whole again: custody ends");
            }
            Ok((journal, State::Whole(recovered)))
        }
        Err(error) if error.code() == "DB_UNAVAILABLE" => {
            engine.operational.waiting(format!("{}: {error}", error.code()));
            Err(RETRY)
        }
        Err(error) => Ok((journal, take_custody(engine, fence, &error).await.map_err(failed)?)),
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

fn ledger_failed(engine: &Engine, error: &LedgerError) -> Duration {
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
    match error {
        BrokerError::WrongMode { .. } => engine.operational.error("WRONG_MODE", error.to_string()),
        BrokerError::SessionExpired { .. } => engine.operational.error("SESSION_EXPIRED", error.to_string()),
        _ => engine.operational.waiting(format!("the bridge is not usable: {error}")),
    }
    RETRY
}

/// A takeover that waits for a store or the bridge is alive; only a hung loop must cost the leadership.
async fn beat(engine: &Engine) -> std::convert::Infallible {
    loop {
        engine.pulse.beat();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
