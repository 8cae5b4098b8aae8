//! Signals that this member has stored itself, handed to its own term in memory.
//!
//! The inbox is what counts, and a reading of it is what finds every signal. One that the leader takes in itself needs none:
//! its row's insert has told all that a reading would. So it is expected before the insert, and handed over behind it, once:
//! whichever is first, the handover or a reading, takes it out here, and the other finds nothing. What is not handed over (no
//! term is open, another began meanwhile, a signal before it on its instrument is unfinished) a reading finds.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::term::{LANE_LIMIT, Term};
use crate::domain::ids::SignalId;
use crate::ledger::LedgerError;
use crate::ledger::inbox::PendingSignal;

/// What lies between the webhook and the term; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Handed(Arc<Counter>);

#[derive(Debug, Default)]
struct Counter {
    signals: Mutex<Signals>,
    news: Notify,
}

/// Signals that are being stored, and those that are.
#[derive(Debug, Default)]
struct Signals {
    /// A term takes them.
    open: bool,
    waiting: BTreeMap<SignalId, Option<PendingSignal>>,
}

/// A signal that is being stored; forgotten where this is dropped before it was handed over.
#[derive(Debug)]
pub struct Expected {
    handed: Handed,
    id: SignalId,
}

// === impl Handed ===

impl Handed {
    /// A signal is about to be stored here.
    pub fn expect(&self, id: SignalId) -> Expected {
        let mut signals = self.lock();
        if signals.open && signals.waiting.len() < LANE_LIMIT {
            signals.waiting.insert(id, None);
        }
        Expected { handed: self.clone(), id }
    }

    /// A term takes what is expected from now on; what was expected before, whoever led then, is for a reading.
    pub(super) fn open(&self) {
        *self.lock() = Signals { open: true, waiting: BTreeMap::new() };
    }

    /// No term takes anything.
    pub(super) fn close(&self) {
        *self.lock() = Signals::default();
    }

    /// A reading has it.
    pub(super) fn found(&self, id: SignalId) {
        self.lock().waiting.remove(&id);
    }

    /// Returns once a signal was handed over.
    pub(super) async fn news(&self) {
        self.0.news.notified().await;
    }

    /// What was handed over, in inbox order.
    pub(super) fn take(&self) -> Vec<PendingSignal> {
        let mut signals = self.lock();
        let stored = signals.waiting.extract_if(.., |_, stored| stored.is_some());
        let mut taken: Vec<PendingSignal> = stored.filter_map(|(_, stored)| stored).collect();
        taken.sort_by_key(|pending| pending.seq);
        taken
    }

    fn lock(&self) -> MutexGuard<'_, Signals> {
        // Entries are put in or taken out; nothing panics in between.
        self.0.signals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Expected ===

impl Expected {
    /// Its row can be seen. False where it is left to a reading.
    pub fn hand_over(&self, pending: PendingSignal) -> bool {
        let mut signals = self.handed.lock();
        let Some(place) = signals.waiting.get_mut(&self.id) else { return false };
        *place = Some(pending);
        drop(signals);
        self.handed.0.news.notify_one();
        true
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        let mut signals = self.handed.lock();
        if signals.waiting.get(&self.id).is_some_and(Option::is_none) {
            signals.waiting.remove(&self.id);
        }
    }
}

impl Term<'_> {
    /// Puts what was handed over into its lanes. Beyond their room a reading finds it, when there is some.
    pub(super) async fn take_handed(&mut self) -> Result<(), LedgerError> {
        for pending in self.engine.coming.handed.take() {
            if self.lanes.len() < LANE_LIMIT {
                self.admit(pending).await?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pending(id: SignalId, seq: i64) -> PendingSignal {
        PendingSignal::fresh(id, seq, json!({}))
    }

    fn seqs(handed: &Handed) -> Vec<i64> {
        handed.take().iter().map(|pending| pending.seq).collect()
    }

    #[test]
    fn a_signal_is_handed_over_once_and_in_inbox_order() {
        let (handed, [first, next]) = (Handed::default(), [SignalId::new(), SignalId::new()]);
        handed.open();
        let expected = [handed.expect(first), handed.expect(next)];
        assert_eq!(seqs(&handed), [0; 0], "neither is stored");
        assert!(expected[1].hand_over(pending(next, 8)) && expected[0].hand_over(pending(first, 7)));
        drop(expected);
        assert_eq!(seqs(&handed), [7, 8]);
        assert_eq!(seqs(&handed), [0; 0]);
    }

    #[test]
    fn what_a_reading_found_is_not_handed_over_too() {
        let (handed, id) = (Handed::default(), SignalId::new());
        handed.open();
        let expected = handed.expect(id);
        handed.found(id);
        assert!(!expected.hand_over(pending(id, 7)), "its row was read before its sender's task went on");
        let late = handed.expect(id);
        assert!(late.hand_over(pending(id, 7)));
        handed.found(id);
        assert_eq!(seqs(&handed), [0; 0], "it was read before the term came to it");
    }

    #[test]
    fn nothing_is_handed_from_one_term_to_another() {
        let (handed, id) = (Handed::default(), SignalId::new());
        assert!(!handed.expect(id).hand_over(pending(id, 7)), "nobody leads here");
        handed.open();
        let expected = handed.expect(id);
        handed.close();
        handed.open();
        assert!(!expected.hand_over(pending(id, 7)), "another leader may have decided it meanwhile");
        let taken = handed.expect(id);
        assert!(taken.hand_over(pending(id, 7)));
        handed.close();
        assert_eq!(seqs(&handed), [0; 0]);
    }

    #[test]
    fn a_delivery_that_ends_unstored_leaves_nothing() {
        let handed = Handed::default();
        handed.open();
        drop(handed.expect(SignalId::new()));
        assert!(handed.lock().waiting.is_empty());
    }
}
