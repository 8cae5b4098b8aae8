//! Baton: a highly available trading agent. One instance holds the baton and trades, the others wait, warm.
//!
//! Direction of imports: `cli, api → engine → {recovery, feed} → {ledger, broker} → domain`;
//! `ha` (its own crate) stands beside and reaches the engine and the api through a watched value.
#![forbid(unsafe_code)]

pub mod api;
pub mod app;
pub mod backup;
pub mod broker;
mod causes;
pub mod cli;
pub mod config;
pub mod demo;
pub mod domain;
pub mod emergency;
pub mod engine;
pub mod failpoint;
pub mod feed;
pub mod health;
pub mod ledger;
pub mod mutant;
pub mod notify;
pub mod paper;
pub mod recovery;
pub mod replay;
pub mod runbook;
pub mod strategy;
pub mod telegram;
pub mod telemetry;
