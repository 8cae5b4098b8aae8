//! The stock of warm connections for orders, and the keeper that refills it.
//!
//! Bridges close idle connections within seconds. The keeper notices and replaces them, so that an order finds
//! one ready; if none is, the order connects first, before its deadline is checked.

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
    idle: Mutex<Vec<Wire>>,
    wanted: usize,
    idle_limit: Duration,
    wanting: Notify,
}

// === impl Warm ===

impl Warm {
    /// Starts the keeper; must be called on a tokio runtime.
    pub fn start(target: Target, wanted: usize, idle_limit: Duration) -> Self {
        let idle = Mutex::new(Vec::with_capacity(wanted));
        let stock = Arc::new(Stock { target, idle, wanted, idle_limit, wanting: Notify::new() });
        let keeper = tokio::spawn(stock.clone().keep());
        Self { stock, keeper }
    }

    /// A connection that is ready for a request: from stock, or made now.
    pub async fn take(&self) -> Result<Wire, Fault> {
        let found = self.stock.take_ready();
        self.stock.wanting.notify_one();
        match found {
            Some(wire) => Ok(wire),
            None => Wire::open(&self.stock.target).await,
        }
    }

    /// Takes a connection back after a complete answer; keeps it if it can serve again.
    pub fn give_back(&self, mut wire: Wire) {
        if wire.is_ready() {
            let mut idle = self.stock.lock();
            if idle.len() < self.stock.wanted {
                idle.push(wire);
                return;
            }
        }
        self.stock.wanting.notify_one();
    }

    /// Connections in stock now.
    pub fn count(&self) -> usize {
        self.stock.lock().len()
    }
}

impl Drop for Warm {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

// === impl Stock ===

impl Stock {
    fn lock(&self) -> MutexGuard<'_, Vec<Wire>> {
        // A panic while holding it leaves the vector whole.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The most recently used one that is still good: bridges close those longest idle first.
    fn take_ready(&self) -> Option<Wire> {
        let mut idle = self.lock();
        while let Some(mut wire) = idle.pop() {
            if wire.idle_for() < self.idle_limit && wire.is_ready() {
                return Some(wire);
            }
        }
        None
    }

    fn sweep(&self) -> usize {
        let mut idle = self.lock();
        idle.retain_mut(|wire| wire.idle_for() < self.idle_limit && wire.is_ready());
        idle.len()
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
                        self.lock().insert(0, wire);
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
