//! Today's market hours, whoever can tell them: the bridge, which serves them from its own tables and so with a dead broker
//! session too; the ledger, in which every instance keeps what the bridge said, for today and tomorrow; or, for a day whose
//! year's holidays are known, the usual hours. A day that nobody knows is unknown: entries count it as closed, and silence
//! of the feed is then taken for a fault.
//!
//! The bridge is asked again every hour, since its tables are mended over the day, and sooner while another had to answer.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use chrono::{DateTime, Datelike, Days, NaiveDate, TimeDelta, Utc};
use tokio_util::sync::CancellationToken;

use super::PriceBoard;
use crate::broker::Broker;
use crate::domain::order::{UnknownName, named};
use crate::domain::sessions::{Calendar, Holiday, trading_day};
use crate::domain::usual;
use crate::ledger::{Ledger, LedgerError};
use crate::telemetry::metrics::Metrics;

/// How often it looks at the clock.
const LOOK: Duration = Duration::from_secs(1);
/// Between two readings of a day that the bridge told.
const READ_AGAIN: TimeDelta = TimeDelta::hours(1);
/// Between two readings while the bridge does not tell.
const RETRY: TimeDelta = TimeDelta::seconds(15);
/// Between two readings while the ledger could not keep what it told: its schema may be on its way.
const KEEP_AGAIN: TimeDelta = TimeDelta::seconds(5);

/// So far ahead holidays are asked for.
const FORTNIGHT: Days = Days::new(14);

/// Who told the hours of a day.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Told {
    /// The bridge, for this day.
    Bridge,
    /// The bridge, as the ledger remembers it.
    Ledger,
    /// The table of usual hours and the year's holidays.
    Usual,
}
named!(Told { Bridge = "bridge", Ledger = "ledger", Usual = "usual" });

/// What is known of today; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Hours(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    known: ArcSwapOption<Known>,
    holidays: ArcSwap<Vec<Holiday>>,
    asked: AtomicBool,
}

#[derive(Debug)]
struct Known {
    calendar: Arc<Calendar>,
    told: Told,
    /// The ledger has it.
    kept: bool,
}

impl Hours {
    /// The calendar that was known last: of today, or of the day before while nobody told today's.
    pub fn calendar(&self) -> Option<Arc<Calendar>> {
        self.0.known.load().as_ref().map(|known| Arc::clone(&known.calendar))
    }

    /// Who told today's hours; none while they are not known.
    pub fn told(&self, now: DateTime<Utc>) -> Option<Told> {
        self.0
            .known
            .load()
            .as_ref()
            .filter(|known| known.calendar.day() == trading_day(now))
            .map(|known| known.told)
    }

    /// The days of this year, and of the next one once it is near, that are not as usual; none while nobody told them.
    pub fn holidays(&self) -> Arc<Vec<Holiday>> {
        self.0.holidays.load_full()
    }

    /// Everybody who could tell was asked, if in vain: until then nothing follows from what is not known.
    pub fn is_asked(&self) -> bool {
        self.0.asked.load(Ordering::Acquire)
    }

    fn today(&self, now: DateTime<Utc>) -> Option<Arc<Calendar>> {
        self.calendar().filter(|calendar| calendar.day() == trading_day(now))
    }

    /// Whether any exchange of the wanted listings is open; `None` while today is not known.
    pub fn any_open(&self, board: &PriceBoard, now: DateTime<Utc>) -> Option<bool> {
        let today = self.today(now)?;
        Some(board.wanted().borrow().iter().any(|listing| today.is_open(&listing.exchange, now)))
    }

    /// Whether one of `exchanges` is open, or opens so soon that the broker's session must live; `None` while today is not
    /// known.
    pub fn wants_broker(&self, exchanges: &BTreeSet<String>, now: DateTime<Utc>) -> Option<bool> {
        Some(self.today(now)?.wants_broker(exchanges, now))
    }

    /// Keeps it up to date until `stop`, and shows whether one of `exchanges` is open.
    pub async fn keep(
        self,
        broker: Arc<dyn Broker>,
        ledger: Ledger,
        exchanges: BTreeSet<String>,
        metrics: Arc<Metrics>,
        stop: CancellationToken,
    ) {
        let mut read = None;
        loop {
            let now = Utc::now();
            if self.is_due(read, now) {
                read = self.read(&*broker, &ledger, now).await.then_some(now);
            }
            let today = self.today(now);
            let open = today.map(|day| exchanges.iter().any(|exchange| day.is_open(exchange, now)));
            metrics.market_open.set(open.map_or(-1, i64::from));
            if stop.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_none() {
                return;
            }
        }
    }

    fn is_due(&self, read: Option<DateTime<Utc>>, now: DateTime<Utc>) -> bool {
        let known = self.0.known.load();
        let known = known.as_deref().filter(|known| known.calendar.day() == trading_day(now));
        let pause = match known {
            Some(Known { told: Told::Bridge, kept: true, .. }) => READ_AGAIN,
            Some(Known { told: Told::Bridge, kept: false, .. }) => KEEP_AGAIN,
            _ => RETRY,
        };
        read.is_none_or(|read| now - read >= pause)
    }

    /// Reads today's hours from whoever can tell them, and keeps what the bridge says. False if the ledger could have told
    /// them and could not be read: then nobody counts as asked.
    pub async fn read(&self, broker: &dyn Broker, ledger: &Ledger, now: DateTime<Utc>) -> bool {
        let day = trading_day(now);
        match broker.timings(day).await {
            Ok(sessions) => {
                let kept = async {
                    ledger.keep_market_day(day, &sessions).await?;
                    self.keep_what_comes(broker, ledger, day).await
                };
                let kept = kept
                    .await
                    .inspect_err(|error| complain("the market's hours are not kept", error))
                    .is_ok();
                self.learn(Calendar::new(day, sessions), Told::Bridge, kept);
            }
            // What the bridge said of the day holds.
            Err(_) if self.told(now) == Some(Told::Bridge) => {}
            Err(error) => {
                tracing::debug!(error = &error as &dyn std::error::Error, "no market hours for {day}");
                match self.otherwise(broker, ledger, day).await {
                    Err(error) => {
                        complain("the market's hours cannot be looked up", &error);
                        return false;
                    }
                    Ok(Some((calendar, told))) => self.learn(calendar, told, true),
                    Ok(None) if self.told(now).is_none() => tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "nobody knows the market hours of {day}: entries count the market as closed"
                    ),
                    Ok(None) => {}
                }
            }
        }
        self.0.asked.store(true, Ordering::Release);
        true
    }

    fn learn(&self, calendar: Calendar, told: Told, kept: bool) {
        let day = calendar.day();
        let before = self.0.known.swap(Some(Arc::new(Known { calendar: Arc::new(calendar), told, kept })));
        let news = before.is_none_or(|before| (before.calendar.day(), before.told) != (day, told));
        match told {
            _ if !news => {}
            Told::Bridge => tracing::info!("the market's hours of {day} are the bridge's"),
            Told::Ledger => tracing::warn!(
                "[FALLBACK] the bridge does not tell the market's hours: those of {day} are what it said before"
            ),
            Told::Usual => tracing::warn!(
                "[FALLBACK] the bridge does not tell the market's hours: those of {day} are the usual ones, as of {}",
                usual::AS_OF
            ),
        }
    }

    /// Tomorrow's hours and the year's holidays, while the bridge can be asked. That it does not tell them is no fault yet.
    async fn keep_what_comes(
        &self,
        broker: &dyn Broker,
        ledger: &Ledger,
        day: NaiveDate,
    ) -> Result<(), LedgerError> {
        if let Some(next) = day.checked_add_days(Days::new(1))
            && let Ok(sessions) = broker.timings(next).await
        {
            ledger.keep_market_day(next, &sessions).await?;
        }
        let mut known = Vec::new();
        for year in years(day) {
            match broker.holidays(year).await {
                Ok(holidays) => {
                    ledger.keep_holidays(year, &holidays).await?;
                    known.extend(holidays);
                }
                Err(_) => known.extend(ledger.holidays(year).await?.unwrap_or_default()),
            }
        }
        self.0.holidays.store(Arc::new(known));
        Ok(())
    }

    /// What is known of a day of which the bridge does not tell.
    async fn otherwise(
        &self,
        broker: &dyn Broker,
        ledger: &Ledger,
        day: NaiveDate,
    ) -> Result<Option<(Calendar, Told)>, LedgerError> {
        let mut kept = BTreeMap::new();
        for year in years(day) {
            kept.extend(ledger.holidays(year).await?.map(|holidays| (year, holidays)));
        }
        let calendar = ledger.market_day(day).await?;
        if calendar.is_none()
            && let Ok(holidays) = broker.holidays(day.year()).await
        {
            kept.insert(day.year(), holidays);
        }
        let usual = kept.get(&day.year()).map(|holidays| (usual::calendar(day, holidays), Told::Usual));
        self.0.holidays.store(Arc::new(kept.into_values().flatten().collect()));
        Ok(calendar.map(|calendar| (calendar, Told::Ledger)).or(usual))
    }
}

/// The years that a day and the fortnight after it are in.
fn years(day: NaiveDate) -> BTreeSet<i32> {
    BTreeSet::from([day.year(), day.checked_add_days(FORTNIGHT).unwrap_or(day).year()])
}

fn complain(what: &'static str, error: &LedgerError) {
    tracing::debug!(error = error as &dyn std::error::Error, "{what}");
}
