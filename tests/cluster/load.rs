//! Signals at a steady pace, whatever the cluster is going through: each starts on time, and is delivered to one
//! instance after the other until one accepts it, as a sender behind a proxy does.
//!
//! Signals go round the instruments: entered in one round, left in the next. So each must make exactly one order, and
//! how many that were is known when the load ends.

use std::collections::HashSet;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use reqwest::{Client, StatusCode};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::task::AbortOnDropHandle;

use crate::signals::{base, exit};
use crate::support::checker::{self, Check};
use crate::support::cluster::{Cluster, Options, independent};
use crate::support::member::{Member, TOKEN};
use crate::support::wait::spread;

/// From one signal to the next: five a second.
const EVERY: Duration = Duration::from_millis(200);
/// Instruments that take turns: each comes again after a minute, when even on a machine with much else to do its entry
/// was carried out. An exit that overtakes its entry ends it.
const INSTRUMENTS: usize = 300;
/// Their price.
const PRICE: i64 = 1000;
/// How long a sender goes on with one signal.
const PATIENCE: Duration = Duration::from_secs(60);
/// From one try of a signal to the next, and how long one may take.
const PAUSE: Duration = Duration::from_millis(20);
const ANSWER: Duration = Duration::from_secs(10);

/// Where the members listen now.
type Addresses = Arc<Mutex<Vec<String>>>;

/// A running load. Dropping it ends it.
pub struct Load {
    addresses: Addresses,
    stopping: Arc<AtomicBool>,
    delivered: Arc<AtomicUsize>,
    sender: AbortOnDropHandle<Sent>,
}

/// What a load has delivered.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Signals, each accepted.
    pub signals: usize,
    /// Instruments whose last signal was an entry.
    pub held: usize,
    /// Tries that an instance refused or did not answer.
    pub turned_away: usize,
    /// The longest time from a signal's first try to its acceptance.
    pub slowest: Duration,
}

fn instrument(number: usize) -> String {
    format!("LOAD{number}")
}

/// The times of the program itself, and no limit that could keep a signal from trading: on a machine that does all of a
/// load at once a second is soon over.
pub fn usual_times() -> Vec<(&'static str, String)> {
    let mut env = independent();
    for (key, value) in [
        ("BATON_TIMING__LEASE_TTL_MS", "3000"),
        ("BATON_TRADING__AGE__REJECT_S", "600"),
        ("BATON_BROKER__USER_TIMEOUT_MS", "2000"),
        ("BATON_BROKER__ORDER_TIMEOUT_MS", "5000"),
    ] {
        env.push((key, value.to_owned()));
    }
    env
}

/// A cluster for a load.
pub fn options() -> Options {
    let env = usual_times();
    Options { instruments: (0..INSTRUMENTS).map(instrument).collect(), env, ..Options::default() }
}

fn publish(addresses: &Addresses, members: &[Member]) {
    *addresses.lock().unwrap() = members.iter().map(|member| member.address.clone()).collect();
}

// === impl Load ===

impl Load {
    /// Starts to send five signals a second to the members of a cluster made with [`options`].
    pub fn start(cluster: &Cluster) -> Self {
        Self::paced(cluster, EVERY, INSTRUMENTS)
    }

    /// The same at another pace, on so many of the instruments.
    pub fn paced(cluster: &Cluster, every: Duration, instruments: usize) -> Self {
        let addresses = Addresses::default();
        publish(&addresses, &cluster.members);
        let (stopping, delivered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let sender = Sender {
            client: cluster.client.clone(),
            every,
            instruments,
            addresses: Arc::clone(&addresses),
            stopping: Arc::clone(&stopping),
            delivered: Arc::clone(&delivered),
        };
        Self { addresses, stopping, delivered, sender: AbortOnDropHandle::new(tokio::spawn(sender.send())) }
    }

    /// Tells the senders where the members are: a restarted one has another address.
    pub fn publish(&self, members: &[Member]) {
        publish(&self.addresses, members);
    }

    /// Signals that were accepted so far.
    pub fn delivered(&self) -> usize {
        self.delivered.load(Ordering::Relaxed)
    }

    /// Begins no further signal, and has those that were begun accepted.
    pub async fn stop(self) -> Sent {
        self.stopping.store(true, Ordering::Relaxed);
        self.sender.await.expect("every signal is accepted by somebody")
    }
}

// === impl Sent ===

impl Sent {
    /// Waits until everything is at rest and ends the cluster. Nothing was lost: each signal traded; nothing was
    /// doubled: the bridge's own log has one order request for each, and the checker agrees.
    pub async fn was_executed(&self, cluster: Cluster) -> Check {
        let check = self.was_not_doubled(cluster).await;
        // One that was withheld is decided anew.
        let unsent = check.states.get("not_sent").copied().unwrap_or_default();
        let found = (check.signals, check.intents - unsent, check.orders, check.arrivals);
        let each = self.signals;
        assert_eq!(found, (each, each, each, each), "each signal is one order: {check:?}");
        assert_eq!(check.states.get("filled"), Some(&each), "{check:?}");
        assert_eq!(check.open_positions, self.held, "{check:?}");
        check
    }

    /// The same, but a signal may have come to nothing where an order was in doubt: that one is not sent again.
    pub async fn was_not_doubled(&self, cluster: Cluster) -> Check {
        checker::settled(&cluster.sql).await;
        self.print(&cluster).await;
        let ordered = ordered(&cluster.paper.log, 0);
        let check = cluster.finish().await;
        println!("{check:?}");
        let distinct: HashSet<&String> = ordered.iter().collect();
        assert_eq!(distinct.len(), ordered.len(), "the bridge's own log has each order once");
        assert_eq!((check.signals, check.arrivals), (self.signals, ordered.len()), "{check:?}");
        check
    }

    async fn print(&self, cluster: &Cluster) {
        let sql = "SELECT extract(epoch FROM finished_at - received_at)::float8 FROM signal";
        let rows = cluster.sql.query(sql, &[]).await.unwrap();
        let mut times: Vec<Duration> = rows
            .iter()
            // The clock of the machine may be stepped back meanwhile.
            .map(|row| Duration::from_secs_f64(row.get::<_, f64>(0).max(0.0)))
            .collect();
        let (median, p95, longest) = spread(&mut times);
        let Self { signals, turned_away, slowest, .. } = self;
        println!(
            "{signals} signals, {turned_away} tries turned away, accepted within {slowest:?} at the longest"
        );
        println!("from receipt to execution: median {median:?}, p95 {p95:?}, longest {longest:?}");
    }
}

/// The tags of the order requests that a bridge wrote down beyond so many bytes of its log.
pub fn ordered(log: &Path, from: u64) -> Vec<String> {
    let mut file = File::open(log).unwrap();
    file.seek(SeekFrom::Start(from)).unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    let request = |line: &str| {
        let line: Value = serde_json::from_str(line).expect("a line of the bridge's log is JSON");
        let placed = line["event"] == "received" && line["verb"] == "placeorder";
        placed.then(|| line["body"]["strategy"].as_str().expect("an order has its tag").to_owned())
    };
    // What follows the last line break is still being written.
    let (whole, _) = text.rsplit_once('\n').unwrap_or_default();
    whole.lines().filter_map(request).collect()
}

#[derive(Clone)]
struct Sender {
    client: Client,
    every: Duration,
    instruments: usize,
    addresses: Addresses,
    stopping: Arc<AtomicBool>,
    delivered: Arc<AtomicUsize>,
}

// === impl Sender ===

impl Sender {
    async fn send(self) -> Sent {
        let mut ticks = tokio::time::interval(self.every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut deliveries = JoinSet::new();
        let mut signals = 0;
        while !self.stopping.load(Ordering::Relaxed) {
            ticks.tick().await;
            deliveries.spawn(self.clone().deliver(signals));
            signals += 1;
        }
        let ends = deliveries.join_all().await;
        let turned_away = ends.iter().map(|(tries, _)| tries).sum();
        let slowest = ends.iter().map(|(_, took)| *took).max().unwrap_or_default();
        let (rounds, rest) = (signals / self.instruments, signals % self.instruments);
        let held = if rounds.is_multiple_of(2) { rest } else { self.instruments - rest };
        Sent { signals, held, turned_away, slowest }
    }

    /// Delivers one signal, first to the instance whose turn it is; gives how many tries were in vain, and the time.
    async fn deliver(self, number: usize) -> (usize, Duration) {
        let (id, name) = (format!("load-{number}"), instrument(number % self.instruments));
        let enters = (number / self.instruments).is_multiple_of(2);
        let body = if enters { base(&id, &name, PRICE) } else { exit(&id, &name, "ALL", PRICE) };
        let begun = Instant::now();
        for tries in 0.. {
            let address = {
                let addresses = self.addresses.lock().unwrap();
                addresses[(number + tries) % addresses.len()].clone()
            };
            let request = self.client.post(format!("{address}/webhook")).bearer_auth(TOKEN).json(&body);
            if let Ok(answer) = request.timeout(ANSWER).send().await {
                match answer.status() {
                    StatusCode::ACCEPTED | StatusCode::OK => {
                        self.delivered.fetch_add(1, Ordering::Relaxed);
                        return (tries, begun.elapsed());
                    }
                    StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {}
                    other => panic!("{other} for {body}: {}", answer.text().await.unwrap_or_default()),
                }
            }
            assert!(begun.elapsed() < PATIENCE, "nobody takes {body}");
            tokio::time::sleep(PAUSE).await;
        }
        unreachable!("the tries do not end")
    }
}
