//! How errors end: taken back by those who reported them, or because nobody is left who did; and what came back before its
//! window was over. The operator's word is in `words`.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio_postgres::{Row, Transaction};

use super::super::{Ledger, LedgerError};
use super::{BREAK_AFTER, GONE_AFTER, Withdrawal};

/// True for a reporter whose member has been silent for long, while another one was there; one that never marked itself is of
/// an older version.
const GONE: &str =
    "EXISTS (SELECT 1 FROM error_reporter a, error_reporter b WHERE a.member = split_part(r, '/', 1)
    AND a.seen_at + make_interval(secs => GONE_AFTER) <= now()
    AND b.seen_at + make_interval(secs => BREAK_AFTER) > now()
    AND b.present_since + make_interval(secs => GONE_AFTER) <= now())";

/// Takes reporters away; a key that nobody who is there reports any more is over, and that is told if its begin was.
const RESOLVE: &str = "WITH asked AS MATERIALIZED (
        SELECT * FROM unnest($1::text[], $2::text[], $3::text[]) AS a (error_type, scope, reporters)
    ), locked AS MATERIALIZED (
        SELECT e.id, a.reporters FROM error_notifications_log e JOIN asked a USING (error_type, scope)
        WHERE NOT e.resolved ORDER BY e.error_type, e.scope FOR UPDATE OF e
    ), withdrawn AS (
        UPDATE error_notifications_log e SET
            reported_by = CASE WHEN l.reporters IS NULL THEN '{}' ELSE ARRAY(
                SELECT r FROM unnest(e.reported_by) r
                WHERE r <> ALL (string_to_array(l.reporters, ',')) AND NOT GONE) END
        FROM locked l WHERE e.id = l.id
        RETURNING e.id, e.reported_by
    )
    SELECT id FROM withdrawn WHERE cardinality(reported_by) = 0";

/// Keys that are reported, all of it by members that are gone.
const LEFT: &str = "SELECT e.id FROM error_notifications_log e
    WHERE NOT e.resolved AND e.error_type = ANY ($1) AND cardinality(e.reported_by) > 0
      AND NOT EXISTS (SELECT 1 FROM unnest(e.reported_by) r WHERE NOT GONE)
    ORDER BY e.error_type, e.scope FOR UPDATE OF e";

/// Ends keys, those of which a condition follows.
pub(super) const END: &str = "UPDATE error_notifications_log SET resolved = true, resolved_at = now(), owed = false, reported_by = '{}'";

/// Queues what is told of the keys in `closed`, all given as SQL: `by` ended them, `why` is added, and it may wait for
/// neighbours for `gather_s` seconds.
pub(super) fn tell_end(by: &str, gather_s: &str, why: &str) -> String {
    format!(
        "INSERT INTO notification_item
            (error_type, scope, severity, message, occurrences, since, at, seen_by, recovered, due_at)
        SELECT error_type, scope, severity, error_message || {why}, open_count, open_since, now(), {by}, true,
            now() + make_interval(secs => {gather_s})
        FROM closed WHERE told"
    )
}

/// Ends the keys of these ids.
fn close_sql() -> String {
    let tell = tell_end("$2::text", "$3::float8", "$4::text");
    format!(
        "WITH closed AS (
            {END} WHERE id = ANY ($1) AND NOT resolved
            RETURNING error_type, scope, severity, error_message, open_since, open_count, told
        ) {tell}"
    )
}

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

fn gone(sql: &str) -> String {
    sql.replace("GONE", &timed(GONE))
}

fn timed(sql: &str) -> String {
    let seconds = |time: Duration| time.as_secs().to_string();
    sql.replace("GONE_AFTER", &seconds(GONE_AFTER)).replace("BREAK_AFTER", &seconds(BREAK_AFTER))
}

/// Ends the keys whose ids these rows hold.
async fn close(
    tx: &Transaction<'_>,
    rows: &[Row],
    by: &str,
    gather_s: f64,
    why: &str,
) -> Result<u64, tokio_postgres::Error> {
    if !rows.is_empty() {
        let ids: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
        tx.execute(&close_sql(), &[&ids, &by, &gather_s, &why]).await?;
    }
    Ok(rows.len() as u64)
}

impl Ledger {
    /// Withdraws reports of distinct keys. What nobody who is there reports any more is over; that makes one notification
    /// if the trouble was notified. Returns how many keys are over.
    ///
    /// # Errors
    /// Any database error; nothing is changed then.
    pub async fn withdraw(&self, batch: &[Withdrawal], by: &str, gather_s: f64) -> Result<u64, LedgerError> {
        let during = LedgerError::during("resolve errors");
        let types: Vec<_> = batch.iter().map(|w| &w.error_type).collect();
        let scopes: Vec<_> = batch.iter().map(|w| &w.scope).collect();
        let reporters: Vec<Option<String>> =
            batch.iter().map(|w| w.reporters.as_ref().map(|reporters| reporters.join(","))).collect();
        let mut client = self.client().await?;
        let tx = client.transaction().await.map_err(&during)?;
        let over = tx.query(&gone(RESOLVE), &[&types, &scopes, &reporters]).await.map_err(&during)?;
        let over = close(&tx, &over, by, gather_s, "").await.map_err(&during)?;
        tx.commit().await.map_err(&during)?;
        Ok(over)
    }

    /// Ends what is reported, all of it by members that are gone, of these kinds, and says why. Returns how many.
    ///
    /// # Errors
    /// Any database error; nothing is changed then.
    pub async fn end_reports_of_the_gone(&self, kinds: &[&str], by: &str) -> Result<u64, LedgerError> {
        const WHY: &str =
            " (not mended, as far as anybody knows: no instance that reported it runs any more)";
        let during = LedgerError::during("end errors of instances that are gone");
        let mut client = self.client().await?;
        let tx = client.transaction().await.map_err(&during)?;
        let left = tx.query(&gone(LEFT), &[&kinds]).await.map_err(&during)?;
        let over = close(&tx, &left, by, 0.0, WHY).await.map_err(&during)?;
        tx.commit().await.map_err(&during)?;
        Ok(over)
    }

    /// Notes that a member is there; gives for how many seconds it had been silent, none for its first word.
    ///
    /// # Errors
    /// Any database error.
    pub async fn mark_reporter(&self, member: &str) -> Result<Option<f64>, LedgerError> {
        let row = self
            .client()
            .await?
            .query_one(
                &timed(
                    "WITH before AS (SELECT seen_at FROM error_reporter WHERE member = $1), marked AS (
                        INSERT INTO error_reporter AS r (member) VALUES ($1) ON CONFLICT (member) DO UPDATE SET
                            present_since = CASE WHEN r.seen_at + make_interval(secs => BREAK_AFTER) <= now() THEN now()
                                ELSE r.present_since END,
                            seen_at = now()
                     )
                     SELECT (SELECT extract(epoch FROM now() - seen_at)::float8 FROM before)",
                ),
                &[&member],
            )
            .await
            .map_err(LedgerError::during("mark a reporter"))?;
        Ok(row.get(0))
    }

    /// Lists the scopes of a kind's errors that are not over; none when another epoch leads.
    ///
    /// # Errors
    /// Any database error.
    pub async fn open_scopes(&self, kind: &str, epoch: i64) -> Result<Option<BTreeSet<String>>, LedgerError> {
        let row = self
            .client()
            .await?
            .query_opt(
                "SELECT ARRAY(SELECT scope FROM error_notifications_log WHERE error_type = $1 AND NOT resolved)
                 FROM leadership WHERE epoch = $2",
                &[&kind, &epoch],
            )
            .await
            .map_err(LedgerError::during("list a kind's errors"))?;
        Ok(row.map(|row| row.get::<_, Vec<String>>(0).into_iter().collect()))
    }

    /// Ends a kind's errors but those of the scopes in `keep`; nothing when another epoch leads. Returns how many.
    ///
    /// # Errors
    /// Any database error; nothing is changed then.
    pub async fn end_all_but(
        &self,
        kind: &str,
        keep: &[&String],
        epoch: i64,
        by: &str,
        gather_s: f64,
    ) -> Result<u64, LedgerError> {
        let during = LedgerError::during("end what holds no more");
        let mut client = self.client().await?;
        let tx = client.transaction().await.map_err(&during)?;
        let over = tx
            .query(
                "SELECT e.id FROM error_notifications_log e
                 WHERE e.error_type = $1 AND NOT e.resolved AND e.scope <> ALL ($2::text[])
                   AND EXISTS (SELECT 1 FROM leadership WHERE epoch = $3)
                 ORDER BY e.scope FOR UPDATE OF e",
                &[&kind, &keep, &epoch],
            )
            .await
            .map_err(&during)?;
        let over = close(&tx, &over, by, gather_s, "").await.map_err(&during)?;
        tx.commit().await.map_err(&during)?;
        Ok(over)
    }

    /// Notifies of what came back within its window, once that is over. Returns how many.
    ///
    /// # Errors
    /// Any database error.
    pub async fn tell_owed(&self) -> Result<u64, LedgerError> {
        self.client().await?.execute(OWED, &[]).await.map_err(LedgerError::during("tell of owed errors"))
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
}
