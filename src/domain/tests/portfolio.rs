use rust_decimal::dec;

use crate::domain::fixtures::{position, quote};
use crate::domain::instrument::Catalog;
use crate::domain::money::{Price, Quantity, Rupees};
use crate::domain::policy::EquityBasis;
use crate::domain::portfolio::{Aggregates, PendingEntry, Portfolio, Quotes};
use crate::domain::position::Position;
use crate::domain::pyramiding::{self, PyramidingState};

fn positions() -> Vec<Position> {
    vec![
        position("GOLD_MINI", 1, 9, dec!(140_000), dec!(139_000), 1),
        position("GOLD_MINI", 2, 4, dec!(141_100), dec!(140_100), 5),
        position("GOLD_MINI", 3, 2, dec!(141_000), dec!(140_100), 3),
    ]
}

fn portfolio() -> Portfolio {
    Portfolio {
        positions: positions(),
        cash: Rupees(dec!(5_000_000)),
        realised_closed: Rupees(dec!(25_000)),
        equity_high: Rupees(dec!(5_050_000)),
        fixed_equity: Some(Rupees(dec!(4_000_000))),
        ..Portfolio::default()
    }
}

#[test]
fn equity_on_each_basis() {
    let mut portfolio = portfolio();
    portfolio.positions[0].apply_exit_fill(Quantity(100), Price(dec!(141_000))).unwrap();
    let quotes = quote("GOLD_MINI", dec!(141_000));
    let equity = |basis| portfolio.equity(basis, dec!(0.5), &quotes).unwrap().0;
    assert_eq!(portfolio.unrealised(&quotes), Ok(Rupees(dec!(76_000))));
    assert_eq!(equity(EquityBasis::Closed), dec!(5_035_000));
    assert_eq!(equity(EquityBasis::Blended), dec!(5_073_000));
    assert_eq!(equity(EquityBasis::High), dec!(5_050_000));
    assert_eq!(equity(EquityBasis::Fixed), dec!(4_000_000));
    assert_eq!(portfolio.open_equity(&quotes), Ok(Rupees(dec!(5_111_000))));
    let by = portfolio.open_equity_by(|held| quotes.get(&held.exchange, &held.symbol));
    assert_eq!(by, Some(Rupees(dec!(5_111_000))));
    assert_eq!(portfolio.unrealised_on("COPPER", &Quotes::new()), Ok(Rupees::ZERO));
}

#[test]
fn an_unknown_price_is_not_zero_profit() {
    let missing = portfolio().open_equity(&Quotes::new()).unwrap_err();
    assert_eq!(missing.symbols, ["GOLDM05DEC25FUT"]);
    assert_eq!(portfolio().open_equity_by(|_| None), None);
    assert!(portfolio().equity(EquityBasis::High, dec!(0.5), &Quotes::new()).is_ok());
}

#[test]
fn the_high_water_mark_follows_profit_and_not_deposits() {
    let mut portfolio = portfolio();
    assert!(!portfolio.mark_high());
    portfolio.equity_high = portfolio.closed_equity();
    portfolio.move_cash(Rupees(dec!(-1_000_000)));
    assert_eq!(portfolio.closed_equity(), Rupees(dec!(4_025_000)));
    assert_eq!(portfolio.equity_high, portfolio.closed_equity());
    portfolio.realised_closed += Rupees(dec!(30_000));
    assert!(portfolio.mark_high());
    assert_eq!(portfolio.equity_high, Rupees(dec!(4_055_000)));
}

#[test]
fn a_drawdown_stays_the_share_that_it_was_whatever_is_paid_in_or_out() {
    let (cash, equity_high) = (Rupees(dec!(90)), Rupees(dec!(100)));
    let after = |amount| {
        let mut portfolio = Portfolio { cash, equity_high, ..Portfolio::default() };
        portfolio.move_cash(Rupees(amount));
        (portfolio.cash.0, portfolio.equity_high.0)
    };
    assert_eq!(after(dec!(90)), (dec!(180), dec!(200)));
    assert_eq!(after(dec!(-45)), (dec!(45), dec!(50)));
    assert_eq!(after(dec!(-90)), (dec!(0), dec!(10)), "no share of nothing");
    assert_eq!(after(dec!(-89.99)), (dec!(0.01), dec!(0.01111111)), "as it is stored");
    let mut in_debt = Portfolio { cash: Rupees(dec!(-10)), equity_high, ..Portfolio::default() };
    in_debt.move_cash(Rupees(dec!(30)));
    assert_eq!((in_debt.cash.0, in_debt.equity_high.0), (dec!(20), dec!(130)));
}

#[test]
fn closed_positions_and_pending_entries_do_not_count_in_the_aggregates() {
    let mut portfolio = portfolio();
    let open = portfolio.aggregates();
    assert_eq!(open.risk, Rupees(dec!(148_000)));
    assert_eq!(open.volatility, Rupees(dec!(15_000)));
    assert_eq!(open.margin_used, Rupees(dec!(1_575_000)));
    portfolio.pending.push(PendingEntry {
        instrument: "COPPER".to_owned(),
        label: "Long_1".to_owned(),
        risk: Rupees(dec!(1)),
        volatility: Rupees(dec!(2)),
        margin: Rupees(dec!(3)),
    });
    assert_eq!(portfolio.aggregates(), open);
    assert_eq!(portfolio.committed().margin_used, Rupees(dec!(1_575_003)));
    portfolio.positions[0].apply_exit_fill(Quantity(900), Price(dec!(140_000))).unwrap();
    assert_eq!(portfolio.aggregates().risk, Rupees(dec!(58_000)));
    assert_eq!(portfolio.held().count(), 2);
    assert!(portfolio.find("GOLD_MINI", "Long_1").is_none());
}

// R: C4
#[test]
fn mismatches_read_as_operators_grep_them() {
    let calculated = Aggregates {
        closed_equity: Rupees(dec!(5000)),
        charges: Rupees(dec!(7)),
        risk: Rupees(dec!(100_000)),
        volatility: Rupees(dec!(10)),
        margin_used: Rupees(dec!(20)),
    };
    let near = Aggregates { risk: Rupees(dec!(100_000.01)), margin_used: Rupees(dec!(19.99)), ..calculated };
    assert_eq!(calculated.mismatches(&near), vec![]);
    let off = Aggregates {
        closed_equity: Rupees(dec!(4999.989)),
        risk: Rupees(dec!(999_999.99)),
        volatility: Rupees(dec!(-0.5)),
        margin_used: Rupees(dec!(20.026)),
        charges: Rupees(dec!(7.02)),
    };
    let lines: Vec<_> = calculated.mismatches(&off).iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "Closed equity mismatch: DB=4999.99, Calculated=5000.00",
            "Risk amount mismatch: DB=999999.99, Calculated=100000.00",
            "Volatility amount mismatch: DB=-0.50, Calculated=10.00",
            "Margin used mismatch: DB=20.03, Calculated=20.00",
            "Charges mismatch: DB=7.02, Calculated=7.00",
        ]
    );
}

#[test]
fn pyramiding_state_is_derived_from_what_is_held() {
    let mut positions = positions();
    let state = PyramidingState::derive("GOLD_MINI", &positions).unwrap();
    assert_eq!(state.base_position, Some(positions[0].id));
    // The youngest by signal is Long_2 here: Long_3 came before it.
    assert_eq!((state.last_pyramid_price, state.count), (Price(dec!(141_100)), 2));
    assert_eq!(PyramidingState::derive("COPPER", &positions), None);
    for position in &mut positions[1..] {
        position.apply_exit_fill(position.quantity, Price(dec!(141_000))).unwrap();
    }
    let state = PyramidingState::derive("GOLD_MINI", &positions).unwrap();
    assert_eq!((state.last_pyramid_price, state.count), (Price(dec!(140_000)), 0));
}

#[test]
fn the_pyramids_of_every_instrument_are_what_each_alone_gives() {
    let mut positions = positions();
    positions.push(position("COPPER", 2, 1, dec!(1000), dec!(900), 7));
    positions.push(position("SILVER_MINI", 1, 1, dec!(150_000), dec!(140_000), 8));
    let last = positions.last_mut().unwrap();
    last.apply_exit_fill(last.quantity, Price(dec!(141_000))).unwrap();
    let all = PyramidingState::derive_all(&positions);
    let names: Vec<_> = all.iter().map(|state| state.instrument.as_str()).collect();
    assert_eq!(names, ["COPPER", "GOLD_MINI"], "by name, and nothing of what is closed");
    for state in &all {
        assert_eq!(PyramidingState::derive(&state.instrument, &positions).as_ref(), Some(state));
    }
    assert_eq!((all[0].base_position, all[0].count), (None, 1), "a pyramid whose base is gone");
}

// R: C8
#[test]
fn damaged_pyramiding_states_are_found() {
    let catalog = Catalog::default();
    let positions = positions();
    let good = PyramidingState::derive("GOLD_MINI", &positions).unwrap();
    let check = |stored: &[PyramidingState], positions: &[Position]| -> Vec<String> {
        pyramiding::faults(stored, positions, &catalog).into_iter().map(|fault| fault.to_string()).collect()
    };
    assert_eq!(check(std::slice::from_ref(&good), &positions), Vec::<String>::new());
    assert_eq!(check(&[], &positions), ["pyramiding GOLD_MINI.instrument: is held, but has no stored state"]);
    let orphan = PyramidingState { instrument: "COPPER".to_owned(), ..good.clone() };
    assert_eq!(
        check(&[good.clone(), orphan], &positions),
        ["pyramiding COPPER.instrument: is stored, but nothing of it is held"]
    );
    let wrong =
        PyramidingState { count: 7, base_position: None, last_pyramid_price: Price(dec!(1)), ..good.clone() };
    let faults = check(&[wrong], &positions);
    assert_eq!(faults.len(), 3, "{faults:?}");
    assert_eq!(faults[2], "pyramiding GOLD_MINI.count: DB=7, Calculated=2");
    let mut twice = positions.clone();
    twice.push(position("GOLD_MINI", 3, 1, dec!(141_000), dec!(140_000), 2));
    twice.push(position("GOLD_MINI", 4, 1, dec!(141_000), dec!(140_000), 4));
    let state = PyramidingState::derive("GOLD_MINI", &twice).unwrap();
    let faults = check(&[state.clone(), state], &twice);
    assert_eq!(faults.len(), 3, "stored twice, too many, label twice: {faults:?}");
}
