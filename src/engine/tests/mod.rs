//! The pure parts of the engine, over a desk that holds a book and a ledger double with the database's rules.

mod bench;
mod closed;
mod day;
mod decide;
mod desk;
mod draft;
mod evidence;
mod expiry;
mod holdings;
mod lanes;
mod not_flat;
mod overdue;
mod random;
mod reference;
mod resting;
mod restored;
mod rows;
mod session;
mod settling;
mod slices;
mod square_off;
mod stops;
mod stopwatch;
mod trailing;
