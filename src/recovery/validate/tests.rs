//! Each check on state that fails it and nothing else.

use rust_decimal::{Decimal, dec};
use uuid::Uuid;

use super::earned::{Verdict, verdict};
use super::{WORTH_A_THREAD, findings};
use crate::domain::fixtures;
use crate::domain::ids::{IntentId, PositionId};
use crate::domain::instrument::Catalog;
use crate::domain::money::{Price, Quantity, Rupees};
use crate::domain::order::{OrderClass, Product};
use crate::domain::position::Position;
use crate::domain::pyramiding::PyramidingState;
use crate::ledger::change::PortfolioRow;
use crate::ledger::recorded::{Charged, Figures, Standing, Wanted};
use crate::ledger::snapshot::{
    ChargedFill, ChargedPosition, ChargedRows, Orphan, PositionFills, Snapshot, Strayed,
};
use crate::ledger::switches::Switches;
use crate::ledger::wishes::Wish;
use crate::recovery::report::{Finding, Severity};
use crate::recovery::{Recovered, RecoveryError};

const CAPITAL: Rupees = Rupees(dec!(5_000_000));

/// A base and a pyramid on gold, and everything that belongs to them.
fn sound() -> Snapshot {
    let base = fixtures::position("GOLD_MINI", 1, 3, dec!(78000), dec!(77000), 1);
    let pyramid = fixtures::position("GOLD_MINI", 2, 1, dec!(79000), dec!(78500), 2);
    snapshot(vec![base, pyramid])
}

fn snapshot(positions: Vec<Position>) -> Snapshot {
    let mut snapshot = Snapshot {
        position_fills: positions.iter().map(|p| (p.id, fills(p))).collect(),
        pyramids: PyramidingState::derive_all(&positions),
        realised: positions.iter().map(|p| p.realised).sum(),
        charges: positions.iter().map(|p| p.charges).sum(),
        positions,
        intents: Vec::new(),
        filled: Default::default(),
        portfolio: None,
        moved: Some(CAPITAL),
        movements: None,
        days: Default::default(),
        charged: None,
        off_orders: Vec::new(),
        lifted: Vec::new(),
        switches: Switches::default(),
        claimed_orders: Vec::new(),
        foreign_orders: Default::default(),
        strayed: Vec::new(),
        orphans: Vec::new(),
        wishes: Vec::new(),
        audit: Vec::new(),
        recorded: Default::default(),
    };
    let sums = Recovered::aggregates(&snapshot, CAPITAL);
    snapshot.portfolio = Some(PortfolioRow {
        capital: CAPITAL,
        closed_equity: sums.closed_equity,
        equity_high: sums.closed_equity,
        risk: sums.risk,
        volatility: sums.volatility,
        margin_used: sums.margin_used,
        charges: sums.charges,
    });
    snapshot
}

fn fills(position: &Position) -> PositionFills {
    PositionFills {
        entered: true,
        bought: position.entry_quantity,
        bought_value: position.entry_price.0 * position.entry_quantity.decimal(),
        sold: position.entry_quantity - position.quantity,
        sold_value: position.entry_price.0 * (position.entry_quantity - position.quantity).decimal(),
        charges: position.charges,
    }
}

fn found(snapshot: &Snapshot) -> Vec<Finding> {
    findings(snapshot, CAPITAL, &Catalog::default())
}

fn fields(snapshot: &Snapshot) -> Vec<String> {
    found(snapshot).into_iter().map(|f| format!("{}.{}", f.table, f.field)).collect()
}

#[test]
fn sound_state_has_no_findings() {
    assert_eq!(found(&sound()), Vec::new());
    assert_eq!(found(&snapshot(Vec::new())), Vec::new());
}

// R: C4
#[test]
fn a_tampered_risk_is_told_in_the_words_that_operators_grep_for() {
    let position = fixtures::position("GOLD_MINI", 1, 1, dec!(78000), dec!(68000), 1);
    assert_eq!(position.risk(), Rupees(dec!(100000)));
    let mut tampered = snapshot(vec![position]);
    tampered.portfolio.as_mut().unwrap().risk = Rupees(dec!(999999.99));
    let findings = found(&tampered);
    assert_eq!(findings.len(), 1);
    assert_eq!(findings[0].to_string(), "Risk amount mismatch: DB=999999.99, Calculated=100000.00");
    assert_eq!((&*findings[0].stored, &*findings[0].calculated), ("999999.99", "100000.00"));
    assert_eq!(
        (findings[0].table, &*findings[0].row, &*findings[0].field),
        ("portfolio_state", "1", "risk_amount")
    );
    assert_eq!(findings[0].severity, Severity::Critical);
}

#[test]
fn every_aggregate_is_compared_to_the_paisa() {
    let tampered = |change: fn(&mut PortfolioRow)| {
        let mut snapshot = sound();
        change(snapshot.portfolio.as_mut().unwrap());
        fields(&snapshot)
    };
    assert_eq!(tampered(|row| row.closed_equity.0 -= dec!(0.02)), ["portfolio_state.closed_equity"]);
    assert_eq!(tampered(|row| row.volatility.0 += dec!(0.02)), ["portfolio_state.volatility_amount"]);
    assert_eq!(tampered(|row| row.margin_used.0 += dec!(0.02)), ["portfolio_state.margin_used"]);
    assert_eq!(tampered(|row| row.margin_used.0 += dec!(0.01)), Vec::<String>::new());
    assert_eq!(tampered(|row| row.equity_high.0 -= dec!(1)), ["portfolio_state.equity_high"]);
    let mut without = sound();
    without.portfolio = None;
    assert_eq!(fields(&without), ["portfolio_state.row"]);
}

#[test]
fn the_capital_is_what_was_paid_in_and_taken_out() {
    let mut held = sound();
    held.moved = Some(CAPITAL - Rupees(dec!(0.00000001)));
    assert_eq!(fields(&held), ["cash_movement.amount"]);
    held.moved = None;
    assert_eq!(fields(&held), ["cash_movement.row"]);
    let mut flat = snapshot(Vec::new());
    flat.portfolio = None;
    assert_eq!(fields(&flat), ["portfolio_state.row"], "an account that was opened has a portfolio");
    flat.moved = None;
    assert_eq!(fields(&flat), Vec::<String>::new(), "a new one has neither");
}

#[test]
fn all_mismatches_are_listed_and_not_only_the_first() {
    let mut snapshot = sound();
    snapshot.portfolio.as_mut().unwrap().risk = Rupees::ZERO;
    snapshot.portfolio.as_mut().unwrap().margin_used = Rupees::ZERO;
    snapshot.pyramids[0].count = 4;
    snapshot.positions[0].current_stop = Price(dec!(90000));
    let fields = fields(&snapshot);
    // The stop is impossible, so no sum over the rows is made.
    assert_eq!(fields, ["position.current_stop", "pyramiding_state.count"]);
    snapshot.positions[0].current_stop = Price(dec!(77000));
    let fields = self::fields(&snapshot);
    assert_eq!(
        fields,
        ["portfolio_state.risk_amount", "portfolio_state.margin_used", "pyramiding_state.count"]
    );
}

#[test]
fn a_position_is_what_its_fills_made() {
    let id = |snapshot: &Snapshot| snapshot.positions[0].id;
    let with = |change: fn(&mut PositionFills)| {
        let mut snapshot = sound();
        change(snapshot.position_fills.get_mut(&id(&snapshot)).unwrap());
        fields(&snapshot)
    };
    assert_eq!(with(|fills| fills.sold = Quantity(10)), ["position.quantity"]);
    assert_eq!(with(|fills| fills.bought_value += dec!(3000)), ["position.entry_price"]);
    let both = ["position.entry_quantity", "position.quantity", "position.entry_price"];
    assert_eq!(with(|fills| fills.bought = Quantity(10)), both);
}

#[test]
fn a_closed_position_opened_again_contradicts_its_fills() {
    let mut snapshot = sound();
    let id = snapshot.positions[1].id;
    let sold = snapshot.positions[1].entry_quantity;
    snapshot.position_fills.get_mut(&id).unwrap().sold = sold;
    assert_eq!(fields(&snapshot), ["position.quantity"]);
    assert!(found(&snapshot)[0].sentence.contains("Calculated=0"), "{:?}", found(&snapshot));
}

#[test]
fn a_late_fill_is_a_position_without_an_entry_of_its_own() {
    let mut snapshot = sound();
    let id = snapshot.positions[1].id;
    snapshot.position_fills.remove(&id);
    assert_eq!(found(&snapshot), Vec::new());
}

#[test]
fn what_strayed_and_what_is_orphaned_is_told() {
    let mut snapshot = sound();
    let position = snapshot.positions[0].id;
    snapshot.strayed.push(Strayed {
        position,
        column: "symbol".to_owned(),
        stored: "GOLDM05JAN26FUT".to_owned(),
        planned: "GOLDM05DEC25FUT".to_owned(),
    });
    snapshot.orphans.push(Orphan {
        intent: IntentId(Uuid::from_u128(7)),
        position: PositionId(Uuid::from_u128(8)),
        filled: Quantity(10),
        symbol: "GOLDM05DEC25FUT".to_owned(),
        exchange: "MCX".to_owned(),
        product: Product::Nrml,
        instrument: "GOLD_MINI".to_owned(),
        class: OrderClass::Entry,
        rests: false,
        cause: None,
        signal: None,
        plan: None,
        fills: Vec::new(),
    });
    assert_eq!(fields(&snapshot), ["position.symbol", "position.row"]);
}

#[test]
fn impossible_rows_are_named_by_column() {
    let with = |change: fn(&mut Position)| {
        let mut snapshot = sound();
        change(&mut snapshot.positions[0]);
        let found = found(&snapshot);
        assert!(!found.is_empty());
        found[0].field.clone()
    };
    assert_eq!(with(|p| p.instrument = "NO_SUCH".to_owned()), "instrument");
    assert_eq!(with(|p| p.label = "Short_1".to_owned()), "label");
    assert_eq!(with(|p| p.quantity = Quantity(-10)), "quantity");
    assert_eq!(with(|p| p.entry_price = Price(dec!(-1))), "entry_price");
    assert_eq!(with(|p| p.current_stop = Price(dec!(1))), "current_stop");
    assert_eq!(with(|p| p.current_stop = Price(dec!(78001))), "current_stop");
    assert_eq!(with(|p| p.version = -1), "version");
    assert_eq!(with(|p| p.lot_size = Quantity::ZERO), "lot_size");
}

#[test]
fn a_part_of_a_lot_is_a_warning_and_stops_nothing() {
    let mut position = fixtures::position("GOLD_MINI", 1, 1, dec!(78000), dec!(77000), 1);
    position.quantity = Quantity(position.quantity.0 - 1);
    position.entry_quantity = position.quantity;
    let snapshot = snapshot(vec![position]);
    let findings = found(&snapshot);
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(findings[0].severity, Severity::Warning);
    assert!(Recovered::prove(snapshot.clone(), CAPITAL, &Catalog::default()).is_ok());
    // And hides nothing.
    let mut tampered = snapshot.clone();
    tampered.portfolio.as_mut().unwrap().risk = Rupees(dec!(999_999.99));
    assert!(Recovered::prove(tampered, CAPITAL, &Catalog::default()).is_err());
    let lost = Snapshot { portfolio: None, ..snapshot };
    assert!(Recovered::prove(lost, CAPITAL, &Catalog::default()).is_err());
}

#[test]
fn what_is_proven_by_two_threads_is_told_in_the_same_order() {
    let many = |count: i64| {
        let position = |seq| fixtures::position("GOLD_MINI", 1, 1, dec!(78000), dec!(77000), seq);
        let mut snapshot = snapshot((1..=count).map(position).collect());
        snapshot.positions[0].version = -1;
        let last = snapshot.positions.last().unwrap().id;
        snapshot.position_fills.get_mut(&last).unwrap().sold = Quantity(10);
        snapshot.pyramids[0].count = 4;
        snapshot.audit.push("row 7 was changed".to_owned());
        let mut fields = fields(&snapshot);
        fields.dedup();
        fields
    };
    let told = [
        "position.version",
        "position.quantity",
        "pyramiding_state.count",
        "position.label",
        "audit_log.hash",
    ];
    assert_eq!(many(2), told);
    assert_eq!(many(i64::try_from(WORTH_A_THREAD).unwrap()), told);
}

#[test]
fn a_label_held_twice_is_found() {
    let twice = vec![
        fixtures::position("GOLD_MINI", 1, 1, dec!(78000), dec!(77000), 1),
        fixtures::position("GOLD_MINI", 1, 1, dec!(78000), dec!(77000), 2),
    ];
    assert!(fields(&snapshot(twice)).contains(&"position.label".to_owned()));
}

#[test]
fn what_cannot_be_proven_carries_every_finding_in_its_error() {
    let mut snapshot = sound();
    snapshot.pyramids.clear();
    snapshot.portfolio.as_mut().unwrap().risk = Rupees::ZERO;
    let error = Recovered::prove(snapshot, CAPITAL, &Catalog::default()).unwrap_err();
    assert!(matches!(&error, RecoveryError::ValidationFailed(findings) if findings.len() == 2), "{error}");
    assert_eq!((error.code(), error.findings().len()), ("VALIDATION_FAILED", 2));
}

fn sell(position: &mut Position, sums: &mut PositionFills, price: Decimal) {
    let lot = position.lot_size;
    position.apply_exit_fill(lot, Price(price)).unwrap();
    sums.sold = sums.sold + lot;
    sums.sold_value += price * lot.decimal();
}

#[test]
fn price_and_profit_tell_of_each_other_and_the_fills_of_both() {
    let mut position = fixtures::position("GOLD_MINI", 1, 3, dec!(78000), dec!(77000), 1);
    let mut sums = fills(&position);
    sell(&mut position, &mut sums, dec!(79000));
    let judged = |position: &Position, sums: &PositionFills, change: fn(&mut Position)| {
        let mut position = position.clone();
        change(&mut position);
        verdict(&position, sums)
    };
    let realised = position.realised;
    assert_ne!(realised, Rupees::ZERO);
    assert_eq!(judged(&position, &sums, |_| ()), Verdict::Fit);
    assert_eq!(judged(&position, &sums, |p| p.realised.0 += dec!(1)), Verdict::Realised(realised));
    let price = position.entry_price;
    assert_eq!(judged(&position, &sums, |p| p.entry_price.0 += dec!(1)), Verdict::EntryPrice(price));
    let both = |p: &mut Position| (p.entry_price.0 += dec!(1), p.realised.0 += dec!(1)).0;
    assert!(matches!(judged(&position, &sums, both), Verdict::Either(_)));

    // With a buy between the sales the average is not that of all that was bought.
    let lot = position.lot_size;
    position.apply_entry_fill(lot, Price(dec!(80000))).unwrap();
    sums.bought = sums.bought + lot;
    sums.bought_value += dec!(80000) * lot.decimal();
    sell(&mut position, &mut sums, dec!(78500));
    assert_eq!(judged(&position, &sums, |_| ()), Verdict::Fit);
    assert!(matches!(judged(&position, &sums, |p| p.realised.0 += dec!(1)), Verdict::Either(_)));
    let mut snapshot = snapshot(vec![position.clone()]);
    snapshot.position_fills.insert(position.id, sums);
    assert_eq!(found(&snapshot), Vec::new());
    snapshot.positions[0].realised.0 += dec!(1);
    assert!(fields(&snapshot).contains(&"position.realised".to_owned()));
}

#[test]
fn charges_are_those_of_the_fills_and_what_the_audit_log_tells() {
    let mut snapshot = sound();
    let base = snapshot.positions[0].id;
    snapshot.positions[0].charges = Rupees(dec!(87.94));
    assert_eq!(fields(&snapshot), ["position.charges"], "its fills were charged nothing");
    snapshot.position_fills.get_mut(&base).unwrap().charges = Rupees(dec!(87.94));
    assert_eq!(found(&snapshot), Vec::new());
    // A late fill is booked on a position that its order does not name: of that one only the exits' are known.
    snapshot.positions[0].charges = Rupees(dec!(100));
    snapshot.position_fills.get_mut(&base).unwrap().entered = false;
    assert_eq!(found(&snapshot), Vec::new());
    snapshot.positions[0].charges = Rupees(dec!(87.93));
    assert_eq!(fields(&snapshot), ["position.charges"], "less than its exits were");
    let base = &mut snapshot.positions[0];
    base.charges = Rupees(dec!(100));
    let (quantity, stop, charges) = (base.quantity, base.current_stop, Some(Rupees(dec!(99))));
    snapshot.recorded.positions.insert(base.id, Standing { quantity, stop, highest_close: None, charges });
    assert_eq!(fields(&snapshot), ["position.charges"], "the log tells another sum");
}

// R: C4: of what is over no sum tells, and a version that knew of no charges told none.
#[test]
fn each_fills_charges_and_each_closed_positions_are_held_against_the_audit_log() {
    let [order, older] = [1, 2].map(|id| IntentId(Uuid::from_u128(id)));
    let position = PositionId(Uuid::from_u128(3));
    let fill = |intent, charges| ChargedFill { intent, position, cumulative: Quantity(30), charges };
    let charges = Rupees(dec!(87.94));
    let mut snapshot = sound();
    snapshot.charged = Some(ChargedRows {
        fills: vec![fill(order, Some(charges)), fill(older, None)],
        closed: vec![ChargedPosition { id: position, charges }],
    });
    assert_eq!(
        found(&snapshot),
        Vec::new(),
        "of a log that was not walked from its first row nothing is known"
    );
    let fills = [((order, Quantity(30)), charges)].into();
    snapshot.recorded.charged = Some(Charged { fills, positions: [(position, charges)].into() });
    assert_eq!(found(&snapshot), Vec::new());
    let rows = snapshot.charged.as_mut().unwrap();
    rows.fills[0].charges = None;
    rows.fills[1].charges = Some(Rupees::ZERO);
    rows.closed[0].charges = Rupees::ZERO;
    assert_eq!(fields(&snapshot), ["fill.charges", "fill.charges", "position.charges"]);
}

#[test]
fn what_only_the_audit_log_knows_is_held_against_it_and_what_it_does_not_know_is_not() {
    let mut snapshot = sound();
    let base = snapshot.positions[0].clone();
    let at =
        Standing { quantity: base.quantity, stop: base.current_stop, highest_close: None, charges: None };
    snapshot.recorded.positions.insert(base.id, at);
    snapshot.wishes.push(Wish { position: base.id, by: "asha".to_owned(), why: "news".to_owned() });
    assert_eq!(found(&snapshot), Vec::new(), "of wishes nothing is known");

    snapshot.recorded.complete = true;
    assert_eq!(fields(&snapshot), ["position.close_at"], "nobody asked for it");
    let wanted = Wanted { by: "asha".to_owned(), why: "news".to_owned() };
    snapshot.recorded.wishes.insert(base.id, wanted);
    assert_eq!(found(&snapshot), Vec::new());
    snapshot.wishes.clear();
    assert_eq!(fields(&snapshot), ["position.close_at"], "it is gone");
    snapshot.recorded.wishes.clear();

    let recorded = snapshot.recorded.positions.get_mut(&base.id).unwrap();
    recorded.highest_close = Some(Price(dec!(77999)));
    recorded.stop = Price(dec!(76999));
    assert_eq!(fields(&snapshot), ["position.current_stop", "position.highest_close"]);
    snapshot.recorded.positions.clear();
    let stored = snapshot.portfolio.unwrap();
    let recorded = Figures { capital: stored.capital, equity_high: stored.equity_high };
    snapshot.recorded.figures = Some(recorded);
    assert_eq!(found(&snapshot), Vec::new());
    snapshot.portfolio.as_mut().unwrap().equity_high.0 += dec!(5);
    assert_eq!(fields(&snapshot), ["portfolio_state.equity_high"]);
}
