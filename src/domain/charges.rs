//! What trading costs: brokerage, taxes and fees, by exchange, kind of contract, product and day.
//!
//! **Charges are of an order.** Brokers cap what they take of an order, however it fills. So a fill is charged what its order is
//! charged with it, less what the order's earlier fills were: the fills of an order add up to its charges to the paisa, in whatever
//! parts it filled, and whoever leads by then. What a broker's contract note rounds by the day, or by the component, differs from
//! it by paise.
//!
//! Of a day the newest terms are in force that had begun by then. Nothing is charged where none apply.

use chrono::NaiveDate;
use rust_decimal::{Decimal, dec};
use serde::{Deserialize, Serialize};

use super::expiry::day_in_name;
use super::fault::{Bound, Checker, Fault};
use super::instrument::plain_name;
use super::money::Rupees;
use super::order::{OrderSpec, Product, Side};

/// Decimals of a charge: it is paid in paise.
const PAISE: u32 = 2;

/// What is traded, as charges tell it apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// It never ends.
    Share,
    /// A future.
    Future,
    /// An option: its turnover is its premium.
    Option,
}

/// What an exchange's orders are charged. Percentages are of an order's turnover, in percent: 0.03 means 0.03 %.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Terms {
    /// Exchange code, e.g. `MCX`.
    pub exchange: String,
    /// Of these alone; none = of every kind.
    pub kind: Option<Kind>,
    /// Of this product alone: MIS within the day, NRML and CNC carried; none = of every product.
    pub product: Option<Product>,
    /// In force from this day in India on; none = ever since.
    pub from: Option<NaiveDate>,
    /// Brokerage.
    pub brokerage_percent: Decimal,
    /// Most of `brokerage_percent` that an order is charged, in rupees; none = no such limit.
    pub brokerage_most: Option<Rupees>,
    /// Brokerage of each order that fills at all, in rupees, beside the percentage.
    pub brokerage_flat: Rupees,
    /// Transaction tax (STT, CTT) on what is bought.
    pub tax_buy_percent: Decimal,
    /// Transaction tax on what is sold.
    pub tax_sell_percent: Decimal,
    /// The exchange's transaction charges.
    pub exchange_percent: Decimal,
    /// The regulator's fee: ₹10 a crore is 0.0001.
    pub sebi_percent: Decimal,
    /// Stamp duty, which is of purchases.
    pub stamp_buy_percent: Decimal,
    /// GST, in percent of brokerage, exchange's charges and regulator's fee.
    pub gst_percent: Decimal,
}

/// All terms, by their names in the configuration.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Schedule(Vec<(String, Terms)>);

// === impl Kind ===

impl Kind {
    /// What is traded under a symbol: contracts have their last day in it.
    pub fn of(symbol: &str) -> Self {
        match day_in_name(symbol) {
            None => Self::Share,
            Some(_) if symbol.ends_with("FUT") => Self::Future,
            Some(_) => Self::Option,
        }
    }
}

// === impl Terms ===

impl Terms {
    /// What an order on this side is charged for its turnover so far, in rupees, rounded to the paisa once.
    pub fn charges(&self, side: Side, turnover: Rupees) -> Rupees {
        if turnover <= Rupees::ZERO {
            return Rupees::ZERO;
        }
        let part = |percent: Decimal| turnover.0 * percent * dec!(0.01);
        let by_turnover = part(self.brokerage_percent);
        let brokerage = self.brokerage_most.map_or(by_turnover, |most| by_turnover.min(most.0));
        let services =
            self.brokerage_flat.0 + brokerage + part(self.exchange_percent) + part(self.sebi_percent);
        let taxes = match side {
            Side::Buy => part(self.tax_buy_percent) + part(self.stamp_buy_percent),
            Side::Sell => part(self.tax_sell_percent),
        };
        let gst = services * self.gst_percent * dec!(0.01);
        Rupees((services + gst + taxes).round_dp(PAISE))
    }

    /// What is wrong with its figures, each under its path in the configuration.
    pub fn faults(&self, name: &str) -> Vec<Fault> {
        let mut checker = Checker::new(name);
        let zero = Bound::From(Decimal::ZERO);
        let is_code =
            plain_name(&self.exchange) && !self.exchange.bytes().any(|byte| byte.is_ascii_lowercase());
        checker.check(is_code, "exchange", "give the exchange code as instruments have it, e.g. \"MCX\"");
        for (field, percent, most) in [
            ("brokerage_percent", self.brokerage_percent, dec!(10)),
            ("tax_buy_percent", self.tax_buy_percent, dec!(10)),
            ("tax_sell_percent", self.tax_sell_percent, dec!(10)),
            ("exchange_percent", self.exchange_percent, dec!(10)),
            ("sebi_percent", self.sebi_percent, dec!(10)),
            ("stamp_buy_percent", self.stamp_buy_percent, dec!(10)),
            ("gst_percent", self.gst_percent, dec!(100)),
            ("brokerage_flat", self.brokerage_flat.0, dec!(100_000)),
        ] {
            checker.range(field, percent, zero, most);
        }
        if let Some(most) = self.brokerage_most {
            checker.range("brokerage_most", most.0, Bound::Above(Decimal::ZERO), dec!(1_000_000));
        }
        checker.done()
    }

    fn applies(&self, order: &OrderSpec, day: NaiveDate) -> bool {
        self.exchange == order.exchange
            && self.from.is_none_or(|from| from <= day)
            && self.product.is_none_or(|product| product == order.product)
            && self.kind.is_none_or(|kind| kind == Kind::of(&order.symbol))
    }

    /// For what it is; the same of two from the same day on would leave open which is in force.
    fn what(&self) -> (&str, Option<Kind>, Option<Product>, Option<NaiveDate>) {
        (&self.exchange, self.kind, self.product, self.from)
    }
}

// === impl Schedule ===

impl Schedule {
    /// All terms, by their names.
    ///
    /// # Errors
    /// Every fault of each, and terms that are for the same as others.
    pub fn of(terms: Vec<(String, Terms)>) -> Result<Self, Vec<Fault>> {
        let mut faults: Vec<Fault> = terms.iter().flat_map(|(name, terms)| terms.faults(name)).collect();
        for (index, (name, own)) in terms.iter().enumerate() {
            if let Some((other, _)) = terms[..index].iter().find(|(_, other)| other.what() == own.what()) {
                let same = format!(
                    "is for the same exchange, kind, product and day as {other}; change one of them, or remove it"
                );
                faults.push(Fault::new(name.clone(), same));
            }
        }
        if faults.is_empty() { Ok(Self(terms)) } else { Err(faults) }
    }

    /// The terms of an order on a day: those that name its kind before those that do not, then those that name its product, then
    /// the newest.
    pub fn terms(&self, order: &OrderSpec, day: NaiveDate) -> Option<&Terms> {
        let all = self.0.iter().map(|(_, terms)| terms).filter(|terms| terms.applies(order, day));
        all.max_by_key(|terms| (terms.kind.is_some(), terms.product.is_some(), terms.from))
    }

    /// What a fill is charged: what its order is for the turnover with it, in rupees, less what the order was `charged` before.
    /// Nothing where that is more, as when the terms were changed while it filled.
    pub fn of_fill(&self, order: &OrderSpec, day: NaiveDate, turnover: Rupees, charged: Rupees) -> Rupees {
        let charges =
            self.terms(order, day).map_or(Rupees::ZERO, |terms| terms.charges(order.side, turnover));
        (charges - charged).max(Rupees::ZERO)
    }
}
