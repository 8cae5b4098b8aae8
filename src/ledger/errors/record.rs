//! Recording occurrences and deciding on them: one statement, one commit.

use deadpool_postgres::GenericClient;
use uuid::Uuid;

use super::super::outbox::Unsent;
use super::super::{Ledger, LedgerError};
use super::{Occurrences, Recorded};

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

impl Ledger {
    /// Records occurrences of distinct keys and decides which of them make a notification: one statement, one commit.
    ///
    /// # Errors
    /// Any database error; nothing is recorded then.
    pub async fn record_occurrences(&self, batch: &[Occurrences]) -> Result<Vec<Recorded>, LedgerError> {
        record(&*self.client().await?, batch).await
    }

    /// The same, and what could not be delivered while the database was away goes into the outbox: both or neither. A
    /// message that is there already stays as it is.
    ///
    /// # Errors
    /// Any database error; nothing is stored then, or nobody knows.
    pub async fn record_with_messages(
        &self,
        batch: &[Occurrences],
        messages: &[Unsent],
        expires_s: f64,
    ) -> Result<Vec<Recorded>, LedgerError> {
        let during = LedgerError::during("take over what was not delivered");
        let mut client = self.client().await?;
        let tx = client.transaction().await.map_err(&during)?;
        for message in messages {
            let composed = &message.composed;
            tx.execute(
                "INSERT INTO notification_outbox (id, channel, severity, types, subject, body, uncertain, expires_at)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, now() + make_interval(secs => $8::float8)) ON CONFLICT DO NOTHING",
                &[
                    &message.id,
                    &message.channel,
                    &composed.severity,
                    &composed.types,
                    &composed.subject,
                    &composed.body,
                    &message.uncertain,
                    &expires_s,
                ],
            )
            .await
            .map_err(&during)?;
        }
        let recorded = if batch.is_empty() { Vec::new() } else { record(&tx, batch).await? };
        tx.commit().await.map_err(&during)?;
        Ok(recorded)
    }
}

async fn record(client: &impl GenericClient, batch: &[Occurrences]) -> Result<Vec<Recorded>, LedgerError> {
    macro_rules! column {
        ($of:expr) => {
            batch.iter().map($of).collect::<Vec<_>>()
        };
    }
    let during = LedgerError::during("record errors");
    let statement = client.prepare_cached(&record_sql()).await.map_err(&during)?;
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
        .map_err(&during)?;
    let recorded = |row: &tokio_postgres::Row| Recorded {
        error_type: row.get(0),
        scope: row.get(1),
        decided: row.get(2),
        told_age_s: row.get(3),
    };
    Ok(rows.iter().map(recorded).collect())
}
