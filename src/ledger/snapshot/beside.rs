//! A second session on the same instant: what only proves is read while what is proven is read, each by a process of
//! the database and a task of its own.

use std::future::Future;
use std::sync::Arc;

use deadpool_postgres::Transaction;
use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;

use super::proofs::Proofs;
use super::{Depth, Faults};
use crate::ledger::session::Session;
use crate::ledger::{Ledger, LedgerError};

/// Proofs that are being read beside the state.
pub(super) struct Beside {
    imported: oneshot::Receiver<()>,
    task: AbortOnDropHandle<Result<Proofs, LedgerError>>,
}

impl Beside {
    /// Begins to read the proofs as of the instant that `tx` sees; none when no connection is free. It never waits for
    /// one: whoever has it may be waiting for ours.
    pub async fn begin(
        ledger: &Ledger,
        tx: &Transaction<'_>,
        depth: Depth,
        faults: &Arc<Faults>,
    ) -> Result<Option<Self>, LedgerError> {
        let Some(client) = ledger.spare_client().await else { return Ok(None) };
        let row = tx.query_one("SELECT pg_export_snapshot()", &[]).await;
        let instant: String = row.map_err(LedgerError::during("export the recovery snapshot"))?.get(0);
        let (tell, imported) = oneshot::channel();
        let task = tokio::spawn(read(client, instant, depth, Arc::clone(faults), tell));
        Ok(Some(Self { imported, task: AbortOnDropHandle::new(task) }))
    }

    /// Waits until the second session has the instant, or has failed: until then the first one's transaction is needed.
    pub fn imported(&mut self) -> impl Future<Output = ()> + '_ {
        let imported = &mut self.imported;
        async {
            // Gone with a task that failed, which says why itself.
            let _ = imported.await;
        }
    }

    pub async fn proofs(self) -> Result<Proofs, LedgerError> {
        match self.task.await {
            Ok(proofs) => proofs,
            // Nobody else ends the task.
            Err(ended) => std::panic::resume_unwind(ended.into_panic()),
        }
    }
}

async fn read(
    mut client: Session,
    instant: String,
    depth: Depth,
    faults: Arc<Faults>,
    imported: oneshot::Sender<()>,
) -> Result<Proofs, LedgerError> {
    let failed = |error| faults.broken(LedgerError::during("read the recovery snapshot beside")(error));
    let tx = Ledger::instant(&mut client).await.map_err(|error| faults.broken(error))?;
    // A first session that has failed takes its instant along: then its own error is the cause, whichever is heard of first.
    let taken = tx.batch_execute(&format!("SET TRANSACTION SNAPSHOT '{instant}'")).await;
    taken.map_err(LedgerError::during("take up the recovery snapshot's instant"))?;
    // Nobody listens when the first session has failed.
    let _ = imported.send(());
    if depth == Depth::Whole {
        Ledger::unhurried(&tx).await.map_err(|error| faults.broken(error))?;
    }
    let proofs = Proofs::read(&tx, depth, &faults).await?;
    tx.commit().await.map_err(failed)?;
    Ok(proofs)
}
