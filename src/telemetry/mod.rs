//! What the process tells about itself: log lines, metrics and traces.

pub mod log;
pub mod metrics;
pub mod traces;

pub use metrics::Metrics;
pub use traces::Traces;
