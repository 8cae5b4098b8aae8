//! What became of what the WebSocket had to say: a test of a fault must see that the fault was met.

use serde::Serialize;

/// Counts since the bridge's start.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize)]
pub(super) struct Streamed {
    /// Updates of orders that were due, whether or not they were sent.
    pub(super) updates: u64,
    /// Those of them that say that their order is over.
    pub(super) ends: u64,
    /// Those that came late, as a fault asked.
    pub(super) late: u64,
    /// Those that were never sent, as a fault asked.
    pub(super) lost: u64,
    /// Times that one was sent beyond the first, as a fault asked.
    pub(super) repeated: u64,
    /// Ticks that a stalled or silent upstream swallowed.
    pub(super) withheld_ticks: u64,
    /// Sockets that were closed as they came.
    pub(super) refused_sockets: u64,
}

impl Streamed {
    /// Notes an update that is due now, to be sent `copies` times.
    pub(super) fn note(&mut self, copies: u32, is_late: bool, is_end: bool) {
        self.updates += 1;
        self.ends += u64::from(is_end);
        self.late += u64::from(is_late);
        self.lost += u64::from(copies == 0);
        self.repeated += u64::from(copies.saturating_sub(1));
    }
}
