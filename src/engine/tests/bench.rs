//! The way of a tick, measured: frame → parse → cache → stop check. `make bench-feed`, in a release build.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use ha::{BootClock, Clock, Moment};
use rust_decimal::{Decimal, dec};
use serde_json::json;
use tokio_tungstenite::tungstenite::{Message, accept};
use tokio_util::sync::CancellationToken;

use crate::broker::dns::Resolver;
use crate::domain::fixtures;
use crate::domain::listing::Listing;
use crate::domain::money::Price;
use crate::domain::policy::StopPolicy;
use crate::engine::book::Book;
use crate::engine::monitor::{Due, Rhythm};
use crate::engine::stops::{Sight, StopMonitor};
use crate::feed::{Endpoint, Live, OrderNews, PriceBoard, live};
use crate::telemetry::metrics::Metrics;

const SYMBOLS: usize = 1000;
/// Frames that a socket hands over in one go.
const BURST: usize = 256;
const RUN: Duration = Duration::from_secs(5);

fn listing(number: usize) -> Listing {
    Listing::new("NFO", format!("BANKNIFTY24APR{number:05}CE"))
}

/// A frame as the bridge sends it.
fn frame(listing: &Listing, price: Decimal) -> String {
    let Listing { exchange, symbol } = listing;
    format!(
        r#"{{"type": "market_data", "symbol": "{symbol}", "exchange": "{exchange}", "mode": 1, "broker": "zerodha", "data": {{"symbol": "{symbol}", "exchange": "{exchange}", "mode": "ltp", "ltp": {price}, "ltt": 1764000000000, "timestamp": 1764000000123}}}}"#
    )
}

fn board() -> PriceBoard {
    let board = PriceBoard::new();
    board.want((0..SYMBOLS).map(listing).collect::<BTreeSet<_>>());
    board
}

/// A book that holds the first `held` of the symbols, bought at 1000 with the stop at 900.
fn book(held: usize) -> Book {
    let mut book = Book::default();
    for number in 0..held {
        let seq = i64::try_from(number + 1).unwrap();
        let mut position = fixtures::position("GOLD_MINI", 1, 1, dec!(1000), dec!(900), seq);
        Listing { exchange: position.exchange, symbol: position.symbol } = listing(number);
        book.portfolio.positions.push(position);
    }
    book
}

/// The term's looks at the stops, without the term.
struct Looks<'a> {
    board: &'a PriceBoard,
    book: Book,
    monitor: StopMonitor,
    policy: StopPolicy,
    rhythm: Rhythm,
}

impl<'a> Looks<'a> {
    fn new(board: &'a PriceBoard, held: usize) -> Self {
        let (monitor, policy) = (StopMonitor::default(), StopPolicy::default());
        Self { board, book: book(held), monitor, policy, rhythm: Rhythm::from(BootClock.now()) }
    }

    /// The prices that hit a stop, if it is time to look.
    fn look(&mut self, moved: bool) -> Vec<Price> {
        let now = BootClock.now();
        let due = self.rhythm.due(moved, now);
        if due == Due::Nothing {
            return Vec::new();
        }
        let (policy, book, board) = (&self.policy, &self.book, self.board);
        let sight = Sight { policy, book, ages: board.ages(), now };
        let (moved, price_of) = (board.take_moved(), |of: &Listing| board.sight(of));
        let glance = match due {
            Due::Moved => self.monitor.glance(&moved, sight, price_of),
            Due::All | Due::Nothing => None,
        };
        let look = glance.unwrap_or_else(|| {
            let look = self.monitor.look(sight, price_of);
            self.rhythm.looked(now, BootClock.now());
            match self.monitor.calm(policy, book) {
                Some(calm) => board.rest(calm),
                None => board.alert(),
            }
            look
        });
        look.hits.iter().map(|hit| hit.price).collect()
    }

    /// Waits as the term does, and looks.
    async fn next(&mut self) -> Vec<Price> {
        let moved = tokio::select! {
            biased;
            () = self.board.changed() => true,
            () = tokio::time::sleep(self.rhythm.next().until(BootClock.now())) => false,
        };
        self.look(moved)
    }
}

#[test]
#[ignore = "slow: a measurement"]
fn in_process() {
    for held in [10, 100, SYMBOLS] {
        let board = board();
        let mut hear = live::hearing(&board, BootClock.now());
        let mut looks = Looks::new(&board, held);
        let frames: Vec<String> = (0..SYMBOLS * 4)
            .map(|number| frame(&listing(number * 7 % SYMBOLS), dec!(1000.05) + Decimal::from(number % 9)))
            .collect();
        let (begun, mut ticks) = (Instant::now(), 0_u64);
        while begun.elapsed() < RUN {
            for burst in frames.chunks(BURST) {
                let now = BootClock.now();
                burst.iter().for_each(|frame| hear(frame, now));
                ticks += burst.len() as u64;
                assert!(looks.look(true).is_empty());
            }
        }
        assert_eq!(board.all().len(), SYMBOLS);
        let rate = ticks as f64 / begun.elapsed().as_secs_f64();
        println!(
            "feed: in process, {SYMBOLS} symbols, {held} held: {rate:.0} ticks/s on one core (target 500 000)"
        );
        assert!(rate > 50_000.0, "a tenth of the target");
    }
}

/// A text frame on the wire, from a server.
fn wire(text: &str) -> Vec<u8> {
    let mut bytes = vec![0x81];
    match text.len() {
        length @ 0..126 => bytes.push(length as u8),
        length => {
            bytes.push(126);
            bytes.extend((length as u16).to_be_bytes());
        }
    }
    bytes.extend(text.as_bytes());
    bytes
}

/// A proxy on loopback that answers until everything is subscribed and then gives `send` the bare connection.
fn proxy(send: impl FnOnce(TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        // As the bridge's server does: a frame does not wait for the last one's acknowledgement.
        stream.set_nodelay(true).unwrap();
        let bare = stream.try_clone().unwrap();
        let mut socket = accept(stream).unwrap();
        let mut subscribed = 0;
        while subscribed < SYMBOLS {
            let Message::Text(text) = socket.read().unwrap() else { continue };
            let request: serde_json::Value = serde_json::from_str(&text).unwrap();
            let reply = match request["action"].as_str().unwrap() {
                "authenticate" => json!({ "type": "auth", "status": "success" }),
                "subscribe" => {
                    let mut rows = request["symbols"].as_array().unwrap().clone();
                    subscribed += rows.len();
                    rows.iter_mut().for_each(|row| row["status"] = "success".into());
                    json!({ "type": "subscribe", "status": "success", "subscriptions": rows })
                }
                _ => json!({ "type": "other", "status": "success" }),
            };
            socket.send(Message::text(reply.to_string())).unwrap();
        }
        send(bare);
    });
    address
}

fn feed(address: SocketAddr, board: &PriceBoard, metrics: &Arc<Metrics>) -> Live {
    let url = format!("ws://{address}");
    let endpoint = Endpoint::new(&url, "key".to_owned().into(), Resolver::default(), None).unwrap();
    let (news, clock) = (OrderNews::default(), Arc::new(BootClock));
    Live::new(endpoint, board.clone(), news, clock, Arc::clone(metrics), RUN * 10)
}

#[test]
#[ignore = "slow: a measurement"]
fn over_loopback_as_fast_as_they_come() {
    let address = proxy(|mut connection| {
        let frames = (0..SYMBOLS).flat_map(|number| wire(&frame(&listing(number), dec!(1000.05))));
        let frames: Vec<u8> = frames.collect();
        // Ends with the reader.
        while connection.write_all(&frames).is_ok() {}
    });
    let (board, metrics) = (board(), Arc::new(Metrics::new()));
    let live = feed(address, &board, &metrics);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let rate = runtime.block_on(async {
        let stop = CancellationToken::new();
        tokio::spawn(live.run(stop.clone()));
        let mut looks = Looks::new(&board, 100);
        while metrics.feed_ticks.get() == 0 {
            board.changed().await;
        }
        let (begun, before) = (Instant::now(), metrics.feed_ticks.get());
        while begun.elapsed() < RUN {
            assert!(looks.next().await.is_empty());
        }
        let heard = metrics.feed_ticks.get() - before;
        stop.cancel();
        heard as f64 / begun.elapsed().as_secs_f64()
    });
    println!(
        "feed: over a loopback WebSocket, {SYMBOLS} symbols, 100 held: {rate:.0} ticks/s on one core (target 100 000)"
    );
    assert!(rate > 10_000.0, "a tenth of the target");
}

/// The target's rate, of which the sender takes most of a processor, and one that leaves the reader its own on two.
const RATES: [u32; 2] = [100_000, 20_000];

#[test]
#[ignore = "slow: a measurement"]
fn from_the_tick_to_the_decision() {
    for (rate, held) in RATES.into_iter().flat_map(|rate| [10, 100, SYMBOLS].map(|held| (rate, held))) {
        tick_to_decision(rate, held);
    }
}

/// Prints how long it takes from a tick's write to the decision on it, at so many ticks a second with so many positions held.
fn tick_to_decision(rate: u32, held: usize) {
    let sent: Arc<Mutex<BTreeMap<Decimal, Moment>>> = Arc::default();
    let log = Arc::clone(&sent);
    // The flood, and every few milliseconds a price of the first symbol that is below its stop.
    let address = proxy(move |mut connection| {
        let flood: Vec<Vec<u8>> =
            (1..SYMBOLS).map(|number| wire(&frame(&listing(number), dec!(1000.05)))).collect();
        let (begun, mut next, mut probes) = (Instant::now(), 0_usize, 0_u32);
        while begun.elapsed() < RUN {
            let due = (begun.elapsed().as_secs_f64() * f64::from(rate)) as usize;
            let mut bytes = Vec::new();
            while next < due {
                bytes.extend(&flood[next % flood.len()]);
                next += 1;
            }
            if begun.elapsed() > Duration::from_millis(7) * probes {
                probes += 1;
                let price = dec!(900) - Decimal::new(i64::from(probes), 2);
                bytes.extend(wire(&frame(&listing(0), price)));
                log.lock().unwrap().insert(price, BootClock.now());
            }
            if connection.write_all(&bytes).is_err() {
                return;
            }
            thread::park_timeout(Duration::from_micros(500));
        }
    });
    let (board, metrics) = (board(), Arc::new(Metrics::new()));
    let live = feed(address, &board, &metrics);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let decided = runtime.block_on(async move {
        let stop = CancellationToken::new();
        tokio::spawn(live.run(stop.clone()));
        let decisions = tokio::spawn(async move {
            // By the probe's price: when its frame was read, and when it was decided on.
            let mut decided: BTreeMap<Decimal, (Moment, Moment)> = BTreeMap::new();
            let mut looks = Looks::new(&board, held);
            let begun = Instant::now();
            while begun.elapsed() < RUN + Duration::from_secs(2) {
                for price in looks.next().await {
                    let read = board.get(&listing(0)).unwrap().at;
                    decided.entry(price.0).or_insert_with(|| (read, BootClock.now()));
                }
            }
            decided
        });
        let decided = decisions.await.unwrap();
        stop.cancel();
        decided
    });
    let sent = sent.lock().unwrap();
    let spans = |from_read: bool| {
        let span = |(price, (read, at)): (&Decimal, &(Moment, Moment))| {
            let sent = sent.get(price)?;
            Some(at.since(if from_read { *read } else { *sent }))
        };
        let mut took: Vec<Duration> = decided.iter().filter_map(span).collect();
        took.sort();
        took
    };
    let (took, own) = (spans(false), spans(true));
    assert!(took.len() * 2 > sent.len(), "{} of {} probes were decided on", took.len(), sent.len());
    let at = |percent: usize| (took.len() * percent / 100).min(took.len() - 1);
    println!(
        "feed: tick to decision at {rate} ticks/s, {held} held: p50 {:.2?} p99 {:.2?} (target 1 ms), of it from the \
         frame's reading on p50 {:.2?} p99 {:.2?}, {} probes",
        took[at(50)],
        took[at(99)],
        own[at(50)],
        own[at(99)],
        took.len()
    );
    assert!(took[at(99)] < Duration::from_millis(10) * 5, "far from the target");
}
