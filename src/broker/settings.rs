//! The bridge client's settings and what makes them unusable.

use std::fmt;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use super::dns::Resolver;
use super::plugin::Plugin;
use super::types::BridgeMode;

/// Where the bridge is and how to talk to it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The bridge's root, e.g. `http://127.0.0.1:5000`; `/api/v1/` is appended.
    pub url: String,
    /// A PEM file of certificates to trust besides the system's, for a bridge with one of its own making.
    pub ca_file: Option<PathBuf>,
    /// The bridge's API key; travels in request bodies, appears in no log.
    pub api_key: SecretString,
    /// The mode this agent is armed for; an answer in the other mode is an error state.
    pub mode: BridgeMode,
    /// The broker plugin behind the bridge, whose words are spoken there.
    pub plugin: Plugin,
    /// H: the time limit of one order call, from the caller's request to the complete answer.
    pub order_timeout: Duration,
    /// U: how long written bytes may stay unacknowledged before the kernel drops the connection.
    pub user_timeout: Duration,
    /// The time limit of one attempt of a read.
    pub read_timeout: Duration,
    /// Attempts of a read that failed at once (refused connection, 429, 5xx). Timeouts are not repeated.
    pub read_attempts: usize,
    /// Connections kept open and idle for orders. 0 = connect for every order: needed only for a bridge whose
    /// server has a single synchronous worker, which an idle connection would occupy.
    pub warm_connections: usize,
    /// How long an idle connection may be kept before it is replaced. Keep it below the bridge's own idle limit
    /// (gunicorn: 2 s): a close that crosses an order leaves the order in doubt.
    pub idle_limit: Duration,
    /// Order requests (place, modify, cancel) within any second; `None` lifts the limit.
    pub orders_per_second: Option<NonZeroU32>,
    /// How many of those a second entries may never use.
    pub exit_reserve_per_second: u32,
    /// Where the cluster counts its orders; `None` for a process that is all there is of it.
    pub shared_budget: Option<SharedBudget>,
    /// Finds the bridge's address.
    pub resolver: Resolver,
}

/// The Redis in which the members of a cluster count their orders together.
#[derive(Clone)]
pub struct SharedBudget {
    /// The way to it; carries passwords.
    pub redis: ha::Redis,
    /// The cluster's name.
    pub cluster: String,
}

impl Settings {
    /// The defaults for the bridge at `url`: analyze mode, any plugin, H = 5 s, U = 2 s, 3 orders a second, 1 of them
    /// reserved for exits.
    pub fn new(url: impl Into<String>, api_key: impl Into<SecretString>) -> Self {
        Self {
            url: url.into(),
            ca_file: None,
            api_key: api_key.into(),
            mode: BridgeMode::Analyze,
            plugin: Plugin::ANY,
            order_timeout: Duration::from_secs(5),
            user_timeout: Duration::from_secs(2),
            read_timeout: Duration::from_secs(5),
            read_attempts: 3,
            warm_connections: 2,
            idle_limit: Duration::from_secs(1),
            orders_per_second: NonZeroU32::new(3),
            exit_reserve_per_second: 1,
            shared_budget: None,
            resolver: Resolver::default(),
        }
    }
}

impl fmt::Debug for SharedBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedBudget").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

/// Settings that cannot work.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// Not a URL of a bridge.
    #[error("broker.url {url:?} is no bridge address ({problem}); use for example http://127.0.0.1:5000")]
    Url {
        /// What was configured.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The order budget leaves nothing for exits or nothing for entries.
    #[error(
        "an exit reserve of {reserve} a second does not fit into {total} orders a second; keep 1 ≤ reserve < total"
    )]
    Reserve {
        /// The configured reserve.
        reserve: u32,
        /// The configured total.
        total: u32,
    },
    /// The cluster's count cannot be reached by what is configured.
    #[error("the cluster's orders cannot be counted: {problem}; check redis.url")]
    SharedBudget {
        /// What is wrong with it.
        problem: String,
    },
    /// A time limit of zero.
    #[error("broker.{name} must be longer than zero")]
    Zero {
        /// The setting.
        name: &'static str,
    },
    /// The trust anchors for https could not be loaded.
    #[error("no trusted certificates for {url}: {problem}; install ca-certificates, or check broker.ca_file")]
    Certificates {
        /// The bridge's address.
        url: String,
        /// What failed.
        problem: String,
    },
    /// The HTTP client for reads could not be built.
    #[error("cannot build the HTTP client for reads")]
    Client(#[source] reqwest::Error),
}
