use std::collections::BTreeSet;
use std::net::SocketAddr;

use rust_decimal::dec;

use super::*;
use crate::broker::{OpenAlgo, Settings};
use crate::domain::money::Price;
use crate::feed::Freshness;
use crate::paper::{Options, Paper};

const GOLD: (&str, &str) = ("MCX", "GOLDM05DEC25FUT");
const SOON: Duration = Duration::from_secs(20);

async fn bridge(http: &str) -> Paper {
    let http: SocketAddr = http.parse().unwrap();
    Paper::start(Options { http, ..Options::default() }).await.unwrap()
}

fn poll(url: String, board: &PriceBoard) -> (Poll, Arc<Metrics>) {
    let metrics = Arc::new(Metrics::new());
    let broker = Arc::new(OpenAlgo::new(Settings::new(url, "paper")).unwrap());
    let pace = PollPace {
        every: Duration::from_millis(20),
        live_max_age: Duration::from_millis(50),
        ..PollPace::new(Duration::from_millis(50), Duration::from_secs(2), 10)
    };
    let clock = Arc::new(ha::BootClock);
    (Poll::new(board.clone(), broker, clock, Arc::clone(&metrics), pace), metrics)
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, wait).await.unwrap_or_else(|_| panic!("never: {what}"));
}

fn source(metrics: &Metrics, name: &str) -> i64 {
    metrics.price_source.with_label_values(&[name]).get()
}

#[tokio::test]
async fn what_has_no_live_price_is_asked_for_and_falls_to_the_cache_with_the_bridge() {
    let paper = bridge("127.0.0.1:0").await;
    let address = paper.http_url().trim_start_matches("http://").to_owned();
    let board = PriceBoard::new();
    let (poll, metrics) = poll(paper.http_url(), &board);
    let stop = CancellationToken::new();
    let running = tokio::spawn(poll.run(stop.clone()));
    let gold = Listing::new(GOLD.0, GOLD.1);
    let unknown = Listing::new("MCX", "NO_SUCH");
    board.want(BTreeSet::from([gold.clone(), unknown.clone()]));
    until("a REST price", || board.get(&gold).is_some_and(|priced| priced.source == PriceSource::Rest)).await;
    assert_eq!(board.get(&gold).unwrap().price, Price(dec!(140000)));
    assert_eq!(board.get(&unknown), None, "one unknown symbol does not take the others' prices");
    until("the gauge", || source(&metrics, "rest") == 1 && source(&metrics, "none") == 1).await;

    paper.stop().await;
    until("the cache", || board.get(&gold).unwrap().source == PriceSource::Cache).await;
    assert_eq!(board.get(&gold).unwrap().price, Price(dec!(140000)));
    until("the counter", || metrics.feed_rest_quotes.with_label_values(&["failed"]).get() > 0).await;

    let _back = bridge(&address).await;
    until("a REST price again", || board.get(&gold).unwrap().source == PriceSource::Rest).await;
    assert_eq!(board.freshness(&gold, ha::BootClock.now()), Freshness::Live);
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn a_bridge_is_not_asked_for_what_is_live_nor_for_nothing() {
    let board = PriceBoard::new();
    // Nobody listens on port 1: a question would be counted as failed.
    let (mut poll, metrics) = poll("http://127.0.0.1:1".to_owned(), &board);
    let asked = || metrics.feed_rest_quotes.with_label_values(&["failed"]).get();
    assert_eq!(poll.round().await.asked, 0);
    let gold = Listing::new(GOLD.0, GOLD.1);
    board.want(BTreeSet::from([gold.clone()]));
    board.record(&gold, Price(dec!(1)), PriceSource::Live, ha::BootClock.now().plus(SOON));
    assert_eq!(poll.round().await.asked, 0);
    assert_eq!(asked(), 0);
    board.want(BTreeSet::from([Listing::new("MCX", "OTHER")]));
    let round = poll.round().await;
    assert_eq!((round.asked, round.answered, asked()), (1, 0, 1));
    assert!(round.failure.unwrap().contains("cannot reach the bridge"));
}

#[tokio::test]
async fn listings_without_a_price_do_not_crowd_out_the_others() {
    let paper = bridge("127.0.0.1:0").await;
    let board = PriceBoard::new();
    let (mut poll, _) = poll(paper.http_url(), &board);
    poll.pace.calls = 1;
    poll.pace.live_max_age = Duration::ZERO;
    let gold = Listing::new(GOLD.0, GOLD.1);
    let unknown = (0..SYMBOLS_A_CALL + 7).map(|number| Listing::new("MCX", format!("A{number:03}")));
    board.want(unknown.chain([gold.clone()]).collect());
    for _ in 0..3 {
        // One call holds a hundred, and a hundred and eight are wanted: gold has its turn every other round.
        let (first, second) = (poll.round().await, poll.round().await);
        assert_eq!((first.asked, second.asked), (SYMBOLS_A_CALL, SYMBOLS_A_CALL));
        assert_eq!(first.answered + second.answered, 1, "{gold} was not asked for");
    }
}
