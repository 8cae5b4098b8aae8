//! Signals' rows made durable: one commit for all that wait at a time.
//!
//! A flush of its own for each would stand at the disk beside the leader's commits, sixteen of sixteen senders, and each of
//! those would wait behind them. So one is under way at a time, and what comes meanwhile waits for the next one together.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use uuid::Uuid;

use super::planned::Planned;
use super::{Ledger, LedgerError};
use crate::domain::ids::SignalId;

/// Makes signals' rows durable by a commit that is waited for, and that has everything committed before it on disk, too. A
/// signal that was decided needs none: what decided it was committed so. Counts those that are there: a crash of the database
/// forgets a row that nobody flushed.
const FLUSH: &str = "
SELECT count(*), CASE WHEN bool_or(status = 'pending') THEN pg_logical_emit_message(true, 'baton', '') END
FROM signal WHERE id = ANY ($1)";

/// Those that wait, with the way to tell them.
#[derive(Debug, Default)]
pub(super) struct Flushes {
    waiting: Mutex<Vec<(Uuid, oneshot::Sender<()>)>>,
    /// Held by whoever flushes.
    turn: tokio::sync::Mutex<()>,
}

impl Flushes {
    /// Has `flush` done for `id`, by whoever's turn is first; by itself where that one failed, or went away.
    async fn join<F, T>(&self, id: Uuid, flush: F) -> Result<(), LedgerError>
    where
        F: Fn(Vec<Uuid>) -> T,
        T: Future<Output = Result<(), LedgerError>>,
    {
        let (tell, told) = oneshot::channel();
        self.lock().push((id, tell));
        {
            let _turn = self.turn.lock().await;
            let batch = std::mem::take(&mut *self.lock());
            if !batch.is_empty() {
                flush(batch.iter().map(|(id, _)| *id).collect()).await?;
                for (_, tell) in batch {
                    // It may have gone away.
                    let _ = tell.send(());
                }
            }
        }
        match told.await {
            Ok(()) => Ok(()),
            Err(_) => flush(vec![id]).await,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Uuid, oneshot::Sender<()>)>> {
        // Entries are put in or all are taken; nothing panics in between.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ledger {
    /// Returns when a signal's row, which others see, is durable.
    pub(super) async fn durable(&self, id: SignalId) -> Result<(), LedgerError> {
        let flush = |mut ids: Vec<Uuid>| async move {
            // A repeat waits for the row of its first delivery.
            ids.sort_unstable();
            ids.dedup();
            let flushed = self.client().await?.row(FLUSH, &[&ids]).await;
            let there: i64 = flushed.map_err(LedgerError::during("have a signal on disk"))?.get(0);
            match usize::try_from(there) {
                Ok(there) if there == ids.len() => Ok(()),
                _ => Err(LedgerError::Conflict { what: "a signal that PostgreSQL has forgotten".to_owned() }),
            }
        };
        self.flushes.join(id.0, flush).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::FutureExt;
    use futures_util::future::{join_all, pending};

    use super::*;

    #[tokio::test]
    async fn one_flush_serves_all_that_came_while_another_was_under_way() {
        let (flushes, ids) = (Flushes::default(), [(); 9].map(|()| Uuid::now_v7()));
        let done = Mutex::new(Vec::new());
        let flush = |batch: Vec<Uuid>| {
            let done = &done;
            async move {
                tokio::task::yield_now().await;
                done.lock().unwrap().push(batch);
                Ok(())
            }
        };
        let joined = join_all(ids.iter().map(|id| flushes.join(*id, flush))).await;
        assert!(joined.iter().all(Result::is_ok));
        let done = done.into_inner().unwrap();
        assert_eq!(done, [ids[..1].to_vec(), ids[1..].to_vec()]);
    }

    #[tokio::test]
    async fn who_waits_for_one_that_fails_or_goes_away_flushes_by_itself() {
        let (flushes, tried) = (Flushes::default(), AtomicUsize::new(0));
        let failing = |_| async {
            tokio::task::yield_now().await;
            match tried.fetch_add(1, Ordering::Relaxed) {
                0 | 1 => Err(LedgerError::TimedOut { within_ms: 1 }),
                _ => Ok(()),
            }
        };
        let ends = join_all([(); 3].map(|()| flushes.join(Uuid::now_v7(), failing))).await;
        assert_eq!(
            ends.iter().filter(|end| end.is_ok()).count(),
            1,
            "two met the database while it was away"
        );
        let [first, next] = [Uuid::now_v7(), Uuid::now_v7()];
        let mut gone = Box::pin(flushes.join(first, |_| pending()));
        assert!(futures_util::poll!(&mut gone).is_pending());
        let mut waits = Box::pin(flushes.join(next, |_| async { Ok(()) }));
        assert!(futures_util::poll!(&mut waits).is_pending());
        drop(gone);
        assert!(waits.now_or_never().is_some_and(|end| end.is_ok()));
    }
}
