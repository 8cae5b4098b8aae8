//! Closed positions against the orders that closed them: why, and when.
//!
//! The first order that was sent to close one gave its cause to the row, in the statement that journaled it; a stop that rested at the
//! broker and sold is one of its own, where it is the stronger. Closed is what its last sale closed, which is recorded by the same
//! transaction. An older version took that time from its own clock.

use deadpool_postgres::Transaction;

use super::entries::Strayed;
use super::{Depth, Faults};
use crate::ledger::LedgerError;

/// The causes from the weakest to the strongest, as `ExitCause` has them.
const CAUSES: &str = "ARRAY['late_fill', 'signal', 'expiry', 'square_off', 'take_profit', 'stop_loss', 'shutdown', 'operator']";

/// How far an older version's clock may have been from the database's: one that is further is told as a failed check all day.
const APART: &str = "interval '5 minutes'";

/// What is off: of a takeover for what was sent in the last two days.
pub(super) async fn ended(
    tx: &Transaction<'_>,
    depth: Depth,
    faults: &Faults,
) -> Result<Vec<Strayed>, LedgerError> {
    // As an array they are looked up one by one, however many positions were ever closed.
    let since = match depth {
        Depth::Open => {
            "AND p.id = ANY (ARRAY(SELECT o.position_id FROM order_intent o
                WHERE o.journaled_at > now() - interval '2 days' AND o.class <> 'entry'))"
        }
        Depth::Whole => "",
    };
    let sql = format!(
        "WITH shut AS MATERIALIZED (
            SELECT p.id, p.exit_cause, p.closed_at, {CAUSES} AS causes FROM position p WHERE p.status = 'closed' {since}
        ), p AS MATERIALIZED (
            SELECT shut.*, orders.* FROM shut CROSS JOIN LATERAL (
                SELECT (array_agg(o.cause ORDER BY o.journaled_at, o.attempt) FILTER (WHERE o.cause IS NOT NULL
                        AND o.class <> 'entry' AND o.price_type NOT IN ('SL', 'SL-M')))[1] AS sent,
                    max(array_position(shut.causes, o.cause)) FILTER (WHERE o.filled_quantity > 0
                        AND o.price_type IN ('SL', 'SL-M')) AS rested,
                    coalesce(bool_or(o.unwind) FILTER (WHERE o.class = 'entry'), true) AS late,
                    max((SELECT max(f.recorded_at) FROM fill f WHERE f.intent_id = o.id)) FILTER (WHERE o.class <> 'entry') AS sold_at
                FROM order_intent o WHERE o.position_id = shut.id
            ) orders
        )
        SELECT id, 'exit_cause' AS column_name, exit_cause AS stored, told.cause AS planned
        FROM p CROSS JOIN LATERAL (SELECT causes[greatest(array_position(causes, sent), rested)] AS cause) told
        WHERE exit_cause IS DISTINCT FROM told.cause AND NOT (late AND coalesce(exit_cause, '') = 'late_fill')
        UNION ALL SELECT id, 'closed_at', closed_at::text, sold_at::text FROM p
        WHERE closed_at NOT BETWEEN sold_at - {APART} AND sold_at + {APART}"
    );
    super::each(
        tx,
        &sql,
        "compare closed positions with what closed them",
        faults,
        super::proofs::strayed_column,
    )
    .await
}
