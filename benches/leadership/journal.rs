//! The journal statement with its fence, beside a bare commit of the same row.

use std::time::{Duration, Instant};

use baton::domain::order::OrderClass;
use indicatif::ProgressBar;
use uuid::Uuid;

use crate::rows::{journal, row, statement};
use crate::shared::commit::bare;
use crate::support::database::Database;

/// Times of the bare and of the fenced statement, taken in turn on one session.
pub async fn times(rounds: usize, progress: &ProgressBar) -> (Vec<Duration>, Vec<Duration>) {
    let database = Database::start().await;
    let session = database.connect().await;
    let epoch: i64 =
        session.query_one("SELECT epoch FROM leadership", &[]).await.expect("it is migrated").get(0);
    let statements = [session.prepare(&bare()).await.expect("it is a statement"), statement(&session).await];
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..rounds + 20 {
        for (statement, times) in statements.iter().zip(&mut times) {
            let rows = vec![row(OrderClass::Entry, Uuid::now_v7(), 1)];
            let begun = Instant::now();
            let done = journal(&session, statement, epoch, rows).await;
            let took = begun.elapsed();
            assert_eq!(done.map(|ids| ids.len()), Some(1), "one row is committed");
            // The first ones read catalogues and files.
            if round >= 20 {
                times.push(took);
            }
        }
        progress.inc(1);
    }
    let [bare, fenced] = times;
    (bare, fenced)
}
