//! A bar moves a stop only beside the market, whoever leads and whatever the feed does.

use proptest::collection::vec;
use proptest::prelude::{any, prop_assert, proptest};
use rust_decimal::{Decimal, dec};

use super::desk::{Desk, rules};
use super::lanes::{bar, queued};
use crate::domain::fixtures;
use crate::domain::ids::PositionId;
use crate::domain::money::Price;
use crate::domain::portfolio::Quotes;
use crate::domain::position::Position;
use crate::domain::signal::Action;
use crate::engine::decide::{Decision, Rules, decide};
use crate::engine::draft::Draft;

fn live(price: Decimal) -> Quotes {
    fixtures::quote("GOLD_MINI", price)
}

/// A bar of an ATR of 10: gold's stop trails 20 points below the highest close.
fn decided(desk: &Desk, close: Decimal, fresh: &Quotes) -> Decision {
    of(desk, bar(close), fresh)
}

fn of(desk: &Desk, bar: Action, fresh: &Quotes) -> Decision {
    decide(&rules(), &desk.book, &queued(50, "GOLD_MINI", bar), fresh, fixtures::at(2000))
}

fn moved(decision: Decision) -> Vec<Position> {
    match decision {
        Decision::Trail(moved, left) if left.is_empty() => moved,
        other => panic!("{other:?}"),
    }
}

fn refused(decision: Decision) -> &'static str {
    match decision {
        Decision::Refuse(refusals, None) if refusals.len() == 1 => refusals[0].code,
        other => panic!("{other:?}"),
    }
}

/// As the term commits it.
fn commit(desk: &mut Desk, moved: Vec<Position>) {
    let rules = rules();
    let mut draft = Draft::new(&desk.book, &rules, desk.wall());
    for position in moved {
        let id = position.id;
        *draft.position(id).unwrap() = position;
    }
    let change = draft.finish();
    desk.commit(&change);
}

/// A desk that bought at 1000, with its stop at 900.
fn holding() -> (Desk, PositionId) {
    let mut desk = Desk::new();
    let held = desk.bought(1, 1, 900).position;
    (desk, held)
}

// LESSONS: one wrong alert sold everything out: the ratchet made it irreversible.
#[test]
fn a_bar_of_another_market_moves_nothing() {
    let (desk, held) = holding();
    for (close, fresh) in [
        (dec!(10_000), live(dec!(1000))),
        (dec!(1021), live(dec!(1000))),
        (dec!(52), live(dec!(1000))),
        (dec!(10_000), Quotes::default()),
        (dec!(1021), Quotes::default()),
        (dec!(52), Quotes::default()),
    ] {
        assert_eq!(refused(decided(&desk, close, &fresh)), "BAR_DIVERGENCE", "{close}");
    }
    let before = desk.book.position(held).unwrap();
    assert_eq!((before.highest_close, before.current_stop), (Price(dec!(1000)), Price(dec!(900))));
    let after = moved(decided(&desk, dec!(1015), &live(dec!(1010))));
    assert_eq!((after[0].highest_close, after[0].current_stop), (Price(dec!(1015)), Price(dec!(995))));
}

#[test]
fn a_new_leader_whose_feed_is_cold_judges_by_what_the_ledger_keeps() {
    let (mut desk, held) = holding();
    let trailed = moved(decided(&desk, dec!(1015), &live(dec!(1015))));
    commit(&mut desk, trailed);
    desk.restart();
    assert_eq!(desk.book.position(held).unwrap().current_stop, Price(dec!(995)));
    let cold = Quotes::default();
    assert_eq!(refused(decided(&desk, dec!(1100), &cold)), "BAR_DIVERGENCE");
    let next = moved(decided(&desk, dec!(1030), &cold));
    assert_eq!(next[0].current_stop, Price(dec!(1010)));
}

#[test]
fn a_gap_is_believed_as_soon_as_the_live_price_confirms_it() {
    let (desk, _) = holding();
    assert_eq!(refused(decided(&desk, dec!(1100), &Quotes::default())), "BAR_DIVERGENCE");
    // The feed is back; the very next bar acts, a hundred points above all that the ledger has seen.
    let up = moved(decided(&desk, dec!(1101), &live(dec!(1100))));
    assert_eq!(up[0].current_stop, Price(dec!(1081)));
    // And down: the bar is believed, though not a trail of 980 that would sell at once.
    assert_eq!(refused(decided(&desk, dec!(940), &live(dec!(941)))), "STOP_AT_MARKET");
}

#[test]
fn no_bar_puts_a_stop_to_the_market_or_above_it() {
    let (mut desk, held) = holding();
    let trailed = moved(decided(&desk, dec!(1018), &live(dec!(1018))));
    commit(&mut desk, trailed);
    // The price has come down to the trail, and the bar's range shrinks: 1018 - 20 is 998.
    let quick = decided(&desk, dec!(1000), &live(dec!(999)));
    assert_eq!(moved(quick), [], "the stop is at 998 already");
    let shrunk = |close: Decimal, atr: Decimal| {
        let Action::MarketData(mut data) = bar(close) else { unreachable!() };
        data.atr = Price(atr);
        Action::MarketData(data)
    };
    // 1018 - 9 = 1009: above the close, and above the live price though below the close.
    for (close, price) in [(dec!(1009), None), (dec!(1000), None), (dec!(1015), Some(dec!(1009)))] {
        let fresh = price.map_or_else(Quotes::default, live);
        assert_eq!(refused(of(&desk, shrunk(close, dec!(4.5)), &fresh)), "STOP_AT_MARKET", "{close}");
    }
    assert_eq!(refused(of(&desk, shrunk(dec!(1018), dec!(0)), &live(dec!(1018)))), "STOP_AT_MARKET");
    assert_eq!(desk.book.position(held).unwrap().current_stop, Price(dec!(998)));
    let raised = moved(of(&desk, shrunk(dec!(1015), dec!(4.5)), &live(dec!(1015))));
    assert_eq!(raised[0].current_stop, Price(dec!(1009)));
}

proptest! {
    #[test]
    fn whatever_bars_come_no_stop_reaches_the_market_or_moves_down(
        bars in vec((-40i64..60, -60i64..60, 0i64..60, any::<bool>()), 1..60)
    ) {
        let (mut desk, held) = holding();
        let mut price = dec!(1000);
        for (step, off, atr, is_fresh) in bars {
            price = (price + Decimal::from(step)).max(dec!(100));
            let Action::MarketData(mut data) = bar(price + Decimal::from(off)) else { unreachable!() };
            data.atr = Price(Decimal::from(atr));
            let fresh = if is_fresh { live(price) } else { Quotes::default() };
            let before = desk.book.position(held).unwrap().clone();
            let Decision::Trail(moved, _) = of(&desk, Action::MarketData(data.clone()), &fresh) else { continue };
            for after in &moved {
                let market = if is_fresh { data.price.min(Price(price)) } else { data.price };
                prop_assert!(after.current_stop >= before.current_stop);
                prop_assert!(after.current_stop == before.current_stop || after.current_stop < market);
            }
            commit(&mut desk, moved);
        }
    }
}

// Two contracts of one instrument: each has its own price.
#[test]
fn a_bar_that_moves_one_contract_says_which_it_left() {
    let (mut desk, _) = holding();
    let mut old = fixtures::position("GOLD_MINI", 2, 1, dec!(1000), dec!(900), 3);
    old.symbol = "GOLDM05NOV25FUT".to_owned();
    desk.book.portfolio.positions.push(old.clone());
    let mut fresh = live(dec!(1010));
    fresh.set(&old.exchange, &old.symbol, Price(dec!(950)));
    let rules: Rules = rules();
    let decision =
        decide(&rules, &desk.book, &queued(50, "GOLD_MINI", bar(dec!(1010))), &fresh, fixtures::at(2000));
    let Decision::Trail(moved, left) = decision else { panic!("{decision:?}") };
    assert_eq!((moved.len(), left.len(), left[0].code), (1, 1, "BAR_DIVERGENCE"));
    assert_ne!(moved[0].id, old.id);
}
