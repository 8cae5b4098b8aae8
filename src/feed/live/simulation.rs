//! A day of connections in a moment: the supervisor against a proxy in memory, in time that moves when nobody has anything
//! to do. Each fault comes from the printed seed; what is asked and answered in between is checked all the time.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::future::FutureExt;
use futures_util::stream::FuturesUnordered;
use futures_util::{SinkExt, StreamExt};
use ha::Clock;
use serde_json::{Value, json};
use tokio::io::DuplexStream;
use tokio::sync::{mpsc, watch};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, accept_async};

use super::socket::Wire;
use super::time::within;
use super::*;
use crate::broker::dns::Resolver;
use crate::feed::{Listing, PriceSource};

mod clockwork;
mod together;

use clockwork::{Virtual, play};

const HOUR: Duration = Duration::from_secs(3600);
const SECOND: Duration = Duration::from_secs(1);
/// Between two ticks of a symbol.
const TICK: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(30);
/// Within this after the last fault all is well again: the longest patience with a mute socket, and the longest wait.
const HEALED: Duration = Duration::from_secs(200);
/// The market's hours in the simulation.
const OPENS: Duration = Duration::from_secs(9 * 3600);
const CLOSES: Duration = Duration::from_secs(23 * 3600 + 1800);

// === The proxy ===

/// The proxy and the bridge's session behind it.
struct World {
    time: Virtual,
    state: Mutex<Weather>,
    /// Counts the times that all sockets were cut.
    cuts: watch::Sender<u64>,
    frozen: watch::Sender<bool>,
}

/// How things stand.
#[derive(Default)]
struct Weather {
    refuses: bool,
    /// Connections are neither taken nor refused.
    swallows: bool,
    /// The broker's token is dead: no ticks, everything else as ever.
    dead: bool,
    /// Its link has stalled: no ticks, until all sockets have left.
    stalled: bool,
    revoked: bool,
    logins: u64,
    open: usize,
    connected: u64,
    ticks: u64,
    /// What a bridge would not put up with.
    faults: Vec<String>,
}

/// One socket's side of it.
struct Peer {
    login: Option<u64>,
    held: BTreeSet<Listing>,
}

impl World {
    fn new(time: Virtual) -> Self {
        Self { time, state: Mutex::default(), cuts: watch::Sender::new(0), frozen: watch::Sender::new(false) }
    }

    fn state(&self) -> MutexGuard<'_, Weather> {
        self.state.lock().unwrap()
    }

    async fn accept(&self, mut incoming: mpsc::UnboundedReceiver<DuplexStream>) {
        let mut peers = FuturesUnordered::new();
        loop {
            tokio::select! {
                Some(wire) = incoming.recv() => {
                    self.state().open += 1;
                    peers.push(self.serve(wire));
                }
                Some(()) = peers.next() => {
                    let mut state = self.state();
                    state.open -= 1;
                    state.stalled &= state.open > 0;
                }
            }
        }
    }

    /// One socket to its end.
    async fn serve(&self, wire: DuplexStream) {
        let (mut cuts, mut frozen) = (self.cuts.subscribe(), self.frozen.subscribe());
        let Ok(mut socket) = accept_async(wire).await else { return };
        let mut peer = Peer { login: None, held: BTreeSet::new() };
        let mut tick = self.time.sleep(TICK);
        loop {
            // Frozen, it neither reads nor answers.
            if frozen.wait_for(|frozen| !frozen).await.is_err() {
                return;
            }
            let replies = tokio::select! {
                _ = cuts.changed() => return,
                message = socket.next() => match message {
                    Some(Ok(Message::Text(text))) => {
                        let request: Value = serde_json::from_str(&text).unwrap();
                        self.answer(&mut peer, &request)
                    }
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                    Some(Ok(_)) => Vec::new(),
                },
                () = &mut tick => {
                    tick = self.time.sleep(TICK);
                    self.ticks(&peer)
                }
            };
            if !self.send(&mut socket, replies).await {
                return;
            }
        }
    }

    async fn send(&self, socket: &mut WebSocketStream<DuplexStream>, replies: Vec<Value>) -> bool {
        for reply in replies {
            match within(&self.time, SECOND * 10, socket.send(Message::text(reply.to_string()))).await {
                Some(Ok(())) => {}
                Some(Err(_)) => return false,
                None => {
                    self.state().faults.push("the client left its frames unread".to_owned());
                    return false;
                }
            }
        }
        true
    }

    fn answer(&self, peer: &mut Peer, request: &Value) -> Vec<Value> {
        let mut state = self.state();
        let refused = |code: &str| vec![json!({ "status": "error", "code": code, "message": "no" })];
        match request["action"].as_str().unwrap() {
            "authenticate" if state.revoked => refused("BROKER_ERROR"),
            "authenticate" => {
                peer.login = Some(state.logins);
                vec![json!({ "type": "auth", "status": "success" })]
            }
            "subscribe" | "unsubscribe" if peer.login != Some(state.logins) => refused("BROKER_ERROR"),
            "subscribe" => {
                let mut rows = Vec::new();
                for mut row in request["symbols"].as_array().unwrap().iter().cloned() {
                    let listing = listing_of(&row);
                    if !peer.held.insert(listing.clone()) {
                        state.faults.push(format!("{listing} was subscribed twice on one socket"));
                    }
                    row["status"] = "success".into();
                    rows.push(row);
                }
                vec![json!({ "type": "subscribe", "status": "success", "subscriptions": rows })]
            }
            "unsubscribe" => {
                for row in request["symbols"].as_array().unwrap() {
                    if !peer.held.remove(&listing_of(row)) {
                        state.faults.push(format!("{row} was unsubscribed and not subscribed"));
                    }
                }
                vec![json!({ "type": "unsubscribe", "status": "success" })]
            }
            "ping" => vec![json!({ "type": "pong", "status": "success" })],
            _ => vec![json!({ "type": "subscribe_orders", "status": "success" })],
        }
    }

    fn ticks(&self, peer: &Peer) -> Vec<Value> {
        let mut state = self.state();
        if state.dead || state.stalled || peer.login != Some(state.logins) || !is_open(self.time.elapsed()) {
            return Vec::new();
        }
        let tick = |listing: &Listing| {
            state.ticks += 1;
            json!({
                "type": "market_data", "symbol": listing.symbol, "exchange": listing.exchange, "mode": 1,
                "broker": "b", "data": { "ltp": 100.5, "ltt": 1 },
            })
        };
        peer.held.iter().map(tick).collect()
    }
}

fn listing_of(row: &Value) -> Listing {
    Listing::new(row["exchange"].as_str().unwrap(), row["symbol"].as_str().unwrap())
}

fn is_open(at: Duration) -> bool {
    let of_day = Duration::from_secs(at.as_secs() % 86_400);
    (OPENS..CLOSES).contains(&of_day)
}

fn dial(world: &Arc<World>, accepted: mpsc::UnboundedSender<DuplexStream>) -> Arc<socket::Dial> {
    let world = Arc::clone(world);
    Arc::new(move || {
        let (world, accepted) = (Arc::clone(&world), accepted.clone());
        async move {
            {
                let mut state = world.state();
                if state.refuses {
                    return Err(io::Error::from(io::ErrorKind::ConnectionRefused));
                }
                state.connected += 1;
            }
            if world.state().swallows {
                std::future::pending::<()>().await;
            }
            let (ours, theirs) = tokio::io::duplex(64 * 1024);
            accepted.send(theirs).map_err(io::Error::other)?;
            Ok(Box::new(ours) as Box<dyn Wire>)
        }
        .boxed()
    })
}

// === The day ===

/// Xorshift; the seed says all.
struct Draws(u64);

impl Draws {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }

    fn seconds(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_secs(least + self.below(most - least))
    }
}

/// What is looked at from outside.
struct Watched {
    board: PriceBoard,
    status: watch::Receiver<LiveStatus>,
    kick: Arc<Notify>,
}

/// Twenty-four hours, with something going wrong every few minutes.
async fn day(world: &World, seen: &Watched, draws: &mut Draws) {
    let time = &world.time;
    let mut worst = Duration::ZERO;
    let mut memory = None;
    while time.elapsed() < 24 * HOUR {
        time.sleep(draws.seconds(30, 600)).await;
        seen.board.want(some_of_eight(draws));
        match draws.below(8) {
            0 => world.cuts.send_modify(|cuts| *cuts += 1),
            1 => for_a_while(world, draws.seconds(1, 180), |state, on| state.refuses = on).await,
            2 => for_a_while(world, draws.seconds(1, 60), |state, on| state.swallows = on).await,
            3 => {
                for_a_while(world, draws.seconds(60, 1800), |state, on| state.dead = on).await;
                world.state().logins += 1;
                if draws.below(2) == 0 {
                    seen.kick.notify_one();
                }
            }
            4 => {
                world.cuts.send_modify(|cuts| *cuts += 1);
                for_a_while(world, draws.seconds(60, 300), |state, on| state.revoked = on).await;
                world.state().logins += 1;
            }
            5 => {
                world.frozen.send_replace(true);
                time.sleep(draws.seconds(1, 90)).await;
                world.frozen.send_replace(false);
            }
            // A flood: nothing but the last of what is wanted counts.
            6 => (0..50).for_each(|_| seen.board.want(some_of_eight(draws))),
            _ => {}
        }
        if draws.below(3) == 0 {
            // Faults without a rest between, sometimes.
            continue;
        }
        let begun = time.elapsed();
        while !is_well(world, seen) {
            let waited = time.elapsed() - begun;
            assert!(waited < HEALED, "not well after {waited:?}: {:?}", seen.status.borrow());
            time.sleep(SECOND).await;
        }
        worst = worst.max(time.elapsed() - begun);
        let state = world.state();
        assert!(state.faults.is_empty(), "{:?}", state.faults);
        assert_eq!(state.open, 1, "sockets are left open");
        assert!(time.lock().sleepers.len() < 20, "timers are left behind");
        assert!(seen.board.all().len() <= seen.board.wanted().borrow().len());
        // The allocator's own growth is in the first hours.
        if time.elapsed() > 4 * HOUR {
            let now = resident_kib();
            let before = *memory.get_or_insert(now);
            assert!(now < before + 8 * 1024, "{before} KiB became {now} KiB");
        }
    }
    let state = world.state();
    println!("{} sockets, {} ticks, healed within {worst:?}", state.connected, state.ticks);
    assert!(state.connected > 50 && state.ticks > 10_000, "nothing was tried");
}

async fn for_a_while(world: &World, time: Duration, set: impl Fn(&mut Weather, bool)) {
    set(&mut world.state(), true);
    world.time.sleep(time).await;
    set(&mut world.state(), false);
}

fn some_of_eight(draws: &mut Draws) -> BTreeSet<Listing> {
    let chosen = 1 + draws.below(255);
    (0..8).filter(|bit| chosen & (1 << bit) != 0).map(|bit| Listing::new("NFO", format!("S{bit}"))).collect()
}

/// Everything wanted is subscribed, and heard while the market is open.
fn is_well(world: &World, seen: &Watched) -> bool {
    let (now, status) = (world.time.now(), seen.status.borrow());
    let wanted = Arc::clone(&seen.board.wanted().borrow());
    let fresh = |listing: &Listing| {
        let priced = seen.board.get(listing);
        priced.is_some_and(|p| p.source == PriceSource::Live && now.since(p.at) < TICK * 2)
    };
    let heard = !is_open(world.time.elapsed()) || wanted.iter().all(fresh);
    status.authenticated && status.subscribed_symbols == wanted.len() && heard
}

fn resident_kib() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4
}

/// A feed to the proxy, and what is seen of it.
fn member(world: &Arc<World>, accepted: mpsc::UnboundedSender<DuplexStream>) -> (Live, Watched) {
    let time = world.time.clone();
    let endpoint = Endpoint::new("ws://proxy", "key".to_owned().into(), Resolver::default(), None).unwrap();
    let endpoint = endpoint.dialled(dial(world, accepted));
    let (board, news) = (PriceBoard::new(), OrderNews::default());
    let (metrics, clock) = (Arc::new(Metrics::new()), Arc::new(time.clone()));
    let live = Live::new(endpoint, board.clone(), news, clock, metrics, PATIENCE);
    let live = live.with_hours(Arc::new(move || Some(is_open(time.elapsed()))));
    let seen = Watched { board, status: live.status(), kick: live.kick() };
    (live, seen)
}

#[test]
fn a_day_of_faults_leaves_one_socket_and_every_subscription_once() {
    let seed = std::env::var("BATON_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(20_260_803);
    println!("BATON_SEED={seed}");
    let time = Virtual::default();
    let world = Arc::new(World::new(time.clone()));
    let (accepted, incoming) = mpsc::unbounded_channel();
    let (live, seen) = member(&world, accepted);
    let mut draws = Draws(seed | 1);
    let tasks = vec![
        live.run(CancellationToken::new()).boxed(),
        world.accept(incoming).boxed(),
        day(&world, &seen, &mut draws).boxed(),
    ];
    play(&time, tasks);
    assert!(time.elapsed() >= 24 * HOUR);
}
