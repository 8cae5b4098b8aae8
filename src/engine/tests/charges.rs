//! What fills are charged: by their orders, in whatever parts they fill, whoever leads, and on whichever position they are booked.

use rust_decimal::dec;

use super::desk::{Desk, entry, order, trade};
use crate::broker::OrderStatus;
use crate::domain::charges::Schedule;
use crate::domain::fixtures::metals;
use crate::domain::ids::IntentId;
use crate::domain::intent::OrderIntent;
use crate::domain::money::Rupees;
use crate::domain::order::{IntentState, Side};

/// An entry for 900 units, 400 of which it has bought.
fn partly_bought(desk: &mut Desk) -> OrderIntent {
    let intent = entry(&desk.book, 1, 1, 900);
    assert!(desk.journal(&intent));
    desk.outcome(intent.id, IntentState::Acknowledged, Some("B1"));
    desk.show(order("B1", &intent, OrderStatus::Open));
    desk.books.trades.push(trade("B1", &intent, 400, dec!(140_000)));
    desk.read(20);
    intent
}

fn desk() -> Desk {
    let mut desk = Desk::new();
    desk.rules.charges = Schedule::of(vec![("metals".to_owned(), metals())]).unwrap();
    desk
}

/// What an order's fills were charged, in their order.
fn charged(desk: &Desk, id: IntentId) -> Vec<Rupees> {
    let fills = desk.rows.fills.values().filter(|fill| fill.intent == id);
    fills.map(|fill| fill.charges.expect("it is known")).collect()
}

#[test]
fn an_orders_fills_add_up_to_its_charges_also_where_another_leads_between_them() {
    for restart in [false, true] {
        let mut desk = desk();
        let intent = entry(&desk.book, 1, 1, 900);
        assert!(desk.journal(&intent));
        desk.outcome(intent.id, IntentState::Acknowledged, Some("B1"));
        desk.show(order("B1", &intent, OrderStatus::Open));
        let mut turnover = dec!(0);
        for (units, price) in [(100, dec!(140_000)), (700, dec!(140_001.5)), (100, dec!(139_999))] {
            desk.books.trades.push(trade("B1", &intent, units, price));
            desk.read(20);
            if restart {
                desk.restart();
            }
            // A lot is 100 units, and a point of it worth ₹10.
            turnover += price * rust_decimal::Decimal::from(units) / dec!(10);
            let all: Rupees = charged(&desk, intent.id).into_iter().sum();
            assert_eq!(all, metals().charges(Side::Buy, Rupees(turnover)), "after {units} at {price}");
            assert_eq!(desk.rows.positions[&intent.position].charges, all);
        }
        let fills = charged(&desk, intent.id);
        assert!(fills[2] < fills[0], "of an order brokerage is capped once: {fills:?}");
        let bought = desk.rows.positions[&intent.position].charges;

        let exit = desk.exit(2, 0, intent.position);
        assert!(desk.journal(&exit));
        desk.outcome(exit.id, IntentState::Acknowledged, Some("S1"));
        desk.show(order("S1", &exit, OrderStatus::Complete));
        desk.books.trades.push(trade("S1", &exit, exit.order.quantity.0, dec!(141_000)));
        desk.read(20);
        let sold = metals().charges(Side::Sell, Rupees(dec!(12_690_000)));
        assert_eq!(charged(&desk, exit.id), [sold]);
        assert_eq!(desk.rows.positions[&intent.position].charges, bought + sold);
    }
}

#[test]
fn a_fill_that_comes_after_its_position_was_closed_is_charged_by_its_order_and_on_its_own_position() {
    let mut desk = desk();
    let intent = partly_bought(&mut desk);
    let exit = desk.exit(2, 0, intent.position);
    assert!(desk.journal(&exit));
    desk.outcome(exit.id, IntentState::Acknowledged, Some("S1"));
    desk.show(order("S1", &exit, OrderStatus::Complete));
    desk.books.trades.push(trade("S1", &exit, 400, dec!(140_000)));
    desk.read(20);
    assert_eq!(desk.rows.held(), 0);
    desk.books.trades.push(trade("B1", &intent, 500, dec!(140_000)));
    desk.read(20);
    let [late] = &desk.rows.positions.values().filter(|held| held.is_held()).collect::<Vec<_>>()[..] else {
        panic!("one position")
    };
    assert_ne!(late.id, intent.position);
    let fills = charged(&desk, intent.id);
    assert_eq!(late.charges, fills[1]);
    let whole = metals().charges(Side::Buy, Rupees(dec!(12_600_000)));
    assert_eq!(fills.iter().copied().sum::<Rupees>(), whole);
}

// A rolling update: what the version before books has no charges, and leaves its position's as they were.
#[test]
fn what_an_older_version_booked_without_is_made_up_for_by_the_orders_next_fill() {
    let mut desk = desk();
    let intent = partly_bought(&mut desk);
    desk.rows.fills.values_mut().for_each(|fill| fill.charges = None);
    desk.rows.positions.values_mut().for_each(|held| held.charges = Rupees::ZERO);
    desk.rows.portfolio.as_mut().unwrap().charges = Rupees::ZERO;
    desk.restart();
    desk.books.trades.push(trade("B1", &intent, 500, dec!(140_000)));
    desk.read(20);
    let whole = metals().charges(Side::Buy, Rupees(dec!(12_600_000)));
    assert_eq!(desk.rows.positions[&intent.position].charges, whole);
    let fills: Vec<_> = desk.rows.fills.values().map(|fill| fill.charges).collect();
    assert_eq!(fills, [None, Some(whole)]);
}

#[test]
fn where_no_terms_are_nothing_is_charged_and_that_is_known() {
    let mut desk = Desk::new();
    let intent = desk.bought(1, 1, 900);
    assert_eq!(charged(&desk, intent.id), [Rupees::ZERO]);
    assert_eq!(desk.rows.positions[&intent.position].charges, Rupees::ZERO);
}
