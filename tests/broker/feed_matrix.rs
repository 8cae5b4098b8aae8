//! Every fault of live prices × what they are for, in both modes: a new subscription, a quote, the watch over a stop. Orders and
//! reads do not meet these faults, so they are judged here. A cell whose fault was not met fails.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use baton::broker::{BridgeMode, Broker};
use baton::domain::money::Price;
use baton::domain::order::IntentState;
use baton::domain::policy::StopPolicy;
use baton::domain::stops::Trigger;
use baton::engine::stops::{Hit, Sight, StopMonitor};
use baton::feed::poll::{Poll, PollPace};
use baton::feed::{Listing, LiveState, PriceSource};
use baton::paper::RateLimits;
use baton::paper::faults::Fault;
use ha::{BootClock, Clock};
use rust_decimal::dec;
use serde_json::json;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::bench::{Bench, GOLD, acknowledged, market};
use crate::ear::{Ear, Memory, STOP, gold};
use crate::matrix::{Concern, faults_of};
use crate::support::{DEADLINE, until};

/// How long all may be silent before the feed calls itself mute.
const PATIENCE: Duration = Duration::from_millis(500);
/// For what the feed does of itself, members' common moments and pauses included.
const HEALS: Duration = Duration::from_secs(30);
/// Below the stop, and far from a jump.
const FALLEN: Price = Price(dec!(139800));

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum For {
    /// A listing that is wanted anew.
    Subscribe,
    /// A price that is asked for.
    Quote,
    /// A stop that is reached.
    StopWatch,
}

#[derive(Clone, Copy)]
struct Cell<'a> {
    mode: BridgeMode,
    fault: &'a Fault,
    need: For,
}

impl fmt::Display for Cell<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} under {:?} in {} mode", self.need, self.fault, self.mode)
    }
}

fn silver() -> Listing {
    Listing::new("MCX", "SILVERM27FEB26FUT")
}

/// The ladder's REST rung at work; it ends with what is given.
fn polling(bench: &Bench, ear: &Ear) -> DropGuard {
    let old = Duration::from_millis(200);
    let pace =
        PollPace { every: Duration::from_millis(50), ..PollPace::new(old, Duration::from_secs(2), 1000) };
    let broker: Arc<dyn Broker> = bench.broker.clone();
    let poll = Poll::new(ear.board.clone(), broker, Arc::new(BootClock), Arc::clone(&ear.metrics), pace);
    let stop = CancellationToken::new();
    tokio::spawn(poll.run(stop.clone()));
    stop.drop_guard()
}

impl Cell<'_> {
    async fn play(self) {
        let bench = Bench::build(
            self.mode,
            |options| {
                options.limits = RateLimits { orders_per_second: None, api_per_second: None };
                options.tick_interval = Duration::from_millis(50);
            },
            |_| {},
        )
        .await;
        let ear = Ear::at(&bench.paper, PATIENCE);
        ear.listen(&[gold()]).await;
        let mut memory = Memory::default();
        if self.need == For::StopWatch {
            let intent = memory.journal(&market());
            let order_id = acknowledged(bench.place(&intent.order, &intent.strategy_tag()).await);
            memory.acknowledged(intent.id, &order_id);
            memory.follow(&*bench.broker, &ear, intent.id, IntentState::Filled).await;
        }
        self.put_in_force(&bench).await;
        match self.need {
            For::Subscribe => self.subscribes(&bench, &ear).await,
            For::Quote => self.quotes(&bench, &ear).await,
            For::StopWatch => self.watches(&bench, &ear, &memory).await,
        }
    }

    /// In force, and met.
    async fn put_in_force(self, bench: &Bench) {
        bench.control("faults", json!({ "fault": self.fault })).await;
        let met = match self.fault {
            Fault::StreamDown => {
                bench.control("ws/drop", json!({})).await;
                "refused_sockets"
            }
            Fault::TickSilence | Fault::StalledUpstream => "withheld_ticks",
            other => panic!("{other:?} is no fault of prices"),
        };
        let met = async {
            while bench.state("stream").await["stream"][met].as_u64().unwrap() == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(DEADLINE, met).await.unwrap_or_else(|_| panic!("{self}: never met"));
    }

    /// No price is made up, the feed says that it is not well, and once the fault is over the new listing has its price. A
    /// stalled upstream is over by what the feed does itself.
    async fn subscribes(self, bench: &Bench, ear: &Ear) {
        ear.board.want([gold(), silver()].into());
        let is_told = || {
            let status = ear.status.borrow();
            match self.fault {
                Fault::StreamDown => !status.authenticated && status.reconnect_attempts > 0,
                _ => status.state == LiveState::Mute,
            }
        };
        // One that heals itself may do so between two looks at the status.
        let is_over = || ear.has_live(&silver());
        until("the feed is not well", || is_told() || is_over()).await;
        let heals_itself = *self.fault == Fault::StalledUpstream;
        if !heals_itself {
            assert_eq!(ear.board.get(&silver()), None, "{self}: a price from nowhere");
            bench.heal().await;
        }
        let heard = async {
            while !is_over() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(HEALS, heard).await.unwrap_or_else(|_| panic!("{self}: never heard again"));
        assert_eq!(bench.state("faults").await["faults"], json!([]), "{self}: over");
        let left_for_it = ear.metrics.feed_reconnects.with_label_values(&["mute"]).get() > 0;
        assert!(left_for_it || !heals_itself, "{self}: over by a new link");
    }

    /// The REST interface answers as ever, and its price stands in for the live one.
    async fn quotes(self, bench: &Bench, ear: &Ear) {
        self.move_price(bench).await;
        let quote = bench.broker.quote(GOLD, "MCX").await.unwrap();
        assert_eq!(quote.ltp, FALLEN, "{self}");
        let _polling = polling(bench, ear);
        let by_rest = || {
            let priced = ear.board.get(&gold());
            priced.is_some_and(|priced| priced.price == FALLEN && self.may_tell(priced.source))
        };
        until("a price by REST", by_rest).await;
    }

    /// The stop is reached by a price that no tick has told.
    async fn watches(self, bench: &Bench, ear: &Ear, memory: &Memory) {
        let _polling = polling(bench, ear);
        let (mut monitor, policy) = (StopMonitor::default(), StopPolicy::default());
        let mut look = || {
            let sight =
                Sight { policy: &policy, book: &memory.book, ages: ear.board.ages(), now: BootClock.now() };
            monitor.look(sight, |listing| ear.board.sight(listing)).hits
        };
        assert!(look().is_empty(), "{self}: before the price falls");
        self.move_price(bench).await;
        let mut hits = Vec::new();
        until("the stop is reached", || {
            hits = look();
            !hits.is_empty()
        })
        .await;
        let held: Vec<_> = memory.book.portfolio.held().collect();
        assert!(held.len() == 1 && held[0].current_stop == STOP, "{self}: {held:?}");
        let [Hit { position, trigger, price, source }] = hits[..] else { panic!("{self}: {hits:?}") };
        assert_eq!((position, trigger, price), (held[0].id, Trigger::StopLoss(STOP), FALLEN), "{self}");
        assert!(self.may_tell(source), "{self}: by {source:?}, which had nothing to tell");
    }

    /// A price that came meanwhile came by REST; or live, where the feed has mended its link by itself.
    fn may_tell(self, source: PriceSource) -> bool {
        source == PriceSource::Rest || (source == PriceSource::Live && *self.fault == Fault::StalledUpstream)
    }

    async fn move_price(self, bench: &Bench) {
        bench.control("price", json!({ "symbol": GOLD, "exchange": "MCX", "ltp": FALLEN })).await;
    }
}

// R: B10, D3
#[tokio::test]
async fn whatever_the_live_prices_do_what_needs_a_price_gets_the_true_one_or_none() {
    let faults: Vec<Fault> = faults_of(Concern::Prices).into_iter().flatten().collect();
    assert_eq!(faults.len(), 3, "{faults:?}");
    let mut cells = 0;
    for mode in [BridgeMode::Live, BridgeMode::Analyze] {
        let all = faults.iter().flat_map(|fault| {
            [For::Subscribe, For::Quote, For::StopWatch].map(|need| Cell { mode, fault, need })
        });
        cells += futures_util::future::join_all(all.map(Cell::play)).await.len();
    }
    println!("{cells} cells, each met its fault");
}
