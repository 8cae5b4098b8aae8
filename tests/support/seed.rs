//! Random draws that can be repeated: the seed is printed, and `BATON_SEED` sets it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A generator (splitmix64) whose seed was printed.
#[derive(Clone, Debug)]
pub struct Seed(u64);

impl Seed {
    /// From `BATON_SEED`, else from the clock; printed either way.
    pub fn drawn(test: &str) -> Self {
        let clock = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos().into();
        let seed = match std::env::var("BATON_SEED") {
            Ok(text) => text.parse().expect("BATON_SEED is a whole number"),
            Err(_) => clock(),
        };
        println!("{test}: BATON_SEED={seed} repeats the draws of this run");
        Self(seed)
    }

    /// The draws of this number.
    pub fn of(number: u64) -> Self {
        Self(number)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Another generator, drawn from this one: for a task of its own.
    pub fn fork(&mut self) -> Self {
        Self(self.next())
    }

    /// A number from 0 up to, not including, `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound).unwrap()).unwrap()
    }

    /// A time from zero up to `longest`.
    pub fn duration(&mut self, longest: Duration) -> Duration {
        let nanos = u64::try_from(longest.as_nanos()).unwrap().max(1);
        Duration::from_nanos(self.next() % nanos)
    }

    /// Puts the items into another order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = self.below(last + 1);
            items.swap(last, other);
        }
    }
}
