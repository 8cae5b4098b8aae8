//! The reads that only prove the others: what an open position's own orders and fills say about it.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use deadpool_postgres::Transaction;
use rust_decimal::Decimal;
use serde_json::Value;
use tokio_postgres::Row;
use uuid::Uuid;

use super::beyond::beyond;
use super::brakes::{Lifted, lifted};
use super::charged::{ChargedRows, charged};
use super::ended::ended;
use super::entries::{ENTRY_COLUMNS, Entry, NOTHING, Strayed};
use super::movements::movements;
use super::open_orders::{OffOrder, off_orders};
use super::{Depth, Faults, each};
use crate::domain::cause::ExitCause;
use crate::domain::ids::{IntentId, PositionId, SignalId};
use crate::domain::intent::EntryPlan;
use crate::domain::money::{Price, Quantity, Rupees};
use crate::domain::order::{OrderClass, Product};
use crate::ledger::account_day::StoredDays;
use crate::ledger::cash::CashRow;
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
    /// What all of them were charged.
    pub charges: Rupees,
}

impl PositionFills {
    /// Counts an order of the position in, with one of its fills if it has any, and what that was charged. Stored figures may be
    /// anything: what is too large to be counted is a sum that nothing else agrees with.
    pub fn add(&mut self, class: OrderClass, fill: Option<(i64, Price)>, charges: Option<Rupees>) {
        let is_entry = class == OrderClass::Entry;
        self.entered |= is_entry;
        let Some((quantity, price)) = fill else { return };
        let (units, value) = match is_entry {
            true => (&mut self.bought, &mut self.bought_value),
            false => (&mut self.sold, &mut self.sold_value),
        };
        *units = Quantity(units.0.saturating_add(quantity));
        *value = value.saturating_add(price.0.saturating_mul(quantity.into()));
        self.charges = Rupees(self.charges.0.saturating_add(charges.unwrap_or_default().0));
    }
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
    /// It rested at the broker, and nobody sent the position out by it.
    pub rests: bool,
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
    /// What it was charged, if that is known.
    #[serde(default)]
    pub charges: Option<Rupees>,
    /// When it was recorded.
    pub at: DateTime<Utc>,
}

/// What only proves; the fields are those of the [`Snapshot`](super::Snapshot).
pub(super) struct Proofs {
    pub orders: Orders,
    pub unasked: Vec<Strayed>,
    pub orphans: Vec<Orphan>,
    pub off_orders: Vec<OffOrder>,
    pub lifted: Vec<Lifted>,
    pub movements: Option<Vec<CashRow>>,
    pub days: StoredDays,
    pub charged: Option<ChargedRows>,
    pub audit: Vec<String>,
    pub recorded: Recorded,
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
        Box::pin(Self::read_with(tx, depth, faults, audit(tx, depth, faults))).await
    }

    /// As [`Self::read`], with what is said of the audit chain.
    pub async fn read_with(
        tx: &Transaction<'_>,
        depth: Depth,
        faults: &Faults,
        chain: impl Future<Output = Result<(Vec<String>, Recorded), LedgerError>>,
    ) -> Result<Self, LedgerError> {
        let (orders, unasked, earned, ended, orphans, off_orders, lifted, movements, charged, audit, days) = tokio::join!(
            orders(tx, faults),
            unasked(tx, faults),
            earned(tx, depth, faults),
            ended(tx, depth, faults),
            orphans(tx, depth, faults),
            off_orders(tx, faults),
            lifted(tx, faults),
            movements(tx, depth, faults),
            charged(tx, depth, faults),
            chain,
            beyond(tx, faults),
        );
        let mut unasked = unasked?;
        unasked.extend(earned?);
        unasked.extend(ended?);
        let (audit, recorded) = audit?;
        Ok(Self {
            orders: orders?,
            unasked,
            orphans: orphans?,
            off_orders: off_orders?,
            lifted: lifted?,
            movements: movements?,
            days: days?,
            charged: charged?,
            audit,
            recorded,
        })
    }
}

/// What the orders of open positions filled, and what its entry says of each.
pub(super) async fn orders(tx: &Transaction<'_>, faults: &Faults) -> Result<Orders, LedgerError> {
    let sql = format!(
        "SELECT o.id, p.id AS position, f.quantity, f.price, f.charges, o.class, {ENTRY_COLUMNS} FROM position p
         JOIN order_intent o ON o.position_id = p.id LEFT JOIN fill f ON f.intent_id = o.id
         WHERE p.status <> 'closed'"
    );
    // Added up here: the database takes three times as long for it.
    let mut orders = Orders::default();
    each(tx, &sql, "fetch the orders of open positions", faults, |row| {
        let mut cells = Cells::keyed(row, "fill");
        let id = PositionId(cells.get("position"));
        let (quantity, price) = (cells.get::<Option<i64>>("quantity"), cells.get::<Option<Price>>("price"));
        let charges: Option<Rupees> = cells.get("charges");
        let class = cells.word("class", OrderClass::Entry);
        cells.finish(())?;
        orders.fills.entry(id).or_default().add(class, quantity.zip(price), charges);
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

/// Positions on their way out that nobody sent out, which the engine would close; and causes of exits that no order has. A late
/// fill of any order of its entry sends a position out, before an exit is journaled.
pub(super) async fn unasked(tx: &Transaction<'_>, faults: &Faults) -> Result<Vec<Strayed>, LedgerError> {
    // Of thousands of positions few are on their way out, or ever were: they are picked once.
    let sql = "WITH p AS MATERIALIZED (
            SELECT id, status, exit_cause FROM position
            WHERE status <> 'closed' AND (status = 'closing' OR exit_cause IS NOT NULL)
        )
        SELECT p.id, 'status' AS column_name, 'closing' AS stored, 'open: no order ever asked for an exit' AS planned FROM p
        WHERE p.status = 'closing'
          AND EXISTS (SELECT 1 FROM order_intent e WHERE e.position_id = p.id AND e.class = 'entry')
          AND NOT EXISTS (SELECT 1 FROM order_intent e WHERE e.position_id = p.id AND e.class = 'entry' AND e.unwind)
          AND NOT EXISTS (SELECT 1 FROM order_intent o WHERE o.position_id = p.id AND o.class <> 'entry'
                            AND o.price_type NOT IN ('SL', 'SL-M'))
        UNION ALL SELECT p.id, 'exit_cause', p.exit_cause, coalesce(asked.newest, 'nothing') FROM p
        CROSS JOIN LATERAL (
            SELECT (array_agg(o.cause ORDER BY o.journaled_at DESC) FILTER (WHERE o.cause IS NOT NULL))[1] AS newest,
                coalesce(bool_or(o.cause = p.exit_cause), false) AS known,
                coalesce(bool_or(o.unwind) FILTER (WHERE o.class = 'entry'), true) AS late
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
    // Of a closed position no fill is read otherwise.
    each(
        tx,
        "SELECT intent_id, price FROM fill WHERE price = 'NaN'",
        "look for prices of fills",
        faults,
        |row| {
            let mut cells = Cells::keyed(row, "fill");
            let price: Price = cells.get("price");
            cells.finish(price)
        },
    )
    .await?;
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

pub(super) fn strayed_column(row: &Row) -> Result<Strayed, Vec<UnreadableCell>> {
    let mut cells = Cells::keyed(row, "position");
    let mut text = |column| cells.get::<Option<String>>(column).unwrap_or_else(|| NOTHING.to_owned());
    let (column, stored, planned) = (text("column_name"), text("stored"), text("planned"));
    let position = PositionId(cells.get::<Uuid>("id"));
    cells.finish(Strayed { position, column, stored, planned })
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
        "SELECT o.id, o.position_id, o.filled_quantity, o.symbol, o.exchange, o.product, o.instrument, o.class, o.cause,
            o.price_type IN ('SL', 'SL-M') AS rests,
            o.signal_id, o.plan, (SELECT coalesce(jsonb_agg(jsonb_build_object('quantity', f.quantity, 'price', f.price::text,
                'charges', f.charges::text, 'at', f.recorded_at) ORDER BY f.cumulative), '[]') FROM fill f WHERE f.intent_id = o.id) AS fills
         FROM order_intent o
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
            exchange: cells.get("exchange"),
            product: cells.word("product", Product::Nrml),
            instrument: cells.get("instrument"),
            class: cells.word("class", OrderClass::Entry),
            rests: cells.get("rests"),
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
    Ok(believed(broken, recorded))
}

/// A chain that something is wrong with says nothing.
pub(super) fn believed(broken: Vec<String>, recorded: Recorded) -> (Vec<String>, Recorded) {
    let recorded = if broken.is_empty() { recorded } else { Recorded::default() };
    (broken, recorded)
}
