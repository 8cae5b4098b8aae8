//! The ledger against a real PostgreSQL: the fence, the tables of states, the inbox, the migrations.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod audit;
mod bids;
mod books;
mod cash;
#[path = "../../benches/shared/commit.rs"]
#[allow(dead_code, reason = "the benches use the rest")]
mod commit;
mod day;
mod events;
mod exits;
mod inbox;
mod instruments;
mod market;
mod migrations;
mod race;
mod release;
mod replays;
mod requests;
mod rows;
mod states;
#[path = "../support/mod.rs"]
mod support;
mod switches;
