//! What an operator asks of the leader: a bounded channel into the loop, so that nobody but the loop touches the book.
//!
//! A command waits in the channel at most as long as its asker does: one whose asker is gone is thrown away, so that a
//! close which nobody remembers does not act under a later leader. Taking it up is a step of its own, said before
//! anything is done: an asker who gave up knows whether that was in time. What was taken is answered after it is stored,
//! so that it outlives the term.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::Instant;

use super::cash::MoveCash;
use super::dropping::DropSignal;
use super::rehearsal::Rehearse;
use super::term::Term;
use crate::domain::cause::ExitCause;
use crate::domain::ids::{IntentId, PositionId};
use crate::domain::intent::OrderIntent;
use crate::domain::money::Quantity;
use crate::domain::order::OrderClass;
use crate::domain::position::{HoldingKey, Position};
use crate::failpoint;
use crate::ledger::change::IntentUpdate;
use crate::ledger::exits::{ExitView, Outcome};
use crate::ledger::wishes::Wish;
use crate::ledger::{Change, Ledger, LedgerError};

/// Commands that may wait at once.
const WAITING: usize = 64;
/// How long the leader's loop may take to take a command up.
const TAKE_UP: Duration = Duration::from_secs(4);
/// How long storing it may take then: a little longer than the loop waits for the ledger.
const STORE: Duration = Duration::from_millis(3500);

/// How long an answer waits for the fills.
pub const FILLS: Duration = Duration::from_secs(3);
/// Between two looks at the ledger.
const LOOK: Duration = Duration::from_millis(25);

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

/// What the loop is asked for.
#[derive(Debug)]
pub enum Command {
    /// To close positions.
    Close(Close),
    /// To book a deposit or withdrawal.
    Cash(MoveCash),
    /// Not to decide a signal that waits.
    Drop(DropSignal),
    /// What it would do about a signal.
    Rehearse(Rehearse),
}

/// A command's way back.
#[derive(Debug)]
pub(super) struct Ask<T> {
    taken: Option<oneshot::Sender<()>>,
    reply: oneshot::Sender<Result<T, NotClosed>>,
}

impl<T> Ask<T> {
    /// Takes the command up; false when its asker has taken it back before.
    pub(super) fn take_up(&mut self) -> bool {
        self.taken.take().is_some_and(|taken| taken.send(()).is_ok())
    }

    /// Says what became of it.
    pub(super) fn answer(self, answer: Result<T, NotClosed>) {
        // The asker may have gone this very moment; what was taken up stays taken up, and is in the log.
        let _ = self.reply.send(answer);
    }
}

/// An operator's close.
#[derive(Debug)]
pub struct Close {
    pub(super) select: Select,
    by: String,
    pub(super) why: String,
    ask: Ask<Closing>,
}

impl Close {
    /// Nobody waits for the answer any more.
    pub(super) fn is_forgotten(&self) -> bool {
        self.ask.reply.is_closed()
    }

    /// Says what became of it.
    pub(super) fn answer(self, answer: Result<Closing, NotClosed>) {
        self.ask.answer(answer);
    }
}

/// Why a command has no answer.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NotClosed {
    /// Too many commands wait.
    #[error("too many commands wait for the engine; nothing was done, try again in a second")]
    Busy,
    /// The loop did not come to it in time, and will not any more.
    #[error(
        "the engine did not take the command up within {} s (it is taking over, or the database hangs); nothing was done, \
         try again",
        TAKE_UP.as_secs()
    )]
    NotTaken,
    /// It was taken up, and the ledger failed or the term ended before it was known to be stored.
    #[error(
        "the engine took the command up, and whether it is stored is not known: the database did not answer, or \
         leadership ended; ask again: a repetition never makes a second exit"
    )]
    Unknown,
    /// Stored state is damaged, and what the broker holds could not be verified.
    #[error("stored state is damaged and the broker's book could not be verified: {0}; nothing was done")]
    Unverified(String),
}

/// Too many commands wait, or there is no loop any more.
pub(super) struct Full;

/// The askers' side.
#[derive(Clone, Debug)]
pub struct Desk(mpsc::Sender<Command>);

/// The engine's side; whichever term serves holds it.
pub type Commands = Arc<Mutex<mpsc::Receiver<Command>>>;

/// A desk and where its commands arrive.
pub fn desk() -> (Desk, Commands) {
    let (sender, receiver) = mpsc::channel(WAITING);
    (Desk(sender), Arc::new(Mutex::new(receiver)))
}

impl Desk {
    /// Puts a command where the loop finds it.
    pub(super) fn put(&self, command: Command) -> Result<(), Full> {
        self.0.try_send(command).map_err(|_| Full)
    }

    /// Has the leader close what is selected, for the operator `by`; returns once that is stored. Dropping the future
    /// takes it back, if it was not taken up.
    ///
    /// # Errors
    /// Nothing was done, or it is not known: see [`NotClosed`].
    pub async fn close(&self, select: Select, by: String, why: String) -> Result<Closing, NotClosed> {
        self.asked(|ask| Command::Close(Close { select, by, why, ask })).await
    }

    /// Has the loop do what `command` says; returns once that is stored. Dropping the future takes it back, if it was not
    /// taken up.
    pub(super) async fn asked<T>(&self, command: impl FnOnce(Ask<T>) -> Command) -> Result<T, NotClosed> {
        let ((taken, mut taking), (reply, answer)) = (oneshot::channel(), oneshot::channel());
        self.put(command(Ask { taken: Some(taken), reply })).map_err(|_| NotClosed::Busy)?;
        let in_time = tokio::time::timeout(TAKE_UP, &mut taking).await.is_ok_and(|taken| taken.is_ok());
        if !in_time {
            // From here on it cannot be taken up any more; it may have been, this very moment.
            taking.close();
            taking.try_recv().map_err(|_| NotClosed::NotTaken)?;
        }
        match tokio::time::timeout(STORE, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err(NotClosed::Unknown),
        }
    }
}

impl Closing {
    /// Waits for the fills, until a moment at the longest, and reads how far each position and each sale beside the
    /// positions is: as it was last seen, or nothing if the ledger never said. What was taken up goes on all the same.
    pub async fn progress(&self, ledger: &Ledger, until: Instant) -> Option<Vec<ExitView>> {
        let ids: Vec<PositionId> = self.positions.iter().map(|taken| taken.position).collect();
        let sent = self.beside.iter().filter(|beside| beside.units > Quantity::ZERO);
        let sent: Vec<IntentId> = sent.map(|beside| beside.id).collect();
        let look = async || -> Result<Vec<ExitView>, LedgerError> {
            let mut views = ledger.exits_of(&ids).await?;
            views.extend(ledger.sales_beside(&sent).await?);
            Ok(views)
        };
        let mut seen = None;
        while let Ok(read) = tokio::time::timeout_at(until, look()).await {
            match read {
                Ok(views) if views.iter().all(|view| view.outcome == Outcome::Filled) => return Some(views),
                Ok(views) => seen = Some(views),
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "how far a close is could not be read"
                    );
                }
            }
            if Instant::now() >= until {
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
        seen
    }
}

impl Term<'_> {
    /// Takes up an operator's close: the positions are due from now on, whatever switch is on and whoever leads.
    pub(super) async fn close_for_operator(&mut self, close: Close) -> Result<(), LedgerError> {
        let mut close = close;
        if !close.ask.take_up() {
            return Ok(());
        }
        failpoint::hit("close_taken");
        if self.custody.is_some() {
            return self.close_in_custody(close).await;
        }
        let Close { select, by, why, ask } = close;
        self.end_paused_entries(|intent| select.means(intent), &why).await?;
        let named = self.book.portfolio.held().filter(|position| select.names(position));
        let positions = named.map(|position| Taken {
            position: position.id,
            held: position.quantity,
            under_way: self.book.closing.contains_key(&position.id),
        });
        let positions: Vec<Taken> = positions.collect();
        let wanted = positions.iter().filter(|p| self.book.is_news_to(p.position, ExitCause::Operator));
        let wishes: Vec<Wish> =
            wanted.map(|p| Wish { position: p.position, by: by.clone(), why: why.clone() }).collect();
        let (entries, intents) = self.unwound(|intent| select.means(intent), &why);
        let told: Vec<PositionId> = wishes.iter().map(|wish| wish.position).collect();
        self.commit(Change { intents, wishes, ..Change::default() }).await?;
        for position in told {
            tracing::warn!(%position, "closed for an operator: {why}");
        }
        ask.answer(Ok(Closing { positions, entries, ..Closing::default() }));
        Ok(())
    }

    /// Marks the entries on their way that are meant, so that what they fill is closed at once.
    pub(super) async fn unwind(
        &mut self,
        meant: impl Fn(&OrderIntent) -> bool,
        why: &str,
    ) -> Result<(), LedgerError> {
        let (_, intents) = self.unwound(meant, why);
        self.commit(Change { intents, ..Change::default() }).await
    }

    /// The entries on their way that are meant: how many, and the marks by which what they fill is closed at once.
    fn unwound(&self, meant: impl Fn(&OrderIntent) -> bool, why: &str) -> (usize, Vec<IntentUpdate>) {
        let meant = |intent: &&OrderIntent| {
            intent.class == OrderClass::Entry && !intent.state.is_terminal() && meant(intent)
        };
        let entries: Vec<&OrderIntent> =
            self.book.intents.values().map(|t| &t.intent).filter(meant).collect();
        let update = |intent: &&OrderIntent| IntentUpdate {
            id: intent.id,
            state: intent.state,
            reason: Some(format!("{why}: a late fill is closed at once")),
            broker_order_id: None,
            filled: intent.filled,
            unwind: true,
        };
        (entries.len(), entries.iter().filter(|intent| !intent.unwind).map(update).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_command_that_nobody_takes_up_in_time_is_never_taken_up() {
        let (desk, commands) = desk();
        let answer = desk.close(Select::All, "asha".to_owned(), "asha: news".to_owned()).await;
        assert_eq!(answer, Err(NotClosed::NotTaken));
        let Some(Command::Close(mut late)) = commands.lock().await.recv().await else { panic!("no close") };
        assert!(!late.ask.take_up(), "the loop sees that it is too late");
    }

    #[tokio::test]
    async fn a_command_that_was_taken_up_and_never_answered_is_not_called_undone() {
        let (desk, commands) = desk();
        let asked = desk.close(Select::All, "asha".to_owned(), "asha: news".to_owned());
        let term_ends = async {
            let Some(Command::Close(mut taken)) = commands.lock().await.recv().await else {
                panic!("no close")
            };
            assert!(taken.ask.take_up());
        };
        assert_eq!(tokio::join!(asked, term_ends).0, Err(NotClosed::Unknown));
    }
}
