//! Starts of a member's processes: too many within minutes that did not end cleanly are a restart storm.

use serde::Serialize;
use uuid::Uuid;

use super::planned::Planned;
use super::repair::Operator;
use super::{Ledger, LedgerError};

/// What a start met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Starts {
    /// Starts of this member within the window that neither ended cleanly nor were acknowledged, this one left out.
    pub unclean: i64,
}

/// One statement, its row of the audit log included: whoever is paused in the middle of it holds nothing.
const ACKNOWLEDGE: &str = "
WITH noted AS (
    UPDATE process_start SET acknowledged_at = now(), acknowledged_by = $2
    WHERE acknowledged_at IS NULL AND stopped_at IS NULL AND ($1::text IS NULL OR member = $1) RETURNING 1
), counted AS (SELECT count(*) AS starts FROM noted)
SELECT starts, audit_append('restart_storm', $2::text,
    jsonb_build_object('member', $1::text, 'starts', starts, 'reason', $3::text)::text) FROM counted";

impl Ledger {
    /// Notes that a process of `member` has started, and counts those before it. The same id twice is one start.
    ///
    /// # Errors
    /// Any database error.
    pub async fn process_started(
        &self,
        id: Uuid,
        member: &str,
        window_s: f64,
    ) -> Result<Starts, LedgerError> {
        let row = self
            .client()
            .await?
            .query_one(
                "WITH started AS (
                    INSERT INTO process_start (id, member) VALUES ($1, $2) ON CONFLICT DO NOTHING
                 ), forgotten AS (
                    DELETE FROM process_start WHERE started_at < now() - interval '30 days'
                 )
                 SELECT count(*) FROM process_start
                 WHERE member = $2 AND id <> $1 AND stopped_at IS NULL AND acknowledged_at IS NULL
                   AND started_at > now() - make_interval(secs => $3::float8)",
                &[&id, &member, &window_s],
            )
            .await
            .map_err(LedgerError::during("note a start"))?;
        Ok(Starts { unclean: row.get(0) })
    }

    /// Notes that a process ended cleanly.
    ///
    /// # Errors
    /// Any database error.
    pub async fn process_stopped(&self, id: Uuid) -> Result<(), LedgerError> {
        self.client()
            .await?
            .execute("UPDATE process_start SET stopped_at = now() WHERE id = $1", &[&id])
            .await
            .map_err(LedgerError::during("note a stop"))?;
        Ok(())
    }

    /// Says whether an operator has acknowledged this start.
    ///
    /// # Errors
    /// Any database error.
    pub async fn start_acknowledged(&self, id: Uuid) -> Result<bool, LedgerError> {
        let row = self
            .client()
            .await?
            .query_one(
                "SELECT EXISTS (SELECT 1 FROM process_start WHERE id = $1 AND acknowledged_at IS NOT NULL)",
                &[&id],
            )
            .await
            .map_err(LedgerError::during("look for an acknowledgement"))?;
        Ok(row.get(0))
    }

    /// Acknowledges a restart storm of one member, or of all; gives how many starts that covers.
    ///
    /// # Errors
    /// Any database error.
    pub async fn acknowledge_starts(
        &self,
        member: Option<&str>,
        by: Operator<'_>,
    ) -> Result<i64, LedgerError> {
        let row = self.client().await?.row(ACKNOWLEDGE, &[&member, &by.name, &by.reason]).await;
        Ok(row.map_err(LedgerError::during("acknowledge a restart storm"))?.get(0))
    }
}
