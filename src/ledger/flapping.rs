//! The flap guard: leadership that keeps being lost against anybody's will means that something is wrong, and entries
//! into it only make the mess larger.
//!
//! Counted by the database's clock, in the history that every promotion writes. It decides about entries only, never
//! about who leads. What an operator has looked at, by clearing the switch, counts no more. A reduce-only that would end by
//! itself loses its end: nobody has looked when it is over.

use std::time::Duration;

use ha::Fence;

use super::{Ledger, LedgerError};

/// How many involuntary takeovers are too many.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FlapLimit {
    /// So many are still taken as they come.
    pub most: u32,
    /// Within this time.
    pub within: Duration,
}

const GUARD: &str = "
WITH n AS (
    SELECT count(*) AS seen FROM leadership_history
     WHERE reason IN ('crash', 'stale') AND started_at > greatest(
        now() - make_interval(secs => $2),
        coalesce((SELECT max(at) FROM switch_history WHERE switch = 'reduce_only' AND NOT value), '-infinity'))
), u AS (
    UPDATE leadership SET reduce_only = true, reduce_only_until = NULL FROM n
     WHERE id = 1 AND epoch = $1 AND (NOT reduce_only OR reduce_only_until IS NOT NULL) AND n.seen > $3
    RETURNING n.seen
), h AS (
    INSERT INTO switch_history (switch, value, who, why)
    SELECT 'reduce_only', true, $4, format('leadership was lost against its holder''s will %s times within %s s', u.seen, $2)
      FROM u
)
SELECT seen FROM u";

impl Ledger {
    /// Sets reduce-only if leadership flaps; gives how many involuntary takeovers made it do so.
    ///
    /// # Errors
    /// Any database error.
    pub async fn guard_flapping(&self, fence: &Fence, limit: FlapLimit) -> Result<Option<i64>, LedgerError> {
        let member = fence.instance().member.as_str();
        let (seconds, most) = (limit.within.as_secs_f64(), i64::from(limit.most));
        let row = self
            .client()
            .await?
            .query_opt(GUARD, &[&fence.epoch().get(), &seconds, &most, &member])
            .await
            .map_err(LedgerError::during("look whether leadership flaps"))?;
        Ok(row.map(|row| row.get(0)))
    }
}
