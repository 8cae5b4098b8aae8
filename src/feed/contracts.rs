//! Today's contracts, from the bridge and, while it cannot be asked, from what the ledger keeps of today's word. Yesterday's
//! says nothing: lots, steps and limits change overnight. What is missing is asked for again, since a bridge refills its
//! list at each login and knows nothing meanwhile; and all of it once more before the day's first market opens, and after a
//! login: what a bridge says soon after midnight is still the list of the day before.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use tokio_util::sync::CancellationToken;

use super::Listing;
use crate::broker::{Broker, BrokerError};
use crate::domain::contract::Contracts;
use crate::domain::sessions::{day_start, trading_day};
use crate::ledger::{Ledger, LedgerError};

/// Between two looks at what is missing; doubled while the bridge has nothing new to say.
const LOOK: Duration = Duration::from_secs(5);
const LOOK_AT_MOST: Duration = Duration::from_secs(60);
/// When brokers' lists of the day are out, half an hour before the first market: 08:30 in India, in UTC.
const LISTS_ARE_OUT: NaiveTime = NaiveTime::from_hms_opt(3, 0, 0).expect("a time of day");

/// What is known of today's contracts; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct ContractData(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    known: ArcSwapOption<Contracts>,
    /// The ledger has all of them.
    kept: AtomicBool,
    /// What was last told to be missing, and of which day.
    missing: Mutex<Option<(NaiveDate, String)>>,
    asked: AtomicBool,
    said: Mutex<Said>,
}

/// What the bridge said since its list was made anew.
#[derive(Debug, Default)]
struct Said {
    since: DateTime<Utc>,
    login: DateTime<Utc>,
    of: BTreeSet<Listing>,
}

impl ContractData {
    /// The contracts that were known last, with their day.
    pub fn known(&self) -> Option<Arc<Contracts>> {
        self.0.known.load_full()
    }

    /// Bridge and ledger were asked, if in vain: until then nothing follows from what is not known.
    pub fn is_asked(&self) -> bool {
        self.0.asked.load(Ordering::Acquire)
    }

    /// Keeps those of `listings` up to date until `stop`.
    pub async fn keep(
        self,
        broker: Arc<dyn Broker>,
        ledger: Ledger,
        listings: Vec<Listing>,
        stop: CancellationToken,
    ) {
        let mut wait = LOOK;
        let mut before = None;
        loop {
            let read = self.read(&*broker, &ledger, &listings, Utc::now());
            if stop.run_until_cancelled(read).await.is_none() {
                return;
            }
            let now = self.known().map(|known| (known.day(), known.iter().count()));
            let is_news = !self.is_asked() || now != before;
            (before, wait) = (now, if is_news { LOOK } else { (wait * 2).min(LOOK_AT_MOST) });
            if stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                return;
            }
        }
    }

    /// Somebody has logged in at the bridge, which fills its list anew: all is asked for again.
    pub fn logged_in(&self, at: DateTime<Utc>) {
        self.said().login = at;
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.0.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those that the bridge has said nothing of since its list was made anew.
    fn due<'a>(&self, listings: &'a [Listing], day: NaiveDate, now: DateTime<Utc>) -> Vec<&'a Listing> {
        let mut said = self.said();
        let lists_are_out = day.and_time(LISTS_ARE_OUT).and_utc();
        let morning = if now < lists_are_out { day_start(day) } else { lists_are_out };
        let since = morning.max(said.login);
        if said.since != since {
            (said.since, said.of) = (since, BTreeSet::new());
        }
        listings.iter().filter(|listing| !said.of.contains(listing)).collect()
    }

    /// Says what is missing, once a day and change.
    fn tell_missing(&self, day: NaiveDate, unknown: &str, failure: &str) {
        let mut told = self.0.missing.lock().unwrap_or_else(PoisonError::into_inner);
        let missing = (!unknown.is_empty()).then(|| (day, unknown.to_owned()));
        if *told != missing {
            if missing.is_some() {
                tracing::warn!("no contract data of {unknown} for {day}: no entries there ({failure})");
            }
            *told = missing;
        }
    }

    /// Asks for what is missing of today's data, one contract after the other.
    pub async fn read(&self, broker: &dyn Broker, ledger: &Ledger, listings: &[Listing], now: DateTime<Utc>) {
        let day = trading_day(now);
        let known = self.known().filter(|known| known.day() == day);
        let mut known = known.map_or_else(|| Contracts::new(day), |known| (*known).clone());
        let due = self.due(listings, day, now);
        if due.is_empty() && self.0.kept.load(Ordering::Relaxed) {
            return;
        }
        let mut told = Vec::new();
        let mut failure = None;
        for listing in due {
            match broker.symbol(&listing.symbol, &listing.exchange).await {
                Ok(contract) => told.push((listing.clone(), contract)),
                Err(error) => {
                    let away = matches!(
                        error,
                        BrokerError::Unreachable { .. }
                            | BrokerError::TimedOut { .. }
                            | BrokerError::RateLimited { .. }
                    );
                    failure = Some(format!("{listing}: {error}"));
                    if away {
                        break;
                    }
                }
            }
        }
        self.said().of.extend(told.iter().map(|(listing, _)| listing.clone()));
        known.extend(told.iter().cloned());
        let kept = match self.0.kept.load(Ordering::Relaxed) {
            true => ledger.keep_contracts(day, &told).await,
            false => {
                let all: Vec<_> =
                    known.iter().map(|(listing, contract)| (listing.clone(), contract.clone())).collect();
                ledger.keep_contracts(day, &all).await
            }
        };
        let failed = |error: &LedgerError| {
            tracing::debug!(
                error = error as &dyn std::error::Error,
                "the ledger does not take or tell contracts"
            )
        };
        self.0.kept.store(kept.inspect_err(failed).is_ok(), Ordering::Relaxed);
        if let Some(failure) = failure {
            let kept = match ledger.contracts(day).await {
                Ok(kept) => kept,
                Err(error) => {
                    // It may know them: nobody counts as asked.
                    failed(&error);
                    self.0.known.store(Some(Arc::new(known)));
                    return;
                }
            };
            let lacking = kept.into_iter().filter(|(listing, _)| known.get(listing).is_none());
            known.extend(lacking.collect::<Vec<_>>());
            let unknown: Vec<String> = listings
                .iter()
                .filter(|listing| known.get(listing).is_none())
                .map(ToString::to_string)
                .collect();
            self.tell_missing(day, &unknown.join(", "), &failure);
        } else {
            self.tell_missing(day, "", "");
        }
        self.0.known.store(Some(Arc::new(known)));
        self.0.asked.store(true, Ordering::Release);
    }
}
