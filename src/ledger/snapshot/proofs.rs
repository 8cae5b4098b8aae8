//! The reads that only prove the others: what an open position's own orders and fills say about it.

use std::collections::HashMap;

use deadpool_postgres::Transaction;
use rust_decimal::Decimal;

use super::entries::{ENTRY_COLUMNS, Entry, Strayed};
use super::{Depth, Faults, each};
use crate::domain::ids::{IntentId, PositionId};
use crate::domain::money::{Price, Quantity};
use crate::domain::order::OrderClass;
use crate::ledger::cells::Cells;
use crate::ledger::{LedgerError, audit, seals};

/// What the fills of an open position's orders add up to.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct PositionFills {
    /// Its entry's order names it; a late fill is a position that no entry names.
    pub entered: bool,
    /// Units that its entry bought.
    pub bought: Quantity,
    /// Σ price · quantity of those.
    pub bought_value: Decimal,
    /// Units that its exits sold.
    pub sold: Quantity,
}

impl PositionFills {
    /// Counts an order of the position in, with one of its fills if it has any. Stored figures may be anything: what is
    /// too large to be counted is a sum that nothing else agrees with.
    fn add(&mut self, class: OrderClass, fill: Option<(i64, Price)>) {
        let is_entry = class == OrderClass::Entry;
        self.entered |= is_entry;
        let Some((quantity, price)) = fill else { return };
        if is_entry {
            let value = price.0.saturating_mul(quantity.into());
            self.bought = Quantity(self.bought.0.saturating_add(quantity));
            self.bought_value = self.bought_value.saturating_add(value);
        } else {
            self.sold = Quantity(self.sold.0.saturating_add(quantity));
        }
    }
}

/// A filled order whose position has no row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Orphan {
    /// The order.
    pub intent: IntentId,
    /// The position that is missing.
    pub position: PositionId,
    /// Units that the order filled.
    pub filled: Quantity,
    /// What it traded.
    pub symbol: String,
}

/// What only proves; the fields are those of the [`Snapshot`](super::Snapshot).
pub(super) struct Proofs {
    pub orders: Orders,
    pub unasked: Vec<Strayed>,
    pub orphans: Vec<Orphan>,
    pub audit: Vec<String>,
}

/// What the orders of open positions say of them.
#[derive(Default)]
pub(super) struct Orders {
    pub fills: HashMap<PositionId, PositionFills>,
    pub entries: Vec<Entry>,
}

impl Proofs {
    /// All of them to their end, as [`State::read`](super::state::State::read).
    pub async fn read(tx: &Transaction<'_>, depth: Depth, faults: &Faults) -> Result<Self, LedgerError> {
        let (orders, unasked, orphans, audit) = tokio::join!(
            orders(tx, faults),
            unasked(tx, faults),
            orphans(tx, depth, faults),
            audit(tx, depth, faults),
        );
        Ok(Self { orders: orders?, unasked: unasked?, orphans: orphans?, audit: audit? })
    }
}

/// What the orders of open positions filled, and what its entry says of each.
pub(super) async fn orders(tx: &Transaction<'_>, faults: &Faults) -> Result<Orders, LedgerError> {
    let sql = format!(
        "SELECT o.id, p.id AS position, f.quantity, f.price, o.class, {ENTRY_COLUMNS} FROM position p
         JOIN order_intent o ON o.position_id = p.id LEFT JOIN fill f ON f.intent_id = o.id
         WHERE p.status <> 'closed'"
    );
    // Added up here: the database takes three times as long for it.
    let mut orders = Orders::default();
    each(tx, &sql, "fetch the orders of open positions", faults, |row| {
        let mut cells = Cells::keyed(row, "fill");
        let id = PositionId(cells.get("position"));
        let (quantity, price) = (cells.get::<Option<i64>>("quantity"), cells.get::<Option<Price>>("price"));
        let class = cells.word("class", OrderClass::Entry);
        cells.finish(())?;
        orders.fills.entry(id).or_default().add(class, quantity.zip(price));
        if class == OrderClass::Entry {
            let mut cells = Cells::keyed(row, "order_intent");
            let entry = Entry::read(&mut cells, id);
            orders.entries.extend(cells.finish(entry)?);
        }
        Ok(())
    })
    .await?;
    Ok(orders)
}

/// Positions on their way out that nobody sent out: the engine would close them.
pub(super) async fn unasked(tx: &Transaction<'_>, faults: &Faults) -> Result<Vec<Strayed>, LedgerError> {
    let sql = "SELECT p.id FROM position p
        JOIN order_intent e ON e.position_id = p.id AND e.class = 'entry' AND NOT e.unwind
        WHERE p.status = 'closing'
          AND NOT EXISTS (SELECT 1 FROM order_intent o WHERE o.position_id = p.id AND o.class <> 'entry'
                            AND o.price_type NOT IN ('SL', 'SL-M'))";
    each(tx, sql, "look for exits that nobody asked for", faults, |row| {
        let mut cells = Cells::keyed(row, "position");
        let strayed = Strayed {
            position: PositionId(cells.get("id")),
            column: "status".to_owned(),
            stored: "closing".to_owned(),
            planned: "open: no order ever asked for an exit".to_owned(),
        };
        cells.finish(strayed)
    })
    .await
}

pub(super) async fn orphans(
    tx: &Transaction<'_>,
    depth: Depth,
    faults: &Faults,
) -> Result<Vec<Orphan>, LedgerError> {
    let since = match depth {
        Depth::Open => "AND o.journaled_at > now() - interval '2 days'",
        Depth::Whole => "",
    };
    let sql = format!(
        "SELECT o.id, o.position_id, o.filled_quantity, o.symbol FROM order_intent o
         WHERE o.filled_quantity > 0 AND NOT o.custody {since}
           AND NOT EXISTS (SELECT 1 FROM position p WHERE p.id = o.position_id) ORDER BY o.journaled_at, o.id"
    );
    each(tx, &sql, "look for orders without a position", faults, |row| {
        let mut cells = Cells::keyed(row, "order_intent");
        let orphan = Orphan {
            intent: IntentId(cells.get("id")),
            position: PositionId(cells.get("position_id")),
            filled: Quantity(cells.get("filled_quantity")),
            symbol: cells.get("symbol"),
        };
        cells.finish(orphan)
    })
    .await
}

/// What does not fit in the audit chain: since its last seal, or in all of it.
pub(super) async fn audit(
    tx: &Transaction<'_>,
    depth: Depth,
    faults: &Faults,
) -> Result<Vec<String>, LedgerError> {
    match depth {
        Depth::Open => seals::newest(tx, faults).await,
        Depth::Whole => {
            let report = audit::verify(tx).await.map_err(|error| faults.broken(error))?;
            faults.meter.read();
            Ok(report.faults)
        }
    }
}
