//! The wait before the next attempt: full jitter, so that members and restarts do not come back all at once.

use std::time::Duration;

/// The first wait is drawn below this, each next one below the double.
const FIRST: Duration = Duration::from_millis(500);
/// No wait is longer.
const LONGEST: Duration = Duration::from_secs(30);

/// Counts attempts since the last success.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    attempts: u32,
    seed: u64,
}

impl Backoff {
    /// `seed` differs from process to process.
    pub fn new(seed: u64) -> Self {
        Self { attempts: 0, seed: seed | 1 }
    }

    /// Attempts since the last success.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// The attempt held.
    pub fn succeeded(&mut self) {
        self.attempts = 0;
    }

    /// Draws the wait before the next attempt.
    pub fn next(&mut self) -> Duration {
        let most = FIRST.saturating_mul(1 << self.attempts.min(6)).min(LONGEST);
        self.attempts = self.attempts.saturating_add(1);
        // Xorshift: spreads attempts, guards nothing.
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        most.mul_f64((self.seed >> 11) as f64 / (1u64 << 53) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_spread_up_to_the_longest_and_begin_anew_after_success() {
        let mut backoff = Backoff::new(42);
        let waits: Vec<_> = (0..2000).map(|_| backoff.next()).collect();
        assert!(waits[0] < FIRST && waits[1] < FIRST * 2);
        assert!(waits.iter().all(|wait| *wait < LONGEST));
        let late = &waits[10..];
        let below_half = late.iter().filter(|wait| **wait < LONGEST / 2).count();
        assert!((800..1200).contains(&below_half), "{below_half} of {} below half", late.len());
        backoff.succeeded();
        assert!(backoff.next() < FIRST && backoff.attempts() == 1);
    }
}
