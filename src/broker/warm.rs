//! The stock of warm connections for orders, and the keeper that refills it.
//!
//! Bridges close idle connections within seconds. The keeper notices and replaces them, so that an order finds
//! one ready; if none is, the order connects first, before its deadline is checked. Connections at work count
//! towards the stock, so that an order in flight does not cost a new connection.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::outcome::Fault;
use super::wire::{Target, Wire};

/// How often the stock is looked over without being asked to.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// The longest pause after failed attempts to connect.
const RETRY_AT_MOST: Duration = Duration::from_secs(5);

/// The stock. Its keeper ends when this is dropped.
pub(super) struct Warm {
    stock: Arc<Stock>,
    keeper: JoinHandle<()>,
}

struct Stock {
    target: Target,
    shelf: Mutex<Shelf>,
    wanted: usize,
    idle_limit: Duration,
    wanting: Notify,
}

#[derive(Default)]
struct Shelf {
    idle: Vec<Wire>,
    /// Taken and not yet returned or lost.
    out: usize,
}

/// A connection taken for one order. Dropping it resets it.
pub(super) struct Lent {
    /// Empty only while it is given back.
    wire: Option<Wire>,
    stock: Arc<Stock>,
}

// === impl Warm ===

impl Warm {
    /// Starts the keeper; must be called on a tokio runtime.
    pub fn start(target: Target, wanted: usize, idle_limit: Duration) -> Self {
        let shelf = Mutex::default();
        let stock = Arc::new(Stock { target, shelf, wanted, idle_limit, wanting: Notify::new() });
        let keeper = tokio::spawn(stock.clone().keep());
        Self { stock, keeper }
    }

    /// A connection that is ready for a request: from stock, or made now.
    pub async fn take(&self) -> Result<Lent, Fault> {
        let found = self.stock.take_ready();
        self.stock.lock().out += 1;
        let mut lent = Lent { wire: found, stock: self.stock.clone() };
        if lent.wire.is_none() {
            lent.wire = Some(Wire::open(&self.stock.target).await?);
        }
        Ok(lent)
    }

    /// Connections in stock now.
    pub fn count(&self) -> usize {
        self.stock.lock().idle.len()
    }
}

impl Drop for Warm {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

// === impl Lent ===

impl Lent {
    /// The connection.
    pub fn wire(&mut self) -> &mut Wire {
        self.wire.as_mut().expect("set by take, emptied only by give_back, which consumes")
    }

    /// Returns it after a complete answer, to be kept if it can serve again.
    pub fn give_back(mut self) {
        let Some(mut wire) = self.wire.take() else { return };
        if wire.is_ready() {
            let mut shelf = self.stock.lock();
            if shelf.idle.len() < self.stock.wanted {
                shelf.idle.push(wire);
            }
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.stock.lock().out -= 1;
        self.stock.wanting.notify_one();
    }
}

// === impl Stock ===

impl Stock {
    fn lock(&self) -> MutexGuard<'_, Shelf> {
        // A panic while holding it leaves the shelf whole.
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The most recently used one that is still good: bridges close those longest idle first.
    fn take_ready(&self) -> Option<Wire> {
        let mut shelf = self.lock();
        while let Some(mut wire) = shelf.idle.pop() {
            if wire.idle_for() < self.idle_limit && wire.is_ready() {
                return Some(wire);
            }
        }
        None
    }

    /// Drops what went bad; returns how many connections there are, those at work included.
    fn sweep(&self) -> usize {
        let mut shelf = self.lock();
        shelf.idle.retain_mut(|wire| wire.idle_for() < self.idle_limit && wire.is_ready());
        shelf.idle.len() + shelf.out
    }

    async fn keep(self: Arc<Self>) {
        let mut pause = LOOK_EVERY;
        loop {
            while self.sweep() < self.wanted {
                match Wire::open(&self.target).await {
                    Ok(wire) => {
                        if pause > LOOK_EVERY {
                            tracing::info!(
                                "[HEALTH-CHECK] bridge reachable again, order connections are warm"
                            );
                        }
                        pause = LOOK_EVERY;
                        self.lock().idle.insert(0, wire);
                    }
                    Err(fault) => {
                        if pause == LOOK_EVERY {
                            tracing::warn!(%fault, "[HEALTH-CHECK] no warm order connection: retrying");
                        }
                        pause = (pause * 2).min(RETRY_AT_MOST);
                        break;
                    }
                }
            }
            // A fresh demand ends the usual wait at once, but not the pause after a failure.
            if pause > LOOK_EVERY {
                tokio::time::sleep(pause).await;
            } else {
                let _ = tokio::time::timeout(LOOK_EVERY, self.wanting.notified()).await;
            }
        }
    }
}
