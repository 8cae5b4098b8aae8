//! The paper bridge: the OpenAlgo protocol over a simulated market, with injectable faults.
//!
//! It is the demo's broker and the tests' witness, so it is built around two promises: it speaks the real
//! bridge's protocol, quirks included, and it never forgets what reached it.
//!
//! - [`core`]: orders, fills, positions and prices in one synchronous state machine without I/O or clock.
//!   Everything that can go wrong with *trading* is decided and tested there.
//! - `faults`: which request meets which misfortune. Faults decide about the *conversation* only (was it
//!   applied, what was answered, was the line cut); the core never lies about what really happened.
//! - `witness`: every order request at its arrival, before anything looks at it, in memory and in an
//!   append-only JSON-lines file; and what became of it.
//! - `http`, `ws`, `control`: thin adapters, each on a listener of its own, as the real bridge's WebSocket proxy
//!   is a process of its own. The control port belongs to the tests and the demo, not to the protocol.
//!
//! A request is worked off in a task of its own: as with the real bridge, a client that hangs up does not take its
//! order back.
//!
//! One lock guards core, faults and witness together. The order of the log is therefore the order in which
//! things happened, which is what a checker needs.

pub mod calendar;
mod control;
pub mod core;
pub mod faults;
mod http;
mod hub;
mod limiter;
mod options;
pub(crate) mod rng;
mod serve;
mod server;
mod streamed;
mod symbols;
pub mod ticks;
mod witness;
mod ws;

pub use http::Verb;
pub use options::{
    ArrivalHook, BridgeMode, FillModel, HookFuture, Options, RateLimits, SymbolKey, SymbolSpec, UnknownMode,
};
pub use server::{Error, Paper};
pub use witness::Arrival;
