//! The protocol's own thread: looks, heartbeats and the verdict about a silent engine come in time, whatever keeps the
//! workers of the caller's runtime busy.

use std::convert::Infallible;
use std::io;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// A thread with a runtime of its own. Dropping it ends the thread and everything that was spawned on it.
pub(crate) struct Thread {
    runtime: Handle,
    _alive: oneshot::Sender<Infallible>,
}

// === impl Thread ===

impl Thread {
    /// Starts a thread that runs what is spawned on its runtime.
    pub(crate) fn start() -> io::Result<Self> {
        let (alive, over) = oneshot::channel::<Infallible>();
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        // Made where it runs: a runtime must not be dropped within another one, as it would be if there were no thread for it.
        std::thread::Builder::new().name("ha".to_owned()).spawn(move || {
            let built = Builder::new_current_thread().enable_all().build();
            let _ = tell
                .send(built.as_ref().map(|runtime| runtime.handle().clone()).map_err(|error| error.kind()));
            if let Ok(runtime) = built {
                let _ = runtime.block_on(over);
                // A host name that is being looked up must not hold this up.
                runtime.shutdown_background();
            }
        })?;
        let built = told.recv().map_err(|_| io::Error::other("the thread ended at once"))?;
        Ok(Self { runtime: built.map_err(io::Error::from)?, _alive: alive })
    }

    /// Where to spawn.
    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }
}
