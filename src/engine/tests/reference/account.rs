//! The trading arithmetic once more, by whole numbers and from its description alone: nothing here knows the code that
//! trades. Prices and money are counted in units of 1e-8 rupee; an equity, of which a fraction may be taken, in 1e-10.
//!
//! What is kept is kept with eight decimals, half to even: an average price when something is bought, a profit when
//! something is sold, and what a position risks, moves and binds.

use std::collections::BTreeSet;

/// One rupee.
pub(super) const RUPEE: i128 = 100_000_000;

/// What is traded, as the table of instruments has it.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Contract {
    pub name: &'static str,
    /// Units a lot.
    pub lot: i128,
    /// Rupees a point a lot.
    pub point_value: i128,
    /// Rupees a lot.
    pub margin: i128,
    /// ATRs to the first stop, in tenths.
    pub first_stop: i128,
    /// ATRs to the trailing stop, in tenths.
    pub trailing_stop: i128,
    pub pyramids: usize,
    /// Equity at risk, per mille.
    pub risk: i128,
    /// Equity that an ATR moves, per mille.
    pub volatility: i128,
}

const fn contract(
    name: &'static str,
    (lot, point_value, margin): (i128, i128, i128),
    (first_stop, trailing_stop): (i128, i128),
    pyramids: usize,
    volatility: i128,
) -> Contract {
    Contract { name, lot, point_value, margin, first_stop, trailing_stop, pyramids, risk: 10, volatility }
}

pub(super) const CONTRACTS: [Contract; 4] = [
    contract("BANK_NIFTY", (30, 30, 270_000), (15, 25), 5, 5),
    contract("GOLD_MINI", (100, 10, 105_000), (10, 20), 3, 2),
    contract("SILVER_MINI", (5, 5, 200_000), (20, 30), 5, 2),
    contract("COPPER", (2500, 2500, 300_000), (30, 50), 3, 2),
];

/// The price of each contract now.
pub(super) type Marks = [i128; 4];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Basis {
    High,
    Closed,
    Blended,
    Fixed,
}

pub(super) const BASES: [Basis; 4] = [Basis::High, Basis::Closed, Basis::Blended, Basis::Fixed];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum FirstStop {
    Tighter,
    Signal,
    Atr,
}

/// The thresholds; fractions in hundredths, percentages in percent.
#[derive(Clone, Debug)]
pub(super) struct Thresholds {
    pub first_stop: FirstStop,
    pub sizing: Basis,
    pub gates: Basis,
    pub unrealised_share: i128,
    pub margin_limit: i128,
    pub decay: i128,
    pub profit_share: i128,
    pub volatility_limits_size: bool,
    pub base_risk: i128,
    pub base_volatility: i128,
    pub pyramid_risk: i128,
    pub pyramid_volatility: i128,
    pub min_r: i128,
    pub min_step: i128,
}

/// What is held under one label.
#[derive(Clone, Debug)]
pub(super) struct Holding {
    pub contract: usize,
    /// 1 for the base.
    pub n: u8,
    pub units: i128,
    pub average: i128,
    pub atr: i128,
    pub first_stop: i128,
    pub stop: i128,
    pub highest: i128,
    pub realised: i128,
    /// Σ price · units of all that was bought, and of all that was sold.
    pub paid: i128,
    pub received: i128,
    /// An exit is out.
    pub leaving: bool,
}

/// A wish to enter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish {
    pub contract: usize,
    pub n: u8,
    pub price: i128,
    pub signal_stop: i128,
    pub atr: i128,
    /// In hundredths.
    pub er: i128,
}

/// An entry that is out, with what of it is not filled.
#[derive(Clone, Debug)]
pub(super) struct Outstanding {
    pub wish: Wish,
    pub stop: i128,
    pub units: i128,
}

/// What is to be done about a wish.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// So many lots, with the portfolio's risk and volatility then.
    Enter {
        lots: i128,
        risk: i128,
        volatility: i128,
    },
    Refuse(BTreeSet<&'static str>),
}

#[derive(Clone, Debug)]
pub(super) struct Account {
    pub cash: i128,
    /// Profit of what is not held any more.
    pub realised: i128,
    pub high: i128,
    pub fixed: i128,
    /// In the order in which they were bought.
    pub holdings: Vec<Holding>,
    pub outstanding: Option<Outstanding>,
}

/// n / d with the half to even.
fn nearest(n: i128, d: i128) -> i128 {
    let (down, rest) = (n.div_euclid(d), n.rem_euclid(d));
    match (rest * 2).cmp(&d) {
        std::cmp::Ordering::Less => down,
        std::cmp::Ordering::Greater => down + 1,
        std::cmp::Ordering::Equal => down + down.rem_euclid(2),
    }
}

impl Holding {
    fn of(&self) -> &'static Contract {
        &CONTRACTS[self.contract]
    }

    /// What so many points are worth on so many units.
    fn worth(&self, points: i128, units: i128) -> i128 {
        nearest(points * units * self.of().point_value, self.of().lot)
    }

    pub fn risk(&self) -> i128 {
        self.worth((self.average - self.stop).max(0), self.units)
    }

    pub fn volatility(&self) -> i128 {
        self.worth(self.atr, self.units)
    }

    pub fn margin(&self) -> i128 {
        nearest(self.units * self.of().margin * RUPEE, self.of().lot)
    }

    pub fn unrealised(&self, marks: &Marks) -> i128 {
        self.worth(marks[self.contract] - self.average, self.units)
    }

    pub fn buy(&mut self, units: i128, price: i128) {
        self.average = nearest(self.average * self.units + price * units, self.units + units);
        self.units += units;
        self.paid += price * units;
    }

    pub fn sell(&mut self, units: i128, price: i128) {
        self.realised += self.worth(price - self.average, units);
        self.units -= units;
        self.received += price * units;
    }

    /// A bar closed.
    pub fn trail(&mut self, close: i128, atr: i128) {
        self.stop = self.trailed(close, atr);
        self.highest = self.highest.max(close);
    }

    /// Where its stop would be then.
    pub fn trailed(&self, close: i128, atr: i128) -> i128 {
        self.stop.max(self.highest.max(close) - self.of().trailing_stop * atr / 10)
    }

    /// Profit by the money that went in and out, times the lot: no average, nothing rounded.
    pub fn profit_by_cash(&self, marks: &Marks) -> i128 {
        (self.received - self.paid + self.units * marks[self.contract]) * self.of().point_value
    }
}

impl Account {
    pub fn closed(&self) -> i128 {
        self.cash + self.realised + self.holdings.iter().map(|held| held.realised).sum::<i128>()
    }

    pub fn unrealised(&self, marks: &Marks) -> i128 {
        self.holdings.iter().map(|held| held.unrealised(marks)).sum()
    }

    pub fn sum(&self, of: impl Fn(&Holding) -> i128) -> i128 {
        self.holdings.iter().map(of).sum()
    }

    /// In 1e-10 rupee.
    pub fn equity(&self, basis: Basis, share: i128, marks: &Marks) -> i128 {
        match basis {
            Basis::High => self.high.max(self.closed()) * 100,
            Basis::Closed => self.closed() * 100,
            Basis::Blended => self.closed() * 100 + share * self.unrealised(marks),
            Basis::Fixed => self.fixed * 100,
        }
    }

    pub fn held(&self, contract: usize, n: u8) -> Option<&Holding> {
        self.holdings.iter().find(|held| held.contract == contract && held.n == n)
    }

    /// Moves what was sold out to the past, and the high-water mark up.
    pub fn settle(&mut self) {
        self.realised += self.sum(|held| if held.units == 0 { held.realised } else { 0 });
        self.holdings.retain(|held| held.units > 0);
        self.high = self.high.max(self.closed());
    }

    /// Bought of the entry that is out.
    pub fn filled(&mut self, units: i128, price: i128) {
        let out = self.outstanding.as_mut().expect("an entry is out");
        out.units -= units;
        let Outstanding { wish, stop, .. } = *out;
        let same = |held: &&mut Holding| held.contract == wish.contract && held.n == wish.n;
        if let Some(held) = self.holdings.iter_mut().find(same) {
            return held.buy(units, price);
        }
        self.holdings.push(Holding {
            contract: wish.contract,
            n: wish.n,
            units,
            average: price,
            atr: wish.atr,
            first_stop: stop,
            stop,
            highest: price,
            realised: 0,
            paid: price * units,
            received: 0,
            leaving: false,
        });
    }

    pub fn first_stop(rule: FirstStop, wish: &Wish) -> i128 {
        let by_atr = wish.price - CONTRACTS[wish.contract].first_stop * wish.atr / 10;
        match rule {
            FirstStop::Tighter => by_atr.max(wish.signal_stop),
            FirstStop::Signal => wish.signal_stop,
            FirstStop::Atr => by_atr,
        }
        .max(0)
    }

    fn margin_used(&self) -> i128 {
        let out = self.outstanding.as_ref().map_or(0, |out| {
            let contract = &CONTRACTS[out.wish.contract];
            out.units * contract.margin * RUPEE / contract.lot
        });
        self.sum(Holding::margin) + out
    }

    /// What the entry that is out may come to risk, and to move.
    fn expected(&self) -> (i128, i128) {
        self.outstanding.as_ref().map_or((0, 0), |out| {
            let contract = &CONTRACTS[out.wish.contract];
            let worth = |points: i128| points * out.units * contract.point_value / contract.lot;
            (worth(out.wish.price - out.stop), worth(out.wish.atr))
        })
    }

    /// Lots that the margin left is enough for.
    fn by_margin(&self, by: &Thresholds, contract: &Contract, equity: i128) -> i128 {
        let left = equity * by.margin_limit - self.margin_used() * 100 * 100;
        left.div_euclid(contract.margin * RUPEE * 100 * 100)
    }

    fn base_lots(&self, by: &Thresholds, wish: &Wish, stop: i128, equity: i128) -> i128 {
        let contract = &CONTRACTS[wish.contract];
        let a_lot = |points: i128| points * contract.point_value * 100;
        let by_risk = equity * contract.risk * wish.er / (1000 * 100 * a_lot(wish.price - stop));
        let by_volatility = equity * contract.volatility / (1000 * a_lot(wish.atr));
        let by_margin = self.by_margin(by, contract, equity);
        let lots = by_risk.min(by_margin);
        if by.volatility_limits_size { lots.min(by_volatility) } else { lots }
    }

    fn pyramid_lots(&self, by: &Thresholds, wish: &Wish, stop: i128, equity: i128, marks: &Marks) -> i128 {
        let contract = &CONTRACTS[wish.contract];
        let base = self.held(wish.contract, 1).expect("a base is held");
        let power = u32::from(wish.n) - 1;
        let by_base = base.units * by.decay.pow(power) / (contract.lot * 100_i128.pow(power));
        let beyond = (self.profit_on(wish.contract, marks) - base.risk()).max(0);
        let by_profit = beyond * by.profit_share / (100 * (wish.price - stop) * contract.point_value);
        self.by_margin(by, contract, equity).min(by_base).min(by_profit)
    }

    fn profit_on(&self, contract: usize, marks: &Marks) -> i128 {
        self.sum(|held| if held.contract == contract { held.unrealised(marks) } else { 0 })
    }

    /// How many lots, or everything that stands in the way.
    pub fn judge(&self, by: &Thresholds, wish: &Wish, marks: &Marks) -> Verdict {
        let contract = &CONTRACTS[wish.contract];
        let (base, is_base) = (self.held(wish.contract, 1), wish.n == 1);
        let stop = Self::first_stop(by.first_stop, wish);
        let refused = |code| Verdict::Refuse(BTreeSet::from([code]));
        let equity = self.equity(by.sizing, by.unrealised_share, marks);
        if equity <= 0 {
            return refused("ZERO_LOTS_SENSELESS_INPUT");
        }
        let lots = match (is_base, base) {
            (true, _) => self.base_lots(by, wish, stop, equity),
            (false, Some(_)) => self.pyramid_lots(by, wish, stop, equity, marks),
            (false, None) => return refused("ZERO_LOTS_MISSING_INPUT"),
        };
        if lots < 1 {
            return refused("ZERO_LOTS_BELOW_ONE");
        }
        let mut against = BTreeSet::new();
        let mut unless = |holds: bool, code| {
            if !holds {
                against.insert(code);
            }
        };
        let out = self.outstanding.as_ref();
        unless(out.is_none_or(|out| out.wish.contract != wish.contract), "ENTRY_IN_FLIGHT");
        match base {
            base if is_base => unless(base.is_none(), "BASE_ALREADY_OPEN"),
            Some(base) => {
                let pyramids =
                    || self.holdings.iter().filter(|held| held.contract == wish.contract && held.n > 1);
                let last = pyramids().next_back().unwrap_or(base).average;
                let r = base.average - base.first_stop;
                unless(self.held(wish.contract, wish.n).is_none(), "LABEL_TAKEN");
                unless(!base.leaving, "BASE_CLOSING");
                unless(pyramids().count() < contract.pyramids, "MAX_PYRAMIDS");
                unless(r > 0 && (wish.price - base.average) * 100 > by.min_r * r, "ONE_R_NOT_REACHED");
                unless((wish.price - last) * 100 >= by.min_step * wish.atr, "ATR_STEP_NOT_REACHED");
                unless(self.profit_on(wish.contract, marks) > 0, "INSTRUMENT_NOT_IN_PROFIT");
            }
            None => {}
        }
        let equity = self.equity(by.gates, by.unrealised_share, marks);
        let (out_risk, out_volatility) = self.expected();
        let a_point = lots * contract.point_value;
        let risk = self.sum(Holding::risk) + out_risk + (wish.price - stop) * a_point;
        let volatility = self.sum(Holding::volatility) + out_volatility + wish.atr * a_point;
        let (most_risk, most_volatility) = match is_base {
            true => (by.base_risk, by.base_volatility),
            false => (by.pyramid_risk, by.pyramid_volatility),
        };
        if equity <= 0 {
            unless(false, "EQUITY_NOT_POSITIVE");
        } else {
            unless(risk * 100 * 100 <= most_risk * equity, "RISK_LIMIT");
            unless(volatility * 100 * 100 <= most_volatility * equity, "VOLATILITY_LIMIT");
        }
        if against.is_empty() { Verdict::Enter { lots, risk, volatility } } else { Verdict::Refuse(against) }
    }
}
