//! What a random portfolio is made of, and the same figures in both arithmetics' terms.

use rust_decimal::Decimal;

use super::account::{BASES, Basis, FirstStop, RUPEE, Thresholds};
use crate::domain::instrument::{Catalog, Instrument};
use crate::domain::policy::{EquityBasis, InitialStop};
use crate::engine::decide::Rules;
use crate::engine::tests::desk::rules;
use crate::paper::rng::Rng;

pub(super) const PAISA: i128 = RUPEE / 100;

/// Random draws, repeatable by their seed.
pub(super) struct Draws(Rng);

impl Draws {
    pub fn new(seed: u64) -> Self {
        Self(Rng::new(seed))
    }

    pub fn between(&mut self, low: i128, high: i128) -> i128 {
        let span = u64::try_from(high - low + 1).unwrap();
        low + i128::from(self.0.below(span))
    }

    pub fn of<T: Clone>(&mut self, items: &[T]) -> T {
        items[usize::try_from(self.0.below(items.len() as u64)).unwrap()].clone()
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.0.below(100) < percent
    }

    /// An amount near `about`, now and then a round one: limits are met exactly, too.
    pub fn near(&mut self, about: i128, spread_permille: i128) -> i128 {
        let spread = (about / 1000 * spread_permille).max(PAISA);
        let drawn = about + self.between(-spread / PAISA, spread / PAISA) * PAISA;
        let mut step = PAISA;
        while self.chance(50) && step * 10_000 <= about {
            step *= 10;
        }
        ((drawn / step) * step).max(step)
    }

    pub fn thresholds(&mut self) -> Thresholds {
        let usual = Thresholds {
            first_stop: FirstStop::Tighter,
            sizing: Basis::High,
            gates: Basis::Blended,
            unrealised_share: 50,
            margin_limit: 60,
            decay: 50,
            profit_share: 50,
            volatility_limits_size: true,
            base_risk: 15,
            base_volatility: 5,
            pyramid_risk: 12,
            pyramid_volatility: 4,
            min_r: 100,
            min_step: 50,
        };
        if self.chance(50) {
            return usual;
        }
        Thresholds {
            first_stop: self.of(&[FirstStop::Tighter, FirstStop::Signal, FirstStop::Atr]),
            sizing: self.of(&BASES),
            gates: self.of(&BASES),
            unrealised_share: self.of(&[0, 30, 50, 100]),
            margin_limit: self.of(&[40, 60, 100]),
            decay: self.of(&[40, 50, 100]),
            profit_share: self.of(&[25, 50, 100]),
            volatility_limits_size: self.chance(50),
            base_risk: self.of(&[2, 15]),
            base_volatility: self.of(&[1, 5]),
            pyramid_risk: self.of(&[2, 12]),
            pyramid_volatility: self.of(&[1, 4]),
            min_r: self.of(&[50, 100]),
            min_step: self.of(&[25, 50, 100]),
        }
    }
}

/// The engine's rules under these thresholds. No order is too large for one.
pub(super) fn under(by: &Thresholds) -> Rules {
    let (mut rules, hundredths) = (rules(), |n: i128| Decimal::from_i128_with_scale(n, 2));
    let percent = |n: i128| Decimal::from_i128_with_scale(n, 0);
    let policy = &mut rules.policy;
    policy.unrealised_share = hundredths(by.unrealised_share);
    policy.initial_stop = match by.first_stop {
        FirstStop::Tighter => InitialStop::Tighter,
        FirstStop::Signal => InitialStop::Signal,
        FirstStop::Atr => InitialStop::Atr,
    };
    policy.sizing.equity = basis(by.sizing);
    policy.sizing.use_volatility_limit = by.volatility_limits_size;
    policy.sizing.margin_limit = hundredths(by.margin_limit);
    policy.sizing.pyramid_decay = hundredths(by.decay);
    policy.sizing.pyramid_profit_share = hundredths(by.profit_share);
    policy.gates.equity = basis(by.gates);
    policy.gates.base_risk_percent = percent(by.base_risk);
    policy.gates.base_volatility_percent = percent(by.base_volatility);
    policy.gates.pyramid_risk_percent = percent(by.pyramid_risk);
    policy.gates.pyramid_volatility_percent = percent(by.pyramid_volatility);
    policy.gates.pyramid_min_r = hundredths(by.min_r);
    policy.gates.pyramid_min_atr_step = hundredths(by.min_step);
    let unbounded = |instrument: &Instrument| Instrument { freeze_quantity: None, ..instrument.clone() };
    rules.catalog = Catalog::of(Catalog::default().iter().map(unbounded));
    rules
}

pub(super) fn basis(basis: Basis) -> EquityBasis {
    match basis {
        Basis::High => EquityBasis::High,
        Basis::Closed => EquityBasis::Closed,
        Basis::Blended => EquityBasis::Blended,
        Basis::Fixed => EquityBasis::Fixed,
    }
}

/// So many 1e-8 rupees as the engine has them.
pub(super) fn decimal(units: i128) -> Decimal {
    Decimal::from_i128_with_scale(units, 8)
}

/// What the engine keeps, in 1e-8 rupees: never more decimals.
pub(super) fn units(amount: Decimal) -> i128 {
    let amount = amount.normalize();
    assert!(amount.scale() <= 8, "{amount} has more decimals than are kept");
    amount.mantissa() * 10_i128.pow(8 - amount.scale())
}
