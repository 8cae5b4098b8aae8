//! What can go wrong between the agent and its database.

use ha::Epoch;
use tokio_postgres::error::SqlState;

use super::cells::UnreadableCell;

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
    /// An operator's word that contradicts what is known of an order.
    #[error(
        "order {intent} is {found}, so it cannot be called {wanted}: an order in doubt takes any end, one that is \
         acknowledged or partially_filled only cancelled or rejected; nothing was written"
    )]
    Unresolvable {
        /// The order's intent.
        intent: uuid::Uuid,
        /// What is known of it.
        found: String,
        /// What was said.
        wanted: String,
    },
    /// Rows hold what this version cannot read; every such cell is listed.
    #[error("{}", join(.0))]
    Unreadable(Vec<UnreadableCell>),
    /// The migrations failed.
    #[error("the database could not be migrated")]
    Migrate(#[source] refinery::Error),
    /// A newer version of Baton has migrated this database, and what this one needs of it is not there any more.
    #[error(
        "the database is at schema version {found}, which takes binaries that know {floor} or later; this one knows {known}: \
         run the newer baton, or restore a backup taken before the upgrade"
    )]
    SchemaTooNew {
        /// The database's version.
        found: i32,
        /// What a binary has to know at least.
        floor: i32,
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

    /// True when another transaction changed a row first: who looks once more sees what is there now.
    pub(super) fn is_overtaken(&self) -> bool {
        matches!(self, Self::Query { source, .. } if source.code() == Some(&SqlState::T_R_SERIALIZATION_FAILURE))
    }

    /// True when the database was reached and said no to what was to be written: nothing was.
    pub fn is_refusal(&self) -> bool {
        !self.is_transient() && !matches!(self, Self::Fenced(_))
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

    /// True when a server is there and said no: too many connections, no such database, no such user. One that is starting
    /// or stopping is as good as away.
    pub fn is_answer(&self) -> bool {
        let said = match self {
            Self::Query { source, .. } | Self::Connect(deadpool_postgres::PoolError::Backend(source)) => {
                source
            }
            _ => return false,
        };
        said.code().is_some_and(|code| !code.code().starts_with("57"))
    }

    /// True for a statement that was not tried, because one before it in its transaction had failed.
    pub(super) fn is_aborted_transaction(&self) -> bool {
        matches!(self, Self::Query { source, .. } if source.code().is_some_and(|code| code.code() == "25P02"))
    }

    /// True when what is stored cannot be understood, as opposed to not being reachable: a cell of no known meaning, a
    /// table or column that is missing or closed to us, a damaged page.
    pub fn is_corruption(&self) -> bool {
        match self {
            Self::Unreadable(_) => true,
            Self::Query { source, .. } => source.code().is_some_and(|code| {
                let class = &code.code()[..2];
                // Data exceptions, undefined or forbidden objects, internal errors (XX001 is a corrupted page).
                matches!(class, "22" | "42" | "XX")
            }),
            _ => false,
        }
    }
}

fn join(cells: &[UnreadableCell]) -> String {
    cells.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
