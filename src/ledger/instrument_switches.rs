//! Switches for one instrument: a column of the leadership row, beside those of the cluster.
//!
//! The journal's statement reads both under the row's lock, and each forbids for itself: **the stricter wins**. A halt of an
//! instrument stops its entries and its signals' exits, reduce-only its entries; no switch of an instrument holds a protective
//! stop, a square-off or an operator's close back. Each change is one autocommit statement with its history.

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::Value;

use super::switches::Switches;
use super::switching::{Switch, SwitchChange, SwitchView};
use super::{Ledger, LedgerError};

/// The switches that an instrument may have.
pub const OF_INSTRUMENTS: [Switch; 2] = [Switch::Halted, Switch::ReduceOnly];

/// The end of a switch that somebody has to end.
const NEVER: &str = "infinity";

/// `$1` instrument, `$2` switch, `$3` on, `$4` who, `$5` why, `$6` its end as text. One row is read and written anew as a whole,
/// so that changes at once do not undo each other.
const SET: &str = "
WITH u AS (
    UPDATE leadership SET instruments = CASE
        WHEN $3::boolean THEN instruments || jsonb_build_object($1::text,
            coalesce(instruments -> $1, '{}') || jsonb_build_object($2::text, $6::text))
        WHEN coalesce(instruments -> $1, '{}') - $2 = '{}' THEN instruments - $1
        ELSE instruments || jsonb_build_object($1, (instruments -> $1) - $2)
    END
)
INSERT INTO instrument_switch_history (instrument, switch, value, who, why, until)
VALUES ($1, $2, $3, $4, $5, nullif($6, 'infinity')::timestamptz)";

const ON: &str = "
SELECT i.key, s.key, nullif(s.value, 'infinity')::timestamptz, h.who, h.why, h.at
FROM leadership, jsonb_each(instruments) i, jsonb_each_text(i.value) s
LEFT JOIN LATERAL (
    SELECT who, why, at FROM instrument_switch_history WHERE (instrument, switch) = (i.key, s.key) ORDER BY id DESC LIMIT 1
) h ON true
ORDER BY i.key, s.key";

/// Whether anything is due is looked at without the row's lock, and decided under it.
const DUE: &str = "
SELECT EXISTS (SELECT FROM leadership, jsonb_each(instruments) i, jsonb_each_text(i.value) s
    WHERE s.value::timestamptz <= now())";

const EXPIRE: &str = "
WITH o AS (
    SELECT instruments FROM leadership WHERE id = 1 FOR UPDATE
), known AS (
    SELECT i.key AS instrument, s.key AS switch, s.value AS ends, s.value::timestamptz <= now() AS is_over
    FROM o, jsonb_each(o.instruments) i, jsonb_each_text(i.value) s
), kept AS (
    SELECT instrument, jsonb_object_agg(switch, ends) AS switches FROM known WHERE NOT is_over GROUP BY instrument
), u AS (
    UPDATE leadership SET instruments = coalesce((SELECT jsonb_object_agg(instrument, switches) FROM kept), '{}')
    FROM o WHERE id = 1 AND EXISTS (SELECT FROM known WHERE is_over)
)
INSERT INTO instrument_switch_history (instrument, switch, value, who, why)
SELECT instrument, switch, false, 'baton', 'its time was over' FROM known WHERE is_over
RETURNING instrument, switch";

/// The switches of an instrument, of the column as the statement that authorises orders read it.
pub(super) fn of_instrument(column: &Value, instrument: &str) -> Switches {
    let on = |switch: Switch| column[instrument].get(switch.as_str()).is_some();
    Switches { halted: on(Switch::Halted), halt_all: false, reduce_only: on(Switch::ReduceOnly) }
}

impl Ledger {
    /// Sets a switch of one instrument, one of [`OF_INSTRUMENTS`]; it holds when this returns.
    ///
    /// # Errors
    /// Any database error, also for another switch; a lost connection leaves it unknown, and setting it again is safe.
    pub async fn set_instrument_switch(
        &self,
        instrument: &str,
        change: &SwitchChange,
    ) -> Result<(), LedgerError> {
        let until = change.until.filter(|_| change.on);
        let ends = until.map_or(NEVER.to_owned(), |until| until.to_rfc3339_opts(SecondsFormat::Micros, true));
        let SwitchChange { switch, on, who, why, .. } = change;
        self.client()
            .await?
            .execute(SET, &[&instrument, &switch.as_str(), on, who, why, &ends])
            .await
            .map_err(LedgerError::during("set an instrument's switch"))?;
        Ok(())
    }

    /// Reads the switches of one instrument.
    ///
    /// # Errors
    /// Any database error.
    pub async fn instrument_switches(&self, instrument: &str) -> Result<Switches, LedgerError> {
        let row = self
            .client()
            .await?
            .query_one("SELECT instruments FROM leadership", &[])
            .await
            .map_err(LedgerError::during("read an instrument's switches"))?;
        Ok(of_instrument(&row.get(0), instrument))
    }

    /// Reads the instruments' switches that are on, with who set them.
    ///
    /// # Errors
    /// Any database error.
    pub async fn instrument_switch_views(&self) -> Result<Vec<SwitchView>, LedgerError> {
        let rows = self.client().await?.query(ON, &[]).await;
        let rows = rows.map_err(LedgerError::during("read the instruments' switches"))?;
        let view = |row: &tokio_postgres::Row| {
            let switch = row.get::<_, &str>(1).parse().ok()?;
            Some(SwitchView {
                instrument: Some(row.get(0)),
                switch,
                on: true,
                until: row.get::<_, Option<DateTime<Utc>>>(2),
                who: row.get(3),
                why: row.get(4),
                since: row.get(5),
            })
        };
        Ok(rows.iter().filter_map(view).collect())
    }

    /// Ends the instruments' switches whose time is over; returns them. Any instance may do it, and several at once.
    ///
    /// # Errors
    /// Any database error.
    pub async fn expire_instrument_switches(&self) -> Result<Vec<(String, String)>, LedgerError> {
        let client = self.client().await?;
        let during = || LedgerError::during("end expired switches of instruments");
        if !client.query_one(DUE, &[]).await.map_err(during())?.get::<_, bool>(0) {
            return Ok(Vec::new());
        }
        let ended = client.query(EXPIRE, &[]).await.map_err(during())?;
        Ok(ended.iter().map(|row| (row.get(0), row.get(1))).collect())
    }
}
