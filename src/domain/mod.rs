//! The trading domain, pure: no I/O, no async, no clock, no SQL.
//!
//! Callers pass in what they read (signals, quotes, the portfolio, the time) and get decisions back.
//! The life of a signal through it: [`signal`] parses the webhook's body, [`age`] and [`divergence`] judge it,
//! [`sizing`] gives it lots, [`gates`] and [`limits`] allow or refuse, [`execution`] says how its order is worked, [`fill`] turns
//! fills into a position, [`charges`] what they cost,
//! [`stops`] raise its stop, [`resting`] says what of it rests at the broker, [`exit`] picks what an EXIT closes, [`square_off`] what is intraday,
//! [`expiry`] what a contract's end asks for, [`auction`] when a share has no price, [`freeze`] how large an order may be, [`cash`] what
//! is paid in and out. [`portfolio`] and [`pyramiding`] are derived from
//! positions, which is also what a recovery checks. Every number is configuration: [`policy`], [`instrument`].

pub mod age;
pub mod auction;
pub mod cash;
pub mod cause;
pub mod charges;
pub mod contract;
pub mod divergence;
pub mod execution;
pub mod exit;
pub mod expiry;
pub mod export;
pub mod fault;
pub mod fill;
pub mod freeze;
pub mod gates;
pub mod ids;
pub mod instrument;
pub mod intent;
pub mod label;
pub mod limits;
pub mod listing;
pub mod market;
pub mod money;
pub mod order;
pub mod policy;
pub mod portfolio;
pub mod position;
pub mod pyramiding;
pub mod refusal;
pub mod request;
pub mod resting;
pub mod room;
pub mod sessions;
pub mod signal;
pub mod sizing;
pub mod square_off;
pub mod stops;
pub mod table;
pub mod usual;

#[cfg(test)]
pub(crate) mod fixtures;
#[cfg(test)]
mod tests;
