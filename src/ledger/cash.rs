//! Deposits and withdrawals: rows that are only ever added, whose sum is the capital.
//!
//! A movement is booked with the aggregates that follow from it and with the day's opening, in one state change of the
//! leader's ([`super::change`]); its row's key is given by whoever asks, so that asking again finds it there.

use chrono::{DateTime, NaiveDate, Utc};
use deadpool_postgres::Transaction;
use ha::Fence;
use rust_decimal::Decimal;
use serde::Serialize;
use serde_json::{Value, json};
use tokio_postgres::Row;
use uuid::Uuid;

use super::planned::Planned;
use super::{Ledger, LedgerError};
use crate::domain::cash::Movement;
use crate::domain::ids::MovementId;
use crate::domain::money::Rupees;

/// A movement that is to be booked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CashWrite {
    /// What moves.
    pub movement: Movement,
    /// Who asked for it.
    pub who: String,
    /// Why.
    pub why: String,
    /// The account's day, whose opening moves with it if it was opened.
    pub day: Option<NaiveDate>,
}

/// A movement that was booked.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct CashRow {
    /// Its id.
    pub id: Uuid,
    /// `opening`, `deposit` or `withdrawal`.
    pub kind: String,
    /// Rupees; below zero for a withdrawal.
    pub amount: Decimal,
    /// Who asked for it.
    pub who: String,
    /// Why.
    pub why: String,
    /// When it was booked.
    pub at: DateTime<Utc>,
}

impl CashRow {
    /// It is what this movement would be.
    pub fn is(&self, movement: &Movement) -> bool {
        self.kind == movement.kind.as_str() && self.amount == movement.amount.0
    }
}

/// What the account was opened with and what it has now, in rupees.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Cash {
    /// The capital that it was opened with.
    pub opening: Decimal,
    /// The opening, and all that was paid in since, less what was taken out.
    pub capital: Decimal,
    /// The capital and what was realised.
    pub closed_equity: Decimal,
}

impl Cash {
    /// Says that the configuration has another capital than the account was opened with: only an account's first leader reads it.
    pub fn opened_otherwise(&self, configured: Rupees) -> Option<String> {
        let opening = self.opening.normalize();
        (opening != configured.0).then(|| {
            format!(
                "trading.capital is {}, and the account was opened with {opening}: the setting is not read any more; book what was \
                 paid in or out with `baton cash deposit` or `withdraw`",
                configured.0.normalize()
            )
        })
    }
}

/// The day was opened with what the account was worth before.
pub(super) const CASH: &str = "
WITH d AS (UPDATE trading_day SET opening_equity = opening_equity + $3 WHERE day = $7)
INSERT INTO cash_movement (id, kind, amount, epoch, who, why) VALUES ($1, $2, $3, $4, $5, $6)";

const ROWS: &str = "SELECT id, kind, amount, who, why, at FROM cash_movement";

pub(super) async fn write_cash(
    tx: &Transaction<'_>,
    cash: &CashWrite,
    fence: &Fence,
) -> Result<(), LedgerError> {
    let CashWrite { movement: Movement { id, kind, amount }, who, why, day } = cash;
    tx.run(CASH, &[&id.0, &kind.as_str(), &amount.0, &fence.epoch().get(), who, why, day])
        .await
        .map_err(LedgerError::during("book a deposit or withdrawal"))?;
    Ok(())
}

/// A movement, as the audit log tells it.
pub(super) fn told(cash: &CashWrite) -> Value {
    let CashWrite { movement: Movement { id, kind, amount }, who, why, .. } = cash;
    json!({ "id": id, "kind": kind, "amount": amount, "who": who, "why": why })
}

fn row(row: &Row) -> CashRow {
    CashRow {
        id: row.get(0),
        kind: row.get(1),
        amount: row.get(2),
        who: row.get(3),
        why: row.get(4),
        at: row.get(5),
    }
}

impl Ledger {
    /// Reads one movement, if it was booked.
    ///
    /// # Errors
    /// Any database error.
    pub async fn cash_movement(&self, id: MovementId) -> Result<Option<CashRow>, LedgerError> {
        let sql = format!("{ROWS} WHERE id = $1");
        let found = self.client().await?.query_opt(&sql, &[&id.0]).await;
        Ok(found.map_err(LedgerError::during("look for a deposit or withdrawal"))?.as_ref().map(row))
    }

    /// Lists movements, the newest first.
    ///
    /// # Errors
    /// Any database error.
    pub async fn cash_movements(&self, limit: i64) -> Result<Vec<CashRow>, LedgerError> {
        let sql = format!("{ROWS} ORDER BY at DESC, id DESC LIMIT $1");
        let rows = self.client().await?.query(&sql, &[&limit]).await;
        Ok(rows.map_err(LedgerError::during("list deposits and withdrawals"))?.iter().map(row).collect())
    }

    /// Reads what the account was opened with and has now; none before the first leadership.
    ///
    /// # Errors
    /// Any database error.
    pub async fn cash(&self) -> Result<Option<Cash>, LedgerError> {
        let sql = "SELECT (SELECT amount FROM cash_movement WHERE kind = 'opening'), capital, closed_equity
            FROM portfolio_state";
        let row = self.client().await?.query_opt(sql, &[]).await;
        let row = row.map_err(LedgerError::during("read the account's cash"))?;
        Ok(row.and_then(|row| {
            let opening: Option<Decimal> = row.get(0);
            opening.map(|opening| Cash { opening, capital: row.get(1), closed_equity: row.get(2) })
        }))
    }
}
