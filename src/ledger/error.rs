//! What can go wrong between the agent and its database.

use ha::Epoch;

use crate::domain::order::UnknownName;

/// A ledger operation that did not happen.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// No connection could be had from the pool.
    #[error("no connection to PostgreSQL")]
    Connect(#[source] deadpool_postgres::PoolError),
    /// The connection URL does not parse.
    #[error("the PostgreSQL URL is not usable")]
    Url(#[source] tokio_postgres::Error),
    /// The pool could not be built.
    #[error("the PostgreSQL pool could not be built")]
    Pool(#[source] deadpool_postgres::BuildError),
    /// The database refused or lost a statement.
    #[error("PostgreSQL failed to {operation}")]
    Query {
        /// What was attempted, as a verb phrase.
        operation: &'static str,
        /// The driver's error.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The database did not answer in time; whether it did what was asked is not known.
    #[error("PostgreSQL did not answer within {within_ms} ms")]
    TimedOut {
        /// The time limit in milliseconds.
        within_ms: u128,
    },
    /// The leadership that the write was made under is over.
    #[error("epoch {0} no longer leads; nothing was written")]
    Fenced(Epoch),
    /// Another writer changed the row since it was read.
    #[error("{what} changed since it was read; nothing was written")]
    Conflict {
        /// Which row.
        what: String,
    },
    /// A row holds what this version cannot read.
    #[error("row {row} of {table} cannot be read")]
    Unreadable {
        /// The table.
        table: &'static str,
        /// Its key.
        row: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The migrations failed.
    #[error("the database could not be migrated")]
    Migrate(#[source] refinery::Error),
    /// A newer version of Baton has migrated this database.
    #[error(
        "the database is at schema version {found}, newer than this binary's {known}: run the newer baton, or restore a backup taken before the upgrade"
    )]
    SchemaTooNew {
        /// The database's version.
        found: i32,
        /// The newest version this binary knows.
        known: i32,
    },
    /// The database was never migrated, or not far enough.
    #[error("the database is at schema version {found}, this binary needs {known}: run `baton migrate`")]
    SchemaTooOld {
        /// The database's version, 0 if there is none.
        found: i32,
        /// The version this binary needs.
        known: i32,
    },
    /// Another cluster trades this account.
    #[error(
        "broker account {account} already belongs to cluster {owner}: two clusters on one account double orders. Stop that cluster and delete its account_guard row, or use another account"
    )]
    AccountTaken {
        /// The account.
        account: String,
        /// The cluster that holds it.
        owner: String,
    },
}

impl LedgerError {
    /// Names the operation that failed: `client.query(…).await.map_err(LedgerError::during("load fills"))`.
    pub(crate) fn during(operation: &'static str) -> impl Fn(tokio_postgres::Error) -> Self {
        move |source| Self::Query { operation, source }
    }

    /// A stored name that this version does not know.
    pub(crate) fn unreadable(table: &'static str, row: impl ToString) -> impl Fn(UnknownName) -> Self {
        let row = row.to_string();
        move |source| Self::Unreadable { table, row: row.clone(), source: Box::new(source) }
    }

    /// True when trying again later may help: the database was not reached or broke the connection.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Connect(_) | Self::TimedOut { .. } => true,
            Self::Query { source, .. } => source.code().is_none_or(|code| {
                let class = &code.code()[..2];
                // Connection failures, shutdown and start-up, too many connections, lock and deadlock.
                matches!(class, "08" | "57" | "53" | "40" | "55")
            }),
            _ => false,
        }
    }

    /// True when the database knows neither this user nor this password.
    pub fn is_refused_login(&self) -> bool {
        let database = match self {
            Self::Query { source, .. } | Self::Connect(deadpool_postgres::PoolError::Backend(source)) => {
                source
            }
            _ => return false,
        };
        database.code().is_some_and(|code| code.code().starts_with("28"))
    }

    /// True when what is stored cannot be understood, as opposed to not being reachable.
    pub fn is_corruption(&self) -> bool {
        matches!(self, Self::Unreadable { .. })
    }
}
