//! Open orders against whoever else knows of them: their signal, their position, their own key and day.
//!
//! What the broker was asked for (quantity, kind, prices, and of an entry the contract) is known to its order book alone, and what
//! only the ledger counts (leg, attempt, epoch, incarnation, watermark, send window) to nobody: see the RUNBOOK.
//!
//! A column is proven to be wrong, rather than what it was held against, where a third agrees with that.

use deadpool_postgres::Transaction;
use serde_json::Value;
use uuid::Uuid;

use super::{Faults, each};
use crate::domain::ids::IntentId;
use crate::ledger::LedgerError;
use crate::ledger::cells::Cells;

/// A column of an open order that is not what another says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffOrder {
    /// The order.
    pub intent: IntentId,
    /// The column.
    pub column: String,
    /// What is stored.
    pub stored: String,
    /// What the other says.
    pub told: String,
    /// What the column is to hold, where a third agrees with the other.
    pub proven: Option<Value>,
}

/// The tag is made of the strategy or class, and the id: see `OrderIntent::strategy_tag`. The id has the day in it on which it was made
/// (UUID version 7). What an exit is of its position's entry knows, too. A third is asked only where two disagree.
const SQL: &str = "SELECT o.id, w.column_name, coalesce(w.stored, 'nothing') AS stored, w.told, CASE
        WHEN w.column_name = 'strategy_tag' AND (o.class <> 'entry' OR o.plan ->> 'strategy' = s.strategy) THEN to_jsonb(w.told)
        WHEN w.column_name = 'trading_day' AND o.id::text LIKE '______________7%' AND w.told = (to_timestamp(
            ('x0000' || left(replace(o.id::text, '-', ''), 12))::bit(64)::bigint / 1000.0) AT TIME ZONE INTERVAL '05:30')::date::text
            THEN to_jsonb(w.told)
        WHEN w.column_name = 'signal_id' THEN (SELECT to_jsonb(n.id) FROM signal n
            WHERE n.seq = CASE WHEN o.plan ->> 'signal_seq' ~ '^[0-9]{1,18}$' THEN (o.plan ->> 'signal_seq')::bigint END
              AND (n.instrument, n.strategy, n.decision ->> 'stop') = (o.instrument, o.plan ->> 'strategy', o.plan ->> 'stop'))
        WHEN w.column_name = 'plan' AND w.told LIKE 'strategy %' AND o.strategy_tag =
            left(regexp_replace(s.strategy, '[^!-~]', '', 'g'), 63) || ':' || o.id
            THEN o.plan || jsonb_build_object('strategy', s.strategy)
        WHEN w.column_name = 'instrument' AND o.class = 'entry' AND s.payload ->> 'instrument' = s.instrument THEN to_jsonb(w.told)
        WHEN o.class <> 'entry' AND w.column_name IN ('instrument', 'symbol', 'exchange', 'product') AND EXISTS (
            SELECT FROM order_intent e WHERE e.position_id = p.id AND e.class = 'entry'
              AND w.told = to_jsonb(e) ->> w.column_name) THEN to_jsonb(w.told)
        END AS proven
    FROM order_intent o LEFT JOIN signal s ON s.id = o.signal_id LEFT JOIN position p ON p.id = o.position_id
    CROSS JOIN LATERAL (VALUES
        ('strategy_tag', o.strategy_tag,
            left(regexp_replace(coalesce(o.plan ->> 'strategy', o.class), '[^!-~]', '', 'g'), 63) || ':' || o.id),
        ('trading_day', o.trading_day::text, (o.journaled_at AT TIME ZONE INTERVAL '05:30')::date::text),
        ('signal_id', 'the signal at place ' || s.seq, 'the signal at place ' || (o.plan ->> 'signal_seq')),
        ('plan', 'strategy ' || (o.plan ->> 'strategy'), 'strategy ' || CASE WHEN o.class = 'entry' THEN s.strategy END),
        ('plan', 'stop ' || (o.plan ->> 'stop'), 'stop ' || CASE WHEN o.class = 'entry' THEN s.decision ->> 'stop' END),
        ('instrument', o.instrument, CASE WHEN o.class = 'entry' THEN s.instrument ELSE p.instrument END),
        ('symbol', o.symbol, CASE WHEN o.class <> 'entry' THEN p.symbol END),
        ('exchange', o.exchange, CASE WHEN o.class <> 'entry' THEN p.exchange END),
        ('product', o.product, CASE WHEN o.class <> 'entry' THEN p.product END)
    ) AS w (column_name, stored, told)
    WHERE o.state IN ('journaled', 'acknowledged', 'partially_filled', 'in_doubt') AND w.stored IS DISTINCT FROM w.told
      AND w.told IS NOT NULL ORDER BY o.journaled_at, o.id, w.column_name";

/// What is off in open orders.
pub(super) async fn off_orders(tx: &Transaction<'_>, faults: &Faults) -> Result<Vec<OffOrder>, LedgerError> {
    each(tx, SQL, "compare open orders with their signals and positions", faults, |row| {
        let mut cells = Cells::keyed(row, "order_intent");
        let off = OffOrder {
            intent: IntentId(cells.get::<Uuid>("id")),
            column: cells.get("column_name"),
            stored: cells.get("stored"),
            told: cells.get("told"),
            proven: cells.get("proven"),
        };
        cells.finish(off)
    })
    .await
}
