//! An operator's deposit or withdrawal: booked by the leader's loop, the only one that knows what the account is worth while it
//! trades, so that the next decision reckons with it.
//!
//! The movement, the aggregates, the high-water mark and the day's opening are one state change under the epoch. Whoever gets
//! no answer asks again with the same id: what was booked is found, and nothing moves twice.

use super::command::{Ask, Command, Desk, NotClosed};
use super::term::Term;
use crate::domain::cash::{Movement, REFUSED};
use crate::domain::refusal::Refusal;
use crate::failpoint;
use crate::ledger::cash::CashWrite;
use crate::ledger::change::PortfolioRow;
use crate::ledger::{Change, LedgerError};

/// What became of a movement: true when it was booked now, false when it was before; or why it is not.
pub type Booked = Result<bool, Refusal>;

/// The wish, with its way back.
#[derive(Debug)]
pub struct MoveCash {
    movement: Movement,
    who: String,
    why: String,
    ask: Ask<Booked>,
}

impl Desk {
    /// Has the leader book a movement for the operator `who`; returns once that is stored.
    ///
    /// # Errors
    /// Nothing was done, or it is not known: see [`NotClosed`].
    pub async fn move_cash(&self, movement: Movement, who: String, why: String) -> Result<Booked, NotClosed> {
        self.asked(|ask| Command::Cash(MoveCash { movement, who, why, ask })).await
    }
}

impl Term<'_> {
    /// Books a movement, once.
    pub(super) async fn move_cash(&mut self, wish: MoveCash) -> Result<(), LedgerError> {
        let MoveCash { movement, who, why, mut ask } = wish;
        if !ask.take_up() {
            return Ok(());
        }
        if let Some(custody) = &self.custody {
            ask.answer(Ok(Err(Refusal::new(REFUSED, custody.refusal().sentence))));
            return Ok(());
        }
        // A term that has not looked at its day yet would leave the opening behind: the movement would be the day's profit or loss.
        self.keep_day().await?;
        let stored = self.ask_pool(|| self.engine.ledger.cash_movement(movement.id)).await?;
        let settled = match stored {
            Some(stored) if stored.is(&movement) => Some(Ok(false)),
            Some(stored) => {
                let told = format!(
                    "{} is the id of a {} of ₹{} already: give another one a new id",
                    movement.id,
                    stored.kind,
                    stored.amount.abs().normalize()
                );
                Some(Err(Refusal::new(REFUSED, told)))
            }
            None => movement.refusal(&self.book.portfolio).map(Err),
        };
        if let Some(answer) = settled {
            ask.answer(Ok(answer));
            return Ok(());
        }
        let mut after = self.book.portfolio.clone();
        after.move_cash(movement.amount);
        let day = self.book.day.as_ref().map(|day| day.date);
        let cash = Some(CashWrite { movement, who: who.clone(), why: why.clone(), day });
        self.commit(Change { portfolio: Some(PortfolioRow::of(&after)), cash, ..Change::default() }).await?;
        failpoint::hit("cash_booked");
        let (kind, amount, equity) = (movement.kind, movement.amount, self.book.closed_equity());
        tracing::warn!(id = %movement.id, who, "[STATE] {kind} of ₹{amount}: the closed equity is ₹{equity}: {why}");
        ask.answer(Ok(Ok(true)));
        Ok(())
    }
}
