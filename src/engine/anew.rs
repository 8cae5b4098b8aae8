//! Entries that provably never left, decided anew.
//!
//! A leader that cannot prove its leadership at the last check withholds what it has journaled; one whose journaling was
//! committed and the answer lost never had it to send. Neither order can exist. An exit is made anew until its position is
//! flat; an entry goes back into its lane: its signal's age, the live price, sizing and gates are judged as they are by then,
//! and what is ordered is another intent. What the bridge or the broker turned down is not tried again.

use super::book::Book;
use super::term::Term;
use crate::broker::NotSentCause;
use crate::domain::ids::SignalId;
use crate::domain::intent::OrderIntent;
use crate::domain::order::{IntentState, OrderClass};
use crate::telemetry::traces;

/// Intents of one entry signal.
const ATTEMPTS: i32 = 5;

/// What a word begins with that is said of orders which nobody was given to send.
pub(super) const NEVER_GIVEN_OUT: &str = "never given out to be sent";

/// True if a word of why an order never left speaks of this agent, not of what a bridge said.
pub(super) fn is_own(word: &str) -> bool {
    [NEVER_GIVEN_OUT, NotSentCause::Deadline.as_str()].iter().any(|own| word.starts_with(own))
}

/// The signal to decide anew when this intent is proven not to have been sent. None where an EXIT came meanwhile that
/// means it.
pub(super) fn signal_of(intent: &OrderIntent) -> Option<SignalId> {
    let wanted = intent.class == OrderClass::Entry && !intent.unwind && intent.attempt + 1 < ATTEMPTS;
    intent.signal.filter(|_| wanted)
}

/// True for an order of an entry that this agent withheld, and that another one may take the place of.
pub(super) fn may_follow(intent: &OrderIntent) -> bool {
    signal_of(intent).is_some() && intent.reason.as_deref().is_some_and(is_own)
}

/// True where no order of an entry's signal ever left. Otherwise what an order of it left is ordered once more (`bids::rest`).
pub(super) fn is_all_unsent(book: &Book, signal: SignalId) -> bool {
    let mut orders = book.intents.values().filter(|tracked| tracked.intent.signal == Some(signal));
    orders.all(|tracked| tracked.intent.state == IntentState::NotSent)
}

impl Term<'_> {
    /// Has the next sweep put a signal back into its lane; its intents' ends are committed, its own is not. One of which an
    /// order left before is not decided anew: it goes on from what that bought.
    pub(super) fn decide_anew(&mut self, signal: SignalId) {
        if is_all_unsent(&self.book, signal) {
            tracing::info!(%signal, trace_id = %traces::of_signal(signal), "its order was never sent: decided anew");
            self.book.working.remove(&signal);
        }
        self.sweep_now();
    }
}
