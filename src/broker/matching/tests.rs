//! Examples of each rule, and properties over random books.

use proptest::prelude::*;
use rust_decimal::Decimal;

use super::*;
use crate::broker::types::OrderStatus;
use crate::domain::order::{Product, Side};

fn spec(quantity: i64, kind: PriceType, price: i64) -> OrderSpec {
    OrderSpec {
        symbol: "GOLDM05DEC25FUT".to_owned(),
        exchange: "MCX".to_owned(),
        side: Side::Buy,
        quantity: Quantity(quantity),
        price_type: kind,
        product: Product::Nrml,
        price: Price(Decimal::from(price)),
        trigger_price: Price::ZERO,
    }
}

fn intent(spec: OrderSpec, strategy: &str) -> Unresolved {
    Unresolved { intent: IntentId::new(), spec, strategy: strategy.to_owned() }
}

fn row(order_id: &str, spec: &OrderSpec, strategy: Option<&str>) -> BrokerOrder {
    BrokerOrder {
        order_id: order_id.to_owned(),
        symbol: spec.symbol.clone(),
        exchange: spec.exchange.clone(),
        side: spec.side,
        quantity: spec.quantity,
        price_type: spec.price_type,
        product: spec.product,
        price: spec.price,
        trigger_price: spec.trigger_price,
        status: OrderStatus::Open,
        may_inherit: false,
        strategy: strategy.map(str::to_owned),
        filled_quantity: None,
        average_price: None,
        rejection_reason: None,
        timestamp: String::new(),
    }
}

fn known(ids: &[&str]) -> HashSet<String> {
    ids.iter().map(|id| (*id).to_owned()).collect()
}

fn ids(matching: &Matching) -> Vec<(IntentId, &str)> {
    matching.found.iter().map(|found| (found.intent, found.order_id.as_str())).collect()
}

#[test]
fn a_market_order_is_found_at_price_zero() {
    let sent = intent(spec(10, PriceType::Market, 78_000), "a");
    let shown = row("1", &spec(10, PriceType::Market, 0), None);
    let matching = match_orders(std::slice::from_ref(&sent), &[shown], &known(&[]));
    assert_eq!(ids(&matching), [(sent.intent, "1")]);
}

#[test]
fn a_known_order_is_never_taken() {
    let sent = intent(spec(10, PriceType::Market, 0), "a");
    let shown = row("1", &sent.spec, None);
    let matching = match_orders(std::slice::from_ref(&sent), &[shown], &known(&["1"]));
    assert_eq!(matching.absent, [sent.intent]);
    assert!(matching.found.is_empty());
}

#[test]
fn every_term_must_agree() {
    let sent = intent(spec(10, PriceType::StopLimit, 100), "a");
    let changes: [fn(&mut BrokerOrder); 8] = [
        |o| o.symbol = "X".to_owned(),
        |o| o.exchange = "NFO".to_owned(),
        |o| o.side = Side::Sell,
        |o| o.product = Product::Mis,
        |o| o.price_type = PriceType::Limit,
        |o| o.quantity = Quantity(11),
        |o| o.price = Price(Decimal::from(101)),
        |o| o.trigger_price = Price(Decimal::ONE),
    ];
    for (n, change) in changes.iter().enumerate() {
        let mut shown = row("1", &sent.spec, None);
        change(&mut shown);
        let matching = match_orders(std::slice::from_ref(&sent), &[shown], &known(&[]));
        assert_eq!(matching.absent, [sent.intent], "change {n}");
    }
}

#[test]
fn trailing_zeros_do_not_matter() {
    let mut sent = intent(spec(10, PriceType::Limit, 0), "a");
    sent.spec.price = Price("100.50".parse().unwrap());
    let mut shown = row("1", &sent.spec, None);
    shown.price = Price("100.5".parse().unwrap());
    let matching = match_orders(std::slice::from_ref(&sent), &[shown], &known(&[]));
    assert_eq!(matching.found.len(), 1);
}

#[test]
fn equal_intents_take_equal_orders_in_turn() {
    let sent = [intent(spec(10, PriceType::Market, 0), "a"), intent(spec(10, PriceType::Market, 0), "b")];
    let shown = [row("2", &sent[0].spec, None), row("1", &sent[0].spec, None)];
    let matching = match_orders(&sent, &shown, &known(&[]));
    assert_eq!(ids(&matching), [(sent[0].intent, "2"), (sent[1].intent, "1")]);
}

#[test]
fn more_orders_than_intents_are_ambiguous() {
    let sent = intent(spec(10, PriceType::Market, 0), "a");
    let shown = [row("1", &sent.spec, None), row("2", &sent.spec, None)];
    let matching = match_orders(std::slice::from_ref(&sent), &shown, &known(&[]));
    assert!(matching.found.is_empty() && matching.absent.is_empty());
    assert_eq!(matching.ambiguous[0].order_ids, ["1", "2"]);
}

#[test]
fn the_name_decides_where_the_book_carries_it() {
    let sent = [intent(spec(10, PriceType::Market, 0), "a"), intent(spec(10, PriceType::Market, 0), "b")];
    let shown = [
        row("1", &sent[0].spec, Some("b")),
        row("2", &sent[0].spec, Some("stranger")),
        row("3", &sent[0].spec, Some("a")),
    ];
    let matching = match_orders(&sent, &shown, &known(&[]));
    let mut found = ids(&matching);
    found.sort_by_key(|(_, order)| *order);
    assert_eq!(found, [(sent[1].intent, "1"), (sent[0].intent, "3")]);
}

#[test]
fn a_named_row_belongs_to_nobody_else() {
    let sent = intent(spec(10, PriceType::Market, 0), "a");
    let shown = row("1", &sent.spec, Some("stranger"));
    let matching = match_orders(std::slice::from_ref(&sent), &[shown], &known(&[]));
    assert_eq!(matching.absent, [sent.intent]);
}

#[test]
fn a_named_order_is_found_though_it_was_modified() {
    let sent = intent(spec(10, PriceType::Limit, 100), "a");
    let shown = row("1", &spec(10, PriceType::Limit, 105), Some("a"));
    let matching = match_orders(std::slice::from_ref(&sent), &[shown], &known(&[]));
    assert_eq!(ids(&matching), [(sent.intent, "1")]);
}

#[test]
fn one_name_on_two_orders_is_ambiguous() {
    let sent = intent(spec(10, PriceType::Market, 0), "a");
    let shown = [row("1", &sent.spec, Some("a")), row("2", &sent.spec, Some("a"))];
    let matching = match_orders(std::slice::from_ref(&sent), &shown, &known(&[]));
    assert_eq!(matching.ambiguous.len(), 1);
}

prop_compose! {
    fn any_spec()(quantity in 1i64..3, kind in 0usize..2, price in 1i64..3, sell in any::<bool>()) -> OrderSpec {
        let mut spec = spec(quantity, [PriceType::Market, PriceType::Limit][kind], price);
        spec.side = if sell { Side::Sell } else { Side::Buy };
        spec
    }
}

prop_compose! {
    /// Intents may share a name: a caller's mistake must not break the one-to-one rule.
    fn any_intent()(spec in any_spec(), name in 0u8..6) -> Unresolved {
        intent(spec, &name.to_string())
    }
}

prop_compose! {
    fn any_row()(id in 0u8..12, spec in any_spec(), name in proptest::option::of(0u8..6)) -> BrokerOrder {
        row(&id.to_string(), &spec, name.map(|name| name.to_string()).as_deref())
    }
}

proptest! {
    #[test]
    fn matching_is_one_to_one(
        sent in proptest::collection::vec(any_intent(), 0..6),
        shown in proptest::collection::vec(any_row(), 0..12),
        known_ids in proptest::collection::hash_set(0u8..12, 0..6),
    ) {
        let known: HashSet<String> = known_ids.iter().map(u8::to_string).collect();
        let matching = match_orders(&sent, &shown, &known);

        let mut intents: Vec<IntentId> = matching.found.iter().map(|found| found.intent).collect();
        intents.extend(&matching.absent);
        intents.extend(matching.ambiguous.iter().flat_map(|group| &group.intents));
        intents.sort();
        let mut all: Vec<IntentId> = sent.iter().map(|intent| intent.intent).collect();
        all.sort();
        prop_assert_eq!(intents, all, "every intent exactly once");

        let orders: HashSet<&str> = matching.found.iter().map(|found| found.order_id.as_str()).collect();
        prop_assert_eq!(orders.len(), matching.found.len(), "every order at most once");
        prop_assert!(orders.iter().all(|id| !known.contains(*id)), "never a known order");

        for found in &matching.found {
            let intent = sent.iter().find(|intent| intent.intent == found.intent).unwrap();
            // A book does not list an id twice; where this one does, its first row counts.
            let order = shown.iter().find(|order| order.order_id == found.order_id).unwrap();
            prop_assert_eq!(order.side, intent.spec.side);
            match &order.strategy {
                Some(name) => prop_assert_eq!(name, &intent.strategy),
                None => prop_assert_eq!(order.quantity, intent.spec.quantity),
            }
        }
    }
}
