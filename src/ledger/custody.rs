//! Custody: the mark on the leadership row that stored state does not add up, and what followers report of it.
//!
//! A leader sets the mark by one autocommit statement before it tells anybody; from that commit on the journal takes
//! operator's orders, and stops of positions that the broker's book agrees with, from whoever leads. It stays when the
//! leader dies, and is taken off by a leader that has itself read state back and found it whole.

use std::collections::HashMap;

use ha::{Fence, Instance};
use rust_decimal::Decimal;
use serde_json::json;
use uuid::Uuid;

use super::planned::Planned;
use super::{Ledger, LedgerError};
use crate::domain::ids::PositionId;
use crate::domain::money::Price;
use crate::domain::order::Product;
use crate::domain::position::HoldingKey;

const SET: &str = "
WITH u AS (
    UPDATE leadership SET custody = $3, custody_since = CASE WHEN $3::text IS NULL THEN NULL ELSE now() END
    WHERE epoch = $1 AND holder_incarnation = $2 AND custody IS DISTINCT FROM $3 RETURNING 1
)
SELECT audit_append('custody', $4, $5) FROM u";

/// The newest word on each position's stop; sums of quantities prove the rest of the row.
const STOPS: &str = "
SELECT DISTINCT ON (p ->> 'id') (p ->> 'id')::uuid, (p ->> 'stop')::numeric
FROM audit_log a CROSS JOIN LATERAL jsonb_array_elements(a.payload::jsonb -> 'positions') AS p
WHERE a.kind = 'change' AND (p ->> 'id')::uuid = ANY ($1) ORDER BY p ->> 'id', a.seq DESC";

impl Ledger {
    /// Marks stored state as damaged: from the commit on nothing is journaled but what a custodian may order. False when
    /// it was marked so already, or another leads.
    ///
    /// # Errors
    /// Any database error; whether it is marked is then unknown, and doing it again is safe.
    pub async fn take_custody(&self, fence: &Fence, code: &str, why: &str) -> Result<bool, LedgerError> {
        self.set_custody(fence, Some(code), why).await
    }

    /// Takes the mark off: this leader has read state back and found it whole. False when there was none.
    ///
    /// # Errors
    /// As [`Ledger::take_custody`].
    pub async fn end_custody(&self, fence: &Fence) -> Result<bool, LedgerError> {
        self.set_custody(fence, None, "stored state was read back and is whole").await
    }

    async fn set_custody(&self, fence: &Fence, code: Option<&str>, why: &str) -> Result<bool, LedgerError> {
        let told = json!({ "epoch": fence.epoch().get(), "code": code, "why": why }).to_string();
        let (epoch, instance) = (fence.epoch().get(), fence.instance());
        let incarnation = instance.incarnation.as_uuid();
        let set = self
            .client()
            .await?
            .query_opt(SET, &[&epoch, &incarnation, &code, &instance.member.as_str(), &told])
            .await
            .map_err(LedgerError::during("mark whether stored state is whole"))?;
        Ok(set.is_some())
    }

    /// What a leader found in stored state, if it was not whole.
    ///
    /// # Errors
    /// Any database error.
    pub async fn custody(&self) -> Result<Option<String>, LedgerError> {
        let row = self
            .client()
            .await?
            .row("SELECT custody FROM leadership", &[])
            .await
            .map_err(LedgerError::during("read whether stored state is whole"))?;
        Ok(row.get(0))
    }

    /// Tells the leader that a follower finds stored state damaged.
    ///
    /// # Errors
    /// Any database error.
    pub async fn report_damage(
        &self,
        instance: &Instance,
        code: &str,
        sentence: &str,
    ) -> Result<(), LedgerError> {
        self.client()
            .await?
            .execute(
                "INSERT INTO damage_report (member, incarnation, code, sentence) VALUES ($1, $2, $3, $4)
                 ON CONFLICT (member) DO UPDATE SET number = nextval('damage_report_number'), incarnation = $2, code = $3,
                    sentence = $4, at = now()",
                &[&instance.member.as_str(), &instance.incarnation.as_uuid(), &code, &sentence],
            )
            .await
            .map_err(LedgerError::during("report damaged state"))?;
        Ok(())
    }

    /// The newest report's number; it rises with each.
    ///
    /// # Errors
    /// Any database error.
    pub async fn damage_reports(&self) -> Result<i64, LedgerError> {
        let row = self
            .client()
            .await?
            .row("SELECT coalesce(max(number), 0) FROM damage_report", &[])
            .await
            .map_err(LedgerError::during("look for reports of damaged state"))?;
        Ok(row.get(0))
    }

    /// Where the audit log last put each position's stop: the second witness that the row alone does not have.
    ///
    /// # Errors
    /// Any database error, a payload that is not what was written included.
    pub async fn recorded_stops(
        &self,
        positions: &[PositionId],
    ) -> Result<HashMap<PositionId, Price>, LedgerError> {
        let ids: Vec<Uuid> = positions.iter().map(|id| id.0).collect();
        let rows = self
            .client()
            .await?
            .query(STOPS, &[&ids])
            .await
            .map_err(LedgerError::during("look up stops in the audit log"))?;
        Ok(rows.iter().map(|row| (PositionId(row.get(0)), Price(row.get(1)))).collect())
    }

    /// What a custodian's sales of the last days were made at, on average, by contract: a repair books them on positions.
    ///
    /// # Errors
    /// Any database error, or [`LedgerError::Conflict`] for a contract of no known product.
    pub async fn custody_prices(&self) -> Result<HashMap<HoldingKey, Price>, LedgerError> {
        let rows = self
            .client()
            .await?
            .query(
                "SELECT o.symbol, o.exchange, o.product, round(sum(f.price * f.quantity) / sum(f.quantity), 8)
                 FROM order_intent o JOIN fill f ON f.intent_id = o.id
                 WHERE o.custody AND o.journaled_at > now() - interval '7 days' GROUP BY 1, 2, 3",
                &[],
            )
            .await
            .map_err(LedgerError::during("read a custodian's sales"))?;
        rows.iter()
            .map(|row| {
                let product: Product = row.get::<_, String>(2).parse().map_err(|error| {
                    LedgerError::Conflict { what: format!("a custodian's sale ({error})") }
                })?;
                let key = HoldingKey { symbol: row.get(0), exchange: row.get(1), product };
                Ok((key, Price(row.get::<_, Decimal>(3))))
            })
            .collect()
    }
}
