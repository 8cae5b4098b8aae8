//! The pure parts of the engine, over a desk that holds a book and a ledger double with the database's rules.

mod bench;
mod bids;
mod closed;
mod decide;
mod desk;
mod draft;
mod evidence;
mod expiry;
mod holdings;
mod lanes;
mod overdue;
mod random;
mod resting;
mod restored;
mod rests;
mod rows;
mod session;
mod square_off;
mod stops;
mod stopwatch;
