//! All open state in one consistent snapshot: what recovery rebuilds the engine from, and what it is checked against.
//!
//! One instant, seen by one REPEATABLE READ transaction or by two (`beside`); the statements go out together, so that a
//! snapshot costs about six round trips however much is open, and big tables are read row by row. A cell that cannot be
//! read does not stop the reading: all of them are reported at once.

mod beside;
mod beyond;
mod brakes;
mod charged;
mod ended;
mod entries;
mod meter;
mod movements;
mod open_orders;
mod proofs;
mod salvage;
mod state;

use std::collections::HashMap;
use std::future::ready;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use deadpool_postgres::{Object, Transaction};
use futures_util::TryStreamExt;
use ha::Fence;
use rust_decimal::Decimal;
use tokio_postgres::types::ToSql;
use tokio_postgres::{IsolationLevel, Row};

use super::account_day::StoredDays;
use super::audit::AuditReport;
use super::cash::CashRow;
use super::cells::UnreadableCell;
use super::change::PortfolioRow;
use super::recorded::Recorded;
use super::switches::Switches;
use super::wishes::Wish;
use super::{Ledger, LedgerError};
use crate::domain::ids::{IntentId, PositionId};
use crate::domain::intent::OrderIntent;
use crate::domain::money::{Quantity, Rupees};
use crate::domain::position::Position;
use crate::domain::pyramiding::PyramidingState;
use beside::Beside;
pub use brakes::Lifted;
pub use charged::{ChargedFill, ChargedPosition, ChargedRows};
pub use entries::{NOTHING, Strayed};
pub use meter::{Meter, READS};
pub use open_orders::OffOrder;
use proofs::Proofs;
pub use proofs::{Orphan, OrphanFill, PositionFills};
pub use salvage::Salvage;
use state::State;
pub(super) use state::portfolio;

/// What a start waits for all of its reading: longer than the server lets one statement take (10 s), after which it says itself
/// what is wrong. A server that says nothing at all is away.
const PATIENCE: Duration = Duration::from_secs(15);

/// How much of the ledger's history the proofs reach back over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// What is open, and two days of orders: what a takeover has time for.
    Open,
    /// Every order ever: what an operator's check asks for.
    Whole,
}

/// What an intent's fill rows add up to.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct FilledSoFar {
    /// Units.
    pub quantity: Quantity,
    /// Σ price · quantity, in rupees per quoted unit times units.
    pub value: Decimal,
    /// What they were charged.
    pub charges: Rupees,
}

/// Everything unfinished, as of one instant.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Positions that are not closed.
    pub positions: Vec<Position>,
    /// Intents that may still change; of the last day, those that were abandoned, cancelled or rejected at the broker
    /// (they may appear or fill after all); and all intents of signals still being worked on and of closing positions.
    pub intents: Vec<OrderIntent>,
    /// For those of them that have fills, what the fill rows add up to.
    pub filled: HashMap<IntentId, FilledSoFar>,
    /// The stored aggregates; none before the first trade.
    pub portfolio: Option<PortfolioRow>,
    /// What the account was opened with and all that moved since, added up; none without a row.
    pub moved: Option<Rupees>,
    /// Each of them, the oldest first; read over all of history only.
    pub movements: Option<Vec<CashRow>>,
    /// What the account's newest days began with, and the limits that were hit in them.
    pub days: StoredDays,
    /// What each fill and each closed position was charged; read over all of history only.
    pub charged: Option<ChargedRows>,
    /// Realised profit and loss by every position ever, open ones included.
    pub realised: Rupees,
    /// What every position ever was charged.
    pub charges: Rupees,
    /// The stored pyramids.
    pub pyramids: Vec<PyramidingState>,
    /// The operator's switches.
    pub switches: Switches,
    /// Of them and of instruments' switches, those that are looser than their history says.
    pub lifted: Vec<Lifted>,
    /// Broker order ids that intents of the last two days claim, or that a repair has booked.
    pub claimed_orders: Vec<String>,
    /// Foreign orders at the broker: id and watermark.
    pub foreign_orders: HashMap<String, i64>,
    /// What the fills of each open position's orders add up to.
    pub position_fills: HashMap<PositionId, PositionFills>,
    /// Columns of open positions that are not what their orders say; of closed ones what they realised.
    pub strayed: Vec<Strayed>,
    /// Filled orders without the position that they made.
    pub orphans: Vec<Orphan>,
    /// Columns of open orders that are not what their signals and positions say.
    pub off_orders: Vec<OffOrder>,
    /// What operators want closed and is not yet.
    pub wishes: Vec<Wish>,
    /// What does not fit in the audit chain since its last seal, or in all of it, in words.
    pub audit: Vec<String>,
    /// What the audit chain, where it was walked, says of positions, wishes and figures.
    pub recorded: Recorded,
}

impl Ledger {
    /// Reads all open state at REPEATABLE READ; `meter` shows meanwhile how far it has come.
    ///
    /// # Errors
    /// Any database error, [`LedgerError::TimedOut`] where a start would wait too long, or [`LedgerError::Unreadable`] with
    /// every cell that this version does not understand.
    pub async fn snapshot(&self, depth: Depth, meter: &Arc<Meter>) -> Result<Snapshot, LedgerError> {
        // All its reads side by side are large: whoever waits for it, many calls up, would have them on its stack.
        let reading = Box::pin(self.read_all(depth, meter));
        match depth {
            Depth::Whole => reading.await,
            Depth::Open => tokio::time::timeout(PATIENCE, reading)
                .await
                .unwrap_or(Err(LedgerError::TimedOut { within_ms: PATIENCE.as_millis() })),
        }
    }

    async fn read_all(&self, depth: Depth, meter: &Arc<Meter>) -> Result<Snapshot, LedgerError> {
        let mut client = self.client().await?;
        let tx = Self::instant(&mut client).await?;
        if depth == Depth::Whole {
            Self::unhurried(&tx).await?;
        }
        let faults = Arc::new(Faults { meter: Arc::clone(meter), ..Faults::default() });
        let Some(mut beside) = Beside::begin(self, &tx, depth, &faults).await? else {
            let snapshot = read(&tx, depth, meter).await?;
            tx.commit().await.map_err(LedgerError::during("end the recovery snapshot"))?;
            return Ok(snapshot);
        };
        let (state, ()) = tokio::join!(Box::pin(State::read(&tx, &faults)), beside.imported());
        let ended = tx.commit().await;
        let snapshot = put_together(state, beside.proofs().await, &faults)?;
        ended.map_err(LedgerError::during("end the recovery snapshot"))?;
        Ok(snapshot)
    }

    /// A transaction that sees one instant and writes nothing.
    async fn instant(client: &mut Object) -> Result<Transaction<'_>, LedgerError> {
        let begin =
            client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
        begin.start().await.map_err(LedgerError::during("begin the recovery snapshot"))
    }

    /// A term's first act: every intent left journaled, by an older epoch or by a term of this one that ended early,
    /// is in doubt, and so is every cancel and modify. Returns the intents' ids.
    ///
    /// # Errors
    /// [`LedgerError::Fenced`], or any database error.
    pub async fn doubt_unfinished(&self, fence: &Fence) -> Result<Vec<IntentId>, LedgerError> {
        // On the pinned session, behind any journal statement of an earlier term that was given up but still runs.
        let rows = fence
            .session()
            .query(
                "WITH l AS (SELECT 1 FROM leadership WHERE epoch = $1 AND holder_incarnation = $2 FOR SHARE),
                 c AS (UPDATE order_cancel SET state = 'in_doubt' FROM l WHERE state = 'journaled' AND epoch <= $1),
                 m AS (UPDATE order_modify SET state = 'in_doubt' FROM l WHERE state = 'journaled' AND epoch <= $1)
                 UPDATE order_intent SET state = 'in_doubt',
                    reason = 'journaled under epoch ' || epoch || '; that term ended before the outcome was recorded'
                 FROM l WHERE state = 'journaled' AND epoch <= $1 RETURNING id",
                &[&fence.epoch().get(), &fence.instance().incarnation.as_uuid()],
            )
            .await
            .map_err(LedgerError::during("put unfinished intents in doubt"))?;
        Ok(rows.iter().map(|row| IntentId(row.get(0))).collect())
    }
}

/// Reads it all in a transaction that is open already.
pub(super) async fn read(
    tx: &Transaction<'_>,
    depth: Depth,
    meter: &Arc<Meter>,
) -> Result<Snapshot, LedgerError> {
    let faults = Faults { meter: Arc::clone(meter), ..Faults::default() };
    let (state, proofs) = tokio::join!(Box::pin(State::read(tx, &faults)), Proofs::read(tx, depth, &faults));
    put_together(state, proofs, &faults)
}

/// Reads it all, over all of history, in a transaction that has walked the audit chain already: a walk takes longer than
/// everything else.
pub(super) async fn read_behind(tx: &Transaction<'_>, chain: &AuditReport) -> Result<Snapshot, LedgerError> {
    let faults = Faults::default();
    let chain = proofs::believed(chain.faults.clone(), chain.recorded.clone());
    let proofs = Proofs::read_with(tx, Depth::Whole, &faults, ready(Ok(chain)));
    let (state, proofs) = tokio::join!(Box::pin(State::read(tx, &faults)), Box::pin(proofs));
    put_together(state, proofs, &faults)
}

fn put_together(
    state: Result<State, LedgerError>,
    proofs: Result<Proofs, LedgerError>,
    faults: &Faults,
) -> Result<Snapshot, LedgerError> {
    if let Some(cause) = faults.cause() {
        return Err(cause);
    }
    faults.none()?;
    let (state, proofs) = (state?, proofs?);
    let mut strayed = entries::strayed(&state.positions, &proofs.orders.entries);
    strayed.extend(proofs.unasked);
    Ok(Snapshot {
        realised: state.closed.realised + realised(&state.positions),
        charges: state.closed.charges + charges(&state.positions),
        positions: state.positions,
        intents: state.intents,
        filled: state.filled,
        portfolio: state.portfolio,
        moved: state.moved,
        movements: proofs.movements,
        days: proofs.days,
        charged: proofs.charged,
        pyramids: state.pyramids,
        switches: state.switches,
        claimed_orders: state.claimed_orders,
        foreign_orders: state.foreign_orders,
        wishes: state.wishes,
        position_fills: proofs.orders.fills,
        strayed,
        off_orders: proofs.off_orders,
        lifted: proofs.lifted,
        orphans: proofs.orphans,
        audit: proofs.audit,
        recorded: proofs.recorded,
    })
}

/// What these positions realised so far.
fn realised(positions: &[Position]) -> Rupees {
    positions.iter().map(|position| position.realised).sum()
}

/// What these positions were charged so far.
fn charges(positions: &[Position]) -> Rupees {
    positions.iter().map(|position| position.charges).sum()
}

/// What went wrong in any of the tables, collected while they are read side by side.
#[derive(Default)]
pub(super) struct Faults {
    cells: Mutex<Vec<UnreadableCell>>,
    cause: Mutex<Option<LedgerError>>,
    meter: Arc<Meter>,
}

impl Faults {
    fn unreadable(&self, cells: Vec<UnreadableCell>) {
        self.cells.lock().unwrap_or_else(PoisonError::into_inner).extend(cells);
    }

    /// Keeps the error that broke the transaction, and gives one of the same kind for those that follow from it.
    fn broken(&self, error: LedgerError) -> LedgerError {
        if error.is_aborted_transaction() {
            return error;
        }
        let mut cause = self.cause.lock().unwrap_or_else(PoisonError::into_inner);
        LedgerError::Conflict { what: cause.get_or_insert(error).to_string() }
    }

    fn cause(&self) -> Option<LedgerError> {
        self.cause.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn none(&self) -> Result<(), LedgerError> {
        let mut cells = std::mem::take(&mut *self.cells.lock().unwrap_or_else(PoisonError::into_inner));
        // The statements run side by side: whichever was first, the same damage is told in the same words.
        cells.sort_by(|a, b| (a.table, &a.row, a.column).cmp(&(b.table, &b.row, b.column)));
        if cells.is_empty() { Ok(()) } else { Err(LedgerError::Unreadable(cells)) }
    }
}

/// Streams the rows of a statement without parameters through `read`.
pub(super) async fn each<T>(
    tx: &Transaction<'_>,
    sql: &str,
    operation: &'static str,
    faults: &Faults,
    read: impl FnMut(&Row) -> Result<T, Vec<UnreadableCell>>,
) -> Result<Vec<T>, LedgerError> {
    each_of(tx, sql, &[], operation, faults, read).await
}

/// Streams the rows of a statement through `read`.
async fn each_of<T>(
    tx: &Transaction<'_>,
    sql: &str,
    parameters: &[&(dyn ToSql + Sync)],
    operation: &'static str,
    faults: &Faults,
    mut read: impl FnMut(&Row) -> Result<T, Vec<UnreadableCell>>,
) -> Result<Vec<T>, LedgerError> {
    let failed = |error| faults.broken(LedgerError::during(operation)(error));
    // Planned once for as long as the connection lives: with few positions planning takes longer than reading.
    let statement = tx.prepare_cached(sql).await.map_err(failed)?;
    let rows = tx.query_raw(&statement, parameters.iter().copied()).await.map_err(failed)?;
    let mut rows = pin!(rows);
    let mut values = Vec::new();
    while let Some(row) = rows.try_next().await.map_err(failed)? {
        faults.meter.row();
        match read(&row) {
            Ok(value) => values.push(value),
            Err(cells) => faults.unreadable(cells),
        }
    }
    faults.meter.read();
    Ok(values)
}
