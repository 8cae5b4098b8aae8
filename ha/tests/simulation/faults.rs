//! What can happen to a cluster, and when: drawn from the seed before the schedule begins.

use std::rc::Rc;

use ha::Timing;

use crate::dice::Dice;
use crate::postgres;
use crate::process::{self, Process, nanos, terminate_gracefully};
use crate::redis::{Lease, State};
use crate::world::{MILLI, Trap, World};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    PauseLeader(u64),
    PauseAny(u64),
    CrashLeader,
    CrashAny,
    LoseHostOfLeader,
    HangLeader(u64),
    CutPostgres(Direction, u64),
    /// First the answers are held, then everything.
    CutAnswersThenAll(u64, u64),
    CutRedis(Direction, u64),
    SlowLeader(u64, u64),
    EndPin,
    EndAnySession,
    RestartPostgres(u64),
    SilencePostgres(u64),
    StallCommits(u64),
    FailOver {
        lag: u64,
        down: u64,
    },
    StopRedis(u64),
    SilenceRedis(u64),
    FlushAll,
    DeleteLease,
    ExpireLease,
    ForgeLease,
    /// What remains in Redis of an epoch whose commit PostgreSQL lost.
    HigherEpochInRedis,
    /// The next process that takes the pin is paused there, or its host is lost: between pin and epoch.
    StopNextCandidate {
        lost: bool,
        span: u64,
    },
    Terminate,
    TerminateAny,
    SecondProcess,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    Out,
    In,
    Both,
}

/// Draws one fault of those that the whole protocol is to stand.
pub fn any(dice: &mut Dice, ttl: u64) -> Fault {
    let mut span = |most: u64| dice.within(MILLI, most);
    let (short, long, outage) = (span(ttl / 2), span(ttl * 3), span(ttl * 2));
    let direction = match dice.pick(3) {
        0 => Direction::Out,
        1 => Direction::In,
        _ => Direction::Both,
    };
    match dice.pick(37) {
        0..=3 => Fault::PauseLeader(long),
        4 => Fault::PauseAny(long),
        5 | 6 => Fault::CrashLeader,
        7 => Fault::CrashAny,
        8 => Fault::LoseHostOfLeader,
        9 => Fault::HangLeader(long),
        10..=12 => Fault::CutPostgres(direction, long),
        13 => Fault::CutRedis(direction, long),
        14 | 15 => Fault::SlowLeader(dice.within(50 * MILLI, 700 * MILLI), long),
        16 | 17 => Fault::EndPin,
        18 => Fault::EndAnySession,
        19 => Fault::RestartPostgres(outage),
        20 => Fault::SilencePostgres(outage),
        21 => Fault::StallCommits(outage),
        22 => Fault::StopRedis(long),
        23 => Fault::SilenceRedis(long),
        24 => Fault::FlushAll,
        25 => Fault::DeleteLease,
        26 => Fault::ForgeLease,
        27 | 28 => Fault::Terminate,
        29 => Fault::TerminateAny,
        30 => Fault::SecondProcess,
        31 => Fault::HigherEpochInRedis,
        32 => Fault::StopNextCandidate { lost: false, span: long },
        33 => Fault::StopNextCandidate { lost: true, span: 0 },
        34 | 35 => Fault::CutAnswersThenAll(short * 3 / 2, long),
        _ => Fault::PauseLeader(short),
    }
}

/// Draws one fault of Redis.
pub fn of_redis(dice: &mut Dice, ttl: u64) -> Fault {
    let span = dice.within(MILLI, ttl * 3);
    match dice.pick(7) {
        0 => Fault::StopRedis(span),
        1 => Fault::SilenceRedis(span),
        2 => Fault::FlushAll,
        3 => Fault::DeleteLease,
        4 => Fault::ExpireLease,
        5 => Fault::ForgeLease,
        _ => Fault::CutRedis(Direction::Both, span),
    }
}

/// Draws one fault that moves leadership and kills nobody.
pub fn while_stopping(dice: &mut Dice, ttl: u64) -> Fault {
    let (short, long) = (dice.within(MILLI, ttl / 2), dice.within(MILLI, ttl * 2));
    match dice.pick(9) {
        0 => Fault::PauseLeader(short),
        1 => Fault::PauseLeader(long),
        2 => Fault::HigherEpochInRedis,
        3 => Fault::EndPin,
        4 => Fault::SlowLeader(dice.within(50 * MILLI, 700 * MILLI), long),
        5 => Fault::StopNextCandidate { lost: false, span: long },
        6 => Fault::RestartPostgres(short),
        7 => Fault::StopRedis(long),
        _ => Fault::CutPostgres(Direction::Both, short),
    }
}

/// The process that holds the pin; some process if none does.
pub fn leader(world: &World) -> Option<Rc<Process>> {
    let holder = world.postgres.borrow().pin_process();
    let processes = world.processes.borrow();
    holder.map(|index| processes[index].clone()).filter(|process| process.alive.get())
}

fn any_process(world: &World) -> Option<Rc<Process>> {
    let alive: Vec<Rc<Process>> =
        world.processes.borrow().iter().filter(|process| process.alive.get()).cloned().collect();
    let place = world.dice.borrow_mut().pick(alive.len());
    alive.get(place).cloned()
}

fn some_process(world: &World) -> Option<Rc<Process>> {
    leader(world).or_else(|| any_process(world))
}

/// Lets it happen.
pub fn happen(world: &Rc<World>, fault: Fault, timing: Timing) {
    world.tell(|| format!("--- {fault:?}"));
    let now = world.now();
    match fault {
        Fault::PauseLeader(span) => pause(world, some_process(world), span),
        Fault::PauseAny(span) => pause(world, any_process(world), span),
        Fault::CrashLeader => some_process(world).iter().for_each(Process::crash),
        Fault::CrashAny => any_process(world).iter().for_each(Process::crash),
        Fault::LoseHostOfLeader => {
            some_process(world).iter().for_each(lose_host);
        }
        Fault::HangLeader(span) => {
            if let Some(process) = some_process(world) {
                process.hang();
                world.after(span, move |_| process.unhang());
            }
        }
        Fault::CutPostgres(direction, span) => {
            if let Some(process) = some_process(world) {
                if direction != Direction::In {
                    process.postgres_link.out_cut_until.set(now + span);
                }
                if direction != Direction::Out {
                    process.postgres_link.in_cut_until.set(now + span);
                }
            }
        }
        Fault::CutAnswersThenAll(first, then) => {
            if let Some(process) = some_process(world) {
                process.postgres_link.in_cut_until.set(now + first);
                world.after(first + world.draw(MILLI, 100 * MILLI), move |world| {
                    process.postgres_link.out_cut_until.set(world.now() + then);
                    process.postgres_link.in_cut_until.set(world.now() + then);
                });
            }
        }
        Fault::CutRedis(direction, span) => {
            if let Some(process) = some_process(world) {
                if direction != Direction::In {
                    process.redis_link.out_cut_until.set(now + span);
                }
                if direction != Direction::Out {
                    process.redis_link.in_cut_until.set(now + span);
                }
            }
        }
        Fault::SlowLeader(extra, span) => {
            if let Some(process) = some_process(world) {
                process.postgres_link.slow.set((extra, now + span));
            }
        }
        Fault::EndPin => {
            let pin = world.postgres.borrow().pin_session();
            if let Some(session) = pin {
                postgres::terminate(world, session, "somebody terminated it");
            }
        }
        Fault::EndAnySession => {
            let Some(process) = any_process(world) else { return };
            let sessions = world.postgres.borrow().sessions_of(process.index);
            let place = world.dice.borrow_mut().pick(sessions.len());
            if let Some(session) = sessions.get(place) {
                postgres::terminate(world, *session, "somebody terminated it");
            }
        }
        Fault::RestartPostgres(span) => postgres::restart(world, span),
        Fault::SilencePostgres(span) => world.postgres.borrow_mut().gate.silent_until = now + span,
        Fault::StallCommits(span) => world.postgres.borrow_mut().commits_stall_until = now + span,
        Fault::FailOver { lag, down } => postgres::fail_over(world, lag, down),
        Fault::StopRedis(span) => world.redis.borrow_mut().up.refuses_until = now + span,
        Fault::SilenceRedis(span) => world.redis.borrow_mut().up.silent_until = now + span,
        Fault::FlushAll => world.redis.borrow_mut().flush(),
        Fault::DeleteLease => world.redis.borrow_mut().delete_lease(),
        Fault::ExpireLease => world.redis.borrow_mut().expire_lease_at(now + MILLI),
        Fault::ForgeLease => {
            let epoch = world.postgres.borrow().epoch().get();
            let state = if world.dice.borrow_mut().one_in(2) { State::Leader } else { State::Candidate };
            let lease = Lease { instance: "somebody/else".to_owned(), epoch, state };
            world.redis.borrow_mut().put_lease(lease, now + nanos(timing.ttl));
        }
        Fault::HigherEpochInRedis => {
            let above = world.draw(1, 5);
            let mut redis = world.redis.borrow_mut();
            redis.epoch = world.postgres.borrow().epoch().get() + i64::try_from(above).unwrap();
        }
        Fault::StopNextCandidate { lost, span } => world.trap.set(Some(Trap { lost, span })),
        Fault::Terminate => terminate(world, some_process(world)),
        Fault::TerminateAny => terminate(world, any_process(world)),
        Fault::SecondProcess => {
            if let Some(process) = some_process(world) {
                process::start(world, process.member, timing);
            }
        }
    }
}

fn lose_host(process: &Rc<Process>) {
    process.postgres_link.lost.set(true);
    process.redis_link.lost.set(true);
    process.crash();
}

/// A candidate has taken the pin: springs the trap, if one is set.
pub fn pin_taken(world: &Rc<World>, process: usize) {
    let Some(Trap { lost, span }) = world.trap.take() else { return };
    world.after(0, move |world| {
        let candidate = world.processes.borrow()[process].clone();
        world.tell(|| format!("--- p{process} is stopped between pin and epoch"));
        if lost { lose_host(&candidate) } else { pause(world, Some(candidate), span) }
    });
}

fn pause(world: &World, process: Option<Rc<Process>>, span: u64) {
    if let Some(process) = process {
        process.pause();
        world.after(span, move |_| process.go_on());
    }
}

/// Tells the process that fills a member's place to stop.
pub fn terminate_member(world: &World, member: usize) {
    let process = world.processes.borrow().iter().find(|p| p.alive.get() && p.member == member).cloned();
    terminate(world, process);
}

fn terminate(world: &World, process: Option<Rc<Process>>) {
    if let Some(process) = process.filter(|process| !process.draining.get()) {
        process.tell(|| "is asked to leave".to_owned());
        let flow = terminate_gracefully(process.clone());
        world.spawn(&process, flow);
    }
}

/// Ends every disturbance.
pub fn heal(world: &World) {
    world.tell(|| "--- healed".to_owned());
    world.trap.set(None);
    {
        let mut postgres = world.postgres.borrow_mut();
        postgres.gate = crate::redis::Gate::default();
        postgres.commits_stall_until = 0;
    }
    world.redis.borrow_mut().up = crate::redis::Gate::default();
    world.weather.set(crate::world::Weather::default());
    let processes: Vec<Rc<Process>> = world.processes.borrow().clone();
    for process in processes.iter().filter(|process| process.alive.get()) {
        process.postgres_link.heal();
        process.redis_link.heal();
        process.go_on();
        process.unhang();
    }
}
