//! The account's day: what it began with, what was done in it, which limits were hit. Days are India's.

use chrono::{DateTime, NaiveDate, Utc};
use ha::Fence;
use rust_decimal::Decimal;
use serde::Serialize;
use tokio_postgres::Row;

use super::cells::{Cells, UnreadableCell};
use super::change::lock_leadership;
use super::{Ledger, LedgerError};
use crate::domain::limits::{Day, known_code};
use crate::domain::money::Rupees;
use crate::domain::refusal::Refusal;

/// A limit that is latched for a day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Latch {
    /// Its code, as of the version that latched it.
    pub code: String,
    /// The figures that it was hit by.
    pub sentence: String,
    /// When.
    pub at: DateTime<Utc>,
}

/// Reads a row of `limit_latch`.
fn latch(row: &Row, day: NaiveDate) -> Result<Latch, Vec<UnreadableCell>> {
    let mut cells = Cells::new(row, "limit_latch", day);
    let latch = Latch { code: cells.get("code"), sentence: cells.get("sentence"), at: cells.get("at") };
    cells.finish(latch)
}

impl Ledger {
    /// Reads what is known of a day that began at `start`; a day that nobody has opened has no opening equity. What
    /// was never sent is no order of the day, nor is an exit that was refused: tries to get out must not use up its entries. What
    /// its sales have realised is counted against the average cost of what their positions hold, and before charges.
    ///
    /// # Errors
    /// Any database error, or [`LedgerError::Unreadable`].
    pub async fn day(&self, date: NaiveDate, start: DateTime<Utc>) -> Result<Day, LedgerError> {
        let client = self.client().await?;
        let row = client
            .query_one(
                "SELECT (SELECT opening_equity FROM trading_day WHERE day = $1) AS opening_equity,
                    (SELECT count(*) FROM order_intent
                     WHERE trading_day = $1 AND state <> 'not_sent' AND (class = 'entry' OR state <> 'rejected')) AS orders,
                    (SELECT count(*) FROM position p
                     WHERE p.status = 'closed' AND p.exit_cause = 'stop_loss' AND p.closed_at >= $2
                       AND p.closed_at > coalesce((
                            SELECT max(o.closed_at) FROM position o
                            WHERE o.status = 'closed' AND coalesce(o.exit_cause, '') NOT IN ('stop_loss', 'late_fill')),
                        '-infinity')) AS stop_outs,
                    (SELECT coalesce(sum((f.price - p.entry_price) * f.quantity * p.point_value / p.lot_size), 0)
                     FROM order_intent i JOIN fill f ON f.intent_id = i.id JOIN position p ON p.id = i.position_id
                     WHERE i.trading_day = $1 AND i.side = 'SELL') AS realised,
                    (SELECT coalesce(sum(f.charges), 0) FROM order_intent i JOIN fill f ON f.intent_id = i.id
                     WHERE i.trading_day = $1) AS charges",
                &[&date, &start],
            )
            .await
            .map_err(LedgerError::during("read the account's day"))?;
        drop(client);
        let latched = self.latches(date).await?;
        let latch = |known: Latch| Refusal::new(known_code(&known.code), known.sentence);
        let count = |rows: i64| u32::try_from(rows).unwrap_or(u32::MAX);
        let mut cells = Cells::new(&row, "trading_day", date);
        let day = Day {
            date,
            opening: cells.get::<Option<Decimal>>("opening_equity").map(Rupees),
            orders: count(cells.get("orders")),
            stop_outs: count(cells.get("stop_outs")),
            realised: Rupees(cells.get("realised")).rounded(),
            charges: Rupees(cells.get("charges")),
            latched: latched.into_iter().map(latch).collect(),
        };
        cells.finish(day).map_err(LedgerError::Unreadable)
    }

    /// Lists the limits that are latched for a day, the oldest first.
    ///
    /// # Errors
    /// Any database error, or [`LedgerError::Unreadable`].
    pub async fn latches(&self, date: NaiveDate) -> Result<Vec<Latch>, LedgerError> {
        let sql = "SELECT code, sentence, at FROM limit_latch WHERE day = $1 ORDER BY at, code";
        let rows = self.client().await?.query(sql, &[&date]).await;
        let rows = rows.map_err(LedgerError::during("read latched limits"))?;
        rows.iter().map(|row| latch(row, date)).collect::<Result<_, _>>().map_err(LedgerError::Unreadable)
    }

    /// Opens a day with an equity, unless somebody has; returns what it was opened with.
    ///
    /// # Errors
    /// [`LedgerError::Fenced`], or any database error.
    pub async fn open_day(
        &self,
        fence: &Fence,
        date: NaiveDate,
        equity: Rupees,
    ) -> Result<Rupees, LedgerError> {
        let mut client = self.client().await?;
        let tx = client.transaction().await.map_err(LedgerError::during("begin a transaction"))?;
        lock_leadership(&tx, fence, true).await?;
        let during = || LedgerError::during("open the account's day");
        tx.execute(
            "INSERT INTO trading_day (day, opening_equity) VALUES ($1, $2) ON CONFLICT DO NOTHING",
            &[&date, &equity.0],
        )
        .await
        .map_err(during())?;
        let row = tx
            .query_one("SELECT opening_equity FROM trading_day WHERE day = $1", &[&date])
            .await
            .map_err(during())?;
        tx.commit().await.map_err(during())?;
        Ok(Rupees(row.get(0)))
    }

    /// Latches limits that were hit for the rest of a day.
    ///
    /// # Errors
    /// [`LedgerError::Fenced`], or any database error.
    pub async fn latch(&self, fence: &Fence, date: NaiveDate, hit: &[Refusal]) -> Result<(), LedgerError> {
        let mut client = self.client().await?;
        let tx = client.transaction().await.map_err(LedgerError::during("begin a transaction"))?;
        lock_leadership(&tx, fence, true).await?;
        for refusal in hit {
            tx.execute(
                "INSERT INTO limit_latch (day, code, sentence) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
                &[&date, &refusal.code, &refusal.sentence],
            )
            .await
            .map_err(LedgerError::during("latch a limit"))?;
        }
        tx.commit().await.map_err(LedgerError::during("latch a limit"))
    }
}
