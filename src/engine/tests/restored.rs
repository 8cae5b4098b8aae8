//! A new leader's book decides as the old one's did.

use super::desk::{Desk, entry, signal};
use crate::domain::order::IntentState;

#[test]
fn an_exit_goes_on_where_the_former_leader_stopped() {
    let mut desk = Desk::new();
    let bought = desk.bought(1, 1, 900);
    let first = desk.exit(2, 0, bought.position);
    assert!(desk.journal(&first));
    desk.outcome(first.id, IntentState::Rejected, None);
    desk.restart();
    let retry = desk.due_exit(bought.position).unwrap();
    assert_eq!((retry.signal, retry.leg, retry.attempt), (Some(signal(2)), 0, 1));
    assert!(desk.journal(&retry), "the ledger takes it: its number is free");
}

#[test]
fn what_was_journaled_is_in_doubt_for_the_successor_and_never_sent_again() {
    let mut desk = Desk::new();
    let bought = entry(&desk.book, 1, 1, 900);
    assert!(desk.journal(&bought));
    desk.restart();
    assert_eq!(desk.state(bought.id), IntentState::InDoubt);
    assert_eq!(desk.book.projected().pending.len(), 1, "gates count it");
    let mut again = bought.clone();
    again.id = crate::domain::ids::IntentId::new();
    assert!(!desk.journal(&again), "one intent per leg and attempt");
}
