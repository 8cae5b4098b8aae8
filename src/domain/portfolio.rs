//! The portfolio: what the account is worth and what it risks, derived from positions, cash and quotes.
//!
//! The figures are never kept beside the positions in memory: they are computed, so that they cannot drift. The
//! ledger keeps a copy, and a recovery compares that copy with [`Portfolio::aggregates`].

use std::collections::BTreeMap;
use std::fmt;

use rust_decimal::{Decimal, dec};
use serde::{Deserialize, Serialize};

use super::instrument::Instrument;
use super::money::{Price, Rupees};
use super::policy::{EquityBasis, TradingPolicy};
use super::position::Position;

/// How far stored and calculated aggregates may lie apart.
pub const TOLERANCE: Rupees = Rupees(dec!(0.01));

/// Live prices by exchange and tradable symbol.
#[derive(Clone, Default, PartialEq, Debug)]
pub struct Quotes(BTreeMap<String, BTreeMap<String, Price>>);

impl Quotes {
    /// No quotes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the price of `symbol` on `exchange`.
    pub fn set(&mut self, exchange: &str, symbol: &str, price: Price) {
        self.0.entry(exchange.to_owned()).or_default().insert(symbol.to_owned(), price);
    }

    /// The price, if it is known.
    pub fn get(&self, exchange: &str, symbol: &str) -> Option<Price> {
        self.0.get(exchange)?.get(symbol).copied()
    }
}

/// Positions whose live price is not known. Their profit is unknown, which is not zero.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no live price for {}; equity is unknown until the feed or a quote gives one", .symbols.join(", "))]
pub struct MissingQuotes {
    /// The symbols, each once.
    pub symbols: Vec<String>,
}

/// An entry on its way: its order is out or in doubt, its fill is not booked yet. Counts in gates and margin.
#[derive(Clone, PartialEq, Debug)]
pub struct PendingEntry {
    /// The instrument's name.
    pub instrument: String,
    /// The label it will take.
    pub label: String,
    /// Risk of the part not filled yet.
    pub risk: Rupees,
    /// Volatility of the part not filled yet.
    pub volatility: Rupees,
    /// Margin of the part not filled yet.
    pub margin: Rupees,
}

/// What the account holds and is worth.
#[derive(Clone, Default, PartialEq, Debug)]
pub struct Portfolio {
    /// Open and closing positions; a closed one counts in `realised_closed`.
    pub positions: Vec<Position>,
    /// Entries on their way.
    pub pending: Vec<PendingEntry>,
    /// Deposits less withdrawals.
    pub cash: Rupees,
    /// Realised profit of closed positions.
    pub realised_closed: Rupees,
    /// What closed positions were charged.
    pub charges_closed: Rupees,
    /// High-water mark of closed equity.
    pub equity_high: Rupees,
    /// The configured capital, for [`EquityBasis::Fixed`].
    pub fixed_equity: Option<Rupees>,
}

/// Sums over the positions, as `portfolio_state` holds them.
#[derive(Clone, Copy, Default, PartialEq, Debug, Serialize, Deserialize)]
pub struct Aggregates {
    /// Cash and realised profit.
    pub closed_equity: Rupees,
    /// Σ risk of the positions.
    pub risk: Rupees,
    /// Σ volatility of the positions.
    pub volatility: Rupees,
    /// Σ margin of the positions.
    pub margin_used: Rupees,
    /// What all positions ever were charged.
    pub charges: Rupees,
}

/// A stored aggregate that is not what the positions give.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Mismatch {
    /// Which one, as operators grep for it, e.g. `Risk amount`.
    pub figure: &'static str,
    /// The stored value.
    pub stored: Rupees,
    /// The value that the positions give.
    pub calculated: Rupees,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { figure, stored, calculated } = self;
        // Decimal's own precision cuts off; round first.
        let (stored, calculated) = (stored.0.round_dp(2), calculated.0.round_dp(2));
        write!(f, "{figure} mismatch: DB={stored:.2}, Calculated={calculated:.2}")
    }
}

impl Aggregates {
    /// The sums over those of `positions` that hold something, beside this closed equity and what all were charged.
    pub fn of(positions: &[Position], closed_equity: Rupees, charges: Rupees) -> Self {
        let mut sums = Self { closed_equity, charges, ..Self::default() };
        for position in positions.iter().filter(|position| position.is_held()) {
            sums.risk += position.risk();
            sums.volatility += position.volatility();
            sums.margin_used += position.margin();
        }
        sums
    }

    /// Compares these calculated aggregates with the stored ones; lists what is further apart than [`TOLERANCE`].
    pub fn mismatches(&self, stored: &Self) -> Vec<Mismatch> {
        [
            ("Closed equity", stored.closed_equity, self.closed_equity),
            ("Risk amount", stored.risk, self.risk),
            ("Volatility amount", stored.volatility, self.volatility),
            ("Margin used", stored.margin_used, self.margin_used),
            ("Charges", stored.charges, self.charges),
        ]
        .into_iter()
        .filter(|(_, stored, calculated)| (stored.0 - calculated.0).abs() > TOLERANCE.0)
        .map(|(figure, stored, calculated)| Mismatch { figure, stored, calculated })
        .collect()
    }
}

impl Portfolio {
    /// The positions that hold something.
    pub fn held(&self) -> impl Iterator<Item = &Position> {
        self.positions.iter().filter(|position| position.is_held())
    }

    /// The held positions of an instrument.
    pub fn held_of<'a>(&'a self, instrument: &'a str) -> impl Iterator<Item = &'a Position> {
        self.held().filter(move |position| position.instrument == instrument)
    }

    /// Lots of an instrument that are held, and those of entries on their way by their margin.
    pub fn lots_of(&self, instrument: &Instrument) -> Decimal {
        let held: Decimal = self.held_of(&instrument.name).map(Position::lots).sum();
        let coming = self.pending.iter().filter(|entry| entry.instrument == instrument.name);
        held + coming.map(|entry| entry.margin.0 / instrument.margin_per_lot.0).sum::<Decimal>()
    }

    /// The held position of an instrument with this label.
    pub fn find(&self, instrument: &str, label: &str) -> Option<&Position> {
        self.held().find(|position| position.instrument == instrument && position.label == label)
    }

    /// What all positions ever were charged.
    pub fn charges(&self) -> Rupees {
        self.charges_closed + self.positions.iter().map(|position| position.charges).sum()
    }

    /// Cash and realised profit, before charges.
    pub fn closed_equity(&self) -> Rupees {
        self.cash + self.realised_closed + self.positions.iter().map(|position| position.realised).sum()
    }

    /// Unrealised profit of everything held.
    ///
    /// # Errors
    /// The symbols without a quote.
    pub fn unrealised(&self, quotes: &Quotes) -> Result<Rupees, MissingQuotes> {
        unrealised_of(self.held(), quotes)
    }

    /// Unrealised profit of one instrument.
    ///
    /// # Errors
    /// The symbols without a quote.
    pub fn unrealised_on(&self, instrument: &str, quotes: &Quotes) -> Result<Rupees, MissingQuotes> {
        unrealised_of(self.held_of(instrument), quotes)
    }

    /// Closed equity and the unrealised profit.
    ///
    /// # Errors
    /// The symbols without a quote.
    pub fn open_equity(&self, quotes: &Quotes) -> Result<Rupees, MissingQuotes> {
        Ok(self.closed_equity() + self.unrealised(quotes)?)
    }

    /// The same by the prices of the positions; none while one has none.
    pub fn open_equity_by(&self, price_of: impl Fn(&Position) -> Option<Price>) -> Option<Rupees> {
        let mut sum = self.closed_equity();
        for position in self.held() {
            sum += position.unrealised(price_of(position)?);
        }
        Some(sum)
    }

    /// Closed equity and the fraction `share` of the unrealised profit.
    ///
    /// # Errors
    /// The symbols without a quote.
    pub fn blended_equity(&self, share: Decimal, quotes: &Quotes) -> Result<Rupees, MissingQuotes> {
        Ok(self.closed_equity() + Rupees(share * self.unrealised(quotes)?.0))
    }

    /// What a base entry risks its percentage of.
    ///
    /// # Errors
    /// The symbols without a quote, on a basis that needs quotes.
    pub fn sizing_equity(&self, policy: &TradingPolicy, quotes: &Quotes) -> Result<Rupees, MissingQuotes> {
        self.equity(policy.sizing.equity, policy.unrealised_share, quotes)
    }

    /// What the gates' percentages are of.
    ///
    /// # Errors
    /// The symbols without a quote, on a basis that needs quotes.
    pub fn gate_equity(&self, policy: &TradingPolicy, quotes: &Quotes) -> Result<Rupees, MissingQuotes> {
        self.equity(policy.gates.equity, policy.unrealised_share, quotes)
    }

    /// Equity on `basis`; `share` is blended equity's. Fixed without a configured capital is the closed equity.
    ///
    /// # Errors
    /// The symbols without a quote, on a basis that needs quotes.
    pub fn equity(
        &self,
        basis: EquityBasis,
        share: Decimal,
        quotes: &Quotes,
    ) -> Result<Rupees, MissingQuotes> {
        match basis {
            EquityBasis::High => Ok(self.equity_high.max(self.closed_equity())),
            EquityBasis::Closed => Ok(self.closed_equity()),
            EquityBasis::Blended => self.blended_equity(share, quotes),
            EquityBasis::Fixed => Ok(self.fixed_equity.unwrap_or_else(|| self.closed_equity())),
        }
    }

    /// Raises the high-water mark to the closed equity; true when it moved.
    pub fn mark_high(&mut self) -> bool {
        let closed = self.closed_equity();
        let raised = closed > self.equity_high;
        self.equity_high = self.equity_high.max(closed);
        raised
    }

    /// Books a deposit, or a withdrawal if negative. Neither is performance: the high-water mark moves in proportion, so that a
    /// drawdown stays the share that it was. Where nothing is left to be a share of, it moves by the amount.
    pub fn move_cash(&mut self, amount: Rupees) {
        let before = self.closed_equity();
        self.cash += amount;
        let after = self.closed_equity();
        let share = |(before, after): (Rupees, Rupees)| {
            self.equity_high.0.checked_mul(after.0)?.checked_div(before.0)
        };
        let both = Some((before, after)).filter(|_| before.min(after) > Rupees::ZERO);
        self.equity_high =
            both.and_then(share).map_or(self.equity_high + amount, |high| Rupees(high).rounded());
    }

    /// The sums over what is held; entries on their way do not count.
    pub fn aggregates(&self) -> Aggregates {
        Aggregates::of(&self.positions, self.closed_equity(), self.charges())
    }

    /// The sums with the entries on their way: what gates and sizing must reckon with.
    pub fn committed(&self) -> Aggregates {
        let held = self.aggregates();
        Aggregates {
            risk: held.risk + self.pending.iter().map(|entry| entry.risk).sum(),
            volatility: held.volatility + self.pending.iter().map(|entry| entry.volatility).sum(),
            margin_used: held.margin_used + self.pending.iter().map(|entry| entry.margin).sum(),
            ..held
        }
    }
}

fn unrealised_of<'a>(
    positions: impl Iterator<Item = &'a Position>,
    quotes: &Quotes,
) -> Result<Rupees, MissingQuotes> {
    let mut sum = Rupees::ZERO;
    let mut symbols: Vec<String> = Vec::new();
    for position in positions {
        match quotes.get(&position.exchange, &position.symbol) {
            Some(price) => sum += position.unrealised(price),
            None if symbols.contains(&position.symbol) => {}
            None => symbols.push(position.symbol.clone()),
        }
    }
    if symbols.is_empty() { Ok(sum) } else { Err(MissingQuotes { symbols }) }
}
