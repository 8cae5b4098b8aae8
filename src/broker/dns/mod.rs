//! Names to addresses, for every connection to the bridge: orders, reads and the feed share one [`Resolver`].
//!
//! A resolver that fails must not cost a stop. Three rungs: the system's resolver; when it fails, or says nothing within
//! a fraction of a second, the configured servers beside it, and the first answer wins; when none answers, the last good
//! addresses, however old, and at once while resolvers are known to fail. Answers are kept for their time to live,
//! failures for a moment. One question per name is out at a time, in a task of its own, so that a caller who gives up
//! takes no answer from the next one.

mod lookup;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::{self, Either};
use prometheus::IntCounterVec;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use lookup::{Answer, Lookup, Server, System};

/// With the last good addresses at hand, no caller waits longer for newer ones: a connection for an order has to be made
/// within U. Once a question has failed, nobody waits at all until one is answered.
const PATIENCE: Duration = Duration::from_millis(100);
/// What a caller allows beyond the question's own time, when there is no address to go on with.
const SPARE: Duration = Duration::from_millis(300);
/// How long one address may take to answer while there is another one to try.
const NEXT_ADDRESS: Duration = Duration::from_millis(500);
/// Bounds of the time that an answer is kept.
const KEPT: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(300);

/// How names are resolved.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DnsSettings {
    /// Asked when the system's resolver fails or lingers; may be none.
    pub servers: Vec<SocketAddr>,
    /// The longest that one question may take in all.
    pub timeout: Duration,
    /// How long the system's resolver is alone.
    pub head_start: Duration,
    /// How long a failure is remembered.
    pub negative_ttl: Duration,
}

/// Resolves names; cheap to clone, the clones share what they know.
#[derive(Clone)]
pub struct Resolver(Arc<Inner>);

struct Inner {
    settings: DnsSettings,
    system: Arc<dyn Lookup>,
    servers: Vec<Arc<dyn Lookup>>,
    names: Mutex<HashMap<String, Entry>>,
    counter: Option<IntCounterVec>,
}

/// An attempt to connect; dropped without a connection, its addresses are doubted.
struct Attempt<'a> {
    resolver: &'a Resolver,
    host: &'a str,
    connected: bool,
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if !self.connected {
            self.resolver.doubt(self.host);
        }
    }
}

#[derive(Default)]
struct Entry {
    good: Option<Good>,
    failure: Option<Failure>,
    /// The question that is out.
    question: Option<watch::Receiver<bool>>,
}

#[derive(Clone)]
struct Good {
    addresses: Vec<IpAddr>,
    /// Which rung answered.
    via: &'static str,
    at: Instant,
    until: Instant,
}

struct Failure {
    why: String,
    until: Instant,
}

/// No rung knows the name.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("cannot resolve {host}: {why}; check the name, this host's resolver and dns.servers")]
pub struct ResolveError {
    /// The name.
    pub host: String,
    /// What each rung said.
    pub why: String,
}

/// A name and what is known of it, for display.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KnownName {
    /// The name.
    pub host: String,
    /// The last good addresses.
    pub addresses: Vec<IpAddr>,
    /// Which rung gave them: `system` or `server`.
    pub via: Option<&'static str>,
    /// How long ago they were given.
    pub age: Option<Duration>,
    /// True while they are past their time: no rung answers.
    pub stale: bool,
    /// Why the last question failed, if it did.
    pub failure: Option<String>,
}

impl Default for DnsSettings {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            timeout: Duration::from_secs(2),
            head_start: Duration::from_millis(250),
            negative_ttl: Duration::from_secs(1),
        }
    }
}

// === impl Resolver ===

impl Resolver {
    /// A resolver that begins with the system's; `counter` counts answers by `via`.
    pub fn new(settings: DnsSettings, counter: Option<IntCounterVec>) -> Self {
        Self::with_system(settings, Arc::new(System::default()), counter)
    }

    /// A resolver that asks the server at `system` in place of the system's resolver: for tests, which cannot break
    /// that one.
    pub fn instead_of_system(system: SocketAddr, settings: DnsSettings) -> Self {
        let server = Server::new(system, settings.timeout);
        Self::with_system(settings, Arc::new(server), None)
    }

    fn with_system(settings: DnsSettings, system: Arc<dyn Lookup>, counter: Option<IntCounterVec>) -> Self {
        let server =
            |address: &SocketAddr| Arc::new(Server::new(*address, settings.timeout)) as Arc<dyn Lookup>;
        let servers = settings.servers.iter().map(server).collect();
        Self(Arc::new(Inner { settings, system, servers, names: Mutex::default(), counter }))
    }

    /// The addresses of `host`, at least one.
    ///
    /// # Errors
    /// No rung knows the name, and none ever did.
    pub async fn resolve(&self, host: &str) -> Result<Vec<IpAddr>, ResolveError> {
        if let Ok(literal) = host.parse() {
            return Ok(vec![literal]);
        }
        let (mut question, patience) = {
            let mut names = self.lock();
            let entry = names.entry(host.to_owned()).or_default();
            let now = Instant::now();
            if let Some(good) = entry.good.as_ref().filter(|good| now < good.until) {
                return Ok(good.addresses.clone());
            }
            if entry.failure.as_ref().is_some_and(|failure| now < failure.until) {
                return self.last_good(host, entry);
            }
            let question = match &entry.question {
                Some(question) => question.clone(),
                None => entry.question.insert(self.ask(host.to_owned())).clone(),
            };
            let patience = match (&entry.good, &entry.failure) {
                (Some(_), Some(_)) => Duration::ZERO,
                (Some(_), None) => PATIENCE,
                (None, _) => self.0.settings.timeout + SPARE,
            };
            (question, patience)
        };
        // An answer, its sender gone, or the time up: what is known then is what counts.
        let _ = timeout(patience, question.wait_for(|answered| *answered)).await;
        let mut names = self.lock();
        let entry = names.entry(host.to_owned()).or_default();
        match entry.good.as_ref().filter(|good| Instant::now() < good.until) {
            Some(good) => Ok(good.addresses.clone()),
            None => self.last_good(host, entry),
        }
    }

    /// Connects to the first address of `host` that takes the connection.
    ///
    /// # Errors
    /// The name is not known, or no address takes it.
    pub async fn connect(&self, host: &str, port: u16) -> io::Result<TcpStream> {
        let addresses = self.resolve(host).await.map_err(io::Error::other)?;
        // Also where the caller gives up first: an address that swallows packets gives no answer at all.
        let mut attempt = Attempt { resolver: self, host, connected: false };
        let mut last = io::Error::other("no address");
        for (place, address) in addresses.iter().enumerate() {
            let connecting = TcpStream::connect((*address, port));
            let tried = if place + 1 < addresses.len() {
                timeout(NEXT_ADDRESS, connecting)
                    .await
                    .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            } else {
                connecting.await
            };
            match tried {
                Ok(stream) => {
                    attempt.connected = true;
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// The addresses are of no use: the bridge may have moved. They stay the last good ones, but are asked for anew.
    pub fn doubt(&self, host: &str) {
        if let Some(good) = self.lock().get_mut(host).and_then(|entry| entry.good.as_mut()) {
            good.until = good.until.min(Instant::now());
        }
    }

    /// Every name asked for so far.
    pub fn known(&self) -> Vec<KnownName> {
        let now = Instant::now();
        let mut known: Vec<_> = self
            .lock()
            .iter()
            .map(|(host, entry)| KnownName {
                host: host.clone(),
                addresses: entry.good.as_ref().map(|good| good.addresses.clone()).unwrap_or_default(),
                via: entry.good.as_ref().map(|good| good.via),
                age: entry.good.as_ref().map(|good| now.saturating_duration_since(good.at)),
                stale: entry.failure.is_some(),
                failure: entry.failure.as_ref().map(|failure| failure.why.clone()),
            })
            .collect();
        known.sort_by(|one, other| one.host.cmp(&other.host));
        known
    }

    fn last_good(&self, host: &str, entry: &Entry) -> Result<Vec<IpAddr>, ResolveError> {
        let why = entry.failure.as_ref().map_or("no answer in time", |failure| &failure.why);
        match &entry.good {
            Some(good) => {
                self.count("last_good");
                tracing::debug!(host, why, "[DNS] last good address used");
                Ok(good.addresses.clone())
            }
            None => {
                self.count("failed");
                Err(ResolveError { host: host.to_owned(), why: why.to_owned() })
            }
        }
    }

    /// Sends the question out.
    fn ask(&self, host: String) -> watch::Receiver<bool> {
        let (answered, question) = watch::channel(false);
        let resolver = self.clone();
        tokio::spawn(async move {
            let settings = &resolver.0.settings;
            let found = timeout(settings.timeout, resolver.ask_all(&host)).await;
            let found = found
                .unwrap_or_else(|_| Err(format!("no answer within {} ms", settings.timeout.as_millis())));
            resolver.learn(&host, found);
            // Nobody may wait any more.
            let _ = answered.send(true);
        });
        question
    }

    /// The system first; the servers join it when it fails or lingers.
    async fn ask_all(&self, host: &str) -> Result<(Answer, &'static str), String> {
        let mut system = self.0.system.lookup(host);
        let refusal = match timeout(self.0.settings.head_start, &mut system).await {
            Ok(Ok(answer)) => return Ok((answer, "system")),
            Ok(Err(why)) => Some(why),
            Err(_) => None,
        };
        // A name without a dot is one of this network's own; servers elsewhere know nothing of it.
        if self.0.servers.is_empty() || !host.contains('.') {
            return match refusal {
                Some(why) => Err(why),
                None => system.await.map(|answer| (answer, "system")),
            };
        }
        let servers = self.0.servers.iter().map(|server| server.lookup(host));
        let servers = future::select_ok(servers.map(Box::pin));
        match refusal {
            Some(why) => match servers.await {
                Ok((answer, _)) => Ok((answer, "server")),
                Err(also) => Err(format!("system: {why}; {also}")),
            },
            None => match future::select(system, servers).await {
                Either::Left((Ok(answer), _)) => Ok((answer, "system")),
                Either::Left((Err(why), servers)) => match servers.await {
                    Ok((answer, _)) => Ok((answer, "server")),
                    Err(also) => Err(format!("system: {why}; {also}")),
                },
                Either::Right((Ok((answer, _)), _)) => Ok((answer, "server")),
                Either::Right((Err(why), system)) => match system.await {
                    Ok(answer) => Ok((answer, "system")),
                    Err(also) => Err(format!("system: {also}; {why}")),
                },
            },
        }
    }

    fn learn(&self, host: &str, found: Result<(Answer, &'static str), String>) {
        let mut names = self.lock();
        let entry = names.entry(host.to_owned()).or_default();
        entry.question = None;
        let now = Instant::now();
        match found {
            Ok((answer, via)) => {
                self.count(via);
                let before = entry.good.as_ref();
                let recovered = entry.failure.take().is_some();
                if recovered
                    || before.is_none_or(|good| good.via != via || good.addresses != answer.addresses)
                {
                    tracing::info!(host, via, addresses = ?answer.addresses, "[DNS] {host} resolved by the {via}");
                }
                let until = now + answer.ttl.clamp(*KEPT.start(), *KEPT.end());
                entry.good = Some(Good { addresses: answer.addresses, via, at: now, until });
            }
            Err(why) => {
                if entry.failure.is_none() {
                    let fallback = if entry.good.is_some() {
                        "its last good address is used"
                    } else {
                        "it is not known"
                    };
                    tracing::warn!(host, "[DNS] no resolver gives an address of {host}; {fallback} ({why})");
                }
                entry.failure = Some(Failure { why, until: now + self.0.settings.negative_ttl });
            }
        }
    }

    fn count(&self, via: &str) {
        if let Some(counter) = &self.0.counter {
            counter.with_label_values(&[via]).inc();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        // Entries are replaced whole; nothing panics in between.
        self.0.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Resolver {
    fn default() -> Self {
        Self::new(DnsSettings::default(), None)
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").field("settings", &self.0.settings).finish_non_exhaustive()
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = self.clone();
        Box::pin(async move {
            let addresses = Resolver::resolve(&resolver, name.as_str()).await?;
            // The HTTP client puts the port in.
            let addresses: Addrs = Box::new(addresses.into_iter().map(|address| SocketAddr::new(address, 0)));
            Ok(addresses)
        })
    }
}
