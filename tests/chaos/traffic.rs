//! Senders that go on whatever happens: each instrument is entered and left again and again.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::StatusCode;
use serde_json::Value;
use tokio_util::task::AbortOnDropHandle;

use crate::signals::{base, exit};
use crate::support::member::TOKEN;
use crate::support::seed::Seed;

/// Instruments that are traded.
pub const INSTRUMENTS: usize = 12;
/// Their price.
pub const PRICE: i64 = 1000;
/// The longest time between two signals of an instrument.
const PAUSE: Duration = Duration::from_millis(700);
/// How long a sender waits for an answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long an exit waits for its entry: longer than most faults last.
const ENTRY_PATIENCE: Duration = Duration::from_secs(4);
/// How long the next entry waits for an exit where stops rest. The exit has the stop cancelled first, and where the row before
/// a cancelled one is cancelled too that is believed after 20 s (ADR 24): a sender that did not wait would pile up, in each
/// five seconds, what takes 20 s to carry out.
const EXIT_PATIENCE: Duration = Duration::from_secs(30);

/// The name of an instrument.
pub fn instrument(number: usize) -> String {
    format!("CHAOS{number}")
}

/// Where the members listen now.
pub type Addresses = Arc<Mutex<Vec<String>>>;

/// The senders of one stretch between two times of calm.
pub struct Traffic {
    stopping: Arc<AtomicBool>,
    accepted: Arc<AtomicUsize>,
    senders: Vec<AbortOnDropHandle<()>>,
}

struct Sender {
    client: reqwest::Client,
    addresses: Addresses,
    seed: Seed,
    accepted: Arc<AtomicUsize>,
    resting: bool,
}

// === impl Traffic ===

impl Traffic {
    /// Starts one sender an instrument; the number of the stretch makes its signals' ids unique. Where stops rest, senders wait
    /// for their exits.
    pub fn start(
        client: &reqwest::Client,
        addresses: &Addresses,
        stretch: usize,
        resting: bool,
        seed: &mut Seed,
    ) -> Self {
        let stopping = Arc::new(AtomicBool::new(false));
        let accepted = Arc::new(AtomicUsize::new(0));
        let senders = (0..INSTRUMENTS).map(|number| {
            let sender = Sender {
                client: client.clone(),
                addresses: Arc::clone(addresses),
                seed: seed.fork(),
                accepted: Arc::clone(&accepted),
                resting,
            };
            AbortOnDropHandle::new(tokio::spawn(sender.trade(number, stretch, Arc::clone(&stopping))))
        });
        Self { senders: senders.collect(), stopping, accepted }
    }

    /// Lets every sender finish: what it has begun to deliver is accepted. Gives the number of signals.
    pub async fn stop(self) -> usize {
        self.stopping.store(true, Ordering::Relaxed);
        for sender in self.senders {
            sender.await.unwrap();
        }
        self.accepted.load(Ordering::Relaxed)
    }
}

// === impl Sender ===

impl Sender {
    async fn trade(mut self, number: usize, stretch: usize, stopping: Arc<AtomicBool>) {
        let name = instrument(number);
        for round in 0.. {
            for leg in ["in", "out"] {
                tokio::time::sleep(self.seed.duration(PAUSE)).await;
                let id = format!("{name}-{stretch}-{round}-{leg}");
                let body = match leg {
                    "in" => base(&id, &name, PRICE),
                    _ => exit(&id, &name, "ALL", PRICE),
                };
                let accepted = self.deliver(&body).await;
                self.accepted.fetch_add(1, Ordering::Relaxed);
                // Some senders send twice, as TradingView does after a timeout.
                if self.seed.below(5) == 0 {
                    self.deliver(&body).await;
                }
                // Most exits come after their entries were carried out; some overtake them.
                if leg == "in" && self.seed.below(3) > 0 {
                    let _ = tokio::time::timeout(ENTRY_PATIENCE, self.end_of(&accepted)).await;
                }
                // Nobody needs the end of the last one: that it comes to rest is looked at then.
                if leg == "out" && self.resting && !stopping.load(Ordering::Relaxed) {
                    let _ = tokio::time::timeout(EXIT_PATIENCE, self.end_of(&accepted)).await;
                }
            }
            if stopping.load(Ordering::Relaxed) {
                return;
            }
        }
    }

    /// Waits until any member says that a signal has its end.
    async fn end_of(&mut self, id: &str) {
        for turn in 0.. {
            let url = format!("{}/api/v1/signals/{id}", self.address(turn));
            let answer = self.client.get(url).timeout(PATIENCE).send().await;
            if let Ok(answer) = answer
                && let Ok(view) = answer.json::<Value>().await
                && view["finished_at"].is_string()
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn address(&self, turn: usize) -> String {
        let addresses = self.addresses.lock().unwrap();
        addresses[turn % addresses.len()].clone()
    }

    /// Delivers to one member after the other until one has accepted it; gives the id it answered.
    async fn deliver(&mut self, body: &Value) -> String {
        for turn in self.seed.below(INSTRUMENTS).. {
            let address = self.address(turn);
            let request = self.client.post(format!("{address}/webhook")).bearer_auth(TOKEN).json(body);
            if let Ok(answer) = request.timeout(PATIENCE).send().await {
                match answer.status() {
                    StatusCode::ACCEPTED | StatusCode::OK => {
                        // An answer that is cut off short is no answer.
                        if let Ok(answer) = answer.json::<Value>().await {
                            return answer["id"].as_str().expect("an accepted signal has an id").to_owned();
                        }
                    }
                    StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {}
                    other => panic!("{other} for {body}: {}", answer.text().await.unwrap_or_default()),
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        unreachable!("the turns do not end")
    }
}
