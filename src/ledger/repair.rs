//! Repairs, and what an operator's word does (`resolve.rs`): one transaction each, under the leadership row's lock,
//! with an audit row.
//!
//! The row is locked `FOR UPDATE`, so no leader writes meanwhile; it is looked at, mended and proven inside, and rolled
//! back unless it is whole. What a leader remembers is behind the ledger afterwards, so its session is ended, as the last
//! thing before the commit: whoever dies in between has changed nothing. To lead on it needs this row, so it reads what
//! was committed; and the row does not name its old session any more, so that a change of its which waits for the lock
//! is refused instead of written over the repair.

use std::collections::BTreeMap;
use std::sync::Arc;

use deadpool_postgres::Transaction;
use serde_json::{Map, Value};

use super::change::{FillRow, PortfolioRow, PyramidWrite};
pub use super::mend::{CashMend, ClosedMend, DayMend, WishWrite};
use super::reread::{self, Readable};
use super::snapshot::{self, ChargedFill, Depth, Snapshot};
use super::{Ledger, LedgerError, audit, mend, recorded, writes};
use crate::domain::ids::{IntentId, PositionId};
use crate::domain::intent::EntryPlan;
use crate::domain::money::{Price, Quantity, Rupees};
use crate::domain::position::{HoldingKey, Position};

/// A sale that was made by hand at the broker, booked on its position.
#[derive(Clone, Debug, PartialEq)]
pub struct Booking {
    /// A deterministic id: the same sale is booked once.
    pub intent: IntentId,
    /// The position, before the sale.
    pub position: Position,
    /// Units sold.
    pub quantity: Quantity,
    /// Their price.
    pub price: Price,
}

/// An order that was sent beside the ledger, as it ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Outside {
    /// Its id.
    pub id: IntentId,
    /// Of what.
    pub contract: HoldingKey,
    /// Its instrument, or its symbol.
    pub instrument: String,
    /// Units ordered.
    pub quantity: Quantity,
    /// Units sold.
    pub filled: Quantity,
    /// Their average price.
    pub price: Price,
    /// The broker's id, if it had one.
    pub order_id: Option<String>,
    /// What was sent as the bridge's `strategy`.
    pub tag: String,
    /// How it ended, in words.
    pub reason: String,
}

/// A position that the broker holds, taken up by an operator's word.
#[derive(Clone, Debug, PartialEq)]
pub struct Adopted {
    /// The position; its place in the inbox is given when it is written.
    pub position: Position,
    /// The order that stands for how it was bought.
    pub intent: IntentId,
    /// That order's plan, which the position is held against from then on.
    pub plan: EntryPlan,
}

/// What a repair writes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mending {
    /// Positions as they are to be, each with its next version.
    pub positions: Vec<Position>,
    /// Positions whose rows were gone.
    pub made_again: Vec<Position>,
    /// Columns of closed positions.
    pub closed: Vec<(PositionId, ClosedMend)>,
    /// What closed positions were charged.
    pub charges: Vec<(PositionId, Rupees)>,
    /// What fills were charged.
    pub charged: Vec<ChargedFill>,
    /// Units that orders filled.
    pub filled: Vec<(IntentId, Quantity)>,
    /// Columns of orders, past what keeps a running program from going backwards.
    pub orders: BTreeMap<IntentId, Map<String, Value>>,
    /// What operators want closed, or never wanted.
    pub wishes: Vec<WishWrite>,
    /// Deposits and withdrawals, past what keeps their rows as they are.
    pub cash: Vec<CashMend>,
    /// What the account's day began with, and the limits that were hit in it.
    pub days: Vec<DayMend>,
    /// Orders that were sent beside the ledger: kept as they were, of no position.
    pub outside: Vec<Outside>,
    /// A position that is taken up.
    pub adopted: Option<Adopted>,
    /// Sales by hand.
    pub bookings: Vec<Booking>,
    /// The broker's ids of the orders that made them, as far as its trade book shows them.
    pub by_hand: Vec<String>,
    /// The aggregates, if they change.
    pub portfolio: Option<PortfolioRow>,
    /// Pyramids that change.
    pub pyramids: Vec<PyramidWrite>,
}

/// Who repairs, and why.
#[derive(Clone, Copy, Debug)]
pub struct Operator<'a> {
    /// The operator's name.
    pub name: &'a str,
    /// Why it is done; kept in the audit row.
    pub reason: &'a str,
}

impl Ledger {
    /// Mends stored state, told to the audit as `kind`: `plan` says how, from what is read under the lock to that `depth`, and
    /// what to tell the audit; `prove` sees the outcome before it is committed.
    ///
    /// # Errors
    /// What `plan` or `prove` refuse, or any database error; nothing was written then.
    pub async fn repair<E: From<LedgerError>>(
        &self,
        operator: Operator<'_>,
        kind: &'static str,
        depth: Depth,
        plan: impl FnOnce(&Snapshot) -> Result<(Mending, Value), E>,
        prove: impl FnOnce(Snapshot) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut client = self.client().await?;
        let tx = locked(&mut client, depth).await?;
        let before = snapshot::read(&tx, depth, &Arc::default()).await?;
        let planned = plan(&before)?;
        Self::mend(tx, (operator, kind), depth, before.portfolio, planned, prove).await
    }

    /// As [`Ledger::repair`], over all of history, of state of which some cells cannot be read: they are put back first.
    ///
    /// # Errors
    /// As for [`Ledger::repair`].
    pub async fn repair_unreadable<E: From<LedgerError>>(
        &self,
        operator: Operator<'_>,
        kind: &'static str,
        plan: impl FnOnce(&Readable) -> Result<(Mending, Value), E>,
        prove: impl FnOnce(Snapshot) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut client = self.client().await?;
        let tx = locked(&mut client, Depth::Whole).await?;
        // Whoever repairs holds the leadership row all the while: no bound makes that shorter, and years of history take their time.
        let before = reread::readable(&tx, None).await?;
        let planned = plan(&before)?;
        let portfolio = before.snapshot.and_then(|snapshot| snapshot.portfolio);
        Self::mend(tx, (operator, kind), Depth::Whole, portfolio, planned, prove).await
    }

    /// Writes, tells the audit, and commits what is proven.
    async fn mend<E: From<LedgerError>>(
        tx: Transaction<'_>,
        (operator, kind): (Operator<'_>, &'static str),
        depth: Depth,
        portfolio: Option<PortfolioRow>,
        (mending, told): (Mending, Value),
        prove: impl FnOnce(Snapshot) -> Result<(), E>,
    ) -> Result<(), E> {
        write(&tx, &mending, operator).await?;
        let positions = mending.positions.iter().chain(&mending.made_again).map(recorded::position);
        let told = serde_json::json!({
            "reason": operator.reason, "proposals": told, "positions": positions.collect::<Vec<_>>(),
            "figures": mending.portfolio.or(portfolio).as_ref().map(recorded::figures),
        });
        audit::append(&tx, kind, operator.name, &told).await?;
        // The audit log's row included: it is what the next recovery holds the others against.
        prove(snapshot::read(&tx, depth, &Arc::default()).await?)?;
        have_leader_reread(&tx).await?;
        tx.commit().await.map_err(LedgerError::during("commit a repair"))?;
        Ok(())
    }
}

/// Ends the leader's session: what it remembers is older than what is about to be committed.
pub(super) async fn have_leader_reread(tx: &Transaction<'_>) -> Result<(), LedgerError> {
    tx.batch_execute(
        "SELECT pg_terminate_backend(a.pid) FROM leadership l
            JOIN pg_stat_activity a ON a.pid = l.backend_pid AND a.backend_start = l.backend_start;
         UPDATE leadership SET backend_pid = NULL, backend_start = NULL",
    )
    .await
    .map_err(LedgerError::during("have the leader read state back"))
}

pub(super) async fn locked(
    client: &mut deadpool_postgres::Object,
    depth: Depth,
) -> Result<Transaction<'_>, LedgerError> {
    let during = LedgerError::during("lock the leadership row");
    let tx = client.transaction().await.map_err(&during)?;
    // The chain's head, too: it is walked, and nothing may be added between two looks at it.
    tx.batch_execute(
        "SET LOCAL lock_timeout = '2s'; SELECT 1 FROM leadership FOR UPDATE; SELECT 1 FROM audit_head FOR UPDATE",
    )
        .await
        .map_err(&during)?;
    if depth == Depth::Whole {
        Ledger::unhurried(&tx).await?;
    }
    Ok(tx)
}

async fn write(tx: &Transaction<'_>, mending: &Mending, operator: Operator<'_>) -> Result<(), LedgerError> {
    for order in &mending.outside {
        outside(tx, order).await?;
    }
    if let Some(adopted) = &mending.adopted {
        adopt(tx, adopted, operator).await?;
    }
    for booking in &mending.bookings {
        book(tx, booking, operator).await?;
    }
    explain(tx, &mending.by_hand).await?;
    mend::write(tx, mending).await?;
    if let Some(portfolio) = &mending.portfolio {
        writes::write_portfolio(tx, portfolio, None).await?;
    }
    for pyramid in &mending.pyramids {
        writes::write_pyramid(tx, pyramid).await?;
    }
    Ok(())
}

/// An order that no intent preceded; what it sold is booked on positions like a sale by hand.
async fn outside(tx: &Transaction<'_>, order: &Outside) -> Result<(), LedgerError> {
    let state = match (order.filled, &order.order_id) {
        (filled, _) if filled == order.quantity => "filled",
        (_, Some(_)) => "cancelled",
        (_, None) => "not_sent",
    };
    tx.execute(
        "INSERT INTO order_intent (id, position_id, instrument, epoch, incarnation, class, symbol, exchange, side,
            quantity, price_type, product, price, trigger_price, strategy_tag, state, reason, broker_order_id,
            filled_quantity, send_window_ms, order_watermark, cause, custody)
         SELECT $1, $1, $2, epoch, '00000000-0000-0000-0000-000000000000', 'operator', $3, $4, 'SELL', $5, 'MARKET', $6,
            0, 0, $7, $8, $9, $10, $11, 1, 0, 'operator', true FROM leadership",
        &[
            &order.id.0,
            &order.instrument,
            &order.contract.symbol,
            &order.contract.exchange,
            &order.quantity.0,
            &order.contract.product.as_str(),
            &order.tag,
            &state,
            &order.reason,
            &order.order_id,
            &order.filled.0,
        ],
    )
    .await
    .map_err(LedgerError::during("keep an emergency order"))?;
    if order.filled == Quantity::ZERO {
        return Ok(());
    }
    let (cumulative, quantity) = (order.filled, order.filled);
    let fill = FillRow { intent: order.id, cumulative, quantity, price: order.price, charges: None };
    writes::write_fill(tx, &fill).await
}

/// The operator's word stands as a signal, what was bought by hand as its order and fill: from then on nothing tells the
/// position from one that a signal opened.
async fn adopt(tx: &Transaction<'_>, adopted: &Adopted, operator: Operator<'_>) -> Result<(), LedgerError> {
    let during = LedgerError::during("take up a position");
    let (mut p, mut plan) = (adopted.position.clone(), adopted.plan.clone());
    let word = serde_json::json!({ "adopted": p.id, "by": operator.name, "reason": operator.reason });
    let reasons = serde_json::json!([{
        "code": "ADOPTED", "sentence": format!("taken up by {}: {}", operator.name, operator.reason),
    }]);
    let signal =
        "INSERT INTO signal (id, key, type, strategy, instrument, payload, raw_body, received_by, status,
            finished_at, reasons)
        VALUES ($1, 'adopted/' || $2, 'BASE_ENTRY', $3, $4, $5, '', $6, 'executed', now(), $7) RETURNING seq";
    let key = p.id.to_string();
    let signal = tx
        .query_one(
            signal,
            &[&p.entry_signal.0, &key, &p.strategy, &p.instrument, &word, &operator.name, &reasons],
        )
        .await
        .map_err(&during)?;
    (p.entry_signal_seq, plan.signal_seq) = (signal.get(0), signal.get(0));
    let reason = format!("held at the broker, taken up by {}: {}", operator.name, operator.reason);
    let (tag, plan) = (format!("adopted:{}", adopted.intent), serde_json::json!(plan));
    tx.execute(
        "INSERT INTO order_intent (id, signal_id, position_id, instrument, epoch, incarnation, class, symbol, exchange, side,
            quantity, price_type, product, price, trigger_price, strategy_tag, plan, state, reason, broker_order_id,
            filled_quantity, send_window_ms, order_watermark)
         SELECT $1, $2, $3, $4, epoch, '00000000-0000-0000-0000-000000000000', 'entry', $5, $6, 'BUY', $7, 'MARKET', $8, 0, 0,
            $9, $10, 'filled', $11, $9, $7, 1, 0 FROM leadership",
        &[
            &adopted.intent.0,
            &p.entry_signal.0,
            &p.id.0,
            &p.instrument,
            &p.symbol,
            &p.exchange,
            &p.quantity.0,
            &p.product.as_str(),
            &tag,
            &plan,
            &reason,
        ],
    )
    .await
    .map_err(&during)?;
    let (cumulative, quantity, price) = (p.quantity, p.quantity, p.entry_price);
    let fill = FillRow { intent: adopted.intent, cumulative, quantity, price, charges: None };
    writes::write_fill(tx, &fill).await?;
    writes::open_position(tx, &p).await?;
    // Where the audit log has every position's stop from: a custodian believes no other.
    let told = serde_json::json!({ "positions": [recorded::position(&p)] });
    audit::append(tx, "change", operator.name, &told).await
}

/// A sale by hand is an order of the operator's, filled: fills stay the only thing that moves a position.
async fn book(tx: &Transaction<'_>, booking: &Booking, operator: Operator<'_>) -> Result<(), LedgerError> {
    let p = &booking.position;
    let reason = format!("sold by hand at the broker, booked by {}: {}", operator.name, operator.reason);
    let tag = format!("by-hand:{}", booking.intent);
    tx.execute(
        "INSERT INTO order_intent (id, position_id, instrument, epoch, incarnation, class, symbol, exchange, side,
            quantity, price_type, product, price, trigger_price, strategy_tag, state, reason, broker_order_id,
            filled_quantity, send_window_ms, order_watermark)
         SELECT $1, $2, $3, epoch, '00000000-0000-0000-0000-000000000000', 'operator', $4, $5, 'SELL', $6, 'MARKET', $7,
            0, 0, $8, 'filled', $9, $8, $6, 1, 0 FROM leadership",
        &[
            &booking.intent.0,
            &p.id.0,
            &p.instrument,
            &p.symbol,
            &p.exchange,
            &booking.quantity.0,
            &p.product.as_str(),
            &tag,
            &reason,
        ],
    )
    .await
    .map_err(LedgerError::during("book a sale by hand"))?;
    let fill = FillRow {
        intent: booking.intent,
        cumulative: booking.quantity,
        quantity: booking.quantity,
        price: booking.price,
        charges: None,
    };
    writes::write_fill(tx, &fill).await
}

/// The orders behind the bookings are explained: a leader that finds one of them in the books takes it for nobody's.
async fn explain(tx: &Transaction<'_>, orders: &[String]) -> Result<(), LedgerError> {
    tx.execute(
        "INSERT INTO broker_order_seen (order_id, booked_at) SELECT DISTINCT unnest($1::text[]), now()
         ON CONFLICT (trading_day, order_id) DO UPDATE SET booked_at = now()",
        &[&orders],
    )
    .await
    .map_err(LedgerError::during("remember the orders of sales by hand"))?;
    Ok(())
}
