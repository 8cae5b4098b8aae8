//! Today's market hours as the feed needs them: whether silence is a fault.
//!
//! Read from the bridge, which serves them from its own tables and so with a dead broker session too; again every hour,
//! since those tables are mended over the day. Entries are judged elsewhere, by the same data; here an unknown day is
//! unknown, and silence is then taken for a fault.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use chrono::{DateTime, TimeDelta, Utc};
use tokio_util::sync::CancellationToken;

use super::PriceBoard;
use crate::broker::Broker;
use crate::domain::sessions::{Calendar, trading_day};
use crate::telemetry::metrics::Metrics;

/// How often it looks at the clock.
const LOOK: Duration = Duration::from_secs(20);
/// Between two readings of a day that is known.
const READ_AGAIN: TimeDelta = TimeDelta::hours(1);
/// Between two readings while the bridge does not answer.
const RETRY: TimeDelta = TimeDelta::minutes(1);

/// What is known of today; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Hours(Arc<ArcSwapOption<Calendar>>);

impl Hours {
    /// Whether any exchange of the wanted listings is open; `None` while today is not known.
    pub fn any_open(&self, board: &PriceBoard, now: DateTime<Utc>) -> Option<bool> {
        let today = self.0.load();
        let today = today.as_ref().filter(|calendar| calendar.day() == trading_day(now))?;
        Some(board.wanted().borrow().iter().any(|listing| today.is_open(&listing.exchange, now)))
    }

    /// Whether one of `exchanges` is open, or opens so soon that the broker's session must live; `None` while today is not
    /// known.
    pub fn wants_broker(&self, exchanges: &BTreeSet<String>, now: DateTime<Utc>) -> Option<bool> {
        let today = self.0.load();
        let today = today.as_ref().filter(|calendar| calendar.day() == trading_day(now))?;
        Some(today.wants_broker(exchanges, now))
    }

    /// Keeps it up to date until `stop`, and shows whether one of `exchanges` is open.
    pub async fn keep(
        self,
        broker: Arc<dyn Broker>,
        exchanges: BTreeSet<String>,
        metrics: Arc<Metrics>,
        stop: CancellationToken,
    ) {
        let mut read = None;
        loop {
            let now = Utc::now();
            if self.is_due(read, now) {
                read = Some(now);
                self.read(&*broker, now).await;
            }
            let today = self.0.load();
            let open =
                today.as_ref().is_some_and(|day| exchanges.iter().any(|exchange| day.is_open(exchange, now)));
            metrics.market_open.set(i64::from(open));
            if stop.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_none() {
                return;
            }
        }
    }

    fn is_due(&self, read: Option<DateTime<Utc>>, now: DateTime<Utc>) -> bool {
        let known = self.0.load().as_ref().is_some_and(|calendar| calendar.day() == trading_day(now));
        read.is_none_or(|read| now - read >= if known { READ_AGAIN } else { RETRY })
    }

    async fn read(&self, broker: &dyn Broker, now: DateTime<Utc>) {
        let day = trading_day(now);
        match broker.timings(day).await {
            Ok(sessions) => self.0.store(Some(Arc::new(Calendar::new(day, sessions)))),
            // What was known of the day holds.
            Err(error) => {
                tracing::debug!(error = &error as &dyn std::error::Error, "no market hours for {day}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::{OpenAlgo, Settings};
    use crate::feed::Listing;
    use crate::paper::calendar::{Calendar as BridgesHours, Holiday};
    use crate::paper::{Options, Paper};

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn the_bridge_says_when_silence_is_no_fault_and_what_it_said_holds_for_the_day() {
        let morning = at("2026-08-10T10:00:00+05:30");
        let holiday =
            Holiday { date: trading_day(at("2026-08-11T10:00:00+05:30")), description: "Holiday".to_owned() };
        let calendar = BridgesHours::Exchange(vec![holiday]);
        let paper = Paper::start(Options { calendar, ..Options::default() }).await.unwrap();
        let mut settings = Settings::new(paper.http_url(), "paper");
        settings.read_attempts = 1;
        let broker = OpenAlgo::new(settings).unwrap();
        let board = PriceBoard::new();
        board.want(BTreeSet::from([Listing::new("NFO", "X")]));
        let hours = Hours::default();
        assert_eq!(hours.any_open(&board, morning), None);
        assert!(hours.is_due(None, morning));
        assert!(!hours.is_due(Some(morning), morning + TimeDelta::seconds(59)));

        hours.read(&broker, morning).await;
        assert_eq!(hours.any_open(&board, morning), Some(true));
        assert_eq!(hours.any_open(&board, at("2026-08-10T20:00:00+05:30")), Some(false));
        assert!(!hours.is_due(Some(morning), morning + TimeDelta::minutes(59)));
        let next = at("2026-08-11T10:00:00+05:30");
        assert!(
            hours.any_open(&board, next).is_none() && hours.is_due(Some(next - RETRY), next),
            "another day"
        );
        hours.read(&broker, next).await;
        assert_eq!(hours.any_open(&board, next), Some(false), "a holiday");

        paper.stop().await;
        hours.read(&broker, next).await;
        assert_eq!(hours.any_open(&board, next), Some(false));
    }
}
