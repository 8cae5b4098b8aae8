//! Proof of current leadership.
//!
//! A [`Fence`] can be made in this crate only, by a promotion or a resumption. Holding one is not enough: it is
//! checked ([`Fence::check`]) before every send, and every write that authorises a send runs on its pinned
//! session and names its epoch. A fence that was closed never opens again; a leader that resumes after a
//! suspension gets a new fence of the same epoch, so what was authorised before the suspension stays unsent.

use std::fmt;
use std::sync::Arc;

use tokio_postgres::Client;

use crate::clock::{Clock, Moment};
use crate::gate::Gate;
use crate::ids::{Epoch, Instance};
use crate::session::Session;

/// Proof that this process leads, until its deadline or until it is closed. Cheap to clone.
#[derive(Clone)]
pub struct Fence(Arc<Inner>);

struct Inner {
    gate: Gate,
    instance: Instance,
    session: Arc<Session>,
    clock: Arc<dyn Clock>,
}

/// Why a fence does not let anything through.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fenced {
    /// The last confirmed heartbeat is too old: another instance may lead by now.
    #[error(
        "epoch {epoch}: the deadline passed {late_ms} ms ago; send nothing until a new fence is given out"
    )]
    Late {
        /// The fence's epoch.
        epoch: Epoch,
        /// Milliseconds since the deadline.
        late_ms: u128,
    },
    /// Leadership was given up, lost, or suspended.
    #[error("epoch {epoch}: {why}; send nothing until a new fence is given out")]
    Closed {
        /// The fence's epoch.
        epoch: Epoch,
        /// What closed it.
        why: Arc<str>,
    },
}

// === impl Fence ===

impl Fence {
    pub(crate) fn new(
        epoch: Epoch,
        instance: Instance,
        session: Arc<Session>,
        clock: Arc<dyn Clock>,
        deadline: Moment,
    ) -> Self {
        Self(Arc::new(Inner { gate: Gate::new(epoch, deadline), instance, session, clock }))
    }

    /// The epoch every write that authorises a send must name.
    pub fn epoch(&self) -> Epoch {
        self.0.gate.epoch()
    }

    /// The instance that leads under this fence.
    pub fn instance(&self) -> &Instance {
        &self.0.instance
    }

    /// The moment after which nothing may be sent; each confirmed heartbeat moves it.
    pub fn deadline(&self) -> Moment {
        self.0.gate.deadline()
    }

    /// The present, on the clock the deadline is on.
    pub fn now(&self) -> Moment {
        self.0.clock.now()
    }

    /// Lets a send through and returns the deadline it must be written before, or says why not.
    pub fn check(&self) -> Result<Moment, Fenced> {
        self.0.gate.check(self.now())
    }

    /// The pinned session: the dedicated connection that holds the session pin. Statements that authorise a
    /// send run here and nowhere else; its `lock_timeout` is T/6. It ends with the leadership.
    ///
    /// Single statements only: the heartbeat shares the session, and inside somebody's transaction it would
    /// not be committed when it is answered.
    pub fn session(&self) -> &Client {
        &self.0.session.client
    }

    /// The server process of the pinned session, as the leadership row names it while this fence holds.
    pub fn backend_pid(&self) -> i32 {
        self.0.session.backend.pid
    }

    /// Tells the protocol that a statement met a higher epoch: this process is out.
    pub fn report_fenced(&self, why: &str) {
        self.close(why);
    }

    /// Waits until the fence is closed.
    pub async fn closed(&self) -> Arc<str> {
        self.0.gate.closed().await
    }

    /// Closes the fence for good; the first reason stands.
    pub(crate) fn close(&self, why: &str) {
        self.0.gate.close(why);
    }

    /// Moves the deadline forward. Only a heartbeat that was confirmed before the old deadline may.
    pub(crate) fn extend(&self, deadline: Moment) {
        self.0.gate.extend(deadline);
    }

    pub(crate) fn pin(&self) -> &Arc<Session> {
        &self.0.session
    }
}

impl fmt::Debug for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fence")
            .field("epoch", &self.epoch())
            .field("instance", &self.0.instance)
            .field("deadline", &self.deadline())
            .field("closed", &self.0.gate.why_closed())
            .finish_non_exhaustive()
    }
}
