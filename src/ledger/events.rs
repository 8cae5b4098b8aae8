//! What happened, in one line of time: switches, strategies, states, who led and what was asked of it, notifications.
//!
//! Each event is a row of a history that is written elsewhere; here they are only read, merged and put into words. A row
//! carries the time at which its transaction began, so one that was committed late appears below others that were read
//! before it. Whoever follows therefore reads [`SETTLED`] of the past again each time, and knows by the ids what it has.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use tokio_postgres::Row;

use super::{Ledger, LedgerError};

/// No transaction that writes an event takes longer: statements end after 10 s, idle transactions sooner.
pub const SETTLED: Duration = Duration::from_secs(15);

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Event {
    /// Tells it apart from every other one.
    pub id: String,
    /// When.
    pub at: DateTime<Utc>,
    /// `switch`, `strategy`, `state`, `leadership`, `command` or `notification`.
    pub kind: String,
    /// The member that it is about, if it is about one.
    pub member: Option<String>,
    /// What happened, for people.
    pub sentence: String,
    /// The same, for scripts.
    pub detail: Value,
}

/// Where to go on: behind this event. Opaque outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct After {
    at: DateTime<Utc>,
    id: String,
}

/// From where events are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Since {
    /// The newest ones.
    Latest,
    /// From a moment on.
    Time(DateTime<Utc>),
    /// Behind an event.
    Event(After),
}

impl From<&Event> for After {
    fn from(event: &Event) -> Self {
        Self { at: event.at, id: event.id.clone() }
    }
}

impl fmt::Display for After {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{}", self.at.timestamp_micros(), self.id)
    }
}

impl FromStr for After {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (at, id) = text.split_once('-').ok_or(())?;
        let micros = i64::from_str_radix(at, 16).map_err(|_| ())?;
        let at = DateTime::from_timestamp_micros(micros).ok_or(())?;
        Ok(Self { at, id: id.to_owned() })
    }
}

/// Every event. An answer to a Telegram command is none: it may hold the code that confirms one.
const EVENTS: &str = r#"
WITH event (id, at, kind, member, sentence, detail) AS (
    SELECT 'switch-' || id, at, 'switch', NULL::text,
        format('%s is %s, by %s: %s%s', switch, CASE WHEN value THEN 'on' ELSE 'off' END, who, why,
            to_char(until AT TIME ZONE 'UTC', '" (until "YYYY-MM-DD"T"HH24:MI:SS"Z)"')),
        jsonb_build_object('switch', switch, 'on', value, 'who', who, 'why', why, 'until', until)
    FROM switch_history
    UNION ALL
    SELECT 'instrument-' || id, at, 'switch', NULL,
        format('%s of %s is %s, by %s: %s%s', switch, instrument, CASE WHEN value THEN 'on' ELSE 'off' END, who, why,
            to_char(until AT TIME ZONE 'UTC', '" (until "YYYY-MM-DD"T"HH24:MI:SS"Z)"')),
        jsonb_build_object('instrument', instrument, 'switch', switch, 'on', value, 'who', who, 'why', why, 'until', until)
    FROM instrument_switch_history
    UNION ALL
    SELECT 'strategy-' || id, at, 'strategy', NULL,
        format('%s is %s, by %s: %s', strategy, CASE WHEN enabled THEN 'enabled' ELSE 'disabled' END, who, why),
        jsonb_build_object('strategy', strategy, 'enabled', enabled, 'who', who, 'why', why)
    FROM strategy_history
    UNION ALL
    SELECT 'state-' || id, at, 'state', member,
        format('%s is %s%s: %s', member, new_state, ' ' || code, reason),
        jsonb_build_object('from', old_state, 'to', new_state, 'code', code, 'reason', reason, 'incarnation', incarnation)
    FROM operational_state_history
    UNION ALL
    SELECT 'leadership-' || epoch || '-began', started_at, 'leadership', member,
        CASE WHEN member IS NULL THEN format('epoch %s belongs to nobody: %s', epoch, reason)
            ELSE format('%s leads under epoch %s: %s%s', member, epoch, reason, ', ' || gap_ms || ' ms without a leader') END,
        jsonb_build_object('epoch', epoch, 'change', 'began', 'reason', reason, 'gap_ms', gap_ms, 'incarnation', incarnation)
    FROM leadership_history
    UNION ALL
    SELECT 'leadership-' || epoch || '-ended', ended_at, 'leadership', member,
        format('epoch %s of %s ended: %s', epoch, coalesce(member, 'nobody'), end_reason),
        jsonb_build_object('epoch', epoch, 'change', 'ended', 'reason', end_reason)
    FROM leadership_history WHERE ended_at IS NOT NULL
    UNION ALL
    SELECT 'command-' || id || '-asked', at, 'command', member,
        format('%s%s was asked for by %s: %s', verb, ' of ' || member, who, why),
        jsonb_build_object('verb', verb, 'change', 'asked', 'who', who, 'why', why, 'epoch', epoch)
    FROM leadership_command
    UNION ALL
    SELECT 'command-' || id || '-done', finished_at, 'command', member,
        format('%s%s by %s: %s', verb, ' of ' || member, who, outcome),
        jsonb_build_object('verb', verb, 'change', 'done', 'who', who, 'outcome', outcome, 'epoch', epoch)
    FROM leadership_command WHERE finished_at IS NOT NULL
    UNION ALL
    SELECT 'notification-' || id || '-queued', created_at, 'notification', NULL,
        format('for %s: %s', channel, subject),
        jsonb_build_object('channel', channel, 'change', 'queued', 'severity', severity, 'types', types, 'subject', subject)
    FROM notification_outbox WHERE recipient IS NULL
    UNION ALL
    SELECT 'notification-' || id || '-' || state, finished_at, 'notification', NULL,
        format('%s by %s: %s%s', state, channel, subject, CASE WHEN state <> 'sent' THEN ' (' || last_error || ')' END),
        jsonb_build_object('channel', channel, 'change', state, 'severity', severity, 'types', types, 'subject', subject)
    FROM notification_outbox WHERE recipient IS NULL AND finished_at IS NOT NULL
)
SELECT id, at, kind, member, sentence, detail FROM event"#;

impl Ledger {
    /// Reads up to `limit` events, the oldest first.
    ///
    /// # Errors
    /// Any database error.
    pub async fn events(&self, since: &Since, limit: i64) -> Result<Vec<Event>, LedgerError> {
        let client = self.client().await?;
        let during = LedgerError::during("read the events");
        let rows = match since {
            Since::Latest => {
                let newest = format!(r#"{EVENTS} ORDER BY at DESC, id COLLATE "C" DESC LIMIT $1"#);
                let mut rows = client.query(&newest, &[&limit]).await.map_err(during)?;
                rows.reverse();
                rows
            }
            Since::Time(from) => {
                let next = format!(r#"{EVENTS} WHERE at >= $1 ORDER BY at, id COLLATE "C" LIMIT $2"#);
                client.query(&next, &[from, &limit]).await.map_err(during)?
            }
            Since::Event(After { at, id }) => {
                let next = format!(
                    r#"{EVENTS} WHERE at >= $1 AND (at, id COLLATE "C") > ($1, $2) ORDER BY at, id COLLATE "C" LIMIT $3"#
                );
                client.query(&next, &[at, id, &limit]).await.map_err(during)?
            }
        };
        Ok(rows.iter().map(event).collect())
    }
}

fn event(row: &Row) -> Event {
    Event {
        id: row.get(0),
        at: row.get(1),
        kind: row.get(2),
        member: row.get(3),
        sentence: row.get(4),
        detail: row.get(5),
    }
}
