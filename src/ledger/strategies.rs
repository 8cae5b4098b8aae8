//! Strategies: what operators say of them, and what became of their signals.
//!
//! What an operator says is a column of the leadership row. The journal's statement reads it under the row's lock, so no
//! entry of a disabled strategy is journaled after the commit that disables it; see [`super::journal`].

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use ha::Epoch;
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::planned::Planned;
use super::release::{Seen, SetError, Setting, as_seen};
use super::{Ledger, LedgerError};

/// A strategy to be enabled or disabled.
#[derive(Clone, Debug)]
pub struct StrategyChange {
    /// Which.
    pub strategy: String,
    /// Enabled or disabled.
    pub enabled: bool,
    /// Who says so.
    pub who: String,
    /// Why.
    pub why: String,
    /// What its author saw; compared when it enables, never when it disables.
    pub seen: Seen,
}

/// What the ledger knows of a strategy.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct StrategyRow {
    /// Its name.
    pub name: String,
    /// What an operator said of it; none if nobody did.
    #[serde(skip)]
    pub said: Option<bool>,
    /// Who said it.
    pub who: Option<String>,
    /// Why.
    pub why: Option<String>,
    /// When.
    pub since: Option<DateTime<Utc>>,
    /// The newest change, for [`Seen::change`]; 0 if nobody said anything of it.
    pub change: i64,
    /// Its signals since the day's begin, refused ones included.
    pub signals_today: i64,
    /// Its positions that are not closed.
    pub open_positions: i64,
    /// Its newest signal.
    pub last_signal: Option<LastSignal>,
}

/// A signal, in short.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct LastSignal {
    /// Its id.
    pub id: Uuid,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// The instrument.
    pub instrument: String,
    /// What became of it so far.
    pub status: String,
    /// When it was stored.
    pub received_at: DateTime<Utc>,
}

const ROWS: &str = "
WITH today AS (
    SELECT strategy, count(*) AS signals FROM signal WHERE received_at >= $2 GROUP BY strategy
), held AS (
    SELECT strategy, count(*) AS positions FROM position WHERE status <> 'closed' GROUP BY strategy
), named AS (
    SELECT unnest($1::text[]) AS name
    UNION SELECT strategy FROM today UNION SELECT strategy FROM held
    UNION SELECT jsonb_object_keys(strategies) FROM leadership
)
SELECT named.name, (SELECT (strategies ->> named.name)::boolean FROM leadership) AS said, h.who, h.why, h.at,
    coalesce(today.signals, 0), coalesce(held.positions, 0), s.id, s.type, s.instrument, s.status, s.received_at,
    coalesce(h.id, 0)
FROM named
LEFT JOIN today ON today.strategy = named.name
LEFT JOIN held ON held.strategy = named.name
LEFT JOIN LATERAL (
    SELECT id, who, why, at FROM strategy_history WHERE strategy = named.name ORDER BY id DESC LIMIT 1
) h ON true
LEFT JOIN LATERAL (
    SELECT id, type, instrument, status, received_at FROM signal WHERE strategy = named.name
    ORDER BY received_at DESC, seq DESC LIMIT 1
) s ON true
ORDER BY named.name";

/// `$1` strategy, `$2` enabled, `$3` who, `$4` why.
const SAY: &str = "
WITH o AS (
    SELECT epoch AS in_force, xmin AS version FROM leadership WHERE id = 1 FOR UPDATE
), u AS (
    UPDATE leadership SET strategies = strategies || jsonb_build_object($1::text, $2::boolean)
    FROM o WHERE id = 1 AND {as seen}
    RETURNING 1
)
INSERT INTO strategy_history (strategy, enabled, who, why) SELECT $1, $2, $3, $4 FROM u";

/// The change that disabled the strategy `$1`, if it is disabled.
const DISABLED_BY: &str = "
SELECT id, who, why, at FROM (
    SELECT * FROM strategy_history WHERE strategy = $1::text ORDER BY id DESC LIMIT 1
) newest WHERE NOT enabled";

impl Ledger {
    /// Enables or disables a strategy, with its history, in one autocommit statement; it holds when this returns.
    ///
    /// # Errors
    /// Something moved since the author of an enabling looked. Any database error; a lost connection leaves it unknown, and
    /// saying it again is safe.
    pub async fn set_strategy(&self, change: &StrategyChange) -> Result<(), SetError> {
        let StrategyChange { strategy, enabled, who, why, seen } = change;
        let seen = if *enabled { *seen } else { Seen::default() };
        let epoch = seen.epoch.map(Epoch::get);
        let statement = SAY.replace("{as seen}", &as_seen(DISABLED_BY, "$5", "$6"));
        let brake = format!("the stop of strategy {strategy}'s entries");
        let setting = Setting {
            brake: brake.clone(),
            operation: "enable or disable a strategy",
            statement: &statement,
            values: &[strategy, enabled, who, why, &epoch, &seen.change],
            names: 1,
            set_by: DISABLED_BY,
            seen,
        };
        let set = setting.run(&self.client().await?).await?;
        if set { Ok(()) } else { Err(SetError::Restless(brake)) }
    }

    /// Reads what operators said of strategies, by name.
    ///
    /// # Errors
    /// Any database error.
    pub async fn strategies_said(&self) -> Result<BTreeMap<String, bool>, LedgerError> {
        let row = self
            .client()
            .await?
            .row("SELECT strategies FROM leadership", &[])
            .await
            .map_err(LedgerError::during("read what was said of strategies"))?;
        Ok(said(&row.get(0)))
    }

    /// Since which bar a strategy has something to lose on an instrument: that of its oldest position that is not closed, or
    /// of an entry that may become one. None if it has neither.
    ///
    /// # Errors
    /// Any database error.
    pub async fn exposed_since(
        &self,
        strategy: &str,
        instrument: &str,
    ) -> Result<Option<DateTime<Utc>>, LedgerError> {
        let row = self
            .client()
            .await?
            .query_one(
                "SELECT least(
                    (SELECT min(entry_bar_time) FROM position
                     WHERE strategy = $1 AND instrument = $2 AND status <> 'closed'),
                    (SELECT min((payload ->> 'bar_time')::timestamptz) FROM signal
                     WHERE status IN ('pending', 'working') AND type IN ('BASE_ENTRY', 'PYRAMID')
                       AND strategy = $1 AND instrument = $2))",
                &[&strategy, &instrument],
            )
            .await
            .map_err(LedgerError::during("read what a strategy holds"))?;
        Ok(row.get(0))
    }

    /// Reads what is known of these strategies and of all others that have signals since `day`, positions, or a word said of
    /// them.
    ///
    /// # Errors
    /// Any database error.
    pub async fn strategy_rows(
        &self,
        names: &[String],
        day: DateTime<Utc>,
    ) -> Result<Vec<StrategyRow>, LedgerError> {
        let rows = self
            .client()
            .await?
            .query(ROWS, &[&names, &day])
            .await
            .map_err(LedgerError::during("read the strategies"))?;
        Ok(rows.iter().map(strategy_row).collect())
    }
}

fn strategy_row(row: &tokio_postgres::Row) -> StrategyRow {
    let last_signal = row.get::<_, Option<Uuid>>(7).map(|id| LastSignal {
        id,
        kind: row.get(8),
        instrument: row.get(9),
        status: row.get(10),
        received_at: row.get(11),
    });
    StrategyRow {
        name: row.get(0),
        said: row.get(1),
        who: row.get(2),
        why: row.get(3),
        since: row.get(4),
        change: row.get(12),
        signals_today: row.get(5),
        open_positions: row.get(6),
        last_signal,
    }
}

/// The column as a map; the database lets nothing but words in.
pub(super) fn said(column: &Value) -> BTreeMap<String, bool> {
    let words = column.as_object().into_iter().flatten();
    words.filter_map(|(name, on)| Some((name.clone(), on.as_bool()?))).collect()
}
