//! What an operator asks of the leader: a bounded channel into the loop, so that nobody but the loop touches the book.
//!
//! A command waits in the channel at most as long as its asker does: one whose asker is gone is thrown away, so that a
//! close which nobody remembers does not act under a later leader.

use std::sync::Arc;

use tokio::sync::{Mutex, mpsc, oneshot};

use super::term::Term;
use crate::domain::cause::ExitCause;
use crate::domain::ids::{IntentId, PositionId};
use crate::domain::intent::OrderIntent;
use crate::domain::money::Quantity;
use crate::domain::order::OrderClass;
use crate::domain::position::{HoldingKey, Position};
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
    pub(super) fn names(&self, position: &Position) -> bool {
        match self {
            Self::All => true,
            Self::Position(id) => position.id == *id,
            Self::Named(name) => [&position.symbol, &position.instrument].contains(&name),
        }
    }

    /// Of a contract that is closed: not only another position of it is meant.
    pub(super) fn includes(&self, id: PositionId) -> bool {
        !matches!(self, Self::Position(other) if *other != id)
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

/// A contract that a custodian closes by the broker's verified book, beside the ledger's positions.
#[derive(Clone, PartialEq, Debug)]
pub struct Beside {
    /// The order.
    pub id: IntentId,
    /// Of what.
    pub contract: HoldingKey,
    /// Units that the book holds.
    pub held: Quantity,
    /// Units of them that orders on their way may still sell.
    pub out: Quantity,
    /// Units that the order sells; none was sent when zero.
    pub units: Quantity,
}

/// What a command set off.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Closing {
    /// The positions.
    pub positions: Vec<Taken>,
    /// Contracts whose rows are damaged.
    pub beside: Vec<Beside>,
    /// Entries on their way that it means: what they fill is closed at once.
    pub entries: usize,
}

/// A command with its way back.
#[derive(Debug)]
pub struct Close {
    pub(super) select: Select,
    pub(super) why: String,
    reply: oneshot::Sender<Result<Closing, NotTaken>>,
}

impl Close {
    /// Nobody waits for the answer any more.
    pub(super) fn is_forgotten(&self) -> bool {
        self.reply.is_closed()
    }

    /// Says what became of it.
    pub(super) fn answer(self, answer: Result<Closing, NotTaken>) {
        // The asker may have gone this very moment; what was taken up stays taken up, and is in the log.
        let _ = self.reply.send(answer);
    }
}

/// Why a command was not taken.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NotTaken {
    /// Too many commands wait.
    #[error("too many commands wait for the engine; try again in a second")]
    Busy,
    /// The term ended first.
    #[error(
        "leadership ended before the command was taken; try again: a repetition never makes a second exit"
    )]
    Ended,
    /// Stored state is damaged, and what the broker holds could not be verified.
    #[error("stored state is damaged and the broker's book could not be verified: {0}; nothing was done")]
    Unverified(String),
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
        answer.await.map_err(|_| NotTaken::Ended)?
    }
}

impl Term<'_> {
    /// Takes up an operator's close: the positions are due from now on, whatever switch is on.
    pub(super) async fn close_for_operator(&mut self, close: Close) -> Result<(), LedgerError> {
        if close.is_forgotten() {
            return Ok(());
        }
        if self.custody.is_some() {
            return self.close_in_custody(close).await;
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
        close.answer(Ok(closing));
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
