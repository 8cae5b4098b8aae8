//! The close itself, step by step; each step is safe to die after.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use ha::{BootClock, Clock as _};
use uuid::Uuid;

use super::books::{Said, VerifiedBook, look_up};
use super::evidence::{Evidence, Refused};
use super::journal::{End, Entry, Journal, JournalError, Record};
use super::mark::{Mark, Marks};
use crate::broker::{BridgeMode, Broker, BrokerError, Submission, Ticket};
use crate::domain::freeze::slice;
use crate::domain::instrument::Catalog;
use crate::domain::money::Quantity;
use crate::domain::order::OrderClass;
use crate::domain::position::HoldingKey;
use crate::failpoint;
use crate::ledger::Ledger;
use crate::recovery::reconcile::allowance;

/// How long the books may take to show a fill.
const FILL: Duration = Duration::from_secs(10);
/// Between two looks at them.
const LOOK: Duration = Duration::from_millis(250);

/// Why nothing was sold, or why it is not known.
#[derive(Debug, thiserror::Error)]
pub enum NotClosed {
    /// It is not the hour for it.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The broker's book could not be verified.
    #[error("the broker's book could not be verified, so nothing was sold: {0}")]
    Unverified(#[source] BrokerError),
    /// Somebody else does it.
    #[error("{} is being closed already, on {} by {}; that stands for {} s more", .symbol, .host, .operator, .left.as_secs())]
    Marked {
        /// What.
        symbol: String,
        /// Where.
        host: String,
        /// By whom.
        operator: String,
        /// For how long at least.
        left: Duration,
    },
    /// The symbol is not one that Baton trades.
    #[error("{0} is neither a configured instrument nor the symbol of one")]
    Unknown(String),
    /// There is nothing to sell.
    #[error(
        "nothing of {contract} can be sold: the broker's verified book holds {held}, and sales that still work may sell {out}"
    )]
    Nothing {
        /// What.
        contract: HoldingKey,
        /// Net units.
        held: Quantity,
        /// Units.
        out: Quantity,
    },
    /// An earlier one is open.
    #[error(
        "the outcome of the emergency order {id} of {symbol} is not known ({why}): nothing more is sold before it is; look in the broker's terminal, then ask again"
    )]
    InDoubt {
        /// The order.
        id: Uuid,
        /// What.
        symbol: String,
        /// What is known.
        why: String,
    },
    /// The mark went away.
    #[error("the mark in Redis was lost before the order was sent: nothing was sold, ask again")]
    MarkLost,
    /// The operator did not agree.
    #[error("nothing was sold: {0}")]
    NotConfirmed(String),
}

/// What an emergency close works with.
pub struct Closer<'a> {
    /// The ledger that is to be gone.
    pub ledger: &'a Ledger,
    /// The marks.
    pub marks: &'a Marks,
    /// The way to the broker.
    pub broker: Arc<dyn Broker>,
    /// The mode the bridge must be in.
    pub armed: BridgeMode,
    /// What is traded.
    pub catalog: &'a Catalog,
    /// The journal.
    pub journal: &'a Path,
    /// Of which cluster.
    pub cluster: &'a str,
    /// This host.
    pub host: &'a str,
    /// By whom.
    pub operator: &'a str,
    /// Why.
    pub reason: &'a str,
    /// Members that the operator has stopped.
    pub stopped: &'a BTreeSet<String>,
    /// T.
    pub lease_ttl: Duration,
    /// How long the order's bytes may be written after its journaling.
    pub send_window: Duration,
    /// How much later an order may still become visible: U + B.
    pub settle: Duration,
    /// The operator has seen at the broker that no sale is on its way, so what may be hidden is not waited for.
    pub seen: bool,
}

/// What was done.
#[derive(Debug)]
pub struct Closed {
    /// The order.
    pub id: Uuid,
    /// Of what.
    pub contract: HoldingKey,
    /// Units that the book held.
    pub held: Quantity,
    /// Units ordered.
    pub quantity: Quantity,
    /// Its end; none while it works.
    pub end: Option<End>,
    /// The broker's id, once known.
    pub order_id: Option<String>,
}

impl Closer<'_> {
    /// How long a mark stands from the moment an order may leave: until its absence would be proven, and a little.
    fn standing(&self) -> Duration {
        self.send_window + self.settle + self.lease_ttl
    }

    /// Evidence is gathered for so long: a lease lives T, and what was sent before may show this much later. What this command has
    /// just sold itself, the operator has not seen.
    fn gathering(&self, left: Option<Quantity>) -> Duration {
        let silence = self.lease_ttl * 2;
        if self.seen && left.is_none() { silence } else { silence.max(self.send_window + self.settle) }
    }

    /// Closes what the verified book holds of `name`; `confirm` is told what, and how long it takes to be sure.
    ///
    /// # Errors
    /// See [`NotClosed`]; only [`NotClosed::InDoubt`] means that an order may be at the broker.
    pub async fn close(
        &self,
        name: &str,
        confirm: impl FnOnce(&str) -> Result<(), String>,
    ) -> Result<Closed, NotClosed> {
        self.close_contract(&self.contract(name)?, None, confirm).await
    }

    /// The same of a contract; after orders of this command that sold some of it, with what they `left`: however much the book still
    /// shows, no more than that is held.
    pub(super) async fn close_contract(
        &self,
        contract: &HoldingKey,
        left: Option<Quantity>,
        confirm: impl FnOnce(&str) -> Result<(), String>,
    ) -> Result<Closed, NotClosed> {
        let mut journal = Journal::open(self.journal)?;
        if let Some(record) = journal.unresolved(&contract.symbol).cloned() {
            let earlier = record.entry.id;
            self.resolve(&mut journal, record).await?;
            if journal.unresolved(&contract.symbol).is_none() {
                self.unmark(&contract.symbol, earlier).await;
            }
        }
        let id = Uuid::now_v7();
        // The cheap refusals first: nobody is to confirm what cannot be.
        self.evidence(&contract.symbol).gather(Duration::ZERO).await?;
        let (held, units, _) = self.size(contract, left).await?;
        let question = format!(
            "Sell {units} of the {held} units of {contract} that the broker holds, without the database. It takes {} s to be \
             sure that nobody else trades",
            self.gathering(left).as_secs_f32()
        );
        confirm(&question).map_err(NotClosed::NotConfirmed)?;
        self.mark(&contract.symbol, id, left).await?;
        let sent = self.send(&mut journal, contract, left, id).await;
        match &sent {
            Ok(Closed { end: Some(_), .. }) => self.unmark(&contract.symbol, id).await,
            // It may be at the broker: the mark keeps the others away until it must show.
            Ok(_) | Err(NotClosed::InDoubt { .. }) => {}
            Err(_) => self.unmark(&contract.symbol, id).await,
        }
        sent
    }

    fn contract(&self, name: &str) -> Result<HoldingKey, NotClosed> {
        let named = |instrument: &&crate::domain::instrument::Instrument| {
            instrument.symbol == name || instrument.name == name
        };
        let instrument =
            self.catalog.iter().find(named).ok_or_else(|| NotClosed::Unknown(name.to_owned()))?;
        let (symbol, exchange) = (instrument.symbol.clone(), instrument.exchange.clone());
        Ok(HoldingKey { symbol, exchange, product: instrument.product })
    }

    fn evidence<'a>(&'a self, symbol: &'a str) -> Evidence<'a> {
        let pace = self.lease_ttl / 6;
        Evidence { ledger: self.ledger, marks: self.marks, symbol, stopped: self.stopped, pace }
    }

    /// Units that the book holds, units to sell, and the orders that it shows.
    async fn size(
        &self,
        contract: &HoldingKey,
        left: Option<Quantity>,
    ) -> Result<(Quantity, Quantity, Vec<String>), NotClosed> {
        let book = VerifiedBook::read(Arc::clone(&self.broker), self.armed).await;
        let book = book.map_err(NotClosed::Unverified)?;
        let (shown, out) = (book.of(contract), book.working(contract));
        let held = left.map_or(shown, |left| left.min(shown));
        let configured = self.catalog.by_symbol(&contract.exchange, &contract.symbol);
        let freeze = configured.and_then(|instrument| instrument.freeze_quantity);
        let lot = configured.map_or(Quantity(1), |instrument| instrument.lot_size);
        let units = slice(allowance(held, out), freeze, lot);
        if units == Quantity::ZERO {
            return Err(NotClosed::Nothing { contract: contract.clone(), held, out });
        }
        Ok((held, units, book.orders.into_iter().map(|order| order.order_id).collect()))
    }

    async fn mark(&self, symbol: &str, id: Uuid, left: Option<Quantity>) -> Result<(), NotClosed> {
        let mark = Mark { id, host: self.host.to_owned(), operator: self.operator.to_owned() };
        let ttl = self.gathering(left) + self.standing();
        let set = self.marks.set(symbol, &mark, ttl).await;
        match set.map_err(|error| Refused::NoRedis(error.to_string()))? {
            Ok(()) => Ok(()),
            Err((held, left)) => {
                let (host, operator) = held.map_or_else(
                    || ("another host".to_owned(), "somebody".to_owned()),
                    |m| (m.host, m.operator),
                );
                Err(NotClosed::Marked { symbol: symbol.to_owned(), host, operator, left })
            }
        }
    }

    async fn unmark(&self, symbol: &str, id: Uuid) {
        if let Err(error) = self.marks.clear(symbol, id).await {
            tracing::warn!("the mark in Redis was not taken off ({error}): it expires by itself");
        }
    }

    async fn send(
        &self,
        journal: &mut Journal,
        contract: &HoldingKey,
        left: Option<Quantity>,
        id: Uuid,
    ) -> Result<Closed, NotClosed> {
        // After the mark: a leader that leads now, or comes back, shows itself or sees it.
        self.evidence(&contract.symbol).gather(self.gathering(left)).await?;
        let (held, quantity, known) = self.size(contract, left).await?;
        let standing = self.marks.lengthen(&contract.symbol, id, self.standing()).await;
        if !matches!(standing, Ok(true)) {
            return Err(NotClosed::MarkLost);
        }
        let send_by = BootClock.now().plus(self.send_window);
        let entry = Entry {
            id,
            at: Utc::now(),
            cluster: self.cluster.to_owned(),
            operator: self.operator.to_owned(),
            reason: self.reason.to_owned(),
            symbol: contract.symbol.clone(),
            exchange: contract.exchange.clone(),
            product: contract.product,
            quantity,
            held,
            known,
        };
        journal.intend(entry.clone())?;
        failpoint::hit("emergency_after_journal");
        let may_send = move || BootClock.now() < send_by;
        let tag = entry.tag();
        let ticket = Ticket {
            class: OrderClass::Operator,
            ahead: None,
            strategy: &tag,
            within: None,
            may_send: &may_send,
        };
        let submission = self.broker.place(&entry.order(), ticket).await;
        failpoint::hit("emergency_after_reply");
        let mut closed = Closed { id, contract: contract.clone(), held, quantity, end: None, order_id: None };
        match submission {
            Submission::Acknowledged { order_id } => {
                journal.acknowledged(id, order_id.clone())?;
                closed.order_id = Some(order_id);
            }
            Submission::NotSent { reason, cause: crate::broker::NotSentCause::QueuedForHuman } => {
                return Err(self.doubt(&entry, reason));
            }
            // Refused with a number: the books tell whether it filled all the same.
            Submission::Rejected { order_id: Some(order_id), reason } => {
                tracing::warn!(
                    "order {order_id} is refused, says the bridge ({reason}): looking in the books"
                );
                journal.acknowledged(id, order_id)?;
            }
            Submission::Rejected { reason, order_id: None } | Submission::NotSent { reason, .. } => {
                let end = End::NotSent { reason };
                journal.ended(id, end.clone())?;
                closed.end = Some(end);
                return Ok(closed);
            }
            Submission::InDoubt { reason, .. } => {
                let record = Record { entry: entry.clone(), order_id: None, end: None, imported: false };
                tracing::warn!(
                    "whether the broker has the order is not known ({reason}): looking in its books"
                );
                self.resolve(journal, record).await?;
            }
        }
        self.await_fill(journal, &mut closed).await?;
        Ok(closed)
    }

    fn doubt(&self, entry: &Entry, why: impl Into<String>) -> NotClosed {
        NotClosed::InDoubt { id: entry.id, symbol: entry.symbol.clone(), why: why.into() }
    }

    /// Waits for the books to show the end, for a while.
    async fn await_fill(&self, journal: &mut Journal, closed: &mut Closed) -> Result<(), NotClosed> {
        let until = BootClock.now().plus(FILL);
        loop {
            let record = journal.records().iter().find(|record| record.entry.id == closed.id).cloned();
            let Some(record) = record else { return Ok(()) };
            closed.order_id = record.order_id.clone();
            closed.end = record.end.clone();
            if closed.end.is_some() || BootClock.now() >= until {
                return Ok(());
            }
            if let Ok(books) = self.broker.books().await
                && let Said::Ended(end) = look_up(&record, &books)
            {
                journal.ended(closed.id, end)?;
                continue;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Finds out what became of an order without an answer; waits until its absence is proven, and no longer.
    async fn resolve(&self, journal: &mut Journal, record: Record) -> Result<(), NotClosed> {
        let entry = &record.entry;
        // Nobody knows how long ago it was written: its bytes may leave for a whole window from now.
        let provable = BootClock.now().plus(self.send_window + self.settle);
        loop {
            let begun = BootClock.now();
            let books = self.broker.books().await.map_err(NotClosed::Unverified)?;
            match look_up(&record, &books) {
                Said::Ended(end) => return Ok(journal.ended(entry.id, end)?),
                Said::Working(order_id) if record.order_id.is_none() => {
                    return Ok(journal.acknowledged(entry.id, order_id)?);
                }
                // It shows as working: sized against, not sold twice.
                Said::Working(_) => return Ok(()),
                Said::Ambiguous(orders) => {
                    return Err(self.doubt(entry, format!("orders {} look like it", orders.join(", "))));
                }
                Said::Nothing if record.order_id.is_some() => {
                    return Err(self.doubt(entry, "its order is not in the books any more"));
                }
                Said::Nothing if begun > provable => {
                    let reason = "not in the broker's books when it had to be".to_owned();
                    return Ok(journal.ended(entry.id, End::NotSent { reason })?);
                }
                Said::Nothing => tokio::time::sleep(LOOK).await,
            }
        }
    }
}
