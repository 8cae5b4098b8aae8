//! Closed positions against the orders that closed them: why, and when.
//!
//! An order that was sent to close one gives its cause to the row, and so does a stop that rested at the broker and sold. Which of
//! several stands last depends on when each was booked, and on what a repair made of it: any of theirs may. Closed is what its last sale
//! closed, not before that and not in time to come: a repair that closes it again does so later.

use deadpool_postgres::Transaction;

use super::entries::Strayed;
use super::{Depth, Faults};
use crate::ledger::LedgerError;

/// How far an older version's clock, which told when a position was closed, may have been from the database's: one that is further is
/// told as a failed check all day.
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
            SELECT p.id, p.exit_cause, p.closed_at FROM position p WHERE p.status = 'closed' {since}
        ), p AS MATERIALIZED (
            SELECT shut.*, orders.* FROM shut CROSS JOIN LATERAL (
                SELECT coalesce(array_agg(DISTINCT o.cause) FILTER (WHERE o.cause IS NOT NULL AND o.class <> 'entry'
                        AND (o.price_type NOT IN ('SL', 'SL-M') OR o.filled_quantity > 0)), '{{}}') AS causes,
                    coalesce(bool_or(o.unwind) FILTER (WHERE o.class = 'entry'), true) AS late,
                    max((SELECT max(f.recorded_at) FROM fill f WHERE f.intent_id = o.id)) FILTER (WHERE o.class <> 'entry') AS sold_at
                FROM order_intent o WHERE o.position_id = shut.id
            ) orders
        )
        SELECT id, 'exit_cause' AS column_name, exit_cause AS stored, nullif(array_to_string(causes, ' or '), '') AS planned
        FROM p WHERE CASE WHEN exit_cause IS NULL THEN causes <> '{{}}' ELSE exit_cause <> ALL (causes) END
          AND NOT (late AND coalesce(exit_cause, '') = 'late_fill')
        UNION ALL SELECT id, 'closed_at', closed_at::text, sold_at::text FROM p
        WHERE closed_at < sold_at - {APART} OR closed_at > now() + {APART}"
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
