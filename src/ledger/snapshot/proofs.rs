//! The reads that only prove the others: what an open position's own orders and fills say about it.
//!
//! The comparison of a position with its entry's plan runs in the database, which returns what differs: thousands of
//! plans are not carried over the wire to be found right.

use std::collections::HashMap;

use deadpool_postgres::Transaction;
use rust_decimal::Decimal;
use uuid::Uuid;

use super::{Depth, Faults, each};
use crate::domain::ids::{IntentId, PositionId};
use crate::domain::money::Quantity;
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
    fn add(&mut self, class: OrderClass, fill: Option<(i64, Decimal)>) {
        let is_entry = class == OrderClass::Entry;
        self.entered |= is_entry;
        let Some((quantity, price)) = fill else { return };
        if is_entry {
            let value = price.saturating_mul(quantity.into());
            self.bought = Quantity(self.bought.0.saturating_add(quantity));
            self.bought_value = self.bought_value.saturating_add(value);
        } else {
            self.sold = Quantity(self.sold.0.saturating_add(quantity));
        }
    }
}

/// A column of an open position that is not what its entry's order and plan say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Strayed {
    /// The position.
    pub position: PositionId,
    /// The column.
    pub column: String,
    /// What is stored.
    pub stored: String,
    /// What the order or its plan says.
    pub planned: String,
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
    pub position_fills: HashMap<PositionId, PositionFills>,
    pub strayed: Vec<Strayed>,
    pub orphans: Vec<Orphan>,
    pub audit: Vec<String>,
}

impl Proofs {
    /// All of them to their end, as [`State::read`](super::state::State::read).
    pub async fn read(tx: &Transaction<'_>, depth: Depth, faults: &Faults) -> Result<Self, LedgerError> {
        let (position_fills, strayed, unasked, orphans, audit) = tokio::join!(
            position_fills(tx, faults),
            strayed(tx, faults),
            unasked(tx, faults),
            orphans(tx, depth, faults),
            audit(tx, depth, faults),
        );
        let mut strayed = strayed?;
        strayed.extend(unasked?);
        Ok(Self { position_fills: position_fills?, strayed, orphans: orphans?, audit: audit? })
    }
}

pub(super) async fn position_fills(
    tx: &Transaction<'_>,
    faults: &Faults,
) -> Result<HashMap<PositionId, PositionFills>, LedgerError> {
    let sql = "SELECT o.id, p.id AS position, o.class, f.quantity, f.price FROM position p
        JOIN order_intent o ON o.position_id = p.id LEFT JOIN fill f ON f.intent_id = o.id
        WHERE p.status <> 'closed'";
    let rows = each(tx, sql, "fetch the fills of open positions", faults, |row| {
        let mut cells = Cells::keyed(row, "fill");
        let id = PositionId(cells.get("position"));
        let class = cells.word("class", OrderClass::Entry);
        let (quantity, price) = (cells.get::<Option<i64>>("quantity"), cells.get::<Option<Decimal>>("price"));
        cells.finish((id, class, quantity.zip(price)))
    })
    .await?;
    // Added up here: the database takes three times as long for it.
    let mut sums: HashMap<PositionId, PositionFills> = HashMap::with_capacity(rows.len());
    for (id, class, fill) in rows {
        sums.entry(id).or_default().add(class, fill);
    }
    Ok(sums)
}

/// Numbers of a plan were rounded to the stored scale on their way into the position, and times to microseconds.
pub(super) async fn strayed(tx: &Transaction<'_>, faults: &Faults) -> Result<Vec<Strayed>, LedgerError> {
    // The plan's fields are taken one by one where thousands are found right, as a record where one is told.
    let sql = "WITH pair AS (
            SELECT p AS held, o AS entry
            FROM position p
            JOIN order_intent o ON o.position_id = p.id AND o.class = 'entry' AND o.plan IS NOT NULL
            WHERE p.status <> 'closed'
              AND ((p.instrument, p.symbol, p.exchange, p.product, p.entry_signal, p.label, p.strategy, p.lot_size,
                    p.entry_signal_seq)
                IS DISTINCT FROM
                   (o.instrument, o.symbol, o.exchange, o.product, o.signal_id, o.plan ->> 'label', o.plan ->> 'strategy',
                    (o.plan ->> 'lot_size')::bigint, (o.plan ->> 'signal_seq')::bigint)
                OR p.point_value <> round((o.plan ->> 'point_value')::numeric, 8)
                OR p.margin_per_lot <> round((o.plan ->> 'margin_per_lot')::numeric, 8)
                OR p.atr <> round((o.plan ->> 'atr')::numeric, 8)
                OR p.initial_stop <> round((o.plan ->> 'stop')::numeric, 8)
                OR p.entry_bar_time NOT BETWEEN (o.plan ->> 'bar_time')::timestamptz - interval '1 ms'
                    AND (o.plan ->> 'bar_time')::timestamptz + interval '1 ms')
        )
        SELECT (held).id, column_name, stored, planned FROM pair
        CROSS JOIN LATERAL jsonb_to_record((entry).plan) AS plan (label text, strategy text, lot_size bigint,
            point_value numeric, margin_per_lot numeric, atr numeric, stop numeric, signal_seq bigint,
            bar_time timestamptz)
        CROSS JOIN LATERAL (VALUES
            ('instrument', (held).instrument, (entry).instrument),
            ('symbol', (held).symbol, (entry).symbol),
            ('exchange', (held).exchange, (entry).exchange),
            ('product', (held).product, (entry).product),
            ('entry_signal', (held).entry_signal::text, (entry).signal_id::text),
            ('label', (held).label, plan.label),
            ('strategy', (held).strategy, plan.strategy),
            ('lot_size', (held).lot_size::text, plan.lot_size::text),
            ('point_value', trim_scale((held).point_value)::text, trim_scale(round(plan.point_value, 8))::text),
            ('margin_per_lot', trim_scale((held).margin_per_lot)::text, trim_scale(round(plan.margin_per_lot, 8))::text),
            ('entry_signal_seq', (held).entry_signal_seq::text, plan.signal_seq::text),
            ('atr', trim_scale((held).atr)::text, trim_scale(round(plan.atr, 8))::text),
            ('initial_stop', trim_scale((held).initial_stop)::text, trim_scale(round(plan.stop, 8))::text),
            ('entry_bar_time', (held).entry_bar_time::timestamptz(3)::text, plan.bar_time::timestamptz(3)::text)
        ) AS difference (column_name, stored, planned)
        WHERE stored IS DISTINCT FROM planned";
    let mut strayed = each(tx, sql, "compare positions with their entries", faults, |row| {
        let mut cells = Cells::keyed(row, "position");
        let strayed = Strayed {
            position: PositionId(cells.get::<Uuid>("id")),
            column: cells.get("column_name"),
            stored: cells.get::<Option<String>>("stored").unwrap_or_else(|| "nothing".to_owned()),
            planned: cells.get::<Option<String>>("planned").unwrap_or_else(|| "nothing".to_owned()),
        };
        cells.finish(strayed)
    })
    .await?;
    strayed.sort_by(|a, b| (a.position, &a.column).cmp(&(b.position, &b.column)));
    Ok(strayed)
}

/// Positions on their way out that nobody sent out: the engine would close them. A late fill of any order of its entry sends
/// a position out, before an exit is journaled.
pub(super) async fn unasked(tx: &Transaction<'_>, faults: &Faults) -> Result<Vec<Strayed>, LedgerError> {
    let sql = "SELECT p.id FROM position p
        WHERE p.status = 'closing'
          AND EXISTS (SELECT 1 FROM order_intent e WHERE e.position_id = p.id AND e.class = 'entry')
          AND NOT EXISTS (SELECT 1 FROM order_intent e WHERE e.position_id = p.id AND e.class = 'entry' AND e.unwind)
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

/// What an order filled too late for its position is one under the order's own id.
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
           AND NOT EXISTS (SELECT 1 FROM position p WHERE p.id = o.position_id)
           AND NOT EXISTS (SELECT 1 FROM position p WHERE p.id = o.id) ORDER BY o.journaled_at, o.id"
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
