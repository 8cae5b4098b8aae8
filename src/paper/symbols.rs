//! The bridge's names of contracts: `[BASE][DDMMMYY]FUT`, `[BASE][DDMMMYY][STRIKE]CE` or `PE`; anything else is a share or an
//! index.

use rust_decimal::Decimal;

/// What a name says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Name<'a> {
    /// What it is a contract on, e.g. `BANKNIFTY`; for a share its own name.
    pub base: &'a str,
    /// `DDMMMYY`, where it expires.
    pub expiry: Option<&'a str>,
    /// Which kind of contract.
    pub kind: Kind,
}

/// A kind of contract.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A share or an index.
    Share,
    /// A future.
    Future,
    /// The right to buy at this strike.
    Call(Decimal),
    /// The right to sell at this strike.
    Put(Decimal),
}

/// Length of `DDMMMYY`.
const DAY: usize = 7;

// === impl Name ===

impl<'a> Name<'a> {
    /// Reads a symbol.
    pub fn read(symbol: &'a str) -> Self {
        Self::contract(symbol).unwrap_or(Self { base: symbol, expiry: None, kind: Kind::Share })
    }

    fn contract(symbol: &'a str) -> Option<Self> {
        if !symbol.is_ascii() {
            return None;
        }
        if let Some(rest) = symbol.strip_suffix("FUT") {
            let (base, expiry) = rest.split_at_checked(rest.len().checked_sub(DAY)?)?;
            let named = !base.is_empty() && is_day(expiry);
            return named.then_some(Self { base, expiry: Some(expiry), kind: Kind::Future });
        }
        let (rest, kind): (_, fn(Decimal) -> Kind) = match symbol.strip_suffix("CE") {
            Some(rest) => (rest, Kind::Call),
            None => (symbol.strip_suffix("PE")?, Kind::Put),
        };
        (1..rest.len().saturating_sub(DAY)).find_map(|start| {
            let (base, rest) = rest.split_at(start);
            let (expiry, strike) = rest.split_at(DAY);
            let strike = strike.bytes().all(|b| b.is_ascii_digit() || b == b'.').then(|| strike.parse().ok());
            is_day(expiry).then_some(Self { base, expiry: Some(expiry), kind: kind(strike??) })
        })
    }

    /// `EQ`, `FUT`, `CE` or `PE`.
    pub fn instrument_type(&self) -> &'static str {
        match self.kind {
            Kind::Share => "EQ",
            Kind::Future => "FUT",
            Kind::Call(_) => "CE",
            Kind::Put(_) => "PE",
        }
    }

    /// An option's strike.
    pub fn strike(&self) -> Option<Decimal> {
        match self.kind {
            Kind::Share | Kind::Future => None,
            Kind::Call(strike) | Kind::Put(strike) => Some(strike),
        }
    }
}

/// `DDMMMYY`.
fn is_day(text: &str) -> bool {
    let [day, month, year] = [&text.as_bytes()[..2], &text.as_bytes()[2..5], &text.as_bytes()[5..]];
    [day, year].iter().all(|digits| digits.iter().all(u8::is_ascii_digit))
        && month.iter().all(u8::is_ascii_uppercase)
}

#[cfg(test)]
mod tests {
    use rust_decimal::dec;

    use super::*;

    #[test]
    fn names_are_read_as_the_bridge_writes_them() {
        for (symbol, base, expiry, kind) in [
            ("INFY", "INFY", None, Kind::Share),
            ("BANKNIFTY24APR24FUT", "BANKNIFTY", Some("24APR24"), Kind::Future),
            ("NIFTY28MAR2420800CE", "NIFTY", Some("28MAR24"), Kind::Call(dec!(20800))),
            ("VEDL25APR24292.5PE", "VEDL", Some("25APR24"), Kind::Put(dec!(292.5))),
            ("SENSEX5025DEC2580000CE", "SENSEX50", Some("25DEC25"), Kind::Call(dec!(80000))),
            ("BAJAJFINSVCE", "BAJAJFINSVCE", None, Kind::Share),
            ("FUT", "FUT", None, Kind::Share),
            ("24APR24FUT", "24APR24FUT", None, Kind::Share),
            ("PE", "PE", None, Kind::Share),
            ("NIFTY28MAR24PE", "NIFTY28MAR24PE", None, Kind::Share),
            ("é24APR24FUT", "é24APR24FUT", None, Kind::Share),
        ] {
            assert_eq!(Name::read(symbol), Name { base, expiry, kind }, "{symbol}");
        }
    }
}
