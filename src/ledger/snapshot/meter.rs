//! How far the reading of a snapshot has come, for whoever waits for it.

use std::sync::atomic::{AtomicU64, Ordering};

/// The statements that a snapshot is read with; they run side by side.
pub const READS: u64 = 19;

/// Counts while a snapshot is read.
#[derive(Debug, Default)]
pub struct Meter {
    rows: AtomicU64,
    reads: AtomicU64,
}

impl Meter {
    /// Rows that have come so far.
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    /// Statements of [`READS`] that are done.
    pub fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    pub(super) fn row(&self) {
        self.rows.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn read(&self) {
        self.reads.fetch_add(1, Ordering::Relaxed);
    }
}
