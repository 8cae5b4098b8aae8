//! What went wrong, and whether the operator is told: an occurrence and its decision in one statement.
//!
//! The upsert of a key's row serialises all instances on it, so per key and window exactly one of them decides; the
//! decision queues the notification in the same statement. Windows are measured on the database's clock.

use chrono::{DateTime, Utc};
use serde::Serialize;
use tokio_postgres::Row;
use uuid::Uuid;

use super::{Ledger, LedgerError};

/// Occurrences of one key, gathered by one instance.
#[derive(Clone, Debug, PartialEq)]
pub struct Occurrences {
    /// The kind's name.
    pub error_type: String,
    /// What it is about; may be empty.
    pub scope: String,
    /// The severity's name.
    pub severity: String,
    /// The last text.
    pub message: String,
    /// How many.
    pub count: i64,
    /// How long ago the first of them was, in seconds: ages, so that only the database's clock counts.
    pub first_age_s: f64,
    /// How long ago the last of them was, in seconds.
    pub last_age_s: f64,
    /// How long one notification lasts, in seconds.
    pub window_s: f64,
    /// How long the notification may wait for neighbours, in seconds.
    pub gather_s: f64,
    /// It holds until somebody resolves it; else it is over as soon as it is recorded.
    pub lasting: bool,
    /// Who reports it, as `member/source`.
    pub reporters: Vec<String>,
    /// While the database was away, the operator was told: so many seconds ago.
    pub told_age_s: Option<f64>,
    /// … by this instance.
    pub told_here: bool,
}

/// What became of a key's occurrences.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    /// The kind's name.
    pub error_type: String,
    /// What it is about.
    pub scope: String,
    /// They made a notification.
    pub decided: bool,
    /// How long ago the key was last notified, in seconds.
    pub told_age_s: Option<f64>,
}

/// The end of a key's trouble, as one instance sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Withdrawal {
    /// The kind's name.
    pub error_type: String,
    /// What it is about.
    pub scope: String,
    /// Who withdraws it; none means everybody.
    pub reporters: Option<Vec<String>>,
}

/// A key's row.
#[derive(Clone, Debug, Serialize)]
pub struct ErrorRow {
    /// Its number, for `acknowledge` and `resolve`.
    pub id: i64,
    /// The kind.
    pub error_type: String,
    /// What it is about.
    pub scope: String,
    /// How bad.
    pub severity: String,
    /// The last text.
    pub error_message: String,
    /// The first time ever.
    pub first_occurrence: DateTime<Utc>,
    /// The last time.
    pub last_occurrence: DateTime<Utc>,
    /// How often, ever.
    pub occurrence_count: i64,
    /// When the last notification was decided.
    pub last_notification_sent: Option<DateTime<Utc>>,
    /// How many were.
    pub notification_count: i64,
    /// Occurrences that made no message of their own.
    pub throttled_count: i64,
    /// It is over.
    pub resolved: bool,
    /// Since when.
    pub resolved_at: Option<DateTime<Utc>>,
    /// An operator has taken note: no more notifications of this episode.
    pub acknowledged_at: Option<DateTime<Utc>>,
    /// Who.
    pub acknowledged_by: Option<String>,
    /// The present, or last, episode's begin.
    pub open_since: DateTime<Utc>,
    /// … and its occurrences.
    pub open_count: i64,
    /// Who reports it.
    pub reported_by: Vec<String>,
}

/// One kind's share of the log.
#[derive(Clone, Debug, Serialize)]
pub struct ErrorSummary {
    /// The kind.
    pub error_type: String,
    /// Keys that are not over.
    pub unresolved: i64,
    /// Keys that are not over and that nobody has acknowledged.
    pub unacknowledged: i64,
    /// All keys.
    pub keys: i64,
    /// Occurrences, ever.
    pub occurrences: i64,
    /// Notifications decided, ever.
    pub notified: i64,
    /// Occurrences that made no message of their own.
    pub throttled: i64,
    /// The first of all.
    pub first_occurrence: DateTime<Utc>,
    /// The last of all.
    pub last_occurrence: DateTime<Utc>,
}

/// True in an upsert's update for a report that is older than the end of what it reports: it only counts.
const STALE: &str = "(e.resolved AND NOT EXCLUDED.resolved AND EXCLUDED.last_occurrence <= e.resolved_at)";
/// True for occurrences that begin another episode.
const REOPENS: &str = "(e.resolved AND NOT STALE)";
/// True for occurrences that make a notification. `decision` is null for what was told already.
const DUE: &str = "(EXCLUDED.decision IS NOT NULL AND NOT STALE
    AND (e.last_notification_sent IS NULL
         OR e.last_notification_sent + make_interval(secs => EXCLUDED.window_seconds) <= now())
    AND (e.acknowledged_at IS NULL OR e.resolved))";

/// Records occurrences, decides, and queues what was decided.
const RECORD: &str = "WITH asked AS MATERIALIZED (
        SELECT error_type, scope, severity, message, count, window_s, gather_s, lasting, reporters, told_here,
            now() - make_interval(secs => first_age_s) AS first_at, now() - make_interval(secs => last_age_s) AS last_at,
            now() - make_interval(secs => told_age_s) AS told_at
        FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::float8[],
            $7::float8[], $8::float8[], $9::float8[], $10::bool[], $11::text[], $12::float8[], $13::bool[])
        AS a (error_type, scope, severity, message, count, first_age_s, last_age_s, window_s, gather_s, lasting,
            reporters, told_age_s, told_here)
    ), recorded AS (
        INSERT INTO error_notifications_log AS e (error_type, scope, severity, error_message, first_occurrence,
            last_occurrence, occurrence_count, last_notification_sent, notification_count, resolved, resolved_at,
            open_since, open_count, reported_by, told, window_seconds, decision)
        SELECT error_type, scope, severity, message, first_at, last_at, count, coalesce(told_at, now()),
            CASE WHEN told_at IS NULL OR told_here THEN 1 ELSE 0 END,
            NOT lasting, CASE WHEN NOT lasting THEN last_at END, first_at, count,
            string_to_array(reporters, ','), true, window_s, CASE WHEN told_at IS NULL THEN $14::uuid END
        FROM asked ORDER BY error_type, scope
        ON CONFLICT (error_type, scope) DO UPDATE SET
            severity = EXCLUDED.severity,
            error_message = EXCLUDED.error_message,
            first_occurrence = least(e.first_occurrence, EXCLUDED.first_occurrence),
            last_occurrence = greatest(e.last_occurrence, EXCLUDED.last_occurrence),
            occurrence_count = e.occurrence_count + EXCLUDED.occurrence_count,
            open_since = CASE WHEN REOPENS THEN EXCLUDED.open_since ELSE e.open_since END,
            open_count = CASE WHEN REOPENS THEN EXCLUDED.open_count ELSE e.open_count + EXCLUDED.open_count END,
            resolved = EXCLUDED.resolved OR STALE,
            resolved_at = CASE WHEN STALE THEN e.resolved_at ELSE EXCLUDED.resolved_at END,
            reported_by = CASE
                WHEN STALE THEN '{}'
                WHEN e.resolved THEN EXCLUDED.reported_by
                ELSE ARRAY(SELECT DISTINCT unnest(EXCLUDED.reported_by || e.reported_by) ORDER BY 1) END,
            acknowledged_at = CASE WHEN REOPENS THEN NULL ELSE e.acknowledged_at END,
            acknowledged_by = CASE WHEN REOPENS THEN NULL ELSE e.acknowledged_by END,
            last_notification_sent = CASE
                WHEN DUE THEN now()
                WHEN EXCLUDED.decision IS NULL THEN greatest(e.last_notification_sent, EXCLUDED.last_notification_sent)
                ELSE e.last_notification_sent END,
            notification_count = e.notification_count + CASE
                WHEN DUE THEN 1
                WHEN EXCLUDED.decision IS NULL THEN EXCLUDED.notification_count
                ELSE 0 END,
            told = DUE OR EXCLUDED.decision IS NULL OR (e.told AND NOT REOPENS),
            owed = NOT EXCLUDED.resolved AND NOT STALE AND NOT DUE AND EXCLUDED.decision IS NOT NULL
                AND (REOPENS OR e.owed),
            window_seconds = EXCLUDED.window_seconds,
            decision = CASE WHEN DUE THEN EXCLUDED.decision ELSE e.decision END
        RETURNING error_type, scope, severity, error_message, last_occurrence, open_since, open_count,
            last_notification_sent, decision IS NOT DISTINCT FROM $14::uuid AS decided
    ), queued AS (
        INSERT INTO notification_item (error_type, scope, severity, message, occurrences, since, at, seen_by, due_at)
        SELECT r.error_type, r.scope, r.severity, r.error_message, r.open_count, r.open_since, r.last_occurrence,
            a.reporters, now() + make_interval(secs => a.gather_s)
        FROM recorded r JOIN asked a USING (error_type, scope) WHERE r.decided
    )
    SELECT error_type, scope, decided, extract(epoch FROM now() - last_notification_sent)::float8 FROM recorded";

fn record_sql() -> String {
    RECORD.replace("REOPENS", REOPENS).replace("DUE", DUE).replace("STALE", STALE)
}

/// Takes reporters away; a key that nobody who lives reports any more is over, and that is told if its begin was.
const RESOLVE: &str = "WITH asked AS MATERIALIZED (
        SELECT * FROM unnest($1::text[], $2::text[], $3::text[]) AS a (error_type, scope, reporters)
    ), locked AS MATERIALIZED (
        SELECT e.id, a.reporters FROM error_notifications_log e JOIN asked a USING (error_type, scope)
        WHERE NOT e.resolved ORDER BY e.error_type, e.scope FOR UPDATE OF e
    ), withdrawn AS (
        UPDATE error_notifications_log e SET
            reported_by = CASE WHEN l.reporters IS NULL THEN '{}' ELSE ARRAY(
                SELECT r FROM unnest(e.reported_by) r
                WHERE r <> ALL (string_to_array(l.reporters, ','))
                  AND ($4::text[] IS NULL OR split_part(r, '/', 1) = ANY ($4))) END
        FROM locked l WHERE e.id = l.id
        RETURNING e.id, e.reported_by
    )
    SELECT id FROM withdrawn WHERE cardinality(reported_by) = 0";

const CLOSE: &str = "WITH closed AS (
        UPDATE error_notifications_log SET resolved = true, resolved_at = now(), owed = false, reported_by = '{}'
        WHERE id = ANY ($1) AND NOT resolved
        RETURNING error_type, scope, severity, error_message, open_since, open_count, told
    )
    INSERT INTO notification_item (error_type, scope, severity, message, occurrences, since, at, seen_by, recovered, due_at)
    SELECT error_type, scope, severity, error_message, open_count, open_since, now(), $2, true,
        now() + make_interval(secs => $3::float8)
    FROM closed WHERE told";

/// What is owed and may be told again.
const OWED: &str = "WITH due AS (
        SELECT id FROM error_notifications_log
        WHERE owed AND acknowledged_at IS NULL
          AND last_notification_sent + make_interval(secs => window_seconds) <= now()
        ORDER BY error_type, scope FOR UPDATE SKIP LOCKED
    ), told AS (
        UPDATE error_notifications_log e SET owed = false, told = true, last_notification_sent = now(),
            notification_count = notification_count + 1
        FROM due WHERE e.id = due.id
        RETURNING e.error_type, e.scope, e.severity, e.error_message, e.open_count, e.open_since, e.last_occurrence, e.reported_by
    )
    INSERT INTO notification_item (error_type, scope, severity, message, occurrences, since, at, seen_by, due_at)
    SELECT error_type, scope, severity, error_message, open_count, open_since, last_occurrence,
        array_to_string(reported_by, ','), now() FROM told";

const SELECT: &str = "SELECT id, error_type, scope, severity, error_message, first_occurrence, last_occurrence,
    occurrence_count, last_notification_sent, notification_count, greatest(occurrence_count - notification_count, 0),
    resolved, resolved_at, acknowledged_at, acknowledged_by, open_since, open_count, reported_by
    FROM error_notifications_log";

fn row(row: &Row) -> ErrorRow {
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
    /// Records occurrences of distinct keys and decides which of them make a notification: one statement, one commit.
    ///
    /// # Errors
    /// Any database error; nothing is recorded then.
    pub async fn record_occurrences(&self, batch: &[Occurrences]) -> Result<Vec<Recorded>, LedgerError> {
        macro_rules! column {
            ($of:expr) => {
                batch.iter().map($of).collect::<Vec<_>>()
            };
        }
        let client = self.client().await?;
        let statement =
            client.prepare_cached(&record_sql()).await.map_err(LedgerError::during("record errors"))?;
        let rows = client
            .query(
                &statement,
                &[
                    &column!(|o| &o.error_type),
                    &column!(|o| &o.scope),
                    &column!(|o| &o.severity),
                    &column!(|o| &o.message),
                    &column!(|o| o.count),
                    &column!(|o| o.first_age_s),
                    &column!(|o| o.last_age_s),
                    &column!(|o| o.window_s),
                    &column!(|o| o.gather_s),
                    &column!(|o| o.lasting),
                    &column!(|o| o.reporters.join(",")),
                    &column!(|o| o.told_age_s),
                    &column!(|o| o.told_here),
                    &Uuid::now_v7(),
                ],
            )
            .await
            .map_err(LedgerError::during("record errors"))?;
        Ok(rows
            .iter()
            .map(|row| Recorded {
                error_type: row.get(0),
                scope: row.get(1),
                decided: row.get(2),
                told_age_s: row.get(3),
            })
            .collect())
    }

    /// Withdraws reports of distinct keys. What nobody of `live` (none: anybody counts as alive) reports any more is
    /// over; that makes one notification if the trouble was notified. Returns how many keys are over.
    ///
    /// # Errors
    /// Any database error; nothing is changed then.
    pub async fn withdraw(
        &self,
        batch: &[Withdrawal],
        live: Option<&[String]>,
        by: &str,
        gather_s: f64,
    ) -> Result<u64, LedgerError> {
        let during = LedgerError::during("resolve errors");
        let types: Vec<_> = batch.iter().map(|w| &w.error_type).collect();
        let scopes: Vec<_> = batch.iter().map(|w| &w.scope).collect();
        let reporters: Vec<Option<String>> =
            batch.iter().map(|w| w.reporters.as_ref().map(|reporters| reporters.join(","))).collect();
        let mut client = self.client().await?;
        let tx = client.transaction().await.map_err(&during)?;
        let over = tx.query(RESOLVE, &[&types, &scopes, &reporters, &live]).await.map_err(&during)?;
        let over: Vec<i64> = over.iter().map(|row| row.get(0)).collect();
        if !over.is_empty() {
            tx.execute(CLOSE, &[&over, &by, &gather_s]).await.map_err(&during)?;
        }
        tx.commit().await.map_err(&during)?;
        Ok(over.len() as u64)
    }

    /// Notifies of what came back within its window, once that is over. Returns how many.
    ///
    /// # Errors
    /// Any database error.
    pub async fn tell_owed(&self) -> Result<u64, LedgerError> {
        self.client().await?.execute(OWED, &[]).await.map_err(LedgerError::during("tell of owed errors"))
    }

    /// Lists errors, the newest first: all, or only those that are not over.
    ///
    /// # Errors
    /// Any database error.
    pub async fn errors(&self, unresolved_only: bool, limit: i64) -> Result<Vec<ErrorRow>, LedgerError> {
        let rows = self
            .client()
            .await?
            .query(
                &format!("{SELECT} WHERE NOT ($1 AND resolved) ORDER BY last_occurrence DESC, id LIMIT $2"),
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

    /// Notes that an operator knows of an error: it makes no more notifications until it is over. None when there is
    /// no such error, or it is over.
    ///
    /// # Errors
    /// Any database error.
    pub async fn acknowledge_error(&self, id: i64, who: &str) -> Result<Option<ErrorRow>, LedgerError> {
        let changed = self
            .client()
            .await?
            .execute(
                "UPDATE error_notifications_log SET acknowledged_at = coalesce(acknowledged_at, now()),
                    acknowledged_by = coalesce(acknowledged_by, $2), owed = false WHERE id = $1 AND NOT resolved",
                &[&id, &who],
            )
            .await
            .map_err(LedgerError::during("acknowledge an error"))?;
        if changed == 0 { Ok(None) } else { self.error_row(id).await }
    }

    /// Ends an error by the operator's word, whoever reports it. None when there is no such error, or it is over.
    ///
    /// # Errors
    /// Any database error.
    pub async fn resolve_error(&self, id: i64, who: &str) -> Result<Option<ErrorRow>, LedgerError> {
        let by = format!("operator {who}");
        let client = self.client().await?;
        let during = LedgerError::during("resolve an error");
        let open = client
            .query_opt("SELECT 1 FROM error_notifications_log WHERE id = $1 AND NOT resolved", &[&id])
            .await
            .map_err(&during)?;
        if open.is_none() {
            return Ok(None);
        }
        client.execute(CLOSE, &[&vec![id], &by, &0.0]).await.map_err(&during)?;
        drop(client);
        self.error_row(id).await
    }

    async fn error_row(&self, id: i64) -> Result<Option<ErrorRow>, LedgerError> {
        let found = self
            .client()
            .await?
            .query_opt(&format!("{SELECT} WHERE id = $1"), &[&id])
            .await
            .map_err(LedgerError::during("read an error"))?;
        Ok(found.as_ref().map(row))
    }

    /// Lists the keys that `reporter` (`member/source`) reports, as kind and scope.
    ///
    /// # Errors
    /// Any database error.
    pub async fn reported_by(&self, reporter: &str) -> Result<Vec<(String, String)>, LedgerError> {
        let rows = self
            .client()
            .await?
            .query(
                "SELECT error_type, scope FROM error_notifications_log WHERE NOT resolved AND $1 = ANY (reported_by)
                 ORDER BY error_type, scope",
                &[&reporter],
            )
            .await
            .map_err(LedgerError::during("list reported errors"))?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
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
