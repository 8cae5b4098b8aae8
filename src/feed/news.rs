//! News of orders: the order stream's word that something happened, handed to the engine as a reason to read the books.
//!
//! The stream is no evidence: it repeats itself, comes early, late or not at all, has no sequence, and one `complete` is
//! not to be believed. The books hold everything that an update can say. So an update is not queued but noted: notes
//! that nobody has taken yet are one, nothing is lost by it, and there is no queue to overflow.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

/// Notes from the feed to the engine; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct OrderNews(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    count: AtomicU64,
    news: Notify,
}

impl OrderNews {
    /// Notes that the books may hold something new.
    pub fn note(&self) {
        self.0.count.fetch_add(1, Ordering::Relaxed);
        self.0.news.notify_one();
    }

    /// Waits until there is something that the last call did not know. For one reader.
    pub async fn arrived(&self) {
        self.0.news.notified().await;
    }

    /// Notes so far.
    pub fn count(&self) -> u64 {
        self.0.count.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_note_waits_for_its_reader_and_many_are_one() {
        let news = OrderNews::default();
        assert!(news.arrived().now_or_never().is_none());
        for _ in 0..10_000 {
            news.note();
        }
        assert!(news.arrived().now_or_never().is_some());
        assert!(news.arrived().now_or_never().is_none());
        assert_eq!(news.count(), 10_000);
    }
}
