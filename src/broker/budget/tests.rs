use futures_util::FutureExt;
use local::Stores;

use super::*;
use crate::broker::settings::SharedBudget;

fn settings(total: u32, reserve: u32) -> Settings {
    Settings {
        orders_per_second: NonZeroU32::new(total),
        exit_reserve_per_second: reserve,
        ..Settings::new("http://127.0.0.1:1", "key")
    }
}

fn alone(total: u32, reserve: u32) -> Budget {
    Budget::new(&settings(total, reserve)).unwrap()
}

/// A leader's budget in a cluster.
fn member(stores: &Stores, total: u32, reserve: u32) -> Budget {
    let redis = ha::Redis::at(stores.redis_url());
    let shared_budget = Some(SharedBudget { redis, cluster: "test".to_owned() });
    Budget::new(&Settings { shared_budget, ..settings(total, reserve) }).unwrap()
}

async fn try_take(budget: &Budget, class: OrderClass) -> Result<(), Duration> {
    let parts = budget.0.as_ref().unwrap();
    let order = parts.log().number();
    parts.try_take(class, order).await
}

/// How many orders it lets through now.
async fn drawn(budget: &Budget, class: OrderClass) -> usize {
    let mut drawn = 0;
    while try_take(budget, class).await.is_ok() {
        drawn += 1;
        assert!(drawn < 1000, "no limit");
    }
    drawn
}

/// Waits for Redis to be asked again, with a connection.
async fn until_counted(budget: &Budget) {
    let wait = async {
        let away = || budget.0.as_ref().unwrap().cluster.as_ref().unwrap().is_away();
        while try_take(budget, OrderClass::Operator).await.is_err() || away() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // What that drew leaves the window.
        tokio::time::sleep(WINDOW).await;
    };
    tokio::time::timeout(Duration::from_secs(30), wait).await.expect("Redis counts");
}

#[tokio::test]
async fn exits_pass_while_entries_have_used_up_their_part() {
    let budget = alone(3, 1);
    assert_eq!(drawn(&budget, OrderClass::Entry).await, 2);
    let wait = try_take(&budget, OrderClass::Entry).await.unwrap_err();
    assert!(wait > Duration::ZERO && wait <= WINDOW);
    assert!(try_take(&budget, OrderClass::Protective).await.is_ok());
    assert!(try_take(&budget, OrderClass::Operator).await.is_err(), "the bridge takes no more");
}

#[tokio::test]
async fn exits_may_use_the_common_part_too() {
    let budget = alone(3, 1);
    for class in [OrderClass::Exit, OrderClass::Protective, OrderClass::Operator] {
        assert!(try_take(&budget, class).await.is_ok());
    }
    assert!(try_take(&budget, OrderClass::Entry).await.is_err());
}

#[tokio::test]
async fn no_second_holds_more_than_the_limit_wherever_it_begins() {
    let budget = alone(5, 2);
    let (begun, mut times) = (Instant::now(), Vec::new());
    for number in 0_u64..40 {
        // An uneven pace, exits and entries mixed.
        tokio::time::sleep(Duration::from_millis(number * 37 % 230)).await;
        budget.take(if number % 3 == 0 { OrderClass::Entry } else { OrderClass::Exit }).await;
        times.push(begun.elapsed());
    }
    assert!(times.windows(6).all(|six| six[5] - six[0] >= WINDOW), "{times:?}");
}

// An order that newer ones overtake starves past its deadline: it was seen to wait 4.8 s in a queue of half a second.
#[tokio::test]
async fn orders_leave_in_the_order_of_asking() {
    let budget = alone(300, 100);
    let left = std::sync::Mutex::new(Vec::new());
    let orders = (0..400).map(|number| {
        let (budget, left) = (&budget, &left);
        async move {
            budget.take(OrderClass::Entry).await;
            left.lock().unwrap().push(number);
        }
    });
    futures_util::future::join_all(orders).await;
    assert_eq!(left.into_inner().unwrap(), (0..400).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_exit_does_not_stand_in_line_behind_entries() {
    let budget = alone(3, 1);
    assert_eq!(drawn(&budget, OrderClass::Entry).await, 2);
    let mut entry = Box::pin(budget.take(OrderClass::Entry));
    assert!(futures_util::poll!(&mut entry).is_pending());
    assert!(budget.take(OrderClass::Exit).now_or_never().is_some());
}

#[tokio::test]
async fn who_gives_up_leaves_the_line() {
    let budget = alone(3, 1);
    assert_eq!(drawn(&budget, OrderClass::Entry).await, 2);
    let mut impatient = Box::pin(budget.take(OrderClass::Entry));
    assert!(futures_util::poll!(&mut impatient).is_pending());
    drop(impatient);
    budget.take(OrderClass::Entry).await;
}

/// A place that was taken ahead, once it is.
async fn taken_ahead(budget: &Budget, class: OrderClass) -> Ahead {
    let ahead = budget.ahead(class).unwrap();
    let wait = async {
        while !ahead.0.is_finished() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), wait).await.expect("there is room");
    ahead
}

#[tokio::test]
async fn a_place_that_was_taken_ahead_is_used_once_and_given_back_where_nothing_is_sent() {
    let budget = alone(3, 1);
    let [used, unused] =
        [taken_ahead(&budget, OrderClass::Entry).await, taken_ahead(&budget, OrderClass::Entry).await];
    assert_eq!(drawn(&budget, OrderClass::Entry).await, 0, "both count while they are held");
    budget.take_or_use(OrderClass::Entry, Some(used)).now_or_never().expect("it has its place");
    drop(unused);
    assert_eq!(drawn(&budget, OrderClass::Entry).await, 1);
}

#[tokio::test]
async fn a_place_that_was_taken_too_long_ago_is_taken_anew() {
    let budget = alone(3, 1);
    let old = taken_ahead(&budget, OrderClass::Entry).await;
    tokio::time::sleep(cluster::BOUND * 2).await;
    budget.take_or_use(OrderClass::Entry, Some(old)).await;
    assert_eq!(drawn(&budget, OrderClass::Entry).await, 1, "an order has one place");
}

#[tokio::test]
async fn a_place_that_is_given_back_wakes_who_waits_for_it() {
    let budget = alone(3, 1);
    let unused = taken_ahead(&budget, OrderClass::Entry).await;
    assert_eq!(drawn(&budget, OrderClass::Entry).await, 1);
    let mut waits = Box::pin(budget.take(OrderClass::Entry));
    assert!(futures_util::poll!(&mut waits).is_pending());
    drop(unused);
    tokio::time::timeout(WINDOW / 2, waits).await.expect("at once, not when the window has passed");
}

#[tokio::test]
async fn who_waits_ahead_and_is_not_sent_leaves_the_line() {
    let budget = alone(3, 1);
    assert_eq!(drawn(&budget, OrderClass::Entry).await, 2);
    let waiting = budget.ahead(OrderClass::Entry).unwrap();
    tokio::task::yield_now().await;
    drop(waiting);
    budget.take(OrderClass::Entry).await;
}

#[tokio::test]
async fn a_place_that_is_given_back_is_free_for_the_cluster_with_the_next_order() {
    let stores = Stores::temporary().await.expect("private stores start");
    let [first, second] = [member(&stores, 4, 1), member(&stores, 4, 1)];
    until_counted(&first).await;
    until_counted(&second).await;
    let unused = [taken_ahead(&first, OrderClass::Exit).await, taken_ahead(&first, OrderClass::Exit).await];
    drop(unused);
    // Tells Redis.
    first.take(OrderClass::Exit).await;
    assert_eq!(drawn(&second, OrderClass::Exit).await, 3, "four in all");
    stores.stop().await.unwrap();
}

#[tokio::test]
async fn settings_that_leave_nothing_to_somebody_are_refused() {
    assert!(Budget::new(&settings(3, 3)).is_err());
    assert!(Budget::new(&settings(3, 0)).is_err());
    assert!(Budget::new(&Settings { orders_per_second: None, ..settings(3, 0) }).is_ok());
    let redis = ha::Redis::at("nonsense");
    let shared_budget = Some(SharedBudget { redis, cluster: "test".to_owned() });
    let error = Budget::new(&Settings { shared_budget, ..settings(3, 1) }).err().unwrap();
    assert!(error.to_string().contains("redis.url"), "{error}");
}

#[test]
fn two_shares_are_within_the_whole_and_leave_room_for_both_classes() {
    for total in 2..=1000 {
        for reserve in [1, total / 3, total - 1] {
            let Ok(limits) = Limits::new(NonZeroU32::new(total).unwrap(), reserve) else { continue };
            let share = limits.share();
            assert!(share.ceiling(OrderClass::Entry) >= 1 && share.total > share.ceiling(OrderClass::Entry));
            // Below four there is no half that has room for an exit beside an entry.
            assert!(share.total * 2 <= limits.total.max(4), "{limits:?} {share:?}");
        }
    }
}

// R: K6
#[tokio::test]
async fn two_leaders_in_succession_share_one_second_and_entries_leave_the_reserve() {
    let stores = Stores::temporary().await.unwrap();
    let (first, second) = (member(&stores, 60, 20), member(&stores, 60, 20));
    until_counted(&first).await;
    until_counted(&second).await;
    // A machine that stalls for the window says nothing: then it is tried again.
    for attempt in 1.. {
        let begun = Instant::now();
        let entries = [drawn(&first, OrderClass::Entry).await, drawn(&second, OrderClass::Entry).await];
        let exits = [drawn(&second, OrderClass::Protective).await, drawn(&first, OrderClass::Exit).await];
        let wait = try_take(&second, OrderClass::Operator).await.unwrap_err();
        if begun.elapsed() < WINDOW {
            assert_eq!((entries, exits), ([40, 0], [20, 0]));
            assert!(wait <= WINDOW, "{wait:?}");
            break;
        }
        assert!(attempt < 10, "the machine stalls");
        tokio::time::sleep(WINDOW).await;
    }
}

#[tokio::test]
async fn a_redis_that_hangs_or_is_gone_delays_an_order_by_no_more_than_the_bound() {
    let stores = Stores::temporary().await.unwrap();
    let budget = member(&stores, 60, 20);
    until_counted(&budget).await;
    for how in ["hangs", "is gone"] {
        match how {
            "hangs" => stores.redis().pause(),
            _ => stores.redis().kill().await.unwrap(),
        }
        let begun = Instant::now();
        let entries = drawn(&budget, OrderClass::Entry).await;
        let exits = drawn(&budget, OrderClass::Protective).await;
        let took = begun.elapsed();
        // One waits, the others find it away: a few of the bound, and a busy machine's tenfold.
        assert!(took < BOUND_OF_ALL, "{how}: {took:?}");
        assert_eq!((entries, exits), (20, 10), "{how}: half of the budget, with half of the reserve");
        tokio::time::sleep(WINDOW).await;
        stores.redis().resume();
    }
}

/// For some thirty orders.
const BOUND_OF_ALL: Duration = Duration::from_millis(600);

#[tokio::test]
async fn what_went_without_redis_is_counted_when_it_is_back_and_a_lost_count_frees_nobody() {
    let stores = Stores::temporary().await.unwrap();
    let (first, second) = (member(&stores, 60, 20), member(&stores, 60, 20));
    until_counted(&first).await;
    until_counted(&second).await;
    for attempt in 1.. {
        let begun = Instant::now();
        stores.redis().pause();
        let alone = drawn(&first, OrderClass::Protective).await;
        stores.redis().resume();
        // The others' window holds what the first let through by itself, once it has said so.
        tokio::time::sleep(cluster::REST).await;
        let more = drawn(&first, OrderClass::Protective).await;
        let others = drawn(&second, OrderClass::Protective).await;
        if begun.elapsed() < WINDOW {
            assert_eq!((alone, more, others), (30, 30, 0));
            break;
        }
        assert!(attempt < 10, "the machine stalls");
        tokio::time::sleep(WINDOW * 2).await;
    }
    tokio::time::sleep(WINDOW).await;
    for attempt in 1.. {
        let begun = Instant::now();
        assert_eq!(drawn(&first, OrderClass::Entry).await, 40);
        let line = ha::Line::new(&ha::Redis::at(stores.redis_url()), WINDOW, WINDOW).unwrap();
        line.ask::<()>(&redis::cmd("FLUSHALL")).await.unwrap();
        let after = drawn(&first, OrderClass::Entry).await;
        if begun.elapsed() < WINDOW {
            assert_eq!(after, 0, "its own log holds");
            break;
        }
        assert!(attempt < 10, "the machine stalls");
        tokio::time::sleep(WINDOW * 2).await;
    }
}

#[tokio::test]
async fn a_key_of_another_kind_and_a_clock_set_back_stop_nothing() {
    let stores = Stores::temporary().await.unwrap();
    let budget = member(&stores, 60, 20);
    until_counted(&budget).await;
    let line = ha::Line::new(&ha::Redis::at(stores.redis_url()), WINDOW, WINDOW).unwrap();
    let key = "baton:test:orders";
    line.ask::<()>(redis::cmd("SET").arg(key).arg("x")).await.unwrap();
    assert!(try_take(&budget, OrderClass::Exit).await.is_ok());
    let mut ahead = redis::cmd("ZADD");
    ahead.arg(key);
    for number in 0..100 {
        ahead.arg("9000000000000000").arg(number);
    }
    line.ask::<()>(&ahead).await.unwrap();
    assert!(try_take(&budget, OrderClass::Exit).await.is_ok());
    let counted: usize = line.ask(redis::cmd("ZCARD").arg(key)).await.unwrap();
    assert!((1..=2).contains(&counted), "{counted}");
}

// What a place in the cluster's count costs an order: `make bench-feed`.
#[tokio::test]
#[ignore = "slow: a measurement"]
async fn bench_a_place_in_the_clusters_count() {
    const ORDERS: usize = 20_000;
    let stores = Stores::temporary().await.unwrap();
    let budget = member(&stores, 1_000_000, 1);
    until_counted(&budget).await;
    let mut took = Vec::with_capacity(ORDERS);
    for _ in 0..ORDERS {
        let begun = std::time::Instant::now();
        budget.take(OrderClass::Entry).await;
        took.push(begun.elapsed());
    }
    took.sort();
    println!(
        "budget: a place in the cluster's count p50 {:.0?} p99 {:.0?}",
        took[ORDERS / 2],
        took[ORDERS * 99 / 100]
    );
}
