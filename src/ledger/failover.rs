//! After PostgreSQL failed over: reduce-only, until every order of the day is proven to match an intent.
//!
//! The promotion sets the switch and writes down why (`ha`). What the old server had committed last may be lost, and
//! with it intents of orders that exist. The switch is lifted here when the broker's books show no such order; an
//! operator who sets the switch, before or after, keeps it.

use std::collections::BTreeSet;

use tokio_postgres::Transaction;

use super::{Ledger, LedgerError};
use chrono::{DateTime, Utc};
use ha::Fence;

/// Since when reduce-only is in force because of a failover alone: the newest row says so, and the newest row that does
/// not speak of a failover did not set it.
const SINCE: &str = "
WITH h AS (
    SELECT id, value, at, why LIKE 'PostgreSQL failed over%' AS failover FROM switch_history WHERE switch = 'reduce_only'
), other AS (SELECT id, value FROM h WHERE NOT failover ORDER BY id DESC LIMIT 1)
SELECT min(h.at) FROM h, leadership l
 WHERE l.reduce_only AND h.failover AND h.id > coalesce((SELECT id FROM other), 0)
   AND NOT coalesce((SELECT value FROM other), false)
   AND (SELECT failover FROM h ORDER BY id DESC LIMIT 1)";

/// A time limit that an operator gave an earlier reduce-only must not end the one of a failover unproven.
const HOLD: &str = "
UPDATE leadership SET reduce_only_until = NULL
 WHERE id = 1 AND epoch = $1 AND reduce_only AND reduce_only_until IS NOT NULL
   AND (SELECT value AND why LIKE 'PostgreSQL failed over%' FROM switch_history
         WHERE switch = 'reduce_only' ORDER BY id DESC LIMIT 1)";

/// Of some of the broker's open orders, those that a failover may have lost the intents of: all that were not seen before
/// it, while reduce-only has not been off since, whoever else has set it.
const PERHAPS_LOST: &str = "
WITH f AS (
    SELECT min(at) AS since FROM switch_history
     WHERE switch = 'reduce_only' AND value AND why LIKE 'PostgreSQL failed over%'
       AND id > coalesce((SELECT max(id) FROM switch_history WHERE switch = 'reduce_only' AND NOT value), 0))
SELECT id FROM unnest($1::text[]) AS id, f
 WHERE f.since IS NOT NULL AND (SELECT reduce_only FROM leadership)
   AND NOT EXISTS (
        SELECT 1 FROM broker_order_seen
        WHERE order_id = id AND first_seen_at < f.since AND trading_day = (now() AT TIME ZONE INTERVAL '05:30')::date)";

impl Ledger {
    /// Says which of the orders, by their ids at the broker, may be ones whose intents a failover lost; none once
    /// reduce-only has been off since the failover.
    ///
    /// # Errors
    /// Any database error.
    pub async fn perhaps_lost(&self, orders: &[&str]) -> Result<BTreeSet<String>, LedgerError> {
        let client = self.client().await?;
        let rows = client.query(PERHAPS_LOST, &[&orders]).await;
        let rows = rows.map_err(LedgerError::during("look for orders without intents"))?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Takes the time limit off a reduce-only that a failover has confirmed since it was set.
    ///
    /// # Errors
    /// Any database error.
    pub async fn hold_failover(&self, fence: &Fence) -> Result<(), LedgerError> {
        let client = self.client().await?;
        client
            .execute(HOLD, &[&fence.epoch().get()])
            .await
            .map_err(LedgerError::during("hold reduce-only"))?;
        Ok(())
    }

    /// Says since when trading is reduce-only because PostgreSQL failed over; none if it is not.
    ///
    /// # Errors
    /// Any database error.
    pub async fn failover_unproven(&self) -> Result<Option<DateTime<Utc>>, LedgerError> {
        let client = self.client().await?;
        let row = client.query_one(SINCE, &[]).await.map_err(LedgerError::during("look for a failover"))?;
        Ok(row.get(0))
    }

    /// Lifts the reduce-only that a failover set; false if something speaks against it: an operator set the switch, or
    /// an order that no intent explains was seen since.
    ///
    /// # Errors
    /// [`LedgerError::Fenced`] when the epoch is over, or any database error.
    pub async fn lift_failover(&self, fence: &Fence) -> Result<bool, LedgerError> {
        let mut client = self.client().await?;
        let tx = client.transaction().await.map_err(LedgerError::during("begin a transaction"))?;
        let lifted = lift(&tx, fence).await?;
        tx.commit().await.map_err(LedgerError::during("commit the end of reduce-only"))?;
        Ok(lifted)
    }
}

async fn lift(tx: &Transaction<'_>, fence: &Fence) -> Result<bool, LedgerError> {
    let during = || LedgerError::during("lift the reduce-only of a failover");
    // Whoever sets a switch waits for this lock, so what is read below it still holds at the commit.
    let (epoch, me) = (fence.epoch().get(), fence.instance().incarnation.as_uuid());
    let held = tx
        .query_opt(
            "SELECT 1 FROM leadership WHERE epoch = $1 AND holder_incarnation = $2 FOR UPDATE",
            &[&epoch, &me],
        )
        .await
        .map_err(during())?;
    if held.is_none() {
        return Err(LedgerError::Fenced(fence.epoch()));
    }
    let since: Option<DateTime<Utc>> = tx.query_one(SINCE, &[]).await.map_err(during())?.get(0);
    let Some(since) = since else { return Ok(false) };
    let strange =
        "SELECT EXISTS (SELECT 1 FROM broker_order_seen WHERE first_seen_at >= $1 AND booked_at IS NULL)";
    if tx.query_one(strange, &[&since]).await.map_err(during())?.get(0) {
        return Ok(false);
    }
    tx.execute("UPDATE leadership SET reduce_only = false, reduce_only_until = NULL WHERE id = 1", &[])
        .await
        .map_err(during())?;
    tx.execute(
        "INSERT INTO switch_history (switch, value, who, why)
         VALUES ('reduce_only', false, $1, 'every order of the day at the broker matches an intent')",
        &[&fence.instance().member.as_str()],
    )
    .await
    .map_err(during())?;
    Ok(true)
}
