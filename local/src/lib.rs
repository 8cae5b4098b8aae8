//! Private PostgreSQL and Redis servers as child processes.
//!
//! One machine is enough to try Baton, to run it small, and to test it: this crate finds the servers'
//! programs, starts them in a directory of their own on free loopback ports, and stops them again.
//! Nothing is downloaded here; `ops/setup` fetches what a machine lacks.
//!
//! Three promises shape it:
//!
//! 1. **No orphans.** Every server is told by the kernel when its parent dies (`PR_SET_PDEATHSIG`), so
//!    even `kill -9` of the parent leaves no process behind. See [`process`].
//! 2. **Real servers, quickly.** A temporary store copies a cached, freshly initialised database cluster
//!    instead of running `initdb`, so each test can have servers of its own. See [`template`].
//! 3. **No collisions.** Ports lie outside the kernel's ephemeral range and are reserved by lock files,
//!    directories are locked, and a persistent directory is refused to a second process.
//!
//! [`Stores`] is the door; [`Postgres`] and [`Redis`] can be stopped, killed and restarted one by one, on
//! the same port and data, so that tests inject outages.

mod account;
pub mod binaries;
pub mod port;
pub mod postgres;
pub mod process;
pub mod redis;
pub mod scratch;
mod slot;
mod standby;
mod stores;
pub mod template;

pub use account::Unreachable;
pub use binaries::Binaries;
pub use postgres::Postgres;
pub use redis::Redis;
pub use slot::Unending;
pub use stores::{Error, Options, Stores};
