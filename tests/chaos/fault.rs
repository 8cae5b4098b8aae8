//! What can happen, and how it is drawn.

use std::time::Duration;

use baton::failpoint::PLACES;
use serde_json::{Value, json};

use crate::support::proxy::{Link, Way};
use crate::support::seed::Seed;

/// Where a link leads.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Server {
    Postgres,
    Redis,
    Bridge,
}

/// Which member.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Who {
    /// Whoever leads at that moment, as far as the ledger knows.
    Leader,
    /// This one.
    Member(usize),
}

/// A key of Redis, or all of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Loss {
    /// FLUSHALL.
    Everything,
    /// The lease is deleted.
    Lease,
    /// The lease expires in a millisecond.
    LeaseExpires,
    /// The epoch's counter is deleted.
    Epoch,
}

/// One misfortune; those that last say for how long.
#[derive(Clone, PartialEq, Debug)]
pub enum Fault {
    /// kill -9; restarted after a while.
    Kill(Who, Duration),
    /// SIGSTOP, then SIGCONT.
    Stop(Who, Duration),
    /// SIGTERM; restarted when it has ended.
    Terminate(Who),
    /// The next process at this place of an order's way kills or stops itself; disarmed or woken after a while.
    At(&'static str, &'static str, Duration),
    /// A member's link.
    Link(Who, Server, Link, Duration),
    /// Every member in turn: SIGTERM, and another process of the name.
    Roll,
    /// A member's wall clock is so many seconds ahead; its monotonic one stays true.
    Clock(Who, i64, Duration),
    /// Redis is killed; temporary stores come back empty.
    KillRedis(Duration),
    /// Redis ends in order, and is started again.
    RestartRedis(Duration),
    /// Redis answers nothing.
    StopRedis(Duration),
    /// Redis loses keys.
    Lose(Loss),
    /// PostgreSQL is killed, as by a power cut.
    KillPostgres(Duration),
    /// PostgreSQL is shut down, sessions first, and started again.
    RestartPostgres(Duration),
    /// One session of some member ends; the leader's pin with this flag.
    EndSession { pin: bool },
    /// The bridge misbehaves for a number of requests.
    Bridge(Value, Duration),
}

/// T of the members under test.
pub const T: Duration = Duration::from_millis(1000);

/// By how much a wall clock is stepped: nearly an hour, since signals from further ahead are refused.
const STEP_S: i64 = 3500;

fn who(seed: &mut Seed, members: usize) -> Who {
    if seed.below(2) == 0 { Who::Leader } else { Who::Member(seed.below(members)) }
}

fn lasting(seed: &mut Seed) -> Duration {
    Duration::from_millis(20) + seed.duration(T * 3)
}

fn link(seed: &mut Seed, server: Server) -> Link {
    let way = [Way::ToServer, Way::ToClient, Way::Both][seed.below(3)];
    match seed.below(6) {
        // Bytes of an order that arrive later than U after they were written are outside of what Baton allows for
        // (HA.md rule 12: the kernel drops them), so the bridge's link loses what the stores' links keep.
        0 | 1 if server == Server::Bridge => Link::Discard(way),
        0 | 1 => Link::Stall(way),
        2 => Link::Discard(way),
        3 => Link::Delay(Duration::from_millis(20) + seed.duration(Duration::from_millis(200))),
        4 => Link::CutAfter(seed.below(2000)),
        _ => Link::Refuse,
    }
}

fn misbehaviour(seed: &mut Seed) -> Value {
    let fault = match seed.below(10) {
        0 => json!({ "kind": "lost_ack_before" }),
        1 => json!({ "kind": "lost_ack_after" }),
        // Longer than the members wait for an answer, shorter than they wait for proof of absence.
        2 => json!({ "kind": "hang_before", "ms": 1300 }),
        3 => json!({ "kind": "hang_after", "ms": 1500 }),
        4 => json!({ "kind": "null_orderid" }),
        5 => json!({ "kind": "broker_error", "status": 500, "message": null, "placed": seed.below(2) == 0 }),
        6 => json!({ "kind": "bad_gateway", "placed": seed.below(2) == 0 }),
        7 => json!({ "kind": "rate_limited" }),
        8 => json!({ "kind": "hidden", "ms": 1200 }),
        _ => json!({ "kind": "slow_fills", "ms": 700 }),
    };
    json!({ "fault": fault, "verb": "placeorder", "count": 1 + seed.below(4) })
}

/// Draws a fault; the common ones are those that happen to the leader and its links.
pub fn draw(seed: &mut Seed, members: usize) -> Fault {
    match seed.below(100) {
        0..14 => Fault::Kill(who(seed, members), lasting(seed)),
        14..26 => Fault::Stop(who(seed, members), lasting(seed)),
        26..31 => Fault::Terminate(who(seed, members)),
        31..32 => Fault::Roll,
        32..43 => {
            let action = ["kill", "stop"][seed.below(2)];
            Fault::At(PLACES[seed.below(PLACES.len())], action, lasting(seed))
        }
        43..63 => {
            let server = [Server::Postgres, Server::Redis, Server::Bridge][seed.below(3)];
            Fault::Link(who(seed, members), server, link(seed, server), lasting(seed))
        }
        63..66 => Fault::Clock(who(seed, members), [-STEP_S, STEP_S][seed.below(2)], lasting(seed)),
        66..68 => Fault::KillRedis(lasting(seed)),
        68..69 => Fault::RestartRedis(lasting(seed)),
        69..72 => Fault::StopRedis(lasting(seed)),
        72..77 => {
            let losses = [Loss::Everything, Loss::Lease, Loss::LeaseExpires, Loss::Epoch];
            Fault::Lose(losses[seed.below(losses.len())])
        }
        77..79 => Fault::KillPostgres(lasting(seed)),
        79..80 => Fault::RestartPostgres(lasting(seed)),
        80..86 => Fault::EndSession { pin: seed.below(2) == 0 },
        _ => Fault::Bridge(misbehaviour(seed), lasting(seed)),
    }
}
