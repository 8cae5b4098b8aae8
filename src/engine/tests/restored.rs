//! A new leader's book decides as the old one's did.

use super::desk::{Desk, entry, signal};
use crate::domain::cause::ExitCause;
use crate::domain::order::{IntentState, OrderClass};
use crate::engine::projection::projected;
use crate::ledger::Change;
use crate::ledger::wishes::Wish;

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
    assert_eq!(projected(&desk.book).pending.len(), 1, "gates count it");
    let mut again = bought.clone();
    again.id = crate::domain::ids::IntentId::new();
    assert!(!desk.journal(&again), "one intent per leg and attempt");
}

#[test]
fn what_an_operator_wants_closed_is_due_under_the_next_leader_too() {
    let mut desk = Desk::new();
    let untouched = desk.bought(1, 1, 900);
    let refused = desk.bought(2, 2, 300);
    let exit = desk.exit(3, 0, refused.position);
    assert!(desk.journal(&exit));
    desk.outcome(exit.id, IntentState::Rejected, None);
    let wishes = [&untouched, &refused].map(|bought| Wish {
        position: bought.position,
        by: "asha".to_owned(),
        why: "asha: news".to_owned(),
    });
    desk.commit(&Change { wishes: wishes.to_vec(), ..Change::default() });
    for leader in ["that took it", "after it"] {
        for bought in [&untouched, &refused] {
            let due = desk.due_exit(bought.position).unwrap();
            let told = (due.class, due.cause, due.reason.as_deref());
            assert_eq!(
                told,
                (OrderClass::Operator, Some(ExitCause::Operator), Some("asha: news")),
                "the leader {leader}"
            );
        }
        desk.restart();
    }
    assert_eq!(desk.due_exit(refused.position).unwrap().attempt, 1, "it goes on from the signal's exit");
}
