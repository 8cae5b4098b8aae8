//! The log for dashboards, operators and metrics.

use tokio_postgres::Row;

use super::super::{Ledger, LedgerError};
use super::{ErrorRow, ErrorSummary};

/// The columns of an [`ErrorRow`], in its order.
pub(super) const COLUMNS: &str = "id, error_type, scope, severity, error_message, first_occurrence, last_occurrence,
    occurrence_count, last_notification_sent, notification_count, greatest(occurrence_count - notification_count, 0),
    resolved, resolved_at, acknowledged_at, acknowledged_by, open_since, open_count, reported_by";

fn select() -> String {
    format!("SELECT {COLUMNS} FROM error_notifications_log")
}

/// A row of [`COLUMNS`]; what comes after them is not looked at.
pub(super) fn row(row: &Row) -> ErrorRow {
    ErrorRow {
        id: row.get(0),
        error_type: row.get(1),
        scope: row.get(2),
        severity: row.get(3),
        error_message: row.get(4),
        first_occurrence: row.get(5),
        last_occurrence: row.get(6),
        occurrence_count: row.get(7),
        last_notification_sent: row.get(8),
        notification_count: row.get(9),
        throttled_count: row.get(10),
        resolved: row.get(11),
        resolved_at: row.get(12),
        acknowledged_at: row.get(13),
        acknowledged_by: row.get(14),
        open_since: row.get(15),
        open_count: row.get(16),
        reported_by: row.get(17),
    }
}

impl Ledger {
    /// Lists errors, the newest first: all, or only those that are not over.
    ///
    /// # Errors
    /// Any database error.
    pub async fn errors(&self, unresolved_only: bool, limit: i64) -> Result<Vec<ErrorRow>, LedgerError> {
        let rows = self
            .client()
            .await?
            .query(
                &(select() + " WHERE NOT ($1 AND resolved) ORDER BY last_occurrence DESC, id LIMIT $2"),
                &[&unresolved_only, &limit],
            )
            .await
            .map_err(LedgerError::during("list errors"))?;
        Ok(rows.iter().map(row).collect())
    }

    /// Sums the log up by kind.
    ///
    /// # Errors
    /// Any database error.
    pub async fn error_summary(&self) -> Result<Vec<ErrorSummary>, LedgerError> {
        let rows = self
            .client()
            .await?
            .query(
                "SELECT error_type, count(*) FILTER (WHERE NOT resolved),
                    count(*) FILTER (WHERE NOT resolved AND acknowledged_at IS NULL), count(*),
                    sum(occurrence_count)::bigint, sum(notification_count)::bigint,
                    sum(greatest(occurrence_count - notification_count, 0))::bigint,
                    min(first_occurrence), max(last_occurrence)
                 FROM error_notifications_log GROUP BY error_type ORDER BY error_type",
                &[],
            )
            .await
            .map_err(LedgerError::during("sum errors up"))?;
        Ok(rows
            .iter()
            .map(|row| ErrorSummary {
                error_type: row.get(0),
                unresolved: row.get(1),
                unacknowledged: row.get(2),
                keys: row.get(3),
                occurrences: row.get(4),
                notified: row.get(5),
                throttled: row.get(6),
                first_occurrence: row.get(7),
                last_occurrence: row.get(8),
            })
            .collect())
    }

    pub(super) async fn error_row(&self, id: i64) -> Result<Option<ErrorRow>, LedgerError> {
        let found = self
            .client()
            .await?
            .query_opt(&(select() + " WHERE id = $1"), &[&id])
            .await
            .map_err(LedgerError::during("read an error"))?;
        Ok(found.as_ref().map(row))
    }

    /// Counts errors that are not over, by kind.
    ///
    /// # Errors
    /// Any database error.
    pub async fn unresolved_errors(&self) -> Result<Vec<(String, i64)>, LedgerError> {
        let rows = self
            .client()
            .await?
            .query(
                "SELECT error_type, count(*) FROM error_notifications_log WHERE NOT resolved GROUP BY 1",
                &[],
            )
            .await
            .map_err(LedgerError::during("count unresolved errors"))?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }
}
