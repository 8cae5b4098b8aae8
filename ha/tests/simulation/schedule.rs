//! One schedule: a cluster of three, what happens to it, and what must have come of it.

use std::rc::Rc;
use std::time::Duration;

use ha::Timing;

use crate::checker::Tally;
use crate::dice::Dice;
use crate::faults::{self, Fault};
use crate::mutant::Mutant;
use crate::process::{self, nanos};
use crate::world::{MILLI, Weather, World};

/// What a schedule is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Theme {
    /// Everything at once; afterwards somebody leads again (S3, S4, S7, S9, L2).
    Anything,
    /// Redis alone misbehaves: nothing moves (S8).
    Redis,
    /// Late messages and short pauses: nothing moves (L3).
    Jitter,
    /// The leader's engine hangs for good: it is replaced (L5).
    Hang,
    /// The leader is killed: it is replaced in a moment (L1).
    Crash,
    /// A copy of PostgreSQL is promoted that lost its tail: the epoch rises all the same (S7).
    FailOver,
    /// Members are asked to leave, one after the other: each leadership is handed over (S11).
    Rolling,
    /// All are told to stop while leadership is about to move: the last one acts by the exit policy (rule 20).
    Stopping,
}

impl Theme {
    /// Which one a seed stands for: mostly everything at once.
    pub fn of(seed: u64) -> Self {
        match seed % 16 {
            0 | 1 => Self::Redis,
            2 => Self::Jitter,
            3 => Self::Hang,
            4 | 5 => Self::Crash,
            6 | 7 => Self::FailOver,
            8 => Self::Rolling,
            9 => Self::Stopping,
            _ => Self::Anything,
        }
    }
}

/// What came of it.
pub struct Report {
    pub theme: Theme,
    pub violation: Option<String>,
    pub tally: Tally,
    pub trace: Vec<String>,
    pub steps: u64,
    /// How long after the last disturbance somebody led again, for the themes that ask.
    pub healed_after: Option<Duration>,
}

const MEMBERS: usize = 3;

/// Runs the schedule of a seed.
pub fn run(seed: u64, theme: Theme, mutant: Option<Mutant>, traced: bool) -> Report {
    let world = World::new(seed, mutant, traced);
    world.tell(|| format!("seed {seed}, theme {theme:?}, mutant {mutant:?}"));
    let timing = Timing::for_ttl(Duration::from_millis(if theme == Theme::Jitter { 3000 } else { 1500 }));
    world.postgres.borrow_mut().set_timeouts(&timing);
    for member in 0..MEMBERS {
        let delay = world.draw(0, 30 * MILLI);
        world.after(delay, move |world| {
            process::start(world, member, timing);
        });
    }
    if theme != Theme::Stopping {
        supervise(&world, timing);
    }
    let mut dice = Dice::new(seed.rotate_left(17) ^ 0xfau64);
    let healed_after = play(&world, theme, timing, &mut dice);
    let (violation, tally) = {
        let mut checker = world.checker.borrow_mut();
        (checker.violation.take(), std::mem::take(&mut checker.tally))
    };
    let (trace, steps) = (world.take_trace(), world.steps.get());
    let report = Report { theme, violation, tally, trace, steps, healed_after };
    world.tear_down();
    report
}

/// Starts a process again for a member that has none.
fn supervise(world: &Rc<World>, timing: Timing) {
    world.after(150 * MILLI, move |world| {
        for member in 0..MEMBERS {
            let filled = world.processes.borrow().iter().any(|p| p.alive.get() && p.member == member);
            if !filled {
                let delay = world.draw(0, 400 * MILLI);
                world.after(delay, move |world| {
                    let filled = world.processes.borrow().iter().any(|p| p.alive.get() && p.member == member);
                    if !filled {
                        process::start(world, member, timing);
                    }
                });
            }
        }
        supervise(world, timing);
    });
}

/// Lets time pass; false as soon as something was violated.
fn pass(world: &Rc<World>, until: u64) -> bool {
    while world.step(until) {
        if world.checker.borrow().violation.is_some() {
            return false;
        }
    }
    true
}

/// Lets time pass until somebody has authorised something, and says after how long.
fn pass_until_somebody_leads(world: &Rc<World>, bound: u64, promise: &str) -> Option<Duration> {
    let from = world.now();
    while world.step(from + bound) {
        let checker = world.checker.borrow();
        if checker.violation.is_some() {
            return None;
        }
        if checker.authorised_since(from) {
            return Some(Duration::from_nanos(world.now() - from));
        }
    }
    world.checker.borrow_mut().judge(world, format!("{promise}: nobody led within {} ms", bound / MILLI));
    None
}

fn play(world: &Rc<World>, theme: Theme, timing: Timing, dice: &mut Dice) -> Option<Duration> {
    let ttl = nanos(timing.ttl);
    pass_until_somebody_leads(world, 4 * ttl, "L2")?;
    if theme == Theme::Anything {
        return anything(world, timing, dice);
    }
    // The others are ready too, and the leader's term is proved.
    if !pass(world, world.now() + ttl) {
        return None;
    }
    let before = moves(world);
    match theme {
        Theme::Redis => {
            for _ in 0..dice.within(1, 5) {
                let fault = faults::of_redis(dice, ttl);
                faults::happen(world, fault, timing);
                if !pass(world, world.now() + dice.within(MILLI, ttl)) {
                    return None;
                }
            }
            pass(world, world.now() + ttl);
            stayed(world, before, "S8");
        }
        Theme::Jitter => {
            world.weather.set(Weather { late_one_in: 100, late_again_after: ttl });
            for _ in 0..2 {
                if !pass(world, world.now() + dice.within(2 * ttl / 3, 2 * ttl)) {
                    return None;
                }
                faults::happen(world, Fault::PauseAny(1000 * MILLI), timing);
            }
            pass(world, world.now() + ttl);
            // A term that is suspended for a moment and resumed under its epoch is no transition.
            let suspensions = moves(world).1;
            stayed(world, (before.0, suspensions, before.2), "L3");
        }
        Theme::Hang | Theme::Crash => {
            if !pass(world, world.now() + dice.within(0, nanos(timing.renew))) {
                return None;
            }
            let old = faults::leader(world)?;
            let promotions = promotions(world);
            // T for the silence, T/6 and a few looks for the rest.
            let (fault, bound, promise) = if theme == Theme::Hang {
                (Fault::HangLeader(u64::MAX / 4), ttl + nanos(timing.renew) + 500 * MILLI, "L5")
            } else {
                (Fault::CrashLeader, 400 * MILLI, "L1")
            };
            faults::happen(world, fault, timing);
            let from = world.now();
            while world.step(from + bound) {
                if self::promotions(world) > promotions {
                    old.unhang();
                    return Some(Duration::from_nanos(world.now() - from));
                }
            }
            let what = format!("{promise}: p{} was not replaced within {} ms", old.index, bound / MILLI);
            world.checker.borrow_mut().judge(world, what);
        }
        Theme::FailOver => {
            for _ in 0..dice.within(0, 3) {
                let fault = match dice.pick(4) {
                    0 => Fault::Terminate,
                    1 => Fault::EndPin,
                    2 => Fault::CrashLeader,
                    _ => Fault::PauseLeader(dice.within(MILLI, 2 * ttl)),
                };
                faults::happen(world, fault, timing);
                if !pass(world, world.now() + dice.within(MILLI, ttl)) {
                    return None;
                }
            }
            let fault =
                Fault::FailOver { lag: dice.within(0, 300 * MILLI), down: dice.within(MILLI, 2 * ttl) };
            faults::happen(world, fault, timing);
            pass(world, world.now() + 2 * ttl);
            faults::heal(world);
            return pass_until_somebody_leads(world, RECOVERY * ttl, "L2");
        }
        Theme::Rolling => {
            for _ in 0..2 {
                let epoch = world.postgres.borrow().epoch();
                let old = faults::leader(world)?;
                faults::happen(world, Fault::Terminate, timing);
                pass(world, world.now() + ttl);
                let tally = world.checker.borrow().tally.promotions.clone();
                let others =
                    tally.get("crash").copied().unwrap_or(0) + tally.get("stale").copied().unwrap_or(0);
                let moved = world.postgres.borrow().epoch() > epoch;
                if others > 0 || !moved {
                    let what = format!("S11: p{}'s leadership was not handed over: {tally:?}", old.index);
                    world.checker.borrow_mut().judge(world, what);
                    return None;
                }
                pass(world, world.now() + ttl);
            }
        }
        Theme::Stopping => return stopping(world, timing, dice),
        Theme::Anything => unreachable!("it has its own way"),
    }
    None
}

/// Something moves leadership, and meanwhile everybody is told to stop. Nobody is started again.
fn stopping(world: &Rc<World>, timing: Timing, dice: &mut Dice) -> Option<Duration> {
    let ttl = nanos(timing.ttl);
    for _ in 0..dice.within(0, 3) {
        let at = world.now() + dice.within(0, ttl);
        let fault = faults::while_stopping(dice, ttl);
        world.at(at, move |world| faults::happen(world, fault, timing));
    }
    for place in 0..MEMBERS {
        let at = world.now() + dice.within(0, ttl);
        world.at(at, move |world| faults::terminate_member(world, place));
    }
    if !pass(world, world.now() + 2 * ttl) {
        return None;
    }
    faults::heal(world);
    let (from, end) = (world.now(), world.now() + GONE * ttl);
    let gone = |world: &World| world.processes.borrow().iter().all(|process| !process.alive.get());
    while !gone(world) && world.step(end) {
        if world.checker.borrow().violation.is_some() {
            return None;
        }
    }
    let (aborted, acted) = {
        let tally = &world.checker.borrow().tally;
        (tally.aborts > 0, tally.wound_down > 0)
    };
    let what = match (gone(world), acted || aborted) {
        (true, true) => return Some(Duration::from_nanos(world.now() - from)),
        (true, false) => "R20: all have left and nobody acted by the exit policy".to_owned(),
        (false, _) => format!("R20: not all have left within {} ms", GONE * ttl / MILLI),
    };
    world.checker.borrow_mut().judge(world, what);
    None
}

/// How many T a stop of all may take once nothing disturbs it.
const GONE: u64 = 12;

/// How many T may pass after the last disturbance until somebody leads again.
const RECOVERY: u64 = 3;

fn anything(world: &Rc<World>, timing: Timing, dice: &mut Dice) -> Option<Duration> {
    let ttl = nanos(timing.ttl);
    let mut last = world.now();
    for _ in 0..dice.within(1, 8) {
        let at = world.now() + dice.within(0, 3 * ttl);
        let fault = faults::any(dice, ttl);
        last = last.max(at);
        world.at(at, move |world| faults::happen(world, fault, timing));
    }
    let heal = last + dice.within(0, 2 * ttl);
    if !pass(world, heal) {
        return None;
    }
    faults::heal(world);
    pass_until_somebody_leads(world, RECOVERY * ttl, "L2")
}

fn promotions(world: &World) -> u64 {
    world.checker.borrow().tally.promotions.values().sum()
}

/// Everything that is a move of leadership.
fn moves(world: &World) -> (u64, u64, u64) {
    let tally = &world.checker.borrow().tally;
    (tally.promotions.values().sum(), tally.suspensions, tally.demotions)
}

fn stayed(world: &World, before: (u64, u64, u64), promise: &str) {
    let after = moves(world);
    if after != before && world.checker.borrow().violation.is_none() {
        let what = format!(
            "{promise}: leadership moved: (promotions, suspensions, demotions) were {before:?} and are {after:?}"
        );
        world.checker.borrow_mut().judge(world, what);
    }
}
