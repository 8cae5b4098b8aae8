//! Random operations against the exchange; after each of them the books must add up.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::DateTime;
use proptest::prelude::*;
use rust_decimal::{Decimal, dec};

use super::*;
use crate::domain::money::{Price, Quantity, Rupees};
use crate::domain::order::{OrderSpec, PriceType, Product, Side};
use crate::paper::{BridgeMode, FillModel, SymbolKey, SymbolSpec};

const GOLD: (&str, &str) = ("GOLDM05DEC25FUT", "MCX");
const COPPER: (&str, &str) = ("COPPER31DEC25FUT", "MCX");

fn exchange(fill: FillModel, seed: u64) -> Exchange {
    Exchange::new(Settings {
        symbols: SymbolSpec::defaults(),
        fill,
        moving: true,
        tick_interval: Duration::from_millis(100),
        capital: Rupees(dec!(1000000000)),
        max_orders: 1000,
        seed,
        started_at: DateTime::parse_from_rfc3339("2025-11-28T10:30:00+05:30").unwrap(),
    })
}

fn order(key: (&str, &str), side: Side, lots: i64, price_type: PriceType, price: Decimal) -> OrderRequest {
    let lot = SymbolSpec::defaults().iter().find(|spec| spec.key.symbol == key.0).unwrap().lot_size;
    let is_stop = matches!(price_type, PriceType::StopLimit | PriceType::StopMarket);
    OrderRequest {
        spec: OrderSpec {
            symbol: key.0.into(),
            exchange: key.1.into(),
            side,
            quantity: Quantity(lots * lot.0),
            price_type,
            product: Product::Nrml,
            price: if price_type == PriceType::Market { Price::ZERO } else { Price(price) },
            trigger_price: if is_stop { Price(price) } else { Price::ZERO },
        },
        strategy: "test".into(),
    }
}

#[derive(Clone, Debug)]
enum Operation {
    Place { gold: bool, buy: bool, lots: i64, price_type: PriceType, offset: i64, hide_ms: u64, live: bool },
    Cancel(usize),
    Modify { order: usize, lots: i64, offset: i64 },
    SetPrice { gold: bool, offset: i64 },
    Advance(u64),
    Hold(bool),
}

fn operation() -> impl Strategy<Value = Operation> {
    let price_type = prop_oneof![
        Just(PriceType::Market),
        Just(PriceType::Limit),
        Just(PriceType::StopLimit),
        Just(PriceType::StopMarket)
    ];
    prop_oneof![
        4 => (any::<bool>(), any::<bool>(), 1..9_i64, price_type, -20..20_i64, 0..300_u64, any::<bool>()).prop_map(
            |(gold, buy, lots, price_type, offset, hide, live)| {
                // A third of the orders is hidden for a while.
                let hide_ms = hide.saturating_sub(200);
                Operation::Place { gold, buy, lots, price_type, offset, hide_ms, live }
            }
        ),
        1 => (0..40_usize).prop_map(Operation::Cancel),
        1 => (0..40_usize, 1..9_i64, -20..20_i64)
            .prop_map(|(order, lots, offset)| Operation::Modify { order, lots, offset }),
        2 => (any::<bool>(), -30..30_i64).prop_map(|(gold, offset)| Operation::SetPrice { gold, offset }),
        3 => (0..250_u64).prop_map(Operation::Advance),
        1 => any::<bool>().prop_map(Operation::Hold),
    ]
}

fn base_price(gold: bool, offset: i64) -> ((&'static str, &'static str), Decimal) {
    if gold {
        (GOLD, dec!(140000) + Decimal::from(offset))
    } else {
        (COPPER, dec!(905) + dec!(0.05) * Decimal::from(offset))
    }
}

fn run(exchange: &mut Exchange, operation: &Operation, now: &mut Duration) {
    let nth_id = |exchange: &Exchange, nth: usize| exchange.orders().get(nth).map(|order| order.id.clone());
    match *operation {
        Operation::Place { gold, buy, lots, price_type, offset, hide_ms, live } => {
            let (key, price) = base_price(gold, offset);
            let side = if buy { Side::Buy } else { Side::Sell };
            let mode = if live { BridgeMode::Live } else { BridgeMode::Analyze };
            let handling = Handling { hide: Duration::from_millis(hide_ms), ..Handling::default() };
            let _ = exchange.place(order(key, side, lots, price_type, price), mode, handling, None, *now);
        }
        Operation::Cancel(nth) => {
            if let Some(id) = nth_id(exchange, nth) {
                let _ = exchange.cancel(&id, *now);
            }
        }
        Operation::Modify { order, lots, offset } => {
            if let Some(known) = exchange.orders().get(order).cloned() {
                let gold = known.spec.symbol == GOLD.0;
                let (_, price) = base_price(gold, offset);
                let mut change = known.spec.clone();
                change.quantity = Quantity(lots * if gold { 100 } else { 2500 });
                if change.price_type != PriceType::Market {
                    change.price = Price(price);
                }
                let _ = exchange.modify(&known.id, &change, BridgeMode::Analyze, *now);
            }
        }
        Operation::SetPrice { gold, offset } => {
            let ((symbol, name), price) = base_price(gold, offset);
            assert!(exchange.set_price(&SymbolKey::new(symbol, name), Some(Price(price)), None, *now));
        }
        Operation::Advance(ms) => {
            *now += Duration::from_millis(ms);
            exchange.advance(*now);
        }
        Operation::Hold(held) => exchange.hold_fills(held, *now),
    }
}

fn check(exchange: &Exchange, now: Duration) -> Result<(), TestCaseError> {
    let mut filled: BTreeMap<usize, Quantity> = BTreeMap::new();
    let mut net: BTreeMap<SymbolKey, i64> = BTreeMap::new();
    let mut cash: BTreeMap<SymbolKey, Decimal> = BTreeMap::new();
    for trade in exchange.trades() {
        let order = exchange.order_of(trade);
        prop_assert!(trade.quantity > Quantity::ZERO, "an empty fill");
        prop_assert!(order.visible_at <= trade.at && trade.at <= now, "a fill of a hidden order");
        let so_far = filled.entry(trade.order).or_default();
        *so_far = *so_far + trade.quantity;
        let signed = if order.spec.side == Side::Buy { trade.quantity.0 } else { -trade.quantity.0 };
        *net.entry(order.key()).or_default() += signed;
        *cash.entry(order.key()).or_default() -= trade.price.0 * Decimal::from(signed);
    }
    for (index, order) in exchange.orders().iter().enumerate() {
        let fills = filled.get(&index).copied().unwrap_or_default();
        prop_assert_eq!(order.filled, fills, "filled is the sum of the fills");
        prop_assert!(order.filled <= order.spec.quantity, "filled beyond its quantity");
        prop_assert_eq!(order.status == OrderStatus::Complete, order.pending() == Quantity::ZERO);
        if order.status == OrderStatus::Rejected {
            prop_assert_eq!(order.filled, Quantity::ZERO);
        }
    }
    for holding in exchange.holdings() {
        prop_assert_eq!(holding.quantity.0, net[&holding.key], "a position is the sum of its fills");
        // Averages are rounded at 28 digits, so profit and cash flow agree to far below a paisa.
        let ltp = exchange.listing(&holding.key).unwrap().ltp;
        let profit = holding.realised_points + holding.unrealised_points(ltp);
        let worth = cash[&holding.key] + ltp.0 * holding.quantity.decimal();
        prop_assert!((profit - worth).abs() < dec!(0.000001), "profit {} but cash flow {}", profit, worth);
    }
    prop_assert_eq!(exchange.holdings().count(), net.len());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn the_books_always_add_up(
        operations in proptest::collection::vec(operation(), 1..80),
        seed in any::<u64>(),
        slices in 1..4_u32,
        latency_ms in 0..80_u64,
    ) {
        let fill = FillModel { latency_ms, slices, slice_delay_ms: 30, spread_ticks: 1 };
        let mut exchange = exchange(fill, seed);
        let mut now = Duration::ZERO;
        for operation in &operations {
            run(&mut exchange, operation, &mut now);
            check(&exchange, now)?;
            exchange.take_events();
        }
    }
}

#[test]
fn a_market_order_pays_the_ask_and_gets_the_bid() {
    let mut exchange = exchange(FillModel { spread_ticks: 2, ..FillModel::default() }, 1);
    exchange.set_moving(false);
    for (side, price) in [(Side::Buy, dec!(140002)), (Side::Sell, dec!(139998))] {
        let request = order(GOLD, side, 1, PriceType::Market, Decimal::ZERO);
        let filled =
            exchange.place(request, BridgeMode::Analyze, Handling::default(), None, Duration::ZERO).unwrap();
        assert_eq!(filled.status, OrderStatus::Complete);
        assert_eq!(filled.average_price(), Price(price));
    }
    // 4 points lost on one lot at 10 rupees a point.
    assert_eq!(exchange.funds().realised, Rupees(dec!(-40)));
    assert_eq!(exchange.funds().utilised, Rupees::ZERO);
}

#[test]
fn limits_fill_at_the_last_price_on_arrival_and_at_their_own_after_resting() {
    let mut exchange = exchange(FillModel::default(), 1);
    exchange.set_moving(false);
    let now = Duration::ZERO;
    let mut buy = |price| {
        let request = order(GOLD, Side::Buy, 1, PriceType::Limit, price);
        exchange.place(request, BridgeMode::Analyze, Handling::default(), None, now).unwrap().id.clone()
    };
    let (marketable, resting) = (buy(dec!(140010)), buy(dec!(139990)));
    assert_eq!(exchange.order(&marketable).unwrap().average_price(), Price(dec!(140000)));
    assert_eq!(exchange.order(&resting).unwrap().status, OrderStatus::Open);
    exchange.set_price(&SymbolKey::new(GOLD.0, GOLD.1), Some(Price(dec!(139980))), None, now);
    assert_eq!(exchange.order(&resting).unwrap().average_price(), Price(dec!(139990)));
}

#[test]
fn stops_wait_for_their_trigger() {
    let mut exchange = exchange(FillModel::default(), 1);
    exchange.set_moving(false);
    let now = Duration::ZERO;
    let request = order(GOLD, Side::Sell, 1, PriceType::StopMarket, dec!(139900));
    let id = exchange.place(request, BridgeMode::Analyze, Handling::default(), None, now).unwrap().id.clone();
    assert_eq!(exchange.order(&id).unwrap().status, OrderStatus::TriggerPending);
    let key = SymbolKey::new(GOLD.0, GOLD.1);
    exchange.set_price(&key, Some(Price(dec!(139901))), None, now);
    assert_eq!(exchange.order(&id).unwrap().status, OrderStatus::TriggerPending);
    exchange.set_price(&key, Some(Price(dec!(139890))), None, now);
    let stop = exchange.order(&id).unwrap();
    assert_eq!((stop.status, stop.average_price()), (OrderStatus::Complete, Price(dec!(139890))));
}

#[test]
fn partial_fills_come_in_whole_lots_and_a_cancel_keeps_them() {
    let fill = FillModel { slices: 3, slice_delay_ms: 10, ..FillModel::default() };
    let mut exchange = exchange(fill, 1);
    exchange.set_moving(false);
    let request = order(GOLD, Side::Buy, 7, PriceType::Market, Decimal::ZERO);
    let id = exchange
        .place(request, BridgeMode::Live, Handling::default(), None, Duration::ZERO)
        .unwrap()
        .id
        .clone();
    assert_eq!(exchange.order(&id).unwrap().filled, Quantity(300));
    exchange.advance(Duration::from_millis(10));
    assert_eq!(exchange.order(&id).unwrap().filled, Quantity(600));
    exchange.cancel(&id, Duration::from_millis(11)).unwrap();
    exchange.advance(Duration::from_millis(500));
    let order = exchange.order(&id).unwrap();
    assert_eq!((order.status, order.filled), (OrderStatus::Cancelled, Quantity(600)));
    assert_eq!(exchange.held_quantity(&order.key(), Product::Nrml), Quantity(600));
}

#[test]
fn the_broker_rejects_after_accepting_where_the_sandbox_refuses() {
    let mut exchange = exchange(FillModel::default(), 1);
    let mut request = order(GOLD, Side::Buy, 1, PriceType::Market, Decimal::ZERO);
    request.spec.quantity = Quantity(150);
    let place = |exchange: &mut Exchange, mode| {
        exchange.place(request.clone(), mode, Handling::default(), None, Duration::ZERO).cloned()
    };
    assert!(matches!(place(&mut exchange, BridgeMode::Analyze), Err(Refusal::LotMultiple { .. })));
    assert!(exchange.orders().is_empty());
    let rejected = place(&mut exchange, BridgeMode::Live).unwrap();
    assert_eq!(rejected.status, OrderStatus::Rejected);
    assert!(!rejected.rejection_reason.is_empty());
}

#[test]
fn an_order_beyond_the_margin_is_refused_but_an_exit_is_not() {
    let mut exchange = Exchange::new(Settings {
        symbols: SymbolSpec::defaults(),
        fill: FillModel::default(),
        moving: false,
        tick_interval: Duration::from_secs(1),
        capital: Rupees(dec!(220000)),
        max_orders: 10,
        seed: 1,
        started_at: DateTime::parse_from_rfc3339("2025-11-28T10:30:00+05:30").unwrap(),
    });
    let mut place = |side, lots| {
        let request = order(GOLD, side, lots, PriceType::Market, Decimal::ZERO);
        exchange.place(request, BridgeMode::Analyze, Handling::default(), None, Duration::ZERO).map(|_| ())
    };
    assert!(matches!(place(Side::Buy, 3), Err(Refusal::Margin { .. })));
    place(Side::Buy, 2).unwrap();
    assert!(matches!(place(Side::Buy, 1), Err(Refusal::Margin { .. })));
    place(Side::Sell, 2).unwrap();
}

#[test]
fn order_ids_are_dated_unique_and_in_no_order() {
    let mut exchange = exchange(FillModel::default(), 9);
    for _ in 0..100 {
        let request = order(GOLD, Side::Buy, 1, PriceType::Limit, dec!(1));
        exchange.place(request, BridgeMode::Analyze, Handling::default(), None, Duration::ZERO).unwrap();
    }
    let ids: Vec<_> = exchange.orders().iter().map(|order| order.id.clone()).collect();
    assert!(ids.iter().all(|id| id.len() == 14 && id.starts_with("251128")));
    assert_eq!(ids.iter().collect::<std::collections::BTreeSet<_>>().len(), 100);
    assert!(!ids.is_sorted());
}
