//! What this instance lacks and another has (L4): a link of its own that is cut makes it not ready, an outage that is
//! everybody's does not, since signals are still stored and Redis is not needed for that. Pure.

use ha::{Instance, InstanceInfo, Status};

/// A link that this instance alone lacks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stale {
    /// Redis was not reached for T.
    Redis,
    /// The bridge is out of reach.
    Bridge,
}

impl Stale {
    /// The code that a probe answers with.
    pub fn code(self) -> &'static str {
        match self {
            Self::Redis => "REDIS_STALE",
            Self::Bridge => "BRIDGE_STALE",
        }
    }

    /// A sentence.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Redis => {
                "this instance has not reached Redis for T, and another one does: check its way to Redis"
            }
            Self::Bridge => {
                "this instance does not reach the bridge, and another one does: check its way to the bridge"
            }
        }
    }
}

/// What `me` lacks, by what all say of themselves. Somebody who lacks nothing must be there to take its place: of two
/// instances that lack one link each, both stay.
pub fn lacks(me: &Instance, listed: &[InstanceInfo]) -> Option<Stale> {
    let own = listed.iter().find(|info| info.instance == *me)?;
    let stale = match (own.redis, own.reach) {
        (Some(false), _) => Stale::Redis,
        (_, Some(false)) => Stale::Bridge,
        _ => return None,
    };
    let whole = |info: &InstanceInfo| {
        info.instance.member != me.member
            && info.alive
            && info.status == Status::Active
            && info.redis == Some(true)
            && info.reach == Some(true)
    };
    listed.iter().any(whole).then_some(stale)
}

#[cfg(test)]
mod tests {
    use ha::Member;

    use super::*;

    fn info(name: &str, redis: Option<bool>, reach: Option<bool>) -> InstanceInfo {
        InstanceInfo {
            instance: Instance::new(Member::new(name).unwrap()),
            version: String::new(),
            build: 1,
            address: String::new(),
            priority: 1,
            status: Status::Active,
            alive: true,
            held_down: false,
            fenced: false,
            reach,
            redis,
        }
    }

    const YES: Option<bool> = Some(true);
    const NO: Option<bool> = Some(false);

    // R: L4
    #[test]
    fn only_what_another_has_is_lacked() {
        let judged = |own: (Option<bool>, Option<bool>), other: (Option<bool>, Option<bool>)| {
            let me = info("b1", own.0, own.1);
            lacks(&me.instance.clone(), &[me, info("b2", other.0, other.1)])
        };
        assert_eq!(judged((YES, YES), (NO, NO)), None);
        assert_eq!(judged((NO, YES), (YES, YES)), Some(Stale::Redis));
        assert_eq!(judged((YES, NO), (YES, YES)), Some(Stale::Bridge));
        assert_eq!(judged((NO, YES), (NO, YES)), None, "everybody's outage");
        assert_eq!(judged((NO, YES), (YES, NO)), None, "nobody is whole");
        assert_eq!(judged((NO, YES), (None, YES)), None, "unknown is not whole");
        assert_eq!(judged((None, None), (YES, YES)), None, "not tried yet");
    }

    #[test]
    fn the_dead_and_those_on_their_way_out_take_nobodys_place() {
        let me = info("b1", NO, YES);
        let mut other = info("b2", YES, YES);
        other.alive = false;
        assert_eq!(lacks(&me.instance, &[me.clone(), other.clone()]), None);
        (other.alive, other.status) = (true, Status::Draining);
        assert_eq!(lacks(&me.instance, &[me.clone(), other]), None);
        assert_eq!(lacks(&me.instance, std::slice::from_ref(&me)), None, "alone it stays");
    }
}
