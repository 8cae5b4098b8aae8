//! The live feed: a supervised WebSocket to the bridge's proxy.
//!
//! ```text
//! connect ─ authenticate ─ subscribe (orders, then listings in batches) ─ hear ─┐
//!    ▲                                                                         │ closed, broken, deaf, refused, mute
//!    └──────────── full jitter, for ever ◀─────────────────────────────────────┘
//! ```
//!
//! One task, one socket at a time: a tick of a former socket cannot come. Each socket is a generation, which its request
//! ids carry. A mute one (see `subscriptions`) is replaced by a new socket that authenticates anew, since only that
//! revives a feed whose upstream session was renewed. Where the new one is mute too, the proxy's own link to the broker
//! has stalled, and the proxy makes a new one only after its last client has gone: with several members on one bridge
//! somebody would always be there. So a member leaves such a socket at a moment that all members know, a multiple of twice
//! their patience by the wall clock, and stays away for a moment. The REST rung of the ladder gives the prices meanwhile.
//! Ticks go to the board, where the latest wins; news of orders become notes (see [`super::news`]). Neither queues.

mod backoff;
mod ear;
mod frames;
mod session;
mod socket;
mod subscriptions;
mod time;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::PriceBoard;
use super::news::OrderNews;
use crate::domain::order::{UnknownName, named};
use crate::telemetry::metrics::Metrics;
use backoff::Backoff;
use session::{End, Session};
pub use socket::{BadEndpoint, Endpoint};
pub use time::Time;

/// A socket that lived this long had come up well.
const SETTLED: Duration = Duration::from_secs(10);
/// A refused authentication is not tried again sooner.
const REFUSED: Duration = Duration::from_secs(5);
/// After a mute socket a member is away for so long: longer than what the members' looks at their sockets lie apart.
const AWAY: Duration = Duration::from_millis(1500);

/// How the feed is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LiveState {
    /// Switched off.
    Disabled,
    /// No socket; connecting again and again.
    Connecting,
    /// An authenticated socket.
    Connected,
    /// Connected as it seems, but no tick comes.
    Mute,
}
named!(LiveState { Disabled = "disabled", Connecting = "connecting", Connected = "connected", Mute = "mute" });

/// The feed as others see it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LiveStatus {
    /// How it is.
    pub state: LiveState,
    /// Why.
    pub reason: String,
    /// A socket is open and authenticated.
    pub authenticated: bool,
    /// The number of the present or last socket.
    pub generation: u64,
    /// Listings that the socket is to hear.
    pub subscribed_symbols: usize,
    /// Attempts to connect since the last success.
    pub reconnect_attempts: u32,
    /// Sockets that could not be made or broke, since the start.
    pub network_errors: u64,
}

/// Says whether the market is open: `None` where that is not known.
pub type Hours = dyn Fn() -> Option<bool> + Send + Sync;

/// The supervisor; one per process.
pub struct Live {
    endpoint: Endpoint,
    board: PriceBoard,
    news: OrderNews,
    time: Arc<dyn Time>,
    metrics: Arc<Metrics>,
    /// How long all may be silent in market hours.
    patience: Duration,
    hours: Arc<Hours>,
    status: watch::Sender<LiveStatus>,
    kick: Arc<Notify>,
}

impl Default for LiveStatus {
    fn default() -> Self {
        Self {
            state: LiveState::Disabled,
            reason: "feed.enabled is false".to_owned(),
            authenticated: false,
            generation: 0,
            subscribed_symbols: 0,
            reconnect_attempts: 0,
            network_errors: 0,
        }
    }
}

// === impl Live ===

impl Live {
    /// A feed from `endpoint` to `board`; nothing happens before [`Live::run`].
    pub fn new(
        endpoint: Endpoint,
        board: PriceBoard,
        news: OrderNews,
        time: Arc<dyn Time>,
        metrics: Arc<Metrics>,
        patience: Duration,
    ) -> Self {
        let status = LiveStatus {
            state: LiveState::Connecting,
            reason: "not connected yet".to_owned(),
            ..LiveStatus::default()
        };
        Self {
            endpoint,
            board,
            news,
            time,
            metrics,
            patience,
            hours: Arc::new(|| None),
            status: watch::Sender::new(status),
            kick: Arc::default(),
        }
    }

    /// With the market's hours, outside of which silence is no fault.
    #[must_use]
    pub fn with_hours(mut self, hours: Arc<Hours>) -> Self {
        self.hours = hours;
        self
    }

    /// How it is, and changes of that.
    pub fn status(&self) -> watch::Receiver<LiveStatus> {
        self.status.subscribe()
    }

    /// Notified, it makes a new socket at once: the broker's session has been renewed, say.
    pub fn kick(&self) -> Arc<Notify> {
        Arc::clone(&self.kick)
    }

    /// Feeds the board until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        tokio::select! {
            () = self.supervise() => {}
            () = stop.cancelled() => {}
        }
    }

    async fn supervise(&self) {
        let mut backoff = Backoff::new(self.time.now().elapsed_since_boot().subsec_nanos().into());
        let mut follows_mute = false;
        for generation in 1.. {
            let begun = self.time.now();
            let (end, ticked) = match self.endpoint.connect(&*self.time).await {
                Ok(socket) => {
                    let mut session = Session::new(self, socket, generation, follows_mute);
                    (session.serve().await, session.ticked())
                }
                Err(error) => (End::Closed(format!(": {error}")), false),
            };
            if ticked || self.time.now().since(begun) > SETTLED {
                backoff.succeeded();
            }
            follows_mute = matches!(end, End::Mute { .. }) || follows_mute && !ticked;
            let wait = match &end {
                End::Mute { .. } => AWAY,
                End::Kicked => Duration::ZERO,
                End::Refused { .. } => backoff.next().max(REFUSED),
                _ => backoff.next(),
            };
            self.ended(&end, generation, backoff.attempts(), wait);
            tokio::select! {
                () = self.time.sleep(wait) => {}
                () = self.kick.notified() => {}
            }
        }
    }

    fn ended(&self, end: &End, generation: u64, attempts: u32, wait: Duration) {
        let metrics = &self.metrics;
        metrics.feed_reconnects.with_label_values(&[end.name()]).inc();
        let mute = matches!(end, End::Mute { .. });
        let first = attempts <= 1;
        let wait_ms = wait.as_millis();
        if mute || first {
            tracing::warn!(
                generation,
                wait_ms,
                "LIVE FEED lost: {end}; connecting anew, prices come over REST meanwhile"
            );
        } else {
            tracing::debug!(generation, attempts, wait_ms, "LIVE FEED still down: {end}");
        }
        self.update(|status| {
            status.generation = generation;
            status.authenticated = false;
            status.reconnect_attempts = attempts;
            status.network_errors += u64::from(!mute && !matches!(end, End::Kicked));
            status.reason = end.to_string();
            status.state = if mute { LiveState::Mute } else { LiveState::Connecting };
        });
    }

    /// Changes the status, and the gauges with it; wakes who watches it only if it changed.
    fn update(&self, change: impl FnOnce(&mut LiveStatus)) {
        self.status.send_if_modified(|status| {
            let before = status.clone();
            change(status);
            self.metrics.feed_connected.set(i64::from(status.authenticated));
            self.metrics.feed_mute.set(i64::from(status.state == LiveState::Mute));
            *status != before
        });
    }
}

/// The way of a frame to `board`, for those who measure it: everything that is wanted is listened for.
#[cfg(test)]
pub(crate) fn hearing(board: &PriceBoard, now: ha::Moment) -> impl FnMut(&str, ha::Moment) + use<> {
    let mut ear = ear::Ear::new(board.clone(), OrderNews::default(), Arc::new(Metrics::new()));
    ear.subscriptions.want(&board.wanted().borrow(), now);
    move |frame, at| _ = ear.hear(frame, at).expect("no frame ends the socket")
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
