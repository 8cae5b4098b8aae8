//! Switches for one instrument: a column of the leadership row, beside those of the cluster.
//!
//! The journal's statement reads both under the row's lock, and each forbids for itself: **the stricter wins**. A halt of an
//! instrument stops its entries and its signals' exits, reduce-only its entries; no switch of an instrument holds a protective
//! stop, a square-off or an operator's close back. Each change is one autocommit statement with its history.

use chrono::{DateTime, SecondsFormat, Utc};
use ha::Epoch;
use serde_json::Value;

use super::release::{SetError, Setting, as_seen};
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
WITH o AS (
    SELECT epoch AS in_force, xmin AS version FROM leadership WHERE id = 1 FOR UPDATE
), u AS (
    UPDATE leadership SET instruments = CASE
        WHEN $3::boolean THEN instruments || jsonb_build_object($1::text,
            coalesce(instruments -> $1, '{}') || jsonb_build_object($2::text, $6::text))
        WHEN coalesce(instruments -> $1, '{}') - $2 = '{}' THEN instruments - $1
        ELSE instruments || jsonb_build_object($1, (instruments -> $1) - $2)
    END
    FROM o WHERE id = 1 AND {as seen}
    RETURNING 1
)
INSERT INTO instrument_switch_history (instrument, switch, value, who, why, until)
SELECT $1, $2, $3, $4, $5, nullif($6, 'infinity')::timestamptz FROM u";

/// The change that set switch `$2` of instrument `$1`, if it is on.
const SET_BY: &str = "
SELECT id, who, why, at FROM (
    SELECT * FROM instrument_switch_history WHERE (instrument, switch) = ($1::text, $2::text) ORDER BY id DESC LIMIT 1
) newest WHERE value";

/// Those that are on, as an array, within a statement that reads the leadership row. Each end is the text that stands in the column:
/// a value written by hand must not make the whole answer fail.
pub(super) const ON: &str = "
(SELECT coalesce(json_agg(json_build_object(
    'instrument', i.key, 'switch', s.key, 'ends', s.value, 'id', h.id, 'who', h.who, 'why', h.why, 'at', h.at)
    ORDER BY i.key, s.key), '[]')
 FROM jsonb_each(instruments) i, jsonb_each_text(i.value) s
 LEFT JOIN LATERAL (
    SELECT id, who, why, at FROM instrument_switch_history WHERE (instrument, switch) = (i.key, s.key) ORDER BY id DESC LIMIT 1
 ) h ON true)";

/// `$1`, `$2`, `$3` instruments, switches and ends that are over. One that was just set anew has another end under the row's lock, and
/// stays.
const EXPIRE: &str = "
WITH o AS (
    SELECT instruments FROM leadership WHERE id = 1 FOR UPDATE
), known AS (
    SELECT i.key AS instrument, s.key AS switch, s.value AS ends,
        (i.key, s.key, s.value) IN (SELECT * FROM unnest($1::text[], $2::text[], $3::text[])) AS is_over
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

/// When a switch ends by itself, of what stands in the column; an error for what is no time.
fn end_of(ends: &str) -> Result<Option<DateTime<Utc>>, chrono::ParseError> {
    if ends == NEVER { Ok(None) } else { ends.parse().map(Some) }
}

/// The switches that are on as people read them, of what [`ON`] gave. One whose end cannot be read is on, and stays.
pub(super) fn views(on: &Value) -> Vec<SwitchView> {
    let view = |row: &Value| {
        let text = |name: &str| row[name].as_str().map(str::to_owned);
        let ends = row["ends"].as_str()?;
        let (until, fault) = match end_of(ends) {
            Ok(until) => (until, None),
            Err(_) => {
                (None, Some(format!("its end, {ends:?}, is no time: it stays on until somebody ends it")))
            }
        };
        let why: Vec<String> = fault.into_iter().chain(text("why")).collect();
        Some(SwitchView {
            instrument: text("instrument"),
            switch: row["switch"].as_str()?.parse().ok()?,
            on: true,
            until,
            who: text("who"),
            why: (!why.is_empty()).then(|| why.join("; ")),
            since: row["at"].as_str().and_then(|at| at.parse().ok()),
            change: row["id"].as_i64().unwrap_or(0),
        })
    };
    on.as_array().into_iter().flatten().filter_map(view).collect()
}

/// The switches of an instrument, of the column as the statement that authorises orders read it.
pub(super) fn of_instrument(column: &Value, instrument: &str) -> Switches {
    let on = |switch: Switch| column[instrument].get(switch.as_str()).is_some();
    Switches { halted: on(Switch::Halted), halt_all: false, reduce_only: on(Switch::ReduceOnly) }
}

impl Ledger {
    /// Sets a switch of one instrument, one of [`OF_INSTRUMENTS`]; it holds when this returns.
    ///
    /// # Errors
    /// Something moved since the author of a release looked. Any database error, also for another switch; a lost connection
    /// leaves it unknown, and setting it again is safe.
    pub async fn set_instrument_switch(
        &self,
        instrument: &str,
        change: &SwitchChange,
    ) -> Result<(), SetError> {
        let until = change.until.filter(|_| change.on);
        let ends = until.map_or(NEVER.to_owned(), |until| until.to_rfc3339_opts(SecondsFormat::Micros, true));
        let (switch, seen) = (change.switch.as_str(), change.must_hold());
        let epoch = seen.epoch.map(Epoch::get);
        let statement = SET.replace("{as seen}", &as_seen(SET_BY, "$7", "$8"));
        let SwitchChange { on, who, why, .. } = change;
        let brake = format!("{switch} of {instrument}");
        let setting = Setting {
            brake: brake.clone(),
            operation: "set an instrument's switch",
            statement: &statement,
            values: &[&instrument, &switch, on, who, why, &ends, &epoch, &seen.change],
            names: 2,
            set_by: SET_BY,
            seen,
        };
        let set = setting.run(&self.client().await?).await?;
        if set { Ok(()) } else { Err(SetError::Restless(brake)) }
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

    /// Ends the instruments' switches whose time is over; returns them. Any instance may do it, and several at once.
    ///
    /// # Errors
    /// Any database error.
    pub async fn expire_instrument_switches(&self) -> Result<Vec<(String, String)>, LedgerError> {
        let client = self.client().await?;
        let during = || LedgerError::during("end expired switches of instruments");
        let read = "SELECT instruments, now() FROM leadership";
        let row = client.query_one(read, &[]).await.map_err(during())?;
        let (mut instruments, mut switches, mut over) = (Vec::new(), Vec::new(), Vec::new());
        for (instrument, switch, ends) in over_at(&row.get(0), row.get(1)) {
            instruments.push(instrument);
            switches.push(switch);
            over.push(ends);
        }
        if over.is_empty() {
            return Ok(Vec::new());
        }
        let ended = client.query(EXPIRE, &[&instruments, &switches, &over]).await.map_err(during())?;
        Ok(ended.iter().map(|row| (row.get(0), row.get(1))).collect())
    }
}

/// The instruments, switches and ends of the column that are over at `now`.
fn over_at(column: &Value, now: DateTime<Utc>) -> Vec<(String, String, String)> {
    let mut over = Vec::new();
    for (instrument, switches) in column.as_object().into_iter().flatten() {
        for (switch, ends) in switches.as_object().into_iter().flatten() {
            let ends = ends.as_str().unwrap_or_default();
            if end_of(ends).is_ok_and(|until| until.is_some_and(|until| until <= now)) {
                over.push((instrument.clone(), switch.clone(), ends.to_owned()));
            }
        }
    }
    over
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_end_that_is_no_time_is_told_and_ends_nothing() {
        let row = |ends: &str| json!({ "instrument": "A", "switch": "halted", "ends": ends, "who": "asha", "why": "odd", "at": null });
        let views = views(&json!([row("infinity"), row("2026-08-10T04:00:00.000000Z"), row("forever")]));
        let shown: Vec<_> = views.iter().map(|view| (view.on, view.until.is_some())).collect();
        assert_eq!(shown, [(true, false), (true, true), (true, false)]);
        assert_eq!(views[0].why.as_deref(), Some("odd"));
        assert!(views[2].why.as_deref().unwrap().contains("\"forever\", is no time"), "{views:?}");
        let column = json!({ "A": { "halted": "forever" }, "B": { "halted": "2026-08-10T04:00:00Z", "reduce_only": "infinity" } });
        let over = |now: &str| over_at(&column, now.parse().unwrap()).len();
        assert_eq!((over("2026-08-10T03:59:59Z"), over("2026-08-10T04:00:00Z")), (0, 1));
    }
}
