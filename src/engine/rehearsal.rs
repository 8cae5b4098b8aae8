//! A dry run: what the leader would do about a signal at this moment, decided over a copy of its own book by the very
//! function that decides signals. Nothing is stored, journaled or sent, and the book stays as it is.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use tokio::sync::oneshot;

use super::book::{Book, Queued};
use super::command::{Command, Desk};
use super::decide::{Decision, Rules, decide, quotes_needed};
use super::holdings::drift_on;
use super::lanes::{Waiting, may_decide};
use super::term::{Term, wall_clock};
use crate::broker::Broker;
use crate::broker::session::SessionState;
use crate::domain::ids::{PositionId, SignalId};
use crate::domain::intent::OrderIntent;
use crate::domain::label::Label;
use crate::domain::money::{Price, Quantity};
use crate::domain::order::{OrderClass, PriceType, Product, Side};
use crate::domain::portfolio::Quotes;
use crate::domain::position::Position;
use crate::domain::refusal::Refusal;
use crate::domain::signal::{Action, Signal};

/// How long a rehearsal may take: a little less than a request that is passed on.
const PATIENCE: Duration = Duration::from_millis(8000);

/// What would become of a signal.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Rehearsal {
    /// The decision.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// What the signal would wait for before it is decided; a real one would be decided when that is over.
    pub waits_for: Vec<Refusal>,
}

/// A decision, for people.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(tag = "would", rename_all = "snake_case")]
pub enum Verdict {
    /// These orders would be journaled and sent.
    Order {
        /// The orders.
        orders: Vec<WouldBe>,
        /// Sizing and gates, or the positions that an EXIT means.
        decision: Value,
    },
    /// Nothing would be done.
    Refuse {
        /// Everything that stands in its way.
        reasons: Vec<Refusal>,
        /// Sizing, as far as it came.
        decision: Option<Value>,
    },
    /// Stops would move.
    MoveStops {
        /// Those that would.
        stops: Vec<Moved>,
        /// Why others would not.
        reasons: Vec<Refusal>,
    },
    /// It would be recorded.
    Note {
        /// Why nothing is to be done.
        reason: Refusal,
    },
}

/// An order that would be sent.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct WouldBe {
    /// What it is for.
    pub class: OrderClass,
    /// Buy or sell.
    pub side: Side,
    /// Units.
    pub quantity: Quantity,
    /// Tradable symbol.
    pub symbol: String,
    /// Its exchange.
    pub exchange: String,
    /// Product.
    pub product: Product,
    /// How it is priced.
    pub price_type: PriceType,
    /// The label that an entry takes.
    pub label: Option<Label>,
    /// The position that an exit sells.
    pub position: Option<PositionId>,
}

/// A stop that would move.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Moved {
    /// Of which position.
    pub position: PositionId,
    /// Its label.
    pub label: String,
    /// Where it is.
    pub from: Price,
    /// Where it would be.
    pub to: Price,
}

/// Why there is no rehearsal.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NotRehearsed {
    /// Too many commands wait.
    #[error("too many commands wait for the engine; try again in a second")]
    Busy,
    /// The leader did not answer in time, or its term ended.
    #[error("the engine gave no answer within {} s (it is taking over, or a quote hangs); try again", PATIENCE.as_secs())]
    NotAnswered,
    /// Stored state is damaged: no signal is decided.
    #[error("stored state is damaged: signals wait for the repair, so there is nothing to rehearse")]
    Damaged,
}

/// A question with its way back.
#[derive(Debug)]
pub struct Rehearse {
    signal: Box<Signal>,
    reply: oneshot::Sender<Result<Rehearsal, NotRehearsed>>,
}

impl Desk {
    /// Asks the leader what it would do about a signal now.
    ///
    /// # Errors
    /// See [`NotRehearsed`].
    pub async fn rehearse(&self, signal: Signal) -> Result<Rehearsal, NotRehearsed> {
        let (reply, answer) = oneshot::channel();
        let question = Command::Rehearse(Rehearse { signal: Box::new(signal), reply });
        self.put(question).map_err(|_| NotRehearsed::Busy)?;
        match tokio::time::timeout(PATIENCE, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err(NotRehearsed::NotAnswered),
        }
    }
}

impl Term<'_> {
    /// Answers beside the loop, which does not wait for quotes.
    pub(super) fn rehearse(&self, asked: Rehearse) {
        let Rehearse { signal, reply } = asked;
        if self.custody.is_some() {
            // The asker may have gone.
            let _ = reply.send(Err(NotRehearsed::Damaged));
            return;
        }
        // Newer than everything that was ever accepted.
        let queued = Queued { id: SignalId::new(), seq: i64::MAX, signal: *signal, attempt: 0 };
        let waits_for = self.would_wait(&queued);
        let quotes = match &queued.signal.action {
            Action::MarketData(_) => self.fresh_prices(&queued.signal.instrument),
            _ => Quotes::default(),
        };
        let (rules, book) = (Arc::clone(&self.engine.rules), self.book.clone());
        let broker = Arc::clone(&self.engine.broker);
        tokio::spawn(async move {
            let rehearsal = rehearsed(&rules, &book, broker.as_ref(), &queued, quotes, waits_for).await;
            let _ = reply.send(Ok(rehearsal));
        });
    }

    fn would_wait(&self, queued: &Queued) -> Vec<Refusal> {
        let signal = &queued.signal;
        let mut waits = if signal.kind().opens() { self.entries_wait_for() } else { Vec::new() };
        let name = &signal.instrument;
        let mut wait = |code, sentence: String| waits.push(Refusal::new(code, sentence));
        match self.lanes.waiting_on(name) {
            0 => {}
            before => wait("SIGNALS_BEFORE", format!("{before} signals of {name} came before")),
        }
        let now = self.fence().now();
        if !may_decide(&self.book, &Waiting::new(queued.clone(), now), now, self.engine.pace.exit_patience) {
            wait("ORDERS_OUT", format!("what is out, in doubt or closing on {name} comes first"));
        }
        let contract = self.engine.rules.catalog.get(name).filter(|_| signal.kind().opens());
        if contract.is_some_and(|instrument| drift_on(&self.book.drift, instrument).is_some()) {
            wait(
                "POSITION_DRIFT",
                format!("the broker holds something else of {name}; see `baton positions diff`"),
            );
        }
        waits
    }

    /// What holds every entry back now; exits go on. Empty while entries are made.
    pub(super) fn entries_wait_for(&self) -> Vec<Refusal> {
        let engine = self.engine;
        let left = self.fence().deadline().until(self.fence().now());
        let causes = [
            (!engine.operational.is_active(), "NOT_ACTIVE", "the leader is not ACTIVE; see `baton status`"),
            (
                left < engine.pace.entry_queue,
                "HEARTBEAT_DUE",
                "the leader's next heartbeat is not confirmed yet",
            ),
            (
                engine.session.borrow().state == SessionState::Expired,
                "SESSION_EXPIRED",
                "the broker's session has expired: somebody has to log in",
            ),
            (
                !(self.book.market_asked && self.day_is_open()),
                "DAY_UNREAD",
                "the day's market data or the account's day is not read yet",
            ),
            (
                self.worth.is_unknown(self.fence().now()),
                "EQUITY_UNKNOWN",
                "something that is held has had no price for long, so nobody knows what the account is worth; see `baton status`",
            ),
        ];
        let held = causes.into_iter().filter(|(holds, ..)| *holds);
        held.map(|(_, code, sentence)| Refusal::new(code, sentence)).collect()
    }
}

async fn rehearsed(
    rules: &Rules,
    book: &Book,
    broker: &dyn Broker,
    queued: &Queued,
    mut quotes: Quotes,
    mut waits_for: Vec<Refusal>,
) -> Rehearsal {
    for (exchange, symbol) in quotes_needed(rules, book, &queued.signal) {
        match broker.quote(&symbol, &exchange).await {
            Ok(quote) => quotes.set(&exchange, &symbol, quote.ltp),
            Err(error) => waits_for.push(Refusal::new("QUOTE_UNREAD", format!("{symbol}: {error}"))),
        }
    }
    let verdict = verdict(book, decide(rules, book, queued, &quotes, wall_clock()));
    Rehearsal { verdict, waits_for }
}

fn verdict(book: &Book, decision: Decision) -> Verdict {
    match decision {
        Decision::Order(intents, decision) => {
            Verdict::Order { orders: intents.iter().map(would_be).collect(), decision }
        }
        Decision::Refuse(reasons, decision) => Verdict::Refuse { reasons, decision },
        Decision::Trail(moved, reasons) => {
            Verdict::MoveStops { stops: moved.iter().filter_map(|held| stop(book, held)).collect(), reasons }
        }
        Decision::Note(reason) => Verdict::Note { reason },
    }
}

fn would_be(intent: &OrderIntent) -> WouldBe {
    let order = &intent.order;
    WouldBe {
        class: intent.class,
        side: order.side,
        quantity: order.quantity,
        symbol: order.symbol.clone(),
        exchange: order.exchange.clone(),
        product: order.product,
        price_type: order.price_type,
        label: intent.plan.as_ref().map(|plan| plan.label),
        position: (intent.class != OrderClass::Entry).then_some(intent.position),
    }
}

/// The highest close may move without the stop.
fn stop(book: &Book, moved: &Position) -> Option<Moved> {
    let from = book.position(moved.id)?.current_stop;
    let to = moved.current_stop;
    (from != to).then(|| Moved { position: moved.id, label: moved.label.clone(), from, to })
}
