//! Leader election through Redis locks, authorised and fenced by PostgreSQL; knows nothing of trading.
//!
//! Redis elects, fast; PostgreSQL authorises. The lease in Redis decides who may *become* leader. One row in
//! PostgreSQL carries the **epoch**, a number that only rises, and nothing is authorised under an old one. The
//! leader's **session pin**, a dedicated connection with one advisory lock, frees itself when the process dies,
//! so a crash is noticed in milliseconds; a **heartbeat** counter shows whether a leader that holds the pin is
//! still at work. Losing Redis moves nothing.
//!
//! ```text
//!            ┌────────── Handle: role (watched), pulse, set_status, hand_over, leave
//!            ▼
//!  agent ── asks ──▶ election, tenure, handover (pure: no I/O, no clock)
//!   │ │ └─ pin:      lock, promote, beat, resume      one dedicated session, lent to the caller by Fence
//!   │ └─── observer: watches row, counter, pg_locks   one dedicated session
//!   ├───── identity: member lock, liveness, registry  one dedicated session
//!   └───── lease:    Lua scripts in Redis
//! ```
//!
//! What only a leader may do takes a [`Fence`]: it cannot be made elsewhere, it is checked before every send,
//! and the statement that authorises a send runs on its session:
//! `WITH l AS (SELECT 1 FROM leadership WHERE epoch = $1 FOR SHARE) INSERT … SELECT … FROM l`. The row lock is
//! essential: without it a statement can commit under an old epoch beside a promotion.
//!
//! PostgreSQL 14 or later; sessions go to the primary directly, not through a transaction pooler.
#![forbid(unsafe_code)]

mod agent;
pub mod clock;
pub mod config;
pub mod election;
mod fence;
mod handle;
pub mod handover;
mod identity;
pub mod ids;
mod lease;
mod line;
pub mod locks;
mod observer;
pub mod operator;
mod pin;
mod pulse;
mod role;
pub mod roll;
mod session;
mod stats;
pub mod tenure;
mod warm;

pub use clock::{BootClock, Clock, ManualClock, Moment};
pub use config::{Config, InvalidConfig, InvalidTiming, OnHang, PgTls, Redis, Sentinel, Timing};
pub use fence::{Fence, Fenced};
pub use handle::{Handle, JoinError};
pub use ids::{Epoch, Incarnation, Instance, InvalidMember, Member};
pub use pulse::{Beat, Pulse};
pub use role::{Leader, Role, Status, Stop};
pub use session::{Backend, Database};
pub use stats::{HandoverOutcome, InstanceInfo, ListError, Reason, Stats, StoreState};
