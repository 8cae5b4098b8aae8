//! The comparison itself: pure, total, in key order.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::broker::BrokerPosition;
use crate::domain::money::Quantity;
use crate::domain::order::Product;
use crate::domain::position::HoldingKey;
use crate::ledger::holdings::LedgerHolding;

/// What the comparison of one contract came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Both hold the same.
    Agrees,
    /// An order on it is under way, in doubt, or ended during the reading.
    Unsettled,
    /// Not Baton's: the ledger neither holds nor has traded it.
    Foreign,
    /// The broker holds less than the ledger.
    Missing,
    /// The broker holds more than the ledger.
    Surplus,
}

impl Verdict {
    /// The ledger and the book contradict each other.
    pub fn is_drift(self) -> bool {
        matches!(self, Self::Missing | Self::Surplus)
    }

    /// Its name, as JSON and people read it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Agrees => "agrees",
            Self::Unsettled => "unsettled",
            Self::Foreign => "foreign",
            Self::Missing => "missing",
            Self::Surplus => "surplus",
        }
    }
}

/// One contract on both sides.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct DiffRow {
    /// Tradable symbol.
    pub symbol: String,
    /// Exchange code.
    pub exchange: String,
    /// Margin product; none for one that Baton does not trade.
    pub product: Option<Product>,
    /// Units that the ledger holds.
    pub ledger: Quantity,
    /// Net units that the broker's book shows.
    pub broker: Quantity,
    /// What that means.
    pub verdict: Verdict,
}

impl DiffRow {
    /// The contract; none for a product that Baton does not trade.
    pub fn key(&self) -> Option<HoldingKey> {
        let product = self.product?;
        Some(HoldingKey { symbol: self.symbol.clone(), exchange: self.exchange.clone(), product })
    }
}

/// The book's net quantities by contract (R2).
pub fn held_by_broker(book: &[BrokerPosition]) -> BTreeMap<HoldingKey, Quantity> {
    let mut held = BTreeMap::new();
    for row in book {
        let Some(product) = row.product else { continue };
        let key = HoldingKey { symbol: row.symbol.clone(), exchange: row.exchange.clone(), product };
        let sum: &mut Quantity = held.entry(key).or_insert(Quantity::ZERO);
        *sum = Quantity(sum.0.saturating_add(row.quantity.0));
    }
    held
}

/// Compares the ledger, as it was before and after the book was read, with that book.
pub fn compare(before: &[LedgerHolding], book: &[BrokerPosition], after: &[LedgerHolding]) -> Vec<DiffRow> {
    let (before, after) = (by_key(before), by_key(after));
    let held = held_by_broker(book);
    let keys: BTreeSet<&HoldingKey> = before.keys().chain(after.keys()).copied().chain(held.keys()).collect();
    let mut rows: Vec<DiffRow> = keys
        .into_iter()
        .map(|key| {
            let broker = held.get(key).copied().unwrap_or(Quantity::ZERO);
            one(key, before.get(key).copied(), broker, after.get(key).copied())
        })
        // Flat on both sides is of no interest to anybody.
        .filter(|row| row.verdict == Verdict::Unsettled || row.ledger.0 != 0 || row.broker.0 != 0)
        .collect();
    rows.extend(strangers(book));
    rows
}

fn by_key(holdings: &[LedgerHolding]) -> BTreeMap<&HoldingKey, &LedgerHolding> {
    holdings.iter().map(|holding| (&holding.key, holding)).collect()
}

fn one(
    key: &HoldingKey,
    before: Option<&LedgerHolding>,
    broker: Quantity,
    after: Option<&LedgerHolding>,
) -> DiffRow {
    let ledger = after.map_or(Quantity::ZERO, |holding| holding.quantity);
    let moving = before != after || after.is_some_and(|holding| holding.busy);
    let verdict = if moving {
        Verdict::Unsettled
    } else if ledger == broker {
        Verdict::Agrees
    } else if after.is_none() {
        Verdict::Foreign
    } else if broker < ledger {
        Verdict::Missing
    } else {
        Verdict::Surplus
    };
    DiffRow {
        symbol: key.symbol.clone(),
        exchange: key.exchange.clone(),
        product: Some(key.product),
        ledger,
        broker,
        verdict,
    }
}

/// Rows of products that Baton does not trade.
fn strangers(book: &[BrokerPosition]) -> Vec<DiffRow> {
    let rows = book.iter().filter(|row| row.product.is_none() && row.quantity != Quantity::ZERO);
    let mut rows: Vec<DiffRow> = rows
        .map(|row| DiffRow {
            symbol: row.symbol.clone(),
            exchange: row.exchange.clone(),
            product: None,
            ledger: Quantity::ZERO,
            broker: row.quantity,
            verdict: Verdict::Foreign,
        })
        .collect();
    rows.sort_by(|a, b| (&a.symbol, &a.exchange, a.broker).cmp(&(&b.symbol, &b.exchange, b.broker)));
    rows
}

/// R6: units that an exit may sell of what the book holds, while other exits may still sell `out`.
///
/// The book may or may not show what of those has filled already, so all of it is taken off.
pub fn allowance(held: Quantity, out: Quantity) -> Quantity {
    Quantity(held.0.saturating_sub(out.0.max(0)).max(0))
}
