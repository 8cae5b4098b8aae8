//! The breakout over a day of ticks: exactly the signals that the day gives, the same each time, whoever was restarted.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use rust_decimal::dec;

use super::{Trade, at, candles, opens, price, ticks};
use crate::domain::fixtures::instrument;
use crate::domain::money::Price;
use crate::domain::signal::{Action, Signal, SignalType};
use crate::strategy::breakout::{Breakout, Thresholds};
use crate::strategy::{Kind, Observed, Seen, Strategy};

const MINUTE: i64 = 60_000;
const SESSION: i64 = 30 * MINUTE;

fn thresholds() -> Thresholds {
    Thresholds {
        bar: TimeDelta::minutes(1),
        band_percent: dec!(0.5),
        stop_percent: dec!(1),
        atr_bars: 3,
        flat_before_close: TimeDelta::minutes(5),
        stale: TimeDelta::seconds(30),
    }
}

fn strategy() -> Breakout {
    Breakout::new("vwap_gold", instrument("GOLD_MINI"), thresholds())
}

/// Ten units every two seconds at the minute's price, give or take five rupees.
fn day(minutes: &[i64]) -> Vec<Trade> {
    let trade = |n: i64| {
        let minute = usize::try_from(n * 2_000 / MINUTE).unwrap();
        let wiggle = [0, 500, -500][usize::try_from(n % 3).unwrap()];
        Trade { ms: n * 2_000, paise: minutes[minute] * 100 + wiggle, units: 10 }
    };
    (0..i64::try_from(minutes.len()).unwrap() * 30).map(trade).collect()
}

/// What a ledger would hold of the strategy, if the engine took all of its signals.
#[derive(Default)]
struct Inbox {
    signals: BTreeMap<String, Signal>,
    exposed: Option<DateTime<Utc>>,
    repeats: usize,
}

impl Inbox {
    fn take(&mut self, signal: Signal) {
        if self.signals.contains_key(&signal.key.0) {
            self.repeats += 1;
            return;
        }
        self.exposed = signal.entry().map(|_| signal.bar_time);
        self.signals.insert(signal.key.0.clone(), signal);
    }

    /// (type, minute of the bar's end), in the order of time.
    fn shown(&self) -> Vec<(SignalType, i64)> {
        let mut signals: Vec<_> = self
            .signals
            .values()
            .map(|signal| (signal.kind(), (signal.bar_time - opens()).num_minutes()))
            .collect();
        signals.sort_by_key(|(_, minute)| *minute);
        signals
    }
}

fn session() -> Observed<'static> {
    Observed::Session(Some((opens(), at(SESSION))))
}

/// Plays the trades from `from_ms` until `to_ms` as a runner would, which looks twice a second.
fn play(
    strategy: &mut Breakout,
    trades: &[Trade],
    inbox: &mut Inbox,
    (from_ms, to_ms): (i64, i64),
    may: bool,
) {
    let mut ticks = ticks(trades).into_iter().filter(|tick| at(from_ms) <= tick.at).peekable();
    for ms in (from_ms..to_ms).step_by(500) {
        let now = at(ms);
        while let Some(tick) = ticks.next_if(|tick| tick.at <= now) {
            strategy.observe(Observed::Tick(tick), now);
        }
        strategy.observe(session(), now);
        if strategy.is_due() {
            let seen = Seen { may_enter: may, exposed: inbox.exposed };
            strategy.decide(seen, now).into_iter().for_each(|signal| inbox.take(signal));
        }
    }
}

fn replay(trades: &[Trade], may: bool) -> Inbox {
    let (mut strategy, mut inbox) = (strategy(), Inbox::default());
    play(&mut strategy, trades, &mut inbox, (-10_000, SESSION + 10_000), may);
    inbox
}

/// Up at minute 6, down at 12, up at 16 until the end.
fn up_down_up() -> Vec<Trade> {
    let level = |minute: i64| match minute {
        6..12 => 142_000,
        12..16 => 139_000,
        16.. => 143_000,
        _ => 140_000,
    };
    day(&(0..30).map(level).collect::<Vec<_>>())
}

// R: K8
#[test]
fn a_day_of_ticks_gives_exactly_its_signals_and_the_same_twice() {
    use SignalType::{BaseEntry, Exit};
    let inbox = replay(&up_down_up(), true);
    // A bar is decided at its end; the last five minutes of the session are for exits alone.
    assert_eq!(inbox.shown(), [(BaseEntry, 7), (Exit, 13), (BaseEntry, 17), (Exit, 25)]);
    assert_eq!(inbox.repeats, 0);
    assert_eq!(replay(&up_down_up(), true).signals, inbox.signals);
    let first = inbox.signals.values().find(|signal| signal.bar_time == at(7 * MINUTE)).unwrap();
    let Action::BaseEntry(entry) = &first.action else { panic!("{first:?}") };
    // 180 trades at 140 000 and 30 at 142 000, ten units each.
    let vwap = dec!(982000) / dec!(7);
    assert_eq!(entry.price, price(14_200_000 - 500));
    assert_eq!(entry.stop, Price((vwap * dec!(0.99)).floor()), "in whole ticks");
    assert_eq!(entry.atr, Price((dec!(10) + dec!(10) + dec!(2010)) / dec!(3)).rounded());
    assert_eq!((first.strategy.as_str(), first.sent_at), ("vwap_gold", first.bar_time));
    assert_eq!(first.key.0, "vwap_gold/bar:GOLD_MINI:BASE_ENTRY:2026-01-30T03:37:00Z");
}

#[test]
fn while_it_may_not_enter_it_only_exits() {
    assert!(replay(&up_down_up(), false).signals.is_empty());
    let (mut strategy, mut inbox) = (strategy(), Inbox { exposed: Some(at(MINUTE)), ..Inbox::default() });
    play(&mut strategy, &up_down_up(), &mut inbox, (-10_000, SESSION), false);
    assert_eq!(inbox.shown(), [(SignalType::Exit, 1)], "a bar below the VWAP by a wiggle");
}

#[test]
fn a_position_of_a_session_that_is_over_is_left_at_the_first_bar() {
    let rising: Vec<Trade> =
        (0..90).map(|n| Trade { ms: n * 2_000, paise: 14_000_000 + n * 100, units: 10 }).collect();
    for (exposed, expected) in [(at(-MINUTE), vec![(SignalType::Exit, 1)]), (at(1), vec![])] {
        let (mut strategy, mut inbox) = (strategy(), Inbox { exposed: Some(exposed), ..Inbox::default() });
        play(&mut strategy, &rising, &mut inbox, (-10_000, 3 * MINUTE), false);
        assert_eq!(inbox.shown(), expected, "entered at {exposed}");
    }
}

// R: K8
#[test]
fn a_restart_anywhere_in_the_day_doubles_nothing_and_goes_on_with_the_history() {
    let trades = up_down_up();
    let whole = replay(&trades, true);
    for cut in (30_000..SESSION - MINUTE).step_by(41_000) {
        let mut inbox = Inbox::default();
        play(&mut strategy(), &trades, &mut inbox, (-10_000, cut), true);
        let mut next = strategy();
        // The first tick shows that the open was missed; the history is read, then the quote.
        next.observe(session(), at(cut));
        let heard: Vec<_> = ticks(&trades).into_iter().filter(|tick| tick.at <= at(cut)).collect();
        let quote = crate::domain::market::Tick { at: at(cut), ..*heard.last().unwrap() };
        next.observe(Observed::Tick(quote), at(cut));
        assert!(next.wants_history() && next.outlook().vwap.is_none(), "cut at {cut}");
        next.observe(Observed::History(&candles(&trades, cut), quote), at(cut));
        assert!(!next.wants_history(), "cut at {cut}");
        play(&mut next, &trades, &mut inbox, (cut, SESSION + 10_000), true);
        for (key, signal) in &inbox.signals {
            let same = whole.signals.contains_key(key);
            // The bar that was cut makes no entry: the one after it does.
            let later = (signal.bar_time - at(cut)) < TimeDelta::minutes(2);
            assert!(same || later, "cut at {cut}: {key}");
            let half = signal.bar_time > at(cut) && signal.bar_time - at(cut) < TimeDelta::minutes(1);
            assert!(
                !half || signal.entry().is_none(),
                "cut at {cut}: entered on the bar that was cut: {key}"
            );
        }
        assert_eq!(inbox.signals.len(), whole.signals.len(), "cut at {cut}: {:?}", inbox.shown());
    }
}

#[test]
fn two_that_watch_the_same_decide_under_the_same_keys() {
    let trades = up_down_up();
    let (mut one, mut other, mut inbox) = (strategy(), strategy(), Inbox::default());
    let mut blind = Inbox::default();
    play(&mut one, &trades, &mut inbox, (-10_000, 10 * MINUTE), true);
    // The other has not seen what the first one stored.
    play(&mut other, &trades, &mut blind, (-10_000, 10 * MINUTE), true);
    blind.signals.into_values().for_each(|signal| inbox.take(signal));
    assert_eq!((inbox.signals.len(), inbox.repeats), (1, 1));
}

#[test]
fn without_a_session_a_history_or_a_fresh_price_it_does_not_enter() {
    let trades = up_down_up();
    // No session.
    let mut unknown = strategy();
    for tick in ticks(&trades) {
        unknown.observe(Observed::Session(None), tick.at);
        unknown.observe(Observed::Tick(tick), tick.at);
        assert!(!unknown.is_due());
    }
    assert_eq!(unknown.outlook().sentence, "no session is known");
    // A start in the middle, and no history.
    let (mut late, mut inbox) = (strategy(), Inbox::default());
    play(&mut late, &trades, &mut inbox, (5 * MINUTE, SESSION), true);
    assert!(inbox.signals.is_empty() && late.wants_history());
    // A bar of which the price is older than what counts as fresh.
    let silent = |trade: &Trade| !(6 * MINUTE + 25_000..7 * MINUTE + 20_000).contains(&trade.ms);
    let gap: Vec<Trade> = trades.iter().filter(|trade| silent(trade)).copied().collect();
    let (mut stale, mut inbox) = (strategy(), Inbox::default());
    play(&mut stale, &gap, &mut inbox, (-10_000, 9 * MINUTE), true);
    assert_eq!(inbox.shown(), [(SignalType::BaseEntry, 8)], "one bar later");
    // Looked at only when the next bar was over.
    let (mut paused, mut inbox) = (strategy(), Inbox::default());
    play(&mut paused, &trades, &mut inbox, (-10_000, 7 * MINUTE - 1000), true);
    paused.observe(session(), at(9 * MINUTE - 1));
    assert!(paused.is_due());
    let seen = Seen { may_enter: true, exposed: None };
    assert!(paused.decide(seen, at(9 * MINUTE - 1)).is_empty(), "not heard for a minute");
}

#[test]
fn a_session_vwap_strategy_trades_only_once_it_is_switched_on() {
    assert!(Kind::Webhook.is_on_by_default() && !Kind::SessionVwap.is_on_by_default());
}
