//! Switches set, shown and expired: each by one autocommit statement, on any instance that reaches the database.
//!
//! A setter that was paused inside a transaction would hold the leadership row and with it every journal, heartbeat
//! and candidate; one statement cannot be. The history is written by the same statement, so it never lies.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use ha::Epoch;
use serde::{Deserialize, Serialize};

use super::planned::Planned;
use super::release::{Seen, SetError, Setting, as_seen};
use super::{Ledger, LedgerError, instrument_switches};
use crate::domain::order::{UnknownName, named};

/// A switch by its name in the API and the history.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Switch {
    /// No entries, no exits of signals. Off ends every halt.
    Halted,
    /// A halt of protective stops, too. Off leaves the halt.
    HaltAll,
    /// No entries.
    ReduceOnly,
    /// No automatic failover.
    Paused,
}
named!(Switch { Halted = "halted", HaltAll = "halt_all", ReduceOnly = "reduce_only", Paused = "paused" });

/// A switch to be set.
#[derive(Clone, Debug)]
pub struct SwitchChange {
    /// Which.
    pub switch: Switch,
    /// On or off.
    pub on: bool,
    /// Who sets it.
    pub who: String,
    /// Why.
    pub why: String,
    /// When it ends by itself; none = when somebody ends it.
    pub until: Option<DateTime<Utc>>,
    /// What its author saw; compared when it switches off, never when it switches on.
    pub seen: Seen,
}

impl SwitchChange {
    /// What has to be so still; nothing of what switches on.
    pub(super) fn must_hold(&self) -> Seen {
        if self.on { Seen::default() } else { self.seen }
    }
}

/// A switch as people read it.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct SwitchView {
    /// The instrument that it is of; none for the cluster's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instrument: Option<String>,
    /// Which.
    pub switch: Switch,
    /// In force or not.
    pub on: bool,
    /// When it ends by itself.
    pub until: Option<DateTime<Utc>>,
    /// Who set it to what it is.
    pub who: Option<String>,
    /// Why.
    pub why: Option<String>,
    /// When.
    pub since: Option<DateTime<Utc>>,
    /// The newest change that switching it off would undo, for [`Seen::change`]: a halt of everything ends with the halt.
    pub change: i64,
}

/// The change that set the switch `$1`, if it is on: what switching it off undoes, so that of a halt of everything counts for the halt.
pub(super) const SET_BY: &str = "
SELECT id, who, why, at FROM (
    SELECT DISTINCT ON (switch) * FROM switch_history
    WHERE switch = $1::text OR ($1 = 'halted' AND switch = 'halt_all') ORDER BY switch, id DESC
) newest WHERE value ORDER BY id DESC LIMIT 1";

/// What an operator sets may set another switch, too: a halt of everything is a halt, and without a halt there is none of
/// everything. Neither shortens the other: a halt ends no sooner than it would by itself, nor than that of everything.
/// Each switch that changed has its row in the history, of the moment when it could be set: whoever looked before has not seen it.
///
/// `claim` is a statement over the locked row `o` that has to give a row, or nothing is set.
pub(super) fn setting(claim: &str) -> String {
    format!(
        "WITH o AS (
    SELECT halted, halt_all, coalesce(halted_until, 'infinity') AS ends, coalesce(halt_all_until, 'infinity') AS all_ends,
        coalesce($5::timestamptz, 'infinity') AS wanted, epoch AS in_force, xmin AS version
    FROM leadership WHERE id = 1 FOR UPDATE
), claimed AS (
    {claim}
), u AS (
    UPDATE leadership l SET
        halted = CASE $1::text WHEN 'halted' THEN $2::boolean WHEN 'halt_all' THEN $2 OR o.halted ELSE o.halted END,
        halt_all = CASE $1 WHEN 'halt_all' THEN $2 WHEN 'halted' THEN $2 AND o.halt_all ELSE o.halt_all END,
        halted_until = CASE
            WHEN $1 = 'halted' AND $2 AND o.halt_all THEN nullif(greatest(o.all_ends, o.wanted), 'infinity')
            WHEN $1 = 'halt_all' AND $2 AND o.halted THEN nullif(greatest(o.ends, o.wanted), 'infinity')
            WHEN $1 = 'halted' OR ($1 = 'halt_all' AND $2) THEN $5 ELSE l.halted_until END,
        halt_all_until = CASE
            WHEN $1 = 'halt_all' THEN $5 WHEN $1 = 'halted' AND NOT $2 THEN NULL ELSE l.halt_all_until END,
        reduce_only = CASE $1 WHEN 'reduce_only' THEN $2 ELSE l.reduce_only END,
        reduce_only_until = CASE $1 WHEN 'reduce_only' THEN $5 ELSE l.reduce_only_until END,
        paused = CASE $1 WHEN 'paused' THEN $2 ELSE l.paused END,
        paused_until = CASE $1 WHEN 'paused' THEN $5 ELSE l.paused_until END
    FROM o, claimed WHERE l.id = 1
    RETURNING l.halted, l.halt_all, l.halted_until, l.halt_all_until, o.halted AS was_halted, o.halt_all AS was_all,
        clock_timestamp() AS at
), h AS (
    SELECT 'halted' AS switch, halted AS value, halted_until AS until, at FROM u WHERE halted <> was_halted OR $1 = 'halted'
    UNION ALL
    SELECT 'halt_all', halt_all, halt_all_until, at FROM u WHERE halt_all <> was_all OR $1 = 'halt_all'
    UNION ALL
    SELECT $1, $2, $5, at FROM u WHERE $1 NOT IN ('halted', 'halt_all')
)
INSERT INTO switch_history (switch, value, who, why, until, at)
SELECT switch, value, $3, $4, until, at FROM h"
    )
}

const DUE: &str = "
SELECT halt_all_until <= now() IS TRUE, halted_until <= now() IS TRUE, reduce_only_until <= now() IS TRUE,
    paused_until <= now() IS TRUE
FROM leadership
WHERE halt_all_until <= now() OR halted_until <= now() OR reduce_only_until <= now() OR paused_until <= now()";

/// What the end of each switch sets, in the order of [`DUE`]. A halt takes that of everything along: a version that knew
/// no end of its own for it meant one for both.
const ENDS: [(Switch, &str); 4] = [
    (Switch::HaltAll, "halt_all = false, halt_all_until = NULL"),
    (Switch::Halted, "halted = false, halted_until = NULL, halt_all = false, halt_all_until = NULL"),
    (Switch::ReduceOnly, "reduce_only = false, reduce_only_until = NULL"),
    (Switch::Paused, "paused = false, paused_until = NULL"),
];

impl Ledger {
    /// Sets a switch; it holds when this returns.
    ///
    /// # Errors
    /// Something moved since the author of a release looked. Any database error; a lost connection leaves it unknown, and
    /// setting it again is safe.
    pub async fn set_switch(&self, change: &SwitchChange) -> Result<(), SetError> {
        let until = change.until.filter(|_| change.on);
        let (switch, seen) = (change.switch.as_str(), change.must_hold());
        let epoch = seen.epoch.map(Epoch::get);
        let statement = setting(&format!("SELECT 1 FROM o WHERE {}", as_seen(SET_BY, "$6", "$7")));
        let setting = Setting {
            brake: switch.to_owned(),
            operation: "set a switch",
            statement: &statement,
            values: &[&switch, &change.on, &change.who, &change.why, &until, &epoch, &seen.change],
            names: 1,
            set_by: SET_BY,
            seen,
        };
        let set = setting.run(&self.client().await?).await?;
        if set { Ok(()) } else { Err(SetError::Restless(switch.to_owned())) }
    }

    /// Reads every switch with who set it: the cluster's, and those of instruments that are on.
    ///
    /// # Errors
    /// Any database error.
    pub async fn switch_views(&self) -> Result<Vec<SwitchView>, LedgerError> {
        let row = self
            .client()
            .await?
            .row(
                &format!("SELECT halted, halt_all, reduce_only, paused, halted_until, halt_all_until, reduce_only_until,
                    paused_until,
                    (SELECT coalesce(json_object_agg(h.switch, json_build_object('id', h.id, 'who', h.who, 'why', h.why, 'at', h.at)), '{{}}')
                     FROM (SELECT DISTINCT ON (switch) * FROM switch_history ORDER BY switch, id DESC) h),
                    {}
                 FROM leadership", instrument_switches::ON),
                &[],
            )
            .await
            .map_err(LedgerError::during("read the switches"))?;
        let history: serde_json::Value = row.get(8);
        let view = |switch: Switch, on: bool, until: Option<DateTime<Utc>>| {
            let last = &history[switch.as_str()];
            let text = |name: &str| last[name].as_str().map(str::to_owned);
            let since = last["at"].as_str().and_then(|at| at.parse().ok());
            let until = until.filter(|_| on);
            let ends: &[Switch] =
                if switch == Switch::Halted { &[switch, Switch::HaltAll] } else { &[switch] };
            let changes = ends.iter().filter_map(|ended| history[ended.as_str()]["id"].as_i64());
            let change = changes.max().unwrap_or(0);
            SwitchView {
                instrument: None,
                switch,
                on,
                until,
                who: text("who"),
                why: text("why"),
                since,
                change,
            }
        };
        let mut views = vec![
            view(Switch::Halted, row.get(0), row.get(4)),
            view(Switch::HaltAll, row.get(1), row.get(5)),
            view(Switch::ReduceOnly, row.get(2), row.get(6)),
            view(Switch::Paused, row.get(3), row.get(7)),
        ];
        views.extend(instrument_switches::views(&row.get(9)));
        Ok(views)
    }

    /// Ends the switches whose time is over; returns them. Any instance may do it, and several at once: whether a
    /// switch is due is decided on the row that is locked, so one that was just set anew stays.
    ///
    /// # Errors
    /// Any database error.
    pub async fn expire_switches(&self) -> Result<Vec<Switch>, LedgerError> {
        let client = self.client().await?;
        let during = || LedgerError::during("end expired switches");
        let Some(due) = client.maybe_row(DUE, &[]).await.map_err(during())? else { return Ok(Vec::new()) };
        let mut ended = Vec::new();
        for (place, (switch, set)) in ENDS.into_iter().enumerate() {
            if !due.get::<_, bool>(place) {
                continue;
            }
            let statement = format!(
                "WITH o AS (SELECT halt_all FROM leadership WHERE {switch}_until <= now() FOR UPDATE),
                    u AS (UPDATE leadership l SET {set} FROM o WHERE l.{switch}_until <= now() RETURNING o.halt_all)
                 INSERT INTO switch_history (switch, value, who, why)
                 SELECT ended, false, 'baton', 'its time was over' FROM u, unnest(ARRAY[$1::text, 'halt_all']) AS ended
                 WHERE ended = $1 OR ($1 = 'halted' AND u.halt_all)
                 GROUP BY ended"
            );
            if client.execute(&statement, &[&switch.as_str()]).await.map_err(during())? > 0 {
                ended.push(switch);
            }
        }
        Ok(ended)
    }
}
