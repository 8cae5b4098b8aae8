//! What each step does, and when it can be taken: a step that cannot gives nothing.

mod clock;
mod election;
mod faults;
mod handover;
mod postgres;
mod tenure;
mod term;
mod wire;

use crate::action::Action;
use crate::config::Config;
use crate::state::State;

/// The state after a step, if it can be taken.
pub(crate) fn take(config: &Config, state: &State, action: Action) -> Option<State> {
    use Action::*;
    let mut next = *state;
    let (c, s) = (config, &mut next);
    match action {
        Tick => clock::tick(c, s),

        Crash(i) => faults::crash(s, i),
        Restart(i) => faults::restart(s, i),
        EndSession(sid) => faults::end_session(s, sid),
        SessionEnds(sid) => postgres::session_ends(s, sid),
        PostgresGoes => faults::postgres_goes(c, s),
        PostgresReturns => faults::postgres_returns(c, s),
        Replicate => faults::replicate(c, s),
        Failover => faults::failover(c, s),
        LiftReduceOnly => faults::lift_reduce_only(c, s),
        LoseLease => faults::lose_lease(c, s),
        Flush => faults::flush(c, s),
        RedisGoes => faults::redis_goes(c, s),
        RedisReturns => faults::redis_returns(c, s),
        Halt => faults::halt(c, s),
        Unhalt => faults::unhalt(c, s),
        ReduceOnly => faults::reduce_only(c, s),
        Corrupt => faults::corrupt(s),
        Repair => faults::repair(s),
        CutLink(i) => faults::cut_link(s, i),
        TermFails(i) => faults::term_fails(s, i),

        Look(i) => election::look(s, i),
        Stand(i) => election::stand(c, s, i),
        WinLease(i) => election::win_lease(c, s, i),
        Evict(i) => election::evict(c, s, i),
        TakePin(i) => election::take_pin(c, s, i),
        LockRow(i) => election::lock_row(c, s, i),
        CommitEpoch(i) => election::commit_epoch(c, s, i),
        Announce(i) => election::announce(c, s, i),

        Beat(i) => tenure::beat(c, s, i),
        Renew(i) => tenure::renew(c, s, i),
        SeeHigher(i) => tenure::see_higher(c, s, i),
        Suspend(i) => tenure::suspend(s, i),
        Repin(i) => tenure::repin(c, s, i),
        LockOwn(i) => tenure::lock_own(c, s, i),
        Reclaim(i) => tenure::reclaim(s, i),
        GiveUp(i) => tenure::give_up(c, s, i),

        Terminate(i) => handover::terminate(s, i),
        YieldLink(i) => handover::yield_link(c, s, i),
        Offer(i, to) => handover::offer(c, s, i, to),
        Acknowledge(i) => handover::acknowledge(c, s, i),
        OfferLapses(i) => handover::offer_lapses(s, i),
        Release(i) => handover::release(c, s, i),
        ReservationLapses(i) => handover::reservation_lapses(c, s, i),
        Succeeded(i) => handover::succeeded(s, i),
        LeaveAlone(i) => handover::leave_alone(c, s, i),
        Leave(i) => handover::leave(c, s, i),

        Doubt(i) => term::doubt(c, s, i),
        Revalidate(i) => term::revalidate(c, s, i),
        Begin(i, slot) => term::begin(c, s, i, slot),
        LockJournal(sid) => term::lock_journal(c, s, sid),
        CommitJournal(sid) => term::commit_journal(c, s, sid),
        Learn(i) => term::learn(c, s, i),
        ReadBooks(i) => term::read_books(c, s, i),
        ApplyBooks(i) => term::apply_books(c, s, i),
        Record(slot) => term::record(c, s, slot),

        Check(slot) => wire::check(c, s, slot),
        Withhold(slot) => wire::withhold(c, s, slot),
        Write(slot) => wire::write(c, s, slot),
        Deliver(slot, copy) => wire::deliver(c, s, slot, copy),
        Show(slot) => wire::show(s, slot),
        Fill(slot) => wire::fill(c, s, slot),
        EndOrder(slot) => wire::end_order(c, s, slot),
        Answer(slot) => wire::answer(s, slot),
        Silence(slot) => wire::silence(c, s, slot),
    }?;
    crate::canonical::canonical(config, &mut next);
    (next != *state).then_some(next)
}
