//! Statements that are planned once for as long as their connection lives.
//!
//! A statement that is given as text is sent to be parsed and planned first, and its answer awaited, then run, then
//! forgotten. Most of the ledger's are short and come again and again, many under the leadership row's lock: so each
//! connection keeps those that are run by the methods here. Their text must be one of few, never made of values.

use std::future::Future;

use deadpool_postgres::GenericClient;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Row};

/// A statement's values.
type Values<'a> = &'a [&'a (dyn ToSql + Sync)];

/// What a connection or a transaction runs by a statement of its cache.
pub(super) trait Planned: GenericClient {
    /// Runs a statement; gives how many rows it changed.
    fn run(&self, sql: &str, values: Values<'_>) -> impl Future<Output = Result<u64, Error>> + Send {
        async { self.execute(&self.prepare_cached(sql).await?, values).await }
    }

    /// Reads rows.
    fn rows(&self, sql: &str, values: Values<'_>) -> impl Future<Output = Result<Vec<Row>, Error>> + Send {
        async { self.query(&self.prepare_cached(sql).await?, values).await }
    }

    /// Reads the one row that there is.
    fn row(&self, sql: &str, values: Values<'_>) -> impl Future<Output = Result<Row, Error>> + Send {
        async { self.query_one(&self.prepare_cached(sql).await?, values).await }
    }

    /// Reads the row if there is one.
    fn maybe_row(
        &self,
        sql: &str,
        values: Values<'_>,
    ) -> impl Future<Output = Result<Option<Row>, Error>> + Send {
        async { self.query_opt(&self.prepare_cached(sql).await?, values).await }
    }
}

impl<C: GenericClient> Planned for C {}
