//! What an operator asks of the leader: a bounded channel into the loop, so that nobody but the loop touches the book.
//!
//! A command waits in the channel at most as long as its asker does: one whose asker is gone is thrown away, so that a
//! close which nobody remembers does not act under a later leader.

use std::sync::Arc;

use tokio::sync::{Mutex, mpsc, oneshot};

use super::term::Term;
use crate::domain::cause::ExitCause;
use crate::domain::ids::PositionId;
use crate::domain::intent::OrderIntent;
use crate::domain::money::Quantity;
use crate::domain::order::OrderClass;
use crate::domain::position::Position;
use crate::ledger::change::IntentUpdate;
use crate::ledger::{Change, LedgerError};

/// Commands that may wait at once.
const WAITING: usize = 64;

/// What to close.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Select {
    /// Everything.
    All,
    /// One position.
    Position(PositionId),
    /// Every position of a tradable symbol or a configured instrument.
    Named(String),
}

impl Select {
    fn names(&self, position: &Position) -> bool {
        match self {
            Self::All => true,
            Self::Position(id) => position.id == *id,
            Self::Named(name) => [&position.symbol, &position.instrument].contains(&name),
        }
    }

    fn means(&self, intent: &OrderIntent) -> bool {
        match self {
            Self::All => true,
            Self::Position(id) => intent.position == *id,
            Self::Named(name) => [&intent.order.symbol, &intent.instrument].contains(&name),
        }
    }
}

/// A position that is being closed for an operator.
#[derive(Clone, PartialEq, Debug)]
pub struct Taken {
    /// Which.
    pub position: PositionId,
    /// Units held when the command was taken.
    pub held: Quantity,
    /// It was on its way out already: no second exit was made.
    pub under_way: bool,
}

/// What a command set off.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Closing {
    /// The positions.
    pub positions: Vec<Taken>,
    /// Entries on their way that it means: what they fill is closed at once.
    pub entries: usize,
}

/// A command with its way back.
#[derive(Debug)]
pub struct Close {
    select: Select,
    why: String,
    reply: oneshot::Sender<Closing>,
}

/// Why a command was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NotTaken {
    /// Too many commands wait.
    #[error("too many commands wait for the engine; try again in a second")]
    Busy,
    /// The term ended first.
    #[error(
        "leadership ended before the command was taken; try again: a repetition never makes a second exit"
    )]
    Ended,
}

/// The askers' side.
#[derive(Clone, Debug)]
pub struct Desk(mpsc::Sender<Close>);

/// The engine's side; whichever term serves holds it.
pub type Commands = Arc<Mutex<mpsc::Receiver<Close>>>;

/// A desk and where its commands arrive.
pub fn desk() -> (Desk, Commands) {
    let (sender, receiver) = mpsc::channel(WAITING);
    (Desk(sender), Arc::new(Mutex::new(receiver)))
}

impl Desk {
    /// Has the leader close what is selected; returns once it has been taken up. Dropping the future takes it back, if
    /// it was not.
    ///
    /// # Errors
    /// It was not taken; nothing was done.
    pub async fn close(&self, select: Select, why: String) -> Result<Closing, NotTaken> {
        let (reply, answer) = oneshot::channel();
        self.0.try_send(Close { select, why, reply }).map_err(|_| NotTaken::Busy)?;
        answer.await.map_err(|_| NotTaken::Ended)
    }
}

impl Term<'_> {
    /// Takes up an operator's close: the positions are due from now on, whatever switch is on.
    pub(super) async fn close_for_operator(&mut self, close: Close) -> Result<(), LedgerError> {
        if close.reply.is_closed() {
            return Ok(());
        }
        let now = self.fence().now();
        let named = self.book.portfolio.held().filter(|position| close.select.names(position));
        let named: Vec<(PositionId, Quantity)> =
            named.map(|position| (position.id, position.quantity)).collect();
        let entries = self.unwind(|intent| close.select.means(intent), &close.why).await?;
        let mut closing = Closing { entries, ..Closing::default() };
        for (position, held) in named {
            let under_way = self.book.closing.contains_key(&position);
            if self.book.close_by(position, ExitCause::Operator, close.why.clone(), now) {
                tracing::warn!(%position, under_way, "closed for an operator: {}", close.why);
            }
            closing.positions.push(Taken { position, held, under_way });
        }
        // The asker may have gone this very moment; what was taken up stays taken up, and is in the log.
        let _ = close.reply.send(closing);
        Ok(())
    }

    /// Marks the entries on their way that are meant, so that what they fill is closed at once; gives their number.
    pub(super) async fn unwind(
        &mut self,
        meant: impl Fn(&OrderIntent) -> bool,
        why: &str,
    ) -> Result<usize, LedgerError> {
        let entry = |i: &OrderIntent| i.class == OrderClass::Entry && !i.state.is_terminal() && meant(i);
        let entries: Vec<OrderIntent> =
            self.book.intents.values().map(|t| &t.intent).filter(|i| entry(i)).cloned().collect();
        let update = |intent: &OrderIntent| IntentUpdate {
            id: intent.id,
            state: intent.state,
            reason: Some(format!("{why}: a late fill is closed at once")),
            broker_order_id: None,
            filled: intent.filled,
            unwind: true,
        };
        let intents = entries.iter().filter(|intent| !intent.unwind).map(update).collect();
        self.commit(Change { intents, ..Change::default() }).await?;
        Ok(entries.len())
    }
}
