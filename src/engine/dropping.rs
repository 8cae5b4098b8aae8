//! An operator's word that a signal which waits is not to be decided any more.
//!
//! Only the leader's loop decides signals, so only there it is certain that one was not decided yet: dropped is what waits
//! in its lane, and nothing else. What has an order out, or had one that may have reached the broker, is in no lane.

use super::command::{Ask, Command, Desk, NotClosed};
use super::term::Term;
use crate::domain::ids::SignalId;
use crate::domain::refusal::Refusal;
use crate::ledger::LedgerError;

/// The wish, with its way back.
#[derive(Debug)]
pub struct DropSignal {
    id: SignalId,
    why: String,
    ask: Ask<bool>,
}

impl Desk {
    /// Has the leader end a signal before it is decided; `why` names the operator. Returns once that is stored: true, or
    /// false when no such signal waits.
    ///
    /// # Errors
    /// Nothing was done, or it is not known: see [`NotClosed`].
    pub async fn drop_signal(&self, id: SignalId, why: String) -> Result<bool, NotClosed> {
        self.asked(|ask| Command::Drop(DropSignal { id, why, ask })).await
    }
}

impl Term<'_> {
    /// Refuses a signal that waits, in the operator's name.
    pub(super) async fn drop_signal(&mut self, wish: DropSignal) -> Result<(), LedgerError> {
        let DropSignal { id, why, mut ask } = wish;
        if !ask.take_up() {
            return Ok(());
        }
        // One that was stored a moment ago may not be in its lane yet.
        let seen = self.sweep().await;
        self.bearable(seen)?;
        let Some(kind) = self.lanes.find(id).map(|waiting| waiting.queued.signal.kind()) else {
            ask.answer(Ok(false));
            return Ok(());
        };
        let dropped = Refusal::new("DROPPED", format!("dropped before it was decided, by {why}"));
        self.refuse(id, Some(kind), &[dropped], None).await?;
        ask.answer(Ok(true));
        Ok(())
    }
}
