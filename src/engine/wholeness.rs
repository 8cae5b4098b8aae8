//! What this leader's own looks at stored state found since its term began: a term that goes by something else ends, and
//! the next one reads state back.

use std::sync::Arc;

use tokio::sync::watch;

/// Between whoever looks and the term; cheap to clone.
#[derive(Clone, Debug)]
pub struct Wholeness(Arc<watch::Sender<Option<bool>>>);

impl Default for Wholeness {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }
}

impl Wholeness {
    /// A look of the leader found stored state whole, or not.
    pub fn found(&self, whole: bool) {
        self.0.send_replace(Some(whole));
    }

    /// A term reads state back: what was found before says nothing about it.
    pub(super) fn reads(&self) {
        self.0.send_replace(None);
    }

    /// The last look found something else than the term goes by.
    pub(super) fn is_other(&self, custody: bool) -> bool {
        self.0.borrow().is_some_and(|whole| whole == custody)
    }

    /// Waits until one does.
    pub(super) async fn other(&self, custody: bool) {
        let mut found = self.0.subscribe();
        // The sender lives as long as this does.
        let _ = found.wait_for(|found| found.is_some_and(|whole| whole == custody)).await;
    }
}
