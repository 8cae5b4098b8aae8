//! The leadership and order protocol as a model, explored exhaustively with [stateright].
//!
//! Nothing of the product is linked: the model is written beside the code, step for step, at the code's own yield
//! points. A [`Config`] says what one exploration is about (instances, orders, faults); the configurations are in
//! [`scenario`]. Every reachable state of each has every property, or the shortest way to one that has not is printed.
//! Each [`Mutant`] takes one guard away and has to give a counterexample: a model that cannot fail proves nothing.
//!
//! ```text
//! cargo nextest run -p ha-model                        # seconds; add --no-capture for the numbers of states
//! cargo nextest run -p ha-model --run-ignored only     # the larger explorations
//! ```
//!
//! # How time and sleep are modelled
//!
//! Time is a number of ticks that everything counts down from, so states recur and the graph is finite; epochs are kept
//! by their order only. **Nobody is ever in a hurry**: any process may take no step while time passes. That is what a
//! pause, a SIGSTOP, a slow disk or a slow network is to the others, and it may last for ever and begin between any two
//! steps. Only what a kernel or a server does on its own clock is punctual: bytes die after U, leases expire. The
//! constants ([`Timing::SMALL`]) are the smallest in which every relation between them is strict; B, U and K enter the
//! steps as the code computes with them, so that "an absence is proven" is derived and not assumed.
//!
//! # Which step is what
//!
//! | step | stands for | in the code |
//! |---|---|---|
//! | `Look`, `Stand` | the evidence of rule 3: pin free, or nothing moved for T | `ha/src/election.rs`, `observer.rs` |
//! | `WinLease`, `Announce`, `Renew` | the scripts `WIN` and `HOLD` (rules 2, 4) | `ha/src/lease.rs`, `agent/stand.rs`, `agent/keeper.rs` |
//! | `Evict`, then `SessionEnds` | `pg_terminate_backend` by comparison, and its effect (rule 6) | `ha/src/observer.rs` |
//! | `TakePin`, `LockRow`, `CommitEpoch` | `pg_try_advisory_lock`; `FOR UPDATE` and the look at the row; the commit | `ha/src/pin.rs` |
//! | `Beat` | the heartbeat; starts and commits in one step, since a later answer buys no later deadline | `ha/src/agent/lead.rs` |
//! | `Suspend`, `Repin`, `LockOwn`, `Reclaim`, `GiveUp` | rule 16, each statement a step | `ha/src/agent/suspended.rs`, `pin::resume` |
//! | `Offer`, `Acknowledge`, `Release`, `ReservationLapses`, `Succeeded`, `LeaveAlone`, `Leave` | rules 19, 20 | `ha/src/handover.rs`, `assurance.rs`, `agent/lead.rs`, `agent/retire.rs`, `agent/succeed.rs`, `src/app/shutdown.rs` |
//! | `Doubt` | unfinished intents in doubt, on the pinned session | `src/engine/takeover.rs`, `src/ledger/snapshot.rs` |
//! | `Begin`, `LockJournal`, `CommitJournal`, `Learn` | the journal statement: sent with its `send_by`; row locked and read; committed; answered (rules 8, 9, 11) | `src/ledger/journal.rs`, `src/engine/orders.rs` |
//! | `Check` or `Withhold`, `Write`, `Deliver` | second check; bytes into the kernel; at the bridge. Sleep between any two (rules 9, 12) | `src/engine/submit.rs`, `src/broker/wire.rs` |
//! | `Answer` or `Silence`, `Record` | the outcome, and its commit under the row's share lock | `src/engine/apply.rs`, `src/ledger/change.rs` |
//! | `ReadBooks`, `ApplyBooks` | a reading, and its commit (rule 10) | `src/engine/evidence.rs` |
//!
//! A leader that was overtaken and does not know it decides by *anything that was ever true*, not by the ledger: a stale
//! book can hold no more than that. A session whose client died may stay half-open for ever and still run what it was
//! sent.
//!
//! # Which property is what
//!
//! | | holds | guarded by the mutants |
//! |---|---|---|
//! | S1 | at the broker: at most one order per leg | `ResendsAbsent`, `TradesAfterFailover`, `LiftsReduceOnlyEarly` |
//! | S2 | at the first byte: its intent is committed | `SendsFirst` |
//! | S3 | at an intent's commit: its epoch is the row's | `PoolWithoutRowLock`, `RedisAlone` |
//! | S6 | an intent called unsent has no order at the broker | `BelievesSilence` |
//! | S7 | nobody acts under an epoch that another acted under, or below it | `RawEpochKey`, `AnnouncesLoosely` |
//! | S8, L3 | no leader within its deadline is deposed, whatever Redis does | `EvictsUnseen` |
//! | S9 | at an intent's commit: its leader has the pin | `PoolWithoutRowLock` |
//! | S13 | at an intent's commit: no switch forbids it | `NoRowLock` |
//! | S14 | a leader that trades has lost track of no intent | `DoubtsBesideThePin` |
//! | S15 | at the broker: the position never goes below zero | `Oversells` |
//! | S16 | an intent called abandoned has no order at the broker | `NoDeadline`, `UnboundedNetwork`, `NoIdleClose`, `InheritsNoTime`, `FencesByNumber` |
//! | R14, R17 to R21 | damaged state, lost tail, cut-off leader, succession, the last one out, flapping | `TradesOnCorrupt`, the two of S1, `StaysCutOff`, `LeavesBeforeSuccessor`, `LeavesUnassured`, `FlapsOn` |
//! | L2 | from every state some instance comes to lead, with no further fault, restart or help, and without putting a healthy leader to sleep | `EvictsOnlyTheNamed`, `NeverGivesUp`, `StaysCutOff` |
//!
//! Rules 18 and 21 (the limit of transitions) are modelled as they are written, not as they are built. So is rule 14 but for
//! one thing: the finding is a mark on the leadership row that the journal statement reads, which the model leaves to the
//! leader's own knowledge.
//!
//! # What the model found
//!
//! Closed, each with the mutant that shows what the rule is for:
//!
//! 1. **All could leave while nobody was in office** (rules 19, 20; `LeavesUnassured`). "Higher epoch in the row" is not
//!    "somebody leads": a candidate that commits its epoch too late for its own deadline gives up again, but the old leader
//!    has read the number and is out. Each then left as a follower and nobody acted by the exit policy. So one that was
//!    told to stop leaves as a follower only after it has seen a heartbeat since it last stood or led, and else stands.
//! 2. **An epoch could be given out twice beside Redis** (rule 2; `AnnouncesLoosely`). A candidate asks Redis for the
//!    highest epoch when it wins the lease, not when it mints. Meanwhile another is promoted and announces its epoch,
//!    PostgreSQL loses that with its tail, and the candidate mints the same number. So an announcement is refused at an
//!    equal number, unless the lease is the candidate's own.
//! 3. **B > K is not enough** (rule 10). If the bridge may hide an accepted order for D, B has to exceed K + D: an order
//!    that was written late is else still hidden when its absence counts as proven. A configuration with less is refused.
//! 4. **A number alone does not fence** (rules 2, 8, 17; `FencesByNumber`). After a lost tail without Redis the former
//!    leader's pool connections would commit an absence that it read before, under a number that is in force again, and the
//!    order arrives (S16). So fenced statements compare the holder's incarnation too.
//!
//! Open, in `tests/findings.rs`, where each has a test that asks for its counterexample:
//!
//! 5. **An epoch can be given out twice without Redis** (rules 2, 17): a lost tail takes the only memory along. 21 steps.
//!    Harmless by 4.
//! 6. **A lost tail doubles an exit** (rule 17). Reduce-only lets exits through. One whose intent was lost is journaled
//!    and sent again: two orders for one leg, and a position that flips if both fill. The engine narrows it to what the
//!    bridge does not show yet: an exit is cut to the broker's verified positions, and waits while an order to sell stands
//!    open that no intent explains (`src/engine/lost_exits.rs`). Waiting for what is hidden would keep stops back for B.
//!    Only a synchronous standby prevents the rest.
//!
//! # What is not modelled
//!
//! - Identity (rule 22, S12): a restart is another incarnation in the same place and the old process is gone; two live
//!   processes of one member are not.
//! - Matching of lost orders by their terms: an order is known to be its intent's.
//! - Resting stops, cancels and modifies; fenced they are intents like others.
//! - `halt --all`, pause, priorities, versions, Sentinel; emergency closes without PostgreSQL.
//! - The exact constants, S4's and S5's milliseconds, S10, L1, L4, L5. An engine that hangs is a leader that never beats.
//! - With orders there are two instances; three without. Larger combinations of faults than those listed in [`scenario`]
//!   belong to the simulation and to chaos.
//! - A custodian's own orders: the steps are there, no configuration explores them to the end. That damaged state is not
//!   traded into is explored.
//! - A lost tail with orders is everything since the beginning; of any length it is explored without orders.
//! - Exploration of orders stops when every order has its end; what comes after is leadership alone.
#![forbid(unsafe_code)]

mod action;
mod canonical;
mod config;
mod explore;
mod liveness;
mod mutant;
mod property;
pub mod scenario;
mod state;
mod step;

pub use action::Action;
pub use config::{Class, Config, FAULTS, Fault, Slot, Timing};
pub use explore::{Cluster, Trace};
pub use liveness::Stuck;
pub use mutant::Mutant;
pub use property::*;
pub use state::State;
