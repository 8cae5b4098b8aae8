//! The last instance stops and nobody takes over: the exit policy, in steps with a budget each.
//!
//! A term of its own: it reads the ledger and the broker's books back like every takeover, decides no signal, cancels
//! entries that rest at the broker, and under `flatten` sells everything that is held until the books show it flat.
//! `hold` sells nothing. Protective orders are never cancelled.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use ha::Fence;
use tokio_util::sync::CancellationToken;

use super::Engine;
use super::term::{End, Term};
use crate::domain::cause::ExitCause;
use crate::domain::ids::{IntentId, PositionId};
use crate::domain::intent::OrderIntent;
use crate::domain::order::{IntentState, OrderClass};
use crate::domain::request::Ask;
use crate::ledger::LedgerError;

/// How long each step may take.
#[derive(Clone, Copy, Debug)]
pub struct Budgets {
    /// Reading back and cancelling entries.
    pub cancel: Duration,
    /// Closing what is held.
    pub close: Duration,
    /// When everything has to be told.
    pub end: Instant,
}

/// One step and how it ended, for the log.
#[derive(Clone, Debug)]
pub struct Step {
    /// Its name.
    pub name: &'static str,
    /// Whether it did all it should.
    pub done: bool,
    /// What happened, in a sentence.
    pub outcome: String,
    /// How long it took.
    pub took: Duration,
}

impl Step {
    fn ended(name: &'static str, begun: Instant, outcome: Result<String, String>) -> Self {
        let (done, outcome) = match outcome {
            Ok(outcome) => (true, outcome),
            Err(outcome) => (false, outcome),
        };
        Self { name, done, outcome, took: begun.elapsed() }
    }
}

impl Engine {
    /// Carries the exit policy out under the leadership that `fence` proves; gives each step's outcome.
    pub async fn wind_down(&self, fence: Fence, flatten: bool, budgets: Budgets) -> Vec<Step> {
        let (begun, never) = (Instant::now(), CancellationToken::new());
        let taken = tokio::time::timeout(budgets.cancel, Term::take_over(self, fence, &never)).await;
        let mut term = match taken {
            Ok(Some(term)) => term,
            Ok(None) => {
                return vec![Step::ended(
                    "cancel",
                    begun,
                    Err("leadership ended: nothing was done".to_owned()),
                )];
            }
            Err(_) => {
                let outcome = "the ledger or the broker did not answer, or is not usable: nothing was cancelled or closed, \
                    positions stay as they are and nobody watches their stops"
                    .to_owned();
                return vec![Step::ended("cancel", begun, Err(outcome))];
            }
        };
        if term.custody.is_some() {
            let outcome = "stored state is damaged: nothing was cancelled or closed, positions stay as they are and nobody watches their stops".to_owned();
            return vec![Step::ended("cancel", begun, Err(outcome))];
        }
        let outcome = term.cancel_entries(begun + budgets.cancel).await;
        let mut steps = vec![Step::ended("cancel", begun, outcome)];
        if flatten {
            let begun = Instant::now();
            let outcome = term.sell_everything(budgets.end.min(begun + budgets.close)).await;
            steps.push(Step::ended("close", begun, outcome));
        }
        steps
    }
}

impl Term<'_> {
    /// Cancels entries that rest at the broker, and waits until the books show their end.
    async fn cancel_entries(&mut self, until: Instant) -> Result<String, String> {
        let mut asked = BTreeSet::new();
        self.end_all_paused().await?;
        let ended = self.turn_until(until, &mut asked, |term| term.resting_entries().next().is_none()).await;
        // Also where that failed: whoever starts next would go on with them.
        self.end_all_paused().await?;
        let ended = ended?;
        let doubted = self.open_entries().filter(|entry| !entry.state.is_live()).count();
        match (ended, asked.len(), doubted) {
            (true, 0, 0) => Ok("no entry rests at the broker".to_owned()),
            (true, resting, 0) => Ok(format!("{resting} resting entries ended")),
            (true, _, doubted) => Err(format!("{doubted} entries are in doubt: they may still be filled")),
            (false, resting, doubted) => Err(format!(
                "not all of {resting} resting entries are seen to have ended; {doubted} more are in doubt"
            )),
        }
    }

    /// Ends the entries that are between two orders: nobody orders their rest.
    async fn end_all_paused(&mut self) -> Result<(), String> {
        let paused = self.end_paused_entries(|_| true, "the last instance stops").await;
        paused.map_err(|error| error.to_string())
    }

    /// Entries that may still be filled.
    fn open_entries(&self) -> impl Iterator<Item = &OrderIntent> {
        let intents = self.book.intents.values().map(|tracked| &tracked.intent);
        intents.filter(|intent| intent.class == OrderClass::Entry && !intent.state.is_terminal())
    }

    fn resting_entries(&self) -> impl Iterator<Item = &OrderIntent> {
        self.open_entries().filter(|entry| entry.state.is_live())
    }

    async fn cancel_resting(&mut self, asked: &mut BTreeSet<IntentId>) -> Result<(), LedgerError> {
        let resting: Vec<IntentId> = self.resting_entries().map(|entry| entry.id).collect();
        for id in resting {
            if asked.insert(id) {
                self.request(id, Ask::Cancel, OrderClass::Operator).await?;
            }
        }
        Ok(())
    }

    /// Sells everything that is held, again and again, until the books show it flat; what an entry fills meanwhile, too.
    async fn sell_everything(&mut self, until: Instant) -> Result<String, String> {
        let why = "the last instance stops: flatten";
        self.unwind(|_| true, why).await.map_err(|error| error.to_string())?;
        let now = self.fence().now();
        let held: Vec<PositionId> = self.book.portfolio.held().map(|position| position.id).collect();
        for id in &held {
            self.book.close_by(*id, ExitCause::Shutdown, why.to_owned(), now);
        }
        let mut asked = self.resting_entries().map(|entry| entry.id).collect();
        let over =
            |term: &Self| term.book.portfolio.held().next().is_none() && term.open_entries().next().is_none();
        let ended = self.turn_until(until, &mut asked, over).await;
        self.end_all_paused().await?;
        if ended? {
            return Ok(format!("{} positions closed, flat by the broker's books", held.len()));
        }
        let open = self.book.portfolio.held().map(|position| {
            let exits = self.book.intents.values().map(|t| &t.intent);
            let last = exits
                .filter(|intent| {
                    intent.position == position.id && intent.class != OrderClass::Entry && !intent.rests()
                })
                .max_by_key(|intent| (intent.attempt, intent.id));
            let state = match last.map(|intent| intent.state) {
                None => "no order was sent",
                Some(IntentState::InDoubt | IntentState::Journaled) => "its exit is in doubt",
                Some(state) if state.is_live() => "its exit is not filled",
                Some(_) => "its exit was refused",
            };
            format!("{} of {}: {state}", position.quantity, position.symbol)
        });
        let entries = self.open_entries().map(|entry| {
            format!("{} of {}: its entry is not known to have ended", entry.remaining(), entry.order.symbol)
        });
        let left: Vec<String> = open.chain(entries).collect();
        let held = self.book.portfolio.held().next().is_some();
        Err(format!("{}: {}", if held { "still held" } else { "still to come" }, left.join("; ")))
    }

    /// Turns the loop without deciding signals until `done`, or until the time is over. Entries that rest at the broker
    /// are cancelled, each once, also those that come to light meanwhile.
    async fn turn_until(
        &mut self,
        until: Instant,
        asked: &mut BTreeSet<IntentId>,
        done: impl Fn(&Self) -> bool,
    ) -> Result<bool, String> {
        loop {
            self.cancel_resting(asked).await.map_err(|error| error.to_string())?;
            if done(self) {
                return Ok(true);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            match tokio::time::timeout(left, self.turn()).await {
                Ok(Ok(())) => {}
                Ok(Err(end)) => {
                    return Err(format!("{end}: what was sent is in doubt for whoever leads next"));
                }
                Err(_) => return Ok(false),
            }
        }
    }

    async fn turn(&mut self) -> Result<(), End> {
        self.engine.pulse.beat();
        let due = self.exits_due();
        let sent = match due.is_empty() {
            true => Ok(()),
            false => self.journal_and_send(due, Vec::new(), &std::collections::HashMap::new()).await,
        };
        if let Err(error) = sent {
            return Err(self.failed(error));
        }
        self.read_books_if_due();
        self.next_event().await
    }
}
