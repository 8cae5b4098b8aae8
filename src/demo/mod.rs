//! A whole cluster on this machine, and the story that it is made to tell.
//!
//! [`LocalCluster`] is the real thing in small: private PostgreSQL and Redis, the paper bridge and some instances, each
//! a process of its own. Instances and bridge are this same binary, configured by their environment as in production,
//! so that a kill is a kill and nothing is shared but the stores. Everything ends with this process, whatever
//! way it ends.
//!
//! [`tell`] plays the story over it: signals, a fill, a leader killed, a leader paused and woken, a clean hand-over, an
//! exit; and at the end it compares the bridge's own log with the ledger. Each [`Step`] states what it promises and
//! whether that held; none is believed on an instance's word where the bridge or the database can be asked.
//!
//! While it stays up afterwards, [`Drill`]s of another process find what to disturb by its [`Sheet`].

mod acts;
mod audit;
mod bridge;
mod child;
mod cluster;
mod drill;
mod environment;
mod error;
mod member;
mod scene;
mod sheet;
mod step;
mod story;

pub use cluster::{LocalCluster, Settings};
pub use drill::Drill;
pub use error::Error;
pub use member::Member;
pub use sheet::{Refused, Sheet};
pub use step::{Narrator, Step, Story};
pub use story::tell;
