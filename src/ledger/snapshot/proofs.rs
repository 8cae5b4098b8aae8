//! The reads that only prove the others: what an open position's own orders and fills say about it.
//!
//! The comparison of a position with its entry's plan runs in the database, which returns what differs: thousands of
//! plans are not carried over the wire to be found right.

use rust_decimal::Decimal;
use tokio_postgres::Transaction;
use uuid::Uuid;

use super::{Depth, Faults, each};
use crate::domain::ids::{IntentId, PositionId};
use crate::domain::money::Quantity;
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

pub(super) async fn position_fills(
    tx: &Transaction<'_>,
    faults: &Faults,
) -> Result<Vec<(PositionId, PositionFills)>, LedgerError> {
    let sql = "SELECT p.id, bool_or(o.class = 'entry') AS entered,
            coalesce(sum(f.quantity) FILTER (WHERE o.class = 'entry'), 0)::bigint AS bought,
            coalesce(sum(f.quantity * f.price) FILTER (WHERE o.class = 'entry'), 0) AS bought_value,
            coalesce(sum(f.quantity) FILTER (WHERE o.class <> 'entry'), 0)::bigint AS sold
        FROM position p JOIN order_intent o ON o.position_id = p.id LEFT JOIN fill f ON f.intent_id = o.id
        WHERE p.status <> 'closed' GROUP BY p.id";
    each(tx, sql, "add up the fills of open positions", faults, |row| {
        let mut cells = Cells::keyed(row, "fill");
        let id = PositionId(cells.get("id"));
        let fills = PositionFills {
            entered: cells.get("entered"),
            bought: Quantity(cells.get("bought")),
            bought_value: cells.get("bought_value"),
            sold: Quantity(cells.get("sold")),
        };
        cells.finish((id, fills))
    })
    .await
}

/// Numbers of a plan were rounded to the stored scale on their way into the position, and times to microseconds.
pub(super) async fn strayed(tx: &Transaction<'_>, faults: &Faults) -> Result<Vec<Strayed>, LedgerError> {
    let sql = "WITH pair AS (
            SELECT p AS held, o AS entry, r AS plan
            FROM position p
            JOIN order_intent o ON o.position_id = p.id AND o.class = 'entry' AND o.plan IS NOT NULL
            CROSS JOIN LATERAL jsonb_to_record(o.plan) AS r (label text, strategy text, lot_size bigint,
                point_value numeric, margin_per_lot numeric, atr numeric, stop numeric, signal_seq bigint,
                bar_time timestamptz)
            WHERE p.status <> 'closed'
              AND ((p.instrument, p.symbol, p.exchange, p.product, p.entry_signal, p.label, p.strategy, p.lot_size,
                    p.entry_signal_seq)
                IS DISTINCT FROM
                   (o.instrument, o.symbol, o.exchange, o.product, o.signal_id, r.label, r.strategy, r.lot_size,
                    r.signal_seq)
                OR abs(p.point_value - r.point_value) > 0.0000001
                OR abs(p.margin_per_lot - r.margin_per_lot) > 0.0000001
                OR abs(p.atr - r.atr) > 0.0000001 OR abs(p.initial_stop - r.stop) > 0.0000001
                OR p.entry_bar_time NOT BETWEEN r.bar_time - interval '1 ms' AND r.bar_time + interval '1 ms')
        )
        SELECT (held).id, column_name, stored, planned FROM pair CROSS JOIN LATERAL (VALUES
            ('instrument', (held).instrument, (entry).instrument),
            ('symbol', (held).symbol, (entry).symbol),
            ('exchange', (held).exchange, (entry).exchange),
            ('product', (held).product, (entry).product),
            ('entry_signal', (held).entry_signal::text, (entry).signal_id::text),
            ('label', (held).label, (plan).label),
            ('strategy', (held).strategy, (plan).strategy),
            ('lot_size', (held).lot_size::text, (plan).lot_size::text),
            ('point_value', trim_scale((held).point_value)::text, trim_scale(round((plan).point_value, 8))::text),
            ('margin_per_lot', trim_scale((held).margin_per_lot)::text, trim_scale(round((plan).margin_per_lot, 8))::text),
            ('entry_signal_seq', (held).entry_signal_seq::text, (plan).signal_seq::text),
            ('atr', trim_scale((held).atr)::text, trim_scale(round((plan).atr, 8))::text),
            ('initial_stop', trim_scale((held).initial_stop)::text, trim_scale(round((plan).stop, 8))::text),
            ('entry_bar_time', (held).entry_bar_time::timestamptz(3)::text, (plan).bar_time::timestamptz(3)::text)
        ) AS difference (column_name, stored, planned)
        WHERE stored IS DISTINCT FROM planned ORDER BY 1, 2";
    each(tx, sql, "compare positions with their entries", faults, |row| {
        let mut cells = Cells::keyed(row, "position");
        let strayed = Strayed {
            position: PositionId(cells.get::<Uuid>("id")),
            column: cells.get("column_name"),
            stored: cells.get::<Option<String>>("stored").unwrap_or_else(|| "nothing".to_owned()),
            planned: cells.get::<Option<String>>("planned").unwrap_or_else(|| "nothing".to_owned()),
        };
        cells.finish(strayed)
    })
    .await
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
