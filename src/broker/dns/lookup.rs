//! One way to ask for a name: the system's, or a server of our choice.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;

/// How long the system's answers are kept: it gives none of the servers' times.
const SYSTEM_TTL: Duration = Duration::from_secs(30);

/// Addresses, at least one, and how long they hold.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub addresses: Vec<IpAddr>,
    pub ttl: Duration,
}

/// Asks for the addresses of a name; the error says why there are none.
pub(super) trait Lookup: Send + Sync {
    fn lookup<'a>(&'a self, host: &'a str) -> BoxFuture<'a, Result<Answer, String>>;
}

/// The system's resolver, with its hosts file and search domains.
#[derive(Default)]
pub(super) struct System {
    /// A call of the system cannot be given up: while one for a name hangs, no second one for it is made, or threads
    /// would pile up.
    hanging: Arc<Mutex<HashSet<String>>>,
}

/// One DNS server.
pub(super) struct Server {
    address: SocketAddr,
    resolver: Result<TokioResolver, String>,
}

/// No answer counts that holds no address: broken resolvers say "success" and nothing.
fn checked(addresses: Vec<IpAddr>, ttl: Duration) -> Result<Answer, String> {
    if addresses.is_empty() { Err("an empty answer".to_owned()) } else { Ok(Answer { addresses, ttl }) }
}

// === impl System ===

fn hanging(names: &Mutex<HashSet<String>>) -> MutexGuard<'_, HashSet<String>> {
    names.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Lookup for System {
    fn lookup<'a>(&'a self, host: &'a str) -> BoxFuture<'a, Result<Answer, String>> {
        let host = host.to_owned();
        async move {
            if !hanging(&self.hanging).insert(host.clone()) {
                return Err("the system's resolver still hangs".to_owned());
            }
            let asked = Arc::clone(&self.hanging);
            // A task of its own: it ends when the system answers, not when its caller gives up.
            let found = tokio::spawn(async move {
                let found = tokio::net::lookup_host((host.as_str(), 0)).await;
                hanging(&asked).remove(&host);
                found.map(|addresses| addresses.map(|address| address.ip()).collect::<Vec<_>>())
            });
            match found.await {
                Ok(Ok(addresses)) => checked(addresses, SYSTEM_TTL),
                Ok(Err(error)) => Err(error.to_string()),
                Err(error) => Err(error.to_string()),
            }
        }
        .boxed()
    }
}

// === impl Server ===

impl Server {
    /// The server at `address`, with this long for one answer.
    pub fn new(address: SocketAddr, timeout: Duration) -> Self {
        let mut connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()];
        for connection in &mut connections {
            connection.port = address.port();
        }
        let server = NameServerConfig::new(address.ip(), true, connections.into());
        let config = ResolverConfig::from_name_servers(vec![server]);
        let mut options = ResolverOpts::default();
        options.timeout = timeout;
        options.attempts = 1;
        options.cache_size = 0;
        options.use_hosts_file = ResolveHosts::Never;
        options.ip_strategy = LookupIpStrategy::Ipv4thenIpv6;
        let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        let resolver = builder.with_options(options).build().map_err(|error| error.to_string());
        Self { address, resolver }
    }
}

impl Lookup for Server {
    fn lookup<'a>(&'a self, host: &'a str) -> BoxFuture<'a, Result<Answer, String>> {
        async move {
            let failed = |problem: String| format!("{}: {problem}", self.address);
            let resolver = self.resolver.as_ref().map_err(|problem| failed(problem.clone()))?;
            // Ends in a dot: another's search domains say nothing here.
            let name = format!("{}.", host.trim_end_matches('.'));
            let found = resolver.lookup_ip(name).await.map_err(|error| failed(error.to_string()))?;
            let ttl = found.valid_until().saturating_duration_since(Instant::now());
            checked(found.iter().collect(), ttl).map_err(failed)
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_does_not_wait_for_another() {
        let system = System::default();
        let (one, other) = tokio::join!(system.lookup("localhost"), system.lookup("127.0.0.1"));
        assert!(one.is_ok() && other.is_ok(), "{one:?} {other:?}");
        let (one, again) = tokio::join!(system.lookup("localhost"), system.lookup("localhost"));
        assert!(one.is_ok(), "{one:?}");
        assert_eq!(again.unwrap_err(), "the system's resolver still hangs");
    }
}
