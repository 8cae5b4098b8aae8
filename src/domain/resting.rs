//! Stops that rest at the broker: where they are put, and what is to be done about those that are there.
//!
//! Three rules keep a position from being sold twice. What may still be sold by its stops is never more than is held. A
//! stop's quantity never changes: more of a position gets another stop, less of it has them withdrawn. And nothing new is
//! put while the outcome of a stop is not known. A stop moves up in place, and never down.

use rust_decimal::Decimal;

use super::ids::IntentId;
use super::money::{Price, Quantity};
use super::order::{OrderSpec, PriceType, Side};
use super::position::Position;

/// Where a stop triggers, and the least that it sells at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Level {
    /// Trigger price, in whole ticks.
    pub trigger: Price,
    /// Limit price, in whole ticks.
    pub limit: Price,
}

impl Level {
    /// The level for a position's stop: its tick at or below, and a limit that is `limit_percent` lower. None for a stop
    /// that no order can have.
    pub fn of(stop: Price, tick: Price, limit_percent: Decimal) -> Option<Self> {
        let down = |price: Decimal| Price((price / tick.0).floor() * tick.0);
        let trigger = down(stop.0);
        let limit = down(trigger.0 - trigger.0 * limit_percent / Decimal::ONE_HUNDRED).max(tick);
        (trigger > Price::ZERO && limit <= trigger).then_some(Self { trigger, limit })
    }
}

/// A stop that may still sell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Resting {
    /// Its intent.
    pub id: IntentId,
    /// Units that it may still sell.
    pub units: Quantity,
    /// Where it stands, as far as is known.
    pub trigger: Price,
    /// Its outcome is known: it rests at the broker under an order id.
    pub known: bool,
    /// Something of it was sold: it has triggered.
    pub begun: bool,
}

/// What is to be done about the stops of a position.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// Put another one over so many units.
    Place(Quantity),
    /// Move this one up.
    Raise(IntentId),
    /// Have this one cancelled.
    Withdraw(IntentId),
}

/// What is to be done so that the stops of a position that holds `held` units sell all of it at `level`, and never more;
/// one order sells at most `most` units.
pub fn steps(held: Quantity, level: Level, most: Option<Quantity>, stops: &[Resting]) -> Vec<Step> {
    let out: Quantity = stops.iter().map(|stop| stop.units).sum();
    if out > held {
        return stops.iter().filter(|stop| stop.known).map(|stop| Step::Withdraw(stop.id)).collect();
    }
    let lower = |stop: &&Resting| stop.known && !stop.begun && stop.trigger < level.trigger;
    let mut steps: Vec<Step> = stops.iter().filter(lower).map(|stop| Step::Raise(stop.id)).collect();
    let bare = held - out;
    if bare > Quantity::ZERO && stops.iter().all(|stop| stop.known) {
        steps.push(Step::Place(most.map_or(bare, |most| bare.min(most))));
    }
    steps
}

/// A stop over `units` of a position.
pub fn stop_order(position: &Position, units: Quantity, level: Level) -> OrderSpec {
    OrderSpec {
        symbol: position.symbol.clone(),
        exchange: position.exchange.clone(),
        side: Side::Sell,
        quantity: units,
        price_type: PriceType::StopLimit,
        product: position.product,
        price: level.limit,
        trigger_price: level.trigger,
    }
}

/// Which of a contract's stops, given as units that each may still sell, are to be withdrawn so that together they sell at
/// most `held`: from the last one on.
pub fn beyond(held: Quantity, stops: &[(IntentId, Quantity)]) -> Vec<IntentId> {
    let mut left = held.max(Quantity::ZERO);
    let mut beyond = Vec::new();
    for (id, units) in stops {
        if *units <= left {
            left = left - *units;
        } else {
            beyond.push(*id);
        }
    }
    beyond
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rust_decimal::dec;
    use uuid::Uuid;

    use super::*;

    fn level(trigger: i64) -> Level {
        Level { trigger: Price(trigger.into()), limit: Price((trigger - 1).into()) }
    }

    fn stop(n: u128, units: i64, trigger: i64) -> Resting {
        let (id, trigger) = (IntentId(Uuid::from_u128(n)), Price(trigger.into()));
        Resting { id, units: Quantity(units), trigger, known: true, begun: false }
    }

    #[test]
    fn a_level_is_in_ticks_and_its_limit_below_it() {
        let of = |stop, tick, percent| Level::of(Price(stop), Price(tick), percent);
        assert_eq!(
            of(dec!(139300.7), dec!(1), dec!(2)),
            Some(Level { trigger: Price(dec!(139300)), limit: Price(dec!(136514)) })
        );
        assert_eq!(
            of(dec!(905.09), dec!(0.05), dec!(0)),
            Some(Level { trigger: Price(dec!(905.05)), limit: Price(dec!(905.05)) })
        );
        assert_eq!(
            of(dec!(1.2), dec!(1), dec!(50)),
            Some(Level { trigger: Price(dec!(1)), limit: Price(dec!(1)) })
        );
        assert_eq!(of(dec!(0.4), dec!(1), dec!(2)), None, "below the first tick");
        assert_eq!(of(Decimal::ZERO, dec!(1), dec!(2)), None);
    }

    #[test]
    fn what_is_bare_gets_a_stop_in_slices_and_what_is_low_is_raised() {
        let steps = |held, most: Option<i64>, stops: &[Resting]| {
            super::steps(Quantity(held), level(100), most.map(Quantity), stops)
        };
        assert_eq!(steps(30, None, &[]), [Step::Place(Quantity(30))]);
        assert_eq!(steps(30, Some(20), &[]), [Step::Place(Quantity(20))]);
        assert_eq!(steps(30, Some(20), &[stop(1, 20, 100)]), [Step::Place(Quantity(10))]);
        assert_eq!(steps(30, None, &[stop(1, 30, 100)]), []);
        assert_eq!(steps(30, None, &[stop(1, 30, 101)]), [], "never down");
        assert_eq!(steps(30, None, &[stop(1, 30, 99)]), [Step::Raise(stop(1, 0, 0).id)]);
        assert_eq!(steps(0, None, &[]), []);
    }

    #[test]
    fn nothing_is_put_beside_a_stop_in_doubt_and_what_is_too_much_is_withdrawn() {
        let steps = |held, stops: &[Resting]| super::steps(Quantity(held), level(100), None, stops);
        let doubted = Resting { known: false, ..stop(1, 10, 90) };
        assert_eq!(steps(30, &[doubted]), []);
        assert_eq!(steps(20, &[stop(2, 30, 100)]), [Step::Withdraw(stop(2, 0, 0).id)]);
        assert_eq!(steps(5, &[doubted]), [], "it has no order id to cancel");
        let begun = Resting { begun: true, ..stop(3, 10, 90) };
        assert_eq!(steps(10, &[begun]), [], "what has triggered is not moved");
    }

    #[test]
    fn stops_beyond_what_the_broker_holds_are_named_from_the_last() {
        let of = |held, units: &[i64]| {
            let ids = |n: usize| IntentId(Uuid::from_u128(n as u128));
            let stops: Vec<_> =
                units.iter().enumerate().map(|(n, units)| (ids(n), Quantity(*units))).collect();
            let beyond = beyond(Quantity(held), &stops);
            (0..units.len()).filter(|n| beyond.contains(&ids(*n))).collect::<Vec<_>>()
        };
        assert_eq!(of(50, &[30, 20]), Vec::<usize>::new());
        assert_eq!(of(30, &[30, 20]), [1]);
        assert_eq!(of(20, &[30, 20]), [0]);
        assert_eq!(of(0, &[30, 20]), [0, 1]);
        assert_eq!(of(-10, &[30]), [0], "a short at the broker");
    }

    #[derive(Clone, Debug)]
    enum Happens {
        /// The steps are taken, each answered in one of three ways.
        Act(u8),
        /// So much is bought.
        Buy(i64),
        /// The n-th stop sells so much.
        Sell(usize, i64),
        /// The n-th stop ends at the broker.
        End(usize),
        /// What is in doubt is found at the broker, or proven absent.
        Resolve(bool),
        /// The position's stop moves up.
        Trail(i64),
    }

    fn happens() -> impl Strategy<Value = Happens> {
        prop_oneof![
            5 => (0u8..3).prop_map(Happens::Act),
            2 => (1i64..50).prop_map(Happens::Buy),
            3 => (0usize..4, 1i64..40).prop_map(|(n, units)| Happens::Sell(n, units)),
            2 => (0usize..4).prop_map(Happens::End),
            2 => any::<bool>().prop_map(Happens::Resolve),
            2 => (1i64..20).prop_map(Happens::Trail),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

        // R: S15
        #[test]
        fn whatever_happens_no_more_is_out_than_is_held_and_no_stop_moves_down(
            events in prop::collection::vec(happens(), 1..80)
        ) {
            let (mut held, mut at, mut n) = (0i64, 100i64, 0u128);
            let mut stops: Vec<Resting> = Vec::new();
            for event in events {
                let before = stops.clone();
                match event {
                    Happens::Buy(units) => held += units,
                    Happens::Trail(up) => at += up,
                    Happens::Sell(n, units) => {
                        if let Some(stop) = stops.get_mut(n) {
                            let units = units.min(stop.units.0);
                            (stop.units, stop.begun) = (stop.units - Quantity(units), true);
                            held -= units;
                        }
                    }
                    Happens::End(n) if n < stops.len() => drop(stops.remove(n)),
                    Happens::End(_) => {}
                    Happens::Resolve(true) => stops.iter_mut().for_each(|stop| stop.known = true),
                    Happens::Resolve(false) => stops.retain(|stop| stop.known),
                    Happens::Act(answer) => {
                        for step in steps(Quantity(held), level(at), Some(Quantity(25)), &stops) {
                            match step {
                                Step::Place(units) => {
                                    n += 1;
                                    prop_assert!(units > Quantity::ZERO && units <= Quantity(25));
                                    // 0: acknowledged, 1: in doubt, 2: refused.
                                    if answer < 2 {
                                        stops.push(Resting { known: answer == 0, ..stop(n, units.0, at) });
                                    }
                                }
                                Step::Raise(id) if answer == 0 => {
                                    let stop = stops.iter_mut().find(|stop| stop.id == id).unwrap();
                                    stop.trigger = level(at).trigger;
                                }
                                Step::Withdraw(id) if answer == 0 => stops.retain(|stop| stop.id != id),
                                Step::Raise(_) | Step::Withdraw(_) => {}
                            }
                        }
                    }
                }
                stops.retain(|stop| stop.units > Quantity::ZERO);
                let out: i64 = stops.iter().map(|stop| stop.units.0).sum();
                prop_assert!(out <= held, "{} units out of {} held", out, held);
                for stop in &stops {
                    if let Some(was) = before.iter().find(|was| was.id == stop.id) {
                        prop_assert!(stop.trigger >= was.trigger && stop.units <= was.units);
                    }
                }
            }
            // Left alone by the broker, all of it is covered, at the last level.
            stops.retain(|stop| stop.known && !stop.begun);
            for _ in 0..200 {
                for step in steps(Quantity(held), level(at), Some(Quantity(25)), &stops) {
                    match step {
                        Step::Place(units) => {
                            n += 1;
                            stops.push(stop(n, units.0, at));
                        }
                        Step::Raise(id) => {
                            stops.iter_mut().find(|stop| stop.id == id).unwrap().trigger = level(at).trigger;
                        }
                        Step::Withdraw(id) => stops.retain(|stop| stop.id != id),
                    }
                }
            }
            prop_assert_eq!(stops.iter().map(|stop| stop.units.0).sum::<i64>(), held);
            prop_assert!(stops.iter().all(|stop| stop.trigger == level(at).trigger));
        }
    }
}
