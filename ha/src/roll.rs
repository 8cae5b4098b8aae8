//! Whether a member's place is free to take, and which peers are alive: pure, over counters that move.

use std::collections::HashMap;
use std::time::Duration;

use crate::clock::Moment;
use crate::config::Timing;
use crate::ids::{Incarnation, Instance};
use crate::role::Status;
use crate::session::Backend;
use crate::stats::InstanceInfo;

/// What a newcomer sees of the session that holds its member's lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Occupant {
    /// The session.
    pub backend: Backend,
    /// The liveness counters of the member's processes, summed.
    pub liveness: i64,
}

/// What the newcomer does about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Entry {
    /// Look again.
    Wait,
    /// Another process lives there.
    Refused,
    /// Nothing moved for T: end that session.
    Evict(Occupant),
}

/// A newcomer at the door of its member's place.
#[derive(Debug)]
pub struct Door {
    ttl: Duration,
    first: Option<(Occupant, Moment)>,
    looks: u32,
}

/// The peers' signs of life, on this process's own clock.
#[derive(Debug)]
pub struct Peers {
    ttl: Duration,
    seen: HashMap<Incarnation, Sign>,
}

#[derive(Debug)]
struct Sign {
    liveness: i64,
    moved: Option<Moment>,
}

// === impl Door ===

impl Door {
    /// A newcomer that has seen nothing.
    pub fn new(timing: &Timing) -> Self {
        Self { ttl: timing.ttl, first: None, looks: 0 }
    }

    /// Decides after a look that began at `started` and ended at `finished`.
    pub fn look(&mut self, occupant: Occupant, started: Moment, finished: Moment) -> Entry {
        let (first, since) = *self.first.get_or_insert((occupant, finished));
        self.looks = self.looks.saturating_add(1);
        if first.backend != occupant.backend {
            // Somebody else came in; judge that one.
            self.first = Some((occupant, finished));
            self.looks = 1;
            return Entry::Wait;
        }
        if first.liveness != occupant.liveness {
            return Entry::Refused;
        }
        if self.looks >= 5 && started.since(since) >= self.ttl { Entry::Evict(occupant) } else { Entry::Wait }
    }
}

// === impl Peers ===

impl Peers {
    /// Nobody seen yet.
    pub fn new(timing: &Timing) -> Self {
        Self { ttl: timing.ttl, seen: HashMap::new() }
    }

    /// Notes the counters read at `now` and fills in who is alive: whose counter moved within T. A peer seen
    /// for the first time is not called alive before its counter moves.
    pub fn judge(&mut self, mut listed: Vec<(InstanceInfo, i64)>, now: Moment) -> Vec<InstanceInfo> {
        self.seen.retain(|id, _| listed.iter().any(|(info, _)| info.instance.incarnation == *id));
        for (info, liveness) in &mut listed {
            let sign = self
                .seen
                .entry(info.instance.incarnation)
                .or_insert(Sign { liveness: *liveness, moved: None });
            if sign.liveness != *liveness {
                *sign = Sign { liveness: *liveness, moved: Some(now) };
            }
            info.alive = sign.moved.is_some_and(|at| now.since(at) < self.ttl);
        }
        listed.into_iter().map(|(info, _)| info).collect()
    }
}

/// Whether some other instance could lead in this one's stead, and whether one of those has a newer build. The
/// holder to be replaced is none of them, though its last sign of life may be recent.
pub fn rivals(peers: &[InstanceInfo], me: &Instance, holder: Option<&Instance>, build: i64) -> (bool, bool) {
    let mut able = peers.iter().filter(|peer| {
        peer.instance.member != me.member
            && holder != Some(&peer.instance)
            && peer.alive
            && peer.status == Status::Active
            && peer.priority > 0
            && !peer.held_down
            && !peer.fenced
    });
    let newer = able.clone().any(|peer| peer.build > build);
    (able.next().is_some(), newer)
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::ids::Member;

    fn at(ms: u64) -> Moment {
        Moment::since_boot(Duration::from_millis(ms))
    }

    fn occupant(pid: i32, liveness: i64) -> Occupant {
        Occupant { backend: Backend { pid, start: DateTime::UNIX_EPOCH }, liveness }
    }

    fn info(name: &str, build: i64) -> InstanceInfo {
        InstanceInfo {
            instance: Instance::new(Member::new(name).unwrap()),
            version: String::new(),
            build,
            address: String::new(),
            priority: 1,
            status: Status::Active,
            alive: false,
            held_down: false,
            fenced: false,
            reach: None,
            redis: None,
        }
    }

    // R: S12
    #[test]
    fn s12_a_newcomer_is_refused_by_a_counter_that_moves_and_by_nothing_else() {
        let mut door = Door::new(&Timing::default());
        assert_eq!(door.look(occupant(1, 5), at(0), at(1)), Entry::Wait);
        assert_eq!(door.look(occupant(1, 5), at(100), at(101)), Entry::Wait);
        assert_eq!(door.look(occupant(1, 6), at(200), at(201)), Entry::Refused, "at the first move");
        let mut silent = Door::new(&Timing::default());
        for now in (0..3_000).step_by(50) {
            assert_eq!(silent.look(occupant(1, 5), at(now), at(now + 1)), Entry::Wait, "after {now} ms");
        }
        assert_eq!(silent.look(occupant(1, 5), at(3_050), at(3_051)), Entry::Evict(occupant(1, 5)));
    }

    #[test]
    fn a_session_of_a_dead_host_is_ended_after_t() {
        let mut door = Door::new(&Timing::default());
        let mut now = 0;
        while door.look(occupant(1, 5), at(now), at(now + 1)) == Entry::Wait {
            now += 100;
        }
        assert_eq!(now, 3_100);
    }

    #[test]
    fn few_looks_condemn_nobody() {
        let mut door = Door::new(&Timing::default());
        assert_eq!(door.look(occupant(1, 5), at(0), at(1)), Entry::Wait);
        assert_eq!(door.look(occupant(1, 5), at(9_000), at(9_001)), Entry::Wait);
    }

    #[test]
    fn another_session_at_the_door_is_judged_anew() {
        let mut door = Door::new(&Timing::default());
        for now in 0..40 {
            door.look(occupant(1, 5), at(now * 50), at(now * 50));
        }
        assert_eq!(door.look(occupant(2, 6), at(5_000), at(5_000)), Entry::Wait);
        assert_eq!(door.look(occupant(2, 7), at(5_050), at(5_050)), Entry::Refused);
    }

    #[test]
    fn peers_are_alive_while_their_counter_moves() {
        let mut peers = Peers::new(&Timing::default());
        let b2 = info("b2", 1);
        assert!(!peers.judge(vec![(b2.clone(), 7)], at(0))[0].alive);
        assert!(peers.judge(vec![(b2.clone(), 8)], at(500))[0].alive);
        assert!(peers.judge(vec![(b2.clone(), 8)], at(3_499))[0].alive);
        assert!(!peers.judge(vec![(b2, 8)], at(3_500))[0].alive);
    }

    #[test]
    fn a_rival_is_able_and_another_member() {
        let me = Instance::new(Member::new("b1").unwrap());
        let mut b2 = info("b2", 2);
        assert_eq!(rivals(&[b2.clone(), info("b1", 9)], &me, None, 1), (false, false));
        b2.alive = true;
        assert_eq!(rivals(std::slice::from_ref(&b2), &me, None, 1), (true, true));
        let dead = b2.instance.clone();
        assert_eq!(rivals(std::slice::from_ref(&b2), &me, Some(&dead), 1), (false, false));
        assert_eq!(rivals(std::slice::from_ref(&b2), &me, None, 2), (true, false));
        b2.held_down = true;
        assert_eq!(rivals(std::slice::from_ref(&b2), &me, None, 1), (false, false));
        (b2.held_down, b2.fenced) = (false, true);
        assert_eq!(rivals(&[b2], &me, None, 1), (false, false));
    }
}
