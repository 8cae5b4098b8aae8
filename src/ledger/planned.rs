//! Statements that are planned once for as long as their connection lives.
//!
//! A statement that is given as text is sent to be parsed and planned first, and its answer awaited, then run, then
//! forgotten. Most of the ledger's are short and come again and again, many under the leadership row's lock: so each
//! connection keeps those that are run by the methods here. Their text must be one of few, never made of values.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use deadpool_postgres::{GenericClient, Transaction};
use futures_util::future::{BoxFuture, MaybeDone, maybe_done};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Row};

use super::LedgerError;

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

/// Writes that do not wait for each other's answers: the server is sent all of them, in this order, and runs them in it. Where
/// one fails, those after it fail with it, and its error is given; the transaction is not to be committed then.
///
/// `statements` are what they run first: one that had to be planned on the way would be sent later.
pub(super) async fn in_order(
    tx: &Transaction<'_>,
    statements: &[&str],
    writes: Vec<BoxFuture<'_, Result<(), LedgerError>>>,
) -> Result<(), LedgerError> {
    for statement in statements {
        tx.prepare_cached(statement).await.map_err(LedgerError::during("plan a state change"))?;
    }
    let mut writes: Vec<MaybeDone<_>> = writes.into_iter().map(maybe_done).collect();
    poll_fn(|context| {
        let waits = |write: &mut MaybeDone<_>| Pin::new(write).poll(context).is_pending();
        match writes.iter_mut().map(waits).fold(false, |before, this| before | this) {
            true => Poll::Pending,
            false => Poll::Ready(()),
        }
    })
    .await;
    writes.iter_mut().filter_map(|write| Pin::new(write).take_output()).collect()
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use local::Stores;

    use super::*;
    use crate::ledger::Ledger;

    const KEEP: &str = "INSERT INTO kept (number) VALUES ($1)";
    const DOUBLE: &str = "UPDATE kept SET number = number * 2";

    async fn keep(tx: &Transaction<'_>, number: i32) -> Result<(), LedgerError> {
        tx.run(KEEP, &[&number]).await.map(drop).map_err(LedgerError::during("keep a number"))
    }

    async fn double(tx: &Transaction<'_>) -> Result<(), LedgerError> {
        tx.run(DOUBLE, &[]).await.map(drop).map_err(LedgerError::during("double all numbers"))
    }

    #[tokio::test]
    async fn writes_are_run_in_their_order_and_one_that_fails_undoes_all() {
        let stores = Stores::temporary().await.expect("private stores start");
        let ledger = Ledger::new(&stores.database_url(), 1, "baton-test").unwrap();
        let mut client = ledger.client().await.unwrap();
        client.batch_execute("CREATE TABLE kept (number int PRIMARY KEY)").await.unwrap();
        let tx = client.transaction().await.unwrap();
        let writes =
            vec![keep(&tx, 3).boxed(), double(&tx).boxed(), keep(&tx, 5).boxed(), double(&tx).boxed()];
        in_order(&tx, &[KEEP, DOUBLE], writes).await.unwrap();
        tx.commit().await.unwrap();
        let tx = client.transaction().await.unwrap();
        let writes = vec![keep(&tx, 1).boxed(), keep(&tx, 12).boxed(), keep(&tx, 2).boxed()];
        let error = in_order(&tx, &[KEEP, DOUBLE], writes).await.unwrap_err();
        assert!(error.is_refusal() && !error.is_aborted_transaction(), "the first error is told: {error:?}");
        drop(tx);
        let left = client.query("SELECT number FROM kept ORDER BY number", &[]).await.unwrap();
        let left: Vec<i32> = left.iter().map(|row| row.get(0)).collect();
        assert_eq!(left, [10, 12]);
        stores.stop().await.unwrap();
    }
}
