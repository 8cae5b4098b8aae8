use chrono::NaiveDate;
use proptest::prelude::*;
use rust_decimal::{Decimal, dec};

use crate::domain::charges::{Kind, Schedule, Terms};
use crate::domain::fixtures::metals;
use crate::domain::money::{Price, Quantity, Rupees};
use crate::domain::order::{OrderSpec, PriceType, Product, Side};

fn day(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

fn order(symbol: &str, exchange: &str, product: Product, side: Side) -> OrderSpec {
    OrderSpec {
        symbol: symbol.to_owned(),
        exchange: exchange.to_owned(),
        side,
        quantity: Quantity(100),
        price_type: PriceType::Market,
        product,
        price: Price::ZERO,
        trigger_price: Price::ZERO,
    }
}

fn gold(side: Side) -> OrderSpec {
    order("GOLDM05DEC25FUT", "MCX", Product::Nrml, side)
}

fn schedule(terms: impl IntoIterator<Item = Terms>) -> Schedule {
    let named = terms.into_iter().enumerate().map(|(number, terms)| (format!("terms{number}"), terms));
    Schedule::of(named.collect()).unwrap()
}

// Worked out by hand: one lot of gold mini at 140 000 turns ₹14,00,000 over.
#[test]
fn an_order_is_charged_what_a_contract_note_adds_up_to() {
    let turnover = Rupees(dec!(1_400_000));
    // 20 + 29.40 + 1.40, GST of that 9.144, stamp duty 28.
    assert_eq!(metals().charges(Side::Buy, turnover), Rupees(dec!(87.94)));
    // The same, and CTT of 140 in place of stamp duty.
    assert_eq!(metals().charges(Side::Sell, turnover), Rupees(dec!(199.94)));
    // Below the cap: 0.3 + 0.021 + 0.001, GST 0.05796, stamp duty 0.02.
    assert_eq!(metals().charges(Side::Buy, Rupees(dec!(1000))), Rupees(dec!(0.40)));
    let flat = Terms { brokerage_flat: Rupees(dec!(20)), gst_percent: dec!(18), ..Terms::default() };
    assert_eq!(flat.charges(Side::Buy, Rupees(dec!(0.05))), Rupees(dec!(23.60)));
    assert_eq!(flat.charges(Side::Buy, Rupees::ZERO), Rupees::ZERO);
}

#[test]
fn what_is_traded_is_told_by_its_symbol() {
    for (symbol, kind) in [
        ("GOLDM05DEC25FUT", Kind::Future),
        ("NIFTY30DEC2526000CE", Kind::Option),
        ("VEDL25APR24292.5PE", Kind::Option),
        ("RELIANCE", Kind::Share),
    ] {
        assert_eq!(Kind::of(symbol), kind, "{symbol}");
    }
}

#[test]
fn the_terms_in_force_are_the_most_particular_and_of_those_the_newest_that_had_begun() {
    let of = |kind, product, from: Option<&str>, flat: i64| Terms {
        exchange: "NFO".to_owned(),
        kind,
        product,
        from: from.map(day),
        brokerage_flat: Rupees(flat.into()),
        ..Terms::default()
    };
    let all = schedule([
        of(None, None, None, 1),
        of(None, None, Some("2026-04-01"), 2),
        of(None, Some(Product::Mis), None, 3),
        of(Some(Kind::Option), None, Some("2026-01-01"), 4),
    ]);
    let charged = |symbol: &str, exchange: &str, product, on: &str| {
        let order = order(symbol, exchange, product, Side::Buy);
        all.of_fill(&order, day(on), Rupees(dec!(1000)), Rupees::ZERO).0
    };
    let (future, option) = ("BANKNIFTY30DEC25FUT", "NIFTY30DEC2526000CE");
    for (symbol, product, on, expected) in [
        (future, Product::Nrml, "2026-03-31", dec!(1)),
        (future, Product::Nrml, "2026-04-01", dec!(2)),
        (future, Product::Mis, "2026-04-01", dec!(3)),
        (option, Product::Nrml, "2025-12-31", dec!(1)),
        (option, Product::Mis, "2026-01-01", dec!(4)),
    ] {
        assert_eq!(charged(symbol, "NFO", product, on), expected, "{symbol} {product} {on}");
    }
    assert_eq!(charged(future, "MCX", Product::Nrml, "2026-04-01"), dec!(0), "nothing is said of MCX");
}

#[test]
fn every_fault_is_named_and_so_are_two_terms_for_the_same() {
    let wrong = Terms {
        exchange: " ".to_owned(),
        brokerage_percent: dec!(-0.01),
        brokerage_most: Some(Rupees(dec!(0))),
        gst_percent: dec!(101),
        ..Terms::default()
    };
    let named = |name: &str, terms: &Terms| (name.to_owned(), terms.clone());
    let faults =
        Schedule::of(vec![named("a", &wrong), named("b", &metals()), named("c", &metals())]).unwrap_err();
    let fields: Vec<&str> = faults.iter().map(|fault| fault.field.as_str()).collect();
    assert_eq!(fields, ["a.exchange", "a.brokerage_percent", "a.gst_percent", "a.brokerage_most", "c"]);
    assert!(faults[4].message.contains("as b"), "{}", faults[4]);
    let later = Terms { from: Some(day("2026-04-01")), ..metals() };
    assert!(Schedule::of(vec![named("b", &metals()), named("c", &later)]).is_ok());
}

#[test]
fn terms_that_were_lowered_while_an_order_filled_give_nothing_back() {
    let (high, low) =
        (schedule([metals()]), schedule([Terms { exchange: "MCX".to_owned(), ..Terms::default() }]));
    let (order, on) = (gold(Side::Buy), day("2026-04-01"));
    let first = high.of_fill(&order, on, Rupees(dec!(1_400_000)), Rupees::ZERO);
    assert!(first > Rupees::ZERO);
    assert_eq!(low.of_fill(&order, on, Rupees(dec!(2_800_000)), first), Rupees::ZERO);
}

fn terms() -> impl Strategy<Value = Terms> {
    let percent = || (0i64..=100_000).prop_map(|number| Decimal::new(number, 4));
    let most = proptest::option::of((1i64..=10_000).prop_map(|paise| Rupees(Decimal::new(paise, 2))));
    let flat = (0i64..=10_000).prop_map(|paise| Rupees(Decimal::new(paise, 2)));
    let rates = (percent(), percent(), percent(), percent(), percent(), percent(), percent());
    (rates, most, flat).prop_map(|(rates, brokerage_most, brokerage_flat)| Terms {
        exchange: "MCX".to_owned(),
        brokerage_percent: rates.0,
        brokerage_most,
        brokerage_flat,
        tax_buy_percent: rates.1,
        tax_sell_percent: rates.2,
        exchange_percent: rates.3,
        sebi_percent: rates.4,
        stamp_buy_percent: rates.5,
        gst_percent: rates.6,
        ..Terms::default()
    })
}

fn side() -> impl Strategy<Value = Side> {
    prop_oneof![Just(Side::Buy), Just(Side::Sell)]
}

/// Turnovers of fills, in eighths of a decimal as prices have them.
fn fills() -> impl Strategy<Value = Vec<Rupees>> {
    let turnover = (1i64..=10_000_000_000_000).prop_map(|number| Rupees(Decimal::new(number, 8)));
    proptest::collection::vec(turnover, 1..20)
}

/// What each of an order's fills is charged, one after the other.
fn charged(schedule: &Schedule, side: Side, fills: &[Rupees]) -> Vec<Rupees> {
    let (mut turnover, mut so_far) = (Rupees::ZERO, Rupees::ZERO);
    let of = fills.iter().map(|fill| {
        turnover += *fill;
        let charges = schedule.of_fill(&gold(side), day("2026-04-01"), turnover, so_far);
        so_far += charges;
        charges
    });
    of.collect()
}

proptest! {
    #[test]
    fn charges_are_never_negative_and_never_fall_with_the_turnover(
        terms in terms(), side in side(), fills in fills(),
    ) {
        let (mut turnover, mut before) = (Rupees::ZERO, Rupees::ZERO);
        for fill in fills {
            turnover += fill;
            let charges = terms.charges(side, turnover);
            prop_assert!(charges >= before, "{} of {}, {} before", charges, turnover, before);
            prop_assert_eq!(charges.0, charges.0.round_dp(2));
            before = charges;
        }
    }

    #[test]
    fn the_fills_of_an_order_add_up_to_its_charges_however_it_is_cut(
        terms in terms(), side in side(), fills in fills(),
    ) {
        let schedule = schedule([terms.clone()]);
        let parts = charged(&schedule, side, &fills);
        prop_assert!(parts.iter().all(|part| *part >= Rupees::ZERO));
        let whole: Rupees = fills.into_iter().sum();
        prop_assert_eq!(parts.into_iter().sum::<Rupees>(), terms.charges(side, whole));
    }

    #[test]
    fn no_order_pays_more_brokerage_than_the_most_of_it_however_it_is_cut(
        percent in 1i64..=100_000, paise in 1i64..=10_000, side in side(), fills in fills(),
    ) {
        let most = Rupees(Decimal::new(paise, 2));
        let terms = Terms {
            exchange: "MCX".to_owned(),
            brokerage_percent: Decimal::new(percent, 4),
            brokerage_most: Some(most),
            ..Terms::default()
        };
        let all: Rupees = charged(&schedule([terms]), side, &fills).into_iter().sum();
        prop_assert!(all <= most, "{} of at most {}", all, most);
    }
}
