//! An order has filled half when everything is told to go: what is held is sold, once, and the rest when it is there.
//!
//! One cluster for each table: what fills in part is the sale, or the entry.

use chrono::{NaiveTime, TimeDelta};
use rust_decimal::dec;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio_util::task::AbortOnDropHandle;

use crate::signals::{GOLD, base};
use crate::stops::{flat, price};
use crate::support::cluster::{Cluster, Options, PATIENCE, independent};
use crate::support::paper::PaperOrder;
use crate::support::wait;

/// What tells it to go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    Close,
    Flatten,
    /// SIGTERM to the only instance.
    Stop,
    SquareOff,
}

/// The square-off comes last: after it the day is over.
const WAYS: [Way; 4] = [Way::Close, Way::Flatten, Way::Stop, Way::SquareOff];

type Answer = AbortOnDropHandle<Option<(u16, Value)>>;

async fn start() -> Cluster {
    let mut env = independent();
    env.extend(
        [
            ("BATON_INSTRUMENTS__GOLD_MINI__PRODUCT", "MIS"),
            ("BATON_TRADING__SQUARE_OFF__COMMODITY__ENTRIES_MIN", "4"),
            ("BATON_TRADING__SQUARE_OFF__COMMODITY__EXIT_MIN", "3"),
            ("BATON_TRADING__SQUARE_OFF__COMMODITY__BROKER_MIN", "0"),
            // A half that is held back here is not taken for an order that rests.
            ("BATON_TRADING__ORDERS__EXIT_PATIENCE_MS", "600000"),
            ("BATON_TRADING__ORDERS__ENTRY_PATIENCE_MS", "600000"),
            ("BATON_SHUTDOWN__CLOSE_MS", "6000"),
        ]
        .map(|(key, value)| (key, value.to_owned())),
    );
    let cluster = Cluster::with(Options { members: 1, env, witnessed: true, ..Options::default() }).await;
    price(&cluster, dec!(140000)).await;
    cluster
}

/// Orders fill in so many parts, two seconds apart; none does while they are held.
async fn fills(cluster: &Cluster, hold: bool, slices: u32) {
    let model = json!({ "latency_ms": 0, "slices": slices, "slice_delay_ms": 2000, "spread_ticks": 0 });
    cluster.paper.post("fills", json!({ "hold": hold, "model": model })).await;
}

/// Orders of a side at the bridge, in the order of their arrival.
async fn orders(cluster: &Cluster, side: &str) -> Vec<PaperOrder> {
    cluster.paper.orders().await.into_iter().filter(|order| order.side == side).collect()
}

/// Waits until the next order of a side has filled in part, and holds the rest back; gives that part.
async fn half(cluster: &Cluster, side: &str, before: usize) -> i64 {
    let part = wait::until(&format!("a part of a {side} is filled"), PATIENCE, async || {
        let orders = orders(cluster, side).await;
        match orders.get(before) {
            Some(order) if order.filled_quantity > 0 => Ok(order.filled_quantity),
            _ => Err((orders, cluster.logs())),
        }
    })
    .await;
    fills(cluster, true, 2).await;
    let order = orders(cluster, side).await.remove(before);
    assert!(order.filled_quantity == part && part < order.quantity, "it was held too late: {order:?}");
    part
}

/// Waits until the ledger holds so many units.
async fn holds(cluster: &Cluster, units: i64) {
    let sql = "SELECT coalesce(sum(quantity), 0)::bigint FROM position WHERE status <> 'closed'";
    wait::until(&format!("{units} units are held"), PATIENCE, async || match cluster.count(sql).await {
        held if held == units => Ok(()),
        held => Err((held, cluster.logs())),
    })
    .await;
}

/// Asks for it to be closed, in a task of its own: the answer waits for the fills.
fn ask(cluster: &Cluster, path: &str) -> Answer {
    let body = json!({ "instrument": GOLD, "reason": "test" });
    let request = cluster.client.post(format!("{}{path}", cluster.members[0].address)).json(&body);
    AbortOnDropHandle::new(tokio::spawn(async move {
        let answer = request.send().await.ok()?;
        Some((answer.status().as_u16(), answer.json().await.ok()?))
    }))
}

impl Way {
    /// Begins it; the answer of those that have one.
    async fn begin(self, cluster: &mut Cluster) -> Option<Answer> {
        match self {
            Self::Close => Some(ask(cluster, "/api/v1/positions/close")),
            Self::Flatten => Some(ask(cluster, "/api/v1/positions/flatten")),
            Self::Stop => {
                cluster.members[0].process.signal(Signal::TERM);
                None
            }
            Self::SquareOff => {
                // The time has come while nobody led.
                cluster.members[0].process.kill().await;
                let closes = wait::time_in_india().await + TimeDelta::seconds(150);
                let hours = json!({ "hours": { "opens": NaiveTime::MIN, "closes": closes } });
                cluster.paper.post("calendar", hours).await;
                cluster.members[0].restart().await;
                None
            }
        }
    }

    /// Waits until it has come to its end.
    async fn end(self, cluster: &mut Cluster, answer: Option<Answer>) {
        if let Some(answer) = answer {
            let (status, said) = answer.await.unwrap().expect("an operator is answered");
            assert!([200, 202].contains(&status), "{self:?}: {said}");
        }
        if self == Self::Stop {
            let status = cluster.members[0].process.exit(PATIENCE).await;
            let log = cluster.members[0].log();
            assert!(status.success() && log.contains("flat by the broker's books"), "{status}\n{log}");
            cluster.members[0].restart().await;
        }
        flat(cluster).await;
        cluster.leader().await;
        cluster.check().await;
    }
}

/// Everything that was bought was sold, every sale filled, and none was for more than was held (the checker looks at each fill).
async fn sold_once(cluster: &Cluster, way: Way, sales_before: usize) -> Vec<PaperOrder> {
    let sales = orders(cluster, "SELL").await;
    let sum = |orders: &[PaperOrder]| orders.iter().map(|order| order.filled_quantity).sum::<i64>();
    let bought = sum(&orders(cluster, "BUY").await);
    assert_eq!(sum(&sales), bought, "{way:?}: {sales:#?}");
    assert!(sales.iter().all(|sale| sale.filled_quantity == sale.quantity), "{way:?}: {sales:#?}");
    let booked = "SELECT count(*) FROM order_intent WHERE side = 'SELL'";
    assert_eq!(cluster.count(booked).await, i64::try_from(sales.len()).unwrap(), "{way:?}");
    sales[sales_before..].to_vec()
}

// R: S15, N12, D4, LESSONS "partial fills ignored"
#[ignore = "slow: every way out in turn"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sale_that_has_filled_half_sells_the_rest_and_no_second_one_is_sent() {
    let mut cluster = start().await;
    for (round, way) in WAYS.into_iter().enumerate() {
        fills(&cluster, false, 1).await;
        let entered = cluster.play(0, &base(&format!("{way:?}"), GOLD, 140_000)).await;
        assert_eq!(entered["status"], "executed", "{way:?}: {entered}");
        let held = orders(&cluster, "BUY").await[round].quantity;
        holds(&cluster, held).await;
        fills(&cluster, false, 2).await;
        let answer = way.begin(&mut cluster).await;
        let part = half(&cluster, "SELL", round).await;
        holds(&cluster, held - part).await;
        if way != Way::Stop {
            // Whoever asks again meanwhile hears of the one that is out.
            let again = ask(&cluster, "/api/v1/positions/flatten").await.unwrap();
            let (status, said) = again.expect("an operator is answered");
            assert_eq!(
                (status, &said["positions"][0]["was_under_way"]),
                (202, &json!(true)),
                "{way:?}: {said}"
            );
        }
        assert_eq!(orders(&cluster, "SELL").await.len(), round + 1, "{way:?}");
        fills(&cluster, false, 2).await;
        way.end(&mut cluster, answer).await;
        let sales = sold_once(&cluster, way, round).await;
        let [sale] = &sales[..] else { panic!("{way:?}: {sales:#?}") };
        assert_eq!((sale.quantity, sale.fills.len()), (held, 2), "{way:?}: {sale:?}");
    }
    let check = cluster.finish().await;
    assert_eq!((check.orders, check.open_positions), (2 * WAYS.len(), 0));
}

// R: S15, N12, D4: what the entry fills after that is sold, too; of a stop it is cancelled.
#[ignore = "slow: every way out in turn"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_an_entry_that_has_filled_half_that_half_is_sold_and_the_rest_when_it_fills() {
    let mut cluster = start().await;
    for (round, way) in WAYS.into_iter().enumerate() {
        let sales = orders(&cluster, "SELL").await.len();
        fills(&cluster, false, 2).await;
        let entry = cluster.post(0, &base(&format!("{way:?}"), GOLD, 140_000)).await;
        let part = half(&cluster, "BUY", round).await;
        holds(&cluster, part).await;
        let answer = way.begin(&mut cluster).await;
        let sale = wait::until("what is held is being sold", PATIENCE, async || {
            let orders = orders(&cluster, "SELL").await;
            orders.get(sales).cloned().ok_or_else(|| (orders, cluster.logs()))
        })
        .await;
        assert_eq!((sale.quantity, sale.filled_quantity), (part, 0), "{way:?}: what is held, and no more");
        fills(&cluster, false, 1).await;
        way.end(&mut cluster, answer).await;
        let view = cluster.terminal(&entry.id).await;
        assert_eq!(view["status"], "executed", "{way:?}: {view}");
        // The rest may have filled after the sale that was under way: then it is another one.
        let sales = sold_once(&cluster, way, sales).await;
        assert!(sales.len() <= 2, "{way:?}: {sales:#?}");
        let bought = orders(&cluster, "BUY").await[round].filled_quantity;
        assert_eq!(bought == part, way == Way::Stop, "{way:?}: {bought}, first {part}");
    }
    assert_eq!(cluster.finish().await.open_positions, 0);
}
