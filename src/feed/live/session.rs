//! One socket, from its authentication to its end: subscribes, hears, pings, and judges itself.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, SinkExt, StreamExt};
use ha::Moment;
use secrecy::ExposeSecret;
use tokio::sync::watch;
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};

use super::ear::Ear;
use super::frames::{self, Incoming, Outgoing, Unwanted};
use super::socket::Socket;
use super::subscriptions::Hearing;
use super::time::within;
use super::{Live, LiveState};
use crate::domain::listing::Listing;
use crate::feed::PriceSource;

/// The longest wait for the answer to the authentication: the bridge may have to reach its broker for it.
const AUTHENTICATION: Duration = Duration::from_secs(15);
/// How often the session looks at itself.
const LOOK: Duration = Duration::from_millis(500);
/// How often it pings.
const PING: Duration = Duration::from_secs(10);
/// With no frame at all for this long, pongs included, the socket is dead whatever the kernel says.
const DEAF: Duration = Duration::from_secs(30);
/// Longer than a proxy that answers its pings is ever silent.
const GAP: Duration = Duration::from_secs(12);
/// A peer that takes nothing for this long is gone.
const SEND: Duration = Duration::from_secs(10);
/// A proxy that is told goodbye has so long to take it.
const CLOSE: Duration = Duration::from_millis(200);
/// Listings in one subscription.
const BATCH: usize = 100;
/// Frames read in one go before timers have their turn.
const BURST: usize = 256;
/// A mode of subscriptions: its name and its number.
type Mode = (&'static str, u8);
/// The last price is all that stops need.
const LTP: Mode = ("LTP", 1);
/// With the day's volume, for the tape.
const QUOTE: Mode = ("Quote", 2);

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum End {
    #[error("the proxy closed the socket{0}")]
    Closed(String),
    #[error("the socket broke: {0}")]
    Broken(#[source] Box<SocketError>),
    #[error("the proxy took nothing for {} s", SEND.as_secs())]
    Stuck,
    #[error("nothing heard for {} s, not even a pong", DEAF.as_secs())]
    Deaf,
    #[error("no answer to the authentication within {} s", AUTHENTICATION.as_secs())]
    NoAnswer,
    #[error("refused: {code}: {message}")]
    Refused { code: String, message: String },
    #[error("mute: no tick of {silent} of {of} listings for {patience_ms} ms")]
    Mute { silent: usize, of: usize, patience_ms: u128 },
    #[error("asked to connect anew")]
    Kicked,
}

impl End {
    /// The stable name, as the metric labels it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Closed(_) => "closed",
            Self::Broken(_) | Self::Stuck | Self::Deaf | Self::NoAnswer => "broken",
            Self::Refused { .. } => "refused",
            Self::Mute { .. } => "mute",
            Self::Kicked => "kicked",
        }
    }
}

/// One authenticated socket at work.
pub(super) struct Session<'a> {
    live: &'a Live,
    socket: Socket,
    generation: u64,
    requests: u64,
    ear: Ear,
    wanted: watch::Receiver<Arc<BTreeSet<Listing>>>,
    /// The socket before it was mute.
    follows_mute: bool,
    /// The common moments that have passed by the last look.
    common_moments: u128,
    heard: Moment,
    /// Since when it is heard without a gap.
    awake: Moment,
    pinged: Moment,
}

impl<'a> Session<'a> {
    pub fn new(live: &'a Live, socket: Socket, generation: u64, follows_mute: bool) -> Self {
        let now = live.time.now();
        Self {
            live,
            socket,
            generation,
            requests: 0,
            ear: Ear::new(live.board.clone(), live.news.clone(), Arc::clone(&live.metrics)),
            wanted: live.board.wanted(),
            follows_mute,
            common_moments: live.common_moments(),
            heard: now,
            awake: now,
            pinged: now,
        }
    }

    /// A tick came on this socket.
    pub fn ticked(&self) -> bool {
        self.ear.ticked
    }

    /// Serves until the socket is of no use any more.
    pub async fn serve(&mut self) -> End {
        match self.work().await {
            Ok(never) => match never {},
            Err(end) => {
                // Politely, if that is quick: the proxy then frees its side at once.
                let _ = within(&*self.live.time, CLOSE, self.socket.close(None)).await;
                end
            }
        }
    }

    async fn work(&mut self) -> Result<std::convert::Infallible, End> {
        self.say(&Outgoing::Authenticate { api_key: self.live.endpoint.api_key.expose_secret() }).await?;
        let live = self.live;
        within(&*live.time, AUTHENTICATION, self.authenticated()).await.ok_or(End::NoAnswer)??;
        let request_id = self.request_id();
        self.say(&Outgoing::SubscribeOrders { request_id }).await?;
        // The stream replays nothing: what happened while nobody listened is in the books.
        self.live.news.note();
        self.renew_subscriptions().await?;
        self.live.connected(self.generation, self.ear.subscriptions.len());
        let mut next_look = live.time.sleep(LOOK);
        loop {
            tokio::select! {
                message = self.socket.next() => {
                    if self.take(message)? {
                        // Who is woken from here waits for this very worker: not until a flood has been read.
                        tokio::task::yield_now().await;
                    }
                }
                // The board, which holds the sender, is held by us.
                Ok(()) = self.wanted.changed() => self.renew_subscriptions().await?,
                () = &mut next_look => {
                    self.look().await?;
                    next_look = live.time.sleep(LOOK);
                }
                () = self.live.kick.notified() => return Err(End::Kicked),
            }
        }
    }

    async fn authenticated(&mut self) -> Result<(), End> {
        loop {
            let message = self.socket.next().await;
            let Some(text) = text(&message)? else { continue };
            match frames::read(text) {
                Ok(Incoming::Authenticated) => return Ok(()),
                Ok(Incoming::Refused { code, message }) => {
                    return Err(End::Refused { code: code.into_owned(), message: message.into_owned() });
                }
                _ => {}
            }
        }
    }

    /// Takes a frame and those that wait behind it, up to one that wakes who watches the board; true for such a one.
    fn take(&mut self, first: Option<Result<Message, SocketError>>) -> Result<bool, End> {
        let now = self.live.time.now();
        if now.since(self.heard) >= GAP {
            self.awake = now;
        }
        self.heard = now;
        let mut next = Some(first);
        let mut left = BURST;
        while let Some(message) = next {
            if let Some(text) = text(&message)?
                && self.ear.hear(text, now)?
            {
                self.live.ticked(self.generation);
            }
            if self.ear.has_woken() {
                return Ok(true);
            }
            left -= 1;
            // What is taken off the socket is heard: nothing is taken beyond the burst.
            next = if left == 0 { None } else { self.socket.next().now_or_never() };
        }
        Ok(false)
    }

    /// Unsubscribes what is wanted no more, subscribes what is due; only the difference is said.
    async fn renew_subscriptions(&mut self) -> Result<(), End> {
        let now = self.live.time.now();
        let wanted = self.wanted.borrow_and_update().clone();
        let gone = self.ear.subscriptions.want(&wanted, now);
        for batch in gone.chunks(BATCH) {
            let of = |listing| Unwanted { listing, mode: self.mode(listing).1 };
            let symbols = batch.iter().map(of).collect();
            let request_id = self.request_id();
            self.say(&Outgoing::Unsubscribe { symbols, request_id }).await?;
        }
        self.subscribe_what_is_due().await
    }

    async fn subscribe_what_is_due(&mut self) -> Result<(), End> {
        let now = self.live.time.now();
        let awake = (now.since(self.heard) < GAP).then_some(self.awake);
        let due = self.ear.subscriptions.due(now, awake);
        let by_mode: (Vec<Listing>, Vec<Listing>) =
            due.into_iter().partition(|listing| self.mode(listing) == LTP);
        for (mode, due) in [(LTP, by_mode.0), (QUOTE, by_mode.1)] {
            for symbols in due.chunks(BATCH) {
                let request_id = self.request_id();
                self.say(&Outgoing::Subscribe { symbols, mode: mode.0, request_id }).await?;
            }
        }
        self.live.subscribed(self.ear.subscriptions.len());
        Ok(())
    }

    /// One mode a listing: two subscriptions of one symbol starve each other at some brokers.
    fn mode(&self, listing: &Listing) -> Mode {
        if self.live.board.tape().listings().contains(listing) { QUOTE } else { LTP }
    }

    async fn look(&mut self) -> Result<(), End> {
        let now = self.live.time.now();
        if now.since(self.heard) > DEAF {
            return Err(End::Deaf);
        }
        if now.since(self.pinged) >= PING {
            self.pinged = now;
            let id = self.request_id();
            let timestamp = chrono::Utc::now().timestamp_millis();
            self.say(&Outgoing::Ping { timestamp, id }).await?;
            self.send(Message::Ping(Vec::new().into())).await?;
        }
        self.subscribe_what_is_due().await?;
        if (self.live.hours)() == Some(false) {
            self.ear.subscriptions.rest(now);
            return Ok(());
        }
        let quoted = |listing: &Listing| {
            let priced = self.live.board.get(listing)?;
            (priced.source == PriceSource::Rest).then_some(priced.price)
        };
        let patience = self.live.patience;
        let hearing = self.ear.subscriptions.hearing(patience, now, quoted);
        let passed = self.live.common_moments();
        let is_common = std::mem::replace(&mut self.common_moments, passed) != passed;
        match hearing {
            Hearing::Mute { silent, of } if is_common || !self.follows_mute || self.ticked() => {
                Err(End::Mute { silent, of, patience_ms: patience.as_millis() })
            }
            Hearing::Mute { .. } | Hearing::Well => Ok(()),
        }
    }

    fn request_id(&mut self) -> String {
        self.requests += 1;
        format!("g{}-{}", self.generation, self.requests)
    }

    async fn say(&mut self, outgoing: &Outgoing<'_>) -> Result<(), End> {
        self.send(Message::text(outgoing.text())).await
    }

    async fn send(&mut self, message: Message) -> Result<(), End> {
        match within(&*self.live.time, SEND, self.socket.send(message)).await {
            Some(Ok(())) => Ok(()),
            Some(Err(error)) => Err(broken(error)),
            None => Err(End::Stuck),
        }
    }
}

/// The text of a message, if it has one; its end, if it is the last.
fn text(message: &Option<Result<Message, SocketError>>) -> Result<Option<&str>, End> {
    match message {
        Some(Ok(Message::Text(text))) => Ok(Some(text.as_str())),
        Some(Ok(Message::Close(close))) => {
            let why = close.as_ref().map(|close| format!(": {} {}", u16::from(close.code), close.reason));
            Err(End::Closed(why.unwrap_or_default()))
        }
        Some(Ok(_)) => Ok(None),
        Some(Err(error)) => Err(End::Closed(format!(": {error}"))),
        None => Err(End::Closed(String::new())),
    }
}

fn broken(error: SocketError) -> End {
    End::Broken(Box::new(error))
}

impl Live {
    /// Moments so far at which all members leave what stays mute.
    fn common_moments(&self) -> u128 {
        self.time.wall().as_millis() / (self.patience * 2).as_millis().max(1)
    }

    fn connected(&self, generation: u64, subscribed: usize) {
        self.update(|status| {
            status.subscribed_symbols = subscribed;
            status.generation = generation;
            status.authenticated = true;
            status.reconnect_attempts = 0;
            // A mute feed is not cured before it ticks.
            if status.state != LiveState::Mute {
                status.state = LiveState::Connected;
                status.reason = "connected".to_owned();
            }
        });
        tracing::info!(generation, subscribed, "LIVE FEED connected");
    }

    fn subscribed(&self, subscribed: usize) {
        self.update(|status| {
            status.subscribed_symbols = subscribed;
            // With nothing to be heard nothing is mute.
            if subscribed == 0 && status.state == LiveState::Mute && status.authenticated {
                status.state = LiveState::Connected;
            }
        });
    }

    fn ticked(&self, generation: u64) {
        self.update(|status| {
            if status.state == LiveState::Mute {
                tracing::info!(generation, "LIVE FEED is heard again");
            }
            status.state = LiveState::Connected;
            status.reason = "ticks come".to_owned();
        });
    }
}
