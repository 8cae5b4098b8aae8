//! The reads that only prove the others: what an open position's own orders and fills say about it.
//!
//! The comparison of a position with its entry's plan runs in the database, which returns what differs: thousands of
//! plans are not carried over the wire to be found right.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use deadpool_postgres::Transaction;
use rust_decimal::Decimal;
use serde_json::Value;
use tokio_postgres::Row;
use uuid::Uuid;

use super::beyond::beyond;
use super::{Depth, Faults, each};
use crate::domain::cause::ExitCause;
use crate::domain::ids::{IntentId, PositionId, SignalId};
use crate::domain::intent::EntryPlan;
use crate::domain::money::{Price, Quantity};
use crate::domain::order::{OrderClass, Product};
use crate::ledger::cells::{Cells, UnreadableCell};
use crate::ledger::recorded::Recorded;
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
    /// Σ price · quantity of those.
    pub sold_value: Decimal,
}

impl PositionFills {
    /// Counts an order of the position in, with one of its fills if it has any. Stored figures may be anything: what is
    /// too large to be counted is a sum that nothing else agrees with.
    pub fn add(&mut self, class: OrderClass, fill: Option<(i64, Decimal)>) {
        let is_entry = class == OrderClass::Entry;
        self.entered |= is_entry;
        let Some((quantity, price)) = fill else { return };
        let (units, value) = match is_entry {
            true => (&mut self.bought, &mut self.bought_value),
            false => (&mut self.sold, &mut self.sold_value),
        };
        *units = Quantity(units.0.saturating_add(quantity));
        *value = value.saturating_add(price.saturating_mul(quantity.into()));
    }
}

/// Stands in [`Strayed`] for a column that is empty, or is to be.
pub const NOTHING: &str = "nothing";

/// A column of a position that is not what its orders say: its entry's plan, what asked for its exit, what its fills earned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Strayed {
    /// The position.
    pub position: PositionId,
    /// The column.
    pub column: String,
    /// What is stored.
    pub stored: String,
    /// What the orders say.
    pub planned: String,
}

/// A filled order whose position has no row.
#[derive(Debug, Clone, PartialEq)]
pub struct Orphan {
    /// The order.
    pub intent: IntentId,
    /// The position that is missing.
    pub position: PositionId,
    /// Units that the order filled.
    pub filled: Quantity,
    /// What it traded.
    pub symbol: String,
    /// Where.
    pub exchange: String,
    /// As which product.
    pub product: Product,
    /// The configured instrument.
    pub instrument: String,
    /// Entry or exit.
    pub class: OrderClass,
    /// Why it closes, if it closes.
    pub cause: Option<ExitCause>,
    /// The signal that asked for it.
    pub signal: Option<SignalId>,
    /// Of an entry: what the position was to be.
    pub plan: Option<EntryPlan>,
    /// Its fills, in their order.
    pub fills: Vec<OrphanFill>,
}

/// One fill of an [`Orphan`].
#[derive(Debug, Clone, Copy, PartialEq, serde::Deserialize)]
pub struct OrphanFill {
    /// Units.
    pub quantity: Quantity,
    /// Their price.
    pub price: Price,
    /// When it was recorded.
    pub at: DateTime<Utc>,
}

/// What only proves; the fields are those of the [`Snapshot`](super::Snapshot).
pub(super) struct Proofs {
    pub position_fills: HashMap<PositionId, PositionFills>,
    pub strayed: Vec<Strayed>,
    pub orphans: Vec<Orphan>,
    pub audit: Vec<String>,
    pub recorded: Recorded,
}

impl Proofs {
    /// All of them to their end, as [`State::read`](super::state::State::read).
    pub async fn read(tx: &Transaction<'_>, depth: Depth, faults: &Faults) -> Result<Self, LedgerError> {
        let (position_fills, strayed, unasked, earned, orphans, audit, beyond) = tokio::join!(
            position_fills(tx, faults),
            strayed(tx, faults),
            unasked(tx, faults),
            earned(tx, depth, faults),
            orphans(tx, depth, faults),
            audit(tx, depth, faults),
            beyond(tx, faults),
        );
        // Only whether it can be read.
        beyond?;
        let mut strayed = strayed?;
        strayed.extend(unasked?);
        strayed.extend(earned?);
        let (audit, recorded) = audit?;
        Ok(Self { position_fills: position_fills?, strayed, orphans: orphans?, audit, recorded })
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
                OR p.take_profit IS DISTINCT FROM round((o.plan ->> 'take_profit')::numeric, 8)
                OR p.entry_bar_time NOT BETWEEN (o.plan ->> 'bar_time')::timestamptz - interval '1 ms'
                    AND (o.plan ->> 'bar_time')::timestamptz + interval '1 ms')
        )
        SELECT (held).id AS id, column_name, stored, planned FROM pair
        CROSS JOIN LATERAL jsonb_to_record((entry).plan) AS plan (label text, strategy text, lot_size bigint,
            point_value numeric, margin_per_lot numeric, atr numeric, stop numeric, take_profit numeric, signal_seq bigint,
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
            ('take_profit', trim_scale((held).take_profit)::text, trim_scale(round(plan.take_profit, 8))::text),
            ('entry_bar_time', (held).entry_bar_time::timestamptz(3)::text, plan.bar_time::timestamptz(3)::text)
        ) AS difference (column_name, stored, planned)
        WHERE stored IS DISTINCT FROM planned";
    let mut strayed = each(tx, sql, "compare positions with their entries", faults, strayed_column).await?;
    strayed.sort_by(|a, b| (a.position, &a.column).cmp(&(b.position, &b.column)));
    Ok(strayed)
}

/// Positions on their way out that nobody sent out, which the engine would close; and causes of exits that no order has.
pub(super) async fn unasked(tx: &Transaction<'_>, faults: &Faults) -> Result<Vec<Strayed>, LedgerError> {
    // Of thousands of positions few are on their way out, or ever were: they are picked once.
    let sql = "WITH p AS MATERIALIZED (
            SELECT id, status, exit_cause FROM position
            WHERE status <> 'closed' AND (status = 'closing' OR exit_cause IS NOT NULL)
        )
        SELECT p.id, 'status' AS column_name, 'closing' AS stored, 'open: no order ever asked for an exit' AS planned FROM p
        JOIN order_intent e ON e.position_id = p.id AND e.class = 'entry' AND NOT e.unwind
        WHERE p.status = 'closing'
          AND NOT EXISTS (SELECT 1 FROM order_intent o WHERE o.position_id = p.id AND o.class <> 'entry'
                            AND o.price_type NOT IN ('SL', 'SL-M'))
        UNION ALL SELECT p.id, 'exit_cause', p.exit_cause, coalesce(asked.newest, 'nothing') FROM p
        CROSS JOIN LATERAL (
            SELECT (array_agg(o.cause ORDER BY o.journaled_at DESC) FILTER (WHERE o.cause IS NOT NULL))[1] AS newest,
                coalesce(bool_or(o.cause = p.exit_cause), false) AS known,
                coalesce(bool_and(o.class <> 'entry' OR o.unwind), true) AS late
            FROM order_intent o WHERE o.position_id = p.id
        ) AS asked
        WHERE p.exit_cause IS NOT NULL AND NOT asked.known AND NOT (asked.late AND p.exit_cause = 'late_fill')";
    each(tx, sql, "look for exits that nobody asked for", faults, strayed_column).await
}

/// What closed positions realised, against what their fills earned: the cost of all that was bought, and the proceeds.
pub(super) async fn earned(
    tx: &Transaction<'_>,
    depth: Depth,
    faults: &Faults,
) -> Result<Vec<Strayed>, LedgerError> {
    if depth == Depth::Open {
        return Ok(Vec::new());
    }
    // Fills of an entry beyond what its position bought are a position of their own; then the sums say nothing.
    let sql = "SELECT p.id, 'realised' AS column_name, trim_scale(p.realised)::text AS stored,
            trim_scale(earned.rupees)::text AS planned
        FROM (
            SELECT o.position_id, sum(f.quantity) FILTER (WHERE o.class = 'entry') AS bought,
                sum(f.quantity * f.price) FILTER (WHERE o.class = 'entry') AS cost,
                sum(f.quantity) FILTER (WHERE o.class <> 'entry') AS sold,
                sum(f.quantity * f.price) FILTER (WHERE o.class <> 'entry') AS proceeds
            FROM order_intent o JOIN fill f ON f.intent_id = o.id GROUP BY o.position_id
        ) AS orders
        JOIN position p ON p.id = orders.position_id
        CROSS JOIN LATERAL (SELECT round((proceeds - coalesce(cost, p.entry_price * p.entry_quantity)) * p.point_value
            / nullif(p.lot_size, 0), 8) AS rupees) AS earned
        WHERE p.status = 'closed' AND sold = p.entry_quantity AND coalesce(bought, p.entry_quantity) = p.entry_quantity
          AND abs(p.realised - earned.rupees) > 0.01 + p.entry_quantity * p.point_value / nullif(p.lot_size, 0) / 100000000";
    each(tx, sql, "compare what was realised with the fills", faults, strayed_column).await
}

fn strayed_column(row: &Row) -> Result<Strayed, Vec<UnreadableCell>> {
    let mut cells = Cells::keyed(row, "position");
    let mut text = |column| cells.get::<Option<String>>(column).unwrap_or_else(|| NOTHING.to_owned());
    let (column, stored, planned) = (text("column_name"), text("stored"), text("planned"));
    let position = PositionId(cells.get::<Uuid>("id"));
    cells.finish(Strayed { position, column, stored, planned })
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
        "SELECT o.id, o.position_id, o.filled_quantity, o.symbol, o.exchange, o.product, o.instrument, o.class, o.cause,
            o.signal_id, o.plan, (SELECT coalesce(jsonb_agg(jsonb_build_object('quantity', f.quantity, 'price', f.price::text,
                'at', f.recorded_at) ORDER BY f.cumulative), '[]') FROM fill f WHERE f.intent_id = o.id) AS fills
         FROM order_intent o
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
            exchange: cells.get("exchange"),
            product: cells.word("product", Product::Nrml),
            instrument: cells.get("instrument"),
            class: cells.word("class", OrderClass::Entry),
            // What cannot be read of these is only no help.
            cause: cells.get::<Option<String>>("cause").and_then(|cause| cause.parse().ok()),
            signal: cells.get::<Option<Uuid>>("signal_id").map(SignalId),
            plan: cells.get::<Option<Value>>("plan").and_then(|plan| serde_json::from_value(plan).ok()),
            fills: serde_json::from_value(cells.get("fills")).unwrap_or_default(),
        };
        cells.finish(orphan)
    })
    .await
}

/// What does not fit in the audit chain since its last seal, or in all of it; and what it says of stored state, if nothing
/// is wrong with it.
pub(super) async fn audit(
    tx: &Transaction<'_>,
    depth: Depth,
    faults: &Faults,
) -> Result<(Vec<String>, Recorded), LedgerError> {
    let (broken, recorded) = match depth {
        Depth::Open => {
            let walk = seals::newest(tx, faults).await?;
            (walk.faults, walk.recorded)
        }
        Depth::Whole => {
            let report = audit::verify(tx).await.map_err(|error| faults.broken(error))?;
            faults.meter.read();
            (report.faults, report.recorded)
        }
    };
    let recorded = if broken.is_empty() { recorded } else { Recorded::default() };
    Ok((broken, recorded))
}
