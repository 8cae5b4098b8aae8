//! Signal age: a late entry buys at a price that is gone, so it is dropped; a late EXIT still takes risk off.

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use super::policy::AgePolicy;
use super::refusal::Refusal;
use super::signal::SignalType;

/// What a signal's age means for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Freshness {
    /// Acts.
    Normal,
    /// Acts, with a warning.
    Warn,
    /// Acts, with a loud warning: it was nearly dropped.
    Late,
}

/// Judges a signal sent at `sent_at` by `now`.
///
/// Only entries and pyramids can be too old. A time slightly in the future (a sender's fast clock) is age zero.
///
/// # Errors
/// `SIGNAL_TOO_OLD` for an entry or pyramid beyond the last tier.
pub fn judge(
    policy: &AgePolicy,
    kind: SignalType,
    sent_at: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<Freshness, Refusal> {
    let age = (now - sent_at).max(TimeDelta::zero());
    let within = |seconds: u32| age <= TimeDelta::seconds(seconds.into());
    if within(policy.normal_s) {
        return Ok(Freshness::Normal);
    }
    if within(policy.warn_s) {
        return Ok(Freshness::Warn);
    }
    if within(policy.reject_s) || !kind.opens() {
        return Ok(Freshness::Late);
    }
    Err(Refusal::new(
        "SIGNAL_TOO_OLD",
        format!(
            "{kind} sent {}.{:03} s ago is older than {} s",
            age.num_seconds(),
            age.subsec_millis(),
            policy.reject_s
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(age_ms: i64, kind: SignalType) -> Result<Freshness, &'static str> {
        let sent = DateTime::UNIX_EPOCH;
        judge(&AgePolicy::default(), kind, sent, sent + TimeDelta::milliseconds(age_ms))
            .map_err(|refusal| refusal.code)
    }

    // R: B7
    #[test]
    fn tiers_apply_to_entries_and_never_drop_an_exit() {
        for kind in [SignalType::BaseEntry, SignalType::Pyramid] {
            assert_eq!(at(-5_000, kind), Ok(Freshness::Normal));
            assert_eq!(at(10_000, kind), Ok(Freshness::Normal));
            assert_eq!(at(10_001, kind), Ok(Freshness::Warn));
            assert_eq!(at(30_001, kind), Ok(Freshness::Late));
            assert_eq!(at(60_000, kind), Ok(Freshness::Late));
            assert_eq!(at(60_001, kind), Err("SIGNAL_TOO_OLD"));
        }
        for kind in [SignalType::Exit, SignalType::MarketData, SignalType::EodMonitor] {
            assert_eq!(at(10 * 86_400_000, kind), Ok(Freshness::Late));
        }
    }
}
