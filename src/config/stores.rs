//! `[postgres]` and `[redis]`: where the stores are. Their URLs carry passwords, so they are secrets as a whole.

use redis::IntoConnectionInfo;
use secrecy::{ExposeSecret, SecretString};

use super::reader::Reader;

/// The ledger's database.
#[derive(Clone, Debug)]
pub struct Postgres {
    /// `postgres://user:password@host:port/database`, checked to parse.
    pub url: SecretString,
    /// Connections that requests share; the engine's three, the leader's pinned session and the observer's come on top.
    pub pool_size: usize,
}

/// The lease's and registry's store.
#[derive(Clone, Debug)]
pub struct Redis {
    /// `redis://…` or `rediss://…`, checked to parse.
    pub url: SecretString,
}

impl Postgres {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let url = reader.required_secret("postgres.url");
        let parses = url.expose_secret().parse::<tokio_postgres::Config>();
        let parses =
            parses.is_ok_and(|config| !config.get_hosts().is_empty() || !config.get_hostaddrs().is_empty());
        check(reader, "postgres.url", &url, parses, "postgres://user:password@host:port/database");
        let pool_size = reader.whole("postgres.pool_size", 8, 1..=200, "connections") as usize;
        Self { url, pool_size }
    }
}

impl Redis {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let url = reader.required_secret("redis.url");
        let parses = url.expose_secret().into_connection_info().is_ok();
        check(reader, "redis.url", &url, parses, "redis://:password@host:port/0, or rediss:// for TLS");
        Self { url }
    }
}

/// The parser's own message may quote a password, so only the expected form is said.
fn check(reader: &mut Reader, key: &str, url: &SecretString, parses: bool, allowed: &str) {
    if !url.expose_secret().is_empty() && !parses {
        reader.invalid(key, "a text of another form (not shown)", allowed);
    }
}
