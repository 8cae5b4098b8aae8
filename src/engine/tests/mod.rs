//! The pure parts of the engine, over a desk that holds a book and a ledger double with the database's rules.

mod decide;
mod desk;
mod draft;
mod evidence;
mod lanes;
mod random;
mod restored;
mod rows;
mod stops;
