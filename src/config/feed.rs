//! `[feed]`: where live prices come from, and from what age on they are worth less.

use std::time::Duration;

use super::reader::Reader;

/// Live prices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feed {
    /// A price that is older is asked for over REST.
    pub live_max_age: Duration,
    /// An older price is stale.
    pub stale: Duration,
    /// An older price is dead: entries that need it are frozen.
    pub dead: Duration,
}

impl Feed {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let live_max_age = reader.millis("feed.live_max_age_ms", 2000, 100..=600_000);
        let stale = reader.millis("feed.stale_ms", 30_000, 100..=3_600_000);
        let dead = reader.millis("feed.dead_ms", 300_000, 100..=86_400_000);
        let keys = ["feed.live_max_age_ms", "feed.stale_ms", "feed.dead_ms"];
        if reader.sound(&keys) && live_max_age >= stale {
            let allowed = format!("more than {} ms: stale_ms > live_max_age_ms", live_max_age.as_millis());
            reader.invalid("feed.stale_ms", format!("{} ms", stale.as_millis()), allowed);
        }
        if reader.sound(&keys) && stale >= dead {
            let allowed = format!("more than {} ms: dead_ms > stale_ms", stale.as_millis());
            reader.invalid("feed.dead_ms", format!("{} ms", dead.as_millis()), allowed);
        }
        Self { live_max_age, stale, dead }
    }
}
