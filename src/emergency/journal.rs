//! The local journal: a line a fact, on the disk before anything follows from it.
//!
//! An `intent` line is written before the order's first byte. A line that a crash cut short was never synced, so nothing
//! followed from it: it is cut off. One process at a time has the file, by its lock.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use chrono::{DateTime, Utc};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::money::{Price, Quantity};
use crate::domain::order::{OrderSpec, PriceType, Product, Side};
use crate::domain::position::HoldingKey;

/// One emergency order.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// Its id, and that of the intent it becomes.
    pub id: Uuid,
    /// When, for people.
    pub at: DateTime<Utc>,
    /// Of which cluster.
    pub cluster: String,
    /// By whom.
    pub operator: String,
    /// Why.
    pub reason: String,
    /// Tradable symbol.
    pub symbol: String,
    /// Exchange code.
    pub exchange: String,
    /// Margin product.
    pub product: Product,
    /// Units to sell.
    pub quantity: Quantity,
    /// Units that the broker's verified book held.
    pub held: Quantity,
    /// Orders that the book showed before: none of them is this one.
    pub known: Vec<String>,
}

impl Entry {
    /// The contract.
    pub fn contract(&self) -> HoldingKey {
        let (symbol, exchange) = (self.symbol.clone(), self.exchange.clone());
        HoldingKey { symbol, exchange, product: self.product }
    }

    /// What is sent as the bridge's `strategy`.
    pub fn tag(&self) -> String {
        format!("emergency:{}", self.id)
    }

    /// The order.
    pub fn order(&self) -> OrderSpec {
        OrderSpec {
            symbol: self.symbol.clone(),
            exchange: self.exchange.clone(),
            side: Side::Sell,
            quantity: self.quantity,
            price_type: PriceType::Market,
            product: self.product,
            price: Price::ZERO,
            trigger_price: Price::ZERO,
        }
    }
}

/// How an order ended, as far as is proven.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum End {
    /// It never reached the broker, or was refused there.
    NotSent {
        /// What proves it.
        reason: String,
    },
    /// The broker has ended it; so many units were sold.
    Sold {
        /// The broker's id.
        order_id: String,
        /// Units.
        quantity: Quantity,
        /// Their average price; zero when none was sold.
        price: Price,
    },
}

/// A fact.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "fact", rename_all = "snake_case")]
enum Fact {
    Intent(Entry),
    /// The broker's id is known.
    Acknowledged {
        id: Uuid,
        order_id: String,
    },
    Ended {
        id: Uuid,
        end: End,
    },
    Imported {
        id: Uuid,
    },
}

/// One order with everything known of it.
#[derive(Clone, PartialEq, Debug)]
pub struct Record {
    /// The order.
    pub entry: Entry,
    /// The broker's id, once known.
    pub order_id: Option<String>,
    /// How it ended; none = in doubt, or not filled yet.
    pub end: Option<End>,
    /// The ledger has it.
    pub imported: bool,
}

/// Why the journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// It cannot be opened, read or written.
    #[error("the emergency journal {path} cannot be used")]
    Io {
        /// The file.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Another process has it.
    #[error("another process has the emergency journal {0}: an emergency close or an import is under way")]
    Busy(String),
    /// A line before the last makes no sense.
    #[error(
        "line {line} of the emergency journal {path} cannot be read: mend it by hand, or move the file away once its orders are in the ledger"
    )]
    Damaged {
        /// The file.
        path: String,
        /// Its number, from 1.
        line: usize,
    },
}

/// The file, locked.
pub struct Journal {
    file: File,
    path: String,
    records: Vec<Record>,
}

impl Journal {
    /// Opens and reads it, or makes a new one.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        let shown = path.display().to_string();
        let io = |source| JournalError::Io { path: shown.clone(), source };
        let fresh = !path.exists();
        let file = OpenOptions::new().read(true).append(true).create(true).open(path).map_err(io)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| JournalError::Busy(shown.clone()))?;
        if fresh {
            // The name, too, has to survive.
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            File::open(folder.unwrap_or(Path::new("."))).and_then(|folder| folder.sync_all()).map_err(io)?;
        }
        let mut journal = Self { file, path: shown.clone(), records: Vec::new() };
        journal.read()?;
        Ok(journal)
    }

    /// Opens it if it is there.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub fn existing(path: &Path) -> Result<Option<Self>, JournalError> {
        if path.exists() { Self::open(path).map(Some) } else { Ok(None) }
    }

    /// Every order, the oldest first.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// The order of a symbol whose end is not known.
    pub fn unresolved(&self, symbol: &str) -> Option<&Record> {
        self.records.iter().find(|record| record.end.is_none() && record.entry.symbol == symbol)
    }

    /// An order is about to be sent; on the disk when this returns.
    ///
    /// # Errors
    /// It could not be written: nothing may be sent.
    pub fn intend(&mut self, entry: Entry) -> Result<(), JournalError> {
        self.append(Fact::Intent(entry))
    }

    /// The broker's id is known.
    ///
    /// # Errors
    /// It could not be written.
    pub fn acknowledged(&mut self, id: Uuid, order_id: String) -> Result<(), JournalError> {
        self.append(Fact::Acknowledged { id, order_id })
    }

    /// An order's end is proven.
    ///
    /// # Errors
    /// It could not be written.
    pub fn ended(&mut self, id: Uuid, end: End) -> Result<(), JournalError> {
        self.append(Fact::Ended { id, end })
    }

    /// The ledger has an order.
    ///
    /// # Errors
    /// It could not be written; importing it again changes nothing.
    pub fn imported(&mut self, id: Uuid) -> Result<(), JournalError> {
        self.append(Fact::Imported { id })
    }

    fn append(&mut self, fact: Fact) -> Result<(), JournalError> {
        let io = |source| JournalError::Io { path: self.path.clone(), source };
        let mut line = serde_json::to_vec(&fact).map_err(|error| io(error.into()))?;
        line.push(b'\n');
        self.file.write_all(&line).and_then(|()| self.file.sync_all()).map_err(io)?;
        self.learn(fact);
        Ok(())
    }

    fn read(&mut self) -> Result<(), JournalError> {
        let io = |source| JournalError::Io { path: self.path.clone(), source };
        let mut text = Vec::new();
        self.file.seek(SeekFrom::Start(0)).and_then(|_| self.file.read_to_end(&mut text)).map_err(io)?;
        // Cut short by a crash: never synced, so nothing followed from it.
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        if whole < text.len() {
            self.file.set_len(whole as u64).and_then(|()| self.file.sync_all()).map_err(io)?;
        }
        let lines = text[..whole].split(|byte| *byte == b'\n').enumerate();
        for (number, line) in lines.filter(|(_, line)| !line.is_empty()) {
            let damaged = JournalError::Damaged { path: self.path.clone(), line: number + 1 };
            let fact = serde_json::from_slice(line).map_err(|_| damaged)?;
            self.learn(fact);
        }
        Ok(())
    }

    fn learn(&mut self, fact: Fact) {
        let id = match &fact {
            Fact::Intent(entry) => entry.id,
            Fact::Acknowledged { id, .. } | Fact::Ended { id, .. } | Fact::Imported { id } => *id,
        };
        let known = self.records.iter_mut().find(|record| record.entry.id == id);
        match (fact, known) {
            (Fact::Intent(entry), _) => {
                self.records.push(Record { entry, order_id: None, end: None, imported: false });
            }
            (Fact::Acknowledged { order_id, .. }, Some(record)) => record.order_id = Some(order_id),
            (Fact::Ended { end, .. }, Some(record)) => record.end = Some(end),
            (Fact::Imported { .. }, Some(record)) => record.imported = true,
            // Of an order that was moved out of the file.
            (_, None) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry {
            id: Uuid::now_v7(),
            at: Utc::now(),
            cluster: "test".to_owned(),
            operator: "asha".to_owned(),
            reason: "drill".to_owned(),
            symbol: "GOLDM".to_owned(),
            exchange: "MCX".to_owned(),
            product: Product::Nrml,
            quantity: Quantity(100),
            held: Quantity(100),
            known: vec!["7".to_owned()],
        }
    }

    #[test]
    fn what_was_written_is_read_back_and_a_line_cut_short_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("emergency.jsonl");
        let entry = entry();
        let mut journal = Journal::open(&path).unwrap();
        assert!(matches!(Journal::open(&path), Err(JournalError::Busy(_))), "one at a time");
        journal.intend(entry.clone()).unwrap();
        journal.acknowledged(entry.id, "42".to_owned()).unwrap();
        drop(journal);
        OpenOptions::new()
            .append(true)
            .open(&path)
            .unwrap()
            .write_all(b"{\"fact\":\"ended\",\"id\"")
            .unwrap();
        let mut journal = Journal::open(&path).unwrap();
        assert_eq!(
            journal.unresolved("GOLDM").map(|record| record.order_id.clone()),
            Some(Some("42".to_owned()))
        );
        let end = End::Sold {
            order_id: "42".to_owned(),
            quantity: Quantity(100),
            price: Price(rust_decimal::dec!(99.5)),
        };
        journal.ended(entry.id, end.clone()).unwrap();
        journal.imported(entry.id).unwrap();
        drop(journal);
        let journal = Journal::existing(&path).unwrap().unwrap();
        let record = Record { entry, order_id: Some("42".to_owned()), end: Some(end), imported: true };
        assert_eq!(journal.records(), [record]);
        assert!(journal.unresolved("GOLDM").is_none());
    }

    #[test]
    fn a_damaged_line_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("emergency.jsonl");
        std::fs::write(&path, "{}\n{\"fact\":\"imported\"}\n").unwrap();
        assert!(matches!(Journal::open(&path), Err(JournalError::Damaged { line: 1, .. })));
    }
}
