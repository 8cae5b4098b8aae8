//! What went wrong, and whether the operator is told: an occurrence and its decision in one statement.
//!
//! The upsert of a key's row serialises all instances on it, so per key and window exactly one of them decides; the
//! decision queues the notification in the same statement. Windows are measured on the database's clock.

mod ends;
mod record;
mod views;
mod words;

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;

pub use words::{Episode, WordError};

/// A member that has not marked itself for so long is gone: what only it reports is over.
pub const GONE_AFTER: Duration = Duration::from_secs(120);
/// One that has not for so long was away meanwhile.
const BREAK_AFTER: Duration = Duration::from_secs(30);

/// Occurrences of one key, gathered by one instance.
#[derive(Clone, Debug, PartialEq)]
pub struct Occurrences {
    /// The kind's name.
    pub error_type: String,
    /// What it is about; may be empty.
    pub scope: String,
    /// The severity's name.
    pub severity: String,
    /// The last text.
    pub message: String,
    /// How many.
    pub count: i64,
    /// How long ago the first of them was, in seconds: ages, so that only the database's clock counts.
    pub first_age_s: f64,
    /// How long ago the last of them was, in seconds.
    pub last_age_s: f64,
    /// How long one notification lasts, in seconds.
    pub window_s: f64,
    /// How long the notification may wait for neighbours, in seconds.
    pub gather_s: f64,
    /// It holds until somebody resolves it; else it is over as soon as it is recorded.
    pub lasting: bool,
    /// Who reports it, as `member/source`.
    pub reporters: Vec<String>,
    /// While the database was away, the operator was told: so many seconds ago.
    pub told_age_s: Option<f64>,
    /// … by this instance.
    pub told_here: bool,
}

/// What became of a key's occurrences.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    /// The kind's name.
    pub error_type: String,
    /// What it is about.
    pub scope: String,
    /// They made a notification.
    pub decided: bool,
    /// How long ago the key was last notified, in seconds.
    pub told_age_s: Option<f64>,
}

/// The end of a key's trouble, as one instance sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Withdrawal {
    /// The kind's name.
    pub error_type: String,
    /// What it is about.
    pub scope: String,
    /// Who withdraws it; none means everybody.
    pub reporters: Option<Vec<String>>,
}

/// A key's row.
#[derive(Clone, Debug, Serialize)]
pub struct ErrorRow {
    /// Its number, for `acknowledge` and `resolve`, with `open_since`.
    pub id: i64,
    /// The kind.
    pub error_type: String,
    /// What it is about.
    pub scope: String,
    /// How bad.
    pub severity: String,
    /// The last text.
    pub error_message: String,
    /// The first time ever.
    pub first_occurrence: DateTime<Utc>,
    /// The last time.
    pub last_occurrence: DateTime<Utc>,
    /// How often, ever.
    pub occurrence_count: i64,
    /// When the last notification was decided.
    pub last_notification_sent: Option<DateTime<Utc>>,
    /// How many were.
    pub notification_count: i64,
    /// Occurrences that made no message of their own.
    pub throttled_count: i64,
    /// It is over.
    pub resolved: bool,
    /// Since when.
    pub resolved_at: Option<DateTime<Utc>>,
    /// An operator has taken note: no more notifications of this episode.
    pub acknowledged_at: Option<DateTime<Utc>>,
    /// Who.
    pub acknowledged_by: Option<String>,
    /// The present, or last, episode's begin.
    pub open_since: DateTime<Utc>,
    /// … and its occurrences.
    pub open_count: i64,
    /// Who reports it.
    pub reported_by: Vec<String>,
}

/// One kind's share of the log.
#[derive(Clone, Debug, Serialize)]
pub struct ErrorSummary {
    /// The kind.
    pub error_type: String,
    /// Keys that are not over.
    pub unresolved: i64,
    /// Keys that are not over and that nobody has acknowledged.
    pub unacknowledged: i64,
    /// All keys.
    pub keys: i64,
    /// Occurrences, ever.
    pub occurrences: i64,
    /// Notifications decided, ever.
    pub notified: i64,
    /// Occurrences that made no message of their own.
    pub throttled: i64,
    /// The first of all.
    pub first_occurrence: DateTime<Utc>,
    /// The last of all.
    pub last_occurrence: DateTime<Utc>,
}
