use std::collections::BTreeMap;

use proptest::prelude::*;
use rust_decimal::dec;

use crate::domain::exit::{ExitPlan, ExitRequest, Untouched, plan};
use crate::domain::fixtures::{at, position};
use crate::domain::ids::PositionId;
use crate::domain::label::{Label, Target};
use crate::domain::money::{Price, Quantity};
use crate::domain::position::Position;

fn positions() -> Vec<Position> {
    vec![
        position("GOLD_MINI", 1, 9, dec!(140_000), dec!(139_000), 1),
        position("GOLD_MINI", 2, 4, dec!(141_100), dec!(140_100), 5),
        position("COPPER", 1, 2, dec!(800), dec!(790), 3),
    ]
}

fn request(target: Target, bar: i64, seq: i64) -> ExitRequest<'static> {
    ExitRequest { instrument: "GOLD_MINI", strategy: Some("default"), target, bar_time: at(bar), seq }
}

fn sold(plan: &ExitPlan) -> Vec<i64> {
    plan.orders.iter().map(|order| order.quantity.0).collect()
}

fn reasons(plan: &ExitPlan) -> Vec<Untouched> {
    plan.skipped.iter().map(|skipped| skipped.why).collect()
}

#[test]
fn an_exit_takes_one_label_or_all_of_its_instrument() {
    let none = BTreeMap::new();
    assert_eq!(sold(&plan(&request(Target::All, 9, 9), &positions(), &none)), [400, 900]);
    let one = Target::One(Label::BASE);
    assert_eq!(sold(&plan(&request(one, 9, 9), &positions(), &none)), [900]);
    let third = Target::One(Label::new(3).unwrap());
    assert_eq!(plan(&request(third, 9, 9), &positions(), &none), ExitPlan::default());
}

// R: B7
#[test]
fn a_late_exit_spares_what_was_entered_after_it() {
    let none = BTreeMap::new();
    let at = |bar, seq| plan(&request(Target::All, bar, seq), &positions(), &none);
    assert_eq!((sold(&at(4, 99)), reasons(&at(4, 99))), (vec![900], vec![Untouched::EnteredLater]));
    assert_eq!(sold(&at(5, 4)), [900]);
    assert_eq!(sold(&at(5, 5)), [900]);
    assert_eq!(sold(&at(5, 6)), [400, 900]);
}

#[test]
fn other_strategies_are_spared_unless_an_operator_asks() {
    let mut positions = positions();
    positions[0].strategy = "other".to_owned();
    let mine = plan(&request(Target::All, 9, 9), &positions, &BTreeMap::new());
    assert_eq!((sold(&mine), reasons(&mine)), (vec![400], vec![Untouched::OtherStrategy]));
    let operator = ExitRequest { strategy: None, ..request(Target::All, 9, 9) };
    assert_eq!(sold(&plan(&operator, &positions, &BTreeMap::new())), [400, 900]);
}

#[test]
fn what_other_exits_may_sell_is_left_to_them() {
    let mut positions = positions();
    let out = BTreeMap::from([(positions[0].id, Quantity(900)), (positions[1].id, Quantity(100))]);
    let rest = plan(&request(Target::All, 9, 9), &positions, &out);
    assert_eq!((sold(&rest), reasons(&rest)), (vec![300], vec![Untouched::AlreadyExiting]));
    positions[1].apply_exit_fill(Quantity(400), Price(dec!(1))).unwrap();
    let closed = plan(&request(Target::All, 9, 9), &positions, &out);
    assert_eq!((sold(&closed), reasons(&closed)), (vec![], vec![Untouched::AlreadyExiting]));
}

proptest! {
    #[test]
    fn never_more_out_than_held(outstanding in proptest::collection::vec(-10i64..1500, 2), bar in 0i64..10, seq in 0i64..10) {
        let positions = positions();
        let out: BTreeMap<PositionId, Quantity> =
            positions.iter().zip(&outstanding).map(|(position, units)| (position.id, Quantity(*units))).collect();
        let plan = plan(&request(Target::All, bar, seq), &positions, &out);
        prop_assert_eq!(plan.orders.len() + plan.skipped.len(), 2);
        for order in &plan.orders {
            let position = positions.iter().find(|position| position.id == order.position).unwrap();
            prop_assert!(order.quantity > Quantity::ZERO);
            prop_assert!(order.quantity.0 + out[&position.id].0.max(0) <= position.quantity.0);
            prop_assert!((position.entry_bar_time, position.entry_signal_seq) < (at(bar), seq));
        }
    }
}
