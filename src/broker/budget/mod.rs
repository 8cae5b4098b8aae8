//! The order-rate budget: one for the cluster, with a reserve that entries can never use.
//!
//! The orders of the last second are counted in Redis ([`cluster`]), by the server's clock and in the step that adds
//! the next one; so two leaders in succession share one window of a second, as the bridge counts it. An entry goes while
//! fewer than `total - reserve` did, everything that takes risk off while fewer than `total` did.
//!
//! Redis may delay an order by [`cluster::BOUND`], no more: without an answer an instance lets through its *share*, half
//! of the budget. Two leaders in succession that both lack Redis stay within the whole. The worst second has one of them
//! with Redis, one without and the takeover in its middle: one and a half. What went without Redis is added to its count
//! when it answers again.
//!
//! A place may be taken [`Ahead`] of its order, while that is being journaled. One that is not used is given back: here at once,
//! in Redis with the next order that asks. What was taken longer ago than [`cluster::BOUND`] is not used: by then the order would
//! leave later than it was counted by more than one may whose answer Redis kept it waiting for.
//!
//! Orders wait in line: entries in one, everything that takes risk off in another. A waiting order has a deadline, and
//! one that later orders overtake again and again would miss it.

mod cluster;
mod log;

use std::num::NonZeroU32;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex, Notify};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use self::cluster::Count;
use self::log::Log;
use super::settings::{Settings, SettingsError};
use crate::domain::order::OrderClass;

/// The time that the limits are for.
const WINDOW: Duration = Duration::from_secs(1);

/// The budget as one instance draws on it.
pub(super) struct Budget(Option<Arc<Parts>>);

/// A place that is asked for before its order can be sent. Dropping this gives it back, or leaves the line.
#[derive(Debug)]
pub struct Ahead(AbortOnDropHandle<Place>);

/// A place in the window; given back where it is dropped unused.
struct Place {
    parts: Arc<Parts>,
    order: u64,
    at: Instant,
    is_used: bool,
}

struct Parts {
    limits: Limits,
    /// What this instance let through, by whatever right.
    log: std::sync::Mutex<Log>,
    /// Where the cluster counts; none where an instance is all there is.
    cluster: Option<Count>,
    entries: Line,
    others: Line,
    /// Tells whoever is first in line of a place that was given back.
    freed: Notify,
}

/// Its lock is given in the order of asking; who holds it is first in line.
type Line = Mutex<()>;

/// Orders in a window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Limits {
    total: usize,
    /// Of these, as many as entries may never use.
    reserve: usize,
}

// === impl Budget ===

impl Budget {
    /// The budget that the settings give.
    ///
    /// # Errors
    /// A reserve that leaves nothing to entries or to exits, an address of Redis that cannot be used.
    pub fn new(settings: &Settings) -> Result<Self, SettingsError> {
        let Some(total) = settings.orders_per_second else { return Ok(Self(None)) };
        let limits = Limits::new(total, settings.exit_reserve_per_second)?;
        let cluster = settings.shared_budget.as_ref().map(Count::new).transpose()?;
        let (entries, others) = (Line::default(), Line::default());
        let log = std::sync::Mutex::default();
        let freed = Notify::default();
        Ok(Self(Some(Arc::new(Parts { limits, log, cluster, entries, others, freed }))))
    }

    /// Waits until an order of this class may go, behind those of its line that asked before it; the caller bounds
    /// the wait, and one that gives up leaves the line.
    pub async fn take(&self, class: OrderClass) {
        if let Some(parts) = &self.0 {
            parts.wait(class).await;
        }
    }

    /// Asks for a place for an order that cannot be sent yet; none where nothing is counted.
    pub fn ahead(&self, class: OrderClass) -> Option<Ahead> {
        let parts = Arc::clone(self.0.as_ref()?);
        Some(Ahead(AbortOnDropHandle::new(tokio::spawn(async move {
            let (order, at) = (parts.wait(class).await, Instant::now());
            Place { parts, order, at, is_used: false }
        }))))
    }

    /// Waits as [`take`](Self::take) does, by what was asked for ahead if that serves.
    pub async fn take_or_use(&self, class: OrderClass, ahead: Option<Ahead>) {
        if let Some(Ahead(place)) = ahead
            && let Ok(mut place) = place.await
            && place.at.elapsed() <= cluster::BOUND
        {
            place.is_used = true;
            return;
        }
        self.take(class).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.is_used {
            self.parts.log().give_back(self.order);
            self.parts.freed.notify_waiters();
        }
    }
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "place {}", self.order)
    }
}

impl Parts {
    /// Waits for a place; gives the order's number.
    async fn wait(&self, class: OrderClass) -> u64 {
        let line = match class {
            OrderClass::Entry => &self.entries,
            OrderClass::Exit | OrderClass::Protective | OrderClass::Operator => &self.others,
        };
        let _first = line.lock().await;
        let order = self.log().number();
        loop {
            let freed = self.freed.notified();
            let Err(wait) = self.try_take(class, order).await else { return order };
            let _ = tokio::time::timeout(wait, freed).await;
        }
    }

    /// Takes a place for an order, or says after what time to ask again.
    async fn try_take(&self, class: OrderClass, order: u64) -> Result<(), Duration> {
        let whole = self.limits.ceiling(class);
        // Whoever else draws on it: this instance alone stays within the limits, should Redis forget what it counted.
        self.log().room(whole, Instant::now())?;
        let Some(cluster) = &self.cluster else { return self.log().take(order, whole, Instant::now()) };
        let (uncounted, returned) = {
            let log = self.log();
            (log.uncounted(Instant::now()), log.returned(Instant::now()))
        };
        match cluster.ask(order, whole, &uncounted, &returned).await {
            Some(answer) => {
                let mut log = self.log();
                log.counted(&uncounted);
                log.told(&returned);
                answer.inspect(|()| log.add(order, Instant::now(), true))
            }
            None => self.log().take(order, self.limits.share().ceiling(class), Instant::now()),
        }
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        // Nothing panics while holding it.
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Limits ===

impl Limits {
    fn new(total: NonZeroU32, reserve: u32) -> Result<Self, SettingsError> {
        if reserve == 0 || reserve >= total.get() {
            return Err(SettingsError::Reserve { reserve, total: total.get() });
        }
        Ok(Self { total: total.get() as usize, reserve: reserve as usize })
    }

    /// What an instance lets through by itself while the cluster's count cannot be asked: half.
    fn share(self) -> Self {
        let half = self.total / 2;
        let reserve = (self.reserve / 2).clamp(1, half.max(2) - 1);
        Self { total: half.max(reserve + 1), reserve }
    }

    /// So many orders in the window leave no room for another of this class.
    fn ceiling(self, class: OrderClass) -> usize {
        match class {
            OrderClass::Entry => self.total - self.reserve,
            OrderClass::Exit | OrderClass::Protective | OrderClass::Operator => self.total,
        }
    }
}

#[cfg(test)]
mod tests;
