//! Leadership is offered for as long as somebody may still take it, and not with the time that the exit policy needs.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ha::{Handle, HandoverOutcome, Instance, InstanceInfo, Role, Status};
use tokio::time::{Instant, sleep, timeout_at};

use super::parting::Parting;

/// Between two offers.
const PAUSE: Duration = Duration::from_millis(50);

/// How long a handover may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// Until when a successor may still show up.
    pub offers: Instant,
    /// Until when a suspended leader may come back and still carry the exit policy out.
    pub resumption: Instant,
    /// T: members beat each T/6, and are seen to do so as often.
    pub lease_ttl: Duration,
}

/// What a handover came to.
pub(super) enum Office {
    /// Another instance leads.
    HandedOver(Parting),
    /// Nobody takes it: this instance is still answerable for what is held.
    Kept,
    /// It was lost on the way, to whom is not known.
    Lost,
}

/// Offers leadership until somebody takes it. A follower
/// that has just come up, or that was slow to answer once, is worth a second offer; a leader whose database is away for
/// a moment is worth waiting for.
pub(super) async fn hand_over(handle: &Arc<Handle>, patience: Patience) -> Office {
    let mut role = handle.role();
    let mut prospects = Prospects::since(Instant::now());
    let mut told = String::new();
    while Instant::now() < patience.resumption {
        let now = role.borrow_and_update().clone();
        match now {
            Role::Leader(_) => {}
            Role::Suspended { why, .. } => {
                tracing::info!("[SHUTDOWN] suspended ({why}): waiting to come back");
                if !matches!(timeout_at(patience.resumption, role.changed()).await, Ok(Ok(()))) {
                    return Office::Kept;
                }
                continue;
            }
            _ => return Office::Lost,
        }
        let Ok(outcome) = timeout_at(patience.resumption, handle.hand_over(None)).await else {
            return Office::Kept;
        };
        match outcome {
            HandoverOutcome::HandedOver { to, epoch, gap } => {
                tracing::info!(%to, %epoch, gap_ms = gap.as_millis(), "[SHUTDOWN] handed over");
                return Office::HandedOver(Parting::handed_over(&to, epoch));
            }
            HandoverOutcome::NoSuccessor { why } => {
                let listed = handle.instances().await.unwrap_or_default();
                let until = prospects.until(&listed, handle.instance(), patience);
                if Instant::now() >= until {
                    tracing::warn!("[SHUTDOWN] no successor ({why})");
                    return Office::Kept;
                }
                if told != why {
                    tracing::info!("[SHUTDOWN] no successor yet ({why}); offering again");
                    told = why;
                }
            }
            // Whether it comes back or another leads: the role tells.
            HandoverOutcome::Lost { why } => {
                tracing::warn!("[SHUTDOWN] leadership was lost on the way: {why}");
            }
            HandoverOutcome::NotLeader => {}
        }
        sleep(PAUSE).await;
    }
    Office::Kept
}

/// Who was there when the first offer failed.
struct Prospects {
    begun: Instant,
    known: Option<BTreeSet<Instance>>,
}

impl Prospects {
    fn since(begun: Instant) -> Self {
        Self { begun, known: None }
    }

    /// Until when it is worth offering again. Somebody who lives or has just come may take it: all the patience there is.
    /// Those who were listed from the start and show no sign of life are dead, or newcomers whose second beat was not
    /// read yet; the list itself is as old as the last one.
    fn until(&mut self, listed: &[InstanceInfo], me: &Instance, patience: Patience) -> Instant {
        let others = || {
            listed.iter().filter(|info| {
                info.instance.member != me.member
                    && info.status != Status::Draining
                    && info.priority > 0
                    && !info.fenced
            })
        };
        let known = self.known.get_or_insert_with(|| others().map(|info| info.instance.clone()).collect());
        if others().any(|info| info.alive || !known.contains(&info.instance)) {
            return patience.offers;
        }
        let beats = if known.is_empty() { 1 } else { 2 };
        patience.offers.min(self.begun + patience.lease_ttl / 6 * beats + PAUSE * 2)
    }
}

#[cfg(test)]
mod tests {
    use ha::Member;

    use super::*;

    fn info(name: &str, alive: bool) -> InstanceInfo {
        InstanceInfo {
            instance: Instance::new(Member::new(name).unwrap()),
            version: String::new(),
            build: 1,
            address: String::new(),
            priority: 1,
            status: Status::Active,
            alive,
            held_down: false,
            fenced: false,
            reach: None,
            redis: None,
        }
    }

    /// How long it is worth waiting in all, in milliseconds, when the lists that were read are these.
    fn waits(me: &Instance, lists: &[&[InstanceInfo]]) -> u128 {
        let begun = Instant::now();
        let patience = Patience {
            offers: begun + Duration::from_millis(2_000),
            resumption: begun + Duration::from_millis(4_000),
            lease_ttl: Duration::from_millis(3_000),
        };
        let mut prospects = Prospects::since(begun);
        let mut until = begun;
        for listed in lists {
            until = prospects.until(listed, me, patience);
        }
        (until - begun).as_millis()
    }

    #[test]
    fn only_somebody_alive_or_new_is_worth_all_the_patience() {
        let me = info("b1", true);
        let (dead, alive) = (info("b2", false), info("b3", true));
        let waits = |lists: &[&[InstanceInfo]]| waits(&me.instance, lists);
        assert_eq!(waits(&[&[me.clone(), alive.clone()]]), 2_000);
        assert_eq!(waits(&[&[me.clone(), dead.clone()]]), 1_100, "two beats would have been seen");
        assert_eq!(waits(&[std::slice::from_ref(&me)]), 600, "the list is as old as one beat");
        let newcomer = info("b4", false);
        assert_eq!(waits(&[&[me.clone(), dead.clone()], &[me.clone(), dead, newcomer]]), 2_000);
    }

    #[test]
    fn whoever_can_never_take_it_is_not_waited_for() {
        let me = info("b1", true);
        for change in [
            |info: &mut InstanceInfo| info.status = Status::Draining,
            |info: &mut InstanceInfo| info.priority = 0,
            |info: &mut InstanceInfo| info.fenced = true,
        ] {
            let mut other = info("b2", true);
            change(&mut other);
            assert_eq!(waits(&me.instance, &[&[me.clone(), other]]), 600);
        }
    }
}
