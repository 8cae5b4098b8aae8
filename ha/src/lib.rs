//! Leader election through Redis locks, authorised and fenced by PostgreSQL; knows nothing of trading.
//!
//! Redis elects, fast; PostgreSQL authorises. The lease in Redis decides who may *become* leader. One row in
//! PostgreSQL carries the **epoch**, a number that only rises, and nothing is authorised under an old one. The
//! leader's **session pin**, a dedicated connection with one advisory lock, frees itself when the process dies,
//! so a crash is noticed in milliseconds; a **heartbeat** counter shows whether a leader that holds the pin is
//! still at work. Losing Redis moves nothing.
//!
//! ```text
//!            ┌────────── Handle: role (watched), pulse, set_status, hand_over, retire, leave
//!            ▼
//!  agent ── asks ──▶ election, tenure, handover (pure: no I/O, no clock)
//!   │ │ └─ pin:      lock, promote, beat, resume      one dedicated session, lent to the caller by Fence
//!   │ └─── observer: watches row, counter, pg_locks   one dedicated session
//!   ├───── identity: member lock, liveness, registry  one dedicated session
//!   └───── lease:    Lua scripts in Redis
//! ```
//!
//! All of it runs on one thread of its own, which nothing else can keep busy; only the connection of the session pin is served
//! by the caller's runtime, whose tasks use it.
//!
//! # Quick start
//!
//! A PostgreSQL (14 or later; sessions go to the primary directly, not through a transaction pooler) and a Redis
//! are all it needs. [`SCHEMA`] makes its tables. A process joins, says that it is ready, and follows its role:
//!
//! ```no_run
//! # use std::{sync::Arc, time::Duration};
//! # use ha::{BootClock, Config, Handle, Member, OnHang, PgTls, Role, Status, Timing};
//! # async fn work(_: &ha::Fence) {}
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let config = Config {
//!     cluster: "scheduler".to_owned(),
//!     member: Member::new("node-1")?,             // each process of the cluster its own
//!     version: "1.4.0".to_owned(),
//!     build: 14,                                  // the newest build is preferred
//!     address: "http://10.0.0.7:8080".to_owned(), // told to the others
//!     priority: 1,                                // 0 never leads
//!     timing: Timing::for_ttl(Duration::from_secs(3)),
//!     postgres: "postgres://localhost/scheduler".parse()?,
//!     tls: PgTls::None,
//!     redis: ha::Redis::at("redis://localhost"),
//!     on_hang: OnHang::Abort,
//! };
//! let handle = Handle::join(config, Arc::new(BootClock)).await?;
//! handle.set_status(Status::Active).await; // recovered: may lead
//! let (mut role, pulse) = (handle.role(), handle.pulse());
//! loop {
//!     pulse.beat(); // a leader whose loop stops turning is replaced
//!     let now = role.borrow_and_update().clone();
//!     if let Role::Leader(fence) = now {
//!         work(&fence).await;
//!     }
//!     let _ = tokio::time::timeout(Duration::from_millis(100), role.changed()).await;
//! }
//! # }
//! ```
//!
//! The example `elect` makes three processes of this; kill one and see.
//!
//! # What a leader may do
//!
//! What only a leader may do takes a [`Fence`]: it cannot be made elsewhere, and two things go with it.
//!
//! 1. Whatever has an effect outside is written down first, by a statement on the fence's session that names the
//!    epoch and holds a lock on the row:
//!    `WITH l AS (SELECT 1 FROM leadership WHERE epoch = $1 AND holder_incarnation = $2 FOR SHARE) INSERT … SELECT … FROM l`.
//!    No row: the process is out ([`Fence::report_fenced`]). The lock is essential: without it a statement can
//!    commit under an old epoch beside a promotion.
//! 2. Right before the effect, [`Fence::check`]: the deadline has not passed. It lies a margin before the moment
//!    at which the earliest other process may take a silent leader's place.
//!
//! What was written down before a takeover may still have its effect until its deadline; the next leader finds it
//! written down. Before leaving, [`Handle::hand_over`] lets another process take over within milliseconds.
//!
//! # How it is tested
//!
//! The machines that decide are public and pure ([`election`], [`tenure`], [`exile`], [`handover`], [`office`],
//! [`roll`], [`gate`]); `tests/simulation` plays them through a hundred thousand seeded schedules of pauses,
//! crashes, cuts and lost data in virtual time. The other tests use real stores, real processes and real signals.
#![forbid(unsafe_code)]

// The simulation's model of Redis, which a unit test holds against the scripts, names the crate from outside.
#[cfg(test)]
extern crate self as ha;

mod agent;
mod assurance;
pub mod clock;
pub mod config;
pub mod election;
pub mod exile;
mod fence;
pub mod gate;
mod handle;
pub mod handover;
mod identity;
pub mod ids;
mod lease;
mod line;
pub mod locks;
mod observer;
pub mod office;
pub mod operator;
mod pin;
mod pulse;
mod role;
pub mod roll;
mod session;
mod stats;
pub mod tenure;
mod thread;
mod warm;

/// The tables that leadership needs, for an empty database. An application that migrates its schema takes this as
/// one of its migrations.
pub const SCHEMA: &str = concat!(
    include_str!("../../migrations/V1__leadership.sql"),
    include_str!("../../migrations/V8__leadership_operators.sql"),
    include_str!("../../migrations/V10__instance_redis.sql"),
);

pub use clock::{BootClock, Clock, ManualClock, Moment};
pub use config::{Config, InvalidConfig, InvalidTiming, OnHang, PgTls, Redis, Sentinel, Timing};
pub use fence::{Fence, Fenced};
pub use handle::{Handle, JoinError};
pub use ids::{Epoch, Incarnation, Instance, InvalidMember, Member};
pub use line::Line;
pub use pulse::{Beat, Pulse};
pub use role::{Leader, Retirement, Role, Status, Stop};
pub use session::{Backend, Database};
pub use stats::{HandoverOutcome, InstanceInfo, ListError, Reason, Stats, StoreState};
