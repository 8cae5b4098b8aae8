//! Tests of how the domain's parts behave together, and its properties over random input.

mod charges;
mod exit;
mod fills;
mod gates;
mod portfolio;
mod sizing;
mod stops;
mod transitions;
