use proptest::prelude::*;
use rust_decimal::{Decimal, dec};

use crate::domain::fixtures::instrument;
use crate::domain::instrument::Instrument;
use crate::domain::label::Label;
use crate::domain::money::{Lots, Price, Quantity, Rupees};
use crate::domain::policy::SizingPolicy;
use crate::domain::sizing::{
    BaseInputs, BaseSize, Constraint, PyramidConstraint, PyramidInputs, ZeroLots, base_size, pyramid_size,
};

fn gold_inputs(gold: &Instrument) -> BaseInputs<'_> {
    BaseInputs {
        instrument: gold,
        price: Some(Price(dec!(140_000))),
        stop: Some(Price(dec!(139_000))),
        atr: Some(Price(dec!(200))),
        er: Some(dec!(0.9)),
        equity: Some(Rupees(dec!(10_008_349.80))),
        margin_used: Some(Rupees::ZERO),
        freeze: None,
        held_lots: Decimal::ZERO,
    }
}

fn size(change: impl FnOnce(&mut BaseInputs<'_>)) -> Result<BaseSize, ZeroLots> {
    let gold = instrument("GOLD_MINI");
    let mut inputs = gold_inputs(&gold);
    change(&mut inputs);
    base_size(&SizingPolicy::default(), &inputs)
}

#[test]
fn the_documented_example_gives_nine_lots() {
    let size = size(|_| ()).unwrap();
    assert_eq!(size.l_risk, dec!(9.00751482));
    assert_eq!((size.lots, size.binding), (Lots(9), Constraint::Risk));
}

#[test]
fn volatility_is_applied_and_can_be_switched_off() {
    let gold = instrument("GOLD_MINI");
    let inputs = BaseInputs { atr: Some(Price(dec!(500))), ..gold_inputs(&gold) };
    let bound = base_size(&SizingPolicy::default(), &inputs).unwrap();
    assert_eq!((bound.lots, bound.binding), (Lots(4), Constraint::Volatility));
    let policy = SizingPolicy { use_volatility_limit: false, ..SizingPolicy::default() };
    let free = base_size(&policy, &BaseInputs { atr: None, ..inputs }).unwrap();
    assert_eq!((free.lots, free.binding, free.l_volatility), (Lots(9), Constraint::Risk, None));
}

// 40 000 / 3 000 · 0.3 is 4, though 40 000 / 3 000 has no end.
#[test]
fn a_whole_lot_is_not_lost_to_a_quotient_without_an_end() {
    let exact = size(|inputs| {
        inputs.equity = Some(Rupees(dec!(4_000_000)));
        inputs.stop = Some(Price(dec!(139_700)));
        inputs.er = Some(dec!(0.3));
    });
    assert_eq!(exact.unwrap().lots, Lots(4));
}

#[test]
fn margin_binds_and_runs_out() {
    let used = Rupees(dec!(0.6) * dec!(10_008_349.80) - dec!(105_000) * dec!(2.5));
    let bound = size(|inputs| inputs.margin_used = Some(used)).unwrap();
    assert_eq!((bound.lots, bound.binding, bound.l_margin), (Lots(2), Constraint::Margin, dec!(2.5)));
    let over = size(|inputs| inputs.margin_used = Some(Rupees(dec!(9_000_000)))).unwrap_err();
    assert!(matches!(over, ZeroLots::BelowOneLot { constraint: "margin", .. }), "{over:?}");
}

#[test]
fn missing_or_senseless_input_gives_no_lots_and_the_reason() {
    let code = |change: fn(&mut BaseInputs<'_>)| size(change).unwrap_err().code();
    assert_eq!(code(|inputs| inputs.price = None), "ZERO_LOTS_MISSING_INPUT");
    assert_eq!(code(|inputs| inputs.stop = None), "ZERO_LOTS_MISSING_INPUT");
    assert_eq!(code(|inputs| inputs.atr = None), "ZERO_LOTS_MISSING_INPUT");
    assert_eq!(code(|inputs| inputs.er = None), "ZERO_LOTS_MISSING_INPUT");
    assert_eq!(code(|inputs| inputs.equity = None), "ZERO_LOTS_MISSING_INPUT");
    assert_eq!(code(|inputs| inputs.margin_used = None), "ZERO_LOTS_MISSING_INPUT");
    assert_eq!(code(|inputs| inputs.stop = inputs.price), "ZERO_LOTS_STOP_NOT_BELOW_PRICE");
    assert_eq!(code(|inputs| inputs.er = Some(dec!(0))), "ZERO_LOTS_SENSELESS_INPUT");
    assert_eq!(code(|inputs| inputs.er = Some(dec!(82))), "ZERO_LOTS_SENSELESS_INPUT");
    assert_eq!(code(|inputs| inputs.atr = Some(Price::ZERO)), "ZERO_LOTS_SENSELESS_INPUT");
    assert_eq!(code(|inputs| inputs.equity = Some(Rupees(dec!(-1)))), "ZERO_LOTS_SENSELESS_INPUT");
    assert_eq!(code(|inputs| inputs.equity = Some(Rupees(dec!(10)))), "ZERO_LOTS_BELOW_ONE");
    assert_eq!(code(|inputs| inputs.equity = Some(Rupees(Decimal::MAX))), "ZERO_LOTS_OUT_OF_RANGE");
}

// R: B8
#[test]
fn an_entry_gets_what_one_order_may_have() {
    let bound = size(|inputs| inputs.freeze = Some(Quantity(450))).unwrap();
    assert_eq!((bound.lots, bound.binding, bound.l_freeze), (Lots(4), Constraint::Freeze, Some(dec!(4.5))));
    let free = size(|inputs| inputs.freeze = Some(Quantity(2_000))).unwrap();
    assert_eq!((free.lots, free.binding), (Lots(9), Constraint::Risk));
    let none = size(|inputs| inputs.freeze = Some(Quantity(99))).unwrap_err();
    assert!(matches!(none, ZeroLots::BelowOneLot { constraint: "freeze", .. }), "{none:?}");

    let gold = instrument("GOLD_MINI");
    let inputs = PyramidInputs {
        freeze: Some(Quantity(350)),
        ..pyramid_inputs(&gold, 2, dec!(9), dec!(1_000_000), dec!(0))
    };
    let bound = pyramid_size(&SizingPolicy::default(), &inputs).unwrap();
    assert_eq!(
        (bound.lots, bound.binding, bound.by_freeze),
        (Lots(3), PyramidConstraint::Freeze, Some(dec!(3)))
    );
}

fn pyramid_inputs(
    gold: &Instrument,
    n: u8,
    base_lots: Decimal,
    unrealised: Decimal,
    used: Decimal,
) -> PyramidInputs<'_> {
    PyramidInputs {
        instrument: gold,
        label: Label::new(n).unwrap(),
        price: Some(Price(dec!(142_000))),
        stop: Some(Price(dec!(141_000))),
        base_lots: Some(base_lots),
        base_risk: Some(Rupees(dec!(50_000))),
        unrealised: Some(Rupees(unrealised)),
        equity: Some(Rupees(dec!(10_000_000))),
        margin_used: Some(Rupees(used)),
        freeze: None,
        held_lots: base_lots,
    }
}

fn pyramid(
    n: u8,
    base_lots: Decimal,
    unrealised: Decimal,
    used: Decimal,
) -> (Option<PyramidConstraint>, i64) {
    let gold = instrument("GOLD_MINI");
    let inputs = pyramid_inputs(&gold, n, base_lots, unrealised, used);
    match pyramid_size(&SizingPolicy::default(), &inputs) {
        Ok(size) => (Some(size.binding), size.lots.0),
        Err(_) => (None, 0),
    }
}

#[test]
fn pyramids_take_the_smallest_of_margin_base_and_profit() {
    use PyramidConstraint::{Base, Margin, Profit};
    assert_eq!(pyramid(2, dec!(9), dec!(1_000_000), dec!(0)), (Some(Base), 4));
    assert_eq!(pyramid(3, dec!(9), dec!(1_000_000), dec!(0)), (Some(Base), 2));
    assert_eq!(pyramid(4, dec!(9), dec!(1_000_000), dec!(0)), (Some(Base), 1));
    assert_eq!(pyramid(5, dec!(9), dec!(1_000_000), dec!(0)), (None, 0));
    assert_eq!(pyramid(2, dec!(9), dec!(110_000), dec!(0)), (Some(Profit), 3));
    assert_eq!(pyramid(2, dec!(9), dec!(50_000), dec!(0)), (None, 0));
    assert_eq!(pyramid(2, dec!(9), dec!(1_000_000), dec!(5_790_000)), (Some(Margin), 2));
    assert_eq!(pyramid(1, dec!(9), dec!(1_000_000), dec!(0)), (None, 0));
}

/// Gold with limits of its own.
fn limited(max_lots: Option<u32>, max_notional: Option<Decimal>) -> Instrument {
    Instrument { max_lots, max_notional: max_notional.map(Rupees), ..instrument("GOLD_MINI") }
}

#[test]
fn an_instruments_own_limits_bind_and_have_codes_of_their_own() {
    let sized = |gold: Instrument, held: i64| {
        let inputs = BaseInputs { held_lots: held.into(), ..gold_inputs(&gold) };
        base_size(&SizingPolicy::default(), &inputs)
    };
    let bound = sized(limited(Some(5), None), 0).unwrap();
    assert_eq!(
        (bound.lots, bound.binding, bound.l_instrument),
        (Lots(5), Constraint::MaxLots, Some(dec!(5)))
    );
    // A lot of 140 000 points of ten rupees is 1.4 million.
    let bound = sized(limited(Some(9), Some(dec!(4_300_000))), 0).unwrap();
    assert_eq!((bound.lots, bound.binding), (Lots(3), Constraint::MaxNotional));
    assert_eq!(sized(limited(Some(9), Some(dec!(12_600_000))), 0).unwrap().binding, Constraint::MaxLots);
    let free = sized(limited(Some(10), Some(dec!(14_000_000))), 0).unwrap();
    assert_eq!((free.lots, free.binding), (Lots(9), Constraint::Risk));
    // What is held counts, were it more than is allowed by now.
    assert_eq!(sized(limited(Some(5), None), 4).unwrap().lots, Lots(1));
    assert_eq!(sized(limited(Some(5), None), 5).unwrap_err().code(), "MAX_LOTS");
    assert_eq!(sized(limited(Some(5), None), 8).unwrap_err().code(), "MAX_LOTS");
    let refused = sized(limited(None, Some(dec!(1_399_999))), 0).unwrap_err();
    assert_eq!(refused.code(), "MAX_NOTIONAL");
    assert_eq!(refused.to_string(), "the max_notional limit allows 0.99 lots, less than one");
}

fn amount(low: i64, high: i64) -> impl Strategy<Value = Decimal> {
    (low * 100..high * 100).prop_map(|cents| Decimal::new(cents, 2))
}

proptest! {
    #[test]
    fn a_base_never_exceeds_any_limit_and_its_limit_binds(
        price in amount(1, 200_000), stop in amount(1, 200_000), atr in amount(0, 5_000), er in 0u32..=100,
        equity in amount(-1_000, 50_000_000), used in amount(0, 30_000_000),
        freeze in prop::option::of((1i64..40_000).prop_map(Quantity)),
    ) {
        let bank = instrument("BANK_NIFTY");
        let policy = SizingPolicy::default();
        let inputs = BaseInputs {
            instrument: &bank, price: Some(Price(price)), stop: Some(Price(stop)), atr: Some(Price(atr)),
            er: Some(Decimal::new(er.into(), 2)), equity: Some(Rupees(equity)), margin_used: Some(Rupees(used)), freeze,
            held_lots: Decimal::ZERO,
        };
        if let Ok(size) = base_size(&policy, &inputs) {
            let lots = size.lots.decimal();
            prop_assert!(lots >= Decimal::ONE && stop < price);
            prop_assert!(lots * (price - stop) * dec!(30) <= equity * dec!(0.01));
            prop_assert!(lots * atr * dec!(30) <= equity * dec!(0.005));
            prop_assert!(used + lots * dec!(270_000) <= dec!(0.6) * equity);
            prop_assert!(freeze.is_none_or(|freeze| size.lots.quantity(bank.lot_size) <= freeze));
            let limits = [Some(size.l_risk), size.l_volatility, Some(size.l_margin), size.l_freeze];
            prop_assert!(limits.into_iter().flatten().any(|limit| lots + Decimal::ONE > limit));
            let richer = BaseInputs { equity: Some(Rupees(equity + dec!(1_000_000))), ..inputs };
            prop_assert!(base_size(&policy, &richer).unwrap().lots >= size.lots, "more equity, fewer lots");
        } else if stop < price && er > 0 && atr > Decimal::ZERO && equity > Decimal::ZERO {
            let by_risk = equity * dec!(0.01) / ((price - stop) * dec!(30)) * Decimal::new(er.into(), 2);
            let by_volatility = equity * dec!(0.005) / (atr * dec!(30));
            let by_margin = (dec!(0.6) * equity - used) / dec!(270_000);
            let by_freeze = freeze.map_or(Decimal::MAX, |freeze| freeze.decimal() / dec!(30));
            let least = by_risk.min(by_volatility).min(by_margin).min(by_freeze);
            prop_assert!(least < Decimal::ONE, "refused without a reason");
        }
    }

    #[test]
    fn no_entry_brings_what_is_held_beyond_the_instruments_own_limits(
        price in amount(1_000, 200_000), points in amount(1, 900), held in 0i64..40, equity in amount(1, 50_000_000),
        max_lots in proptest::option::of(1u32..30), max_notional in proptest::option::of(amount(1, 90_000_000)),
        n in 2u8..=4,
    ) {
        let (free, own) = (limited(None, None), limited(max_lots, max_notional));
        let base = |gold| BaseInputs {
            instrument: gold, price: Some(Price(price)), stop: Some(Price(price - points)), atr: Some(Price(points)),
            er: Some(Decimal::ONE), equity: Some(Rupees(equity)), margin_used: Some(Rupees::ZERO), freeze: None,
            held_lots: held.into(),
        };
        let pyramid = |gold| PyramidInputs {
            instrument: gold, label: Label::new(n).unwrap(), price: Some(Price(price)), stop: Some(Price(price - points)),
            base_lots: Some(Decimal::from(held.max(1))), base_risk: Some(Rupees::ZERO),
            unrealised: Some(Rupees(dec!(9_000_000))), equity: Some(Rupees(equity)),
            margin_used: Some(Rupees::ZERO), freeze: None, held_lots: held.into(),
        };
        let policy = SizingPolicy::default();
        let base = |gold| base_size(&policy, &base(gold)).map(|size| size.lots);
        let pyramid = |gold| pyramid_size(&policy, &pyramid(gold)).map(|size| size.lots);
        for (unbound, bound) in [(base(&free), base(&own)), (pyramid(&free), pyramid(&own))] {
            let room = |lots: i64| {
                let in_all = Decimal::from(held + lots);
                max_lots.is_none_or(|most| in_all <= most.into())
                    && max_notional.is_none_or(|most| in_all * price * dec!(10) <= most)
            };
            match (unbound, bound) {
                (Ok(unbound), Ok(bound)) => {
                    prop_assert!(room(bound.0) && bound.0 <= unbound.0);
                    prop_assert!(bound == unbound || !room(bound.0 + 1), "less than is allowed");
                }
                (Ok(_), Err(why)) => {
                    prop_assert!(!room(1) && ["MAX_LOTS", "MAX_NOTIONAL"].contains(&why.code()), "{why}");
                }
                (Err(_), bound) => prop_assert!(bound.is_err()),
            }
        }
    }

    #[test]
    fn sizing_never_panics(
        mantissas in proptest::collection::vec(any::<i128>(), 6), scales in proptest::collection::vec(0u32..=28, 6),
        present in proptest::collection::vec(any::<bool>(), 6),
    ) {
        let gold = instrument("GOLD_MINI");
        let figure = |n: usize| {
            let mantissa = mantissas[n] % (1i128 << 96);
            present[n].then(|| Decimal::from_i128_with_scale(mantissa, scales[n]))
        };
        let inputs = BaseInputs {
            instrument: &gold, price: figure(0).map(Price), stop: figure(1).map(Price), atr: figure(2).map(Price),
            er: figure(3), equity: figure(4).map(Rupees), margin_used: figure(5).map(Rupees),
            freeze: Some(Quantity(i64::MAX)),
            held_lots: Decimal::ZERO,
        };
        let base = base_size(&SizingPolicy::default(), &inputs);
        prop_assert!(base.is_err() || present.iter().all(|present| *present));
        let pyramid = PyramidInputs {
            instrument: &gold, label: Label::new(2).unwrap(), price: figure(0).map(Price), stop: figure(1).map(Price),
            base_lots: figure(2), base_risk: figure(3).map(Rupees), unrealised: figure(4).map(Rupees),
            equity: figure(4).map(Rupees), margin_used: figure(5).map(Rupees), freeze: Some(Quantity(i64::MAX)),
            held_lots: Decimal::ZERO,
        };
        prop_assert!(pyramid_size(&SizingPolicy::default(), &pyramid).is_err() || present.iter().all(|present| *present));
    }

    #[test]
    fn a_pyramid_never_exceeds_any_limit(
        n in 2u8..=6, base in 1i64..500, points in amount(1, 3_000), unrealised in amount(-100_000, 9_000_000),
        base_risk in amount(0, 500_000), equity in amount(1, 50_000_000), used in amount(0, 30_000_000),
        freeze in prop::option::of((1i64..20_000).prop_map(Quantity)),
    ) {
        let gold = instrument("GOLD_MINI");
        let price = dec!(100_000);
        let inputs = PyramidInputs {
            instrument: &gold, label: Label::new(n).unwrap(), price: Some(Price(price)),
            stop: Some(Price(price - points)), base_lots: Some(base.into()), base_risk: Some(Rupees(base_risk)),
            unrealised: Some(Rupees(unrealised)), equity: Some(Rupees(equity)), margin_used: Some(Rupees(used)), freeze,
            held_lots: base.into(),
        };
        if let Ok(size) = pyramid_size(&SizingPolicy::default(), &inputs) {
            let lots = size.lots.decimal();
            prop_assert!(freeze.is_none_or(|freeze| size.lots.quantity(gold.lot_size) <= freeze));
            prop_assert!(size.lots.0 <= base >> (n - 1));
            prop_assert!(used + lots * dec!(105_000) <= dec!(0.6) * equity);
            prop_assert!(lots * points * dec!(10) <= dec!(0.5) * (unrealised - base_risk));
        }
    }
}
