//! Every fault of the paper bridge that shows in an answer or a book × every order verb × before and after it accepts, in both modes: what the client makes of
//! the answer, against the bridge's own record of what came in and what it did.

use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use baton::broker::matching::{Unresolved, match_orders};
use baton::broker::{BridgeMode, Broker, BrokerOrder, OrderStatus, Submission};
use baton::domain::ids::IntentId;
use baton::domain::money::{Price, Quantity};
use baton::domain::order::{OrderSpec, PriceType};
use baton::paper::RateLimits;
use baton::paper::faults::Fault;
use rust_decimal::dec;
use serde_json::{Value, json};

use crate::bench::{Bench, acknowledged, gold, market, named};
use crate::support::{DEADLINE, until};

/// The client's patience with an answer; what hangs, hangs for longer.
pub const PATIENCE: Duration = Duration::from_millis(500);
const HANG_MS: u64 = 900;

/// A verb that changes orders.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verb {
    Place,
    Modify,
    Cancel,
}

impl Verb {
    pub const ALL: [Self; 3] = [Self::Place, Self::Modify, Self::Cancel];

    pub fn route(self) -> &'static str {
        match self {
            Self::Place => "placeorder",
            Self::Modify => "modifyorder",
            Self::Cancel => "cancelorder",
        }
    }
}

/// One cell.
#[derive(Clone, Copy, Debug)]
struct Cell<'a> {
    mode: BridgeMode,
    faults: &'a [Fault],
    verb: Verb,
}

/// What happened, by both sides' word.
struct Outcome {
    submission: Submission,
    /// The bridge carried it out.
    done: bool,
    /// The order it was about, by the bridge's record.
    order_id: Option<String>,
    orders: Vec<BrokerOrder>,
    bought: i64,
    held: i64,
}

impl fmt::Display for Cell<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} under {:?} in {} mode", self.verb.route(), self.faults, self.mode)
    }
}

/// Each fault there is, and pairs that make an order hard to find. Before and after the bridge accepts are cells of their
/// own. Left out: a broker's 400 for an order that it has, which no broker is known to give; and a cancel or modify that is
/// done after its answer, of which no answer can tell (the engine goes by the books: tests/cluster/resting.rs).
fn faults() -> Vec<Vec<Fault>> {
    let broker = |status, placed| Fault::BrokerError { status, message: None, placed };
    let mut all = vec![
        Fault::LostAckBefore,
        Fault::LostAckAfter,
        Fault::HangBefore { ms: HANG_MS },
        Fault::HangAfter { ms: HANG_MS },
        Fault::NullOrderid,
        broker(400, false),
        Fault::BadGateway { placed: false },
        Fault::BadGateway { placed: true },
        Fault::RateLimited,
        Fault::SemiAuto,
        Fault::NumericOrderid,
        Fault::WrongMode,
        Fault::SessionExpired,
        Fault::EmptyBooks,
        Fault::SessionRevoked,
        Fault::TickSilence,
        Fault::StalledUpstream,
        Fault::StaleStatus,
        Fault::InheritedStatus,
        Fault::BarePositions,
        Fault::RenamedLastPrice,
        Fault::ZeroAverages,
        Fault::StreamDown,
        Fault::ContractsGone,
        Fault::RiskRefusal,
        Fault::SlowFills { ms: 100 },
        Fault::Hidden { ms: HANG_MS },
        Fault::DuplicateUpdates { copies: 3 },
        Fault::DelayUpdates { ms: 100 },
        Fault::LoseUpdates,
    ];
    for status in [403, 429, 500, 504] {
        all.extend([broker(status, false), broker(status, true)]);
    }
    let mut all: Vec<Vec<Fault>> = all.into_iter().map(|fault| vec![fault]).collect();
    for lost in [Fault::LostAckAfter, Fault::BadGateway { placed: true }, Fault::HangAfter { ms: HANG_MS }] {
        all.push(vec![Fault::Hidden { ms: HANG_MS }, lost.clone()]);
        all.push(vec![Fault::SlowFills { ms: 100 }, Fault::StaleStatus, lost]);
    }
    all
}

/// Where a fault shows, and so where it is judged: where it cannot, no cell is counted for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Concern {
    /// What a request comes to: here, and in `reads_matrix`.
    Requests,
    /// The news of orders: `stream_matrix`.
    Stream,
    /// Live prices: `feed_matrix`.
    Prices,
}

/// Where each fault shows; at least one place.
fn concerns(fault: &Fault) -> &'static [Concern] {
    match fault {
        Fault::LostAckBefore
        | Fault::LostAckAfter
        | Fault::HangBefore { .. }
        | Fault::HangAfter { .. }
        | Fault::TakesLate { .. }
        | Fault::NullOrderid
        | Fault::BrokerError { .. }
        | Fault::BadGateway { .. }
        | Fault::RateLimited
        | Fault::SemiAuto
        | Fault::NumericOrderid
        | Fault::WrongMode
        | Fault::SessionExpired
        | Fault::EmptyBooks
        | Fault::SessionRevoked
        | Fault::StaleStatus
        | Fault::InheritedStatus
        | Fault::BarePositions
        | Fault::RenamedLastPrice
        | Fault::ZeroAverages
        | Fault::ContractsGone
        | Fault::RiskRefusal
        | Fault::SlowFills { .. }
        | Fault::Hidden { .. } => &[Concern::Requests],
        Fault::DuplicateUpdates { .. } | Fault::DelayUpdates { .. } | Fault::LoseUpdates => {
            &[Concern::Stream]
        }
        Fault::StreamDown => &[Concern::Stream, Concern::Prices],
        Fault::TickSilence | Fault::StalledUpstream => &[Concern::Prices],
    }
}

/// The faults, alone or together, of which each one shows there.
pub fn faults_of(concern: Concern) -> Vec<Vec<Fault>> {
    let mut all = faults();
    all.retain(|faults| faults.iter().all(|fault| concerns(fault).contains(&concern)));
    all
}

/// Does not compile when the bridge learns a fault that the table above lacks.
fn kind(fault: &Fault) -> usize {
    match fault {
        Fault::LostAckBefore => 0,
        Fault::LostAckAfter => 1,
        Fault::HangBefore { .. } => 2,
        Fault::HangAfter { .. } => 3,
        Fault::NullOrderid => 4,
        Fault::BrokerError { .. } => 5,
        Fault::BadGateway { .. } => 6,
        Fault::RateLimited => 7,
        Fault::SemiAuto => 8,
        Fault::NumericOrderid => 9,
        Fault::WrongMode => 10,
        Fault::SessionExpired => 11,
        Fault::SessionRevoked => 12,
        Fault::TickSilence => 13,
        Fault::StaleStatus => 14,
        Fault::SlowFills { .. } => 15,
        Fault::Hidden { .. } => 16,
        Fault::DuplicateUpdates { .. } => 17,
        Fault::DelayUpdates { .. } => 18,
        Fault::LoseUpdates => 19,
        Fault::InheritedStatus => 20,
        Fault::StreamDown => 21,
        Fault::ContractsGone => 22,
        Fault::TakesLate { .. } => 23,
        Fault::StalledUpstream => 24,
        Fault::BarePositions => 25,
        Fault::RenamedLastPrice => 26,
        Fault::ZeroAverages => 27,
        Fault::RiskRefusal => 28,
        Fault::EmptyBooks => 29,
    }
}

/// It holds while its rule is there, and meets no request in particular.
pub fn is_state(fault: &Fault) -> bool {
    matches!(
        fault,
        Fault::SessionExpired
            | Fault::EmptyBooks
            | Fault::SessionRevoked
            | Fault::TickSilence
            | Fault::StalledUpstream
            | Fault::StaleStatus
            | Fault::InheritedStatus
            | Fault::BarePositions
            | Fault::RenamedLastPrice
            | Fault::ZeroAverages
            | Fault::StreamDown
            | Fault::ContractsGone
    )
}

/// Rests far below the market, at a price of its own.
fn resting(price: i64) -> OrderSpec {
    gold(PriceType::Limit, Price(price.into()))
}

impl Cell<'_> {
    /// The order is taken and refused: there is a row of it, and nothing else.
    fn is_refused(&self) -> bool {
        self.verb == Verb::Place && self.faults.contains(&Fault::RiskRefusal)
    }

    async fn play(self) -> Outcome {
        let bench = Bench::build(
            self.mode,
            |options| options.limits = RateLimits { orders_per_second: None, api_per_second: None },
            |settings| settings.order_timeout = PATIENCE,
        )
        .await;
        until("order connections are warm", || bench.broker.warm_connections() > 0).await;
        let setup = acknowledged(bench.place(&resting(99_000), "setup").await);
        for fault in self.faults {
            // A rule of a state has no aim; others meet the one request that comes.
            let aimed = json!({ "fault": fault, "verb": self.verb.route(), "count": 1 });
            let state = json!({ "fault": fault });
            bench.control("faults", if is_state(fault) { state } else { aimed }).await;
        }
        let submission = match self.verb {
            Verb::Place => bench.place(&market(), "case").await,
            Verb::Modify => bench.broker.modify(&setup, &resting(99_500), named("case")).await,
            Verb::Cancel => bench.broker.cancel(&setup, named("case")).await,
        };
        let arrival = bench.last_arrival(self, self.verb.route()).await;
        bench.heal().await;
        let done = arrival["done"] == true;
        let order_id = arrival["orderid"].as_str().map(str::to_owned);
        let fills = done && self.verb == Verb::Place && !self.is_refused();
        let (orders, bought) = bench.settled(self, usize::from(fills)).await;
        let positions = bench.broker.positions().await.unwrap();
        let held = positions.iter().map(|position| position.quantity.0).sum();
        Outcome { submission, done, order_id, orders, bought, held }
    }

    /// The submission must not say more than what is true, and the books must settle what it leaves open.
    fn judge(self, outcome: &Outcome) {
        let Outcome { submission, done, order_id, orders, bought, held } = outcome;
        match submission {
            Submission::Acknowledged { order_id: said } => {
                assert!(*done, "{self}: lost: {submission:?}");
                assert_eq!(Some(said), order_id.as_ref(), "{self}: another order's id");
            }
            Submission::Rejected { .. } | Submission::NotSent { .. } => {
                assert!(!done, "{self}: an order that nobody knows of: {submission:?}");
            }
            Submission::InDoubt { .. } => {}
        }
        let setup = orders.iter().find(|order| order.price_type == PriceType::Limit);
        let setup = setup.unwrap_or_else(|| panic!("{self}: the first order is gone: {orders:?}"));
        match self.verb {
            Verb::Place => {
                let sent =
                    Unresolved { intent: IntentId::new(), spec: market(), strategy: "case".to_owned() };
                let known = HashSet::from([setup.order_id.clone()]);
                let matching = match_orders(std::slice::from_ref(&sent), orders, &known);
                assert!(matching.ambiguous.is_empty(), "{self}: doubled: {orders:?}");
                let there = *done || self.is_refused();
                assert_eq!(matching.found.len(), usize::from(there), "{self}: lost or invented: {orders:?}");
                let once = if *done && !self.is_refused() { market().quantity } else { Quantity::ZERO };
                assert_eq!((*bought, *held), (once.0, once.0), "{self}");
            }
            Verb::Modify => {
                let price = if *done { dec!(99500) } else { dec!(99000) };
                assert_eq!((setup.price, &setup.status), (Price(price), &OrderStatus::Open), "{self}");
            }
            Verb::Cancel => {
                let expected = if *done { OrderStatus::Cancelled } else { OrderStatus::Open };
                assert_eq!(setup.status, expected, "{self}");
            }
        }
    }
}

impl Bench {
    /// The one request of this route, once the bridge is through with it: never a second one.
    async fn last_arrival(&self, cell: Cell<'_>, route: &str) -> Value {
        let ended = async {
            loop {
                let mut arrivals = self.state("arrivals").await["arrivals"].take();
                let case = arrivals.as_array_mut().unwrap();
                case.retain(|arrival| arrival["body"]["strategy"] == "case");
                assert!(case.len() <= 1, "{cell}: sent again: {case:?}");
                if let Some(arrival) = case.pop().filter(|arrival| !arrival["answered"].is_null()) {
                    assert_eq!(arrival["verb"], route);
                    return arrival;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(DEADLINE, ended).await.unwrap_or_else(|_| panic!("{cell}: no request arrived"))
    }

    /// The books, once the orders that the bridge really has are all to be seen in them and `filled` is in full.
    async fn settled(&self, cell: Cell<'_>, filled: usize) -> (Vec<BrokerOrder>, i64) {
        let shown = async {
            loop {
                let real = self.state("orders").await["orders"].as_array().unwrap().len();
                let books = self.broker.books().await.unwrap();
                let complete = books.orders.iter().filter(|order| order.status == OrderStatus::Complete);
                if books.orders.len() == real && complete.count() == filled {
                    return (books.orders, books.trades.iter().map(|trade| trade.quantity.0).sum());
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(DEADLINE, shown)
            .await
            .unwrap_or_else(|_| panic!("{cell}: the books do not settle"))
    }
}

// R: B10. 0 doubled, 0 lost, 0 wrong states.
#[tokio::test]
async fn whatever_goes_wrong_no_order_is_doubled_lost_or_in_a_wrong_state() {
    let kinds: HashSet<usize> = faults().iter().flatten().map(kind).collect();
    assert_eq!(kinds.len(), 29, "a fault is not in the table");
    let faults = faults_of(Concern::Requests);
    let mut counts = [0; 4];
    let mut cells = 0;
    for mode in [BridgeMode::Live, BridgeMode::Analyze] {
        for verb in Verb::ALL {
            // Most of a cell is waiting.
            let played = faults.iter().map(|faults| {
                let cell = Cell { mode, faults, verb };
                async move { (cell, cell.play().await) }
            });
            for (cell, outcome) in futures_util::future::join_all(played).await {
                cell.judge(&outcome);
                cells += 1;
                counts[match outcome.submission {
                    Submission::Acknowledged { .. } => 0,
                    Submission::Rejected { .. } => 1,
                    Submission::NotSent { .. } => 2,
                    Submission::InDoubt { .. } => 3,
                }] += 1;
            }
        }
    }
    let [acknowledged, rejected, not_sent, in_doubt] = counts;
    println!(
        "{cells} cells: {acknowledged} acknowledged, {rejected} rejected, {not_sent} not sent, {in_doubt} in doubt; \
         0 doubled, 0 lost, 0 wrong states"
    );
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
}
