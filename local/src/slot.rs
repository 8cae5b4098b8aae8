//! The place of a server's process: empty while the server is down.
//!
//! Starting and stopping take turns, so that a test may stop a server from one task while another
//! restarts it; reading the pid never waits for either.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::Signal;

use crate::process::Process;

/// A process that outlives SIGKILL.
#[derive(Debug, thiserror::Error)]
#[error("process {pid} does not end; is its disk answering?")]
pub struct Unending {
    pid: u32,
}

#[derive(Debug, Default)]
pub(crate) struct Slot {
    current: Mutex<Option<Arc<Process>>>,
    turn: tokio::sync::Mutex<()>,
}

impl Slot {
    fn current(&self) -> MutexGuard<'_, Option<Arc<Process>>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The process, if it still runs.
    pub(crate) fn running(&self) -> Option<Arc<Process>> {
        self.current().clone().filter(|process| process.exit().is_none())
    }

    /// Waits for the turn to start the server; `None` when it already runs.
    pub(crate) async fn vacancy(&self) -> Option<Vacancy<'_>> {
        let turn = self.turn.lock().await;
        self.running().is_none().then_some(Vacancy { slot: self, _turn: turn })
    }

    /// Ends the process: sends each signal in turn and waits its time before the next. The last should
    /// be `KILL`, which no process survives unless the kernel holds it in an operation that never ends.
    pub(crate) async fn end(&self, steps: &[(Signal, Duration)]) -> Result<(), Unending> {
        let _turn = self.turn.lock().await;
        let Some(process) = self.current().clone() else { return Ok(()) };
        for (signal, patience) in steps {
            process.signal(*signal);
            process.signal(Signal::CONT);
            if tokio::time::timeout(*patience, process.wait()).await.is_ok() {
                *self.current() = None;
                return Ok(());
            }
        }
        Err(Unending { pid: process.pid() })
    }
}

/// The right to start a server that is down.
pub(crate) struct Vacancy<'a> {
    slot: &'a Slot,
    _turn: tokio::sync::MutexGuard<'a, ()>,
}

impl Vacancy<'_> {
    /// Puts a started process into the slot.
    pub(crate) fn fill(self, process: Process) {
        *self.slot.current() = Some(Arc::new(process));
    }
}
