//! What is held in a contract that ends is warned about once a day and sold once, whoever leads.

use chrono::{DateTime, TimeDelta, Utc};
use rust_decimal::dec;

use super::desk::{Desk, at, rules};
use super::lanes::{entry_at, queued};
use crate::domain::cause::ExitCause;
use crate::domain::expiry::RolloverPolicy;
use crate::domain::fixtures;
use crate::domain::order::OrderClass;
use crate::domain::sessions::{day_start, trading_day};
use crate::engine::book::Book;
use crate::engine::decide::{Decision, decide};
use crate::engine::expiry::{Expiry, Look};
use crate::notify::Notifier;
use crate::telemetry::metrics::Metrics;

/// Noon of a day in December; the desk's contract ends on the 5th.
fn noon(day: i64) -> DateTime<Utc> {
    day_start("2025-12-01".parse().unwrap()) + TimeDelta::hours(12) + TimeDelta::days(day - 1)
}

fn policy() -> RolloverPolicy {
    RolloverPolicy { entry_days: 3, exit_days: Some(2), ..RolloverPolicy::default() }
}

fn look(desk: &mut Desk, when: DateTime<Utc>) -> Look {
    let now = at(desk.now);
    desk.book.market_asked = true;
    desk.book.leave_expiring(&policy(), when, now)
}

#[test]
fn a_position_is_sold_before_its_contract_ends_once_whoever_leads() {
    let mut desk = Desk::new();
    let held = desk.bought(1, 1, 900).position;
    assert_eq!(look(&mut desk, noon(1)).begun, []);
    assert_eq!(look(&mut desk, noon(3)).begun, [], "an hour before the close");
    assert_eq!(look(&mut desk, noon(4)).begun, [held], "nobody led the day before");
    assert_eq!(look(&mut desk, noon(4)).begun, []);
    desk.restart();
    let now = at(desk.now);
    assert_eq!(desk.book.leave_expiring(&policy(), noon(4), now), Look::default(), "nobody was asked yet");
    assert_eq!(look(&mut desk, noon(4)).begun, [held]);
    let exit = desk.due_exit(held).unwrap();
    assert_eq!((exit.class, exit.cause), (OrderClass::Protective, Some(ExitCause::Expiry)));
    assert!(desk.journal(&exit));
    desk.restart();
    assert_eq!(look(&mut desk, noon(4)).begun, []);
    assert!(desk.due_exit(held).is_none(), "its order is in doubt");
}

#[test]
fn each_position_is_warned_about_once_a_day() {
    let mut desk = Desk::new();
    let held = desk.bought(1, 1, 900).position;
    let (metrics, notifier, mut told) = (Metrics::new(), Notifier::new(), Expiry::default());
    let mut warned = |day| {
        let (seen, today) = (look(&mut desk, noon(day)), trading_day(noon(day)));
        let news: Vec<_> = told.news(&seen, today).into_iter().map(|(id, _)| id).collect();
        told.tell(&seen, &desk.book, today, &metrics, &notifier);
        (news, metrics.positions_expiring.get())
    };
    assert_eq!(warned(-1), (vec![], 0));
    assert_eq!((warned(1), warned(1)), ((vec![held], 1), (vec![], 1)));
    assert_eq!(warned(2), (vec![held], 1), "the next day");
}

#[test]
fn a_contract_with_too_few_days_left_is_not_bought() {
    let mut rules = rules();
    rules.policy.rollover = policy();
    let codes = |rules: &crate::engine::decide::Rules, day| {
        let buys = queued(1, "GOLD_MINI", entry_at(1, dec!(140_000), dec!(139_000), dec!(500)));
        let quotes = fixtures::quote("GOLD_MINI", dec!(140_000));
        match decide(rules, &Book::default(), &buys, &quotes, noon(day)) {
            Decision::Refuse(refusals, _) => refusals.into_iter().map(|refusal| refusal.code).collect(),
            _ => Vec::new(),
        }
    };
    assert!(!codes(&rules, 3).contains(&"CONTRACT_EXPIRING"), "a simulation trades on");
    (rules.simulated, rules.allow_after_market) = (false, false);
    assert!(!codes(&rules, 2).contains(&"CONTRACT_EXPIRING"));
    assert!(codes(&rules, 3).contains(&"CONTRACT_EXPIRING"));
}
