//! The connection to Redis: a single server, or whichever one a set of sentinels names as the master.
//!
//! One connection at a time. After a failed request the next one connects anew; with sentinels they are asked again
//! each time, so a failover is followed with the first request after it. A master that was demoted refuses writes
//! (`READONLY`), which is such a failure. Connecting goes on in the background, however short the requests' own
//! patience is: a handshake that takes longer than a request may would otherwise never come to its end.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo, RedisError,
    TlsCertificates, TlsMode,
};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use crate::config::Redis;

/// A way to Redis.
pub(crate) struct Line {
    source: Source,
    /// How long a request may take.
    patience: Duration,
    /// How long connecting may take, the sentinels' answer included.
    connect_patience: Duration,
    slot: Mutex<Slot>,
}

/// Where connections come from.
#[derive(Clone)]
enum Source {
    Server(Client),
    Sentinels(Sentinels),
}

/// What is asked of the sentinels, kept as parameters: a [`SentinelClient`] is made for each attempt, since one that
/// was cut off in the middle of a question keeps a connection of which nobody knows what it will say next.
#[derive(Clone)]
struct Sentinels {
    addresses: Vec<ConnectionInfo>,
    master: String,
    /// Credentials, database and transport of the servers.
    servers: ConnectionInfo,
    ca: Option<TlsCertificates>,
}

enum Slot {
    Idle,
    Connecting(JoinHandle<Result<MultiplexedConnection, RedisError>>),
    /// The number tells this connection from the next.
    Open(u64, MultiplexedConnection),
}

/// A connection and which one it is.
pub(crate) struct Lent {
    pub(crate) connection: MultiplexedConnection,
    serial: u64,
}

impl Line {
    /// Reads the addresses; connects at the first request.
    pub(crate) fn new(
        redis: &Redis,
        patience: Duration,
        connect_patience: Duration,
    ) -> Result<Self, RedisError> {
        let ca = redis.ca.clone().map(|pem| TlsCertificates { client_tls: None, root_cert: Some(pem) });
        let servers = redis.url.as_str().into_connection_info()?;
        let source = match &redis.sentinel {
            None => Source::Server(secured(servers, ca.as_ref())?),
            Some(sentinel) => {
                let parsed = sentinel.urls.iter().map(|url| url.as_str().into_connection_info());
                let addresses = parsed.collect::<Result<Vec<_>, _>>()?;
                let sentinels = Sentinels { addresses, master: sentinel.master.clone(), servers, ca };
                sentinels.client()?;
                Source::Sentinels(sentinels)
            }
        };
        Ok(Self { source, patience, connect_patience, slot: Mutex::new(Slot::Idle) })
    }

    /// The open connection, or a new one. A caller that gives up does not end the attempt.
    pub(crate) async fn connection(&self) -> Result<Lent, RedisError> {
        let mut slot = self.slot.lock().await;
        loop {
            *slot = match &mut *slot {
                Slot::Open(serial, connection) => {
                    return Ok(Lent { connection: connection.clone(), serial: *serial });
                }
                Slot::Idle => Slot::Connecting(self.connect()),
                Slot::Connecting(attempt) => {
                    let ended = attempt.await;
                    *slot = Slot::Idle;
                    let connected = ended.unwrap_or_else(|error| {
                        Err((ErrorKind::Io, "the attempt to connect ended", error.to_string()).into())
                    });
                    Slot::Open(next_serial(), connected?)
                }
            };
        }
    }

    /// Forgets a connection on which a request failed.
    pub(crate) async fn forget(&self, serial: u64) {
        let mut slot = self.slot.lock().await;
        if matches!(&*slot, Slot::Open(open, _) if *open == serial) {
            *slot = Slot::Idle;
        }
    }

    fn connect(&self) -> JoinHandle<Result<MultiplexedConnection, RedisError>> {
        let (source, within) = (self.source.clone(), self.connect_patience);
        let settings = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(within))
            .set_response_timeout(Some(self.patience));
        tokio::spawn(async move {
            let connecting = async {
                match source {
                    Source::Server(client) => {
                        client.get_multiplexed_async_connection_with_config(&settings).await
                    }
                    Source::Sentinels(sentinels) => {
                        sentinels.client()?.get_async_connection_with_config(&settings).await
                    }
                }
            };
            tokio::time::timeout(within, connecting).await.unwrap_or_else(|_| {
                let detail = format!("no connection within {} ms", within.as_millis());
                Err((ErrorKind::Io, "connecting took too long", detail).into())
            })
        })
    }
}

impl Lent {
    pub(crate) fn serial(&self) -> u64 {
        self.serial
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Slot::Connecting(attempt) = self.slot.get_mut() {
            attempt.abort();
        }
    }
}

impl Sentinels {
    fn client(&self) -> Result<SentinelClient, RedisError> {
        let tls = |addr: &ConnectionAddr| matches!(addr, ConnectionAddr::TcpTls { .. });
        let addresses: Vec<ConnectionAddr> = self.addresses.iter().map(|info| info.addr().clone()).collect();
        let secured = addresses.iter().all(tls);
        let mut builder = SentinelClientBuilder::new(addresses, &self.master, SentinelServerType::Master)?;
        if let Some(first) = self.addresses.first() {
            if let Some(name) = first.redis_settings().username() {
                builder = builder.set_client_to_sentinel_username(name);
            }
            if let Some(password) = first.redis_settings().password() {
                builder = builder.set_client_to_sentinel_password(password);
            }
        }
        let settings = self.servers.redis_settings();
        builder = builder.set_client_to_redis_db(settings.db());
        if let Some(name) = settings.username() {
            builder = builder.set_client_to_redis_username(name);
        }
        if let Some(password) = settings.password() {
            builder = builder.set_client_to_redis_password(password);
        }
        if tls(self.servers.addr()) {
            builder = builder.set_client_to_redis_tls_mode(TlsMode::Secure);
        }
        if let Some(ca) = &self.ca {
            if tls(self.servers.addr()) {
                builder = builder.set_client_to_redis_certificates(ca.clone());
            }
            if secured {
                builder = builder.set_client_to_sentinel_certificates(ca.clone());
            }
        }
        builder.build()
    }
}

/// A client for one server; the certificates matter only to `rediss://`.
fn secured(server: ConnectionInfo, ca: Option<&TlsCertificates>) -> Result<Client, RedisError> {
    match (server.addr(), ca) {
        (ConnectionAddr::TcpTls { .. }, Some(ca)) => Client::build_with_tls(server, ca.clone()),
        _ => Client::open(server),
    }
}

fn next_serial() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static SERIAL: AtomicU64 = AtomicU64::new(0);
    SERIAL.fetch_add(1, Ordering::Relaxed)
}
