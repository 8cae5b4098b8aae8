//! The simulated exchange and account, synchronous and without I/O: time comes in as the span since the start.
//!
//! [`Exchange`] owns every mutation. Prices move by [`Exchange::advance`] or [`Exchange::set_price`]; orders enter
//! by `place` and leave by fills, `cancel` or rejection; what others should hear of is drained with
//! `take_events`. Invariants, tested with random operations: a position is the sum of its fills, no fill is
//! without an order, nothing fills beyond its quantity.
//!
//! An order can be *hidden*: accepted, but in no book, stream or match before its time. That is how brokers let a
//! client believe that an order does not exist.

mod bars;
mod exchange;
mod fills;
mod market;
mod order;
mod position;
#[cfg(test)]
mod properties;
mod rules;

pub use bars::Bar;
pub use exchange::{Event, Exchange, Handling, Settings};
pub use market::{Listing, Quote};
pub use order::{Order, OrderRequest, OrderStatus, OrderUpdate, Trade};
pub use position::{Funds, Holding};
pub use rules::Refusal;
