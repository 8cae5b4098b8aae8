use proptest::prelude::*;
use rust_decimal::{Decimal, dec};

use crate::domain::fixtures::{instrument, position, quote};
use crate::domain::gates::{Candidate, judge_base, judge_pyramid};
use crate::domain::instrument::Instrument;
use crate::domain::label::Label;
use crate::domain::money::{Lots, Price, Rupees};
use crate::domain::policy::TradingPolicy;
use crate::domain::portfolio::{PendingEntry, Portfolio, Quotes};
use crate::domain::position::Position;
use crate::domain::refusal::Refusal;

fn portfolio(positions: Vec<Position>) -> Portfolio {
    Portfolio { positions, cash: Rupees(dec!(10_000_000)), ..Portfolio::default() }
}

fn candidate(gold: &Instrument, n: u8, lots: i64, price: Decimal) -> Candidate<'_> {
    Candidate {
        instrument: gold,
        label: Label::new(n).unwrap(),
        lots: Lots(lots),
        price: Price(price),
        stop: Price(price - dec!(1000)),
        atr: Price(dec!(200)),
    }
}

fn codes<T>(result: Result<T, Vec<Refusal>>) -> Vec<&'static str> {
    result.map_or_else(|refusals| refusals.iter().map(|refusal| refusal.code).collect(), |_| vec![])
}

/// A gold base of 9 lots, bought at 140 000 with its stop at 139 000.
fn base() -> Position {
    position("GOLD_MINI", 1, 9, dec!(140_000), dec!(139_000), 1)
}

#[test]
fn a_base_entry_is_bounded_by_risk_and_volatility_with_its_real_size() {
    let gold = instrument("GOLD_MINI");
    let policy = TradingPolicy::default();
    let (portfolio, quotes) = (portfolio(vec![]), Quotes::new());
    let judge = |lots| judge_base(&policy, &portfolio, &quotes, &candidate(&gold, 1, lots, dec!(140_000)));
    // 150 lots · 1000 points · ₹10 = 15 % exactly; 250 lots · 200 · ₹10 = 5 % exactly.
    let at_limit = judge(150).unwrap();
    assert_eq!((at_limit.risk, at_limit.risk_percent), (Rupees(dec!(1_500_000)), dec!(15)));
    assert_eq!(at_limit.volatility_percent, dec!(3));
    assert_eq!(codes(judge(151)), ["RISK_LIMIT"]);
    assert_eq!(codes(judge(251)), ["RISK_LIMIT", "VOLATILITY_LIMIT"]);
    assert_eq!(codes(judge(0)), ["ZERO_LOTS"]);
}

#[test]
fn one_base_an_instrument_also_while_its_order_is_on_the_way() {
    let gold = instrument("GOLD_MINI");
    let policy = TradingPolicy::default();
    let entry = candidate(&gold, 1, 1, dec!(140_000));
    let quotes = quote("GOLD_MINI", dec!(140_000));
    assert_eq!(codes(judge_base(&policy, &portfolio(vec![base()]), &quotes, &entry)), ["BASE_ALREADY_OPEN"]);
    let mut waiting = portfolio(vec![]);
    waiting.pending.push(PendingEntry {
        instrument: "GOLD_MINI".to_owned(),
        label: "Long_1".to_owned(),
        risk: Rupees(dec!(1_499_000)),
        volatility: Rupees::ZERO,
        margin: Rupees::ZERO,
    });
    assert_eq!(codes(judge_base(&policy, &waiting, &quotes, &entry)), ["ENTRY_IN_FLIGHT", "RISK_LIMIT"]);
    let copper = instrument("COPPER");
    let other = Candidate { instrument: &copper, ..candidate(&copper, 1, 1, dec!(800)) };
    let other = Candidate { stop: Price(dec!(799.8)), atr: Price(dec!(1)), ..other };
    assert_eq!(codes(judge_base(&policy, &waiting, &quotes, &other)), Vec::<&str>::new());
}

#[test]
fn unknown_quotes_and_lost_equity_refuse() {
    let gold = instrument("GOLD_MINI");
    let policy = TradingPolicy::default();
    let held = portfolio(vec![position("COPPER", 1, 1, dec!(800), dec!(790), 1)]);
    let entry = candidate(&gold, 1, 1, dec!(140_000));
    assert_eq!(codes(judge_base(&policy, &held, &Quotes::new(), &entry)), ["QUOTE_MISSING"]);
    let ruined = Portfolio { cash: Rupees(dec!(-1)), ..Portfolio::default() };
    assert_eq!(codes(judge_base(&policy, &ruined, &Quotes::new(), &entry)), ["EQUITY_NOT_POSITIVE"]);
}

#[test]
fn a_pyramid_passes_when_every_gate_holds() {
    let gold = instrument("GOLD_MINI");
    let allowed = judge_pyramid(
        &TradingPolicy::default(),
        &portfolio(vec![base()]),
        &quote("GOLD_MINI", dec!(141_100)),
        &candidate(&gold, 2, 4, dec!(141_100)),
    );
    // 9 lots · 1000 + 4 lots · 1000, at ₹10 a point; blended equity counts half of 9 · 1100 · 10.
    let projection = allowed.unwrap();
    assert_eq!(projection.risk, Rupees(dec!(130_000)));
    assert_eq!(projection.equity, Rupees(dec!(10_049_500)));
}

#[test]
fn each_pyramid_gate_refuses_on_its_own() {
    let gold = instrument("GOLD_MINI");
    let judge = |positions: Vec<Position>, n, lots, price, live| {
        let (portfolio, quotes) = (portfolio(positions), quote("GOLD_MINI", live));
        codes(judge_pyramid(
            &TradingPolicy::default(),
            &portfolio,
            &quotes,
            &candidate(&gold, n, lots, price),
        ))
    };
    let live = dec!(141_100);
    assert_eq!(judge(vec![base()], 2, 4, dec!(141_000), live), ["ONE_R_NOT_REACHED"]);
    assert_eq!(judge(vec![base()], 2, 4, dec!(141_100), dec!(140_000)), ["INSTRUMENT_NOT_IN_PROFIT"]);
    let second = || position("GOLD_MINI", 2, 1, dec!(141_050), dec!(140_000), 2);
    assert_eq!(judge(vec![base(), second()], 3, 1, dec!(141_149), live), ["ATR_STEP_NOT_REACHED"]);
    assert_eq!(judge(vec![base(), second()], 3, 1, dec!(141_150), live), Vec::<&str>::new());
    assert_eq!(judge(vec![base(), second()], 2, 1, dec!(141_150), live), ["LABEL_TAKEN"]);
    assert_eq!(judge(vec![second()], 3, 1, dec!(141_150), live), ["NO_BASE"]);
    assert_eq!(judge(vec![base()], 2, 112, live, live), ["RISK_LIMIT"]);
    assert_eq!(judge(vec![base()], 2, 300, live, live), ["RISK_LIMIT", "VOLATILITY_LIMIT"]);
    let mut closing = base();
    assert!(closing.begin_exit());
    assert_eq!(judge(vec![closing], 2, 1, live, live), ["BASE_CLOSING"]);
    let full = vec![
        base(),
        position("GOLD_MINI", 2, 1, dec!(140_500), dec!(139_000), 2),
        position("GOLD_MINI", 3, 1, dec!(140_600), dec!(139_000), 3),
        position("GOLD_MINI", 4, 1, dec!(140_700), dec!(139_000), 4),
    ];
    assert_eq!(judge(full, 5, 1, live, live), ["MAX_PYRAMIDS"]);
}

#[test]
fn all_failed_gates_are_reported_once() {
    let gold = instrument("GOLD_MINI");
    let refused = judge_pyramid(
        &TradingPolicy::default(),
        &portfolio(vec![base()]),
        &Quotes::new(),
        &Candidate { atr: Price::ZERO, ..candidate(&gold, 1, 0, dec!(140_000)) },
    );
    assert_eq!(codes(refused), ["LABEL_TAKEN", "ONE_R_NOT_REACHED", "NO_ATR", "QUOTE_MISSING", "ZERO_LOTS"]);
}

proptest! {
    #[test]
    fn projected_risk_and_volatility_are_within_limits_whenever_allowed(
        lots in 0i64..400, price in 140_001i64..160_000, points in 1i64..3_000, atr in 1i64..2_000,
        base_lots in 1i64..60, live in 139_000i64..160_000,
    ) {
        let gold = instrument("GOLD_MINI");
        let policy = TradingPolicy::default();
        let portfolio = portfolio(vec![position("GOLD_MINI", 1, base_lots, dec!(140_000), dec!(139_000), 1)]);
        let quotes = quote("GOLD_MINI", live.into());
        let price = Decimal::from(price);
        let entry = Candidate {
            stop: Price(price - Decimal::from(points)), atr: Price(atr.into()), ..candidate(&gold, 2, lots, price)
        };
        if let Ok(projection) = judge_pyramid(&policy, &portfolio, &quotes, &entry) {
            let equity = portfolio.blended_equity(dec!(0.5), &quotes).unwrap().0;
            let risk = portfolio.aggregates().risk.0 + Decimal::from(lots * points * 10);
            let volatility = portfolio.aggregates().volatility.0 + Decimal::from(lots * atr * 10);
            prop_assert!(risk <= equity * dec!(0.12) && volatility <= equity * dec!(0.04));
            prop_assert_eq!((projection.risk.0, projection.volatility.0), (risk, volatility));
            prop_assert!(price > dec!(141_000) && live > 140_000);
        }
        let copper = instrument("COPPER");
        let base = Candidate { instrument: &copper, label: Label::BASE, ..entry };
        if judge_base(&policy, &portfolio, &quotes, &base).is_ok() {
            let equity = portfolio.blended_equity(dec!(0.5), &quotes).unwrap().0;
            prop_assert!(portfolio.aggregates().risk.0 + Decimal::from(lots * points * 2500) <= equity * dec!(0.15));
        }
    }
}
