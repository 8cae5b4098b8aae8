//! A thread of its own that ends a process whose engine stands still.
//!
//! The protocol replaces a leader whose loop finishes no iteration, and ends its process (rule L5). Where the leader's place was
//! taken before that, a process would be left whose engine is dead and which says that it could lead; and where the loop keeps the
//! runtime from its timers, nothing that runs there notices anything any more. A service manager starts again what has ended.

use std::time::{Duration, Instant};

use ha::Pulse;
use tokio_util::sync::CancellationToken;

/// Looks within one lease.
const LOOKS: u32 = 4;
/// Looks in a row at a loop that has not turned, after which it will not: twenty leases of this thread's own time, longer than any
/// call that the loop waits for. A process that was stopped as a whole has not looked meanwhile.
const MOST: u32 = 20 * LOOKS;

/// How long the last words may take: whoever reads them may be what everything hangs on.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Watches the engine's loop, which turns in every role and beats through a stop, until all is `stopped`.
///
/// # Errors
/// The system starts no thread.
#[expect(clippy::disallowed_methods, reason = "this thread runs nothing else, and no runtime")]
pub(super) fn watch(pulse: Pulse, stopped: CancellationToken, ttl: Duration) -> std::io::Result<()> {
    let watching = move || {
        let mut still = Still::default();
        loop {
            std::thread::sleep(ttl / LOOKS);
            if stopped.is_cancelled() {
                return;
            }
            if still.look(pulse.read().count) {
                // A system that gives no thread for them must not save the process.
                let words = std::thread::Builder::new().spawn(|| {
                    tracing::error!(
                        "[HA] the engine stands still: aborts the process, so that nothing acts later"
                    );
                });
                let begun = Instant::now();
                while words.as_ref().is_ok_and(|words| !words.is_finished()) && begun.elapsed() < LAST_WORDS {
                    std::thread::sleep(LAST_WORDS / 100);
                }
                std::process::abort();
            }
        }
    };
    std::thread::Builder::new().name("standstill".to_owned()).spawn(watching).map(drop)
}

/// How often in a row nothing had moved.
#[derive(Debug, Default)]
struct Still {
    count: u64,
    looks: u32,
}

impl Still {
    /// Takes a look at how often the loop has turned; true when it does not any more.
    fn look(&mut self, count: u64) -> bool {
        let moved = count != self.count;
        self.count = count;
        self.looks = if moved { 0 } else { self.looks + 1 };
        self.looks >= MOST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // R: L5
    #[test]
    fn only_what_does_not_move_for_so_long_stands_still() {
        let mut still = Still::default();
        let most = usize::try_from(MOST).unwrap();
        assert!((0..most).all(|_| !still.look(1)), "one look less, after the first that saw it move");
        assert!((0..most).all(|_| !still.look(2)), "it has moved");
        assert!(still.look(2));
    }
}
