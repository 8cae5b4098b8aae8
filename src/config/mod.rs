//! The configuration: one typed tree, read once at the start and then passed down by reference.
//!
//! Defaults, then the file (`baton.toml`), then the environment (`BATON_SECTION__KEY`, and a few well-known names,
//! see [`ALIASES`]); every secret also as `…_FILE`. Reading never stops at the first fault: [`load`] gives a
//! [`Config`] in which every relation of the protocol holds (HA.md "Constants"), or every fault with its key, what
//! was found and what is allowed. Keys carry their unit (`renew_ms`); in the tree they are [`Duration`]s.
//!
//! [`Duration`]: std::time::Duration

mod broker;
mod charges;
mod cluster;
mod dns;
mod fault;
mod feed;
mod fingerprint;
mod health;
mod instruments;
mod layers;
mod nearest;
mod notify;
mod overlay;
mod process;
mod reader;
mod redact;
mod secrets;
mod show;
mod signals;
mod stores;
mod strategies;
mod timing;
mod tls;
mod traces;
mod trading;

pub use broker::{Broker, Mode};
pub use cluster::{Cluster, Flapping, Http};
pub use dns::Dns;
pub use fault::{Error, Fault, Faults, Problem, Source};
pub use feed::Feed;
pub use health::Health;
pub use layers::{ALIASES, Alias, DEFAULT_FILE, Inputs};
pub use notify::{Commands, Notify, Smtp, Throttle};
pub use process::{Emergency, ExitPolicy, Log, LogFormat, OPERATOR_HEADER, Operator, Recovery, Shutdown};
pub use redact::Redactor;
pub use secrets::Secret;
pub use show::{Entry, HIDDEN};
pub use signals::Signals;
pub use stores::{Postgres, Redis, Sentinel};
pub use strategies::Strategy;
pub use timing::Timing;
pub use traces::Traces;
pub use trading::Trading;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use secrecy::SecretString;

use crate::domain::charges::Schedule;
use crate::domain::instrument::Catalog;
use crate::domain::policy::RestingStops;
use layers::Layers;
use reader::Reader;

/// The whole configuration, validated.
#[derive(Clone, Debug)]
pub struct Config {
    /// Who this member is, and in which cluster.
    pub cluster: Cluster,
    /// The HTTP interface.
    pub http: Http,
    /// The ledger's database.
    pub postgres: Postgres,
    /// The lease's and registry's store.
    pub redis: Redis,
    /// The protocol's constants.
    pub timing: Timing,
    /// The bridge to the broker.
    pub broker: Broker,
    /// How the bridge's name is resolved.
    pub dns: Dns,
    /// Live prices.
    pub feed: Feed,
    /// Who may send signals, and how large.
    pub signals: Signals,
    /// Who may change things.
    pub operator: Operator,
    /// Capital and trading policy.
    pub trading: Trading,
    /// What may be traded.
    pub instruments: Catalog,
    /// What trading costs.
    pub charges: Schedule,
    /// Strategies beside `default`, by name.
    pub strategies: BTreeMap<String, Strategy>,
    /// Notification channels and limits.
    pub notify: Notify,
    /// Checks, waiting, and the guard against restart storms.
    pub health: Health,
    /// What is logged, and how.
    pub log: Log,
    /// Where traces go.
    pub traces: Traces,
    /// An operator's close without the database.
    pub emergency: Emergency,
    /// Retries of crash recovery.
    pub recovery: Recovery,
    /// The budget of a clean stop.
    pub shutdown: Shutdown,
    /// Every key with its value and source; secrets hidden.
    pub entries: Vec<Entry>,
}

impl Config {
    /// The base URL that other instances and operators reach this one by: the configured one, else the address
    /// that was bound (with the member's name where that is a wildcard).
    pub fn address(&self, bound: SocketAddr) -> String {
        self.cluster.address.clone().unwrap_or_else(|| cluster::derived_address(&self.cluster.member, bound))
    }
}

impl Config {
    /// What is allowed and has a danger that is not plain to see: a sentence each, said by `baton config check`, at every start and by
    /// `baton doctor`.
    pub fn warnings(&self) -> Vec<String> {
        let bare = self.broker.mode == Mode::Live && self.trading.policy.stops.resting == RestingStops::Off;
        let stops = "orders are real and stops do not rest at the broker: while no instance leads, or the bridge is away, nothing \
                     sells when a price falls below a stop; trading.stops.resting = \"on\" puts them there (docs/adr/0024 says \
                     what it costs)";
        let headless = self.operator.token.is_none() && !self.http.listen.ip().is_loopback();
        let commands = "nobody can command this instance: it listens beyond loopback and has no operator.token, so it refuses halt, \
                        close, flatten and handover (OPERATOR_DISABLED); set BATON_OPERATOR__TOKEN (or …_FILE) on every instance";
        let all = [(bare, stops), (headless, commands)];
        all.into_iter().filter(|(holds, _)| *holds).map(|(_, sentence)| sentence.to_owned()).collect()
    }
}

/// Reads and validates the configuration.
///
/// # Errors
/// The file cannot be read or is no TOML; else every fault at once.
pub fn load(inputs: &Inputs) -> Result<Config, Error> {
    let mut reader = Reader::new(Layers::read(inputs)?);
    let config = sections(&mut reader, inputs);
    let entries = reader.finish().map_err(Error::Faults)?;
    Ok(Config { entries, ..config })
}

/// Every setting's default with its range, whatever is set: for people who ask what can be set at all.
pub fn defaults(inputs: &Inputs) -> Vec<Entry> {
    let mut reader = Reader::new(Layers::none());
    sections(&mut reader, inputs);
    reader.into_entries()
}

/// Every secret that a configuration may have, set or not, with what is wrong with each; whatever else is missing or broken.
///
/// # Errors
/// The file cannot be read or is no TOML.
pub fn secrets(inputs: &Inputs) -> Result<Vec<(Secret, Option<Fault>)>, Error> {
    let mut reader = Reader::new(Layers::read(inputs)?);
    sections(&mut reader, inputs);
    let (secrets, mut faults) = reader.into_secrets();
    let of =
        |secret: &Secret, fault: &Fault| fault.key.strip_suffix("_file").unwrap_or(&fault.key) == secret.key;
    let each = secrets.into_iter().map(|secret| {
        let fault = faults.iter().position(|fault| of(&secret, fault)).map(|at| faults.swap_remove(at));
        (secret, fault)
    });
    Ok(each.collect())
}

fn sections(reader: &mut Reader, inputs: &Inputs) -> Config {
    let http = Http::read(reader);
    let cluster = Cluster::read(reader, &inputs.hostname, http.listen);
    let postgres = Postgres::read(reader);
    let redis = Redis::read(reader);
    let timing = Timing::read(reader);
    let broker = Broker::read(reader);
    let dns = Dns::read(reader);
    let feed = Feed::read(reader, &broker.url);
    let signals = Signals::read(reader, http.listen);
    let operator = Operator::read(reader);
    let trading = Trading::read(reader);
    let instruments = instruments::read(reader, &broker);
    let charges = charges::read(reader);
    let strategies = strategies::read(reader, &instruments, feed.stale);
    let notify = Notify::read(reader);
    let health = Health::read(reader);
    let log = Log::read(reader);
    let traces = Traces::read(reader);
    let emergency = Emergency::read(reader);
    let recovery = Recovery::read(reader);
    let shutdown = Shutdown::read(reader);
    Config {
        cluster,
        http,
        postgres,
        redis,
        timing,
        broker,
        dns,
        feed,
        signals,
        operator,
        trading,
        instruments,
        charges,
        strategies,
        notify,
        health,
        log,
        traces,
        emergency,
        recovery,
        shutdown,
        entries: Vec::new(),
    }
}

/// Finds the base URL of the instance that a configuration is for, whatever else in it is missing or broken: whoever
/// asks a running instance needs none of its secrets.
///
/// # Errors
/// The file cannot be read or is no TOML; else the faults of `[http]` and `[cluster]`.
pub fn address(inputs: &Inputs) -> Result<String, Error> {
    let (http, cluster) = part(inputs, |reader| {
        let http = Http::read(reader);
        let cluster = Cluster::read(reader, &inputs.hostname, http.listen);
        (http, cluster)
    })?;
    let listen = reached_from_here(http.listen);
    Ok(cluster.address.unwrap_or_else(|| cluster::derived_address(&cluster.member, listen)))
}

/// Finds where the instance on this machine listens, whatever else is missing or broken.
///
/// # Errors
/// The file cannot be read or is no TOML; else the faults of `[http]`.
pub fn local_address(inputs: &Inputs) -> Result<String, Error> {
    Ok(format!("http://{}", reached_from_here(part(inputs, Http::read)?.listen)))
}

/// A wildcard is listened on by this machine, so loopback reaches it without any name service.
fn reached_from_here(listen: SocketAddr) -> SocketAddr {
    match listen {
        SocketAddr::V4(address) if address.ip().is_unspecified() => {
            (Ipv4Addr::LOCALHOST, address.port()).into()
        }
        SocketAddr::V6(address) if address.ip().is_unspecified() => {
            (Ipv6Addr::LOCALHOST, address.port()).into()
        }
        listen => listen,
    }
}

/// Reads the operator's token, whatever else is missing or broken: for verbs that ask a running instance for a change.
///
/// # Errors
/// The file cannot be read or is no TOML; else the faults of `[operator]`.
pub fn operator_token(inputs: &Inputs) -> Result<Option<SecretString>, Error> {
    part(inputs, |reader| Operator::read(reader).token)
}

/// Reads a sender's token, whatever else is missing or broken.
///
/// # Errors
/// The file cannot be read or is no TOML; else the faults of `signals.token`.
pub fn signals_token(inputs: &Inputs) -> Result<Option<SecretString>, Error> {
    part(inputs, |reader| reader.secret("signals.token"))
}

/// Reads how to log, whatever else is missing or broken: for verbs that need nothing more of a configuration.
///
/// # Errors
/// The file cannot be read or is no TOML; else the faults of `[log]`.
pub fn log(inputs: &Inputs) -> Result<Log, Error> {
    part(inputs, Log::read)
}

/// Reads where notifications go, whatever else is missing or broken, with the cluster's and the member's name.
///
/// # Errors
/// The file cannot be read or is no TOML; else the faults of `[notify]` and `[cluster]`.
pub fn notify(inputs: &Inputs) -> Result<(Notify, Cluster), Error> {
    part(inputs, |reader| {
        let http = Http::read(reader);
        (Notify::read(reader), Cluster::read(reader, &inputs.hostname, http.listen))
    })
}

fn part<T>(inputs: &Inputs, read: impl FnOnce(&mut Reader) -> T) -> Result<T, Error> {
    let mut reader = Reader::new(Layers::read(inputs)?);
    let value = read(&mut reader);
    let faults = reader.into_faults();
    if faults.0.is_empty() { Ok(value) } else { Err(Error::Faults(faults)) }
}

#[cfg(test)]
mod tests;
