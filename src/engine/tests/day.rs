//! The account's day: limits are judged whatever prices are missing, latched once, told once.

use chrono::NaiveDate;
use rust_decimal::{Decimal, dec};

use super::desk::{CAPITAL, Desk, at, order, trade};
use crate::broker::OrderStatus;
use crate::domain::cash::Movement;
use crate::domain::fixtures;
use crate::domain::ids::{MovementId, PositionId};
use crate::domain::limits::Day;
use crate::domain::money::{Quantity, Rupees};
use crate::domain::order::IntentState;
use crate::domain::policy::AccountLimits;
use crate::domain::refusal::Refusal;
use crate::engine::day::{Worth, show_latched, show_used};
use crate::engine::tell;
use crate::ledger::Change;
use crate::ledger::cash::CashWrite;
use crate::ledger::change::PortfolioRow;
use crate::notify::{Kind, Notifier};
use crate::telemetry::metrics::Metrics;

fn date(day: u32) -> NaiveDate {
    NaiveDate::from_ymd_opt(2025, 11, day).unwrap()
}

fn day(opening: Option<Rupees>) -> Day {
    Day {
        date: date(25),
        opening,
        realised: Rupees::ZERO,
        charges: Rupees::ZERO,
        orders: 0,
        stop_outs: 0,
        latched: Vec::new(),
    }
}

/// Limits of 5 000 rupees and, for the drawdown, none.
fn limits() -> AccountLimits {
    AccountLimits {
        max_daily_loss: Some(Rupees(dec!(5_000))),
        max_drawdown_percent: None,
        ..AccountLimits::default()
    }
}

fn codes(desk: &Desk, equity: Option<Rupees>) -> Vec<&'static str> {
    desk.book.hits(&limits(), equity).into_iter().map(|hit| hit.code).collect()
}

/// A desk that holds two positions of nine lots, bought at 1000; a point is ten rupees a lot.
fn holding() -> (Desk, [PositionId; 2]) {
    let mut desk = Desk::new();
    desk.book.day = Some(day(Some(CAPITAL)));
    let held = [1, 2].map(|label| desk.bought(label.into(), label, 900).position);
    (desk, held)
}

/// Sells `units` of a position at `price`.
fn sold(desk: &mut Desk, n: u128, id: PositionId, units: i64, price: Decimal) {
    let mut exit = desk.exit(n, 0, id);
    exit.order.quantity = Quantity(units);
    assert!(desk.journal(&exit));
    let order_id = format!("S{n}");
    desk.outcome(exit.id, IntentState::Acknowledged, Some(&order_id));
    desk.show(order(&order_id, &exit, OrderStatus::Complete));
    desk.books.trades.push(trade(&order_id, &exit, units, price));
    desk.read(20);
}

#[test]
fn a_realised_loss_latches_while_another_positions_price_is_dead() {
    let (mut desk, [first, second]) = holding();
    assert_eq!(codes(&desk, None), Vec::<&str>::new());
    // A partial exit counts as it fills: 4 lots x 60 points x 10.
    sold(&mut desk, 10, first, 400, dec!(940));
    assert_eq!(desk.book.day.as_ref().unwrap().realised, Rupees(dec!(-2_400)));
    assert_eq!(codes(&desk, None), Vec::<&str>::new());
    sold(&mut desk, 11, first, 500, dec!(948));
    assert_eq!(desk.book.day.as_ref().unwrap().realised, Rupees(dec!(-5_000)));
    assert!(desk.book.position(second).is_some(), "held, at a price that nobody knows");
    assert_eq!(codes(&desk, None), ["MAX_DAILY_LOSS"]);
    // With a price it is the whole that counts: an open profit of 9 lots x 10 points x 10 outweighs some of it.
    let quotes = fixtures::quote("GOLD_MINI", dec!(1010));
    let equity = desk.book.portfolio.open_equity(&quotes).unwrap();
    assert_eq!(equity, CAPITAL - Rupees(dec!(4_100)));
    assert_eq!(codes(&desk, Some(equity)), Vec::<&str>::new());
}

#[test]
fn what_is_taken_out_is_no_loss_and_what_is_paid_in_is_no_profit() {
    let (mut desk, [first, _]) = holding();
    let limits = AccountLimits { max_drawdown_percent: Some(dec!(1)), ..limits() };
    let hits = |desk: &Desk| {
        let equity = desk.book.portfolio.open_equity(&fixtures::quote("GOLD_MINI", dec!(1000))).unwrap();
        desk.book.hits(&limits, Some(equity)).into_iter().map(|hit| hit.code).collect::<Vec<_>>()
    };
    for (n, kind, left) in [(1, "withdrawal", dec!(2_000_000)), (2, "deposit", dec!(5_000_000))] {
        let movement = Movement::asked(MovementId(uuid::Uuid::from_u128(n)), kind, "3000000").unwrap();
        assert_eq!(movement.refusal(&desk.book.portfolio), None);
        let mut after = desk.book.portfolio.clone();
        after.move_cash(movement.amount);
        let (who, why, day) = ("asha".to_owned(), "tax".to_owned(), Some(date(25)));
        let cash = Some(CashWrite { movement, who, why, day });
        desk.commit(&Change { portfolio: Some(PortfolioRow::of(&after)), cash, ..Change::default() });
        assert_eq!(hits(&desk), Vec::<&str>::new(), "{kind}");
        let day = desk.book.day.as_ref().unwrap();
        assert_eq!(
            (desk.book.portfolio.cash, desk.book.portfolio.equity_high, day.opening),
            (Rupees(left), Rupees(left), Some(Rupees(left)))
        );
    }
    // A loss is one all the same: 9 lots x 600 points x 10 are more than 1 % of what is left.
    sold(&mut desk, 10, first, 900, dec!(400));
    assert_eq!(hits(&desk), ["MAX_DAILY_LOSS", "MAX_DRAWDOWN"]);
}

#[test]
fn a_day_that_could_not_be_opened_yet_has_its_realised_loss_judged() {
    let (mut desk, [first, _]) = holding();
    desk.book.day = Some(day(None));
    sold(&mut desk, 10, first, 900, dec!(944));
    assert_eq!(desk.book.day.as_ref().unwrap().realised, Rupees(dec!(-5_040)));
    // The equity is known by now, but not what the day began with: no night's loss is taken for the day's.
    assert_eq!(codes(&desk, Some(Rupees(dec!(1)))), ["MAX_DAILY_LOSS"]);
    let percent = AccountLimits { max_daily_loss: None, max_daily_loss_percent: Some(dec!(0.1)), ..limits() };
    let hit = desk.book.hits(&percent, None);
    assert_eq!(hit[0].code, "MAX_DAILY_LOSS_PERCENT", "of the closed equity that the day began with");
}

#[test]
fn a_latch_is_no_news_and_what_is_not_latched_is_none() {
    let (mut desk, [first, _]) = holding();
    sold(&mut desk, 10, first, 900, dec!(900));
    let hit = desk.book.hits(&limits(), None);
    assert_eq!(hit.len(), 1);
    desk.book.day.as_mut().unwrap().latched.extend(hit);
    assert_eq!(codes(&desk, None), Vec::<&str>::new());
}

#[test]
fn entries_wait_once_nobody_knows_for_long_what_the_account_is_worth() {
    let mut worth = Worth::new(at(0));
    assert!(!worth.is_unknown(at(10_000)), "a new leader has no price for a moment");
    assert!(worth.is_unknown(at(10_001)));
    worth.look(false, at(10_002));
    assert!(worth.is_unknown(at(10_002)));
    worth.look(true, at(20_000));
    assert!(!worth.is_unknown(at(20_000)));
}

#[test]
fn a_latch_is_told_once_shown_while_it_holds_and_resolved_with_its_day() {
    let (metrics, notifier) = (Metrics::new(), Notifier::new());
    let limit = Refusal::new("MAX_DAILY_LOSS", "the day's loss of ₹6000.00 reached ₹5000");
    tell::latched(date(25), &limit, &metrics, &notifier);
    show_latched(&metrics, std::slice::from_ref(&limit));
    let shown = |code| metrics.limit_latched.with_label_values(&[code]).get();
    assert_eq!((shown("MAX_DAILY_LOSS"), shown("MAX_DRAWDOWN")), (1, 0));
    let told = notifier.message_of(Kind::LimitHit).unwrap();
    assert!(told.contains("2025-11-25") && told.contains("₹6000.00"), "{told}");

    // A leader that died before it told is made up for by the next one's census; it ends nothing that it has not read.
    let mut today = day(Some(CAPITAL));
    assert!(tell::limits(7, None).unsure.contains("MAX_DAILY_LOSS"));
    today.latched.push(limit);
    assert_eq!(tell::limits(7, Some(&today)).holds.keys().collect::<Vec<_>>(), ["MAX_DAILY_LOSS"]);
    tell::latches_end(&today, &notifier);
    assert!(notifier.withdrew(Kind::LimitHit));
    let tomorrow = Day { date: date(26), ..day(None) };
    let census = tell::limits(7, Some(&tomorrow));
    assert!(census.holds.is_empty() && census.unsure.is_empty());
    show_latched(&metrics, &[]);
    assert_eq!(shown("MAX_DAILY_LOSS"), 0);
}

#[test]
fn what_is_held_and_how_much_of_a_limit_is_used_is_shown_in_shares_by_who_leads() {
    let (metrics, (mut desk, [first, _])) = (Metrics::new(), holding());
    sold(&mut desk, 10, first, 400, dec!(940));
    let figures = desk.book.figures(None);
    show_used(&metrics, &limits(), figures.as_ref());
    let used = |code| metrics.limit_used.with_label_values(&[code]).get();
    // 2 400 of 5 000; no limit of the drawdown is set.
    assert_eq!((used("MAX_DAILY_LOSS"), used("MAX_DRAWDOWN")), (0.48, 0.0));
    assert_eq!(metrics.positions_held.get(), 2);
    show_used(&metrics, &limits(), None);
    assert_eq!((used("MAX_DAILY_LOSS"), metrics.positions_held.get()), (0.0, 0));
}
