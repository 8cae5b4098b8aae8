//! Orders whose sender is known to have written nothing, or to be no more.
//!
//! An intent can be left without an outcome though its sender knows one: its journaling was committed and the answer
//! lost, so nobody ever had it to send; or the fence closed before the write, and the term that would have recorded it
//! was over. The sender's word goes into the ledger, beside the state, and whoever leads acts on it.
//!
//! And while it is not known how soon the bridge closes an idle connection, an exit's absence proves nothing for as long
//! as a process lives that may still write it: one that was stopped between its last check and the write.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::anew;
use super::draft::Draft;
use super::process;
use super::term::{Event, Term, wall_clock};
use crate::broker::{NotSentCause, Submission};
use crate::domain::ids::IntentId;
use crate::domain::order::{IntentState, OrderClass};
use crate::ledger::{Ledger, LedgerError};

/// The first wait before a word is given again, to a database that is away or has not committed the row yet; doubled.
const RETRY: Duration = Duration::from_millis(100);
const RETRY_AT_MOST: Duration = Duration::from_secs(5);
/// How often it is tried: ten minutes. By then the row is where it will be.
const TRIES: u32 = 120;

/// Intents that a task of this process may still write; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Sending(Arc<Mutex<BTreeSet<IntentId>>>);

/// One of them; out of the set when it is dropped.
pub(super) struct Underway {
    sending: Sending,
    id: IntentId,
}

impl Sending {
    pub(super) fn begin(&self, id: IntentId) -> Underway {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
        Underway { sending: self.clone(), id }
    }

    fn holds(&self, id: IntentId) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&id)
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        self.sending.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

/// Gives the word that no byte of these intents left, until the ledger has it.
pub(super) async fn say_unsent(ledger: Ledger, intents: Vec<IntentId>, why: String) {
    let (mut wait, wanted) = (RETRY, intents.len() as u64);
    for _ in 0..TRIES {
        match ledger.note_unsent(&intents, &why).await {
            Ok(noted) if noted == wanted => {
                tracing::info!(?intents, "[RECOVERY] known not to have been sent: {why}");
                return;
            }
            // Never committed, resolved otherwise, or not committed yet.
            Ok(_) => {}
            Err(error) => tracing::debug!(error = &error as &dyn std::error::Error, "not noted yet"),
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(RETRY_AT_MOST);
    }
}

/// What proves that an event's order never left, where something does.
pub(super) fn proof(event: &Event) -> Option<(IntentId, String)> {
    match event {
        Event::Outcome(outcome) => word(outcome.id, &outcome.submission),
        _ => None,
    }
}

/// The same, of how a submission ended.
pub(super) fn word(id: IntentId, submission: &Submission) -> Option<(IntentId, String)> {
    match submission {
        Submission::NotSent { reason, cause } if *cause != NotSentCause::QueuedForHuman => {
            Some((id, format!("{cause}: {reason}")))
        }
        _ => None,
    }
}

impl Term<'_> {
    /// Takes in what senders of earlier terms say of orders in doubt, and which of them are no more.
    pub(super) async fn hear_senders(&mut self) -> Result<(), LedgerError> {
        let doubted: Vec<IntentId> = self.book.in_doubt().map(|tracked| tracked.intent.id).collect();
        if doubted.is_empty() {
            return Ok(());
        }
        for (id, why) in self.patiently(self.engine.ledger.unsent(&doubted)).await? {
            let Some(tracked) = self.book.intents.get(&id) else { continue };
            let mut draft = Draft::new(&self.book, &self.engine.rules, wall_clock());
            let anew = anew::signal_of(&tracked.intent).filter(|_| anew::is_own(&why));
            draft.intent(tracked, IntentState::NotSent, Some(why), None);
            anew.into_iter().for_each(|signal| draft.keep(signal));
            let change = draft.finish();
            self.commit(change).await?;
            anew.into_iter().for_each(|signal| self.decide_anew(signal));
        }
        self.look_for_senders().await
    }

    /// Finds out which exits in doubt nobody can write any more. What was written at the last moment is on its way for U,
    /// and takes B to appear: both count from now.
    async fn look_for_senders(&mut self) -> Result<(), LedgerError> {
        let me = self.fence().instance().incarnation.as_uuid();
        let open = self.book.in_doubt().filter(|t| t.intent.class != OrderClass::Entry && !t.silent);
        let senders: Vec<(IntentId, uuid::Uuid)> =
            open.filter_map(|t| Some((t.intent.id, t.intent.incarnation?))).collect();
        let others: BTreeSet<uuid::Uuid> =
            senders.iter().map(|(_, sender)| *sender).filter(|sender| *sender != me).collect();
        let mut ended = BTreeSet::new();
        if let (false, Some(own)) = (others.is_empty(), process::own()) {
            let others: Vec<uuid::Uuid> = others.into_iter().collect();
            let processes = self.patiently(self.engine.ledger.processes(&others)).await?;
            let gone = processes.iter().filter(|(_, row)| process::has_ended(row, &own));
            ended.extend(gone.map(|(sender, _)| *sender));
        }
        let now = self.fence().now();
        for (id, sender) in senders {
            let silent = ended.contains(&sender) || (sender == me && !self.engine.sending.holds(id));
            if let Some(tracked) = self.book.intents.get_mut(&id).filter(|_| silent) {
                tracked.silent = true;
                tracked.sent_by = tracked.sent_by.max(now);
            }
        }
        Ok(())
    }
}

impl Drop for Term<'_> {
    /// Nothing is handed to this term any more. Of outcomes that came too late for it: the next one, whoever's it is, need
    /// not wonder about those that were never sent.
    fn drop(&mut self) {
        self.engine.coming.handed.close();
        for (id, why) in self.last_words() {
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                runtime.spawn(say_unsent(self.engine.ledger.clone(), vec![id], why));
            }
        }
    }
}
