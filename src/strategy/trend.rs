//! The webhook's trend-follower: base entries, pyramids and exits that senders decide and the engine sizes, gates and guards.

use chrono::{DateTime, Utc};

use super::{Observed, Outlook, Seen, Strategy};
use crate::domain::listing::Listing;
use crate::domain::signal::Signal;

/// A strategy of which the signals come over the webhook.
#[derive(Clone, Copy, Debug, Default)]
pub struct TrendFollower;

impl Strategy for TrendFollower {
    fn watches(&self) -> Option<&Listing> {
        None
    }

    fn observe(&mut self, _: Observed<'_>, _: DateTime<Utc>) {}

    fn is_due(&self) -> bool {
        false
    }

    fn decide(&mut self, _: Seen, _: DateTime<Utc>) -> Vec<Signal> {
        Vec::new()
    }

    fn wants_history(&self) -> bool {
        false
    }

    fn outlook(&self) -> Outlook {
        Outlook {
            sentence: "its signals come over the webhook".to_owned(),
            vwap: None,
            close: None,
            bar_time: None,
        }
    }
}
