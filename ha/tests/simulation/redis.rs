//! Redis in memory: the lease, the epoch key, expiry, and what the scripts of `ha/src/lease.rs` do to them.
//!
//! `the_model_of_redis_answers_as_the_scripts_do` holds this model against the scripts in a real Redis.

use ha::election::Patience;

/// What a lease says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lease {
    pub instance: String,
    pub epoch: i64,
    pub state: State,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    Leader,
    Candidate,
    Reserved,
}

/// The server. Times are true time.
#[derive(Default)]
pub struct Redis {
    pub up: Gate,
    lease: Option<(Lease, u64)>,
    pub epoch: i64,
}

/// Whether it answers: refusing until a moment, or silent until one.
#[derive(Clone, Copy, Default)]
pub struct Gate {
    pub refuses_until: u64,
    pub silent_until: u64,
}

/// A request.
#[derive(Clone, Debug)]
pub enum Ask {
    Win { me: String, row: i64, patience: Patience, ttl: u64 },
    Hold { me: String, epoch: i64, ttl: u64, announces: bool },
    Reserve { me: String, to: String, epoch: i64, ttl: u64 },
    GiveBack { me: String },
}

/// An answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Said {
    Won { highest: i64 },
    Refused,
    Held,
    Waiting,
    Outbid { highest: i64 },
    Done,
}

impl Redis {
    /// The lease, unless it has expired.
    pub fn lease(&self, now: u64) -> Option<&Lease> {
        self.lease.as_ref().filter(|(_, until)| now < *until).map(|(lease, _)| lease)
    }

    /// FLUSHALL, or a failover to an empty copy.
    pub fn flush(&mut self) {
        self.lease = None;
        self.epoch = 0;
    }

    pub fn delete_lease(&mut self) {
        self.lease = None;
    }

    pub fn expire_lease_at(&mut self, at: u64) {
        if let Some((_, until)) = &mut self.lease {
            *until = at;
        }
    }

    pub fn put_lease(&mut self, lease: Lease, until: u64) {
        self.lease = Some((lease, until));
    }

    /// One script.
    pub fn answer(&mut self, now: u64, ask: &Ask) -> Said {
        let current = self.lease(now).cloned();
        match ask {
            Ask::Win { me, row, patience, ttl } => {
                let free = current.is_none_or(|l| {
                    l.instance == *me
                        || l.epoch < *row
                        || (l.epoch == *row && l.state == State::Leader)
                        || (l.state == State::Reserved && *patience != Patience::RespectAll)
                        || *patience == Patience::Exhausted
                });
                if !free {
                    return Said::Refused;
                }
                let lease = Lease { instance: me.clone(), epoch: *row, state: State::Candidate };
                self.lease = Some((lease, now + ttl));
                Said::Won { highest: self.epoch }
            }
            Ask::Hold { me, epoch, ttl, announces } => {
                let own = current.as_ref().is_some_and(|l| l.instance == *me);
                if self.epoch > *epoch || (*announces && self.epoch == *epoch && !own) {
                    return Said::Outbid { highest: self.epoch };
                }
                self.epoch = *epoch;
                match current {
                    Some(l) if l.epoch > *epoch => return Said::Outbid { highest: l.epoch },
                    Some(l) if l.epoch == *epoch && l.instance != *me => return Said::Waiting,
                    _ => {}
                }
                let lease = Lease { instance: me.clone(), epoch: *epoch, state: State::Leader };
                self.lease = Some((lease, now + ttl));
                Said::Held
            }
            Ask::Reserve { me, to, epoch, ttl } => {
                if current.is_some_and(|l| l.instance != *me && l.epoch >= *epoch) {
                    return Said::Refused;
                }
                let lease = Lease { instance: to.clone(), epoch: *epoch, state: State::Reserved };
                self.lease = Some((lease, now + ttl));
                Said::Done
            }
            Ask::GiveBack { me } => {
                if current.is_some_and(|l| l.instance == *me) {
                    self.lease = None;
                }
                Said::Done
            }
        }
    }
}
