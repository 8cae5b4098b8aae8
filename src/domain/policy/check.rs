//! What is wrong with a policy: every fault of it, each under its path in the configuration.

use rust_decimal::{Decimal, dec};

use super::{
    AccountLimits, AgePolicy, DivergencePolicy, GatePolicy, OrderPolicy, SignalPolicy, SizingPolicy,
    StopPolicy, TradingPolicy,
};
use crate::domain::fault::{Bound, Checker, Fault};

const ABOVE_ZERO: Bound = Bound::Above(Decimal::ZERO);
const FROM_ZERO: Bound = Bound::From(Decimal::ZERO);
const HUNDRED: Decimal = Decimal::ONE_HUNDRED;

impl TradingPolicy {
    /// Every fault of the thresholds, each under its path in the configuration.
    pub fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        if self.unrealised_share < Decimal::ZERO || self.unrealised_share > Decimal::ONE {
            faults.push(Fault::new(
                "unrealised_share",
                format!("is {}; set it between 0 and 1", self.unrealised_share),
            ));
        }
        faults.extend(self.signals.faults());
        faults.extend(self.age.faults());
        faults.extend(self.divergence.faults());
        faults.extend(self.sizing.faults());
        faults.extend(self.gates.faults());
        faults.extend(self.limits.faults());
        faults.extend(self.stops.faults());
        faults.extend(self.orders.faults());
        faults.extend(self.square_off.faults());
        faults.extend(self.rollover.faults());
        faults
    }
}

impl SignalPolicy {
    fn faults(&self) -> Vec<Fault> {
        let mut signals = Checker::new("signals");
        signals.range("max_body_bytes", self.max_body_bytes.into(), Bound::From(dec!(256)), dec!(1_048_576));
        signals.range("max_future_s", self.max_future_s.into(), FROM_ZERO, dec!(3600));
        signals.done()
    }
}

impl AgePolicy {
    fn faults(&self) -> Vec<Fault> {
        let mut age = Checker::new("age");
        let Self { normal_s, warn_s, reject_s } = *self;
        age.check(
            normal_s <= warn_s,
            "warn_s",
            format!("is {warn_s}; set it to normal_s ({normal_s}) or more"),
        );
        age.check(
            warn_s <= reject_s,
            "reject_s",
            format!("is {reject_s}; set it to warn_s ({warn_s}) or more"),
        );
        age.range("reject_s", reject_s.into(), ABOVE_ZERO, dec!(86_400));
        age.done()
    }
}

impl DivergencePolicy {
    fn faults(&self) -> Vec<Fault> {
        let mut divergence = Checker::new("divergence");
        divergence.range("base_percent", self.base_percent, ABOVE_ZERO, HUNDRED);
        divergence.range("pyramid_percent", self.pyramid_percent, ABOVE_ZERO, HUNDRED);
        divergence.range("warn_percent", self.warn_percent, FROM_ZERO, HUNDRED);
        divergence.range("bar_percent", self.bar_percent, ABOVE_ZERO, HUNDRED);
        for (field, value) in [
            ("base_risk_increase_percent", self.base_risk_increase_percent),
            ("pyramid_risk_increase_percent", self.pyramid_risk_increase_percent),
        ] {
            divergence.range(field, value, ABOVE_ZERO, dec!(1000));
        }
        divergence.done()
    }
}

impl SizingPolicy {
    fn faults(&self) -> Vec<Fault> {
        let mut sizing = Checker::new("sizing");
        sizing.range("margin_limit", self.margin_limit, ABOVE_ZERO, Decimal::ONE);
        sizing.range("pyramid_decay", self.pyramid_decay, ABOVE_ZERO, Decimal::ONE);
        sizing.range("pyramid_profit_share", self.pyramid_profit_share, ABOVE_ZERO, Decimal::ONE);
        sizing.done()
    }
}

impl GatePolicy {
    fn faults(&self) -> Vec<Fault> {
        let mut gates = Checker::new("gates");
        for (field, value) in [
            ("base_risk_percent", self.base_risk_percent),
            ("base_volatility_percent", self.base_volatility_percent),
            ("pyramid_risk_percent", self.pyramid_risk_percent),
            ("pyramid_volatility_percent", self.pyramid_volatility_percent),
        ] {
            gates.range(field, value, ABOVE_ZERO, HUNDRED);
        }
        gates.range("pyramid_min_r", self.pyramid_min_r, FROM_ZERO, HUNDRED);
        gates.range("pyramid_min_atr_step", self.pyramid_min_atr_step, FROM_ZERO, HUNDRED);
        gates.done()
    }
}

impl AccountLimits {
    fn faults(&self) -> Vec<Fault> {
        let mut limits = Checker::new("limits");
        for (field, value, most) in [
            ("max_daily_loss", self.max_daily_loss.map(|limit| limit.0), dec!(1_000_000_000_000)),
            ("max_daily_loss_percent", self.max_daily_loss_percent, HUNDRED),
            ("max_drawdown_percent", self.max_drawdown_percent, HUNDRED),
            ("max_open_positions", self.max_open_positions.map(Decimal::from), dec!(100_000)),
            ("max_orders_per_day", self.max_orders_per_day.map(Decimal::from), dec!(1_000_000)),
            ("max_consecutive_stop_outs", self.max_consecutive_stop_outs.map(Decimal::from), dec!(10_000)),
        ] {
            if let Some(value) = value {
                limits.range(field, value, ABOVE_ZERO, most);
            }
        }
        limits.done()
    }
}

impl StopPolicy {
    fn faults(&self) -> Vec<Fault> {
        let mut stops = Checker::new("stops");
        stops.range("confirm_percent", self.confirm_percent, ABOVE_ZERO, HUNDRED);
        stops.range("limit_percent", self.limit_percent, FROM_ZERO, dec!(50));
        stops.range("patience_ms", Decimal::from(self.patience_ms), FROM_ZERO, dec!(60_000));
        stops.done()
    }
}

impl OrderPolicy {
    fn faults(&self) -> Vec<Fault> {
        let mut orders = Checker::new("orders");
        for (field, value) in
            [("entry_patience_ms", self.entry_patience_ms), ("exit_patience_ms", self.exit_patience_ms)]
        {
            orders.range(field, value.into(), Bound::From(dec!(500)), dec!(3_600_000));
        }
        orders.done()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::money::Rupees;
    use crate::domain::policy::{EquityBasis, InitialStop};

    #[test]
    fn defaults_have_no_faults_and_survive_a_partial_file() {
        assert_eq!(TradingPolicy::default().faults(), vec![]);
        let policy: TradingPolicy = toml::from_str(
            "initial_stop = \"signal\"\n[sizing]\nequity = \"fixed\"\nmargin_limit = 0.5\n\
             [limits]\nmax_daily_loss = 50000\n",
        )
        .unwrap();
        assert_eq!(policy.sizing.equity, EquityBasis::Fixed);
        assert_eq!(policy.sizing.margin_limit, dec!(0.5));
        assert_eq!(policy.sizing.pyramid_decay, dec!(0.5));
        assert_eq!(policy.initial_stop, InitialStop::Signal);
        assert_eq!(policy.limits.max_daily_loss, Some(Rupees(dec!(50000))));
        assert!(toml::from_str::<TradingPolicy>("[gates]\nbase_risc_percent = 3\n").is_err());
    }

    #[test]
    fn every_fault_is_listed_with_its_path() {
        let mut policy = TradingPolicy { unrealised_share: dec!(2), ..TradingPolicy::default() };
        policy.signals.max_body_bytes = 0;
        policy.age = AgePolicy { normal_s: 40, warn_s: 30, reject_s: 0 };
        policy.divergence.base_percent = dec!(-1);
        policy.sizing.margin_limit = dec!(1.1);
        policy.gates.pyramid_risk_percent = dec!(0);
        policy.limits.max_orders_per_day = Some(0);
        let fields: Vec<_> = policy.faults().into_iter().map(|fault| fault.field).collect();
        assert_eq!(
            fields,
            [
                "unrealised_share",
                "signals.max_body_bytes",
                "age.warn_s",
                "age.reject_s",
                "age.reject_s",
                "divergence.base_percent",
                "sizing.margin_limit",
                "gates.pyramid_risk_percent",
                "limits.max_orders_per_day",
            ]
        );
    }
}
