//! A dedicated PostgreSQL connection: never pooled, settings of its own, its end known at once.
//!
//! The server is told to notice a vanished client even while a statement runs
//! (`client_connection_check_interval`, PostgreSQL 14 and later), so that a lock held by a session frees itself
//! when the process dies, whatever the session was doing.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::future::FutureExt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Mutex, Notify, watch};
use tokio::task::AbortHandle;
use tokio_postgres::config::TargetSessionAttrs;
use tokio_postgres::types::ToSql;
use tokio_postgres::{AsyncMessage, Client, Connection, NoTls, Row, Statement};

use crate::config::{Config, PgTls};

/// A server process, named for good: process ids are used again, with another start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Backend {
    /// Process id of the session's server process.
    pub pid: i32,
    /// When that process started.
    pub start: DateTime<Utc>,
}

/// Which database system, and which of its histories: both change when PostgreSQL fails over to a copy that
/// was promoted (the timeline) or is replaced (the system identifier).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Database {
    /// Made by initdb.
    pub system_identifier: i64,
    /// Eight hexadecimal digits.
    pub timeline: String,
}

/// What a session is for: its `application_name` is `baton/{member}/{purpose}`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose {
    /// Holds the session pin and carries the journal.
    Pin,
    /// Watches; ends sessions that evidence condemns.
    Observer,
    /// Holds the member lock and commits the liveness counter.
    Identity,
    /// Carries out one command of an operator.
    Operator,
}

/// A dedicated connection with its driver task. Dropping it closes the socket.
pub(crate) struct Session {
    pub(crate) client: Client,
    pub(crate) backend: Backend,
    pub(crate) database: Database,
    /// Statements prepared so far, by their text.
    prepared: Mutex<HashMap<&'static str, Statement>>,
    ended: watch::Receiver<Option<Arc<str>>>,
    driver: AbortOnDrop,
}

/// Why a session could not be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error("cannot connect to PostgreSQL: {}", sentence(.0))]
    Connect(tokio_postgres::Error),
    #[error("PostgreSQL did not accept a session within {} ms: check that it is up and not out of connections", .0.as_millis())]
    TimedOut(Duration),
    #[error("cannot set up the session: {}", sentence(.0))]
    SetUp(tokio_postgres::Error),
}

// === impl Session ===

impl Session {
    /// Opens a session within `patience`. `bell` rings at every NOTIFY.
    pub(crate) async fn open(
        config: &Config,
        purpose: Purpose,
        patience: Duration,
        bell: Option<Arc<Notify>>,
    ) -> Result<Self, OpenError> {
        match tokio::time::timeout(patience, Self::open_unbounded(config, purpose, patience, bell)).await {
            Ok(opened) => opened,
            Err(_) => Err(OpenError::TimedOut(patience)),
        }
    }

    async fn open_unbounded(
        config: &Config,
        purpose: Purpose,
        patience: Duration,
        bell: Option<Arc<Notify>>,
    ) -> Result<Self, OpenError> {
        let ttl = config.timing.ttl;
        let mut postgres = config.postgres.clone();
        postgres
            .application_name(format!("baton/{}/{}", config.member, purpose.name()))
            .connect_timeout(patience)
            .tcp_user_timeout(ttl)
            .keepalives(true)
            .keepalives_idle(ttl.max(Duration::from_secs(1)))
            .keepalives_interval(Duration::from_secs(1))
            .keepalives_retries(3)
            .target_session_attrs(TargetSessionAttrs::ReadWrite);
        let (tell_end, ended) = watch::channel(None);
        let (client, driver) = match &config.tls {
            PgTls::None => {
                let (client, connection) = postgres.connect(NoTls).await.map_err(OpenError::Connect)?;
                (client, tokio::spawn(drive(connection, bell, tell_end)).abort_handle())
            }
            PgTls::Rustls(connector) => {
                let (client, connection) =
                    postgres.connect(connector.clone()).await.map_err(OpenError::Connect)?;
                (client, tokio::spawn(drive(connection, bell, tell_end)).abort_handle())
            }
        };
        // From here on a failure or a timeout must not leave the driver behind.
        let driver = AbortOnDrop::new(driver);
        client.batch_execute(&settings(config)).await.map_err(OpenError::SetUp)?;
        let row = client.query_one(WHO_AM_I, &[]).await.map_err(OpenError::SetUp)?;
        let backend = Backend {
            pid: row.try_get(0).map_err(OpenError::SetUp)?,
            start: row.try_get(1).map_err(OpenError::SetUp)?,
        };
        let database = Database {
            system_identifier: row.try_get(2).map_err(OpenError::SetUp)?,
            timeline: row.try_get(3).map_err(OpenError::SetUp)?,
        };
        Ok(Self { client, backend, database, prepared: Mutex::default(), ended, driver })
    }

    /// Runs a statement; from its second time on that is one round trip.
    pub(crate) async fn query(
        &self,
        sql: &'static str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        let statement = self.prepare(sql).await?;
        self.client.query(&statement, params).await
    }

    /// Like [`Session::query`], for a statement that gives exactly one row.
    pub(crate) async fn query_one(
        &self,
        sql: &'static str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Row, tokio_postgres::Error> {
        let statement = self.prepare(sql).await?;
        self.client.query_one(&statement, params).await
    }

    /// Prepares a statement once.
    pub(crate) async fn prepare(&self, sql: &'static str) -> Result<Statement, tokio_postgres::Error> {
        let mut prepared = self.prepared.lock().await;
        if let Some(statement) = prepared.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.client.prepare(sql).await?;
        prepared.insert(sql, statement.clone());
        Ok(statement)
    }

    /// Closes the socket now: statements in hand err, the server frees the session's locks.
    pub(crate) fn close(&self) {
        self.driver.abort();
    }

    /// Waits for the session's end and says what ended it.
    pub(crate) async fn ended(&self) -> Arc<str> {
        let mut ended = self.ended.clone();
        loop {
            if let Some(why) = ended.borrow_and_update().clone() {
                return why;
            }
            if ended.changed().await.is_err() {
                return Arc::from("closed on this side");
            }
        }
    }

    /// The same, without the session at hand.
    pub(crate) fn over(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut ended = self.ended.clone();
        async move {
            // The sender goes with the connection.
            let _ = ended.wait_for(Option::is_some).await;
        }
    }

    /// Whether the session is over.
    pub(crate) fn is_over(&self) -> bool {
        self.client.is_closed() || self.ended().now_or_never().is_some()
    }
}

// === impl Purpose ===

impl Purpose {
    fn name(self) -> &'static str {
        match self {
            Self::Pin => "pin",
            Self::Observer => "observer",
            Self::Identity => "identity",
            Self::Operator => "operator",
        }
    }
}

const WHO_AM_I: &str = "SELECT pg_backend_pid(), a.backend_start, c.system_identifier, \
     substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) \
     FROM pg_stat_get_activity(pg_backend_pid()) a, pg_control_system() c";

/// The settings of every session. Waiting for a lock, sitting in a transaction and talking to a vanished client
/// are all bounded; a commit is never acknowledged before it is durable.
fn settings(config: &Config) -> String {
    let timing = &config.timing;
    format!(
        "SET lock_timeout = {lock}; \
         SET idle_in_transaction_session_timeout = {idle}; \
         SET statement_timeout = 0; \
         SET client_connection_check_interval = {check}; \
         SET default_transaction_isolation = 'read committed'; \
         SELECT set_config('synchronous_commit', 'on', false) \
          WHERE current_setting('synchronous_commit') IN ('off', 'local', 'remote_write');",
        lock = timing.lock_timeout().as_millis().max(1),
        idle = timing.idle_in_transaction().as_millis().max(1),
        check = timing.lock_timeout().as_millis().max(1),
    )
}

async fn drive<S, T>(
    mut connection: Connection<S, T>,
    bell: Option<Arc<Notify>>,
    ended: watch::Sender<Option<Arc<str>>>,
) where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    let why = loop {
        match poll_fn(|cx| connection.poll_message(cx)).await {
            Some(Ok(AsyncMessage::Notification(_))) => {
                if let Some(bell) = &bell {
                    bell.notify_one();
                }
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => break sentence(&error),
            None => break "the connection was closed".to_owned(),
        }
    };
    ended.send_replace(Some(Arc::from(why)));
}

/// An error and its causes, in one line.
pub(crate) fn sentence(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !line.ends_with(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        cause = error.source();
    }
    line
}

/// Aborts a task when dropped.
pub(crate) struct AbortOnDrop(AbortHandle);

impl AbortOnDrop {
    pub(crate) fn new(task: AbortHandle) -> Self {
        Self(task)
    }

    pub(crate) fn abort(&self) {
        self.0.abort();
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
