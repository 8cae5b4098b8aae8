//! A recess: the engine finishes what it has sent and begins nothing, while leadership is handed over without the
//! process ending. If nobody takes it, the engine goes on where it was.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use ha::operator::{OperatorError, Request};
use ha::{Epoch, Handle, HandoverOutcome, Member};
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;

/// How long the engine may take to come to rest: a little more than a draining term waits for its last answers.
const REST_PATIENCE: Duration = Duration::from_secs(4);

/// Asks the engine for a recess; cheap to clone.
#[derive(Clone, Default)]
pub struct Recess(Arc<Inner>);

#[derive(Default)]
struct Inner {
    phase: watch::Sender<Phase>,
    /// One at a time.
    turn: Mutex<()>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Phase {
    /// The engine may serve terms.
    #[default]
    Work,
    /// A recess is asked for; a term may be ending.
    Asked,
    /// No term runs, and none begins.
    Rest,
}

/// Why leadership was not offered to anybody.
#[derive(Debug, thiserror::Error)]
pub enum NotOffered {
    /// The record could not be written.
    #[error(transparent)]
    Record(#[from] OperatorError),
    /// The engine did not come to rest.
    #[error(
        "the engine did not finish its orders within {} ms, so nothing was handed over; it trades on",
        REST_PATIENCE.as_millis()
    )]
    Busy,
    /// Another handover is under way.
    #[error("another handover is under way; look at `baton history` for its outcome")]
    UnderWay,
}

/// Ends the recess when it goes out of scope, whichever way.
struct Asked(Arc<Inner>);

impl Drop for Asked {
    fn drop(&mut self) {
        self.0.phase.send_replace(Phase::Work);
    }
}

impl Recess {
    /// Hands leadership over to `to`, or to the best ready instance: the command is written down, the engine comes to
    /// rest with every order answered or in doubt, and only then is leadership offered. It is carried to its end even
    /// if the caller goes away: half a handover must not trade.
    ///
    /// # Errors
    /// See [`NotOffered`]; in each case this instance leads and trades on.
    pub async fn hand_over(
        &self,
        handle: &Arc<Handle>,
        to: Option<Member>,
        epoch: Epoch,
        request: Request,
    ) -> Result<HandoverOutcome, NotOffered> {
        let (inner, handle) = (Arc::clone(&self.0), Arc::clone(handle));
        let carried = tokio::spawn(async move {
            let Ok(_turn) = inner.turn.try_lock() else { return Err(NotOffered::UnderWay) };
            let noted = handle.note_handover(to.as_ref(), epoch, &request).await?;
            let asked = Asked(Arc::clone(&inner));
            inner.phase.send_replace(Phase::Asked);
            let mut phase = inner.phase.subscribe();
            let rests = phase.wait_for(|phase| *phase == Phase::Rest);
            if tokio::time::timeout(REST_PATIENCE, rests).await.is_err() {
                noted.concluded("the engine did not come to rest").await;
                return Err(NotOffered::Busy);
            }
            let outcome = handle.hand_over(to).await;
            drop(asked);
            noted.concluded(&outcome.to_string()).await;
            Ok(outcome)
        });
        carried
            .await
            .unwrap_or(Ok(HandoverOutcome::Lost { why: "the handover's task ended early".to_owned() }))
    }

    /// Between two terms: whether to rest now.
    pub(super) fn observe(&self) -> bool {
        let mut rests = false;
        self.0.phase.send_if_modified(|phase| {
            let asked = *phase == Phase::Asked;
            if asked {
                *phase = Phase::Rest;
            }
            rests = *phase == Phase::Rest;
            asked
        });
        rests
    }

    /// Carries out a term, and stops it when a recess is asked for.
    pub(super) async fn ends(&self, stop: &CancellationToken, term: impl Future<Output = ()>) {
        let mut phase = self.0.phase.subscribe();
        let stopping = async {
            // The sender lives as long as this does.
            let _ = phase.wait_for(|phase| *phase != Phase::Work).await;
            stop.cancel();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = term => {}
            () = stopping => {}
        }
    }

    /// Waits until a recess is asked for, or over.
    pub(super) async fn changed(&self, rests: bool) {
        let mut phase = self.0.phase.subscribe();
        let wanted = if rests { Phase::Work } else { Phase::Asked };
        let _ = phase.wait_for(|phase| *phase == wanted).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_term_is_stopped_and_none_begins_until_the_recess_is_over() {
        let recess = Recess::default();
        assert!(!recess.observe());
        let stop = CancellationToken::new();
        let term = recess.ends(&stop, async { stop.cancelled().await });
        recess.0.phase.send_replace(Phase::Asked);
        term.await;
        recess.changed(false).await;
        assert!(recess.observe(), "it rests between two terms");
        assert!(recess.observe(), "and goes on resting");
        drop(Asked(Arc::clone(&recess.0)));
        recess.changed(true).await;
        assert!(!recess.observe());
    }

    #[tokio::test]
    async fn a_second_recess_right_after_the_first_is_not_taken_for_it() {
        let recess = Recess::default();
        recess.0.phase.send_replace(Phase::Asked);
        assert!(recess.observe());
        drop(Asked(Arc::clone(&recess.0)));
        recess.0.phase.send_replace(Phase::Asked);
        assert_eq!(*recess.0.phase.borrow(), Phase::Asked, "the engine has not said that it rests");
        assert!(recess.observe());
    }
}
