//! `[timing]`: the constants of the leadership protocol and the relations that keep it safe (HA.md "Constants").

use std::time::Duration;

use super::reader::Reader;

/// The protocol's constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// T: a leader unheard of for so long is replaced.
    pub lease_ttl: Duration,
    /// Lease renewal and heartbeat; T/6 unless set.
    pub renew: Duration,
    /// Taken off T for the sender's deadline; max(300 ms, T/10) unless set.
    pub margin: Duration,
    /// How often a follower looks at the pin, before jitter.
    pub watch: Duration,
}

impl Timing {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let ttl = reader.whole("timing.lease_ttl_ms", 3000, 500..=60_000, "ms");
        let renew = reader.whole("timing.renew_ms", ttl / 6, 10..=20_000, "ms");
        let least_margin = 300.max(ttl / 10);
        let margin = reader.whole("timing.margin_ms", least_margin, 1..=30_000, "ms");
        let watch = reader.whole("timing.watch_ms", 50, 5..=6_000, "ms");

        if reader.sound(&["timing.lease_ttl_ms", "timing.margin_ms"]) && margin < least_margin {
            let allowed = format!("at least {least_margin} ms: margin_ms ≥ max(300, lease_ttl_ms / 10)");
            reader.invalid("timing.margin_ms", format!("{margin} ms"), allowed);
        }
        if reader.sound(&["timing.lease_ttl_ms", "timing.margin_ms", "timing.renew_ms"]) {
            let most = ttl.saturating_sub(margin) / 3;
            if renew > most {
                let allowed = format!("at most {most} ms: renew_ms × 3 ≤ lease_ttl_ms − margin_ms");
                reader.invalid("timing.renew_ms", format!("{renew} ms"), allowed);
            }
        }
        if reader.sound(&["timing.lease_ttl_ms", "timing.watch_ms"]) && watch > ttl / 10 {
            // A follower needs five reads within T, and jitter may double the wait between two.
            let allowed = format!("at most {} ms: watch_ms ≤ lease_ttl_ms / 10", ttl / 10);
            reader.invalid("timing.watch_ms", format!("{watch} ms"), allowed);
        }
        let ms = Duration::from_millis;
        Self { lease_ttl: ms(ttl), renew: ms(renew), margin: ms(margin), watch: ms(watch) }
    }
}
