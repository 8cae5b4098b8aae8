//! The configurations, each about some of the faults.

use crate::config::{Class, Config, Fault, Slot, Timing};
use crate::property::{EPOCH_RISES, NO_FALSE_END};

const ENTRY: &[Slot] = &[Slot::first(Class::Entry)];
const TWO_ENTRIES: &[Slot] = &[Slot::first(Class::Entry), Slot::first(Class::Entry)];
const ROUND_TRIP: &[Slot] = &[Slot::first(Class::Entry), Slot::first(Class::Exit)];
const EXIT_TWICE: &[Slot] = &[Slot::first(Class::Exit), Slot::again(Class::Exit, 0)];
const TWO_EXITS: &[Slot] = &[Slot::first(Class::Exit), Slot::first(Class::Exit)];
const EXIT: &[Slot] = &[Slot::first(Class::Exit)];

fn trading(name: &'static str, slots: &'static [Slot]) -> Config {
    Config { slots, redis: false, silence: true, ..Config::new(name, 2) }
}

/// First start, and crashes in every step of an election (rules 2 to 5, 23).
pub fn elections() -> Config {
    Config { led: false, ..Config::new("elections", 2) }.with(Fault::Crash, 2)
}

/// Three instances, one crash.
pub fn three() -> Config {
    Config { redis: false, ..Config::new("three instances", 3) }.with(Fault::Crash, 1)
}

/// Redis loses keys and goes away at any time (rules 4, 15).
pub fn redis() -> Config {
    Config { redis_faults: true, ..Config::new("redis", 2) }.with(Fault::Crash, 1)
}

/// Sessions end, PostgreSQL goes away, a candidate dies between pin and commit (rules 6, 16).
pub fn suspension() -> Config {
    Config { redis: false, ..Config::new("suspension", 2) }
        .with(Fault::Outage, 1)
        .with(Fault::EndSession, 1)
        .with(Fault::Crash, 1)
}

/// Handovers, with stops of everybody (rules 19, 20).
pub fn handover() -> Config {
    Config::new("handover", 2).with(Fault::Terminate, 2)
}

/// Handovers whose parties die.
pub fn handover_disturbed() -> Config {
    Config::new("handover, disturbed", 2).with(Fault::Terminate, 1).with(Fault::Crash, 1)
}

/// An entry: pauses, lost answers (rules 8, 9, 10, 12).
pub fn entry() -> Config {
    trading("entry", ENTRY)
}

/// An entry and a crash.
pub fn entry_crash() -> Config {
    trading("entry, crash", ENTRY).with(Fault::Crash, 1)
}

/// An entry, and a bridge that hides it for a while.
pub fn entry_hidden() -> Config {
    Config { timing: Timing { hides: 1, ..Timing::SMALL }, ..trading("entry, hidden", ENTRY) }
}

/// An entry that is written late, to a bridge that hides it for long: B exceeds K + D (rule 10).
pub fn entry_late() -> Config {
    let timing = Timing { idle_close: 3, hides: 4, settle: 8, ..Timing::SMALL };
    Config { timing, ..trading("entry, late and hidden", ENTRY) }
}

/// An entry while PostgreSQL goes away.
pub fn entry_outage() -> Config {
    trading("entry, outage", ENTRY).with(Fault::Outage, 1)
}

/// An entry while its term fails under it.
pub fn entry_hang() -> Config {
    trading("entry, ledger hangs", ENTRY).with(Fault::HangLedger, 1)
}

/// An entry while leadership is handed over.
pub fn entry_handover() -> Config {
    trading("entry, handover", ENTRY).with(Fault::Terminate, 1)
}

/// Two signals on one instrument.
pub fn two_entries() -> Config {
    trading("two entries", TWO_ENTRIES)
}

/// An entry and the exit of what it fills.
pub fn round_trip() -> Config {
    trading("entry and exit", ROUND_TRIP)
}

/// Two signals that close the same position: exits never sell more than is held (rule 11).
pub fn two_exits() -> Config {
    Config { held: 1, silence: false, ..trading("two exits", TWO_EXITS) }
}

/// Exits with partial fills, ends and repetition (rule 11).
pub fn exits() -> Config {
    Config { held: 2, broker_ends: true, ..trading("exits", EXIT_TWICE) }
}

/// Switches while an entry is journaled.
pub fn switches() -> Config {
    Config { silence: false, ..trading("switches", ENTRY) }.with(Fault::Halt, 1).with(Fault::ReduceOnly, 1)
}

/// A halt while an exit is journaled.
pub fn halted_exit() -> Config {
    Config { held: 1, silence: false, ..trading("halted exit", EXIT) }.with(Fault::Halt, 1)
}

/// Damaged state: an entry is not journaled (rule 14).
pub fn corrupt() -> Config {
    Config { silence: false, ..trading("corrupt", ENTRY) }.with(Fault::Corrupt, 1)
}

/// The broker is cut from an instance (rule 18).
pub fn cut_off() -> Config {
    trading("cut off", ENTRY).with(Fault::CutLink, 1)
}

/// The same without orders, for the question who leads.
pub fn cut_off_only() -> Config {
    let timing = Timing { ttl: 3, validity: 2, ..Timing::SMALL };
    Config { redis: false, timing, ..Config::new("cut off, no orders", 2) }.with(Fault::CutLink, 1)
}

/// A failover of PostgreSQL that loses the tail, without Redis: reduce-only keeps an entry from being sent again
/// (rule 17). An epoch can be given out twice then, so statements compare the holder too. And a lost entry's order stays
/// at the broker without an intent, for the operator to close.
pub fn failover() -> Config {
    let excepted = &[EPOCH_RISES, NO_FALSE_END];
    Config { silence: false, replicates: false, excepted, ..trading("failover", ENTRY) }
        .with(Fault::Failover, 1)
}

/// A failover without orders, with Redis, which remembers the epoch.
pub fn failover_epoch() -> Config {
    Config::new("failover, epoch", 2).with(Fault::Failover, 1)
}

/// A failover while an exit is out.
pub fn failover_exit() -> Config {
    let excepted = &[EPOCH_RISES];
    Config { held: 1, silence: false, replicates: false, excepted, ..trading("failover, exit", EXIT) }
        .with(Fault::Failover, 1)
}

/// Leadership that moves too often (rule 21).
pub fn flapping() -> Config {
    Config { flap_limit: Some(1), silence: false, ..trading("flapping", ENTRY) }
}

/// Instances that lost leadership let others go first (rule 21).
pub fn hold_down() -> Config {
    let timing = Timing { hold_down: 2, ..Timing::SMALL };
    Config { redis: false, timing, ..Config::new("hold-down", 2) }
        .with(Fault::Crash, 1)
        .with(Fault::EndSession, 1)
}

/// A Redis that is all there is, for the mutant that trusts it alone.
pub fn redis_entry() -> Config {
    Config { redis: true, redis_faults: true, ..trading("redis, entry", ENTRY) }
}
