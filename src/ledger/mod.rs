//! The ledger: PostgreSQL holds the truth, and this is the only room with trading SQL in it.
//!
//! Two kinds of write exist. What authorises a send goes through [`journal::Journal`]: one statement on the
//! leader's pinned session that locks the leadership row (HA.md rule 8). What records an outcome goes through
//! [`Ledger::commit`]: one transaction per state change, which takes the same lock first. Followers write only
//! the inbox, their own operational state, what the bridge says of a day's market ([`Ledger::keep_market_day`]) and
//! nothing else.

pub mod account_day;
pub mod audit;
pub mod books;
pub mod cash;
pub mod cells;
pub mod change;
mod connect;
pub mod contents;
pub mod custody;
pub mod day;
pub mod error;
pub mod errors;
pub mod events;
pub mod exits;
mod failover;
pub mod flapping;
mod flush;
pub mod guard;
pub mod holdings;
pub mod inbox;
pub mod instrument_switches;
pub mod journal;
pub mod listen;
mod market;
mod mend;
pub mod migrate;
mod numeric;
pub mod operational;
pub mod outbox;
mod planned;
pub mod recorded;
pub mod release;
pub mod repair;
pub mod requests;
pub mod reread;
mod resolve;
pub mod restore;
mod rows;
pub mod seals;
pub mod senders;
mod session;
pub mod signals;
pub mod snapshot;
pub mod starts;
pub mod strategies;
pub mod switches;
pub mod switching;
pub mod telegram;
mod told;
pub mod views;
pub mod wishes;
mod witness;
mod writes;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod, Runtime, Timeouts};
use ha::PgTls;
use tokio_postgres::config::TargetSessionAttrs;
use tokio_postgres::{NoTls, Transaction};

pub use change::Change;
pub use error::LedgerError;
use flush::Flushes;
pub use journal::{Journal, JournaledIntent};
use session::Session;

/// How long a statement waits for a pooled connection before it is an error.
const POOL_WAIT: Duration = Duration::from_secs(2);

/// A lazily connected, shared handle to the database; cloning is cheap.
#[derive(Clone)]
pub struct Ledger {
    pool: Pool,
    config: tokio_postgres::Config,
    tls: PgTls,
    flushes: Arc<Flushes>,
}

impl Ledger {
    /// Prepares a pool of at most `size` connections to `url`, without TLS; connects on first use.
    ///
    /// # Errors
    /// [`LedgerError::Url`] when `url` does not parse.
    pub fn new(url: &str, size: usize, application: &str) -> Result<Self, LedgerError> {
        Self::open(url.parse().map_err(LedgerError::Url)?, PgTls::None, size, application)
    }

    /// Prepares a pool of at most `size` connections; connects on first use.
    ///
    /// # Errors
    /// The pool cannot be built.
    pub fn open(
        mut config: tokio_postgres::Config,
        tls: PgTls,
        size: usize,
        application: &str,
    ) -> Result<Self, LedgerError> {
        config
            .application_name(application)
            .connect_timeout(POOL_WAIT)
            .keepalives_idle(Duration::from_secs(5));
        config.tcp_user_timeout(Duration::from_secs(5));
        // A URL with several hosts means the one that is the primary.
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        // A transaction that its process abandoned (paused, cut off) must not hold the leadership row; nor does a session that was closed
        // here wait on for a lock.
        let options = config.get_options().map(|o| format!("{o} ")).unwrap_or_default();
        config.options(format!(
            "{options}-c idle_in_transaction_session_timeout=1500 -c statement_timeout=10000 \
             -c client_connection_check_interval=1000"
        ));
        // What may not answer any more does not go back to the pool in the first place: see `session`.
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = match &tls {
            PgTls::None => Manager::from_config(config.clone(), NoTls, recycling),
            PgTls::Rustls(connector) => Manager::from_config(config.clone(), connector.clone(), recycling),
        };
        let pool = Pool::builder(manager)
            .max_size(size)
            .runtime(Runtime::Tokio1)
            .timeouts(Timeouts { wait: Some(POOL_WAIT), create: Some(POOL_WAIT), recycle: Some(POOL_WAIT) })
            .build()
            .map_err(LedgerError::Pool)?;
        Ok(Self { pool, config, tls, flushes: Arc::default() })
    }

    pub(crate) async fn client(&self) -> Result<Session, LedgerError> {
        self.pool.get().await.map(Session::new).map_err(LedgerError::Connect)
    }

    /// A connection that nobody uses and nobody has to be waited for.
    async fn spare_client(&self) -> Option<Session> {
        let at_once = Timeouts { wait: Some(Duration::ZERO), ..self.pool.timeouts() };
        self.pool.timeout_get(&at_once).await.ok().map(Session::new)
    }

    /// Lets the statements of this transaction take as long as they need: what walks the whole history for an operator is
    /// not bounded like what a leader waits for.
    pub(crate) async fn unhurried(tx: &Transaction<'_>) -> Result<(), LedgerError> {
        tx.batch_execute("SET LOCAL statement_timeout = 0")
            .await
            .map_err(LedgerError::during("lift the statement timeout"))
    }

    /// The database's clock.
    ///
    /// # Errors
    /// Any error of the connection or the statement.
    pub async fn clock(&self) -> Result<DateTime<Utc>, LedgerError> {
        let client = self.client().await?;
        let row = client.query_one("SELECT clock_timestamp()", &[]).await;
        Ok(row.map_err(LedgerError::during("tell the time"))?.get(0))
    }

    /// Checks that the database answers.
    ///
    /// # Errors
    /// Any error of the connection or the statement.
    pub async fn ping(&self) -> Result<(), LedgerError> {
        self.client().await?.simple_query("SELECT 1").await.map_err(LedgerError::during("answer a ping"))?;
        Ok(())
    }
}
