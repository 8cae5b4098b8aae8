use proptest::prelude::*;
use rust_decimal::{Decimal, dec};

use crate::domain::fill::FillError;
use crate::domain::fixtures::{instrument, position};
use crate::domain::money::{Price, Quantity, Rupees};
use crate::domain::policy::InitialStop;
use crate::domain::position::{Position, PositionStatus};
use crate::domain::stops::initial_stop;

fn gold() -> Position {
    position("GOLD_MINI", 1, 2, dec!(140_000), dec!(139_000), 1)
}

#[test]
fn entry_fills_average_by_quantity() {
    let mut position = gold();
    position.apply_entry_fill(Quantity(100), Price(dec!(140_100))).unwrap();
    assert_eq!(position.entry_price, Price(dec!(140_033.33333333)));
    assert_eq!((position.quantity, position.entry_quantity), (Quantity(300), Quantity(300)));
    assert_eq!(position.faults(), vec![]);
}

#[test]
fn partial_exits_shrink_realise_and_close() {
    let mut position = gold();
    assert!(position.begin_exit());
    let first = position.apply_exit_fill(Quantity(50), Price(dec!(140_500))).unwrap();
    assert_eq!((first, position.quantity), (Rupees(dec!(2500)), Quantity(150)));
    assert_eq!(position.status, PositionStatus::Closing);
    assert!(position.exit_ended());
    assert_eq!(position.risk(), Rupees(dec!(15_000)));
    let rest = position.apply_exit_fill(Quantity(150), Price(dec!(139_000))).unwrap();
    assert_eq!((rest, position.realised), (Rupees(dec!(-15_000)), Rupees(dec!(-12_500))));
    assert_eq!((position.status, position.quantity), (PositionStatus::Closed, Quantity::ZERO));
    assert_eq!(
        (position.risk(), position.volatility(), position.margin()),
        (Rupees::ZERO, Rupees::ZERO, Rupees::ZERO)
    );
    assert!(!position.begin_exit() && !position.exit_ended());
}

// R: S15
#[test]
fn a_position_never_flips() {
    let mut position = gold();
    let before = position.clone();
    let error = position.apply_exit_fill(Quantity(201), Price(dec!(140_000))).unwrap_err();
    assert_eq!(error, FillError::ExceedsHeld { filled: Quantity(201), held: Quantity(200) });
    assert!(position.apply_exit_fill(Quantity(0), Price(dec!(1))).is_err());
    assert!(position.apply_entry_fill(Quantity(-1), Price(dec!(1))).is_err());
    assert!(position.apply_entry_fill(Quantity(1), Price(dec!(0))).is_err());
    assert!(position.apply_entry_fill(Quantity(i64::MAX), Price(dec!(1))).is_err());
    assert!(position.apply_exit_fill(Quantity(1), Price(Decimal::MAX)).is_err());
    assert_eq!(position, before);
}

#[test]
fn an_entry_fill_after_the_exit_opens_the_position_again() {
    let mut position = gold();
    position.apply_exit_fill(Quantity(200), Price(dec!(141_000))).unwrap();
    position.apply_entry_fill(Quantity(10), Price(dec!(142_000))).unwrap();
    assert_eq!((position.status, position.quantity), (PositionStatus::Open, Quantity(10)));
    assert_eq!((position.entry_price, position.realised), (Price(dec!(142_000)), Rupees(dec!(20_000))));
    assert_eq!(position.faults(), vec![]);
}

#[test]
fn impossible_rows_are_found_before_they_are_computed_with() {
    let broken = Position {
        label: "Long_9".to_owned(),
        quantity: Quantity(-1),
        entry_price: Price(Decimal::MAX),
        lot_size: Quantity(0),
        current_stop: Price(dec!(1)),
        ..gold()
    };
    let faults: Vec<_> =
        broken.faults().into_iter().map(|fault| fault.field.rsplit('.').next().unwrap().to_owned()).collect();
    assert_eq!(faults, ["label", "quantity", "entry_price", "lot_size", "current_stop"]);
    let half_closed = Position { status: PositionStatus::Closed, ..gold() };
    assert_eq!(half_closed.faults().len(), 1);
}

#[test]
fn the_initial_stop_is_the_tighter_unless_told_otherwise() {
    let gold = instrument("GOLD_MINI");
    let stop = |policy, signal_stop, atr| {
        initial_stop(policy, &gold, Price(dec!(140_000)), Price(signal_stop), Price(atr)).0
    };
    assert_eq!(stop(InitialStop::Tighter, dec!(139_000), dec!(500)), dec!(139_500));
    assert_eq!(stop(InitialStop::Tighter, dec!(139_700), dec!(500)), dec!(139_700));
    assert_eq!(stop(InitialStop::Signal, dec!(139_000), dec!(500)), dec!(139_000));
    assert_eq!(stop(InitialStop::Atr, dec!(139_700), dec!(500)), dec!(139_500));
    assert_eq!(stop(InitialStop::Atr, dec!(139_700), dec!(150_000)), dec!(0));
}

#[test]
fn a_stop_trails_the_highest_close() {
    let mut position = gold();
    assert!(!position.trail(Price(dec!(140_100)), Price(dec!(600)), dec!(2)));
    assert!(position.trail(Price(dec!(141_000)), Price(dec!(600)), dec!(2)));
    assert_eq!(position.current_stop, Price(dec!(139_800)));
    assert!(!position.trail(Price(dec!(140_200)), Price(dec!(600)), dec!(2)));
    assert_eq!(position.highest_close, Price(dec!(141_000)));
    assert!(position.stop_hit(Price(dec!(139_800))) && !position.stop_hit(Price(dec!(139_801))));
}

#[derive(Clone, Debug)]
enum Step {
    Buy(i64, i64),
    Sell(i64, i64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let price = 1_000_000i64..2_000_000;
    let step = prop_oneof![
        (1i64..500, price.clone()).prop_map(|(quantity, price)| Step::Buy(quantity, price)),
        (1i64..700, price).prop_map(|(quantity, price)| Step::Sell(quantity, price)),
    ];
    proptest::collection::vec(step, 0..40)
}

proptest! {
    #[test]
    fn held_is_bought_less_sold_and_profit_is_what_the_cash_says(steps in steps()) {
        let mut position = gold();
        let (mut bought, mut sold, mut realised) = (200i64, 0i64, Rupees::ZERO);
        let mut cash = dec!(-140_000) * dec!(200);
        for step in steps {
            let status = position.status;
            match step {
                Step::Buy(quantity, price) => {
                    let price = Decimal::new(price, 1);
                    position.apply_entry_fill(Quantity(quantity), Price(price)).unwrap();
                    bought += quantity;
                    cash -= price * Decimal::from(quantity);
                }
                Step::Sell(quantity, price) => {
                    let price = Decimal::new(price, 1);
                    match position.apply_exit_fill(Quantity(quantity), Price(price)) {
                        Ok(profit) => {
                            realised += profit;
                            sold += quantity;
                            cash += price * Decimal::from(quantity);
                        }
                        Err(error) => {
                            let held = Quantity(bought - sold);
                            prop_assert!(quantity > held.0);
                            prop_assert_eq!(error, FillError::ExceedsHeld { filled: Quantity(quantity), held });
                        }
                    }
                }
            }
            prop_assert_eq!(position.quantity, Quantity(bought - sold));
            prop_assert_eq!(position.status == PositionStatus::Closed, bought == sold);
            prop_assert!(status == position.status || status.may_become(position.status));
            prop_assert_eq!(position.realised, realised);
            prop_assert_eq!(position.entry_price.rounded(), position.entry_price);
            // At any mark, realised and unrealised are the cash that a sale of the rest at the mark would leave;
            // a point is ₹10 a lot of 100 units. Each fill rounds at most half of the eighth decimal a unit.
            let mark = Price(dec!(150_000));
            let worth = (cash + mark.0 * position.quantity.decimal()) / dec!(10);
            prop_assert!((position.realised.0 + position.unrealised(mark).0 - worth).abs() < dec!(0.0001));
        }
    }

    #[test]
    fn a_stop_never_moves_down(closes in proptest::collection::vec((0i64..300_000, 0i64..5_000), 1..50)) {
        let mut position = gold();
        for (close, atr) in closes {
            let before = position.current_stop;
            let moved = position.trail(Price(close.into()), Price(atr.into()), dec!(2));
            prop_assert!(position.current_stop >= before);
            prop_assert_eq!(moved, position.current_stop > before);
            prop_assert!(position.highest_close >= Price(close.into()));
        }
    }

    #[test]
    fn fills_in_any_grouping_hold_the_same_units(parts in proptest::collection::vec(1i64..100, 1..20)) {
        let mut position = gold();
        let total: i64 = parts.iter().sum();
        position.apply_entry_fill(Quantity(total), Price(dec!(140_000))).unwrap();
        for part in &parts {
            position.apply_exit_fill(Quantity(*part), Price(dec!(140_010.5))).unwrap();
        }
        prop_assert_eq!(position.quantity, Quantity(200));
        prop_assert_eq!(position.realised, Rupees(Decimal::from(total) * dec!(10.5) / dec!(10)));
    }
}
