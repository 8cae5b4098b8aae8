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
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (alive, over) = oneshot::channel::<Infallible>();
        std::thread::Builder::new().name("ha".to_owned()).spawn(move || {
            let _ = runtime.block_on(over);
            // A host name that is being looked up must not hold this up.
            runtime.shutdown_background();
        })?;
        Ok(Self { runtime: handle, _alive: alive })
    }

    /// Where to spawn.
    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }
}
