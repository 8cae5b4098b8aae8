//! What can happen next. Every participant's step is one yield point; nobody is ever in a hurry.

use crate::config::Config;
use crate::state::{Id, Journal, Life, Role, SESSIONS, Sender, Sid, State};

/// A step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Time passes.
    Tick,

    /// A process dies.
    Crash(Id),
    /// It is started again.
    Restart(Id),
    /// A session is ended by somebody.
    EndSession(Sid),
    /// A session that was told to end, or whose client has gone, ends.
    SessionEnds(Sid),
    /// PostgreSQL goes away.
    PostgresGoes,
    /// PostgreSQL is back.
    PostgresReturns,
    /// The standby receives what the primary has.
    Replicate,
    /// The standby is promoted.
    Failover,
    /// Reduce-only is lifted after a failover.
    LiftReduceOnly,
    /// The lease vanishes.
    LoseLease,
    /// Redis forgets everything.
    Flush,
    /// Redis goes away.
    RedisGoes,
    /// Redis is back.
    RedisReturns,
    /// The operator halts trading.
    Halt,
    /// The operator ends the halt.
    Unhalt,
    /// The operator allows reduction only.
    ReduceOnly,
    /// Stored state is damaged.
    Corrupt,
    /// Stored state is repaired.
    Repair,
    /// An instance loses the broker.
    CutLink(Id),
    /// The ledger hangs under a leader for too long: its term begins anew.
    TermFails(Id),

    /// A follower begins to watch the pin as it is.
    Look(Id),
    /// It has evidence, and stands.
    Stand(Id),
    /// A candidate asks Redis.
    WinLease(Id),
    /// It ends the stale leader's session.
    Evict(Id),
    /// It tries the pin.
    TakePin(Id),
    /// It locks the row and reads it.
    LockRow(Id),
    /// It commits its epoch.
    CommitEpoch(Id),
    /// It raises the epoch in Redis; leads.
    Announce(Id),

    /// A leader's heartbeat.
    Beat(Id),
    /// A leader writes its lease.
    Renew(Id),
    /// A higher epoch is seen in the row.
    SeeHigher(Id),
    /// A leader finds its session gone, or its deadline passed: suspended.
    Suspend(Id),
    /// It ends its own old session and tries the pin.
    Repin(Id),
    /// It locks the row.
    LockOwn(Id),
    /// It finds itself in the row and commits.
    Reclaim(Id),
    /// It becomes a follower.
    GiveUp(Id),

    /// SIGTERM.
    Terminate(Id),
    /// A leader that is cut from the broker while another is not begins to hand over.
    YieldLink(Id),
    /// It offers leadership.
    Offer(Id, Id),
    /// The named one accepts.
    Acknowledge(Id),
    /// The offer was not answered in time.
    OfferLapses(Id),
    /// It was: the lease is reserved, the fence closed, the pin released.
    Release(Id),
    /// No higher epoch came: back to office.
    ReservationLapses(Id),
    /// A higher epoch came: done.
    Succeeded(Id),
    /// Nobody takes over: the exit policy, and out.
    LeaveAlone(Id),
    /// An instance that does not lead goes.
    Leave(Id),

    /// A new term puts what is unfinished in doubt and reads the state back.
    Doubt(Id),
    /// Damaged state is noticed.
    Revalidate(Id),
    /// An order is decided and its journal statement sent.
    Begin(Id, u8),
    /// The statement locks the leadership row and reads it.
    LockJournal(Sid),
    /// The statement commits.
    CommitJournal(Sid),
    /// The leader learns what became of it.
    Learn(Id),
    /// The broker's books are read.
    ReadBooks(Id),
    /// What they say is committed.
    ApplyBooks(Id),
    /// An order's outcome is committed.
    Record(u8),

    /// The sender's check passes.
    Check(u8),
    /// The sender's check fails.
    Withhold(u8),
    /// The sender writes.
    Write(u8),
    /// The broker accepts what was written.
    Deliver(u8, u8),
    /// The order shows in the books.
    Show(u8),
    /// One unit is filled.
    Fill(u8),
    /// The order ends.
    EndOrder(u8),
    /// The answer arrives.
    Answer(u8),
    /// No answer arrives.
    Silence(u8),
}

impl Action {
    /// A step that a cluster makes by itself when nothing is done to it: participants, time, stores that come back.
    pub fn is_progress(self) -> bool {
        !matches!(
            self,
            Self::Crash(_)
                | Self::Restart(_)
                | Self::EndSession(_)
                | Self::PostgresGoes
                | Self::Failover
                | Self::LoseLease
                | Self::Flush
                | Self::RedisGoes
                | Self::Halt
                | Self::ReduceOnly
                | Self::Corrupt
                | Self::CutLink(_)
                | Self::TermFails(_)
                | Self::Terminate(_)
        )
    }
}

/// Whether a step is worth trying: the cheap half of its guard, so that states are not copied in vain.
pub(crate) fn is_worth_trying(s: &State, action: Action) -> bool {
    use Action::*;
    match action {
        Look(i) | Stand(i) | Acknowledge(i) | Leave(i) => s.of(i).role == Role::Follow,
        WinLease(i) | Evict(i) | TakePin(i) | LockRow(i) | CommitEpoch(i) | Announce(i) => {
            matches!(s.of(i).role, Role::Stand(_))
        }
        Beat(i)
        | Renew(i)
        | Suspend(i)
        | YieldLink(i)
        | Offer(i, _)
        | OfferLapses(i)
        | Release(i)
        | LeaveAlone(i)
        | Doubt(i)
        | Revalidate(i)
        | Begin(i, _)
        | TermFails(i) => s.of(i).role == Role::Lead,
        Learn(i) => s.of(i).journal.is_some(),
        ReadBooks(i) => s.of(i).role == Role::Lead && s.of(i).reading.is_none(),
        ApplyBooks(i) => s.of(i).reading.is_some(),
        Repin(i) | LockOwn(i) | Reclaim(i) | GiveUp(i) => {
            matches!(s.of(i).role, Role::Suspended(_) | Role::Repinned | Role::Reclaiming)
        }
        ReservationLapses(i) | Succeeded(i) => matches!(s.of(i).role, Role::Released(_)),
        EndSession(sid) | SessionEnds(sid) => s.session(sid).life != Life::Free,
        LockJournal(sid) => matches!(s.session(sid).journal, Journal::Begun(_)),
        CommitJournal(sid) => matches!(s.session(sid).journal, Journal::Locked(_)),
        Check(n) | Withhold(n) => matches!(s.wire[usize::from(n)].sender, Sender::Ready { .. }),
        Write(n) => matches!(s.wire[usize::from(n)].sender, Sender::Checked { .. }),
        Answer(n) | Silence(n) => matches!(s.wire[usize::from(n)].sender, Sender::Sent { .. }),
        Record(n) => matches!(s.wire[usize::from(n)].sender, Sender::Got { .. }),
        Deliver(n, copy) => s.wire[usize::from(n)].bytes[usize::from(copy)].is_some(),
        Show(n) | Fill(n) | EndOrder(n) => s.wire[usize::from(n)].orders > 0,
        _ => true,
    }
}

/// Every step that some state of this configuration may allow.
pub(crate) fn all(config: &Config) -> Vec<Action> {
    use Action::*;
    let mut all = vec![
        Tick,
        PostgresGoes,
        PostgresReturns,
        Replicate,
        Failover,
        LiftReduceOnly,
        LoseLease,
        Flush,
        RedisGoes,
        RedisReturns,
        Halt,
        Unhalt,
        ReduceOnly,
        Corrupt,
        Repair,
    ];
    let instances = u8::try_from(config.instances).unwrap_or(u8::MAX);
    let slots = u8::try_from(config.slots.len()).unwrap_or(u8::MAX);
    for i in 0..instances {
        all.extend(
            [
                Crash,
                Restart,
                CutLink,
                TermFails,
                Look,
                Stand,
                WinLease,
                Evict,
                TakePin,
                LockRow,
                CommitEpoch,
                Announce,
                Beat,
                Renew,
                SeeHigher,
                Suspend,
                Repin,
                LockOwn,
                Reclaim,
                GiveUp,
                Terminate,
                YieldLink,
                Acknowledge,
                OfferLapses,
                Release,
                ReservationLapses,
                Succeeded,
                LeaveAlone,
                Leave,
                Doubt,
                Revalidate,
                Learn,
                ReadBooks,
                ApplyBooks,
            ]
            .map(|step: fn(Id) -> Action| step(i)),
        );
        all.extend((0..instances).filter(|j| *j != i).map(|j| Offer(i, j)));
        all.extend((0..slots).map(|slot| Begin(i, slot)));
    }
    for sid in 0..u8::try_from(SESSIONS).unwrap_or(u8::MAX) {
        all.extend([EndSession(sid), SessionEnds(sid), LockJournal(sid), CommitJournal(sid)]);
    }
    for slot in 0..slots {
        all.extend(
            [Record, Check, Withhold, Write, Show, Fill, EndOrder, Answer, Silence]
                .map(|step: fn(u8) -> Action| step(slot)),
        );
        all.extend([Deliver(slot, 0), Deliver(slot, 1)]);
    }
    all
}
