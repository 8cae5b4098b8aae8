//! The client against the paper bridge, which speaks the real bridge's protocol and remembers what reached it.

use std::collections::HashSet;
use std::time::Duration;

use baton::broker::matching::{Unresolved, match_orders};
use baton::broker::plugin::PLUGINS;
use baton::broker::{BridgeMode, Broker, BrokerError, NotSentCause, OrderStatus, Submission};
use baton::domain::contract::Contract;
use baton::domain::ids::IntentId;
use baton::domain::money::{Price, Quantity};
use baton::domain::order::{PriceType, Product, Side};
use rust_decimal::dec;
use serde_json::json;

use crate::bench::{Bench, GOLD, acknowledged, assert_not_sent, gold, market, named, resting};
use crate::support::{DEADLINE, assert_in_doubt, until};

#[tokio::test]
async fn a_market_order_shows_in_the_books_of_both_modes() {
    for mode in [BridgeMode::Analyze, BridgeMode::Live] {
        let bench = Bench::start(mode).await;
        let id = acknowledged(bench.place(&market(), "intent-1").await);
        let filled = async {
            loop {
                let books = bench.broker.books().await.unwrap();
                if !books.trades.is_empty() {
                    return books;
                }
            }
        };
        let books = tokio::time::timeout(DEADLINE, filled).await.unwrap();
        let order = &books.orders[0];
        assert_eq!((&order.order_id, order.quantity, order.price), (&id, Quantity(100), Price::ZERO));
        assert_eq!(order.status, OrderStatus::Complete);
        let named = order.strategy.as_deref();
        assert_eq!(named, (mode == BridgeMode::Analyze).then_some("intent-1"), "{mode}");
        let bought: i64 = books.trades.iter().map(|t| if t.order_id == id { t.quantity.0 } else { 0 }).sum();
        assert_eq!(bought, 100);
        let positions = bench.broker.positions().await.unwrap();
        assert_eq!((positions[0].symbol.as_str(), positions[0].quantity), (GOLD, Quantity(100)));
        assert_eq!(positions[0].product, Some(Product::Nrml));
        assert!(positions[0].average_price > Price::ZERO);
    }
}

#[tokio::test]
async fn a_resting_order_is_modified_and_cancelled() {
    for mode in [BridgeMode::Analyze, BridgeMode::Live] {
        let bench = Bench::start(mode).await;
        let id = acknowledged(bench.place(&resting(), "intent-1").await);
        let changed = gold(PriceType::Limit, Price(dec!(100001)));
        assert_eq!(acknowledged(bench.broker.modify(&id, &changed, named("intent-1")).await), id);
        let orders = bench.broker.orders().await.unwrap();
        assert_eq!((&orders[0].status, orders[0].price), (&OrderStatus::Open, changed.price));
        assert_eq!(acknowledged(bench.broker.cancel(&id, named("intent-1")).await), id);
        let orders = bench.broker.orders().await.unwrap();
        assert_eq!(orders[0].status, OrderStatus::Cancelled);
        let again = bench.broker.cancel("no-such-order", named("intent-1")).await;
        assert!(!matches!(again, Submission::Acknowledged { .. } | Submission::NotSent { .. }), "{again:?}");
    }
}

#[tokio::test]
async fn a_stop_rests_until_its_trigger() {
    let bench = Bench::start(BridgeMode::Analyze).await;
    let mut stop = gold(PriceType::StopMarket, Price::ZERO);
    stop.side = Side::Sell;
    stop.trigger_price = Price(dec!(139000));
    acknowledged(bench.place(&stop, "stop-1").await);
    let orders = bench.broker.orders().await.unwrap();
    assert_eq!(
        (&orders[0].status, orders[0].trigger_price),
        (&OrderStatus::TriggerPending, stop.trigger_price)
    );
}

#[tokio::test]
async fn a_lost_acknowledgement_is_in_doubt_and_the_books_resolve_it() {
    for mode in [BridgeMode::Analyze, BridgeMode::Live] {
        for (kind, exists) in [("lost_ack_after", true), ("lost_ack_before", false)] {
            let bench = Bench::start(mode).await;
            let earlier = acknowledged(bench.place(&resting(), "intent-0").await);
            bench.fault(json!({ "kind": kind }), "placeorder").await;
            assert_in_doubt(&bench.place(&resting(), "intent-1").await);
            assert_eq!(bench.reached().await, (2, if exists { 2 } else { 1 }), "{mode} {kind}");

            let sent =
                Unresolved { intent: IntentId::new(), spec: resting(), strategy: "intent-1".to_owned() };
            let known = HashSet::from([earlier]);
            let orders = bench.broker.books().await.unwrap().orders;
            let matching = match_orders(std::slice::from_ref(&sent), &orders, &known);
            assert!(matching.ambiguous.is_empty());
            match exists {
                true => assert_eq!(matching.found[0].intent, sent.intent, "{mode}"),
                false => assert_eq!(matching.absent, [sent.intent], "{mode}"),
            }
        }
    }
}

#[tokio::test]
async fn a_timed_out_order_that_exists_is_in_doubt() {
    let bench =
        Bench::with(BridgeMode::Analyze, |settings| settings.order_timeout = Duration::from_millis(200))
            .await;
    until("order connections are warm", || bench.broker.warm_connections() > 0).await;
    bench.fault(json!({"kind": "hang_after", "ms": 60_000}), "placeorder").await;
    assert_in_doubt(&bench.place(&resting(), "intent-1").await);
    assert_eq!(bench.reached().await, (1, 1));
}

#[tokio::test]
async fn a_refusal_over_200_is_a_rejection() {
    let bench = Bench::start(BridgeMode::Live).await;
    bench.fault(json!({"kind": "null_orderid"}), "placeorder").await;
    let refused = bench.place(&market(), "intent-1").await;
    assert!(matches!(refused, Submission::Rejected { .. }), "{refused:?}");
    assert_eq!(bench.reached().await, (1, 0));
}

#[tokio::test]
async fn answers_that_prove_that_nothing_was_done() {
    let bench = Bench::start(BridgeMode::Live).await;
    let faults = [
        (json!({"kind": "rate_limited"}), NotSentCause::RateLimited),
        (json!({"kind": "semi_auto"}), NotSentCause::QueuedForHuman),
    ];
    for (fault, expected) in faults {
        bench.fault(fault, "placeorder").await;
        assert_not_sent(&bench.place(&market(), "intent-1").await, expected);
    }
    let mut odd = market();
    odd.exchange = "NOWHERE".to_owned();
    assert_not_sent(&bench.place(&odd, "intent-1").await, NotSentCause::Validation);
    assert_eq!(bench.reached().await.1, 0);
}

#[tokio::test]
async fn the_bridges_own_limit_is_not_sent() {
    let bench = Bench::start(BridgeMode::Analyze).await;
    bench.control("limits", json!({"orders_per_second": 1, "api_per_second": null})).await;
    acknowledged(bench.place(&resting(), "intent-1").await);
    assert_not_sent(&bench.place(&resting(), "intent-2").await, NotSentCause::RateLimited);
    assert_eq!(bench.reached().await.1, 1);
}

#[tokio::test]
async fn the_brokers_errors_are_in_doubt_whether_or_not_the_order_exists() {
    for placed in [true, false] {
        let bench = Bench::start(BridgeMode::Live).await;
        for status in [403, 429, 500, 504] {
            let fault = json!({"kind": "broker_error", "status": status, "placed": placed});
            bench.fault(fault, "placeorder").await;
            assert_in_doubt(&bench.place(&resting(), "intent-1").await);
        }
        bench.fault(json!({"kind": "bad_gateway", "placed": placed}), "placeorder").await;
        assert_in_doubt(&bench.place(&resting(), "intent-1").await);
        assert_eq!(bench.reached().await, (5, if placed { 5 } else { 0 }));
    }
}

#[tokio::test]
async fn an_order_id_may_be_a_number() {
    let bench = Bench::start(BridgeMode::Live).await;
    bench.fault(json!({"kind": "numeric_orderid"}), "placeorder").await;
    let id = acknowledged(bench.place(&resting(), "intent-1").await);
    assert_eq!(bench.broker.orders().await.unwrap()[0].order_id, id);
}

#[tokio::test]
async fn an_order_under_the_wrong_mode_keeps_its_id() {
    for mode in [BridgeMode::Analyze, BridgeMode::Live] {
        let bench = Bench::start(mode).await;
        bench.fault(json!({"kind": "wrong_mode"}), "placeorder").await;
        let submission = bench.place(&resting(), "intent-1").await;
        let Submission::InDoubt { wrong_mode: Some(wrong), .. } = &submission else {
            panic!("{submission:?}");
        };
        assert_ne!(wrong.found, mode);
        let id = wrong.order_id.clone().unwrap();
        assert_eq!(bench.broker.orders().await.unwrap()[0].order_id, id);
    }
}

#[tokio::test]
async fn a_dead_session_is_noticed_where_it_shows() {
    let bench = Bench::start(BridgeMode::Live).await;
    bench.control("faults", json!({"fault": {"kind": "session_expired"}})).await;
    bench.broker.ping().await.unwrap();
    assert_eq!(bench.broker.mode().await, Ok(BridgeMode::Live));
    let funds = bench.broker.funds().await;
    assert!(matches!(funds, Err(BrokerError::SessionExpired { .. })), "{funds:?}");
    let positions = bench.broker.positions().await;
    assert!(matches!(positions, Err(BrokerError::SessionExpired { .. })), "{positions:?}");
    // The broker's own 403 proves nothing.
    assert_in_doubt(&bench.place(&market(), "intent-1").await);
}

#[tokio::test]
async fn a_revoked_session_refuses_everything() {
    let bench = Bench::start(BridgeMode::Live).await;
    bench.control("faults", json!({"fault": {"kind": "session_revoked"}})).await;
    assert_not_sent(&bench.place(&market(), "intent-1").await, NotSentCause::SessionExpired);
    let books = bench.broker.books().await;
    assert!(matches!(books, Err(BrokerError::SessionExpired { .. })), "{books:?}");
    assert_eq!(bench.reached().await.1, 0);
}

#[tokio::test]
async fn what_plugins_leave_out_or_call_otherwise_is_read() {
    let bench = Bench::start(BridgeMode::Live).await;
    acknowledged(bench.place(&market(), "intent-1").await);
    let last_price = async || bench.broker.positions().await.unwrap()[0].last_price;
    let known = Some(Price(dec!(140000)));
    assert_eq!(last_price().await, known);
    for (kind, expected) in [("bare_positions", None), ("renamed_last_price", known)] {
        bench.control("faults", json!({"fault": {"kind": kind}})).await;
        assert_eq!(last_price().await, expected, "{kind}");
        bench.heal().await;
    }
    bench.control("faults", json!({"fault": {"kind": "zero_averages"}})).await;
    let trades = bench.broker.trades().await.unwrap();
    assert_eq!(trades[0].average_price, Price(dec!(140001)), "the value by the quantity");
}

#[tokio::test]
async fn a_refusal_that_the_sandbox_books_is_told_with_its_row_and_a_live_one_is_in_the_book() {
    for mode in [BridgeMode::Analyze, BridgeMode::Live] {
        let bench = Bench::start(mode).await;
        bench.fault(json!({"kind": "risk_refusal"}), "placeorder").await;
        let order_id = match (mode, bench.place(&market(), "intent-1").await) {
            (BridgeMode::Analyze, Submission::Rejected { order_id: Some(order_id), .. }) => order_id,
            (BridgeMode::Live, Submission::Acknowledged { order_id }) => order_id,
            (_, other) => panic!("{mode}: {other:?}"),
        };
        let orders = bench.broker.orders().await.unwrap();
        assert_eq!((&orders[0].order_id, &orders[0].status), (&order_id, &OrderStatus::Rejected));
    }
}

// A broker that takes its reference from the beginning of `strategy` would refuse every order of a strategy but the first.
#[tokio::test]
async fn live_orders_of_one_strategy_begin_with_what_is_their_own_where_the_plugin_needs_it() {
    let tags =
        ["default:0198c5de-7a01-7b3c-8f21-0123456789ab", "default:0198c5de-7a01-7b3c-8f21-0123456789ac"];
    for (mode, plugin, alike) in [
        (BridgeMode::Live, "groww", false),
        (BridgeMode::Live, "any", true),
        (BridgeMode::Analyze, "groww", true),
    ] {
        let plugin = *PLUGINS.iter().find(|known| known.name == plugin).unwrap();
        let bench = Bench::with(mode, |settings| settings.plugin = plugin).await;
        for tag in tags {
            acknowledged(bench.place(&market(), tag).await);
        }
        let arrivals = bench.state("arrivals").await["arrivals"].take();
        let sent = [0, 1].map(|place| arrivals[place]["body"]["strategy"].as_str().unwrap().to_owned());
        assert_eq!(sent[0][..8] == sent[1][..8], alike, "{mode} {}: {sent:?}", plugin.name);
        if mode == BridgeMode::Analyze {
            // The sandbox gives it back, and lost orders are found by it.
            assert_eq!(sent, tags);
        }
    }
}

#[tokio::test]
async fn data_routes_are_read() {
    for mode in [BridgeMode::Analyze, BridgeMode::Live] {
        let bench = Bench::start(mode).await;
        assert_eq!(bench.broker.mode().await, Ok(mode));
        let quote = bench.broker.quote(GOLD, "MCX").await.unwrap();
        assert_eq!(
            (quote.bid, quote.ltp, quote.ask),
            (Price(dec!(139999)), Price(dec!(140000)), Price(dec!(140001)))
        );
        let contract = bench.broker.symbol(GOLD, "MCX").await.unwrap();
        let expected = Contract {
            lot_size: Quantity(100),
            tick: Price(dec!(1)),
            freeze_qty: Some(Quantity(10_000)),
            expiry: chrono::NaiveDate::from_ymd_opt(2025, 12, 5),
        };
        assert_eq!(contract, expected);
        assert_eq!(bench.broker.funds().await.unwrap().available_cash.0, dec!(10000000));
        bench.broker.symbol("NOSUCH", "MCX").await.unwrap_err();
    }
}

/// The bridge closes idle connections all the time here. On a busy machine an order may meet the very moment and
/// end in doubt; but none is lost in silence and none is doubled.
#[tokio::test]
async fn orders_pass_though_the_bridge_closes_idle_connections() {
    const ORDERS: usize = 12;
    let bench = Bench::start_with(BridgeMode::Analyze, |options| {
        options.keep_alive_idle = Duration::from_millis(100);
        options.limits.orders_per_second = None;
    })
    .await;
    // The pace of the load: longer than the idle time, so every order follows a close.
    let mut pace = tokio::time::interval(Duration::from_millis(150));
    let mut acknowledged = 0;
    let mut in_doubt = 0;
    for n in 0..ORDERS {
        pace.tick().await;
        match bench.place(&resting(), &format!("intent-{n}")).await {
            Submission::Acknowledged { .. } => acknowledged += 1,
            Submission::InDoubt { .. } => in_doubt += 1,
            Submission::NotSent { cause: NotSentCause::ConnectionLost, .. } => {}
            other => panic!("{other:?}"),
        }
    }
    let (arrivals, orders) = bench.reached().await;
    assert_eq!(arrivals, orders);
    assert!((acknowledged..=acknowledged + in_doubt).contains(&orders), "{acknowledged} {in_doubt} {orders}");
    assert!(acknowledged * 2 >= ORDERS, "only {acknowledged} of {ORDERS} went through");
}
