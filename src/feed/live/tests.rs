use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use ha::{BootClock, Clock};
use rust_decimal::{Decimal, dec};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::*;
use crate::broker::dns::Resolver;
use crate::broker::{OpenAlgo, Settings};
use crate::domain::money::Price;
use crate::feed::poll::{Poll, PollPace};
use crate::feed::{Listing, PriceSource};
use crate::paper::{Options, Paper, SymbolKey, SymbolSpec};

const SOON: Duration = Duration::from_secs(30);

fn gold() -> Listing {
    Listing::new("MCX", "GOLDM05DEC25FUT")
}

fn silver() -> Listing {
    Listing::new("MCX", "SILVERM27FEB26FUT")
}

async fn bridge(ws: &str) -> Paper {
    let ws: SocketAddr = ws.parse().unwrap();
    let tick_interval = Duration::from_millis(20);
    Paper::start(Options { ws, tick_interval, ..Options::default() }).await.unwrap()
}

fn client() -> reqwest::Client {
    // Another test of this process may have installed it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}

async fn control(paper: &Paper, verb: reqwest::Method, path: &str, body: Value) {
    let url = format!("{}/_ctl/{path}", paper.control_url());
    let answer = client().request(verb, url).json(&body).send().await.unwrap();
    assert!(answer.status().is_success(), "{path}: {answer:?}");
}

async fn post(paper: &Paper, path: &str, body: Value) {
    control(paper, reqwest::Method::POST, path, body).await;
}

/// A running feed; ends with this.
struct Running {
    board: PriceBoard,
    news: OrderNews,
    metrics: Arc<Metrics>,
    status: watch::Receiver<LiveStatus>,
    kick: Arc<Notify>,
    _stop: tokio_util::sync::DropGuard,
}

fn run(url: &str, key: &str, patience: Duration) -> Running {
    let (board, news, metrics) = (PriceBoard::new(), OrderNews::default(), Arc::new(Metrics::new()));
    let endpoint = Endpoint::new(url, key.to_owned().into(), Resolver::default(), None).unwrap();
    let (clock, stop) = (Arc::new(BootClock), CancellationToken::new());
    let live = Live::new(endpoint, board.clone(), news.clone(), clock, Arc::clone(&metrics), patience);
    let (status, kick) = (live.status(), live.kick());
    tokio::spawn(live.run(stop.clone()));
    Running { board, news, metrics, status, kick, _stop: stop.drop_guard() }
}

impl Running {
    async fn until(&self, what: &str, holds: impl Fn(&Self, &LiveStatus) -> bool) {
        let wait = async {
            while !holds(self, &self.status.borrow()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = tokio::time::timeout(SOON, wait).await;
        waited.unwrap_or_else(|_| panic!("never {what}: {:?}", self.status.borrow()));
    }

    async fn price(&self, listing: &Listing, expected: Price) {
        let live = |running: &Self, _: &LiveStatus| {
            running.board.get(listing).is_some_and(|p| p.price == expected && p.source == PriceSource::Live)
        };
        self.until(&format!("{listing} at {expected}"), live).await;
    }

    fn reconnects(&self, reason: &str) -> u64 {
        self.metrics.feed_reconnects.with_label_values(&[reason]).get()
    }
}

#[tokio::test]
async fn ticks_of_what_is_wanted_arrive_and_of_nothing_else() {
    let paper = bridge("127.0.0.1:0").await;
    let feed = run(&paper.ws_url(), "paper", SOON);
    feed.until("connected", |_, status| status.authenticated).await;
    assert_eq!(feed.status.borrow().subscribed_symbols, 0);
    feed.board.want(BTreeSet::from([gold()]));
    feed.price(&gold(), Price(dec!(140000))).await;
    post(&paper, "price", json!({"symbol": "GOLDM05DEC25FUT", "exchange": "MCX", "ltp": 139000})).await;
    feed.price(&gold(), Price(dec!(139000))).await;

    feed.board.want(BTreeSet::from([silver()]));
    feed.price(&silver(), Price(dec!(155000))).await;
    assert_eq!(feed.board.get(&gold()), None);
    assert_eq!(feed.status.borrow().subscribed_symbols, 1);
    assert_eq!(feed.status.borrow().generation, 1, "one socket for all of it");
}

// R: D2
#[tokio::test]
async fn of_hundreds_of_symbols_each_is_subscribed_once_and_has_its_own_price() {
    const SYMBOLS: i64 = 250;
    let priced = |number: i64| {
        let mut spec = SymbolSpec::defaults().remove(1);
        spec.key = SymbolKey::new(format!("S{number}FUT"), "MCX");
        spec.ltp = Price(Decimal::from(1000 + number));
        spec
    };
    let tick_interval = Duration::from_millis(20);
    let symbols = (0..SYMBOLS).map(priced).collect();
    let paper = Paper::start(Options { tick_interval, symbols, ..Options::default() }).await.unwrap();
    let feed = run(&paper.ws_url(), "paper", SOON);
    let listings: Vec<Listing> =
        (0..SYMBOLS).map(|number| Listing::new("MCX", format!("S{number}FUT"))).collect();
    feed.board.want(listings.iter().cloned().collect());
    for (listing, number) in listings.iter().zip(0..) {
        feed.price(listing, Price(Decimal::from(1000 + number))).await;
    }
    let status = feed.status.borrow().clone();
    assert_eq!(
        (status.subscribed_symbols, status.generation),
        (listings.len(), 1),
        "one socket for all of them"
    );
}

/// A proxy that says all it has to say at once.
async fn in_one_go(symbols: u32) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
        socket.next().await.unwrap().unwrap();
        let mut frames = vec![json!({ "type": "auth", "status": "success" })];
        frames.extend((0..symbols).map(|n| {
            json!({
                "type": "market_data", "symbol": format!("S{n}"), "exchange": "NFO", "mode": 1,
                "data": { "symbol": format!("S{n}"), "ltp": n + 1, "ltt": 1 },
            })
        }));
        for frame in frames {
            socket.feed(Message::text(frame.to_string())).await.unwrap();
        }
        socket.flush().await.unwrap();
        // It is heard until it ends.
        while let Some(Ok(_)) = socket.next().await {}
    });
    address
}

#[tokio::test]
async fn of_a_thousand_ticks_at_once_each_is_heard() {
    let proxy = in_one_go(1_000).await;
    let feed = run(&format!("ws://{proxy}"), "paper", SOON);
    let listings: BTreeSet<Listing> = (0..1_000).map(|n| Listing::new("NFO", format!("S{n}"))).collect();
    feed.board.want(listings.clone());
    let missing =
        |feed: &Running| listings.iter().filter(|listing| feed.board.get(listing).is_none()).count();
    feed.until("all are heard", |feed, _| missing(feed) == 0).await;
    assert_eq!(feed.status.borrow().generation, 1);
}

#[tokio::test]
async fn an_order_update_is_a_reason_to_read_the_books() {
    let paper = bridge("127.0.0.1:0").await;
    let feed = run(&paper.ws_url(), "paper", SOON);
    feed.until("connected", |_, status| status.authenticated).await;
    feed.news.arrived().await;
    let before = feed.news.count();
    let order = json!({
        "apikey": "paper", "strategy": "other", "symbol": "GOLDM05DEC25FUT", "exchange": "MCX", "action": "BUY",
        "quantity": "100", "pricetype": "MARKET", "product": "NRML",
    });
    // Until one is heard: the subscription to the orders may still be on its way.
    let heard = async {
        while feed.metrics.feed_order_updates.get() == 0 {
            let url = format!("{}/api/v1/placeorder", paper.http_url());
            client().post(url).json(&order).send().await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(SOON, heard).await.unwrap();
    assert!(feed.news.count() > before);
    tokio::time::timeout(SOON, feed.news.arrived()).await.unwrap();
}

#[tokio::test]
async fn a_cut_socket_is_replaced_and_what_is_wanted_is_subscribed_again_once() {
    let paper = bridge("127.0.0.1:0").await;
    let feed = run(&paper.ws_url(), "paper", SOON);
    feed.board.want(BTreeSet::from([gold(), silver()]));
    for generation in 1..=3 {
        feed.until("heard", |_, status| status.generation == generation && status.reason == "ticks come")
            .await;
        assert_eq!(feed.status.borrow().subscribed_symbols, 2);
        post(&paper, "ws/drop", json!({})).await;
    }
    feed.until("heard again", |_, status| status.generation == 4 && status.authenticated).await;
    assert_eq!(feed.reconnects("closed"), 3);
    assert_eq!(feed.status.borrow().network_errors, 3);
}

#[tokio::test]
async fn a_mute_feed_is_noticed_by_the_age_of_its_ticks_and_heals_by_itself() {
    let (paper, patience) = (bridge("127.0.0.1:0").await, Duration::from_millis(500));
    let feed = run(&paper.ws_url(), "paper", patience);
    feed.board.want(BTreeSet::from([gold()]));
    feed.price(&gold(), Price(dec!(140000))).await;
    post(&paper, "faults", json!({"fault": {"kind": "tick_silence"}})).await;
    feed.until("mute", |_, status| status.state == LiveState::Mute).await;
    let age = BootClock.now().since(feed.board.get(&gold()).unwrap().at);
    // Every half a second it is looked at; the rest is for a busy machine.
    assert!(
        patience < age && age < patience + Duration::from_millis(2500),
        "noticed at a tick age of {age:?}"
    );
    // The new socket authenticates and subscribes with success, and hears nothing: still mute.
    feed.until("connected anew", |_, status| status.generation > 1 && status.authenticated).await;
    assert_eq!(feed.status.borrow().state, LiveState::Mute);
    feed.until("a second try", |running, _| running.reconnects("mute") >= 2).await;
    assert_eq!(feed.metrics.feed_mute.get(), 1);
    assert!(feed.metrics.feed_reconnects.with_label_values(&["mute"]).get() >= 2);

    control(&paper, reqwest::Method::DELETE, "faults", json!({})).await;
    feed.until("healed", |_, status| status.state == LiveState::Connected && status.authenticated).await;
    post(&paper, "price", json!({"symbol": "GOLDM05DEC25FUT", "exchange": "MCX", "ltp": 139000})).await;
    feed.price(&gold(), Price(dec!(139000))).await;
    assert_eq!(feed.metrics.feed_mute.get(), 0);
}

#[tokio::test]
async fn a_feed_whose_session_was_renewed_is_revived_by_a_new_socket() {
    let paper = bridge("127.0.0.1:0").await;
    let feed = run(&paper.ws_url(), "paper", SOON * 10);
    feed.board.want(BTreeSet::from([gold()]));
    feed.price(&gold(), Price(dec!(140000))).await;
    post(&paper, "faults", json!({"fault": {"kind": "session_expired"}})).await;
    control(&paper, reqwest::Method::DELETE, "faults", json!({})).await;
    post(&paper, "price", json!({"symbol": "GOLDM05DEC25FUT", "exchange": "MCX", "ltp": 139000})).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(feed.board.get(&gold()).unwrap().price, Price(dec!(140000)), "the old socket is cut off");
    // Another subscription on it is refused with BROKER_ERROR, which ends it.
    feed.board.want(BTreeSet::from([gold(), silver()]));
    feed.until("refused", |running, _| running.reconnects("refused") == 1).await;
    feed.kick.notify_one();
    feed.price(&gold(), Price(dec!(139000))).await;
    feed.price(&silver(), Price(dec!(155000))).await;
}

#[tokio::test]
async fn a_link_that_has_stalled_is_made_anew_by_leaving_it() {
    let paper = bridge("127.0.0.1:0").await;
    let feed = run(&paper.ws_url(), "paper", Duration::from_millis(500));
    feed.board.want(BTreeSet::from([gold()]));
    feed.price(&gold(), Price(dec!(140000))).await;
    post(&paper, "faults", json!({"fault": {"kind": "stalled_upstream"}})).await;
    post(&paper, "price", json!({"symbol": "GOLDM05DEC25FUT", "exchange": "MCX", "ltp": 139000})).await;
    feed.price(&gold(), Price(dec!(139000))).await;
    assert!(feed.reconnects("mute") >= 1 && feed.status.borrow().generation > 1);
}

#[tokio::test]
async fn a_link_that_somebody_else_keeps_stalled_is_left_again_and_again() {
    let paper = bridge("127.0.0.1:0").await;
    let feed = run(&paper.ws_url(), "paper", Duration::from_millis(300));
    let other = run(&paper.ws_url(), "paper", SOON * 10);
    other.until("connected", |_, status| status.authenticated).await;
    feed.board.want(BTreeSet::from([gold()]));
    feed.price(&gold(), Price(dec!(140000))).await;
    post(&paper, "faults", json!({"fault": {"kind": "stalled_upstream"}})).await;
    feed.until("left twice", |running, _| running.reconnects("mute") >= 2).await;
    assert_eq!(feed.status.borrow().state, LiveState::Mute, "{:?}", feed.status.borrow());
    drop(other);
    feed.until("heard again", |_, status| status.reason == "ticks come" && status.authenticated).await;
}

#[tokio::test]
async fn a_proxy_that_is_killed_leaves_the_prices_to_rest_and_gets_every_subscription_back() {
    let paper = bridge("127.0.0.1:0").await;
    let feed = run(&paper.ws_url(), "paper", SOON);
    feed.board.want(BTreeSet::from([gold(), silver()]));
    feed.price(&gold(), Price(dec!(140000))).await;
    feed.price(&silver(), Price(dec!(155000))).await;
    let broker = Arc::new(OpenAlgo::new(Settings::new(paper.http_url(), "paper")).unwrap());
    let pace = PollPace::new(Duration::from_millis(500), SOON, 10);
    let poll = Poll::new(feed.board.clone(), broker, Arc::new(BootClock), Arc::clone(&feed.metrics), pace);
    let stop = CancellationToken::new();
    let polling = tokio::spawn(poll.run(stop.clone()));

    post(&paper, "faults", json!({"fault": {"kind": "stream_down"}})).await;
    post(&paper, "ws/drop", json!({})).await;
    feed.until("attempts that fail", |_, status| !status.authenticated && status.reconnect_attempts >= 2)
        .await;
    post(&paper, "price", json!({"symbol": "GOLDM05DEC25FUT", "exchange": "MCX", "ltp": 139000})).await;
    let by_rest = |running: &Running, _: &LiveStatus| {
        running
            .board
            .get(&gold())
            .is_some_and(|p| (p.price, p.source) == (Price(dec!(139000)), PriceSource::Rest))
    };
    feed.until("a price by REST", by_rest).await;
    let health = client().get(format!("{}/health/status", paper.http_url())).send().await.unwrap();
    assert!(health.status().is_success(), "the bridge's own health sees nothing of it");

    let news = feed.news.count();
    control(&paper, reqwest::Method::DELETE, "faults", json!({})).await;
    feed.price(&gold(), Price(dec!(139000))).await;
    feed.price(&silver(), Price(dec!(155000))).await;
    assert_eq!(feed.status.borrow().subscribed_symbols, 2);
    assert!(
        feed.news.count() > news,
        "what happened to orders meanwhile is in the books, and nobody was told to look"
    );
    stop.cancel();
    polling.await.unwrap();
}

#[tokio::test]
async fn one_listing_that_does_not_trade_is_no_mute_feed() {
    let paper = bridge("127.0.0.1:0").await;
    let feed = run(&paper.ws_url(), "paper", Duration::from_millis(500));
    feed.board.want(BTreeSet::from([gold(), silver()]));
    feed.price(&gold(), Price(dec!(140000))).await;
    feed.price(&silver(), Price(dec!(155000))).await;
    post(&paper, "faults", json!({"fault": {"kind": "tick_silence"}, "symbol": "SILVERM27FEB26FUT"})).await;
    let quiet_for = |running: &Running| {
        BootClock.now().since(running.board.get(&silver()).unwrap().at) > Duration::from_millis(1500)
    };
    feed.until("long silence", |running, _| quiet_for(running)).await;
    assert_eq!((feed.status.borrow().generation, feed.reconnects("mute")), (1, 0));
    // A quote shows that it does trade: the feed has lost it.
    feed.board.record(&silver(), Price(dec!(154000)), PriceSource::Rest, BootClock.now());
    feed.until("mute", |running, _| running.reconnects("mute") == 1).await;
}

#[tokio::test]
async fn silence_outside_of_market_hours_is_no_fault() {
    let paper = bridge("127.0.0.1:0").await;
    post(&paper, "faults", json!({"fault": {"kind": "tick_silence"}})).await;
    let (board, metrics) = (PriceBoard::new(), Arc::new(Metrics::new()));
    board.want(BTreeSet::from([gold()]));
    let endpoint =
        Endpoint::new(&paper.ws_url(), "paper".to_owned().into(), Resolver::default(), None).unwrap();
    let (clock, patience) = (Arc::new(BootClock), Duration::from_millis(200));
    let live = Live::new(endpoint, board, OrderNews::default(), clock, Arc::clone(&metrics), patience);
    let live = live.with_hours(Arc::new(|| Some(false)));
    let stop = CancellationToken::new();
    let running = tokio::spawn(live.run(stop.clone()));
    let connected = async {
        while metrics.feed_connected.get() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, connected).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(metrics.feed_reconnects.with_label_values(&["mute"]).get(), 0);
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn a_refused_key_is_tried_again_seldom_and_a_kick_tries_at_once() {
    let paper = bridge("127.0.0.1:0").await;
    let feed = run(&paper.ws_url(), "wrong", SOON);
    feed.until("refused", |running, _| running.reconnects("refused") == 1).await;
    assert!(feed.status.borrow().reason.contains("AUTHENTICATION_ERROR"));
    assert!(!feed.status.borrow().authenticated);
    let begun = BootClock.now();
    feed.kick.notify_one();
    feed.until("refused again", |running, _| running.reconnects("refused") == 2).await;
    assert!(BootClock.now().since(begun) < REFUSED, "it waited although it was told not to");
}

#[tokio::test]
async fn a_proxy_that_is_away_is_waited_for() {
    let paper = bridge("127.0.0.1:0").await;
    let url = paper.ws_url();
    let address = url.trim_start_matches("ws://").to_owned();
    paper.stop().await;
    let feed = run(&url, "paper", SOON);
    feed.board.want(BTreeSet::from([gold()]));
    feed.until("attempts", |_, status| status.reconnect_attempts >= 2).await;
    let _paper = bridge(&address).await;
    feed.price(&gold(), Price(dec!(140000))).await;
    assert_eq!(feed.status.borrow().reconnect_attempts, 0);
}

#[test]
fn an_address_that_is_none_is_told() {
    for (url, problem) in
        [("http://h", "neither ws nor wss"), ("ws://", "empty host"), ("nonsense", "relative")]
    {
        let error =
            Endpoint::new(url, String::new().into(), Resolver::default(), None).err().unwrap().to_string();
        assert!(error.contains(problem) && error.contains("feed.url"), "{error}");
    }
}
