//! One state change, one transaction: an outcome, its fills, the position, the aggregates and the signal together.

use deadpool_postgres::Transaction;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use ha::Fence;
use serde_json::Value;

use super::cash::{CashWrite, write_cash};
use super::inbox::SignalStatus;
use super::planned::{Planned, in_order};
use super::wishes::{self, Wish};
use super::writes::{
    STATEMENTS, open_position, update_position, write_fill, write_intent, write_portfolio, write_pyramid,
    write_signal,
};
use super::{Ledger, LedgerError, audit};
use crate::domain::ids::{IntentId, SignalId};
use crate::domain::money::{Price, Quantity, Rupees};
use crate::domain::order::IntentState;
use crate::domain::portfolio::Portfolio;
use crate::domain::position::Position;
use crate::domain::pyramiding::PyramidingState;

/// What became of an intent.
#[derive(Clone, Debug, PartialEq)]
pub struct IntentUpdate {
    /// Which intent.
    pub id: IntentId,
    /// Its new state.
    pub state: IntentState,
    /// Why, when that needs saying.
    pub reason: Option<String>,
    /// The broker's id, once known.
    pub broker_order_id: Option<String>,
    /// Units filled in all.
    pub filled: Quantity,
    /// A late fill is to be closed at once.
    pub unwind: bool,
}

/// One execution, keyed by the order's cumulative quantity after it.
#[derive(Clone, Debug, PartialEq)]
pub struct FillRow {
    /// Whose fill.
    pub intent: IntentId,
    /// The order's filled quantity after this fill.
    pub cumulative: Quantity,
    /// This fill's units.
    pub quantity: Quantity,
    /// Its price.
    pub price: Price,
    /// What its order is charged with it; none where that is not known: of no position, or by hand.
    pub charges: Option<Rupees>,
}

/// A signal's end, or its reasons.
#[derive(Clone, Debug, PartialEq)]
pub struct SignalUpdate {
    /// Which signal.
    pub id: SignalId,
    /// Its new status.
    pub status: SignalStatus,
    /// `{code, sentence}` objects.
    pub reasons: Value,
    /// Sizing and gates, when there was a decision.
    pub decision: Option<Value>,
}

/// The portfolio's aggregates as stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct PortfolioRow {
    /// What was paid in, less what was taken out: the opening and all movements.
    pub capital: Rupees,
    /// Capital plus realised profit and loss.
    pub closed_equity: Rupees,
    /// High-water mark of closed equity.
    pub equity_high: Rupees,
    /// Σ position risk.
    pub risk: Rupees,
    /// Σ position volatility.
    pub volatility: Rupees,
    /// Σ position margin.
    pub margin_used: Rupees,
    /// What all positions ever were charged; the equities are before it.
    pub charges: Rupees,
}

impl PortfolioRow {
    /// What is stored of a portfolio.
    pub fn of(portfolio: &Portfolio) -> Self {
        let sums = portfolio.aggregates();
        Self {
            capital: portfolio.cash,
            closed_equity: sums.closed_equity,
            equity_high: portfolio.equity_high.max(sums.closed_equity),
            risk: sums.risk,
            volatility: sums.volatility,
            margin_used: sums.margin_used,
            charges: sums.charges,
        }
    }
}

/// Where the pyramid of an instrument stands.
#[derive(Clone, Debug, PartialEq)]
pub enum PyramidWrite {
    /// Its state now.
    Set(PyramidingState),
    /// Nothing is held on this instrument any more.
    Clear(String),
}

/// Everything one state change writes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Change {
    /// Intents that moved.
    pub intents: Vec<IntentUpdate>,
    /// New executions.
    pub fills: Vec<FillRow>,
    /// Positions that came to be.
    pub opened: Vec<Position>,
    /// Positions that changed; each carries its new version, one above the stored one.
    pub positions: Vec<Position>,
    /// The aggregates after the change.
    pub portfolio: Option<PortfolioRow>,
    /// Pyramids that moved.
    pub pyramids: Vec<PyramidWrite>,
    /// Signals that ended or were explained.
    pub signals: Vec<SignalUpdate>,
    /// Positions that an operator wants closed.
    pub wishes: Vec<Wish>,
    /// A deposit or withdrawal; the aggregates have it in them.
    pub cash: Option<CashWrite>,
}

impl Change {
    /// Nothing to write.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// It tells of nothing but acknowledgements. One that a crash of the database forgets is as one that this process did not
    /// live to record: the intent is journaled, so the next term puts it in doubt, and the books have its order. And it is not
    /// forgotten where anything followed from it: whatever is committed after it, and waited for, has it on disk before.
    fn is_found_again(&self) -> bool {
        let acknowledges = |update: &IntentUpdate| {
            update.state == IntentState::Acknowledged && update.filled == Quantity::ZERO && !update.unwind
        };
        self.intents.iter().all(acknowledges)
            && Self { intents: self.intents.clone(), ..Self::default() } == *self
    }
}

impl Ledger {
    /// Writes a change in one transaction, under the leadership row's lock.
    ///
    /// # Errors
    /// [`LedgerError::Fenced`] when the epoch no longer leads, [`LedgerError::Conflict`] when a position was
    /// changed by someone else; in both cases and on any refusal nothing was written. A lost connection during
    /// the commit leaves it unknown; repeating the change is then a conflict or a no-op, never a double.
    pub async fn commit(&self, fence: &Fence, change: &Change) -> Result<(), LedgerError> {
        let mut client = self.client().await?;
        let tx = client.transaction().await.map_err(LedgerError::during("begin a transaction"))?;
        lock_leadership(&tx, fence, !change.is_found_again()).await?;
        let told = audit::of_change(change, fence.epoch().get());
        let member = fence.instance().member.as_str();
        let moved = change.cash.as_ref().map_or(Rupees::ZERO, |cash| cash.movement.amount);
        let mut writes: Vec<BoxFuture<'_, Result<(), LedgerError>>> = Vec::new();
        writes.extend(change.fills.iter().map(|fill| write_fill(&tx, fill).boxed()));
        writes.extend(change.intents.iter().map(|intent| write_intent(&tx, intent).boxed()));
        writes.extend(change.opened.iter().map(|position| open_position(&tx, position).boxed()));
        writes.extend(change.positions.iter().map(|position| update_position(&tx, position).boxed()));
        writes.extend(change.portfolio.iter().map(|row| write_portfolio(&tx, row, Some(moved)).boxed()));
        writes.extend(change.cash.iter().map(|cash| write_cash(&tx, cash, fence).boxed()));
        writes.extend(change.pyramids.iter().map(|pyramid| write_pyramid(&tx, pyramid).boxed()));
        writes.extend(change.signals.iter().map(|signal| write_signal(&tx, signal, fence).boxed()));
        writes.extend(change.wishes.iter().map(|wish| wishes::write(&tx, wish).boxed()));
        writes.extend(told.iter().map(|told| audit::append(&tx, "change", member, told).boxed()));
        in_order(&tx, &STATEMENTS, writes).await?;
        tx.commit().await.map_err(LedgerError::during("commit a state change"))
    }

    /// Remembers orders at the broker that no intent explains; returns the newest watermark.
    ///
    /// # Errors
    /// As [`Ledger::commit`].
    pub async fn remember_foreign_orders(
        &self,
        fence: &Fence,
        order_ids: &[String],
    ) -> Result<i64, LedgerError> {
        let mut client = self.client().await?;
        let tx = client.transaction().await.map_err(LedgerError::during("begin a transaction"))?;
        lock_leadership(&tx, fence, true).await?;
        tx.run(
            "INSERT INTO broker_order_seen (order_id) SELECT unnest($1::text[]) ON CONFLICT DO NOTHING",
            &[&order_ids],
        )
        .await
        .map_err(LedgerError::during("remember foreign orders"))?;
        let row = tx
            .row("SELECT coalesce(max(seq), 0) FROM broker_order_seen", &[])
            .await
            .map_err(LedgerError::during("read the order watermark"))?;
        tx.commit().await.map_err(LedgerError::during("commit foreign orders"))?;
        Ok(row.get(0))
    }
}

/// Takes the row lock that a takeover waits for, and proves that the epoch still leads, through the session that this
/// term began with: after a repair, or a resumption, what an older term remembers is not written any more. Its commit waits
/// for the disk where it is to be `kept` through a crash of the database.
pub(super) async fn lock_leadership(
    tx: &Transaction<'_>,
    fence: &Fence,
    kept: bool,
) -> Result<(), LedgerError> {
    let row = tx
        .maybe_row(
            "SELECT backend_pid IS NOT DISTINCT FROM $3,
                CASE WHEN NOT $4 THEN set_config('synchronous_commit', 'off', true) END
             FROM leadership WHERE epoch = $1 AND holder_incarnation = $2 FOR SHARE",
            &[&fence.epoch().get(), &fence.instance().incarnation.as_uuid(), &fence.backend_pid(), &kept],
        )
        .await
        .map_err(LedgerError::during("lock the leadership row"))?;
    let Some(row) = row else {
        fence.report_fenced("a state change found another epoch or holder in the leadership row");
        return Err(LedgerError::Fenced(fence.epoch()));
    };
    match row.get(0) {
        true => Ok(()),
        false => {
            Err(LedgerError::Conflict { what: "stored state, by a repair or a later term: it".to_owned() })
        }
    }
}
