//! The invariants R2 to R7.

use std::time::{Duration, Instant};

use crate::broker::BrokerPosition;
use crate::domain::money::{Price, Quantity};
use crate::domain::order::Product;
use crate::domain::position::HoldingKey;
use crate::ledger::holdings::LedgerHolding;
use crate::recovery::reconcile::{Drift, Standing, Verdict, allowance, compare};

const SETTLE: Duration = Duration::from_secs(2);

fn key(symbol: &str, product: Product) -> HoldingKey {
    HoldingKey { symbol: symbol.to_owned(), exchange: "MCX".to_owned(), product }
}

fn ledger(symbol: &str, quantity: i64) -> LedgerHolding {
    LedgerHolding {
        key: key(symbol, Product::Nrml),
        quantity: Quantity(quantity),
        busy: false,
        fingerprint: (1, 7, None),
    }
}

fn broker(symbol: &str, product: Option<Product>, quantity: i64) -> BrokerPosition {
    BrokerPosition {
        symbol: symbol.to_owned(),
        exchange: "MCX".to_owned(),
        product,
        quantity: Quantity(quantity),
        average_price: Price::ZERO,
        last_price: None,
        pnl: None,
    }
}

fn nrml(symbol: &str, quantity: i64) -> BrokerPosition {
    broker(symbol, Some(Product::Nrml), quantity)
}

fn verdicts(
    before: &[LedgerHolding],
    book: &[BrokerPosition],
    after: &[LedgerHolding],
) -> Vec<(String, Verdict)> {
    compare(before, book, after).into_iter().map(|row| (row.symbol, row.verdict)).collect()
}

fn quiet(held: &[LedgerHolding], book: &[BrokerPosition]) -> Vec<(String, Verdict)> {
    verdicts(held, book, held)
}

fn said(symbol: &str, verdict: Verdict) -> Vec<(String, Verdict)> {
    vec![(symbol.to_owned(), verdict)]
}

#[test]
fn equal_sums_agree_however_many_rows_make_them() {
    assert_eq!(quiet(&[ledger("A", 30)], &[nrml("A", 10), nrml("A", 20)]), said("A", Verdict::Agrees));
    assert_eq!(quiet(&[ledger("A", 0)], &[nrml("A", 0)]), []);
    assert_eq!(quiet(&[], &[]), []);
}

#[test]
fn less_more_and_short_are_drift() {
    assert_eq!(quiet(&[ledger("A", 30)], &[]), said("A", Verdict::Missing));
    assert_eq!(quiet(&[ledger("A", 30)], &[nrml("A", 20)]), said("A", Verdict::Missing));
    assert_eq!(quiet(&[ledger("A", 30)], &[nrml("A", -30)]), said("A", Verdict::Missing));
    assert_eq!(quiet(&[ledger("A", 30)], &[nrml("A", 40)]), said("A", Verdict::Surplus));
    // Traded and flat in the ledger, not so at the broker.
    assert_eq!(quiet(&[ledger("A", 0)], &[nrml("A", -10)]), said("A", Verdict::Missing));
    assert_eq!(quiet(&[ledger("A", 0)], &[nrml("A", 10)]), said("A", Verdict::Surplus));
}

#[test]
fn products_are_compared_apart() {
    let rows = compare(&[ledger("A", 30)], &[broker("A", Some(Product::Mis), 30)], &[ledger("A", 30)]);
    let seen: Vec<_> = rows.iter().map(|row| (row.product, row.verdict)).collect();
    assert_eq!(seen, [(Some(Product::Mis), Verdict::Foreign), (Some(Product::Nrml), Verdict::Missing)]);
}

#[test]
fn what_the_ledger_never_traded_is_foreign_and_no_drift() {
    assert_eq!(quiet(&[], &[nrml("A", 5)]), said("A", Verdict::Foreign));
    assert_eq!(quiet(&[], &[broker("A", None, 5), broker("B", None, 0)]), said("A", Verdict::Foreign));
}

#[test]
fn what_moves_is_unsettled() {
    let busy = LedgerHolding { busy: true, ..ledger("A", 30) };
    assert_eq!(verdicts(&[ledger("A", 30)], &[], std::slice::from_ref(&busy)), said("A", Verdict::Unsettled));
    // Busy before and idle after, or another version of the same figures: it moved during the reading.
    assert_eq!(verdicts(&[busy], &[], &[ledger("A", 30)]), said("A", Verdict::Unsettled));
    let newer = LedgerHolding { fingerprint: (1, 8, None), ..ledger("A", 30) };
    assert_eq!(verdicts(&[ledger("A", 30)], &[], &[newer]), said("A", Verdict::Unsettled));
    assert_eq!(verdicts(&[], &[nrml("A", 30)], &[ledger("A", 30)]), said("A", Verdict::Unsettled));
    assert_eq!(verdicts(&[ledger("A", 30)], &[nrml("A", 30)], &[]), said("A", Verdict::Unsettled));
}

#[test]
fn a_difference_is_confirmed_by_a_second_look_after_the_settling_time() {
    let rows = compare(&[ledger("A", 30)], &[], &[ledger("A", 30)]);
    let of = |drift: &Drift| drift.of(&key("A", Product::Nrml)).map(|known| known.standing);
    let begun = Instant::now();
    let once = Drift::default().next(&rows, begun, SETTLE);
    assert_eq!((of(&once), once.has_suspects()), (Some(Standing::Suspected), true));
    let soon = once.next(&rows, begun + SETTLE / 2, SETTLE);
    assert_eq!(of(&soon), Some(Standing::Suspected));
    let later = soon.next(&rows, begun + SETTLE, SETTLE);
    assert_eq!((of(&later), later.confirmed().count()), (Some(Standing::Confirmed), 1));
    // Other figures start the suspicion anew, but take back no confirmation.
    let other = compare(&[ledger("A", 30)], &[nrml("A", 10)], &[ledger("A", 30)]);
    assert_eq!(of(&once.next(&other, begun + SETTLE, SETTLE)), Some(Standing::Suspected));
    assert_eq!(of(&later.next(&other, begun + SETTLE, SETTLE)), Some(Standing::Confirmed));
}

#[test]
fn an_unsettled_contract_keeps_its_standing_and_agreement_clears_it() {
    let drifts = compare(&[ledger("A", 30)], &[], &[ledger("A", 30)]);
    let begun = Instant::now();
    let known = Drift::default().next(&drifts, begun, SETTLE).next(&drifts, begun + SETTLE, SETTLE);
    let moving = compare(&[ledger("A", 30)], &[], &[ledger("A", 20)]);
    let still = known.next(&moving, begun + SETTLE * 2, SETTLE);
    assert_eq!(still.confirmed().count(), 1);
    let agrees = compare(&[ledger("A", 30)], &[nrml("A", 30)], &[ledger("A", 30)]);
    assert_eq!(still.next(&agrees, begun + SETTLE * 3, SETTLE), Drift::default());
}

#[test]
fn an_exit_sells_at_most_what_is_held_less_what_is_out() {
    let units = |held, out| allowance(Quantity(held), Quantity(out)).0;
    assert_eq!([units(30, 0), units(30, 10), units(30, 30), units(30, 40)], [30, 20, 0, 0]);
    assert_eq!([units(0, 0), units(-30, 0), units(-30, 10)], [0, 0, 0]);
}

#[test]
fn rows_come_in_the_order_of_their_keys_whatever_the_order_of_the_book() {
    let held = [ledger("C", 1), ledger("A", 1)];
    let one = compare(&held, &[nrml("B", 1), nrml("A", 1), nrml("C", 1)], &held);
    let other = compare(&held, &[nrml("C", 1), nrml("A", 1), nrml("B", 1)], &held);
    assert_eq!(one, other);
    assert!(one.windows(2).all(|pair| pair[0].symbol < pair[1].symbol));
}
