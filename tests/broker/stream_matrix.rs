//! Every fault of the order stream × every order verb, in both modes: what evidence concludes with the stream as it is. The
//! stream is a reason to read the books and no more, so nothing is doubled that it says twice, and nothing lost that it never says.
//! A cell whose fault was not met fails.

use std::fmt;
use std::time::Duration;

use baton::broker::{BridgeMode, Broker};
use baton::domain::money::{Price, Quantity};
use baton::domain::order::{IntentState, OrderSpec};
use baton::paper::faults::Fault;
use baton::paper::{FillModel, RateLimits};
use futures_util::FutureExt;
use rust_decimal::dec;
use serde::Deserialize;
use serde_json::json;

use crate::bench::{Bench, acknowledged, market, named, resting};
use crate::ear::{Ear, Memory, gold};
use crate::matrix::{Concern, Verb, faults_of};
use crate::support::{DEADLINE, until};

/// Two lots, which fill one after the other.
const UNITS: Quantity = Quantity(200);
const FILL: FillModel = FillModel { latency_ms: 20, slices: 2, slice_delay_ms: 60, spread_ticks: 1 };

#[derive(Clone, Copy)]
struct Cell<'a> {
    mode: BridgeMode,
    fault: &'a Fault,
    verb: Verb,
}

/// The bridge's own count.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
struct Streamed {
    updates: u64,
    ends: u64,
    late: u64,
    lost: u64,
    repeated: u64,
    refused_sockets: u64,
}

/// What both sides say at the end.
struct Outcome {
    state: Option<IntentState>,
    booked: i64,
    held: i64,
    by_news: u32,
    heard: u64,
    streamed: Streamed,
    /// Orders and units that the broker really has.
    orders: usize,
    bought: i64,
}

impl fmt::Display for Cell<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} under {:?} in {} mode", self.verb.route(), self.fault, self.mode)
    }
}

impl Cell<'_> {
    /// What the verb comes to: a change raises the limit above the market.
    fn end(self) -> (IntentState, Quantity) {
        match self.verb {
            Verb::Place | Verb::Modify => (IntentState::Filled, UNITS),
            Verb::Cancel => (IntentState::Cancelled, Quantity::ZERO),
        }
    }

    async fn play(self) -> Outcome {
        let bench = Bench::build(
            self.mode,
            |options| {
                options.limits = RateLimits { orders_per_second: None, api_per_second: None };
                (options.fill, options.tick_interval) = (FILL, Duration::from_millis(50));
            },
            |_| {},
        )
        .await;
        let ear = Ear::at(&bench.paper, DEADLINE);
        ear.listen(&[gold()]).await;
        // The news that there is a stream.
        let _ = ear.news.arrived().now_or_never();
        self.put_in_force(&bench, &ear).await;
        let (mut memory, broker) = (Memory::default(), &*bench.broker);
        let first = if self.verb == Verb::Place { market() } else { resting() };
        let intent = memory.journal(&OrderSpec { quantity: UNITS, ..first.clone() });
        let sent = bench.place(&intent.order, &intent.strategy_tag()).await;
        let order_id = acknowledged(sent);
        memory.acknowledged(intent.id, &order_id);
        match self.verb {
            Verb::Place => {}
            Verb::Modify => {
                let above = OrderSpec { quantity: UNITS, price: Price(dec!(141000)), ..first };
                acknowledged(broker.modify(&order_id, &above, named("case")).await);
            }
            Verb::Cancel => {
                acknowledged(broker.cancel(&order_id, named("case")).await);
            }
        }
        let (end, _) = self.end();
        let followed = memory.follow(broker, &ear, intent.id, end);
        tokio::time::timeout(DEADLINE, followed).await.unwrap_or_else(|_| panic!("{self}: no {end}"));
        let streamed = self.through(&bench, &ear).await;
        // Whatever came since: the books say what they said.
        memory.hear(broker, &ear).await;
        memory.read(broker).await;
        let positions = broker.positions().await.unwrap();
        Outcome {
            state: memory.state(intent.id),
            booked: memory.booked,
            held: memory.held(),
            by_news: memory.by_news,
            heard: ear.updates(),
            streamed,
            orders: broker.orders().await.unwrap().len(),
            bought: positions.iter().map(|position| position.quantity.0).sum(),
        }
    }

    /// The faults of updates are an order's own, from the moment that it is placed.
    async fn put_in_force(self, bench: &Bench, ear: &Ear) {
        if *self.fault == Fault::StreamDown {
            bench.control("faults", json!({ "fault": self.fault })).await;
            bench.control("ws/drop", json!({})).await;
            let is_refused =
                || !ear.status.borrow().authenticated && ear.status.borrow().reconnect_attempts > 0;
            until("sockets are refused", is_refused).await;
        } else {
            let rule = json!({ "fault": self.fault, "verb": Verb::Place.route(), "count": 1 });
            bench.control("faults", rule).await;
        }
    }

    /// The bridge's count, once the stream has said all that it has to say, and it was heard.
    async fn through(self, bench: &Bench, ear: &Ear) -> Streamed {
        let through = async {
            loop {
                let streamed = Streamed::deserialize(&bench.state("stream").await["stream"]).unwrap();
                if streamed.ends > 0 && ear.updates() >= self.expected(streamed) {
                    return streamed;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let through = tokio::time::timeout(DEADLINE, through).await;
        through.unwrap_or_else(|_| panic!("{self}: {} updates heard", ear.updates()))
    }

    /// How many updates there are to be heard.
    fn expected(self, streamed: Streamed) -> u64 {
        match self.fault {
            Fault::StreamDown => 0,
            _ => streamed.updates - streamed.lost + streamed.repeated,
        }
    }

    fn judge(self, outcome: &Outcome) {
        let Outcome { state, booked, held, by_news, heard, streamed, orders, bought } = outcome;
        let (end, units) = self.end();
        assert_eq!(*state, Some(end), "{self}");
        assert_eq!((*booked, *held, *bought), (units.0, units.0, units.0), "{self}: doubled or lost");
        assert_eq!(*orders, 1, "{self}");
        assert_eq!(*heard, self.expected(*streamed), "{self}: {streamed:?}");
        let all = streamed.updates;
        assert!(all > 0, "{self}: nothing to be told");
        let (bitten, is_news) = match self.fault {
            Fault::DuplicateUpdates { copies } => (streamed.repeated == all * u64::from(copies - 1), true),
            Fault::DelayUpdates { .. } => (streamed.late == all, true),
            Fault::LoseUpdates => (streamed.lost == all, false),
            Fault::StreamDown => (streamed.refused_sockets > 0, false),
            other => panic!("{other:?} is no fault of the stream"),
        };
        assert!(bitten, "{self}: never met: {streamed:?}");
        assert_eq!(*by_news > 0, is_news, "{self}: {by_news} readings for news");
    }
}

// R: B10. 0 doubled, 0 lost, whatever the stream does.
#[tokio::test]
async fn whatever_the_order_stream_does_evidence_comes_to_the_same_end_once() {
    let faults: Vec<Fault> = faults_of(Concern::Stream).into_iter().flatten().collect();
    assert_eq!(faults.len(), 4, "{faults:?}");
    let mut cells = 0;
    for mode in [BridgeMode::Live, BridgeMode::Analyze] {
        // Most of a cell is waiting.
        let all = faults.iter().flat_map(|fault| Verb::ALL.map(|verb| Cell { mode, fault, verb }));
        let played = all.map(|cell| async move { (cell, cell.play().await) });
        for (cell, outcome) in futures_util::future::join_all(played).await {
            cell.judge(&outcome);
            cells += 1;
        }
    }
    println!("{cells} cells, each met its fault; 0 doubled, 0 lost, 0 wrong states");
}
