//! Instruments: what is traded, in which units, at which risk; and the catalogue of those configured.
//!
//! The catalogue in the configuration is laid over the built-in one field by field, so that an operator writes
//! only what differs (usually the current contract). An instrument that is not built in must give every field.

use std::collections::BTreeMap;

use rust_decimal::{Decimal, dec};
use serde::{Deserialize, Serialize};

use super::fault::{Bound, Checker, Fault, join};
use super::money::{Price, Quantity, Rupees};
use super::order::Product;

/// One tradable instrument. Percentages are in percent: 1 means 1 %.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Instrument {
    /// The name that signals use, e.g. `GOLD_MINI`.
    pub name: String,
    /// Exchange code, e.g. `MCX`.
    pub exchange: String,
    /// The tradable symbol: the current contract for futures.
    pub symbol: String,
    /// Order units a lot.
    pub lot_size: Quantity,
    /// Rupees per point per lot.
    pub point_value: Rupees,
    /// Margin a lot.
    pub margin_per_lot: Rupees,
    /// Margin product of its orders.
    pub product: Product,
    /// The smallest price step.
    pub tick: Price,
    /// ATRs from the entry to the initial stop.
    pub atr_initial: Decimal,
    /// ATRs from the highest close to the trailing stop.
    pub atr_trailing: Decimal,
    /// Most pyramids on one base: 0 to 5.
    pub max_pyramids: u32,
    /// Equity risked by a base entry, in percent.
    pub risk_percent: Decimal,
    /// Equity that one ATR may move on a base entry, in percent.
    pub volatility_percent: Decimal,
    /// Most units in one order; none when the exchange sets no limit.
    pub freeze_quantity: Option<Quantity>,
    /// Most lots of it that an entry may bring what is held to, whatever the signal's figures allow; none = no such limit.
    pub max_lots: Option<u32>,
    /// The same in rupees: lots · the signal's price · point value.
    pub max_notional: Option<Rupees>,
    /// Its continuous trading ends in a closing auction, where its exchange has one: so it is with shares that derivatives are
    /// listed on. Not said, it may or may not: there are no entries then, and exits and stops go on.
    pub closing_auction: Option<bool>,
}

impl Instrument {
    /// Every fault of its figures, each under `<name>.<field>`.
    pub fn faults(&self) -> Vec<Fault> {
        // Bounds keep every product of price, quantity and point value far inside Decimal's 28 digits.
        const MOST: Decimal = dec!(1_000_000_000);
        let mut checker = Checker::new(&self.name);
        checker.check(plain_name(&self.name), "name", "use letters, digits, '_', '-' or '.', at most 64");
        checker.check(plain_name(&self.exchange), "exchange", "give the exchange code, e.g. MCX");
        checker.check(!self.symbol.trim().is_empty(), "symbol", "give the tradable contract");
        let zero = Bound::Above(Decimal::ZERO);
        checker.range("lot_size", self.lot_size.decimal(), zero, MOST);
        checker.range("point_value", self.point_value.0, zero, dec!(10_000_000));
        checker.range("margin_per_lot", self.margin_per_lot.0, zero, MOST);
        checker.range("tick", self.tick.0, zero, MOST);
        checker.range("atr_initial", self.atr_initial, zero, dec!(100));
        checker.range("atr_trailing", self.atr_trailing, zero, dec!(100));
        checker.range("max_pyramids", Decimal::from(self.max_pyramids), Bound::From(Decimal::ZERO), dec!(5));
        checker.range("risk_percent", self.risk_percent, zero, dec!(100));
        checker.range("volatility_percent", self.volatility_percent, zero, dec!(100));
        if let Some(freeze) = self.freeze_quantity {
            checker.check(
                freeze >= self.lot_size,
                "freeze_quantity",
                format!("is {freeze}, less than a lot of {}; set it to a lot or more", self.lot_size),
            );
        }
        for (field, limit, most) in [
            ("max_lots", self.max_lots.map(Decimal::from), MOST),
            ("max_notional", self.max_notional.map(|limit| limit.0), dec!(1_000_000_000_000)),
        ] {
            if let Some(limit) = limit {
                checker.range(field, limit, zero, most);
            }
        }
        checker.done()
    }

    /// The highest tick at or below `price`.
    pub fn tick_down(&self, price: Price) -> Price {
        Price((price.0 / self.tick.0).floor() * self.tick.0)
    }

    /// The lowest tick at or above `price`.
    pub fn tick_up(&self, price: Price) -> Price {
        Price((price.0 / self.tick.0).ceil() * self.tick.0)
    }
}

/// Names that are safe in keys, metrics and messages.
pub(crate) fn plain_name(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
}

/// An instrument as configured: what is not given comes from the built-in instrument of that name.
///
/// Decimals may be written as numbers or as text. A TOML float is read by its shortest text, which is exact up to
/// 15 significant digits; write text for more.
#[derive(Clone, Default, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InstrumentPatch {
    exchange: Option<String>,
    symbol: Option<String>,
    lot_size: Option<Quantity>,
    point_value: Option<Rupees>,
    margin_per_lot: Option<Rupees>,
    product: Option<Product>,
    tick: Option<Price>,
    atr_initial: Option<Decimal>,
    atr_trailing: Option<Decimal>,
    max_pyramids: Option<u32>,
    risk_percent: Option<Decimal>,
    volatility_percent: Option<Decimal>,
    freeze_quantity: Option<Quantity>,
    max_lots: Option<u32>,
    max_notional: Option<Rupees>,
    closing_auction: Option<bool>,
}

impl InstrumentPatch {
    fn lay_over(self, name: &str, base: Option<Instrument>) -> Result<Instrument, Vec<Fault>> {
        let mut faults = Vec::new();
        macro_rules! field {
            ($field:ident) => {
                self.$field.clone().or_else(|| base.as_ref().map(|base| base.$field.clone())).or_else(|| {
                    faults.push(Fault::new(
                        concat!(stringify!($field)),
                        "is missing; an instrument that is not built in gives every field",
                    ));
                    None
                })
            };
        }
        let fields = (
            (field!(exchange), field!(symbol), field!(lot_size), field!(point_value)),
            (field!(margin_per_lot), field!(product), field!(tick), field!(atr_initial)),
            (field!(atr_trailing), field!(max_pyramids), field!(risk_percent), field!(volatility_percent)),
        );
        let (
            (Some(exchange), Some(symbol), Some(lot_size), Some(point_value)),
            (Some(margin_per_lot), Some(product), Some(tick), Some(atr_initial)),
            (Some(atr_trailing), Some(max_pyramids), Some(risk_percent), Some(volatility_percent)),
        ) = fields
        else {
            for fault in &mut faults {
                fault.field = format!("{name}.{}", fault.field);
            }
            return Err(faults);
        };
        let closing_auction = self.closing_auction.or(base.as_ref().and_then(|base| base.closing_auction));
        let max_lots = self.max_lots.or(base.as_ref().and_then(|base| base.max_lots));
        let max_notional = self.max_notional.or(base.as_ref().and_then(|base| base.max_notional));
        let freeze_quantity = self.freeze_quantity.or(base.and_then(|base| base.freeze_quantity));
        let instrument = Instrument {
            name: name.to_owned(),
            exchange,
            symbol,
            lot_size,
            point_value,
            margin_per_lot,
            product,
            tick,
            atr_initial,
            atr_trailing,
            max_pyramids,
            risk_percent,
            volatility_percent,
            freeze_quantity,
            max_lots,
            max_notional,
            closing_auction,
        };
        let faults = instrument.faults();
        if faults.is_empty() { Ok(instrument) } else { Err(faults) }
    }
}

/// The instruments of a configuration were refused; each fault names its instrument and field.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[error("instruments: {}", join(.faults))]
pub struct CatalogError {
    /// All that is wrong.
    pub faults: Vec<Fault>,
}

/// The instruments that may be traded, by name.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, InstrumentPatch>")]
pub struct Catalog(BTreeMap<String, Instrument>);

impl Catalog {
    /// The built-in instruments with the configured ones laid over them.
    ///
    /// # Errors
    /// Every fault of every configured instrument.
    pub fn configured(patches: BTreeMap<String, InstrumentPatch>) -> Result<Self, CatalogError> {
        let mut catalog = Self::default();
        let mut faults = Vec::new();
        for (name, patch) in patches {
            match patch.lay_over(&name, catalog.0.get(&name).cloned()) {
                Ok(instrument) => drop(catalog.0.insert(name, instrument)),
                Err(more) => faults.extend(more),
            }
        }
        if faults.is_empty() { Ok(catalog) } else { Err(CatalogError { faults }) }
    }

    /// Only these instruments; the last of a name wins.
    pub fn of(instruments: impl IntoIterator<Item = Instrument>) -> Self {
        Self(instruments.into_iter().map(|instrument| (instrument.name.clone(), instrument)).collect())
    }

    /// The instrument called `name`.
    pub fn get(&self, name: &str) -> Option<&Instrument> {
        self.0.get(name)
    }

    /// The instrument whose current contract is `symbol` on `exchange`.
    pub fn by_symbol(&self, exchange: &str, symbol: &str) -> Option<&Instrument> {
        self.iter().find(|instrument| instrument.symbol == symbol && instrument.exchange == exchange)
    }

    /// All instruments, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Instrument> {
        self.0.values()
    }
}

impl TryFrom<BTreeMap<String, InstrumentPatch>> for Catalog {
    type Error = CatalogError;
    fn try_from(patches: BTreeMap<String, InstrumentPatch>) -> Result<Self, CatalogError> {
        Self::configured(patches)
    }
}

impl Default for Catalog {
    /// The four built-in instruments, with the contracts that the paper bridge trades.
    fn default() -> Self {
        let bank_nifty = Instrument {
            name: "BANK_NIFTY".to_owned(),
            exchange: "NFO".to_owned(),
            symbol: "BANKNIFTY30DEC25FUT".to_owned(),
            lot_size: Quantity(30),
            point_value: Rupees(dec!(30)),
            margin_per_lot: Rupees(dec!(270_000)),
            product: Product::Nrml,
            tick: Price(dec!(0.05)),
            atr_initial: dec!(1.5),
            atr_trailing: dec!(2.5),
            max_pyramids: 5,
            risk_percent: dec!(1.0),
            volatility_percent: dec!(0.5),
            freeze_quantity: Some(Quantity(600)),
            max_lots: None,
            max_notional: None,
            closing_auction: None,
        };
        let metal = |name: &str, symbol: &str| Instrument {
            name: name.to_owned(),
            exchange: "MCX".to_owned(),
            symbol: symbol.to_owned(),
            volatility_percent: dec!(0.2),
            freeze_quantity: None,
            ..bank_nifty.clone()
        };
        let gold = Instrument {
            lot_size: Quantity(100),
            point_value: Rupees(dec!(10)),
            margin_per_lot: Rupees(dec!(105_000)),
            tick: Price(dec!(1)),
            atr_initial: dec!(1),
            atr_trailing: dec!(2),
            max_pyramids: 3,
            ..metal("GOLD_MINI", "GOLDM05DEC25FUT")
        };
        let silver = Instrument {
            lot_size: Quantity(5),
            point_value: Rupees(dec!(5)),
            margin_per_lot: Rupees(dec!(200_000)),
            tick: Price(dec!(1)),
            atr_initial: dec!(2),
            atr_trailing: dec!(3),
            max_pyramids: 5,
            ..metal("SILVER_MINI", "SILVERM27FEB26FUT")
        };
        let copper = Instrument {
            lot_size: Quantity(2500),
            point_value: Rupees(dec!(2500)),
            margin_per_lot: Rupees(dec!(300_000)),
            atr_initial: dec!(3),
            atr_trailing: dec!(5),
            max_pyramids: 3,
            ..metal("COPPER", "COPPER31DEC25FUT")
        };
        Self::of([bank_nifty, gold, silver, copper])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_instruments_have_no_faults() {
        let catalog = Catalog::default();
        assert_eq!(catalog.iter().count(), 4);
        for instrument in catalog.iter() {
            assert_eq!(instrument.faults(), vec![], "{}", instrument.name);
        }
        let gold = catalog.get("GOLD_MINI").unwrap();
        assert_eq!((gold.lot_size, gold.point_value), (Quantity(100), Rupees(dec!(10))));
        assert_eq!(catalog.by_symbol("MCX", &gold.symbol), Some(gold));
        assert_eq!(catalog.by_symbol("NFO", &gold.symbol), None);
    }

    #[test]
    fn configuration_is_laid_over_the_built_in_instrument() {
        let catalog: Catalog = toml::from_str(
            "[GOLD_MINI]\nsymbol = \"GOLDM05FEB26FUT\"\nrisk_percent = 0.75\nmax_lots = 12\nmax_notional = 20000000\n\
             [RELIANCE]\nexchange = \"NSE\"\nsymbol = \"RELIANCE\"\nlot_size = 1\npoint_value = 1\n\
             margin_per_lot = \"1500.50\"\nproduct = \"CNC\"\ntick = 0.05\natr_initial = 2\natr_trailing = 3\n\
             max_pyramids = 0\nrisk_percent = 1\nvolatility_percent = 1\n",
        )
        .unwrap();
        assert_eq!(catalog.get("SILVER_MINI").unwrap().max_lots, None);
        let gold = catalog.get("GOLD_MINI").unwrap();
        assert_eq!((gold.max_lots, gold.max_notional), (Some(12), Some(Rupees(dec!(20_000_000)))));
        assert_eq!((gold.symbol.as_str(), gold.risk_percent), ("GOLDM05FEB26FUT", dec!(0.75)));
        assert_eq!(gold.tick, Price(dec!(1)));
        assert_eq!(catalog.get("RELIANCE").unwrap().margin_per_lot, Rupees(dec!(1500.50)));
    }

    #[test]
    fn every_fault_of_the_configuration_is_listed() {
        let error = toml::from_str::<Catalog>(
            "[GOLD_MINI]\ntick = 0\nmax_pyramids = 6\nfreeze_quantity = 10\nmax_lots = 0\nmax_notional = -1\n[NEW]\nsymbol = \"X\"\n",
        )
        .unwrap_err()
        .to_string();
        for field in [
            "GOLD_MINI.tick",
            "GOLD_MINI.max_pyramids",
            "GOLD_MINI.freeze_quantity",
            "GOLD_MINI.max_lots",
            "GOLD_MINI.max_notional",
            "NEW.exchange",
            "NEW.lot_size",
            "NEW.volatility_percent",
        ] {
            assert!(error.contains(field), "{field} missing in {error}");
        }
    }

    #[test]
    fn prices_round_to_ticks() {
        let bank = Catalog::default().get("BANK_NIFTY").unwrap().clone();
        assert_eq!(bank.tick_down(Price(dec!(52000.07))), Price(dec!(52000.05)));
        assert_eq!(bank.tick_up(Price(dec!(52000.07))), Price(dec!(52000.10)));
        assert_eq!(bank.tick_up(Price(dec!(52000.05))), Price(dec!(52000.05)));
    }
}
