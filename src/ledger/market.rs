//! What the bridge said of a day's market and contracts, for when it cannot be asked. No state of trading: whoever read
//! it writes it, and the last word stands.

use chrono::{Days, NaiveDate};
use rust_decimal::Decimal;
use tokio_postgres::types::Json;

use super::{Ledger, LedgerError};
use crate::domain::contract::Contract;
use crate::domain::listing::Listing;
use crate::domain::money::{Price, Quantity};
use crate::domain::sessions::{Calendar, Holiday, Session};

/// Days that are kept.
const KEPT: Days = Days::new(30);

impl Ledger {
    /// Keeps a day's sessions in place of what was known of it; forgets old days.
    ///
    /// # Errors
    /// Any database error.
    pub async fn keep_market_day(&self, day: NaiveDate, sessions: &[Session]) -> Result<(), LedgerError> {
        let during = || LedgerError::during("keep a day's market hours");
        let mut client = self.client().await?;
        let tx = client.transaction().await.map_err(LedgerError::during("begin a transaction"))?;
        tx.execute(
            "INSERT INTO market_day (day) VALUES ($1) ON CONFLICT (day) DO UPDATE SET read_at = now()",
            &[&day],
        )
        .await
        .map_err(during())?;
        tx.execute("DELETE FROM market_session WHERE day = $1", &[&day]).await.map_err(during())?;
        for Session { exchange, opens, closes } in sessions {
            tx.execute(
                "INSERT INTO market_session (day, exchange, opens, closes) VALUES ($1, $2, $3, $4)
                 ON CONFLICT (day, exchange, opens) DO UPDATE SET closes = greatest(market_session.closes, EXCLUDED.closes)",
                &[&day, exchange, opens, closes],
            )
            .await
            .map_err(during())?;
        }
        let oldest = day.checked_sub_days(KEPT).unwrap_or(day);
        tx.execute("DELETE FROM market_day WHERE day < $1", &[&oldest]).await.map_err(during())?;
        tx.execute("DELETE FROM contract_day WHERE day < $1", &[&oldest]).await.map_err(during())?;
        tx.commit().await.map_err(during())
    }

    /// The sessions that the bridge told of a day; none if it never did.
    ///
    /// # Errors
    /// Any database error.
    pub async fn market_day(&self, day: NaiveDate) -> Result<Option<Calendar>, LedgerError> {
        let rows = self
            .client()
            .await?
            .query(
                "SELECT s.exchange, s.opens, s.closes FROM market_day d LEFT JOIN market_session s USING (day)
                 WHERE d.day = $1",
                &[&day],
            )
            .await
            .map_err(LedgerError::during("read a day's market hours"))?;
        let session = |row: &tokio_postgres::Row| {
            let exchange: Option<String> = row.get(0);
            exchange.map(|exchange| Session { exchange, opens: row.get(1), closes: row.get(2) })
        };
        Ok((!rows.is_empty()).then(|| Calendar::new(day, rows.iter().filter_map(session).collect())))
    }

    /// Keeps a year's holidays in place of what was known of them.
    ///
    /// # Errors
    /// Any database error.
    pub async fn keep_holidays(&self, year: i32, holidays: &[Holiday]) -> Result<(), LedgerError> {
        self.client()
            .await?
            .execute(
                "INSERT INTO market_holidays (year, holidays) VALUES ($1, $2)
                 ON CONFLICT (year) DO UPDATE SET holidays = EXCLUDED.holidays, read_at = now()",
                &[&year, &Json(holidays)],
            )
            .await
            .map_err(LedgerError::during("keep a year's holidays"))?;
        Ok(())
    }

    /// A year's holidays; none if the bridge never told them.
    ///
    /// # Errors
    /// Any database error.
    pub async fn holidays(&self, year: i32) -> Result<Option<Vec<Holiday>>, LedgerError> {
        let row = self
            .client()
            .await?
            .query_opt("SELECT holidays FROM market_holidays WHERE year = $1", &[&year])
            .await
            .map_err(LedgerError::during("read a year's holidays"))?;
        Ok(row.map(|row| row.get::<_, Json<Vec<Holiday>>>(0).0))
    }

    /// Keeps contracts as they were told on their day; none twice.
    ///
    /// # Errors
    /// Any database error.
    pub async fn keep_contracts(
        &self,
        day: NaiveDate,
        contracts: &[(Listing, Contract)],
    ) -> Result<(), LedgerError> {
        if contracts.is_empty() {
            return Ok(());
        }
        let exchanges: Vec<&str> = contracts.iter().map(|(listing, _)| listing.exchange.as_str()).collect();
        let symbols: Vec<&str> = contracts.iter().map(|(listing, _)| listing.symbol.as_str()).collect();
        let lots: Vec<i64> = contracts.iter().map(|(_, contract)| contract.lot_size.0).collect();
        let ticks: Vec<Decimal> = contracts.iter().map(|(_, contract)| contract.tick.0).collect();
        let freezes: Vec<Option<i64>> =
            contracts.iter().map(|(_, contract)| contract.freeze_qty.map(|quantity| quantity.0)).collect();
        let expiries: Vec<Option<NaiveDate>> =
            contracts.iter().map(|(_, contract)| contract.expiry).collect();
        self.client()
            .await?
            .execute(
                "INSERT INTO contract_day (day, exchange, symbol, lot_size, tick, freeze_quantity, expiry)
                 SELECT $1, * FROM unnest($2::text[], $3::text[], $4::bigint[], $5::numeric[], $6::bigint[], $7::date[])
                 ON CONFLICT (day, exchange, symbol) DO UPDATE SET lot_size = EXCLUDED.lot_size, tick = EXCLUDED.tick,
                    freeze_quantity = EXCLUDED.freeze_quantity, expiry = EXCLUDED.expiry, read_at = now()",
                &[&day, &exchanges, &symbols, &lots, &ticks, &freezes, &expiries],
            )
            .await
            .map_err(LedgerError::during("keep contracts' data"))?;
        Ok(())
    }

    /// The contracts that were told on a day.
    ///
    /// # Errors
    /// Any database error.
    pub async fn contracts(&self, day: NaiveDate) -> Result<Vec<(Listing, Contract)>, LedgerError> {
        let rows = self
            .client()
            .await?
            .query(
                "SELECT exchange, symbol, lot_size, tick, freeze_quantity, expiry FROM contract_day WHERE day = $1",
                &[&day],
            )
            .await
            .map_err(LedgerError::during("read contracts' data"))?;
        let contract = |row: &tokio_postgres::Row| {
            let listing = Listing::new(row.get::<_, String>(0), row.get::<_, String>(1));
            let contract = Contract {
                lot_size: Quantity(row.get(2)),
                tick: Price(row.get::<_, Decimal>(3)),
                freeze_qty: row.get::<_, Option<i64>>(4).map(Quantity),
                expiry: row.get(5),
            };
            (listing, contract)
        };
        Ok(rows.iter().map(contract).collect())
    }
}
