//! Whose turn it is.

use std::collections::BTreeMap;
use std::time::Duration;

use rust_decimal::{Decimal, dec};

use super::desk::{Desk, at, entry, signal};
use crate::domain::cause::ExitCause;
use crate::domain::exit::ExitRequest;
use crate::domain::fixtures;
use crate::domain::ids::SignalKey;
use crate::domain::label::{Label, Target};
use crate::domain::money::Price;
use crate::domain::order::IntentState;
use crate::domain::signal::{Action, Entry, Exit, MarketData, Signal};
use crate::engine::book::Queued;
use crate::engine::lanes::{Lanes, Phase, may_decide};

const PATIENCE: Duration = Duration::from_secs(2);

pub(super) fn queued(n: u128, instrument: &str, action: Action) -> Queued {
    let seq = i64::try_from(n).unwrap();
    let signal_of = Signal {
        key: SignalKey(format!("k{n}")),
        strategy: "default".to_owned(),
        instrument: instrument.to_owned(),
        sent_at: fixtures::at(seq),
        bar_time: fixtures::at(seq),
        action,
        extra: BTreeMap::new(),
    };
    Queued { id: signal(n), seq, signal: signal_of, attempt: 0 }
}

pub(super) fn entry_at(label: u8, price: Decimal, stop: Decimal, atr: Decimal) -> Action {
    let entry = Entry {
        label: Label::new(label).unwrap(),
        price: Price(price),
        stop: Price(stop),
        take_profit: None,
        atr: Price(atr),
        er: Some(dec!(0.9)),
        supertrend: None,
        roc: None,
        suggested_lots: None,
        reason: None,
    };
    if label == 1 { Action::BaseEntry(entry) } else { Action::Pyramid(entry) }
}

pub(super) fn exit_of(target: Target) -> Action {
    Action::Exit(Exit { target, reason: "stop".to_owned(), price: None })
}

pub(super) fn bar(close: Decimal) -> Action {
    Action::MarketData(MarketData { price: Price(close), atr: Price(dec!(10)), supertrend: Price(dec!(0)) })
}

fn buy(n: u128) -> Queued {
    queued(n, "GOLD_MINI", entry_at(1, dec!(1000), dec!(900), dec!(100)))
}

fn sell(n: u128) -> Queued {
    queued(n, "GOLD_MINI", exit_of(Target::All))
}

#[test]
fn an_entry_is_called_off_by_a_later_exit_that_means_it_and_waits() {
    let mut lanes = Lanes::default();
    let (entry, exit, later) = (buy(1), sell(2), buy(3));
    lanes.add(entry.clone(), at(0));
    assert!(!lanes.is_called_off(&entry));
    lanes.add(exit, at(0));
    assert!(lanes.is_called_off(&entry));
    lanes.add(later.clone(), at(0));
    assert!(!lanes.is_called_off(&later), "the EXIT came before it");
}

#[test]
fn a_lane_keeps_inbox_order_and_takes_each_signal_once() {
    let mut lanes = Lanes::default();
    assert!(lanes.add(buy(3), at(0)) && lanes.add(buy(1), at(0)) && !lanes.add(buy(3), at(5)));
    assert!(lanes.add(queued(2, "COPPER", exit_of(Target::All)), at(0)));
    let mut heads: Vec<_> = lanes.heads().map(|head| head.queued.seq).collect();
    heads.sort_unstable();
    assert_eq!(heads, [1, 2], "lanes do not wait for each other");
    lanes.remove(signal(1));
    assert_eq!(lanes.len(), 2);
    assert!(lanes.find(signal(1)).is_none() && lanes.find(signal(3)).is_some());
}

fn ready(desk: &Desk, queued: Queued, waited_ms: u64) -> bool {
    let mut lanes = Lanes::default();
    lanes.add(queued, at(0));
    lanes.heads().all(|head| may_decide(&desk.book, head, at(waited_ms), PATIENCE))
}

#[test]
fn an_entry_waits_for_whatever_is_out_in_doubt_or_closing_on_its_instrument() {
    let mut desk = Desk::new();
    let bought = entry(&desk.book, 1, 1, 900);
    assert!(desk.journal(&bought));
    assert!(!ready(&desk, buy(9), 60_000));
    assert!(ready(&desk, queued(9, "COPPER", entry_at(1, dec!(800), dec!(790), dec!(10))), 0));
    desk.outcome(bought.id, IntentState::InDoubt, None);
    assert!(!ready(&desk, buy(9), 60_000));
    desk.read(60_000);
    assert!(ready(&desk, buy(9), 0), "abandoned: nothing is expected any more");
    let held = desk.bought(2, 1, 900);
    let exit = desk.exit(3, 0, held.position);
    assert!(desk.journal(&exit));
    desk.outcome(exit.id, IntentState::Rejected, None);
    assert!(!ready(&desk, buy(9), 60_000), "between two tries of an exit");
}

#[test]
fn an_exit_waits_for_entries_that_may_fill_but_not_for_ever() {
    let mut desk = Desk::new();
    let bought = entry(&desk.book, 1, 1, 900);
    assert!(desk.journal(&bought));
    assert!(!ready(&desk, sell(9), 1_999) && ready(&desk, sell(9), 2_000));
    desk.outcome(bought.id, IntentState::InDoubt, None);
    assert!(!ready(&desk, sell(9), 1_999), "the entry in doubt is the only thing to close");
    desk.read(60_000);
    desk.bought(2, 1, 900);
    let doubt = entry(&desk.book, 3, 2, 400);
    assert!(desk.journal(&doubt));
    desk.outcome(doubt.id, IntentState::InDoubt, None);
    assert!(ready(&desk, sell(9), 0), "what is held does not wait for what is in doubt");
}

// The stop's order may never be sent (a halt of all orders, a price that comes back): a refused EXIT would be lost.
#[test]
fn an_exit_waits_while_a_stop_wants_its_position_and_may_let_it_go() {
    let mut desk = Desk::new();
    let held = desk.bought(1, 1, 900).position;
    assert!(desk.book.close_by(held, ExitCause::StopLoss, "its stop".to_owned(), at(0)));
    assert!(!ready(&desk, sell(9), 600_000), "however long that takes");
    assert!(
        ready(&desk, queued(9, "GOLD_MINI", exit_of(Target::One(Label::new(2).unwrap()))), 0),
        "not its own"
    );
    desk.book.keep_open(held);
    assert!(ready(&desk, sell(9), 0));
    assert!(desk.book.close_by(held, ExitCause::StopLoss, "its stop".to_owned(), at(0)));
    let stop = desk.due_exit(held).unwrap();
    assert!(desk.journal(&stop));
    assert!(ready(&desk, sell(9), 0), "it is on its way out for good: the EXIT is told so");
}

#[test]
fn quotes_decide_for_two_seconds() {
    let mut lanes = Lanes::default();
    lanes.add(buy(1), at(0));
    let waiting = lanes.find(signal(1)).unwrap();
    assert!(waiting.quotes(at(0)).is_none());
    waiting.phase = Phase::Quoted(fixtures::quote("GOLD_MINI", dec!(1000)), at(500));
    assert!(waiting.quotes(at(2_500)).is_some());
    assert!(waiting.quotes(at(2_501)).is_none(), "asked anew");
}

#[test]
fn a_bar_between_an_entry_and_an_exit_does_not_hold_the_exit_back() {
    let mut lanes = Lanes::default();
    lanes.add(buy(1), at(0));
    lanes.add(queued(2, "GOLD_MINI", bar(dec!(1100))), at(0));
    lanes.add(sell(3), at(0));
    let behind: Vec<_> = lanes.exits_behind_entries().map(|waiting| waiting.queued.seq).collect();
    assert_eq!(behind, [3]);
}

#[test]
fn an_exit_is_found_behind_entries_and_names_those_it_makes_pointless() {
    let mut lanes = Lanes::default();
    lanes.add(buy(1), at(0));
    let pyramid = queued(2, "GOLD_MINI", entry_at(2, dec!(1000), dec!(900), dec!(100)));
    lanes.add(pyramid, at(0));
    lanes.add(queued(3, "GOLD_MINI", exit_of(Target::One(Label::BASE))), at(0));
    lanes.add(buy(4), at(0));
    let behind: Vec<_> = lanes.exits_behind_entries().map(|waiting| waiting.queued.seq).collect();
    assert_eq!(behind, [3]);
    let request = ExitRequest {
        instrument: "GOLD_MINI",
        strategy: Some("default"),
        target: Target::One(Label::BASE),
        bar_time: fixtures::at(3),
        seq: 3,
    };
    assert_eq!(lanes.entries_meant(&request), [signal(1)], "not the pyramid, not what came later");
    lanes.remove(signal(1));
    lanes.remove(signal(2));
    assert_eq!(lanes.exits_behind_entries().count(), 0, "at the head it has its turn anyway");
}
