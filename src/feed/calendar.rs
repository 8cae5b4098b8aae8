//! Today's market sessions, read from the bridge once a day and again before the first opening.
//!
//! The bridge serves them from its own tables, so they can be had with a dead broker session. While it does not answer,
//! the built-in table stands in: it knows hours and weekends, and holidays it does not.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use chrono::{DateTime, TimeDelta, Utc};
use tokio_util::sync::CancellationToken;

use super::PriceBoard;
use crate::broker::Broker;
use crate::domain::calendar::{CalendarSource, MarketDay, day_of};
use crate::telemetry::metrics::Metrics;

/// How often it looks at the clock.
const LOOK: Duration = Duration::from_secs(20);
/// Between two questions while the bridge does not answer.
const ASK_AGAIN: TimeDelta = TimeDelta::minutes(1);
/// The day is read again this long before its first opening: the table may have been mended over night.
const BEFORE_OPENING: TimeDelta = TimeDelta::minutes(30);

/// What is known of today; cheap to clone.
#[derive(Clone, Debug)]
pub struct Calendar(Arc<ArcSwap<MarketDay>>);

impl Calendar {
    /// The built-in table's day, until the bridge has been asked.
    pub fn new(now: DateTime<Utc>) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(MarketDay::of_table(day_of(now)))))
    }

    /// Today's sessions.
    pub fn today(&self) -> Arc<MarketDay> {
        self.0.load_full()
    }

    /// Whether an exchange is open; what is not known is closed.
    pub fn is_open(&self, exchange: &str, now: DateTime<Utc>) -> bool {
        self.0.load().is_open(exchange, now)
    }

    /// Whether any exchange of the wanted listings is open; `None` while the bridge has not said so, since the table
    /// may miss a special session.
    pub fn any_open(&self, board: &PriceBoard, now: DateTime<Utc>) -> Option<bool> {
        let today = self.0.load();
        let open = board.wanted().borrow().iter().any(|listing| today.is_open(&listing.exchange, now));
        (open || today.source == CalendarSource::Bridge).then_some(open)
    }

    /// Keeps it up to date until `stop`.
    pub async fn keep(
        self,
        broker: Arc<dyn Broker>,
        board: PriceBoard,
        metrics: Arc<Metrics>,
        stop: CancellationToken,
    ) {
        let mut asked: Option<DateTime<Utc>> = None;
        loop {
            let now = Utc::now();
            if self.is_due(asked, now) {
                asked = Some(now);
                self.read(&*broker, now).await;
            }
            let open = self.any_open(&board, now) == Some(true);
            metrics.market_open.set(i64::from(open));
            if stop.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_none() {
                return;
            }
        }
    }

    fn is_due(&self, asked: Option<DateTime<Utc>>, now: DateTime<Utc>) -> bool {
        let today = self.0.load();
        let Some(asked) = asked else { return true };
        if today.date != day_of(now) {
            return true;
        }
        if today.source == CalendarSource::Table {
            return now - asked >= ASK_AGAIN;
        }
        today.first_opening().is_some_and(|opening| {
            let again = opening - BEFORE_OPENING;
            asked < again && now >= again
        })
    }

    async fn read(&self, broker: &dyn Broker, now: DateTime<Utc>) {
        let date = day_of(now);
        let before = self.0.load();
        let day = match broker.timings(date).await {
            Ok(sessions) => MarketDay::of_bridge(date, sessions),
            // What the bridge said of this day before is better than the table.
            Err(_) if before.date == date && before.source == CalendarSource::Bridge => return,
            Err(error) => {
                if before.date != date || before.source == CalendarSource::Bridge {
                    tracing::warn!(
                        "[FALLBACK] the bridge gives no market hours for {date}: the built-in table stands in, without \
                         holidays ({error})"
                    );
                }
                MarketDay::of_table(date)
            }
        };
        self.0.store(Arc::new(day));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::broker::{OpenAlgo, Settings};
    use crate::feed::Listing;
    use crate::paper::calendar::{Calendar as Hours, Holiday};
    use crate::paper::{Options, Paper};

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn broker(url: String) -> OpenAlgo {
        let mut settings = Settings::new(url, "paper");
        settings.read_attempts = 1;
        OpenAlgo::new(settings).unwrap()
    }

    #[tokio::test]
    async fn the_bridges_holiday_counts_and_the_table_stands_in_for_a_bridge_that_is_away() {
        let morning = at("2026-08-10T10:00:00+05:30");
        let holiday = Holiday { date: day_of(morning), description: "Holiday".to_owned() };
        let calendar = Hours::Exchange(vec![holiday]);
        let paper = Paper::start(Options { calendar, ..Options::default() }).await.unwrap();
        let board = PriceBoard::new();
        board.want(BTreeSet::from([Listing::new("NFO", "X")]));
        let calendar = Calendar::new(morning);
        assert_eq!(calendar.any_open(&board, morning), Some(true), "the table knows no holidays");
        assert_eq!(calendar.any_open(&board, at("2026-08-10T20:00:00+05:30")), None, "a special session?");

        let bridge = broker(paper.http_url());
        calendar.read(&bridge, morning).await;
        assert_eq!(calendar.any_open(&board, morning), Some(false));
        let next = at("2026-08-11T10:00:00+05:30");
        assert!(calendar.is_due(Some(morning), next), "another day");
        calendar.read(&bridge, next).await;
        assert!(calendar.is_open("NFO", next) && !calendar.is_open("NFO", at("2026-08-11T20:00:00+05:30")));

        paper.stop().await;
        calendar.read(&bridge, next).await;
        assert_eq!(calendar.today().source, CalendarSource::Bridge, "what it said of this day holds");
        calendar.read(&bridge, at("2026-08-12T10:00:00+05:30")).await;
        assert_eq!(calendar.today().source, CalendarSource::Table);
    }

    #[test]
    fn it_is_read_once_a_day_again_before_the_opening_and_often_while_the_bridge_is_silent() {
        let night = at("2026-08-10T00:10:00+05:30");
        let calendar = Calendar::new(night);
        assert!(calendar.is_due(None, night));
        assert!(!calendar.is_due(Some(night), night + TimeDelta::seconds(59)));
        assert!(calendar.is_due(Some(night), night + TimeDelta::seconds(60)));
        let session = crate::domain::calendar::MarketSession {
            exchange: "MCX".to_owned(),
            opens: at("2026-08-10T09:00:00+05:30"),
            closes: at("2026-08-10T23:30:00+05:30"),
        };
        calendar.0.store(Arc::new(MarketDay::of_bridge(day_of(night), vec![session])));
        assert!(!calendar.is_due(Some(night), at("2026-08-10T08:29:59+05:30")));
        let again = at("2026-08-10T08:30:00+05:30");
        assert!(calendar.is_due(Some(night), again));
        assert!(!calendar.is_due(Some(again), at("2026-08-10T23:59:00+05:30")));
    }
}
