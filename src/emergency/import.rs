//! The journal's orders into the ledger, by the instance that owns the file, as soon as PostgreSQL answers.
//!
//! Each order becomes an intent of class `operator` with its fill, kept as it was; what it sold is booked on the youngest
//! positions of its contract, no more than the broker's verified book lacks, and told to the audit: one transaction under
//! the leadership row's lock, proven whole before it is committed. The leader then reads state back. An order whose end
//! is not known is looked up in the broker's books first. An import that died on the way is found done, or done again.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ha::{BootClock, Clock as _, Moment};
use serde_json::json;
use uuid::Uuid;

use super::books::{Said, look_up};
use super::journal::{End, Entry, Journal, JournalError, Record};
use super::mark::{Mark, Marks};
use crate::broker::{Broker, BrokerError};
use crate::domain::ids::IntentId;
use crate::domain::instrument::Catalog;
use crate::domain::money::{Price, Quantity, Rupees};
use crate::ledger::repair::{Mending, Operator, Outside};
use crate::ledger::snapshot::{Depth, Snapshot};
use crate::ledger::{Ledger, LedgerError};
use crate::recovery::reconcile::{ReconcileError, Reconciler, Verdict};
use crate::recovery::{Recovered, repair};

/// Between two looks at the file.
const LOOK: Duration = Duration::from_secs(2);

/// Why an order is not in the ledger yet.
#[derive(Debug, thiserror::Error)]
enum NotYet {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error("the broker's books cannot be read: {0}")]
    Broker(#[from] BrokerError),
    #[error(transparent)]
    Unverified(#[from] ReconcileError),
    #[error("its contract is moving: {0}")]
    Unsettled(String),
    #[error("stored state is damaged: {}", .0.join("; "))]
    Damaged(Vec<String>),
    #[error("whether the broker has it is not known: {0}; look in the broker's terminal")]
    InDoubt(String),
}

/// What an import works with; one per process.
pub struct Importer {
    /// The file.
    pub path: PathBuf,
    /// Where to.
    pub ledger: Ledger,
    /// Whose books tell.
    pub broker: Arc<dyn Broker>,
    /// The verified comparison.
    pub reconciler: Arc<Reconciler>,
    /// Marks to be taken off.
    pub marks: Arc<Marks>,
    /// What is traded.
    pub catalog: Arc<Catalog>,
    /// What an account without history starts with.
    pub capital: Rupees,
    /// After this an order that is not in the books is proven absent: send window + U + B.
    pub absent_after: Duration,
}

impl Importer {
    /// Looks at the file again and again; ends with the process.
    pub async fn run(self) {
        let mut told = String::new();
        let mut missing: BTreeMap<Uuid, Moment> = BTreeMap::new();
        loop {
            match self.import(&mut missing).await {
                Ok(()) => told.clear(),
                Err(error) => {
                    let sentence = error.to_string();
                    if sentence != told {
                        tracing::warn!("[RECOVERY] an emergency order is not in the ledger yet: {sentence}");
                        told = sentence;
                    }
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn import(&self, missing: &mut BTreeMap<Uuid, Moment>) -> Result<(), NotYet> {
        let Some(mut journal) = Journal::existing(&self.path)? else { return Ok(()) };
        let open: Vec<Record> = journal.records().iter().filter(|record| !record.imported).cloned().collect();
        for mut record in open {
            let id = record.entry.id;
            let end = match record.end.clone() {
                Some(end) => end,
                None => {
                    let end = match self.end_of(&record, missing).await {
                        Ok(end) => end,
                        Err(error) => {
                            self.keep_marked(&record).await;
                            return Err(error);
                        }
                    };
                    journal.ended(id, end.clone())?;
                    end
                }
            };
            record.end = Some(end.clone());
            if !self.ledger.knows_intent(IntentId(id)).await? {
                self.book(&record, &end).await?;
            }
            journal.imported(id)?;
            // It expires by itself otherwise.
            let _ = self.marks.clear(&record.entry.symbol, id).await;
            tracing::warn!(order = %id, "[RECOVERY] the emergency close of {} is in the ledger", record.entry.symbol);
        }
        Ok(())
    }

    /// While an order may still fill, nobody else is to sell its symbol: neither another host nor a leader.
    async fn keep_marked(&self, record: &Record) {
        let Entry { id, symbol, cluster, operator, .. } = &record.entry;
        let ttl = self.absent_after + LOOK * 10;
        if matches!(self.marks.lengthen(symbol, *id, ttl).await, Ok(true)) {
            return;
        }
        let mark = Mark { id: *id, host: cluster.clone(), operator: operator.clone() };
        if let Err(error) = self.marks.set(symbol, &mark, ttl).await {
            tracing::debug!("the mark of {symbol} was not renewed: {error}");
        }
    }

    async fn end_of(&self, record: &Record, missing: &mut BTreeMap<Uuid, Moment>) -> Result<End, NotYet> {
        let begun = BootClock.now();
        let books = self.broker.books().await?;
        match look_up(record, &books) {
            Said::Ended(end) => Ok(end),
            Said::Working(order_id) => Err(NotYet::Unsettled(format!("order {order_id} still works"))),
            Said::Ambiguous(orders) => {
                Err(NotYet::InDoubt(format!("orders {} look like it", orders.join(", "))))
            }
            // An order with an id was there: books take nothing back.
            Said::Nothing => match &record.order_id {
                Some(order_id) => {
                    Err(NotYet::InDoubt(format!("order {order_id} is not in the books any more")))
                }
                None => {
                    let since = *missing.entry(record.entry.id).or_insert(begun);
                    if begun.since(since) < self.absent_after {
                        return Err(NotYet::InDoubt("it is not in the books so far".to_owned()));
                    }
                    let reason =
                        format!("not in the broker's books {} ms later", self.absent_after.as_millis());
                    Ok(End::NotSent { reason })
                }
            },
        }
    }

    async fn book(&self, record: &Record, end: &End) -> Result<(), NotYet> {
        let entry = &record.entry;
        let contract = entry.contract();
        let (order_id, filled, price, how) = match end {
            End::NotSent { reason } => (None, Quantity::ZERO, Price::ZERO, reason.clone()),
            End::Sold { order_id, quantity, price } => {
                (Some(order_id.clone()), *quantity, *price, format!("sold {quantity} at {price}"))
            }
        };
        let diff = self.reconciler.compare().await?;
        let row = diff.rows.into_iter().find(|row| row.key().as_ref() == Some(&contract));
        if row.as_ref().is_some_and(|row| row.verdict == Verdict::Unsettled) {
            return Err(NotYet::Unsettled(contract.to_string()));
        }
        let instrument = self.catalog.by_symbol(&contract.exchange, &contract.symbol);
        let outside = Outside {
            id: IntentId(entry.id),
            contract: contract.clone(),
            instrument: instrument.map_or_else(|| entry.symbol.clone(), |instrument| instrument.name.clone()),
            quantity: entry.quantity,
            filled,
            price,
            order_id,
            tag: entry.tag(),
            reason: format!(
                "emergency close without the database by {}: {}; {how}",
                entry.operator, entry.reason
            ),
        };
        let plan = |snapshot: &Snapshot| {
            let whole = Recovered::prove(snapshot.clone(), self.capital, &self.catalog);
            whole.map_err(|error| NotYet::Damaged(repair::critical(error.findings())))?;
            // No more than it sold, whatever else is missing at the broker.
            let mut row = row.clone();
            if let Some(row) = &mut row {
                row.broker = row.broker.max(row.ledger - filled);
            }
            let rows: Vec<_> = row.into_iter().filter(|row| row.broker < row.ledger).collect();
            let prices = BTreeMap::from([(contract.clone(), price)]);
            let planned = repair::plan(snapshot, &rows, &prices, self.capital, &self.catalog);
            let told = json!({ "order": entry, "end": end, "bookings": planned.proposals });
            Ok((Mending { outside: vec![outside.clone()], ..planned.mending }, told))
        };
        let prove = |snapshot: Snapshot| {
            Recovered::prove(snapshot, self.capital, &self.catalog)
                .map(|_| ())
                .map_err(|error| NotYet::Damaged(repair::critical(error.findings())))
        };
        let reason = format!("emergency close without the database: {}", entry.reason);
        let operator = Operator { name: &entry.operator, reason: &reason };
        self.ledger.repair(operator, "emergency", Depth::Open, plan, prove).await
    }
}
