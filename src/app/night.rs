//! Whether anybody must get up for the broker's session: it ends every night, and until shortly before the market opens
//! that is how it should be.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::watch;

use crate::broker::session::{Session, SessionState};
use crate::feed::Hours;

/// Minutes before an opening matter, seconds do not.
const LOOK: Duration = Duration::from_secs(20);

/// Knows when the market rests; cheap to clone.
#[derive(Clone)]
pub(super) struct Night {
    rests: Arc<dyn Fn(DateTime<Utc>) -> bool + Send + Sync>,
    session: Option<watch::Receiver<Session>>,
    /// How often it is worth looking whether it is over.
    pub look: Duration,
}

impl Night {
    /// By the bridge's calendar, for the exchanges that are traded. A day that is not known is no rest.
    pub fn by(hours: Hours, exchanges: BTreeSet<String>, session: watch::Receiver<Session>) -> Self {
        let rests = Arc::new(move |now| hours.wants_broker(&exchanges, now) == Some(false));
        Self { rests, session: Some(session), look: LOOK }
    }

    /// By a rule of a test's own.
    #[cfg(test)]
    pub fn when(rests: impl Fn(DateTime<Utc>) -> bool + Send + Sync + 'static) -> Self {
        Self { rests: Arc::new(rests), session: None, look: Duration::from_millis(5) }
    }

    /// True while no exchange is open or about to open.
    pub fn rests(&self, now: DateTime<Utc>) -> bool {
        (self.rests)(now)
    }

    /// True while the session is dead and nobody needs it: waiting for a login is no news then.
    pub fn excuses_waiting(&self, now: DateTime<Utc>) -> bool {
        let dead = |session: &watch::Receiver<Session>| session.borrow().state == SessionState::Expired;
        self.rests(now) && self.session.as_ref().is_none_or(dead)
    }
}
