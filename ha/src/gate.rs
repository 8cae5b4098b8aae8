//! What lets a send through: an epoch, its deadline, and whether it was closed. No I/O and no clock; a
//! [`Fence`](crate::Fence) is a gate together with the session that authorises.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

use crate::clock::Moment;
use crate::fence::Fenced;
use crate::ids::Epoch;

/// Open until its deadline or until it is closed, whichever comes first. Once closed it stays closed.
#[derive(Debug)]
pub struct Gate {
    epoch: Epoch,
    deadline: AtomicU64,
    closed: watch::Sender<Option<Arc<str>>>,
}

// === impl Gate ===

impl Gate {
    /// A gate that is open until `deadline`.
    pub fn new(epoch: Epoch, deadline: Moment) -> Self {
        Self { epoch, deadline: AtomicU64::new(deadline.as_nanos()), closed: watch::Sender::new(None) }
    }

    /// The epoch it belongs to.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The moment after which nothing may be sent; each confirmed heartbeat moves it.
    pub fn deadline(&self) -> Moment {
        Moment::from_nanos(self.deadline.load(Ordering::Acquire))
    }

    /// Lets a send through at `now` and returns the deadline it must be written before, or says why not.
    pub fn check(&self, now: Moment) -> Result<Moment, Fenced> {
        if let Some(why) = self.closed.borrow().clone() {
            return Err(Fenced::Closed { epoch: self.epoch, why });
        }
        let deadline = self.deadline();
        if now >= deadline {
            let late_ms = now.since(deadline).as_millis();
            return Err(Fenced::Late { epoch: self.epoch, late_ms });
        }
        Ok(deadline)
    }

    /// Moves the deadline forward, never back. Only a heartbeat that was confirmed before the old one may.
    pub fn extend(&self, deadline: Moment) {
        self.deadline.fetch_max(deadline.as_nanos(), Ordering::AcqRel);
    }

    /// Closes it for good; the first reason stands.
    pub fn close(&self, why: &str) {
        self.closed.send_if_modified(|closed| {
            let first = closed.is_none();
            if first {
                *closed = Some(Arc::from(why));
            }
            first
        });
    }

    /// What closed it, if anything did.
    pub fn why_closed(&self) -> Option<Arc<str>> {
        self.closed.borrow().clone()
    }

    /// Waits until it is closed.
    pub async fn closed(&self) -> Arc<str> {
        let mut closed = self.closed.subscribe();
        loop {
            if let Some(why) = closed.borrow_and_update().clone() {
                return why;
            }
            if closed.changed().await.is_err() {
                return Arc::from("the fence was dropped");
            }
        }
    }
}
