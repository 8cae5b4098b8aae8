//! The acts of the story, a function a step: each does one thing to the cluster and says what it saw.

mod failover;
mod finish;
mod opening;
mod pause;
mod state;
mod stop;
mod trading;

pub(super) use failover::{kill_leader, restart, terminate_leader};
pub(super) use finish::{compare, exit};
pub(super) use opening::{instances, paper, stores};
pub(super) use pause::{pause_leader, wake};
pub(super) use state::{corruption, outage};
pub(super) use stop::stop_hit;
pub(super) use trading::{entry, market_up, pyramid, repeat};

use std::time::Duration;

use super::scene::Wish;
use rust_decimal::dec;

/// A crash must be over by then: ten times the target's tail, since a demo may run on any machine.
const CRASH_WITHIN: Duration = Duration::from_millis(2500);
/// A hang: the lease's 3 s, and as much again.
const HANG_WITHIN: Duration = Duration::from_secs(6);
/// A hand-over.
const HANDOVER_WITHIN: Duration = Duration::from_millis(1000);
/// A price at the stop, with no feed, until the position is closed.
const STOP_WITHIN: Duration = Duration::from_secs(4);
/// A database that accepts again, until somebody trades: ten times the target of 1 s.
const OUTAGE_WITHIN: Duration = Duration::from_secs(10);
/// A repair, until the leader trades on what was repaired.
const REPAIR_WITHIN: Duration = Duration::from_secs(10);
/// How long a restarted instance may take to be ready.
const READY_WITHIN: Duration = Duration::from_secs(15);

/// The base position: one ATR below the price is its stop.
const GOLD: Wish = Wish {
    instrument: "GOLD_MINI",
    position: "Long_1",
    price: dec!(140_000),
    stop: dec!(139_650),
    atr: dec!(350),
};
/// The same instrument six ATRs higher, where a pyramid's gates open.
const GOLD_PYRAMID: Wish = Wish {
    instrument: "GOLD_MINI",
    position: "Long_2",
    price: dec!(142_100),
    stop: dec!(141_750),
    atr: dec!(350),
};
/// What comes in while stored state is damaged.
const COPPER: Wish =
    Wish { instrument: "COPPER", position: "Long_1", price: dec!(1_000), stop: dec!(990), atr: dec!(5) };
/// What comes in while the leader hangs.
const SILVER: Wish = Wish {
    instrument: "SILVER_MINI",
    position: "Long_1",
    price: dec!(155_000),
    stop: dec!(154_000),
    atr: dec!(500),
};
