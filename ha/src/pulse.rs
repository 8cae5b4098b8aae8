//! The engine's sign of life. A renewer that lives on beside a dead engine is the classic stuck leader, so
//! leadership is renewed only while the engine finishes loop iterations.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::{Clock, Moment};

/// Given to the engine, which beats it at the end of every loop iteration, in every role.
#[derive(Clone)]
pub struct Pulse {
    clock: Arc<dyn Clock>,
    beats: Arc<Beats>,
}

#[derive(Default)]
struct Beats {
    count: AtomicU64,
    last: AtomicU64,
}

/// What the protocol reads off a pulse.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Beat {
    /// How often it has beaten.
    pub count: u64,
    /// When it beat last; boot if never.
    pub last: Moment,
}

// === impl Pulse ===

impl Pulse {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, beats: Arc::default() }
    }

    /// Reports one finished iteration. Costs a clock read and two atomic stores.
    pub fn beat(&self) {
        self.beats.last.store(self.clock.now().as_nanos(), Ordering::Release);
        self.beats.count.fetch_add(1, Ordering::AcqRel);
    }

    /// The last beat.
    pub fn read(&self) -> Beat {
        Beat {
            count: self.beats.count.load(Ordering::Acquire),
            last: Moment::from_nanos(self.beats.last.load(Ordering::Acquire)),
        }
    }
}

impl fmt::Debug for Pulse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pulse").field(&self.read()).finish()
    }
}
