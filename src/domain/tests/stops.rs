use proptest::prelude::*;
use rust_decimal::{Decimal, dec};

use crate::domain::fixtures::position;
use crate::domain::money::Price;
use crate::domain::position::PositionStatus;
use crate::domain::stops::Calm;

fn price(number: i64) -> Price {
    Price(Decimal::new(number, 1))
}

proptest! {
    #[test]
    fn calm_are_the_prices_that_set_nothing_off(stop in 0i64..50, target in proptest::option::of(0i64..50), at in 0i64..50) {
        let mut held = position("GOLD_MINI", 1, 1, dec!(5), dec!(1), 1);
        held.current_stop = price(stop);
        held.take_profit = target.map(price);
        prop_assert_eq!(held.calm().holds(price(at)), held.trigger(price(at)).is_none());
        held.status = PositionStatus::Closed;
        prop_assert!(held.trigger(price(at)).is_none() && held.calm() == Calm::ANY);
    }

    #[test]
    fn two_calms_together_hold_what_both_hold(levels in proptest::array::uniform4(proptest::option::of(0i64..50)), at in 0i64..50) {
        let [a, b, c, d] = levels.map(|level| level.map(price));
        let (one, other) = (Calm { above: a, below: b }, Calm { above: c, below: d });
        let at = price(at);
        prop_assert_eq!(one.and(other).holds(at), one.holds(at) && other.holds(at));
    }
}
