//! Bars and VWAP against sums over the trades themselves, in whole paise: nothing of the code under test is used for them.

use chrono::TimeDelta;
use proptest::prelude::*;
use rust_decimal::{Decimal, dec};

use super::{Trade, at, candles, opens, price, tick, ticks};
use crate::domain::money::{Price, Quantity};
use crate::strategy::bars::{Bar, Doubt, SessionBars};

const MINUTE: i64 = 60_000;
const SESSION: i64 = 30 * MINUTE;

fn watch(since_ms: i64) -> SessionBars {
    SessionBars::watch((opens(), at(SESSION)), TimeDelta::milliseconds(MINUTE), at(since_ms), None)
}

fn trade(ms: i64, paise: i64, units: i64) -> Trade {
    Trade { ms, paise, units }
}

/// Σ paise·units / Σ units, in rupees.
fn reference_vwap(trades: &[Trade]) -> Option<Price> {
    let paid: i128 = trades.iter().map(|trade| i128::from(trade.paise) * i128::from(trade.units)).sum();
    let units: i128 = trades.iter().map(|trade| i128::from(trade.units)).sum();
    (units > 0).then(|| Price(Decimal::from(paid) / Decimal::from(units) / dec!(100)).rounded())
}

/// (open, high, low, close, volume) of each minute that a price is known of, and the VWAP at its end.
fn reference_bars(trades: &[Trade], minutes: i64) -> Vec<([i64; 5], Option<Price>)> {
    let mut bars = Vec::new();
    for minute in 0..minutes {
        let of = |trade: &&Trade| trade.ms / MINUTE == minute;
        let until: Vec<Trade> = trades.iter().filter(|trade| trade.ms / MINUTE <= minute).copied().collect();
        let Some(last) = until.last() else { continue };
        let mine: Vec<i64> = trades.iter().filter(of).map(|trade| trade.paise).collect();
        let (open, close) = (*mine.first().unwrap_or(&last.paise), last.paise);
        let (high, low) = (*mine.iter().max().unwrap_or(&close), *mine.iter().min().unwrap_or(&close));
        let units = trades.iter().filter(of).map(|trade| trade.units).sum();
        bars.push(([open, high, low, close, units], reference_vwap(&until)));
    }
    bars
}

fn shown(bars: &[Bar]) -> Vec<([i64; 5], Option<Price>)> {
    let paise = |price: Price| i64::try_from(price.0 * dec!(100)).unwrap();
    let of = |bar: &Bar| {
        let prices = [paise(bar.open), paise(bar.high), paise(bar.low), paise(bar.close), bar.volume.0];
        (prices, bar.vwap)
    };
    bars.iter().map(of).collect()
}

// R: K8
#[test]
fn a_known_day_has_its_known_bars_and_its_known_vwap() {
    let mut bars = watch(-1000);
    let mut over = Vec::new();
    // 100 units at 100, 300 at 104: 103. Then 100 at 98: 102.
    for tick in [tick(1_000, 10_000, 100), tick(30_000, 10_400, 400), tick(61_000, 9_800, 500)] {
        over.extend(bars.tick(tick));
    }
    assert_eq!(shown(&over), [([10_000, 10_400, 10_000, 10_400, 400], Some(Price(dec!(103))))]);
    assert_eq!(bars.vwap(), Some(Price(dec!(102))));
    // The clock closes the next two, of which the second has no tick: it stands at the last close.
    let over = bars.advance(at(3 * MINUTE));
    assert_eq!(
        shown(&over),
        [
            ([9_800, 9_800, 9_800, 9_800, 100], Some(Price(dec!(102)))),
            ([9_800, 9_800, 9_800, 9_800, 0], Some(Price(dec!(102)))),
        ]
    );
    assert!(over.iter().all(|bar| bar.whole && bar.heard == at(61_000)));
}

#[test]
fn an_index_without_volume_has_bars_and_no_vwap() {
    let mut bars = watch(0);
    bars.tick(tick(1_000, 10_000, 0));
    bars.tick(tick(30_000, 10_100, 0));
    let over = bars.advance(at(MINUTE));
    assert_eq!((over[0].close, over[0].volume, over[0].vwap), (price(10_100), Quantity::ZERO, None));
    assert_eq!((bars.vwap(), bars.doubt()), (None, None));
}

#[test]
fn the_days_total_may_be_yesterdays_until_the_first_trade_and_never_falls_after_it() {
    let mut bars = watch(-60_000);
    bars.tick(tick(-30_000, 9_900, 50_000));
    bars.tick(tick(1_000, 9_900, 50_000));
    assert_eq!(bars.vwap(), None, "nothing was traded yet");
    bars.tick(tick(2_000, 10_000, 40));
    bars.tick(tick(3_000, 10_300, 60));
    assert_eq!((bars.vwap(), bars.doubt()), (Some(Price(dec!(101))), None));
    bars.tick(tick(4_000, 5_000, 10));
    assert_eq!(bars.vwap(), Some(Price(dec!(101))), "a late one");
    for second in 5..70 {
        bars.tick(tick(second * 1000, 5_000, 10 + second % 9));
        assert_eq!(bars.doubt().is_some(), second > 63, "after {second} s");
    }
    assert_eq!((bars.doubt(), bars.vwap()), (Some(Doubt::Fell), None), "it fell for longer than a bar");
}

#[test]
fn a_session_that_was_not_watched_from_its_open_has_no_vwap_unless_nothing_was_traded() {
    let mut late = watch(5 * MINUTE);
    let over = late.tick(tick(5 * MINUTE + 1, 10_000, 900));
    assert!(over.is_empty());
    assert_eq!((late.vwap(), late.doubt()), (None, Some(Doubt::LateStart)));
    let over = late.advance(at(6 * MINUTE));
    assert_eq!((over[0].whole, over[0].vwap), (false, None), "nobody watched before it");
    let mut quiet = watch(5 * MINUTE + 30_000);
    quiet.tick(tick(5 * MINUTE + 30_001, 10_000, 0));
    quiet.tick(tick(5 * MINUTE + 30_002, 10_000, 10));
    assert_eq!((quiet.vwap(), quiet.doubt()), (Some(price(10_000)), None));
    assert!(!quiet.advance(at(6 * MINUTE))[0].whole, "half of it was not watched");
}

#[test]
fn a_gap_longer_than_a_bar_is_a_doubt_only_if_there_were_trades_in_it() {
    let mut bars = watch(0);
    bars.tick(tick(1_000, 10_000, 100));
    bars.tick(tick(90_000, 10_000, 100));
    assert_eq!(bars.doubt(), None, "the total stood still");
    bars.tick(tick(150_000, 10_200, 200));
    assert_eq!((bars.doubt(), bars.vwap()), (None, Some(Price(dec!(101)))), "not longer than a bar");
    bars.tick(tick(210_001, 10_200, 201));
    assert_eq!((bars.doubt(), bars.vwap()), (Some(Doubt::Gap), None));
    // Nobody heard the first trade for longer than a bar, though the session was watched.
    let mut silent = watch(0);
    silent.tick(tick(MINUTE + 1, 10_000, 5));
    assert_eq!(silent.doubt(), Some(Doubt::Gap));
}

#[test]
fn what_no_market_can_say_changes_nothing() {
    let mut bars = watch(0);
    bars.tick(tick(1_000, 10_000, 100));
    for odd in [tick(2_000, 0, 200), tick(2_000, -5, 200), tick(2_000, 10_000, -1), tick(SESSION, 1, 900)] {
        bars.tick(odd);
    }
    bars.tick(tick(3_000, i64::MAX, 200));
    bars.tick(tick(3_000, 10_000, i64::MAX));
    assert_eq!((bars.vwap(), bars.doubt()), (Some(price(10_000)), None));
}

#[test]
fn the_history_ends_a_doubt_if_it_explains_the_days_volume() {
    let trades: Vec<Trade> = (0..600).map(|n| trade(n * 1000, 10_000 + n % 7, 10 + n % 3)).collect();
    let total: i64 = trades.iter().map(|trade| trade.units).sum();
    let mut late = watch(599_000);
    late.tick(tick(599_000, 10_000, total - 12));
    assert_eq!(late.doubt(), Some(Doubt::LateStart));
    let quote = tick(599_500, 10_004, total);
    let half = candles(&trades, 300_000);
    let unexplained = late.rebuild(&half, quote).unwrap_err();
    assert_eq!((unexplained.total, late.doubt()), (Quantity(total), Some(Doubt::LateStart)));
    let over = late.rebuild(&candles(&trades, 599_000), quote).unwrap();
    assert_eq!((over.len(), late.doubt()), (9, None));
    assert!(over.iter().all(|bar| !bar.whole && bar.vwap.is_some()));
    // Minutes count at their typical price: within a paisa or two of the trades' own.
    let off = (late.vwap().unwrap() - reference_vwap(&trades).unwrap()).0.abs();
    assert!(off < dec!(0.03), "off by {off}");
    // From here on it counts as one that watched from the open.
    late.tick(tick(601_000, 20_000, total * 2));
    let expected = (reference_vwap(&trades).unwrap().0 + dec!(200)) / dec!(2);
    assert!((late.vwap().unwrap().0 - expected).abs() < dec!(0.03));
}

/// Trades in the order of time, some close to each other, none further apart than a bar.
fn trades() -> impl Strategy<Value = Vec<Trade>> {
    let one = (0i64..20_000, 9_000i64..11_000, 1i64..500);
    proptest::collection::vec(one, 1..60).prop_map(|steps| {
        let mut ms = 0;
        let each = steps.into_iter().map(|(gap, paise, units)| {
            ms += gap;
            trade(ms, paise, units)
        });
        each.take_while(|trade| trade.ms < SESSION).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    // R: K8
    #[test]
    fn bars_and_vwap_are_the_trades_own_whatever_comes_late_twice_or_between(
        trades in trades(),
        noise in proptest::collection::vec((0usize..60, 0u8..4), 0..80),
    ) {
        let ticks = ticks(&trades);
        let mut bars = watch(-5_000);
        let mut over = Vec::new();
        for (place, tick) in ticks.iter().enumerate() {
            over.extend(bars.tick(*tick));
            for (other, kind) in noise.iter().filter(|(other, _)| other % ticks.len() <= place) {
                let earlier = ticks[other % ticks.len()];
                over.extend(match kind {
                    // Once more, and late, by its own time or by that of its arrival.
                    0 => bars.tick(*tick),
                    1 => bars.tick(earlier),
                    2 => bars.tick(crate::domain::market::Tick { at: tick.at, ..earlier }),
                    _ => bars.advance(tick.at),
                });
            }
        }
        let minutes = trades.last().map_or(0, |trade| trade.ms / MINUTE + 2);
        over.extend(bars.advance(at(minutes * MINUTE)));
        prop_assert_eq!(shown(&over), reference_bars(&trades, minutes.min(SESSION / MINUTE)));
        prop_assert_eq!(bars.vwap(), reference_vwap(&trades));
        for bar in &over {
            prop_assert_eq!(bar.closes - bar.opens, TimeDelta::milliseconds(MINUTE));
            prop_assert!(bar.whole && bar.low <= bar.open.min(bar.close) && bar.high >= bar.open.max(bar.close));
        }
    }
}
