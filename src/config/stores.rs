//! `[postgres]` and `[redis]`: where the stores are. Their URLs carry passwords, so they are secrets as a whole.

use ha::PgTls;
use redis::IntoConnectionInfo;
use secrecy::{ExposeSecret, SecretString};

use super::reader::Reader;
use super::tls;

/// The ledger's database.
#[derive(Clone, Debug)]
pub struct Postgres {
    /// `postgres://user:password@host:port/database`, checked to parse.
    pub url: SecretString,
    /// The URL as the driver reads it.
    pub session: tokio_postgres::Config,
    /// How connections are protected: the URL's `sslmode`, with the authorities of `ca_file`.
    pub tls: PgTls,
    /// Those authorities, in PEM; the system's if absent.
    pub ca: Option<Vec<u8>>,
    /// Connections that requests share; the engine's three, the leader's pinned session and the observer's come on top.
    pub pool_size: usize,
}

/// The lease's and registry's store.
#[derive(Clone, Debug)]
pub struct Redis {
    /// `redis://…` or `rediss://…`, checked to parse. With sentinels: credentials, database and transport only.
    pub url: SecretString,
    /// Authorities that a TLS server's certificate must be signed by, in PEM; the system's if absent.
    pub ca: Option<Vec<u8>>,
    /// Whom to ask for the master.
    pub sentinel: Option<Sentinel>,
}

/// A set of sentinels.
#[derive(Clone, Debug)]
pub struct Sentinel {
    /// Their URLs, which may carry a password.
    pub urls: Vec<SecretString>,
    /// The name they watch the master under.
    pub master: String,
}

impl Postgres {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let url = reader.required_secret("postgres.url");
        let ca = tls::authority(reader, "postgres.ca_file");
        let (session, tls) = match tls::postgres(url.expose_secret(), ca.as_deref()) {
            Ok(read) => read,
            Err(allowed) => {
                refuse(reader, "postgres.url", &url, &allowed);
                (tokio_postgres::Config::new(), PgTls::None)
            }
        };
        let pool_size = reader.whole("postgres.pool_size", 8, 1..=200, "connections") as usize;
        Self { url, session, tls, ca, pool_size }
    }
}

impl Redis {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let sentinels = reader.secret("redis.sentinels");
        let name = |text: &str| {
            !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        };
        let master =
            reader.text("redis.master", None, "the name that the sentinels watch the master under", name);
        // What the sentinels say needs no host; without credentials nothing is left to say.
        let url = match &sentinels {
            Some(_) => {
                reader.secret("redis.url").unwrap_or_else(|| SecretString::from("redis://sentinels-say"))
            }
            None => reader.required_secret("redis.url"),
        };
        if !is_redis(url.expose_secret()) {
            refuse(reader, "redis.url", &url, "redis://:password@host:port/0, or rediss:// for TLS");
        }
        let ca = tls::authority(reader, "redis.ca_file");
        let sentinel = match (sentinels, master) {
            (Some(list), Some(master)) => {
                let urls: Vec<SecretString> =
                    list.expose_secret().split(',').map(|url| SecretString::from(url.trim())).collect();
                if !urls.iter().all(|url| is_redis(url.expose_secret())) {
                    let allowed =
                        "redis://:password@host:26379,redis://…: one URL a sentinel, with commas between";
                    refuse(reader, "redis.sentinels", &list, allowed);
                }
                Some(Sentinel { urls, master })
            }
            (Some(_), None) if reader.sound(&["redis.master"]) => {
                let advice =
                    "redis.sentinels is set, so say which master: the name in their `sentinel monitor` line";
                reader.missing("redis.master", advice);
                None
            }
            (None, Some(_)) if reader.sound(&["redis.sentinels", "redis.sentinels_file"]) => {
                let advice =
                    "redis.master is set, so say where the sentinels are, with commas between their URLs";
                reader.missing("redis.sentinels", advice);
                None
            }
            _ => None,
        };
        Self { url, ca, sentinel }
    }

    /// The same for the protocol.
    pub fn access(&self) -> ha::Redis {
        let sentinel = self.sentinel.as_ref().map(|sentinel| ha::Sentinel {
            urls: sentinel.urls.iter().map(|url| url.expose_secret().to_owned()).collect(),
            master: sentinel.master.clone(),
        });
        ha::Redis { url: self.url.expose_secret().to_owned(), ca: self.ca.clone(), sentinel }
    }
}

fn is_redis(url: &str) -> bool {
    url.into_connection_info().is_ok()
}

/// The parser's own message may quote a password, so only the expected form is said.
fn refuse(reader: &mut Reader, key: &str, url: &SecretString, allowed: &str) {
    if !url.expose_secret().is_empty() {
        reader.invalid(key, "a text of another form (not shown)", allowed);
    }
}
