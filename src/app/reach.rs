//! Whether this instance reaches the bridge, told to all; a leader that does not, beside a follower that does, hands
//! over (HA.md rule 18).
//!
//! Only a link of its own is a reason to go: a bridge that answers with an error answers, and an answer that nobody
//! understands proves nothing. Unknown means stay, here and of the others. A bridge that goes or comes back is a reason for a
//! round of checks at once: a follower meets it nowhere else.

use std::sync::Arc;
use std::time::Duration;

use ha::operator::Request;
use ha::{Clock, Handle, Member, Moment, Role, Status};

use crate::broker::{Broker, BrokerError};
use crate::engine::recess::Recess;
use crate::health::rounds::Rounds;

/// Watches for as long as the process lives.
pub(super) async fn watch(
    handle: Arc<Handle>,
    broker: Arc<dyn Broker>,
    recess: Recess,
    rounds: Rounds,
    clock: Arc<dyn Clock>,
    ttl: Duration,
) {
    let (mut cut, mut before) = (Cut::default(), Some(true));
    loop {
        let begun = clock.now();
        let answer = tokio::time::timeout(ttl, broker.ping()).await;
        let reach = match answer {
            Ok(Ok(())) => Some(true),
            Err(_) | Ok(Err(BrokerError::Unreachable { .. } | BrokerError::TimedOut { .. })) => Some(false),
            Ok(Err(_)) => None,
        };
        handle.set_reach(reach);
        if std::mem::replace(&mut before, reach) != reach {
            rounds.look();
        }
        let role = handle.role().borrow().clone();
        let lasted = cut.note(begun, reach, matches!(role, Role::Leader(_)));
        if let (Some(lasted), Role::Leader(fence)) = (lasted.filter(|lasted| *lasted >= ttl * 2), &role)
            && let Some(to) = somebody_who_reaches_it(&handle).await
        {
            let request = Request {
                who: "baton".to_owned(),
                why: format!(
                    "the bridge is out of this instance's reach for {} ms, not of {to}'s",
                    lasted.as_millis()
                ),
                epoch: None,
            };
            tracing::warn!("[HA] {}: hands over", request.why);
            match recess.hand_over(&handle, Some(to), fence.epoch(), request).await {
                Ok(outcome) => tracing::info!("[HA] {outcome}"),
                Err(error) => tracing::warn!("[HA] not handed over: {error}"),
            }
            // Whatever came of it, the evidence counts anew.
            cut = Cut::default();
        }
        tokio::time::sleep(ttl / 2).await;
    }
}

/// Since when a leader's bridge has been out of reach without a break.
#[derive(Debug, Default)]
struct Cut(Option<Moment>);

impl Cut {
    /// Takes in one look that began at `begun`; gives how long the bridge has been out of the leader's reach.
    fn note(&mut self, begun: Moment, reach: Option<bool>, leads: bool) -> Option<Duration> {
        if !leads || reach != Some(false) {
            self.0 = None;
            return None;
        }
        Some(begun.since(*self.0.get_or_insert(begun)))
    }
}

/// A member that is ready to lead and said within T that it reaches the bridge.
async fn somebody_who_reaches_it(handle: &Handle) -> Option<Member> {
    let me = handle.instance();
    let listed = handle.instances().await.ok()?;
    let fit = listed.into_iter().filter(|peer| {
        peer.instance.member != me.member
            && peer.alive
            && peer.status == Status::Active
            && peer.priority > 0
            && !peer.fenced
            && !peer.held_down
            && peer.reach == Some(true)
    });
    fit.min_by_key(|peer| (std::cmp::Reverse(peer.build), peer.priority)).map(|peer| peer.instance.member)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_unbroken_cut_of_a_leader_counts() {
        let at = |ms| Moment::since_boot(Duration::from_millis(ms));
        let ms = |ms| Some(Duration::from_millis(ms));
        let mut cut = Cut::default();
        assert_eq!(cut.note(at(0), Some(false), true), ms(0));
        assert_eq!(cut.note(at(700), Some(false), true), ms(700));
        assert_eq!(cut.note(at(900), None, true), None, "unknown means stay");
        assert_eq!(cut.note(at(1_000), Some(false), true), ms(0));
        assert_eq!(cut.note(at(1_100), Some(false), false), None, "it does not lead");
        assert_eq!(cut.note(at(1_200), Some(false), true), ms(0));
    }
}
