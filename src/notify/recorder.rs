//! From the tallies to the ledger: one statement a batch records, decides and queues.
//!
//! Nothing is lost while the database is away: what could not be recorded goes back to the tallies, and what the operator
//! was told meanwhile goes along when it is back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::away::Away;
use super::event::{Key, Kind, Life};
use super::tally::{Census, Taken, Tally};
use super::{Notifier, Settings};
use crate::ledger::errors::{Occurrences, Recorded, Withdrawal};
use crate::ledger::{Ledger, LedgerError};
use crate::telemetry::metrics::Metrics;

/// Between two batches: a storm of errors is a few statements a second.
const PACE: Duration = Duration::from_millis(20);
/// Between two tries while the database is away.
const RETRY: Duration = Duration::from_millis(500);
/// How long the database may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// A recovery waits for others, but not for long.
const RECOVERY_GATHER: Duration = Duration::from_secs(5);
/// A database that is away for less is not worth a decision without it.
const AWAY_AFTER: Duration = Duration::from_secs(3);

pub(super) struct Recorder {
    pub notifier: Notifier,
    pub ledger: Ledger,
    pub settings: Arc<Settings>,
    pub metrics: Arc<Metrics>,
    pub decided: Arc<Notify>,
    pub away: Away,
}

impl Recorder {
    /// Records until `stopped`, then once more.
    pub async fn run(mut self, stopped: CancellationToken) {
        let mut away_since: Option<Instant> = None;
        loop {
            // Before the look: what is raised while one is under way is not in it.
            let last = stopped.is_cancelled();
            let recorded = self.record(last).await;
            match recorded {
                Ok(()) => {
                    if let Some(since) = away_since.take() {
                        tracing::info!(
                            away_ms = since.elapsed().as_millis(),
                            "[NOTIFICATION] the error log is written again"
                        );
                    }
                }
                Err(error) => {
                    let since = *away_since.get_or_insert_with(|| {
                        tracing::warn!(
                            error = &error as &dyn std::error::Error,
                            "[NOTIFICATION] the error log cannot be written; throttling here until it can"
                        );
                        Instant::now()
                    });
                    if last || since.elapsed() >= AWAY_AFTER {
                        self.tell_without_it().await;
                    }
                }
            }
            if last {
                self.away.finish().await;
                return;
            }
            let waits = !self.notifier.shared.lock().is_empty();
            tokio::select! {
                () = tokio::time::sleep(RETRY), if away_since.is_some() || waits => {}
                () = self.notifier.shared.raised.notified(), if away_since.is_none() => tokio::time::sleep(PACE).await,
                () = stopped.cancelled() => {}
            }
        }
    }

    async fn record(&mut self, last: bool) -> Result<(), LedgerError> {
        let (mut taken, overflowed) = {
            let mut tallies = self.notifier.shared.lock();
            (tallies.take(), std::mem::take(&mut tallies.overflowed))
        };
        if overflowed > 0 {
            tracing::warn!(
                overflowed,
                "[NOTIFICATION] too many kinds of trouble at once: counted by kind alone"
            );
        }
        let recorded = self.write(&mut taken, last).await;
        // What could not be stored, and what waits for another instance's word.
        self.notifier.shared.lock().put_back(taken);
        recorded
    }

    /// Stores what was taken; what is done is taken out of it.
    async fn write(&mut self, taken: &mut Taken, last: bool) -> Result<(), LedgerError> {
        self.clear(&taken.fresh).await?;
        taken.fresh.clear();
        self.store(&mut taken.keys, last).await?;
        while let Some(((kind, source), census)) = taken.census.first_key_value() {
            self.compare(*kind, source, census).await?;
            taken.census.pop_first();
        }
        Ok(())
    }

    /// Ends what an earlier process of this member reported from these sources.
    async fn clear(&self, fresh: &BTreeSet<&'static str>) -> Result<(), LedgerError> {
        for reporter in self.reporters(fresh.clone()) {
            let left = within(self.ledger.reported_by(&reporter)).await?;
            let over: Vec<Withdrawal> = left
                .into_iter()
                .map(|(error_type, scope)| Withdrawal {
                    error_type,
                    scope,
                    reporters: Some(vec![reporter.clone()]),
                })
                .collect();
            self.withdraw(&over).await?;
        }
        Ok(())
    }

    async fn withdraw(&self, over: &[Withdrawal]) -> Result<(), LedgerError> {
        if over.is_empty() {
            return Ok(());
        }
        let withdrawn = self.ledger.withdraw(over, &self.settings.member, self.recovery_gather_s());
        if within(withdrawn).await? > 0 {
            self.decided.notify_one();
        }
        Ok(())
    }

    /// Stores a batch; what is done is taken out of it. What another instance is telling of waits until that is known, but
    /// not in a process that ends.
    async fn store(&mut self, batch: &mut BTreeMap<Key, Tally>, last: bool) -> Result<(), LedgerError> {
        if self.away.is_busy() {
            // What is in hand is let go of only for a database that is back.
            within(self.ledger.ping()).await?;
        }
        let mut waiting = BTreeMap::new();
        for key in self.away.in_hand_elsewhere(batch.keys().filter(|_| !last)).await {
            waiting.extend(batch.remove_entry(&key));
        }
        let stored = self.store_now(batch).await;
        batch.extend(waiting);
        stored
    }

    /// Records what occurred, then ends what is over.
    async fn store_now(&mut self, batch: &mut BTreeMap<Key, Tally>) -> Result<(), LedgerError> {
        let now = Utc::now();
        let occurred: Vec<Occurrences> = batch
            .iter()
            .filter(|(_, tally)| tally.count > 0)
            .map(|(key, tally)| self.occurrences(key, tally, now))
            .collect();
        self.note(&occurred).await?;
        for tally in batch.values_mut() {
            tally.count = 0;
            tally.span = None;
        }
        let over: Vec<Withdrawal> = batch
            .iter()
            .filter(|(_, tally)| !tally.withdrawn.is_empty())
            .map(|(key, tally)| self.withdrawal(key, tally))
            .collect();
        self.withdraw(&over).await?;
        batch.clear();
        Ok(())
    }

    /// Records occurrences, with what was told of them, and what was to be, while the database was away.
    async fn note(&mut self, occurred: &[Occurrences]) -> Result<(), LedgerError> {
        let unsent = self.away.hand_over().await;
        if occurred.is_empty() && unsent.is_empty() {
            return Ok(());
        }
        let expiry = self.settings.expiry.as_secs_f64();
        let recorded = match unsent.is_empty() {
            true => within(self.ledger.record_occurrences(occurred)).await,
            false => within(self.ledger.record_with_messages(occurred, &unsent, expiry)).await,
        };
        match recorded {
            Ok(recorded) => {
                self.away.handed_over().await;
                self.count(occurred, &recorded);
                Ok(())
            }
            Err(error) => {
                self.away.take_back(unsent);
                Err(error)
            }
        }
    }

    /// Compares what is open of a kind with all that holds of it: tells the one, and ends the other. A leader that was
    /// paused meanwhile and leads no more knows nothing of it.
    async fn compare(
        &mut self,
        kind: Kind,
        source: &'static str,
        census: &Census,
    ) -> Result<(), LedgerError> {
        let Some(open) = within(self.ledger.open_scopes(kind.as_str(), census.epoch)).await? else {
            return Ok(());
        };
        let now = Utc::now();
        let untold = census.holds.iter().filter(|(scope, _)| !open.contains(*scope));
        let untold: Vec<Occurrences> = untold
            .map(|(scope, message)| {
                let raised = BTreeSet::from([source]);
                let tally = Tally { count: 1, message: message.clone(), raised, ..Tally::default() };
                self.occurrences(&Key::new(kind, scope.clone()), &tally, now)
            })
            .collect();
        if !untold.is_empty() {
            let recorded = within(self.ledger.record_occurrences(&untold)).await?;
            self.count(&untold, &recorded);
        }
        let keep: Vec<&String> = census.holds.keys().chain(&census.unsure).collect();
        let (by, gather) = (self.settings.member.as_str(), self.recovery_gather_s());
        let ended = self.ledger.end_all_but(kind.as_str(), &keep, census.epoch, by, gather);
        if within(ended).await? > 0 {
            self.decided.notify_one();
        }
        Ok(())
    }

    fn recovery_gather_s(&self) -> f64 {
        self.settings.aggregation.min(RECOVERY_GATHER).as_secs_f64()
    }

    fn occurrences(&self, key: &Key, tally: &Tally, now: DateTime<Utc>) -> Occurrences {
        let age = |at: DateTime<Utc>| (now - at).as_seconds_f64().max(0.0);
        let (first, last) = tally.span.unwrap_or((now, now));
        let told = self.away.told(key);
        Occurrences {
            error_type: key.kind.as_str().to_owned(),
            scope: key.scope.clone(),
            severity: key.kind.severity().as_str().to_owned(),
            message: tally.message.clone(),
            count: tally.count,
            first_age_s: age(first),
            last_age_s: age(last),
            window_s: self.settings.window(key.kind).as_secs_f64(),
            gather_s: self.settings.gather(key.kind).as_secs_f64(),
            lasting: key.kind.life() != Life::Moment,
            reporters: self.reporters(tally.raised.union(&tally.withdrawn).copied().collect()),
            told_age_s: told.map(|told| told.at.elapsed().as_secs_f64()),
            told_here: told.is_some_and(|told| told.here),
        }
    }

    fn withdrawal(&self, key: &Key, tally: &Tally) -> Withdrawal {
        let reporters = match key.kind.life() {
            Life::InLedger => None,
            Life::PerInstance | Life::Moment => Some(self.reporters(tally.withdrawn.clone())),
        };
        Withdrawal { error_type: key.kind.as_str().to_owned(), scope: key.scope.clone(), reporters }
    }

    fn reporters(&self, sources: BTreeSet<&'static str>) -> Vec<String> {
        sources.iter().map(|source| format!("{}/{source}", self.settings.member)).collect()
    }

    fn count(&mut self, occurred: &[Occurrences], recorded: &[Recorded]) {
        for one in occurred {
            let outcome = recorded.iter().find(|r| r.error_type == one.error_type && r.scope == one.scope);
            let decided = outcome.is_some_and(|recorded| recorded.decided);
            let quiet = one.count - i64::from(decided || one.told_here);
            let throttled = self.metrics.notifications.with_label_values(&[&one.error_type, "throttled"]);
            throttled.inc_by(u64::try_from(quiet).unwrap_or(0));
            if decided {
                self.decided.notify_one();
            }
            if let (Ok(kind), Some(age)) = (one.error_type.parse(), outcome.and_then(|r| r.told_age_s)) {
                self.away.merged(&Key::new(kind, one.scope.clone()), age);
            }
        }
    }

    /// The database is away: what would be notified now is, by this instance alone.
    async fn tell_without_it(&mut self) {
        let pending = self.notifier.shared.lock().pending();
        self.away.tell(&pending).await;
    }
}

async fn within<T>(asked: impl Future<Output = Result<T, LedgerError>>) -> Result<T, LedgerError> {
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(answer) => answer,
        Err(_) => Err(LedgerError::TimedOut { within_ms: PATIENCE.as_millis() }),
    }
}
