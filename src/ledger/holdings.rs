//! What the ledger holds per contract, and whether anything of it is moving: one side of the comparison with the
//! broker's position book.

use chrono::{DateTime, Utc};

use super::cells::Cells;
use super::{Ledger, LedgerError};
use crate::domain::money::Quantity;
use crate::domain::order::Product;
use crate::domain::position::HoldingKey;

/// What the ledger holds of one contract.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LedgerHolding {
    /// Symbol, exchange and product.
    pub key: HoldingKey,
    /// Units that all of its positions hold together.
    pub quantity: Quantity,
    /// An order on it is under way or in doubt. A stop that rests untouched at the broker is not.
    pub busy: bool,
    /// Rises with every change of a position or an order on it.
    pub fingerprint: (i64, i64, Option<DateTime<Utc>>),
}

impl Ledger {
    /// Of the broker's order ids, those that no intent of ours has.
    ///
    /// # Errors
    /// Any database error.
    pub async fn unexplained_orders(&self, ids: &[String]) -> Result<Vec<String>, LedgerError> {
        let sql = "SELECT shown.order_id FROM unnest($1::text[]) AS shown (order_id)
            WHERE NOT EXISTS (SELECT FROM order_intent WHERE broker_order_id = shown.order_id) ORDER BY 1";
        let rows = self.client().await?.query(sql, &[&ids]).await;
        let rows = rows.map_err(LedgerError::during("look up whose orders these are"))?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Reads what is held, and every contract that was traded in the last two days, as of one instant.
    ///
    /// # Errors
    /// Any database error, or [`LedgerError::Unreadable`].
    pub async fn holdings(&self) -> Result<Vec<LedgerHolding>, LedgerError> {
        let sql = "WITH held AS (
                SELECT symbol, exchange, product, sum(quantity)::bigint AS quantity, count(*) AS positions,
                    sum(version)::bigint AS versions
                FROM position WHERE status <> 'closed' GROUP BY 1, 2, 3
            ), traded AS (
                SELECT symbol, exchange, product, max(state_at) AS last,
                    bool_or(state IN ('journaled', 'partially_filled', 'in_doubt')
                        OR (state = 'acknowledged' AND price_type NOT IN ('SL', 'SL-M'))) AS busy
                FROM order_intent
                WHERE journaled_at > now() - interval '2 days'
                   OR state IN ('journaled', 'acknowledged', 'partially_filled', 'in_doubt')
                GROUP BY 1, 2, 3
            )
            SELECT symbol, exchange, product, coalesce(quantity, 0) AS quantity, coalesce(positions, 0) AS positions,
                coalesce(versions, 0) AS versions, last, coalesce(busy, false) AS busy
            FROM held FULL JOIN traded USING (symbol, exchange, product) ORDER BY 1, 2, 3";
        let rows =
            self.client().await?.query(sql, &[]).await.map_err(LedgerError::during("add up what is held"))?;
        let mut unreadable = Vec::new();
        let mut holdings = Vec::with_capacity(rows.len());
        for row in &rows {
            let symbol: String = row.try_get(0).unwrap_or_else(|_| "?".to_owned());
            let mut cells = Cells::new(row, "position", &symbol);
            let holding = LedgerHolding {
                key: HoldingKey {
                    symbol,
                    exchange: cells.get("exchange"),
                    product: cells.word("product", Product::Nrml),
                },
                quantity: Quantity(cells.get("quantity")),
                busy: cells.get("busy"),
                fingerprint: (cells.get("positions"), cells.get("versions"), cells.get("last")),
            };
            match cells.finish(holding) {
                Ok(holding) => holdings.push(holding),
                Err(cells) => unreadable.extend(cells),
            }
        }
        if unreadable.is_empty() { Ok(holdings) } else { Err(LedgerError::Unreadable(unreadable)) }
    }
}
