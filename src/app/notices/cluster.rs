//! Takeovers and handovers.

use std::collections::BTreeMap;
use std::sync::Arc;

use ha::{Handle, Reason, Role};
use tokio::sync::watch;

use crate::health::rounds::Rounds;
use crate::notify::{Event, Kind, Notifier};

/// Tells of takeovers and handovers; asks for a round of checks when a store goes or comes back. Of the stores the checks
/// tell: what the protocol sees changes with each request, and a blip is not worth a message.
pub(in crate::app) async fn tell_cluster(
    handle: Arc<Handle>,
    following: watch::Sender<bool>,
    rounds: Rounds,
    notifier: Notifier,
) {
    let notifier = notifier.from("ha");
    let (mut role, mut stores) = (handle.role(), (true, true));
    let me = handle.instance().member.to_string();
    let mut stats = handle.stats();
    let mut told = BTreeMap::new();
    loop {
        let now = stats.borrow_and_update().clone();
        let follows = matches!(&*role.borrow_and_update(), Role::Follower { leader: Some(_) });
        following.send_if_modified(|before| std::mem::replace(before, follows) != follows);
        let up = (now.postgres.is_up(), now.redis.is_up());
        if std::mem::replace(&mut stores, up) != up {
            rounds.look();
        }
        for (reason, total) in &now.transitions {
            let before = told.insert(*reason, *total).unwrap_or(0);
            if *total > before {
                let gap = now.last_failover_gap.map(|gap| gap.as_millis());
                if let Some(event) = takeover(&me, *reason, now.epoch.get(), gap) {
                    notifier.raise(event);
                }
            }
        }
        tokio::select! {
            changed = stats.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            _ = role.changed() => {}
        }
    }
}

fn takeover(me: &str, reason: Reason, epoch: i64, gap_ms: Option<u128>) -> Option<Event> {
    let gap = gap_ms.map(|ms| format!("; nobody led for {ms} ms")).unwrap_or_default();
    match reason {
        Reason::Crash => Some(Event::new(
            Kind::Failover,
            format!(
                "{me} took over under epoch {epoch}: the last leader's process or its PostgreSQL session ended{gap}"
            ),
        )),
        Reason::Stale => Some(Event::new(
            Kind::Failover,
            format!("{me} took over under epoch {epoch}: the last leader gave no sign of life{gap}"),
        )),
        Reason::Handover => Some(Event::new(
            Kind::Handover,
            format!("{me} leads under epoch {epoch}: leadership was handed over{gap}"),
        )),
        Reason::FirstStart | Reason::Vacant => None,
    }
}
